"""A dump becomes the same store however it is packed, shared out, killed and gone on with."""

from __future__ import annotations

import bz2
import gzip
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import build as build_module
from etl import engine
from etl.digest import digest_of
from etl.errors import UserError
from etl.estimate import estimate
from etl.ingest import ingest
from etl.kept import Kept, read_properties
from etl.manifest import read_manifest
from etl.plan import Options
from etl.store import EntityStore
from etl.verify import verify
from tests.etl import dumps
from tests.etl.kill_everywhere import KEPT_FULL
from tests.etl.mysqldump import redirect_dumps

KEPT = Kept(
    ("en", "en-gb", "mul"), {"P31": (), "P279": (), "P171": (), "P18": (), "P625": (), "P361": ()}
)


def options(**more: Any) -> Options:
    return Options(**{"kept": KEPT, "workers": 0, "quiet": True, **more})


def build(path: Path, store: Path, **more: Any) -> dict[str, Any]:
    return ingest((str(path),), store, options(**more))


def contents(store: Path) -> dict[str, Any]:
    """What identity is promised for: records and Parquet files, byte by byte."""
    manifest = read_manifest(store, "store")
    files = {n: d["sha256"] for n, d in manifest["outputs"].items() if n.endswith(".parquet")}
    assert manifest["contents"] == digest_of(store)
    return {"records": manifest["contents"], **files}


@pytest.fixture(scope="session")
def lines() -> list[bytes]:
    made = [dumps.as_line(e) for e in dumps.entities(600)]
    made.insert(100, b'{"type":"item","id":"Q77","labels":{broken')
    made.insert(300, b'{"type":"item","id":"not an id"}')
    return made


@pytest.fixture(scope="session")
def expected(lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("expected")
    build(dumps.write(folder / "dump.json", lines), folder / "store", slice_bytes=1 << 30)
    return contents(folder / "store")


@pytest.mark.parametrize("form", [".json", ".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_form_and_number_of_workers_gives_the_same_store(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], form: str, workers: int
) -> None:
    path = dumps.write(tmp_path / f"dump{form}", lines)
    build(path, tmp_path / "store", workers=workers, slice_bytes=20_000)
    assert contents(tmp_path / "store") == expected
    assert all(not check.problem for check in verify(tmp_path / "store"))
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == [
        ".lock", "data.mdb", "edges", "manifest.json", "names.parquet", "nodes.parquet",
        "rejects.ndjson",
    ]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 99), slice_bytes=st.integers(300, 40_000), batch=st.integers(1, 40))
def test_any_slicing_and_batching_gives_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, seed: int, slice_bytes: int, batch: int
) -> None:
    folder = tmp_path_factory.mktemp("slicing")
    made = [dumps.as_line(e) for e in dumps.entities(60, seed)]
    whole = dumps.write(folder / "whole.json", made)
    build(whole, folder / "whole", slice_bytes=1 << 30)
    path = dumps.write(folder / "cut.gz", made, batch)
    build(path, folder / "cut", slice_bytes=max(slice_bytes, path.stat().st_size // 40))
    assert contents(folder / "cut") == contents(folder / "whole")


def test_small_runs_and_batches_leave_no_trace(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 118M entities a slice writes many runs and the merge takes many batches."""
    monkeypatch.setattr("etl.runs.RUN_BYTES", 5_000)
    monkeypatch.setattr("etl.merge.BATCH_RECORDS", 64)
    monkeypatch.setattr("etl.merge._SAMPLE", 4)
    build(dumps.write(tmp_path / "dump.json", lines), tmp_path / "store", slice_bytes=50_000)
    assert contents(tmp_path / "store") == expected


def test_standard_input_gives_the_same_store(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    for form in (".json", ".gz", ".bz2", ".zst"):
        path = dumps.write(tmp_path / f"dump{form}", lines)
        properties = tmp_path / "properties.tsv"
        properties.write_text("".join(f"{p}\n" for p in KEPT.properties))
        with path.open("rb") as stdin:
            done = subprocess.run(
                [sys.executable, "-m", "cli", "etl", "-", "--store", str(tmp_path / form),
                 "--languages", "en,en-gb,mul", "--properties", str(properties)],
                stdin=stdin, capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / form) == expected


def test_parts_in_a_directory_are_one_dump(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    """As `split -l` leaves them: the bracket opens in the first part and closes in the last."""
    whole = dumps.text_of(lines).splitlines(keepends=True)
    (tmp_path / "parts").mkdir()
    for n, start in enumerate(range(0, len(whole), 200)):
        (tmp_path / "parts" / f"{n}.json").write_bytes(b"".join(whole[start : start + 200]))
    build(tmp_path / "parts", tmp_path / "store", workers=2)
    assert contents(tmp_path / "store") == expected


# --- killed and gone on with


def start(path: Path, store: Path, workers: int = 2) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from tests.etl.test_ingest import build\n"
        "if __name__ == '__main__':\n"
        f"    build(Path({str(path)!r}), Path({str(store)!r}), workers={workers},"
        " slice_bytes=8_000)\n"
    )
    script = store.parent / "run.py"
    script.write_text(code)
    with (store.parent / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def work_so_far(store: Path) -> int:
    return sum(1 for _ in store.glob("building/*")) + (store / "data.mdb").exists()


def wait_for_work(process: subprocess.Popen[bytes], store: Path, amount: int) -> None:
    """Until the store holds ``amount`` more pieces of work or the process has ended."""
    wanted = work_so_far(store) + amount
    while process.poll() is None and work_so_far(store) < wanted:
        os.sched_yield()


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_and_resumed_it_is_the_same_store(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], seed: int
) -> None:
    rng = random.Random(seed)
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    for _ in range(3):
        process = start(path, store)
        wait_for_work(process, store, rng.randint(1, 6))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = start(path, store)
    assert process.wait() == 0
    assert contents(store) == expected


@pytest.mark.parametrize("way", ["fresh", "finished", "restarted"])
def test_killed_before_each_change_of_the_file_system_it_can_be_gone_on_with(
    tmp_path: Path, lines: list[bytes], way: str
) -> None:
    """A new build, `--fresh` over a finished one, `--fresh` over a half-built one."""
    path = dumps.write(tmp_path / "dump.gz", lines[:150])
    command = [sys.executable, "-m", "tests.etl.kill_everywhere", str(path), str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"killed at \d+ places\n", done.stdout), done.stdout + done.stderr
    assert int(done.stdout.split()[2]) > 20


def test_killed_before_each_change_an_update_with_all_that_it_may_bring_can_be_gone_on_with(
    tmp_path: Path, lines: list[bytes]
) -> None:
    """From an older store, with whole entities and redirects."""
    older = dumps.write(tmp_path / "older.gz", lines[:50])
    build(older, tmp_path / "old", kept=KEPT_FULL)
    redirect_dumps(tmp_path, {"Q999999": "Q1", "Q999998": "Q999999", "P999": "P31"})
    path = dumps.write(tmp_path / "dump.gz", lines[20:62])
    command = [sys.executable, "-m", "tests.etl.kill_everywhere", str(path), str(tmp_path)]
    done = subprocess.run([*command, "updated"], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"killed at \d+ places\n", done.stdout), done.stdout + done.stderr
    assert int(done.stdout.split()[2]) > 40
    manifest = read_manifest(tmp_path / "store", "store")
    assert manifest["redirects"]["redirects"] == 3
    assert manifest["update"]["unchanged"] > 20
    assert all(not check.problem for check in verify(tmp_path / "store"))


def test_what_a_resume_goes_by_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut leaves slices of one dictionary beside an empty one."""
    path = dumps.write(tmp_path / "dump.gz", lines[:90])
    redirects, pages = redirect_dumps(tmp_path, {"Q999999": "Q1"})
    synced: set[str] = set()

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.add(re.sub(r"(\.\d+)?\.tmp$", "", os.path.basename(path)))

    monkeypatch.setattr("os.fsync", fsync)
    build(path, tmp_path / "old", kept=KEPT_FULL)
    assert {"plan.json", "full.dict", "run-0000.arrow", "report.json", "manifest.json"} <= synced
    more = {"update_from": tmp_path / "old", "redirects": redirects, "pages": pages}
    build(path, tmp_path / "new", kept=KEPT_FULL, **more)
    assert {"known.bin", "redirects.pairs"} <= synced


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_table_of_redirects_is_said_before_the_merge(
    tmp_path: Path, lines: list[bytes], workers: int
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines[:90]), tmp_path / "store"
    redirects, pages = redirect_dumps(
        tmp_path, {f"Q{n}": "Q1" for n in range(10**6, 10**6 + 60_000)}
    )
    whole = pages.read_bytes()
    tables = {"redirects": redirects, "pages": pages, "workers": workers}
    pages.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"page\.sql\.gz: .*Fetch the file again"):
        build(path, store, **tables)
    assert not (store / "building/merged").exists()
    pages.write_bytes(whole)  # fetched again: what was read of the dump is not read again
    manifest = build(path, store, **tables)
    assert manifest["redirects"]["redirects"] == 60_000
    assert manifest["seconds"]["slices_read_earlier"] > 0


def test_a_worker_that_is_killed_ends_the_run_with_a_sentence_and_can_be_gone_on_with(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    process = start(path, store)
    workers: list[int] = []
    while process.poll() is None and not workers:
        workers = [c for c in children(process.pid) if "spawn_main" in command_of(c)]
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait() == 1
    assert "a worker process was killed" in (tmp_path / "stderr").read_text()
    build(path, store, slice_bytes=8_000)
    assert contents(store) == expected


def test_a_worker_that_is_killed_while_the_next_starts_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = multiprocessing.get_context("spawn").Process
    begin = process.start
    begun: list[Any] = []

    def start(self: Any) -> None:
        for worker in begun[:1]:
            worker.kill()
            worker.join()
        for thread in threading.enumerate():
            if "ExecutorManager" in type(thread).__name__:  # it may see the death before we go on
                thread.join(5)
        begin(self)
        begun.append(self)

    monkeypatch.setattr(process, "start", start)
    with pytest.raises(UserError, match="a worker process was killed"), engine.Pool(2) as pool:
        list(pool.run(nothing, [1, 2], lambda _: None))
    assert len(begun) == 2


def nothing(item: int, _: Callable[[int], None]) -> int:
    return item


def test_workers_leave_when_the_run_is_killed(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines * 10), tmp_path / "store"
    process = start(path, store)
    wait_for_work(process, store, 2)
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        os.sched_yield()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def half_built(path: Path, store: Path) -> None:
    """A build that was stopped between its slices and its merge."""
    process = start(path, store)
    wait_for_work(process, store, 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (store / "manifest.json").exists()


def test_a_resume_with_another_dump_or_option_is_refused_and_says_which(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    half_built(path, store)
    with pytest.raises(UserError, match=r"other --languages \(-en, -en-gb, -mul, \+de\).*--fresh"):
        build(path, store, kept=Kept(("de",), KEPT.properties))
    with pytest.raises(UserError, match="another --max-line"):
        build(path, store, max_line=123)
    with pytest.raises(UserError, match=r"another slice_bytes \(8000, now 500\)"):
        build(path, store, slice_bytes=500)
    dumps.write(path, lines[:-1])
    with pytest.raises(UserError, match=r"another size of dump\.gz"):
        build(path, store)
    build(path, store, fresh=True)
    assert all(not check.problem for check in verify(store))


def test_a_finished_store_is_left_as_it_is(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    first = build(path, store)
    stamp = (store / "data.mdb").stat().st_mtime_ns
    assert build(path, store) == json.loads((store / "manifest.json").read_text())
    assert (store / "data.mdb").stat().st_mtime_ns == stamp
    assert first["contents"] == read_manifest(store, "store")["contents"]
    with pytest.raises(UserError, match="holds a finished store made with another --limit"):
        build(path, store, limit=3)


def test_redirects_that_a_finished_store_has_or_lacks_are_named(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines[:90])
    redirects, pages = redirect_dumps(tmp_path, {"Q999999": "Q1"})
    build(path, tmp_path / "without")
    build(path, tmp_path / "with", redirects=redirects, pages=pages)
    with pytest.raises(UserError, match="made with no --redirects and --pages; give"):
        build(path, tmp_path / "without", redirects=redirects, pages=pages)
    with pytest.raises(UserError, match="made with --redirects and --pages; give"):
        build(path, tmp_path / "with")


def test_a_second_run_on_a_store_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines * 10), tmp_path / "store"
    process = start(path, store)
    wait_for_work(process, store, 1)
    with pytest.raises(UserError, match=rf"written by another run \(process {process.pid}\)"):
        build(path, store)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_files_of_others_are_not_touched(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    store.mkdir()
    (store / "thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(UserError, match=r"not a store's \(thesis.tex\)"):
            build(path, store, fresh=fresh)
    assert (store / "thesis.tex").read_text() == "years of work"


# --- what it holds


def test_repeated_ids_keep_the_highest_revision_then_the_later_line(tmp_path: Path) -> None:
    def line(label: str, revision: int, target: str) -> bytes:
        made = {"type": "item", "id": "Q1", "labels": {"en": {"language": "en", "value": label}}}
        value = {"entity-type": "item", "id": target}
        claim = {"mainsnak": {"snaktype": "value", "property": "P31",
                 "datavalue": {"value": value, "type": "wikibase-entityid"}}}  # fmt: skip
        return dumps.as_line({**made, "claims": {"P31": [claim]}, "lastrevid": revision})

    ballast = [dumps.as_line(e) for e in dumps.entities(50)]
    made = [line("old", 5, "Q2"), *ballast, line("first", 9, "Q3"), *ballast, line("last", 9, "Q4")]
    for slice_bytes in (1 << 30, 3_000):
        store = tmp_path / str(slice_bytes)
        path = dumps.write(tmp_path / "dump.json", [*made, line("older", 2, "Q5")])
        manifest = build(path, store, slice_bytes=slice_bytes)
        with EntityStore(store) as opened:
            record = opened.get("Q1")
        assert record is not None
        assert record.labels == {"en": "last"}
        edges = pq.read_table(store / "edges" / "P31.parquet").to_pylist()
        assert [e["object"] for e in edges if e["subject"] == 1] == [4]
        assert manifest["counts"]["repeated"] >= 3


def test_nodes_and_edges_are_what_the_lines_say(tmp_path: Path) -> None:
    """Recounted from the JSON, without the reader."""
    made = dumps.entities(300, seed=5)
    newest: dict[str, dict[str, Any]] = {}
    for e in made:
        if e["type"] != "lexeme" and e["lastrevid"] >= newest.get(e["id"], e)["lastrevid"]:
            newest[e["id"]] = e
    path = dumps.write(tmp_path / "d.gz", [dumps.as_line(e) for e in made])
    build(path, tmp_path / "store", slice_bytes=9_000)
    nodes = pq.read_table(tmp_path / "store" / "nodes.parquet").to_pylist()
    assert [n["id"] for n in nodes] == sorted(
        (number(i) for i in newest), key=lambda n: (n > 0, abs(n))
    )
    for node in nodes:
        e = newest[f"Q{node['id']}" if node["id"] > 0 else f"P{-node['id']}"]
        assert node["sitelinks"] == len(e.get("sitelinks", ()))
        assert node["revision"] == e["lastrevid"]
        for code in KEPT.languages:
            assert node[f"label_{code}"] == (code in e["labels"])
        for p in KEPT.properties:
            assert node[p] == any(s["mainsnak"]["snaktype"] != "novalue" for s in best(e, p))
    for p in ("P31", "P279", "P171", "P361"):
        file = pq.ParquetFile(tmp_path / "store" / "edges" / f"{p}.parquet")
        rows = file.read().to_pylist()
        truthy = int(file.metadata.metadata[b"truthy_rows"])
        order = [n["id"] for n in nodes]
        in_order = sorted(newest.values(), key=lambda e: order.index(number(e["id"])))
        best_first = [r | {"truthy": True} for e in in_order for r in edges(e, p, best(e, p))]
        others = [
            r | {"truthy": False}
            for e in in_order
            for r in edges(e, p, [s for s in statements(e, p) if s not in best(e, p)])
        ]
        assert rows[:truthy] == best_first
        assert rows[truthy:] == others


def number(entity_id: str) -> int:
    return int(entity_id[1:]) * (1 if entity_id[0] == "Q" else -1)


def statements(e: dict[str, Any], p: str) -> list[dict[str, Any]]:
    return e["claims"].get(p, []) if isinstance(e["claims"], dict) else []


def best(e: dict[str, Any], p: str) -> list[dict[str, Any]]:
    found = statements(e, p)
    preferred = [s for s in found if s.get("rank") == "preferred"]
    return preferred or [s for s in found if s.get("rank", "normal") == "normal"]


def edges(e: dict[str, Any], p: str, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for s in found:
        if s["mainsnak"]["snaktype"] == "value":
            value = s["mainsnak"]["datavalue"]["value"]
            yield {
                "subject": number(e["id"]),
                "object": value["numeric-id"],
                "rank": s.get("rank", "normal"),
            }


def test_a_limit_reads_the_first_entities_only(tmp_path: Path, lines: list[bytes]) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines)
    manifest = build(path, tmp_path / "store", limit=50)
    assert manifest["counts"]["entities"] + manifest["counts"]["repeated"] == 50


# --- bad input


def rejects_of(store: Path) -> list[dict[str, Any]]:
    text = (store / "rejects.ndjson").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_rejects_are_quarantined_with_file_line_offset_and_reason(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines)
    manifest = build(path, tmp_path / "store", slice_bytes=20_000)
    rejects = rejects_of(tmp_path / "store")
    assert manifest["counts"]["rejects"] == len(rejects) == 2
    text = dumps.text_of(lines)
    for reject, (at, reason) in zip(rejects, [(100, "JSON"), (300, "not the id")], strict=True):
        line = lines[at] + b","
        assert reject["file"] == "dump.gz"
        assert text[reject["offset"] :].startswith(line)
        assert text[: reject["offset"]].count(b"\n") == reject["line"] - 1 == at + 1
        assert reject["bytes"] == len(line)
        assert reason in reject["reason"]
        assert reject["text"] == line.decode()


def test_more_rejects_than_allowed_end_the_run_and_fewer_do_not(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    with pytest.raises(UserError, match="--max-rejects"):
        build(path, store, max_rejects=1)
    assert not (store / "manifest.json").exists()
    build(path, store, max_rejects=2)
    assert (store / "manifest.json").exists()


def test_a_file_of_other_lines_is_given_up_early(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(b'{"level":"info","message":"hello"}\n' * 100_000)
    with pytest.raises(UserError, match="Is this a Wikidata JSON dump"):
        build(path, tmp_path / "store")


@pytest.mark.parametrize("form", [".gz", ".bz2", ".zst", ".json"])
def test_a_truncated_dump_is_damage_unless_allowed(
    tmp_path: Path, lines: list[bytes], form: str
) -> None:
    path, store = dumps.write(tmp_path / f"dump{form}", lines), tmp_path / "store"
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(UserError, match=r"the file ends inside.*--allow-damage|ends without `]`"):
        build(path, store)
    assert not (store / "manifest.json").exists()
    if form in (".bz2",):  # one block: nothing before the damage can be read
        return
    manifest = build(path, store, allow_damage=True)
    assert manifest["damage"][0]["path"] == str(path)
    assert manifest["counts"]["entities"] > 100
    assert all(not check.problem for check in verify(store))


@pytest.mark.parametrize("seed", range(6))
def test_nothing_of_a_corrupt_member_is_stored(tmp_path: Path, seed: int) -> None:
    """A flipped bit may change a label long before the checksum shows that something is wrong."""
    made = {e["id"]: e for e in dumps.entities(400) if e["type"] == "item"}
    lines = [dumps.as_line(e) for e in made.values()]
    path, store = dumps.write(tmp_path / "dump.gz", lines, batch=100), tmp_path / "store"
    raw = bytearray(path.read_bytes())
    rng = random.Random(seed)
    raw[rng.randrange(100, len(raw) - 100)] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"bytes [\d,]+-[\d,]+ is lost: .*--allow-damage"):
        build(path, store, slice_bytes=9_000)
    manifest = build(path, store, slice_bytes=9_000, allow_damage=True)
    assert len(manifest["damage"]) == 1
    assert 200 <= manifest["counts"]["items"] < len(made)
    with EntityStore(store) as opened:
        stored = [r for r in opened.get_many(made) if r is not None]
    assert len(stored) == manifest["counts"]["items"]
    for record in stored:
        assert record.revision == made[record.id]["lastrevid"]
        labels = made[record.id]["labels"] or {}
        assert record.labels == {c: labels[c]["value"] for c in KEPT.languages if c in labels}


def test_of_several_dumps_one_that_lost_its_end_is_noticed(
    tmp_path: Path, lines: list[bytes]
) -> None:
    (tmp_path / "two").mkdir()
    dumps.write(tmp_path / "two/a.json.gz", lines[:50])
    whole = dumps.write(tmp_path / "two/b.json.gz", lines[200:260], batch=20)
    members = whole.read_bytes().split(b"\x1f\x8b\x08")
    whole.write_bytes(b"\x1f\x8b\x08".join(members[:-3]))
    with pytest.raises(UserError, match="ends without `]`"):
        build(tmp_path / "two", tmp_path / "store")


def test_rejects_are_filed_under_their_own_dump_when_the_run_stops_early(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in "abc":
        bad = b"" if name == "a" else b'{"broken in %s"\n' % name.encode() * 60
        good = b'{"type":"item","id":"Q1","x":"%s"}\n' % (b"y" * 9000)
        (tmp_path / f"parts/{name}.json").write_bytes(good * (3000 if name == "a" else 1) + bad)
    with pytest.raises(UserError, match=r"lines can't be read, more than --max-rejects 100"):
        build(tmp_path / "parts", tmp_path / "store", workers=2)
    for reject in rejects_of(tmp_path / "store"):
        assert reject["file"][0] == reject["text"].split()[2][0]


def test_rejects_beyond_the_limit_are_read_again_when_it_is_raised(tmp_path: Path) -> None:
    good = b'{"type":"item","id":"Q1"}\n'
    (tmp_path / "dump.json").write_bytes(good + b"{broken\n" * 30)
    with pytest.raises(UserError, match="30 lines"):
        build(tmp_path / "dump.json", tmp_path / "store", max_rejects=5)
    manifest = build(tmp_path / "dump.json", tmp_path / "store", max_rejects=30)
    assert manifest["counts"]["rejects"] == len(rejects_of(tmp_path / "store")) == 30


def test_brackets_on_the_lines_of_entities_are_brackets(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(b'[{"type":"item","id":"Q1"},\n{"type":"item","id":"Q2"}]\n')
    assert build(path, tmp_path / "store")["counts"]["entities"] == 2
    path.write_bytes(b'[{"type":"item","id":"Q1"},\n{"type":"item","id":"Q2"},\n')
    with pytest.raises(UserError, match="ends without `]`"):
        build(path, tmp_path / "cut")


def test_members_that_begin_inside_lines_are_not_read_twice(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `split` and gzip leave them: a slice finds such a member by its checksum."""
    text = dumps.text_of(lines)
    step = len(text) // 12
    path = tmp_path / "dump.gz"
    pieces = [text[n : n + step] for n in range(0, len(text), step)]
    path.write_bytes(b"".join(gzip.compress(p, mtime=0) for p in pieces))
    calls: list[int] = []
    real = build_module.read_slice
    monkeypatch.setattr(
        build_module, "read_slice", lambda job, t: calls.append(job.slice.index) or real(job, t)
    )
    build(path, tmp_path / "store", slice_bytes=path.stat().st_size // 6)
    assert contents(tmp_path / "store") == expected
    assert calls == sorted(set(calls))


@pytest.mark.skipif(
    not Path(os.environ.get("SPARQLESS_REAL_DUMP", "")).is_file(),
    reason="SPARQLESS_REAL_DUMP names no file",
)
def test_the_real_dump_is_ingested_whole(tmp_path: Path) -> None:
    """Every item and property of it is stored or rejected; counted with plain json."""
    path = Path(os.environ["SPARQLESS_REAL_DUMP"])
    with bz2.open(path) as file:
        plain = [json.loads(x) for line in file if len(x := line.strip(b" \r\n,")) > 2]
    manifest = build(path, tmp_path / "store", kept=Kept(("en", "mul"), read_properties()))
    counts = manifest["counts"]
    assert counts["rejects"] == 0
    assert counts["items"] == len({e["id"] for e in plain if e["type"] == "item"})
    assert counts["properties"] == len({e["id"] for e in plain if e["type"] == "property"})
    others = Counter(e["type"] for e in plain if e["type"] not in ("item", "property"))
    assert counts["skipped"] == others


def test_a_dump_that_ends_between_members_is_damage(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(b"[\n" + b",\n".join(lines[:20]))
    with pytest.raises(UserError, match="ends without `]`"):
        build(path, tmp_path / "store")


def test_an_empty_array_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(b"[\n]\n")
    with pytest.raises(UserError, match="no item and no property"):
        build(path, tmp_path / "store")


def test_a_line_of_8_mb_is_simply_read(tmp_path: Path) -> None:
    long = dumps.entities(1)[0] | {"type": "item", "id": "Q5", "claims": {}, "x": "y" * 8_000_000}
    path = dumps.write(tmp_path / "dump.gz", [dumps.as_line(long)])
    assert build(path, tmp_path / "store")["counts"]["rejects"] == 0
    with EntityStore(tmp_path / "store") as store:
        assert store.get("Q5") is not None


def test_a_line_over_max_line_is_a_reject(tmp_path: Path, lines: list[bytes]) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines)
    build(path, tmp_path / "store", max_line=2_000, max_rejects=1000)
    reasons = [r["reason"] for r in rejects_of(tmp_path / "store")]
    assert sum("--max-line" in r for r in reasons) == sum(len(x) >= 2_000 for x in lines)


def limited_file_size(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_full_disk_is_said_and_the_build_goes_on_when_there_is_room(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], share: float
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    properties = tmp_path / "properties.tsv"
    properties.write_text("".join(f"{p}\n" for p in KEPT.properties))
    command = [
        sys.executable, "-m", "cli", "etl", str(path), "--store", str(store), "--quiet",
        "--languages", "en,en-gb,mul", "--properties", str(properties), "--workers", "1",
    ]  # fmt: skip
    whole = tmp_path / "whole"
    build(path, whole)
    largest = (whole / "data.mdb").stat().st_size
    done = subprocess.run(
        command,
        preexec_fn=lambda: limited_file_size(int(largest * share)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "is full" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (store / "manifest.json").exists()
    assert subprocess.run(command, check=False).returncode == 0
    assert contents(store) == expected


def test_lmdb_grows_its_map_when_the_guess_was_too_small(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl import merge

    real = merge.open_environment
    monkeypatch.setattr(merge, "open_environment", lambda d, map_size: real(d, map_size=65_536))
    build(dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store")
    assert contents(tmp_path / "store") == expected


def test_a_disk_without_room_is_said_before_the_work(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("etl.estimate.shutil.disk_usage", lambda path: usage)
    path = dumps.write(tmp_path / "dump.gz", lines)
    with pytest.raises(UserError, match=r"needs about .* MB"):
        build(path, tmp_path / "store")
    assert [p.name for p in (tmp_path / "store").iterdir()] == [".lock"]


def test_the_estimate_is_near_what_comes_out(tmp_path: Path) -> None:
    made = [dumps.as_line(e) for e in dumps.entities(3000)]
    path, store = dumps.write(tmp_path / "dump.gz", made, 50), tmp_path / "store"
    expected = estimate((str(path),), store, options())
    counts = build(path, store)["counts"]
    assert expected is not None
    assert expected.entities == pytest.approx(counts["entities"], rel=0.3)
    assert expected.json_bytes == pytest.approx(counts["json_bytes"], rel=0.3)


def test_more_runs_than_files_may_be_open(
    tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    """The soft limit, 1,024 mostly, is raised for the merge; a hard one is said."""
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from etl import merge\n"
        "merge._OTHER_FILES = 30\n"
        "from tests.etl.test_ingest import build\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (60, int(sys.argv[1])))\n"
        f"build(Path({str(path)!r}), Path({str(store)!r}), slice_bytes=300)\n"
    )
    for hard, worked in ((100, False), (5000, True)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(hard)], capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == worked, done.stderr
        assert worked or "open files and this system allows 100" in done.stderr
    assert contents(store) == expected


def test_a_dump_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dumps.write(tmp_path / "dump.json", lines)
    real = build_module.read_slice

    def grow(job: Any, tick: Any) -> Any:
        with path.open("ab") as file:
            file.write(b"\n")
        return real(job, tick)

    monkeypatch.setattr(build_module, "read_slice", grow)
    with pytest.raises(UserError, match="changed while it was read"):
        build(path, tmp_path / "store")


def test_a_table_of_redirects_that_changes_before_it_is_read_is_noticed(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dumps.write(tmp_path / "dump.json", lines[:90])
    redirects, pages = redirect_dumps(tmp_path, {"Q999999": "Q1"})
    real = build_module.check_ends

    def meanwhile(*arguments: Any) -> None:
        redirect_dumps(tmp_path, {"Q999999": "Q1", "Q888888": "Q2"})
        real(*arguments)

    monkeypatch.setattr(build_module, "check_ends", meanwhile)
    with pytest.raises(UserError, match=r"redirect\.sql\.gz was changed while it was read"):
        build(path, tmp_path / "store", redirects=redirects, pages=pages)


def test_a_pipe_is_not_taken_for_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dump.json")
    with pytest.raises(UserError, match="give `-`"):
        build(tmp_path / "dump.json", tmp_path / "store")


@pytest.mark.parametrize("name", ["edges/P279.parquet", "nodes.parquet", "data.mdb"])
def test_a_store_that_lost_a_file_is_refused_by_every_reader(
    tmp_path: Path, lines: list[bytes], name: str
) -> None:
    """An incomplete copy must not look like a Wikidata without that property."""
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    build(path, store)
    whole = (store / name).read_bytes()
    (store / name).write_bytes(whole[: len(whole) // 2])
    for use in (lambda: EntityStore(store), lambda: build(path, store)):
        with pytest.raises(UserError, match=f"damaged: {name}.*--fresh"):
            use()
    (store / name).unlink()
    with pytest.raises(UserError, match=f"damaged: {name}"):
        EntityStore(store)
    build(path, store, fresh=True)
    EntityStore(store).close()


def test_a_dump_that_was_renamed_copied_or_touched_is_the_same_dump(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    half_built(path, store)
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "renamed.gz")
    os.utime(moved, (1, 1))
    build(moved, store, slice_bytes=8_000)
    os.utime(moved, (2, 2))
    build(moved, store)
    assert all(not check.problem for check in verify(store))


def test_a_dump_named_twice_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path = str(dumps.write(tmp_path / "dump.gz", lines))
    with pytest.raises(UserError, match="named twice"):
        ingest((path, path), tmp_path / "store", options())


def test_a_store_that_is_a_file_is_said(tmp_path: Path, lines: list[bytes]) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines)
    (tmp_path / "store").write_text("")
    with pytest.raises(UserError, match="is a file"):
        build(path, tmp_path / "store")


def test_a_store_of_another_format_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    build(path, store)
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UserError, match="store of format 99, this version reads format"):
        EntityStore(store)


def test_verify_looks_at_nothing_outside_the_directory(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    manifest = build(path, store)
    for name in ("/etc/hostname", "../dump.gz"):
        changed = {**manifest, "outputs": {name: {"bytes": 1, "sha256": ""}}}
        (store / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match="don't trust it"):
            verify(store)


def test_verify_names_the_file_in_which_a_byte_changed(tmp_path: Path, lines: list[bytes]) -> None:
    path, store = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "store"
    build(path, store)
    rng = random.Random(3)
    for name in ("data.mdb", "nodes.parquet", "edges/P31.parquet", "rejects.ndjson"):
        whole = (store / name).read_bytes()
        at = rng.randrange(len(whole))
        changed = bytearray(whole)
        changed[at] ^= 1
        (store / name).write_bytes(changed)
        wrong = [c.name for c in verify(store) if c.problem]
        assert wrong[0] == name
        (store / name).write_bytes(whole)
    manifest = (store / "manifest.json").read_bytes()
    (store / "manifest.json").write_bytes(manifest.replace(b'"rejects": 2', b'"rejects": 1'))
    assert [c.name for c in verify(store) if c.problem] == ["manifest.json"]
    (store / "manifest.json").write_bytes(manifest)
    (store / "nodes.parquet").unlink()
    assert [(c.name, c.problem) for c in verify(store) if c.problem] == [
        ("nodes.parquet", "is missing")
    ]
