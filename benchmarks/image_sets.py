"""Directories of candidates as `sparqless images find` leaves them, of addresses that are made up.

And the commands that go on from there, as a user gives them.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import ujson

from download.candidates import (
    CANDIDATES,
    CANDIDATES_FILE,
    ENTITIES,
    ENTITIES_FILE,
    FOLDER,
    filled,
)
from etl.manifest import MANIFEST, digests, write_manifest

CONTACT: Final = "bench@example.org"

_IMAGES: Final = (sys.executable, "-m", "cli", "images")
_PER_ENTITY: Final = 10  # candidates

#: A pace that is none, for a host that is nobody else's.
UNLIMITED: Final[Mapping[str, float]] = {
    "connections": 64,
    "per_second": 1_000_000,
    "burst": 1_000_000,
    "bytes_per_second": 0,
}


@dataclass(frozen=True)
class Web:
    """What the downloader is told of the server under test, besides its manners."""

    allowed: Sequence[str] = ()
    resolved: Sequence[str] = ()
    manners: Path | None = None
    more: Sequence[str] = field(default=())

    def options(self) -> list[str]:
        """As a command line has them."""
        found = [f"--allow-host={host}" for host in self.allowed]
        found += [f"--resolve={rule}" for rule in self.resolved]
        if self.manners is not None:
            found.append(f"--manners={self.manners}")
        return [*found, *self.more]


def fetch_command(images: Path, web: Web, workers: int) -> list[str]:
    """`sparqless images fetch`."""
    given = ["--images", str(images), "--contact", CONTACT, "--workers", str(workers)]
    return [*_IMAGES, "fetch", *given, *web.options()]


def pack_command(images: Path, out: Path, workers: int, *more: str) -> list[str]:
    """`sparqless images pack`, to pictures whose shorter side is 256."""
    given = ["--images", str(images), "--out", str(out), "--workers", str(workers)]
    return [*_IMAGES, "pack", *given, "--size", "256", *more]


def write(images: Path, urls: Sequence[str | Sequence[str]]) -> None:
    """A directory of images with a candidate for each of ``urls``: an address, or several of which
    the first is tried first."""
    folder = images / FOLDER
    shutil.rmtree(images, ignore_errors=True)
    folder.mkdir(parents=True)
    each = [[url] if isinstance(url, str) else list(url) for url in urls]
    rows = range(len(each))
    known: dict[str, Any] = {
        "entity": [f"Q{1 + row // _PER_ENTITY}" for row in rows],
        "url": [first for first, *_ in each],
        "fallback_urls": [others for _, *others in each],
        "sources": [["url-list"]] * len(each),
        "reasons": [["url-list"]] * len(each),
        "query_hashes": [[]] * len(each),
        "texts": [[f"A picture, number {row}"] for row in rows],
        "text_langs": [["en"]] * len(each),
        "score": [1 / (1 + row % _PER_ENTITY) for row in rows],
    }
    entities = range(1, 2 + (len(each) - 1) // _PER_ENTITY)
    names = {
        "id": [f"Q{number}" for number in entities],
        "name": [f"thing {number}" for number in entities],
        "roots": [["Q1"]] * len(entities),
    }
    for name, schema, columns in (
        (CANDIDATES_FILE, CANDIDATES, known), (ENTITIES_FILE, ENTITIES, names),
    ):  # fmt: skip
        arrays = {key: pa.array(found, schema.field(key).type) for key, found in columns.items()}
        pq.write_table(filled(schema, arrays), folder / name)
    counts = {"entities": len(entities), "candidates": len(each)}
    outputs = digests(folder, [CANDIDATES_FILE, ENTITIES_FILE], quiet=True)
    manifest = {"step": FOLDER, "roots": [{"root": "Q1", "name": "thing 1"}], "counts": counts}
    write_manifest(folder, {**manifest, "outputs": outputs})


def write_manners(path: Path, pace: Mapping[str, float]) -> None:
    """A file for ``--manners``: how each host may be asked."""
    lines = (f"{name} = {value}" for name, value in pace.items())
    path.write_text("\n".join(["[default]", *lines, ""]))


def packed_pictures(shards: Path) -> Iterator[tuple[str, bytes]]:
    """URL and JPEG of every picture in the shards of a pack."""
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            data = b""
            for member in tar:
                read = tar.extractfile(member)
                assert read is not None
                if member.name.endswith(".jpg"):
                    data = read.read()
                elif member.name.endswith(".json"):
                    yield ujson.loads(read.read())["url"], data


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a finished step."""
    found: dict[str, Any] = ujson.loads((folder / MANIFEST).read_bytes())
    return found
