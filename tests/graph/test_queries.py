"""Queries: what is asked of whom, in which words for which engine, and what the budget takes.

`expected_queries` makes them a second time from the rows of entities and attributes.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from etl.store import EntityStore
from graph import recipe as recipes
from graph.build import build
from graph.derived import derive
from graph.explain import explain_built
from graph.records import Records
from graph.write_queries import water_filled
from tests.graph.plain import Line
from tests.graph.small_dump import entity, recipe_of, store_of

Row = dict[str, Any]

EXCLUDED = ["drawing", "clipart", "illustration", "cartoon", "vector", "painting"]
TYPES = {"Q3": "pet", "Q4": "mammal", "Q6": "car"}
COLOURS = {"Q21": "brown", "Q22": "white", "Q23": "black", "Q24": "red"}
ROOT = '[[root]]\nid = "Q1"\nany = [{ path = "P31?/P279+" }]\n'


def rows(out: Path, table: str = "queries") -> list[Row]:
    found: list[Row] = pq.read_table(out / f"{table}.parquet").to_pylist()
    return found


def thing(id: str, label: str | None, *, of: str = "Q4", **more: Any) -> Line:
    """Make a thing that shows: it has an image, and a type."""
    claims: dict[str, list[Any]] = {"P279": [of], "P18": ["A.jpg"], **more.pop("claims", {})}
    return entity(id, label=label, claims=claims, **more)


def built(
    folder: Path, things: Sequence[Line], *, text: str = "", root: str = ROOT, name: str = "out"
) -> Path:
    """Build a data set of some things; `text` is what the recipe says besides its root."""
    upper = [entity("Q1", label=None)]
    upper += [entity(id, label=word, claims={"P279": ["Q1"]}) for id, word in TYPES.items()]
    upper += [entity(id, label=word) for id, word in COLOURS.items()]
    known = {line["id"]: line for line in (*upper, *things)}
    store = store_of(folder / name, [*known.values()])
    recipe = recipes.load(recipe_of(folder / name, text + root))
    build(store, recipe, folder / name / "out", quiet=True)
    return folder / name / "out"


def of(out: Path, id: str, *columns: str) -> list[Any]:
    """Return some columns of an entity's queries: tuples, or values of one column."""
    found = [tuple(row[c] for c in columns) for row in rows(out) if row["entity"] == id]
    return [row[0] for row in found] if len(columns) == 1 else found


# --------------------------------------------------------------------------------------------------
# What is asked
# --------------------------------------------------------------------------------------------------


def dog(**more: Any) -> Line:
    aliases = {"en": ["Hound", "dog", "Canis"]}
    claims = {"P462": ["Q21"], "P1843": [("hound", "en"), ("doggy", "en")], "P225": ["Canis"]}
    return thing("Q10", "Dog", aliases=aliases, claims=claims, of="Q3", **more)


def test_a_thing_has_a_query_for_each_name_and_each_attribute_once(tmp_path: Path) -> None:
    out = built(tmp_path, [dog()])
    found = [row for row in rows(out) if row["entity"] == "Q10"]
    assert [
        (r["query"], r["query_type"], r["attribute"], r["attribute_category"]) for r in found
    ] == [
        ("Dog", "name", None, None),
        ("Hound", "alias", None, None),
        ("Canis", "alias", None, None),
        ("doggy", "alias", None, None),
        ("brown Dog", "attribute_name", "brown", "Color"),
    ]
    assert {(r["entity_type"], r["engine"], r["source"]) for r in found} == {
        ("Q3", None, "wikidata")
    }
    types = [row for row in rows(out) if row["query_type"] == "attribute_type"]
    assert [(r["query"], r["entity"], r["entity_type"], r["attribute"]) for r in types] == [
        ("brown pet", None, "Q3", "brown")
    ]


# The fields of the reference's query builders: living_generate_{noun,attribute,attribute_noun}.
@pytest.mark.parametrize(
    ("engine", "query", "or_terms", "exclude"),
    [
        ("google", "Dog", ["hound", "canis", "doggy", "pet"], EXCLUDED),
        ("google", "Canis", ["dog", "hound", "doggy", "pet"], EXCLUDED),
        ("google", "brown Dog", ["hound", "canis", "doggy"], EXCLUDED),
        ("google", "brown pet", [], EXCLUDED),
        ("bing", "Dog", ["pet"], []),
        ("bing", "brown Dog", ["pet"], []),
        ("bing", "brown pet", [], []),
        (None, "Dog", ["hound", "canis", "doggy", "pet"], EXCLUDED),
    ],
)
def test_other_words_and_excluded_ones_are_those_of_the_reference(
    engine: str | None, query: str, or_terms: list[str], exclude: list[str], tmp_path: Path
) -> None:
    text = f'[queries]\nengines = ["{engine}"]\n' if engine else ""
    (row,) = [row for row in rows(built(tmp_path, [dog()], text=text)) if row["query"] == query]
    assert (row["engine"], row["or_terms"], row["exclude"]) == (engine, or_terms, exclude)


def test_a_query_for_each_engine_and_only_of_the_types_asked_for(tmp_path: Path) -> None:
    text = '[queries]\nengines = ["bing", "google"]\ntypes = ["alias", "attribute_type"]\n'
    out = built(tmp_path, [dog()], text=text)
    assert [(row["query"], row["engine"]) for row in rows(out)] == [
        (query, engine)
        for query in ("Hound", "Canis", "doggy", "brown pet")
        for engine in ("google", "bing")
    ]
    assert len({row["query_hash"] for row in rows(out)}) == len(rows(out))


def test_attributes_of_several_things_make_one_query_for_their_type(tmp_path: Path) -> None:
    brown = {"P462": ["Q21"]}
    things = [thing("Q10", "dog", claims=brown), thing("Q11", "cat", claims=brown)]
    out = built(tmp_path, [*things, thing("Q12", "van", of="Q6", claims=brown)])
    found = [row["query"] for row in rows(out) if row["query_type"] == "attribute_type"]
    assert found == ["brown mammal", "brown car"]


def test_what_is_asked_of_an_entity_is_not_asked_of_its_type_again(tmp_path: Path) -> None:
    brown = {"P462": ["Q21"]}
    things = [thing("Q10", "dog", claims=brown), thing("Q11", "beagle", of="Q10", claims=brown)]
    things += [thing("Q12", "van", of="Q6", claims=brown), thing("Q13", "Brown Car", of="Q3")]
    out = built(tmp_path, things)
    types = [row["query"] for row in rows(out) if row["query_type"] == "attribute_type"]
    assert types == ["brown mammal"]
    assert of(out, "Q11", "query", "entity_type")[1] == ("brown beagle", "Q10")


def test_what_the_name_says_makes_no_query(tmp_path: Path) -> None:
    things = [thing("Q10", "Red fox", claims={"P462": ["Q24"]})]
    things.append(thing("Q11", "stored thing", claims={"P462": ["Q24"]}))
    out = built(tmp_path, things)
    assert of(out, "Q10", "query") == ["Red fox"]
    assert of(out, "Q11", "query") == ["stored thing", "red stored thing"]


def test_an_attribute_query_that_is_a_name_is_not_asked_twice(tmp_path: Path) -> None:
    bear = thing("Q10", "bear", aliases={"en": ["Brown bear"]}, claims={"P462": ["Q21"]})
    assert of(built(tmp_path, [bear]), "Q10", "query") == ["bear", "Brown bear"]


def test_names_of_another_language_make_queries_of_its_words_and_explain_says_the_same(
    tmp_path: Path,
) -> None:
    def german(id: str, label: str, **claims: list[Any]) -> Line:
        return entity(id, label=None, labels={"de": label}, claims=claims)

    dog = german("Q10", "Hund", P279=["Q3"], P18=["A.jpg"], P527=["Q20"])
    things = [german("Q1", "Tier"), german("Q3", "Haustier", P279=["Q1"]), dog]
    store = store_of(tmp_path, [*things, german("Q20", "Rute")], languages=("de",))
    recipe = recipes.load(recipe_of(tmp_path, f'labels = ["de"]\n{ROOT}'))
    build(store, recipe, tmp_path / "out", quiet=True)
    found = [row["query"] for row in rows(tmp_path / "out") if row["attribute"]]
    assert found == ["Hund Rute", "Haustier Rute"]
    with EntityStore(store) as entities:
        records = Records(entities)
        record = records.get("Q10")
        assert record is not None
        told = derive(records, recipe, recipe, record, ["Q1"])
    assert [query.query for query in told.queries] == ["Hund", *found]


# --------------------------------------------------------------------------------------------------
# Hashes
# --------------------------------------------------------------------------------------------------


def test_a_hash_stays_while_what_is_asked_does(tmp_path: Path) -> None:
    def hashes(name: str, *things: Line) -> dict[tuple[str, ...], str]:
        out = built(tmp_path, things, name=name, text='[queries]\nengines = ["google"]\n')
        return {
            (row["query_type"], row["entity"] or row["entity_type"], str(row["attribute"])): digest
            for row in rows(out)
            if row["query_type"] != "alias" and (digest := row["query_hash"])
        }

    plain = thing("Q10", "jaguar", claims={"P462": ["Q23"]})
    first = hashes("first", plain)
    more = thing("Q10", "jaguar", aliases={"en": ["big cat"]}, claims={"P462": ["Q23", "Q24"]})
    # an alias, another entity of the same name, another attribute: more rows, the same hashes
    second = hashes("second", more, thing("Q11", "jaguar", of="Q6", claims={"P462": ["Q23"]}))
    assert {key: second[key] for key in first} == first
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{38}", digest) for digest in second.values())
    assert len({*second.values()}) == len(second)
    renamed = hashes("third", thing("Q10", "Jaguar", claims={"P462": ["Q23"]}))
    assert renamed["name", "Q10", "None"] != first["name", "Q10", "None"]


# --------------------------------------------------------------------------------------------------
# Names that several have
# --------------------------------------------------------------------------------------------------


def jaguars() -> list[Line]:
    return [
        thing("Q10", "Jaguar", claims={"P462": ["Q23"]}),
        thing("Q11", "car maker", of="Q6", aliases={"en": ["jaguar"]}),
        thing("Q12", "JAGUAR", of="Q6", claims={"P462": ["Q23"]}),
        thing("Q13", "black jaguar", of="Q3"),
        thing("Q14", "lion"),
    ]


def test_a_text_that_several_have_is_told_apart_by_the_natural_type(tmp_path: Path) -> None:
    out = built(tmp_path, jaguars())
    columns = ("query", "query_type", "ambiguous_with")
    assert of(out, "Q10", *columns) == [
        ("Jaguar mammal", "name", ["Q11", "Q12"]),
        ("black Jaguar mammal", "attribute_name", ["Q12", "Q13"]),
    ]
    assert of(out, "Q11", *columns) == [
        ("car maker", "name", []),
        ("jaguar car", "alias", ["Q10", "Q12"]),
    ]
    assert of(out, "Q13", *columns) == [("black jaguar pet", "name", ["Q10", "Q12"])]
    assert of(out, "Q14", *columns) == [("lion", "name", [])]
    manifest = json.loads((out / "manifest.json").read_text())
    shared = [row for row in rows(out) if row["ambiguous_with"]]
    assert manifest["counts"]["queries"]["ambiguous"] == len(shared) == 6


def test_the_reference_flags_a_text_that_several_have_and_leaves_it(tmp_path: Path) -> None:
    text = 'labels = ["en"]\nrules = "reference-world"\n'
    out = built(tmp_path, jaguars(), text=text)
    assert of(out, "Q12", "query", "ambiguous_with") == [("JAGUAR", ["Q10", "Q11"])]


@pytest.mark.parametrize(
    ("label", "query"),
    [("catfish pet", "catfish pet"), ("petrel", "petrel pet"), ("Pet shop", "Pet shop")],
)
def test_a_type_whose_word_is_there_is_not_added(label: str, query: str, tmp_path: Path) -> None:
    out = built(tmp_path, [thing("Q10", label, of="Q3"), thing("Q11", label, of="Q6")])
    assert of(out, "Q10", "query") == [query]


def test_a_text_that_is_told_apart_and_an_alias_says_the_same(tmp_path: Path) -> None:
    aliases = {"en": ["Orange mammal", "pongo"]}
    things = [thing("Q10", "orange", aliases=aliases), thing("Q11", "orange", of="Q6")]
    out = built(tmp_path, things)
    assert of(out, "Q10", "query", "query_type") == [("orange mammal", "name"), ("pongo", "alias")]


def test_at_most_a_hundred_of_the_same_name_are_listed(tmp_path: Path) -> None:
    out = built(tmp_path, [thing(f"Q{n}", "smith") for n in range(100, 205)])
    assert of(out, "Q100", "ambiguous_with") == [[f"Q{n}" for n in range(101, 201)]]
    assert of(out, "Q204", "ambiguous_with") == [[f"Q{n}" for n in range(100, 200)]]


# --------------------------------------------------------------------------------------------------
# Both files, by a second opinion
# --------------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    return " ".join(normalize("NFKC", normalize("NFKC", text).casefold()).split())


def expected_queries(out: Path) -> list[Row]:
    """Make the queries of a data set from its entities and attributes, if all are in the budget."""
    entities = [row for row in rows(out, "entities") if row["visual"]]
    asked: list[Row] = []
    types: dict[tuple[str, str], Row] = {}
    for one in entities:
        names = [one["name"], *one["aliases"], *one["common_names"], *one["taxon_names"]]
        lowered = [name.lower() for name in names]
        met: set[str] = set()
        type_name = one["natural_type_name"]
        for number, text in enumerate(names):
            if folded(text) not in met and any(map(str.isalnum, folded(text))):
                other = [*lowered, type_name.lower()] if type_name else lowered
                terms = [term for term in dict.fromkeys(other) if term != text.lower()]
                asked.append(_row("alias" if number else "name", one, text, terms))
            met.add(folded(text))
        for trait in (row for row in rows(out, "attributes") if row["entity"] == one["id"]):
            if trait["query"] is None:
                continue
            if type_name:
                text = phrase(trait["property"], trait["value"], type_name)
                key = one["natural_type"], folded(text)
                types.setdefault(key, _row("attribute_type", {**one, "id": None}, text, [], trait))
            if folded(trait["query"]) not in met:
                met.add(folded(trait["query"]))
                terms = [t for t in dict.fromkeys(lowered) if t not in trait["query"].lower()]
                asked.append(_row("attribute_name", one, trait["query"], terms, trait))
    # what is asked of an entity needn't be asked of a type
    said = {folded(row["query"]) for row in asked}
    words = {one["id"]: one["natural_type_name"] for one in entities}
    for row in asked:
        row["ambiguous_with"] = sorted(
            {other["entity"] for other in asked if folded(other["query"]) == folded(row["query"])}
            - {row["entity"]},
            key=lambda id: int(id[1:]),
        )
    for row in asked:
        word = words[row["entity"]]
        if row["ambiguous_with"] and word and folded(word) not in folded(row["query"]).split():
            row["query"] += f" {word}"
    # each text once of one entity
    first = {(row["entity"], folded(row["query"])): row for row in reversed(asked)}
    asked = [row for row in asked if first[row["entity"], folded(row["query"])] is row]
    ordered = sorted(
        (key for key in types if key[1] not in said), key=lambda key: (int(key[0][1:]), key[1])
    )
    return [*asked, *(types[key] for key in ordered)]


def _row(
    kind: str, one: Row, text: str, terms: list[str], trait: Mapping[str, Any] | None = None
) -> Row:
    return {
        "query": text,
        "query_type": kind,
        "entity": one["id"],
        "attribute": trait and trait["value"],
        "attribute_category": trait and trait["category"],
        "entity_type": one["natural_type"],
        "or_terms": terms,
        "exclude": EXCLUDED,
        "engine": None,
        "ambiguous_with": [],
        "source": "wikidata",
    }


def phrase(property_id: str, value: str, name: str) -> str:
    """Fill in a phrase of the table."""
    text = (files("graph.recipes") / "attributes.tsv").read_text("utf-8")
    found = re.search(rf"(?m)^{re.escape(property_id)}\t.*\t(.*)\t.*$", text)
    assert found is not None
    words = {"{value}": value, "{name}": name}
    return "".join(words.get(part, part) for part in re.split(r"(\{\w+\})", found[1]))


_NAMES = [
    *("Ape", "ape", " ape ", "\uff21pe", "Äpe", "brown ape", "Ape pet", "ape; wet", "car"),
    *("{value}", "{name} of", "🐒", "-"),
]
_TEXTS = st.sampled_from(_NAMES)


@st.composite
def named_things(draw: st.DrawFn) -> list[Line]:
    """Draw things with few names and colours among them."""
    found = []
    for n in range(10, 10 + draw(st.integers(1, 6))):
        claims = {
            "P462": draw(st.lists(st.sampled_from([*COLOURS]), max_size=2)),
            "P527": draw(st.lists(st.sampled_from([*TYPES, "Q10"]), max_size=1)),
            "P1843": [(text, "en") for text in draw(st.lists(_TEXTS, max_size=2))],
            "P225": draw(st.lists(_TEXTS, max_size=1)),
        }
        found.append(
            thing(
                f"Q{n}",
                draw(_TEXTS),
                aliases={"en": draw(st.lists(_TEXTS, max_size=3))},
                claims={p: values for p, values in claims.items() if values},
                of=draw(st.sampled_from([*TYPES, "Q1"])),
            )
        )
    return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(named_things())
def test_queries_are_what_entities_and_attributes_give(things: list[Line]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = built(Path(folder), things)
        found, expected = rows(out), expected_queries(out)
        lines = [json.loads(line) for line in (out / "queries.jsonl").read_bytes().splitlines()]
    assert [{k: v for k, v in row.items() if k != "query_hash"} for row in found] == expected
    assert len({row["query_hash"] for row in found}) == len(found)
    # what has no value is left out of a line
    assert lines == [{k: v for k, v in row.items() if v not in (None, [])} for row in found]
    event("ambiguous" if any(row["ambiguous_with"] for row in found) else "not ambiguous")


def test_reference_bug_12_names_with_separators_and_braces_stay_whole(tmp_path: Path) -> None:
    names = ["Cöd; wet", "a;;;b", "100 % {name}", "{value}", 'the "big" one', "x\ty"]
    fish = thing("Q10", "cod; {name}", aliases={"en": names}, claims={"P462": ["Q21"]})
    out = built(tmp_path, [fish])
    asked = ["cod; {name}", *names, "brown cod; {name}"]
    assert of(out, "Q10", "query") == asked
    assert of(out, "Q10", "or_terms")[0] == [*(name.lower() for name in names), "mammal"]
    lines = [json.loads(line) for line in (out / "queries.jsonl").read_bytes().splitlines()]
    assert [line["query"] for line in lines if line.get("entity") == "Q10"] == asked


@pytest.mark.parametrize("alias", ["🐕", "!?", "\u200b", "— …"])
def test_a_name_that_nobody_can_type_makes_no_query(alias: str, tmp_path: Path) -> None:
    out = built(tmp_path, [thing("Q10", "dog", aliases={"en": [alias, "犬"]})])
    assert of(out, "Q10", "query") == ["dog", "犬"]


# --------------------------------------------------------------------------------------------------
# The budget
# --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 6), max_size=40), st.integers(0, 45), st.randoms(use_true_random=False)
)
def test_a_budget_is_spent_to_the_last_and_evenly(
    owners: list[int], budget: int, random: Any
) -> None:
    pairs = np.array(owners, np.uint64)
    priorities = np.array([random.getrandbits(64) for _ in owners], np.uint64)
    taken = water_filled(pairs, priorities, budget)
    assert np.count_nonzero(taken) == min(budget, len(owners))
    has, has_left = Counter(pairs[taken].tolist()), Counter(pairs[~taken].tolist())
    for poor in has_left:  # nobody has two more than one that has some left
        assert max(has.values(), default=0) <= has[poor] + 1
    # of a pair those with the lowest numbers, whatever the order
    for owner in has_left:
        mine = pairs == owner
        if has[owner]:
            assert priorities[mine & taken].max() < priorities[mine & ~taken].min()
    order = np.array(random.sample(range(len(owners)), len(owners)), np.int64)
    shuffled = water_filled(pairs[order], priorities[order], budget)
    assert (shuffled == taken[order]).all()


def painted(count: int) -> list[Line]:
    """Make things, of which thing n has n colours, less than five."""
    return [
        thing(f"Q{n}", f"thing {n}", claims={"P462": [*COLOURS][: n % 5]}, of="Q1")
        for n in range(100, 100 + count)
    ]


def spent(out: Path) -> list[str]:
    return [row["query"] for row in rows(out) if row["query_type"].startswith("attribute")]


def test_a_budget_is_for_attributes_of_all_things_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built_with(name: str, budget: int, seed: int = 42, engines: str = "") -> list[str]:
        text = f"[queries]\nbudget = {budget}\nseed = {seed}\n{engines}"
        return spent(built(tmp_path, painted(10), text=text, name=name))

    everything = built_with("all", 1000)
    assert len(everything) == 20
    first = built_with("seven", 7)
    assert len(first) == 7
    # nobody twice while others have nothing: eight of the ten have a colour
    assert len({query.split(" ", 1)[1] for query in first}) == 7
    assert {*first} < {*built_with("ten", 10)} < {*everything}
    assert built_with("other", 10, seed=7) != built_with("ten", 10)
    # a query for each of two engines is asked once
    twice = built_with("engines", 7, engines='engines = ["google", "bing"]\n')
    assert [*dict.fromkeys(twice)] == first
    assert len(twice) == 14
    monkeypatch.setattr("graph.write_queries._BATCH", 3)
    assert built_with("batched", 7) == first


def test_a_budget_of_nothing_leaves_the_names(tmp_path: Path) -> None:
    out = built(tmp_path, painted(5), text="[queries]\nbudget = 0\n")
    assert {row["query_type"] for row in rows(out)} == {"name"}
    counts = json.loads((out / "manifest.json").read_text())["counts"]["queries"]
    assert counts["over_budget"] == 10


def test_reference_bug_4_fewer_attributes_than_the_budget_are_all_kept(tmp_path: Path) -> None:
    out = built(tmp_path, painted(5), text="[queries]\nbudget = 92000\n")
    assert len(spent(out)) == 10
    assert json.loads((out / "manifest.json").read_text())["counts"]["queries"]["over_budget"] == 0


# --------------------------------------------------------------------------------------------------
# Other bugs of the reference
# --------------------------------------------------------------------------------------------------


def test_reference_bug_7_what_a_filter_rejects_is_asked_for_nowhere(tmp_path: Path) -> None:
    brown = {"P462": ["Q21"]}
    things = [
        thing("Q10", "dog", claims=brown, links=9),
        # not visual
        thing("Q11", "idea", links=1, claims={**brown, "P279": ["Q6", "Q151885"]}),
        thing("Q12", "griffin", of="Q6", claims={**brown, "P31": ["Q99"]}),  # subtracted
        thing("Q13", "cat", claims={"P462": ["Q22"]}, links=8),  # beyond the limit
        thing("Q14", None, claims={"P462": ["Q22"]}),  # without a name
    ]
    minus = 'minus = [{ path = "P31", of = ["Q99"] }]\nlimit = 1\n'
    root = f'[[root]]\nid = "Q1"\nany = [{{ path = "P279/P279+" }}]\n{minus}'
    out = built(tmp_path, things, root=root)
    assert [row["id"] for row in rows(out, "entities")] == ["Q10"]
    assert {row["query"] for row in rows(out)} == {"dog", "brown dog", "brown mammal"}
    # and what is kept and doesn't show is an entity without queries, also of its type
    out = built(tmp_path, things[:2], root=root.replace(minus, ""), name="all")
    assert [row["id"] for row in rows(out, "entities")] == ["Q10", "Q11"]
    assert {row["query"] for row in rows(out)} == {"dog", "brown dog", "brown mammal"}


def test_reference_bug_8_without_a_type_there_is_no_query_for_one(tmp_path: Path) -> None:
    out = built(tmp_path, [thing("Q10", "dog", of="Q1", claims={"P462": ["Q21"]})])
    (dog,) = (row for row in rows(out, "entities") if row["id"] == "Q10")
    assert dog["natural_type"] is None
    assert of(out, "Q10", "query", "query_type", "entity_type", "or_terms") == [
        ("dog", "name", None, []),
        ("brown dog", "attribute_name", None, []),
    ]
    assert {row["query_type"] for row in rows(out)} == {"name", "attribute_name"}


def test_reference_bug_13_instances_stand_beside_subclasses_and_rejected_roots_are_gone(
    tmp_path: Path,
) -> None:
    things = [
        thing("Q10", "dog"),
        entity("Q11", label="Rex", claims={"P31": ["Q10"], "P18": ["A.jpg"]}),
        entity("Q12", label="fable dog", claims={"P279": ["Q10", "Q24334299"]}),
    ]
    root = (
        '[[root]]\nid = "Q4"\nany = [{ path = "P279+" }, { path = "P31/P279*" }]\n'
        'minus = [{ path = "P31?/P279*", of = ["Q24334299"] }]\n'
    )
    out = built(tmp_path, things, root=root)
    via = {row["entity"]: row["via"] for row in rows(out, "memberships")}
    assert via == {"Q10": "1: P279+", "Q11": "2: P31/P279*"}
    assert {row["query"] for row in rows(out)} == {"dog", "Rex"}


# --------------------------------------------------------------------------------------------------
# What a dump may hold, and recipes of several kinds
# --------------------------------------------------------------------------------------------------


def test_a_thing_of_a_thousand_names_makes_no_million_words(tmp_path: Path) -> None:
    names = [f"name number {n}" for n in range(1000)]
    out = built(tmp_path, [thing("Q50", "cat", aliases={"en": names})])
    found = of(out, "Q50", "query", "or_terms")
    assert [query for query, _ in found] == ["cat", *names[:100]]
    assert max(len(words) for _, words in found) == 30


def test_a_text_as_long_as_a_page_is_not_searched_for(tmp_path: Path) -> None:
    page = "word " * 200
    things = [thing("Q50", page, aliases={"en": ["tom", page]}), thing("Q51", "cat")]
    out = built(tmp_path, things)
    assert of(out, "Q50", "query", "or_terms") == [("tom", ["mammal"])]
    assert of(out, "Q51", "query") == ["cat"]


@pytest.mark.parametrize("alias", ["W", "os", " ", ""])
def test_nothing_is_found_by_a_letter_or_two(alias: str, tmp_path: Path) -> None:
    out = built(tmp_path, [thing("Q50", "cat", aliases={"en": [alias, "\u732b"]})])
    assert of(out, "Q50", "query") == ["cat", "\u732b"]
    assert "" not in of(out, "Q50", "or_terms")[0]


def test_texts_that_differ_in_their_ends_only_are_two(tmp_path: Path) -> None:
    long = "x" * 245
    parts = [entity("Q31", label="part one"), entity("Q32", label="part two")]
    out = built(tmp_path, [*parts, thing("Q50", long, claims={"P527": ["Q31", "Q32"]})])
    assert [q for q in of(out, "Q50", "query") if " with " in q] == [
        f"{long} with part one",
        f"{long} with part two",
    ]


def test_a_text_told_apart_that_is_what_another_is_called_is_flagged_too(tmp_path: Path) -> None:
    things = [thing("Q50", "Rex"), thing("Q51", "Rex", of="Q6"), thing("Q52", "rex mammal")]
    out = built(tmp_path, things)
    columns = ("query", "ambiguous_with")
    assert of(out, "Q50", *columns) == [("Rex mammal", ["Q51", "Q52"])]
    assert of(out, "Q51", *columns) == [("Rex car", ["Q50"])]
    assert of(out, "Q52", *columns) == [("rex mammal", ["Q50"])]


def mixed(folder: Path, rules: str) -> Path:
    """Build a data set of two recipes, one of them by the reference's rules."""
    brown = {"P462": ["Q21"]}
    things = [thing("Q50", "Rex", of="Q3", claims=brown, aliases={"en": ["Rexy"]})]
    things += [thing("Q51", "Rex", of="Q6", claims=brown, aliases={"en": ["the car"]})]
    (folder / "out").mkdir(parents=True)
    for name, root, extra in (("ours", "Q3", ""), ("theirs", "Q6", f'rules = "{rules}"\n')):
        text = f'{extra}[[root]]\nid = "{root}"\nany = [{{ path = "P279*" }}]\n'
        recipe_of(folder / "out", text, name)
    return built(folder, things, text='include = ["ours.toml", "theirs.toml"]\n', root="")


def test_each_part_of_a_recipe_keeps_its_rules(tmp_path: Path) -> None:
    out = mixed(tmp_path, "reference-world")
    assert of(out, "Q50", "query", "ambiguous_with")[0] == ("Rex pet", ["Q51"])
    assert of(out, "Q51", "query", "or_terms", "exclude") == [("Rex", [], []), ("the car", [], [])]
    # by the reference a model writes attribute queries, and none is for a type of the world's
    assert [r["query"] for r in rows(out) if r["query_type"] == "attribute_type"] == ["brown pet"]


def test_two_recipes_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        recipe_of(tmp_path / folder, ROOT + f"limit = {len(folder) + ord(folder)}\n", "part")
    both = recipe_of(tmp_path, 'include = ["a/part.toml", "b/part.toml"]')
    with pytest.raises(UserError, match="two of the recipes that it unites have the name 'part'"):
        recipes.load(both)


def test_explain_gives_every_row_of_a_built_thing_by_the_store_and_by_the_tables(
    tmp_path: Path,
) -> None:
    things = [
        thing("Q50", "Rex", claims={"P462": ["Q21"], "P527": ["Q53"]}, aliases={"en": ["Rexy"]}),
        entity("P77", label="a property", claims={"P361": ["Q50"]}),  # no part that is seen
        entity("Q53", label="tail", claims={"P361": ["Q50"]}),
    ]
    out = built(tmp_path, things)
    by_store = explain_built(out, "Q50", out.parent / "store").derived
    by_tables = explain_built(out, "Q50").derived
    assert by_store is not None
    assert by_tables is not None
    texts = sorted(row["query"] for row in rows(out) if row["entity"] in ("Q50", None))
    assert sorted(query.query for query in by_store.queries) == texts
    for query in by_tables.queries:
        assert query in by_store.queries
    assert [(a.property, a.value_id) for a in by_store.attributes] == [
        ("P462", "Q21"),
        ("P527", "Q53"),
        ("^P361", "Q53"),
    ]
    assert by_tables.visuality == by_store.visuality


def test_a_whole_of_thousands_of_parts_is_explained_without_them(tmp_path: Path) -> None:
    parts = [entity(f"Q{n}", label=f"part {n}", claims={"P361": ["Q50"]}) for n in range(100, 2200)]
    out = built(tmp_path, [thing("Q50", "Rex"), *parts])
    found = explain_built(out, "Q50", out.parent / "store").derived
    assert found is not None
    assert found.parts_left_out == 2100
    assert len(rows(out, "attributes")) == 10


def test_of_two_values_of_one_name_the_tables_name_the_right_statement(tmp_path: Path) -> None:
    wheels = [entity("Q8", label="wheel"), entity("Q9", label="wheel")]
    cart = thing("Q50", "cart", claims={"P361": ["Q9"], "P527": ["Q8"]})
    out = built(tmp_path, [*wheels, cart])
    found = explain_built(out, "Q50").derived
    assert found is not None
    reasons = {query.query: query.reason for query in found.queries}
    assert reasons["cart of wheel"] == "Q50 P361 Q9"
    assert reasons["cart with wheel"] == "Q50 P527 Q8"
