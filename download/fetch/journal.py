"""Batches of attempts on their way into the log and the store: a journal until they are sealed.

    journal = Journal(fetches, part_name(run, worker, number))
    journal.add(row, body)  # written at once: a kill costs what is on the way, nothing that is here
    journal.close()
    seal(fetches, journal.part, index)

A batch is two files in ``open/``: bodies, one after the other, and a line for each attempt, which
is written after its body. Sealing puts both on the disk, moves the bodies into the store and then
the rows, as a table, into the log; whatever a kill leaves of it is done by the next
:func:`take_up`. Nothing is flushed to the disk before that, so a power cut, unlike a kill, may cost
the attempts of an open batch; what it left half written is told by its sha256.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from download.fetch.bodies import Index
from download.fetch.log import (
    LOG_FOLDER,
    OPEN_FOLDER,
    STORE_FOLDER,
    Row,
    bodies_file,
    log_file,
    table_of,
)
from etl.manifest import flush
from etl.tables import write_table

_PIECE: Final = 1 << 20
_decode = msgspec.json.Decoder(Row).decode


class Written(Protocol):
    """What writes itself: a body that was fetched."""

    def copy_to(self, file: Any, /) -> None: ...


def make_folders(fetches: Path) -> None:
    """Makes the folders that journals write into."""
    for name in (LOG_FOLDER, STORE_FOLDER, OPEN_FOLDER):
        (fetches / name).mkdir(parents=True, exist_ok=True)


class Journal:
    """One batch under way. ``known`` says of a sha256 whether its body is stored elsewhere.

    ``rows`` and ``size`` (bytes of bodies) say how long it is by now. ``sha256s`` are of the bodies
    that it holds.
    """

    def __init__(
        self, fetches: Path, part: str, known: Callable[[bytes], bool] = lambda sha256: False
    ) -> None:
        self.part = part
        self.rows = self.size = 0
        self.sha256s: set[bytes] = set()
        self._known = known
        self._lines = _Appended(_journal(fetches, part))
        self._bodies = _Appended(_open_bodies(fetches, part))

    def add(self, row: Row, body: Written | None = None) -> None:
        """Writes a body, where it is not known, and its row; sets the row's ``offset``.

        Raises OSError where the disk is full; what was added before stays whole.
        """
        if body is not None and row.sha256 is not None and not self._has(row.sha256):
            row = msgspec.structs.replace(row, offset=self._append(body))
            self.sha256s.add(row.sha256 or b"")
        self._lines.write(msgspec.json.encode(row) + b"\n")
        self.rows += 1

    def _has(self, sha256: bytes) -> bool:
        return sha256 in self.sha256s or self._known(sha256)

    def _append(self, body: Written) -> int:
        offset = self.size
        try:
            body.copy_to(self._bodies)
        except BaseException:
            self._bodies.cut(offset)
            raise
        self.size = self._bodies.size
        return offset

    def close(self) -> None:
        """Closes the files; the batch can be sealed then."""
        self._lines.close()
        self._bodies.close()


class _Appended:
    """A file that is written at its end, each time all that is given, without a buffer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self.size = 0

    def write(self, data: bytes | bytearray) -> int:
        left = memoryview(data)
        while left:
            written = os.write(self._file, left)
            self.size += written
            left = left[written:]
        return len(data)

    def cut(self, size: int) -> None:
        os.ftruncate(self._file, size)
        self.size = size

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def seal(fetches: Path, part: str, index: Index | None, *, doubted: bool = False) -> None:
    """Makes a closed batch a part of the log and the store; nothing is left where it has no rows.

    ``doubted``: its bodies are compared with the sha256 in its rows, and what isn't so is left out;
    then the index is needed. Can be called again after a kill at any moment.

    Raises OSError where the disk is full; the batch stays as it is then.
    """
    if not log_file(fetches, part).exists():
        bodies = _bodies_of(fetches, part)
        rows = list(_lines_of(fetches, part))
        if doubted and index is not None:
            rows = _true(rows, bodies, index)
        if rows:
            _settle(fetches, part, rows, bodies)
    if index is not None and log_file(fetches, part).exists():
        index.add_part(fetches, part)
    for path in (_open_bodies(fetches, part), _table(fetches, part), _journal(fetches, part)):
        path.unlink(missing_ok=True)


def _settle(fetches: Path, part: str, rows: Sequence[Row], bodies: Path) -> None:
    """Puts bodies and rows in their places, the rows last."""
    end = max((row.offset + (row.size or 0) for row in rows if row.offset is not None), default=0)
    write_table(_table(fetches, part), table_of(rows))
    if end:
        os.truncate(bodies, end)
        flush(bodies.parent, [bodies.name])
        bodies.replace(bodies_file(fetches, part))
        flush(fetches / STORE_FOLDER, [])
    flush(fetches / OPEN_FOLDER, [_table(fetches, part).name])
    _table(fetches, part).replace(log_file(fetches, part))
    flush(fetches / LOG_FOLDER, [])


def take_up(fetches: Path, index: Index) -> None:
    """Seals what earlier runs left open; nobody else may be writing."""
    folder = fetches / OPEN_FOLDER
    for part in sorted(path.stem for path in folder.glob("*.ndjson")):
        seal(fetches, part, index, doubted=True)
    for path in folder.iterdir():  # of a batch whose journal is gone or never came to be
        path.unlink()


def _true(rows: Sequence[Row], bodies: Path, index: Index) -> list[Row]:
    """The rows whose bodies are what they say, or need none."""
    kept: list[Row] = []
    here: set[bytes] = set()
    size = bodies.stat().st_size if bodies.exists() else 0
    for row in rows:
        if row.sha256 is not None:
            if row.offset is not None:
                if not _is_there(bodies, size, row):
                    continue
                here.add(row.sha256)
            elif row.sha256 not in here and row.sha256 not in index:
                continue
        kept.append(row)
    return kept


def _is_there(bodies: Path, size: int, row: Row) -> bool:
    assert row.offset is not None
    left = row.size or 0
    if row.offset + left > size:
        return False
    digest = hashlib.sha256()
    with bodies.open("rb") as file:
        file.seek(row.offset)
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
    return digest.digest() == row.sha256


def _lines_of(fetches: Path, part: str) -> Iterator[Row]:
    """The rows of a journal up to the first line that isn't whole."""
    path = _journal(fetches, part)
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = _decode(line)
            except msgspec.DecodeError:
                return
            if line.endswith(b"\n"):
                yield row


def _journal(fetches: Path, part: str) -> Path:
    return fetches / OPEN_FOLDER / f"{part}.ndjson"


def _open_bodies(fetches: Path, part: str) -> Path:
    return fetches / OPEN_FOLDER / f"{part}.bodies"


def _table(fetches: Path, part: str) -> Path:
    return fetches / OPEN_FOLDER / f"{part}.parquet"


def _bodies_of(fetches: Path, part: str) -> Path:
    """Where the bodies of a batch are that was killed before, or after, they were moved."""
    moved = bodies_file(fetches, part)
    return moved if moved.exists() else _open_bodies(fetches, part)
