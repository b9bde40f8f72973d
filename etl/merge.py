"""Sorted runs → LMDB, nodes.parquet and edges/<P>.parquet, in key order and in one pass.

Runs are read key range by key range, a batch from all of them at a time, and sorted with numpy;
LMDB gets ascending keys with ``append``, which fills its pages from left to right and is six to
twenty times faster than random order. Nothing here depends on how the dump was cut.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.arrow import map_batch
from etl.digest import StreamDigest
from etl.entity import rank_names
from etl.errors import UserError
from etl.kept import Kept
from etl.lanes import Lanes
from etl.progress import Tick
from etl.runs import numeric_ids, winners
from etl.store import DICTIONARY, databases_of, open_database, open_environment
from etl.tables import TRUTHY_ROWS, TableWriter
from etl.update import OldRun, Taken

#: Records that are sorted and written together; bounds memory, leaves no trace in the output.
BATCH_RECORDS: Final = 50_000
BATCH_BYTES: Final = 32 << 20  # of runs in a batch, about
UPDATE: Final = ("unchanged", "changed", "added", "gone")  # what is counted of an older store
_OTHER_FILES = 100  # nodes.parquet, LMDB, libraries
_SAMPLE = 64  # every how many-th key tells how the keys are spread

EDGES: Final = pa.schema(
    [
        ("subject", pa.int64()),
        ("object", pa.int64()),
        ("rank", pa.dictionary(pa.int8(), pa.string())),
        ("truthy", pa.bool_()),
    ]
)

#: Columns that are written with a dictionary. Ids and revisions hardly repeat: theirs would double
#: the files and take a seventh of the merge.
REPEATED_IN_NODES: Final = ["sitelinks"]
REPEATED_IN_EDGES: Final = ["object", "rank"]


class Part(NamedTuple):
    """What one source has of a key range: records, their edges, and which row its first is."""

    records: pa.RecordBatch
    edges: pa.RecordBatch
    first: int


class _Run:
    """Two memory-mapped Arrow files; columns are read without copying."""

    def __init__(self, records: Path) -> None:
        self.records = map_batch(records)
        self.edges = map_batch(records.with_suffix(".edges.arrow"))
        self.keys: npt.NDArray[np.uint64] = self.records["key"].to_numpy()

    def cut(self, bounds: npt.NDArray[np.uint64]) -> None:
        """Finds all ``bounds`` at once: a search a batch would cost as much as the sorting."""
        rows = np.searchsorted(self.keys, bounds).astype(np.uint32)
        self._rows = rows
        self._edge_rows = np.searchsorted(self.edges["row"].to_numpy(), rows).astype(np.uint32)

    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of the records from every _SAMPLE-th one to the next."""
        rows = np.append(np.arange(0, len(self.keys), _SAMPLE), len(self.keys))
        columns = [self.records[n] for n in ("value", "full") if n in self.records.schema.names]
        ends = [np.frombuffer(column.buffers()[1], np.int64)[rows] for column in columns]
        found: npt.NDArray[np.int64] = np.diff(np.sum(ends, axis=0))
        return found

    def part(self, n: int) -> Part | None:
        """What lies between the bounds ``n`` and ``n + 1``."""
        first, last = int(self._rows[n]), int(self._rows[n + 1])
        if first == last:
            return None
        begin, end = int(self._edge_rows[n]), int(self._edge_rows[n + 1])
        return Part(
            self.records.slice(first, last - first), self.edges.slice(begin, end - begin), first
        )


def merge(
    runs: list[Path],
    out: Path,
    kept: Kept,
    tick: Tick,
    *,
    old: OldRun | None = None,
    dictionary: bytes = b"",
) -> dict[str, Any]:
    """Writes data.mdb, nodes.parquet and edges/ into ``out`` (fresh); returns the counts.

    ``runs`` are the record files in the order of the dump: of two records of an id with the same
    revision the later wins, and what was read wins over what stands in ``old``, the part of an
    older store that the dump still has. ``dictionary`` is what whole entities were compressed
    with, and is put beside them. ``tick`` is called with the number of lines merged.

    Raises OSError or lmdb.Error where the disk is full, UserError where the system allows too
    few open files or the older store can't be read.
    """
    if old is None:
        allow_open_files(len(runs), len(kept.properties))
    else:  # its edges are open too, and the keys of every slice
        allow_open_files(len(runs) + len(old.keys), 2 * len(kept.properties))
    opened = [_Run(path) for path in runs]
    digests = [StreamDigest() for _ in databases_of(kept)]
    counts: Counter[str] = Counter()
    (out / "edges").mkdir(parents=True)
    edges = _EdgeFiles(out / "edges", tuple(kept.properties))
    expected = sum(path.stat().st_size for path in runs) + (old.taken_bytes if old else 0)
    with (
        _Loader(out, databases_of(kept), expected) as loader,
        TableWriter(out / "nodes.parquet", node_schema(kept), repeated=REPEATED_IN_NODES) as nodes,
        Lanes(
            [
                lambda batch: _digest(batch, digests),
                lambda batch: nodes.write(_nodes(batch, kept)),
                edges.write,
            ]
        ) as lanes,
    ):
        for batch in _batches(opened, old):
            lanes.hand(batch)
            loader.put(batch)
            counts.update(batch.counts)
            tick(len(batch.keys) + batch.counts["repeated"])
    contents = digests[0].as_json()
    if kept.full:
        contents["full"] = digests[1].as_json()
        (out / DICTIONARY).write_bytes(dictionary)
    built: dict[str, Any] = {"contents": contents, "edges": edges.close()}
    for name in ("repeated", "properties", "record_bytes"):
        built[name] = counts[name]
    if old is not None:
        built["update"] = {name: counts[name] for name in UPDATE}
    return built


def allow_open_files(runs: int, properties: int) -> None:
    """Raises the soft limit of open files: a run has two, some 2,400 at the size of Wikidata.

    A property may have two as well, while its edges are written.

    Raises UserError where the hard limit is too low.
    """
    needed = 2 * runs + 2 * properties + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"the merge needs {needed:,} open files and this system allows {hard:,}: raise the "
            "hard limit (ulimit -Hn, nofile in limits.conf) and run the same command again."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def node_schema(kept: Kept) -> pa.Schema:
    """Columns of nodes.parquet: id, sitelinks, revision, then a flag per language and property."""
    flags = [f"label_{code}" for code in kept.languages] + list(kept.properties)
    return pa.schema(
        [
            ("id", pa.int64()),
            ("sitelinks", pa.int32()),
            ("revision", pa.int64()),
            *[(flag, pa.bool_()) for flag in flags],
        ]
    )


def _batches(runs: list[_Run], old: OldRun | None) -> Iterator[_Batch]:
    """The records of all sources, key range by key range."""
    bounds = _bounds(runs, old)
    for run in runs:
        run.cut(bounds)
    for n in range(len(bounds) - 1):
        parts = [part for run in runs if (part := run.part(n)) is not None]
        taken = old.take(int(bounds[n]), int(bounds[n + 1])) if old else None
        if parts or taken:
            yield _Batch(parts, taken)


def _bounds(runs: list[_Run], old: OldRun | None) -> npt.NDArray[np.uint64]:
    """Bounds of half-open key ranges that cover all and hold about a batch each.

    Bytes are counted where they are: the oldest items, of the lowest numbers, are the longest.
    """
    ends = np.array([0, 1 << 63], np.uint64)  # uint64 throughout: with int64 they'd be floats
    keys, sizes = [ends[:0]], [np.zeros(0, np.int64)]
    for run in runs:
        keys.append(run.keys[::_SAMPLE])
        sizes.append(run.sizes())
    if old is not None:
        mean = old.taken_bytes // max(old.lines, 1)
        for unchanged in old.keys:
            keys.append(unchanged[::_SAMPLE])
            sizes.append(np.full(len(keys[-1]), mean * _SAMPLE))
    sample = np.concatenate(keys)
    order = np.argsort(sample, kind="stable")
    shares = np.maximum(np.concatenate(sizes) / BATCH_BYTES, _SAMPLE / BATCH_RECORDS)[order]
    sample = sample[order]
    inner = np.unique(sample[1:][np.diff(np.cumsum(shares) // 1) > 0])
    return np.concatenate([ends[:1], inner[inner > sample[:1]], ends[1:]])


class _Batch:
    """The records of one key range, sorted, each id once; and their edges."""

    def __init__(self, parts: list[Part], taken: Taken | None) -> None:
        if taken is not None:  # first: of equal revisions the later part's wins
            parts = [Part(taken.records, taken.edges, 0), *parts]
        shifts, shift = [], 0
        for part in parts:
            shifts.append(np.full(len(part.edges), shift - part.first, np.int64))
            shift += len(part.records)
        table = pa.Table.from_batches([part.records for part in parts])
        keys = table["key"].to_numpy()
        order = winners(keys, table["revision"].to_numpy())
        self.table = table.take(pa.array(order)).combine_chunks()
        self.keys: npt.NDArray[np.uint64] = keys[order]
        self.columns = [
            Values(self.table[name].combine_chunks())
            for name in ("value", "full")
            if name in self.table.column_names
        ]
        self.counts = {
            "repeated": len(keys) - len(order),
            "properties": int(np.count_nonzero(numeric_ids(self.keys) < 0)),
            "record_bytes": len(self.columns[0].joined),
        }
        if taken is not None:
            self._compare(taken, order)
        self._sort_edges([part.edges for part in parts], shifts, order, len(keys))

    def _compare(self, taken: Taken, order: npt.NDArray[np.intp]) -> None:
        """Counts what became of an older store's records."""
        unchanged = int(np.count_nonzero(order < len(taken.records)))
        still = len(np.intersect1d(self.keys, taken.had, assume_unique=True))
        self.counts["repeated"] += taken.lines - len(taken.records)
        self.counts |= {
            "unchanged": unchanged,
            "changed": still - unchanged,
            "added": len(self.keys) - still,
            "gone": len(taken.had) - still,
        }

    def _sort_edges(
        self,
        parts: list[pa.RecordBatch],
        shifts: list[npt.NDArray[np.int64]],
        order: npt.NDArray[np.intp],
        records: int,
    ) -> None:
        table = pa.Table.from_batches(parts)
        new_row = np.full(records, -1, np.int64)
        new_row[order] = np.arange(len(order))
        rows = new_row[table["row"].to_numpy().astype(np.int64) + np.concatenate(shifts)]
        properties = table["property"].to_numpy().astype(np.int64)
        edge_order = np.argsort((properties << 32) | rows, kind="stable")
        edge_order = edge_order[rows[edge_order] >= 0]
        self.edge_rows = rows[edge_order]
        self.edge_properties = properties[edge_order]
        self.edges = table.take(pa.array(edge_order))


class Values:
    """A column of bytes, looked at without a copy."""

    def __init__(self, array: pa.LargeBinaryArray) -> None:
        self.array = array
        offsets = np.frombuffer(array.buffers()[1], np.int64)
        offsets = offsets[array.offset : array.offset + len(array) + 1]
        self.lengths = np.diff(offsets).astype(np.uint32)
        self.joined = memoryview(array.buffers()[2])[offsets[0] : offsets[-1]]


def _digest(batch: _Batch, digests: list[StreamDigest]) -> None:
    for digest, column in zip(digests, batch.columns, strict=True):
        digest.add(batch.keys, column.lengths, column.joined)


def _nodes(batch: _Batch, kept: Kept) -> pa.Table:
    schema = node_schema(kept)
    flags = batch.table["flags"].combine_chunks()
    width = flags.type.byte_width
    bits = np.frombuffer(flags.buffers()[1], np.uint8, len(flags) * width, flags.offset * width)
    columns = np.unpackbits(bits.reshape(-1, width), axis=1, bitorder="little").astype(bool)
    return pa.table(
        [
            pa.array(numeric_ids(batch.keys)),
            batch.table["sitelinks"],
            batch.table["revision"],
            *[pa.array(columns[:, n]) for n in range(len(schema) - 3)],
        ],
        schema=schema,
    )


class _Loader:
    """LMDB filled in ascending key order, a transaction per batch; a full map is grown."""

    def __init__(self, directory: Path, databases: list[bytes], expected_bytes: int) -> None:
        self._environment = open_environment(directory, map_size=expected_bytes * 2 + (64 << 20))
        self._databases = [
            open_database(self._environment, name, create=True) for name in databases
        ]

    def put(self, batch: _Batch) -> None:
        """Appends the records of a batch, whose keys are above all that came before."""
        keys = batch.keys.astype(">u8").view("V8").tolist()
        # bytes, though views wouldn't copy: the garbage collector counts every view
        columns = [column.array.to_pylist() for column in batch.columns]
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for database, values in zip(self._databases, columns, strict=True):
                        pairs = zip(keys, values, strict=True)
                        consumed, _ = transaction.cursor(database).putmulti(pairs, append=True)
                        assert consumed == len(keys), "keys do not ascend"
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)

    def __enter__(self) -> _Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._environment.sync(True)
        finally:
            self._environment.close()


class _EdgeFiles:
    """One file per property: truthy rows as they come, the others kept aside until the end."""

    def __init__(self, directory: Path, properties: tuple[str, ...]) -> None:
        self._directory = directory
        self._properties = properties
        self._files: dict[int, tuple[TableWriter, TableWriter]] = {}
        self._ranks = pa.array(rank_names())

    def write(self, batch: _Batch) -> None:
        present, starts = np.unique(batch.edge_properties, return_index=True)
        stops = np.append(starts, len(batch.edge_properties))[1:]
        subjects = numeric_ids(batch.keys)[batch.edge_rows]
        for number, start, stop in zip(present, starts, stops, strict=True):
            edges = batch.edges.slice(start, stop - start)
            ranks = pa.DictionaryArray.from_arrays(
                edges["rank"].combine_chunks().cast(pa.int8()), self._ranks
            )
            truthy = edges["truthy"].combine_chunks()
            table = pa.table(
                [pa.array(subjects[start:stop]), edges["object"].combine_chunks(), ranks, truthy],
                schema=EDGES,
            )
            best, rest = self._writers(int(number))
            best.write(table.filter(truthy))
            rest.write(table.filter(pc.invert(truthy)))

    def _writers(self, number: int) -> tuple[TableWriter, TableWriter]:
        if number not in self._files:
            name = self._properties[number]
            self._files[number] = (
                TableWriter(self._directory / f"{name}.parquet", EDGES, repeated=REPEATED_IN_EDGES),
                TableWriter(self._directory / f"{name}.rest", EDGES, repeated=REPEATED_IN_EDGES),
            )
        return self._files[number]

    def close(self) -> dict[str, int]:
        """Appends what was kept aside; property → number of rows."""
        counts = {}
        for number, (best, rest) in sorted(self._files.items()):
            name = self._properties[number]
            rest.close()
            aside = self._directory / f"{name}.rest"
            truthy_rows = best.rows
            for group in pq.ParquetFile(aside).iter_batches():
                best.write(pa.Table.from_batches([group]).cast(EDGES))
            aside.unlink()
            best.close(metadata={TRUTHY_ROWS: str(truthy_rows)})
            counts[name] = best.rows
        return counts
