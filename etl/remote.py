"""A dump on an HTTP server: which version is there, and its bytes while they are fetched.

Bytes are asked for by range, so a broken connection costs what was on the way and a worker can
begin anywhere. Every answer is compared with the version that the run was planned with (length,
ETag, Last-Modified): bytes of two versions never meet.

Wikimedia has capped a client at two or three connections, and a dump comes slower than one core
reads it (4–16 MB/s were measured; docs/performance.md has the reader's rate): more connections
than :data:`CONNECTIONS` would be rude and gain nothing.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
from urllib3.exceptions import HTTPError

from etl.errors import UserError, is_disk_full

#: Connections to a host in all: a run on an address has at most so many workers.
CONNECTIONS: Final = 3

TIMEOUT: Final = (30, 60)  # seconds to connect, seconds without a byte
TRIES: Final = 8  # in a row without one new byte: four minutes
_FIRST_TRIES: Final = 2  # to reach a server at all
_BACKOFF: Final = 2.0  # seconds, doubled at each try
_BREATH: Final = 0.1  # seconds before a connection that gave something is made anew
_LONGEST_WAIT: Final = 900.0  # seconds; a longer Retry-After is for the user to decide
_REDIRECTS: Final = 5
_TRY_AGAIN: Final = (429, 500, 502, 503, 504)

_PIECE: Final = 16 << 10  # bytes per read of a response: what a broken connection can cost
_WINDOW: Final = 8 << 20  # bytes that stay in memory: a reader looks ahead and goes back
_GAP: Final = 1 << 20  # bytes that are rather read over than asked past
_FIRST_STEP: Final = 256 << 10  # bytes asked for past the part that is known to be needed …
_LAST_STEP: Final = 16 << 20  # … doubled up to this: the reader finishes a line or a member there
_LISTING: Final = 1 << 20
_CANDIDATES: Final = 12  # dated folders to look into: a quarter of a year

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")
_MOVING = re.compile(r"latest-(all\.json(?:\.gz|\.bz2)?)\Z")
_DATED = re.compile(r"/(\d{8})/wikidata-\1-[^/]*\Z")
_DATED_FOLDER = re.compile(rb'href="(\d{8})/"')

#: What a connection that breaks, or never comes about, raises.
BROKEN: Final = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)

pause: Callable[[float], None] = time.sleep


class MissingError(UserError):
    """There is no such file on the server, or no longer."""


class UnreachableError(UserError):
    """The server can't be asked now; a later run may succeed."""


class NoRangesError(UserError):
    """The server gives a file only from its beginning."""


class Remote(msgspec.Struct, frozen=True):
    """One version of a file elsewhere: its length in bytes and what tells it from another.

    ``length`` is None where the server doesn't say it.
    """

    length: int | None
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """For ``If-Range``: a strong ETag, else the date; ``""`` where there is neither."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else ""
        return strong or self.last_modified

    def difference(self, other: Remote) -> str:
        """In what ``other`` is another version, in words; ``""`` where nothing says so."""
        if None not in (self.length, other.length) and self.length != other.length:
            return f"{other.length:,} bytes, {self.length:,} before"
        for name, was, now in (
            ("ETag", self.etag, other.etag),
            ("Last-Modified", self.last_modified, other.last_modified),
        ):
            if was and now and was != now:
                return f"{name} {now}, {was} before"
        return ""


def is_http(name: str) -> bool:
    """Whether a DUMP argument is an address that this module reads."""
    return name.startswith(("http://", "https://"))


def public(address: str) -> str:
    """An address without what may be secret (a password, a signed query), to show and record."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def file_name(address: str) -> str:
    """The last part of an address's path; may be empty."""
    return urlsplit(address).path.rpartition("/")[2]


def user_agent(contact: str) -> str:
    """The User-Agent of every request: Wikimedia blocks clients that don't say who they are."""
    library = requests.utils.default_user_agent()
    return f"sparqless/{version('sparqless')} ({contact}) {library}"


def session_of(agent: str) -> requests.Session:
    """A session that says who asks, takes files as they are and follows few redirects."""
    session = requests.Session()
    session.max_redirects = _REDIRECTS
    session.hooks["response"].append(_check_redirect)
    session.headers.update({"User-Agent": agent, "Accept-Encoding": "identity"})
    return session


def _check_redirect(response: requests.Response, **_: object) -> None:
    """Hangs up on a redirect, whose body requests would read to its end, be it endless.

    Raises UserError for one that leaves encryption.
    """
    if not response.is_redirect:
        return
    response.close()
    target = urljoin(response.url, response.headers["Location"])
    if response.url.startswith("https:") and not target.startswith("https:"):
        raise UserError(
            f"{public(response.url)} redirects to {public(target)}, which isn't encrypted; if you "
            "trust that, give that address."
        )


# --- which file ---------------------------------------------------------------------------------


def look(session: requests.Session, address: str) -> tuple[Remote, bool]:
    """The version that is on the server now, and whether the server gives ranges of it.

    Asks for the first byte: unlike HEAD this also works with signed addresses.

    Raises MissingError or UserError for a server that refuses or isn't there.
    """
    with _asked(session, address, {"Range": "bytes=0-0"}) as response:
        if response.status_code == 416:
            raise UserError(f"{public(address)} is empty; expected a Wikidata JSON dump.")
        return version_in(response), response.status_code == 206


def dated(session: requests.Session, address: str) -> str:
    """The dated file behind a link such as entities/latest-all.json.gz; other addresses as is.

    The link moves to the next dump while the one before is being read. Of the dated files in the
    folders beside it the newest with its length and date is meant.

    Raises UserError where there is none.
    """
    found = _MOVING.match(file_name(address))
    if found is None:
        return address
    link, _ = look(session, address)
    listing = _small(session, urljoin(address, "."), _LISTING)
    dates = sorted({date.decode() for date in _DATED_FOLDER.findall(listing)}, reverse=True)
    for date in dates[:_CANDIDATES] if link.last_modified else ():
        candidate = urljoin(address, f"{date}/wikidata-{date}-{found[1]}")
        try:
            there, _ = look(session, candidate)
        except MissingError:
            continue
        if (there.length, there.last_modified) == (link.length, link.last_modified):
            return candidate
    raise UserError(
        f"{public(address)} is a link that moves to the next dump, and no dated file beside it has "
        f"its length and date; name the dated file, see {public(urljoin(address, '.'))}."
    )


def is_dated(address: str) -> bool:
    """Whether an address is of a file that is of one date and so of one content."""
    return is_http(address) and _DATED.search(re.split("[?#]", address)[0]) is not None


def is_behind(dated_address: str, link: str) -> bool:
    """Whether a link such as latest-all.json.gz may have stood for a dated file at some time."""
    found = _MOVING.match(file_name(link))
    if found is None:
        return False
    pattern = rf"{re.escape(public(urljoin(link, '.')))}(\d{{8}})/wikidata-\1-{re.escape(found[1])}"
    return re.fullmatch(pattern, dated_address) is not None


def published(session: requests.Session, address: str, name: str, limit: int = 1 << 20) -> str:
    """The sum of ``name`` in a file of sums, in small letters; ``""`` where none is published.

    Raises UnreachableError where that can't be told now.
    """
    try:
        text = _small(session, address, limit).decode("ascii", "replace")
    except UnreachableError:
        raise
    except UserError:  # 404, or 403 as object stores answer
        return ""
    lines = (line.split() for line in text.splitlines())
    return next((f[0].lower() for f in lines if len(f) == 2 and f[1].lstrip("*") == name), "")


def _small(session: requests.Session, address: str, limit: int) -> bytes:
    with _asked(session, address, {}) as response:
        try:
            return bytes(response.raw.read(limit, decode_content=False))
        except BROKEN as error:
            raise UnreachableError(
                f"{public(address)}: {cause(error)}; run the same command again."
            ) from error


def _asked(session: requests.Session, address: str, headers: dict[str, str]) -> requests.Response:
    """The answer to a first request: a success, or 416."""
    for attempt in range(TRIES):
        try:
            response = get(session, address, headers)
        except BROKEN as error:
            if attempt >= _FIRST_TRIES - 1:
                raise UnreachableError(
                    f"{public(address)}: no connection ({cause(error)}); what is done is kept: run "
                    "the same command again when there is one."
                ) from error
            pause(_BACKOFF)
            continue
        if response.status_code == 416 or may_go_on(response, address, attempt):
            return response
    raise AssertionError("wait gives up first")


def get(session: requests.Session, address: str, headers: dict[str, str]) -> requests.Response:
    """An answer of which only the head has been read.

    Raises one of :data:`BROKEN` where a later try may succeed, UserError where none will.
    """
    try:
        return session.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    except BROKEN:
        raise
    except (requests.RequestException, ValueError) as error:  # endless redirects, to file://, …
        said = str(error).replace(address, public(address)).rstrip(".")
        raise UserError(f"{public(address)}: {said}.") from error


# --- what a server says -------------------------------------------------------------------------


def version_in(response: requests.Response) -> Remote:
    """The version that an answer is about; the length of the whole file, not of the answer."""
    if response.status_code == 206:
        span = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        total = span[3] if span else ""
    else:
        total = response.headers.get("Content-Length", "")
    return Remote(
        int(total) if total.isdecimal() and len(total) < 19 else None,
        response.headers.get("ETag", ""),
        response.headers.get("Last-Modified", ""),
    )


def no_ranges(address: str) -> NoRangesError:
    """What to say of a server that can't be read from several places."""
    return NoRangesError(
        f"{public(address)}: this server doesn't serve ranges of a file; give --keep-dump DIR, "
        "which fetches it whole first, or pipe `curl` into `-`."
    )


def changed(address: str, difference: str) -> UserError:
    """What to say when a file is no longer the one that was begun with."""
    return UserError(
        f"{public(address)} now is another file ({difference}). Name the dated file of the dump, "
        "or start over with --fresh."
    )


def may_go_on(response: requests.Response, address: str, attempt: int) -> bool:
    """True for a success; waits and gives False where a later try may succeed.

    Raises UserError for the rest, with what to do.
    """
    status = response.status_code
    if status in (200, 206):
        return True
    response.close()
    shown = public(address)
    if status in _TRY_AGAIN:
        asked = retry_after(response.headers.get("Retry-After"))
        if asked is not None and asked > _LONGEST_WAIT:
            raise UnreachableError(
                f"{shown}: the server asks to wait {asked / 60:,.0f} minutes (HTTP {status}); run "
                "the same command again then, it goes on where it stopped."
            )
        wait(attempt, address, f"HTTP {status}", asked)
        return False
    folder = public(urljoin(address, "."))
    if status == 404:
        raise MissingError(
            f"{shown}: HTTP 404; there is no such file: dumps are removed after some weeks, see "
            f"{folder}."
        )
    if status == 410:
        raise MissingError(f"{shown}: HTTP 410; the file is gone: see {folder} for newer ones.")
    advice = "see whether the address is right"
    if status == 403:
        advice = "the server refuses this client: is --contact a real address of yours?"
    raise UserError(f"{shown}: HTTP {status}; {advice}.")


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms; None without one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def wait(attempt: int, address: str, reason: str, asked: float | None = None) -> None:
    """Waits before try ``attempt`` + 1, longer each time, and as long as the server asks.

    Raises UnreachableError after the last try.
    """
    if attempt >= TRIES - 1:
        raise UnreachableError(
            f"{public(address)}: gave up after {TRIES} tries ({reason}). What is done is kept: run "
            "the same command again to go on."
        )
    pause(max(asked or 0.0, _BACKOFF * 2**attempt))


def cause(error: BaseException) -> str:
    """The innermost reason: requests wraps what the system said in three layers."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


# --- its bytes ----------------------------------------------------------------------------------


class RemoteFile(io.BufferedIOBase):
    """A version of a file on a server, read like an opened file, over one connection.

    ``ahead`` is the offset up to which one request may ask at once, a slice's end; past it small
    ranges are asked for. With ``part``, a file of the remote's length, all bytes that come are
    written to it at their own offsets.

    Raises UserError where the server gives up, gives another version or no ranges.
    """

    def __init__(
        self, address: str, remote: Remote, agent: str, ahead: int = 0, part: str = ""
    ) -> None:
        super().__init__()
        assert remote.length is not None
        self._address = address
        self._remote = remote
        self._length: int = remote.length
        self._ahead = min(ahead, self._length)
        self._session = session_of(agent)
        self._response: requests.Response | None = None
        self._came = False  # whether the answer has given a byte
        self._until = 0  # where its range ends
        self._step = _FIRST_STEP
        self._position = 0
        self._origin = 0  # offset of the window's first byte
        self._window = bytearray()
        self._part = os.open(part, os.O_WRONLY) if part else -1
        self._spans: list[tuple[int, int]] = []  # what was written to the part, in that order

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the end of the file."""
        start, end = self._position, self._length
        if size is not None and size >= 0:
            end = min(end, start + size)
        if start >= end:
            return b""
        self._load(start, end)
        data = bytes(memoryview(self._window)[start - self._origin : end - self._origin])
        self._position = end
        return data

    def close(self) -> None:
        if not self.closed:
            self._hang_up()
            self._session.close()
            if self._part >= 0:
                os.close(self._part)
        super().close()

    def keep(self, start: int, end: int) -> None:
        """Fetches what of [start, end) has not been read, and puts the part on the disk."""
        at = start
        for begun, ended in [*sorted(self._spans), (end, end)]:
            while at < min(begun, end):
                self.seek(at)
                at += len(self.read(min(_GAP, begun - at, end - at)))
            at = max(at, ended)
        os.fsync(self._part)

    @property
    def _frontier(self) -> int:
        """Offset behind the window: of the next byte that the server is to send."""
        return self._origin + len(self._window)

    def _load(self, start: int, end: int) -> None:
        """Has bytes [start, end) in the window."""
        near = _GAP if self._response is not None else 0
        if not self._origin <= start <= self._frontier + near:
            self._hang_up()
            self._window.clear()
            self._origin = start
        attempt = 0
        while self._frontier < end:
            before = self._frontier
            self._receive(attempt)
            attempt = 0 if self._frontier > before else attempt + 1
            if len(self._window) > 2 * _WINDOW:
                passed = min(len(self._window) - _WINDOW, max(0, start - self._origin))
                del self._window[:passed]
                self._origin += passed

    def _receive(self, attempt: int) -> None:
        """Puts the next bytes behind the window, or waits where none come."""
        reason = "the connection broke off"
        try:
            if self._response is None and not self._ask(attempt):
                return
            assert self._response is not None
            wanted = min(_PIECE, self._until - self._frontier)
            piece = self._response.raw.read(wanted, decode_content=False)
        except BROKEN as error:
            piece, reason = b"", cause(error)
        if not piece:
            came = self._came
            self._hang_up()
            if came:
                pause(_BREATH)
            else:
                wait(attempt, self._address, reason)
            return
        self._came = True
        self._write(piece)
        self._window += piece
        if self._frontier == self._until:
            self._hang_up()  # an answer read to its end leaves the connection to the next request

    def _ask(self, attempt: int) -> bool:
        """Asks for what is behind the window; False where it is to be asked for again."""
        start, until = self._frontier, self._ahead
        if start >= self._ahead:
            until = min(start + self._step, self._length)
            self._step = min(2 * self._step, _LAST_STEP)
        headers = {"Range": f"bytes={start}-{until - 1}"}
        if self._remote.validator:
            headers["If-Range"] = self._remote.validator
        response = get(self._session, self._address, headers)
        try:
            if response.status_code != 416 and not may_go_on(response, self._address, attempt):
                return False
            self._until = self._checked(response, start, until)
        except BaseException:
            response.close()
            raise
        # a body that ends early gives what came of it; else the last piece of it would be lost
        response.raw.enforce_content_length = False
        self._response = response
        return True

    def _checked(self, response: requests.Response, start: int, until: int) -> int:
        """Where the range of an answer ends, which must be of this version and begin at start."""
        if response.status_code == 416:
            raise changed(self._address, f"it has no byte {start:,}")
        difference = self._remote.difference(version_in(response))
        if difference:
            raise changed(self._address, difference)
        if response.status_code == 200:
            raise no_ranges(self._address)
        span = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != start or not start <= int(span[2]) < until:
            raise UserError(
                f"{public(self._address)} answers another range than was asked for; try a mirror."
            )
        return int(span[2]) + 1

    def _write(self, piece: bytes) -> None:
        if self._part < 0:
            return
        start = at = self._frontier
        rest = memoryview(piece)
        try:
            while rest:
                written = os.pwrite(self._part, rest, at)
                rest, at = rest[written:], at + written
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"the disk (or a file size limit) of --keep-dump is full ({error}); make room and "
                "run the same command again."
            ) from error
        if self._spans and self._spans[-1][1] == start:
            start = self._spans.pop()[0]
        self._spans.append((start, at))

    def _hang_up(self) -> None:
        self._came = False
        if self._response is not None:
            self._response.close()
            self._response = None
