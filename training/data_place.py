"""A place elsewhere that shards are read from, which now and then doesn't answer."""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Callable
from typing import Final, TypeVar

from etl.errors import UserError
from etl.location import reaching

Answer = TypeVar("Answer")

#: Seconds before a place that didn't answer is asked again, each time. A storage's own client
#: tries some times before that.
WAITS: Final = (1.0, 5.0, 20.0, 60.0)

_PASSING: Final = (408, 429)  # that a web server says to whom it answers later, as 500 and above


def asked(
    address: str,
    what: Callable[[], Answer],
    let_go: Callable[[], None] = lambda: None,
    *,
    tries: int | None = None,
) -> Answer:
    """An answer, though the place fails now and then; FileNotFoundError is one, too.

    ``let_go`` is called whenever it failed. ``tries``: fewer, of a place that may not be there.

    Raises UserError where it goes on failing, or this machine opens no more files.
    """
    for pause in (*(WAITS if tries is None else WAITS[: tries - 1]), None):
        try:
            return what()
        except Exception as error:  # each storage has its own
            reason = _reason(error)
            if isinstance(reason, FileNotFoundError):
                raise
            let_go()
            refuse_more_files(address, reason)
            if pause is None:
                with reaching(address):
                    raise reason  # noqa: B904 - it is the error, or its cause
            time.sleep(pause)
    raise AssertionError("the last time it is raised")


def _reason(error: Exception) -> Exception:
    """The error, or what it hides: fsspec says FileNotFoundError of all that a web server says."""
    if not isinstance(error, FileNotFoundError):
        return error
    import aiohttp

    cause = error.__cause__
    if not isinstance(cause, aiohttp.ClientError | TimeoutError):
        return error
    status = getattr(cause, "status", 500)  # none: nobody answered
    return cause if status >= 500 or status in _PASSING else error


def refuse_more_files(address: str, error: Exception) -> None:
    """Raises UserError where a file can't be opened because too many are: nothing is damaged."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise UserError(
            f"{address} can't be opened, as a process may have {allowed:,} files open here and has "
            "them: raise the limit (`ulimit -n`, nofile in limits.conf), or set data.workers to "
            "24, 12 or 8, of which each opens fewer."
        ) from error
    if number == errno.ENFILE:
        raise UserError(
            f"{address} can't be opened, as all processes of this machine have too many files "
            "open: end what has many, or raise fs.file-max."
        ) from error


def allow_open_files(needed: int) -> None:
    """Raises the soft limit of open files to ``needed``, or as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
