"""Made photographs: JPEG files of 800×600 that cost a decoder what a camera's do.

Noise whose spectrum falls like that of photographs, the steeper the smoother, with the colours
smoother than the light, some edges of things before it, and the grain of a sensor. 60 to 170 kB,
4:2:0, quality 88. No two have more in common than the rule by which they are drawn.
"""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

#: Part of the directory's name: another number wherever the code below makes other pictures.
VERSION: Final = 1

WIDTH: Final = 800
HEIGHT: Final = 600

_QUALITY: Final = 88
_STEEPNESS: Final = (1.25, 1.65)  # of the amplitude's fall, as a power of the frequency
_LIGHT, _COLOUR, _GRAIN = 45, 14, 2  # standard deviations, of 255
_THINGS: Final = 12
_CHUNK: Final = 32  # photographs a process is given at a time


def photos_of(work: Path, count: int, seed: int, workers: int) -> list[Path]:
    """The first ``count`` photographs of a seed, made where they aren't there yet."""
    folder = work / f"image-photos-{VERSION}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for _ in pool.map(partial(_make, folder, seed), missing, chunksize=_CHUNK):
                pass
    return paths


def _make(folder: Path, seed: int, number: int) -> None:
    partial_file = folder / f"{number:06d}.partial"
    partial_file.write_bytes(photo(seed, number))
    partial_file.rename(folder / f"{number:06d}.jpg")


def photo(seed: int, number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """One photograph, as JPEG: the same bytes for the same numbers and the same Pillow."""
    chance = np.random.default_rng([seed, number])
    amplitude = _frequencies(width, height) ** -chance.uniform(*_STEEPNESS)
    amplitude[0, 0] = 0
    planes = np.stack([_noise(amplitude, chance, width, height) for _ in range(3)], axis=-1)
    planes *= (_LIGHT, _COLOUR, _COLOUR)
    planes[..., 0] += chance.normal(0, _GRAIN, planes.shape[:2])
    pixels = (planes + 128).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels, "YCbCr").convert("RGB")
    _draw_things(picture, chance)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


@cache
def _frequencies(width: int, height: int) -> npt.NDArray[np.float64]:
    """How fast the wave of each coefficient is: (height, width // 2 + 1), in cycles a pixel."""
    found: npt.NDArray[np.float64] = np.hypot(
        np.fft.rfftfreq(width)[None, :], np.fft.fftfreq(height)[:, None]
    )
    found[0, 0] = 1
    return found


def _noise(
    amplitude: npt.NDArray[np.float64], chance: np.random.Generator, width: int, height: int
) -> npt.NDArray[np.float64]:
    """Noise of a given spectrum, (height, width), of mean 0 and deviation 1."""
    phase = chance.random(amplitude.shape) * 2 * np.pi
    plane: npt.NDArray[np.float64] = np.fft.irfft2(amplitude * np.exp(1j * phase), (height, width))
    plane /= plane.std()
    return plane


def _draw_things(picture: Image.Image, chance: np.random.Generator) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(_THINGS):
        left, top = int(chance.integers(picture.width)), int(chance.integers(picture.height))
        across, down = (int(size) for size in chance.integers(picture.width // 5, size=2) + 9)
        colour = tuple(int(part) for part in chance.integers(256, size=3))
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        box = (left, top, left + across, top + down)
        shape(box, outline=colour, width=int(chance.integers(2, 9)))
