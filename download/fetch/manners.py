"""How often a host is asked, and how long it is left alone: per group of hosts.

A **group** is what answers to one owner: a registrable domain, an address, or the hosts that
``manners.toml`` puts together (Wikimedia's). :class:`Rules` are what the file says, without any
state; :class:`Manners` is who was asked when, for one event loop.

    rules = load()
    rules.group_of("https://upload.wikimedia.org/a.jpg")   # "wikimedia"
    manners = Manners(rules)
    manners.of("wikimedia").connections                    # lanes that make sense now

A group begins at the pace that its rules allow. An answer that says "too much" (429, 503, a
time-out) halves it, requests and connections alike; every success gives a hundredth back, as TCP
does with its window (additive increase, multiplicative decrease: RFC 5681, 3.1). Besides, the group
is left alone for a while: as long as the server asks (Retry-After), else a second, doubled with
every failure in a row, and with a part of it left to chance, so that many clients don't come back
at once. What a server can't keep up with is answered in the same way whatever the reason.
"""

from __future__ import annotations

import asyncio
import random
import time
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from publicsuffixlist import PublicSuffixList

from download.fetch.addresses import address_of, host_of, patterns_of
from etl.errors import UserError

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

#: What ships.
SHIPPED: Final = Path(__file__).with_name("manners.toml")

_HALF: Final = 0.5  # of its pace is what a group keeps that was asked too much
_STEP: Final = 0.01  # of its full pace is what a success gives back
_SLOWEST: Final = 1 / 64  # of its full pace
_FIRST_PAUSE: Final = 1.0  # seconds, doubled with each failure in a row
_LONGEST_PAUSE: Final = 300.0
#: Failures in a row after which nobody is asked any more: a group's of any kind, and a host's to
#: connect. One more failure after the time below shuts it again.
_GROUP_DOWN_AFTER: Final = 12
_HOST_DOWN_AFTER: Final = 8
_DOWN: Final = 3600.0  # seconds
#: Of ten seconds' bytes, a tenth may come at once and nine tenths as time goes: together the most
#: that any ten seconds can have, since a bucket that is full is also filled on.
_AT_ONCE: Final = 0.9  # seconds' worth of bytes
_FILLED: Final = 0.9  # of the rate
_MOMENT: Final = 1e-6  # seconds: less isn't waited for, since rounding leaves some for ever
_STATES: Final = 10_000  # groups, or hosts, whose state is kept though nothing is amiss with them

#: Answers and silences that say that it was too much, or that a server can't keep up.
_TOO_MUCH: Final = frozenset(
    ("http_408", "http_429", "http_502", "http_503", "http_504", "deadline", "too_slow")
)
#: What says nothing about the server as a whole.
_UNREACHED: Final = frozenset(("connect", "tls", "dns", "no_such_host", "short"))


class NotAskedError(Exception):
    """Its turn won't come: the text is the reason, ``host_down`` or ``host_waits``."""


# --- rules --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """What a group is asked at most; manners.toml says more."""

    connections: int  # at once
    per_second: float  # requests
    burst: int  # requests that may follow each other at once
    bytes_per_second: float  # of bodies, over any ten seconds; 0 for no limit
    max_wait: float  # seconds that a group is waited for
    rest_after: int  # failures in a row
    rest: float  # seconds


@dataclass(frozen=True)
class Rules:
    """Groups and their paces, as a file gives them; can be pickled."""

    default: Pace
    paces: Mapping[str, Pace]  # by group
    hosts: Mapping[str, str]  # a name, or *.name for all below it → group

    def group_of(self, url: str) -> str:
        """The group of an address's host: the same wherever it is asked, without a network.

        An IPv4 address is a group; of IPv6 a /64 is, which is what a customer gets at least
        (RFC 6177). ``""`` for what has no host.
        """
        return self.group_of_host(host_of(url))

    def group_of_host(self, host: str) -> str:
        """The group of a host; its name as :func:`download.fetch.addresses.normal` writes it."""
        for pattern in patterns_of(host):
            if pattern in self.hosts:
                return self.hosts[pattern]
        return registrable(host)

    def pace_of(self, group: str) -> Pace:
        """What a group is asked at most."""
        return self.paces.get(group, self.default)


@lru_cache(1 << 16)
def registrable(host: str) -> str:
    """The part of a host's name that somebody registered; the network of an address.

    By the ICANN part of the Public Suffix List: ``a.blogspot.com`` and ``b.blogspot.com`` have
    different owners, and one company's machines answer for both.
    """
    address = address_of(host)
    if address is not None:
        return host if address.version == 4 else f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return _suffixes().privatesuffix(host) or host


@lru_cache(1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True)


def load(path: Path | None = None) -> Rules:
    """The shipped rules, with what a file says laid over them.

    Raises UserError where the file can't be read, or has a key or a value of no use.
    """
    shipped = _read(SHIPPED)
    base = Pace(**shipped["default"])
    rules = _with(Rules(base, {}, {}), SHIPPED, shipped)
    return rules if path is None else _with(rules, path, _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not a TOML file: {error}.") from None


def _with(rules: Rules, path: Path, data: dict[str, Any]) -> Rules:
    """Rules with what a file says laid over them."""
    for key in data:
        if key not in ("default", "group"):
            raise UserError(f"{path}: unknown key {key!r}; there are [default] and [group.NAME].")
    default = _pace(path, "default", rules.default, _table(path, "default", data.get("default")))
    paces, hosts = dict(rules.paces), dict(rules.hosts)
    for group, values in _table(path, "group", data.get("group")).items():
        table = dict(_table(path, f"group.{group}", values))
        for host in _hosts(path, group, table.pop("hosts", ())):
            hosts[host] = group
        paces[group] = _pace(path, f"group.{group}", paces.get(group, default), table)
    return Rules(default, paces, hosts)


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path}: {name} must be a table, [{name}].")
    return value or {}


def _hosts(path: Path, group: str, value: Any) -> list[str]:
    names = value if isinstance(value, list | tuple) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        raise UserError(f'{path}: group.{group}: hosts must be a list like ["*.example.org"].')
    return [name.lower() for name in names]


def _pace(path: Path, name: str, pace: Pace, values: Mapping[str, Any]) -> Pace:
    known = {field.name: field.type for field in fields(Pace)}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{path}: {name}: unknown key {key!r}; known are {', '.join(known)}.")
        whole = known[key] == "int"
        least = 0 if key in ("bytes_per_second", "max_wait", "rest") else 1 if whole else 1e-6
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not least <= value < 1e12:
            kind = "a whole number" if whole else "a number"
            raise UserError(
                f"{path}: {name}: {key} is {value!r}; it must be {kind} from {least} on."
            )
    return replace(pace, **values)


# --- state --------------------------------------------------------------------------------------


class Group:
    """The state of one group, for one event loop."""

    __slots__ = (
        "__weakref__",
        "_at",
        "_began",
        "_bytes",
        "_bytes_at",
        "_chance",
        "_clock",
        "_down_until",
        "_failures",
        "_freed",
        "_pause_until",
        "_share",
        "_sleep",
        "_tokens",
        "_turn",
        "pace",
        "under_way",
    )

    def __init__(self, pace: Pace, clock: Clock, sleep: Sleep, chance: random.Random) -> None:
        self.pace = pace
        self.under_way = 0  # requests
        self._clock, self._sleep, self._chance = clock, sleep, chance
        self._share = 1.0  # of its pace
        self._tokens, self._at = float(pace.burst), clock()
        self._bytes, self._bytes_at = _AT_ONCE * pace.bytes_per_second, clock()
        self._failures = 0  # in a row
        self._began = 0  # counts the failures that were acted on
        self._pause_until = self._down_until = 0.0
        self._turn = asyncio.Lock()
        self._freed: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """Connections that are allowed now: fewer than the pace's after it was too much."""
        return max(1, round(self.pace.connections * self._share))

    @property
    def per_second(self) -> float:
        """Requests a second that are allowed now."""
        return self.pace.per_second * self._share

    @property
    def down(self) -> bool:
        """Whether the group isn't asked: all of its addresses end as ``host_down`` at once."""
        return self._clock() < self._down_until

    @property
    def waits_until(self) -> float:
        """When it is asked again, by the clock of its :class:`Manners`; 0 if it may be now."""
        return self._pause_until if self._clock() < self._pause_until else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it would change nothing."""
        now = self._clock()
        return (
            self.under_way == 0
            and not self._turn.locked()
            and self._failures == 0
            and self._share == 1.0
            and now >= max(self._pause_until, self._down_until)
            and now - self._at > 10.0
        )

    def pause_until(self, time: float) -> None:
        """Leaves it alone until then, by its clock, or longer."""
        self._pause_until = max(self._pause_until, time)

    async def enter(self) -> int:
        """Waits until a request may be made; what it gives is to be given to :meth:`leave`.

        Who asked first is let in first.

        Raises NotAskedError where that takes longer than its pace's ``max_wait``.
        """
        async with self._turn:
            while (wait := self._wait()) != 0.0:
                if wait > 0.0:
                    await self._sleep(wait)
                else:
                    self._freed = asyncio.get_running_loop().create_future()
                    await self._freed
            self.under_way += 1
            self._tokens -= 1.0
            return self._began

    def leave(self, entered: int, reason: str = "", retry_after: float | None = None) -> None:
        """A request is over, for a reason (download/fetch/outcomes.py); ``""``: given up here."""
        self.under_way -= 1
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
        if reason in _TOO_MUCH or reason == "reset" or reason.startswith("http_5"):
            self._failed(entered, reason in _TOO_MUCH, retry_after)
        elif reason and reason not in _UNREACHED and entered == self._began:
            self._failures = 0
            self._share = min(1.0, self._share + _STEP)

    async def took(self, size: int) -> float:
        """Counts bytes of a body, and waits where they came too fast; seconds that it waited."""
        rate = self.pace.bytes_per_second * _FILLED
        if rate == 0.0:
            return 0.0
        self._bytes = self._level() - size
        if self._bytes >= 0.0:
            return 0.0
        wait = -self._bytes / rate
        await self._sleep(wait)
        return wait

    def _level(self) -> float:
        """Bytes that may come now."""
        now, rate = self._clock(), self.pace.bytes_per_second
        filled = self._bytes + (now - self._bytes_at) * rate * _FILLED
        self._bytes_at = now
        return min(rate * _AT_ONCE, filled)

    def _wait(self) -> float:
        """Seconds until a request may be made; less than none where another must end first."""
        now, pace = self._clock(), self.pace
        if now < self._down_until:
            raise NotAskedError("host_down")
        pause = self._pause_until - now
        if pause > pace.max_wait:
            raise NotAskedError("host_waits")
        if self.under_way >= self.connections:
            return -1.0
        rate = self.per_second
        self._tokens = min(float(pace.burst), self._tokens + (now - self._at) * rate)
        self._at = now
        wait = max(pause, (1.0 - self._tokens) / rate, 0.0)
        if pace.bytes_per_second:
            self._bytes = self._level()
            wait = max(wait, -self._bytes / (pace.bytes_per_second * _FILLED))
        return wait if wait > _MOMENT else 0.0

    def _failed(self, entered: int, too_much: bool, retry_after: float | None) -> None:
        """Slows down, and pauses. Requests that were under way together fail as one."""
        now = self._clock()
        if retry_after is not None:
            self.pause_until(now + retry_after)
        if entered != self._began:
            return
        self._began += 1
        self._failures += 1
        if too_much:
            self._share = max(_SLOWEST, self._share * _HALF)
        self.pause_until(now + self._pause(too_much))
        if self._failures >= _GROUP_DOWN_AFTER:
            self._down_until = now + _DOWN

    def _pause(self, too_much: bool) -> float:
        """Seconds: none for a first error that may be about one file."""
        times = self._failures - (0 if too_much else 1)
        if times == 0:
            return 0.0
        if self._failures >= self.pace.rest_after:
            return self.pace.rest
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (times - 1))
        return self._chance.uniform(most / 2, most)


class Manners:
    """Who was asked when, for one event loop. ``clock``: seconds; ``sleep`` waits for some.

    ``pauses``: groups that are to be left alone from the start on, and for how many seconds.
    """

    def __init__(
        self,
        rules: Rules,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        chance: random.Random | None = None,
        pauses: Mapping[str, float] | None = None,
    ) -> None:
        self.rules = rules
        self.clock, self.sleep = clock, sleep
        self._chance = chance or random.Random()
        self._groups: dict[str, Group] = {}
        self._in_use: WeakValueDictionary[str, Group] = WeakValueDictionary()
        self._hosts: dict[str, tuple[int, float]] = {}  # failures in a row, down until
        self._pauses = {group: clock() + left for group, left in (pauses or {}).items()}

    def of(self, group: str) -> Group:
        """The state of a group; the same object for all who have it.

        It is forgotten when nobody has it and there is no reason to be careful.
        """
        found = self._groups.get(group) or self._in_use.get(group)
        if found is None:
            if len(self._groups) >= _STATES and len(self._groups) % 1_000 == 0:
                self._forget()
            found = Group(self.rules.pace_of(group), self.clock, self.sleep, self._chance)
            found.pause_until(self._pauses.pop(group, 0.0))
            self._groups[group] = self._in_use[group] = found
        return found

    def pauses(self) -> dict[str, float]:
        """The groups that are left alone now, and for how many seconds more."""
        now = self.clock()
        paused = ((name, group.waits_until - now) for name, group in self._groups.items())
        later = {name: until - now for name, until in self._pauses.items() if until > now}
        return later | {name: left for name, left in paused if left > 0.0}

    def _forget(self) -> None:
        for name in [name for name, group in self._groups.items() if group.is_idle]:
            del self._groups[name]

    def is_down(self, host: str) -> bool:
        """Whether a host isn't asked, since nobody could connect to it."""
        found = self._hosts.get(host)
        return found is not None and self.clock() < found[1]

    def reached(self, host: str, reason: str) -> None:
        """Counts failures to connect to a host, by the reason that an attempt ended with.

        A host isn't its group: of a domain with thousands of names below it some are dead.
        """
        if reason not in ("connect", "tls", "dns"):
            self._hosts.pop(host, None)
            return
        failures = self._hosts.get(host, (0, 0.0))[0] + 1
        down = self.clock() + _DOWN if failures >= _HOST_DOWN_AFTER else 0.0
        self._hosts[host] = failures, down
