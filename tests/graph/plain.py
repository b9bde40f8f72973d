"""A dump's lines read plainly, by json and the documentation of its format: for second opinions.

Nothing here comes from `etl/` or `graph/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.graph.oracle import truthy

Line = dict[str, Any]  # an entity as `json.loads` gives it


def best(line: Line, property_id: str) -> list[Any]:
    """Return a property's truthy statements, those of no value included."""
    statements = dict(line.get("claims") or {}).get(property_id, [])
    return [statements[number] for number in truthy(statements)]


def values(line: Line, property_id: str) -> list[Any]:
    """Return the values of a property's truthy statements, of items and properties their ids."""
    return [value(s["mainsnak"]) for s in best(line, property_id) if is_known(s["mainsnak"])]


def is_known(snak: Any) -> bool:
    return bool(snak["snaktype"] == "value")


def value(snak: Any) -> Any:
    given = snak["datavalue"]["value"]
    if snak["datavalue"]["type"] != "wikibase-entityid":
        return given
    letter = {"item": "Q", "property": "P"}.get(given.get("entity-type"), "")
    return given.get("id") or f"{letter}{given['numeric-id']}"


def name(line: Line, labels: Sequence[str]) -> str | None:
    """Return what a line is called: the first of some language codes and properties."""
    for label in labels:
        if label in dict(line.get("labels") or {}):
            return str(line["labels"][label]["value"])
        if label.startswith("P") and (texts := values(line, label)):
            text = texts[0]
            return str(text["text"] if isinstance(text, dict) else text)
    return None


def links(line: Line) -> int:
    return len(line.get("sitelinks") or ())


def number(id: str) -> int:
    return int(id[1:])


def by_id(lines: Iterable[Line]) -> dict[str, Line]:
    """Return items and properties by id; of two revisions, the newer."""
    found: dict[str, Line] = {}
    for line in lines:
        if line["type"] in ("item", "property"):
            other = found.setdefault(line["id"], line)
            found[line["id"]] = max(other, line, key=lambda one: one["lastrevid"])
    return found
