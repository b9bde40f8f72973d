"""Natural types: the class that people would name first when asked what something is.

EntityNet gives an entity's superclasses to a language model and lets it choose one that is neither
too general nor too specific (`world_type_and_classifiy_entities_pregenerate_inputs.py`,
`living_generate_natural_types.py`).  Its candidates are kept to the letter (:data:`RULES` of a
recipe); the choice here is a sum of figures that anybody can check, so that it needs no model and
comes out the same every time.

**Candidates** (reference-world): what P279 leads to in exactly one, two or three steps, less four
classes that are too general, with a label; of these the ten with the most sitelinks.  Ours are the
same, without the entity itself and what a cycle puts both above and below it, and begin at P31 for
what is no class.  reference-living: all that (P31/P279*)|P279+ leads to and that lies within P279*
of the entity's roots, else the root.

**Choice**: the highest score, ties by the lower id:

    log2(1 + sitelinks)     people know it: 3 for 7 sitelinks, 7 for 127
    - 1.5 (steps - 1)       near: a step further up must be three times as well known
    - 1.5 (3 - above)       specific: `above` steps lie between it and a class that is too general
    + 2                     inside one of the recipe's roots

**Taxa** have no use for that: their superclasses are few, and the parents' names are Latin.  Theirs
is the nearest ancestor along P171 of the rank of class or order (with their sub-, infra- and super-
ranks) that people have a word for and that many wikis write about: 40 sitelinks, the bound below
which EntityNet's `WikidataLoader` drops parents.  A word is a label that is not the taxon's
scientific name, or else a common name (P1843).  Where no class or order has one, any ancestor that
has will do, which in the end is the kingdom.

**Last resort** is the entity's first root that has a name, other than itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import log2
from typing import Final

from etl.entity import numeric_id
from graph.above import INSTANCE_OF, MODELLING, SUBCLASS_OF, Node, Nodes
from graph.settings import Rules

#: physical object, object, entity, concrete object: left out of the candidates by
#: world_type_and_classifiy_entities_pregenerate_inputs.py.
TOO_GENERAL: Final = ("Q223557", "Q488383", "Q35120", "Q4406616")

#: `-k` of that script, and the number of P279 steps in its query.
TOP: Final = 10
HOPS: Final = 3

_PER_STEP: Final = 1.5
_PER_STEP_TO_TOP: Final = 1.5
_INSIDE: Final = 2.0

#: class and order, with superclass, subclass, infraclass, superorder, suborder, infraorder (items
#: that P105 names)
CLASS_OR_ORDER: Final = frozenset(
    {
        "Q37517", "Q3504061", "Q5867051", "Q2007442",
        "Q36602", "Q5868144", "Q5867959", "Q2889003",
    }
)  # fmt: skip

#: WikidataLoader of EntityNet prunes parents with fewer sitelinks.
KNOWN_TAXON: Final = 40
_FARTHEST_TAXON = 100  # steps up along P171; the longest chains of Wikidata have some 70


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that may be the natural type, with the figures that decide."""

    id: str
    name: str
    sitelinks: int
    steps: int  # from the entity; the least
    above: int  # steps from it to a class that is too general, 3 for three and more
    inside: bool  # one of the recipe's roots, or below one by P279

    @property
    def score(self) -> float:
        return (
            log2(1 + self.sitelinks)
            - _PER_STEP * (self.steps - 1)
            - _PER_STEP_TO_TOP * (HOPS - self.above)
            + _INSIDE * self.inside
        )


@dataclass(frozen=True, slots=True)
class NaturalType:
    """The type chosen, why, and what there was to choose from (best first; empty for taxa)."""

    id: str
    name: str
    reason: str
    candidates: tuple[Candidate, ...] = ()


class NaturalTypes:
    """Finds natural types over a store; what it learns of a class it keeps."""

    def __init__(self, nodes: Nodes, roots: Sequence[str], rules: Rules = "sparqless") -> None:
        self._nodes = nodes
        self._roots = frozenset(roots)
        self._rules = rules
        self._too_general = frozenset(map(nodes.now, TOO_GENERAL))
        self._class_or_order = frozenset(map(nodes.now, CLASS_OR_ORDER))
        self._inside: dict[str, bool] = {}
        self._within_roots: dict[tuple[str, frozenset[str]], bool] = {}
        self._above: dict[str, int] = {}

    def of(self, node: Node, roots: Sequence[str]) -> NaturalType | None:
        """Return the natural type of an entity that belongs to some roots, None if there is none.

        To the rules of reference-living the roots matter first: its candidates lie within them.  To
        ours they are the last resort; reference-world has none.
        """
        if self._rules == "sparqless" and (found := self._of_taxon(node)):
            return found
        candidates = sorted(self.candidates(node, roots), key=_rank)
        if candidates:
            best = candidates[0]
            reason = _reason(self._first_step(node, best), candidates)
            return NaturalType(best.id, best.name, reason, tuple(candidates))
        if self._rules == "reference-living" and roots:
            root = self._nodes.get(roots[0])
            name = root.name if root else None
            return NaturalType(roots[0], name or roots[0], "no class within the root: the root")
        return self._root(node, roots) if self._rules == "sparqless" else None

    def _root(self, node: Node, roots: Sequence[str]) -> NaturalType | None:
        """Return the first of an entity's roots that has a name and isn't the entity."""
        for id in roots:
            root = self._nodes.get(id)
            if id != node.id and root is not None and root.name is not None:
                return NaturalType(id, root.name, "its root: nothing nearer may be its type")
        return None

    def choices(self, node: Node, roots: Sequence[str]) -> list[str]:
        """Return what a language model may choose among: candidates and, for a taxon, ancestors.

        Those ancestors that people have a word for.  The ten with the most sitelinks in all, ties
        by the lower id; all of them by the rules of reference-living.
        """
        known = {c.id: c.sitelinks for c in self.candidates(node, roots)}
        if self._rules == "sparqless":
            known |= {above.id: above.sitelinks for _, above, _ in self._known_ancestors(node)}
        ordered = sorted(known, key=lambda id: (-known[id], numeric_id(id)))
        return ordered if self._rules == "reference-living" else ordered[:TOP]

    def candidates(self, node: Node, roots: Sequence[str]) -> list[Candidate]:
        """Return the candidates that the rules allow, the most linked first, ties by the lower id.

        A class that the store has no record of has no label, and is none.
        """
        if self._rules == "reference-living":
            found = self._within(node, roots)
        else:
            found = self._three_steps(node)
        known = [(above, steps) for id, steps in found if (above := self._nodes.get(id))]
        named = [(above, steps) for above, steps in known if above.name is not None]
        named.sort(key=lambda pair: (-pair[0].sitelinks, int(pair[0].id[1:])))
        if self._rules != "reference-living":
            named = named[:TOP]
        return [self._candidate(above, steps) for above, steps in named]

    def _three_steps(self, node: Node) -> Iterator[tuple[str, int]]:
        """Yield what lies up to three steps above, and how many steps are the least."""
        ours = self._rules == "sparqless"
        first = node.kinds if ours else node.subclass_of
        left_out = {*self._too_general, *((node.id, *MODELLING) if ours else ())}
        if ours and any(node.id in layer for layer in self._nodes.superclasses(first)):
            left_out |= self._round(node, first)
        for steps, layer in enumerate(islice(self._nodes.superclasses(first), HOPS), 1):
            for id in layer:
                # not properties, which a statement may name by mistake
                if id not in left_out and id.startswith("Q"):
                    yield id, steps

    def _round(self, node: Node, first: Sequence[str]) -> set[str]:
        """Return what stands above an entity and below it, too: no class of it, but a cycle."""
        above = [id for layer in islice(self._nodes.superclasses(first), HOPS) for id in layer]
        return {id for id in above if self._reaches(id, frozenset([node.id]))}

    def _within(self, node: Node, roots: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield what (P31/P279*)|P279+ leads to and itself has P279* to one of `roots`."""
        first = (*node.instance_of, *node.subclass_of)
        for steps, layer in enumerate(self._nodes.superclasses(first), 1):
            for id in layer:
                key = id, frozenset(roots)
                if key not in self._within_roots:
                    self._within_roots[key] = self._reaches(*key)
                if id.startswith("Q") and self._within_roots[key]:
                    yield id, steps

    def _first_step(self, node: Node, to: Candidate) -> str:
        """Return the property whose statement is the first step from an entity to a candidate."""
        if not node.subclass_of:
            return INSTANCE_OF
        if self._rules == "reference-living":  # which begins at both
            layers = self._nodes.superclasses(node.subclass_of)
            if to.id not in next(islice(layers, to.steps - 1, None), ()):
                return INSTANCE_OF
        return SUBCLASS_OF

    def _candidate(self, node: Node, steps: int) -> Candidate:
        if node.id not in self._inside:
            self._inside[node.id] = self._reaches(node.id, self._roots)
            self._above[node.id] = self._steps_to_top(node)
        assert node.name is not None, "only labelled classes are candidates"
        return Candidate(
            node.id, node.name, node.sitelinks, steps, self._above[node.id], self._inside[node.id]
        )

    def _reaches(self, id: str, roots: frozenset[str]) -> bool:
        """Say whether a class is one of `roots` or below one by P279."""
        return any(not roots.isdisjoint(layer) for layer in self._nodes.superclasses([id]))

    def _steps_to_top(self, node: Node) -> int:
        for steps, layer in enumerate(islice(self._nodes.superclasses(node.subclass_of), HOPS - 1)):
            if not self._too_general.isdisjoint(layer):
                return steps + 1
        return HOPS

    def _of_taxon(self, taxon: Node) -> NaturalType | None:
        """Return the nearest ancestor that people have a word for, None if there is none.

        One of the rank of class or order, or else the nearest of any rank.
        """
        nearest: NaturalType | None = None
        for steps, node, word in self._known_ancestors(taxon):
            ranked = not self._class_or_order.isdisjoint(node.ranks)
            rank = "class or order" if ranked else "the nearest, no class or order, with a word"
            reason = f"P171 in {_steps(steps)}: {rank}, {node.sitelinks} sitelinks"
            found = NaturalType(node.id, word, reason)
            if ranked:
                return found
            nearest = nearest or found
        return nearest

    def _known_ancestors(self, taxon: Node) -> Iterator[tuple[int, Node, str]]:
        """Yield (steps, ancestor, word for it) along P171, the nearest first, ties by the id."""
        met = {taxon.id}
        layer = set(taxon.parent_taxa)
        for steps in range(1, _FARTHEST_TAXON):
            fresh = sorted(layer - met, key=numeric_id)
            nodes = [node for id in fresh if (node := self._nodes.get(id))]
            met |= layer
            for node in nodes:
                word = _common_word(node)
                if word is not None and node.sitelinks >= KNOWN_TAXON:
                    yield steps, node, word
            layer = {id for node in nodes for id in node.parent_taxa}
            if not layer:
                return


def _rank(candidate: Candidate) -> tuple[float, int]:
    return -candidate.score, int(candidate.id[1:])


def _common_word(taxon: Node) -> str | None:
    """Return the word that people have for a taxon: a label that isn't Latin, or a common name."""
    if taxon.name is not None and taxon.name not in taxon.taxon_names:
        return taxon.name
    return taxon.common_names[0] if taxon.common_names else None


def _reason(way: str, candidates: Sequence[Candidate]) -> str:
    best = candidates[0]
    inside = ", in a root of the recipe" if best.inside else ""
    general = "" if best.above == HOPS else f", {_steps(best.above)} below the top"
    return (
        f"{way} in {_steps(best.steps)}: {best.sitelinks} sitelinks{inside}{general}; "
        f"score {best.score:.2f}, best of {len(candidates)}"
    )


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"
