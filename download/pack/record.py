"""What is known of one image, put together from the candidates that gave it: KEY.json and KEY.txt.

    made = record(picture, rows, queries)
    msgspec.json.encode(made)            # KEY.json: the fields of Record, in this order
    made.caption                         # KEY.txt

Readers decode KEY.json as a :class:`Record`. **Every field is there in every file, of one type,
never null, and no list is empty**: ``""`` is what isn't known. Readers that infer a type from a few
files (Hugging Face ``datasets`` takes the first five) would take a list that happens to be empty
for a list of nulls, and fail at the first that isn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

#: Rows of each list at most. One file may stand at a hundred thousand addresses ("no picture
#: yet"), and a reader has to hold its JSON.
MOST_LISTED: Final = 1000

#: The source of a text that nobody wrote for the image: it is what the entity is called.
NAME: Final = "name"

_INDIRECT = " via "  # in a reason: the image shows something below the entity


class Entity(msgspec.Struct, frozen=True):
    """Something that the image shows, and how that is known."""

    id: str  # Q144
    name: str
    roots: list[str]
    natural_type: str  # item, "" without --graph or where it has none
    natural_type_name: str
    sources: list[str]  # that found it: commons-p18, …
    reasons: list[str]  # P18; "P180 via Q25324 1"; url-list: as in candidates.parquet


class Query(msgspec.Struct, frozen=True):
    """A search query that the image is an answer to.

    Of an entity that no search found, the query for its name (``found`` is false then).
    """

    hash: str  # query_hash of queries.parquet; "" where the data set has none
    query: str  # "" without --graph, but for names
    type: str  # name, alias, attribute_type, attribute_name; "" where it isn't known
    entity: str  # "" for attribute_type, which is about a type
    found: bool


class Text(msgspec.Struct, frozen=True):
    """A caption or alt text; if there is none at all, one from :data:`NAME` with the caption."""

    text: str
    lang: str  # "" where it isn't known
    sources: list[str]


class File(msgspec.Struct, frozen=True):
    """An address at which the image was found; that of the image itself comes first."""

    sha256: str
    url: str
    page_url: str
    source_id: str
    width: int  # of the file that was there, upright
    height: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """KEY.json."""

    key: str  # the first 32 digits of sha256
    caption: str  # KEY.txt
    url: str  # where this file was fetched
    page_url: str
    file: str  # on Wikimedia Commons, with spaces
    licence: str
    creator: str
    width: int  # of KEY.jpg
    height: int
    original_width: int
    original_height: int
    format: str  # of the file that was fetched: jpeg, png, …
    sha256: str  # of the file that was fetched
    entities: list[Entity]
    queries: list[Query]
    texts: list[Text]
    files: list[File]

    def written(self) -> list[Text]:
        """Texts that somebody wrote, and not just what the entity is called."""
        return [text for text in self.texts if text.sources != [NAME]]


Row = Mapping[str, Any]


def record(picture: Row, rows: Sequence[Row], queries: Sequence[Row]) -> tuple[Record, bool]:
    """The record of an image, and whether one of its lists was longer than MOST_LISTED.

    ``picture`` has the fields of Record that are of the picture; ``rows`` are its candidates in
    their order, each with ``sha256`` of what it got, and ``entity_name``, ``roots``,
    ``natural_type``, ``natural_type_name``, ``name_hash`` and ``name_query`` of its entity;
    ``queries`` are those that found it, with the fields of :class:`Query` but ``found``.
    """
    own = [row for row in rows if row["sha256"] == picture["sha256"]]
    credit = _credit(own, rows)
    entities, files = _entities(rows), _files(own, rows)
    asked = _queries(rows, queries)
    texts = _texts(rows)
    caption = _caption(texts, rows)
    cut = any(len(listed) > MOST_LISTED for listed in (entities, asked, texts, files))
    made = Record(
        **picture,
        caption=caption,
        url=credit["url"],
        page_url=credit["page_url"] or "",
        file=credit["file"] or "",
        licence=credit["licence"] or "",
        creator=credit["creator"] or "",
        entities=entities[:MOST_LISTED],
        queries=asked[:MOST_LISTED],
        texts=texts[:MOST_LISTED] or [Text(caption, "", [NAME])],
        files=files[:MOST_LISTED],
    )
    return made, cut


def _credit(own: Sequence[Row], rows: Sequence[Row]) -> Row:
    """The candidate that says whose the picture is: of this very file if one does.

    What a licence asks for (creator, page, licence) is taken from one place, since halves of two
    would be nobody's.
    """
    told = next((row for row in (*own, *rows) if row["licence"]), None)
    if told is None:
        told = next((row for row in (*own, *rows) if row["creator"] or row["page_url"]), own[0])
    return {**told, "url": own[0]["url"]}


def _entities(rows: Iterable[Row]) -> list[Entity]:
    found: dict[str, Entity] = {}
    for row in rows:
        known = found.get(row["entity"])
        if known is None:
            found[row["entity"]] = Entity(
                row["entity"],
                row["entity_name"] or row["entity"],
                row["roots"] or [],
                row["natural_type"] or "",
                row["natural_type_name"] or "",
                list(row["sources"]),
                list(row["reasons"]),
            )
            continue
        known.sources.extend(name for name in row["sources"] if name not in known.sources)
        known.reasons.extend(why for why in row["reasons"] if why not in known.reasons)
    return list(found.values())


def _queries(rows: Iterable[Row], queries: Iterable[Row]) -> list[Query]:
    found = [
        Query(q["hash"], q["query"] or "", q["type"] or "", q["entity"] or "", True)
        for q in queries
    ]
    asked = {query.entity for query in found}
    for row in rows:
        if row["entity"] not in asked:
            asked.add(row["entity"])
            text = row["name_query"] or row["entity_name"] or row["entity"]
            found.append(Query(row["name_hash"] or "", text, NAME, row["entity"], False))
    return found


#: Unicode's control characters (C0 and C1), which steer a terminal and say nothing in a caption.
_CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")


def _texts(rows: Iterable[Row]) -> list[Text]:
    """Texts in the order of the candidates, each once, with white space and controls collapsed."""
    found: dict[str, Text] = {}
    for row in rows:
        for written, lang in zip(row["texts"] or (), row["text_langs"] or (), strict=True):
            text = " ".join((written or "").translate(_CONTROLS).split())
            if not text:
                continue
            known = found.get(text)
            if known is None or (lang and not known.lang):
                sources = known.sources if known else []
                found[text] = known = Text(text, lang or "", sources)
            known.sources.extend(name for name in row["sources"] if name not in known.sources)
    return list(found.values())


def _caption(texts: Sequence[Text], rows: Sequence[Row]) -> str:
    """The one text to train on: in English, else of no known language, else the entity's name.

    Of several the first: sources give the one that was written for the image first. The entity is
    one that the image is said to show itself, rather than something below it; of those the one
    for which the image is the best.
    """
    for fits in (_is_english, lambda text: not text.lang):
        for text in texts:
            if fits(text):
                return text.text
    row = min(rows, key=lambda row: (_is_indirect(row), -(row["score"] or 0)))
    return " ".join((row["entity_name"] or row["entity"]).split())


def _is_english(text: Text) -> bool:
    return text.lang.lower().partition("-")[0] == "en"


def _is_indirect(row: Row) -> bool:
    return bool(row["reasons"]) and all(_INDIRECT in reason for reason in row["reasons"])


def _files(own: Iterable[Row], rows: Iterable[Row]) -> list[File]:
    found: dict[str, File] = {}
    for row in (*own, *rows):
        if row["url"] not in found:
            found[row["url"]] = File(
                row["sha256"],
                row["url"],
                row["page_url"] or "",
                row["source_id"] or "",
                row["original_width"],
                row["original_height"],
            )
    return list(found.values())
