"""Run the same plain function over many tasks: here, or in processes of this machine.

A task is a module-level function of one picklable item and a ``tick`` that it calls with the
bytes it has read. An engine yields (item, result) as results come; which worker did what leaves
no trace in the data.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from etl.errors import UserError
from etl.progress import Tick

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Callable[[Item, Tick], Result]

_POLL_SECONDS = 0.2
_TICK_SECONDS = 0.2


def default_workers() -> int:
    """As many as the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    task: Task[Item, Result], items: Sequence[Item], workers: int, tick: Tick
) -> Iterator[tuple[Item, Result]]:
    """(item, result) for every item; ``workers`` 0 is this process itself, no other."""
    if workers == 0:
        return ((item, task(item, tick)) for item in items)
    return run_local(task, items, workers, tick)


def run_local(
    task: Task[Item, Result], items: Sequence[Item], workers: int, tick: Tick
) -> Iterator[tuple[Item, Result]]:
    """In ``workers`` processes, started fresh, results in the order in which they end.

    Workers leave when this process dies, however it dies. An exception of a task is raised here
    after the others have been cancelled.

    Raises UserError where a worker is killed (out of memory, mostly).
    """
    context = multiprocessing.get_context("spawn")
    ticks: Any = context.SimpleQueue()
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, max(len(items), 1)),
        mp_context=context,
        initializer=_begin_worker,
        initargs=(ticks,),
    )
    try:
        futures = {pool.submit(_call, task, item): item for item in items}
        waiting = set(futures)
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED
            )
            _drain(ticks, tick)
            for future in done:
                yield futures.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely because memory ran out; what is done is "
            "kept: run the same command again, with fewer --workers if it happens twice."
        ) from None
    finally:
        _stop(pool)


def _stop(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Ends the pool now, whatever its workers are doing; their work so far is on disk or lost."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _drain(ticks: Any, tick: Tick) -> None:
    while not ticks.empty():
        tick(ticks.get())


# --- in the worker ------------------------------------------------------------------------------

_ticks: Any = None


def _begin_worker(ticks: Any) -> None:
    global _ticks
    _ticks = ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(parent_sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever; it leaves instead."""
    multiprocessing.connection.wait([parent_sentinel])
    os._exit(1)


def _call(task: Task[Item, Result], item: Item) -> Result:
    pending, told = 0, time.monotonic()

    def tick(amount: int) -> None:
        nonlocal pending, told
        pending += amount
        if time.monotonic() - told > _TICK_SECONDS:
            _ticks.put(pending)
            pending, told = 0, time.monotonic()

    result = task(item, tick)
    _ticks.put(pending)
    return result
