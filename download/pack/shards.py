"""Shards: webdataset's tars, the same bytes for the same samples, whole or not there.

    train-000000.tar    <key>.jpg, <key>.json, <key>.txt, then those of the next key
    val-000000.tar
    test-000000.tar

A sample is three members side by side, in this order, named by a key without dots: that is all
that readers ask for (webdataset, open_clip_train, Hugging Face ``datasets``, img2dataset's
consumers). Members have no time, and one owner and mode, so that nothing of the machine is in the
bytes. Which sample goes into which shard is settled before a shard is written (:class:`Cutter`),
so each is a task of its own.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from download.pack.decode import jpegs_file
from etl import location as place
from etl.manifest import write_json
from etl.progress import Tick

FOLDER: Final = "shards"

#: Images and bytes of a shard at most, as img2dataset cuts, and as Hugging Face's documentation of
#: the format advises.
COUNT: Final = 10_000
SIZE: Final = 1_000_000_000

#: Samples in the order of a split. ``task``, ``offset`` and ``length`` say where the JPEG is.
SAMPLES: Final = pa.schema(
    [
        ("key", pa.string()),
        ("json", pa.binary()),
        ("txt", pa.binary()),
        ("task", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
    ]
)

#: Rows of a row group of samples: what a task holds in memory at once.
ROW_GROUP: Final = 1 << 11

_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = tarfile.RECORDSIZE  # a tar is filled up to a multiple of this
_OWNER = "sparqless"


class Shard(msgspec.Struct, frozen=True):
    """A task: which samples, and where to. Paths are as every machine sees them."""

    name: str  # train-000012
    split: str
    first: int  # of the samples of its split
    images: int
    work: str
    put: str  # LOCATION for the finished tar; "" where it stays in the work


class Written(msgspec.Struct, frozen=True):
    """A finished shard."""

    bytes: int
    sha256: str


def samples_file(work: Path, split: str) -> Path:
    """Where the samples of a split stand, in their order."""
    return work / f"samples-{split}.parquet"


def tar_file(work: Path, name: str) -> Path:
    """Where a shard is written."""
    return work / FOLDER / f"{name}.tar"


def note_file(work: Path, name: str) -> Path:
    """What says that a shard is finished (:class:`Written`)."""
    return work / FOLDER / f"{name}.json"


class Cutter:
    """Says of each sample of a split, in order, the number of its shard.

    ``count`` images and ``size`` bytes of the tar at most, but for a sample that is larger alone.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self.images: list[int] = []  # of each shard so far
        self._bytes = 0

    def add(self, *lengths: int) -> int:
        """The shard of a sample whose members have these lengths."""
        more = sum(_BLOCK + -(-length // _BLOCK) * _BLOCK for length in lengths)
        # the end of a tar is two empty blocks, and what fills up the last record
        whole = -(-(self._bytes + more + 2 * _BLOCK) // _END) * _END
        if not self.images or self.images[-1] == self._count or whole > self._size:
            self.images.append(0)
            self._bytes = 0
        self.images[-1] += 1
        self._bytes += more
        return len(self.images) - 1


def write_shard(shard: Shard, tick: Tick) -> None:
    """Writes a shard by a temporary file; its note comes last. ``tick`` is told each image.

    Raises UserError where the place that it is put to can't be reached.
    """
    work = Path(shard.work)
    final, note = tar_file(work, shard.name), note_file(work, shard.name)
    temporary = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            written = write_tar(file, _samples(shard, tick))
            file.flush()
            os.fsync(file.fileno())
        if shard.put:
            put(temporary, f"{shard.put}/{final.name}")
        else:
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(note, msgspec.to_builtins(written))


def write_tar(file: IO[bytes], samples: Iterator[dict[str, Any]]) -> Written:
    """Writes samples as webdataset knows them: ``__key__`` and members' bytes by extension."""
    out = _Digesting(file)
    with webdataset.TarWriter(out, user=_OWNER, group=_OWNER, encoder=False, mtime=0) as tar:
        for sample in samples:
            tar.write(sample)
    return Written(out.bytes, out.digest.hexdigest())


class _Digesting(io.RawIOBase):
    """Passes bytes on, and knows how many they were and their digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)


def _samples(shard: Shard, tick: Tick) -> Iterator[dict[str, Any]]:
    work = Path(shard.work)
    task, jpegs = -1, None
    try:
        for row in _rows(samples_file(work, shard.split), shard.first, shard.images):
            if row["task"] != task:
                if jpegs is not None:
                    jpegs.close()
                task = row["task"]
                jpegs = jpegs_file(work, task).open("rb")
            assert jpegs is not None
            data = os.pread(jpegs.fileno(), row["length"], row["offset"])
            yield {"__key__": row["key"], "jpg": data, "json": row["json"], "txt": row["txt"]}
            tick(1)
    finally:
        if jpegs is not None:
            jpegs.close()


def _rows(path: Path, first: int, count: int) -> Iterator[dict[str, Any]]:
    """``count`` rows from ``first`` on."""
    file = pq.ParquetFile(path, pre_buffer=False)
    last = first + count
    for group in range(first // ROW_GROUP, -(-last // ROW_GROUP)):
        rows = file.read_row_group(group)
        low, high = max(first - group * ROW_GROUP, 0), min(last - group * ROW_GROUP, rows.num_rows)
        yield from rows.slice(low, high - low).to_pylist()


def put(path: Path, location: str) -> None:
    """Copies a file to a place that fsspec knows.

    Raises UserError where it can't be reached.
    """
    import fsspec

    with place.reaching(location):
        files, there = fsspec.url_to_fs(location)
        files.put_file(str(path), there)


def written(work: Path, name: str) -> Written | None:
    """What a finished shard is; None for one that isn't finished."""
    try:
        return msgspec.json.decode(note_file(work, name).read_bytes(), type=Written)
    except FileNotFoundError:
        return None
