"""Where the bytes of a dump come from: a file of this machine, or a place that is only reached.

An http(s) address is read by :mod:`etl.remote`, any other ``scheme://`` (s3, gs, …) by fsspec.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import msgspec

from etl import config
from etl.download import fetch, kept_name
from etl.errors import UserError
from etl.remote import (
    MissingError,
    Remote,
    RemoteFile,
    changed,
    dated,
    is_behind,
    is_http,
    look,
    no_ranges,
    public,
    session_of,
    user_agent,
)

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


class Part(msgspec.Struct, frozen=True):
    """A file to which fetched bytes are also written; ``id`` tells it from one begun anew."""

    path: str
    id: str


class Kept(msgspec.Struct, frozen=True):
    """Where a local file came from, and what it was compared with now, besides its own checksums.

    ``checked`` is sha1, md5, length or nothing.
    """

    address: str
    checked: str = "nothing"
    remote: Remote | None = None


class Access(msgspec.Struct, frozen=True):
    """What a worker needs to reach dumps that are no local files; travels with its job.

    ``remotes`` are the versions that the run was planned with, ``addresses`` what http servers are
    asked for, ``parts`` where it is kept while it is read: all by the path that the rest of a run
    knows, an address without the query and the password that it may have. ``kept`` are the local
    files among the dumps that were addresses, by their paths.
    """

    agent: str = ""  # User-Agent of requests
    remotes: dict[str, Remote] = {}
    addresses: dict[str, str] = {}
    parts: dict[str, Part] = {}
    kept: dict[str, Kept] = {}


def is_elsewhere(name: str) -> bool:
    """Whether a DUMP argument is an address, ``scheme://…``, and not a file of this machine."""
    return _SCHEME.match(name) is not None


def reach(
    names: tuple[str, ...],
    contact: str | None,
    keep_dump: Path | None,
    *,
    begun: Sequence[str] = (),
    may_fetch: bool = True,
    quiet: bool = False,
) -> tuple[tuple[str, ...], Access]:
    """DUMP arguments as they are to be read, and what reading them takes.

    A link to the latest dump becomes the dated file; ``begun`` are the addresses of a build that
    is to be gone on with, and decide where the link has moved since. A file of that name in
    ``keep_dump`` is taken as it is, without asking the server: it is complete, since it appears
    by rename. From a server without ranges a file is first fetched whole into ``keep_dump``.

    Raises UserError where an address can't be read, or there is no contact to ask with.
    """
    found: list[str] = []
    remotes: dict[str, Remote] = {}
    addresses: dict[str, str] = {}
    local: dict[str, Kept] = {}
    agent = ""
    for name in names:
        if not is_elsewhere(name):
            found.append(name)
            continue
        address, remote, ranges = name, None, True
        _check_address(name)
        if is_http(name):
            address = next((a for a in begun if is_behind(a, name)), name)
            kept = _kept(address, keep_dump)
            if kept is None:
                agent = agent or user_agent(config.contact(contact, here=_is_here(name)))
                address, remote, ranges = _reach_http(name, address, agent)
                kept = _kept(address, keep_dump)
            if kept is None and not ranges:
                if keep_dump is None or not may_fetch:
                    raise no_ranges(address)
                path, checked = fetch(address, keep_dump, agent, quiet=quiet)
                kept, local[str(path)] = str(path), Kept(public(address), checked, remote)
            if kept is not None:
                local.setdefault(kept, Kept(public(address)))
                found.append(kept)
                continue
        shown = public(address) if is_http(address) else address
        remotes[shown], addresses[shown] = remote or _info(address), address
        found.append(shown)
    return tuple(found), Access(agent, remotes, addresses, kept=local)


def _check_address(name: str) -> None:
    try:
        secret = urlsplit(name).password
    except ValueError as error:
        raise UserError(
            f"an address of a dump is no address ({error}); see its spelling."
        ) from error
    if secret and not is_http(name):
        raise UserError(
            f"{public(name)} was given with a password, which would be shown and recorded; give it "
            "by the environment or a configuration file of the storage's own."
        )


def _is_here(address: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(address).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _kept(address: str, keep_dump: Path | None) -> str | None:
    if keep_dump is None:
        return None
    path = keep_dump / kept_name(address)
    return str(path) if path.exists() else None


def _reach_http(name: str, address: str, agent: str) -> tuple[str, Remote, bool]:
    """The file that is meant, its version, and whether the server gives ranges of it."""
    with session_of(agent) as session:
        if address == name:
            address = dated(session, name)
        try:
            remote, ranges = look(session, address)
        except MissingError as error:
            if address == name:
                raise
            raise UserError(
                f"{error} The build in --store was begun with it; --fresh starts over with the "
                f"dump that {public(name)} names now."
            ) from error
    return address, remote, ranges and remote.length is not None


# --- reading ------------------------------------------------------------------------------------


def open_source(path: str, access: Access, ahead: int = 0) -> IO[bytes]:
    """A dump opened for reading and seeking.

    ``ahead`` is the offset up to which it is going to be read for sure, 0 if that isn't known.

    Raises OSError, or UserError of a place that is only reached, where it can't be read.
    """
    if is_http(path):
        address, remote, part = access.addresses[path], access.remotes[path], access.parts.get(path)
        return cast(
            IO[bytes], RemoteFile(address, remote, access.agent, ahead, part.path if part else "")
        )
    if is_elsewhere(path):
        system, name = _file_system(path)
        return cast(IO[bytes], system.open(name, "rb"))
    return open(path, "rb")


def keep_slice(file: IO[bytes] | None, path: str, start: int, end: int, access: Access) -> str:
    """Has all bytes of a slice in its dump's part; returns the part's id, ``""`` without one."""
    part = access.parts.get(path)
    if part is None:
        return ""
    assert isinstance(file, RemoteFile)
    file.keep(start, end)
    return part.id


def check_version(path: str, access: Access) -> None:
    """Asks again for the version of an address.

    Raises UserError where it is another than before. A file that was removed since is no other:
    every answer while it was there was of the version.
    """
    before = access.remotes[path]
    try:
        if is_http(path):
            with session_of(access.agent) as session:
                now, _ = look(session, access.addresses[path])
        else:
            now = _info(path)
    except MissingError:
        return
    difference = before.difference(now)
    if difference:
        raise changed(path, difference)


def mtime_ns(remote: Remote) -> int:
    """Last-Modified in nanoseconds since 1970; 0 where there is none."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return int(parse(remote.last_modified).timestamp()) * 1_000_000_000
        except (ValueError, OverflowError):
            continue
    return 0


# --- fsspec -------------------------------------------------------------------------------------


def _file_system(path: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it."""
    try:
        system, name = importlib.import_module("fsspec.core").url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{public(path)}: {str(error).rstrip('.')}; addresses other than http and https need "
            "`pip install 'sparqless[cluster]'` and what fsspec wants for this one (s3fs, gcsfs)."
        ) from error
    return system, name


def _info(path: str) -> Remote:
    system, name = _file_system(path)
    try:
        info = system.info(name)
    except FileNotFoundError as error:
        raise MissingError(f"{public(path)}: there is no such file.") from error
    except Exception as error:  # every file system has errors of its own
        raise UserError(f"{public(path)}: can't be reached ({error}).") from error
    if info.get("type") == "directory" or not isinstance(info.get("size"), int):
        raise UserError(f"{public(path)} is not a file; name the files of the dump one by one.")
    times = (info.get(key) for key in ("LastModified", "mtime", "updated", "created"))
    found = next((t for t in times if t is not None), "")
    etag = info.get("ETag") or info.get("etag") or ""
    return Remote(info["size"], str(etag), str(found))
