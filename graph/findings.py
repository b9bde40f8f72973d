"""Findings about a store's ontology or a data set: their kinds, and what a row is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from graph.entities import Grouped
from graph.facts import Mask
from graph.ontology import Ids, among, distinct
from graph.tables import id_numbers

#: Every kind of finding, in the order of the rows, and what it is.
KINDS: Final = {
    "cycle_mixed": "items that are above themselves by P31 and P279 together",
    "cycle_parent_taxon": "taxa that are above themselves by P171",
    "cycle_subclass": "classes that are above themselves by P279",
    "instance_and_subclass": "items that are instance (P31) and subclass (P279) of the same class",
    "instance_of_itself": "items that are an instance (P31) of themselves",
    "missing_parent_taxon": "parent taxa (P171) that the store has no record of",
    "missing_superclass": "superclasses (P279) that the store has no record of",
    "root_swallows_root": "roots whose entities are in another root too",
    "several_parent_taxa": "taxa with more than one parent (P171)",
    "shared_name": "names that several entities of the data set have",
    "unlabelled_class": "items without a name that stand right above entities of the data set",
}

#: Rows of a kind at the most: those that touch the data set before others, and of these the ones
#: of the highest `count`.  The counts go on.
MOST_ROWS: Final = 100_000

#: Ids in `related` at the most.
MOST_RELATED: Final = 100

#: Related items that a sentence names.
NAMED: Final = 5

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]  # numbers of rows
Named = Callable[[int], str]  # 144 -> dog (Q144)
NO_IDS: Ids = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found of one kind: N rows in their order in the table, as numbers."""

    kind: str
    property: str | None
    ids: Ids  # (N,) 0 where a finding is about no one item
    count: Counts  # (N,)
    inside: Mask  # (N,) does it touch the data set
    related: Grouped  # ids
    sentence: Callable[[int, Named], str]  # of a row's number
    names: pa.StringArray | None = None  # (N,) where they are not the items' own

    def listed(self) -> Rows:
        """Return the numbers of the rows that the table has room for."""
        if len(self.ids) <= MOST_ROWS:
            return np.arange(len(self.ids))
        order = np.lexsort((self.ids, -self.count, ~self.inside))
        return np.sort(order[:MOST_ROWS])

    def related_to(self, row: int) -> list[int]:
        """Return the ids in `related` of a row, `MOST_RELATED` of them at the most."""
        start, end = self.related.start[row : row + 2].tolist()
        ids: list[int] = self.related.values[start : min(end, start + MOST_RELATED)].tolist()
        return ids


@dataclass(frozen=True, eq=False)
class Scope:
    """The items of a data set and those above them, ids ascending."""

    entities: Ids
    nodes: Ids  # the entities, and what stands in the hierarchy
    child: Ids  # the hierarchy, edge by edge
    parent: Ids

    @classmethod
    def load(cls, data_set: Path) -> Scope:
        entities = _id_column(data_set / "entities.parquet", "id")
        child, parent = (_id_column(data_set / "hierarchy.parquet", c) for c in ("child", "parent"))
        nodes = distinct(np.concatenate([entities, child, parent]))
        return cls(entities, nodes, child, parent)

    def inside(self, ids: Ids) -> Mask:
        """Say which ids are an entity of the data set or stand above one."""
        return among(ids, self.nodes)

    def any_inside(self, groups: Grouped) -> Mask:
        """Say in which groups of ids one is inside."""
        before = np.concatenate(([0], np.cumsum(self.inside(groups.values))))
        return np.asarray(before[groups.start[1:]] > before[groups.start[:-1]])


def _id_column(file: Path, name: str) -> Ids:
    """Read a column of ids, a row group's text at a time."""
    parquet = pq.ParquetFile(file)
    groups = (parquet.read_row_group(n, columns=[name]) for n in range(parquet.num_row_groups))
    read = [id_numbers(table.column(0).combine_chunks()) for table in groups]
    return np.concatenate([NO_IDS, *read])


def several(related: Grouped, row: int, named: Named) -> str:
    """Name the first of a row's related items, and say how many more there are."""
    start, end = related.start[row : row + 2].tolist()
    shown = related.values[start : min(end, start + NAMED)].tolist()
    more = f" and {end - start - NAMED:,} more" if end - start > NAMED else ""
    return ", ".join(map(named, shown)) + more
