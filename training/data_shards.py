"""Shards as they are read while a model trains: here, or at a place that fsspec knows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from etl.source import is_elsewhere
from training.data_index import Index
from training.data_place import Answer, asked, refuse_more_files
from training.data_tar import Damage, Sample, approach, read

#: Bytes read at once from a disk, some images, ...
_BUFFER: Final = 1 << 17
#: ... and from elsewhere, where each request takes its time; of hundreds of shards that a process
#: may read side by side each has so much in memory.
_PIECE: Final = 2 << 20


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

        Raises UserError where a place that isn't this machine's can't be reached, or no more files
        can be opened.
        """
        keys = self._index.keys(number)
        own, first = keys[part.start : part.stop], part.start + int(wanted.argmax())
        location, file = self._index.location, f"{self.name(number)}.tar"
        try:
            opened: IO[bytes] = (
                io.BufferedReader(_There(location, file), _PIECE)
                if is_elsewhere(location)
                else (Path(location) / file).open("rb", _BUFFER)
            )
        except OSError as error:  # it was there when the run began
            refuse_more_files(f"{location}/{file}", error)
            yield from _all_damaged(own, wanted.tobytes(), error)
            return
        with opened:
            approach(opened, keys, first)
            yield from read(opened, own, wanted.tobytes())


def _all_damaged(
    keys: Sequence[str], wanted: Sequence[int], error: OSError
) -> Iterator[tuple[int, Damage]]:
    for place, key in enumerate(keys):
        if wanted[place]:
            yield place, Damage(key, "unreadable", error.strerror or str(error))


class _There(io.RawIOBase):
    """A file elsewhere, which is opened again where it breaks off."""

    def __init__(self, location: str, name: str) -> None:
        self._address = f"{location}/{name}"
        self._file: Any = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            size = self._asked(self._size)
            if size is None:
                raise io.UnsupportedOperation("nobody says where it ends")
            offset += size
        self._at = offset + self._at * (whence == io.SEEK_CUR)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._asked(partial(self._read, len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _asked(self, what: Callable[[], Answer]) -> Answer:
        return asked(self._address, what, self._let_go)

    def _opened(self) -> Any:
        if self._file is None:
            import fsspec

            files, path = fsspec.url_to_fs(self._address)
            # what fsspec reads ahead would be as much again, or with s3fs 50 MB
            self._file = files.open(path, "rb", cache_type="none")
        return self._file

    def _size(self) -> int | None:
        size = getattr(self._opened(), "size", None)
        return size if isinstance(size, int) else None

    def _read(self, size: int) -> bytes:
        file = self._opened()
        if file.tell() != self._at:
            file.seek(self._at)
        found: bytes = file.read(size)
        return found

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # it is broken as it is
                file.close()

    def close(self) -> None:
        self._let_go()
        super().close()
