"""Names as they are looked up: how they are folded, and how a worker collects them.

A name is found whatever its case, its compatibility forms and its white space, by the rule of
:func:`fold`. Worker's half: :class:`NameRows`; the merge's is ``etl/merge_names.py``, the
lookup's ``etl/find.py``; all three fold with the one function.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrow import write_batch
from etl.fold import LONGEST, fold
from etl.kept import Kept

NAMES: Final = "names.parquet"

#: One row a name: what a run's names are sorted by, and ``names.parquet`` is.
ORDER: Final = (
    ("folded", "ascending"),
    ("sitelinks", "descending"),
    ("id", "ascending"),
    ("alias", "ascending"),
    ("name", "ascending"),
)

#: Columns of a run's names. ``languages`` are positions in ``Kept.languages``, ``row`` is the
#: record's in its run.
RUN_SCHEMA: Final = pa.schema(
    [
        ("folded", pa.string()),
        ("name", pa.string()),
        ("id", pa.int64()),
        ("sitelinks", pa.int32()),
        ("languages", pa.list_(pa.uint16())),
        ("alias", pa.bool_()),
        ("row", pa.uint32()),
    ]
)

KINDS: Final = ("label", "alias")

#: Columns of names.parquet, which is in :data:`ORDER` (of kinds, labels come first).
NAMES_SCHEMA: Final = pa.schema(
    [
        ("folded", pa.string()),
        ("name", pa.string()),
        ("id", pa.int64()),
        ("languages", pa.list_(pa.string())),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("sitelinks", pa.int32()),
    ]
)


def fold_all(names: pa.StringArray) -> pa.StringArray:
    """:func:`fold` of many: ASCII at once, the others one by one.

    25 ns a name in English, 1 µs one in Chinese (2-core machine of docs/performance.md).
    """
    if len(names) == 0:
        return names
    offsets = np.frombuffer(names.buffers()[1], np.int32, len(names) + 1, names.offset * 4)
    data = names.buffers()[2].to_pybytes() if names.buffers()[2] else b""
    lowered = pa.StringArray.from_buffers(
        len(names), pa.py_buffer(offsets), pa.py_buffer(data.lower())
    )
    odd = np.flatnonzero(_are_odd(np.frombuffer(data, np.uint8), offsets))
    if len(odd) == 0:
        return lowered
    mask = np.zeros(len(names), bool)
    mask[odd] = True
    folded = [fold(name) for name in names.take(pa.array(odd)).to_pylist()]
    return pc.replace_with_mask(lowered, pa.array(mask), pa.array(folded, pa.string()))


def _are_odd(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which names are more than lower-casing ASCII: other characters, white space, great length."""
    starts, ends = offsets[:-1], offsets[1:]
    found: npt.NDArray[np.bool_] = ends - starts > LONGEST
    some = np.flatnonzero(ends > starts)
    if len(some) == 0:
        return found
    starts, ends = starts[some], ends[some]
    # as signed bytes, what isn't ASCII is below the space too
    found[some] |= np.minimum.reduceat(data[: ends[-1]].view(np.int8), starts) < ord(" ")
    found[some] |= (data[starts] == ord(" ")) | (data[ends - 1] == ord(" "))
    spaces = np.flatnonzero(data == ord(" "))
    doubled = spaces[1:][spaces[1:] == spaces[:-1] + 1]
    found[some[np.searchsorted(ends, doubled[doubled < ends[-1]], "right")]] = True
    return found


class NameRows:
    """Labels and aliases of a run's records; ``write`` puts them on disk beside the records."""

    def __init__(self, kept: Kept) -> None:
        self._bits = {code: 1 << n for n, code in enumerate(kept.languages)}
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._languages: list[int] = []  # of each name: a set, a bit a language
        self._records = array("q")  # of each name: twice its record's row, one more for aliases

    def add(self, row: int, labels: dict[str, str], aliases: dict[str, list[str]]) -> None:
        """Takes the names of the record at ``row``: a name once, with all the languages it has.

        The record has been encoded before, which proves that its text is text. 0.6 µs; English
        and its variants mostly agree, and to find that out later would cost more.
        """
        bits = self._bits
        if len(labels) == 1:
            (code,) = labels
            self._names.append(labels[code])
            self._languages.append(bits[code])
            self._records.append(row << 1)
        elif labels:
            found: dict[str, int] = {}
            for code, name in labels.items():
                found[name] = found.get(name, 0) | bits[code]
            self._take(row << 1, found)
        if aliases:
            found = {}
            for code, names in aliases.items():
                bit = bits[code]
                for name in names:
                    found[name] = found.get(name, 0) | bit
            self._take(row << 1 | 1, found)

    def _take(self, record: int, found: dict[str, int]) -> None:
        self._names += found
        self._languages += found.values()
        self._records.extend([record] * len(found))

    def write(
        self,
        path: Path,
        new_row: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        sitelinks: npt.NDArray[np.int32],
    ) -> None:
        """Writes the names in :data:`ORDER` and forgets them.

        ``new_row`` (records added,) is each record's row in the run, -1 where the run has a
        newer one of its id; ``ids`` (signed) and ``sitelinks`` are the run's, by new row.

        Raises OSError where the disk is full.
        """
        records = np.frombuffer(self._records, np.int64)
        rows = new_row[records >> 1]
        names = _cut(pa.array(self._names, pa.string()))
        folded = fold_all(names)
        keep = np.flatnonzero((rows >= 0) & (pc.binary_length(folded).to_numpy() > 0))
        rows, taken = rows[keep], pa.array(keep)
        batch = pa.record_batch(
            [
                folded.take(taken),
                names.take(taken),
                pa.array(ids[rows]),
                pa.array(sitelinks[rows]),
                self._language_lists().take(taken),
                pa.array((records[keep] & 1).astype(bool)),
                pa.array(rows.astype(np.uint32)),
            ],
            schema=RUN_SCHEMA,
        )
        write_batch(path, sorted_names(batch))
        self._clear()

    def _language_lists(self) -> pa.ListArray:
        sets = {languages: n for n, languages in enumerate(dict.fromkeys(self._languages))}
        lists = [[n for n in range(s.bit_length()) if s >> n & 1] for s in sets]
        numbers = np.fromiter(map(sets.__getitem__, self._languages), np.int64)
        return pa.array(lists, pa.list_(pa.uint16())).take(pa.array(numbers))


def _cut(names: pa.StringArray) -> pa.StringArray:
    longest = pc.max(pc.binary_length(names)).as_py() or 0
    return names if longest <= LONGEST else pc.utf8_slice_codeunits(names, 0, LONGEST)


def sorted_names(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of ``batch`` in :data:`ORDER`, which leaves no two rows equal."""
    return batch.take(pc.sort_indices(batch, sort_keys=list(ORDER)))
