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

from etl.entity import Record, entity_id
from etl.store import EntityStore
from graph.ontology import Ids

Mask = npt.NDArray[np.bool_]


def name_of(record: Record, labels: Sequence[str]) -> tuple[str, str] | None:
    """Return an entity's name and the label it came from: the first of `labels` that exists.

    A language code asks for the label in exactly that language; a property for the text of its
    first truthy statement that has one (a string, as P225, or monolingual text, as P1705).
    """
    for label in labels:
        if not label.startswith("P"):
            if label in record.labels:
                return record.labels[label], label
        elif texts := texts_of(record, label):
            return texts[0], label
    return None


def texts_of(record: Record, property_id: str, languages: Sequence[str] | None = None) -> list[str]:
    """Return the texts of a property's truthy statements, each once, in the dump's order.

    Of monolingual texts, only those in `languages` if that is given.  Two statements may say the
    same, with other references or qualifiers; the query service holds that as one triple.
    """
    texts = []
    for statement in record.truthy(property_id):
        snak = statement.snak
        if snak.kind == "string":
            texts.append(str(snak.value))
        elif (
            snak.kind == "monolingualtext"
            and isinstance(snak.value, dict)
            and (languages is None or snak.value.get("language") in languages)
        ):
            texts.append(str(snak.value.get("text", "")))
    return list(dict.fromkeys(texts))


class Facts:
    """`nodes.parquet` of a store, for items: rows by id, columns read when they are first needed.

    Takes 8 bytes an entity for the ids, 4 for the sitelinks and an eighth for every flag.
    """

    def __init__(self, store: EntityStore) -> None:
        self._store = store
        self._file = Path(store.path) / "nodes.parquet"
        self._columns: dict[str, pa.Array] = {}
        ids = self._column("id").to_numpy()
        # Key order: properties (negative) stand first, so the rest ascends.
        self._properties = int(np.count_nonzero(ids < 0))
        self._items = ids[self._properties :]

    def _column(self, name: str) -> pa.Array:
        if name not in self._columns:
            column = pq.read_table(self._file, columns=[name]).column(0).combine_chunks()
            self._columns[name] = column
        return self._columns[name]

    def known(self, ids: Ids) -> Mask:
        """Say which ids are those of items that the store has a record of."""
        if not len(self._items):
            return np.zeros(len(ids), bool)
        at = np.searchsorted(self._items, ids)
        at[at == len(self._items)] = 0
        return np.asarray(self._items[at] == ids)

    def _of(self, column: str, items: Ids) -> pa.Array:
        rows = np.searchsorted(self._items, items) + self._properties
        return self._column(column).take(pa.array(rows))

    def sitelinks(self, items: Ids) -> npt.NDArray[np.int32]:
        """Return the number of sitelinks of known items."""
        return np.asarray(self._of("sitelinks", items).to_numpy())

    def revision(self, items: Ids) -> npt.NDArray[np.int64]:
        """Return the revision of known items, 0 where the dump had none."""
        return np.asarray(self._of("revision", items).to_numpy())

    def has(self, property_id: str, items: Ids) -> Mask:
        """Say which known items have a truthy statement of a property, unknown values included."""
        return np.asarray(self._of(property_id, items).to_numpy(zero_copy_only=False))

    def named(self, labels: Sequence[str], items: Ids) -> Mask:
        """Say which known items have one of `labels`: a language's label or a property's text."""
        named = np.zeros(len(items), bool)
        for label in labels:
            if not label.startswith("P"):
                named |= np.asarray(
                    self._of(f"label_{label}", items).to_numpy(zero_copy_only=False)
                )
        for label in labels:
            if label.startswith("P"):
                doubtful = np.flatnonzero(~named)
                doubtful = doubtful[self.has(label, items[doubtful])]
                records = self._store.get_many(map(entity_id, items[doubtful].tolist()))
                texts = [bool(record and texts_of(record, label)) for record in records]
                named[doubtful] = np.array(texts, bool)
        return named
