"""Which pictures of many are copies of one another: candidates by signs, then each pair compared.

    found = clusters(likenesses)        # (n, LENGTH) uint8; an np.memmap does, too
    found.labels                        # (n,) int64: the lowest row of the cluster a row is in

**Candidates.** The signs of the 64 lowest frequencies are a picture's code (as pHash's); its first
bits are a key. Every picture is entered under its own key and under those of 68 parts of it, which
follow from its likeness: what is left when one or both sides lose a twentieth, a tenth or a fifth.
Each picture then asks under its own key, and under those that it would have if its weakest signs
were wrong. So a copy is found that lost up to a fifth of either side, and one that got a border,
for which the original is the part. Two different parts of a third picture that isn't there aren't
found.

**Twins.** The web has thousands of copies of one photograph that differ by a compression. Who has
the same code as a picture before it, but for one of four parts of the code, is compared with that
one first; if they are all but equal, that one stands for both, so such a crowd costs its number and
not the square of it.

**Pairs.** Candidates whose codes differ little are compared (download/pack/alike.py).

**Clusters** are stars: every member, or its twin, was found to be the same as the cluster's middle.
Chains, in which each is like the next and the first unlike the last, don't grow into one.
``linked`` has the chains: what must not stand on both sides of a split is kept together by it.

The key has more bits for more pictures, since chance meetings grow with their square. What goes
past memory is written to ``scratch``: 1.2 kB a picture.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from download.pack import alike, likeness

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Report = Callable[[int], None]


@dataclass(frozen=True)
class Clusters:
    """What belongs together, by row.

    ``labels``: the lowest row of the cluster; a row without copies is its own. ``linked``: the
    same of clusters that share a pair. ``pairs`` (m, 2), lower row first, in order, with their
    ``similarity``, twins among them. ``counts``: ``plain`` pictures that were left out, because
    there is too little to see on them; ``twins``; ``candidates`` that were looked at, pairs
    ``compared``, ``crowded`` candidates that weren't looked at, because too many are much like one
    another.
    """

    labels: Rows
    linked: Rows
    pairs: Rows
    similarity: npt.NDArray[np.float32]
    counts: dict[str, int]


def clusters(
    many: Bytes,
    *,
    same: float = alike.SAME,
    scratch: Path | None = None,
    report: Report = lambda _: None,
) -> Clusters:
    """Clusters of copies among n pictures, (n, LENGTH) uint8.

    ``same`` is the least similarity of a copy. ``report`` is told of rows whose candidates
    were looked at, n in all. The same likenesses in the same order give the same clusters.
    """
    work = _Work(scratch, report)
    twins, likenesses = _twins(many, max(same, _TWIN), work)
    search = _Search(many, many, work, np.sort(twins[:, 1]))
    pairs, similarity = _same(search, same)
    labels = _stars(len(many), pairs, similarity)
    labels[twins[:, 1]] = labels[_components(len(many), twins)[twins[:, 1]]]
    pairs, similarity = _in_order([pairs, twins], [similarity, likenesses])
    return Clusters(labels, _components(len(many), pairs), pairs, similarity, work.counts)


def matches(
    many: Bytes,
    references: Bytes,
    *,
    same: float = alike.SAME,
    scratch: Path | None = None,
    report: Report = lambda _: None,
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Which pictures are copies of references: pairs (m, 2) of rows, many first; similarities."""
    search = _Search(many, references, _Work(scratch, report))
    return _same(search, same)


#: How the folder below ``scratch`` begins; a kill leaves it there.
SCRATCH: Final = "codes-"

# ------------------------------------------------------------------------------- codes

#: Bits of a key for up to 2 million pictures; two more for every doubling, up to 30.
_KEY_BITS: Final = 24
_KEY_BITS_MOST: Final = 30
_KEY_PICTURES: Final = 2_000_000

#: Of a key's signs that many, the weakest, may be wrong: 32 keys are asked.
_WEAK: Final = 5

#: Bits of 64 that may differ between a picture and the part that it is.
_CODE_DISTANCE: Final = 16

#: What a crop leaves of a side; a side of the whole is the first.
_SIDES: Final = (
    (0, 1),
    *((0, 0.95), (0.05, 1)),
    *((0, 0.9), (0.05, 0.95), (0.1, 1)),
    *((0, 0.8), (0.1, 0.9), (0.2, 1)),
)


def _parts() -> Rows:
    """Pairs of sides, down and across, (69, 2): one of them whole, or both about as much cut."""
    sizes = [end - start for start, end in _SIDES]
    every = [(down, across) for down in range(len(sizes)) for across in range(len(sizes))]
    return np.array(
        [
            (down, across)
            for down, across in every
            if 0 in (down, across) or abs(sizes[down] - sizes[across]) < 0.11
        ]
    )


_CHOSEN: Final = _parts()

#: Parts of a picture, (69, 4): left, right, top, bottom; the whole is the first.
PARTS: Final[Floats] = np.array([(*_SIDES[across], *_SIDES[down]) for down, across in _CHOSEN])

#: A sign is that of an amplitude less this many steps of a likeness (24 are the root mean square):
#: what is 0, as half of a symmetric picture's frequencies are, then has a sign that noise keeps.
_ZERO: Final = 3.0

_LOW = 14  # frequencies that codes are made of
_CODED = 9  # frequencies of a part that have a bit: up to 8.6, round the corner
_PRECISION = 1 << 10  # of matrices, so that sums are whole numbers: the same signs everywhere


def _lowest() -> tuple[Rows, Rows]:
    """Vertical and horizontal frequencies of a code's 64 bits, lowest first."""
    every = [(v, h) for v in range(_CODED) for h in range(_CODED) if v + h]
    every.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
    chosen = np.array(every[:64])
    return chosen[:, 0], chosen[:, 1]


def _matrix(start: float, end: float) -> Floats:
    """(coded, low): the frequencies of a part of a side from those of the side."""
    places = (np.arange(512) + 0.5) / 512
    part = likeness.cosines(_LOW, start + (end - start) * places)
    own = likeness.cosines(_CODED, places)
    shares = np.where(np.arange(_CODED) > 0, 2, 1) / len(places)
    return np.rint(shares[:, None] * (own @ part.T) * _PRECISION)


_DOWN, _ACROSS = _lowest()
_LENGTHS: Final = np.hypot(_DOWN, _ACROSS)
_MATRICES: Final = np.stack([_matrix(*side) for side in _SIDES])  # (sides, coded, low)
_FREQUENCY: Final = np.hypot(*np.mgrid[:_LOW, :_LOW]) + np.eye(_LOW) * np.eye(_LOW)[0]
_UNWEIGHTED: Final = np.rint(_PRECISION / _FREQUENCY)
_PLACES: Final = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)


def _across(many: Bytes) -> Floats:
    """Horizontal frequencies of what is left across, (sides, n, low, coded)."""
    low = likeness.brightness(many)[:, :_LOW, :_LOW].astype(np.float64) * _UNWEIGHTED
    across = low.reshape(-1, _LOW) @ _MATRICES.reshape(-1, _LOW).T
    apart = across.reshape(len(many), _LOW, len(_SIDES), _CODED).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(apart)


def _above(amplitudes: Floats) -> Floats:
    """How far frequencies are above what is a 1 in a code, (n, coded, coded) → (n, 64)."""
    chosen = np.take(amplitudes.reshape(-1, _CODED**2), _DOWN * _CODED + _ACROSS, axis=1)
    return np.asarray(chosen * _LENGTHS - _ZERO * _PRECISION**3)


def _code(above: Floats) -> Codes:
    """Signs as bits, (n, 64) → (n,)."""
    packed = np.packbits(above > 0, axis=-1)
    codes: Codes = packed.view(">u8")[:, 0].astype(np.uint64)
    return codes


def _codes(many: Bytes) -> Codes:
    """Codes of all parts, (n, parts)."""
    codes = np.empty((len(many), len(PARTS)), np.uint64)
    for at in range(0, len(many), _AT_A_TIME):
        some = slice(at, at + _AT_A_TIME)
        across = _across(many[some])
        for part, (down, side) in enumerate(_CHOSEN):
            codes[some, part] = _code(_above(_MATRICES[down] @ across[side]))
    return codes


def _own(many: Bytes) -> Floats:
    """How far a picture's own frequencies are above what is a 1 in its code, (n, 64)."""
    return _above(_MATRICES[0] @ _across(many)[0])


def _asked(above: Floats, bits: int) -> Codes:
    """Keys that a picture asks for, (n, 64) → (n, 2^_WEAK)."""
    weak = np.argsort(np.abs(above[:, :bits]), axis=1, kind="stable")[:, :_WEAK]
    flips = _PLACES[weak]  # (n, weak)
    chosen = (np.arange(1 << _WEAK)[:, None] >> np.arange(_WEAK)) & 1  # (2^weak, weak)
    changed = (flips[:, None, :] * chosen[None].astype(np.uint64)).sum(axis=2, dtype=np.uint64)
    keys: Codes = (_code(above)[:, None] ^ changed) >> np.uint64(64 - bits)
    return keys


# ------------------------------------------------------------------------------- twins

#: What twins agree by at least: more than copies do, since their likenesses stand for one another.
_TWIN: Final = 0.985

#: Bits of a code that may differ between twins: any of one of these parts.
_MAY_DIFFER: Final = [np.uint64(0xFFFF) << np.uint64(at) for at in (0, 16, 32, 48)]

_LAID_OVER: Final = np.array([0.0, 1.0, 0.0, 1.0])  # one on the other, whole on whole


def _twins(many: Bytes, same: float, work: _Work) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Pairs (m, 2) of a row and one after it that is all but equal, each such row once."""
    own, is_left = np.zeros(len(many), np.uint64), np.zeros(len(many), bool)
    for at, part, rows in _chunks(many):
        own[at + rows] = _code(_own(part[rows]))
        is_left[at + rows] = True
    pairs, found = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for may_differ in _MAY_DIFFER:
        first, second = _of_one_code(own & ~may_differ, np.flatnonzero(is_left))
        similarity = _compared(many, first, second)
        work.counts["compared"] += len(first)
        kept = similarity >= same
        is_left[second[kept]] = False
        pairs.append(np.stack([first[kept], second[kept]], axis=1))
        found.append(similarity[kept])
    every, likenesses = np.concatenate(pairs), np.concatenate(found)
    work.counts["twins"] = len(every)
    return every, likenesses


def _of_one_code(codes: Codes, rows: Rows) -> tuple[Rows, Rows]:
    """Of rows with one code the lowest, and each of the others."""
    order = rows[np.argsort(codes[rows], kind="stable")]
    fresh = np.ones(len(order), bool)
    fresh[1:] = codes[order[1:]] != codes[order[:-1]]
    starts = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    return order[starts][~fresh], order[~fresh]


def _compared(many: Bytes, first: Rows, second: Rows) -> npt.NDArray[np.float32]:
    """Similarities of rows that show all of one another, (n,)."""
    similarity = np.zeros(len(first), np.float32)
    for at in range(0, len(first), _CHUNK):
        ones, others = many[first[at : at + _CHUNK]], many[second[at : at + _CHUNK]]
        places = np.broadcast_to(_LAID_OVER, (len(ones), 4))
        similarity[at : at + _CHUNK] = alike.compare(ones, others, places)
    return similarity


def _in_order(
    pairs: list[Rows], similarities: list[npt.NDArray[np.float32]]
) -> tuple[Rows, npt.NDArray[np.float32]]:
    every, similarity = np.concatenate(pairs), np.concatenate(similarities)
    order = np.lexsort((every[:, 1], every[:, 0]))
    return every[order], similarity[order]


# ------------------------------------------------------------------------------- candidates

_CHUNK: Final = 2048  # pictures that are gone through at a time
_AT_A_TIME: Final = 128  # of them whose codes are made at a time: a processor's cache
_ENTRIES: Final = 1 << 24  # entries of a partition, about: 500 MB
_PAIRS: Final = 1 << 21  # pairs of codes that are looked at at a time

#: One question looks at that many entries at most, around its picture's own code, and takes that
#: many of the nearest: where there are more, they are drawings of one kind (a thousand charts), and
#: to compare all with all would take the square of their number.
_CROWD: Final = 1024
_NEAREST: Final = 32

_ENTRY: Final = np.dtype([("code", "<u8"), ("row", "<u4"), ("part", "u1")])
_QUESTION: Final = np.dtype([("key", "<u4"), ("row", "<u4")])

#: Where candidates lie about is known; where they correlate less there, they are other pictures. Of
#: copies one in 300 does, most of them crops to 0.8.
_LIKELY: Final = 0.75


@dataclass
class _Work:
    scratch: Path | None
    report: Report
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("plain", "twins", "candidates", "compared", "crowded"), 0
        )
    )


class _Candidates(NamedTuple):
    """Pairs (whole, first): the whole picture of row ``whole`` is about a part of ``first``."""

    first: Rows
    whole: Rows
    part: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Search:
    """Pictures ``ones`` among ``others``; both the same array for duplicates of one set."""

    ones: Bytes
    others: Bytes
    work: _Work
    left_out: Rows = field(default_factory=lambda: np.zeros(0, np.int64))  # of ones

    @property
    def within(self) -> bool:
        return self.ones is self.others


def _same(search: _Search, same: float) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Pairs of rows (m, 2) that are copies, in order, and their similarity."""
    first, second, starts = _unique(search)
    search.work.counts["compared"] += len(first)
    similarity = np.zeros(len(first), np.float32)
    for at in range(0, len(first), _CHUNK):
        part = slice(at, at + _CHUNK)
        similarity[part] = alike.compare(
            search.ones[first[part]], search.others[second[part]], starts[part]
        )
    kept = similarity >= same
    return np.stack([first[kept], second[kept]], axis=1), similarity[kept]


def _unique(search: _Search) -> tuple[Rows, Rows, Floats]:
    """Likely pairs, each once: rows of ones, of others, where the second lies on the first."""
    best, found, waiting = np.zeros((0, 7)), list[Floats](), 0
    for swapped in (False,) if search.within else (False, True):
        parted, wholes = (search.others, search.ones) if swapped else (search.ones, search.others)
        for candidates in _candidates(parted, wholes, search):
            search.work.counts["candidates"] += len(candidates.first)
            lines = _likely(parted, wholes, candidates)
            turned = lines[:, 0] > lines[:, 1] if search.within else np.full(len(lines), swapped)
            lines[turned] = _turned(lines[turned])
            found.append(lines)
            waiting += len(lines)
            if waiting > _CHUNK + len(best):
                best, found, waiting = _best(np.concatenate([best, *found])), [], 0
    best = _best(np.concatenate([best, *found]))
    return best[:, 0].astype(np.int64), best[:, 1].astype(np.int64), best[:, 3:]


def _likely(parted: Bytes, wholes: Bytes, candidates: _Candidates) -> Floats:
    """Those that correlate, (m, 7): first, whole, correlation, left, right, top, bottom."""
    lines = [np.zeros((0, 7))]
    for at in range(0, len(candidates.first), _CHUNK):
        first, whole, part = (column[at : at + _CHUNK] for column in candidates)
        places = PARTS[part]
        found = alike.correlate(parted[first], wholes[whole], places)
        kept = found >= _LIKELY
        lines.append(np.column_stack([first[kept], whole[kept], found[kept], places[kept]]))
    return np.concatenate(lines)


def _turned(lines: Floats) -> Floats:
    """The same pairs the other way round: where the first lies on the second."""
    first, second, found, left, right, top, bottom = lines.T
    wide, high = 1 / (right - left), 1 / (bottom - top)
    sides = [-left * wide, (1 - left) * wide, -top * high, (1 - top) * high]
    return np.column_stack([second, first, found, *sides])


def _best(lines: Floats) -> Floats:
    """Of the same pair the line that correlates most, in order of the pairs."""
    order = np.lexsort((*lines.T[:2:-1], -lines[:, 2], lines[:, 1], lines[:, 0]))
    lines = lines[order]
    fresh = np.ones(len(lines), bool)
    fresh[1:] = (np.diff(lines[:, :2], axis=0) != 0).any(axis=1)
    return lines[fresh]


def _candidates(parted: Bytes, wholes: Bytes, search: _Search) -> Iterator[_Candidates]:
    """Pairs whose codes meet, some of them several times."""
    bits = key_bits(math.isqrt(len(parted) * len(wholes)))
    parts = 1 + len(parted) * len(PARTS) // _ENTRIES
    own = np.zeros(len(wholes), np.uint64)
    with tempfile.TemporaryDirectory(dir=search.work.scratch, prefix=SCRATCH) as folder:
        entries = _Partitions(parts, _ENTRY, Path(folder) / "entries")
        questions = _Partitions(parts, _QUESTION, Path(folder) / "questions")
        counted = parted is search.ones
        _enter(parted, entries, bits, search.work if counted else None, search.left_out)
        _ask(wholes, questions, bits, own, search.left_out)
        for number in range(parts):
            yield from _met(entries.take(number), questions.take(number), own, bits, search)
            done = [len(wholes) * n // parts for n in (number, number + 1)]
            search.work.report(done[1] - done[0])


def key_bits(pictures: int) -> int:
    """Bits of the keys for a number of pictures; of two sets, the root of their product."""
    more = 2 * math.ceil(math.log2(max(pictures / _KEY_PICTURES, 1)))
    return min(_KEY_BITS + more, _KEY_BITS_MOST)


class _Partitions:
    """Rows of a type by their keys: in memory where there is one partition, else in files."""

    def __init__(self, parts: int, dtype: np.dtype[np.void], path: Path) -> None:
        self._parts, self._dtype, self._path = parts, dtype, path
        self._kept: list[npt.NDArray[np.void]] = []

    def add(self, keys: Codes, rows: npt.NDArray[np.void]) -> None:
        if self._parts == 1:
            self._kept.append(rows)
            return
        part = (keys % np.uint64(self._parts)).astype(np.int64)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(self._parts + 1))
        rows = rows[order]
        for number in range(self._parts):
            with open(f"{self._path}-{number}", "ab") as file:
                file.write(rows[ends[number] : ends[number + 1]].tobytes())

    def take(self, number: int) -> npt.NDArray[np.void]:
        if self._parts == 1:
            return np.concatenate([np.zeros(0, self._dtype), *self._kept])
        path = Path(f"{self._path}-{number}")
        if not path.exists():
            return np.zeros(0, self._dtype)
        rows = np.fromfile(path, self._dtype)
        path.unlink()
        return rows


def _chunks(many: Bytes) -> Iterator[tuple[int, Bytes, Rows]]:
    """Parts of many: the first row, the likenesses, which of them aren't plain."""
    for at in range(0, len(many), _CHUNK):
        part = np.ascontiguousarray(many[at : at + _CHUNK])
        yield at, part, np.flatnonzero(~alike.plain(part))


def _without(rows: Rows, at: int, left_out: Rows) -> Rows:
    """Rows of a part that begins at a row, without those (sorted) that are left out."""
    some = left_out[np.searchsorted(left_out, at) : np.searchsorted(left_out, at + _CHUNK)] - at
    return np.setdiff1d(rows, some, assume_unique=True)


def _enter(
    many: Bytes, entries: _Partitions, bits: int, work: _Work | None, left_out: Rows
) -> None:
    for at, part, told in _chunks(many):
        rows = _without(told, at, left_out)
        codes = _codes(part[rows])  # (n, parts)
        made = np.empty(codes.shape, _ENTRY)
        made["code"] = codes
        made["row"] = (at + rows)[:, None]
        made["part"] = np.arange(len(PARTS))[None, :]
        entries.add(codes.ravel() >> np.uint64(64 - bits), made.ravel())
        if work:
            work.counts["plain"] += len(part) - len(told)


def _ask(many: Bytes, questions: _Partitions, bits: int, own: Codes, left_out: Rows) -> None:
    for at, part, told in _chunks(many):
        rows = _without(told, at, left_out)
        above = _own(part[rows])
        own[at + rows] = _code(above)
        keys = _asked(above, bits)
        made = np.empty(keys.shape, _QUESTION)
        made["key"] = keys
        made["row"] = (at + rows)[:, None]
        questions.add(keys.ravel(), made.ravel())


def _met(
    entries: npt.NDArray[np.void], questions: npt.NDArray[np.void], own: Codes, bits: int,
    search: _Search,
) -> Iterator[_Candidates]:  # fmt: skip
    """Candidates of one partition."""
    entries = entries[np.argsort(entries["code"], kind="stable")]
    codes, keys = entries["code"], entries["code"] >> np.uint64(64 - bits)
    questions = questions[np.argsort(questions["key"], kind="stable")]
    first = np.searchsorted(keys, questions["key"].astype(np.uint64), "left")
    last = np.searchsorted(keys, questions["key"].astype(np.uint64), "right")
    asked = np.flatnonzero(last > first)
    first, last, rows = first[asked], last[asked], questions["row"][asked].astype(np.int64)
    first, last = _thinned(first, last, codes, own[rows], search.work)
    ends = np.cumsum(last - first)
    at = 0
    while at < len(rows):
        until = int(np.searchsorted(ends, (ends[at - 1] if at else 0) + _PAIRS, "right"))
        until = max(until, at + 1)
        part = slice(at, until)
        counts = last[part] - first[part]
        question = np.repeat(np.arange(len(counts)), counts)
        start = first[part] - (np.cumsum(counts) - counts)
        entry = start[question] + np.arange(len(question))
        whole = rows[part][question]
        distance = np.bitwise_count(codes[entry] ^ own[whole])
        near = distance <= _CODE_DISTANCE
        if search.within:
            near &= entries["row"][entry] != whole
        kept = _nearest(question, distance, np.flatnonzero(near), search.work)
        found = entries[entry[kept]]
        yield _once(found["row"].astype(np.int64), whole[kept], found["part"])
        at = until


def _thinned(first: Rows, last: Rows, codes: Codes, own: Codes, work: _Work) -> tuple[Rows, Rows]:
    """Of crowds only the entries around where the asking picture's code would be."""
    crowd = np.flatnonzero(last - first > _CROWD)
    if not len(crowd):
        return first, last
    middle = np.searchsorted(codes, own[crowd])
    lowest = np.clip(middle - _CROWD // 2, first[crowd], last[crowd] - _CROWD)
    work.counts["crowded"] += int((last[crowd] - first[crowd] - _CROWD).sum())
    first, last = first.copy(), last.copy()
    first[crowd], last[crowd] = lowest, lowest + _CROWD
    return first, last


def _nearest(question: Rows, distance: Bytes, near: Rows, work: _Work) -> Rows:
    """Of the places ``near`` the nearest of each question."""
    order = near[np.lexsort((distance[near], question[near]))]
    asked = question[order]
    rank = np.arange(len(asked)) - np.searchsorted(asked, asked)
    work.counts["crowded"] += int((rank >= _NEAREST).sum())
    return order[rank < _NEAREST]


def _once(first: Rows, whole: Rows, part: npt.NDArray[np.uint8]) -> _Candidates:
    """The same candidate is asked for by several keys."""
    order = np.lexsort((part, whole, first))
    first, whole, part = first[order], whole[order], part[order]
    fresh = np.ones(len(first), bool)
    fresh[1:] = (np.diff(first) != 0) | (np.diff(whole) != 0) | (np.diff(part.astype(int)) != 0)
    return _Candidates(first[fresh], whole[fresh], part[fresh])


# ------------------------------------------------------------------------------- clusters


def _components(count: int, pairs: Rows) -> Rows:
    """The lowest row that a row is linked to, (count,): labels fall along pairs until none does."""
    labels = np.arange(count)
    ones, others = pairs.T
    while True:
        lower = np.minimum(labels[ones], labels[others])
        before = labels.copy()
        np.minimum.at(labels, labels[ones], lower)
        np.minimum.at(labels, labels[others], lower)
        np.minimum.at(labels, ones, lower)
        np.minimum.at(labels, others, lower)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def _stars(count: int, pairs: Rows, similarity: npt.NDArray[np.float32]) -> Rows:
    """The lowest row of each row's cluster, (count,).

    Middles are taken by how many pictures are the same as they, then how similar these are, then
    by row; each takes those of them that no middle took before.
    """
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    weights = np.concatenate([similarity, similarity])
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, weights = ends[order], weights[order]
    rows, starts = np.unique(ends[:, 0], return_index=True)
    stops = np.append(starts[1:], len(ends))
    total = np.add.reduceat(weights.astype(np.float64), starts) if len(rows) else weights
    labels = np.arange(count)
    taken = np.zeros(count, bool)
    for place in np.lexsort((rows, -total, starts - stops)):
        middle = rows[place]
        if taken[middle]:
            continue
        around = ends[starts[place] : stops[place], 1]
        around = around[~taken[around]]
        members = np.append(around, middle)
        taken[members] = True
        labels[members] = members.min()
    return labels
