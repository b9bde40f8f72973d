"""A benchmark's dump must be a dump: read here with gzip and json, which know nothing of it.

And every benchmark has to run, on a dump that is too small to measure anything.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import subprocess
import sys
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import pyarrow.parquet as pq
import pytest
import zstandard
from PIL import Image

from benchmarks import nginx, peers, report
from benchmarks import world_store as invented_store
from benchmarks.build import Rate
from benchmarks.dump import Plan, parse_size, write
from benchmarks.files import first_part, members_of, shares
from benchmarks.kinds import FIRST_ITEM, Item, kind_of
from benchmarks.photos import photo
from benchmarks.words import vocabulary
from benchmarks.world import BIOTA, WIKIDATA, drawn
from etl.entity import entity_id
from etl.store import EntityStore
from etl.verify import verify

ROOT = Path(__file__).parents[1]
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


def entities_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
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
    assert 9 < len(text) / dump.stat().st_size < 11
    lines = [len(line) for line in text.splitlines() if b'"id":"Q10' in line[:40]]
    assert 11_000 < sum(lines) / len(lines) < 17_000
    assert min(lines) < 3_000
    assert max(lines) > 100_000
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


def test_shares_are_those_counted_over_wikidata() -> None:
    words, random = vocabulary(0), Random(0)
    places = range(0, 4_000_000, 19)
    kinds = Counter(kind_of(Item(FIRST_ITEM + n, random, words)).name for n in places)
    shares = {"article": 0.385, "human": 0.107, "class": 0.0435, "taxon": 0.033}
    for name, share in shares.items():
        assert kinds[name] / len(places) == pytest.approx(share, rel=0.1)


def test_a_later_dump_differs_where_it_says(dump: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.json.gz"
    write(Plan(PLAN.seed, PLAN.entities, PLAN.batch, changed=0.2), later, workers=2)
    old, new = ({line["id"]: line for line in entities_of(path)} for path in (dump, later))
    changed = [id_ for id_ in old.keys() & new.keys() if old[id_] != new[id_]]
    assert 0.15 < len(changed) / len(old) < 0.25
    for id_ in changed:
        assert new[id_]["lastrevid"] > old[id_]["lastrevid"]
        assert new[id_]["claims"] != old[id_]["claims"]
    assert 0 < len(old.keys() - new.keys()) < 20
    assert 0 < len(new.keys() - old.keys()) < 20


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


def test_the_first_part_of_a_dump_is_a_dump(dump: Path, tmp_path: Path) -> None:
    found = members_of(dump)
    text = gzip.decompress(dump.read_bytes())
    part = tmp_path / "part.json.gz"
    taken = first_part(dump, found, len(text) // 3, part)
    entities = entities_of(part)
    assert members_of(part) == taken
    assert len(entities) == sum(member.newlines for member in taken[:-1])
    assert entities == json.loads(text)[: len(entities)]
    assert len(text) / 3 < sum(member.json_bytes for member in taken) < len(text) / 2


def test_shares_of_a_file_are_whole_members(dump: Path) -> None:
    found = members_of(dump)
    for count in (1, 2, 5, 100):
        ranges = shares(found, count)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == dump.stat().st_size
        assert all(a[1] == b[0] for a, b in pairwise(ranges))
        assert {start for start, _ in ranges} <= {m.start for m in found} | {found[-1].end}


def test_a_reader_that_fails_now_and_then_is_measured_when_it_does_not(
    dump: Path, tmp_path: Path
) -> None:
    """KGTK hangs in some runs; what is said of it has to say so, and not its last word alone."""
    found = members_of(dump)
    entities = sum(member.newlines for member in found[:-1])
    command = tmp_path / "node" / "node_modules" / ".bin" / "wikibase-dump-filter"
    command.parent.mkdir(parents=True)
    fails = "cat > /dev/null\necho leaving worker 0 >&2\nexit 3\n"
    for script, rates, notes in (
        (f"test -e {tmp_path}/seen && exec cat\ntouch {tmp_path}/seen\n{fails}", 1, 1),
        (fails, 0, 1),
        ("cat\n", 1, 0),
    ):
        command.write_text(f"#!/bin/sh\n{script}")
        command.chmod(0o755)
        measured = list(peers.run(dump, 1000, entities, tmp_path, 1, repeat=2))
        assert sum(isinstance(r, Rate) and r.name == command.name for r in measured) == rates
        said = [r for r in measured if isinstance(r, str) and r.startswith(command.name)]
        assert len(said) == notes
        for note in said:
            assert "ended with 3" in note
            assert "leaving worker 0" in note
            assert ("in 1 of 2 runs" in note) == bool(rates)


@pytest.fixture(scope="module")
def world_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("world") / "store"
    invented_store.write(store, 4000, seed=5, workers=0)
    return store


def test_an_invented_store_is_a_store(world_store: Path) -> None:
    """What was drawn as arrays, written as runs and merged is what the records say."""
    assert not any(check.problem for check in verify(world_store))
    with EntityStore(world_store) as store:
        nodes = pq.read_table(world_store / "nodes.parquet").to_pylist()
        records = {node["id"]: store.get(entity_id(node["id"])) for node in nodes}
    assert len(records) == 4000 + len(store.properties)
    edges: dict[str, list[tuple[int, int]]] = {}
    for node in nodes:
        record = records[node["id"]]
        assert record is not None
        assert (record.sitelinks, record.revision) == (node["sitelinks"], node["revision"])
        for code in store.languages:
            assert node[f"label_{code}"] == (code in record.labels)
        assert list(record.claims) == [p for p in store.properties if p in record.claims]
        for name in store.properties:
            statements = record.claims.get(name, [])
            assert node[name] == bool(statements)
            values = [s.snak.value for s in statements if s.snak.kind == "wikibase-entityid"]
            edges.setdefault(name, []).extend((node["id"], int(value[1:])) for value in values)
    for name in ("P31", "P279", "P171", "P361"):
        table = pq.read_table(world_store / "edges" / f"{name}.parquet")
        written = zip(*(table[end].to_pylist() for end in ("subject", "object")), strict=True)
        assert Counter(written) == Counter(edges[name])


def test_an_invented_store_depends_on_the_seed_alone(world_store: Path, tmp_path: Path) -> None:
    def contents(store: Path) -> dict[str, Any]:
        manifest = json.loads((store / "manifest.json").read_text())
        outputs: dict[str, Any] = manifest["outputs"]
        return {**outputs, "data.mdb": manifest["contents"]}

    invented_store.write(tmp_path / "again", 4000, seed=5, workers=1)
    assert contents(tmp_path / "again") == contents(world_store)
    invented_store.write(tmp_path / "other", 4000, seed=6, workers=0)
    assert contents(tmp_path / "other") != contents(world_store)


def test_an_invented_world_hangs_together_as_wikidata_does() -> None:
    world = drawn(200_000, 0)
    for name, of in WIKIDATA.items():
        if name != "entities":
            share = len(world.claims[name].subject) / len(world.ids)
            assert share == pytest.approx(of / WIKIDATA["entities"], rel=0.1)
    hierarchy, taxonomy = (
        nx.DiGraph(zip(c.object.tolist(), world.ids[c.subject].tolist(), strict=True))
        for c in (world.claims["P279"], world.claims["P171"])
    )
    assert any(len(circle) > 1 for circle in nx.strongly_connected_components(hierarchy))
    assert sum(degree > 1 for _, degree in hierarchy.in_degree()) > 500
    assert all(root in hierarchy for root in (729, 42889, 11663))
    depths = nx.single_source_shortest_path_length(taxonomy, BIOTA).values()
    assert 15 < sum(depths) / len(depths) < 40
    with pytest.raises(ValueError, match="items at least"):
        drawn(100, 0)


def run(tmp_path: Path, names: tuple[str, ...], *options: str) -> list[dict[str, Any]]:
    """Figures of some benchmarks, from a run of the command."""
    command = [sys.executable, "-m", "benchmarks", *names, "--json", "--work", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["benchmark"] for found in printed] == list(names)
    return printed


def test_benchmarks_of_images_measure_what_they_name(tmp_path: Path) -> None:
    names = ("probes", "hosts", "fetch_kills")
    small = ["--probes", "jpeg,status-404,truncated", "--candidates", "300", "--photos", "60"]
    probes, hosts, kills = run(tmp_path, names, *small, "--kills", "2", "--workers", "1")

    jpeg, broken, missing = probes["rows"]
    assert (jpeg["ours"]["picture"], jpeg["ours"]["requests"]) == ("kept", 1)
    assert broken["ours"]["picture"] == "broken"
    assert (missing["ours"]["reason"], missing["ours"]["requests"]) == ("http_404", 1)
    assert probes["outside"] == []
    assert len(probes["notes"]) == 1  # what is not installed is said
    assert "3 probes" in importlib.import_module("benchmarks.probes").tables(probes)

    assert hosts["differences"] == []
    assert sum(hosts["outcomes"].values()) == hosts["candidates"] == 300
    assert "300 candidates" in importlib.import_module("benchmarks.hosts").tables(hosts)

    assert sum(kill["times"] for kill in kills["kills"]) == 2
    assert kills["wrong"] == []
    assert kills["lost"] <= kills["in_flight"]
    assert "2 kills" in importlib.import_module("benchmarks.fetch_kills").tables(kills)


@pytest.mark.skipif(nginx.found() is None, reason="needs nginx")
def test_the_benchmark_of_fetching_measures_what_it_names(tmp_path: Path) -> None:
    (found,) = run(tmp_path, ("fetching",), "--photos", "40", "--repeat", "1", "--workers", "1")
    assert len(found["rounds"]) == 2
    assert all(figures["ours"]["fetch"]["seconds"] > 0 for figures in found["rounds"])
    assert found["psnr"]["ours"]["lanczos"] > 30
    assert found["profile"]["HTTP"] > 0
    assert {"decode", "encode", "likeness"} <= set(found["decoder"])
    assert "40 photographs" in importlib.import_module("benchmarks.fetching").tables(found)


def test_made_photographs_are_photographs_and_depend_on_the_seed_alone() -> None:
    made = photo(3, 1, 320, 240)
    assert made == photo(3, 1, 320, 240)
    assert made not in (photo(3, 2, 320, 240), photo(4, 1, 320, 240))
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (320, 240), "RGB")
    assert 60_000 < len(photo(3, 1)) < 190_000


def test_figures_go_where_the_page_has_a_place_for_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- bench:etl -->\nold\n<!-- /bench -->\nb\n<!-- bench:x -->\n<!-- /bench -->\n"
    )
    report.put("etl", "new \\1", page)
    assert page.read_text() == (
        "a\n<!-- bench:etl -->\nnew \\1\n<!-- /bench -->\nb\n<!-- bench:x -->\n<!-- /bench -->\n"
    )
    with pytest.raises(ValueError, match="no place"):
        report.put("scale", "new", page)
    assert report.table(["", "MB"], [["long name", "1"], ["b", "20"]]).splitlines() == [
        "|           |  MB |",
        "| --------- | --: |",
        "| long name |   1 |",
        "| b         |  20 |",
    ]


def test_the_documentation_has_a_place_for_every_benchmark() -> None:
    from benchmarks.__main__ import NAMES

    pages = {name: importlib.import_module(f"benchmarks.{name}") for name in NAMES}
    found = [getattr(module, "PAGE", report.PAGE) for module in pages.values()]
    for name, page in zip(NAMES, found, strict=True):
        assert page.read_text(encoding="utf-8").count(f"<!-- bench:{name} -->\n") == 1
    for page in set(found):
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- /bench -->") == found.count(page)


def test_every_benchmark_measures_what_it_names(tmp_path: Path) -> None:
    names = (
        "etl",
        "formats",
        "stages",
        "merge",
        "scale",
        "update",
        "kills",
        "graph",
        "explain",
        "join",
        "candidates",
        "mediainfo",
        "likeness",
    )
    small = ["--json-bytes", "3M", "--peer-bytes", "1M", "--sizes", "1M,3M", "--lines", "60"]
    counts = [
        "--records",
        "2k",
        "--items",
        "4k",
        "--images",
        "6k",
        "--likenesses",
        "100",
        "--changed",
        "0.4",
        "--kills",
        "2",
        "--repeat",
        "1",
        "--workers",
        "1",
    ]
    command = [sys.executable, "-m", "benchmarks", *names, "--json", "--work", str(tmp_path)]
    done = subprocess.run([*command, *small, *counts], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    etl, formats, stages, merge, scale, update, kills, graph, *others_ = printed
    explain, join, candidates, mediainfo, likeness = others_
    assert [found["benchmark"] for found in printed] == list(names)

    limit, ours, *others = etl["rates"]
    assert limit["entities"] == ours["entities"] > 200
    assert limit["json_bytes"] == ours["json_bytes"]
    assert [peer["name"] for peer in others] == ["gzip + ujson loop", "qwikidata"]
    assert len(etl["notes"]) == 2  # what is not installed is said
    assert etl["store"]["worker_private"] > 1e6

    suffixes = [found["format"] for found in formats["formats"]]
    assert suffixes == [".json", ".json.gz", ".json.zst", ".json.bz2"]
    assert not any(found["differences"] for found in formats["formats"])

    assert [stage["name"] for stage in stages["reading"]][:2] == ["inflate", "split into lines"]
    assert merge["records"] >= 2000
    assert all(row["records_per_second"] > 0 for row in merge["rows"])
    small_, large = scale["sizes"]
    assert small_["entities"] < large["entities"] == limit["entities"]

    assert update["differences"] == []
    assert all(update["reported"].values()), update["reported"]

    assert sum(kill["times"] for kill in kills["kills"]) == 2
    assert kills["differences"] == []

    assert graph["items"] == 4000
    names_ = [(walk["name"], walk["properties"][-1]) for walk in graph["walks"]]
    libraries = ("sparqless", "networkx")
    assert names_ == [(name, last) for last in ("P171", "P31") for name in libraries]
    assert len(graph["notes"]) == 2  # what is not installed is said
    assert all(found["entities"] for found in graph["graphs"])
    tables = importlib.import_module("benchmarks.graph").tables
    assert "No projection" in tables(graph)
    assert "A projection" in tables({**graph, "items": 10**7})

    start, *answers, arrays = explain["rows"]
    assert (start["beyond"], len(answers), explain["asked"]) == (0, 4, 5)
    assert all(row["seconds"] > 0 for row in (*answers, arrays))

    assert [row["wanted"] for row in join["joins"]] == [600, 6000]
    assert all(row["memory"] > 1e6 for row in join["joins"])
    assert "6,000 files wanted" in importlib.import_module("benchmarks.join").tables(join)

    assert candidates["files"] == 6000
    assert candidates["by_source"]["commons-p18"]["candidates"] == candidates["entities"] == 150
    assert candidates["candidates"] > 150
    assert "150 entities" in importlib.import_module("benchmarks.candidates").tables(candidates)

    forms = mediainfo["forms"]
    assert [form["form"] for form in forms] == [".json.gz", ".json.bz2"]
    gz, bz2_ = (form["mediainfo"] for form in forms)
    assert gz["rate"]["entities"] == bz2_["rate"]["entities"] > 500
    assert gz["depicts"] == bz2_["depicts"] > 100
    assert all(form["of_etl"] > 0 for form in forms)

    found_ = {row["change"]: row["shares"][0] for row in likeness["found"]}
    assert found_["JPEG 90"] > 0.9
    assert found_["mirrored"] < 0.2
    assert [row["found"] for row in likeness["scale"]] == [0, 2]
    assert "caption bar" in importlib.import_module("benchmarks.likeness").tables(likeness)

    made = ("dump-", "world-", "image-")
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(made)}
    assert left == {"store", "likeness"}
