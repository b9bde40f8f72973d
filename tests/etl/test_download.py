"""A dump is fetched whole, whatever the server does; or the reason is said, and what came kept."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from etl import download
from etl.errors import UserError
from tests.console import run
from tests.etl import dumps

NAME = "wikidata-20260101-all.json.gz"
CONTENT = random.Random(0).randbytes(3_000_000)
CONTACT = "somebody@example.org"


class Server(http.server.ThreadingHTTPServer):
    """A loopback server whose file and misbehaviour a test sets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.break_after: Callable[[], int | None] = lambda: None
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.ranges = True
        self.announced: int | None = None
        self.sums: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/entities/{NAME}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.command, self.path, dict(self.headers)))
        if self.path.endswith("sums.txt"):
            self._sums()
            return
        if server.statuses:
            status, headers = server.statuses.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self._start()
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            self.send_header("Content-Range", span)
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(server.announced or len(body)))
        self.end_headers()
        if self.command == "GET":
            cut = server.break_after()
            self.wfile.write(body[:cut])

    def _start(self) -> int:
        asked = self.headers.get("Range")
        if not asked or not self.server.ranges or self.headers["If-Range"] != self.server.etag:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _sums(self) -> None:
        text = self.server.sums.get(self.path.rpartition("-")[2], "").encode()
        self.send_response(200 if text else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "pause", lambda seconds: None)
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def fetch(server: Server, folder: Path) -> tuple[Path, str]:
    return download.fetch(server.url, folder, CONTACT, quiet=True)


def test_a_file_is_fetched_whole_and_once(server: Server, tmp_path: Path) -> None:
    path, checked = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert checked == "length"
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    assert sum(method == "GET" and NAME in path for method, path, _ in server.requests) == 1


def test_a_kept_dump_is_used_as_it_is_whatever_the_server_has_now(
    server: Server, tmp_path: Path
) -> None:
    """Links to the latest dump move every week, and dated files are removed."""
    fetch(server, tmp_path)
    asked = len(server.requests)
    server.content = b"another week"
    path, checked = fetch(server, tmp_path)
    assert (path.read_bytes(), checked) == (CONTENT, "kept")
    assert len(server.requests) == asked


def test_every_request_says_who_asks(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    for _, _, headers in server.requests:
        assert headers["User-Agent"].startswith("sparqless/")
        assert f"({CONTACT})" in headers["User-Agent"]


def test_a_connection_that_keeps_breaking_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    rng = random.Random(1)
    server.break_after = lambda: rng.randint(1, 700_000)
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    ranges = [h["Range"] for m, _, h in server.requests if m == "GET" and "Range" in h]
    assert len(ranges) > 4


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    state = {"url": server.url, "length": len(CONTENT), "etag": '"one"', "last_modified": ""}
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1_234_567])
    (tmp_path / f"{NAME}.part.json").write_text(json.dumps(state))
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    (asked,) = [h["Range"] for m, _, h in server.requests if m == "GET" and "Range" in h]
    assert asked == "bytes=1234567-"


def test_another_version_of_the_file_is_never_put_behind_the_first(
    server: Server, tmp_path: Path
) -> None:
    state = {"url": server.url, "length": len(CONTENT), "etag": '"older"', "last_modified": ""}
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1_000_000)
    (tmp_path / f"{NAME}.part.json").write_text(json.dumps(state))
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_link_that_moves_in_between_is_refused(server: Server, tmp_path: Path) -> None:
    def move() -> int:
        server.content, server.etag = CONTENT[:2_000_000], '"two"'
        return 500_000

    server.break_after = move
    with pytest.raises(UserError, match="now is another file"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.break_after = lambda: None
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT[:2_000_000]


def test_a_server_without_ranges_is_read_from_the_start_again(
    server: Server, tmp_path: Path
) -> None:
    server.ranges = False
    cuts = iter([1_000_000, 2_000_000])
    server.break_after = lambda: next(cuts, None)
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_lies_about_the_length_is_given_up_with_a_sentence(
    server: Server, tmp_path: Path
) -> None:
    server.announced = len(CONTENT) + 10
    with pytest.raises(UserError, match=r"gave up after|now is another file"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_server_that_sends_nothing_is_not_hammered(server: Server, tmp_path: Path) -> None:
    server.break_after = lambda: 0
    with pytest.raises(UserError, match="gave up after 6 tries"):
        fetch(server, tmp_path)
    assert len(server.requests) < 10


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(403, "--contact"), (404, "removed after some weeks"), (410, "gone"), (418, "HTTP 418")],
)
def test_a_refusal_is_final_and_says_what_to_do(
    server: Server, tmp_path: Path, status: int, sentence: str
) -> None:
    server.statuses = [(status, {})]
    with pytest.raises(UserError, match=sentence):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("when", ["7", formatdate(4_102_444_800, usegmt=True)])
def test_a_busy_server_is_waited_for_as_it_asks(
    server: Server, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download, "pause", waited.append)
    monkeypatch.setattr(download.time, "time", lambda: 4_102_444_793.0)
    server.statuses = [(503, {}), (429, {"Retry-After": when})]
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert waited[1] == 7.0


def test_a_wait_of_hours_is_left_to_the_user(server: Server, tmp_path: Path) -> None:
    server.statuses = [(429, {"Retry-After": "7200"})]
    with pytest.raises(UserError, match="wait 120 minutes"):
        fetch(server, tmp_path)


def test_a_server_that_stays_down_is_given_up(server: Server, tmp_path: Path) -> None:
    server.statuses = [(500, {})] * 50
    with pytest.raises(UserError, match=r"gave up after 6 tries \(HTTP 500\)"):
        fetch(server, tmp_path)
    assert len(server.requests) == 6


def test_a_server_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download, "pause", waited.append)
    with pytest.raises(UserError, match=r"no connection \(.*refused"):
        download.fetch("http://127.0.0.1:9/dump.json.gz", tmp_path, CONTACT, quiet=True)
    assert len(waited) == 1


def test_published_sums_are_checked(server: Server, tmp_path: Path) -> None:
    server.sums = {"sha1sums.txt": f"{hashlib.sha1(CONTENT).hexdigest()}  {NAME}\n"}
    assert fetch(server, tmp_path)[1] == "sha1"
    (tmp_path / NAME).unlink()
    server.sums = {"md5sums.txt": f"{'0' * 32}  other\n{'1' * 32}  {NAME}\n"}
    with pytest.raises(UserError, match="md5 is not the one"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    server.sums = {"md5sums.txt": f"{hashlib.md5(CONTENT).hexdigest()}  {NAME}\n"}
    assert fetch(server, tmp_path)[1] == "md5"


def test_an_address_builds_the_store_that_the_file_builds(server: Server, tmp_path: Path) -> None:
    lines = [dumps.as_line(e) for e in dumps.entities(50)]
    dump = dumps.write(tmp_path / "dump.gz", lines)
    server.content = dump.read_bytes()
    asked = f"etl {server.url} --store store --json"
    without = run(asked, tmp_path)
    assert without.returncode == 1
    assert "--contact" in without.stderr
    assert server.requests == []
    (tmp_path / "sparqless.toml").write_text(f'contact = "{CONTACT}"\n')
    done = run(asked, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dumps" / NAME).read_bytes() == server.content
    assert json.loads(done.stdout)["entities"] > 40


@pytest.mark.parametrize(
    "contact", ["me", "a@b", "x@example.org\r\nX: y", "", "<a@b.org>", "ü@b.de"]
)
def test_a_contact_that_is_none_is_refused(contact: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither an e-mail address nor a URL"):
        download.fetch_dumps(("http://127.0.0.1:9/x.gz",), tmp_path, contact)


def test_settings_come_from_the_folder_then_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl.config import setting

    (tmp_path / "user" / "sparqless").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    assert setting("contact") is None
    (tmp_path / "user/sparqless/sparqless.toml").write_text('contact = "user@example.org"')
    assert setting("contact") == "user@example.org"
    (tmp_path / "here/sparqless.toml").write_text('contact = "here@example.org"')
    assert setting("contact") == "here@example.org"
    (tmp_path / "here/sparqless.toml").write_text('contakt = "here@example.org"')
    with pytest.raises(UserError, match="unknown setting 'contakt'"):
        setting("contact")
    assert os.getcwd() == str(tmp_path / "here")


def test_an_address_that_names_no_file_is_refused(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9/", "http://127.0.0.1:9/..", "http://127.0.0.1:9/%2e%2e"):
        with pytest.raises(UserError, match="name of a file"):
            download.fetch(url, tmp_path, CONTACT)
