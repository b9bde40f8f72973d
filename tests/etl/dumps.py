"""Dumps for tests, made of random entities, framed in every form that a dump comes in."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from pathlib import Path
from typing import Any

import zstandard

RANKS = ("normal", "normal", "normal", "preferred", "deprecated")


def snak(property_id: str, rng: random.Random, ids: list[str]) -> dict[str, Any]:
    kind = rng.choice(["value"] * 8 + ["somevalue", "novalue"])
    made: dict[str, Any] = {"snaktype": kind, "property": property_id}
    if kind == "value":
        target = rng.choice(ids)
        value: dict[str, Any] = {"entity-type": "item", "numeric-id": int(target[1:]), "id": target}
        if rng.random() < 0.2:
            del value["id"]
        made["datavalue"] = {"value": value, "type": "wikibase-entityid"}
    return made


def entity(number: int, rng: random.Random, ids: list[str], kind: str = "item") -> dict[str, Any]:
    claims = {
        p: [
            {"mainsnak": snak(p, rng, ids), "type": "statement", "rank": rng.choice(RANKS)}
            for _ in range(rng.randint(1, 3))
        ]
        for p in ("P31", "P279", "P171", "P361")
        if rng.random() < 0.5
    }
    if rng.random() < 0.4:
        picture = {"value": f"Bild {number} é.jpg", "type": "string"}
        claims["P18"] = [
            {"mainsnak": {"snaktype": "value", "property": "P18", "datavalue": picture}}
        ]
    languages = [c for c in ("en", "de", "mul", "en-gb", "fr") if rng.random() < 0.6]
    terms = {c: {"language": c, "value": f"name/{c} {number} é😀"} for c in languages}
    made: dict[str, Any] = {
        "type": kind,
        "id": f"{'Q' if kind == 'item' else 'P'}{number}",
        "labels": terms or rng.choice([{}, []]),
        "descriptions": {"en": {"language": "en", "value": "x" * rng.randint(0, 400)}},
        "aliases": {c: [t, t] for c, t in terms.items()} if rng.random() < 0.5 else [],
        "claims": claims or rng.choice([{}, []]),
        "sitelinks": {f"w{n}wiki": {"site": f"w{n}wiki"} for n in range(rng.randint(0, 9))},
        "lastrevid": rng.randint(1, 10**9),
    }
    if kind == "property":
        made["datatype"] = "wikibase-item"
        del made["sitelinks"]
    return made


def entities(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Items, a few properties, a lexeme, and ids that come twice, in no order."""
    rng = random.Random(seed)
    numbers = rng.sample(range(1, 50 * count), count)
    ids = [f"Q{n}" for n in numbers] + [f"Q{10**9 + n}" for n in range(5)]
    made = [entity(n, rng, ids) for n in numbers]
    made += [entity(n, rng, ids, "property") for n in (31, 279, 171)]
    made.append({"type": "lexeme", "id": "L1", "lemmas": {}, "claims": []})
    made += [entity(n, rng, ids) for n in numbers[: count // 20]]  # again, another revision
    rng.shuffle(made)
    return made


def as_line(made: dict[str, Any]) -> bytes:
    """As PHP's json_encode writes it: ASCII, slashes escaped."""
    return json.dumps(made, separators=(",", ":")).replace("/", "\\/").encode()


def text_of(lines: list[bytes]) -> bytes:
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def write(path: Path, lines: list[bytes], batch: int = 7) -> Path:
    """Writes in the form that the suffix names; .gz in members of ``batch`` lines."""
    text = text_of(lines)
    form = path.suffix
    if form == ".gz":
        members = [b"[\n"]
        for start in range(0, len(lines), batch):
            members += [b",\n"] if start else []
            members.append(b",\n".join(lines[start : start + batch]))
        members.append(b"\n]\n")
        path.write_bytes(b"".join(gzip.compress(m, mtime=0) for m in members))
    elif form == ".bz2":
        path.write_bytes(bz2.compress(text))
    elif form == ".zst":
        path.write_bytes(zstandard.compress(text[:1000]) + zstandard.compress(text[1000:]))
    else:
        path.write_bytes(text)
    return path
