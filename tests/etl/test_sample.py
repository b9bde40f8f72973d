"""The bundled sample: framed like a real dump, every fact with a source, every oddity in it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import re
import zlib
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard

from etl.errors import UserError
from etl.sample import entities, lines, write_dump
from etl.sample.table import (
    FIRST_MADE_UP,
    FOLDER,
    MADE_UP,
    Item,
    read_items,
    read_properties,
    read_sites,
)

Entity = dict[str, Any]

ID = "wikibase-entityid"

# lmb-freiburg/entitynet, kgraph/manual_entities.csv, include = 1
ROOTS = re.findall(
    r"Q\d+",
    "Q729 Q756 Q34379 Q41176 Q42889 Q2095 Q14745 Q11460 Q747883 Q10683158 Q712378 Q15324 Q39546 "
    "Q618123 Q214609 Q25257 Q13226383 Q811979 Q4936952 Q2424752 Q11663",
)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.json.gz"
    write_dump(path)
    return path


@cache
def items() -> list[Item]:
    return read_items()


def by_label(label: str) -> Item:
    [item] = [one for one in items() if one.labels.get("en") == label]
    return item


@cache
def newest() -> dict[str, Entity]:
    """Items of the dump by id, the highest revision of each."""
    found: dict[str, Entity] = {}
    for entity in entities():
        known = found.get(entity["id"])
        if known is None or known["lastrevid"] < entity["lastrevid"]:
            found[entity["id"]] = entity
    return found


# --- framing ------------------------------------------------------------------------------------


def test_the_dump_reads_line_by_line_as_json(dump: Path) -> None:
    with gzip.open(dump, "rt", encoding="ascii", newline="") as file:
        text = file.read()
    rows = text.split("\n")
    assert rows[0] == "["
    assert rows[-2:] == ["]", ""]
    bodies = rows[1:-2]
    assert all(row.endswith(",") for row in bodies[:-1])
    assert not bodies[-1].endswith(",")
    broken = []
    for row in bodies:
        try:
            json.loads(row.removesuffix(","))
        except json.JSONDecodeError:
            broken.append(row)
    assert len(broken) == 1
    assert [row.removesuffix(",").encode() for row in bodies] == lines()
    assert len(list(entities())) == len(bodies) - 1


def test_without_the_broken_line_the_dump_is_one_json_array(dump: Path) -> None:
    whole = gzip.decompress(dump.read_bytes()).decode("ascii")
    broken = next(line for line in lines() if not line.endswith(b"}")).decode("ascii")
    array = json.loads(whole.replace(broken + ",\n", "").replace(",\n" + broken, ""))
    assert [entity["id"] for entity in array] == [entity["id"] for entity in entities()]


def test_the_gz_has_many_members_and_each_begins_on_a_line(dump: Path) -> None:
    raw, members = dump.read_bytes(), []
    while raw:
        inflater = zlib.decompressobj(wbits=31)
        members.append(inflater.decompress(raw))
        raw = inflater.unused_data
    assert members[0] == b"[\n"
    assert members[-1] == b"\n]\n"
    assert len(members) > 20
    for batch, comma in zip(members[1:-1:2], members[2:-1:2], strict=False):
        assert batch.startswith(b'{"')
        assert not batch.endswith((b"\n", b","))
        assert comma == b",\n"


def test_lines_are_escaped_as_php_escapes_them() -> None:
    every = lines()
    assert all(line.isascii() for line in every)
    text = b"\n".join(every)
    assert not re.search(rb"(?<!\\)/", text)
    assert b"\\/" in text
    assert rb"\ud83d\udc15" in text  # a dog from outside the basic plane
    assert not re.search(rb"\\u[0-9a-f]{0,3}[A-F]", text)
    for line in every:
        outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line) if line.endswith(b"}") else b""
        assert b" " not in outside


def test_keys_stand_in_wikibase_order() -> None:
    order = ["type", "id", "datatype", "labels", "descriptions", "aliases", "claims", "sitelinks"]
    order += ["pageid", "ns", "title", "lastrevid", "modified"]
    for entity in entities():
        if entity["type"] == "lexeme":
            continue
        assert list(entity) == [key for key in order if key in entity]
        assert ("datatype" in entity) == (entity["type"] == "property")
        for statements in (entity.get("claims") or {}).values():
            for statement in statements:
                check_statement(entity["id"], statement)


def check_statement(entity_id: str, statement: Entity) -> None:
    order = ["mainsnak", "type", "qualifiers", "qualifiers-order", "id", "rank", "references"]
    assert list(statement) == [key for key in order if key in statement]
    assert statement["type"] == "statement"
    assert re.fullmatch(
        rf"{entity_id}\$[0-9A-F]{{8}}(-[0-9A-F]{{4}}){{3}}-[0-9A-F]{{12}}", statement["id"]
    )
    assert "hash" not in statement["mainsnak"]
    for snaks in statement.get("qualifiers", {}).values():
        assert all(list(snak)[2] == "hash" for snak in snaks)
    for reference in statement.get("references", []):
        assert list(reference) == ["hash", "snaks", "snaks-order"]
        assert all("hash" not in s for snaks in reference["snaks"].values() for s in snaks)


def test_statement_ids_are_unique_within_an_item() -> None:
    for entity in entities():
        ids = [s["id"] for group in (entity.get("claims") or {}).values() for s in group]
        assert len(ids) == len(set(ids))


def test_lines_are_not_sorted_and_properties_stand_among_items() -> None:
    ids = [entity["id"] for entity in entities()]
    numbers = [int(one[1:]) for one in ids if one[0] == "Q"]
    assert numbers != sorted(numbers)
    kinds = "".join(one[0] for one in ids)
    assert "QP" in kinds.strip("P")
    assert "PQ" in kinds.strip("P")


def test_all_forms_hold_the_same_bytes_and_the_suffix_chooses(tmp_path: Path) -> None:
    contents = []
    for name in ("a.json", "a.json.gz", "a.json.bz2", "a.json.zst"):
        write_dump(tmp_path / "new folder" / name)
        raw = (tmp_path / "new folder" / name).read_bytes()
        if name.endswith("gz"):
            contents.append(gzip.decompress(raw))
        elif name.endswith("bz2"):
            contents.append(bz2.decompress(raw))
        elif name.endswith("zst"):
            contents.append(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read())
        else:
            contents.append(raw)
    assert len(set(contents)) == 1
    assert sorted(p.name for p in (tmp_path / "new folder").iterdir()) == [
        "a.json",
        "a.json.bz2",
        "a.json.gz",
        "a.json.zst",
    ]
    write_dump(tmp_path / "no suffix", "json")
    assert (tmp_path / "no suffix").read_bytes() == contents[0]


def test_the_bytes_are_the_same_every_time(tmp_path: Path, dump: Path) -> None:
    write_dump(tmp_path / "again.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes() == dump.read_bytes()


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sample\.txt.*\.json\.gz"):
        write_dump(tmp_path / "sample.txt")
    assert not list(tmp_path.iterdir())


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_small_enough_to_keep_by_hand() -> None:
    assert (FOLDER / "items.tsv").stat().st_size < 150_000
    assert len(items()) >= 500


def test_every_source_is_explained() -> None:
    explained = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    keys = {key for item in items() for key in item.source.split()}
    keys |= {claim.source for item in items() for claim in item.claims if " " not in claim.source}
    keys |= {prop.source for prop in read_properties().values()}
    assert {key for key in keys if f"`{key}`" not in explained} == set()


def test_ids_are_made_up_exactly_where_the_source_says_so() -> None:
    for item in items():
        assert (int(item.id[1:]) >= FIRST_MADE_UP) == (item.source == MADE_UP), item.id
        for claim in item.claims:
            if item.made_up:
                assert claim.source == MADE_UP, item.id
            else:
                targets = re.findall(r"\bQ(\d+)", claim.value.text)
                assert all(int(n) < FIRST_MADE_UP for n in targets), item.id


def test_the_line_says_what_the_row_says() -> None:
    for item in items():
        if item.quirks:
            continue
        entity = newest()[item.id]
        assert {k: v["value"] for k, v in entity["labels"].items()}.items() >= item.labels.items()
        assert len(entity["sitelinks"]) == (item.sitelinks or 0)
        assert [a["value"] for a in entity["aliases"].get("en", [])] == list(item.aliases)
        assert sum(map(len, entity["claims"].values())) == len(item.claims)


def test_sites_are_enough_and_named_once() -> None:
    sites = read_sites()
    assert len(set(sites)) == len(sites) >= max(item.sitelinks or 0 for item in items())
    assert "enwiki" in sites[:3]


HEADER = "id\tlabel\tlabels\tdescription\taliases\tsitelinks\tclaims\tquirks\tsource\tnote"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("Q5\tx", "2 columns instead of 10"),
        ("X5\tx\t\t\t\t\t\t\tmade-up\t", "'X5' is not an item id"),
        ("Q5\tx\t\t\t\t\t\t\t\t", "source is missing"),
        ("Q5\tx\t\t\t\tmany\t\t\tmade-up\t", "sitelinks 'many'"),
        ("Q5\tx\tHund\t\t\t\t\t\tmade-up\t", "'Hund' is not language:label"),
        ("Q5\tx\t\t\t\t\tP31=Q5; P31\t\tmade-up\t", "can't read the claims from"),
        ("Q5\tx\t\t\t\t\tP99999=Q5\t\tmade-up\t", "P99999 is not in properties.tsv"),
        ("Q5\tx\t\t\t\t\tP31=human\t\tmade-up\t", "P31='human' is not a wikibase-entityid"),
        ("Q5\tx\t\t\t\t\tP625=north\t\tmade-up\t", "P625='north' is not a globecoordinate"),
        ("Q5\tx\t\t\t\t\t\tcurly\tmade-up\t", "unknown quirk 'curly'"),
        ("Q4\tx\t\t\t\t\t\t\tmade-up\t", "Q4 has a row already"),
    ],
)
def test_a_malformed_row_is_one_clear_sentence(tmp_path: Path, row: str, what: str) -> None:
    path = tmp_path / "items.tsv"
    path.write_text(f"# a comment\n{HEADER}\nQ4\tx\t\t\t\t\t\t\tmade-up\t\n{row}\n")
    with pytest.raises(UserError, match=re.escape(what)) as refused:
        read_items(path)
    assert str(refused.value).startswith("items.tsv, line 4: ")


# --- oddities -----------------------------------------------------------------------------------


def truthy(entity: Entity, name: str) -> list[Entity]:
    """Main snaks of best rank, never deprecated, without novalue: what has a triple under wdt:."""
    statements = (entity.get("claims") or {}).get(name, [])
    for rank in ("preferred", "normal"):
        best = [s["mainsnak"] for s in statements if s["rank"] == rank]
        if best:
            return [snak for snak in best if snak["snaktype"] != "novalue"]
    return []


def targets(entity: Entity, name: str) -> list[str]:
    return [
        f"Q{snak['datavalue']['value']['numeric-id']}"
        for snak in truthy(entity, name)
        if snak["snaktype"] == "value"
    ]


def test_every_root_is_in_the_dump_with_five_kept_descendants() -> None:
    for root in ROOTS:
        assert root in newest()
        kept = [one for one in below(root, "P279") - {root} if kept_by_world(newest()[one])]
        assert len(kept) >= 5, root
        links = [len(newest()[one].get("sitelinks") or {}) for one in below(root, "P279")]
        assert any(0 < number < 5 for number in links), root


def test_the_table_has_every_kind_of_oddity() -> None:
    raw = [line for line in lines() if line.endswith(b"}")]
    every = [json.loads(line) for line in raw]
    by_id: dict[str, list[Entity]] = defaultdict(list)
    for entity in every:
        by_id[entity["id"]].append(entity)
    plain = [e for e in every if e["type"] == "item"]
    snaks = [s["mainsnak"] for e in plain for g in (e.get("claims") or {}).values() for s in g]

    assert {e["type"] for e in every} == {"item", "property", "lexeme"}
    for field in ("labels", "descriptions", "aliases", "claims", "sitelinks"):
        assert any(e.get(field) == [] for e in plain), field
    for field in ("labels", "descriptions", "aliases", "claims", "sitelinks", "pageid"):
        assert any(field not in e for e in plain), field
    ids = [s["datavalue"]["value"] for s in snaks if s.get("datavalue", {}).get("type") == ID]
    assert any("id" not in value for value in ids)
    assert {s["snaktype"] for s in snaks} == {"value", "somevalue", "novalue"}
    assert any("datatype" not in s for s in snaks)
    assert any(value["entity-type"] == "property" for value in ids)
    absent = {f"Q{v['numeric-id']}" for v in ids if v["entity-type"] == "item"} - set(by_id)
    assert absent

    twice = [e for e in by_id.values() if len(e) > 1]
    assert len(twice) == 1
    first, second = twice[0]
    assert first["lastrevid"] > second["lastrevid"]
    assert first["labels"]["en"] != second["labels"]["en"]
    assert any(link["badges"] for e in plain for link in (e.get("sitelinks") or {}).values())
    assert any(
        "qualifiers" in s for e in plain for g in (e.get("claims") or {}).values() for s in g
    )
    assert {"Q144", "Q764", "Q5", "Q24334299", "Q795052", "Q4886"} <= set(by_id)


def test_some_items_have_no_label_but_the_default_one() -> None:
    only = [
        e for e in newest().values() if "mul" in e.get("labels", {}) and "en" not in e["labels"]
    ]
    assert len(only) >= 4
    assert not any(re.match(r"en\b", language) for e in only for language in e["labels"])


def test_ranks_hide_what_they_must() -> None:
    fox = newest()[by_label("dune fox").id]
    assert [s["rank"] for s in fox["claims"]["P18"]] == ["normal", "preferred"]
    assert by_label("cushion map").id not in below("Q14745", "P279")
    assert by_label("cushion stool").id in below("Q14745", "P279")
    assert by_label("tool shed song").id not in below("Q39546", "P279")
    assert "Q39201" not in targets(newest()["Q144"], "P279")


def test_p279_has_cycles_inside_and_outside_of_roots() -> None:
    cart, stove = by_label("kettle cart").id, by_label("wheeled stove").id
    assert {cart, stove} <= below("Q42889", "P279")
    inner, outer = by_label("inner loop").id, by_label("outer loop").id
    assert below(inner, "P279") == below(outer, "P279") == {inner, outer}


def test_dog_is_in_the_sample_with_what_the_reference_knows_of_it() -> None:
    dog = newest()["Q144"]
    assert dog["labels"]["en"]["value"] == "dog"
    assert dog["labels"]["mul"]["value"] == "Canis lupus familiaris"
    assert len(dog["sitelinks"]) == 306
    assert truthy(dog, "P18")[0]["datavalue"]["value"].startswith("Greenland 467")
    assert "Q144" in below("Q729", "P279")


# --- the rules of the reference: what a note promises, plain sets confirm -----------------------


@cache
def children(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entity in newest().values():
        for target in targets(entity, name):
            found[target].add(entity["id"])
    return found


def below(root: str, name: str) -> set[str]:
    """``root`` and everything that leads to it by one or more links of the property."""
    reached, fresh = {root}, [root]
    while fresh:
        fresh = [c for one in fresh for c in children(name)[one] if c not in reached]
        reached.update(fresh)
    return reached & set(newest())


def above_zero(root: str, name: str) -> set[str]:
    """As SPARQL's ``+``: the root itself only where it stands on a cycle."""
    first = set(children(name)[root])
    return first.union(*(below(child, name) for child in first))


def members(root: str) -> set[str]:
    """(P31/P279*)|P279+"""
    instances = {i for kind in below(root, "P279") for i in children("P31")[kind]}
    return instances | above_zero(root, "P279")


def kept_by_world(entity: Entity) -> bool:
    return "en" in (entity.get("labels") or {}) and len(entity.get("sitelinks") or {}) >= 5


@cache
def world() -> set[str]:
    every = {one for root in ROOTS for one in below(root, "P279")}
    return {one for one in every if kept_by_world(newest()[one])}


@cache
def living(fungi: bool = False) -> set[str]:
    """kgraph/living_download_entities_{animals,plants}.sh, without the limit of rows."""
    animals = members("Q729") | above_zero("Q729", "P171")
    animals -= members("Q5") | members("Q24334299") | members("Q795052")
    taxa = members("Q756") | above_zero("Q756", "P171")
    products = {e for e in newest() if set(targets(newest()[e], "P1582")) & taxa}
    products |= {fruit for taxon in taxa for fruit in targets(newest()[taxon], "P1672")}
    fruits = {
        one
        for one in products & set(newest())
        for name in ("P31", "P279")
        if {"Q3314483", "Q1364"} & set(targets(newest()[one], name))
    }
    plants = taxa | fruits
    plants -= members("Q4886") | members("Q795052")
    plants = {one for one in plants if not truthy(newest()[one], "P625")}
    mushrooms = members("Q764") | above_zero("Q764", "P171") if fungi else set()
    return {
        one
        for one in animals | plants | mushrooms
        if "en" in (newest()[one].get("labels") or {}) and truthy(newest()[one], "P18")
    }


@pytest.mark.parametrize(
    ("promise", "recipe"),
    [("living", "living"), ("world", "world"), ("living (ours)", "fungi"), ("reference", "living")],
)
def test_notes_are_true(promise: str, recipe: str) -> None:
    kept = {"living": living(), "world": world(), "fungi": living(fungi=True)}[recipe]
    counted = {True: 0, False: 0}
    for item in items():
        for part in item.note.replace("living and world: kept", "living: kept; world: kept").split(
            "; "
        ):
            if found := re.match(rf"{re.escape(promise)}: (kept|rejected)", part):
                assert (item.id in kept) == (found[1] == "kept"), (item.id, item.labels, part)
                counted[found[1] == "kept"] += 1
    assert counted[False] >= (0 if promise == "living (ours)" else 3)
    assert counted[True] >= (0 if promise == "reference" else 3)


def test_the_same_item_is_in_several_roots() -> None:
    kettle = by_label("boot kettle").id
    assert sum(kettle in below(root, "P279") for root in ROOTS) >= 3


# --- against the real thing ---------------------------------------------------------------------

REAL = os.environ.get("SPARQLESS_REAL_DUMP", "")


@pytest.mark.skipif(not REAL, reason="SPARQLESS_REAL_DUMP names no file")
def test_rows_of_real_entities_say_what_the_entities_say() -> None:
    wanted = {item.id for item in items() if "real:" in facts(item)}
    known: dict[str, Entity] = {}
    with bz2.open(REAL, "rt", encoding="utf-8") as file:
        for row in file:
            text = row.strip().removesuffix(",")
            if text not in ("[", "]", ""):
                entity = json.loads(text)
                if entity["id"] in wanted:
                    known[entity["id"]] = entity
    assert set(known) == wanted
    assert len(wanted) > 100
    for item in items():
        if item.id in known:
            check_against(known[item.id], item)


def facts(item: Item) -> str:
    return " ".join([item.source, *(claim.source for claim in item.claims)])


def check_against(real: Entity, item: Item) -> None:
    if item.source.startswith("real:"):
        labels = real["labels"] or {}
        assert {k: labels.get(k, {}).get("value") for k in item.labels} == item.labels, item.id
        if item.sitelinks is not None:
            assert item.sitelinks == len(real.get("sitelinks") or {}), item.id
    for claim in item.claims:
        if claim.source.startswith("real:"):
            statements = (real["claims"] or {}).get(claim.property, [])
            said = [(s["rank"], *real_value(s["mainsnak"])) for s in statements]
            assert (claim.rank, claim.value.snaktype, claim.value.text) in said, (item.id, claim)


def real_value(snak: Entity) -> tuple[str, str]:
    if snak["snaktype"] != "value":
        return snak["snaktype"], ""
    value = snak["datavalue"]["value"]
    match snak["datavalue"]["type"]:
        case "wikibase-entityid":
            letter = {"item": "Q", "property": "P"}[value["entity-type"]]
            return "value", f"{letter}{value['numeric-id']}"
        case "monolingualtext":
            return "value", f"{value['language']}:{value['text']}"
        case "globecoordinate":
            return "value", f"{value['latitude']:.6g},{value['longitude']:.6g}"
        case _:
            return "value", value


def test_a_dump_that_stands_is_left_as_it_is(tmp_path: Path) -> None:
    """A store remembers its dump's modification time: `make graph` twice must not change it."""
    path = tmp_path / "dump.json.gz"
    write_dump(path)
    stamp = path.stat().st_mtime_ns
    write_dump(path)
    assert path.stat().st_mtime_ns == stamp
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    write_dump(path)
    assert path.read_bytes() == whole
