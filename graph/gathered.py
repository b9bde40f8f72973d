"""All that the roots of a recipe keep, gathered for writing: memberships, hierarchy, parents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.entity import entity_id, numeric_id
from etl.errors import UserError
from etl.progress import Progress
from etl.tables import TableWriter
from graph.chains import chain_edges
from graph.entities import Grouped, Rows
from graph.facts import Facts
from graph.memberships import Memberships, United
from graph.ontology import Ids, Nodes, Ontology, distinct, pack, unpack
from graph.recipe import Recipe
from graph.selection import Evaluator, Kept, select
from graph.tables import HIERARCHY, grouped, step_numbers, walk_strings

_BATCH = 1 << 16  # edges turned into text at a time; the file's bytes don't depend on it


@dataclass
class Gathered:
    """All that is kept, before it is written."""

    recipe: Recipe
    counts: list[dict[str, Any]] = field(default_factory=list)  # by root, in order
    memberships: list[Memberships] = field(default_factory=list)
    via: dict[str, int] = field(default_factory=dict)  # text -> number
    # (property, inverse) -> packed child and parent, as numbers in the ontology
    hierarchy: dict[tuple[str, bool], list[npt.NDArray[np.uint64]]] = field(default_factory=dict)
    parents: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    ids: Ids = field(default_factory=lambda: np.empty(0, np.int64))  # of the ontology


def gather(recipe: Recipe, ontology: Ontology, facts: Facts, quiet: bool) -> Gathered:
    """Evaluate the roots of a recipe, one by one.

    Raises
    ------
    UserError : a `minus` takes away all of a root.
    """
    graph = Gathered(recipe, ids=ontology.ids)
    evaluator = Evaluator(ontology, lambda p, nodes: facts.has(p, facts.rows(ontology.ids[nodes])))
    with Progress("selecting", len(recipe.all_roots()), unit=" roots", quiet=quiet) as progress:
        for number, part in enumerate(recipe.parts()):
            for root in part.roots:
                progress.note = root.id
                progress.add(0)
                kept = select(evaluator, facts, part, root)
                _refuse_emptied(kept)
                _add(graph, kept, number)
                progress.add(1)
    return graph


def _refuse_emptied(kept: Kept) -> None:
    candidates = kept.candidates - kept.removed["absent"]
    if candidates and kept.removed["minus"] == candidates:
        most = int(np.argmax(kept.by_minus))
        raise UserError(
            f"recipe {kept.part.name!r}: `minus` takes away everything under root {kept.root.id}: "
            f"{kept.by_minus[most]} of {candidates} entities meet minus {most + 1}; "
            "narrow it or drop the root. Nothing was written."
        )


def _add(graph: Gathered, kept: Kept, part: int) -> None:
    """Put a root's members, their chains and the edges above them into the graph."""
    members = kept.members
    start, walk = members.chains.written(members.depth, members.position)
    steps = np.array([step_numbers(*step) for step in members.chains.steps], np.int64)
    # Odd places of a walk are steps.  A walk has an odd length, so that the places' parity turns
    # round from one walk to the next.
    place = np.arange(len(walk)) - np.repeat(start[:-1], np.diff(start))
    is_step = place % 2 == 1
    written = np.empty(len(walk), np.int64)
    written[is_step] = steps[walk[is_step]]
    written[~is_step] = graph.ids[walk[~is_step]]
    via = [graph.via.setdefault(str(branch), len(graph.via)) for branch in members.branches]
    count = len(members.entity)
    last = {"sitelinks": kept.last[0], "entity": entity_id(kept.last[1])} if kept.last else None
    graph.counts.append(
        {
            "root": kept.root.id,
            "name": None,
            "recipe": kept.part.name,
            "candidates": kept.candidates,
            "removed": kept.removed,
            "kept": count,
            "last_kept": last,
        }
    )
    graph.memberships.append(
        Memberships(
            np.full(count, numeric_id(kept.root.id)),
            graph.ids[members.entity],
            members.depth,
            np.array(via)[members.branch],
            np.full(count, part),
            start,
            written,
        )
    )
    reached = members.chains.reached()
    for _, _, child, parent in chain_edges(members.product, members.entries, reached):
        graph.parents.append(pack(child, parent)[child != parent])
    above = np.concatenate([np.empty(0, np.int64), *members.product.layers(members.entries)])
    for property_id, inverse, child, parent in chain_edges(members.product, above, reached):
        pairs = graph.hierarchy.setdefault((property_id, inverse), [])
        pairs.append(distinct(pack(child, parent)))


def hierarchy_of(graph: Gathered) -> tuple[Nodes, Nodes, Nodes]:
    """Return child, step and parent of the edges, ordered by them; direct steps before inverse."""
    columns: list[tuple[Nodes, Nodes, Nodes]] = []
    for (property_id, inverse), pairs in graph.hierarchy.items():
        child, parent = (ends.astype(np.int64) for ends in unpack(distinct(np.concatenate(pairs))))
        columns.append((child, np.full(len(child), step_numbers(property_id, inverse)), parent))
    empty = np.empty(0, np.int64)
    child, step, parent = (
        np.concatenate([empty, *column]) for column in zip(*columns, strict=True)
    ) if columns else (empty, empty, empty)  # fmt: skip
    order = np.lexsort((parent, step, child))
    return child[order], step[order], parent[order]


def write_hierarchy(
    file: Path, ids: Ids, rows: tuple[Nodes, Nodes, Nodes], advance: Callable[[int], None]
) -> None:
    with TableWriter(file, HIERARCHY) as writer:
        for first in range(0, len(rows[0]), _BATCH):
            child, step, parent = (column[first : first + _BATCH] for column in rows)
            columns = [ids[child], step, ids[parent]]
            writer.write(pa.table([walk_strings(column) for column in columns], schema=HIERARCHY))
            advance(len(child))


def rows_of(graph: Gathered, rows: United) -> Rows:
    """Gather what stands in an entity's row: roots in the recipe's order, parents by id."""
    ids = rows.entities
    roots = np.array([numeric_id(id) for id in graph.recipe.root_ids()])
    by_id = np.argsort(roots)
    place = by_id[np.searchsorted(roots, rows.root, sorter=by_id)]  # in the recipe
    order = np.lexsort((place, rows.entity))
    start = grouped(np.searchsorted(ids, rows.entity), len(ids))
    child, parent = unpack(distinct(np.concatenate([np.empty(0, np.uint64), *graph.parents])))
    return Rows(
        ids,
        Grouped(start, rows.root[order]),
        Grouped(start, rows.depth[order]),
        Grouped(grouped(np.searchsorted(ids, graph.ids[child]), len(ids)), graph.ids[parent]),
        rows.first_part,
        graph.recipe.parts(),
    )
