"""Zstandard files by frames, each cut into its blocks before anything of it is inflated.

A frame is a header, blocks of up to 128 KiB of text with their sizes in front, and, where its
writer asked for it (the zstd program does), a checksum. So a frame's end can be found and its text
bounded without inflating. Between frames may stand skippable ones, which hold no text: pzstd's
sizes, the seek table of the seekable format.

Format: RFC 8878, sections 3.1.1 and 3.1.2.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import IO

import zstandard

from etl.members import PROOF, ZST_WINDOW, BrokenError, first_proved, only_zeros
from etl.progress import Tick

_FRAME = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a byte from 0x50 to 0x5f
_SIGNATURES = ((_FRAME, 0), (_SKIPPABLE, 1))
_BLOCK = 128 << 10  # bytes of text in a block, at most
_BLOCKS = 4  # inflated at once
_REPEATED, _RESERVED = 1, 3  # types of blocks
_FAR = 1 << 10  # blocks that tell that a frame is one


class Frames:
    """The frames of an open zstandard file."""

    late = True

    def __init__(self, file: IO[bytes], size: int, tick: Tick) -> None:
        self._file, self._size, self._tick = file, size, tick
        self._astray = 0  # a frame's blocks led here, and to no other frame: no need to go again

    def find(self, start: int, end: int) -> int | None:
        """The first frame that begins in bytes [start, end), None if none does.

        A magic alone gives false hits; a frame counts when its blocks lead to another one, to
        the end of the file, or far.
        """
        return first_proved(self._file, _SIGNATURES, start, end, self._is_frame)

    def text(self, at: int) -> Generator[bytes, None, int]:
        """Text of the frame at ``at``, none for a skippable one; returns the byte behind it.

        Raises BrokenError where it can't be inflated to its end.
        """
        if (end := self._end_of_skippable(at)) is not None:
            if end > self._size:
                raise self._cut_off(at)
            self._tick(end - at)
            return end
        inflater = zstandard.ZstdDecompressor(max_window_size=ZST_WINDOW).decompressobj()
        position, part, waiting = at, b"", list[bytes]()
        try:
            for part in self._parts(at):
                position += len(part)
                self._tick(len(part))
                waiting.append(part)
                if len(waiting) == _BLOCKS:
                    yield from filter(None, [inflater.decompress(b"".join(waiting))])
                    waiting = []
            if waiting and not inflater.eof:
                yield from filter(None, [inflater.decompress(b"".join(waiting))])
        except (zstandard.ZstdError, ValueError) as error:
            reason = f"the frame that begins at byte {at:,} can't be inflated: {error}"
            raise BrokenError(position, reason, corrupt=True, resume=self._behind(at)) from None
        if not part:
            raise self._cut_off(at)
        return position

    def done(self, at: int) -> bool:
        """Whether nothing but zeros follows at ``at``."""
        return only_zeros(self._file, at)

    def _cut_off(self, at: int) -> BrokenError:
        reason = f"the file ends inside the zst frame that begins at byte {at:,}"
        return BrokenError(self._size, reason, corrupt=False, resume=self._size)

    def _is_frame(self, at: int) -> bool:
        if (end := self._end_of_skippable(at)) is not None:
            return end <= self._size and self._may_follow(end)
        position = at
        try:
            for number, part in enumerate(self._parts(at)):
                position += len(part)
                far = number == _FAR or position - at > PROOF
                if far or not part:  # the last one, cut off
                    return True
        except ValueError:
            return False
        return self._may_follow(position)

    def _behind(self, at: int) -> int:
        """Where to look for the frame behind the corrupt one at ``at``."""
        if at < self._astray:
            return at + 1
        end, whole = at, True
        try:
            for part in self._parts(at):
                end += len(part)
        except ValueError:
            whole = False
        if whole and self._may_follow(end):
            return end
        self._astray = end
        return at + 1

    def _may_follow(self, at: int) -> bool:
        self._file.seek(at)
        head = self._file.read(4)
        return head == _FRAME or _is_skippable(head) or only_zeros(self._file, at)

    def _parts(self, at: int) -> Iterator[bytes]:
        """A frame's header, its blocks one by one, and its checksum if it has one.

        Where the file ends inside the frame, the last part is empty. Raises ValueError where
        there is no frame.
        """
        self._file.seek(at)
        head = self._file.read(5)
        if not _FRAME.startswith(head[:4]):
            raise ValueError("it has no magic number")
        flags = head[4] if len(head) > 4 else 0
        if flags & 8:
            raise ValueError("a reserved bit of its header is set")
        one_segment, checksum = flags >> 5 & 1, flags >> 2 & 1
        size = 6 - one_segment + (0, 1, 2, 4)[flags & 3] + (one_segment, 2, 4, 8)[flags >> 6]
        self._file.seek(at)
        yield (part := self._whole(size))
        last = 0
        while part and not last:
            header = self._file.read(3)
            number = int.from_bytes(header, "little")
            last, kind, size = number & 1, number >> 1 & 3, number >> 3
            if len(header) == 3 and (kind == _RESERVED or size > _BLOCK):
                raise ValueError("it has a block that can't be")
            size = 1 if kind == _REPEATED else size
            content = self._whole(size)
            part = header + content if len(content) == size and len(header) == 3 else b""
            yield part
        if part and checksum:
            yield self._whole(4)

    def _end_of_skippable(self, at: int) -> int | None:
        """The end of the frame without text at ``at``, None where there is none."""
        self._file.seek(at)
        head = self._file.read(8)
        if len(head) < 8 or not _is_skippable(head):
            return None
        return at + 8 + int.from_bytes(head[4:], "little")

    def _whole(self, size: int) -> bytes:
        """The next ``size`` bytes, nothing where the file hasn't so many."""
        data = self._file.read(size)
        return data if len(data) == size else b""


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == _SKIPPABLE and head[0] >> 4 == 5
