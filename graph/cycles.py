"""Cycles of a property that should have none, such as subclass of (P279) or parent taxon (P171).

Most of a hierarchy lies on no cycle and is peeled off layer by layer, on arrays; what is left, the
core, is small enough for networkx.  A cycle is told by a strongly connected component, the items of
which all lead to each other, and by a shortest cycle in it: where to begin to mend it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import networkx as nx
import numpy as np

from graph.ontology import Edges, Nodes, distinct

#: Edges that networkx is given at the most: a ring of so many takes 0.6 GB and 13 s.  A hierarchy
#: of 5 million edges with 3,000 cycles put into it has a core of 6,600.
MOST_EDGES: Final = 500_000

# How often the search for a shortest cycle looks at an edge at the most, on average: all cycles of
# a component are compared that has so many nodes or fewer, or short cycles.
_LOOKS = 50


@dataclass(frozen=True)
class Cycle:
    """A strongly connected component of more than one node, by their numbers."""

    nodes: list[int]  # a shortest cycle, in the order of its edges
    component: list[int]  # all that lie on cycles with these, ascending


def loops(edges: Edges) -> Nodes:
    """Return the nodes that have an edge to themselves, ascending."""
    nodes: Nodes = edges.subject[edges.subject == edges.object].astype(np.int64)
    return nodes


def cyclic_core(edges: Edges, size: int) -> Edges:
    """Return the edges on cycles and between two cycles, loops left out.

    Nodes that no edge leads to are dropped with their edges until there is none, then nodes that
    no edge leads away from: time in proportion to the edges, however long their chains.  `size` is
    the number of nodes.
    """
    straight = edges.subject != edges.object
    core = Edges(edges.subject[straight], edges.object[straight])
    for _ in range(2):  # turned round twice, it stands as it stood
        core = _peeled(core, size)
        core = Edges.of(core.object, core.subject)
    return core


def _peeled(edges: Edges, size: int) -> Edges:
    """Drop the nodes that no cycle leads to."""
    degree = np.bincount(edges.object, minlength=size)
    gone = np.zeros(size, bool)
    layer = distinct(edges.subject[degree[edges.subject] == 0].astype(np.int64))
    while len(layer):
        gone[layer] = True
        _, target = edges.forward.expand(layer)
        np.subtract.at(degree, target, 1)
        layer = distinct(target[degree[target] == 0])
    left = ~gone[edges.subject]
    return Edges(edges.subject[left], edges.object[left])


def cycles(core: Edges, through: Edges | None = None) -> Iterator[Cycle]:
    """Yield the strongly connected components of a core that :func:`cyclic_core` returned.

    A cycle begins at its lowest node.  Where edges are given to go `through`, only components that
    have one are yielded, and a cycle begins with one.

    Of a component with more than 50 nodes the cycle may not be the shortest: the search for a
    shorter one is given up after 50 looks at every edge.

    Raises
    ------
    OverflowError : the core has more than `MOST_EDGES` edges.
    """
    if len(core.subject) > MOST_EDGES:
        raise OverflowError(f"{len(core.subject)} edges on and between cycles")
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_edges_from(zip(core.subject.tolist(), core.object.tolist(), strict=True))
    components = [c for c in nx.strongly_connected_components(graph) if len(c) > 1]
    links = _links_within(components, through) if through is not None else None
    for number, component in enumerate(components):
        if links is None:
            starts = [(node, node) for node in sorted(component)]
        else:
            starts = links.get(number, [])
        if starts:
            above = {node: [to for to in graph[node] if to in component] for node in component}
            yield Cycle(_shortest_cycle(above, starts), sorted(component))


def _links_within(components: list[set[int]], edges: Edges) -> dict[int, list[tuple[int, int]]]:
    """Return by component the edges, loops left out, that have both ends in it, in their order."""
    number_of = {node: number for number, nodes in enumerate(components) for node in nodes}
    inside = np.isin(edges.subject, np.fromiter(number_of, np.uint32, len(number_of)))
    inside &= edges.subject != edges.object
    links: dict[int, list[tuple[int, int]]] = {}
    pairs = zip(edges.subject[inside].tolist(), edges.object[inside].tolist(), strict=True)
    for node, to in pairs:
        if number_of[node] == number_of.get(to):
            links.setdefault(number_of[node], []).append((node, to))
    return links


def _shortest_cycle(above: dict[int, list[int]], starts: list[tuple[int, int]]) -> list[int]:
    """Return a shortest cycle, of equally short ones the first that is found.

    `above` are the edges of a component.  `starts` are the edges that a cycle may begin with; or
    (node, node) for every node, ascending: then a cycle is looked for from its lowest node, so that
    each is come to once.
    """
    looks = _LOOKS * sum(map(len, above.values()))
    best: list[int] = []
    for node, to in starts:
        if len(best) == 2 or (best and looks <= 0):
            break
        alone = node == to
        limit = (len(best) or len(above) + 1) - (not alone)
        found, looked = _way(to, node, above, limit, node if alone else -1)
        if found:
            best = found if alone else [node, *found]
        looks -= looked
    return best


def _way(
    start: int, goal: int, above: dict[int, list[int]], limit: int, floor: int
) -> tuple[list[int] | None, int]:
    """Return a shortest way of less than `limit` nodes, the goal not counted; and edges seen.

    It has one edge at the least, also where it ends where it starts, and no node below `floor`.
    """
    came: dict[int, int] = {start: start}
    layer, looked = [start], 0
    for _ in range(limit - 1):
        fresh = []
        for node in layer:
            looked += len(above[node])
            for to in above[node]:
                if to == goal:
                    return _walked_back(node, came), looked
                if to >= floor and to not in came:
                    came[to] = node
                    fresh.append(to)
        layer = fresh
    return None, looked


def _walked_back(node: int, came: dict[int, int]) -> list[int]:
    walk = [node]
    while came[walk[-1]] != walk[-1]:
        walk.append(came[walk[-1]])
    return walk[::-1]
