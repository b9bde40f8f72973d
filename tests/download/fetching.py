"""What tests of fetching share: candidates that are made up, and a run against a local server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from download.candidates import CANDIDATES, CANDIDATES_FILE
from download.fetch.log import LOG_FOLDER, RESULTS_FILE
from download.fetch.run import Options, fetch
from etl.manifest import digests, write_manifest
from tests.download.image_server import Server

Rows = list[dict[str, Any]]

#: As fast as a server gives it: no test waits for a pace that it doesn't look at.
FAST = """
[default]
connections = 8
per_second = 100000
burst = 1000
rest_after = 1000
"""


def write_candidates(
    images: Path, addresses: Iterable[str | Sequence[str]], score: float = 1.0
) -> None:
    """Candidates of one entity, each with its addresses."""
    folder = images / "candidates"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, given in enumerate(addresses):
        urls = [given] if isinstance(given, str) else list(given)
        row = {"entity": f"Q{number + 1}", "url": urls[0], "fallback_urls": urls[1:] or None}
        rows.append({**dict.fromkeys(CANDIDATES.names), "score": 1.0, **row})
    pq.write_table(pa.Table.from_pylist(rows, CANDIDATES), folder / CANDIDATES_FILE)
    write_manifest(
        folder,
        {
            "step": "candidates",
            "counts": {"candidates": len(rows)},
            "outputs": digests(folder, [CANDIDATES_FILE], quiet=True),
        },
    )


def options(server: Server, folder: Path, **more: Any) -> Options:
    """Options for names below .test, all of which are the server; no pace unless one is given."""
    manners = folder / "manners.toml"
    if not manners.exists():
        manners.write_text(FAST)
    given: dict[str, Any] = {
        "contact": "tests@example.org",
        "workers": 0,
        "pause": 0.01,
        "manners": manners,
        "allow_host": ("*.test",),
        "resolve": (f"*.test:127.0.0.1:{server.port}",),
        "quiet": True,
    }
    return Options(**{**given, **more})


def go(images: Path, server: Server, **more: Any) -> dict[str, Any]:
    """A run of the command."""
    return fetch(images, options(server, images.parent, **more))


def results(images: Path) -> Rows:
    rows: Rows = pq.read_table(images / "fetches" / RESULTS_FILE).to_pylist()
    return rows


def reasons(images: Path) -> list[str]:
    return [row["reason"] for row in results(images)]


def log(images: Path) -> Rows:
    """All rows of the log, in the order of its parts."""
    found: Rows = []
    for name in sorted(os.listdir(images / "fetches" / LOG_FOLDER)):
        found += pq.ParquetFile(images / "fetches" / LOG_FOLDER / name).read().to_pylist()
    return found
