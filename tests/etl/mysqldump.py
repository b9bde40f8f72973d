"""Dumps of tables for tests, written by the rules of mysql_real_escape_string and mysqldump."""

from __future__ import annotations

import gzip
from pathlib import Path

Value = int | float | bytes | None

_ESCAPED = {
    b"\0": rb"\0", b"\n": rb"\n", b"\r": rb"\r", b"\\": rb"\\", b"'": rb"\'", b'"': rb"\"",
    b"\x1a": rb"\Z",
}  # fmt: skip


def quoted(text: bytes, *, doubled: bool = False, introduced: bool = False) -> bytes:
    """A string; ``doubled`` quotes are what NO_BACKSLASH_ESCAPES and other writers give."""
    escaped = b"".join(
        b"''" if doubled and bytes([c]) == b"'" else _ESCAPED.get(bytes([c]), bytes([c]))
        for c in text
    )
    return (b"_binary " if introduced else b"") + b"'" + escaped + b"'"


def written(value: Value, **how: bool) -> bytes:
    if value is None:
        return b"NULL"
    if isinstance(value, bytes):
        return quoted(value, **how)
    return repr(value).encode()


def table_of(
    name: str,
    columns: list[str],
    rows: list[list[Value]],
    *,
    per_statement: int = 1000,
    per_line: bool = False,
    complete: bool = False,
    end: str = "\n",
    **how: bool,
) -> bytes:
    """A whole dump; ``per_line`` puts a row on a line as newer MariaDBs do."""
    head = [
        "/*M!999999\\- enable the sandbox mode */ ",
        "-- MariaDB dump 10.19  Distrib 10.5.23-MariaDB, for debian-linux-gnu (x86_64)",
        "/*!40101 SET NAMES utf8mb4 */;",
        f"DROP TABLE IF EXISTS `{name}`;",
        f"CREATE TABLE `{name}` (",
        *(f"  `{column}` varbinary(255) NOT NULL DEFAULT ''," for column in columns),
        f"  PRIMARY KEY (`{columns[0]}`),",
        f"  KEY `some` (`{columns[-1]}`)",
        ") ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=binary;",
        f"/*!40000 ALTER TABLE `{name}` DISABLE KEYS */;",
    ]
    text = end.join(head).encode() + end.encode()
    named = f" (`{'`, `'.join(columns)}`)" if complete else ""
    gap = end.encode() if per_line else b""
    for start in range(0, len(rows), per_statement):
        tuples = [
            b"(" + b",".join(written(value, **how) for value in row) + b")"
            for row in rows[start : start + per_statement]
        ]
        text += f"INSERT INTO `{name}`{named} VALUES".encode() + (gap or b" ")
        text += (b"," + gap).join(tuples) + b";" + end.encode()
    tail = f"/*!40000 ALTER TABLE `{name}` ENABLE KEYS */;{end}{end}-- Dump completed on 2026{end}"
    return text + tail.encode()


def redirect_table(rows: list[list[Value]], **how: bool) -> bytes:
    """Rows of rd_from, rd_namespace, rd_title, rd_interwiki, rd_fragment."""
    columns = ["rd_from", "rd_namespace", "rd_title", "rd_interwiki", "rd_fragment"]
    return table_of("redirect", columns, rows, **how)


def page_table(pages: list[tuple[int, int, bytes, int]], **how: bool) -> bytes:
    """Pages as (number, namespace, title, is it a redirect), with the other columns of today."""
    columns = [
        "page_id", "page_namespace", "page_title", "page_is_redirect", "page_is_new",
        "page_random", "page_touched", "page_links_updated", "page_latest", "page_len",
        "page_content_model", "page_lang",
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [*page, 0, 0.25, b"20260101000000", None, 7, 300, b"wikibase-item", None] for page in pages
    ]
    return table_of("page", columns, rows, **how)


def redirect_dumps(folder: Path, merged: dict[str, str]) -> tuple[Path, Path]:
    """Both tables, as files, of a wiki in which ids were merged into others."""
    spaces = {"Q": 0, "P": 120}
    pages = [(n, spaces[id[0]], id.encode(), 1) for n, id in enumerate(merged, 1)]
    leads: list[list[Value]] = [
        [n, spaces[to[0]], to.encode(), b"", b""] for n, to in enumerate(merged.values(), 1)
    ]
    redirects, all_pages = folder / "redirect.sql.gz", folder / "page.sql.gz"
    redirects.write_bytes(gzip.compress(redirect_table(leads), mtime=0))
    all_pages.write_bytes(gzip.compress(page_table(pages), mtime=0))
    return redirects, all_pages
