"""Pictures and what is said of them → shards, by the way that all images take.

Pictures are drawn once. For each level of noise a list of addresses is written, and
:func:`download.find.find`, :func:`download.fetch.run.fetch` (from a server on loopback) and
:func:`download.pack.run.pack` make shards of it, as `sparqless images` does for anybody's list.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import ujson

from download.fetch.run import Options as FetchOptions
from download.fetch.run import fetch
from download.find import Options as FindOptions
from download.find import find
from download.pack.image import ImageOptions
from download.pack.run import Options as PackOptions
from download.pack.run import pack
from download.pack.splits import TEST, by_content
from etl.engine import run as run_tasks
from etl.manifest import (
    MANIFEST,
    digest_of_data,
    digests,
    read_manifest,
    write_json,
    write_manifest,
)
from etl.progress import Progress, Tick
from training.experiment.drawing import SIDE, picture
from training.experiment.knowledge import query_hashes
from training.experiment.plan import Level, Plan
from training.experiment.telling import alt_text, described, link_of
from training.experiment.world import Shot, Thing

_HOST: Final = "world.test"  # a name that nobody can have (RFC 6761, section 6.2)
_PICTURES: Final = "pictures.json"
_AT_A_TIME: Final = 256

#: Nobody else is asked, and nobody has to be spared.
_MANNERS: Final = f'[group."{_HOST}"]\nconnections = 32\nper_second = 10_000\nburst = 10_000\n'
_CONTACT: Final = "https://example.org/experiment"


def draw(folder: Path, shots: Sequence[Shot], workers: int, *, quiet: bool) -> dict[str, str]:
    """Draws all pictures below ``folder`` unless they stand there; key → SHA-256 of the file."""
    key = digest_of_data([SIDE, [(shot.key, shot.scene) for shot in shots]])
    table = folder / _PICTURES
    if (folder / MANIFEST).exists() and read_manifest(folder, "pictures").get("key") == key:
        return dict(ujson.loads(table.read_bytes()))
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(str(folder), shots[n : n + _AT_A_TIME]) for n in range(0, len(shots), _AT_A_TIME)]
    found: dict[str, str] = {}
    with Progress("drawing", len(shots), unit=" pictures", quiet=quiet) as progress:
        for _, drawn in run_tasks(_drawn, tasks, workers, progress.add):
            found |= drawn
    pictures = dict(sorted(found.items()))
    (folder / "robots.txt").write_text("User-agent: *\nDisallow:\n", "utf-8")
    write_json(table, pictures)
    outputs = digests(folder, [_PICTURES], quiet=True)
    write_manifest(folder, {"step": "pictures", "key": key, "outputs": outputs})
    return pictures


def _drawn(task: tuple[str, Sequence[Shot]], tick: Tick) -> dict[str, str]:
    folder, shots = Path(task[0]), task[1]
    found = {}
    for shot in shots:
        out = io.BytesIO()
        picture(shot.scene).save(out, "PNG", compress_level=1)
        (folder / f"{shot.key}.png").write_bytes(out.getvalue())
        found[shot.key] = hashlib.sha256(out.getvalue()).hexdigest()
        tick(1)
    return found


def held_out(pictures: dict[str, str], share: float) -> set[str]:
    """Keys of the pictures that `pack` puts into test, since their content says so."""
    hashes = np.array([list(bytes.fromhex(sha256)) for sha256 in pictures.values()], np.uint8)
    codes = by_content(hashes, 0.0, share)
    return {key for key, code in zip(pictures, codes, strict=True) if code == TEST}


def write_list(
    path: Path,
    shots: Sequence[Shot],
    things: Sequence[Thing],
    out: set[str],
    graph: Path,
    plan: Plan,
    level: Level,
) -> dict[str, int]:
    """Writes a list of addresses for `images find`; how many rows say what.

    ``out`` are the keys that are held out, ``graph`` the data set that has the queries.
    """
    hashes, seed = query_hashes(graph), plan.world.seed
    in_train = [shot for shot in shots if shot.key not in out]
    counts = dict.fromkeys(("pictures", "held_out", "wrong_links", "missing_alts", "wrong_alts"), 0)
    with path.open("w", encoding="utf-8") as file:
        for shot in shots:
            is_out = shot.key in out
            link = link_of(shot, things, plan.links, seed, is_out)
            if is_out:
                text = described(shot)
            else:
                text, is_wrong = alt_text(shot, in_train, plan.alt, level, seed)
                counts["missing_alts"] += not text
                counts["wrong_alts"] += is_wrong
            counts["pictures"] += 1
            counts["held_out"] += is_out
            counts["wrong_links"] += link.thing.id != shot.thing.id
            row = {
                "entity": link.thing.id,
                "query_hash": hashes[link.thing.id, link.colour],
                "url": f"http://{_HOST}/{shot.key}.png",
                "source_id": shot.key,
            }
            if text:
                row |= {"text": text, "text_lang": "en"}
            file.write(f"{ujson.dumps(row, ensure_ascii=False, escape_forward_slashes=False)}\n")
    return counts


def make_shards(
    pictures: Path, graph: Path, images: Path, list_: Path, plan: Plan, workers: int
) -> dict[str, Any]:
    """Looks up, fetches and packs a list; the manifest of the shards, in ``images``/shards."""
    find(
        graph,
        images,
        FindOptions(sources=("url-list",), given={"urls": (str(list_),)}, quiet=True),
    )
    with _serving(pictures, images) as options:
        fetch(images, options)
    return pack(
        images,
        str(images / "shards"),
        PackOptions(
            image=ImageOptions(size=SIDE, min_side=SIDE),
            val=0.0,
            test=plan.world.test,
            graph=graph,
            workers=workers,
            quiet=True,
        ),
    )


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Who fetches has a log."""


@contextmanager
def _serving(folder: Path, images: Path) -> Iterator[FetchOptions]:
    """Serves a folder on loopback until the block is left; what leads a fetch there."""
    manners = images / "manners.toml"
    manners.write_text(_MANNERS, "utf-8")
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield FetchOptions(
                contact=_CONTACT,
                manners=manners,
                resolve=(f"{_HOST}:127.0.0.1:{server.server_address[1]}",),
                allow_host=(_HOST,),
                quiet=True,
            )
        finally:
            server.shutdown()
            thread.join()
