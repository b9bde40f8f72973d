"""Small made-up worlds for hypothesis, as the lines of a dump.

Real ids stand where a recipe names them (Q729, Q5, ...), ids from Q9000000001 up are made up, and
so is every statement: what is said here of the real ones is for tests only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from etl import ingest
from etl.kept import Kept, read_properties
from etl.plan import Options
from tests.graph.oracle import WD, PathTree


class World(list[dict[str, Any]]):
    """Entities in a dump's order, which a failing test prints a line each."""

    def __repr__(self) -> str:
        return "".join(f"\n    {_in_short(line)}" for line in self)


def _in_short(line: dict[str, Any]) -> str:
    words = [line["id"], *line["labels"], f"{len(line.get('sitelinks', ()))} sitelinks"]
    for property_id, statements in dict(line["claims"]).items():
        for one in statements:
            value = one["mainsnak"].get("datavalue", {"value": one["mainsnak"]["snaktype"]})[
                "value"
            ]
            shown = value.get("id") or value.get("text") if isinstance(value, dict) else value
            rank = "" if one["rank"] == "normal" else f" {one['rank']}"
            words.append(f"{property_id} {shown}{rank}")
    return ", ".join(words)


WALKED = ("P31", "P279", "P171", "P1582", "P1672", "P1647")
KEPT = Kept(
    languages=("en", "en-gb", "en-ca", "en-us", "mul"),
    properties=dict.fromkeys((*WALKED, "P18", "P225", "P625", "P1705", "P1843"), ()),
)

ANIMAL, PLANT, FRUITS = "Q729", "Q756", ("Q3314483", "Q1364")
MINUS = ("Q5", "Q24334299", "Q795052", "Q4886")
# Two more roots of the world recipe: musical instrument and food.
ROOTS = (ANIMAL, PLANT, "Q34379", "Q2095")
MADE_UP = tuple(f"Q{9_000_000_000 + n}" for n in range(1, 15))
PROPERTIES = ("P31", "P1647")  # properties are entities too
ABSENT = ("Q9000000098", "Q9000000099")  # never in a dump, now and then a value

_DATATYPES = {
    "P18": "commonsMedia",
    "P225": "string",
    "P625": "globe-coordinate",
    "P1647": "wikibase-property",
    "P1705": "monolingualtext",
    "P1843": "monolingualtext",
}


def statement(
    property_id: str, value: object, rank: str = "normal", snaktype: str = "value"
) -> dict[str, Any]:
    """Write a statement as a dump does; `value` is an id, a text or a datavalue's own value."""
    datatype = _DATATYPES.get(property_id, "wikibase-item")
    snak: dict[str, Any] = {"snaktype": snaktype, "property": property_id, "datatype": datatype}
    if snaktype == "value":
        snak["datavalue"] = {"value": value, "type": datatype}
        if datatype.startswith("wikibase"):
            assert isinstance(value, str)
            kind = {"Q": "item", "P": "property"}[value[0]]
            entity = {"entity-type": kind, "numeric-id": int(value[1:]), "id": value}
            snak["datavalue"] = {"value": entity, "type": "wikibase-entityid"}
        elif datatype == "commonsMedia":
            snak["datavalue"]["type"] = "string"
        elif datatype == "globe-coordinate":
            snak["datavalue"]["type"] = "globecoordinate"
    return {"mainsnak": snak, "type": "statement", "rank": rank}


def qualified(claim: dict[str, Any], *qualifiers: dict[str, Any]) -> dict[str, Any]:
    """Return a statement with the main snaks of others as its qualifiers."""
    grouped: dict[str, list[Any]] = {}
    for qualifier in qualifiers:
        snak = qualifier["mainsnak"]
        grouped.setdefault(snak["property"], []).append(snak)
    return {**claim, "qualifiers": grouped, "qualifiers-order": list(grouped)}


def unknown(property_id: str, rank: str = "normal") -> dict[str, Any]:
    """Write a statement whose value exists but isn't known."""
    return statement(property_id, None, rank, "somevalue")


def none(property_id: str, rank: str = "normal") -> dict[str, Any]:
    """Write a statement that there is no value."""
    return statement(property_id, None, rank, "novalue")


def entity(
    id: str,
    claims: Sequence[dict[str, Any]] = (),
    *,
    labels: dict[str, str] | None = None,
    descriptions: dict[str, str] | None = None,
    aliases: dict[str, list[str]] | None = None,
    sitelinks: int = 0,
) -> dict[str, Any]:
    """Write an item or a property as a dump does; what is empty is `[]`, as in old dumps."""
    line: dict[str, Any] = {
        "type": "item" if id.startswith("Q") else "property",
        "id": id,
        "labels": _terms(labels),
        "descriptions": _terms(descriptions),
        "aliases": {
            code: [{"language": code, "value": text} for text in texts]
            for code, texts in (aliases or {}).items()
        },
        "claims": [],
        "lastrevid": 1,
    }
    if id.startswith("Q"):
        sites = [f"{chr(ord('a') + n)}wiki" for n in range(sitelinks)]
        line["sitelinks"] = {
            site: {"site": site, "title": id, "badges": []} for site in sites
        } or []
    else:
        line["datatype"] = _DATATYPES.get(id, "wikibase-item")
    return with_claims(line, claims)


def with_claims(line: dict[str, Any], claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return an entity with statements added after those that it has."""
    grouped = {property_id: list(group) for property_id, group in dict(line["claims"]).items()}
    for claim in claims:
        grouped.setdefault(claim["mainsnak"]["property"], []).append(claim)
    return {**line, "claims": grouped or []}


def _terms(texts: dict[str, str] | None) -> dict[str, Any] | list[Any]:
    return {code: {"language": code, "value": text} for code, text in (texts or {}).items()} or []


def store(world: World, directory: Path, kept: Kept = KEPT) -> Path:
    """Build the store of a world in a fresh directory, in this process; return where it is."""
    dump = directory / "dump.json"
    dump.write_text("[\n" + ",\n".join(map(json.dumps, world)) + "\n]\n")
    options = Options(kept=kept, workers=0, quiet=True)
    ingest.ingest((str(dump),), directory / "store", options)
    return directory / "store"


# --------------------------------------------------------------------------------------------------
# Strategies
# --------------------------------------------------------------------------------------------------

Link = tuple[str, str, str, tuple[str, str]]  # subject, property, value, (snaktype, rank)

# (snaktype, rank): what isn't a plain statement stands in one of four links
_KINDS = [("value", "normal")] * 16 + [
    ("value", "preferred"),
    ("value", "deprecated"),
    ("somevalue", "normal"),
    ("somevalue", "preferred"),
    ("novalue", "normal"),
    ("novalue", "preferred"),
]


def _links(
    subjects: list[str], properties: list[str], objects: list[str], least: int
) -> st.SearchStrategy[list[Link]]:
    """Draw links between anything and anything."""
    link = st.tuples(
        st.sampled_from(subjects),
        st.sampled_from(properties),
        st.sampled_from(objects),
        st.sampled_from(_KINDS),
    )
    return st.lists(link, min_size=least, max_size=least + 25)


def _linked(world: World, links: list[Link]) -> World:
    claims: dict[str, list[dict[str, Any]]] = {line["id"]: [] for line in world}
    for subject, property_id, value, (snaktype, rank) in links:
        if property_id == "P1647":
            value = PROPERTIES[MADE_UP.index(value) % 2] if value in MADE_UP else PROPERTIES[0]
        claims[subject].append(statement(property_id, value, rank, snaktype))
    return World(with_claims(line, claims[line["id"]]) for line in world)


# Few properties, so that what a path asks for is there; the rest is seldom.
_OFTEN = ("P31", "P279", "P171") * 3 + WALKED[3:]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a world whose links are of any kind, from and to anything."""
    ids = [*MADE_UP[: draw(st.integers(4, 7))], ANIMAL]
    ids += draw(st.sampled_from([(), PROPERTIES[:1], PROPERTIES]))
    objects = [id for id in ids if id.startswith("Q")] + [ABSENT[0]]
    links = draw(_links(ids, list(_OFTEN), objects, draw(st.sampled_from([1, 20, 30]))))
    return _linked(World(map(entity, ids)), links)


Merged = dict[str, str]  # id -> what it was merged into


@st.composite
def merged_worlds(draw: st.DrawFn) -> tuple[World, Merged]:
    """Draw a world, some of whose ids lost their records, and redirects from and to anything."""
    world = draw(worlds())
    ids = [line["id"] for line in world]
    gone = draw(st.lists(st.sampled_from(ids), max_size=4, unique=True))
    items = [*dict.fromkeys([*(id for id in ids if id.startswith("Q")), *ABSENT])]
    merged: Merged = {}
    for id in [*gone, ABSENT[0], *draw(st.lists(st.sampled_from(ids), max_size=2))]:
        merged[id] = draw(st.sampled_from(items if id.startswith("Q") else ["P31", "P1647"]))
    return World(line for line in world if line["id"] not in gone), merged


# What the reference's rules look at: few draws for much variety, each a way to be in or out.
_LABELS = [{"en": "x"}] * 5 + [{"mul": "m"}, {"de": "y", "en-gb": "z"}, {"en": "x", "mul": "m"}, {}]
_ALIASES: list[dict[str, list[str]]] = [
    {},
    {"en": ["bee", "Cöd; wet"]},
    {"mul": ["ape"], "de": ["Affe"]},
    {"en": ["elk"], "en-gb": ["moose"]},
]
_DESCRIPTIONS = [{}, {"en": "a thing"}, {"de": "ein Ding", "en-gb": "a colourful thing"}]
_A, _B = "A b.jpg", "Ä&ö, 50% (1).png"
_IMAGES = [
    *[[statement("P18", _A)]] * 5,
    [statement("P18", _A), statement("P18", _B)],
    [statement("P18", _A), statement("P18", _A)],
    [statement("P18", _A), statement("P18", _B, "preferred")],
    [statement("P18", _A), unknown("P18")],
    [],
    [unknown("P18")],
    [statement("P18", _B, "deprecated")],
    [statement("P18", _A), none("P18", "preferred")],
    [statement("P18", _B, "deprecated"), none("P18")],
]


def _common(code: str, text: str, rank: str = "normal") -> dict[str, Any]:
    return statement("P1843", {"language": code, "text": text}, rank)


_NAMES = [
    [],
    [statement("P225", "Apis apis"), _common("en", "bee"), _common("fr", "abeille")],
    [_common("en", "bee"), _common("en", "ape"), _common("en", "bee", "deprecated")],
    [_common("en", "bee"), _common("mul", "ape", "preferred"), unknown("P225")],
    [_common("en", "bee"), _common("en", "bee"), unknown("P1843")],
    [statement("P225", "Apis"), statement("P225", "Apis apis", "preferred"), none("P1843")],
]
PLACE = {"latitude": 1.5, "longitude": -2.25, "precision": 1, "globe": f"{WD}Q2"}
_PLACES = [
    *[[]] * 12,
    [statement("P625", PLACE)],
    [unknown("P625")],
    [statement("P625", PLACE, "deprecated")],
    [statement("P625", PLACE), none("P625", "preferred")],
]
_details = st.tuples(
    st.sampled_from(_LABELS),
    st.sampled_from(_DESCRIPTIONS),
    st.sampled_from(_ALIASES),
    st.sampled_from(_IMAGES),
    st.sampled_from(_NAMES),
    st.sampled_from(_PLACES),
    st.integers(0, 8),
)


# Statements of an item x, and what they lead to, that random links seldom make together.
_PLAIN = ("value", "normal")


def _fruit(x: str, taxon: str, way: int) -> list[Link]:
    """Link x as the produce of a plant, which is a class or an instance of fruit."""
    produce = (x, "P1582", taxon) if way % 2 else (taxon, "P1672", x)
    fruit = (x, "P31" if way % 3 else "P279", FRUITS[way % 2])
    plant = (taxon, ("P171", "P279", "P31")[way % 3], PLANT)
    return [(*link, _PLAIN) for link in (produce, fruit, plant)]


def _subtracted(x: str, via: str, way: int) -> list[Link]:
    """Link x to a root and, with a step between, to what the recipe subtracts from it."""
    root, minus = (ANIMAL, MINUS[way % 3]) if way < 3 else (PLANT, MINUS[2 + way % 2])
    links = ((x, "P171", root), (x, "P31", via), (via, "P279", minus))
    return [(*link, _PLAIN) for link in links]


@st.composite
def recipe_worlds(draw: st.DrawFn) -> World:
    """Draw a world that the reference's recipes find something in, and leave something out of."""
    some = list(MADE_UP[: draw(st.integers(5, 14))])
    there = draw(st.lists(st.sampled_from([*ROOTS, *FRUITS, *MINUS]), max_size=6, unique=True))
    ids = [*some, *there] if ANIMAL in there or PLANT in there else [*some, *there, ANIMAL]
    # Much leads to the roots, little to what is subtracted.
    objects = [*some, *some[:3] * 3, *ROOTS, *[ANIMAL, PLANT] * 5, *FRUITS, *MINUS, ABSENT[0]]
    properties = ["P279"] * 3 + ["P31", "P171"] * 2 + ["P1582", "P1672"]
    world = World()
    for id in ids:
        labels, descriptions, aliases, images, names, places, sitelinks = draw(_details)
        world.append(
            entity(
                id,
                [*images, *names, *places],
                labels={code: f"{text} {id}" for code, text in labels.items()},
                descriptions=descriptions,
                aliases=aliases,
                sitelinks=sitelinks,
            )
        )
    links = draw(_links([*some * 2, *ids], properties, objects, 15))
    one = st.sampled_from(some)
    ways = st.tuples(one, one, st.integers(0, 5))
    for x, taxon, way in draw(st.lists(ways, min_size=1, max_size=3)):
        links += _fruit(x, taxon, way)
    for x, via, way in draw(st.lists(ways, max_size=2)):
        links += _subtracted(x, via, way)
    return _linked(world, links)


# Statements that attributes are made of, those with a qualifier most of all; beside the qualifier
# that is asked for there may be another.
DESCRIBING = ("P361", "P462", "P186", "P1963", "P1672", *["P2283", "P366", "P5869"] * 3)
QUALIFIERS = {"P2283": "P5102", "P366": "P805", "P5869": "P11527"}
TOO_GENERAL = ("Q223557", "Q488383", "Q35120", "Q4406616")
KEPT_BY_DEFAULT = Kept(KEPT.languages, read_properties())


@st.composite
def described_worlds(draw: st.DrawFn) -> World:
    """Draw a world of classes and taxa with attributes, some of them with qualifiers."""
    some = list(MADE_UP[: draw(st.integers(4, 9))])
    ids = [*some, ANIMAL, PLANT, *draw(st.sampled_from([(), TOO_GENERAL[:1], TOO_GENERAL]))]
    names = st.sampled_from([{"en": "red"}, {"en": "blue", "mul": "b"}] * 4 + [{"mul": "m"}, {}])
    world = World(
        entity(
            id,
            draw(st.sampled_from(_IMAGES)),
            labels=draw(names),
            sitelinks=draw(st.sampled_from([0, 4, 5, 5, 6, 9])),
        )
        for id in (*ids, *PROPERTIES)
    )
    objects = [*some * 2, *ids, *PROPERTIES[:1], ABSENT[0]]
    classes = ["P279"] * 4 + ["P31", "P171"]
    links = draw(_links([*some * 2, *ids], classes, [*objects, *[ANIMAL] * 4], 20))
    world = _linked(world, links)
    claims: dict[str, list[dict[str, Any]]] = {}
    for subject, property_id, value, (snaktype, rank) in draw(
        _links(some, list(DESCRIBING), [*objects, *PROPERTIES], 15)
    ):
        claim = statement(property_id, value, rank, snaktype)
        of_it = draw(st.lists(st.sampled_from([*some, None, "none"]), max_size=2))
        asked = QUALIFIERS.get(property_id, "P462")
        other = draw(st.sampled_from([asked] * 4 + ["P805", "P5102"]))
        claims.setdefault(subject, []).append(
            qualified(claim, *(_qualifier(other, value) for value in of_it))
        )
    return World(with_claims(line, claims.get(line["id"], ())) for line in world)


def _qualifier(property_id: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return unknown(property_id)
    return none(property_id) if value == "none" else statement(property_id, value)


@st.composite
def path_trees(draw: st.DrawFn, depth: int = 3) -> PathTree:
    """Draw a property path, some levels deep at most."""
    sign = draw(st.sampled_from("p^^*+?////||" if depth else "p"))
    if sign == "p":
        return (draw(st.sampled_from(_OFTEN)),)
    parts = [draw(path_trees(depth - 1)) for _ in range(2 if sign in "/|" else 1)]
    return (sign, *parts)
