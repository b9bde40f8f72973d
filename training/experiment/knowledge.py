"""The graph that the experiment trains on: the sample's, less some names, with queries for colours.

* The synonyms that the experiment withholds (world.Thing.withheld) are taken out of the entities'
  names and of the queries, so that no text has them: they are asked for in the end.
* Things have the two colours that they mostly have as attributes, and a query for each ("red dune
  fox"), as a language model writes them for a real data set (`sparqless enrich attributes`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from etl.manifest import MANIFEST, digests, write_manifest
from etl.tables import write_table
from graph.queries import Asked
from graph.read import manifest_of
from graph.tables import ATTRIBUTES, ENTITIES, QUERIES
from training.experiment.world import Thing

_CATEGORY: Final = "Color"
_SOURCE: Final = "experiment"
_CHANGED: Final = {"entities": ENTITIES, "attributes": ATTRIBUTES, "queries": QUERIES}
_AS_THEY_WERE: Final = ("hierarchy.parquet", "memberships.parquet")


def write_knowledge(graph: Path, out: Path, things: Sequence[Thing]) -> None:
    """Writes the data set to train on, unless it stands there: a directory as `graph` leaves it."""
    if (out / MANIFEST).exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    of_id = {thing.id: thing for thing in things}
    rows = {name: pq.read_table(graph / f"{name}.parquet").to_pylist() for name in _CHANGED}
    types = {row["id"]: row["natural_type"] for row in rows["entities"]}
    rows["entities"] = [_without(row, of_id.get(row["id"])) for row in rows["entities"]]
    rows["queries"] = [row for row in rows["queries"] if not _asks_withheld(row, of_id)]
    for thing in things:
        for colour in thing.colours:
            asked = colour_query(thing, colour, types[thing.id])
            rows["queries"].append(_query(asked))
            rows["attributes"].append(_attribute(asked))
    for name, schema in _CHANGED.items():
        rows[name].sort(key=lambda row: _number(row.get("id") or row.get("entity")))
        write_table(out / f"{name}.parquet", pa.Table.from_pylist(rows[name], schema))
    for name in _AS_THEY_WERE:
        shutil.copyfile(graph / name, out / name)
    names = [*(f"{name}.parquet" for name in _CHANGED), *_AS_THEY_WERE]
    manifest = {key: value for key, value in manifest_of(graph).items() if key != "manifest_sha256"}
    made_from = manifest["outputs"]
    write_manifest(
        out, {**manifest, "made_from": made_from, "outputs": digests(out, names, quiet=True)}
    )


def colour_query(thing: Thing, colour: str, natural_type: str | None) -> Asked:
    """The query for a thing in one of its colours."""
    return Asked(
        f"{colour} {thing.name}",
        "attribute_name",
        thing.id,
        natural_type,
        colour,
        _CATEGORY,
        _SOURCE,
    )


def query_hashes(graph: Path) -> dict[tuple[str, str], str]:
    """(entity, colour) → hash of the query for it; colour "" is the query for the name."""
    table = pq.read_table(graph / "queries.parquet").to_pylist()
    return {
        (row["entity"], row["attribute"] or ""): row["query_hash"]
        for row in table
        if row["query_type"] == "name" or row["source"] == _SOURCE
    }


def _number(id_: str | None) -> int:
    return int(id_[1:]) if id_ else 1 << 62  # queries about types come last


def _without(row: Mapping[str, Any], thing: Thing | None) -> dict[str, Any]:
    if thing is None or not thing.withheld:
        return dict(row)
    lists = ("aliases", "common_names", "taxon_names")
    kept = {name: [one for one in row[name] if one != thing.withheld] for name in lists}
    return {**row, **kept}


def _asks_withheld(row: Mapping[str, Any], of_id: Mapping[str, Thing]) -> bool:
    thing = of_id.get(row["entity"] or "")
    return bool(thing and thing.withheld) and row["query"] == thing.withheld  # type: ignore[union-attr]


def _query(asked: Asked) -> dict[str, Any]:
    return {
        "query_hash": asked.digest(None),
        "query": asked.text,
        "query_type": asked.query_type,
        "entity": asked.entity,
        "attribute": asked.attribute,
        "attribute_category": asked.category,
        "entity_type": asked.entity_type,
        "or_terms": [],
        "exclude": [],
        "ambiguous_with": [],
        "source": asked.source,
    }


def _attribute(asked: Asked) -> dict[str, Any]:
    return {
        "entity": asked.entity,
        "category": asked.category,
        "value": asked.attribute,
        "source": asked.source,
        "query": asked.text,
    }
