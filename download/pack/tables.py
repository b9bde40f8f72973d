"""Rows of images → the tables, and what each shard holds: read once more, in the order of keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.pack.attribution import ATTRIBUTION, attribution
from download.pack.rows import IMAGE, rows_file
from download.pack.shards import ROW_GROUP, SAMPLES, Cutter, Shard, samples_file
from download.pack.splits import SPLITS, Codes
from etl.progress import Tick
from etl.tables import TableWriter

IMAGES_FILE: Final = "images.parquet"
ATTRIBUTION_FILE: Final = "attribution.parquet"

#: A row for each image, by key.
IMAGES: Final = pa.schema(
    [
        IMAGE.field("key"),
        ("split", pa.string()),
        ("shard", pa.string()),  # train-000012, without .tar
        *(column for column in IMAGE if column.name != "key"),
    ]
)

_READ: Final = 1 << 13
_GROUP: Final = 1 << 14  # rows of a row group: of 1 kB each, and more


@dataclass(frozen=True)
class Cutting:
    """What is cut: the rows of so many buckets, by the split of each image."""

    work: Path
    buckets: int
    split: Codes  # (k,)
    count: int  # images of a shard, at most
    size: int  # bytes of a shard, at most


def write_tables(job: Cutting, tick: Tick) -> tuple[dict[str, Any], list[Shard]]:
    """Writes the tables and the samples of each split; counts, and what each shard holds.

    ``tick`` is told each image.
    """
    cutters = [Cutter(job.count, job.size) for _ in SPLITS]
    counts = _Counts()
    start = 0
    with ExitStack() as stack:
        images, credits_, *samples = _writers(stack, job.work)
        for rows in _rows(job):
            codes = job.split[start : start + rows.num_rows]
            shards = _cut(rows, codes, cutters)
            table = _images(rows, codes, shards)
            images.write(table)
            credits_.write(attribution(table))
            for code, writer in enumerate(samples):
                own = rows.filter(pa.array(codes == code))
                writer.write(own.select(SAMPLES.names).cast(SAMPLES))
            counts.add(table, rows)
            start += rows.num_rows
            tick(rows.num_rows)
    return counts.told(), list(_shards(cutters))


def shard_name(split: str, number: int) -> str:
    """train-000012."""
    return f"{split}-{number:06d}"


def _writers(stack: ExitStack, work: Path) -> list[TableWriter]:
    made = [
        TableWriter(work / IMAGES_FILE, IMAGES, row_group=_GROUP),
        TableWriter(work / ATTRIBUTION_FILE, ATTRIBUTION, row_group=_GROUP),
        *(
            TableWriter(samples_file(work, s), SAMPLES, row_group=ROW_GROUP, repeated=["task"])
            for s in SPLITS
        ),
    ]
    return [stack.enter_context(writer) for writer in made]


def _rows(job: Cutting) -> Iterator[pa.Table]:
    for number in range(job.buckets):
        file = pq.ParquetFile(rows_file(job.work, number), pre_buffer=False)
        for batch in file.iter_batches(_READ):
            yield pa.table(batch)


def _cut(rows: pa.Table, codes: Codes, cutters: list[Cutter]) -> list[str]:
    """The shard of each image."""
    lengths = (
        rows["length"].to_pylist(),
        pc.binary_length(rows["json"]).to_pylist(),
        pc.binary_length(rows["txt"]).to_pylist(),
    )
    return [
        shard_name(SPLITS[code], cutters[code].add(*members))
        for code, *members in zip(codes.tolist(), *lengths, strict=True)
    ]


def _images(rows: pa.Table, codes: Codes, shards: list[str]) -> pa.Table:
    made = {
        "split": pa.array(SPLITS).take(pa.array(codes)),
        "shard": pa.array(shards, pa.string()),
    }
    columns = [made[name] if name in made else rows[name] for name in IMAGES.names]
    return pa.table(columns, schema=IMAGES)


def _shards(cutters: list[Cutter]) -> Iterator[Shard]:
    for split, cutter in zip(SPLITS, cutters, strict=True):
        first = 0
        for number, images in enumerate(cutter.images):
            yield Shard(shard_name(split, number), split, first, images, "", "")
            first += images


class _Counts:
    """Images by split and by root; an image counts for each of its roots."""

    def __init__(self) -> None:
        self._images: Counter[str] = Counter()
        self._roots: dict[str, Counter[str]] = {}
        self._named = self._licensed = self._cut = 0

    def add(self, images: pa.Table, rows: pa.Table) -> None:
        self._images.update(_counted(images["split"]))
        self._named += pc.sum(rows["named"]).as_py() or 0
        self._cut += pc.sum(rows["cut"]).as_py() or 0
        self._licensed += images.num_rows - images["licence"].null_count
        at = pc.list_parent_indices(images["roots"])
        pairs = pa.table({"root": pc.list_flatten(images["roots"]),
                          "split": images["split"].take(at)})  # fmt: skip
        for pair in pairs.group_by(["root", "split"]).aggregate([([], "count_all")]).to_pylist():
            self._roots.setdefault(pair["root"], Counter())[pair["split"]] += pair["count_all"]

    def told(self) -> dict[str, Any]:
        total = self._images.total()
        return {
            "images": dict(self._images),
            "roots": {root: dict(found) for root, found in sorted(self._roots.items())},
            "captions": {"text": total - self._named, "name": self._named},
            "licensed": self._licensed,
            "cut": self._cut,
        }


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(column).to_pylist()}
