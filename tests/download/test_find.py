"""`images find`: which sources run, what stands afterwards, what is merged."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import download.find
from download.candidates import CANDIDATES_FILE, FACTS, FACTS_FILE, FOUND
from download.find import Options, find
from download.sources import MissingInputError, Request, Source
from etl.errors import UserError
from etl.manifest import read_manifest
from etl.verify import verify
from tests.console import ROOT, run, start
from tests.download.commons_dump import file_line, write_mediainfo
from tests.graph.data_sets import with_columns

Rows = list[dict[str, Any]]


class Fake:
    """A source that finds what it is told, and counts how often it was asked."""

    def __init__(self, name: str, rows: Rows, kind: Any = "candidates") -> None:
        self.rows, self.runs = rows, 0
        self.error: Exception | None = None
        self.wants: Mapping[str, Any] = {}
        self.found: list[str] = []
        self.source = Source(name, "made up", lambda _: self.wants, self.find, kind=kind)

    def find(self, request: Request) -> Mapping[str, Any]:
        self.runs += 1
        if self.error is not None:
            raise self.error
        self.found = sorted(request.found)
        schema, name = (
            (FACTS, FACTS_FILE) if self.source.kind == "facts" else (FOUND, CANDIDATES_FILE)
        )
        rows = [{**dict.fromkeys(schema.names), **row} for row in self.rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), request.out / name)
        (request.scratch / "left over").write_text("gone afterwards")
        return {"counts": {"candidates": len(rows), "with_images": len(rows)}}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    made = {
        "cats": Fake("cats", [{"entity": "Q144", "file": "Cat.jpg", "reasons": ["cat"]}]),
        "dogs": Fake("dogs", [{"entity": "Q144", "url": "https://x.org/d", "reasons": ["dog"]}]),
        "sizes": Fake("sizes", [{"file": "Cat.jpg", "width": 10, "height": 10}], kind="facts"),
    }
    monkeypatch.setattr(
        download.find, "sources", lambda: {name: fake.source for name, fake in made.items()}
    )
    return made


def go(sample: Path, out: Path, *names: str, **more: Any) -> dict[str, Any]:
    return find(sample / "graph", out, Options(names, quiet=True, **more))


def table(out: Path) -> Rows:
    rows: Rows = pq.read_table(out / "candidates" / CANDIDATES_FILE).to_pylist()
    return rows


def test_every_source_has_a_directory_with_a_manifest(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    manifest = go(sample, tmp_path, "cats", "dogs", "sizes")
    assert manifest["counts"]["candidates"] == 2
    assert fakes["sizes"].found == ["cats", "dogs"]
    folder = tmp_path / "candidates"
    for name in ("cats", "dogs", "sizes"):
        assert read_manifest(folder / name, "source")["source"] == name
        assert not any(check.problem for check in verify(folder / name))
    assert not any(check.problem for check in verify(folder))
    assert {p.name for p in folder.iterdir()} == {
        "cats", "dogs", "sizes", "candidates.parquet", "entities.parquet", "manifest.json",
    }  # fmt: skip
    assert not any(check.problem for check in verify(tmp_path))  # all steps below
    (folder / "cats" / CANDIDATES_FILE).write_bytes(b"changed")
    assert [c.name for c in verify(tmp_path) if c.problem] == [f"candidates/cats/{CANDIDATES_FILE}"]
    cat, dog = sorted(table(tmp_path), key=lambda row: row["reasons"])
    assert (cat["sources"], dog["sources"]) == (["cats"], ["dogs"])
    assert (cat["width"], "/thumb/" in cat["url"]) == (10, False)


def test_what_is_done_is_not_done_again(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    go(sample, tmp_path, "cats", "sizes")
    go(sample, tmp_path, "cats", "sizes")
    assert [fake.runs for fake in fakes.values()] == [1, 0, 1]
    fakes["cats"].wants = {"another": "dump"}
    go(sample, tmp_path, "cats", "sizes")
    assert [fake.runs for fake in fakes.values()] == [2, 0, 1]  # which gave the same table
    fakes["cats"].wants, fakes["cats"].rows = {"a third": "dump"}, []
    go(sample, tmp_path, "cats", "sizes")
    assert [fake.runs for fake in fakes.values()] == [3, 0, 2]
    go(sample, tmp_path, "cats", "sizes", fresh=True)
    assert [fake.runs for fake in fakes.values()] == [4, 0, 3]


def test_another_data_set_is_another_run(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    graph = shutil.copytree(sample / "graph", tmp_path / "graph")
    options = Options(("cats",), quiet=True)
    find(graph, tmp_path / "out", options)
    with_columns(graph, visual={"Q144": False})
    manifest = find(graph, tmp_path / "out", options)
    assert fakes["cats"].runs == 2
    visual = pq.read_table(graph / "entities.parquet")["visual"].to_pylist()
    assert manifest["counts"]["entities"] == len(visual) - visual.count(False)
    assert visual.count(False) == 1  # and what isn't known to be unseen is wanted


def test_what_is_merged_is_what_is_named(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    go(sample, tmp_path, "cats", "dogs")
    whole = (tmp_path / "candidates" / CANDIDATES_FILE).read_bytes()
    manifest = go(sample, tmp_path, "dogs")
    assert manifest["left_out"] == ["cats"]
    assert [row["sources"] for row in table(tmp_path)] == [["dogs"]]
    go(sample, tmp_path, "cats", "dogs")
    assert (tmp_path / "candidates" / CANDIDATES_FILE).read_bytes() == whole
    assert [fake.runs for fake in fakes.values()] == [1, 1, 0]


@pytest.mark.parametrize("error", [MissingInputError("give --mediainfo FILE."), UserError("bad.")])
def test_a_source_that_fails_keeps_no_other_from_finishing(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake], error: UserError
) -> None:
    fakes["cats"].error = error
    manifest = go(sample, tmp_path, "cats", "dogs", "sizes")
    assert manifest["failed"] == {"cats": str(error)}
    assert (manifest["sources"], manifest["facts"]) == (["dogs"], ["sizes"])
    assert [row["sources"] for row in table(tmp_path)] == [["dogs"]]
    assert not (tmp_path / "candidates" / "cats").exists()
    with pytest.raises(UserError, match=str(error)):
        go(sample, tmp_path / "other", "cats")
    assert not (tmp_path / "other" / "candidates").exists()


def test_what_stood_stays_where_a_source_fails(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    go(sample, tmp_path, "cats")
    fakes["cats"].error, fakes["cats"].wants = UserError("bad."), {"another": "dump"}
    with pytest.raises(UserError, match="bad"):
        go(sample, tmp_path, "cats")
    assert [row["sources"] for row in table(tmp_path)] == [["cats"]]
    assert not any(check.problem for check in verify(tmp_path / "candidates" / "cats"))


def test_facts_alone_replace_nothing(sample: Path, tmp_path: Path, fakes: dict[str, Fake]) -> None:
    go(sample, tmp_path, "cats")
    with pytest.raises(UserError, match="find nothing by themselves"):
        go(sample, tmp_path, "sizes")
    assert [row["sources"] for row in table(tmp_path)] == [["cats"]]


def test_what_no_source_wrote_is_not_removed(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    mine = tmp_path / "candidates" / "cats" / "thesis.docx"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis\.docx', which no source wrote"):
        go(sample, tmp_path, "cats")
    assert mine.read_text() == "years of work"


def test_a_merged_table_that_stands_is_not_merged_again(
    sample: Path, tmp_path: Path, fakes: dict[str, Fake]
) -> None:
    go(sample, tmp_path, "cats", "dogs")
    before = (tmp_path / "candidates" / CANDIDATES_FILE).stat().st_ino
    go(sample, tmp_path, "cats", "dogs")
    assert (tmp_path / "candidates" / CANDIDATES_FILE).stat().st_ino == before
    go(sample, tmp_path, "cats", "dogs", shorter_side=900)
    assert (tmp_path / "candidates" / CANDIDATES_FILE).stat().st_ino != before


def test_a_name_that_no_source_has(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no source 'bing': name one of .*commons-p18"):
        go(sample, tmp_path, "commons-p18", "bing")
    with pytest.raises(UserError, match="name a source"):
        go(sample, tmp_path)


def test_the_command(sample: Path, tmp_path: Path) -> None:
    """Exit code 1 and one sentence for the source that lacks its dump; the rest is there."""
    command = f"images find --graph {sample}/graph --out im --source commons-p18,commons-depicts"
    done = run(f"{command} --json", tmp_path)
    assert done.returncode == 1
    assert "commons-depicts: " in done.stderr
    assert "--mediainfo FILE" in done.stderr
    assert "https://dumps.wikimedia.org/" in done.stderr
    found = json.loads(done.stdout)
    assert (
        found["counts"]["by_source"]["commons-p18"]["candidates"] == found["counts"]["candidates"]
    )
    assert found["counts"]["candidates"] > 100
    assert list(found["failed"]) == ["commons-depicts"]
    listed = run("images sources", tmp_path)
    assert listed.returncode == 0
    assert "commons-sizes: " in listed.stdout


def test_a_run_that_is_killed_leaves_nothing_half_made(sample: Path, tmp_path: Path) -> None:
    """Real processes, killed before every other change that they make on disk."""
    lines = [file_line(page, claims={"P180": ["Q144"]}) for page in range(1, 9)]
    dump = write_mediainfo(tmp_path / "mediainfo.json", lines)
    program = [sys.executable, "-m", "tests.download.killed_finds"]
    done = start([*program, str(sample / "graph"), str(dump), str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["killed"] > 20


OFFLINE = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(refuse)
from cli import main
main()
"""


def test_a_directory_may_be_called_as_partitions_and_patterns_are(
    sample: Path, tmp_path: Path
) -> None:
    names = ("commons-p18", "commons-depicts", "commons-sizes", "commons-credits")
    given = {
        "mediainfo": (str(sample / "commons-mediainfo.json.gz"),),
        "image": (str(sample / "commonswiki-image.sql.gz"),),
    }
    plain, odd = tmp_path / "plain", tmp_path / "file=x" / "row=7" / "a[1]*"
    for out in (plain, odd):
        find(sample / "graph", out, Options(names, given, workers=0, quiet=True))
    assert table(odd) == table(plain) != []


def test_nothing_is_asked_of_a_network(sample: Path, tmp_path: Path) -> None:
    names = "commons-p18,commons-depicts,commons-sizes,commons-credits"
    find_ = f"images find --graph {sample}/graph --store {sample}/store --source {names} --out im"
    files = (
        f"--mediainfo {sample}/commons-mediainfo.json.gz --image {sample}/commonswiki-image.sql.gz"
    )
    for command in (f"{find_} {files}", "images count --images im"):
        done = start([sys.executable, "-c", OFFLINE, *command.split()], tmp_path)
        assert done.returncode == 0, done.stderr


def test_hosts_and_widths_are_a_file(sample: Path, tmp_path: Path) -> None:
    text = (ROOT / "download/commons.toml").read_text("utf-8")
    there = "https://thumb.example.org/thumb"
    file = tmp_path / "hosts.toml"
    file.write_text(
        text.replace("https://upload.wikimedia.org/wikipedia/commons/thumb", there).replace(
            "330, 500, 960", "330, 480, 960"
        ),
        "utf-8",
    )
    go(sample, tmp_path, "commons-p18", commons=file, shorter_side=250)
    assert any(row["url"].startswith(f"{there}/") for row in table(tmp_path))
    assert any("/480px-" in row["url"] for row in table(tmp_path))
