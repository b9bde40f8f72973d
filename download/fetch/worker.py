"""One worker of a fetch: its hosts' URLs, one loop, one journal.

A group of hosts belongs to one worker, so what it is asked is paced over the whole machine. A
worker goes through its groups, the largest first, several at a time; a group that wants to be left
alone makes room for others meanwhile. What one attempt is, is said in download/fetch/http.py; when
it may be made, in download/fetch/manners.py; here is only which comes next and what is written down
of it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from download.fetch.addresses import Access, host_of, shown
from download.fetch.bodies import Index
from download.fetch.http import Attempt, Fetcher, Limits
from download.fetch.journal import Journal, seal
from download.fetch.log import Row, part_name
from download.fetch.manners import Group, Manners, Rules
from download.fetch.network import Network
from download.fetch.outcomes import rule
from download.fetch.plan import Plan, Urls
from etl.progress import Tick

#: What a round of a fetch is given, in its scratch folder: a truth value and the attempts so far
#: for each URL of the plan, and those that go on elsewhere (columns: MOVED).
WANTED_FILE: Final = "wanted.npy"
TRIED_FILE: Final = "tried.npy"
MOVED_FILE: Final = "moved.arrow"

_Any = TypeVar("_Any")

#: URLs that go on where a redirect led, by group.
MOVED: Final = pa.schema(
    [("group", pa.string()), ("row", pa.int64()), ("url", pa.string()), ("hops", pa.int16())]
)

#: URLs that wait for their host's turn, for each that is under way: hosts that want ten seconds
#: between two requests would else, one after the other, take the place of all others.
_LANES: Final = 10
_MOST_DEFERRED: Final = 100  # of a group, before no new ones of it are begun
_ROWS_AT_ONCE: Final = 1 << 16
_TOLD_EVERY: Final = 2.0  # seconds
#: A group that is to be left alone for longer than this makes room for another.
_SHORT: Final = 5.0
#: A host that has answered and then is down, or asks for a long pause, is waited for where so many
#: of its URLs are left; those of a smaller one are left for `--retry transient`.
_WORTH_WAITING: Final = 1_000
_LONGEST_REST: Final = 4 * 3600.0  # seconds without an answer
_LOOK_AGAIN: Final = 30.0  # seconds between looks whether the network is back


@dataclass(frozen=True)
class Batches:
    """When a batch is sealed: whichever is reached first."""

    size: int = 1 << 30  # bytes of bodies
    rows: int = 50_000
    seconds: float = 600.0


@dataclass(frozen=True)
class Job:
    """What one worker is told; can be pickled."""

    fetches: Path
    scratch: Path
    run: int
    round: int  # of this run
    number: int  # of this worker, from 0
    workers: int
    first_part: int  # number of the first part that it writes
    agent: str
    rules: Rules
    limits: Limits
    access: Access
    tries: int
    connections: int  # requests under way at most
    pause: float  # seconds, mean, before a URL is asked a second time
    batches: Batches
    pauses: dict[str, float]  # group → until when it is left alone, seconds since 1970
    indexed: bool = True  # the index is on a disk of this machine


class Told(msgspec.Struct):
    """What a worker tells while it works, in a file."""

    ok: int = 0
    ended: int = 0
    size: int = 0  # bytes of bodies
    group: str = ""  # the one that has most left
    left: int = 0
    rate: float = 0.0  # URLs of it that ended, a second
    offline: bool = False  # the network seems to be away
    pauses: dict[str, float] = {}  # at its end, as in Job


def owner(group: str, workers: int) -> int:
    """The worker whose a group is: the same in all processes."""
    return zlib.crc32(group.encode()) % workers


def told_file(scratch: Path, number: int) -> Path:
    """Where a worker tells how far it is."""
    return scratch / f"told-{number:03}.json"


def work(job: Job, _: Tick) -> int:
    """Asks for all URLs of a worker that a round wants; returns how many attempts it made.

    Raises OSError where the disk is full; what is in the journal stays.
    """
    if not _is_first(job):
        return 0
    worker = _Worker(job)
    try:
        with asyncio.Runner() as runner:
            return runner.run(worker.run())
    finally:
        worker.log.close()


def _is_first(job: Job) -> bool:
    """Whether nobody began this job before: what a lost worker has done is told by the log.

    What it leaves for the next round is less than to ask all again.
    """
    try:
        (job.scratch / f"begun-{job.round:06}-{job.number:03}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# --- what is to be asked ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """One URL that is to be asked."""

    url_hash: bytes
    planned: str
    url: str  # that is to be asked now
    tried: int
    hops: int


@dataclass
class _Source:
    """What is left of a group; what is to be asked again comes when its time has come."""

    name: str
    count: int  # URLs that haven't ended
    fresh: Iterator[_Item]
    lanes: int
    deferred: list[tuple[float, int, _Item]] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)  # hosts of it that did
    answered_at: float = 0.0
    ended: int = 0
    running: int = 0  # lanes
    rests: bool = False  # and is to be gone on with later
    turn: int = 0

    def next(self, now: float) -> _Item | float | None:
        """A URL, or seconds until there is one, or None."""
        if self.deferred and self.deferred[0][0] <= now:
            return heapq.heappop(self.deferred)[2]
        if len(self.deferred) < _MOST_DEFERRED:
            found = next(self.fresh, None)
            if found is not None:
                return found
        return self.deferred[0][0] - now if self.deferred else None

    def defer(self, item: _Item, until: float) -> None:
        self.turn += 1
        heapq.heappush(self.deferred, (until, self.turn, item))


class _Queue:
    """The groups of a worker with URLs that a round wants."""

    def __init__(self, job: Job) -> None:
        plan = Plan(job.fetches / "plan")
        self._urls = Urls(plan.folder)
        self._wanted = np.load(job.scratch / WANTED_FILE, mmap_mode="r")
        self._tried = np.load(job.scratch / TRIED_FILE, mmap_mode="r")
        self._moved = pa.ipc.open_file(pa.memory_map(str(job.scratch / MOVED_FILE))).read_all()
        self._rules = job.rules
        self._found: dict[str, tuple[int, int, int, int]] = {}  # rows, and rows that moved
        self._counts: dict[str, int] = {}
        self._look(plan, job)

    def _look(self, plan: Plan, job: Job) -> None:
        groups = plan.groups()
        names, starts = groups["group"].to_pylist(), groups["start"].to_numpy()
        counts = np.add.reduceat(self._wanted, starts, dtype=np.int64) if len(starts) else starts
        ends = np.append(starts[1:], plan.urls)
        moved = self._moved_of()
        for name, start, end, count in zip(names, starts, ends, counts, strict=True):
            if (count or name in moved) and owner(name, job.workers) == job.number:
                first, last = moved.pop(name, (0, 0))
                self._found[name] = int(start), int(end), first, last
                self._counts[name] = int(count) + last - first
        for name, (first, last) in moved.items():  # groups that the plan doesn't have
            if owner(name, job.workers) == job.number:
                self._found[name] = 0, 0, first, last
                self._counts[name] = last - first

    def _moved_of(self) -> dict[str, tuple[int, int]]:
        """group → its rows in the table of those that moved."""
        if not self._moved.num_rows:
            return {}
        runs = pa.compute.run_end_encode(self._moved["group"].combine_chunks())
        ends = runs.run_ends.to_pylist()
        return dict(
            zip(runs.values.to_pylist(), zip([0, *ends[:-1]], ends, strict=True), strict=True)
        )

    def sources(self) -> Iterator[_Source]:
        """Groups, the largest first."""
        for name in sorted(self._counts, key=lambda name: (-self._counts[name], name)):
            count = self._counts[name]
            lanes = min(count, self._rules.pace_of(name).connections)
            yield _Source(name, count, self._items(*self._found[name]), lanes)

    def _items(self, start: int, end: int, first: int, last: int) -> Iterator[_Item]:
        for at in range(first, last):
            row = self._moved["row"][at].as_py()
            url, hops = self._moved["url"][at].as_py(), self._moved["hops"][at].as_py()
            url_hash, planned = self._urls[row]
            yield _Item(url_hash, planned, url, int(self._tried[row]), hops)
        for at in range(start, end, _ROWS_AT_ONCE):
            wanted = np.flatnonzero(self._wanted[at : min(at + _ROWS_AT_ONCE, end)])
            for row in (wanted + at).tolist():
                url_hash, url = self._urls[row]
                yield _Item(url_hash, url, url, int(self._tried[row]), 0)


# --- the loop -----------------------------------------------------------------------------------


class _Worker:
    """All that one worker has."""

    def __init__(self, job: Job) -> None:
        self._job = job
        now = time.time()
        pauses = {group: until - now for group, until in job.pauses.items()}
        self._manners = Manners(job.rules, pauses=pauses)
        self.log = _Log(job)
        self._told = Told()
        self._active: dict[str, _Source] = {}
        self._began = time.monotonic()
        self._chance = random.Random()
        self._network = Network(job.access)
        self._online = asyncio.Event()
        self._online.set()

    async def run(self) -> int:
        job = self._job
        spool = job.scratch / f"spool-{job.number:03}"
        spool.mkdir(exist_ok=True)
        fetcher = Fetcher(
            job.agent,
            self._manners,
            spool,
            limits=job.limits,
            access=job.access,
            owns=lambda group: owner(group, job.workers) == job.number,
            connections=job.connections,
        )
        async with fetcher:
            telling = asyncio.create_task(self._tell())
            try:
                await self._all(fetcher, _Queue(job).sources())
            finally:
                telling.cancel()
                now = time.time()
                left = self._manners.pauses()
                self._told.pauses = {group: now + seconds for group, seconds in left.items()}
                self._told.left = 0
                self._write_told()
        await self.log.end()
        return self.log.attempts

    async def _all(self, fetcher: Fetcher, sources: Iterator[_Source]) -> None:
        """Keeps lanes busy until no group has anything left."""
        most = self._job.connections * _LANES
        resting: list[tuple[float, str, _Source]] = []
        running: dict[asyncio.Task[bool], _Source] = {}
        ended: asyncio.Queue[asyncio.Task[bool]] = asyncio.Queue()
        waiting: deque[_Source] = deque()
        try:
            while True:
                now = self._manners.clock()
                while resting and resting[0][0] <= now:
                    waiting.append(heapq.heappop(resting)[2])
                while len(running) < most:
                    source = waiting.popleft() if waiting else next(sources, None)
                    if source is None:
                        break
                    source.rests = False
                    for _ in range(min(source.lanes, source.count) - source.running):
                        lane = asyncio.create_task(self._lane(fetcher, source))
                        lane.add_done_callback(ended.put_nowait)
                        self._active[source.name] = running[lane] = source
                        source.running += 1
                if not running and not resting:
                    return
                timeout = max(0.0, resting[0][0] - now) if resting else None
                for lane in await _those_of(ended, timeout):
                    source = running.pop(lane)
                    source.running -= 1
                    wants_rest = lane.result()
                    if not source.running:
                        del self._active[source.name]
                    if source.rests and not source.count:  # other lanes ended it
                        resting = [entry for entry in resting if entry[2] is not source]
                        heapq.heapify(resting)
                    # others of its lanes may be at a slow image until long after the rest
                    if source.count and (wants_rest or not source.running) and not source.rests:
                        source.rests = True
                        heapq.heappush(resting, (self._awake(source), source.name, source))
        finally:
            for lane in running:
                lane.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _awake(self, source: _Source) -> float:
        """When a group goes on, by the clock of manners.

        A pause that isn't waited for doesn't count: after it nobody is there, and the URLs that are
        left end as those that came into it have.
        """
        group, now = self._manners.of(source.name), self._manners.clock()
        if group.waits_until and self._is_waited_for(source, group):
            return group.waits_until
        until = source.deferred[0][0] if source.deferred else now
        return max(until, now + 60.0 if group.down else now)

    async def _lane(self, fetcher: Fetcher, source: _Source) -> bool:
        """Asks for URLs of a group, one after the other; whether it ended since the group rests."""
        group = self._manners.of(source.name)
        clock = self._manners.clock
        while True:
            await self._online.wait()
            if self._rests(source, group):
                return True
            item = source.next(clock())
            if item is None:
                return False
            if isinstance(item, float):
                if item > _SHORT:
                    return True
                await self._manners.sleep(item)
                continue
            attempt = await fetcher.fetch(item.url, item.hops)
            if self._is_for_later(source, attempt):
                source.defer(item, clock() + _SHORT)
                return True
            await self._settle(source, item, attempt)
            self._network.ended(item.url, attempt.reason, answered=attempt.status > 0)
            if self._network.is_doubted and self._online.is_set():
                await self._wait_for_network()

    async def _wait_for_network(self) -> None:
        """Has all lanes wait where the network is away, and not the hosts; for hours at most."""
        self._online.clear()
        try:
            until = self._manners.clock() + _LONGEST_REST
            while not await self._network.is_up() and self._manners.clock() < until:
                self._told.offline = True
                await self._manners.sleep(_LOOK_AGAIN)
        finally:
            self._told.offline = False
            self._online.set()

    def _rests(self, source: _Source, group: Group) -> bool:
        """Whether a group is left alone for so long that another is asked meanwhile."""
        pause = group.waits_until - self._manners.clock()
        return pause > _SHORT and self._is_waited_for(source, group)

    def _is_waited_for(self, source: _Source, group: Group) -> bool:
        """Whether what is left of a group is asked when its pause is over."""
        pause = group.waits_until - self._manners.clock()
        if pause <= group.pace.max_wait:
            return True
        return pause <= _LONGEST_REST and self._is_worth_waiting(source)

    def _is_worth_waiting(self, source: _Source) -> bool:
        """Whether a host that isn't asked now is to be asked later in this run."""
        patient = bool(source.answered) and source.count >= _WORTH_WAITING
        return patient and self._manners.clock() - source.answered_at < _LONGEST_REST

    def _is_for_later(self, source: _Source, attempt: Attempt) -> bool:
        """Whether an attempt that wasn't made is to be made later in this run.

        Not where a redirect led to another group that isn't asked now: to come there, the first
        would be asked again each time. Nor where a host of the group never answered: its URLs would
        hold up those of its sisters.
        """
        if attempt.reason not in ("host_down", "host_waits"):
            if attempt.status:
                source.answered.add(host_of(attempt.final_url))
                source.answered_at = self._manners.clock()
            return False
        if self._job.rules.group_of(attempt.final_url) != source.name:
            return False
        group = self._manners.of(source.name)
        if attempt.reason == "host_waits":
            return self._is_worth_waiting(source) and self._is_waited_for(source, group)
        known = group.down or host_of(attempt.final_url) in source.answered
        return known and self._is_worth_waiting(source)

    async def _settle(self, source: _Source, item: _Item, attempt: Attempt) -> None:
        """Writes down what came of an attempt; one that may be made again is, later."""
        law = rule(attempt.reason)
        tried = item.tried + 1
        final = not law.again or tried >= self._job.tries
        moved = attempt.reason == "moved"
        led = attempt.final_url if moved or attempt.final_url != item.url else None
        row = Row(
            url_hash=item.url_hash,
            url=shown(item.url),
            run=self._job.run,
            attempt=tried,
            at=int((time.time() - attempt.seconds) * 1000),
            seconds=attempt.seconds,
            outcome=law.outcome,
            reason=attempt.reason,
            final=final,
            status=attempt.status or None,
            size=attempt.size if attempt.status else None,
            mime=attempt.mime or None,
            sha256=attempt.sha256 or None,
            final_url=None if led is None else shown(led),
            hops=attempt.hops,
            retry_after=attempt.retry_after,
            next_url=attempt.final_url if moved else None,
        )
        await self.log.add(row, attempt)
        if not final:
            wait = self._job.pause * 2.0**item.tried * self._chance.uniform(0.5, 1.5)
            again = _Item(item.url_hash, item.planned, item.url, tried, item.hops)
            source.defer(again, self._manners.clock() + wait)
            return
        source.count -= 1
        source.ended += 1
        self._told.ended += 1
        if attempt.reason == "ok":
            self._told.ok += 1
            self._told.size += attempt.size

    async def _tell(self) -> None:
        """Writes how far it is, now and then, for who shows it."""
        while True:
            largest = max(self._active.values(), key=lambda source: source.count, default=None)
            if largest is not None:
                passed = time.monotonic() - self._began
                self._told.group, self._told.left = largest.name, largest.count
                self._told.rate = largest.ended / passed if passed else 0.0
            self._write_told()
            await asyncio.sleep(_TOLD_EVERY)

    def _write_told(self) -> None:
        file = told_file(self._job.scratch, self._job.number)
        temporary = file.with_suffix(".tmp")
        with suppress(OSError):  # a full disk is said by what has to be written
            temporary.write_bytes(msgspec.json.encode(self._told))
            temporary.replace(file)


async def _those_of(ended: asyncio.Queue[_Any], timeout: float | None) -> list[_Any]:
    """What has come, at least one unless time is up first."""
    try:
        async with asyncio.timeout(timeout):
            first = await ended.get()
    except TimeoutError:
        return []
    return [first, *(ended.get_nowait() for _ in range(ended.qsize()))]


class _Log:
    """The journal of a worker, and those before it while they are being sealed."""

    def __init__(self, job: Job) -> None:
        self.parts = self.attempts = 0
        self._job = job
        self._index = Index(job.fetches) if job.indexed else None
        self._lock = asyncio.Lock()
        self._sealing: asyncio.Task[None] | None = None
        self._sealed_with: set[bytes] = set()  # bodies of what is being sealed
        self._journal: Journal | None = None
        self._until = 0.0

    async def add(self, row: Row, attempt: Attempt) -> None:
        """Writes a row and the body of its attempt, which it closes."""
        if self._journal is None:
            name = part_name(self._job.run, self._job.number, self._job.first_part + self.parts)
            self._journal = Journal(self._job.fetches, name, self._knows)
            self._until = time.monotonic() + self._job.batches.seconds
            self.parts += 1
        # a body that is written doesn't wait, in memory, for a disk that is slow to seal a batch
        with attempt.body or nullcontext():
            self._journal.add(row, attempt.body)
        self.attempts += 1
        if self._is_full(self._journal):
            async with self._lock:
                if self._journal is not None and self._is_full(self._journal):
                    await self._turn()

    def _is_full(self, journal: Journal) -> bool:
        batches = self._job.batches
        return (
            journal.size >= batches.size
            or journal.rows >= batches.rows
            or time.monotonic() >= self._until
        )

    def _knows(self, sha256: bytes) -> bool:
        return sha256 in self._sealed_with or (self._index is not None and sha256 in self._index)

    async def _turn(self) -> None:
        """Begins a new journal; the old one is sealed beside, and at most one is."""
        if self._sealing is not None:
            await self._sealing
        journal, self._journal = self._journal, None
        if journal is None:
            return
        journal.close()
        self._sealed_with = journal.sha256s
        sealed = asyncio.to_thread(seal, self._job.fetches, journal.part, self._index)
        self._sealing = asyncio.create_task(sealed)

    async def end(self) -> None:
        """Seals what is left."""
        await self._turn()
        if self._sealing is not None:
            await self._sealing

    def close(self) -> None:
        """Closes the files; a journal that isn't sealed is by the next run."""
        if self._journal is not None:
            self._journal.close()
        if self._index is not None:
            self._index.close()
