"""What a data set's language models have answered, as the next `graph` takes it over.

Models are gone through from the best to the worst: those that the recipe names, in its order, then
the others by name.  The rules for attributes are those of the reference's merge
(kgraph/world_merge_attributes.py), and so is the budget, which favours well-known entities and
leaves every pair of entity and category something.  Nothing here talks to a server, or loads what
does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from etl.errors import UserError
from graph.attributes import CATEGORIES
from graph.enrich.journal import ENRICH, Line, answers_file, decoded_line, model_of, read_lines
from graph.enrich.prompts import ATTRIBUTES, TYPES, VISUALITY

#: Attributes of all entities together, and the seed of the choice: the reference's `--max_queries`.
DEFAULT_BUDGET: Final = 92_000
DEFAULT_SEED: Final = 42

_LONGEST_NONE, _LONGEST = 16, 100  # characters, see `is_valid`
_NOTHING: Final = ("not applicable", "none", "note")


@dataclass(frozen=True, slots=True)
class TypeAnswer:
    """The natural type that a model chose for an entity."""

    entity: str
    natural_type: str
    natural_type_name: str
    explanation: str
    model: str


@dataclass(frozen=True, slots=True)
class VisualityAnswer:
    """Whether a model takes an entity to be something that a photograph can show."""

    entity: str
    visual: bool
    explanation: str
    model: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an entity, with the query that finds images of it."""

    entity: str
    category: str
    attribute: str
    query: str
    model: str


def read_types(
    graph: Path, models: Sequence[str] = (), entity: str | None = None
) -> dict[str, TypeAnswer]:
    """Return the natural type of every entity that a model was asked about: the best model's.

    Of one `entity` alone, where it is named.

    Raises
    ------
    UserError : a file of answers is damaged; so do the other functions here.
    """

    def made(line: Line, answer: dict[str, Any], file: Path) -> TypeAnswer:
        return TypeAnswer(
            line.entity,
            _member(answer, "natural_type", str, file),
            _member(answer, "natural_type_name", str, file),
            _member(answer, "explanation", str, file),
            model_of(file.parent),
        )

    return _first_answers(graph, TYPES.name, models, entity, made)


def read_visuality(
    graph: Path, models: Sequence[str] = (), entity: str | None = None
) -> dict[str, VisualityAnswer]:
    """Return the visuality of every entity that a model was asked about, or of one alone."""

    def made(line: Line, answer: dict[str, Any], file: Path) -> VisualityAnswer:
        return VisualityAnswer(
            line.entity,
            _member(answer, "visual", bool, file),
            _member(answer, "explanation", str, file),
            model_of(file.parent),
        )

    return _first_answers(graph, VISUALITY.name, models, entity, made)


def models_that_answered(graph: Path) -> set[str]:
    """Return the names of the models of which a data set has answers."""
    tasks = (TYPES.name, VISUALITY.name, ATTRIBUTES.name)
    return {model_of(file.parent) for task in tasks for file in _files(graph, task, ())}


def digest_of_answers(graph: Path, task: str) -> str | None:
    """Return a sha256 (hex) over all models' answers to a task, None where there are none.

    It changes when they do, and is the same whatever models are preferred.
    """
    digest = hashlib.sha256()
    files = _files(graph, task, ())
    for file in files:
        digest.update(f"{file.parent.name}\n".encode())
        for _, line in read_lines(file):
            digest.update(f"{line.entity} {line.prompt} {line.answer}\n".encode())
    return digest.hexdigest() if files else None


_Made = TypeVar("_Made")


def _first_answers(
    graph: Path,
    task: str,
    models: Sequence[str],
    entity: str | None,
    made: Callable[[Line, dict[str, Any], Path], _Made],
) -> dict[str, _Made]:
    """Return for each entity (or one) what is made of the answer of the first model that has one.

    That is done as they are read: there may be millions of them, and a map takes a kilobyte.
    """
    found: dict[str, _Made] = {}
    for file in _files(graph, task, models):
        own: dict[str, _Made] = {}
        for _, line in read_lines(file, entity):
            if line.answer is not None and line.entity not in found:
                # the last line about an entity counts: the prompt has changed since the others
                own[line.entity] = made(line, line.answer, file)
        found |= own
    return found


def _files(graph: Path, task: str, models: Sequence[str]) -> list[Path]:
    """Return the files with answers to a task, the best model's first."""
    rank = {model: number for number, model in enumerate(models)}
    files = [f for f in (graph / ENRICH).glob(f"*/{answers_file(task)}") if f.is_file()]
    names = {file: model_of(file.parent) for file in files}
    return sorted(files, key=lambda f: (rank.get(names[f], len(rank)), names[f], f.parent.name))


def _member(answer: dict[str, Any], name: str, kind: type, file: Path) -> Any:
    value = answer.get(name)
    if not isinstance(value, kind):
        raise UserError(
            f"{file}: an answer has no {name!r} of its form, as `sparqless enrich` writes it; "
            "remove the file's line, and its entity is asked about again."
        )
    return value


# --------------------------------------------------------------------------------------------------
# Attributes
# --------------------------------------------------------------------------------------------------


def is_valid(attribute: str, query: str) -> bool:
    """Say whether an attribute is one, by the reference's rules.

    Models write "Note" or "None of these apply" where they have nothing to say.
    """
    if attribute == "Note":
        return False
    return not any(
        text in _NOTHING
        or (text.startswith("none ") and len(text) > _LONGEST_NONE)
        or len(text) > _LONGEST
        or not text
        for text in (attribute.lower(), query.lower())
    )


def read_attributes(
    graph: Path,
    entities: Sequence[str],
    models: Sequence[str] = (),
    *,
    budget: int = DEFAULT_BUDGET,
    seed: int = DEFAULT_SEED,
) -> list[Attribute]:
    """Return the attributes of `entities` (best known first), as many as the budget has room for.

    Within an entity and category an attribute is dropped where its text or its query equals an
    earlier one, case aside; better models come earlier.  All are kept where they fit.

    Otherwise, first every pair of entity and category keeps an equal share: the budget over the
    number of pairs, rounded up, or more where small pairs leave room (which the reference leaves
    unused).  Then the least known entities lose one in each category, until the budget is met.
    Which ones a pair keeps depends on the seed, the entity, the category and the text alone.

    Rows are ordered as `entities`, then by category, then best model first.  Answers are read one
    entity at a time, twice; what is held is the place of each answer and the rows that are kept.
    """
    with _Answers(graph, models) as answers:
        sizes = Counter(
            len(items) for entity in entities for items in answers.merged(entity).values()
        )
        share = _share(sizes, budget)
        kept = [
            _drawn(items, share, seed)
            for entity in entities
            for items in answers.merged(entity).values()
        ]
    _trim(kept, budget)
    return [item for _, items in kept for item in items]


def _share(sizes: Counter[int], budget: int) -> int:
    """Return the least share that fills the budget; of `sizes`, how many pairs have so many items.

    Never less than the budget over the number of pairs.  Where nothing fills it, the largest size.
    """
    for share in range(max(sizes, default=0)):
        if sum(min(size, share) * count for size, count in sizes.items()) >= budget:
            return share
    return max(sizes, default=0)


def attributes_of(graph: Path, entity: str, models: Sequence[str] = ()) -> list[Attribute]:
    """Return all valid attributes of one entity, whether the budget has room for them or not."""
    with _Answers(graph, models, entity) as answers:
        return [item for items in answers.merged(entity).values() for item in items]


def _drawn(
    items: list[Attribute], share: int, seed: int
) -> tuple[list[Attribute], list[Attribute]]:
    """Return the `share` items that the seed draws: in the order drawn, and in their own."""
    drawn = sorted(items, key=lambda item: _lot(item, seed))[:share]
    return drawn, [item for item in items if item in drawn]


def _lot(item: Attribute, seed: int) -> bytes:
    text = "\0".join((str(seed), item.entity, item.category, item.attribute, item.query))
    return hashlib.sha256(text.encode()).digest()


def _trim(kept: list[tuple[list[Attribute], list[Attribute]]], budget: int) -> None:
    """Drop the item drawn last of a pair, from the last pair on, until the budget is met.

    A share less by one would not fill the budget, so what is above it is less than one a pair.
    """
    above = sum(len(items) for _, items in kept) - budget
    for drawn, items in reversed(kept[-above:] if above > 0 else []):
        items.remove(drawn[-1])


class _Answers:
    """The attributes that models gave, an entity at a time: ``with _Answers(graph, models) as a``.

    Holds the offset of each entity's last line in every model's file.
    """

    def __init__(self, graph: Path, models: Sequence[str], only: str | None = None) -> None:
        self._paths = _files(graph, ATTRIBUTES.name, models)
        self._files: list[BinaryIO] = []
        self._offsets = [
            {
                line.entity: offset
                for offset, line in read_lines(path, only)
                if line.answer is not None
            }
            for path in self._paths
        ]

    def __enter__(self) -> _Answers:
        self._files = [path.open("rb") for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def merged(self, entity: str) -> dict[str, list[Attribute]]:
        """Return an entity's valid attributes by category, each once; empty categories left out."""
        found: dict[str, list[Attribute]] = {category: [] for category in CATEGORIES}
        seen: set[tuple[str, str, str]] = set()  # category, which text, text
        for item in self._all(entity):
            texts = {
                (item.category, "attribute", item.attribute.lower()),
                (item.category, "query", item.query.lower()),
            }
            if is_valid(item.attribute, item.query) and not texts & seen:
                seen |= texts
                found[item.category].append(item)
        return {category: items for category, items in found.items() if items}

    def _all(self, entity: str) -> Iterator[Attribute]:
        for path, file, offsets in zip(self._paths, self._files, self._offsets, strict=True):
            if entity not in offsets:
                continue
            file.seek(offsets[entity])
            answer = decoded_line(file.readline(), str(path)).answer or {}
            model = model_of(path.parent)
            for category in CATEGORIES:
                for item in _member({category: [], **answer}, category, list, path):
                    yield Attribute(
                        entity,
                        category,
                        _member(item, "attribute", str, path),
                        _member(item, "query", str, path),
                        model,
                    )
