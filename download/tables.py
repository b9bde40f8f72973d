"""What MediaWiki's tables say of files on Commons: sizes, and names of pages.

A file's width, height, bytes, type and SHA-1 stand in table ``image``, by its name. Its successors
say the same in three tables (T28741; Commons writes both): ``file`` has the name and the current
revision, ``filerevision`` that revision's figures, ``filetypes`` the types by number. Table
``page`` has the names for mediainfo dumps that are older than June 2022 and lack them.

``image`` has 147 million rows, and up to some ten millions of them are wanted. So the wanted names
are kept as 64-bit hashes, ascending: 8 bytes a name. What a dump has of those goes to the disk; the
names themselves are compared when the two are joined (``download/sizes.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.merged_ids import Ids
from etl.progress import Tick
from etl.sql import VALUE, Table, batches, string, strings
from etl.tables import TableWriter

_WIKI: Final = "commonswiki"
_FILE_NAMESPACE: Final = b"6"  # MediaWiki's NS_FILE

# `metadata` is a MEDIUMBLOB, of which every byte may be escaped.
_LONGEST_ROW: Final = 2 * (1 << 24) + (1 << 16)

_WHOLE = b"[0-9]{1,18}"
#: A name of a type as the IANA registers them (RFC 6838, 4.2); what isn't one is as none.
_TYPE_NAME = rb"[A-Za-z0-9][-A-Za-z0-9!#$&^_.+]{0,126}"


def _number(group: str) -> bytes:
    return b"(?P<%b>%b)" % (group.encode(), _WHOLE)


def _signed(group: str) -> bytes:
    """A number whose column may hold one below zero (INTEGER), of which nothing is found."""
    return rb"(?:%b|-%b)" % (_number(group), _WHOLE)


def _word(group: str, pattern: bytes) -> bytes:
    """A string that reads like ``pattern``, else any value, of which nothing is found."""
    return rb"(?:_binary )?+'(?P<%b>%b)'|%b" % (group.encode(), pattern, VALUE)


#: MediaWiki keeps hashes in base 36, to 31 digits (its sql/tables.json, Wikimedia\base_convert).
_SHA1 = _word("sha1", rb"[0-9a-z]{31}")

IMAGE: Final = Table(
    "image",
    {
        "img_name": string("name"),
        "img_size": _number("bytes"),
        "img_width": _signed("width"),
        "img_height": _signed("height"),
        "img_major_mime": _word("major", _TYPE_NAME),
        "img_minor_mime": _word("minor", _TYPE_NAME),
        "img_sha1": _SHA1,
    },
    longest_row=_LONGEST_ROW,
    wiki=_WIKI,
)
FILE: Final = Table(
    "file",
    {
        "file_id": _WHOLE,
        "file_name": string("name"),
        "file_latest": _number("latest"),
        "file_type": _number("type"),
        "file_deleted": _number("deleted"),
    },
    wiki=_WIKI,
)
FILEREVISION: Final = Table(
    "filerevision",
    {
        "fr_id": _number("latest"),
        "fr_size": _number("bytes"),
        "fr_width": _signed("width"),
        "fr_height": _signed("height"),
        "fr_sha1": _SHA1,
        "fr_deleted": _number("hidden"),
    },
    longest_row=_LONGEST_ROW,
    wiki=_WIKI,
)
FILETYPES: Final = Table(
    "filetypes",
    {
        "ft_id": _number("type"),
        "ft_major_mime": _word("major", _TYPE_NAME),
        "ft_minor_mime": _word("minor", _TYPE_NAME),
    },
    wiki=_WIKI,
)
PAGE: Final = Table(
    "page",
    {
        "page_id": _number("page"),
        "page_namespace": _FILE_NAMESPACE,
        "page_title": string("name"),
    },
    unwanted={"page_namespace": rb"(?!%b,)-?[0-9]{1,9}" % _FILE_NAMESPACE},
    wiki=_WIKI,
)

#: Rows of ``image``; ``name`` is as MediaWiki has it, with underscores.
_SIZES: Final = [
    ("bytes", pa.int64()),
    ("width", pa.int64()),  # 0 where there is none, null for one below 0
    ("height", pa.int64()),
    ("sha1", pa.binary()),
]
IMAGE_ROWS: Final = pa.schema([("name", pa.binary()), *_SIZES, ("mime", pa.string())])
FILE_ROWS: Final = pa.schema(
    [
        ("name", pa.binary()),
        ("latest", pa.int64()),  # number of the current revision
        ("type", pa.int64()),
        ("deleted", pa.int64()),  # 0 for no
    ]
)
REVISION_ROWS: Final = pa.schema([("latest", pa.int64()), *_SIZES, ("hidden", pa.int64())])
TYPE_ROWS: Final = pa.schema([("type", pa.int64()), ("mime", pa.string())])
TITLES: Final = pa.schema([("page", pa.int64()), ("file", pa.string())])

_Batch = Mapping[str, tuple[bytes, ...]]
_Columns = dict[str, Any]

# Of bytes, 64 bits, with a key that is drawn when Python starts (PEP 456): nobody can name files so
# that their hashes agree. As fast as copying the names.
_hash = hash


def hashes_of(names: Sequence[bytes]) -> Ids:
    """What names are looked for by, in this process; in the order of the names."""
    return np.fromiter(map(_hash, names), np.int64, len(names))


# --- reading ------------------------------------------------------------------------------------
#
# Each writes what it takes of a dump to `out` and returns how many rows it has read. All raise
# UserError where a file is broken or isn't what it should be.

#: By name, for who checks a file's head.
TABLES: Final = {table.name: table for table in (IMAGE, FILE, FILEREVISION, FILETYPES, PAGE)}


def read_image(dump: Path, wanted: Ids, out: Path, tick: Tick) -> int:
    """Rows of ``image`` (columns IMAGE_ROWS) whose names' hashes are wanted; these ascend."""

    def taken(batch: _Batch) -> _Columns:
        names = strings(batch, "name")
        hits = _among(hashes_of(names), wanted)
        mimes = map(_mime, _at(batch["major"], hits), _at(batch["minor"], hits))
        return {"name": _at(names, hits), **_sizes(batch, hits), "mime": list(mimes)}

    return _copied(dump, IMAGE, taken, IMAGE_ROWS, out, tick)


def read_file(dump: Path, wanted: Ids, out: Path, tick: Tick) -> int:
    """Rows of ``file`` (columns FILE_ROWS) whose names' hashes are wanted; these ascend."""

    def taken(batch: _Batch) -> _Columns:
        names = strings(batch, "name")
        hits = _among(hashes_of(names), wanted)
        numbers = {name: _numbers(batch[name], hits) for name in ("latest", "type", "deleted")}
        return {"name": _at(names, hits), **numbers}

    return _copied(dump, FILE, taken, FILE_ROWS, out, tick)


def read_filerevision(dump: Path, revisions: Ids, out: Path, tick: Tick) -> int:
    """Rows of ``filerevision`` (columns REVISION_ROWS) with some numbers, which ascend."""

    def taken(batch: _Batch) -> _Columns:
        hits = _among(_numbers(batch["latest"]).to_numpy(), revisions)
        numbers = {name: _numbers(batch[name], hits) for name in ("latest", "hidden")}
        return {**numbers, **_sizes(batch, hits)}

    return _copied(dump, FILEREVISION, taken, REVISION_ROWS, out, tick)


def read_filetypes(dump: Path, out: Path, tick: Tick) -> int:
    """All of ``filetypes`` (columns TYPE_ROWS), some hundreds of rows."""

    def taken(batch: _Batch) -> _Columns:
        mimes = map(_mime, batch["major"], batch["minor"])
        return {"type": _numbers(batch["type"]), "mime": list(mimes)}

    return _copied(dump, FILETYPES, taken, TYPE_ROWS, out, tick)


def titles(dump: Path, pages: Ids, out: Path, tick: Tick) -> int:
    """Names of files (columns TITLES) by the numbers of their pages, which ascend, from ``page``.

    In the order of the dump, which is that of the numbers where it is as published. Pages that
    aren't there or aren't files have no row; ``file`` is null where a title isn't UTF-8.
    """

    def taken(batch: _Batch) -> _Columns:
        numbers = _numbers(batch["page"]).to_numpy()
        hits = _among(numbers, pages)
        names = _at(strings(batch, "name"), hits)
        return {"page": numbers[hits], "file": [_title(name) for name in names]}

    return _copied(dump, PAGE, taken, TITLES, out, tick)


def _copied(
    dump: Path,
    table: Table,
    taken: Callable[[_Batch], _Columns],
    schema: pa.Schema,
    out: Path,
    tick: Tick,
) -> int:
    rows = 0
    with TableWriter(out, schema, repeated=["mime"] if "mime" in schema.names else []) as writer:
        for batch in batches(dump, table, tick):
            rows += len(next(iter(batch.values())))
            writer.write(pa.table(taken(batch), schema=schema))
    return rows


def _among(values: Ids, wanted: Ids) -> npt.NDArray[np.int64]:
    """Places, ascending, of the values that are among the wanted, which ascend."""
    if not len(wanted):
        return np.empty(0, np.int64)
    # in order, so that one search finds near in memory what the next one looks at
    order = np.argsort(values)
    values = values[order]
    at = np.searchsorted(wanted, values)
    at[at == len(wanted)] = 0
    found: npt.NDArray[np.int64] = np.sort(order[wanted[at] == values])
    return found


# --- values -------------------------------------------------------------------------------------


def _at(column: Sequence[bytes], places: Iterable[int]) -> list[bytes]:
    return [column[place] for place in places]


def _numbers(column: Sequence[bytes | None], places: Iterable[int] | None = None) -> pa.Array:
    digits = column if places is None else [column[place] for place in places]
    return pa.array(digits, pa.binary()).cast(pa.string()).cast(pa.int64())


def _sizes(batch: _Batch, places: Ids) -> _Columns:
    found = {name: _at(batch[name], places) for name in ("bytes", "width", "height")}
    numbers = {name: _numbers([digits or None for digits in found[name]]) for name in found}
    return {**numbers, "sha1": [_sha1(digits) for digits in _at(batch["sha1"], places)]}


def _sha1(digits: bytes) -> bytes | None:
    """20 bytes from 31 digits in base 36, which may say more than 160 bits."""
    number = int(digits or b"0", 36)
    return number.to_bytes(20, "big") if 0 < number < 1 << 160 else None


def _mime(major: bytes, minor: bytes) -> str | None:
    """MediaWiki says ``unknown/unknown`` of what it doesn't know."""
    if not major or not minor or b"unknown" in (major, minor):
        return None
    return f"{major.decode()}/{minor.decode()}"


def _title(name: bytes) -> str | None:
    try:
        return name.decode().replace("_", " ")
    except UnicodeDecodeError:
        return None
