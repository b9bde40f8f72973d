"""The work of an ingest: slices, their chain, what stands beside them, the merge, the manifest.

A slice is done when its directory is there, the store when its manifest is. Redirects are read
beside the slices and names merged beside the records, each in a process of its own.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import ujson

from etl import location
from etl.cluster import Cluster, Nodes, location_of, read_slices, take_finished
from etl.dump import STDIN, WIKIDATA, Damage, Input, Slice
from etl.engine import Pool, beside
from etl.errors import UserError
from etl.full import sample, train
from etl.keep import Keeping
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
    digests,
    discard,
    flush,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.merge import allow_open_files, merge
from etl.merge_inverse import write_inverses
from etl.merge_names import NamesJob, merge_names
from etl.merged_ids import Redirects
from etl.names import NAMES
from etl.plan import Options, Plan, as_json, slices_of
from etl.progress import Progress
from etl.reading import Read, Reading, check_unchanged, read_all
from etl.redirects import RedirectJob, build_redirects, read_redirects
from etl.remote import CONNECTIONS, Remote, is_http, public
from etl.runs import UNCHANGED, SliceJob, SliceReport, read_report, read_slice
from etl.slices import REPORT, slice_directory
from etl.store import DATA, DICTIONARY, REDIRECTS, STORE_FORMAT
from etl.update import OldRun, write_known

WORK: Final = "building"
PAIRS: Final = "redirects.pairs"  # of redirects, as the tables have them

_SOURCES = "sources.json"
_KNOWN = "known.bin"
_MERGED = "merged"


@dataclass(frozen=True)
class _Build:
    """One run: what it makes, of what, with which means, and since when."""

    store: Path
    plan: Plan
    options: Options
    keeping: Keeping
    pool: Pool
    slices: list[Slice]
    started: float
    earlier: int  # slices that an earlier run has read

    @property
    def work(self) -> Path:
        return self.store / WORK

    @property
    def old(self) -> Path | None:
        return self.options.update_from

    def progress(self, what: str, total: int | None, unit: str = "B", done: int = 0) -> Progress:
        return Progress(what, total, unit=unit, done=done, quiet=self.options.quiet)


def build(
    store: Path, plan: Plan, options: Options, keeping: Keeping, pool: Pool
) -> dict[str, Any]:
    """Does what is left of a build, publishes the store and returns its manifest.

    Raises UserError for damage, too many rejects, a dump without entities or that changes.
    """
    slices = slices_of(plan)
    allow_open_files(2 * len(slices), len(plan.kept.properties))  # a large slice makes two runs
    work, started = store / WORK, time.perf_counter()
    for leftover in (*work.glob("tmp-*"), *work.glob(f"*{DISCARDED}")):
        shutil.rmtree(leftover)
    if options.cluster is not None:
        unread = [s.index for s in slices if read_report(work, s.index) is None]
        take_finished(_location(work, plan, options.cluster), unread, work)
    earlier = sum(1 for _ in work.glob(f"*/{REPORT}"))
    run = _Build(store, plan, options, keeping, pool, slices, started, earlier)
    with _redirects(run) as redirects_are_read:
        reports, sources, damage = _read(run)
        read_seconds = time.perf_counter() - run.started
        redirects_are_read()  # before the merge: a broken table would have it begin again
    built = _merge(run, reports)
    redirected = build_redirects(work / PAIRS, work / _MERGED) if plan.tables else {}
    redirects = Redirects.load(work / _MERGED, [REDIRECTS] if plan.tables else [])
    inverses = write_inverses(work / _MERGED, built["edges"], redirects)
    return _publish(run, reports, built, inverses, redirected, damage, sources, read_seconds)


def remove_slices(store: Path, plan: Plan, options: Options) -> None:
    """Removes what a build had read: it is merged, or not wanted. Of a cluster, there as well."""
    if options.cluster is not None:
        location.remove(_location(store / WORK, plan, options.cluster))
    discard(store / WORK)


def _location(work: Path, plan: Plan, cluster: Cluster) -> str:
    return location_of(cluster, as_json(plan), work)


# --- reading ------------------------------------------------------------------------------------


def _read(run: _Build) -> tuple[list[SliceReport], list[dict[str, Any]], list[Damage]]:
    """Reports of all slices, where the dump came from, and what of it is lost."""
    plan, options = run.plan, run.options
    reports = _read_limited(run) if plan.limit else _read_slices(run)
    damage = [lost for report in reports for lost in report.damage]
    check_unchanged(plan.inputs, run.keeping.access)
    sources = _sources(run)
    if not plan.limit:
        check_ends(plan.inputs, reports, damage)
    rejects = placed_rejects(run.slices, reports)
    write_rejects(run.work, run.store / REJECTS, rejects)
    check_damage(damage, options.allow_damage)
    rejected = sum(r.rejected for r in reports)
    check_rejects(run.store / REJECTS, rejected, rejects, options.max_rejects)
    if not any(report.items + report.properties for report in reports):
        discard(run.work)
        raise UserError(
            f"{plan.inputs[0].path} has no item and no property; is this {WIKIDATA.name}, "
            "with one entity a line?"
        )
    return reports, sources, damage


def _read_slices(run: _Build) -> list[SliceReport]:
    """Reads the slices that have no report, then what guessed its beginning wrong."""
    reading = Reading(
        run.plan.inputs,
        run.slices,
        run.work,
        run.store / REJECTS,
        _jobs(run),
        lambda index: read_report(run.work, index),
        run.options.max_rejects,
        run.keeping,
        quiet=run.options.quiet,
    )
    with _reading(run) as read:
        return read_all(reading, read)


@contextmanager
def _reading(run: _Build) -> Iterator[Read[SliceJob, SliceReport]]:
    """What reads slices and puts them into the work: here, in processes, or on a cluster."""
    cluster = run.options.cluster
    if cluster is not None:
        there = _location(run.work, run.plan, cluster)
        with Nodes(cluster.address, run.plan.inputs, there) as nodes:
            yield lambda jobs, tick: read_slices(nodes, jobs, there, run.work, tick)
    else:
        yield lambda jobs, tick: run.pool.run(read_slice, jobs, tick)


def workers_for(plan: Plan, options: Options) -> int:
    """Processes that read slices on this machine, 0 for this one alone.

    Standard input can't be handed to another process; a host gets few connections.
    """
    if plan.inputs[0].path == STDIN or options.cluster is not None:
        return 0
    if any(is_http(file.path) for file in plan.inputs):
        return min(options.workers, CONNECTIONS)
    return options.workers


def _jobs(run: _Build) -> Callable[[Slice], SliceJob]:
    """Makes the job of a slice."""
    plan, known, dictionary = run.plan, _known(run), _dictionary(run)
    return lambda slice_: SliceJob(
        slice_,
        str(run.work),
        plan.kept,
        plan.max_line,
        run.options.max_rejects,
        access=run.keeping.access,
        known=known,
        dictionary=dictionary,
    )


def _known(run: _Build) -> str:
    """The file of the older store's revisions, "" where there is no older store."""
    if run.old is None:
        return ""
    old = run.old
    return str(_made(run.work / _KNOWN, lambda path: write_known(old, path)))


def _dictionary(run: _Build) -> bytes:
    """What whole entities are compressed with: the older store's, else trained on the dump."""
    if not run.plan.kept.full:
        return b""
    if run.old is not None:
        return (run.old / DICTIONARY).read_bytes()

    def write(path: Path) -> None:
        path.write_bytes(train(sample(run.plan.inputs, run.keeping.access)))

    return _made(run.work / DICTIONARY, write).read_bytes()


def _made(path: Path, write: Callable[[Path], None]) -> Path:
    """A file that slices are read with: written once, and on the disk before any slice is.

    After a power cut slices of one dictionary must not stand beside another.
    """
    if not path.exists():
        temporary = path.with_name(f"{path.name}.tmp")
        write(temporary)
        flush(path.parent, [temporary.name])
        temporary.rename(path)
    return path


def _read_limited(run: _Build) -> list[SliceReport]:
    """Reads here and one after the other, until there is enough."""
    reports: list[SliceReport] = []
    job_of, left = _jobs(run), run.plan.limit
    with run.progress("reading", sum(file.size for file in run.plan.inputs) or None) as progress:
        for slice_ in run.slices:
            limited = msgspec.structs.replace(job_of(slice_), limit=left)
            reports.append(read_slice(limited, progress.add))
            left -= reports[-1].items + reports[-1].properties
            if left == 0:
                break
    return reports


def _sources(run: _Build) -> list[dict[str, Any]]:
    """Where dumps that were given as addresses came from, and by what they were checked.

    A kept dump gets its name here, after which a resume takes it for a local file and finds in
    the work what is known of it.

    Raises UserError where a kept dump has another sum than is published; nothing that was read
    from it is left then.
    """
    path, access = run.work / _SOURCES, run.keeping.access
    before = list(ujson.loads(path.read_bytes())) if path.exists() else []
    if not access.remotes and not access.kept:
        return before
    known = {source["address"]: source for source in before}
    checked = run.keeping.check(lambda: discard(run.work), quiet=run.options.quiet)
    sources = []
    for file in run.plan.inputs:
        if file.path in access.remotes:
            remote, how = access.remotes[file.path], checked.get(file.path, "length")
            sources.append(_source(file, public(file.path), remote, how))
        elif file.path in access.kept:
            kept = access.kept[file.path]
            made = _source(file, kept.address, kept.remote or Remote(file.size), kept.checked)
            sources.append(known.get(kept.address, made))
    if sources:
        write_json(path, sources)
    run.keeping.settle()
    return sources


def _source(file: Input, address: str, remote: Remote, checked: str) -> dict[str, Any]:
    if file.form != "json":  # inflating checks more
        checked = {"length": "members and length", "nothing": "members"}.get(checked, checked)
    return {**msgspec.to_builtins(remote), "address": address, "checked": checked}


@contextmanager
def _redirects(run: _Build) -> Iterator[Callable[[], None]]:
    """Reads the tables of redirects beside the slices; the call waits until that is done."""
    tables = run.plan.tables
    if not tables:
        yield lambda: None
        return
    job = RedirectJob(tables[0].path, tables[1].path, str(run.work / PAIRS))
    with beside(read_redirects, job, run.options.workers) as read:

        def wait() -> None:
            with run.progress("reading redirects", sum(t.size for t in tables)) as progress:
                read(progress.add)
            check_unchanged(tables, run.keeping.access)

        yield wait


# --- merging ------------------------------------------------------------------------------------


def _merge(run: _Build, reports: list[SliceReport]) -> dict[str, Any]:
    """Merges records and, beside them, names into a fresh directory; returns the counts."""
    out, kept = run.work / _MERGED, run.plan.kept
    discard(out)
    out.mkdir()
    # a limit leaves slices unread
    directories = [
        slice_directory(run.work, s.index) for s, _ in zip(run.slices, reports, strict=False)
    ]
    runs = [
        directory / f"run-{n:04d}.arrow"
        for directory, report in zip(directories, reports, strict=True)
        for n in range(report.runs)
    ]
    unchanged = [directory / UNCHANGED for directory in directories] if run.old else []
    names = NamesJob(
        tuple(map(str, runs)),
        str(out),
        kept.languages,
        str(run.old or ""),
        tuple(map(str, unchanged)),
    )
    old = OldRun(run.old, kept, unchanged) if run.old else None
    records = sum(r.items + r.properties - r.repeated for r in reports)
    with beside(merge_names, names, run.options.workers) as merged_names:
        with run.progress("merging", records, " records") as progress:
            built = merge(runs, out, kept, progress.add, old=old, dictionary=_dictionary(run))
        with run.progress("merging names", None, " names") as progress:
            built["names"] = merged_names(progress.add)
    return built


def _publish(
    run: _Build,
    reports: list[SliceReport],
    built: dict[str, Any],
    inverses: list[str],
    redirects: dict[str, int],
    damage: list[Damage],
    sources: list[dict[str, Any]],
    read_seconds: float,
) -> dict[str, Any]:
    """Moves what was merged into place and writes the manifest last."""
    store, merged = run.store, run.work / _MERGED
    single = ["nodes.parquet", NAMES, DATA]
    single += [DICTIONARY] if run.plan.kept.full else []
    single += [REDIRECTS] if run.plan.tables else []
    files = [*single, *(f"edges/{p}.parquet" for p in built["edges"]), *inverses]
    discard(store / "edges")
    for name in ("edges", *single):
        (merged / name).rename(store / name)
    manifest = {
        "step": "store",
        "format": STORE_FORMAT,
        "versions": tool_versions(),
        "plan": as_json(run.plan),
        "kept": run.plan.kept.as_json(),
        "counts": _counts(reports, built),
        **({"redirects": redirects} if run.plan.tables else {}),
        **({"update": {"from": run.plan.update_from, **built["update"]}} if run.old else {}),
        "damage": msgspec.to_builtins(damage),
        "sources": sources,
        "contents": built["contents"],
        "outputs": digests(store, [*files, REJECTS], quiet=run.options.quiet),
        "seconds": {
            "read": round(read_seconds, 2),
            "all": round(time.perf_counter() - run.started, 2),
            "slices_read_earlier": run.earlier,
        },
    }
    flush(store, [*files, REJECTS])
    write_manifest(merged, manifest)
    (merged / MANIFEST).rename(store / MANIFEST)
    return manifest


def _counts(reports: list[SliceReport], built: dict[str, Any]) -> dict[str, Any]:
    others: Counter[str] = Counter()
    for report in reports:
        others.update(report.others)
    records, properties = built["contents"]["records"], built["properties"]
    return {
        "entities": records,
        "items": records - properties,
        "properties": properties,
        "skipped": dict(sorted(others.items())),
        "repeated": built["repeated"] + sum(r.repeated for r in reports),
        "rejects": sum(r.rejected for r in reports),
        "lines": sum(r.extent.lines for r in reports),
        "json_bytes": sum(r.extent.text for r in reports),
        "record_bytes": built["record_bytes"],
        "edges": built["edges"],
        "names": built["names"],
    }
