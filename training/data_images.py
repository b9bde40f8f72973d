"""A JPEG → the pixels a network is given: cut out and made smaller as the recipe says, normalised.

    eye = Eye(size=224, mean=mean, std=std, augment=Augment(), decode="exact")
    eye.look(jpeg, out, partial(crop_numbers, seed, epoch, key))     # out: (3, 224, 224)

To train, torchvision's RandomResizedCrop by its rule (a share of the area, a ratio by its
logarithm, up to ten tries, else the middle), whose numbers come from BLAKE2b over "seed epoch key
crop": so a crop depends on these alone, not on the order, the worker or a generator's state. To
evaluate, open_clip's transform: the shorter side to the size, and the middle of that.

Three ways of decoding:

- ``exact``: Pillow's, and its bicubic filter, as torchvision and open_clip have them. Pixels are
  equal to theirs, to the bit.
- ``fast``: libjpeg-turbo without Pillow's copies, which gives the same pixels, and torch's bicubic
  filter, which is Pillow's with SIMD and shorter weights: of shards of 256 pixels 2 to 4 % of the
  values are off, by 6 of 255 at most (63 dB); of 512 fewer. `python -m benchmarks loading`.
- ``draft``: as ``fast``, of a JPEG that is large enough decoded at a half, a quarter or an eighth.

Normalising is a table of 256 numbers for each channel, made as ToTensor and Normalize make them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Out = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Decode = Literal["exact", "fast", "draft"]
#: Begins the random numbers of an image, from 0 to 1, without 1.
Draws = Callable[[], Iterator[float]]
Box = tuple[int, int, int, int]  # left, top, width, height

_TRIES: Final = 10  # torchvision's RandomResizedCrop
_FRACTION: Final = 2.0**-53
_numbers = Struct("<8Q").unpack

#: With ``draft``, what a half, a quarter or an eighth leaves is so many times the size at least:
#: as in download.pack.image, where it is argued.
_DRAFT_OVER: Final = 1.1


class Augment(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an image is cut out: the reference's, milder than ImageNet's 0.08 to 1."""

    #: Of the area, from and to.
    scale: tuple[float, float] = (0.4, 1.0)
    #: Width over height, from and to.
    ratio: tuple[float, float] = (0.9, 1.111)


def crop_numbers(seed: int, epoch: int, key: str) -> Iterator[float]:
    """Endless numbers from 0 to 1, without 1, of an image in an epoch."""
    block = 0
    while True:
        digest = blake2b(f"{seed} {epoch} {key} crop {block}".encode(), digest_size=64).digest()
        for number in _numbers(digest):
            yield (number >> 11) * _FRACTION
        block += 1


def random_box(width: int, height: int, augment: Augment, numbers: Iterator[float]) -> Box:
    """What is cut out of an image of ``width`` × ``height``; torchvision's rule."""
    low, high = (math.log(ratio) for ratio in augment.ratio)
    least, most = augment.scale
    for _ in range(_TRIES):
        area = width * height * (least + (most - least) * next(numbers))
        ratio = math.exp(low + (high - low) * next(numbers))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left = int((width - wide + 1) * next(numbers))
            top = int((height - tall + 1) * next(numbers))
            return left, top, wide, tall
    wide, tall = width, height
    if width / height < augment.ratio[0]:
        tall = round(width / augment.ratio[0])
    elif width / height > augment.ratio[1]:
        wide = round(height * augment.ratio[1])
    return (width - wide) // 2, (height - tall) // 2, wide, tall


class Eye:
    """Makes pixels of JPEGs. ``augment`` None: as for evaluation.

    ``as_bytes``: values from 0 to 255 as they are, for :func:`normalised` to be done later.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        augment: Augment | None = None,
        decode: Decode = "exact",
        as_bytes: bool = False,
    ) -> None:
        self._size, self._augment, self._decode = size, augment, decode
        self._tables = None if as_bytes else list(_tables(mean, std))

    def look(self, jpeg: bytes, out: Out, numbers: Draws) -> None:
        """Fills ``out`` (3, size, size), RGB, float32 normalised or uint8.

        ``numbers`` begins the random numbers of the image.

        Raises ValueError where the JPEG can't be decoded.
        """
        planes = cv2.split(self.pixels(jpeg, numbers))
        if self._tables is None:
            out[:] = planes
            return
        for plane, table, channel in zip(planes, self._tables, out, strict=True):
            cv2.LUT(plane, table, dst=channel)

    def pixels(self, jpeg: bytes, numbers: Draws) -> Pixels:
        """(size, size, 3) of a JPEG, RGB.

        Raises ValueError where it can't be decoded.
        """
        if self._decode != "exact":
            found = self._quickly(jpeg, numbers())
            if found is not None:
                return found
        try:
            image: Image.Image = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
            image.load()
        except MemoryError:
            raise
        except Exception as error:  # whatever a codec makes of any bytes
            raise ValueError(str(error).partition(" <_io")[0]) from error
        image = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(self._exactly(image, numbers()))

    def _exactly(self, image: Image.Image, numbers: Iterator[float]) -> Image.Image:
        bicubic, size = Image.Resampling.BICUBIC, (self._size, self._size)
        if self._augment is not None:
            left, top, wide, tall = random_box(*image.size, self._augment, numbers)
            cut = image.crop((left, top, left + wide, top + tall))
            return cut.resize(size, bicubic)
        whole = _shorter_side(*image.size, self._size)
        if whole != image.size:
            image = image.resize(whole, bicubic)
        left, top = _middle(*whole, self._size)
        return image.crop((left, top, left + self._size, top + self._size))

    def _quickly(self, jpeg: bytes, numbers: Iterator[float]) -> Pixels | None:
        """None for what is left to Pillow: ink, a JPEG with a flaw, or one that it refuses."""
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(jpeg)
            if colours == "CMYK" or _is_too_large(width, height):
                return None
            box, size, smaller = self._part(width, height, numbers)
            pixels = simplejpeg.decode_jpeg(
                jpeg, "RGB", min_width=-(-width // smaller), min_height=-(-height // smaller)
            )
        except ValueError:
            return None
        left, top, wide, tall = (round(side / smaller) for side in box)
        cut = pixels[top : top + tall, left : left + wide]
        if cut.shape[:2] != size[::-1]:
            cut = _bicubic(cut, size)
        if self._augment is None:
            left, top = _middle(*size, self._size)
            cut = cut[top : top + self._size, left : left + self._size]
        return np.ascontiguousarray(cut)

    def _part(
        self, width: int, height: int, numbers: Iterator[float]
    ) -> tuple[Box, tuple[int, int], int]:
        """What is cut out, the size it is brought to, by how much smaller it may be decoded."""
        if self._augment is None:
            box, size = (0, 0, width, height), _shorter_side(width, height, self._size)
        else:
            box = random_box(width, height, self._augment, numbers)
            size = (self._size, self._size)
        if self._decode == "fast":
            return box, size, 1
        over = min(box[2] / size[0], box[3] / size[1]) / _DRAFT_OVER
        return box, size, next((n for n in (8, 4, 2) if over >= n), 1)


def _is_too_large(width: int, height: int) -> bool:
    """Whether it is beyond what Pillow opens: a damaged header may ask for all the memory."""
    most = Image.MAX_IMAGE_PIXELS
    return most is not None and width * height > 2 * most  # up to that it warns


def normalised(
    images: torch.Tensor,
    mean: Sequence[float] | torch.Tensor,
    std: Sequence[float] | torch.Tensor,
) -> torch.Tensor:
    """(B, 3, S, S) float32 of uint8, on the device where they are; on a CPU equal to the bit to
    what the loader normalises."""
    shape = 1, 3, 1, 1
    found = images.to(torch.float32).div_(255)
    kind: dict[str, Any] = {"dtype": found.dtype, "device": found.device}
    middle, spread = torch.as_tensor(mean, **kind), torch.as_tensor(std, **kind)
    return found.sub_(middle.view(shape)).div_(spread.view(shape))


def _tables(mean: Sequence[float], std: Sequence[float]) -> Iterator[npt.NDArray[np.float32]]:
    """For each channel (1, 256): what each value becomes, as ToTensor and Normalize compute it."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    for middle, spread in zip(mean, std, strict=True):
        yield ((values - np.float32(middle)) / np.float32(spread))[None]


def _shorter_side(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height with ``size`` pixels at the shorter side, as torchvision's Resize has it."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _middle(width: int, height: int, size: int) -> tuple[int, int]:
    """Left and top of the middle, as torchvision's CenterCrop has it."""
    return round((width - size) / 2), round((height - size) / 2)


def _bicubic(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(height, width, 3) brought to a size, (width, height)."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resize: Callable[..., torch.Tensor] = torch.nn.functional.interpolate
    made = resize(planes, size=size[::-1], mode="bicubic", antialias=True)
    found: Pixels = made[0].permute(1, 2, 0).numpy()
    return found
