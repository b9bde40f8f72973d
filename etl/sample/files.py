"""The sample's files of Wikimedia Commons: ``files.tsv`` → one object a line of the dump.

``SOURCES.md`` beside it describes the columns. All files are made up. Those that made-up items name
as their P18 are added by a rule; real items' are left out, since nothing is known of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from etl.sample.framing import some_number
from etl.sample.table import (
    FOLDER,
    Claim,
    Property,
    malformed,
    read_claims,
    read_items,
    rows,
)

FILES: Final = FOLDER / "files.tsv"

#: Pages of made-up files have numbers above this one: twenty times those of Commons, and still
#: numbers that MediaWiki's page_id, an unsigned int of four bytes, can have.
FIRST_PAGE: Final = 4_000_000_000
_COLUMNS = ("name", "files", "size", "statements", "captions", "quirks", "note")

#: Properties of statements on files, with their datatypes (Commons:Structured_data/Modeling).
PROPERTIES: Final = {
    id: Property(id, label, datatype, "", "")
    for id, label, datatype in (
        ("P170", "creator", "wikibase-item"),
        ("P180", "depicts", "wikibase-item"),
        ("P275", "copyright license", "wikibase-item"),
        ("P459", "determination method", "wikibase-item"),
        ("P571", "inception", "time"),
        ("P921", "main subject", "wikibase-item"),
        ("P1163", "media type", "string"),
        ("P2048", "height", "quantity"),
        ("P2049", "width", "quantity"),
        ("P2093", "author name string", "string"),
        ("P2699", "URL", "url"),
        ("P3575", "data size", "quantity"),
        ("P3831", "object has role", "wikibase-item"),
        ("P4092", "checksum", "external-id"),
        ("P4174", "Wikimedia username", "external-id"),
        ("P6216", "copyright status", "wikibase-item"),
        ("P6243", "digital representation of", "wikibase-item"),
        ("P7482", "source of file", "wikibase-item"),
    )
}

#: What may be odd about a file; ``SOURCES.md`` says what each stands for.
QUIRKS: Final = frozenset(
    {
        "blank",
        "broken",
        "cut",
        "disallowed",
        "error-page",
        "no-creator",
        "no-file",
        "no-image-row",
        "no-licence",
        "no-line",
        "no-measures",
        "no-page-metadata",
        "no-statements",
        "no-status",
        "no-thumbnail",
        "noai",
        "older",
    }
)

#: Ending → MIME type and MediaWiki's media type (includes/libs/mime/defs.php).
TYPES: Final = {
    "djvu": ("image/vnd.djvu", "BITMAP"),
    "gif": ("image/gif", "BITMAP"),
    "jpeg": ("image/jpeg", "BITMAP"),
    "jpg": ("image/jpeg", "BITMAP"),
    "ogg": ("application/ogg", "AUDIO"),
    "pdf": ("application/pdf", "OFFICE"),
    "png": ("image/png", "BITMAP"),
    "stl": ("application/sla", "3D"),
    "svg": ("image/svg+xml", "DRAWING"),
    "tif": ("image/tiff", "BITMAP"),
    "wav": ("audio/x-wav", "AUDIO"),
    "webm": ("video/webm", "VIDEO"),
    "webp": ("image/webp", "BITMAP"),
}
_UNKNOWN: Final = ("unknown/unknown", "UNKNOWN")

#: Pixels, of files whose row gives none.
_SIZES: Final = ((4032, 3024), (3024, 4032), (1600, 1200), (1024, 768), (640, 480), (5184, 3456))

#: MediaWiki's $wgLegalTitleChars without what a file's name can't have (wgIllegalFileChars).
_NAME = re.compile(r"[^\x00-\x1f\x7f#<>\[\]{}|_:/]+")
_LONGEST_NAME: Final = 240  # bytes (UploadBase::checkTitle)
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_CAPTION = re.compile(r"([a-z]{2,3}(?:-[a-z]+)*):(.+)")


@dataclass(frozen=True)
class File:
    """One revision of a file's page, and the file."""

    name: str  # with spaces
    page: int  # above FIRST_PAGE
    statements: tuple[Claim, ...]
    captions: dict[str, str]
    width: int
    height: int
    quirks: frozenset[str]
    note: str = ""

    @property
    def mime(self) -> str:
        return TYPES.get(self._ending, _UNKNOWN)[0]

    @property
    def media_type(self) -> str:
        return TYPES.get(self._ending, _UNKNOWN)[1]

    @property
    def bytes(self) -> int:
        return 1_000 + self.width * self.height // 4 + some_number(f"bytes {self.name}", 1_000)

    @property
    def _ending(self) -> str:
        return self.name.rpartition(".")[2].lower()


def read_files(path: Path = FILES) -> list[File]:
    """The table's files, then those that made-up items have as P18, each page by its number.

    Raises UserError that names the file and line.
    """
    files: list[File] = []
    pages: dict[str, int] = {}
    for line, cells in rows(path, _COLUMNS):
        try:
            files += _files_of_row(cells, pages)
        except ValueError as error:
            raise malformed(path, line, str(error)) from None
    for name, item in _images_of_items():
        if name not in pages:
            page = pages[name] = FIRST_PAGE + 1 + len(pages)
            width, height = _size(name, "")
            # As on Commons, not every file that an item has as its image says what it depicts.
            shows = [] if some_number(f"depicts {name}", 4) == 0 else [f"P180={item}"]
            statements = tuple(read_claims("".join(shows), PROPERTIES))
            files.append(File(name, page, statements, {}, width, height, frozenset()))
    return files


def _files_of_row(cells: dict[str, str], pages: dict[str, int]) -> Iterator[File]:
    if not cells["files"].isdigit() or int(cells["files"]) < 1:
        raise ValueError(f"{cells['files']!r} is not a number of files")
    if (int(cells["files"]) > 1) != ("#" in cells["name"]):
        raise ValueError("a name has a # where it stands for several files, and only there")
    quirks = frozenset(cells["quirks"].split())
    if unknown := quirks - QUIRKS:
        raise ValueError(f"unknown quirk {min(unknown)!r}")
    for number in range(1, int(cells["files"]) + 1):
        name, captions = (cells[c].replace("#", str(number)) for c in ("name", "captions"))
        _check_name(name)
        if (name in pages) != ("older" in quirks):
            raise ValueError(f"{name!r} must stand once, and before an older revision of its page")
        page = pages.setdefault(name, FIRST_PAGE + 1 + len(pages))
        statements = tuple(read_claims(cells["statements"], PROPERTIES))
        width, height = _size(name, cells["size"])
        read = _captions(captions)
        yield File(name, page, statements, read, width, height, quirks, cells["note"])


def _check_name(name: str) -> None:
    legal = _NAME.fullmatch(name) and len(name.encode()) <= _LONGEST_NAME
    capital = name[:1].upper()
    lower_case = capital != name[:1] and len(capital) == 1  # ß has no capital in MediaWiki
    if not legal or name != name.strip() or "  " in name or lower_case:
        raise ValueError(f"{name!r} can't be the name of a file")


def _size(name: str, text: str) -> tuple[int, int]:
    """Pixels of the original, made up where the row says nothing."""
    if not text:
        return _SIZES[some_number(f"size {name}", len(_SIZES))]
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a size such as 640x480")
    return int(found[1]), int(found[2])


def _captions(text: str) -> dict[str, str]:
    captions = {}
    for pair in filter(None, text.split("|")):
        found = _CAPTION.fullmatch(pair)
        if not found:
            raise ValueError(f"{pair!r} is not language:caption")
        captions[found[1]] = found[2]
    return captions


def _images_of_items() -> Iterator[tuple[str, str]]:
    """Names of files that made-up items have as P18, with the item."""
    for item in read_items():
        if item.made_up:
            for claim in item.claims:
                if claim.property == "P18" and claim.value.snaktype == "value":
                    yield claim.value.text, item.id
