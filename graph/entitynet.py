"""A data set in the layout of EntityNet's release, for code that was written for that.

    sparqless export entitynet --graph data/graph/entitynet --out data/entitynet

File names and columns are those that EntityNet's own readers ask for (its `entitynet_textloader.py`
and `entitynet_webds_queryfilter.py`):

- `entitynet-entities.parquet`: `entity`, `entity_name`, `naturalentity`, and the lists `textvalues`
  and `textsources`, side by side.  Texts are the name, which comes first, aliases, common names,
  taxon names, the description and, as `type_description`, the description of the natural type; one
  that is there already is not repeated.  `naturalentity` is always the `entity` of a row: natural
  types that the data set doesn't keep are rows of their own at the end, with nothing but their
  name, and an entity without a natural type is its own.
- `entitynet-queries.parquet`: `query_hash`, `query`, `query_type`, `entity`, `attribute`, `api`.
- `hierarchy_wikidata_living/hierarchy.json`: `{leaf: [[ancestor, depth], ...]}` of the living
  entities; depths are the shortest ones, where EntityNet's are those of the first visit.

**Living or world** decides about half of a query type's name.  An entity is living if animal, plant
or fungus is among its roots; a type, if it lies below one of them.  EntityNet tells by the script
that found an entity, so that a class of animals that only `world` finds is `world` there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.entity import numeric_id
from etl.errors import UserError
from etl.manifest import MANIFEST, digests, read_manifest, tool_versions
from etl.tables import TableWriter
from graph.ancestors import ancestors
from graph.directory import publish
from graph.export import as_json, check_outside, written
from graph.ontology import ArrayGraph, distinct
from graph.read import batches, hierarchy, manifest_of
from graph.tables import id_numbers, id_strings

ENTITIES: Final = pa.schema(
    [
        ("entity", pa.string()),
        ("entity_name", pa.string()),
        ("naturalentity", pa.string()),
        ("textvalues", pa.list_(pa.string())),
        ("textsources", pa.list_(pa.string())),
    ]
)
QUERIES: Final = pa.schema(
    [(name, pa.string()) for name in (
        "query_hash", "query", "query_type", "entity", "attribute", "api",
    )]
)  # fmt: skip

ENTITIES_FILE: Final = "entitynet-entities.parquet"
QUERIES_FILE: Final = "entitynet-queries.parquet"
HIERARCHY_FILE: Final = "hierarchy_wikidata_living/hierarchy.json"

#: Roots of the recipe `living`: animal, plant and (ours) fungus.
LIVING: Final = ("Q729", "Q756", "Q764")

# Our query types and the middle of EntityNet's.
_KINDS: Final = {
    "name": "noun",
    "alias": "noun",
    "attribute_type": "attr",
    "attribute_name": "attrnoun",
}

#: What a query for no engine in particular counts as: the default of `--search-api` in EntityNet's
#: query builders.
_DEFAULT_API: Final = "google"

_WRITING: Final = ".exporting"  # directory inside `out` until all files are complete

# What may stand in a directory of an export: anything else is not ours to write into.
_WRITTEN: Final = tuple(Path(f).parts[0] for f in (ENTITIES_FILE, QUERIES_FILE, HIERARCHY_FILE))


def export_entitynet(graph: Path, out: Path) -> dict[str, Any]:
    """Write a finished data set into the directory `out` in EntityNet's layout.

    Returns
    -------
    The manifest: digests, and the counts of rows; `queries` is None where the data set has none.

    Raises
    ------
    UserError : the data set is not finished; `out` is a file, lies in the data set, is another
        step's directory or holds what no export of ours has, such as a clone of the release.
    """
    manifest = manifest_of(graph)
    check_outside(graph, out)
    _check_out(out)
    writing = out / _WRITING
    shutil.rmtree(writing, ignore_errors=True)
    (writing / HIERARCHY_FILE).parent.mkdir(parents=True)
    try:
        arrays = hierarchy(graph)
        living = _Living(graph, arrays)
        counts: dict[str, int | None] = {
            **_write_entities(graph, writing / ENTITIES_FILE),
            "queries": None,
            "leaves": _write_hierarchy(arrays, living, writing / HIERARCHY_FILE),
        }
        names = [ENTITIES_FILE, HIERARCHY_FILE]
        if "queries.parquet" in manifest["outputs"]:
            counts["queries"] = _write_queries(graph, living, writing / QUERIES_FILE)
            names.append(QUERIES_FILE)
        made = {
            "step": "entitynet",
            "versions": tool_versions(),
            "graph": {"manifest_sha256": manifest["manifest_sha256"]},
            "counts": counts,
            "outputs": digests(writing, names, quiet=True),
        }
        # an earlier export may have had queries where this one has none
        gone = [] if QUERIES_FILE in names else [QUERIES_FILE]
        publish(writing, out, names, made, gone)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return made


def _check_out(out: Path) -> None:
    """Refuse a directory that an export may not be written into: it would replace what isn't ours.

    A killed export leaves the directory that it wrote in, and perhaps no manifest.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a directory.")
    there = sorted(entry.name for entry in out.iterdir())
    finished, begun = MANIFEST in there, _WRITING in there
    if finished:
        read_manifest(out, "entitynet")  # refuses another step's directory
    ours = {MANIFEST, _WRITING, *(_WRITTEN if finished or begun else ())}
    foreign = next((name for name in there if name not in ours), None)
    if foreign is not None:
        raise UserError(
            f"{out} holds {foreign!r}, which no export of sparqless wrote there: name a new "
            "directory or that of an earlier export."
        )


# --------------------------------------------------------------------------------------------------
# Entities
# --------------------------------------------------------------------------------------------------


def _write_entities(graph: Path, file: Path) -> dict[str, int]:
    types, descriptions = _types(graph)
    with TableWriter(file, ENTITIES) as writer:
        for rows in batches(graph, "entities"):
            made = [_row(row, descriptions) for row in rows.to_pylist()]
            writer.write(pa.Table.from_pylist(made, ENTITIES))
        entities = writer.rows
        order = sorted(types, key=numeric_id)
        made = [_row({"id": id, "name": types[id]}, descriptions) for id in order]
        writer.write(pa.Table.from_pylist(made, ENTITIES))
    return {"entities": entities, "types": len(types)}


def _types(graph: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of natural types that are no entities, descriptions of those that are."""
    types: dict[str, str] = {}
    for rows in batches(graph, "entities", ["natural_type", "natural_type_name"]):
        pairs = rows.group_by(["natural_type", "natural_type_name"]).aggregate([])
        types |= {
            row["natural_type"]: row["natural_type_name"] or row["natural_type"]
            for row in pairs.to_pylist()
            if row["natural_type"] is not None
        }
    wanted = pa.array(list(types), pa.string())
    descriptions: dict[str, str] = {}
    for rows in batches(graph, "entities", ["id", "description"]):
        for row in rows.filter(pc.is_in(rows.column("id"), wanted)).to_pylist():
            del types[row["id"]]
            if row["description"]:
                descriptions[row["id"]] = row["description"]
    return types, descriptions


def _row(entity: Mapping[str, Any], descriptions: Mapping[str, str]) -> dict[str, Any]:
    natural = entity.get("natural_type") or entity["id"]
    about = descriptions.get(natural) if natural != entity["id"] else None
    texts: dict[str, str] = {}  # text -> source, in order
    for source, found in (
        ("name", [entity["name"] or entity["id"]]),
        ("aliases", entity.get("aliases")),
        ("common_names", entity.get("common_names")),
        ("taxon_names", entity.get("taxon_names")),
        ("description", [entity.get("description")]),
        ("type_description", [about]),
    ):
        for text in found or ():
            if text:
                texts.setdefault(text, source)
    return {
        "entity": entity["id"],
        "entity_name": entity["name"] or entity["id"],
        "naturalentity": natural,
        "textvalues": list(texts),
        "textsources": list(texts.values()),
    }


# --------------------------------------------------------------------------------------------------
# Queries and the living hierarchy
# --------------------------------------------------------------------------------------------------


class _Living:
    """What is living: entities by their roots, types by what they lie below."""

    def __init__(self, graph: Path, arrays: ArrayGraph) -> None:
        members = [np.empty(0, np.int64)]
        for rows in batches(graph, "entities", ["id", "roots"]):
            column = rows.column("roots").combine_chunks()
            hit = pc.is_in(pc.list_flatten(column), pa.array(LIVING))
            at = pc.unique(pc.list_parent_indices(column).filter(hit))
            members.append(id_numbers(rows.column("id").take(at)))
        self.entities = np.concatenate(members)  # ascending, as the rows are
        roots = arrays.find([numeric_id(id) for id in LIVING])
        self.nodes = arrays.reverse().reachable(distinct(roots[roots >= 0]))
        self._members = id_strings(self.entities)
        below = [arrays.names(self.nodes), np.array([numeric_id(id) for id in LIVING])]
        self._below = id_strings(distinct(np.concatenate(below)))

    def of(self, entity: pa.Array, type_: pa.Array) -> npt.NDArray[np.bool_]:
        """Say which rows are about something living: by the entity or, where null, by the type."""
        found = pc.if_else(
            pc.is_null(entity), pc.is_in(type_, self._below), pc.is_in(entity, self._members)
        )
        return np.asarray(found.to_numpy(zero_copy_only=False))


def _write_queries(graph: Path, living: _Living, file: Path) -> int:
    kinds = pa.array(list(_KINDS))
    names = pa.array(
        [f"wd-{kind}-{half}" for kind in _KINDS.values() for half in ("world", "living")]
    )
    with TableWriter(file, QUERIES) as writer:
        for rows in batches(graph, "queries"):
            columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
            entity, type_ = columns["entity"], columns["entity_type"]
            kind = pc.index_in(columns["query_type"], kinds).to_numpy(zero_copy_only=False)
            half = living.of(entity, type_)
            made = {
                "query_hash": columns["query_hash"],
                "query": columns["query"],
                "query_type": names.take(pa.array(kind * 2 + half)),
                "entity": pc.coalesce(entity, type_),
                "attribute": columns["attribute"],
                "api": pc.fill_null(columns["engine"], _DEFAULT_API),
            }
            writer.write(pa.table([made[name] for name in QUERIES.names], schema=QUERIES))
        return writer.rows


def _write_hierarchy(arrays: ArrayGraph, living: _Living, file: Path) -> int:
    """Write the ancestors of every living entity that lie below animal, plant or fungus."""
    nodes = arrays.find(living.entities)
    leaves = nodes[nodes >= 0]
    inside = np.zeros(arrays.size, bool)
    inside[living.nodes] = True
    with written(file) as out:
        out.write("{")
        comma = ""
        for row, node, depth in ancestors(arrays, np.arange(len(leaves)), leaves):
            keep = inside[node] & (depth > 0)
            order = np.lexsort((node, depth, row))
            order = order[keep[order]]
            first = np.searchsorted(row[order], np.arange(row[0], row[-1] + 2))
            parent = id_strings(arrays.names(node[order])).to_pylist()
            depths = depth[order].tolist()
            ids = id_strings(arrays.names(leaves[row[0] : row[-1] + 1])).to_pylist()
            for leaf, low, high in zip(ids, first[:-1].tolist(), first[1:].tolist(), strict=True):
                above = [
                    list(pair) for pair in zip(parent[low:high], depths[low:high], strict=True)
                ]
                out.write(f"{comma}\n{as_json(leaf)}: {as_json(above)}")
                comma = ","
        out.write("\n}\n")
    return len(leaves)
