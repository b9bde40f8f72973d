"""A store's redirects as arrays, for ids by the million; ``EntityStore.resolve`` is for one id.

Apart from ``etl/redirects.py``, which makes them: paths need nothing of what reads dumps, and
loading it would take as long as a short path does.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from etl.store import REDIRECTS

Ids = npt.NDArray[np.int64]  # Q144 -> 144, P31 -> -31, as in nodes.parquet


@dataclass(frozen=True, eq=False)
class Redirects:
    """Which ids were merged into which; 16 bytes each."""

    ids: Ids  # ascending
    targets: Ids

    @classmethod
    def load(cls, store: Path, outputs: Container[str]) -> Redirects:
        """Reads the table that the ``outputs`` of the store's manifest list; else there is none.

        5 million redirects take some 0.2 s.
        """
        if REDIRECTS not in outputs:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        table = pq.read_table(store / REDIRECTS)
        ids, targets = (table.column(name).to_numpy() for name in ("id", "target"))
        properties = int(np.count_nonzero(ids < 0))  # stand first, -1 before -2
        return cls(*(np.append(c[:properties][::-1], c[properties:]) for c in (ids, targets)))

    def __len__(self) -> int:
        return len(self.ids)

    def followed(self, ids: Ids) -> Ids:
        """``ids`` with those that redirect replaced by what they lead to."""
        if not len(self.ids):
            return ids
        at = np.searchsorted(self.ids, ids)
        at[at == len(self.ids)] = 0
        return np.where(self.ids[at] == ids, self.targets[at], ids)

    def leading_to(self, targets: Ids) -> Ids:
        """Ids that redirect to one of ``targets``."""
        return self.ids[np.isin(self.targets, targets)]
