"""A finished store of an invented world, written without a dump, by the ingest's own writers.

A worker makes the records of some items and writes them as a sorted run; the merge makes the store
of the runs. It is made once and kept: 10 million items take two minutes on two cores.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.options import Options
from benchmarks.words import vocabulary
from benchmarks.world import VERSION, World, drawn
from etl.engine import beside, run
from etl.entity import ENTITY_ID, KIND_CODE, Record, Snak, Statement, encode_record, key_of
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.manifest import digests, discard, tool_versions, write_manifest
from etl.merge import merge
from etl.merge_names import NamesJob, merge_names
from etl.names import NAMES
from etl.progress import Tick
from etl.reader import Entry, entry_of
from etl.runs import RunBuilder
from etl.store import DATA, STORE_FORMAT

_ITEMS: Final = 250_000  # that a worker makes at a time, in some 5 runs
_NORMAL: Final = 1  # code of a statement's rank
_REVISION: Final = 2_000_000_000

#: Datatypes of the kept properties that have no items for values (the property's own pages).
_DATATYPES: Final = {
    **dict.fromkeys(("P225", "P373", "P935"), "string"),
    **dict.fromkeys(("P1843", "P1705"), "monolingualtext"),
    **dict.fromkeys(("P846", "P3151", "P685", "P8814"), "external-id"),
    **dict.fromkeys(("P1963", "P1647"), "wikibase-property"),
    "P18": "commonsMedia",
    "P625": "globe-coordinate",
}

# Shares of classes, taxa and others. English labels are on 77 % of items, `mul` on 13 %
# (benchmarks/words.py); pictures on 317,000 of 3.3 million living (EntityNet's README and code).
_ENGLISH = (0.95, 0.9, 0.72)
_ENGLISH_OR_MUL = (0.98, 0.97, 0.85)
_DESCRIBED = (0.6, 0.95, 0.7)
_ALIASES = (0.3, 0.1, 0.08)
_TEXTS: Final = {  # of statements whose values are no items
    "P18": (0.2, 0.096, 0.05),
    "P225": (0.0, 1.0, 0.0),
    "P1843": (0.0, 0.08, 0.0),
    "P846": (0.0, 0.7, 0.0),
    "P373": (0.15, 0.05, 0.02),
    "P625": (0.0, 0.0, 0.1),
}
_QUALIFIED: Final = {"P2283": ("P5102", 0.3), "P366": ("P805", 0.15)}
_QUALIFIER_VALUE: Final = "Q35120"


def store_of(options: Options) -> Path:
    """The store of a world of ``options.items`` items, made where it isn't there yet."""
    store = options.work / f"world-{options.items}-seed{options.seed}-v{VERSION}"
    if not (store / "manifest.json").exists():
        write(store, options.items, options.seed, options.workers)
    return store


@dataclass(frozen=True, eq=False)
class _Part:
    """Some items of a world, for a worker to make a run of."""

    number: int
    world: World
    seed: int
    directory: Path
    kept: Kept


def write(store: Path, items: int, seed: int, workers: int) -> None:
    """Write a finished store into a fresh directory."""
    started = time.perf_counter()
    print(f"making a store of {items:,} items in {store}", file=sys.stderr, flush=True)
    discard(store)
    kept = Kept(DEFAULT_LANGUAGES, read_properties())
    work, building = store / "runs", store / "building"
    work.mkdir(parents=True)
    building.mkdir()
    runs = _properties(work, kept)
    for _, made in run(_run_of, _parts(items, seed, work, kept), workers, lambda _: None):
        runs += made
    runs.sort()
    names = NamesJob(tuple(map(str, runs)), str(building), kept.languages)
    with beside(merge_names, names, workers) as merged_names:
        built = merge(runs, building, kept, lambda _: None)
        built["names"] = merged_names(lambda _: None)
    shutil.rmtree(work)
    for path in building.iterdir():
        path.rename(store / path.name)
    building.rmdir()
    _finish(store, kept, built, time.perf_counter() - started)


def _finish(store: Path, kept: Kept, built: dict[str, Any], seconds: float) -> None:
    """Write the manifest, as an ingest of a dump would that leaves nothing to report."""
    records, properties = built["contents"]["records"], built["properties"]
    files = ["nodes.parquet", NAMES, DATA, *(f"edges/{p}.parquet" for p in built["edges"])]
    write_manifest(
        store,
        {
            "step": "store",
            "format": STORE_FORMAT,
            "versions": tool_versions(),
            "plan": {"inputs": [], "limit": 0},
            "kept": kept.as_json(),
            "counts": {
                "entities": records,
                "items": records - properties,
                "properties": properties,
                "rejects": 0,
                "record_bytes": built["record_bytes"],
                "edges": built["edges"],
                "names": built["names"],
            },
            "damage": [],
            "sources": [],
            "contents": built["contents"],
            "outputs": digests(store, files, quiet=True),
            "seconds": {"all": round(seconds, 2)},
        },
    )


# --- runs ---------------------------------------------------------------------------------------


def _parts(items: int, seed: int, work: Path, kept: Kept) -> list[_Part]:
    world = drawn(items, seed)
    return [
        _Part(number, world.between(first, first + _ITEMS), seed, work, kept)
        for number, first in enumerate(range(0, items, _ITEMS), 1)
    ]


def _run_of(part: _Part, tick: Tick) -> list[Path]:
    """Write the runs of some items; the task of a worker."""
    directory = part.directory / f"{part.number:06d}"
    directory.mkdir()
    builder = RunBuilder(directory, part.kept)
    numbers = {name: n for n, name in enumerate(part.kept.properties)}
    for record in records(part.world, np.random.default_rng((part.seed, part.number)), part.kept):
        builder.add(_entry(record, numbers, len(part.kept.languages)))
    builder.write()
    return [directory / f"run-{n:04d}.arrow" for n in range(builder.runs)]


def _properties(work: Path, kept: Kept) -> list[Path]:
    """Write the run of the properties: each has a name and a datatype."""
    directory = work / "000000"
    directory.mkdir()
    builder = RunBuilder(directory, kept)
    for name in kept.properties:
        datatype = _DATATYPES.get(name, "wikibase-item")
        record = Record(name, 1, 0, {"en": f"property {name[1:]}"}, {}, {}, {}, datatype)
        builder.add(entry_of(record, kept))
    builder.write()
    return [directory / "run-0000.arrow"]


def _entry(record: Record, numbers: dict[str, int], languages: int) -> Entry:
    """What `entry_of` returns, 3 µs earlier: no statement here has another rank than normal."""
    flags = ("en" in record.labels) | ("mul" in record.labels) << (languages - 1)
    edges = []
    for name, statements in record.claims.items():
        number = numbers[name]
        flags |= 1 << (languages + number)
        for statement in statements:
            if statement.snak.code == ENTITY_ID:
                edges.append((number, int(statement.snak.value[1:]), _NORMAL, True))
    return Entry(
        key_of(record.id), record.revision, record.sitelinks, flags, encode_record(record),
        edges, record.labels, record.aliases,
    )  # fmt: skip


# --- records ------------------------------------------------------------------------------------

_Statements = dict[str, list[Statement]]


def records(world: World, rng: np.random.Generator, kept: Kept) -> Iterator[Record]:
    """The records of a world's items, in their order, with texts drawn from ``rng``."""
    claims = _claims(world, rng, list(kept.properties))
    words = vocabulary(0).names
    picked = (len(words) * rng.random((len(world.ids), 4)) ** 2).astype(np.int64)
    chance = rng.random(len(world.ids))
    columns = (
        world.ids.tolist(),
        world.sitelinks.tolist(),
        (chance < _shares(world, _ENGLISH)).tolist(),
        (chance < _shares(world, _ENGLISH_OR_MUL)).tolist(),
        _have(world, rng, _DESCRIBED).tolist(),
        _have(world, rng, _ALIASES).tolist(),
        picked.tolist(),
        claims,
    )
    for number, links, english, named, described, aliased, (a, b, c, d), statements in zip(
        *columns, strict=True
    ):
        name = f"{words[a]} {words[b]}"
        yield Record(
            f"Q{number}",
            _REVISION + number,
            links,
            {"en": name} if english else {"mul": name} if named else {},
            {"en": f"{words[c]} of {words[d]}"} if described else {},
            {"en": [f"{words[a]} {words[c]}", words[d]]} if aliased else {},
            statements,
        )


def _shares(world: World, shares: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """The share that holds for each item, by its kind: of classes, of taxa, of others."""
    return np.array(shares)[world.kind]


def _have(
    world: World, rng: np.random.Generator, shares: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = rng.random(len(world.ids)) < _shares(world, shares)
    return chosen


def _claims(world: World, rng: np.random.Generator, properties: list[str]) -> list[_Statements]:
    """The statements of every item, properties in the order in which a store keeps them."""
    claims: list[_Statements] = [{} for _ in world.ids]
    for name in properties:
        if name in _TEXTS:
            for row in np.flatnonzero(_have(world, rng, _TEXTS[name])).tolist():
                claims[row][name] = [Statement(_NORMAL, _text(name, int(world.ids[row])))]
        elif name in world.claims:
            found = world.claims[name]
            qualifiers = _qualifiers(name, len(found.subject), rng)
            for row, value, qualified in zip(
                found.subject.tolist(), found.object.tolist(), qualifiers, strict=True
            ):
                statement = Statement(_NORMAL, Snak(ENTITY_ID, f"Q{value}"), qualified)
                claims[row].setdefault(name, []).append(statement)
    return claims


def _text(name: str, number: int) -> Snak:
    """The value of a property that has no items for values."""
    match name:
        case "P1843":
            value = {"text": f"invented {number}", "language": "en"}
            return Snak(KIND_CODE["monolingualtext"], value)
        case "P625":
            place = {"latitude": number % 1801 / 10 - 90, "longitude": number % 3601 / 10 - 180}
            return Snak(KIND_CODE["globecoordinate"], {**place, "precision": 0.1})
        case "P18":
            return Snak(KIND_CODE["string"], f"Invented picture {number}.jpg")
        case _:
            return Snak(KIND_CODE["string"], f"Inventum {number}")


def _qualifiers(name: str, count: int, rng: np.random.Generator) -> list[dict[str, list[Snak]]]:
    if name not in _QUALIFIED:
        return [{}] * count
    qualifier, share = _QUALIFIED[name]
    snaks = [Snak(ENTITY_ID, _QUALIFIER_VALUE)]
    return [{qualifier: snaks} if has else {} for has in (rng.random(count) < share).tolist()]
