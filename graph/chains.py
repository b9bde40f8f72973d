"""Evidence chains: for every entity that a path leads to a root, the chain that shows it.

Of an entity's matching chains the evidence is the shortest; of several, the one whose ids, read
from the entity to the root, are lowest first; of several with the same ids, the one with the lowest
property numbers first (a direct step before an inverse one).  So a chain depends on the statements
alone, not on the order in which a dump or an array holds them.

The search runs backward from the root over the product of graph and automaton, level by level.
Every level is kept in the order of its nodes' own best chains, so that the best next node of a node
one level up is simply the first in that order, and no chain is ever written out until it is asked
for.  The cost is a sort of the edges between two levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.ontology import ArrayGraph, Nodes

Steps = tuple[tuple[str, bool], ...]  # (property, inverse), numbered in the order of a chain's rule


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes whose best chain has as many edges as the level's number, best chain first."""

    nodes: Nodes  # (L,) product nodes
    next: Nodes  # (L,) where the chain goes on: a position in the level below
    step: npt.NDArray[np.uint16]  # (L,) the property to it, a number in `Chains.steps`
    # (L,) number of the chain's distinct ids, and of its ids and properties; both ascend.  Nodes
    # that differ in their state alone have chains that read the same.
    ids: Nodes
    rank: Nodes


@dataclass(frozen=True, eq=False)
class Chains:
    """The best chain of every product node that has one."""

    span: int  # number of entities: product node = state * span + entity
    steps: Steps
    levels: tuple[Level, ...]

    def reached(self) -> Nodes:
        """Return all product nodes that have a chain, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(x.nodes for x in self.levels)]))

    def of_state(self, state: int) -> tuple[Nodes, Nodes, Nodes, Nodes]:
        """Return entity, depth, rank and position in its level of all chains from `state`."""
        empty = np.empty(0, np.int64)
        found = [(empty, empty, empty, empty)]
        for depth, level in enumerate(self.levels):
            at = np.flatnonzero(level.nodes // self.span == state)
            entity = level.nodes[at] - state * self.span
            found.append((entity, np.full(len(at), depth), level.rank[at], at))
        entity, depths, rank, position = map(np.concatenate, zip(*found, strict=True))
        return entity, depths, rank, position

    def written(self, depth: Nodes, position: Nodes) -> tuple[Nodes, Nodes]:
        """Write out chains, given where they begin.

        Returns
        -------
        start : (C + 1,) where each chain begins in `walk`; a chain of d edges takes 2 d + 1 places
        walk : entity, step, entity, step, ..., entity as numbers, of all chains
        """
        start = np.concatenate(([0], np.cumsum(2 * depth + 1)))
        walk = np.empty(start[-1], np.int64)
        at = position.copy()
        for number in range(len(self.levels) - 1, -1, -1):
            level = self.levels[number]
            here = np.flatnonzero(depth >= number)
            place = start[here] + 2 * (depth[here] - number)
            walk[place] = level.nodes[at[here]] % self.span
            if number:
                walk[place + 1] = level.step[at[here]]
                at[here] = level.next[at[here]]
        return start, walk


def shortest_chains(product: ArrayGraph, ends: Nodes) -> Chains:
    """Find the best chain to one of `ends` from every node of a product that has any."""
    steps = tuple(
        sorted(
            {(b.property_id, b.inverse) for b in product.blocks},
            key=lambda s: (int(s[0][1:]), s[1]),
        )
    )
    levels = tuple(_levels(product.reverse(), product.span, np.unique(ends), steps))
    return Chains(product.span, steps, levels)


def _levels(backward: ArrayGraph, span: int, ends: Nodes, steps: Steps) -> Iterator[Level]:
    seen = np.zeros(backward.size, bool)
    nodes = ends[np.lexsort((ends // span, ends % span))]
    nothing = np.zeros(len(nodes), np.int64)
    number = _counted(nodes % span)
    level = Level(nodes, nothing, nothing.astype(np.uint16), number, number)
    while len(level.nodes):
        yield level
        seen[level.nodes] = True
        edges = []
        for block, i, target in backward.steps(level.nodes):
            fresh = np.flatnonzero(~seen[target])
            # the reversed block walks inversely what the chain walks forward
            step = steps.index((block.property_id, not block.inverse))
            edges.append((target[fresh], i[fresh], np.full(len(fresh), step, np.uint16)))
        if not edges:
            return
        node, next_, taken = zip(*edges, strict=True)
        edge = np.concatenate(node), np.concatenate(next_), np.concatenate(taken)
        level = _best(*edge, below=level, span=span)


def _best(
    node: Nodes, next_: Nodes, step: npt.NDArray[np.uint16], below: Level, span: int
) -> Level:
    """Make a level of the best edge (node, position below, step) of each node.

    The order is by the node's entity, the next node's chain of ids, the property, the next node's
    chain of properties, and by state for chains that are equal in all that.
    """
    state, entity = np.divmod(node, span)
    # A step is below 2^16 and a rank below 2^48, so that two keys sort as one.
    tail = (step.astype(np.uint64) << np.uint64(48)) | below.rank[next_].astype(np.uint64)
    order = np.lexsort((next_, state, tail, below.ids[next_], entity))
    _, first = np.unique(node[order], return_index=True)
    best = order[np.sort(first)]
    node, next_, step, entity = node[best], next_[best], step[best], entity[best]
    ids, rank = below.ids[next_], below.rank[next_]
    return Level(node, next_, step, _counted(entity, ids), _counted(entity, ids, step, rank))


def _counted(*keys: npt.NDArray[np.integer[Any]]) -> Nodes:
    """Number the distinct rows of columns in order: 0, 0, 1, 2, 2, ..., equal for equal rows."""
    changed = np.zeros(len(keys[0]), bool)
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.cumsum(changed)


def chain_edges(
    product: ArrayGraph, sources: Nodes, within: Nodes
) -> Iterator[tuple[str, bool, Nodes, Nodes]]:
    """Yield (property, inverse, child, parent) of the edges out of `sources` among `within`.

    Sources and `within` are product nodes, children and parents entities; edges may repeat.
    """
    allowed = np.zeros(product.size, bool)
    allowed[within] = True
    for block, i, target in product.steps(sources):
        inside = np.flatnonzero(allowed[target])
        yield (
            block.property_id,
            block.inverse,
            sources[i[inside]] % product.span,
            target[inside] % product.span,
        )
