"""Kill a fetch with SIGKILL at any request, run it again: nothing is lost, nothing is asked twice.

What was asked, and when, is told by the server's own log.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from download.fetch.bodies import Bodies
from download.fetch.log import Row
from etl.manifest import read_manifest
from tests.console import ROOT
from tests.download.fetching import go, log, options, results, write_candidates
from tests.download.image_server import Server, serving

_LANES = 8  # as in fetching.FAST, of each host


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def start(
    images: Path, server: Server, workers: int, *retry: str, **more: Any
) -> subprocess.Popen[bytes]:
    options(server, images.parent)  # writes the manners
    program = [sys.executable, "-m", "tests.download.killed_fetches"]
    return subprocess.Popen(
        [*program, str(images), str(server.port), str(workers), *retry],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


def kill_at(images: Path, server: Server, requests: int, workers: int, *retry: str) -> bool:
    """Kills a run as soon as it has asked for so many images; False where it ended before that."""
    process = start(images, server, workers, *retry)
    already = len(server.images())

    def watch() -> None:
        if len(server.images()) - already == requests:
            os.kill(process.pid, signal.SIGKILL)

    server.watch = watch
    code = process.wait(120)
    server.watch = lambda: None
    assert code in (0, -signal.SIGKILL)
    return code != 0


def ended(images: Path, run: int = 1) -> set[str]:
    """URLs with a last word since a run, in the log or in a journal that isn't sealed yet."""
    if not (images / "fetches").exists():
        return set()
    urls = {row["url"] for row in log(images) if row["final"] and row["run"] >= run}
    for journal in (images / "fetches" / "open").glob("*.ndjson"):
        for line in journal.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                row = msgspec.json.decode(line, type=Row)
                urls |= {row.url} if row.final and row.run >= run else set()
    return urls


def asked_since(server: Server, number: int) -> set[str]:
    return {f"http://{asked.host}{asked.path}" for asked in server.images()[number:]}


def candidates() -> list[str | list[str]]:
    words = ("ok", "ok", "ok", "404", "same", "page", "later", "noai", "short")
    given: list[str | list[str]] = [
        f"http://h{n % 11}.test/{words[n % len(words)]}/{n}" for n in range(250)
    ]
    given += [
        [f"http://h{n}.test/404/first-{n}", f"http://h{n + 1}.test/ok/second-{n}"]
        for n in range(10)
    ]
    return [*given, *(f"http://h{n}.test/away/h{n + 1}.test/ok/moved-{n}" for n in range(10))]


def test_kills_at_any_request(server: Server, tmp_path: Path) -> None:
    images, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (images, whole):
        write_candidates(folder, candidates())
    with serving() as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr("download.fetch.manners._FIRST_PAUSE", 0.01)
        go(whole, other, resolve=(f"*.test:127.0.0.1:{other.port}",))
    rng = random.Random(6)
    kills = 0
    for workers in (2, 0, 1, 0, 2):  # whose hosts are whose changes with their number
        before = len(server.images())
        had = ended(images)
        kills += kill_at(images, server, rng.randint(1, 60), workers)
        assert not asked_since(server, before) & had
    had, before = ended(images), len(server.images())
    assert start(images, server, 1).wait(120) == 0
    assert not asked_since(server, before) & had
    assert kills == 5
    assert results(images) == results(whole)
    with Bodies(images / "fetches") as bodies:
        for row in results(images):
            assert (row["sha256"] is None) or row["sha256"] in bodies
    # each kill costs what was on the way, which a redirect asks for twice
    on_the_way = 2 * len(range(11)) * _LANES
    attempts = sum(1 + row["hops"] for row in log(images) if row["reason"] != "moved")
    assert len(server.images()) <= attempts + kills * on_the_way
    assert not list((images / "fetches" / "open").iterdir())
    assert read_manifest(images / "fetches", "fetches")["run"] == 6


def test_a_killed_retry_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    images = tmp_path / "i"
    write_candidates(images, [f"http://h{n % 5}.test/short/{n}" for n in range(120)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("download.fetch.manners._FIRST_PAUSE", 0.01)
        go(images, server, tries=1)
    first = len(server.images())
    assert first == 120
    # three attempts at each and those that 40 lanes are at would be 400
    assert kill_at(images, server, 420, 1, "transient")
    done = ended(images, 2)
    before = len(server.images())
    assert start(images, server, 1, "transient").wait(120) == 0
    # what the killed run had tried again to its end stays; the rest is tried again
    assert 0 < len(done) < 120
    assert not asked_since(server, before) & done
    assert len(ended(images, 2)) == 120


def test_ctrl_c_seals_what_was_fetched(server: Server, tmp_path: Path) -> None:
    images = tmp_path / "i"
    write_candidates(images, [f"http://h{n % 40}.test/ok/{n}" for n in range(400)])
    process = start(images, server, 1)
    server.delay = 0.01

    def watch() -> None:
        if len(server.images()) == 150:
            os.kill(process.pid, signal.SIGINT)

    server.watch = watch
    assert process.wait(120) != 0
    server.watch = lambda: None
    assert not list((images / "fetches" / "open").iterdir())
    assert 0 < len(log(images)) < 400
    had, before = ended(images), len(server.images())
    assert start(images, server, 2).wait(120) == 0
    assert not asked_since(server, before) & had
    assert {row["reason"] for row in results(images)} == {"ok"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_said_and_what_was_fetched_is_kept(
    server: Server, tmp_path: Path, workers: int
) -> None:
    images = tmp_path / "i"
    server.size = 30_000
    write_candidates(images, [f"http://h{n % 3}.test/ok/{n}" for n in range(80)])

    def little_room() -> None:  # no file may be longer, which is told as a full disk is
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    process = start(images, server, workers, preexec_fn=little_room, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"is full" in said
    assert b"make room and run the same command again" in said
    had, before = ended(images), len(server.images())
    assert had
    assert start(images, server, workers).wait(120) == 0
    assert not asked_since(server, before) & had
    assert {row["reason"] for row in results(images)} == {"ok"}
