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
from typing import Any

import lmdb
import msgspec
import ujson

from etl import engine
from etl.dump import STDIN, Cut, Damage, Slice, find_inputs
from etl.errors import UserError, is_disk_full
from etl.estimate import Estimate, check_disk
from etl.keep import Keeping, keep
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
    read_manifest,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.merge import allow_open_files, merge
from etl.plan import OF_THE_WORK, Options, Plan, as_json, check_same, make_plan, slices_of
from etl.progress import Progress
from etl.remote import CONNECTIONS, is_http, public
from etl.runs import REPORT, SliceJob, SliceReport, read_report, read_slice, slice_directory
from etl.show import in_bytes
from etl.source import Access, check_version, is_elsewhere, reach
from etl.store import DATA, STORE_FORMAT

_WORK = "building"
_PLAN = "plan.json"
_SOURCES = "sources.json"
_LOCK = ".lock"


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
    begun = [] if options.fresh else _begun(store)
    names, access = reach(
        names, options.contact, options.keep_dump, begun=begun, quiet=options.quiet
    )
    inputs = find_inputs(names, access)
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
            check_disk(store, inputs, access, options, announce)
        _settle_plan(store, plan)
        kept_in = None if options.limit else options.keep_dump  # a look isn't worth keeping
        with _disk_errors(store), keep(access, kept_in) as keeping:
            return _build(store, plan, options, keeping)


def is_finished(store: Path) -> bool:
    """Whether a store stands in a directory: its manifest is there."""
    return (store / MANIFEST).exists()


# --- before the work ----------------------------------------------------------------------------


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


def _begun(store: Path) -> list[str]:
    """Addresses that a build which was interrupted reads; they decide where a link has moved."""
    try:
        inputs = ujson.loads((store / _WORK / _PLAN).read_bytes())["inputs"]
        return [file["address"] for file in inputs if "address" in file]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # _settle_plan says what is wrong with a plan that can't be read


def _settle_plan(store: Path, plan: Plan) -> None:
    """Writes the plan, or checks it against the one that stands."""
    path = store / _WORK / _PLAN
    encoded = as_json(plan)
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
    check_same(store, standing, encoded, "holds a half-built store")


def _finished(store: Path, plan: Plan) -> dict[str, Any]:
    manifest = read_manifest(store, "store")
    if plan.inputs[0].path == STDIN:
        raise UserError(
            f"{store} holds a finished store, and standard input can't be compared with what it "
            "was made from; choose another --store, or start over with --fresh."
        )
    wanted = {k: v for k, v in as_json(plan).items() if k not in OF_THE_WORK}
    check_same(store, manifest["plan"], wanted, "holds a finished store")
    check_whole(store, manifest, "build it again with --fresh")
    return manifest


# --- the work -----------------------------------------------------------------------------------


def _build(store: Path, plan: Plan, options: Options, keeping: Keeping) -> dict[str, Any]:
    started = time.perf_counter()
    earlier = sum(1 for _ in (store / _WORK).glob(f"*/{REPORT}"))
    slices = slices_of(plan)
    allow_open_files(len(slices), len(plan.kept.properties))
    work = store / _WORK
    for leftover in (*work.glob("tmp-*"), *work.glob(f"*{DISCARDED}")):
        shutil.rmtree(leftover)
    reports = _read_slices(work, plan, slices, options, keeping)
    read_seconds = time.perf_counter() - started
    damage = [d for report in reports for d in report.damage]
    _check_unchanged(plan, keeping.access)
    sources = _sources(work, plan, options, keeping)
    check_ends(plan, reports, damage)
    rejects = placed_rejects(slices, reports)
    write_rejects(work, store / REJECTS, rejects)
    check_damage(damage, options)
    check_rejects(store, sum(r.rejected for r in reports), rejects, options)
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
        sources,
        earlier,
        read_seconds,
        started,
        options.quiet,
    )


def _read_slices(
    work: Path, plan: Plan, slices: list[Slice], options: Options, keeping: Keeping
) -> list[SliceReport]:
    """Reads the slices that have no report, then what guessed its beginning wrong.

    Where the dump is kept, a slice whose bytes aren't in the part is read again.
    """
    reports = {
        s.index: report
        for s in slices
        if (report := read_report(work, s.index)) is not None
        and keeping.part_id(s) in ("", report.part)
    }
    missing = [s for s in slices if s.index not in reports]
    total = sum(file.size for file in plan.inputs)
    before = sum(s.end - s.start for s in slices if s.index in reports)
    with Progress("reading", total or None, done=before, quiet=options.quiet) as progress:
        if plan.limit:
            return _read_limited(work, plan, slices, options, keeping.access, progress)
        jobs = [_job(work, plan, s, options, keeping.access) for s in missing]
        keeping.follow(slices, reports)
        rejected = sum(r.rejected for r in reports.values())
        for job, report in _run(plan, jobs, options, progress):
            reports[job.slice.index] = report
            keeping.follow(slices, reports)
            rejected += report.rejected
            if rejected > options.max_rejects:
                break
        else:
            _correct(work, plan, slices, reports, options, keeping.access, progress)
            return [reports[s.index] for s in slices]
    read = [s for s in slices if s.index in reports]
    placed = placed_rejects(read, [reports[s.index] for s in read])
    write_rejects(work, work.parent / REJECTS, placed)
    check_rejects(work.parent, rejected, placed, options)
    raise AssertionError("more rejects than allowed, yet allowed")


def _job(
    work: Path, plan: Plan, slice_: Slice, options: Options, access: Access, limit: int = 0
) -> SliceJob:
    return SliceJob(slice_, str(work), plan.kept, plan.max_line, options.max_rejects, limit, access)


def _run(
    plan: Plan, jobs: list[SliceJob], options: Options, progress: Progress
) -> Iterator[tuple[SliceJob, SliceReport]]:
    # standard input can't be handed to another process
    workers = 0 if plan.inputs[0].path == STDIN else options.workers
    if any(is_http(file.path) for file in plan.inputs):
        workers = min(workers, CONNECTIONS)
    return engine.run(read_slice, jobs, workers, progress.add)


def _correct(
    work: Path,
    plan: Plan,
    slices: list[Slice],
    reports: dict[int, SliceReport],
    options: Options,
    access: Access,
    progress: Progress,
) -> None:
    """Walks the chain of slices; what doesn't begin where the one before ended is read again."""
    cut = Cut()
    for slice_ in slices:
        if slice_.start == 0:
            cut = Cut()
        corrected = cut.corrected(slice_, reports[slice_.index].extent)
        if corrected is not None:
            job = _job(work, plan, corrected, options, access)
            for _, report in _run(plan, [job], options, progress):
                reports[slice_.index] = report
        cut = cut.after(reports[slice_.index].extent)


def _read_limited(
    work: Path,
    plan: Plan,
    slices: list[Slice],
    options: Options,
    access: Access,
    progress: Progress,
) -> list[SliceReport]:
    reports, left = [], plan.limit
    for slice_ in slices:
        job = _job(work, plan, slice_, options, access, left)
        reports.append(read_slice(job, progress.add))
        left -= reports[-1].items + reports[-1].properties
        if left == 0:
            break
    return reports


def _check_unchanged(plan: Plan, access: Access) -> None:
    """A dump that was written to while it was read gives slices of two files."""
    for file in plan.inputs:
        if file.path == STDIN:
            continue
        if is_elsewhere(file.path):
            check_version(file.path, access)
            continue
        stat = os.stat(file.path)
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
            raise UserError(
                f"{file.path} was changed while it was read; start over with --fresh when it is "
                "complete."
            )


def _sources(work: Path, plan: Plan, options: Options, keeping: Keeping) -> list[dict[str, Any]]:
    """Where dumps that are no local files came from, and by what they were checked.

    A kept dump gets its name here, after which a resume takes it for a local file and finds in
    ``work`` what is known of it.

    Raises UserError where a kept dump has another sum than is published; nothing that was read
    from it is left then.
    """
    path, remotes = work / _SOURCES, keeping.access.remotes
    if not remotes:
        return list(ujson.loads(path.read_bytes())) if path.exists() else []
    checked = keeping.check(lambda: discard(work), quiet=options.quiet)
    sources = [
        {
            **msgspec.to_builtins(remotes[file.path]),
            "address": public(file.path),
            "checked": checked.get(file.path)
            or ("length" if file.form == "json" else "members and length"),
        }
        for file in plan.inputs
        if file.path in remotes
    ]
    write_json(path, sources)
    keeping.settle()
    return sources


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
    sources: list[dict[str, Any]],
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
        "plan": as_json(plan),
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
            "record_bytes": built["record_bytes"],
            "edges": built["edges"],
        },
        "damage": msgspec.to_builtins(damage),
        "sources": sources,
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
