"""img2dataset as it ships, in an environment of its own below ``data/bench``.

Installed by ``--install-peers``: some 57 packages, 760 MB. It is told not to look for updates, and
runs without wandb, which it imports whatever it is told.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import peers

VERSION: Final = "1.47.0"
NAME: Final = f"img2dataset {VERSION}"

_FOLDER: Final = "img2dataset"  # below data/bench
_QUIET: Final = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}


@dataclass(frozen=True)
class Setting:
    """What of its options a user sets to make it fast."""

    processes: int = 1
    threads: int = 16
    per_shard: int = 10_000

    def __str__(self) -> str:
        return f"{self.processes} × {self.threads} threads, {self.per_shard:,} a shard"


def install(work: Path) -> str | None:
    """Installs it; a line that says why, where it can't be."""
    home = work / _FOLDER
    steps = [
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "python"), *peers.PIP, f"img2dataset=={VERSION}"],
    ]
    return peers.installed(NAME, home, steps)


def is_installed(work: Path) -> bool:
    return _program(work).exists()


def _program(work: Path) -> Path:
    return work / _FOLDER / "bin" / "img2dataset"


def write_list(urls: Sequence[str], path: Path) -> None:
    """What it is given: a table of URLs with a caption each."""
    captions = [f"A picture, number {number}" for number in range(len(urls))]
    pq.write_table(pa.table({"url": list(urls), "caption": captions}), path)


def command(
    work: Path,
    urls: Path,
    out: Path,
    setting: Setting,
    more: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Downloads a list into webdataset shards of pictures of 256 (the shorter side).

    It has no need to read EXIF data or to look at more than a URL. ``more`` are options that come
    on top; what stands at ``out`` is removed.
    """
    shutil.rmtree(out, ignore_errors=True)
    known = _QUIET | dict(variables or {})
    return [
        *("env", *(f"{name}={value}" for name, value in known.items())),
        str(_program(work)),
        f"--url_list={urls}",
        "--input_format=parquet",
        "--caption_col=caption",
        f"--output_folder={out}",
        "--output_format=webdataset",
        "--image_size=256",
        "--resize_mode=keep_ratio",
        "--encode_quality=95",
        "--extract_exif=False",
        "--enable_wandb=False",
        f"--processes_count={setting.processes}",
        f"--thread_count={setting.threads}",
        f"--number_sample_per_shard={setting.per_shard}",
        *more,
    ]


def rows(out: Path) -> list[dict[str, Any]]:
    """Its own table of all URLs of a run: url, status, error_message and the like."""
    found: list[dict[str, Any]] = []
    for path in sorted(out.glob("[0-9]*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def pictures(out: Path) -> Iterator[tuple[str, bytes]]:
    """URL and JPEG of every picture in its shards."""
    urls = {row["key"]: row["url"] for row in rows(out)}
    for path in sorted(out.glob("[0-9]*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = os.path.basename(member.name).partition(".")
                if suffix == "jpg" and (file := tar.extractfile(member)) is not None:
                    yield urls[key], file.read()


def span(out: Path) -> float:
    """Seconds from the beginning of its first shard to the end of its last, as it says itself."""
    stats = [json.loads(path.read_text()) for path in out.glob("[0-9]*_stats.json")]
    begins, ends = ([float(found[name]) for found in stats] for name in ("start_time", "end_time"))
    return max(ends) - min(begins)
