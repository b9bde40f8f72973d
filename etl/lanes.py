"""Threads that write what a merge makes, each its own file, while the merge goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

Batch = TypeVar("Batch")

BATCHES_AHEAD: Final = 2


class Lanes(Generic[Batch]):
    """A thread for each of some stages, all of which take every batch, beside the caller.

    Arrow, Parquet and hashlib work without the interpreter's lock. LMDB is the caller's: it lets
    go of the lock at every record, and as one thread of many it would wait for it as often.
    At most BATCHES_AHEAD batches wait; what a stage raises is raised in the caller.
    """

    def __init__(self, stages: Sequence[Callable[[Batch], None]]) -> None:
        self._stages = [(ThreadPoolExecutor(1), stage) for stage in stages]
        self._ahead: deque[list[Future[None]]] = deque()

    def hand(self, batch: Batch) -> None:
        """Gives a batch to every stage, once the stages are near enough."""
        while len(self._ahead) >= BATCHES_AHEAD:
            self._wait()
        self._ahead.append([lane.submit(stage, batch) for lane, stage in self._stages])

    def _wait(self) -> None:
        for future in self._ahead.popleft():
            future.result()

    def __enter__(self) -> Lanes[Batch]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._ahead:
                self._wait()
        finally:
            for lane, _stage in self._stages:
                lane.shutdown(cancel_futures=True)
