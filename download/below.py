"""What else shows an entity: items that stand below it, and items that were merged into one.

A photograph that depicts a Labrador retriever shows a dog. Which statements lead up and how many
steps count are the recipe's to say (`[images]`, graph/settings.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import UserError
from etl.merged_ids import Redirects
from etl.store import EntityStore
from graph.ontology import ArrayGraph, Ids, Ontology, among, distinct, pack, unpack
from graph.read import batches, hierarchy
from graph.records import check_walkable
from graph.settings import ImageSettings

#: Columns of :func:`targets`, ordered by item, then entity.
TARGETS: Final = pa.schema([("item", pa.int64()), ("entity", pa.int64()), ("distance", pa.int16())])

# Pairs of an entity and an item below it, 18 bytes each here and some 60 on the way.  All 3.3 M
# living things within four steps of 56,000 entities are some 10 million.
_MOST = 50_000_000


def targets(entities: Ids, settings: ImageSettings, graph: Path, store: Path | None) -> pa.Table:
    """Which item shows which entity, at how many steps: each pair once, at its least distance.

    ``entities`` ascend. Every entity shows itself at distance 0. Statements are those of the
    ``store`` where one is given, else those of the data set's hierarchy, which has only what stands
    between entities that it keeps and their roots. With a store, ids that were merged into an item
    show what the item shows.

    Raises UserError where a property has no items for values, or too much stands below.
    """
    entity, item = entities, entities
    distance = np.zeros(len(entities), np.int16)
    if settings.distance:
        above = _statements(settings, graph, store)
        entity, item, distance = _within(entities, settings.distance, above.reverse())
    if store is not None:
        entity, item, distance = _with_merged(entity, item, distance, store)
    order = np.lexsort((entity, item))
    return pa.table([item[order], entity[order], distance[order]], schema=TARGETS)


def _statements(settings: ImageSettings, graph: Path, store: Path | None) -> ArrayGraph:
    """The statements that lead up, subject to object."""
    if store is None:
        found = hierarchy(graph)
        blocks = tuple(b for b in found.blocks if b.property_id in settings.below)
        return ArrayGraph(found.size, found.span, blocks, found.ids)
    with EntityStore(store) as entities:
        check_walkable(settings.below, entities)
    return Ontology.load(store, list(settings.below), including=()).graph()


def _within(entities: Ids, steps: int, below: ArrayGraph) -> tuple[Ids, Ids, npt.NDArray[np.int16]]:
    """All that can be reached in so many steps: entity, item, distance."""
    there = below.find(entities)
    start = np.flatnonzero(there >= 0)
    # packed: the place of an entity, then the node of an item
    reached = frontier = pack(start, there[start])
    found = [(entities, entities, np.zeros(len(entities), np.int16))]
    for distance in range(1, steps + 1):
        places, nodes = unpack(frontier)
        steps_out = [pack(places[at], node) for _, at, node in below.steps(nodes.astype(np.int64))]
        frontier = distinct(np.concatenate([np.empty(0, np.uint64), *steps_out]))
        frontier = frontier[~among(frontier, reached)]
        if not len(frontier):
            break
        reached = np.sort(np.concatenate([reached, frontier]))
        if len(reached) > _MOST:
            raise UserError(
                f"more than {_MOST:,} items stand within {distance} steps below the entities; "
                "set a lower `distance` in the recipe's [images]."
            )
        places, nodes = unpack(frontier)
        items = below.names(nodes.astype(np.int64))
        found.append((entities[places], items, np.full(len(places), distance, np.int16)))
    entity, item, far = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return entity, item, far


def _with_merged(
    entity: Ids, item: Ids, distance: npt.NDArray[np.int16], store: Path
) -> tuple[Ids, Ids, npt.NDArray[np.int16]]:
    """Adds the ids that were merged into an item, for all that the item shows."""
    with EntityStore(store) as entities:
        redirects = Redirects.load(store, entities.manifest["outputs"])
    by_item = np.argsort(item, kind="stable")
    first = np.searchsorted(item, redirects.targets, sorter=by_item)
    count = np.searchsorted(item, redirects.targets, side="right", sorter=by_item) - first
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    rows = by_item[np.arange(total) + np.repeat(first - (ends - count), count)]
    return (
        np.concatenate([entity, entity[rows]]),
        np.concatenate([item, np.repeat(redirects.ids, count)]),
        np.concatenate([distance, distance[rows]]),
    )


def unwalked(settings: ImageSettings, graph: Path, store: Path | None) -> list[str]:
    """What to warn of: statements that the recipe names and a hierarchy without a store lacks."""
    if store is not None or not settings.distance:
        return []
    there: set[str] = set()
    for rows in batches(graph, "hierarchy", ["property"]):
        there |= {*pc.unique(rows["property"]).to_pylist()}
    missing = [property_id for property_id in settings.below if property_id not in there]
    if not missing:
        return []
    return [
        f"`below` in the recipe's [images] names {', '.join(missing)}, of which the data set's "
        "hierarchy has no statement; name its --store."
    ]
