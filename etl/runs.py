"""One slice → sorted runs: the worker's half of the ingest.

A run is three Arrow files: records sorted by key, their edges sorted by record, their names sorted
as they are looked up. A run is closed at :data:`RUN_BYTES` of records, which bounds the memory of
a worker whatever its slice; :mod:`etl.slices` puts a slice's runs and its report into place.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.arrow import Joined, write_batch
from etl.dump import Slice
from etl.entity import FIRST_ITEM, OtherEntity, RejectedLineError
from etl.kept import Kept
from etl.lines import Line
from etl.names import NameRows
from etl.progress import Tick
from etl.reader import EntityReader, Entry
from etl.slices import Report, read_into, report_of
from etl.source import Access

#: Bytes of records after which a run is written; with all else a worker holds 270 MB then.
RUN_BYTES: Final = 20 << 20

UNCHANGED: Final = "unchanged.arrow"
_NUMBER_MASK = (1 << 56) - 1


class SliceJob(msgspec.Struct, frozen=True):
    """What a worker needs to read one slice.

    ``limit`` is a number of entities, 0 for all. ``known`` is the file of an older store's
    revisions (:mod:`etl.update`), "" for none; ``dictionary`` is what whole entities are compressed
    with, where they are kept.
    """

    slice: Slice
    directory: str
    kept: Kept
    max_line: int
    max_rejects: int
    limit: int = 0
    access: Access = Access()
    known: str = ""
    dictionary: bytes = b""


class SliceReport(Report):
    """What a slice held; written beside its runs."""

    items: int = 0
    properties: int = 0
    unchanged: int = 0  # of items and properties: not parsed, the older store has them
    repeated: int = 0
    runs: int = 0


def numeric_ids(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Keys → the signed ids of the Parquet files (144 for Q144, -31 for P31)."""
    numbers = (keys & np.uint64(_NUMBER_MASK)).astype(np.int64)
    return np.where(keys >= np.uint64(FIRST_ITEM), numbers, -numbers)


def record_schema(kept: Kept) -> pa.Schema:
    """Columns of a run's records; ``full`` is there where whole entities are kept."""
    flags = len(kept.languages) + len(kept.properties)
    columns = [
        ("key", pa.uint64()),
        ("revision", pa.int64()),
        ("sitelinks", pa.int32()),
        ("flags", pa.binary(max(1, (flags + 7) // 8))),
        ("value", pa.large_binary()),
    ]
    return pa.schema([*columns, ("full", pa.large_binary())] if kept.full else columns)


EDGE_SCHEMA: Final = pa.schema(
    [
        ("row", pa.uint32()),
        ("property", pa.uint16()),
        ("object", pa.int64()),
        ("rank", pa.uint8()),
        ("truthy", pa.bool_()),
    ]
)


class RunBuilder:
    """Collects records and edges; ``write`` puts them on disk as the next run."""

    def __init__(self, directory: Path, kept: Kept) -> None:
        self.directory = directory
        self._schema = record_schema(kept)
        self._flag_bytes = self._schema.field("flags").type.byte_width
        self._names = NameRows(kept)
        self.runs = self.repeated = 0
        self._clear()

    def _clear(self) -> None:
        self.bytes = 0
        self._keys, self._revisions = array("Q"), array("q")
        self._sitelinks, self._flags = array("i"), bytearray()
        self._values, self._full = Joined(), Joined()
        self._rows, self._edge_properties = array("I"), array("H")
        self._objects, self._ranks, self._truthy = array("q"), array("B"), array("B")

    def add(self, entry: Entry, full: bytes | None = None) -> None:
        """Takes one entry; ``full`` is the whole entity, compressed, where that is kept."""
        row = len(self._keys)
        if entry.labels or entry.aliases:
            self._names.add(row, entry.labels, entry.aliases)
        if entry.edges:
            for number, target, rank, truthy in entry.edges:
                self._rows.append(row)
                self._edge_properties.append(number)
                self._objects.append(target)
                self._ranks.append(rank)
                self._truthy.append(truthy)
        self._keys.append(entry.key)
        self._revisions.append(entry.revision)
        self._sitelinks.append(entry.sitelinks)
        self._flags += entry.flags.to_bytes(self._flag_bytes, "little")
        self._values.append(entry.value)
        self.bytes += len(entry.value)
        if full is not None:
            self._full.append(full)
            self.bytes += len(full)
        if self.bytes >= RUN_BYTES:
            self.write()

    def write(self) -> None:
        """Sorts what was added, keeps the winner of a repeated id, writes and forgets it."""
        if not self._keys:
            return
        keys = np.frombuffer(self._keys, np.uint64)
        revisions = np.frombuffer(self._revisions, np.int64)
        order = winners(keys, revisions)
        self.repeated += len(keys) - len(order)
        new_row = np.full(len(keys), -1, np.int64)
        new_row[order] = np.arange(len(order))
        columns = [
            pa.array(keys[order]),
            pa.array(revisions[order]),
            pa.array(np.frombuffer(self._sitelinks, np.int32)[order]),
            pa.FixedSizeBinaryArray.from_buffers(
                self._schema.field("flags").type, len(keys), [None, pa.py_buffer(self._flags)]
            ).take(pa.array(order)),
            self._values.as_array(pa.large_binary()).take(pa.array(order)),
        ]
        if self._full:
            columns.append(self._full.as_array(pa.large_binary()).take(pa.array(order)))
        name = f"run-{self.runs:04d}"
        records = pa.record_batch(columns, schema=self._schema)
        write_batch(self.directory / f"{name}.arrow", records)
        write_batch(self.directory / f"{name}.edges.arrow", self._edges(new_row))
        names = self.directory / f"{name}.names.arrow"
        self._names.write(names, new_row, numeric_ids(keys[order]), columns[2].to_numpy())
        self.runs += 1
        self._clear()

    def _edges(self, new_row: npt.NDArray[np.int64]) -> pa.RecordBatch:
        rows = new_row[np.frombuffer(self._rows, np.uint32)]
        order = np.argsort(rows, kind="stable")
        order = order[np.searchsorted(rows[order], 0) :]  # rows of beaten records are -1
        columns = [
            pa.array(rows[order].astype(np.uint32)),
            pa.array(np.frombuffer(self._edge_properties, np.uint16)[order]),
            pa.array(np.frombuffer(self._objects, np.int64)[order]),
            pa.array(np.frombuffer(self._ranks, np.uint8)[order]),
            pa.array(np.frombuffer(self._truthy, np.uint8)[order].astype(bool)),
        ]
        return pa.record_batch(columns, schema=EDGE_SCHEMA)


def winners(keys: npt.NDArray[np.uint64], revisions: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Positions in key order; of equal keys the highest revision's, then the later position's."""
    order = np.lexsort((revisions, keys))
    last = np.ones(len(order), bool)
    last[:-1] = keys[order[:-1]] != keys[order[1:]]
    return order[last]


def read_report(directory: Path, index: int) -> SliceReport | None:
    """The report of a finished slice, None for one that is to be read (again)."""
    return report_of(directory, index, SliceReport)


def read_slice(job: SliceJob, tick: Tick) -> SliceReport:
    """Reads one slice and leaves its runs and report in place; the task of the ingest.

    Raises OSError where the disk is full, UserError where a dump can't be reached.
    """
    return read_into(job, lambda directory: _EntityTaker(directory, job), tick)


class _EntityTaker:
    """Makes runs of the items and properties of a slice."""

    def __init__(self, directory: Path, job: SliceJob) -> None:
        self.report = SliceReport()
        self._builder = RunBuilder(directory, job.kept)
        self._read = EntityReader(job.kept).read
        self._known, self._compress = _known(job), _compress(job)
        self._unchanged = array("Q")
        self._limit = job.limit

    def take(self, text: Line) -> bool:
        """Takes an item or property, or counts what else it is; True at the limit."""
        report = self.report
        key = None if self._known is None else self._known(text)
        if key is None:
            entry = self._read(text)
            if isinstance(entry, OtherEntity):
                report.add_other(entry.type[:40])
                return False
            key = entry.key
            self._builder.add(entry, self._compress(text) if self._compress else None)
        else:
            self._unchanged.append(key)
        if key >= FIRST_ITEM:
            report.items += 1
        else:
            report.properties += 1
        return report.items + report.properties == self._limit

    def finish(self) -> None:
        """Writes the last run, and the keys of the lines that the older store has."""
        builder, report = self._builder, self.report
        if self._known is not None:
            report.unchanged = len(self._unchanged)
            _write_unchanged(builder.directory, self._unchanged)
        builder.write()
        report.runs, report.repeated = builder.runs, builder.repeated


def _known(job: SliceJob) -> Callable[[Line], int | None] | None:
    """Tells the key of a line that the older store has, where there is an older store."""
    if not job.known:
        return None
    from etl.update import Known  # what most runs don't need

    return Known(Path(job.known)).unchanged


def _compress(job: SliceJob) -> Callable[[Line], bytes] | None:
    """Compresses whole entities, where they are kept."""
    if not job.kept.full:
        return None
    from etl.full import Compressor  # what most runs don't need

    compressor = Compressor(job.dictionary)

    def compress(text: Line) -> bytes:
        try:
            str(text, "utf-8")  # of what isn't kept in records nobody has looked at the bytes
        except UnicodeDecodeError as error:
            raise RejectedLineError(f"not valid JSON: {error}") from None
        return compressor.compress(text)

    return compress


def _write_unchanged(directory: Path, keys: array[int]) -> None:
    """Sorted keys of lines that the older store has, with repeats."""
    column = pa.array(np.sort(np.frombuffer(keys, np.uint64)))
    write_batch(directory / UNCHANGED, pa.record_batch({"key": column}))
