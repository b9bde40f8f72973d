"""A directory of images as `images find` and `images fetch` leave it, made of invented pictures.

    got = [Got("Q144", picture(1), texts=[("A dog", "en")]), Got("Q146", None)]
    write(folder, got)

Ids are Wikidata's; pictures, addresses, texts and people are invented.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from download.candidates import CANDIDATES, CANDIDATES_FILE, ENTITIES, ENTITIES_FILE
from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.log import FOLDER as FETCHES_FOLDER
from download.fetch.log import LOG_FOLDER, RESULTS, RESULTS_FILE, STORE_FOLDER, Row, table_of
from etl.manifest import digests, read_manifest, write_manifest
from etl.tables import write_table

NAMES = {"Q144": "dog", "Q146": "house cat", "Q756": "plant", "Q25324": "Canidae"}
ROOTS = {"Q144": ["Q729"], "Q146": ["Q729"], "Q756": ["Q756"], "Q25324": ["Q729"]}
ROOT_NAMES = {"Q729": "animal", "Q756": "plant"}


def pixels(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture that looks like no other: smooth spots of colour, and some detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8)).resize(size, 3)
    fine = Image.fromarray(rng.integers(0, 256, (31, 41, 3), np.uint8)).resize(size, 2)
    return Image.blend(coarse, fine, 0.35)


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def picture(seed: int, quality: int = 90, size: tuple[int, int] = (320, 240)) -> bytes:
    return encoded(pixels(seed, size), quality=quality)


@dataclass(frozen=True)
class Got:
    """A candidate and the file that it got; None for one that failed."""

    entity: str
    body: bytes | None
    url: str = ""
    texts: Sequence[tuple[str, str | None]] = ()
    query_hashes: Sequence[str] = ()
    sources: Sequence[str] = ("commons-p18",)
    reasons: Sequence[str] = ("P18",)
    licence: str | None = None
    creator: str | None = None
    page_url: str | None = None
    file: str | None = None
    source_id: str | None = None
    score: float = 1.0
    fallback_urls: Sequence[str] = ()
    place: int = 0
    row: Mapping[str, object] = field(default_factory=dict)


def write(folder: Path, got: Sequence[Got], *, finished: bool = True) -> Path:
    """Writes ``candidates/`` and ``fetches/`` below a folder; the folder."""
    _write_candidates(folder / CANDIDATES_FOLDER, got)
    _write_fetches(folder / FETCHES_FOLDER, got, finished=finished)
    return folder


def _write_candidates(folder: Path, got: Sequence[Got]) -> None:
    folder.mkdir(parents=True)
    rows = [
        {
            **{name: getattr(one, name) for name in CANDIDATES.names if hasattr(one, name)},
            "url": one.url or f"https://images.test/{number}.jpg",
            "texts": [text for text, _ in one.texts],
            "text_langs": [lang for _, lang in one.texts],
            **one.row,
        }
        for number, one in enumerate(got)
    ]
    write_table(folder / CANDIDATES_FILE, pa.Table.from_pylist(rows, CANDIDATES))
    entities = [
        {"id": id, "name": NAMES.get(id), "roots": ROOTS.get(id, ["Q729"])}
        for id in sorted({one.entity for one in got}, key=lambda id: int(id[1:]))
    ]
    write_table(folder / ENTITIES_FILE, pa.Table.from_pylist(entities, ENTITIES))
    names = [CANDIDATES_FILE, ENTITIES_FILE]
    manifest = {
        "step": "candidates",
        "roots": [{"root": root, "name": name} for root, name in ROOT_NAMES.items()],
        "counts": {"candidates": len(got)},
        "outputs": digests(folder, names, quiet=True),
    }
    write_manifest(folder, manifest)


def _write_fetches(folder: Path, got: Sequence[Got], *, finished: bool) -> None:
    """Two parts, as two workers would have written them; each body is stored once."""
    (folder / LOG_FOLDER).mkdir(parents=True)
    (folder / STORE_FOLDER).mkdir()
    stored: set[bytes] = set()
    for worker in (0, 1):
        name, rows = f"00001-{worker:03}-000000", []
        with (folder / STORE_FOLDER / f"{name}.bodies").open("wb") as out:
            for number, one in enumerate(got[worker::2]):
                rows.append(_attempt(number * 2 + worker, one, stored, out))
        write_table(folder / LOG_FOLDER / f"{name}.parquet", table_of(rows))
    results = [
        {
            "outcome": "permanent" if one.body is None else "ok",
            "reason": "http_404" if one.body is None else "ok",
            "place": one.place,
            "sha256": None if one.body is None else hashlib.sha256(one.body).digest(),
        }
        for one in got
    ]
    write_table(folder / RESULTS_FILE, pa.Table.from_pylist(results, RESULTS))
    if finished:
        outputs = digests(folder, [RESULTS_FILE], quiet=True)
        candidates = read_manifest(folder.parent / CANDIDATES_FOLDER, "candidates")["outputs"]
        plan = {"candidates": candidates[CANDIDATES_FILE]["sha256"]}
        write_manifest(folder, {"step": "fetches", "plan": plan, "outputs": outputs})


def _attempt(number: int, one: Got, stored: set[bytes], out: io.BufferedWriter) -> Row:
    url = one.url or f"https://images.test/{number}.jpg"
    known: dict[str, Any] = {
        "url_hash": hashlib.sha256(url.encode()).digest()[:16],
        "url": url,
        "run": 1,
        "attempt": 1,
        "at": number,
        "seconds": 0.1,
        "final": True,
    }
    if one.body is None:
        return Row(**known, outcome="permanent", reason="http_404", status=404)
    sha256 = hashlib.sha256(one.body).digest()
    offset = None
    if sha256 not in stored:
        offset = out.tell()
        out.write(one.body)
        stored.add(sha256)
    found: dict[str, Any] = {
        "size": len(one.body),
        "mime": "image/jpeg",
        "sha256": sha256,
        "offset": offset,
    }
    return Row(**known, **found, outcome="ok", reason="ok", status=200)
