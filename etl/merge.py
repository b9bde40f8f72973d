"""Sorted runs → LMDB, nodes.parquet and edges/<P>.parquet, in key order and in one pass.

Runs are read key range by key range, a batch from all of them at a time, and sorted with numpy;
LMDB gets ascending keys with ``append``, which fills its pages from left to right and is six to
twenty times faster than random order. Nothing here depends on how the dump was cut.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import lmdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import rank_names
from etl.errors import UserError
from etl.kept import Kept
from etl.runs import numeric_ids, winners
from etl.store import StreamDigest, open_entities, open_environment
from etl.tables import TRUTHY_ROWS, TableWriter

#: Records that are sorted and written together; bounds memory, leaves no trace in the output.
BATCH_RECORDS: Final = 100_000
_OTHER_FILES = 100  # nodes.parquet, LMDB, libraries
_SAMPLE = 256  # every how many-th key tells how the keys are spread

EDGES: Final = pa.schema(
    [
        ("subject", pa.int64()),
        ("object", pa.int64()),
        ("rank", pa.dictionary(pa.int8(), pa.string())),
        ("truthy", pa.bool_()),
    ]
)


class _Run:
    """Two memory-mapped Arrow files; columns are read without copying."""

    def __init__(self, records: Path) -> None:
        self.records = _map_batch(records)
        self.edges = _map_batch(records.with_suffix(".edges.arrow"))
        self.keys: npt.NDArray[np.uint64] = self.records["key"].to_numpy()
        self.rows: npt.NDArray[np.uint32] = self.edges["row"].to_numpy()


def _map_batch(path: Path) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def merge(runs: list[Path], out: Path, kept: Kept, tick: Callable[[int], None]) -> dict[str, Any]:
    """Writes data.mdb, nodes.parquet and edges/ into ``out`` (fresh); returns the counts.

    ``runs`` are the record files in the order of the dump: of two records of an id with the same
    revision the later wins. ``tick`` is called with the number of records merged.

    Raises OSError or lmdb.Error where the disk is full, UserError where the system allows too
    few open files.
    """
    allow_open_files(len(runs), len(kept.properties))
    opened = [_Run(path) for path in runs]
    digest = StreamDigest()
    repeated = properties = 0
    (out / "edges").mkdir(parents=True)
    edges = _EdgeFiles(out / "edges", tuple(kept.properties))
    with (
        _Loader(out, sum(path.stat().st_size for path in runs)) as loader,
        TableWriter(out / "nodes.parquet", node_schema(kept)) as nodes,
    ):
        for low, high in _ranges([run.keys for run in opened]):
            batch = _Batch(opened, low, high)
            keys, lengths = batch.keys, batch.lengths
            digest.add(keys, lengths, batch.value_bytes)
            loader.put(keys, batch.values)
            nodes.write(_nodes(batch, kept))
            edges.write(batch)
            repeated += batch.repeated
            properties += int(np.count_nonzero(numeric_ids(keys) < 0))
            tick(len(keys) + batch.repeated)
    return {
        "contents": digest.as_json(),
        "repeated": repeated,
        "properties": properties,
        "edges": edges.close(),
    }


def allow_open_files(runs: int, properties: int) -> None:
    """Raises the soft limit of open files: a run has two, some 1,200 at the size of Wikidata.

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


def _ranges(keys: list[npt.NDArray[np.uint64]]) -> Iterator[tuple[int, int]]:
    """Half-open key ranges that hold about BATCH_RECORDS keys each, in order, covering all."""
    if not keys:
        return
    sample = np.sort(np.concatenate([k[::_SAMPLE] for k in keys]))
    bounds = np.unique(sample[:: max(1, BATCH_RECORDS // _SAMPLE)])
    low = 0
    for bound in bounds[1:]:
        yield low, int(bound)
        low = int(bound)
    yield low, 1 << 63


class _Batch:
    """The records of one key range, sorted, each id once; and their edges."""

    def __init__(self, runs: list[_Run], low: int, high: int) -> None:
        parts, edge_parts, shifts, shift = [], [], [], 0
        for run in runs:
            begin, end = np.searchsorted(run.keys, np.array([low, high], np.uint64))
            if begin == end:
                continue
            parts.append(run.records.slice(begin, end - begin))
            first, last = np.searchsorted(run.rows, np.array([begin, end], np.int64))
            edge_parts.append(run.edges.slice(first, last - first))
            shifts.append(np.full(last - first, shift - begin, np.int64))
            shift += end - begin
        table = pa.Table.from_batches(parts)
        keys = table["key"].to_numpy()
        order = winners(keys, table["revision"].to_numpy())
        self.repeated = len(keys) - len(order)
        self.table = table.take(pa.array(order)).combine_chunks()
        self.keys: npt.NDArray[np.uint64] = keys[order]
        self.values: pa.LargeBinaryArray = self.table["value"].combine_chunks()
        self._sort_edges(edge_parts, shifts, order, len(keys))

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

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """Bytes of each value."""
        return np.diff(self._offsets).astype(np.uint32)

    @property
    def value_bytes(self) -> memoryview:
        """The values, joined, without a copy."""
        offsets = self._offsets
        return memoryview(self.values.buffers()[2])[offsets[0] : offsets[-1]]

    @property
    def _offsets(self) -> npt.NDArray[np.int64]:
        offsets = np.frombuffer(self.values.buffers()[1], np.int64)
        return offsets[self.values.offset : self.values.offset + len(self.values) + 1]


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

    def __init__(self, directory: Path, expected_bytes: int) -> None:
        self._environment = open_environment(directory, map_size=expected_bytes * 2 + (64 << 20))
        self._database = open_entities(self._environment, create=True)

    def put(self, keys: npt.NDArray[np.uint64], values: pa.LargeBinaryArray) -> None:
        names = keys.astype(">u8").tobytes()
        pairs = [
            (names[at : at + 8], value)
            for at, value in zip(range(0, len(names), 8), values.to_pylist(), strict=True)
        ]
        while True:
            try:
                with self._environment.begin(write=True, db=self._database) as transaction:
                    consumed, _ = transaction.cursor().putmulti(pairs, append=True)
                assert consumed == len(pairs), "keys do not ascend"
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
                TableWriter(self._directory / f"{name}.parquet", EDGES),
                TableWriter(self._directory / f"{name}.rest", EDGES),
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
