"""What looks wrong with a data set: roots inside others, shared names, classes without a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from etl.entity import entity_id, numeric_id
from graph.entities import Grouped
from graph.facts import Facts
from graph.findings import NO_IDS, Counts, Findings, Named, Rows, Scope, several
from graph.ontology import Edges, Ids, among, distinct
from graph.shared_names import shared_names
from graph.tables import grouped, id_numbers

# Share of a root's entities that another root has too from which on it counts as swallowed: there
# is no rule for it; at nine tenths what the smaller root adds is hardly more than a name.
_SWALLOWED_TENTHS = 9


def swallowed_roots(memberships: Path, roots: Sequence[str]) -> Findings:
    """Find roots that are an entity of another root, or share nine tenths of theirs with it.

    A row per pair: `id` is the root that is swallowed, `related` the other one, `count` the
    entities in both.  Of two that swallow each other it is the smaller one, of two of one size the
    one that is an entity of the other, or else has the lower id.
    """
    ids = np.sort([numeric_id(root) for root in roots])
    overlap = _Overlap(ids)
    for root, entity in _membership_rows(memberships):
        overlap.add(np.searchsorted(ids, root), entity)
    pairs = sorted(overlap.swallowed())
    swallowed, other = (ids[[pair[n] for pair in pairs]] if pairs else NO_IDS for n in (0, 1))
    count = np.array([overlap.shared[pair] for pair in pairs], np.int64)

    def sentence(row: int, named: Named) -> str:
        a, b = pairs[row]
        small, large = named(int(ids[a])), named(int(ids[b]))
        size, shared = int(overlap.size[a]), overlap.shared[a, b]
        if not size:
            return f"{small} is an entity of {large}, and keeps none of its own."
        also = "is one of them" if (a, b) in overlap.lies_in else "is not one of them"
        return (
            f"{shared:,} of the {size:,} entities of {small} are in {large} too "
            f"({shared * 1000 // size / 10:.1f} %); the root itself {also}."
        )

    related = Grouped(np.arange(len(pairs) + 1), other)
    everywhere = np.ones(len(pairs), bool)
    return Findings("root_swallows_root", None, swallowed, count, everywhere, related, sentence)


def _membership_rows(memberships: Path) -> Iterator[tuple[Ids, Ids]]:
    """Yield roots and entities in pieces that end where an entity does; rows are in its order."""
    parquet = pq.ParquetFile(memberships)
    roots, entities = NO_IDS, NO_IDS
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group, columns=["root", "entity"]).combine_chunks()
        root, entity = (id_numbers(table.column(n).combine_chunks()) for n in ("root", "entity"))
        roots, entities = np.concatenate([roots, root]), np.concatenate([entities, entity])
        end = int(np.searchsorted(entities, entities[-1]))
        yield roots[:end], entities[:end]
        roots, entities = roots[end:], entities[end:]
    yield roots, entities


class _Overlap:
    """How many entities roots have in common; roots are called by their place among `ids`."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self.size: Counts = np.zeros(len(ids), np.int64)
        self.shared: Counter[tuple[int, int]] = Counter()
        self.lies_in: set[tuple[int, int]] = set()  # (a root, another one that it is an entity of)

    def swallowed(self) -> set[tuple[int, int]]:
        """Return (a, b) where b swallows a, once for a pair."""
        found = self.lies_in | set(self._most_shared())
        return {(a, b) for a, b in found if (b, a) not in found or self._comes_first(a, b)}

    def _comes_first(self, a: int, b: int) -> bool:
        """Say which of two that swallow each other is the one to tell of."""
        rank = [(int(self.size[x]), (x, y) not in self.lies_in, x) for x, y in ((a, b), (b, a))]
        return rank[0] < rank[1]

    def _most_shared(self) -> Iterator[tuple[int, int]]:
        """Yield (a, b) where b has nine tenths of a's entities or more."""
        for (a, b), count in self.shared.items():
            if count * 10 >= int(self.size[a]) * _SWALLOWED_TENTHS:
                yield a, b

    def add(self, root: Rows, entity: Ids) -> None:
        """Count memberships, ordered by entity: all of an entity's at once."""
        self.size += np.bincount(root, minlength=len(self._ids))
        for row in np.flatnonzero(among(entity, self._ids)).tolist():
            itself = int(np.searchsorted(self._ids, entity[row]))
            if itself != root[row]:
                self.lies_in.add((itself, int(root[row])))
        # Rows of one entity stand together, so that pairs are found by shifting the column.
        for shift in range(1, len(self._ids)):
            same = entity[shift:] == entity[:-shift]
            if not same.any():
                break
            pairs = root[:-shift][same] * len(self._ids) + root[shift:][same]
            for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
                one, other = divmod(int(pair), len(self._ids))
                self.shared[one, other] += int(count)
                self.shared[other, one] += int(count)


def names_in_common(entities: Path) -> Findings:
    """Find names that several entities have: `related` are the entities, best known first."""
    found = shared_names(entities)
    nobody = np.zeros(len(found.count), np.int64)

    def sentence(row: int, named: Named) -> str:
        owners = several(found.entities, row, named)
        return f"{found.count[row]:,} entities are called “{found.names[row]}”: {owners}."

    return Findings(
        "shared_name",
        None,
        nobody,
        found.count,
        np.ones(len(nobody), bool),
        found.entities,
        sentence,
        found.names,
    )


def unlabelled_classes(scope: Scope, facts: Facts, labels: Sequence[str]) -> Findings:
    """Find items right above entities of the data set that none of the recipe's labels names.

    `related` are the entities right below, `count` says how many these are.
    """
    kept = np.flatnonzero(among(scope.child, scope.entities))
    above = distinct(scope.parent[kept])
    above = above[~among(above, scope.entities)]
    known = facts.rows(above)
    above, known = above[known >= 0], known[known >= 0]
    above = above[~facts.named(labels, known)]
    rows = kept[among(scope.parent[kept], above)]
    edges = Edges.of(
        np.searchsorted(above, scope.parent[rows]),
        np.searchsorted(scope.entities, scope.child[rows]),
    )
    related = Grouped(
        grouped(edges.subject.astype(np.int64), len(above)), scope.entities[edges.object]
    )
    count = np.diff(related.start)

    def sentence(row: int, named: Named) -> str:
        of = "entity stands" if count[row] == 1 else "entities stand"
        return (
            f"{entity_id(int(above[row]))} has no name in {', '.join(labels)} and is left out; "
            f"{count[row]:,} {of} right below it: {several(related, row, named)}."
        )

    inside = np.ones(len(above), bool)
    return Findings("unlabelled_class", None, above, count, inside, related, sentence)
