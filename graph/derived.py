"""What a data set says of an entity besides its roots, and why: kind, attributes, queries.

The very code that a build runs over all entities, for one: it walks up through the records and
reads no table.  What is asked of others only a build knows: which attribute queries the budget
leaves out, which texts others have too (they are told apart then), and which queries for a type are
another entity's already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from etl.entity import Record
from etl.fold import fold_whole
from graph.above import Nodes
from graph.attributes import ENGLISH, Attribute, Attributes, of_model
from graph.directory import ENRICH
from graph.kinds import Answers, Kinds, read_answers
from graph.naming import names_of
from graph.natural_types import NaturalType
from graph.queries import Asked, Named, Trait, attribute_queries, name_queries, type_query
from graph.recipe import Recipe
from graph.records import Records
from graph.visuality import Visuality

#: Entities that say they are part of another that are looked at for it: some 20 µs each.
MOST_PARTS: Final = 2_000


@dataclass(frozen=True)
class Query:
    """A query of an entity, and what it is made from."""

    query: str
    query_type: str
    reason: str


@dataclass(frozen=True)
class Derived:
    """The kind of an entity, its attributes and the queries that they make."""

    natural_type: NaturalType | None
    visuality: Visuality
    attributes: tuple[Attribute, ...]
    queries: tuple[Query, ...]  # none where it isn't visual
    # entities that say they are part of it, where they are too many to be looked at one by one
    parts_left_out: int = 0


def derive(
    records: Records,
    recipe: Recipe,
    part: Recipe,
    record: Record,
    roots: Sequence[str],
    graph: Path | None = None,
) -> Derived:
    """Derive what a build would of an entity that `part` of a recipe keeps under `roots`.

    `graph` is the directory of a data set in which language models' answers may stand.
    """
    answers, given = _answers(graph, record.id, recipe.attributes.models)
    nodes = Nodes(records.store, part.labels)
    kind = Kinds(nodes, part, recipe.root_ids(), answers).of(record, roots)
    names = names_of(record, part.labels)
    assert names.name is not None, "a recipe keeps no entity without a name"
    left_out = 0

    def subjects(id: str, property_id: str) -> Sequence[str]:
        nonlocal left_out
        found = records.subjects(id, property_id)
        if len(found) <= MOST_PARTS:
            return found
        left_out += len(found)
        return ()

    reader = Attributes(records.store, nodes, part, recipe.attributes, subjects)
    attributes = [*reader.of(record, names.name, names.name_lang), *given]
    chosen = kind.natural_type
    named = Named(
        record.id,
        names.name,
        names.aliases,
        names.common_names,
        names.taxon_names,
        chosen.id if chosen else None,
        chosen.name if chosen else None,
        part.rules,
    )
    english = names.name_lang in ENGLISH
    queries = _queries(named, attributes, recipe, english) if kind.visuality.visual else []
    return Derived(chosen, kind.visuality, tuple(attributes), tuple(queries), left_out)


def _answers(graph: Path | None, id: str, models: Sequence[str]) -> tuple[Answers, list[Attribute]]:
    """Read what language models answered about an entity."""
    if graph is None or not (graph / ENRICH).is_dir():
        return Answers.none(), []
    from graph.enrich.answers import attributes_of  # what reads answers, of which most have none

    given = attributes_of(graph, id, models)
    found = [of_model(a.category, a.attribute, a.query, a.model) for a in given]
    return read_answers(graph, models, id), found


def _queries(
    named: Named, attributes: Sequence[Attribute], recipe: Recipe, english: bool
) -> list[Query]:
    types = recipe.queries.types
    found = [Query(q.text, q.query_type, _of_name(q, named)) for q in name_queries(named, types)]
    traits = [Trait(a.property, a.category, a.value, a.query, a.source) for a in attributes]
    if "attribute_name" in types:
        for asked in attribute_queries(named, traits):
            cause = next(a for a in attributes if a.query == asked.text)
            found.append(Query(asked.text, asked.query_type, statement(named.id, cause)))
    if "attribute_type" in types and named.type_name and named.rules != "reference-world":
        met = {fold_whole(query.query) for query in found}
        for attribute in attributes:
            if attribute.query is None:
                continue
            value, type_name = attribute.value, named.type_name
            text = type_query(attribute.property, value, type_name, english=english)
            if text and (folded := fold_whole(text)) not in met:
                met.add(folded)
                reason = f"{statement(named.id, attribute)}; with its natural type {named.type_id}"
                found.append(Query(text, "attribute_type", reason))
    return found


def _of_name(asked: Asked, named: Named) -> str:
    if asked.query_type == "name":
        return "its name"
    sorts = (
        ("an alias", named.aliases),
        ("P1843 taxon common name", named.common_names),
        ("P225 taxon name", named.taxon_names),
    )
    return next((sort for sort, texts in sorts if asked.text in texts), "another name")


def name_reason(text: str, query_type: str, named: Named) -> str:
    """Say which name of an entity a query's text is; the type may stand behind it."""
    names = sorted({named.name, *named.others()}, key=len, reverse=True)
    name = next((n for n in names if text == n or text.startswith(f"{n} ")), named.name)
    return _of_name(Asked(name, "name" if query_type == "name" else "alias", None, None), named)


def statement(id: str, attribute: Attribute) -> str:
    """Write the statement that an attribute is made from: `Q144 P366 Q39201`."""
    if attribute.property is None:
        return attribute.source
    subject = attribute.inherited_from or id
    if attribute.property.startswith("^"):
        return f"{attribute.value_id} {attribute.property[1:]} {subject}"
    return f"{subject} {attribute.property} {attribute.value_id}"
