"""Lines of a mediainfo dump with every oddity that one may have, from a seed."""

from __future__ import annotations

import random
from typing import Any

from tests.download.plain_mediainfo import PROPERTIES

SHA1_METHOD = "Q13414952"
PIXEL, BYTE = "http://www.wikidata.org/entity/Q355198", "http://www.wikidata.org/entity/Q8799"
AMOUNTS = ("+640", "+640", "+480", "+1", "+0", "640", "-5", "+1.5", "+7.0", "+2147483647",
           "+2147483648", "+9223372036854775807", "+99999999999999999999", "", "+", "+٣", "1e3",
           " 5")  # fmt: skip
NAMES = ("Ä", "A b", "Über “q” 😀 & co?", "x" * 80, "é" * 70)
TEXTS = ("Ann", "Ann", "Bo / Ö", "", "😀 é", "x" * 3000, "image/jpeg", "http://example.org/u/Ann")
MIMES = (
    "image/jpeg",
    "image/jpeg",
    "image/svg+xml",
    "x" * 127 + "/vnd.a-b",
    "x/" + "y" * 128,
    "",
    "image/",
    "/jpeg",
    "image",
    "<script>\x1b[2J",
    "image/jpeg\n",
    "a/b/c",
    "é/b",
    ".a/b",
)
DIGESTS = ("a" * 40, "0123456789ABCDEFabcdef012345678901234567", "b" * 39, "g" * 40, "")


def odd(rng: random.Random, share: float = 0.01) -> bool:
    return rng.random() < share


def entity_id(rng: random.Random) -> Any:
    number = rng.choice((1, 42, 144, 19652, 18199165, 2**40, SHA1_METHOD[1:]))
    made: dict[str, Any] = {"entity-type": "item", "numeric-id": int(number), "id": f"Q{number}"}
    if odd(rng, 0.1):
        del made["id"]
    if odd(rng, 0.05):
        made |= {"entity-type": "property", "id": "P31"}
        if odd(rng, 0.5):
            del made["id"]
    if odd(rng):
        made |= rng.choice(
            ({"id": "Q0"}, {"id": "Q12x"}, {"id": ""}, {"id": None}, {"id": 7}, {"id": f"Q{2**60}"})
        )
    if odd(rng):
        made |= rng.choice(({"numeric-id": "42"}, {"numeric-id": None}, {"entity-type": None}))
    if odd(rng):
        made.pop(rng.choice(sorted(made)))
    return made


def value(rng: random.Random, kind: str, property_id: str) -> Any:
    if kind == "wikibase-entityid":
        return entity_id(rng)
    if kind == "quantity":
        unit = {"P3575": BYTE, "P2049": PIXEL, "P2048": PIXEL}.get(property_id, "1")
        made = {"amount": rng.choice(AMOUNTS), "unit": unit}
        if odd(rng, 0.15):
            made["unit"] = rng.choice(
                (BYTE, PIXEL, "1", "http://www.wikidata.org/entity/Q174728", "")
            )
        if odd(rng):
            made.pop(rng.choice(sorted(made)))
        return made
    if kind == "string":
        return rng.choice({"P4092": DIGESTS, "P1163": MIMES}.get(property_id, TEXTS))
    return {"text": "Ann", "language": "en"}


def snak(rng: random.Random, kind: str, property_id: str) -> Any:
    made: dict[str, Any] = {"snaktype": "value", "property": property_id, "hash": "0" * 40}
    if odd(rng, 0.08):
        made["snaktype"] = rng.choice(("somevalue", "novalue"))
        return made
    if odd(rng, 0.05):
        kind = rng.choice(("string", "quantity", "wikibase-entityid", "monolingualtext", "other"))
    made["datavalue"] = {"value": value(rng, kind, property_id), "type": kind}
    if odd(rng):
        made["datavalue"]["value"] = rng.choice(("text", {}, [], 3, None, {"id": "Q1"}))
    if odd(rng):
        made.pop(rng.choice(sorted(made)))
    if odd(rng, 0.005):
        made["snaktype"] = rng.choice(("odd", None, 3))
    return made


KINDS = {
    **dict.fromkeys(("P180", "P921", "P6243", "P275", "P6216", "P170"), "wikibase-entityid"),
    **dict.fromkeys(("P2049", "P2048", "P3575"), "quantity"),
    "P459": "wikibase-entityid",
}


def statement(rng: random.Random, property_id: str) -> Any:
    made = {
        "mainsnak": snak(rng, KINDS.get(property_id, "string"), property_id),
        "type": "statement",
        "id": "M1$0",
        "rank": rng.choice(("normal",) * 4 + ("preferred", "deprecated")),
    }
    if property_id == "P170" and odd(rng, 0.6):
        made["mainsnak"] = {"snaktype": "somevalue", "property": "P170"}
    if property_id in ("P170", "P4092", "P180") and odd(rng, 0.9):
        names = ("P459",) if property_id == "P4092" else ("P3831", "P2093", "P4174", "P2699")
        made["qualifiers"] = {
            name: [snak(rng, KINDS.get(name, "string"), name) for _ in range(rng.choice((1, 1, 2)))]
            for name in names
            if odd(rng, 0.8)
        } or []
        if odd(rng):
            made["qualifiers"] = rng.choice(([], {}, [1], None, {"P2093": []}, {"P4174": 3}))
    if odd(rng, 0.05):
        del made["rank"]
    if odd(rng, 0.005):
        made["rank"] = rng.choice(("best", None))
    return made


def statements(rng: random.Random) -> Any:
    made = {
        property_id: [statement(rng, property_id) for _ in range(rng.choice((1, 1, 1, 2, 3, 0)))]
        for property_id in rng.sample([*PROPERTIES, "P571", "P7482"], rng.randint(0, 9))
    }
    return made or rng.choice(([], {}))


def file(number: int, rng: random.Random) -> dict[str, Any]:
    """A line's entity; mostly one that can be read."""
    codes = [c for c in ("en", "de", "zh-hant", "mul") if odd(rng, 0.3)]
    made: dict[str, Any] = {
        "type": "mediainfo",
        "id": f"M{number}",
        "labels": {c: {"language": c, "value": rng.choice(TEXTS)} for c in codes} or [],
        "descriptions": [],
        "statements": statements(rng),
        "pageid": number,
        "ns": 6,
        "title": f"File:{rng.choice(NAMES)} {number}.jpg",
        "lastrevid": rng.choice((1, number, 10**9)),
        "modified": "2021-09-10T13:54:13Z",
    }
    if odd(rng, 0.15):  # before June 2022
        for name in ("pageid", "ns", "title", "modified"):
            del made[name]
    if odd(rng):
        made["claims"] = made.pop("statements")
    if odd(rng, 0.04):
        made |= rng.choice(
            ({"ns": 14, "title": "Category:A"}, {"title": "A.jpg"}, {"ns": 0}, {"type": "item"},
             {"title": "File:"}, {"title": "File:" + "x" * 256}, {"title": "File:" + "é" * 128},
             {"title": 3}, {"ns": None}, {"title": None}, {"ns": "6"}, {"pageid": 7},
             {"pageid": None}, {"pageid": "7"}, {"type": None}, {"statements": None, "claims": []},
             {"id": "M0"}, {"id": "Q5"}, {"id": f"M{2**32}"}, {"id": 5}, {"id": "M٣"},
             {"id": "M05"},
             {"labels": {"x" * 65: {"value": ""}}}, {"labels": {"en": {}}}, {"labels": ["en"]},
             {"labels": {"en": {"value": None}}}, {"labels": None}, {"statements": [1]},
             {"lastrevid": -1}, {"lastrevid": 2**63}, {"lastrevid": 2**63 - 1}, {"lastrevid": None},
             {"statements": {"P180": {}}}, {"statements": {"P180": None}}, {"statements": "no"})
        )  # fmt: skip
    if odd(rng, 0.005):
        made.pop(rng.choice(sorted(made)))
    return made


def files(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Entities that a dump holds, in no order, some twice under another revision."""
    rng = random.Random(seed)
    numbers = rng.sample(range(1, 50 * count), count)
    made = [file(n, rng) for n in [*numbers, *numbers[: count // 25]]]
    rng.shuffle(made)
    return made
