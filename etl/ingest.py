"""The run that turns dumps into a store: plan, slices, chain, merge, manifest; resumable anywhere.

    sparqless etl latest-all.json.gz --store data/store

The plan is on disk before the work. A slice is done when its directory is there, the store when
its manifest is; whatever is killed in between, the same command goes on and ends with what an
uninterrupted run gives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import ujson

from etl import engine
from etl.dump import (
    DEFAULT_MAX_LINE,
    STDIN,
    Cut,
    Damage,
    Input,
    Slice,
    SliceReader,
    find_inputs,
    plan_slices,
)
from etl.entity import EntityReader, Record, RejectedLineError, encode_record
from etl.errors import UserError, is_disk_full
from etl.kept import Kept
from etl.manifest import (
    DISCARDED,
    MANIFEST,
    check_whole,
    digests,
    discard,
    flush,
    read_manifest,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.merge import allow_open_files, merge
from etl.progress import Progress
from etl.runs import REPORT, SliceJob, SliceReport, read_report, read_slice, slice_directory
from etl.show import in_bytes
from etl.store import DATA, STORE_FORMAT

DEFAULT_MAX_REJECTS: Final = 100
REJECTS: Final = "rejects.ndjson"

_WORK = "building"
_PLAN = "plan.json"
_LOCK = ".lock"
_SMALLEST_SLICE, _LARGEST_SLICE = 4 << 20, 256 << 20
_SLICES = 512  # few enough for one open file each in the merge
_PROBE_TEXT = 24 << 20  # inflated bytes read at each of three places for the estimate

#: Peak of disk in a build over the bytes of encoded records: runs, LMDB with its pages' slack,
#: Parquet. Measured by `make bench`, docs/performance.md.
_DISK_PER_RECORD_BYTE = 2.9


class Options(msgspec.Struct, frozen=True):
    """What a user may set; those that decide about the store's bytes make the plan.

    ``workers`` 0 reads in this process. ``limit``: entities to read, 0 for all. ``max_line`` and
    ``slice_bytes`` in bytes, 0 for a slice size that follows from the inputs.
    """

    kept: Kept
    workers: int = 1
    limit: int = 0
    max_line: int = DEFAULT_MAX_LINE
    max_rejects: int = DEFAULT_MAX_REJECTS
    allow_damage: bool = False
    fresh: bool = False
    slice_bytes: int = 0
    quiet: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What decides about the store's bytes, and how the work is cut.

    A resume with another plan is refused; a finished store doesn't remember the cutting.
    """

    format: int
    version: str
    inputs: list[Input]
    kept: Kept
    max_line: int
    limit: int
    slice_bytes: int


#: Fields of a plan that leave no trace in a finished store.
_OF_THE_WORK = ("version", "slice_bytes")


class Estimate(msgspec.Struct, frozen=True):
    """What a run is expected to take, from a probe of its inputs."""

    input_bytes: int
    json_bytes: int
    entities: int
    disk_bytes: int
    free_bytes: int
    seconds: float


def ingest(
    names: tuple[str, ...],
    store: Path,
    options: Options,
    announce: Callable[[Estimate], None] = lambda estimate: None,
) -> dict[str, Any]:
    """Builds, or goes on building, the store of a dump; returns its manifest.

    ``announce`` is told what a new build is expected to take, before it begins.

    Raises UserError for everything a user can mend: no dump, another plan, a lock, damage, too
    many rejects, a full disk.
    """
    inputs = find_inputs(names)
    plan = make_plan(inputs, options)
    if is_finished(store) and not options.fresh and not any(store.glob(f"{_WORK}*")):
        return _finished(store, plan)
    _check_directory(store)
    store.mkdir(parents=True, exist_ok=True)
    with _locked(store):
        if options.fresh:
            _remove_build(store)
        if is_finished(store):
            manifest = _finished(store, plan)
            discard(store / _WORK)  # of a run that was killed when all was done
            return manifest
        if not (store / _WORK / _PLAN).exists():
            _check_disk(store, inputs, options, announce)
        _settle_plan(store, plan)
        with _disk_errors(store):
            return _build(store, plan, options)


def is_finished(store: Path) -> bool:
    """Whether a store stands in a directory: its manifest is there."""
    return (store / MANIFEST).exists()


def make_plan(inputs: list[Input], options: Options) -> Plan:
    """The plan of a run. The size of a slice follows from the inputs, never from the machine."""
    total = sum(file.size for file in inputs)
    size = options.slice_bytes or min(max(total // _SLICES, _SMALLEST_SLICE), _LARGEST_SLICE)
    return Plan(
        STORE_FORMAT,
        tool_versions()["sparqless"],
        inputs,
        options.kept,
        options.max_line,
        options.limit,
        size,
    )


# --- before the work ----------------------------------------------------------------------------


def estimate(names: tuple[str, ...], store: Path, options: Options) -> Estimate | None:
    """Probes the dump at three places; None for standard input, which can't be read twice."""
    return _estimate(find_inputs(names), store, options)


def _estimate(inputs: list[Input], store: Path, options: Options) -> Estimate | None:
    if inputs[0].path == STDIN:
        return None
    total = sum(file.size for file in inputs)
    largest = max(inputs, key=lambda file: file.size)
    reader = EntityReader(options.kept)
    started = time.perf_counter()
    read = text = entities = record_bytes = 0
    # bz2 and zst can only be read from their beginning
    places = (0.0, 0.4, 0.8) if largest.form in ("gz", "json") else (0.0,)
    for place in places:
        start = int(largest.size * place)
        compressed = 0

        def tick(amount: int) -> None:
            nonlocal compressed
            compressed += amount

        end = min(largest.size, start + _LARGEST_SLICE) if start else largest.size
        piece = Slice(0, largest.path, largest.form, start, end, largest.size)
        lines = SliceReader(piece, options.max_line, tick)
        for offset, _, line in lines:
            size = _record_size(reader, line)
            entities += size > 0
            record_bytes += size
            if offset > _PROBE_TEXT:
                break
        read += compressed
        text += lines.extent.text
    seconds = time.perf_counter() - started
    scale = total / max(read, 1)
    if options.limit:
        scale = min(scale, options.limit / max(entities, 1))
    existing = next(p for p in (store, *store.absolute().parents) if p.exists())
    return Estimate(
        total,
        int(text * scale),
        int(entities * scale),
        int(record_bytes * scale * _DISK_PER_RECORD_BYTE) + (1 << 20),
        shutil.disk_usage(existing).free,
        seconds * scale / (max(options.workers, 1) if len(places) > 1 else 1),
    )


def _record_size(reader: EntityReader, line: bytes) -> int:
    """Bytes of a line's record, 0 where it makes none."""
    try:
        record = reader.read(line.strip(b", \t\r[]"))
        return len(encode_record(record)) if isinstance(record, Record) else 0
    except RejectedLineError:
        return 0


def _check_disk(
    store: Path, inputs: list[Input], options: Options, announce: Callable[[Estimate], None]
) -> None:
    expected = _estimate(inputs, store, options)
    if expected is None:
        return
    announce(expected)
    if expected.disk_bytes > expected.free_bytes:
        raise UserError(
            f"{store} needs about {in_bytes(expected.disk_bytes)} while it is built and the "
            f"disk has {in_bytes(expected.free_bytes)} free; choose another --store, or keep "
            "less with --languages and --properties."
        )


def _check_directory(store: Path) -> None:
    """Refuses to build among files that aren't a build's."""
    if not store.exists():
        return
    if not store.is_dir():
        raise UserError(f"{store} is a file; choose an empty or new directory for --store.")
    foreign = {p.name for p in store.iterdir()} - _own_names()
    if foreign:
        raise UserError(
            f"{store} holds files that are not a store's ({', '.join(sorted(foreign)[:3])}); "
            "choose an empty or new directory for --store."
        )


def _own_names() -> set[str]:
    outputs = {DATA, "nodes.parquet", "edges", REJECTS}
    directories = {_WORK, f"{_WORK}{DISCARDED}", f"edges{DISCARDED}"}
    return {_LOCK, "lock.mdb", MANIFEST, *outputs, *directories}


def _remove_build(store: Path) -> None:
    """--fresh: the manifest goes first, so that a kill leaves no half of a finished store."""
    (store / MANIFEST).unlink(missing_ok=True)
    for name in sorted(_own_names() - {_LOCK, MANIFEST}):
        path = store / name
        if path.is_file():
            path.unlink()
        else:
            discard(path)


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """One run on a store at a time; the lock goes with the process, however it ends."""
    with (store / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            file.seek(0)
            raise UserError(
                f"{store} is being written by another run (process {file.read().strip()}); wait "
                "for it or choose another --store."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _settle_plan(store: Path, plan: Plan) -> None:
    """Writes the plan, or checks it against the one that stands."""
    path = store / _WORK / _PLAN
    encoded = _as_json(plan)
    if plan.inputs[0].path == STDIN and path.parent.exists():
        discard(path.parent)  # what stood on it then can't be compared with what stands now
    try:
        standing = ujson.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} can't be read ({error}); start over with --fresh.") from error
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        write_json(path, encoded)
        return
    _check_same(store, standing, encoded, "holds a half-built store")


def _finished(store: Path, plan: Plan) -> dict[str, Any]:
    manifest = read_manifest(store, "store")
    if plan.inputs[0].path == STDIN:
        raise UserError(
            f"{store} holds a finished store, and standard input can't be compared with what it "
            "was made from; choose another --store, or start over with --fresh."
        )
    wanted = {k: v for k, v in _as_json(plan).items() if k not in _OF_THE_WORK}
    _check_same(store, manifest["plan"], wanted, "holds a finished store")
    check_whole(store, manifest, "build it again with --fresh")
    return manifest


def _as_json(plan: Plan) -> Any:
    """A plan as it comes back from a file; of a path the name, since disks move."""
    made = msgspec.json.decode(msgspec.json.encode(plan))
    for file in made["inputs"]:
        file["name"] = os.path.basename(file.pop("path"))
    return made


def _check_same(store: Path, standing: Any, wanted: Any, what: str) -> None:
    differences = [_difference(key, standing.get(key), wanted[key]) for key in wanted]
    found = [text for text in differences if text]
    if found:
        raise UserError(
            f"{store} {what} made with {'; '.join(found)}; give the same dump and options, "
            "choose another --store, or start over with --fresh."
        )


def _difference(key: str, was: Any, is_: Any) -> str:
    if was == is_:
        return ""
    if key == "inputs" and isinstance(was, list) and len(was) == len(is_):
        for old, new in zip(was, is_, strict=True):
            for field in ("form", "size", "digest"):
                if old[field] != new[field]:
                    return f"another {field} of {new['name']} ({old[field]}, now {new[field]})"
        return ""  # renamed, copied or touched: the same bytes all the same
    if key == "kept" and isinstance(was, dict):
        part = next(p for p in is_ if was.get(p) != is_[p])
        gone = [x for x in was.get(part, ()) if x not in is_[part]]
        come = [x for x in is_[part] if x not in was.get(part, ())]
        changes = [*(f"-{x}" for x in gone), *(f"+{x}" for x in come)]
        changes = changes or ["in another order, or with other qualifiers"]
        return f"other --{part} ({', '.join(changes[:8])}{', …' if len(changes) > 8 else ''})"
    name = {"max_line": "--max-line, in bytes", "limit": "--limit"}.get(key, key)
    return f"another {name} ({_short(was)}, now {_short(is_)})"


def _short(value: Any) -> str:
    text = ujson.dumps(value, escape_forward_slashes=False)
    return text if len(text) < 120 else f"{text[:117]}…"


def _is_full(error: lmdb.Error) -> bool:
    return any(sign in str(error).lower() for sign in ("input/output", "no space", "too large"))


@contextmanager
def _disk_errors(store: Path) -> Iterator[None]:
    """A full disk in the user's words; everything finished so far stays for the next start."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        # LMDB reports a failed write as an input/output error, whatever the reason
        if not (is_disk_full(error) if isinstance(error, OSError) else _is_full(error)):
            raise
        free = in_bytes(shutil.disk_usage(store).free)
        raise UserError(
            f"{store}: the disk (or a file size limit) is full ({error}; {free} free). What is "
            "done is kept: make room and run the same command again."
        ) from error


# --- the work -----------------------------------------------------------------------------------


def _build(store: Path, plan: Plan, options: Options) -> dict[str, Any]:
    started = time.perf_counter()
    earlier = sum(1 for _ in (store / _WORK).glob(f"*/{REPORT}"))
    slices = _slices_of(plan)
    allow_open_files(len(slices), len(plan.kept.properties))
    work = store / _WORK
    for leftover in (*work.glob("tmp-*"), *work.glob(f"*{DISCARDED}")):
        shutil.rmtree(leftover)
    reports = _read_slices(work, plan, slices, options)
    read_seconds = time.perf_counter() - started
    damage = [d for report in reports for d in report.damage]
    _check_unchanged(plan)
    _check_ends(plan, reports, damage)
    rejects = _placed_rejects(slices, reports)
    _write_rejects(store / REJECTS, rejects)
    _check_damage(damage, options)
    _check_rejects(store, sum(r.rejected for r in reports), rejects, options)
    if not any(report.runs for report in reports):
        discard(work)
        raise UserError(
            f"{plan.inputs[0].path} has no item and no property; is this a Wikidata JSON dump, "
            "with one entity a line?"
        )
    built = _merge(work, slices, reports, plan, options)
    return _publish(
        store,
        plan,
        reports,
        built,
        damage,
        earlier,
        read_seconds,
        started,
        options.quiet,
    )


def _slices_of(plan: Plan) -> list[Slice]:
    if plan.limit:  # one slice a file: the first entities are at the front
        return plan_slices(plan.inputs, max(file.size for file in plan.inputs) + 1)
    return plan_slices(plan.inputs, plan.slice_bytes)


def _read_slices(
    work: Path, plan: Plan, slices: list[Slice], options: Options
) -> list[SliceReport]:
    """Reads the slices that have no report, then what guessed its beginning wrong."""
    reports = {s.index: r for s in slices if (r := read_report(work, s.index)) is not None}
    missing = [s for s in slices if s.index not in reports]
    total = sum(file.size for file in plan.inputs)
    before = sum(s.end - s.start for s in slices if s.index in reports)
    with Progress("reading", total or None, done=before, quiet=options.quiet) as progress:
        if plan.limit:
            return _read_limited(work, plan, slices, options, progress)
        jobs = [_job(work, plan, s, options) for s in missing]
        rejected = sum(r.rejected for r in reports.values())
        for job, report in _run(plan, jobs, options, progress):
            reports[job.slice.index] = report
            rejected += report.rejected
            if rejected > options.max_rejects:
                break
        else:
            _correct(work, plan, slices, reports, options, progress)
            return [reports[s.index] for s in slices]
    read = [s for s in slices if s.index in reports]
    placed = _placed_rejects(read, [reports[s.index] for s in read])
    _write_rejects(work.parent / REJECTS, placed)
    _check_rejects(work.parent, rejected, placed, options)
    raise AssertionError("more rejects than allowed, yet allowed")


def _job(work: Path, plan: Plan, slice_: Slice, options: Options, limit: int = 0) -> SliceJob:
    return SliceJob(slice_, str(work), plan.kept, plan.max_line, options.max_rejects, limit)


def _run(
    plan: Plan, jobs: list[SliceJob], options: Options, progress: Progress
) -> Iterator[tuple[SliceJob, SliceReport]]:
    # standard input can't be handed to another process
    workers = 0 if plan.inputs[0].path == STDIN else options.workers
    return engine.run(read_slice, jobs, workers, progress.add)


def _correct(
    work: Path,
    plan: Plan,
    slices: list[Slice],
    reports: dict[int, SliceReport],
    options: Options,
    progress: Progress,
) -> None:
    """Walks the chain of slices; what doesn't begin where the one before ended is read again."""
    cut = Cut()
    for slice_ in slices:
        if slice_.start == 0:
            cut = Cut()
        corrected = cut.corrected(slice_, reports[slice_.index].extent)
        if corrected is not None:
            job = _job(work, plan, corrected, options)
            for _, report in _run(plan, [job], options, progress):
                reports[slice_.index] = report
        cut = cut.after(reports[slice_.index].extent)


def _read_limited(
    work: Path, plan: Plan, slices: list[Slice], options: Options, progress: Progress
) -> list[SliceReport]:
    reports, left = [], plan.limit
    for slice_ in slices:
        job = _job(work, plan, slice_, options, left)
        reports.append(read_slice(job, progress.add))
        left -= reports[-1].items + reports[-1].properties
        if left == 0:
            break
    return reports


def _check_unchanged(plan: Plan) -> None:
    """A dump that was written to while it was read gives slices of two files."""
    for file in plan.inputs:
        if file.path == STDIN:
            continue
        stat = os.stat(file.path)
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
            raise UserError(
                f"{file.path} was changed while it was read; start over with --fresh when it is "
                "complete."
            )


def _check_ends(plan: Plan, reports: list[SliceReport], damage: list[Damage]) -> None:
    """A dump that opens with ``[`` and doesn't end with ``]`` has lost its end."""
    if plan.limit or damage:
        return
    if sum(r.opens for r in reports) > sum(r.closes for r in reports):
        last = plan.inputs[-1]
        reason = "the dump opens with `[` and ends without `]`: its end is missing"
        damage.append(Damage(last.path, last.size, last.size, reason))


def _placed_rejects(slices: list[Slice], reports: list[SliceReport]) -> list[dict[str, Any]]:
    """Rejects with their place in the whole inflated file: bytes from 0, lines from 1."""
    placed: list[dict[str, Any]] = []
    text, lines, path = 0, 0, ""
    for slice_, report in zip(slices, reports, strict=False):
        if slice_.path != path:
            text, lines, path = 0, 0, slice_.path
        placed.extend(
            {
                "file": os.path.basename(path),
                "line": lines + reject.line + 1,
                "offset": text + reject.offset,
                "bytes": reject.bytes,
                "reason": reject.reason,
                "text": reject.text,
            }
            for reject in report.rejects
        )
        text += report.extent.text
        lines += report.extent.lines
    return placed


def _write_rejects(path: Path, rejects: list[dict[str, Any]]) -> None:
    temporary = path.parent / _WORK / path.name
    with temporary.open("w", encoding="utf-8") as file:
        for reject in rejects:
            file.write(ujson.dumps(reject, ensure_ascii=False, escape_forward_slashes=False) + "\n")
    temporary.replace(path)


def _check_rejects(
    store: Path, count: int, rejects: list[dict[str, Any]], options: Options
) -> None:
    if count <= options.max_rejects:
        return
    first = rejects[0]
    raise UserError(
        f"{count:,} lines can't be read, more than --max-rejects {options.max_rejects}: see "
        f"{store / REJECTS}. The first is line {first['line']:,} of {first['file']} (inflated byte "
        f"{first['offset']:,}): {first['reason']}. Is this a Wikidata JSON dump? If it is, mend "
        "it, or run again with a higher --max-rejects: what was read is kept."
    )


def _check_damage(damage: list[Damage], options: Options) -> None:
    if damage and not options.allow_damage:
        more = f" (and {len(damage) - 1} more places)" if len(damage) > 1 else ""
        raise UserError(
            f"{told(damage[0])}{more}. "
            "Fetch the file again, or run again with --allow-damage to build a store of what could "
            "be read."
        )


def told(damage: Damage) -> str:
    """What is lost, in words."""
    if damage.start == damage.end:
        return f"{damage.path}: {damage.reason}"
    return (
        f"{damage.path}: what could not be read of bytes {damage.start:,}-{damage.end:,} is lost: "
        f"{damage.reason}"
    )


def _merge(
    work: Path,
    slices: list[Slice],
    reports: list[SliceReport],
    plan: Plan,
    options: Options,
) -> dict[str, Any]:
    out = work / "merged"
    discard(out)
    out.mkdir()
    runs = [
        slice_directory(work, slice_.index) / f"run-{n:04d}.arrow"
        for slice_, report in zip(slices, reports, strict=False)  # a limit leaves slices unread
        for n in range(report.runs)
    ]
    records = sum(r.items + r.properties - r.repeated for r in reports)
    with Progress("merging", records, unit=" records", quiet=options.quiet) as progress:
        return merge(runs, out, plan.kept, progress.add)


def _publish(
    store: Path,
    plan: Plan,
    reports: list[SliceReport],
    built: dict[str, Any],
    damage: list[Damage],
    earlier: int,
    read_seconds: float,
    started: float,
    quiet: bool,
) -> dict[str, Any]:
    """Moves what was merged into place and writes the manifest last."""
    merged = store / _WORK / "merged"
    files = ["nodes.parquet", *(f"edges/{p}.parquet" for p in built["edges"]), DATA]
    discard(store / "edges")
    for name in ("edges", "nodes.parquet", DATA):
        (merged / name).rename(store / name)
    others: Counter[str] = Counter()
    for report in reports:
        others.update(report.others)
    properties = built["properties"]
    manifest = {
        "step": "store",
        "format": STORE_FORMAT,
        "versions": tool_versions(),
        "plan": _as_json(plan),
        "kept": plan.kept.as_json(),
        "counts": {
            "entities": built["contents"]["records"],
            "items": built["contents"]["records"] - properties,
            "properties": properties,
            "skipped": dict(sorted(others.items())),
            "repeated": built["repeated"] + sum(r.repeated for r in reports),
            "rejects": sum(r.rejected for r in reports),
            "lines": sum(r.extent.lines for r in reports),
            "json_bytes": sum(r.extent.text for r in reports),
            "record_bytes": sum(r.record_bytes for r in reports),
            "edges": built["edges"],
        },
        "damage": msgspec.to_builtins(damage),
        "contents": built["contents"],
        "outputs": digests(store, [*files, REJECTS], quiet=quiet),
        "seconds": {
            "read": round(read_seconds, 2),
            "all": round(time.perf_counter() - started, 2),
            "slices_read_earlier": earlier,
        },
    }
    flush(store, [*files, REJECTS])
    write_manifest(merged, manifest)
    (merged / MANIFEST).rename(store / MANIFEST)
    discard(store / _WORK)
    return manifest
