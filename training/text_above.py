"""What stands above the entities of a data set, near enough to be what an image is called.

Natural types and ancestors are many entities' at once and are held in memory, 1 kB each: those
above a million entities are some hundred thousand. Distances are found by arrays, for thousands of
entities at a time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.entity import is_entity_id, numeric_id
from etl.errors import UserError
from graph.ontology import ArrayGraph, Nodes, distinct
from graph.read import batches, hierarchy
from graph.tables import id_numbers
from training.text_options import TextOptions
from training.text_rules import Parent, Subject, parents

Ids = npt.NDArray[np.int64]

#: Columns of entities.parquet that a subject is made of, and the one that ancestors are chosen by.
COLUMNS: Final = (
    "id", "name", "description", "aliases", "common_names", "taxon_names", "sitelinks", "roots",
    "natural_type", "natural_type_name",
)  # fmt: skip

_NODE: Final = (1 << 32) - 1


class Above:
    """Finds the parents of entities and types of a data set."""

    def __init__(
        self, graph: Path, options: TextOptions, only: Sequence[str] | None = None
    ) -> None:
        """Reads what may be a parent: of all entities, or of some alone."""
        self._options = options
        wants_ancestors = options.natural_type_share < 1 and options.ancestor_steps > 0
        self._arrays = hierarchy(graph) if wants_ancestors else None
        self._types = _types(graph, only)
        wanted = [id_numbers(pa.array(sorted(self._types), pa.string()))]
        if self._arrays is not None:
            wanted.append(self._targets(only))
        self._subjects: dict[str, Subject] = {}
        self._ancestors: dict[int, Subject] = {}
        known = distinct(np.concatenate(wanted))
        for row in rows_of(graph, known):
            subject = self._subjects[row["id"]] = Subject.of_row(row)
            if (row["sitelinks"] or 0) >= options.ancestor_min_sitelinks:
                self._ancestors[numeric_id(row["id"])] = subject

    def _targets(self, only: Sequence[str] | None) -> Ids:
        """What any edge leads to, or what the edges above some ids lead to."""
        assert self._arrays is not None
        if only is None:
            nodes = np.concatenate(
                [np.empty(0, np.int64), *(b.edges.object for b in self._arrays.blocks)]
            )
            return self._arrays.names(distinct(nodes.astype(np.int64)))
        ids = np.array([numeric_id(id_) for id_ in {*only, *self._types}], np.int64)
        _, node, _ = nearby(self._arrays, self._arrays.find(ids), self._options.ancestor_steps)
        return self._arrays.names(distinct(node))

    @property
    def types(self) -> Container[str]:
        """The natural types of entities."""
        return self._types.keys()

    def type_of(self, id_: str) -> Subject:
        """A natural type: an entity of the data set, or no more than its name and its roots."""
        found = self._subjects.get(id_)
        if found is None:
            name, roots = self._types.get(id_, (None, ()))
            found = self._subjects[id_] = Subject.of_type(id_, name, roots)
        return found

    def of(self, subjects: Sequence[Subject]) -> list[list[Parent]]:
        """The parents of each of some subjects."""
        near = self._near(subjects)
        return [
            parents(self._natural_type(subject), ancestors, self._options)
            for subject, ancestors in zip(subjects, near, strict=True)
        ]

    def _natural_type(self, subject: Subject) -> Subject | None:
        if subject.type_id is None or subject.type_id == subject.id:
            return None
        found = self.type_of(subject.type_id)
        if not found.names and subject.type_name:  # a type of a type that no entity has
            found = Subject.of_type(subject.type_id, subject.type_name)
        return found if found.names or found.descriptions else None

    def _near(self, subjects: Sequence[Subject]) -> list[list[tuple[int, Subject]]]:
        """(distance, ancestor) of each, the nearest first, then the lowest id."""
        near: list[list[tuple[int, Subject]]] = [[] for _ in subjects]
        if self._arrays is None:
            return near
        ids = np.array([numeric_id(subject.id) for subject in subjects], np.int64)
        found = nearby(self._arrays, self._arrays.find(ids), self._options.ancestor_steps)
        row, node, distance = found
        for place, id_, far in zip(
            row.tolist(), self._arrays.names(node).tolist(), distance.tolist(), strict=True
        ):
            ancestor = self._ancestors.get(id_)
            if ancestor is not None:
                near[place].append((far, ancestor))
        return near


def nearby(graph: ArrayGraph, start: Nodes, steps: int) -> tuple[Nodes, Nodes, Nodes]:
    """(row, node, distance) of what up to ``steps`` steps lead to from each start; -1 starts none.

    By row, distance, node. Distances are the shortest; a start isn't above itself, on a cycle
    neither.
    """
    row = np.flatnonzero(start >= 0)
    layer = (row << 32) | start[row]
    seen = layer
    cells, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for distance in range(1, steps + 1):
        above = [np.empty(0, np.int64)]
        for _, i, target in graph.steps(layer & _NODE):
            above.append((layer[i] & ~_NODE) | target)
        layer = np.setdiff1d(distinct(np.concatenate(above)), seen, assume_unique=True)
        seen = np.union1d(seen, layer)
        cells.append(layer)
        distances.append(np.full(len(layer), distance))
    cell, far = np.concatenate(cells), np.concatenate(distances)
    order = np.lexsort((cell & _NODE, far, cell >> 32))
    return cell[order] >> 32, cell[order] & _NODE, far[order]


def rows_of(graph: Path, ids: Ids | None) -> Iterator[Mapping[str, Any]]:
    """Rows of entities.parquet, of these ids or (None) of all, by id."""
    for table in batches(graph, "entities", list(COLUMNS)):
        if ids is None:
            for some in table.to_batches(max_chunksize=1 << 13):
                yield from some.to_pylist()
            continue
        own = id_numbers(table.column("id").combine_chunks())
        yield from table.filter(pa.array(np.isin(own, ids))).to_pylist()


def _types(
    graph: Path, only: Sequence[str] | None
) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Natural types: the name of each, and the roots of all entities that have it."""
    found: dict[str, tuple[str | None, dict[str, None]]] = {}
    columns = ["id", "natural_type", "natural_type_name", "roots"]
    for table in batches(graph, "entities", columns):
        if only is not None:
            table = _of(table, only)
        for pair in _distinct(table):
            id_, name, roots = pair["natural_type"], pair["natural_type_name"], pair["roots"]
            if id_ is None:
                continue
            if not is_entity_id(id_):
                raise UserError(
                    f"{graph}/entities.parquet: the natural type {id_!r} is no item; build the "
                    "data set again with `sparqless graph`."
                )
            known = found.setdefault(id_, (name, {}))
            known[1].update(dict.fromkeys(roots or ()))
    return {id_: (name, tuple(roots)) for id_, (name, roots) in found.items()}


def _of(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """Rows of these ids, and those whose natural type is one of them: what its roots are."""
    wanted = pa.array(ids, pa.string())
    own = pc.is_in(table.column("id"), wanted)
    return table.filter(
        pc.or_(own, pc.fill_null(pc.is_in(table.column("natural_type"), wanted), False))
    )


def _distinct(table: pa.Table) -> Iterable[Mapping[str, Any]]:
    """Distinct triples of type, its name and the entities' roots, in the order of the rows."""
    columns = {name: table.column(name) for name in ("natural_type", "natural_type_name")}
    columns["roots"] = pc.binary_join(table.column("roots"), " ")
    triples = pa.table(columns)
    for row in triples.group_by(triples.column_names, use_threads=False).aggregate([]).to_pylist():
        yield {**row, "roots": (row["roots"] or "").split()}
