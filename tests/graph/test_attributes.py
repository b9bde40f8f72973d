"""Attributes: whose statements they come from, what is inherited, and the table that says so.

`expected_rows` tells them a second time, from the lines of the dump and the table alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings

from etl import sample
from etl.errors import UserError
from graph import recipe as recipes
from graph.attributes import CATEGORIES, fill, read_rules
from graph.build import build
from tests.graph import worlds
from tests.graph.oracle import DIRECT_HINTS, QUALIFIED_HINTS
from tests.graph.plain import Line, best, by_id, is_known, links, name, number, value, values
from tests.graph.small_dump import entity, ranked, recipe_of, redirect, store_of
from tests.graph.worlds import World

LABELS = recipes.DEFAULT_LABELS
TOO_GENERAL = ("Q223557", "Q488383", "Q35120", "Q4406616")

# entity, property, value, its name, qualifier's name, ancestor, distance
Row = tuple[str, str, str, str, str | None, str | None, int | None]
COLUMNS = ("entity", "property", "value_id", "value", "qualifier", "inherited_from", "distance")


def table() -> dict[str, list[str]]:
    """Return property -> category, hint, inherit, phrase, reason, as the file has them."""
    text = (files("graph.recipes") / "attributes.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines() if line and line[0] != "#"]
    return {cells[0]: cells[1:] for cells in lines}


def rows(out: Path, table: str = "attributes") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / f"{table}.parquet").to_pylist()
    return found


def shown(out: Path) -> list[Row]:
    return [tuple(row[column] for column in COLUMNS) for row in rows(out)]


# --------------------------------------------------------------------------------------------------
# A second opinion
# --------------------------------------------------------------------------------------------------

Pair = tuple[str, str | None]  # value, qualifier's name


def own(world: Mapping[str, Line], id: str, property_id: str, most: int) -> list[Pair]:
    """Return what an entity's statements say of a property, or those of others about it."""
    if property_id.startswith("^"):
        pairs: list[Pair] = [
            (other, None) for other in world if id in values(world[other], property_id[1:])
        ]
    else:
        pairs = []
        hint = table()[property_id][1]
        for statement in best(world[id], property_id) if id in world else ():
            snak = statement["mainsnak"]
            if not is_known(snak) or snak["datavalue"]["type"] != "wikibase-entityid":
                continue
            qualifiers = dict(statement.get("qualifiers") or {}).get(hint, [])
            ids = [value(s) for s in qualifiers if is_known(s)]
            names = [n for i in ids if i in world and (n := name(world[i], LABELS)) is not None]
            pairs += [(value(snak), n) for n in names or [None]]
    named = {v for v, _ in pairs if v != id and v in world and name(world[v], LABELS) is not None}
    kept = sorted(named, key=lambda v: (-links(world[v]), number(v)))[:most]
    return [pair for pair in dict.fromkeys(pairs) if pair[0] in kept]


def layers(world: Mapping[str, Line], id: str, most: int) -> Iterator[list[str]]:
    """Yield what is 1, 2, ... steps above an entity, each at its least distance."""
    above = values(world[id], "P279") or values(world[id], "P31")
    layer, met = {*above, *values(world[id], "P171")}, {id, *TOO_GENERAL}
    for _ in range(most):
        layer = {x for x in layer - met if x[0] == "Q"}
        yield sorted(layer, key=number)
        met |= layer
        known = [world[x] for x in layer if x in world]
        layer = {up for line in known for p in ("P279", "P171") for up in values(line, p)}


def expected_rows(
    world: Mapping[str, Line], id: str, inherit: int = 2, most: int = 10
) -> list[Row]:
    def row(pair: Pair, property_id: str, ancestor: str | None, distance: int | None) -> Row:
        text = name(world[pair[0]], LABELS)
        assert text is not None
        return id, property_id, pair[0], text, pair[1], ancestor, distance

    found = [row(pair, p, None, None) for p in table() for pair in own(world, id, p, most)]
    for property_id, (_, _, inherits, _, _) in table().items():
        # what it has a statement of, be it that there is none, is not inherited
        if inherits == "no" or best(world[id], property_id):
            continue
        for distance, layer in enumerate(layers(world, id, inherit), 1):
            pairs = [(pair, up) for up in layer for pair in own(world, up, property_id, most)]
            first: dict[Pair, str] = {}
            for pair, up in pairs:
                if pair[0] != id:
                    first.setdefault(pair, up)
            if first:
                ids = {v for v, _ in first}
                kept = sorted(ids, key=lambda v: (-links(world[v]), number(v)))[:most]
                found += [row(p, property_id, first[p], distance) for p in first if p[0] in kept]
                break
    return found


RECIPE = """
[attributes]
inherit = {inherit}
values = {values}
[[root]]
id = "Q729"
any = [{{ path = "P31?/P279*" }}]
"""


@settings(max_examples=40, deadline=None, derandomize=True)
@given(worlds.described_worlds())
def test_attributes_are_what_the_statements_give(world: World) -> None:
    lines = by_id(world)
    # few values are kept, so that some are left out; three steps up are more than the default
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = worlds.store(world, folder, worlds.KEPT_BY_DEFAULT)
        recipe = recipes.load(recipe_of(folder, RECIPE.format(inherit=3, values=2)))
        build(store, recipe, folder / "out", quiet=True)
        found, kept = shown(folder / "out"), [row["id"] for row in rows(folder / "out", "entities")]
    expected = [row for id in kept for row in expected_rows(lines, id, 3, 2)]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    event("inherited" if any(row[5] for row in found) else "not inherited")
    event("inverse" if any(row[1][0] == "^" for row in found) else "not inverse")


def test_attributes_of_the_sample_are_what_its_statements_give(tmp_path: Path) -> None:
    sample.write_dump(tmp_path / "dump.json")
    lines = by_id(sample.entities())
    store = worlds.ingested(tmp_path / "dump.json", tmp_path / "store", worlds.KEPT_BY_DEFAULT)
    build(store, recipes.load("entitynet"), tmp_path / "out", quiet=True)
    kept = [row["id"] for row in rows(tmp_path / "out", "entities")]
    expected = [row for id in kept for row in expected_rows(lines, id)]
    assert sorted(shown(tmp_path / "out"), key=repr) == sorted(expected, key=repr)
    for row in rows(tmp_path / "out"):
        bare = row["property"].removeprefix("^")
        called = name(lines[bare], LABELS) if bare in lines else None
        if called and bare != row["property"]:
            called = f"{called} (inverse)"
        assert row["property_name"] == called
        assert row["category"] == table()[row["property"]][0]
        assert row["source"] == "wikidata"


# --------------------------------------------------------------------------------------------------
# Rule by rule
# --------------------------------------------------------------------------------------------------

ROOT = '[[root]]\nid = "Q1"\nany = [{ path = "P31?/P279*" }]\n'


def of_dog(
    folder: Path,
    dog: Mapping[str, list[Any]],
    others: Sequence[Line] = (),
    settings: str = "",
    merged: Mapping[str, str] | None = None,
) -> list[tuple[str, str, str | None, str | None, int | None]]:
    """Return property, value, qualifier, ancestor and distance of a dog's attributes."""
    entities = [
        entity("Q1", label="animal"),
        entity("Q2", label="dog", claims={"P279": ["Q3"], **dog}),
        entity("Q3", label="pet", claims={"P279": ["Q1"]}),
        *(entity(id, label=text) for id, text in THINGS.items()),
    ]
    known = {line["id"]: line for line in (*entities, *others)}
    store = store_of(folder, [*known.values()])
    if merged:
        redirect(store, dict(merged))
    build(store, recipes.load(recipe_of(folder, settings + ROOT)), folder / "out", quiet=True)
    return [
        (r["property"], r["value_id"], r["qualifier"], r["inherited_from"], r["distance"])
        for r in rows(folder / "out")
        if r["entity"] == "Q2"
    ]


THINGS = {"Q21": "brown", "Q22": "white", "Q23": "tail", "Q24": "ear", "Q25": "hunting"}


def mine(property_id: str, value: str, qualifier: str | None = None) -> tuple[Any, ...]:
    return property_id, value, qualifier, None, None


def pet(**claims: list[Any]) -> Line:
    return entity("Q3", label="pet", claims={"P279": ["Q1"], **claims})


def test_own_statements_come_in_the_order_of_the_table_and_of_what_is_known(
    tmp_path: Path,
) -> None:
    linked = [entity("Q22", label="white", links=90), entity("Q21", label="brown", links=3)]
    dog = {"P527": ["Q24", "Q23"], "P462": ["Q21", "Q22"]}
    found = of_dog(tmp_path, dog, linked)
    assert found == [
        mine("P462", "Q22"),
        mine("P462", "Q21"),
        mine("P527", "Q23"),
        mine("P527", "Q24"),
    ]
    columns = ("property", "category", "value", "source", "query")
    assert [tuple(row[c] for c in columns) for row in rows(tmp_path / "out")] == [
        ("P462", "Color", "white", "wikidata", "white dog"),
        ("P462", "Color", "brown", "wikidata", "brown dog"),
        ("P527", "Parts", "tail", "wikidata", "dog with tail"),
        ("P527", "Parts", "ear", "wikidata", "dog with ear"),
    ]


def test_what_makes_no_picture_is_an_attribute_without_a_query(tmp_path: Path) -> None:
    assert of_dog(tmp_path, {"P1542": ["Q25"]}) == [mine("P1542", "Q25")]
    assert [row["query"] for row in rows(tmp_path / "out")] == [None]


def test_an_entity_has_what_its_nearest_ancestor_has_of_what_it_has_no_statement_of(
    tmp_path: Path,
) -> None:
    animal = entity("Q1", label="animal", claims={"P527": ["Q24"], "P2283": ["Q25"]})
    found = of_dog(tmp_path / "two", {}, [animal, pet(P527=["Q23"])])
    assert found == [("P527", "Q23", None, "Q3", 1), ("P2283", "Q25", None, "Q1", 2)]
    found = of_dog(tmp_path / "one", {}, [animal, pet()], "[attributes]\ninherit = 1\n")
    assert found == []
    found = of_dog(tmp_path / "none", {}, [pet(P527=["Q23"])], "[attributes]\ninherit = 0\n")
    assert found == []
    # a color is the entity's own business: the table says so
    assert of_dog(tmp_path / "color", {}, [pet(P462=["Q21"])]) == []


@pytest.mark.parametrize(
    "statements", [["Q23"], ["novalue"], [None], ["Q404"], [ranked("novalue", "preferred"), "Q23"]]
)
def test_what_an_entity_says_itself_is_not_inherited(statements: list[Any], tmp_path: Path) -> None:
    found = of_dog(tmp_path, {"P527": statements}, [pet(P527=["Q24"])])
    assert found == ([mine("P527", "Q23")] if statements == ["Q23"] else [])


def test_a_statement_that_was_deprecated_says_nothing(tmp_path: Path) -> None:
    found = of_dog(tmp_path, {"P527": [ranked("Q23", "deprecated")]}, [pet(P527=["Q24"])])
    assert found == [("P527", "Q24", None, "Q3", 1)]


def test_instances_and_taxa_inherit_too(tmp_path: Path) -> None:
    others = [pet(P527=["Q23"]), entity("Q4", claims={"P171": ["Q5"], "P9566": ["Q25"]})]
    others.append(entity("Q5", claims={"P1419": ["Q21"]}))
    assert of_dog(tmp_path, {"P279": [], "P31": ["Q3"], "P171": ["Q4"]}, others) == [
        ("P527", "Q23", None, "Q3", 1),
        ("P9566", "Q25", None, "Q4", 1),
        ("P1419", "Q21", None, "Q5", 2),
    ]


def test_what_says_that_it_is_part_of_an_entity_is_a_part_of_it(tmp_path: Path) -> None:
    parts = [
        entity("Q31", label="paw", links=5, claims={"P361": ["Q2"]}),
        entity("Q30", label="snout", links=9, claims={"P361": ["Q2", "Q1"]}),
        entity("Q32", label=None, claims={"P361": ["Q2"]}),
        entity("Q33", label="leash", claims={"P361": [ranked("Q2", "deprecated")]}),
    ]
    assert of_dog(tmp_path, {"P361": ["Q2"]}, parts) == [mine("^P361", "Q30"), mine("^P361", "Q31")]
    snout = next(row for row in rows(tmp_path / "out") if row["value"] == "snout")
    assert (snout["category"], snout["query"]) == ("Parts", "animal with snout")


def test_of_one_property_the_most_linked_values_are_kept(tmp_path: Path) -> None:
    linked = {"Q41": 5, "Q42": 9, "Q43": 5, "Q44": 1, "Q45": 3}
    values = [entity(id, links=count) for id, count in linked.items()]
    some = "[attributes]\nvalues = 2\n"
    found = of_dog(tmp_path / "own", {"P527": ["Q44", "Q43", "Q42", "Q41"]}, values, some)
    assert found == [mine("P527", "Q42"), mine("P527", "Q41")]
    # of all ancestors at one distance together, too
    dog = {"P279": ["Q3", "Q4"]}
    other = entity("Q4", label="hound", claims={"P527": ["Q45", "Q42"]})
    found = of_dog(tmp_path / "up", dog, [*values, pet(P527=["Q41", "Q44"]), other], some)
    assert sorted(found) == [("P527", "Q41", None, "Q3", 1), ("P527", "Q42", None, "Q4", 1)]
    whole = [entity(f"Q{n}", links=n % 50, claims={"P361": ["Q2"]}) for n in (51, 52, 53)]
    found = of_dog(tmp_path / "parts", {}, whole, some)
    assert found == [mine("^P361", "Q53"), mine("^P361", "Q52")]
    # what says that it is part of itself takes nobody's place
    found = of_dog(tmp_path / "itself", {"P361": ["Q2"], "P527": ["Q2"]}, whole, some)
    assert found == [mine("^P361", "Q53"), mine("^P361", "Q52")]


def test_a_qualifier_stands_behind_the_value_that_it_is_of(tmp_path: Path) -> None:
    others = [entity(id, label=text) for id, text in THINGS.items()]
    dog = worlds.entity(
        "Q2",
        [
            worlds.statement("P279", "Q1"),
            worlds.qualified(worlds.statement("P366", "Q25"), worlds.statement("P805", "Q24")),
            worlds.qualified(worlds.statement("P2283", "Q23"), worlds.statement("P805", "Q24")),
        ],
        labels={"en": "dog"},
    )
    store = store_of(tmp_path, [entity("Q1"), dog, *others])
    build(store, recipes.load(recipe_of(tmp_path, ROOT)), tmp_path / "out", quiet=True)
    found = [(r["property"], r["value"], r["qualifier"]) for r in rows(tmp_path / "out")]
    assert found == [("P2283", "tail", None), ("P366", "hunting", "ear")]


def test_what_was_merged_is_what_it_was_merged_into(tmp_path: Path) -> None:
    merged = {"Q91": "Q21", "Q92": "Q3", "Q93": "Q2"}
    others = [pet(P527=["Q24"]), entity("Q31", label="paw", claims={"P361": ["Q93"]})]
    dog = {"P279": ["Q92", "Q1"], "P462": ["Q91", "Q21"]}
    assert of_dog(tmp_path, dog, others, merged=merged) == [
        mine("P462", "Q21"),
        mine("^P361", "Q31"),
        ("P527", "Q24", None, "Q3", 1),
    ]


def test_queries_for_names_of_another_language_have_no_english_words(tmp_path: Path) -> None:
    dog = entity("Q2", label=None, labels={"de": "Hund"}, claims={"P279": ["Q1"], "P527": ["Q23"]})
    tail = entity("Q23", label=None, labels={"de": "Rute"})
    store = store_of(tmp_path, [entity("Q1"), dog, tail], languages=("de", "en"))
    recipe = recipes.load(recipe_of(tmp_path, f'labels = ["de", "en"]\n{ROOT}'))
    build(store, recipe, tmp_path / "out", quiet=True)
    assert [row["query"] for row in rows(tmp_path / "out")] == ["Hund Rute"]


# --------------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------------

GOOD = "P462\tColor\tdirect\tno\t{value} {name}\tcolor"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("P462\tColor\tdirect\tno\t{value} {name}", "5 columns instead of 6"),
        (GOOD.replace("\t", " "), "1 columns instead of 6"),
        (GOOD.replace("P462", "Q462"), "'Q462' is not a property"),
        (GOOD.replace("P462", "^^P462"), "'^^P462' is not a property"),
        (GOOD.replace("Color", "Colour"), "'Colour' is no category"),
        (GOOD.replace("\tno\t", "\tnever\t"), "`inherit` is neither yes nor no"),
        (GOOD.replace("{value}", "{valeu}"), "the phrase lacks {value} or {name}"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(line: str, what: str) -> None:
    with pytest.raises(UserError) as raised:
        read_rules(f"# attributes\n\n{GOOD}\n{line}\n")
    assert str(raised.value) == f"attributes.tsv, line 4: {what}."
    (rule,) = read_rules(f"# attributes\n\n{GOOD}\n")
    assert (rule.property_id, rule.category, rule.phrase) == ("P462", "Color", "{value} {name}")


def test_a_store_keeps_what_the_table_needs_unless_told_otherwise() -> None:
    kept = worlds.KEPT_BY_DEFAULT.properties
    for property_id, (category, hint, _, _, reason) in table().items():
        bare = property_id.removeprefix("^")
        assert bare in kept
        assert hint in ("-", "direct") or hint in kept[bare]
        assert category in CATEGORIES
        assert reason
    assert {category for category, *_ in table().values()} == {*CATEGORIES}


def test_the_table_has_the_hints_of_the_reference() -> None:
    marked = {p: hint for p, (_, hint, *_) in table().items() if hint != "-"}
    assert [p for p, hint in marked.items() if hint == "direct"] == [*DIRECT_HINTS]
    assert {p: hint for p, hint in marked.items() if hint != "direct"} == QUALIFIED_HINTS


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        ("red", "fox", "red fox of red"),
        ("{name}", "fox", "{name} fox of {name}"),
        ("red", "{value}", "red {value} of red"),
        ("", "", "  of "),
    ],
)
def test_braces_in_a_name_are_no_places_of_a_phrase(value: str, name: str, text: str) -> None:
    assert fill("{value} {name} of {value}", value, name) == text


def test_a_taxon_inherits_nothing_of_how_taxa_are_modelled(tmp_path: Path) -> None:
    lion = entity("Q140", label="lion", claims={"P31": ["Q16521"], "P171": ["Q2"], "P279": []})
    taxon = entity("Q16521", label="taxon", claims={"P527": ["Q9"], "P279": ["Q3"]})
    above = entity("Q3", label="group", claims={"P527": ["Q9"]})
    store = store_of(
        tmp_path, [entity("Q2", label="cats"), lion, taxon, above, entity("Q9", label="rank")]
    )
    text = '[[root]]\nid = "Q2"\nany = [{ path = "P171+" }]\n'
    build(store, recipes.load(recipe_of(tmp_path, text)), tmp_path / "out", quiet=True)
    assert rows(tmp_path / "out") == []
