"""bz2 by blocks: where they begin, and the text of each, proved by its checksum.

A bz2 file is one or more streams. A stream is ``BZh`` and a digit, blocks, and an end. A block
begins with 48 bits of magic *at any bit*, holds up to 900 kB of run-length coded text and refers
to nothing outside of it. How many bits it takes is known only when it has been read, so its end is
looked for: what doesn't decode up to the next magic is decoded until it gives text. Python's bz2
decodes a block, and checks it, as a stream of its own made of the block's bits.

Format: https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf
"""

from __future__ import annotations

import bz2
import re
from bisect import bisect_left
from collections.abc import Generator
from typing import IO, Final

from etl.members import INFLATE, BrokenError, only_zeros
from etl.progress import Tick

_BLOCK: Final = 0x314159265359  # pi
_END: Final = 0x177245385090  # its square root, before the checksum of a stream
_HEADER = re.compile(rb"BZh[1-9]")
_LONGEST_HEADER = 0x425A6839  # BZh9: decodes the blocks of every level
_MAGIC_BITS = 48
_CHECKED_BITS = _MAGIC_BITS + 32
_LARGEST = 2_400_000  # bytes of a block: 900,001 codes of up to 20 bits, and its tables
_SMALLEST_END = 14  # bytes of an end, up to seven bits of padding and a header
_READ = 1 << 20
_PATIENCE = 32  # magics in a row that begin no block, before a block's length is passed over


class Blocks:
    """The blocks of an open bz2 file; a block is named by the byte in which its magic begins."""

    late = False  # a block gives no text before it is proved

    def __init__(self, file: IO[bytes], size: int, tick: Tick) -> None:
        self._file, self._size, self._tick = file, size, tick
        self._data, self._origin = b"", 0  # a window of the file
        self._hits: list[int] = []  # bits of the file at which the window shows a block's magic
        self._found: tuple[int, list[bytes], int] | None = None

    def find(self, start: int, end: int) -> int | None:
        """The first block that begins in bytes [start, end), None if none does.

        Magics that begin no block are passed; after many in a row a whole block's length with
        them, so that a hostile file can't make this decode the same bytes over and over.
        """
        bit, failed = start * 8, 0
        self._move(start)
        while (hit := self._next_magic(bit, end)) is not None:
            try:
                self._found = (hit, *self._decode(hit))
            except BrokenError:
                failed += 1
                bit = hit + (1 if failed % _PATIENCE else _LARGEST * 8)
            else:
                return hit // 8
        return None

    def text(self, at: int) -> Generator[bytes, None, int]:
        """Text of the block at ``at``; returns the byte at which what follows it begins.

        At a stream's beginning there is no text. Raises BrokenError where there is no block.
        """
        self._move(at)
        bit = self._magic_in(at)
        pieces: list[bytes] = []
        if bit is None:
            following = self._next_block(at * 8)
            if following == at * 8:
                raise self._broken(at, f"no bz2 block begins at byte {at:,}")
        else:
            found, self._found = self._found, None
            pieces, end = found[1:] if found and found[0] == bit else self._decode(bit)
            following = self._next_block(end)
        self._tick(following // 8 - at)
        yield from pieces
        return following // 8

    def done(self, at: int) -> bool:
        """Whether the last stream ends at ``at``, with nothing but zeros behind it."""
        return (
            self._bits(at * 8, 32) == 0
            and any(self._bits(at * 8 - _CHECKED_BITS - pad, 48) == _END for pad in range(8))
            and only_zeros(self._file, at)
        )

    # --- one block

    def _decode(self, bit: int) -> tuple[list[bytes], int]:
        """The text of the block at ``bit`` and the bit behind it."""
        self._move(bit // 8)
        end = self._likely_end(bit)
        if end is not None and (pieces := self._proved(bit, end)) is not None:
            return pieces, end
        return self._decode_unbounded(bit)

    def _likely_end(self, bit: int) -> int | None:
        """The next magic, be it of a block or of the stream's end."""
        limit = min(bit // 8 + _LARGEST, self._size)
        following = self._next_magic(bit + _MAGIC_BITS, limit)
        if following is not None and not self._is_header(following - 32):
            return following
        stop = limit if following is None else following // 8
        window = self._data[bit // 8 - self._origin : stop - self._origin]
        ends = (bit // 8 * 8 + found for found in _search(window, _END))
        return next((end for end in ends if end > bit), None)

    def _proved(self, bit: int, end: int) -> list[bytes] | None:
        """The text of bits [bit, end), None unless they are one block, to its checksum.

        A block is 46 MB of text at most, when every five bytes of it stand for a run of 259.
        """
        if end - bit <= _CHECKED_BITS:
            return None
        checksum = self._bits(bit + _MAGIC_BITS, 32)
        stream = (_LONGEST_HEADER << (end - bit) | self._bits(bit, end - bit)) << _CHECKED_BITS
        inflater = bz2.BZ2Decompressor()
        data = _as_bytes(stream | _END << 32 | checksum, 32 + end - bit + _CHECKED_BITS)
        pieces = []
        try:
            while not inflater.eof and (data or not inflater.needs_input):
                pieces.append(inflater.decompress(data, INFLATE))
                data = b""
        except OSError:
            return None
        return pieces if inflater.eof and not inflater.unused_data else None

    def _decode_unbounded(self, bit: int) -> tuple[list[bytes], int]:
        """As :meth:`_decode`, where the block holds a magic or none follows it.

        A block gives text as soon as its last code has been read.
        """
        at = bit // 8
        count = min(_LARGEST * 8, self._size * 8 - bit)
        stream = _as_bytes(_LONGEST_HEADER << count | self._bits(bit, count), 32 + count)
        reason = f"the bz2 block that begins at byte {at:,} is corrupt"
        try:
            last = bit + (_fed_until_text(stream) - 4) * 8
        except EOFError:
            raise self._broken(at, reason) from None
        except OSError as error:
            raise BrokenError(at, f"{reason}: {error}", corrupt=True, resume=at + 1) from None
        for end in range(last - 7, last + 1):
            if (pieces := self._proved(bit, end)) is not None:
                return pieces, end
        raise BrokenError(at, f"{reason}: its checksum is wrong", corrupt=True, resume=at + 1)

    def _broken(self, at: int, reason: str) -> BrokenError:
        """``reason``, unless the file simply ends."""
        if at + (_SMALLEST_END if self._magic_in(at) is None else _LARGEST) > self._size:
            reason = f"the file ends inside the bz2 stream, behind byte {at:,}"
        return BrokenError(at, reason, corrupt=False, resume=at + 1)

    # --- what stands between blocks

    def _next_block(self, bit: int) -> int:
        """The bit behind the ends and headers of streams at ``bit``."""
        while True:
            if self._bits(bit, 48) == _END and bit + _CHECKED_BITS <= self._size * 8:
                bit = (bit + _CHECKED_BITS + 7) // 8 * 8
            elif self._is_header(bit) and self._bits(bit + 32, 48) in (_BLOCK, _END):
                bit += 32
            else:
                return bit
            self._move(bit // 8)

    def _is_header(self, bit: int) -> bool:
        return bit % 8 == 0 and bool(_HEADER.match(self._bits(bit, 32).to_bytes(4, "big")))

    # --- the window

    def _magic_in(self, at: int) -> int | None:
        bits = range(at * 8, at * 8 + 8)
        return next((bit for bit in bits if self._bits(bit, 48) == _BLOCK), None)

    def _next_magic(self, bit: int, end: int) -> int | None:
        """The first bit from ``bit`` on at which a magic begins, None if none does before ``end``.

        ``end`` is a byte.
        """
        while True:
            n = bisect_left(self._hits, bit)
            if n < len(self._hits):
                return self._hits[n] if self._hits[n] < end * 8 else None
            seen = self._origin + len(self._data)
            if seen >= min(end + 7, self._size):
                return None
            if seen - self._origin > 2 * _LARGEST:  # of a long stretch without a magic
                self._move(seen - 7)
            self._reach(seen + 1)

    def _bits(self, bit: int, count: int) -> int:
        """``count`` bits from ``bit`` on, as a number; zeros where the file has none."""
        if bit < 0:
            return 0
        first, last = bit // 8, (bit + count + 7) // 8
        if first < self._origin:
            self._move(first)
        self._reach(last)
        data = self._data[first - self._origin : last - self._origin].ljust(last - first, b"\0")
        return int.from_bytes(data, "big") >> (-(bit + count) % 8) & ((1 << count) - 1)

    def _move(self, at: int) -> None:
        """Forgets the window before ``at``, when that is worth copying the rest."""
        behind = self._origin + len(self._data)
        if at < self._origin or at > behind:
            self._data, self._origin, self._hits = b"", at, []
        elif at - self._origin > _READ:
            self._data, self._origin = self._data[at - self._origin :], at
            self._hits = self._hits[bisect_left(self._hits, at * 8) :]

    def _reach(self, end: int) -> None:
        """Widens the window to byte ``end``, as far as the file goes."""
        while (seen := self._origin + len(self._data)) < min(end, self._size):
            self._file.seek(seen)
            data = self._file.read(_READ)
            if not data:
                self._size = seen
                return
            overlap = self._data[-6:]  # a magic touches up to seven bytes
            start = (seen - len(overlap)) * 8
            hits = (start + found for found in _search(overlap + data, _BLOCK))
            last = self._hits[-1] if self._hits else -1
            self._hits += [hit for hit in hits if hit > last]
            self._data += data


def _search(data: bytes, magic: int) -> list[int]:
    """The bits of ``data`` at which the 48 bits of ``magic`` begin."""
    found = []
    for shift in range(8):
        seven = (magic << 8 >> shift).to_bytes(7, "big")
        edge = min(shift, 1)  # the bytes that the magic fills are looked for, then all its bits
        inner = seven[edge:6]
        at = data.find(inner)
        while at >= 0:
            window = data[max(at - edge, 0) : at - edge + 7].ljust(7, b"\0")
            if at >= edge and int.from_bytes(window, "big") >> (8 - shift) & (1 << 48) - 1 == magic:
                found.append((at - edge) * 8 + shift)
            at = data.find(inner, at + 1)
    return sorted(found)


def _as_bytes(bits: int, count: int) -> bytes:
    return (bits << -count % 8).to_bytes((count + 7) // 8, "big")


def _fed_until_text(stream: bytes) -> int:
    """Bytes of ``stream`` after which its first block has been read.

    Raises OSError where it can't be, EOFError where the stream ends before it.
    """
    fed = 0
    for step in (4096, 1):
        inflater = bz2.BZ2Decompressor()
        fed = max(fed - 4096, 0)
        inflater.decompress(stream[:fed], 1)
        while not inflater.decompress(stream[fed : fed + step], 1):
            fed += step
            if fed >= len(stream):
                raise EOFError
        fed += step
    return min(fed, len(stream))
