"""Lists of addresses for tests, in every form, and the source run over them as a command does."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from download.candidates import ENTITIES
from download.commons import load
from download.sources import Request, sources
from graph.recipe import load as load_recipe
from graph.settings import ImageSettings

Row = dict[str, Any]

FORMS = ("parquet", "csv", "tsv", "jsonl", "csv.gz", "tsv.zst", "jsonl.gz", "ndjson.zst")

#: The queries of the data set that tests list images for: hash → entity.
QUERIES: Mapping[str, str | None] = {
    "dog-name": "Q144",
    "dog-alias": "Q144",
    "horse-name": "Q726",
    "lake-name": "Q23397",
    "brown-mammal": None,
}
WANTED = ("Q144", "Q726", "Q23413")


def write_list(path: Path, rows: Sequence[Row], row_group: int | None = None) -> Path:
    """Write rows in the form that the name says, as pandas and msgspec would."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = path.name.removesuffix(".gz").removesuffix(".zst")
    if text.endswith(".parquet"):
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
        pq.write_table(table, path, row_group_size=row_group)
        return path
    if text.endswith(("csv", "tsv")):
        part = path.with_name("part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if text.endswith("tsv") else ",")
            writer.writerow(names)
            for row in rows:
                writer.writerow([_cell(row.get(name)) for name in names])
        content = part.read_bytes()
        part.unlink()
    else:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        content = "".join(f"{line}\n" for line in lines).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def write_queries(path: Path, queries: Mapping[str, str | None] = QUERIES) -> Path:
    columns = {"query_hash": list(queries), "entity": pa.array(queries.values(), pa.string())}
    pq.write_table(pa.table(columns), path)
    return path


def request(
    folder: Path,
    lists: Sequence[Path],
    *,
    per_entity: int = 0,
    queries: Path | None = None,
    store: Path | None = None,
) -> Request:
    """A request for images of WANTED from lists; what it needs is made in ``folder``."""
    for name in ("graph", "out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_queries(folder / "graph" / "queries.parquet")
    wanted = [{"id": id, "name": id, "roots": ["Q1"]} for id in WANTED]
    pq.write_table(pa.Table.from_pylist(wanted, ENTITIES), folder / "entities.parquet")
    return Request(
        graph=folder / "graph",
        recipe=load_recipe("entitynet"),
        entities=folder / "entities.parquet",
        settings=replace(ImageSettings(), per_entity=per_entity),
        commons=load(),
        given={
            "urls": tuple(map(str, lists)),
            "url-queries": () if queries is None else (str(queries),),
        },
        store=store,
        images=folder,
        out=folder / "out",
        scratch=folder / "scratch",
        quiet=True,
    )


def found(folder: Path, *lists: Path, **options: Any) -> tuple[list[Row], dict[str, Any]]:
    """The rows that the source writes for these lists, and what it says for the manifest."""
    asked = request(folder, lists, **options)
    source = sources()["url-list"]
    source.inputs(asked)
    said = dict(source.find(asked))
    assert sorted(path.name for path in asked.out.iterdir()) == [
        "available.parquet",
        "candidates.parquet",
    ]
    return pq.read_table(asked.out / "candidates.parquet").to_pylist(), said
