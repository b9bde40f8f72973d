"""One slice of a dump → a directory: what all readers of dumps share, whatever they take of a line.

A :class:`Taker` is handed the text of every entity and writes what it takes of them into a
directory. The rest is done here: lines that can't be read are quarantined, members that turn out
corrupt give nothing, and the directory is renamed into place when all of it is written, with a
report, so a slice is done if and only if its directory is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

import msgspec

from etl.dump import STDIN, Damage, Extent, Reject, Slice
from etl.entity import RejectedLineError
from etl.lines import Line, SliceReader, entity_text
from etl.manifest import discard, flush
from etl.progress import Tick
from etl.source import Access, keep_slice, open_source

REPORT: Final = "report.json"
_FRAME = (b"[", b"]")  # lines that hold no entity
_OPENS, _BRACE = b"[{"
_MOST_KINDS = 100  # Wikibase has four
_QUARANTINED = 4096  # characters of a rejected line that rejects.ndjson shows


class Job(Protocol):
    """What a worker needs to read one slice into ``directory``; a reader's own job says more."""

    @property
    def slice(self) -> Slice: ...
    @property
    def directory(self) -> str: ...
    @property
    def max_line(self) -> int: ...
    @property
    def max_rejects(self) -> int: ...
    @property
    def access(self) -> Access: ...


class Report(msgspec.Struct):
    """What a slice held; a reader's own report, written beside what it took, says more.

    ``others`` counts entities that the reader has no use for, by what they are. ``part`` is the
    id of the kept file (:mod:`etl.keep`) in which all bytes of the slice are.
    """

    extent: Extent = msgspec.field(default_factory=Extent)
    damage: list[Damage] = []
    rejects: list[Reject] = []
    rejected: int = 0
    others: dict[str, int] = {}
    opens: int = 0
    closes: int = 0
    part: str = ""

    def add_other(self, kind: str) -> None:
        """Counts an entity of no use; what has more kinds than there can be is no dump."""
        if kind not in self.others and len(self.others) >= _MOST_KINDS:
            kind = "of still other types"
        self.others[kind] = self.others.get(kind, 0) + 1


AnyJob = TypeVar("AnyJob", bound=Job)
AnyReport = TypeVar("AnyReport", bound=Report)
ReportType = TypeVar("ReportType", bound=Report, covariant=True)


class Taker(Protocol[ReportType]):
    """What takes from the entities of one slice what a reader wants of them."""

    @property
    def report(self) -> ReportType:
        """What the slice held; the taker fills in what is its own, the rest is filled in here."""
        ...

    def take(self, text: Line) -> bool:
        """Takes an entity's text, a view that is gone afterwards; True where it was the last.

        Raises RejectedLineError where it can't be read.
        """
        ...

    def finish(self) -> None:
        """Writes what is still to be written, once no more text comes."""
        ...


def slice_directory(directory: Path, index: int) -> Path:
    """Where what was taken of slice ``index`` stands once it is complete."""
    return directory / f"{index:06d}"


def report_of(directory: Path, index: int, type_: type[AnyReport]) -> AnyReport | None:
    """The report of a finished slice, None for one that is to be read (again)."""
    try:
        data = (slice_directory(directory, index) / REPORT).read_bytes()
        report = msgspec.json.decode(data, type=type_)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    # given up at a lower --max-rejects: the lines beyond it were counted and not kept
    return report if report.rejected == len(report.rejects) else None


def read_into(job: Job, begin: Callable[[Path], Taker[AnyReport]], tick: Tick) -> AnyReport:
    """Reads one slice and leaves what was taken of it, with its report, in place.

    ``begin`` makes a taker that writes into a directory; it is called again where lines of
    corrupt members were taken. Of unreadable lines ``max_rejects`` + 1 are kept, enough to refuse
    the dump, and all are counted.

    Raises OSError where the disk is full, UserError where a dump can't be reached.
    """
    directory = Path(job.directory)
    temporary = directory / f"tmp-{job.slice.index:06d}-{os.getpid()}"
    corrupt: list[Damage] = []
    try:
        with _opened(job) as source:
            while True:
                temporary.mkdir(parents=True)
                taker = begin(temporary)
                report = taker.report
                _take_lines(job, source, taker, tick, corrupt)
                found = [damage for damage in report.damage if damage.corrupt]
                if len(found) == len(corrupt):
                    break
                # what their members gave before the checksum failed is not to be kept
                corrupt = found
                shutil.rmtree(temporary)
            slice_ = job.slice
            report.part = keep_slice(source, slice_.path, slice_.start, slice_.end, job.access)
        taker.finish()
        (temporary / REPORT).write_bytes(msgspec.json.encode(report))
        flush(temporary, [path.name for path in temporary.iterdir()])
        final = slice_directory(directory, job.slice.index)
        discard(final)  # of a start that turned out wrong
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return report


def _opened(job: Job) -> AbstractContextManager[IO[bytes] | None]:
    """The dump of a slice; standard input is open already."""
    path = job.slice.path
    return nullcontext() if path == STDIN else open_source(path, job.access, job.slice.end)


def _take_lines(
    job: Job,
    source: IO[bytes] | None,
    taker: Taker[AnyReport],
    tick: Tick,
    corrupt: list[Damage],
) -> None:
    """Hands every entity of a slice to the taker and completes the taker's report."""
    lines = SliceReader(job.slice, job.max_line, tick, corrupt, source)
    report, take = taker.report, taker.take
    for offset, number, line in lines:
        try:
            if line[-2:] == b"}," and line[0] == _BRACE:  # nearly all: half a microsecond less
                text = line[:-1]
            else:
                text = _entity_of(line, report)
                if not text:
                    continue
            if take(text):
                break
        except RejectedLineError as error:
            report.rejected += 1
            if report.rejected <= job.max_rejects + 1:
                shown = bytes(line[:_QUARANTINED]).decode("utf-8", "replace")
                report.rejects.append(Reject(offset, number, len(line), str(error), shown))
    report.extent, report.damage = lines.extent, lines.damage
    report.others = dict(sorted(report.others.items()))
    report.rejects = sorted([*report.rejects, *lines.long_lines], key=lambda r: r.offset)
    report.rejected += len(lines.long_lines)


def _entity_of(line: Line, report: Report) -> Line:
    """The text of the entity of a line, empty for none; counts the array's brackets.

    They have a line of their own, or stand on those of the first and the last entity.
    """
    text = entity_text(line)
    if len(text) == 0 or text in _FRAME:
        report.opens += text == b"["
        report.closes += text == b"]"
        return b""
    if text[0] == _OPENS:
        report.opens += 1
        text = entity_text(text[1:])
    if text[-1:] == b"]" and text[:1] == b"{":
        report.closes += 1
        text = entity_text(text[:-1])
    return text
