"""What stands above an entity: records cut down to what natural types and visuality ask.

A build asks of every kept entity what stands above it, and most of that is the same few hundred
thousand classes and taxa.  So each is read from the store once and kept small: some 600 bytes a
node, in a memory of bounded size.  `explain` asks the same of one entity; no arrays are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from etl.entity import Record, numeric_id
from etl.store import EntityStore
from graph.naming import COMMON_NAME, TAXON_NAME, name_of, texts_of
from graph.records import objects_of

INSTANCE_OF, SUBCLASS_OF, PARENT_TAXON = "P31", "P279", "P171"
TAXON_RANK = "P105"
IMAGE, COORDINATES = "P18", "P625"

#: Properties that a store must have kept for natural types and visuality.
NEEDED: Final = (
    INSTANCE_OF, SUBCLASS_OF, PARENT_TAXON, TAXON_RANK, TAXON_NAME, COMMON_NAME, IMAGE, COORDINATES,
)  # fmt: skip

#: taxon, organisms known by a particular common name, clade, monotypic taxon, fossil taxon, common
#: name: what P31 says of taxa, which is how they are modelled and not what they are.
MODELLING: Final = frozenset({"Q16521", "Q55983715", "Q713623", "Q310890", "Q23038290", "Q502895"})

_MOST = 400_000  # nodes kept in memory: some 250 MB


@dataclass(frozen=True, slots=True)
class Node:
    """An entity as what stands below it sees it; ids are those of truthy statements."""

    id: str
    name: str | None  # by the label list that the nodes were opened with
    sitelinks: int
    instance_of: tuple[str, ...]
    subclass_of: tuple[str, ...]
    parent_taxa: tuple[str, ...]
    ranks: tuple[str, ...]
    taxon_names: tuple[str, ...]
    common_names: tuple[str, ...]  # in the languages of the label list
    pictured: bool  # it has an image (P18)
    placed: bool  # it has coordinates (P625)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return its superclasses or, for what has none, the classes that it is an instance of.

        What a class itself is an instance of (*type of food*) says how it is modelled, and so does
        *taxon*, of a lion: nothing above that is a kind of the animal.
        """
        if self.subclass_of:
            return self.subclass_of
        return tuple(id for id in self.instance_of if id not in MODELLING)


class Nodes:
    """The nodes of a store by id, named by a recipe's list of labels."""

    def __init__(self, store: EntityStore, labels: Sequence[str]) -> None:
        self._store = store
        self._labels = tuple(labels)
        self._languages = [label for label in labels if not label.startswith("P")]
        self._met: dict[str, Node | None] = {}

    def get(self, id: str) -> Node | None:
        """Return a node, None where the store has no record of it.

        Raises
        ------
        UserError : what the store has of it is no record.
        """
        if id not in self._met:
            if len(self._met) >= _MOST:
                self._met.clear()
            record = self._store.get(id)
            self._met[id] = None if record is None else self.of(record)
        return self._met[id]

    def now(self, id: str) -> str:
        """Return what an id was merged into, itself if it was not."""
        return self._store.resolve(id)

    def of(self, record: Record) -> Node:
        """Cut a record down to a node."""
        named = name_of(record, self._labels)
        return Node(
            record.id,
            named[0] if named else None,
            record.sitelinks,
            self._objects(record, INSTANCE_OF),
            self._objects(record, SUBCLASS_OF),
            self._objects(record, PARENT_TAXON),
            self._objects(record, TAXON_RANK),
            tuple(texts_of(record, TAXON_NAME)),
            tuple(texts_of(record, COMMON_NAME, self._languages)),
            IMAGE in record.claims and bool(record.truthy(IMAGE)),
            COORDINATES in record.claims and bool(record.truthy(COORDINATES)),
        )

    def superclasses(self, first: Sequence[str]) -> Iterator[list[str]]:
        """Yield ids at 1, 2, ... steps, beginning with `first` and going on along P279.

        Each id comes once, at its least distance, in the order of numbers; cycles do no harm.
        """
        layer = sorted(set(first), key=numeric_id)
        met = set(layer)
        while layer:
            yield layer
            above = {id for below in layer if (node := self.get(below)) for id in node.subclass_of}
            layer = sorted(above - met, key=numeric_id)
            met |= above

    def _objects(self, record: Record, property_id: str) -> tuple[str, ...]:
        return tuple(objects_of(record, property_id, self._store.resolve))
