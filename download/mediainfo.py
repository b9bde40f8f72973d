"""One line of Commons' mediainfo dump → what image sources need of it: a row, and what it depicts.

    {"type": "mediainfo", "id": "M76", "labels": {"en": {"language": "en", "value": "A bus"}},
     "statements": {"P180": [{"mainsnak": {…}, "rank": "preferred"}], …},
     "pageid": 76, "ns": 6, "title": "File:Bustaxi.jpg", "lastrevid": 512, …}

A line is decoded straight into typed structs (msgspec), whose fields are all that is read: the rest
is skipped without becoming a Python object. Nearly all lines have the narrow types' shape; what
doesn't is decoded into wide ones, which are of any shape that Wikibase has given to a file. What
these don't allow either is not mended: the line is rejected. ``docs/performance.md`` has the gain,
``tests/download/plain_mediainfo.py`` the slow, readable twin.

The form: ``labels`` are the captions; empty maps are ``[]`` (T222159); snaks have no ``datatype``
(T246809); the key is ``statements`` where other entities have ``claims`` (T149410), which is read
where there are no ``statements``, lest the oddity be mended one day; ``title`` and ``ns`` are there
since June 2022 (T301104).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from etl.entity import MAX_NUMBER, MAX_REVISION, RejectedLineError
from etl.lines import Line

# Properties of Wikidata that files have statements of; Commons:Structured_data/Modeling.
DEPICTS, MAIN_SUBJECT, DIGITAL_REPRESENTATION = 180, 921, 6243

PIXEL: Final = "/Q355198"  # unit of P2049 (width) and P2048 (height)
BYTE: Final = "/Q8799"  # unit of P3575 (data size)
SHA1: Final = 13414952  # P459 (determination method) of P4092 (checksum)

#: Characters of a caption or a creator's name that are kept. Wikibase allows 250 of a caption
#: and, on Wikimedia's wikis, 1,500 of a string: what is longer was not written by it.
LONGEST_TEXT: Final = 2_000
#: Bytes of a file's name (column page_title of MediaWiki's table page).
LONGEST_NAME: Final = 255
#: Highest page number: page_id is an unsigned int of four bytes, and M76 is the page 76.
MAX_PAGE: Final = (1 << 32) - 1

_MAX_INT32, _MAX_INT64 = (1 << 31) - 1, (1 << 63) - 1
_LONGEST_CODE = 64  # of a language; Wikimedia's longest have some 15
_CACHED = 1 << 16  # items that are remembered: licences, creators and classes repeat
_MOST_CAPTIONS = 1_000  # Wikimedia has some 600 languages
_MOST_NAMED = 20  # licences, statuses and creators of a file: who wrote more wrote no credit
_SURELY_SHORT = 64  # characters, of four bytes at most
_SURELY_INT64 = 19  # digits, one more than what always fits
_SHA1 = f"Q{SHA1}"
_FILE = "File:"
_OF_FILES = (6, None)  # namespace; None in dumps before June 2022
_NO_FILE = "mediainfo of no file"

_page_id = re.compile(r"M([1-9][0-9]{0,9})\Z").match
_item_id = re.compile(r"Q([1-9][0-9]{0,16})\Z").match
_whole_number = re.compile(r"\+?([0-9]{1,19})(?:\.0+)?\Z").match
_hex_digest = re.compile(r"[0-9A-Fa-f]{40}\Z").match
_NAME_OF_TYPE = r"[A-Za-z0-9][-A-Za-z0-9!#$&^_.+]{0,126}"  # RFC 6838, 4.2
_is_mime = re.compile(rf"{_NAME_OF_TYPE}/{_NAME_OF_TYPE}\Z").match


#: Item, property, whether the statement's rank is preferred ("prominent" on the file's page).
Depicted = tuple[int, int, bool]

Texts = tuple[str, ...]

#: A file: the columns of files.parquet (:data:`download.reading.FILES`), then what it depicts.
File = tuple[
    int,  # page
    int,  # revision
    str | None,  # file
    Texts,  # captions
    Texts,  # caption_langs
    Texts,  # licences
    Texts,  # statuses
    Texts,  # creators
    int | None,  # width
    int | None,  # height
    int | None,  # bytes
    str | None,  # mime
    str | None,  # sha1
    Sequence[Depicted],
]


class NoFile(NamedTuple):
    """A line about something else: ``kind`` says what."""

    kind: str


# --- the line as msgspec reads it ---------------------------------------------------------------
# gc=False throughout: these are trees, and the cycle collector would walk millions of them in vain

_Rank = Literal["normal", "preferred", "deprecated"]
_Revision = Annotated[int, msgspec.Meta(ge=0, le=MAX_REVISION)]


class _Caption(Struct, gc=False):
    value: str


class _Value(Struct, rename="kebab", gc=False):
    """An entity's id or a quantity, whose members are checked when they are needed."""

    id: Any = None
    numeric_id: Any = None
    entity_type: Any = None
    amount: Any = None
    unit: Any = None


class _DataValue(Struct, gc=False):
    type: str
    value: _Value | str


class _Snak(Struct, gc=False):
    snaktype: Literal["value", "somevalue", "novalue"]
    datavalue: _DataValue | None = None


class _Statement(Struct, gc=False):
    mainsnak: _Snak
    rank: _Rank = "normal"


AnyStatement = TypeVar("AnyStatement", bound=_Statement)


class _Naming(Struct, gc=False):
    """Qualifiers that name a creator who has no item; the second is looked at without the first."""

    P2093: tuple[_Snak, ...] = ()  # author name string
    P4174: Raw = Raw()  # Wikimedia username
    P2699: Raw = Raw()  # URL


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


class _Kind(Struct, gc=False):
    type: str


class _Line(_Kind, gc=False):
    id: str
    labels: dict[str, _Caption] | tuple[()] = ()
    statements: _Statements | tuple[()] | None = None
    claims: _Statements | tuple[()] | None = None
    ns: int | None = None
    title: str | None = None
    lastrevid: _Revision = 0


# The same, narrower: what nearly all lines are.


class _NarrowId(Struct, gc=False):
    id: str


class _NarrowPixels(Struct, gc=False):
    amount: str
    unit: Literal["http://www.wikidata.org/entity/Q355198"]


class _NarrowBytes(Struct, gc=False):
    amount: str
    unit: Literal["http://www.wikidata.org/entity/Q8799"]


def _narrow_snak(type_: str, value: Any, *, valueless: bool = False) -> Any:
    """A snak with a value of one type."""
    kind: Any = Literal[type_]
    datavalue: Any = msgspec.defstruct(
        "NarrowDataValue", [("value", value), ("type", kind)], gc=False
    )
    fields: list[Any] = [("snaktype", Literal["value"]), ("datavalue", datavalue)]
    if valueless:
        fields = [
            ("snaktype", Literal["value", "somevalue"]),
            ("datavalue", datavalue | None, None),
        ]
    return msgspec.defstruct("NarrowSnak", fields, gc=False)


def _tuple_of(type_: Any) -> Any:
    return tuple[type_, ...]


def _narrow_statements(snak: Any, *qualifiers: tuple[str, Any, Any]) -> Any:
    """Statements with such a snak."""
    fields: list[Any] = [("mainsnak", snak), ("rank", _Rank), *qualifiers]
    return _tuple_of(msgspec.defstruct("NarrowStatement", fields, gc=False))


_narrow_id = _narrow_snak("wikibase-entityid", _NarrowId)
_narrow_text = _narrow_snak("string", str)
_NarrowNaming: Any = msgspec.defstruct(
    "NarrowNaming",
    [("P2093", _tuple_of(_narrow_text), ()), ("P4174", Raw, Raw()), ("P2699", Raw, Raw())],
    gc=False,
)
_NarrowMethod: Any = msgspec.defstruct(
    "NarrowMethod", [("P459", _tuple_of(_narrow_id), ())], gc=False
)
_items = _narrow_statements(_narrow_id)
_pixels = _narrow_statements(_narrow_snak("quantity", _NarrowPixels))
_TYPES = {
    **dict.fromkeys(("P180", "P921", "P6243", "P275", "P6216"), _items),
    "P170": _narrow_statements(
        _narrow_snak("wikibase-entityid", _NarrowId, valueless=True),
        ("qualifiers", _NarrowNaming | tuple[()], ()),
    ),
    "P2049": _pixels,
    "P2048": _pixels,
    "P3575": _narrow_statements(_narrow_snak("quantity", _NarrowBytes)),
    "P1163": _narrow_statements(_narrow_text),
    "P4092": _narrow_statements(_narrow_text, ("qualifiers", _NarrowMethod | tuple[()], ())),
}
_NarrowStatements: Any = msgspec.defstruct(
    "NarrowStatements", [(p, type_, ()) for p, type_ in _TYPES.items()], gc=False
)
_NarrowLine: Any = msgspec.defstruct(
    "NarrowLine",
    [
        ("type", Literal["mediainfo"]),
        ("id", str),
        ("labels", dict[str, _Caption] | tuple[()], ()),
        ("statements", _NarrowStatements | tuple[()]),
        ("pageid", int, 0),
        ("ns", Literal[6] | None, None),
        ("title", str | None, None),
        ("lastrevid", _Revision, 0),
    ],
    kw_only=True,
    gc=False,
)
_decode: Callable[[Line], _Line] = msgspec.json.Decoder(_NarrowLine).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_any = msgspec.json.Decoder(_Line).decode
_decode_snaks = msgspec.json.Decoder(tuple[_Snak, ...]).decode

# --- what is taken ------------------------------------------------------------------------------


def read(line: Line) -> File | NoFile:
    """The file that a line (without its comma) is about, or what else it is about.

    Raises RejectedLineError where it isn't JSON or hasn't the form that Wikibase gives it.
    """
    try:
        try:
            raw = _decode(line)
        except msgspec.ValidationError:
            kind = _decode_kind(line).type
            if kind != "mediainfo":
                return NoFile(kind[:40])
            raw = _decode_any(line)
            if raw.statements is None:
                raw.statements = raw.claims
            return _file(raw)
        return _narrow_file(raw)
    except msgspec.ValidationError as error:
        raise RejectedLineError(f"not of a file's form: {error}"[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedLineError(f"not valid JSON: {error}"[:200]) from None
    except RecursionError:
        raise RejectedLineError("not a file: nested too deeply") from None


def _file(raw: _Line) -> File | NoFile:
    name, statements, labels = raw.title, raw.statements, raw.labels
    if raw.ns not in _OF_FILES:
        return NoFile(_NO_FILE)
    if name is not None:
        if name[:5] != _FILE:
            return NoFile(_NO_FILE)
        name = name[5:]
        if not 0 < len(name) < _SURELY_SHORT:
            _check_name(name)
    page = _page_of(raw.id)
    langs, captions = _captions(labels) if labels else ((), ())
    if not statements:
        nothing = (captions, langs, (), (), (), None, None, None, None, None, ())
        return (page, raw.lastrevid, name, *nothing)
    depicted: list[Depicted] = []
    if statements.P180:
        depicted += _depicted(statements.P180, DEPICTS)
    if statements.P921:
        depicted += _depicted(statements.P921, MAIN_SUBJECT)
    if statements.P6243:
        depicted += _depicted(statements.P6243, DIGITAL_REPRESENTATION)
    return (
        page,
        raw.lastrevid,
        name,
        captions,
        langs,
        _ids(statements.P275) if statements.P275 else (),
        _ids(statements.P6216) if statements.P6216 else (),
        _creators(statements.P170) if statements.P170 else (),
        _quantity(statements.P2049, PIXEL, _MAX_INT32) if statements.P2049 else None,
        _quantity(statements.P2048, PIXEL, _MAX_INT32) if statements.P2048 else None,
        _quantity(statements.P3575, BYTE, _MAX_INT64) if statements.P3575 else None,
        _mime(statements.P1163) if statements.P1163 else None,
        _sha1(statements.P4092) if statements.P4092 else None,
        depicted,
    )


def _page_of(id_: str) -> int:
    found = _page_id(id_)
    page = int(found[1]) if found else 0
    if not 0 < page <= MAX_PAGE:
        raise RejectedLineError(f"{id_[:40]!r} is not the id of a file")
    return page


def _check_name(name: str) -> str:
    if not name or len(name.encode()) > LONGEST_NAME:
        raise RejectedLineError(f"{name[:40]!r} is not the name of a file")
    return name


def _captions(labels: dict[str, _Caption] | tuple[()]) -> tuple[Texts, Texts]:
    """Languages and captions in the dump's order."""
    assert isinstance(labels, dict)
    langs = tuple(labels)
    if len(langs) > _MOST_CAPTIONS or max(map(len, langs)) > _LONGEST_CODE:
        raise RejectedLineError("captions in languages that there aren't")
    return langs, tuple([caption.value[:LONGEST_TEXT] for caption in labels.values()])


def _used(statements: Sequence[AnyStatement]) -> Sequence[AnyStatement]:
    """Statements that aren't deprecated, those of the best rank first."""
    if len(statements) == 1:
        return statements if statements[0].rank != "deprecated" else ()
    used = [s for s in statements if s.rank != "deprecated"]
    used.sort(key=_is_normal)
    return used


def _is_normal(statement: _Statement) -> bool:
    return statement.rank == "normal"


def _ids(statements: Sequence[_Statement]) -> Texts:
    """The first items that statements name, each once."""
    used = _used(statements)
    if len(used) == 1:
        number = _item(used[0].mainsnak)
        return (f"Q{number}",) if number else ()
    found = [f"Q{number}" for s in used if (number := _item(s.mainsnak))]
    return tuple(dict.fromkeys(found))[:_MOST_NAMED]


def _creators(statements: Sequence[_Creation]) -> Texts:
    """Ids of the first creators, or what the qualifiers call those who have none."""
    found: list[str] = []
    for statement in _used(statements):
        snak = statement.mainsnak
        if snak.snaktype == "somevalue":
            qualifiers = statement.qualifiers
            if qualifiers and (name := _name(qualifiers)):
                found.append(name)
        elif number := _item(snak):
            found.append(f"Q{number}")
    return tuple(found if len(found) < 2 else dict.fromkeys(found))[:_MOST_NAMED]


def _name(qualifiers: _Naming) -> str:
    """The first text of the first qualifier that has one, "" for none."""
    for snak in qualifiers.P2093:
        if text := _text(snak):
            return text[:LONGEST_TEXT]
    for raw in (qualifiers.P4174, qualifiers.P2699):
        for snak in _decode_snaks(raw) if raw else ():
            if text := _text(snak):
                return text[:LONGEST_TEXT]
    return ""


def _depicted(statements: Sequence[_Statement], property_: int) -> list[Depicted]:
    """Items that statements name, each once: preferred where one of its statements is."""
    found: dict[int, bool] = {}
    for statement in statements:
        rank = statement.rank
        if rank != "deprecated" and (number := _item(statement.mainsnak)):
            found[number] = found.get(number, False) or rank == "preferred"
    return [(number, property_, preferred) for number, preferred in found.items()]


def _quantity(statements: Sequence[_Statement], unit: str, most: int) -> int | None:
    """The first number in the unit, from 1 to ``most``: 0 is said of what nobody measured."""
    for statement in _used(statements):
        snak = statement.mainsnak
        value = _value(snak, "quantity")
        if value is None:
            continue
        if not isinstance(value.amount, str) or not isinstance(value.unit, str):
            raise RejectedLineError("a quantity without an amount or a unit")
        number = _whole_number(value.amount)
        if number and value.unit.endswith(unit) and 0 < (found := int(number[1])) <= most:
            return found
    return None


def _mime(statements: Sequence[_Statement]) -> str | None:
    for statement in _used(statements):
        text = _text(statement.mainsnak)
        if text and _is_mime(text):
            return text
    return None


def _sha1(statements: Sequence[_Checksum]) -> str | None:
    for statement in _used(statements):
        text = _text(statement.mainsnak)
        if text and _hex_digest(text) and statement.qualifiers:
            for snak in statement.qualifiers.P459:
                if _item(snak) == SHA1:
                    return text.lower()
    return None


# --- the same of narrow lines, without detours where there is one statement of normal rank --------


def _narrow_file(raw: Any) -> File | NoFile:
    """What :func:`_file` gives."""
    page, name, statements = raw.pageid, raw.title, raw.statements
    if name is None or not statements or raw.id != f"M{page}" or not 0 < page <= MAX_PAGE:
        return _file(raw)
    if not name.startswith(_FILE) or (len(name) >= _SURELY_SHORT and not name.isascii()):
        return _file(raw)
    langs, captions = _captions(raw.labels) if raw.labels else ((), ())
    depicted: list[Depicted] = []
    if found := statements.P180:
        depicted += _narrow_depicted(found, DEPICTS)
    if found := statements.P921:
        depicted += _narrow_depicted(found, MAIN_SUBJECT)
    if found := statements.P6243:
        depicted += _narrow_depicted(found, DIGITAL_REPRESENTATION)
    return (
        page,
        raw.lastrevid,
        name[5:] if 5 < len(name) <= LONGEST_NAME else _check_name(name[5:]),
        captions,
        langs,
        _narrow_ids(found) if (found := statements.P275) else (),
        _narrow_ids(found) if (found := statements.P6216) else (),
        _narrow_creators(found) if (found := statements.P170) else (),
        _narrow_pixels(found) if (found := statements.P2049) else None,
        _narrow_pixels(found) if (found := statements.P2048) else None,
        _narrow_bytes(found) if (found := statements.P3575) else None,
        _narrow_mime(found) if (found := statements.P1163) else None,
        _narrow_sha1(found) if (found := statements.P4092) else None,
        depicted,
    )


def _narrow_ids(statements: Any) -> Texts:
    if len(statements) == 1:
        statement = statements[0]
        if statement.rank == "normal":
            known = _alone.get(statement.mainsnak.datavalue.value.id)
            if known is not None:
                return known
    ids = _ids(statements)
    if len(statements) == len(ids) == 1:
        if len(_alone) >= _CACHED:
            _alone.clear()
        _alone[ids[0]] = ids
    return ids


_alone: dict[str, Texts] = {}  # id → what one statement about it gives


def _narrow_creators(statements: Any) -> Texts:
    if len(statements) == 1:
        statement = statements[0]
        names = statement.qualifiers and statement.qualifiers.P2093
        if names and statement.rank == "normal" and statement.mainsnak.snaktype == "somevalue":
            name = names[0].datavalue.value
            if name:
                return (name[:LONGEST_TEXT],)
    return _creators(statements)


def _narrow_pixels(statements: Any) -> int | None:
    statement = statements[0]
    if len(statements) == 1 and statement.rank == "normal":
        amount = statement.mainsnak.datavalue.value.amount
        known = _sizes.get(amount)
        if known is not None:
            return known
        found = _quantity(statements, PIXEL, _MAX_INT32)
        if found is not None:
            if len(_sizes) >= _CACHED:
                _sizes.clear()
            _sizes[amount] = found
        return found
    return _quantity(statements, PIXEL, _MAX_INT32)


_sizes: dict[str, int] = {}  # amount of pixels → number


def _narrow_bytes(statements: Any) -> int | None:
    if len(statements) == 1 and statements[0].rank == "normal":
        amount: str = statements[0].mainsnak.datavalue.value.amount
        digits = amount[1:]
        whole = digits.isdecimal() and digits.isascii() and len(digits) < _SURELY_INT64
        if whole and amount[:1] == "+":
            return int(digits) or None
    return _quantity(statements, BYTE, _MAX_INT64)


def _narrow_depicted(statements: Any, property_: int) -> list[Depicted]:
    if len(statements) == 1:
        statement = statements[0]
        rank = statement.rank
        number = _numbers.get(statement.mainsnak.datavalue.value.id)
        if number is not None and rank != "deprecated":
            return [(number, property_, rank == "preferred")]
    return _depicted(statements, property_)


def _narrow_mime(statements: Any) -> str | None:
    if len(statements) == 1 and statements[0].rank == "normal":
        mime: str = statements[0].mainsnak.datavalue.value
        if mime in _mimes:
            return mime
        if _is_mime(mime):
            if len(_mimes) >= _CACHED:
                _mimes.clear()
            _mimes.add(mime)
            return mime
    return _mime(statements)


_mimes: set[str] = set()  # that are of a type's form


def _narrow_sha1(statements: Any) -> str | None:
    if len(statements) == 1:
        statement = statements[0]
        methods = statement.qualifiers and statement.qualifiers.P459
        if statement.rank == "normal" and len(methods) == 1:
            digest: str = statement.mainsnak.datavalue.value
            if methods[0].datavalue.value.id == _SHA1 and _hex_digest(digest):
                return digest.lower()
    return _sha1(statements)


# --- snaks --------------------------------------------------------------------------------------


def _value(snak: _Snak, type_: str) -> Any:
    """The value of a snak, where it has one of that type: text of a string, else a struct."""
    datavalue = snak.datavalue
    if snak.snaktype != "value":
        return None
    if datavalue is None:
        raise RejectedLineError("a snak with a value that has none")
    if datavalue.type != type_:
        return None
    value = datavalue.value
    if (type(value) is str) != (type_ == "string"):
        raise RejectedLineError(f"a {type_} that has not the form of one")
    return value


def _text(snak: _Snak) -> str | None:
    value: str | None = _value(snak, "string")
    return value


_numbers: dict[str, int] = {}


def _item(snak: _Snak) -> int:
    """The number of the item that a snak names, 0 where it names none."""
    value = _value(snak, "wikibase-entityid")
    if value is None:
        return 0
    id_ = value.id
    if type(id_) is not str:
        return _old_item(value)
    number = _numbers.get(id_)
    if number is not None:
        return number
    if id_[:1] != "Q":
        return 0  # a property, a lexeme, a file
    found = _item_id(id_)
    number = int(found[1]) if found else 0
    if not 0 < number <= MAX_NUMBER:
        raise RejectedLineError(f"{id_[:40]!r} is not the id of an item")
    if len(_numbers) >= _CACHED:
        _numbers.clear()
    _numbers[id_] = number
    return number


def _old_item(value: _Value) -> int:
    """A value without an id, as dumps before 2017 had them: type and number."""
    number = value.numeric_id
    if value.id is not None or type(number) is not int or type(value.entity_type) is not str:
        raise RejectedLineError("an entity value with neither an id nor a type and number")
    if value.entity_type != "item":
        return 0
    if not 0 < number <= MAX_NUMBER:
        raise RejectedLineError(f"{number} is not the number of an item"[:200])
    return number
