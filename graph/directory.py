"""The directory of a graph data set: what may stand in it, and how a build replaces what does.

A build writes into `.building` inside it, under a lock, and moves its files into place when all are
complete: the old manifest goes first and the new one comes last, so that a directory with a
manifest always holds what that says.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from etl.errors import UserError
from etl.manifest import MANIFEST, flush, read_manifest, write_manifest
from etl.store import REDIRECTS

#: What a build writes, in the order of its stages.
OUTPUTS: Final = (
    "entities.parquet",
    "memberships.parquet",
    "hierarchy.parquet",
    "attributes.parquet",
    "queries.parquet",
    "queries.jsonl",
    "quality.parquet",
)

#: The directory inside a data set in which a build writes until its files are complete.  Inside, so
#: that moving them never crosses to another file system, whatever `out` is a link to or a mount of.
BUILDING: Final = ".building"

#: Answers of language models, which a build reads and never touches.
ENRICH: Final = "enrich"

# What may stand in a directory of ours: anything else is not ours to write into.
_OURS = frozenset({*OUTPUTS, ENRICH, BUILDING, MANIFEST})

_ATTEMPTS = 100  # at the lock, before a directory that others keep removing counts as taken


def check_out(out: Path) -> None:
    """Refuse a directory that a data set may not be written into.

    Raises
    ------
    UserError : it is a file, holds what no data set has, or is another step's.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a new directory or that of an earlier graph.")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in _OURS)
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]!r}, which no graph data set has: "
            "name a new directory or that of an earlier graph."
        )
    if (out / MANIFEST).exists():
        read_manifest(out, "graph")  # refuses another step's directory


def _clear(directory: Path) -> None:
    """Remove what a build writes, and nothing else."""
    for name in (*OUTPUTS, MANIFEST):
        (directory / name).unlink(missing_ok=True)
    for temporary in directory.glob(f"{MANIFEST}.*.tmp"):
        temporary.unlink()


def check_store_of(graph: Path, manifest: dict[str, Any], store: Path) -> None:
    """Refuse a store that is another than a data set, by its manifest, was built from.

    Raises
    ------
    UserError : there is no finished store, or its records or redirects are others.
    """
    origin, found = manifest["store"], read_manifest(store, "store")
    redirects = origin["outputs"].get(REDIRECTS), found["outputs"].get(REDIRECTS)
    if origin["contents"] != found["contents"] or redirects[0] != redirects[1]:
        raise UserError(f"{graph} was not built from {store}: name its store, or build it again.")


@contextmanager
def building(
    out: Path, command: str = "sparqless graph", clear: Callable[[Path], None] = _clear
) -> Iterator[Path]:
    """Give an empty directory inside `out`, locked against another build, gone at the end.

    What a killed build left there is removed by the next, by `clear`.  An `out` that was made for a
    build that fails is removed.  `command` is whose build it is, for the message.
    """
    out = out.resolve()
    made = not out.exists()
    directory = out / BUILDING
    lock = _locked(directory, out, command)
    try:
        clear(directory)
        yield directory
    finally:
        clear(directory)
        with suppress(OSError):  # what isn't ours stays, and so does what holds it
            directory.rmdir()
            if made:
                out.rmdir()  # fails where the build did not
        os.close(lock)


def _locked(directory: Path, out: Path, command: str) -> int:
    """Make a directory and lock it; return the file descriptor that holds the lock.

    A build that ends removes its directory.  Whoever opened it before that then locks a directory
    that is gone, and has to begin again.
    """
    taken = UserError(f"another `{command}` is writing {out}: wait for it.")
    for _ in range(_ATTEMPTS):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed between two calls
        except (FileExistsError, NotADirectoryError):
            raise UserError(
                f"{directory} is a file, and a build needs a directory of that name: remove it."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(directory)):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise taken from None
        except FileNotFoundError:
            pass
        os.close(lock)
    raise taken


def publish(
    directory: Path,
    out: Path,
    names: Iterable[str],
    manifest: dict[str, Any],
    gone: Iterable[str] = (),
) -> None:
    """Move the finished files `names` from `directory` to `out`; what else is there stays.

    But for `gone`: files that an earlier one had and this one hasn't.
    """
    names = list(names)
    write_manifest(directory, manifest)
    flush(directory, names)
    (out / MANIFEST).unlink(missing_ok=True)
    for name in gone:
        (out / name).unlink(missing_ok=True)
    for name in (*names, MANIFEST):
        (out / name).parent.mkdir(exist_ok=True)
        (directory / name).rename(out / name)
