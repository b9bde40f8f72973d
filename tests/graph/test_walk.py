"""`explain`, in plain Python over records, says what the arrays say that build a graph."""

from __future__ import annotations

import tempfile
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
from tests.graph import worlds
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
    """What an explanation says, or why it is refused."""
    try:
        return explained(store, recipe, id)
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
