"""A random process of `images fetch` or `images pack` is killed at a random moment, many times.

Each kill is a SIGKILL to one process of the command's tree, after which the same command is given
again, as a user would. Shards that come out in the end are held, byte for byte, against those of
commands that nobody disturbed, and another round begins with nothing.

The server (benchmarks/image_server.py) keeps a log of its own, which says

- how many requests it had that the fetch's log knows nothing of: those that a kill cut off, so no
  more than were in flight;
- that no address was asked for again once the log had its final outcome;
- that hosts were asked no faster than their pace, and by no more connections, between kills;
- that a host that said Retry-After was left alone for so long, a kill in between or not.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from benchmarks import image_server, image_sets, kills, watch
from benchmarks.image_server import RETRY_AFTER, Request
from benchmarks.image_sets import Web
from benchmarks.options import ROOT, Options
from benchmarks.photos import photos_of
from benchmarks.report import table
from download.fetch.log import FOLDER, LOG_FOLDER, OPEN_FOLDER

_HOSTS: Final = 12
_SHARE: Final = 10  # one of so many of the photographs of `fetching`
_CONNECTIONS: Final = 2
_PER_SECOND: Final = 15.0
_BURST: Final = 5
_PACE: Final = {
    "connections": _CONNECTIONS,
    "per_second": _PER_SECOND,
    "burst": _BURST,
    "rest": 2,
}
_LATENCY: Final = 0.08  # seconds to the server and back: so there is something in flight
_SLACK: Final = 0.05  # seconds between a client's clock and the server's log
_ODD: Final = ("busy", "moved", "flaky", "http_404", "html", "robots", "away")
_ODD_EVERY: Final = 9
_OWN: Final = ("manifest.json", ".lock")  # have seconds, or the number of a process

Digests = dict[str, str]  # file of the shards → SHA-256


@dataclass
class _Found:
    """What all rounds found."""

    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    rounds: int = 0
    requests: int = 0
    lost: int = 0  # requests that the fetch's log doesn't have
    in_flight: int = 0  # that there may have been at the kills, at most
    waits: int = 0  # answers with Retry-After
    wrong: list[str] = field(default_factory=list)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    work = options.work / "fetch-kills"
    shutil.rmtree(work, ignore_errors=True)
    photos = photos_of(
        options.work, max(60, options.photos // _SHARE), options.seed, options.workers
    )
    pictures = work / "pictures"
    pictures.mkdir(parents=True)
    for photo in photos:
        (pictures / photo.name).symlink_to(photo.resolve())
    chance = Random(options.seed)
    try:
        return _measure(options, work, _urls(len(photos)), chance)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _urls(count: int) -> list[str]:
    """Several addresses for each picture, so that there are duplicates, and some that are odd."""
    kinds = [
        _ODD[n // _ODD_EVERY % len(_ODD)] if n % _ODD_EVERY == 0 else "ok" for n in range(count)
    ]
    return [f"http://h{n % _HOSTS}.test/{kind}/{n}.jpg" for n, kind in enumerate(kinds)]


def _measure(options: Options, work: Path, urls: Sequence[str], chance: Random) -> dict[str, Any]:
    wanted, seconds = _undisturbed(options, work, urls)
    found = _Found()
    started = time.perf_counter()
    half = options.kills // 2
    while sum(found.kills.values()) < options.kills:
        so_far = Counter(step for step, _, _ in found.kills.elements())
        left = {"fetch": options.kills - half - so_far["fetch"], "pack": half - so_far["pack"]}
        _round(options, work, urls, wanted, seconds, left, chance, found)
    return {
        "candidates": len(urls),
        "undisturbed": seconds,
        "seconds": time.perf_counter() - started,
        "kills": [
            {"step": step, "while": phase, "what": what, "times": times}
            for (step, phase, what), times in sorted(found.kills.items())
        ],
        "rounds": found.rounds,
        "requests": found.requests,
        "lost": found.lost,
        "in_flight": found.in_flight,
        "waits": found.waits,
        "wrong": sorted(set(found.wrong)),
    }


def _web(work: Path, port: int) -> Web:
    manners = work / "manners.toml"
    image_sets.write_manners(manners, _PACE)
    return Web(allowed=["*.test"], resolved=[f"*.test:127.0.0.1:{port}"], manners=manners)


def _undisturbed(
    options: Options, work: Path, urls: Sequence[str]
) -> tuple[Digests, dict[str, float]]:
    """What comes out when nobody kills anything, and how long both commands take."""
    images, out = work / "images", work / "shards"
    image_sets.write(images, urls)
    with image_server.serving(work / "pictures", work / "requests.log", _LATENCY) as port:
        fetch = image_sets.fetch_command(images, _web(work, port), options.workers)
        seconds = {"fetch": watch.run(fetch, ROOT).seconds}
    pack = image_sets.pack_command(images, out, options.workers)
    seconds["pack"] = watch.run(pack, ROOT).seconds
    return _digests(out), seconds


def _digests(out: Path) -> Digests:
    """SHA-256 of all files that are to be the same."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in _OWN
    }


def _round(
    options: Options,
    work: Path,
    urls: Sequence[str],
    wanted: Digests,
    seconds: dict[str, float],
    left: dict[str, int],
    chance: Random,
    found: _Found,
) -> None:
    """Both commands from nothing to shards, each killed at most as often as is ``left``."""
    images, out, log = work / "images", work / "shards", work / "requests.log"
    shutil.rmtree(out, ignore_errors=True)
    image_sets.write(images, urls)
    with image_server.serving(work / "pictures", log, _LATENCY) as port:
        fetch = image_sets.fetch_command(images, _web(work, port), options.workers)
        times = _killed(fetch, "fetch", images, seconds["fetch"], left["fetch"], chance, found)
    _check_requests(image_server.read_log(log), images, times, options.workers, found)
    pack = image_sets.pack_command(images, out, options.workers)
    _killed(pack, "pack", out, seconds["pack"], left["pack"], chance, found)
    made = _digests(out)
    names = sorted({*made, *wanted})
    found.wrong += [f"{name} is another" for name in names if made.get(name) != wanted.get(name)]
    found.rounds += 1


def _killed(
    command: list[str],
    step: str,
    folder: Path,
    seconds: float,
    left: int,
    chance: Random,
    found: _Found,
) -> list[float]:
    """Gives a command until it ends by itself; the times of the kills (seconds since 1970)."""
    times: list[float] = []
    for _ in range(left):
        kill = kills.disturbed(command, chance, seconds, lambda: _phase(step, folder))
        if kill is None:
            return times
        times.append(time.time())
        found.kills[(step, *kill)] += 1
    watch.run(command, ROOT)
    return times


def _phase(step: str, folder: Path) -> str:
    if step == "fetch":
        fetches = folder / FOLDER
        busy = any((fetches / OPEN_FOLDER).glob("*")) or any((fetches / LOG_FOLDER).glob("*"))
        return "fetching" if busy else "planning"
    work = folder / ".packing"
    if not work.exists():
        return "starting"
    return "writing shards" if any(work.rglob("*.tar*")) else "decoding"


# --- what the server saw ------------------------------------------------------------------------


def _check_requests(
    requests: Sequence[Request], images: Path, kills: Sequence[float], workers: int, found: _Found
) -> None:
    attempts = _attempts(images)
    asked = [request for request in requests if request.path != "/robots.txt"]
    found.requests += len(asked)
    found.in_flight += len(kills) * _HOSTS * _CONNECTIONS
    _check_repeats(asked, attempts, found)
    by_host = defaultdict(list)
    for request in asked:
        by_host[request.host].append(request)
    told = {_key(row["url"]) for row in attempts if row["reason"] == "http_429"}
    for host, seen in by_host.items():
        waits = [r for r in seen if r.status == 429 and (r.host, r.path) in told]
        wrong = [*_bad_pace(seen, kills), *_bad_waits(seen, waits, kills)]
        found.wrong += [f"{host}: {words}" for words in wrong]
        found.waits += len(waits)


def _attempts(images: Path) -> list[dict[str, Any]]:
    """All rows of the fetch's log."""
    columns = ["url", "at", "seconds", "final", "hops", "status", "reason"]
    paths = sorted((images / FOLDER / LOG_FOLDER).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path, columns=columns).to_pylist()]


def _check_repeats(
    asked: Sequence[Request], attempts: Sequence[dict[str, Any]], found: _Found
) -> None:
    """Requests that aren't in the log, and those that come when it had its last word."""
    seen = Counter((request.host, request.path) for request in asked)
    logged: Counter[tuple[str, str]] = Counter()
    finally_at: dict[tuple[str, str], float] = {}
    for row in attempts:
        key = _key(row["url"])
        logged[key] += row["status"] is not None or row["reason"] == "reset"
        if row["final"]:
            finally_at[key] = row["at"].timestamp() + row["seconds"]
    planned = {key: times for key, times in seen.items() if key in logged}
    found.lost += sum(max(0, times - logged[key]) for key, times in planned.items())
    for request in asked:
        ended = finally_at.get((request.host, request.path))
        if ended is not None and request.came > ended + _SLACK:
            found.wrong.append(f"{request.path} was asked for after its final outcome")


def _key(url: str) -> tuple[str, str]:
    """Host and path, as the server's log has them."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.path


def _bad_pace(seen: Sequence[Request], kills: Sequence[float]) -> Iterable[str]:
    """What of one host's requests, in the order in which they came, isn't as agreed."""
    for part in _between(seen, kills):
        tokens, last = float(_BURST), part[0].came
        for request in part:
            tokens = min(_BURST, tokens + (request.came - last) * _PER_SECOND)
            last = request.came
            tokens -= 1
            if tokens < -_CONNECTIONS:  # which may have waited together for a busy server
                yield f"asked {-tokens:.1f} times more than its pace allows"
                break
        edges = sorted([(r.came, 1) for r in part] + [(r.answered, -1) for r in part])
        open_, most = 0, 0
        for _, change in edges:
            open_ += change
            most = max(most, open_)
        if most > _CONNECTIONS:
            yield f"asked {most} times at once"


def _bad_waits(
    seen: Sequence[Request], waits: Sequence[Request], kills: Sequence[float]
) -> Iterable[str]:
    """Requests that came though one of the answers ``waits``, which the fetch knew, said later."""
    for answer in waits:
        over = answer.answered + RETRY_AFTER - _SLACK
        early = [r for r in seen if answer.answered + _SLACK < r.came < over]
        if early:
            killed = any(answer.came < kill < early[0].came for kill in kills)
            yield f"asked before its Retry-After was over{', after a kill' if killed else ''}"
            break


def _between(seen: Sequence[Request], kills: Sequence[float]) -> list[list[Request]]:
    """Requests from one kill to the next: a process that was started anew has a full bucket."""
    edges = [0.0, *kills, float("inf")]
    parts = [[r for r in seen if begin <= r.came < end] for begin, end in pairwise(edges)]
    return [part for part in parts if part]


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = [[k["step"], k["while"], k["what"], f"{k['times']}"] for k in figures["kills"]]
    total = sum(kill["times"] for kill in figures["kills"])
    seconds = figures["undisturbed"]
    wrong = "; ".join(figures["wrong"]) or (
        "nothing: shards are byte for byte those of undisturbed commands, hosts were asked at their"
        " pace, and nothing again that had its final outcome"
    )
    return "\n".join(
        [
            f"{total} kills (SIGKILL) of commands over {figures['candidates']:,} candidates on "
            f"{_HOSTS} hosts ({seconds['fetch']:.1f} s and {seconds['pack']:.1f} s undisturbed), "
            f"{figures['rounds']} times to the end in {figures['seconds']:.0f} s. "
            f"What is wrong: **{wrong}**.",
            "",
            f"Of {figures['requests']:,} requests that the server had, {figures['lost']} are not in"
            f" the fetches' logs: a kill cut them off. At most {figures['in_flight']:,} were in "
            f"flight. {figures['waits']} answers asked to wait {RETRY_AFTER} s.",
            "",
            table(["killed", "while", "what", "times"], rows),
        ]
    )
