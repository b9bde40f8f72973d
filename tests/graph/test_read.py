"""A built data set, read back into networkx and Arrow."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import pyarrow.parquet as pq
import pytest

import graph
from etl.errors import UserError
from graph.build import build
from graph.read import hierarchy
from graph.recipe import load as recipe
from tests.console import ROOT
from tests.graph.data_sets import with_columns
from tests.graph.small_dump import entity, recipe_of, store_of

WORLD = [
    entity("Q1", label="animal"),
    entity("Q2", label="mammal", links=1, claims={"P279": ["Q1"]}),  # too few links
    entity("Q10", label="dog", claims={"P279": ["Q2"], "P31": ["Q2"], "P171": ["Q1"]}),
    entity("Q12", label="amulet", claims={"P279": ["Q10", "Q20"]}),
    entity("Q20", label="jewel"),
    entity("Q21", label="ring", claims={"P279": ["Q20"]}),
    entity("Q30", label="alone"),
]
RECIPE = (
    "min_sitelinks = 5\n"
    '[[root]]\nid = "Q1"\nany = [{ path = "(P31/P279*)|P279*|P171+" }]\n'
    '[[root]]\nid = "Q20"\nany = [{ path = "P279*" }]\n'
    '[[root]]\nid = "Q30"\nany = [{ path = "P279*" }]\n'
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("read")
    store = store_of(folder, WORLD)
    build(store, recipe(recipe_of(folder, RECIPE)), folder / "out", quiet=True)
    with_columns(
        folder / "out",
        natural_type={"Q10": "Q2"},
        natural_type_name={},
        visual={"Q10": True, "Q21": False},
    )
    return folder / "out"


def test_a_data_set_is_a_graph_to_networkx(built):
    loaded = graph.load(built)
    assert type(loaded) is nx.DiGraph
    assert {(u, v): p for u, v, p in loaded.edges(data="property")} == {
        ("Q2", "Q1"): ["P279"],
        ("Q10", "Q2"): ["P31", "P279"],
        ("Q10", "Q1"): ["P171"],
        ("Q12", "Q10"): ["P279"],
        ("Q12", "Q20"): ["P279"],
        ("Q21", "Q20"): ["P279"],
    }
    assert loaded.nodes["Q10"] == {
        "name": "dog",
        "roots": ["Q1"],
        "depths": [1],
        "sitelinks": 10,
        "natural_type": "Q2",
        "visual": True,
    }
    assert loaded.nodes["Q2"] == {}  # an ancestor that is not kept
    assert loaded.nodes["Q21"]["visual"] is False
    assert "Q30" in loaded  # an entity without an edge
    assert nx.shortest_path(loaded, "Q12", "Q1") == ["Q12", "Q10", "Q1"]
    assert nx.ancestors(loaded, "Q1") == {"Q2", "Q10", "Q12"}


def test_a_root_can_be_loaded_alone(built):
    jewels = graph.load(str(built), root="Q20")
    assert set(jewels) == {"Q12", "Q20", "Q21"}
    assert set(jewels.edges) == {("Q12", "Q20"), ("Q21", "Q20")}
    animals = graph.load(built, root="Q1")
    assert set(animals) == {"Q1", "Q2", "Q10", "Q12"}
    assert set(graph.load(built, root="Q30")) == {"Q30"}
    with pytest.raises(UserError, match="has no root 'Q2': name one of Q1, Q20, Q30"):
        graph.load(built, root="Q2")


def test_arrays_are_the_same_graph(built):
    plain = graph.load(built)
    arrays = hierarchy(built)
    assert set(arrays.to_networkx().edges) == {(int(u[1:]), int(v[1:])) for u, v in plain.edges}
    assert nx.ancestors(arrays, 1) == {2, 10, 12}
    assert arrays.to_networkx().edges[10, 2]["property"] == ["P279", "P31"]


def test_tables_are_arrow_datasets(built):
    tables = graph.datasets(built)
    assert set(tables) == {
        file.stem for file in built.glob("*.parquet")
    }  # those that the manifest lists
    names = tables["entities"].to_table(columns=["id", "name"]).to_pylist()
    assert {"id": "Q12", "name": "amulet"} in names
    assert (
        tables["memberships"].count_rows()
        == pq.read_metadata(built / "memberships.parquet").num_rows
    )


def test_what_is_no_data_set_is_refused(tmp_path):
    for read in (graph.load, graph.datasets):
        with pytest.raises(UserError, match="holds no finished graph"):
            read(tmp_path)


@pytest.mark.parametrize("outputs", ["", ', "outputs": []'])
def test_a_manifest_that_lists_nothing_is_refused(tmp_path, outputs):
    (tmp_path / "manifest.json").write_text(f'{{"step": "graph"{outputs}}}')
    for read in (graph.load, graph.datasets):
        with pytest.raises(UserError, match=r"manifest\.json lists no outputs: .* graph again"):
            read(tmp_path)


def test_the_package_alone_imports_nothing_heavy():
    code = "import graph, sys; print({'networkx', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
