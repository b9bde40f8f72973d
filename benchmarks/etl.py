"""What `sparqless etl` reaches, beside the machine's limit and other readers of the same file.

    python -m benchmarks etl --json-bytes 2G --workers 2

makes a dump (kept in data/bench, made once) and measures on it, one after the other:

- the limit: inflate and typed parse of the kept fields, nothing else, in as many independent
  processes, each with its own part of the gzip members;
- sparqless: the dump into a complete store, a process started as a user starts it;
- other readers on the first part of the file (benchmarks/peers.py).

Each runs `--repeat` times, the limit and sparqless in turn, and its best run counts, because
other work on the machine only ever adds. The file is in the page cache for all of them. MB are
10^6 bytes of JSON. What is said of a whole Wikidata is a projection from the rate on this file.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import peers
from benchmarks.build import Built, Rate, build
from benchmarks.files import (
    Member,
    dump_of,
    first_part,
    inflated,
    json_bytes_of,
    members_of,
    shares,
)
from benchmarks.options import Options
from benchmarks.report import megabytes, table
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.reader import EntityReader

#: Wikidata in 2026, in entities and bytes (connorshea/mergers-and-acquisitions, README).
FULL_ENTITIES = 118_000_000
FULL_JSON_BYTES, FULL_GZ_BYTES = 1_600_000_000_000, 156_000_000_000

_MANY = 16  # cores of the second projection

# --- the limit ----------------------------------------------------------------------------------


def _parse(path: Path, start: int, end: int) -> tuple[float, float, float, int]:
    """Inflate, split and decode a range: begin, end, processor seconds, entities."""
    decode = EntityReader(Kept(DEFAULT_LANGUAGES, read_properties())).decode
    began, cpu = time.monotonic(), time.process_time()
    entities, rest = 0, b""
    for text in inflated(path, start, end):
        newline = text.find(b"\n")
        if newline < 0:
            rest += text
            continue
        entities += _decode(rest + text[:newline], decode)
        whole, at = memoryview(text), newline + 1
        while (newline := text.find(b"\n", at)) >= 0:
            entities += _decode(whole[at:newline], decode)
            at = newline + 1
        rest = text[at:]
    entities += _decode(rest, decode)
    return began, time.monotonic(), time.process_time() - cpu, entities


def _decode(line: bytes | memoryview, decode: Callable[[bytes | memoryview], object]) -> int:
    if line[:1] != b"{":
        return 0
    try:  # noqa: SIM105 — suppress() is a call a line
        decode(line[:-1] if line[-1:] == b"," else line)
    except msgspec.ValidationError:
        pass  # an odd shape in a real dump, which sparqless reads in its slow way
    return 1


def _start(together: Barrier) -> None:
    together.wait(60)


def limit(path: Path, members: Sequence[Member], workers: int) -> Rate:
    """Inflate and typed parse in ``workers`` processes that start at the same moment."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, _start, (together,)) as pool:
        ranges = shares(members, workers)
        times = [future.result() for future in [pool.submit(_parse, path, *r) for r in ranges]]
    begins, ends, cpu, entities = zip(*times, strict=True)
    size = json_bytes_of(members)
    seconds = max(ends) - min(begins)
    return Rate("limit: inflate + typed parse", workers, size, sum(entities), seconds, sum(cpu))


# --- figures ------------------------------------------------------------------------------------


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    notes = peers.install(options.work) if options.install_peers else []
    path = dump_of(options)
    members = members_of(path)
    size = json_bytes_of(members)
    limits, builds = [], []
    for _ in range(options.repeat):
        limits.append(limit(path, members, options.workers))
        builds.append(build(path, options.work / "store", options.workers))
    best = max(limits, key=lambda rate: rate.megabytes)
    built = min(builds, key=lambda b: b.rate.seconds)
    rates = [best, built.rate]
    for result in _peers(options, path, members):
        if isinstance(result, Rate):
            rates.append(result)
        else:
            notes.append(result)
    return {
        "dump": {
            "path": path.name,
            "entities": best.entities,
            "json_bytes": size,
            "file_bytes": path.stat().st_size,
            "mean_line": size / best.entities,
            "ratio": size / path.stat().st_size,
            "members": len(members),
        },
        "rates": [
            {
                **asdict(rate),
                "megabytes_per_second": rate.megabytes,
                "entities_per_second": rate.lines,
                "of_the_limit": rate.megabytes / best.megabytes,
            }
            for rate in rates
        ],
        "runs": {
            "limit": [rate.seconds for rate in limits],
            "sparqless": [b.rate.seconds for b in builds],
        },
        "store": {
            "bytes": built.store_bytes,
            "lmdb_bytes": built.lmdb_bytes,
            "bytes_per_record": built.bytes_per_record,
            "stages": built.stages,
            "disk_per_record_byte": built.disk_per_record_byte,
            **asdict(built.watched),
        },
        "projections": [_projection(built, n) for n in (options.workers, _MANY)],
        "notes": notes,
    }


def _peers(options: Options, path: Path, members: Sequence[Member]) -> list[Rate | str]:
    part = options.work / "part.json.gz"
    taken = first_part(path, members, options.peer_bytes, part)
    lines = sum(member.newlines for member in taken[:-1])
    results = list(
        peers.run(part, json_bytes_of(taken), lines, options.work, options.workers, options.repeat)
    )
    part.unlink()
    return results


def _projection(built: Built, cores: int) -> dict[str, float]:
    """A whole Wikidata on so many of these cores: reading is shared out, the rest is not."""
    rate, stages = built.rate, built.stages
    reading = stages["read"] * rate.processes / cores * FULL_JSON_BYTES / rate.json_bytes
    rest = (stages["all"] - stages["read"]) * FULL_ENTITIES / rate.entities
    return {
        "cores": cores,
        "seconds": reading + rest,
        "reading_seconds": reading,
        "rest_seconds": rest,
        "json_per_second": FULL_JSON_BYTES / reading,
        "store_bytes": FULL_ENTITIES * built.bytes_per_record,
        "disk_peak": FULL_ENTITIES * built.watched.disk_peak / rate.entities,
    }


# --- the tables ---------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    dump, store = figures["dump"], figures["store"]
    ours = figures["rates"][1]
    rows = []
    for rate in figures["rates"]:
        times = ours["megabytes_per_second"] / rate["megabytes_per_second"]
        rows.append(
            [
                "**sparqless etl → complete store**" if rate is ours else rate["name"],
                str(rate["processes"]),
                megabytes(rate["json_bytes"]),
                f"{rate['seconds']:.2f}",
                f"{rate['cpu_seconds']:.2f}",
                f"{rate['megabytes_per_second']:,.0f}",
                f"{rate['entities_per_second']:,.0f}",
                f"{rate['of_the_limit']:.2f}",
                "" if rate is ours else f"{times:.1f}×",
            ]
        )
    header = ["", "processes", "MB of JSON", "s", "CPU s", "MB/s", "entities/s", "of the limit"]
    lines = [
        f"{dump['entities']:,} entities, {megabytes(dump['json_bytes'])} MB of JSON, mean line "
        f"{dump['mean_line']:,.0f} B, {dump['ratio']:.1f} : 1, {dump['members']:,} gzip members.",
        "",
        table([*header, "ours is"], rows),
        "",
        *(f"- {note}" for note in figures["notes"]),
        f"- Of our seconds {store['stages']['read']:.2f} read the dump and "
        f"{store['stages']['all'] - store['stages']['read']:.2f} merge, digest and publish; the "
        "rest is the start of the process.",
        f"- Store: {store['bytes'] / 1e6:,.1f} MB, LMDB {store['lmdb_bytes'] / 1e6:,.1f} of it; "
        f"**{store['bytes_per_record']:,.0f} bytes a record**. Disk while it was built: "
        f"{store['disk_peak'] / 1e6:,.1f} MB at its peak, "
        f"{store['disk_per_record_byte']:.1f} times the encoded records.",
        f"- Memory: {megabytes(store['worker_private'])} MB a worker "
        f"({megabytes(store['worker_peak'])} with the pages of files), "
        f"{megabytes(store['main_private'])} MB the main process "
        f"({megabytes(store['main_peak'])} with LMDB's page cache).",
        *(_projected(projection) for projection in figures["projections"]),
    ]
    return "\n".join(lines)


def _projected(projection: dict[str, float]) -> str:
    gz_bytes = projection["json_per_second"] / (FULL_JSON_BYTES / FULL_GZ_BYTES)
    return (
        "- **A projection, not a measurement**: a whole Wikidata "
        f"({FULL_JSON_BYTES / 1e12:.1f} TB, {FULL_ENTITIES / 1e6:.0f} M entities) on "
        f"{projection['cores']} such cores: "
        f"{projection['seconds'] / 60:,.0f} minutes ({projection['reading_seconds'] / 60:,.0f} of "
        "reading, shared out among the cores, from a disk that gives "
        f"{gz_bytes / 1e6:,.0f} MB/s of .gz; {projection['rest_seconds'] / 60:,.0f} of merging and "
        f"digesting, no faster than here), {projection['store_bytes'] / 1e9:,.0f} GB of store, "
        f"{projection['disk_peak'] / 1e9:,.0f} GB of disk while it is built."
    )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["etl", *sys.argv[1:]])
