"""What recipes' filters ask of entities: sitelinks, labels and properties, by the million.

Filters run over `nodes.parquet`, a column at a time.  Only one question goes to the records: does
a property that stands in for a label hold a text, or an unknown value?
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.entity import entity_id
from etl.store import EntityStore
from graph.naming import texts_of
from graph.ontology import Ids

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]  # of nodes.parquet


def _ids(file: Path) -> Ids:
    """Read the ids of `nodes.parquet`, by row groups: at once they take 2.5 times the memory."""
    parquet = pq.ParquetFile(file)
    ids = np.empty(parquet.metadata.num_rows, np.int64)
    at = 0
    for group in range(parquet.num_row_groups):
        read = parquet.read_row_group(group, columns=["id"]).column(0).to_numpy()
        ids[at : at + len(read)] = read
        at += len(read)
    return ids


class Facts:
    """`nodes.parquet` of a store: items are found by id, columns read when they are first needed.

    Takes 8 bytes an entity for the ids, 4 for the sitelinks and an eighth for every flag.
    """

    def __init__(self, store: EntityStore) -> None:
        self._store = store
        self._file = Path(store.path) / "nodes.parquet"
        self._columns: dict[str, pa.Array] = {}
        ids = _ids(self._file)
        # Key order: properties (negative) stand first, so the rest ascends.
        self._properties = int(np.count_nonzero(ids < 0))
        self._items = ids[self._properties :]

    def _column(self, name: str) -> pa.Array:
        if name not in self._columns:
            column = pq.read_table(self._file, columns=[name]).column(0).combine_chunks()
            self._columns[name] = column
        return self._columns[name]

    def rows(self, ids: Ids) -> Rows:
        """Find the items of some ids: the rows that the other methods take.

        -1 for what is no item, and for an item that the store has no record of.
        """
        if not len(self._items):
            return np.full(len(ids), -1)
        at = np.searchsorted(self._items, ids)
        at[at == len(self._items)] = 0
        return np.where(self._items[at] == ids, at + self._properties, -1)

    def popular(self, min_sitelinks: int) -> Ids:
        """Return the items with at least so many sitelinks, ascending."""
        linked = self._column("sitelinks").to_numpy()[self._properties :] >= min_sitelinks
        return np.asarray(self._items[linked])

    def _of(self, column: str, rows: Rows) -> pa.Array:
        return self._column(column).take(pa.array(rows))

    def sitelinks(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return the number of sitelinks of items."""
        return np.asarray(self._of("sitelinks", rows).to_numpy())

    def revision(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the revision of items, 0 where the dump had none."""
        return np.asarray(self._of("revision", rows).to_numpy())

    def has(self, property_id: str, rows: Rows) -> Mask:
        """Say which items have a truthy statement of a property, unknown values included.

        A row of -1 has none.
        """
        return self._flags(property_id, rows)

    def _flags(self, column: str, rows: Rows) -> Mask:
        there = rows >= 0
        flags = np.zeros(len(rows), bool)
        flags[there] = self._of(column, rows[there]).to_numpy(zero_copy_only=False)
        return flags

    def named(self, labels: Sequence[str], rows: Rows) -> Mask:
        """Say which items have one of `labels`: a language's label or a property's text."""
        named = np.zeros(len(rows), bool)
        for label in labels:
            if not label.startswith("P"):
                rest = np.flatnonzero(~named)
                named[rest] = self._flags(f"label_{label}", rows[rest])
        for label in labels:
            if label.startswith("P"):
                rest = np.flatnonzero(~named)
                rest = rest[self.has(label, rows[rest])]
                ids = self._items[rows[rest] - self._properties].tolist()
                records = self._store.get_many(map(entity_id, ids))
                texts = [bool(record and texts_of(record, label)) for record in records]
                named[rest] = np.array(texts, bool)
        return named
