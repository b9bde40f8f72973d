"""What the questions are made from: a data set's entities, the classes above them, their claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import Record, is_entity_id
from etl.errors import UserError
from etl.manifest import read_manifest
from etl.store import EntityStore
from graph.enrich.prompts import Candidate, Hint, Subject
from graph.naming import name_of
from graph.recipe import recorded

SUBCLASS_OF, INSTANCE_OF = "P279", "P31"

#: Classes that nearly everything belongs to; the reference leaves the same four out
#: (kgraph/world_type_and_classifiy_entities_pregenerate_inputs.py).
TOO_GENERAL: Final = frozenset(
    {
        "Q223557",  # physical object
        "Q488383",  # object
        "Q35120",  # entity
        "Q4406616",  # concrete object
    }
)
HOPS: Final = 3  # the reference's three-hop rule
MOST_CANDIDATES: Final = 10  # its top-k, by sitelinks

_CACHED = 1 << 16  # records of classes: the entities of a data set share most of theirs
_SLICE = 1 << 10  # entities that are Python objects at a time


class Subjects:
    """The entities of a data set, best known first (sitelinks, ties by id).

    `limit` takes the first ones only; `visible` leaves out those that are known not to be visual.
    Holds their names, descriptions and aliases as Arrow columns, some 150 bytes an entity.
    """

    def __init__(self, graph: Path, *, limit: int | None = None, visible: bool = False) -> None:
        file = graph / "entities.parquet"
        keys = pq.read_table(file, columns=["sitelinks", "visual", "name"])
        wanted = np.ones(len(keys), bool)
        if visible:
            wanted = pc.fill_null(keys.column("visual"), True).to_numpy()
        self.not_visual = len(keys) - int(np.count_nonzero(wanted))
        wanted &= pc.is_valid(keys.column("name")).to_numpy()
        rows = np.flatnonzero(wanted)
        # rows stand in the order of their ids, so a stable sort breaks ties by id
        order = np.argsort(-keys.column("sitelinks").to_numpy()[rows], kind="stable")
        rows = rows[order][:limit]
        self._texts = _taken(file, rows)

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Subject]:
        return self._at(np.arange(len(self)))

    def spread(self, count: int) -> Iterator[Subject]:
        """Yield at most `count` of them, evenly over all, for an estimate."""
        return self._at(
            np.unique(np.linspace(0, max(len(self) - 1, 0), min(count, len(self))).astype(int))
        )

    def _at(self, rows: npt.NDArray[np.int64]) -> Iterator[Subject]:
        for first in range(0, len(rows), _SLICE):
            for row in self._texts.take(rows[first : first + _SLICE]).to_pylist():
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
    UserError : there is no finished data set or store, or it was built from another one.
    """
    with EntityStore(store) as entities:
        yield candidates_from(entities, _labels(graph, entities)), hints_from(graph)


def _labels(graph: Path, store: EntityStore) -> tuple[str, ...]:
    """Return the labels that the recipe of a data set names things by, if it is of this store."""
    manifest = read_manifest(graph, "graph")
    if manifest["store"]["contents"] != store.manifest["contents"]:
        raise UserError(
            f"{graph} was not built from {store.path}: name its store, or build it again."
        )
    recipe = recorded(manifest["recipe"]["texts"])
    return tuple(dict.fromkeys(label for part in recipe.parts() for label in part.labels))


def candidates_from(store: EntityStore, labels: Sequence[str]) -> Callable[[str], list[Candidate]]:
    """Return a function from an entity's id to the classes that may be its natural type.

    The three-hop rule: what is reached by P279 (truthy) in exactly one, two or three steps; where
    an item has no P279, its P31 is the first step.  Less what is too general, has no label or is
    the item itself, which in a cycle would be a kind of itself; the ten with the most sitelinks.
    """

    @lru_cache(_CACHED)
    def known(id: str) -> tuple[tuple[str, ...], Candidate | None]:
        record = store.get(id)
        return (_classes(store, record), _candidate(record, labels)) if record else ((), None)

    def candidates(id: str) -> list[Candidate]:
        record = store.get(id)
        if record is None:
            return []
        reached = _classes(store, record) or _objects(store, record, INSTANCE_OF)
        found: set[str] = set()
        for _ in range(HOPS):
            found.update(reached)
            reached = tuple({above for class_ in reached for above in known(class_)[0]})
        classes = (known(class_)[1] for class_ in found - TOO_GENERAL - {id})
        named = [candidate for candidate in classes if candidate is not None]
        return sorted(named, key=lambda c: (-c.sitelinks, int(c.id[1:])))[:MOST_CANDIDATES]

    return candidates


def _classes(store: EntityStore, record: Record) -> tuple[str, ...]:
    return _objects(store, record, SUBCLASS_OF)


def _objects(store: EntityStore, record: Record, property_id: str) -> tuple[str, ...]:
    """Return the items that a property's truthy statements lead to, redirects followed."""
    values = (
        statement.snak.value
        for statement in record.truthy(property_id)
        if statement.snak.kind == "wikibase-entityid"
    )
    items = (value for value in values if value[0] == "Q" and is_entity_id(value))
    return tuple(dict.fromkeys(map(store.resolve, items)))


def _candidate(record: Record, labels: Sequence[str]) -> Candidate | None:
    named = name_of(record, labels)
    if named is None:
        return None
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
