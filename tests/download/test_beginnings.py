"""The formats of images are told by the first bytes of files."""

from __future__ import annotations

from download.beginnings import format_by
from tests.download.hostile_pictures import NAMES, picture

KINDS = ("jpeg", "png", "gif", "webp", "avif", "tiff", "bmp")


def test_every_format_is_told_by_its_first_bytes() -> None:
    types = {"truncated": "jpeg", "exif6": "jpeg", "cmyk": "jpeg", "gray": "jpeg"}
    for name in NAMES:
        kind = types.get(name, name if name in KINDS else "png")
        assert format_by(picture(name)[:32]) == kind
    for other in (
        b"",
        b"BM, he said, is a fine place",
        b"RIFF....WAVEfmt ",
        b"%PDF-1.7",
        b"\x00" * 32,
    ):
        assert format_by(other) == ""
