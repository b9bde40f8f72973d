"""A server of made-up images on the loopback interface, with a log of what was asked, and when.

What is answered follows from the path: its first word names the answer (ANSWERS), the rest tells
images apart. Names of hosts are what a test resolves to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MAGIC = b"\xff\xd8\xff\xe0"


def image(path: str, size: int = 200) -> bytes:
    """What is served as the image of a path: the beginning of a JPEG, then bytes that tell it."""
    return MAGIC + hashlib.sha256(path.encode()).digest() + b"\0" * (size - 36)


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    at: float  # seconds, monotonic
    host: str
    path: str
    agent: str


@dataclass
class Server:
    """What is running, and its log."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)  # that a host and path were asked
    size: int = 200
    delay: float = 0.0  # seconds before each answer
    under_way: int = 0
    most_at_once: int = 0  # requests
    watch: Callable[[], None] = lambda: None  # called at each request, before its answer
    go_away: Callable[[], None] = lambda: None  # nobody can connect any more …
    come_back: Callable[[], None] = lambda: None  # … and again

    def images(self) -> list[Asked]:
        """The requests that weren't for a robots.txt."""
        return [asked for asked in list(self.asked) if asked.path != "/robots.txt"]

    def answer(self, host: str, path: str) -> bytes:
        key = host + path
        self.times[key] += 1
        return answer_to(path, host, self.times[key], self.port, self.size)


def answer_to(path: str, host: str, time: int, port: int, size: int) -> bytes:
    """The bytes of an answer; ``time``: how often the same was asked by now."""
    word = path.strip("/").partition("/")[0]
    if word == "ok" or (word == "later" and time > 2) or (word == "next-day" and time > 4):
        return _http(200, image(path, size), "Content-Type: image/jpeg")
    if word == "same":
        return _http(200, image("same", size))
    if word in ("later", "next-day", "busy"):
        return _http(503, b"busy")
    if word == "wait":
        return _http(429, b"", "Retry-After: 1") if time == 1 else _http(200, image(path, size))
    if word == "page":
        return _http(200, b"<html><body>no such picture</body></html>", "Content-Type: image/png")
    if word == "short":
        return _http(200, image(path, size)[:-5], length=size)
    if word == "noai":
        return _http(200, image(path, size), "X-Robots-Tag: noai")
    if word == "away":  # /away/HOST/PATH
        _, _, rest = path.strip("/").partition("/")
        other, _, there = rest.partition("/")
        return _http(302, b"", f"Location: http://{other}/{there}")
    if word == "inside":
        return _http(302, b"", "Location: http://10.0.0.1/secret.jpg")
    if word.isdecimal():
        return _http(int(word), b"no")
    return _http(404, b"")


def _http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {length or len(body)}", *headers]
    if length:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """A server in a thread of its own."""
    server = Server(**settings)
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    thread = threading.Thread(target=_run, args=(loop, server, ready.set), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _run(loop: asyncio.AbstractEventLoop, server: Server, ready: Callable[[], None]) -> None:
    open_: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = {n.lower(): v.strip() for n, _, v in (h.partition(":") for h in head[1:])}
                host = headers["host"].partition(":")[0]
                server.asked.append(Asked(time.monotonic(), host, path, headers["user-agent"]))
                server.watch()
                answer = server.answer(host, path)
                server.under_way += 1
                server.most_at_once = max(server.most_at_once, server.under_way)
                try:
                    await asyncio.sleep(server.delay)
                finally:
                    server.under_way -= 1
                writer.write(answer)
                await writer.drain()
                if b"\r\nConnection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            open_.discard(writer)
            writer.close()

    async def begin() -> asyncio.Server:
        found = await asyncio.start_server(talk, "127.0.0.1", server.port, backlog=1024)
        server.port = found.sockets[0].getsockname()[1]
        return found

    listening = loop.run_until_complete(begin())

    def go_away() -> None:
        listening.close()
        for writer in list(open_):
            writer.transport.abort()

    async def back() -> None:
        nonlocal listening
        listening = await begin()

    server.go_away = lambda: loop.call_soon_threadsafe(go_away)
    server.come_back = lambda: asyncio.run_coroutine_threadsafe(back(), loop).result(10)
    ready()
    loop.run_forever()
    listening.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    for writer in list(open_):
        writer.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
