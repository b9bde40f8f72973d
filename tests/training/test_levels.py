"""Distances of mistakes beside networkx; ranks of taxa of the sample."""

from __future__ import annotations

import math
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.ingest import ingest
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.plan import Options
from etl.sample import write_dump
from graph.build import build
from graph.recipe import load
from training.levels import LEVELS, Above, measured

CATS = {
    "lion": ["big cat"],
    "tiger": ["big cat"],
    "big cat": ["cat"],
    "house cat": ["cat"],
    "cat": ["animal"],
    "dog": ["animal"],
}
CLASSES = ["lion", "tiger", "house cat", "dog", "stone"]


def test_the_distance_is_how_far_up_the_answer_is_below() -> None:
    above = Above(CLASSES, CATS)
    assert above.levels(["lion"], "lion") == 0
    assert above.levels(["lion"], "tiger") == 1
    assert above.levels(["lion"], "house cat") == 2
    assert above.levels(["lion"], "dog") == 3
    assert above.levels(["dog"], "lion") == 1  # an animal, as dogs are
    assert above.levels(["lion"], "stone") is None
    assert above.levels(["lion", "dog"], "house cat") == 1


def test_a_kind_of_the_right_class_is_a_mistake_of_one_level() -> None:
    above = Above(["cat", "lion"], CATS)
    assert above.levels(["cat"], "lion") == 1
    assert above.levels(["lion"], "cat") == 2


def test_what_a_guess_would_have_grows_with_the_level() -> None:
    found = measured(Above(CLASSES, CATS), [["lion"], ["dog"]], ["tiger", "stone"])
    assert found is not None
    assert found.accuracy == [0, 0.5, 0.5, 0.5, 0.5, 0.5]
    # of five classes: lion, then tiger, then the house cat, then the dog; dog, then all animals
    expected = [0.2, (2 + 4) / 10, (3 + 4) / 10, 0.8, 0.8, 0.8]
    assert found.chance == pytest.approx(expected)
    assert found.mistakes == 1
    assert found.apart == 0.5


def test_a_circle_ends() -> None:
    above = Above(["a", "b"], {"a": ["b"], "b": ["a"]})
    assert above.levels(["a"], "b") == 1


edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20)


@given(edges, st.sets(st.integers(0, 9), min_size=1, max_size=3))
def test_distances_are_those_of_networkx(pairs: list[tuple[int, int]], right: set[int]) -> None:
    names = [str(n) for n in range(10)]
    parents: dict[str, list[str]] = {name: [] for name in names}
    for child, parent in pairs:
        parents[str(child)].append(str(parent))
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from((str(a), str(b)) for a, b in pairs)
    above = Above(names, parents)
    own = sorted(map(str, right))
    ways = [nx.single_source_shortest_path_length(graph, name) for name in own]
    for answer in names:
        up = nx.descendants(graph, answer) | {answer}
        far = min((way[at] for way in ways for at in up if at in way), default=math.inf)
        expected = 0 if answer in own else None if far == math.inf else max(far, 1)
        assert above.levels(own, answer) == expected
    far = [above.levels(own, answer) for answer in names]
    for alike in ([], [names[-1]]):
        counted = [0 if name in alike else level for name, level in zip(names, far, strict=True)]
        assert above.shares(own, alike) == [
            sum(level is not None and level <= step for level in counted) / len(names)
            for step in range(LEVELS + 1)
        ]


def test_a_guess_of_what_reads_the_same_is_right() -> None:
    above = Above(CLASSES, CATS)
    found = measured(above, [["lion"]], ["lion"], [["lion", "stone"]])
    assert found is not None
    assert found.accuracy == [1] * 6
    assert found.chance == pytest.approx([0.4, 0.6, 0.8, 1, 1, 1])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The graph and the store of the sample."""
    folder = tmp_path_factory.mktemp("sample")
    write_dump(folder / "dump.json.gz")
    kept = Kept(DEFAULT_LANGUAGES, read_properties(None))
    ingest([str(folder / "dump.json.gz")], folder / "store", Options(kept=kept, quiet=True))
    build(folder / "store", load("living"), folder / "graph", quiet=True)
    return folder / "graph", folder / "store"


def test_a_wrong_species_may_be_of_the_right_family(sample: tuple[Path, Path]) -> None:
    """Taxa that the sample makes up: two species of one genus, a third of another order."""
    cliff, desert, glider = "Q9000000280", "Q9000000282", "Q9000000284"
    above = Above.of(sample[0], [cliff, desert, glider], sample[1])
    found = measured(above, [[cliff]], [desert])
    assert found is not None
    by_rank = {at.rank: at.accuracy for at in found.ranks}
    assert by_rank == {
        "species": 0, "genus": 1, "family": 1, "order": 1, "class": 1, "phylum": 1,
    }  # fmt: skip
    found = measured(above, [[cliff]], [glider])
    assert found is not None
    by_rank = {at.rank: at.accuracy for at in found.ranks}
    assert by_rank == {
        "species": 0, "genus": 0, "family": 0, "order": 0, "class": 1, "phylum": 1,
    }  # fmt: skip
    chances = {at.rank: at.chance for at in found.ranks}
    assert chances["species"] == pytest.approx(1 / 3)
    assert chances["phylum"] == 1


def test_without_a_store_there_are_no_ranks(sample: tuple[Path, Path]) -> None:
    found = measured(Above.of(sample[0], ["Q9000000280"]), [["Q9000000280"]], ["Q9000000280"])
    assert found is not None
    assert found.ranks == []
    assert found.mistakes is None
