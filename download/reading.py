"""Commons' mediainfo dump, read once for all recipes: every file, and what files depict.

    read(("commons-20260907-mediainfo.json.bz2",), Path("images/mediainfo"))

The dump is cut into slices that worker processes read each on its own, as `sparqless etl` does
(:mod:`etl.slices`, :mod:`etl.reading`), and what they took is put one after the other in the order
of the dump. The plan is on disk before the work, a slice is done when its directory is there, and
the reading when its manifest is: whatever is killed in between, the same call goes on.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ujson

from download.mediainfo import File, NoFile
from download.mediainfo import read as read_line
from download.repeats import Numbers, beaten
from etl.dump import MEDIAINFO, STDIN, Damage, Input, Slice, find_inputs, plan_slices
from etl.engine import Pool
from etl.errors import UserError
from etl.keep import keep
from etl.lanes import Lanes
from etl.lines import Line
from etl.losses import (
    REJECTS,
    check_damage,
    check_ends,
    check_rejects,
    placed_rejects,
    write_rejects,
)
from etl.manifest import (
    DISCARDED,
    MANIFEST,
    check_whole,
    digests,
    discard,
    flush,
    is_untouched,
    read_manifest,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.plan import DEFAULT_MAX_REJECTS, as_json, check_same, slice_size
from etl.progress import Progress, Tick
from etl.reading import Reading, check_unchanged, read_all
from etl.remote import public
from etl.slices import REPORT, Report, read_into, report_of, slice_directory
from etl.source import Access, is_elsewhere
from etl.store import LOCK
from etl.tables import ROW_GROUP, TableWriter
from etl.writing import disk_errors, locked

#: Version of what stands in such a directory: another one for each change of what is read of a
#: line, since a reading outlives the code that made it.
FORMAT: Final = 2
STEP: Final = "mediainfo"
FILES_FILE: Final = "files.parquet"
DEPICTS_FILE: Final = "depicts.parquet"

#: Bytes of a line. Wikibase refuses entities whose stored form is above 2 MiB
#: (maxSerializedEntitySize, which is $wgMaxArticleSize); a dump's is at most three times that.
LONGEST_LINE: Final = 16_000_000

_STRINGS = pa.list_(pa.string())

#: Files in the order of the dump; for ``licences``, ``statuses`` and ``creators`` deprecated
#: statements are left out, preferred ones come first and each value comes once.
FILES: Final = pa.schema(
    [
        ("page", pa.int64()),  # 76 for M76
        ("revision", pa.int64()),
        ("file", pa.string()),  # name with spaces; null in dumps before June 2022
        ("captions", _STRINGS),
        ("caption_langs", _STRINGS),  # parallel to captions
        ("licences", _STRINGS),  # P275, items
        ("statuses", _STRINGS),  # P6216, items
        ("creators", _STRINGS),  # P170: items, or what qualifiers call those who have none
        ("width", pa.int32()),  # P2049 and P2048, pixels
        ("height", pa.int32()),
        ("bytes", pa.int64()),  # P3575
        ("mime", pa.string()),  # P1163
        ("sha1", pa.string()),  # P4092, 40 lower-case hexadecimal digits
    ]
)

#: What files depict, in the order of the dump, without deprecated statements.
DEPICTS: Final = pa.schema(
    [
        ("page", pa.int64()),
        ("item", pa.int64()),
        ("property", pa.int16()),  # 180, 921 or 6243
        ("preferred", pa.bool_()),
    ]
)

#: Columns that are written with a dictionary: their values come again and again.
_REPEATED_IN_FILES = [
    "caption_langs.list.element",
    "licences.list.element",
    "statuses.list.element",
    "width",
    "height",
    "mime",
]
_REPEATED_IN_DEPICTS = ["item", "property"]

_WORK = "reading"
_PLAN = "plan.json"
_MERGED = "merged"
_FILES, _DEPICTS = "files.arrow", "depicts.arrow"  # of a slice
_KEYS = "keys.arrow"  # pages and revisions again, which are gone through many times
_ENOUGH = 10_000  # entities of which one is a file, or this is another dump
_BATCH_BYTES = 4 << 20  # of JSON, of which a worker holds rows as Python objects

#: As DEPICTS, with the place of the file in the batch of files beside it instead of its page.
_SLICE_DEPICTS = DEPICTS.remove(0).insert(0, pa.field("row", pa.int32()))
_SLICE_KEYS = pa.schema([FILES.field("page"), FILES.field("revision")])


class Options(msgspec.Struct, frozen=True):
    """What a user may set. ``workers`` 0 reads in this process; lengths in bytes.

    ``slice_bytes`` 0 is a size that follows from the inputs.
    """

    workers: int = 1
    max_line: int = LONGEST_LINE
    max_rejects: int = DEFAULT_MAX_REJECTS
    allow_damage: bool = False
    fresh: bool = False
    slice_bytes: int = 0
    quiet: bool = False


DEFAULTS: Final = Options()


class Plan(msgspec.Struct, frozen=True):
    """What decides about the bytes of a reading, and how the work is cut."""

    format: int
    version: str
    inputs: list[Input]
    max_line: int
    slice_bytes: int


_OF_THE_WORK: Final = ("version", "slice_bytes")  # leave no trace in a finished reading


@dataclass(frozen=True)
class _Run:
    """One run: what it makes, of what and with which means."""

    out: Path
    plan: Plan
    options: Options
    pool: Pool
    slices: list[Slice]

    @property
    def work(self) -> Path:
        return self.out / _WORK


def read(names: Sequence[str], out: Path, options: Options = DEFAULTS) -> dict[str, Any]:
    """Reads, or goes on reading, a mediainfo dump into ``out``; returns its manifest.

    ``names`` are files, globs, directories of files or ``-``, standard input. Nothing is done
    where ``out`` holds the reading of the same dump already.

    Raises UserError for everything a user can mend: no dump, another plan, a lock, damage, too
    many rejects, a full disk.
    """
    for name in names:
        if is_elsewhere(name):
            raise UserError(
                f"{public(name)}: the mediainfo dump is read from a file; fetch it first "
                f"(`curl -C - -O ADDRESS` goes on where it was cut off) and name the file."
            )
    inputs = find_inputs(tuple(names), kind=MEDIAINFO)
    size = slice_size(inputs, options.slice_bytes)
    plan = Plan(FORMAT, tool_versions()["sparqless"], inputs, options.max_line, size)
    _check_directory(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "--out"):
        if options.fresh:
            _remove(out)
        if (out / MANIFEST).exists():
            manifest = _finished(out, plan, allow_damage=options.allow_damage)
            discard(out / _WORK)  # of a run that was killed when all was done
            return manifest
        _settle_plan(out / _WORK / _PLAN, plan)
        workers = 0 if inputs[0].path == STDIN else options.workers
        with disk_errors(out), Pool(workers) as pool:
            pool.start()
            manifest = _build(_Run(out, plan, options, pool, plan_slices(inputs, size)))
            discard(out / _WORK)
            return manifest


# --- before the work ----------------------------------------------------------------------------


def _own_names() -> set[str]:
    return {LOCK, MANIFEST, FILES_FILE, DEPICTS_FILE, REJECTS, _WORK, f"{_WORK}{DISCARDED}"}


def _check_directory(out: Path) -> None:
    """Refuses to read into files that aren't a reading's."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; choose an empty or new directory for --out.")
    foreign = {path.name for path in out.iterdir()} - _own_names()
    if foreign:
        raise UserError(
            f"{out} holds files that are not a reading's ({', '.join(sorted(foreign)[:3])}); "
            "choose an empty or new directory for --out."
        )


def _remove(out: Path) -> None:
    """--fresh: the manifest goes first, so that a kill leaves no half of a finished reading."""
    for name in (MANIFEST, FILES_FILE, DEPICTS_FILE, REJECTS):
        (out / name).unlink(missing_ok=True)
    discard(out / _WORK)


def _settle_plan(path: Path, plan: Plan) -> None:
    """Writes the plan, or checks it against the one that stands."""
    encoded = as_json(plan)
    if plan.inputs[0].path == STDIN and path.parent.exists():
        discard(path.parent)  # what stood on it then can't be compared with what stands now
    try:
        earlier = ujson.loads(path.read_bytes())
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        write_json(path, encoded)
        return
    except ValueError as error:
        raise UserError(f"{path} can't be read ({error}); start over with --fresh.") from error
    check_same(path.parents[1], earlier, encoded, "holds a half-done reading", "--out")
    if _times(earlier) != _times(encoded):
        _forget_damaged(path.parent)
        write_json(path, encoded)


def _times(plan: Mapping[str, Any]) -> list[int]:
    """When the files of a plan were last written to."""
    return [file["mtime_ns"] for file in plan["inputs"]]


def _forget_damaged(work: Path) -> None:
    """Forgets slices that lost bytes or lines: their file was fetched again, as one is told to."""
    for directory in sorted(work.glob("[0-9]*")):
        report = report_of(work, int(directory.name), SliceReport)
        if report is None or report.damage or report.rejected:
            discard(directory)


def standing(out: Path) -> dict[str, Any]:
    """The manifest of a finished reading.

    Raises UserError where it was changed, has lost a table, or is of another version of this
    program, which took other things of a line.
    """
    manifest = read_manifest(out, STEP)
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{out} holds a reading of format {manifest.get('format')!r}, made by another version "
            f"of sparqless; this one's is {FORMAT}: {_AGAIN}."
        )
    if not is_untouched(out):
        raise UserError(f"{out / MANIFEST} was changed after it was written: {_AGAIN}.")
    check_whole(out, manifest, _AGAIN)
    return manifest


_AGAIN: Final = "read the dump again, --mediainfo FILE --fresh"


def _finished(out: Path, plan: Plan, *, allow_damage: bool) -> dict[str, Any]:
    """The manifest of the finished reading of the same dump.

    One that lost bytes is the reading of the very file it was made from: a file of the same size
    that was written since may be the whole one.
    """
    manifest = standing(out)
    if plan.inputs[0].path == STDIN:
        raise UserError(
            f"{out} holds a finished reading, and standard input can't be compared with what it "
            "was made from; choose another --out, or start over with --fresh."
        )
    wanted = {k: v for k, v in as_json(plan).items() if k not in _OF_THE_WORK}
    check_same(out, manifest["plan"], wanted, "holds a finished reading", "--out")
    damage = [msgspec.convert(lost, Damage) for lost in manifest["damage"]]
    if damage and _times(manifest["plan"]) != _times(as_json(plan)):
        raise UserError(
            f"{out} holds what could be read of a damaged dump, and {plan.inputs[0].path} was "
            "written since: read it again with --fresh."
        )
    check_damage(damage, allow_damage, "a table")
    return manifest


# --- a slice, in a worker -----------------------------------------------------------------------


class SliceJob(msgspec.Struct, frozen=True):
    """What a worker needs to read one slice."""

    slice: Slice
    directory: str
    max_line: int
    max_rejects: int
    access: Access = Access()


class SliceReport(Report):
    """What a slice held; written beside its tables."""

    files: int = 0


def read_slice(job: SliceJob, tick: Tick) -> SliceReport:
    """Reads one slice and leaves its tables and report in place; the task of the reading.

    Raises OSError where the disk is full or the dump can't be read.
    """
    return read_into(job, _FileTaker, tick)


class _FileTaker:
    """Writes the rows of a slice as Arrow files of batches, the n-th of each of the same rows."""

    def __init__(self, directory: Path) -> None:
        self.report = SliceReport()
        self._files = pa.ipc.new_file(str(directory / _FILES), FILES)
        self._keys = pa.ipc.new_file(str(directory / _KEYS), _SLICE_KEYS)
        self._depicts = pa.ipc.new_file(str(directory / _DEPICTS), _SLICE_DEPICTS)
        self._rows: list[File] = []
        self._bytes = self._others = 0

    def take(self, text: Line) -> bool:
        """Takes a file, or counts what else it is."""
        found = read_line(text)
        if isinstance(found, NoFile):
            self.report.add_other(found.kind)
            self._others += 1
            if self._others == _ENOUGH and not self._rows and not self.report.files:
                raise UserError(
                    f"of the first {_ENOUGH:,} entities not one is a file of Commons, the first is "
                    f"of type {next(iter(self.report.others))!r}: is this {MEDIAINFO.name}?"
                )
            return False
        self._rows.append(found)
        self._bytes += len(text)
        if self._bytes >= _BATCH_BYTES:
            self._write()
        return False

    def _write(self) -> None:
        """Writes a batch of both tables and forgets it."""
        *columns, depicted = zip(*self._rows, strict=True)
        flat = [(row, *what) for row, found in enumerate(depicted) if found for what in found]
        files = _batch(columns, FILES)
        self._files.write_batch(files)
        self._keys.write_batch(files.select(_SLICE_KEYS.names))
        depicts = zip(*flat, strict=True) if flat else ((),) * len(_SLICE_DEPICTS)
        self._depicts.write_batch(_batch(depicts, _SLICE_DEPICTS))
        self.report.files += len(self._rows)
        self._rows, self._bytes = [], 0

    def finish(self) -> None:
        """Writes the last batch and the ends of the files."""
        if self._rows:
            self._write()
        for file in (self._files, self._keys, self._depicts):
            file.close()


def _batch(columns: Iterable[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Columns of Python objects as an Arrow batch."""
    arrays = [_array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _array(column: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """A column as an array; lists are laid end to end first, which takes a third of the time."""
    if not pa.types.is_list(type_):
        return pa.array(column, type_)
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, column), np.int32, len(column)), out=offsets[1:])
    values = pa.array(list(chain.from_iterable(column)), type_.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=type_)


# --- the whole ----------------------------------------------------------------------------------


def _build(run: _Run) -> dict[str, Any]:
    """Does what is left of a reading, publishes it and returns its manifest."""
    started = time.perf_counter()
    for leftover in (*run.work.glob("tmp-*"), *run.work.glob(f"*{DISCARDED}")):
        shutil.rmtree(leftover)
    earlier = sum(1 for _ in run.work.glob(f"*/{REPORT}"))
    reports, damage = _read(run)
    read_seconds = time.perf_counter() - started
    merged = run.work / _MERGED
    merging = _merge(run, merged, sum(report.files for report in reports))
    for name in (FILES_FILE, DEPICTS_FILE):
        (merged / name).rename(run.out / name)
    outputs = [FILES_FILE, DEPICTS_FILE, REJECTS]
    manifest = {
        "step": STEP,
        "format": FORMAT,
        "versions": tool_versions(),
        "plan": as_json(run.plan),
        "counts": merging | _counts(reports),
        "damage": msgspec.to_builtins(damage),
        "outputs": digests(run.out, outputs, quiet=run.options.quiet),
        "seconds": {
            "read": round(read_seconds, 2),
            "all": round(time.perf_counter() - started, 2),
            "slices_read_earlier": earlier,
        },
    }
    flush(run.out, outputs)
    write_manifest(merged, manifest)
    (merged / MANIFEST).rename(run.out / MANIFEST)
    return manifest


def _read(run: _Run) -> tuple[list[SliceReport], list[Damage]]:
    """Reports of all slices, and what of the dump is lost."""
    plan, options, rejects = run.plan, run.options, run.out / REJECTS
    with keep(Access(), None) as keeping:
        reading = Reading(
            plan.inputs,
            run.slices,
            run.work,
            rejects,
            lambda slice_: SliceJob(slice_, str(run.work), plan.max_line, options.max_rejects),
            lambda index: report_of(run.work, index, SliceReport),
            options.max_rejects,
            keeping,
            what=MEDIAINFO.name,
            quiet=options.quiet,
        )
        reports = read_all(reading, lambda jobs, tick: run.pool.run(read_slice, jobs, tick))
    damage = [lost for report in reports for lost in report.damage]
    check_unchanged(plan.inputs, Access())
    check_ends(plan.inputs, reports, damage)
    placed = placed_rejects(run.slices, reports)
    write_rejects(run.work, rejects, placed)
    check_damage(damage, options.allow_damage, "a table")
    check_rejects(
        rejects, sum(r.rejected for r in reports), placed, options.max_rejects, MEDIAINFO.name
    )
    if not any(report.files for report in reports):
        discard(run.work)
        raise UserError(
            f"{plan.inputs[0].path} has no file; is this {MEDIAINFO.name}, with one entity a line?"
        )
    return reports, damage


def _merge(run: _Run, merged: Path, rows: int) -> dict[str, int]:
    """Writes both tables into the directory ``merged``, anew; the counts of what is in them."""
    discard(merged)
    merged.mkdir()
    directories = [slice_directory(run.work, s.index) for s in run.slices]
    lost = beaten(lambda: _keys(directories))
    untitled = 0
    with (
        Progress("merging", rows, unit=" rows", quiet=run.options.quiet) as progress,
        TableWriter(merged / FILES_FILE, FILES, repeated=_REPEATED_IN_FILES) as files,
        TableWriter(merged / DEPICTS_FILE, DEPICTS, repeated=_REPEATED_IN_DEPICTS) as depicts,
        Lanes[_Pair](
            [lambda pair: files.write(pair[0]), lambda pair: depicts.write(pair[1])]
        ) as lanes,
    ):
        for found, depicted in _pairs(directories, lost):
            lanes.hand((found, depicted))
            untitled += found["file"].null_count
            progress.add(len(found))
    return {
        "files": files.rows,
        "depicts": depicts.rows,
        "untitled": untitled,
        "repeated": rows - files.rows,
    }


#: Files and what they depict.
_Pair = tuple[pa.Table, pa.Table]


def _pairs(
    directories: Sequence[Path], lost: Mapping[int, npt.NDArray[np.bool_]]
) -> Iterator[_Pair]:
    """Rows of both tables in the order of the dump, about a row group of files at a time."""
    waiting: list[_Pair] = []
    count = 0
    both = zip(_batches(directories, _FILES), _batches(directories, _DEPICTS), strict=True)
    for number, (found, depicted) in enumerate(both):
        row = depicted["row"]
        columns = [found["page"].take(row), *depicted.columns[1:]]
        depicted = pa.record_batch(columns, schema=DEPICTS)
        if number in lost:
            kept = pa.array(~lost[number])
            depicted, found = depicted.filter(kept.take(row)), found.filter(kept)
        waiting.append((found, depicted))
        count += len(found)
        if count >= ROW_GROUP:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(pairs: Sequence[tuple[pa.RecordBatch, pa.RecordBatch]]) -> _Pair:
    files, depicts = zip(*pairs, strict=True)
    return pa.Table.from_batches(files), pa.Table.from_batches(depicts)


def _batches(directories: Iterable[Path], name: str) -> Iterator[pa.RecordBatch]:
    """The batches of all slices, in the order of the dump; pages are read when looked at."""
    for directory in directories:
        reader = pa.ipc.open_file(pa.memory_map(str(directory / name)))
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _keys(directories: Iterable[Path]) -> Iterator[tuple[Numbers, Numbers]]:
    """Pages and revisions of all batches."""
    for batch in _batches(directories, _KEYS):
        yield batch["page"].to_numpy(), batch["revision"].to_numpy()


def _counts(reports: list[SliceReport]) -> dict[str, Any]:
    """What was seen on the way to the tables."""
    others: Counter[str] = Counter()
    for report in reports:
        others.update(report.others)
    return {
        "skipped": dict(sorted(others.items())),
        "rejects": sum(r.rejected for r in reports),
        "lines": sum(r.extent.lines for r in reports),
        "json_bytes": sum(r.extent.text for r in reports),
    }
