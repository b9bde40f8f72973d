"""A bucket of candidates → the rows of its images, in their order: a task of a pack.

    rows/000012.parquet      ROWS, for the images of bucket 12

What is known of an image is spread over its candidates, their entities and queries. DuckDB brings
these together and in order; then each image is put together (:mod:`download.pack.record`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from download.joining import connect, record_batches, view
from download.pack.buckets import bucket_file
from download.pack.decode import table_file
from download.pack.merge import FILES_FILE
from download.pack.plan import digests
from download.pack.record import Record, record
from etl.batches import batched
from etl.progress import Tick
from etl.tables import TableWriter

FOLDER: Final = "rows"
KNOWN_FILE: Final = "known.parquet"

#: What is read of a data set.
GRAPH_TABLES: Final = ("entities.parquet", "queries.parquet")

_STRINGS = pa.list_(pa.string())

#: A row for each image, by key. Null is what isn't known; lists may be empty.
IMAGE: Final = pa.schema(
    [
        ("key", pa.string()),  # the first 32 digits of sha256; KEY.jpg in its shard
        ("caption", pa.string()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("file", pa.string()),
        ("licence", pa.string()),
        ("creator", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("format", pa.string()),
        ("sha256", pa.string()),
        ("entities", _STRINGS),
        ("roots", _STRINGS),  # of all entities
        ("query_hashes", _STRINGS),  # of queries that found it
        ("texts", _STRINGS),
        ("text_langs", _STRINGS),
        ("sources", _STRINGS),
        (
            "files",  # everything that became this image, itself first
            pa.list_(
                pa.struct(
                    [
                        ("sha256", pa.string()),
                        ("url", pa.string()),
                        ("page_url", pa.string()),
                        ("source_id", pa.string()),
                        ("width", pa.int32()),
                        ("height", pa.int32()),
                    ]
                )
            ),
        ),
    ]
)

#: What a row has besides: the members of its sample, where its JPEG is, and what is counted.
ROWS: Final = pa.schema(
    [
        *IMAGE,
        ("json", pa.binary()),
        ("txt", pa.binary()),
        ("task", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("named", pa.bool_()),  # the caption is just a name
        ("cut", pa.bool_()),  # a list was longer than MOST_LISTED
    ]
)

_PICTURE: Final = ("width", "height", "original_width", "original_height", "format")
_PLACE: Final = ("task", "offset", "length")
_PLAIN: Final = ("key", "caption", "url", "sha256", *_PICTURE)
_OPTIONAL: Final = ("page_url", "file", "licence", "creator")

_READ: Final = 1 << 13  # rows as Python objects at once


class Bucket(msgspec.Struct, frozen=True):
    """A task: the images from ``first`` on, ``images`` of them. ``graph`` may be ""."""

    number: int
    first: int
    images: int
    work: str
    per_task: int
    graph: str


def rows_file(work: Path, number: int) -> Path:
    """Where the rows of a bucket stand."""
    return work / FOLDER / f"{number:06d}.parquet"


def write_known(entities: Path, graph: Path | None, work: Path) -> None:
    """Writes what is known of every entity that images were looked for, for all tasks."""
    schema = pa.schema([("id", pa.string()), ("entity_name", pa.string()), ("roots", _STRINGS),
                        *((name, pa.string()) for name in _OF_ENTITIES)])  # fmt: skip
    with connect(work) as database, TableWriter(work / KNOWN_FILE, schema) as writer:
        view(database, "entities", entities)
        _add_graph(database, graph)
        for batch in record_batches(database, _KNOWN):
            writer.write(pa.table(batch).cast(schema))


def write_rows(bucket: Bucket, tick: Tick) -> None:
    """Writes the rows of a bucket, by a temporary file; ``tick`` is told each image."""
    work = Path(bucket.work)
    final = rows_file(work, bucket.number)
    temporary = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    try:
        with TableWriter(temporary, ROWS, row_group=_READ) as writer:
            for rows in batched(_rows(bucket, work), _READ):
                writer.write(pa.Table.from_pylist(rows, ROWS))
                tick(len(rows))
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


# --- joins --------------------------------------------------------------------------------------

_OF_ENTITIES: Final = ("natural_type", "natural_type_name", "name_hash", "name_query")

# An entity has a query for its name for each engine that the recipe names.
_KNOWN: Final = """
    WITH names AS (
        SELECT entity, first(query_hash ORDER BY engine NULLS FIRST, query_hash) AS name_hash,
               first(query ORDER BY engine NULLS FIRST, query_hash) AS name_query
        FROM graph_queries WHERE query_type = 'name' GROUP BY entity
    )
    SELECT e.id, e.name AS entity_name, e.roots, g.natural_type, g.natural_type_name, name_hash,
           name_query
    FROM entities e LEFT JOIN graph_entities g USING (id) LEFT JOIN names n ON n.entity = e.id
    ORDER BY e.id
"""

_NO_GRAPH: Final = """
    CREATE VIEW graph_entities AS
    SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS natural_type, NULL::VARCHAR AS natural_type_name
    WHERE false;
    CREATE VIEW graph_queries AS
    SELECT NULL::VARCHAR AS query_hash, NULL::VARCHAR AS query, NULL::VARCHAR AS query_type,
           NULL::VARCHAR AS entity, NULL::VARCHAR AS engine
    WHERE false;
"""

_CANDIDATES: Final = """
    SELECT f.* EXCLUDE query_hashes, k.* EXCLUDE id
    FROM found f LEFT JOIN known k ON k.id = f.entity
    ORDER BY image, candidate
"""

_QUERIES: Final = """
    WITH asked AS (
        SELECT image, candidate, unnest(query_hashes) AS query_hash,
               generate_subscripts(query_hashes, 1) AS place
        FROM found WHERE len(query_hashes) > 0
    ),
    once AS (
        SELECT image, query_hash, min({'candidate': candidate, 'place': place}) AS met
        FROM asked GROUP BY image, query_hash
    )
    SELECT image, query_hash AS hash, query, query_type AS type, entity
    FROM once LEFT JOIN graph_queries USING (query_hash)
    ORDER BY image, met, engine, entity
"""


def _add_graph(database: duckdb.DuckDBPyConnection, graph: Path | None) -> None:
    if graph is None:
        database.execute(_NO_GRAPH)
        return
    for name in GRAPH_TABLES:
        view(database, f"graph_{Path(name).stem}", graph / name)


def _rows(bucket: Bucket, work: Path) -> Iterator[dict[str, Any]]:
    graph = Path(bucket.graph) if bucket.graph else None
    with (
        pa.memory_map(str(bucket_file(work, bucket.number))) as file,
        connect(work) as database,
    ):
        database.register("found", pa.ipc.open_file(file).read_all())
        view(database, "known", work / KNOWN_FILE)
        _add_graph(database, graph)
        # to its end before the other begins: each has the whole of the memory
        asked = defaultdict[int, list[dict[str, Any]]](list)
        for row in _read(database, _QUERIES):
            asked[row.pop("image")].append(row)
        found = groupby(_read(database, _CANDIDATES), itemgetter("image"))
        for picture, (image, rows) in zip(_pictures(bucket, work), found, strict=True):
            assert image == picture.pop("image"), "every image has a candidate"
            yield _row(picture, list(rows), asked.pop(image, []))


def _read(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    for batch in record_batches(database, query, rows=_READ):
        yield from batch.to_pylist()


def _pictures(bucket: Bucket, work: Path) -> Iterator[dict[str, Any]]:
    """What was decoded of the file that stands for each image, and where its JPEG is."""
    some = slice(bucket.first, bucket.first + bucket.images)
    stands: npt.NDArray[np.int64] = np.load(work / FILES_FILE, mmap_mode="r")[some]
    sha256 = digests(work)[stands]
    task = stands // bucket.per_task
    numbers, starts = np.unique(task, return_index=True)
    image = bucket.first
    for number, (start, end) in zip(
        numbers.tolist(), pairwise([*starts.tolist(), len(stands)]), strict=True
    ):
        path = table_file(work, number)
        table = pq.read_table(path, columns=[*_PICTURE, "offset", "length"], partitioning=None)
        taken = table.take(pa.array(stands[start:end] - number * bucket.per_task))
        for row in taken.to_pylist():
            digest = sha256[image - bucket.first].tobytes().hex()
            yield {**row, "task": number, "image": image, "key": digest[:32], "sha256": digest}
            image += 1


# --- rows ---------------------------------------------------------------------------------------


def _row(
    picture: dict[str, Any], rows: Sequence[dict[str, Any]], queries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    place = {name: picture.pop(name) for name in _PLACE}
    for row in rows:
        row["sha256"] = row["sha256"].hex()
    made, cut = record(picture, rows, queries)
    return {
        **_columns(made),
        "json": msgspec.json.encode(made),
        "txt": made.caption.encode(),
        **place,
        "named": all(text.text != made.caption for text in made.written()),
        "cut": cut,
    }


def _columns(made: Record) -> dict[str, Any]:
    texts = made.written()
    return {
        **{name: getattr(made, name) for name in _PLAIN},
        **{name: getattr(made, name) or None for name in _OPTIONAL},
        "entities": [entity.id for entity in made.entities],
        "roots": _united(entity.roots for entity in made.entities),
        "query_hashes": [query.hash for query in made.queries if query.found],
        "texts": [text.text for text in texts],
        "text_langs": [text.lang or None for text in texts],
        "sources": _united(entity.sources for entity in made.entities),
        "files": [
            {
                "sha256": file.sha256,
                "url": file.url,
                "page_url": file.page_url or None,
                "source_id": file.source_id or None,
                "width": file.width,
                "height": file.height,
            }
            for file in made.files
        ],
    }


def _united(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(value for values in lists for value in values if value))
