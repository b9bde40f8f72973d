"""Where the time of a line goes: processor time of each stage of the ingest, in one process.

The stages of reading are added one after the other, each time over the same file, and the
difference is what a stage costs where it stands, with the caches as they are there. Every figure
is the best of ``--repeat`` + 1 runs. The merge's parts are measured alone, over the same records.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.files import dump_of, first_part, json_bytes_of, members_of
from benchmarks.options import Options
from benchmarks.report import table
from etl.arrow import map_batch
from etl.digest import StreamDigest
from etl.dump import Slice, find_inputs, plan_slices
from etl.entity import OtherEntity
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.lines import SliceReader, entity_text
from etl.members import GzipMembers
from etl.merge import merge
from etl.merge_names import NamesJob, merge_names
from etl.reader import EntityReader
from etl.runs import RunBuilder
from etl.store import open_entities, open_environment
from etl.tables import TableWriter

_FRAME = (b"[", b"]")
_MERGE, _PARQUET = "merge", "write Parquet"


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    path = dump_of(options)
    members = members_of(path)
    wanted = options.lines * json_bytes_of(members) // sum(m.newlines for m in members)
    part, runs = options.work / "part.json.gz", options.work / "stage-runs"
    taken = first_part(path, members, wanted, part)
    lines = sum(member.newlines for member in taken[:-1])
    inputs = find_inputs((str(part),))
    [slice_] = plan_slices(inputs, part.stat().st_size + 1)
    kept = Kept(DEFAULT_LANGUAGES, read_properties())
    best: dict[str, float] = {}
    for _ in range(options.repeat + 1):
        for name, seconds in _reading(slice_, kept, runs):
            best[name] = min(seconds, best.get(name, seconds))
    stages, before = [], 0.0
    for name, seconds in best.items():
        stages.append({"name": name, "microseconds": (seconds - before) / lines * 1e6})
        before = seconds
    merging = _merging(runs, kept, options)
    part.unlink()
    shutil.rmtree(runs)
    return {
        "lines": lines,
        "mean_line": json_bytes_of(taken) / lines,
        "reading": stages,
        "merging": merging,
    }


# --- a line -------------------------------------------------------------------------------------


def _reading(slice_: Slice, kept: Kept, runs: Path) -> list[tuple[str, float]]:
    """Processor seconds of everything up to and with each stage, in their order."""
    reader = EntityReader(kept)
    build = partial(_build, slice_, reader, kept, runs)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("inflate", lambda: _inflate(slice_)),
        ("split into lines", lambda: _each_line(slice_, _pass)),
        ("decode into typed structs", lambda: _each_line(slice_, reader.decode)),
        ("make entries: bytes, flags, edges", lambda: _each_line(slice_, reader.read)),
        ("add to a run", lambda: build(names=False, write=False)),
        ("sort and write the run", lambda: build(names=False, write=True)),
        ("names: collect, fold, sort, write", lambda: build(names=True, write=True)),
    ]
    return [(name, _processor_seconds(step)) for name, step in steps]


def _processor_seconds(step: Callable[[], object]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def _pass(line: object) -> None:
    """Nothing, at the price of a call."""


def _inflate(slice_: Slice) -> None:
    at = 0
    with open(slice_.path, "rb") as file:
        members = GzipMembers(file, slice_.size, _pass)
        while at < slice_.size:
            pieces = members.text(at)
            while True:
                try:
                    next(pieces)
                except StopIteration as end:
                    at = end.value
                    break


def _each_line(slice_: Slice, take: Callable[[Any], object]) -> None:
    with open(slice_.path, "rb") as source:
        for _, _, line in SliceReader(slice_, source=source):
            text = entity_text(line)
            if text not in _FRAME:
                take(text)


def _build(
    slice_: Slice, reader: EntityReader, kept: Kept, runs: Path, *, names: bool, write: bool
) -> None:
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir()
    builder = RunBuilder(runs, kept)

    def take(text: Any) -> None:
        entry = reader.read(text)
        if isinstance(entry, OtherEntity):
            return
        if not names:
            entry.labels, entry.aliases = {}, {}
        builder.add(entry)

    _each_line(slice_, take)
    if write:
        builder.write()


# --- the merge ----------------------------------------------------------------------------------


def _merging(runs: Path, kept: Kept, options: Options) -> list[dict[str, Any]]:
    """Processor µs a record of the merges and, alone, of what writes the records."""
    out = runs / "out"
    paths = sorted(runs.glob("run-[0-9][0-9][0-9][0-9].arrow"))
    batches = [map_batch(path) for path in paths]
    records = pa.Table.from_batches(batches).sort_by("key")
    count = len(records)
    job = NamesJob(tuple(map(str, paths)), str(out), kept.languages)
    best: dict[str, float] = {}
    for _ in range(options.repeat + 1):
        for name, step in (
            ("append to LMDB", lambda: _append(records, out)),
            ("digest", lambda: _digest(records)),
            ("names", lambda: merge_names(job, _pass)),
            (_MERGE, lambda: merge(paths, out, kept, _pass)),
        ):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            seconds = _processor_seconds(step)
            best[name] = min(seconds, best.get(name, seconds))
        seconds = _processor_seconds(partial(_write_again, _tables(out), out))
        best[_PARQUET] = min(seconds, best.get(_PARQUET, seconds))
    names, whole = best.pop("names"), best.pop(_MERGE)
    best["read, sort and the rest"] = whole - sum(best.values())
    best["names"] = names
    return [{"name": name, "microseconds": seconds / count * 1e6} for name, seconds in best.items()]


def _tables(out: Path) -> list[pa.Table]:
    return [pq.read_table(path) for path in (out / "nodes.parquet", *(out / "edges").iterdir())]


def _write_again(tables: list[pa.Table], out: Path) -> None:
    for rows in tables:
        with TableWriter(out / "again.parquet", rows.schema) as writer:
            writer.write(rows)


def _append(records: pa.Table, out: Path) -> None:
    keys = records["key"].to_numpy().astype(">u8").tobytes()
    values = records["value"].to_pylist()
    pairs = [(keys[at : at + 8], v) for at, v in zip(range(0, len(keys), 8), values, strict=True)]
    with open_environment(out, map_size=4 * records.nbytes + (64 << 20)) as environment:
        database = open_entities(environment, create=True)
        with environment.begin(write=True, db=database) as transaction:
            transaction.cursor().putmulti(pairs, append=True)
        environment.sync(True)


def _digest(records: pa.Table) -> None:
    values = records["value"].combine_chunks()
    offsets = np.frombuffer(values.buffers()[1], np.int64)[: len(values) + 1]
    StreamDigest().add(
        records["key"].to_numpy(), np.diff(offsets).astype(np.uint32), values.buffers()[2]
    )


# --- the tables ---------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    reading, merging = figures["reading"], figures["merging"]
    whole = sum(stage["microseconds"] for stage in [*reading, *merging])
    rate = figures["mean_line"] / sum(stage["microseconds"] for stage in reading)
    rows = [
        [name, f"{stage['microseconds']:.2f}", f"{stage['microseconds'] / whole:.0%}"]
        for name, stage in [
            *((stage["name"], stage) for stage in reading),
            *((f"merge: {stage['name']}", stage) for stage in merging),
        ]
    ]
    rows.append(["all", f"{whole:.2f}", ""])
    return (
        f"{figures['lines']:,} lines of {figures['mean_line']:,.0f} bytes; reading them, without "
        f"the merge, is {rate:,.0f} MB/s a core.\n\n"
        + table(["processor time", "µs a line", "of all"], rows)
    )
