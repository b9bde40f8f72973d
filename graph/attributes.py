"""Attributes of an entity, from its own statements, its ancestors', and what says it is part of it.

Which properties are attributes, of which category, and how one becomes a query, is data:
`graph/recipes/attributes.tsv`.  By the rules of a recipe:

*sparqless*: truthy statements whose value has a name; of one property the `values` most linked,
ties by the lower id.  What an entity has no statement of, and what holds for all that is below a
class (`inherit` in the table), is taken from the nearest ancestor that has it, up to `inherit`
steps up along P279 (P31 for what is no class) and P171; the row names the ancestor and the
distance.  Statements of others (`^P361`) belong to it too.

*reference-world*, *reference-living*: the attribute hints of EntityNet's
`world_generate_attributes.py`, to the letter: 17 properties by their truthy statements and three
with a qualifier by their statements of any rank (its query goes by `p:` and `ps:`), a row for each
pair of value and qualifier; nothing is inherited, nothing cut off.  There a model writes the
queries, so that these rows have none.

Here one entity's statements are read; `graph/write_attributes.py` does it by the million.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Final

from etl.entity import ENTITY_ID, Record, Statement, best_rank, is_entity_id, numeric_id
from etl.errors import UserError
from etl.fold import says
from etl.store import EntityStore
from graph.above import Node, Nodes
from graph.natural_types import TOO_GENERAL
from graph.recipe import Recipe
from graph.settings import RECIPES, AttributeSettings

#: Finds the entities whose statements lead to one: `subjects("Q144", "P361")`.
Subjects = Callable[[str, str], Sequence[str]]

#: The union of the reference's six for world entities and seven for animals.
CATEGORIES: Final = (
    "Color", "Pattern and texture", "Parts", "Behavior and movement", "Shape and size",
    "Environment", "Other",
)  # fmt: skip

WIKIDATA: Final = "wikidata"

_TABLE = "attributes.tsv"
_PLACE = re.compile(r"\{(?:value|name)\}")
_COLUMNS = 6
_MOST = 100_000  # ancestors whose attributes are kept in memory

#: Where a name may come from that the table's phrases take: one from `mul` or of a taxon is no
#: word of another language.
ENGLISH: Final = ("en", "en-gb", "en-ca", "en-us", "mul", "P225", None)


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of `attributes.tsv`."""

    property_id: str
    inverse: bool
    category: str
    in_reference: bool
    qualifier: str | None
    inherit: bool
    phrase: str | None

    @property
    def written(self) -> str:
        """The property as it is written in a row: `^P361` for an inverse one."""
        return f"^{self.property_id}" if self.inverse else self.property_id


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of `attributes.parquet`, but for the entity that it is about."""

    property: str | None  # None of a language model's
    property_name: str | None
    category: str
    value_id: str | None
    value: str
    qualifier: str | None = None
    inherited_from: str | None = None
    distance: int | None = None
    source: str = WIKIDATA
    query: str | None = None
    phrase: str | None = None  # how it becomes a query; no column


def of_model(category: str, text: str, query: str, model: str) -> Attribute:
    """Return an attribute that a language model gave, with the query that it wrote for it."""
    return Attribute(None, None, category, None, text, source=f"llm:{model}", query=query)


@cache
def rules() -> tuple[Rule, ...]:
    """Return the lines of `graph/recipes/attributes.tsv`, in its order."""
    return read_rules((RECIPES / _TABLE).read_text("utf-8"))


def read_rules(text: str) -> tuple[Rule, ...]:
    """Read a table of attributes.

    Raises
    ------
    UserError : names the line that has not the six columns that the table's head describes.
    """
    found: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != _COLUMNS:
            raise _malformed(number, f"{len(cells)} columns instead of {_COLUMNS}")
        property_id, category, hint, inherit, phrase, _ = cells
        bare = property_id.removeprefix("^")
        if not is_entity_id(bare) or bare[0] != "P":
            raise _malformed(number, f"{property_id!r} is not a property")
        if category not in CATEGORIES:
            raise _malformed(number, f"{category!r} is no category")
        if inherit not in ("yes", "no"):
            raise _malformed(number, "`inherit` is neither yes nor no")
        if phrase != "-" and not ("{value}" in phrase and "{name}" in phrase):
            raise _malformed(number, "the phrase lacks {value} or {name}")
        found.append(
            Rule(
                bare,
                property_id != bare,
                category,
                hint != "-",
                hint if hint not in ("-", "direct") else None,
                inherit == "yes",
                None if phrase == "-" else phrase,
            )
        )
    return tuple(found)


def _malformed(line: int, what: str) -> UserError:
    return UserError(f"{_TABLE}, line {line}: {what}.")


def properties() -> list[str]:
    """Return the properties that attributes are made of, each once, in the table's order."""
    return list(dict.fromkeys(rule.property_id for rule in rules()))


class Attributes:
    """Reads attributes off records; what it learns of values and ancestors it keeps."""

    def __init__(
        self,
        store: EntityStore,
        nodes: Nodes,
        part: Recipe,
        settings: AttributeSettings,
        subjects: Subjects,
    ) -> None:
        """`nodes` are the store's, named by the part's labels."""
        self._store = store
        self._nodes = nodes
        self._reference = part.rules != "sparqless"
        self._settings = settings
        self._subjects = subjects
        self._handed_down: dict[str, tuple[Attribute, ...]] = {}

    def of(self, record: Record, name: str, name_lang: str | None = None) -> list[Attribute]:
        """Return an entity's attributes: its own in the table's order, then what it inherits.

        `name` is what its queries call it.
        """
        found = [attribute for rule in self._rules() for attribute in self._own(record, rule)]
        if self._reference:
            return found
        found += self._inherited(record)
        english = name_lang in ENGLISH
        return [replace(a, query=phrased(a, name, english=english)) for a in found]

    def _rules(self) -> Iterator[Rule]:
        return (rule for rule in rules() if rule.in_reference or not self._reference)

    def _own(self, record: Record, rule: Rule) -> list[Attribute]:
        if rule.inverse:
            pairs: list[tuple[str, str | None]] = [
                # of items: a property that is part of something is no part that is seen
                (id, None)
                for id in self._subjects(record.id, rule.property_id)
                if id.startswith("Q")
            ]
        elif rule.property_id in record.claims:
            pairs = self._pairs(record, rule)
        else:
            return []
        # a dict: two statements may say the same
        named = [
            (node, qualifier)
            for id, qualifier in dict.fromkeys(pairs)
            if (self._reference or id != record.id)
            and (node := self._nodes.get(id))
            and node.name is not None
        ]
        if not self._reference:
            named.sort(key=lambda pair: (-pair[0].sitelinks, numeric_id(pair[0].id)))
            kept = list(dict.fromkeys(node.id for node, _ in named))[: self._settings.values]
            named = [pair for pair in named if pair[0].id in kept]
        return [self._attribute(rule, node, qualifier) for node, qualifier in named]

    def _pairs(self, record: Record, rule: Rule) -> list[tuple[str, str | None]]:
        """Return (value, name of a qualifier's value) of a property's statements."""
        if self._reference and rule.qualifier is not None:
            statements = record.claims[rule.property_id]
        else:
            statements = record.truthy(rule.property_id)
        return [
            (self._store.resolve(statement.snak.value), qualifier)
            for statement in statements
            if statement.snak.code == ENTITY_ID and is_entity_id(statement.snak.value)
            for qualifier in self._qualifiers(statement, rule.qualifier)
        ]

    def _qualifiers(self, statement: Statement, property_id: str | None) -> list[str | None]:
        """Return the names of a statement's qualifiers, [None] where none has a name."""
        snaks = statement.qualifiers.get(property_id or "", ())
        nodes = [
            self._nodes.get(self._store.resolve(snak.value))
            for snak in snaks
            if snak.code == ENTITY_ID and is_entity_id(snak.value)
        ]
        return [node.name for node in nodes if node and node.name is not None] or [None]

    def _attribute(self, rule: Rule, value: Node, qualifier: str | None) -> Attribute:
        about = self._nodes.get(rule.property_id)
        name = about.name if about else None
        if name is not None and rule.inverse:
            name = f"{name} (inverse)"
        assert value.name is not None, "values without a name are left out"
        return Attribute(
            rule.written, name, rule.category, value.id, value.name, qualifier, phrase=rule.phrase
        )

    def _inherited(self, record: Record) -> list[Attribute]:
        """Return what the nearest ancestors have of properties that the entity says nothing of.

        That it has none of something, or something unknown, is said too.
        """
        has: set[str | None] = {
            property_id
            for property_id, statements in record.claims.items()
            if best_rank(statements) >= 0
        }
        found: list[Attribute] = []
        layers = islice(self._ancestors(self._nodes.of(record)), self._settings.inherit)
        for distance, layer in enumerate(layers, 1):
            here: dict[tuple[str | None, str | None, str | None], Attribute] = {}
            for id in layer:
                for attribute in self._hands_down(id):
                    if attribute.property not in has and attribute.value_id != record.id:
                        key = attribute.property, attribute.value_id, attribute.qualifier
                        inherited = replace(attribute, inherited_from=id, distance=distance)
                        here.setdefault(key, inherited)
            has |= {attribute.property for attribute in here.values()}
            found += self._most_linked(list(here.values()))
        return found

    def _most_linked(self, attributes: Sequence[Attribute]) -> Iterator[Attribute]:
        """Yield of each property those with one of its `values` most linked values."""
        of: dict[str | None, dict[str | None, None]] = {}
        for attribute in attributes:
            of.setdefault(attribute.property, {})[attribute.value_id] = None
        kept = {
            property_id: sorted(ids, key=self._rank)[: self._settings.values]
            for property_id, ids in of.items()
        }
        return (a for a in attributes if a.value_id in kept[a.property])

    def _rank(self, id: str | None) -> tuple[int, int]:
        node = self._nodes.get(id) if id else None
        assert node is not None, "a value without a record has no name and is left out"
        return -node.sitelinks, numeric_id(node.id)

    def _ancestors(self, node: Node) -> Iterator[list[str]]:
        """Yield ids at 1, 2, ... steps up along P279 (first P31 for what is no class) and P171."""
        met = {node.id, *map(self._nodes.now, TOO_GENERAL)}
        layer = sorted({*node.kinds, *node.parent_taxa} - met, key=numeric_id)
        while layer:
            yield layer
            met.update(layer)
            above: set[str] = set()
            for id in layer:
                if below := self._nodes.get(id):
                    above.update(below.subclass_of, below.parent_taxa)
            layer = sorted(above - met, key=numeric_id)

    def _hands_down(self, id: str) -> tuple[Attribute, ...]:
        """Return those of an ancestor's own attributes that hold for what is below it."""
        if id not in self._handed_down:
            if len(self._handed_down) >= _MOST:
                self._handed_down.clear()
            record = self._store.get(id)
            self._handed_down[id] = () if record is None else tuple(
                attribute
                for rule in self._rules()
                if rule.inherit
                for attribute in self._own(record, rule)
            )  # fmt: skip
        return self._handed_down[id]


def phrased(attribute: Attribute, name: str, *, english: bool) -> str | None:
    """Return the query for an attribute of something called `name`, None where it makes none.

    None either where the name says it already (the white of a *white stork*).  The table's phrases
    are English; in other languages name and value stand side by side.
    """
    if attribute.phrase is None or says(name, attribute.value):
        return None
    if not english:
        return f"{name} {attribute.value}"
    return fill(attribute.phrase, attribute.value, name)


def fill(phrase: str, value: str, name: str) -> str:
    """Put value and name into a phrase of the table, whatever braces they hold."""
    return _PLACE.sub(lambda place: value if place[0] == "{value}" else name, phrase)
