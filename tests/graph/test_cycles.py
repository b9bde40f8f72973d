"""Cycles on arrays, against networkx' own components and cycles of small random graphs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graph.cycles
from graph.cycles import cycles, cyclic_core, loops
from graph.ontology import Edges

NODES = 9


def edges_of(pairs):
    array = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Edges.of(array[:, 0], array[:, 1])


def found(pairs, size):
    return sorted((c.component, c.nodes) for c in cycles(cyclic_core(edges_of(pairs), size)))


pairs_of_a_graph = st.sets(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=20
)


@given(pairs_of_a_graph)
def test_components_and_shortest_cycles_are_networkx_own(pairs):
    plain = nx.DiGraph([pair for pair in pairs if pair[0] != pair[1]])
    components = [c for c in nx.strongly_connected_components(plain) if len(c) > 1]
    answer = found(pairs, NODES)
    assert [component for component, _ in answer] == sorted(map(sorted, components))
    for component, cycle in answer:
        every = list(nx.simple_cycles(plain.subgraph(component)))
        shortest = min(map(len, every))
        assert len(cycle) == len(set(cycle)) == shortest
        assert all(plain.has_edge(a, b) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))
        assert cycle[0] == min(cycle)
        assert cycle[0] == min(min(one) for one in every if len(one) == shortest)


@given(pairs_of_a_graph, pairs_of_a_graph)
def test_cycles_through_some_edges_are_the_shortest_that_networkx_has(pairs, some):
    through = [pair for pair in some if pair[0] != pair[1]]
    plain = nx.DiGraph([pair for pair in {*pairs, *some} if pair[0] != pair[1]])
    core = cyclic_core(edges_of({*pairs, *some}), NODES)
    answer = {tuple(c.component): c.nodes for c in cycles(core, edges_of(some))}
    expected = {}
    for component in nx.strongly_connected_components(plain):
        inside = [(a, b) for a, b in through if {a, b} <= component]
        if inside:
            lengths = [nx.shortest_path_length(plain, b, a) + 1 for a, b in inside]
            expected[tuple(sorted(component))] = min(lengths)
    assert {component: len(nodes) for component, nodes in answer.items()} == expected
    for nodes in answer.values():
        assert (nodes[0], nodes[1]) in through
        assert len(nodes) == len(set(nodes))
        ring = zip(nodes, nodes[1:] + nodes[:1], strict=True)
        assert all(plain.has_edge(a, b) for a, b in ring)


@given(pairs_of_a_graph)
def test_the_core_is_what_lies_on_and_between_cycles(pairs):
    core = cyclic_core(edges_of(pairs), NODES)
    plain = nx.DiGraph([pair for pair in pairs if pair[0] != pair[1]])
    plain.add_nodes_from(range(NODES))
    cyclic = {node for c in nx.strongly_connected_components(plain) if len(c) > 1 for node in c}
    below = {node for node in plain if cyclic & ({node} | nx.descendants(plain, node))}
    above = {node for node in plain if cyclic & ({node} | nx.ancestors(plain, node))}
    between = below & above
    assert set(zip(core.subject.tolist(), core.object.tolist(), strict=True)) == {
        pair for pair in plain.edges if set(pair) <= between
    }


def test_a_loop_is_no_component():
    edges = edges_of([(1, 1), (1, 2), (3, 3)])
    assert loops(edges).tolist() == [1, 3]
    assert found([(1, 1), (1, 2), (3, 3)], 4) == []


def test_nothing_has_no_cycle():
    assert found([], 0) == []
    assert loops(edges_of([])).tolist() == []


def test_a_long_ring_is_one_cycle_however_much_hangs_on_it():
    size = 3000
    ring = [(n, (n + 1) % 1000) for n in range(1000)]
    tails = [(n, n - 1000) for n in range(1000, 2000)] + [(n, n + 2000) for n in range(1000)]
    assert found(ring + tails, size) == [(list(range(1000)), list(range(1000)))]


def test_a_cycle_of_a_large_component_is_short_even_where_not_all_are_looked_at(monkeypatch):
    monkeypatch.setattr(graph.cycles, "_LOOKS", 0)
    ring = [(n, (n + 1) % 60) for n in range(60)]
    ((component, cycle),) = found([*ring, (40, 39), (5, 0)], 60)
    assert component == list(range(60))
    assert cycle == [0, 1, 2, 3, 4, 5]  # through the lowest node; 39 and 40 are not come to


def test_a_core_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(graph.cycles, "MOST_EDGES", 2)
    core = cyclic_core(edges_of([(0, 1), (1, 2), (2, 0)]), 3)
    with pytest.raises(OverflowError):
        list(cycles(core))
