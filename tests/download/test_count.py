"""Counts of images equal a slow recount, and are shown to people, tools and eyes."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import cli
from download.candidates import AVAILABLE, CANDIDATES, ENTITIES
from download.count import Count, Counts, bin_ends, bin_of, count, steps_of
from download.count_picture import draw
from download.count_report import as_lines, lines
from etl.errors import UserError
from etl.manifest import digests, read_manifest, write_manifest

Row = dict[str, Any]

ROOTS = ["Q729", "Q756", "Q42889"]


def entity(id_: str, *roots: str, name: str | None = None) -> Row:
    return {"id": id_, "name": name, "roots": list(roots)}


def image(entity: str, sources: Iterable[str], **more: Any) -> Row:
    """A merged row; a file of Commons has an address, too."""
    url = f"https://example.org/{more['file']}" if "file" in more else None
    return {"entity": entity, "url": url, "sources": list(sources), **more}


def write(
    images: Path,
    entities: list[Row],
    rows: list[Row],
    sources: Iterable[str] = ("commons-p18", "url-list"),
    available: dict[str, list[Row]] | None = None,
    **manifest: Any,
) -> Path:
    """What `sparqless images find` leaves."""
    directory = images / "candidates"
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(entities, ENTITIES), directory / "entities.parquet")
    pq.write_table(pa.Table.from_pylist(rows, CANDIDATES), directory / "candidates.parquet")
    made_from = {}
    for source in sources:
        (directory / source).mkdir()
        write_manifest(directory / source, {"step": "source", "outputs": {}})
        made_from[source] = read_manifest(directory / source, "source")["manifest_sha256"]
    for source, pairs in (available or {}).items():
        table = pa.Table.from_pylist(pairs, AVAILABLE)
        pq.write_table(table, directory / source / "available.parquet")
    outputs = digests(directory, ["candidates.parquet", "entities.parquet"], quiet=True)
    data = {"step": "candidates", "sources": list(sources), "outputs": outputs}
    data |= {"made_from": made_from, **manifest}
    write_manifest(directory, data)
    return images


# --- against a slow recount -------------------------------------------------------------------

Pairs = list[tuple[str, object, str | None, str | None]]  # entity, file, licence, type


def recount(entities: list[Row], pairs: Pairs, root: str | None) -> Row:
    """One row, by loops over lists."""
    members = [e["id"] for e in entities if root is None or root in e["roots"]]
    found = [pair for pair in pairs if pair[0] in members]
    numbers = [len({file for id_, file, *_ in found if id_ == member}) for member in members]
    files = {file for _, file, *_ in found}
    kinds: dict[int, Counter[str | None]] = {2: Counter(), 3: Counter()}
    for file in files:
        for column, counter in kinds.items():
            # whichever entity a row is of: it is the same file
            said = [p[column] for p in pairs if p[1] == file and p[column]]
            counter[min(said) if said else None] += 1
    return {
        "entities": len(members),
        "at_least": tuple(sum(n >= least for n in numbers) for least in (1, 2, 3)),
        "images": sum(numbers),
        "files": len(files),
        "median": statistics.median([n for n in numbers if n]) if any(numbers) else None,
        "numbers": Counter(numbers),
        "licences": kinds[2],
        "types": kinds[3],
    }


def assert_equal(found: Count, expected: Row) -> None:
    for name in ("entities", "at_least", "images", "files", "median"):
        assert getattr(found, name) == expected[name], name
    by_bin = {bin_ends(n): entities for n, entities in enumerate(found.entities_by_images)}
    for (low, high), entities in by_bin.items():
        assert entities == sum(n for k, n in expected["numbers"].items() if low <= k <= high)
    assert sum(by_bin.values()) == found.entities
    assert dict(found.licences.listed) == expected["licences"]
    if found.types is not None:
        assert dict(found.types.listed) == expected["types"]


ids = st.integers(1, 8).map(lambda n: f"Q{n}")
licences = st.sampled_from([None, "", "CC0 1.0", "CC BY 4.0"])
types = st.sampled_from([None, "image/png", "image/jpeg"])
names = st.sampled_from(["A.jpg", "B.jpg", "C.png", "url A.jpg", "D'é.svg"])


@st.composite
def merged(draw: st.DrawFn) -> Row:
    where = draw(st.sampled_from(["file", "url", "both"]))
    row: Row = {
        "entity": draw(ids),  # some aren't in the table of entities
        "url": draw(names),
        "file": None,
        "sources": draw(st.lists(st.sampled_from(["commons-p18", "url-list", "x"]), max_size=3)),
        "licence": draw(licences),
        "mime": draw(types),
    }
    if where != "url":
        row["file"] = draw(names)
    if where == "file":
        row["url"] = None
    return row


@st.composite
def pair(draw: st.DrawFn) -> Row:
    return {
        "entity": draw(st.integers(1, 8)),
        "image": draw(st.integers(-2, 3)),
        "licence": draw(licences),
    }


def key(row: Row) -> tuple[str, str]:
    return ("file", row["file"]) if row["file"] is not None else ("url", row["url"])


@settings(max_examples=40)
@given(
    entities=st.lists(
        st.builds(
            lambda id_, roots: entity(id_, *roots),
            ids,
            st.lists(st.sampled_from(ROOTS), max_size=3),
        ),
        unique_by=lambda e: e["id"],
        max_size=7,
    ),
    rows=st.lists(merged(), max_size=25, unique_by=lambda row: (row["entity"], key(row))),
    available=st.none() | st.lists(pair(), max_size=25),
)
def test_counts_equal_a_slow_recount(
    entities: list[Row], rows: list[Row], available: list[Row] | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given_pairs = {} if available is None else {"commons-p18": available}
        named = [{"root": root, "name": None} for root in ROOTS]
        images = write(Path(folder) / "i", entities, rows, available=given_pairs, roots=named)
        found = count(images, (1, 2, 3))
    known = {e["id"] for e in entities}
    for source in ("all sources", "commons-p18", "url-list"):
        pairs: Pairs = [
            (row["entity"], key(row), row["licence"], row["mime"])
            for row in rows
            if row["entity"] in known and (source == "all sources" or source in row["sources"])
        ]
        assert [row.root for row in found.of(source)] == [*ROOTS, "all"]
        for row, root in zip(found.of(source), [*ROOTS, None], strict=True):
            assert_equal(row, recount(entities, pairs, root))
    before = [(f"Q{p['entity']}", p["image"], p["licence"], None) for p in available or []]
    pairs = [p for p in before if p[0] in known]
    rows_before = found.of("commons-p18", before_cap=True)
    assert len(rows_before) == (0 if available is None else 4)
    for row, root in zip(rows_before, [*ROOTS, None], strict=False):
        assert_equal(row, recount(entities, pairs, root))
    assert not found.of("url-list", before_cap=True)


@given(st.integers(0, 5000))
@settings(max_examples=200)
def test_a_bin_holds_what_its_ends_say(images: int) -> None:
    low, high = bin_ends(bin_of(images))
    assert low <= images <= high
    assert bin_of(low) == bin_of(high) == bin_of(images)


# --- what a user relies on --------------------------------------------------------------------


def test_a_file_counts_once_however_often_it_was_found(tmp_path: Path) -> None:
    rows = [
        image("Q1", ["commons-p18", "url-list"], file="A.jpg"),
        image("Q1", ["url-list"], file="A.jpg"),
        image("Q2", ["url-list"], file="A.jpg"),
    ]
    entities = [entity("Q1", "Q729"), entity("Q2", "Q729", "Q756")]
    found = count(write(tmp_path / "i", entities, rows))
    animals, plants, every = found.of("all sources")
    assert (animals.images, animals.files) == (2, 1)
    assert (plants.images, plants.files) == (1, 1)
    assert (every.images, every.files) == (2, 1)


def test_roots_stand_as_the_manifest_or_else_the_entities_have_them(tmp_path: Path) -> None:
    entities = [
        entity("Q5", "Q756", "Q729"),
        entity("Q9", "Q42889"),
        entity("Q729", "Q729", name="animal"),
    ]
    found = count(write(tmp_path / "a", entities, []))
    assert [(r.id, r.name) for r in found.roots] == [
        ("Q756", None),
        ("Q729", "animal"),
        ("Q42889", None),
    ]
    roots = [{"root": "Q42889", "name": "vehicle"}, {"root": "Q2095", "name": "food"}]
    found = count(write(tmp_path / "b", entities, [], roots=roots))
    assert [r.id for r in found.roots] == ["Q42889", "Q2095", "Q756", "Q729"]
    assert found.of("all sources")[1].entities == 0


def test_as_many_roots_as_a_recipe_likes(tmp_path: Path) -> None:
    entities = [entity(f"Q{n}", f"Q{1000 + n}", f"Q{1000 + n // 2}") for n in range(1, 201)]
    rows = [image(e["id"], ["url-list"], file=f"{n // 3}.jpg") for n, e in enumerate(entities)]
    found = count(write(tmp_path / "i", entities, rows))
    for row in found.of("all sources")[:-1]:
        members = [n for n, e in enumerate(entities) if row.root in e["roots"]]
        assert (row.entities, row.files) == (len(members), len({n // 3 for n in members}))


def test_licences_beyond_the_first_twenty_are_summed(tmp_path: Path) -> None:
    rows = [
        image("Q1", ["url-list"], file=f"{licence} {n}", licence=f"L{licence:02}")
        for licence in range(30)
        for n in range(1 + licence % 3)
    ]
    shares = count(write(tmp_path / "i", [entity("Q1", "Q729")], rows)).of("url-list")[-1].licences
    assert len(shares.listed) == 20
    assert shares.listed[0] == ("L02", 3)
    assert [n for _, n in shares.listed] == [3] * 10 + [2] * 10
    assert (shares.more, shares.files_of_more) == (10, 10)


def test_a_source_that_was_run_again_since_is_not_counted(tmp_path: Path) -> None:
    """A run was killed between a source and the merge: its pairs and the table are of two runs."""
    images = write(tmp_path / "i", [], [])
    write_manifest(images / "candidates" / "url-list", {"step": "source", "outputs": {}, "n": 2})
    with pytest.raises(UserError, match="url-list was run again since"):
        count(images)


@pytest.mark.parametrize("name", ["a*b", "a[b]c", "year=2026", "what?", "it's"])
def test_a_directory_may_be_called_anything(tmp_path: Path, name: str) -> None:
    rows = [image("Q1", ["url-list"], file="A.jpg")]
    images = write(tmp_path / name, [entity("Q1", "Q729")], rows)
    assert count(images).of("all sources")[-1].images == 1


def test_candidates_that_are_not_finished_are_refused(tmp_path: Path) -> None:
    (tmp_path / "candidates").mkdir()
    with pytest.raises(UserError, match=r"holds no finished candidates: it has no manifest\.json"):
        count(tmp_path)


def test_a_table_that_was_cut_off_or_is_another_is_refused(tmp_path: Path) -> None:
    images = write(tmp_path / "a", [], [])
    (images / "candidates" / "entities.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"damaged: entities\.parquet"):
        count(images)
    wrong = [{"entity": 1, "image": 1, "licence": None}]
    images = write(tmp_path / "b", [], [], available={"url-list": wrong})
    table = pa.table({"entity": ["Q1"]})
    pq.write_table(table, images / "candidates" / "url-list" / "available.parquet")
    with pytest.raises(UserError, match="has no column 'entity' of type int64"):
        count(images)


@pytest.mark.parametrize("sources", [["../x"], ["/etc"], [1], "abc", None, ["a/b"], ["a\n"]])
def test_a_source_of_no_honest_name_is_refused(tmp_path: Path, sources: object) -> None:
    images = write(tmp_path / "i", [], [])
    path = images / "candidates" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "sources": sources}))
    with pytest.raises(UserError, match="doesn't name its sources"):
        count(images)


@pytest.mark.parametrize("text", ["", "0", "1,1", "10,1", "a", "1,,2", "-1", "1,2,3,4,5,6,7,8,9"])
def test_steps_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--at-least"):
        steps_of(text)


# --- what is shown ----------------------------------------------------------------------------

HOSTILE = "a $x^2$ <b> & \x1b[31m\x07 \ud7ff\u202e ]]> -- 鳥"


@pytest.fixture
def counts(tmp_path: Path) -> Counts:
    return count(invented(tmp_path / "made"))


def invented(images: Path) -> Path:
    """Two sources, 21 roots, one with a name that nobody should have."""
    roots = [{"root": f"Q{n}", "name": f"root of {n}"} for n in range(1000, 1021)]
    roots[3]["name"] = HOSTILE
    entities = [entity(f"Q{n}", f"Q{1000 + n % 20}") for n in range(1, 200)]
    rows = [
        image(e["id"], ["commons-p18", "url-list"][: 1 + n % 2], file=f"{n} {i}", licence=HOSTILE)
        for n, e in enumerate(entities)
        for i in range(n % 40)
    ]
    available = [{"entity": n, "image": i, "licence": None} for n in (5, 6) for i in range(n * 700)]
    return write(images, entities, rows, available={"commons-p18": available}, roots=roots)


def test_tables_fit_a_terminal_and_cannot_steer_it(counts: Counts) -> None:
    for width in (72, 100, 250):
        shown = list(lines(counts, width))
        assert max(map(len, shown)) <= min(width, 100)
        assert all(line.isprintable() for line in shown)
    assert all(line.isascii() for line in lines(counts, 100, blocks=False))


def test_the_longest_bar_is_that_of_the_most_entities(counts: Counts) -> None:
    every = counts.of("all sources")[-1]
    bars = [line for line in lines(counts, 100) if "█" in line]
    assert len(bars) == sum(map(bool, every.entities_by_images))
    longest = max(bars, key=lambda line: line.count("█"))
    assert f" {max(every.entities_by_images)} " in longest


def test_a_pipe_gets_a_line_for_each_source_and_root(counts: Counts) -> None:
    rows = [line.split("\t") for line in as_lines(counts)]
    assert {len(row) for row in rows} == {11}
    assert len(rows) == 4 * 22
    (all_,) = (r for r in rows if r[:3] == ["all sources", "after", "all"])
    every = counts.of("all sources")[-1]
    assert all_[4:10] == [str(n) for n in (199, *every.at_least, every.images, every.files)]


def console(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["images", "count", *arguments])


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    images = str(invented(tmp_path / "made"))
    done = console("--images", images, "--at-least", "1,5", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["at_least"] == [1, 5]
    assert len(found["counts"]) == 4 * 22
    done = console("--images", images, "--quiet", "--picture", str(tmp_path / "p.svg"))
    assert (done.exit_code, done.stdout) == (0, "")
    ElementTree.parse(tmp_path / "p.svg")


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("p.gif", "p", "nowhere/p.svg"):
        done = console("--images", str(tmp_path), "--picture", str(tmp_path / name))
        assert done.exit_code == 1
        assert name in done.output


def test_a_picture_is_the_same_each_time_and_says_names_as_they_are(
    tmp_path: Path, counts: Counts
) -> None:
    for suffix in ("svg", "png", "jpg", "pdf"):
        first, second = (tmp_path / f"{n}.{suffix}" for n in "ab")
        draw(counts, first)
        draw(counts, second)
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size > 5000
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = "\n".join("".join(e.itertext()) for e in root.iter() if e.tag.endswith("text"))
    assert "a $x^2$ <b> & \ufffd[31m\ufffd" in texts
    assert "root of 1020" in texts
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: write(folder, [], []),
        lambda folder: write(folder, [], [], sources=[]),
        lambda folder: write(folder, [entity("Q1", "Q729")], [], sources=["url-list"]),
        lambda folder: write(folder, [entity("Q1")], [image("Q1", ["url-list"], file="A")]),
    ],
    ids=["no entities", "no sources", "no images", "no roots"],
)
def test_where_there_is_nothing_zeros_are_shown(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    found = count(make(tmp_path / "i"))
    assert list(lines(found, 80))
    assert list(as_lines(found))
    draw(found, tmp_path / "p.svg")
    ElementTree.parse(tmp_path / "p.svg")
