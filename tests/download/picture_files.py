"""Image files and colour profiles written by hand, from their specifications: no code in common
with the codecs that read them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.generic]

# --- PNG (third edition) --------------------------------------------------------------------------

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header(width: int, height: int, depth: int = 8, kind: int = RGB) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))


def png(
    samples: Samples, kind: int, depth: int, before: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """(height, width) or (height, width, channels) samples; ``before`` are chunks before them."""
    height, width = samples.shape[:2]
    lines = samples.reshape(height, -1)
    if depth == 16:
        packed = lines.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        packed = lines.astype(np.uint8)
    else:
        bits = (lines[..., None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + line.tobytes() for line in packed)
    return b"".join(
        (
            PNG_SIGNATURE,
            header(width, height, depth, kind),
            *(chunk(name, data) for name, data in before),
            chunk(b"IDAT", zlib.compress(raw)),
            chunk(b"IEND", b""),
        )
    )


# --- TIFF 6.0 -------------------------------------------------------------------------------------

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, TIFF_RGB, INKS = 0, 1, 2, 5


def tiff(samples: Samples, photometric: int, *, order: str = "<", kind: int = UNSIGNED) -> bytes:
    """One strip, not compressed; ``order`` is ``<`` or ``>``, ``kind`` the samples' format."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    strip = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    bits = samples.dtype.itemsize * 8
    entries = [
        (256, 4, (width,)),
        (257, 4, (height,)),
        (258, 3, (bits,) * channels),
        (259, 3, (1,)),
        (262, 3, (photometric,)),
        (273, 4, (0,)),  # set below
        (277, 3, (channels,)),
        (278, 4, (height,)),
        (279, 4, (len(strip),)),
        (339, 3, (kind,) * channels),
    ]
    return _tiff(entries, strip, order)


def _tiff(entries: list[tuple[int, int, tuple[int, ...]]], strip: bytes, order: str) -> bytes:
    start = 8 + 2 + 12 * len(entries) + 4
    extra, table = b"", b""
    sizes = {3: ("H", 2), 4: ("I", 4)}
    room = sum(len(v) * sizes[t][1] for _, t, v in entries if len(v) * sizes[t][1] > 4)
    for tag, kind, values in entries:
        if tag == 273:
            values = (start + room,)
        data = struct.pack(f"{order}{len(values)}{sizes[kind][0]}", *values)
        if len(data) > 4:
            place = struct.pack(order + "I", start + len(extra))
            extra += data
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, len(values)) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "I", 8) + struct.pack(order + "H", len(entries))
    return head + table + b"\0\0\0\0" + extra + strip


# --- EXIF (CIPA DC-008) ---------------------------------------------------------------------------


def exif(orientation: int) -> bytes:
    """A TIFF header and one entry."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, 3, 1, orientation, 0) + b"\0" * 4


def with_app1(jpeg: bytes, data: bytes) -> bytes:
    """A JPEG with an EXIF segment of these bytes after its SOI."""
    body = b"Exif\0\0" + data
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


# --- ICC.1:2001-04 (version 2) --------------------------------------------------------------------

#: D50, of the connection space.
D50 = (0.9642, 1.0, 0.8249)

#: Red, green and blue of Adobe RGB (1998), adapted to D50, XYZ: its specification, 4.3.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))

#: Those of sRGB, adapted to D50: columns of its profile's matrix.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _profile(space: bytes, tags: dict[bytes, bytes], kind: bytes, connection: bytes) -> bytes:
    said = b"made for a test\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(said)) + said + b"\0" * 78
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)} | tags
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s44x3i48x",
        start + len(data),
        b"none",
        0x02400000,
        kind,
        space,
        connection,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        *(round(value * 65536) for value in D50),
    )[:128]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def rgb_profile(primaries: Sequence[Sequence[float]], gamma: float) -> bytes:
    tags = {
        name: _xyz(values)
        for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma))
    return _profile(b"RGB ", tags | curves, b"mntr", b"XYZ ")


def gray_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _gamma(gamma)}, b"mntr", b"XYZ ")


def ink_profile(one: int) -> bytes:
    """Of four inks: white paper, and black wherever there is black ink; any other ink, or several,
    make a gray of L* ``one`` (0–255 for 0–100)."""
    ramp = bytes(range(256))
    lightness = [0 if node % 2 else one for node in range(16)]  # the last ink varies fastest
    lightness[0] = 255
    nodes = bytes(value for level in lightness for value in (level, 128, 128))  # L*, a*, b*
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + nodes + ramp * 3
    return _profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def to_srgb(
    colour: Sequence[float], primaries: Sequence[Sequence[float]], gamma: float
) -> npt.NDArray[np.float64]:
    """What a profile of three primaries and a gamma says, in sRGB's levels: its arithmetic."""
    linear = (np.asarray(colour, dtype=np.float64) / 255) ** gamma
    xyz = np.asarray(primaries).T @ linear
    return encoded(np.linalg.inv(np.asarray(SRGB).T) @ xyz)


def encoded(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Levels of linear light by sRGB's curve (IEC 61966-2-1)."""
    light = np.clip(linear, 0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(curve * 255)
