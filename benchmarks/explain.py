"""`sparqless explain` as somebody waits for it: the whole command, beside the interpreter's start.

A data set of the recipe `world` is built from the made dump, and the entities with the longest
chains in it are asked about. Every figure is the best of ``--repeat`` rounds over them, bytecode
and files in memory. What the array libraries take to import stands beside it, because not to wait
for them is how an explanation stays short.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.build import build
from benchmarks.files import dump_of
from benchmarks.options import ROOT, Options
from benchmarks.report import table

_ASKED = 5  # entities
_START = "python -c pass"
_ARRAYS = "import numpy, pyarrow.parquet, networkx"


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    store, graph = options.work / "store", options.work / "graph"
    entities = build(dump_of(options), store, options.workers).rate.entities
    shutil.rmtree(graph, ignore_errors=True)
    _run(["-m", "cli", "graph", "--store", str(store), "--out", str(graph),
          "--recipe", "world", "--quiet"])  # fmt: skip
    ids = _deepest(graph)
    by_rules, by_rows = ["--store", str(store)], ["--graph", str(graph)]
    ways = {
        "--store, world": [*by_rules, "--recipe", "world"],
        "--store, entitynet": [*by_rules, "--recipe", "entitynet"],
        "--store --graph": [*by_rules, *by_rows],
        "--graph": by_rows,
    }
    seconds: dict[str, float] = {}
    for _ in range(options.repeat + 1):
        for id_ in ids:
            commands = {
                _START: ["-c", "pass"],
                **{way: ["-m", "cli", "explain", id_, *given] for way, given in ways.items()},
                _ARRAYS: ["-c", _ARRAYS],
            }
            for name, command in commands.items():
                seconds[name] = min(seconds.get(name, 1e9), _run(command))
    shutil.rmtree(graph)
    return {
        "entities": entities,
        "asked": len(ids),
        "rows": [
            {"name": name, "seconds": took, "beyond": took - seconds[_START]}
            for name, took in seconds.items()
        ],
    }


def _deepest(graph: Path) -> list[str]:
    """The entities that the longest chains belong to."""
    rows = pq.read_table(graph / "memberships.parquet", columns=["entity", "depth"])
    rows = rows.sort_by([("depth", "descending"), ("entity", "ascending")])
    return list(dict.fromkeys(rows["entity"].to_pylist()))[:_ASKED]


def _run(arguments: list[str]) -> float:
    """Seconds that Python takes for some arguments.

    Raises RuntimeError where it fails.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    took = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr.decode()}")
    return took


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    start = figures["rows"][0]["seconds"]
    rows = [
        [
            row["name"],
            f"{row['seconds'] * 1000:.0f}",
            f"{row['beyond'] * 1000:.0f}",
            f"{row['seconds'] / start:.1f}",
        ]
        for row in figures["rows"]
    ]
    header = ["explain", "ms", "beyond the start", "times the start"]
    return (
        f"The best of {figures['asked']} entities in a store of {figures['entities']:,}.\n\n"
        + table(header, rows)
    )
