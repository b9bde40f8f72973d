"""Open dumps and cut them into slices that workers read on their own.

A slice is a fixed range of the compressed file. Its worker owns the gzip members (or the bytes of
plain JSON) that *begin* in the range, inflates and splits them itself, and finishes the line that
its last member leaves open. What the next slice skips must be what this one read past its end:
:class:`Cut` compares the two, and a slice that guessed wrong is read again with the right start.
So nothing is lost and nothing read twice, whatever the file looks like. bz2, zst and standard
input are one slice.

A Wikimedia .json.gz is a member ``[``, then batches without a newline at their end, with members
``,\\n`` between them, then ``\\n]`` (operations/puppet, dumpwikibasejson.sh): most members start on
a line, the tiny ones finish one.
"""

from __future__ import annotations

import bz2
import glob
import hashlib
import os
import re
import sys
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Final, Literal

import msgspec
import zstandard
from isal import isal_zlib

from etl.errors import UserError
from etl.progress import Tick

Form = Literal["json", "gz", "bz2", "zst"]

STDIN: Final = "-"
DEFAULT_MAX_LINE: Final = 64_000_000

_READ = 64 << 10  # compressed bytes per read: what they inflate to still is in the cache when split
_ZST_STEP = 1 << 10  # zstd has no output limit: a KiB of the worst input is 32 MiB of output
_INFLATE = 1 << 20  # inflated bytes per step: bounds what a decompression bomb can take
_PROBE = 64 << 10
_PROOF = 4 << 20  # compressed bytes of a member that begins inside a line, read for its checksum
_ENDLESS = 1 << 62  # size of standard input
_ENOUGH = 64  # bytes that tell whether a text begins on a line
_HEAD_TAIL = 1 << 20
_SUFFIXES = (".json", ".json.gz", ".json.bz2", ".json.zst", ".ndjson", ".ndjson.gz")
_GZIP = b"\x1f\x8b\x08"
_MAGIC: tuple[tuple[bytes, Form], ...] = (
    (_GZIP, "gz"),
    (b"BZh", "bz2"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    # pzstd puts a skippable frame before each frame (RFC 8878, section 3.1.2)
    *((bytes((n, 0x2A, 0x4D, 0x18)), "zst") for n in range(0x50, 0x60)),
)
_LINE_START = re.compile(rb'\[?[\r\n ]*\{"(?:type|id|pageid|ns|title|labels|lastrevid)":')
_INFLATE_ERRORS: tuple[Any, ...] = (
    isal_zlib.error,
    zlib.error,
    OSError,
    EOFError,
    zstandard.ZstdError,
)


class Input(msgspec.Struct, frozen=True):
    """A dump file as it was when the run was planned; ``digest`` is of its first and last MiB."""

    path: str
    form: Form
    size: int
    mtime_ns: int
    digest: str


class Slice(msgspec.Struct, frozen=True):
    """Bytes [start, end) of the (compressed) file ``path``; ``size`` is the whole file's.

    ``first`` and ``skip``, once the slice before has been read, say at which byte this one's
    first member begins and how much of its text belongs to the slice before. Unset: find out.
    """

    index: int
    path: str
    form: Form
    start: int
    end: int
    size: int
    first: int | None = None
    skip: int | None = None


class Reject(msgspec.Struct):
    """A line that can't be read, with its place in the inflated text (bytes and lines from 0)."""

    offset: int
    line: int
    bytes: int
    reason: str
    text: str


class Damage(msgspec.Struct):
    """Bytes [start, end) of the compressed file that are lost, and why.

    A gzip member that is ``corrupt`` is lost whole, since its checksum vouches for all or nothing.
    Of a file that is cut off nothing that is there is lost: start and end are its size.
    """

    path: str
    start: int
    end: int
    reason: str
    corrupt: bool = False


class Extent(msgspec.Struct):
    """What a slice turned out to hold. Text is counted in inflated bytes.

    ``first``: where the first own member begins, None if none does. ``skipped``: text at its
    start that ends a line of the slice before, None if that took more than the own text.
    ``own``: text of the own members. ``end``: where the first member of a later slice begins.
    ``overrun``: text read past that to end the last line, None if damage makes that unknown.
    ``text`` and ``lines``: what was read as this slice's lines.
    """

    first: int | None = None
    skipped: int | None = 0
    own: int = 0
    end: int = 0
    overrun: int | None = 0
    text: int = 0
    lines: int = 0


class Cut(msgspec.Struct, frozen=True):
    """A place between two slices: the next member's offset, and how much of its text is taken."""

    offset: int = 0
    pending: int | None = 0

    def after(self, extent: Extent) -> Cut:
        """The cut behind a slice that began at this one."""
        return self if extent.first is None else Cut(extent.end, extent.overrun)

    def corrected(self, slice_: Slice, extent: Extent) -> Slice | None:
        """None where ``extent`` begins at this cut, else the slice told where to begin."""
        owns = self.offset < slice_.end
        first = self.offset if owns else None
        right_skip = not owns or self.pending is None or extent.skipped == self.pending
        if extent.first == first and right_skip:
            return None
        return msgspec.structs.replace(
            slice_, first=self.offset if owns else slice_.end, skip=self.pending if owns else 0
        )


# --- inputs -------------------------------------------------------------------------------------


def find_inputs(names: tuple[str, ...]) -> list[Input]:
    """Files behind names, globs and directories, in that order, each described.

    Raises UserError for what isn't there, is empty or isn't a Wikidata JSON dump.
    """
    paths: list[str] = []
    for name in names:
        paths.extend(_expand(name))
    if STDIN in paths and len(paths) > 1:
        raise UserError("`-` (standard input) can't be combined with files; give one or the other.")
    repeated = [p for p in dict.fromkeys(paths) if paths.count(p) > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is named twice; name every part of a dump once.")
    return [_describe(path) for path in paths]


def _expand(name: str) -> list[str]:
    if name == STDIN:
        return [STDIN]
    path = Path(name)
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.name.endswith(_SUFFIXES))
        if not found:
            raise UserError(f"{name}: no {', '.join(_SUFFIXES[:4])} file in this directory.")
        return found
    if path.exists():
        return [name]
    found = sorted(glob.glob(name))
    if not found:
        raise UserError(f"{name}: no such file; give a dump, a directory or a quoted glob.")
    return found


def _describe(path: str) -> Input:
    if path == STDIN:
        if sys.stdin is None:
            raise UserError("`-` was given as the dump, and there is no standard input.")
        head = sys.stdin.buffer.peek(4)  # type: ignore[union-attr]
        return Input(STDIN, _form_of(head, "standard input"), 0, 0, "")
    try:
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode):
            raise UserError(f"{path} is not a regular file; pipe it in and give `-` as the dump.")
        with open(path, "rb") as file:
            head = file.read(_HEAD_TAIL)
            file.seek(max(len(head), stat.st_size - _HEAD_TAIL))
            tail = file.read()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    digest = hashlib.sha256(head + tail).hexdigest()
    return Input(path, _form_of(head, path), stat.st_size, stat.st_mtime_ns, digest)


def _form_of(head: bytes, name: str) -> Form:
    """The format by its first bytes; names lie. Looks at the first inflated bytes too."""
    if not head:
        raise UserError(f"{name} is empty; expected a Wikidata JSON dump.")
    form: Form = next((form for magic, form in _MAGIC if head.startswith(magic)), "json")
    text = head[:_PROBE] if form == "json" else _first_text(head, form)
    if text is not None and text.lstrip()[:1] not in (b"[", b"{", b""):
        raise UserError(
            f"{name} is not a Wikidata JSON dump: it begins with {text.lstrip()[:24]!r} where "
            "`[` or an entity is expected; give a wikidata-…-all.json, .gz, .bz2 or .zst."
        )
    return form


def _first_text(head: bytes, form: Form) -> bytes | None:
    """The first few inflated bytes, or None where the head isn't enough for one block."""
    try:
        return next(filter(None, _Inflater(form).feed(head)), b"")[:_PROBE]
    except _INFLATE_ERRORS:
        return None  # reading it says what is broken, and where


def plan_slices(inputs: list[Input], slice_bytes: int) -> list[Slice]:
    """Every input cut at multiples of ``slice_bytes``; bz2, zst and stdin stay whole."""
    slices: list[Slice] = []
    for file in inputs:
        if file.path == STDIN:
            return [Slice(0, STDIN, file.form, 0, _ENDLESS, _ENDLESS)]
        step = slice_bytes if file.form in ("gz", "json") else file.size
        for start in range(0, max(file.size, 1), max(step, 1)):
            end = min(start + step, file.size)
            slices.append(Slice(len(slices), file.path, file.form, start, end, file.size))
    return slices


# --- inflating ----------------------------------------------------------------------------------


class _BrokenError(Exception):
    """The member that is being inflated can't be read on: where in the file, and why."""

    def __init__(self, at: int, reason: str, *, corrupt: bool) -> None:
        super().__init__(reason)
        self.at = at
        self.corrupt = corrupt


class _Inflater:
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
            # the largest window that `zstd --long=31` writes
            self._object = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The text of ``data`` in pieces of bounded size, whatever it inflates to."""
        if self._form == "json":
            yield data
        elif self._form == "gz":
            yield self._object.decompress(data, _INFLATE)
            while not self.eof and self._object.unconsumed_tail:
                yield self._object.decompress(self._object.unconsumed_tail, _INFLATE)
        elif self._form == "bz2":
            yield self._object.decompress(data, _INFLATE)
            while not self.eof and not self._object.needs_input:
                yield self._object.decompress(b"", _INFLATE)
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


def _member_text(file: IO[bytes], form: Form, at: int, tick: Tick) -> Generator[bytes, None, int]:
    """Text of the member at ``at``; returns the offset behind it.

    Raises _BrokenError where it can't be inflated to its end.
    """
    inflater = _Inflater(form)
    file.seek(at)
    position = at
    while not inflater.eof:
        data = file.read(_READ)
        if not data:
            reason = f"the file ends inside the {form} member that begins at byte {at:,}"
            raise _BrokenError(position, reason, corrupt=False)
        yield from _inflate(inflater, data, at, position)
        taken = len(data) - len(inflater.unused)
        position += taken
        tick(taken)
    return position


def _inflate(inflater: _Inflater, data: bytes, at: int, position: int) -> Iterator[bytes]:
    try:
        yield from filter(None, inflater.feed(data))
    except _INFLATE_ERRORS as error:
        reason = f"the member that begins at byte {at:,} can't be inflated: {error}"
        raise _BrokenError(position, reason, corrupt=True) from None


def find_member(file: IO[bytes], start: int, end: int) -> int | None:
    """Offset of the first gzip member that begins in [start, end), None if none does.

    A signature alone gives false hits; a member counts when its text begins a line of a dump or
    when it inflates to its checksum.
    """
    overlap = len(_GZIP) - 1
    position, tail = start, b""
    while position < end:
        file.seek(position)
        block = tail + file.read(min(_INFLATE, end + overlap - position))
        origin = position - len(tail)
        hit = block.find(_GZIP)
        while hit >= 0:
            if origin + hit < end and _is_member(file, origin + hit):
                return origin + hit
            hit = block.find(_GZIP, hit + 1)
        position = origin + len(block)
        if len(block) <= overlap:
            break
        tail = block[-overlap:]
    return None


def _is_member(file: IO[bytes], at: int) -> bool:
    file.seek(at)
    inflater = _Inflater("gz")
    text = b""
    try:
        for _ in range(0, _PROOF, _PROBE):
            for piece in inflater.feed(file.read(_PROBE)):
                text = text or piece
                if inflater.eof or _LINE_START.match(text):
                    return True
    except _INFLATE_ERRORS:
        return False
    return False


# --- lines --------------------------------------------------------------------------------------


class _OwnEnd(msgspec.Struct):
    offset: int


class SliceReader:
    """Iterates over the lines of one slice; afterwards ``extent``, ``damage`` and ``long_lines``.

    A line comes as (offset, number, bytes): its place in the slice's text, and its bytes without
    the newline. A line over ``max_line`` bytes is not kept in memory and comes as a Reject in
    ``long_lines``. ``tick`` is called with the compressed bytes of every read.

    Lines of a corrupt member come before its checksum shows what it is. Read such a slice again
    with ``corrupt``, the damage that was found: those members then give no text.

    Raises OSError where the file can't be read.
    """

    def __init__(
        self,
        slice_: Slice,
        max_line: int = DEFAULT_MAX_LINE,
        tick: Tick | None = None,
        corrupt: Iterable[Damage] = (),
    ) -> None:
        self.slice = slice_
        self._corrupt = {damage.start: damage for damage in corrupt}
        self.extent = Extent(first=slice_.start, skipped=slice_.skip or 0, end=slice_.end)
        self.damage: list[Damage] = []
        self.long_lines: list[Reject] = []
        self._max_line = max_line
        self._tick: Tick = tick or (lambda _: None)
        self._parts: list[bytes] = []
        self._open = 0  # bytes of the line that has begun
        self._passing = False  # inside a line of which only the end belongs here
        self._skip: int | None = slice_.skip  # text still to pass over; None: find out
        if slice_.start == 0 and slice_.first is None:
            self._skip = 0

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        ended = False
        for event in self._events():
            if isinstance(event, _OwnEnd):
                self.extent.end, ended = event.offset, True
                if self._ends_here():
                    return
            elif isinstance(event, Damage):
                self._drop_line()
                if ended:  # the slice that owns the broken member reports it
                    self.extent.overrun = None
                    return
                self.damage.append(event)
            elif ended:
                text, newline, _ = event.partition(b"\n")
                self.extent.overrun = (self.extent.overrun or 0) + len(text) + len(newline)
                self._add(text)
                if newline:
                    yield from self._close_line(1)
                    return
            else:
                self.extent.own += len(event)
                yield from self._lines(event)
        if self._open:
            yield from self._close_line(0)

    def _ends_here(self) -> bool:
        """Whether no line is open where the own text ends."""
        if self.damage and (self._skip is None or self.damage[-1].end == self.extent.end):
            self.extent.overrun = None
            return True
        if self._skip is None:
            self.extent.skipped = None
            return True
        self.extent.overrun = self._skip
        return self._skip > 0 or not self._open

    def _drop_line(self) -> None:
        """What was open when the text broke off is part of the damage."""
        self.extent.text += self._open
        self._parts, self._open, self._skip, self._passing = [], 0, None, False

    def _lines(self, text: bytes) -> Iterator[tuple[int, int, bytes]]:
        if self._skip != 0:
            text = self._after_skip(text)
        head, *whole = text.split(b"\n")
        self._add(head)
        if not whole:
            return
        yield from self._close_line(1)
        last = whole.pop()
        extent, longest = self.extent, self._max_line
        for line in whole:
            if len(line) > longest:
                self._add(line)
                yield from self._close_line(1)
                continue
            yield extent.text, extent.lines, line
            extent.text += len(line) + 1
            extent.lines += 1
        self._add(last)

    def _after_skip(self, text: bytes) -> bytes:
        """``text`` without what belongs to the slice before, or to damage."""
        if self._skip is not None:
            taken = min(self._skip, len(text))
            self._skip -= taken
            return text[taken:]
        text = b"".join(self._parts) + text
        self._parts, self._open = [], 0
        if not self._passing and _LINE_START.match(text):
            self._skip = 0
            return text
        newline = text.find(b"\n")
        if newline >= 0:
            self._skip = 0
        elif not self._passing and len(text) < _ENOUGH:
            return text  # too little to tell: kept for the next piece
        passed = newline + 1 or len(text)
        self._passing = newline < 0
        if self.damage:
            self.extent.text += passed
        else:
            assert self.extent.skipped is not None
            self.extent.skipped += passed
        return text[passed:]

    def _add(self, text: bytes) -> None:
        self._open += len(text)
        if self._open <= self._max_line or len(self._parts) == 0:
            self._parts.append(text)

    def _close_line(self, newline: int) -> Iterator[tuple[int, int, bytes]]:
        extent = self.extent
        offset, number, size = extent.text, extent.lines, self._open
        extent.text += size + newline
        extent.lines += 1
        parts, self._parts, self._open = self._parts, [], 0
        if size <= self._max_line:
            yield offset, number, parts[0] if len(parts) == 1 else b"".join(parts)
            return
        reason = f"longer than --max-line, {self._max_line:,} bytes"
        head = parts[0][:200].decode("utf-8", "replace")
        self.long_lines.append(Reject(offset, number, size, reason, head))

    # --- where the text comes from

    def _events(self) -> Iterator[bytes | _OwnEnd | Damage]:
        if self.slice.path == STDIN:
            return self._stream_events(sys.stdin.buffer)
        return self._file_events()

    def _file_events(self) -> Iterator[bytes | _OwnEnd | Damage]:
        with open(self.slice.path, "rb") as file:
            if self.slice.form == "json":
                yield from self._plain_events(file)
            else:
                yield from self._member_events(file)

    def _plain_events(self, file: IO[bytes]) -> Iterator[bytes | _OwnEnd]:
        start, end = self.slice.start, self.slice.end
        if self._skip is None:
            file.seek(start - 1)
            if file.read(1) == b"\n":
                self._skip = 0
        file.seek(start)
        position = start
        while position < end:
            data = file.read(min(_INFLATE, end - position))
            if not data:
                break
            position += len(data)
            self._tick(len(data))
            yield data
        yield _OwnEnd(end)
        while data := file.read(_READ):
            yield data

    def _member_events(self, file: IO[bytes]) -> Iterator[bytes | _OwnEnd | Damage]:
        slice_ = self.slice
        begin = slice_.first
        if begin is None:
            begin = 0 if slice_.start == 0 else self._find(file, slice_.start, slice_.end)
        if begin is None or begin >= slice_.end:
            self.extent = Extent(end=slice_.end)
            return
        self.extent.first = at = begin
        ended = False
        while at < slice_.size and not self._is_padding(file, at):
            if at >= slice_.end and not ended:
                yield _OwnEnd(at)
                ended = True
            if at in self._corrupt:
                yield self._corrupt[at]
                at = self._corrupt[at].end
                continue
            try:
                at = yield from _member_text(file, slice_.form, at, self._tick)
            except _BrokenError as error:
                following = self._find(file, at + 1, slice_.size)
                # what runs into the end of the file with members behind it isn't cut off but wrong
                corrupt = slice_.form == "gz" and (error.corrupt or following is not None)
                start = at if corrupt else error.at
                at = slice_.size if following is None else following
                yield Damage(slice_.path, start, at, str(error), corrupt)
        if not ended:
            yield _OwnEnd(max(at, slice_.size))

    def _find(self, file: IO[bytes], start: int, end: int) -> int | None:
        return find_member(file, start, end) if self.slice.form == "gz" else None

    def _is_padding(self, file: IO[bytes], at: int) -> bool:
        """Zeros behind the last member, which tapes and block devices leave and gzip ignores."""
        file.seek(at)
        data = file.read(4)
        if data.strip(b"\0"):
            return False
        while data := file.read(_INFLATE):
            if data.strip(b"\0"):
                return False
        return True

    def _stream_events(self, file: IO[bytes]) -> Iterator[bytes | _OwnEnd | Damage]:
        """Standard input: members one after the other, without going back."""
        form = self.slice.form
        at = position = 0
        inflater, data = _Inflater(form), b""
        while data := data or file.read(_READ):
            position += len(data)
            self._tick(len(data))
            if at == position - len(data) and form != "json" and not data.strip(b"\0"):
                at, data = position, b""  # padding behind the last member
                continue
            try:
                yield from _inflate(inflater, data, at, position)
            except _BrokenError as error:
                yield Damage(STDIN, at, position, f"{error}; what follows was not read")
                return
            data = b""
            if inflater.eof:
                data = inflater.unused
                position -= len(data)
                at, inflater = position, _Inflater(form)
        if form != "json" and position > at:
            yield Damage(STDIN, at, position, f"the input ends inside the member at byte {at}")
        yield _OwnEnd(position)
