"""Why an entity belongs to a root, or which rule keeps it out: by walking up through the store.

The walk starts at the entity and reads only the records that it meets, so that it takes as long on
all of Wikidata as on a sample.  For an inverse step (`^P1672`) the store has a look-up file of the
properties in `etl.inverse.INVERSE`; another property's whole file of edges is looked through.

Nothing here needs an array: importing those would take several times as long as the answer.  The
rules are written a second time for that; tests hold them to what a build does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etl.entity import Record, is_entity_id, numeric_id
from etl.errors import UserError
from etl.manifest import read_manifest
from etl.store import EntityStore
from graph.derived import Derived, derive
from graph.directory import check_store_of
from graph.explanation import Chain, Explanation, Verdict
from graph.naming import check_naming, name_of
from graph.recipe import (
    Branch,
    Condition,
    Has,
    Match,
    Recipe,
    Root,
    branches,
    check_store,
    followed,
    merged_ids,
    recorded,
)
from graph.records import Records, check_walkable
from graph.walk import Walk, Walks


def explain(
    store: Path,
    recipe: Recipe,
    id: str,
    *,
    roots: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    graph: Path | None = None,
) -> Explanation:
    """Say by which chain an entity belongs to each root of a recipe, or which rule keeps it out.

    The rules are those of a build, in its order, but for `limit`: which entities are most linked
    only a build knows, so that `member` is None for a candidate of a root with a limit.  A build's
    manifest tells it: `roots` are the counts that it has by root and recipe.  In `graph`, the
    directory of a data set, language models' answers are looked for, which a build prefers.

    Raises
    ------
    UserError : the store has no such item, or did not keep what the recipe needs; the recipe's
        paths lead from the item to more than a walk can meet.
    """
    with EntityStore(store) as entities:
        check_store(recipe, entities.manifest, entities.get)
        check_walkable(recipe.walked(), entities)
        check_naming(recipe.naming(), entities)
        now = entities.resolve(id)
        merged = {id: now} if now != id else {}
        merged |= merged_ids(recipe, entities.resolve)
        recipe, id = followed(recipe, entities.resolve), now
        record = _item(entities, id)
        records = Records(entities)
        names = _Names(records, recipe)
        judge = _Judge(record, Walks(records, id), names)
        verdicts = tuple(
            judge.verdict(part.name, root) for part in recipe.parts() for root in part.roots
        )
        if roots is not None:
            verdicts = tuple(_limited(record, v, roots[v.root, v.recipe]) for v in verdicts)
        derived = _derived(records, recipe, record, verdicts, graph)
        return Explanation(id, names.of(id), verdicts, record.sitelinks, merged, derived)


def _derived(
    records: Records,
    recipe: Recipe,
    record: Record,
    verdicts: tuple[Verdict, ...],
    graph: Path | None,
) -> Derived | None:
    """Derive what follows from the roots that keep an entity, or keep it unless `limit` does not.

    The first part of the recipe that keeps it names it.
    """
    keeping = [verdict for verdict in verdicts if verdict.member is not False]
    if not keeping:
        return None
    part = next(part for part in recipe.parts() if part.name == keeping[0].recipe)
    met = {verdict.root for verdict in keeping}
    its_roots = [root for root in recipe.root_ids() if root in met]
    return derive(records, recipe, part, record, its_roots, graph)


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
    walks: Walks
    names: _Names

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

    def _chain(self, matches: tuple[Match, ...]) -> tuple[Chain | None, str | None]:
        """Return the chain by which the entity meets one of some conditions, and the branch."""
        met = [b for b in branches(matches) if self._meets_all(b.match.conditions)]
        best = self._best(met)
        return (self._written(best[0]), str(best[1])) if best else (None, None)

    def _unmet(self, matches: tuple[Match, ...]) -> tuple[str, Chain, str] | None:
        """Return reason, chain and branch of a way in that only an `and` bars."""
        best = self._best(branches(matches))
        if best is None:
            return None
        walk, branch = best
        reason = f"the chain is there, but {self._barred(branch.match.conditions)}"
        return reason, self._written(walk), str(branch)

    def _best(self, among: list[Branch]) -> tuple[Walk, Branch] | None:
        """Return the best walk of some branches; of equal ones, that of the lowest branch."""
        found = [(self.walks.best(branch.path, branch.match.of), branch) for branch in among]
        there = [(walk, branch) for walk, branch in found if walk is not None]
        return min(there, key=lambda pair: pair[0].order(), default=None)

    def _meets_all(self, conditions: tuple[Condition, ...]) -> bool:
        return all(map(self._meets, conditions))

    def _meets(self, condition: Condition) -> bool:
        if isinstance(condition, Has):
            return bool(self.record.truthy(condition.property))
        return self._leads(condition) and self._meets_all(condition.conditions)

    def _leads(self, match: Match) -> bool:
        return self.walks.best(match.path, match.of) is not None

    def _barred(self, conditions: tuple[Condition, ...]) -> str:
        """Name the first of some conditions, not all of them met, that the entity doesn't meet."""
        failed = next(condition for condition in conditions if not self._meets(condition))
        if isinstance(failed, Has):
            return f"it has no {self._named(failed.property)}"
        if self._leads(failed):
            return self._barred(failed.conditions)
        if len(failed.of) == 1:
            return f"`{failed.text}` does not lead to {self._named(failed.of[0])}"
        return f"`{failed.text}` leads to none of {', '.join(map(self._named, failed.of))}"

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

    def _written(self, walk: Walk) -> Chain:
        return Chain(
            walk.ids,
            tuple(map(self.names.of, walk.ids)),
            tuple(f"^{p}" if inverse else p for p, inverse in walk.steps),
            tuple(self.names.of(p) for p, _ in walk.steps),
        )

    def _named(self, id: str) -> str:
        name = self.names.of(id)
        return f"{id} ({name})" if name else id


def _any_of(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"one of {', '.join(ids)}"


class _Names:
    """Names as the recipe's label lists give them, of items and properties."""

    def __init__(self, records: Records, recipe: Recipe) -> None:
        self._records = records
        self._label_lists = [part.labels for part in recipe.parts()]

    def of(self, id: str) -> str | None:
        names = (self._records.name(id, labels) for labels in self._label_lists)
        return next(filter(None, names), None)


# --------------------------------------------------------------------------------------------------
# With a built graph
# --------------------------------------------------------------------------------------------------


def explain_built(graph: Path, id: str, store: Path | None = None) -> Explanation:
    """Say by which chains an entity belongs to its roots in a built graph.

    Names are those of roots and of entities that the graph keeps, None for others.  Why an entity
    is not there, rows can't say: it gets a verdict of rule "unknown" from every root whose `limit`
    took some.  With the `store` that the graph was built from, the recipe's rules are applied as by
    :func:`explain`, and what `limit` decided is known from the graph's manifest.

    Raises
    ------
    UserError : there is no finished graph, or `id` is not an id; `store` is another one than the
        graph was built from, or has no such item.
    """
    manifest = read_manifest(graph, "graph")
    if not is_entity_id(id):
        raise UserError(f"{id!r} is not an item id such as Q144.")
    if store is None:
        from graph.rows import explain_rows  # pyarrow, which takes longer than the other question

        return explain_rows(graph, manifest, id)
    check_store_of(graph, manifest, store)
    recipe = recorded(manifest["recipe"]["texts"])
    roots = {(root["root"], root["recipe"]): root for root in manifest["counts"]["roots"]}
    return explain(store, recipe, id, roots=roots, graph=graph)


def _limited(record: Record, verdict: Verdict, root: Mapping[str, Any]) -> Verdict:
    """Decide what only `limit` left open: by the last entity that a build kept."""
    if verdict.member is not None:
        return verdict
    last, sitelinks = root["last_kept"], record.sitelinks
    if last is None or (sitelinks, -numeric_id(record.id)) >= (
        last["sitelinks"],
        -numeric_id(last["entity"]),
    ):
        return replace(verdict, member=True, rule="", reason="")
    reason = (
        f"it has {sitelinks} sitelinks, and the last of the {root['kept']} kept, "
        f"{last['entity']}, has {last['sitelinks']}"
        f"{' and a lower id' if sitelinks == last['sitelinks'] else ''}"
    )
    return replace(verdict, member=False, reason=reason)
