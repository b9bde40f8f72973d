"""Where the processor time of a command and of all Python processes that it starts goes.

Every process is asked at each few milliseconds of its processor time which stage its main thread
is in, and counts the time since it was asked last for that stage. A stage is what a line of rules
says: the first line with a module of which a function is running or waits for one that is. A call
of C code is asked right after its end, with all of its time.

``environment`` gives the variables that make Python processes do so; ``read`` what they counted.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

#: Stage, part of a file's name, name of a function or "" for all of the file.
Rule = tuple[str, str, str]

_ROOT: Final = Path(__file__).parents[1]  # benchmarks.options would load much else

OTHER: Final = "other"

_INTERVAL: Final = 0.002  # seconds of processor time
_WRITE_EVERY: Final = 0.1  # processes may end without a word


def environment(folder: Path, rules: Sequence[Rule]) -> dict[str, str]:
    """Variables for a command whose processes are to be asked; ``folder`` is made."""
    folder.mkdir(parents=True)
    (folder / "rules.json").write_text(json.dumps(rules))
    code = f"from benchmarks.sampling import start\nstart({str(folder)!r})\n"
    (folder / "sitecustomize.py").write_text(code)  # Python's site imports it at the start
    return {"PYTHONPATH": f"{folder}:{_ROOT}"}


def read(folder: Path) -> dict[str, float]:
    """Processor seconds by stage, of all processes."""
    found: dict[str, float] = defaultdict(float)
    for path in folder.glob("counted-*.json"):
        for stage, seconds in json.loads(path.read_text()).items():
            found[stage] += seconds
    return dict(found)


def start(folder: str) -> None:
    """Asks this process from now on."""
    rules: list[Rule] = [tuple(rule) for rule in json.loads(Path(folder, "rules.json").read_text())]
    out = Path(folder, f"counted-{os.getpid()}.json")
    counted: dict[str, float] = defaultdict(float)
    last = written = time.process_time()

    def ask(_: int, frame: FrameType | None) -> None:
        nonlocal last, written
        now = time.process_time()
        counted[_stage(frame, rules)] += now - last
        last = now
        if now - written > _WRITE_EVERY:
            written = now
            partial = out.with_suffix(".partial")
            partial.write_text(json.dumps(counted))
            partial.replace(out)

    def stop() -> None:  # the handler goes before the timer does, and the signal would kill
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)

    signal.signal(signal.SIGPROF, ask)
    atexit.register(stop)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)


def _stage(frame: FrameType | None, rules: Sequence[Rule]) -> str:
    running: list[tuple[str, str]] = []
    while frame is not None:
        running.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    for stage, part, function in rules:
        if any(part in file and function in ("", name) for file, name in running):
            return stage
    return OTHER
