"""Many rows climbing at once find what plain networkx finds for each alone."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.ancestors import ancestors
from graph.ontology import Ontology

EDGES = st.sets(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=30)
STARTS = st.lists(st.sets(st.integers(1, 12), min_size=1, max_size=3), min_size=1, max_size=6)


@given(EDGES, STARTS, st.sampled_from([1, 40, 10_000]))
def test_rows_find_all_above_them_at_the_shortest_distance(edges, starts, cells):
    ontology = Ontology.of({"P279": edges}, including=range(1, 13))
    row = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    start = ontology.find(np.concatenate([sorted(s) for s in starts]))
    found = list(ancestors(ontology.graph(), row, start, cells=cells))
    rows = [
        (r, int(ontology.ids[n]), d)
        for batch in found
        for r, n, d in zip(*(column.tolist() for column in batch), strict=True)
    ]
    plain = nx.DiGraph(list(edges))
    plain.add_nodes_from(range(1, 13))
    expected = []
    for r, s in enumerate(starts):
        distance: dict[int, int] = {}
        for node in s:
            for above, d in nx.single_source_shortest_path_length(plain, node).items():
                distance[above] = min(d, distance.get(above, d))
        expected += [(r, node, d) for node, d in sorted(distance.items())]
    assert rows == expected


@pytest.mark.parametrize("edges", [[], [(1, 2)]])
def test_no_rows_find_nothing(edges):
    ontology = Ontology.of({"P279": edges}, including=[1])
    nothing = np.empty(0, np.int64)
    assert list(ancestors(ontology.graph(), nothing, nothing)) == []
