"""What the log says of every URL and so of every candidate: what is done, what is to be asked next.

A candidate has a list of addresses, and gets its image from the first that gives one. The next is
tried where the last word on one is of a kind that another address may be better than
(``falls_back`` in download/fetch/outcomes.py). So what is wanted follows from the log alone, and
going on after a kill is the same question asked again.

Four bytes for each URL are all that is held in memory, and as many on the disk, mapped, as the
hashes of URLs and images have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from download.fetch.log import RESULTS, parts, read_part, run_of
from download.fetch.outcomes import rule
from download.fetch.plan import Numbers, Plan
from etl.tables import TableWriter

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]

_OPEN: Final = 0  # no last word yet
_MOVED: Final = 1
_BAD_URL: Final = 2  # of candidates without any address that is one
_FIRST_REASONS: Final = ("", "moved", "bad_url")
_COLUMNS: Final = ["url_hash", "reason", "final", "sha256"]
_AT_ONCE: Final = 1 << 17


@dataclass(frozen=True)
class Moved:
    """A URL that goes on elsewhere: its row in the plan, where, and redirects followed by now."""

    row: int
    url: str
    hops: int


class State:
    """The last word on every URL of a plan, as far as the log has one.

    ``since``: the run whose end is wanted now; it may have been killed and gone on under later
    numbers. Outcomes in ``retry`` count as no last word where an earlier run had them.

    ``of``: for each URL the number of a reason in ``reasons``; 0 is "" and means none yet.
    ``tried``: attempts since ``since`` that were not the last word.
    ``sha256s``: where given, 32 bytes for each URL, filled for those that are ok.
    """

    def __init__(
        self,
        plan: Plan,
        fetches: Path,
        since: int,
        retry: Sequence[str] = (),
        sha256s: npt.NDArray[np.void] | None = None,
    ) -> None:
        self.plan = plan
        self.reasons = [*_FIRST_REASONS]
        self.of: Codes = np.zeros(plan.urls, np.uint16)
        self.tried: Codes = np.zeros(plan.urls, np.uint16)
        self._numbers = {reason: number for number, reason in enumerate(self.reasons)}
        self._fetches = fetches
        self._since = since
        self._retry = frozenset(retry)
        self._sha256s = sha256s
        self._known: set[str] = set()
        self._moving: list[str] = []  # parts with rows that moved
        self.update()

    def update(self) -> None:
        """Takes in the parts that have come to the log."""
        new = [part for part in parts(self._fetches) if part not in self._known]
        for run, of_run in groupby(new, run_of):
            together = list(of_run)
            # who goes on where a redirect led may be any worker of the same run, so what moved is
            # taken first and what came of it after
            for moved in (True, False):
                for part in together:
                    self._take(part, run, moved=moved)
        self._known.update(new)

    def _take(self, part: str, run: int, *, moved: bool) -> None:
        table = read_part(self._fetches, part, _COLUMNS)
        is_moved = _mask(pc.equal(table["reason"], "moved"))
        table = table.filter(pa.array(is_moved == moved)).combine_chunks()
        if not table.num_rows:
            return
        if moved:
            self._moving.append(part)
        url_hash, reason, final, sha256 = (column.combine_chunks() for column in table.columns)
        rows = self.plan.rows(url_hash)
        is_final = _mask(final)
        planned = rows >= 0
        if run >= self._since:
            np.add.at(self.tried, rows[planned & ~is_final], 1)
        last = planned & is_final
        self.of[rows[last]] = self._codes(reason, run)[last]
        if self._sha256s is not None:
            got = planned & _mask(sha256.is_valid())
            whole = sha256.filter(pa.array(got))
            buffer = whole.buffers()[1]
            self._sha256s[rows[got]] = np.frombuffer(buffer, "V32", len(whole), 32 * whole.offset)

    def _codes(self, reasons: pa.Array, run: int) -> Codes:
        retried = self._retry if run < self._since else frozenset()
        encoded = reasons.dictionary_encode()
        numbers = [
            _OPEN if rule(reason).outcome in retried else self._number(reason)
            for reason in encoded.dictionary.to_pylist()
        ]
        found: Codes = np.array(numbers, np.uint16)[encoded.indices.to_numpy()]
        return found

    def _number(self, reason: str) -> int:
        if reason not in self._numbers:
            self._numbers[reason] = len(self.reasons)
            self.reasons.append(reason)
        return self._numbers[reason]

    def outcomes(self) -> list[str]:
        """The outcome of each of ``reasons``; "" of none."""
        return ["", *(rule(reason).outcome for reason in self.reasons[1:])]

    def counts(self) -> dict[str, int]:
        """How many URLs have each reason as their last word; "" where there is none."""
        counts = np.bincount(self.of, minlength=len(self.reasons))
        return {r: int(n) for r, n in zip(self.reasons, counts, strict=True) if n}

    def wanted(self) -> Mask:
        """The URLs that are to be asked for now; those that moved are among them."""
        wanted = np.zeros(self.plan.urls, bool)
        for piece in self._deciding():
            open_ = (piece.code == _OPEN) | (piece.code == _MOVED)
            wanted[piece.url[open_]] = True
        return wanted

    def moved(self, wanted: Mask) -> Iterator[Moved]:
        """Where those go on that are wanted and have moved."""
        there = wanted & (self.of == _MOVED)
        for part in reversed(self._moving):  # the last word is the one that counts
            columns = ["url_hash", "reason", "next_url", "hops"]
            table = read_part(self._fetches, part, columns, pc.field("reason") == "moved")
            if not table.num_rows:
                continue
            rows = self.plan.rows(table["url_hash"].combine_chunks())
            for at in np.flatnonzero(rows >= 0)[::-1]:
                if there[rows[at]]:
                    there[rows[at]] = False
                    url, hops = table["next_url"][at].as_py(), table["hops"][at].as_py()
                    yield Moved(int(rows[at]), url, hops)

    def _deciding(self) -> Iterator[_Piece]:
        """For each candidate with an address the one that decides, by candidate, in pieces."""
        falls_back = self._falls_back()
        for candidate, place, url in self.plan.links():
            code = self.of[url]
            begins = np.flatnonzero(np.diff(candidate, prepend=-1))
            ends = np.append(begins[1:], len(candidate)) - 1
            # the first that isn't fallen back from, else the last
            stops = np.where(falls_back[code], len(candidate), np.arange(len(candidate)))
            at = np.minimum(np.minimum.reduceat(stops, begins), ends)
            yield _Piece(candidate[at], place[at], url[at], code[at])

    def _falls_back(self) -> Mask:
        return np.array([bool(r) and rule(r).falls_back for r in self.reasons])

    def results(self, out: Path, candidates: int) -> dict[str, int]:
        """Writes what came of every candidate (columns RESULTS); returns how many had each reason.

        The reason is "" where an address is still to be asked for.
        """
        assert self._sha256s is not None
        counts = np.zeros(len(self.reasons), np.int64)
        first = 0
        with TableWriter(out, RESULTS) as writer:
            for piece in self._whole(candidates):
                counts += np.bincount(piece.code, minlength=len(counts))
                writer.write(self._result(piece))
                first += len(piece.code)
        assert first == candidates
        return {r: int(n) for r, n in zip(self.reasons, counts, strict=True) if n}

    def _whole(self, candidates: int) -> Iterator[_Piece]:
        """What decides of every candidate, in order, without gaps."""
        first = 0
        for piece in self._deciding():
            yield _filled(piece, first, int(piece.candidate[-1]) + 1)
            first = int(piece.candidate[-1]) + 1
        no = np.empty(0, np.int64)
        nothing = _Piece(no, no.astype(np.int16), no, no.astype(np.uint16))
        for at in range(first, candidates, _AT_ONCE):
            yield _filled(nothing, at, min(at + _AT_ONCE, candidates))

    def _result(self, piece: _Piece) -> pa.Table:
        assert self._sha256s is not None
        outcomes, reasons = (
            pa.array([word or None for word in words], pa.string()).take(pa.array(piece.code))
            for words in (self.outcomes(), self.reasons)
        )
        is_ok = piece.code == self._numbers.get("ok", len(self.reasons))
        digests = self._sha256s[np.where(is_ok, piece.url, 0)] if len(self.of) else None
        buffers = [None, None if digests is None else pa.py_buffer(digests.tobytes())]
        sha256 = pa.nulls(len(is_ok), pa.binary(32))
        if digests is not None:
            whole = pa.Array.from_buffers(pa.binary(32), len(is_ok), buffers)
            sha256 = pc.if_else(pa.array(is_ok), whole, pa.scalar(None, pa.binary(32)))
        place = pa.array(piece.place, mask=piece.place < 0)
        return pa.Table.from_arrays([outcomes, reasons, place, sha256], schema=RESULTS)


@dataclass(frozen=True)
class _Piece:
    """Candidates, ascending, and the address that decides about each; parallel."""

    candidate: Numbers
    place: npt.NDArray[np.int16]
    url: Numbers
    code: Codes


def _filled(piece: _Piece, first: int, end: int) -> _Piece:
    """Candidates ``first`` to ``end``, with those that have no address."""
    at = piece.candidate - first
    place = np.full(end - first, -1, np.int16)
    url = np.zeros(end - first, np.int64)
    code = np.full(end - first, _BAD_URL, np.uint16)
    place[at], url[at], code[at] = piece.place, piece.url, piece.code
    return _Piece(np.arange(first, end), place, url, code)


def _mask(values: pa.Array | pa.ChunkedArray) -> Mask:
    found: Mask = values.to_numpy(zero_copy_only=False)
    return found
