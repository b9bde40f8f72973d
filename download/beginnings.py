"""What a file begins with tells which format of images it is of, without a codec.

The beginnings are those of the formats' specifications and of WHATWG's "MIME Sniffing".
"""

from __future__ import annotations

from typing import Final

#: Bytes that are enough to tell; fewer do for most files.
ENOUGH: Final = 256

_BEGINNINGS: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
)
_AVIF: Final = frozenset((b"avif", b"avis"))
_HEIC: Final = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"))
_BMP_HEADERS: Final = 26  # bytes of the shortest ones


def format_by(head: bytes) -> str:
    """jpeg, png, gif, webp, avif, heic, tiff or bmp, by a file's first bytes; ``""`` for others.

    These are the formats that are on the web and can be decoded, and HEIC, which browsers don't
    show.
    """
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _by_brand(head[:ENOUGH])
    # two letters begin many texts; the four bytes that are reserved are zero
    is_bmp = head[:2] == b"BM" and head[6:10] == bytes(4) and len(head) >= _BMP_HEADERS
    return "bmp" if is_bmp else ""


def _by_brand(head: bytes) -> str:
    """By the brands, of which the first may be a general one (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF:
        return "avif"
    return "heic" if brands & _HEIC else ""
