"""One slice → sorted runs: the worker's half of the ingest.

A run is three Arrow files: records sorted by key, their edges sorted by record, their names sorted
as they are looked up. A slice's runs and its report stand in one directory that is renamed into
place when all of it is written, so a slice is done if and only if its directory is there. A run is
closed at :data:`RUN_BYTES` of records, which bounds the memory of a worker whatever its slice.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.arrow import Joined, write_batch
from etl.dump import STDIN, Damage, Extent, Reject, Slice
from etl.entity import FIRST_ITEM, OtherEntity, RejectedLineError
from etl.kept import Kept
from etl.lines import Line, SliceReader, entity_text
from etl.manifest import discard, flush
from etl.names import NameRows
from etl.progress import Tick
from etl.reader import EntityReader, Entry
from etl.source import Access, keep_slice, open_source

#: Bytes of records after which a run is written; with all else a worker holds 270 MB then.
RUN_BYTES: Final = 20 << 20

REPORT: Final = "report.json"
UNCHANGED: Final = "unchanged.arrow"
_FRAME = (b"[", b"]")  # lines that hold no entity
_OPENS = ord("[")
_QUARANTINED = 4096  # characters of a rejected line that rejects.ndjson shows
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


class SliceReport(msgspec.Struct):
    """What a slice held; written beside its runs.

    ``part`` is the id of the kept file (:mod:`etl.keep`) in which all of its bytes are.
    """

    extent: Extent
    damage: list[Damage] = []
    rejects: list[Reject] = []
    rejected: int = 0
    items: int = 0
    properties: int = 0
    unchanged: int = 0  # of items and properties: not parsed, the older store has them
    others: dict[str, int] = {}
    repeated: int = 0
    opens: int = 0
    closes: int = 0
    runs: int = 0
    part: str = ""


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


def slice_directory(directory: Path, index: int) -> Path:
    """Where the runs of slice ``index`` stand once they are complete."""
    return directory / f"{index:06d}"


def read_report(directory: Path, index: int) -> SliceReport | None:
    """The report of a finished slice, None for one that is to be read (again)."""
    try:
        data = (slice_directory(directory, index) / REPORT).read_bytes()
        report = msgspec.json.decode(data, type=SliceReport)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    # given up at a lower --max-rejects: the lines beyond it were counted and not kept
    return report if report.rejected == len(report.rejects) else None


def read_slice(job: SliceJob, tick: Tick) -> SliceReport:
    """Reads one slice and leaves its runs and report in place; the task of the ingest.

    Of unreadable lines it keeps ``max_rejects`` + 1, enough to refuse the dump, and counts all.

    Raises OSError where the disk is full, UserError where a dump can't be reached.
    """
    directory = Path(job.directory)
    temporary = directory / f"tmp-{job.slice.index:06d}-{os.getpid()}"
    corrupt: list[Damage] = []
    try:
        with _opened(job) as source:
            while True:
                temporary.mkdir(parents=True)
                builder = RunBuilder(temporary, job.kept)
                report = _read_lines(job, source, builder, tick, corrupt)
                found = [damage for damage in report.damage if damage.corrupt]
                if len(found) == len(corrupt):
                    break
                # what their members gave before the checksum failed is not to be kept
                corrupt = found
                shutil.rmtree(temporary)
            slice_ = job.slice
            report.part = keep_slice(source, slice_.path, slice_.start, slice_.end, job.access)
        builder.write()
        report.runs, report.repeated = builder.runs, builder.repeated
        (temporary / REPORT).write_bytes(msgspec.json.encode(report))
        flush(temporary, [path.name for path in temporary.iterdir()])
        final = slice_directory(directory, job.slice.index)
        discard(final)  # of a start that turned out wrong
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return report


def _opened(job: SliceJob) -> AbstractContextManager[IO[bytes] | None]:
    """The dump of a slice; standard input is open already."""
    path = job.slice.path
    return nullcontext() if path == STDIN else open_source(path, job.access, job.slice.end)


def _read_lines(
    job: SliceJob,
    source: IO[bytes] | None,
    builder: RunBuilder,
    tick: Tick,
    corrupt: list[Damage],
) -> SliceReport:
    lines = SliceReader(job.slice, job.max_line, tick, corrupt, source)
    read = EntityReader(job.kept).read
    known, compress = _known(job), _compress(job)
    unchanged = array("Q")
    report = SliceReport(lines.extent)
    others: Counter[str] = Counter()
    for offset, number, line in lines:
        text = entity_text(line)
        if len(text) == 0 or text in _FRAME:
            report.opens += text == b"["
            report.closes += text == b"]"
            continue
        try:
            text = _without_bracket(text, report)
            key = None if known is None else known(text)
            if key is None:
                entry = read(text)
                if isinstance(entry, OtherEntity):
                    others[entry.type[:40]] += 1
                    continue
                key = entry.key
                builder.add(entry, compress(text) if compress else None)
            else:
                unchanged.append(key)
        except RejectedLineError as error:
            report.rejected += 1
            if report.rejected <= job.max_rejects + 1:
                shown = bytes(line[:_QUARANTINED]).decode("utf-8", "replace")
                report.rejects.append(Reject(offset, number, len(line), str(error), shown))
            continue
        if key >= FIRST_ITEM:
            report.items += 1
        else:
            report.properties += 1
        if report.items + report.properties == job.limit:
            break
    if known is not None:
        report.unchanged = len(unchanged)
        _write_unchanged(builder.directory, unchanged)
    report.extent, report.damage = lines.extent, lines.damage
    report.others = dict(sorted(others.items()))
    report.rejects = sorted([*report.rejects, *lines.long_lines], key=lambda r: r.offset)
    report.rejected += len(lines.long_lines)
    return report


def _without_bracket(text: Line, report: SliceReport) -> Line:
    """Some dumps put the array's brackets on the first and last entity's lines."""
    if text[0] == _OPENS:
        report.opens += 1
        text = entity_text(text[1:])
    if text[-1:] == b"]" and text[:1] == b"{":
        report.closes += 1
        text = entity_text(text[:-1])
    return text
