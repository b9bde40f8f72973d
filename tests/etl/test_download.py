"""A dump that is to be kept is kept whole and checked, or the reason is said and nothing used."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import download, remote
from etl.config import contact, setting
from etl.errors import UserError
from etl.ingest import ingest
from etl.remote import user_agent
from etl.source import reach
from tests.etl import dumps
from tests.etl.server import CONTACT, Handler, Server, running
from tests.etl.test_ingest import contents, options

NAME = "wikidata-20260101-all.json.gz"
PATH = f"/entities/20260101/{NAME}"
LINES = [dumps.as_line(e) for e in dumps.entities(300)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "pause", lambda seconds: None)
    with running() as made:
        yield made


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return dumps.write(tmp_path_factory.mktemp("dump") / "dump.gz", LINES).read_bytes()


@pytest.fixture(scope="session")
def expected(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("local")
    (folder / "dump.gz").write_bytes(content)
    ingest((str(folder / "dump.gz"),), folder / "store", options())
    return contents(folder / "store")


def build(address: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Into folder/store, the dump kept in folder/kept."""
    given = {"contact": CONTACT, "slice_bytes": 6_000, "keep_dump": folder / "kept", **more}
    return ingest((address,), folder / "store", options(**given))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "kept").iterdir())


def publish(server: Server, algorithm: str, digest: str) -> None:
    text = f"{'0' * 40}  other\n{digest}  {NAME}\n".encode()
    server.put(f"/entities/20260101/wikidata-20260101-{algorithm}sums.txt", text)


def stop_after(server: Server, folder: Path, slices: int) -> None:
    """Makes the server refuse everything once some slices are done."""

    def refuse(handler: Handler) -> None:
        if sum(1 for _ in (folder / "store").glob("building/*/report.json")) >= slices:
            server.statuses = [(410, {})]

    server.before = refuse


def interrupted(server: Server, folder: Path, slices: int = 4, **more: Any) -> None:
    stop_after(server, folder, slices)
    with pytest.raises(UserError, match="HTTP 410"):
        build(server.url(PATH), folder, **more)
    server.before = lambda handler: None
    server.statuses = []


# --- kept while it is read


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_read_is_also_kept(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any], workers: int
) -> None:
    rng = random.Random(workers)
    address = server.put(PATH, content)
    server.break_after = lambda: rng.choice([None, rng.randint(1, 9_000)])
    manifest = build(address, tmp_path, workers=workers)
    assert (tmp_path / "kept" / NAME).read_bytes() == content
    assert names(tmp_path) == [NAME]
    assert contents(tmp_path / "store") == expected
    assert manifest["sources"][0]["checked"] == "members and length"


@pytest.mark.parametrize("algorithm", ["sha1", "md5"])
def test_published_sums_are_checked(
    server: Server, tmp_path: Path, content: bytes, algorithm: str
) -> None:
    address = server.put(PATH, content)
    publish(server, algorithm, hashlib.new(algorithm, content).hexdigest())
    manifest = build(address, tmp_path)
    assert manifest["sources"][0]["checked"] == algorithm
    assert names(tmp_path) == [NAME]


def test_what_is_no_sum_is_not_held_against_a_dump(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    address = server.put(PATH, content)
    publish(server, "sha1", "<html>")
    publish(server, "md5", hashlib.md5(content).hexdigest())
    assert build(address, tmp_path)["sources"][0]["checked"] == "md5"


def test_sums_that_cannot_be_asked_for_are_not_taken_for_none(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    address = server.put(PATH, content)
    publish(server, "sha1", hashlib.sha1(content).hexdigest())

    def be_busy(handler: Handler) -> None:
        if "sums" in handler.path:
            server.statuses = [(503, {})]

    server.before = be_busy
    with pytest.raises(UserError, match=r"sha1sums\.txt: gave up after 8 tries"):
        build(address, tmp_path)
    server.before = lambda handler: None
    manifest = build(address, tmp_path)
    assert manifest["sources"][0]["checked"] == "sha1"
    assert manifest["seconds"]["slices_read_earlier"] > 4


def test_a_dump_with_another_sum_is_put_aside_and_nothing_read_from_it_is_used(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any]
) -> None:
    address = server.put(PATH, content)
    publish(server, "sha1", "1" * 40)
    with pytest.raises(UserError, match="its sha1 is not the one that is published"):
        build(address, tmp_path)
    assert f"{NAME}.wrong" in names(tmp_path)
    assert NAME not in names(tmp_path)
    assert not list((tmp_path / "store").glob("building/*"))
    publish(server, "sha1", hashlib.sha1(content).hexdigest())
    manifest = build(address, tmp_path)
    assert manifest["seconds"]["slices_read_earlier"] == 0
    assert contents(tmp_path / "store") == expected
    assert names(tmp_path) == [NAME, f"{NAME}.wrong"]


def test_a_kept_dump_is_used_as_it_is_whatever_the_server_has_now(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any]
) -> None:
    """Dated files are removed after some weeks; a store can be built again all the same."""
    address = server.put(PATH, content)
    build(address, tmp_path)
    server.asked.clear()
    server.files.clear()
    manifest = build(address, tmp_path, fresh=True, contact=None)
    assert contents(tmp_path / "store") == expected
    assert server.asked == []
    assert manifest["sources"] == [
        {
            "address": address,
            "length": len(content),
            "etag": "",
            "last_modified": "",
            "checked": "members",
        }
    ]


def test_a_resume_fetches_only_what_is_missing(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any]
) -> None:
    address = server.put(PATH, content)
    interrupted(server, tmp_path)
    assert names(tmp_path) == [f"{NAME}.part", f"{NAME}.part.json"]
    assert (tmp_path / "kept" / f"{NAME}.part").read_bytes()[:24_000] == content[:24_000]
    server.asked.clear()
    publish(server, "sha1", hashlib.sha1(content).hexdigest())
    manifest = build(address, tmp_path)
    slices = [r for r in server.ranges_of(PATH) if r[1] - r[0] == 5_999]
    assert min(slices) == (24_000, 29_999)
    assert manifest["seconds"]["slices_read_earlier"] == 4
    assert manifest["sources"][0]["checked"] == "sha1"
    assert (tmp_path / "kept" / NAME).read_bytes() == content
    assert contents(tmp_path / "store") == expected


@pytest.mark.parametrize("harm", ["removed", "cut off", "another version", "never kept"])
def test_slices_whose_bytes_are_not_kept_are_read_again(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any], harm: str
) -> None:
    address = server.put(PATH, content)
    interrupted(server, tmp_path, keep_dump=None if harm == "never kept" else tmp_path / "kept")
    part = tmp_path / "kept" / f"{NAME}.part"
    if harm == "removed":
        part.unlink()
    elif harm == "cut off":
        os.truncate(part, 10_000)
    elif harm == "another version":
        server.put(PATH, content, 1_767_999_999.0)
    server.asked.clear()
    build(address, tmp_path)
    assert min(r for r in server.ranges_of(PATH) if r[1] - r[0] == 5_999) == (0, 5_999)
    assert (tmp_path / "kept" / NAME).read_bytes() == content
    assert contents(tmp_path / "store") == expected


def test_a_build_goes_on_without_keeping(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any]
) -> None:
    address = server.put(PATH, content)
    interrupted(server, tmp_path)
    manifest = build(address, tmp_path, keep_dump=None)
    assert manifest["seconds"]["slices_read_earlier"] == 4
    assert contents(tmp_path / "store") == expected


def test_a_build_that_is_stopped_after_its_dump_was_kept_remembers_where_it_came_from(
    server: Server,
    tmp_path: Path,
    content: bytes,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = server.put(PATH, content)
    publish(server, "md5", hashlib.md5(content).hexdigest())

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("etl.build.check_damage", stop)
        with pytest.raises(KeyboardInterrupt):
            build(address, tmp_path)
    assert names(tmp_path) == [NAME]
    server.files.clear()
    manifest = build(address, tmp_path)
    assert manifest["sources"][0]["address"] == address
    assert manifest["sources"][0]["checked"] == "md5"
    assert contents(tmp_path / "store") == expected


def test_two_runs_do_not_write_one_file(server: Server, tmp_path: Path, content: bytes) -> None:
    address = server.put(PATH, content)
    (tmp_path / "kept").mkdir()
    with (tmp_path / "kept" / f"{NAME}.part").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being written by another run"):
            build(address, tmp_path)


def test_a_part_that_another_run_has_just_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking it, the other run gave it its name, a third began anew."""
    part, name = tmp_path / f"{NAME}.part", tmp_path / NAME
    part.write_bytes(b"whole")
    lock = fcntl.flock

    def finish_first(*given: Any) -> None:
        part.rename(name)
        part.touch()
        lock(*given)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with pytest.raises(UserError, match="is being written by another run"):
        download.lock_part(part)
    assert name.read_bytes() == b"whole"


def test_a_disk_without_room_for_the_dump_is_said_before_the_work(
    server: Server, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("etl.download.shutil.disk_usage", lambda path: usage)
    monkeypatch.setattr("etl.ingest.check_disk", lambda *_: None)
    with pytest.raises(UserError, match=r"has [\d,]+ bytes and the disk of .* room for 10,000"):
        build(server.put(PATH, content), tmp_path)


def test_a_look_at_the_first_entities_keeps_nothing(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    build(server.put(PATH, content), tmp_path, limit=5)
    assert not (tmp_path / "kept").exists()


def test_an_address_that_names_no_file_is_not_kept(tmp_path: Path) -> None:
    for address in ("http://127.0.0.1:9/", "http://127.0.0.1:9/..", "http://127.0.0.1:9/%2e%2e"):
        with pytest.raises(UserError, match="name of a file"):
            build(address, tmp_path)


# --- fetched whole, where a server has no ranges


def fetch(server: Server, folder: Path) -> tuple[Path, str]:
    return download.fetch(server.url(PATH), folder, user_agent(CONTACT), quiet=True)


def test_a_server_without_ranges_is_read_from_a_kept_file(
    server: Server, tmp_path: Path, content: bytes, expected: dict[str, Any]
) -> None:
    address = server.put(PATH, content)
    server.ranges = False
    with pytest.raises(UserError, match=r"doesn't serve ranges.*--keep-dump DIR.*curl"):
        build(address, tmp_path, keep_dump=None)
    publish(server, "sha1", hashlib.sha1(content).hexdigest())
    manifest = build(address, tmp_path)
    assert (tmp_path / "kept" / NAME).read_bytes() == content
    assert contents(tmp_path / "store") == expected
    (made,) = manifest["sources"]
    assert (made["address"], made["length"], made["checked"]) == (address, len(content), "sha1")
    assert made["etag"] == server.etags[PATH]


def test_two_runs_do_not_fetch_one_file(server: Server, tmp_path: Path, content: bytes) -> None:
    server.put(PATH, content)
    server.ranges = False
    with (tmp_path / f"{NAME}.part").open("wb") as held:
        held.write(b"half")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being written by another run"):
            fetch(server, tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == b"half"
    assert fetch(server, tmp_path)[0].read_bytes() == content


def test_a_fetch_that_breaks_begins_again(server: Server, tmp_path: Path, content: bytes) -> None:
    server.put(PATH, content)
    server.ranges = False
    cuts = iter([None, 10_000, 20_000])  # the first answer is the look's
    server.break_after = lambda: next(cuts, None)
    path, checked = fetch(server, tmp_path)
    assert path.read_bytes() == content
    assert checked == "length"
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_fetch_that_keeps_breaking_is_given_up(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    server.put(PATH, content)
    server.ranges = False
    server.break_after = lambda: 10_000
    with pytest.raises(UserError, match="gave up after 8 tries"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_the_sum_of_a_fetched_file_is_checked(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    server.put(PATH, content)
    server.ranges = False
    publish(server, "md5", "1" * 32)
    with pytest.raises(UserError, match="md5 is not the one"):
        fetch(server, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{NAME}.wrong"]
    publish(server, "md5", hashlib.md5(content).hexdigest())
    assert fetch(server, tmp_path)[1] == "md5"


# --- who asks


@pytest.mark.parametrize(
    "given", ["me", "a@b", "x@example.org\r\nX: y", "", "<a@b.org>", "ü@b.de", "https://["]
)
def test_a_contact_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="neither an e-mail address nor a URL"):
        contact(given)


@pytest.mark.parametrize(
    "given",
    [
        "you@example.org",
        "me@mail.Example.COM",
        "https://example.net/about",
        "http://a.example:80",
        "nobody@host.invalid",
        "https://someone@my.test?x",
        "http://localhost/",
    ],
)
def test_a_contact_of_an_example_will_do_on_this_machine_only(given: str) -> None:
    assert contact(given, here=True) == given
    with pytest.raises(UserError, match="is an example"):
        contact(given)


@pytest.mark.parametrize(
    "given",
    [
        "me@notexample.org",
        "example.org@mail.de",
        "https://lab.edu/example.org/",
        "https://example.org.uk",
        "me@test.de",
        "https://lab.edu/@example.org",
    ],
)
def test_a_contact_of_somebody_is_none_of_an_example(given: str) -> None:
    assert contact(given) == given


def test_an_example_asks_no_server_elsewhere() -> None:
    with pytest.raises(UserError, match="is an example"):
        reach(("https://dumps.wikimedia.org/latest-all.json.gz",), "you@example.org", None)


def test_a_user_without_a_home_has_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert setting("contact") is None


def test_settings_come_from_the_folder_then_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
