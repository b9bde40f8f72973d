"""Fetch a dump over HTTP into a file, going on where a broken connection or a kill left off.

What has arrived stands in NAME.part, with the server's validators (ETag, Last-Modified, length) in
NAME.part.json; NAME appears by rename when all of it is there. A link such as latest-all.json.gz
may move to the next dump between two requests: ranges are asked for with ``If-Range``, so that two
dumps never end in one file.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests

from etl import config
from etl.errors import UserError
from etl.manifest import digest_of_file, write_json
from etl.progress import Progress

_TIMEOUT: Final = (30, 60)  # seconds to connect, seconds without a byte
_PIECE: Final = 64 << 10  # what a broken connection can cost
_TRIES: Final = 6  # in a row without one new byte
_FIRST_TRIES: Final = 2  # to reach a server at all
_BACKOFF: Final = 2.0  # seconds, doubled at each try
_LONGEST_WAIT: Final = 900.0  # seconds; a longer Retry-After is for the user to decide
_SUMS_LIMIT: Final = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\Z")
_DATED = re.compile(r"(wikidata-\d{8})-")
_REDIRECTS: Final = 5
_TRY_AGAIN: Final = (429, 500, 502, 503, 504)
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

pause: Callable[[float], None] = time.sleep


class Remote(msgspec.Struct):
    """What the server said of the file: its length in bytes and the validators of this version."""

    url: str
    length: int | None
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """For ``If-Range``: a strong ETag, else the date; ``""`` where there is neither."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else ""
        return strong or self.last_modified


def is_url(name: str) -> bool:
    """Whether a DUMP argument is to be fetched."""
    return name.startswith(("http://", "https://"))


def fetch_dumps(
    names: tuple[str, ...], directory: Path, contact: str | None, *, quiet: bool = False
) -> tuple[str, ...]:
    """DUMP arguments, with every address replaced by the file fetched into ``directory``.

    Raises what :func:`fetch` raises, and UserError where there is an address and no contact.
    """
    if not any(map(is_url, names)):
        return names
    agent = config.contact(contact)
    return tuple(
        str(fetch(name, directory, agent, quiet=quiet)[0]) if is_url(name) else name
        for name in names
    )


def fetch(url: str, directory: Path, contact: str, *, quiet: bool = False) -> tuple[Path, str]:
    """Bring the file behind ``url`` into ``directory``; returns it and how it was checked.

    Checked is ``sha1`` or ``md5`` where Wikimedia publishes sums beside a dated dump, else
    ``length``, else ``nothing``. A file that is there is complete, since it appears by rename: it
    is used as it is, ``kept``, and the server isn't asked. A link to the latest dump moves every
    week; what a store was made from must not be replaced behind its back.

    Raises UserError for a server that refuses, a connection that keeps breaking, a sum that
    differs; OSError where the disk is full. What has arrived stays.
    """
    name = urlsplit(url).path.rpartition("/")[2]
    if not _NAME.match(name):
        raise UserError(f"{url} does not end in the name of a file.")
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / name
    if target.exists():
        return target, "kept"
    with requests.Session() as session:
        session.max_redirects = _REDIRECTS
        library = requests.utils.default_user_agent()
        agent = f"sparqless/{version('sparqless')} ({contact}) {library}"
        session.headers.update({"User-Agent": agent, "Accept-Encoding": "identity"})
        remote = _look(session, url)
        _fetch_parts(session, remote, target, quiet)
        checked = _check_sums(session, url, target, quiet)
    return target, checked or ("length" if remote.length is not None else "nothing")


def _look(session: requests.Session, url: str) -> Remote:
    for attempt in range(_TRIES):
        try:
            response = session.head(url, timeout=_TIMEOUT, allow_redirects=True)
        except _BROKEN as error:
            if attempt == _FIRST_TRIES - 1:
                raise UserError(f"{url}: no connection ({_cause(error)}).") from error
            pause(_BACKOFF)
            continue
        except requests.RequestException as error:
            raise UserError(f"{url}: {error}.") from error
        if _may_go_on(response, url, attempt):
            return _remote(response, url)
    raise AssertionError("_wait gives up first")


def _cause(error: BaseException) -> str:
    """The innermost reason: requests wraps what the system said in three layers."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def _remote(response: requests.Response, url: str) -> Remote:
    length = response.headers.get("Content-Length", "")
    return Remote(
        url,
        int(length) if length.isdecimal() and len(length) < 19 else None,
        response.headers.get("ETag", ""),
        response.headers.get("Last-Modified", ""),
    )


def _fetch_parts(session: requests.Session, remote: Remote, target: Path, quiet: bool) -> None:
    part = target.with_name(f"{target.name}.part")
    state = target.with_name(f"{target.name}.part.json")
    if not (part.exists() and _standing(state) == remote and remote.validator):
        part.unlink(missing_ok=True)
        write_json(state, msgspec.to_builtins(remote))
    free = shutil.disk_usage(target.parent).free + _size(part)
    if remote.length is not None and remote.length > free:
        raise UserError(
            f"{target.name} has {remote.length:,} bytes and the disk of {target.parent} has room "
            f"for {free:,}; choose another --keep-dump."
        )
    attempt = 0
    with Progress(f"fetching {target.name}", remote.length, quiet=quiet) as progress:
        progress.add(_size(part))
        while remote.length is None or _size(part) < remote.length:
            before = _size(part)
            try:
                ended = _fetch_piece(session, remote, part, progress, attempt)
            except _BROKEN:
                ended = False
            if _size(part) == before and not (ended and remote.length is None):
                _wait(attempt, remote.url, "no byte came")
            attempt = 0 if _size(part) > before else attempt + 1
            if ended and remote.length is None:
                break
    part.rename(target)
    state.unlink()


def _standing(state: Path) -> Remote | None:
    try:
        return msgspec.json.decode(state.read_bytes(), type=Remote)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_piece(
    session: requests.Session, remote: Remote, part: Path, progress: Progress, attempt: int
) -> bool:
    """One request, from where the part ends; whether the server came to an end by itself."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-", "If-Range": remote.validator} if have else {}
    with session.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if not _may_go_on(response, remote.url, attempt):
            return False
        _check_same(response, remote, have)
        if have and response.status_code == 200:  # the server doesn't do ranges
            part.unlink()
            progress.add(-have)
        with part.open("ab") as file:
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                progress.add(len(piece))
                if remote.length is not None and file.tell() > remote.length:
                    raise UserError(
                        f"{remote.url} sends more than the {remote.length:,} bytes it announced; "
                        "try again later, or another mirror."
                    )
    return True


def _check_same(response: requests.Response, remote: Remote, have: int) -> None:
    """Refuses to put the bytes of another version behind those that have arrived."""
    total = _remote(response, remote.url).length
    if response.status_code == 206:
        span = re.match(r"bytes (\d+)-\d+/(\d+|\*)\Z", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != have:
            raise UserError(f"{remote.url} answers another range than was asked for; try a mirror.")
        total = int(span[2]) if span[2] != "*" else remote.length
    if remote.length is not None and total is not None and total != remote.length:
        raise UserError(
            f"{remote.url} now is another file ({total:,} bytes, {remote.length:,} before): a link "
            "to the latest dump has moved. Run the same command again, or name the dated file."
        )


def _may_go_on(response: requests.Response, url: str, attempt: int) -> bool:
    """True for a success; waits and gives False where a later try may succeed.

    Raises UserError for the rest, with what to do.
    """
    status = response.status_code
    if status in (200, 206):
        return True
    if status in _TRY_AGAIN:
        wait = retry_after(response.headers.get("Retry-After"))
        if wait is not None and wait > _LONGEST_WAIT:
            raise UserError(
                f"{url}: the server asks to wait {wait / 60:,.0f} minutes (HTTP {status}); run the "
                "same command again then, it goes on where it stopped."
            )
        _wait(attempt, url, f"HTTP {status}", wait)
        return False
    folder = urljoin(url, ".")
    advice = {
        403: "the server refuses this client: is --contact a real address of yours?",
        404: f"there is no such file: dumps are removed after some weeks, see {folder}",
        410: f"the file is gone: see {folder} for newer ones",
    }.get(status, "see whether the address is right")
    raise UserError(f"{url}: HTTP {status}; {advice}.")


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms; None without one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _wait(attempt: int, url: str, reason: str, asked: float | None = None) -> None:
    if attempt >= _TRIES - 1:
        raise UserError(
            f"{url}: gave up after {_TRIES} tries ({reason}). What has arrived is kept: run the "
            "same command again to go on."
        )
    pause(asked if asked is not None else _BACKOFF * 2**attempt)


# --- sums ---------------------------------------------------------------------------------------


def _check_sums(session: requests.Session, url: str, target: Path, quiet: bool) -> str:
    """Name of the algorithm by which the file was checked, ``""`` where no sum is published."""
    dated = _DATED.match(target.name)
    if dated is None:
        return ""
    for algorithm in ("sha1", "md5"):
        expected = _published(session, urljoin(url, f"{dated[1]}-{algorithm}sums.txt"), target.name)
        if not expected:
            continue
        size = target.stat().st_size
        with Progress(f"checking {algorithm}", size, quiet=quiet) as progress:
            found = digest_of_file(target, progress.add, algorithm)
        if found != expected:
            wrong = target.with_name(f"{target.name}.wrong")
            target.rename(wrong)
            raise UserError(
                f"{target}: its {algorithm} is not the one that is published; it now stands as "
                f"{wrong.name}. Run the same command again to fetch it anew."
            )
        return algorithm
    return ""


def _published(session: requests.Session, url: str, name: str) -> str:
    try:
        with session.get(url, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code != 200:
                return ""
            text = response.raw.read(_SUMS_LIMIT).decode("ascii", "replace")
    except requests.RequestException:
        return ""
    lines = (line.split() for line in text.splitlines())
    return next((f[0].lower() for f in lines if len(f) == 2 and f[1].lstrip("*") == name), "")
