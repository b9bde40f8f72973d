"""Visuality: can a camera show what an entity is?

EntityNet asks a language model for `visual` or `non-visual` (abstract = non-visual, concrete
physical = visual).  Here the graph answers, by the first of these rules that applies:

1. *taxon*: a taxon (P171 or P225) is visual.
2. *class*: of the classes in `graph/recipes/visuality.tsv`, the nearest above the entity decides,
   itself included: along P279, beginning at P31 for what is no class.  Where a concrete and an
   abstract one are equally near, an image (P18) makes it visual.
3. *image*, *place*: nothing above is in the list: visual if it has an image (P18) or stands
   somewhere (P625 coordinates).

Each answer says which rule decided and by what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain

from etl.entity import is_entity_id
from etl.errors import UserError
from graph.above import Node, Nodes
from graph.settings import RECIPES

_TABLE = "visuality.tsv"


@dataclass(frozen=True, slots=True)
class Mark:
    """A class of which it is known whether what lies below it can be seen."""

    id: str
    concrete: bool
    name: str


@dataclass(frozen=True, slots=True)
class Visuality:
    """Visual or not, and the rule that decided."""

    visual: bool
    reason: str


@cache
def marks() -> dict[str, Mark]:
    """Return the classes of `graph/recipes/visuality.tsv` by id.

    Raises
    ------
    UserError : a line is not a class, a verdict, a name and a reason, or comes twice.
    """
    return read_marks((RECIPES / _TABLE).read_text("utf-8"))


def read_marks(text: str) -> dict[str, Mark]:
    """Read a table of marked classes: `Q729 <tab> concrete <tab> animal <tab> why`."""
    found: dict[str, Mark] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if (
            len(cells) != 4
            or not is_entity_id(cells[0])
            or cells[1] not in ("concrete", "abstract")
            or cells[0] in found
        ):
            raise UserError(
                f"{_TABLE}, line {number}: not a new class, `concrete` or `abstract`, a name and a "
                "reason, with tabs between them."
            )
        found[cells[0]] = Mark(cells[0], cells[1] == "concrete", cells[2])
    return found


def marks_of(nodes: Nodes) -> dict[str, Mark]:
    """Return the marked classes by the ids that a store has for them now."""
    return {nodes.now(id): mark for id, mark in marks().items()}


def visuality(node: Node, nodes: Nodes, known: Mapping[str, Mark] | None = None) -> Visuality:
    """Say whether an entity is visual, and why; `known` are :func:`marks_of` the nodes."""
    known = marks_of(nodes) if known is None else known
    if node.parent_taxa or node.taxon_names:
        return Visuality(True, "taxon: it has a parent taxon or a taxon name")
    for steps, layer in enumerate(chain([[node.id]], nodes.superclasses(node.kinds))):
        if met := [known[id] for id in layer if id in known]:
            return _by_class(node, met, steps)
    if node.pictured:
        return Visuality(True, "image: no class above it is known, and it has one")
    if node.placed:
        return Visuality(True, "place: no class above it is known, and it has coordinates")
    return Visuality(False, "image: no class above it is known, and it has none")


def _by_class(node: Node, met: list[Mark], steps: int) -> Visuality:
    """Decide by the marked classes that are nearest, all at the same distance."""
    concrete = [mark for mark in met if mark.concrete]
    abstract = [mark for mark in met if not mark.concrete]
    where = "itself" if steps == 0 else f"{steps} step{'s' if steps > 1 else ''} up"
    if concrete and abstract:
        visual, image = node.pictured, "an image" if node.pictured else "no image"
        return Visuality(
            visual,
            f"class: {concrete[0].id} {concrete[0].name} (concrete) and {abstract[0].id} "
            f"{abstract[0].name} (abstract), both {where}; it has {image}",
        )
    mark = met[0]
    kind = "concrete" if mark.concrete else "abstract"
    return Visuality(mark.concrete, f"class: {mark.id} {mark.name} ({kind}), {where}")
