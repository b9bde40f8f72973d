"""Pixels of any kind, as files hold them → RGB in sRGB, small.

    rgb = in_srgb(image, (341, 256))  # a loaded PIL image of any mode → (256, 341, 3) uint8

What a sample means is looked up before it is averaged with its neighbours: 16 bits are scaled to
8, colours of a palette looked up, colours weighted by their opacity. What costs by the pixel and
commutes with an average, to a level or so, comes after: a white ground, the colour profile.
"""

from __future__ import annotations

import functools
import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile

from download.pack.reduce import Samples, reduced

Box = tuple[float, float, float, float]

#: A picture of at least twice so many times the wanted size is averaged by whole blocks first, down
#: to no less than that many times, by Pillow, which needs no copy of it.
_LARGE: Final = 3.0

#: Pixels from which on Pillow resizes a picture, since OpenCV wants a copy of it and one of what is
#: between: with 80 million pixels that is half a gigabyte more.
_HUGE: Final = 20_000_000

#: Of 16 bits the 8 nearest, (65536,) uint8: 65535 is 255 (PNG, 13.12).
_EIGHT_OF_SIXTEEN: Final = np.round(np.arange(1 << 16) / 257).astype(np.uint8)

#: TIFF 6.0, tag 262: 0 where the sample 0 is white. Pillow turns 8 bits and less itself.
_PHOTOMETRIC: Final = 262

_WITH_OPACITY: Final = ("LA", "La", "PA", "RGBA", "RGBa")

#: Bytes of a profile that is read: the largest in use are tables of inks, of 1 to 3 MB.
_PROFILE_BYTES: Final = 4 << 20

#: Profiles kept ready, which take up to their size and the transform's.
_PROFILES_KEPT: Final = 16

#: A profile by which no colour changes by more than this is sRGB's own under another name, of which
#: there are dozens; that saves 1.2 ms an image and a rounding.
_SAME_LEVELS: Final = 2

#: The kinds of pixels (ICC.1:2022, 7.2.8) that a profile must be of to be one of a mode.
_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


def in_srgb(image: Image.Image, wanted: tuple[int, int], box: Box | None = None) -> Samples:
    """A loaded image at the size ``wanted`` (width, height), on white, in sRGB.

    ``box`` (left, top, right, bottom) is what of it there is to be seen, the whole by default.

    Returns (height, width, 3) uint8.
    """
    meant = _meant(image)
    mode, samples = _flat(meant.mode, _resized(meant, wanted, box or (0, 0, *meant.size)))
    return small_in_srgb(mode, samples, image.info.get("icc_profile"))


def small_in_srgb(mode: str, samples: Samples, profile: object = None) -> Samples:
    """Samples of mode L, (height, width), RGB or CMYK, (height, width, 3 or 4), in sRGB.

    Returns (height, width, 3) uint8. ``profile`` (ICC) is left out of account where it isn't one
    for this mode, or is damaged.
    """
    if isinstance(profile, bytes) and len(profile) <= _PROFILE_BYTES:
        transform = _to_srgb(profile, mode)
        if transform is not None:
            return np.asarray(transform.apply(_image(mode, samples)))
    if mode == "RGB":
        return samples
    return np.asarray(_image(mode, samples).convert("RGB"))


def key_colour(image: ImageFile.ImageFile) -> int | tuple[int, ...] | None:
    """The one gray or colour that stands for clear, as the loaded image will hold it.

    It is said in the file's depth (PNG, 11.3.1.1), while Pillow scales samples of 2 and 4 bits and
    of three channels of 16 bits keeps the upper 8. To be asked before the image is loaded.
    """
    key = image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, int | tuple) and image.tile:
        raw = image.tile[0][3]
        if isinstance(key, int):
            return key * {"L;2": 85, "L;4": 17}.get(str(raw), 1)
        return tuple(value >> 8 for value in key) if raw == "RGB;16B" else key
    return None


def _meant(image: Image.Image) -> Image.Image:
    """The image in a mode whose samples may be averaged: L, La, RGB, RGBa, CMYK or F."""
    mode = image.mode
    if mode.startswith("I;16"):
        return _of_sixteen(image)
    if mode in ("I", "F"):
        return _floats(image)
    if mode in _WITH_OPACITY or "transparency" in image.info:
        gray = mode in ("1", "L", "LA", "La")
        return image.convert("LA").convert("La") if gray else _weighted(image)
    if mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return _weighted(image)
    if mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _weighted(image: Image.Image) -> Image.Image:
    if image.mode == "RGBa":
        return image
    return image.convert("RGBA").convert("RGBa")


def _of_sixteen(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)  # (height, width) uint16
    gray = _EIGHT_OF_SIXTEEN[samples]
    if _white_is_zero(image):
        gray = 255 - gray
    key = image.info.get("transparency")
    if isinstance(key, int):
        opaque = np.where(samples == key, 0, 255).astype(np.uint8)
        pair = Image.merge("LA", (Image.fromarray(gray), Image.fromarray(opaque)))
        return pair.convert("La")
    return Image.fromarray(gray)


def _floats(image: Image.Image) -> Image.Image:
    """Mode F, without what isn't a number, and white as the greatest value."""
    samples = np.asarray(image, dtype=np.float32)
    if not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    return Image.fromarray(-samples if _white_is_zero(image) else samples)


def _white_is_zero(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC) == 0)


def _resized(image: Image.Image, wanted: tuple[int, int], box: Box) -> npt.NDArray[Any]:
    """Samples of a part of the image, (height, width[, channels]): float32 for mode F, else uint8.

    The sides of ``box`` are taken to the nearest whole sample.
    """
    if image.mode == "F" or image.width * image.height >= _HUGE:
        return np.asarray(image.resize(wanted, Image.Resampling.BICUBIC, box, _LARGE))
    left, top, right, bottom = (round(side) for side in box)
    blocks = (
        max(int((right - left) / wanted[0] / _LARGE), 1),
        max(int((bottom - top) / wanted[1] / _LARGE), 1),
    )
    if blocks != (1, 1):
        # whole blocks only: the last would be a mean of less, and count for as much
        whole = [
            (side - side % n) for side, n in zip((right - left, bottom - top), blocks, strict=True)
        ]
        part = (left, top, left + whole[0], top + whole[1])
        return reduced(np.asarray(image.reduce(blocks, part)), wanted)
    return reduced(np.asarray(image)[top:bottom, left:right], wanted)


def _flat(mode: str, samples: npt.NDArray[Any]) -> tuple[str, Samples]:
    """What resized samples are without opacity: L, RGB or CMYK."""
    if mode == "F":
        return "L", _stretched(samples)
    if mode in ("La", "RGBa"):
        return mode.removesuffix("a"), _on_white(samples)
    return mode, samples


def _image(mode: str, samples: Samples) -> Image.Image:
    height, width = samples.shape[:2]
    return Image.frombytes(mode, (width, height), samples.tobytes())


def _on_white(samples: Samples) -> Samples:
    """Of colours weighted by their opacity: what is missing to full opacity is white."""
    wide = samples.astype(np.int16)  # (height, width, 2 or 4)
    colours, opacity = wide[..., :-1], wide[..., -1:]
    flat: Samples = np.clip(colours + (255 - opacity), 0, 255).astype(np.uint8)
    return flat[..., 0] if flat.shape[-1] == 1 else flat


def _stretched(samples: npt.NDArray[np.float32]) -> Samples:
    """8 bits of floats. Within 0–1 (whole picture) these are black and white; of other numbers no
    file says what is white, and so the least is black and the greatest white.
    """
    values = np.nan_to_num(samples.astype(np.float64))
    least, greatest = float(values.min()), float(values.max())
    if least < -0.05 or greatest > 1.05:  # resampling overshoots by a little
        values = (values - least) / (greatest - least)
    scaled: Samples = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return scaled


class _Transform:
    """From a profile's colours to sRGB's."""

    def __init__(self, made: ImageCms.ImageCmsTransform) -> None:
        self._made = made

    def apply(self, image: Image.Image) -> Image.Image:
        """An RGB image of one in the profile's mode."""
        rgb = Image.new("RGB", image.size)
        self._made.apply(image, rgb)
        return rgb


@functools.lru_cache(maxsize=_PROFILES_KEPT)
def _to_srgb(profile: bytes, mode: str) -> _Transform | None:
    """What makes colours of a profile sRGB; None where there is nothing to do, or no way to."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # damaged: shown as browsers do, as if there were none
    transform = _Transform(made)
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: _Transform, mode: str) -> bool:
    steps = np.arange(0, 256, 15, dtype=np.uint8)  # 18 levels, the first 0 and the last 255
    if mode == "L":
        before = Image.fromarray(steps[None, :])
    else:
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
        before = Image.fromarray(grid.reshape(1, -1, 3))
    after = np.asarray(transform.apply(before)).astype(int)
    return int(np.abs(after - np.asarray(before.convert("RGB"))).max()) <= _SAME_LEVELS
