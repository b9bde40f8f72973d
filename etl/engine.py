"""Run the same plain function over many tasks: here, or in processes of this machine.

A task is a module-level function of one picklable item and a ``tick`` that it calls with the
bytes it has read. Results come as (item, result) in the order in which they end; which worker did
what leaves no trace in the data. :mod:`etl.cluster` does the same on the nodes of a Ray cluster.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from etl.errors import UserError
from etl.progress import Tick

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Callable[[Item, Tick], Result]

_POLL_SECONDS = 0.2
_TICK_SECONDS = 0.2
_BESIDE_SECONDS = 5.0  # nobody empties the pipe until the result is awaited, and it is short
_COLLECT_AFTER = 50_000  # containers more than there were
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def default_workers() -> int:
    """As many as the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    task: Task[Item, Result], items: Sequence[Item], workers: int, tick: Tick
) -> Iterator[tuple[Item, Result]]:
    """(item, result) for every item, by a :class:`Pool` that is there for these items alone."""
    with Pool(workers) as pool:
        yield from pool.run(task, items, tick)


class Pool:
    """Processes of this machine, started fresh when there is work and kept until the end.

    ``workers`` 0 is this process itself, no other. Workers leave when this process dies, however
    it dies.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._processes: concurrent.futures.ProcessPoolExecutor | None = None
        self._ticks: Any = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._processes is not None:
            _stop(self._processes)
            self._processes = None

    def start(self) -> None:
        """Has the processes start and load what they need, while the caller does other work.

        Raises UserError where a worker is killed meanwhile.
        """
        try:
            for _ in range(self._workers):
                self._started().submit(_nothing)
        except BrokenProcessPool:
            raise _killed() from None

    def run(
        self, task: Task[Item, Result], items: Sequence[Item], tick: Tick
    ) -> Iterator[tuple[Item, Result]]:
        """(item, result) for every item, in the order in which they end.

        An exception of a task is raised here; leaving the pool ends what else is under way.

        Raises UserError where a worker is killed (out of memory, mostly).
        """
        if self._workers == 0:
            return ((item, task(item, tick)) for item in items)
        return self._share_out(task, items, tick)

    def _share_out(
        self, task: Task[Item, Result], items: Sequence[Item], tick: Tick
    ) -> Iterator[tuple[Item, Result]]:
        try:
            futures = {self._started().submit(_call, task, item): item for item in items}
            yield from self._ended(futures, tick)
        except BrokenProcessPool:
            raise _killed() from None

    def submit(self, task: Task[Item, Result], item: Item) -> Callable[[Tick], Result]:
        """Begins a task; the call waits for its end and gives its result."""
        try:
            future = self._started().submit(_call, task, item, _BESIDE_SECONDS)
        except BrokenProcessPool:
            raise _killed() from None

        def result(tick: Tick) -> Result:
            try:
                ((_, found),) = self._ended({future: item}, tick)
            except BrokenProcessPool:
                raise _killed() from None
            return found

        return result

    def _ended(
        self, futures: dict[concurrent.futures.Future[Result], Item], tick: Tick
    ) -> Iterator[tuple[Item, Result]]:
        while futures:
            done, _ = concurrent.futures.wait(
                futures, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED
            )
            _drain(self._ticks, tick)
            for future in done:
                yield futures.pop(future), future.result()

    def _started(self) -> concurrent.futures.ProcessPoolExecutor:
        if self._processes is None:
            context = multiprocessing.get_context("spawn")
            # numpy's BLAS, which nothing here uses, starts a thread a core that waits by spinning
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            self._ticks = context.SimpleQueue()
            self._processes = concurrent.futures.ProcessPoolExecutor(
                self._workers,
                mp_context=context,
                initializer=_begin_worker,
                initargs=(self._ticks,),
            )
            # All are started by the first submit, before the pool's own thread watches them. One
            # at a time, as the pool would, a worker that dies while the next is being started has
            # that thread close the very queues that the next is being given (CPython 3.11-3.13).
            self._processes._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
        return self._processes


@contextmanager
def beside(
    task: Task[Item, Result], item: Item, workers: int
) -> Iterator[Callable[[Tick], Result]]:
    """One task in a process of its own while the caller does other work; the call awaits it.

    With less than two ``workers`` it is done here, when it is called for.
    """
    if workers < 2:
        yield lambda tick: task(item, tick)
        return
    with Pool(1) as pool:
        yield pool.submit(task, item)


def _killed() -> UserError:
    return UserError(
        "a worker process was killed, most likely because memory ran out; what is done is "
        "kept: run the same command again, with fewer --workers if it happens twice."
    )


def _stop(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Ends the pool now, whatever its workers are doing; their work so far is on disk or lost."""
    # killed first, and nothing cancelled: the pool's own thread stumbles over what was cancelled
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False)


def _drain(ticks: Any, tick: Tick) -> None:
    while not ticks.empty():
        tick(ticks.get())


# --- in the worker ------------------------------------------------------------------------------

_ticks: Any = None


def _begin_worker(ticks: Any) -> None:
    global _ticks
    _ticks = ticks
    gc.set_threshold(_COLLECT_AFTER)  # trees of objects come and go, and few of them go round
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    _die_with(parent.pid)
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(parent: int) -> None:
    """Linux ends this process with the one that started it, whatever either is doing then.

    To be exact: with the thread that started it, which is the one that hands the work out.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before this was arranged


def _leave_with(parent_sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever; it leaves instead."""
    multiprocessing.connection.wait([parent_sentinel])
    os._exit(1)


def _nothing() -> None:
    """Loads what every task of an ingest needs."""
    import etl.runs  # noqa: F401


def _call(task: Task[Item, Result], item: Item, every: float = _TICK_SECONDS) -> Result:
    pending, told = 0, time.monotonic()

    def tick(amount: int) -> None:
        nonlocal pending, told
        pending += amount
        if time.monotonic() - told > every:
            _ticks.put(pending)
            pending, told = 0, time.monotonic()

    result = task(item, tick)
    _ticks.put(pending)
    return result
