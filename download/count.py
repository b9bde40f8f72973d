"""How many images there are, from the candidates alone: before one of them is downloaded.

For each source and each root: how many entities have at least 1, 10, 100 images, how many distinct
files that is, under which licences and of which types, and how images spread over entities. Where
a source kept the pairs that its cap took away (available.parquet), the same before the cap.

All counts are of pairs of an entity and a file, each once. A file is its name on Wikimedia Commons
or, elsewhere, its URL. The files of a source are those rows of the merged candidates that name it,
because only there has every source said what it knows of a file's licence. An entity with several
roots counts for each of them, and once for all.
"""

from __future__ import annotations

import re
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from download.candidates import (
    AVAILABLE,
    AVAILABLE_FILE,
    CANDIDATES,
    CANDIDATES_FILE,
    ENTITIES,
    ENTITIES_FILE,
    FOLDER,
)
from download.joining import connect, literally
from etl.errors import UserError
from etl.manifest import check_whole, read_manifest
from etl.progress import Progress, Tick

#: What the rows over all sources and those over all roots are called; no id, no name of a module.
ALL_SOURCES: Final = "all sources"
ALL_ROOTS: Final = "all"

#: 1, 10, 100: the steps that the questions about a data set's coverage are asked in.
AT_LEAST: Final = (1, 10, 100)
#: Licences, or types, that are listed; the rest are summed.
LISTED: Final = 20
#: Roots of one data set: every file has a bit for each meanwhile. EntityNet has 21.
MOST_ROOTS: Final = 1024

#: What DuckDB raises for a broken file, or a want of room; the rest would be mistakes of ours.
_UNREADABLE = (duckdb.OperationalError, duckdb.DataError, duckdb.InvalidInputException)

_MOST_STEPS = 8  # as many as a table has room for
_MOST_SOURCES = 62  # bits of an integer
_SOURCE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")


@dataclass(frozen=True)
class Root:
    """A root of the recipe; ``name`` is None where nothing names it."""

    id: str
    name: str | None


@dataclass(frozen=True)
class Shares:
    """Files by licence or by type, most files first.

    ``listed``: (what, files), None for what isn't known; ``more`` others have ``files_of_more``.
    """

    listed: tuple[tuple[str | None, int], ...]
    more: int = 0
    files_of_more: int = 0


@dataclass(frozen=True)
class Count:
    """What one source, or all of them, have for the entities of one root, or of all.

    ``at_least`` is parallel to the steps that were asked for. ``median`` is over the entities that
    have an image. ``entities_by_images`` is a histogram with the bins of :func:`bin_of`, as long
    as the last bin with an entity. Types aren't known before the cap.
    """

    source: str
    before_cap: bool
    root: str
    name: str | None
    entities: int
    at_least: tuple[int, ...]
    images: int
    files: int
    median: float | None
    entities_by_images: tuple[int, ...]
    licences: Shares
    types: Shares | None


@dataclass(frozen=True)
class Counts:
    """``rows``: for all sources, then for each; of each, after the cap and before; by root."""

    at_least: tuple[int, ...]
    roots: tuple[Root, ...]
    sources: tuple[str, ...]
    rows: tuple[Count, ...]

    def of(self, source: str, *, before_cap: bool = False) -> tuple[Count, ...]:
        """The rows of a source: a root each, all of them last; none where nothing was counted."""
        return tuple(r for r in self.rows if (r.source, r.before_cap) == (source, before_cap))


def bin_of(images: int) -> int:
    """The bin of an entity with so many images: 0, 1, 2, 3–4, 5–8, 9–16, …"""
    return 0 if images == 0 else (images - 1).bit_length() + 1


def bin_ends(number: int) -> tuple[int, int]:
    """The fewest and the most images in a bin."""
    return (number, number) if number < 2 else ((1 << (number - 2)) + 1, 1 << (number - 1))


def steps_of(text: str) -> tuple[int, ...]:
    """``1,10,100`` as numbers.

    Raises UserError where it isn't one to eight of them, each larger than the one before.
    """
    parts = text.split(",")
    numbers = [int(p) for p in parts if re.fullmatch(r"[0-9]{1,9}", p.strip(), re.ASCII)]
    rising = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
    if len(numbers) != len(parts) or not rising or len(numbers) > _MOST_STEPS:
        raise UserError(
            f"--at-least {text!r}: give up to {_MOST_STEPS} numbers from 1 on, each larger than "
            "the one before, such as 1,10,100."
        )
    return tuple(numbers)


def count(images: Path, at_least: Sequence[int] = AT_LEAST, *, quiet: bool = True) -> Counts:
    """Counts the candidates in ``images``, in bounded memory (docs/images.md has figures).

    What doesn't fit goes to the directory for temporary files (``TMPDIR``) meanwhile.

    Raises UserError where the candidates aren't finished, or their tables can't be read.
    """
    directory = images / FOLDER
    manifest = read_manifest(directory, "candidates")
    check_whole(directory, manifest, "make them again with `sparqless images find`")
    sources = _sources(directory, manifest)
    _length(directory / ENTITIES_FILE, ENTITIES)
    rows = {ALL_SOURCES: _length(directory / CANDIDATES_FILE, CANDIDATES)}
    kept = {s: directory / s / AVAILABLE_FILE for s in sources}
    rows |= {s: _length(path, AVAILABLE) for s, path in kept.items() if path.is_file()}
    with (
        Progress("counting", sum(rows.values()), unit=" pairs", quiet=quiet) as progress,
        tempfile.TemporaryDirectory(prefix="sparqless-count-") as work,
    ):
        try:
            with connect(Path(work)) as database:
                return _counted(
                    database, directory, manifest, tuple(at_least), sources, rows, progress.add
                )
        except _UNREADABLE as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the candidates in {directory} can't be counted ({reason}); see what `sparqless "
                f"verify {directory}` says, and whether {tempfile.gettempdir()} has room (TMPDIR "
                "names another place)."
            ) from error


def _sources(directory: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Sources of candidates by the manifest, each as it was when they were merged."""
    named = manifest.get("sources")
    good = isinstance(named, list) and all(isinstance(s, str) and _SOURCE.match(s) for s in named)
    if not isinstance(named, list) or not good or len(set(named)) > _MOST_SOURCES:
        raise UserError(
            f"{directory / 'manifest.json'} doesn't name its sources: it was changed; find the "
            "candidates again with `sparqless images find`."
        )
    made_from = manifest.get("made_from", {})
    for source in dict.fromkeys(named):
        standing = read_manifest(directory / source, "source")["manifest_sha256"]
        if standing != made_from.get(source):
            raise UserError(
                f"{source} was run again since {directory} was merged: run `sparqless images find` "
                "with all of its sources to its end."
            )
    return tuple(dict.fromkeys(named))


def _length(path: Path, schema: pa.Schema) -> int:
    """How many rows a table has.

    Raises UserError where it isn't one, or its columns are others.
    """
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} can't be read ({reason}); find the candidates again.") from error
    found = metadata.schema.to_arrow_schema()
    for field in schema:
        if field.name not in found.names or found.field(field.name).type != field.type:
            raise UserError(
                f"{path} has no column {field.name!r} of type {field.type}: another version wrote "
                "it; find the candidates again with `sparqless images find`."
            )
    return int(metadata.num_rows)


def _counted(
    database: duckdb.DuckDBPyConnection,
    directory: Path,
    manifest: Mapping[str, Any],
    at_least: tuple[int, ...],
    sources: tuple[str, ...],
    rows: Mapping[str, int],
    tick: Tick,
) -> Counts:
    roots = _read_entities(database, directory / ENTITIES_FILE, manifest)
    every = (*roots, Root(ALL_ROOTS, None))
    _read_merged(database, directory / CANDIDATES_FILE, sources)
    after = {ALL_SOURCES: _rows_of(database, ALL_SOURCES, every, at_least)}
    for number, source in enumerate(sources):
        after[source] = _rows_of(database, source, every, at_least, bits=1 << number)
    tick(rows[ALL_SOURCES])
    before = {}
    for source in (s for s in sources if s in rows):
        _read_available(database, directory / source / AVAILABLE_FILE)
        before[source] = _rows_of(database, source, every, at_least, before_cap=True)
        tick(rows[source])
    found = [r for s in after for r in (*after[s], *before.get(s, ()))]
    return Counts(at_least, roots, sources, tuple(found))


# What the statements below make and read:
#   place   root, place: 0, 1, … in the recipe's order; the one after the last stands for all roots
#   entity  n, id, number ("Q5" → 5), roots: a bit set at the place of each root, and at the last
#   pair    n, file, sources (a bit for each), licence, type: each entity and file once
#   share   roots (of all entities of a file), licence, type, files: how many files are alike

_ENTITIES: Final = """
CREATE TABLE listed AS
SELECT file_row_number AS n, id, name, try_cast(substr(id, 2) AS BIGINT) AS number, roots
FROM read_parquet($path, file_row_number = true, hive_partitioning = false)
"""

_ROOTS: Final = """
SELECT root FROM (
    SELECT n, unnest(roots) AS root, generate_subscripts(roots, 1) AS nth FROM listed
)
WHERE root IS NOT NULL
GROUP BY root ORDER BY min(row(n, nth))
LIMIT $most
"""

_BITS: Final = """
CREATE TABLE entity AS
SELECT n, any_value(id) AS id, any_value(number) AS number,
    bitstring_agg(place, 0, $last) AS roots
FROM (
    SELECT n, id, number, place
    FROM (SELECT n, id, number, unnest(roots) AS root FROM listed) JOIN place USING (root)
    UNION ALL
    SELECT n, id, number, $last FROM listed
)
GROUP BY n
"""

# 128 bits of MD5 stand for a file's name or URL: 16 bytes instead of some 100. That two of 50
# million are taken for one has a probability of 4e-24, names chosen to collide aside.
_MERGED: Final = """
CREATE TABLE pair AS
SELECT n, md5_number(coalesce('file ' || file, 'url ' || url)) AS file,
    bit_or(coalesce(list_sum(list_transform($sources::VARCHAR[], lambda name, place:
        if(list_contains(sources, name), 1::BIGINT << (place - 1), 0))), 0)::BIGINT) AS sources,
    min(nullif(licence, '')) AS licence, min(nullif(mime, '')) AS type
FROM read_parquet($path, hive_partitioning = false) JOIN entity ON id = entity
WHERE file IS NOT NULL OR url IS NOT NULL
GROUP BY ALL
"""

_AVAILABLE: Final = """
CREATE OR REPLACE TABLE pair AS
SELECT n, image AS file, 0::BIGINT AS sources,
    min(nullif(licence, '')) AS licence, NULL::VARCHAR AS type
FROM read_parquet($path, hive_partitioning = false) JOIN entity ON number = entity
WHERE image IS NOT NULL
GROUP BY ALL
"""

_ENTITIES_BY_IMAGES: Final = """
SELECT place, images, sum(entities)::BIGINT FROM (
    SELECT roots, coalesce(images, 0) AS images, count(*) AS entities
    FROM entity LEFT JOIN (
        SELECT n, count(*) AS images FROM pair WHERE sources & $bits = $bits GROUP BY n
    ) USING (n)
    GROUP BY ALL
) JOIN place ON get_bit(roots, place) = 1
GROUP BY ALL ORDER BY ALL
"""

# A file of several entities belongs to the roots of all; of several licences, the first in the
# alphabet counts.
_SHARES: Final = """
CREATE OR REPLACE TABLE share AS
SELECT roots, licence, type, count(*) AS files
FROM (
    SELECT bit_or(roots) AS roots, min(licence) AS licence, min(type) AS type
    FROM pair JOIN entity USING (n) WHERE sources & $bits = $bits
    GROUP BY file
)
GROUP BY ALL
"""

_LARGEST: Final = """
SELECT place, what, files, kinds, files_in_all FROM (
    SELECT place, what, sum(files)::BIGINT AS files,
        row_number() OVER (PARTITION BY place ORDER BY sum(files) DESC, what NULLS LAST) AS rank,
        count(*) OVER (PARTITION BY place) AS kinds,
        (sum(sum(files)) OVER (PARTITION BY place))::BIGINT AS files_in_all
    FROM (SELECT roots, files, if($of = 'licence', licence, type) AS what FROM share)
    JOIN place ON get_bit(roots, place) = 1
    GROUP BY place, what
)
WHERE rank <= $most ORDER BY place, rank
"""


def _read_entities(
    database: duckdb.DuckDBPyConnection, path: Path, manifest: Mapping[str, Any]
) -> tuple[Root, ...]:
    """Makes `place` and `entity`, and returns the roots in the recipe's order.

    Raises UserError where there are more than a bit each can be kept for.
    """
    database.execute(_ENTITIES, {"path": literally(path)})
    met = database.execute(_ROOTS, {"most": MOST_ROOTS + 1}).fetchall()
    named = _roots_of(manifest)
    ids = list(dict.fromkeys([*named, *(root for (root,) in met)]))
    if len(ids) > MOST_ROOTS:
        raise UserError(f"{path} has more than {MOST_ROOTS:,} roots, which is too many to count.")
    places = pa.array(range(len(ids) + 1), pa.int32())
    database.register("places", pa.table({"root": pa.array([*ids, None]), "place": places}))
    database.execute("CREATE TABLE place AS SELECT root::VARCHAR AS root, place FROM places")
    database.execute(_BITS, {"last": len(ids)})
    own = database.execute("SELECT id, name FROM listed JOIN place ON id = root").fetchall()
    database.execute("DROP TABLE listed")
    names = dict(own) | {id_: name for id_, name in named.items() if name}
    return tuple(Root(id_, names.get(id_)) for id_ in ids)


def _roots_of(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """Root → name by the manifest, where it says; else their order is that of the entities."""
    listed = manifest.get("roots")
    found = {}
    for root in listed if isinstance(listed, list) else []:
        if isinstance(root, dict) and isinstance(root.get("root"), str):
            name = root.get("name")
            found[root["root"]] = name if isinstance(name, str) else None
    return found


def _read_merged(database: duckdb.DuckDBPyConnection, path: Path, sources: tuple[str, ...]) -> None:
    database.execute(_MERGED, {"path": literally(path), "sources": list(sources)})


def _read_available(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    database.execute(_AVAILABLE, {"path": literally(path)})


def _rows_of(
    database: duckdb.DuckDBPyConnection,
    source: str,
    roots: Sequence[Root],
    at_least: tuple[int, ...],
    *,
    bits: int = 0,
    before_cap: bool = False,
) -> list[Count]:
    """A row for each root, of the pairs that have ``bits`` set in their ``sources``."""
    spread = _entities_by_images(database, bits, len(roots))
    database.execute(_SHARES, {"bits": bits})
    licences, types = (_shares(database, of, len(roots)) for of in ("licence", "type"))
    rows = []
    for place, root in enumerate(roots):
        entities = spread[place]
        files, of_licence = licences[place]
        rows.append(
            Count(
                source=source,
                before_cap=before_cap,
                root=root.id,
                name=root.name,
                entities=sum(entities.values()),
                at_least=tuple(
                    sum(n for images, n in entities.items() if images >= step) for step in at_least
                ),
                images=sum(images * n for images, n in entities.items()),
                files=files,
                median=_median({images: n for images, n in entities.items() if images}),
                entities_by_images=_bins(entities),
                licences=of_licence,
                types=None if before_cap else types[place][1],
            )
        )
    return rows


def _entities_by_images(
    database: duckdb.DuckDBPyConnection, bits: int, roots: int
) -> list[dict[int, int]]:
    """Of each root, number of images → number of entities with just so many.

    That stays small: to have n different numbers takes n²/2 images.
    """
    found: list[dict[int, int]] = [{} for _ in range(roots)]
    for place, images, entities in database.execute(_ENTITIES_BY_IMAGES, {"bits": bits}).fetchall():
        found[place][images] = entities
    return found


def _shares(database: duckdb.DuckDBPyConnection, of: str, roots: int) -> list[tuple[int, Shares]]:
    """Of each root, how many files it has, and its largest licences or types."""
    rows = database.execute(_LARGEST, {"of": of, "most": LISTED}).fetchall()
    found = [(0, Shares(()))] * roots
    for place, group in groupby(rows, key=itemgetter(0)):
        largest = list(group)
        _, _, _, kinds, files = largest[0]
        listed = tuple((what, n) for _, what, n, _, _ in largest)
        more = files - sum(n for _, n in listed)
        found[place] = (files, Shares(listed, kinds - len(listed), more))
    return found


def _bins(entities: Mapping[int, int]) -> tuple[int, ...]:
    bins = [0] * (max(map(bin_of, entities), default=-1) + 1)
    for images, n in entities.items():
        bins[bin_of(images)] += n
    return tuple(bins)


def _median(entities: Mapping[int, int]) -> float | None:
    """Of as many values as there are entities: number of images → number of entities."""
    values = sorted(entities)
    ends = list(accumulate(entities[value] for value in values))
    if not ends:
        return None
    middle = ((ends[-1] - 1) // 2, ends[-1] // 2)
    low, high = (values[bisect_right(ends, place)] for place in middle)
    return (low + high) / 2
