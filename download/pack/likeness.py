"""What a picture looks like, in 708 bytes: enough to find copies, cut, framed or marked ones too.

    likeness = of(picture)                    # LENGTH bytes
    many = likenesses([likeness, …])          # (n, LENGTH) uint8, as duplicates.clusters takes it

A likeness holds the picture's lowest spatial frequencies: those of a discrete cosine transform
(DCT) of its brightness, 24 × 24, and of its two differences of colour, 8 × 8 each. Perceptual
hashes keep the sign of a few of these (pHash: 64). The numbers themselves cost more and can do what
no hash can: what the DCT of a *part* of a picture is follows from that of the whole, so a copy that
lost a side is found and then laid over the original and compared on what both show
(download/pack/alike.py, download/pack/duplicates.py).

Layout of the bytes, little-endian:

    0–1      log2(width / height) of what was looked at, in 1/2048, int16
    2–3      root mean square of the weighted brightness in 1/16 of a level, uint16: 0 is plain
    4–579    brightness: (24 vertical, 24 horizontal) frequencies, int8, each times its frequency
             (natural pictures' amplitudes fall as 1/frequency: Field 1987, JOSA A 4, 2379) over
             their root mean square, in 1/24; the first is the mean, in levels − 128
    580–707  colour: Cb, then Cr (JPEG's), (8, 8) each, int8, in levels

The same picture gives the same bytes on every processor: all sums are of whole numbers that a
float64 holds exactly, or are rounded once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from download.pack.reduce import gray_of, reduced

#: Frequencies of brightness and of colour that are kept, in each direction.
FREQUENCIES: Final = 24
COLOURS: Final = 8

_HEAD = 4
_BRIGHT = FREQUENCIES * FREQUENCIES
_COLOUR = COLOURS * COLOURS

#: Bytes of a likeness.
LENGTH: Final = _HEAD + _BRIGHT + 2 * _COLOUR

#: One root mean square of the weighted brightness is this many steps of an int8.
STEPS: Final = 24

#: One doubling of width / height is this many steps of the int16.
ASPECT: Final = 2048

_SIDE = 96  # of the square that is transformed: four times the frequencies that are kept
#: What is finer than a pixel of the square and yet comes into it, comes in far above what is kept.
_NEAREST = 1.8
_UNIT = 1 << 12  # cosines are rounded to 1/4096, so that sums of them are exact

#: Levels of brightness by which a plain border may vary (what JPEG does to it beside an edge), and
#: by which most of the line where it ends has to differ from it: a frame ends all along a line, the
#: background of a thing only where the thing begins.
_BORDER = 20
_ALONG = 0.5
#: Frames are black, white or gray, and no wider than bars around 16:9 in a square: a stripe of a
#: flag is no frame. One may be within the other, a mount in a frame.
_GRAY = 16  # levels between a border's red, green and blue
_WIDEST = 0.24  # of the side
_FRAMES = 2

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def of(rgb: Bytes) -> bytes:
    """The likeness of a picture, LENGTH bytes.

    ``rgb`` is the whole picture as it will be shown, (height, width, 3) uint8, of any size; below
    96 pixels a side there is less to see than the likeness has room for. Plain borders are left
    out: frames, bars above and below.
    """
    left, top, right, bottom = _inside(rgb)
    square = reduced(rgb[top:bottom, left:right], (_SIDE, _SIDE), _NEAREST)
    bright, *colours = (
        _transformed(plane, kept)
        for plane, kept in zip(_planes(square), (FREQUENCIES, COLOURS, COLOURS), strict=True)
    )
    weighted = bright * _WEIGHT
    spread = math.sqrt(math.fsum((weighted * weighted).flat) / (_BRIGHT - 1))
    steps = weighted * (STEPS / spread) if spread > 0 else weighted
    steps[0, 0] = bright[0, 0]
    aspect = round(ASPECT * math.log2((right - left) / (bottom - top)))
    head = struct.pack("<hH", aspect, min(round(16 * spread), 0xFFFF))
    return head + _int8(np.concatenate([steps.ravel(), *(plane.ravel() for plane in colours)]))


def likenesses(many: Iterable[bytes]) -> Bytes:
    """Likenesses as an array, (n, LENGTH) uint8."""
    joined = b"".join(many)
    return np.frombuffer(joined, np.uint8).reshape(-1, LENGTH)


def mirrored(many: Bytes) -> Bytes:
    """The likenesses of the same pictures seen in a mirror, (n, LENGTH) uint8.

    Mirrored, the odd horizontal frequencies change their sign and nothing else.
    """
    flipped = many.copy()
    values = flipped.view(np.int8)
    _negate(values[:, _HEAD : _HEAD + _BRIGHT].reshape(-1, FREQUENCIES, FREQUENCIES))
    _negate(values[:, _HEAD + _BRIGHT :].reshape(-1, 2 * COLOURS, COLOURS))
    return flipped


def _negate(planes: npt.NDArray[np.int8]) -> None:
    planes[:, :, 1::2] *= -1  # within ±127


def aspect(many: Bytes) -> Floats:
    """log2(width / height), (n,)."""
    return np.ascontiguousarray(many[:, :2]).view("<i2")[:, 0] / ASPECT


def spread(many: Bytes) -> Floats:
    """Root mean square of the weighted brightness in levels, (n,)."""
    return np.ascontiguousarray(many[:, 2:4]).view("<u2")[:, 0] / 16


def brightness(many: Bytes) -> npt.NDArray[np.int8]:
    """Weighted frequencies of the brightness, (n, 24, 24): vertical, horizontal, the mean as 0."""
    values = many[:, _HEAD : _HEAD + _BRIGHT].view(np.int8).copy()
    values[:, 0] = 0
    return values.reshape(-1, FREQUENCIES, FREQUENCIES)


def colour(many: Bytes) -> npt.NDArray[np.int8]:
    """Frequencies of Cb and Cr in levels, (n, 2, 8, 8)."""
    values = many[:, _HEAD + _BRIGHT :].view(np.int8)
    return values.reshape(-1, 2, COLOURS, COLOURS)


def cosines(frequencies: int, at: Floats) -> Floats:
    """cos(π k x) of the first ``frequencies`` at places x (0–1 over the side), (k, x)."""
    return np.cos(np.pi * np.arange(frequencies)[:, None] * at[None, :])


def _frequencies() -> Floats:
    """Length of each pair of frequencies, (24, 24)."""
    one = np.arange(FREQUENCIES, dtype=np.float64)
    return np.hypot(one[:, None], one[None, :])


#: By which brightness is multiplied; 0 for the mean, so that darker and lighter copies are alike.
_WEIGHT: Final = _frequencies()

_COSINES: Final = np.rint(
    cosines(FREQUENCIES, (np.arange(_SIDE, dtype=np.float64) + 0.5) / _SIDE) * _UNIT
)


def _planes(rgb: Bytes) -> Floats:
    """Brightness − 128, Cb, Cr of (height, width, 3) samples, (3, height, width), whole levels."""
    bands = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    return np.stack([bands[0], bands[2], bands[1]]).astype(np.float64) - 128


def _transformed(plane: Floats, frequencies: int) -> Floats:
    """Amplitudes of a plane's lowest frequencies in levels, (frequencies, frequencies)."""
    lowest = _COSINES[:frequencies]
    sums: Floats = lowest @ plane @ lowest.T  # whole numbers < 2^53: exact in any order
    scale = np.where(np.arange(frequencies) > 0, 2.0, 1.0) / (_SIDE * _UNIT)
    return sums * scale[:, None] * scale[None, :]


def _int8(values: Floats) -> bytes:
    return np.clip(np.rint(values), -127, 127).astype(np.int8).tobytes()


def _inside(rgb: Bytes) -> tuple[int, int, int, int]:
    """The box within plain borders: left, top, right, bottom."""
    gray = gray_of(rgb)
    height, width = gray.shape
    left, top, right, bottom = 0, 0, width, height
    for _ in range(_FRAMES):
        inside = slice(top, bottom), slice(left, right)
        start, end = _borders(gray[inside], rgb[inside])
        first, last = _borders(gray[inside].T, rgb[inside].transpose(1, 0, 2))
        if not (start or end or first or last):
            break
        left, top, right, bottom = left + first, top + start, right - last, bottom - end
    return left, top, right, bottom


def _borders(gray: Bytes, rgb: Bytes) -> tuple[int, int]:
    """How many of the first and of the last lines are border: both ends have one, or none has.

    Where a white frame runs into a white sky, it is as wide as on the other side.
    """
    start, end = _plain_lines(gray), _plain_lines(gray[::-1])
    if not (start and end) or abs(int(gray[0, 0]) - int(gray[-1, 0])) > _BORDER:
        return 0, 0
    ends_first = _is_border(gray, rgb, start)
    ends_last = _is_border(gray[::-1], rgb[::-1], end)
    if ends_first and (ends_last or end >= start):
        return start, end if ends_last else start
    return (end, end) if ends_last and start >= end else (0, 0)


def _plain_lines(gray: Bytes) -> int:
    """How many of the first lines are of one brightness, about."""
    if int(np.ptp(gray[0])) > _BORDER:
        return 0
    low, high = gray.min(axis=1).astype(int), gray.max(axis=1).astype(int)
    plain = np.maximum.accumulate(high) - np.minimum.accumulate(low) <= _BORDER
    return len(plain) if plain.all() else int(np.argmin(plain))


def _is_border(gray: Bytes, rgb: Bytes, lines: int) -> bool:
    """Whether the first lines have no colour, and something begins after them, nearly all along."""
    if not 0 < lines <= _WIDEST * len(gray):
        return False
    if np.ptp(rgb[:lines].mean(axis=(0, 1))) > _GRAY:
        return False
    outside, within = gray[max(lines - 2, 0)].astype(int), gray[lines + 1].astype(int)
    return bool(np.mean(np.abs(within - outside) > _BORDER) >= _ALONG)
