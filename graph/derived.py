"""What a data set says of an entity besides its roots, and why: kind, attributes, queries.

The very code that a build runs over all entities, for one: it walks up through the records and
reads no table.  Two things only a build knows, and they are said to be so: which attribute queries
the budget leaves out, and which other entities have the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.entity import Record
from graph.attributes import ENGLISH, Attribute, Attributes, of_model
from graph.directory import ENRICH
from graph.kinds import Answers, Kinds, read_answers
from graph.naming import names_of
from graph.natural_types import NaturalType
from graph.queries import Asked, Named, Trait, attribute_queries, name_queries, type_query
from graph.recipe import Recipe
from graph.records import Records
from graph.visuality import Visuality


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
    kind = Kinds(records.store, part, recipe.root_ids(), answers).of(record, roots)
    names = names_of(record, part.labels)
    assert names.name is not None, "a recipe keeps no entity without a name"
    reader = Attributes(records.store, part, recipe.attributes, records.subjects)
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
    )
    english = names.name_lang in ENGLISH
    queries = _queries(named, attributes, recipe, english) if kind.visuality.visual else []
    return Derived(chosen, kind.visuality, tuple(attributes), tuple(queries))


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
    if "attribute_type" in types and named.type_name is not None:
        for attribute in attributes:
            if attribute.query is None:
                continue
            value, type_name = attribute.value, named.type_name
            if text := type_query(attribute.property, value, type_name, english=english):
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
    return next(sort for sort, texts in sorts if asked.text in texts)


def statement(id: str, attribute: Attribute) -> str:
    """Write the statement that an attribute is made from: `Q144 P366 Q39201`."""
    if attribute.property is None:
        return attribute.source
    subject = attribute.inherited_from or id
    if attribute.property.startswith("^"):
        return f"{attribute.value_id} {attribute.property[1:]} {subject}"
    return f"{subject} {attribute.property} {attribute.value_id}"
