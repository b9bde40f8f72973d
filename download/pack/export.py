"""Shards in the layout of EntityNet's release, for code that was written for that.

    sparqless export shards --shards data/images/living/shards --out data/entitynet-images

What its loaders read (``entitynet_webds_queryfilter.py``, and what ``urlbuild_step3`` writes):

- ``data_<split>/shard_00000.tar``: JPEGs alone, ``<key>.jpg``;
- ``data_<split>/metadata_00000.json`` beside it: key → what is known of the image: ``key``, ``qh``
  (query hashes), ``texts``, ``images_link``, ``images_contextlink``, ``images_width`` and
  ``images_height`` (side by side, one for each address at which it was found), ``img``, ``height``,
  ``width`` (of the JPEG);
- ``num_images_per_shard-wds_<split>.json``: a list of numbers.

Keys are the release's: the split and nine digits. ``sha256`` is ours, and leads back to
images.parquet. ``qh`` has the queries that found an image and, of entities that none found, the one
for their name: EntityNet's loader draws its texts from these. ``sparqless export entitynet`` writes
the entities and queries that belong to it.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq
import ujson

from download.pack.record import Record
from download.pack.shards import write_tar
from download.pack.splits import SPLITS
from download.pack.tables import IMAGES_FILE
from download.pack.target import STEP
from etl.engine import Pool
from etl.errors import UserError
from etl.manifest import (
    DISCARDED,
    MANIFEST,
    check_whole,
    digests,
    discard,
    read_manifest,
    tool_versions,
    write_json,
)
from etl.progress import Progress, Tick
from etl.store import LOCK
from etl.writing import disk_errors, locked
from graph.directory import BUILDING, publish

EXPORT_STEP: Final = "entitynet-images"

_WORK: Final = BUILDING
_PLAN = "plan.json"


class Job(msgspec.Struct, frozen=True):
    """A shard to be written; ``first`` is the number of its first image in its split."""

    name: str  # train-000012
    split: str
    number: int  # of the shard in its split
    first: int
    images: int
    shards: str
    work: str

    @property
    def tar(self) -> str:
        return f"data_{self.split}/shard_{self.number:05d}.tar"

    @property
    def metadata(self) -> str:
        return f"data_{self.split}/metadata_{self.number:05d}.json"


def export_shards(
    shards: Path, out: Path, *, workers: int = 1, quiet: bool = False
) -> dict[str, Any]:
    """Writes finished shards into the directory ``out`` in EntityNet's layout; the manifest.

    A call that is killed is gone on with by the next.

    Raises UserError where there are no finished shards, or ``out`` isn't ours to write into.
    """
    manifest = read_manifest(shards, STEP)
    check_whole(shards, manifest, "make them again with `sparqless images pack`")
    _check_out(shards, out)
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    with disk_errors(out), locked(out, "--out"):
        _settle(work, manifest["manifest_sha256"])
        jobs = list(_jobs(shards, work))
        _write(jobs, workers, quiet=quiet)
        counts = {split: [job.images for job in jobs if job.split == split] for split in SPLITS}
        names = [name for job in jobs for name in (job.tar, job.metadata)]
        for split, numbers in counts.items():
            names.append(f"num_images_per_shard-wds_{split}.json")
            write_json(work / names[-1], numbers)
        made = {
            "step": EXPORT_STEP,
            "versions": tool_versions(),
            "shards": {"manifest_sha256": manifest["manifest_sha256"]},
            "counts": {split: sum(numbers) for split, numbers in counts.items()},
            "outputs": digests(work, names, quiet=quiet),
        }
        publish(work, out, names, made, gone=_gone(out, names))
        discard(work)
    return made


def _check_out(shards: Path, out: Path) -> None:
    if out.resolve().is_relative_to(shards.resolve()):
        raise UserError(f"{out} would stand in the shards' own directory: name another one.")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a directory.")
    if (out / MANIFEST).exists():
        read_manifest(out, EXPORT_STEP)  # refuses another step's directory
    ours = {f"data_{split}" for split in SPLITS}
    ours |= {f"num_images_per_shard-wds_{split}.json" for split in SPLITS}
    begun = any((out / name).exists() for name in (MANIFEST, _WORK, f"{_WORK}{DISCARDED}"))
    known = {MANIFEST, LOCK, _WORK, f"{_WORK}{DISCARDED}", *(ours if begun else ())}
    foreign = sorted({path.name for path in out.iterdir()} - known)
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]!r}, which no export of sparqless wrote there: name a new "
            "directory or that of an earlier export."
        )


def _settle(work: Path, shards: str) -> None:
    """Keeps what an export of the same shards has written so far."""
    try:
        same = ujson.loads((work / _PLAN).read_bytes()) == shards
    except (FileNotFoundError, ValueError):
        same = False
    if not same:
        discard(work)
        work.mkdir()
        write_json(work / _PLAN, shards)
    for split in SPLITS:
        (work / f"data_{split}").mkdir(exist_ok=True)


_OURS: Final = re.compile(r"data_\w+/(shard_\d+\.tar|metadata_\d+\.json)", re.ASCII)


def _gone(out: Path, names: Sequence[str]) -> list[str]:
    """What an earlier export of more shards has left."""
    there = (path.relative_to(out).as_posix() for path in out.glob("data_*/*"))
    return sorted({name for name in there if _OURS.fullmatch(name)} - {*names})


def _jobs(shards: Path, work: Path) -> Iterator[Job]:
    table = pq.read_table(shards / IMAGES_FILE, columns=["split", "shard"])
    counts = table.group_by(["split", "shard"]).aggregate([([], "count_all")]).to_pylist()
    for split in SPLITS:
        first = 0
        own = sorted((c["shard"], c["count_all"]) for c in counts if c["split"] == split)
        for number, (name, images) in enumerate(own):
            yield Job(
                name, split, number, first, images, str(shards.absolute()), str(work.absolute())
            )
            first += images


def _write(jobs: Sequence[Job], workers: int, *, quiet: bool) -> None:
    left = [job for job in jobs if not _is_written(job)]
    total, todo = (sum(job.images for job in some) for some in (jobs, left))
    with (
        Progress("exporting", total, done=total - todo, unit="image", quiet=quiet) as progress,
        Pool(workers) as pool,
    ):
        for _ in pool.run(write_job, left, progress.add):
            pass


def _is_written(job: Job) -> bool:
    """A run that was killed may have moved one of the two into place already."""
    return all((Path(job.work) / name).exists() for name in (job.tar, job.metadata))


def write_job(job: Job, tick: Tick) -> None:
    """Writes a shard and its metadata, which come last."""
    work = Path(job.work)
    rows: dict[str, Any] = {}
    temporary = work / f"{job.tar}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            write_tar(file, _samples(job, rows, tick))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(work / job.tar)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(work / job.metadata, rows)


def _samples(job: Job, rows: dict[str, Any], tick: Tick) -> Iterator[dict[str, Any]]:
    """JPEGs under the release's keys; what is known of them goes into ``rows``."""
    for number, (jpeg, record) in enumerate(_read(job), job.first):
        key = f"{job.split}{number:09d}"
        rows[key] = _row(record, key, job)
        yield {"__key__": key, "jpg": jpeg}
        tick(1)


def _read(job: Job) -> Iterator[tuple[bytes, Record]]:
    with tarfile.open(Path(job.shards) / f"{job.name}.tar") as tar:
        jpeg = b""
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None, "shards hold files"
            if member.name.endswith(".jpg"):
                jpeg = file.read()
            elif member.name.endswith(".json"):
                yield jpeg, msgspec.json.decode(file.read(), type=Record)


def _row(record: Record, key: str, job: Job) -> dict[str, Any]:
    return {
        "key": key,
        "qh": list(dict.fromkeys(query.hash for query in record.queries if query.hash)),
        "texts": [text.text for text in record.written()],
        "images_link": [file.url for file in record.files],
        "images_contextlink": [file.page_url for file in record.files],
        "images_width": [file.width for file in record.files],
        "images_height": [file.height for file in record.files],
        "img": f"images_raw/{job.name}/{key}.jpg",
        "height": record.height,
        "width": record.width,
        "sha256": record.sha256,
    }
