"""Runs a command and watches its memory, process by process, and its disk (Linux)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PROC = Path("/proc")
_PERIOD = 0.05  # seconds between two looks; peaks that the kernel keeps (VmHWM) are not missed
_DISK_EVERY = 4  # looks: walking a directory costs more
_BLOCK = 512  # bytes; POSIX's unit of st_blocks


@dataclass(frozen=True)
class Watched:
    """A finished command. Memory is in bytes; 0 where the system has no /proc."""

    seconds: float
    cpu_seconds: float  # of all its processes
    main_peak: int  # resident, with the pages of mapped files: for the merge, LMDB's
    main_private: int  # resident without them, the largest seen
    worker_peak: int
    worker_private: int
    disk_peak: int  # bytes on disk in the directory that was watched


@dataclass(frozen=True)
class Ended:
    """A command that ended by itself, or was ended since it was too ``late``."""

    watched: Watched
    code: int
    late: bool
    said: str  # the end of its output


def run(
    command: Sequence[str], cwd: Path, limit: float = 7200.0, disk: Path | None = None
) -> Watched:
    """Run ``command`` to its end, for ``limit`` seconds at most; ``disk`` is what it fills.

    Raises RuntimeError with the end of its output where it fails or takes longer.
    """
    ended = attempt(command, cwd, limit, disk)
    if ended.code:
        end = f"was ended after {limit:.0f} s" if ended.late else f"ended with {ended.code}"
        raise RuntimeError(f"{' '.join(command)} {end}:\n{ended.said}")
    return ended.watched


def attempt(
    command: Sequence[str], cwd: Path, limit: float = 7200.0, disk: Path | None = None
) -> Ended:
    """As :func:`run`, of a command that may fail: how it ended."""
    peaks: dict[int, dict[str, int]] = {}
    looks = disk_peak = 0
    with tempfile.TemporaryFile() as output:
        cpu_before = _cpu_of_children()
        started = time.perf_counter()
        process = start(command, cwd, output)
        try:
            while process.poll() is None and time.perf_counter() - started < limit:
                for pid in tree(process.pid):
                    _look(pid, peaks.setdefault(pid, {}))
                if disk and looks % _DISK_EVERY == 0:
                    disk_peak = max(disk_peak, _on_disk(disk))
                looks += 1
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PERIOD)
        finally:
            seconds = time.perf_counter() - started
            late = process.poll() is None
            if late:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        said = output.read()[-2000:].decode(errors="replace")
    # of processes that nobody waited for, nobody is told the time: what was seen of them last
    seen = sum(peak.get("ticks", 0) for peak in peaks.values()) / os.sysconf("SC_CLK_TCK")
    main = peaks.pop(process.pid, {})
    workers = list(peaks.values())
    watched = Watched(
        seconds,
        max(seen, _cpu_of_children() - cpu_before),
        main.get("VmHWM", 0),
        main.get("RssAnon", 0),
        max((peak.get("VmHWM", 0) for peak in workers), default=0),
        max((peak.get("RssAnon", 0) for peak in workers), default=0),
        max(disk_peak, _on_disk(disk)) if disk else 0,
    )
    return Ended(watched, process.returncode, late, said)


def start(command: Sequence[str], cwd: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """``command`` in a process group of its own, so that all of it can be ended."""
    return subprocess.Popen(
        command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def tree(pid: int) -> Iterator[int]:
    """``pid`` and its descendants that are alive."""
    yield pid
    for children in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # ended meanwhile
            continue
        for child in found:
            yield from tree(int(child))


def _look(pid: int, peak: dict[str, int]) -> None:
    try:
        status = (_PROC / str(pid) / "status").read_text()
        times = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:  # ended meanwhile
        return
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "RssAnon"):
            peak[name] = max(peak.get(name, 0), int(value.split()[0]) * 1024)
    peak["ticks"] = sum(map(int, times))


def _on_disk(directory: Path) -> int:
    """Bytes that the files below a directory take; LMDB's are written with holes."""
    total, waiting = 0, [str(directory)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    with suppress(OSError):  # renamed or removed meanwhile
                        total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    return total


def _cpu_of_children() -> float:
    """Processor seconds of children that ended, with theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
