"""What is taken of a line of a mediainfo dump, read plainly: the oracle of download/mediainfo.py.

It shares no code with what it checks. A line gives a dict with the columns of files.parquet and
``depicts``; the kind (text) of what is no file; or raises :class:`WrongError`. What isn't needed
isn't looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

#: All that is read.
PROPERTIES = ["P180", "P921", "P6243", "P275", "P6216", "P170", "P2049", "P2048", "P3575"]
PROPERTIES += ["P1163", "P4092"]


class WrongError(Exception):
    """A line that has to be rejected."""


def need(condition: object) -> None:
    if not condition:
        raise WrongError


def whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def taken(text: bytes) -> dict[str, Any] | str:
    try:
        entity = json.loads(text)
    except ValueError as error:
        raise WrongError from error
    need(isinstance(entity, dict) and isinstance(entity.get("type"), str))
    if entity["type"] != "mediainfo":
        return str(entity["type"][:40])
    need(isinstance(entity.get("id"), str))
    labels = map_of(entity.get("labels", {}))
    for label in labels.values():
        need(isinstance(label, dict) and isinstance(label.get("value"), str))
    for key in ("statements", "claims"):
        if entity.get(key) is not None:
            check_statements(map_of(entity[key]))
    ns, title, revision = entity.get("ns"), entity.get("title"), entity.get("lastrevid", 0)
    need(ns is None or whole(ns))
    need(title is None or isinstance(title, str))
    need(whole(revision) and 0 <= revision < 2**63)
    if ns not in (None, 6) or (title is not None and not title.startswith("File:")):
        return "mediainfo of no file"
    name = None if title is None else title.removeprefix("File:")
    need(name is None or 0 < len(name.encode()) <= 255)
    need(re.fullmatch("M[1-9][0-9]*", entity["id"]) and entity["id"].isascii())
    need(int(entity["id"][1:]) < 2**32)
    need(len(labels) <= 1000 and all(len(language) <= 64 for language in labels))
    found = entity.get("statements")
    statements = map_of((entity.get("claims") if found is None else found) or {})
    return {
        "page": int(entity["id"][1:]),
        "revision": revision,
        "file": name,
        "captions": [label["value"][:2000] for label in labels.values()],
        "caption_langs": list(labels),
        "licences": once(items(statements, "P275"))[:20],
        "statuses": once(items(statements, "P6216"))[:20],
        "creators": once(creators(statements))[:20],
        "width": first(numbers(statements, "P2049", "Q355198", 2**31)),
        "height": first(numbers(statements, "P2048", "Q355198", 2**31)),
        "bytes": first(numbers(statements, "P3575", "Q8799", 2**63)),
        "mime": first(mimes(statements)),
        "sha1": first(digests(statements)),
        "depicts": [row for p in (180, 921, 6243) for row in depicted(statements, p)],
    }


def map_of(value: object) -> dict[str, Any]:
    """PHP writes an empty map as a list."""
    if value == []:
        return {}
    if not isinstance(value, dict):
        raise WrongError
    return value


def check_statements(statements: dict[str, Any]) -> None:
    for property_id in PROPERTIES:
        listed = statements.get(property_id, [])
        need(isinstance(listed, list))
        for statement in listed:
            need(isinstance(statement, dict))
            check_snak(statement.get("mainsnak"))
            need(statement.get("rank", "normal") in ("normal", "preferred", "deprecated"))
            read = {"P170": "P2093", "P4092": "P459"}.get(property_id)
            if read:
                check_snaks(map_of(statement.get("qualifiers", {})).get(read, []))


def check_snaks(snaks: object) -> None:
    need(isinstance(snaks, list))
    assert isinstance(snaks, list)
    for snak in snaks:
        check_snak(snak)


def check_snak(snak: object) -> None:
    if not isinstance(snak, dict):
        raise WrongError
    need(snak.get("snaktype") in ("value", "somevalue", "novalue"))
    datavalue = snak.get("datavalue")
    if datavalue is None:
        return
    need(isinstance(datavalue, dict) and isinstance(datavalue.get("type"), str))
    value = datavalue.get("value")
    need(isinstance(value, str | dict))


def used(statements: dict[str, Any], property_id: str) -> list[dict[str, Any]]:
    """Statements that count, preferred ones first."""
    listed = statements.get(property_id, [])
    ranks = ("preferred", "normal")
    return [s for rank in ranks for s in listed if s.get("rank", "normal") == rank]


def value_of(snak: dict[str, Any], kind: str) -> Any:
    if snak["snaktype"] != "value":
        return None
    need(snak.get("datavalue") is not None)
    if snak["datavalue"]["type"] != kind:
        return None
    need(isinstance(snak["datavalue"]["value"], str) == (kind == "string"))
    return snak["datavalue"]["value"]


def item(snak: dict[str, Any]) -> int | None:
    value = value_of(snak, "wikibase-entityid")
    if value is None:
        return None
    if value.get("id") is not None:
        need(isinstance(value["id"], str))
        if not value["id"].startswith("Q"):
            return None
        need(re.fullmatch("Q[1-9][0-9]*", value["id"]) and value["id"].isascii())
        number = int(value["id"][1:])
    else:
        need(isinstance(value.get("entity-type"), str) and whole(value.get("numeric-id")))
        if value["entity-type"] != "item":
            return None
        number = value["numeric-id"]
    need(0 < number < 2**55)
    return int(number)


def items(statements: dict[str, Any], property_id: str) -> Iterator[str]:
    for statement in used(statements, property_id):
        number = item(statement["mainsnak"])
        if number is not None:
            yield f"Q{number}"


def creators(statements: dict[str, Any]) -> Iterator[str]:
    for statement in used(statements, "P170"):
        if statement["mainsnak"]["snaktype"] == "somevalue":
            yield from name_of(map_of(statement.get("qualifiers", {})))
        else:
            number = item(statement["mainsnak"])
            if number is not None:
                yield f"Q{number}"


def name_of(qualifiers: dict[str, Any]) -> Iterator[str]:
    for property_id in ("P2093", "P4174", "P2699"):
        check_snaks(qualifiers.get(property_id, []))
        for snak in qualifiers.get(property_id, []):
            text = value_of(snak, "string")
            if text:
                yield text[:2000]
                return


def numbers(statements: dict[str, Any], property_id: str, unit: str, limit: int) -> Iterator[int]:
    for statement in used(statements, property_id):
        value = value_of(statement["mainsnak"], "quantity")
        if value is None:
            continue
        need(isinstance(value.get("amount"), str) and isinstance(value.get("unit"), str))
        if re.fullmatch(r"\+?[0-9]{1,19}(\.0+)?", value["amount"]):
            number = int(value["amount"].split(".")[0])
            if value["unit"].split("/")[-1] == unit and "/" in value["unit"] and 0 < number < limit:
                yield number


def mimes(statements: dict[str, Any]) -> Iterator[str]:
    for statement in used(statements, "P1163"):
        text = value_of(statement["mainsnak"], "string")
        if text and text.count("/") == 1 and all(map(names_type, text.split("/"))):
            yield text


def names_type(word: str) -> bool:
    """RFC 6838, 4.2."""
    allowed = set("!#$&-^_.+")
    letters = [c for c in word if c not in allowed]
    begins = word[:1] not in ("", *allowed)
    return begins and len(word) <= 127 and all(c.isascii() and c.isalnum() for c in letters)


def digests(statements: dict[str, Any]) -> Iterator[str]:
    for statement in used(statements, "P4092"):
        text = value_of(statement["mainsnak"], "string")
        if text and re.fullmatch("[0-9a-fA-F]{40}", text):
            for snak in map_of(statement.get("qualifiers", {})).get("P459", []):
                if item(snak) == 13414952:
                    yield text.lower()
                    break


def depicted(statements: dict[str, Any], number: int) -> list[tuple[int, int, bool]]:
    found: dict[int, bool] = {}
    for statement in statements.get(f"P{number}", []):
        if statement.get("rank", "normal") != "deprecated":
            target = item(statement["mainsnak"])
            if target is not None:
                found[target] = found.get(target, False) or statement.get("rank") == "preferred"
    return [(target, number, preferred) for target, preferred in found.items()]


def once(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))


def first(values: Iterator[Any]) -> Any:
    return next(values, None)
