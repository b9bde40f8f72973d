"""Files of Wikimedia Commons that are said to depict an entity, from the mediainfo dump.

Structured data of a file says what it depicts (P180), what its main subject is (P921) and of which
work it is a digital representation (P6243). Statements that an editor has marked as prominent have
the rank ``preferred`` (WikibaseMediaInfo, resources/statements/ItemWidget.js). A recipe may have
what depicts a subclass count, too (``[images]``, graph/settings.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from download.mediainfo_files import OPTIONS, inputs
from download.sources import Request, Source

if TYPE_CHECKING:
    import duckdb


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

#: At most so many reasons, the best: a family's photograph may depict a hundred of its species.
_REASONS: Final = 8

_ROWS: Final = f"""
WITH reason AS (
    SELECT
        chosen.entity,
        chosen.page,
        list(
            concat(
                'P', depicts.property,
                if(depicts.preferred, ' preferred', ''),
                if(target.item = target.entity, '',
                   concat(' via Q', target.item, ' ', target.distance))
            )
            ORDER BY NOT depicts.preferred, target.distance, depicts.property, target.item
        )[1:{_REASONS}] AS reasons
    FROM chosen
    JOIN depicts USING (page)
    JOIN target ON target.entity = chosen.entity AND target.item = depicts.item
    GROUP BY ALL
)
SELECT chosen.entity, chosen.place, reason.reasons, files.*
FROM chosen
JOIN files USING (page)
JOIN reason ON reason.entity = chosen.entity AND reason.page = chosen.page
ORDER BY chosen.entity, chosen.place
"""  # noqa: S608 - of a constant of ours


def find(request: Request) -> Mapping[str, Any]:
    """Writes the files that show each entity, the best first, up to the recipe's cap.

    Beside them available.parquet: all pairs before the cap.
    """
    import pyarrow as pa

    from download.below import targets
    from download.candidates import (
        AVAILABLE,
        AVAILABLE_FILE,
        CANDIDATES_FILE,
        FOUND,
        entity_numbers,
    )
    from download.commons import FORMS
    from download.joining import record_batches, shown
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
            pairs = _count(database, "SELECT count(*) FROM shown")
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
        total = _count(database, "SELECT count(*) FROM chosen")
        with (
            Describer(request) as describer,
            Progress("writing", total, unit=" rows", quiet=request.quiet) as progress,
            TableWriter(request.out / CANDIDATES_FILE, FOUND) as writer,
        ):
            for batch in record_batches(database, _ROWS, rows=1 << 15):
                writer.write(describer.found(batch))
                progress.add(batch.num_rows)
        # no count(DISTINCT ...), which keeps all of them in memory
        with_images = _count(database, "SELECT count(*) FROM (SELECT DISTINCT entity FROM pair)")
        distinct = _count(database, "SELECT count(*) FROM (SELECT DISTINCT page FROM pair)")
        kept = _count(database, "SELECT count(*) FROM (SELECT DISTINCT page FROM chosen)")
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
            "warnings": files.warnings,
        }


def _count(database: duckdb.DuckDBPyConnection, query: str) -> int:
    ((number,),) = database.execute(query).fetchall()
    return int(number)


SOURCE: Final = Source(
    "commons-depicts",
    "Files of Wikimedia Commons that depict an entity, from the mediainfo dump.",
    inputs,
    find,
    OPTIONS,
)
