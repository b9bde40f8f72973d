"""--keep-dump: the bytes that workers fetch also become a file, checked by its published sum.

NAME.part has the dump's length from the beginning; workers write what they fetch at its own
offset. A slice of the build is done only when all of its bytes are on the disk there, so the
finished slices are the state of the download, and a resume fetches the rest. The sums follow the
part's finished beginning in a thread, beside the workers; when all is there and they are the
published ones, the part becomes NAME by rename.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from etl.download import ALGORITHMS, check_room, check_sum, kept_name, lock_part, published_sum
from etl.dump import Slice
from etl.manifest import flush, write_json
from etl.progress import Progress
from etl.remote import is_http, public, session_of
from etl.source import Access, Part

_PIECE: Final = 1 << 20


class _Standing(msgspec.Struct, frozen=True):
    """NAME.part.json: of which version the part is, and which part it is."""

    address: str
    length: int
    etag: str
    last_modified: str
    id: str


def keep(access: Access, directory: Path | None) -> Keeping:
    """Begins, or goes on, to keep the http(s) addresses of a run in ``directory``; None: nowhere.

    Raises UserError where another run writes the same file or the disk has no room for it.
    """
    keeping = Keeping(access)
    try:
        for address in access.remotes if directory is not None else ():
            if is_http(address):
                assert directory is not None
                directory.mkdir(parents=True, exist_ok=True)
                keeping.add(address, directory / f"{kept_name(address)}.part")
    except BaseException:
        keeping.close()
        raise
    return keeping


class Keeping:
    """The parts of a run: locked while it lasts, summed while they grow, renamed at the end.

    ``access`` is what the workers are to be given.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._files: dict[str, int] = {}
        self._sums: dict[str, _Sums] = {}

    def __enter__(self) -> Keeping:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for sums in self._sums.values():
            sums.stop()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def add(self, address: str, path: Path) -> None:
        """Opens and locks a part; one of another version, or of which bytes are lost, is new."""
        remote = self.access.remotes[address]
        assert remote.length is not None
        descriptor = self._files[address] = lock_part(path)
        state = path.with_name(f"{path.name}.json")
        standing = _read(state)
        wanted = _Standing(
            public(address),
            remote.length,
            remote.etag,
            remote.last_modified,
            standing.id if standing is not None else "",
        )
        for left in state.parent.glob(f"{state.name}.*.tmp"):
            left.unlink(missing_ok=True)  # of a run that was killed
        status = os.fstat(descriptor)
        if standing != wanted or not remote.validator or status.st_size != remote.length:
            os.ftruncate(descriptor, 0)
            wanted = msgspec.structs.replace(wanted, id=uuid.uuid4().hex)
            write_json(state, msgspec.to_builtins(wanted))
            os.ftruncate(descriptor, remote.length)
        check_room(path.parent, path.stem, remote.length, os.fstat(descriptor).st_blocks * 512)
        parts = {**self.access.parts, address: Part(str(path), wanted.id)}
        self.access = msgspec.structs.replace(self.access, parts=parts)
        self._sums[address] = _Sums(path)

    def part_id(self, slice_: Slice) -> str:
        """What the report of a slice must name to be done; ``""`` where nothing is kept."""
        part = self.access.parts.get(slice_.path)
        return part.id if part is not None else ""

    def follow(self, slices: Iterable[Slice], done: Iterable[int]) -> None:
        """Tells the sums how far from its beginning each dump is there."""
        finished = set(done)
        broken: set[str] = set()
        for slice_ in slices:
            if slice_.index not in finished:
                broken.add(slice_.path)
            elif slice_.path not in broken and slice_.path in self._sums:
                self._sums[slice_.path].advance(slice_.end)

    def check(self, forget: Callable[[], None], *, quiet: bool = False) -> dict[str, str]:
        """address → the algorithm by which a whole part was checked; no entry without a sum.

        Raises UserError for a sum that differs; the part then stands as NAME.wrong, and before
        that ``forget`` was called to remove what was made of it.
        """
        checked = {}
        for address, sums in self._sums.items():
            with session_of(self.access.agent) as session:
                algorithm, expected = published_sum(session, self.access.addresses[address])
            if algorithm:
                length = self.access.remotes[address].length or 0
                found = sums.finish(length, quiet=quiet)
                if found[algorithm] != expected:
                    forget()
                check_sum(sums.path, algorithm, expected, found[algorithm])
                checked[address] = algorithm
        return checked

    def settle(self) -> None:
        """Gives whole and checked parts their names."""
        for sums in self._sums.values():
            sums.path.rename(sums.path.with_suffix(""))
            sums.path.with_name(f"{sums.path.name}.json").unlink()
            flush(sums.path.parent, [])


def _read(state: Path) -> _Standing | None:
    try:
        return msgspec.json.decode(state.read_bytes(), type=_Standing)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class _Sums:
    """The sums of a file that grows, in a thread: hashlib lets the interpreter go on meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, Any] = {
            name: hashlib.new(name, usedforsecurity=False) for name in ALGORITHMS
        }
        self._end = self._done = 0
        self._stopped = False
        self._error: OSError | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self, end: int) -> None:
        with self._news:
            self._end = max(self._end, end)
            self._news.notify_all()

    def finish(self, length: int, *, quiet: bool) -> dict[str, str]:
        """Hex digests of the first ``length`` bytes, all of which are there."""
        self.advance(length)
        with Progress("checking", length, done=self._done, quiet=quiet) as progress, self._news:
            while self._done < length and self._error is None:
                self._news.wait()
                progress.add(self._done - progress.done)
        self.stop()
        if self._error is not None:
            raise self._error
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def stop(self) -> None:
        with self._news:
            self._stopped = True
            self._news.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self.path.open("rb", buffering=0) as file:
                while (wanted := self._wanted()) > 0:
                    piece = file.read(min(wanted, _PIECE))
                    if not piece:
                        raise OSError(f"{self.path} was cut off while it was written")
                    for digest in self._digests.values():
                        digest.update(piece)
                    with self._news:
                        self._done += len(piece)
                        self._news.notify_all()
        except OSError as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _wanted(self) -> int:
        """Bytes that are there and not yet summed; 0 when it is time to leave."""
        with self._news:
            while self._end == self._done and not self._stopped:
                self._news.wait()
            return 0 if self._stopped else self._end - self._done
