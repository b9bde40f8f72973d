"""Open dumps and cut them into slices that workers read on their own.

A slice is a fixed range of the compressed file. Its worker owns the members (gzip members, bz2
blocks, zstandard frames, or the bytes of plain JSON) that *begin* in the range, inflates and
splits them itself, and finishes the line that its last member leaves open. What the next slice
skips must be what this one read past its end: :class:`Cut` compares the two, and a slice that
guessed wrong is read again with the right start. So nothing is lost and nothing read twice,
whatever the file looks like. Standard input is one slice, and so is what one member holds: most
.gz and .zst files that weren't made by a parallel program.

A Wikimedia .json.gz is a member ``[``, then batches without a newline at their end, with members
``,\\n`` between them, then ``\\n]`` (operations/puppet, dumpwikibasejson.sh): most members start on
a line, the tiny ones finish one.
"""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path
from stat import S_ISREG
from typing import IO, Final, NamedTuple

import msgspec

from etl.errors import UserError
from etl.members import ZST_WINDOW, Form, first_text, form_by_magic, window_of
from etl.source import Access, is_elsewhere, mtime_ns, open_source
from etl.standard_input import standard_input


class Kind(NamedTuple):
    """A kind of dump as it is called to who gives another file, and how Wikimedia names it."""

    name: str
    file: str


WIKIDATA: Final = Kind("a Wikidata JSON dump", "wikidata-…-all.json")
MEDIAINFO: Final = Kind("the JSON dump of Commons' mediainfo", "commons-…-mediainfo.json")

STDIN: Final = "-"
DEFAULT_MAX_LINE: Final = 64_000_000

_ENDLESS = 1 << 62  # size of standard input
_HEAD_TAIL = 1 << 20
_GLANCE = 1 << 12  # bytes of standard input that its form is told by
_PACKED = ("", ".gz", ".bz2", ".zst")
_SUFFIXES = tuple(f"{name}{packed}" for name in (".json", ".ndjson") for packed in _PACKED)


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

    Members with a checksum are lost whole, since it vouches for all or nothing. One that is
    ``corrupt`` gave text before that showed (gzip, zstandard), a bz2 block gives none. Of a gzip
    or zstandard file that is cut off nothing that is there is lost: start and end are its size;
    of a bz2 file the block that is cut off.
    """

    path: str
    start: int
    end: int
    reason: str
    corrupt: bool = False


class Extent(msgspec.Struct):
    """What a slice turned out to hold. Text is counted in inflated bytes.

    Places in the file are bytes. A bz2 block begins at any bit: its place is the byte that its
    first bit is in, and no two begin in one byte.

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


def find_inputs(
    names: tuple[str, ...], access: Access | None = None, kind: Kind = WIKIDATA
) -> list[Input]:
    """Files behind names, globs and directories, in that order, each described.

    Addresses are those of ``access``, which :func:`etl.source.reach` gives.

    Raises UserError for what isn't there, is empty or isn't a dump of that kind.
    """
    paths: list[str] = []
    for name in names:
        paths.extend(_expand(name))
    if STDIN in paths and len(paths) > 1:
        raise UserError("`-` (standard input) can't be combined with files; give one or the other.")
    repeated = [p for p in dict.fromkeys(paths) if paths.count(p) > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is named twice; name every part of a dump once.")
    return [_describe(path, access or Access(), kind) for path in paths]


def _expand(name: str) -> list[str]:
    if name == STDIN or is_elsewhere(name):
        return [name]
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


def head_and_digest(file: IO[bytes], size: int) -> tuple[bytes, str]:
    """The first MiB of a file of ``size`` bytes, and the digest of its first and last MiB."""
    head = file.read(_HEAD_TAIL)
    file.seek(max(len(head), size - _HEAD_TAIL))
    return head, hashlib.sha256(head + file.read()).hexdigest()


def _describe(path: str, access: Access, kind: Kind) -> Input:
    if path == STDIN:
        stream = standard_input()
        if stream is None:
            raise UserError("`-` was given as the dump, and there is no standard input.")
        return Input(STDIN, _form_of(stream.peek(_GLANCE), "standard input", kind), 0, 0, "")
    try:
        size, modified = _size_of(path, access)
        with open_source(path, access) as file:
            head, digest = head_and_digest(file, size)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error}).") from error
    return Input(path, _form_of(head, path, kind), size, modified, digest)


def _size_of(path: str, access: Access) -> tuple[int, int]:
    """Bytes and time of the last change, in nanoseconds."""
    if is_elsewhere(path):
        remote = access.remotes[path]
        return remote.length or 0, mtime_ns(remote)
    stat = os.stat(path)
    if not S_ISREG(stat.st_mode):
        raise UserError(f"{path} is not a regular file; pipe it in and give `-` as the dump.")
    return stat.st_size, stat.st_mtime_ns


def _form_of(head: bytes, name: str, kind: Kind) -> Form:
    """The format by its first bytes; names lie. Looks at the first inflated bytes too."""
    if not head:
        raise UserError(f"{name} is empty; expected {kind.name}.")
    form = form_by_magic(head)
    if form == "zst" and (window := window_of(head)) > ZST_WINDOW:
        raise UserError(
            f"{name} was packed with a window of {window:,} bytes, and every worker would need as "
            "much memory; pipe it in: zstd -dc --long=31 FILE | sparqless etl - …"
        )
    text = first_text(head, form)
    if text is not None and text.lstrip()[:1] not in (b"[", b"{", b""):
        raise UserError(
            f"{name} is not {kind.name}: it begins with {text.lstrip()[:24]!r} where "
            f"`[` or an entity is expected; give a {kind.file}, .gz, .bz2 or .zst."
        )
    return form


def plan_slices(inputs: list[Input], slice_bytes: int) -> list[Slice]:
    """Every input cut at multiples of ``slice_bytes``; standard input stays whole."""
    slices: list[Slice] = []
    for file in inputs:
        if file.path == STDIN:
            return [Slice(0, STDIN, file.form, 0, _ENDLESS, _ENDLESS)]
        for start in range(0, max(file.size, 1), max(slice_bytes, 1)):
            end = min(start + slice_bytes, file.size)
            slices.append(Slice(len(slices), file.path, file.form, start, end, file.size))
    return slices
