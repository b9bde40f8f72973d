"""The members that a dump's file is made of, and inflating them one by one.

gzip files are members one after another, zstandard files frames (etl/zstd.py), bz2 files blocks
(etl/bzip2.py); each can be inflated on its own, and all three are read through :class:`Members`.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import IO, Any, BinaryIO, Final, Literal, Protocol, cast

import zstandard
from isal import igzip, isal_zlib

from etl.progress import Tick

Form = Literal["json", "gz", "bz2", "zst"]

READ: Final = 32 << 10  # compressed bytes per read: what they inflate to still is in the cache
INFLATE: Final = 1 << 20  # inflated bytes per step: bounds what a decompression bomb can take
PROOF: Final = 4 << 20  # compressed bytes read, at most, to tell whether a member begins
#: Bytes of text that a zstandard frame may refer back to, and a reader so has to hold: what the
#: zstd program reads without being told to take more (RFC 8878, section 3.1.1.1.2, asks for 8 MB).
ZST_WINDOW: Final = 128 << 20

_ZST_STEP = 1 << 10  # zstd has no output limit: a KiB of the worst input is 32 MiB of output
_PROBE = 64 << 10
_PATIENCE = 32  # beginnings in a row that don't hold, before what proving one may read is passed
_GZIP = b"\x1f\x8b\x08"

#: What the text of a member that begins on a line begins with.
LINE_START: Final = re.compile(rb'\[?[\r\n ]*\{"(?:type|id|pageid|ns|title|labels|lastrevid)":')

_MAGIC: tuple[tuple[bytes, Form], ...] = (
    (_GZIP, "gz"),
    (b"BZh", "bz2"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    # pzstd puts a skippable frame before each frame (RFC 8878, section 3.1.2)
    *((bytes((n, 0x2A, 0x4D, 0x18)), "zst") for n in range(0x50, 0x60)),
)
INFLATE_ERRORS: tuple[Any, ...] = (
    isal_zlib.error,
    zlib.error,
    OSError,
    EOFError,
    zstandard.ZstdError,
)


def form_by_magic(head: bytes) -> Form:
    """The format by a file's first bytes; names lie. What is nothing else is taken for JSON."""
    return next((form for magic, form in _MAGIC if head.startswith(magic)), "json")


def inflated(file: BinaryIO) -> IO[bytes]:
    """The text of a whole file, for who reads it from its beginning to its end.

    Reading raises one of :data:`INFLATE_ERRORS` where the file is broken or has been cut off.
    """
    form = form_by_magic(file.read(4))
    file.seek(0)
    if form == "gz":
        inflating: Any = igzip.IGzipFile
        return cast(IO[bytes], inflating(fileobj=file, mode="rb"))
    if form == "bz2":
        return bz2.BZ2File(file)
    if form == "zst":
        # zstandard's own reader ends in silence where a frame is cut off. Both refuse windows
        # of more than ZST_WINDOW.
        from pyarrow import CompressedInputStream

        return cast(IO[bytes], CompressedInputStream(file, "zstd"))
    return file


def first_text(head: bytes, form: Form) -> bytes | None:
    """The first few inflated bytes, or None where the head isn't enough for one block."""
    if form == "json":
        return head[:_PROBE]
    try:
        return next(filter(None, Inflater(form).feed(head)), b"")[:_PROBE]
    except INFLATE_ERRORS:
        return None  # reading it says what is broken, and where


def window_of(head: bytes) -> int:
    """The window of the zstandard frame that ``head`` begins with; 0 where it can't be told."""
    try:
        return zstandard.get_frame_parameters(head).window_size
    except zstandard.ZstdError:
        return 0  # a skippable frame, or none


class BrokenError(Exception):
    """A member that can't be read (on): where in the file, and why.

    ``resume`` is where to look for the next one.
    """

    def __init__(self, at: int, reason: str, *, corrupt: bool, resume: int) -> None:
        super().__init__(reason)
        self.at = at
        self.corrupt = corrupt
        self.resume = resume


class Members(Protocol):
    """The members of an open file: gzip members, zstandard frames or bz2 blocks."""

    #: Whether a member gives text before its checksum shows that it is right.
    late: bool

    def find(self, start: int, end: int) -> int | None:
        """The first member that begins in bytes [start, end), None if none does."""

    def text(self, at: int) -> Generator[bytes, None, int]:
        """Text of the member at byte ``at``; returns the byte behind it.

        Raises BrokenError where it can't be read to its end.
        """

    def done(self, at: int) -> bool:
        """Whether no member follows at ``at``: the file is over, or only zeros are left."""


class Inflater:
    """One face for the decompressors: ``feed`` inflates piece by piece, ``eof`` ends a member."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._object: Any = None
        self._rest = b""
        if form == "gz":
            self._object = isal_zlib.decompressobj(wbits=31)
        elif form == "bz2":
            self._object = bz2.BZ2Decompressor()
        elif form == "zst":
            self._object = zstandard.ZstdDecompressor(max_window_size=ZST_WINDOW).decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The text of ``data`` in pieces of bounded size, whatever it inflates to."""
        if self._form == "json":
            yield data
        elif self._form == "gz":
            yield self._object.decompress(data, INFLATE)
            while not self.eof and self._object.unconsumed_tail:
                yield self._object.decompress(self._object.unconsumed_tail, INFLATE)
        elif self._form == "bz2":
            yield self._object.decompress(data, INFLATE)
            while not self.eof and not self._object.needs_input:
                yield self._object.decompress(b"", INFLATE)
        else:
            for start in range(0, len(data), _ZST_STEP):
                yield self._object.decompress(data[start : start + _ZST_STEP])
                if self.eof:
                    self._rest = data[start + _ZST_STEP :]
                    return

    @property
    def eof(self) -> bool:
        return self._form != "json" and bool(self._object.eof)

    @property
    def unused(self) -> bytes:
        """What followed the end of the member in the data given."""
        return bytes(self._object.unused_data) + self._rest if self.eof else b""


def inflate(inflater: Inflater, data: bytes, at: int, position: int) -> Iterator[bytes]:
    """The text of ``data``, read at ``position`` in the member that begins at ``at``.

    Raises BrokenError.
    """
    try:
        yield from filter(None, inflater.feed(data))
    except INFLATE_ERRORS as error:
        reason = f"the member that begins at byte {at:,} can't be inflated: {error}"
        raise BrokenError(position, reason, corrupt=True, resume=at + 1) from None


def signatures(
    file: IO[bytes], wanted: tuple[tuple[bytes, int], ...], start: int, end: int
) -> Iterator[int]:
    """Offsets in [start, end) at which one of ``wanted`` stands, in order.

    A signature is bytes, and how far they are from where it begins.
    """
    longest = max(len(inner) + before for inner, before in wanted)
    position, tail = start, b""
    while position < end:
        file.seek(position)
        data = file.read(min(INFLATE, end + longest - 1 - position))
        window, origin = tail + data, position - len(tail)
        hits = [hit - before for inner, before in wanted for hit in _find_all(window, inner)]
        yield from (
            origin + hit for hit in sorted(hits) if hit >= 0 and start <= origin + hit < end
        )
        if not data:
            return
        position += len(data)
        tail = window[-(longest - 1) :]


def first_proved(
    file: IO[bytes],
    wanted: tuple[tuple[bytes, int], ...],
    start: int,
    end: int,
    proves: Callable[[int], bool],
) -> int | None:
    """The first of :func:`signatures` that ``proves`` says is one, None if there is none.

    After many in a row that aren't, :data:`PROOF` bytes are passed over, so that a hostile file
    can't make this read the same bytes over and over.
    """
    while True:
        failed = 0
        for hit in islice(signatures(file, wanted, start, end), _PATIENCE):
            if proves(hit):
                return hit
            failed += 1
        if failed < _PATIENCE:
            return None
        start = hit + PROOF


def _find_all(data: bytes, inner: bytes) -> Iterator[int]:
    hit = data.find(inner)
    while hit >= 0:
        yield hit
        hit = data.find(inner, hit + 1)


def only_zeros(file: IO[bytes], at: int) -> bool:
    """Whether nothing but zeros follows: tapes and block devices leave them, gzip ignores them."""
    file.seek(at)
    data = file.read(4)
    while data and not data.strip(b"\0"):
        data = file.read(INFLATE)
    return not data


class GzipMembers:
    """The members of an open gzip file."""

    late = True

    def __init__(self, file: IO[bytes], size: int, tick: Tick) -> None:
        self._file, self._tick = file, tick

    def find(self, start: int, end: int) -> int | None:
        """The first member that begins in bytes [start, end), None if none does.

        A signature alone gives false hits; a member counts when its text begins a line of a dump
        or when it inflates to its checksum.
        """
        return first_proved(self._file, ((_GZIP, 0),), start, end, self._is_member)

    def text(self, at: int) -> Generator[bytes, None, int]:
        """Text of the member at ``at``; returns the byte behind it.

        Raises BrokenError where it can't be inflated to its end.
        """
        inflater = Inflater("gz")
        self._file.seek(at)
        position = at
        while not inflater.eof:
            data = self._file.read(READ)
            if not data:
                reason = f"the file ends inside the gz member that begins at byte {at:,}"
                raise BrokenError(position, reason, corrupt=False, resume=at + 1)
            yield from inflate(inflater, data, at, position)
            taken = len(data) - len(inflater.unused)
            position += taken
            self._tick(taken)
        return position

    def done(self, at: int) -> bool:
        """Whether nothing but zeros follows at ``at``."""
        return only_zeros(self._file, at)

    def _is_member(self, at: int) -> bool:
        self._file.seek(at)
        inflater = Inflater("gz")
        text = b""
        for _ in range(0, PROOF, _PROBE):
            data = self._file.read(_PROBE)
            try:
                for piece in inflater.feed(data):
                    text = text or piece
                    if inflater.eof or LINE_START.match(text):
                        return True
            except INFLATE_ERRORS:
                return False
        return False
