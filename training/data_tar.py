"""Reading a shard: the images that are wanted, one after the other, whatever the tar has suffered.

    approach(file, keys, 5000)                          # where only what is behind is wanted
    for place, found in read(file, keys[5000:], wanted):
        ...  # Sample, or Damage

webdataset's own reader, on Python's tarfile, takes 98 µs for a sample of three members of which
this one needs 19 (an image takes some 900 to decode and cut); it has no place to skip from, and
ends with the first block that is broken. Here what isn't wanted is passed by a seek, or leapt over
to where an image must be, and a header that can't be read costs its own sample: the next one is
looked for, block by block.

Only what `images pack` writes is understood: plain members with short names, a key's side by
side, in the order of keys. What isn't found in that order is missing.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Final, NamedTuple

_BLOCK: Final = 512
_EMPTY: Final = bytes(_BLOCK)
_ENDING: Final = 2  # empty blocks that end a tar, or more
_MAGIC: Final = b"ustar"  # POSIX.1-1988, at 257
_FILES: Final = (b"0", b"\0")  # typeflags of plain files

_MEMBERS: Final = ("jpg", "json")  # that an image needs

#: No member is larger: one and a half bytes for each pixel of the largest image that Pillow opens.
#: A header that says more is broken, and what it says isn't to be asked of the memory.
_LARGEST: Final = 1 << 28

#: So near to an image it is walked to, ...
_NEAR: Final = 1 << 20
#: ... and it is looked for no more often: where sizes differ so much, something is odd.
_LOOKS: Final = 16

#: Why an image can't be used, and what that means.
REASONS: Final[dict[str, str]] = {
    "missing": "the shard doesn't have it, or not in its place",
    "cut_off": "the shard ends in the middle of it",
    "unreadable": "the disk doesn't give it",
    "no_jpg": "the shard has no KEY.jpg of it",
    "no_json": "the shard has no KEY.json of it",
    "broken_jpg": "its KEY.jpg is damaged",
    "broken_json": "its KEY.json is damaged",
    "no_text": "there is no text for it",
}


class Sample(NamedTuple):
    """An image as it is in a shard."""

    key: str
    jpg: bytes
    json: bytes


class Damage(NamedTuple):
    """An image that can't be used; ``reason`` is one of :data:`REASONS`."""

    key: str
    reason: str
    detail: str = ""


class _CutOffError(Exception):
    """The file ends within a member."""


def read(
    file: IO[bytes], keys: Sequence[str], wanted: Sequence[int]
) -> Iterator[tuple[int, Sample | Damage]]:
    """(place in ``keys``, what was found) for each key that is wanted, in their order.

    ``keys`` ascend. What stands behind the last that is wanted isn't looked at. An OSError of the
    file is damage of all that it doesn't give.
    """
    due = _Due(keys, wanted)
    reason, detail = "missing", ""
    try:
        for key, members in _samples(file, due):
            place = due.place_of(key)
            while due and due.place < place:
                yield due.place, Damage(due.key, "missing")
                due.advance()
            if due.place == place:
                due.advance()
                yield place, _sample(key, members)
            if not due:
                return
    except _CutOffError:
        reason = "cut_off"
    except OSError as error:
        reason, detail = "unreadable", error.strerror or str(error)
    while due:
        yield due.place, Damage(due.key, reason, detail)
        due.advance()


class _Due:
    """The images that are still to be found, in the order of their keys."""

    def __init__(self, keys: Sequence[str], wanted: Sequence[int]) -> None:
        self._keys, self._wanted = keys, wanted
        #: Of the next of them; "" and beyond all after the last.
        self.key, self.place = "", -1
        self.advance()

    def __bool__(self) -> bool:
        return self.place < len(self._keys)

    def advance(self) -> None:
        """Lets the next be the one behind it."""
        keys, wanted = self._keys, self._wanted
        self.place = next((n for n in range(self.place + 1, len(keys)) if wanted[n]), len(keys))
        self.key = keys[self.place] if self else ""

    def place_of(self, key: str) -> int:
        """Where one that is due stands; -1 for what isn't."""
        if key <= self.key:
            return self.place if key == self.key else -1
        at = bisect_left(self._keys, key, self.place)
        is_due = at < len(self._keys) and self._keys[at] == key and self._wanted[at]
        return at if is_due else -1


def approach(file: IO[bytes], keys: Sequence[str], place: int) -> None:
    """Brings a file before the image at ``place`` of all the ``keys`` of its shard, and near it.

    Images are of about one size, so a few looks find it, where passing what is before would read
    half a shard. Where the file says nothing of its length, it stays at its beginning.
    """
    low, high, first, end = 0, 0, 0, len(keys)
    with suppress(OSError):  # an error on the way isn't one where the image is
        high = file.seek(0, io.SEEK_END)
        for _ in range(_LOOKS):
            ahead = (high - low) * (place - first) // (end - first)
            if ahead <= _NEAR:
                break
            guess = (low + ahead - _NEAR // 2) // _BLOCK * _BLOCK
            file.seek(guess)
            key, at = _next_key(file)
            if key and key < keys[place]:
                low, first = at, min(bisect_left(keys, key), place)
            else:
                high, end = guess, max(bisect_left(keys, key) if key else end, place + 1)
    file.seek(low)


def _next_key(file: IO[bytes]) -> tuple[str, int]:
    """Whose the next member is, from anywhere, and where its header is; "" where none is.

    What an image is of may look like a header, and would lead astray: one isn't believed where no
    other, nor the end, is behind its member.
    """
    try:
        header = _header(file)
        if header is None:
            return "", 0
        name, size = header
        at = file.tell() - _BLOCK
        file.seek(-(-size // _BLOCK) * _BLOCK, 1)
        behind = file.read(_BLOCK)
    except _CutOffError:
        return "", 0
    return (
        (name.partition(".")[0], at) if behind == _EMPTY or _size(behind) is not None else ("", 0)
    )


def _sample(key: str, members: dict[str, bytes]) -> Sample | Damage:
    for ending in _MEMBERS:
        if ending not in members:
            return Damage(key, f"no_{ending}")
    return Sample(key, members["jpg"], members["json"])


def _samples(file: IO[bytes], due: _Due) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each key that is due with its members, which stand side by side."""
    key, members = "", dict[str, bytes]()
    while header := _header(file):
        name, size = header
        stem, _, ending = name.partition(".")
        if stem != key:
            if members:
                yield key, members  # not all of them
            key, members = stem, {}
        padded = -(-size // _BLOCK) * _BLOCK
        if ending not in _MEMBERS or due.place_of(stem) < 0:
            file.seek(padded, 1)
            continue
        data = file.read(padded)
        if len(data) < size:
            raise _CutOffError
        members[ending] = data[:size]
        if len(members) == len(_MEMBERS):
            yield key, members
            members = {}
    if members:
        yield key, members


def _header(file: IO[bytes]) -> tuple[str, int] | None:
    """Name and size of the next plain member, from anywhere; None at the end of the tar.

    Empty blocks are the end where nothing is behind them: within the tar they are a header, or
    more, that the disk has lost, and what is found mustn't depend on where the file was entered.

    Raises _CutOffError where the file ends before the tar does.
    """
    empty = 0
    while True:
        block = file.read(_BLOCK)
        if len(block) < _BLOCK:
            if empty >= _ENDING:
                return None
            raise _CutOffError
        empty = empty + 1 if block == _EMPTY else 0
        size = _size(block)
        if size is None:
            continue  # broken: the next block that is a header, if there is one
        if block[156:157] in _FILES:
            return block[:100].rstrip(b"\0").decode("utf-8", "replace"), size
        file.seek(-(-size // _BLOCK) * _BLOCK, 1)


def _size(block: bytes) -> int | None:
    """The size of the member whose header this is; None where it is none."""
    if block[257:262] != _MAGIC:
        return None
    size, told = _octal(block[124:136]), _octal(block[148:156])
    # the sum of its bytes, with blanks for the sum itself
    if size is None or sum(block) - sum(block[148:156]) + 8 * 32 != told:
        return None
    return size if size <= _LARGEST else None


def _octal(field: bytes) -> int | None:
    """A number of a header; None where it is none, or has a sign: no size is below 0."""
    digits = field.strip(b"\0 ")
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None
