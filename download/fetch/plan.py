"""Candidates → which addresses are to be asked for, each once, and by whom they are wanted.

Below ``fetches/plan/``::

    urls.arrow       one row for each URL (URLS), by group, then by priority; uncompressed, so that
                     any row is read by mapping the file
    groups.parquet   each group's rows in it (GROUPS)
    links.parquet    one row for each candidate and each of its URLs (LINKS)
    high.npy, low.npy, rows.npy  url_hash, sorted, as two big-endian numbers, and its row
    plan.json        what it was made from

A URL has a number here, its row; the log knows it by its hash, since rows change when candidates
are looked for again. So all that a run needs to know of 30 million URLs is an array of numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ujson

from download.fetch.url_form import authorities, normal_all
from download.joining import connect, count, literally, record_batches
from etl.manifest import MANIFEST, discard, flush, write_json
from etl.progress import Progress
from etl.tables import TableWriter

#: Where a plan stands in ``fetches/``.
PLAN_FOLDER: Final = "plan"
URLS_FILE: Final = "urls.arrow"
LINKS_FILE: Final = "links.parquet"
GROUPS_FILE: Final = "groups.parquet"
_HIGH_FILE: Final = "high.npy"
_LOW_FILE: Final = "low.npy"
_ROWS_FILE: Final = "rows.npy"
_PLAN_FILE: Final = "plan.json"

#: Version of what a plan holds.
PLAN_FORMAT: Final = 1

URLS: Final = pa.schema(
    [
        ("url_hash", pa.binary(16)),  # of sha256 of the URL, the first bytes
        ("url", pa.string()),  # in its normal form (download.fetch.url_form), whole
        ("priority", pa.float32()),  # the best score of the candidates that begin with it
    ]
)
#: By group; those rows of urls.arrow from ``start`` on are its.
GROUPS: Final = pa.schema([("group", pa.string()), ("start", pa.int64()), ("rows", pa.int64())])
#: By candidate (the row in candidates.parquet), then by place among its addresses (0: ``url``).
#: An address that is none has no row, and so has one that stands there a second time.
LINKS: Final = pa.schema([("candidate", pa.int64()), ("place", pa.int16()), ("url", pa.int64())])

#: Rows of a batch in urls.arrow: a row's batch follows from its number.
BATCH: Final = 1 << 16

Numbers = npt.NDArray[np.int64]

_RAW: Final = pa.schema(
    [
        ("candidate", pa.int64()),
        ("place", pa.int16()),
        ("url_hash", pa.binary()),
        ("url", pa.string()),
        ("group", pa.string()),
        ("score", pa.float32()),
    ]
)
_CANDIDATES_AT_ONCE: Final = 1 << 16
_KEY: Final = np.dtype([("high", ">u8"), ("low", ">u8")])  # sorts as its bytes do
_AUTHORITIES_KEPT: Final = 1 << 20


def planned(
    candidates: Path,
    fetches: Path,
    made_from: dict[str, Any],
    group_of: Callable[[str], str],
    work: Path,
    *,
    quiet: bool = False,
) -> Plan:
    """The plan that stands there, if it was made from the same, or a new one in its place.

    ``candidates`` is the table; ``made_from`` is what decides about the plan, as plain data.
    ``group_of`` gives the group of an address by its host alone. ``work`` is for scratch.
    """
    folder = fetches / PLAN_FOLDER
    key = {"format": PLAN_FORMAT, **made_from}
    if not (folder / _PLAN_FILE).exists() or _read(folder)["made_from"] != key:
        made = work / PLAN_FOLDER
        made.mkdir()
        rows = pq.read_metadata(candidates).num_rows
        with Progress("planning", rows, unit=" candidates", quiet=quiet) as progress:
            counts = _make(candidates, made, group_of, work, progress)
        write_json(made / _PLAN_FILE, {"made_from": key, "counts": counts})
        flush(made, [path.name for path in made.iterdir()])
        (fetches / MANIFEST).unlink(missing_ok=True)  # which is about another plan
        discard(folder)
        made.rename(folder)
    return Plan(folder)


def _read(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = ujson.loads((folder / _PLAN_FILE).read_bytes())
    return data


# --- making it ----------------------------------------------------------------------------------


def _make(
    candidates: Path, out: Path, group_of: Callable[[str], str], work: Path, progress: Progress
) -> dict[str, int]:
    raw = work / "links.raw.parquet"
    with TableWriter(raw, _RAW, repeated=["group"]) as writer:
        for rows in _addresses(candidates, group_of, progress):
            writer.write(rows)
    with connect(work) as database:
        parameters = {"raw": literally(raw)}
        # an aggregate that spills, then a sort: each has the whole limit for itself
        database.execute(
            'CREATE TABLE urls AS SELECT url_hash, min(url) url, min("group") AS grp, '
            "max(score) FILTER (place = 0) AS priority FROM read_parquet($raw) GROUP BY url_hash",
            parameters,
        )
        query = (
            "SELECT url_hash, url, coalesce(priority, 0)::FLOAT AS priority, grp FROM urls "
            "ORDER BY grp, priority DESC, url_hash"
        )
        total = count(database, "SELECT count(*) FROM urls")
        groups = _write_urls(record_batches(database, query, rows=BATCH), out)
        database.execute("DROP TABLE urls")
        _write_keys(database, out, total)
    links = _write_links(raw, out)
    raw.unlink()
    return {"urls": total, "groups": groups, "links": links}


def _addresses(
    candidates: Path, group_of: Callable[[str], str], progress: Progress
) -> Iterator[pa.Table]:
    """All addresses of all candidates, with the columns _RAW, in order."""
    file = pq.ParquetFile(candidates, pre_buffer=False)
    groups = _Groups(group_of)
    first = 0
    for batch in file.iter_batches(_CANDIDATES_AT_ONCE, columns=["url", "fallback_urls", "score"]):
        candidate, place, url = _flat(batch)
        url = normal_all(url)
        right = np.flatnonzero(url.is_valid().to_numpy(zero_copy_only=False))
        candidate, place, url = candidate[right], place[right], url.take(pa.array(right))
        score = batch["score"].fill_null(0).to_numpy(zero_copy_only=False)[candidate]
        hashes = [hashlib.sha256(text).digest()[:16] for text in url.cast(pa.binary()).to_pylist()]
        columns = [
            pa.array(candidate + first),
            pa.array(place),
            pa.array(hashes, pa.binary()),
            url,
            groups.of(url),
            pa.array(score, pa.float32()),
        ]
        yield pa.Table.from_arrays(columns, schema=_RAW)
        first += batch.num_rows
        progress.add(batch.num_rows)


def _flat(batch: pa.RecordBatch) -> tuple[Numbers, npt.NDArray[np.int16], pa.Array]:
    """(candidate, place, url) of each address of a batch's rows, by candidate and place."""
    lists = batch["fallback_urls"]
    parents = pa.compute.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    fallbacks = pa.compute.list_flatten(lists)
    rows = np.arange(batch.num_rows)
    candidate = np.concatenate([rows, parents.astype(np.int64)])
    begins = np.searchsorted(parents, parents)  # parents ascend
    place = np.concatenate([np.zeros(len(rows), np.int64), np.arange(len(parents)) - begins + 1])
    order = np.lexsort((place, candidate))
    url = pa.concat_arrays([batch["url"].cast(pa.string()), fallbacks.cast(pa.string())])
    return candidate[order], place[order].astype(np.int16), url.take(pa.array(order))


class _Groups:
    """Groups of addresses; asked once for each host."""

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self._group_of = group_of
        self._known: dict[str, str] = {"": ""}

    def of(self, urls: pa.Array) -> pa.Array:
        found = authorities(urls).dictionary_encode()
        names = pa.array([self._one(name) for name in found.dictionary.to_pylist()], pa.string())
        return names.take(found.indices)

    def _one(self, authority: str) -> str:
        group = self._known.get(authority)
        if group is None:
            if len(self._known) >= _AUTHORITIES_KEPT:
                self._known = {"": ""}
            group = self._known[authority] = self._group_of(f"http://{authority}/")
        return group


def _write_urls(batches: Iterator[pa.RecordBatch], out: Path) -> int:
    """Writes urls.arrow and groups.parquet; returns how many groups."""
    groups: list[tuple[str, int]] = []  # where each begins
    row = 0
    with pa.ipc.new_file(out / URLS_FILE, URLS) as writer:
        for batch in _of_length(batches, BATCH):
            hashes = batch["url_hash"].cast(pa.binary(16))
            groups += _begun(batch["grp"], groups[-1][0] if groups else None, row)
            columns = [hashes, batch["url"], batch["priority"]]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=URLS))
            row += len(batch)
    starts = np.array([start for _, start in groups], np.int64)
    columns = [[name for name, _ in groups], starts, np.diff(starts, append=row)]
    with TableWriter(out / GROUPS_FILE, GROUPS) as table:
        table.write(pa.table(dict(zip(GROUPS.names, columns, strict=True)), schema=GROUPS))
    return len(groups)


def _begun(names: pa.Array, before: str | None, first: int) -> list[tuple[str, int]]:
    """(group, row) where a group begins in a batch whose first row is ``first``."""
    runs = pa.compute.run_end_encode(names)
    ends = runs.run_ends.to_pylist()
    begun = zip(runs.values.to_pylist(), [0, *ends[:-1]], strict=True)
    return [(name, first + at) for name, at in begun if at or name != before]


def _of_length(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``rows`` rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    length = 0
    for batch in batches:
        waiting.append(batch)
        length += len(batch)
        if length >= rows:
            joined = pa.concat_batches(waiting)
            whole = length - length % rows
            yield from (joined.slice(at, rows) for at in range(0, whole, rows))
            waiting, length = [joined.slice(whole)], length - whole
    if length:
        yield pa.concat_batches(waiting)


def _write_keys(database: duckdb.DuckDBPyConnection, out: Path, total: int) -> None:
    """Writes where the row of each hash is, by hash."""
    schema = pa.schema([("url_hash", pa.binary()), ("row", pa.int64())])

    def rows() -> Iterator[pa.RecordBatch]:
        file = pa.ipc.open_file(pa.memory_map(str(out / URLS_FILE)))
        for number in range(file.num_record_batches):
            hashes = file.get_batch(number)[0]
            row = np.arange(number * BATCH, number * BATCH + len(hashes))
            yield pa.record_batch([hashes.cast(pa.binary()), pa.array(row)], schema)

    database.register("hashes", pa.RecordBatchReader.from_batches(schema, rows()))
    high, low, row = (
        np.lib.format.open_memmap(out / name, "w+", kind, (total,))
        for name, kind in ((_HIGH_FILE, np.uint64), (_LOW_FILE, np.uint64), (_ROWS_FILE, np.int64))
    )
    at = 0
    query = "SELECT url_hash, row FROM hashes ORDER BY url_hash"
    for batch in record_batches(database, query, rows=BATCH):
        here = slice(at, at + len(batch))
        keys = _keys_in(batch[0].cast(pa.binary(16)))
        high[here], low[here], row[here] = keys["high"], keys["low"], batch[1].to_numpy()
        at += len(batch)
    database.unregister("hashes")


def _keys_in(hashes: pa.Array) -> npt.NDArray[np.void]:
    """Hashes (binary(16), no nulls) as pairs of numbers."""
    return np.frombuffer(hashes.buffers()[1], _KEY, len(hashes), 16 * hashes.offset)


def _write_links(raw: Path, out: Path) -> int:
    """Writes links.parquet; returns how many."""
    plan = _Keys(out)
    file = pq.ParquetFile(raw, pre_buffer=False)
    last = (-1, np.empty(0, np.int64))
    with TableWriter(out / LINKS_FILE, LINKS) as writer:
        for batch in file.iter_batches(BATCH, columns=["candidate", "place", "url_hash"]):
            candidate = batch["candidate"].to_numpy()
            url = plan.rows(batch["url_hash"].cast(pa.binary(16)))
            kept, last = _each_once(candidate, url, last)
            columns = [pa.array(candidate), batch["place"], pa.array(url)]
            table = pa.Table.from_arrays(columns, schema=LINKS)
            writer.write(table if kept.all() else table.filter(pa.array(kept)))
    return writer.rows


def _each_once(
    candidate: Numbers, url: Numbers, before: tuple[int, Numbers]
) -> tuple[npt.NDArray[np.bool_], tuple[int, Numbers]]:
    """Which rows don't name a URL that their candidate has named; ``before``: the last one's."""
    whole_candidate = np.concatenate([np.full(len(before[1]), before[0]), candidate])
    whole_url = np.concatenate([before[1], url])
    order = np.lexsort((whole_url, whole_candidate))  # stable: the first place stays
    again = np.zeros(len(order), bool)
    again[order[1:]] = (np.diff(whole_candidate[order]) == 0) & (np.diff(whole_url[order]) == 0)
    last = int(candidate[-1])
    return ~again[len(before[1]) :], (last, whole_url[whole_candidate == last])


# --- reading it ---------------------------------------------------------------------------------


class _Keys:
    """Rows of URLs by their hashes."""

    def __init__(self, folder: Path) -> None:
        self._high, self._low, self._rows = (
            np.load(folder / name, mmap_mode="r") for name in (_HIGH_FILE, _LOW_FILE, _ROWS_FILE)
        )

    def rows(self, hashes: pa.Array) -> Numbers:
        """The row of each hash (binary(16), no nulls); -1 where it isn't planned."""
        wanted = _keys_in(hashes)
        high, low = wanted["high"].astype(np.uint64), wanted["low"].astype(np.uint64)
        order = np.argsort(high)  # neighbours are looked up together: pages are read once
        at = np.empty(len(high), np.int64)
        at[order] = np.searchsorted(self._high, high[order])
        found = np.full(len(high), -1, np.int64)
        left = np.arange(len(high))  # those that may still be found
        while len(left := left[at[left] < len(self._high)]):
            left = left[self._high[at[left]] == high[left]]
            same = self._low[at[left]] == low[left]
            found[left[same]] = self._rows[at[left[same]]]
            left = left[~same]
            at[left] += 1
        return found


class Plan:
    """A plan, for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = _read(folder)
        self.made_from: dict[str, Any] = made["made_from"]
        self.counts: dict[str, int] = made["counts"]
        self._keys: _Keys | None = None

    @property
    def urls(self) -> int:
        """How many URLs there are."""
        return self.counts["urls"]

    def rows(self, hashes: pa.Array) -> Numbers:
        """The row of each URL by its hash (binary(16)); -1 where it isn't planned any more."""
        if self._keys is None:
            self._keys = _Keys(self.folder)
        return self._keys.rows(hashes)

    def groups(self) -> pa.Table:
        """Columns GROUPS; starts ascend."""
        return pq.read_table(self.folder / GROUPS_FILE)

    def links(self) -> Iterator[tuple[Numbers, npt.NDArray[np.int16], Numbers]]:
        """(candidate, place, url) in pieces; all of a candidate's are in the same."""
        file = pq.ParquetFile(self.folder / LINKS_FILE, pre_buffer=False)
        empty = np.empty(0, np.int64), np.empty(0, np.int16), np.empty(0, np.int64)
        candidate, place, url = empty
        for batch in file.iter_batches(BATCH):
            candidate = np.concatenate([candidate, batch["candidate"].to_numpy()])
            place = np.concatenate([place, batch["place"].to_numpy()])
            url = np.concatenate([url, batch["url"].to_numpy()])
            end = int(np.searchsorted(candidate, candidate[-1]))
            if end:
                yield candidate[:end], place[:end], url[:end]
            candidate, place, url = candidate[end:], place[end:], url[end:]
        if len(candidate):
            yield candidate, place, url


class Urls:
    """Rows of urls.arrow, by their numbers."""

    def __init__(self, folder: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(folder / URLS_FILE)))
        self._batches: dict[int, pa.RecordBatch] = {}

    def __getitem__(self, row: int) -> tuple[bytes, str]:
        """(url_hash, url)."""
        number, at = divmod(row, BATCH)
        batch = self._batches.get(number)
        if batch is None:  # a look at the file's directory; its pages come when they are read
            batch = self._batches[number] = self._file.get_batch(number)
        return batch[0][at].as_py(), batch[1][at].as_py()
