"""One line of a dump → one entry of a run: the hot path of the ingest.

A line is decoded straight into typed msgspec structs whose fields are the languages and properties
that the store keeps; everything else is skipped without becoming a Python object. From them the
record's bytes, its flags and its edges are made in one pass, with tuples in the place of the
record's structs. A line of any shape that is not today's goes to :func:`entry_of` by way of
:func:`~etl.entity.read_slowly`, which define what this must give; a test holds it to them.
``docs/performance.md`` says what each step costs and what was tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypedDict

import msgspec
from msgspec import Struct

from etl.entity import (
    ENTITY_ID,
    KIND_CODE,
    MAX_REVISION,
    NOVALUE,
    RANK_CODE,
    OtherEntity,
    Record,
    RejectedLineError,
    best_rank,
    checked,
    empty_map,
    encode_record,
    entity_id_of,
    is_entity_id,
    key_of,
    numeric_id,
    read_slowly,
    valueless_code,
)
from etl.kept import Kept

#: Property (its place in the kept list), object (signed number), code of the rank, truthy.
Edge = tuple[int, int, int, bool]

_IDS = {
    "item": re.compile(r"Q[1-9][0-9]{0,15}\Z").match,
    "property": re.compile(r"P[1-9][0-9]{0,15}\Z").match,
}
_NORMAL = RANK_CODE["normal"]
_CACHED = 1 << 16  # objects that are remembered: classes repeat, most others don't


class Entry(Struct, gc=False):
    """What a run holds of one entity; ``value`` is its encoded :class:`~etl.entity.Record`.

    Bit n of ``flags`` is set for a label in the n-th kept language, the bits above for truthy
    statements of the kept properties.
    """

    key: int
    revision: int
    sitelinks: int
    flags: int
    value: bytes
    edges: list[Edge]
    labels: dict[str, str]
    aliases: dict[str, list[str]]


def entry_of(record: Record, kept: Kept) -> Entry:
    """The entry of a record.

    Raises RejectedLineError where it can't be encoded.
    """
    value = encode_record(record)
    numbers = {p: n for n, p in enumerate(kept.properties)}
    flags = sum(1 << n for n, code in enumerate(kept.languages) if code in record.labels)
    edges: list[Edge] = []
    for property_id, statements in record.claims.items():
        number, best = numbers[property_id], best_rank(statements)
        for statement in statements:
            snak, rank = statement.snak, statement.rank_code
            truthy = rank == best
            if truthy and snak.code != NOVALUE:
                flags |= 1 << (len(kept.languages) + number)
            if snak.code == ENTITY_ID and is_entity_id(snak.value):
                edges.append((number, numeric_id(snak.value), rank, truthy))
    return Entry(
        key_of(record.id),
        record.revision,
        record.sitelinks,
        flags,
        value,
        edges,
        record.labels,
        record.aliases,
    )


# --- the line as msgspec reads it ---------------------------------------------------------------
# gc=False throughout: these are trees, and the cycle collector would walk millions of them in vain


class _Term(Struct, gc=False):
    value: str


class _EntityIdValue(Struct, rename="kebab", gc=False):
    id: str | None = None
    numeric_id: int | None = None
    entity_type: str | None = None


class _EntityIdDataValue(Struct, tag_field="type", tag="wikibase-entityid", gc=False):
    value: _EntityIdValue


class _StringDataValue(Struct, tag_field="type", tag="string", gc=False):
    value: str


def _plain_data_value(type_: str) -> Any:
    """A datavalue of which the store holds the value's own dict."""
    return msgspec.defstruct(
        "DataValue", [("value", dict[str, Any])], tag_field="type", tag=type_, gc=False
    )


_PLAIN = {
    _plain_data_value(type_): KIND_CODE[type_]
    for type_ in ("monolingualtext", "time", "quantity", "globecoordinate")
}
_STRING = KIND_CODE["string"]
_DataValue: Any = _EntityIdDataValue | _StringDataValue
for _type in _PLAIN:
    _DataValue |= _type

_Snak: Any = msgspec.defstruct(
    "Snak", [("snaktype", str), ("datavalue", _DataValue | None, None)], gc=False
)
_Statement: Any = msgspec.defstruct(
    "Statement", [("mainsnak", _Snak), ("rank", str, "normal")], gc=False
)
_QualifiedStatement: Any = msgspec.defstruct(
    "QualifiedStatement",
    # PHP writes an empty map as [] in old dumps (T138104); the same holds for every `| list` here
    [
        ("mainsnak", _Snak),
        ("rank", str, "normal"),
        ("qualifiers", dict[str, msgspec.Raw] | list[msgspec.Raw], {}),
    ],
    gc=False,
)
_decode_snaks = msgspec.json.Decoder(list[_Snak]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def _map_of(name: str, types: dict[str, Any]) -> Any:
    """A map of which only these keys are read; the others are skipped."""
    return TypedDict(name, types, total=False)  # type: ignore[operator]


def _line_of(kept: Kept) -> Any:
    """The type of a line, for what is kept."""
    terms = _map_of("Terms", dict.fromkeys(kept.languages, _Term))
    term_lists = _map_of("TermLists", dict.fromkeys(kept.languages, list[_Term]))
    plain, qualified = list[_Statement], list[_QualifiedStatement]
    claims = _map_of(
        "Claims",
        {p: qualified if qualifiers else plain for p, qualifiers in kept.properties.items()},
    )
    return msgspec.defstruct(
        "Line",
        [
            ("type", str),
            ("id", str),
            ("datatype", str, ""),
            ("labels", terms | list, []),
            ("descriptions", terms | list, []),
            ("aliases", term_lists | list, []),
            ("claims", claims | list, []),
            ("sitelinks", dict[str, msgspec.Raw] | list, {}),
            ("lastrevid", int, 0),
        ],
        gc=False,
    )


class _OddError(Exception):
    """Not the shape that today's dumps have."""


_ODD = (
    msgspec.ValidationError,
    _OddError,
    RejectedLineError,
    UnicodeEncodeError,
    OverflowError,
    KeyError,
)


class EntityReader:
    """Reads lines with a decoder compiled for one :class:`~etl.kept.Kept`."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.decode = msgspec.json.Decoder(_line_of(kept)).decode
        self._label_bits = {code: 1 << n for n, code in enumerate(kept.languages)}
        self._properties = {
            p: (n, 1 << (len(kept.languages) + n), frozenset(qualifiers))
            for n, (p, qualifiers) in enumerate(kept.properties.items())
        }
        self._plain: dict[str | None, tuple[list[Any], int]] = {}

    def read(self, line: bytes | memoryview) -> Entry | OtherEntity:
        """The entry of an entity line (without its comma), or what other type it is.

        Raises RejectedLineError where the line is not JSON or not an entity.
        """
        try:
            return self._entry(self.decode(line))
        except _ODD:
            record = read_slowly(line, self.kept)
            return record if isinstance(record, OtherEntity) else entry_of(record, self.kept)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RejectedLineError(f"not valid JSON: {error}") from None
        except RecursionError:
            raise RejectedLineError("not an entity: nested too deeply") from None

    def _entry(self, raw: Any) -> Entry | OtherEntity:
        type_, id_, revision = raw.type, raw.id, raw.lastrevid
        if type_ not in _IDS:
            return OtherEntity(type_)
        if _IDS[type_](id_) is None or not 0 <= revision <= MAX_REVISION:
            raise _OddError
        bits, flags = self._label_bits, 0
        terms = self._in_order(raw.labels, bits)
        labels = {code: term.value for code, term in terms}
        for code in labels:
            flags |= bits[code]
        terms = self._in_order(raw.descriptions, bits)
        descriptions = {code: term.value for code, term in terms}
        aliases: dict[str, list[str]] = {}
        if raw.aliases:
            lists = self._in_order(raw.aliases, bits)
            aliases = {code: [term.value for term in terms] for code, terms in lists if terms}
        edges: list[Edge] = []
        claims, truthy = self._claims(raw.claims, edges)
        sitelinks = len(raw.sitelinks)
        value = _encode(
            (id_, revision, sitelinks, labels, descriptions, aliases, claims, raw.datatype)
        )
        return Entry(
            key_of(id_), revision, sitelinks, flags | truthy, value, edges, labels, aliases
        )

    def _in_order(self, made: Any, order: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        """Members of a decoded map in the kept order; ``[]`` stands for ``{}``."""
        if type(made) is not dict:
            return empty_map(made).items()
        if len(made) < 2:
            return made.items()
        return [(key, made[key]) for key in order if key in made]

    def _claims(self, claims: Any, edges: list[Edge]) -> tuple[dict[str, list[Any]], int]:
        """Statements as they are encoded, and the flags of truthy ones; fills ``edges``."""
        made, flags = {}, 0
        for property_id, statements in self._in_order(claims, self._properties):
            number, bit, wanted = self._properties[property_id]
            if len(statements) == 1 and not wanted:
                # nearly all are one statement of normal rank about an entity, one of few classes
                statement = statements[0]
                datavalue = statement.mainsnak.datavalue
                if type(datavalue) is _EntityIdDataValue and statement.rank == "normal":
                    known = self._plain.get(datavalue.value.id)
                    if known is not None and statement.mainsnak.snaktype == "value":
                        made[property_id], target = known
                        flags |= bit
                        edges.append((number, target, _NORMAL, True))
                        continue
            elif not statements:
                continue
            made[property_id], truthy = self._statements(statements, number, wanted, edges)
            flags |= bit if truthy else 0
        return made, flags

    def _statements(
        self, statements: list[Any], number: int, wanted: Iterable[str], edges: list[Edge]
    ) -> tuple[list[Any], bool]:
        """Statements of a property as they are encoded, and whether one is truthy."""
        ranks = [RANK_CODE[statement.rank] for statement in statements]
        best = max(ranks) or -1  # 0 is deprecated, which is never the best
        encoded, any_truthy = [], False
        for statement, rank in zip(statements, ranks, strict=True):
            code, value = _snak(statement.mainsnak)
            truthy = rank == best
            any_truthy |= truthy and code != NOVALUE
            if code == ENTITY_ID:
                target = self._number(value)
                if target:
                    edges.append((number, target, rank, truthy))
            qualifiers = _qualifiers(statement.qualifiers, wanted) if wanted else {}
            encoded.append((rank, (code, value), qualifiers))
        return encoded, any_truthy

    def _number(self, id_: str) -> int:
        """The signed number of an item or property, 0 for what is neither.

        Remembers the one plain statement about it, as it is encoded.
        """
        known = self._plain.get(id_)
        if known is not None:
            return known[1]
        if not is_entity_id(id_):
            return 0
        if len(self._plain) >= _CACHED:
            self._plain.clear()
        number = numeric_id(id_)
        self._plain[id_] = [(_NORMAL, (ENTITY_ID, id_), {})], number
        return number


def _snak(raw: Any) -> tuple[int, Any]:
    """Code and value, the two fields of a stored snak."""
    if raw.snaktype != "value":
        return valueless_code(raw.snaktype), None
    datavalue = raw.datavalue
    type_ = type(datavalue)
    if type_ is _EntityIdDataValue:
        value = datavalue.value
        return ENTITY_ID, value.id or entity_id_of(None, value.numeric_id, value.entity_type)
    if type_ is _StringDataValue:
        return _STRING, datavalue.value
    code = _PLAIN[type_]
    return code, checked(code, datavalue.value)


def _qualifiers(raw: Any, wanted: Iterable[str]) -> dict[str, list[tuple[int, Any]]]:
    if type(raw) is list:
        return empty_map(raw)
    return {p: [_snak(s) for s in _decode_snaks(snaks)] for p, snaks in raw.items() if p in wanted}
