"""Names of sorted runs → names.parquet, in the order of the folded names and in one pass.

It needs nothing of the records' merge and runs beside it. Two things are bounded in memory,
whatever the dump: which records lost against a newer one of their id is found by ranges of keys,
and the names are merged by ranges of names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.arrow import map_batch
from etl.errors import UserError
from etl.merge import allow_open_files
from etl.names import KINDS, NAMES, NAMES_SCHEMA, RUN_SCHEMA, sorted_names
from etl.progress import Tick
from etl.runs import numeric_ids, winners
from etl.tables import TableWriter
from etl.update import keys_of

#: Bytes of names that are sorted and written together, of which memory holds six times as much,
#: and keys that are compared together. They leave no trace in the output.
BATCH_BYTES: Final = 32 << 20
BATCH_KEYS: Final = 500_000
_SAMPLE = 1024  # every how many-th name or key tells how they are spread
_ROW_BYTES = 60  # of a name, beside the name

#: Rows per row group: a lookup reads one or two, a footer lists them all (docs/performance.md).
NAME_GROUP: Final = 1 << 15

#: Names hardly repeat within a row group; looking for repeats would cost a third of the writing.
_REPEATED = ["languages.list.element", "kind", "sitelinks"]

#: What a name is placed by: its folded form, sitelinks (negated) and id.
_Place = tuple[bytes, int, int]
_FIRST = -(1 << 63)  # before every number that a place has


class NamesJob(msgspec.Struct, frozen=True):
    """What the merge of names needs.

    ``runs`` are the record files in the order of the dump, with their names beside them; ``old``
    is the store of ``--update-from``, "" for none, ``unchanged`` the files of the keys that the
    dump has as that store has them.
    """

    runs: tuple[str, ...]
    out: str
    languages: tuple[str, ...]
    old: str = ""
    unchanged: tuple[str, ...] = ()


def merge_names(job: NamesJob, tick: Tick) -> int:
    """Writes names.parquet into ``job.out``, returns its rows; ``tick`` is told of them.

    Of the names of an id those of its highest revision stay, of equal ones the last in the dump.

    Raises OSError where the disk is full, UserError where too few files may be open or the older
    store can't be read.
    """
    allow_open_files(len(job.runs), 0)
    lost, stayed = _contest(job)
    sources: list[_Source] = [
        _Run(Path(run).with_suffix(".names.arrow"), lost.get(n)) for n, run in enumerate(job.runs)
    ]
    if job.old:
        sources.append(_OldNames(Path(job.old), job.languages, stayed))
    writer = TableWriter(
        Path(job.out) / NAMES, NAMES_SCHEMA, row_group=NAME_GROUP, repeated=_REPEATED
    )
    codes, kinds = pa.array(job.languages, pa.string()), pa.array(KINDS)
    with writer:
        for bound in [*_bounds(sources), None]:
            parts = [part for source in sources for part in source.until(bound) if len(part)]
            if parts:
                names = sorted_names(_joined(parts))
                writer.write(_as_table(names, codes, kinds))
                tick(len(names))
    return writer.rows


def _as_table(batch: pa.RecordBatch, codes: pa.Array, kinds: pa.Array) -> pa.Table:
    lists = batch["languages"]
    languages = pa.ListArray.from_arrays(lists.offsets, codes.take(lists.values))
    kind = pa.DictionaryArray.from_arrays(batch["alias"].cast(pa.int8()), kinds)
    columns = [batch["folded"], batch["name"], batch["id"], languages, kind, batch["sitelinks"]]
    return pa.table(columns, schema=NAMES_SCHEMA)


# --- the sources of names -----------------------------------------------------------------------


class _Run:
    """The names of a run, in order, without those of the records that lost."""

    def __init__(self, path: Path, lost: npt.NDArray[np.bool_] | None) -> None:
        self._batch = map_batch(path)
        self._lost = lost
        self._read = 0

    def sample(self) -> list[_Place]:
        return _places(self._batch.take(pa.array(np.arange(0, len(self._batch), _SAMPLE))))

    def until(self, bound: _Place | None) -> list[pa.RecordBatch]:
        """What wasn't handed out yet and stands before ``bound``."""
        end = _position(self._batch, bound, self._read)
        part = self._batch.slice(self._read, end - self._read)
        self._read = end
        if self._lost is None:
            return [part]
        return [part.filter(pa.array(~self._lost[part["row"].to_numpy()]))]


class _OldNames:
    """The names that another store has of the entities that stayed as they were."""

    def __init__(self, store: Path, languages: Sequence[str], stayed: _Ids) -> None:
        self._store = store
        with _readable(store):
            self._file = pq.ParquetFile(store / NAMES)
        self._languages = pa.array(languages, pa.string())
        self._stayed = stayed
        self._group = 0
        self._waiting = _joined([])

    def sample(self) -> list[_Place]:
        found: list[_Place] = []
        for n in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(n)
            names = group.column(0).statistics
            if names.min != names.max:
                found += [(names.min.encode(), _FIRST, _FIRST)] * (group.num_rows // _SAMPLE)
            else:
                with _readable(self._store):
                    rows = self._file.read_row_group(n, ["folded", "sitelinks", "id"])
                found += _places(rows.take(pa.array(np.arange(0, len(rows), _SAMPLE))))
        return found

    def until(self, bound: _Place | None) -> list[pa.RecordBatch]:
        parts = []
        while self._group < self._file.num_row_groups:
            end = _position(self._waiting, bound)
            if end < len(self._waiting):
                break
            parts.append(self._waiting)
            self._waiting = self._next()
        end = _position(self._waiting, bound)
        parts.append(self._waiting.slice(0, end))
        self._waiting = self._waiting.slice(end)
        return parts

    def _next(self) -> pa.RecordBatch:
        with _readable(self._store):
            rows = self._file.read_row_group(self._group).combine_chunks()
        self._group += 1
        rows = rows.filter(pa.array(self._stayed.have(rows["id"].to_numpy()))).combine_chunks()
        lists = rows["languages"].combine_chunks()
        codes = pc.index_in(lists.values, self._languages).cast(pa.uint16())
        return pa.record_batch(
            [
                _one(rows["folded"]),
                _one(rows["name"]),
                _one(rows["id"]),
                _one(rows["sitelinks"]),
                pa.ListArray.from_arrays(lists.offsets, codes),
                _one(pc.equal(rows["kind"].cast(pa.string()), KINDS[1])),
                pa.nulls(len(rows), pa.uint32()),
            ],
            schema=RUN_SCHEMA,
        )


_Source = _Run | _OldNames


@contextmanager
def _readable(old: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--update-from {old} can't be read ({reason}): see what `sparqless verify {old}` "
            "says, or build without --update-from."
        ) from error


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    batches = pa.Table.from_batches(parts, RUN_SCHEMA).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], RUN_SCHEMA)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _places(rows: pa.RecordBatch | pa.Table) -> list[_Place]:
    names, sitelinks, ids = (rows[c].to_pylist() for c in ("folded", "sitelinks", "id"))
    return [(n.encode(), -s, i) for n, s, i in zip(names, sitelinks, ids, strict=True)]


def _position(batch: pa.RecordBatch, bound: _Place | None, start: int = 0) -> int:
    """How many rows stand before ``bound``, of which ``start`` are known to."""
    if bound is None or start == len(batch):
        return len(batch)
    folded, sitelinks, ids = batch["folded"], batch["sitelinks"], batch["id"]
    # Arrow's scalars would take twice as long, and this is done for every run in every batch
    offsets = memoryview(folded.buffers()[1]).cast("i")[folded.offset :]
    data = memoryview(folded.buffers()[2])

    def name(row: int) -> bytes:
        return bytes(data[offsets[row] : offsets[row + 1]])

    def place(row: int) -> _Place:
        return name(row), -sitelinks[row].as_py(), ids[row].as_py()

    rows = range(len(batch))
    first = bisect_left(rows, bound[0], start, key=name)
    if first == len(batch) or name(first) != bound[0]:
        return first
    return bisect_left(rows, bound, first, key=place)


def _bounds(sources: list[_Source]) -> list[_Place]:
    """Places that cut the names of all sources into pieces of about BATCH_BYTES."""
    sample = sorted(place for source in sources for place in source.sample())
    sizes = [_SAMPLE * (2 * len(folded) + _ROW_BYTES) for folded, _, _ in sample]
    pieces = np.cumsum(np.array(sizes, np.int64)) // BATCH_BYTES
    return sorted({sample[n] for n in np.flatnonzero(np.diff(pieces)) + 1})


# --- which record of an id stays ----------------------------------------------------------------


class _Ids:
    """A set of ids by the hundred million: a bit each for the numbers that Wikidata is at."""

    _DENSE = 1 << 28

    def __init__(self) -> None:
        self._bits = np.zeros(self._DENSE >> 3, np.uint8)
        self._rest: list[npt.NDArray[np.int64]] = []

    def add(self, ids: npt.NDArray[np.int64]) -> None:
        """Adds ids that ascend and are above the near ones that were added before."""
        near = (ids >= 0) & (ids < self._DENSE)
        if not near.all():
            self._rest.append(ids[~near])
        places, bits = ids[near] >> 3, (1 << (ids[near] & 7)).astype(np.uint8)
        if len(places):
            starts = np.flatnonzero(np.diff(places, prepend=-1))
            self._bits[places[starts]] |= np.bitwise_or.reduceat(bits, starts)

    def have(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        near = (ids >= 0) & (ids < self._DENSE)
        numbers = np.where(near, ids, 0)
        found: npt.NDArray[np.bool_] = (self._bits[numbers >> 3] >> (numbers & 7) & 1 == 1) & near
        if not near.all() and self._rest:
            if len(self._rest) > 1:
                self._rest = [np.sort(np.concatenate(self._rest))]
            found[~near] = np.isin(ids[~near], self._rest[0])
        return found


def _contest(job: NamesJob) -> tuple[dict[int, npt.NDArray[np.bool_]], _Ids]:
    """Run → which of its rows lost, for runs that have such; and which ids stayed as they were."""
    lost: dict[int, npt.NDArray[np.bool_]] = {}
    stayed = _Ids()
    if not job.old and len(job.runs) < 2:
        return lost, stayed
    runs = [_Contender(Path(path), "key", "revision") for path in job.runs]
    unchanged = [_Contender(Path(path), "key") for path in job.unchanged]
    bounds = _key_bounds([c.keys for c in (*runs, *unchanged)])
    old = _Revisions(Path(job.old)) if job.old else None
    for contender in (*runs, *unchanged):
        contender.cut(bounds)
    for n, high in enumerate(bounds[1:]):
        kept = _distinct(np.concatenate([c.part(n)[0] for c in unchanged] or [_NO_KEYS]))
        revisions = old.of(kept, high) if old else np.zeros(0, np.int64)
        parts = [c.part(n) for c in runs]
        beaten = _beaten([kept, *(keys for keys, _ in parts)], [revisions, *(r for _, r in parts)])
        for number in np.unique(beaten[0][beaten[0] > 0]) - 1:
            if number not in lost:
                lost[number] = np.zeros(len(runs[number].keys), bool)
            lost[number][runs[number].first(n) + beaten[1][beaten[0] == number + 1]] = True
        stayed.add(numeric_ids(np.delete(kept, beaten[1][beaten[0] == 0])))
    return lost, stayed


_NO_KEYS = np.zeros(0, np.uint64)


class _Contender:
    """Keys of a run, or of what was unchanged in a slice, and its revisions where it has any."""

    def __init__(self, path: Path, key: str, revision: str = "") -> None:
        batch = map_batch(path)
        self.keys: npt.NDArray[np.uint64] = batch[key].to_numpy()
        self._revisions = batch[revision].to_numpy() if revision else self.keys

    def cut(self, bounds: npt.NDArray[np.uint64]) -> None:
        self._rows = np.searchsorted(self.keys, bounds)

    def first(self, n: int) -> int:
        return int(self._rows[n])

    def part(self, n: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[Any]]:
        rows = slice(self._rows[n], self._rows[n + 1])
        return self.keys[rows], self._revisions[rows]


class _Revisions:
    """Revisions of an older store, read once from front to back."""

    def __init__(self, store: Path) -> None:
        self._store = store
        with _readable(store):
            file = pq.ParquetFile(store / "nodes.parquet")
            self._batches = file.iter_batches(columns=["id", "revision"])
        self._keys, self._revisions = _NO_KEYS, np.zeros(0, np.int64)

    def of(self, keys: npt.NDArray[np.uint64], high: np.uint64) -> npt.NDArray[np.int64]:
        """Revisions of ``keys``, which are sorted, below ``high`` and not below the last one."""
        while len(self._keys) == 0 or self._keys[-1] < high:
            with _readable(self._store):
                batch = next(self._batches, None)
            if batch is None:
                break
            self._keys = np.concatenate([self._keys, keys_of(batch["id"].to_numpy())])
            self._revisions = np.concatenate([self._revisions, batch["revision"].to_numpy()])
        places = np.searchsorted(self._keys, keys)
        if (np.append(self._keys, np.uint64(0))[places] != keys).any():  # 0 is no entity's key
            raise UserError(
                f"--update-from {self._store}: what was taken from it when the build began isn't "
                "there any more; start over with --fresh."
            )
        found = self._revisions[places]
        past = np.searchsorted(self._keys, high)
        self._keys, self._revisions = self._keys[past:], self._revisions[past:]
        return found


def _beaten(
    keys: list[npt.NDArray[np.uint64]], revisions: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(part, row in it) of every record that isn't its id's; within a part keys are distinct."""
    joined = np.concatenate(keys)
    ordered = np.sort(joined)  # a tenth of the time of an argsort
    repeated = _distinct(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated) == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    rivals = np.flatnonzero(np.isin(joined, repeated))
    won = winners(joined[rivals], np.concatenate(revisions)[rivals])
    losers = np.delete(rivals, won)
    starts = np.cumsum([0, *map(len, keys)])
    parts = np.searchsorted(starts, losers, "right") - 1
    return parts, losers - starts[parts]


def _distinct(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """``np.unique``, which takes ten times as long: it hashes integers since numpy 2.3."""
    ordered = np.sort(keys)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _key_bounds(keys: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Bounds of half-open key ranges that hold about BATCH_KEYS each and cover all."""
    sample = np.sort(np.concatenate([k[::_SAMPLE] for k in keys] or [_NO_KEYS]))
    inner = np.unique(sample[:: max(1, BATCH_KEYS // _SAMPLE)])[1:]
    return np.concatenate([[0], inner, [1 << 63]]).astype(np.uint64)
