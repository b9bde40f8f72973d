"""Natural types: which class is chosen, and that the reason is true of the dump's statements.

`expected_type` tells it a second time, from the lines of the dump and docs/types.md alone.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from math import log2
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from etl.store import EntityStore
from graph.above import Nodes
from graph.build import build
from graph.natural_types import NaturalType, NaturalTypes
from graph.recipe import load
from graph.settings import Rules
from tests.graph.plain import Line, links, name, values
from tests.graph.small_dump import entity, ranked, recipe_of, redirect, store_of

LABELS = ("en", "P225")
TOO_GENERAL = ("Q223557", "Q488383", "Q35120", "Q4406616")
CLASS, ORDER, KINGDOM = "Q37517", "Q36602", "Q36732"  # ranks, as P105 names them


def types_of(
    store: Path,
    ids: Sequence[str],
    roots: Sequence[str] = (),
    rules: Rules = "sparqless",
) -> dict[str, NaturalType | None]:
    with EntityStore(store) as entities:
        nodes = Nodes(entities, LABELS)
        types = NaturalTypes(nodes, roots, rules)
        return {id: types.of(node, roots) for id in ids if (node := nodes.get(id))}


def type_of(
    folder: Path, entities: list[Line], roots: Sequence[str] = (), rules: Rules = "sparqless"
) -> NaturalType | None:
    """Return the natural type of the first of some entities."""
    id = entities[0]["id"]
    return types_of(store_of(folder, entities), [id], roots, rules)[id]


def chosen(folder: Path, entities: list[Line], roots: Sequence[str] = ()) -> str | None:
    found = type_of(folder, entities, roots)
    return found.id if found else None


# --------------------------------------------------------------------------------------------------
# A second opinion
# --------------------------------------------------------------------------------------------------


def distances(world: dict[str, Line], first: Sequence[str], property_id: str) -> dict[str, int]:
    """Return the least number of steps to everything above, the ids in `first` being one away."""
    found: dict[str, int] = {}
    layer, steps = set(first), 1
    while layer - found.keys():
        found |= dict.fromkeys(layer - found.keys(), steps)
        layer = {up for id in layer if id in world for up in values(world[id], property_id)}
        steps += 1
    return found


def expected_type(world: dict[str, Line], id: str, roots: Sequence[str]) -> tuple[str, str] | None:
    """Return id of the natural type and the beginning of its reason."""
    line = world[id]
    words: list[tuple[int, int, str]] = []
    best: list[tuple[int, int, str]] = []
    for above, steps in distances(world, values(line, "P171"), "P171").items():
        if above == id or above not in world or links(world[above]) < 40:
            continue
        latin = values(world[above], "P225")
        common = [text for text in values(world[above], "P1843") if text["language"] == "en"]
        if name(world[above], LABELS) in {*latin, None} and not common:
            continue
        words.append((steps, int(above[1:]), above))
        if {CLASS, ORDER} & {*values(world[above], "P105")}:
            best.append(words[-1])
    if words:
        steps, _, above = min(best or words)
        kind = "class or order" if best else "the nearest, no class or order, with a word"
        return above, f"P171 in {counted(steps)}: {kind}, {links(world[above])} sitelinks"
    way = "P279" if values(line, "P279") else "P31"
    first = [above for above in values(line, way) if way == "P279" or above != "Q16521"]
    scores: list[tuple[float, int, str, int]] = []
    candidates = []
    for above, steps in distances(world, first, "P279").items():
        left_out = {*TOO_GENERAL, "Q16521", id}
        if above in world and id in distances(world, values(world[above], "P279"), "P279"):
            continue  # below it as well
        if steps <= 3 and above in world and above not in left_out and name(world[above], LABELS):
            candidates.append((-links(world[above]), int(above[1:]), above, steps))
    for _, number, above, steps in sorted(candidates)[:10]:
        upward = distances(world, values(world[above], "P279"), "P279")
        to_top = min([3, *(upward[top] for top in TOO_GENERAL if top in upward)])
        inside = above in roots or not upward.keys().isdisjoint(roots)
        score = log2(1 + links(world[above])) - 1.5 * (steps - 1) - 1.5 * (3 - to_top) + 2 * inside
        scores.append((-score, number, above, steps))
    if not scores:
        known = [root for root in roots if root != id and root in world]
        named = [root for root in known if name(world[root], LABELS)]
        return (named[0], "its root") if named else None
    _, _, above, steps = min(scores)
    return above, f"{way} in {counted(steps)}: {links(world[above])} sitelinks"


def counted(steps: int) -> str:
    return f"{steps} step" if steps == 1 else f"{steps} steps"


_IDS = [f"Q{n}" for n in range(1, 12)]
_SPECIAL = ["Q35120", "Q16521"]
# sitelinks whose score is a whole number or a half, so that there are ties
_LINKS = [0, 3, 7, 31, 63, 63]


@st.composite
def worlds_above(draw: st.DrawFn) -> dict[str, Line]:
    """Draw entities that stand above each other along P31, P279 and P171, circles and all."""
    ids = [*_IDS[: draw(st.integers(3, 11))], *_SPECIAL]
    one = st.sampled_from([*ids, "Q404"])
    ways = st.sampled_from(["P279", "P279", "P31", "P171"])
    edges = draw(st.lists(st.tuples(st.sampled_from(ids), ways, one), min_size=8, max_size=30))
    world = {}
    for id in ids:
        claims: dict[str, list[Any]] = {"P105": [draw(st.sampled_from([CLASS, ORDER, KINGDOM]))]}
        for subject, way, value in edges:
            if subject == id:
                rank = draw(st.sampled_from(["normal"] * 8 + ["preferred", "deprecated"]))
                claims.setdefault(way, []).append(ranked(value, rank))
        label: str | None = f"the {id}"
        match draw(st.sampled_from(["word"] * 3 + ["Latin", "Latin with a word", "none"])):
            case "Latin":
                claims["P225"] = [label]
            case "Latin with a word":
                claims |= {"P225": [label], "P1843": [("word", "en"), ("Wort", "de")]}
            case "none":
                label, claims["P1843"] = None, [("Wort", "de")]
        world[id] = entity(id, label=label, links=draw(st.sampled_from(_LINKS)), claims=claims)
    return world


@settings(max_examples=50, deadline=None, derandomize=True)
@given(worlds_above(), st.lists(st.sampled_from(_IDS), max_size=2))
def test_the_type_and_its_reason_are_what_the_statements_give(
    world: dict[str, Line], roots: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = types_of(store_of(Path(folder), [*world.values()]), [*world], roots)
    for id in world:
        expected, type = expected_type(world, id, roots), found[id]
        if expected is None:
            assert type is None
            continue
        assert type is not None
        assert (type.id, type.reason[: len(expected[1])]) == expected
        assert ("in a root of the recipe" in type.reason) <= bool(roots)
        event("a taxon's" if "P171" in type.reason else "a class's")


# --------------------------------------------------------------------------------------------------
# Rule by rule
# --------------------------------------------------------------------------------------------------


def above(id: str, *classes: str, links: int = 50, **more: Any) -> Line:
    """Make a class below others."""
    return entity(id, links=links, claims={"P279": [*classes]}, **more)


def test_a_class_far_above_must_be_much_better_known(tmp_path: Path) -> None:
    dog = above("Q1", "Q2")
    near, far = above("Q2", "Q3", links=15), above("Q3", links=31)
    assert chosen(tmp_path / "one", [dog, near, far]) == "Q2"  # 4 against 5 - 1.5
    far = above("Q3", links=63)
    assert chosen(tmp_path / "two", [dog, near, far]) == "Q3"  # 4 against 6 - 1.5


def test_of_equals_the_lower_number_is_chosen(tmp_path: Path) -> None:
    entities = [above("Q1", "Q10", "Q9", "Q20"), above("Q20"), above("Q10"), above("Q9")]
    assert chosen(tmp_path, entities) == "Q9"


def test_a_class_near_the_top_is_too_general_to_win(tmp_path: Path) -> None:
    dog = above("Q1", "Q2", "Q3")
    general, other = above("Q2", "Q35120", links=40), above("Q3", links=20)
    found = type_of(tmp_path, [dog, general, other, above("Q35120", links=200)])
    assert found is not None
    assert found.id == "Q3"
    assert [(c.id, c.above) for c in found.candidates] == [("Q3", 3), ("Q2", 1)]


@pytest.mark.parametrize("general", TOO_GENERAL)
def test_a_class_that_is_too_general_is_never_a_type(general: str, tmp_path: Path) -> None:
    assert chosen(tmp_path, [above("Q1", general), above(general, links=300)]) is None


@pytest.mark.parametrize("modelling", ["Q16521", "Q55983715", "Q713623", "Q310890", "Q502895"])
def test_how_taxa_are_modelled_is_never_a_type(modelling: str, tmp_path: Path) -> None:
    dog = entity("Q1", claims={"P31": [modelling, "Q2"]})
    assert chosen(tmp_path, [dog, above(modelling, links=300), above("Q2", links=1)]) == "Q2"


def test_a_class_inside_a_root_is_preferred(tmp_path: Path) -> None:
    entities = [above("Q1", "Q2", "Q3"), above("Q2", links=60), above("Q3", "Q4", links=20)]
    entities.append(above("Q4", links=1))
    assert chosen(tmp_path / "without", entities) == "Q2"
    assert chosen(tmp_path / "with", entities, ["Q4"]) == "Q3"


def test_what_is_no_class_begins_at_what_it_is_an_instance_of(tmp_path: Path) -> None:
    classes = [above("Q2", links=9), above("Q3", links=99)]
    rex = entity("Q1", claims={"P31": ["Q2"]})
    found = type_of(tmp_path / "one", [rex, *classes])
    assert found is not None
    assert found.reason.startswith("P31 in 1 step: 9 sitelinks;")
    # what a class is an instance of says how it is modelled
    breed = entity("Q1", claims={"P31": ["Q3"], "P279": ["Q2"]})
    assert chosen(tmp_path / "two", [breed, *classes]) == "Q2"


def test_a_circle_makes_nothing_a_kind_of_itself_or_of_what_is_below_it(tmp_path: Path) -> None:
    assert chosen(tmp_path / "alone", [above("Q1", "Q1")]) is None
    circle = [above("Q1", "Q1", "Q2"), above("Q2", "Q3", links=90), above("Q3", "Q1", links=90)]
    assert chosen(tmp_path / "circle", circle) is None
    circle[1] = above("Q2", "Q3", "Q4", links=90)
    assert chosen(tmp_path / "out of it", [*circle, above("Q4", links=1)]) == "Q4"


def test_neither_a_property_nor_what_has_no_name_or_record_is_a_type(tmp_path: Path) -> None:
    entities = [above("Q1", "P31", "Q2", "Q404"), entity("P31"), above("Q2", label=None)]
    assert chosen(tmp_path, entities) is None


def test_a_class_that_was_merged_into_another_is_that_one(tmp_path: Path) -> None:
    store = store_of(tmp_path, [above("Q1", "Q8"), above("Q2")])
    found = types_of(redirect(store, {"Q8": "Q2"}), ["Q1"])["Q1"]
    assert found is not None
    assert found.id == "Q2"


def taxon(
    id: str, *parents: str, word: bool = True, rank: str | None = None, links: int = 50
) -> Line:
    """Make a taxon; one without a word is called by its scientific name."""
    claims: dict[str, list[Any]] = {"P171": [*parents], "P225": ["Latina" if word else f"the {id}"]}
    if rank:
        claims["P105"] = [rank]
    return entity(id, links=links, claims=claims)


LION = taxon("Q1", "Q2", word=False)


@pytest.mark.parametrize(
    ("ancestors", "expected"),
    [
        # the nearest class or order with a word
        ([taxon("Q2", "Q3"), taxon("Q3", "Q4", rank=ORDER), taxon("Q4", rank=CLASS)], "Q3"),
        # one that goes by its Latin name alone is skipped, and one that few write about
        ([taxon("Q2", "Q3", word=False, rank=ORDER), taxon("Q3", rank=CLASS)], "Q3"),
        ([taxon("Q2", "Q3", rank=ORDER, links=39), taxon("Q3", rank=CLASS, links=40)], "Q3"),
        # without class and order: the nearest with a word, in the end the kingdom
        ([taxon("Q2", "Q3", word=False), taxon("Q3", "Q4"), taxon("Q4", rank=KINGDOM)], "Q3"),
        ([taxon("Q2", "Q3", word=False, rank=ORDER), taxon("Q3", rank=KINGDOM)], "Q3"),
        # two parents: the nearer class, of equally near ones the lower number
        ([taxon("Q2", "Q9", "Q7"), taxon("Q9", rank=CLASS), taxon("Q7", rank=CLASS)], "Q7"),
        # circles end
        ([taxon("Q2", "Q3", word=False), taxon("Q3", "Q2", "Q1", word=False)], None),
        ([taxon("Q2", "Q2", "Q1", "Q3", word=False), taxon("Q3", rank=CLASS)], "Q3"),
        # all Latin, or nothing of it in the store
        ([taxon("Q2", word=False, rank=CLASS)], None),
        ([], None),
    ],
)
def test_a_taxon_is_of_the_nearest_class_or_order_that_people_have_a_word_for(
    ancestors: list[Line], expected: str | None, tmp_path: Path
) -> None:
    assert chosen(tmp_path, [LION, *ancestors]) == expected


@pytest.mark.parametrize(
    "rank",
    ["Q37517", "Q3504061", "Q5867051", "Q2007442", "Q36602", "Q5868144", "Q5867959", "Q2889003"],
)
def test_super_sub_and_infra_ranks_count_as_class_and_order(rank: str, tmp_path: Path) -> None:
    entities = [LION, taxon("Q2", "Q3"), taxon("Q3", rank=rank)]
    assert chosen(tmp_path, entities) == "Q3"


def test_a_common_name_is_a_word_where_the_label_is_latin(tmp_path: Path) -> None:
    claims = {"P171": ["Q3"], "P105": [ORDER], "P225": ["Carnivora"]}
    order = entity(
        "Q2", label="Carnivora", links=40, claims={**claims, "P1843": [("carnivoran", "en")]}
    )
    found = type_of(tmp_path, [LION, order, taxon("Q3", rank=CLASS)])
    assert found is not None
    assert (found.id, found.name) == ("Q2", "carnivoran")
    assert found.reason == "P171 in 1 step: class or order, 40 sitelinks"


def test_a_taxon_whose_ancestors_have_no_word_is_what_it_is_an_instance_of(tmp_path: Path) -> None:
    breed = entity("Q1", claims={"P171": ["Q2"], "P31": ["Q5"]})
    assert chosen(tmp_path, [breed, taxon("Q2", word=False), above("Q5")]) == "Q5"


# --------------------------------------------------------------------------------------------------
# The reference's rules, and what a table shows
# --------------------------------------------------------------------------------------------------


def test_of_the_living_by_the_reference_the_root_is_the_last_resort(tmp_path: Path) -> None:
    entities = [LION, above("Q2", "Q3"), entity("Q3", label="animal")]
    found = type_of(tmp_path, entities, ["Q3"], "reference-living")
    assert found is not None
    assert (found.id, found.name) == ("Q3", "animal")
    assert found.reason == "no class within the root: the root"


@pytest.mark.parametrize(("way", "other"), [("P31", "P279"), ("P279", "P31")])
def test_of_the_living_by_the_reference_the_reason_names_the_statement(
    way: str, other: str, tmp_path: Path
) -> None:
    entities = [
        entity("Q1", claims={way: ["Q2"], other: ["Q5"]}),
        above("Q2", "Q3"),
        above("Q3", links=0),
        above("Q5"),
    ]
    found = type_of(tmp_path, entities, ["Q3"], "reference-living")
    assert found is not None
    assert found.id == "Q2"
    assert found.reason.startswith(f"{way} in 1 step: 50 sitelinks")


RECIPE = '[[root]]\nid = "Q1"\nany = [{ path = "P31?/P279*" }]\n'


@pytest.mark.parametrize("rules", ["sparqless", "reference-world", "reference-living"])
def test_reference_bug_5_an_entity_without_superclasses_has_no_type_and_stops_nothing(
    rules: str, tmp_path: Path
) -> None:
    entities = [entity("Q1", label="root", links=3), above("Q2", "Q1", label="sort")]
    store = store_of(tmp_path, entities)
    recipe = load(recipe_of(tmp_path, f'rules = "{rules}"\n{RECIPE}'))
    build(store, recipe, tmp_path / "out", quiet=True)
    root, sort = pq.read_table(tmp_path / "out" / "entities.parquet").to_pylist()
    columns = ("natural_type", "natural_type_name", "natural_type_reason")
    if rules == "reference-living":  # whose last resort is the root, for the root as well
        assert [root[c] for c in columns] == ["Q1", "root", "no class within the root: the root"]
    else:
        assert [root[c] for c in columns] == [None, None, None]
    assert (sort["natural_type"], sort["natural_type_name"]) == ("Q1", "root")


def test_the_reason_names_figures_that_add_up(tmp_path: Path) -> None:
    entities = [above("Q1", "Q2", links=1), above("Q2", "Q3", links=31), above("Q3", "Q35120")]
    found = type_of(tmp_path, [*entities, above("Q35120")], ["Q3"])
    assert found is not None
    assert found.reason == (
        "P279 in 1 step: 31 sitelinks, in a root of the recipe, 2 steps below the top; "
        "score 5.50, best of 2"
    )
    score = re.search(r"score ([\d.]+)", found.reason)
    assert score is not None
    assert float(score[1]) == log2(1 + 31) - 1.5 * (3 - 2) + 2
