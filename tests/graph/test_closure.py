"""One closure: ids in order, what is not there, and properties that can't be walked."""

from __future__ import annotations

import pytest

from etl.errors import UserError
from graph.closure import closure
from tests.graph.small_dump import entity, ranked, store_of


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(
        tmp_path_factory.mktemp("closure"),
        [
            entity("P31", datatype="wikibase-item"),
            entity("P225", datatype="string"),
            entity("P9", datatype="wikibase-item", claims={"P279": ["Q1"]}),
            entity("P1000", datatype="wikibase-item", claims={"P279": ["Q1"]}),
            entity("Q1"),
            entity("Q30", claims={"P279": ["Q2", None]}),
            entity("Q2", claims={"P279": ["Q1"], "P31": ["Q404"]}),
            entity("Q4", claims={"P279": [ranked("Q1", "deprecated")]}),
            entity("Q5", claims={"P31": ["Q30"]}),
        ],
    )


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        ("Q1", "P279*", ["P9", "P1000", "Q1", "Q2", "Q30"]),
        ("Q1", "P279+", ["P9", "P1000", "Q2", "Q30"]),
        ("Q1", "wdt:P31 / wdt:P279*", ["Q5"]),
        ("Q5", "^P31/^P279*", ["Q30"]),
        ("Q30", "^P31", []),
        ("Q5", "^P31", ["Q30"]),
        ("Q2", "^(P31/P279)", []),
        ("Q5", "^(P31/P279)", ["Q2"]),
    ],
)
def test_a_closure_is_in_key_order(store, target, path, expected):
    found = closure(store, target, path)
    assert list(found) == expected
    assert len(found) == len(expected)
    assert found.target_known


def test_an_id_without_a_record_has_what_others_say_of_it(store):
    found = closure(store, "Q404", "P31")
    assert list(found) == ["Q2"]
    assert not found.target_known


def test_a_path_of_length_zero_leads_to_itself_even_where_nothing_is_known(store):
    found = closure(store, "Q405", "P279*")
    assert list(found) == ["Q405"]
    assert not found.target_known
    assert list(closure(store, "Q405", "P279+")) == []


@pytest.mark.parametrize(
    ("target", "path", "error"),
    [
        ("Q1", "P279**", "--path: a second modifier '*'"),
        ("Q1", "P279|P901|P902", "--path: P901, P902 was not kept by this store: run `sparqless "),
        ("Q1", "P225", "a path can't walk P225: its values are of datatype 'string', not items"),
        ("dog", "P279", "'dog' is not an item or property id"),
    ],
)
def test_what_cannot_be_walked_is_refused(store, target, path, error):
    with pytest.raises(UserError) as raised:
        closure(store, target, path)
    assert str(raised.value).startswith(error)
