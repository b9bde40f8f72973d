"""`sparqless graph` over an invented store, its bars, and the same walks in other libraries.

The store has the densities of Wikidata (:mod:`benchmarks.world`); the whole command runs as a user
starts it, watched. What a whole Wikidata will take is reckoned from the largest run here.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

from benchmarks import walkers, watch
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.walkers import WALKERS, Walked, measured
from benchmarks.world import WIKIDATA
from benchmarks.world_store import store_of

_RECIPES: Final = ("world", "living", "entitynet")
_WHOLE: Final = "entitynet"  # the recipe that the bars are about
_HIERARCHY: Final = ("P279", "P171")
_ALL: Final = (*_HIERARCHY, "P31")
_OURS: Final = "sparqless"

#: What the stage must keep on two cores with 10 million items: seconds, and bytes of memory.
_BARS: Final = {"load": 5.0, "closures": 10.0, "stage": 180.0, "memory": 3e9}
_BARS_ITEMS: Final = 10_000_000

#: Entities that ``entitynet`` keeps of a whole Wikidata: 108,000 classes (EntityNet's
#: kgraph/README, end of 2025) and, by its limit, 28,000 below each of three roots.
_KEPT: Final = 108_000 + 3 * 28_000
#: Stages that read whole edge files, so that they take longer with a larger store.
_GROWING: Final = ("entities", "attributes", "quality")
_LEAST_ITEMS: Final = 1_000_000  # below, what a start takes is most of what is measured
#: Bytes of its own that a run over a store of a few items takes: the libraries'.
_IDLE: Final = 60e6
#: Bytes of memory that networkx takes for a P31 edge, 700 measured: with less it is not tried.
_NETWORKX_EDGE: Final = 1_000


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data.

    Raises RuntimeError where two libraries find different things below a root.
    """
    if options.install_peers and (failed := walkers.install(options.work)):
        print(failed, file=sys.stderr, flush=True)
    store = store_of(options)
    manifest = json.loads((store / "manifest.json").read_text())
    edges = {name: manifest["counts"]["edges"][name] for name in _ALL}
    walks, notes = _walks(store, edges, options)
    return {
        "items": manifest["counts"]["items"],
        "edges": edges,
        "record_bytes": manifest["counts"]["record_bytes"],
        "store_seconds": manifest["seconds"]["all"],
        "walks": walks,
        "notes": notes,
        "graphs": [_graph(store, recipe, options) for recipe in _RECIPES],
    }


# --- the walks ----------------------------------------------------------------------------------


def _walks(
    store: Path, edges: dict[str, int], options: Options
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each library and set of properties; a line for what was not run."""
    rows, notes = [], []
    expected: list[walkers.Found] = []
    for properties in (_HIERARCHY, _ALL):
        for name in WALKERS:
            if reason := _missing(name, properties, edges, options):
                notes.append(f"{name} was not measured with {', '.join(properties)}: {reason}.")
                continue
            try:
                best = _best(name, store, properties, options)
            except BrokenProcessPool:
                notes.append(f"{name} was ended by the system with {', '.join(properties)}.")
                continue
            if (expected := expected or best.found) != best.found:
                raise RuntimeError(f"{name} finds {best.found} below the roots, not {expected}")
            rows.append(
                {
                    "name": name,
                    "properties": list(properties),
                    "edges": sum(edges[p] for p in properties),
                    "load_seconds": best.load.seconds,
                    "load_cpu": best.load.cpu_seconds,
                    "walk_seconds": best.walk.seconds,
                    "walk_cpu": best.walk.cpu_seconds,
                    "peak": best.peak,
                    "roots": len(best.found),
                    "members": sum(members for members, _, _ in best.found),
                }
            )
    return rows, notes


def _best(name: str, store: Path, properties: tuple[str, ...], options: Options) -> Walked:
    """The best of some runs; of another library with all edges, which takes minutes, the only."""
    slow = name != _OURS and properties == _ALL
    runs = [
        measured(name, store, properties, options.work)
        for _ in range(1 if slow else options.repeat)
    ]
    return min(runs, key=lambda run: run.load.cpu_seconds + run.walk.cpu_seconds)


def _with_version(name: str) -> str:
    """Name with its version what is installed for the comparison alone."""
    return f"{name} {walkers.RUSTWORKX_VERSION}" if name == walkers.RUSTWORKX else name


def _missing(
    name: str, properties: tuple[str, ...], edges: dict[str, int], options: Options
) -> str:
    """Why a library can't be measured, "" where it can."""
    if name == walkers.RUSTWORKX and not (options.work / name).exists():
        return "it is not installed (`--install-peers`)"
    needed = _NETWORKX_EDGE * sum(edges[p] for p in properties)
    if name == "networkx" and needed > _available():
        return f"it would take some {needed / 1e9:.0f} GB, more than this machine has free"
    return ""


def _available() -> float:
    """Bytes of memory that are free; without bound where the system doesn't say."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else math.inf


# --- the command --------------------------------------------------------------------------------


def _graph(store: Path, recipe: str, options: Options) -> dict[str, Any]:
    """`sparqless graph` with a recipe, the best of some runs."""
    out = options.work / "graph"
    command = [sys.executable, "-m", "cli", "graph", "--store", str(store), "--recipe", recipe]
    runs = []
    for _ in range(options.repeat):
        shutil.rmtree(out, ignore_errors=True)
        watched = watch.run([*command, "--out", str(out), "--quiet"], ROOT)
        runs.append((watched, json.loads((out / "manifest.json").read_text())))
    shutil.rmtree(out)
    watched, manifest = min(runs, key=lambda run: run[0].seconds)
    return {
        "recipe": recipe,
        "entities": manifest["counts"]["entities"],
        "candidates": sum(root["candidates"] for root in manifest["counts"]["roots"]),
        "stages": manifest["seconds"],
        "seconds": watched.seconds,
        "cpu_seconds": watched.cpu_seconds,
        "peak": watched.main_peak + watched.worker_peak,
        "private": watched.main_private + watched.worker_private,
    }


# --- the tables ---------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    items, edges = figures["items"], figures["edges"]
    per_item = [
        [
            name,
            f"{edges[name]:,}",
            f"{edges[name] / items:.3f}",
            f"{WIKIDATA[name] / WIKIDATA['entities']:.3f}",
        ]
        for name in _ALL
    ]
    lines = [
        f"{items:,} items, {megabytes(figures['record_bytes'])} MB of records; the store was "
        f"made in {figures['store_seconds']:.0f} s.",
        "",
        table(["statements of", "", "an item", "an item of Wikidata"], per_item),
        "",
        *_bars(figures),
        "",
        table(*_walk_table(figures["walks"])),
        *[f"\n{note}" for note in figures["notes"]],
        "",
        table(*_graph_table(figures["graphs"])),
        "",
        _projection(figures),
    ]
    return "\n".join(lines)


def _bars(figures: dict[str, Any]) -> list[str]:
    """What the stage must keep, beside what it took."""
    [ours] = [w for w in figures["walks"] if w["name"] == _OURS and len(w["properties"]) == 3]
    [whole] = [g for g in figures["graphs"] if g["recipe"] == _WHOLE]
    rows = [
        ("edges of P279, P171 and P31 loaded", ours["load_seconds"], _BARS["load"]),
        (
            f"{ours['roots']} closures with depths, parents and chains",
            ours["walk_seconds"],
            _BARS["closures"],
        ),
        (
            f"`sparqless graph`, recipe `{_WHOLE}`, from start to end",
            whole["seconds"],
            _BARS["stage"],
        ),
    ]
    cells = [[name, f"**{took:.2f} s**", f"{bar:.0f} s"] for name, took, bar in rows]
    cells.append(
        [
            "... its memory, with the pages of the store that it reads",
            f"**{megabytes(whole['peak'])} MB**",
            f"{megabytes(_BARS['memory'])} MB",
        ]
    )
    return [table(["", "took", f"bar ({_BARS_ITEMS / 1e6:.0f} M items)"], cells)]


def _walk_table(walks: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; ratios of processor seconds and of memory to ours over the same edges."""
    rows = []
    for found in walks:
        [ours] = [w for w in walks if w["name"] == _OURS and w["properties"] == found["properties"]]
        rows.append(
            [
                f"{_with_version(found['name'])}, {', '.join(found['properties'])}",
                f"{found['load_seconds']:.2f}",
                f"{found['load_cpu']:.2f}",
                _times(found["load_cpu"], ours["load_cpu"]),
                f"{found['walk_seconds']:.2f}",
                f"{found['walk_cpu']:.2f}",
                _times(found["walk_cpu"], ours["walk_cpu"]),
                megabytes(found["peak"]),
                _times(found["peak"], ours["peak"]),
            ]
        )
    header = ["", "loading, s", "CPU s", "× ours", "closures, s", "CPU s", "× ours"]
    return [*header, "MB", "× ours"], rows


def _times(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f}" if ours else ""


def _graph_table(graphs: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            f"`{found['recipe']}`",
            f"{found['candidates']:,}",
            f"{found['entities']:,}",
            ", ".join(f"{n} {s:.1f}" for n, s in found["stages"].items() if n != "all"),
            f"{found['seconds']:.2f}",
            f"{found['cpu_seconds']:.2f}",
            megabytes(found["private"]),
            megabytes(found["peak"]),
        ]
        for found in graphs
    ]
    header = [
        "recipe",
        "candidates",
        "entities",
        "of these, s",
        "s",
        "CPU s",
        "MB",
        "with the store",
    ]
    return header, rows


def _projection(figures: dict[str, Any]) -> str:
    """What a whole Wikidata takes, if what is measured here grows as it should."""
    if figures["items"] < _LEAST_ITEMS:
        return f"No projection from fewer than {_LEAST_ITEMS:,} items."
    [whole] = [g for g in figures["graphs"] if g["recipe"] == _WHOLE]
    here, there = sum(figures["edges"].values()), sum(WIKIDATA[name] for name in _ALL)
    times = there / here
    sorting = times * math.log(there) / math.log(here)
    rows = max(1.0, _KEPT / whole["entities"])
    growing = sum(whole["stages"][name] for name in _GROWING)
    seconds = growing * sorting + (whole["seconds"] - growing) * rows
    memory = _IDLE + (whole["private"] - _IDLE) * times
    return (
        "**A projection, not a measurement**: a whole Wikidata "
        f"({WIKIDATA['entities'] / 1e6:.0f} M entities, {there / 1e6:.0f} M edges) on such a "
        f"machine: **{seconds / 60:.1f} minutes and {memory / 1e9:.0f} GB at most**. The stages "
        f"{', '.join(_GROWING)} go through all edges and candidates and sort them: ×{times:.1f} as "
        f"many, ×{sorting:.1f} the time (n log n), though much of each is done for the entities "
        "that are kept alone. Those, and all else, do not grow with the store but with the "
        f"recipe's limits: {_KEPT:,} instead of {whole['entities']:,}, ×{rows:.1f}. Memory is the "
        "arrays of edges, of `nodes.parquet`'s columns and of the candidates below a root: all "
        f"grow with the store, ×{times:.1f}. The pages of the store that are read come on top; "
        "they are the system's cache, which takes them back."
    )
