"""The store: bodies by their sha256, in files that are only appended to, with an index.

    with Bodies(images / "fetches") as bodies:
        for sha256, place in bodies.places():  # by sha256
            data = bodies.read(place)

A body is stored once, however many URLs gave it, as far as the worker that stores it knows. The
index follows from the log: what a kill kept from it is added by the next run.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import pyarrow.compute as pc

from download.fetch.log import INDEX_FOLDER, bodies_file, parts, read_part
from etl.errors import UserError

# Address space, not disk: 32 bytes of sha256 and 22 of a place are some 80 in a B-tree whose keys
# come in no order, so this does for 800 million bodies.
_MAP_SIZE: Final = 1 << 36
_BODIES, _PARTS = b"bodies", b"parts"
_PLACE = struct.Struct(">20sQI")  # part, offset, length: a body has less than 4 GB

_OPEN_FILES: Final = 64  # of bodies, at once


class Place(NamedTuple):
    """Where a body is: ``length`` bytes from ``offset`` of the file of a part."""

    part: str
    offset: int
    length: int


class Index:
    """sha256 → place, in LMDB; one process at a time adds, others may look at the same time.

    LMDB wants a local disk. A process may have it open once only.

    Raises UserError where it can't be opened.
    """

    def __init__(self, fetches: Path) -> None:
        folder = fetches / INDEX_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._environment = lmdb.open(str(folder), map_size=_MAP_SIZE, max_dbs=2)
            self._environment.reader_check()  # what killed readers left would keep pages for ever
            self._bodies = self._environment.open_db(_BODIES)
            self._parts = self._environment.open_db(_PARTS)
        except lmdb.Error as error:
            raise UserError(
                f"{folder} can't be opened as LMDB ({error}); remove it, and the next `sparqless "
                "images fetch` makes it again."
            ) from error

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._environment.close()

    def __contains__(self, sha256: bytes) -> bool:
        with self._environment.begin(self._bodies) as transaction:
            return transaction.get(sha256) is not None

    def __len__(self) -> int:
        with self._environment.begin() as transaction:
            return int(transaction.stat(self._bodies)["entries"])

    def get(self, sha256: bytes) -> Place | None:
        """Where a body is; None where it isn't stored."""
        with self._environment.begin(self._bodies) as transaction:
            found = transaction.get(sha256)
        return None if found is None else _place(found)

    def items(self) -> Iterator[tuple[bytes, Place]]:
        """Every body, by sha256."""
        with self._environment.begin(self._bodies) as transaction:
            for sha256, place in transaction.cursor():
                yield bytes(sha256), _place(place)

    def add_part(self, fetches: Path, part: str) -> None:
        """Adds the bodies of a part that is complete; what is known stays where it is."""
        with self._environment.begin(self._bodies, write=True) as transaction:
            for sha256, offset, length in sorted(stored_in(fetches, part)):
                place = _PLACE.pack(part.encode(), offset, length)
                transaction.put(sha256, place, overwrite=False)
            transaction.put(part.encode(), b"", db=self._parts)

    def parts(self) -> set[str]:
        """The parts that have been added."""
        with self._environment.begin(self._parts) as transaction:
            return {bytes(key).decode() for key in transaction.cursor().iternext(values=False)}


def _place(packed: bytes) -> Place:
    part, offset, length = _PLACE.unpack(packed)
    return Place(part.rstrip(b"\0").decode(), offset, length)


def stored_in(fetches: Path, part: str) -> list[tuple[bytes, int, int]]:
    """(sha256, offset, length) of the bodies that a part stored, as its log says."""
    table = read_part(fetches, part, ["sha256", "offset", "bytes"])
    table = table.filter(pc.is_valid(table["offset"]))
    return list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def complete_index(fetches: Path) -> None:
    """Adds the parts that the index lacks; makes it anew where it knows parts that aren't there."""
    standing = parts(fetches)
    with Index(fetches) as index:
        known = index.parts()
    if known - {*standing}:
        shutil.rmtree(fetches / INDEX_FOLDER)
        known = set()
    with Index(fetches) as index:
        for part in standing:
            if part not in known:
                index.add_part(fetches, part)


class Files:
    """Files of bodies, opened as they are needed; needs no index, so any process may have it."""

    def __init__(self, fetches: Path) -> None:
        self._fetches = fetches
        self._open: dict[str, int] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._open.values():
            os.close(file)
        self._open.clear()

    def read(self, place: Place) -> bytes:
        """The body at a place; its sha256 is not looked at.

        Raises UserError where its file is gone or shorter.
        """
        data = os.pread(self._file(place.part), place.length, place.offset)
        if len(data) != place.length:
            raise UserError(f"{bodies_file(self._fetches, place.part)} is cut off: was it copied?")
        return data

    def _file(self, part: str) -> int:
        if part not in self._open:
            if len(self._open) == _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            path = bodies_file(self._fetches, part)
            try:
                self._open[part] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise UserError(f"{path} is gone, and the log says that it holds images.") from None
        return self._open[part]


class Bodies:
    """What is stored, for reading, while nothing is being fetched.

    Raises UserError where there is no store.
    """

    def __init__(self, fetches: Path) -> None:
        if not (fetches / INDEX_FOLDER).is_dir():
            raise UserError(f"{fetches} holds no images: run `sparqless images fetch` first.")
        self._files = Files(fetches)
        self._index = Index(fetches)

    def __enter__(self) -> Bodies:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._index.close()
        self._files.close()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, sha256: bytes) -> bool:
        return sha256 in self._index

    def places(self) -> Iterator[tuple[bytes, Place]]:
        """(sha256, place) of every body, by sha256.

        Who reads many of them sorts by place: files are then read from front to back.
        """
        return self._index.items()

    def locate(self, sha256s: Iterable[bytes]) -> Iterator[Place | None]:
        """Where each body is; None where it isn't stored."""
        return map(self._index.get, sha256s)

    def get(self, sha256: bytes) -> bytes:
        """A body.

        Raises KeyError where it isn't stored.
        """
        place = self._index.get(sha256)
        if place is None:
            raise KeyError(sha256.hex())
        return self._files.read(place)

    def read(self, place: Place) -> bytes:
        """The body at a place; its sha256 is not looked at."""
        return self._files.read(place)
