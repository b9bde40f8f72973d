"""Tables of texts on disk: the same for one as for all, made once, looked up by any id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import texts as bench
from benchmarks.options import Options
from download.pack import tables, target
from etl.errors import UserError
from etl.manifest import read_manifest, write_manifest
from etl.tables import write_table
from etl.verify import verify
from graph.read import hierarchy
from tests.console import ROOT
from tests.training.data_sets import animals, edges, entity, query, write_graph
from training.data_index import IMAGES_FILE
from training.data_index import STEP as SHARDS_STEP
from training.text import Texts
from training.text_above import nearby
from training.text_build import Only, build, build_some
from training.text_files import Buckets, Index, write_index
from training.text_image import COLUMNS, Image
from training.text_options import TextFilter, TextOptions


def names_of(texts: Texts, source: str, image: Image) -> set[str]:
    return {row.text for row in texts.table(image) if source in row.sources}


# --- what is in them -----------------------------------------------------------------------------


def test_tables_of_a_few_are_those_of_all(graph: Path, folder: Path, tmp_path: Path) -> None:
    """`sparqless texts` shows what is drawn in training."""
    whole = Texts.open(folder)
    ids = pq.read_table(graph / "entities.parquet").column("id").to_pylist()
    hashes = pq.read_table(graph / "queries.parquet").column("query_hash").to_pylist()
    images = [Image.of("k", [id_]) for id_ in ids] + [Image.of("k", (), [h]) for h in hashes]
    for number, image in enumerate(images):
        only = Only(
            frozenset(e.id for e in image.entities), frozenset(q.hash for q in image.queries)
        )
        (tmp_path / str(number)).mkdir()
        one = Texts.open(build_some(graph, tmp_path / str(number), TextOptions(), only))
        assert one.table(image) == whole.table(image) != []
        assert len(one.queries) < len(hashes)


def test_ancestors_are_those_that_are_near_and_well_known(tmp_path: Path) -> None:
    chain = [entity(f"Q{n}", f"thing {n}") for n in range(1, 8)]
    chain[2]["sitelinks"] = 39
    pairs = [(f"Q{n}", f"Q{n + 1}") for n in range(1, 7)]
    graph = write_graph(tmp_path / "graph", chain, (), edges(*pairs, ("Q7", "Q1"), ("Q1", "Q99")))
    one = Image.of("k", ["Q1"])
    texts = Texts.open(build(graph, tmp_path / "tables"))
    assert names_of(texts, "ancestor", one) == {"thing 2", "thing 4"}
    far = TextOptions(ancestor_steps=10, ancestor_min_sitelinks=0)
    texts = Texts.open(build(graph, tmp_path / "tables", far), far)
    assert names_of(texts, "ancestor", one) == {f"thing {n}" for n in range(2, 8)}  # not itself
    for none in (TextOptions.reference(), TextOptions(ancestor_steps=0)):
        texts = Texts.open(build(graph, tmp_path / "tables", none), none)
        assert names_of(texts, "ancestor", one) == set()


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25),
    steps=st.integers(0, 4),
)
def test_distances_are_the_shortest(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], steps: int
) -> None:
    folder = tmp_path_factory.mktemp("hierarchy")
    write_graph(folder / "g", [], (), edges(*((f"Q{a + 1}", f"Q{b + 1}") for a, b in pairs)))
    graph = hierarchy(folder / "g")
    found = nearby(graph, graph.find(np.arange(1, 11)), steps)
    row, node, distance = (column.tolist() for column in found)
    names = graph.names(found[1]).tolist()
    expected = []
    for start in range(10):
        seen, layer = {start}, {start}
        for far in range(1, steps + 1):
            layer = {b for a, b in pairs if a in layer} - seen
            seen |= layer
            expected += [(start, far, b + 1) for b in sorted(layer)]
    assert list(zip(row, distance, names, strict=True)) == expected
    assert len(node) == len(expected)


def test_the_query_for_a_name_is_the_one_that_packing_takes(folder: Path) -> None:
    """Of no engine in particular before any engine's; both have the same texts."""
    texts = Texts.open(folder)
    one, bing = (texts.known(Image.of("k", (), [h])) for h in ("name-dog", "name-dog-bing"))
    assert one == bing
    dog, asked = texts.entities.find("Q144"), texts.queries.find("name-dog")
    assert dog is not None
    assert asked is not None
    assert dog[:2] == (asked[0], asked[2])
    assert asked[1] == dog[2]


def test_an_entity_that_nobody_asks_for_has_its_name(folder: Path) -> None:
    assert "beast" in names_of(Texts.open(folder), "alias", Image.of("k", ["Q729"]))


def test_counts_are_told(folder: Path) -> None:
    counts = read_manifest(folder, "texts")["counts"]
    assert (counts["queries"], counts["entities"], counts["strays"]) == (10, 7, 1)
    assert counts["tables"] == 10 - 1 + 4  # one for two engines; four that have no name query


def test_an_empty_data_set_has_empty_tables(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph", [])
    texts = Texts.open(build(graph, tmp_path / "tables"))
    assert texts.draw(Image.of("k", ["Q1"], ["h"]), 0, 0) is None
    assert texts.draw(Image.of("k", ["Q1"], ["h"], ["Rex"]), 0, 0) == "Rex"


def test_an_entity_without_a_text_has_no_table(tmp_path: Path) -> None:
    rows = [entity("Q1", ""), entity("Q2", "dog")]
    graph = write_graph(tmp_path / "graph", rows, [query("h", "", about="Q1")])
    texts = Texts.open(build(graph, tmp_path / "tables"))
    assert texts.draw(Image.of("k", ["Q1"]), 0, 0) is None
    assert texts.draw(Image.of("k", ["Q1", "Q2"]), 0, 0) == "dog"
    kept = Texts.open(texts.folder, filter_=TextFilter(keep_roots=("Q729",)))
    assert kept.draw(Image.of("k", (), ["h"]), 0, 0) is None


# --- made once -----------------------------------------------------------------------------------


def test_tables_are_made_once_for_the_same_options_and_data_set(
    graph: Path, folder: Path, tmp_path: Path
) -> None:
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    assert build(graph, folder.parent) == folder
    assert build(graph, folder.parent, TextOptions(alt_text_chance=0.1)) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == stamp
    assert build(graph, folder.parent, TextOptions(parents=0.3)) != folder
    assert build(animals(tmp_path / "same"), folder.parent) == folder
    other = write_graph(tmp_path / "other", [entity("Q1", "ox")])
    assert build(other, folder.parent) != folder


def test_equal_inputs_give_equal_bytes(graph: Path, folder: Path, tmp_path: Path) -> None:
    again = build(graph, tmp_path)
    for file in folder.glob("*.arrow"):
        assert file.read_bytes() == (again / file.name).read_bytes()
    assert [check.problem for check in verify(again)] == [""] * (
        len(read_manifest(again, "texts")["outputs"]) + 1
    )


def test_what_killed_builds_left_is_removed(graph: Path, tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    host = socket.gethostname()
    left = tmp_path / f"0123.{host}.{dead}.tmp"
    alive = tmp_path / f"0123.{host}.{os.getpid()}.tmp"
    elsewhere = tmp_path / f"0123.{host}-2.{dead}.tmp"
    for path in (left, alive, elsewhere):
        path.mkdir()
    build(graph, tmp_path)
    assert [path.exists() for path in (left, alive, elsewhere)] == [False, True, True]


def test_processes_that_build_at_once_end_with_the_same_tables(graph: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from training.text_build import build\n"
        "print(build(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(graph), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    assert len(said) == 1
    assert [process.returncode for process in both] == [0, 0]
    (made,) = tmp_path.iterdir()
    Texts.open(made)


# --- what is wrong is told -----------------------------------------------------------------------


def test_other_options_than_the_tables_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="built with other options than are asked for"):
        Texts.open(folder, TextOptions(parents=0.3))
    Texts.open(folder, TextOptions(alt_text_chance=0.3))


def test_tables_that_are_damaged_or_none_are_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished texts"):
        Texts.open(tmp_path)
    made = build(graph, tmp_path)
    (made / "rows.arrow").write_bytes(b"")
    for open_again in (lambda: Texts.open(made), lambda: build(graph, tmp_path)):
        with pytest.raises(UserError, match=r"rows.arrow is missing or cut off; remove"):
            open_again()


def test_a_data_set_without_queries_is_refused(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph", [])
    manifest = read_manifest(graph, "graph")
    del manifest["outputs"]["queries.parquet"], manifest["manifest_sha256"]
    write_manifest(graph, manifest)
    with pytest.raises(UserError, match=r"has no queries.parquet, which texts are made of"):
        build(graph, tmp_path / "tables")


@pytest.mark.parametrize(
    ("name", "ids", "sentence"),
    [
        ("entities", ["Q2", "Q1"], "Q1 comes after Q2, but rows stand by number"),
        ("queries", ["Q2", "Q1"], "the query h1 stands after those of later entities"),
    ],
)
def test_rows_in_another_order_are_refused(
    tmp_path: Path, name: str, ids: Sequence[str], sentence: str
) -> None:
    graph = write_graph(tmp_path / "graph", [entity("Q1", "one"), entity("Q2", "two")])
    schema = pq.read_schema(graph / f"{name}.parquet")
    rows = {
        "entities": [entity(id_, id_) for id_ in ids],
        "queries": [query(f"h{n}", id_, about=id_) for n, id_ in enumerate(ids)],
    }[name]
    write_table(graph / f"{name}.parquet", pa.Table.from_pylist(rows, schema))
    manifest = read_manifest(graph, "graph")
    manifest["outputs"][f"{name}.parquet"]["bytes"] = (graph / f"{name}.parquet").stat().st_size
    write_manifest(graph, {k: v for k, v in manifest.items() if k != "manifest_sha256"})
    with pytest.raises(UserError, match=sentence):
        build(graph, tmp_path / "tables")
    assert list((tmp_path / "tables").iterdir()) == []


# --- ids -----------------------------------------------------------------------------------------


@given(
    ids=st.lists(st.text(), unique=True, max_size=60),
    others=st.lists(st.text(), max_size=20),
)
def test_every_id_is_found_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], others: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    array = pa.array([*ids, *ids[:3]], pa.large_string())  # of two, the first counts
    number = np.arange(len(array), dtype=np.uint32)
    columns = {"rows": number.astype(np.uint64) << 40, "group": number, "about": number}
    write_index(folder, "queries.arrow", array, columns, Buckets.of(array))
    index = Index(folder, "queries.arrow")
    there = index.batch.column("id").to_pylist()
    for row, id_ in enumerate(ids):
        assert index.find(id_) == (row << 40, row, there.index(id_))
    for id_ in others:
        assert id_ in ids or index.find(id_) is None


# --- counts --------------------------------------------------------------------------------------


def test_what_is_read_of_shards_is_called_as_packing_calls_it() -> None:
    assert (IMAGES_FILE, SHARDS_STEP) == (tables.IMAGES_FILE, target.STEP)
    assert set(COLUMNS) <= set(tables.IMAGES.names)


# --- the measuring -------------------------------------------------------------------------------


def test_the_benchmark_runs(tmp_path: Path) -> None:
    figures = bench.measure(Options(items=600, work=tmp_path, repeat=1))
    assert (figures["queries"], figures["entities"]) == (60, 20)
    assert all(rate["seconds"] > 0 for rate in figures["rates"])
    assert "60 queries of 20 entities" in bench.tables(figures)
