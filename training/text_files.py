"""Tables of texts on disk: Arrow files that are mapped, so that all workers share one copy.

    texts.arrow      text                                of every row, repeats within a batch once
    rows.arrow       text, sources, up_to                row by row, one table after the other
    tables.arrow     start                               (n + 1,) where a table's rows begin
    queries.arrow    id, table, group, about             by hash
    entities.arrow   id, table, group, named             by id
    *-places.arrow   start                               (buckets + 1,) of the two above

``up_to`` is a row's probability added to those before it in its table; that of the last is 1.
``about`` is the place in entities.arrow of what a query is about, ``named`` the one in
queries.arrow of the query for an entity's name; :data:`NONE` where there is none. ``group`` says
by what a filter tells queries apart: a line of the manifest's ``groups``.

An id is looked up by its CRC-32, modulo a power of two: rows of one bucket stand together. So a
worker needs neither a dict of a million hashes (0.2 GB that forked workers would copy, since
counting references writes to them) nor a search through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
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
TABLES: Final = "tables.arrow"
QUERIES: Final = "queries.arrow"
ENTITIES: Final = "entities.arrow"

NONE: Final = 2**32 - 1

_MOST_KNOWN = 200_000  # texts of which repeats are noticed: 30 MB

Numbers = npt.NDArray[np.int64]


def places_file(name: str) -> str:
    """The file of the buckets of queries.arrow or entities.arrow."""
    return name.replace(".arrow", "-places.arrow")


#: All that :class:`TableFiles` and :func:`write_index` write.
OUTPUTS: Final = (
    TEXTS, ROWS, TABLES, QUERIES, places_file(QUERIES), ENTITIES, places_file(ENTITIES),
)  # fmt: skip


class TableFiles:
    """Tables as they come, onto the disk: memory for a batch of them, whatever their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tables = self.rows = 0
        self._texts = 0
        self._known: dict[str, int] = {}
        self._size = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {
            name: self._stack.enter_context((folder / f"{name}.raw").open("w+b"))
            for name in (*_COLUMNS, "characters")
        }
        self._columns["start"].append(0)
        self._columns["end"].append(0)

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, texts: Sequence[Text]) -> int:
        """Adds a table of one text or more; its number."""
        columns = self._columns
        total = 0.0
        for text, probability, sources in texts:
            total += probability
            columns["text"].append(self._number(text))
            columns["sources"].append(sources)
            columns["up_to"].append(total)
        columns["up_to"][-1] = 1.0  # and not a last bit less, which a draw could fall behind
        self.rows += len(texts)
        columns["start"].append(self.rows)
        self.tables += 1
        return self.tables - 1

    def flush(self) -> None:
        """Writes what has come since; call it between batches."""
        for name, dtype in _COLUMNS.items():
            np.array(self._columns[name], dtype).tofile(self._files[name])
            self._columns[name].clear()
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()

    def close(self) -> None:
        """Writes the three Arrow files in place of what they were gathered in."""
        self.flush()
        for file in self._files.values():
            file.flush()
        ends = self._raw("end")
        characters = pa.py_buffer(self._raw("characters"))
        texts = pa.Array.from_buffers(
            pa.large_string(), len(ends) - 1, [None, pa.py_buffer(ends), characters]
        )
        _write(self._folder / TEXTS, {"text": texts})
        rows = {name: pa.array(self._raw(name)) for name in ("text", "sources", "up_to")}
        _write(self._folder / ROWS, rows)
        _write(self._folder / TABLES, {"start": pa.array(self._raw("start"))})
        self._stack.close()
        for name in self._files:
            (self._folder / f"{name}.raw").unlink()

    def _number(self, text: str) -> int:
        number = self._known.get(text)
        if number is None:
            number = self._known[text] = self._texts
            self._texts += 1
            data = text.encode()
            self._files["characters"].write(data)
            self._size += len(data)
            self._columns["end"].append(self._size)
        return number

    def _raw(self, name: str) -> npt.NDArray[Any]:
        path = self._folder / f"{name}.raw"
        dtype = _COLUMNS.get(name, "<u1")
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


_COLUMNS: Final = {"text": "<u4", "sources": "<u2", "up_to": "<f8", "start": "<u8", "end": "<i8"}


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
    folder: Path,
    name: str,
    ids: pa.LargeStringArray,
    columns: Mapping[str, npt.NDArray[np.uint32]],
    buckets: Buckets,
) -> None:
    """Writes ids and what stands beside them. Of an id that comes twice, the first is found."""
    order = buckets.order
    taken = {"id": ids.take(pa.array(order))}
    taken |= {column: pa.array(values[order]) for column, values in columns.items()}
    _write(folder / name, taken)
    _write(folder / places_file(name), {"start": pa.array(buckets.start)})


def _strings(ids: pa.LargeStringArray) -> Iterable[str]:
    for first in range(0, len(ids), 1 << 16):
        yield from ids.slice(first, 1 << 16).to_pylist()


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    write_batch(path, pa.RecordBatch.from_pydict(columns))


def numbers(
    batch: pa.RecordBatch, column: str, format_: Literal["H", "I", "Q", "d"]
) -> memoryview[Any]:
    """A column of numbers, mapped: ``format_`` as in :mod:`struct` (I, Q, d, …)."""
    data: memoryview[Any] = _bytes(batch.column(column).buffers()[1])
    return data.cast(format_)[: batch.num_rows]


def strings(batch: pa.RecordBatch, column: str) -> tuple[memoryview, memoryview]:
    """A column of texts, mapped: (n + 1,) where each begins, and all of them as UTF-8."""
    _, ends, data = batch.column(column).buffers()
    return _bytes(ends).cast("q")[: batch.num_rows + 1], _bytes(data)


def _bytes(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(b"" if buffer is None else buffer).cast("B")


class Index:
    """queries.arrow or entities.arrow, to look ids up in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.batch = map_batch(folder / name)
        self._begins, self._data = strings(self.batch, "id")
        start = numbers(map_batch(folder / places_file(name)), "start", "I")
        #: The place of an id, -1 where it isn't there.
        self.find = _finder(start, self._begins, self._data)

    def __len__(self) -> int:
        return int(self.batch.num_rows)


def _finder(
    start: memoryview[int], begins: memoryview[int], data: memoryview[int]
) -> Callable[[str], int]:
    # what a function has closed over is found faster than what an object has: 0.5 µs, not 0.7
    mask = len(start) - 2

    def find(id_: str) -> int:
        wanted = id_.encode()
        bucket = crc32(wanted) & mask
        place, end = start[bucket], start[bucket + 1]
        while place < end:
            if data[begins[place] : begins[place + 1]] == wanted:
                return place
            place += 1
        return -1

    return find
