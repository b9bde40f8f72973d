"""Tables as text: what other programs read is what the data set holds."""

from __future__ import annotations

import csv
import io
import json

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graph
import graph.read
from etl.errors import UserError
from graph.build import build
from graph.export import export_table, write_table
from graph.recipe import load as recipe
from tests.graph.data_sets import rewrite, with_columns
from tests.graph.small_dump import entity, recipe_of, store_of

ODD = 'a "quoted", <b>&amp; part;\nnew line, ユキ \x0b ;;;'
WORLD = [
    entity("Q1", label="animal"),
    entity("Q2", label="=1+2", claims={"P279": ["Q1"]}, aliases={"en": ["=alias", ODD]}),
    entity("Q3", label=ODD, claims={"P279": ["Q1", "Q9"], "P31": ["Q1"]}),
    entity("Q4", label="-", descriptions={"en": "@home"}, claims={"P279": ["Q1"]}),
    entity("Q9", label=None, claims={"P279": ["Q1"]}),
]
RECIPE = '[[root]]\nid = "Q1"\nany = [{ path = "(P31/P279*)|P279*" }]\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    build(store_of(folder, WORLD), recipe(recipe_of(folder, RECIPE)), folder / "out", quiet=True)
    with_columns(
        folder / "out",
        natural_type={"Q2": "Q1"},
        natural_type_name={},
        visual={"Q2": True, "Q3": False},
    )
    return folder / "out"


def text_of(folder, table, format):
    file = io.StringIO()
    done = write_table(folder, table, format, file)
    return file.getvalue(), done


@pytest.mark.parametrize("table", ["entities", "memberships", "hierarchy"])
def test_json_lines_are_the_rows(built, table):
    text, done = text_of(built, table, "jsonl")
    expected = pq.read_table(built / f"{table}.parquet").to_pylist()
    assert [json.loads(line) for line in text.split("\n")[:-1]] == expected
    assert done.rows == len(expected)


def test_csv_has_the_rows_with_formulas_guarded(built):
    text, done = text_of(built, "entities", "csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    expected = pq.read_table(built / "entities.parquet").to_pylist()
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    by_id = {row["id"]: row for row in rows}
    assert by_id["Q3"]["name"] == ODD
    assert json.loads(by_id["Q2"]["aliases"]) == ["=alias", ODD]  # a list begins with a bracket
    assert (by_id["Q2"]["visual"], by_id["Q3"]["visual"], by_id["Q4"]["visual"]) == (
        "true",
        "false",
        "",
    )
    assert [by_id[id]["name"] for id in ("Q2", "Q4")] == ["'=1+2", "'-"]
    assert by_id["Q4"]["description"] == "'@home"
    assert done.guarded == 3


@pytest.mark.parametrize("batch", [1, 2, 1 << 16])
def test_graphml_is_the_graph_that_load_gives(built, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(graph.read, "_BATCH", batch)
    export_table(built, "hierarchy", "graphml", tmp_path / "h.graphml")
    read, loaded = nx.read_graphml(tmp_path / "h.graphml"), graph.load(built)
    assert type(read) is nx.DiGraph
    assert set(read) == set(loaded)
    assert {(u, v): p.split() for u, v, p in read.edges(data="property")} == {
        (u, v): p for u, v, p in loaded.edges(data="property")
    }
    assert read.nodes["Q2"] == {
        "name": "=1+2",
        "roots": "Q1",
        "depths": "1",
        "sitelinks": 10,
        "natural_type": "Q1",
        "visual": True,
    }
    # XML can't hold a vertical tab
    assert read.nodes["Q3"]["name"] == ODD.replace("\x0b", "�")
    assert read.nodes["Q9"] == {}


TEXTS = st.lists(
    st.none() | st.text() | st.text("=+-@＝＋－＠\t\r\n1", max_size=3), min_size=1, max_size=5
)
GUARDED = tuple("=+-@＝＋－＠\t\r\n")


def test_an_empty_table_is_a_header_in_csv_and_nothing_in_json_lines(built, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"step": "graph", "outputs": {}}')
    rewrite(folder, "hierarchy", pq.read_table(built / "hierarchy.parquet").slice(0, 0))
    text, done = text_of(folder, "hierarchy", "csv")
    assert (text, done.rows) == ("child,property,parent\r\n", 0)
    assert text_of(folder, "hierarchy", "jsonl")[0] == ""


@settings(max_examples=60)
@given(TEXTS)
def test_any_text_survives(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "manifest.json").write_text('{"step": "graph", "outputs": {}}')
    texts = [t and t.encode("utf-8", "replace").decode() for t in texts]
    table = pa.table({"query": pa.array(texts, pa.string())})
    rewrite(folder, "queries", table)
    text, _ = text_of(folder, "queries", "jsonl")
    assert [json.loads(line)["query"] for line in text.split("\n")[:-1]] == texts
    text, done = text_of(folder, "queries", "csv")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    cells = [row[0] if row else "" for row in rows]
    guarded = [t.startswith(GUARDED) if t else False for t in texts]
    assert header == ["query"]
    assert cells == [f"'{t}" if g else t or "" for t, g in zip(texts, guarded, strict=True)]
    assert done.guarded == sum(guarded)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(built, tmp_path):
    for table, format, out, sentence in (
        ("nodes", "csv", tmp_path / "x", "has no table 'nodes': it has entities, memberships"),
        ("entities", "graphml", tmp_path / "x", "graphml is for graphs"),
        ("entities", "csv", built / "x", "would stand in the data set itself"),
        ("entities", "csv", built / "enrich" / "m" / "x", "would stand in the data set itself"),
        ("entities", "csv", tmp_path, "is a directory"),
    ):
        with pytest.raises(UserError, match=sentence):
            export_table(built, table, format, out)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(built, tmp_path, monkeypatch):
    out = tmp_path / "e.jsonl"
    out.write_text("old")

    def broken(*_):
        raise OSError("full")

    monkeypatch.setattr("graph.export.as_json", broken)
    with pytest.raises(OSError, match="full"):
        export_table(built, "entities", "jsonl", out)
    assert [file.name for file in tmp_path.iterdir()] == ["e.jsonl"]
    assert out.read_text() == "old"
