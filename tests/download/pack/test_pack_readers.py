"""Shards as their readers take them: webdataset, open_clip_train, Hugging Face, EntityNet's."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from download.pack.export import export_shards
from download.pack.record import Record
from download.pack.run import pack
from etl.errors import UserError
from etl.manifest import digests, write_manifest
from etl.tables import write_table
from graph.tables import ENTITIES, QUERIES
from tests.download.fetched import Got, picture, write
from tests.download.pack.test_pack import bytes_of, candidates, options, rows_of, samples

#: webdataset leaves the files that it reads to the garbage collector.
unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of images, with a data set, and its shards; not to be written into."""
    folder = write(tmp_path_factory.mktemp("packed"), candidates())
    graph = write_graph(folder / "graph")
    pack(folder, str(folder / "shards"), options(graph=graph, shard_count=4))
    return folder


def write_graph(folder: Path) -> Path:
    """The tables of a data set that packing reads."""
    folder.mkdir()
    entities = [
        {"id": "Q144", "natural_type": "Q7377", "natural_type_name": "mammal"},
        {"id": "Q146"},
    ]
    asked = {"query_type": "attribute_name", "entity": "Q146", "query": "black cat"}
    name = {"query_type": "name", "entity": "Q144", "query": "dog", "engine": "google"}
    queries = [
        {"query_hash": "h1", **asked},
        {"query_hash": "n2", **name, "query": "Dog"},
        {"query_hash": "n1", **name, "engine": None},
    ]
    write_table(folder / "entities.parquet", pa.Table.from_pylist(entities, ENTITIES))
    write_table(folder / "queries.parquet", pa.Table.from_pylist(queries, QUERIES))
    names = ["entities.parquet", "queries.parquet"]
    write_manifest(folder, {"step": "graph", "outputs": digests(folder, names, quiet=True)})
    return folder


def records(folder: Path) -> dict[str, Record]:
    return {
        key: msgspec.json.decode(members["json"], type=Record)
        for _, key, members in samples(folder)
    }


def test_queries_and_natural_types_come_from_the_data_set(packed: Path) -> None:
    by_entities = {tuple(e.id for e in one.entities): one for one in records(packed).values()}
    both = by_entities["Q144", "Q146"]  # found for Q146, by h1
    assert [(e.natural_type, e.natural_type_name) for e in both.entities] == [
        ("Q7377", "mammal"), ("", "")
    ]  # fmt: skip
    assert [(q.hash, q.query, q.type, q.entity, q.found) for q in both.queries] == [
        ("h1", "black cat", "attribute_name", "Q146", True),
        ("n1", "dog", "name", "Q144", False),
    ]
    unknown = by_entities["Q144", "Q756"]  # h2 is in no data set
    assert [(q.hash, q.query, q.found) for q in unknown.queries][:2] == [
        ("h2", "", True), ("h1", "black cat", True)
    ]  # fmt: skip


@unclosed
def test_webdataset_decodes_them(packed: Path) -> None:
    paths = [str(path) for path in sorted((packed / "shards").glob("train-*.tar"))]
    found = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pil"))
    rows = [row for row in rows_of(packed) if row["split"] == "train"]
    assert [one["__key__"] for one in found] == [row["key"] for row in rows]
    assert [one["jpg"].size for one in found] == [(row["width"], row["height"]) for row in rows]
    assert [one["json"]["caption"] for one in found] == [one["txt"] for one in found]


@unclosed
def test_open_clip_train_reads_them_as_pairs_of_image_and_text(packed: Path) -> None:
    """The steps of its `get_wds_dataset` (open_clip_train/data.py), by webdataset's own parts."""
    last = len(list((packed / "shards").glob("train-*.tar"))) - 1
    shards = f"{packed}/shards/train-{{000000..{last:06d}}}.tar"
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(shards),
        webdataset.tarfile_to_samples(),
        webdataset.select(lambda sample: "txt" in sample and "jpg" in sample),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.to_tuple("image", "text"),
    )
    pairs = list(pipeline)
    rows = [row for row in rows_of(packed) if row["split"] == "train"]
    assert [text for _, text in pairs] == [row["caption"] for row in rows]
    assert all(image.mode == "RGB" for image, _ in pairs)


HUGGING_FACE = """
import json, sys, datasets
files = {split: f"{sys.argv[1]}/{split}-*.tar" for split in ("train", "val")}
found = datasets.load_dataset("webdataset", data_files=files)
rows = [row for split in found.values() for row in split]
sizes = [row["jpg"].size for row in rows]
print(json.dumps([[r["__key__"], r["txt"], r["json"], s] for r, s in zip(rows, sizes)]))
"""


def test_hugging_face_datasets_loads_them(packed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-c", HUGGING_FACE, str(packed / "shards")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = {row["key"]: row for row in rows_of(packed) if row["split"] != "test"}
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert {row[0] for row in loaded} == rows.keys()
    for key, text, known, size in loaded:
        assert (text, size) == (rows[key]["caption"], [rows[key]["width"], rows[key]["height"]])
        assert [entity["id"] for entity in known["entities"]] == rows[key]["entities"]


def test_hugging_face_can_tell_all_types_from_any_shard(packed: Path) -> None:
    """It infers them from five samples of the first shard, as Arrow does, and nulls or empty
    lists there would fail at the first sample that has something (datasets'
    packaged_modules/webdataset)."""
    schemas = {
        str(pa.Table.from_pylist([json.loads(members["json"])]).schema)
        for _, _, members in samples(packed)
    }
    assert len(schemas) == 1
    assert "null" not in schemas.pop()


# --- EntityNet's layout -------------------------------------------------------------------------


def test_the_export_has_what_the_releases_loader_reads(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    manifest = export_shards(packed / "shards", out, workers=0, quiet=True)
    known = records(packed)
    for split in ("train", "val", "test"):
        rows = [row for row in rows_of(packed) if row["split"] == split]
        counts = json.loads((out / f"num_images_per_shard-wds_{split}.json").read_text())
        assert sum(counts) == len(rows) == manifest["counts"][split]
        numbers = iter(range(len(rows)))
        for shard, count in enumerate(counts):
            metadata = json.loads((out / f"data_{split}/metadata_{shard:05d}.json").read_text())
            with tarfile.open(out / f"data_{split}/shard_{shard:05d}.tar") as tar:
                members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
            assert [f"{key}.jpg" for key in metadata] == list(members)
            assert len(members) == count
            for (key, told), row in zip(metadata.items(), rows[: len(metadata)], strict=True):
                assert key == told["key"] == f"{split}{next(numbers):09d}"
                check_row(told, row, known[row["key"]], members[f"{key}.jpg"])
            del rows[: len(metadata)]


def check_row(told: dict[str, Any], row: dict[str, Any], known: Record, jpeg: bytes) -> None:
    assert told["sha256"] == row["sha256"]
    assert told["texts"] == row["texts"]
    assert told["qh"] == [query.hash for query in known.queries if query.hash]
    assert told["images_link"] == [file["url"] for file in row["files"]]
    assert told["images_contextlink"] == [file["page_url"] or "" for file in row["files"]]
    assert told["images_width"] == [file["width"] for file in row["files"]]
    assert told["images_height"] == [file["height"] for file in row["files"]]
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.size == (told["width"], told["height"])
    assert Path(told["img"]).stem == told["key"]


def test_an_export_that_was_stopped_is_gone_on_with(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    export_shards(packed / "shards", whole, workers=2, quiet=True)
    import download.pack.export

    done = []

    def stopping(job: Any, tick: Any, write: Any = download.pack.export.write_job) -> None:
        if len(done) == 2:
            raise UserError("stopped")
        done.append(job.name)
        write(job, tick)

    with monkeypatch.context() as patched:
        patched.setattr(download.pack.export, "write_job", stopping)
        with pytest.raises(UserError, match="stopped"):
            export_shards(packed / "shards", out, workers=0, quiet=True)
    export_shards(packed / "shards", out, workers=0, quiet=True)
    assert files_of(out) == files_of(whole)


def test_an_export_replaces_that_of_more_shards(tmp_path: Path) -> None:
    images = write(tmp_path / "images", [Got("Q144", picture(n)) for n in range(6)])
    out = tmp_path / "out"
    for count in (1, 10):
        pack(images, str(images / "shards"), options(shard_count=count))
        manifest = export_shards(images / "shards", out, workers=0, quiet=True)
        notes = out / "data_train" / "notes.txt"
        notes.write_text("mine")  # is nothing that an export wrote
    assert files_of(out).keys() == {*manifest["outputs"], "data_train/notes.txt"}


def test_an_export_into_what_is_not_ours_is_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "data_train").mkdir()
    with pytest.raises(UserError, match="'data_train'"):
        export_shards(packed / "shards", tmp_path, quiet=True)
    with pytest.raises(UserError, match="own directory"):
        export_shards(packed / "shards", packed / "shards" / "release", quiet=True)


def files_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", ".lock")
    }


def test_tables_are_read_by_whoever_reads_parquet(packed: Path) -> None:
    outputs = bytes_of(packed / "shards")
    tables = {name for name in outputs if name.endswith(".parquet")}
    assert tables == {f"{name}.parquet" for name in ("attribution", "dropped", "images", "splits")}
    for name in tables:
        assert pq.read_table(packed / "shards" / name).num_rows
