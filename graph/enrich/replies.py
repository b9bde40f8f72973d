"""What an answer must be to count: servers may ignore the schema, so all of it is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from graph.attributes import CATEGORIES
from graph.enrich.prompts import (
    ATTRIBUTES,
    MOST_ATTRIBUTES,
    NON_VISUAL,
    TYPES,
    VISUAL,
    VISUALITY,
    Question,
    Task,
    one_line,
)

_LONGEST_EXPLANATION: Final = 300  # characters that are kept of it; 20 words are asked for
_LONGEST_TEXT: Final = 1000  # of an attribute or query: a model that can't stop


class InvalidReplyError(ValueError):
    """An answer that can't be used; the message says why, in words that a model can mend it by."""


class _Type(msgspec.Struct):
    explanation: str
    type: str


class _Visuality(msgspec.Struct):
    explanation: str
    class_: str = msgspec.field(name="class")


class _Attribute(msgspec.Struct):
    attribute: str
    search_query: str


def answers_in(
    task: Task, questions: Sequence[Question], content: str
) -> dict[str, dict[str, Any] | InvalidReplyError]:
    """Read the text of a reply: for each entity its answer, as it is recorded, or what is wrong."""
    try:
        by_entity = _decoded(content, dict[str, msgspec.Raw])
    except InvalidReplyError as error:
        return {question.entity: error for question in questions}
    found: dict[str, dict[str, Any] | InvalidReplyError] = {}
    for question in questions:
        try:
            if question.entity not in by_entity:
                raise InvalidReplyError(f"{question.entity} is missing")
            found[question.entity] = _READERS[task.name](question, by_entity[question.entity])
        except InvalidReplyError as error:
            found[question.entity] = error
    return found


def _decoded(text: str | msgspec.Raw, form: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidReplyError(f"not JSON of the schema's form: {error}"[:200]) from None


def _type(question: Question, text: msgspec.Raw) -> dict[str, Any]:
    reply = _decoded(text, _Type)
    chosen = question.choices.get(reply.type)
    if chosen is None:
        raise InvalidReplyError(f"{reply.type[:80]!r} is not one of the candidates")
    return {
        "natural_type": chosen.id,
        "natural_type_name": chosen.name,
        "explanation": _explanation(reply.explanation),
    }


def _visuality(_: Question, text: msgspec.Raw) -> dict[str, Any]:
    reply = _decoded(text, _Visuality)
    if reply.class_ not in (VISUAL, NON_VISUAL):
        raise InvalidReplyError(f"{reply.class_[:80]!r} is neither {VISUAL} nor {NON_VISUAL}")
    return {
        "visual": reply.class_ == VISUAL,
        "explanation": _explanation(reply.explanation),
    }


def _attributes(_: Question, text: msgspec.Raw) -> dict[str, Any]:
    """Read attributes by category; one that is missing has none, ten are kept of more."""
    reply = _decoded(text, dict[str, list[_Attribute]])
    for category in reply:
        if category not in CATEGORIES:
            raise InvalidReplyError(f"{category[:80]!r} is not one of the categories")
    return {
        category: [
            {"attribute": _text(item.attribute), "query": _text(item.search_query)}
            for item in reply[category][:MOST_ATTRIBUTES]
        ]
        for category in CATEGORIES
        if reply.get(category)
    }


def _explanation(text: str) -> str:
    return one_line(text[:_LONGEST_EXPLANATION])


def _text(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise InvalidReplyError(f"{text[:40]!r}... is too long")
    return one_line(text)


_READERS: Final[dict[str, Callable[[Question, msgspec.Raw], dict[str, Any]]]] = {
    TYPES.name: _type,
    VISUALITY.name: _visuality,
    ATTRIBUTES.name: _attributes,
}
