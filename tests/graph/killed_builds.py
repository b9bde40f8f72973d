"""Kill a build at each of its steps on disk, and see what it leaves: `test_stages.py` runs this.

    python -m tests.graph.killed_builds STORE BEFORE AFTER FOLDER

Builds the recipe file BEFORE, then AFTER over it, in processes that SIGKILL ends just before the
first, second, ... change that they make on disk.  Prints as JSON how many were killed and what was
wrong.  A program of its own, since it forks: it must not have threads, and who used Arrow has some.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from graph.build import build
from graph.recipe import load

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR


def main(store: Path, before: Path, after: Path, folder: Path) -> None:
    first, out, whole = folder / "first", folder / "out", folder / "whole"
    _in_a_process(lambda: build(store, load(before), first, quiet=True))
    _in_a_process(lambda: build(store, load(after), whole, quiet=True))
    wrong: list[str] = []
    killed = 0
    while True:
        shutil.copytree(first, out)
        ended = _in_a_process(partial(_killed_at, killed, out, store, after))
        if lies := _lies(out):
            wrong.append(f"killed at change {killed}: the manifest isn't true of {lies}")
        _in_a_process(lambda: build(store, load(after), out, quiet=True))
        wrong += [
            f"killed at change {killed}: {name} is another afterwards"
            for name in sorted({*_files(whole), *_files(out)})
            if name != "manifest.json" and _files(out).get(name) != _files(whole).get(name)
        ]
        shutil.rmtree(out)
        if ended == 0:
            break
        killed += 1
    print(json.dumps({"killed": killed, "wrong": wrong}))


def _killed_at(number: int, out: Path, store: Path, recipe: Path) -> None:
    """Build until the change of a given number under `out` is about to be made."""
    left = [number]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and arguments[2] & _WRITING)
        if changes and str(arguments[0]).startswith(str(out)):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(watch)
    build(store, load(recipe), out, quiet=True)


def _in_a_process(work: Callable[[], object]) -> int:
    """Do some work in a process of its own; return the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a build failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _lies(out: Path) -> list[str]:
    """Return the files that are not what the manifest says, if there is one."""
    if not (out / "manifest.json").exists():
        return []
    outputs = json.loads((out / "manifest.json").read_text())["outputs"]
    found = {name: hashlib.sha256(content).hexdigest() for name, content in _files(out).items()}
    return [name for name, said in outputs.items() if found.get(name) != said["sha256"]]


def _files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
