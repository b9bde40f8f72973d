"""What `sparqless images pack` prints and draws."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.log import FOLDER as FETCHES_FOLDER
from download.pack.picture import draw
from download.pack.samples import as_hosts, read
from download.pack.tables import IMAGES_FILE
from etl.location import opened
from etl.manifest import MANIFEST, read_manifest
from etl.show import counted, in_bytes
from etl.source import is_elsewhere


def rows(out: str, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, figure and remark of every line of the table after a run."""
    counts = manifest["counts"]
    files, candidates = counts["files"], counts["candidates"]
    yield (
        "files",
        f"{files['all']:,}",
        f"fetched for {candidates['with_file']:,} of {counted(candidates['all'], 'candidate')}",
    )
    for reason, found in sorted(counts["dropped"].items()):
        yield reason, f"{found['files']:,}", "files left out"
    united = files["in_images"] - counts["images"]
    if united:
        yield "the same", f"{united:,}", "files that show what another shows, united with it"
    yield "images", f"{counts['images']:,}", f"in {out}"
    for split, found in counts["splits"].items():
        yield (
            split,
            f"{found['images']:,}",
            f"in {counted(found['shards'], 'shard')} with {in_bytes(found['bytes'])}",
        )
    if manifest.get("stood"):
        yield "seconds", "0", "the shards stood already"
    else:
        yield "seconds", f"{manifest['seconds']:.1f}", ""


def draw_pack(images: Path, out: str, manifest: Mapping[str, Any], picture: Path) -> None:
    """Draws hosts, sizes and a few images of each root to a file.

    Raises UserError where tables or shards can't be read.
    """
    hosts: list[dict[str, Any]] = []
    if (images / FETCHES_FOLDER / MANIFEST).exists():
        hosts = read_manifest(images / FETCHES_FOLDER, FETCHES_FOLDER)["hosts"]
    roots = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)["roots"]
    names = {root["root"]: root["name"] for root in roots}
    size = manifest["options"]["image"]["size"]
    with _tables(out) as tables:
        draw(read(tables, names, as_hosts(hosts), size, partial(opened, out)), picture)


@contextmanager
def _tables(out: str) -> Iterator[Path]:
    """A directory of this machine with images.parquet."""
    if not is_elsewhere(out):
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="sparqless-tables-") as folder:
        with opened(out, IMAGES_FILE) as there, (Path(folder) / IMAGES_FILE).open("wb") as here:
            shutil.copyfileobj(there, here)
        yield Path(folder)
