"""What guards a directory that is written for hours: one run at a time, a full disk in words."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from etl.errors import UserError, is_disk_full
from etl.show import in_bytes
from etl.store import LOCK


@contextmanager
def locked(directory: Path, option: str = "--store") -> Iterator[None]:
    """One run on a directory at a time; the lock goes with the process, however it ends.

    Raises UserError where another run has it; ``option`` is what names the directory.
    """
    with (directory / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            file.seek(0)
            raise UserError(
                f"{directory} is being written by another run (process {file.read().strip()}); "
                f"wait for it or choose another {option}."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _is_full(error: lmdb.Error) -> bool:
    return any(sign in str(error).lower() for sign in ("input/output", "no space", "too large"))


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """A full disk in the user's words; everything finished so far stays for the next start."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        # LMDB reports a failed write as an input/output error, whatever the reason
        if not (is_disk_full(error) if isinstance(error, OSError) else _is_full(error)):
            raise
        free = in_bytes(shutil.disk_usage(directory).free)
        raise UserError(
            f"{directory}: the disk (or a file size limit) is full ({error}; {free} free). What is "
            "done is kept: make room and run the same command again."
        ) from error
