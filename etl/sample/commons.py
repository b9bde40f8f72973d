"""The sample's Wikimedia Commons: its mediainfo dump and its table ``image``, framed as published.

``files.tsv`` holds the files, all of them made up (``SOURCES.md``). What a file's row doesn't say
but a real line has (licence, creator, source, date, measures, page metadata) is derived from its
name and means nothing; the ids of licences and the like are Wikidata's. The bytes are the same
every time.

The lines are those of ``commons-…-mediainfo.json.gz``: no ``datatype`` in snaks (Phabricator
T246809), ``[]`` or ``{}`` where there is nothing (T222159; both are found in published lines),
page metadata since June 2022 (T301104). The table is ``commonswiki-…-image.sql.gz`` with the
columns of MediaWiki's ``sql/tables.json``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from etl.sample.files import PROPERTIES, File, read_files
from etl.sample.framing import (
    Entity,
    datavalue,
    encode,
    hashed,
    members,
    place,
    some_number,
    terms,
    uuid,
    write_if_new,
)
from etl.sample.table import DATAVALUE_TYPES, Claim, Value, read_claims

MEDIAINFO_FILE: Final = "commons-mediainfo.json.gz"
IMAGE_FILE: Final = "commonswiki-image.sql.gz"

#: Licences (P275) with the copyright status (P6216) that goes with them: CC BY-SA 4.0, CC BY 4.0,
#: CC BY-SA 3.0, CC0, each as often as it stands here.
_RIGHTS: Final = (
    ("Q18199165", "Q50423863"),
    ("Q18199165", "Q50423863"),
    ("Q18199165", "Q50423863"),
    ("Q20007257", "Q50423863"),
    ("Q14946043", "Q50423863"),
    ("Q6938433", "Q88088423"),
)
_PIXEL: Final = "Q355198"
_BYTE: Final = "Q8799"
_SHA1: Final = "Q13414952"
_PHOTOGRAPHER: Final = "Q33231"
_OWN_WORK: Final = "Q66458942"  # original creation by uploader

_COLUMNS: Final = {
    "img_name": "varbinary(255) NOT NULL DEFAULT ''",
    "img_size": "bigint(20) unsigned NOT NULL DEFAULT 0",
    "img_width": "int(11) NOT NULL DEFAULT 0",
    "img_height": "int(11) NOT NULL DEFAULT 0",
    "img_metadata": "mediumblob NOT NULL",
    "img_bits": "int(11) NOT NULL DEFAULT 0",
    "img_media_type": "enum('UNKNOWN','BITMAP','DRAWING','AUDIO','VIDEO','MULTIMEDIA','OFFICE',"
    "'TEXT','EXECUTABLE','ARCHIVE','3D') DEFAULT NULL",
    "img_major_mime": "enum('unknown','application','audio','image','text','video','message',"
    "'model','multipart','chemical') NOT NULL DEFAULT 'unknown'",
    "img_minor_mime": "varbinary(100) NOT NULL DEFAULT 'unknown'",
    "img_description_id": "bigint(20) unsigned NOT NULL",
    "img_actor": "bigint(20) unsigned NOT NULL",
    "img_timestamp": "binary(14) NOT NULL",
    "img_sha1": "varbinary(32) NOT NULL DEFAULT ''",
}
_ROWS_A_STATEMENT: Final = 120

#: What mysql_real_escape_string escapes.
_ESCAPES: Final = str.maketrans(
    {"\0": r"\0", "\n": r"\n", "\r": r"\r", "\\": r"\\", "'": r"\'", '"': r"\"", "\x1a": r"\Z"}
)


def write_commons(folder: Path) -> list[Path]:
    """Write both dumps into a folder and return their paths.

    The files appear by rename; one that holds these very bytes is left as it is.
    """
    files = read_files()
    mediainfo, image = folder / MEDIAINFO_FILE, folder / IMAGE_FILE
    pieces = (gzip.compress(piece, 9, mtime=0) for piece in members(lines(files)))
    write_if_new(mediainfo, b"".join(pieces))
    write_if_new(image, gzip.compress(image_table(files).encode(), 9, mtime=0))
    return [mediainfo, image]


def entities(files: Sequence[File]) -> Iterator[Entity]:
    """Every entity whose line can be read, in the dump's order, the way ``json.loads`` gives it."""
    for line in lines(files):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the broken line, which the table has on purpose
            continue


def lines(files: Sequence[File]) -> list[bytes]:
    """The mediainfo dump's lines in order, the broken one among them, without comma and newline."""
    written: list[tuple[tuple[int, int, int], bytes]] = []
    for file in files:
        if "no-line" not in file.quirks:
            entity = _entity(file)
            line = encode(entity)
            at = place(f"M{file.page}", file.page, entity["lastrevid"])
            written.append((at, line[: len(line) * 3 // 5] if "broken" in file.quirks else line))
    return [line for _, line in sorted(written, key=lambda pair: pair[0])]


def image_table(files: Sequence[File]) -> str:
    """The table ``image`` as mysqldump writes it, by the bytes of the names."""
    kept = {f.name: f for f in files if not f.quirks & {"no-image-row", "older"}}
    ordered = sorted(kept.values(), key=lambda file: _underscored(file.name).encode())
    tuples = [_row(file) for file in ordered]
    head = [
        "-- MariaDB dump 10.19  Distrib 10.6.22-MariaDB, for debian-linux-gnu (x86_64)",
        "/*!40101 SET NAMES binary */;",
        "DROP TABLE IF EXISTS `image`;",
        "CREATE TABLE `image` (",
        *(f"  `{name}` {kind}," for name, kind in _COLUMNS.items()),
        "  PRIMARY KEY (`img_name`),",
        "  KEY `img_sha1` (`img_sha1`(10))",
        ") ENGINE=InnoDB DEFAULT CHARSET=binary;",
        "/*!40000 ALTER TABLE `image` DISABLE KEYS */;",
    ]
    starts = range(0, len(tuples), _ROWS_A_STATEMENT)
    lists = [",".join(tuples[start : start + _ROWS_A_STATEMENT]) for start in starts]
    inserts = [f"INSERT INTO `image` VALUES {values};" for values in lists]  # noqa: S608
    tail = ["/*!40000 ALTER TABLE `image` ENABLE KEYS */;", "", "-- Dump completed on 2026-09-01"]
    return "\n".join([*head, *inserts, *tail]) + "\n"


def sha1_of(file: File) -> bytes:
    """20 bytes that stand for the file's digest; there is no file."""
    return hashlib.sha1(f"sample file {file.name}".encode(), usedforsecurity=False).digest()


# --- mediainfo ---


def _entity(file: File) -> Entity:
    statements = _statements(file)
    # An array of PHP that is empty is a list, unless its writer saw to it that it isn't.
    nothing: Entity | list[Entity] = [] if file.page % 2 else {}
    entity: Entity = {
        "type": "mediainfo",
        "id": f"M{file.page}",
        "labels": terms(file.captions) or nothing,
        "descriptions": nothing,
        "statements": statements or [],
        "pageid": file.page,
        "ns": 6,
        "title": f"File:{file.name}",
    }
    age = some_number(f"age {file.name}", 40_000_000)
    older = "older" in file.quirks
    modified = datetime(2026, 9, 1, tzinfo=UTC) - timedelta(seconds=age, days=30 * older)
    entity["lastrevid"] = 1_200_000_000 - age - 3_000_000 * older
    entity["modified"] = modified.strftime("%Y-%m-%dT%H:%M:%SZ")
    if "no-page-metadata" in file.quirks:
        for field in ("pageid", "ns", "title", "modified"):
            del entity[field]
    return entity


def _statements(file: File) -> Entity:
    """The row's statements, then what a rule makes up of the properties that it doesn't have."""
    claims = list(file.statements)
    if "no-statements" not in file.quirks:
        given = {claim.property for claim in claims}
        claims += [c for c in _made_up(file) if c.property not in given]
    grouped: Entity = {}
    for number, claim in enumerate(claims):
        grouped.setdefault(claim.property, []).append(_statement(file, claim, number))
    return grouped


def _made_up(file: File) -> Iterator[Claim]:
    licence, status = _RIGHTS[some_number(f"rights {file.name}", len(_RIGHTS))]
    author = f"Sample author {1 + some_number(f'author {file.name}', 9)}"
    page = f"https://example.org/sample/{author.replace(' ', '_')}"
    day = datetime(2011, 1, 1, tzinfo=UTC) + timedelta(some_number(f"day {file.name}", 5_000))
    parts = [f"P571={day:%Y-%m-%d}", f"P7482={_OWN_WORK}"]
    if "no-status" not in file.quirks:
        parts.append(f"P6216={status}")
    if "no-licence" not in file.quirks:
        parts.append(f"P275={licence}")
    if "no-creator" not in file.quirks:
        named = f'P2093="{author}",P4174="{author}",P2699={page}'
        parts.append(f"P170=somevalue[P3831={_PHOTOGRAPHER},{named}]")
    # Bots have measured about half of the files; the table `image` knows the others.
    if "no-measures" not in file.quirks and some_number(f"measured {file.name}", 2):
        parts += [
            f"P1163={file.mime}",
            f"P4092={sha1_of(file).hex()}[P459={_SHA1}]",
            f"P3575={file.bytes} {_BYTE}",
            f"P2048={file.height} {_PIXEL}",
            f"P2049={file.width} {_PIXEL}",
        ]
    yield from read_claims("; ".join(parts), PROPERTIES)


def _statement(file: File, claim: Claim, number: int) -> Entity:
    statement: Entity = {"mainsnak": _snak(claim.property, claim.value), "type": "statement"}
    if claim.qualifiers:
        snaks: Entity = {}
        for name, value in claim.qualifiers:
            snaks.setdefault(name, []).append(_snak(name, value))
        statement |= {"qualifiers": snaks, "qualifiers-order": list(snaks)}
    seed = f"M{file.page} {claim.property} {number}"
    return statement | {"id": f"M{file.page}${uuid(seed)}", "rank": claim.rank}


def _snak(name: str, value: Value) -> Entity:
    """A snak with its hash, as Commons writes main snaks, too, and without a datatype."""
    snak: Entity = {"snaktype": value.snaktype, "property": name}
    if value.snaktype == "value":
        kind = DATAVALUE_TYPES[PROPERTIES[name].datatype]
        snak["datavalue"] = {"value": datavalue(kind, value.text, frozenset()), "type": kind}
    return hashed(snak)


# --- the table image ---


def _row(file: File) -> str:
    major, _, minor = file.mime.partition("/")
    uploaded = datetime(2026, 8, 1, tzinfo=UTC) - timedelta(some_number(f"up {file.name}", 5_000))
    values: list[str | int] = [
        _underscored(file.name),
        file.bytes,
        file.width,
        file.height,
        "{}",
        8 if file.media_type == "BITMAP" else 0,
        file.media_type,
        major,
        minor,
        some_number(f"description {file.name}", 900_000_000),
        some_number(f"actor {file.name}", 90_000_000),
        uploaded.strftime("%Y%m%d%H%M%S"),
        _base_36(sha1_of(file)),
    ]
    written = [str(v) if isinstance(v, int) else f"'{v.translate(_ESCAPES)}'" for v in values]
    return f"({','.join(written)})"


def _underscored(name: str) -> str:
    return name.replace(" ", "_")


def _base_36(digest: bytes) -> str:
    """31 digits, as MediaWiki keeps a SHA-1 (Wikimedia\\base_convert, padded)."""
    value, digits = int.from_bytes(digest, "big"), ""
    while value:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.zfill(31)
