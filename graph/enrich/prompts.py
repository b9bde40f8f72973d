"""What a language model is asked: the words, and the JSON schema that its answer has to have.

Three questions, of the same purpose as the reference's (shared with its prompts are the purpose
and the categories, not the words): the natural type of an entity, whether it can be seen, and its
visual attributes.  A prompt is a function of the entity and what is given with it: the alias shown
is the first one, candidates stand in a fixed order, so equal inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graph.attributes import CATEGORIES

MOST_ATTRIBUTES: Final = 10  # in a category, as in the reference's prompt
VISUAL, NON_VISUAL = "visual", "non-visual"

# As the reference cuts its candidates' descriptions and aliases, in characters.
_LONGEST = 64
_MOST_ALIASES = 10  # of an entity whose attributes are asked: any of them may stand in a query
_MOST_KINDS = 5  # candidates that say what an entity is, where the question is another
_MOST_HINTS, _MOST_VALUES = 20, 8  # properties and values of each: what keeps a prompt bounded


@dataclass(frozen=True)
class Subject:
    """An entity that is asked about."""

    id: str
    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A class above an entity, which may be its natural type."""

    id: str
    name: str
    description: str = ""
    alias: str = ""
    sitelinks: int = 0


@dataclass(frozen=True)
class Hint:
    """What Wikidata says of an entity by one property, in names."""

    property_name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One of the three questions.

    `version` goes into the hash of every prompt: raise it when the words, the schema or what counts
    as a valid answer change, and answers to the old ones are asked for again.
    """

    name: str
    version: int
    instructions: str
    example: str  # of an entity, as `Question.text` writes it
    example_answer: Mapping[str, Any]
    max_tokens: int  # of the answer about one entity


@dataclass(frozen=True)
class Question:
    """One entity, put into words, with the schema of the answer about it."""

    entity: str
    text: str
    schema: Mapping[str, Any]
    choices: Mapping[str, Candidate] = field(default_factory=dict)  # as the model sees them


# --------------------------------------------------------------------------------------------------
# The three tasks
# --------------------------------------------------------------------------------------------------

_BY_ID = (
    "You get entities of Wikidata, each with its id. Answer with one JSON object whose keys are "
    "these ids."
)

TYPES: Final = Task(
    name="types",
    version=1,
    instructions=(
        f"{_BY_ID} For each entity choose, among its candidates, the class that people would most "
        "naturally name when asked what kind of thing it is: one that tells it from other things "
        "of the same name, neither so general that nearly everything is one nor so specific that "
        "only experts know it. Give a short explanation (at most 20 words), then the candidate "
        "exactly as it is written, id and name."
    ),
    example=(
        "Q89: apple\n"
        "description: fruit of the apple tree\n"
        "candidates:\n"
        "- Q2424752 product (description: anything that can be offered to a market)\n"
        "- Q2095 food (description: substance consumed to provide nutrition)\n"
        "- Q3314483 fruit (description: food: edible part of a plant)"
    ),
    example_answer={
        "Q89": {
            "explanation": "People call an apple a fruit; food and product fit too many things.",
            "type": "Q3314483 fruit",
        }
    },
    max_tokens=200,
)

VISUALITY: Final = Task(
    name="visuality",
    version=1,
    instructions=(
        f"{_BY_ID} For each entity decide whether it is {VISUAL}: a concrete physical thing, "
        "living being, substance, place or activity that a photograph can show. What is abstract "
        "(an idea, a quality, a field of study, a period, an organisation, a language) is "
        f"{NON_VISUAL}. Give a short explanation (at most 20 words), then the class."
    ),
    example=(
        "Q3962: laptop\n"
        "description: portable personal computer\n\n"
        "Q336: science\n"
        "description: systematic pursuit of knowledge"
    ),
    example_answer={
        "Q3962": {"explanation": "A physical device that can be photographed.", "class": VISUAL},
        "Q336": {"explanation": "A pursuit of knowledge has no looks.", "class": NON_VISUAL},
    },
    max_tokens=200,
)

ATTRIBUTES: Final = Task(
    name="attributes",
    version=1,
    instructions=(
        f"{_BY_ID} For each entity list what can be seen of it in photographs: in every category "
        f"at most {MOST_ATTRIBUTES} visual attributes, the most typical first, and none where none "
        "fits. Each attribute is a few words, and comes with a query for an image search engine "
        "that would find photographs showing it; the query names the entity, or uses one of its "
        "other names. Hints say what Wikidata knows; ignore those that can't be seen. Write in "
        "the language of the entity's name."
    ),
    example=(
        "Q7378: elephant\n"
        "description: large mammal with a trunk\n"
        "hints:\n"
        "- color: grey\n"
        "- has part: trunk, tusk"
    ),
    example_answer={
        "Q7378": {
            "Color": [{"attribute": "grey", "search_query": "grey elephant"}],
            "Pattern and texture": [
                {"attribute": "wrinkled skin", "search_query": "elephant wrinkled skin close-up"}
            ],
            "Parts": [
                {"attribute": "long trunk", "search_query": "elephant trunk"},
                {"attribute": "ivory tusks", "search_query": "elephant with tusks"},
            ],
            "Behavior and movement": [
                {"attribute": "bathing in mud", "search_query": "elephant mud bath"}
            ],
            "Shape and size": [
                {"attribute": "massive body", "search_query": "massive elephant bull"}
            ],
            "Environment": [{"attribute": "savanna", "search_query": "elephant in the savanna"}],
            "Other": [{"attribute": "calf with herd", "search_query": "elephant calf herd"}],
        }
    },
    max_tokens=4000,
)

TASKS: Final = {task.name: task for task in (TYPES, VISUALITY, ATTRIBUTES)}


def type_question(subject: Subject, candidates: Sequence[Candidate]) -> Question:
    """Ask for the natural type among `candidates`, of which there must be one or more.

    Id and name are one choice, so that they can't disagree.
    """
    ordered = sorted(candidates, key=lambda c: (-c.sitelinks, int(c.id[1:])))
    choices = {f"{c.id} {shortened(c.name)}": c for c in ordered}
    lines = [_described(subject, subject.aliases[:1]), "candidates:"]
    lines += [f"- {choice}{_in_brackets(c)}" for choice, c in choices.items()]
    schema = _object(explanation=_TEXT, type={"type": "string", "enum": list(choices)})
    return Question(subject.id, "\n".join(lines), schema, choices)


def visuality_question(subject: Subject, kinds: Sequence[Candidate]) -> Question:
    """Ask whether an entity can be seen; the names of some classes above it say what it is."""
    lines = [_described(subject, subject.aliases[:1])]
    if kinds:
        lines.append(f"kind of: {', '.join(shortened(c.name) for c in kinds[:_MOST_KINDS])}")
    enum = {"type": "string", "enum": [VISUAL, NON_VISUAL]}
    return Question(subject.id, "\n".join(lines), _object(explanation=_TEXT, **{"class": enum}))


def attributes_question(subject: Subject, hints: Sequence[Hint]) -> Question:
    """Ask for visual attributes by category."""
    lines = [_described(subject, subject.aliases[:_MOST_ALIASES]), "hints:"]
    for hint in hints[:_MOST_HINTS]:
        values = ", ".join(map(shortened, hint.values[:_MOST_VALUES]))
        lines.append(f"- {shortened(hint.property_name)}: {values}")
    if not hints:
        lines.append("- none")
    item = _object(attribute=_TEXT, search_query=_TEXT)
    # maxLength is left out: not every server takes it, and answers are checked here all the same
    items = {"type": "array", "maxItems": MOST_ATTRIBUTES, "items": item}
    return Question(subject.id, "\n".join(lines), _object(**dict.fromkeys(CATEGORIES, items)))


_TEXT = {"type": "string"}


def _object(**properties: Any) -> dict[str, Any]:
    """Write the schema of an object that has all of `properties` and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _described(subject: Subject, aliases: Sequence[str]) -> str:
    lines = [f"{subject.id}: {shortened(subject.name)}"]
    if subject.description:
        lines.append(f"description: {shortened(subject.description)}")
    if aliases:
        lines.append(f"also called: {', '.join(map(shortened, aliases))}")
    return "\n".join(lines)


def _in_brackets(candidate: Candidate) -> str:
    parts = []
    if candidate.description:
        parts.append(f"description: {shortened(candidate.description)}")
    if candidate.alias:
        parts.append(f"also called: {shortened(candidate.alias)}")
    return f" ({'; '.join(parts)})" if parts else ""


def shortened(text: str) -> str:
    """Cut a text of Wikidata's to 64 characters and "...", on one line, as it is otherwise.

    Hyphens, digits, accents and every script stay, with the joiners that some scripts need.
    """
    text = one_line(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_line(text: str) -> str:
    """Collapse white space, and leave out control characters and halves of surrogate pairs."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return " ".join("".join(kept).split())


# --------------------------------------------------------------------------------------------------
# The request
# --------------------------------------------------------------------------------------------------

#: Greedy, and the same choice again where the server knows seeds.
DEFAULT_PARAMETERS: Final[Mapping[str, Any]] = {"temperature": 0, "seed": 42}

#: Fields of a request that no option may change: what is asked, of whom, and in which form.
FIXED: Final = ("model", "messages", "response_format", "stream", "n")


def request_body(
    task: Task,
    questions: Sequence[Question],
    model: str,
    parameters: Mapping[str, Any],
    remark: str = "",
) -> dict[str, Any]:
    """Write one request about some entities, as OpenAI's chat completions API has it.

    `parameters` are set over the defaults (temperature, seed, max_tokens); None leaves a field out,
    for servers that don't know it.  `remark` stands at the end of the question.
    """
    text = "\n\n".join(question.text for question in questions)
    schema = _object(**{question.entity: question.schema for question in questions})
    example = json.dumps(task.example_answer, ensure_ascii=False)
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": task.instructions},
            {"role": "user", "content": task.example},
            {"role": "assistant", "content": example},
            {"role": "user", "content": f"{text}\n\n{remark}" if remark else text},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": task.name, "strict": True, "schema": schema},
        },
        "max_tokens": task.max_tokens * len(questions),
        **DEFAULT_PARAMETERS,
        **parameters,
    }
    return {name: value for name, value in body.items() if value is not None}


def prompt_hash(task: Task, question: Question, model: str, parameters: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) that an answer is cached by.

    It runs over the task's version and the request about this entity alone: model, messages, schema
    and sampling parameters.  So an answer counts whatever entities were asked about beside it.
    """
    asked = {
        "task": task.name,
        "version": task.version,
        "request": request_body(task, [question], model, parameters),
    }
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def estimated_tokens(text: str) -> int:
    """Estimate tokens where no server has counted them: four bytes of UTF-8 each.

    OpenAI's rule of thumb is four characters of English; other scripts take more tokens a
    character, and more bytes.
    """
    return -(-len(text.encode()) // 4)


def request_text(body: Mapping[str, Any]) -> str:
    """Return what a request makes a server read: its messages, and the schema that most add."""
    texts = [message["content"] for message in body["messages"]]
    schema = body["response_format"]["json_schema"]["schema"]
    return "\n".join([*texts, json.dumps(schema, ensure_ascii=False)])


def expected_answer(task: Task) -> int:
    """Estimate the tokens of an answer about one entity: those of the example, or of its share.

    Attributes are asked for up to ten a category and the example has one or two: three times it.
    """
    example = estimated_tokens(json.dumps(task.example_answer, ensure_ascii=False))
    share = -(-example // len(task.example_answer))
    return share * 3 if task.name == ATTRIBUTES.name else share
