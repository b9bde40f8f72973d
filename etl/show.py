"""One record for people and for machines."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from etl.entity import Record, Snak
from etl.errors import UserError
from etl.store import EntityStore

_SHOWN = 8  # statements of a property on a terminal; --json has all
_UNIT = "http://www.wikidata.org/entity/"


def find(store: EntityStore, entity_id: str) -> Record:
    """The record of an id, or of what the id was merged into.

    Raises UserError where the store has neither.
    """
    id_ = store.resolve(entity_id)
    record = store.get(id_)
    if record is None:
        merged = f"{entity_id} was merged into {id_}, and " if id_ != entity_id else ""
        raise UserError(
            f"{merged}{id_} is not in {store.path}: none of its {store.size:,} entities has this "
            "id. It may be newer than the dump, deleted or merged into another."
        )
    return record


def as_plain(record: Record, asked: str = "") -> dict[str, Any]:
    """A record as plain data, for JSON; ``asked`` is the id that it was asked by."""
    return {
        "id": record.id,
        **({"redirected_from": asked} if asked not in ("", record.id) else {}),
        "revision": record.revision,
        **({"datatype": record.datatype} if record.datatype else {}),
        "sitelinks": record.sitelinks,
        "labels": record.labels,
        "descriptions": record.descriptions,
        "aliases": record.aliases,
        "claims": {
            p: [
                {
                    "rank": s.rank,
                    **_plain_snak(s.snak),
                    **({"qualifiers": _plain_qualifiers(s.qualifiers)} if s.qualifiers else {}),
                }
                for s in statements
            ]
            for p, statements in record.claims.items()
        },
    }


def _plain_snak(snak: Snak) -> dict[str, Any]:
    plain = {"snaktype": snak.type}
    return plain if snak.type != "value" else {**plain, "type": snak.kind, "value": snak.value}


def _plain_qualifiers(qualifiers: dict[str, list[Snak]]) -> dict[str, list[dict[str, Any]]]:
    return {p: [_plain_snak(snak) for snak in snaks] for p, snaks in qualifiers.items()}


def described(record: Record, store: EntityStore, asked: str = "") -> Iterator[str]:
    """Lines for a terminal; ids carry the names that the store has for them.

    ``asked`` is the id that the record was asked by: one that was merged into it is said.
    """
    if asked not in ("", record.id):
        yield f"{asked} was merged into {record.id}."
    yield from map(printable, _described(record, store))


def printable(text: str) -> str:
    """``text`` without what could steer a terminal: a dump is not to be trusted."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cells(text: str) -> int:
    """Columns of a terminal that a text takes, by Unicode's East_Asian_Width."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fitted(text: str, width: int) -> str:
    """``text`` in just ``width`` columns, and however many marks on its letters, not for ever."""
    shown = text[: 4 * width]
    if shown == text and cells(text) <= width:
        return text + " " * (width - cells(text))
    ends = list(accumulate(map(cells, shown)))
    shown = shown[: bisect_left(ends, width)]
    return f"{shown}…" + " " * (width - 1 - cells(shown))


def _described(record: Record, store: EntityStore) -> Iterator[str]:
    yield f"{record.id}  {name_of(record) or '(no label in the kept languages)'}"
    for code, text in record.descriptions.items():
        yield f"  {code}: {text}"
    for code, label in record.labels.items():
        aliases = record.aliases.get(code, [])
        yield f"  {code}: {label}{'  | ' + ' | '.join(aliases) if aliases else ''}"
    yield f"  {record.sitelinks} sitelinks, revision {record.revision or 'unknown'}"
    for property_id, statements in record.claims.items():
        yield f"  {_named(property_id, store)}"
        for statement in statements[:_SHOWN]:
            rank = "" if statement.rank == "normal" else f"  [{statement.rank}]"
            qualifiers = "".join(
                f"  ({_named(p, store)}: {', '.join(_text(s, store) for s in snaks)})"
                for p, snaks in statement.qualifiers.items()
            )
            yield f"    {_text(statement.snak, store)}{qualifiers}{rank}"
        if len(statements) > _SHOWN:
            yield f"    … and {len(statements) - _SHOWN} more (--json has all)"


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 line``, ``2,000 lines``; ``things`` where these aren't the word and an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def in_bytes(number: float) -> str:
    """``12 MB``, ``1.60 TB``: bytes in powers of ten, as disks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.{0 if number >= 100 * size else 1}f} {unit}"
    return f"{number / 1e3:,.0f} kB"


def name_of(record: Record) -> str:
    """The label in the first kept language that has one, ``""`` where none has."""
    return next(iter(record.labels.values()), "")


def labels(store: Path, entity_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(id, label) for each id; the label is ``""`` where the store has none."""
    with EntityStore(store) as entities:
        for entity_id in entity_ids:
            record = entities.get(entity_id)
            yield entity_id, printable(name_of(record)) if record else ""


def _named(entity_id: str, store: EntityStore) -> str:
    record = store.get(store.resolve(entity_id)) if entity_id[0] in "QP" else None
    name = name_of(record) if record else ""
    return f"{entity_id} {name}" if name else entity_id


def _text(snak: Snak, store: EntityStore) -> str:
    value = snak.value
    if snak.type != "value":
        return f"({snak.type})"
    if snak.kind == "wikibase-entityid":
        return _named(value, store)
    if snak.kind == "monolingualtext":
        return f"{value['text']} ({value['language']})"
    if snak.kind == "quantity":
        unit = str(value.get("unit", "1"))
        return f"{value['amount']}{'' if unit == '1' else ' ' + unit.removeprefix(_UNIT)}"
    if snak.kind == "time":
        return str(value.get("time"))
    if snak.kind == "globecoordinate":
        return f"{value.get('latitude')}, {value.get('longitude')}"
    return str(value)
