"""Writes the look-up files of :mod:`etl.inverse` from the edges that a merge has written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from etl.inverse import INVERSE, inverse_name
from etl.merged_ids import Ids, Redirects
from etl.tables import TRUTHY_ROWS

#: Pairs that are sorted at a time, about. The file's bytes don't depend on it.
PAIRS: Final = 1 << 20
_SAMPLE = 64  # every how many-th object tells how the objects are spread
_ROWS = 1 << 17  # read at a time


def write_inverses(store: Path, properties: Iterable[str], redirects: Redirects) -> list[str]:
    """Writes the files of those ``properties`` that have one; returns their names.

    ``store``: a directory with edges/. 5 million edges (P361 in all of Wikidata) take two
    seconds of one core and 150 MB of memory: they are read once for every PAIRS of them.
    """
    names = []
    for property_id in properties:
        if property_id in INVERSE:
            names.append(inverse_name(property_id))
            _write(store / f"edges/{property_id}.parquet", store / names[-1], redirects)
    return names


def _write(edges: Path, out: Path, redirects: Redirects) -> None:
    with pq.ParquetFile(edges) as parquet, out.open("wb") as file:
        for low, high in pairwise(_bounds(parquet, redirects)):
            file.write(_pairs(parquet, redirects, low, high).tobytes())


def _bounds(parquet: pq.ParquetFile, redirects: Redirects) -> list[int]:
    """Bounds of half-open ranges that cover all objects and hold about PAIRS edges each."""
    whole = np.iinfo(np.int64)
    sample = [np.zeros(0, np.int64)]
    for (objects,) in _truthy(parquet, ["object"]):
        sample.append(redirects.followed(objects[::_SAMPLE]))
    spread = np.sort(np.concatenate(sample))[:: max(PAIRS // _SAMPLE, 1)]
    return [int(whole.min), *np.unique(spread[1:]).tolist(), int(whole.max)]


def _pairs(parquet: pq.ParquetFile, redirects: Redirects, low: int, high: int) -> Ids:
    """Pairs (n, 2) of the edges whose object is from ``low`` to below ``high``, in order."""
    found = [np.zeros((0, 2), np.int64)]
    for subjects, objects in _truthy(parquet, ["subject", "object"]):
        pairs = np.column_stack((redirects.followed(objects), subjects))
        found.append(pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)])
    pairs = np.concatenate(found)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]  # the subjects stand in key order
    fresh = np.ones(len(pairs), bool)
    fresh[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[fresh]


def _truthy(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[list[Ids]]:
    """Columns of the truthy rows, which come first, some at a time."""
    left = int(parquet.metadata.metadata[TRUTHY_ROWS.encode()])
    for batch in parquet.iter_batches(_ROWS, columns=columns, use_threads=False):
        if left <= 0:
            return
        yield [batch[name].to_numpy()[:left] for name in columns]
        left -= len(batch)
