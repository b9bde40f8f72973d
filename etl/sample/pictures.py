"""A small web for the sample's addresses, on loopback: ``python -m etl.sample.pictures COMMAND…``

Answers for hosts below .test, which nobody can have (RFC 6761, section 6.2), while COMMAND runs,
with options added to it that lead it here: so ``make images`` ends in real shards, and asks nobody.
The pictures are drawn from the files' names and say "invented". Some addresses are answered
as the web answers: SOURCES.md says which, and how.

    python -m etl.sample.pictures sparqless images fetch --images DIR --contact you@example.org
"""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from PIL import Image

from etl.sample.drawing import FORMATS, blank, drawing, encoded, page, scene
from etl.sample.files import File, read_files
from etl.sample.framing import some_number

#: Where the sample's files of Commons are; commons.toml beside this has the same hosts.
FILES: Final = "files.sample.test"
THUMBNAILS: Final = "thumbnails.sample.test"
#: Hosts of addresses.tsv.
MUSEUM: Final = "museum.test"
GARDEN: Final = "garden.test"
BUSY: Final = "busy.test"  # asks for time until tomorrow
DOWN: Final = "down.test"  # where nothing listens
INSIDE: Final = "inside.test"  # which leads into a private network

_LOOPBACK: Final = "127.0.0.1"
_PRIVATE: Final = "10.0.0.7"

#: Whom nobody needs to spare, by what download/fetch/manners.toml calls a group.
_GROUPS: Final = ("sample.test", MUSEUM, GARDEN, BUSY, DOWN, INSIDE)
_PACE: Final = "connections = 32\nper_second = 10_000\nburst = 10_000\n"

#: Type → what a server says it is.
_TYPES: Final = {
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}


@dataclass(frozen=True)
class Answer:
    """What is sent for an address."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


_NOT_FOUND: Final = Answer(404, {"Content-Type": "text/plain"}, b"There is no such picture.\n")
_ERROR_PAGE: Final = Answer(
    200,
    {"Content-Type": "text/html"},
    b"<!DOCTYPE html><title>Busy</title><p>Too many people look at our pictures.</p>\n",
)


def answer(host: str, target: str) -> Answer:
    """What ``host`` says to a request for ``target``, a path and what may stand behind it."""
    path = unquote(target.partition("?")[0])
    if path == "/robots.txt":
        return Answer(200, {"Content-Type": "text/plain"}, _robots(host).encode())
    if host == FILES:
        return _original(path)
    if host == THUMBNAILS:
        return _thumbnail(path)
    if host == BUSY:
        return Answer(429, {"Retry-After": str(24 * 3_600)})
    return _elsewhere(path) if host in (MUSEUM, GARDEN) else _NOT_FOUND


# --- files of Commons ---

_ORIGINAL: Final = re.compile(r"/commons/(?P<place>./../(?P<name>[^/]+))")
#: The forms that download/commons.py lists: page1-500px-A.pdf.jpg, 500px--A.webm.jpg …
_THUMBNAIL: Final = re.compile(
    r"/commons/thumb/(?P<place>./../(?P<name>[^/]+))"
    r"/(?:lossy-)?(?:page1-)?(?P<width>[1-9][0-9]{0,3})px-[^/]+\.(?P<ending>[a-z]+)",
    re.IGNORECASE,
)


@cache
def _files() -> dict[str, File]:
    """The files by where they stand, ``h/hh/name`` with underscores (FileRepo::getHashPath)."""
    placed = {}
    for file in read_files():
        name = file.name.replace(" ", "_")
        digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
        placed[f"{digest[0]}/{digest[:2]}/{name}"] = file
    return placed


def _original(path: str) -> Answer:
    found = _ORIGINAL.fullmatch(path)
    file = _files().get(found["place"]) if found else None
    ending = path.rpartition(".")[2].lower()
    if file is None or ending not in FORMATS:  # an SVG or a book is nothing that anybody asks for
        return _NOT_FOUND
    return _of_file(file, file.width, file.height, ending)


def _thumbnail(path: str) -> Answer:
    found = _THUMBNAIL.fullmatch(path)
    file = _files().get(found["place"]) if found else None
    if found is None or file is None or not file.width or "no-thumbnail" in file.quirks:
        return _NOT_FOUND
    width, scales = int(found["width"]), file.name.endswith(".svg")
    if width >= file.width and not scales:  # Wikimedia refuses it
        return Answer(400, {"Content-Type": "text/plain"}, b"Wider than the original.\n")
    return _of_file(file, width, max(width * file.height // file.width, 1), found["ending"].lower())


def _of_file(file: File, width: int, height: int, ending: str) -> Answer:
    if ending not in FORMATS or "no-file" in file.quirks:
        return _NOT_FOUND
    if "error-page" in file.quirks:
        return _ERROR_PAGE
    picture = _maker(file)(file.name, width, height)
    body = encoded(picture, ending)
    if "cut" in file.quirks:
        body = body[: len(body) // 2]
    return _picture(body, ending, {"X-Robots-Tag": "noai"} if "noai" in file.quirks else {})


def _maker(file: File) -> Callable[[str, int, int], Image.Image]:
    if "blank" in file.quirks:
        return blank
    ending = file.name.rpartition(".")[2].lower()
    return {"svg": drawing, "djvu": page, "pdf": page}.get(ending, scene)


def _picture(body: bytes, ending: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, {"Content-Type": _TYPES[FORMATS[ending]], **(headers or {})}, body)


def _robots(host: str) -> str:
    lines = ["User-agent: *"]
    for place, file in _files().items():
        if "disallowed" in file.quirks and host in (FILES, THUMBNAILS):
            folder = "/commons/thumb/" if host == THUMBNAILS else "/commons/"
            lines.append(f"Disallow: {folder}{quote(place)}")
    lines.append("Disallow: /closed/")
    return "\n".join(lines) + "\n"


# --- elsewhere ---


def _elsewhere(path: str) -> Answer:
    """``/how/name``: the name decides what is seen, and ``how`` what becomes of it."""
    how, _, name = path.removeprefix("/").partition("/")
    ending = name.rpartition(".")[2].lower()
    if not name.startswith("Sample") or ending not in FORMATS or how not in _HOW:
        return _NOT_FOUND
    return _HOW[how](name)


def _seen(name: str) -> Image.Image:
    """What there is of a name: as on Commons, where it has a file of this name."""
    known = next((file for file in _files().values() if file.name == name), None)
    if known is not None:
        return scene(name, 800, max(800 * known.height // known.width, 1))
    return scene(name, *((800, 600), (600, 800))[some_number(f"elsewhere {name}", 2)])


def _plain(name: str, headers: Mapping[str, str] | None = None) -> Answer:
    ending = name.rpartition(".")[2].lower()
    return _picture(encoded(_seen(name), ending), ending, headers)


def _small(name: str) -> Answer:
    """As somebody saved it who had no room."""
    picture = _seen(name)
    picture.thumbnail((400, 400))
    return _picture(encoded(picture, "jpg", quality=60), "jpg")


def _cut(name: str) -> Answer:
    whole = _plain(name)
    return Answer(whole.status, whole.headers, whole.body[: len(whole.body) // 2])


def _turned(name: str) -> Answer:
    """Pixels lie on their side, and the file says so, as cameras do (EXIF, orientation 6)."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    _seen(name).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=85, exif=exif)
    return _picture(file.getvalue(), "jpg")


def _for_print(name: str) -> Answer:
    return _picture(encoded(_seen(name).convert("CMYK"), "jpg"), "jpg")


def _deep(name: str) -> Answer:
    """Gray, with 16 bits a pixel, as scanners write it."""
    gray = _seen(name).convert("L").convert("I")
    return _picture(encoded(gray.point(lambda value: value * 257).convert("I;16"), "png"), "png")


def _moved(where: str) -> Callable[[str], Answer]:
    return lambda name: Answer(302, {"Location": f"{where}{quote(name)}"})


_HOW: Final[Mapping[str, Callable[[str], Answer]]] = {
    "pictures": _plain,
    "small": _small,
    "turned": _turned,
    "print": _for_print,
    "deep": _deep,
    "cut": _cut,
    "closed": _plain,
    "noai": lambda name: _plain(name, {"X-Robots-Tag": "noai, noimageai"}),
    "reserved": lambda name: _plain(name, {"tdm-reservation": "1"}),
    "busy": lambda _: _ERROR_PAGE,
    "gone": lambda _: Answer(410),
    "members": lambda _: Answer(403),
    "moved": _moved(f"http://{GARDEN}/pictures/"),
    # where a cloud tells a machine its secrets
    "trap": _moved("http://169.254.169.254/"),
}


# --- the server, and the command that is led to it ---


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """The command has its own words for what happens."""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0].lower()
        found = answer(host, self.path)
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        self.wfile.write(found.body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Who hangs up has seen enough."""


@contextmanager
def serving() -> Iterator[Sequence[str]]:
    """Serves until the block is left; gives the options that lead ``images fetch`` here."""
    with (
        _Server((_LOOPBACK, 0), _Handler) as server,
        socket.socket() as closed,
        tempfile.TemporaryDirectory() as folder,
    ):
        closed.bind((_LOOPBACK, 0))  # taken, and nobody listens
        manners = Path(folder) / "manners.toml"
        manners.write_text("".join(f'[group."{name}"]\n{_PACE}' for name in _GROUPS), "utf-8")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield _options(server.server_address[1], closed.getsockname()[1], manners)
        finally:
            server.shutdown()
            thread.join()


def _options(port: int, closed: int, manners: Path) -> list[str]:
    places = dict.fromkeys((FILES, THUMBNAILS, MUSEUM, GARDEN, BUSY), f"{_LOOPBACK}:{port}")
    places |= {DOWN: f"{_LOOPBACK}:{closed}", INSIDE: _PRIVATE}
    options = ["--manners", str(manners)]
    for host, place in places.items():
        options += ["--resolve", f"{host}:{place}"]
        if host != INSIDE:
            options += ["--allow-host", host]
    return options


def main(command: Sequence[str]) -> int:
    """Runs ``command`` with the options that lead it here; its exit code."""
    if not command:
        sys.stderr.write(f"{(__doc__ or '').splitlines()[0]}\n")
        return 2
    with serving() as options:
        child = subprocess.Popen([*command, *options])  # noqa: S603 - what the caller typed
        # Ctrl-C reaches the command, too; it says how to go on, and needs a server to the end
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
