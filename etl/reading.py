"""All slices of a dump, read by whatever reads one: what stands is kept, what is wrong is redone.

The slices make a chain, each beginning where the one before ended; one that guessed its beginning
wrong is read again. The reports that come back are in the order of the dump and fit together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from etl.dump import STDIN, WIKIDATA, Cut, Input, Slice
from etl.errors import UserError
from etl.keep import Keeping
from etl.losses import check_rejects, placed_rejects, write_rejects
from etl.progress import Progress, Tick
from etl.slices import AnyJob, AnyReport
from etl.source import Access, check_version, is_elsewhere

#: Reads slices, here or elsewhere: (job, its report) as they end.
Read = Callable[[Sequence[AnyJob], Tick], Iterator[tuple[AnyJob, AnyReport]]]


@dataclass(frozen=True)
class Reading(Generic[AnyJob, AnyReport]):
    """A dump that is read slice by slice into ``work``.

    ``job_of`` makes the job of a slice; ``report_of`` gives the report of one that is done (by its
    number), None for one that is to be read. Lines that can't be read, ``max_rejects`` at
    most, go into ``rejects``; ``what`` names the kind of dump to who gives another.
    """

    inputs: list[Input]
    slices: list[Slice]
    work: Path
    rejects: Path
    job_of: Callable[[Slice], AnyJob]
    report_of: Callable[[int], AnyReport | None]
    max_rejects: int
    keeping: Keeping
    what: str = WIKIDATA.name
    quiet: bool = False


def read_all(reading: Reading[AnyJob, AnyReport], read: Read[AnyJob, AnyReport]) -> list[AnyReport]:
    """Reads the slices that have no report, then what guessed its beginning wrong.

    Where the dump is kept, a slice whose bytes aren't in the part is read again.

    Raises UserError where more lines are rejected than are put up with.
    """
    slices, keeping = reading.slices, reading.keeping
    reports = {
        s.index: report
        for s in slices
        if (report := reading.report_of(s.index)) is not None
        and keeping.part_id(s) in ("", report.part)
    }
    jobs = [reading.job_of(s) for s in slices if s.index not in reports]
    total = sum(file.size for file in reading.inputs)
    before = sum(s.end - s.start for s in slices if s.index in reports)
    with Progress("reading", total or None, done=before, quiet=reading.quiet) as progress:
        keeping.follow(slices, reports)
        rejected = sum(r.rejected for r in reports.values())
        for job, report in read(jobs, progress.add):
            reports[job.slice.index] = report
            keeping.follow(slices, reports)
            rejected += report.rejected
            if rejected > reading.max_rejects:
                break
        else:
            _correct(reading, reports, read, progress.add)
            return [reports[s.index] for s in slices]
    done = [s for s in slices if s.index in reports]
    placed = placed_rejects(done, [reports[s.index] for s in done])
    write_rejects(reading.work, reading.rejects, placed)
    check_rejects(reading.rejects, rejected, placed, reading.max_rejects, reading.what)
    raise AssertionError("more rejects than allowed, yet allowed")


def _correct(
    reading: Reading[AnyJob, AnyReport],
    reports: dict[int, AnyReport],
    read: Read[AnyJob, AnyReport],
    tick: Tick,
) -> None:
    """Walks the chain of slices; what doesn't begin where the one before ended is read again."""
    cut = Cut()
    for slice_ in reading.slices:
        if slice_.start == 0:
            cut = Cut()
        corrected = cut.corrected(slice_, reports[slice_.index].extent)
        if corrected is not None:
            for _, report in read([reading.job_of(corrected)], tick):
                reports[slice_.index] = report
        cut = cut.after(reports[slice_.index].extent)


def check_unchanged(files: Iterable[Input], access: Access) -> None:
    """A dump that was written to while it was read gives slices of two files.

    Raises UserError where one was.
    """
    for file in files:
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
