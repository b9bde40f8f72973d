"""Lists of addresses as people keep them: Parquet, CSV, TSV and JSON Lines → columns, in batches.

What a column is called decides what it holds (:data:`NAMES`); nothing is said here of whether a
value is any good, which is ``url_rows.py``'s work. Memory is bounded by a batch of rows, whatever
the file holds; ``url_lines.py`` bounds lines and cells of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from download.url_lines import CsvRows, lines_of
from etl.errors import UserError
from etl.show import printable

#: What is known of an image → the columns that may hold it, the first of them that a file has.
#: ``qh``, ``images_…`` and ``key`` are EntityNet's (reference, section 2: images_metadata).
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "entity": ("entity",),
    "query_hashes": ("query_hashes", "query_hash", "qh"),
    "urls": ("urls", "url", "images_link"),
    "texts": ("texts", "text"),
    "text_langs": ("text_langs", "text_lang"),
    "width": ("width", "images_width"),
    "height": ("height", "images_height"),
    "licence": ("licence", "license"),
    "creator": ("creator",),
    "page_url": ("page_url", "images_contextlink"),
    "source_id": ("source_id", "key"),
    "mime": ("mime",),
    "score": ("score",),
    "sha1": ("sha1",),
    "bytes": ("bytes",),
}

#: Columns in which a cell of a CSV may hold several values: a JSON list.
_PLURAL: Final = frozenset(
    {"query_hashes", "qh", "urls", "texts", "text_langs"}
    | {"images_link", "images_contextlink", "images_width", "images_height"}
)

#: Endings, without that of a compression.
FORMS: Final = ("parquet", "csv", "tsv", "jsonl", "ndjson")

BATCH_ROWS: Final = 1 << 15
_BATCH_BYTES: Final = 1 << 25  # of text, after which a batch ends early

# Why a row can't be read; url_lines.py has those of lines, url_rows.py those of values.
NOT_UTF8: Final = "text that is not UTF-8"
NOT_JSON: Final = "no JSON object"


@dataclass(frozen=True)
class Batch:
    """Rows of one file: n values of each column that it has, by :data:`NAMES`.

    A column holds text or numbers, or lists of those. ``places`` are the numbers (n,) of the lines
    or, in Parquet, of the rows, from 1. ``broken``: rows that can't be read, place and reason.
    """

    columns: Mapping[str, pa.Array]
    places: npt.NDArray[np.int64]
    broken: Sequence[tuple[int, str]] = ()


@dataclass
class List:
    """A file to read: ``unknown`` are the columns that meant nothing, known when it is read."""

    path: Path
    unknown: dict[str, None] = field(default_factory=dict)  # in the order they came

    @property
    def name(self) -> str:
        """What the file is called, for manifests and terminals: in a folder it may be anything."""
        return printable(self.path.name)

    @property
    def unit(self) -> str:
        """What places count."""
        return "row" if form_of(self.path) == "parquet" else "line"

    def batches(self) -> Iterator[Batch]:
        """Read the file once.

        Raises UserError where it isn't what its name says, lacks a column or is cut off.
        """
        form = form_of(self.path)
        if form == "parquet":
            yield from _parquet(self)
        elif form in ("jsonl", "ndjson"):
            yield from _in_batches(_json_rows(self), self.path)
        else:
            yield from _in_batches(_csv_rows(self, "\t" if form == "tsv" else ","), self.path)


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files that were named, and those in folders that were, by name.

    Raises UserError for what isn't there, a folder without a list, and an unknown ending.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _form(file) and file.is_file())
            if not inside:
                raise UserError(f"{path} holds no list: none of its files ends in {_ENDINGS}.")
            found += inside
        elif not path.is_file():
            raise UserError(f"{path} is not there: name a list of addresses for --urls.")
        else:
            form_of(path)
            found.append(path)
    return found


_ENDINGS: Final = ".parquet, .csv, .tsv or .jsonl (or one of the last three with .gz or .zst)"


def form_of(path: Path) -> str:
    """One of :data:`FORMS`, by the file's ending. Raises UserError."""
    form = _form(path)
    if form is None:
        raise UserError(f"{path}: can't tell what the list is from its name. End it in {_ENDINGS}.")
    return form


def _form(path: Path) -> str | None:
    name = path.name.lower()
    plain = name.removesuffix(".gz").removesuffix(".zst")
    form = plain.rpartition(".")[2]
    return form if form in FORMS and (form != "parquet" or plain == name) else None


def _chosen(names: Sequence[str], found: List) -> dict[str, str]:
    """Which column holds what; the others are noted as unknown."""
    chosen = {
        what: next(name for name in spellings if name in names)
        for what, spellings in NAMES.items()
        if not set(spellings).isdisjoint(names)
    }
    used = set(chosen.values())
    others = (name for name in names if name not in used and name not in found.unknown)
    found.unknown |= dict.fromkeys(islice(others, _MOST_UNKNOWN - len(found.unknown)))
    return chosen


_MOST_UNKNOWN: Final = 100  # names of columns that are kept for the warning


def _check_columns(path: Path, chosen: Mapping[str, str], names: Sequence[str]) -> None:
    if "urls" in chosen and not {"entity", "query_hashes"}.isdisjoint(chosen):
        return
    missing = "url" if "urls" not in chosen else "entity or query_hash"
    shown = printable(", ".join(names[:12])[:200]) + (", …" if len(names) > 12 else "")
    raise UserError(
        f"{path} has no column {missing}; its columns are: {shown or 'none'}. "
        "A list has a header with the columns url and entity (or query_hash)."
    )


# --- Parquet ---


def _parquet(found: List) -> Iterator[Batch]:
    path, place = found.path, 1
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # else all of it ends up in memory
            schema = file.schema_arrow
            chosen = _chosen(schema.names, found)
            _check_columns(path, chosen, schema.names)
            for name in chosen.values():
                _check_type(path, schema.field(name))
            at_once = _rows_at_once(file.metadata)
            for rows in file.iter_batches(at_once, columns=list(chosen.values())):
                yield Batch(
                    {what: _plain(rows.column(name)) for what, name in chosen.items()},
                    np.arange(place, place + rows.num_rows),
                )
                place += rows.num_rows
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = printable(str(error)[:200]) or type(error).__name__
        raise UserError(
            f"{path} can't be read as Parquet from row {place:,} on: {reason}. Write it again."
        ) from error


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of a batch: fewer where they are long, by what the file says of its size."""
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    mean = max(size, 1) / max(metadata.num_rows, 1)
    return max(1, min(BATCH_ROWS, int(_BATCH_BYTES / mean)))


def _check_type(path: Path, column: pa.Field) -> None:
    kind = _of_values(column.type)
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise UserError(
            f"{path}: the column {column.name} holds {printable(str(column.type)[:200])}; it must "
            "hold text, numbers, or lists of those."
        )


def _of_values(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    plain = pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind)
    return bool(plain or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _plain(column: pa.Array) -> pa.Array:
    """Text as strings, whose bytes are checked, numbers as they are; lists of one kind."""
    kind = _of_values(column.type)
    target = pa.string() if _is_text(kind) else kind
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        target = pa.list_(target)
    plain = column if column.type == target else column.cast(target)
    plain.validate(full=True)
    return plain


# --- text: rows of values, gathered into batches ---

#: Where a row begins, its values by what they are (text, a list of text, or None), or what is
#: wrong with it; and its length in bytes.
_Row = tuple[int, "dict[str, Any] | str", int]


def _in_batches(rows: Iterator[_Row], path: Path) -> Iterator[Batch]:
    held: list[dict[str, Any]] = []
    places: list[int] = []
    broken: list[tuple[int, str]] = []
    size = 0
    for place, values, length in rows:
        if isinstance(values, str):
            broken.append((place, values))
        else:
            held.append(values)
            places.append(place)
        size += length
        if len(held) + len(broken) >= BATCH_ROWS or size >= _BATCH_BYTES:
            yield _batch(held, places, broken)
            held, places, broken, size = [], [], [], 0
    yield _batch(held, places, broken)


def _batch(rows: list[dict[str, Any]], places: list[int], broken: list[tuple[int, str]]) -> Batch:
    try:
        columns = _columns(rows)
    except UnicodeEncodeError:  # bytes that Python kept as they are, in some row
        right = [_is_utf8(row) for row in rows]
        broken = broken + [(p, NOT_UTF8) for p, ok in zip(places, right, strict=True) if not ok]
        rows = [row for row, ok in zip(rows, right, strict=True) if ok]
        places = [place for place, ok in zip(places, right, strict=True) if ok]
        columns = _columns(rows)
    return Batch(columns, np.array(places, np.int64), sorted(broken))


def _columns(rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    columns = {}
    there = set[str]().union(*rows)
    for what in (name for name in NAMES if name in there):
        values = [row.get(what) for row in rows]
        if any(isinstance(value, list) for value in values):
            lists = [[v] if isinstance(v, str) else v for v in values]
            columns[what] = pa.array(lists, pa.list_(pa.string()))
        elif any(value is not None for value in values):
            columns[what] = pa.array(values, pa.string())
    return columns


def _is_utf8(row: Mapping[str, Any]) -> bool:
    try:
        for value in row.values():
            "".join(value or ()).encode()
    except UnicodeEncodeError:
        return False
    return True


_SIZE = attrgetter("size")


def _csv_rows(found: List, delimiter: str) -> Iterator[_Row]:
    csv = CsvRows(found.path, delimiter)
    names = csv.header()
    chosen = _chosen(names, found)
    _check_columns(found.path, chosen, names)
    cells = [(what, names.index(name), name in _PLURAL) for what, name in chosen.items()]
    for row in csv.rows(len(names), names.index(chosen["urls"])):
        place, size = csv.lines[0].number, sum(map(_SIZE, csv.lines))
        if isinstance(row, str):
            yield place, row, size
        else:
            values = {w: _several(row[i]) if plural else row[i] for w, i, plural in cells}
            yield place, values, size


def _several(cell: str) -> str | list[str | None]:
    """The values of a cell that holds a JSON list; any other cell is one value."""
    if cell.startswith("["):
        try:
            return _texts(msgspec.json.decode(cell, type=list[Any]))
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            pass
    return cell


_SHAPES: Final = 16  # rows of different names that are remembered


def _json_rows(found: List) -> Iterator[_Row]:
    # Most rows have the same names, and to choose among them takes longer than to read a row.
    chosen = lru_cache(_SHAPES)(lambda names: _chosen(names, found))
    decode: Callable[[str], Any] = msgspec.json.Decoder(dict[str, Any]).decode
    for line in lines_of(found.path):
        if line.wrong is not None:
            yield line.number, line.wrong, line.size
        elif line.text.strip():
            try:
                row = decode(line.text)
            except UnicodeEncodeError:
                yield line.number, NOT_UTF8, line.size
                continue
            except (msgspec.MsgspecError, RecursionError):
                yield line.number, NOT_JSON, line.size
                continue
            which = chosen(tuple(row))
            values = {what: _value(row[name]) for what, name in which.items()}
            yield line.number, values, line.size


def _value(value: Any) -> str | list[str | None] | None:
    return _texts(value) if isinstance(value, list) else _text(value)


def _texts(values: list[Any]) -> list[str | None]:
    return [_text(value) for value in values]


def _text(value: Any) -> str | None:
    """Text as it is, numbers as text; None for what is neither."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return repr(value) if is_number else None
