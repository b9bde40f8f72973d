"""Files → images: what shows the same becomes one image, and some files become none.

A file's fate is the number of an image or a reason. Images are numbered as their files: in the
order of the SHA-256 of the file that stands for each, which is also that of their keys. Images that
are linked by a chain of likenesses, and are not one, are in one split all the same.

Everything is in arrays over the files, some 100 bytes for each: 3 GB for 30 million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ujson

from download.pack.decode import decoded
from download.pack.likeness import LENGTH
from download.pack.plan import fixed, mapped
from download.pack.splits import NONE, OTHER_SPLIT, SPLITS, Codes, Ids, by_content, settled
from etl.manifest import write_json

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: Why a file is left out that is, or looks like, one that ``--against`` names.
AGAINST: Final = "against"

LIKENESSES_FILE: Final = "likenesses.bin"
_PIXELS_FILE = "pixels.bin"
FATES_FILE: Final = "fates.json"
FILES_FILE: Final = "file.npy"  # Fates.file alone, to be mapped

_ARRAYS = ("image", "reason", "file", "split")


@dataclass(frozen=True)
class Match:
    """A file that is kept out by ``--against``."""

    file: int
    name: str  # of what it is like
    how: str  # sha256, pixels, "likeness 0.93": what is said of it


@dataclass(frozen=True)
class Fates:
    """What becomes of every file; n files, k images."""

    image: Ids  # (n,), -1 for none
    reason: Codes  # (n,), of `reasons`, -1 where there is an image
    reasons: list[str]
    detail: dict[int, str]  # of files that are dropped, where there is more to say
    matched: dict[int, str]  # of files that are dropped for --against
    file: Ids  # (k,), the file that stands for each image
    split: Codes  # (k,), of SPLITS
    merged: dict[str, int]  # files that became part of another's image, by why


def save(fates: Fates, work: Path) -> None:
    """Keeps fates in ``work``, so that a run that is killed need not compare again."""
    told = {"reasons": fates.reasons, "detail": fates.detail, "matched": fates.matched,
            "merged": fates.merged}  # fmt: skip
    for name in _ARRAYS:
        np.save(work / f"{name}.npy", getattr(fates, name))
    write_json(work / FATES_FILE, told)


def load(work: Path) -> Fates | None:
    """What :func:`save` kept; None where there is nothing."""
    try:
        told = ujson.loads((work / FATES_FILE).read_bytes())
    except FileNotFoundError:
        return None
    arrays = {name: np.load(work / f"{name}.npy") for name in _ARRAYS}
    for name in ("detail", "matched"):
        told[name] = {int(file): text for file, text in told[name].items()}
    return Fates(**arrays, **told)


#: (n, LENGTH) likenesses → for each the lowest row of those that show the same, and the lowest of
#: those that must be in one split (:class:`download.pack.duplicates.Clusters`).
Cluster = Callable[[Bytes], tuple[Ids, Ids]]
#: The files among those with these numbers that stand in evaluation sets.
Find = Callable[["Pictures"], list[Match]]


class Rows(Sequence[bytes]):
    """The rows of an array of bytes, or some of them, each made when it is looked at."""

    def __init__(self, array: Bytes, rows: Ids | None = None) -> None:
        self._array, self._rows = array, rows

    def __len__(self) -> int:
        return len(self._array if self._rows is None else self._rows)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        if at >= len(self):
            raise IndexError(at)
        row: bytes = self._array[at if self._rows is None else self._rows[at]].tobytes()
        return row


@dataclass(frozen=True)
class Pictures:
    """The files that could be decoded, m of them, by number."""

    file: Ids  # (m,)
    pixels: Bytes  # (m, 32), mapped: the SHA-256 of their pixels
    area: Ids  # (m,): pixels of the original
    likeness: Bytes  # (m, LENGTH), mapped


def merge(
    work: Path,
    tasks: int,
    digests: Bytes,
    earlier: Codes,
    shares: tuple[float, float],
    cluster: Cluster,
    against: Find | None = None,
) -> Fates:
    """What becomes of the files that were decoded in ``work``.

    ``digests`` (n, 32) are their SHA-256s and ``earlier`` (n,) the splits in which they stood;
    ``shares`` those of val and test.
    """
    reason, reasons, pictures = _read(work, tasks, len(digests))
    first = first_of_same(pictures.pixels[:, :16])  # places in pictures
    label, linked = _clusters(pictures, first, cluster, work)
    out = np.zeros(len(label), bool)  # what is left out
    detail: dict[int, str] = {}
    matched: dict[int, str] = {}
    if against is not None:
        out = _kept_out(pictures, label, against(pictures), digests, detail, matched)
    reason[pictures.file[out]] = _code(reasons, AGAINST)
    live = np.flatnonzero(~out)
    group, names = _dense(linked[live])
    # files go up with their places: the first of a group has its lowest SHA-256
    lowest = digests[pictures.file[live[_first_places(group, len(names))]]]
    then = earlier[pictures.file[live]]
    split, moved = settled(group, then, by_content(lowest, *shares))
    left_out = pictures.file[live[moved]]
    reason[left_out] = _code(reasons, OTHER_SPLIT)
    for file, code in zip(left_out.tolist(), then[moved].tolist(), strict=True):
        detail[file] = SPLITS[code]
    live, group = live[~moved], group[~moved]
    return _numbered(
        pictures, live, label[live], split[group], first, (reason, reasons), detail, matched
    )


def _numbered(
    pictures: Pictures,
    live: Ids,
    label: Ids,
    split: Codes,
    first: Ids,
    reasons: tuple[Codes, list[str]],
    detail: dict[int, str],
    matched: dict[int, str],
) -> Fates:
    """Fates with images in the order of the files that stand for them.

    ``live`` are the places of pictures that are in images, ``label`` and ``split`` theirs.
    """
    image, names = _dense(label)
    best = _best(image, pictures.area[live], len(names))
    stands = pictures.file[live[best]]
    order = np.argsort(stands)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    number = np.full(len(reasons[0]), -1, np.int64)
    number[pictures.file[live]] = place[image]
    exact = len(live) - len(np.unique(first[live]))
    merged = {"pixels": exact, "alike": len(live) - len(stands) - exact}
    split = split[best][order]
    return Fates(number, *reasons, detail, matched, stands[order], split, merged)


def _read(work: Path, tasks: int, files: int) -> tuple[Codes, list[str], Pictures]:
    """Reasons by code, and what could be decoded; what is long goes to files that are mapped."""
    reason = np.full(files, -1, np.int8)
    reasons: list[str] = []
    numbers, areas = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    at = 0
    columns = ["reason", "original_width", "original_height", "pixels", "likeness"]
    with (work / _PIXELS_FILE).open("wb") as pixels, (work / LIKENESSES_FILE).open("wb") as alike:
        for _, rows in decoded(work, tasks, columns):
            made = pc.is_null(rows["reason"]).to_numpy()
            for row, why in zip(
                np.flatnonzero(~made).tolist(), rows["reason"].drop_null().to_pylist(), strict=True
            ):
                reason[at + row] = _code(reasons, why)
            kept = rows.filter(pa.array(made))
            numbers.append(at + np.flatnonzero(made))
            sides = (kept[name].to_numpy().astype(np.int64) for name in columns[1:3])
            areas.append(np.prod([*sides], axis=0))
            pixels.write(fixed(kept["pixels"].combine_chunks(), 32).tobytes())
            alike.write(fixed(kept["likeness"].combine_chunks(), LENGTH).tobytes())
            at += rows.num_rows
    pictures = Pictures(
        np.concatenate(numbers),
        mapped(work / _PIXELS_FILE, 32),
        np.concatenate(areas),
        mapped(work / LIKENESSES_FILE, LENGTH),
    )
    return reason, reasons, pictures


def first_of_same(pixels: Bytes) -> Ids:
    """For each row of (m, 16) the number of the first row that is equal."""
    first = np.arange(len(pixels))
    if not len(pixels):
        return first
    words = np.ascontiguousarray(pixels).view(np.uint64)  # (m, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: of equal ones the first comes first
    begins = np.ones(len(order), bool)
    begins[1:] = (words[order][1:] != words[order][:-1]).any(axis=1)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def _clusters(pictures: Pictures, first: Ids, cluster: Cluster, work: Path) -> tuple[Ids, Ids]:
    """For each picture the lowest place of those that show the same, and of those linked to it.

    Of equal ones one is compared: pictures without detail are alike to none but those.
    """
    distinct = np.flatnonzero(first == np.arange(len(first)))
    likeness = pictures.likeness
    if len(distinct) < len(first):
        path = work / f"distinct-{LIKENESSES_FILE}"
        with path.open("wb") as out:
            for some in _pieces(distinct):
                out.write(likeness[some].tobytes())
        likeness = mapped(path, LENGTH)
        path.unlink()  # stays as long as it is mapped
    place = np.zeros_like(first)
    place[distinct] = np.arange(len(distinct))
    labels, linked = (distinct[found][place[first]] for found in cluster(likeness))
    return labels, linked


def _pieces(places: Ids, size: int = 1 << 16) -> Iterator[Ids]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _kept_out(
    pictures: Pictures,
    label: Ids,
    matches: list[Match],
    digests: Bytes,
    detail: dict[int, str],
    matched: dict[int, str],
) -> Mask:
    """The pictures that match something, and those that show the same as one that does."""
    found = {match.file: match for match in matches}
    at = np.searchsorted(pictures.file, np.array(sorted(found), np.int64))
    out: Mask = np.isin(label, label[at])
    speaks: dict[int, int] = {}  # label → the lowest file that matches
    for place in at.tolist():
        speaks.setdefault(int(label[place]), int(pictures.file[place]))
    for place in np.flatnonzero(out).tolist():
        file = int(pictures.file[place])
        match = found.get(file)
        other = speaks[int(label[place])]
        detail[file] = match.how if match else f"shows the same as {digests[other].tobytes().hex()}"
        matched[file] = (match or found[other]).name
    return out


def _code(reasons: list[str], name: str) -> int:
    if name not in reasons:
        reasons.append(name)
    return reasons.index(name)


def _dense(label: Ids) -> tuple[Ids, Ids]:
    """Labels as 0 to k - 1 in ascending order of label, and the labels."""
    names, dense = np.unique(label, return_inverse=True)
    return dense.astype(np.int64), names


def _first_places(image: Ids, images: int) -> Ids:
    """The first place at which each of 0 to k - 1 stands."""
    first = np.full(images, len(image), np.int64)
    np.minimum.at(first, image, np.arange(len(image)))
    return first


def _best(image: Ids, area: Ids, images: int) -> Ids:
    """Of each image the place with the largest original, of equal ones the first."""
    order = np.lexsort((np.arange(len(image)), -area, image))
    begins = np.searchsorted(image[order], np.arange(images))
    best: Ids = order[begins]
    return best


def no_split(files: int) -> Codes:
    """``earlier`` where nothing stood anywhere."""
    return np.full(files, NONE, np.int8)
