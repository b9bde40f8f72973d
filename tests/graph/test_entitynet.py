"""EntityNet's layout: what its own readers ask of the files holds."""

from __future__ import annotations

import json

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import UserError
from etl.verify import verify
from graph.build import build
from graph.entitynet import ENTITIES_FILE, HIERARCHY_FILE, QUERIES_FILE, export_entitynet
from graph.read import load
from graph.recipe import load as recipe
from tests.graph.data_sets import rewrite, with_columns, without
from tests.graph.small_dump import entity, recipe_of, store_of

WORLD = [
    entity("Q729", label="animal", descriptions={"en": "a living thing"}),
    entity("Q5113", label="bird", links=1, claims={"P279": ["Q729"]}),  # too few: no entity
    entity(
        "Q7",
        label="robin",
        descriptions={"en": "red bird"},
        aliases={"en": ["redbreast", "robin; the", "robin"]},
        claims={"P279": ["Q5113"], "P225": ["Erithacus"], "P1843": [("redbreast", "en")]},
    ),
    entity("Q8", label="young robin", claims={"P279": ["Q7", "Q5113"]}),
    entity("Q42889", label="vehicle"),
    entity("Q9", label="car", claims={"P279": ["Q42889"]}),
    entity("Q10", label="bird car", claims={"P279": ["Q42889", "Q7"]}),
]
RECIPE = "min_sitelinks = 5\n" + "".join(
    f'[[root]]\nid = "{id}"\nany = [{{ path = "P279*" }}]\n' for id in ("Q729", "Q42889")
)
COLUMNS = (
    "query_hash", "query", "query_type", "entity", "attribute", "attribute_category", "entity_type",
    "or_terms", "exclude", "engine", "ambiguous_with", "source",
)  # fmt: skip
ASKED = [
    ("h1", "robin", "name", "Q7", None, "Q5113", None),
    ("h2", "redbreast", "alias", "Q7", None, "Q5113", "bing"),
    ("h3", "red bird", "attribute_type", None, "red", "Q5113", "google"),
    ("h4", "red robin", "attribute_name", "Q7", "red", "Q5113", "google"),
    ("h5", "car", "name", "Q9", None, "Q42889", None),
    ("h6", "fast vehicle", "attribute_type", None, "fast", "Q42889", None),
    ("h7", "bird car", "name", "Q10", None, None, None),
]


@pytest.fixture
def built(tmp_path):
    out = tmp_path / "graph"
    build(store_of(tmp_path, WORLD), recipe(recipe_of(tmp_path, RECIPE)), out, quiet=True)
    types = {"Q7": "Q5113", "Q8": "Q5113", "Q9": "Q42889", "Q729": "Q729"}
    names = {"Q7": "bird", "Q8": "bird", "Q9": "vehicle", "Q729": "animal"}
    with_columns(out, natural_type=types, natural_type_name=names)
    return out


def with_queries(folder):
    rows = [
        dict(zip(COLUMNS, (h, q, t, e, a, None, of, [], [], api, [], "wikidata"), strict=True))
        for h, q, t, e, a, of, api in ASKED
    ]
    lists = ("or_terms", "exclude", "ambiguous_with")
    schema = pa.schema([(c, pa.list_(pa.string()) if c in lists else pa.string()) for c in COLUMNS])
    rewrite(folder, "queries", pa.Table.from_pylist(rows, schema))


def test_entities_have_the_columns_and_texts_that_the_text_loader_reads(built, tmp_path):
    export_entitynet(built, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / ENTITIES_FILE)
    assert table.column_names == [
        "entity", "entity_name", "naturalentity", "textvalues", "textsources",
    ]  # fmt: skip
    rows = {row["entity"]: row for row in table.to_pylist()}
    robin = rows["Q7"]
    assert robin["entity_name"] == "robin"
    assert robin["naturalentity"] == "Q5113"
    assert list(zip(robin["textvalues"], robin["textsources"], strict=True)) == [
        ("robin", "name"),
        ("redbreast", "aliases"),
        ("robin; the", "aliases"),
        ("Erithacus", "taxon_names"),
        ("red bird", "description"),
    ]


def test_every_natural_type_is_a_row_and_every_name_a_synonym(built, tmp_path):
    counts = export_entitynet(built, tmp_path / "out")["counts"]
    rows = pq.read_table(tmp_path / "out" / ENTITIES_FILE).to_pylist()
    ids = [row["entity"] for row in rows]
    assert len(set(ids)) == len(ids)
    for row in rows:
        assert row["naturalentity"] in ids
        synonyms = [
            text
            for text, source in zip(row["textvalues"], row["textsources"], strict=True)
            if source in ("name", "aliases", "common_names", "taxon_names")
        ]
        assert row["entity_name"] in synonyms
        assert len(set(row["textvalues"])) == len(row["textvalues"]) == len(row["textsources"])
    bird = rows[-1]  # a type that the data set doesn't keep
    assert bird == {
        "entity": "Q5113",
        "entity_name": "bird",
        "naturalentity": "Q5113",
        "textvalues": ["bird"],
        "textsources": ["name"],
    }
    assert {row["entity"]: row["naturalentity"] for row in rows}["Q10"] == "Q10"  # it has no type
    assert (counts["entities"], counts["types"], counts["leaves"]) == (6, 1, 4)


def test_a_data_set_without_queries_is_exported_without(built, tmp_path):
    export_entitynet(built, tmp_path / "out")
    assert (tmp_path / "out" / QUERIES_FILE).exists()
    without(built, "queries")
    assert export_entitynet(built, tmp_path / "out")["counts"]["queries"] is None
    assert not (tmp_path / "out" / QUERIES_FILE).exists()


def test_a_type_that_is_an_entity_describes_its_own(built, tmp_path):
    with_columns(built, natural_type={"Q7": "Q729"}, natural_type_name={"Q7": "animal"})
    export_entitynet(built, tmp_path / "out")
    rows = {r["entity"]: r for r in pq.read_table(tmp_path / "out" / ENTITIES_FILE).to_pylist()}
    assert rows["Q7"]["textvalues"][-1] == "a living thing"
    assert rows["Q7"]["textsources"][-1] == "type_description"
    assert rows["Q729"]["textsources"] == ["name", "description"]


def test_queries_have_the_released_types_and_engines(built, tmp_path):
    with_queries(built)
    assert export_entitynet(built, tmp_path / "out")["counts"]["queries"] == len(ASKED)
    table = pq.read_table(tmp_path / "out" / QUERIES_FILE)
    assert table.column_names == ["query_hash", "query", "query_type", "entity", "attribute", "api"]
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("h1", "robin", "wd-noun-living", "Q7", None, "google"),
        ("h2", "redbreast", "wd-noun-living", "Q7", None, "bing"),
        ("h3", "red bird", "wd-attr-living", "Q5113", "red", "google"),
        ("h4", "red robin", "wd-attrnoun-living", "Q7", "red", "google"),
        ("h5", "car", "wd-noun-world", "Q9", None, "google"),
        ("h6", "fast vehicle", "wd-attr-world", "Q42889", "fast", "google"),
        ("h7", "bird car", "wd-noun-living", "Q10", None, "google"),
    ]


def test_the_hierarchy_has_all_living_ancestors_at_their_shortest_depth(built, tmp_path):
    export_entitynet(built, tmp_path / "out")
    found = json.loads((tmp_path / "out" / HIERARCHY_FILE).read_text("utf-8"))
    whole = load(built)
    living = {"Q729", *nx.ancestors(whole, "Q729")}
    entities = [id for id, roots in whole.nodes(data="roots") if roots and "Q729" in roots]
    expected = {}
    for leaf in entities:
        depth = nx.single_source_shortest_path_length(whole, leaf)
        above = [[id, d] for id, d in depth.items() if d and id in living]
        expected[leaf] = sorted(above, key=lambda pair: (pair[1], int(pair[0][1:])))
    assert found == expected
    assert found["Q10"] == [["Q7", 1], ["Q5113", 2], ["Q729", 3]]  # and no vehicle


def test_the_directory_is_finished_whole_and_may_be_written_again(built, tmp_path):
    out = tmp_path / "out"
    with_queries(built)
    export_entitynet(built, out)
    assert not [check for check in verify(out) if check.problem]
    first = {f: (out / f).read_bytes() for f in (ENTITIES_FILE, QUERIES_FILE, HIERARCHY_FILE)}
    export_entitynet(built, out)
    assert {f: (out / f).read_bytes() for f in first} == first
    assert not (out / ".exporting").exists()


@pytest.mark.parametrize("folder", [".", "enrich", "enrich/model/deep"])
def test_nothing_is_written_into_the_data_set(built, folder):
    before = sorted(built.rglob("*"))
    with pytest.raises(UserError, match="would stand in the data set itself"):
        export_entitynet(built, built / folder)
    assert sorted(built.rglob("*")) == before


@pytest.mark.parametrize("name", ["images_metadata", "notes.txt", ENTITIES_FILE, HIERARCHY_FILE])
def test_a_directory_with_what_we_did_not_write_is_refused(built, tmp_path, name):
    """Somebody's release has files of these very names."""
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("theirs")
    with pytest.raises(UserError, match="which no export of sparqless wrote there"):
        export_entitynet(built, out)
    assert (out / name).read_text() == "theirs"
    assert not (out / ".exporting").exists()


def test_another_steps_directory_is_refused(built, tmp_path):
    with pytest.raises(UserError, match="is the manifest of 'store'"):
        export_entitynet(built, tmp_path / "store")


def test_an_export_that_was_killed_is_written_again(built, tmp_path):
    out = tmp_path / "out"
    export_entitynet(built, out)
    (out / "manifest.json").unlink()
    (out / ".exporting").mkdir()
    export_entitynet(built, out)
    assert not [check for check in verify(out) if check.problem]
