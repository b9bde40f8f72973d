"""A dump that is read while it comes is the dump, whatever the network and the server do."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import remote, source
from etl.errors import UserError
from etl.estimate import estimate
from etl.ingest import ingest
from etl.remote import Remote, RemoteFile, dated, look, session_of, user_agent
from tests.console import run
from tests.etl import dumps
from tests.etl.server import CONTACT, Handler, Server, running
from tests.etl.test_ingest import contents, options, wait_for_work

CONTENT = random.Random(0).randbytes(300_000)
AGENT = user_agent(CONTACT)
DUMP = "/entities/20260101/wikidata-20260101-all.json.gz"
LINK = "/entities/latest-all.json.gz"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "pause", lambda seconds: None)
    with running() as made:
        yield made


@pytest.fixture(scope="session")
def lines() -> list[bytes]:
    return [dumps.as_line(e) for e in dumps.entities(250)]


@pytest.fixture(scope="session")
def expected(lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("local")
    path = dumps.write(folder / "dump.json", lines)
    ingest((str(path),), folder / "store", options())
    return contents(folder / "store")


def packed(folder: Path, lines: list[bytes], form: str = ".gz") -> bytes:
    return dumps.write(folder / f"packed{form}", lines).read_bytes()


def build(address: str, store: Path, **more: Any) -> dict[str, Any]:
    return ingest((address,), store, options(**{"contact": CONTACT, "slice_bytes": 9_000, **more}))


def opened(server: Server, path: str = DUMP, **more: Any) -> RemoteFile:
    with session_of(AGENT) as session:
        version, _ = look(session, server.url(path))
    server.asked.clear()
    return RemoteFile(server.url(path), version, AGENT, **more)


# --- reading like a file


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_it_reads_as_a_file_does_wherever_connections_break(
    server: Server, tmp_path: Path, data: st.DataObject, seed: int
) -> None:
    size = len(CONTENT)
    rng = random.Random(seed)
    server.put(DUMP, CONTENT)
    server.break_after = lambda: rng.choice([None, rng.randint(20_000, 90_000)])
    part = tmp_path / f"part-{seed}"
    part.write_bytes(bytes(size))
    steps = data.draw(
        st.lists(st.tuples(st.integers(0, size + 9), st.integers(-1, 60_000)), max_size=8)
    )
    start, end = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
    oracle = io.BytesIO(CONTENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "_WINDOW", 9_000)
        patch.setattr(remote, "_GAP", 2_000)
        patch.setattr(remote, "_FIRST_STEP", 3_000)
        with opened(server, ahead=end, part=str(part)) as file:
            for offset, amount in steps:
                oracle.seek(offset)
                file.seek(offset)
                assert file.read(amount) == oracle.read(amount)
                assert file.tell() == oracle.tell()
            file.keep(start, end)
    assert part.read_bytes()[start:end] == CONTENT[start:end]


def test_a_look_ahead_and_back_costs_no_request(server: Server) -> None:
    server.put(DUMP, CONTENT)
    with opened(server, ahead=len(CONTENT)) as file:
        for offset in (0, 100_000, 40_000, 200_000, 30_000):
            file.seek(offset)
            assert file.read(50_000) == CONTENT[offset : offset + 50_000]
    assert len(server.asked) == 1


def test_a_broken_connection_costs_no_byte_that_came(server: Server) -> None:
    server.put(DUMP, CONTENT)
    cuts = iter([100_000, 50_000])
    server.break_after = lambda: next(cuts, None)
    with opened(server, ahead=len(CONTENT)) as file:
        cuts = iter([100_000, 50_000])
        assert file.read() == CONTENT
    asked = [start for start, _ in server.ranges_of(DUMP)]
    assert asked[0] == 0
    assert 100_000 - remote._PIECE < asked[1] <= 100_000
    assert asked[1] + 50_000 - remote._PIECE < asked[2] <= asked[1] + 50_000


def test_past_the_slice_small_ranges_are_asked_for(server: Server) -> None:
    content = random.Random(1).randbytes(3_000_000)
    server.put(DUMP, content)
    with opened(server, ahead=500_000) as file:
        assert file.read(500_000) == content[:500_000]
        assert file.read(100) == content[500_000:500_100]
        assert server.ranges_of(DUMP) == [(0, 499_999), (500_000, 762_143)]
        assert file.read() == content[500_100:]
    sizes = [last - first + 1 for first, last in server.ranges_of(DUMP)[1:]]
    assert sizes == [256 << 10, 512 << 10, 1 << 20, 664_992]


def test_every_request_says_who_asks_and_wants_the_file_as_it_is(server: Server) -> None:
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        file.read()
    for _, _, headers in server.asked:
        assert headers["User-Agent"].startswith("sparqless/")
        assert f"({CONTACT})" in headers["User-Agent"]
        assert headers["Accept-Encoding"] == "identity"


def test_a_file_that_the_server_calls_encoded_is_not_decoded(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    """Some servers take .gz for the encoding of a .json."""
    content = packed(tmp_path, lines)
    server.put(DUMP, content)
    server.lie = lambda headers: headers.update({"Content-Encoding": "gzip"})
    with opened(server) as file:
        assert file.read() == content


# --- servers that lie, or are busy


def moved(headers: dict[str, str]) -> None:
    span, total = headers["Content-Range"].split("/")
    headers["Content-Range"] = f"{span}/{int(total) + 1}"


def shifted(headers: dict[str, str]) -> None:
    headers["Content-Range"] = "bytes 1-9/300000"


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (moved, "now is another file .300,001 bytes, 300,000 before"),
        (shifted, "answers another range"),
        (lambda headers: headers.pop("Content-Range"), "answers another range"),
        (lambda headers: headers.update(ETag='"two"'), 'another file .ETag "two"'),
        (lambda headers: headers.update({"Last-Modified": "Mon"}), "another file .Last-Mod"),
    ],
)
def test_an_answer_that_is_not_of_this_version_is_refused(
    server: Server, lie: Callable[[dict[str, str]], None], sentence: str
) -> None:
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        server.lie = lie
        with pytest.raises(UserError, match=sentence):
            file.read()


@pytest.mark.parametrize("content", [CONTENT[:200_000], CONTENT[::-1], CONTENT + b"more"])
def test_two_versions_never_meet(server: Server, content: bytes) -> None:
    server.put(DUMP, CONTENT)

    def change() -> int | None:
        server.put(DUMP, content, 1_767_225_601.0)
        return 60_000

    with opened(server, ahead=len(CONTENT)) as file:
        server.break_after = change
        with pytest.raises(UserError, match="now is another file"):
            file.read()


def test_a_file_that_got_shorter_is_another_even_without_validators(server: Server) -> None:
    server.put(DUMP, CONTENT)
    server.validators = False
    with opened(server) as file:
        file.seek(250_000)
        server.put(DUMP, CONTENT[:100_000])
        with pytest.raises(UserError, match=r"now is another file \(it has no byte 250,000"):
            file.read(10)


@pytest.mark.parametrize("wrong", [-50_000, 50_000])
def test_a_wrong_content_length_changes_nothing(server: Server, wrong: int) -> None:
    def lie(headers: dict[str, str]) -> None:
        size = int(headers["Content-Length"])
        if size > 100_000:
            headers["Content-Length"] = str(size + wrong)

    server.put(DUMP, CONTENT)
    with opened(server, ahead=len(CONTENT)) as file:
        server.lie = lie
        assert file.read() == CONTENT


def test_a_server_without_ranges_is_refused_with_what_to_do(server: Server) -> None:
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        server.ranges = False
        with pytest.raises(UserError, match=r"doesn't serve ranges.*--keep-dump.*curl"):
            file.read()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(403, "--contact"), (404, "removed after some weeks"), (410, "gone"), (418, "HTTP 418")],
)
def test_a_refusal_is_final_and_says_what_to_do(
    server: Server, tmp_path: Path, status: int, sentence: str
) -> None:
    server.put(DUMP, CONTENT)
    server.statuses = [(status, {})]
    with pytest.raises(UserError, match=sentence):
        build(server.url(DUMP), tmp_path / "store")
    assert len(server.asked) == 1


@pytest.mark.parametrize("when", ["7", formatdate(4_102_444_800, usegmt=True)])
def test_a_busy_server_is_waited_for_as_it_asks(
    server: Server, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        monkeypatch.setattr(remote, "pause", waited.append)
        monkeypatch.setattr(remote.time, "time", lambda: 4_102_444_793.0)
        server.statuses = [(503, {}), (429, {"Retry-After": when})]
        assert file.read() == CONTENT
    assert waited == [2.0, 7.0]


@pytest.mark.parametrize(
    "when",
    ["0", "-5", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "1 Jan 2026 00:00 +9999999999999999"],
)
def test_a_server_that_names_no_time_is_waited_for_all_the_same(
    server: Server, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        monkeypatch.setattr(remote, "pause", waited.append)
        server.statuses = [(503, {"Retry-After": when})] * 3
        assert file.read() == CONTENT
    assert waited == [2.0, 4.0, 8.0]


def test_a_date_that_is_none_is_no_date(server: Server) -> None:
    assert source.mtime_ns(Remote(1, "", "1 Jan 2026 00:00 +9999999999999999")) == 0


def test_a_server_that_breaks_after_every_byte_is_not_hammered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    server.put(DUMP, CONTENT)
    with opened(server, ahead=len(CONTENT)) as file:
        monkeypatch.setattr(remote, "pause", waited.append)
        server.break_after = lambda: 1
        assert file.read(5) == CONTENT[:5]
    assert len(server.asked) == 5
    assert len(waited) == 4


def test_a_busy_server_that_goes_away_is_said(server: Server) -> None:
    def hang_up(handler: Handler) -> None:
        if len(server.asked) > 2:
            handler.connection.shutdown(socket.SHUT_RDWR)

    server.statuses = [(503, {})] * 2
    server.before = hang_up
    with session_of(AGENT) as session, pytest.raises(UserError, match="no connection"):
        look(session, server.put(DUMP, CONTENT))


def test_a_wait_of_hours_is_left_to_the_user(server: Server) -> None:
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        server.statuses = [(429, {"Retry-After": "7200"})]
        with pytest.raises(UserError, match="wait 120 minutes"):
            file.read()


@pytest.mark.parametrize(
    ("misbehave", "reason"),
    [
        (lambda s: setattr(s, "statuses", [(500, {})] * 50), "HTTP 500"),
        (lambda s: setattr(s, "break_after", lambda: 0), r"IncompleteRead|broke off"),
    ],
)
def test_a_server_that_gives_nothing_is_given_up_and_not_hammered(
    server: Server, misbehave: Callable[[Server], None], reason: str
) -> None:
    server.put(DUMP, CONTENT)
    with opened(server) as file:
        misbehave(server)
        with pytest.raises(UserError, match=rf"gave up after 8 tries \(.*({reason})"):
            file.read()
    assert len(server.asked) == 8


def test_a_server_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote, "pause", waited.append)
    with pytest.raises(UserError, match=r"no connection \(.*refused"):
        build("http://127.0.0.1:9/dump.json.gz", tmp_path / "store")
    assert len(waited) == 1


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("/round", "redirects"),
        ("file:///etc/passwd", "No connection adapters"),
        ("http://[", "Invalid IPv6 URL"),
    ],
)
def test_redirects_are_few_and_stay_on_http(
    server: Server, tmp_path: Path, location: str, sentence: str
) -> None:
    server.statuses = [(302, {"Location": location})] * 20
    with pytest.raises(UserError, match=sentence):
        build(server.url("/round"), tmp_path / "store")
    assert len(server.asked) <= 6


def test_a_redirect_is_followed(
    server: Server, tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    server.put(DUMP, packed(tmp_path, lines))

    def redirect(handler: Handler) -> None:
        handler.path = handler.path.replace("/mirror", "/entities")

    server.before = redirect
    build(server.url(DUMP.replace("/entities", "/mirror")), tmp_path / "store")
    assert contents(tmp_path / "store") == expected


def test_what_a_redirect_says_beside_its_target_is_not_read(server: Server) -> None:
    """A body without end would fill the memory."""
    came: list[int] = []

    def endlessly(handler: Handler) -> None:
        if handler.path == "/here":
            handler.send_response(302)
            handler.send_header("Location", DUMP)
            handler.end_headers()
            for _ in range(100):
                came.append(handler.wfile.write(bytes(1 << 20)))

    server.put(DUMP, CONTENT)
    server.before = endlessly
    with session_of(AGENT) as session:
        found, _ = look(session, server.url("/here"))
    assert found.length == len(CONTENT)
    assert len(came) < 50


def test_a_redirect_does_not_leave_encryption() -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://me:secret@example.org/dump.json.gz"
    answer.raw = io.BytesIO()
    (check,) = session_of(AGENT).hooks["response"]
    for harmless in ("https://mirror.example.org/dump.json.gz", "/there", "there"):
        answer.headers["Location"] = harmless
        check(answer)
    answer.headers["Location"] = "http://example.org/dump.json.gz"
    with pytest.raises(UserError, match="isn't encrypted") as error:
        check(answer)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://[::1/dump.json.gz", "http://me:secret@host:port/x", "s3://[/x"]
)
def test_what_is_no_address_is_said_without_its_secrets(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError) as error:
        build(address, tmp_path / "store")
    assert "secret" not in str(error.value)


def test_secrets_in_an_address_are_neither_shown_nor_recorded(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    content, store = packed(tmp_path, [*lines, b"{broken"]), tmp_path / "store"
    server.put(DUMP, content)
    signed = server.url(DUMP).replace("://", "://me:secret@") + "?signature=secret"
    for wrong in (content[:20_000], b"<html>"):
        server.put(DUMP, wrong)
        with pytest.raises(UserError) as error:
            build(signed, tmp_path / "other")
        assert "secret" not in str(error.value)
    server.put(DUMP, content)
    build(signed, store)
    for name in ("manifest.json", "rejects.ndjson"):
        assert DUMP.rpartition("/")[2] in (store / name).read_text()
        assert "secret" not in (store / name).read_text()
    assert all("signature=secret" in path for _, path, _ in server.asked)
    server.files.clear()
    with pytest.raises(UserError) as error:
        build(signed, tmp_path / "other")
    assert "secret" not in str(error.value)


# --- building from an address


@pytest.mark.parametrize("form", [".json", ".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("workers", [1, 5])
def test_an_address_builds_the_store_that_the_file_builds(
    server: Server,
    tmp_path: Path,
    lines: list[bytes],
    expected: dict[str, Any],
    form: str,
    workers: int,
) -> None:
    content = packed(tmp_path, lines, form)
    rng = random.Random(workers)
    server.break_after = lambda: rng.choice([None, rng.randint(0, 30_000)])
    server.piece = 1_000
    address = server.put("/dump", content)
    manifest = build(address, tmp_path / "store", workers=workers)
    assert contents(tmp_path / "store") == expected
    assert server.most_at_once <= 3
    assert manifest["sources"] == [
        {
            "address": address,
            "length": len(content),
            "etag": server.etags["/dump"],
            "last_modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "checked": "length" if form == ".json" else "members and length",
        }
    ]


def test_the_command_wants_a_contact_looks_and_builds(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    address = server.put(DUMP, packed(tmp_path, lines))
    asked = f"etl {address} --store store --json"
    without = run(asked, tmp_path)
    assert without.returncode == 1
    assert "--contact" in without.stderr
    assert server.asked == []
    (tmp_path / "sparqless.toml").write_text(f'contact = "{CONTACT}"\n')
    looked = run(f"{asked} --dry-run", tmp_path)
    assert json.loads(looked.stdout)["input_bytes"] == len(server.files[DUMP])
    assert not (tmp_path / "store").exists()
    done = run(asked, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entities"] == 253
    assert sorted(p.name for p in tmp_path.iterdir()) == ["packed.gz", "sparqless.toml", "store"]
    again = run(asked, tmp_path)
    assert json.loads(again.stdout)["seconds"] == 0


def test_an_estimate_is_the_same_from_the_network(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    content = packed(tmp_path, lines)
    address = server.put(DUMP, content)
    made = options(contact=CONTACT)
    far = estimate((address,), tmp_path / "store", made)
    near = estimate((str(tmp_path / "packed.gz"),), tmp_path / "store", made)
    assert far is not None
    assert near is not None
    assert (far.entities, far.json_bytes) == (near.entities, near.json_bytes)
    assert server.sent[DUMP] < 3 * len(content) + 10


def test_what_is_no_dump_is_refused(server: Server, tmp_path: Path) -> None:
    for content, sentence in ((b"", "is empty"), (b"<html>", "not a Wikidata JSON dump")):
        with pytest.raises(UserError, match=sentence):
            build(server.put("/dump.json", content), tmp_path / "store")


def test_a_dump_that_changes_before_the_end_is_noticed(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    content = packed(tmp_path, lines)
    server.put(DUMP, content)

    def change(handler: Handler) -> None:
        if server.sent.get(DUMP, 0) > len(content) + 20_000:
            server.put(DUMP, content[:-1] + b"x", 1_767_225_777.0)

    server.before = change
    with pytest.raises(UserError, match="now is another file"):
        build(server.url(DUMP), tmp_path / "store")
    assert not (tmp_path / "store/manifest.json").exists()


def test_a_dump_that_is_removed_after_all_was_read_makes_a_store(
    server: Server, tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    content = packed(tmp_path, lines)
    server.put(DUMP, content)

    def remove(handler: Handler) -> None:
        if handler.headers["Range"] == "bytes=0-0" and len(server.asked) > 5:
            server.files.clear()

    server.before = remove
    build(server.url(DUMP), tmp_path / "store")
    assert server.files == {}
    assert contents(tmp_path / "store") == expected


def started(address: str, store: Path, keep: str = "None") -> subprocess.Popen[bytes]:
    script = store.parent / "run.py"
    script.write_text(
        "from pathlib import Path; from tests.etl.test_remote import build\n"
        "if __name__ == '__main__':\n"
        f"    build({address!r}, Path({str(store)!r}), workers=2, keep_dump={keep})\n"
    )
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )


@pytest.mark.parametrize("keeps", [False, True])
def test_killed_at_random_points_and_resumed_it_is_the_same_store(
    server: Server, tmp_path: Path, lines: list[bytes], expected: dict[str, Any], keeps: bool
) -> None:
    rng = random.Random(keeps)
    content = packed(tmp_path, lines)
    address, store = server.put(DUMP, content), tmp_path / "store"
    server.break_after = lambda: rng.choice([None, None, rng.randint(1, 9_000)])
    server.piece = 500
    keep = f"Path({str(tmp_path / 'kept')!r})" if keeps else "None"
    for _ in range(2):
        process = started(address, store, keep)
        wait_for_work(process, store, rng.randint(1, 5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert started(address, store, keep).wait() == 0
    assert contents(store) == expected
    if keeps:
        assert (tmp_path / "kept" / Path(DUMP).name).read_bytes() == content


# --- the link that moves


def linked(server: Server, content: bytes, date: str, when: float) -> None:
    """A week's dump: the dated file, the link to it and the folder that lists it."""
    server.put(f"/entities/{date}/wikidata-{date}-all.json.gz", content, when)
    server.put(LINK, content, when)
    listed = server.files.get("/entities/", b'<a href="../">../</a>')
    server.put("/entities/", listed + b'\n<a href="%s/">%s/</a>' % (date.encode(), date.encode()))


def test_the_dated_file_behind_the_link_is_read_and_recorded(
    server: Server, tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    content = packed(tmp_path, lines)
    linked(server, b"another week", "20251225", 1e9)
    linked(server, content, "20260101", 2e9)
    server.put("/entities/", server.files["/entities/"] + b'<a href="20260108/">no dump yet</a>')
    manifest = build(server.url(LINK), tmp_path / "store")
    assert contents(tmp_path / "store") == expected
    assert manifest["plan"]["inputs"][0]["address"] == server.url(DUMP)
    assert manifest["plan"]["inputs"][0]["name"] == "wikidata-20260101-all.json.gz"
    assert manifest["sources"][0]["address"] == server.url(DUMP)
    assert server.ranges_of(LINK) == [(0, 0)]


@pytest.mark.parametrize("wrong", ["length", "date", "listing"])
def test_a_link_whose_file_is_not_found_is_refused(
    server: Server, tmp_path: Path, lines: list[bytes], wrong: str
) -> None:
    linked(server, packed(tmp_path, lines), "20260101", 2e9)
    if wrong == "length":
        server.put(LINK, b"longer" * 9_999, 2e9)
    elif wrong == "date":
        server.put(LINK, server.files[LINK], 2e9 + 1)
    else:
        server.put("/entities/", b'<a href="2026010/"> <a href="https://evil.example/20260101/">')
    with pytest.raises(UserError, match="name the dated file, see http"):
        build(server.url(LINK), tmp_path / "store")


def test_only_that_link_is_looked_behind(server: Server) -> None:
    with session_of(AGENT) as session:
        for name in ("/dump.json.gz", "/latest-all.json.gz.part", "/latest-truthy.nt.gz"):
            assert dated(session, server.url(name)) == server.url(name)
    assert server.asked == []


def interrupted(address: str, store: Path, server: Server) -> None:
    """A build of which some slices are done."""

    def refuse(handler: Handler) -> None:
        if sum(1 for _ in store.glob("building/*/report.json")) > 2:
            server.statuses = [(410, {})]

    server.before = refuse
    with pytest.raises(UserError, match="HTTP 410"):
        build(address, store, workers=0)
    server.before = lambda handler: None
    server.statuses = []


def test_a_build_goes_on_with_its_dated_file_when_the_link_has_moved(
    server: Server, tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    content, store = packed(tmp_path, lines), tmp_path / "store"
    linked(server, content, "20260101", 2e9)
    interrupted(server.url(LINK), store, server)
    linked(server, b"next week" * 999, "20260108", 2.1e9)
    manifest = build(server.url(LINK), store)
    assert contents(store) == expected
    assert manifest["seconds"]["slices_read_earlier"] >= 3


def test_a_build_whose_dated_file_is_gone_or_changed_is_refused(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    content, store = packed(tmp_path, lines), tmp_path / "store"
    linked(server, content, "20260101", 2e9)
    interrupted(server.url(LINK), store, server)
    del server.files[DUMP]
    with pytest.raises(UserError, match=r"HTTP 404.*was begun with it; --fresh starts over"):
        build(server.url(LINK), store)
    server.put(DUMP, packed(tmp_path, lines[:-1]), 2e9)
    with pytest.raises(UserError, match=r"half-built store made with another size of wikidata-2"):
        build(server.url(LINK), store)
    linked(server, packed(tmp_path, lines[:-1]), "20260108", 2.1e9)
    assert build(server.url(LINK), store, fresh=True)["counts"]["lines"] == len(lines) + 1


def test_a_finished_store_is_not_asked_for_again(
    server: Server, tmp_path: Path, lines: list[bytes]
) -> None:
    """Dated files are removed after some weeks; the command that made the store still ends well."""
    address, store = server.put(DUMP, packed(tmp_path, lines)), tmp_path / "store"
    made = build(address, store)
    server.files.clear()
    server.asked.clear()
    assert build(address, store)["contents"] == made["contents"]
    assert server.asked == []
    with pytest.raises(UserError, match="finished store made with another --limit"):
        build(address, store, limit=3)
    with pytest.raises(UserError, match="HTTP 404"):
        build(server.url("/dump.json"), store)


# --- other places


@pytest.fixture
def memory() -> Iterator[Any]:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def test_a_dump_in_an_object_store_builds_the_same_store(
    memory: Any, tmp_path: Path, lines: list[bytes], expected: dict[str, Any]
) -> None:
    memory.pipe("/bucket/dump.json.gz", packed(tmp_path, lines))
    manifest = build("memory://bucket/dump.json.gz", tmp_path / "store", contact=None)
    assert contents(tmp_path / "store") == expected
    assert manifest["plan"]["inputs"][0]["address"] == "memory://bucket/dump.json.gz"


def test_an_object_that_is_replaced_is_noticed(
    memory: Any, tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl import build as build_module

    memory.pipe("/bucket/dump.json.gz", packed(tmp_path, lines))
    real = build_module.read_slice

    def replace(job: Any, tick: Any) -> Any:
        report = real(job, tick)
        memory.pipe("/bucket/dump.json.gz", packed(tmp_path, lines))
        return report

    monkeypatch.setattr(build_module, "read_slice", replace)
    with pytest.raises(UserError, match="now is another file"):
        build("memory://bucket/dump.json.gz", tmp_path / "store")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("memory://bucket/nothing", "no such file"),
        ("memory://bucket", "name the files of the dump one by one"),
        ("gopher://host/dump", "Protocol not known"),
        ("memory://me:word@bucket/dump.json.gz", "memory://bucket/dump.json.gz .* a password"),
    ],
)
def test_places_that_hold_no_dump_are_refused(
    memory: Any, tmp_path: Path, address: str, sentence: str
) -> None:
    memory.pipe("/bucket/dump.json.gz", b"x")
    with pytest.raises(UserError, match=sentence):
        build(address, tmp_path / "store")


def test_without_fsspec_what_to_install_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"pip install 'sparqless\[cluster\]'"):
        build("s3://bucket/dump.json.gz", tmp_path / "store")


def test_what_a_worker_is_given_can_travel() -> None:
    import pickle

    access = source.Access(
        AGENT, {"http://x/y": Remote(5, '"e"')}, parts={"http://x/y": source.Part("p", "i")}
    )
    assert pickle.loads(pickle.dumps(access)) == access
