"""Evidence chains: real walks that match the path, shortest, and the lowest of those."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from graph.ontology import Ontology
from graph.paths import parse
from graph.recipe import Match
from graph.selection import Evaluator
from tests.graph import walks

LONGEST = 4  # the brute force writes out every walk up to here


def chains(edges, matches: list[Match], including=()) -> dict[int, tuple[tuple, tuple, str]]:
    """Return entity -> (ids, steps, branch) as the graph finds them."""
    by_property = {name: {(s, o) for s, p, o in edges if p == name} for name in walks.NAMES}
    ontology = Ontology.of(by_property, including)
    members = Evaluator(ontology, lambda _, nodes: nodes < 0).members(tuple(matches))
    start, walk = members.chains.written(members.depth, members.position)
    found = {}
    for row, entity in enumerate(ontology.ids[members.entity].tolist()):
        one = walk[start[row] : start[row + 1]].tolist()
        steps = [members.chains.steps[number] for number in one[1::2]]
        found[entity] = (
            tuple(ontology.ids[one[::2]].tolist()),
            tuple(f"^{p}" if inverse else p for p, inverse in steps),
            str(members.branches[members.branch[row]]),
        )
        assert members.depth[row] == len(steps)
    return found


@settings(max_examples=300)
@given(walks.EDGES, walks.TREES, st.sets(walks.NODES, min_size=1, max_size=2))
@example({(1, "P31", 2), (1, "P279", 2), (2, "P279", 1)}, ("*", ("p", "P279")), {1})
def test_a_chain_is_the_best_walk_that_brute_force_finds(edges, tree, ends):
    text = walks.text_of(tree)
    match = Match(text, parse(text), tuple(f"Q{end}" for end in sorted(ends)))
    found = chains(edges, [match], including=ends)
    for entity in {1, 2, 3, 4, 5, 6} | ends:
        best = walks.best_walk(tree, edges, entity, ends, LONGEST)
        if best is not None:
            assert found[entity][:2] == best
        elif entity in found:
            assert len(found[entity][1]) > LONGEST


@settings(max_examples=100)
@given(
    walks.EDGES, st.lists(walks.TREES, min_size=2, max_size=3), st.lists(walks.NODES, min_size=3)
)
def test_of_several_conditions_the_best_chain_wins_then_the_first_condition(edges, trees, ends):
    matches = [
        Match(walks.text_of(tree), parse(walks.text_of(tree)), (f"Q{end}",))
        for tree, end in zip(trees, ends, strict=False)
    ]
    found = chains(edges, matches, including=ends)
    for entity in {1, 2, 3, 4, 5, 6}:
        options = [
            (len(best[1]), best[0], tuple(map(walks.step_order, best[1])), number, best)
            for number, (tree, end) in enumerate(zip(trees, ends, strict=False), 1)
            if (best := walks.best_walk(tree, edges, entity, {end}, LONGEST))
        ]
        if options:
            *_, number, best = min(options)
            ids, steps, branch = found[entity]
            assert (ids, steps) == best
            assert branch.startswith(f"{number}: ")


def match_of(text: str, end: str, *conditions: Match) -> Match:
    return Match(text, parse(text), (end,), conditions)


def test_the_branch_is_the_part_of_the_path_that_matched():
    edges = {(2, "P31", 3), (3, "P279", 1), (4, "P171", 1)}
    found = chains(edges, [match_of("(P31/P279*)|P279+|P171+", "Q1")])
    assert {entity: branch for entity, (_, _, branch) in found.items()} == {
        2: "1: P31/P279*",
        3: "1: P279+",
        4: "1: P171+",
    }


def test_a_zero_length_chain_is_the_entity_alone():
    assert chains({(2, "P279", 1)}, [match_of("P279*", "Q1")])[1] == ((1,), (), "1: P279*")


def test_lower_ids_come_before_lower_properties():
    edges = {(9, "P279", 2), (2, "P31", 1), (9, "P31", 3), (3, "P31", 1)}
    assert chains(edges, [match_of("(P31|P279)+", "Q1")])[9][0] == (9, 2, 1)


def test_an_inverse_step_is_marked_and_comes_after_the_direct_one():
    edges = {(9, "P279", 1), (1, "P279", 9)}
    assert chains(edges, [match_of("P279|^P279", "Q1")])[9][1] == ("P279",)
    assert chains(edges - {(9, "P279", 1)}, [match_of("P279|^P279", "Q1")])[9][1] == ("^P279",)


def test_a_condition_beside_the_path_is_about_the_entity_that_the_chain_begins_with():
    edges = {(2, "P279", 1), (3, "P279", 2), (3, "P31", 5)}
    found = chains(edges, [match_of("P279+", "Q1", match_of("P31", "Q5"))])
    assert set(found) == {3}
