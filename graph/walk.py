"""The best chain from one entity along a path, found by walking up through its records.

What is best is the rule of `graph/chains.py`, which finds the chains of all entities at once, in
arrays and backward from the root: the shortest; of several, the one whose ids are lowest first; of
several with the same ids, the one with the lowest property numbers first, a direct step before an
inverse one.  Here it is forward from one entity, in plain Python; tests hold the two together.

An entity is met once in every state of the path's automaton, so that a cycle ends the walk, and an
entity with thousands of superclasses costs as many steps and no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from etl.entity import numeric_id
from etl.errors import UserError
from graph.paths import Path, Transition, automaton
from graph.records import Records

#: Steps that the walks from one entity may take in all.  Upward from an item of Wikidata they take
#: hundreds to thousands; downward there may be millions, of which a built graph knows more quickly.
MOST_STEPS: Final = 200_000

Step = tuple[str, bool]  # property, and whether it is walked inversely
_Node = tuple[int, str]  # state of the path's automaton, entity


@dataclass(frozen=True)
class Walk:
    """A chain of d steps between d + 1 entities."""

    ids: tuple[str, ...]
    steps: tuple[Step, ...]

    def order(self) -> tuple[int, list[int], list[tuple[int, bool]]]:
        """Return what a better walk has a lower one of."""
        steps = [_step_order(step) for step in self.steps]
        return len(self.steps), list(map(numeric_id, self.ids)), steps


def _step_order(step: Step) -> tuple[int, bool]:
    return int(step[0][1:]), step[1]


class Walks:
    """Walks from one entity; what several roots ask of the same path is walked once."""

    def __init__(self, records: Records, id: str) -> None:
        self._records = records
        self._id = id
        self._reached: dict[Path, _Reached] = {}

    def best(self, path: Path, of: tuple[str, ...]) -> Walk | None:
        """Return the best chain along `path` to one of the items `of`, None where there is none.

        Raises
        ------
        UserError : the walks have taken more than `MOST_STEPS` steps.
        """
        if path not in self._reached:
            self._reached[path] = _Reached(path, self._id, self)
        return self._reached[path].best(of)

    def next(self, id: str, step: Transition) -> list[str]:
        """Return where a step leads from an entity."""
        if step.inverse:
            return self._records.subjects(id, step.property)
        return self._records.objects(id, step.property)

    def prepare(self, inverse: Iterable[tuple[str, Transition]]) -> None:
        """Find where inverse steps lead from several entities, with as few looks as possible."""
        ids: dict[str, list[str]] = defaultdict(list)
        for id, step in inverse:
            ids[step.property].append(id)
        for property_id, of_property in ids.items():
            self._records.find_subjects(of_property, property_id)

    def check_bound(self) -> None:
        if sum(reached.taken for reached in self._reached.values()) > MOST_STEPS:
            raise UserError(
                f"the paths from {self._id} take more than {MOST_STEPS:,} steps: ask a built graph "
                "instead, with --graph and without --store."
            )


@dataclass(frozen=True)
class _Layer:
    """What is reached in as many steps as the layer's number and not in fewer."""

    nodes: list[_Node]
    ends: dict[str, list[_Node]]  # the nodes in which the path may end, by entity
    # every step out of each node; empty until somebody asks for the layer beyond
    steps: dict[_Node, list[tuple[Step, _Node]]]


class _Reached:
    """What one path leads to, layer by layer, as far as anybody has asked."""

    def __init__(self, path: Path, id: str, walks: Walks) -> None:
        machine = automaton([path], [0])
        self.taken = 0  # steps
        self._walks = walks
        self._accepts = machine.accepts
        self._transitions: dict[int, list[Transition]] = defaultdict(list)
        for transition in machine.transitions:
            self._transitions[transition.source].append(transition)
        start = machine.starts[0], id
        self._met = {start}
        self._layers = [self._layer([start])]

    def best(self, of: tuple[str, ...]) -> Walk | None:
        depth = 0
        while depth < len(self._layers) or self._grow():
            ends = self._layers[depth].ends
            if found := {node for id in of for node in ends.get(id, ())}:
                return self._best_to(found, depth)
            depth += 1
        return None

    def _layer(self, nodes: list[_Node]) -> _Layer:
        ends: dict[str, list[_Node]] = defaultdict(list)
        for state, id in nodes:
            if self._accepts[state] is not None:
                ends[id].append((state, id))
        return _Layer(nodes, ends, {})

    def _grow(self) -> bool:
        """Add the layer beyond the last, even an empty one; say whether the last had nodes."""
        last = self._layers[-1]
        if not last.nodes:
            return False
        self._walks.prepare(
            (id, step)
            for state, id in last.nodes
            for step in self._transitions[state]
            if step.inverse
        )
        fresh: dict[_Node, None] = {}
        for state, id in last.nodes:
            steps = last.steps[state, id] = [
                ((transition.property, transition.inverse), (transition.target, q))
                for transition in self._transitions[state]
                for q in self._walks.next(id, transition)
            ]
            fresh.update((target, None) for _, target in steps if target not in self._met)
            self.taken += len(steps)
            self._walks.check_bound()
        self._met.update(fresh)
        self._layers.append(self._layer(list(fresh)))
        return True

    def _best_to(self, ends: set[_Node], depth: int) -> Walk:
        """Return the best of the walks of `depth` steps to one of `ends`: ids first, then steps.

        Of such a walk every node stands in the layer of its number, since a shorter way to one
        would make the whole walk shorter.
        """
        leading = self._leading_to(ends, depth)
        ids = [next(iter(leading[0]))[1]]
        here = leading[0]
        for number in range(depth):
            targets = {t for node in here for _, t in self._steps(number, node, leading)}
            ids.append(min((id for _, id in targets), key=numeric_id))
            here = {target for target in targets if target[1] == ids[-1]}
        leading = self._leading_to(here, depth, ids)
        steps: list[Step] = []
        here = leading[0]
        for number in range(depth):
            possible = [pair for node in here for pair in self._steps(number, node, leading)]
            steps.append(min((step for step, _ in possible), key=_step_order))
            here = {target for step, target in possible if step == steps[-1]}
        return Walk(tuple(ids), tuple(steps))

    def _leading_to(
        self, ends: set[_Node], depth: int, ids: list[str] | None = None
    ) -> list[set[_Node]]:
        """Return the nodes of layers 0 to `depth` that lead to `ends`; only `ids`, where given."""
        leading = [ends]
        for number in range(depth - 1, -1, -1):
            leading.append(
                {
                    node
                    for node, steps in self._layers[number].steps.items()
                    if (ids is None or node[1] == ids[number])
                    and any(target in leading[-1] for _, target in steps)
                }
            )
        return leading[::-1]

    def _steps(
        self, number: int, node: _Node, leading: list[set[_Node]]
    ) -> list[tuple[Step, _Node]]:
        """Return the steps from a node of a layer to those of the next that lead to the end."""
        return [
            (step, target)
            for step, target in self._layers[number].steps[node]
            if target in leading[number + 1]
        ]
