"""MediaWiki's tables of files, as dumps and as tables of SQLite, for tests."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

from tests.etl.mysqldump import Value, page_table, table_of

#: Columns in the order of MediaWiki's sql/tables.json.
COLUMNS = {
    "image": [
        "img_name", "img_size", "img_width", "img_height", "img_metadata", "img_bits",
        "img_media_type", "img_major_mime", "img_minor_mime", "img_description_id", "img_actor",
        "img_timestamp", "img_sha1",
    ],
    "file": ["file_id", "file_name", "file_latest", "file_type", "file_deleted"],
    "filerevision": [
        "fr_id", "fr_file", "fr_size", "fr_width", "fr_height", "fr_metadata", "fr_bits",
        "fr_description_id", "fr_actor", "fr_timestamp", "fr_sha1", "fr_archive_name",
        "fr_deleted",
    ],
    "filetypes": ["ft_id", "ft_media_type", "ft_major_mime", "ft_minor_mime"],
}  # fmt: skip
#: SHA-1 of nothing, in base 36 and in base 16 (both as MediaWiki shows them).
SHA1 = b"phoiac9h4m842xq45sp7s6u21eteeq1"
SHA1_HEX = "da39a3ee5e6b4b0d3255bfef95601890afd80709"

METADATA = b'{"data":{"Make":"O\'Neil","path":"C:\\\\x"},"blobs":[]}'


def image_row(
    name: bytes,
    size: int = 1000,
    width: int = 640,
    height: int = 480,
    metadata: bytes = METADATA,
    mime: tuple[Value, Value] = (b"image", b"jpeg"),
    sha1: bytes = SHA1,
) -> list[Value]:
    return [name, size, width, height, metadata, 8, b"BITMAP", *mime, 7, 9, b"20200101000000", sha1]


def revision_row(
    number: int,
    file: int,
    size: int = 1000,
    width: int = 640,
    height: int = 480,
    sha1: bytes = SHA1,
    archive: bytes = b"",
    deleted: int = 0,
) -> list[Value]:
    time = b"20200101000000"
    return [
        number, file, size, width, height, METADATA, 8, 7, 9, time, sha1, archive, deleted
    ]  # fmt: skip


def dump_of(folder: Path, table: str, rows: list[list[Value]], **how: bool) -> Path:
    path = folder / f"commonswiki-20261101-{table}.sql.gz"
    path.write_bytes(gzip.compress(table_of(table, COLUMNS[table], rows, **how), mtime=0))
    return path


def page_dump(folder: Path, pages: list[tuple[int, int, bytes, int]]) -> Path:
    path = folder / "commonswiki-20261101-page.sql.gz"
    path.write_bytes(gzip.compress(page_table(pages), mtime=0))
    return path


def database(tables: dict[str, list[list[Value]]]) -> sqlite3.Connection:
    """The same rows in a database that somebody else wrote; texts are bytes."""
    found = sqlite3.connect(":memory:")
    for table, rows in tables.items():
        columns = COLUMNS[table]
        found.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        found.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    return found
