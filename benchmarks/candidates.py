"""Candidates of a data set: what files depict, credits, the merge, the count.

An invented reading of Commons' mediainfo dump (files and what they depict; a few items are depicted
by very many) and an invented data set of 150,000 entities, on which `images find` and `images
count` run as processes of their own.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ujson

from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.watch import run
from download.candidates import CANDIDATES_FILE, FOLDER
from download.reading import DEPICTS, DEPICTS_FILE, FILES, FILES_FILE, FORMAT, STEP
from etl.manifest import MANIFEST, digests, write_manifest
from etl.tables import TableWriter
from graph.tables import ENTITIES, id_strings

_SOURCES: Final = "commons-p18,commons-depicts,commons-credits"
_ENTITIES: Final = 150_000  # about as many as EntityNet has
_ITEMS: Final = 8_000_000  # that files depict: some 8 million have an article (demi, images.md 9)
_DEPICTED: Final = 2  # statements of one file; Commons has 53 million, of the files that have any
_RECIPE: Final = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'

_FILES: Final = """
SELECT n AS page, n + 1000 AS revision,
    concat('Some photograph of things in the city, number ', n, '.jpg') AS file,
    if(n % 3 = 0, [concat('A caption of picture ', n)], []::VARCHAR[]) AS captions,
    if(n % 3 = 0, ['en'], []::VARCHAR[]) AS caption_langs,
    ['Q18199165'] AS licences, ['Q50423863'] AS statuses,
    [concat('Author ', n % 50000)] AS creators,
    4000::INTEGER AS width, 3000::INTEGER AS height, n * 37 AS bytes, 'image/jpeg' AS mime,
    sha1(n::VARCHAR) AS sha1
FROM range($files) AS numbers(n)
"""

# The cube makes some items a thousand times as frequent as others.
_DEPICTS: Final = """
SELECT n // $each AS page,
    ($items * pow(hash(n + $seed) % 1000000007 / 1000000007.0, 3))::BIGINT + 1 AS item,
    180::SMALLINT AS property, n % 20 = 0 AS preferred
FROM range($files * $each) AS numbers(n)
"""


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    work = options.work / "candidates"
    shutil.rmtree(work, ignore_errors=True)
    entities = min(_ENTITIES, max(1, options.images // 40))
    try:
        reading, graph, images = work / "mediainfo", work / "graph", work / "images"
        _make_reading(reading, options.images, options.seed)
        _make_graph(graph, entities, options.images, options.seed)
        command = [sys.executable, "-m", "cli", "images"]
        given = ["--graph", str(graph), "--source", _SOURCES, "--mediainfo", str(reading)]
        find = run([*command, "find", *given, "--out", str(images)], ROOT, disk=images)
        count = run([*command, "count", "--images", str(images), "--json"], ROOT)
        manifest = ujson.loads((images / FOLDER / MANIFEST).read_bytes())
        return {
            "files": options.images,
            "statements": options.images * _DEPICTED,
            "entities": entities,
            "candidates": manifest["counts"]["candidates"],
            "by_source": manifest["counts"]["by_source"],
            "seconds": manifest["seconds"],
            "bytes": (images / FOLDER / CANDIDATES_FILE).stat().st_size,
            "find": {"seconds": find.seconds, "memory": find.main_peak, "disk": find.disk_peak},
            "count": {"seconds": count.seconds, "memory": count.main_peak},
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_reading(folder: Path, files: int, seed: int) -> None:
    folder.mkdir(parents=True)
    given = {"files": files, "each": _DEPICTED, "items": _ITEMS, "seed": seed}
    with duckdb.connect(config={"threads": 2, "memory_limit": "2GB"}) as database:
        for name, query, schema in (
            (FILES_FILE, _FILES, FILES), (DEPICTS_FILE, _DEPICTS, DEPICTS),
        ):  # fmt: skip
            parameters = {key: value for key, value in given.items() if f"${key}" in query}
            with TableWriter(folder / name, schema) as writer:
                for batch in database.sql(query, params=parameters).to_arrow_reader(1 << 17):
                    writer.write(pa.Table.from_batches([batch]).cast(schema))
    outputs = digests(folder, [FILES_FILE, DEPICTS_FILE], quiet=True)
    plan = {"inputs": [{"size": files, "digest": str(seed)}]}
    counts = {"files": files, "untitled": 0, "rejects": 0}
    manifest = {"step": STEP, "format": FORMAT, "plan": plan, "counts": counts, "damage": []}
    write_manifest(folder, {**manifest, "outputs": outputs})


def _make_graph(folder: Path, entities: int, files: int, seed: int) -> None:
    """A data set's entities, all of which have a P18; half of them are depicted a lot."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    often = np.arange(1, entities // 20 + 2)  # the items that most files depict
    rest = chance.choice(_ITEMS, entities, replace=False) + 1
    numbers = np.unique(np.concatenate([often, rest]))[:entities]
    pictures = chance.integers(0, files, len(numbers))
    known: dict[str, Any] = {
        "id": id_strings(numbers),
        "name": [f"thing {n}" for n in numbers],
        "roots": [["Q1"]] * len(numbers),
        "images": [[f"Some photograph of things in the city, number {n}.jpg"] for n in pictures],
    }
    columns = [known.get(field.name, pa.nulls(len(numbers), field.type)) for field in ENTITIES]
    pq.write_table(pa.table(columns, schema=ENTITIES), folder / "entities.parquet")
    write_manifest(
        folder,
        {
            "step": "graph",
            "recipe": {"name": "bench", "texts": [{"name": "bench", "text": _RECIPE}]},
            "counts": {"roots": [{"root": "Q1", "name": "thing 1"}]},
            "outputs": digests(folder, ["entities.parquet"], quiet=True),
        },
    )


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    seconds, find, count = figures["seconds"], figures["find"], figures["count"]
    sources = [name for name in seconds if name in figures["by_source"]]
    merging = seconds["all"] - sum(seconds[name] for name in sources)
    lines = [[name, f"{seconds[name]:.1f}", "", ""] for name in sources]
    lines += [
        ["merging, digests", f"{merging:.1f}", "", ""],
        [
            "**images find**",
            f"{find['seconds']:.1f}",
            megabytes(find["memory"]),
            megabytes(find["disk"]),
        ],
        ["images count", f"{count['seconds']:.1f}", megabytes(count["memory"]), ""],
    ]
    depicts = figures["by_source"]["commons-depicts"]
    return (
        f"{figures['entities']:,} entities; {figures['files']:,} files with "
        f"{figures['statements']:,} statements, of which {depicts['pairs_before_cap']:,} are about "
        f"them; {figures['candidates']:,} candidates in {megabytes(figures['bytes'])} MB.\n\n"
        f"{table(['', 's', 'peak MB', 'on disk MB'], lines)}"
    )
