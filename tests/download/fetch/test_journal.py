"""A batch of attempts: written, torn by kills and power cuts at any point, sealed, found again."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import download.fetch.journal
from download.fetch.bodies import Bodies, Files, Index, Place, complete_index
from download.fetch.journal import Journal, make_folders, seal, take_up
from download.fetch.log import LOG, Row, bodies_file, log_file, part_name, parts, table_of
from etl.errors import UserError

PART = part_name(1, 0, 0)


class Body:
    """Bytes that write themselves."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def copy_to(self, file: Any, /) -> None:
        half = len(self.data) // 2
        file.write(self.data[:half])
        file.write(self.data[half:])


def body(number: int) -> bytes:
    return random.Random(number).randbytes(50 + 13 * number)


def row(number: int, data: bytes | None) -> Row:
    digest = None if data is None else hashlib.sha256(data).digest()
    reason = "http_404" if data is None else "ok"
    return Row(
        url_hash=number.to_bytes(16, "big"),
        url=f"http://a.test/{number}",
        run=1,
        attempt=1,
        at=1_700_000_000_000 + number,
        seconds=0.5,
        outcome="permanent" if data is None else "ok",
        reason=reason,
        final=True,
        status=404 if data is None else 200,
        size=None if data is None else len(data),
        sha256=digest,
    )


def fill(fetches: Path, part: str = PART, count: int = 6, **more: Any) -> None:
    """Every third attempt fails, and the last gives the body of the first."""
    make_folders(fetches)
    journal = Journal(fetches, part, **more)
    for number in range(count):
        data = None if number % 3 == 2 else body(number)
        journal.add(row(number, data), None if data is None else Body(data))
    journal.add(row(count, body(0)), Body(body(0)))
    journal.close()


def logged(fetches: Path) -> list[dict[str, Any]]:
    return [
        found
        for part in parts(fetches)
        for found in pq.ParquetFile(log_file(fetches, part)).read().to_pylist()
    ]


def readable(fetches: Path) -> bool:
    """Whether every image of the log is there and is what its sha256 says."""
    complete_index(fetches)
    with Bodies(fetches) as bodies:
        return all(
            hashlib.sha256(bodies.get(found["sha256"])).digest() == found["sha256"]
            for found in logged(fetches)
            if found["reason"] == "ok"
        )


@pytest.fixture
def fetches(tmp_path: Path) -> Path:
    make_folders(tmp_path / "f")
    return tmp_path / "f"


def test_a_sealed_batch_is_a_part_of_log_and_store(fetches: Path) -> None:
    fill(fetches)
    with Index(fetches) as index:
        seal(fetches, PART, index)
    assert parts(fetches) == [PART]
    found = logged(fetches)
    assert [r["url"] for r in found] == [f"http://a.test/{n}" for n in range(7)]
    assert [r["offset"] is not None for r in found] == [True, True, False] * 2 + [False]
    assert readable(fetches)
    assert not list((fetches / "open").iterdir())
    assert bodies_file(fetches, PART).read_bytes() == b"".join(body(n) for n in (0, 1, 3, 4))


def test_a_table_has_the_columns_of_the_log() -> None:
    assert table_of([row(1, b"x"), row(2, None)]).schema == LOG
    assert table_of([]).schema == LOG


def test_a_body_that_is_stored_is_not_written_again(fetches: Path) -> None:
    fill(fetches)
    with Index(fetches) as index:
        seal(fetches, PART, index)
        other = part_name(1, 1, 0)
        fill(fetches, other, known=index.__contains__)
        seal(fetches, other, index)
    assert not bodies_file(fetches, other).exists()
    assert readable(fetches)


def test_a_journal_that_is_cut_anywhere_gives_what_is_whole(fetches: Path, tmp_path: Path) -> None:
    fill(fetches)
    whole = (fetches / "open" / f"{PART}.ndjson").read_bytes()
    for length in range(0, len(whole) + 1, 37):
        torn = tmp_path / "torn"
        shutil.copytree(fetches, torn)
        (torn / "open" / f"{PART}.ndjson").write_bytes(whole[:length])
        complete_index(torn)
        with Index(torn) as index:
            take_up(torn, index)
        assert len(logged(torn)) == whole[:length].count(b"\n")
        assert readable(torn)
        shutil.rmtree(torn)


def test_a_power_cut_costs_the_bodies_that_it_took_and_no_others(
    fetches: Path, tmp_path: Path
) -> None:
    fill(fetches)
    bodies = (fetches / "open" / f"{PART}.bodies").read_bytes()
    ends = [len(body(0)), len(body(0)) + len(body(1))]
    zeroed = bodies[: ends[0]] + bytes(ends[1] - ends[0]) + bodies[ends[1] :]
    for damaged, lost in ((zeroed, {1}), (bodies[: ends[1]], {3, 4}), (b"", {0, 1, 3, 4, 6})):
        torn = tmp_path / "torn"
        shutil.copytree(fetches, torn)
        (torn / "open" / f"{PART}.bodies").write_bytes(damaged)
        with Index(torn) as index:
            take_up(torn, index)
        assert [r["url"] for r in logged(torn)] == [
            f"http://a.test/{n}" for n in range(7) if n not in lost
        ]
        assert readable(torn)
        shutil.rmtree(torn)


class StoppedError(Exception):
    """Where a kill would be."""


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Has the so many-th step of sealing not happen, nor any after it."""
    left = [number]

    def stopping(real: Any) -> Any:
        def step(*given: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise StoppedError
            left[0] -= 1
            return real(*given, **more)

        return step

    for holder, name in (
        (download.fetch.journal, "flush"),
        (download.fetch.journal, "write_table"),
        (Path, "replace"),
        (Path, "unlink"),
        (Index, "add_part"),
    ):
        monkeypatch.setattr(holder, name, stopping(getattr(holder, name)))


def test_sealing_goes_on_wherever_it_was_stopped(fetches: Path, tmp_path: Path) -> None:
    fill(fetches)
    for number in range(40):
        torn = tmp_path / f"stopped-{number}"
        shutil.copytree(fetches, torn)
        complete_index(torn)
        stopped = False
        with pytest.MonkeyPatch.context() as patch, Index(torn) as index:
            stop_at(patch, number)
            try:
                take_up(torn, index)
            except StoppedError:
                stopped = True
        complete_index(torn)
        with Index(torn) as index:
            take_up(torn, index)
        assert len(logged(torn)) == 7
        assert readable(torn)
        assert not list((torn / "open").iterdir())
        if not stopped:
            break
    assert 8 < number < 39


def test_a_full_disk_leaves_what_was_written_before(fetches: Path) -> None:
    class Full(Body):
        def copy_to(self, file: Any, /) -> None:
            file.write(self.data[:20])
            raise OSError(28, "No space left on device")

    journal = Journal(fetches, PART)
    journal.add(row(0, body(0)), Body(body(0)))
    with pytest.raises(OSError, match="No space"):
        journal.add(row(1, body(1)), Full(body(1)))
    journal.add(row(3, body(3)), Body(body(3)))
    journal.close()
    with Index(fetches) as index:
        seal(fetches, PART, index, doubted=True)
    assert [r["url"][-1] for r in logged(fetches)] == ["0", "3"]
    assert readable(fetches)


def test_an_empty_batch_leaves_nothing(fetches: Path) -> None:
    Journal(fetches, PART).close()
    with Index(fetches) as index:
        seal(fetches, PART, index)
    assert parts(fetches) == []
    assert not list((fetches / "open").iterdir())


def test_an_index_follows_the_log(fetches: Path) -> None:
    fill(fetches)
    seal(fetches, PART, None)
    with Index(fetches) as index:
        assert len(index) == 0
    complete_index(fetches)
    with Index(fetches) as index:
        assert len(index) == 4
        assert index.get(hashlib.sha256(body(1)).digest()) == Place(PART, len(body(0)), 63)
    log_file(fetches, PART).unlink()  # someone took the log away
    complete_index(fetches)
    with Index(fetches) as index:
        assert len(index) == 0


def test_bodies_that_are_gone_or_cut_are_said_so(fetches: Path) -> None:
    fill(fetches)
    with Index(fetches) as index:
        seal(fetches, PART, index)
    place = Place(PART, 0, len(body(0)))
    with Files(fetches) as files:
        assert files.read(place) == body(0)
    bodies_file(fetches, PART).write_bytes(b"x")
    with Files(fetches) as files, pytest.raises(UserError, match="is cut off"):
        files.read(place)
    bodies_file(fetches, PART).unlink()
    with Files(fetches) as files, pytest.raises(UserError, match="is gone"):
        files.read(place)
    with Bodies(fetches) as bodies, pytest.raises(KeyError):
        bodies.get(bytes(32))
