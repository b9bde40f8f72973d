"""A mediainfo dump becomes the same tables however it is packed, shared out and killed."""

from __future__ import annotations

import bz2
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download import reading as reading_module
from download import repeats
from download.mediainfo import read as read_line
from download.reading import FILES, FORMAT, Options, read
from etl.entity import RejectedLineError
from etl.errors import UserError
from etl.manifest import read_manifest, write_manifest
from etl.verify import verify
from tests.download import invented
from tests.download.plain_mediainfo import WrongError, taken
from tests.etl import dumps

TABLES = ("files.parquet", "depicts.parquet", "rejects.ndjson")


def reading(path: Path, out: Path, **more: Any) -> dict[str, Any]:
    given_ = {"workers": 0, "quiet": True, "max_rejects": 10**6, "slice_bytes": 90_000, **more}
    return read([str(path)], out, Options(**given_))


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="session")
def lines() -> list[bytes]:
    made = [dumps.as_line(entity) for entity in invented.files(600)]
    made.insert(100, b'{"type":"mediainfo","id":"M77","labels":{broken')
    made.insert(300, b'{"type":"mediainfo","id":"not an id"}')
    made.insert(400, b'{"type":"item","id":"Q5","labels":{},"claims":{"P31":3}}')
    return made


@pytest.fixture(scope="session")
def expected(lines: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Of a single slice, read in one process."""
    folder = tmp_path_factory.mktemp("expected")
    reading(dumps.write(folder / "dump.json", lines), folder / "out", slice_bytes=1 << 30)
    return tables(folder / "out")


def plainly(lines: list[bytes]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Rows of both tables and the number of rejects, by the oracle and with dicts."""
    rows: list[dict[str, Any]] = []
    rejects = 0
    for line in lines:
        try:
            row = taken(line)
        except WrongError:
            rejects += 1
            continue
        if isinstance(row, dict):
            rows.append(row)
    best: dict[int, tuple[int, int]] = {}
    for place, row in enumerate(rows):
        best[row["page"]] = max(best.get(row["page"], (-1, -1)), (row["revision"], place))
    kept = [row for place, row in enumerate(rows) if best[row["page"]][1] == place]
    depicts = [
        {"page": row["page"], "item": item, "property": property_, "preferred": preferred}
        for row in kept
        for item, property_, preferred in row["depicts"]
    ]
    return [{n: row[n] for n in FILES.names} for row in kept], depicts, rejects


def test_the_tables_hold_what_a_plain_reader_finds(tmp_path: Path, lines: list[bytes]) -> None:
    manifest = reading(dumps.write(tmp_path / "dump.gz", lines), tmp_path / "out")
    files, depicts, rejects = plainly(lines)
    found = pq.read_table(tmp_path / "out/files.parquet")
    assert found.schema.equals(FILES)
    assert found.to_pylist() == files
    assert pq.read_table(tmp_path / "out/depicts.parquet").to_pylist() == depicts
    counts = manifest["counts"]
    assert counts["files"] == len(files)
    assert counts["depicts"] == len(depicts)
    assert counts["rejects"] == rejects > 2
    assert counts["untitled"] == sum(row["file"] is None for row in files) > 20
    assert counts["repeated"] > 10
    assert counts["skipped"]["item"] >= 1
    assert counts["lines"] == len(lines) + 2
    assert (
        sum(counts["skipped"].values())
        == len(lines) - rejects - counts["files"] - counts["repeated"]
    )
    assert read_manifest(tmp_path / "out", "mediainfo")["counts"] == counts
    assert all(not check.problem for check in verify(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [".lock", "manifest.json", *TABLES]
    )


@pytest.mark.parametrize("form", [".json", ".gz", ".bz2", ".zst"])
@pytest.mark.parametrize(("workers", "slice_bytes"), [(1, 30_000), (2, 70_000)])
def test_any_form_number_of_workers_and_slice_size_gives_the_same_bytes(
    tmp_path: Path,
    lines: list[bytes],
    expected: dict[str, bytes],
    form: str,
    workers: int,
    slice_bytes: int,
) -> None:
    path = dumps.write(tmp_path / f"dump{form}", lines)
    reading(path, tmp_path / "out", workers=workers, slice_bytes=slice_bytes)
    found = tables(tmp_path / "out")
    assert (
        found["rejects.ndjson"].replace(path.name.encode(), b"dump.json")
        == expected["rejects.ndjson"]
    )
    assert {**found, "rejects.ndjson": b""} == {**expected, "rejects.ndjson": b""}


def test_small_batches_and_row_groups_of_many_slices_leave_no_trace(
    tmp_path: Path,
    lines: list[bytes],
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 144M files there are many batches a slice and many ranges of pages."""
    monkeypatch.setattr("download.reading._BATCH_BYTES", 9_000)
    monkeypatch.setattr("download.repeats.ROWS", 40)
    reading(dumps.write(tmp_path / "dump.json", lines), tmp_path / "out")
    assert tables(tmp_path / "out") == expected


def test_standard_input_and_parts_in_a_directory_give_the_same_rows(
    tmp_path: Path, lines: list[bytes], expected: dict[str, bytes]
) -> None:
    call = "import sys; from tests.download.test_reading import Options, Path, read\n"
    call += "read(['-'], Path(sys.argv[1]), Options(workers=2, quiet=True, max_rejects=10**6))"
    with dumps.write(tmp_path / "dump.gz", lines).open("rb") as stdin:
        subprocess.run(
            [sys.executable, "-c", call, str(tmp_path / "piped")], stdin=stdin, check=True
        )
    whole = dumps.text_of(lines).splitlines(keepends=True)
    (tmp_path / "parts").mkdir()
    for n, start in enumerate(range(0, len(whole), 200)):
        (tmp_path / f"parts/{n}.json").write_bytes(b"".join(whole[start : start + 200]))
    reading(tmp_path / "parts", tmp_path / "out")
    for out in ("piped", "out"):
        for name in ("files.parquet", "depicts.parquet"):
            assert (tmp_path / out / name).read_bytes() == expected[name]


# --- what can't be read


def test_rejects_are_quarantined_with_their_place(tmp_path: Path, lines: list[bytes]) -> None:
    path = dumps.write(tmp_path / "dump.json", lines)
    reading(path, tmp_path / "out")
    text = path.read_bytes()
    told = (tmp_path / "out/rejects.ndjson").read_text("utf-8")
    rejects = [json.loads(line) for line in told.splitlines()]
    assert len(rejects) > 2
    for reject in rejects:
        assert reject["file"] == "dump.json"
        line = text[reject["offset"] :].split(b"\n", 1)[0]
        assert text[: reject["offset"]].count(b"\n") == reject["line"] - 1
        assert len(line) == reject["bytes"]
        assert line.decode().startswith(reject["text"])
        with pytest.raises(WrongError):
            taken(line.rstrip(b","))


def test_too_many_rejects_end_it_and_what_was_read_is_kept(
    tmp_path: Path, lines: list[bytes], expected: dict[str, bytes]
) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines), tmp_path / "out"
    with pytest.raises(UserError, match=r"--max-rejects 1: see .*rejects\.ndjson.*mediainfo"):
        reading(path, out, max_rejects=1)
    assert not (out / "manifest.json").exists()
    reading(path, out)
    assert tables(out) == expected


def test_a_line_that_is_too_long_is_rejected(tmp_path: Path, lines: list[bytes]) -> None:
    long = [*lines[:5], b'{"type":"mediainfo","x":"' + b"x" * 20_000 + b'"}', *lines[5:9]]
    path = dumps.write(tmp_path / "dump.gz", long)
    manifest = reading(path, tmp_path / "out", max_line=9_000)
    assert "--max-line" in (tmp_path / "out/rejects.ndjson").read_text()
    assert manifest["counts"]["lines"] == len(long) + 2


@pytest.mark.parametrize("form", [".gz", ".zst", ".json"])
def test_a_truncated_dump_is_damage_unless_allowed(
    tmp_path: Path, lines: list[bytes], form: str
) -> None:
    path, out = dumps.write(tmp_path / f"dump{form}", lines), tmp_path / "out"
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(UserError, match=r"the file ends inside.*--allow-damage|ends without `]`"):
        reading(path, out)
    assert not (out / "manifest.json").exists()
    manifest = reading(path, out, allow_damage=True)
    assert len(manifest["damage"]) == 1
    assert manifest["counts"]["files"] > 300


def touched(path: Path, content: bytes) -> None:
    """Fetches the file again, a second later."""
    later = path.stat().st_mtime_ns + 10**9
    path.write_bytes(content)
    os.utime(path, ns=(later, later))


def corrupt(whole: bytes) -> bytes:
    """Of the same size, head and tail at scale."""
    made = bytearray(whole)
    made[len(made) // 2] ^= 0x40
    return bytes(made)


@pytest.fixture
def only_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a dump's first and last MiB says nothing of what is between."""
    described = reading_module.find_inputs

    def found(*names: Any, **more: Any) -> Any:
        return [msgspec.structs.replace(file, digest="") for file in described(*names, **more)]

    monkeypatch.setattr(reading_module, "find_inputs", found)


@pytest.mark.usefixtures("only_sizes")
def test_a_dump_fetched_again_after_damage_is_read_again(
    tmp_path: Path, lines: list[bytes], expected: dict[str, bytes]
) -> None:
    path, out = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(corrupt(whole))
    with pytest.raises(UserError, match="--allow-damage"):
        reading(path, out, slice_bytes=3_000)
    slices = sum(1 for _ in out.glob("reading/0*"))
    touched(path, whole)
    manifest = reading(path, out, slice_bytes=3_000)
    assert manifest["damage"] == []
    assert 0 < manifest["seconds"]["slices_read_earlier"] < slices
    assert {**tables(out), "rejects.ndjson": b""} == {**expected, "rejects.ndjson": b""}


@pytest.mark.usefixtures("only_sizes")
def test_what_could_be_read_of_a_damaged_dump_is_not_taken_for_the_whole_one(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path, out = dumps.write(tmp_path / "dump.gz", lines), tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(corrupt(whole))
    damaged = reading(path, out, allow_damage=True)
    assert reading(path, out, allow_damage=True)["counts"] == damaged["counts"]
    with pytest.raises(UserError, match="--allow-damage"):
        reading(path, out)
    touched(path, whole)
    with pytest.raises(UserError, match=r"damaged dump, and .* was written since.*--fresh"):
        reading(path, out, allow_damage=True)
    assert reading(path, out, fresh=True)["damage"] == []


def test_a_reading_of_another_version_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines[:9]), tmp_path / "out"
    manifest = reading(path, out)
    write_manifest(out, {**manifest, "format": 1})
    with pytest.raises(UserError, match=r"reading of format 1.*--fresh"):
        reading(path, out)
    reading(path, out, fresh=True)


def test_a_change_of_what_is_read_is_another_format() -> None:
    """Who changes the digest raises the format, lest readings that stand be taken for new ones."""
    found = []
    for entity in invented.files(300, seed=7):
        with suppress(RejectedLineError):
            found.append(read_line(dumps.as_line(entity)))
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    assert (FORMAT, digest[:16]) == (2, "a6358068ffd3bf61")


def test_a_corrupt_member_gives_nothing(tmp_path: Path, lines: list[bytes]) -> None:
    path = dumps.write(tmp_path / "dump.gz", lines)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0x40
    path.write_bytes(bytes(whole))
    manifest = reading(path, tmp_path / "out", allow_damage=True)
    found = set(pq.read_table(tmp_path / "out/files.parquet")["page"].to_pylist())
    files, _, _ = plainly(lines)
    assert manifest["damage"]
    assert len(files) - 30 < len(found) < len(files)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<html>", r"is not the JSON dump of Commons.*give a commons-…-mediainfo\.json"),
        (b'[\n{"type":"item","id":"Q5"}\n]\n', "has no file; is this the JSON dump of Commons"),
    ],
)
def test_what_is_no_mediainfo_dump_is_refused(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "dump.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        reading(tmp_path / "dump.json", tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_addresses_are_refused_in_a_sentence_without_what_is_secret(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is read from a file") as error:
        read(["https://ann:secret@example.org/mediainfo.json.bz2"], tmp_path / "out")
    assert "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()


# --- repeated pages


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(1, 9) | st.integers(1, 2**32 - 1), st.integers(0, 3))),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    at_once=st.integers(1, 20),
)
def test_the_highest_revision_wins_then_the_later_row(
    rows: list[tuple[int, int]], cuts: list[int], at_once: int
) -> None:
    pieces = np.split(np.array(rows, np.int64).reshape(-1, 2), sorted(cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "ROWS", at_once)
        found = repeats.beaten(lambda: ((piece[:, 0], piece[:, 1]) for piece in pieces))
    lost = [found.get(n, np.zeros(len(piece), bool)) for n, piece in enumerate(pieces)]
    best = {page: max((r, n) for n, (p, r) in enumerate(rows) if p == page) for page, _ in rows}
    expected = [best[page][1] != n for n, (page, _) in enumerate(rows)]
    assert np.concatenate(lost).tolist() == expected
    assert all(mask.any() for mask in found.values())


# --- killed and gone on with


def start(path: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    code = (
        "from pathlib import Path; from tests.download.test_reading import reading\n"
        "if __name__ == '__main__':\n"
        f"    reading(Path({str(path)!r}), Path({str(out)!r}), workers={workers}, "
        "slice_bytes=50_000)\n"
    )
    script = out.parent / "run.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)


def wait_for_work(process: subprocess.Popen[bytes], out: Path, amount: int) -> None:
    """Until there are ``amount`` more pieces of work or the process has ended."""
    wanted = sum(1 for _ in out.glob("reading/*")) + amount
    while process.poll() is None and sum(1 for _ in out.glob("reading/*")) < wanted:
        os.sched_yield()


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_a_random_point_and_gone_on_with_it_is_the_same(
    tmp_path: Path, lines: list[bytes], expected: dict[str, bytes], workers: int
) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines), tmp_path / "out"
    process = start(path, out, workers)
    wait_for_work(process, out, random.Random(workers).randint(3, 12))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reading(path, out, slice_bytes=50_000)
    assert tables(out) == expected


@pytest.mark.parametrize("way", ["new", "fresh"])
def test_killed_at_changes_of_the_file_system_it_can_be_gone_on_with(
    tmp_path: Path, lines: list[bytes], way: str
) -> None:
    path = dumps.write(tmp_path / "dump.json", lines[:4])
    command = [sys.executable, "-m", "tests.download.killed_readings", str(path), str(tmp_path)]
    done = subprocess.run([*command, way], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["killed"] > 4


def test_a_finished_reading_stands_and_one_of_another_dump_is_refused(
    tmp_path: Path, lines: list[bytes], expected: dict[str, bytes]
) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines), tmp_path / "out"
    reading(path, out)
    before = (out / "manifest.json").read_bytes()
    reading(path, out, workers=2, slice_bytes=5_000)  # leave no trace
    assert (out / "manifest.json").read_bytes() == before
    other = dumps.write(tmp_path / "other.json", lines[:50])
    with pytest.raises(UserError, match=r"made with another size.*choose another --out"):
        reading(other, out)
    with pytest.raises(UserError, match="another --max-line"):
        reading(path, out, max_line=10_000)
    reading(other, out, fresh=True)
    assert tables(out) != expected
    (out / "files.parquet").unlink()
    with pytest.raises(UserError, match=r"damaged: files\.parquet"):
        reading(other, out)


def test_a_half_done_reading_is_not_gone_on_with_another_dump(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines[:110]), tmp_path / "out"
    with pytest.raises(UserError):
        reading(path, out, max_rejects=0)
    with pytest.raises(UserError, match="half-done reading made with another slice_bytes"):
        reading(path, out, slice_bytes=5_000)
    reading(path, out, slice_bytes=5_000, fresh=True)


def test_two_readings_of_one_directory_are_one_too_many(tmp_path: Path, lines: list[bytes]) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines), tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being written by another run"):
            reading(path, out)


def test_a_directory_of_other_files_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path, out = dumps.write(tmp_path / "dump.json", lines), tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("Dear Ann")
    with pytest.raises(UserError, match=r"not a reading's \(letter\.txt\)"):
        reading(path, out)


@pytest.mark.skipif(
    not Path(os.environ.get("SPARQLESS_REAL_DUMP", "")).is_file(),
    reason="SPARQLESS_REAL_DUMP names no file",
)
def test_of_a_real_dump_of_all_kinds_the_files_are_taken(tmp_path: Path) -> None:
    path = Path(os.environ["SPARQLESS_REAL_DUMP"])
    manifest = reading(path, tmp_path / "out", workers=2, slice_bytes=1 << 20, max_rejects=0)
    lines = bz2.decompress(path.read_bytes()).splitlines()
    files, _, _ = plainly([line.rstrip(b",") for line in lines if b'"mediainfo"' in line[:30]])
    assert pq.read_table(tmp_path / "out/files.parquet").to_pylist() == files
    assert set(manifest["counts"]["skipped"]) == {"item", "lexeme", "property"}
