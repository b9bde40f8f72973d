"""Kills a reading before each thing it does to the file system, goes on with it, and compares.

    python -m tests.download.kill_everywhere DUMP FOLDER

Prints the number of places at which it was killed, or what went wrong at one of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from download.reading import Options, read
from tests.etl.kill_everywhere import kill_before


def in_child(dump: str, out: Path, kill: int = 0) -> int:
    """Reads in a process of its own; its exit code."""
    pid = os.fork()
    if pid == 0:
        if kill:
            kill_before(kill)
        read([dump], out, Options(workers=0, quiet=True, slice_bytes=4000, max_rejects=10**6))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state(out: Path) -> dict[str, bytes]:
    """Every file, without the times in the manifest."""
    files = [path for path in out.rglob("*") if path.is_file()]
    left = ("manifest.json", ".lock")
    return {str(p.relative_to(out)): b"" if p.name in left else p.read_bytes() for p in files}


def main(dump: str, folder: Path) -> str:
    """Goes through every place."""
    assert in_child(dump, folder / "expected") == 0
    expected = state(folder / "expected")
    out, place = folder / "out", 0
    while True:
        place += 1
        shutil.rmtree(out, ignore_errors=True)
        if in_child(dump, out, place) == 0:
            return f"killed at {place - 1} places"
        if in_child(dump, out) != 0:
            return f"can't be gone on with after place {place}"
        if state(out) != expected:
            return f"something else after place {place}: {sorted(state(out))}"


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2])))
