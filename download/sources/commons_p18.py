"""The images that Wikidata itself gives its items: P18, "image".

Their names are in the data set, so this source needs nothing else.  Most items have one name:
https://www.wikidata.org/wiki/Property:P18 asks for a single best one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from download.sources import Request, Source

if TYPE_CHECKING:
    import pyarrow as pa

_REASONS: Final = ["P18"]

#: What is counted: of the entities that images are wanted of, of their names, and the rows.
_COUNTS: Final = (
    "entities",
    "with_images",  # those that have a name that is kept
    "repeated",  # names that an entity has twice
    "no_names",  # what no file can be called
    "no_pictures",  # files without a picture, as sound
    "over_cap",
    "candidates",
)


def _inputs(_: Request) -> Mapping[str, Any]:
    return {}


def _find(request: Request) -> Mapping[str, Any]:
    """Write candidates.parquet, entity by entity; memory is some 8 bytes an entity and a batch."""
    import pyarrow as pa

    from download.candidates import CANDIDATES_FILE, FOUND, entity_numbers
    from etl.tables import TableWriter
    from graph.ontology import among
    from graph.read import batches
    from graph.tables import id_numbers

    counts: Counter[str] = Counter()
    wanted = entity_numbers(request.entities)
    with TableWriter(request.out / CANDIDATES_FILE, FOUND) as writer:
        for rows in batches(request.graph, "entities", ["id", "images"]):
            rows = rows.filter(pa.array(among(id_numbers(rows.column("id")), wanted)))
            counts["entities"] += rows.num_rows
            writer.write(_found(rows, request.settings.per_entity, counts))
        counts["candidates"] = writer.rows
    return {"counts": {name: counts[name] for name in _COUNTS}, "warnings": []}


def _found(rows: pa.Table, cap: int, counts: Counter[str]) -> pa.Table:
    """Return the candidates of a batch of entities; at most `cap` of each, 0 for all."""
    import numpy as np
    import pyarrow as pa

    from download.candidates import FOUND, filled

    entities: list[str] = []
    files: list[str] = []
    places: list[int] = []
    lists = (rows.column(name).to_pylist() for name in ("id", "images"))
    for entity, names in zip(*lists, strict=True):
        kept = list(_pictures(names or (), counts))
        counts["with_images"] += bool(kept)
        if cap and len(kept) > cap:
            counts["over_cap"] += len(kept) - cap
            del kept[cap:]
        entities += [entity] * len(kept)
        files += kept
        places += range(1, len(kept) + 1)
    columns = {
        "entity": pa.array(entities, pa.string()),
        "reasons": pa.array([_REASONS] * len(entities), pa.list_(pa.string())),
        "query_hashes": pa.array([[]] * len(entities), pa.list_(pa.string())),
        "file": pa.array(files, pa.string()),
        "score": pa.array(np.float32(1) / np.array(places, np.float32)),
    }
    return filled(FOUND, columns)


def _pictures(names: Sequence[str], counts: Counter[str]) -> Iterator[str]:
    """Yield the files that have a picture, each once, in the order of the statements."""
    from download.commons import form_of, normal_name

    seen = set()
    for name in names:
        file = normal_name(name)
        if file is None:
            counts["no_names"] += 1
        elif form_of(file) is None:
            counts["no_pictures"] += 1
        elif file in seen:
            counts["repeated"] += 1
        else:
            seen.add(file)
            yield file


SOURCE: Final = Source(
    name="commons-p18",
    what="The images that the data set's entities have in Wikidata (P18).",
    inputs=_inputs,
    find=_find,
)
