"""A server that does to a downloader what the web does, and what an attacker would.

    with running() as server:
        server.url(PROBES[0])          # http://jpeg.test:41234/jpeg
        server.resolve, server.ca_file # what --resolve and --ca-file need to be, to come here
        server.asked                   # every request that came

As a process it prints the address of every probe and serves until it is ended:

    python -m tests.download.hostile --port 0 --log requests.ndjson

Every probe of a downloader's survey is in :data:`PROBES`, with the reason that it is to end with
(download/fetch/outcomes.py) and what is to become of a picture. In names below ``.test`` each probe
has a host of its own, so that what one does is not held against another; a client that can't be
told where they are is given addresses on loopback instead (``server.url(probe, plain=True)``).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import json
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

import click
import trustme

from tests.download.hostile_pictures import picture

#: Certificates, each at a port of its own: a good one, and those that are not to be believed.
CERTIFICATES: Final = ("https", "self_signed", "expired", "wrong_name")

_PAGE: Final = b"<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>"
_SVG: Final = (
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
)


@dataclass(frozen=True)
class Probe:
    """One thing that a server does.

    ``address`` has ``{host}`` for its host and ``{http}``, or a certificate's name, for a port.
    ``picture``: what is to become of what was fetched: ``kept``, a reason to drop it
    (download/pack/image.py), or "" where nothing is fetched. ``seen``: requests for it that may
    come, robots.txt not counted; None for any number.
    """

    name: str
    address: str
    reason: str
    picture: str = ""
    seen: int | None = 1


def _at(name: str, reason: str, picture: str = "", path: str = "", seen: int | None = 1) -> Probe:
    return Probe(name, f"http://{{host}}:{{http}}/{path or name}", reason, picture, seen)


def _image(name: str, picture: str = "kept") -> Probe:
    return _at(name, "ok", picture)


def _elsewhere(name: str, reason: str = "address") -> Probe:
    """A redirect to where nothing may be asked."""
    return _at(name, reason)


def _literal(name: str, address: str, reason: str = "address") -> Probe:
    return Probe(name, address, reason, seen=0)


PROBES: Final[tuple[Probe, ...]] = (
    # pictures as they are
    *map(_image, ("jpeg", "png", "gif", "webp", "avif", "tiff", "bmp", "large")),
    *map(_image, ("png16", "exif6", "cmyk", "gray", "palette", "alpha")),
    _image("truncated", "broken"),
    _image("bomb20000", "too_many_pixels"),
    _image("bomb40000", "too_many_pixels"),
    _at("jpeg-as-html", "ok", "kept"),
    _at("jpeg-without-type", "ok", "kept"),
    _at("jpeg-without-length", "ok", "kept"),
    _at("jpeg-in-chunks", "ok", "kept"),
    _at("jpeg-in-pieces", "ok", "kept"),
    # addresses
    _literal("file", "file:///etc/hostname.jpg", "scheme"),
    _literal("ftp", "ftp://{host}/a.jpg", "scheme"),
    _literal("data", "data:image/gif;base64,R0lGODlhAQABAAAAACw=", "scheme"),
    _literal("loopback", "http://127.0.0.1:{http}/jpeg"),
    _literal("loopback-2", "http://127.0.0.2:{http}/jpeg"),
    _literal("loopback-name", "http://localhost:{http}/jpeg"),
    _literal("loopback-decimal", "http://2130706433:{http}/jpeg"),
    _literal("loopback-hex", "http://0x7f.1:{http}/jpeg"),
    _literal("loopback-octal", "http://0177.0.0.1:{http}/jpeg"),
    _literal("loopback-dot", "http://127.0.0.1.:{http}/jpeg"),
    _literal("loopback-digits", "http://①②⑦.⓪.⓪.①:{http}/jpeg"),
    _literal("loopback-6", "http://[::1]:{http}/jpeg"),
    _literal("mapped", "http://[::ffff:127.0.0.1]:{http}/jpeg"),
    _literal("compatible", "http://[::127.0.0.1]:{http}/jpeg"),
    _literal("nat64", "http://[64:ff9b::127.0.0.1]:{http}/jpeg"),
    _literal("6to4", "http://[2002:7f00:1::]:{http}/jpeg"),
    _literal("any", "http://0.0.0.0:{http}/jpeg"),
    _literal("metadata", "http://169.254.169.254/latest/meta-data/"),
    _literal("metadata-6", "http://[fd00:ec2::254]/latest/meta-data/"),
    _literal("metadata-azure", "http://168.63.129.16/machine?comp=goalstate"),
    _literal("metadata-alibaba", "http://100.100.100.200/latest/meta-data/"),
    _literal("private", "http://10.0.0.1/a.jpg"),
    _literal("zone", "http://[fe80::1%25lo]:{http}/jpeg"),
    _literal("private-name", "http://private.example/a.jpg"),
    _literal("user", "http://somebody:secret@{host}:{http}/jpeg", "bad_url"),
    _literal("no-host", "http:///jpeg", "bad_url"),
    _literal("mail", "http://mail.example:25/a.jpg", "port"),
    _literal("unknown-name", "http://nowhere.invalid/a.jpg", "no_such_host"),
    _literal("closed", "http://127.0.0.1:{closed}/a.jpg", "address"),
    _literal("closed-port", "http://{host}:{closed}/a.jpg", "connect"),
    # redirects
    _at("to-image", "ok", "kept", seen=2),
    _at("to-image-5", "ok", "kept", seen=6),
    _at("to-image-6", "too_many_redirects", seen=6),
    _at("loop", "too_many_redirects", seen=6),
    _elsewhere("to-file", "scheme"),
    _elsewhere("to-ftp", "scheme"),
    _elsewhere("to-data", "scheme"),
    _elsewhere("to-metadata"),
    _elsewhere("to-private"),
    _elsewhere("to-private-name"),
    _elsewhere("to-loopback"),
    _elsewhere("to-mapped"),
    _elsewhere("to-decimal"),
    _elsewhere("to-user", "bad_redirect"),
    _elsewhere("to-nothing", "bad_redirect"),
    _elsewhere("to-nowhere", "http_302"),
    _at("to-forbidden", "robots"),
    _at("to-http-endless", "ok", "kept", seen=2),
    # statuses
    *(_at(f"status-{status}", f"http_{status}") for status in (204, 206, 300, 304, 400, 401, 402)),
    *(_at(f"status-{status}", f"http_{status}") for status in (403, 404, 408, 410, 425, 451)),
    *(_at(f"status-{status}", f"http_{status}") for status in (500, 502, 503, 504, 999)),
    _at("retry-seconds", "http_429"),
    _at("retry-date", "http_503"),
    _at("endless-404", "http_404"),
    # what the owner says
    _at("noai", "x_robots"),
    _at("noai-second", "x_robots"),
    _at("noai-upper", "x_robots"),
    _at("noai-us", "x_robots"),
    _at("noindex-googlebot", "ok", "kept"),
    _at("unavailable-after", "ok", "kept"),
    _at("tdm", "tdm"),
    _at("usage", "usage"),
    _at("robots-all", "robots", path="jpeg", seen=0),
    _at("robots-us", "robots", path="jpeg", seen=0),
    _at("robots-others", "ok", "kept", path="jpeg"),
    _at("robots-path", "robots", path="private/a.jpg", seen=0),
    _at("robots-403", "ok", "kept", path="jpeg"),
    _at("robots-500", "robots_unread", path="jpeg", seen=0),
    _at("robots-page", "ok", "kept", path="jpeg"),
    _at("robots-moved", "robots", path="jpeg", seen=0),
    _at("robots-loop", "ok", "kept", path="jpeg"),
    _at("robots-endless", "robots", path="jpeg", seen=0),
    _at("robots-gzip", "robots", path="jpeg", seen=0),
    _at("robots-signal", "robots_usage", path="jpeg", seen=0),
    _at("robots-inside", "ok", "kept", path="jpeg"),
    # bodies that are no pictures
    _at("page", "not_an_image"),
    _at("page-as-jpeg", "not_an_image"),
    _at("text-as-png", "not_an_image"),
    _at("program-as-jpeg", "not_an_image"),
    _at("svg", "svg"),
    _at("svg-as-png", "svg"),
    _at("empty", "empty"),
    _at("gzip", "encoded"),
    _at("brotli", "encoded"),
    # bodies that don't end well
    _at("endless", "too_large"),
    _at("endless-page", "not_an_image"),
    _at("announced", "too_large"),
    _at("short", "short"),
    _at("short-chunks", "short"),
    _at("huge-chunk", "short"),
    _at("bad-chunk", "short"),
    _at("reset", "short"),
    _at("reset-at-once", "reset", seen=None),
    _at("hang-up", "reset", seen=None),
    _at("drip", "too_slow"),
    _at("stop", "too_slow"),
    # heads that don't
    _at("silent", "deadline"),
    _at("slow-head", "deadline"),
    _at("flood-1xx", "deadline"),
    _at("flood-headers", "bad_answer"),
    _at("endless-head", "bad_answer"),
    _at("endless-header", "bad_answer"),
    _at("not-http", "bad_answer"),
    _at("two-lengths", "bad_answer"),
    _at("bad-length", "bad_answer"),
    # cookies
    _at("cookie", "ok", "kept", seen=2),
    # encryption
    Probe("https", "https://{host}:{https}/jpeg", "ok", "kept"),
    Probe("https-down", "https://{host}:{https}/to-http", "ok", "kept"),
    Probe("self-signed", "https://{host}:{self_signed}/jpeg", "certificate", seen=0),
    Probe("expired", "https://{host}:{expired}/jpeg", "certificate", seen=0),
    Probe("wrong-name", "https://{host}:{wrong_name}/jpeg", "certificate", seen=0),
    Probe("no-tls", "https://{host}:{plain}/jpeg", "tls", seen=0),
    Probe("tls-asked-plainly", "http://{host}:{https}/jpeg", "robots_unread", seen=0),
)


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    at: float  # seconds, as time.monotonic counts
    host: str  # as its Host header has it, without a port
    path: str
    headers: dict[str, str]  # names in lower case
    connection: int  # a number


@dataclass
class _Request:
    asked: Asked
    server: Hostile
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"", *headers: str) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join((*lines, "", "")).encode() + body)


_Answer = Callable[[_Request], Awaitable[bool | None]]  # False where the connection is to be closed
_ANSWERS: Final[dict[str, _Answer]] = {}


def _answers(path: str) -> Callable[[_Answer], _Answer]:
    def register(answer: _Answer) -> _Answer:
        _ANSWERS[path] = answer
        return answer

    return register


def _whole(path: str, name: str, *headers: str, status: int = 200) -> None:
    """A picture, with headers."""

    @_answers(path)
    async def answer(request: _Request) -> None:
        await request.answer(status, picture(name), *headers)


def _text(path: str, body: bytes, kind: str, *headers: str, status: int = 200) -> None:
    @_answers(path)
    async def answer(request: _Request) -> None:
        await request.answer(status, body, f"Content-Type: {kind}", *headers)


def _raw(path: str, *pieces: bytes) -> None:
    """Bytes as they are; then it hangs up."""

    @_answers(path)
    async def answer(request: _Request) -> bool:
        await request.send(*pieces)
        return False


def _redirect(path: str, location: str, *headers: str, status: int = 302) -> None:
    @_answers(path)
    async def answer(request: _Request) -> None:
        where = location.format(host=request.asked.host, **request.server.ports)
        await request.answer(status, b"gone", f"Location: {where}", *headers)


_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"

for _name, _type in (
    *((name, "jpeg") for name in ("jpeg", "exif6", "cmyk", "gray", "truncated")),
    *((name, "png") for name in ("png", "png16", "palette", "alpha", "large")),
    *((name, name) for name in ("gif", "webp", "avif", "tiff", "bmp")),
    ("bomb20000", "png"),
    ("bomb40000", "png"),
):
    _whole(_name, _name, f"Content-Type: image/{_type}")

_whole("jpeg-as-html", "jpeg", "Content-Type: text/html; charset=utf-8")
_whole("jpeg-without-type", "jpeg")
_whole("private/a.jpg", "jpeg")
_whole("noai", "jpeg", "X-Robots-Tag: noai")
_whole("noai-second", "jpeg", "X-Robots-Tag: googlebot: nofollow", "X-Robots-Tag: noimageai")
_whole("noai-upper", "jpeg", "x-robots-tag: NOFOLLOW, NoIndex")
_whole("noai-us", "jpeg", "X-Robots-Tag: sparqless: noai")
_whole("noindex-googlebot", "jpeg", "X-Robots-Tag: googlebot: noindex, nofollow")
_whole("unavailable-after", "jpeg", "X-Robots-Tag: unavailable_after: 25 Jun 2035 15:00:00 PST")
_whole("tdm", "jpeg", "TDM-Reservation: 1")
_whole("usage", "jpeg", "Content-Usage: search=y, train-ai=n")
_whole("brotli", "jpeg", "Content-Encoding: br")
_text("page", _PAGE, "text/html")
_text("page-as-jpeg", _PAGE, "image/jpeg")
_text("text-as-png", b'{"error": "over quota"}' * 40, "image/png")
_text("program-as-jpeg", b"\x7fELF\x02\x01\x01" + bytes(4_000), "image/jpeg")
_text("svg", _SVG, "image/svg+xml")
_text("svg-as-png", b"\xef\xbb\xbf  <!-- by hand -->\n" + _SVG, "image/png")
_text("empty", b"", "image/jpeg")
_text("gzip", gzip.compress(picture("jpeg")), "image/jpeg", "Content-Encoding: gzip")
_redirect("to-image", "/jpeg", status=301)
_redirect("to-file", "file:///etc/hostname")
_redirect("to-ftp", "ftp://{host}/a.jpg")
_redirect("to-data", "data:image/gif;base64,R0lGODlhAQABAAAAACw=")
_redirect("to-metadata", "http://169.254.169.254/latest/meta-data/")
_redirect("to-private", "http://10.0.0.1/a.jpg")
_redirect("to-private-name", "http://private.example/a.jpg")
_redirect("to-loopback", "http://127.0.0.2:{http}/jpeg", status=307)
_redirect("to-mapped", "//[::ffff:7f00:1]:{http}/jpeg", status=308)
_redirect("to-decimal", "http://2130706433:{http}/jpeg", status=303)
_redirect("to-user", "http://somebody:secret@{host}:{http}/jpeg")
_redirect("to-nothing", "http://")
_redirect("to-forbidden", "http://robots-all.test:{http}/jpeg")
_redirect("to-http", "http://plain.test:{http}/jpeg")
_redirect("loop", "/loop")
_redirect("cookie", "/cookie-came", "Set-Cookie: who=you; Path=/")
for _hops in range(1, 7):
    _redirect(f"to-image-{_hops}", f"/to-image-{_hops - 1}" if _hops > 1 else "/jpeg")
_text("to-nowhere", b"", "text/html", status=302)
for _status in (206, 300, 400, 401, 402, 403, 404, 408, 410, 425, 451, 500, 502, 503, 504, 999):
    _text(f"status-{_status}", _PAGE, "text/html", status=_status)
_raw("status-204", b"HTTP/1.1 204 No Content\r\n\r\n")
_raw("status-304", b"HTTP/1.1 304 Not Modified\r\n\r\n")
_text("retry-seconds", _PAGE, "text/html", "Retry-After: 7", status=429)

_raw("jpeg-without-length", _HEAD + b"Connection: close\r\n\r\n", picture("jpeg"))
_raw("short", _HEAD + b"Content-Length: 90000\r\n\r\n", picture("jpeg"))
_raw("announced", _HEAD + b"Content-Length: 1000000000000\r\n\r\n", picture("jpeg"))
_CHUNKED: Final = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_raw("short-chunks", _CHUNKED, b"2000\r\n" + picture("jpeg")[:0x2000] + b"\r\n")
_raw("not-http", b"SSH-2.0-OpenSSH_9.9\r\n" + bytes(range(256)))
_raw("two-lengths", _HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n", b"123456789")
_raw("bad-length", _HEAD + b"Content-Length: -1\r\n\r\n", picture("jpeg"))
_raw("flood-headers", _HEAD, b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n")
_raw("hang-up")


@_answers("jpeg-in-chunks")
async def _in_chunks(request: _Request) -> None:
    whole, piece = picture("jpeg"), 1_000
    await request.send(_CHUNKED)
    for start in range(0, len(whole), piece):
        part = whole[start : start + piece]
        await request.send(b"%x;say=so\r\n" % len(part) + part + b"\r\n")
    await request.send(b"0\r\nTrailer: yes\r\n\r\n")


async def _nonsense(request: _Request, begun: bytes, then: bytes) -> bool:
    await request.send(_CHUNKED, begun)
    await asyncio.sleep(0.05)  # what comes in one packet with the head is another case
    await request.send(then, picture("jpeg"))
    return False


@_answers("huge-chunk")
async def _huge_chunk(request: _Request) -> bool:
    begun = b"2000\r\n" + picture("jpeg")[:0x2000] + b"\r\n"
    return await _nonsense(request, begun, b"FFFFFFFFFFFFFFFFF\r\n")


@_answers("bad-chunk")
async def _bad_chunk(request: _Request) -> bool:
    return await _nonsense(request, b"2000\r\n" + picture("jpeg")[:0x2000], b"no length\r\n")


@_answers("jpeg-in-pieces")
async def _in_pieces(request: _Request) -> None:
    """Less at first than tells a format."""
    whole = picture("jpeg")
    await request.send(_HEAD + b"Content-Length: %d\r\n\r\n" % len(whole))
    for at in range(3):
        await request.send(whole[at : at + 1])
        await asyncio.sleep(0.01)
    await request.send(whole[3:])


@_answers("retry-date")
async def _retry_date(request: _Request) -> None:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    await request.answer(503, _PAGE, f"Retry-After: {at:%a, %d %b %Y %H:%M:%S} GMT")


@_answers("cookie-came")
async def _cookie_came(request: _Request) -> None:
    known = "cookie" in request.asked.headers
    await request.answer(403 if known else 200, picture("jpeg"))


async def _endlessly(request: _Request, *pieces: bytes) -> bool:
    """Sends the last piece until the client has enough; closes then."""
    await request.send(*pieces)
    while True:
        await request.send(pieces[-1])


@_answers("endless")
async def _endless(request: _Request) -> bool:
    return await _endlessly(request, _HEAD + b"\r\n", picture("jpeg"), bytes(1 << 16))


@_answers("endless-page")
async def _endless_page(request: _Request) -> bool:
    return await _endlessly(request, _HEAD + b"\r\n", _PAGE, b"<p>and on</p>" * 5_000)


@_answers("endless-404")
async def _endless_404(request: _Request) -> bool:
    return await _endlessly(request, b"HTTP/1.1 404 No\r\n\r\n", b"<p>no</p>" * 5_000)


@_answers("to-http-endless")
async def _endless_redirect(request: _Request) -> bool:
    head = b"HTTP/1.1 302 Go\r\nLocation: /jpeg\r\n\r\n"
    return await _endlessly(request, head, b"<p>there</p>" * 5_000)


@_answers("endless-head")
async def _endless_head(request: _Request) -> bool:
    return await _endlessly(request, _HEAD, b"X-More: and more\r\n" * 1_000)


@_answers("endless-header")
async def _endless_header(request: _Request) -> bool:
    return await _endlessly(request, _HEAD + b"X-Long: ", b"x" * 65_536)


@_answers("flood-1xx")
async def _flood(request: _Request) -> bool:
    return await _endlessly(request, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10)


async def _slowly(request: _Request, begun: bytes, then: bytes) -> bool:
    """A byte now and then, for ever."""
    await request.send(begun)
    while True:
        for at in range(len(then)):
            await request.send(then[at : at + 1])
            await asyncio.sleep(request.server.drip)


@_answers("drip")
async def _drip(request: _Request) -> bool:
    head = _HEAD + b"Content-Length: 1000000\r\n\r\n"
    return await _slowly(request, head + picture("jpeg")[:40], bytes(100))


@_answers("stop")
async def _stop(request: _Request) -> bool:
    await request.send(_HEAD + b"Content-Length: 90000\r\n\r\n", picture("jpeg"))
    return await request.server.until_stopped()


@_answers("slow-head")
async def _slow_head(request: _Request) -> bool:
    return await _slowly(request, _HEAD, b"X-More: and more\r\n")


@_answers("silent")
async def _silent(request: _Request) -> bool:
    return await request.server.until_stopped()


@_answers("reset")
async def _reset(request: _Request) -> bool:
    await request.send(_HEAD + b"Content-Length: 90000\r\n\r\n", picture("jpeg"))
    await asyncio.sleep(0.05)  # else the client sees the reset before it has read the head
    return _break(request)


@_answers("reset-at-once")
async def _reset_at_once(request: _Request) -> bool:
    return _break(request)


def _break(request: _Request) -> bool:
    """Closes as a machine that crashed does: with a reset."""
    made = request.writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.writer.transport.abort()
    return False


# --- robots.txt, by host ------------------------------------------------------------------------

_ROBOTS: Final[dict[str, bytes]] = {
    "robots-all.test": b"User-agent: *\nDisallow: /\n",
    "robots-us.test": b"User-agent: *\nAllow: /\n\nUser-Agent: Sparqless\nDisallow: /\n",
    "robots-others.test": b"User-agent: GPTBot\nUser-agent: img2dataset\nDisallow: /\n",
    "robots-path.test": b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /private\r\nAllow: /jpeg\r\n",
    "robots-page.test": _PAGE,
    "robots-signal.test": b"User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /\n",
    "robots-target.test": b"User-agent: *\nDisallow: /\n",
}


async def _robots(request: _Request) -> bool | None:
    host, port = request.asked.host, request.server.ports["http"]
    if host == "robots-403.test":
        await request.answer(403, _PAGE)
    elif host == "robots-500.test":
        await request.answer(500, _PAGE)
    elif host == "robots-moved.test":
        await request.answer(301, b"", f"Location: http://robots-target.test:{port}/robots.txt")
    elif host == "robots-loop.test":
        await request.answer(301, b"", "Location: /robots.txt")
    elif host == "robots-inside.test":
        await request.answer(301, b"", "Location: http://10.0.0.1/robots.txt")
    elif host == "robots-gzip.test":
        body = gzip.compress(_ROBOTS["robots-all.test"])
        await request.answer(200, body, "Content-Encoding: gzip")
    elif host == "robots-endless.test":
        head = b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /\n"
        return await _endlessly(request, head, b"Disallow: /more\n" * 1_000)
    elif host in _ROBOTS:
        await request.answer(200, _ROBOTS[host], "Content-Type: text/plain")
    else:
        await request.answer(404, b"no")
    return None


# --- the server ---------------------------------------------------------------------------------


class Hostile:
    """A running server. ``pages`` are further answers, by path: status, headers, body."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.asked: list[Asked] = []
        self.pages: dict[str, Callable[[Asked], tuple[int, dict[str, str], bytes]]] = {}
        self.drip = 0.05  # seconds between two bytes of what comes slowly
        self.answering = self.most_at_once = 0  # requests for /brief/…
        self.ca_file = Path()
        self.log: TextIO | None = None  # a JSON object for each request, as it comes
        self._connections = 0
        self._stopped = asyncio.Event()

    @property
    def resolve(self) -> tuple[str, ...]:
        """What ``--resolve`` is to say: where the probes' hosts are, and one that lies."""
        return ("*.test:127.0.0.1", "private.example:10.1.2.3")

    def url(self, probe: Probe, *, plain: bool = False) -> str:
        """The address of a probe; ``plain``: on loopback, for a client without ``--resolve``."""
        host = "127.0.0.1" if plain else f"{probe.name}.test"
        return probe.address.format(host=host, **self.ports)

    def requests_of(self, probe: Probe) -> list[Asked]:
        """The requests for a probe by its own host, robots.txt not counted."""
        host = f"{probe.name}.test"
        return [one for one in self.asked if one.host == host and one.path != "/robots.txt"]

    async def until_stopped(self) -> bool:
        """Says nothing more."""
        await self._stopped.wait()
        return False

    async def serve(self, ready: Callable[[], None], port: int, folder: Path) -> None:
        """Serves until :meth:`stop`."""
        self.ca_file, contexts = _certificates(folder)
        async with contextlib.AsyncExitStack() as stack:
            await self._listen(stack, "http", port, None)
            for name, context in contexts.items():
                await self._listen(stack, name, 0, context)
            self.ports["closed"] = _closed_port()
            await self._listen_plainly(stack)
            ready()
            await self._stopped.wait()

    def stop(self) -> None:
        """Ends :meth:`serve`; from its own thread."""
        self._stopped.set()

    async def _listen(
        self,
        stack: contextlib.AsyncExitStack,
        name: str,
        port: int,
        context: ssl.SSLContext | None,
    ) -> None:
        for address in ("127.0.0.1", "127.0.0.2"):  # a request to another one is to be seen, too
            server = await asyncio.start_server(
                self._connected, address, port, ssl=context, backlog=1_024, limit=1 << 16
            )
            stack.push_async_callback(_close, server)
            self.ports[name] = port = server.sockets[0].getsockname()[1]

    async def _listen_plainly(self, stack: contextlib.AsyncExitStack) -> None:
        """Answers whatever comes in plain HTTP, as nginx does where TLS is spoken to it."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        stack.push_async_callback(_close, server)
        self.ports["plain"] = server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        task = asyncio.current_task()
        ended = asyncio.ensure_future(self._stopped.wait())
        ended.add_done_callback(lambda _: task.cancel() if task else None)
        try:
            async for asked in _requests(reader, number):
                self._note(asked)
                if await self._answer(_Request(asked, self, writer)) is False:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            ended.cancel()
            writer.close()

    def _note(self, asked: Asked) -> None:
        self.asked.append(asked)
        if self.log is not None:
            print(json.dumps(asdict(asked)), file=self.log, flush=True)

    async def _brief(self, request: _Request) -> None:
        """A picture after a moment, so that requests can meet."""
        self.answering += 1
        self.most_at_once = max(self.most_at_once, self.answering)
        await asyncio.sleep(0.01)
        self.answering -= 1
        await request.answer(200, picture("jpeg"))

    async def _answer(self, request: _Request) -> bool | None:
        path = request.asked.path
        if path in self.pages:
            status, headers, body = self.pages[path](request.asked)
            await request.answer(status, body, *(f"{name}: {v}" for name, v in headers.items()))
            return None
        if path == "/robots.txt":
            return await _robots(request)
        if path.startswith("/brief/"):
            await self._brief(request)
            return None
        answer = _ANSWERS.get(path.partition("?")[0].removeprefix("/"))
        if answer is None:
            await request.answer(404, _PAGE, "Content-Type: text/html")
            return None
        return await answer(request)


async def _close(server: asyncio.Server) -> None:
    server.close()


async def _requests(reader: asyncio.StreamReader, connection: int) -> AsyncIterator[Asked]:
    """The requests of one connection, which have no bodies."""
    while True:
        try:
            first_byte = await reader.readexactly(1)
            head = first_byte + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        host = headers.get("host", "").rpartition("]")[2].partition(":")[0]
        words = first.split(" ")
        path = words[1] if len(words) == 3 else ""
        yield Asked(time.monotonic(), host, path, headers, connection)


def _closed_port() -> int:
    """A port that nobody listens at, and that is not given out while it is bound here."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def _certificates(folder: Path) -> tuple[Path, dict[str, ssl.SSLContext]]:
    """The authority's file, and what each TLS port shows."""
    ours, theirs = trustme.CA(), trustme.CA()
    path = folder / "ca.pem"
    ours.cert_pem.write_to_path(path)
    secure = (probe for probe in PROBES if probe.address.startswith("https:"))
    names = (*(f"{probe.name}.test" for probe in secure), "127.0.0.1")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    made = {
        "https": ours.issue_cert(*names),
        "self_signed": theirs.issue_cert(*names),
        "expired": ours.issue_cert(
            *names, not_before=past, not_after=past + datetime.timedelta(days=1)
        ),
        "wrong_name": ours.issue_cert("another.example"),
    }
    contexts = {}
    for name, certificate in made.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(contexts[name])
    return path, contexts


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Hostile]:
    """A server in a thread of its own, until the block is left."""
    ready = threading.Event()
    made: list[tuple[Hostile, asyncio.AbstractEventLoop]] = []

    async def main(folder: Path) -> None:
        server = Hostile()
        made.append((server, asyncio.get_running_loop()))
        await server.serve(ready.set, port, folder)

    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(target=lambda: asyncio.run(main(Path(folder))), daemon=True)
        thread.start()
        while not ready.wait(0.1) and thread.is_alive():
            pass
        if not ready.is_set():
            raise RuntimeError("the hostile server didn't start")
        server, loop = made[0]
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(server.stop)
            thread.join()


@click.command()
@click.option("--port", default=0, help="Of plain HTTP; 0 for any that is free.")
@click.option("--log", type=click.File("w"), help="Where each request is written, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One object instead of a table.")
def main(port: int, log: TextIO | None, as_json: bool) -> None:
    """Print the probes' addresses on loopback, and serve until standard input ends."""
    with running(port) as server:
        server.log = log
        rows = [
            {
                "name": probe.name,
                "url": server.url(probe, plain=True),
                "reason": probe.reason,
                "picture": probe.picture,
            }
            for probe in PROBES
        ]
        if as_json:
            about = {"ports": server.ports, "ca_file": str(server.ca_file), "probes": rows}
            print(json.dumps(about), flush=True)
        else:
            for row in rows:
                print(*row.values(), sep="\t", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
