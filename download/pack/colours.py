"""Pixels of any kind, as files hold them → RGB in sRGB, small.

    rgb = in_srgb(image, (341, 256))  # a loaded PIL image of any mode

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

Box = tuple[float, float, float, float]

#: A picture much larger than what is wanted is averaged by whole blocks first, down to this many
#: times the wanted size, and resampled from there: 12 million pixels in 60 ms instead of 285, and
#: the result differs by 55 dB (PSNR), which nobody sees.
_REDUCING_GAP: Final = 3.0

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

#: For a photograph of 400 × 300 that becomes 341 × 256 this takes 1.65 ms, Lanczos 2.27, at a PSNR
#: of 42.0 and 42.3 dB (medians) against a full decode that Lanczos reduced; bilinear 1.0 at 39.7.
_FILTER: Final = Image.Resampling.BICUBIC

#: The kinds of pixels (ICC.1:2022, 7.2.8) that a profile must be of to be one of a mode.
_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


def in_srgb(image: Image.Image, wanted: tuple[int, int], box: Box | None = None) -> Image.Image:
    """A loaded image at the size ``wanted`` (width, height), mode RGB, on white, in sRGB.

    ``box`` (left, top, right, bottom) is what of it there is to be seen, the whole by default.
    """
    profile = image.info.get("icc_profile")
    meant = _meant(image)
    box = box or (0, 0, *meant.size)
    if box != (0, 0, *wanted):
        meant = meant.resize(wanted, _FILTER, box, _REDUCING_GAP)
    flat = _flat(meant)
    if isinstance(profile, bytes) and flat.mode in _SPACES and len(profile) <= _PROFILE_BYTES:
        transform = _to_srgb(profile, flat.mode)
        if transform is not None:
            return transform.apply(flat)
    return flat if flat.mode == "RGB" else flat.convert("RGB")


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


def _flat(image: Image.Image) -> Image.Image:
    """A resized image without opacity: L, RGB or CMYK."""
    if image.mode == "F":
        return Image.fromarray(_stretched(np.asarray(image)))
    if image.mode in ("La", "RGBa"):
        return _on_white(image)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """Of colours weighted by their opacity: what is missing to full opacity is white."""
    samples = np.asarray(image).astype(np.int16)  # (height, width, 2 or 4)
    colours, opacity = samples[..., :-1], samples[..., -1:]
    flat = np.clip(colours + (255 - opacity), 0, 255).astype(np.uint8)
    return Image.fromarray(flat[..., 0] if image.mode == "La" else flat)


def _stretched(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """8 bits of floats. Within 0–1 (whole picture) these are black and white; of other numbers no
    file says what is white, and so the least is black and the greatest white.
    """
    values = np.nan_to_num(samples.astype(np.float64))
    least, greatest = float(values.min()), float(values.max())
    if least < -0.05 or greatest > 1.05:  # resampling overshoots by a little
        values = (values - least) / (greatest - least)
    scaled: npt.NDArray[np.uint8] = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
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
