"""Property paths: what is a path, how it binds, what it matches, and what errors look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UserError
from graph.paths import (
    MAX_NESTING,
    MAX_PROPERTIES,
    Alternative,
    Chain,
    Inverse,
    Path,
    Property,
    Repeat,
    alternatives,
    automaton,
    parse,
    properties,
)

PROPERTIES = st.sampled_from([Property("P31"), Property("P279"), Property("P171")])
TREES: st.SearchStrategy[Path] = st.recursive(
    PROPERTIES,
    lambda inner: st.one_of(
        st.builds(Inverse, inner),
        st.builds(Repeat, inner, st.sampled_from("*+?")),
        st.builds(Chain, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Alternative, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_tree_written_and_parsed_is_the_same_tree(tree):
    assert parse(str(tree)) == tree


@given(TREES, st.sampled_from([" ", "\t", "\n", "  "]))
def test_white_space_means_nothing(tree, blank):
    text = str(tree)
    for sign in "/|*+?^()":
        text = text.replace(sign, f"{blank}{sign}{blank}")
    assert parse(text) == tree


P1, P2, P3 = Property("P1"), Property("P2"), Property("P3")


# SPARQL 1.1 §9.1: "The order of precedence is, from highest to lowest: IRI, prefixed names;
# negated property sets; groups; unary operators *, ? and +; unary ^ inverse links; binary
# operator /; binary operator |.  Precedence is left-to-right within groups."
@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("P1|P2/P3", Alternative((P1, Chain((P2, P3))))),
        ("P1/P2|P3", Alternative((Chain((P1, P2)), P3))),
        ("(P1|P2)/P3", Chain((Alternative((P1, P2)), P3))),
        ("P1/P2*", Chain((P1, Repeat(P2, "*")))),
        ("(P1/P2)*", Repeat(Chain((P1, P2)), "*")),
        ("^P1*", Inverse(Repeat(P1, "*"))),
        ("(^P1)*", Repeat(Inverse(P1), "*")),
        ("^P1/P2", Chain((Inverse(P1), P2))),
        ("^(P1/P2)", Inverse(Chain((P1, P2)))),
        ("P1|P2|P3", Alternative((P1, P2, P3))),
        ("wdt:P1+/ wdt:P2?", Chain((Repeat(P1, "+"), Repeat(P2, "?")))),
        ("((P1))", P1),
    ],
)
def test_signs_bind_as_sparql_says(text, tree):
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "sentence", "caret"),
    [
        ("", "a path is empty: write one or more properties, such as P31/P279*", 0),
        ("  ", "a path is empty: write one or more properties, such as P31/P279*", 2),
        ("P31//P279", "expected a property such as P31, '(' or '^' here", 4),
        ("P31/", "the path ends where a property, '(' or '^' must follow", 4),
        ("P31|", "the path ends where a property, '(' or '^' must follow", 4),
        ("*P31", "expected a property such as P31, '(' or '^' here", 0),
        ("(P31|P279", "this '(' is never closed: add ')'", 0),
        ("(P31 P279)", "expected '/', '|' or ')' here", 5),
        ("P31)", "this ')' closes nothing: remove it or open one before it", 3),
        ("P31 P279", "expected '/', '|' or the path's end here", 4),
        ("P31**", "a second modifier '*': put the first in brackets, as in (P279+)*", 4),
        ("^^P31", "expected a property such as P31, '(' or '^' here", 1),
        ("P31/p279", "'p279' is not a property id: write one such as P31 or wdt:P31", 4),
        ("Q5", "'Q5' is not a property id: write one such as P31 or wdt:P31", 0),
        ("P031", "'P031' is not a property id: write one such as P31 or wdt:P31", 0),
        ("wd:P31", "'wd:P31' is not a property id: write one such as P31 or wdt:P31", 0),
        ("P31/!P279", "expected a property such as P31, '(' or '^' here", 4),
    ],
)
def test_an_error_has_a_caret_under_the_wrong_character(text, sentence, caret):
    with pytest.raises(UserError) as error:
        parse(text, "my.toml: [[root]] 1 (Q5), any 1")
    assert str(error.value).split("\n") == [
        f"my.toml: [[root]] 1 (Q5), any 1: {sentence}",
        f"    {text}",
        f"    {' ' * caret}^",
    ]


def test_the_caret_stands_right_after_characters_that_cannot_be_printed():
    with pytest.raises(UserError) as error:
        parse("P31\t/\n\x1b[1mP279")
    assert str(error.value).split("\n")[1:] == ["    P31 / ?[1mP279", "          ^"]


@given(st.text(alphabet="P319/|*+?^() \t!é", max_size=12))
def test_any_text_is_a_path_or_an_error_with_a_caret_inside_it(text):
    try:
        parse(text)
    except UserError as error:
        shown, caret = str(error).split("\n")[-2:]
        assert len(caret) <= len(shown) + 1
        assert caret.strip() == "^"


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "(" * (MAX_NESTING + 1) + "P31", "/".join(["P31"] * 10_000)]
)
def test_a_path_of_no_sensible_size_is_refused(text):
    with pytest.raises(UserError):
        parse(text)


def test_the_largest_path_allowed_compiles():
    tree = parse("(" + "|".join(f"P{n}" for n in range(1, MAX_PROPERTIES + 1)) + ")+")
    assert automaton([tree], [0]).states == 2


def test_properties_and_branches_of_a_path():
    tree = parse("(P1582|^P1672)/((P31/P279*)|P279+)")
    assert list(properties(tree)) == ["P1582", "P1672", "P31", "P279", "P279"]
    branches = alternatives(parse("(P31/P279*)|(P279+|P171+)|^P31"))
    assert [str(b) for b in branches] == ["P31/P279*", "P279+", "P171+", "^P31"]


@pytest.mark.parametrize(
    ("texts", "states"),
    [
        (["P279*"], 1),
        (["P31/P279*"], 2),
        (["P31/P279*", "P279+"], 3),  # two starts, and P279* is walked once for both
        (["P279+", "P279+"], 2),
        (["P31/P279?/P31"], 4),
    ],
)
def test_states_with_the_same_future_are_one(texts, states):
    machine = automaton([parse(text) for text in texts], [0] * len(texts))
    assert machine.states == states


def test_paths_with_ends_of_their_own_share_no_accepting_state():
    machine = automaton([parse("P279+"), parse("P31/P279*")], [0, 1])
    assert sorted(c for c in machine.accepts if c is not None) == [0, 1]
