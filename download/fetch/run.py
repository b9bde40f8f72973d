"""Candidates → their images, as they were served: plan, log and store (see download.fetch.log).

    sparqless images fetch --images data/images/living --contact you@example.org

What is to be asked for follows from the candidates and the log, so a run that was killed, at any
moment, is gone on with by the same command: no URL with a last word in the log is asked again, and
what was on the way then is asked once more. A run ends when every candidate has an outcome; those
that may still work later are tried again by `--retry transient`. Candidates that were looked for
again keep what was fetched: only what is new is asked for.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from download.candidates import CANDIDATES_FILE
from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.addresses import Access, access
from download.fetch.bodies import Index, complete_index
from download.fetch.forecast import best, forecast, lasting
from download.fetch.http import Limits, user_agent
from download.fetch.journal import make_folders, take_up
from download.fetch.log import (
    FOLDER,
    LOG_FOLDER,
    RESULTS_FILE,
    STORE_FOLDER,
    asked_to_wait,
    next_number,
    parts,
    run_of,
)
from download.fetch.manners import Rules
from download.fetch.manners import load as load_manners
from download.fetch.plan import PLAN_FOLDER, PLAN_FORMAT, Plan, planned
from download.fetch.report import by_host, by_outcome, log_counts
from download.fetch.state import Mask, State
from download.fetch.worker import (
    MOVED,
    MOVED_FILE,
    TRIED_FILE,
    WANTED_FILE,
    Batches,
    Job,
    Told,
    told_file,
    work,
)
from etl.cluster import Nodes
from etl.config import contact
from etl.engine import Pool
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    check_whole,
    digest_of_data,
    digests,
    flush,
    misshapen,
    read_manifest,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.progress import Progress
from etl.show import in_bytes
from etl.writing import disk_errors, locked

#: What may be asked for again.
RETRIED: Final = ("transient", "permanent", "refused")

_SCRATCH: Final = ".scratch"
_LOOK_SECONDS: Final = 1.0
_MOST_FRUITLESS: Final = 3  # rounds
_RUN_FILE: Final = "run.json"


@dataclass(frozen=True)
class Options:
    """What a user may set.

    ``retry``: outcomes (of RETRIED) that count as none where an earlier run had them. ``tries``:
    attempts at a URL in one run. ``connections``: requests under way at most, of all workers.
    ``pause``: seconds, mean, before a URL is asked for a second time; doubled each time. ``limit``:
    a first look, at so many URLs (download.fetch.forecast.best); 0 fetches all.
    """

    contact: str | None = None
    retry: tuple[str, ...] = ()
    limit: int = 0
    workers: int = 1
    tries: int = 4
    connections: int = 256
    pause: float = 5.0
    manners: Path | None = None
    limits: Limits = field(default_factory=Limits)
    allow_host: tuple[str, ...] = ()
    resolve: tuple[str, ...] = ()
    ca_file: Path | None = None
    batches: Batches = field(default_factory=Batches)
    engine: Literal["local", "ray"] = "local"
    ray_address: str = "auto"
    quiet: bool = False


def fetch(
    images: Path, options: Options, announce: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Asks for all that the candidates of a directory want, and returns the manifest.

    ``announce`` is told what there is to ask for (download.fetch.forecast), before it begins.
    Raises UserError without a contact or candidates, for options of no use, another run in the same
    directory and a full disk.
    """
    allowed = access(options.allow_host, options.resolve, options.ca_file)
    agent = user_agent(contact(options.contact, here=allowed.leads_here))
    _check(options)
    rules = load_manners(options.manners)
    candidates = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)
    check_whole(images / CANDIDATES_FOLDER, candidates, "run `sparqless images find` again")
    fetches = images / FOLDER
    with _directory(fetches) as scratch, _files_to_open():
        plan = _plan(images, candidates, rules, fetches, scratch, quiet=options.quiet)
        run = _Run(fetches, scratch, plan, options, agent, rules, allowed)
        return run.all(candidates, announce)


def foresee(images: Path, options: Options) -> dict[str, Any]:
    """What a fetch with these options would ask for (download.fetch.forecast); asks nobody.

    The plan that it makes is there for the fetch, unless it would cost what stands there its
    manifest. Raises UserError as :func:`fetch` does, but for the contact, which nobody gets.
    """
    _check(options)
    rules = load_manners(options.manners)
    candidates = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)
    check_whole(images / CANDIDATES_FOLDER, candidates, "run `sparqless images find` again")
    fetches = images / FOLDER
    with _directory(fetches) as scratch:
        kept = fetches
        if (fetches / MANIFEST).exists() and not _is_planned(fetches, candidates, rules):
            kept = scratch / "foreseen"
            kept.mkdir()
        plan = _plan(images, candidates, rules, kept, scratch, quiet=options.quiet)
        begun = _begin(fetches, options.retry)
        state = State(plan, fetches, begun.since, begun.retry)
        wanted = state.wanted()
        if options.limit:
            wanted &= best(plan, options.limit)
        total = candidates["counts"]["candidates"]
        return forecast(plan, state, wanted, rules, fetches, total)


def write_results(images: Path, out: Path) -> dict[str, int]:
    """Writes what came of every candidate by now (columns RESULTS), also of an unfinished fetch.

    Returns how many candidates there are of each reason; "" where one is still to be asked for.

    Raises UserError where nothing was fetched, or a fetch is running.
    """
    fetches = images / FOLDER
    nothing = f"{fetches} holds no images: run `sparqless images fetch` first."
    if not (fetches / PLAN_FOLDER).is_dir():
        raise UserError(nothing)
    candidates = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)
    with _directory(fetches) as scratch:
        if not parts(fetches):
            raise UserError(nothing)
        plan = Plan(fetches / PLAN_FOLDER)
        if plan.made_from["candidates"] != _digest_of(candidates):
            raise UserError(
                f"{images}: the candidates were looked for again since they were fetched: run "
                "`sparqless images fetch` again."
            )
        state = _last_words(plan, fetches, scratch)
        return state.results(out, candidates["counts"]["candidates"])


def _last_words(plan: Plan, fetches: Path, scratch: Path) -> State:
    """What the log says at all, whatever is to be retried."""
    sha256s = np.memmap(scratch / "sha256s", "V32", "w+", shape=max(plan.urls, 1))
    return State(plan, fetches, 0, sha256s=sha256s)


def _check(options: Options) -> None:
    for outcome in options.retry:
        if outcome not in RETRIED:
            raise UserError(f"--retry {outcome}: give one of {', '.join(RETRIED)}.")
    if options.engine not in ("local", "ray"):
        raise UserError(f"--engine {options.engine}: give local or ray.")
    for name, value, least in (
        ("tries", options.tries, 1),
        ("connections", options.connections, 1),
        ("workers", options.workers, 0),
    ):
        if value < least:
            raise UserError(f"--{name} must be at least {least}.")
    if options.connections < options.workers:
        raise UserError("--connections must be at least --workers: each worker needs one.")


@contextmanager
def _directory(fetches: Path) -> Iterator[Path]:
    """Locks the directory, seals what a killed run left open, and gives a folder for scratch."""
    fetches.mkdir(parents=True, exist_ok=True)
    scratch = fetches / _SCRATCH
    with locked(fetches, "--images"), disk_errors(fetches):
        shutil.rmtree(scratch, ignore_errors=True)
        _seal_open(fetches)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _files_to_open() -> Iterator[None]:
    """Too many connections for this machine, in the user's words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise UserError(
            f"this machine can't open so many connections ({error.strerror}); what is done is "
            "kept: run the same command again, with fewer --connections."
        ) from error


def _seal_open(fetches: Path) -> None:
    make_folders(fetches)
    complete_index(fetches)
    with Index(fetches) as index:
        take_up(fetches, index)


def _digest_of(candidates: dict[str, Any]) -> str:
    digest: str = candidates["outputs"][CANDIDATES_FILE]["sha256"]
    return digest


def _plan(
    images: Path,
    candidates: dict[str, Any],
    rules: Rules,
    fetches: Path,
    scratch: Path,
    *,
    quiet: bool,
) -> Plan:
    table = images / CANDIDATES_FOLDER / CANDIDATES_FILE
    made_from = _made_from(candidates, rules)
    return planned(table, fetches, made_from, rules.group_of, scratch, quiet=quiet)


def _made_from(candidates: dict[str, Any], rules: Rules) -> dict[str, Any]:
    return {
        "candidates": _digest_of(candidates),
        "groups": digest_of_data(dict(rules.hosts)),
    }


def _is_planned(fetches: Path, candidates: dict[str, Any], rules: Rules) -> bool:
    key = {"format": PLAN_FORMAT, **_made_from(candidates, rules)}
    return Plan(fetches / PLAN_FOLDER).made_from == key


# --- a run --------------------------------------------------------------------------------------


class _Begun(msgspec.Struct, frozen=True):
    """A run that hasn't ended: its number, the one that it goes on with, and what it retries."""

    run: int
    since: int
    retry: list[str]


def _begin(fetches: Path, retry: Sequence[str]) -> _Begun:
    """The next number. The same command goes on with a run that was killed; another doesn't."""
    stored = (file.stem for file in (fetches / STORE_FOLDER).glob("*.bodies"))
    # also of bodies whose rows were removed: a part of the same name would be taken for theirs
    numbers = [run_of(part) for part in (*parts(fetches), *stored)]
    wanted = sorted({*retry})
    before: _Begun | None = None
    with suppress(FileNotFoundError):
        before = msgspec.json.decode((fetches / _RUN_FILE).read_bytes(), type=_Begun)
        numbers.append(before.run)
    number = max(numbers, default=0) + 1
    ended = (fetches / MANIFEST).exists()
    goes_on = before is not None and before.retry == wanted and not ended
    since = before.since if before is not None and goes_on else number
    return _Begun(number, since, wanted)


class _Run:
    """One run of the command, from the state of the log to a manifest."""

    def __init__(
        self,
        fetches: Path,
        scratch: Path,
        plan: Plan,
        options: Options,
        agent: str,
        rules: Rules,
        allowed: Access,
    ) -> None:
        self._fetches, self._scratch, self._plan = fetches, scratch, plan
        self._options, self._agent = options, agent
        self._rules, self._access = rules, allowed
        self._started = time.perf_counter()
        self._begun = _begin(fetches, options.retry)
        self._rounds = 0
        self._pauses: dict[str, float] = {}  # as in Job
        self._heard: set[str] = set()  # parts that were looked at for pauses
        self._state = State(plan, fetches, self._begun.since, self._begun.retry)
        self._looked_at = best(plan, options.limit) if options.limit else None

    def _wanted(self) -> Mask:
        wanted = self._state.wanted()
        return wanted if self._looked_at is None else wanted & self._looked_at

    def all(
        self, candidates: dict[str, Any], announce: Callable[[dict[str, Any]], None] | None
    ) -> dict[str, Any]:
        """Rounds until no candidate wants anything; the manifest."""
        wanted = self._wanted()
        if not wanted.any() and (standing := self._standing()) is not None:
            return standing
        if announce is not None and wanted.any():
            total = candidates["counts"]["candidates"]
            found = forecast(self._plan, self._state, wanted, self._rules, self._fetches, total)
            announce(found)
        (self._fetches / MANIFEST).unlink(missing_ok=True)
        write_json(self._fetches / _RUN_FILE, msgspec.to_builtins(self._begun))
        with self._engine() as engine:
            fruitless = 0
            while wanted.any():
                before = len(parts(self._fetches))
                self._round(engine, wanted)
                wanted = self._wanted()
                fruitless = 0 if len(parts(self._fetches)) > before else fruitless + 1
                if fruitless == _MOST_FRUITLESS:
                    raise UserError(
                        "workers were lost again and again before they had fetched anything, most "
                        "likely because memory ran out: run the same command again, with fewer "
                        "--workers or --connections."
                    )
        return self._finish(candidates)

    def _engine(self) -> Pool | Nodes:
        if self._options.engine == "local":
            return Pool(self._options.workers)
        room = Path(__file__).parents[1]
        return Nodes(self._options.ray_address, (), str(self._fetches.absolute()), [room])

    def _standing(self) -> dict[str, Any] | None:
        """The manifest that stands there, if a run of nothing would write it again."""
        if not (self._fetches / MANIFEST).exists():
            return None
        manifest = read_manifest(self._fetches, FOLDER)
        same = manifest.get("plan") == self._plan.made_from and not misshapen(
            self._fetches, manifest
        )
        return manifest if same and manifest["parts"] == len(parts(self._fetches)) else None

    def _round(self, engine: Pool | Nodes, wanted: Mask) -> None:
        """Has the workers ask for all that is wanted now."""
        self._hear()
        self._write_round(wanted)
        self._rounds += 1
        jobs = [self._job(number) for number in range(max(1, self._options.workers))]
        done = int(np.count_nonzero(self._state.of))
        total = done + int(np.count_nonzero(wanted))
        quiet = self._options.quiet
        try:
            with (
                Progress("fetching", total, done=done, unit=" URLs", quiet=quiet) as progress,
                self._shown(progress, len(jobs)),
            ):
                for _ in engine.run(work, jobs, lambda _: None):
                    pass
        except BaseException:
            # what is in journals is on the disk; sealed now, the next start has less to do
            engine.__exit__()
            with suppress(OSError, UserError):
                _seal_open(self._fetches)
            raise
        _seal_open(self._fetches)  # of workers that were lost, and the index of those elsewhere
        self._state.update()

    def _hear(self) -> None:
        """Takes in for how long hosts wanted to be left alone, also those of runs before.

        What workers only guessed, with no word from the host, is known of the round before.
        """
        new = [part for part in parts(self._fetches) if part not in self._heard]
        for part in new:
            for url, until in asked_to_wait(self._fetches, part):
                self._leave_alone(self._rules.group_of(url), until)
        self._heard.update(new)
        for told in self._told(max(1, self._options.workers)):
            for group, until in told.pauses.items():
                self._leave_alone(group, until)
        now = time.time()
        self._pauses = {group: until for group, until in self._pauses.items() if until > now}

    def _leave_alone(self, group: str, until: float) -> None:
        self._pauses[group] = max(until, self._pauses.get(group, 0.0))

    @contextmanager
    def _shown(self, progress: Progress, workers: int) -> Iterator[None]:
        """Shows meanwhile how far the workers say that they are, wherever they run."""
        over = threading.Event()
        begun = progress.done

        def look() -> None:
            told = self._told(workers)
            progress.note = _note(told)
            progress.add(begun + sum(t.ended for t in told) - progress.done)

        def keep_looking() -> None:
            while not over.wait(_LOOK_SECONDS):
                look()

        thread = threading.Thread(target=keep_looking, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            look()

    def _told(self, workers: int) -> list[Told]:
        told: list[Told] = []
        for number in range(workers):
            with suppress(OSError, msgspec.DecodeError):
                data = told_file(self._scratch, number).read_bytes()
                told.append(msgspec.json.decode(data, type=Told))
        return told

    def _write_round(self, wanted: Mask) -> None:
        moved = [
            (self._rules.group_of(found.url), found.row, found.url, found.hops)
            for found in self._state.moved(wanted)
        ]
        moved.sort()
        here = wanted.copy()
        here[[row for _, row, _, _ in moved]] = False
        np.save(self._scratch / WANTED_FILE, here)
        np.save(self._scratch / TRIED_FILE, self._state.tried)
        for file in self._scratch.glob("told-*"):  # of the round before
            file.unlink()
        columns = list(zip(*moved, strict=True)) or [()] * len(MOVED)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, MOVED, strict=True)]
        with pa.ipc.new_file(self._scratch / MOVED_FILE, MOVED) as writer:
            writer.write_table(pa.Table.from_arrays(arrays, schema=MOVED))

    def _job(self, number: int) -> Job:
        options = self._options
        workers = max(1, options.workers)
        return Job(
            fetches=self._fetches,
            scratch=self._scratch,
            run=self._begun.run,
            round=self._rounds,
            number=number,
            workers=workers,
            first_part=next_number(self._fetches, self._begun.run, number),
            agent=self._agent,
            rules=self._rules,
            limits=options.limits,
            access=self._access,
            tries=options.tries,
            connections=(options.connections + workers - 1 - number) // workers,
            pause=options.pause,
            batches=options.batches,
            pauses=self._pauses,
            indexed=options.engine == "local",
        )

    def _finish(self, candidates: dict[str, Any]) -> dict[str, Any]:
        """Writes the results and the manifest."""
        fetches = self._fetches
        state = _last_words(self._plan, fetches, self._scratch)
        total = candidates["counts"]["candidates"]
        made = self._scratch / RESULTS_FILE
        reasons = state.results(made, total)
        flush(self._scratch, [RESULTS_FILE])
        made.replace(fetches / RESULTS_FILE)
        complete_index(fetches)
        with Index(fetches) as index:
            images = len(index)
        standing = parts(fetches)
        names = [
            RESULTS_FILE,
            *(f"{LOG_FOLDER}/{part}.parquet" for part in standing),
            *(f"{PLAN_FOLDER}/{path.name}" for path in (fetches / PLAN_FOLDER).iterdir()),
        ]
        manifest = {
            "step": FOLDER,
            "versions": tool_versions(),
            "candidates": candidates["manifest_sha256"],
            "plan": self._plan.made_from,
            "options": self._settings(),
            "run": self._begun.run,
            "parts": len(standing),
            "counts": {
                "candidates": {"total": total, **by_outcome(reasons)},
                "urls": {"total": self._plan.urls, **by_outcome(state.counts())},
                "images": images,
                **log_counts(fetches, standing),
            },
            "hosts": by_host(self._plan, state),
            "outputs": digests(fetches, names, quiet=self._options.quiet),
            "seconds": round(time.perf_counter() - self._started, 2),
        }
        if self._looked_at is not None and self._state.wanted().any():
            return manifest  # of a first look: the fetch hasn't come to its end
        write_manifest(fetches, manifest)
        (fetches / _RUN_FILE).unlink(missing_ok=True)
        return read_manifest(fetches, FOLDER)

    def _settings(self) -> dict[str, Any]:
        options = self._options
        return {
            "agent": self._agent,
            "retry": list(options.retry),
            "limit": options.limit,
            "tries": options.tries,
            "limits": msgspec.to_builtins(options.limits),
            "allow_host": list(options.allow_host),
            "resolve": list(options.resolve),
            "manners": None if options.manners is None else str(options.manners),
        }


def _note(told: Sequence[Told]) -> str:
    """How it goes: the share that is ok, bytes, and what is left of the host that takes longest."""
    if any(t.offline for t in told):
        return "no network: waiting for it"
    ended = sum(t.ended for t in told)
    if not ended:
        return ""
    said = [f"{sum(t.ok for t in told) / ended:.0%} ok", in_bytes(sum(t.size for t in told))]
    longest = max(told, key=lambda t: t.left / t.rate if t.rate else 0.0)
    if longest.rate and longest.left > 1:
        left = lasting(longest.left / longest.rate)
        said.append(f"{longest.group}: {longest.left:,} left, {left}")
    return ", ".join(said)
