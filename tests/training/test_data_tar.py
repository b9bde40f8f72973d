"""Reading a shard: what is asked for, whatever has happened to the tar."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from hashlib import blake2b

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

import training.data_tar
from download.pack.shards import write_tar
from training.data_tar import REASONS, Damage, Sample, approach, read

KEYS = [f"{n:032x}" for n in range(8)]


def jpg(n: int) -> bytes:
    return bytes([n]) * (700 + 211 * n)


def members(key: str) -> dict[str, bytes]:
    return {"jpg": jpg(KEYS.index(key)), "json": b'{"a": 1}', "txt": b"t"}


def tar(keys: Sequence[str] = KEYS, without: Sequence[str] = ()) -> bytes:
    def some(key: str) -> dict[str, object]:
        found = members(key).items()
        return {"__key__": key, **{e: data for e, data in found if f"{key}.{e}" not in without}}

    out = io.BytesIO()
    write_tar(out, map(some, keys))
    return out.getvalue()


TAR = tar()


def where(data: bytes, name: str) -> int:
    """Where the header of a member is."""
    return data.index(name.encode())


def found(data: bytes, wanted: Sequence[bool] = (True,) * 8) -> dict[int, str]:
    """Place → "ok" or the reason, in the order in which they come."""
    told: dict[int, str] = {}
    for place, one in read(io.BytesIO(data), KEYS, wanted):
        assert one.key == KEYS[place]
        assert place not in told
        told[place] = one.reason if isinstance(one, Damage) else "ok"
        if isinstance(one, Sample):
            assert (one.jpg, one.json) == (jpg(place), b'{"a": 1}')
    assert list(told) == sorted(told)
    assert {*told.values()} <= {"ok", *REASONS}
    return told


OK = dict.fromkeys(range(8), "ok")


@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_is_wanted_is_read_as_webdataset_reads_it(wanted: list[bool]) -> None:
    assert found(TAR, wanted) == {n: "ok" for n in range(8) if wanted[n]}
    opened = [{"url": "train-000000.tar", "stream": io.BytesIO(TAR)}]
    samples = webdataset.tariterators.group_by_keys(
        webdataset.tariterators.tar_file_expander(opened)
    )
    theirs = [Sample(s["__key__"], s["jpg"], s["json"]) for s in samples]
    ours = dict(read(io.BytesIO(TAR), KEYS, wanted))
    assert [*ours.values()] == [one for n, one in enumerate(theirs) if wanted[n]]


def test_nothing_behind_the_last_that_is_wanted_is_read() -> None:
    file = io.BytesIO(TAR)
    list(read(file, KEYS, [False, True] + [False] * 6))
    assert file.tell() <= where(TAR, f"{KEYS[1]}.txt")


@given(st.integers(0, len(TAR)))
def test_a_shard_that_ends_early_gives_what_is_before(length: int) -> None:
    ends = [where(TAR, f"{KEYS[n]}.json") + 512 + len(b'{"a": 1}') for n in range(8)]
    whole = [n for n in range(8) if ends[n] <= length]
    assert found(TAR[:length]) == {n: "ok" if n in whole else "cut_off" for n in range(8)}


def broken(data: bytes, name: str) -> bytes:
    at = where(data, name)
    return data[: at + 130] + b"\xff\xfe" + data[at + 132 :]


def zeroed(data: bytes, name: str, length: int = 512) -> bytes:
    at = where(data, name)
    return data[:at] + bytes(length) + data[at + length :]


#: What happens to a tar, and what it costs.
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], dict[int, str]]] = {
    "header of a jpg": (lambda data: broken(data, f"{KEYS[3]}.jpg"), {3: "no_jpg"}),
    "header of a json": (lambda data: broken(data, f"{KEYS[3]}.json"), {3: "no_json"}),
    "header of a txt": (lambda data: broken(data, f"{KEYS[3]}.txt"), {}),
    "zeros for that of a jpg": (lambda data: zeroed(data, f"{KEYS[3]}.jpg"), {3: "no_jpg"}),
    "zeros for that of a json": (lambda data: zeroed(data, f"{KEYS[3]}.json"), {3: "no_json"}),
    "zeros for that of a txt": (lambda data: zeroed(data, f"{KEYS[3]}.txt"), {}),
    "zeros for a page": (
        lambda data: zeroed(data, f"{KEYS[3]}.json", 4096), {3: "no_json", 4: "no_jpg"}
    ),
    "zeros for the last": (lambda data: zeroed(data, f"{KEYS[7]}.jpg"), {7: "no_jpg"}),
    "one is missing": (lambda _: tar(KEYS[:3] + KEYS[4:]), {3: "missing"}),
    "the last are": (lambda _: tar(KEYS[:6]), {6: "missing", 7: "missing"}),
    "one is there twice": (lambda _: tar([*KEYS[:3], KEYS[2], *KEYS[3:]]), {}),
    "no jpg": (lambda _: tar(without=[f"{KEYS[5]}.jpg"]), {5: "no_jpg"}),
    "no json": (lambda _: tar(without=[f"{KEYS[5]}.json"]), {5: "no_json"}),
    "empty": (lambda _: b"", dict.fromkeys(range(8), "cut_off")),
    "no tar": (lambda _: b"<html>no tar</html>" * 400, dict.fromkeys(range(8), "cut_off")),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_the_images_that_it_is_in_wherever_one_enters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that was killed, or has other workers, would have other batches."""
    monkeypatch.setattr(training.data_tar, "_NEAR", 512)
    damage, expected = DAMAGE[name]
    data = damage(TAR)
    assert found(data) == OK | expected
    for place in range(8):
        file = io.BytesIO(data)
        approach(file, KEYS, place)
        told = read(file, KEYS[place:], [True] * (8 - place))
        reasons = {place + n: getattr(one, "reason", "ok") for n, one in told}
        assert reasons == {n: why for n, why in found(data).items() if n >= place}


def test_of_two_that_have_changed_places_the_second_is_missing() -> None:
    swapped = tar([*KEYS[:3], KEYS[4], KEYS[3], *KEYS[5:]])
    assert found(swapped) == OK | {3: "missing"}


@pytest.mark.parametrize("place", [3, 5, 7])
def test_what_looks_like_a_header_within_an_image_leads_nobody_astray(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """It would leap over all that is behind it."""
    monkeypatch.setattr(training.data_tar, "_NEAR", 20_000)
    false = tarfile.TarInfo(f"{KEYS[0]}.txt")
    false.size = 1 << 28
    inside = false.tobuf(tarfile.USTAR_FORMAT) * 200
    out = io.BytesIO()
    jpgs = [inside if n == 2 else jpg(n) for n in range(8)]
    write_tar(
        out, ({"__key__": k, "jpg": j, "json": b"{}"} for k, j in zip(KEYS, jpgs, strict=True))
    )
    approach(out, KEYS, place)
    told = read(out, KEYS[place:], [True] * (8 - place))
    assert [one for _, one in told] == [Sample(KEYS[n], jpgs[n], b"{}") for n in range(place, 8)]


class Counted(io.BytesIO):
    """Counts what is read."""

    bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes += len(data)
        return data


@pytest.mark.parametrize("number", [40, 400])
def test_an_image_in_the_middle_is_leapt_to(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whatever sizes images have, whether all of them count, and with a shard that isn't whole."""
    monkeypatch.setattr(training.data_tar, "_NEAR", 10_000)
    keys = sorted(blake2b(str(n).encode(), digest_size=16).hexdigest() for n in range(number))
    jpgs = {key: bytes(900 + int(key[-4:], 16) % 5000) for key in keys}
    out = io.BytesIO()
    write_tar(out, ({"__key__": key, "jpg": jpgs[key], "json": b"{}"} for key in keys))
    whole = out.getvalue()
    cut = whole[: len(whole) * 3 // 4]
    for data, known in ((whole, keys), (whole, keys[1::3]), (cut, keys)):
        for place in range(0, len(known), max(1, len(known) // 20)):
            file = Counted(data)
            approach(file, known, place)
            (found,) = read(file, known[place:], [True] + [False] * (len(known) - place - 1))
            if data is whole or place < len(known) // 2:
                assert found == (0, Sample(known[place], jpgs[known[place]], b"{}"))
                assert file.bytes < 100_000
            elif place > len(known) * 9 // 10:
                assert found == (0, Damage(known[place], "cut_off"))


def test_an_image_that_is_near_or_in_what_cannot_be_leapt_in_is_walked_to() -> None:
    class Streamed(io.BytesIO):
        def seek(self, at: int, whence: int = io.SEEK_SET, /) -> int:
            if whence == io.SEEK_END:
                raise io.UnsupportedOperation("nobody says where it ends")
            return super().seek(at, whence)

    for file in (io.BytesIO(TAR), Streamed(TAR)):
        approach(file, KEYS, 5)
        assert file.tell() == 0


def sized(name: str, size: str) -> bytes:
    """The tar with a header that says so, and whose sum is right."""
    at = where(TAR, name)
    header = bytearray(TAR[at : at + 512])
    header[124:136] = size.encode().ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return TAR[:at] + bytes(header) + TAR[at + 512 :]


@pytest.mark.parametrize("size", ["-0000001000", "+0000001000", "1_000", "70000000000", ""])
def test_a_size_that_no_member_has_costs_its_image_alone(size: str) -> None:
    """One below 0 would be read for ever, one of 7 GiB asked of the memory."""
    assert found(sized(f"{KEYS[3]}.jpg", size)) == OK | {3: "no_jpg"}


def test_a_disk_that_gives_an_error_costs_what_is_behind_it() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= where(TAR, f"{KEYS[4]}.jpg"):
                raise OSError(5, "Input/output error")
            return super().read(size)

    told = dict(read(Failing(TAR), KEYS, [True] * 8))
    assert [isinstance(told[n], Sample) for n in range(8)] == [True] * 4 + [False] * 4
    assert told[4] == Damage(KEYS[4], "unreadable", "Input/output error")
