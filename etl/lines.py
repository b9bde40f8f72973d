"""The lines of one slice, whole, wherever the slice's ends fall."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import IO

import msgspec

from etl.bzip2 import Blocks
from etl.dump import DEFAULT_MAX_LINE, STDIN, Damage, Extent, Reject, Slice
from etl.members import (
    INFLATE,
    LINE_START,
    READ,
    BrokenError,
    GzipMembers,
    Inflater,
    Members,
    inflate,
)
from etl.progress import Tick
from etl.standard_input import Pushback, standard_input
from etl.zstd import Frames

#: A line's bytes, owned or as a view of what was inflated.
Line = bytes | memoryview

_PATIENCE = 32  # broken members in a row, before what was read of the last is passed over
_ENOUGH = 64  # bytes that tell whether a text begins on a line
_AROUND = frozenset(b", \t\r\n")


def entity_text(line: Line) -> Line:
    """A line without the comma and the white space around it, not copied."""
    start, end = 0, len(line)
    while end > start and line[end - 1] in _AROUND:
        end -= 1
    while start < end and line[start] in _AROUND:
        start += 1
    return line[start:end]


class _OwnEnd(msgspec.Struct):
    """What follows belongs to the next slices; their first member begins at ``offset``."""

    offset: int


class _Proof(msgspec.Struct):
    """A member's checksum was right: all of its text may be used."""


_Event = bytes | _OwnEnd | _Proof | Damage

_MEMBERS: dict[str, Callable[[IO[bytes], int, Tick], Members]] = {
    "gz": GzipMembers,
    "bz2": Blocks,
    "zst": Frames,
}


class SliceReader:
    """Iterates over the lines of one slice; afterwards ``extent``, ``damage`` and ``long_lines``.

    A line comes as (offset, number, bytes): its place in the slice's text, and its bytes without
    the newline, mostly as a view of what was inflated: copying every line would cost a sixth of
    the reading. Who keeps a line keeps ``bytes(line)``.

    A line over ``max_line`` bytes is not kept in memory and comes as a Reject in ``long_lines``.
    ``tick`` is called with the compressed bytes of every read.

    Lines of a corrupt member come before its checksum shows what it is. Read such a slice again
    with ``corrupt``, the damage that was found: those members then give no text.

    ``source`` is the dump where the caller has opened it (:func:`etl.source.open_source`) and is
    left open; without one the slice's path is opened as a local file.

    Raises OSError where the file can't be read.
    """

    def __init__(
        self,
        slice_: Slice,
        max_line: int = DEFAULT_MAX_LINE,
        tick: Tick | None = None,
        corrupt: Iterable[Damage] = (),
        source: IO[bytes] | None = None,
    ) -> None:
        self.slice = slice_
        self._source = source
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

    def __iter__(self) -> Iterator[tuple[int, int, Line]]:
        ended = whole = False  # the own text; the line that it leaves open
        for event in self._events():
            if isinstance(event, _OwnEnd):
                self.extent.end, ended = event.offset, True
                if self._ends_here():
                    return
            elif isinstance(event, Damage):
                if whole and not event.corrupt:  # of a member that is cut off behind the line
                    break
                self._drop_line()
                if ended:  # the slice that owns the broken member reports it
                    self.extent.overrun = None
                    return
                self.damage.append(event)
            elif isinstance(event, _Proof):
                if whole:
                    break
            elif not ended:
                self.extent.own += len(event)
                yield from self._lines(event)
            elif not whole:
                text, newline, _ = event.partition(b"\n")
                self.extent.overrun = (self.extent.overrun or 0) + len(text) + len(newline)
                self._add(text)
                whole = bool(newline)
        if self._open or whole:
            yield from self._close_line(int(whole))

    def _ends_here(self) -> bool:
        """Whether no line is open where the own text ends."""
        if self.damage and (self._skip is None or self.damage[-1].end == self.extent.end):
            self.extent.overrun = None
            return True
        if self._skip is None:
            self.extent.skipped = self.extent.overrun = None
            return True
        self.extent.overrun = self._skip
        return self._skip > 0 or not self._open

    def _drop_line(self) -> None:
        """What was open when the text broke off is part of the damage."""
        self.extent.text += self._open
        self._parts, self._open, self._skip, self._passing = [], 0, None, False

    def _lines(self, text: bytes) -> Iterator[tuple[int, int, Line]]:
        if self._skip != 0:
            text = self._after_skip(text)
        find = text.find
        end = find(b"\n")
        if end < 0:
            self._add(text)
            return
        self._add(text[:end])
        yield from self._close_line(1)
        whole, start = memoryview(text), end + 1
        extent, longest = self.extent, self._max_line
        while (end := find(b"\n", start)) >= 0:
            size = end - start
            if size > longest:
                self._add(text[start:end])
                yield from self._close_line(1)
            else:
                yield extent.text, extent.lines, whole[start:end]
                extent.text += size + 1
                extent.lines += 1
            start = end + 1
        self._add(text[start:])

    def _after_skip(self, text: bytes) -> bytes:
        """``text`` without what belongs to the slice before, or to damage."""
        if self._skip is not None:
            taken = min(self._skip, len(text))
            self._skip -= taken
            return text[taken:]
        text = b"".join(self._parts) + text
        self._parts, self._open = [], 0
        if not self._passing and LINE_START.match(text):
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

    def _close_line(self, newline: int) -> Iterator[tuple[int, int, Line]]:
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

    def _events(self) -> Iterator[_Event]:
        if self.slice.path != STDIN:
            return self._file_events()
        stream = standard_input()
        return iter(()) if stream is None else self._stream_events(stream)

    def _file_events(self) -> Iterator[_Event]:
        with nullcontext(self._source) if self._source else open(self.slice.path, "rb") as file:
            if self.slice.form == "json":
                yield from self._plain_events(file)
            else:
                yield from self._member_events(file)

    def _plain_events(self, file: IO[bytes]) -> Iterator[_Event]:
        start, end = self.slice.start, self.slice.end
        if self._skip is None:
            file.seek(start - 1)
            if file.read(1) == b"\n":
                self._skip = 0
        file.seek(start)
        position = start
        while position < end:
            data = file.read(min(INFLATE, end - position))
            if not data:
                break
            position += len(data)
            self._tick(len(data))
            yield data
        yield _OwnEnd(end)
        while data := file.read(READ):
            yield data
            yield _Proof()

    def _member_events(self, file: IO[bytes]) -> Iterator[_Event]:
        slice_ = self.slice
        members = _MEMBERS[slice_.form](file, slice_.size, self._tick)
        begin = slice_.first
        if begin is None:
            begin = 0 if slice_.start == 0 else members.find(slice_.start, slice_.end)
        if begin is None or begin >= slice_.end:
            self.extent = Extent(end=slice_.end)
            return
        self.extent.first = at = begin
        ended, broken = False, 0
        while not members.done(at):
            if slice_.end <= at < slice_.size and not ended:
                yield _OwnEnd(at)
                ended = True
            damage = self._corrupt.get(at)
            if damage is None:
                try:
                    at = yield from members.text(at)
                    yield _Proof()
                    broken = 0
                    continue
                except BrokenError as error:
                    damage = self._damage(members, at, error, broken)
            yield damage
            broken += 1
            at = damage.end
            if at == slice_.size:
                break
        if not ended:
            yield _OwnEnd(max(at, slice_.size))

    def _damage(self, members: Members, at: int, error: BrokenError, broken: int) -> Damage:
        # where many members break in a row they may be one inside the other: not looked into again
        resume = error.resume if (broken + 1) % _PATIENCE else max(error.resume, error.at)
        following = members.find(resume, self.slice.size)
        # what runs into the end of the file with members behind it isn't cut off but wrong
        corrupt = members.late and (error.corrupt or following is not None)
        start = at if corrupt else error.at
        end = self.slice.size if following is None else following
        return Damage(self.slice.path, start, end, str(error), corrupt)

    def _stream_events(self, file: Pushback) -> Iterator[_Event]:
        """Standard input: members one after the other, without going back."""
        form = self.slice.form
        at = position = 0
        inflater, data = Inflater(form), b""
        while data := data or file.read(READ):
            position += len(data)
            self._tick(len(data))
            if at == position - len(data) and form != "json" and not data.strip(b"\0"):
                at, data = position, b""  # padding behind the last member
                continue
            try:
                yield from inflate(inflater, data, at, position)
            except BrokenError as error:
                yield Damage(STDIN, at, position, f"{error}; what follows was not read")
                return
            data = b""
            if inflater.eof:
                data = inflater.unused
                position -= len(data)
                at, inflater = position, Inflater(form)
        if form != "json" and position > at:
            yield Damage(STDIN, at, position, f"the input ends inside the member at byte {at}")
        yield _OwnEnd(position)
