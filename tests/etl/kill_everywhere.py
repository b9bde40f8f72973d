"""Kills a build before each thing it does to the file system, goes on with it, and compares.

    python -m tests.etl.kill_everywhere DUMP FOLDER fresh|finished|restarted|updated

``updated`` takes from FOLDER/old what the dump hasn't changed, keeps whole entities and reads the
redirects of the two tables in FOLDER.

Prints the number of places at which it was killed, or what went wrong at one of them. It forks
before any library has started a thread, so a place costs milliseconds, not an interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from etl.ingest import ingest
from etl.kept import Kept
from etl.plan import Options

KEPT = Kept(("en", "mul"), {"P31": (), "P279": (), "P18": ()})
KEPT_FULL = Kept(KEPT.languages, KEPT.properties, full=True)
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def kill_before(number: int) -> None:
    """Ends this process, as a kill would, before its ``number``-th change of the file system."""
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        mode = arguments[1] if event == "open" else ""
        writes = isinstance(mode, str) and any(letter in mode for letter in "wxa+")
        if event in CHANGES or writes:
            left -= 1
            if left == 0:
                os._exit(9)

    sys.addaudithook(watch)


def options_of(folder: Path, way: str) -> dict[str, Any]:
    """What a build is given, beside its dump and store."""
    if way != "updated":
        return {"kept": KEPT}
    tables = {"redirects": folder / "redirect.sql.gz", "pages": folder / "page.sql.gz"}
    return {"kept": KEPT_FULL, "update_from": folder / "old", **tables}


def in_child(
    dump: str, store: Path, given: dict[str, Any], *, kill: int = 0, fresh: bool = False
) -> int:
    """Runs a build in a process of its own; its exit code."""
    pid = os.fork()
    if pid == 0:
        if kill:
            kill_before(kill)
        options = Options(**given, workers=0, quiet=True, slice_bytes=4000, fresh=fresh)
        ingest((dump,), store, options)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state(store: Path) -> Any:
    """Contents, digests and the names of all files."""
    manifest = json.loads((store / "manifest.json").read_text())
    outputs = {n: d["sha256"] for n, d in manifest["outputs"].items() if n != "data.mdb"}
    return (
        manifest["contents"],
        outputs,
        sorted(str(p.relative_to(store)) for p in store.rglob("*")),
    )


def main(dump: str, folder: Path, way: str) -> str:
    """Goes through every place: in a new build, in its repetition, or in one with --fresh."""
    given = options_of(folder, way)
    assert in_child(dump, folder / "expected", given) == 0
    expected = state(folder / "expected")
    store, place = folder / "store", 0
    while True:
        place += 1
        shutil.rmtree(store, ignore_errors=True)
        if way == "finished":
            assert in_child(dump, store, given) == 0
        elif way == "restarted":
            assert in_child(dump, store, given, kill=30) == 9
        fresh = way in ("finished", "restarted")
        if in_child(dump, store, given, kill=place, fresh=fresh) == 0:
            return f"killed at {place - 1} places"
        if in_child(dump, store, given) != 0:
            return f"can't be gone on with after place {place}"
        if state(store) != expected:
            return f"something else after place {place}: {state(store)}"


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
