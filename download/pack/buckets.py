"""Candidates by image: dealt out into buckets of some ten thousand images, to be worked on apart.

Candidates stand in the order of entities, and are wanted in that of images. They are read once and
each goes to the bucket of its image, which a task then sorts in memory: no sort is larger, however
many there are. What is dropped is told apart on the way.

    buckets/000012.arrow     candidates (FOUND) of the images from 12 × the size of a bucket on
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.candidates import CANDIDATES, CANDIDATES_FILE
from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.pack.decode import decoded
from download.pack.merge import Fates
from download.pack.plan import MEMBERS_FILE, Ids
from etl.progress import Tick
from etl.tables import TableWriter

FOLDER: Final = "buckets"
DROPPED_FILE: Final = "dropped.parquet"

#: Buckets at most: each is an open file.
MOST: Final = 256

#: A row for each file that is in no image, by sha256.
DROPPED: Final = pa.schema(
    [
        ("sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("matched", pa.string()),  # what of --against it is like
        ("candidates", pa.int64()),  # that got it
        ("url", pa.string()),  # of the first of these
    ]
)

_KEPT = (
    "entity", "sources", "reasons", "query_hashes", "file", "source_id", "page_url", "texts",
    "text_langs", "licence", "creator", "score",
)  # fmt: skip

#: A row for each candidate that is in an image, in the order of the candidates.
FOUND: Final = pa.schema(
    [
        ("image", pa.int64()),
        ("candidate", pa.int64()),
        ("body", pa.int64()),
        ("sha256", pa.binary(32)),  # of what it got
        ("url", pa.string()),  # where it was got
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        *(CANDIDATES.field(name) for name in _KEPT),
    ]
)

_READ: Final = 1 << 15  # candidates at once
_HELD: Final = 64 << 20  # bytes of rows that wait to be dealt out


@dataclass(frozen=True)
class Deal:
    """What is dealt out: the files of ``images`` with their fates."""

    images: Path
    work: Path
    tasks: int  # of decoding
    per_task: int
    digests: npt.NDArray[np.uint8]
    fates: Fates
    size: int  # images of a bucket


def bucket_size(images: int, wanted: int) -> int:
    """Images of a bucket: as wanted, or more where there would be too many of them."""
    return max(wanted, -(-images // MOST))


def bucket_file(work: Path, number: int) -> Path:
    """Where a bucket stands."""
    return work / FOLDER / f"{number:06d}.arrow"


def deal(job: Deal, tick: Tick) -> dict[str, Any]:
    """Writes the buckets and dropped.parquet; files and candidates by what became of them.

    ``tick`` is told each candidate.
    """
    (job.work / FOLDER).mkdir(exist_ok=True)
    sizes = _original_sizes(job)
    got = np.zeros(len(job.digests), np.int32)  # candidates of each file
    urls = _FirstUrls(job.fates.image < 0)
    with ExitStack() as stack:
        buckets = _Buckets(stack, job)
        for rows in _members(job):
            body = rows["body"].to_numpy()
            np.add.at(got, body, 1)
            kept = job.fates.image[body] >= 0
            urls.add(body[~kept], rows["url"].filter(pa.array(~kept)))
            buckets.add(_found(rows.filter(pa.array(kept)), job, sizes))
            tick(rows.num_rows)
    _write_dropped(job, got, urls)
    return _counts(job.fates, got)


def _members(job: Deal) -> Iterator[pa.Table]:
    """Candidates that got a file, with ``candidate``, ``body`` and the ``url`` that gave it."""
    columns = [*_KEPT, "url", "fallback_urls"]
    path = job.images / CANDIDATES_FOLDER / CANDIDATES_FILE
    candidates = pq.ParquetFile(path, pre_buffer=False).iter_batches(_READ, columns=columns)
    members = _Ahead(pq.ParquetFile(job.work / MEMBERS_FILE, pre_buffer=False).iter_batches(_READ))
    start = 0
    for batch in candidates:
        got = members.until(start + batch.num_rows)
        rows = pa.table(batch).take(pc.subtract(got["candidate"], start))
        urls = pa.chunked_array([_urls(rows, got["place"])])
        rows = rows.drop_columns(["url", "fallback_urls"]).append_column("url", urls)
        yield rows.append_column("candidate", got["candidate"]).append_column("body", got["body"])
        start += batch.num_rows


class _Ahead:
    """Members, taken up to a candidate."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.Table | None = None

    def until(self, candidate: int) -> pa.Table:
        """The members before a candidate that haven't been given yet."""
        pieces = []
        while (rest := self._more()) is not None:
            count = int(np.searchsorted(rest["candidate"].to_numpy(), candidate))
            pieces.append(rest.slice(0, count))
            self._rest = rest.slice(count)
            if count < rest.num_rows:
                break
        return pa.concat_tables(pieces).combine_chunks() if pieces else _NO_MEMBERS

    def _more(self) -> pa.Table | None:
        if self._rest is None or not self._rest.num_rows:
            batch = next(self._batches, None)
            self._rest = None if batch is None else pa.table(batch)
        return self._rest


_NO_MEMBERS = pa.table(
    {"candidate": pa.array([], pa.int64()), "body": pa.array([], pa.int64()),
     "place": pa.array([], pa.int16())}
)  # fmt: skip


def _urls(rows: pa.Table, place: pa.ChunkedArray) -> pa.Array:
    """The address of each row: ``url``, or the fallback that its place says."""
    found = rows["url"].combine_chunks()
    places = place.to_numpy()
    if not places.any():
        return found
    urls = found.to_pylist()
    fallbacks = rows["fallback_urls"]
    for row in np.flatnonzero(places).tolist():
        urls[row] = fallbacks[row][int(places[row]) - 1].as_py()
    return pa.array(urls, pa.string())


def _found(rows: pa.Table, job: Deal, sizes: npt.NDArray[np.int32]) -> pa.Table:
    body = rows["body"].to_numpy()
    made = {
        "image": pa.array(job.fates.image[body]),
        "sha256": pa.Array.from_buffers(
            pa.binary(32), len(body), [None, pa.py_buffer(job.digests[body].tobytes())]
        ),
        "original_width": pa.array(sizes[body, 0]),
        "original_height": pa.array(sizes[body, 1]),
    }
    return pa.table(
        [made[name] if name in made else rows[name] for name in FOUND.names], schema=FOUND
    )


def _original_sizes(job: Deal) -> npt.NDArray[np.int32]:
    """Width and height of every file, (n, 2); 0 where there is no picture."""
    found = np.zeros((len(job.digests), 2), np.int32)
    names = ["original_width", "original_height"]
    for task, rows in decoded(job.work, job.tasks, names):
        some = slice(task * job.per_task, task * job.per_task + rows.num_rows)
        for at, name in enumerate(names):
            found[some, at] = pc.fill_null(rows[name], 0).to_numpy()
    return found


class _Buckets:
    """Files of buckets, written some at a time."""

    def __init__(self, stack: ExitStack, job: Deal) -> None:
        self._stack, self._job = stack, job
        self._writers: dict[int, Any] = {}
        self._held: list[pa.Table] = []
        for number in range(-(-len(job.fates.file) // job.size)):
            self._open(number)
        stack.callback(self._write)  # before they are closed: a stack goes backward

    def _open(self, number: int) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        path = str(bucket_file(self._job.work, number))
        sink = self._stack.enter_context(pa.OSFile(path, "wb"))
        self._writers[number] = self._stack.enter_context(
            pa.ipc.new_file(sink, FOUND, options=options)
        )

    def add(self, rows: pa.Table) -> None:
        self._held.append(rows)
        if sum(table.nbytes for table in self._held) > _HELD:
            self._write()

    def _write(self) -> None:
        if not self._held:
            return
        rows = pa.concat_tables(self._held).combine_chunks()
        self._held = []
        if not rows.num_rows:
            return
        bucket = rows["image"].to_numpy() // self._job.size
        order = np.argsort(bucket, kind="stable")
        numbers, starts = np.unique(bucket[order], return_index=True)
        ends = [*starts.tolist()[1:], len(order)]
        for number, start, end in zip(numbers.tolist(), starts.tolist(), ends, strict=True):
            self._writers[number].write_table(rows.take(pa.array(order[start:end])))


# --- what is dropped ----------------------------------------------------------------------------


class _FirstUrls:
    """The address of the first candidate of each file that is dropped."""

    def __init__(self, dropped: npt.NDArray[np.bool_]) -> None:
        self.bodies = np.flatnonzero(dropped)
        self._missing = dropped.copy()
        self._met: list[Ids] = [np.empty(0, np.int64)]
        self._urls: list[pa.Array] = [pa.array([], pa.large_string())]

    def add(self, body: Ids, urls: pa.ChunkedArray) -> None:
        distinct, at = np.unique(body, return_index=True)
        new = self._missing[distinct]
        self._missing[distinct] = False
        self._met.append(distinct[new])
        self._urls.append(urls.combine_chunks().take(pa.array(at[new])).cast(pa.large_string()))

    def urls(self) -> pa.Array:
        """In the order of ``bodies``."""
        order = np.argsort(np.concatenate(self._met))
        return pa.concat_arrays(self._urls).take(pa.array(order))


def _write_dropped(job: Deal, got: npt.NDArray[np.int32], urls: _FirstUrls) -> None:
    fates, found = job.fates, urls.urls()
    at = 0
    with TableWriter(job.work / DROPPED_FILE, DROPPED) as writer:
        for task, rows in decoded(job.work, job.tasks, ["detail"]):
            start = task * job.per_task
            some = np.flatnonzero(fates.image[start : start + rows.num_rows] < 0)
            details = rows["detail"].take(pa.array(some)).to_pylist()
            bodies = (start + some).tolist()
            made = {
                "sha256": [job.digests[body].tobytes().hex() for body in bodies],
                "reason": [fates.reasons[code] for code in fates.reason[bodies]],
                "detail": [
                    fates.detail.get(body) or told or None
                    for body, told in zip(bodies, details, strict=True)
                ],
                "matched": [fates.matched.get(body) for body in bodies],
                "candidates": got[bodies],
                "url": found.slice(at, len(bodies)),
            }
            at += len(bodies)
            writer.write(pa.table(made).cast(DROPPED))


def _counts(fates: Fates, got: npt.NDArray[np.int32]) -> dict[str, Any]:
    """Files and candidates in images (``kept``), and dropped by reason."""

    def of(some: npt.NDArray[np.bool_]) -> dict[str, int]:
        return {"files": int(some.sum()), "candidates": int(got[some].sum())}

    dropped = {name: of(fates.reason == code) for code, name in enumerate(fates.reasons)}
    met = {name: found for name, found in sorted(dropped.items()) if found["files"]}
    return {"kept": of(fates.image >= 0), "dropped": met}
