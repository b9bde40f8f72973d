"""Decontamination: which pictures also stand in evaluation sets, and how that is known.

    references = read([Path("imagenet/val"), Path("flickr30k.tar")], ImageOptions())
    for match in matches(references, sha256s, pixels, likenesses):
        match.row, match.reference, match.kind, match.similarity

A place is a directory of images, a tar of them (webdataset's, say), a Parquet file that
:func:`write` made, or a text with the SHA-256 of a file in each line, as ``sha256sum`` prints them.
A directory is gone through with all below it, tars and all. Images are made smaller as those of the
data set are, and never dropped for what they show.

A picture matches by the bytes of its file, by its pixels, or by its likeness, as it is or mirrored
(training mirrors pictures). The likeness may be less like than a duplicate's: to lose a picture of
another thing costs little here, to train on an evaluation set costs the evaluation.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from download.pack import duplicates, likeness
from download.pack.decoder import Decoder
from download.pack.image import Dropped, ImageOptions
from etl.errors import UserError
from etl.progress import Progress
from etl.tables import write_table

Bytes = npt.NDArray[np.uint8]

#: At this similarity a picture counts as a reference's copy. Figures: docs/performance.md.
SAME: Final = 0.9

#: How a match is known, surest first.
KINDS: Final = ("sha256", "pixels", "likeness", "mirrored")

#: References as a table; those that were only hashes, or aren't readable, have no pixels.
REFERENCES: Final = pa.schema(
    [
        ("reference", pa.string()),
        ("sha256", pa.binary(32)),
        ("pixels", pa.binary(32)),
        ("likeness", pa.binary(likeness.LENGTH)),
    ]
)

_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".avif")
)
_TARS: Final = (".tar", ".tar.gz", ".tgz")
_HEX = 64  # figures of a SHA-256


@dataclass(frozen=True)
class References:
    """Pictures that must not be trained on: ``table`` is one of REFERENCES.

    ``unread`` are the references that no picture could be made of, and why: only the bytes of
    their files are compared.
    """

    table: pa.Table
    unread: dict[str, str]

    @property
    def names(self) -> list[str]:
        """A word for each row: the file's path, its place in a tar, or the hash itself."""
        names: list[str] = self.table["reference"].to_pylist()
        return names


class Match(NamedTuple):
    """Picture ``row`` is ``reference``, known by one of KINDS; ``similarity`` is 1 if exactly."""

    row: int
    reference: str
    kind: str
    similarity: float


class _Image(NamedTuple):
    name: str
    body: bytes


def read(places: Sequence[Path], options: ImageOptions, *, quiet: bool = True) -> References:
    """The references at some places; ``options`` are those that the data set's images have.

    Raises UserError where a place isn't there, isn't of a known kind or has nothing in it.
    """
    tables, unread = [REFERENCES.empty_table()], dict[str, str]()
    for place in places:
        rows = _read(place, _lenient(options), unread, quiet)
        if not rows.num_rows:
            raise _nothing(place)
        tables.append(rows)
    return References(pa.concat_tables(tables).combine_chunks(), unread)


def check(places: Sequence[Path]) -> None:
    """Refuses what :func:`read` would refuse, as far as no image has to be decoded for that."""
    for place in places:
        if _has_images(place):
            found = next(_images(place), None) is not None
        else:
            found = _hashes(place).num_rows > 0
        if not found:
            raise _nothing(place)


def _nothing(place: Path) -> UserError:
    return UserError(
        f"{place}: no images and no hashes there. Give a directory or a tar of images, a "
        "Parquet file of references, or a text with a SHA-256 in each line."
    )


def write(references: References, path: Path) -> None:
    """Keeps references in a Parquet file, which ``read`` takes as a place."""
    write_table(path, references.table)


def matches(
    references: References,
    sha256s: Sequence[bytes],
    pixels: Sequence[bytes],
    likenesses: Bytes,
    *,
    same: float = SAME,
    scratch: Path | None = None,
) -> list[Match]:
    """What stands among the references, in order of rows, each row once, by its surest match.

    ``sha256s`` and ``pixels`` are digests of 32 bytes, of files and of their pixels, ``likenesses``
    (n, LENGTH) uint8, all by row.
    """
    found: dict[int, Match] = {}
    for kind, digests in (("sha256", sha256s), ("pixels", pixels)):
        known = _known(references.table, kind)
        for row, digest in enumerate(digests):
            if digest in known:
                found.setdefault(row, Match(row, known[digest], kind, 1.0))
    for match in _alike(references, likenesses, same, scratch):
        found.setdefault(match.row, match)
    return [found[row] for row in sorted(found)]


def _known(table: pa.Table, column: str) -> dict[bytes, str]:
    """Digest → the first reference that has it."""
    names, digests = table["reference"].to_pylist(), table[column].to_pylist()
    pairs = zip(reversed(digests), reversed(names), strict=True)
    return {digest: name for digest, name in pairs if digest is not None}


def _alike(
    references: References, likenesses: Bytes, same: float, scratch: Path | None
) -> Iterator[Match]:
    """Matches by likeness, the most similar of a row first; as it is before mirrored."""
    table = references.table.filter(references.table["likeness"].is_valid())
    names = table["reference"].to_pylist()
    many = likeness.likenesses(table["likeness"].to_pylist())
    for kind, seen in (("likeness", many), ("mirrored", likeness.mirrored(many))):
        pairs, similarity = duplicates.matches(likenesses, seen, same=same, scratch=scratch)
        for place in np.lexsort((pairs[:, 1], -similarity, pairs[:, 0])):
            row, reference = pairs[place].tolist()
            yield Match(row, names[reference], kind, round(float(similarity[place]), 4))


# ------------------------------------------------------------------------------- places


def _lenient(options: ImageOptions) -> ImageOptions:
    """The same pictures, and none is dropped for its size or for what it shows."""
    return msgspec.structs.replace(
        options, min_side=1, max_aspect=1e9, drop_blank=False, drop_text=False
    )


def _read(place: Path, options: ImageOptions, unread: dict[str, str], quiet: bool) -> pa.Table:
    return _of_images(place, options, unread, quiet) if _has_images(place) else _hashes(place)


def _has_images(place: Path) -> bool:
    if not place.exists():
        raise UserError(f"{place}: there is no such file or directory.")
    return place.is_dir() or place.name.lower().endswith(_TARS)


def _hashes(place: Path) -> pa.Table:
    return _of_table(place) if place.suffix == ".parquet" else _of_text(place)


def _of_images(place: Path, options: ImageOptions, unread: dict[str, str], quiet: bool) -> pa.Table:
    columns: dict[str, list[str | bytes | None]] = {name: [] for name in REFERENCES.names}
    images, bodies = tee(_images(place))
    with (
        Decoder(options) as decoder,
        Progress(f"reading {place}", None, unit=" images", quiet=quiet) as progress,
    ):
        made = decoder.encode_all(image.body for image in bodies)
        for image, picture in zip(images, made, strict=True):
            columns["reference"].append(image.name)
            columns["sha256"].append(hashlib.sha256(image.body).digest())
            if isinstance(picture, Dropped):
                unread[image.name] = picture.reason
            columns["pixels"].append(None if isinstance(picture, Dropped) else picture.pixels)
            columns["likeness"].append(None if isinstance(picture, Dropped) else picture.likeness)
            progress.add(1)
    return pa.table(columns, schema=REFERENCES)


def _images(place: Path) -> Iterator[_Image]:
    """Images of a directory and all below it, by their paths, or of a tar, as they come."""
    if not place.is_dir():
        yield from _in_tar(place)
        return
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        if path.suffix.lower() in _SUFFIXES:
            yield _Image(str(path), path.read_bytes())
        elif path.name.lower().endswith(_TARS):
            yield from _in_tar(path)


def _in_tar(path: Path) -> Iterator[_Image]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file and Path(member.name).suffix.lower() in _SUFFIXES:
                    yield _Image(f"{path}/{member.name}", file.read())
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = str(error).partition("\n")[0].rstrip(":.")
        raise UserError(f"{path}: not a whole tar ({reason}).") from error


def _of_table(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, columns=REFERENCES.names)
        return table.cast(REFERENCES)
    except (pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{path}: no table of references ({reason}): it has to have the columns "
            f"{', '.join(REFERENCES.names)}, as this version of sparqless writes them."
        ) from error


def _of_text(path: Path) -> pa.Table:
    names, digests = [], []
    for number, digest, name in _lines(path):
        try:
            if len(digest) != _HEX:
                raise ValueError
            digests.append(bytes.fromhex(digest))
        except ValueError:
            raise UserError(
                f"{path}, line {number}: {digest[:80]!r} is no SHA-256, which is 64 hexadecimal "
                "figures."
            ) from None
        names.append(name or digest)
    nothing = [None] * len(names)
    columns = {"reference": names, "sha256": digests, "pixels": nothing, "likeness": nothing}
    return pa.table(columns, schema=REFERENCES)


def _lines(path: Path) -> Iterable[tuple[int, str, str]]:
    """Number, hash and what follows it, of the lines that aren't empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                digest, _, name = line.strip().partition(" ")
                if digest:
                    yield number, digest.lower(), name.strip(" *")
    except UnicodeDecodeError:
        raise UserError(f"{path}: neither images, nor a table, nor a text of hashes.") from None
