"""Slices that other machines have read: put into a shared place there, taken from it here.

The place is a folder of any file system that fsspec knows (s3://bucket/runs, gs://…, a directory
that every machine sees). Object stores can't rename, so a slice's files are put into a folder of
their own and ``done.json`` is written last: a slice is there if and only if ``done.json`` is, and
the files that it lists have the sizes that it says.

    LOCATION/<digest of the plan>/000012/done.json
                                        /<attempt>/report.json, run-0000.arrow, …
                                 /known     of a build with --update-from: the older store's ids
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import msgspec

from etl.errors import UserError, is_disk_full
from etl.manifest import discard, flush
from etl.progress import Tick
from etl.runs import SliceJob, SliceReport, read_report, read_slice
from etl.slices import slice_directory
from etl.source import is_elsewhere

DONE: Final = "done.json"
KNOWN: Final = "known"

_LARGEST_LIST = 1 << 20  # bytes of a done.json; ours have some hundred
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # of a file; anything else is not from put_slice
_INDEX = re.compile(r"\d{6,}", re.ASCII)


class Done(msgspec.Struct, frozen=True):
    """What ``done.json`` says: the folder of the files, and name → bytes."""

    attempt: str
    files: dict[str, int]


def settled(location: str, option: str = "--runs") -> str:
    """LOCATION as every machine understands it: a path without a scheme becomes absolute.

    Raises UserError for an address with a password, which would end up in logs; ``option`` is what
    names it.
    """
    if "://" not in location:
        return str(Path(location).absolute())
    if urlsplit(location).password:
        raise UserError(
            f"{option} holds a password, which other users of the machines could see; give it by "
            "the environment or a configuration file of the storage's own."
        )
    return location.rstrip("/")


def put_slice(location: str, index: int, directory: Path) -> None:
    """Copies the files of a finished slice into the place, ``done.json`` last."""
    files, root = _opened(location)
    attempt = uuid.uuid4().hex
    folder = f"{root}/{index:06d}"
    _make_folder(files, f"{folder}/{attempt}")
    sizes = {}
    for path in sorted(directory.iterdir()):
        files.put_file(str(path), f"{folder}/{attempt}/{path.name}")
        sizes[path.name] = path.stat().st_size
    files.pipe_file(f"{folder}/{DONE}", msgspec.json.encode(Done(attempt, sizes)))


def take_slice(location: str, index: int, work: Path) -> SliceReport | None:
    """Brings a slice here, into place as if it had been read here; None where it isn't whole.

    Raises OSError where the disk of this machine is full, UserError where the place can't be
    reached.
    """
    temporary = work / f"tmp-{index:06d}-{os.getpid()}"
    try:
        with reaching(location):
            if not _fetch(location, index, temporary):
                return None
        flush(temporary, [path.name for path in temporary.iterdir()])
        final = slice_directory(work, index)
        discard(final)  # of a start that turned out wrong
        temporary.rename(final)
        if Path(location).is_relative_to(work):
            shutil.rmtree(f"{location}/{index:06d}")  # the same disk need not hold it twice
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_report(work, index)


def _fetch(location: str, index: int, directory: Path) -> bool:
    """Whether all of a slice is in ``directory`` now."""
    files, root = _opened(location)
    folder = f"{root}/{index:06d}"
    try:
        done = msgspec.json.decode(
            files.cat_file(f"{folder}/{DONE}", start=0, end=_LARGEST_LIST), type=Done
        )
        if not all(_NAME.fullmatch(name) for name in (done.attempt, *done.files)):
            return False
        directory.mkdir()
        for name, size in done.files.items():
            files.get_file(f"{folder}/{done.attempt}/{name}", str(directory / name))
            if (directory / name).stat().st_size != size:
                return False
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return True


def put_known(location: str, known: str) -> str:
    """Puts a file of known revisions (:attr:`~etl.runs.SliceJob.known`) there; its new name."""
    with reaching(location):
        files, root = _opened(location)
        _make_folder(files, root)
        files.put_file(known, f"{root}/{KNOWN}")
    return f"{location}/{KNOWN}"


def slices_at(location: str) -> list[int]:
    """Indices of slices of which something is there; :func:`take_slice` knows which are whole."""
    with reaching(location):
        files, root = _opened(location)
        try:
            names = [path.rstrip("/").rsplit("/", 1)[-1] for path in files.ls(root, detail=False)]
        except FileNotFoundError:
            return []
    return sorted(int(name) for name in names if _INDEX.fullmatch(name))


def remove(location: str) -> None:
    """Removes the folder with all that is in it."""
    with reaching(location):
        files, root = _opened(location)
        try:
            files.rm(root, recursive=True)
        except FileNotFoundError:
            return


def leave_token(location: str) -> str:
    """Writes a small file for :func:`has_token`; its name."""
    with reaching(location):
        files, root = _opened(location)
        token = f"token-{uuid.uuid4().hex}"
        _make_folder(files, root)
        files.pipe_file(f"{root}/{token}", token.encode())
    return token


def has_token(location: str, token: str) -> bool:
    """Whether this machine finds what another left: whether both mean the same place."""
    with reaching(location):
        files, root = _opened(location)
        try:
            return bool(files.cat_file(f"{root}/{token}") == token.encode())
        except FileNotFoundError:
            return False


def remove_token(location: str, token: str) -> None:
    """Removes what :func:`leave_token` left."""
    with reaching(location):
        files, root = _opened(location)
        files.rm_file(f"{root}/{token}")


@contextmanager
def opened(location: str, name: str) -> Iterator[IO[bytes]]:
    """A file of a directory of this machine or of a LOCATION that fsspec knows, to be read.

    Raises UserError where a place that isn't this machine's can't be reached.
    """
    if not is_elsewhere(location):
        with (Path(location) / name).open("rb") as file:
            yield file
        return
    import fsspec

    with reaching(location), fsspec.open(f"{location.rstrip('/')}/{name}", "rb") as file:
        yield file


@contextmanager
def reaching(location: str) -> Iterator[None]:
    """What a storage raises, and each has its own, as one sentence; a full disk stays itself."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{location} can't be used from {socket.gethostname()} ({said}); what is done is "
            "kept: see that it exists, that it may be read and written there and that the "
            "package for it is installed (`s3fs` for s3://), and run the same command again."
        ) from error


def _opened(location: str) -> tuple[Any, str]:
    """The file system of a place, and the path in it; what was listed earlier is forgotten."""
    import fsspec

    files, root = fsspec.url_to_fs(location)
    files.invalidate_cache()
    return files, root


def _make_folder(files: Any, path: str) -> None:
    """Object stores need no folders, and s3fs would make the bucket of a misspelt address."""
    if "file" in files.protocol:
        files.makedirs(path, exist_ok=True)


# --- on the other machine -----------------------------------------------------------------------


def read_slice_to(job: SliceJob, tick: Tick, location: str) -> None:
    """Reads one slice and puts it into the place; the task of the ingest on a node.

    Raises UserError that names the machine where the dump can't be read, its disk is full or the
    place can't be reached.
    """
    prefix = f"{location.rsplit('/', 1)[-1]}-{job.slice.index:06d}-"
    folder = _node_folder()
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)  # of a worker that was killed
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as scratch:
        try:
            known = _known_here(job.known, location, folder)
            read_slice(msgspec.structs.replace(job, directory=scratch, known=known), tick)
        except OSError as error:
            raise UserError(_why(error, job.slice.path)) from error
        try:
            with reaching(location):
                put_slice(
                    location, job.slice.index, slice_directory(Path(scratch), job.slice.index)
                )
        except OSError as error:
            raise UserError(f"{location} is full ({error}); make room there.") from error


def _node_folder() -> Path:
    """Where a node keeps what it is at; nobody else on the machine may put anything there."""
    folder = Path(tempfile.gettempdir()) / f"sparqless-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} on {socket.gethostname()} belongs to somebody else; remove it.")
    return folder


def _known_here(known: str, location: str, folder: Path) -> str:
    """The file of known revisions, fetched by the first worker of a node that needs it."""
    if known != f"{location}/{KNOWN}":
        return known
    path = folder / f"{location.rsplit('/', 1)[-1]}-{KNOWN}"
    with Path(f"{path}.lock").open("w") as lock, reaching(location):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for left in folder.glob(f"*-{KNOWN}"):
                left.unlink(missing_ok=True)  # of an earlier build; who has it mapped keeps it
            files, root = _opened(location)
            files.get_file(f"{root}/{KNOWN}", f"{path}.tmp")
            Path(f"{path}.tmp").rename(path)
    return str(path)


def _why(error: OSError, path: str) -> str:
    node = socket.gethostname()
    if is_disk_full(error):
        return (
            f"{node}: the disk of {tempfile.gettempdir()} is full ({error}); make room there, or "
            "start its Ray with another TMPDIR."
        )
    return (
        f"{path} can't be read on {node} ({error.strerror or error}); put the dump where every "
        "node finds it under this name, or give an address such as s3://bucket/dump.json.gz."
    )
