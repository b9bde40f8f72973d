"""What kind of thing an entity is: its natural type and its visuality, as a row has them.

The rules are in `graph/natural_types.py` and `graph/visuality.py`.  Where a language model has
answered (`sparqless enrich`), its answer stands in place of the rules', with the model's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.entity import Record
from graph.above import Nodes
from graph.enrich.journal import ENRICH
from graph.natural_types import NaturalType, NaturalTypes
from graph.recipe import Recipe
from graph.visuality import Visuality, marks_of, visuality


@dataclass(frozen=True)
class Answers:
    """What language models answered, by entity; see `graph/enrich/`."""

    types: Mapping[str, NaturalType]
    visuality: Mapping[str, Visuality]

    @classmethod
    def none(cls) -> Answers:
        return cls({}, {})


def read_answers(graph: Path, models: Sequence[str], entity: str | None = None) -> Answers:
    """Read the answers that stand in a data set's directory, of several the best model's.

    Those about one `entity` alone, where it is named.

    Raises
    ------
    UserError : a file of answers is damaged.
    """
    if not (graph / ENRICH).is_dir():
        return Answers.none()
    from graph.enrich.answers import read_types, read_visuality  # takes longer than most answers

    types = {
        entity: NaturalType(a.natural_type, a.natural_type_name, f"llm:{a.model}: {a.explanation}")
        for entity, a in read_types(graph, models, entity).items()
    }
    seen = {
        entity: Visuality(a.visual, f"llm:{a.model}: {a.explanation}")
        for entity, a in read_visuality(graph, models, entity).items()
    }
    return Answers(types, seen)


@dataclass(frozen=True, slots=True)
class Kind:
    """An entity's natural type (None if it has none) and visuality."""

    natural_type: NaturalType | None
    visuality: Visuality


class Kinds:
    """Tells the kind of entities that one part of a recipe keeps."""

    def __init__(self, nodes: Nodes, part: Recipe, roots: Sequence[str], answers: Answers) -> None:
        """`nodes` are named by the part's labels, `roots` those of the whole recipe.

        A type inside any of these is preferred.
        """
        self._nodes = nodes
        self._types = NaturalTypes(self._nodes, roots, part.rules)
        self._marks = marks_of(self._nodes)
        self._answers = answers

    def of(self, record: Record, roots: Sequence[str]) -> Kind:
        """Tell the kind of an entity that belongs to some roots."""
        node = self._nodes.of(record)
        answered = self._answers.types.get(record.id)
        if answered is None or self._nodes.get(answered.id) is None:
            # a class that a newer dump has no longer is no answer
            answered = self._types.of(node, roots)
        seen = self._answers.visuality.get(record.id)
        return Kind(answered, seen or visuality(node, self._nodes, self._marks))

    def columns(self, record: Record, roots: Sequence[str]) -> dict[str, object]:
        """Return the columns of an entity's row that say what kind of thing it is."""
        kind = self.of(record, roots)
        chosen = kind.natural_type
        return {
            "natural_type": chosen.id if chosen else None,
            "natural_type_name": chosen.name if chosen else None,
            "natural_type_reason": chosen.reason if chosen else None,
            "visual": kind.visuality.visual,
            "visual_reason": kind.visuality.reason,
        }
