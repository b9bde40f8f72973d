"""Shards as `images pack` writes them, of invented pictures; a user's way to them, but quick."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from download.pack.image import ImageOptions
from download.pack.run import Options, pack
from tests.download.fetched import Got, picture, write
from tests.training.drawn import draw, tokenize
from training.data import DataOptions, Loader

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZE = 32


def make_shards(folder: Path, images: int = 90, shard_count: int = 10, side: int = 48) -> Path:
    """The shards of so many dogs and plants, each with an alt text, a few held out."""
    got = [
        Got(
            ("Q144", "Q756")[n % 2],
            picture(1000 + n, size=(side + 20, side)),
            texts=[(f"picture {n}", "en")],
        )
        for n in range(images)
    ]
    write(folder, got)
    image = ImageOptions(size=side, min_side=16)
    options = Options(image=image, val=0.1, test=0, workers=0, shard_count=shard_count, quiet=True)
    pack(folder, str(folder / "shards"), options)
    return folder / "shards"


def keys_of(shards: Path, split: str = "train") -> list[str]:
    rows = pq.read_table(shards / "images.parquet").to_pylist()
    return [row["key"] for row in rows if row["split"] == split]


def members(tar: Path) -> dict[str, tuple[int, int]]:
    """Name → where its bytes begin in the tar, and how many they are."""
    with tarfile.open(tar) as file:
        return {member.name: (member.offset_data, member.size) for member in file}


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def rewritten(tar: Path, changed: Mapping[str, bytes]) -> None:
    """Writes a tar anew with other contents of some members."""
    with tarfile.open(tar) as file:
        found = [(m, file.extractfile(m).read()) for m in file]  # type: ignore[union-attr]
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as file:
        for member, data in found:
            data = changed.get(member.name, data)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


def loader(shards: Path | str, cache: Path, split: str = "train", **given: Any) -> Loader:
    """A small one; ``options`` as keywords of DataOptions."""
    options = DataOptions(cache=str(cache), **given.pop("options", {}))
    known = {"batch": 8, "size": SIZE, "mean": MEAN, "std": STD, "draw": draw}
    return Loader(shards, split, **{**known, "tokenize": tokenize, "options": options, **given})


def keys_by_batch(of: Loader, epoch: int = 0, start: int = 0) -> list[list[str]]:
    return [batch.keys for batch in of.epoch(epoch, start)]
