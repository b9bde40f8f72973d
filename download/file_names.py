"""Names of the files of a mediainfo reading, and the files that have none of their own.

Dumps from before June 2022 have no titles (operations/puppet, 0ce27bc349f); there the names come
from a dump of MediaWiki's table ``page``, whose ``page_id`` is the number in M76. Of several files
of one name, as of one that was moved or deleted while the dump was written, the later revision has
it, then the higher page. What can't be the name of a file is none.

All of that is found once, for every source and every run, and kept beside the reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from download.commons import normal_name
from download.joining import connect, count, record_batches, shown, view
from download.reading import FILES_FILE
from download.sources import Request
from download.tables import titles
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    digest_of_code,
    digests,
    misshapen,
    read_manifest,
    settle,
    tool_versions,
)
from etl.merged_ids import Ids
from etl.progress import Progress
from etl.tables import TableWriter

#: Where names are kept, in the directory of images; also the name of the step.
FOLDER: Final = "mediainfo-names"
#: Names of files that the dump has no title of, in no order (columns TITLES, download/tables.py).
_NAMES: Final = "names.parquet"
#: Pages, ascending, that no source takes for a file.
_LEFT_OUT: Final = "left_out.parquet"

_PAGES = pa.schema([("page", pa.int64())])

#: What nearly all names look like, which are names then; the others are looked at one by one. Each
#: letter is one of its own, whatever stands before it, and the first is none that has a capital.
_FIRST = (
    "A-Z0-9\u05d0-\u05ea\u0620-\u063f\u0641-\u064a"
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_FURTHER = _FIRST + "a-z!\"$'()*+,.;=?@^`\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f\u0400-\u0482-"
_PLAIN: Final = f"[{_FIRST}][{_FURTHER}]*( [{_FURTHER}]+)*"
_SURELY_SHORT: Final = 240  # bytes

_DOUBTFUL: Final = """
SELECT page, file FROM named
WHERE strlen(file) > $short OR NOT regexp_full_match(file, $plain)
"""

#: What several names may have in common: few of all hashes, which are 8 bytes a file.
_TWICE: Final = """
CREATE TABLE twice AS
SELECT name FROM (SELECT hash(file) AS name FROM named WHERE file IS NOT NULL)
GROUP BY name HAVING count(*) > 1
"""

_BEATEN: Final = """
CREATE TABLE beaten AS
SELECT page FROM (
    SELECT page, row_number() OVER (PARTITION BY file ORDER BY revision DESC, page DESC) AS place
    FROM (SELECT *, hash(file) AS name FROM named WHERE file IS NOT NULL)
    SEMI JOIN twice USING (name)
    ANTI JOIN not_name USING (page)
)
WHERE place > 1
"""

_ALL_LEFT_OUT: Final = "FROM not_name UNION ALL FROM beaten ORDER BY page"


@dataclass(frozen=True)
class Names:
    """What was found: ``counts`` of files ``named`` by the table, ``not_names``, ``repeated``."""

    directory: Path
    counts: Mapping[str, int]

    def create_view(self, database: duckdb.DuckDBPyConnection) -> None:
        """Makes the view ``files`` of the view ``read``, the reading's table."""
        _create_named(database, self.directory / _NAMES if self.counts["named"] else None)
        if self.counts["not_names"] or self.counts["repeated"]:
            view(database, "left_out", self.directory / _LEFT_OUT)
            database.sql("FROM named ANTI JOIN left_out USING (page)").create_view("files")
        else:
            database.sql("FROM named").create_view("files")


def _create_named(database: duckdb.DuckDBPyConnection, names: Path | None) -> None:
    if names is None:
        database.sql("FROM read").create_view("named")
        return
    view(database, "title", names)
    database.sql(
        "SELECT read.* REPLACE (coalesce(read.file, title.file) AS file) "
        "FROM read LEFT JOIN title USING (page)"
    ).create_view("named")


def names_of(request: Request, reading: Path, manifest: Mapping[str, Any], pages: Any) -> Names:
    """Finds the names of a reading, unless they stand there; once in a run.

    ``manifest`` is the reading's. ``pages`` identifies the dump of the table that was given, None
    for none.

    Raises UserError where that isn't one.
    """
    if FOLDER not in request.shared:
        made_from = {
            "reading": manifest["outputs"][FILES_FILE]["sha256"],
            "pages": pages if manifest["counts"]["untitled"] else None,
            "code": digest_of_code(Path(__file__).parent),
        }
        final = request.images / FOLDER
        counts = None if request.fresh else _standing(final, made_from)
        if counts is None:
            counts = _make(request, reading, final, made_from)
        request.shared[FOLDER] = Names(final, counts)
    found: Names = request.shared[FOLDER]
    return found


def _standing(final: Path, made_from: Mapping[str, Any]) -> dict[str, int] | None:
    if not (final / MANIFEST).exists():
        return None
    manifest = read_manifest(final, FOLDER)
    if manifest.get("made_from") != made_from or misshapen(final, manifest):
        return None
    counts: dict[str, int] = manifest["counts"]
    return counts


def _make(
    request: Request, reading: Path, final: Path, made_from: Mapping[str, Any]
) -> dict[str, int]:
    out = request.scratch / FOLDER
    out.mkdir()
    with connect(request.scratch) as database:
        view(database, "read", reading / FILES_FILE)
        outputs, named = [_LEFT_OUT], 0
        if made_from["pages"] is not None:
            named = _name(database, request, out / _NAMES)
            outputs.append(_NAMES)
        _create_named(database, out / _NAMES if named else None)
        counts = {"named": named, **_leave_out(database, request, out / _LEFT_OUT)}
    manifest = {
        "step": FOLDER,
        "versions": tool_versions(),
        "made_from": made_from,
        "counts": counts,
        "outputs": digests(out, outputs, quiet=request.quiet),
    }
    settle(out, final, manifest)
    return counts


# --- names of files without a title -------------------------------------------------------------


def _name(database: duckdb.DuckDBPyConnection, request: Request, out: Path) -> int:
    """Writes the names that the table has of files without a title; how many."""
    dump = Path(request.given["pages"][0])
    untitled = _untitled(database)
    with Progress("reading names", dump.stat().st_size, quiet=request.quiet) as progress:
        titles(dump, untitled, out, progress.add)
    _refuse_repeated(out, untitled, dump)
    return int(pq.read_metadata(out).num_rows)


def _untitled(database: duckdb.DuckDBPyConnection) -> Ids:
    """Pages of files without a title, ascending, in 8 bytes each."""
    found = np.empty(count(database, "SELECT count(*) FROM read WHERE file IS NULL"), np.int64)
    start = 0
    for batch in record_batches(database, "SELECT page FROM read WHERE file IS NULL"):
        found[start : start + len(batch)] = batch.column("page").to_numpy()
        start += len(batch)
    found.sort()
    return found


def _refuse_repeated(names: Path, pages: Ids, dump: Path) -> None:
    """Numbers are the key of the table: which of two names to believe, nobody says."""
    seen: npt.NDArray[np.bool_] = np.zeros(len(pages), np.bool_)
    for batch in pq.ParquetFile(names).iter_batches(columns=["page"]):
        there = np.searchsorted(pages, batch.column("page").to_numpy())
        once, first = np.unique(there, return_index=True)
        if seen[there].any() or len(first) < len(there):
            twice = there[seen[there]] if seen[there].any() else np.delete(there, first)
            raise UserError(
                f"{dump} has two rows of the page {pages[twice[0]]}, which a table of MediaWiki "
                "can't have: fetch it again."
            )
        seen[once] = True


# --- what is left out ---------------------------------------------------------------------------


def _leave_out(database: duckdb.DuckDBPyConnection, request: Request, out: Path) -> dict[str, int]:
    """Writes the pages whose name is none, or another file's; how many of each."""
    not_names = request.scratch / "not_names.parquet"
    with (
        Progress("looking at names", None, unit=" unusual ones", quiet=request.quiet) as progress,
        TableWriter(not_names, _PAGES) as writer,
    ):
        parameters = {"short": _SURELY_SHORT, "plain": _PLAIN}
        for batch in record_batches(database, _DOUBTFUL, parameters):
            names = batch.column("file").to_pylist()
            wrong = pa.array([normal_name(name) != name for name in names], pa.bool_())
            writer.write(pa.table([batch.column("page").filter(wrong)], schema=_PAGES))
            progress.add(len(names))
    view(database, "not_name", not_names)
    with shown(database, "comparing names", quiet=request.quiet):
        database.execute(_TWICE)
        some = count(database, "SELECT count(*) FROM twice")
        database.execute(_BEATEN if some else "CREATE TABLE beaten (page BIGINT)")
    with TableWriter(out, _PAGES) as left_out:
        for batch in record_batches(database, _ALL_LEFT_OUT):
            left_out.write(pa.Table.from_batches([batch]))
    return {"not_names": writer.rows, "repeated": left_out.rows - writer.rows}
