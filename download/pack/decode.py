"""Every file is decoded once: tasks of some thousand, each a file of JPEGs and a table of them.

    decoded/000012.jpegs     JPEGs, one after the other
    decoded/000012.parquet   a row for each file of the task, whatever came of it (DECODED)

A task is done when its table is there, which is renamed into place last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from download.fetch.bodies import Files, Place
from download.pack.decoder import Decoder
from download.pack.image import Dropped, ImageOptions, Picture
from download.pack.likeness import LENGTH
from download.pack.plan import BODIES_FILE
from etl.errors import UserError
from etl.manifest import flush
from etl.progress import Tick
from etl.tables import write_table

FOLDER: Final = "decoded"

#: In the order of BODIES. Null where there is no picture: all but ``reason`` and ``detail``.
DECODED: Final = pa.schema(
    [
        ("reason", pa.string()),  # one of download.pack.image.REASONS; null for a picture
        ("detail", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("format", pa.string()),
        ("pixels", pa.binary(32)),
        ("likeness", pa.binary(LENGTH)),
        ("offset", pa.int64()),  # of the JPEG in its file
        ("length", pa.int32()),
    ]
)


class Piece(msgspec.Struct, frozen=True):
    """A task: the row group ``index`` of BODIES, below ``work``; paths as every machine sees them.

    A Ray node gets it by pickle.
    """

    index: int
    work: str
    fetches: str
    options: ImageOptions


def table_file(work: Path, index: int) -> Path:
    """The table of a task."""
    return work / FOLDER / f"{index:06d}.parquet"


def jpegs_file(work: Path, index: int) -> Path:
    """The JPEGs of a task."""
    return work / FOLDER / f"{index:06d}.jpegs"


def decode(piece: Piece, tick: Tick) -> None:
    """Decodes the files of a task; ``tick`` is called with 1 for each.

    Raises UserError where the store lacks a file or holds another one in its place.
    """
    work = Path(piece.work)
    table, jpegs = table_file(work, piece.index), jpegs_file(work, piece.index)
    made = [path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in (jpegs, table)]
    try:
        with made[0].open("wb") as out:
            rows = [_row(found, out, tick) for found in _decoded(piece)]
        write_table(made[1], pa.Table.from_pylist(rows, DECODED))
        flush(table.parent, [path.name for path in made])
        for path, final in zip(made, (jpegs, table), strict=True):
            path.rename(final)
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _decoded(piece: Piece) -> Iterator[Picture | Dropped]:
    try:
        with Files(Path(piece.fetches)) as files:
            yield from _decoder(piece.options).encode_all(_bodies(piece, files))
    except BaseException:
        release()  # it may have been sent what nobody will take
        raise


_decoders: dict[ImageOptions, Decoder] = {}


def _decoder(options: ImageOptions) -> Decoder:
    """This process' decoder, kept from task to task: to begin one takes as long as 100 images."""
    if options not in _decoders:
        release()
        _decoders[options] = Decoder(options).__enter__()
    return _decoders[options]


def release() -> None:
    """Ends the decoder that tasks in this process have begun."""
    while _decoders:
        _decoders.popitem()[1].close()


def _bodies(piece: Piece, files: Files) -> Iterator[bytes]:
    rows = pq.ParquetFile(Path(piece.work) / BODIES_FILE).read_row_group(piece.index)
    for row in rows.to_pylist():
        body = files.read(Place(row["part"], row["offset"], row["bytes"]))
        if hashlib.sha256(body).digest() != row["sha256"]:
            raise UserError(
                f"{piece.fetches}: part {row['part']} of the store holds at byte {row['offset']} "
                "another file than the log says: it was changed or damaged."
            )
        yield body


def _row(found: Picture | Dropped, out: IO[bytes], tick: Tick) -> dict[str, Any]:
    tick(1)
    if isinstance(found, Dropped):
        return {"reason": found.reason, "detail": found.detail}
    row = {name: getattr(found, name) for name in DECODED.names if hasattr(found, name)}
    row |= {"offset": out.tell(), "length": len(found.data)}
    out.write(found.data)
    return row


def pending(work: Path, tasks: int) -> list[int]:
    """Tasks that have no table yet."""
    there = {path.stem for path in (work / FOLDER).glob("*.parquet")}
    return [index for index in range(tasks) if f"{index:06d}" not in there]


def decoded(work: Path, tasks: int, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """(task, its rows) in the order of the files."""
    for index in range(tasks):
        yield index, pq.read_table(table_file(work, index), columns=columns, partitioning=None)
