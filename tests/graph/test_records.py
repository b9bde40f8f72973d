"""Records met on a walk: where their statements lead, forward and backward, and their names."""

from __future__ import annotations

import pytest

from etl.errors import UserError
from etl.inverse import inverse_name
from etl.manifest import read_manifest, write_manifest
from etl.store import EntityStore
from graph.records import Records
from tests.graph.small_dump import entity, ranked, redirect, store_of

ENTITIES = [
    entity("P31", label="instance of", datatype="wikibase-item"),
    entity("Q1", labels={"de": "eins"}, label=None, claims={"P225": ["Unum"]}),
    entity("Q2", claims={"P279": ["Q9", "Q1", "Q9", None, "novalue", "P31"]}),
    entity("Q3", claims={"P279": ["Q1", ranked("Q2", "preferred"), ranked("Q9", "deprecated")]}),
    entity("Q4", claims={"P279": ["Q8", "Q9", "Q404"]}),
    entity("Q9"),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    store = store_of(tmp_path_factory.mktemp("records"), ENTITIES)
    with EntityStore(redirect(store, {"Q8": "Q9", "Q404": "Q405"})) as opened:
        yield Records(opened)


def test_objects_come_once_in_the_order_of_the_statements_with_redirects_followed(records):
    assert records.objects("Q2", "P279") == ["Q9", "Q1", "P31"]
    assert records.objects("Q3", "P279") == ["Q2"]
    assert records.objects("Q4", "P279") == ["Q9", "Q405"]
    assert records.objects("Q1", "P279") == records.objects("Q405", "P279") == []


def test_subjects_are_found_by_what_their_values_were_merged_into(records):
    assert records.subjects("Q9", "P279") == ["Q2", "Q4"]
    assert records.subjects("Q405", "P279") == ["Q4"]
    assert records.subjects("P31", "P279") == ["Q2"]
    assert records.subjects("Q404", "P279") == records.subjects("Q9", "P171") == []


def test_a_look_up_file_and_the_file_of_edges_say_the_same(tmp_path):
    links = {"Q1": ["Q2", "Q3"], "Q4": ["Q2", None, "Q2"], "Q5": ["Q8", "P31"], "P31": ["Q3"]}
    entities = [entity(id, claims={"P1672": objects}) for id, objects in links.items()]
    store = redirect(store_of(tmp_path, entities), {"Q8": "Q2"})
    found = {}
    for name in ("look-up", "edges"):
        with EntityStore(store) as opened:
            assert (inverse_name("P1672") in opened.manifest["outputs"]) == (name == "look-up")
            records = Records(opened)
            found[name] = {id: records.subjects(id, "P1672") for id in ("Q2", "Q3", "Q8", "P31")}
        if name == "look-up":  # make it a store that was built before there were such files
            manifest = read_manifest(store, "store")
            del manifest["manifest_sha256"], manifest["outputs"][inverse_name("P1672")]
            write_manifest(store, manifest)
    assert found["look-up"] == found["edges"]
    assert found["edges"] == {
        "Q2": ["Q1", "Q4", "Q5"],
        "Q3": ["P31", "Q1"],
        "Q8": [],
        "P31": ["Q5"],
    }


def test_a_name_is_the_first_of_the_labels_that_is_there(records):
    assert records.name("Q1", ["en", "P225", "de"]) == "Unum"
    assert records.name("Q1", ["en"]) is None
    assert records.name("Q404", ["en"]) is None


def test_a_record_is_read_once_and_only_by_an_id(records):
    assert records.get("Q2") is records.get("Q2")
    assert records.get("Q404") is None
    with pytest.raises(UserError, match="is not an item or property id"):
        records.get("dog")
