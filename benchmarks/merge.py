"""The merge alone: sorted runs into LMDB, nodes and edges, in records a second; names beside it.

The runs are those of a real slice, its records given other ids until there are as many as
wanted: values, flags, edges and names are what a dump has, and every run spans the whole range.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.files import dump_of
from benchmarks.options import Options
from benchmarks.report import megabytes, table
from etl.arrow import map_batch, write_batch
from etl.dump import find_inputs, plan_slices
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.merge import merge
from etl.merge_names import NamesJob, merge_names
from etl.runs import SliceJob, read_slice

_SLICE = 48 << 20  # compressed bytes of the slice that gives the records, some 35,000
_MAX_LINE = 64 << 20
_NUMBERS = np.uint64((1 << 56) - 1)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    work = options.work / "merge"
    shutil.rmtree(work, ignore_errors=True)
    kept = Kept(DEFAULT_LANGUAGES, read_properties())
    inputs = find_inputs((str(dump_of(options)),))
    first = plan_slices(inputs, min(_SLICE, inputs[0].size))[0]
    read_slice(SliceJob(first, str(work), kept, _MAX_LINE, 0), lambda _: None)
    [source] = work.glob("*/run-0000.arrow")
    runs = _multiply(source, work / "runs", options.records)
    records = len(map_batch(source)) * len(runs)
    size = sum(path.stat().st_size for path in (work / "runs").iterdir())
    job = NamesJob(tuple(map(str, runs)), str(work / "out"), kept.languages)
    best: dict[str, tuple[float, float]] = {}
    for _ in range(options.repeat):
        for name, step in (
            ("records and edges", lambda out: merge(runs, out, kept, lambda _: None)),
            ("names", lambda out: merge_names(job, lambda _: None)),
        ):
            times = _timed(step, work / "out")
            best[name] = min(times, best.get(name, times))
    shutil.rmtree(work)
    return {
        "records": records,
        "runs": len(runs),
        "run_bytes": size,
        "rows": [
            {
                "name": name,
                "seconds": seconds,
                "cpu_seconds": cpu,
                "records_per_second": records / seconds,
            }
            for name, (seconds, cpu) in best.items()
        ],
    }


def _timed(step: Callable[[Path], object], out: Path) -> tuple[float, float]:
    """Seconds and processor seconds of one merge into an empty directory."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    started, cpu = time.perf_counter(), time.process_time()
    step(out)
    return time.perf_counter() - started, time.process_time() - cpu


# --- more runs from one -------------------------------------------------------------------------


def _multiply(source: Path, out: Path, records: int) -> list[Path]:
    """Copies of a run with other ids, ``records`` in all and a few more."""
    out.mkdir()
    files = {suffix: map_batch(source.with_suffix(suffix)) for suffix in _SUFFIXES}
    copies = -(-records // len(files[".arrow"]))
    runs = []
    for n in range(copies):
        path = out / f"run-{n:04d}.arrow"
        for suffix, batch in files.items():
            write_batch(path.with_suffix(suffix), _renumbered(batch, copies, n))
        runs.append(path)
    return runs


_SUFFIXES = (".arrow", ".edges.arrow", ".names.arrow")


def _renumbered(batch: pa.RecordBatch, copies: int, n: int) -> pa.RecordBatch:
    """The ``n``-th copy: numbers spread so that the copies' lie between each other, in order."""
    for name, renumber in (("key", _keys), ("id", _ids)):
        if name in batch.schema.names:
            place = batch.schema.get_field_index(name)
            column = pa.array(renumber(batch[name].to_numpy(), copies, n))
            batch = batch.set_column(place, batch.schema.field(place), column)
    return batch


def _keys(keys: npt.NDArray[np.uint64], copies: int, n: int) -> npt.NDArray[np.uint64]:
    return (keys & ~_NUMBERS) | ((keys & _NUMBERS) * np.uint64(copies) + np.uint64(n))


def _ids(ids: npt.NDArray[np.int64], copies: int, n: int) -> npt.NDArray[np.int64]:
    spread: npt.NDArray[np.int64] = np.sign(ids) * (np.abs(ids) * copies + n)
    return spread


# --- the tables ---------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = [
        [
            found["name"],
            f"{found['seconds']:.2f}",
            f"{found['cpu_seconds']:.2f}",
            f"**{found['records_per_second']:,.0f}**",
        ]
        for found in figures["rows"]
    ]
    return (
        f"{figures['records']:,} records in {figures['runs']} runs, "
        f"{megabytes(figures['run_bytes'])} MB; one process, all cores.\n\n"
        + table(["merge of", "s", "CPU s", "records/s"], rows)
    )
