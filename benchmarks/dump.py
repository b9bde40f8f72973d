"""A made-up Wikidata dump of any size, framed as Wikimedia frames it.

    python -m benchmarks.dump --json-bytes 1.2G --out dump.json.gz

The file is a JSON array with an entity a line. As ``.json.gz`` it is the concatenation of gzip
members, each written at level 9: one that holds ``[``, batches of entities with members that hold
``,`` between them, one that holds ``]`` (operations/puppet, dumpwikibasejson.sh). Every batch
begins on a line. Wikimedia's batches hold 65,000 entities; here they are smaller where the dump
is, so that there are enough of them to share out. As ``.json.bz2`` it is one stream of
900 kB blocks that know nothing of lines (Wikimedia runs the members through lbzip2; so do we
where it is installed), as ``.json.zst`` one frame a batch (what ``pzstd`` leaves of a
re-encoded dump; Wikimedia publishes none), as ``.json`` plain.

Ids ascend inside a batch and jump from batch to batch, because Wikimedia's batches are cut from
eight shards. The same seed and size give the same JSON, whatever the number of workers, and with
the same zlib the same file. With ``--changed 0.05`` it is a later dump of the same Wikidata: one
entity in twenty has another content and a higher revision, is gone, or has a new one behind it;
all other lines are those of the dump without it. Two workers make 100 MB of JSON a second or so
into .gz; each holds one batch at a time.
"""

from __future__ import annotations

import argparse
import bz2
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Protocol

import zstandard
from tqdm import tqdm

from benchmarks.invented import MEAN_LINE, edited, entity, known_entities
from benchmarks.words import Vocabulary, vocabulary

#: Goes into the name of a dump that a benchmark keeps: raise it when the lines change.
VERSION = 1

_SHARDS = 8
_LARGEST_BATCH = 64 << 20  # bytes of JSON, about; Wikimedia's are 880 MB
_GZIP_LEVEL = 9  # Wikimedia's
_ZSTD_LEVEL = 9
_SUFFIXES = (".json.gz", ".json.bz2", ".json.zst", ".json")
_GONE = _ADDED = 0.02  # of what changed
_NEW = 50_000_000  # where the places of added entities begin, behind those of all dumps


@dataclass(frozen=True)
class Plan:
    """What a dump holds: ``entities`` lines in batches of ``batch`` lines.

    ``changed`` is the share of them that differ from those of the plan without it.
    """

    seed: int
    entities: int
    batch: int
    changed: float = 0.0

    @classmethod
    def of_size(cls, json_bytes: int, seed: int = 0, changed: float = 0.0) -> Plan:
        """For about ``json_bytes`` of JSON: ±1 % from 1 GB on, less exact below."""
        entities = max(1, json_bytes // MEAN_LINE)
        largest = min(_LARGEST_BATCH, max(json_bytes // 24, 1 << 20)) // MEAN_LINE
        return cls(seed, entities, max(1, largest), changed)

    @property
    def batches(self) -> int:
        """Number of batches; the last one may be shorter."""
        return -(-self.entities // self.batch)

    def lines(self, number: int) -> Iterator[bytes]:
        """The lines of a batch."""
        return _lines(self, number)


class Lines(Protocol):
    """What :func:`write` writes: lines in batches."""

    @property
    def batches(self) -> int: ...
    def lines(self, number: int) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Written:
    """What was written. ``json_bytes`` counts the uncompressed file."""

    entities: int
    json_bytes: int
    file_bytes: int
    seconds: float

    @property
    def mean_line(self) -> float:
        """Bytes of JSON an entity."""
        return self.json_bytes / self.entities

    @property
    def ratio(self) -> float:
        """Bytes of JSON for a byte of the file."""
        return self.json_bytes / self.file_bytes


def write(plan: Lines, path: Path, workers: int = 1, quiet: bool = True) -> Written:
    """Write the dump of ``plan`` in the form that the suffix of ``path`` names.

    Raises ValueError for another suffix.
    """
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(f"{path.name}: the name must end in one of {', '.join(_SUFFIXES)}")
    started = time.monotonic()
    suffix = path.suffix
    partial = path.with_name(path.name + ".partial")
    encode = _ENCODERS[suffix]
    entities, json_bytes = 0, 0
    with _opened(partial, suffix) as put:
        put(encode(b"[\n"))
        json_bytes += 2
        batches = _batches(plan, suffix, workers)
        for number, (lines, size, data) in enumerate(
            tqdm(batches, "dump", plan.batches, unit="batch", disable=quiet)
        ):
            if number:
                put(encode(b",\n"))
                json_bytes += 2
            put(data)
            entities += lines
            json_bytes += size
        put(encode(b"\n]\n"))
        json_bytes += 3
    partial.replace(path)
    seconds = time.monotonic() - started
    return Written(entities, json_bytes, path.stat().st_size, seconds)


def _batches(plan: Lines, suffix: str, workers: int) -> Iterator[tuple[int, int, bytes]]:
    """Batches in order, made ahead by the workers: one more than there are workers."""
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        pending: deque[Future[tuple[int, int, bytes]]] = deque()
        for number in range(plan.batches):
            pending.append(pool.submit(_batch, plan, number, suffix))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _batch(plan: Lines, number: int, suffix: str) -> tuple[int, int, bytes]:
    """Lines, bytes of JSON and the encoded bytes of one batch."""
    lines = list(plan.lines(number))
    data = b",\n".join(lines)
    return len(lines), len(data), _ENCODERS[suffix](data)


def _lines(plan: Plan, number: int) -> Iterator[bytes]:
    """The lines of a batch; the first one also holds the recipes' roots and the properties."""
    words = vocabulary(plan.seed)
    rng = Random(f"{plan.seed} {number}")
    if number == 0:
        yield from known_entities(rng, words)
    for index in _places(plan, number):
        line = entity(index, rng, words)
        if plan.changed:
            yield from _later(plan, index, line, words)
        else:
            yield line


def _later(plan: Plan, index: int, line: bytes, words: Vocabulary) -> Iterator[bytes]:
    """What a later dump has in the place of a line: the same, another one, none, or two."""
    rng = Random(f"{plan.seed} changed {index}")
    if rng.random() >= plan.changed:
        yield line
        return
    fate = rng.random()
    if fate < _GONE:
        return
    yield edited(line, index, rng, words)
    if fate > 1 - _ADDED:
        yield entity(_NEW + index, rng, words)


def _places(plan: Plan, number: int) -> Iterator[int]:
    """Places of a batch's entities among all: every eighth, as one shard of eight has them.

    A shard is chosen by a hash of the id, so which of eight neighbours it holds varies. Every
    place belongs to one batch.
    """
    group, shard = divmod(number, _SHARDS)
    first = group * _SHARDS * plan.batch
    rows = min(plan.batch, plan.entities - number * plan.batch)
    for row in range(rows):
        yield first + row * _SHARDS + (shard + row * row // 7) % _SHARDS


def _gzip(data: bytes) -> bytes:
    return zlib.compress(data, _GZIP_LEVEL, wbits=31)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)


def _plain(data: bytes) -> bytes:
    return data


# bz2 is one stream over all batches, so that a batch itself stays as it is
_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": _gzip,
    ".zst": _zstd,
    ".bz2": _plain,
    ".json": _plain,
}


@contextmanager
def _opened(path: Path, suffix: str) -> Iterator[Callable[[bytes], object]]:
    """Function that appends to the file, through bzip2 where the suffix asks for it."""
    lbzip2 = shutil.which("lbzip2")
    if suffix != ".bz2":
        with path.open("wb") as file:
            yield file.write
    elif lbzip2 is None:
        with bz2.open(path, "wb", 9) as stream:
            yield stream.write
    else:
        command = [lbzip2, "-9"]
        with (
            path.open("wb") as file,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file) as process,
        ):
            assert process.stdin is not None
            yield process.stdin.write
        if process.returncode:
            raise OSError(f"lbzip2 ended with {process.returncode} while writing {path}")


def parse_size(text: str) -> int:
    """``"1.2G"`` → 1,200,000,000: a number of bytes with k, M, G or T (powers of 1000).

    Raises ValueError where it is not one, or below 1.
    """
    factors = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    factor = factors.get(text[-1:], 1)
    size = int(float(text[:-1] if factor > 1 else text) * factor)
    if size < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return size


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.dump", description=(__doc__ or ""))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json-bytes", type=parse_size, required=True, metavar="SIZE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--changed", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    plan = Plan.of_size(options.json_bytes, options.seed, options.changed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = write(plan, options.out, options.workers, options.quiet)
    except ValueError as error:
        parser.error(str(error))
    if not options.quiet:
        print(
            f"{options.out}: {done.entities:,} entities, {done.json_bytes / 1e6:,.0f} MB of JSON, "
            f"mean line {done.mean_line:,.0f} B, {done.ratio:.2f} : 1, {done.seconds:.0f} s",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
