"""A recipe's roots evaluated: who belongs, by which chain, and what each rule takes away.

The rules of a root apply in this order, each to what the one before it left:
``any`` - ``minus`` - ``require`` - ``labels`` - ``min_sitelinks`` - ``limit``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from etl.entity import numeric_id
from graph.chains import Chains, shortest_chains
from graph.facts import Facts, Mask
from graph.ontology import ArrayGraph, Nodes, Ontology, among, distinct
from graph.paths import Automaton, Path, automaton
from graph.recipe import Branch, Condition, Has, Match, Recipe, Root, branches

#: Says which entities (numbers in the ontology) have a truthy statement of a property.
HasProperty = Callable[[str, Nodes], Mask]


@dataclass(frozen=True, eq=False)
class Members:
    """The entities that some branches lead to their ends, with the best chain of each.

    Entities are numbers in the ontology, ascending and each once.  An entity's branch is the one
    that its chain takes: the lowest of those that the very same chain matches.
    """

    product: ArrayGraph
    chains: Chains
    branches: tuple[Branch, ...]
    entity: Nodes  # (M,)
    depth: Nodes  # (M,) edges of the chain
    position: Nodes  # (M,) where the chain begins in `chains.levels[depth]`
    branch: Nodes  # (M,)
    # (W,) every product node in which an entity enters by a branch whose conditions it meets,
    # more than one for an entity with several ways in
    entries: Nodes

    def only(self, keep: Mask) -> Members:
        """Return some of the members, with their entries."""
        entity = self.entity[keep]
        span = self.product.span
        return replace(
            self,
            entity=entity,
            depth=self.depth[keep],
            position=self.position[keep],
            branch=self.branch[keep],
            entries=self.entries[among(self.entries % span, entity)],
        )


class Evaluator:
    """Evaluates conditions over an ontology; sets that several roots subtract are found once."""

    def __init__(self, ontology: Ontology, has: HasProperty) -> None:
        self.ontology = ontology
        self._has = has
        self._sets: dict[tuple[Path, tuple[str, ...]], Nodes] = {}

    def members(self, matches: tuple[Match, ...]) -> Members:
        """Find the entities that meet one of some conditions, as a root's `any`."""
        ways = tuple(branches(matches))
        colours = {of: colour for colour, of in enumerate(dict.fromkeys(m.of for m in matches))}
        machine = automaton([b.path for b in ways], [colours[b.match.of] for b in ways])
        product = self.ontology.product(machine)
        ends = self._ends(machine, list(colours))
        chains = shortest_chains(product, ends)
        columns = []
        for number, branch in enumerate(ways):
            start = machine.starts[number]
            entity, depth, rank, position = chains.of_state(start)
            meets = self.meet_all(branch.match.conditions, entity)
            entity = entity[meets]
            columns.append(
                (
                    entity,
                    depth[meets],
                    rank[meets],
                    position[meets],
                    np.full(len(entity), number),
                    start * product.span + entity,
                )
            )
        entity, depth, rank, position, number_, entries = map(
            np.concatenate, zip(*columns, strict=True)
        )
        del columns  # 48 bytes for each of the 20 million candidates that Wikidata has for animals
        order = np.lexsort((number_, rank, depth, entity))
        _, first = np.unique(entity[order], return_index=True)
        best = order[first]
        return Members(
            product,
            chains,
            ways,
            entity[best],
            depth[best],
            position[best],
            number_[best],
            distinct(entries),
        )

    def meet_all(self, conditions: tuple[Condition, ...], entities: Nodes) -> Mask:
        """Say which entities meet all of some conditions."""
        meets = np.ones(len(entities), bool)
        for condition in conditions:
            meets &= self.meet(condition, entities)
        return meets

    def meet(self, condition: Condition, entities: Nodes) -> Mask:
        """Say which entities meet a condition."""
        if isinstance(condition, Has):
            return self._has(condition.property, entities)
        meets = among(entities, self._set(condition))
        rest = np.flatnonzero(meets)
        meets[rest] = self.meet_all(condition.conditions, entities[rest])
        return meets

    def _set(self, match: Match) -> Nodes:
        """Return the entities that a path leads to its ends, without the conditions beside it."""
        key = (match.path, match.of)
        if key not in self._sets:
            self._sets[key] = closure_of(self.ontology, match.path, match.of)
        return self._sets[key]

    def _ends(self, machine: Automaton, of: list[tuple[str, ...]]) -> Nodes:
        return _ends(self.ontology, machine, of)


def closure_of(ontology: Ontology, path: Path, of: tuple[str, ...]) -> Nodes:
    """Return every x with `x path q` for a q of `of`, ascending; `of` must be in the ontology."""
    machine = automaton([path], [0])
    # networkx finds our backend by the graph's type, of which its stubs know nothing
    backward: Any = ontology.product(machine).reverse()
    start = machine.starts[0] * ontology.size
    layers = nx.bfs_layers(backward, _ends(ontology, machine, [of]))
    found = [
        layer[(layer >= start) & (layer < start + ontology.size)] - start
        for layer in map(np.asarray, layers)
    ]
    return distinct(np.concatenate([np.empty(0, np.int64), *found]))


def _ends(ontology: Ontology, machine: Automaton, of: list[tuple[str, ...]]) -> Nodes:
    """Return the product nodes in which a path ends: accepting states of the items of a colour."""
    nodes = [ontology.find([numeric_id(id) for id in ids]) for ids in of]
    ends = [
        state * ontology.size + nodes[colour]
        for state, colour in enumerate(machine.accepts)
        if colour is not None
    ]
    return distinct(np.concatenate(ends))


@dataclass(frozen=True, eq=False)
class Kept:
    """What one root keeps, and what each rule took from it."""

    part: Recipe
    root: Root
    members: Members  # after all rules
    candidates: int  # ids that `any` names: candidates less all that was removed are kept
    removed: dict[str, int]  # rule -> number of entities
    by_minus: tuple[int, ...]  # entities that meet each of `minus`; one may meet several
    last: tuple[int, int] | None  # sitelinks and id of the last one kept, where `limit` took any


#: The rules that `Kept.removed` counts, in order.  `absent` are ids that a chain begins with but
#: that are no items, or that the dump had no record of.
RULES = ("absent", "minus", "require", "labels", "min_sitelinks", "limit")


def select(evaluator: Evaluator, facts: Facts, part: Recipe, root: Root) -> Kept:
    """Evaluate one root of a recipe over a store."""
    members = evaluator.members(root.any)
    candidates = len(members.entity)
    rows = facts.rows(evaluator.ontology.ids[members.entity])
    removed: dict[str, int] = {}

    def keep(rule: str, mask: Mask) -> None:
        nonlocal members, rows
        removed[rule] = int(np.count_nonzero(~mask))
        if removed[rule]:
            members, rows = members.only(mask), rows[mask]

    keep("absent", rows >= 0)
    minus = [evaluator.meet(condition, members.entity) for condition in root.minus]
    keep("minus", ~np.logical_or.reduce([np.zeros(len(rows), bool), *minus]))
    required = [facts.has(property_id, rows) for property_id in root.require]
    keep("require", np.logical_and.reduce([np.ones(len(rows), bool), *required]))
    keep("labels", facts.named(root.labels, rows))
    keep("min_sitelinks", facts.sitelinks(rows) >= root.min_sitelinks)
    keep("limit", _most_linked(root.limit, facts.sitelinks(rows)))
    last = None
    if removed["limit"]:
        sitelinks = facts.sitelinks(rows)
        fewest = int(sitelinks.min())
        at = np.flatnonzero(sitelinks == fewest)[-1]  # of equals, the higher id goes first
        last = fewest, int(evaluator.ontology.ids[members.entity[at]])
    by_minus = tuple(int(np.count_nonzero(mask)) for mask in minus)
    return Kept(part, root, members, candidates, removed, by_minus, last)


def _most_linked(limit: int | None, sitelinks: npt.NDArray[np.int32]) -> Mask:
    """Say which of some items, in the order of their ids, are the `limit` with most sitelinks."""
    keep = np.ones(len(sitelinks), bool)
    if limit is not None and len(sitelinks) > limit:
        # stable: of equals, the lower id comes first
        order = np.argsort(-sitelinks.astype(np.int64), kind="stable")
        keep[order[limit:]] = False
    return keep
