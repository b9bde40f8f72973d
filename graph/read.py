"""A built data set read back: for networkx, as arrays, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from etl.entity import numeric_id
from etl.errors import UserError
from etl.manifest import check_whole, read_manifest
from graph.ontology import ArrayGraph, Block, Edges, Ids, Nodes, distinct
from graph.tables import id_numbers, id_strings

#: Columns of an entity that become attributes of its node, where they are not null.
ATTRIBUTES: Final = (
    "name", "roots", "depths", "sitelinks", "natural_type", "natural_type_name", "visual",
)  # fmt: skip

_BATCH = 1 << 16


def manifest_of(directory: Path) -> dict[str, Any]:
    """Return the manifest of a finished data set that has lost no file.

    Raises
    ------
    UserError : it is not finished, or a file is missing or cut off.
    """
    manifest = read_manifest(directory, "graph")
    check_whole(directory, manifest, "build it again with `sparqless graph`")
    return manifest


def batches(directory: Path, table: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield a table of a data set by batches, those columns of `columns` that it has."""
    # else pyarrow keeps what it has read: 25 MB a million rows
    file = pq.ParquetFile(directory / f"{table}.parquet", pre_buffer=False)
    there = file.schema_arrow.names
    wanted = None if columns is None else [name for name in columns if name in there]
    for batch in file.iter_batches(_BATCH, columns=wanted):
        yield pa.table(batch)


def columns_of(directory: Path, table: str) -> list[str]:
    """Return the names of a table's columns."""
    return list(pq.read_schema(directory / f"{table}.parquet").names)


def datasets(directory: Path) -> dict[str, ds.Dataset]:
    """See :func:`graph.datasets`."""
    names = [name for name in manifest_of(directory)["outputs"] if name.endswith(".parquet")]
    return {
        name.removesuffix(".parquet"): ds.dataset(directory / name, format="parquet")
        for name in sorted(names)
    }


def hierarchy(directory: Path) -> ArrayGraph:
    """Return the edges of a data set, child to parent, as arrays: 16 bytes an edge.

    Nodes are ints on networkx' face (144 for Q144), and its functions run on them, see
    `graph/ontology.py`.  For hierarchies too large for :func:`load`.
    """
    pieces: dict[str, list[tuple[Ids, Ids]]] = {}
    for rows in batches(directory, "hierarchy"):
        for property_id in pc.unique(rows.column("property")).to_pylist():
            some = rows.filter(pc.equal(rows.column("property"), property_id))
            pair = id_numbers(some.column("child")), id_numbers(some.column("parent"))
            pieces.setdefault(property_id, []).append(pair)
    columns = {
        p: tuple(map(np.concatenate, zip(*pairs, strict=True))) for p, pairs in pieces.items()
    }
    ends = [end for pair in columns.values() for end in pair]
    ids = distinct(np.concatenate([np.empty(0, np.int64), *ends]))
    blocks = tuple(
        Block(Edges.of(np.searchsorted(ids, child), np.searchsorted(ids, parent)), property_id)
        for property_id, (child, parent) in sorted(columns.items())
    )
    return ArrayGraph(len(ids), len(ids), blocks, ids)


def load(directory: Path, root: str | None = None) -> nx.DiGraph[str]:
    """See :func:`graph.load`."""
    manifest = manifest_of(directory)
    roots = list(dict.fromkeys(r["root"] for r in manifest["counts"]["roots"]))
    if root is not None and root not in roots:
        raise UserError(
            f"{directory} has no root {root!r}: name one of {', '.join(roots[:30])}"
            f"{', ...' if len(roots) > 30 else ''}."
        )
    inside = None if root is None else _between(directory, root)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for rows in batches(directory, "entities", ["id", *ATTRIBUTES]):
        graph.add_nodes_from(_nodes(rows if root is None else _of_root(rows, root)))
    for rows in batches(directory, "hierarchy"):
        if inside is not None:
            ends = (pc.is_in(rows.column(name), inside) for name in ("child", "parent"))
            rows = rows.filter(pc.and_(*ends))
        columns = (rows.column(name).to_pylist() for name in ("child", "property", "parent"))
        for child, property_id, parent in zip(*columns, strict=True):
            if graph.has_edge(child, parent):
                graph.edges[child, parent]["property"].append(property_id)
            else:
                graph.add_edge(child, parent, property=[property_id])
    return graph


def _nodes(rows: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows.to_pylist():
        yield row.pop("id"), {name: value for name, value in row.items() if value is not None}


def _of_root(rows: pa.Table, root: str) -> pa.Table:
    """Return the entities that belong to a root."""
    column = rows.column("roots").combine_chunks()
    at = pc.list_parent_indices(column).filter(pc.equal(pc.list_flatten(column), root))
    return rows.take(at)


def _between(directory: Path, root: str) -> pa.Array:
    """Return the entities of a root with all that stands between them and it."""
    members = [np.empty(0, np.int64)]
    for rows in batches(directory, "entities", ["id", "roots"]):
        members.append(id_numbers(_of_root(rows, root).column("id")))
    graph = hierarchy(directory)
    above = graph.reachable(_found(graph, np.concatenate(members)))
    below = graph.reverse().reachable(_found(graph, np.array([numeric_id(root)])))
    both: Nodes = np.intersect1d(above, below, assume_unique=True)
    return id_strings(graph.names(both))


def _found(graph: ArrayGraph, ids: Ids) -> Nodes:
    """Return the nodes of those ids that the hierarchy has: a root alone has no edge."""
    nodes = graph.find(ids)
    return distinct(nodes[nodes >= 0])
