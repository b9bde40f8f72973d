"""Shards: tars that every reader takes, the same bytes each time, no larger than was asked for."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from download.pack.shards import Cutter, write_tar


def sample(number: int, length: int = 700) -> dict[str, object]:
    return {
        "__key__": f"{number:032x}",
        "jpg": bytes([number % 256]) * length,
        "json": b'{"key": %d}' % number,
        "txt": b"a dog",
    }


def tar_of(*lengths: int) -> bytes:
    out = io.BytesIO()
    write_tar(out, (sample(n, length) for n, length in enumerate(lengths)))
    return out.getvalue()


def test_a_sample_is_three_files_side_by_side() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of(10, 20))) as tar:
        names = tar.getnames()
    keys = [f"{n:032x}" for n in range(2)]
    assert names == [f"{key}.{ending}" for key in keys for ending in ("jpg", "json", "txt")]


def test_nothing_of_the_machine_or_the_moment_is_in_a_tar() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of(10))) as tar:
        members = tar.getmembers()
    told = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members}
    assert told == {(0, 0, 0, "sparqless", "sparqless", 0o444, tarfile.REGTYPE)}


def test_what_is_told_of_a_tar_is_what_was_written() -> None:
    out = io.BytesIO()
    written = write_tar(out, iter([sample(1), sample(2)]))
    assert written.bytes == len(out.getvalue())
    assert written.sha256 == hashlib.sha256(out.getvalue()).hexdigest()


def test_webdataset_reads_what_was_written() -> None:
    opened = [{"url": "train-000000.tar", "stream": io.BytesIO(tar_of(10, 20, 30))}]
    samples = webdataset.tariterators.tar_file_expander(opened)
    grouped = webdataset.tariterators.group_by_keys(samples)
    found = list(map(webdataset.autodecode.Decoder([webdataset.autodecode.basichandlers]), grouped))
    assert [one["json"]["key"] for one in found] == [0, 1, 2]
    assert [one["__key__"] for one in found] == [f"{n:032x}" for n in range(3)]
    assert {one["txt"] for one in found} == {"a dog"}


@given(
    st.lists(st.integers(0, 40_000), max_size=40), st.integers(1, 6), st.integers(10_240, 90_000)
)
def test_a_shard_has_no_more_images_and_bytes_than_asked_for(
    lengths: list[int], count: int, size: int
) -> None:
    cutter = Cutter(count, size)
    shards: list[list[int]] = []
    for length in lengths:
        number = cutter.add(length, len(sample(0)["json"]), len(b"a dog"))
        assert number in (len(shards) - 1, len(shards))
        if number == len(shards):
            shards.append([])
        shards[number].append(length)
    assert cutter.images == [len(shard) for shard in shards]
    for number, shard in enumerate(shards):
        assert len(shard) <= count
        assert len(tar_of(*shard)) <= size or len(shard) == 1
        if number + 1 < len(shards) and len(shard) < count:  # it was full
            assert len(tar_of(*shard, shards[number + 1][0])) > size


@pytest.mark.parametrize("count", [1, 2])
def test_equal_samples_are_equal_bytes(count: int) -> None:
    assert tar_of(*range(count)) == tar_of(*range(count))
