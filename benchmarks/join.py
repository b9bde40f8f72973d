"""Sizes of files from MediaWiki's table `image`: a join that doesn't fit the memory.

A dump of 20 million invented files is joined with the names of a tenth of them and with the names
of all, each in a process of its own, as `images find --source commons-sizes` does it. What is
written has to be what was wanted. The limit of the machine stands beside it: the same dump,
inflated and thrown away.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.image_dump import ImageDump, gzip_file, image_dump_of
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.watch import run

_JOIN = """
import sys
from pathlib import Path
from download.sizes import write_sizes
dump, wanted, work, out = map(Path, sys.argv[1:])
counts = write_sizes({"image": dump}, [wanted], work, out, lambda _: None)
assert counts["wanted"] == counts["found"], counts
"""


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    made = image_dump_of(options.work, options.images, options.seed)
    return {
        "rows": made.rows,
        "text_bytes": made.text_bytes,
        "file_bytes": made.dump.stat().st_size,
        "inflating": _inflating(made.dump),
        "joins": [_join(made, count, options.work / "join") for count in made.wanted],
    }


def _inflating(dump: Path) -> float:
    """Seconds that inflating the dump takes."""
    started = time.perf_counter()
    with gzip_file(dump, "rb") as file:
        while file.read(1 << 20):
            pass
    return time.perf_counter() - started


def _join(made: ImageDump, count: int, work: Path) -> dict[str, Any]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    out = work.with_suffix(".parquet")
    arguments = [str(made.dump), str(made.wanted[count]), str(work), str(out)]
    watched = run([sys.executable, "-c", _JOIN, *arguments], ROOT, disk=work)
    found = pq.read_metadata(out).num_rows
    if found != count:
        raise RuntimeError(f"{found:,} rows of {count:,} wanted files")
    figures = {
        "wanted": count,
        "seconds": watched.seconds,
        "cpu_seconds": watched.cpu_seconds,
        "memory": watched.main_peak,
        "disk": watched.disk_peak,
        "out": out.stat().st_size,
    }
    out.unlink()
    shutil.rmtree(work)
    return figures


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows, text = figures["rows"], figures["text_bytes"]
    lines = [["inflating alone", f"{figures['inflating']:.0f}", "", "", "", "", "", ""]]
    lines[0][3] = megabytes(text / figures["inflating"])
    for join in figures["joins"]:
        lines.append(
            [
                f"{join['wanted']:,} files wanted",
                f"{join['seconds']:.0f}",
                f"{rows / join['seconds']:,.0f}",
                megabytes(text / join["seconds"]),
                f"{join['cpu_seconds']:.0f}",
                megabytes(join["memory"]),
                megabytes(join["disk"]),
                megabytes(join["out"]),
            ]
        )
    header = [
        "of a dump", "s", "rows/s", "MB/s of SQL", "processor s", "peak MB", "on disk MB", "out MB",
    ]  # fmt: skip
    return (
        f"{rows:,} rows of `image`, {megabytes(text)} MB of SQL in "
        f"{megabytes(figures['file_bytes'])} MB of gzip.\n\n{table(header, lines)}"
    )
