"""Entities as a store holds them: records, their bytes, and the plain way to read one off a line.

:func:`read_slowly` reads a line with ujson into plain dicts and takes what it wants; it defines
what a record is. The ingest reads with :mod:`etl.reader`, ten times as fast and the same on every
line, which a test holds it to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import ujson
from msgspec import Struct

from etl.kept import Kept

#: Highest number that an id may have: a key holds it in seven bytes.
MAX_NUMBER: Final = (1 << 55) - 1

#: Highest revision: runs and Parquet files hold it as a signed number of eight bytes.
MAX_REVISION: Final = (1 << 63) - 1

_RANKS = ("deprecated", "normal", "preferred")
RANK_CODE = {name: code for code, name in enumerate(_RANKS)}
_DEPRECATED = 0

#: Codes of a stored snak. 0 and 1 are snaks without a value, the rest are datavalue types.
_KINDS = (
    "somevalue",
    "novalue",
    "wikibase-entityid",
    "string",
    "monolingualtext",
    "time",
    "quantity",
    "globecoordinate",
    "other",
)
SOMEVALUE, NOVALUE, ENTITY_ID = 0, 1, 2
_OTHER = len(_KINDS) - 1
KIND_CODE = {name: code for code, name in enumerate(_KINDS)}

_ENTITY_LETTER = {"item": "Q", "property": "P", "lexeme": "L"}
_ID = re.compile(r"[QP][1-9][0-9]{0,16}\Z")


class RejectedLineError(ValueError):
    """A line that is not an entity; the message is the reason, in the user's words."""


class Snak(Struct, array_like=True, gc=False):
    """Property–value pair of a statement or qualifier.

    ``value`` is an id ("Q5") for a ``wikibase-entityid``, a str for a ``string``, the
    datavalue's own dict for the other kinds, None for somevalue and novalue.
    """

    code: int
    value: Any = None

    @property
    def type(self) -> str:
        """``value``, ``somevalue`` or ``novalue``."""
        return _KINDS[self.code] if self.code <= NOVALUE else "value"

    @property
    def kind(self) -> str:
        """Type of the datavalue, ``""`` where there is none."""
        return "" if self.code <= NOVALUE else _KINDS[self.code]


class Statement(Struct, array_like=True, gc=False):
    """Main snak, rank and the kept qualifiers (property → snaks)."""

    rank_code: int
    snak: Snak
    qualifiers: dict[str, list[Snak]] = {}

    @property
    def rank(self) -> str:
        """``preferred``, ``normal`` or ``deprecated``."""
        return _RANKS[self.rank_code]


class Record(Struct, array_like=True, gc=False):
    """What a store holds of one item or property."""

    id: str
    revision: int
    sitelinks: int
    labels: dict[str, str]
    descriptions: dict[str, str]
    aliases: dict[str, list[str]]
    claims: dict[str, list[Statement]]
    datatype: str = ""

    def truthy(self, property_id: str) -> list[Statement]:
        """Statements that ``wdt:`` has: best rank, never deprecated, never novalue.

        The rule is Wikibase's RDF dump format ("truthy statements"): preferred ones if there
        are any, else normal ones; novalue takes part in the choice of the rank but makes no
        ``wdt:`` triple. A somevalue is kept, with ``snak.value`` None.
        """
        statements = self.claims.get(property_id, ())
        best = best_rank(statements)
        return [s for s in statements if s.rank_code == best and s.snak.code != NOVALUE]


class OtherEntity(Struct):
    """A lexeme, media file or other entity that this store doesn't keep."""

    type: str


def rank_names() -> tuple[str, ...]:
    """Names of the ranks in the order of their codes."""
    return _RANKS


def best_rank(statements: Iterable[Statement]) -> int:
    """Code of the best rank among ``statements``; -1 if all are deprecated or there is none."""
    best = max((s.rank_code for s in statements), default=-1)
    return best if best != _DEPRECATED else -1


def numeric_id(entity_id: str) -> int:
    """``"Q144"`` → 144, ``"P31"`` → -31: the id as a store's Parquet files write it."""
    number = int(entity_id[1:])
    return number if entity_id[0] == "Q" else -number


_LETTERS = {"Q": ord("Q") << 56, "P": ord("P") << 56}

#: Keys of properties are below, keys of items from here on.
FIRST_ITEM: Final = _LETTERS["Q"]


def key_of(entity_id: str) -> int:
    """LMDB key as a number: the type's letter in the first byte, the id's number in the rest."""
    return _LETTERS[entity_id[0]] | int(entity_id[1:])


def entity_id(numeric: int) -> str:
    """The inverse of :func:`numeric_id`."""
    return f"Q{numeric}" if numeric > 0 else f"P{-numeric}"


def is_entity_id(text: str) -> bool:
    """Whether ``text`` is an item's or a property's id as Wikibase writes it."""
    return _ID.match(text) is not None and int(text[1:]) <= MAX_NUMBER


# --- rules that both ways of reading share ---------------------------------------------------


def check_id(type_: str, id_: str) -> None:
    """Raises RejectedLineError where an id isn't one of its type."""
    if not is_entity_id(id_) or id_[0] != ("Q" if type_ == "item" else "P"):
        raise RejectedLineError(f"{id_[:40]!r} is not the id of an {type_}")


def empty_map(empty: list[Any]) -> dict[str, Any]:
    """``[]`` stands for ``{}``; a list that holds something is not a map."""
    if empty:
        raise RejectedLineError("a list that is not empty stands where a map belongs")
    return {}


def rank_code(rank: str) -> int:
    """Code of a rank's name."""
    code = RANK_CODE.get(rank)
    if code is None:
        raise RejectedLineError(f"unknown rank {rank[:40]!r}")
    return code


def valueless_code(snak_type: str) -> int:
    """Code of somevalue or novalue."""
    code = KIND_CODE.get(snak_type, _OTHER)
    if code > NOVALUE:
        raise RejectedLineError(f"unknown snak type {snak_type[:40]!r}")
    return code


#: Members of a datavalue that are text, by its kind; Wikibase/DataModel/JSON, "Data values".
_TEXT_MEMBERS: dict[int, tuple[str, ...]] = {
    KIND_CODE["monolingualtext"]: ("text", "language"),
    KIND_CODE["time"]: ("time",),
    KIND_CODE["quantity"]: ("amount",),
    KIND_CODE["globecoordinate"]: (),
}


def checked(code: int, value: Any) -> Any:
    """``value`` if it has the form of its kind, so that readers needn't ask."""
    if code == KIND_CODE["string"]:
        whole = isinstance(value, str)
    elif code in _TEXT_MEMBERS:
        whole = isinstance(value, dict) and all(
            isinstance(value.get(member), str) for member in _TEXT_MEMBERS[code]
        )
    else:
        whole = True
    if not whole:
        raise RejectedLineError(f"a {_KINDS[code]} that has not the form of one")
    return value


def value_code(datavalue_type: str) -> int:
    """Code of a datavalue's type."""
    code = KIND_CODE.get(datavalue_type, _OTHER)
    return code if code > NOVALUE else _OTHER


def entity_id_of(id_: str | None, number: int | None, type_: str | None) -> str:
    """``id`` where there is one; dumps before 2017 have only type and number."""
    if id_:
        return id_
    letter = _ENTITY_LETTER.get(type_ or "")
    if letter is None or number is None or number < 1:
        raise RejectedLineError("an entity value with neither an id nor a type and number")
    return f"{letter}{number}"


_encode = msgspec.msgpack.Encoder().encode


def encode_record(record: Record) -> bytes:
    """The bytes that the store holds.

    Raises RejectedLineError for what JSON can say and a store can't hold: half a surrogate pair,
    numbers beyond 64 bits.
    """
    try:
        if not 0 <= record.revision <= MAX_REVISION:
            raise OverflowError(f"revision {record.revision}")
        return _encode(record)
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise RejectedLineError(f"holds what can't be stored: {error}"[:200]) from None


decode_record = msgspec.msgpack.Decoder(Record).decode


# --- reading plainly ----------------------------------------------------------------------------


def read_slowly(line: bytes | memoryview, kept: Kept) -> Record | OtherEntity:
    """The record of an entity line (without its comma), or what other type it is.

    Takes the shapes of all years: ``[]`` for an empty map (T138104), ``aliases`` whose lists were
    written as maps with numbers for keys, ``numeric-id`` written as text, sitelinks given as a
    list. It takes nothing for a number, a text or an id that is none.

    Raises RejectedLineError where the line is not JSON or not an entity.
    """
    try:
        entity = ujson.loads(bytes(line))
    except (ValueError, RecursionError) as error:
        raise RejectedLineError(f"not valid JSON: {error}") from None
    if not isinstance(entity, dict) or not isinstance(entity.get("type"), str):
        raise RejectedLineError("not an entity: no `type`")
    if entity["type"] not in ("item", "property"):
        return OtherEntity(entity["type"])
    if not isinstance(entity.get("id"), str):
        raise RejectedLineError("an entity without an `id`")
    check_id(entity["type"], entity["id"])
    try:
        return _record_of(entity, kept)
    except RejectedLineError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RejectedLineError(f"not of an entity's form: {error!r}"[:200]) from None
    except RecursionError:  # where a nest stands for text, which the reason would show
        raise RejectedLineError("not an entity: nested too deeply") from None


def _record_of(entity: dict[str, Any], kept: Kept) -> Record:
    labels, descriptions = _map(entity, "labels"), _map(entity, "descriptions")
    aliases, claims = _map(entity, "aliases"), _map(entity, "claims")
    sitelinks = entity.get("sitelinks", {})
    if not isinstance(sitelinks, dict | list):
        raise RejectedLineError("`sitelinks` is neither a map nor a list")
    return Record(
        entity["id"],
        _whole(entity.get("lastrevid", 0)),
        len(sitelinks),
        {code: _text(labels[code]) for code in kept.languages if code in labels},
        {code: _text(descriptions[code]) for code in kept.languages if code in descriptions},
        {code: _texts(aliases[code]) for code in kept.languages if aliases.get(code)},
        {
            p: [_plain_statement(s, kept.properties[p]) for s in claims[p]]
            for p in kept.properties
            if claims.get(p)
        },
        _string(entity.get("datatype", "")),
    )


def _whole(value: object) -> int:
    """A whole number, written as one or as text; neither true nor 1.5 is one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    raise RejectedLineError(f"{str(value)[:40]!r} stands where a whole number belongs")


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    raise RejectedLineError(f"{str(value)[:40]!r} stands where text belongs")


def _map(entity: dict[str, Any], key: str) -> dict[str, Any]:
    value = entity.get(key, {})
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return empty_map(value)
    raise RejectedLineError(f"`{key}` is neither a map nor a list")


def _text(term: dict[str, Any]) -> str:
    return _string(term["value"])


def _texts(terms: Any) -> list[str]:
    return [_text(term) for term in (terms.values() if isinstance(terms, dict) else terms)]


def _plain_statement(statement: dict[str, Any], wanted: tuple[str, ...]) -> Statement:
    qualifiers = (statement.get("qualifiers") or {}) if wanted else {}
    return Statement(
        rank_code(_string(statement.get("rank", "normal"))),
        _plain_snak(statement["mainsnak"]),
        {p: [_plain_snak(s) for s in qualifiers[p]] for p in qualifiers if p in wanted},
    )


def _plain_snak(snak: dict[str, Any]) -> Snak:
    type_ = _string(snak["snaktype"])
    if type_ != "value":
        return Snak(valueless_code(type_))
    value = snak["datavalue"]["value"]
    code = value_code(_string(snak["datavalue"]["type"]))
    if code == ENTITY_ID:
        id_, number, kind = value.get("id"), value.get("numeric-id"), value.get("entity-type")
        return Snak(
            code,
            entity_id_of(
                None if id_ is None else _string(id_),
                None if number is None else _whole(number),
                None if kind is None else _string(kind),
            ),
        )
    return Snak(code, checked(code, value))
