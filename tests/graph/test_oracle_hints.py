"""What the reference asks besides its entities: natural types, attribute hints, hierarchies.

Each against the query in SPARQL (`tests/graph/oracle.py`), over random worlds and the sample.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, event, given, settings

from etl import sample
from etl.store import EntityStore
from graph import recipe as recipes
from graph.above import Nodes
from graph.build import build
from graph.natural_types import NaturalTypes
from graph.settings import Rules
from tests.graph import worlds
from tests.graph.oracle import (
    ANIMALS,
    NO_ANIMAL,
    NO_PLANT,
    PLANTS,
    Hint,
    QueryService,
    Type,
    emptied,
    number,
)
from tests.graph.plain import by_id
from tests.graph.worlds import ANIMAL, MADE_UP, PLANT, World, entity, qualified, statement

X, Y, Z = MADE_UP[:3]
Edge = tuple[str, str, str]  # child, property, parent
LIVING = {ANIMAL: (ANIMALS, NO_ANIMAL), PLANT: (PLANTS, NO_PLANT)}


def store_of(world: World, directory: Path) -> Path:
    return worlds.store(world, directory, worlds.KEPT_BY_DEFAULT)


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / f"{table}.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """The sample's items and properties, the newest revision of each, and a store of its dump."""
    folder = tmp_path_factory.mktemp("sample")
    dump = folder / "dump.json.gz"
    sample.write_dump(dump)
    store = worlds.ingested(dump, folder / "store", worlds.KEPT_BY_DEFAULT)
    return list(by_id(sample.entities()).values()), store


# --------------------------------------------------------------------------------------------------
# Natural types
# --------------------------------------------------------------------------------------------------


def candidates(
    store: Path, ids: Iterable[str], rules: Rules, roots: list[str]
) -> dict[str, list[Type]]:
    """Return what `graph` says that each entity may be, in its order."""
    with EntityStore(store) as entities:
        nodes = Nodes(entities, ["en"])
        types = NaturalTypes(nodes, roots, rules)
        return {
            id: [(found.id, found.name) for found in types.candidates(node, roots)]
            for id in ids
            if (node := nodes.get(id))
        }


def check_candidates(world: list[Any], store: Path) -> int:
    """Compare the candidates of all items, kept or not, with those of the queries.

    Returns the number of them that one item has at most.
    """
    service = QueryService(world)
    items = [line["id"] for line in world if line["type"] == "item"]
    asked = service.three_steps()
    assert candidates(store, items, "reference-world", []) == {
        id: asked.get(id, []) for id in items
    }
    for root in (ANIMAL, PLANT):
        within = service.within(root)
        living = candidates(store, items, "reference-living", [root])
        assert {id: set(types) for id, types in living.items()} == {
            id: within.get(id, set()) for id in items
        }
        assert all(len(set(types)) == len(types) for types in living.values())
    return max(map(len, asked.values()), default=0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(worlds.described_worlds())
def test_candidates_are_those_of_the_queries(world: World) -> None:
    with tempfile.TemporaryDirectory() as directory:
        most = check_candidates(world, store_of(world, Path(directory)))
    event(f"{min(most, 6)} candidates or more")


def test_candidates_of_the_sample_are_those_of_the_queries(sampled: tuple[list[Any], Path]) -> None:
    assert check_candidates(*sampled) > 1


def test_ten_candidates_are_kept_and_of_equals_the_lower_ids(tmp_path: Path) -> None:
    above = MADE_UP[1:]
    links = {id: 7 if n < 4 else 5 for n, id in enumerate(reversed(above))}
    world = World(
        [
            entity(X, [statement("P279", id) for id in above]),
            *(entity(id, labels={"en": id}, sitelinks=count) for id, count in links.items()),
        ]
    )
    expected = [*above[-4:], *above[:6]]
    assert len(above) == 13
    assert [id for id, _ in QueryService(world).three_steps()[X]] == expected
    found = candidates(store_of(world, tmp_path), [X], "reference-world", [])
    assert [id for id, _ in found[X]] == expected


def test_a_fourth_step_a_missing_label_and_the_four_upper_classes_give_no_candidate(
    tmp_path: Path,
) -> None:
    one, two, three, four = MADE_UP[1:5]
    world = World(
        [
            entity(X, [statement("P279", one), statement("P31", four)], labels={"en": "x"}),
            entity(one, [statement("P279", two)], labels={"mul": "one"}),
            entity(two, [statement("P279", "Q35120"), statement("P279", X)], labels={"en": "two"}),
            entity("Q35120", [statement("P279", four)], labels={"en": "entity"}, sitelinks=9),
            entity(four, labels={"en": "four"}, sitelinks=9),
            entity(three, labels={"en": "three"}),
        ]
    )
    # x itself: a circle leads to it in three steps, and the query doesn't leave it out
    assert QueryService(world).three_steps()[X] == [(X, "x"), (two, "two")]
    check_candidates(world, store_of(world, tmp_path))


def built(store: Path, recipe: recipes.Recipe, out: Path) -> Path:
    build(store, recipe, out, quiet=True)
    return out


def check_types(world: list[Any], out: Path) -> None:
    """Compare the natural types of the data set `reference` with what each might be."""
    service = QueryService(world)
    asked, within = service.three_steps(), {root: service.within(root) for root in LIVING}
    for row in rows(out, "entities"):
        chosen = row["natural_type"], row["natural_type_name"]
        if row["recipe"] == "reference-world":
            assert chosen in asked.get(row["id"], [(None, None)])
            continue
        found = {type for root in row["roots"] for type in within[root].get(row["id"], ())}
        assert chosen in found if found else chosen[0] == row["roots"][0]


# --------------------------------------------------------------------------------------------------
# Attribute hints
# --------------------------------------------------------------------------------------------------


def hints_of(out: Path) -> list[Hint]:
    """Return a data set's attributes as the hints that they stand for."""
    columns = ("entity", "property", "value_id", "value", "qualifier")
    return [tuple(row[column] for column in columns) for row in rows(out, "attributes")]  # type: ignore[misc]


def check_hints(world: list[Any], out: Path) -> list[Hint]:
    """Compare a data set's attributes with the hints of its entities, row for row."""
    kept = {row["id"] for row in rows(out, "entities")}
    asked = QueryService(world, statements=True).hints()
    expected = [hint for hint in asked if hint[0] in kept]
    found = hints_of(out)
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    owners = [number(hint[0]) for hint in found]
    assert owners == sorted(owners)
    labels = {line["id"]: dict(line.get("labels", {})).get("en", {}).get("value") for line in world}
    for row in rows(out, "attributes"):
        assert row["property_name"] == labels.get(row["property"])
        assert (row["inherited_from"], row["distance"], row["query"]) == (None, None, None)
        assert row["source"] == "wikidata"
    return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(worlds.described_worlds())
def test_attributes_of_the_reference_are_the_hints_of_its_queries(world: World) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        out = built(store_of(world, directory), recipes.load("reference"), directory / "graph")
        found = check_hints(world, out)
        check_types(world, out)
    event(f"{min(len(found), 10)} hints or more")
    event("with a qualifier" if any(hint[4] for hint in found) else "without")


def test_hints_and_types_of_the_sample_are_those_of_the_queries(
    sampled: tuple[list[Any], Path], tmp_path: Path
) -> None:
    world, store = sampled
    out = built(store, recipes.load("reference"), tmp_path / "graph")
    found = check_hints(world, out)
    check_types(world, out)
    assert any(hint[4] for hint in found)


def a_class(*claims: dict[str, Any]) -> dict[str, Any]:
    return entity(X, [statement("P279", ANIMAL), *claims], labels={"en": "x"}, sitelinks=5)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([statement("P366", Y)], [("P366", Y, None)]),
        ([statement("P366", Y, "deprecated")], [("P366", Y, None)]),
        ([statement("P462", Y, "deprecated")], []),
        ([statement("P366", Y), statement("P366", Z, "preferred")], [Y, Z]),
        ([statement("P462", Y), statement("P462", Z, "preferred")], [Z]),
        ([statement("P462", Y), worlds.none("P462", "preferred")], []),
        ([worlds.unknown("P366"), worlds.none("P366"), statement("P366", Y)], [Y]),
        ([statement("P462", Y), statement("P462", Y)], [Y]),
        ([qualified(statement("P366", Y), statement("P805", Z))], [("P366", Y, "z")]),
        ([qualified(statement("P366", Y), statement("P5102", Z))], [("P366", Y, None)]),
        ([qualified(statement("P366", Y), worlds.unknown("P805"))], [("P366", Y, None)]),
        ([qualified(statement("P366", Y), statement("P805", MADE_UP[5]))], [("P366", Y, None)]),
        (
            [qualified(statement("P366", Y), statement("P805", Z), statement("P805", Y))],
            [("P366", Y, "z"), ("P366", Y, "y")],
        ),
        (
            [statement("P366", Y), qualified(statement("P366", Y), statement("P805", Z))],
            [("P366", Y, None), ("P366", Y, "z")],
        ),
        ([statement("P462", MADE_UP[5])], []),  # without an English label
        ([statement("P462", worlds.ABSENT[0])], []),
        ([statement("P462", X)], [X]),
        ([statement("P1963", "P31")], [("P1963", "P31", None)]),
        ([statement("P2974", Y), statement("P1419", Y)], []),  # ours, not the reference's
    ],
)
def test_a_rule_of_the_hints_by_itself(
    claims: list[dict[str, Any]], expected: list[Any], tmp_path: Path
) -> None:
    others = [entity(Y, labels={"en": "y"}), entity(Z, labels={"en": "z"})]
    others += [entity(MADE_UP[5], labels={"mul": "w"}), entity("P31", labels={"en": "is a"})]
    world = World([a_class(*claims), entity(ANIMAL), *others])
    out = built(store_of(world, tmp_path), recipes.load("reference-world"), tmp_path / "graph")
    found = [
        (property_id, value, qualifier) if isinstance(expected[0], tuple) else value
        for _, property_id, value, _, qualifier in hints_of(out)
    ] if expected else hints_of(out)  # fmt: skip
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    check_hints(world, out)


# --------------------------------------------------------------------------------------------------
# Hierarchies
# --------------------------------------------------------------------------------------------------


def hierarchy_of(out: Path, root: str) -> set[Edge]:
    """Return from a data set's tables what the reference's hierarchy of a root has of them.

    `hierarchy.parquet` holds every edge on a chain from a kept entity to any root, along any step.
    The reference's rows are those of the children kept under this root whose parent leads to it:
    along P279 for a parent by P31 or P279, along P171 for one by P171.
    """
    edges = [(row["child"], row["property"], row["parent"]) for row in rows(out, "hierarchy")]
    within = {
        property_id: reaching(root, [(c, p) for c, by, p in edges if by == way])
        for property_id, way in (("P31", "P279"), ("P279", "P279"), ("P171", "P171"))
    }
    kept = {row["entity"] for row in rows(out, "memberships") if row["root"] == root}
    return {
        (child, by, parent)
        for child, by, parent in edges
        if child in kept and parent in within.get(by, ()) and parent.startswith("Q")
    }


def reaching(root: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Return a root and all from which pairs of (child, parent) lead to it."""
    below: dict[str, list[str]] = {}
    for child, parent in pairs:
        below.setdefault(parent, []).append(child)
    found, todo = {root}, [root]
    while todo:
        new = [id for id in below.get(todo.pop(), ()) if id not in found]
        found.update(new)
        todo += new
    return found


def without_filters(directory: Path) -> recipes.Recipe:
    """Load reference-living without its image and its limit, as the reference's hierarchies are."""
    text = (files("graph.recipes") / "reference-living.toml").read_text()
    file = directory / "all-living.toml"
    file.write_text(re.sub(r"(?m)^(require|limit) = .*\n", "", text))
    return recipes.load(file)


def check_hierarchies(world: list[Any], store: Path, directory: Path) -> int:
    """Compare both roots' hierarchies, of all members and of those kept; return their edges."""
    service = QueryService(world)
    expected = {root: service.hierarchy(root, minus) for root, (_, minus) in LIVING.items()}
    whole = built(store, without_filters(directory), directory / "whole")
    shipped = built(store, recipes.load("reference-living"), directory / "shipped")
    for root, edges in expected.items():
        assert hierarchy_of(whole, root) == edges
        kept = set(service.rows(LIVING[root][0], limit=28000))
        assert hierarchy_of(shipped, root) == {edge for edge in edges if edge[0] in kept}
    check_parents(shipped)
    return sum(map(len, expected.values()))


def check_parents(out: Path) -> None:
    """The column `parents` has the parents of all roots, and what a fruit is the produce of."""
    expected = {row["id"]: set(row["parents"]) for row in rows(out, "entities")}
    found: dict[str, set[str]] = {id: set() for id in expected}
    for root in LIVING:
        for child, _, parent in hierarchy_of(out, root):
            found[child].add(parent)
    for row in rows(out, "hierarchy"):
        if row["property"] in ("P1582", "^P1672") and row["child"] in found:
            found[row["child"]].add(row["parent"])
    assert {id: parents - {id} for id, parents in found.items()} == expected


@settings(max_examples=30, deadline=None, derandomize=True)
@given(worlds.recipe_worlds() | worlds.described_worlds())
def test_hierarchies_are_those_of_the_queries(world: World) -> None:
    assume(not emptied(QueryService(world)))  # a recipe that `minus` leaves nothing of is refused
    with tempfile.TemporaryDirectory() as directory:
        edges = check_hierarchies(world, store_of(world, Path(directory)), Path(directory))
    event(f"{min(edges, 10)} edges or more")


def test_hierarchies_of_the_sample_are_those_of_the_queries(
    sampled: tuple[list[Any], Path], tmp_path: Path
) -> None:
    assert check_hierarchies(*sampled, tmp_path) > 20
