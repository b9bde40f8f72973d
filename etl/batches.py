"""Items taken so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items in their order, the last with what is left.

    itertools.batched, which Python has from 3.12 on.
    """
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
