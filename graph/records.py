"""A store's records as a walk from entity to entity meets them: one at a time, each read once.

Everything here is plain Python over LMDB.  For questions about one entity, which meet some hundred
records, the arrays of `graph/ontology.py` would take longer to import than the answer takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from etl.entity import ENTITY_ID, Record, entity_id, is_entity_id, numeric_id
from etl.errors import UserError
from etl.store import EntityStore
from graph.naming import name_of

# Datatypes of a property whose values are items or properties (Wikibase's names for them).
_WALKABLE = ("wikibase-item", "wikibase-property")


class Records:
    """The records of a store, and where their truthy statements lead.

    Statements are walked as the query service has them (`wdt:`), with redirects followed: a value
    that was merged into another entity stands for that one.

    >>> from graph.records import Records
    >>> records = Records(store)  # an EntityStore                              # doctest: +SKIP
    >>> records.objects("Q144", "P279")                                         # doctest: +SKIP
    ['Q39201', 'Q622852']
    """

    def __init__(self, store: EntityStore) -> None:
        self.store = store
        self._met: dict[str, Record | None] = {}

    def get(self, id: str) -> Record | None:
        """Return the record of an item or property, None where the store has none.

        Raises
        ------
        UserError : `id` is not an id, or what the store has of it is no record.
        """
        if id not in self._met:
            self._met[id] = self.store.get(id)
        return self._met[id]

    def objects(self, id: str, property_id: str) -> list[str]:
        """Return the items and properties that an entity's statements lead to, each once.

        They come in the order of the statements; none of an entity that the store has no record of.
        """
        record = self.get(id)
        if record is None:
            return []
        snaks = [statement.snak for statement in record.truthy(property_id)]
        named = [s.value for s in snaks if s.code == ENTITY_ID and is_entity_id(s.value)]
        return list(dict.fromkeys(map(self.store.resolve, named)))

    def subjects(self, id: str, property_id: str) -> list[str]:
        """Return the entities whose statements lead to one, each once, in the order of the store.

        The property's whole file of edges is looked through: its rows are ordered by subject.

        Raises
        ------
        UserError : the file is listed in the store's manifest and not there.
        """
        import numpy as np

        from etl.merged_ids import Redirects
        from graph.ontology import edge_file, read_subjects

        path, outputs = Path(self.store.path), self.store.manifest["outputs"]
        file = edge_file(path, outputs, property_id)
        if file is None or self.store.resolve(id) != id:  # to a merged id nothing leads any more
            return []
        object = np.array([numeric_id(id)])
        merged = Redirects.load(path, outputs).leading_to(object)
        found = read_subjects(file, np.concatenate((object, merged)))
        return list(dict.fromkeys(map(entity_id, found.column("subject").to_pylist())))

    def name(self, id: str, labels: Sequence[str]) -> str | None:
        """Return an entity's name: the first of `labels` (languages, properties) that it has."""
        record = self.get(id)
        named = None if record is None else name_of(record, labels)
        return named[0] if named else None


def check_walkable(properties: Iterable[str], store: EntityStore) -> None:
    """Refuse properties that have texts, numbers or the like for values, where the store knows.

    A walk goes along items and properties; over others it would find nothing and not say so.
    """
    for property_id in properties:
        record = store.get(property_id)
        if record is not None and record.datatype and record.datatype not in _WALKABLE:
            raise UserError(
                f"a path can't walk {property_id}: its values are of datatype "
                f"{record.datatype!r}, not items or properties."
            )
