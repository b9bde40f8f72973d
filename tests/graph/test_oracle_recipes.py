"""The reference's recipes give the rows that its own SPARQL queries give."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from graph import recipe as recipes
from graph.build import build
from tests.graph import worlds
from tests.graph.oracle import (
    ANIMALS,
    PLANTS,
    WORLD,
    Chain,
    PathTree,
    QueryService,
    Row,
    best_chains,
    emptied,
    number,
    written,
)
from tests.graph.worlds import ANIMAL, MADE_UP, PLANT, World, entity, none, statement, unknown

# The rows of manual_entities.csv with include=1, in its order.
SUPER_CATEGORIES = (
    "Q729", "Q756", "Q34379", "Q41176", "Q42889", "Q2095", "Q14745", "Q11460", "Q747883",
    "Q10683158", "Q712378", "Q15324", "Q39546", "Q618123", "Q214609", "Q25257", "Q13226383",
    "Q811979", "Q4936952", "Q2424752", "Q11663",
)  # fmt: skip

# How a chain may lead to a root, by what the data set calls it: number of the condition, branch.
Branches = Mapping[str, PathTree]
SUBCLASSES: Branches = {"1: P279*": ("*", ("P279",))}
KINDS: Branches = {
    "1: P31/P279*": ("/", ("P31",), ("*", ("P279",))),
    "1: P279+": ("+", ("P279",)),
    "1: P171+": ("+", ("P171",)),
}
PRODUCE: Branches = {  # only for fruits
    "2: (P1582|^P1672)/((P31/P279*)|P279+|P171+)": (
        "/",
        ("|", ("P1582",), ("^", ("P1672",))),
        ("|", *KINDS.values()),
    )
}


@dataclass(frozen=True)
class Part:
    """What one of the reference's recipes should give, and how its chains may go."""

    rows: Mapping[str, Mapping[str, Row]]  # root -> entity -> row
    branches: Branches


def world_part(service: QueryService, limit: int | None = None) -> Part:
    rows = {root: service.rows(WORLD, root, limit) for root in SUPER_CATEGORIES}
    return Part(rows, SUBCLASSES)


def living_part(service: QueryService, limit: int | None = None) -> Part:
    most = limit or 28000
    rows = {ANIMAL: service.rows(ANIMALS, limit=most), PLANT: service.rows(PLANTS, limit=most)}
    return Part(rows, KINDS)


def with_limit(name: str, limit: int, directory: Path) -> recipes.Recipe:
    """Load a copy of a shipped recipe whose limit is another."""
    text = re.sub(r"(?m)^limit = .*\n", "", (files("graph.recipes") / f"{name}.toml").read_text())
    file = directory / f"{name}.toml"
    file.write_text(f"limit = {limit}\n{text}")
    return recipes.load(file)


def built(store: Path, recipe: recipes.Recipe, out: Path) -> tuple[list[Any], list[Any]]:
    """Build a data set; return the rows of entities and of memberships."""
    build(store, recipe, out, quiet=True)
    tables = (pq.read_table(out / f"{name}.parquet") for name in ("entities", "memberships"))
    entities, memberships = (table.to_pylist() for table in tables)
    return entities, memberships


def check(
    service: QueryService, parts: list[Part], entities: list[Any], members: list[Any]
) -> None:
    """Compare a data set with the rows that the queries of its parts give."""
    expected: dict[str, Row] = {}
    roots: dict[str, list[str]] = {}
    for part in parts:
        for root, rows in part.rows.items():
            expected |= rows
            for id in rows:
                roots.setdefault(id, [])
                roots[id] += [root] if root not in roots[id] else []
    assert [row["id"] for row in entities] == sorted(expected, key=number)
    for row in entities:
        assert as_row(row) == expected[row["id"]]
        assert row["name_lang"] == "en"
        assert row["roots"] == [root for root in SUPER_CATEGORIES if root in roots[row["id"]]]
    check_memberships(service, parts, members)
    depths = {(row["entity"], row["root"]): row["depth"] for row in members}
    for row in entities:
        assert row["depths"] == [depths[row["id"], root] for root in row["roots"]]


def as_row(row: Any) -> Row:
    """Read a row of entities.parquet; a list must not hold a value twice."""
    lists = {}
    for column in ("aliases", "common_names", "taxon_names", "images"):
        lists[column] = frozenset(row[column])
        assert len(lists[column]) == len(row[column]), (column, row[column])
    return Row(
        label=row["name"], description=row["description"], sitelinks=row["sitelinks"], **lists
    )


def check_memberships(service: QueryService, parts: list[Part], members: list[Any]) -> None:
    """Compare who belongs where, and by which chain, with the least chain of all."""
    edges = service.edges()
    fruits = {x for p in ("P31", "P279") for x, y in edges.get(p, ()) if y in worlds.FRUITS}
    wanted: dict[tuple[str, str], tuple[Chain, str]] = {}
    for part in parts:
        chains = {
            via: best_chains(tree, edges, SUPER_CATEGORIES)
            for via, tree in {**part.branches, **PRODUCE}.items()
        }
        for root, rows in part.rows.items():
            for id in rows:
                produce = PRODUCE if root == PLANT and id in fruits else {}
                ways = [via for via in (*part.branches, *produce) if (id, root) in chains[via]]
                # of branches that the very same chain matches, the first
                via = min(ways, key=lambda way: chains[way][id, root])
                best = chains[via][id, root]
                # of parts, the one with the shorter chain, then the first
                if (id, root) not in wanted or best[0] < wanted[id, root][0][0]:
                    wanted[id, root] = best, via
    order = sorted(wanted, key=lambda pair: (number(pair[0]), number(pair[1])))
    assert members == [
        {"root": root, "entity": id, "depth": best[0], "via": via, "path": written(best)}
        for id, root in order
        for best, via in [wanted[id, root]]
    ]


def compare(world: World, name: str, limit: int | None, parts: list[Part]) -> None:
    """Build one of the reference's recipes, whole or with another limit, and check its rows."""
    service = QueryService(world)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        store, out = worlds.store(world, directory), directory / "graph"
        recipe = recipes.load(name) if limit is None else with_limit(name, limit, directory)
        if name != "reference-world" and emptied(service):
            event("minus empties a root")
            with pytest.raises(UserError, match="takes away everything under root"):
                build(store, recipe, out, quiet=True)
            assert not out.exists()
        else:
            entities, memberships = built(store, recipe, out)
            event(f"{min(len(entities), 3)} entities or more")
            check(service, parts, entities, memberships)


LIMITS = st.none() | st.integers(1, 3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds.recipe_worlds(), LIMITS)
def test_the_world_recipe_gives_the_rows_of_its_query(world: World, limit: int | None) -> None:
    compare(world, "reference-world", limit, [world_part(QueryService(world), limit)])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(worlds.recipe_worlds(), LIMITS)
def test_the_living_recipe_gives_the_rows_of_its_queries(world: World, limit: int | None) -> None:
    compare(world, "reference-living", limit, [living_part(QueryService(world), limit)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds.recipe_worlds())
def test_both_recipes_united_give_the_rows_of_all_queries(world: World) -> None:
    service = QueryService(world)
    compare(world, "reference", None, [world_part(service), living_part(service)])


# --------------------------------------------------------------------------------------------------
# Rule by rule: the query and the recipe are right, and not merely of one mind
# --------------------------------------------------------------------------------------------------

X, Y, Z = MADE_UP[:3]
PICTURE = statement("P18", "X.jpg")
AN_ANIMAL, A_PLANT = statement("P171", ANIMAL), statement("P171", PLANT)
A_FRUIT = statement("P31", "Q1364")
PLACE = statement("P625", worlds.PLACE)


def example_of(
    *claims: dict[str, Any], labels: str = "en", sitelinks: int = 0, others: tuple[Any, ...] = ()
) -> World:
    """Make a world of the two roots, an item X and others."""
    named = dict.fromkeys(labels.split(), "x")
    item = entity(X, claims, labels=named, sitelinks=sitelinks)
    return World([entity(ANIMAL), entity(PLANT), item, *others])


LIVING_EXAMPLES = {
    # each with the roots that X belongs to
    "a taxon": (example_of(AN_ANIMAL, PICTURE), ["Q729"]),
    "of both": (example_of(AN_ANIMAL, A_PLANT, PICTURE), ["Q729", "Q756"]),
    "an instance": (example_of(statement("P31", ANIMAL), PICTURE), ["Q729"]),
    "a class": (example_of(statement("P279", PLANT), PICTURE), ["Q756"]),
    "an instance of an instance": (
        example_of(statement("P31", Y), PICTURE, others=(entity(Y, [statement("P31", ANIMAL)]),)),
        [],
    ),
    "a class of a taxon": (
        example_of(statement("P279", Y), PICTURE, others=(entity(Y, [AN_ANIMAL]),)),
        [],
    ),
    "no picture": (example_of(AN_ANIMAL), []),
    "an unknown picture": (example_of(AN_ANIMAL, unknown("P18")), ["Q729"]),
    "certainly no picture": (example_of(AN_ANIMAL, none("P18")), []),
    "a picture that was wrong": (
        example_of(AN_ANIMAL, statement("P18", "X.jpg", "deprecated")),
        [],
    ),
    "a label for all languages": (example_of(AN_ANIMAL, PICTURE, labels="mul"), []),
    "a British label": (example_of(AN_ANIMAL, PICTURE, labels="en-gb"), []),
    "a human": (example_of(AN_ANIMAL, PICTURE, statement("P31", "Q5")), []),
    "a human, once thought": (
        example_of(AN_ANIMAL, PICTURE, statement("P31", "Q5", "deprecated")),
        ["Q729"],
    ),
    "a kind of mythical animal": (
        example_of(
            AN_ANIMAL,
            PICTURE,
            statement("P31", Y),
            others=(entity(Y, [statement("P279", "Q24334299")]),),
        ),
        [],
    ),
    "a mythical animal's taxon": (
        example_of(AN_ANIMAL, PICTURE, statement("P171", "Q24334299")),
        ["Q729"],
    ),
    "an individual": (example_of(A_PLANT, PICTURE, statement("P31", "Q795052")), []),
    "a cultivar": (example_of(A_PLANT, PICTURE, statement("P31", "Q4886")), []),
    "an animal cultivar": (example_of(AN_ANIMAL, PICTURE, statement("P31", "Q4886")), ["Q729"]),
    "a plant somewhere": (example_of(A_PLANT, PICTURE, PLACE), []),
    "a plant nobody knows where": (example_of(A_PLANT, PICTURE, unknown("P625")), []),
    "a plant nowhere": (example_of(A_PLANT, PICTURE, none("P625")), ["Q756"]),
    "an animal somewhere": (example_of(AN_ANIMAL, PICTURE, PLACE), ["Q729"]),
    "a fruit": (
        example_of(A_FRUIT, statement("P1582", Y), PICTURE, others=(entity(Y, [A_PLANT]),)),
        ["Q756"],
    ),
    "a fruit, as the plant says": (
        example_of(A_FRUIT, PICTURE, others=(entity(Y, [A_PLANT, statement("P1672", X)]),)),
        ["Q756"],
    ),
    "a class of fruit": (
        example_of(
            statement("P279", "Q3314483"),
            statement("P1582", Y),
            PICTURE,
            others=(entity(Y, [A_PLANT]),),
        ),
        ["Q756"],
    ),
    "a class of a class of fruit": (
        example_of(
            statement("P279", Z),
            statement("P1582", Y),
            PICTURE,
            others=(entity(Y, [A_PLANT]), entity(Z, [statement("P279", "Q1364")])),
        ),
        [],
    ),
    "produce that is no fruit": (
        example_of(statement("P1582", Y), PICTURE, others=(entity(Y, [A_PLANT]),)),
        [],
    ),
    "the fruit of the root itself": (
        example_of(A_FRUIT, statement("P1582", PLANT), PICTURE),
        [],
    ),
    "the fruit of an animal": (
        example_of(A_FRUIT, statement("P1582", Y), PICTURE, others=(entity(Y, [AN_ANIMAL]),)),
        [],
    ),
}

WORLD_EXAMPLES = {
    "a class": (example_of(statement("P279", ANIMAL), sitelinks=5), ["Q729"]),
    "too few sitelinks": (example_of(statement("P279", ANIMAL), sitelinks=4), []),
    "an instance": (example_of(statement("P31", ANIMAL), sitelinks=5), []),
    "a taxon": (example_of(AN_ANIMAL, sitelinks=5), []),
    "no English label": (example_of(statement("P279", ANIMAL), sitelinks=5, labels="mul"), []),
    "a human": (
        example_of(statement("P279", ANIMAL), statement("P31", "Q5"), sitelinks=5),
        ["Q729"],
    ),
    "by way of an item without a record": (
        example_of(statement("P279", worlds.ABSENT[0]), sitelinks=5),
        [],
    ),
    "under a root without a record": (
        example_of(statement("P279", "Q2095"), sitelinks=5),
        ["Q2095"],
    ),
    "in a circle": (
        example_of(
            statement("P279", Y),
            sitelinks=5,
            others=(entity(Y, [statement("P279", X), statement("P279", PLANT)]),),
        ),
        ["Q756"],
    ),
}

ONE_OF_EACH = [
    *(("reference-living", *example, name) for name, example in LIVING_EXAMPLES.items()),
    *(("reference-world", *example, name) for name, example in WORLD_EXAMPLES.items()),
]


@pytest.mark.parametrize(
    ("recipe", "world", "roots"),
    [pytest.param(*case[:3], id=f"{case[0]}: {case[3]}") for case in ONE_OF_EACH],
)
def test_a_rule_by_itself(recipe: str, world: World, roots: list[str], tmp_path: Path) -> None:
    # Something must be left under every root, or the recipe is refused.
    left = [
        entity(id, [statement("P171", root), PICTURE], labels={"en": "left"})
        for id, root in zip(worlds.MADE_UP[-2:], (ANIMAL, PLANT), strict=True)
    ]
    world = World([*world, *left])
    service = QueryService(world)
    part = living_part(service) if recipe == "reference-living" else world_part(service)
    assert [root for root in SUPER_CATEGORIES if X in part.rows.get(root, {})] == roots
    data_set = built(worlds.store(world, tmp_path), recipes.load(recipe), tmp_path / "graph")
    assert [row["root"] for row in data_set[1] if row["entity"] == X] == roots
    check(service, [part], *data_set)


def test_a_root_belongs_to_the_world_and_not_to_the_living(tmp_path: Path) -> None:
    world = World([entity(ANIMAL, [PICTURE], labels={"en": "animal"}, sitelinks=9)])
    service = QueryService(world)
    assert list(world_part(service).rows[ANIMAL]) == [ANIMAL]
    assert list(living_part(service).rows[ANIMAL]) == []
    store = worlds.store(world, tmp_path)
    data_set = built(store, recipes.load("reference"), tmp_path / "graph")
    check(service, [world_part(service), living_part(service)], *data_set)


def test_the_limit_keeps_the_most_linked_and_of_equals_the_lowest_ids(tmp_path: Path) -> None:
    links = {X: 6, Y: 8, Z: 6, MADE_UP[9]: 6, "Q9": 6}
    world = World(
        entity(id, [statement("P279", ANIMAL)], labels={"en": id}, sitelinks=count)
        for id, count in links.items()
    )
    world.append(entity(ANIMAL))
    service = QueryService(world)
    assert set(service.rows(WORLD, ANIMAL, 3)) == {Y, "Q9", X}
    recipe = with_limit("reference-world", 3, tmp_path)
    check(
        service,
        [world_part(service, 3)],
        *built(worlds.store(world, tmp_path), recipe, tmp_path / "graph"),
    )
