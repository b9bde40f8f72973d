"""Standard input, whose first bytes can be looked at and are read all the same."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import IO


class Pushback:
    """A stream that can't go back, with its beginning kept until it is read.

    ``peek`` of a pipe's own buffer gives what the first write brought, be it one byte.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._head = file, b""

    def peek(self, size: int) -> bytes:
        """The first ``size`` bytes, fewer where the stream is shorter. To be called before read."""
        self._head = self._head or self._file.read(size)
        return self._head

    def read(self, size: int) -> bytes:
        """About ``size`` bytes, nothing at the end."""
        head, self._head = self._head, b""
        return head or self._file.read(size)


def standard_input() -> Pushback | None:
    """Standard input, the same one at every call; None where the process has none."""
    return None if sys.stdin is None else _pushback(sys.stdin.buffer)


@lru_cache(maxsize=1)
def _pushback(file: IO[bytes]) -> Pushback:
    return Pushback(file)
