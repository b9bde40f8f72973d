"""Nobody is asked more than is polite, whatever is asked for at once and whatever is answered."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download.fetch.manners import Group, Manners, NotAskedError, Pace, Rules, load
from download.fetch.outcomes import RULES, rule
from etl.errors import UserError
from tests.download.clock import Clock

PACE = Pace(
    connections=4,
    per_second=10.0,
    burst=1,
    bytes_per_second=0.0,
    max_wait=900.0,
    rest_after=8,
    rest=300.0,
)


def manners_of(clock: Clock, **pace: Any) -> Manners:
    rules = Rules(Pace(**{**_values(PACE), **pace}), {}, {})
    return Manners(rules, clock, clock.sleep, random.Random(6))


def _values(pace: Pace) -> dict[str, Any]:
    return {name: getattr(pace, name) for name in Pace.__dataclass_fields__}


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


async def visit(
    group: Group, reason: str = "ok", retry_after: float | None = None, take: float = 0.0
) -> None:
    """A request that ends for a reason, after some seconds."""
    entered = await group.enter()
    if take:
        await group._sleep(take)
    group.leave(entered, reason, retry_after)


# --- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("example.org", "example.org"),
        ("img.cdn.example.org", "example.org"),
        ("a.example.co.uk", "example.co.uk"),
        ("a.blogspot.com", "blogspot.com"),
        ("d1.cloudfront.net", "cloudfront.net"),
        ("co.uk", "co.uk"),
        ("h17.test", "h17.test"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[2606:4700:1:2::3]", "2606:4700:1:2::/64"),
        ("[2606:4700:1:2:ffff::]", "2606:4700:1:2::/64"),
        ("xn--bcher-kva.example.org", "example.org"),
        ("upload.wikimedia.org", "wikimedia"),
        ("thumb.wikimedia.org", "wikimedia"),
        ("commons.wikimedia.org", "wikimedia"),
        ("wikimedia.org", "wikimedia"),
        ("de.m.wikipedia.org", "wikimedia"),
        ("notwikimedia.org", "notwikimedia.org"),
        ("upload.wikimedia.org.evil.example", "evil.example"),
    ],
)
def test_hosts_of_one_owner_are_a_group(host: str, group: str) -> None:
    rules = load()
    assert rules.group_of(f"https://{host}:8443/a.jpg") == group
    assert pickle.loads(pickle.dumps(rules)).group_of(f"http://{host}/") == group


def test_what_has_no_host_has_no_group() -> None:
    for url in ("", "a.jpg", "file:///a.jpg", "http://[::1/"):
        assert load().group_of(url) == ""


def test_wikimedias_rules_are_built_in() -> None:
    """Robot policy: two connections and 25 Mbit/s for all its hosts, 15 minutes' pause on 5xx."""
    pace = load().pace_of("wikimedia")
    assert (pace.connections, pace.bytes_per_second * 8, pace.rest) == (2, 25e6, 900)


# --- the file -----------------------------------------------------------------------------------


def test_a_file_is_laid_over_what_ships(tmp_path: Path) -> None:
    file = tmp_path / "manners.toml"
    file.write_text(
        "[default]\nconnections = 2\n"
        '[group."example.org"]\nper_second = 1.5\n'
        '[group.cdn]\nhosts = ["*.cdn.example", "Cdn.example"]\nconnections = 16\n'
        "[group.wikimedia]\nper_second = 2\n"
    )
    rules, shipped = load(file), load()
    assert rules.default.connections == 2
    assert rules.default.per_second == shipped.default.per_second
    assert rules.pace_of("example.org").per_second == 1.5
    assert rules.pace_of("example.org").connections == 2
    assert (
        rules.group_of("http://a.b.cdn.example/") == rules.group_of("http://cdn.example/") == "cdn"
    )
    assert rules.pace_of("cdn").connections == 16
    assert rules.pace_of("wikimedia").per_second == 2
    assert rules.pace_of("wikimedia").connections == 2
    assert rules.group_of("https://upload.wikimedia.org/") == "wikimedia"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default", "not a TOML file"),
        ("[defaults]", "unknown key 'defaults'"),
        ("default = 3", "must be a table"),
        ("[group]\nwikimedia = 3", "must be a table"),
        ("[default]\nconections = 3", "unknown key 'conections'"),
        ("[default]\nconnections = 0", "connections is 0"),
        ("[default]\nconnections = 2.5", "connections is 2.5"),
        ("[default]\nconnections = true", "connections is True"),
        ("[default]\nper_second = 0", "per_second is 0"),
        ("[default]\nper_second = inf", "per_second is inf"),
        ("[default]\nmax_wait = -1", "max_wait is -1"),
        ("[default]\nrest = '5'", "rest is '5'"),
        ("[group.a]\nhosts = 'a.example'", "hosts must be a list"),
        ("[group.a]\nhosts = ['']", "hosts must be a list"),
    ],
)
def test_a_file_of_no_use_is_told(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "manners.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        load(tmp_path / "none.toml")


# --- pace ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(1, 6),
    st.floats(0.1, 100),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_has_more_requests_than_its_pace(
    connections: int, per_second: float, burst: int, asked: list[tuple[float, float]]
) -> None:
    """``asked``: when, and how long the answer takes."""
    clock = Clock()
    starts: list[float] = []
    most = 0

    async def main() -> None:
        pace = {"connections": connections, "per_second": per_second, "burst": burst}
        group = manners_of(clock, **pace).of("a.example")

        async def one(at: float, take: float) -> None:
            nonlocal most
            await clock.sleep(at)
            entered = await group.enter()
            starts.append(clock())
            most = max(most, group.under_way)
            await clock.sleep(take)
            group.leave(entered, "ok")

        await asyncio.gather(*(one(at, take) for at, take in asked))

    run(main())
    assert len(starts) == len(asked)
    assert most <= connections
    for first, start in enumerate(starts):
        for count, end in enumerate(starts[first:], 1):
            assert count <= burst + (end - start) * per_second + 1e-6


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 256_000), st.floats(0, 0.5)), min_size=1, max_size=120))
def test_no_ten_seconds_have_more_bytes_than_their_pace(pieces: list[tuple[int, float]]) -> None:
    """Two bodies at a time, in pieces, each some seconds after the one before."""
    clock, rate = Clock(), 1e6
    came: list[tuple[float, int]] = []

    async def main() -> None:
        group = manners_of(clock, bytes_per_second=rate).of("a.example")
        waiting = iter(pieces)

        async def body() -> None:
            for size, after in waiting:
                await clock.sleep(after)
                came.append((clock(), size))
                await group.took(size)

        await asyncio.gather(body(), body())

    run(main())
    longest = max(size for _, size in came)
    for start, _ in came:
        ten = sum(size for at, size in came if start <= at < start + 10)
        assert ten <= 10 * rate + 2 * longest


def test_bytes_that_came_too_fast_hold_up_the_next_request() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock, bytes_per_second=1e6).of("a.example")
        entered = await group.enter()
        taking = asyncio.ensure_future(group.took(10_000_000))
        await asyncio.sleep(0)
        begun = clock()
        await visit(group)
        assert clock() - begun > 8
        await taking
        group.leave(entered, "ok")

    run(main())


def test_who_asks_first_is_let_in_first() -> None:
    clock = Clock()
    order: list[int] = []

    async def main() -> None:
        group = manners_of(clock, connections=1).of("a.example")

        async def one(number: int) -> None:
            entered = await group.enter()
            order.append(number)
            await clock.sleep(1)
            group.leave(entered, "ok")

        await asyncio.gather(*map(one, range(10)))

    run(main())
    assert order == list(range(10))


def test_one_that_is_given_up_leaves_its_place() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock, connections=1).of("a.example")
        entered = await group.enter()
        waiting = [asyncio.ensure_future(group.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        group.leave(entered)
        await visit_with(group, await waiting[1])
        assert group.under_way == 0

    async def visit_with(group: Group, entered: int) -> None:
        group.leave(entered, "ok")

    run(main())


# --- when it is too much ------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["http_429", "http_503", "deadline", "too_slow"])
def test_too_much_halves_the_pace_and_successes_bring_it_back(reason: str) -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        assert (group.connections, group.per_second) == (4, 10)
        await visit(group, reason)
        assert (group.connections, group.per_second) == (2, 5)
        await visit(group, reason)
        assert (group.connections, group.per_second) == (1, 2.5)
        for _ in range(30):
            await visit(group)
        assert group.connections == 2
        assert group.per_second == pytest.approx(5.5)
        for _ in range(60):
            await visit(group)
        assert (group.connections, group.per_second) == (4, 10)

    run(main())


def test_requests_that_were_under_way_together_fail_as_one() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock, burst=4).of("a.example")
        entered = [await group.enter() for _ in range(4)]
        for one in entered:
            group.leave(one, "http_503")
        assert group.per_second == 5

    run(main())


def test_pauses_double_with_every_failure_and_none_is_like_another() -> None:
    clock = Clock()

    async def main() -> list[float]:
        group = manners_of(clock, rest_after=100).of("a.example")
        pauses = []
        for _ in range(11):
            await visit(group, "http_503")
            pauses.append(max(group.waits_until - clock(), 0.0))
        return pauses

    pauses = run(main())
    for times, pause in enumerate(pauses):
        most = min(300.0, 2.0**times)
        assert most / 2 <= pause <= most
    assert len({round(pause / 2.0**times, 6) for times, pause in enumerate(pauses[:8])}) == 8


@pytest.mark.parametrize("reason", ["http_500", "reset"])
def test_one_error_that_may_be_about_one_file_stops_nobody(reason: str) -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        for _ in range(5):
            await visit(group, reason)
            assert group.waits_until == 0
            await visit(group)
        assert group.per_second == 10
        await visit(group, reason)
        await visit(group, reason)
        assert group.waits_until > clock()

    run(main())


def test_answers_that_are_final_slow_nobody_down() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        for reason in RULES:
            if rule(reason).outcome in ("ok", "permanent", "refused"):
                await visit(group, reason)
                await visit(group, "http_404")
        assert (group.per_second, group.waits_until) == (10, 0)

    run(main())


def test_a_server_that_asks_for_a_pause_gets_it_from_all() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        await visit(group, "http_429", retry_after=77)
        asked = clock()
        starts: list[float] = []

        async def one() -> None:
            entered = await group.enter()
            starts.append(clock())
            group.leave(entered, "ok")

        await asyncio.gather(*(one() for _ in range(5)))
        assert min(starts) == pytest.approx(asked + 77)

    run(main())


def test_who_asks_for_too_long_a_pause_is_left_for_later() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        await visit(group, "http_503", retry_after=2_000)
        with pytest.raises(NotAskedError, match=r"^host_waits$"):
            await group.enter()
        assert group.waits_until == clock() + 2_000
        await clock.sleep(1_200)  # what is left can be waited for
        await visit(group)
        assert group.waits_until == 0

    run(main())


def test_wikimedia_is_left_alone_for_a_quarter_of_an_hour() -> None:
    clock = Clock()

    async def main() -> None:
        group = Manners(load(), clock, clock.sleep).of("wikimedia")
        await visit(group, "http_500")
        assert group.waits_until == 0
        await visit(group, "http_500")
        await visit(group, "http_500")
        assert group.waits_until == clock() + 900

    run(main())


def test_a_group_that_only_fails_is_given_up_and_tried_again_after_an_hour() -> None:
    clock = Clock()

    async def main() -> None:
        group = manners_of(clock).of("a.example")
        for _ in range(12):
            assert not group.down
            await visit(group, "http_502")
        assert group.down
        with pytest.raises(NotAskedError, match=r"^host_down$"):
            await group.enter()
        await clock.sleep(3_601)
        assert not group.down
        await visit(group, "http_502")
        assert group.down
        await clock.sleep(3_601)
        await visit(group)
        await visit(group, "http_502")
        assert not group.down

    run(main())


def test_a_host_to_which_nobody_can_connect_is_given_up_its_group_is_not() -> None:
    clock = Clock()
    manners = manners_of(clock)
    for _ in range(7):
        manners.reached("a.example", "connect")
    manners.reached("a.example", "http_404")  # somebody is there after all
    for reason in ("connect", "tls", "dns", "connect", "connect", "connect", "connect"):
        manners.reached("a.example", reason)
        assert not manners.is_down("a.example")
    manners.reached("a.example", "connect")
    assert manners.is_down("a.example")
    assert not manners.is_down("b.example")
    clock.now += 3_601
    assert not manners.is_down("a.example")
    manners.reached("a.example", "connect")
    assert manners.is_down("a.example")


def test_groups_that_nothing_is_amiss_with_are_forgotten() -> None:
    clock = Clock()

    async def main() -> None:
        manners = manners_of(clock)
        slowed = manners.of("slowed.example")
        await visit(slowed, "http_503")
        clock.now += 1_000
        held = manners.of("held.example")
        for number in range(30_000):
            manners.of(f"{number}.example")
            clock.now += 0.1
        assert len(manners._groups) < 12_000
        assert len(manners._in_use) < 12_000
        assert manners.of("slowed.example") is slowed
        assert manners.of("held.example") is held

    run(main())
