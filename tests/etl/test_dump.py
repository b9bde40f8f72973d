"""Slices of a dump, read apart, are the dump: nothing lost, nothing twice, whatever the framing."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import dump, members
from etl.errors import UserError
from etl.lines import SliceReader


def read_all(path: Path, slice_bytes: int, max_line: int = 1 << 30) -> tuple[list[bytes], list]:
    """Every line by slices, put together as the ingest does, and the damage."""
    (file,) = dump.find_inputs((str(path),))
    cut, lines, damage = dump.Cut(), [], []
    text = number = 0
    for planned in dump.plan_slices([file], slice_bytes):
        reader = SliceReader(planned, max_line)
        got = list(reader)
        corrected = cut.corrected(planned, reader.extent)
        if corrected is not None:
            reader = SliceReader(corrected, max_line)
            got = list(reader)
            assert cut.corrected(corrected, reader.extent) is None
        cut = cut.after(reader.extent)
        if reader.extent.first is None:
            assert not got
            continue
        for offset, line_number, line in got:
            assert offset <= reader.extent.text
            assert line_number < reader.extent.lines
            lines.append(bytes(line))
        text += reader.extent.text
        number += reader.extent.lines
        damage.extend(reader.damage)
    if not damage:
        assert number == len(lines)
        assert text == sum(map(len, lines)) + max(len(lines) - 1, 0) + ends_with_newline(path)
    return lines, damage


def ends_with_newline(path: Path) -> bool:
    return inflate(path).endswith(b"\n")


def inflate(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        return gzip.decompress(raw)
    if raw.startswith(b"BZh"):
        return bz2.decompress(raw)
    if raw.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
    return raw


def as_lines(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def entity(number: int, size: int, rng: random.Random) -> bytes:
    padding = "".join(rng.choices("abcdefgh/é", k=size))
    return json.dumps({"type": "item", "id": f"Q{number}", "x": padding}).encode()


def wikimedia_gz(batches: list[list[bytes]]) -> bytes:
    """Members as dumpwikibasejson.sh makes them."""
    members = [b"[\n"]
    for n, batch in enumerate(batches):
        if n:
            members.append(b",\n")
        members.append(b",\n".join(batch))
    members.append(b"\n]\n")
    return b"".join(gzip.compress(m, 6, mtime=0) for m in members)


entities = st.builds(
    lambda seed, sizes: [entity(n + 1, s, random.Random(seed + n)) for n, s in enumerate(sizes)],
    st.integers(0, 1000),
    st.lists(st.one_of(st.integers(0, 300), st.integers(0, 9000)), min_size=1, max_size=30),
)


@settings(max_examples=150, deadline=None)
@given(entities=entities, data=st.data(), slice_bytes=st.integers(40, 9000))
def test_wikimedia_members_in_slices_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, entities, data, slice_bytes
) -> None:
    path = tmp_path_factory.mktemp("d") / "dump.json.gz"
    batches, rest = [], entities
    while rest:
        take = data.draw(st.integers(1, len(rest)))
        batches.append(rest[:take])
        rest = rest[take:]
    path.write_bytes(wikimedia_gz(batches))
    lines, damage = read_all(path, slice_bytes)
    assert not damage
    assert lines == as_lines(inflate(path))


@settings(max_examples=150, deadline=None)
@given(entities=entities, data=st.data(), slice_bytes=st.integers(1, 9000))
@pytest.mark.parametrize("form", ["json", "bgzip", "one member", "stored", "bz2", "zst"])
def test_any_framing_in_slices_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, form: str, entities, data, slice_bytes
) -> None:
    """bgzip cuts members anywhere; a stored member shows text that looks like members."""
    text = b"[\n" + b",\n".join(entities) + b"\n]" + data.draw(st.sampled_from([b"", b"\n"]))
    path = tmp_path_factory.mktemp("d") / "dump"
    if form == "json":
        raw = text
    elif form == "bgzip":
        step = data.draw(st.integers(max(1, len(text) // 60), len(text)))
        raw = b"".join(gzip.compress(text[n : n + step]) for n in range(0, len(text), step))
    elif form == "one member":
        raw = gzip.compress(text)
    elif form == "stored":
        inner = gzip.compress(entities[0] + b"\n")
        text = b"[\n" + inner.replace(b"\n", b" ") + b"\n" + text[2:]
        raw = gzip.compress(text, 0)
    elif form == "bz2":
        half = len(text) // 2
        raw = bz2.compress(text[:half]) + bz2.compress(text[half:])
    else:
        half = len(text) // 2
        raw = zstandard.compress(text[:half]) + zstandard.compress(text[half:])
    path.write_bytes(raw)
    lines, damage = read_all(path, max(slice_bytes, len(raw) // 60))
    assert not damage
    assert lines == as_lines(text)


@settings(max_examples=100, deadline=None)
@given(entities=entities, data=st.data(), slice_bytes=st.integers(40, 9000))
def test_a_poisoned_member_costs_that_member_and_is_named(
    tmp_path_factory: pytest.TempPathFactory, entities, data, slice_bytes
) -> None:
    path = tmp_path_factory.mktemp("d") / "dump.json.gz"
    members = [gzip.compress(e + b",\n", mtime=0) for e in entities]
    n = data.draw(st.integers(0, len(members) - 1))
    start = len(b"".join(members[:n]))
    at = start + data.draw(st.integers(10, len(members[n]) - 1))
    raw = bytearray(b"".join(members))
    raw[at] ^= 0xFF
    path.write_bytes(bytes(raw))
    lines, damage = read_all(path, slice_bytes)
    (found,) = damage
    cut_off = n == len(members) - 1 and "the file ends inside" in found.reason
    assert cut_off or (found.start, found.end) == (start, start + len(members[n]))
    whole = [e + b"," for k, e in enumerate(entities) if k != n]
    others = [line for line in lines if line in whole]
    assert others == whole


@pytest.mark.parametrize("form", ["gz", "bz2", "zst"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_damage_from_its_last_member_on(
    tmp_path: Path, form: str, share: float
) -> None:
    rng = random.Random(1)
    text = b",\n".join(entity(n, 3000, rng) for n in range(1, 200))
    packers = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress}
    raw = packers[form](b"[\n") + packers[form](text)
    path = tmp_path / "dump"
    path.write_bytes(raw[: int(len(raw) * share)])
    lines, damage = read_all(path, 5000)
    assert len(damage) == 1
    assert damage[0].end == path.stat().st_size
    assert "the file ends inside" in damage[0].reason
    assert lines == as_lines(b"[\n" + text)[: len(lines)]


def test_zeros_behind_the_last_member_are_padding(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(wikimedia_gz([[b'{"type":"item","id":"Q1"}']]) + b"\0" * 70_000)
    lines, damage = read_all(path, 1000)
    assert not damage
    assert len(lines) == 3


def test_rubbish_behind_the_last_member_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    good = wikimedia_gz([[b'{"type":"item","id":"Q1"}']])
    rubbish = b"<html>429 Too Many Requests</html>" * 5
    path.write_bytes(good + rubbish)
    _, damage = read_all(path, 1000)
    assert [(d.start, d.end) for d in damage] == [(len(good), len(good) + len(rubbish))]


def test_a_line_over_the_limit_is_rejected_with_its_place_and_the_rest_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dump.json"
    long = b'{"type":"item","id":"Q2","x":"' + b"y" * 3_000_000 + b'"}'
    path.write_bytes(
        b'[\n{"type":"item","id":"Q1"},\n' + long + b',\n{"type":"item","id":"Q3"}\n]\n'
    )
    (file,) = dump.find_inputs((str(path),))
    (whole,) = dump.plan_slices([file], 1 << 30)
    reader = SliceReader(whole, max_line=1_000_000)
    assert [line for _, _, line in reader] == [
        b"[",
        b'{"type":"item","id":"Q1"},',
        b'{"type":"item","id":"Q3"}',
        b"]",
    ]
    (reject,) = reader.long_lines
    assert (reject.offset, reject.line, reject.bytes) == (29, 2, len(long) + 1)
    assert "--max-line" in reject.reason


def test_a_line_longer_than_many_slices_is_read(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "dump.json"
    text = b"[\n" + b",\n".join(entity(n, s, rng) for n, s in ((1, 10), (2, 90_000), (3, 5)))
    path.write_bytes(text)
    lines, _ = read_all(path, 1000)
    assert lines == as_lines(text)


def test_pzstds_skippable_frames_are_skipped(tmp_path: Path) -> None:
    skip = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"size"
    lines = [b"[", b'{"type":"item","id":"Q1"},', b'{"type":"item","id":"Q2"}', b"]"]
    path = tmp_path / "dump.zst"
    path.write_bytes(b"".join(skip + zstandard.compress(x + b"\n") for x in lines))
    assert read_all(path, 1 << 30) == (lines, [])


@pytest.mark.parametrize("form", ["gz", "bz2", "zst"])
def test_pieces_are_bounded_whatever_they_inflate_to(form: members.Form) -> None:
    zeros = b"\0" * (1 << 20)
    if form == "zst":  # run-length blocks of 128 KiB in four bytes each
        block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
        bomb = b"\x28\xb5\x2f\xfd\x00\x38" + block * 4000
    else:
        pack = {"gz": gzip.compress, "bz2": bz2.compress}[form]
        bomb = pack(zeros * 100)
    sizes = [len(piece) for piece in members.Inflater(form).feed(bomb)]
    assert sum(sizes) >= 100 << 20
    assert max(sizes) <= 32 << 20


def test_memory_stays_bounded_on_a_decompression_bomb(tmp_path: Path) -> None:
    """300 MB of one line in 300 kB: inflated piece by piece and dropped."""
    squeeze = zlib.compressobj(9, wbits=31)
    raw = [squeeze.compress(b'{"type":"item","id":"Q1","x":"')]
    raw += [squeeze.compress(b"a" * 1_000_000) for _ in range(300)]
    path = tmp_path / "dump.json.gz"
    path.write_bytes(b"".join(raw) + squeeze.flush())
    (file,) = dump.find_inputs((str(path),))
    (whole,) = dump.plan_slices([file], 1 << 30)
    reader = SliceReader(whole, max_line=4 << 20)
    assert list(reader) == []
    assert reader.long_lines[0].bytes == 300_000_030
    held = sum(len(part) for part in reader._parts)
    assert held == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<html><body>429 Too Many Requests", "is not a Wikidata JSON dump"),
        (gzip.compress(b"INSERT INTO page", mtime=0), "is not a Wikidata JSON dump"),
        (b"PK\x03\x04 a zip", "is not a Wikidata JSON dump"),
    ],
)
def test_what_is_not_a_dump_is_said_before_any_work(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as error:
        dump.find_inputs((str(path),))
    assert str(path) in str(error.value)


def test_globs_directories_and_files_are_taken_in_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json.gz", "notes.txt", "c.json.bz2"):
        packed = {"gz": gzip.compress, "z2": bz2.compress}.get(name[-2:], bytes)(b"[\n]\n")
        (tmp_path / name).write_bytes(packed)
    names = [os.path.basename(f.path) for f in dump.find_inputs((str(tmp_path),))]
    assert names == ["a.json.gz", "b.json", "c.json.bz2"]
    names = [os.path.basename(f.path) for f in dump.find_inputs((str(tmp_path / "[bc].json*"),))]
    assert names == ["b.json", "c.json.bz2"]
    forms = [f.form for f in dump.find_inputs((str(tmp_path),))]
    assert forms == ["gz", "json", "bz2"]
    with pytest.raises(UserError, match="no such file"):
        dump.find_inputs((str(tmp_path / "nothing*"),))
