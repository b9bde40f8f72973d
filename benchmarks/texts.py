"""Tables of texts of a million queries: what they cost to build, and draws a second from them.

An invented data set: three queries an entity (its name; a name or an attribute; another), as many
names and descriptions as EntityNet's entities have (entitynet-entities.parquet: 216,109 aliases,
164,212 descriptions and 36,394 common names of 168,981), each eighth entity above eight others.
``texts`` takes a tenth of --items as queries.

Images have an entity; half of them a query that found them, and 1.4 alt texts each on the average
(46 million of 33 million), one in four none. Draws are of one process, and of images whose keys and
queries are spread over all of the tables, so that no cache holds what is asked for.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pyarrow as pa

from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.watch import run
from benchmarks.words import vocabulary
from download.pack.record import Entity, File, Query, Record, Text
from etl.manifest import digests, write_manifest
from etl.tables import TableWriter
from graph.tables import ENTITIES, HIERARCHY, QUERIES
from training.text import Texts
from training.text_image import Image
from training.text_options import TextFilter, TextOptions

#: Where the figures go, with --write.
PAGE = ROOT / "docs" / "texts.md"

_A_QUERY: Final = 3  # of an entity
_IMAGES: Final = 100_000  # that are drawn for, at most
_BATCH: Final = 1 << 14
_BRANCHES: Final = 8

_BUILD = """
import sys
from pathlib import Path
from training.text_build import build
print(build(Path(sys.argv[1]), Path(sys.argv[2])))
"""

#: Memory of a worker that has drawn: its own, without the mapped files that all share.
_WORKER = """
import sys
from pathlib import Path
from benchmarks.texts import images_of
from training.text import Texts
def own():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024
images = images_of(*map(int, sys.argv[2:5]))
before = own()
texts = Texts.open(Path(sys.argv[1]))
for image in images:
    texts.draw(image, 0, 0)
print(own() - before)
"""


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    entities = max(options.items // 10 // _A_QUERY, 20)
    work = options.work / "texts"
    shutil.rmtree(work, ignore_errors=True)
    graph, folder = work / "graph", work / "tables"
    _write_graph(graph, entities, options.seed)
    build = run([sys.executable, "-c", _BUILD, str(graph), str(folder)], ROOT)
    (made,) = folder.iterdir()
    started = time.perf_counter()
    texts = Texts.open(made)
    opened = time.perf_counter() - started
    few = min(_IMAGES, entities * _A_QUERY)
    figures = {
        "queries": len(texts.queries),
        "entities": len(texts.entities),
        "bytes": sum(file.stat().st_size for file in made.iterdir()),
        "build": {
            "seconds": build.seconds,
            "cpu_seconds": build.cpu_seconds,
            "memory": build.main_private,
        },
        "opened": opened,
        "memory": _memory(made, (few, entities, options.seed)),
        "rates": _rates(made, images_of(few, entities, options.seed), options.repeat),
    }
    shutil.rmtree(work)
    return figures


def _memory(folder: Path, images: tuple[int, int, int]) -> int:
    import subprocess

    command = [sys.executable, "-c", _WORKER, str(folder), *map(str, images)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def _rates(folder: Path, images: Sequence[Image], repeat: int) -> list[dict[str, Any]]:
    """Draws a second of processor time, the best of some runs."""
    plain = Texts.open(folder)
    graph_only = Texts.open(folder, TextOptions(alt_text_chance=0))
    filtered = Texts.open(folder, filter_=TextFilter(skip_types=("alias",), keep_roots=("Q1",)))
    rows = [_key_json(image) for image in images]

    def epoch(texts: Texts) -> Callable[[], None]:
        def draw() -> None:
            for image in images:
                texts.draw(image, 0, 0)

        return draw

    def with_json() -> None:
        for row in rows:
            plain.draw(Image.of_json(row), 0, 0)

    def several() -> None:
        for image in images:
            plain.draw_several(image, 4, 0, 0)

    runs = {
        "draw": epoch(plain),
        "draw, graph only": epoch(graph_only),
        "draw, with a filter": epoch(filtered),
        "KEY.json read, draw": with_json,
        "draw_several, 4 texts": several,
    }
    found = []
    for name, each in runs.items():
        best = float("inf")
        for _ in range(max(repeat, 1)):
            started = time.process_time()
            each()
            best = min(best, time.process_time() - started)
        found.append({"name": name, "images": len(images), "seconds": best})
    return found


# --- an invented data set and its images ---------------------------------------------------------


def _write_graph(folder: Path, entities: int, seed: int) -> None:
    """The three tables that texts are made of."""
    folder.mkdir(parents=True)
    tables = {
        "entities": (ENTITIES, _entities(entities, seed)),
        "hierarchy": (HIERARCHY, _edges(entities)),
        "queries": (QUERIES, _queries(entities, seed)),
    }
    for name, (schema, rows) in tables.items():
        with TableWriter(folder / f"{name}.parquet", schema) as writer:
            for some in _batched(rows):
                writer.write(pa.Table.from_pylist(some, schema))
    names = [f"{name}.parquet" for name in tables]
    write_manifest(folder, {"step": "graph", "outputs": digests(folder, names, quiet=True)})


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    held: list[dict[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == _BATCH:
            yield held
            held = []
    yield held


@cache
def _words() -> list[str]:
    return [word.encode().decode("unicode_escape") for word in vocabulary(0).words]


def _names(number: int, seed: int) -> list[str]:
    """The name of an entity and its other names."""
    rng = Random(f"{seed} {number}")
    words = _words()
    many = 1 + (rng.random() < 0.6) + (rng.random() < 0.5) * rng.randrange(3)
    return [f"{rng.choice(words)} {rng.choice(words)}" for _ in range(many)]


def _entities(count: int, seed: int) -> Iterator[dict[str, Any]]:
    words = _words()
    for number in range(1, count + 1):
        rng = Random(f"{seed} of {number}")
        name, *aliases = _names(number, seed)
        yield {
            "id": f"Q{number}",
            "name": name,
            "description": " ".join(rng.choices(words, k=6)) if rng.random() < 0.97 else None,
            "aliases": aliases,
            "common_names": [rng.choice(words)] if rng.random() < 0.2 else [],
            "taxon_names": [],
            "sitelinks": int(rng.paretovariate(0.5)) % 300,
            "roots": [f"Q{1 + number % 3}"],
            "natural_type": f"Q{_above(_above(number))}" if number > _BRANCHES else None,
            "natural_type_name": "type",
            "visual": True,
        }


def _above(number: int) -> int:
    return max(1, number // _BRANCHES)


def _edges(count: int) -> Iterator[dict[str, Any]]:
    for number in range(2, count + 1):
        yield {"child": f"Q{number}", "property": "P279", "parent": f"Q{_above(number)}"}


def _queries(count: int, seed: int) -> Iterator[dict[str, Any]]:
    words = _words()
    for number in range(1, count + 1):
        name, *aliases = _names(number, seed)
        word = words[number % len(words)]
        asked: list[tuple[str, str, str | None]] = [
            ("name", name, None),
            ("alias", aliases[0], None) if aliases else ("attribute_name", f"{word} {name}", word),
            ("attribute_name", f"{name} with {word}", word),
        ]
        for place, (kind, text, attribute) in enumerate(asked):
            yield {
                "query_hash": _hash(number, place),
                "query": text,
                "query_type": kind,
                "entity": f"Q{number}",
                "attribute": attribute,
                "entity_type": f"Q{_above(_above(number))}",
                "source": "wikidata",
            }


def _hash(number: int, place: int) -> str:
    return f"{number:035d}-{place:02d}"


def images_of(count: int, entities: int, seed: int) -> list[Image]:
    """So many images of so many entities, in no order."""
    rng = Random(seed)
    words = _words()
    found = []
    for number in range(count):
        entity = rng.randint(1, entities)
        queries = [_hash(entity, rng.randrange(_A_QUERY))] if rng.random() < 0.5 else []
        alts = [" ".join(rng.choices(words, k=9)) for _ in range(rng.choice((0, 1, 1, 4)))]
        key = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}"
        found.append(Image.of(key, [f"Q{entity}"], queries, alts))
    return found


def _key_json(image: Image) -> bytes:
    """KEY.json as it is packed."""
    entity = image.entities[0].id
    reason = "P18" if not image.queries else "url-list"
    address = f"https://upload.example.org/{image.key}/{image.key}.jpg"
    record = Record(
        key=image.key,
        caption=image.texts[0].text if image.texts else "invented",
        url=address,
        page_url=f"{address}.html",
        file="",
        licence="CC BY-SA 4.0",
        creator="nobody",
        width=320,
        height=256,
        original_width=3200,
        original_height=2560,
        format="jpeg",
        sha256=image.key * 2,
        entities=[Entity(entity, "invented", ["Q1"], "Q2", "thing", ["commons-p18"], [reason])],
        queries=[Query(q.hash, "invented", "name", entity, True) for q in image.queries]
        or [Query("", "invented", "name", entity, False)],
        texts=[Text(text.text, "en", ["url-list"]) for text in image.texts]
        or [Text("invented", "", ["name"])],
        files=[File(image.key * 2, address, f"{address}.html", "", 3200, 2560)],
    )
    return msgspec.json.encode(record)


# --- what is printed -----------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures as markdown."""
    build = figures["build"]
    rows = [
        [each["name"], f"{each['images'] / each['seconds']:,.0f}",
         f"{each['seconds'] / each['images'] * 1e6:.1f}"]
        for each in figures["rates"]
    ]  # fmt: skip
    return (
        f"{figures['queries']:,} queries of {figures['entities']:,} entities: built in "
        f"{build['seconds']:.0f} s ({build['cpu_seconds']:.0f} s of processor) with "
        f"{megabytes(build['memory'])} MB of memory at the most; {megabytes(figures['bytes'])} MB "
        f"on disk, opened in {figures['opened'] * 1000:.0f} ms; a worker that draws holds "
        f"{megabytes(figures['memory'])} MB of its own.\n\n"
        + table(["one core", "images/s", "µs an image"], rows)
    )
