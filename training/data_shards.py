"""Shards as they are read while a model trains: here, or at a place that fsspec knows."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from etl.location import reaching
from etl.source import is_elsewhere
from training.data_index import Index
from training.data_tar import Damage, Sample, read

_BUFFER: Final = 1 << 18  # bytes read at once from a disk: some images
_PIECE: Final = 4 << 20  # ... from elsewhere, where each request takes its time

#: Seconds before a place that didn't answer is asked again, each time. A storage's own client
#: tries some times before that.
_WAITS: Final = (1.0, 5.0, 20.0, 60.0)


class Shards:
    """The shards of an index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def name(self, number: int) -> str:
        """train-000012."""
        return self._index.shards[number]

    def read(
        self, number: int, part: range, wanted: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[int, Sample | Damage]]:
        """(which of ``part``, image) of a shard's images for each that is wanted, in their order.

        Raises UserError where a place that isn't this machine's can't be reached.
        """
        keys = self._index.keys(number)[part.start : part.stop]
        location, file = self._index.location, f"{self.name(number)}.tar"
        if is_elsewhere(location):
            with io.BufferedReader(_There(location, file), _PIECE) as there:
                yield from read(there, keys, wanted.tolist())
            return
        try:
            here = (Path(location) / file).open("rb", _BUFFER)
        except OSError as error:  # it was there when the run began
            yield from _all_damaged(keys, wanted.tolist(), error)
            return
        with here:
            yield from read(here, keys, wanted.tolist())


def _all_damaged(
    keys: Sequence[str], wanted: Sequence[bool], error: OSError
) -> Iterator[tuple[int, Damage]]:
    for place, key in enumerate(keys):
        if wanted[place]:
            yield place, Damage(key, "unreadable", error.strerror or str(error))


class _There(io.RawIOBase):
    """A file elsewhere, which is opened again where it breaks off."""

    def __init__(self, location: str, name: str) -> None:
        self._address = f"{location}/{name}"
        self._file: IO[bytes] | None = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("from the end")
        self._at = offset if whence == io.SEEK_SET else self._at + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        for pause in (*_WAITS, None):
            try:
                data = self._read(len(buffer))
                break
            except Exception:  # each storage has its own
                self._let_go()
                if pause is None:
                    with reaching(self._address):
                        raise
                time.sleep(pause)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._file is None:
            import fsspec

            files, path = fsspec.url_to_fs(self._address)
            self._file = files.open(path, "rb")
        if self._file.tell() != self._at:
            self._file.seek(self._at)
        return self._file.read(size)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # it is broken as it is
                file.close()

    def close(self) -> None:
        self._let_go()
        super().close()
