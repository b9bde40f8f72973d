"""Dumps of 1, 2, 4 and 8 GB of JSON: time has to grow with them, memory must not.

The smaller ones are the first members of the largest.
"""

from __future__ import annotations

from typing import Any

from benchmarks.build import Built, build
from benchmarks.files import dump_of, first_part, json_bytes_of, members_of
from benchmarks.options import Options
from benchmarks.report import megabytes, table


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    *smaller, largest = options.sizes
    path = dump_of(options, largest)
    members = members_of(path)
    part, store = options.work / "part.json.gz", options.work / "store"
    rows = []
    for size in smaller:
        json_bytes = json_bytes_of(first_part(path, members, size, part))
        rows.append(_row(json_bytes, [build(part, store, options.workers) for _ in _runs(options)]))
    part.unlink(missing_ok=True)
    builds = [build(path, store, options.workers) for _ in _runs(options)]
    rows.append(_row(json_bytes_of(members), builds))
    return {"workers": options.workers, "sizes": rows}


def _runs(options: Options) -> range:
    return range(options.repeat)


def _row(json_bytes: int, builds: list[Built]) -> dict[str, Any]:
    built = min(builds, key=lambda built: built.rate.seconds)
    stages = built.stages
    return {
        "json_bytes": json_bytes,
        "entities": built.rate.entities,
        "seconds": built.rate.seconds,
        "cpu_seconds": built.rate.cpu_seconds,
        "megabytes_per_second": built.rate.megabytes,
        "reading_seconds": stages["read"],
        "rest_seconds": stages["all"] - stages["read"],
        "store_bytes": built.store_bytes,
        "disk_peak": built.watched.disk_peak,
        "worker_private": built.watched.worker_private,
        "worker_peak": built.watched.worker_peak,
        "main_private": built.watched.main_private,
        "main_peak": built.watched.main_peak,
    }


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown, with a bar a size: the line that they make."""
    sizes = figures["sizes"]
    longest = max(found["seconds"] for found in sizes)
    rows = [
        [
            megabytes(found["json_bytes"]),
            f"{found['entities']:,}",
            f"{found['seconds']:.2f}",
            f"{found['reading_seconds']:.2f}",
            f"{found['rest_seconds']:.2f}",
            f"{found['megabytes_per_second']:,.0f}",
            f"{found['seconds'] / (found['json_bytes'] / 1e9):.2f}",
            megabytes(found["worker_private"]),
            megabytes(found["main_private"]),
            megabytes(found["main_peak"]),
            f"{found['store_bytes'] / found['entities']:,.0f}",
            f"{found['disk_peak'] / found['entities']:,.0f}",
        ]
        for found in sizes
    ]
    header = ["MB of JSON", "entities", "s", "reading", "the rest", "MB/s", "s a GB"]
    memory = ["MB a worker", "MB main", "with the page cache", "bytes a record", "disk at its peak"]
    bars = [
        f"{found['json_bytes'] / 1e9:5.1f} GB {found['seconds']:7.2f} s "
        + "█" * round(60 * found["seconds"] / longest)
        for found in sizes
    ]
    return "\n".join([table([*header, *memory], rows), "", "```", *bars, "```"])
