"""One image over HTTP, safely: every address checked, every size and time bounded.

    async with Fetcher(user_agent(contact), Manners(load()), spool=folder) as fetcher:
        attempt = await fetcher.fetch("https://example.org/a.jpg")
        if attempt.body is not None:
            with attempt.body as body:
                body.copy_to(file)

Redirects are followed here, not by aiohttp: each is an address like any other, with its scheme, its
host, its robots.txt and its turn. One from https to http is followed: no secret goes with it, and
what an image shows is not believed either way. No cookie is kept, nothing is inflated (bodies are
asked for as they are), and of an answer that isn't a success no body is kept, since people found
millions of error pages in the place of their images.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import resource
import ssl
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from importlib.metadata import version
from pathlib import Path
from typing import IO, BinaryIO, Final, Self
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from download.beginnings import format_by
from download.fetch import robots
from download.fetch.addresses import (
    Access,
    BadURLError,
    RefusedError,
    Resolver,
    normal,
    origin_of,
    shown,
    target_of,
)
from download.fetch.manners import Group, Manners, NotAskedError
from download.fetch.outcomes import of_status, rule
from download.fetch.robots import Robots
from etl.remote import retry_after

IN_MEMORY: Final = 1 << 20  # bytes of a body; a longer one goes to a file
_HEAD: Final = 1_024  # bytes in which a format shows itself
_LEAST_HEAD: Final = 32  # bytes that are waited for to tell it
_DRAINED: Final = 16 << 10  # bytes of an error's body that are read to keep a connection …
_DRAINED_FOR: Final = 2.0  # … seconds
_IDLE: Final = 10.0  # seconds that a connection without a request is kept
_LONGEST_WAIT: Final = 366 * 86_400.0  # seconds of Retry-After that are recorded
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ACCEPT: Final = "image/jpeg,image/png,image/webp;q=0.9,image/*;q=0.8,*/*;q=0.5"
_HERE: Final = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # what fails on this machine

_ROBOTS_TRIES: Final = 3
_ROBOTS_AGAIN: Final = 600.0  # seconds until one that couldn't be read is asked for again
_ROBOTS_KEPT: Final = 8 << 20  # bytes of text of all that are kept
_ROBOTS_HOSTS: Final = 20_000
_BUSY: Final = frozenset(("deadline", "too_slow", "reset", "short", "encoded"))


@dataclass(frozen=True)
class Limits:
    """What one attempt may cost. ``deadline``: without the time that manners make it wait."""

    max_bytes: int = 64 << 20
    deadline: float = 120.0  # seconds, all redirects together
    connect: float = 20.0  # seconds to a connection
    answer: float = 30.0  # seconds from there to the end of the headers
    min_rate: float = 1_000.0  # bytes a second, on average, once the grace is over
    grace: float = 10.0  # seconds
    redirects: int = 5


class Body:
    """The bytes of an image: in memory, or in a file without a name. To be closed."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._folder = folder
        self._data = bytearray()  # not pieces: a server may send single bytes
        self._file: IO[bytes] | None = None

    def write(self, piece: bytes) -> None:
        """Adds bytes.

        Raises OSError where a file can't be written.
        """
        self.size += len(piece)
        if self._file is None and self.size <= IN_MEMORY:
            self._data += piece
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it is closed below
            self._file.write(self._data)
            self._data = bytearray()
        self._file.write(piece)

    def read(self) -> bytes:
        """All of it."""
        if self._file is None:
            return bytes(self._data)
        self._file.seek(0)
        return self._file.read()

    def copy_to(self, file: BinaryIO) -> None:
        """Writes all of it."""
        if self._file is None:
            file.write(self._data)
            return
        self._file.seek(0)
        while piece := self._file.read(IN_MEMORY):
            file.write(piece)

    def close(self) -> None:
        """Gives its memory or its file back."""
        self._data = bytearray()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Attempt:
    """How one attempt ended. ``reason`` is a word of :mod:`download.fetch.outcomes`.

    ``final_url`` is the last address that was asked, without secrets; where ``reason`` is
    ``moved``, it is the address to go on at, whole, and ``hops`` is to be given to ``fetch`` there.
    """

    reason: str
    final_url: str
    status: int = 0  # of the last answer; 0 without one
    size: int = 0  # bytes of the body that came, also where it was no image
    mime: str = ""  # by its first bytes, of an image
    sha256: bytes = b""  # 32 bytes, of a whole image
    seconds: float = 0.0  # in requests, not in waiting for their turn
    hops: int = 0  # redirects that were followed
    retry_after: float | None = None  # seconds, as the server asked
    body: Body | None = None  # only of "ok"


@dataclass(slots=True)
class _Answer:
    """What one request came to. Until it is over, ``reason`` is empty."""

    reason: str = ""
    status: int = 0
    location: str | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class _Site:
    """What is known of one scheme, host and port."""

    robots: Robots
    unread: str  # the reason why its robots.txt isn't known, or ""
    until: float  # by the clock of the manners
    next_at: float = 0.0  # when it may be asked again, where its robots.txt says how often
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Time:
    """When a request has to be over, by the loop's clock."""

    timer: asyncio.Timeout
    start: float
    end: float
    paused: float = 0.0
    lost: bool = False  # whether the connection was gone when time was up


_Read = Callable[[aiohttp.ClientResponse, _Time], Awaitable[str]]


def user_agent(contact: str) -> str:
    """The User-Agent of every request, which says who asks."""
    return f"sparqless/{version('sparqless')} ({contact}) aiohttp/{aiohttp.__version__}"


class Fetcher:
    """Fetches images, as polite as its manners. To be entered in a running event loop.

    ``spool`` is a folder for bodies over a megabyte, on the way. ``owns`` says which groups may be
    asked here; a redirect to another ends as ``moved``. ``connections``: requests
    under way at most, of all groups; 0 for as many as manners allow.
    """

    def __init__(
        self,
        agent: str,
        manners: Manners,
        spool: Path,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        owns: Callable[[str], bool] = lambda group: True,
        connections: int = 0,
    ) -> None:
        self.manners = manners
        self._room = asyncio.Semaphore(connections) if connections else nullcontext()
        self._agent, self._spool, self._owns = agent, spool, owns
        self._limits, self._access = limits or Limits(), access or Access()
        self._sites: dict[str, _Site] = {}
        self._sites_size = 0
        self._reading: dict[str, asyncio.Task[_Site]] = {}

    async def __aenter__(self) -> Self:
        _open_files()
        self._resolver = Resolver(self._access, patience=self._limits.connect)
        context = ssl.create_default_context()
        if self._access.ca_file is not None:
            context.load_verify_locations(self._access.ca_file)
        connector = aiohttp.TCPConnector(
            limit=0,  # manners say how many
            resolver=self._resolver,
            use_dns_cache=False,  # the resolver has one
            socket_factory=self._resolver.make_socket,
            ssl=context,
            keepalive_timeout=_IDLE,
        )
        headers = {"User-Agent": self._agent, "Accept": _ACCEPT, "Accept-Encoding": "identity"}
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in tuple(self._reading.values()):
            task.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await self._session.close()
        await self._resolver.close()

    def group_of(self, url: str) -> str:
        """The group of an address, as its manners have it."""
        return self.manners.rules.group_of(url)

    async def fetch(self, url: str, hops: int = 0) -> Attempt:
        """One attempt, in its turn: it waits as long as the manners of its host ask.

        Nothing that a server does raises. ``hops``: redirects that were followed before.

        Raises OSError where this machine fails: a full disk, no file left to open.
        """
        attempt = Attempt("", shown(url), hops=hops)
        following: str | None = url
        while following is not None:
            following = await self._step(attempt, following)
        if attempt.reason != "ok" and attempt.body is not None:
            attempt.body.close()
            attempt.body = None
        return attempt

    # --- an address -------------------------------------------------------------------------

    async def _step(self, attempt: Attempt, given: str) -> str | None:
        """One address; the next one after a redirect, else None and the attempt has its reason."""
        try:
            url = normal(given)
        except BadURLError as error:
            reason = str(error)
            attempt.reason = "bad_redirect" if reason == "bad_url" and attempt.status else reason
            return None
        attempt.final_url = shown(url)
        host, port = target_of(url)
        name = self.manners.rules.group_of_host(host)
        if not self._owns(name):
            attempt.reason, attempt.final_url = "moved", url
            return None
        group = self.manners.of(name)
        attempt.reason = await self._unreachable(host, port)
        if attempt.reason:
            return None
        site = await self._site(url, group)
        attempt.reason = site.unread or site.robots.refusal(url)
        if attempt.reason:
            return None
        read = self._image_reader(attempt, group)
        answer = await self._exchange(url, host, group, read, attempt, site)
        attempt.reason, attempt.status = answer.reason, answer.status
        attempt.retry_after = answer.retry_after
        if answer.location is None:
            return None
        if attempt.hops >= self._limits.redirects:
            attempt.reason = "too_many_redirects"
            return None
        attempt.hops += 1
        return answer.location

    async def _unreachable(self, host: str, port: int) -> str:
        """The reason not to connect to a host, or ``""``."""
        if self.manners.is_down(host):
            return "host_down"
        try:
            await self._resolver.lookup(host, port)
        except RefusedError as error:
            reason = str(error)
            self.manners.reached(host, reason)
            return reason
        return ""

    async def _enter(self, group: Group, site: _Site | None) -> int:
        """Waits for the turn of a group, and as robots.txt asks after the request before.

        Raises NotAskedError where that takes too long.
        """
        if site is None or site.robots.delay == 0.0:
            return await group.enter()
        async with site.turn:
            wait = site.next_at - self.manners.clock()
            if wait > group.pace.max_wait:
                raise NotAskedError("host_waits")
            if wait > 0.0:
                await self.manners.sleep(wait)
            entered = await group.enter()
            site.next_at = self.manners.clock() + site.robots.delay
            return entered

    # --- a request --------------------------------------------------------------------------

    async def _exchange(
        self,
        url: str,
        host: str,
        group: Group,
        read: _Read,
        spent: Attempt,
        site: _Site | None = None,
    ) -> _Answer:
        """Asks in its turn, and has ``read`` read a success; it gives the reason."""
        answer = _Answer()
        left = self._limits.deadline - spent.seconds
        try:
            entered = await self._enter(group, site)
        except NotAskedError as error:
            answer.reason = str(error)
            return answer
        loop = asyncio.get_running_loop()
        try:
            async with self._room:
                start = loop.time()
                try:
                    await self._ask(url, answer, read, start, start + left)
                finally:
                    spent.seconds += loop.time() - start
            self.manners.reached(host, answer.reason)
        finally:
            group.leave(entered, answer.reason, answer.retry_after)
        return answer

    async def _ask(self, url: str, answer: _Answer, read: _Read, start: float, end: float) -> None:
        """Fills in an answer, whatever the server does."""
        limits = self._limits
        timer = asyncio.timeout_at(min(end, start + limits.connect + limits.answer))
        time = _Time(timer, start, end)
        try:
            async with timer:
                address = URL(url, encoded=True)
                async with self._session.get(address, allow_redirects=False) as response:
                    answer.status = response.status
                    answer.reason = await self._read(response, answer, read, time)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                answer.reason = "connect"
            elif time.lost:
                answer.reason = "short"
            else:
                over = asyncio.get_running_loop().time() >= end + time.paused
                answer.reason = "deadline" if over or not answer.status else "too_slow"
        except RefusedError as error:
            answer.reason = str(error)
        except (aiohttp.ClientError, ConnectionError, ssl.SSLError, ValueError) as error:
            answer.reason = _of_error(error)

    async def _read(
        self, response: aiohttp.ClientResponse, answer: _Answer, read: _Read, time: _Time
    ) -> str:
        """The reason; of what isn't a success, no more than a little is read, and not kept."""
        status, headers = response.status, response.headers
        if status == 200:
            return await read(response, time)
        reason = of_status(status)
        if status in _REDIRECTS and "Location" in headers:
            answer.location = _joined(str(response.url), headers["Location"].strip())
            reason = "ok"
        elif rule(reason).outcome == "transient":
            asked = retry_after(headers.get("Retry-After"))
            answer.retry_after = None if asked is None else min(asked, _LONGEST_WAIT)
        await _drain(response)
        return reason

    # --- an image ---------------------------------------------------------------------------

    def _image_reader(self, attempt: Attempt, group: Group) -> _Read:
        async def read(response: aiohttp.ClientResponse, time: _Time) -> str:
            return self._unwanted(response) or await self._image(attempt, group, response, time)

        return read

    def _unwanted(self, response: aiohttp.ClientResponse) -> str:
        """The reason not to read a body, by its headers, or ``""``."""
        refusal = robots.refusal(response.headers)
        if refusal:
            return refusal
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            return "encoded"
        if (response.content_length or 0) > self._limits.max_bytes:
            return "too_large"
        return ""

    async def _image(
        self, attempt: Attempt, group: Group, response: aiohttp.ClientResponse, time: _Time
    ) -> str:
        """Reads an image, as far as it is one and comes fast enough."""
        limits = self._limits
        attempt.body = body = Body(self._spool)
        content, digest, head = response.content, hashlib.sha256(), b""
        metered = group.pace.bytes_per_second > 0
        begun = asyncio.get_running_loop().time()
        try:
            while True:
                # the moment at which what has come would be too little
                slow = begun + time.paused + max(limits.grace, body.size / limits.min_rate)
                time.timer.reschedule(min(time.end + time.paused, slow))
                piece = await content.readany()
                if not piece:
                    break
                attempt.size += len(piece)
                if attempt.size > limits.max_bytes:
                    return "too_large"
                body.write(piece)
                digest.update(piece)
                if not attempt.mime:
                    head += piece[:_HEAD]
                    if len(head) >= _LEAST_HEAD and not _is_image(attempt, head):
                        return _what_else(head)
                if metered:
                    time.timer.reschedule(None)
                    time.paused += await group.took(len(piece))
        except asyncio.CancelledError:
            # aiohttp 3.14 tells nobody who reads a body that its chunks make no sense
            time.lost = response.connection is None or response.connection.transport is None
            raise
        finally:
            attempt.seconds -= time.paused
        if body.size == 0:
            return "empty"
        if not attempt.mime and not _is_image(attempt, head):
            return _what_else(head)
        attempt.sha256 = digest.digest()
        return "ok"

    # --- robots.txt -------------------------------------------------------------------------

    async def _site(self, url: str, group: Group) -> _Site:
        """What a site's robots.txt says; it is read once, for all who wait for it."""
        origin = origin_of(url)
        site = self._sites.get(origin)
        if site is not None and self.manners.clock() < site.until:
            return site
        task = self._reading.get(origin)
        if task is None:
            task = asyncio.create_task(self._read_site(origin))
            self._reading[origin] = task
            task.add_done_callback(lambda _: self._reading.pop(origin, None))
        return await asyncio.shield(task)

    async def _read_site(self, origin: str) -> _Site:
        found, reason = robots.ALL, ""
        for _ in range(_ROBOTS_TRIES):
            found, reason = await self._robots_of(f"{origin}/robots.txt")
            if reason != "robots_unread":
                break
        now = self.manners.clock()
        site = _Site(found, reason, now + (_ROBOTS_AGAIN if reason else robots.KEPT))
        if reason and reason != "robots_unread":
            return site  # as an attempt that failed: the next one asks again
        self._keep(origin, site)
        return site

    def _keep(self, origin: str, site: _Site) -> None:
        """Keeps it, up to a number of sites and a size of all."""
        before = self._sites.pop(origin, None)
        if before is not None:
            self._sites_size -= before.robots.size
            site.next_at = before.next_at
        self._sites_size += site.robots.size
        self._sites[origin] = site
        while len(self._sites) > _ROBOTS_HOSTS or (
            self._sites_size > _ROBOTS_KEPT and len(self._sites) > 1
        ):
            self._sites_size -= self._sites.pop(next(iter(self._sites))).robots.size

    async def _robots_of(self, url: str) -> tuple[Robots, str]:
        """A robots.txt, or the reason why it can't be told whether there is one.

        By RFC 9309, 2.3.1: what isn't there (4xx, too many redirects) allows all, what a server
        fails to give (5xx, and 429 as Google has it) forbids all, for now.
        """
        spent = Attempt("", url)
        content = bytearray()
        for _ in range(robots.REDIRECTS + 1):
            host, port = target_of(url)
            group = self.manners.of(self.manners.rules.group_of_host(host))
            reason = await self._unreachable(host, port)
            if reason:
                gone = rule(reason).outcome == "refused"
                return robots.ALL, "" if gone and spent.hops else reason
            answer = await self._exchange(url, host, group, _robots_reader(content), spent)
            if answer.location is None:
                return _robots_in(answer, bytes(content))
            spent.hops += 1
            try:
                url = normal(answer.location)
            except BadURLError:
                break
        return robots.ALL, ""


def _robots_reader(content: bytearray) -> _Read:
    """Reads as much as counts, inflated where a server compresses whatever is asked for."""

    async def read(response: aiohttp.ClientResponse, time: _Time) -> str:
        content.clear()
        while len(content) <= robots.LONGEST and (piece := await response.content.readany()):
            content.extend(piece)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            try:
                content[:] = zlib.decompressobj(47).decompress(bytes(content), robots.LONGEST + 1)
            except zlib.error:
                return "encoded"
        return "ok" if encoding in ("identity", "gzip", "x-gzip", "deflate") else "encoded"

    return read


def _robots_in(answer: _Answer, content: bytes) -> tuple[Robots, str]:
    reason = answer.reason
    if reason == "ok":
        return robots.parse(content), ""
    outcome = rule(reason).outcome
    if reason in _BUSY or (outcome == "transient" and answer.status):
        return robots.ALL, "robots_unread"
    return robots.ALL, reason if outcome == "transient" or reason == "certificate" else ""


# --- what comes ---------------------------------------------------------------------------------


def _is_image(attempt: Attempt, head: bytes) -> bool:
    name = format_by(head)
    attempt.mime = name and f"image/{name}"
    return bool(name)


def _what_else(head: bytes) -> str:
    """The reason for what is no picture: ``svg`` is told from pages and the rest."""
    start = head[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_svg = start.startswith(b"<") and b"<svg" in start and b"<html" not in start
    return "svg" if is_svg else "not_an_image"


def _joined(url: str, location: str) -> str:
    """Where a redirect goes. Unlike urljoin it doesn't take ``http://`` for the same page."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location):
        return location
    try:
        return urljoin(url, location)
    except ValueError:
        return location


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads a short body to its end, so that its connection can be used again."""
    if response.content_length is None or response.content_length > _DRAINED:
        return  # the connection is closed instead
    try:
        async with asyncio.timeout(_DRAINED_FOR):
            await response.read()
    except (TimeoutError, aiohttp.ClientError, ConnectionError):
        return


def _of_error(error: Exception) -> str:
    """The reason for what a connection raised.

    Raises OSError for what failed on this machine.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "certificate"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno in _HERE:
            raise OSError(error.os_error.errno, error.os_error.strerror) from error
        return "dns" if isinstance(error, aiohttp.ClientConnectorDNSError) else "connect"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "short"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return "connect"
    lost = (aiohttp.ClientConnectionError, ConnectionError, ssl.SSLError)
    return "reset" if isinstance(error, lost) else "bad_answer"


def _open_files() -> None:
    """Lets this process open as many files as the system lets it: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
