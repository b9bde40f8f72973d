"""Search queries for an entity: its name, its other names, and its attributes.

EntityNet writes them with five scripts in five forms (`world_build_entity_queries.py`,
`living_generate_{noun,attribute,attribute_noun}_queries.py`, `world_merge_attributes.py`); here
they have one.  A visual entity has a query for

- its *name*, and each other name, an *alias*: aliases, common names, taxon names;
- each attribute, together with its name (*attribute_name*): "brown dog";
- each attribute, together with its natural type (*attribute_type*): "brown mammal", which belongs
  to all entities of the type that have the attribute.

`or_terms` are other words for the same thing, `exclude` words of pictures that are no photographs.
Google was asked with both, Bing with the type alone, and for world entities nothing but the query;
a query for no engine in particular has both.

Plain Python over plain values: `graph/write_queries.py` runs it over a data set, `explain` over one
entity.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b, sha3_224
from itertools import chain, islice
from typing import Any, Final

import ujson

from etl.fold import fold_whole, says
from graph.attributes import WIKIDATA, fill, rules
from graph.settings import Engine, QuerySettings, QueryType, Rules

#: The negative terms of EntityNet's queries for Google: pictures of these are no photographs.
EXCLUDE: Final = ("drawing", "clipart", "illustration", "cartoon", "vector", "painting")


#: Other names of an entity that are looked at, and characters of a name and of a query: a dump may
#: hold anything.  Wikibase allows 250 characters in a label or alias (``string-limits``), and few
#: items of Wikidata have a hundred aliases in a language.
MOST_NAMES: Final = 100
LONGEST_NAME: Final = 250
LONGEST_QUERY: Final = 600

#: Words beside a query that a search engine will take: Google reads 32 words of a query.
MOST_OR_TERMS: Final = 30

_SHORTEST_ALIAS = 3  # characters of ASCII: nothing is found by Os, Ni or W


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
    rules: Rules = "sparqless"  # of the part of the recipe that keeps it

    @classmethod
    def of_row(cls, row: Mapping[str, Any], rules: Rules = "sparqless") -> Named:
        """Read a row of `entities.parquet`."""
        return cls(
            row["id"],
            row["name"],
            row["aliases"],
            row["common_names"],
            row["taxon_names"],
            row["natural_type"],
            row["natural_type_name"],
            rules,
        )

    def others(self) -> Iterator[str]:
        """Yield the names besides the name, as many and as long as a search can do with."""
        names = chain(self.aliases, self.common_names, self.taxon_names)
        return islice((name for name in names if _is_name(name)), MOST_NAMES)


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

    Names without a letter or digit (emoji, which Wikidata has among aliases) can't be searched for,
    and nothing is found by aliases of one or two letters.
    """
    met: set[str] = set()
    for text, query_type in _names(named):
        folded = fold_whole(text)
        short = query_type == "alias" and text.isascii() and len(folded) < _SHORTEST_ALIAS
        if folded in met or short or not any(map(str.isalnum, folded)):
            continue
        met.add(folded)
        if query_type in types:
            yield Asked(text, query_type, named.id, named.type_id)


def _names(named: Named) -> Iterator[tuple[str, QueryType]]:
    if _is_name(named.name):
        yield named.name, "name"
    for name in named.others():
        yield name, "alias"


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and not text.isspace() and text != ""


@dataclass(frozen=True, slots=True)
class Trait:
    """An attribute as a query needs it: the columns of its row."""

    property: str | None
    category: str
    value: str
    query: str | None
    source: str


def attribute_queries(named: Named, traits: Sequence[Trait]) -> Iterator[Asked]:
    """Yield the queries for attribute and name, each text once, none that is just a name.

    Nor one that is just a name as it may be told from others' (:func:`told_apart`).
    """
    met = {fold_whole(t) for text, _ in _names(named) for t in (text, told_apart(text, named))}
    for trait in traits:
        if trait.query is None or len(trait.query) > LONGEST_QUERY:
            continue
        both = {fold_whole(trait.query), fold_whole(told_apart(trait.query, named))}
        if not met.isdisjoint(both):
            continue
        met |= both
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
    phrase = _phrases().get(property_id) if property_id else "{value} {name}"
    return None if phrase is None else fill(phrase, value, type_name)


@cache
def _phrases() -> dict[str, str | None]:
    return {rule.written: rule.phrase for rule in rules()}


def or_terms(named: Named, asked: Asked, engine: Engine | None) -> list[str]:
    """Return other words for what is asked: Bing had the natural type alone.

    For a name they are the entity's other names and its type, for an attribute those names that
    don't stand in the query; lower case, each once.  EntityNet's world queries have none.
    """
    if asked.query_type == "attribute_type" or named.rules == "reference-world":
        return []
    type_name = [named.type_name.lower()] if named.type_name else []
    if engine == "bing":
        return type_name
    names = [name.lower() for name in (named.name, *named.others()) if _is_name(name)]
    text = asked.text.lower()
    if asked.query_type == "attribute_name":
        found = [name for name in names if name not in text]
    else:
        found = [name for name in (*names, *type_name) if name != text]
    most = MOST_OR_TERMS if named.rules == "sparqless" else MOST_NAMES
    return list(dict.fromkeys(found))[:most]


def excluded(engine: Engine | None, rules: Rules = "sparqless") -> list[str]:
    """Return the words that a result must not have; Bing was asked without, and for the world."""
    return [] if engine == "bing" or rules == "reference-world" else list(EXCLUDE)


def told_apart(text: str, named: Named) -> str:
    """Return the text of a query that others share, with the natural type behind it.

    Not where the type's word stands in the text already, and not by the reference's rules.
    """
    if named.rules != "sparqless" or not named.type_name or says(text, named.type_name):
        return text
    return f"{text} {named.type_name}"


def engines(settings: QuerySettings) -> tuple[Engine | None, ...]:
    """Return the engines that each query is written for; None stands for any."""
    return settings.engines or (None,)


def priority(seed: int, *parts: str | None) -> int:
    """Return a number of 64 bits by which the budget takes some queries and leaves others.

    A digest of the seed and of what is asked, whatever the order and whatever else there is.
    """
    text = ujson.dumps([seed, *parts], ensure_ascii=False, escape_forward_slashes=False)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
