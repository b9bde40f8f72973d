"""What a fetcher makes of all that a server may do: the right reason, and no harm."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import socket
import subprocess
import sys
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from download.fetch import addresses
from download.fetch.addresses import access
from download.fetch.http import IN_MEMORY, Attempt, Body, Fetcher, Limits, user_agent
from download.fetch.manners import Group, Manners, Rules, load
from download.fetch.outcomes import RULES, of_status, rule
from tests.console import ROOT
from tests.download.clock import Clock
from tests.download.hostile import PROBES, Asked, Hostile, Probe, running
from tests.download.hostile_pictures import picture

CONTACT = "somebody@example.org"

#: Connections that were begun in this process, as long as there is a list.
connects: list[Any] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and connects is not None:
        connects.append(arguments[1])


sys.addaudithook(_audit)

#: What ends only because its time is up, and what is noticed then.
SLOW = ("drip", "stop", "silent", "slow-head", "flood-1xx")
BROKEN = ("huge-chunk", "bad-chunk")
PATIENT = Limits(deadline=60, connect=30, answer=30, grace=30, max_bytes=4 << 20)
IMPATIENT = Limits(deadline=3.0, connect=1.0, answer=0.1, grace=0.6, min_rate=1e6)


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    with running() as made:
        yield made


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks a name server."""
    monkeypatch.setattr(addresses, "system_lookup", _lookup)


def _lookup(host: str) -> list[str]:
    if host == "localhost":
        return ["127.0.0.1"]
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


def fetcher(server: Hostile, spool: Path, limits: Limits = PATIENT, **more: Any) -> Fetcher:
    """One that finds the server's hosts, and waits on a clock of its own."""
    clock = Clock()
    manners = Manners(more.pop("rules", None) or load(), clock, clock.sleep)
    allowed = access(["*.test"], server.resolve, server.ca_file)
    return Fetcher(user_agent(CONTACT), manners, spool, limits=limits, access=allowed, **more)


def fetch(server: Hostile, spool: Path, *urls: str, **more: Any) -> list[Attempt]:
    """Attempts at addresses, one after the other, and their bodies in memory."""

    async def main() -> list[Attempt]:
        async with fetcher(server, spool, **more) as made:
            return [await made.fetch(url) for url in urls]

    return asyncio.run(main())


@pytest.fixture(scope="module")
def ended(
    server: Hostile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Attempt], list[Any]]]:
    """How every probe ended, and all connections that were begun meanwhile."""
    global connects
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "system_lookup", _lookup)
        connects = []
        attempts: dict[str, Attempt] = {}
        quick = {probe.name for probe in PROBES} - {*SLOW, *BROKEN}
        spool = tmp_path_factory.mktemp("spool")
        for names, limits in ((quick, PATIENT), (SLOW, IMPATIENT), (BROKEN, IMPATIENT)):
            probes = [probe for probe in PROBES if probe.name in names]
            asyncio.run(_all(server, fetcher(server, spool, limits), probes, attempts))
        begun, connects = connects, None
    yield attempts, begun
    for attempt in attempts.values():
        if attempt.body is not None:
            attempt.body.close()


async def _all(
    server: Hostile, made: Fetcher, probes: list[Probe], attempts: dict[str, Attempt]
) -> None:
    async with made:

        async def one(probe: Probe) -> None:
            attempts[probe.name] = await made.fetch(server.url(probe))

        await asyncio.gather(*map(one, probes))


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_ends_for_its_reason(
    probe: Probe, server: Hostile, ended: tuple[dict[str, Attempt], list[Any]]
) -> None:
    attempt = ended[0][probe.name]
    assert attempt.reason == probe.reason
    assert (attempt.body is not None) == (attempt.reason == "ok") == bool(probe.picture)
    assert bool(attempt.sha256) == (attempt.reason == "ok")
    rule(attempt.reason)
    if probe.seen is not None:
        assert len(server.requests_of(probe)) == probe.seen


def test_no_connection_is_begun_to_what_is_refused(
    server: Hostile, ended: tuple[dict[str, Attempt], list[Any]]
) -> None:
    assert ended[1], "the audit hook saw the connections"
    assert {host for host, *_ in ended[1]} == {"127.0.0.1"}
    assert {port for _, port in ended[1]} <= set(server.ports.values())
    hosts = {one.host for one in server.asked}
    assert hosts
    assert all(host.endswith(".test") for host in hosts)


# --- what is kept -------------------------------------------------------------------------------


def test_a_body_comes_whole_in_memory_or_in_a_file(server: Hostile, tmp_path: Path) -> None:
    for name in ("jpeg", "large"):
        (attempt,) = fetch(server, tmp_path, at(server, f"{name}.test", name))
        whole = picture(name)
        assert attempt.body is not None
        with attempt.body as body:
            copy = io.BytesIO()
            body.copy_to(copy)
            assert body.read() == whole == copy.getvalue()
            assert body.size == attempt.size == len(whole)
        assert attempt.sha256 == hashlib.sha256(whole).digest()
        assert (attempt.status, attempt.reason) == (200, "ok")
    assert len(picture("large")) > IN_MEMORY > len(picture("jpeg"))
    assert list(tmp_path.iterdir()) == []  # the file had no name


def test_a_body_that_comes_in_single_bytes_takes_no_more_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with Body(tmp_path) as body:
            for number in range(200_000):
                body.write(number.to_bytes(4)[-1:])
            size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 3 * 200_000


def test_a_full_disk_is_no_answer_of_a_server(server: Hostile, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        fetch(server, tmp_path / "gone", at(server, "large.test", "large"))


def test_memory_stays_small_whatever_comes(server: Hostile, tmp_path: Path) -> None:
    """Eight bodies at once, of 32 MiB each until they were too large."""
    url = f"http://127.0.0.1:{server.ports['http']}/endless"
    command = [sys.executable, "-m", "tests.download.endless_fetch", url, "8", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reasons"] == ["too_large"] * 8
    assert told["came"] > 8 * (32 << 20)
    assert told["grew"] < 8 * 3 * IN_MEMORY
    assert list(tmp_path.iterdir()) == []


# --- who asks -----------------------------------------------------------------------------------


def at(server: Hostile, host: str, path: str, port: str = "http") -> str:
    return f"http://{host}:{server.ports[port]}/{path}"


def seen(server: Hostile, host: str) -> list[Asked]:
    """Requests to a host, robots.txt included."""
    return [one for one in server.asked if one.host == host]


def test_every_request_says_who_asks_and_asks_for_bytes_as_they_are(
    server: Hostile, tmp_path: Path
) -> None:
    fetch(server, tmp_path, at(server, "who.test", "cookie"))
    asked = seen(server, "who.test")
    assert [one.path for one in asked] == ["/robots.txt", "/cookie", "/cookie-came"]
    for one in asked:
        assert re.fullmatch(
            r"sparqless/\S+ \(somebody@example\.org\) aiohttp/\S+", one.headers["user-agent"]
        )
        assert one.headers["accept-encoding"] == "identity"
        assert not {"cookie", "referer", "authorization"} & set(one.headers)


def test_a_connection_is_used_again(server: Hostile, tmp_path: Path) -> None:
    urls = [at(server, "again.test", path) for path in ("jpeg", "status-404", "to-image", "png")]
    fetch(server, tmp_path, *urls)
    assert len({one.connection for one in seen(server, "again.test")}) == 1


def test_no_proxy_of_the_environment_is_asked(
    server: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (attempt,) = fetch(server, tmp_path, at(server, "proxy.test", "jpeg"))
    assert attempt.reason == "ok"


def test_what_may_let_somebody_in_is_not_recorded(server: Hostile, tmp_path: Path) -> None:
    (attempt,) = fetch(server, tmp_path, at(server, "signed.test", "jpeg?w=3&sig=abc"))
    assert attempt.reason == "ok"
    assert attempt.final_url.endswith("/jpeg?w=3&sig=…")
    assert seen(server, "signed.test")[-1].path == "/jpeg?w=3&sig=abc"


# --- redirects ----------------------------------------------------------------------------------


def test_a_redirect_to_anothers_group_is_handed_over(server: Hostile, tmp_path: Path) -> None:
    url, port = at(server, "mine.test", "to-theirs"), server.ports["http"]
    theirs = f"http://theirs.test:{port}/to-image-5?token=abc"
    server.pages["/to-theirs"] = lambda asked: (302, {"Location": theirs}, b"")
    (moved,) = fetch(server, tmp_path, url, owns=lambda group: group == "mine.test")
    assert (moved.reason, moved.final_url, moved.hops) == ("moved", theirs, 1)
    assert seen(server, "theirs.test") == []

    async def go_on() -> Attempt:
        async with fetcher(server, tmp_path) as made:
            return await made.fetch(moved.final_url, moved.hops)

    attempt = asyncio.run(go_on())
    assert attempt.reason == "too_many_redirects"  # the one before counts
    assert attempt.hops == PATIENT.redirects


def test_redirects_that_cross_do_not_wait_for_each_other(server: Hostile, tmp_path: Path) -> None:
    """Each group has one connection, which is given back before the other's is waited for."""
    port = server.ports["http"]
    for name, other in (("left", "right"), ("right", "left")):
        where = f"http://{other}.test:{port}/brief/1"
        server.pages[f"/from-{name}"] = lambda asked, where=where: (302, {"Location": where}, b"")

    async def main() -> list[Attempt]:
        async with fetcher(server, tmp_path, rules=rules_of(connections=1)) as made:
            urls = [at(server, f"{name}.test", f"from-{name}") for name in ("left", "right")] * 4
            return await asyncio.wait_for(asyncio.gather(*map(made.fetch, urls)), 30)

    assert {attempt.reason for attempt in asyncio.run(main())} == {"ok"}


# --- turns --------------------------------------------------------------------------------------


def rules_of(**values: Any) -> Rules:
    """For everybody the default pace, but for these values."""
    return Rules(replace(load().default, **values), {}, load().hosts)


def test_wikimedias_hosts_share_two_connections(server: Hostile, tmp_path: Path) -> None:
    hosts = ("upload.wikimedia.org", "thumb.wikimedia.org", "de.wikipedia.org")
    told = access(hosts, [f"{host}:127.0.0.1:{server.ports['http']}" for host in hosts])

    async def main() -> list[Attempt]:
        manners = Manners(load())
        async with Fetcher("a", manners, tmp_path, limits=PATIENT, access=told) as made:
            await asyncio.gather(*(made.fetch(f"http://{host}/jpeg") for host in hosts))
            server.most_at_once = 0
            urls = [f"http://{host}/brief/{number}" for number in range(4) for host in hosts]
            return await asyncio.gather(*map(made.fetch, urls))

    begun = time.monotonic()
    assert {attempt.reason for attempt in asyncio.run(main())} == {"ok"}
    assert server.most_at_once == 2
    # 18 requests, robots.txt included: ten at once, then ten a second
    assert time.monotonic() - begun >= 0.8


def test_a_pause_that_a_host_asks_for_holds_for_its_whole_group(
    server: Hostile, tmp_path: Path
) -> None:
    async def main() -> tuple[Attempt, Attempt, float]:
        made = fetcher(server, tmp_path)
        async with made:
            first = await made.fetch(at(server, "a.pause.test", "retry-seconds"))
            begun = made.manners.clock()
            second = await made.fetch(at(server, "b.pause.test", "jpeg"))
            return first, second, made.manners.clock() - begun

    first, second, waited = asyncio.run(main())
    assert (first.reason, first.retry_after) == ("http_429", 7.0)
    assert second.reason == "ok"
    assert waited >= 7.0
    assert second.seconds < 7.0  # waiting isn't asking


def test_a_date_to_come_back_is_read(server: Hostile, tmp_path: Path) -> None:
    (attempt,) = fetch(server, tmp_path, at(server, "date.test", "retry-date"))
    assert attempt.retry_after == pytest.approx(60, abs=15)


@pytest.mark.parametrize("value", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_host_that_asks_for_years_is_left_for_later(
    value: str, server: Hostile, tmp_path: Path
) -> None:
    server.pages["/years"] = lambda asked: (503, {"Retry-After": value}, b"")
    host = f"years-{len(value)}.test"
    first, second = fetch(server, tmp_path, at(server, host, "years"), at(server, host, "jpeg"))
    assert first.retry_after == 366 * 86_400
    assert second.reason == "host_waits"
    assert [one.path for one in seen(server, host)] == ["/robots.txt", "/years"]


@pytest.mark.parametrize("value", ["soon", "-5", "1e3", ""])
def test_a_pause_that_says_nothing_is_none(value: str, server: Hostile, tmp_path: Path) -> None:
    server.pages["/odd"] = lambda asked: (503, {"Retry-After": value}, b"")
    (attempt,) = fetch(server, tmp_path, at(server, f"odd-{len(value)}.test", "odd"))
    assert (attempt.reason, attempt.retry_after) == ("http_503", None)


def test_a_host_to_which_nobody_can_connect_is_not_asked_for_ever(
    server: Hostile, tmp_path: Path
) -> None:
    urls = [at(server, "shut.test", str(number), "closed") for number in range(10)]
    reasons = [attempt.reason for attempt in fetch(server, tmp_path, *urls)]
    assert reasons == ["connect"] * 8 + ["host_down"] * 2


# --- robots.txt ---------------------------------------------------------------------------------


def test_robots_txt_is_read_once_for_all_who_wait(server: Hostile, tmp_path: Path) -> None:
    async def main() -> None:
        async with fetcher(server, tmp_path) as made:
            urls = [at(server, "once.test", f"brief/{number}") for number in range(20)]
            await asyncio.gather(*map(made.fetch, urls))
            await made.fetch(urls[0])
            assert robots_of("once.test") == 1
            made.manners.clock.now += 24 * 3600 + 1  # type: ignore[attr-defined]
            await made.fetch(urls[0])
            assert robots_of("once.test") == 2

    def robots_of(host: str) -> int:
        return sum(one.path == "/robots.txt" for one in seen(server, host))

    asyncio.run(main())


def test_robots_txt_that_cannot_be_read_is_tried_again_and_later_again(
    server: Hostile, tmp_path: Path
) -> None:
    failing = [True]
    server.pages["/robots.txt"] = lambda asked: (503 if failing[0] else 404, {}, b"")

    async def main() -> list[str]:
        async with fetcher(server, tmp_path) as made:
            url = at(server, "unread.test", "jpeg")
            reasons = [(await made.fetch(url)).reason for _ in range(2)]
            failing[0] = False
            made.manners.clock.now += 601  # type: ignore[attr-defined]
            return [*reasons, (await made.fetch(url)).reason]

    try:
        assert asyncio.run(main()) == ["robots_unread", "robots_unread", "ok"]
    finally:
        del server.pages["/robots.txt"]
    paths = [one.path for one in seen(server, "unread.test")]
    assert paths == ["/robots.txt"] * 4 + ["/jpeg"]


def test_a_delay_that_robots_txt_asks_for_is_kept(server: Hostile, tmp_path: Path) -> None:
    server.pages["/robots.txt"] = lambda asked: (200, {}, b"User-agent: *\nCrawl-delay: 5\n")
    times: list[float] = []

    async def main() -> None:
        made = fetcher(server, tmp_path)

        def page(asked: Asked) -> tuple[int, dict[str, str], bytes]:
            times.append(made.manners.clock())
            return 200, {}, picture("jpeg")

        server.pages["/slowly"] = page
        async with made:
            url = at(server, "slowly.test", "slowly")
            for _ in range(4):
                await made.fetch(url)

    try:
        asyncio.run(main())
    finally:
        del server.pages["/robots.txt"]
    assert [round(later - times[0], 3) for later in times] == [0, 5, 10, 15]


def test_a_delay_is_kept_after_a_pause_that_all_waited_for(
    server: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robots_txt = b"User-agent: *\nCrawl-delay: 5\n"
    answers = {"/robots.txt": (200, {}, robots_txt), "/paused": (429, {"Retry-After": "60"}, b"")}
    for path, answer in answers.items():
        monkeypatch.setitem(server.pages, path, lambda asked, answer=answer: answer)
    times: list[float] = []
    enter = Group.enter

    async def entered(group: Group) -> int:
        number = await enter(group)
        times.append(group._clock())
        return number

    monkeypatch.setattr(Group, "enter", entered)

    async def main() -> None:
        async with fetcher(server, tmp_path) as made:
            await made.fetch(at(server, "paused.test", "paused"))
            urls = [at(server, "paused.test", "jpeg")] * 4
            await asyncio.gather(*map(made.fetch, urls))

    asyncio.run(main())
    refused, *later = times[1:]  # the first was for robots.txt
    assert later[0] - refused >= 60
    assert [after - before for before, after in pairwise(later)] == [5, 5, 5]


# --- the server itself --------------------------------------------------------------------------


def test_the_hostile_server_is_a_process_that_benchmarks_can_start(tmp_path: Path) -> None:
    log = tmp_path / "requests.ndjson"
    command = [sys.executable, "-m", "tests.download.hostile", "--json", "--log", str(log)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        about = json.loads(process.stdout.readline())
        probes = {probe["name"]: probe for probe in about["probes"]}
        with urllib.request.urlopen(probes["jpeg"]["url"], timeout=60) as answer:
            assert answer.read() == picture("jpeg")
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["path"] for line in log.read_text().splitlines()] == ["/jpeg"]


# --- the table of reasons -----------------------------------------------------------------------


def test_every_reason_has_its_rule() -> None:
    for probe in PROBES:
        assert (rule(probe.reason).outcome == "ok") == bool(probe.picture)
    for status in range(300, 600):
        transient = status >= 500 or status in (408, 425, 429)
        assert rule(of_status(status)).outcome == ("transient" if transient else "permanent")
    for word in ("", "nonsense", "http_", "http_4", "http_4040", "xhttp_404"):
        with pytest.raises(KeyError):
            rule(word)


def test_only_what_may_work_later_is_asked_again() -> None:
    for reason, found in RULES.items():
        if found.again:
            assert found.outcome == "transient", reason


def test_an_owners_no_and_a_busy_host_lead_nowhere_else() -> None:
    for reason in ("x_robots", "tdm", "usage", "robots_usage", "http_402", "http_451"):
        assert not rule(reason).falls_back
    for reason in ("http_429", "http_500", "http_503", "too_slow", "deadline", "host_waits"):
        assert not rule(reason).falls_back
    for reason in ("http_404", "http_410", "http_403", "not_an_image", "too_large", "no_such_host"):
        assert rule(reason).falls_back
