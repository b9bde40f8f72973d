"""The rows of `attributes.parquet`: attributes of all kept entities, a batch of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.entity import entity_id, numeric_id
from etl.merged_ids import Redirects
from etl.store import EntityStore
from etl.tables import TableWriter
from graph.above import Nodes
from graph.attributes import Attribute, Attributes, Subjects, rules
from graph.facts import Facts
from graph.ontology import Ids, edge_file, read_truthy
from graph.recipe import Recipe
from graph.settings import AttributeSettings
from graph.tables import ATTRIBUTES, id_numbers

_BATCH: Final = 1 << 13  # entities whose rows are Python objects at a time

#: What is read of `entities.parquet`.
READ_OF_ENTITIES: Final = ("id", "name", "name_lang", "recipe")
_COLUMNS: Final = tuple(field.name for field in ATTRIBUTES if field.name != "entity")


@dataclass(frozen=True, eq=False)
class Inverse:
    """The subjects of a property's truthy statements, by those objects that were asked for."""

    objects: Ids  # ascending
    subjects: Ids

    @classmethod
    def load(
        cls, store: EntityStore, property_id: str, objects: Ids, choice: Callable[[Ids, Ids], Ids]
    ) -> Inverse:
        """Read the subjects of some objects; `choice` takes objects and subjects, gives positions.

        Takes 16 bytes for every truthy statement of the property while the file is read.
        """
        path, outputs = Path(store.path), store.manifest["outputs"]
        file = edge_file(path, outputs, property_id)
        if file is None:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        table = read_truthy(file, ["subject", "object"])
        object = Redirects.load(path, outputs).followed(table.column("object").to_numpy())
        wanted = np.flatnonzero(np.isin(object, objects))
        object, subject = object[wanted], table.column("subject").to_numpy()[wanted]
        chosen = choice(object, subject)
        return cls(object[chosen], subject[chosen])

    def of(self, id: str) -> list[str]:
        """Return the subjects of one object."""
        first, last = np.searchsorted(self.objects, [numeric_id(id), numeric_id(id) + 1])
        return list(map(entity_id, self.subjects[first:last].tolist()))


def most_linked(
    facts: Facts, labels: Sequence[str], most: int
) -> Callable[[Ids, Ids], npt.NDArray[np.int64]]:
    """Choose of each object's subjects that have a name the `most` most linked, ties by id."""

    def choice(object: Ids, subject: Ids) -> npt.NDArray[np.int64]:
        rows = facts.rows(subject)
        known = np.flatnonzero((rows >= 0) & (subject != object))
        known = known[facts.named(labels, rows[known])]
        links = facts.sitelinks(rows[known]).astype(np.int64)
        known = known[np.lexsort((subject[known], -links, object[known]))]
        place = np.arange(len(known)) - np.searchsorted(object[known], object[known])
        return known[place < most]

    return choice


def write_attributes(
    file: Path,
    entities: Path,
    store: EntityStore,
    facts: Facts,
    recipe: Recipe,
    answered: Mapping[str, Sequence[Attribute]],
    advance: Callable[[int], None],
) -> dict[str, int]:
    """Write `attributes.parquet` for the rows of the file `entities`.

    `answered` are what language models said, by entity; they stand after what Wikidata says.
    `advance` is called with the number of entities just done.

    Returns
    -------
    The number of rows by category.
    """
    settings = recipe.attributes
    ids = id_numbers(pq.read_table(entities, columns=["id"]).column("id"))
    readers = {
        part.name: Attributes(
            store,
            Nodes(store, part.labels),
            part,
            settings,
            _subjects(store, part, settings, ids, facts),
        )
        for part in recipe.parts()
    }
    counts: dict[str, int] = {}
    with TableWriter(file, ATTRIBUTES) as writer:
        for batch in _batches(entities):
            table = _table(batch, readers, store, answered)
            writer.write(table)
            for category in table.column("category").value_counts().to_pylist():
                counts[category["values"]] = counts.get(category["values"], 0) + category["counts"]
            advance(batch.num_rows)
    return dict(sorted(counts.items()))


def _subjects(
    store: EntityStore, part: Recipe, settings: AttributeSettings, ids: Ids, facts: Facts
) -> Subjects:
    choice = most_linked(facts, part.labels, settings.values)
    inverse = {
        rule.property_id: Inverse.load(store, rule.property_id, ids, choice)
        for rule in rules()
        if rule.inverse and part.rules == "sparqless"
    }
    return lambda id, property_id: inverse[property_id].of(id)


def _batches(entities: Path) -> Iterator[pa.RecordBatch]:
    columns = list(READ_OF_ENTITIES)
    yield from pq.ParquetFile(entities).iter_batches(batch_size=_BATCH, columns=columns)


def _table(
    batch: pa.RecordBatch,
    readers: Mapping[str, Attributes],
    store: EntityStore,
    answered: Mapping[str, Sequence[Attribute]],
) -> pa.Table:
    owners: list[str] = []
    found: list[Attribute] = []
    ids = batch.column("id").to_pylist()
    names, languages = (batch.column(c).to_pylist() for c in ("name", "name_lang"))
    parts = batch.column("recipe").to_pylist()
    for id, name, language, part, record in zip(
        ids, names, languages, parts, store.get_many(ids), strict=True
    ):
        assert record is not None, "entities.parquet names an item that the store has no record of"
        rows = [*readers[part].of(record, name, language), *answered.get(id, ())]
        found += rows
        owners += [id] * len(rows)
    columns: dict[str, Any] = {
        name: [getattr(attribute, name) for attribute in found] for name in _COLUMNS
    }
    columns["entity"] = owners
    arrays = [pa.array(columns[field.name], field.type) for field in ATTRIBUTES]
    return pa.table(arrays, schema=ATTRIBUTES)
