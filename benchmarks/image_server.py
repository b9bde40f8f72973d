"""A server of pictures that also fails in every way a path asks for, and keeps a log.

    python -m benchmarks.image_server FOLDER LOG LATENCY

serves, on a port of the loopback interface that it prints, whatever the host's name:
``/KIND/NUMBER.jpg`` is answered as KIND says (``KINDS``), where there is a picture with one of the
folder's, which a comment with host and path makes another file. Each request is a line of the log,
written when its answer is, LATENCY seconds after it: when it came, when it was answered (seconds
since 1970), status, host, path. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from benchmarks.options import ROOT

#: Seconds that the answers 429 of ``busy`` ask for.
RETRY_AFTER: Final = 2

_HTML: Final = b"<!DOCTYPE html><title>No such picture</title><p>Have you lost your way?</p>"
_SVG: Final = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
_ROBOTS: Final = b"User-agent: *\nDisallow: /robots/\n"
_NOAI: Final = b"X-Robots-Tag: noai\r\n"
_GZIP: Final = b"Content-Encoding: gzip\r\n"
_LARGE: Final = 1 << 40  # bytes that an answer says it has

#: Status, header lines, body (None for a picture). What is not here is answered by ``_special``.
_ANSWERS: Final[dict[str, tuple[int, bytes, bytes | None]]] = {
    "ok": (200, b"", None),
    "unnamed": (200, b"Content-Type: text/plain\r\n", None),
    "html": (200, b"", _HTML),
    "svg": (200, b"", _SVG),
    "empty": (200, b"", b""),
    "encoded": (200, _GZIP, None),
    "noai": (200, _NOAI, None),
    "file": (302, b"Location: file:///etc/passwd\r\n", b""),
    "private": (302, b"Location: http://10.0.0.1/secret.jpg\r\n", b""),
    "metadata": (302, b"Location: http://169.254.169.254/latest/meta-data/\r\n", b""),
    **{f"http_{code}": (code, b"", _HTML) for code in (401, 402, 403, 404, 410, 451, 500)},
}

#: Each kind of path → the outcome and reason that its fetch must end with.
KINDS: Final = {
    "ok": ("ok", "ok"),
    "moved": ("ok", "ok"),  # a redirect on the host
    "away": ("ok", "ok"),  # a redirect to the next host
    "busy": ("ok", "ok"),  # 429 with Retry-After, then there
    "flaky": ("ok", "ok"),  # 503, then there
    "unnamed": ("ok", "ok"),  # a picture that is called text
    "html": ("permanent", "not_an_image"),
    "svg": ("permanent", "svg"),
    "empty": ("permanent", "empty"),
    "encoded": ("permanent", "encoded"),
    "large": ("permanent", "too_large"),
    "loop": ("permanent", "too_many_redirects"),
    **{f"http_{code}": ("permanent", f"http_{code}") for code in (401, 402, 403, 404, 410, 451)},
    "robots": ("refused", "robots"),
    "noai": ("refused", "x_robots"),
    "file": ("refused", "scheme"),
    "private": ("refused", "address"),
    "metadata": ("refused", "address"),
    "http_500": ("transient", "http_500"),
    "short": ("transient", "short"),
    "reset": ("transient", "reset"),
}


@dataclass(frozen=True)
class Request:
    """A line of the log; times in seconds since 1970."""

    came: float
    answered: float
    status: int  # 0 for none
    host: str
    path: str


def read_log(path: Path) -> list[Request]:
    """All requests, in the order in which they came."""
    found = []
    for line in path.read_text().splitlines():
        came, answered, status, host, name = line.split(" ", 4)
        found.append(Request(float(came), float(answered), int(status), host, name))
    return sorted(found, key=lambda request: request.came)


@contextmanager
def serving(folder: Path, log: Path, latency: float = 0.0) -> Iterator[int]:
    """Serves a folder in a process of its own; gives the port. The log is whole at the end.

    ``latency``: seconds from a request to its answer.
    """
    command = [sys.executable, "-m", "benchmarks.image_server", str(folder), str(log), str(latency)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(
        self, pictures: list[bytes], seen: Counter[str], log: IO[str], latency: float
    ) -> None:
        self._pictures, self._seen, self._log, self._latency = pictures, seen, log, latency
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while b"\r\n\r\n" in self._waiting and not self._transport.is_closing():
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            came = time.time()
            lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): text.strip() for name, _, text in (x.partition(":") for x in lines)
            }
            host, path = headers.get("host", "").partition(":")[0], lines[0].split(" ")[1]
            if self._latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._reply, came, host, path)
            else:
                self._reply(came, host, path)

    def _reply(self, came: float, host: str, path: str) -> None:
        status = 0 if self._transport.is_closing() else self._answer(host, path)
        self._log.write(f"{came:.6f} {time.time():.6f} {status} {host} {path}\n")

    def _answer(self, host: str, path: str) -> int:
        if path == "/robots.txt":
            return self._send(200, b"", _ROBOTS)
        kind, _, number = path[1:].partition("/")
        self._seen[host + path] += 1
        if kind not in _ANSWERS:
            return self._special(kind, number, host, path)
        status, headers, body = _ANSWERS[kind]
        return self._send(status, headers, self._picture(host, path) if body is None else body)

    def _special(self, kind: str, number: str, host: str, path: str) -> int:
        """The answers that are no whole answer, or aren't the same each time."""
        first = self._seen[host + path] == 1
        if kind == "busy" and first:
            return self._send(429, f"Retry-After: {RETRY_AFTER}\r\n".encode(), _HTML)
        if kind == "flaky" and first:
            return self._send(503, b"", _HTML)
        if kind == "reset":
            self._reset()
            return 0
        if kind in ("moved", "loop"):
            target = f"/ok/moved-{number}" if kind == "moved" else f"/loop/{number}x"
            return self._send(302, f"Location: {target}\r\n".encode(), b"")
        if kind == "away":
            port = self._transport.get_extra_info("sockname")[1]
            target = f"http://{_next(host)}:{port}/ok/away-{number}"
            return self._send(302, f"Location: {target}\r\n".encode(), b"")
        if kind in ("short", "large"):
            body = self._picture(host, path)
            self._send(200, b"", body, length=_LARGE if kind == "large" else len(body) + 9)
            self._transport.close()
            return 200
        if kind in ("busy", "flaky"):
            return self._send(200, b"", self._picture(host, path))
        return self._send(404, b"", _HTML)

    def _reset(self) -> None:
        """Ends the connection as a program that crashes does: RST instead of FIN."""
        held = self._transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _send(self, status: int, headers: bytes, body: bytes, length: int | None = None) -> int:
        if not headers.startswith(b"Content-Type"):
            kind = b"text/html" if body[:1] == b"<" else b"image/jpeg"
            headers = b"Content-Type: %b\r\n%b" % (kind, headers)
        self._transport.write(
            b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n%b\r\n"
            % (status, len(body) if length is None else length, headers)
        )
        self._transport.write(body)
        return status

    def _picture(self, host: str, path: str) -> bytes:
        """A picture with a comment (a segment COM) that no other has."""
        comment = f"{host}{path}".encode()
        chosen = self._pictures[sum(comment) % len(self._pictures)]
        length = (len(comment) + 2).to_bytes(2, "big")
        return b"".join([chosen[:2], b"\xff\xfe", length, comment, chosen[2:]])


def _next(host: str) -> str:
    """``h7.test`` → ``h8.test``; the last of them is known by no one, so the first follows."""
    name, _, rest = host.partition(".")
    return f"h{(int(name[1:]) + 1) % 10}.{rest}"


async def _serve(folder: Path, log: IO[str], latency: float) -> None:
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    seen: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(pictures, seen, log, latency), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("w") as file:
        asyncio.run(_serve(Path(sys.argv[1]), file, float(sys.argv[3])))
