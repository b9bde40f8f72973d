"""Images to evaluate on, with what is right for each: from our shards, or from folders.

**Shards**: ``sparqless images pack``'s, of one split; right are the entities that an image shows.

**Folders**: ``DIR/<class>/….jpg``, as ImageNet and its relatives are laid out. Files of one content
are one image, for which all its classes are right. A text file beside an image (``x.txt`` of
``x.jpg``) has its captions, one a line.

Images are turned by nobody, whatever their EXIF says: so does torchvision, whose figures others
publish.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from PIL import Image, UnidentifiedImageError

from download.pack.record import Record
from etl.errors import UserError
from training.data_index import default_cache, index_of
from training.data_shards import Shards
from training.data_tar import REASONS, Damage, Sample

#: Kinds of files that are taken for images, by the ends of their names.
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

#: What Pillow may read them as, whatever their names: no format that runs a program or reaches for
#: other files. A JPEG of several pictures (MPO, of cameras and phones) is opened as JPEG.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

#: What Pillow raises for files that are no such image, cut off, damaged, or too large to be one.
_UNDECODABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass
class Picture:
    """An image that isn't decoded yet."""

    key: str  # of a shard, or the path in its folder
    data: bytes | Path
    labels: list[str] = field(default_factory=list)  # keys of classes
    texts: list[str] = field(default_factory=list)
    sha256: bytes = b""  # of a folder's file

    def load(self) -> Image.Image:
        """The decoded image, RGB.

        Raises UserError for one that can't be.
        """
        source: Any = io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data
        try:
            with Image.open(source, formats=_FORMATS) as image:
                return image.convert("RGB")
        except _UNDECODABLE as error:
            remedy = "pack again" if isinstance(self.data, bytes) else "repair or remove it"
            unknown = isinstance(error, UnidentifiedImageError)
            why = f"it is none of {', '.join(_FORMATS)}" if unknown else str(error)
            raise UserError(f"{self.key} can't be decoded ({why}): {remedy}.") from error


def of_shards(
    location: str, split: str, texts: int, *, limit: int = 0, cache: Path | None = None
) -> Iterator[Picture]:
    """The images of a split, by key, each with ``texts`` texts at most.

    ``limit``: the first so many, 0: all; keys are digests, so these are of all kinds. Texts are
    those that somebody wrote, in English or in no known language.

    Raises UserError where a shard can't be read or lacks images.
    """
    index = index_of(location, split, None, cache or default_cache(), quiet=True)
    shards, left = Shards(index), limit or index.images
    for number, count in enumerate(index.counts):
        here = min(count, left)
        for _, found in shards.read(number, range(here), np.ones(here, np.bool_)):
            yield _picture(f"{location}/{shards.name(number)}.tar", found, texts)
        left -= here
        if not left:
            return


def _picture(shard: str, found: Sample | Damage, texts: int) -> Picture:
    if isinstance(found, Damage):
        detail = f" ({found.detail})" if found.detail else ""
        raise _broken(shard, f"{found.key}: {REASONS[found.reason]}{detail}")
    try:
        record = msgspec.json.decode(found.json, type=Record)
    except msgspec.MsgspecError as error:
        raise _broken(shard, f"{found.key}.json: {error}") from error
    labels = [entity.id for entity in record.entities]
    return Picture(found.key, found.jpg, labels, _texts(record)[:texts])


def _broken(shard: str, why: str) -> UserError:
    return UserError(
        f"{shard} can't be read ({why}): `sparqless verify` says what of it was changed; pack "
        "again."
    )


def _texts(record: Record) -> list[str]:
    fits = (t for t in record.written() if t.lang.lower().partition("-")[0] in ("", "en"))
    return [text.text for text in fits]


def folders_in(folder: Path) -> list[str]:
    """The names of the classes' folders, in their order; hidden ones are none.

    Raises UserError where there is none with an image.
    """
    try:
        inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name[0] != "."]
    except OSError as error:
        raise UserError(f"{folder} can't be read ({error.strerror}).") from error
    found = [path.name for path in inside if any(_files(path))]
    if not found:
        raise UserError(f"{folder} has no folder with images: it is to be DIR/<class>/<image>.jpg.")
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Images in a folder and in those below, by their paths, but for hidden ones.

    Those are what editors and systems leave: .ipynb_checkpoints, ._1.jpg.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or _is_hidden(path.relative_to(folder)):
            continue
        if path.is_file():
            yield path


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def of_folder(
    folder: Path, texts: int, workers: int = 1, tick: Callable[[int], None] = lambda _: None
) -> list[Picture]:
    """Images of a folder's classes, by path; a label is the name of the class's folder.

    All files are read for their digests before one is looked at, by so many threads; ``tick`` is
    told of files.

    Raises UserError where a file can't be read.
    """
    found: dict[bytes, Picture] = {}
    with ThreadPoolExecutor(workers) as pool:
        for name in folders_in(folder):
            paths = list(_files(folder / name))
            for path, content in zip(paths, pool.map(_digest, paths), strict=True):
                tick(1)
                key = path.relative_to(folder).as_posix()
                picture = found.setdefault(content, Picture(key, path, sha256=content))
                if name not in picture.labels:
                    picture.labels.append(name)
                picture.texts += [t for t in _captions(path) if t not in picture.texts]
    for picture in found.values():
        del picture.texts[texts:]
    return list(found.values())


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from error


def _captions(path: Path) -> list[str]:
    try:
        lines = path.with_suffix(".txt").read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.with_suffix('.txt')}: can't be read ({error}).") from error
    return [" ".join(line.split()) for line in lines if line.strip()]
