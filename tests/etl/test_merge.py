"""The merge beside a dict: runs of any keys in, records in order out; and what stops it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import merge as module
from etl.kept import Kept
from etl.lanes import BATCHES_AHEAD
from etl.merge import merge
from etl.runs import EDGE_SCHEMA, record_schema

KEPT = Kept(("en", "mul"), {f"P{n}": () for n in range(1, 9)}, full=True)
FLAGS = 10


class Row(NamedTuple):
    """One record of a run, made up without reading anything."""

    key: int
    revision: int
    sitelinks: int
    flags: int
    value: bytes
    full: bytes
    edges: list[tuple[int, int, int, bool]]


def key_of(entity_id: str) -> int:
    return int.from_bytes(entity_id[:1].encode() + int(entity_id[1:]).to_bytes(7, "big"), "big")


ROWS = st.builds(
    Row,
    key=st.tuples(st.sampled_from("QP"), st.integers(1, 40)).map(lambda t: key_of(f"{t[0]}{t[1]}")),
    revision=st.integers(0, 3),
    sitelinks=st.integers(0, 9),
    flags=st.integers(0, 2**FLAGS - 1),
    value=st.builds(lambda piece, n: piece * n, st.binary(max_size=3), st.sampled_from([1, 900])),
    full=st.binary(max_size=3),
    edges=st.lists(
        st.tuples(
            st.integers(0, 7), st.integers(1, 99), st.integers(0, 2), st.booleans()
        ),
        max_size=3,
    ),
)  # fmt: skip
RUNS = st.lists(st.lists(ROWS, min_size=1, max_size=8, unique_by=lambda row: row.key), max_size=5)


def write_run(path: Path, rows: list[Row]) -> Path:
    """A run as the workers write it: sorted by key."""
    rows = sorted(rows, key=lambda row: row.key)
    columns = [
        [r.key for r in rows],
        [r.revision for r in rows],
        [r.sitelinks for r in rows],
        [r.flags.to_bytes(2, "little") for r in rows],
        [r.value for r in rows],
        [r.full for r in rows],
    ]
    edges = [(n, *edge) for n, row in enumerate(rows) for edge in row.edges]
    write(path, columns, record_schema(KEPT))
    write(path.with_suffix(".edges.arrow"), [list(c) for c in zip(*edges, strict=True)] or
          [[]] * 5, EDGE_SCHEMA)  # fmt: skip
    return path


def write(path: Path, columns: list[list[Any]], schema: pa.Schema) -> None:
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    batch = pa.record_batch(arrays, schema=schema)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def records_of(out: Path, name: bytes) -> dict[int, bytes]:
    with lmdb.open(str(out), readonly=True, lock=False, max_dbs=8) as environment:
        database = environment.open_db(name, create=False)
        with environment.begin(db=database) as transaction:
            return {int.from_bytes(k, "big"): v for k, v in transaction.cursor()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS, size=st.sampled_from([1, 3, 100]))
def test_the_merge_is_a_dict_that_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[Row]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    paths = [write_run(folder / f"{n}.arrow", rows) for n, rows in enumerate(runs)]
    told: list[int] = []
    (folder / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_RECORDS", size)
        patch.setattr(module, "_SAMPLE", 1)
        built = merge(paths, folder / "out", KEPT, told.append, dictionary=b"dictionary")
    newest: dict[int, Row] = {}
    for row in (row for rows in runs for row in rows):
        if row.key not in newest or row.revision >= newest[row.key].revision:
            newest[row.key] = row
    expected = [newest[key] for key in sorted(newest)]

    assert records_of(folder / "out", b"entities") == {r.key: r.value for r in expected}
    assert records_of(folder / "out", b"full") == {r.key: r.full for r in expected}
    assert (folder / "out" / "full.dict").read_bytes() == b"dictionary"
    nodes = pq.read_table(folder / "out" / "nodes.parquet")
    assert nodes["revision"].to_pylist() == [r.revision for r in expected]
    assert nodes["sitelinks"].to_pylist() == [r.sitelinks for r in expected]
    for n, name in enumerate(nodes.column_names[3:]):
        assert nodes[name].to_pylist() == [bool(r.flags >> n & 1) for r in expected]
    edges = {p: list(rows_of(expected, n)) for n, p in enumerate(KEPT.properties)}
    assert built["edges"] == {p: len(rows) for p, rows in edges.items() if rows}
    for property_id in built["edges"]:
        table = pq.read_table(folder / "out" / "edges" / f"{property_id}.parquet")
        assert [tuple(row.values()) for row in table.to_pylist()] == edges[property_id]

    assert built["contents"]["records"] == built["contents"]["full"]["records"] == len(expected)
    assert built["record_bytes"] == sum(len(r.value) for r in expected)
    assert built["properties"] == sum(r.key >> 56 == ord("P") for r in expected)
    assert built["repeated"] == sum(map(len, runs)) - len(expected)
    assert sum(told) == sum(map(len, runs))


def rows_of(expected: list[Row], number: int) -> Iterator[tuple[int, int, str, bool]]:
    """What a property's file holds: truthy rows first."""
    for wanted in (True, False):
        for row in expected:
            subject = (row.key & (1 << 56) - 1) * (1 if row.key >> 56 == ord("Q") else -1)
            for place, target, rank, truthy in row.edges:
                if place == number and truthy == wanted:
                    yield subject, target, ("deprecated", "normal", "preferred")[rank], truthy


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Five runs of 400 records."""
    rng = np.random.default_rng(1)
    return [
        write_run(tmp_path / f"{n}.arrow", [
            Row(key_of(f"Q{number}"), 1, 0, 0, b"v" * 20, b"f", [(n, 5, 1, True)])
            for number in rng.permutation(5_000)[:400] + 1
        ])
        for n in range(5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "place",
    ["StreamDigest.add", "TableWriter.write", "_EdgeFiles.write", "_Loader.put", "_Batch.__init__"],
)
def test_what_goes_wrong_in_any_stage_is_raised_and_stops_all(
    tmp_path: Path, many: list[Path], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in one thread ends the others, and no thread is left."""
    monkeypatch.setattr(module, "BATCH_RECORDS", 50)
    monkeypatch.setattr(module, "_SAMPLE", 4)
    owner, name = place.split(".")
    real, calls = getattr(getattr(module, owner), name), 0
    batches, init = 0, module._Batch.__init__

    def fail(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *arguments)

    def count(self: Any, *arguments: Any) -> None:
        nonlocal batches
        batches += 1
        init(self, *arguments)

    monkeypatch.setattr(module._Batch, "__init__", count)
    monkeypatch.setattr(getattr(module, owner), name, fail)
    before = threading.active_count()
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space left"):
        merge(many, tmp_path / "out", KEPT, lambda _: None)
    assert threading.active_count() == before
    assert batches <= 7 + BATCHES_AHEAD + 1  # of some 40


def test_ctrl_c_ends_its_threads_too(
    tmp_path: Path, many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_RECORDS", 50)

    def tick(_: int) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        merge(many, tmp_path / "out", KEPT, tick)
    assert threading.active_count() == before


def test_long_records_come_in_small_batches(tmp_path: Path) -> None:
    """Memory is bounded by bytes, not only by records."""
    run = [Row(key_of(f"Q{n}"), 1, 0, 0, b"", bytes(100_000), []) for n in range(1, 400)]
    opened = module._Run(write_run(tmp_path / "run.arrow", run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SAMPLE", 16)
        patch.setattr(module, "BATCH_BYTES", 4 << 20)
        sizes = [len(batch.keys) for batch in module._batches([opened], None)]
    assert sum(sizes) == 399
    assert max(sizes) <= 48


def test_long_records_among_short_ones_come_in_small_batches(tmp_path: Path) -> None:
    """The oldest items are the longest and stand at the front: the mean would tell nothing."""
    long = [Row(key_of(f"Q{n}"), 1, 0, 0, b"", bytes(50_000), []) for n in range(1, 400)]
    short = [Row(key_of(f"Q{n}"), 1, 0, 0, b"v", b"", []) for n in range(400, 9_000)]
    rows = [*long, *short]
    runs = [module._Run(write_run(tmp_path / f"{n}.arrow", rows[n::2])) for n in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SAMPLE", 16)
        patch.setattr(module, "BATCH_BYTES", 2 << 20)
        batches = [(len(b.keys), len(b.columns[1].joined)) for b in module._batches(runs, None)]
    assert sum(records for records, _ in batches) == len(rows)
    assert max(size for _, size in batches) <= 4 << 20
    assert max(records for records, _ in batches) > 5_000
