"""Redirects: who leads where, by plain dictionaries; what is left out, counted and refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UserError
from etl.merged_ids import Redirects
from etl.redirects import (
    RedirectJob,
    build_redirects,
    find_redirect_dumps,
    read_counts,
    read_redirects,
)
from tests.console import run
from tests.etl.mysqldump import Value, page_table, redirect_dumps, redirect_table, table_of

# number -> (namespace, title, is it a redirect)
Pages = dict[int, tuple[int, bytes, int]]

SPACES = [0, 0, 0, 0, 0, 0, 120, 120, 146, 1, 2, 4]
TITLES = [b"Q%d" % n for n in range(1, 9)] + [b"P%d" % n for n in range(1, 5)]
TITLES += [b"L1", b"Q0", b"Q01", b"Q", b"Talk:Q1", b"Q1'", b"Bob's_(\\)", b"Q36028797018963968"]


@st.composite
def wikis(draw: st.DrawFn) -> tuple[Pages, list[list[Value]]]:
    """Pages, each title once in its namespace, and rows of `redirect`."""
    named = draw(
        st.lists(
            st.tuples(st.sampled_from(SPACES), st.sampled_from(TITLES)),
            unique=True,
            min_size=1,
            max_size=20,
        )
    )
    numbers = draw(st.permutations(range(1, len(named) + 1)))
    flags = draw(st.lists(st.sampled_from([1, 1, 1, 0]), min_size=len(named), max_size=len(named)))
    pages = {n: (*page, flag) for n, page, flag in zip(numbers, named, flags, strict=True)}
    sources = draw(st.lists(st.integers(1, len(named) + 1), unique=True, max_size=20))
    rows: list[list[Value]] = [
        [
            n,
            *draw(
                st.sampled_from(named) | st.tuples(st.sampled_from(SPACES), st.sampled_from(TITLES))
            ),
            draw(st.sampled_from([b"", b"", b"", None, b"en"])),
            draw(st.sampled_from([b"", None, b"a'b"])),
        ]
        for n in sources
    ]
    return pages, rows


def id_of(space: int, title: bytes) -> str | None:
    """The id that a page of wikidata.org is about."""
    letter = {0: b"Q", 120: b"P"}.get(space)
    if letter is None or title[:1] != letter or not title[1:].isdigit() or title[1:2] == b"0":
        return None
    return title.decode() if int(title[1:]) < 2**55 else None


def number(id: str) -> int:
    return int(id[1:]) if id[0] == "Q" else -int(id[1:])


def expected(pages: Pages, rows: list[list[Value]], records: set[str]) -> dict[str, object]:
    """What of a wiki becomes the table, and the counts of the rest."""
    counts = dict.fromkeys(("pageless", "lexemes", "others", "dropped"), 0)
    leads: dict[str, str] = {}
    for page, space, title, interwiki, _ in rows:
        if page not in pages or not pages[page][2]:
            counts["pageless"] += 1
            continue
        source = id_of(*pages[page][:2])
        target = id_of(space, title) if not interwiki else None
        if source is None:
            counts["lexemes" if pages[page][0] == 146 else "others"] += 1
        elif target is None or target[0] != source[0]:
            counts["dropped"] += 1
        else:
            leads[source] = target
    counts["rows"] = len(rows)
    counts["overruled"] = len(leads.keys() & records)
    left = {a: b for a, b in leads.items() if a not in records}
    table: dict[str, str] = {}
    counts["chains"] = 0
    for id in left:
        seen, end = {id}, left[id]
        while end in left and end not in seen:
            seen.add(end)
            end = left[end]
        if end not in left:
            table[id] = end
            counts["chains"] += len(seen) > 1
    counts["redirects"] = len(table)
    counts["cycles"] = len(left) - len(table)
    return {"leads": leads, "table": table, "counts": counts}


def store_with(folder: Path, records: set[str]) -> Path:
    """What a merge leaves, as far as redirects look at it."""
    folder.mkdir(exist_ok=True)
    ids = sorted((number(id) for id in records), key=lambda n: (n > 0, abs(n)))
    pq.write_table(
        pa.table({"id": pa.array(ids, pa.int64())}), folder / "nodes.parquet", row_group_size=3
    )
    with lmdb.open(str(folder), max_dbs=8, map_size=1 << 20) as environment:
        environment.open_db(b"entities", create=True)
    return folder


def looked_up(store: Path) -> dict[str, str]:
    with lmdb.open(str(store), max_dbs=8, readonly=True, lock=False) as environment:
        database = environment.open_db(b"redirects", create=False)
        with environment.begin(db=database) as transaction:
            return {
                f"{chr(key[0])}{int.from_bytes(key[1:], 'big')}": value.decode()
                for key, value in transaction.cursor()
            }


def job_of(folder: Path, pages: bytes, redirects: bytes) -> RedirectJob:
    (folder / "page.sql.gz").write_bytes(gzip.compress(pages, 1))
    (folder / "redirect.sql.gz").write_bytes(gzip.compress(redirects, 1))
    names = ("redirect.sql.gz", "page.sql.gz", "pairs.parquet")
    return RedirectJob(*(str(folder / name) for name in names))


@given(wikis(), st.sets(st.sampled_from([t.decode() for t in TITLES[:12]])), st.booleans())
def test_the_table_is_what_following_every_redirect_gives(
    tmp_path_factory, wiki: tuple[Pages, list[list[Value]]], records: set[str], per_line: bool
) -> None:
    pages, rows = wiki
    wanted = expected(pages, rows, records)
    folder = tmp_path_factory.mktemp("wiki")
    all_pages = page_table([(n, *page) for n, page in pages.items()], per_line=per_line)
    job = job_of(folder, all_pages, redirect_table(rows, per_line=per_line))
    if not wanted["leads"] or 2 * wanted["counts"]["pageless"] > len(rows):
        with pytest.raises(UserError):
            read_redirects(job, lambda _: None)
        assert {p.name for p in folder.iterdir()} == {"page.sql.gz", "redirect.sql.gz"}
        return
    ticks: list[int] = []
    counts = read_redirects(job, ticks.append)
    assert sum(ticks) == sum(p.stat().st_size for p in folder.glob("*.gz"))
    assert read_counts(Path(job.out)) == counts
    assert read_redirects(job, ticks.append) == counts  # what is there is not read again

    store = store_with(folder / "store", records)
    assert build_redirects(Path(job.out), store) == wanted["counts"]
    found = pq.read_table(store / "redirects.parquet").to_pylist()
    table = wanted["table"]
    in_key_order = sorted(table, key=lambda id: (id[0], int(id[1:])))
    assert found == [{"id": number(a), "target": number(table[a])} for a in in_key_order]
    assert looked_up(store) == table


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    """An old dump: restrictions and a counter before the flag, and flags of other meaning."""
    columns = [
        "page_namespace", "page_title", "page_restrictions", "page_counter", "page_is_new",
        "page_is_redirect", "page_id",
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [0, b"Q1", b"edit=sysop:move='1'", 5, 1, 0, 11],
        [0, b"Q2", b"", 5, 0, 1, 12],
        [1, b"Q3", b"", 5, 0, 1, 13],
    ]
    leads = redirect_table([[12, 0, b"Q1", None, None], [13, 1, b"Q1", None, None]])
    job = job_of(tmp_path, table_of("page", columns, rows), leads)
    counts = read_redirects(job, lambda _: None)
    assert counts == {"rows": 2, "pageless": 0, "lexemes": 0, "others": 1, "dropped": 0}
    store = store_with(tmp_path / "store", {"Q1"})
    build_redirects(Path(job.out), store)
    assert looked_up(store) == {"Q2": "Q1"}


def test_chains_and_cycles_of_any_length(tmp_path: Path) -> None:
    chain = {f"Q{n}": f"Q{n + 1}" for n in range(1, 1000)}
    ring = {f"Q{2000 + n}": f"Q{2000 + (n + 1) % 37}" for n in range(37)}
    into_the_ring = {"Q3000": "Q2000", "Q3001": "Q3000", "P5": "P5", "P6": "P7"}
    redirects, pages = redirect_dumps(tmp_path, {**chain, **ring, **into_the_ring})
    out = tmp_path / "pairs.parquet"
    read_redirects(RedirectJob(str(redirects), str(pages), str(out)), lambda _: None)
    store = store_with(tmp_path / "store", {"Q1000", "Q500"})
    counts = build_redirects(out, store)
    assert (counts["redirects"], counts["chains"], counts["cycles"]) == (999, 996, 40)
    ends = {f"Q{n}": "Q500" if n < 500 else "Q1000" for n in range(1, 1000) if n != 500}
    assert looked_up(store) == {**ends, "P6": "P7"}


def test_arrays_follow_what_the_table_says(tmp_path: Path) -> None:
    redirects, pages = redirect_dumps(tmp_path, {"Q5": "Q1", "Q3": "Q1", "P5": "P1", "P9": "P1"})
    out = tmp_path / "pairs.parquet"
    read_redirects(RedirectJob(str(redirects), str(pages), str(out)), lambda _: None)
    store = store_with(tmp_path / "store", {"Q1"})
    build_redirects(out, store)
    table = Redirects.load(store, ["redirects.parquet"])
    assert len(table) == 4
    ids = pa.array([5, 4, 3, 1, -5, -9, -1, 10**12]).to_numpy()
    assert table.followed(ids).tolist() == [1, 4, 1, 1, -1, -1, -1, 10**12]
    assert table.leading_to(pa.array([1, 7]).to_numpy()).tolist() == [3, 5]
    none = Redirects.load(store, [])
    assert none.followed(ids).tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("pages", "leads", "sentence"),
    [
        ([(1, 0, b"Q1", 1)], [[2, 0, b"Q2", b"", b""]], "the two tables of one dump"),
        ([(1, 0, b"Berlin", 1)], [[1, 0, b"Bonn", b"", b""]], "the tables of wikidatawiki"),
        ([], [], "the tables of wikidatawiki"),
    ],
)
def test_tables_of_another_wiki_are_refused(tmp_path: Path, pages, leads, sentence: str) -> None:
    job = job_of(tmp_path, page_table(pages), redirect_table(leads))
    with pytest.raises(UserError, match=sentence):
        read_redirects(job, lambda _: None)
    assert not Path(job.out).exists()


def test_the_tables_in_each_others_place_are_refused(tmp_path: Path) -> None:
    redirects, pages = redirect_dumps(tmp_path, {"Q2": "Q1"})
    job = RedirectJob(str(pages), str(redirects), str(tmp_path / "pairs.parquet"))
    with pytest.raises(UserError, match="holds the table `page`, not `redirect`"):
        read_redirects(job, lambda _: None)


def test_dumps_are_described_for_the_plan(tmp_path: Path) -> None:
    redirects, pages = redirect_dumps(tmp_path, {"Q2": "Q1"})
    first, second = find_redirect_dumps(redirects, pages)
    assert (first.path, first.form, first.size) == (str(redirects), "gz", redirects.stat().st_size)
    assert second.path == str(pages)
    redirect_dumps(tmp_path, {"Q2": "Q3"})
    assert find_redirect_dumps(redirects, pages)[0].digest != first.digest
    assert find_redirect_dumps(None, None) == []


def test_what_can_be_seen_before_the_work_is_refused_then(tmp_path: Path) -> None:
    redirects, pages = redirect_dumps(tmp_path, {"Q2": "Q1"})
    with pytest.raises(UserError, match="--redirects needs --pages too"):
        find_redirect_dumps(redirects, None)
    with pytest.raises(UserError, match="--pages needs --redirects too"):
        find_redirect_dumps(None, pages)
    with pytest.raises(UserError, match="holds the table `page`, not `redirect`"):
        find_redirect_dumps(pages, redirects)
    (tmp_path / "dump.json").write_text("[\n")
    with pytest.raises(UserError, match="no CREATE TABLE `page`"):
        find_redirect_dumps(redirects, tmp_path / "dump.json")
    with pytest.raises(UserError, match=r"nothing\.sql\.gz: no such file"):
        find_redirect_dumps(tmp_path / "nothing.sql.gz", pages)


def test_a_store_is_built_with_redirects_and_its_command_is_refused_without(tmp_path: Path) -> None:
    """Through the command line: options, counts, look-ups, and what a second run compares."""
    value = {"entity-type": "item", "id": "Q3", "numeric-id": 3}
    snak = {
        "snaktype": "value",
        "property": "P31",
        "datavalue": {"value": value, "type": "wikibase-entityid"},
    }
    lines = [
        {"type": "item", "id": "Q1", "labels": {"en": {"language": "en", "value": "dog"}}},
        {"type": "item", "id": "Q2", "claims": {"P31": [{"mainsnak": snak, "rank": "normal"}]}},
    ]
    text = ",\n".join(json.dumps(line) for line in lines)
    (tmp_path / "dump.json").write_text(f"[\n{text}\n]\n")
    redirect_dumps(tmp_path, {"Q2": "Q1", "Q3": "Q4", "Q4": "Q1", "Q5": "Q5"})
    tables = "--redirects redirect.sql.gz --pages page.sql.gz"
    done = run(f"etl dump.json --store store {tables} --json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["redirects"] == {
        "rows": 4, "pageless": 0, "lexemes": 0, "others": 0, "dropped": 0, "overruled": 1,
        "cycles": 1, "chains": 1, "redirects": 2,
    }  # fmt: skip
    assert run("verify store", tmp_path).returncode == 0
    assert run("closure Q1 --path P31 --store store", tmp_path).stdout == "Q2\n"
    assert "stood already" in run(f"etl dump.json --store store {tables}", tmp_path).stdout
    without = run("etl dump.json --store store", tmp_path)
    assert without.returncode == 1
    redirect_dumps(tmp_path, {"Q3": "Q1"})
    others = run(f"etl dump.json --store store {tables}", tmp_path)
    assert others.returncode == 1
    assert "redirect.sql.gz" in others.stderr
    for option in ("--redirects redirect.sql.gz", "--pages page.sql.gz"):
        alone = run(f"etl dump.json --store other {option}", tmp_path)
        assert alone.returncode == 1
        assert "too: table `redirect` has the numbers" in alone.stderr
