"""A store and a recipe → a graph data set: entities, memberships, hierarchy and manifest.

    sparqless graph --store data/store --recipe living --out data/graph/living

The rows depend on the store's contents and the recipe alone: two builds are equal byte for byte.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.entity import entity_id, numeric_id
from etl.errors import UserError
from etl.manifest import MANIFEST, digests, flush, read_manifest, tool_versions, write_manifest
from etl.progress import Progress
from etl.show import counted
from etl.store import REDIRECTS, EntityStore
from etl.tables import TableWriter
from graph.chains import chain_edges
from graph.closure import check_walkable
from graph.entities import COLUMN_PROPERTIES, Grouped, Rows, write_entities
from graph.facts import Facts, check_naming, name_of
from graph.memberships import Memberships, United
from graph.ontology import Ids, Nodes, Ontology, distinct
from graph.quality import QUALITY_FILE, write_quality
from graph.recipe import Recipe, check_store, followed, matches, merged_ids
from graph.selection import Evaluator, Kept, select
from graph.tables import (
    HIERARCHY,
    grouped,
    step_numbers,
    walk_strings,
)

#: Version of what stands in a graph data set.
GRAPH_FORMAT: Final = 1

OUTPUTS: Final = ("entities.parquet", "memberships.parquet", "hierarchy.parquet", QUALITY_FILE)

#: The directory inside a data set in which a build writes until its files are complete.  Inside, so
#: that moving them never crosses to another file system, whatever `out` is a link to or a mount of.
BUILDING: Final = ".building"

# What may stand in a directory of ours, later stages' files included: anything else is not ours to
# write into.
_OURS = frozenset(
    {
        *OUTPUTS,
        "attributes.parquet",
        "queries.parquet",
        "enrich",
        BUILDING,
        MANIFEST,
    }
)

_ATTEMPTS = 100  # at the lock, before a directory that others keep removing counts as taken

_BATCH = 1 << 16  # edges turned into text at a time; the file's bytes don't depend on it


def build(
    store: Path, recipe: Recipe, out: Path, *, strict: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Evaluate a recipe over a store and write the data set into the directory `out`.

    A finished data set that stands there is replaced when the new one is complete, and only then;
    what later stages put beside it (`enrich/`) stays.  With `strict`, warnings are errors.

    Returns
    -------
    The manifest: per root its name, the candidates, what every rule took away, what is kept and,
    where `limit` took some, the last one kept; entities, warnings, seconds, digests of the outputs
    and of what of the store they come from.

    Raises
    ------
    UserError : the recipe needs what the store did not keep; no root is in the store; a `minus`
        empties a root; `out` holds something else or another build is writing it.  Nothing has
        been written then.
    """
    started = time.perf_counter()
    _check_out(out)
    with EntityStore(store) as entities:
        check_store(recipe, entities.manifest)
        check_walkable(recipe.walked(), entities)
        check_naming(recipe.naming(), entities)
        merged = merged_ids(recipe, entities.resolve)
        recipe = followed(recipe, entities.resolve)
        facts = Facts(entities)
        warnings = _warnings(recipe, facts, entities, strict) + [
            f"{old} was merged into {new}: where the recipe names it, {new} is meant."
            for old, new in merged.items()
        ]
        ontology = Ontology.load(
            store, recipe.walked(), including=_named_items(recipe), quiet=quiet
        )
        loaded = time.perf_counter()
        graph = _selected(recipe, ontology, facts, quiet)
        _name_roots(graph, entities)
        emptied = _emptied(graph.counts)
        _refuse_if_strict(emptied, strict)
        warnings += emptied
        selected = time.perf_counter()
        with _building(out) as directory:
            count = _write(directory, graph, entities, facts, quiet)
            flaws = write_quality(
                directory / QUALITY_FILE, directory, entities, facts, recipe, quiet=quiet
            )
            manifest = {
                "step": "graph",
                "format": GRAPH_FORMAT,
                "versions": tool_versions(),
                "recipe": {"name": recipe.name, "texts": recipe.texts(), "merged": merged},
                "store": _origin(entities.manifest, recipe),
                "options": {"strict": strict},
                "counts": {"entities": count, "roots": graph.counts, "quality": flaws},
                "warnings": warnings,
                "outputs": digests(directory, OUTPUTS, quiet=quiet),
                "seconds": {
                    "load": round(loaded - started, 2),
                    "select": round(selected - loaded, 2),
                    "all": round(time.perf_counter() - started, 2),
                },
            }
            _publish(directory, out, manifest)
    return manifest


# --------------------------------------------------------------------------------------------------
# What is checked before any work
# --------------------------------------------------------------------------------------------------


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a new directory or that of an earlier graph.")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in _OURS)
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]!r}, which no graph data set has: "
            "name a new directory or that of an earlier graph."
        )
    if (out / MANIFEST).exists():
        read_manifest(out, "graph")  # refuses another step's directory


def _named_items(recipe: Recipe) -> list[int]:
    """Return the items that roots and conditions name: nodes even where no edge touches them."""
    ids = {root.id for root in recipe.all_roots()}
    ids |= {id for root in recipe.all_roots() for match, _ in matches(root) for id in match.of}
    return sorted(numeric_id(id) for id in ids)


def _warnings(recipe: Recipe, facts: Facts, store: EntityStore, strict: bool) -> list[str]:
    """Say what the store lacks of what the recipe names; refuse it where that can't be meant."""

    def missing(ids: list[str]) -> list[str]:
        items = [id for id in dict.fromkeys(ids) if id.startswith("Q")]
        rows = facts.rows(np.array([numeric_id(id) for id in items], np.int64))
        return [id for id, row in zip(items, rows.tolist(), strict=True) if row < 0]

    roots = recipe.root_ids()
    absent = missing(roots)
    if len(absent) == len(roots):
        raise UserError(
            f"the store {store.path} has none of the roots of recipe {recipe.name!r} "
            f"({', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}): "
            "is it of a Wikidata dump, read to its end?"
        )
    warnings = []
    if absent:
        warnings.append(
            f"the store has no record of the root{'s' if len(absent) > 1 else ''} "
            f"{', '.join(absent)}: what statements about it lead there is kept all the same."
        )
    named = [
        (id, f"{id} (`{key}` of {root.id})")
        for root in recipe.all_roots()
        for match, key in matches(root)
        for id in match.of
        if id not in roots
    ]
    lacking = set(missing([id for id, _ in named]))
    if where := dict.fromkeys(text for id, text in named if id in lacking):
        warnings.append(
            f"the store has no record of {', '.join(where)}: what statements about it lead there "
            "is found all the same."
        )
    made = store.manifest
    if made["plan"]["limit"]:
        warnings.append(
            f"the store was made with `--limit {made['plan']['limit']}`: what it has not read is "
            "missing here too."
        )
    if places := len(made["damage"]):
        warnings.append(
            f"the store's dump was damaged in {counted(places, 'place')}: what stood there is "
            "missing here too (its manifest has them under `damage`)."
        )
    _refuse_if_strict(warnings, strict)
    warnings += [
        f"the store did not keep {property_id}: the column `{column}` is empty."
        for column, property_id in COLUMN_PROPERTIES.items()
        if property_id not in store.properties
    ]
    return warnings


def _refuse_if_strict(warnings: list[str], strict: bool) -> None:
    if strict and warnings:
        more = f" (and {len(warnings) - 1} more warnings)" if len(warnings) > 1 else ""
        raise UserError(f"--strict: {warnings[0]}{more}")


def _origin(store: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what a graph's manifest says of its store: enough to tell whether it is the same."""
    read = [
        "nodes.parquet",
        REDIRECTS,
        *(f"edges/{property_id}.parquet" for property_id in recipe.walked()),
    ]
    outputs = store["outputs"]
    return {
        "contents": store["contents"],
        "outputs": {name: outputs[name] for name in read if name in outputs},
        "damage": store["damage"],
        "limit": store["plan"]["limit"],
        "inputs": store["plan"]["inputs"],
    }


def _emptied(counts: list[dict[str, Any]]) -> list[str]:
    """Say which roots keep nothing, and that none does.

    A root that isn't in the store and has nothing below it was warned of before.
    """
    empty = [
        f"root {root['root']} of recipe {root['recipe']!r} keeps no entity: "
        + (
            f"`{(most := max(root['removed'], key=root['removed'].__getitem__))}` takes "
            f"{root['removed'][most]} of {root['candidates']} candidates."
            if root["candidates"]
            else "no chain of statements leads to it."
        )
        for root in counts
        if not root["kept"]
        and not (root["candidates"] and root["candidates"] == root["removed"].get("absent"))
    ]
    if len(empty) == len(counts):
        empty.append("no root keeps an entity: the data set is empty.")
    return empty


def _refuse_emptied(kept: Kept) -> None:
    candidates = kept.candidates - kept.removed["absent"]
    if candidates and kept.removed["minus"] == candidates:
        most = int(np.argmax(kept.by_minus))
        raise UserError(
            f"recipe {kept.part.name!r}: `minus` takes away everything under root {kept.root.id}: "
            f"{kept.by_minus[most]} of {candidates} entities meet minus {most + 1}; "
            "narrow it or drop the root. Nothing was written."
        )


# --------------------------------------------------------------------------------------------------
# The roots, united
# --------------------------------------------------------------------------------------------------


@dataclass
class _Graph:
    """All that is kept, before it is written."""

    recipe: Recipe
    counts: list[dict[str, Any]] = field(default_factory=list)  # by root, in order
    memberships: list[Memberships] = field(default_factory=list)
    via: dict[str, int] = field(default_factory=dict)  # text -> number
    # (property, inverse) -> packed child and parent, as numbers in the ontology
    hierarchy: dict[tuple[str, bool], list[npt.NDArray[np.uint64]]] = field(default_factory=dict)
    parents: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    ids: Ids = field(default_factory=lambda: np.empty(0, np.int64))  # of the ontology


def _selected(recipe: Recipe, ontology: Ontology, facts: Facts, quiet: bool) -> _Graph:
    graph = _Graph(recipe, ids=ontology.ids)
    evaluator = Evaluator(ontology, lambda p, nodes: facts.has(p, facts.rows(ontology.ids[nodes])))
    with Progress("selecting", len(recipe.all_roots()), unit=" roots", quiet=quiet) as progress:
        for number, part in enumerate(recipe.parts()):
            for root in part.roots:
                progress.note = root.id
                progress.add(0)
                kept = select(evaluator, facts, part, root)
                _refuse_emptied(kept)
                _add(graph, kept, number)
                progress.add(1)
    return graph


def _name_roots(graph: _Graph, store: EntityStore) -> None:
    """Put the roots' names beside their counts: a root need not be an entity of the graph."""
    labels = {part.name: part.labels for part in graph.recipe.parts()}
    for counts in graph.counts:
        record = store.get(counts["root"])
        named = name_of(record, labels[counts["recipe"]]) if record else None
        counts["name"] = named[0] if named else None


def _add(graph: _Graph, kept: Kept, part: int) -> None:
    """Put a root's members, their chains and the edges above them into the graph."""
    members = kept.members
    start, walk = members.chains.written(members.depth, members.position)
    steps = np.array([step_numbers(*step) for step in members.chains.steps], np.int64)
    # Odd places of a walk are steps.  A walk has an odd length, so that the places' parity turns
    # round from one walk to the next.
    place = np.arange(len(walk)) - np.repeat(start[:-1], np.diff(start))
    is_step = place % 2 == 1
    written = np.empty(len(walk), np.int64)
    written[is_step] = steps[walk[is_step]]
    written[~is_step] = graph.ids[walk[~is_step]]
    via = [graph.via.setdefault(str(branch), len(graph.via)) for branch in members.branches]
    count = len(members.entity)
    last = {"sitelinks": kept.last[0], "entity": entity_id(kept.last[1])} if kept.last else None
    graph.counts.append(
        {
            "root": kept.root.id,
            "name": None,
            "recipe": kept.part.name,
            "candidates": kept.candidates,
            "removed": kept.removed,
            "kept": count,
            "last_kept": last,
        }
    )
    graph.memberships.append(
        Memberships(
            np.full(count, numeric_id(kept.root.id)),
            graph.ids[members.entity],
            members.depth,
            np.array(via)[members.branch],
            np.full(count, part),
            start,
            written,
        )
    )
    reached = members.chains.reached()
    for _, _, child, parent in chain_edges(members.product, members.entries, reached):
        graph.parents.append(_packed(child, parent)[child != parent])
    above = np.concatenate([np.empty(0, np.int64), *members.product.layers(members.entries)])
    for property_id, inverse, child, parent in chain_edges(members.product, above, reached):
        pairs = graph.hierarchy.setdefault((property_id, inverse), [])
        pairs.append(distinct(_packed(child, parent)))


def _packed(high: Nodes, low: Nodes) -> npt.NDArray[np.uint64]:
    """Pack two columns of numbers in the ontology, which have 32 bits, into one that sorts."""
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)


def _unpacked(packed: npt.NDArray[np.uint64]) -> tuple[Nodes, Nodes]:
    return (packed >> np.uint64(32)).astype(np.int64), packed.astype(np.uint32).astype(np.int64)


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def _write(directory: Path, graph: _Graph, store: EntityStore, facts: Facts, quiet: bool) -> int:
    """Write the tables; return the number of entities."""
    rows = United.of(graph.memberships)
    hierarchy = _hierarchy(graph)
    total = len(rows.order) + len(hierarchy[0])
    with Progress("writing", total, unit=" rows", quiet=quiet) as progress:
        rows.write(directory / "memberships.parquet", list(graph.via), progress.add)
        _write_hierarchy(directory / "hierarchy.parquet", graph.ids, hierarchy, progress.add)
    entities = _rows(graph, rows)
    with Progress("writing", len(entities.ids), unit=" entities", quiet=quiet) as progress:
        write_entities(directory / "entities.parquet", store, facts, entities, progress.add)
    return len(entities.ids)


def _hierarchy(graph: _Graph) -> tuple[Nodes, Nodes, Nodes]:
    """Return child, step and parent of the edges, ordered by them; direct steps before inverse."""
    columns: list[tuple[Nodes, Nodes, Nodes]] = []
    for (property_id, inverse), pairs in graph.hierarchy.items():
        child, parent = _unpacked(distinct(np.concatenate(pairs)))
        columns.append((child, np.full(len(child), step_numbers(property_id, inverse)), parent))
    empty = np.empty(0, np.int64)
    child, step, parent = (
        np.concatenate([empty, *column]) for column in zip(*columns, strict=True)
    ) if columns else (empty, empty, empty)  # fmt: skip
    order = np.lexsort((parent, step, child))
    return child[order], step[order], parent[order]


def _write_hierarchy(
    file: Path, ids: Ids, rows: tuple[Nodes, Nodes, Nodes], advance: Callable[[int], None]
) -> None:
    with TableWriter(file, HIERARCHY) as writer:
        for first in range(0, len(rows[0]), _BATCH):
            child, step, parent = (column[first : first + _BATCH] for column in rows)
            columns = [ids[child], step, ids[parent]]
            writer.write(pa.table([walk_strings(column) for column in columns], schema=HIERARCHY))
            advance(len(child))


def _rows(graph: _Graph, rows: United) -> Rows:
    """Gather what stands in an entity's row: roots in the recipe's order, parents by id."""
    ids = rows.entities
    roots = np.array([numeric_id(id) for id in graph.recipe.root_ids()])
    by_id = np.argsort(roots)
    place = by_id[np.searchsorted(roots, rows.root, sorter=by_id)]  # in the recipe
    order = np.lexsort((place, rows.entity))
    start = grouped(np.searchsorted(ids, rows.entity), len(ids))
    child, parent = _unpacked(distinct(np.concatenate([np.empty(0, np.uint64), *graph.parents])))
    return Rows(
        ids,
        Grouped(start, rows.root[order]),
        Grouped(start, rows.depth[order]),
        Grouped(grouped(np.searchsorted(ids, graph.ids[child]), len(ids)), graph.ids[parent]),
        rows.first_part,
        [part.labels for part in graph.recipe.parts()],
    )


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """Give an empty directory inside `out`, locked against another build, gone at the end.

    What a killed build left there is cleared by the next.  An `out` that was made for a build that
    fails is removed.
    """
    out = out.resolve()
    made = not out.exists()
    directory = out / BUILDING
    lock = _locked(directory, out)
    try:
        _clear(directory)
        yield directory
    finally:
        _clear(directory)
        with suppress(OSError):  # what isn't ours stays, and so does what holds it
            directory.rmdir()
            if made:
                out.rmdir()  # fails where the build did not
        os.close(lock)


def _locked(directory: Path, out: Path) -> int:
    """Make a directory and lock it; return the file descriptor that holds the lock.

    A build that ends removes its directory.  Whoever opened it before that then locks a directory
    that is gone, and has to begin again.
    """
    taken = UserError(f"another `sparqless graph` is writing {out}: wait for it.")
    for _ in range(_ATTEMPTS):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed between two calls
        except (FileExistsError, NotADirectoryError):
            raise UserError(
                f"{directory} is a file, and a build needs a directory of that name: remove it."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(directory)):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise taken from None
        except FileNotFoundError:
            pass
        os.close(lock)
    raise taken


def _clear(directory: Path) -> None:
    """Remove what a build writes, and nothing else."""
    for name in (*OUTPUTS, MANIFEST):
        (directory / name).unlink(missing_ok=True)
    for temporary in directory.glob(f"{MANIFEST}.*.tmp"):
        temporary.unlink()


def _publish(directory: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Move the finished files into place.

    The old manifest goes first and the new one comes last, so that a directory with a manifest
    always holds what it says.
    """
    write_manifest(directory, manifest)
    flush(directory, OUTPUTS)
    (out / MANIFEST).unlink(missing_ok=True)
    for name in (*OUTPUTS, MANIFEST):
        (directory / name).rename(out / name)
