"""The source commons-p18: names that the data set has, as candidates."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from download.candidates import ENTITIES, FOUND
from download.commons import load
from download.sources import Request, sources
from graph.build import build
from graph.recipe import load as recipe
from graph.settings import ImageSettings
from tests.graph.data_sets import rewrite
from tests.graph.small_dump import entity, ranked, recipe_of, store_of

ANIMALS = [
    entity("Q1", label="animal"),
    entity("Q2", claims={"P279": ["Q1"], "P18": ["b.jpg", "A.svg"]}),
    entity(
        "Q10", claims={"P279": ["Q1"], "P18": ["Foo bar.jpg", "foo_bar.jpg", "Bark.ogg", "C.png"]}
    ),
    entity("Q11", claims={"P279": ["Q1"], "P18": ["a/b.jpg", "a[b.jpg", "Howl.mid"]}),
    entity("Q12", claims={"P279": ["Q1"], "P18": [None]}),
    entity(
        "Q13",
        claims={"P279": ["Q1"], "P18": ["Second.jpg", ranked("First.jpg", "preferred")]},
    ),
    entity("Q14", claims={"P279": ["Q1"], "P18": ["Not wanted.jpg"]}),
]
WANTED = ("Q1", "Q2", "Q10", "Q11", "Q12", "Q13")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("p18")
    text = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'
    recipe_ = recipe(recipe_of(folder, text))
    build(store_of(folder, ANIMALS), recipe_, folder / "out", quiet=True)
    return folder / "out", recipe_


def request_of(built, tmp_path, wanted=WANTED, **settings):
    graph, recipe_ = built
    rows = [{"id": id, "name": None, "roots": ["Q1"]} for id in wanted]
    pq.write_table(pa.Table.from_pylist(rows, ENTITIES), tmp_path / "entities.parquet")
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return Request(
        graph=graph,
        recipe=recipe_,
        entities=tmp_path / "entities.parquet",
        settings=replace(ImageSettings(), **settings),
        commons=load(),
        given={},
        store=None,
        images=tmp_path,
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
    )


def found_by(request):
    source = sources()["commons-p18"]
    assert (source.kind, source.options, source.inputs(request)) == ("candidates", (), {})
    said = source.find(request)
    table = pq.read_table(request.out / "candidates.parquet")
    assert table.schema.equals(FOUND)
    return table.to_pylist(), said


def test_names_become_rows_in_the_order_of_the_statements(built, tmp_path):
    rows, said = found_by(request_of(built, tmp_path))
    assert [(row["entity"], row["file"], row["score"]) for row in rows] == [
        ("Q2", "B.jpg", 1.0),
        ("Q2", "A.svg", 0.5),
        ("Q10", "Foo bar.jpg", 1.0),
        ("Q10", "C.png", 0.5),
        ("Q13", "First.jpg", 1.0),
    ]
    for row in rows:
        assert row["reasons"] == ["P18"]
        assert row["query_hashes"] == []
        assert row["url"] is None
        assert row["width"] is None
        assert row["texts"] is None
    assert said["counts"] == {
        "entities": 6,
        "with_images": 3,
        "repeated": 1,
        "no_names": 2,
        "no_pictures": 2,
        "over_cap": 0,
        "candidates": 5,
    }


def test_a_cap_keeps_the_first(built, tmp_path):
    rows, said = found_by(request_of(built, tmp_path, per_entity=1))
    assert [row["file"] for row in rows] == ["B.jpg", "Foo bar.jpg", "First.jpg"]
    assert said["counts"]["over_cap"] == 2
    (tmp_path / "all").mkdir()
    rows, said = found_by(request_of(built, tmp_path / "all", per_entity=0))
    assert said["counts"]["over_cap"] == 0
    assert len(rows) == 5


def test_only_what_is_wanted_is_looked_for(built, tmp_path):
    rows, said = found_by(request_of(built, tmp_path, wanted=("Q10",)))
    assert {row["entity"] for row in rows} == {"Q10"}
    assert said["counts"]["entities"] == 1
    (tmp_path / "none").mkdir()
    rows, said = found_by(request_of(built, tmp_path / "none", wanted=()))
    assert rows == []
    assert set(said["counts"].values()) == {0}


def test_batches_of_a_large_data_set_give_the_same_rows(built, tmp_path, monkeypatch):
    once, _ = found_by(request_of(built, tmp_path))
    monkeypatch.setattr("graph.read._BATCH", 2)
    (tmp_path / "again").mkdir()
    again, _ = found_by(request_of(built, tmp_path / "again"))
    assert again == once


def test_a_data_set_without_images_has_no_rows(built, tmp_path):
    table = pq.read_table(built[0] / "entities.parquet")
    nothing = pa.nulls(table.num_rows, table.schema.field("images").type)
    at = table.schema.get_field_index("images")
    try:
        rewrite(built[0], "entities", table.set_column(at, "images", nothing))
        rows, said = found_by(request_of(built, tmp_path))
    finally:
        rewrite(built[0], "entities", table)
    assert rows == []
    assert said["counts"]["with_images"] == 0
