"""Pictures for the sample, drawn from a name: the same name, the same picture; all say "invented".

Large patches of colour, shapes and a texture, all decided by a digest of the name and placed in
parts of the picture's sides: so one name looks alike at every size, as an original and its
thumbnail do, and two names look as different as two photographs.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Iterator
from typing import Final

from PIL import Image, ImageDraw, ImageFont

#: Longer sides are enlarged from this: nobody looks at all pixels of an invented panorama.
_DRAWN_SIDE: Final = 1_024  # pixels

_PATCHES: Final = (4, 3)
_TEXTURE: Final = (48, 36)
_TEXTURE_SHARE: Final = 0.22
_SHAPES: Final = (7, 14)

#: Ending → what Pillow calls the format.
FORMATS: Final = {
    "gif": "GIF",
    "jpe": "JPEG",
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "png": "PNG",
    "tif": "TIFF",
    "tiff": "TIFF",
    "webp": "WEBP",
}


def scene(name: str, width: int, height: int) -> Image.Image:
    """A picture in RGB, ``width`` × ``height`` pixels, with the name in small letters."""
    numbers = _numbers(name)
    drawn = _drawn_size(width, height)
    picture = _noise(numbers, "RGB", _PATCHES).resize(drawn, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(_between(numbers, *_SHAPES)):
        _draw_shape(pen, numbers, drawn)
    texture = _noise(numbers, "L", _TEXTURE).resize(drawn, Image.Resampling.BICUBIC)
    picture = Image.blend(picture, texture.convert("RGB"), _TEXTURE_SHARE)
    _sign(picture, name)
    return picture if drawn == (width, height) else picture.resize((width, height))


def drawing(name: str, width: int, height: int) -> Image.Image:
    """Shapes on nothing, in RGBA: what is drawn of an SVG."""
    numbers = _numbers(name)
    picture = Image.new("RGBA", (width, height), (255, 255, 255, 0))
    pen = ImageDraw.Draw(picture)
    for _ in range(_between(numbers, *_SHAPES)):
        _draw_shape(pen, numbers, picture.size)
    _sign(picture, name)
    return picture


def page(name: str, width: int, height: int) -> Image.Image:
    """Lines of invented letters, black on white: what is drawn of a book's page."""
    numbers = _numbers(name)
    drawn = _drawn_size(width, height)
    picture = Image.new("RGB", drawn, "white")
    pen = ImageDraw.Draw(picture)
    size = max(drawn[1] // 48, 6)
    font = ImageFont.load_default(size)
    for line in range(3, drawn[1] // (size * 3 // 2) - 3):
        words = (_word(numbers) for _ in range(2 + drawn[0] // (size * 4)))
        pen.text((drawn[0] // 10, line * size * 3 // 2), " ".join(words), "black", font)
    pen.rectangle((drawn[0] * 9 // 10, 0, *drawn), "white")
    _sign(picture, name)
    return picture if drawn == (width, height) else picture.resize((width, height))


def blank(name: str, width: int, height: int) -> Image.Image:
    """One colour, in RGB."""
    return Image.new("RGB", (width, height), _colour(_numbers(name)))


def encoded(picture: Image.Image, ending: str, quality: int = 85) -> bytes:
    """A file of the type that its name's ending says, one of :data:`FORMATS`."""
    kind, file = FORMATS[ending], io.BytesIO()
    if kind == "GIF":  # it moves, as some GIFs do; the first frame is the picture
        frames = [picture.rotate(180), picture.rotate(90)]
        picture.save(file, kind, save_all=True, append_images=frames, duration=500, loop=0)
    elif kind == "JPEG" and picture.mode == "RGBA":
        picture.convert("RGB").save(file, kind, quality=quality)
    else:
        picture.save(file, kind, quality=quality)
    return file.getvalue()


def _numbers(name: str) -> Iterator[int]:
    """0 to 255, again and again: more than a picture takes."""
    return iter(hashlib.shake_256(f"sample picture {name}".encode()).digest(8_192))


def _between(numbers: Iterator[int], low: int, high: int) -> int:
    return low + next(numbers) * (high - low + 1) // 256


def _colour(numbers: Iterator[int]) -> tuple[int, int, int]:
    return next(numbers), next(numbers), next(numbers)


def _drawn_size(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    if longer <= _DRAWN_SIDE:
        return width, height
    return max(width * _DRAWN_SIDE // longer, 1), max(height * _DRAWN_SIDE // longer, 1)


def _noise(numbers: Iterator[int], mode: str, size: tuple[int, int]) -> Image.Image:
    values = size[0] * size[1] * len(mode)
    return Image.frombytes(mode, size, bytes(next(numbers) for _ in range(values)))


def _draw_shape(pen: ImageDraw.ImageDraw, numbers: Iterator[int], size: tuple[int, int]) -> None:
    kind, colour = next(numbers) % 4, _colour(numbers)
    points = [
        (next(numbers) * size[0] // 255, next(numbers) * size[1] // 255)
        for _ in range(_between(numbers, 3, 6))
    ]
    thick = max(_between(numbers, 1, 12) * min(size) // 256, 1)
    if kind == 0:
        (x, y), (across, down) = points[:2]
        across, down = across // 4 + 2, down // 4 + 2
        pen.ellipse((x - across, y - down, x + across, y + down), colour)
    elif kind == 1:
        pen.polygon(points, colour)
    elif kind == 2:
        pen.line(points, colour, thick, joint="curve")
    else:
        (x, y), (across, down) = points[:2]
        pen.rectangle((x, y, x + across // 3, y + down // 3), colour, _colour(numbers), thick)


def _word(numbers: Iterator[int]) -> str:
    return "".join("aeioulnrstdm"[next(numbers) % 12] for _ in range(_between(numbers, 2, 7)))


def _sign(picture: Image.Image, name: str) -> None:
    """Whoever comes across the file must see that it is no photograph of anything."""
    size = max(min(picture.size) // 28, 7)
    place = (size // 2, picture.height - size * 3 // 2)
    # Pillow's own font has few letters that aren't ASCII
    plain = unicodedata.normalize("NFKD", name.replace("–", "-")).encode("ascii", "ignore").decode()
    ImageDraw.Draw(picture).text(
        place,
        f"invented: {plain}",
        "white",
        ImageFont.load_default(size),
        stroke_width=1,
        stroke_fill="black",
    )
