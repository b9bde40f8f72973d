"""Pictures of every kind that a decoder meets on the web, harmless and not; all invented.

Each is made when it is first asked for. The same every time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from PIL import Image

_SIZE = (320, 240)  # width, height


@cache
def scene() -> Image.Image:
    """A picture with areas, edges and texture, (240, 320, 3); with a mark at its top left."""
    width, height = _SIZE
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x // width
    green = 255 * y // height
    blue = 128 + 100 * np.sin(x / 9.0) * np.cos(y / 7.0)
    pixels = np.stack([red, green, blue], axis=-1).astype(np.uint8)
    pixels[:40, :60] = (250, 20, 20)
    return Image.fromarray(pixels)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif6() -> bytes:
    """A JPEG that is to be turned by a quarter before it is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(scene(), "JPEG", quality=90, exif=exif)


def _png16() -> bytes:
    """A gray PNG with 16 bits: a ramp from black to white."""
    ramp = np.linspace(0, 65535, _SIZE[0]).astype(np.uint16)
    return _saved(Image.fromarray(np.tile(ramp, (_SIZE[1], 1))), "PNG")


def _alpha() -> bytes:
    image = scene().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(_SIZE))
    return _saved(image, "PNG")


def _frames() -> bytes:
    """A GIF with two frames."""
    first, second = scene().convert("P"), scene().rotate(90).resize(_SIZE).convert("P")
    return _saved(first, "GIF", save_all=True, append_images=[second])


def _large() -> bytes:
    """A PNG of noise, some 3 MB: more than is held in memory on the way."""
    noise = np.random.default_rng(6).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    return _saved(Image.fromarray(noise), "PNG")


def bomb(side: int) -> bytes:
    """A PNG of black pixels, side × side: small to send, side² bytes to decode."""
    rows = side * (side + 1)  # a byte before each row says how it is filtered
    piece = 1 << 20
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    full = squeezer.compress(bytes(piece)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = last.compress(bytes(rows % piece)) + last.flush()
    adler = (rows % 65521) << 16 | 1  # of zeros
    data = b"\x78\xda" + full * (rows // piece) + rest + struct.pack(">I", adler)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _truncated() -> bytes:
    whole = _saved(scene(), "JPEG", quality=90)
    return whole[: len(whole) // 2]


_MAKERS: Final[dict[str, Callable[[], bytes]]] = {
    "jpeg": lambda: _saved(scene(), "JPEG", quality=90),
    "png": lambda: _saved(scene(), "PNG"),
    "gif": _frames,
    "webp": lambda: _saved(scene(), "WEBP", quality=90),
    "avif": lambda: _saved(scene(), "AVIF", quality=80),
    "tiff": lambda: _saved(scene(), "TIFF"),
    "bmp": lambda: _saved(scene(), "BMP"),
    "png16": _png16,
    "exif6": _exif6,
    "cmyk": lambda: _saved(scene().convert("CMYK"), "JPEG", quality=90),
    "gray": lambda: _saved(scene().convert("L"), "JPEG", quality=90),
    "palette": lambda: _saved(scene().convert("P"), "PNG"),
    "alpha": _alpha,
    "large": _large,
    "truncated": _truncated,
    "bomb20000": lambda: bomb(20_000),
    "bomb40000": lambda: bomb(40_000),
}

#: The names that :func:`picture` knows.
NAMES: Final = tuple(_MAKERS)


@cache
def picture(name: str) -> bytes:
    """The bytes of a picture."""
    return _MAKERS[name]()
