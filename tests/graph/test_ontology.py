"""The array graph: networkx, given arrays, answers as networkx given a DiGraph does."""

from __future__ import annotations

import contextlib
import json

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UserError
from graph.ontology import ArrayGraph, Block, Edges, Ontology, read_subjects
from graph.paths import automaton, parse
from graph.selection import closure_of
from tests.graph import walks

NODES = st.integers(-3, 9).filter(bool)
GRAPHS = st.lists(st.tuples(NODES, st.sampled_from(["P31", "P279"]), NODES), max_size=25)


def both(edges, alone=(7,)) -> tuple[ArrayGraph, nx.DiGraph]:
    """Make one graph twice: in arrays and plain; with cycles, loops and repeated edges."""
    by_property: dict[str, list[tuple[int, int]]] = {"P31": [], "P279": []}
    plain = nx.DiGraph()
    plain.add_nodes_from(alone)
    for s, p, o in edges:
        by_property[p].append((s, o))
        plain.add_edge(s, o)
    return Ontology.of(by_property, including=alone).graph(), plain


def outcome(function, *arguments, **keywords):
    """Return a function's result, or the type of networkx' exception."""
    try:
        result = function(*arguments, **keywords)
        return list(map(set, result)) if function is nx.bfs_layers else result
    except nx.NetworkXException as error:
        return type(error)


@given(GRAPHS, NODES)
def test_reachability_is_networkx_own(edges, source):
    arrays, plain = both(edges)
    for function in (nx.descendants, nx.ancestors, nx.single_source_shortest_path_length):
        assert outcome(function, arrays, source) == outcome(function, plain, source)


@given(GRAPHS, st.sampled_from([-1, 0, 0.5, 1, 1.5, 2, 3]), NODES)
def test_a_cutoff_is_networkx_own(edges, cutoff, source):
    arrays, plain = both(edges)
    function = nx.single_source_shortest_path_length
    assert outcome(function, arrays, source, cutoff=cutoff) == outcome(
        function, plain, source, cutoff=cutoff
    )


@given(GRAPHS, st.lists(NODES, max_size=4))
def test_layers_from_several_sources_are_networkx_own(edges, sources):
    arrays, plain = both(edges)
    assert outcome(nx.bfs_layers, arrays, sources) == outcome(nx.bfs_layers, plain, sources)
    assert outcome(nx.bfs_layers, arrays.reverse(), sources) == outcome(
        nx.bfs_layers, plain.reverse(), sources
    )


@given(GRAPHS, NODES, NODES)
def test_paths_between_two_nodes_are_as_long_as_networkx_own(edges, source, target):
    arrays, plain = both(edges)
    expected = outcome(nx.shortest_path, plain, source, target)
    found = outcome(nx.shortest_path, arrays, source, target)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        assert nx.is_simple_path(plain, found)
        assert found == min(nx.all_shortest_paths(plain, source, target))
    else:
        assert found == expected
    for function in (nx.shortest_path_length, nx.has_path):
        assert outcome(function, arrays, source, target) == outcome(function, plain, source, target)


@given(GRAPHS)
def test_the_graph_as_networkx_has_it(edges):
    arrays, plain = both(edges)
    converted = arrays.to_networkx()
    assert set(converted) == set(plain) == set(arrays)
    assert set(converted.edges) == set(plain.edges)
    for s, o, named in converted.edges(data="property"):
        assert named == [p for p in ("P31", "P279") if (s, p, o) in edges]


@given(GRAPHS, NODES)
def test_a_plain_graph_is_converted_when_the_backend_is_asked_for(edges, source):
    _, plain = both(edges)
    expected = outcome(nx.descendants, plain, source)
    assert outcome(nx.descendants, plain, source, backend="sparqless") == expected


def test_what_the_backend_lacks_is_refused_and_not_converted_silently():
    arrays, _ = both([(1, "P31", 2)])
    with pytest.raises(NotImplementedError):
        nx.pagerank(arrays)
    with pytest.raises(NotImplementedError):
        nx.shortest_path(arrays, 1)
    with pytest.raises(NotImplementedError):
        nx.shortest_path(arrays, 1, 2, weight="sitelinks")
    with pytest.raises(NotImplementedError):
        nx.descendants(nx.DiGraph([("Q1", "Q2")]), "Q1", backend="sparqless")


def test_layers_come_one_by_one_as_lists_or_of_an_array_as_arrays():
    arrays, _ = both([(1, "P31", 2), (2, "P279", 3)])
    layers = nx.bfs_layers(arrays, np.array([1]))
    assert isinstance(next(layers), np.ndarray)
    assert list(nx.bfs_layers(arrays, [1])) == list(nx.bfs_layers(arrays, 1)) == [[1], [2], [3]]


@pytest.mark.parametrize("node", [99, "Q1", None, 2**70, 1.5])
def test_a_node_that_is_not_there_is_networkx_own_error(node):
    arrays, plain = both([(1, "P31", 2)])
    assert node not in arrays
    for graph in (arrays, plain):
        with pytest.raises(nx.NetworkXError):
            list(nx.bfs_layers(graph, [1, node]))
        with pytest.raises(nx.NetworkXError):
            list(graph.neighbors(node))
        with pytest.raises(nx.NodeNotFound):
            nx.single_source_shortest_path_length(graph, node)
    with pytest.raises(nx.NetworkXError):
        nx.bfs_layers(arrays, np.array([1, 99]))


@given(GRAPHS)
def test_small_questions_are_answered_as_by_networkx(edges):
    arrays, plain = both(edges)
    assert arrays.number_of_nodes() == plain.number_of_nodes()
    for node in plain:
        assert arrays.has_node(node)
        assert list(arrays.neighbors(node)) == sorted(plain.neighbors(node))
        assert list(arrays.reverse().successors(node)) == sorted(plain.predecessors(node))


def test_what_an_array_graph_does_not_do_names_the_way_out():
    arrays, _ = both([(1, "P31", 2)])
    with pytest.raises(AttributeError, match=r"has no 'degree'.*to_networkx\(\)"):
        arrays.degree  # noqa: B018
    assert arrays != both([(1, "P31", 2)])[0]  # no comparison of arrays, and no error either
    assert len({arrays, arrays}) == 1


@pytest.mark.parametrize("group", [1, 2, 3, 100])
@pytest.mark.parametrize("truthy", range(6))
def test_only_the_truthy_rows_of_an_edge_file_are_read(tmp_path, group, truthy):
    rows = [(2, 1), (3, 1), (3, 2), (4, 1), (9, 1)]
    subject, object = zip(*rows, strict=True)
    table = pa.table({"subject": subject, "object": object, "rank": ["normal"] * len(rows)})
    table = table.replace_schema_metadata({"truthy_rows": str(truthy)})
    (tmp_path / "edges").mkdir()
    pq.write_table(table, tmp_path / "edges" / "P279.parquet", row_group_size=group)
    manifest = {"step": "store", "outputs": {"edges/P279.parquet": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    graph = Ontology.load(tmp_path, ["P279", "P31"]).graph()
    assert set(graph.to_networkx().edges) == set(rows[:truthy])
    found = read_subjects(tmp_path / "edges" / "P279.parquet", np.array([1, 7])).to_pylist()
    assert [(row["subject"], row["object"]) for row in found] == [
        (s, o) for s, o in rows[:truthy] if o == 1
    ]


def test_a_file_of_edges_that_is_gone_is_not_taken_for_none(tmp_path):
    manifest = {"step": "store", "outputs": {"edges/P279.parquet": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert Ontology.load(tmp_path, ["P31"]).edges == {}
    with pytest.raises(UserError, match=r"P279.parquet is missing, which the store's manifest"):
        Ontology.load(tmp_path, ["P31", "P279"])


def test_ids_and_product_nodes_may_have_more_than_32_bits():
    far = 2**40
    graph = Ontology.of({"P31": [(far + 1, far), (far, 7)]}).graph()
    assert nx.shortest_path(graph, far + 1, 7) == [far + 1, far, 7]
    span = 2**32 - 1
    edges = Edges.of([5, span - 1], [span - 1, 6])
    product = ArrayGraph(5 * span, span, (Block(edges, "P31", False, 3 * span, 4 * span),))
    nodes = np.array([5, 3 * span + 5, 4 * span - 1, 4 * span + 5])
    ((_, i, target),) = product.steps(nodes)
    assert (i.tolist(), target.tolist()) == ([1, 2], [5 * span - 1, 4 * span + 6])
    ((_, i, target),) = product.reverse().steps(target)
    assert (i.tolist(), target.tolist()) == ([0, 1], [3 * span + 5, 4 * span - 1])


@pytest.mark.parametrize(("most", "fits"), [(2, False), (3, True)])
def test_more_nodes_than_32_bits_can_number_are_refused(monkeypatch, most, fits):
    monkeypatch.setattr("graph.ontology._MOST_NODES", most)
    refused = contextlib.nullcontext() if fits else pytest.raises(OverflowError)
    with refused:
        Ontology.of({"P31": [(1, 2)]}, including=[3])


def test_an_empty_ontology():
    graph = Ontology.of({}).graph()
    assert len(graph) == 0
    assert 1 not in graph
    assert list(nx.bfs_layers(graph, [])) == []


@given(walks.EDGES, walks.TREES, st.sets(walks.NODES, min_size=1, max_size=2))
def test_a_closure_is_what_the_definition_of_the_path_gives(edges, tree, ends):
    by_property = {name: {(s, o) for s, p, o in edges if p == name} for name in walks.NAMES}
    ontology = Ontology.of(by_property, including=ends)
    path = parse(walks.text_of(tree))
    nodes = set(ontology.ids.tolist())
    expected = {x for x, y in walks.pairs(tree, edges, nodes) if y in ends}
    found = closure_of(ontology, path, tuple(f"Q{end}" for end in ends))
    assert set(ontology.ids[found].tolist()) == expected


@given(walks.EDGES, walks.TREES)
def test_a_product_is_the_graph_that_networkx_walks_too(edges, tree):
    by_property = {name: {(s, o) for s, p, o in edges if p == name} for name in walks.NAMES}
    product = Ontology.of(by_property, [1]).product(automaton([parse(walks.text_of(tree))], [0]))
    plain = product.to_networkx()
    assert len(plain) == product.size
    for source in range(product.size):
        assert nx.descendants(product, source) == nx.descendants(plain, source)
