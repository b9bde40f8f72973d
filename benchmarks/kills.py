"""A random process of the run is killed at a random moment, again and again, and started again.

Every round waits a random while, kills one process of the run's tree with SIGKILL (the main
process, a worker, or what Python runs beside them) and gives the same command again, as a user
would. A store that gets finished between two kills is held against that of an undisturbed run,
and the next one is begun; so is the last one, which is left to finish.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import watch
from benchmarks.build import build, command, differences
from benchmarks.files import dump_of
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table

_LARGEST = 600_000_000  # bytes of JSON: some twenty slices, a few seconds
_PERIOD = 0.005  # seconds between two looks at processes that are to leave
_PATIENCE = 60.0  # seconds after which they are said to hang


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    size = min(options.json_bytes, _LARGEST)
    path = dump_of(options, size)
    reference, store = options.work / "store-reference", options.work / "store"
    undisturbed = build(path, reference, options.workers)
    call = command(path, store, options.workers)
    shutil.rmtree(store, ignore_errors=True)
    random = Random(options.seed)
    kills: Counter[tuple[str, str]] = Counter()
    finished, differing = 0, []
    started = time.perf_counter()
    while sum(kills.values()) < options.kills:
        kill = disturbed(call, random, undisturbed.rate.seconds, partial(_phase, store))
        if kill is not None:
            kills[kill] += 1
        if (store / "manifest.json").exists() and not (store / "building").exists():
            finished += 1
            differing += differences(store, reference)
            shutil.rmtree(store)
    watch.run(call, ROOT)
    finished += 1
    differing += differences(store, reference)
    shutil.rmtree(reference)
    return {
        "json_bytes": undisturbed.rate.json_bytes,
        "entities": undisturbed.rate.entities,
        "undisturbed_seconds": undisturbed.rate.seconds,
        "seconds": time.perf_counter() - started,
        "kills": [{"while": w, "what": p, "times": n} for (w, p), n in sorted(kills.items())],
        "stores": finished,
        "differences": sorted(set(differing)),
    }


def disturbed(
    call: list[str], random: Random, seconds: float, phase_of: Callable[[], str]
) -> tuple[str, str] | None:
    """Run the command and kill one of its processes within ``seconds``: while what, and which.

    ``phase_of`` says what it is at. None where the command ended before.

    Raises RuntimeError where it ends badly by itself.
    """
    with tempfile.TemporaryFile() as output:
        process = watch.start(call, ROOT, output)
        try:
            process.wait(random.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            pids = list(watch.tree(process.pid))
            victim = random.choice(pids)
            phase = phase_of()
            what = "main process" if victim == process.pid else _name(victim)
            os.kill(victim, signal.SIGKILL)
            process.wait()
            _wait_for_the_end(pids)
            return phase, what
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(call)} failed by itself:\n{output.read().decode()}")
    return None


def _phase(store: Path) -> str:
    work = store / "building"
    if (work / "merged").exists():
        return "merging"
    if (work / "plan.json").exists():
        return "reading"
    return "publishing" if (store / "manifest.json").exists() else "starting"


def _name(pid: int) -> str:
    """A worker, or the process that Python runs beside them to clean up."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        words = b""
    return "resource tracker" if b"resource_tracker" in words else "worker"


def _wait_for_the_end(pids: list[int]) -> None:
    """Workers leave when their parent is gone; the next start must not meet them.

    Raises RuntimeError where they stay.
    """
    deadline = time.monotonic() + _PATIENCE
    while left := [pid for pid in pids if _is_alive(pid)]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(left)} processes outlived the run they belong to")
        time.sleep(_PERIOD)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")  # dead, and nobody has asked yet


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = [[f"{k['while']}", k["what"], f"{k['times']}"] for k in figures["kills"]]
    total = sum(kill["times"] for kill in figures["kills"])
    same = (
        ", ".join(figures["differences"]) or "nothing: every store is that of the undisturbed run"
    )
    return "\n".join(
        [
            f"{total} kills (SIGKILL) of runs over {megabytes(figures['json_bytes'])} MB of JSON "
            f"({figures['undisturbed_seconds']:.1f} s undisturbed), {figures['stores']} stores "
            f"finished in {figures['seconds']:.0f} s. What differs: **{same}**.",
            "",
            table(["killed while", "what", "times"], rows),
        ]
    )
