"""From candidates to URLs, and from the log to what is wanted; each against a plain twin."""

from __future__ import annotations

import hashlib
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import download.fetch.plan
from download.fetch.addresses import BadURLError, normal
from download.fetch.journal import make_folders
from download.fetch.log import RESULTS_FILE, Row, log_file, part_name, table_of
from download.fetch.outcomes import rule
from download.fetch.plan import Plan, Urls, planned
from download.fetch.state import State
from download.fetch.url_form import normal_all
from etl.tables import write_table

Addresses = list[list[str]]


def plan_of(folder: Path, addresses: Addresses, scores: list[float] | None = None) -> Plan:
    rows = {
        "url": pa.array([urls[0] for urls in addresses], pa.string()),
        "fallback_urls": pa.array([urls[1:] or None for urls in addresses], pa.list_(pa.string())),
        "score": pa.array(scores or [1.0] * len(addresses), pa.float32()),
    }
    pq.write_table(pa.table(rows), folder / "candidates.parquet")
    (folder / "work").mkdir(exist_ok=True)
    make_folders(folder / "f")
    return planned(
        folder / "candidates.parquet", folder / "f", {"of": str(addresses)}, group_of,
        folder / "work", quiet=True,
    )  # fmt: skip


def group_of(url: str) -> str:
    return url.split("/")[2].rpartition(".")[2] if "://" in url else ""


def url_hash(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()[:16]


def rows_of(plan: Plan) -> list[tuple[str, str, float]]:
    """(group, url, priority) of each row."""
    table = pa.ipc.open_file(plan.folder / "urls.arrow").read_all()
    groups = [""] * plan.urls
    for found in plan.groups().to_pylist():
        for row in range(found["start"], found["start"] + found["rows"]):
            groups[row] = found["group"]
    return list(zip(groups, table["url"].to_pylist(), table["priority"].to_pylist(), strict=True))


# --- addresses ----------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["http://", "https://", "HTTP://", "ftp://", "a.org", "A.Org", "xn--a.de", "ä.de", "1.2.3.4",
     "a..b", "-a.org", "a-.org", "localhost", "0x7f.1", "x" * 64 + ".org", ":80", ":443", "@", "/",
     "//", "/a b", "/ä", "/%41", "/%4", "%", "?", "?q=%zz", "#f", " ", "\t", "[::1]", "[", "]", "|",
     "'", "\\", "/..", "/a.jpg", "a" * 42 + ".org", ".", "_b.org"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=6).map("".join) | st.text(max_size=12))
@settings(max_examples=500)
def test_addresses_by_the_million_are_as_one_by_one(url: str) -> None:
    try:
        expected: str | None = normal(url)
    except BadURLError as error:
        expected = url.strip() if str(error) == "scheme" else None
    try:
        array = pa.array([url, "http://a.org/x", None], pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair stands in no table
        return
    assert normal_all(array).to_pylist() == [expected, "http://a.org/x", None]


def test_an_address_that_is_too_long_is_none() -> None:
    long = "https://a.org/" + "x" * 8000
    assert normal_all(pa.array([long, "data:" + "x" * 8000])).to_pylist() == [None, None]


# --- the plan -----------------------------------------------------------------------------------


def test_each_url_stands_once_by_group_and_best_first(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        [
            ["http://a.z/1", "http://b.y/1"],
            ["http://a.z/2"],
            ["http://a.z/1"],
            ["no url"],
            ["http://a.z/3", "http://a.z/3#again", "http://b.y/1"],
        ],
        [0.25, 0.5, 1.0, 1.0, 0.125],
    )
    assert rows_of(plan) == [
        ("y", "http://b.y/1", 0.0),
        ("z", "http://a.z/1", 1.0),
        ("z", "http://a.z/2", 0.5),
        ("z", "http://a.z/3", 0.125),
    ]
    links = [
        (int(c), int(p), int(u)) for piece in plan.links() for c, p, u in zip(*piece, strict=True)
    ]
    assert links == [(0, 0, 1), (0, 1, 0), (1, 0, 2), (2, 0, 1), (4, 0, 3), (4, 2, 0)]


def test_a_row_is_found_by_its_hash_and_read_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.fetch.plan, "BATCH", 7)
    addresses = [[f"http://h{n % 5}.g{n % 3}/{n}"] for n in range(50)]
    plan = plan_of(tmp_path, addresses)
    urls = Urls(plan.folder)
    listed = [url for _, url, _ in rows_of(plan)]
    assert [urls[row] for row in range(50)] == [(url_hash(url), url) for url in listed]
    hashes = [url_hash(url) for url in listed] + [bytes(16), b"\xff" * 16]
    found = plan.rows(pa.array(hashes, pa.binary(16)))
    assert found.tolist() == [*range(50), -1, -1]


def test_urls_whose_hashes_begin_alike_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alike:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def digest(self) -> bytes:
            return bytes(8) + hashlib.md5(self._data).digest()

    monkeypatch.setattr(download.fetch.plan.hashlib, "sha256", Alike)
    plan = plan_of(tmp_path, [[f"http://a.b/{n}"] for n in range(20)])
    listed = [url for _, url, _ in rows_of(plan)]
    hashes = [Alike(url.encode()).digest()[:16] for url in listed]
    assert plan.rows(pa.array([*hashes, bytes(16)], pa.binary(16))).tolist() == [*range(20), -1]


def test_a_plan_is_made_again_where_it_is_of_other_candidates(tmp_path: Path) -> None:
    first = plan_of(tmp_path, [["http://a.b/1"]])
    made = (first.folder / "plan.json").stat().st_mtime_ns
    assert (plan_of(tmp_path, [["http://a.b/1"]]).folder / "plan.json").stat().st_mtime_ns == made
    assert plan_of(tmp_path, [["http://a.b/1"], ["http://a.b/2"]]).urls == 2


def test_equal_candidates_give_equal_plans(tmp_path: Path) -> None:
    addresses = [[f"http://h{n * 7 % 11}.g{n % 4}/{n % 80}", f"http://x.y/{n}"] for n in range(200)]
    plans = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        plans.append(plan_of(tmp_path / name, addresses).folder)
    for file in plans[0].iterdir():
        assert file.read_bytes() == (plans[1] / file.name).read_bytes()


# --- what the log says --------------------------------------------------------------------------

_REASONS = ("ok", "http_404", "http_503", "x_robots", "connect", "moved", "not_an_image", "robots")


def entry(url: str, reason: str, run: int, *, final: bool = True) -> Row:
    is_ok = reason == "ok"
    return Row(
        url_hash=url_hash(url), url=url, run=run, attempt=1, at=0, seconds=0.0,
        outcome=rule(reason).outcome, reason=reason, final=final,
        sha256=hashlib.sha256(url.encode()).digest() if is_ok else None,
        next_url=f"{url}/there" if reason == "moved" else None, hops=int(reason == "moved"),
    )  # fmt: skip


class Twin:
    """What a log of rows, in order, says of candidates: in dictionaries."""

    def __init__(self, entries: list[Row], since: int, retry: set[str]) -> None:
        self.last: dict[bytes, str] = {}
        for found in entries:
            if found.final:
                retried = found.run < since and found.outcome in retry
                self.last[found.url_hash] = "" if retried else found.reason

    def candidate(self, urls: list[str]) -> tuple[str, int | None, str]:
        """(reason, place, url) of the address that decides."""
        decided: tuple[str, int | None, str] = ("bad_url", None, "")
        seen = set()
        for place, address in enumerate(urls):
            try:
                url = normal(address)
            except BadURLError as error:
                if str(error) != "scheme":
                    continue
                url = address
            if url in seen:
                continue
            seen.add(url)
            decided = self.last.get(url_hash(url), ""), place, url
            if not decided[0] or not rule(decided[0]).falls_back:
                return decided
        return decided


_URLS = [f"http://h{n}.g/{n}" for n in range(8)] + ["not one", "ftp://x/y"]


@given(
    st.lists(st.lists(st.sampled_from(_URLS), min_size=1, max_size=4), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.sampled_from(_URLS[:8]), st.sampled_from(_REASONS), st.booleans(),
                  st.integers(1, 3)),
        max_size=25,
    ),
    st.sets(st.sampled_from(["transient", "permanent", "refused"])),
    st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=40)
def test_candidates_are_decided_as_in_a_plain_twin(
    addresses: Addresses,
    said: list[tuple[str, str, bool, int]],
    retry: set[str],
    since: int,
) -> None:
    # of one run: what moved first, then what came of it; one last word each
    entries, done = [], set()
    for url, reason, final, run in sorted(said, key=lambda s: (s[3], s[1] != "moved")):
        if (url, run, reason == "moved") not in done:
            entries.append(entry(url, reason, run, final=final or reason == "moved"))
            if entries[-1].final:
                done.add((url, run, reason == "moved"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_of(folder, addresses)
        write_log(folder / "f", entries)
        digests = np.zeros(max(plan.urls, 1), "V32")
        state = State(plan, folder / "f", since, sorted(retry), digests)
        twin = Twin(entries, since, retry)
        decided = [twin.candidate(urls) for urls in addresses]
        wanted = state.wanted()
        names = {url for (_, url, _), w in zip(rows_of(plan), wanted, strict=True) if w}
        assert names == {url for reason, _, url in decided if reason in ("", "moved")}
        moved = {rows_of(plan)[found.row][1]: found.url for found in state.moved(wanted)}
        assert moved == {url: f"{url}/there" for reason, _, url in decided if reason == "moved"}
        counts = state.results(folder / RESULTS_FILE, len(addresses))
        found = pq.read_table(folder / RESULTS_FILE).to_pylist()
        assert [(row["reason"] or "", row["place"]) for row in found] == [d[:2] for d in decided]
        assert sum(counts.values()) == len(addresses)
        for row, (reason, _, url) in zip(found, decided, strict=True):
            assert row["outcome"] == (rule(reason).outcome if reason else None)
            expected = hashlib.sha256(url.encode()).digest() if reason == "ok" else None
            assert row["sha256"] == expected


def write_log(fetches: Path, entries: list[Row]) -> None:
    """Rows in parts: those of a run in parts whose names are in no order that means anything."""
    rng = random.Random(len(entries))
    for run in {found.run for found in entries}:
        of_run = [found for found in entries if found.run == run]
        cut = rng.randint(0, len(of_run))
        workers = rng.sample((0, 1), 2)
        moved = [found for found in of_run if found.reason == "moved"]
        others = [found for found in of_run if found.reason != "moved"]
        pieces = (moved, others) if moved else (of_run[:cut], of_run[cut:])
        names = workers if moved else sorted(workers)
        for worker, piece in zip(names, pieces, strict=True):
            write_table(log_file(fetches, part_name(run, worker, 0)), table_of(piece))


def test_attempts_of_the_run_that_goes_on_are_counted(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [["http://a.b/1"]])
    entries: list[Any] = [
        entry("http://a.b/1", "http_503", 1, final=False),
        entry("http://a.b/1", "http_503", 2, final=False),
        entry("http://a.b/1", "http_503", 3, final=False),
    ]
    write_log(tmp_path / "f", entries)
    assert State(plan, tmp_path / "f", 2).tried.tolist() == [2]


def test_what_came_since_is_taken_in(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [["http://a.b/1"], ["http://a.b/2"]])
    state = State(plan, tmp_path / "f", 1)
    assert state.wanted().tolist() == [True, True]
    table = table_of([entry("http://a.b/1", "ok", 1), entry("http://gone.b/", "ok", 1)])
    write_table(log_file(tmp_path / "f", part_name(1, 0, 0)), table)
    state.update()
    assert sorted(state.wanted().tolist()) == [False, True]
    assert state.counts() == {"": 1, "ok": 1}
