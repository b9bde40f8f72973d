"""What is taken of a line about a file, held against a reader that knows nothing but json."""

from __future__ import annotations

import bz2
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download.mediainfo import NoFile, read
from download.reading import FILES
from etl.entity import RejectedLineError
from tests.download import invented
from tests.download.plain_mediainfo import WrongError, taken

REAL = os.environ.get("SPARQLESS_REAL_DUMP", "")
ITEM = {
    "value": {"entity-type": "item", "numeric-id": 42, "id": "Q42"},
    "type": "wikibase-entityid",
}


def as_line(entity: Any) -> bytes:
    """As PHP's json_encode writes it: ASCII, slashes escaped."""
    return json.dumps(entity, separators=(",", ":")).replace("/", "\\/").encode()


def found(line: bytes) -> dict[str, Any] | str | None:
    """As the oracle says it; None for a rejected line."""
    try:
        file = read(memoryview(line))
    except RejectedLineError:
        return None
    if isinstance(file, NoFile):
        return file.kind
    made = dict(zip([*FILES.names, "depicts"], file, strict=True))
    return {name: list(v) if isinstance(v, tuple) else v for name, v in made.items()}


def expected(line: bytes) -> dict[str, Any] | str | None:
    try:
        return taken(line)
    except WrongError:
        return None


def file(**more: Any) -> dict[str, Any] | str | None:
    """What is found in the line of a file with these statements, properties of a plain one."""
    line = as_line({"type": "mediainfo", "id": "M76", "title": "File:A bus.jpg", **more})
    assert found(line) == expected(line)
    return found(line)


def about(property_id: str, *statements: Any) -> Any:
    """The columns of a file that has these statements of a property."""
    made = file(statements={property_id: list(statements)})
    assert isinstance(made, dict)
    return made


def snak(value: Any, kind: str) -> dict[str, Any]:
    return {"snaktype": "value", "property": "P1", "datavalue": {"value": value, "type": kind}}


def quantity(amount: str, unit: str, rank: str = "normal") -> dict[str, Any]:
    value = {"amount": amount, "unit": f"http://www.wikidata.org/entity/{unit}"}
    return {"mainsnak": snak(value, "quantity"), "rank": rank}


def item(number: int, rank: str = "normal", **more: Any) -> dict[str, Any]:
    value = {"entity-type": "item", "numeric-id": number, "id": f"Q{number}"}
    return {"mainsnak": snak(value, "wikibase-entityid"), "rank": rank, **more}


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_lines_of_every_oddity_are_taken_as_a_plain_reader_takes_them(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(20):
        line = as_line(invented.file(rng.randrange(1, 10**8), rng))
        assert found(line) == expected(line), (number, line)


def test_the_oddities_are_there() -> None:
    """Or the comparison says little."""
    rng = random.Random(0)
    made = [expected(as_line(invented.file(n, rng))) for n in range(1, 4000)]
    files = [row for row in made if isinstance(row, dict)]
    assert 0.02 < made.count(None) / len(made) < 0.4
    assert sum(isinstance(row, str) for row in made) > 5
    for name in ("captions", "licences", "statuses", "creators", "depicts"):
        assert sum(len(row[name]) > 1 for row in files) > 50
    for name in ("width", "height", "bytes", "mime", "sha1", "file"):
        assert len({row[name] for row in files}) > 2
        assert sum(row[name] is None for row in files) > 50


@pytest.mark.skipif(not Path(REAL).is_file(), reason="SPARQLESS_REAL_DUMP names no file")
def test_real_lines() -> None:
    real = {}
    for line in bz2.decompress(Path(REAL).read_bytes()).splitlines():
        line = line.strip().rstrip(b",")
        if line.startswith(b'{"type":"mediainfo"'):
            row = found(line)
            assert row == expected(line)
            assert isinstance(row, dict)
            real[row["page"]] = row
    assert real[189]["file"] is None  # older than June 2022
    assert real[189]["licences"] == ["Q50829104", "Q14946043"]
    assert real[189]["creators"] == ["Quistnix"]
    assert real[238]["depicts"] == [(506126, 180, False)]
    assert real[17372639]["file"] == "Brugs Kerkhof Guido Gezelle.jpg"
    assert real[17372639]["statuses"] == ["Q50423863"]
    chick = real[74698470]
    assert chick["file"] == "Chick Corea & Stanley Clarke.jpg"
    assert chick["revision"] == 590206738
    assert chick["caption_langs"] == ["en"]
    assert chick["captions"][0].startswith("Chick Corea and Stanley Clarke playing")
    assert chick["depicts"] == [(192465, 180, False), (453406, 180, False)]


def test_depicts_have_their_rank_and_deprecated_ones_are_no_depicts() -> None:
    statements = [item(1), item(2, "preferred"), item(3, "deprecated"), item(1, "preferred")]
    assert about("P180", *statements)["depicts"] == [(1, 180, True), (2, 180, True)]
    assert about("P921", item(5))["depicts"] == [(5, 921, False)]
    assert about("P6243", item(5))["depicts"] == [(5, 6243, False)]
    valueless = [{"mainsnak": {"snaktype": s}, "rank": "normal"} for s in ("somevalue", "novalue")]
    assert about("P180", *valueless)["depicts"] == []


def test_values_of_old_dumps_have_numbers_for_ids() -> None:
    old = {"mainsnak": snak({"entity-type": "item", "numeric-id": 7}, "wikibase-entityid")}
    assert about("P275", old)["licences"] == ["Q7"]
    assert about("P180", old)["depicts"] == [(7, 180, False)]


def test_licences_come_once_and_preferred_ones_first() -> None:
    statements = [item(1), item(2), item(3, "preferred"), item(1), item(4, "deprecated")]
    assert about("P275", *statements)["licences"] == ["Q3", "Q1", "Q2"]


def test_a_creator_is_an_item_or_what_qualifiers_call_it() -> None:
    unknown = {"snaktype": "somevalue", "property": "P170"}
    texts = {p: [snak(p, "string")] for p in ("P2093", "P4174", "P2699")}

    def creators(qualifiers: Any) -> Any:
        return about("P170", {"mainsnak": unknown, "rank": "normal", "qualifiers": qualifiers})[
            "creators"
        ]

    assert about("P170", item(5))["creators"] == ["Q5"]
    assert creators(texts) == ["P2093"]
    del texts["P2093"]
    assert creators(texts) == ["P4174"]
    del texts["P4174"]
    assert creators(texts) == ["P2699"]
    assert creators([]) == []
    both = about("P170", item(5), {"mainsnak": unknown, "rank": "preferred", "qualifiers": texts})
    assert both["creators"] == ["P2699", "Q5"]


def test_sizes_are_pixels_and_bytes_and_whole_numbers() -> None:
    centimetres, pixels = quantity("+30", "Q174728", "preferred"), quantity("+3240", "Q355198")
    assert about("P2049", centimetres, pixels)["width"] == 3240
    assert about("P2048", pixels, quantity("+4", "Q355198", "preferred"))["height"] == 4
    assert about("P2048", pixels, quantity("+4", "Q355198"))["height"] == 3240
    assert about("P2048", quantity("+4", "Q355198", "deprecated"))["height"] is None
    for amount in ("-3", "+1.5", "+2147483648", "many", "+0", "0", "+0.0"):
        assert about("P2049", quantity(amount, "Q355198"))["width"] is None
    assert about("P3575", quantity("+2147483648", "Q8799"))["bytes"] == 2**31
    assert about("P3575", quantity(f"+{2**63}", "Q8799"))["bytes"] is None
    assert about("P3575", quantity("+5", "Q79726"))["bytes"] is None  # kilobytes
    assert about("P3575", quantity("+0", "Q8799"))["bytes"] is None
    assert about("P2049", quantity("+0", "Q355198"), pixels)["width"] == 3240


def test_a_type_is_of_a_types_form() -> None:
    def mime(text: str) -> Any:
        return about("P1163", {"mainsnak": snak(text, "string"), "rank": "normal"})["mime"]

    for text in ("image/jpeg", "image/svg+xml", "model/vnd.sealed-3d"):
        assert mime(text) == text
    for text in ("<script>\x1b[2J", "image", "image/", "/png", "image/png\n", "a/b/c", "é/é", ""):
        assert mime(text) is None


def test_a_file_has_no_thousands_of_licences_and_creators() -> None:
    many = [item(number) for number in range(1, 50_001)]
    names = [f"Q{number}" for number in range(1, 21)]
    assert about("P275", *many)["licences"] == names
    assert about("P6216", *many)["statuses"] == names
    assert about("P170", *many)["creators"] == names


def test_a_checksum_counts_where_its_method_is_sha1() -> None:
    digest = "0123456789ABCDEF" * 2 + "01234567"

    def sha1(text: str, method: int) -> Any:
        methods = {"P459": [item(method)["mainsnak"]]}
        return about("P4092", {"mainsnak": snak(text, "string"), "qualifiers": methods})["sha1"]

    assert sha1(digest, 13414952) == digest.lower()
    assert sha1(digest, 185235) is None  # MD5
    assert sha1(digest[:-1], 13414952) is None
    assert about("P4092", {"mainsnak": snak(digest, "string")})["sha1"] is None


def test_texts_are_bounded_and_names_are_those_of_files() -> None:
    long = file(labels={"en": {"language": "en", "value": "é" * 5000}})
    assert isinstance(long, dict)
    assert long["captions"] == ["é" * 2000]
    assert file(title="File:" + "é" * 127) is not None
    assert file(title="File:" + "é" * 128) is None
    assert file(title="File:") is None
    assert file(title="Category:A bus") == "mediainfo of no file"
    assert file(ns=14) == "mediainfo of no file"
    assert file(labels={str(n): {"value": ""} for n in range(1001)}) is None


def test_statements_may_be_called_claims() -> None:
    made = file(claims={"P275": [item(5)]})
    assert isinstance(made, dict)
    assert made["licences"] == ["Q5"]
    both = file(claims={"P275": [item(5)]}, statements=[])
    assert isinstance(both, dict)
    assert both["licences"] == []


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"null",
        b"[]",
        b'{"type":"mediainfo"}',
        b'{"type":"mediainfo","id":"M1","labels":{"en":{"value":"\xff"}}}',
        b'{"type":"mediainfo","id":"M1","labels":{"en":{"value":"\\ud800"}}}',
        b'{"type":"mediainfo","id":"M1","labels":{"en":{"value":"\\udc00"}}}',
        b'{"type":"mediainfo","id":"M1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"mediainfo","id":"M1","lastrevid":1e400}',
        b'{"type":"mediainfo","id":"M1","lastrevid":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_entity_is_rejected_in_a_sentence(line: bytes) -> None:
    with pytest.raises(RejectedLineError) as error:
        read(line)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250
