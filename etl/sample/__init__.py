"""The small Wikidata that ships: a hand-kept table of facts, framed as Wikimedia frames a dump.

``items.tsv`` and ``properties.tsv`` hold the facts, each with its source (``SOURCES.md``); this
module turns them into the lines that Wikibase's ``dumpJson.php`` would write and into the files
that Wikimedia's ``dumpwikibasejson.sh`` would make of those. What the table doesn't hold but a
real line has (labels and descriptions in other languages, references, page metadata, revision
ids, titles of sitelinks) is derived from the id and means nothing. The bytes are the same every
time. ``framing.py`` holds what dumps have alike, ``commons.py`` a small Commons to go with it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import zstandard

from etl.errors import UserError
from etl.sample.framing import (
    Entity,
    datavalue,
    encode,
    hashed,
    members,
    place,
    some_number,
    terms,
    uuid,
    write_if_new,
)
from etl.sample.table import (
    DATAVALUE_TYPES,
    Claim,
    Item,
    Property,
    Value,
    read_items,
    read_properties,
    read_sites,
)

Form = Literal["json", "gz", "bz2", "zst"]

#: Badge of a sitelink that leads to a redirect.
_REDIRECT_BADGE: Final = "Q70893996"

#: "Sample text without meaning" in languages that no recipe asks for: ballast of a real line.
_BALLAST: Final = {
    "ar": "نص تجريبي بلا معنى",
    "bg": "примерен текст без значение",
    "bn": "অর্থহীন নমুনা পাঠ",
    "ca": "text de mostra sense significat",
    "cs": "ukázkový text bez významu",
    "da": "eksempeltekst uden betydning",
    "de": "Beispieltext ohne Bedeutung",
    "el": "δείγμα κειμένου χωρίς νόημα",
    "eo": "specimena teksto sen signifo",
    "es": "texto de muestra sin significado",
    "fa": "متن نمونهٔ بی‌معنا",
    "fi": "merkityksetön esimerkkiteksti",
    "fr": "texte d’exemple sans signification",
    "got": "𐍃𐌰𐌼𐍀𐌻",
    "he": "טקסט לדוגמה ללא משמעות",
    "hi": "बिना अर्थ का नमूना पाठ",
    "hu": "jelentés nélküli mintaszöveg",
    "it": "testo di esempio senza significato",
    "ja": "意味のない見本の文",
    "ka": "უმნიშვნელო ნიმუში",
    "ko": "의미 없는 견본 글",
    "nl": "voorbeeldtekst zonder betekenis",
    "pl": "przykładowy tekst bez znaczenia",
    "pt": "texto de amostra sem significado",
    "ro": "text de probă fără înțeles",
    "ru": "пример текста без значения",
    "sr": "пример текста без значења",
    "sv": "exempeltext utan betydelse",
    "ta": "பொருளற்ற மாதிரி உரை",
    "th": "ข้อความตัวอย่างที่ไม่มีความหมาย",
    "tr": "anlamsız örnek metin",
    "uk": "зразок тексту без значення",
    "vi": "văn bản mẫu không có nghĩa",
    "zh": "没有意义的示例文本",
}

#: A made-up lexeme: an entity of a type that only a lexeme dump should hold.
_LEXEME: Final[Entity] = {
    "type": "lexeme",
    "id": "L9000000001",
    "lemmas": {"en": {"language": "en", "value": "samplify"}},
    "lexicalCategory": "Q9000000001",
    "language": "Q9000000002",
    "claims": {},
    "forms": [],
    "senses": [],
    "pageid": 99_999_999,
    "ns": 146,
    "title": "Lexeme:L9000000001",
    "lastrevid": 2_400_000_000,
    "modified": "2026-09-01T00:00:00Z",
}


def entities() -> Iterator[Entity]:
    """Every entity whose line can be read, in the dump's order, the way ``json.loads`` gives it.

    An id of which the dump has two revisions comes twice; the broken line's entity is left out.
    """
    for line in lines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the broken line, which the table has on purpose
            continue


def lines() -> list[bytes]:
    """The dump's entity lines in order, the broken one among them, without comma and newline."""
    properties = read_properties()
    sites = read_sites()
    written: list[tuple[tuple[int, int, int], bytes]] = []
    for prop in properties.values():
        written.append(_placed(_property_entity(prop)))
    for item in read_items(properties=properties):
        place, line = _placed(_item_entity(item, properties, sites), item.id)
        written.append((place, line[: len(line) * 3 // 5] if "broken" in item.quirks else line))
    written.append(_placed(_LEXEME))
    return [line for _, line in sorted(written, key=lambda pair: pair[0])]


def write_dump(path: Path, form: Form | None = None) -> None:
    """Write the dump to ``path``, in the form that its last suffix names unless ``form`` does.

    ``gz`` has a member for ``[``, one for each batch of entities, one for each comma between
    batches and one for ``]``; every member begins on a line. The file appears by rename, so
    that it is never there in part; one that holds these very bytes is left as it is, so that a
    store made from it stays the store of this file. Raises UserError when neither form nor
    suffix is known.
    """
    chosen = form or path.suffix.removeprefix(".")
    if chosen not in ("json", "gz", "bz2", "zst"):
        raise UserError(
            f"{path}: can't tell the form of the dump from the name. "
            "End it in .json, .json.gz, .json.bz2 or .json.zst."
        )
    pieces = members(lines())
    if chosen == "gz":
        content = b"".join(gzip.compress(piece, 9, mtime=0) for piece in pieces)
    elif chosen == "bz2":
        content = bz2.compress(b"".join(pieces), 9)
    elif chosen == "zst":
        content = zstandard.ZstdCompressor(level=9).compress(b"".join(pieces))
    else:
        content = b"".join(pieces)
    write_if_new(path, content)


def _placed(entity: Entity, entity_id: str = "") -> tuple[tuple[int, int, int], bytes]:
    """An entity's line with its place."""
    own_id = entity_id or entity["id"]
    return place(own_id, _page_id(own_id), entity["lastrevid"]), encode(entity)


def _page_id(entity_id: str) -> int:
    return 100 + some_number(f"page {entity_id}", 130_000_000)


def _page_metadata(entity_id: str, older: bool = False) -> Entity:
    """What ``--page-metadata`` adds; the older of two revisions was saved a month before."""
    age = some_number(f"age {entity_id}", 40_000_000)
    modified = datetime(2026, 9, 1, tzinfo=UTC) - timedelta(seconds=age, days=30 * older)
    return {
        "pageid": _page_id(entity_id),
        "ns": 0 if entity_id[0] == "Q" else 120,
        "title": entity_id if entity_id[0] == "Q" else f"Property:{entity_id}",
        "lastrevid": 2_400_000_000 - age - 3_000_000 * older,
        "modified": modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _property_entity(prop: Property) -> Entity:
    return {
        "type": "property",
        "id": prop.id,
        "datatype": prop.datatype,
        "labels": terms({"en": prop.label} | _ballast_labels(prop.label)),
        "descriptions": terms({"en": prop.description} | _ballast_descriptions(prop.id)),
        "aliases": {},
        "claims": {},
        **_page_metadata(prop.id),
    }


def _item_entity(item: Item, properties: dict[str, Property], sites: list[str]) -> Entity:
    bare = bool(item.quirks & {"bare", "empty-arrays"})
    name = item.labels.get("en") or item.labels.get("mul") or item.id
    labels = item.labels if bare else item.labels | _ballast_labels(name, item.labels)
    descriptions = {"en": item.description} if item.description else {}
    if not bare:
        descriptions |= _ballast_descriptions(item.id)
    entity: Entity = {
        "type": "item",
        "id": item.id,
        "labels": terms(labels),
        "descriptions": terms(descriptions),
        "aliases": _aliases(item.aliases),
        "claims": _claims(item, properties),
        "sitelinks": _sitelinks(item, name, sites),
        **_page_metadata(item.id, "older" in item.quirks),
    }
    for field in ("labels", "descriptions", "aliases", "claims", "sitelinks"):
        if f"no-{field}" in item.quirks:
            del entity[field]
        elif "empty-arrays" in item.quirks and not entity[field]:
            entity[field] = []
    if "no-page-metadata" in item.quirks:
        for field in ("pageid", "ns", "title", "modified"):
            del entity[field]
    return entity


def _ballast_labels(name: str, given: dict[str, str] | None = None) -> dict[str, str]:
    """Labels in other languages: the name with the word for a sample behind it."""
    return {
        language: f"{name} ({phrase.split()[0]})"
        for language, phrase in _BALLAST.items()
        if language not in (given or {})
    }


def _ballast_descriptions(entity_id: str) -> dict[str, str]:
    return {language: f"{phrase} ({entity_id})" for language, phrase in _BALLAST.items()}


def _aliases(aliases: tuple[str, ...]) -> Entity:
    return {"en": [{"language": "en", "value": alias} for alias in aliases]} if aliases else {}


def _sitelinks(item: Item, name: str, sites: list[str]) -> Entity:
    """As many sitelinks as the table says; the titles are only the item's name."""
    if (item.sitelinks or 0) > len(sites):
        raise UserError(f"{item.id} has more sitelinks than sites.tsv has sites. Add some there.")
    title = name[0].upper() + name[1:]
    links: Entity = {
        site: {"site": site, "title": title, "badges": []}
        for site in sorted(sites[: item.sitelinks or 0])
    }
    if "redirect-badge" in item.quirks:
        links[max(links)]["badges"] = [_REDIRECT_BADGE]
    return links


def _claims(item: Item, properties: dict[str, Property]) -> Entity:
    grouped: dict[str, list[Entity]] = {}
    for number, claim in enumerate(item.claims):
        statement = _statement(item, claim, number, properties)
        grouped.setdefault(claim.property, []).append(statement)
    return grouped


def _statement(item: Item, claim: Claim, number: int, properties: dict[str, Property]) -> Entity:
    seed = f"{item.id} {claim.property} {number}"
    statement: Entity = {
        "mainsnak": _snak(claim.property, claim.value, item.quirks, properties),
        "type": "statement",
    }
    if claim.qualifiers:
        snaks: dict[str, list[Entity]] = {}
        for name, value in claim.qualifiers:
            snak = hashed(_snak(name, value, item.quirks, properties))
            snaks.setdefault(name, []).append(snak)
        statement |= {"qualifiers": snaks, "qualifiers-order": list(snaks)}
    statement |= {"id": f"{item.id}${uuid(seed)}", "rank": claim.rank}
    if some_number(f"referenced {seed}", 3):
        statement["references"] = [_reference(item.id, properties)]
    return statement


def _snak(
    name: str, value: Value, quirks: frozenset[str], properties: dict[str, Property]
) -> Entity:
    """A snak without hash, as main snaks and those of references are in a dump."""
    datatype = properties[name].datatype
    snak: Entity = {"snaktype": value.snaktype, "property": name}
    if value.snaktype == "value":
        kind = DATAVALUE_TYPES[datatype]
        snak["datavalue"] = {"value": datavalue(kind, value.text, quirks), "type": kind}
    if "no-datatype" not in quirks:  # it is missing where the property was deleted
        snak["datatype"] = datatype
    return snak


def _reference(entity_id: str, properties: dict[str, Property]) -> Entity:
    """Ballast: a page that doesn't exist and a day on which nobody looked at it."""
    none: frozenset[str] = frozenset()
    page = Value("value", f"https://example.org/sample/{entity_id}")
    day = Value("value", "2026-01-31")
    snaks = {
        "P854": [_snak("P854", page, none, properties)],
        "P813": [_snak("P813", day, none, properties)],
    }
    digest = hashlib.sha1(encode(snaks), usedforsecurity=False).hexdigest()
    return {"hash": digest, "snaks": snaks, "snaks-order": list(snaks)}
