"""The same edges in ours, in networkx and in rustworkx, as each ships: loaded, then walked.

The task: read the store's edge files, then find for each root of the recipe ``world`` what is below
it along P279, how far, and which of what was found each is directly below. Ours finds the evidence
chain of every entity as well, which the others don't. All have to find the same. Each runs in a
process of its own, so that its peak of memory is its own.

rustworkx runs where :func:`install` has put it, below ``data/bench``.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import networkx as nx
import numpy as np

from benchmarks.peers import put_below
from etl.entity import numeric_id
from graph import recipe
from graph.chains import chain_edges
from graph.ontology import Ontology, distinct, read_truthy
from graph.selection import Evaluator

#: Edges that are walked; what is loaded besides may be more.
WALKED: Final = "P279"
RUSTWORKX: Final = "rustworkx"
RUSTWORKX_VERSION: Final = "0.18.1"
_ROOTS: Final = "world"

#: Of one root: entities below it or itself, the sum of their depths, pairs of child and parent.
Found = tuple[int, int, int]
Walk = Callable[[], Iterable[Found]]
Result = TypeVar("Result")


class Took(NamedTuple):
    """Seconds of a step, and processor seconds of all its threads."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Walked:
    """What one library took. ``peak`` is in bytes, 0 where the system has no /proc."""

    name: str
    properties: tuple[str, ...]
    load: Took
    walk: Took
    peak: int
    found: list[Found]


def install(work: Path) -> str | None:
    """Install rustworkx below ``work``; a line where it can't be."""
    return put_below(work / RUSTWORKX, f"{RUSTWORKX}=={RUSTWORKX_VERSION}")


def measured(name: str, store: Path, properties: tuple[str, ...], work: Path) -> Walked:
    """Run one of :data:`WALKERS` in a fresh process.

    Raises BrokenProcessPool where the system ends it for want of memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, name, store, properties, work).result()


def _measure(name: str, store: Path, properties: tuple[str, ...], work: Path) -> Walked:
    sys.path.append(str(work / RUSTWORKX))
    walk, loading = _timed(lambda: WALKERS[name](store, properties))
    found, walking = _timed(lambda: list(walk()))
    return Walked(name, properties, loading, walking, _peak(), found)


def _timed(step: Callable[[], Result]) -> tuple[Result, Took]:
    started, cpu = time.perf_counter(), time.process_time()
    result = step()
    return result, Took(time.perf_counter() - started, time.process_time() - cpu)


def _peak() -> int:
    """Bytes that this process held at most."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _roots() -> list[int]:
    return [numeric_id(root.id) for root in recipe.load(_ROOTS).all_roots()]


def _edges(store: Path, name: str) -> tuple[Any, Any]:
    """(subjects, objects) of a property, as numpy arrays of ids."""
    table = read_truthy(store / "edges" / f"{name}.parquet", ["subject", "object"])
    return table.column("subject").to_numpy(), table.column("object").to_numpy()


def _ours(store: Path, properties: tuple[str, ...]) -> Walk:
    ontology = Ontology.load(store, properties, including=_roots())

    def walk() -> Iterable[Found]:
        evaluator = Evaluator(ontology, lambda _, nodes: np.zeros(len(nodes), bool))
        for root in recipe.load(_ROOTS).all_roots():
            members = evaluator.members(root.any)
            members.chains.written(members.depth, members.position)
            reached = members.chains.reached()
            pairs = [np.empty(0, np.uint64)]
            for _, _, child, parent in chain_edges(members.product, members.entries, reached):
                packed = (child.astype(np.uint64) << np.uint64(32)) | parent.astype(np.uint64)
                pairs.append(packed[child != parent])
            parents = distinct(np.concatenate(pairs))
            yield len(members.entity), int(members.depth.sum()), len(parents)

    return walk


def _networkx(store: Path, properties: tuple[str, ...]) -> Walk:
    graphs: dict[str, nx.DiGraph[int]] = {}
    for name in properties:  # from parent to child
        subjects, objects = _edges(store, name)
        graphs[name] = nx.DiGraph(zip(objects.tolist(), subjects.tolist(), strict=True))

    def walk() -> Iterable[Found]:
        graph = graphs[WALKED]
        for root in _roots():
            layers = nx.bfs_layers(graph, root) if root in graph else [[root]]
            depth = {node: n for n, layer in enumerate(layers) for node in layer}
            parents = {
                child: [p for p in graph.pred[child] if p in depth and p != child]
                for child in depth
                if child in graph
            }
            yield len(depth), sum(depth.values()), sum(map(len, parents.values()))

    return walk


def _rustworkx(store: Path, properties: tuple[str, ...]) -> Walk:
    rustworkx = importlib.import_module(RUSTWORKX)
    graphs: dict[str, tuple[Any, dict[int, int]]] = {}
    for name in properties:  # nodes are numbers from 0
        subjects, objects = _edges(store, name)
        ids, number = np.unique(np.concatenate([objects, subjects]), return_inverse=True)
        graph = rustworkx.PyDiGraph()  # else every edge is looked for among its node's
        parents, children = np.split(number, 2)
        graph.extend_from_edge_list(list(zip(parents.tolist(), children.tolist(), strict=True)))
        graphs[name] = graph, {id: n for n, id in enumerate(ids.tolist())}

    def walk() -> Iterable[Found]:
        graph, numbers = graphs[WALKED]
        for root in _roots():
            if root not in numbers:
                yield 1, 0, 0
                continue
            layers = rustworkx.bfs_layers(graph, [numbers[root]])
            depth = {node: n for n, layer in enumerate(layers) for node in layer}
            parents = {
                child: [p for p in graph.predecessor_indices(child) if p in depth and p != child]
                for child in depth
            }
            yield len(depth), sum(depth.values()), sum(map(len, parents.values()))

    return walk


WALKERS: Final[dict[str, Callable[[Path, tuple[str, ...]], Walk]]] = {
    "sparqless": _ours,
    "networkx": _networkx,
    RUSTWORKX: _rustworkx,
}
