"""50,000 candidates over 200 hosts, a tenth of which fail in all ways: what came of each.

A local server (benchmarks/image_server.py) has all host names and answers as the path says; two
more hosts have a port that nobody listens at. Of what doesn't fail, some is behind redirects, some
is asked for twice, some has a first address that fails and a second. What must come of a candidate
follows from how it was made, and is held against results.parquet row for row, and against the
counts of the manifest.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks import image_server, image_sets, watch
from benchmarks.image_server import KINDS
from benchmarks.image_sets import Web
from benchmarks.nginx import free_port
from benchmarks.options import ROOT, Options
from benchmarks.photos import photo
from benchmarks.report import megabytes, table
from download.fetch.log import FOLDER, RESULTS_FILE

_HOSTS: Final = 200
_DOWN: Final = 2  # of these, hosts that nobody listens at
_FAILING: Final = 0.1
_TWICE: Final = 0.02  # candidates with the address of an earlier one
_SECOND: Final = 0.02  # candidates whose first address fails, and whose second doesn't
_PICTURES: Final = 40  # that the server has, of some 20 kB
_PACE: Final = {"connections": 4, "per_second": 100, "burst": 20, "rest": 2}
_TRIES: Final = 2  # of an address that may work later; between them are seconds

_GOOD: Final = ("ok",) * 20 + ("moved", "away", "unnamed")
_BAD: Final = (
    "busy",
    "flaky",
    *(kind for kind, (outcome, _) in KINDS.items() if outcome != "ok"),
)
#: Kinds after which the candidate's next address is asked, as download.fetch.outcomes has it.
_FALLS_BACK: Final = ("http_404", "http_410", "html", "robots", "private", "large", "empty")

_DEAD: Final = (("transient", "connect"), ("transient", "host_down"))
_UNUSABLE: Final = (
    ("http://", ("permanent", "bad_url")),
    ("ftp://h1.test/ok/1.jpg", ("refused", "scheme")),
    ("file:///etc/passwd", ("refused", "scheme")),
    ("http://10.1.2.3/a.jpg", ("refused", "address")),
    ("http://0x7f.1/a.jpg", ("refused", "address")),
    ("http://[::ffff:169.254.169.254]/a.jpg", ("refused", "address")),
)


@dataclass(frozen=True)
class Made:
    """A candidate, and the outcomes with a reason one of which it must have."""

    urls: tuple[str, ...]
    allowed: tuple[tuple[str, str], ...]


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    work = options.work / "hosts"
    shutil.rmtree(work, ignore_errors=True)
    pictures = work / "pictures"
    pictures.mkdir(parents=True)
    try:
        for number in range(_PICTURES):
            made = photo(options.seed, number, 320, 240)
            (pictures / f"{number}.jpg").write_bytes(made)
        candidates = _candidates(options.candidates, Random(options.seed))
        image_sets.write(work / "images", [candidate.urls for candidate in candidates])
        return _fetched(options, work, candidates)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _candidates(count: int, chance: Random) -> list[Made]:
    hosts = [f"h{number}.test" for number in range(min(_HOSTS, max(10, count // 20)) - _DOWN)]
    found: list[Made] = []
    for number in range(count):
        drawn, host = chance.random(), chance.choice(hosts)

        def at(kind: str, host: str = host, number: int = number) -> str:
            return f"http://{host}/{kind}/{number}.jpg"

        if drawn < _FAILING:
            found.append(_failing(at, number, chance))
        elif drawn < _FAILING + _TWICE and found:
            found.append(chance.choice(found))
        elif drawn < _FAILING + _TWICE + _SECOND:
            first = at(chance.choice(_FALLS_BACK))
            found.append(Made((first, at("ok")), (("ok", "ok"),)))
        else:
            found.append(Made((at(chance.choice(_GOOD)),), (("ok", "ok"),)))
    return found


def _failing(at: Any, number: int, chance: Random) -> Made:
    kind = _BAD[number % len(_BAD)]
    drawn = chance.random()
    if drawn < 0.05:
        host = f"d{number % _DOWN}.down"
        return Made((f"http://{host}/ok/{number}.jpg",), _DEAD)
    if drawn < 0.1:
        url, found = chance.choice(_UNUSABLE)
        return Made((url,), (found,))
    if drawn < 0.15:  # the owner says no: no other address of it is asked
        return Made((at("noai"), at("ok")), (KINDS["noai"],))
    return Made((at(kind),), (KINDS[kind],))


def _fetched(options: Options, work: Path, candidates: Sequence[Made]) -> dict[str, Any]:
    images, log, manners = work / "images", work / "requests.log", work / "manners.toml"
    image_sets.write_manners(manners, _PACE)
    with image_server.serving(work / "pictures", log) as port:
        web = Web(
            allowed=["*.test", "*.down"],
            resolved=[f"*.test:127.0.0.1:{port}", f"*.down:127.0.0.1:{free_port()}"],
            manners=manners,
            more=["--tries", str(_TRIES)],
        )
        command = image_sets.fetch_command(images, web, options.workers)
        watched = watch.run(command, ROOT, disk=images)
    results = pq.read_table(images / FOLDER / RESULTS_FILE).to_pylist()
    counts = image_sets.manifest_of(images / FOLDER)["counts"]
    requests = image_server.read_log(log)
    return {
        "candidates": len(candidates),
        "hosts": len({request.host for request in requests}),
        "requests": len(requests),
        "seconds": watched.seconds,
        "cpu": watched.cpu_seconds,
        "main": watched.main_peak,
        "worker": watched.worker_peak,
        "disk": watched.disk_peak,
        "workers": options.workers,
        "outcomes": dict(Counter(f"{row['outcome']} {row['reason']}" for row in results)),
        "differences": _differences(candidates, results, counts),
    }


def _differences(
    candidates: Sequence[Made], results: Sequence[dict[str, Any]], counts: dict[str, Any]
) -> list[str]:
    """What isn't as it must be, in words; at most some of it."""
    wrong = []
    if len(results) != len(candidates):
        wrong.append(f"{len(results):,} results of {len(candidates):,} candidates")
    for candidate, row in zip(candidates, results, strict=False):
        if (row["outcome"], row["reason"]) not in candidate.allowed:
            wrong.append(f"{candidate.urls[0]}: {row['outcome']} {row['reason']}")
        elif (row["outcome"] == "ok") != (row["sha256"] is not None):
            wrong.append(f"{candidate.urls[0]}: {row['outcome']}, but its body isn't so")
    told = counts["candidates"]
    for name, of in (("outcomes", "outcome"), ("reasons", "reason")):
        there = Counter(row[of] for row in results)
        if there != Counter(told[name]):
            wrong.append(f"the manifest counts {told[name]}, the results are {dict(there)}")
    images = len({row["sha256"] for row in results} - {None})
    if (told["total"], counts["images"]) != (len(candidates), images):
        wrong.append(f"the manifest counts {counts['images']:,} images, there are {images:,}")
    return wrong[:20]


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    count, seconds = figures["candidates"], figures["seconds"]
    good = figures["outcomes"].get("ok ok", 0)
    wrong = figures["differences"]
    verdict = "; ".join(wrong) if wrong else "nothing: every candidate, and every count"
    rows = [
        [name.partition(" ")[0], name.partition(" ")[2], f"{times:,}"]
        for name, times in sorted(figures["outcomes"].items(), key=lambda found: -found[1])
    ]
    return "\n".join(
        [
            f"{count:,} candidates on {figures['hosts'] + _DOWN} hosts in {seconds:.0f} s "
            f"({figures['workers']} workers): {figures['requests'] / seconds:,.0f} requests/s, "
            f"{good / seconds:,.0f} images/s; {1000 * figures['cpu'] / count:.1f} processor ms a "
            f"candidate. Memory: {megabytes(figures['main'])} MB the main process, "
            f"{megabytes(figures['worker'])} MB a worker. "
            f"What isn't as it must be: **{verdict}**.",
            "",
            table(["outcome", "reason", "candidates"], rows),
        ]
    )
