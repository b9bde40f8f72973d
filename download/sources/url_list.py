"""Images that the user knows already: lists of addresses with the entity, or the query, of each.

A list is Parquet, CSV, TSV or JSON Lines with the columns of ``download/url_files.py``; EntityNet's
released ``images_metadata`` is one, too. Its rows are checked (``url_rows.py``), written down once,
joined with the data set's queries and entities, and come out entity by entity, the best first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from download.sources import MissingInputError, Option, Request, Source, local_file
from etl.errors import UserError

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from download.url_files import List
    from download.url_rows import Tally, Wanted
    from etl.merged_ids import Redirects
    from graph.ontology import Ids

#: Rows of one image of one entity that are united: their texts and queries.
_MOST_COPIES: Final = 100
_MOST_NAMED: Final = 10  # unknown columns in a warning

#: The rows that can be used, as they stand in the lists, and how many of them are held at a time.
_STAGED: Final = "rows.parquet"
_ROWS_AT_ONCE: Final = 1 << 14


def _inputs(request: Request) -> Mapping[str, Any]:
    """The lists by name and digest: a list that a person edits may keep its size."""
    from download.url_files import List, files_of
    from etl.manifest import digest_of_file, read_manifest
    from etl.progress import Progress
    from etl.store import contents_of

    files = files_of(_given(request))
    queries = _queries(request)
    every = files if queries is None else [*files, queries]
    with Progress("digesting", sum(f.stat().st_size for f in every), quiet=request.quiet) as bar:
        described = [{"name": List(f).name, "sha256": digest_of_file(f, bar.add)} for f in every]
    made_from: dict[str, Any] = {
        "urls": described[: len(files)],
        "url_queries": described[len(files) :],
        # by which addresses of files on Commons are told
        "hosts": [request.commons.originals, request.commons.thumbnails],
    }
    if request.store is not None:
        made_from["store"] = contents_of(read_manifest(request.store, "store"))
    return made_from


def _given(request: Request) -> list[Path]:
    if not request.given.get("urls"):
        raise MissingInputError(
            "a list is missing: give --urls FILE, Parquet, CSV, TSV or JSON Lines with the columns "
            "url and entity (such as Q144) or query_hash, and any of text, width, height, licence, "
            "creator, page_url, mime, score. EntityNet's released images_metadata is such a list."
        )
    return [local_file("urls", name) for name in request.given["urls"]]


def _queries(request: Request) -> Path | None:
    """The file of --url-queries. Raises UserError where it isn't there or has other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = request.given.get("url-queries")
    if not given:
        return None
    path = Path(given[0])
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        raise UserError(f"{path} can't be read as Parquet: give EntityNet's queries.") from None
    if missing := [name for name in ("query_hash", "entity") if name not in names]:
        raise UserError(
            f"{path} has no column {missing[0]}: --url-queries takes a Parquet file with "
            "query_hash and entity, such as EntityNet's entitynet-queries.parquet."
        )
    return path


def _find(request: Request) -> Mapping[str, Any]:
    """Write candidates.parquet and available.parquet; memory is bounded by DuckDB's limit."""
    from download.candidates import entity_numbers
    from download.joining import connect
    from download.url_files import List, files_of
    from download.url_rows import Tally, Wanted

    tally = Tally()
    lists = [List(path) for path in files_of(_given(request))]
    entities = entity_numbers(request.entities)
    wanted = Wanted(entities, _merged_into(entities, request.store))
    staged = request.scratch / _STAGED
    _stage(request, lists, wanted, tally, staged)
    _check_not_mostly_bad(tally)
    with connect(request.scratch) as database:
        counts = _join(request, database, wanted, staged)
        counts |= _write(request, database)
    counts = {
        "entities": len(entities),
        "rows": tally.rows,
        "bad": tally.bad.total(),
        "no_pictures": tally.no_pictures,
        **counts,
        "not_wanted": tally.not_wanted + counts["not_wanted"],
    }
    return {
        "counts": counts,
        "reasons": dict(sorted(tally.bad.items())),
        "warnings": [*_warnings(lists, tally), *_unused(counts, request)],
    }


def _merged_into(entities: Ids, store: Path | None) -> Redirects:
    """Which ids were merged into ``entities``, as far as a store says it."""
    import numpy as np

    from etl.manifest import read_manifest
    from etl.merged_ids import Redirects
    from graph.ontology import among

    if store is None:
        return Redirects(np.empty(0, np.int64), np.empty(0, np.int64))
    merged = Redirects.load(store, read_manifest(store, "store")["outputs"])
    lead_there = among(merged.targets, entities)
    return Redirects(merged.ids[lead_there], merged.targets[lead_there])


def _stage(
    request: Request,
    lists: list[List],
    wanted: Wanted,
    tally: Tally,
    staged: Path,
) -> None:
    """Write the rows that can be used, as they come; they are read back in another order."""
    from download.url_rows import ROWS, usable
    from etl.progress import Progress
    from etl.tables import TableWriter

    start = 0
    with (
        Progress("reading the lists", None, unit="row", quiet=request.quiet) as progress,
        TableWriter(staged, ROWS, row_group=_ROWS_AT_ONCE) as writer,
    ):
        for found in lists:
            unit = f"{found.name}, {found.unit}"
            for batch in found.batches():
                writer.write(usable(batch, start, unit, wanted, request.commons, tally))
                start += len(batch.places)
                progress.add(len(batch.places))


def _check_not_mostly_bad(tally: Tally) -> None:
    if 2 * tally.bad.total() <= tally.rows:
        return
    reason, number = tally.bad.most_common(1)[0]
    raise UserError(
        f"{tally.bad.total():,} of {tally.rows:,} rows can't be used, most often for {reason} "
        f"({number:,}, first in {tally.first[reason]}). Is this a list of images?"
    )


def _warnings(lists: list[List], tally: Tally) -> Iterator[str]:
    from etl.show import counted, printable

    for found in lists:
        if found.unknown:
            names = [printable(name[:40]) for name in list(found.unknown)[:_MOST_NAMED]]
            more = " and others" if len(found.unknown) > _MOST_NAMED else ""
            yield f"{found.name}: unknown columns were left out: {', '.join(names)}{more}."
    for reason, number in tally.bad.most_common():
        rows = counted(number, "row was", "rows were")
        yield f"{rows} left out for {reason}, first in {tally.first[reason]}."
    for what, number in tally.left_out.most_common():
        if number:
            yield f"{counted(number, 'value')} of {what} can't be used."


def _unused(counts: Mapping[str, int], request: Request) -> Iterator[str]:
    """What of the lists is about nothing that images are wanted of."""
    from etl.show import counted

    if number := counts["unknown_hashes"]:
        hint = "" if request.given.get("url-queries") else " (--url-queries FILE knows others)"
        yield f"{counted(number, 'hash', 'hashes')} of queries are not the data set's{hint}."
    if number := counts["hashes_without_entity"]:
        yield f"{counted(number, 'hash', 'hashes')} are of queries without an item of Wikidata."
    if number := counts["not_wanted"]:
        rows = counted(number, "row was", "rows were")
        yield f"{rows} left out: no images are wanted of their entities in this data set."
    if number := counts["no_pictures"]:
        rows = counted(number, "row was", "rows were")
        yield f"{rows} left out: files on Commons that have no picture."
    if not counts["rows"]:
        yield "the lists have no row."


# --- which rows are whose ---

#: What tells a list's images apart: 63 bits of the MD5 of the file's name or of the address.
_IMAGE: Final = "(md5_number_lower(coalesce('File:' || file, url)) >> 1)::BIGINT"

#: The data set's entity of each query, null where it has none; some entities are no items of
#: Wikidata (EntityNet's wordnet:…).
_QUERY: Final = """
    CREATE TABLE query AS
    WITH listed AS (
        SELECT query_hash::VARCHAR AS hash, entity::VARCHAR AS id
        FROM queries WHERE query_hash IS NOT NULL
    ), numbered AS (
        SELECT hash, CASE WHEN regexp_full_match(id, 'Q[1-9][0-9]{0,17}')
            THEN substr(id, 2)::BIGINT WHEN id IS NOT NULL THEN -1 END AS entity
        FROM listed
    )
    SELECT DISTINCT hash, coalesce(target, entity) AS entity
    FROM numbered LEFT JOIN merged ON merged.id = numbered.entity
"""

#: One row for each row of a list and each of its queries; hash is null where a row names none.
_NAMED: Final = f"""
    CREATE TABLE named AS
    WITH listed AS (
        SELECT "row", entity, {_IMAGE} AS image, score, hashes FROM staged
    ), asked AS (
        SELECT "row", entity, image, score, unnest(hashes) AS hash,
            generate_subscripts(hashes, 1) AS place
        FROM listed WHERE len(hashes) > 0
    )
    SELECT "row", entity, image, score, NULL::VARCHAR AS hash, 0 AS place
    FROM listed WHERE entity IS NOT NULL AND len(hashes) = 0
    UNION ALL
    SELECT "row", entity, image, score, hash, place FROM asked WHERE entity IS NOT NULL
    UNION ALL
    SELECT "row", query.entity, image, score, asked.hash, place
    FROM asked LEFT JOIN query ON asked.hash = query.hash WHERE asked.entity IS NULL
"""  # noqa: S608

#: ``copy`` numbers the rows of one image of one entity, the best first.
_RANKED: Final = """
    CREATE TABLE ranked AS
    SELECT "row", entity, image, score, hash,
        row_number() OVER (
            PARTITION BY entity, image ORDER BY score DESC NULLS LAST, "row", place, hash
        ) AS "copy"
    FROM named SEMI JOIN wanted USING (entity)
"""

_PLACED: Final = """
    CREATE TABLE placed AS
    SELECT entity, image, "row",
        row_number() OVER (PARTITION BY entity ORDER BY score DESC NULLS LAST, "row") AS place
    FROM ranked WHERE "copy" = 1
"""


def _join(
    request: Request,
    database: duckdb.DuckDBPyConnection,
    wanted: Wanted,
    staged: Path,
) -> dict[str, int]:
    """Make the tables ranked (rows of entities) and placed (images of entities); count the rest."""
    import pyarrow as pa

    from download.joining import count, view

    database.register("wanted", pa.table({"entity": wanted.entities}))
    merged = {"id": wanted.merged.ids, "target": wanted.merged.targets}
    database.register("merged", pa.table(merged))
    view(database, "queries", _queries(request) or request.graph / "queries.parquet")
    view(database, "staged", staged)
    database.execute(_QUERY)
    database.execute(_NAMED)
    counts = {
        "unknown_hashes": count(
            database,
            "SELECT count(*) FROM (SELECT DISTINCT hash FROM named ANTI JOIN query USING (hash) "
            "WHERE entity IS NULL AND hash IS NOT NULL)",
        ),
        "hashes_without_entity": count(
            database,
            "SELECT count(*) FROM (SELECT DISTINCT hash FROM named SEMI JOIN query USING (hash) "
            "WHERE entity IS NULL)",
        ),
        "not_wanted": count(
            database,
            "SELECT count(*) FROM named ANTI JOIN wanted USING (entity) WHERE entity IS NOT NULL",
        ),
    }
    database.execute(_RANKED)
    database.execute("DROP TABLE named")
    database.execute(_PLACED)
    counts["images"] = count(database, "SELECT count(*) FROM placed")
    counts["with_images"] = count(database, "SELECT count(*) FROM placed WHERE place = 1")
    counts["repeated"] = count(database, "SELECT count(*) FROM ranked") - counts["images"]
    return counts


# --- what is written ---

_AVAILABLE: Final = """
    SELECT placed.entity, image, licence FROM placed JOIN staged USING ("row")
"""

_FOUND: Final = """
    SELECT placed.entity, placed.place, ranked."copy", ranked.hash, listed.* EXCLUDE (entity)
    FROM placed
    JOIN ranked ON ranked.entity = placed.entity AND ranked.image = placed.image
    JOIN staged AS listed ON listed."row" = ranked."row"
    WHERE ($cap = 0 OR placed.place <= $cap) AND ranked."copy" <= $copies
"""


def _write(request: Request, database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    import pyarrow as pa

    from download.candidates import AVAILABLE, AVAILABLE_FILE, CANDIDATES_FILE, FOUND
    from etl.tables import TableWriter

    with TableWriter(request.out / AVAILABLE_FILE, AVAILABLE) as available:
        for batch in _ordered(database, _AVAILABLE, "entity, image"):
            available.write(pa.Table.from_batches([batch]).cast(AVAILABLE))
    parameters = {"cap": request.settings.per_entity, "copies": _MOST_COPIES}
    with TableWriter(request.out / CANDIDATES_FILE, FOUND) as writer:
        batches = _ordered(database, _FOUND, 'entity, place, "copy"', parameters)
        for table in _whole_images(batches):
            writer.write(_united(table))
        over = available.rows - writer.rows
        return {"over_cap": over, "candidates": writer.rows}


def _ordered(
    database: duckdb.DuckDBPyConnection,
    join: str,
    order: str,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[pa.RecordBatch]:
    """What a join gives, in an order; the sort begins when the join has let go of its memory.

    In one statement the two want more than the limit where 20 million rows are joined with as many.
    """
    from download.joining import record_batches

    database.execute(f"CREATE TABLE joined AS {join}", parameters)
    query = f"SELECT * FROM joined ORDER BY {order}"  # noqa: S608 - columns of ours
    yield from record_batches(database, query, rows=_ROWS_AT_ONCE)
    database.execute("DROP TABLE joined")


def _whole_images(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in pieces that begin with the first copy of an image."""
    import numpy as np
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for batch in batches:
        table = pa.Table.from_batches([batch])
        (starts,) = np.nonzero(table.column("copy").to_numpy() == 1)
        if len(starts):
            last = int(starts[-1])
            yield pa.concat_tables([*waiting, table.slice(0, last)])
            waiting = [table.slice(last)]
        else:
            waiting.append(table)
    if waiting:
        yield pa.concat_tables(waiting)


def _united(table: pa.Table) -> pa.Table:
    """One row an image, of its first copy; texts and queries of all copies, each once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from download.candidates import FOUND
    from graph.tables import id_strings

    table = table.combine_chunks()
    is_first = table.column("copy").to_numpy() == 1
    image = np.cumsum(is_first) - 1  # of each row
    firsts = table.filter(pa.array(is_first))
    count = firsts.num_rows
    hashes = table.column("hash").combine_chunks()
    has = pc.is_valid(hashes).to_numpy(zero_copy_only=False)
    asked = hashes.filter(pa.array(has))
    texts, langs = (table.column(name).combine_chunks() for name in ("texts", "text_langs"))
    of_text = image[pc.list_parent_indices(texts).to_numpy(zero_copy_only=False)]
    places = firsts.column("place").to_numpy().astype(np.float32)
    known = {
        "entity": id_strings(firsts.column("entity").to_numpy()),
        "reasons": pa.array([["url-list"]] * count, FOUND.field("reasons").type),
        "query_hashes": _lists_of(image[has], asked, asked, count)[0],
        "score": pa.array(np.float32(1) / places),
    }
    known["texts"], known["text_langs"] = _lists_of(
        of_text, pc.list_flatten(texts), pc.list_flatten(langs), count
    )
    columns = [known[name] if name in known else firsts.column(name) for name in FOUND.names]
    return pa.table(columns, names=FOUND.names).cast(FOUND)


def _lists_of(
    owners: npt.NDArray[np.int64], values: pa.Array, beside: pa.Array, count: int
) -> tuple[pa.Array, pa.Array]:
    """Pairs of values of each owner (0 … ``count`` - 1, ascending), each once, in two lists."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    key = owners
    for column in (values, beside):
        codes = pc.dictionary_encode(pc.fill_null(column, "")).indices
        key = key * (len(column) + 1) + codes.to_numpy().astype(np.int64)
    _, at = np.unique(key, return_index=True)
    at.sort()
    offsets = pa.array(np.searchsorted(owners[at], np.arange(count + 1)), pa.int32())
    kept = pa.array(at)
    first, second = (pa.ListArray.from_arrays(offsets, a.take(kept)) for a in (values, beside))
    return first, second


SOURCE: Final = Source(
    name="url-list",
    what="Addresses that you have: Parquet, CSV, TSV, JSON Lines, or EntityNet's images_metadata.",
    inputs=_inputs,
    find=_find,
    options=(
        Option("urls", "A list of addresses with their entities or queries, or a folder.", True),
        Option("url-queries", "Parquet with the query_hash and entity that the lists mean."),
    ),
)
