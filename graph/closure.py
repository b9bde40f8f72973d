"""One closure: every x with `x path q`, straight from a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etl.entity import entity_id, numeric_id
from etl.errors import UserError
from etl.store import EntityStore
from graph import paths
from graph.ontology import Ids, Ontology
from graph.records import check_walkable
from graph.selection import closure_of


@dataclass(frozen=True, eq=False)
class Closure:
    """Every x with `x path target`: properties by number, then items by number."""

    ids: Ids  # Q144 -> 144, P31 -> -31
    target: str  # what was asked for, or the id that it was merged into
    target_known: bool  # does the store have a record of the target?

    def __iter__(self) -> Iterator[str]:
        return map(entity_id, self.ids.tolist())

    def __len__(self) -> int:
        return len(self.ids)


def closure(store: Path, target: str, path: str) -> Closure:
    """Find every x with `x path target` over the store's truthy statements, as SPARQL would.

    Of a target without a record, what other records say about it is found; and a path that may
    have length zero (`P279*`) leads from the target to itself, be it there or not.  Where the store
    has a table of redirects, an id that was merged into another stands for that one, as target and
    as the value of a statement.

    In one place SPARQL says more: the query service holds an unknown value (somevalue) as a node of
    its own, so that there `P31/^P31` leads from an item with nothing but that back to itself.

    Raises
    ------
    UserError : the path is none, or walks a property that the store did not keep or that has no
        items for values; `target` is not an id.
    """
    tree = paths.parse(path, "--path")
    walked = sorted(set(paths.properties(tree)), key=lambda p: int(p[1:]))
    with EntityStore(store) as entities:
        target = entities.resolve(target)
        known = entities.get(target) is not None
        missing = [p for p in walked if p not in entities.properties]
        if missing:
            raise UserError(
                f"--path: {', '.join(missing)} was not kept by this store: run `sparqless etl` "
                "again with `--properties FILE`, a list that has it too."
            )
        check_walkable(walked, entities)
    ontology = Ontology.load(store, walked, including=[numeric_id(target)])
    ids = ontology.ids[closure_of(ontology, tree, (target,))]
    return Closure(np.concatenate((np.flip(ids[ids < 0]), ids[ids > 0])), target, known)
