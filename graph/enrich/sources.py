"""What the questions are made from: a data set's entities, the classes above them, their claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import Record
from etl.errors import UserError
from etl.store import EntityStore
from graph.above import Nodes
from graph.enrich.prompts import Candidate, Hint, Subject
from graph.naming import name_of
from graph.natural_types import NaturalTypes
from graph.read import manifest_of
from graph.recipe import Recipe, followed, recorded
from graph.tables import id_numbers

_CACHED = 1 << 16  # records of classes: the entities of a data set share most of theirs
_SLICE = 1 << 10  # entities that are Python objects at a time
_SPARE = 3  # texts to read for each that is wanted: not everything leaves something to ask


class Subjects:
    """The entities of a data set, best known first (sitelinks, ties by id).

    `visible` leaves out those that are known not to be visual.  `limit` says how many will be
    wanted, or some more: the texts of the others are not read until then.  Holds the names,
    descriptions and aliases of what it reads as Arrow columns, some 150 bytes an entity.
    """

    def __init__(self, graph: Path, *, limit: int | None = None, visible: bool = False) -> None:
        self._file = graph / "entities.parquet"
        keys = pq.read_table(self._file, columns=["sitelinks", "visual", "name"])
        wanted = np.ones(len(keys), bool)
        if visible:
            wanted = pc.fill_null(keys.column("visual"), True).to_numpy()
        self.not_visual = len(keys) - int(np.count_nonzero(wanted))
        wanted &= pc.is_valid(keys.column("name")).to_numpy()
        rows = np.flatnonzero(wanted)
        # rows stand in the order of their ids, so a stable sort breaks ties by id
        order = np.argsort(-keys.column("sitelinks").to_numpy()[rows], kind="stable")
        self._rows = rows[order]
        self._first = len(rows) if limit is None else _SPARE * limit

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Subject]:
        for rows in (self._rows[: self._first], self._rows[self._first :]):
            if len(rows):
                yield from _subjects(_taken(self._file, rows))

    def spread(self, count: int, first: int | None = None) -> Iterator[Subject]:
        """Yield at most `count` of the `first` ones, evenly over these, for an estimate."""
        rows = self._rows[:first]
        at = np.linspace(0, max(len(rows) - 1, 0), min(count, len(rows))).astype(int)
        return _subjects(_taken(self._file, rows[np.unique(at)]))


def _subjects(texts: pa.Table) -> Iterator[Subject]:
    for first in range(0, len(texts), _SLICE):
        for row in texts.slice(first, _SLICE).to_pylist():
            yield Subject(
                row["id"], row["name"], row["description"] or "", tuple(row["aliases"] or ())
            )


def _taken(file: Path, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Read the texts of some rows, in that order, a batch of the file at a time."""
    ascending = np.sort(rows)
    found, start = [], 0
    parquet = pq.ParquetFile(file)
    columns = ["id", "name", "description", "aliases"]
    for batch in parquet.iter_batches(columns=columns):
        end = start + len(batch)
        first, last = np.searchsorted(ascending, [start, end])
        found.append(batch.take(pa.array(ascending[first:last] - start)))
        start = end
    table = pa.Table.from_batches(
        found, pa.schema([parquet.schema_arrow.field(c) for c in columns])
    )
    # one chunk: taking from many copies all of them each time
    return table.combine_chunks().take(np.searchsorted(ascending, rows)).combine_chunks()


@contextmanager
def sources(
    graph: Path, store: Path
) -> Iterator[tuple[Callable[[str], list[Candidate]], Callable[[str], list[Hint]]]]:
    """Open what the questions about a data set are made from: candidates and hints by entity.

    Raises
    ------
    UserError : there is no finished data set or store, the data set has lost a file or was built
        from another store.
    """
    with EntityStore(store) as entities:
        recipe = _recipe(graph, entities)
        yield candidates_from(entities, recipe, _Kept(graph)), hints_from(graph)


def _recipe(graph: Path, store: EntityStore) -> Recipe:
    """Return the recipe of a data set, if the data set is of this store."""
    manifest = manifest_of(graph)
    if manifest["store"]["contents"] != store.manifest["contents"]:
        raise UserError(
            f"{graph} was not built from {store.path}: name its store, or build it again."
        )
    return followed(recorded(manifest["recipe"]["texts"]), store.resolve)


class _Kept:
    """The part of the recipe that keeps an entity, and its roots: 60 bytes an entity."""

    def __init__(self, graph: Path) -> None:
        table = pq.read_table(graph / "entities.parquet", columns=["id", "recipe", "roots"])
        self._table = table.combine_chunks()
        self._ids = id_numbers(self._table.column("id"))

    def __call__(self, id: str) -> tuple[str, list[str]]:
        at = int(np.searchsorted(self._ids, int(id[1:])))
        row = self._table.slice(at, 1).to_pylist()[0]
        return row["recipe"], row["roots"]


def candidates_from(
    store: EntityStore, recipe: Recipe, kept: Callable[[str], tuple[str, list[str]]]
) -> Callable[[str], list[Candidate]]:
    """Return a function from an entity's id to the classes that may be its natural type.

    They are those of :mod:`graph.natural_types`, by the rules of the part of the recipe that keeps
    the entity: `kept` gives that part's name and the entity's roots.
    """
    labels = {part.name: part.labels for part in recipe.parts()}
    nodes = {part.name: Nodes(store, part.labels) for part in recipe.parts()}
    types = {
        part.name: NaturalTypes(nodes[part.name], recipe.root_ids(), part.rules)
        for part in recipe.parts()
    }

    @lru_cache(_CACHED)
    def described(id: str, part: str) -> Candidate:
        record = store.get(id)
        assert record is not None, "only classes with a label are candidates"
        return _candidate(record, labels[part])

    def candidates(id: str) -> list[Candidate]:
        record = store.get(id)
        if record is None:
            return []
        part, roots = kept(id)
        found = types[part].choices(nodes[part].of(record), roots)
        return [described(choice, part) for choice in found]

    return candidates


def _candidate(record: Record, labels: Sequence[str]) -> Candidate:
    named = name_of(record, labels)
    assert named is not None, "only classes with a label are candidates"
    descriptions = (record.descriptions.get(code, "") for code in labels)
    aliases = (record.aliases[code][0] for code in labels if record.aliases.get(code))
    return Candidate(
        record.id,
        named[0],
        next(filter(None, descriptions), ""),
        next(aliases, ""),
        record.sitelinks,
    )


def hints_from(graph: Path) -> Callable[[str], list[Hint]]:
    """Return a function from an entity's id to what attributes.parquet has of it from Wikidata.

    Every hint is a property's name with its values, in the file's order; none where the data set
    has no such file.
    """
    file = graph / "attributes.parquet"
    if not file.exists():
        return lambda id: []
    table = pq.read_table(
        file,
        columns=["entity", "property_name", "value"],
        filters=[("source", "==", "wikidata")],
    ).combine_chunks()
    ids = pc.utf8_slice_codeunits(table.column("entity"), 1).cast(pa.int64()).to_numpy()
    order = np.argsort(ids, kind="stable")
    ids = ids[order]

    def hints(id: str) -> list[Hint]:
        first, last = np.searchsorted(ids, [int(id[1:]), int(id[1:]) + 1])
        values: dict[str, list[str]] = {}
        row: dict[str, Any]
        for row in table.take(order[first:last]).to_pylist():
            if row["property_name"] and row["value"]:
                values.setdefault(row["property_name"], []).append(row["value"])
        return [Hint(name, tuple(dict.fromkeys(found))) for name, found in values.items()]

    return hints
