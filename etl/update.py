"""A build that takes from an older store what a dump hasn't changed.

    sparqless etl latest-all.json.gz --store data/new --update-from data/old

An entity whose revision the older store has is not parsed: its id and revision are read off both
ends of its line. The merge takes its record, flags and edges from the older store, in one pass in
key order, as if they were one more run. What comes out is what a full build of the dump gives,
byte for byte, provided that a revision's content never changes, which is what a revision is.
Of such a line nothing but its two ends is looked at: damage in its middle that neither checksum
nor newline shows goes unseen, and the older store's record, which is whole, is taken.
"""

from __future__ import annotations

import fcntl
import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.arrow import map_batch
from etl.entity import FIRST_ITEM, rank_names
from etl.errors import UserError
from etl.kept import Kept, changes
from etl.manifest import check_whole, digest_of_file, is_untouched, read_manifest
from etl.runs import EDGE_SCHEMA, record_schema
from etl.store import (
    DATA,
    DICTIONARY,
    LOCK,
    STORE_FORMAT,
    databases_of,
    open_database,
    open_environment,
)
from etl.tables import TRUTHY_ROWS

_ROWS: Final = 1 << 15  # rows of the older store that are read at a time
_EDGE_ROWS: Final = 1 << 13  # of each of its edge files, twice: there are hundreds
_FIRST_PROPERTY: Final = ord("P") << 56

Keys = npt.NDArray[np.uint64]


# --- is it a store to update from? --------------------------------------------------------------


def check_old(old: Path, store: Path, kept: Kept) -> str:
    """Digest of an older store's manifest, once it is sure that ``store`` can be built from it.

    Raises UserError where it is no store, another one than asked for, damaged, or ``store``.
    """
    if old.resolve() == store.resolve():
        raise UserError(
            f"--update-from and --store are both {store}: a store is never changed; choose a new "
            "directory for --store and remove the older one afterwards."
        )
    try:
        manifest = read_manifest(old, "store")
    except UserError as error:
        raise UserError(f"--update-from: {error}") from error
    if manifest.get("format") != STORE_FORMAT:
        raise UserError(
            f"--update-from {old}: a store of format {manifest.get('format')}, this version writes "
            f"format {STORE_FORMAT}; build without --update-from."
        )
    check_whole(old, manifest, "copy it again or build without --update-from")
    if not is_untouched(old):
        raise UserError(
            f"--update-from {old}: its manifest was changed after it was written, so what it holds "
            "can't be relied on; build without --update-from."
        )
    different = _differences(Kept.from_json(manifest["kept"]), kept)
    if different:
        raise UserError(
            f"--update-from {old}: that store was built with {different}; give the same options "
            "or build without --update-from."
        )
    if kept.full:
        expected = manifest["outputs"][DICTIONARY]["sha256"]
        if digest_of_file(old / DICTIONARY, lambda _: None) != expected:
            raise UserError(
                f"--update-from {old} is damaged: {DICTIONARY} was changed; copy it again or build "
                "without --update-from."
            )
    return str(manifest["manifest_sha256"])


def _differences(was: Kept, wanted: Kept) -> str:
    """What an older store kept otherwise, from the sight of the options given now."""
    found = []
    if was.full != wanted.full:
        found.append("--keep full" if was.full else "no --keep full")
    for option in ("languages", "properties"):
        before, now = getattr(was, option), getattr(wanted, option)
        different = changes(before, now)
        if different:
            found.append(f"other --{option} ({different})")
        elif list(before) != list(now) or before != now:
            found.append(f"--{option} in another order, or with other qualifiers")
    return " and ".join(found)


@contextmanager
def held(old: Path | None) -> Iterator[None]:
    """Keeps others from building in an older store, if there is one, while it is read.

    Raises UserError where one does already.
    """
    if old is None:
        yield
        return
    try:
        file = (old / LOCK).open("rb")
    except OSError:  # a copy without it, or one that isn't ours: nobody builds there
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--update-from {old} is being written by another run; wait for it."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


# --- which lines it has -------------------------------------------------------------------------


def write_known(old: Path, out: Path) -> None:
    """Ids and revisions of an older store, for workers to map: keys (n, uint64) ascending, then
    revisions (n, int64). 1.9 GB at the size of Wikidata, in the page cache once for all of them.
    """
    with pq.ParquetFile(old / "nodes.parquet") as nodes, out.open("wb") as file:
        place, rows = 0, nodes.metadata.num_rows
        for group in nodes.iter_batches(_ROWS, columns=["id", "revision"]):
            file.seek(8 * place)
            file.write(keys_of(group["id"].to_numpy()).tobytes())
            file.seek(8 * (rows + place))
            file.write(group["revision"].to_numpy().tobytes())
            place += len(group)


def keys_of(ids: npt.NDArray[np.int64]) -> Keys:
    """Signed ids of the Parquet files → keys; the inverse of :func:`~etl.runs.numeric_ids`."""
    return np.where(ids > 0, ids + FIRST_ITEM, _FIRST_PROPERTY - ids).astype(np.uint64)


#: The three beginnings that lines have: items, properties (Wikibase/DataModel/JSON names no order;
#: JsonDumpGenerator's is type, datatype, id) and both in dumps of before 2017. Groups: Q, P, Q, P.
_HEAD = re.compile(
    rb'\{"type":"item","id":"Q([1-9][0-9]{0,15})",'
    rb'|\{"type":"property",(?:"datatype":"[A-Za-z-]*",)?"id":"P([1-9][0-9]{0,15})",'
    rb'|\{"id":"Q([1-9][0-9]{0,15})","type":"item",'
    rb'|\{"id":"P([1-9][0-9]{0,15})","type":"property",'
).match

#: The end of a line that has a revision; dumps with page metadata (since 2022) end in "modified".
_TAIL = re.compile(
    rb',"lastrevid":([1-9][0-9]{0,18})'
    rb'(?:,"modified":"[0-9TZ:+-]*")?(?:,"datatype":"[A-Za-z-]*")?\}\Z'
).search
_TAIL_BYTES = 200


class Known:
    """Ids and revisions of an older store, mapped from what :func:`write_known` wrote.

    Why two ends are enough. The head stands at the line's first byte, so its ``id`` is a member
    of the outermost object, not of one inside. The tail's ``}`` is the line's last byte, so in a
    line that is JSON it closes the outermost object, and the members before it are that object's.
    Nor can either be the content of a string. The quote before ``lastrevid`` follows a comma, so
    it isn't escaped, and it can't close a string either, because what follows a string in JSON is
    one of ``, : } ]`` and never a letter; and the tail's other strings have neither quote nor
    backslash. A member that comes twice, of which JSON leaves open what it means and which
    Wikibase can't write, is the only other way to another id: the last ``lastrevid`` is read, as
    json does, and the first ``id``.
    """

    def __init__(self, path: Path) -> None:
        half = path.stat().st_size // 2
        self._keys = self._revisions = memoryview(b"")
        if half:
            with path.open("rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._keys, self._revisions = mapped[:half].cast("Q"), mapped[half:].cast("q")

    def unchanged(self, line: bytes | memoryview) -> int | None:
        """The key of an entity's line if the older store has that id with that revision.

        ``line`` is without the comma and white space around it. A line without a revision is
        never unchanged, nor one of a form that isn't today's.
        """
        tail = _TAIL(line, max(len(line) - _TAIL_BYTES, 0))
        head = None if tail is None else _HEAD(line)
        if tail is None or head is None:
            return None
        group = head.lastindex
        assert group is not None
        key = int(head[group]) + (FIRST_ITEM if group % 2 else _FIRST_PROPERTY)
        place = bisect_left(self._keys, key)
        if place == len(self._keys) or self._keys[place] != key:
            return None
        return key if self._revisions[place] == int(tail[1]) else None


# --- as one more run ----------------------------------------------------------------------------


class Taken(NamedTuple):
    """What an older store gives to a key range."""

    records: pa.RecordBatch  # of the lines that are unchanged, each once
    edges: pa.RecordBatch  # theirs; rows count from the first record
    lines: int  # that are unchanged
    had: Keys  # what it has, unchanged or not


class OldRun:
    """The records of an older store that a dump still has, in key order, and their edges.

    ``unchanged``: files of keys, as the slices leave them. Everything is read from front to back,
    once: LMDB, nodes.parquet, and both halves of every edge file.
    """

    def __init__(self, old: Path, kept: Kept, unchanged: list[Path]) -> None:
        self.keys: list[Keys] = [map_batch(path)["key"].to_numpy() for path in unchanged]
        self._old = old
        self._schema = record_schema(kept)
        self._records = _Stream(_records(old, kept))
        files = [(n, old / "edges" / f"{name}.parquet") for n, name in enumerate(kept.properties)]
        self._edges = [
            (number, _Stream(_edges(path, truthy=truthy)))
            for number, path in files
            if path.exists()
            for truthy in (True, False)
        ]

    @property
    def lines(self) -> int:
        """Lines that are unchanged, in all."""
        return sum(len(keys) for keys in self.keys)

    @property
    def taken_bytes(self) -> int:
        """About what those lines' records will take."""
        records = pq.read_metadata(self._old / "nodes.parquet").num_rows
        return self.lines * (self._old / DATA).stat().st_size // max(int(records), 1)

    def take(self, low: int, high: int) -> Taken:
        """What it gives to the keys from ``low`` to below ``high``; calls must ascend.

        Raises UserError where the older store can't be read, or contradicts itself.
        """
        parts = []
        for keys in self.keys:
            first, last = np.searchsorted(keys, np.array([low, high], np.uint64))
            parts.append(keys[first:last])
        lines = np.sort(np.concatenate(parts))
        first = np.ones(len(lines), bool)
        first[1:] = lines[1:] != lines[:-1]
        wanted = lines[first]
        try:
            taken = self._taken(wanted, high)
        except (pa.ArrowException, lmdb.Error, OSError) as error:
            raise UserError(
                f"--update-from {self._old} can't be read ({error}): see what "
                f"`sparqless verify {self._old}` says, or build without --update-from."
            ) from error
        if len(taken.records) != len(wanted):
            raise UserError(
                f"--update-from {self._old}: what was taken from it when the build began isn't "
                "there any more; start over with --fresh."
            )
        return taken._replace(lines=len(lines))

    def _taken(self, wanted: Keys, high: int) -> Taken:
        had, records, edges = [wanted[:0]], [_empty(self._schema)], [_empty(EDGE_SCHEMA)]
        for batch in self._records.until(high):
            keys = batch["key"].to_numpy()
            had.append(keys)
            records.append(batch.filter(pa.array(_among(keys, wanted)[0])))
        for number, stream in self._edges:
            edges.extend(_numbered(number, batch, wanted) for batch in stream.until(high))
        return Taken(pa.concat_batches(records), pa.concat_batches(edges), 0, np.concatenate(had))


class _Stream:
    """Batches with ascending ``key``, handed out up to a bound."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def until(self, high: int) -> list[pa.RecordBatch]:
        """What comes before the key ``high`` and was not handed out yet."""
        found = []
        while (batch := self._rest or next(self._batches, None)) is not None:
            end = int(np.searchsorted(batch["key"].to_numpy(), np.uint64(high)))
            found.append(batch.slice(0, end))
            self._rest = batch.slice(end) if end < len(batch) else None
            if self._rest is not None:
                break
        return found


def _records(old: Path, kept: Kept) -> Iterator[pa.RecordBatch]:
    """All records of a store, in the form of a run's."""
    schema = record_schema(kept)
    width = schema.field("flags").type.byte_width
    with pq.ParquetFile(old / "nodes.parquet") as nodes, open_environment(old, readahead=True) as e:
        databases = [open_database(e, name) for name in databases_of(kept)]
        with e.begin() as transaction:
            names = transaction.cursor(databases[0]).iternext(values=False)
            columns = [transaction.cursor(d).iternext(keys=False) for d in databases]
            for group in nodes.iter_batches(_ROWS, use_threads=False):
                keys = keys_of(group["id"].to_numpy())
                values = [_joined(islice(column, len(group))) for column in columns]
                together = b"".join(islice(names, len(group))) == keys.astype(">u8").tobytes()
                if not together or any(len(value) != len(keys) for value in values):
                    raise lmdb.CorruptedError(f"{DATA} and nodes.parquet hold other entities")
                flags = np.stack(
                    [column.to_numpy(zero_copy_only=False) for column in group.columns[3:]]
                )
                yield pa.record_batch(
                    [
                        pa.array(keys),
                        group["revision"],
                        group["sitelinks"],
                        _packed(flags, width),
                        *values,
                    ],
                    schema=schema,
                )


def _packed(flags: npt.NDArray[np.bool_], width: int) -> pa.Array:
    """Flags (flags, n) → n values of ``width`` bytes, bit by bit from the lowest."""
    packed = np.packbits(flags, axis=0, bitorder="little")
    whole = np.zeros((flags.shape[1], width), np.uint8)
    whole[:, : len(packed)] = packed.T
    type_, buffer = pa.binary(width), pa.py_buffer(whole.tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(type_, len(whole), [None, buffer])


def _joined(values: Iterator[bytes]) -> pa.Array:
    """An array of values; a third of the time that ``pa.array`` takes."""
    found = list(values)
    offsets = np.zeros(len(found) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, found), np.int64, len(found)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(found))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(found), buffers)


def _edges(path: Path, *, truthy: bool) -> Iterator[pa.RecordBatch]:
    """One half of an edge file, ``key`` being the subject's."""
    codes = {name: code for code, name in enumerate(rank_names())}
    with pq.ParquetFile(path, pre_buffer=False) as file:
        footer = file.metadata.metadata or {}
        if TRUTHY_ROWS.encode() not in footer:
            raise pa.ArrowInvalid(f"{path}: not the edges of a store")
        split = int(footer[TRUTHY_ROWS.encode()])
        begin, end = (0, split) if truthy else (split, file.metadata.num_rows)
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        stops = np.cumsum(sizes)
        groups = [n for n, stop in enumerate(stops) if stop > begin and stop - sizes[n] < end]
        at = int(stops[groups[0]]) - sizes[groups[0]] if groups else 0
        for batch in file.iter_batches(_EDGE_ROWS, row_groups=groups, use_threads=False):
            part = batch.slice(max(begin - at, 0), max(end - max(at, begin), 0))
            at += len(batch)
            ranks = part["rank"]
            code = np.array([codes[name] for name in ranks.dictionary.to_pylist()], np.uint8)
            yield pa.record_batch(
                {
                    "key": keys_of(part["subject"].to_numpy()),
                    "object": part["object"],
                    "rank": code[ranks.indices.to_numpy()],
                    "truthy": part["truthy"],
                }
            )


def _numbered(number: int, batch: pa.RecordBatch, wanted: Keys) -> pa.RecordBatch:
    """Those edges of one property whose subject is in ``wanted``, as a run has them."""
    mask, rows = _among(batch["key"].to_numpy(), wanted)
    found = batch.filter(pa.array(mask))
    return pa.record_batch(
        [
            pa.array(rows[mask].astype(np.uint32)),
            pa.array(np.full(len(found), number, np.uint16)),
            found["object"],
            found["rank"],
            found["truthy"],
        ],
        schema=EDGE_SCHEMA,
    )


def _among(keys: Keys, wanted: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Which ``keys`` are in ``wanted``, which ascends, and where there."""
    places = np.searchsorted(wanted, keys)
    padded = np.append(wanted, np.uint64(0))  # no entity's key
    return padded[places] == keys, places


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
