"""One image's bytes, as a server sent them → one JPEG of known size and colours, or why not.

    made = encode(body, ImageOptions(size=256))
    if isinstance(made, Picture):
        made.data  # a JPEG: 256 pixels at its shorter side, upright, sRGB, no metadata

What the file says of its pixels is followed: orientation (EXIF), colours (ICC), transparency (on
white), samples of 16 bits, inks. Of several frames the first is taken. The same bytes and options
give the same bytes.

An input that can't be used never raises: it is :class:`Dropped`. It may still crash a codec or
take all memory, so strangers' images are decoded in a process of their own:
:mod:`download.pack.decoder`.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
import msgspec
import numpy as np
import simplejpeg
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from download.beginnings import format_by
from download.pack import filters, likeness
from download.pack.colours import Box, in_srgb, key_colour, small_in_srgb
from download.pack.reduce import Samples, reduced

#: Why an image is dropped, and what that means.
REASONS: Final[dict[str, str]] = {
    "not_an_image": "the bytes begin like no image",
    "unsupported": "an image of a format that isn't read, such as SVG or HEIC",
    "broken": "cut off, damaged, or of a kind that the codec doesn't know",
    "too_many_pixels": "more pixels than allowed, by its header",
    "too_small": "a shorter side below the least",
    "too_elongated": "a longer side that is too many times the shorter",
    "blank": "one colour all over",
    "text_only": "a page of text",
    "memory": "decoding took more memory than there is for an image",
    "timeout": "decoding took longer than there is for an image",
    "crashed": "the codec crashed, twice",
}

#: The formats that are read, by their names in :attr:`Picture.format`. Only the codec that the
#: first bytes call for is asked: of Pillow's other readers some start programs or read files.
FORMATS: Final[dict[str, str]] = {
    "jpeg": JpegImagePlugin.JpegImageFile.format,
    "png": PngImagePlugin.PngImageFile.format,
    "gif": GifImagePlugin.GifImageFile.format,
    "webp": WebPImagePlugin.WebPImageFile.format,
    "tiff": TiffImagePlugin.TiffImageFile.format,
    "bmp": BmpImagePlugin.BmpImageFile.format,
    "avif": AvifImagePlugin.AvifImageFile.format,
}

#: Images that are known and not read: their first bytes, and what they are called in a log.
_OTHERS: Final = (
    (b"8BPS", "psd"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"%!PS", "eps"),
)

_SVG_WITHIN = 1024  # bytes: <svg comes after an XML declaration, a doctype and comments
_DETAIL = 200  # characters
_NO_MEMORY: Final = -4  # what OpenCV calls it (cv2.Error.StsNoMem)

#: EXIF's tag 274 (CIPA DC-008, 4.6.4): what makes the picture upright.
_ORIENTATION: Final = 274
#: For each whether rows and columns change places, and what is turned round then: rows, columns.
_UPRIGHT: Final = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
_ON_ITS_SIDE: Final = (5, 6, 7, 8)

#: By the mode of a JPEG, what its samples are called by the codec.
_OF_JPEG: Final = {"L": "GRAY", "RGB": "RGB"}

#: A JPEG's blocks are made at a half, a quarter or an eighth of their size as long as that leaves
#: so many times what is wanted; it halves the time for 800 × 600 → 256, and costs a photograph
#: about as much (39 dB) as a JPEG of quality 95 itself loses (38). Without the tenth more it would
#: be 34 dB at 512 × 512.
_DRAFT_OVER: Final = 1.1

# One thread decodes AVIF: there is a process for every core, and every thread takes of the
# address space that a process is allowed.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class ImageOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How images are made. All of it decides about bytes, so all of it belongs to a plan."""

    #: Pixels of the shorter side; a smaller image is kept as it is, never enlarged.
    size: int = 256
    #: JPEG's, 1 to 95. Colour is kept at half the resolution (4:2:0), as img2dataset does.
    quality: int = 95
    #: Width × height by the header; more isn't decoded. As many as fit into a decoder's memory.
    max_pixels: int = 80_000_000
    #: Pixels of the original's shorter side: below it CLIP's 224 would be enlarged from a third.
    min_side: int = 64
    #: Longer side over shorter.
    max_aspect: float = 8.0
    #: Whether pictures of one colour are dropped: :func:`download.pack.filters.is_blank`.
    drop_blank: bool = True
    #: Whether pages of text are dropped: :func:`download.pack.filters.is_text`.
    drop_text: bool = True


class Picture(msgspec.Struct, frozen=True, kw_only=True, tag="picture"):
    """A JPEG and what is known of it."""

    #: The JPEG.
    data: bytes
    #: Its size in pixels.
    width: int
    height: int
    #: The original's size, upright (EXIF's orientation applied).
    original_width: int
    original_height: int
    #: The original's format: one of :data:`FORMATS`.
    format: str
    #: SHA-256 (32 bytes) of the JPEG, which is the same where its pixels were: for a PNG and a WebP
    #: without loss of one picture, say.
    pixels: bytes
    #: :func:`download.pack.likeness.of` the RGB pixels.
    likeness: bytes


class Dropped(msgspec.Struct, frozen=True, tag="dropped"):
    """An image that isn't used."""

    #: One of :data:`REASONS`.
    reason: str
    #: More, for a log: "12 × 900 pixels", "image file is truncated".
    detail: str = ""


class _UnfitError(Exception):
    """Why the image at hand is dropped."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.dropped = Dropped(reason, detail)


def encode(data: bytes, options: ImageOptions) -> Picture | Dropped:
    """A JPEG of an image's bytes, or why there is none.

    Raises MemoryError, and nothing else whatever the bytes are.
    """
    try:
        return _encoded(data, options)
    except _UnfitError as unfit:
        return unfit.dropped
    except cv2.error as error:  # OpenCV has no MemoryError: code -4, or an array that numpy refused
        if error.code == _NO_MEMORY or "can not be created" in str(error):
            raise MemoryError from error
        raise


def _encoded(data: bytes, options: ImageOptions) -> Picture:
    kind = format_of(data)
    with _pillow_set(options.max_pixels):
        image = _opened(data, kind, options)
        original = image.size
        wanted = fitted(*original, options.size)
        rgb = _quickly(data, image, wanted) if kind == "jpeg" else None
        if rgb is None:
            box = _load(image, wanted)
            rgb = in_srgb(image, wanted, box)
        upright = _orientation(image, kind)
    rgb = _turned(rgb, upright)
    _look(rgb, options)
    jpeg = _jpeg(rgb, options.quality)
    return Picture(
        data=jpeg,
        width=rgb.shape[1],
        height=rgb.shape[0],
        original_width=original[upright in _ON_ITS_SIDE],
        original_height=original[upright not in _ON_ITS_SIDE],
        format=kind,
        pixels=hashlib.sha256(jpeg).digest(),
        likeness=likeness.of(rgb),
    )


def format_of(data: bytes) -> str:
    """The name in :data:`FORMATS` that the first bytes stand for. Raises :class:`_UnfitError`."""
    found = format_by(data)
    if found in FORMATS:
        return found
    if found:
        raise _UnfitError("unsupported", found)
    for beginning, name in _OTHERS:
        if data.startswith(beginning):
            raise _UnfitError("unsupported", name)
    if b"<svg" in data[:_SVG_WITHIN].lower():
        raise _UnfitError("unsupported", "svg")
    raise _UnfitError("not_an_image")


@contextmanager
def _pillow_set(max_pixels: int) -> Iterator[None]:
    """Pillow's own limit on pixels, which raises above twice its value, and no warnings."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _opened(data: bytes, kind: str, options: ImageOptions) -> ImageFile.ImageFile:
    """The image with its header read and its pixels not, of a size that is wanted."""
    try:
        image = Image.open(io.BytesIO(data), formats=[FORMATS[kind]])
    except Image.DecompressionBombError:
        raise _UnfitError("too_many_pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a codec makes of any bytes
        raise _broken(error) from error
    shorter, longer = sorted(image.size)
    said = f"{image.width} × {image.height} pixels"
    if shorter * longer > options.max_pixels:
        raise _UnfitError("too_many_pixels", said)
    if shorter < max(options.min_side, 1):
        raise _UnfitError("too_small", said)
    if longer > options.max_aspect * shorter:
        raise _UnfitError("too_elongated", said)
    return image


def _broken(error: Exception) -> _UnfitError:
    if "out of memory" in str(error).lower():  # as libavif and libtiff say it
        raise MemoryError from error
    said = str(error).partition("<_io.")[0].strip() or type(error).__name__
    return _UnfitError("broken", said[:_DETAIL])


def _quickly(data: bytes, image: Image.Image, wanted: tuple[int, int]) -> Samples | None:
    """The picture in a JPEG at the size ``wanted``; None where that is better left to Pillow.

    That is ink, and any damage: Pillow shows what others show of it. What both decode is the same
    to a level, and comes without Pillow's copies: 1.4 ms instead of 1.8 for 800 × 600 → 400 × 300.
    """
    if image.mode not in _OF_JPEG:
        return None
    smaller = next(n for n in (8, 4, 2, 1) if n == 1 or _leaves_enough(image.size, n, wanted))
    width, height = (-(-side // smaller) for side in image.size)
    try:
        samples: Samples = simplejpeg.decode_jpeg(
            data, colorspace=_OF_JPEG[image.mode], min_width=width, min_height=height, strict=True
        )
    except ValueError:
        return None
    if samples.shape[:2] != (height, width):
        return None
    # Of 427 columns that were 853 the last is half a one. To the nearest whole one, the edge is off
    # by 0.4 pixels of what comes of it, the middle by half of that.
    shown = samples[: round(image.height / smaller), : round(image.width / smaller)]
    small = reduced(shown[:, :, 0] if image.mode == "L" else shown, wanted)
    return small_in_srgb(image.mode, small, image.info.get("icc_profile"))


def _leaves_enough(size: tuple[int, int], smaller: int, wanted: tuple[int, int]) -> bool:
    pairs = zip(size, wanted, strict=True)
    return all(side >= smaller * round(least * _DRAFT_OVER) for side, least in pairs)


def _load(image: ImageFile.ImageFile, wanted: tuple[int, int]) -> Box | None:
    """Reads the pixels, of a JPEG as few as make the size that is wanted.

    Gives the part of these that is the picture: half of 853 pixels are 427 of which the last is
    half a pixel.
    """
    try:
        drafted = image.draft(
            None, (round(wanted[0] * _DRAFT_OVER), round(wanted[1] * _DRAFT_OVER))
        )
        key = key_colour(image)
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(error) from error
    if key is not None:
        image.info["transparency"] = key
    return drafted[1] if drafted else None


def _orientation(image: Image.Image, kind: str) -> int:
    """EXIF's orientation of a loaded image, 1 to 8; 1 where there is none that makes sense.

    (A PNG's is looked for behind its pixels: Pillow would load them, and their faults be taken for
    EXIF's.)
    """
    if kind == "tiff":
        return 1  # there it is a tag of the image itself, and Pillow has turned the pixels
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # pixels are worth having without their EXIF, however broken that is
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height with ``size`` pixels at the shorter side, or as they are if that is less."""
    shorter = min(width, height)
    if shorter <= size:
        return width, height
    return (
        max((2 * width * size + shorter) // (2 * shorter), 1),
        max((2 * height * size + shorter) // (2 * shorter), 1),
    )


def _turned(rgb: Samples, orientation: int) -> Samples:
    if orientation not in _UPRIGHT:
        return rgb
    changed, rows, columns = _UPRIGHT[orientation]
    turned = rgb.swapaxes(0, 1) if changed else rgb
    return np.ascontiguousarray(turned[::rows, ::columns])


def _look(rgb: Samples, options: ImageOptions) -> None:
    """Raises :class:`_UnfitError` for what there is nothing to be seen in."""
    if options.drop_blank and filters.is_blank(rgb):
        raise _UnfitError("blank")
    if options.drop_text and filters.is_text(rgb):
        raise _UnfitError("text_only")


def _jpeg(rgb: Samples, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()
