"""Lines of text files, and the rows of a CSV: what can't be read costs a line, and no other.

No line is longer than :data:`LONGEST_LINE`, no cell than the csv module allows, and no row has more
than :data:`MOST_LINES` lines.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from etl.errors import UserError
from etl.members import INFLATE_ERRORS, inflated

LONGEST_LINE: Final = 1 << 20  # bytes of a line of text, where one of ours has some 300
MOST_LINES: Final = 64  # of a row, whose cells may have line ends in quotes
_PIECE: Final = 1 << 20

# Why a line or a row can't be read.
LONG_LINE: Final = f"a line of more than {LONGEST_LINE:,} bytes"
LONG_CELL: Final = "a cell of more than 131,072 characters"  # csv.field_size_limit()
LONE_RETURN: Final = "a carriage return in a cell that has no quotes around it"
OPEN_QUOTE: Final = "a quote that is not closed"
CELLS: Final = "another number of cells than the header has"
NOT_CSV: Final = "no CSV"

#: What the csv module says (CPython, Modules/_csv.c) → what it means.
_SAID: Final = {
    "field larger than": LONG_CELL,
    "new-line character seen": LONE_RETURN,
    " expected after ": OPEN_QUOTE,
}


class Line(NamedTuple):
    """A line of text, in which bytes that aren't UTF-8 stay as surrogates.

    In place of one that is too long an empty line is given, and ``wrong`` says why.
    """

    number: int  # from 1
    text: str
    size: int  # in bytes
    wrong: str | None = None


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file, inflated. Raises UserError where it is broken or isn't text."""
    number = 0
    try:
        with path.open("rb") as raw, BufferedReader(cast(Any, inflated(raw)), _PIECE) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1:
                    line = _first(path, line)
                if len(line) > LONGEST_LINE:
                    _skip(file, line)
                    yield Line(number, "\n", 0, LONG_LINE)
                else:
                    yield Line(number, line.decode("utf-8", "surrogateescape"), len(line))
    except INFLATE_ERRORS as error:
        raise UserError(
            f"{path} can't be read after line {number:,} ({error}). "
            "It may have been cut off: fetch or write it again."
        ) from error


def _first(path: Path, line: bytes) -> bytes:
    """The first line without UTF-8's byte order mark."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is written in UTF-16. Save it as UTF-8.")
    if b"\r" in line.rstrip(b"\r\n"):
        raise UserError(
            f"{path} ends its lines with carriage returns alone, as Macintoshes did before 2001. "
            "Save it with the line ends of today, \\n or \\r\\n."
        )
    return line.removeprefix(b"\xef\xbb\xbf")


def _skip(file: IO[bytes], line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_PIECE)


class CsvRows:
    """The rows of a CSV as Excel and pandas write it: cells with a line end stand in quotes.

    A quote that somebody forgot to close makes a cell of all lines up to another quote. Behind that
    there mostly is what can't follow a closing one (``strict``). Else such a row is told by how
    many lines it has, or because there is a row among them. All lines but its first are read again.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self.lines: list[Line] = []  # of the row in hand
        self._again: deque[Line] = deque()
        self._lines = lines_of(path)
        self._path = path
        self._delimiter = delimiter
        self._reader = csv.reader(iter(self._take, None), delimiter=delimiter, strict=True)

    def header(self) -> list[str]:
        """The first row. Raises UserError where it can't be read."""
        row = self._read()
        if isinstance(row, str):
            raise UserError(f"{self._path}: its header can't be read, for {row}.")
        try:
            "".join(row or ()).encode()
        except UnicodeEncodeError:
            raise UserError(f"{self._path}: its header is not UTF-8. Save it as UTF-8.") from None
        return [name.strip() for name in row or ()]

    def rows(self, count: int, url: int) -> Iterator[list[str] | str]:
        """The cells of each row, ``count`` of them, or what is wrong with it.

        ``url``: which of the cells is an address. Rows are left out that are an empty line.
        """
        while (row := self._read()) is not None:
            if not isinstance(row, str) and row and len(row) != count:
                row = CELLS
            inner = self.lines[1:]
            if inner and any(self._is_row(line, count, url) for line in inner):
                row = OPEN_QUOTE
            if inner and isinstance(row, str):
                self._again.extendleft(reversed(inner))
                del self.lines[1:]
            if row:
                yield row

    def _take(self) -> str | None:
        """A line for the csv module, which takes as many as it needs for a row."""
        line = self._again.popleft() if self._again else next(self._lines, None)
        if self.lines and (line is None or line.wrong or len(self.lines) == MOST_LINES):
            if line is not None:
                self._again.appendleft(line)
            raise _OpenQuoteError
        if line is None:
            return None
        self.lines.append(line)
        return line.text

    def _read(self) -> list[str] | str | None:
        """The cells of a row, or why it can't be read; None at the end."""
        self.lines.clear()
        row: list[str] | str | None
        try:
            row = next(self._reader, None)
        except _OpenQuoteError:
            row = OPEN_QUOTE
        except csv.Error as error:
            row = _meaning(error)
        if row == OPEN_QUOTE and len(self.lines) == 1:
            # `"5" wide` is no CSV, and `5 wide` to LibreOffice, pandas and the csv module.
            cells, ended = self._alone(self.lines[0])
            row = cells if ended else row
        return self.lines[0].wrong or row if self.lines else None

    def _is_row(self, line: Line, count: int, url: int) -> bool:
        """Whether a line within quotes would be a row without them."""
        if "://" not in line.text:  # as most, and without reading it
            return False
        cells, _ = self._alone(line)
        return len(cells) == count and cells[url].startswith(("http://", "https://"))

    def _alone(self, line: Line) -> tuple[list[str], bool]:
        """The cells of one line, and whether its quotes are closed; none where it is no CSV."""
        try:
            cells, *more = csv.reader([line.text, ""], delimiter=self._delimiter)
        except csv.Error:
            return [], False
        return cells, bool(more)


class _OpenQuoteError(Exception):
    """A row goes on where it can't."""


def _meaning(error: csv.Error) -> str:
    return next((reason for said, reason in _SAID.items() if said in str(error)), NOT_CSV)
