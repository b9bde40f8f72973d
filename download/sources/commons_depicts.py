"""Files of Wikimedia Commons that are said to depict an entity, from the mediainfo dump.

Structured data of a file says what it depicts (P180), what its main subject is (P921) and of which
work it is a digital representation (P6243). Statements that an editor has marked as prominent have
the rank ``preferred`` (WikibaseMediaInfo, resources/statements/ItemWidget.js). A recipe may have
what depicts a subclass count, too (``[images]``, graph/settings.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from download.mediainfo_files import OPTIONS, inputs
from download.sources import Request, Source

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.merged_ids import Ids


#: Pairs of an entity and a file that shows it. ``rank`` is lower for better: what is prominent
#: before the rest, then by distance.
_SHOWN: Final = """
CREATE TABLE shown AS
SELECT target.entity, depicts.page, min(if(depicts.preferred, 0, 65536) + target.distance) AS rank
FROM depicts
JOIN target USING (item)
GROUP BY ALL
"""

#: Those that have a picture. A statement of its own, lest all files be looked through before it is
#: known which of them are asked for (2.4 times the seconds).
_PAIRS: Final = """
CREATE TABLE pair AS
SELECT shown.* FROM shown
SEMI JOIN (
    SELECT page FROM files
    SEMI JOIN form ON lower(list_last(string_split(files.file, '.'))) = form.extension
) AS picture USING (page)
"""

#: Equally good ones in an order that the seed decides, and nothing else.
_CHOSEN: Final = """
CREATE TABLE chosen AS
SELECT entity, page, place FROM (
    SELECT entity, page, row_number() OVER (
        PARTITION BY entity ORDER BY rank, md5(concat($seed, ':', page)), page
    ) AS place
    FROM pair
)
WHERE place <= $most
"""

_AVAILABLE: Final = """
SELECT pair.entity, pair.page AS image, licence.licence
FROM pair
JOIN files USING (page)
JOIN licence
    ON files.licences IS NOT DISTINCT FROM licence.licences
    AND files.statuses IS NOT DISTINCT FROM licence.statuses
ORDER BY pair.entity, image
"""

#: The files of the pairs that were chosen. Why they were stands apart, in the same order: a file's
#: row is a hundred times as wide as a reason, and no list that DuckDB gathers goes to the disk.
_FILES: Final = """
SELECT chosen.entity, chosen.place, files.*
FROM chosen JOIN files USING (page)
ORDER BY chosen.entity, chosen.place
"""

_REASONS: Final = """
SELECT chosen.entity, chosen.place, property, preferred, target.item, distance
FROM chosen
JOIN depicts USING (page)
JOIN target ON target.entity = chosen.entity AND target.item = depicts.item
ORDER BY chosen.entity, chosen.place, NOT preferred, distance, property, target.item
"""

#: At most so many reasons, the best: a family's photograph may depict a hundred of its species.
_MOST_REASONS: Final = 8


def find(request: Request) -> Mapping[str, Any]:
    """Writes the files that show each entity, the best first, up to the recipe's cap.

    Beside them available.parquet: all pairs before the cap.
    """
    import pyarrow as pa

    from download.below import targets, unwalked
    from download.candidates import (
        AVAILABLE,
        AVAILABLE_FILE,
        CANDIDATES_FILE,
        FOUND,
        entity_numbers,
    )
    from download.commons import FORMS
    from download.joining import count, record_batches, shown
    from download.mediainfo_files import Describer, opened
    from etl.progress import Progress
    from etl.tables import TableWriter

    settings = request.settings
    entities = entity_numbers(request.entities)
    with opened(request) as files:
        database = files.database
        # tables of the database's own: it knows how long these are, and so how far it is
        database.register("extensions", pa.table({"extension": list(FORMS)}))
        database.execute("CREATE TABLE form AS FROM extensions")
        looked_for = targets(entities, settings, request.graph, request.store)
        database.register("targets", looked_for)
        database.execute("CREATE TABLE target AS FROM targets")
        with shown(database, "matching", quiet=request.quiet):
            database.execute(_SHOWN)
            database.execute(_PAIRS)
            pairs = count(database, "SELECT count(*) FROM shown")
            database.execute("DROP TABLE shown")
        most = settings.per_entity or (1 << 62)
        with shown(database, "choosing", quiet=request.quiet):
            database.execute(_CHOSEN, {"seed": settings.seed, "most": most})
        files.register_licences("pair")
        with (
            Progress("writing pairs", None, unit=" pairs", quiet=request.quiet) as progress,
            TableWriter(request.out / AVAILABLE_FILE, AVAILABLE) as available,
        ):
            for batch in record_batches(database, _AVAILABLE):
                available.write(pa.Table.from_batches([batch]).cast(AVAILABLE))
                progress.add(batch.num_rows)
        total = count(database, "SELECT count(*) FROM chosen")
        reasons = request.scratch / "reasons.parquet"
        with (
            Progress("writing reasons", total, unit=" rows", quiet=request.quiet) as progress,
            TableWriter(reasons, pa.schema([FOUND.field("reasons")])) as because,
        ):
            for some in _reasons(record_batches(database, _REASONS)):
                because.write(pa.table([some], names=["reasons"]))
                progress.add(len(some))
        with (
            Describer(request) as describer,
            Progress("writing", total, unit=" rows", quiet=request.quiet) as progress,
            TableWriter(request.out / CANDIDATES_FILE, FOUND) as writer,
        ):
            batches = record_batches(database, _FILES, rows=1 << 15)
            for batch, some in _beside(batches, _column(reasons)):
                writer.write(describer.found(batch.append_column("reasons", some)))
                progress.add(batch.num_rows)
        with_images = count(database, "SELECT count(*) FROM (SELECT DISTINCT entity FROM pair)")
        distinct = count(database, "SELECT count(*) FROM (SELECT DISTINCT page FROM pair)")
        kept = count(database, "SELECT count(*) FROM (SELECT DISTINCT page FROM chosen)")
        return {
            "counts": {
                "candidates": writer.rows,
                "with_images": with_images,
                "files": kept,
                "no_pictures": pairs - available.rows,  # sound and the like, files without a name
                "pairs_before_cap": available.rows,
                "files_before_cap": distinct,
                "items_looked_for": looked_for.num_rows,
            },
            "mediainfo": files.manifest,
            "warnings": [*files.warnings, *unwalked(settings, request.graph, request.store)],
        }


def _reasons(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Array]:
    """The reasons of each pair as people read them, of rows of _REASONS: a list for each pair."""
    import numpy as np
    import pyarrow as pa

    waiting = None  # the last pair, of which more may come
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        if not len(rows):
            continue
        if waiting is not None:
            rows = pa.concat_tables([waiting, rows]).combine_chunks()
        entity, place = (rows.column(name).to_numpy() for name in ("entity", "place"))
        new = np.ones(len(entity), bool)
        new[1:] = (entity[1:] != entity[:-1]) | (place[1:] != place[:-1])
        starts = np.flatnonzero(new)
        last = int(starts[-1])
        if last:
            yield _lists(rows.slice(0, last), starts[:-1])
        waiting = rows.slice(last)
        if len(waiting) > _MOST_REASONS:
            waiting = waiting.slice(0, _MOST_REASONS)
    if waiting is not None:
        yield _lists(waiting, np.zeros(1, np.int64))


def _lists(rows: pa.Table, starts: Ids) -> pa.Array:
    """One list for each pair, whose rows begin at ``starts``; the first reasons of each."""
    import numpy as np
    import pyarrow as pa

    ends = np.append(starts[1:], len(rows))
    rank = np.arange(len(rows)) - np.repeat(starts, ends - starts)
    kept = rows.filter(pa.array(rank < _MOST_REASONS))
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(np.minimum(ends - starts, _MOST_REASONS), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), _said(kept))


def _said(rows: pa.Table) -> pa.Array:
    """ "P180", "P180 preferred", "P180 via Q25324 1"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def join(*parts: Any) -> Any:
        return pc.binary_join_element_wise(*parts, "")

    def text(name: str) -> Any:
        return rows.column(name).cast(pa.string())

    via = join(" via Q", text("item"), " ", text("distance"))
    itself = pc.equal(rows.column("item"), rows.column("entity"))
    rank = pc.if_else(rows.column("preferred"), " preferred", "")
    said = join("P", text("property"), rank, pc.if_else(itself, "", via))
    return said.combine_chunks() if isinstance(said, pa.ChunkedArray) else said


def _column(path: Path) -> Iterator[pa.Array]:
    """The only column of a table, in pieces."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches():
        yield batch.column(0)


def _beside(
    batches: Iterator[pa.RecordBatch], column: Iterator[pa.Array]
) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    """Batches with the values of a column of as many rows, which comes in other pieces."""
    import pyarrow as pa

    values = next(column, pa.nulls(0))
    for batch in batches:
        parts = [values[: len(batch)]]
        values = values[len(batch) :]
        while (missing := len(batch) - sum(map(len, parts))) > 0:
            values = next(column)
            parts.append(values[:missing])
            values = values[missing:]
        yield batch, pa.concat_arrays([part for part in parts if len(part)])


SOURCE: Final = Source(
    "commons-depicts",
    "Files of Wikimedia Commons that depict an entity, from the mediainfo dump.",
    inputs,
    find,
    OPTIONS,
)
