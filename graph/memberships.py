"""The rows of `memberships.parquet`: every root's members, with their evidence, united."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.tables import TableWriter
from graph.ontology import Ids
from graph.tables import MEMBERSHIPS, id_strings, lists, walk_strings

_BATCH = 1 << 16  # rows turned into text at a time; the file's bytes don't depend on it


@dataclass
class Memberships:
    """Rows of `memberships.parquet` as arrays, M of them."""

    root: Ids
    entity: Ids
    depth: npt.NDArray[np.int64]
    via: npt.NDArray[np.int64]  # a number of the build's
    part: npt.NDArray[np.int64]  # number of the recipe part, in order
    start: npt.NDArray[np.int64]  # (M + 1,) where each row's walk begins
    walk: npt.NDArray[np.int64]  # ids and steps as numbers, those of all rows on end

    def taken(self, rows: npt.NDArray[np.int64]) -> Memberships:
        """Return some rows, in the order given."""
        length = self.start[rows + 1] - self.start[rows]
        start = np.concatenate(([0], np.cumsum(length)))
        at = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], length)
        return Memberships(
            self.root[rows],
            self.entity[rows],
            self.depth[rows],
            self.via[rows],
            self.part[rows],
            start,
            self.walk[at],
        )

    @classmethod
    def joined(cls, pieces: list[Memberships]) -> Memberships:
        lengths = np.concatenate([np.diff(piece.start) for piece in pieces])
        return cls(
            np.concatenate([piece.root for piece in pieces]),
            np.concatenate([piece.entity for piece in pieces]),
            np.concatenate([piece.depth for piece in pieces]),
            np.concatenate([piece.via for piece in pieces]),
            np.concatenate([piece.part for piece in pieces]),
            np.concatenate(([0], np.cumsum(lengths))),
            np.concatenate([piece.walk for piece in pieces]),
        )


@dataclass
class United:
    """The memberships of all roots, ordered by entity, then root, by their numbers.

    Where two recipes found the same root and entity, one row stands for both: the one with the
    shorter chain, then that of the earlier recipe.
    """

    rows: Memberships  # in any order, not all of them wanted
    order: npt.NDArray[np.int64]  # (U,) the rows wanted, in order
    entities: Ids  # (N,) each once, ascending
    first_part: npt.NDArray[np.int64]  # (N,) the first recipe part that keeps the entity

    @classmethod
    def of(cls, pieces: list[Memberships]) -> United:
        rows = Memberships.joined(pieces)
        by_part = np.lexsort((rows.part, rows.entity))
        entities, first = np.unique(rows.entity[by_part], return_index=True)
        order = np.lexsort((rows.part, rows.depth, rows.root, rows.entity))
        again = (np.diff(rows.root[order]) == 0) & (np.diff(rows.entity[order]) == 0)
        order = np.delete(order, np.flatnonzero(again) + 1)
        return cls(rows, order, entities, rows.part[by_part[first]])

    @property
    def root(self) -> Ids:
        return self.rows.root[self.order]

    @property
    def entity(self) -> Ids:
        return self.rows.entity[self.order]

    @property
    def depth(self) -> npt.NDArray[np.int64]:
        return self.rows.depth[self.order]

    def write(self, file: Path, via: list[str], advance: Callable[[int], None]) -> None:
        """Write the table; `via[n]` is the text of number n.

        `advance` is called with the number of rows just written.
        """
        texts = pa.array(via, pa.string())
        with TableWriter(file, MEMBERSHIPS) as writer:
            for first in range(0, len(self.order), _BATCH):
                batch = self.rows.taken(self.order[first : first + _BATCH])
                columns = [
                    id_strings(batch.root),
                    id_strings(batch.entity),
                    pa.array(batch.depth.astype(np.int32)),
                    texts.take(pa.array(batch.via)),
                    lists(batch.start, walk_strings(batch.walk)),
                ]
                writer.write(pa.table(columns, schema=MEMBERSHIPS))
                advance(len(batch.root))
