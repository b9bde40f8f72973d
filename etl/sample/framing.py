"""How Wikimedia frames its dumps, whatever the wiki: the snaks, the lines, the file around them.

Where the format is described: Wikibase, ``docs/topics/json.md`` and
``repo/includes/Dumpers/JsonDumpGenerator.php``; operations/puppet, ``dumpwikibasejson.sh``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Final

Entity = dict[str, Any]

#: Wikimedia runs eight dumping processes; entities of one shard stand together.
_SHARDS: Final = 8
#: Entities of one run of dumpJson.php, hence of one gzip member. Wikimedia's have ~65,000.
_BATCH: Final = 24

ENTITY_URL: Final = "http://www.wikidata.org/entity/"
_GREGORIAN: Final = ENTITY_URL + "Q1985727"
_EARTH: Final = ENTITY_URL + "Q2"


def members(entity_lines: list[bytes]) -> list[bytes]:
    """The pieces that dumpwikibasejson.sh compresses one by one and appends to each other.

    One for ``[``, one for each batch of entities, one for each comma between batches and one for
    ``]``; every piece begins on a line.
    """
    pieces = [b"[\n"]
    for start in range(0, len(entity_lines), _BATCH):
        if start:
            pieces.append(b",\n")
        pieces.append(b",\n".join(entity_lines[start : start + _BATCH]))
    pieces.append(b"\n]\n")
    return pieces


def write_if_new(path: Path, content: bytes) -> None:
    """Write a file by rename, so that it is never there in part.

    One that holds these very bytes is left as it is: a store remembers its dump's time.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def place(entity_id: str, page: int, revision: int) -> tuple[int, int, int]:
    """Where an entity's line stands: shard, page id, and the newer of two revisions first."""
    shard = int(hashlib.sha1(entity_id.encode(), usedforsecurity=False).hexdigest(), 16) % _SHARDS
    return shard, page, -revision


def encode(entity: Entity) -> bytes:
    """JSON as PHP's json_encode writes it when it is given no flags."""
    text = json.dumps(entity, ensure_ascii=True, separators=(",", ":"))
    return text.replace("/", "\\/").encode("ascii")


def some_number(text: str, below: int) -> int:
    """A number that looks random, the same for the same text."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:12], 16) % below


def uuid(seed: str) -> str:
    """The second half of a statement's id, the same for the same text."""
    digest = hashlib.sha1(f"uuid {seed}".encode(), usedforsecurity=False).hexdigest().upper()
    return re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12}).*", r"\1-\2-\3-\4-\5", digest)


def terms(texts: dict[str, str]) -> Entity:
    """Labels or descriptions by language, the empty ones left out."""
    return {
        language: {"language": language, "value": text} for language, text in texts.items() if text
    }


def hashed(snak: Entity) -> Entity:
    """A snak with its hash, as qualifiers have one."""
    digest = hashlib.sha1(encode(snak), usedforsecurity=False).hexdigest()
    return {"snaktype": snak["snaktype"], "property": snak["property"], "hash": digest} | snak


def datavalue(kind: str, text: str, quirks: frozenset[str]) -> Any:
    """A value as the table writes it (``SOURCES.md``), in Wikibase's form of the type ``kind``."""
    if kind == "wikibase-entityid":
        entity_type = "item" if text[0] == "Q" else "property"
        value: Entity = {"entity-type": entity_type, "numeric-id": int(text[1:])}
        return value if "numeric-id-only" in quirks else value | {"id": text}
    if kind == "monolingualtext":
        language, _, words = text.partition(":")
        return {"text": words, "language": language}
    if kind == "globecoordinate":
        latitude, longitude = (float(part) for part in text.split(","))
        return {
            "latitude": latitude,
            "longitude": longitude,
            "altitude": None,
            "precision": 0.0001,
            "globe": _EARTH,
        }
    if kind == "quantity":
        amount, _, unit = text.partition(" ")
        sign = "" if amount.startswith("-") else "+"
        return {"amount": sign + amount, "unit": ENTITY_URL + unit if unit else "1"}
    if kind == "time":
        return {
            "time": f"+{text if '-' in text else text + '-00-00'}T00:00:00Z",
            "timezone": 0,
            "before": 0,
            "after": 0,
            "precision": 11 if "-" in text else 9,
            "calendarmodel": _GREGORIAN,
        }
    return text
