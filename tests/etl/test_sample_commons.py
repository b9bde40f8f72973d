"""The sample's Commons: made up and marked so, framed like real dumps, with every oddity."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from etl import sql
from etl.errors import UserError
from etl.sample.commons import IMAGE_FILE, MEDIAINFO_FILE, entities, lines, write_commons
from etl.sample.files import FILES, FIRST_PAGE, QUIRKS, File, read_files
from etl.sample.table import FOLDER, read_items

Entity = dict[str, Any]


@cache
def files() -> list[File]:
    return read_files()


@cache
def every() -> list[Entity]:
    return list(entities(files()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("commons")
    assert write_commons(found) == [found / MEDIAINFO_FILE, found / IMAGE_FILE]
    return found


def statements(entity: Entity, name: str) -> list[Entity]:
    return list((entity["statements"] or {}).get(name, []))


def targets(entity: Entity, name: str) -> list[str]:
    snaks = [s["mainsnak"] for s in statements(entity, name)]
    return [s["datavalue"]["value"]["id"] for s in snaks if s["snaktype"] == "value"]


# --- the mediainfo dump ---


def test_the_dump_reads_line_by_line_and_one_line_is_broken(folder: Path) -> None:
    with gzip.open(folder / MEDIAINFO_FILE, "rt", encoding="ascii", newline="") as file:
        rows = file.read().split("\n")
    assert (rows[0], rows[-2:]) == ("[", ["]", ""])
    bodies = [row.removesuffix(",") for row in rows[1:-2]]
    assert all(row.endswith(",") for row in rows[1:-3])
    assert [body.encode() for body in bodies] == lines(files())
    assert len(every()) == len(bodies) - 1
    assert 250 <= len(bodies) <= 600


def test_the_gz_has_many_members_and_each_begins_on_a_line(folder: Path) -> None:
    raw, pieces = (folder / MEDIAINFO_FILE).read_bytes(), []
    while raw:
        inflater = zlib.decompressobj(wbits=31)
        pieces.append(inflater.decompress(raw))
        raw = inflater.unused_data
    assert (pieces[0], pieces[-1]) == (b"[\n", b"\n]\n")
    assert len(pieces) > 10
    assert all(piece.startswith((b'{"', b",\n", b"[", b"\n]")) for piece in pieces)


def test_lines_look_like_those_of_commons() -> None:
    """Keys in the order of `commons-20231207-mediainfo.json`; no datatype; hashes in main snaks."""
    head = ["type", "id", "labels", "descriptions", "statements"]
    new, old = ["pageid", "ns", "title", "lastrevid", "modified"], ["lastrevid"]
    for entity in every():
        assert list(entity) in (head + new, head + old)
        assert entity["id"] == f"M{entity.get('pageid', entity['id'][1:])}"
        assert entity.get("title", "File:").startswith("File:")
        assert entity.get("ns", 6) == 6
        for name, group in dict(entity["statements"]).items():
            for one in group:
                expected = ["mainsnak", "type", "qualifiers", "qualifiers-order", "id", "rank"]
                assert list(one) == [key for key in expected if key in one]
                assert one["id"].startswith(entity["id"] + "$")
                snaks = [
                    one["mainsnak"],
                    *(s for g in one.get("qualifiers", {}).values() for s in g),
                ]
                assert one["mainsnak"]["property"] == name
                assert all(list(s)[:3] == ["snaktype", "property", "hash"] for s in snaks)
                assert not any("datatype" in s for s in snaks)
    text = b"\n".join(lines(files()))
    assert text.isascii()
    assert not re.search(rb"(?<!\\)/", text)


def test_measures_have_their_units_and_creators_their_qualifiers() -> None:
    units: dict[str, set[str]] = defaultdict(set)
    checksums, creators = [], Counter[tuple[str, ...]]()
    for entity in every():
        for name in ("P2048", "P2049", "P3575"):
            for one in statements(entity, name):
                value = one["mainsnak"]["datavalue"]["value"]
                assert re.fullmatch(r"\+[0-9]+", value["amount"])
                units[name].add(value["unit"].rpartition("/")[2])
        for one in statements(entity, "P4092"):
            method = one["qualifiers"]["P459"][0]["datavalue"]["value"]["id"]
            checksums.append((len(one["mainsnak"]["datavalue"]["value"]), method))
        for one in statements(entity, "P170"):
            creators[(one["mainsnak"]["snaktype"], *one.get("qualifiers", {}))] += 1
    assert units == {"P2048": {"Q355198"}, "P2049": {"Q355198"}, "P3575": {"Q8799"}}
    assert set(checksums) == {(40, "Q13414952")}
    assert len(checksums) > 100
    assert creators.most_common(1)[0][0] == ("somevalue", "P3831", "P2093", "P4174", "P2699")
    assert set(creators) >= {
        ("value",), ("somevalue",), ("somevalue", "P4174"), ("somevalue", "P2699"),
    }  # fmt: skip


# --- all of it is made up, and says so ---


def test_pages_are_made_up_and_names_say_so() -> None:
    for file in files():
        assert FIRST_PAGE < file.page < 1 << 32
        assert re.search(r"[Ss]ample", file.name), file.name
        assert len(file.name.encode()) <= 240
    real = {
        c.value.text for i in read_items() if not i.made_up for c in i.claims if c.property == "P18"
    }
    assert not real & {file.name for file in files()}


def test_all_made_up_images_of_items_are_there_and_most_depict_their_item() -> None:
    pictured = {
        claim.value.text: item.id
        for item in read_items()
        for claim in item.claims
        if item.made_up and claim.property == "P18" and claim.value.text
    }
    by_name = {e["title"].removeprefix("File:"): e for e in every() if "title" in e}
    assert len(pictured) > 150
    assert set(pictured) <= set(by_name)
    shown = [item in targets(by_name[name], "P180") for name, item in pictured.items()]
    assert 0.6 < sum(shown) / len(shown) < 0.9


def test_people_and_addresses_are_made_up() -> None:
    text = b"\n".join(lines(files())).decode().replace("\\/", "/")
    hosts = set(re.findall(r"https?://([^/\"]+)", text))
    assert hosts == {"www.wikidata.org", "example.org"}
    assert set(re.findall(r'"P2093","hash":"[0-9a-f]+","datavalue":\{"value":"([^"]+)', text)) <= {
        f"Sample author {n}" for n in range(1, 10)
    }


def test_every_quirk_is_explained_and_in_use() -> None:
    explained = (FOLDER / "SOURCES.md").read_text("utf-8").split("**Quirks of files**")[1]
    used = {quirk for file in files() for quirk in file.quirks}
    assert used == set(QUIRKS) == {quirk for quirk in QUIRKS if f"`{quirk}`" in explained}


# --- oddities ---


def test_the_files_have_every_oddity() -> None:
    depicts = [statements(e, "P180") for e in every()]
    assert {s["rank"] for group in depicts for s in group} == {"preferred", "normal", "deprecated"}
    assert {s["mainsnak"]["snaktype"] for g in depicts for s in g} == {
        "value",
        "somevalue",
        "novalue",
    }
    assert max(map(len, depicts)) > 10
    assert sum(not group for group in depicts) > 10
    assert any(targets(e, "P921") for e in every())
    assert any(targets(e, "P6243") for e in every())
    known = {item.id for item in read_items()}
    assert {t for e in every() for t in targets(e, "P180")} - known
    for field in ("labels", "statements"):
        assert any(e[field] == [] for e in every()), field
    assert any(e["labels"] == {} for e in every())
    assert max(len(e["labels"]) for e in every()) > 5
    assert any(e["labels"] and "en" not in e["labels"] for e in every())
    assert any(len(targets(e, "P275")) > 1 for e in every())
    assert sum("title" not in e for e in every()) == 2

    twice = [id for id, n in Counter(e["id"] for e in every()).items() if n > 1]
    assert len(twice) == 1
    first, second = (e for e in every() if e["id"] == twice[0])
    assert first["lastrevid"] > second["lastrevid"]
    assert targets(first, "P180") != targets(second, "P180")


def test_names_are_as_odd_as_they_may_be() -> None:
    names = [file.name for file in files()]
    for part in "\"?&+%'\\=;*!🐕狗½":
        assert any(part in name for name in names), part
    assert any(len(n.encode()) > 160 > len(n) for n in names)
    assert any(len(n) > 160 for n in names)
    endings = {name.rpartition(".")[2].lower() for name in names if "." in name}
    others = "svg tif pdf djvu webp gif png jpeg ogg wav webm stl"
    assert endings >= set(re.findall(r"\w+", others))
    assert any("." not in name for name in names)
    assert any(0 < min(file.width, file.height) < 100 for file in files())


def test_something_below_an_entity_is_depicted_that_is_no_entity() -> None:
    """By sitelinks and images only, as the recipes ask: what `[images] distance` is for."""
    kept = {
        item.id
        for item in read_items()
        if (item.sitelinks or 0) >= 5 or any(c.property == "P18" for c in item.claims)
    }
    below = {
        item.id
        for item in read_items()
        for claim in item.claims
        if item.id not in kept and claim.property in ("P279", "P171") and claim.value.text in kept
    }
    assert len({t for e in every() for t in targets(e, "P180")} & below) >= 5


# --- the table image ---

GROUPS = ("name", "width", "height", "size", "sha1")
TEXT = b"'(?P<%s>(?:[^'\\\\]|\\\\.)*)'"


def table(folder: Path) -> dict[str, dict[str, str]]:
    columns = {
        "img_name": TEXT % b"name",
        "img_width": rb"(?P<width>[0-9]+)",
        "img_height": rb"(?P<height>[0-9]+)",
        "img_size": rb"(?P<size>[0-9]+)",
        "img_sha1": TEXT % b"sha1",
    }
    found = {}
    for row in sql.rows(folder / IMAGE_FILE, sql.Table("image", columns), lambda _: None):
        values = {group: row[group].decode() for group in GROUPS}
        name = re.sub(r"\\(.)", r"\1", values.pop("name"))
        assert name not in found
        found[name] = values
    return found


def test_the_table_knows_the_files_and_says_what_the_dump_says(folder: Path) -> None:
    rows = table(folder)
    assert list(rows) == sorted(rows, key=str.encode)
    expected = {f.name for f in files() if "no-image-row" not in f.quirks}
    assert set(rows) == {name.replace(" ", "_") for name in expected}
    agreed = 0
    for entity in every():
        row = rows.get(entity.get("title", "").removeprefix("File:").replace(" ", "_"))
        for measured in statements(entity, "P2049") if row else []:
            assert row is not None
            assert measured["mainsnak"]["datavalue"]["value"]["amount"] == "+" + row["width"]
            (digest,) = statements(entity, "P4092")
            assert len(row["sha1"]) == 31
            assert int(digest["mainsnak"]["datavalue"]["value"], 16) == int(row["sha1"], 36)
            agreed += 1
    assert agreed > 100
    assert len(rows) - agreed > 100  # whose size the table alone knows


def test_the_table_has_the_columns_of_mediawiki_and_more_than_one_statement(folder: Path) -> None:
    text = gzip.decompress((folder / IMAGE_FILE).read_bytes()).decode()
    names = re.findall(r"^  `(img_\w+)` ", text, re.MULTILINE)
    assert " ".join(names) == (
        "img_name img_size img_width img_height img_metadata img_bits img_media_type "
        "img_major_mime img_minor_mime img_description_id img_actor img_timestamp img_sha1"
    )
    assert text.count("INSERT INTO") > 2


# --- writing and reading ---


def test_the_bytes_are_the_same_every_time_and_files_that_stand_are_left(
    tmp_path: Path, folder: Path
) -> None:
    paths = write_commons(tmp_path / "new")
    stamps = [path.stat().st_mtime_ns for path in paths]
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()
        assert path.stat().st_size < 1_000_000
    write_commons(tmp_path / "new")
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_the_table_is_small_enough_to_keep_by_hand() -> None:
    assert FILES.stat().st_size < 50_000


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("A.jpg\t1", "2 columns instead of 7"),
        ("A.jpg\tmany\t\t\t\t\t", "'many' is not a number of files"),
        ("A.jpg\t2\t\t\t\t\t", "a name has a # where it stands for several files"),
        ("A #.jpg\t1\t\t\t\t\t", "a name has a # where it stands for several files"),
        ("a.jpg\t1\t\t\t\t\t", "'a.jpg' can't be the name"),
        ("A|b.jpg\t1\t\t\t\t\t", "can't be the name"),
        (f"A{'b' * 240}.jpg\t1\t\t\t\t\t", "can't be the name"),
        ("A.jpg\t1\tlarge\t\t\t\t", "'large' is not a size"),
        ("A.jpg\t1\t\tP31=Q5\t\t\t", "P31 is not in"),
        ("A.jpg\t1\t\tP180=dog\t\t\t", "P180='dog' is not a wikibase-entityid"),
        ("A.jpg\t1\t\t\tHund\t\t", "'Hund' is not language:caption"),
        ("A.jpg\t1\t\t\t\tcurly\t", "unknown quirk 'curly'"),
        ("Z.jpg\t1\t\t\t\t\t", "'Z.jpg' must stand once"),
        ("A.jpg\t1\t\t\t\tolder\t", "'A.jpg' must stand once"),
    ],
)
def test_a_malformed_row_is_one_clear_sentence(tmp_path: Path, row: str, what: str) -> None:
    path = tmp_path / "files.tsv"
    header = "name\tfiles\tsize\tstatements\tcaptions\tquirks\tnote"
    path.write_text(f"# a comment\n{header}\nZ.jpg\t1\t\t\t\t\t\n{row}\n")
    with pytest.raises(UserError, match=re.escape(what)) as refused:
        read_files(path)
    assert str(refused.value).startswith("files.tsv, line 4: ")


def test_json_of_a_line_is_what_the_row_says() -> None:
    (entity,) = (e for e in every() if e.get("title") == "File:Sample – quoted dog.jpg")
    assert entity["labels"]["en"]["value"] == r'a "dog"; with \ and <b>tags</b> & an emoji 🐕'
    assert targets(entity, "P180") == ["Q144"]
    assert json.dumps(entity)
