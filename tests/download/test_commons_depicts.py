"""The sources of the mediainfo dump, against plain Python over the dump's own lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from download.find import Options, find
from etl.errors import UserError
from graph.build import build
from graph.recipe import load
from tests.download.commons_dump import Line, file_line, write_mediainfo
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
    assert manifest["sources"] == list(names)


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
