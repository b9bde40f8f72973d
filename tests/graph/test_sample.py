"""What the bundled sample shows of each table: every rule has an item there that needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from etl.sample import entities
from etl.sample.table import Item, read_items
from graph.build import build
from graph.recipe import load
from tests.graph.small_dump import store_of

Row = dict[str, Any]
Rows = Callable[[str, str], list[Row]]

CATEGORIES = {
    "Color",
    "Pattern and texture",
    "Parts",
    "Behavior and movement",
    "Shape and size",
    "Environment",
    "Other",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Return a function that gives the rows of a recipe's table, both built from the sample."""
    folder = tmp_path_factory.mktemp("sample")
    store = store_of(folder, list(entities()))
    for name in ("entitynet", "reference"):
        build(store, load(name), folder / name, quiet=True)
    return cache(
        lambda recipe, table: pq.read_table(folder / recipe / f"{table}.parquet").to_pylist()
    )


@cache
def items() -> list[Item]:
    return read_items()


def id_of(label: str) -> str:
    """Return the id of the only item of the table with this English or default label."""
    (found,) = [
        item.id for item in items() if label in (item.labels.get("en"), item.labels.get("mul"))
    ]
    return found


def entity(rows: Rows, label: str, recipe: str = "entitynet") -> Row:
    (found,) = [row for row in rows(recipe, "entities") if row["id"] == id_of(label)]
    return found


def values(rows: Rows, label: str, property_id: str, recipe: str = "entitynet") -> list[str]:
    """Return the values of an entity's attributes of one property, in the table's order."""
    return [
        row["value"]
        for row in rows(recipe, "attributes")
        if row["entity"] == id_of(label) and row["property"] == property_id
    ]


def table_of_properties() -> dict[str, str]:
    """Return the first and the third column of `attributes.tsv`: property and hint."""
    path = Path(__file__).parents[2] / "graph" / "recipes" / "attributes.tsv"
    lines = path.read_text("utf-8").splitlines()
    cells = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return {row[0]: row[2] for row in cells}


# --- attributes ---------------------------------------------------------------------------------


def test_every_property_of_attributes_has_a_row(rows: Rows) -> None:
    ours = rows("entitynet", "attributes")
    assert {row["property"] for row in ours} == set(table_of_properties())
    assert {row["category"] for row in ours} == CATEGORIES
    hints = {id for id, hint in table_of_properties().items() if hint != "-"}
    assert {row["property"] for row in rows("reference", "attributes")} == hints


def test_a_breed_inherits_what_its_kind_has_and_it_has_not(rows: Rows) -> None:
    kind, breed = id_of("stilt goat"), id_of("long-haired stilt goat")
    from_whom = {
        (row["property"], row["inherited_from"], row["distance"])
        for row in rows("entitynet", "attributes")
        if row["entity"] == id_of("white long-haired stilt goat")
    }
    assert {("P527", kind, 2), ("P9566", breed, 1), ("P462", None, None)} <= from_whom
    assert not any(property_id in ("P1056", "P1034", "P1552") for property_id, *_ in from_whom)
    assert values(rows, "dwarf white stilt goat", "P527") == []  # three steps are too far
    assert values(rows, "dwarf white stilt goat", "P9566") == ["day-active"]
    assert values(rows, "island cliff wingfoot", "P9566") == ["night-active"]
    assert values(rows, "island cliff wingfoot", "P2974") == []


def test_parts_are_what_says_so_and_at_most_ten(rows: Rows) -> None:
    parts = values(rows, "ladder tide mill", "^P361")
    assert parts == ["tide gate", "tide bell", "ladder wheel", "salt floor"]  # by sitelinks
    assert values(rows, "ladder tide mill", "P527") == ["ladder wheel"]
    assert values(rows, "orchestra wagon", "^P361") == []  # deprecated
    ten = values(rows, "orchestra wagon", "P527")
    assert len(ten) == 10
    assert not {"narrow wall harp", "corner wall harp"} & set(ten)  # the least linked of twelve
    assert len(values(rows, "orchestra wagon", "P527", "reference")) == 12


def test_ranks_decide_and_values_without_a_name_are_none(rows: Rows) -> None:
    assert values(rows, "ember cloak", "P462") == ["ember red"]
    assert values(rows, "ember cloak", "P186") == ["bark silk"]
    assert values(rows, "dusk lantern flower", "P462") == ["yellow", "ember red"]
    own = [row for row in rows("entitynet", "attributes") if row["inherited_from"] is None]
    assert not [row for row in own if row["entity"] == id_of("cloak of unknown cloth")]
    uses = [
        (row["value"], row["qualifier"])
        for row in rows("reference", "attributes")
        if row["entity"] == id_of("cliff lamp walking") and row["property"] == "P2283"
    ]
    assert sorted(uses, key=str) == [
        ("paper lantern kit", "mostly"),
        ("rope of the sample", "mostly"),
        ("rope of the sample", "seldom"),
        ("snow auger", None),  # deprecated: the reference's query takes any rank
    ]
    assert "snow auger" not in values(rows, "cliff lamp walking", "P2283")


# --- natural types and visuality ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("taxon", "word"),
    [
        ("cliff wingfoot", "wingfoot"),  # past a family of few sitelinks and an order in Latin
        ("moon glider", "glider"),  # an order before the class
        ("desert wingfoot", "glider"),  # of two parents the one with the nearer word
        ("Circulonyx", "wingfoot"),  # on a cycle of P171
        ("dusk lantern flower", "dusk plants"),  # a Latin label, but a common name
        ("Solimyces cellae", "fungus"),  # nothing but the kingdom
        ("Alatopoda", "animal"),  # below a kingdom of which the sample knows no sitelinks: the root
    ],
)
def test_a_taxon_is_what_people_call_its_class_or_order(rows: Rows, taxon: str, word: str) -> None:
    assert entity(rows, taxon)["natural_type_name"] == word


@pytest.mark.parametrize(
    ("label", "visual", "why"),
    [
        ("toll token", True, "product"),
        ("toll right", False, "abstract entity"),
        ("price list on a board", True, "both 1 step up; it has an image"),
        ("price list by heart", False, "both 1 step up; it has no image"),
    ],
)
def test_the_nearest_class_decides_what_can_be_seen(
    rows: Rows, label: str, visual: bool, why: str
) -> None:
    row = entity(rows, label)
    assert (row["visual"], why in row["visual_reason"]) == (visual, True)


# --- queries ------------------------------------------------------------------------------------


def queries(rows: Rows, id: str) -> dict[str, Row]:
    return {row["query"]: row for row in rows("entitynet", "queries") if row["entity"] == id}


def test_names_that_two_share_are_told_apart_by_their_types(rows: Rows) -> None:
    beast, cart = [item.id for item in items() if item.labels.get("en") == "sailtail"]
    assert queries(rows, beast)["sailtail glider"]["ambiguous_with"] == [cart]
    assert queries(rows, cart)["sailtail sail wagon of the flats"]["ambiguous_with"] == [beast]
    alias = queries(rows, id_of("reed skimmer"))["dune fox sail wagon of the flats"]
    assert (alias["query_type"], alias["ambiguous_with"]) == ("alias", [id_of("dune fox")])
    bells = [item.id for item in items() if item.labels.get("en") == "twin bell"]
    for one, other in (bells, bells[::-1]):  # of one type: nothing tells them apart
        assert queries(rows, one)["twin bell musical instrument"]["ambiguous_with"] == [other]


def test_odd_names_stay_as_they_are(rows: Rows) -> None:
    lamp = entity(rows, "lamp; oil; and {wick}")
    assert lamp["aliases"] == ["wick;;;lamp", "{name} lamp", '100% "lamp";']
    asked = queries(rows, lamp["id"])
    assert {"wick;;;lamp", "{name} lamp", '100% "lamp";'} <= set(asked)
    assert "lamp; oil; and {wick} with refillable candle" in asked
    lute = queries(rows, id_of('"Old" {name} lute, {value}'))
    assert '"Old" {name} lute, {value} made of ember salt' in lute
    assert entity(rows, "Lampo portabla")["name_lang"] == "mul"
    boat = queries(rows, id_of("paper lamp boat"))
    assert "🏮 boat" in boat
    assert "🏮" not in boat  # nothing to search for


# --- what the other commands are for ------------------------------------------------------------


def test_eight_popular_items_wait_for_a_root(rows: Rows) -> None:
    root = id_of("moon festival")
    below = {root, id_of("harbour moon festival")}
    feasts = [
        item
        for item in items()
        if item.id == root or below & {claim.value.text for claim in item.claims}
    ]
    kept = {row["id"] for row in rows("entitynet", "entities")}
    assert len([item for item in feasts if item.id not in kept]) == 8
    assert all((item.sitelinks or 0) >= 10 for item in feasts)
    assert id_of("lamp run") in kept  # what would catch the others would catch it too


def test_the_hierarchy_has_a_ring_of_three_and_a_class_of_its_own_kind(rows: Rows) -> None:
    ring = [id_of(f"ring {name}") for name in ("braid", "plait", "twist")]
    edges = {
        (row["child"], row["parent"])
        for row in rows("entitynet", "hierarchy")
        if row["property"] == "P279"
    }
    assert set(zip(ring, [*ring[1:], ring[0]], strict=True)) <= edges
    (both,) = [item for item in items() if item.labels.get("en") == "spreader of both kinds"]
    assert {(c.property, c.value.text) for c in both.claims} == {
        ("P31", id_of("bark spreader")),
        ("P279", id_of("bark spreader")),
    }
