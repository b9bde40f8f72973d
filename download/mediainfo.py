"""One line of Commons' mediainfo dump → what image sources need of it: a row, and what it depicts.

    {"type": "mediainfo", "id": "M76", "labels": {"en": {"language": "en", "value": "A bus"}},
     "statements": {"P180": [{"mainsnak": {…}, "rank": "preferred"}], …},
     "pageid": 76, "ns": 6, "title": "File:Bustaxi.jpg", "lastrevid": 512, …}

A line is decoded straight into typed structs (msgspec), whose fields are all that is read: the rest
is skipped without becoming a Python object. What these types don't allow is not mended: the line is
rejected. ``tests/download/plain_mediainfo.py`` is the slow, readable twin.

The form: ``labels`` are the captions; empty maps are ``[]`` (T222159); snaks have no ``datatype``
(T246809); the key is ``statements`` where other entities have ``claims`` (T149410), which is read
where there are no ``statements``, lest the oddity be mended one day; ``title`` and ``ns`` are there
since June 2022 (T301104).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from etl.entity import MAX_NUMBER, MAX_REVISION, RejectedLineError
from etl.lines import Line

# Properties of Wikidata that files have statements of; Commons:Structured_data/Modeling.
DEPICTS, MAIN_SUBJECT, DIGITAL_REPRESENTATION = 180, 921, 6243

PIXEL: Final = "Q355198"  # unit of P2049 (width) and P2048 (height)
BYTE: Final = "Q8799"  # unit of P3575 (data size)
SHA1: Final = "Q13414952"  # P459 (determination method) of P4092 (checksum)

#: Characters of a caption or a creator's name that are kept. Wikibase allows 250 of a caption
#: and, on Wikimedia's wikis, 1,500 of a string: what is longer was not written by it.
LONGEST_TEXT: Final = 2_000
#: Bytes of a file's name (column page_title of MediaWiki's table page).
LONGEST_NAME: Final = 255
#: Highest page number: page_id is an unsigned int of four bytes, and M76 is the page 76.
MAX_PAGE: Final = (1 << 32) - 1

_MAX_INT32, _MAX_INT64 = (1 << 31) - 1, (1 << 63) - 1
_LONGEST_CODE = 64  # of a language; Wikimedia's longest have some 15
_LONGEST_MIME = 255  # RFC 6838: 127 characters on each side of the slash
_CACHED = 1 << 16  # items that are remembered: licences, creators and classes repeat
_FILE = "File:"
_FILE_NAMESPACE = 6

_page_id = re.compile(r"M([1-9][0-9]{0,9})\Z").match
_item_id = re.compile(r"Q[1-9][0-9]{0,16}\Z").match
_whole_number = re.compile(r"\+?([0-9]{1,19})(?:\.0+)?\Z").match
_hex_digest = re.compile(r"[0-9A-Fa-f]{40}\Z").match


class Row(NamedTuple):
    """A file, as files.parquet has it (:data:`download.reading.FILES`)."""

    page: int
    revision: int
    file: str | None
    captions: list[str]
    caption_langs: list[str]
    licences: list[str]
    statuses: list[str]
    creators: list[str]
    width: int | None
    height: int | None
    bytes: int | None
    mime: str | None
    sha1: str | None


#: Item, property, whether the statement's rank is preferred ("prominent" on the file's page).
Depicted = tuple[int, int, bool]


class File(NamedTuple):
    """What is taken of a line."""

    row: Row
    depicted: list[Depicted]


class NoFile(NamedTuple):
    """A line about something else: ``kind`` says what."""

    kind: str


# --- the line as msgspec reads it ---------------------------------------------------------------
# gc=False throughout: these are trees, and the cycle collector would walk millions of them in vain


class _Caption(Struct, gc=False):
    value: str


class _Value(Struct, rename="kebab", gc=False):
    """An entity's id or a quantity; of other kinds, what has these names is read and not used."""

    id: str | None = None
    numeric_id: int | None = None
    entity_type: str | None = None
    amount: str | None = None
    unit: str | None = None


class _DataValue(Struct, gc=False):
    type: str
    value: _Value | str


class _Snak(Struct, gc=False):
    snaktype: Literal["value", "somevalue", "novalue"]
    datavalue: _DataValue | None = None


class _Statement(Struct, gc=False):
    mainsnak: _Snak
    rank: Literal["preferred", "normal", "deprecated"] = "normal"


class _Naming(Struct, gc=False):
    """Qualifiers that name a creator who has no item."""

    P2093: tuple[_Snak, ...] = ()  # author name string
    P4174: tuple[_Snak, ...] = ()  # Wikimedia username
    P2699: tuple[_Snak, ...] = ()  # URL


class _Creation(_Statement, gc=False):
    qualifiers: _Naming | tuple[()] = ()


class _Method(Struct, gc=False):
    P459: tuple[_Snak, ...] = ()


class _Checksum(_Statement, gc=False):
    qualifiers: _Method | tuple[()] = ()


class _Statements(Struct, gc=False):
    P180: tuple[_Statement, ...] = ()
    P921: tuple[_Statement, ...] = ()
    P6243: tuple[_Statement, ...] = ()
    P275: tuple[_Statement, ...] = ()  # copyright license
    P6216: tuple[_Statement, ...] = ()  # copyright status
    P170: tuple[_Creation, ...] = ()  # creator
    P2049: tuple[_Statement, ...] = ()
    P2048: tuple[_Statement, ...] = ()
    P3575: tuple[_Statement, ...] = ()
    P1163: tuple[_Statement, ...] = ()  # media type
    P4092: tuple[_Checksum, ...] = ()


_NO_STATEMENTS = _Statements()


class _Line(Struct, gc=False):
    type: str
    id: str
    labels: dict[str, _Caption] | tuple[()] = ()
    statements: _Statements | tuple[()] | None = None
    claims: _Statements | tuple[()] | None = None
    ns: int | None = None
    title: str | None = None
    lastrevid: int = 0


_decode = msgspec.json.Decoder(_Line).decode


# --- what is taken ------------------------------------------------------------------------------


def read(line: Line) -> File | NoFile:
    """The file that a line (without its comma) is about, or what else it is about.

    Raises RejectedLineError where it isn't JSON or hasn't the form that Wikibase gives it.
    """
    try:
        return _file(_decode(line))
    except msgspec.ValidationError as error:
        raise RejectedLineError(f"not of a file's form: {error}"[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedLineError(f"not valid JSON: {error}"[:200]) from None
    except RecursionError:
        raise RejectedLineError("not a file: nested too deeply") from None


def _file(raw: _Line) -> File | NoFile:
    if raw.type != "mediainfo":
        return NoFile(raw.type[:40])
    if raw.ns is not None and raw.ns != _FILE_NAMESPACE:
        return NoFile("mediainfo of no file")
    name = raw.title
    if name is not None:
        if not name.startswith(_FILE):
            return NoFile("mediainfo of no file")
        name = _checked_name(name[len(_FILE) :])
    page = _page_id(raw.id)
    if page is None or int(page[1]) > MAX_PAGE:
        raise RejectedLineError(f"{raw.id[:40]!r} is not the id of a file")
    if not 0 <= raw.lastrevid <= MAX_REVISION:
        raise RejectedLineError(f"{raw.lastrevid} is not a revision")
    captions, langs = _captions(raw.labels)
    statements = (raw.claims if raw.statements is None else raw.statements) or _NO_STATEMENTS
    row = Row(
        int(page[1]),
        raw.lastrevid,
        name,
        captions,
        langs,
        _ids(statements.P275),
        _ids(statements.P6216),
        _creators(statements.P170) if statements.P170 else [],
        _quantity(statements.P2049, PIXEL, _MAX_INT32) if statements.P2049 else None,
        _quantity(statements.P2048, PIXEL, _MAX_INT32) if statements.P2048 else None,
        _quantity(statements.P3575, BYTE, _MAX_INT64) if statements.P3575 else None,
        _mime(statements.P1163) if statements.P1163 else None,
        _sha1(statements.P4092) if statements.P4092 else None,
    )
    depicted: list[Depicted] = []
    if statements.P180:
        depicted += _depicted(statements.P180, DEPICTS)
    if statements.P921:
        depicted += _depicted(statements.P921, MAIN_SUBJECT)
    if statements.P6243:
        depicted += _depicted(statements.P6243, DIGITAL_REPRESENTATION)
    return File(row, depicted)


def _checked_name(name: str) -> str:
    if not name or len(name) > LONGEST_NAME or len(name.encode()) > LONGEST_NAME:
        raise RejectedLineError(f"{name[:40]!r} is not the name of a file")
    return name


def _captions(labels: dict[str, _Caption] | tuple[()]) -> tuple[list[str], list[str]]:
    """Captions in the dump's order, and their languages."""
    if not labels:
        return [], []
    assert isinstance(labels, dict)
    langs = list(labels)
    if max(map(len, langs)) > _LONGEST_CODE:
        raise RejectedLineError("a caption in a language whose code is no code")
    return [caption.value[:LONGEST_TEXT] for caption in labels.values()], langs


def _used(statements: Iterable[_Statement]) -> list[_Statement]:
    """Statements that aren't deprecated, those of the best rank first."""
    used = [s for s in statements if s.rank != "deprecated"]
    if len(used) > 1:
        used.sort(key=lambda s: s.rank != "preferred")
    return used


def _ids(statements: tuple[_Statement, ...]) -> list[str]:
    """Items that statements name, each once."""
    found = [f"Q{n}" for s in _used(statements) if (n := _item(s.mainsnak))]
    return found if len(found) < 2 else list(dict.fromkeys(found))


def _creators(statements: tuple[_Creation, ...]) -> list[str]:
    """Ids of creators, or what the qualifiers call those who have none."""
    found = []
    for statement in _used(statements):
        snak = statement.mainsnak
        if snak.snaktype == "somevalue":
            assert isinstance(statement, _Creation)
            name = _name(statement.qualifiers)
            if name:
                found.append(name)
        elif number := _item(snak):
            found.append(f"Q{number}")
    return found if len(found) < 2 else list(dict.fromkeys(found))


def _name(qualifiers: _Naming | tuple[()]) -> str | None:
    if isinstance(qualifiers, tuple):
        return None
    for snaks in (qualifiers.P2093, qualifiers.P4174, qualifiers.P2699):
        for snak in snaks:
            if text := _text(snak):
                return text[:LONGEST_TEXT]
    return None


def _depicted(statements: tuple[_Statement, ...], property_: int) -> list[Depicted]:
    """Items that statements name, each once: preferred where one of its statements is."""
    found: dict[int, bool] = {}
    for statement in statements:
        rank = statement.rank
        if rank != "deprecated" and (number := _item(statement.mainsnak)):
            found[number] = found.get(number, False) or rank == "preferred"
    return [(number, property_, preferred) for number, preferred in found.items()]


def _quantity(statements: tuple[_Statement, ...], unit: str, most: int) -> int | None:
    """The first number in the unit; what is negative, a fraction or above ``most`` is none."""
    for statement in _used(statements):
        value = _value(statement.mainsnak, "quantity")
        if not isinstance(value, _Value):
            continue
        if value.amount is None or value.unit is None:
            raise RejectedLineError("a quantity without an amount or a unit")
        number = _whole_number(value.amount)
        if number and value.unit.rpartition("/")[2] == unit and int(number[1]) <= most:
            return int(number[1])
    return None


def _mime(statements: tuple[_Statement, ...]) -> str | None:
    for statement in _used(statements):
        text = _text(statement.mainsnak)
        if text and len(text) <= _LONGEST_MIME:
            return text
    return None


def _sha1(statements: tuple[_Checksum, ...]) -> str | None:
    for statement in _used(statements):
        assert isinstance(statement, _Checksum)
        text = _text(statement.mainsnak)
        if text and _hex_digest(text) and _is_sha1(statement.qualifiers):
            return text.lower()
    return None


def _is_sha1(qualifiers: _Method | tuple[()]) -> bool:
    if isinstance(qualifiers, tuple):
        return False
    return any(_item(snak) == _SHA1_NUMBER for snak in qualifiers.P459)


_SHA1_NUMBER = int(SHA1[1:])


# --- snaks --------------------------------------------------------------------------------------


def _value(snak: _Snak, type_: str) -> _Value | str | None:
    """The value of a snak, where it has one of that type."""
    if snak.snaktype != "value":
        return None
    datavalue = snak.datavalue
    if datavalue is None:
        raise RejectedLineError("a snak with a value that has none")
    if datavalue.type != type_:
        return None
    if isinstance(datavalue.value, str) != (type_ == "string"):
        raise RejectedLineError(f"a {type_} that has not the form of one")
    return datavalue.value


def _text(snak: _Snak) -> str | None:
    value = _value(snak, "string")
    assert not isinstance(value, _Value)
    return value


_numbers: dict[str, int] = {}


def _item(snak: _Snak) -> int:
    """The number of the item that a snak names, 0 where it names none."""
    value = _value(snak, "wikibase-entityid")
    if not isinstance(value, _Value):
        return 0
    id_ = value.id
    if id_ is None:
        return _old_item(value)
    number = _numbers.get(id_)
    if number is not None:
        return number
    if not id_.startswith("Q"):
        return 0  # a property, a lexeme, a file
    if _item_id(id_) is None or int(id_[1:]) > MAX_NUMBER:
        raise RejectedLineError(f"{id_[:40]!r} is not the id of an item")
    if len(_numbers) >= _CACHED:
        _numbers.clear()
    number = _numbers[id_] = int(id_[1:])
    return number


def _old_item(value: _Value) -> int:
    """A value without an id, as dumps before 2017 had them: type and number."""
    if value.entity_type is None or value.numeric_id is None:
        raise RejectedLineError("an entity value with neither an id nor a type and number")
    if value.entity_type != "item":
        return 0
    if not 0 < value.numeric_id <= MAX_NUMBER:
        raise RejectedLineError(f"{value.numeric_id} is not the number of an item")
    return value.numeric_id
