"""`closure` answers property paths as a SPARQL engine does over the query service's triples."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.closure import closure
from tests.graph import worlds
from tests.graph.oracle import PathTree, QueryService, as_text, best_chains, may_be_empty
from tests.graph.worlds import World

PATHS = st.lists(worlds.path_trees(), min_size=5, max_size=5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds.worlds(), PATHS)
def test_every_path_gives_what_sparql_gives(world: World, trees: list[PathTree]) -> None:
    service = QueryService(world)
    # A path that walks back from its values: see test_a_path_does_not_pass_through_an_unknown_value
    known = QueryService(world, somevalues=False)
    with tempfile.TemporaryDirectory() as directory:
        store = worlds.store(world, Path(directory))
        for tree, target in product(trees, targets_of(world)):
            path = as_text(tree)
            if service.mentions(target):
                asked = known if "^" in path else service
                expected = asked.closure(as_text(tree, prefix="wdt:"), target)
            else:
                # SPARQL 1.1 §18.4: a constant at the end of a zero length path is its own answer,
                # be it in the data or not.  Oxigraph gives none.
                expected = {target} if may_be_empty(tree) else set()
            assert list(closure(store, target, path)) == in_order(expected), (path, target)


def targets_of(world: World) -> list[str]:
    return [*(line["id"] for line in world), worlds.ABSENT[0]]


def in_order(ids: set[str]) -> list[str]:
    return sorted(ids, key=lambda id: (id[0], int(id[1:])))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds.worlds(), PATHS)
def test_the_oracle_agrees_with_a_second_one(world: World, trees: list[PathTree]) -> None:
    service = QueryService(world, somevalues=False)
    edges, targets = service.edges(), [*filter(service.mentions, targets_of(world))]
    for tree in trees:
        pairs = best_chains(tree, edges, targets)
        for target in targets:
            expected = {x for x, y in pairs if y == target}
            assert service.closure(as_text(tree, prefix="wdt:"), target) == expected


@pytest.fixture(scope="module")
def facts() -> World:
    """One item for each rule of truth; Q9000000001 is what they point at."""
    end, some, none, best, out, all_, absent = worlds.MADE_UP[:7]

    def link(rank: str) -> dict[str, object]:
        return worlds.statement("P279", end, rank)

    return World(
        [
            worlds.entity(end),
            worlds.entity(some, [worlds.unknown("P279")]),
            worlds.entity(none, [worlds.none("P279", "preferred"), link("normal")]),
            worlds.entity(
                best, [worlds.statement("P279", some), link("preferred"), link("preferred")]
            ),
            worlds.entity(out, [link("deprecated")]),
            worlds.entity(all_, [worlds.unknown("P279"), link("normal"), worlds.none("P279")]),
            worlds.entity("P31", [link("normal"), worlds.statement("P1647", "P1647")]),
            worlds.entity(worlds.ANIMAL, [worlds.statement("P279", absent)]),
        ]
    )


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        # by rank: preferred alone, else normal, never deprecated; preferred novalue hides normal
        ("P279", "Q9000000001", {"Q9000000004", "Q9000000006", "P31"}),
        ("P279*", "Q9000000001", {"Q9000000001", "Q9000000004", "Q9000000006", "P31"}),
        ("P279", "Q9000000002", set()),
        ("^P279", "Q9000000004", {"Q9000000001"}),
        ("P279/^P279", "Q9000000004", {"Q9000000004", "Q9000000006", "P31"}),
        ("P1647", "P1647", {"P31"}),
        # Q9000000007 has no record: what is said about it counts nevertheless
        ("P279+", "Q9000000007", {"Q729"}),
        ("P279*", "Q9000000007", {"Q729", "Q9000000007"}),
    ],
)  # fmt: skip
def test_truth_by_rank(
    facts: World, tmp_path: Path, path: str, target: str, expected: set[str]
) -> None:
    assert QueryService(facts).closure(path.replace("P", "wdt:P"), target) == expected
    assert set(closure(worlds.store(facts, tmp_path), target, path)) == expected


def test_a_target_that_nothing_mentions_is_its_own_answer(facts: World, tmp_path: Path) -> None:
    store = worlds.store(facts, tmp_path)
    assert list(closure(store, "Q42", "P279*")) == ["Q42"]
    assert list(closure(store, "Q42", "P279+")) == []


def test_a_path_does_not_pass_through_an_unknown_value(tmp_path: Path) -> None:
    """The one place where the query service says more: an unknown value leads back to its item.

    It holds somevalue as a node of its own, so that `P31/^P31` leads from there to the very item
    that it came from.  Items with another value of the property get this answer anyway.
    """
    item = worlds.MADE_UP[0]
    world = World([worlds.entity(item, [worlds.unknown("P31")])])
    assert QueryService(world).closure("wdt:P31/^wdt:P31", item) == {item}
    assert list(closure(worlds.store(world, tmp_path), item, "P31/^P31")) == []
