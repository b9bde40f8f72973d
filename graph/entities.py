"""The rows of `entities.parquet`: what the records of the kept entities say, by the million."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.entity import Record, entity_id
from etl.store import EntityStore
from etl.tables import TableWriter
from graph.facts import Facts
from graph.kinds import Kinds
from graph.naming import COMMON_NAME, TAXON_NAME, names_of, texts_of
from graph.ontology import Ids
from graph.recipe import Recipe
from graph.tables import ENTITIES, id_strings, lists

IMAGE = "P18"

#: Properties that fill a column besides those that a recipe needs.
COLUMN_PROPERTIES = {"images": IMAGE, "taxon_names": TAXON_NAME, "common_names": COMMON_NAME}

# Rows that are Python objects at a time; the file's row groups don't depend on it.
_BATCH = 1 << 14


@dataclass(frozen=True, eq=False)
class Grouped:
    """A list of values for each entity: `values[start[i]:start[i + 1]]` are those of entity i."""

    start: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]

    def slice(self, first: int, last: int) -> Grouped:
        start = self.start[first : last + 1]
        return Grouped(start - start[0], self.values[start[0] : start[-1]])

    def strings(self) -> pa.ListArray:
        """Return the column of a Grouped of ids."""
        return lists(self.start, id_strings(self.values))

    def numbers(self) -> pa.ListArray:
        """Return the column of a Grouped of small numbers."""
        return lists(self.start, pa.array(self.values.astype(np.int32)))


@dataclass(frozen=True, eq=False)
class Rows:
    """What the graph knows of the kept entities, before their records are read."""

    ids: Ids  # (N,) ascending
    roots: Grouped  # ids, in the recipe's order
    depths: Grouped  # parallel to `roots`
    parents: Grouped  # ids, ascending
    # (N,) a number in `parts`: that of the first recipe that keeps the entity
    part: npt.NDArray[np.int64]
    parts: Sequence[Recipe]


def write_entities(
    file: Path,
    store: EntityStore,
    facts: Facts,
    rows: Rows,
    kinds: Sequence[Kinds],
    advance: Callable[[int], None],
) -> None:
    """Write `entities.parquet`; `kinds` are those of each part.

    `advance` is called with the number of rows just written.
    """
    with TableWriter(file, ENTITIES) as writer:
        for first in range(0, len(rows.ids), _BATCH):
            last = min(first + _BATCH, len(rows.ids))
            writer.write(_batch(store, facts, rows, kinds, first, last))
            advance(last - first)


def _batch(
    store: EntityStore,
    facts: Facts,
    rows: Rows,
    kinds: Sequence[Kinds],
    first: int,
    last: int,
) -> pa.Table:
    ids = rows.ids[first:last]
    nodes = facts.rows(ids)
    described = list(_described(store, rows, kinds, first, last))
    columns: dict[str, Any] = {name: [row[name] for row in described] for name in _ROW_COLUMNS}
    columns |= {
        "id": id_strings(ids),
        "sitelinks": facts.sitelinks(nodes),
        "revision": facts.revision(nodes),
        "roots": rows.roots.slice(first, last).strings(),
        "depths": rows.depths.slice(first, last).numbers(),
        "parents": rows.parents.slice(first, last).strings(),
        "recipe": [rows.parts[part].name for part in rows.part[first:last].tolist()],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in ENTITIES]
    return pa.table(arrays, schema=ENTITIES)


_ROW_COLUMNS = (
    "name", "name_lang", "description", "aliases", "common_names", "taxon_names", "images",
    "natural_type", "natural_type_name", "natural_type_reason", "visual", "visual_reason",
)  # fmt: skip


def _described(
    store: EntityStore, rows: Rows, kinds: Sequence[Kinds], first: int, last: int
) -> Iterator[dict[str, object]]:
    """Read the records of some rows: they stand in key order, as their ids do."""
    records = store.get_many(map(entity_id, rows.ids[first:last].tolist()))
    roots = rows.roots.slice(first, last)
    starts, root_ids = roots.start.tolist(), list(map(entity_id, roots.values.tolist()))
    parts = rows.part[first:last].tolist()
    for number, (record, part) in enumerate(zip(records, parts, strict=True)):
        assert record is not None, "nodes.parquet names an item that the store has no record of"
        its_roots = root_ids[starts[number] : starts[number + 1]]
        yield {
            **texts_of_record(record, rows.parts[part].labels),
            **kinds[part].columns(record, its_roots),
        }


def texts_of_record(record: Record, labels: Sequence[str]) -> dict[str, object]:
    """Return the columns of an entity's row that its own record fills.

    The description and the aliases are those of the first language of `labels` that has any;
    common names (P1843) those in any of these languages.  All lists are in the dump's order.
    """
    names = names_of(record, labels)
    languages = [label for label in labels if not label.startswith("P")]
    return {
        "name": names.name,
        "name_lang": names.name_lang,
        "aliases": names.aliases,
        "common_names": names.common_names,
        "taxon_names": names.taxon_names,
        "description": next(
            (record.descriptions[code] for code in languages if code in record.descriptions), None
        ),
        "images": texts_of(record, IMAGE),
    }
