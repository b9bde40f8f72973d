r"""Rows of one table, straight from a mysqldump: no database, bounded memory.

MediaWiki's tables are published as what ``mysqldump`` (or ``mariadb-dump``) writes: a ``CREATE
TABLE``, then ``INSERT`` statements of about 1 MB whose rows stand on one line or, where MariaDB is
newer (MDEV-25152), on a line each. In strings a quote is ``\'`` (or ``''``) and a line feed
``\n``: a line feed as such stands between rows and statements only.

One regular expression is made for a table's columns and run over a whole block of text at a time.
Rows that nobody asks for are taken by it 64 at a time without becoming a Python object: ~200 MB of
text a second where 4 rows in 100 are asked for. Where most are, :func:`batches` gives them by the
thousand, column by column, in half the time of one match a row. A row must begin where
the one before ended; a place where none does is an error with its offset, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from etl.dump import Input, head_and_digest
from etl.errors import UserError
from etl.members import INFLATE_ERRORS, form_by_magic, inflated
from etl.progress import Tick

# What stands between quotes. A string without a quote in it ends at the next one: seen at once,
# which doubles the speed where texts are JSON, each of whose quotes is an escape to the second way.
_ESCAPES = rb"[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+"
_QUOTED = rb"(?>'[^']*+(?<!\\)'(?!')|'" + _ESCAPES + rb"')"

#: A value: a string (MySQL may write ``_binary`` before it), a number, NULL or 0x….
STRING: Final = rb"(?:_[a-z0-9]++ )?+" + _QUOTED
VALUE: Final = rb"(?:" + STRING + rb"|[^'(),; \n]++)"

_BLOCK = 1 << 20  # inflated bytes at a time
_REMAINS = "remains"  # group of what isn't rows
_BATCH = 1 << 14  # rows
_FIRST_WINDOW = 1 << 14  # bytes that a batch looks for rows in, at first in a statement
_LONGEST_LINE = 1 << 20  # bytes of a line that isn't rows
_LONGEST_HEAD = 1 << 20  # bytes before and in CREATE TABLE, which has some 1,500
_AT_ONCE = 64  # unwanted rows in one match

#: Between rows; bounded, so that a file of spaces is no work.
_GAP = rb"[ \r\n]{0,8}+"

# The rest of a row, behind the columns that are looked at: strings, and what numbers, NULL, 0x…
# and _binary are made of. Said by what it may be, it is a sixth faster than by what it may not.
_REST = (
    rb"(?=[,)])[-+.,0-9A-Za-z_ ]*+(?:" + _QUOTED + rb"[-+.,0-9A-Za-z_ ]*+)*+"
    rb"\)(?:,|(?=" + _GAP + rb";))"
)

_CREATE = re.compile(rb"CREATE TABLE (?:IF NOT EXISTS )?`([^`]+)` \(\s*\Z")
_COLUMN = re.compile(rb"\s+`([^`]+)` ")
_INSERT = re.compile(
    rb"(?:INSERT(?: IGNORE)?|REPLACE) INTO `([^`\n]+)`(?: \(([^()\n]*)\))? VALUES(?=\s)"
)
_INSERT_BEGINS = (b"INSERT INTO ", b"INSERT IGNORE INTO ", b"REPLACE INTO ")
_SPACE = re.compile(rb"\s*+")
_STATEMENT_END = re.compile(_GAP + rb";")
#: What stands behind the last row of a dump that is whole.
_LAST_WORDS = re.compile(rb"-- Dump completed|UNLOCK TABLES;|.*ENABLE KEYS")


@dataclass(frozen=True)
class Table:
    """What is wanted of a table: columns and expressions of what their values read like.

    Named groups in the expressions hold what is found. All rows must read like ``wanted``, or
    like ``unwanted`` where it is given; those are left out. ``longest_row`` is in bytes of text.
    """

    name: str
    wanted: Mapping[str, bytes]
    unwanted: Mapping[str, bytes] | None = None
    longest_row: int = 1 << 16  # one of `page` has 120 bytes, and never 2,000
    wiki: str = "wikidatawiki"  # as the names of its dumps begin


def rows(path: Path, table: Table, tick: Tick) -> Iterator[re.Match[bytes]]:
    """The rows of ``table`` that are wanted; ``tick`` is called with the compressed bytes read.

    Raises UserError, with the place, for a file that isn't a dump of that table, is broken or has
    been cut off.
    """
    return _Reader(path, table).read(tick, _matches)


def batches(path: Path, table: Table, tick: Tick) -> Iterator[dict[str, tuple[bytes, ...]]]:
    """The rows as columns, some thousands at a time: group → what it found, ``b""`` for nothing.

    Some group of a wanted row must have found something. Raises UserError as :func:`rows` does.
    """
    waiting: list[tuple[bytes, ...]] = []
    names: list[str] = []
    for found, names in _Reader(path, table).read(tick, _findings):
        waiting += found if table.unwanted is None else [row for row in found if any(row)]
        if len(waiting) >= _BATCH:
            yield dict(zip(names, zip(*waiting, strict=True), strict=False))
            waiting = []
    if waiting:
        yield dict(zip(names, zip(*waiting, strict=True), strict=False))


def describe(path: Path) -> Input:
    """The dump of a table as an input of a plan.

    Raises UserError where it isn't there or can't be read.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a dump of the table, .sql.gz.")
        stat = path.stat()
        with path.open("rb") as file:
            head, digest = head_and_digest(file, stat.st_size)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    return Input(str(path), form_by_magic(head), stat.st_size, stat.st_mtime_ns, digest)


def check_head(path: Path, table: Table) -> None:
    """Reads the first MiB only, so that a file that isn't what it should be is refused early.

    Raises UserError as :func:`rows` does.
    """
    _Reader(path, table).check_head()


# --- strings ------------------------------------------------------------------------------------


def string(group: str) -> bytes:
    """Expression of a string whose contents are what :func:`strings` finds under ``group``."""
    plain, escaped = f"(?P<{group}>[^'\\\\]*+)'(?!')", f"(?P<{_escaped(group)}>"
    return rb"(?:_binary )?+'(?>%b|%b%b)')" % (plain.encode(), escaped.encode(), _ESCAPES)


def strings(batch: Mapping[str, tuple[bytes, ...]], group: str) -> Sequence[bytes]:
    """The contents of a column that was asked for as :func:`string`."""
    plain, escaped = batch[group], batch[_escaped(group)]
    if not any(escaped):
        return plain
    return [text or _unescaped(raw) for text, raw in zip(plain, escaped, strict=True)]


def _escaped(group: str) -> str:
    return f"{group}_escaped"


def _unescaped(raw: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: _MEANT.get(found[0], found[0][1:]), raw)


_ESCAPE = re.compile(rb"\\.|''", re.DOTALL)
#: Escapes that stand for something else than what follows the backslash (MySQL's manual, "String
#: Literals").
_MEANT = {
    rb"\0": b"\0", rb"\n": b"\n", rb"\r": b"\r", rb"\t": b"\t", rb"\b": b"\b", rb"\Z": b"\x1a",
}  # fmt: skip


# --- reading ------------------------------------------------------------------------------------

#: What a way to take rows gives of some of them, and how far they reach.
_Found = TypeVar("_Found")
_Taking = Callable[[re.Pattern[bytes], bytes, int], Generator[_Found, None, int]]


def _matches(row: re.Pattern[bytes], text: bytes, at: int) -> Generator[re.Match[bytes], None, int]:
    """A match for each wanted row from ``at`` on, as far as one follows the other."""
    for match in row.finditer(text, at):
        if match.lastgroup == _REMAINS:
            break
        at = match.end()
        if match.lastgroup is not None:
            yield match
    return at


def _findings(
    row: re.Pattern[bytes], text: bytes, at: int
) -> Generator[tuple[list[tuple[bytes, ...]], list[str]], None, int]:
    """Rows from ``at`` on by the window, which grows: what isn't a row is copied from it."""
    window, names = _FIRST_WINDOW, list(row.groupindex)[:-1]
    while at < len(text):
        end = min(at + window, len(text))
        found = row.findall(text, at, end)
        remains = len(found[-1][-1])
        if remains:
            found.pop()
        if found:
            yield found, names
        at = end - remains
        if end == len(text) or _STATEMENT_END.match(text, at):
            break
        window *= 2
    return at


class _Reader:
    """Where the reading of one file stands; ``_offset`` counts inflated bytes, for messages."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._table = table
        self._offset = 0  # of the block in hand
        self._columns: list[str] | None = None
        self._in_create = self._is_whole = False
        self._row: re.Pattern[bytes] | None = None  # inside an INSERT: what its rows look like

    def read(self, tick: Tick, taking: _Taking[_Found]) -> Iterator[_Found]:
        rest = b""
        for block in _inflated(self._path, tick):
            text = rest + block
            at = yield from self._take(text, taking)
            self._offset += at
            rest = text[at:]
        text = rest + b"\n"  # a last line may lack its end
        at = yield from self._take(text, taking)
        self._offset += at
        if self._row is not None or text[at:].strip():
            raise self._cut_off(f"inside an INSERT statement at byte {self._offset:,}")
        if self._columns is None:
            raise self._no_table()
        if not self._is_whole:
            raise self._cut_off("without mysqldump's last words (`-- Dump completed`)")

    def check_head(self) -> None:
        blocks = _inflated(self._path, lambda _: None)
        for _ in self._take(next(blocks, b""), _matches):
            pass
        if self._columns is None:
            raise self._no_table()

    def _take(self, text: bytes, taking: _Taking[_Found]) -> Generator[_Found, None, int]:
        """Rows, statements and other lines as far as ``text`` has them whole; returns how far."""
        at = 0
        while True:
            before = at
            if self._row is not None:
                at = yield from self._take_rows(text, at, taking)
            else:
                at = self._take_line(text, at)
            if at == before:
                return at

    def _take_rows(
        self, text: bytes, at: int, taking: _Taking[_Found]
    ) -> Generator[_Found, None, int]:
        assert self._row is not None
        at = yield from taking(self._row, text, at)
        if end := _STATEMENT_END.match(text, at):
            self._row = None
            return end.end()
        if len(text) - at > self._table.longest_row:
            raise self._unreadable(text, at, f"a row of `{self._table.name}`")
        return at

    def _take_line(self, text: bytes, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if text.startswith(_INSERT_BEGINS, at):
            insert = _INSERT.match(text, at)
            if insert is None:
                if len(text) - at > self._table.longest_row:
                    raise self._unreadable(text, at, "a list of values")
                return at
            self._begin_rows(insert)
            return insert.end()
        end = text.find(b"\n", at)
        if end < 0:
            if len(text) - at > _LONGEST_LINE:
                raise self._unreadable(text, at, "SQL as mysqldump writes it")
            return at
        self._read_line(text[at:end])
        if (self._columns is None or self._in_create) and self._offset + end > _LONGEST_HEAD:
            raise self._no_table()
        return end + 1

    def _read_line(self, line: bytes) -> None:
        if self._in_create:
            assert self._columns is not None
            if line.startswith(b")"):
                self._in_create = False
            elif column := _COLUMN.match(b" " + line):
                self._columns.append(column[1].decode("utf-8", "replace"))
        elif create := _CREATE.match(line):
            self._check_table(create[1])
            self._columns, self._in_create = [], True
        elif _LAST_WORDS.match(line):
            self._is_whole = True

    def _begin_rows(self, insert: re.Match[bytes]) -> None:
        self._check_table(insert[1])
        if self._columns is None:
            raise self._no_table()
        columns = self._columns
        if insert[2] is not None:  # as --complete-insert writes it
            columns = [name.strip(" `") for name in insert[2].decode("utf-8", "replace").split(",")]
        missing = [name for name in self._table.wanted if name not in columns]
        if missing:
            raise UserError(
                f"{self._path}: its table `{self._table.name}` has no column {missing[0]}; give "
                "the table of a MediaWiki of our days."
            )
        self._row = _expression(columns, self._table)
        self._in_create = self._is_whole = False

    # --- errors ---

    @property
    def _published(self) -> str:
        return f"{self._table.wiki}-…-{self._table.name}.sql.gz"

    def _check_table(self, found: bytes) -> None:
        name = found.decode("utf-8", "replace")
        if name != self._table.name:
            raise UserError(
                f"{self._path} holds the table `{name[:80]}`, not `{self._table.name}`: "
                f"give {self._published}."
            )

    def _no_table(self) -> UserError:
        return UserError(
            f"{self._path} has no CREATE TABLE `{self._table.name}` at its beginning: give "
            f"{self._published}, as it was published."
        )

    def _unreadable(self, text: bytes, at: int, expected: str) -> UserError:
        return UserError(
            f"{self._path}: at byte {self._offset + at:,} of its text stands "
            f"{text[at : at + 60]!r} where {expected} is expected. Fetch the file again."
        )

    def _cut_off(self, how: str) -> UserError:
        return UserError(
            f"{self._path} has been cut off: its text ends {how}. Fetch the file again."
        )


def _expression(columns: Sequence[str], table: Table) -> re.Pattern[bytes]:
    """What matches a wanted row, or up to :data:`_AT_ONCE` unwanted ones, commas included.

    Else it matches all that remains, so that one match begins where the one before ended.
    """
    looked_at = columns[: 1 + max(columns.index(name) for name in table.wanted)]

    def row(values: Mapping[str, bytes]) -> bytes:
        parts = [b"(?:%b)" % values.get(name, VALUE) for name in looked_at]
        return _GAP + rb"\(" + b",".join(parts) + _REST

    text = row(table.wanted)
    if table.unwanted is not None:
        text = b"(?:%b){1,%d}|%b" % (row(table.unwanted), _AT_ONCE, text)
    return re.compile(b"%b|(?P<%b>.+)" % (text, _REMAINS.encode()), re.DOTALL)


def _inflated(path: Path, tick: Tick) -> Iterator[bytes]:
    """The text of a file in blocks; ``tick`` is called with the compressed bytes read."""
    told = 0
    with path.open("rb") as file:
        try:
            text = inflated(file)
            while block := text.read(_BLOCK):
                tick(file.tell() - told)
                told = file.tell()
                yield block
        except INFLATE_ERRORS as error:
            raise UserError(
                f"{path}: can't be inflated at byte {file.tell():,} of {path.stat().st_size:,} "
                f"({error}). Fetch the file again."
            ) from error
        tick(file.tell() - told)
