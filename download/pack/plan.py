"""What is packed: the distinct files that were fetched, and the candidates that each is of.

Both are tables in the work of a pack. ``bodies.parquet`` has a row for each file, in the order of
its SHA-256, and a file is called by the number of its row from here on: what is made in that order
is in the order of the shards, so that everything later reads on and never looks back.
``members.parquet`` says of every candidate that got a file which one, and by which address.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.candidates import CANDIDATES_FILE
from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.log import FOLDER as FETCHES_FOLDER
from download.fetch.log import LOG_FOLDER
from download.joining import connect, literally, record_batches
from etl.errors import UserError
from etl.tables import TableWriter

BODIES_FILE: Final = "bodies.parquet"
MEMBERS_FILE: Final = "members.parquet"
DIGESTS_FILE: Final = "digests.bin"  # the SHA-256s of BODIES alone, 32 bytes each, to be mapped

#: Row groups have as many rows as a task of decoding takes: one task reads one row group.
BODIES: Final = pa.schema(
    [
        ("sha256", pa.binary(32)),
        ("part", pa.string()),  # of the store, and where in it
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
    ]
)

#: In the order of the candidates; ``candidate`` is a row of candidates.parquet, ``body`` of BODIES,
#: ``place`` which of the candidate's addresses gave it: 0 is ``url``, 1 the first fallback.
MEMBERS: Final = pa.schema([("candidate", pa.int64()), ("body", pa.int64()), ("place", pa.int16())])

_ROWS: Final = 1 << 17

Digests = npt.NDArray[np.uint8]  # (n, 32)
Ids = npt.NDArray[np.int64]


def write_plan(images: Path, results: Path, work: Path, per_task: int) -> dict[str, int]:
    """Writes the three files; how many candidates ``got`` one of how many ``files``.

    ``results`` is a table with the columns :data:`download.fetch.log.RESULTS`.

    Raises UserError where a file that was fetched isn't in the store.
    """
    _check_rows(images, results)
    files = _write_bodies(images / FETCHES_FOLDER / LOG_FOLDER, results, work, per_task)
    return {"got": _write_members(results, work), "files": files}


def _check_rows(images: Path, results: Path) -> None:
    candidates = images / CANDIDATES_FOLDER / CANDIDATES_FILE
    told, there = (pq.read_metadata(path).num_rows for path in (results, candidates))
    if told != there:
        raise UserError(
            f"{images}: the candidates are others than those that were fetched ({there:,} rows, "
            f"and {told:,} then): run `sparqless images fetch` again."
        )


# One statement after the other, and tables that may go to the disk in between: joins and sorts
# that run at the same time want more memory together than the limit leaves each of them.
_STATEMENTS: Final = (
    """
    CREATE TABLE wanted AS SELECT DISTINCT sha256
    FROM read_parquet($results, hive_partitioning = false) WHERE outcome = 'ok'
    """,
    """
    CREATE TABLE stored AS
    SELECT sha256, min({'part': parse_filename(part, true), 'at': "offset"}) AS place,
           max(bytes) AS bytes
    FROM read_parquet($log, hive_partitioning = false, filename = 'part')
    WHERE "offset" IS NOT NULL GROUP BY sha256
    """,
)

_BODIES: Final = """
    SELECT sha256, place.part AS part, place.at AS "offset", bytes
    FROM wanted LEFT JOIN stored USING (sha256)
    ORDER BY sha256
"""


def _write_bodies(log: Path, results: Path, work: Path, per_task: int) -> int:
    paths = {"results": literally(results), "log": f"{literally(log)}/*.parquet"}
    with (
        connect(work) as database,
        TableWriter(work / BODIES_FILE, BODIES, row_group=per_task) as writer,
        (work / DIGESTS_FILE).open("wb") as out,
    ):
        for statement in _STATEMENTS:
            given = {name: path for name, path in paths.items() if f"${name}" in statement}
            database.execute(statement, given)
        for batch in record_batches(database, _BODIES, rows=_ROWS):
            if batch.column("part").null_count:
                raise UserError("files that were fetched are in no part of the store: fetch again.")
            writer.write(pa.table(batch).cast(BODIES))
            out.write(fixed(batch.column("sha256").cast(pa.binary(32)), 32).tobytes())
    return writer.rows


def _write_members(results: Path, work: Path) -> int:
    """What each candidate got, read off the results in their order."""
    there = digests(work)
    first = _first_words(there)
    start = 0
    with TableWriter(work / MEMBERS_FILE, MEMBERS) as writer:
        columns = ["outcome", "place", "sha256"]
        for batch in pq.ParquetFile(results, pre_buffer=False).iter_batches(_ROWS, columns=columns):
            ok = pc.equal(batch.column("outcome"), "ok")
            rows = np.flatnonzero(pc.fill_null(ok, False).to_numpy(zero_copy_only=False))
            got = batch.take(pa.array(rows))
            wanted = fixed(got.column("sha256").cast(pa.binary(32)), 32)
            body = _places(there, first, wanted)
            writer.write(
                pa.table([pa.array(start + rows), pa.array(body), got.column("place")],
                         schema=MEMBERS)
            )  # fmt: skip
            start += batch.num_rows
    return writer.rows


def _places(there: Digests, first: npt.NDArray[np.uint64], wanted: Digests) -> Ids:
    """The rows of ``there``, which ascend, that are ``wanted``; all of them are there."""
    found = np.searchsorted(first, _first_words(wanted))
    # of several with the same first eight bytes the first is found
    while (wrong := np.flatnonzero((there[found] != wanted).any(axis=1))).size:
        found[wrong] += 1
    return found.astype(np.int64)


def _first_words(some: Digests) -> npt.NDArray[np.uint64]:
    """The first eight bytes as numbers, which sort as the bytes do."""
    return np.ascontiguousarray(some[:, :8]).view(">u8").ravel().astype(np.uint64)


def fixed(column: pa.Array, length: int) -> npt.NDArray[np.uint8]:
    """A column of binaries of a fixed length, without nulls, as (n, length)."""
    if not len(column):
        return np.empty((0, length), np.uint8)
    start = column.offset * length
    data = np.frombuffer(column.buffers()[1], np.uint8)
    return data[start : start + len(column) * length].reshape(-1, length)


def mapped(path: Path, length: int) -> npt.NDArray[np.uint8]:
    """A file of so many bytes each as (n, length), mapped."""
    if path.stat().st_size == 0:
        return np.empty((0, length), np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r")).reshape(-1, length)


def digests(work: Path) -> Digests:
    """The SHA-256 of every file, (n, 32), mapped."""
    return mapped(work / DIGESTS_FILE, 32)
