"""The sources of the mediainfo dump, against plain Python over the dump's own lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download import file_names
from download.commons import normal_name
from download.find import Options, find
from download.joining import connect, record_batches
from download.sources import commons_depicts
from etl.errors import UserError
from etl.manifest import digests, write_manifest
from graph.build import build
from graph.recipe import load
from tests.download.commons_dump import Line, file_line, write_mediainfo
from tests.download.commons_dumps import page_dump
from tests.etl.mysqldump import table_of
from tests.graph.small_dump import entity, ranked, recipe_of, redirect, store_of

ROOT = '[[root]]\nid = "Q1"\nany = [{ path = "(P31/P279*)|P279*|P171*" }]\nmin_sitelinks = 5\n'
DEPICTING = ("P180", "P921", "P6243")
Rows = list[dict[str, Any]]


def world(seed: int) -> tuple[list[dict[str, Any]], list[Line], dict[str, str]]:
    """Classes below Q1, some of them too little known to be kept, files that depict them, and
    ids that were merged into one of them."""
    chance = random.Random(seed)
    ids = [f"Q{n}" for n in range(2, 30)]
    entities = [entity("Q1")]
    for n, id in enumerate(ids):
        above = ["Q1", *ids[:n]]
        claims = {chance.choice(["P279", "P279", "P171"]): chance.sample(above, min(2, len(above)))}
        entities.append(entity(id, links=chance.choice([2, 10]), claims=claims))
    merged = {"Q901": ids[3], "Q902": ids[8]}
    shown = [*ids, "Q1", "Q777", *merged]
    lines = []
    for page in range(1, 120):
        claims: dict[str, list[Any]] = {}
        for _ in range(chance.randrange(4)):
            rank = chance.choice(["normal", "normal", "normal", "preferred", "deprecated"])
            value = chance.choice([*shown, None, "novalue"])
            claims.setdefault(chance.choice(DEPICTING), []).append(ranked(value, rank))
        suffix = chance.choice(["jpg", "JPG", "svg", "ogg"])
        lines.append(
            file_line(
                page,
                f"Picture {page}.{suffix}",
                claims={**claims, "P275": chance.choice([[], ["Q6938433"]])},
                captions=chance.choice([{}, {"en": "hello", "de": "hallo"}, {"de": "nur das"}]),
                revision=page,
            )
        )
    return entities, lines, merged


def showing(
    lines: list[Line], shown: dict[str, dict[str, int]], seed: int
) -> dict[str, list[tuple[int, list[str]]]]:
    """Entity → pages with their reasons, the best first; ``shown``: item → entity → distance."""
    pairs: dict[tuple[str, int], list[tuple[bool, int, int, int, str]]] = {}
    for line in lines:
        if not line["title"].lower().endswith((".jpg", ".svg")):
            continue
        for p in DEPICTING:
            for one in (line["statements"] or {}).get(p, []):
                if one["rank"] == "deprecated" or one["mainsnak"]["snaktype"] != "value":
                    continue
                item = one["mainsnak"]["datavalue"]["value"]["id"]
                for id, distance in shown.get(item, {}).items():
                    plain = one["rank"] != "preferred"
                    reason = p + ("" if plain else " preferred")
                    reason += "" if item == id else f" via {item} {distance}"
                    found = pairs.setdefault((id, int(line["id"][1:])), [])
                    found.append((plain, distance, int(p[1:]), int(item[1:]), reason))
    by_entity: dict[str, list[Any]] = {}
    for (id, page), found in pairs.items():
        found.sort()
        digest = hashlib.md5(f"{seed}:{page}".encode()).hexdigest()
        reasons = list(dict.fromkeys(reason for *_, reason in found))
        by_entity.setdefault(id, []).append((found[0][:2], digest, page, reasons))
    return {
        id: [(page, reasons) for _, _, page, reasons in sorted(found)]
        for id, found in by_entity.items()
    }


def below(entities: list[dict[str, Any]], kept: set[str], steps: int) -> dict[str, dict[str, int]]:
    """Item → entities that it shows, each at the least number of P279 and P171 statements."""
    above = {
        e["id"]: [
            s["mainsnak"]["datavalue"]["value"]["id"]
            for p in ("P279", "P171")
            for s in e["claims"].get(p, [])
        ]
        for e in entities
    }
    shown: dict[str, dict[str, int]] = {}
    for item in above:
        layer, seen = {item}, {item}
        for distance in range(steps + 1):
            for id in layer & kept:
                shown.setdefault(item, {})[id] = distance
            layer = {up for id in layer for up in above.get(id, ())} - seen
            seen |= layer
    return shown


def found_in(images: Path, source: str, name: str = "candidates") -> Rows:
    rows: Rows = pq.read_table(images / "candidates" / source / f"{name}.parquet").to_pylist()
    return rows


@pytest.mark.parametrize(("seed", "steps"), [(1, 0), (2, 1), (3, 2), (4, 9)])
def test_files_are_those_that_the_dump_says_show_an_entity(
    seed: int, steps: int, tmp_path: Path
) -> None:
    entities, lines, merged = world(seed)
    store = redirect(store_of(tmp_path, entities), merged)
    text = f"{ROOT}\n[images]\ndistance = {steps}\nper_entity = 3\nvisual = false\nseed = {seed}\n"
    build(store, load(recipe_of(tmp_path, text)), tmp_path / "graph", quiet=True)
    given = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
    options = Options(("commons-depicts",), given, store=store, quiet=True)
    manifest = find(tmp_path / "graph", tmp_path / "images", options)

    kept = {row["id"] for row in pq.read_table(tmp_path / "graph/entities.parquet").to_pylist()}
    shown = below(entities, kept, steps)
    shown |= {old: shown.get(now, {}) for old, now in merged.items()}
    expected = showing(lines, shown, seed)
    rows = found_in(tmp_path / "images", "commons-depicts")
    by_page = {int(line["id"][1:]): line for line in lines}
    wanted = [
        (id, page, reasons)
        for id in sorted(expected, key=lambda id: int(id[1:]))
        for page, reasons in expected[id][:3]
    ]
    assert [(r["entity"], int(r["source_id"][1:]), r["reasons"]) for r in rows] == wanted
    for row in rows:
        line = by_page[int(row["source_id"][1:])]
        assert row["file"] == line["title"].removeprefix("File:")
        english = dict(line["labels"] or {}).get("en")
        assert row["texts"] == ([english["value"]] if english else [])
        assert row["licence"] == ("CC0 1.0" if (line["statements"] or {}).get("P275") else None)
    available = found_in(tmp_path / "images", "commons-depicts", "available")
    assert {(f"Q{r['entity']}", r["image"]) for r in available} == {
        (id, page) for id, found in expected.items() for page, _ in found
    }
    assert len(available) == sum(map(len, expected.values()))
    counts = manifest["counts"]["by_source"]["commons-depicts"]
    assert counts["pairs_before_cap"] == len(available)
    assert counts["with_images"] == len(expected)


def test_the_best_reasons_of_a_file_are_kept_and_memory_does_for_all(tmp_path: Path) -> None:
    """50,000 files with 12 reasons each, under a limit that their lists would not stay below."""
    pairs, each = 50_000, 12
    with connect(tmp_path, "32MB") as database:
        database.execute(f"""
            CREATE TABLE chosen AS
            SELECT n // 50 AS entity, n AS page, n % 50 + 1 AS place FROM range({pairs}) t(n);
            CREATE TABLE depicts AS
            SELECT n // {each} AS page, n % {each} AS item, 180::SMALLINT AS property,
                n % {each} = 11 AS preferred
            FROM range({each} * {pairs}) t(n);
            CREATE TABLE target AS
            SELECT entity, item, item::SMALLINT AS distance
            FROM range({pairs} // 50) a(entity), range({each}) b(item);
        """)
        lists = [
            reasons
            for column in commons_depicts._reasons(
                record_batches(database, commons_depicts._REASONS, rows=1000)
            )
            for reasons in column.to_pylist()
        ]
    further = [f"P180 via Q{item} {item}" for item in range(7)]
    assert len(lists) == pairs
    assert lists[49_999] == ["P180 preferred via Q11 11", *further]
    assert lists[100] == ["P180 preferred via Q11 11", *further[:2], "P180", *further[3:]]
    assert {len(reasons) for reasons in lists} == {8}


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 30), max_size=12), rows=st.integers(1, 12))
def test_reasons_are_cut_into_pieces_anywhere(sizes: list[int], rows: int) -> None:
    pairs = [(n // 3, n % 3 + 1, item) for n, size in enumerate(sizes) for item in range(size)]
    entity, place, item = ([pair[i] for pair in pairs] for i in range(3))
    table = pa.table(
        {
            "entity": pa.array(entity, pa.int64()),
            "place": pa.array(place, pa.int64()),
            "property": pa.array([921] * len(pairs), pa.int16()),
            "preferred": pa.array([False] * len(pairs), pa.bool_()),
            "item": pa.array([n + 100 for n in item], pa.int64()),
            "distance": pa.array(item, pa.int16()),
        }
    )
    batches = iter(table.to_batches(max_chunksize=rows))
    found = [list_ for column in commons_depicts._reasons(batches) for list_ in column.to_pylist()]
    assert found == [[f"P921 via Q{n + 100} {n}" for n in range(min(size, 8))] for size in sizes]
    columns = iter([pa.array(found[n : n + 2]) for n in range(0, len(found), 2)])
    others = pa.RecordBatch.from_pydict({"n": pa.array(range(len(found)))})
    cut = (others.slice(n, rows) for n in range(0, len(found), rows))
    beside = [
        pair
        for batch, some in commons_depicts._beside(cut, columns)
        for pair in zip(batch["n"].to_pylist(), some.to_pylist(), strict=True)
    ]
    assert beside == list(enumerate(found))


def test_without_a_store_what_the_data_set_keeps_counts(tmp_path: Path) -> None:
    """Its hierarchy has nothing below an entity but other entities and what leads to them."""
    entities = [
        entity("Q1"),
        entity("Q2", claims={"P279": ["Q1"]}),
        entity("Q3", links=1, claims={"P279": ["Q2"]}),
    ]
    lines = [file_line(1, claims={"P180": ["Q2"]}), file_line(2, claims={"P180": ["Q3"]})]
    store = store_of(tmp_path, entities)
    text = f"{ROOT}\n[images]\ndistance = 2\nvisual = false\n"
    build(store, load(recipe_of(tmp_path, text)), tmp_path / "graph", quiet=True)
    given = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
    for named, expected in ((None, [("Q1", "M1"), ("Q2", "M1")]), (store, None)):
        options = Options(("commons-depicts",), given, store=named, quiet=True)
        find(tmp_path / "graph", tmp_path / "images", options)
        rows = found_in(tmp_path / "images", "commons-depicts")
        found = [(r["entity"], r["source_id"]) for r in rows]
        assert found == (expected or [("Q1", "M1"), ("Q1", "M2"), ("Q2", "M1"), ("Q2", "M2")])


def test_a_store_that_did_not_keep_the_statements_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, [entity("Q1")], properties=("P31", "P279", "P171"))
    text = f'labels = ["en"]\n{ROOT}[images]\ndistance = 1\nbelow = ["P361"]\nvisual = false\n'
    recipe = load(recipe_of(tmp_path, text))
    with pytest.raises(UserError, match=r"`below` in \[images\] names P361. Run `sparqless etl`"):
        build(store, recipe, tmp_path / "graph", quiet=True)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    pictures = ["Known.jpg", "Unknown.jpg"]
    store = store_of(tmp_path, [entity("Q1", claims={"P18": pictures})])
    text = f"{ROOT}\n[images]\nvisual = false\n"
    build(store, load(recipe_of(tmp_path, text)), tmp_path / "graph", quiet=True)
    return tmp_path / "graph"


def test_credits_are_of_the_files_that_other_sources_name(graph: Path, tmp_path: Path) -> None:
    lines = [
        file_line(5, "Known.jpg", captions={"en": "old"}, revision=3),
        file_line(7, "Known.jpg", claims={"P275": ["Q18199165"]}, revision=9),
        file_line(6, "Other.jpg", claims={"P180": ["Q1"]}),
    ]
    given = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
    options = Options(("commons-p18", "commons-credits"), given, quiet=True)
    manifest = find(graph, tmp_path / "images", options)
    (facts,) = found_in(tmp_path / "images", "commons-credits", "facts")
    assert (facts["file"], facts["source_id"]) == ("Known.jpg", "M7")  # the later revision
    assert facts["licence"] == "CC BY-SA 4.0"
    assert manifest["counts"]["by_source"]["commons-credits"]["wanted"] == 2
    rows = {r["file"]: r for r in pq.read_table(
        tmp_path / "images/candidates/candidates.parquet").to_pylist()}  # fmt: skip
    assert rows["Known.jpg"]["licence"] == "CC BY-SA 4.0"
    assert rows["Unknown.jpg"]["licence"] is None


def test_of_two_files_with_one_name_the_later_revision_counts(graph: Path, tmp_path: Path) -> None:
    """For both sources, whether a file depicts anything or not; then the higher page."""
    depicting = {"P180": ["Q1"]}
    lines = [
        file_line(1, "Twice.jpg", claims=depicting, revision=5),
        file_line(2, "Twice.jpg", claims=depicting, revision=9),
        file_line(9, "Twice.jpg", claims=depicting, revision=8),
        file_line(3, "Known.jpg", claims=depicting, revision=7),
        file_line(4, "Known.jpg", revision=8),
        file_line(6, "Even.jpg", claims=depicting, revision=7),
        file_line(5, "Even.jpg", claims=depicting, revision=7),
        file_line(7, "Once.jpg", claims=depicting),
    ]
    given_ = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
    names = ("commons-p18", "commons-depicts", "commons-credits")
    manifest = find(graph, tmp_path / "images", Options(names, given_, quiet=True))
    rows = found_in(tmp_path / "images", "commons-depicts")
    assert {row["source_id"] for row in rows} == {"M2", "M6", "M7"}
    facts = found_in(tmp_path / "images", "commons-credits", "facts")
    assert [(row["file"], row["source_id"]) for row in facts] == [
        ("Even.jpg", "M6"), ("Known.jpg", "M4"), ("Once.jpg", "M7"), ("Twice.jpg", "M2")
    ]  # fmt: skip
    assert not manifest["warnings"]


BAD = ["A_b.jpg", "A\0b.jpg", "A\nb.jpg", "../../etc.jpg", "lower.jpg", "A%41.jpg", "A  b.jpg",
       "A b.jpg ", "A|b.jpg", "A~~~b.jpg", "A&amp;b.jpg", "E\u0301.jpg", "File:A.jpg", "éa.jpg",
       "x" * 230 + "A.jpg", "É" * 130 + ".jpg", "A\u200eb.jpg", "A\u3000b.jpg"]  # fmt: skip
GOOD = [
    "A b.jpg",
    "100% & ~ more.jpg",
    "École.jpg",
    "ßa.jpg",
    "Ω (1).jpg",
    "\u30c6スト.jpg",
    "Ab,c.jpg",
]


def test_what_cannot_be_a_name_is_no_file(graph: Path, tmp_path: Path) -> None:
    """Neither a title of the dump nor one of the table page."""
    claims = {"P180": ["Q1"]}
    names = [*BAD, *GOOD]
    titled = [file_line(n, name, claims=claims) for n, name in enumerate(names, 1)]
    untitled = [file_line(n, None, claims=claims) for n, _ in enumerate(names, 1)]
    pages = [(n, 6, name.replace(" ", "_").encode(), 0) for n, name in enumerate(names, 1)]
    underscored = {"A_b.jpg"}  # which the table writes so
    for lines, bad in ((titled, set(BAD)), (untitled, set(BAD) - underscored)):
        given_ = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
        if lines is untitled:
            given_["pages"] = (str(page_dump(tmp_path, pages)),)
        options = Options(("commons-depicts",), given_, quiet=True, fresh=True, max_rejects=9)
        manifest = find(graph, tmp_path / "images", options)
        rows = found_in(tmp_path / "images", "commons-depicts")
        assert {row["file"] for row in rows} == set(GOOD)
        said = json.loads((tmp_path / "images/mediainfo-names/manifest.json").read_text())
        # a title of 264 bytes is none: the line is rejected
        assert said["counts"]["not_names"] == len(bad) - (lines is titled)
        assert "can't be the name of a file" in manifest["warnings"][-1]


@settings(max_examples=300)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8))
def test_plain_names_are_names(name: str) -> None:
    for text in (name, f"A{name}"):
        if re.fullmatch(file_names._PLAIN, text):
            assert normal_name(text) == text


def test_every_letter_of_a_plain_name_stands_by_itself() -> None:
    first, further = (re.compile(f"[{c}]") for c in (file_names._FIRST, file_names._FURTHER))
    for letter in map(chr, range(0x10000)):
        if further.match(letter):
            names = [
                f"A{before}{letter}"
                for before in ("", *"eaoui\u0438\u05d0\u0627\u304b\u30cf\uac00")
            ]
            assert [normal_name(name) for name in names] == names
        if first.match(letter):
            assert normal_name(letter) == letter


def test_names_are_found_once(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [file_line(n, None, claims={"P180": ["Q1"]}) for n in (1, 2, 3)]
    pages = [(1, 6, b"One.jpg", 0), (2, 6, b"Two.jpg", 0)]
    given_ = {
        "mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),),
        "pages": (str(page_dump(tmp_path, pages)),),
    }
    read = []
    titles = file_names.titles
    monkeypatch.setattr(file_names, "titles", lambda *some: read.append(titles(*some)))
    both = ("commons-depicts", "commons-credits")
    find(graph, tmp_path / "images", Options(both, given_, quiet=True))
    find(graph, tmp_path / "images", Options(both, given_, quiet=True, shorter_side=512))
    shutil.rmtree(tmp_path / "images/candidates/commons-depicts")
    find(graph, tmp_path / "images", Options(both, given_, quiet=True))
    assert len(read) == 1
    assert {row["file"] for row in found_in(tmp_path / "images", "commons-depicts")} == {
        "One.jpg", "Two.jpg"
    }  # fmt: skip
    given_["pages"] = (str(page_dump(tmp_path, [*pages, (3, 6, b"Three.jpg", 0)])),)
    find(graph, tmp_path / "images", Options(both, given_, quiet=True))
    assert len(read) == 2
    assert len(found_in(tmp_path / "images", "commons-depicts")) == 3


def test_a_page_that_comes_twice_is_refused(graph: Path, tmp_path: Path) -> None:
    lines = [file_line(n, None, claims={"P180": ["Q1"]}) for n in (1, 2)]
    pages = [(1, 6, b"One.jpg", 0), (2, 6, b"Two.jpg", 0), (1, 6, b"One_more.jpg", 0)]
    given_ = {
        "mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),),
        "pages": (str(page_dump(tmp_path, pages)),),
    }
    options = Options(("commons-depicts",), given_, quiet=True)
    with pytest.raises(UserError, match=r"has two rows of the page 1, .*fetch it again"):
        find(graph, tmp_path / "images", options)
    assert not (tmp_path / "images/mediainfo-names").exists()


def test_another_reading_is_other_candidates(graph: Path, tmp_path: Path) -> None:
    """Though the dump has the same size, head and tail."""
    lines = [file_line(n, claims={"P180": ["Q1"]}) for n in (1, 2)]
    dump = write_mediainfo(tmp_path / "m.json", lines)
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    first = find(graph, tmp_path / "images", options)
    assert find(graph, tmp_path / "images", options)["made_from"] == first["made_from"]
    folder = tmp_path / "images/mediainfo"
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    files = pq.read_table(folder / "files.parquet").slice(0, 1)
    pq.write_table(files, folder / "files.parquet")
    with pytest.raises(UserError, match=r"damaged: files\.parquet"):
        find(graph, tmp_path / "images", options)
    manifest["outputs"] = digests(folder, ["files.parquet", "depicts.parquet", "rejects.ndjson"])
    write_manifest(folder, manifest)
    find(graph, tmp_path / "images", options)
    assert len(found_in(tmp_path / "images", "commons-depicts")) == 1


@pytest.mark.parametrize("dump", [True, False])
def test_a_reading_of_another_version_or_that_was_changed_is_refused(
    dump: bool, graph: Path, tmp_path: Path
) -> None:
    lines = [file_line(1, claims={"P180": ["Q1"]})]
    given_ = {"mediainfo": (str(write_mediainfo(tmp_path / "m.json", lines)),)}
    find(graph, tmp_path / "images", Options(("commons-depicts",), given_, quiet=True))
    folder = tmp_path / "images/mediainfo"
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    options = Options(("commons-depicts",), given_ if dump else {}, quiet=True)
    write_manifest(folder, {**manifest, "format": 1})
    with pytest.raises(UserError, match=r"reading of format 1.*--fresh"):
        find(graph, tmp_path / "images", options)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "counts": {}}))
    with pytest.raises(UserError, match=r"was changed after it was written.*--fresh"):
        find(graph, tmp_path / "images", options)


def test_the_dump_is_read_once_for_all_recipes(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [file_line(1, claims={"P180": ["Q1"]})]
    dump = write_mediainfo(tmp_path / "m.json", lines)
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    find(graph, tmp_path / "one", options)
    first = found_in(tmp_path / "one", "commons-depicts")
    dump.unlink()
    reading = {"mediainfo": (str(tmp_path / "one/mediainfo"),)}
    find(graph, tmp_path / "two", Options(("commons-depicts",), reading, quiet=True))
    assert found_in(tmp_path / "two", "commons-depicts") == first
    assert not (tmp_path / "two/mediainfo").exists()


def test_names_of_old_dumps_come_from_the_table_page(graph: Path, tmp_path: Path) -> None:
    lines = [file_line(page, None, claims={"P180": ["Q1"]}) for page in (1, 2, 3)]
    dump = write_mediainfo(tmp_path / "m.json", lines)
    given = {"mediainfo": (str(dump),)}
    manifest = find(graph, tmp_path / "images", Options(("commons-depicts",), given, quiet=True))
    assert manifest["counts"]["candidates"] == 0
    assert "3 files of the dump have no title" in manifest["warnings"][0]
    columns = ["page_id", "page_namespace", "page_title", "page_is_redirect"]
    rows = [[1, 6, "Caf\u00e9_au_lait.jpg".encode(), 0], [2, 6, b"Song.ogg", 0], [3, 14, b"C", 0]]
    pages = tmp_path / "page.sql.gz"
    pages.write_bytes(gzip.compress(table_of("page", columns, rows)))
    given["pages"] = (str(pages),)
    find(graph, tmp_path / "images", Options(("commons-depicts",), given, quiet=True))
    rows_ = found_in(tmp_path / "images", "commons-depicts")
    assert [(r["source_id"], r["file"]) for r in rows_] == [("M1", "Café au lait.jpg")]


def test_creators_have_names_where_the_store_knows_them(tmp_path: Path) -> None:
    store = store_of(tmp_path, [entity("Q1"), entity("Q5593", label="Rachel Ruysch")])
    text = f"{ROOT}\n[images]\nvisual = false\n"
    build(store, load(recipe_of(tmp_path, text)), tmp_path / "graph", quiet=True)
    claims = {"P180": ["Q1"], "P170": ["Q5593", "Q9999"]}
    dump = write_mediainfo(tmp_path / "m.json", [file_line(1, claims=claims)])
    given = {"mediainfo": (str(dump),)}
    for named, expected in ((store, "Rachel Ruysch, Q9999"), (None, "Q5593, Q9999")):
        options = Options(("commons-depicts",), given, store=named, quiet=True, fresh=True)
        find(tmp_path / "graph", tmp_path / "images", options)
        (row,) = found_in(tmp_path / "images", "commons-depicts")
        assert row["creator"] == expected


def test_the_sample_depicts(sample: Path, tmp_path: Path) -> None:
    """Its dump's oddities: a broken line, a page that comes twice, old lines without a title."""
    given = {"mediainfo": (str(sample / "commons-mediainfo.json.gz"),)}
    options = Options(("commons-depicts",), given, store=sample / "store", quiet=True)
    manifest = find(sample / "graph", tmp_path, options)
    said = json.loads((tmp_path / "candidates/commons-depicts/manifest.json").read_text())
    assert said["mediainfo"]["counts"]["rejects"] == 1
    assert manifest["counts"]["candidates"] > 300
    assert manifest["counts"]["with_images"] > 100


def test_a_standing_reading_stands_in_for_the_dump(graph: Path, tmp_path: Path) -> None:
    dump = write_mediainfo(tmp_path / "m.json", [file_line(1, claims={"P180": ["Q1"]})])
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    find(graph, tmp_path / "images", options)
    dump.unlink()
    manifest = find(graph, tmp_path / "images", Options(("commons-depicts",), quiet=True))
    assert manifest["counts"]["candidates"] == 1


def test_another_dump_wants_fresh_and_is_read_once_then(graph: Path, tmp_path: Path) -> None:
    names = ("commons-depicts", "commons-credits")
    for number in (1, 2):
        lines = [file_line(n, claims={"P180": ["Q1"]}) for n in range(1, number + 1)]
        write_mediainfo(tmp_path / f"{number}.json", lines)
    first, second = (
        Options(names, {"mediainfo": (str(tmp_path / f"{n}.json"),)}, quiet=True) for n in (1, 2)
    )
    find(graph, tmp_path / "images", first)
    with pytest.raises(UserError, match="start over with --fresh"):
        find(graph, tmp_path / "images", second)
    assert len(found_in(tmp_path / "images", "commons-depicts")) == 1
    manifest = find(graph, tmp_path / "images", replace(second, fresh=True))
    assert len(found_in(tmp_path / "images", "commons-depicts")) == 2
    assert [*manifest["sources"], *manifest["facts"]] == list(names)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("https://dumps.example.org/m.json.bz2", "ask no server; fetch it first"),
        ("s3://bucket/m.json.gz", "ask no server; fetch it first"),
        ("-", "write standard input to a file first"),
        ("nowhere.json", "no such file"),
    ],
)
def test_what_is_no_file_is_refused(name: str, sentence: str, graph: Path, tmp_path: Path) -> None:
    for source, option in (("commons-depicts", "mediainfo"), ("commons-sizes", "image")):
        options = Options((source,), {option: (name,)}, quiet=True)
        with pytest.raises(UserError, match=sentence):
            find(graph, tmp_path / "images", options)


def test_what_was_lost_of_a_dump_is_said(graph: Path, tmp_path: Path) -> None:
    lines = [file_line(page, claims={"P180": ["Q1"]}) for page in range(1, 200)]
    whole = write_mediainfo(tmp_path / "m.json", lines).read_bytes()
    packed = gzip.compress(whole.replace(b'"id": "M7"', b'"id": "Q7x"'), mtime=0)
    dump = tmp_path / "m.json.gz"
    dump.write_bytes(packed[: len(packed) * 2 // 3])
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    with pytest.raises(UserError, match="--allow-damage"):
        find(graph, tmp_path / "images", options)
    manifest = find(graph, tmp_path / "images", replace(options, allow_damage=True))
    assert any("1 line of the dump can't be read" in said for said in manifest["warnings"])
    assert any("file ends inside the gz member" in said for said in manifest["warnings"])


def test_a_wikidata_dump_is_refused_before_it_is_read_whole(graph: Path, tmp_path: Path) -> None:
    items = [{"type": "item", "id": f"Q{n}"} for n in range(1, 20_000)]
    dump = write_mediainfo(tmp_path / "m.json", items)
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    with pytest.raises(UserError, match="not one is a file of Commons"):
        find(graph, tmp_path / "images", options)


def test_a_store_that_the_data_set_is_not_of_is_refused(graph: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "other", [entity("Q1"), entity("Q2")])
    with pytest.raises(UserError, match="was not built from"):
        find(graph, tmp_path / "images", Options(("commons-p18",), store=other, quiet=True))


def test_another_steps_directory_is_refused(graph: Path, tmp_path: Path) -> None:
    options = Options(("commons-p18",), quiet=True)
    for out in (graph, tmp_path / "store"):
        with pytest.raises(UserError, match="the directory of another step"):
            find(graph, out, options)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file; choose another --out"):
        find(graph, tmp_path / "file" / "images", options)


def test_statements_that_the_hierarchy_lacks_are_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, [entity("Q1"), entity("Q2", claims={"P279": ["Q1"]})])
    text = f'{ROOT}\n[images]\ndistance = 1\nbelow = ["P279", "P361"]\nvisual = false\n'
    build(store, load(recipe_of(tmp_path, text)), tmp_path / "graph", quiet=True)
    dump = write_mediainfo(tmp_path / "m.json", [file_line(1, claims={"P180": ["Q2"]})])
    options = Options(("commons-depicts",), {"mediainfo": (str(dump),)}, quiet=True)
    (warning,) = find(tmp_path / "graph", tmp_path / "images", options)["warnings"]
    assert "names P361, of which the data set's hierarchy has no statement" in warning
    assert not find(tmp_path / "graph", tmp_path / "images", replace(options, store=store))[
        "warnings"
    ]
