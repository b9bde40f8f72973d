"""A store's records as a walk from entity to entity meets them: one at a time, each read once.

Everything here is plain Python over LMDB.  For questions about one entity, which meet some hundred
records, the arrays of `graph/ontology.py` would take longer to import than the answer takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from etl.entity import ENTITY_ID, Record, entity_id, is_entity_id, numeric_id
from etl.errors import UserError
from etl.inverse import Inverse, inverse_name
from etl.store import EntityStore
from graph.naming import name_of

# Datatypes of a property whose values are items or properties (Wikibase's names for them).
_WALKABLE = ("wikibase-item", "wikibase-property")

# Subjects turned into Python objects at once; 12 million items are a P31 of Q5.
_MOST_FOUND = 1_000_000


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
        self._objects: dict[tuple[str, str], list[str]] = {}
        self._subjects: dict[tuple[str, str], list[str]] = {}
        self._inverses: dict[str, Inverse | None] = {}

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
        key = id, property_id
        if key not in self._objects:
            record = self.get(id)
            found = objects_of(record, property_id, self.store.resolve) if record else []
            self._objects[key] = found
        return self._objects[key]

    def subjects(self, id: str, property_id: str) -> list[str]:
        """Return the entities whose statements lead to one, each once, in the order of the store.

        None for an id that was merged into another: what led to it leads to that one.

        Raises
        ------
        UserError : the file of edges is listed in the store's manifest and not there.
        """
        self.find_subjects([id], property_id)
        return self._subjects[id, property_id]

    def find_subjects(self, ids: Iterable[str], property_id: str) -> None:
        """Find the subjects of several entities at once, for :meth:`subjects` to return.

        The store has a look-up file for the properties in `etl.inverse.INVERSE`.  Of others, and
        of a store that was built before there were such files, the whole file of edges is looked
        through, with numpy and pyarrow: once a call, so that a walk calls this once a layer.
        """
        new = [id for id in ids if (id, property_id) not in self._subjects]
        self._subjects |= {(id, property_id): [] for id in new}
        new = [id for id in new if self.store.resolve(id) == id]
        if inverse := self._inverse(property_id):
            for id in new:
                found = inverse.subjects(numeric_id(id))
                self._subjects[id, property_id] = list(map(entity_id, found))
        elif new and f"edges/{property_id}.parquet" in self.store.manifest["outputs"]:
            for id, subject in _looked_through(self.store, new, property_id):
                self._subjects[id, property_id].append(subject)

    def _inverse(self, property_id: str) -> Inverse | None:
        if property_id not in self._inverses:
            name = inverse_name(property_id)
            there = name in self.store.manifest["outputs"]
            self._inverses[property_id] = Inverse(Path(self.store.path) / name) if there else None
        return self._inverses[property_id]

    def name(self, id: str, labels: Sequence[str]) -> str | None:
        """Return an entity's name: the first of `labels` (languages, properties) that it has."""
        record = self.get(id)
        named = None if record is None else name_of(record, labels)
        return named[0] if named else None


def objects_of(record: Record, property_id: str, resolve: Callable[[str], str]) -> list[str]:
    """Return the items and properties that a record's truthy statements lead to, each once.

    In the order of the statements; `resolve` follows redirects, as `EntityStore.resolve` does.
    """
    if property_id not in record.claims:
        return []
    snaks = [statement.snak for statement in record.truthy(property_id)]
    named = [s.value for s in snaks if s.code == ENTITY_ID and is_entity_id(s.value)]
    return list(dict.fromkeys(map(resolve, named)))


def _looked_through(
    store: EntityStore, ids: Iterable[str], property_id: str
) -> Iterable[tuple[str, str]]:
    """Return (object, subject) of the edges to some objects, each pair once, by subject."""
    import numpy as np  # what nobody waits for who asks of a property with a look-up file

    from etl.merged_ids import Redirects
    from graph.ontology import edge_file, read_subjects

    path, outputs = Path(store.path), store.manifest["outputs"]
    file = edge_file(path, outputs, property_id)
    assert file is not None, "asked for edges that the manifest doesn't list"
    redirects = Redirects.load(path, outputs)
    objects = np.array([numeric_id(id) for id in ids])
    found = read_subjects(file, np.concatenate((objects, redirects.leading_to(objects))))
    if found.num_rows > _MOST_FOUND:
        raise UserError(
            f"{found.num_rows:,} entities are found by ^{property_id}, more than "
            f"{_MOST_FOUND:,}: ask a built graph instead, with --graph and without --store."
        )
    object = redirects.followed(found.column("object").to_numpy()).tolist()
    subject = found.column("subject").to_pylist()
    return dict.fromkeys(zip(map(entity_id, object), map(entity_id, subject), strict=True))


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
