"""KEY.json and KEY.txt: all that is known of an image, in a form that every reader can type."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from download.pack.record import MOST_LISTED, Record, record

PICTURE = {
    "key": "a" * 32,
    "sha256": "a" * 64,
    "width": 256,
    "height": 200,
    "original_width": 512,
    "original_height": 400,
    "format": "png",
}


def candidate(entity: str = "Q144", **changed: Any) -> dict[str, Any]:
    return {
        "sha256": "a" * 64,
        "url": f"https://images.test/{entity}",
        "original_width": 512,
        "original_height": 400,
        "entity": entity,
        "entity_name": "dog",
        "roots": ["Q729"],
        "sources": ["commons-p18"],
        "reasons": ["P18"],
        "score": 1.0,
        **dict.fromkeys(("file", "source_id", "page_url", "licence", "creator")),
        **dict.fromkeys(("natural_type", "natural_type_name", "name_hash", "name_query")),
        "texts": [],
        "text_langs": [],
        **changed,
    }


def made(*rows: dict[str, Any], queries: list[dict[str, Any]] | None = None) -> Record:
    return record(PICTURE, rows, queries or [])[0]


@pytest.mark.parametrize(
    ("texts", "caption"),
    [
        ([("Ein Hund", "de"), ("A dog", "en")], "A dog"),
        ([("Ein Hund", "de"), ("Rex", None)], "Rex"),
        ([("Rex", None), ("A  good\n dog", "en-GB")], "A good dog"),
        ([("Ein Hund", "de")], "dog"),
        ([(" ", "en")], "dog"),
        ([], "dog"),
    ],
)
def test_the_caption_is_english_else_of_no_language_else_the_name(
    texts: list[tuple[str, str | None]], caption: str
) -> None:
    row = candidate(texts=[text for text, _ in texts], text_langs=[lang for _, lang in texts])
    assert made(row).caption == caption


def test_the_name_is_of_what_the_image_itself_shows() -> None:
    """Q144 is dog; an image of a Labrador (Q27123) shows a dog, too, and is called after it."""
    dog = candidate(reasons=["P180 via Q27123 1"], score=1.0)
    labrador = candidate("Q27123", entity_name="Labrador", reasons=["P180"], score=0.1)
    assert made(dog, labrador).caption == "Labrador"


def test_texts_of_several_candidates_come_once_with_who_gave_them() -> None:
    first = candidate(texts=["A dog", "Rex"], text_langs=[None, None], sources=["url-list"])
    second = candidate("Q146", texts=["A dog"], text_langs=["en"], sources=["commons-credits"])
    found = made(first, second).texts
    assert [(text.text, text.lang, text.sources) for text in found] == [
        ("A dog", "en", ["url-list", "commons-credits"]),
        ("Rex", "", ["url-list"]),
    ]


def test_an_entity_that_no_query_found_has_the_one_for_its_name() -> None:
    rows = [candidate(), candidate("Q146", name_hash="n146", name_query="house cat")]
    asked = [{"hash": "h", "query": "brown dog", "type": "attribute_name", "entity": "Q144"}]
    found = [
        (q.hash, q.query, q.type, q.entity, q.found) for q in made(*rows, queries=asked).queries
    ]
    assert found == [
        ("h", "brown dog", "attribute_name", "Q144", True),
        ("n146", "house cat", "name", "Q146", False),
    ]


def test_creator_licence_and_page_are_taken_from_one_place() -> None:
    """The file's own candidate if it says a licence: halves of two would be nobody's."""
    other = candidate(sha256="b" * 64, url="https://images.test/b", licence="CC0 1.0", creator="Bo")
    own = candidate("Q146", creator="Ann", licence="CC BY 4.0")
    found = made(other, own)
    assert (found.creator, found.licence, found.page_url) == ("Ann", "CC BY 4.0", "")
    found = made(other, candidate("Q146", creator="Ann"))
    assert (found.creator, found.licence) == ("Bo", "CC0 1.0")
    assert found.url == "https://images.test/Q146"


def test_the_address_of_the_file_itself_comes_first() -> None:
    other = candidate(sha256="b" * 64, url="https://images.test/b", original_width=100)
    files = made(other, candidate("Q146")).files
    assert [(file.sha256[0], file.width) for file in files] == [("a", 512), ("b", 100)]


def test_what_stands_everywhere_is_cut_and_that_is_told() -> None:
    rows = [candidate(url=f"https://images.test/{n}") for n in range(MOST_LISTED + 1)]
    found, cut = record(PICTURE, rows, [])
    assert cut
    assert len(found.files) == MOST_LISTED
    assert not record(PICTURE, rows[1:], [])[1]


_text = st.text(max_size=5)
_maybe = st.none() | _text
_rows = st.lists(
    st.builds(
        lambda entity, name, text, lang, licence, creator: candidate(
            entity, entity_name=name, texts=text, text_langs=[lang] * len(text), licence=licence,
            creator=creator,
        ),
        st.sampled_from(["Q144", "Q146", "Q756"]), _maybe, st.lists(_text, max_size=3),
        st.sampled_from([None, "en", "de"]), _maybe, _maybe,
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(_rows, st.booleans())
def test_no_field_is_ever_null_or_an_empty_list(rows: list[dict[str, Any]], asked: bool) -> None:
    """So any one file tells the types of all, which is what readers go by: Hugging Face's take
    the first five of a shard, as Arrow infers them."""
    queries = [{"hash": "h", "query": None, "type": None, "entity": None}] if asked else []
    found = msgspec.json.decode(msgspec.json.encode(made(*rows, queries=queries)))
    full = msgspec.json.decode(msgspec.json.encode(made(candidate())))
    schemas = [pa.Table.from_pylist([one]).schema for one in (found, full)]
    assert schemas[0] == schemas[1]
    assert "null" not in str(schemas[0])
    assert made(*rows).caption


def test_a_caption_cannot_steer_the_terminal_that_shows_it() -> None:
    row = candidate(texts=["\x1b[2J\x00a\x9b dog\n at\tplay 👩\u200d🌾"], text_langs=["en"])
    record = made(row)
    assert record.caption == "[2J a dog at play 👩\u200d🌾"
