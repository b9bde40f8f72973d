"""A benchmark's dump must be a dump: read here with gzip and json, which know nothing of it."""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from pathlib import Path

import pytest
import zstandard

from benchmarks.dump import Plan, parse_size, write
from benchmarks.etl import members_of

PLAN = Plan(seed=3, entities=700, batch=90)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "made-up.json.gz"
    written = write(PLAN, path, workers=2)
    assert written.json_bytes == len(gzip.decompress(path.read_bytes()))
    assert written.file_bytes == path.stat().st_size
    return path


def members(data: bytes) -> list[bytes]:
    found = []
    while data:
        member = zlib.decompressobj(wbits=31)
        found.append(member.decompress(data))
        data = member.unused_data
    return found


def test_is_framed_as_wikimedia_frames_it(dump: Path) -> None:
    opening, *batches, closing = members(dump.read_bytes())
    assert (opening, closing) == (b"[\n", b"\n]\n")
    assert batches[1::2] == [b",\n"] * (len(batches) // 2)
    assert all(batch.startswith(b"{") and batch.endswith(b"}") for batch in batches[::2])
    assert len(batches[::2]) == PLAN.batches


def test_holds_what_wikidata_holds(dump: Path) -> None:
    text = gzip.decompress(dump.read_bytes())
    assert text.isascii()
    assert b"\\/" in text
    assert b"\\u" in text
    entities = json.loads(text)
    ids = [entity["id"] for entity in entities]
    assert len(set(ids)) == len(ids)
    assert ids.count("P20000") == 1  # a property among the items
    invented = [entity for entity in entities if len(entity["id"]) == len("Q100000000")]
    assert len(invented) == PLAN.entities - 1
    numbers = [int(entity["id"][1:]) for entity in invented]
    assert numbers != sorted(numbers)

    def share(property_id: str) -> float:
        return sum(property_id in entity["claims"] for entity in invented) / len(invented)

    assert share("P31") > 0.9
    assert 0.03 < share("P279") < 0.06
    assert 0.02 < share("P171") < 0.05
    for entity in invented:
        assert list(entity)[:6] == ["type", "id", "labels", "descriptions", "aliases", "claims"]
        for property_id, statements in entity["claims"].items():
            for statement in statements:
                assert statement["mainsnak"]["property"] == property_id
                assert statement["id"].startswith(entity["id"] + "$")


def test_depends_on_the_seed_alone(dump: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json.gz"
    write(PLAN, again, workers=1)
    assert again.read_bytes() == dump.read_bytes()
    other = tmp_path / "other.json.gz"
    write(Plan(seed=4, entities=700, batch=90), other, workers=1)
    assert other.read_bytes() != dump.read_bytes()


def test_every_suffix_holds_the_same_json(dump: Path, tmp_path: Path) -> None:
    text = gzip.decompress(dump.read_bytes())
    for suffix in (".json", ".json.bz2", ".json.zst"):
        write(PLAN, tmp_path / f"dump{suffix}", workers=2)
    assert (tmp_path / "dump.json").read_bytes() == text
    assert bz2.decompress((tmp_path / "dump.json.bz2").read_bytes()) == text
    with zstandard.open(tmp_path / "dump.json.zst", "rb") as stream:
        assert stream.read() == text


def test_sizes() -> None:
    assert parse_size("1.2G") == 1_200_000_000
    assert parse_size("64M") == 64_000_000
    assert parse_size("17") == 17
    with pytest.raises(ValueError, match="not"):
        parse_size("")
    with pytest.raises(ValueError, match="less than a byte"):
        parse_size("0")


def test_members_are_found_and_counted(dump: Path) -> None:
    found = members_of(dump)
    assert [member.json_bytes for member in found] == [len(m) for m in members(dump.read_bytes())]
    assert [member.start for member in found[1:]] == [member.end for member in found[:-1]]
    assert found[-1].end == dump.stat().st_size
    first_batches = sum(member.newlines for member in found[:4])  # [ batch , batch
    opening, one, _, two = members(dump.read_bytes())[:4]
    assert first_batches == len(json.loads(opening + one + b"," + two + b"]"))


def test_a_file_that_breaks_off_is_refused(dump: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json.gz"
    broken.write_bytes(dump.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="ends inside the gzip member"):
        members_of(broken)
