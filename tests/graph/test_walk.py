"""`explain`, in plain Python over records, says what the arrays say that build a graph."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from etl.store import EntityStore
from graph import walk
from graph.explain import explain
from graph.paths import parse
from graph.recipe import Recipe, load
from graph.records import Records
from tests.graph import walks, worlds
from tests.graph.oracle import as_text
from tests.graph.slow_explain import explain_slowly
from tests.graph.small_dump import entity, recipe_of, redirect, store_of
from tests.graph.worlds import ABSENT, ANIMAL, MADE_UP, PROPERTIES, World

OF = (*MADE_UP[:6], ANIMAL, *PROPERTIES, *ABSENT)
HAS = st.sampled_from(["P31", "P171", "P18", "P625", "P1672"]).map(lambda p: f'{{ has = "{p}" }}')


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2, of: tuple[str, ...] = OF) -> str:
    """Draw a condition with a path, in TOML; half of those that may have an `and` have one."""
    keys = [f'path = "{as_text(draw(worlds.path_trees()))}"']
    ends = draw(st.lists(st.sampled_from(of), min_size=1, max_size=3, unique=True))
    keys.append(f"of = {ends}")  # a Python list of plain texts is one of TOML
    if depth and draw(st.booleans()):
        inner = st.one_of(HAS, conditions(depth - 1))
        keys.append(f"and = [{', '.join(draw(st.lists(inner, min_size=1, max_size=2)))}]")
    return f"{{ {', '.join(keys)} }}"


@st.composite
def recipes(draw: st.DrawFn) -> str:
    """Draw a recipe of two roots, with rules of every kind."""
    lines = [
        f"labels = {draw(st.sampled_from([['en', 'mul', 'P225'], ['P1843', 'de', 'en-gb']]))}",
        f"min_sitelinks = {draw(st.integers(0, 3))}",
    ]
    for root in draw(st.permutations([*MADE_UP[:4], ANIMAL]))[:2]:
        lines += ["[[root]]", f'id = "{root}"']
        lines.append(f"any = [{', '.join(draw(st.lists(conditions(), min_size=1, max_size=3)))}]")
        minus = draw(st.lists(st.one_of(HAS, conditions()), max_size=2))
        lines.append(f"minus = [{', '.join(minus)}]")
        lines.append(draw(st.sampled_from(["", "", 'require = ["P18"]', "limit = 2"])))
    return "\n".join(lines)


def said(explained, store: Path, recipe: Recipe, id: str):
    """What an explanation says of an entity's roots, or why it is refused."""
    try:
        return replace(explained(store, recipe, id), derived=None)
    except UserError as error:
        return str(error)


def compare(store: Path, recipe: Recipe, world: World) -> None:
    for id in [*(line["id"] for line in world), *ABSENT]:
        found = said(explain, store, recipe, id)
        assert found == said(explain_slowly, store, recipe, id)
        if not isinstance(found, str):
            for verdict in found.verdicts:
                event(verdict.rule or "member")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.one_of(worlds.worlds(), worlds.recipe_worlds(), worlds.recipe_worlds()), recipes())
def test_any_recipe_is_explained_as_the_arrays_do(world: World, text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        compare(worlds.store(world, folder), load(recipe_of(folder, text)), world)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(worlds.merged_worlds(), recipes())
def test_so_it_is_where_ids_were_merged(drawn: tuple[World, worlds.Merged], text: str) -> None:
    world, merged = drawn
    if not world:
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        store = redirect(worlds.store(world, folder), merged)
        compare(store, load(recipe_of(folder, text)), world)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(worlds.recipe_worlds())
def test_shipped_recipes_are_explained_as_the_arrays_do(world: World) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = worlds.store(world, Path(directory))
        for name in ("reference", "entitynet"):
            compare(store, load(name), world)


class Statements:
    """Records of a few edges (subject, property, object), without a store."""

    def __init__(self, edges: walks.Edges) -> None:
        self._edges = edges

    def objects(self, id: str, property_id: str) -> list[str]:
        return [f"Q{o}" for s, p, o in self._edges if (f"Q{s}", p) == (id, property_id)]

    def subjects(self, id: str, property_id: str) -> list[str]:
        return [f"Q{s}" for s, p, o in self._edges if (p, f"Q{o}") == (property_id, id)]

    def find_subjects(self, ids: list[str], property_id: str) -> None:
        """There is nothing to look up."""


def written(found: walk.Walk) -> tuple[str, ...]:
    return tuple(f"^{p}" if inverse else p for p, inverse in found.steps)


DENSE = st.sets(st.tuples(walks.NODES, st.sampled_from(walks.NAMES), walks.NODES), min_size=8)
LONGEST = 4  # the brute force writes out every walk up to here


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(walks.EDGES, DENSE), walks.TREES, st.sets(walks.NODES, min_size=1, max_size=2))
def test_a_walk_is_the_best_that_brute_force_finds(edges, tree, ends):
    path, of = parse(walks.text_of(tree)), tuple(f"Q{end}" for end in ends)
    longest = LONGEST if len(edges) <= 10 else 2
    for start in range(1, 7):
        found = walk.Walks(Statements(edges), f"Q{start}").best(path, of)
        best = walks.best_walk(tree, edges, start, ends, longest)
        if best is None:
            assert found is None or len(found.steps) > longest
        else:
            assert found is not None
            assert (found.ids, written(found)) == (tuple(f"Q{n}" for n in best[0]), best[1])


@pytest.mark.parametrize(
    ("edges", "path", "ids", "steps"),
    [
        ("9 P279 2, 2 P31 1, 9 P31 3, 3 P31 1", "(P31|P279)+", "9 2 1", "P279 P31"),
        ("9 P279 1, 1 P279 9", "P279|^P279", "9 1", "P279"),
        ("9 P31 2, 9 P279 2, 2 P31 1", "(P279|P31)/P31", "9 2 1", "P31 P31"),
        # after P31 nothing leads on by P31, and the lower step alone would be a dead end
        ("9 P31 2, 9 P279 2, 2 P171 1", "(P31/P31)|(P279/P171)", "9 2 1", "P279 P171"),
        ("9 P31 2, 9 P279 2, 2 P31 1, 2 P171 1", "(P31/P171)|(P279/P31)", "9 2 1", "P31 P171"),
        ("9 P31 10, 10 P31 1, 9 P31 100, 100 P31 1", "P31+", "9 10 1", "P31 P31"),
    ],
)
def test_ids_come_before_properties_and_both_by_number(edges, path, ids, steps):
    statements = {(int(s), p, int(o)) for s, p, o in map(str.split, edges.split(", "))}
    found = walk.Walks(Statements(statements), "Q9").best(parse(path), ("Q1",))
    assert found is not None
    assert " ".join(id.removeprefix("Q") for id in found.ids) == ids
    assert " ".join(written(found)) == steps


def test_of_branches_with_the_same_chain_the_first_is_named(tmp_path):
    store = store_of(tmp_path, [entity("Q1"), entity("Q2", claims={"P279": ["Q1"]})])
    text = (
        'min_sitelinks = 0\n[[root]]\nid = "Q1"\nany = [{ path = "P31|P279+" }, { path = "P279*" }]'
    )
    (found,) = explain(store, load(recipe_of(tmp_path, text)), "Q2").verdicts
    assert (found.member, found.via) == (True, "1: P279+")
    text = text.replace('"P279*" }]', '"P279*" }, { path = "P279" }]').replace("P31|P279+", "P31")
    (found,) = explain(store, load(recipe_of(tmp_path, text)), "Q2").verdicts
    assert (found.member, found.via) == (True, "2: P279*")


# --------------------------------------------------------------------------------------------------
# What is hard on a walk
# --------------------------------------------------------------------------------------------------

MANY = 10_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A store of a class with very many superclasses, which all lead to Q1, and back to it."""
    classes = [f"Q{100 + n}" for n in range(MANY)]
    entities = [
        entity("Q1", claims={"P279": ["Q2"]}),
        entity("Q2", claims={"P279": classes}),
        *(entity(q, links=0, claims={"P279": ["Q1", "Q2"]}) for q in classes),
    ]
    return store_of(tmp_path_factory.mktemp("hub"), entities)


def best(store: Path, id: str, path: str, of: str) -> walk.Walk | None:
    with EntityStore(store) as opened:
        return walk.Walks(Records(opened), id).best(parse(path), (of,))


def test_a_hub_and_its_cycles_cost_a_step_an_edge(hub):
    assert best(hub, "Q2", "P279+", "Q2") == walk.Walk(
        ("Q2", "Q100", "Q2"), (("P279", False), ("P279", False))
    )
    assert best(hub, "Q1", "P279*", "Q3") is None
    found = best(hub, "Q1", "P279/P279/^P279/^P279", "Q1")
    assert found is not None
    assert found.ids == ("Q1", "Q2", "Q100", "Q2", "Q1")


def test_a_walk_beyond_all_bounds_is_refused(hub, monkeypatch):
    monkeypatch.setattr(walk, "MOST_STEPS", MANY)
    with pytest.raises(UserError, match="more than 10,000 steps: ask a built graph"):
        best(hub, "Q1", "P279*", "Q3")
    assert best(hub, "Q1", "P279*", "Q2") is not None  # nobody asks what is beyond
