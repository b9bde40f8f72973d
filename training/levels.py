"""How wrong a wrong answer is: by how many levels of the hierarchy, or by which taxon rank.

    above = Above.of(graph, classes, store)
    above.levels(["Q140"], "Q19939")      # 1: a tiger for a lion is a big cat at least

The **distance of a mistake** is how many edges one has to go up from the right class until what was
answered is below: 1 where both have a parent in common (the height of the lowest common ancestor,
as Bertinetto et al., "Making Better Mistakes", CVPR 2020, measure mistakes; in a graph where
classes have several parents, by the shortest way up). Of several right classes the nearest counts.

**Accuracy at level k** is the share of images whose answer is right or at most so far away. The
further up, the more is right by chance: so the share of all classes that would do is given beside
it. **Accuracy at a rank** (genus, family, …) asks of images that have a taxon of that rank at or
above them whether the answer is at or below the same: there levels mean the same everywhere, which
edges of Wikidata don't promise. Ranks are P105 in a store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from etl.store import EntityStore
from graph.read import batches, manifest_of

#: Levels that are told; what is further up is right by chance, mostly.
LEVELS: Final = 5

#: The main ranks of taxa (P105, https://www.wikidata.org/wiki/Property:P105), from below.
RANKS: Final = {
    "Q7432": "species",
    "Q34740": "genus",
    "Q35409": "family",
    "Q36602": "order",
    "Q37517": "class",
    "Q38348": "phylum",
    "Q36732": "kingdom",
}

_RANK: Final = "P105"
_COUNTS: Final = 1 << 16  # that are kept: of each the names of some ancestors


class Above:
    """What stands above classes, and how far.

    ``parents`` may name what isn't a class; ``ranks`` are names of :data:`RANKS` by id. A class
    that nothing is known of stands alone.
    """

    def __init__(
        self,
        classes: Sequence[str],
        parents: Mapping[str, Sequence[str]],
        ranks: Mapping[str, str] | None = None,
    ) -> None:
        self._parents, self._ranks = parents, ranks or {}
        self._classes = classes
        self._known: dict[str, dict[str, int]] = {}
        self._number = {name: number for number, name in enumerate(classes)}
        below = defaultdict[str, list[int]](list)
        for number, name in enumerate(classes):
            for ancestor in self.of_class(name):
                below[ancestor].append(number)
        self._below = {name: np.array(numbers) for name, numbers in below.items()}
        self._near: dict[str, list[tuple[str, ...]]] = {}
        # images have few different ancestors, and other sets of classes each
        self._count = lru_cache(_COUNTS)(self._counted)

    @classmethod
    def of(cls, graph: Path, classes: Sequence[str], store: Path | None = None) -> Above:
        """From a data set, and the ranks of taxa from the store that it was built from.

        Raises UserError where either isn't whole.
        """
        manifest_of(graph)
        parents = defaultdict[str, list[str]](list)
        for rows in batches(graph, "hierarchy", ["child", "parent"]):
            columns = (rows.column(name).to_pylist() for name in ("child", "parent"))
            for child, parent in zip(*columns, strict=True):
                if parent not in parents[child]:
                    parents[child].append(parent)
        made = cls(classes, parents)
        if store is not None:
            made._ranks = dict(_ranks(store, made._below))
        return made

    def of_class(self, name: str) -> Mapping[str, int]:
        """Itself and everything above it, with the number of edges on the shortest way up."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = {name: 0}
            now = [name]
            while now:
                then = []
                for child in now:
                    for parent in self._parents.get(child, ()):
                        if parent not in found:
                            found[parent] = found[child] + 1
                            then.append(parent)
                now = then
        return found

    def levels(self, right: Iterable[str], answer: str) -> int | None:
        """How far the answer is from the nearest right class; None where nothing is above both.

        0 for a right one, 1 at least for any other: also for a kind of the right one.
        """
        right = list(right)
        if answer in right:
            return 0
        above = self.of_class(answer)
        ways = (far for name in right for at, far in self.of_class(name).items() if at in above)
        nearest = min(ways, default=None)
        return None if nearest is None else max(nearest, 1)

    def shares(self, right: Iterable[str], alike: Iterable[str] = ()) -> list[float]:
        """The share of all classes that are right or at most 0, 1, … :data:`LEVELS` off.

        That is what a guess would have. ``alike`` count as right, too.
        """
        right = list(right)
        same = self._numbers({*right, *alike})
        found = [len(same)]
        for step in range(LEVELS):
            tops = frozenset(top for name in right for top in self._tops(name)[step])
            found.append(self._count(tops, same - self._numbers(right)))
        return [count / len(self._classes) for count in found]

    def _numbers(self, names: Iterable[str]) -> frozenset[int]:
        return frozenset(self._number[name] for name in names if name in self._number)

    def _tops(self, name: str) -> list[tuple[str, ...]]:
        """What stands 1, 2, … at most :data:`LEVELS` edges above a class, but for what is below.

        What is below others that are as near is covered by them.
        """
        known = self._near.get(name)
        if known is None:
            above = self.of_class(name)
            known = self._near[name] = []
            for step in range(1, LEVELS + 1):
                near = [at for at, far in above.items() if far <= step and at in self._below]
                kept = list[str]()
                # the further first: of two that are above each other one stays
                for at in reversed(near):
                    if not any(top in self.of_class(at) for top in kept):
                        kept.append(at)
                known.append(tuple(kept))
        return known

    def _counted(self, tops: frozenset[str], more: frozenset[int]) -> int:
        """How many classes are at or below some of what is above classes, or are some others."""
        if len(tops) == 1 and not more:
            return sum(len(self._below[top]) for top in tops)
        found = np.zeros(len(self._classes), bool)
        for top in tops:
            found[self._below[top]] = True
        found[list(more)] = True
        return int(np.count_nonzero(found))

    def taxa(self, names: Iterable[str]) -> Mapping[str, set[str]]:
        """Rank → the taxa of that rank at or above some classes."""
        found = defaultdict[str, set[str]](set)
        for name in names:
            for at in self.of_class(name):
                if at in self._ranks:
                    found[self._ranks[at]].add(at)
        return found

    def share_below(self, taxa: Iterable[str], alike: Iterable[str] = ()) -> float:
        """The share of all classes that are at or below one of some taxa, or are alike."""
        return self._count(frozenset(taxa), self._numbers(alike)) / len(self._classes)


def _ranks(store: Path, wanted: Iterable[str]) -> Iterator[tuple[str, str]]:
    with EntityStore(store) as opened:
        for id_ in wanted:
            record = opened.get(id_)
            for statement in record.truthy(_RANK) if record else ():
                if statement.snak.value in RANKS:
                    yield id_, RANKS[statement.snak.value]
                    break


class AtRank(msgspec.Struct, frozen=True):
    """Accuracy of images with a taxon of a rank at or above them. All from 0 to 1."""

    rank: str
    images: int
    accuracy: float
    chance: float


class Levels(msgspec.Struct, frozen=True):
    """Hierarchical accuracy; lists begin with level 0, which is plain accuracy."""

    accuracy: list[float]
    chance: list[float]  # the mean share of classes that would have been right there
    mistakes: float | None  # mean distance of mistakes that have an ancestor in common
    apart: float  # the share of images whose answer has none
    ranks: list[AtRank]


def measured(
    above: Above,
    right: Sequence[Sequence[str]],
    answers: Sequence[str],
    alike: Iterable[Sequence[str]] | None = None,
) -> Levels | None:
    """Of images with the classes that are right for each and what was answered; None without any.

    ``alike`` are classes of each image that can't be told from a right one, so that a guess of them
    would be right; where one was answered, ``answers`` have the right one.
    """
    if not right:
        return None
    far = [above.levels(own, answer) for own, answer in zip(right, answers, strict=True)]
    steps = range(LEVELS + 1)
    mistakes = [level for level in far if level]
    twins = [()] * len(right) if alike is None else [tuple(some) for some in alike]
    return Levels(
        accuracy=[_share(level is not None and level <= step for level in far) for step in steps],
        chance=_chances(above, right, twins),
        mistakes=sum(mistakes) / len(mistakes) if mistakes else None,
        apart=_share(level is None for level in far),
        ranks=list(_at_ranks(above, right, answers, twins)),
    )


def _chances(
    above: Above, right: Sequence[Sequence[str]], alike: Sequence[tuple[str, ...]]
) -> list[float]:
    times = Counter((tuple(own), same) for own, same in zip(right, alike, strict=True))
    total = np.zeros(LEVELS + 1)
    for (own, same), images in times.items():
        total += images * np.array(above.shares(own, same))
    return [float(share) for share in total / len(right)]


def _at_ranks(
    above: Above,
    right: Sequence[Sequence[str]],
    answers: Sequence[str],
    alike: Sequence[tuple[str, ...]],
) -> Iterator[AtRank]:
    hits = defaultdict[str, list[bool]](list)
    chances = defaultdict[str, list[float]](list)
    for own, answer, same in zip(right, answers, alike, strict=True):
        answered = above.taxa([answer])
        for rank, taxa in above.taxa(own).items():
            hits[rank].append(bool(taxa & answered.get(rank, set())))
            chances[rank].append(above.share_below(taxa, same))
    for rank in RANKS.values():
        if rank in hits:
            yield AtRank(rank, len(hits[rank]), _share(hits[rank]), _mean(chances[rank]))


def _share(values: Iterable[bool]) -> float:
    return _mean([float(value) for value in values])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
