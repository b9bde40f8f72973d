"""An invented Wikidata as arrays: which items there are, and which statements link them.

Everything is drawn from a seed; only the ids of properties and of what the recipes name are
Wikidata's. What is kept real is what a graph costs: how many statements of P31, P279 and P171 an
item has, how deep and how wide the hierarchies are, that classes have several parents and some
stand in a circle, that a few classes hold most of the instances, and how many entities a recipe
finds and keeps (``docs/performance.md`` compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.kinds import FIRST_ITEM

Numbers = npt.NDArray[np.int64]

#: Part of the file name of what is made: raise it where the same seed gives something else.
VERSION: Final = 1

#: Entities, and statements of each property, of Wikidata: the counts that the densities are of
#: (Special:Statistics and the property pages' usage counts, 2025).
WIKIDATA: Final = {"entities": 118e6, "P31": 120e6, "P279": 5.1e6, "P171": 3.9e6}

CLASS, TAXON, OTHER = 0, 1, 2
_SHARES = (0.037, 0.0325)  # of classes and of taxa; their statements make the densities above

#: Classes that recipes name, and those that kinds are instances of, with what they are subclasses
#: of: as in Wikidata where that is one of them, else the topmost class.
ENTITY: Final = 35120
_CLASSES: Final = {
    ENTITY: (),
    729: (ENTITY,), 756: (ENTITY,), 764: (ENTITY,), 10683158: (ENTITY,), 4936952: (ENTITY,),
    2424752: (ENTITY,), 618123: (ENTITY,), 747883: (ENTITY,), 11663: (ENTITY,),
    25257: (11663,), 15324: (618123,), 13226383: (618123,), 811979: (13226383,), 41176: (811979,),
    42889: (2424752,), 2095: (2424752,), 11460: (2424752,), 14745: (2424752,), 39546: (2424752,),
    34379: (39546,), 712378: (4936952,), 214609: (10683158,),
    5: (729,), 24334299: (729,), 795052: (ENTITY,), 4886: (756,), 1364: (2095,), 3314483: (2095,),
    16521: (ENTITY,), 13442814: (ENTITY,), 7432: (ENTITY,),
}  # fmt: skip
HUMAN, ARTICLE, TAXON_CLASS, SPECIES = 5, 13442814, 16521, 7432
_FRUIT = 3314483
BIOTA: Final = 2382443
#: Top taxa, with the share of all taxa below each: 2.3 and 1.0 of 3.9 million are animals and
#: plants (EntityNet's README, end of 2025); the rest are fungi, bacteria and all else.
_KINGDOMS: Final = {729: 0.59, 756: 0.26, 764: 0.06, BIOTA: 0.09}

# A class's or taxon's parent is the one at place n * u^skew of those before it: a tree whose mean
# depth is ln(n) / skew, some 8 for the classes and 30 for the taxa of Wikidata.
_CLASS_SKEW, _TAXON_SKEW = 1.5, 0.42
_TOPS = 150  # invented classes right below the topmost: not all are below a root
_MORE_PARENTS = {CLASS: 0.17, TAXON: 0.02}  # statements beyond one an item
_CIRCLES = 1e-3  # of the classes also have the statement turned round
_INSTANCE_SKEW = 6.0  # of classes as the values of P31: few have nearly all instances
_MORE_P31 = 0.06
_CLASS_WITH_P31 = 0.5
# Shares of articles and of humans among items: counted over Wikidata (benchmarks/invented.py)
_ARTICLES, _HUMANS = 0.385, 0.107

#: Share of classes, taxa and others that have a property, whose values are classes. Guesses of the
#: right size: what they cost is a fraction of the hierarchies' cost.
_ATTRIBUTES: Final = {
    "P361": (0.06, 0.001, 0.045),
    "P527": (0.04, 0.001, 0.03),
    "P462": (0.004, 0.01, 0.001),
    "P1552": (0.01, 0.001, 0.0),
    "P1535": (0.004, 0.0, 0.0),
    "P1034": (0.0, 0.002, 0.0),
    "P1542": (0.002, 0.0, 0.0),
    "P136": (0.001, 0.0, 0.02),
    "P1056": (0.003, 0.0, 0.001),
    "P186": (0.02, 0.0, 0.008),
    "P2079": (0.002, 0.0, 0.0005),
    "P137": (0.0, 0.0, 0.006),
    "P2283": (0.01, 0.0, 0.0),
    "P366": (0.015, 0.001, 0.0),
    "P2974": (0.0, 0.01, 0.0),
    "P183": (0.0, 0.02, 0.0),
    "P1419": (0.002, 0.001, 0.0),
    "P141": (0.0, 0.05, 0.0),
    "P17": (0.01, 0.0, 0.15),
    "P276": (0.0, 0.0, 0.02),
}
_FRUITS = 5e-4  # of the taxa are named by a fruit (P1672)


@dataclass(frozen=True, eq=False)
class Claims:
    """The statements of a property, ordered by their subject."""

    subject: Numbers  # (E,) places of items
    object: Numbers  # (E,) ids

    def between(self, first: int, last: int) -> Claims:
        """Those of the items from one place to another, counted from there."""
        begin, end = np.searchsorted(self.subject, (first, last))
        return Claims(self.subject[begin:end] - first, self.object[begin:end])


@dataclass(frozen=True, eq=False)
class World:
    """N items, ordered by their ids."""

    ids: Numbers  # (N,) ascending
    kind: npt.NDArray[np.uint8]  # (N,) CLASS, TAXON or OTHER
    sitelinks: npt.NDArray[np.int32]  # (N,)
    claims: dict[str, Claims]

    def between(self, first: int, last: int) -> World:
        """The items from one place to another."""
        return World(
            self.ids[first:last],
            self.kind[first:last],
            self.sitelinks[first:last],
            {name: claims.between(first, last) for name, claims in self.claims.items()},
        )


def drawn(items: int, seed: int) -> World:
    """A world of so many items, the same for the same seed.

    Raises ValueError where there is no room for what the recipes name.
    """
    named = np.array(sorted({*_CLASSES, BIOTA}))
    if items < 10 * len(named):
        raise ValueError(f"a world has {10 * len(named)} items at least, not {items}")
    rng = np.random.default_rng(seed)
    ids = np.concatenate([named, FIRST_ITEM + np.arange(items - len(named))])
    kind = np.digitize(rng.random(items), np.cumsum(_SHARES)).astype(np.uint8)
    kind[: len(named)] = np.where(named == BIOTA, TAXON, CLASS)
    classes = _in_order(rng, ids, kind == CLASS, list(_CLASSES))
    taxa = _in_order(rng, ids, kind == TAXON, [BIOTA])
    claims = {
        "P31": _instances(rng, ids, kind, classes),
        "P279": _subclasses(rng, ids, classes),
        "P171": _taxonomy(rng, ids, taxa),
        **_attributes(rng, ids, kind, classes),
        "P1672": _fruits(rng, ids, taxa),
        "P105": Claims(np.sort(taxa[1:]), np.full(len(taxa) - 1, SPECIES)),
    }
    return World(ids, kind, _sitelinks(rng, items), claims)


def _in_order(
    rng: np.random.Generator, ids: Numbers, chosen: npt.NDArray[np.bool_], first: list[int]
) -> Numbers:
    """Places of some items in the order in which they join a tree: some ids first."""
    places = np.searchsorted(ids, first)
    rest = np.setdiff1d(np.flatnonzero(chosen), places, assume_unique=True)
    return np.concatenate([places, rng.permutation(rest)])


def _sitelinks(rng: np.random.Generator, items: int) -> npt.NDArray[np.int32]:
    """Few have many: 71.4 % have none (benchmarks/invented.py), one in n times as many has n."""
    return np.minimum(0.286 / (1 - rng.random(items)), 400).astype(np.int32)


def _claims(subject: Numbers, object: Numbers) -> Claims:
    order = np.argsort(subject, kind="stable")
    return Claims(subject[order], object[order])


def _skewed(rng: np.random.Generator, below: Numbers, skew: float) -> Numbers:
    """A number below each of some numbers, low ones more often."""
    return (below * rng.random(len(below)) ** skew).astype(np.int64)


def _instances(
    rng: np.random.Generator, ids: Numbers, kind: npt.NDArray[np.uint8], classes: Numbers
) -> Claims:
    has = (kind != CLASS) | (rng.random(len(ids)) < _CLASS_WITH_P31)
    again = (kind == OTHER) & (rng.random(len(ids)) < _MORE_P31)
    subject = np.concatenate([np.flatnonzero(has), np.flatnonzero(again)])
    of = _skewed(rng, np.full(len(subject), len(classes)), _INSTANCE_SKEW)
    object = ids[classes[of]]
    share = rng.random(len(subject)) * (1 - sum(_SHARES))
    object[share < _ARTICLES + _HUMANS] = HUMAN
    object[share < _ARTICLES] = ARTICLE
    object[kind[subject] == TAXON] = TAXON_CLASS
    return _claims(subject, object)


def _subclasses(rng: np.random.Generator, ids: Numbers, classes: Numbers) -> Claims:
    tops = len(_CLASSES) + min(_TOPS, len(classes) // 20)
    child, parent = _tree(rng, len(_CLASSES), len(classes), _CLASS_SKEW, _MORE_PARENTS[CLASS])
    parent[child < tops] = 0
    turned = np.flatnonzero((rng.random(len(child)) < _CIRCLES) & (parent >= tops))
    child, parent = np.append(child, parent[turned]), np.append(parent, child[turned])
    named = [(c, p) for c, parents in _CLASSES.items() for p in parents]
    top = np.searchsorted(ids, np.array(named))
    return _claims(
        np.concatenate([top[:, 0], classes[child]]),
        np.concatenate([ids[top[:, 1]], ids[classes[parent]]]),
    )


def _taxonomy(rng: np.random.Generator, ids: Numbers, taxa: Numbers) -> Claims:
    """One tree a kingdom, all of them below biota."""
    tops = [top for top in _KINGDOMS if top != BIOTA]
    subject, object = [np.searchsorted(ids, tops)], [np.full(len(tops), BIOTA)]
    ends = (np.cumsum([0.0, *_KINGDOMS.values()]) * (len(taxa) - 1)).astype(np.int64) + 1
    for top, first, last in zip(_KINGDOMS, ends[:-1], ends[1:], strict=True):
        below = np.concatenate([np.searchsorted(ids, [top]), taxa[first:last]])
        child, parent = _tree(rng, 1, len(below), _TAXON_SKEW, _MORE_PARENTS[TAXON])
        subject.append(below[child])
        object.append(ids[below[parent]])
    return _claims(np.concatenate(subject), np.concatenate(object))


def _tree(
    rng: np.random.Generator, first: int, size: int, skew: float, more: float
) -> tuple[Numbers, Numbers]:
    """(child, parent) of the places from ``first`` on, each below one before it or several."""
    child = np.arange(first, size)
    child = np.concatenate([child, child[rng.random(len(child)) < more]])
    return child, _skewed(rng, child, skew)


def _attributes(
    rng: np.random.Generator, ids: Numbers, kind: npt.NDArray[np.uint8], classes: Numbers
) -> dict[str, Claims]:
    claims = {}
    for name, shares in _ATTRIBUTES.items():
        subject = np.flatnonzero(rng.random(len(ids)) < np.array(shares)[kind])
        value = _skewed(rng, np.full(len(subject), len(classes)), 2.0)
        claims[name] = Claims(subject, ids[classes[value]])
    return claims


def _fruits(rng: np.random.Generator, ids: Numbers, taxa: Numbers) -> Claims:
    """Taxa that a fruit comes from; the fruits are named classes, which have no P171."""
    subject = np.sort(taxa[rng.random(len(taxa)) < _FRUITS])
    return Claims(subject, np.full(len(subject), _FRUIT))
