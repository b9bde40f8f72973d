"""Popular items that a recipe misses, grouped by the class to look at next: how a root is found.

    sparqless gaps --store data/store --recipe entitynet

EntityNet's authors found their roots so (`find-entities.html`: a query for items with 10 sitelinks
or more that match none of the 46 roots they had looked at, via P31?/P279*).  Here the same is asked
of a store and of any recipe.

**A gap** is an item with enough sitelinks that no `any` condition of any root reaches.  What
`minus`, `require`, `labels`, `min_sitelinks` and `limit` take away was meant to go.  Three kinds of
items are set aside and only counted, unless everything is asked for:

- what stands below a root by P31?/P279*: single things of a class that the recipe covers, left out
  by a path such as `P279*` on purpose;
- pages that Wikimedia's projects have for their own housekeeping: categories, templates, lists;
- what stands below one of the 25 classes that EntityNet looked at and rejected as roots.

**Classes are chosen greedily**: each round the one below which, by P31?/P279*, most of the items
lie that are still left.  Alone, that would always be "entity", so three rules weigh its generality:

1. Never offered are the four classes that EntityNet finds too general for a type, those of the
   housekeeping, the rejected ones and whatever stands above a root of the recipe, which it would
   swallow.
2. From the class that catches most, the choice goes down, each time to the subclass that catches
   most, as long as that catches more than :data:`SHARE` of what the first one does.  With a half,
   one branch has to stand for the class; a class that gathers several branches stays.
3. A class that catches a single item is none.

Cost: the closures of the recipe, as in a build; then the P279 edges, the P31 edges of the popular
items, and 12 bytes for every pair of a direct class and a class above it.  Many items have the same
direct classes; those are counted together.  Measured on 10 million made-up items, 4.6 million of
them popular (Wikidata has some 3 million), of 435,000 classes: 1.3 GB, 50 s on two busy cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from etl.entity import entity_id, numeric_id
from etl.errors import UserError
from etl.merged_ids import Redirects
from etl.progress import Progress
from etl.show import counted, printable
from etl.store import EntityStore
from graph.ancestors import ancestors
from graph.facts import Facts, Mask
from graph.natural_types import TOO_GENERAL
from graph.ontology import ArrayGraph, Csr, Ids, Nodes, Ontology, distinct, edge_file, truthy_rows
from graph.recipe import Recipe, check_store, followed, matches
from graph.records import Records, check_walkable
from graph.selection import Evaluator

#: Rows of EntityNet's manual_entities.csv with include=0: internal item, country, continent,
#: language (Q34770, Q315), city, written work, planet, star, organization, religion, science,
#: history, specialty, temporal entity, imaginary character, astronomical object, abstract entity,
#: concept, role, work of art, social system, representation, historical event, medical procedure.
REJECTED: Final = (
    "Q17442446", "Q6256", "Q5107", "Q34770", "Q515", "Q47461344", "Q634", "Q523", "Q43229",
    "Q9174", "Q315", "Q336", "Q309", "Q1047113", "Q26907166", "Q115537581", "Q6999", "Q7048977",
    "Q151885", "Q4164871", "Q838948", "Q1639378", "Q1272626", "Q13418847", "Q796194",
)  # fmt: skip

#: Classes of pages of Wikimedia's projects, which describe no thing of the world: category,
#: disambiguation page, list article, template, duplicated page.  On the whole of Wikidata they are
#: below the rejected "internal item"; a dump of a part may lack the classes between.
HOUSEKEEPING: Final = ("Q4167836", "Q4167410", "Q13406463", "Q11266439", "Q17362920")

#: Of what the class that catches most does, a subclass must catch more to be taken instead.
SHARE: Final = 0.5

_TOGETHER = 1 << 14  # sets of direct classes whose classes above are gathered at a time
_EXAMPLES = 5
_OVERLAPS = 3  # roots that are named beside a class, those with most in common


@dataclass(frozen=True)
class Example:
    """An item of a gap."""

    id: str
    name: str | None
    sitelinks: int


@dataclass(frozen=True)
class Overlap:
    """A root of the recipe that reaches some of a class' popular items already."""

    root: str
    name: str | None
    items: int


@dataclass(frozen=True)
class Gap:
    """A class that could be the next root; its figures are numbers of popular items."""

    id: str
    name: str | None
    recorded: bool  # the store has a record of it: a part of Wikidata may lack one
    catches: int  # not caught by a class before it, either
    classes: int  # of these, what the path P279* catches; the others need P31/P279* too
    examples: tuple[Example, ...]  # of what it catches, the most linked
    covered: int  # items below it that a root reaches already
    overlaps: tuple[Overlap, ...]  # the roots that have most of these


@dataclass(frozen=True)
class Gaps:
    """What a recipe misses of a store; figures are numbers of popular items."""

    min_sitelinks: int
    popular: int
    reached: int  # by an `any` condition of a root
    below_roots: int  # set aside: below a root's class, by a way that the recipe doesn't take
    housekeeping: int  # set aside: below a class of Wikimedia's own pages
    below_rejected: int  # set aside: below a class that EntityNet rejected
    classless: int  # gaps that nothing catches: without P31 and without P279
    left: int  # gaps with a class that none of `found` catches
    found: tuple[Gap, ...]  # those that catch most first


def gaps(
    store: Path,
    recipe: Recipe,
    *,
    min_sitelinks: int = 10,
    limit: int = 20,
    everything: bool = False,
    quiet: bool = True,
) -> Gaps:
    """Find up to `limit` classes that would catch most of what a recipe misses.

    With `everything`, nothing is set aside and no class is too general.

    Raises
    ------
    UserError : the store did not keep what the recipe needs, or neither P31 nor P279.
    """
    with EntityStore(store) as entities:
        check_store(recipe, entities.manifest)
        lacking = [p for p in ("P31", "P279") if p not in entities.properties]
        if lacking:
            raise UserError(
                f"gaps are found by P31 and P279, and {store} did not keep {' and '.join(lacking)}:"
                " run `sparqless etl` again with `--properties FILE`, a list that has them."
            )
        check_walkable(recipe.walked(), entities)
        recipe = followed(recipe, entities.resolve)
        facts = Facts(entities)
        items = facts.popular(min_sitelinks)
        reached = _reached(store, recipe, facts, items, quiet)
        place = _Place.of(store, entities, items, map(numeric_id, recipe.root_ids()), quiet)
        open_ = ~np.logical_or.reduce([np.zeros(len(items), bool), *reached.values()])
        missed = np.count_nonzero(open_)
        open_ &= everything | ~place.below(place.find(recipe.root_ids()))
        outside = np.count_nonzero(open_)
        open_ &= everything | ~place.below(place.find(HOUSEKEEPING))
        things = np.count_nonzero(open_)
        open_ &= everything | ~place.below(place.find(REJECTED))
        offered = np.ones(place.graph.size, bool) if everything else place.offered(recipe)
        search = _Search(place, open_, offered)
        report = _Report(Records(entities), recipe, facts.sitelinks(facts.rows(items)), reached)
        with Progress("looking for classes", limit, unit=" classes", quiet=quiet) as progress:
            found = []
            for class_, caught in search.found(limit):
                found.append(report.gap(place, class_, caught))
                progress.add(1)
        return Gaps(
            min_sitelinks,
            popular=len(items),
            reached=int(len(items) - missed),
            below_roots=int(missed - outside),
            housekeeping=int(outside - things),
            below_rejected=int(things - np.count_nonzero(open_)),
            classless=int(np.count_nonzero(open_ & ~place.has_class)),
            left=int(np.count_nonzero(search.open & place.has_class)),
            found=tuple(sorted(found, key=lambda gap: (-gap.catches, numeric_id(gap.id)))),
        )


def _reached(store: Path, recipe: Recipe, facts: Facts, items: Ids, quiet: bool) -> dict[str, Mask]:
    """Say for every root which of some items one of its `any` conditions reaches."""
    roots = recipe.all_roots()
    named = {root.id for root in roots} | {
        id for root in roots for match, _ in matches(root) for id in match.of
    }
    ontology = Ontology.load(
        store, recipe.walked(), including=sorted(map(numeric_id, named)), quiet=quiet
    )
    evaluator = Evaluator(ontology, lambda p, nodes: facts.has(p, facts.rows(ontology.ids[nodes])))
    nodes = ontology.find(items)
    there = np.flatnonzero(nodes >= 0)  # what no statement touches, no path reaches
    reached = {id: np.zeros(len(items), bool) for id in recipe.root_ids()}
    with Progress("reaching", len(roots), unit=" roots", quiet=quiet) as progress:
        for root in roots:
            progress.note = root.id
            for match in root.any:
                reached[root.id][there] |= evaluator.meet(match, nodes[there])
            progress.add(1)
    return reached


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the popular items stand in the graph of classes: P31?/P279* as arrays."""

    items: Ids  # (I,) ascending
    ids: Ids  # of the graph's nodes, ascending
    graph: ArrayGraph  # P279, subclass to superclass
    # (S,) an item, by number, begins its way up at each of its starts: the classes that it is an
    # instance of and, where it has a place among the classes, itself
    row: Nodes
    start: Nodes

    @classmethod
    def of(
        cls, store: Path, entities: EntityStore, items: Ids, roots: Iterable[int], quiet: bool
    ) -> _Place:
        outputs = entities.manifest["outputs"]
        redirects = Redirects.load(store, outputs)
        file = edge_file(store, outputs, "P31")
        item, class_ = (np.empty(0, np.int64),) * 2 if file is None else _edges_of(file, items)
        class_ = redirects.followed(class_)
        known = [*roots, *map(numeric_id, (*HOUSEKEEPING, *REJECTED, *TOO_GENERAL))]
        ontology = Ontology.load(
            store, ["P279"], including=distinct(np.append(class_, known)).tolist(), quiet=quiet
        )
        itself = ontology.find(items)
        own = np.flatnonzero(itself >= 0)
        row = np.concatenate((item, own))
        start = np.concatenate((ontology.find(class_), itself[own]))
        packed = distinct((row << 32) | start)
        graph = ontology.graph()
        return cls(items, ontology.ids, graph, packed >> 32, packed & 0xFFFFFFFF)

    def find(self, ids: Iterable[str]) -> Nodes:
        """Return the nodes of those ids that are there."""
        nodes = self.graph.find(np.array([numeric_id(id) for id in ids], np.int64))
        return distinct(nodes[nodes >= 0])

    @property
    def has_class(self) -> Mask:
        """Say which items have a place among the classes."""
        return np.bincount(self.row, minlength=len(self.items)) > 0

    def below(self, classes: Nodes, *, as_class: bool = False) -> Mask:
        """Say which items lie below one of some classes: by P31?/P279*, or by P279* alone."""
        under = np.zeros(self.graph.size, bool)
        under[self.graph.reverse().reachable(classes)] = True
        hit = under[self.start]
        if as_class:
            hit &= self.ids[self.start] == self.items[self.row]
        return np.bincount(self.row[hit], minlength=len(self.items)) > 0

    def offered(self, recipe: Recipe) -> Mask:
        """Say which classes may be offered, by the first of the three rules above."""
        mask = np.ones(self.graph.size, bool)
        mask[self.find((*TOO_GENERAL, *HOUSEKEEPING, *REJECTED))] = False
        mask[self.graph.reachable(self.find(recipe.root_ids()))] = False
        return mask


def _edges_of(file: Path, subjects: Ids) -> tuple[Nodes, Ids]:
    """Return (position in `subjects`, object) of the truthy edges of some ascending subjects.

    Read by row groups: of 120 million P31 edges those of the popular items are a few million.
    """
    parquet = pq.ParquetFile(file)
    left = truthy_rows(parquet)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for group in range(parquet.num_row_groups):
        if left <= 0 or not len(subjects):
            break
        table = parquet.read_row_group(group, columns=["subject", "object"]).slice(0, left)
        subject = table.column("subject").to_numpy()
        at = np.searchsorted(subjects, subject)
        at[at == len(subjects)] = 0
        rows = np.flatnonzero(subjects[at] == subject)
        found.append((at[rows], table.column("object").to_numpy()[rows]))
        left -= table.num_rows
    position, object = map(np.concatenate, zip(*found, strict=True))
    return position, object


class _Search:
    """The greedy choice: how many open items each class catches, less with every class taken."""

    def __init__(self, place: _Place, open_: Mask, offered: Mask) -> None:
        self._place = place
        self._offered = offered & (place.ids > 0)
        self.open = open_.copy()  # items that no class taken so far catches
        # Items with the same starts are caught by the same classes: one signature stands for them.
        inside = open_[place.row]
        self._signature, row, self._start = _signatures(
            place.row[inside], place.start[inside], len(open_)
        )
        self._weight = np.bincount(self._signature[self._signature >= 0])
        self._first = np.searchsorted(row, np.arange(len(self._weight) + 1))  # in `_start`
        self._above = _lists_of_ancestors(place.graph, distinct(self._start))
        self._count = self._summed(np.arange(len(self._weight)))

    def found(self, limit: int) -> Iterator[tuple[int, Mask]]:
        """Yield up to `limit` classes, and which items each catches that none before it did."""
        for _ in range(limit):
            class_ = self._chosen()
            if class_ is None:
                return
            caught = self.open & self._place.below(np.array([class_]))
            yield class_, caught
            self.open &= ~caught
            self._count -= self._summed(distinct(self._signature[caught]))

    def _chosen(self) -> int | None:
        count = np.where(self._offered, self._count, 0)
        top = int(np.argmax(count))  # of equals, the lowest id
        if count[top] < 2:
            return None
        down = self._place.graph.reverse()
        least, met, at = SHARE * count[top], {top}, top
        while True:
            below = [target for _, _, target in down.steps(np.array([at]))]
            subclasses = distinct(np.concatenate([np.empty(0, np.int64), *below]))
            subclasses = subclasses[count[subclasses] > max(least, 1)]
            subclasses = subclasses[[node not in met for node in subclasses.tolist()]]
            if not len(subclasses):
                return at
            at = int(subclasses[np.argmax(count[subclasses])])
            met.add(at)

    def _summed(self, signatures: Nodes) -> npt.NDArray[np.int64]:
        """Return by class how many items of some signatures it catches."""
        total = np.zeros(self._place.graph.size)
        for first in range(0, len(signatures), _TOGETHER):
            some = signatures[first : first + _TOGETHER]
            row, at = _ranges(self._first[some], self._first[some + 1])
            i, class_ = self._above.expand(self._start[at])
            packed = distinct((row[i] << 32) | class_)  # two starts may have a class in common
            weight = self._weight[some[packed >> 32]]
            total += np.bincount(packed & 0xFFFFFFFF, weight, minlength=len(total))
        return total.astype(np.int64)


def _lists_of_ancestors(graph: ArrayGraph, starts: Nodes) -> Csr:
    """Return for every start all that stands above it, itself included: 4 bytes each."""
    row, node = [np.empty(0, np.uint32)], [np.empty(0, np.uint32)]
    for at, above, _ in ancestors(graph, np.arange(len(starts)), starts):
        row.append(at.astype(np.uint32))
        node.append(above.astype(np.uint32))
    first = np.searchsorted(np.concatenate(row), np.arange(len(starts) + 1))
    return Csr(starts.astype(np.uint32), first, np.concatenate(node))


def _ranges(first: Nodes, end: Nodes) -> tuple[Nodes, Nodes]:
    """Return (i, place) of every place from first[i] up to end[i]."""
    count = end - first
    at = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    return np.repeat(np.arange(len(count)), count), at


def _signatures(row: Nodes, start: Nodes, rows: int) -> tuple[Nodes, Nodes, Nodes]:
    """Number the distinct sets of starts.

    Parameters
    ----------
    row, start : (S,) pairs, ordered by row, then start
    rows : number of rows; one without starts has no signature

    Returns
    -------
    signature : (rows,) the number of each row's set, -1 for the empty one
    first_row, first_start : the pairs of one row of each signature, the row being the signature
    """
    signature = np.full(rows, -1)
    first = np.searchsorted(row, np.arange(rows + 1))
    length = np.diff(first)
    longer = np.flatnonzero(length)
    position, numbers = 0, 0
    # After each round, rows have the same number if and only if their first starts are the same.
    while len(longer):
        key = ((signature[longer] + 1) << 32) | start[first[longer] + position]
        distinct_keys, number = np.unique(key, return_inverse=True)
        signature[longer] = numbers + number
        numbers += len(distinct_keys)
        position += 1
        longer = longer[length[longer] > position]
    some = np.flatnonzero(signature >= 0)
    _, chosen, number = np.unique(signature[some], return_index=True, return_inverse=True)
    signature[some] = number
    chosen = some[chosen]
    row, at = _ranges(first[chosen], first[chosen + 1])
    return signature, row, start[at]


@dataclass(frozen=True)
class _Report:
    """What is said of a class that was found."""

    records: Records
    recipe: Recipe
    sitelinks: npt.NDArray[np.int32]  # (I,) of the popular items
    reached: Mapping[str, Mask]  # root -> (I,)

    def gap(self, place: _Place, class_: int, caught: Mask) -> Gap:
        id = entity_id(int(place.ids[class_]))
        nodes = np.array([class_])
        below = place.below(nodes)
        counts = {r: int(np.count_nonzero(below & mask)) for r, mask in self.reached.items()}
        most = sorted((r for r in counts if counts[r]), key=lambda r: -counts[r])[:_OVERLAPS]
        any_root = np.logical_or.reduce([np.zeros(len(caught), bool), *self.reached.values()])
        return Gap(
            id,
            self._name(id),
            self.records.get(id) is not None,
            int(np.count_nonzero(caught)),
            int(np.count_nonzero(caught & place.below(nodes, as_class=True))),
            tuple(self._examples(place.items, caught)),
            int(np.count_nonzero(below & any_root)),
            tuple(Overlap(root, self._name(root), counts[root]) for root in most),
        )

    def _examples(self, items: Ids, caught: Mask) -> Iterator[Example]:
        rows = np.flatnonzero(caught)
        order = np.argsort(-self.sitelinks[rows].astype(np.int64), kind="stable")
        for row in rows[order[:_EXAMPLES]].tolist():
            id = entity_id(int(items[row]))
            yield Example(id, self._name(id), int(self.sitelinks[row]))

    def _name(self, id: str) -> str | None:
        labels = (part.labels for part in self.recipe.parts())
        return next((name for order in labels if (name := self.records.name(id, order))), None)


def described(found: Gaps) -> Iterator[str]:
    """Yield lines for a terminal: the figures, then two for every class."""
    return map(printable, _described(found))


def _described(found: Gaps) -> Iterator[str]:
    yield f"{counted(found.popular, 'item')} with {found.min_sitelinks} sitelinks or more, of these"
    remarks = (
        (found.reached, "reached by a root of the recipe"),
        (found.below_roots, "below a root by P31?/P279*, a way that the recipe doesn't take"),
        (found.housekeeping, "pages of Wikimedia's own, such as categories (--all has them)"),
        (found.below_rejected, "below a class that EntityNet rejected as a root (--all has them)"),
        (found.classless, "without a class (P31, P279)"),
        (sum(gap.catches for gap in found.found), "below the classes that follow"),
        (found.left, "left, below other classes"),
    )
    for number, remark in remarks:
        yield f"{number:>12,}  {remark}"
    for gap in found.found:
        yield ""
        ways = f"{gap.classes:,} by P279*, {gap.catches - gap.classes:,} more by P31/P279*"
        named = _named(gap.id, gap.name) if gap.recorded else f"{gap.id} (no record in the store)"
        yield f"{gap.catches:>12,}  {named}: {ways}"
        yield " " * 14 + ", ".join(f"{e.name or e.id} ({e.sitelinks})" for e in gap.examples)
        if gap.covered:
            roots = ", ".join(f"{_named(o.root, o.name)} ({o.items:,})" for o in gap.overlaps)
            yield " " * 14 + f"{gap.covered:,} below it are reached already: {roots}"


def _named(id: str, name: str | None) -> str:
    return f"{id} {name}" if name else id
