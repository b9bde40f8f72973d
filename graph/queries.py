"""Search queries for an entity: its name, its other names, and its attributes.

EntityNet writes them with five scripts in five forms (`world_build_entity_queries.py`,
`living_generate_{noun,attribute,attribute_noun}_queries.py`, `world_merge_attributes.py`); here
they have one.  A visual entity has a query for

- its *name*, and each other name, an *alias*: aliases, common names, taxon names;
- each attribute, together with its name (*attribute_name*): "brown dog";
- each attribute, together with its natural type (*attribute_type*): "brown mammal", which belongs
  to all entities of the type that have the attribute.

`or_terms` are other words for the same thing, `exclude` words of pictures that are no photographs.
Google was asked with both, Bing with the type alone; a query for no engine in particular has both.

Plain Python over plain values: `graph/write_queries.py` runs it over a data set, `explain` over one
entity.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha3_224
from typing import Final

import ujson

from etl.fold import fold, says
from graph.attributes import WIKIDATA, fill, rules
from graph.settings import Engine, QuerySettings, QueryType

#: The negative terms of EntityNet's queries for Google: pictures of these are no photographs.
EXCLUDE: Final = ("drawing", "clipart", "illustration", "cartoon", "vector", "painting")


@dataclass(frozen=True, slots=True)
class Named:
    """What an entity is called, and what kind of thing it is."""

    id: str
    name: str
    aliases: Sequence[str]
    common_names: Sequence[str]
    taxon_names: Sequence[str]
    type_id: str | None
    type_name: str | None

    def others(self) -> Iterator[str]:
        """Yield the names besides the name."""
        yield from self.aliases
        yield from self.common_names
        yield from self.taxon_names


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about what, whatever the engine."""

    text: str
    query_type: QueryType
    entity: str | None
    entity_type: str | None
    attribute: str | None = None
    category: str | None = None
    source: str = WIKIDATA

    def digest(self, engine: Engine | None) -> str:
        """Return the query's hash: 38 characters of url-safe base64, as the reference's.

        It stands for what is asked: another alias, or another entity of the same name, changes
        `or_terms` or how the text is told from others', and leaves the hash as it is.
        """
        parts = [self.query_type, self.text, self.entity or self.entity_type]
        parts += [self.category, self.attribute, engine]
        text = ujson.dumps(parts, ensure_ascii=False, escape_forward_slashes=False)
        return urlsafe_b64encode(sha3_224(text.encode()).digest()).decode().rstrip("=")


def name_queries(named: Named, types: Sequence[QueryType]) -> Iterator[Asked]:
    """Yield the queries for an entity's names; of names alike but for their case, the first.

    Names without a letter or digit (emoji, which Wikidata has among aliases) can't be searched for.
    """
    met: set[str] = set()
    for text, query_type in _names(named):
        folded = fold(text)
        if folded in met or not any(map(str.isalnum, folded)):
            continue
        met.add(folded)
        if query_type in types:
            yield Asked(text, query_type, named.id, named.type_id)


def _names(named: Named) -> Iterator[tuple[str, QueryType]]:
    yield named.name, "name"
    for name in named.others():
        yield name, "alias"


@dataclass(frozen=True, slots=True)
class Trait:
    """An attribute as a query needs it: the columns of its row."""

    property: str | None
    category: str
    value: str
    query: str | None
    source: str


def attribute_queries(named: Named, traits: Sequence[Trait]) -> Iterator[Asked]:
    """Yield the queries for attribute and name, each text once, none that is just a name."""
    met = {fold(text) for text, _ in _names(named)}
    for trait in traits:
        if trait.query is None or (folded := fold(trait.query)) in met:
            continue
        met.add(folded)
        yield Asked(
            trait.query,
            "attribute_name",
            named.id,
            named.type_id,
            trait.value,
            trait.category,
            trait.source,
        )


def type_query(
    property_id: str | None, value: str, type_name: str, *, english: bool = True
) -> str | None:
    """Return the text for attribute and natural type; None for what makes no query.

    A model's attribute, which has no property, stands before the type, as in the reference.
    """
    if not english:
        return f"{type_name} {value}"
    phrase = _PHRASES.get(property_id) if property_id else "{value} {name}"
    return None if phrase is None else fill(phrase, value, type_name)


_PHRASES: Final = {rule.written: rule.phrase for rule in rules()}


def or_terms(named: Named, asked: Asked, engine: Engine | None) -> list[str]:
    """Return other words for what is asked: Bing had the natural type alone.

    For a name they are the entity's other names and its type, for an attribute those names that
    don't stand in the query; lower case, each once.
    """
    if asked.query_type == "attribute_type":
        return []
    type_name = [named.type_name.lower()] if named.type_name else []
    if engine == "bing":
        return type_name
    names = [name.lower() for name in (named.name, *named.others())]
    text = asked.text.lower()
    if asked.query_type == "attribute_name":
        found = [name for name in names if name not in text]
    else:
        found = [name for name in (*names, *type_name) if name != text]
    return list(dict.fromkeys(found))


def excluded(engine: Engine | None) -> list[str]:
    """Return the words that a result must not have; Bing was asked without."""
    return [] if engine == "bing" else list(EXCLUDE)


def told_apart(asked: Asked, type_name: str | None) -> str:
    """Return the text of a query that others share, with the natural type behind it.

    Not where the type's word stands in the text already.
    """
    if type_name is None or says(asked.text, type_name):
        return asked.text
    return f"{asked.text} {type_name}"


def engines(settings: QuerySettings) -> tuple[Engine | None, ...]:
    """Return the engines that each query is written for; None stands for any."""
    return settings.engines or (None,)


def priority(seed: int, *parts: str | None) -> int:
    """Return a number of 64 bits by which the budget takes some queries and leaves others.

    A digest of the seed and of what is asked, whatever the order and whatever else there is.
    """
    text = "\x1f".join((str(seed), *(part or "" for part in parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
