"""Which rows of a long table are beaten by another row of the same page, found in bounded memory.

A dump may name a file twice, when it was edited while the dump was written. It hardly ever does;
that it doesn't has to be known all the same, of 144 million rows that are in no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from etl.runs import winners

Numbers = npt.NDArray[np.int64]
#: Gives, each time it is called, (pages, revisions) of every batch of the table.
Batches = Callable[[], Iterable[tuple[Numbers, Numbers]]]

#: Rows that are compared at a time, about: 300 MB, and some 36 passes over 144M rows.
ROWS: Final = 1 << 22

_BUCKET_BITS = 16  # of a page's 32 tell to which bucket it belongs


def beaten(batches: Batches) -> dict[int, npt.NDArray[np.bool_]]:
    """Batch (its place) → which of its rows are beaten; batches without such rows are left out.

    Of rows of one page the highest revision wins, then the later row.
    """
    found: dict[int, npt.NDArray[np.bool_]] = {}
    for first, last in _ranges(batches):
        best = _Best()
        for pages, revisions, rows in _between(batches, first, last):
            best.add(pages, revisions, rows)
        best.fold()
        if len(best.pages) == best.added:
            continue
        start = 0
        for number, (pages, _) in enumerate(batches()):
            here = np.flatnonzero((pages >= first) & (pages < last))
            winning = best.rows[np.searchsorted(best.pages, pages[here])]
            lost = here[winning != start + here]
            if len(lost):
                found.setdefault(number, np.zeros(len(pages), bool))[lost] = True
            start += len(pages)
    return found


class _Best:
    """The winning row of every page so far, by page."""

    def __init__(self) -> None:
        self.added = 0
        self._waiting: list[tuple[Numbers, Numbers, Numbers]] = []
        self._count = 0
        self.pages = self._revisions = self.rows = np.zeros(0, np.int64)

    def add(self, pages: Numbers, revisions: Numbers, rows: Numbers) -> None:
        self.added += len(pages)
        self._waiting.append((pages, revisions, rows))
        self._count += len(pages)
        if self._count > ROWS:
            self.fold()

    def fold(self) -> None:
        """Forgets the rows that are beaten."""
        parts = [(self.pages, self._revisions, self.rows), *self._waiting]
        pages, revisions, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
        won = winners(pages.astype(np.uint64), revisions)
        self.pages, self._revisions, self.rows = pages[won], revisions[won], rows[won]
        self._waiting, self._count = [], 0


def _ranges(batches: Batches) -> list[tuple[int, int]]:
    """Ranges of pages, [first, last), of about ROWS rows each, that cover all."""
    counts = np.zeros(1 << _BUCKET_BITS, np.int64)
    for pages, _ in batches():
        counts += np.bincount(pages >> (32 - _BUCKET_BITS), minlength=len(counts))
    groups = np.cumsum(counts) // ROWS
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1), len(counts)]
    return list(pairwise(int(edge) << (32 - _BUCKET_BITS) for edge in edges))


def _between(batches: Batches, first: int, last: int) -> Iterable[tuple[Numbers, Numbers, Numbers]]:
    start = 0
    for pages, revisions in batches():
        here = np.flatnonzero((pages >= first) & (pages < last))
        if len(here):
            yield pages[here], revisions[here], start + here
        start += len(pages)
