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

import numpy as np
import numpy.typing as npt

from graph.ontology import ArrayGraph, Nodes

Steps = tuple[tuple[str, bool], ...]  # (property, inverse), numbered in the order of a chain's rule


@dataclass(frozen=True)
class Level:
    """The nodes whose best chain has as many edges as the level's number, best chain first."""

    nodes: Nodes  # (L,) product nodes
    next: Nodes  # (L,) where the chain goes on: a position in the level below
    step: npt.NDArray[np.uint16]  # (L,) the property to it, a number in `Chains.steps`


@dataclass(frozen=True)
class Chains:
    """The best chain of every product node that has one."""

    span: int  # number of entities: product node = state * span + entity
    steps: Steps
    levels: tuple[Level, ...]

    def reached(self) -> Nodes:
        """Return all product nodes that have a chain, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(x.nodes for x in self.levels)]))

    def of_state(self, state: int) -> tuple[Nodes, Nodes, Nodes]:
        """Return entity, depth and position in its level of all chains from `state`."""
        found = [
            (level.nodes[at] - state * self.span, np.full(len(at), depth), at)
            for depth, level in enumerate(self.levels)
            for at in (np.flatnonzero(level.nodes // self.span == state),)
        ]
        empty = np.empty(0, np.int64)
        columns = zip((empty, empty, empty), *found, strict=True)
        entity, depth, position = (np.concatenate(column) for column in columns)
        return entity, depth, position

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
    seen[ends] = True
    nodes = ends[np.lexsort((ends // span, ends % span))]
    level = Level(nodes, np.zeros(len(nodes), np.int64), np.zeros(len(nodes), np.uint16))
    # (L,) number of the distinct chain of ids: chains that differ in properties only share one
    chain = _counted(nodes % span)
    while len(level.nodes):
        yield level
        edges = []
        for block, i, target in backward.steps(level.nodes):
            fresh = np.flatnonzero(~seen[target])
            # the reversed block walks inversely what the chain walks forward
            number = steps.index((block.property_id, not block.inverse))
            edges.append(Level(target[fresh], i[fresh], np.full(len(fresh), number, np.uint16)))
        if not edges:
            return
        level = _best(edges, chain, span)
        seen[level.nodes] = True
        chain = _counted(level.nodes % span, chain[level.next])


def _best(edges: list[Level], chain: Nodes, span: int) -> Level:
    """Choose the best of the edges (node, next, step) of each node, best chains first.

    The order is by the node's entity, then the next node's chain of ids, then the property, then
    the next node's position (its properties), and by state for chains that are equal in all that.
    """
    node = np.concatenate([e.nodes for e in edges])
    next_ = np.concatenate([e.next for e in edges])
    step = np.concatenate([e.step for e in edges])
    state, entity = np.divmod(node, span)
    tail = (step.astype(np.uint64) << np.uint64(48)) | next_.astype(np.uint64)
    order = np.lexsort((state, tail, chain[next_], entity))
    _, first = np.unique(node[order], return_index=True)
    best = order[np.sort(first)]
    return Level(node[best], next_[best], step[best])


def _counted(*keys: Nodes) -> Nodes:
    """Number distinct rows of columns that are in order: equal rows get equal numbers."""
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
