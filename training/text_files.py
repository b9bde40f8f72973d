"""Tables of texts on disk: Arrow files that are mapped, so that all workers share one copy.

    texts.arrow      text                        of every row; repeats close by are there once
    rows.arrow       text_at, sources, up_to     row by row, one table after the other
    queries.arrow    id, rows, group, about      by the hash of a query
    entities.arrow   id, rows, group, named      by id
    *-buckets.arrow  start                       ⎫ to find the rows of these two
    *-records.arrow  byte                        ⎭

``text_at`` is where the bytes of a text begin in texts.arrow, times 2^16, and how many there are;
``up_to`` a row's probability added to those before it in its table; that of the last is 1. ``rows``
is the first row of a table, times 2^20, and how many there are (0: no table). ``about`` is the row
in entities.arrow of what a query is about, ``named`` the one in queries.arrow of the query for an
entity's name; :data:`NONE` where there is none. ``group`` says by what a filter tells queries
apart: a line of the manifest's ``groups``.

**An id is looked up** by its CRC-32, modulo a power of two: a bucket, whose records stand together:
``rows``, ``about`` or ``named``, the number of the row, the length of the id (:data:`RECORD`), the
id. A worker needs no dict of a million hashes: that is 0.2 GB, which forked workers would copy,
since counting references writes to it.

**Why numbers are packed**: what a draw costs at a million queries is the pages of memory that it
touches, each of which costs a core 0.1 µs and more. With offsets, text numbers and the columns of
an id apart, it touched ten and took 4.9 µs; now it touches five and takes 4.4 or less (`python -m
benchmarks texts`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Final, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.arrow import map_batch, write_batch
from training.text_rules import Text

#: A step of its own, so that `sparqless verify` checks it.
STEP: Final = "texts"

TEXTS: Final = "texts.arrow"
ROWS: Final = "rows.arrow"
QUERIES: Final = "queries.arrow"
ENTITIES: Final = "entities.arrow"

NONE: Final = 2**32 - 1

#: Bits of the number of rows beside the first, and of the bytes of a text beside where they begin.
ROWS_BITS: Final = 20
TEXT_BITS: Final = 16

#: Before each id of *-records.arrow.
RECORD: Final = Struct("<QIIH")

#: Longer texts are cut: nobody reads so far, a tokenizer of CLIP 77 words at the most.
_LONGEST: Final = (1 << TEXT_BITS - 2) - 1  # characters, of up to 4 bytes

_MOST_KNOWN: Final = 200_000  # texts of which repeats are noticed: 30 MB

Numbers = npt.NDArray[np.int64]
Columns = Mapping[str, npt.NDArray[np.uint32] | npt.NDArray[np.uint64]]


def _beside(name: str, what: str) -> str:
    return name.replace(".arrow", f"-{what}.arrow")


#: All that :class:`TableFiles` and :func:`write_index` write.
OUTPUTS: Final = (
    TEXTS,
    ROWS,
    *(
        file
        for name in (QUERIES, ENTITIES)
        for file in (name, _beside(name, "buckets"), _beside(name, "records"))
    ),
)


class TableFiles:
    """Tables as they come, onto the disk: memory for a batch of them, whatever their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tables = self.rows = 0
        self._known: dict[str, int] = {}
        self._size = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {
            name: self._stack.enter_context((folder / f"{name}.raw").open("w+b"))
            for name in (*_COLUMNS, "characters")
        }
        self._columns["end"].append(0)

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, texts: Sequence[Text]) -> int:
        """Adds a table; its ``rows``, 0 for one without texts."""
        if not texts:
            return 0
        columns = self._columns
        total = 0.0
        for text, probability, sources in texts:
            total += probability
            columns["text_at"].append(self._place(text))
            columns["sources"].append(sources)
            columns["up_to"].append(total)
        columns["up_to"][-1] = 1.0  # and not a last bit less, which a draw could fall behind
        assert len(texts) < 1 << ROWS_BITS, "of names there are some hundred"
        first = self.rows
        self.rows += len(texts)
        self.tables += 1
        return first << ROWS_BITS | len(texts)

    def flush(self) -> None:
        """Writes what has come since; call it between batches."""
        for name, dtype in _COLUMNS.items():
            np.array(self._columns[name], dtype).tofile(self._files[name])
            self._columns[name].clear()
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()

    def close(self) -> None:
        """Writes both Arrow files in place of what they were gathered in."""
        self.flush()
        for file in self._files.values():
            file.flush()
        ends = self._raw("end")
        characters = pa.py_buffer(self._raw("characters"))
        texts = pa.Array.from_buffers(
            pa.large_string(), len(ends) - 1, [None, pa.py_buffer(ends), characters]
        )
        _write(self._folder / TEXTS, {"text": texts})
        rows = {name: pa.array(self._raw(name)) for name in ("text_at", "sources", "up_to")}
        _write(self._folder / ROWS, rows)
        self._stack.close()
        for name in self._files:
            (self._folder / f"{name}.raw").unlink()

    def _place(self, text: str) -> int:
        place = self._known.get(text)
        if place is None:
            data = text[:_LONGEST].encode()
            place = self._known[text] = self._size << TEXT_BITS | len(data)
            self._files["characters"].write(data)
            self._size += len(data)
            self._columns["end"].append(self._size)
        return place

    def _raw(self, name: str) -> npt.NDArray[Any]:
        path = self._folder / f"{name}.raw"
        dtype = _COLUMNS.get(name, "<u1")
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


_COLUMNS: Final = {"text_at": "<u8", "sources": "<u2", "up_to": "<f8", "end": "<i8"}


@dataclass(frozen=True, eq=False)
class Buckets:
    """The order in which ids stand in a file: by bucket, within one as they came."""

    order: Numbers  # (n,) the rows, in that order
    start: npt.NDArray[np.uint32]  # (buckets + 1,)

    @classmethod
    def of(cls, ids: pa.LargeStringArray) -> Buckets:
        """As many buckets as there are ids, or up to twice as many."""
        count = 1 << max(len(ids) - 1, 0).bit_length()
        bucket = np.fromiter((crc32(id_.encode()) for id_ in _strings(ids)), np.uint32, len(ids))
        bucket &= np.uint32(count - 1)
        order = np.argsort(bucket, kind="stable")
        start = np.searchsorted(bucket[order], np.arange(count + 1))
        return cls(order, start.astype(np.uint32))

    def place(self) -> Numbers:
        """(n,) where each row comes to stand."""
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        return place


def write_index(
    folder: Path, name: str, ids: pa.LargeStringArray, columns: Columns, buckets: Buckets
) -> None:
    """Writes ids and what stands beside them: ``rows``, ``group``, and ``about`` or ``named``.

    Of an id that comes twice, the first is found.
    """
    order = buckets.order
    taken = {"id": ids.take(pa.array(order))}
    taken |= {column: pa.array(values[order]) for column, values in columns.items()}
    _write(folder / name, taken)
    records, begins = bytearray(), array("Q", [0])
    (other,) = (values for column, values in columns.items() if column not in ("rows", "group"))
    rows, beside = (map(int, values[order]) for values in (columns["rows"], other))
    for place, id_ in enumerate(_strings(taken["id"])):
        data = id_.encode()
        records += RECORD.pack(next(rows), next(beside), place, len(data)) + data
        begins.append(len(records))
    start = np.frombuffer(begins, np.uint64)[buckets.start]
    _write(folder / _beside(name, "buckets"), {"start": pa.array(start)})
    _write(folder / _beside(name, "records"), {"byte": pa.array(np.frombuffer(records, np.uint8))})


def _strings(ids: pa.LargeStringArray) -> Iterable[str]:
    for first in range(0, len(ids), 1 << 16):
        yield from ids.slice(first, 1 << 16).to_pylist()


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    write_batch(path, pa.RecordBatch.from_pydict(columns))


def numbers(
    batch: pa.RecordBatch, column: str, format_: Literal["B", "H", "Q", "d"]
) -> memoryview[Any]:
    """A column of numbers, mapped: ``format_`` as in :mod:`struct` (I, Q, d, …)."""
    data: memoryview[Any] = _bytes(batch.column(column).buffers()[1])
    return data.cast(format_)[: batch.num_rows]


def characters(batch: pa.RecordBatch, column: str) -> memoryview[int]:
    """A column of texts, mapped: all of them as UTF-8."""
    return _bytes(batch.column(column).buffers()[2])


def _bytes(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(b"" if buffer is None else buffer).cast("B")


class Index:
    """queries.arrow or entities.arrow, to look ids up in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.batch = map_batch(folder / name)
        start = numbers(map_batch(folder / _beside(name, "buckets")), "start", "Q")
        records = numbers(map_batch(folder / _beside(name, "records")), "byte", "B")
        #: Of an id (rows, about or named, number of the row), None where it isn't there.
        self.find = _finder(start, records)

    def __len__(self) -> int:
        return int(self.batch.num_rows)


Found = tuple[int, int, int]


def _finder(start: memoryview[int], records: memoryview[int]) -> Callable[[str], Found | None]:
    # what a function has closed over is found faster than what an object has
    mask, head, read = len(start) - 2, RECORD.size, RECORD.unpack_from

    def find(id_: str) -> Found | None:
        wanted = id_.encode()
        bucket = crc32(wanted) & mask
        at, end, size = start[bucket], start[bucket + 1], len(wanted)
        while at < end:
            rows, beside, place, length = read(records, at)
            at += head
            if length == size and records[at : at + size] == wanted:
                return rows, beside, place
            at += length
        return None

    return find
