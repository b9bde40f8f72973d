"""A record says what its line says: as plain ``json`` and qwikidata read it, on real lines too."""

from __future__ import annotations

import bz2
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qwikidata.entity import WikidataItem

from etl.entity import (
    OtherEntity,
    Record,
    RejectedLineError,
    decode_record,
    encode_record,
    entity_id,
    numeric_id,
    read_slowly,
)
from etl.kept import DEFAULT_LANGUAGES, Kept, parse_languages, read_properties
from etl.reader import EntityReader, Entry, entry_of
from etl.sample import lines as sample_lines
from tests.etl import dumps

KEPT = Kept(DEFAULT_LANGUAGES, read_properties())
SHOWN = ("P31", "P279", "P171", "P18", "P225")


def real_lines() -> list[bytes]:
    path = os.environ.get("SPARQLESS_REAL_DUMP", "")
    if not Path(path).is_file():
        pytest.skip("SPARQLESS_REAL_DUMP names no file")
    with bz2.open(path) as file:
        lines = [line.strip().rstrip(b",") for line in file]
    return [line for line in lines if len(line) > 2]


@pytest.fixture(scope="session", params=["sample", "real", "random"])
def lines(request: pytest.FixtureRequest) -> list[bytes]:
    if request.param == "real":
        return real_lines()
    if request.param == "sample":
        return sample_lines()
    return [dumps.as_line(e) for seed in range(5) for e in dumps.entities(200, seed)]


def records(lines: list[bytes]) -> Iterator[tuple[dict[str, Any], Record]]:
    """What plain json and our reader make of each line that is an item or a property."""
    reader = EntityReader(KEPT)
    for line in lines:
        try:
            plain = json.loads(line)
        except ValueError:
            with pytest.raises(RejectedLineError):
                reader.read(line)
            continue
        entry = reader.read(line)
        if plain["type"] in ("item", "property"):
            assert isinstance(entry, Entry)
            yield plain, decode_record(entry.value)
        else:
            assert entry == OtherEntity(plain["type"])


def a_map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def plain_truthy(plain: dict[str, Any], property_id: str) -> list[Any]:
    """The truthy rule written out once more, over plain dicts."""
    found = a_map(plain.get("claims")).get(property_id, [])
    ranks = [s.get("rank", "normal") for s in found]
    best = "preferred" if "preferred" in ranks else "normal"
    snaks = [s["mainsnak"] for s, rank in zip(found, ranks, strict=True) if rank == best]
    return [plain_value(s) for s in snaks if s["snaktype"] != "novalue"]


def plain_value(snak: dict[str, Any]) -> Any:
    if snak["snaktype"] == "somevalue":
        return None
    value = snak["datavalue"]["value"]
    if snak["datavalue"]["type"] != "wikibase-entityid":
        return value
    return value.get("id") or f"{value['entity-type'][0].upper()}{value['numeric-id']}".replace(
        "I", "Q"
    )


def test_records_equal_a_plain_json_reading(lines: list[bytes]) -> None:
    seen = 0
    for plain, record in records(lines):
        seen += 1
        assert record.id == plain["id"]
        assert record.revision == plain.get("lastrevid", 0)
        assert record.sitelinks == len(plain.get("sitelinks", ()))
        assert record.datatype == plain.get("datatype", "")
        labels, descriptions = a_map(plain.get("labels")), a_map(plain.get("descriptions"))
        assert record.labels == {c: labels[c]["value"] for c in KEPT.languages if c in labels}
        assert record.descriptions == {
            c: descriptions[c]["value"] for c in KEPT.languages if c in descriptions
        }
        aliases = a_map(plain.get("aliases"))
        assert record.aliases == {
            c: [a["value"] for a in aliases[c]] for c in KEPT.languages if aliases.get(c)
        }
        for property_id in KEPT.properties:
            values = [s.snak.value for s in record.truthy(property_id)]
            assert values == plain_truthy(plain, property_id)
            claims = a_map(plain.get("claims")).get(property_id, [])
            assert [(s.rank, s.snak.type) for s in record.claims.get(property_id, [])] == [
                (c.get("rank", "normal"), c["mainsnak"]["snaktype"]) for c in claims
            ]
    assert seen > 600


def test_kept_qualifiers_equal_a_plain_json_reading(lines: list[bytes]) -> None:
    for plain, record in records(lines):
        for property_id, wanted in KEPT.properties.items():
            claims = a_map(plain.get("claims")).get(property_id, [])
            assert [
                {p: [s.value for s in snaks] for p, snaks in statement.qualifiers.items()}
                for statement in record.claims.get(property_id, [])
            ] == [
                {
                    p: [plain_value(s) if s["snaktype"] == "value" else None for s in snaks]
                    for p, snaks in a_map(claim.get("qualifiers")).items()
                    if p in wanted
                }
                for claim in claims
            ]


def test_records_equal_qwikidatas_reading_where_it_can_read(lines: list[bytes]) -> None:
    compared = 0
    for plain, record in records(lines):
        try:
            item = WikidataItem(plain)
            groups = item.get_truthy_claim_groups()
            label, aliases = item.get_label("en"), item.get_aliases("en")
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # it needs fields that old lines lack, and datatypes that some snaks lack
        compared += 1
        assert record.labels.get("en", "") == label
        assert record.aliases.get("en", []) == aliases
        for property_id in SHOWN:
            theirs = [
                claim.mainsnak.datavalue.value
                for claim in groups.get(property_id, [])
                if claim.mainsnak.snaktype == "value"
            ]
            ours = [s.snak.value for s in record.truthy(property_id) if s.snak.type == "value"]
            if not all(isinstance(v, str) or "id" in v for v in theirs):
                continue  # ids that it doesn't make up from numbers
            assert ours == [v if isinstance(v, str) else v["id"] for v in theirs]
    assert compared > 20


def test_the_tolerant_reader_agrees_on_every_line(lines: list[bytes]) -> None:
    reader = EntityReader(KEPT)
    for line in lines:
        try:
            fast: Any = reader.read(line)
        except RejectedLineError:
            with pytest.raises(RejectedLineError):
                read_slowly(line, KEPT)
            continue
        record = read_slowly(line, KEPT)
        assert fast == (entry_of(record, KEPT) if isinstance(record, Record) else record)


def test_a_stored_record_is_the_record(lines: list[bytes]) -> None:
    for _, record in records(lines):
        assert decode_record(encode_record(record)) == record


# --- hostile and odd lines

WHOLE = {
    "type": "item",
    "id": "Q1",
    "labels": {"en": {"language": "en", "value": "x"}},
    "aliases": {"en": [{"language": "en", "value": "y"}]},
    "claims": {
        "P31": [
            {
                "mainsnak": {
                    "snaktype": "value",
                    "property": "P31",
                    "datavalue": {
                        "value": {"entity-type": "item", "id": "Q2", "numeric-id": 2},
                        "type": "wikibase-entityid",
                    },
                },
                "rank": "normal",
                "qualifiers": {},
            }
        ]
    },
    "sitelinks": {},
    "lastrevid": 5,
}


def read(value: Any) -> Record | OtherEntity:
    entry = EntityReader(KEPT).read(json.dumps(value).encode())
    return decode_record(entry.value) if isinstance(entry, Entry) else entry


@pytest.mark.parametrize("key", ["labels", "descriptions", "aliases", "claims", "sitelinks"])
@pytest.mark.parametrize("empty", ["[]", "{}", None])
def test_empty_maps_are_written_in_three_ways(key: str, empty: str | None) -> None:
    without = {k: v for k, v in WHOLE.items() if k != key}
    made = without if empty is None else {**without, key: json.loads(empty)}
    record = read(made)
    assert isinstance(record, Record)
    assert not getattr(record, key)


def test_old_numbers_are_ids_and_newer_types_need_their_id() -> None:
    def with_value(value: dict[str, Any]) -> dict[str, Any]:
        made = json.loads(json.dumps(WHOLE))
        made["claims"]["P31"][0]["mainsnak"]["datavalue"]["value"] = value
        return made

    def value_of(value: dict[str, Any]) -> Any:
        record = read(with_value(value))
        assert isinstance(record, Record)
        return record.claims["P31"][0].snak.value

    assert value_of({"entity-type": "item", "numeric-id": 7}) == "Q7"
    assert value_of({"entity-type": "item", "numeric-id": "7"}) == "Q7"
    assert value_of({"entity-type": "property", "numeric-id": 7}) == "P7"
    assert value_of({"entity-type": "entity-schema", "id": "E7"}) == "E7"
    assert value_of({"entity-type": "form", "id": "L7-F1"}) == "L7-F1"
    with pytest.raises(RejectedLineError, match="neither an id nor"):
        value_of({"entity-type": "sense"})


def in_claim(value: Any, type_: str = "wikibase-entityid") -> dict[str, Any]:
    made = json.loads(json.dumps(WHOLE))
    made["claims"]["P31"][0]["mainsnak"]["datavalue"] = {"value": value, "type": type_}
    return made


@pytest.mark.parametrize(
    "made",
    [
        in_claim({"id": 5}),
        in_claim({"id": ["Q5"]}),
        in_claim({"entity-type": "item", "numeric-id": 1.5}),
        in_claim({"entity-type": "item", "numeric-id": True}),
        in_claim({"entity-type": "item", "numeric-id": " 1_0 "}),
        in_claim({"entity-type": "item", "numeric-id": "\u0665"}),
        in_claim({"entity-type": "item", "numeric-id": 0}),
        in_claim({"entity-type": "item", "numeric-id": -5}),
        in_claim({"entity-type": "item", "numeric-id": 1e308}),
        in_claim("Q5"),
        in_claim(5, "string"),
        in_claim({}, "string"),
        in_claim("x", "monolingualtext"),
        in_claim({"text": "x"}, "monolingualtext"),
        in_claim({"amount": 5}, "quantity"),
        in_claim([], "globecoordinate"),
        in_claim(10**400, "other"),
        {**WHOLE, "sitelinks": "abc"},
        {**WHOLE, "lastrevid": 1.9},
        {**WHOLE, "lastrevid": True},
        {**WHOLE, "lastrevid": -1},
        {**WHOLE, "lastrevid": 2**63},
        {**WHOLE, "lastrevid": 10**30},
        {**WHOLE, "datatype": 5},
    ],
)
def test_what_is_no_id_number_or_text_is_not_taken_for_one(made: dict[str, Any]) -> None:
    line = json.dumps(made).encode()

    def slowly(text: bytes) -> bytes:
        record = read_slowly(text, KEPT)
        assert isinstance(record, Record)
        return encode_record(record)

    for way in (EntityReader(KEPT).read, slowly):
        with pytest.raises(RejectedLineError):
            way(line)


def test_aliases_written_as_a_map_are_read() -> None:
    record = read({**WHOLE, "aliases": {"en": {"0": {"value": "a"}, "2": {"value": "b"}}}})
    assert isinstance(record, Record)
    assert record.aliases == {"en": ["a", "b"]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type":"item","id":"Q1"', "not valid JSON"),
        (b'{"type":"item","id":"Q1"} trailing', "not valid JSON"),
        (b"null", "not an entity"),
        (b'{"id":"Q1"}', "no `type`"),
        (b'{"type":"item"}', "without an `id`"),
        (b'{"type":"item","id":"P1"}', "not the id of an item"),
        (b'{"type":"property","id":"Q1"}', "not the id of an property"),
        (b'{"type":"item","id":"Q0"}', "not the id"),
        (b'{"type":"item","id":"Q99999999999999999999"}', "not the id"),
        (b'{"type":"item","id":"../../etc/passwd"}', "not the id"),
        (b'{"type":"item","id":"Q1","claims":["x"]}', "not empty"),
        (b'{"type":"item","id":"Q1","labels":"x"}', "neither a map nor a list"),
        (b'{"type":"item","id":"Q1","labels":{"en":{"value":5}}}', "where text belongs"),
        (b'{"type":"item","id":"Q1","claims":{"P31":[{"rank":"best"}]}}', "unknown rank"),
        (b'{"type":"item","id":"Q1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"type":"item","id":"Q1","datatype":' + b"[" * 1_000 + b"]" * 1_000 + b"}", "nested"),
    ],
)
def test_a_line_that_is_no_entity_is_rejected_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(RejectedLineError, match=reason):
        EntityReader(KEPT).read(line)


def mutations(line: bytes, rng: random.Random) -> bytes:
    changed = bytearray(line)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 20)]
        else:
            changed[at:at] = rng.choice(
                [b"[]", b"{}", b"null", b'"x"', b"-1e999", b"\\ud800", b"9" * 30]
            )
    return bytes(changed)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_a_mutilated_line_is_read_or_rejected_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    line = dumps.as_line(rng.choice(dumps.entities(5, seed % 50)))
    reader = EntityReader(KEPT)
    for _ in range(20):
        changed = mutations(line, rng)
        try:
            entry = reader.read(changed)
        except RejectedLineError:
            continue
        if isinstance(entry, Entry):
            assert encode_record(decode_record(entry.value)) == entry.value


MISSING = object()
ODD = st.sampled_from(
    [MISSING, None, True, 0, -1, 1.5, "", "x", "5", "Q5", "Q05", "L1", [], {}, [[]], [{}],
     {"0": {"value": "a"}}, {"P2": 5}, 2**55, 2**63, 2**64, -(2**63) - 1, 2**70]
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(map or list, key) of all that stands inside."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**9), st.lists(ODD, max_size=3))
def test_both_readers_agree_where_something_odd_stands_or_is_missing(
    seed: int, changes: list[Any]
) -> None:
    kept = Kept(("en", "mul"), {"P31": (), "P279": ("P2", "P3"), "P18": ()})
    rng = random.Random(seed)
    made = json.loads(json.dumps(dumps.entity(7, rng, ["Q5", "Q6"])))
    for statements in made["claims"].values() if made["claims"] else ():
        for statement in statements:
            statement["qualifiers"] = {p: [dumps.snak(p, rng, ["Q5"])] for p in ("P2", "P4")}
    for odd in changes:
        holder, key = rng.choice(list(places(made)))
        if odd is MISSING:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(odd))
    line = json.dumps(made).encode()
    try:
        fast: Any = EntityReader(kept).read(line)
    except RejectedLineError:
        fast = "rejected"
    try:
        record = read_slowly(line, kept)
        slow: Any = entry_of(record, kept) if isinstance(record, Record) else record
    except RejectedLineError:
        slow = "rejected"
    assert fast == slow


@given(st.integers(1, 2**55 - 1), st.sampled_from("QP"))
def test_ids_as_numbers_and_back(number: int, letter: str) -> None:
    assert entity_id(numeric_id(f"{letter}{number}")) == f"{letter}{number}"


def test_records_are_small_arrays() -> None:
    record = read(WHOLE)
    assert msgspec.msgpack.decode(encode_record(record)) == [  # type: ignore[arg-type]
        "Q1", 5, 0, {"en": "x"}, {}, {"en": ["y"]}, {"P31": [[1, [2, "Q2"], {}]]}, "",
    ]  # fmt: skip


# --- what is kept


def test_a_property_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("# mine\nP31\nP2283\tP5102, P805\tuses\n\nP18 # picture\n")
    assert read_properties(path) == {"P31": (), "P2283": ("P5102", "P805"), "P18": ()}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("P31\nQ5\n", "line 2: 'Q5' is not a property"), ("", "names no property")],
)
def test_a_wrong_property_list_is_said_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(text)
    with pytest.raises(Exception, match=sentence):
        read_properties(path)


def test_languages_are_checked() -> None:
    assert parse_languages("de, fr,de,zh-hans") == ("de", "fr", "zh-hans")
    for wrong in ("", "EN", "en;de", "../x"):
        with pytest.raises(Exception, match="--languages"):
            parse_languages(wrong)
