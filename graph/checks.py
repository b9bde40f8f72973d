"""What is said of a recipe and a store before any work, and of roots that end up empty."""

from __future__ import annotations

from typing import Any

import numpy as np

from etl.entity import numeric_id
from etl.errors import UserError
from etl.show import counted
from etl.store import EntityStore
from graph.above import NEEDED
from graph.attributes import properties as attribute_properties
from graph.entities import COLUMN_PROPERTIES
from graph.facts import Facts
from graph.recipe import Recipe, matches


def warnings_of(recipe: Recipe, facts: Facts, store: EntityStore) -> list[str]:
    """Say what the store lacks of what the recipe names; refuse it where that can't be meant."""

    def missing(ids: list[str]) -> list[str]:
        items = [id for id in dict.fromkeys(ids) if id.startswith("Q")]
        rows = facts.rows(np.array([numeric_id(id) for id in items], np.int64))
        return [id for id, row in zip(items, rows.tolist(), strict=True) if row < 0]

    roots = recipe.root_ids()
    absent = missing(roots)
    if len(absent) == len(roots):
        raise UserError(
            f"the store {store.path} has none of the roots of recipe {recipe.name!r} "
            f"({', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}): "
            "is it of a Wikidata dump, read to its end?"
        )
    warnings = []
    if absent:
        warnings.append(
            f"the store has no record of the root{'s' if len(absent) > 1 else ''} "
            f"{', '.join(absent)}: what statements about it lead there is kept all the same."
        )
    named = [
        (id, f"{id} (`{key}` of {root.id})")
        for root in recipe.all_roots()
        for match, key in matches(root)
        for id in match.of
        if id not in roots
    ]
    lacking = set(missing([id for id, _ in named]))
    if where := dict.fromkeys(text for id, text in named if id in lacking):
        warnings.append(
            f"the store has no record of {', '.join(where)}: what statements about it lead there "
            "is found all the same."
        )
    made = store.manifest
    if made["plan"]["limit"]:
        warnings.append(
            f"the store was made with `--limit {made['plan']['limit']}`: what it has not read is "
            "missing here too."
        )
    if places := len(made["damage"]):
        warnings.append(
            f"the store's dump was damaged in {counted(places, 'place')}: what stood there is "
            "missing here too (its manifest has them under `damage`)."
        )
    warnings += [
        f"the store did not keep {property_id}: the column `{column}` is empty."
        for column, property_id in COLUMN_PROPERTIES.items()
        if property_id not in store.properties
    ]
    if lacking_above := [p for p in NEEDED if p not in store.properties]:
        warnings.append(
            f"the store did not keep {', '.join(lacking_above)}: natural types and visuality are "
            "told without."
        )
    if no_attributes := [p for p in attribute_properties() if p not in store.properties]:
        warnings.append(
            f"the store did not keep {', '.join(no_attributes)}: there are no attributes of "
            f"{'it' if len(no_attributes) == 1 else 'them'}."
        )
    return warnings


def refuse_if_strict(warnings: list[str], strict: bool) -> None:
    if strict and warnings:
        more = f" (and {len(warnings) - 1} more warnings)" if len(warnings) > 1 else ""
        raise UserError(f"--strict: {warnings[0]}{more}")


def emptied(counts: list[dict[str, Any]]) -> list[str]:
    """Say which roots keep nothing, and that none does.

    A root that isn't in the store and has nothing below it was warned of before.
    """
    empty = [
        f"root {root['root']} of recipe {root['recipe']!r} keeps no entity: "
        + (
            f"`{(most := max(root['removed'], key=root['removed'].__getitem__))}` takes "
            f"{root['removed'][most]} of {root['candidates']} candidates."
            if root["candidates"]
            else "no chain of statements leads to it."
        )
        for root in counts
        if not root["kept"]
        and not (root["candidates"] and root["candidates"] == root["removed"].get("absent"))
    ]
    if len(empty) == len(counts):
        empty.append("no root keeps an entity: the data set is empty.")
    return empty
