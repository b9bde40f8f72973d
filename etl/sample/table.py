"""The table of facts: ``items.tsv`` and ``properties.tsv`` → rows, checked as they are read.

The columns and the compact notation of claims are described in ``SOURCES.md`` beside the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from etl.errors import UserError

FOLDER: Final = Path(__file__).parent
ITEMS: Final = FOLDER / "items.tsv"
PROPERTIES: Final = FOLDER / "properties.tsv"
SITES: Final = FOLDER / "sites.tsv"

#: The lowest number of a made-up id: no item of Wikidata is near it.
FIRST_MADE_UP: Final = 9_000_000_000
MADE_UP: Final = "made-up"

#: What may be odd about a row's line; ``SOURCES.md`` says what each stands for.
QUIRKS: Final = frozenset(
    {
        "bare",
        "broken",
        "empty-arrays",
        "no-aliases",
        "no-claims",
        "no-datatype",
        "no-descriptions",
        "no-labels",
        "no-page-metadata",
        "no-sitelinks",
        "numeric-id-only",
        "older",
        "redirect-badge",
    }
)

_ITEM_COLUMNS = (
    "id",
    "label",
    "labels",
    "description",
    "aliases",
    "sitelinks",
    "claims",
    "quirks",
    "source",
    "note",
)
_PROPERTY_COLUMNS = ("id", "label", "datatype", "description", "source")

_ID = re.compile(r"[QP][1-9][0-9]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*")

#: datatype of a property → type of its datavalues (Wikibase's docs/topics/json.md).
DATAVALUE_TYPES: Final = {
    "commonsMedia": "string",
    "external-id": "string",
    "globe-coordinate": "globecoordinate",
    "monolingualtext": "monolingualtext",
    "quantity": "quantity",
    "string": "string",
    "time": "time",
    "url": "string",
    "wikibase-item": "wikibase-entityid",
    "wikibase-property": "wikibase-entityid",
}

#: What the text of a value must look like, for the types where not every text will do.
_VALUE_PATTERNS: Final = {
    "wikibase-entityid": _ID,
    "globecoordinate": re.compile(r"-?[0-9.]+,-?[0-9.]+"),
    "monolingualtext": re.compile(_LANGUAGE.pattern + ":.+"),
    "quantity": re.compile(r"-?[0-9.]+(?: Q[1-9][0-9]*)?"),
    "time": re.compile(r"[0-9]{4}(?:-[0-9]{2}-[0-9]{2})?"),
}

_CLAIM = re.compile(
    r"""\s* (?P<property>P[1-9][0-9]*) \s*=\s*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<plain>[^;,"\[\]@~]*(?:,-?[0-9.]+)?) )
        (?: \[ (?P<qualifiers> (?:[^"\]]|"(?:[^"\\]|\\.)*")* ) \] )?
        (?: @(?P<rank>preferred|deprecated) )?
        (?: ~(?P<source>[^\s;,]+) )?
        \s* (?: (?P<end>[;,]) | \Z )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Value:
    """A main snak's or qualifier's value: ``text`` is empty for somevalue and novalue."""

    snaktype: str
    text: str


@dataclass(frozen=True)
class Claim:
    property: str
    value: Value
    rank: str
    qualifiers: tuple[tuple[str, Value], ...]
    source: str


@dataclass(frozen=True)
class Property:
    id: str
    label: str
    datatype: str
    description: str
    source: str


@dataclass(frozen=True)
class Item:
    """One row of ``items.tsv``; ``sitelinks`` is None where no source gives the number."""

    id: str
    labels: dict[str, str]
    description: str
    aliases: tuple[str, ...]
    sitelinks: int | None
    claims: tuple[Claim, ...]
    quirks: frozenset[str]
    source: str
    note: str

    @property
    def made_up(self) -> bool:
        return int(self.id[1:]) >= FIRST_MADE_UP


def read_properties(path: Path = PROPERTIES) -> dict[str, Property]:
    """The properties of the sample by id. Raises UserError that names the file and line."""
    found: dict[str, Property] = {}
    for line, cells in rows(path, _PROPERTY_COLUMNS):
        one = Property(**cells)
        if not _ID.fullmatch(one.id) or one.id[0] != "P" or one.id in found:
            raise malformed(path, line, f"{one.id!r} is not a new property id")
        if one.datatype not in DATAVALUE_TYPES:
            raise malformed(path, line, f"unknown datatype {one.datatype!r}")
        if not one.source:
            raise malformed(path, line, "the source is missing")
        found[one.id] = one
    return found


def read_items(path: Path = ITEMS, properties: dict[str, Property] | None = None) -> list[Item]:
    """The rows of the table in its own order. Raises UserError that names the file and line."""
    known = read_properties() if properties is None else properties
    items: list[Item] = []
    seen: set[tuple[str, bool]] = set()
    for line, cells in rows(path, _ITEM_COLUMNS):
        try:
            item = _item(cells, known)
        except ValueError as error:
            raise malformed(path, line, str(error)) from None
        key = (item.id, "older" in item.quirks)
        if key in seen:
            raise malformed(path, line, f"{item.id} has a row already")
        seen.add(key)
        items.append(item)
    return items


def read_sites(path: Path = SITES) -> list[str]:
    """Ids of wikis, the most linked first."""
    return [cells["site"] for _, cells in rows(path, ("site",))]


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number (from 1) and cells by column; blank lines and ``#`` comments are left out."""
    header = False
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text or text.startswith("#"):
            continue
        cells = text.split("\t")
        if not header:
            if tuple(cells) != columns:
                raise malformed(path, number, f"the header is not {' '.join(columns)}")
            header = True
            continue
        if len(cells) != len(columns):
            raise malformed(path, number, f"{len(cells)} columns instead of {len(columns)}")
        yield number, dict(zip(columns, cells, strict=True))


def malformed(path: Path, line: int, what: str) -> UserError:
    return UserError(f"{path.name}, line {line}: {what}. Mend that row of the sample's table.")


def _item(cells: dict[str, str], properties: dict[str, Property]) -> Item:
    if not _ID.fullmatch(cells["id"]) or cells["id"][0] != "Q":
        raise ValueError(f"{cells['id']!r} is not an item id")
    if not cells["source"]:
        raise ValueError("the source is missing")
    if cells["sitelinks"] and not cells["sitelinks"].split("~")[0].isdigit():
        raise ValueError(f"sitelinks {cells['sitelinks']!r} is not a number")
    quirks = frozenset(cells["quirks"].split())
    if unknown := quirks - QUIRKS:
        raise ValueError(f"unknown quirk {min(unknown)!r}")
    links = cells["sitelinks"].split("~")[0]
    return Item(
        id=cells["id"],
        labels=_labels(cells),
        description=cells["description"],
        aliases=tuple(a for a in cells["aliases"].split("|") if a),
        sitelinks=int(links) if links else None,
        claims=tuple(read_claims(cells["claims"], properties, cells["source"])),
        quirks=quirks,
        source=cells["source"],
        note=cells["note"],
    )


def _labels(cells: dict[str, str]) -> dict[str, str]:
    labels = {"en": cells["label"]} if cells["label"] else {}
    for pair in filter(None, cells["labels"].split("|")):
        language, colon, text = pair.partition(":")
        if not colon or not text or not _LANGUAGE.fullmatch(language):
            raise ValueError(f"{pair!r} is not language:label")
        labels[language] = text
    return labels


def read_claims(text: str, properties: dict[str, Property], source: str = "") -> Iterator[Claim]:
    """Claims of ``P31=Q5; P18="A.jpg"@preferred``. Raises ValueError on what it can't read."""
    for match in _pairs(text, ";"):
        qualifiers = tuple(
            (q["property"], _value(q, properties)) for q in _pairs(match["qualifiers"] or "", ",")
        )
        yield Claim(
            property=match["property"],
            value=_value(match, properties),
            rank=match["rank"] or "normal",
            qualifiers=qualifiers,
            source=match["source"] or source,
        )


def _pairs(text: str, separator: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        match = _CLAIM.match(text, at)
        if match is None or match["end"] not in (separator, None):
            raise ValueError(f"can't read the claims from {text[at : at + 40]!r} on")
        yield match
        at = match.end()


def _value(match: re.Match[str], properties: dict[str, Property]) -> Value:
    if match["property"] not in properties:
        raise ValueError(f"{match['property']} is not in {PROPERTIES.name}")
    if match["quoted"] is not None:
        text = re.sub(r"\\(.)", r"\1", match["quoted"])
    else:
        text = match["plain"].strip()
        if text in ("somevalue", "novalue"):
            return Value(text, "")
    kind = DATAVALUE_TYPES[properties[match["property"]].datatype]
    pattern = _VALUE_PATTERNS.get(kind)
    if not text or (pattern and not pattern.fullmatch(text)):
        raise ValueError(f"{match['property']}={text!r} is not a {kind}")
    return Value("value", text)
