"""Kill work at each change that it makes on disk, do it again, and see what that leaves.

For programs of their own: it forks, so there must not be threads, and who used Arrow has some.
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

Work = Callable[[Path], object]  # into a directory

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
_OWN = ("manifest.json", ".lock")  # have seconds, or the number of a process
_WRITING = os.O_WRONLY | os.O_RDWR


def killed_everywhere(first: Work, then: Work, folder: Path, every: int = 1) -> dict[str, Any]:
    """Do `first`, then `then` over it, in processes that SIGKILL ends just before the first,
    second, ... change that they make on disk (or each so many-th).

    Returns how many were `killed`, and what was `wrong`: manifests that lied, and files that were
    others than in a directory where nothing was killed.
    """
    before, out, whole = folder / "first", folder / "out", folder / "whole"
    _in_a_process(partial(first, before))
    shutil.copytree(before, whole)
    _in_a_process(partial(then, whole))
    wrong: list[str] = []
    killed = 0
    while True:
        shutil.copytree(before, out)
        ended = _in_a_process(partial(_killed_at, killed * every, out, then))
        wrong += [f"killed at change {killed * every}: {lie}" for lie in _lies(out)]
        _in_a_process(partial(then, out))
        wrong += [
            f"killed at change {killed * every}: {name} is another afterwards"
            for name in sorted({*_files(whole), *_files(out)})
            if Path(name).name not in _OWN and _files(out).get(name) != _files(whole).get(name)
        ]
        shutil.rmtree(out)
        if ended == 0:
            return {"killed": killed, "wrong": wrong}
        killed += 1


def _killed_at(number: int, out: Path, work: Work) -> None:
    """Work until the change of a given number under `out` is about to be made."""
    left = [number]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and arguments[2] & _WRITING)
        if changes and str(arguments[0]).startswith(str(out)):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(watch)
    work(out)


def _in_a_process(work: Callable[[], object]) -> int:
    """Do some work in a process of its own; return the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _lies(out: Path) -> list[str]:
    """Say which files are not what a manifest beside them says."""
    lies = []
    for manifest in out.rglob("manifest.json"):
        if {".building", "reading"} & {*manifest.relative_to(out).parts}:
            continue  # of a build under way
        for name, said in json.loads(manifest.read_text())["outputs"].items():
            file = manifest.parent / name
            found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
            if found != said["sha256"]:
                lies.append(f"{manifest.relative_to(out)} isn't true of {name}")
    return lies


def _files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
