"""A real HTTP server on loopback that answers as an OpenAI-compatible one does, or misbehaves.

What it answers is made from the request's own JSON schema: nothing here comes from `graph/`.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body

TOKENS_IN, TOKENS_OUT = 101, 23  # what the server says that every request cost


class ModelServer(http.server.ThreadingHTTPServer):
    """Answers well unless `behave` gives something else; `asked` is every request that came."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        #: given the request and its number, from 0; None to answer well
        self.behave: Callable[[dict[str, Any], int], Answer | None] = lambda body, number: None
        self.lock = threading.Lock()
        self.answering = self.most_at_once = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def entities_asked(self) -> list[str]:
        """The ids that requests asked about, in the order they came."""
        return [entity for body in self.asked for entity in properties(body)]

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is nothing to talk about."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # what a redirect that is followed would send
        self.send_error(418)

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.asked)
            server.asked.append(body)
            server.paths.append(self.path)
            server.headers.append(dict(self.headers))
            server.answering += 1
            server.most_at_once = max(server.most_at_once, server.answering)
        try:
            status, headers, text = server.behave(body, number) or good(body)
        finally:
            with server.lock:
                server.answering -= 1
        headers = {"Content-Length": str(len(text)), **headers}
        self.close_connection = int(headers["Content-Length"]) != len(text)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def properties(body: dict[str, Any]) -> dict[str, Any]:
    """The schema of the answer about each entity of a request."""
    found: dict[str, Any] = body["response_format"]["json_schema"]["schema"]["properties"]
    return found


def fitting(schema: dict[str, Any], name: str = "") -> Any:
    """The first value that a schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {key: fitting(inner, key) for key, inner in schema["properties"].items()}
    if schema["type"] == "array":
        return [fitting(schema["items"], name)]
    return f"some {name}"


def content(body: dict[str, Any]) -> dict[str, Any]:
    """An answer to a request, as the schema wants it."""
    return {entity: fitting(schema) for entity, schema in properties(body).items()}


def completion(text: str, **more: Any) -> Answer:
    """A completion with a text; `more` replaces members of it."""
    body = {
        "id": "x",
        "model": "served-model",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT},
        **more,
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def good(body: dict[str, Any]) -> Answer:
    return completion(json.dumps(content(body), ensure_ascii=False))


def error(status: int, message: str, **headers: str) -> Answer:
    """An error in OpenAI's form."""
    text = json.dumps({"error": {"message": message, "type": "x", "code": None}})
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode()


@contextmanager
def running() -> Iterator[ModelServer]:
    """A server that answers until the block is left."""
    made = ModelServer()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
