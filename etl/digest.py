"""The digest of a store's records, which a manifest states and `sparqless verify` makes again.

Apart from ``etl/store.py``: who reads a few records of a store needs no numpy, whose import takes
longer than they do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

from etl.progress import Tick
from etl.store import ENTITIES, FULL, open_database, open_environment


class StreamDigest:
    """Digest of a store's contents: its key/value stream in key order, however it came in pieces.

    ``keys`` runs over big-endian key and little-endian uint32 length of every value, ``values``
    over the values. ``data.mdb``'s own bytes depend on LMDB's page history.
    """

    def __init__(self) -> None:
        self._keys, self._values = hashlib.sha256(), hashlib.sha256()
        self.records = 0

    def add(
        self, keys: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint32], values: Any
    ) -> None:
        """Adds n records: keys (n,), lengths (n,), and their values' bytes joined."""
        heads = np.empty(len(keys), [("key", ">u8"), ("length", "<u4")])
        heads["key"], heads["length"] = keys, lengths
        self._keys.update(heads.tobytes())
        self._values.update(values)
        self.records += len(keys)

    def as_json(self) -> dict[str, Any]:
        """What the manifest records."""
        return {
            "records": self.records,
            "keys_sha256": self._keys.hexdigest(),
            "values_sha256": self._values.hexdigest(),
        }


def digest_of(directory: Path, tick: Tick = lambda records: None) -> dict[str, Any]:
    """The digest of the records that stand in a store's LMDB now; ``tick`` counts them."""
    with open_environment(directory, readahead=True) as environment:
        contents = _digest_of_database(environment, ENTITIES, tick)
        with environment.begin() as transaction:
            keeps_full = transaction.get(FULL) is not None
        if keeps_full:
            contents["full"] = _digest_of_database(environment, FULL, lambda _: None)
    return contents


def _digest_of_database(environment: lmdb.Environment, name: bytes, tick: Tick) -> dict[str, Any]:
    digest = StreamDigest()
    with environment.begin(db=open_database(environment, name)) as transaction:
        for batch in _batches(transaction.cursor(), 1 << 14):
            keys = np.frombuffer(b"".join(k for k, _ in batch), ">u8").astype(np.uint64)
            lengths = np.array([len(v) for _, v in batch], np.uint32)
            digest.add(keys, lengths, b"".join(v for _, v in batch))
            tick(len(batch))
    return digest.as_json()


def _batches(cursor: Any, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    for pair in cursor:
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
