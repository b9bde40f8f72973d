"""Every form of a dump in slices of every size: what is whole is read, what isn't is named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import bzip2, dump, members, zstd
from etl.dump import Cut, Damage
from etl.errors import UserError
from etl.lines import SliceReader

BLOCK = 0x314159265359
END = 0x177245385090


class Read:
    """Lines and damage of a file read by slices and chained, as the ingest does it."""

    def __init__(self, path: Path, form: members.Form, slice_bytes: int) -> None:
        file = dump.Input(str(path), form, path.stat().st_size, 0, "")
        self.lines: list[bytes] = []
        self.damage: list[Damage] = []
        self.corrected = self.with_text = 0
        cut = Cut()
        for planned in dump.plan_slices([file], slice_bytes):
            reader, lines = read(planned)
            corrected = cut.corrected(planned, reader.extent)
            if corrected is not None:
                self.corrected += 1
                reader, lines = read(corrected)
                assert cut.corrected(corrected, reader.extent) is None
            cut = cut.after(reader.extent)
            self.with_text += reader.extent.own > 0
            self.lines += lines
            self.damage += reader.damage
            for damage in reader.damage:
                assert 0 <= damage.start <= damage.end <= file.size


def read(piece: dump.Slice) -> tuple[SliceReader, list[bytes]]:
    """A slice, again without its corrupt members as long as such are found."""
    corrupt: list[Damage] = []
    while True:
        reader = SliceReader(piece, 1 << 30, corrupt=corrupt)
        lines = [bytes(line) for _, _, line in reader]
        found = [damage for damage in reader.damage if damage.corrupt]
        if len(found) == len(corrupt):
            return reader, lines
        corrupt = found


def as_lines(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def dump_text(seed: int, sizes: list[int]) -> bytes:
    """A dump whose lines all differ; every third hardly gets smaller."""
    rng = random.Random(seed)
    lines = []
    for number, size in enumerate(sizes):
        packed = rng.randbytes(size // 2).hex() if number % 3 == 0 else "abcé" * (size // 5)
        lines.append(json.dumps({"type": "item", "id": f"Q{number}", "x": packed}).encode())
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


texts = st.builds(
    dump_text,
    st.integers(0, 1000),
    st.lists(st.one_of(st.integers(0, 300), st.integers(0, 40_000)), min_size=1, max_size=40),
)


def pack(form: str, text: bytes, level: int = 1) -> bytes:
    if form == "gz":
        return gzip.compress(text, level, mtime=0)
    if form == "bz2":
        return bz2.compress(text, level)
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(text)


def unpack(form: str, raw: bytes) -> tuple[bytes, bool]:
    """What the standard library gets out of a file's members, and whether the last is whole."""
    makers: dict[str, Any] = {
        "gz": lambda: zlib.decompressobj(wbits=31),
        "bz2": bz2.BZ2Decompressor,
        "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    }
    text = b""
    while raw:
        inflater = makers[form]()
        text += inflater.decompress(raw)
        if not inflater.eof:
            return text, False
        raw = inflater.unused_data
    return text, True


def framed(form: str, text: bytes, level: int, chunk: int) -> bytes:
    pieces = [text[at : at + chunk] for at in range(0, len(text), chunk)]
    return b"".join(pack(form, piece, level) for piece in pieces)


forms = pytest.mark.parametrize("form", ["gz", "bz2", "zst"])


@forms
@settings(max_examples=60)
@given(
    text=texts,
    level=st.integers(1, 9),
    chunk=st.sampled_from([500, 7_000, 90_000, 10_000_000]),
    slice_bytes=st.sampled_from([1, 13, 100, 3_000, 50_000]),
    empty=st.booleans(),
)
def test_slices_of_any_size_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, form, text, level, chunk, slice_bytes, empty
) -> None:
    chunk = max(chunk, len(text) // 40)
    raw = framed(form, text, level, chunk)
    if empty:
        raw = pack(form, b"") + raw + pack(form, b"") * 2
    path = tmp_path_factory.mktemp("d") / "dump"
    path.write_bytes(raw)
    got = Read(path, form, max(slice_bytes, len(raw) // 60))
    assert not got.damage
    assert got.lines == as_lines(text)


MANY = dump_text(7, [30_000] * 40)  # over a megabyte, a dozen blocks of `bzip2 -1`


LONG = dump_text(8, [500_000, 10, 400_000, 30, 600_000])  # lines over several such blocks


@pytest.mark.parametrize("text", [MANY, LONG])
@pytest.mark.parametrize("slice_bytes", [1_000, 30_000, 100_000, 10_000_000])
def test_a_stream_of_many_blocks_is_shared_by_its_slices(
    tmp_path: Path, slice_bytes: int, text: bytes
) -> None:
    path = tmp_path / "dump.bz2"
    path.write_bytes(bz2.compress(text, 1))
    got = Read(path, "bz2", slice_bytes)
    assert (got.lines, got.damage) == (as_lines(text), [])
    assert got.with_text >= min(path.stat().st_size // slice_bytes, 6)


@forms
def test_slices_find_their_beginning_themselves(tmp_path: Path, form: members.Form) -> None:
    """Reading again what guessed wrong is right, and slow."""
    path = tmp_path / "dump"
    path.write_bytes(framed(form, MANY, 1, 50_000))
    got = Read(path, form, 40_000)
    assert got.lines == as_lines(MANY)
    assert got.with_text > 5
    assert got.corrected == 0


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ("bz2", "lbzip2 -1"),
        ("bz2", "pbzip2 -1 -b1 -p2"),
        ("bz2", "bzip2 -9"),
        ("gz", "pigz -p2 -b128"),
        ("gz", "bgzip"),
        ("zst", "zstd -3"),
        ("zst", "pzstd -3 -p2"),
    ],
)
def test_what_the_common_programs_write(tmp_path: Path, form: members.Form, command: str) -> None:
    program = command.split()
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    done = subprocess.run([*program, "-c"], input=MANY, capture_output=True, check=True)
    path = tmp_path / "dump"
    path.write_bytes(done.stdout)
    got = Read(path, form, 20_000)
    assert (got.lines, got.damage) == (as_lines(MANY), [])


# --- damage


@forms
@settings(max_examples=120)
@given(data=st.data(), chunk=st.sampled_from([700, 9_000, 10_000_000]), flip=st.integers(1, 255))
def test_a_wrong_byte_costs_what_is_named_and_nothing_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, form, data, chunk, flip
) -> None:
    text = dump_text(data.draw(st.integers(0, 50)), [900, 20, 3_000, 40, 9_000, 500, 60_000, 5])
    raw = bytearray(framed(form, text, 1, max(chunk, len(text) // 40)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= flip
    path = tmp_path_factory.mktemp("d") / "dump"
    path.write_bytes(raw)
    got = Read(path, form, data.draw(st.sampled_from([len(raw) // 30, len(raw) // 3, len(raw)])))
    whole = as_lines(text)
    assert got.damage or got.lines == whole
    # what looks cut off is kept without a checksum; of a bz2 file nothing ever is
    if form == "bz2" or not any("the file ends" in damage.reason for damage in got.damage):
        assert [line for line in whole if line in set(got.lines)] == got.lines


@pytest.mark.parametrize("slice_bytes", [5_000, 10_000_000])
@pytest.mark.parametrize("place", range(0, 101, 10))
def test_a_corrupt_block_costs_that_block(tmp_path: Path, slice_bytes: int, place: int) -> None:
    raw = bytearray(bz2.compress(MANY, 1))
    at = 4 + (len(raw) - 15) * place // 100
    raw[at] ^= 0x10
    path = tmp_path / "dump.bz2"
    path.write_bytes(raw)
    got = Read(path, "bz2", slice_bytes)
    assert len(got.damage) == 1
    assert got.damage[0].start <= at <= got.damage[0].end
    assert got.damage[0].end - got.damage[0].start < 120_000
    lost = [line for line in as_lines(MANY) if line not in set(got.lines)]
    assert sum(map(len, lost)) < 100_000 + 2 * max(map(len, as_lines(MANY)))


@forms
@settings(max_examples=80)
@given(data=st.data(), chunk=st.sampled_from([700, 9_000, 10_000_000]))
def test_of_a_file_that_is_cut_off_all_that_is_there_is_read(
    tmp_path_factory: pytest.TempPathFactory, form, data, chunk
) -> None:
    text = dump_text(data.draw(st.integers(0, 50)), [900, 20, 3_000, 40, 9_000, 500, 60_000, 5])
    raw = framed(form, text, 1, max(chunk, len(text) // 40))
    raw = raw[: data.draw(st.integers(5, len(raw) - 1))]
    path = tmp_path_factory.mktemp("d") / "dump"
    path.write_bytes(raw)
    got = Read(path, form, data.draw(st.sampled_from([len(raw) // 30 + 1, len(raw)])))
    there, whole = unpack(form, raw)
    assert bool(got.damage) != whole
    assert all(damage.end == len(raw) for damage in got.damage)
    assert all("the file ends inside" in damage.reason for damage in got.damage)
    complete = there if whole else there[: there.rfind(b"\n") + 1]
    assert got.lines == as_lines(complete)


@forms
@pytest.mark.parametrize("overrun", [True, False])
def test_a_line_that_ends_in_a_corrupt_member_is_not_kept(
    tmp_path: Path, form: members.Form, overrun: bool
) -> None:
    """The checksum of the member in which a line ends stands behind it."""
    rng = random.Random(3)
    lines = [
        b'{"type":"item","id":"Q%d","x":"%s"}' % (n, rng.randbytes(900).hex().encode())
        for n in range(3)
    ]
    text = b",\n".join(lines)
    first, second = pack(form, text[:2000]), bytearray(pack(form, text[2000:], 1))
    if form == "gz":
        second[-6] ^= 1  # of the checksum: all text comes before
    elif form == "zst":
        second[-2] ^= 1
    else:
        second[12] ^= 1
    path = tmp_path / "dump"
    path.write_bytes(first + second)
    size = path.stat().st_size
    got = Read(path, form, len(first) if overrun else size)
    assert got.lines == [lines[0] + b","]
    assert [(d.start, d.end) for d in got.damage] == [(len(first) + 4 * (form == "bz2"), size)]


# --- what looks like a beginning and is none


def checksum(text: bytes) -> int:
    """bzip2's CRC-32, which takes bits the other way round than zlib's."""
    mirrored = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))
    return int(f"{zlib.crc32(text.translate(mirrored)):032b}"[::-1], 2)


def block_of_codes(codes: bytes) -> bytes | None:
    """A bz2 stream whose one block holds ``codes`` bit for bit.

    Every symbol has a code of eight bits, so a byte of ``codes`` is one symbol: 0 and 1 are runs,
    255 is the block's end. What text that makes is for the decoder to say, up to its last byte:
    then it compares the checksum.
    """
    used = 254
    parts = [(1 << 16) - 1, 16], [((1 << used) - 1) << (256 - used), 256]
    selectors = (len(codes) + 1 + 49) // 50
    bits = ""
    for number, count in ((0, 1), (0, 24), *parts, (2, 3), (selectors, 15)):
        bits += f"{number:0{count}b}"
    bits += "0" * selectors + (f"{8:05b}" + "0" * 256) * 2
    bits += "".join(f"{code:08b}" for code in codes) + f"{255:08b}"

    def stream(crc: int) -> bytes:
        whole = f"{BLOCK:048b}{crc:032b}{bits}{END:048b}{crc:032b}"
        whole += "0" * (-len(whole) % 8)
        return b"BZh9" + int(whole, 2).to_bytes(len(whole) // 8, "big")

    inflater, text = bz2.BZ2Decompressor(), b""
    try:
        data = stream(0)
        while True:
            text += inflater.decompress(data, 1)
            data = b""
    except OSError:
        pass
    for last in range(256):
        made = stream(checksum(text + bytes([last])))
        try:
            bz2.decompress(made)
        except (OSError, ValueError):
            continue
        return made
    return None  # the text ends in a run


def planted(rng: random.Random, magic: int, shift: int, times: int, size: int) -> bytes:
    codes = bytearray(rng.choices(range(2, 255), k=size))
    for at in rng.sample(range(0, size - 7, 7), times):
        bits = rng.getrandbits(56) & ~(((1 << 48) - 1) << (8 - shift)) | magic << (8 - shift)
        seven = (bits & (1 << 56) - 1).to_bytes(7, "big")
        if 255 not in seven:
            codes[at : at + 7] = seven
    return bytes(codes)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    magic=st.sampled_from([BLOCK, END]),
    shift=st.integers(0, 7),
    times=st.sampled_from([1, 3, 60]),
    slice_bytes=st.sampled_from([37, 400, 100_000]),
)
def test_a_magic_inside_a_block_begins_none(
    tmp_path_factory: pytest.TempPathFactory, seed, magic, shift, times, slice_bytes
) -> None:
    rng = random.Random(seed)
    made = (block_of_codes(planted(rng, magic, shift, times, 700)) for _ in range(12))
    streams = [stream for stream in made if stream is not None][:3]
    raw = bz2.compress(b"[\n") + b"".join(streams) + bz2.compress(b"\n]\n")
    assert b"".join(f"{n:08b}".encode() for n in raw).count(f"{magic:048b}".encode()) > 5
    path = tmp_path_factory.mktemp("d") / "dump.bz2"
    path.write_bytes(raw)
    got = Read(path, "bz2", slice_bytes)
    assert (got.lines, got.damage) == (as_lines(bz2.decompress(raw)), [])


@pytest.mark.parametrize("form", ["gz", "zst"])
def test_a_member_inside_a_member_begins_none(tmp_path: Path, form: members.Form) -> None:
    inner = pack(form, MANY[:30_000]).replace(b"\n", b" ") + pack(form, b"[") * 9
    text = b"[\n" + inner.replace(b"\n", b" ") * 3 + b"\n" + MANY[2:]
    store = {"gz": 0, "zst": -1000}[form]
    path = tmp_path / "dump"
    path.write_bytes(pack(form, text[:200_000], store) + pack(form, text[200_000:], store))
    for slice_bytes in (5_000, 70_000):
        got = Read(path, form, slice_bytes)
        assert (got.lines, got.damage) == (as_lines(text), [])


# --- hostile bytes


MAGICS = {"gz": b"\x1f\x8b\x08", "bz2": b"BZh9", "zst": b"\x28\xb5\x2f\xfd", "json": b"[\n"}


@pytest.mark.parametrize("form", sorted(MAGICS))
@settings(max_examples=100)
@given(data=st.data())
def test_any_bytes_behind_a_magic_are_damage_at_worst(
    tmp_path_factory: pytest.TempPathFactory, form, data
) -> None:
    whole = pack("gz" if form == "json" else form, b'{"type":"item","id":"Q1"}\n' * 30)
    pieces = st.one_of(
        st.binary(max_size=200),
        st.sampled_from(
            [MAGICS[form], whole, whole[:40], whole[9:], b"\0" * 50, b"BZh1\x17rE8P\x90"]
        ),
        st.sampled_from([BLOCK, END]).flatmap(
            lambda magic: st.integers(0, 7).map(
                lambda shift: (magic << (8 - shift)).to_bytes(7, "big")
            )
        ),
    )
    raw = MAGICS[form] + b"".join(data.draw(st.lists(pieces, max_size=12)))
    path = tmp_path_factory.mktemp("d") / "dump"
    path.write_bytes(raw)
    got = Read(path, form, data.draw(st.sampled_from([1, 7, 60, 10_000])))
    if form != "json":
        assert sum(map(len, got.lines)) <= 26 * 30 * (len(raw) // len(whole) + 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"BZh9" + BLOCK.to_bytes(6, "big") * 20_000,
        b"BZh9" + (BLOCK.to_bytes(6, "big") + bz2.compress(MANY[:200], 9)[10:40]) * 3_000,
        b"BZh9" + (END.to_bytes(6, "big") + b"\0\0\0\0BZh9") * 20_000,
        bz2.compress(b"") * 20_000,
    ],
)
def test_hostile_magics_do_not_take_for_ever(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "dump.bz2"
    path.write_bytes(raw)
    assert Read(path, "bz2", len(raw) // 3).lines == []


def nested(form: str, magic: bytes, end: bytes, times: int) -> bytes:
    """Blocks that hold nothing but the beginning of another member, one behind the other."""
    size = len(magic)
    block = (size << 3).to_bytes(3, "little")
    if form == "gz":
        block = b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
    return magic + (block + magic) * times + end


GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
ZST_HEAD = b"\x28\xb5\x2f\xfd\x00\x38"


@pytest.mark.parametrize(
    ("form", "magic", "end"),
    [
        ("gz", GZIP_HEAD, b"\x07"),
        ("gz", GZIP_HEAD, b""),
        ("zst", ZST_HEAD, b"\x07\0\0"),
        ("zst", ZST_HEAD, b""),
        ("zst", ZST_HEAD + b"\x02\0\0x", b"\x07\0\0"),
    ],
)
def test_members_one_inside_the_other_do_not_take_for_ever(
    tmp_path: Path, form: members.Form, magic: bytes, end: bytes
) -> None:
    whole = pack(form, b'{"type":"item","id":"Q1"}\n')
    raw = nested(form, magic, end, 10_000) + whole * 1_000
    path = tmp_path / "dump"
    path.write_bytes(raw)
    got = Read(path, form, len(raw) // 3)
    assert got.damage
    assert len(got.damage) < 2_000


@pytest.mark.parametrize("form", ["bz2", "zst"])
def test_what_a_bomb_expands_to_is_handed_on_in_pieces(tmp_path: Path, form: members.Form) -> None:
    raw = bz2.compress(b"a" * 100_000_000)
    if form == "zst":  # run-length blocks of 128 KiB in four bytes each, the last of one byte
        block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"a"
        raw = b"\x28\xb5\x2f\xfd\x00\x38" + block * 800 + (1 << 3 | 3).to_bytes(3, "little") + b"a"
    path = tmp_path / "dump"
    path.write_bytes(raw)
    with path.open("rb") as file:
        make = {"bz2": bzip2.Blocks, "zst": zstd.Frames}[form]
        opened = make(file, len(raw), lambda _: None)
        at, sizes = 0, []
        while not opened.done(at):
            text = opened.text(at)
            try:
                while True:
                    sizes.append(len(next(text)))
            except StopIteration as stop:
                at = stop.value
    assert at == len(raw)
    assert sum(sizes) >= 100_000_000
    assert max(sizes) <= members.INFLATE


def test_a_frame_that_wants_gigabytes_is_refused_and_what_zstd_reads_is_read(
    tmp_path: Path,
) -> None:
    for log, text in ((27, MANY), (31, MANY)):
        settings_ = zstandard.ZstdCompressionParameters(window_log=log)
        packing = zstandard.ZstdCompressor(compression_params=settings_).compressobj()
        path = tmp_path / f"{log}.zst"
        path.write_bytes(packing.compress(text) + packing.flush())
    (file,) = dump.find_inputs((str(tmp_path / "27.zst"),))
    assert Read(Path(file.path), file.form, 10**9).lines == as_lines(MANY)
    with pytest.raises(UserError, match=r"31\.zst .*2,147,483,648 bytes.*zstd -dc --long=31"):
        dump.find_inputs((str(tmp_path / "31.zst"),))
    behind = tmp_path / "behind.zst"  # a frame that is not the first: damage, not memory
    behind.write_bytes((tmp_path / "27.zst").read_bytes() + (tmp_path / "31.zst").read_bytes())
    assert "memory" in Read(behind, "zst", 10**9).damage[0].reason


@forms
@pytest.mark.parametrize("behind", [b"\0" * 70_000, b"<html>429 Too Many Requests</html>" * 5])
def test_zeros_behind_a_dump_are_padding_and_rubbish_is_damage(
    tmp_path: Path, form: members.Form, behind: bytes
) -> None:
    text = dump_text(1, [500] * 20)
    raw = framed(form, text, 1, 2_000)
    path = tmp_path / "dump"
    path.write_bytes(raw + behind)
    got = Read(path, form, 3_000)
    damage = [] if behind[0] == 0 else [(len(raw), len(raw + behind))]
    assert [(d.start, d.end) for d in got.damage] == damage
    assert got.lines == as_lines(text)


# --- standard input


class Drip(io.RawIOBase):
    """A pipe into which its writer puts one byte first."""

    def __init__(self, raw: bytes) -> None:
        self._parts = [raw[:1], raw[1:2], raw[2:]]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._parts and not self._parts[0]:
            del self._parts[0]
        if not self._parts:
            return 0
        part = self._parts[0][: len(buffer)]
        self._parts[0] = self._parts[0][len(part) :]
        buffer[: len(part)] = part
        return len(part)


def read_stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> tuple[list[bytes], list[Damage]]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Drip(raw))))
    (file,) = dump.find_inputs(("-",))
    dump.find_inputs(("-",))  # an estimate looks, too
    (whole,) = dump.plan_slices([file], 1)
    reader = SliceReader(whole)
    return [bytes(line) for _, _, line in reader], reader.damage


@pytest.mark.parametrize("form", ["gz", "bz2", "zst", "json"])
def test_a_pipe_that_brings_one_byte_first(
    monkeypatch: pytest.MonkeyPatch, form: members.Form
) -> None:
    raw = MANY if form == "json" else framed(form, MANY, 1, 50_000)
    assert read_stdin(monkeypatch, raw) == (as_lines(MANY), [])


@forms
@settings(max_examples=60)
@given(data=st.data())
def test_damage_on_standard_input_is_named_and_ends_the_reading(form, data) -> None:
    text = dump_text(3, [900, 20, 3_000])
    raw = bytearray(framed(form, text, 1, 700))
    at = data.draw(st.integers(5, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= 0xFF
    else:
        raw = raw[:at]
    with pytest.MonkeyPatch.context() as monkeypatch:
        lines, damage = read_stdin(monkeypatch, bytes(raw))
    there, whole = unpack(form, raw) if not damage else (text, True)
    assert damage or (whole and lines == as_lines(there))
