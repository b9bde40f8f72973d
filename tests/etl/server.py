"""A real HTTP server on loopback whose files and misbehaviour a test sets."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

CONTACT = "somebody@example.org"


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` by path, with ranges; ``asked`` is every request that came."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.dates: dict[str, float] = {}  # Last-Modified, seconds since 1970
        self.etags: dict[str, str] = {}
        self.validators = True
        self.ranges = True
        #: (status, headers) to answer next, before anything else
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.break_after: Callable[[], int | None] = lambda: None  # bytes of a body, None for all
        self.piece = 1 << 20  # bytes written at a time
        #: changes the headers of a 206
        self.lie: Callable[[dict[str, str]], None] = lambda headers: None
        self.before: Callable[[Handler], None] = lambda handler: None
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent: dict[str, int] = {}  # bytes of bodies, by path
        self.answering = self.most_at_once = 0
        self.lock = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def put(self, path: str, content: bytes, date: float = 1_767_225_600.0) -> str:
        """Serves ``content`` under ``path``; its address."""
        self.files[path] = content
        self.dates[path] = date
        self.etags[path] = f'"{len(content)}-{date}"'
        return self.url(path)

    def ranges_of(self, path: str) -> list[tuple[int, int]]:
        """What was asked for, [first byte, last byte], in the order of the requests."""
        found = (h.get("Range", "") for _, p, h in self.asked if p == path)
        matches = (re.fullmatch(r"bytes=(\d+)-(\d+)", value) for value in found)
        return [(int(m[1]), int(m[2])) for m in matches if m]

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is nothing to talk about."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else small pieces wait for each other

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked.append((self.command, self.path, dict(self.headers)))
            server.answering += 1
            server.most_at_once = max(server.most_at_once, server.answering)
        self.counted = True
        try:
            server.before(self)
            self._answer()
        finally:
            self._done()

    def _done(self) -> None:
        """Counts before the last byte leaves: a client may be back before this thread goes on."""
        with self.server.lock:
            self.server.answering -= self.counted
            self.counted = False

    def _answer(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        if server.statuses:
            status, headers = server.statuses.pop(0)
            self._send(status, headers, b"")
        elif path not in server.files:
            self._send(404, {}, b"not here")
        else:
            self._file(path, server.files[path])

    def _file(self, path: str, content: bytes) -> None:
        headers = {}
        if self.server.validators:
            headers["ETag"] = self.server.etags[path]
            headers["Last-Modified"] = formatdate(self.server.dates[path], usegmt=True)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if span is None or not self.server.ranges or condition not in (None, *headers.values()):
            self._send(200, headers, content, path)
            return
        start, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
        if start >= len(content):
            self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return
        headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        self._send(206, headers, content[start : last + 1], path)

    def _send(self, status: int, headers: dict[str, str], body: bytes, path: str = "") -> None:
        server = self.server
        headers = {"Content-Length": str(len(body)), **headers}
        if status == 206:
            server.lie(headers)
        cut = server.break_after() if path else None
        body = body[:cut]
        if len(body) != int(headers["Content-Length"]):
            self.close_connection = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not body:
            self._done()
        self.end_headers()
        for start in range(0, len(body), server.piece):
            piece = body[start : start + server.piece]
            if start + server.piece >= len(body):
                self._done()
            self.wfile.write(piece)
            with server.lock:
                server.sent[path] = server.sent.get(path, 0) + len(piece)


@contextmanager
def running() -> Iterator[Server]:
    """A server that answers until the block is left."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
