"""A built graph: what every rule keeps and takes away, columns, order, what a failure leaves."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import graph.build
from etl.errors import UserError
from graph.build import build
from graph.directory import BUILDING, OUTPUTS, building
from graph.recipe import load
from tests.graph.small_dump import entity, ranked, recipe_of, store_of

ANIMALS = [
    entity("P279", datatype="wikibase-item"),
    entity("Q1", label="animal"),
    entity("Q2", label="mammal", claims={"P279": ["Q1"]}),
    entity("Q10", label="dog", claims={"P279": ["Q2", "Q3"]}),
    entity("Q3", label="pet", claims={"P279": ["Q1"]}),
    entity("Q11", label="rex", claims={"P31": ["Q10"]}),
]


def rows(out, name="entities"):
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def built(tmp_path, entities, recipe, *, name="out", **options):
    """Make a store and a graph of it; return the graph's directory."""
    store = store_of(tmp_path / "data", entities)
    out = tmp_path / name
    build(store, load(recipe_of(tmp_path, recipe)), out, quiet=True, **options)
    return out


def ids(out):
    return [row["id"] for row in rows(out)]


ONE = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'


def test_the_columns_are_those_of_the_design(tmp_path):
    out = built(tmp_path, ANIMALS, ONE)
    strings = pa.list_(pa.field("element", pa.string()))
    assert pq.read_schema(out / "entities.parquet").remove_metadata() == pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("name_lang", pa.string()),
            ("description", pa.string()),
            ("aliases", strings),
            ("common_names", strings),
            ("taxon_names", strings),
            ("sitelinks", pa.int32()),
            ("images", strings),
            ("roots", strings),
            ("depths", pa.list_(pa.field("element", pa.int32()))),
            ("parents", strings),
            ("recipe", pa.string()),
            ("natural_type", pa.string()),
            ("natural_type_name", pa.string()),
            ("natural_type_reason", pa.string()),
            ("visual", pa.bool_()),
            ("visual_reason", pa.string()),
            ("revision", pa.int64()),
        ]
    )
    assert pq.read_schema(out / "memberships.parquet").remove_metadata() == pa.schema(
        [
            ("root", pa.string()),
            ("entity", pa.string()),
            ("depth", pa.int32()),
            ("via", pa.string()),
            ("path", strings),
        ]
    )
    assert pq.read_schema(out / "hierarchy.parquet").remove_metadata() == pa.schema(
        [("child", pa.string()), ("property", pa.string()), ("parent", pa.string())]
    )


def test_an_entity_row_has_what_its_record_says(tmp_path):
    dog = entity(
        "Q10",
        label="dog",
        links=3,
        revision=77,
        descriptions={"en": "a pet", "mul": "other"},
        aliases={"en": ["hound", "Canis"], "mul": ["x"]},
        claims={
            "P279": ["Q2", "Q3"],
            "P18": ["Second.jpg", ranked("Best one.jpg", "preferred")],
            "P225": ["Canis familiaris"],
            "P1843": [("Hund", "de"), ("doggy", "en"), ("pooch", "mul")],
        },
    )
    out = built(tmp_path, [*ANIMALS[:3], dog, *ANIMALS[4:]], ONE)
    (row,) = [row for row in rows(out) if row["id"] == "Q10"]
    assert row == {
        "id": "Q10",
        "name": "dog",
        "name_lang": "en",
        "description": "a pet",
        "aliases": ["hound", "Canis"],
        "common_names": ["doggy", "pooch"],
        "taxon_names": ["Canis familiaris"],
        "sitelinks": 3,
        "images": ["Best one.jpg"],
        "roots": ["Q1"],
        "depths": [2],
        "parents": ["Q2", "Q3"],
        "recipe": "test",
        "natural_type": "Q2",
        "natural_type_name": "mammal",
        "natural_type_reason": "P279 in 1 step: 10 sitelinks, in a root of the recipe; score 5.46, "
        "best of 3",
        "visual": True,
        "visual_reason": "taxon: it has a parent taxon or a taxon name",
        "revision": 77,
    }


def test_rows_are_ordered_by_number_and_memberships_carry_their_evidence(tmp_path):
    out = built(tmp_path, ANIMALS, ONE)
    assert ids(out) == ["Q1", "Q2", "Q3", "Q10"]
    assert rows(out, "memberships") == [
        {"root": "Q1", "entity": "Q1", "depth": 0, "via": "1: P279*", "path": ["Q1"]},
        {"root": "Q1", "entity": "Q2", "depth": 1, "via": "1: P279*", "path": ["Q2", "P279", "Q1"]},
        {"root": "Q1", "entity": "Q3", "depth": 1, "via": "1: P279*", "path": ["Q3", "P279", "Q1"]},
        {
            "root": "Q1",
            "entity": "Q10",
            "depth": 2,
            "via": "1: P279*",
            "path": ["Q10", "P279", "Q2", "P279", "Q1"],
        },
    ]
    assert [tuple(row.values()) for row in rows(out, "hierarchy")] == [
        ("Q2", "P279", "Q1"),
        ("Q3", "P279", "Q1"),
        ("Q10", "P279", "Q2"),
        ("Q10", "P279", "Q3"),
    ]


def test_two_builds_are_equal_byte_for_byte(tmp_path):
    store = store_of(tmp_path / "data", ANIMALS)
    recipe = load(recipe_of(tmp_path, ONE + '[[root]]\nid = "Q2"\nany = [{ path = "P31?/P279*" }]'))
    for name in ("one", "two"):
        build(store, recipe, tmp_path / name, quiet=True)
    for file in OUTPUTS:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_bytes_do_not_depend_on_the_batches_they_are_made_in(tmp_path, monkeypatch):
    entities = [entity("Q1")] + [
        entity(
            f"Q{n}",
            aliases={"en": [f"alias {n}", "other"][: n % 3]},
            claims={"P279": [f"Q{n // 2}"], "P31": [f"Q{n // 3 + 1}"]},
        )
        for n in range(2, 45)
    ]
    recipe = ONE + '[[root]]\nid = "Q2"\nany = [{ path = "P31?/P279*" }]'
    whole = built(tmp_path, entities, recipe, name="whole")
    assert len(rows(whole)) > 40
    for module, batch in (
        ("gathered", 3),
        ("memberships", 5),
        ("entities", 7),
        ("write_attributes", 4),
        ("write_queries", 6),
    ):
        monkeypatch.setattr(f"graph.{module}._BATCH", batch)
    batched = built(tmp_path, entities, recipe, name="batched")
    for file in OUTPUTS:
        assert (batched / file).read_bytes() == (whole / file).read_bytes()


def test_the_hierarchy_holds_edges_on_matching_chains_only(tmp_path):
    entities = [
        entity("Q1"),
        entity("Q2", claims={"P279": ["Q1", "Q9"]}),  # Q9 is no way to Q1
        entity("Q3", claims={"P31": ["Q2", "Q9"], "P279": ["Q1"]}),  # P279 is no way by P31/P279*
        entity("Q4", claims={"P31": ["Q3"]}),
        entity("Q9"),
    ]
    out = built(tmp_path, entities, '[[root]]\nid = "Q1"\nany = [{ path = "P31/P279*" }]')
    assert ids(out) == ["Q3", "Q4"]
    assert [tuple(row.values()) for row in rows(out, "hierarchy")] == [
        ("Q2", "P279", "Q1"),
        ("Q3", "P31", "Q2"),
        ("Q3", "P279", "Q1"),  # on Q4's chain, not on one of its own
        ("Q4", "P31", "Q3"),
    ]
    assert [row["parents"] for row in rows(out)] == [["Q2"], ["Q3"]]


def test_an_inverse_step_is_written_with_its_sign(tmp_path):
    entities = [
        entity("Q1"),
        entity("Q2", claims={"P171": ["Q1"], "P1672": ["Q3"]}),
        entity("Q3"),
    ]
    out = built(tmp_path, entities, '[[root]]\nid = "Q1"\nany = [{ path = "^P1672/P171+" }]')
    assert rows(out, "memberships")[0]["path"] == ["Q3", "^P1672", "Q2", "P171", "Q1"]
    assert rows(out, "hierarchy")[1] == {"child": "Q3", "property": "^P1672", "parent": "Q2"}


def test_cycles_and_loops_end(tmp_path):
    entities = [
        entity("Q1", claims={"P279": ["Q3"]}),
        entity("Q2", claims={"P279": ["Q1", "Q2"]}),
        entity("Q3", claims={"P279": ["Q2"]}),
    ]
    out = built(tmp_path, entities, ONE)
    assert [(row["id"], row["depths"], row["parents"]) for row in rows(out)] == [
        ("Q1", [0], ["Q3"]),
        ("Q2", [1], ["Q1"]),  # its own parent by a statement, and no parent of use to anybody
        ("Q3", [2], ["Q2"]),
    ]
    assert ("Q2", "P279", "Q2") in [tuple(row.values()) for row in rows(out, "hierarchy")]


# --- rules ----------------------------------------------------------------------------------------


def below(id, **more):
    claims = {"P279": ["Q1"], **more.pop("claims", {})}
    return entity(id, claims=claims, **more)


def test_labels_are_tried_in_order_and_say_where_a_name_came_from(tmp_path):
    entities = [
        entity("Q1", label="root"),
        below("Q2", label="english", labels={"mul": "all"}),
        below("Q3", label=None, labels={"en-gb": "british", "mul": "all"}),
        below("Q4", label=None, labels={"mul": "all"}),
        below("Q5", label=None, claims={"P225": ["Canis lupus", "Other"]}),
        below("Q6", label=None, claims={"P1705": [("Wolf", "de")]}),
        below("Q7", label=None, claims={"P225": [None], "P1705": ["novalue"]}),
        below("Q8", label=None, labels={"de": "deutsch"}),
        below("Q9", label=None, claims={"P225": [ranked("Old", "deprecated")]}),
    ]
    out = built(tmp_path, entities, ONE)
    assert [(row["id"], row["name"], row["name_lang"]) for row in rows(out)] == [
        ("Q1", "root", "en"),
        ("Q2", "english", "en"),
        ("Q3", "british", "en-gb"),
        ("Q4", "all", "mul"),
        ("Q5", "Canis lupus", "P225"),
        ("Q6", "Wolf", "P1705"),
    ]
    only_english = built(tmp_path, entities, 'labels = ["en"]\n' + ONE, name="english")
    assert ids(only_english) == ["Q1", "Q2"]
    scientific = built(tmp_path, entities, 'labels = ["P225", "en"]\n' + ONE, name="taxa")
    assert {row["id"]: row["name"] for row in rows(scientific)}["Q5"] == "Canis lupus"


def test_description_and_aliases_are_of_the_first_language_that_has_any(tmp_path):
    entities = [
        entity("Q1", descriptions={"mul": "d"}, aliases={"en-gb": ["a"], "mul": ["b", "c"]}),
        below("Q2"),
    ]
    out = built(tmp_path, entities, 'labels = ["P225", "en", "mul"]\n' + ONE)
    first, second = rows(out)
    assert (first["description"], first["aliases"]) == ("d", ["b", "c"])
    assert (second["description"], second["aliases"]) == (None, [])


def test_sitelinks_and_limit_ties_by_the_lower_id(tmp_path):
    entities = [entity("Q1", links=1)] + [
        below(f"Q{n}", links=links) for n, links in ((5, 7), (20, 9), (3, 7), (11, 7), (4, 6))
    ]
    out = built(tmp_path, entities, "min_sitelinks = 7\n" + ONE)
    assert ids(out) == ["Q3", "Q5", "Q11", "Q20"]
    out = built(tmp_path, entities, "limit = 3\n" + ONE, name="limited")
    assert ids(out) == ["Q3", "Q5", "Q20"]


def test_required_properties_may_have_an_unknown_value_but_not_none(tmp_path):
    entities = [
        entity("Q1", claims={"P18": ["A.jpg"]}),
        below("Q2", claims={"P18": [None]}),
        below("Q3", claims={"P18": ["novalue"]}),
        below("Q4", claims={"P18": [ranked("B.jpg", "deprecated")]}),
        below("Q5", claims={"P18": ["C.jpg", ranked("novalue", "preferred")]}),
    ]
    out = built(tmp_path, entities, 'require = ["P18"]\n' + ONE)
    assert [(row["id"], row["images"]) for row in rows(out)] == [("Q1", ["A.jpg"]), ("Q2", [])]


def test_minus_takes_away_closures_and_what_has_a_property(tmp_path):
    entities = [
        entity("Q1"),
        below("Q2"),
        entity("Q3", claims={"P279": ["Q2"]}),
        below("Q4", claims={"P625": [{"latitude": 1, "longitude": 2}]}),
        below("Q5", claims={"P31": ["Q3"]}),
        below("Q6"),
    ]
    minus = 'minus = [{ path = "P31?/P279*", of = ["Q2"] }, { has = "P625" }]'
    out = built(tmp_path, entities, ONE + minus)
    assert ids(out) == ["Q1", "Q6"]


def test_and_holds_for_its_own_condition_only(tmp_path):
    entities = [
        entity("Q1"),
        entity("Q2", claims={"P171": ["Q1"], "P31": ["Q8"]}),
        entity("Q3", claims={"P171": ["Q1"]}),
        entity("Q4", claims={"P279": ["Q1"]}),
        entity("Q8"),
    ]
    out = built(
        tmp_path,
        entities,
        '[[root]]\nid = "Q1"\nany = [{ path = "P279+" }, '
        '{ path = "P171+", and = [{ path = "P31", of = ["Q8"] }] }]',
    )
    assert [(row["entity"], row["via"]) for row in rows(out, "memberships")] == [
        ("Q2", "2: P171+"),
        ("Q4", "1: P279+"),
    ]


def test_and_narrows_a_minus_too(tmp_path):
    entities = [
        entity("Q1"),
        below("Q2", claims={"P31": ["Q8"]}),
        below("Q3", claims={"P31": ["Q8"], "P171": ["Q7"]}),
        below("Q4", claims={"P31": ["Q8"], "P171": ["Q7"], "P18": ["A.jpg"]}),
        entity("Q7"),
        entity("Q8"),
    ]
    nested = '{ path = "P171", of = ["Q7"], and = [{ has = "P18" }] }'
    out = built(
        tmp_path, entities, ONE + f'minus = [{{ path = "P31", of = ["Q8"], and = [{nested}] }}]'
    )
    assert ids(out) == ["Q1", "Q2", "Q3"]


def test_only_items_of_the_store_are_kept(tmp_path):
    entities = [
        entity("Q1", claims={"P1672": ["Q404"]}),  # Q404 has no record
        entity("P99", claims={"P279": ["Q1"]}),
        entity("Q2", claims={"P279": ["P99"]}),
    ]
    out = built(tmp_path, entities, '[[root]]\nid = "Q1"\nany = [{ path = "P279*|^P1672" }]')
    assert ids(out) == ["Q1", "Q2"]
    assert rows(out, "memberships")[1]["path"] == ["Q2", "P279", "P99", "P279", "Q1"]


def test_a_condition_on_what_the_store_lacks_does_not_hold(tmp_path):
    entities = [
        entity("Q1", claims={"P1672": ["Q2", "Q404"]}),
        entity("Q2", claims={"P18": ["A.jpg"]}),
        entity("P99", claims={"P279": ["Q1"], "P18": ["A.jpg"]}),
    ]
    condition = '{ path = "P279*|^P1672", and = [{ has = "P18" }] }'
    assert ids(built(tmp_path, entities, f'[[root]]\nid = "Q1"\nany = [{condition}]')) == ["Q2"]


def test_truthy_statements_alone_are_walked(tmp_path):
    entities = [
        entity("Q1"),
        entity("Q2", claims={"P279": [ranked("Q1", "deprecated")]}),
        entity("Q3", claims={"P279": ["Q1", ranked("Q9", "preferred")]}),
        entity("Q4", claims={"P279": [ranked("Q1", "preferred"), "Q9"]}),
    ]
    assert ids(built(tmp_path, entities, ONE)) == ["Q1", "Q4"]


# --- several recipes ------------------------------------------------------------------------------


def test_united_recipes_keep_the_shorter_chain_and_the_first_recipe_that_keeps_names_it(tmp_path):
    entities = [
        entity("Q1", label="root"),
        entity("Q2", label="two", claims={"P279": ["Q1"]}),
        entity("Q3", label="three", claims={"P279": ["Q2"], "P31": ["Q1"]}),
        entity("Q4", label=None, labels={"mul": "four"}, claims={"P279": ["Q2"], "P31": ["Q1"]}),
        entity("Q5", label="five", labels={"mul": "5"}, claims={"P31": ["Q6"], "P279": ["Q6"]}),
        entity("Q6", label="six", claims={"P279": ["Q1"]}),
    ]
    recipe_of(tmp_path, 'labels = ["en"]\n' + ONE, "sub")
    root = '[[root]]\nid = "Q1"\nany = [{ path = "P31/P279*" }]'
    recipe_of(tmp_path, f'labels = ["mul", "en"]\n{root}', "inst")
    out = built(
        tmp_path,
        entities,
        'include = ["sub.toml", "inst.toml"]\n[[root]]\nid = "Q2"\nany = [{ path = "P279*" }]',
    )
    assert [(r["entity"], r["root"], r["depth"], r["via"]) for r in rows(out, "memberships")] == [
        ("Q1", "Q1", 0, "1: P279*"),
        ("Q2", "Q1", 1, "1: P279*"),
        ("Q2", "Q2", 0, "1: P279*"),
        ("Q3", "Q1", 1, "1: P31/P279*"),
        ("Q3", "Q2", 1, "1: P279*"),
        ("Q4", "Q1", 1, "1: P31/P279*"),
        ("Q4", "Q2", 1, "1: P279*"),
        ("Q5", "Q1", 2, "1: P279*"),
        ("Q6", "Q1", 1, "1: P279*"),
    ]
    by_id = {row["id"]: row for row in rows(out)}
    assert (by_id["Q4"]["name"], by_id["Q4"]["name_lang"]) == ("four", "mul")
    assert (by_id["Q5"]["name"], by_id["Q5"]["name_lang"]) == ("five", "en")
    assert (by_id["Q3"]["roots"], by_id["Q3"]["depths"]) == (["Q1", "Q2"], [1, 1])
    assert by_id["Q3"]["parents"] == ["Q1", "Q2"]


def test_roots_stand_in_the_recipe_order_in_entities_and_by_number_in_memberships(tmp_path):
    out = built(tmp_path, ANIMALS, '[[root]]\nid = "Q2"\nany = [{ path = "P279*" }]\n' + ONE)
    by_id = {row["id"]: row for row in rows(out)}
    assert (by_id["Q10"]["roots"], by_id["Q10"]["depths"]) == (["Q2", "Q1"], [1, 2])
    memberships = [(row["entity"], row["root"]) for row in rows(out, "memberships")]
    assert memberships[-2:] == [("Q10", "Q1"), ("Q10", "Q2")]


# --- the manifest, warnings and failures ----------------------------------------------------------


def test_the_manifest_counts_what_every_rule_took(tmp_path):
    entities = [
        entity("Q1", links=9),
        below("Q2", claims={"P31": ["Q7"]}),
        below("Q3", claims={"P18": ["A.jpg"]}, label=None),
        below("Q4", claims={"P18": ["A.jpg"]}, links=1),
        below("Q5", claims={"P18": ["A.jpg"]}, links=5),
        below("Q6", claims={"P18": ["A.jpg"]}, links=6),
        entity("P77", claims={"P279": ["Q1"]}),
        entity("Q7"),
    ]
    text = (
        'labels = ["en"]\nrequire = ["P18"]\nmin_sitelinks = 5\nlimit = 1\n'
        + ONE
        + 'minus = [{ path = "P31", of = ["Q7"] }]'
    )
    out = built(tmp_path, entities, text)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["step"] == "graph"
    assert set(manifest["counts"].pop("quality").values()) == {0}
    assert manifest["counts"] == {
        "entities": 1,
        "attributes": {},
        "queries": {
            "name": 1,
            "alias": 0,
            "attribute_type": 0,
            "attribute_name": 0,
            "ambiguous": 0,
            "over_budget": 0,
        },
        "roots": [
            {
                "root": "Q1",
                "name": "the Q1",
                "recipe": "test",
                "candidates": 7,
                "removed": {
                    "absent": 1,
                    "minus": 1,
                    "require": 1,
                    "labels": 1,
                    "min_sitelinks": 1,
                    "limit": 1,
                },
                "kept": 1,
                "last_kept": {"sitelinks": 6, "entity": "Q6"},
            }
        ],
    }
    texts = [{"name": "test", "text": text}]
    assert manifest["recipe"] == {"name": "test", "texts": texts, "merged": {}}
    assert set(manifest["outputs"]) == set(OUTPUTS)
    assert manifest["warnings"] == []
    store = json.loads((tmp_path / "data" / "store" / "manifest.json").read_text())
    assert manifest["store"] == {
        "contents": store["contents"],
        "outputs": {
            name: store["outputs"][name]
            for name in ("nodes.parquet", "edges/P31.parquet", "edges/P279.parquet")
        },
        "damage": [],
        "limit": 0,
        "inputs": store["plan"]["inputs"],
    }


MISSING = (
    ONE + 'minus = [{ path = "P31", of = ["Q98"] }]\n[[root]]\nid = "Q99"\nany = [{path="P31"}]'
)


def test_a_root_that_the_store_lacks_is_a_warning_and_its_members_stay(tmp_path):
    entities = [*ANIMALS, entity("Q12", claims={"P31": ["Q99"]})]
    out = built(tmp_path, entities, MISSING)
    assert json.loads((out / "manifest.json").read_text())["warnings"] == [
        "the store has no record of the root Q99: what statements about it lead there is kept "
        "all the same.",
        "the store has no record of Q98 (`minus` of Q1): what statements about it lead there is "
        "found all the same.",
    ]
    assert ids(out) == ["Q1", "Q2", "Q3", "Q10", "Q12"]


@pytest.mark.parametrize(
    ("recipe", "strict", "error"),
    [
        (MISSING, True, "--strict: the store has no record of the root Q99"),
        ('[[root]]\nid = "Q99"\nany = [{ path = "P279*" }]', False, "has none of the roots"),
        (
            ONE + 'minus = [{ has = "P18" }, { path = "P279*", of = ["Q1"] }]',
            False,
            "recipe 'test': `minus` takes away everything under root Q1: 4 of 4 entities meet "
            "minus 2; narrow it or drop the root. Nothing was written.",
        ),
        ('require = ["P999"]\n' + ONE, False, "needs P999, which this store did not keep"),
        ('labels = ["tlh"]\n' + ONE, False, "takes labels in tlh"),
        (
            'labels = ["P225", "P1705", "P31"]\n' + ONE,
            False,
            "`labels` has P31, which can't name anything: its values are of datatype "
            "'wikibase-item', not texts.",
        ),
        (
            '[[root]]\nid = "Q1"\nany = [{ path = "P225" }]',
            False,
            "a path can't walk P225: its values are of datatype 'string', not items or properties.",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    tmp_path, recipe, strict, error
):
    entities = [
        *ANIMALS,
        entity("P225", datatype="string"),
        entity("P31", datatype="wikibase-item"),
    ]
    with pytest.raises(UserError) as raised:
        built(tmp_path, entities, recipe, strict=strict)
    assert error in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "test.toml"]


def test_a_column_whose_property_the_store_did_not_keep_is_empty_and_said_so(tmp_path):
    store = store_of(tmp_path / "data", ANIMALS, properties=("P279", "P225", "P1705"))
    manifest = build(store, load(recipe_of(tmp_path, ONE)), tmp_path / "out", quiet=True)
    assert manifest["warnings"] == [
        "the store did not keep P18: the column `images` is empty.",
        "the store did not keep P1843: the column `common_names` is empty.",
        "the store did not keep P31, P171, P105, P1843, P18, P625: natural types and visuality are "
        "told without.",
        "the store did not keep P462, P1672, P1552, P1535, P4733, P1034, P3095, P361, P527, P1542, "
        "P1963, P136, P793, P1056, P186, P2079, P137, P2283, P366, P5869, P2974, P183, P9566, "
        "P1419: there are no attributes of them.",
    ]


def test_a_finished_graph_is_replaced_and_what_stands_beside_it_stays(tmp_path):
    out = built(tmp_path, ANIMALS, ONE)
    (out / "enrich" / "model").mkdir(parents=True)
    before = {name: (out / name).read_bytes() for name in OUTPUTS}
    built(tmp_path, ANIMALS, ONE.replace("Q1", "Q2"))
    assert ids(out) == ["Q2", "Q10"]
    assert (out / "enrich" / "model").is_dir()
    built(tmp_path, ANIMALS, ONE)
    assert {name: (out / name).read_bytes() for name in OUTPUTS} == before
    assert not (out / BUILDING).exists()


def test_a_build_that_fails_leaves_the_finished_graph_as_it_was(tmp_path, monkeypatch):
    out = built(tmp_path, ANIMALS, ONE)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graph.build.write_entities", full)
    with pytest.raises(OSError, match="No space left"):
        built(tmp_path, ANIMALS, ONE.replace("Q1", "Q2"))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not (out / BUILDING).exists()


@pytest.mark.parametrize("moves", range(len(OUTPUTS) + 1))
def test_a_build_stopped_between_its_moves_leaves_no_manifest_and_can_be_repeated(
    tmp_path, monkeypatch, moves
):
    out = built(tmp_path, ANIMALS, ONE)
    other = ONE.replace("Q1", "Q2")
    rename, done = Path.rename, []

    def stopped(self, target):
        if self.parent.name == BUILDING:
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            built(tmp_path, ANIMALS, other)
    assert not (out / "manifest.json").exists()
    built(tmp_path, ANIMALS, other)
    assert ids(out) == ["Q2", "Q10"]


def test_what_a_killed_build_left_is_cleared(tmp_path):
    left = tmp_path / "out" / BUILDING
    left.mkdir(parents=True)
    (left / "entities.parquet").write_bytes(b"half")
    (left / "manifest.json.77.tmp").write_bytes(b"half")
    assert ids(built(tmp_path, ANIMALS, ONE)) == ["Q1", "Q2", "Q3", "Q10"]
    assert not left.exists()


def test_two_builds_of_one_directory_do_not_meet(tmp_path, monkeypatch):
    out = built(tmp_path, ANIMALS, ONE)
    recipe, refused = load(tmp_path / "test.toml"), []
    store, other_store = (store_of(tmp_path / name, ANIMALS) for name in ("one", "two"))

    def meanwhile(directory, *arguments):
        with pytest.raises(UserError, match="another `sparqless graph` is writing") as raised:
            build(other_store, recipe, out, quiet=True)
        refused.append(raised)
        return write(directory, *arguments)

    write = graph.build.write_entities
    monkeypatch.setattr("graph.build.write_entities", meanwhile)
    build(store, recipe, out, fresh=True, quiet=True)
    assert len(refused) == 1
    assert ids(out) == ["Q1", "Q2", "Q3", "Q10"]
    assert not (out / BUILDING).exists()


@pytest.mark.parametrize("another_follows", [False, True])
def test_a_build_that_opens_the_directory_of_one_that_ends_begins_again(
    tmp_path, monkeypatch, another_follows
):
    out = tmp_path / "out"
    first, third = building(out), building(out)
    first.__enter__()
    flock, calls = fcntl.flock, []

    def late(lock, operation):
        """Let the first build end, and a third begin, between another's open and its lock."""
        calls.append(lock)
        if len(calls) == 1:
            first.__exit__(None, None, None)
            if another_follows:
                third.__enter__()
        flock(lock, operation)

    monkeypatch.setattr("fcntl.flock", late)
    if another_follows:
        with pytest.raises(UserError, match="another"), building(out):
            pass
        third.__exit__(None, None, None)
    else:
        with building(out) as directory:
            assert os.path.samestat(os.fstat(calls[-1]), directory.stat())
            with pytest.raises(UserError, match="another"), building(out):
                pass
    assert not (out / BUILDING).exists()


def test_a_file_in_the_way_of_the_work_directory_is_named(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / BUILDING).write_text("mine")
    with pytest.raises(UserError, match="is a file, and a build needs a directory"):
        built(tmp_path, ANIMALS, ONE)
    assert (tmp_path / "out" / BUILDING).read_text() == "mine"


def test_what_is_not_ours_in_the_work_directory_stays(tmp_path):
    left = tmp_path / "out" / BUILDING
    left.mkdir(parents=True)
    (left / "notes.txt").write_text("mine")
    built(tmp_path, ANIMALS, ONE)
    assert [path.name for path in left.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("where", ["link", "dangling", "."])
def test_where_a_graph_may_be_written(tmp_path, monkeypatch, where):
    target = tmp_path / "elsewhere" / "graph"
    target.mkdir(parents=True)
    if where == "dangling":
        target.rmdir()
    (tmp_path / "out").symlink_to(target)
    store, recipe = store_of(tmp_path / "data", ANIMALS), load(recipe_of(tmp_path, ONE))
    if where == ".":
        monkeypatch.chdir(target)
    build(store, recipe, Path(".") if where == "." else tmp_path / "out", quiet=True)
    assert sorted(path.name for path in target.iterdir()) == sorted([*OUTPUTS, "manifest.json"])
    assert [path.name for path in target.parent.iterdir()] == ["graph"]
    assert (tmp_path / "out").is_symlink()


def test_a_directory_made_for_a_build_that_fails_is_removed_and_an_older_one_stays(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("graph.build.write_entities", lambda *_: 1 / 0)
    (tmp_path / "mine").mkdir()
    for name in ("out", "mine"):
        with pytest.raises(ZeroDivisionError):
            built(tmp_path, ANIMALS, ONE, name=name)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("what", ["notes.txt", "store manifest", "file"])
def test_a_directory_that_is_not_ours_is_left_alone(tmp_path, what):
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        name, text = ("manifest.json", '{"step": "store"}') if "store" in what else (what, "mine")
        (out / name).write_text(text)
    with pytest.raises(UserError, match="out"):
        built(tmp_path, ANIMALS, ONE)


def test_an_empty_result_is_a_graph_too_with_a_warning_for_every_empty_root(tmp_path):
    recipe = "min_sitelinks = 99\n" + ONE + '[[root]]\nid = "Q11"\nany = [{ path = "P31" }]'
    out = built(tmp_path, ANIMALS, recipe)
    assert rows(out) == rows(out, "memberships") == rows(out, "hierarchy") == []
    warnings = [
        "root Q1 of recipe 'test' keeps no entity: `min_sitelinks` takes 4 of 4 candidates.",
        "root Q11 of recipe 'test' keeps no entity: no chain of statements leads to it.",
        "no root keeps an entity: the data set is empty.",
    ]
    assert json.loads((out / "manifest.json").read_text())["warnings"] == warnings
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(UserError) as raised:
        built(tmp_path, ANIMALS, recipe, strict=True)
    assert str(raised.value) == f"--strict: {warnings[0]} (and 2 more warnings)"
    assert (out / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="root Q11"):
        built(tmp_path, ANIMALS, recipe[19:], strict=True, name="new")
    assert not (tmp_path / "new").exists()


def test_a_store_of_a_part_of_a_dump_is_a_warning(tmp_path):
    store = store_of(tmp_path / "data", ANIMALS)
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["plan"]["limit"] = 6
    manifest["damage"] = [{"path": "dump.bz2", "start": 5, "end": 9, "reason": "broken"}]
    (store / "manifest.json").write_text(json.dumps(manifest))
    recipe = load(recipe_of(tmp_path, ONE))
    warnings = build(store, recipe, tmp_path / "out", quiet=True)["warnings"]
    assert warnings == [
        "the store was made with `--limit 6`: what it has not read is missing here too.",
        "the store's dump was damaged in 1 place: what stood there is missing here too (its "
        "manifest has them under `damage`).",
    ]
    with pytest.raises(UserError, match="--strict: the store was made with"):
        build(store, recipe, tmp_path / "strict", strict=True, quiet=True)
