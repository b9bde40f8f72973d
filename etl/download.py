"""Fetch a dump whole into a file, from a server that doesn't serve ranges, and check its sums.

What has arrived stands in NAME.part; NAME appears by rename when all of it is there. Where a
server does serve ranges, workers read the dump while it comes (:mod:`etl.remote`) and
:mod:`etl.keep` keeps it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import requests

from etl.errors import UserError
from etl.manifest import digest_of_file, flush
from etl.progress import Progress
from etl.remote import (
    BROKEN,
    cause,
    file_name,
    get,
    look,
    may_go_on,
    public,
    published,
    session_of,
    version_in,
    wait,
)

#: Sums that Wikimedia publishes beside a dated dump, the stronger first → their digits.
ALGORITHMS: Final = {"sha1": 40, "md5": 32}

_PIECE: Final = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\Z")
_DATED = re.compile(r"(wikidata-\d{8})-")


def kept_name(address: str) -> str:
    """Under which name the file behind an address is kept.

    Raises UserError where the address doesn't end in the name of a file.
    """
    name = file_name(address)
    if not _NAME.match(name):
        raise UserError(f"{public(address)} does not end in the name of a file.")
    return name


def fetch(address: str, directory: Path, agent: str, *, quiet: bool = False) -> tuple[Path, str]:
    """Brings the file behind ``address`` into ``directory``; returns it and how it was checked.

    Checked is ``sha1`` or ``md5`` where sums are published, else ``length``, else ``nothing``.
    A break starts over: a server without ranges gives a file from its beginning only.

    Raises UserError for a server that refuses, a connection that keeps breaking, a sum that
    differs; OSError where the disk is full.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / kept_name(address)
    part = target.with_name(f"{target.name}.part")
    with session_of(agent) as session:
        remote, _ = look(session, address)
        check_room(directory, target.name, remote.length or 0, 0)
        locked = lock_part(part)
        try:
            attempt = 0
            while not _fetched(session, address, part, attempt, quiet):
                attempt += 1
            algorithm, expected = published_sum(session, address)
            if algorithm:
                size = part.stat().st_size
                with Progress(f"checking {algorithm}", size, quiet=quiet) as progress:
                    found = digest_of_file(part, progress.add, algorithm)
                check_sum(part, algorithm, expected, found)
            flush(directory, [part.name])
            part.rename(target)
            flush(directory, [])
        finally:
            os.close(locked)
    return target, algorithm or ("length" if remote.length is not None else "nothing")


def _fetched(
    session: requests.Session, address: str, part: Path, attempt: int, quiet: bool
) -> bool:
    """One request for all of a file; False where the connection broke."""
    try:
        with get(session, address, {}) as response:
            if not may_go_on(response, address, attempt):
                return False
            length = version_in(response).length
            with (
                part.open("wb") as file,
                Progress(f"fetching {part.stem}", length, quiet=quiet) as progress,
            ):
                while piece := response.raw.read(_PIECE, decode_content=False):
                    file.write(piece)
                    progress.add(len(piece))
                if length is not None and file.tell() != length:
                    raise requests.ConnectionError(f"{file.tell():,} of {length:,} bytes came")
    except BROKEN as error:
        wait(attempt, address, cause(error))
        return False
    return True


def lock_part(path: Path) -> int:
    """Opens a part, made where there is none, for this run alone; its descriptor.

    Raises UserError where another run writes it, or has given it its name meanwhile.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    raise UserError(
        f"{path} is being written by another run; wait for it or choose another --keep-dump."
    )


def check_room(directory: Path, name: str, length: int, there: int) -> None:
    """Raises UserError where a disk has no room for a file of which ``there`` bytes stand."""
    free = shutil.disk_usage(directory).free + there
    if length > free:
        raise UserError(
            f"{name} has {length:,} bytes and the disk of {directory} has room for {free:,}; "
            "choose another --keep-dump."
        )


# --- sums ---------------------------------------------------------------------------------------


def published_sum(session: requests.Session, address: str) -> tuple[str, str]:
    """(algorithm, hex digest) that is published for a file, ``("", "")`` where none is."""
    name = file_name(address)
    dated = _DATED.match(name)
    for algorithm, digits in ALGORITHMS.items() if dated else ():
        assert dated is not None
        sums = urljoin(address, f"{dated[1]}-{algorithm}sums.txt")
        expected = published(session, sums, name)
        if re.fullmatch(rf"[0-9a-f]{{{digits}}}", expected):
            return algorithm, expected
    return "", ""


def check_sum(part: Path, algorithm: str, expected: str, found: str) -> None:
    """Raises UserError where a fetched file is not what is published, and moves it aside."""
    if found == expected:
        return
    wrong = part.with_suffix(".wrong")
    part.rename(wrong)
    raise UserError(
        f"{part.with_suffix('')}: its {algorithm} is not the one that is published; it now stands "
        f"as {wrong.name}. Run the same command again to fetch it anew."
    )
