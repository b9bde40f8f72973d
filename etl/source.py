"""Where the bytes of a dump come from: a file of this machine, or a place that is only reached."""

from __future__ import annotations

from typing import IO

import msgspec


class Access(msgspec.Struct, frozen=True):
    """What a worker needs to reach a dump that is not a local file; travels with its job."""

    agent: str = ""  # User-Agent of requests


def open_source(path: str, access: Access) -> IO[bytes]:
    """A dump opened for reading and seeking.

    Raises OSError where it can't be read.
    """
    del access  # local files need none
    return open(path, "rb")
