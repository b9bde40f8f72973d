"""Subjects by object, for the few properties that recipes and rules walk backward.

``edges/P1672.parquet`` is ordered by subject, so that whoever asks which subjects lead to one
object looks through all of it. ``edges/P1672.inverse.bin`` beside it answers in microseconds:
pairs of int64 (object, subject) of the truthy statements, each pair once, ordered by object and
of one object in key order (properties, then items). Ids are written as in the Parquet files, Q144
as 144 and P31 as -31, in the machine's byte order, like LMDB's file. Of an object that was merged
into another the pair has that other. ``etl/merge_inverse.py`` writes them.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Final

#: Properties that have such a file where a store keeps them; others are looked through.
INVERSE: Final = (
    "P361",  # part of: walked backward for the parts of a thing, as attributes
    "P1672",  # this taxon is source of: walked backward by the recipe `living`, for its products
)


def inverse_name(property_id: str) -> str:
    """Name of a property's file in a store, as its manifest lists it."""
    return f"edges/{property_id}.inverse.bin"


class Inverse:
    """A file of pairs, mapped: what isn't asked for isn't read."""

    def __init__(self, file: Path) -> None:
        self._numbers = memoryview(b"").cast("q")
        with file.open("rb") as opened:
            if file.stat().st_size:  # an empty file can't be mapped
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                self._numbers = memoryview(mapped).cast("q")
        self._objects = self._numbers[::2]

    def subjects(self, object_: int) -> list[int]:
        """Subjects whose truthy statements lead to an object, in key order."""
        first = bisect_left(self._objects, object_)
        last = bisect_right(self._objects, object_, first)
        return self._numbers[2 * first + 1 : 2 * last : 2].tolist()
