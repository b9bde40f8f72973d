"""The slow twin of `graph/explain.py`: verdicts by the very code that builds a graph.

Every edge that a recipe's paths can take from an entity is read into an ontology of its own, over
which the arrays are evaluated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from etl.entity import ENTITY_ID, Record, entity_id, is_entity_id, numeric_id
from etl.errors import UserError
from etl.merged_ids import Redirects
from etl.store import EntityStore
from graph.explanation import Chain, Explanation, Verdict
from graph.facts import Mask
from graph.naming import check_naming, name_of
from graph.ontology import Nodes, Ontology, edge_file, read_subjects
from graph.paths import Automaton, automaton
from graph.recipe import (
    Condition,
    Has,
    Match,
    Recipe,
    Root,
    check_store,
    followed,
    matches,
    merged_ids,
)
from graph.records import check_walkable
from graph.selection import Evaluator, Members


def explain_slowly(store: Path, recipe: Recipe, id: str) -> Explanation:
    """Say what `graph.explain.explain` says."""
    with EntityStore(store) as entities:
        check_store(recipe, entities.manifest)
        check_walkable(recipe.walked(), entities)
        check_naming(recipe.naming(), entities)
        now = entities.resolve(id)
        merged = {id: now} if now != id else {}
        merged |= merged_ids(recipe, entities.resolve)
        recipe, id = followed(recipe, entities.resolve), now
        record = _item(entities, id)
        records = _Records(entities)
        ontology = _walked_up(records, recipe, id)
        names = _Names(records, recipe)
        here = int(ontology.find([numeric_id(id)])[0])

        def has(property_id: str, nodes: Nodes) -> Mask:
            # Conditions are about the entity that a chain begins with, and only one is asked for.
            return np.asarray((nodes == here) & bool(record.truthy(property_id)))

        judge = _Judge(record, ontology, Evaluator(ontology, has), names, here)
        verdicts = tuple(
            judge.verdict(part.name, root) for part in recipe.parts() for root in part.roots
        )
        return Explanation(id, names.of(id), verdicts, record.sitelinks, merged)


def _item(store: EntityStore, id: str) -> Record:
    record = store.get(id)
    if record is None:
        raise UserError(f"the store {store.path} has no {id}.")
    if not id.startswith("Q"):
        raise UserError(f"{id} is a property: recipes keep items only.")
    return record


@dataclass(frozen=True)
class _Judge:
    record: Record
    ontology: Ontology
    evaluator: Evaluator
    names: _Names
    here: int  # the entity's number in the ontology

    def verdict(self, recipe: str, root: Root) -> Verdict:
        """Apply a root's rules in the order of `selection.RULES`: the first that fails decides."""
        chain, via = self._chain(root.any)
        member: bool | None = False
        rule, reason = "", ""
        if chain is None and (unmet := self._unmet(root.any)):
            rule = "and"
            reason, chain, via = unmet
        elif chain is None:
            ways = " or ".join(f"along {match.text} to {_any_of(match.of)}" for match in root.any)
            rule, reason = "any", f"no chain of statements leads {ways}"
        elif found := self._minus(root):
            rule = "minus"
            reason, chain, via = found
        elif missing := [p for p in root.require if not self.record.truthy(p)]:
            rule, reason = "require", f"it has no {self._named(missing[0])}"
        elif name_of(self.record, root.labels) is None:
            rule, reason = "labels", f"it has no label in {', '.join(root.labels)}"
        elif self.record.sitelinks < root.min_sitelinks:
            rule = "min_sitelinks"
            reason = f"it has {self.record.sitelinks} sitelinks, fewer than {root.min_sitelinks}"
        elif root.limit is not None:
            member, rule = None, "limit"
            reason = (
                f"it belongs if it is among the {root.limit} with the most sitelinks "
                f"(it has {self.record.sitelinks}): the built graph knows (--graph)"
            )
        else:
            member = True
        return Verdict(root.id, self.names.of(root.id), recipe, member, rule, reason, chain, via)

    def _unmet(self, matches: tuple[Match, ...]) -> tuple[str, Chain, str] | None:
        """Return reason, chain and branch of a way in that only an `and` bars."""
        bare = tuple(replace(match, conditions=()) for match in matches)
        members = self.evaluator.members(bare)
        members = members.only(members.entity == self.here)
        if not len(members.entity):
            return None
        branch = members.branches[members.branch[0]]
        reason = f"the chain is there, but {self._barred(matches[branch.number - 1].conditions)}"
        return reason, self._written(members), str(branch)

    def _barred(self, conditions: tuple[Condition, ...]) -> str:
        """Name the first of some conditions, not all of them met, that the entity doesn't meet."""
        here = np.array([self.here])
        failed = next(c for c in conditions if not self.evaluator.meet(c, here)[0])
        if isinstance(failed, Has):
            return f"it has no {self._named(failed.property)}"
        if failed.conditions and self.evaluator.meet(replace(failed, conditions=()), here)[0]:
            return self._barred(failed.conditions)
        if len(failed.of) == 1:
            return f"`{failed.text}` does not lead to {self._named(failed.of[0])}"
        return f"`{failed.text}` leads to none of {', '.join(map(self._named, failed.of))}"

    def _chain(self, matches: tuple[Match, ...]) -> tuple[Chain | None, str | None]:
        members = self.evaluator.members(matches)
        members = members.only(members.entity == self.here)
        if not len(members.entity):
            return None, None
        return self._written(members), str(members.branches[members.branch[0]])

    def _written(self, members: Members) -> Chain:
        _, walk = members.chains.written(members.depth, members.position)
        ids = [entity_id(number) for number in self.ontology.ids[walk[::2]].tolist()]
        steps = [members.chains.steps[number] for number in walk[1::2].tolist()]
        return Chain(
            tuple(ids),
            tuple(self.names.of(id) for id in ids),
            tuple(f"^{p}" if inverse else p for p, inverse in steps),
            tuple(self.names.of(p) for p, _ in steps),
        )

    def _minus(self, root: Root) -> tuple[str, Chain | None, str] | None:
        """Return reason, chain and condition of the first `minus` that the entity meets."""
        for number, condition in enumerate(root.minus, 1):
            if isinstance(condition, Has):
                if self.record.truthy(condition.property):
                    reason = f"it has {self._named(condition.property)} (minus {number})"
                    return reason, None, f"{number}: has {condition.property}"
                continue
            chain, _ = self._chain((condition,))
            if chain is not None:
                name = f" ({chain.names[-1]})" if chain.names[-1] else ""
                reason = f"{condition.text} leads to {chain.ids[-1]}{name} (minus {number})"
                return reason, chain, f"{number}: {condition.text}"
        return None

    def _named(self, id: str) -> str:
        name = self.names.of(id)
        return f"{id} ({name})" if name else id


def _any_of(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"one of {', '.join(ids)}"


class _Records:
    """The records met, each read once."""

    def __init__(self, store: EntityStore) -> None:
        self.store = store
        self._met: dict[str, Record | None] = {}

    def get(self, id: str) -> Record | None:
        if id not in self._met:
            self._met[id] = self.store.get(id)
        return self._met[id]

    @cached_property
    def redirects(self) -> Redirects:
        return Redirects.load(Path(self.store.path), self.store.manifest["outputs"])


class _Names:
    """Names as the recipe's label lists give them, of items and properties."""

    def __init__(self, records: _Records, recipe: Recipe) -> None:
        self._records = records
        self._label_lists = [part.labels for part in recipe.parts()]

    def of(self, id: str) -> str | None:
        record = self._records.get(id)
        if record is not None:
            for labels in self._label_lists:
                if found := name_of(record, labels):
                    return found[0]
        return None


def _walked_up(records: _Records, recipe: Recipe, id: str) -> Ontology:
    """Read every edge that a chain of the recipe's paths can take from one entity."""
    roots = recipe.all_roots()
    found = [match for root in roots for match, _ in matches(root)]
    paths = list(dict.fromkeys(match.path for match in found))
    machine = automaton(paths, [0] * len(paths))
    edges: dict[str, set[tuple[int, int]]] = {p: set() for p in machine.properties()}
    met = {(state, id) for state in machine.starts}
    layer = met
    while layer:
        reached = _next_layer(records, machine, layer, edges)
        layer = reached - met
        met |= layer
    named = {root.id for root in roots} | {q for match in found for q in match.of} | {id}
    return Ontology.of(edges, including=sorted(map(numeric_id, named)))


def _next_layer(
    records: _Records,
    machine: Automaton,
    layer: set[tuple[int, str]],
    edges: dict[str, set[tuple[int, int]]],
) -> set[tuple[int, str]]:
    """Take every step out of (state, entity) pairs; note the edges, return where they lead."""
    by_state: dict[int, list[str]] = defaultdict(list)
    for state, id in layer:
        by_state[state].append(id)
    reached = set()
    for step in machine.transitions:
        ids = by_state.get(step.source, ())
        if step.inverse:
            pairs = [(q, id) for id, q in _subjects(records, step.property, ids)]
            edges[step.property].update((numeric_id(q), numeric_id(id)) for q, id in pairs)
            reached |= {(step.target, q) for q, _ in pairs}
        else:
            pairs = [(id, q) for id in ids for q in _objects(records, id, step.property)]
            edges[step.property].update((numeric_id(id), numeric_id(q)) for id, q in pairs)
            reached |= {(step.target, q) for _, q in pairs}
    return reached


def _objects(records: _Records, id: str, property_id: str) -> list[str]:
    """Return the items and properties that a record's truthy statements lead to."""
    record = records.get(id)
    if record is None:
        return []
    snaks = [statement.snak for statement in record.truthy(property_id)]
    named = [s.value for s in snaks if s.code == ENTITY_ID and is_entity_id(s.value)]
    return [records.store.resolve(q) for q in named]


def _subjects(records: _Records, property_id: str, ids: Iterable[str]) -> list[tuple[str, str]]:
    """Return (object, subject) of the truthy statements that lead to one of `ids`."""
    store, redirects = records.store, records.redirects
    file = edge_file(Path(store.path), store.manifest["outputs"], property_id)
    objects = np.array([numeric_id(id) for id in ids], np.int64)
    if file is None or not len(objects):
        return []
    found = read_subjects(file, np.concatenate((objects, redirects.leading_to(objects))))
    subject = found.column("subject").to_pylist()
    object = redirects.followed(found.column("object").to_numpy()).tolist()
    return [(entity_id(o), entity_id(s)) for s, o in zip(subject, object, strict=True)]
