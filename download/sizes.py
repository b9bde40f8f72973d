"""Facts of the files that are wanted, from MediaWiki's tables: a join larger than memory.

The wanted names go to the disk, distinct, and their hashes into memory. Each dump is read once, and
what may be wanted of it goes to the disk too. DuckDB joins the two on the names and sorts the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download import tables
from download.candidates import FACTS, filled
from download.joining import connect, literally, record_batches, view
from etl.errors import UserError
from etl.merged_ids import Ids
from etl.progress import Tick
from etl.tables import TableWriter

_NAMES = pa.schema([("file", pa.string())])
_DISTINCT = (
    "SELECT DISTINCT file FROM read_parquet($found, hive_partitioning = false) "
    "WHERE file IS NOT NULL"
)

# As MediaWiki asks it (SpecialUnusedImages.php): file_deleted is 0, and file_latest names the
# revision. Of a deleted file file_latest is 0. 1 in fr_deleted is File::DELETED_FILE.
_OF_FILES = """
    SELECT
        name, bytes, width, height, sha1, mime,
        file.deleted <> 0 OR coalesce(hidden, 0) & 1 <> 0 AS deleted
    FROM file LEFT JOIN filerevision USING (latest) LEFT JOIN filetypes USING (type)
"""
_OF_IMAGE = "SELECT name, bytes, width, height, sha1, mime, false AS deleted FROM image"

# Names have underscores in MediaWiki's tables. A width of 0 says that there is none, as of a sound.
_FACTS = """
    SELECT
        file,
        name IS NULL AS unknown,
        coalesce(deleted, true) AS gone,
        CASE WHEN sized THEN width END::INTEGER AS width,
        CASE WHEN sized THEN height END::INTEGER AS height,
        mime,
        bytes,
        lower(hex(sha1)) AS sha1
    FROM wanted
    LEFT JOIN (
        SELECT *, width > 0 AND height > 0 AND greatest(width, height) < 2147483648 AS sized
        FROM known
    ) ON name = encode(replace(file, ' ', '_'))
    WHERE $unknown OR name IS NOT NULL
    ORDER BY file
"""


def write_sizes(
    dumps: Mapping[str, Path], found: Sequence[Path], work: Path, out: Path, tick: Tick
) -> dict[str, int]:
    """Writes what ``dumps`` say of the files in ``found`` (columns FACTS, by ``file``); the counts.

    ``dumps`` are by table: ``image``, or ``file``, ``filerevision`` and ``filetypes``. ``found``
    are Parquet files with a column ``file``. Files that the dumps don't have, or have as deleted,
    are ``gone``, unless the dumps know fewer files than they don't: those are of another wiki, or
    of years ago, and nothing is said of what they don't know. What goes to the disk goes below
    ``work``.

    With 20 million files wanted of 20 million it takes less than 1 GB of memory.

    Raises UserError where a dump is broken, isn't what it should be, or has a name twice.
    """
    parts = {table: work / f"{table}.parquet" for table in ("wanted", *dumps)}
    try:
        hashes = _keep_names(found, parts["wanted"], work)
        rows = _read(dumps, hashes, parts, tick)
        wanted = pq.read_metadata(parts["wanted"]).num_rows
        del hashes
        pa.default_memory_pool().release_unused()
        with connect(work) as database:
            for table, part in parts.items():
                view(database, table, part)
            database.sql(_OF_IMAGE if "image" in dumps else _OF_FILES).create_view("known")
            dump = next(iter(dumps.values()))
            counts = _write(database, out, dump, unknown=True)
            if counts["unknown"] > counts["found"] + counts["deleted"]:
                _write(database, out, dump, unknown=False)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return {"wanted": wanted, **counts, "rows": rows}


def _keep_names(found: Sequence[Path], out: Path, work: Path) -> Ids:
    """Puts the distinct files into ``out``; their hashes, ascending."""
    hashes = [np.empty(0, np.int64)]
    with connect(work) as database, TableWriter(out, _NAMES, repeated=[]) as writer:
        parameters = {"found": [literally(path) for path in found]}
        for batch in record_batches(database, _DISTINCT, parameters) if found else ():
            names = pc.replace_substring(batch.column("file"), " ", "_").cast(pa.binary())
            hashes.append(tables.hashes_of(names.to_pylist()))
            writer.write(pa.table(batch))
    joined = np.concatenate(hashes)
    joined.sort()
    return joined


def _read(dumps: Mapping[str, Path], wanted: Ids, parts: Mapping[str, Path], tick: Tick) -> int:
    """What may be wanted of each dump, into its part; how many rows were read."""
    if "image" in dumps:
        return tables.read_image(dumps["image"], wanted, parts["image"], tick)
    rows = tables.read_file(dumps["file"], wanted, parts["file"], tick)
    revisions = np.sort(pq.read_table(parts["file"], columns=["latest"]).column(0).to_numpy())
    revision_dump, types_dump = dumps["filerevision"], dumps["filetypes"]
    rows += tables.read_filerevision(revision_dump, revisions, parts["filerevision"], tick)
    return rows + tables.read_filetypes(types_dump, parts["filetypes"], tick)


def _write(
    database: duckdb.DuckDBPyConnection, out: Path, dump: Path, *, unknown: bool
) -> dict[str, int]:
    """The table, with or without the files that no dump has; what of each there is."""
    counts = dict.fromkeys(("found", "deleted", "unknown", "sizeless"), 0)
    last = None  # file of the row before
    with TableWriter(out, FACTS, repeated=["mime"]) as writer:
        for batch in record_batches(database, _FACTS, {"unknown": unknown}):
            _refuse_repeated(batch.column("file"), last, dump)
            last = batch.column("file")[-1]
            gone = batch.column("gone")
            there = batch.filter(pc.invert(gone))
            counts["found"] += len(there)
            counts["sizeless"] += there.column("width").null_count
            missing = pc.sum(batch.column("unknown")).as_py()
            counts["unknown"] += missing
            counts["deleted"] += len(batch) - len(there) - missing
            columns = {
                name: pc.if_else(gone, pa.scalar(None, FACTS.field(name).type), batch.column(name))
                for name in ("width", "height", "mime", "bytes", "sha1")
            }
            table = filled(FACTS, {"file": batch.column("file"), "gone": gone, **columns})
            writer.write(table)
    return counts


def _refuse_repeated(files: pa.Array, last: pa.Scalar | None, dump: Path) -> None:
    """Names are a key of ``image`` and of ``file``: which of two rows to believe, nobody says."""
    first = pa.array([None if last is None else last.as_py()], pa.string())
    before = pa.concat_arrays([first, files[:-1]])
    repeated = files.filter(pc.equal(files, before))
    if len(repeated):
        raise UserError(
            f"{dump} has two rows of the file {repeated[0].as_py()[:80]!r}, which a table of "
            "MediaWiki can't have: fetch it again."
        )
