"""`images fetch` against a local server: what becomes of every candidate, and who is asked when."""

from __future__ import annotations

import hashlib
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from download.fetch.bodies import Bodies
from download.fetch.http import Attempt, Fetcher
from download.fetch.network import Network
from download.fetch.report import lines
from download.fetch.run import fetch, write_results
from download.fetch.worker import Batches
from etl.errors import UserError
from etl.verify import verify
from etl.writing import locked
from tests.download.fetching import (
    FAST,
    go,
    log,
    options,
    reasons,
    results,
    write_candidates,
)
from tests.download.image_server import Asked, Server, image, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@contextmanager
def ended_within(seconds: int) -> Iterator[None]:
    """Else TimeoutError, again and again: a task that it comes up in may keep it to itself."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not ended within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that fails is left alone for a moment; for how long has its own tests."""
    monkeypatch.setattr("download.fetch.manners._FIRST_PAUSE", 0.01)


def asked(server: Server) -> Counter[str]:
    """How often each address was asked for, robots.txt aside."""
    return Counter(f"http://{a.host}{a.path}" for a in server.images())


def test_what_is_fetched_can_be_read_by_its_sha256(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1", "http://b.test/ok/2"])
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["candidates"]["outcomes"] == {
        "ok": 2, "permanent": 0, "transient": 0, "refused": 0,
    }  # fmt: skip
    with Bodies(tmp_path / "i" / "fetches") as bodies:
        found = [bodies.get(row["sha256"]) for row in results(tmp_path / "i")]
        assert len(bodies) == 2
        by_sha256 = [bodies.read(place) for _, place in bodies.places()]
    assert by_sha256 == sorted(found, key=lambda data: hashlib.sha256(data).digest())
    assert found == [image("/ok/1"), image("/ok/2")]


def test_an_address_of_many_candidates_is_asked_once(server: Server, tmp_path: Path) -> None:
    same = ["http://a.test/ok/1", "HTTP://A.test:80/ok/1#top", "http://a.test/ok/1"]
    write_candidates(tmp_path / "i", same)
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["candidates"]["outcomes"]["ok"] == 3
    assert manifest["counts"]["urls"]["total"] == 1
    assert list(asked(server).values()) == [1]


def test_a_body_is_stored_once(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [f"http://a.test/same/{n}" for n in range(5)])
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["images"] == 1
    assert manifest["counts"]["bytes"] == len(image("same"))
    write_candidates(tmp_path / "i", [f"http://a.test/same/{n}" for n in range(8)])
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["bytes"] == len(image("same"))
    assert reasons(tmp_path / "i") == ["ok"] * 8


def test_every_way_to_fail_has_its_class(server: Server, tmp_path: Path) -> None:
    expected = {
        "http://a.test/ok/1": ("ok", "ok"),
        "http://a.test/404/1": ("permanent", "http_404"),
        "http://a.test/403/1": ("permanent", "http_403"),
        "http://a.test/page/1": ("permanent", "not_an_image"),
        "http://a.test/busy/1": ("transient", "http_503"),
        "http://a.test/short/1": ("transient", "short"),
        "http://a.test/noai/1": ("refused", "x_robots"),
        "http://a.test/inside/1": ("refused", "address"),
        "http://192.168.0.1/1": ("refused", "address"),
        "ftp://a.test/1": ("refused", "scheme"),
        "file:///etc/passwd": ("refused", "scheme"),
        "no address": ("permanent", "bad_url"),
    }
    write_candidates(tmp_path / "i", list(expected))
    manifest = go(tmp_path / "i", server)
    found = [(row["outcome"], row["reason"]) for row in results(tmp_path / "i")]
    assert found == list(expected.values())
    counts = manifest["counts"]["candidates"]
    assert counts["reasons"] == Counter(reason for _, reason in expected.values())
    assert counts["outcomes"] == Counter(outcome for outcome, _ in expected.values())
    with Bodies(tmp_path / "i" / "fetches") as bodies:
        assert len(bodies) == 1


def test_an_attempt_that_may_succeed_later_is_made_again(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/later/1", "http://a.test/busy/1"])
    go(tmp_path / "i", server, tries=3)
    assert reasons(tmp_path / "i") == ["ok", "http_503"]
    rows = [(row["url"][-7:], row["attempt"], row["final"]) for row in log(tmp_path / "i")]
    assert sorted(rows) == [
        ("/busy/1", 1, False), ("/busy/1", 2, False), ("/busy/1", 3, True),
        ("later/1", 1, False), ("later/1", 2, False), ("later/1", 3, True),
    ]  # fmt: skip


def test_an_answer_that_stays_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [f"http://a.test/{status}/1" for status in (404, 410, 451)])
    go(tmp_path / "i", server)
    go(tmp_path / "i", server)
    go(tmp_path / "i", server, retry=("transient",))
    assert set(asked(server).values()) == {1}


# --- addresses to fall back to ------------------------------------------------------------------


# the reference marks a key as failed at its first address, and for ever (images.md, feature 2)


def test_the_next_address_is_tried_where_one_is_gone(server: Server, tmp_path: Path) -> None:
    first = [
        "http://a.test/404/1",
        "http://b.test/page/1",
        "http://c.test/ok/1",
        "http://a.test/ok/2",
    ]
    write_candidates(tmp_path / "i", [first])
    go(tmp_path / "i", server)
    (row,) = results(tmp_path / "i")
    assert (row["outcome"], row["place"]) == ("ok", 2)
    assert "http://a.test/ok/2" not in asked(server)


def test_the_last_address_decides_where_none_works(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [["http://a.test/404/1", "http://a.test/410/1"]])
    go(tmp_path / "i", server)
    assert reasons(tmp_path / "i") == ["http_410"]


def test_no_other_address_of_an_image_is_tried_that_its_owner_refuses(
    server: Server, tmp_path: Path
) -> None:
    refused = ["http://a.test/noai/1", "http://a.test/451/1", "http://a.test/402/1"]
    write_candidates(tmp_path / "i", [[url, "http://b.test/ok/1"] for url in refused])
    go(tmp_path / "i", server)
    assert reasons(tmp_path / "i") == ["x_robots", "http_451", "http_402"]
    assert "http://b.test/ok/1" not in asked(server)


def test_a_busy_host_is_not_asked_for_the_original_instead(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [["http://a.test/busy/thumb", "http://a.test/ok/original"]])
    go(tmp_path / "i", server)
    assert reasons(tmp_path / "i") == ["http_503"]
    assert "http://a.test/ok/original" not in asked(server)


def test_an_address_may_be_one_candidates_first_and_anothers_second(
    server: Server, tmp_path: Path
) -> None:
    write_candidates(
        tmp_path / "i",
        [
            ["http://a.test/404/1", "http://a.test/ok/1"],
            ["http://a.test/ok/1", "http://a.test/ok/2"],
        ],
    )
    go(tmp_path / "i", server)
    assert [row["place"] for row in results(tmp_path / "i")] == [1, 0]
    assert asked(server)["http://a.test/ok/1"] == 1


# --- again --------------------------------------------------------------------------------------


def test_only_what_may_still_work_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    given = ["ok/1", "404/1", "noai/1", "next-day/1"]
    write_candidates(tmp_path / "i", [f"http://a.test/{path}" for path in given])
    go(tmp_path / "i", server)
    before = asked(server)
    assert reasons(tmp_path / "i")[3] == "http_503"
    go(tmp_path / "i", server, retry=("transient",))
    assert reasons(tmp_path / "i") == ["ok", "http_404", "x_robots", "ok"]
    assert {url for url in asked(server) if asked(server)[url] > before[url]} == {
        "http://a.test/next-day/1"
    }


def test_what_was_tried_again_may_be_once_more(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1", "http://a.test/short/1"])
    for run in (1, 2, 3):
        manifest = go(tmp_path / "i", server, tries=1, retry=("transient",))
        assert manifest["run"] == run
        assert asked(server) == {"http://a.test/ok/1": 1, "http://a.test/short/1": run}


def test_what_is_done_is_not_done_again(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1", "http://a.test/busy/1"])
    first = go(tmp_path / "i", server)
    count = len(server.asked)
    assert go(tmp_path / "i", server) == first
    assert len(server.asked) == count


def test_candidates_that_were_found_again_keep_what_was_fetched(
    server: Server, tmp_path: Path
) -> None:
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(6)])
    go(tmp_path / "i", server)
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in (9, 3, 8, 1)])
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["candidates"]["outcomes"]["ok"] == 4
    assert set(asked(server).values()) == {1}
    assert [row["sha256"] is not None for row in results(tmp_path / "i")] == [True] * 4
    with Bodies(tmp_path / "i" / "fetches") as bodies:
        found = [bodies.get(row["sha256"]) for row in results(tmp_path / "i")]
    assert found == [image(f"/ok/{n}") for n in (9, 3, 8, 1)]


def test_an_index_that_is_lost_is_made_again(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(6)])
    go(tmp_path / "i", server)
    for file in (tmp_path / "i" / "fetches" / "store" / "index").iterdir():
        file.unlink()
    go(tmp_path / "i", server)
    with Bodies(tmp_path / "i" / "fetches") as bodies:
        assert len(bodies) == 6


def test_a_damaged_part_is_named_and_can_be_done_without(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(6)])
    go(tmp_path / "i", server)
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(3, 9)])
    (part,) = (tmp_path / "i" / "fetches" / "log").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"{part.name} is damaged; remove it"):
        go(tmp_path / "i", server)
    part.unlink()
    go(tmp_path / "i", server)
    assert reasons(tmp_path / "i") == ["ok"] * 6
    with Bodies(tmp_path / "i" / "fetches") as bodies:
        found = [bodies.get(row["sha256"]) for row in results(tmp_path / "i")]
    assert found == [image(f"/ok/{n}") for n in range(3, 9)]


# --- hosts and workers --------------------------------------------------------------------------


def test_one_worker_or_several_give_the_same(server: Server, tmp_path: Path) -> None:
    given = [f"http://h{n % 13}.test/{('ok', '404', 'page')[n % 3]}/{n}" for n in range(60)]
    given += [f"http://h{n}.test/away/h{n + 1}.test/ok/from-{n}" for n in range(12)]
    for name, workers in (("one", 0), ("three", 3)):
        write_candidates(tmp_path / name, given)
        go(tmp_path / name, server, workers=workers)
    assert results(tmp_path / "one") == results(tmp_path / "three")
    # a redirect to a host of another worker is followed by that one
    assert {row["reason"] for row in log(tmp_path / "three")} >= {"moved"}
    assert Counter(reasons(tmp_path / "three"))["ok"] == 32


def test_a_host_is_asked_by_one_worker_at_its_pace(server: Server, tmp_path: Path) -> None:
    (tmp_path / "manners.toml").write_text(
        FAST
        + '[group.slow]\nhosts = ["*.slow.test"]\nper_second = 20\nburst = 1\nconnections = 1\n'
    )
    given = [f"http://h{n % 5}.slow.test/ok/{n}" for n in range(20)]
    given += [f"http://h{n}.test/ok/{n}" for n in range(20)]
    write_candidates(tmp_path / "i", given)
    go(tmp_path / "i", server, workers=2)
    # with those for each host's robots.txt
    times = sorted(a.at for a in server.asked if a.host.endswith(".slow.test"))
    assert len(times) == 25
    within_half_a_second = max(sum(begin <= at < begin + 0.5 for at in times) for begin in times)
    assert within_half_a_second <= 12


def test_retry_after_is_kept(server: Server, tmp_path: Path) -> None:
    write_candidates(
        tmp_path / "i", ["http://a.test/wait/1", *(f"http://a.test/ok/{n}" for n in range(9))]
    )
    (tmp_path / "manners.toml").write_text(FAST.replace("connections = 8", "connections = 1"))
    go(tmp_path / "i", server)
    assert set(reasons(tmp_path / "i")) == {"ok"}
    refused = next(a.at for a in server.images() if a.path == "/wait/1")
    later = [a.at - refused for a in server.images() if a.at > refused]
    assert later
    assert min(later) >= 1.0


def refuse_at(server: Server, number: int, *headers: str) -> None:
    """Has one request for an image answered by "too much"."""
    ok = server.answer
    lines = ("HTTP/1.1 429 x", "Content-Length: 0", *headers, "", "")
    too_much = "\r\n".join(lines).encode()
    server.answer = lambda host, path: (  # type: ignore[method-assign]
        too_much if len(server.images()) == number and path != "/robots.txt" else ok(host, path)
    )


def least_after(server: Server, number: int) -> float:
    """Seconds until somebody asked again, also for a robots.txt."""
    refused = server.images()[number - 1].at
    return min(a.at - refused for a in server.asked if a.at > refused)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each URL was begun with, whether somebody was asked then or not."""
    found: Counter[str] = Counter()
    fetch_one = Fetcher.fetch

    async def counted(self: Fetcher, url: str, hops: int = 0) -> Attempt:
        found[url] += 1
        return await fetch_one(self, url, hops)

    monkeypatch.setattr(Fetcher, "fetch", counted)
    return found


def asked_after(server: Server, number: int, host: str) -> list[Asked]:
    """What a host was asked once it had said that it was too much, but for what came with that."""
    refused = server.images()[number - 1].at
    return [a for a in server.asked if a.host == host and a.at > refused + 0.2]


@pytest.mark.parametrize("others", [0, 3])
def test_a_host_that_wants_a_day_of_rest_is_left_to_another_run(
    others: int,
    server: Server,
    tmp_path: Path,
    attempts: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though its URLs would be asked a second time after a while, in which others may be asked."""
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    refuse_at(server, 1, "Retry-After: 86400")
    given = ["http://a.test/ok/1", *(f"http://a.test/busy/{n}" for n in range(others))]
    write_candidates(tmp_path / "i", given)
    with ended_within(20):
        go(tmp_path / "i", server, tries=2, pause=0.4)
    found = reasons(tmp_path / "i")
    assert {"http_429", "host_waits"} & set(found)
    assert len(found) == 1 + others
    assert max(attempts.values()) <= 2
    assert not asked_after(server, 1, "a.test")


def test_a_large_host_that_wants_a_day_of_rest_is_left_to_another_run(
    server: Server, tmp_path: Path, attempts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    monkeypatch.setattr("download.fetch.worker._WORTH_WAITING", 20)
    refuse_at(server, 5, "Retry-After: 86400")
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(200)])
    with ended_within(20):
        go(tmp_path / "i", server, tries=2, pause=0.2)
    found = Counter(reasons(tmp_path / "i"))
    assert found["host_waits"] > 150
    assert max(attempts.values()) <= 2
    assert not asked_after(server, 5, "a.test")


def test_who_redirects_to_a_host_that_rests_is_not_asked_again_and_again(
    server: Server, tmp_path: Path, attempts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    monkeypatch.setattr("download.fetch.worker._WORTH_WAITING", 20)
    ok = server.answer
    too_much = b"HTTP/1.1 429 x\r\nContent-Length: 0\r\nRetry-After: 86400\r\n\r\n"
    server.answer = lambda host, path: (  # type: ignore[method-assign]
        too_much if host == "b.test" and path != "/robots.txt" else ok(host, path)
    )
    given = [f"http://a.test/{'away/b.test/ok' if n % 2 else 'ok'}/{n}" for n in range(100)]
    write_candidates(tmp_path / "i", ["http://b.test/ok/0", *given])
    with ended_within(30):
        go(tmp_path / "i", server, tries=2, pause=0.2)
    assert Counter(reasons(tmp_path / "i"))["ok"] == 50
    assert max(attempts.values()) <= 2


def test_a_dead_host_does_not_hold_up_its_sisters(
    server: Server, tmp_path: Path, attempts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    monkeypatch.setattr("download.fetch.worker._WORTH_WAITING", 20)
    given = [f"http://{'dead' if n % 2 else 'live'}.a.test/ok/{n}" for n in range(300)]
    write_candidates(tmp_path / "i", given)
    resolve = ("dead.a.test:127.0.0.1:1", f"*.test:127.0.0.1:{server.port}")
    with ended_within(30):
        go(tmp_path / "i", server, tries=2, pause=0.05, resolve=resolve)
    found = Counter(reasons(tmp_path / "i"))
    assert found["ok"] == 150
    assert set(found) <= {"ok", "connect", "host_down"}
    assert max(attempts.values()) <= 2


def test_retry_after_is_kept_by_the_next_run(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    refuse_at(server, 1, "Retry-After: 1")
    go(tmp_path / "i", server, tries=1)
    assert reasons(tmp_path / "i") == ["http_429"]
    go(tmp_path / "i", server, retry=("transient",))
    assert reasons(tmp_path / "i") == ["ok"]
    assert least_after(server, 1) >= 1.0


def test_retry_after_is_kept_by_who_falls_back(server: Server, tmp_path: Path) -> None:
    (tmp_path / "manners.toml").write_text(FAST.replace("connections = 8", "connections = 1"))
    write_candidates(
        tmp_path / "i", [[f"http://a.test/404/{n}", f"http://a.test/ok/{n}"] for n in range(2)]
    )
    refuse_at(server, 2, "Retry-After: 1")
    go(tmp_path / "i", server, tries=1)
    assert sorted(reasons(tmp_path / "i")) == ["http_429", "ok"]
    assert least_after(server, 2) >= 1.0


def test_a_pause_that_nobody_asked_for_is_kept_by_who_falls_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.manners._FIRST_PAUSE", 1.0)
    (tmp_path / "manners.toml").write_text(FAST.replace("connections = 8", "connections = 1"))
    write_candidates(
        tmp_path / "i", [[f"http://a.test/404/{n}", f"http://a.test/ok/{n}"] for n in range(2)]
    )
    refuse_at(server, 2)
    go(tmp_path / "i", server, tries=1)
    assert sorted(reasons(tmp_path / "i")) == ["http_429", "ok"]
    assert least_after(server, 2) >= 0.5


def test_a_host_that_nobody_can_connect_to_ends_after_a_few_tries(
    server: Server, tmp_path: Path
) -> None:
    write_candidates(tmp_path / "i", [f"http://dead.test/ok/{n}" for n in range(300)])
    go(tmp_path / "i", server, resolve=("dead.test:127.0.0.1:1",))
    found = Counter(reasons(tmp_path / "i"))
    assert set(found) <= {"connect", "host_down"}
    assert sum(found.values()) == 300
    assert found["host_down"] > 250


def test_a_network_that_is_away_is_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.manners._DOWN", 0.05)
    monkeypatch.setattr("download.fetch.worker._LOOK_AGAIN", 0.01)
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    monkeypatch.setattr("download.fetch.worker._WORTH_WAITING", 1)
    looks = []
    real = Network.is_up

    async def is_up(network: Network) -> bool:
        looks.append(await real(network))
        if len(looks) == 3:
            server.come_back()
        return looks[-1]

    monkeypatch.setattr(Network, "is_up", is_up)
    server.watch = lambda: server.go_away() if len(server.images()) == 60 else None
    write_candidates(tmp_path / "i", [f"http://h{n % 10}.test/ok/{n}" for n in range(300)])
    go(tmp_path / "i", server, tries=100)
    assert looks[:4] == [False, False, False, True]
    assert Counter(reasons(tmp_path / "i")) == {"ok": 300}


def test_hosts_that_are_dead_are_not_taken_for_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    real = Network.is_up

    async def is_up(network: Network) -> bool:
        looks.append(await real(network))
        return looks[-1]

    monkeypatch.setattr(Network, "is_up", is_up)
    given = [f"http://h{n}.test/ok/{n}" for n in range(5)]
    given += [f"http://h{n % 60}.dead.test/ok/{n}" for n in range(100)]
    write_candidates(tmp_path / "i", given)
    dead = "*.dead.test:127.0.0.1:1"
    go(tmp_path / "i", server, resolve=(dead, f"*.test:127.0.0.1:{server.port}"), connections=4)
    assert Counter(reasons(tmp_path / "i"))["ok"] == 5
    assert set(reasons(tmp_path / "i")) <= {"ok", "connect", "host_down"}
    assert set(looks) <= {True}


def test_a_host_has_all_its_connections_again_after_a_pause(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a request was so slow that it is the only one under way when the pause is over."""
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)

    def watch() -> None:
        asked = len(server.images())
        server.delay = 1.3 if asked == 2 else 0.02
        if asked == 12:
            server.most_at_once = 0

    server.watch = watch
    refuse_at(server, 1, "Retry-After: 1")
    write_candidates(tmp_path / "i", [f"http://a.test/ok/{n}" for n in range(60)])
    go(tmp_path / "i", server)
    assert Counter(reasons(tmp_path / "i")) == {"ok": 60}
    assert server.most_at_once >= 4  # half of them after it was too much


def test_a_large_host_that_wants_a_long_pause_is_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("download.fetch.worker._WORTH_WAITING", 5)
    monkeypatch.setattr("download.fetch.worker._SHORT", 0.05)
    (tmp_path / "manners.toml").write_text(
        FAST.replace("connections = 8", "connections = 1") + "max_wait = 0\n"
    )
    given = [f"http://a.test/{'wait' if n == 4 else 'ok'}/{n}" for n in range(40)]
    given += [f"http://b.test/{'wait' if n == 1 else 'ok'}/{n}" for n in range(4)]
    write_candidates(tmp_path / "i", given)
    go(tmp_path / "i", server)
    found = reasons(tmp_path / "i")
    assert set(found[:40]) == {"ok"}
    # a small one is left for another run
    assert found[41] == "host_waits"
    assert set(found[40:]) <= {"ok", "host_waits"}


def test_many_hosts_and_all_ways_to_fail_add_up(server: Server, tmp_path: Path) -> None:
    words = {
        "404": "http_404", "page": "not_an_image", "busy": "http_503", "short": "short",
        "noai": "x_robots", "inside": "address", "403": "http_403", "later": "ok", "away": "ok",
    }  # fmt: skip
    expected: Counter[str] = Counter()
    given: list[list[str]] = []
    for n in range(3000):
        # a tenth of them fail; those of one host are few, since failures in a row slow it down
        word = [*words][n // 10 % len(words)] if n % 10 == 0 else "ok"
        host = f"h{n // 10 % 200 if n % 10 == 0 else n % 200}.test"
        path = f"away/{host}/ok/at-{n}" if word == "away" else f"{word}/{n}"
        given.append([f"http://{host}/{path}"])
        expected[words.get(word, "ok")] += 1
    write_candidates(tmp_path / "i", given)
    manifest = go(tmp_path / "i", server, workers=0, tries=3)
    counts = manifest["counts"]["candidates"]
    assert counts["reasons"] == expected
    assert sum(counts["outcomes"].values()) == counts["total"] == 3000
    urls = manifest["counts"]["urls"]
    assert sum(urls["reasons"].values()) == urls["total"] == 3000
    assert len(results(tmp_path / "i")) == 3000
    assert manifest["counts"]["attempts"] == len(log(tmp_path / "i"))
    # one row of the log for each URL is the last
    finals = Counter(row["url_hash"] for row in log(tmp_path / "i") if row["final"])
    assert set(finals.values()) == {1}
    assert len(finals) == 3000


# --- what a user is told ------------------------------------------------------------------------


def test_nothing_is_asked_without_a_contact(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    with pytest.raises(UserError, match="--contact"):
        go(tmp_path / "i", server, contact=None)
    assert not server.asked


def test_an_example_of_a_contact_asks_nobody_elsewhere(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    with pytest.raises(UserError, match="is an example"):
        go(tmp_path / "i", server, contact="you@example.org", resolve=())
    assert not (tmp_path / "i" / "fetches").exists()


def test_servers_are_told_who_asks(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    go(tmp_path / "i", server)
    assert {a.agent.split(" aiohttp")[0] for a in server.asked} == {
        "sparqless/0.1.0 (tests@example.org)"
    }


def test_images_without_candidates_are_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished candidates"):
        go(tmp_path / "i", server)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"retry": ("ok",)}, "--retry ok"),
        ({"tries": 0}, "--tries"),
        ({"connections": 0}, "--connections"),
        ({"connections": 2, "workers": 3}, "--connections must be at least --workers"),
        ({"manners": Path("absent.toml")}, "absent.toml"),
    ],
)
def test_options_of_no_use_are_refused_before_the_work(
    server: Server, tmp_path: Path, given: dict[str, object], said: str
) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    with pytest.raises(UserError, match=said):
        go(tmp_path / "i", server, **given)
    assert not (tmp_path / "i" / "fetches").exists()


def test_the_report_says_what_may_still_work(server: Server, tmp_path: Path) -> None:
    write_candidates(
        tmp_path / "i", ["http://a.test/ok/1", "http://a.test/busy/1", "http://b.test/404/1"]
    )
    said = "\n".join(lines(tmp_path / "i", go(tmp_path / "i", server)))
    assert "3 candidates: 1 ok (33%)" in said
    assert "--retry transient" in said
    assert "http_404: HTTP 404 (permanent)" in said


def test_the_manifest_can_be_verified_and_holds_no_secret(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1?X-Amz-Signature=hush&w=3"])
    go(tmp_path / "i", server)
    assert not [check for check in verify(tmp_path / "i" / "fetches") if check.problem]
    (row,) = log(tmp_path / "i")
    assert "hush" not in json.dumps(row, default=str)
    assert "w=3" in row["url"]
    assert server.images()[0].path.endswith("X-Amz-Signature=hush&w=3")


def test_results_can_be_had_of_a_fetch_that_has_not_ended(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    with pytest.raises(UserError, match="images fetch"):
        write_results(tmp_path / "i", tmp_path / "r.parquet")
    go(tmp_path / "i", server)
    assert write_results(tmp_path / "i", tmp_path / "r.parquet") == {"ok": 1}
    write_candidates(tmp_path / "i", ["http://a.test/ok/2"])
    with pytest.raises(UserError, match="looked for again"):
        write_results(tmp_path / "i", tmp_path / "r.parquet")


def test_no_candidates_are_a_fetch_of_nothing(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", [])
    manifest = go(tmp_path / "i", server)
    assert manifest["counts"]["candidates"]["total"] == 0
    assert results(tmp_path / "i") == []


def test_small_batches_give_the_same(server: Server, tmp_path: Path) -> None:
    given = [f"http://h{n % 7}.test/{('ok', 'same', '404')[n % 3]}/{n}" for n in range(50)]
    for name, rows in (("large", 50_000), ("small", 3)):
        write_candidates(tmp_path / name, given)
        go(tmp_path / name, server, batches=Batches(rows=rows))
    assert results(tmp_path / "large") == results(tmp_path / "small")
    by_part = defaultdict(list)
    for row in log(tmp_path / "small"):
        by_part[row["run"]].append(row)
    assert len(log(tmp_path / "small")) == 50
    assert not list((tmp_path / "small" / "fetches" / "open").iterdir())


def test_another_run_in_the_same_directory_is_refused(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1"])
    fetches = tmp_path / "i" / "fetches"
    fetches.mkdir()
    with locked(fetches, "--images"), pytest.raises(UserError, match="another run"):
        fetch(tmp_path / "i", options(server, tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_so_many_requests_are_under_way_and_no_more(
    server: Server, tmp_path: Path, workers: int
) -> None:
    server.delay = 0.02
    write_candidates(tmp_path / "i", [f"http://h{n % 30}.test/ok/{n}" for n in range(90)])
    go(tmp_path / "i", server, connections=5, workers=workers)
    assert server.most_at_once <= 5
    assert workers or server.most_at_once == 5  # two processes may begin one after the other
    assert Counter(reasons(tmp_path / "i")) == {"ok": 90}
