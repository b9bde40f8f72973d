"""The dumps that the benchmarks read, made once and kept, and what their members hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from isal import isal_zlib

from benchmarks.dump import VERSION, Plan, write
from benchmarks.options import Options

READ = 64 << 10  # bytes of the compressed file at a time: what comes out stays in the cache
_COPY = 1 << 20
_FRAME = 8  # bytes of JSON that a member with nothing but brackets and commas has at most


@dataclass(frozen=True)
class Member:
    """A gzip member: its place in the file and what it holds."""

    start: int
    end: int
    json_bytes: int
    newlines: int  # over the members from the first to a batch: the number of their entities


def dump_of(
    options: Options, json_bytes: int = 0, suffix: str = ".json.gz", changed: float = 0.0
) -> Path:
    """The dump to measure on: the one given, else one of the size asked for, made once.

    ``changed`` is the share of its entities that differ from those of the dump without it.
    """
    if options.dump:
        return options.dump.resolve()
    size = json_bytes or options.json_bytes
    later = f"-changed{changed:g}" if changed else ""
    path = options.work / f"dump-{size}-seed{options.seed}{later}-v{VERSION}{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        plan = Plan.of_size(size, options.seed, changed)
        write(plan, path, options.workers, quiet=False)
    return path.resolve()


def members_of(path: Path) -> list[Member]:
    """The members of a .gz, found by inflating all of it, which also brings it into memory."""
    found = []
    with path.open("rb") as file:
        data, at = file.read(READ), 0
        while data:
            inflate = isal_zlib.decompressobj(wbits=31)
            size, newlines, consumed = 0, 0, 0
            while not inflate.eof:
                if not data:
                    raise ValueError(f"{path}: ends inside the gzip member at byte {at:,}")
                text = inflate.decompress(data)
                size += len(text)
                newlines += text.count(b"\n")
                consumed += len(data)
                data = inflate.unused_data if inflate.eof else file.read(READ)
            consumed -= len(data)
            found.append(Member(at, at + consumed, size, newlines))
            at += consumed
            data = data or file.read(READ)
    return found


def json_bytes_of(members: Sequence[Member]) -> int:
    """Bytes of JSON that the members hold."""
    return sum(member.json_bytes for member in members)


def shares(members: Sequence[Member], count: int) -> list[tuple[int, int]]:
    """Ranges of the file, about equal, each from a member's start to a member's end."""
    size = members[-1].end
    bounds = [0]
    for n in range(1, count):
        starts = (member.start for member in members)
        bounds.append(next((at for at in starts if at >= size * n / count), size))
    return list(pairwise([*bounds, size]))


def first_part(path: Path, members: Sequence[Member], json_bytes: int, out: Path) -> list[Member]:
    """Write the first members of a dump, about ``json_bytes`` of them, as a dump; its members.

    Nothing is compressed again: the members are copied, the last one of the dump after them.
    """
    taken: list[Member] = []
    for member in members[:-1]:
        taken.append(member)
        if json_bytes_of(taken) >= json_bytes and member.json_bytes > _FRAME:
            break
    if taken[-1].json_bytes <= _FRAME:
        taken.pop()
    begin, end = taken[-1].end, members[-1]
    with path.open("rb") as file, out.open("wb") as part:
        _copy(file, 0, begin, part)
        _copy(file, end.start, end.end, part)
    closing = Member(begin, begin + end.end - end.start, end.json_bytes, end.newlines)
    return [*taken, closing]


def _copy(file: IO[bytes], start: int, end: int, out: IO[bytes]) -> None:
    file.seek(start)
    while start < end:
        piece = file.read(min(_COPY, end - start))
        out.write(piece)
        start += len(piece)


def inflated(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The text of the members in a range of the file, in pieces."""
    with path.open("rb") as file:
        file.seek(start)
        inflate = isal_zlib.decompressobj(wbits=31)
        while start < end:
            data = file.read(min(READ, end - start))
            start += len(data)
            while data:
                yield inflate.decompress(data)
                data = inflate.unused_data
                if inflate.eof:
                    inflate = isal_zlib.decompressobj(wbits=31)
