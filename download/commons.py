"""Files of Wikimedia Commons: from a name to the addresses of the file and of its thumbnails.

A file's name is written as Wikidata writes it: with spaces and an upper-case first letter.
:func:`normal_name` makes it of what people write; all else takes it as it is.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from etl.errors import UserError

#: Hosts and widths that ship.
SHIPPED: Final = Path(__file__).with_name("commons.toml")

#: Pixels that an image's shorter side should have: what img2dataset's users take by default.
SHORTER_SIDE: Final = 256

#: Pages of Wikimedia Commons, where a person sees a file with its licence.
_PAGES: Final = "https://commons.wikimedia.org/wiki/"
_PAGE_HOSTS: Final = frozenset({"commons.wikimedia.org", "commons.m.wikimedia.org"})

#: Where Wikimedia serves the files of Commons and their thumbnails, besides the hosts that are set.
_FILES: Final = (
    "https://upload.wikimedia.org/wikipedia/commons",
    "https://thumb.wikimedia.org/wikipedia/commons",
)

#: The shape that an image of unknown shape is taken for: a wide one, so that it isn't too small.
_WIDE: Final = (16, 9)


@dataclass(frozen=True)
class Commons:
    """Where files are and which thumbnails there are; ``commons.toml`` says more."""

    originals: str
    thumbnails: str
    widths: tuple[int, ...]
    abbreviate_over: int
    shorter_side: int = SHORTER_SIDE


@dataclass(frozen=True)
class Addresses:
    """Where an image is fetched, and where it is tried next."""

    url: str
    fallback_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """What the thumbnail of a type of file is called, and what its original is good for.

    ``original``: "picture", one that every reader of images opens; "last", one to fetch where there
    is no thumbnail; "none", no picture at all.
    """

    before: str  # what stands before the width
    after: str  # what stands after the width, "px" and a hyphen
    extension: str  # added to the name; "" where the thumbnail is of the file's own type
    original: Literal["picture", "last", "none"]
    scales: bool = False  # drawn at any size, also one beyond its own
    doubtful: bool = False  # addresses of its thumbnails that people published differ


_PICTURE: Final = Form("", "", "", "picture")
# PagedTiffHandler. The page of a TIFF with an alpha channel shows "lossless-" and ".png"; which one
# has it isn't known here, and Thumbor takes either form of address for any TIFF.
_TIFF: Final = Form("lossy-page1-", "", ".jpg", "last")
_PAGED: Final = Form("page1-", "", ".jpg", "none")  # PdfHandler, DjVuHandler: the first page
_VIDEO: Final = Form("", "-", ".jpg", "none")  # TimedMediaHandler: a frame of the middle

#: Types of file that have a picture, by the extension of the name in lower case: those that Commons
#: takes (commons.wikimedia.org/wiki/Commons:File_types), with the thumbnails that MediaWiki's
#: handlers name and Wikimedia's Thumbor makes (operations-software-thumbor-plugins,
#: tests/integration/test_types.py).  Sound has none; .ogg may be either and is mostly sound.
FORMS: Final[Mapping[str, Form]] = {
    "jpg": _PICTURE,
    "jpeg": _PICTURE,
    "jpe": _PICTURE,
    "png": _PICTURE,
    "gif": _PICTURE,
    # Of their own type on thumb.wikimedia.org; until 2026 ".png" was added (WebPHandler).
    "webp": Form("", "", "", "picture", doubtful=True),
    "svg": Form("", "", ".png", "none", scales=True),  # SvgHandler
    "xcf": Form("", "", ".png", "none"),  # XCFHandler
    "tif": _TIFF,
    "tiff": _TIFF,
    "pdf": _PAGED,
    "djvu": _PAGED,
    "stl": Form("", "", ".png", "none"),  # Extension:3D, Thumbor's engine stl
    "ogv": _VIDEO,
    "webm": _VIDEO,
    "mpg": _VIDEO,
    "mpeg": _VIDEO,
}


def load(path: Path | None = None, shorter_side: int = SHORTER_SIDE) -> Commons:
    """Return the shipped hosts and widths, or those of a file, which has every key of the shipped.

    Raises
    ------
    UserError : the file can't be read, isn't TOML, or a key is missing, unknown or of no use.
    """
    file = path or SHIPPED
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{file} is not a TOML file: {error}.") from None
    keys = [field.name for field in fields(Commons) if field.name != "shorter_side"]
    for key in data:
        if key not in keys:
            raise UserError(f"{file}: unknown key {key!r}; the keys are {', '.join(keys)}.")
    for key in keys:
        if key not in data:
            raise UserError(f"{file}: {key} is missing; start from a copy of {SHIPPED}.")
    return Commons(
        _base(file, "originals", data["originals"]),
        _base(file, "thumbnails", data["thumbnails"]),
        _widths(file, data["widths"]),
        _positive(file, "abbreviate_over", data["abbreviate_over"]),
        shorter_side,
    )


def _base(file: Path, key: str, value: Any) -> str:
    """Return an address that names are put behind, without a slash at its end."""
    if isinstance(value, str):
        try:
            url = urlsplit(value)
            plain = not (url.query or url.fragment or url.username or url.password)
            # below .test is nobody but ourselves (RFC 6761, section 6.2): the sample's host
            safe = url.scheme == "https" or (url.scheme == "http" and _is_test(url.hostname))
            if safe and url.hostname and plain and value == value.strip(" ?#"):
                return value.rstrip("/")
        except ValueError:  # brackets without an IPv6 address
            pass
    raise UserError(
        f"{file}: {key} is {value!r}; it must be an address like "
        "https://upload.wikimedia.org/wikipedia/commons, without a query."
    )


def _is_test(host: str | None) -> bool:
    return host is not None and host.endswith(".test")


def _widths(file: Path, value: Any) -> tuple[int, ...]:
    numbers = value if isinstance(value, list) else []
    right = all(isinstance(width, int) and width is not True and width > 0 for width in numbers)
    if numbers and right and numbers == sorted(set(numbers)):
        return tuple(numbers)
    raise UserError(f"{file}: widths must be a list of pixels, from few to many, like [250, 500].")


def _positive(file: Path, key: str, value: Any) -> int:
    if isinstance(value, int) and value is not True and value > 0:
        return value
    raise UserError(f"{file}: {key} is {value!r}; it must be a number of bytes above 0.")


def form_of(file: str) -> Form | None:
    """Return how a file's thumbnails are called; None for one without a picture, as sound."""
    return FORMS.get(_extension(file))


def _extension(file: str) -> str:
    """Return the extension in lower case, as ``FileBackend::extensionFromPath`` does."""
    return file.rpartition(".")[2].lower()


def addresses(
    commons: Commons, file: str, width: int | None = None, height: int | None = None
) -> Addresses | None:
    """Return where a picture of `file` is fetched; None if it has none, as sound.

    `width` and `height`, in pixels, are of the original; None or 0 where they aren't known.  The
    address is that of the smallest thumbnail whose shorter side has `shorter_side` pixels.  As
    Wikimedia refuses one that isn't narrower than the original (400), it is then the original's,
    which is also the way out where the width isn't known.  Types that readers of images don't open
    have the widest narrower thumbnail instead (as MediaWiki does: T432193), except that an SVG is
    drawn at any width.
    """
    form = form_of(file)
    if form is None:
        return None
    path = _path(file)
    original = f"{commons.originals}/{path}"
    step = _step(commons, width, height)
    if width and width <= step and not form.scales:
        if form.original == "picture":
            return Addresses(original)
        step = max((w for w in commons.widths if w < width), default=commons.widths[0])
    url = _thumbnail(commons, file, path, form, step)
    unsure = not width or form.doubtful
    way_out = form.original == "last" or (form.original == "picture" and unsure)
    return Addresses(url, (original,) if way_out else ())


def _step(commons: Commons, width: int | None, height: int | None) -> int:
    """Return the smallest width whose shorter side has `shorter_side` pixels, or the largest.

    An image of unknown shape may be as wide as 16:9.
    """
    across, down = (width, height) if width and height else _WIDE
    needed = max(commons.shorter_side, -(-commons.shorter_side * across // down))
    return next((step for step in commons.widths if step >= needed), commons.widths[-1])


def original_url(commons: Commons, file: str) -> str:
    """Return the address of the file itself."""
    return f"{commons.originals}/{_path(file)}"


def thumbnail_url(commons: Commons, file: str, width: int) -> str | None:
    """Return the address of a thumbnail, one of `widths`; None if the file has no picture."""
    form = form_of(file)
    return None if form is None else _thumbnail(commons, file, _path(file), form, width)


def _thumbnail(commons: Commons, file: str, path: str, form: Form, width: int) -> str:
    """Return a thumbnail's address, by File::generateThumbName and FileRepo::nameForThumb."""
    if len(file.encode()) > commons.abbreviate_over:
        name = f"thumbnail.{_extension(file)}"
    else:
        name = path.rpartition("/")[2]
    before, after, extension = form.before, form.after, form.extension
    return f"{commons.thumbnails}/{path}/{before}{width}px-{after}{name}{extension}"


def _path(file: str) -> str:
    """Return "h/hh/name", h being the MD5 of the name in bytes: FileRepo::getHashPathForLevel.

    The name is encoded as PHP's rawurlencode does it (File::getUrlRel), which is what `quote` does
    by itself: all but letters, digits and ``-_.~``.
    """
    name = file.replace(" ", "_").encode()
    digest = hashlib.md5(name, usedforsecurity=False).hexdigest()
    return f"{digest[0]}/{digest[:2]}/{quote(name, safe='')}"


def page_url(file: str) -> str:
    """Return the page on which a person sees the file, as MediaWiki's wfUrlencode writes it."""
    return f"{_PAGES}File:{quote(file.replace(' ', '_'), safe=';:@$!*(),/')}"


#: What a title takes for a space, and what it leaves out (MediaWikiTitleCodec::splitTitleString).
_SPACES: Final = re.compile("[ _\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_MARKS: Final = re.compile("[\u200e\u200f\u202a-\u202e]")
_PREFIX: Final = re.compile(r"(?:file|image) ?: ?", re.IGNORECASE | re.ASCII)

#: What no name of a file has: characters outside of $wgLegalTitleChars or in $wgIllegalFileChars,
#: what reads as an encoded character or as a signature (MediaWikiTitleCodec::getTitleInvalidRegex).
#: Wikibase refuses the same in P18 (ValidatorBuilders::buildMediaValidators).
_ILLEGAL: Final = re.compile(
    r"[\x00-\x1f\x7f#<>\[\]|{}/\\:\ufffd\ud800-\udfff]"
    r"|%[0-9A-Fa-f]{2}|&[A-Za-z0-9\x80-\U0010ffff]+;|~~~"
)

#: Bytes of a file's name (UploadBase::getTitle: "filename-toolong"; Wikibase has it for P18, too).
_LONGEST: Final = 240


def normal_name(text: str) -> str | None:
    """Return a file's name as Wikidata writes it, "File:foo_bar.jpg" → "Foo bar.jpg".

    None for what can't be the name of a file.
    """
    name = _SPACES.sub(" ", _MARKS.sub("", text)).strip(" ")
    prefix = _PREFIX.match(name)
    if prefix is not None:
        name = name[prefix.end() :]
    name = unicodedata.normalize("NFC", name)
    if name in ("", ".", "..") or _ILLEGAL.search(name):
        return None
    name = _upper_first(name[0]) + name[1:]
    return name if len(name.encode()) <= _LONGEST else None


#: Letters that a title at Wikimedia begins with as they are, though they have an upper case: those
#: that got theirs after Unicode 5, above all Georgian, title case, and signs (mediawiki-config,
#: UcfirstOverrides.php; with what :func:`_upper_first` does these are all of its entries).
_AS_THEY_ARE: Final = re.compile("[ǅǈǋǲ\u0345ა-ჺჽ-ჿⅰ-ⅿⓐ-ⓩꞹ\U00016e60-\U00016e7f]")


def _upper_first(letter: str) -> str:
    """Return a letter's upper case as Language::ucfirst does it at Wikimedia.

    One letter for one: ß, which would become two, stays; ᾳ becomes ᾼ, which is title case.
    """
    if letter.isascii():
        return letter.upper()
    if _AS_THEY_ARE.match(letter):
        return letter
    for upper in (letter.upper(), letter.title()):
        if len(upper) == 1:
            return upper
    return letter


def file_of(url: str, commons: Commons) -> str | None:
    """Return the file of Commons that an address means; None if it means none.

    Addresses of originals, thumbnails, pages and Special:FilePath; not of old versions.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or port not in (None, 80, 443):
        return None
    if host in _PAGE_HOSTS:
        return _file_of_page(parts.path, parts.query)
    for base in (*_FILES, commons.originals, commons.thumbnails):
        known = urlsplit(base)
        if host == known.hostname and parts.path.startswith(f"{known.path}/"):
            found = _file_of_path(parts.path[len(known.path) + 1 :])
            if found is not None:
                return found
    return None


def _file_of_path(path: str) -> str | None:
    """Return the file of "h/hh/name" or "thumb/h/hh/name/thumbnail"."""
    steps = path.split("/")
    if steps[0] == "thumb":
        steps = steps[1:]
    if len(steps) not in (3, 4):
        return None
    file = _decoded(steps[2])
    if file is None:
        return None
    return file if _path(file).startswith(f"{steps[0]}/{steps[1]}/") else None


def _file_of_page(path: str, query: str) -> str | None:
    """Return the file of "/wiki/File:name", Special:FilePath and Special:Redirect."""
    title = path.removeprefix("/wiki/")
    if title == path:
        titles = parse_qs(query).get("title") if path == "/w/index.php" else None
        if not titles:
            return None
        title = quote(titles[0], safe="/:")
    special = re.match(r"(?:Special:FilePath|Special:Redirect/file)/(.+)", title, re.IGNORECASE)
    if special is not None:
        return _decoded(special[1])
    return _decoded(title) if _PREFIX.match(unquote(title)) else None


def _decoded(text: str) -> str | None:
    try:
        return normal_name(unquote(text, errors="strict"))
    except UnicodeDecodeError:
        return None
