"""A dump of MediaWiki's table `image`, of invented files, and tables of the names that are wanted.

Rows have what those of Commons have: names of some 40 bytes, in the order of the key, and metadata
as escaped JSON (there it is a few hundred bytes for a photograph, and a pointer for what is
longer). They are written by the rules of mysqldump, in statements of about 1 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import IO, Any, cast

import pyarrow as pa
from isal import igzip

from etl.tables import TableWriter

#: Part of the names of made files: another number wherever the code below makes another dump.
VERSION = 1

_PER_STATEMENT = 2500
_PER_STEP = 100_000
_LEVEL = 1
_WORDS = 400

_HEAD = """-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB
CREATE TABLE `image` (
  `img_name` varbinary(255) NOT NULL DEFAULT '',
  `img_size` bigint(20) unsigned NOT NULL DEFAULT 0,
  `img_width` int(11) NOT NULL DEFAULT 0,
  `img_height` int(11) NOT NULL DEFAULT 0,
  `img_metadata` mediumblob NOT NULL,
  `img_bits` int(11) NOT NULL DEFAULT 0,
  `img_media_type` enum('UNKNOWN','BITMAP','DRAWING','AUDIO','VIDEO') DEFAULT NULL,
  `img_major_mime` enum('unknown','application','audio','image','text','video') DEFAULT 'unknown',
  `img_minor_mime` varbinary(100) NOT NULL DEFAULT 'unknown',
  `img_description_id` bigint(20) unsigned NOT NULL,
  `img_actor` bigint(20) unsigned NOT NULL,
  `img_timestamp` binary(14) NOT NULL,
  `img_sha1` varbinary(32) NOT NULL DEFAULT '',
  PRIMARY KEY (`img_name`)
) ENGINE=InnoDB DEFAULT CHARSET=binary;
"""
_TAIL = "/*!40000 ALTER TABLE `image` ENABLE KEYS */;\n-- Dump completed\n"

# What stands between a name's number and the row's end, with a place for each number.
_METADATA = (
    r"{\"data\":{\"Make\":\"%s\",\"Model\":\"%s %d\",\"Orientation\":1,\"XResolution\":\"300/1\","
    r"\"DateTime\":\"20%02d:06:01 12:%02d:00\",\"ExposureTime\":\"10/%d\",\"FNumber\":\"56/10\","
    r"\"ISOSpeedRatings\":%d,\"MEDIAWIKI_EXIF_VERSION\":2},\"blobs\":[]}"
)


@dataclass(frozen=True)
class ImageDump:
    """A dump of table `image`, and Parquet files with the names that are wanted of it."""

    dump: Path
    rows: int
    text_bytes: int
    wanted: dict[int, Path]  # how many are wanted → the file that names them


def image_dump_of(work: Path, rows: int, seed: int) -> ImageDump:
    """The dump of so many rows, made where it isn't there yet; a tenth and all of it is wanted."""
    folder = work / f"image-{rows}-seed{seed}-v{VERSION}"
    dump = folder / "commonswiki-image.sql.gz"
    wanted = {rows // 10: folder / "tenth.parquet", rows: folder / "all.parquet"}
    text_bytes = folder / "text_bytes"
    if not text_bytes.exists():
        print(f"making a dump of {rows:,} files in {folder}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with gzip_file(dump, "wb") as file:
            size = 0
            for piece in _pieces(rows, seed, list(wanted.values())):
                size += file.write(piece.encode())
        text_bytes.write_text(str(size))
    return ImageDump(dump, rows, int(text_bytes.read_text()), wanted)


def gzip_file(path: Path, mode: str) -> IO[bytes]:
    """A file that is inflated or, lightly, compressed by isal."""
    opened: Any = igzip.IGzipFile
    return cast(IO[bytes], opened(path, mode, compresslevel=_LEVEL))


def _pieces(rows: int, seed: int, wanted: list[Path]) -> Iterator[str]:
    """The text of the dump; the names go into the two files of ``wanted`` on the way."""
    yield _HEAD
    schema = pa.schema([("file", pa.string())])
    made = _rows(rows, seed)
    with (
        TableWriter(wanted[0], schema, repeated=[]) as tenth,
        TableWriter(wanted[1], schema, repeated=[]) as every,
    ):
        while step := list(islice(made, _PER_STEP)):
            names = [name.replace("_", " ") for name, _ in step]
            every.write(pa.table([names], schema=schema))
            tenth.write(pa.table([names[::10]], schema=schema))
            for first in range(0, len(step), _PER_STATEMENT):
                values = ",".join(row for _, row in step[first : first + _PER_STATEMENT])
                yield f"INSERT INTO `image` VALUES {values};\n"
    yield _TAIL


def _rows(rows: int, seed: int) -> Iterator[tuple[str, str]]:
    """Names, ascending, and what stands between the brackets of a row, brackets included."""
    random = Random(seed)
    words = sorted(
        "".join(random.choice("aeinorstlkmd") for _ in range(random.randint(4, 9)))
        for _ in range(_WORDS)
    )
    metadata = [
        _METADATA % (random.choice(words).upper(), random.choice(words), random.randint(1, 900),
                     random.randint(0, 25), random.randint(0, 59), random.randint(20, 4000),
                     random.choice((100, 200, 400)))
        for _ in range(5000)
    ]  # fmt: skip
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    hashes = ["".join(random.choices(digits, k=20)) for _ in range(5000)]
    for n in range(rows):
        of, other = words[n * 7919 % _WORDS], words[n * 104729 % _WORDS]
        name = f"{n:09d}_{of.title()}_-_{other},_{of}_({n % 90 + 1930}).jpg"
        width = 400 + n * 31 % 6000
        yield (
            name,
            (
                f"('{name}',{width * 900},{width},{width * 3 // 4},'{metadata[n * 13 % 5000]}',8,"
                f"'BITMAP','image','jpeg',{n},{n % 99991},'20200101000000',"
                f"'0{hashes[n * 17 % 5000]}{n:010d}')"
            ),
        )
