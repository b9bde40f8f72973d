"""What a query's texts are and how likely: the reference's figures, and what it got wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UserError
from tests.training.plain_texts import Thing, attribute_texts, noun_texts
from training.text_options import AttributeChances, TextFilter, TextOptions
from training.text_rules import (
    ALIAS,
    ANCESTOR,
    ANCESTOR_DESCRIPTION,
    NAME,
    SOURCES,
    TYPE,
    TYPE_DESCRIPTION,
    Parent,
    Subject,
    Text,
    parents,
    split_at_name,
    texts_of,
)

REFERENCE = TextOptions.reference()


def subject(*names: str, about: Sequence[str] = (), type_id: str | None = None) -> Subject:
    kinds = (NAME, *[ALIAS] * (len(names) - 1))[: len(names)]
    return Subject(f"Q{crc32(repr(names).encode())}", names, kinds, tuple(about), type_id)


def only_type(type_: Subject) -> list[Parent]:
    return parents(type_, (), REFERENCE)


def by_source(texts: Sequence[Text]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for text in texts:
        (name,) = (name for bit, name in enumerate(SOURCES) if text.sources >> bit & 1)
        found[name] += text.probability
    return dict(found)


# --- the reference's figures ---------------------------------------------------------------------

THING = subject("oud", "ud", "lute", about=["a lute of the east"], type_id="Q34379")
LION = subject("lion", "lioness", "king of beasts", about=["a big cat"], type_id="Q729")
INSTRUMENT = subject("instrument", "sound maker", about=["makes music"])
ANIMAL = subject("animal", "beast", about=["lives and moves"])

# docs: entitynet.md, 1M: query, names, parents' names, descriptions, parents' descriptions
NON_LIVING = (0.4 / 1.1, 0.48 / 1.1, 0.12 / 1.1, 0.08 / 1.1, 0.02 / 1.1)
LIVING = (0.4 / 1.1, 0.54 / 1.1, 0.06 / 1.1, 0.09 / 1.1, 0.01 / 1.1)


@pytest.mark.parametrize(
    ("thing", "type_", "shares", "printed"),
    [
        (THING, INSTRUMENT, NON_LIVING, (36.4, 43.6, 10.9, 7.3, 1.8)),
        (LION, ANIMAL, LIVING, (36.4, 49.1, 5.5, 8.2, 0.9)),
    ],
)
def test_a_noun_query_has_the_references_shares(
    thing: Subject, type_: Subject, shares: tuple[float, ...], printed: tuple[float, ...]
) -> None:
    made = texts_of("what was asked", "name", None, thing, only_type(type_), REFERENCE)
    found = by_source(made)
    assert [
        found["query"],
        found["name"] + found["alias"],
        found["natural_type"],
        found["description"],
        found["natural_type_description"],
    ] == pytest.approx(shares, abs=1e-15)
    assert [round(100 * share, 1) for share in shares] == list(printed)


@pytest.mark.parametrize("kind", ["attribute_type", "attribute_name"])
def test_an_attribute_query_has_the_references_shares(kind: str) -> None:
    made = texts_of("oud of wood", kind, "wood", THING, only_type(INSTRUMENT), REFERENCE)
    parts = {
        "query_with_name": 0.2 * 0.8 * 2 / 3,  # with "oud" it is the query itself
        "query_with_parent": 0.2 * 0.2,
        "attribute_and_name": 0.2 * 0.8,
        "attribute_and_parent": 0.2 * 0.2,
        "attribute": 0.2,
        "name": 0.2 * 0.8 / 3,
        "alias": 0.2 * 0.8 * 2 / 3,
        "natural_type": 0.2 * 0.2,
        "description": 0.05 * 0.8,
        "natural_type_description": 0.05 * 0.2,
    }
    both = [t for t in made if t.text == "oud of wood"]
    assert both[0].probability == pytest.approx((1 + 0.2 * 0.8 / 3) / 1.85)
    rest = by_source([t for t in made if t.text != "oud of wood"])
    assert rest == pytest.approx({name: share / 1.85 for name, share in parts.items()})


def all_sources(text: Text) -> set[str]:
    return {name for bit, name in enumerate(SOURCES) if text.sources >> bit & 1}


# --- bug 9 of the reference ----------------------------------------------------------------------


def test_the_same_text_from_several_groups_has_the_sum_and_all_sources() -> None:
    made = texts_of("oud", "name", None, THING, only_type(subject("lute", "kit")), REFERENCE)
    found = {text.text: text for text in made}
    total = 1.1 - 0.1 * 0.2  # the type has no description
    assert found["oud"].probability == pytest.approx((0.4 + 0.48 / 3) / total)
    assert all_sources(found["oud"]) == {"query", "name"}
    assert found["lute"].probability == pytest.approx((0.48 / 3 + 0.12 / 2) / total)
    assert all_sources(found["lute"]) == {"alias", "natural_type"}


def test_the_guard_against_likely_names_looks_at_the_entitys_own() -> None:
    """One name would have 0.6 and the query 0.4: then both have 0.5."""
    one = by_source(texts_of("q", "name", None, subject("oud"), (), REFERENCE))
    assert one["query"] == pytest.approx(0.5 / (0.5 + 0.5 * 0.8))
    two = by_source(texts_of("q", "name", None, subject("oud", "ud"), (), REFERENCE))
    assert two["query"] == pytest.approx(0.4 / (0.4 + 0.6 * 0.8))


def test_who_wants_names_alone_gets_names_alone() -> None:
    options = TextOptions.reference(noun_names=1.0, noun_descriptions=0.0)
    made = texts_of("q", "name", None, subject("oud"), (), options)
    assert made == [Text("oud", 1.0, NAME)]


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "names", "pieces"),
    [
        ("black cat", ["cat"], ["black ", ""]),
        ("scattered catkins", ["cat"], None),
        ("Cat, asleep", ["cat"], ["", ", asleep"]),
        ("a cat's paw", ["cat"], ["a ", "'s paw"]),
        ("a cat’s paw", ["cat"], ["a ", "’s paw"]),
        ("a 'cat' (cat) [cat] \"cat\".", ["cat"], ["a '", "' (", ") [", '] "', '".']),
        ("a cat.", ["cat"], ["a ", "."]),
        ("cat and cat", ["cat"], ["", " and ", ""]),
        ("cat-like", ["cat"], None),
        ("a T-shirt", ["T"], None),
        ("C++ book", ["C"], None),
        ("C++ book", ["C", "C++"], ["", " book"]),
        ("Yahoo! sign", ["Yahoo!"], ["", " sign"]),
        ("O'Neill cylinder", ["O"], None),
        (".303 British round", [".303 British"], ["", " round"]),
        ("St. Bernard at rest", ["St. Bernard", "Bernard"], ["", " at rest"]),
        ("a Labrador retriever's nose", ["labrador", "Labrador Retriever"], ["a ", "'s nose"]),
        ("schöne Äpfel", ["äpfel"], ["schöne ", ""]),
        ("рыжий кот спит", ["Кот"], ["рыжий ", " спит"]),
        ("котик", ["кот"], None),
        ("cafe\u0301 table", ["cafe"], None),  # the accent is a part of the word
        ("İstanbul cat", ["cat"], ["İstanbul ", ""]),
        ("İstanbul Cat", ["cat"], None),  # case can't be compared place by place
        ("dog", [], None),
        ("", ["dog"], None),
        ("dog", [""], None),
    ],
)
def test_names_are_replaced_as_words(
    query: str, names: list[str], pieces: list[str] | None
) -> None:
    assert split_at_name(query, names) == pieces


def test_the_query_is_made_with_each_name_in_place_of_the_name() -> None:
    made = texts_of("red oud", "attribute_name", "red", THING, only_type(INSTRUMENT), REFERENCE)
    texts = {text.text for text in made}
    assert {"red ud", "red lute", "red instrument", "ud red", "red"} <= texts


# --- what stands above ---------------------------------------------------------------------------


def test_ancestors_weigh_by_their_distance() -> None:
    near, far, other = subject("canine"), subject("mammal"), subject("beast")
    found = parents(ANIMAL, [(1, near), (3, far), (3, other)], TextOptions())
    assert {p.subject.names[0]: p.share for p in found} == pytest.approx(
        {"animal": 0.5, "canine": 0.5 * 4 / 5, "mammal": 0.5 / 10, "beast": 0.5 / 10}
    )
    assert [p.name for p in found] == [TYPE, ANCESTOR, ANCESTOR, ANCESTOR]


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        (TextOptions.reference(), {"animal": 1.0}),
        (TextOptions(natural_type_share=0), {"canine": 2 / 3, "mammal": 1 / 3}),
        (TextOptions(natural_type_share=0, ancestor_decay=0), {"canine": 1.0}),
        (TextOptions(ancestor_decay=1), {"animal": 0.5, "canine": 0.25, "mammal": 0.25}),
    ],
)
def test_how_the_parents_share_is_spread_may_be_chosen(
    options: TextOptions, shares: dict[str, float]
) -> None:
    found = parents(ANIMAL, [(1, subject("canine")), (2, subject("mammal"))], options)
    assert {p.subject.names[0]: p.share for p in found} == pytest.approx(shares)


def test_a_natural_type_that_is_an_ancestor_has_both_shares() -> None:
    (both,) = parents(ANIMAL, [(2, ANIMAL)], TextOptions())
    assert both.share == pytest.approx(1)
    assert (both.name, both.description) == (
        TYPE | ANCESTOR,
        TYPE_DESCRIPTION | ANCESTOR_DESCRIPTION,
    )


def test_where_there_is_but_one_kind_of_parent_it_has_all() -> None:
    assert [p.share for p in parents(ANIMAL, (), TextOptions())] == [1.0]
    assert [p.share for p in parents(None, [(2, ANIMAL)], TextOptions())] == [1.0]
    assert parents(None, (), TextOptions()) == []
    assert parents(None, [(2, ANIMAL)], REFERENCE) == []


# --- everything, beside the slow twin ------------------------------------------------------------

WORD = st.sampled_from(["dog", "hound", "Dog", "dogs", "big dog", "cat", "a.b", "dog's", "ox"])
NAMES = st.lists(WORD, max_size=4, unique=True)
ABOUT = st.lists(st.sampled_from(["barks", "dog", "moves"]), max_size=1)


@st.composite
def things(draw: st.DrawFn) -> Subject:
    return subject(*draw(NAMES), about=draw(ABOUT), type_id=draw(st.sampled_from([None, "Q729"])))


@given(
    query=st.lists(WORD, min_size=1, max_size=3).map(" ".join),
    kind=st.sampled_from(["name", "alias", "attribute_type", "attribute_name"]),
    thing=things(),
    above=st.lists(st.tuples(things(), st.integers(1, 9)), max_size=3),
)
def test_texts_are_those_of_the_rules(
    query: str, kind: str, thing: Subject, above: list[tuple[Subject, int]]
) -> None:
    total = sum(weight for _, weight in above)
    shares = [(Fraction(weight, total), _plain(one)) for one, weight in above]
    given_ = [Parent(weight / total, one, TYPE, TYPE_DESCRIPTION) for one, weight in above]
    made = texts_of(query, kind, "brown", thing, given_, REFERENCE)
    h = Fraction(1, 10) if thing.type_id == "Q729" else Fraction(1, 5)
    if kind in ("name", "alias"):
        expected = noun_texts(query, _plain(thing), shares, h)
    else:
        expected = attribute_texts(query, "brown", _plain(thing), shares, h)
    assert {t.text: t.probability for t in made} == pytest.approx(
        {text: float(share) for text, share in expected.items()}, rel=1e-12
    )
    assert len({t.text for t in made}) == len(made)
    assert math.fsum(t.probability for t in made) == pytest.approx(1, abs=1e-12)


def _plain(thing: Subject) -> Thing:
    return Thing(thing.names, thing.descriptions)


@given(
    names=st.lists(st.text(), max_size=4),
    about=st.none() | st.text(),
    query=st.text(),
    attribute=st.none() | st.text(),
    kind=st.sampled_from(["name", "alias", "attribute_type", "attribute_name", "new"]),
    options=st.builds(
        TextOptions,
        noun_names=st.floats(0, 1),
        noun_descriptions=st.floats(0, 1e6),
        parents=st.floats(0, 1),
        natural_type_share=st.floats(0, 1),
        ancestor_decay=st.floats(0, 1),
        attribute_name=st.builds(AttributeChances, query=st.floats(0, 9), names=st.floats(0, 9)),
    ),
)
def test_whatever_the_texts_and_the_options_probabilities_sum_to_one(
    names: list[str],
    about: str | None,
    query: str,
    attribute: str | None,
    kind: str,
    options: TextOptions,
) -> None:
    row = {
        "id": "Q1", "name": names[0] if names else None, "aliases": names[1:], "common_names": None,
        "taxon_names": [], "description": about, "natural_type": None, "natural_type_name": None,
        "roots": None,
    }  # fmt: skip
    thing = Subject.of_row(row)
    above = parents(ANIMAL, [(1, thing), (2, LION)], options)
    made = texts_of(query, kind, attribute, thing, above, options)
    assert not made or math.fsum(t.probability for t in made) == pytest.approx(1, abs=1e-9)
    assert all(t.probability >= 0 and t.text == " ".join(t.text.split()) != "" for t in made)


def test_of_nothing_there_are_no_texts() -> None:
    assert texts_of("", "name", None, Subject("Q1"), (), TextOptions()) == []
    assert texts_of("", "attribute_name", None, Subject("Q1"), (), TextOptions()) == []


def test_names_that_no_search_could_do_with_are_left_out() -> None:
    row = {
        "id": "Q1", "name": " a\tname\x1b ", "aliases": ["x" * 251, "", *map(str, range(200))],
        "common_names": [], "taxon_names": ["a name"], "description": " \n",
        "natural_type": None, "natural_type_name": None, "roots": [],
    }  # fmt: skip
    thing = Subject.of_row(row)
    assert thing.names[:3] == ("a name", "0", "1")
    assert len(thing.names) == 100
    assert thing.descriptions == ()


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alt_text_chance": 1.5}, "alt_text_chance: 1.5 is not a share from 0 to 1."),
        ({"noun_descriptions": -1}, "noun_descriptions: -1 is not a weight of 0 or more."),
        ({"noun_descriptions": math.inf}, "noun_descriptions: inf is not a weight"),
        ({"attribute_type": AttributeChances(pairs=math.nan)}, "attribute_type.pairs: nan"),
        ({"ancestor_steps": 11}, "ancestor_steps: 11 is not steps from 0 to 10."),
        ({"ancestor_min_sitelinks": -1}, "ancestor_min_sitelinks: -1 is not 0 or more."),
        ({"general_types": ("animal",)}, "general_types: 'animal' is not items such as Q729."),
        ({"prompts": ("a photo",), "prompt_chance": 1}, "prompts: 'a photo' is not texts with one"),
        ({"prompt_chance": 0.5}, "there are no prompts"),
    ],
)
def test_an_option_that_makes_no_sense_is_told(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as told:
        TextOptions(**options)  # type: ignore[arg-type]
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"op": "some"}, "op: 'some' is not one of any, all."),
        ({"skip_types": ("noun",)}, "skip_types: 'noun' is not one of name, alias"),
        ({"skip_engines": ("altavista",)}, "skip_engines: 'altavista' is not one of google, bing."),
        ({"skip_alt_text": "some"}, "skip_alt_text: 'some' is not one of alt, noalt."),
        ({"keep_roots": ("animal",)}, "keep_roots: 'animal' is not items such as Q729."),
    ],
)
def test_a_filter_that_makes_no_sense_is_told(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as told:
        TextFilter(**options)  # type: ignore[arg-type]
    assert sentence in str(told.value)
