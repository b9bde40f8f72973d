"""The same JSON in every format, each beside the tool that does nothing but inflate it.

bz2 is one stream of blocks that know nothing of lines, made by lbzip2 where it is installed; zst
is a frame a batch, as ``pzstd`` leaves it. ``lbzip2 -n WORKERS -dc`` and ``zstd -dc`` write to
/dev/null: they are what the format costs at all, without reading a line.
"""

from __future__ import annotations

import shutil
from typing import Any

from benchmarks import watch
from benchmarks.build import Built, build, differences
from benchmarks.files import dump_of
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table

#: Suffix of a format, and the tool that inflates it.
_TOOLS = {
    ".json": ("cat",),
    ".json.gz": ("pigz", "-dc"),
    ".json.zst": ("zstd", "-q", "-dc"),
    ".json.bz2": ("lbzip2", "-n", "WORKERS", "-dc"),
}
_TO_NOTHING = '"$@" > /dev/null'


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data; the stores are held against each other."""
    rows = []
    reference = options.work / "store-json"
    for suffix in _TOOLS:
        path = dump_of(options, suffix=suffix)
        store = reference if suffix == ".json" else options.work / "store"
        command = _tool(suffix, options.workers, str(path))
        tools, builds = [], []
        for _ in range(options.repeat):
            if shutil.which(command[0]):
                tools.append(watch.run(["bash", "-c", _TO_NOTHING, "sh", *command], ROOT))
            builds.append(build(path, store, options.workers))
        best = min(builds, key=lambda built: built.rate.seconds)
        tool = min(tools, key=lambda watched: watched.seconds, default=None)
        differing = differences(store, reference) if store is not reference else []
        rows.append(_row(suffix, path.stat().st_size, command, best, tool, differing))
    shutil.rmtree(reference)
    return {"workers": options.workers, "formats": rows}


def _tool(suffix: str, workers: int, path: str) -> list[str]:
    words = [str(workers) if word == "WORKERS" else word for word in _TOOLS[suffix]]
    return [*words, path]


def _row(
    suffix: str,
    file_bytes: int,
    command: list[str],
    built: Built,
    tool: watch.Watched | None,
    differing: list[str],
) -> dict[str, Any]:
    size = built.rate.json_bytes
    return {
        "format": suffix,
        "file_bytes": file_bytes,
        "json_bytes": size,
        "seconds": built.rate.seconds,
        "cpu_seconds": built.rate.cpu_seconds,
        "megabytes_per_second": built.rate.megabytes,
        "worker_private": built.watched.worker_private,
        "tool": " ".join(command[:-1]),
        "tool_seconds": tool.seconds if tool else None,
        "tool_cpu_seconds": tool.cpu_seconds if tool else None,
        "tool_megabytes_per_second": size / 1e6 / tool.seconds if tool else None,
        "of_the_tool": tool.seconds / built.rate.seconds if tool else None,
        "differences": differing,
    }


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = []
    for found in figures["formats"]:
        there = found["tool_seconds"] is not None
        rows.append(
            [
                f"`{found['format']}`",
                megabytes(found["file_bytes"]),
                f"{found['seconds']:.2f}",
                f"{found['cpu_seconds']:.2f}",
                f"{found['megabytes_per_second']:,.0f}",
                megabytes(found["worker_private"]),
                f"`{found['tool']}`",
                f"{found['tool_seconds']:.2f}" if there else "not installed",
                f"{found['tool_cpu_seconds']:.2f}" if there else "",
                f"{found['tool_megabytes_per_second']:,.0f}" if there else "",
                f"{found['of_the_tool']:.2f}" if there else "",
                ", ".join(found["differences"]) or "the same",
            ]
        )
    header = [f"{figures['workers']} workers", "MB", "s", "CPU s", "MB/s of JSON", "MB a worker"]
    return f"{megabytes(figures['formats'][0]['json_bytes'])} MB of JSON.\n\n" + table(
        [*header, "tool", "its s", "its CPU s", "its MB/s", "of the tool", "store"], rows
    )
