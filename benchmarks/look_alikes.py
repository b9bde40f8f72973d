"""Pictures that look alike and aren't the same, and pictures that are the same and were changed.

    for family, picture in drawn(rng, "locator map", 4): …     # four of one family
    CHANGES["crop 10 %"](picture, rng)

All is invented. A family shares what look-alikes on the web share: a map's outline, a chart's axes,
a form, a backdrop, a palette; its members differ in what makes them pictures of different things.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Rng = np.random.Generator
Floats = npt.NDArray[np.float64]
#: Draws one member: the family's random numbers, then the member's own.
Kind = Callable[[Rng, Rng], Image.Image]
Change = Callable[[Image.Image, Rng], Image.Image]
Colour = tuple[int, int, int]

_SYLLABLES = ["ba", "ke", "lo", "mir", "tan", "dor", "us", "vel", "na", "shi", "pra", "gon", "el"]


# ------------------------------------------------------------------------------- materials


def fractal(rng: Rng, height: int, width: int, power: float) -> Floats:
    """Noise whose amplitudes fall as 1/frequency^power, mean 0, deviation 1."""
    if height > 1 and (height % 32 or width % 32):  # lengths that are quick to transform
        return fractal(rng, -(-height // 32) * 32, -(-width // 32) * 32, power)[:height, :width]
    down = np.fft.fftfreq(height)[:, None]
    across = np.fft.rfftfreq(width)[None, :]
    length = np.hypot(down * height, across * width)
    length[0, 0] = 1
    phases = np.exp(2j * np.pi * rng.random(length.shape))
    spectrum = phases * length**-power
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (height, width))
    return np.asarray(noise / noise.std())


def _size(rng: Rng) -> tuple[int, int]:
    """Width and height as cameras and programs give them."""
    ratio = rng.choice([4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4, 2 / 3])
    short = int(rng.integers(380, 520))
    return (round(short * ratio), short) if ratio >= 1 else (short, round(short / ratio))


def _colour(rng: Rng, low: int = 0, high: int = 256) -> Colour:
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def _shaded(noise: Floats, dark: Colour, light: Colour) -> Floats:
    """Noise between two colours, (height, width, 3)."""
    share = np.clip(noise * 0.25 + 0.5, 0, 1)[..., None]
    return np.asarray(dark) * (1 - share) + np.asarray(light) * share


def _picture(values: Floats) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _word(rng: Rng) -> str:
    return "".join(rng.choice(_SYLLABLES, rng.integers(2, 4))).capitalize()


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float,
          fill: Colour | tuple[int, int, int, int] = (20, 20, 20)) -> None:  # fmt: skip
    draw.text(at, text, fill=fill, font=ImageFont.load_default(size))


def _outline(rng: Rng, middle: tuple[float, float], radius: float, rough: float,
             corners: int = 60) -> list[tuple[float, float]]:  # fmt: skip
    """A closed line around a middle; rough 0 is a circle."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = np.ones(corners)
    for wave in range(1, 9):
        reach += rough / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 6.28))
    reach = np.clip(reach, 0.2, 2) * radius
    x, y = middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _object(rng: Rng, side: int, rough: float, base: Colour) -> tuple[Image.Image, Image.Image]:
    """A thing with a texture, lit from a side, and its mask, both (side, side)."""
    noise = fractal(rng, side, side, rng.uniform(1.0, 1.8))
    other = tuple(int(v) for v in np.clip(np.asarray(base) + rng.integers(-120, 120, 3), 0, 255))
    values = _shaded(noise, base, (other[0], other[1], other[2]))
    light = np.linspace(1.25, 0.6, side)[None, :, None] if rng.random() < 0.5 else 1.0
    mask = Image.new("L", (side, side))
    line = _outline(rng, (side / 2, side / 2), side * 0.36, rough)
    ImageDraw.Draw(mask).polygon(line, fill=255)
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0.3, 0.7, 2) * side
        inner = _outline(rng, (x, y), side * rng.uniform(0.04, 0.14), rough)
        part = Image.new("L", (side, side))
        ImageDraw.Draw(part).polygon(inner, fill=255)
        values = np.where(np.asarray(part)[..., None] > 0, _colour(rng), values)
    return _picture(values * light), mask.filter(ImageFilter.GaussianBlur(1))


# ------------------------------------------------------------------------------- kinds


def _landscape(family: Rng, own: Rng) -> Image.Image:
    """A sky over a ground with things on it: the palette is the family's."""
    width, height = _size(family)
    sky, ground, far = _colour(family, 100), _colour(family, 0, 160), _colour(family)
    horizon = height * own.uniform(0.35, 0.65)
    line = horizon + height * 0.06 * fractal(own, 1, width, 1.4)[0]
    down = np.arange(height)[:, None]
    above = down < line[None, :]
    clouds = _shaded(fractal(own, height, width, 1.6) - 0.5, sky, (245, 245, 250))
    earth = _shaded(fractal(own, height, width, own.uniform(0.9, 1.4)), (20, 25, 20), ground)
    picture = _picture(np.where(above[..., None], clouds, earth))
    for _ in range(own.integers(0, 5)):
        side = int(height * own.uniform(0.15, 0.5))
        thing, mask = _object(own, side, own.uniform(0.05, 0.4), far)
        at = int(own.uniform(-0.1, 0.9) * width), int(horizon + own.uniform(-0.3, 0.2) * height)
        picture.paste(thing, at, mask)
    return picture


def _texture(family: Rng, own: Rng) -> Image.Image:
    """Leather, bark, water: noise of one slope and palette."""
    width, height = _size(family)
    dark, light, power = _colour(family, 0, 128), _colour(family, 128), family.uniform(0.8, 1.9)
    return _picture(_shaded(fractal(own, height, width, power), dark, light))


def _flower(family: Rng, own: Rng) -> Image.Image:
    """Petals in the middle before a blurred green: same species, other flower."""
    width, height = _size(family)
    petals, colour = int(family.integers(5, 14)), _colour(family, 90)
    back = _shaded(fractal(own, height, width, 2.0), (10, 40, 10), (110, 160, 80))
    picture = _picture(back)
    draw = ImageDraw.Draw(picture)
    x, y = width * own.uniform(0.4, 0.6), height * own.uniform(0.4, 0.6)
    reach, turn = min(width, height) * own.uniform(0.28, 0.42), own.uniform(0, 6.28)
    for petal in range(petals):
        angle = turn + 2 * math.pi * petal / petals + own.normal() * 0.06
        middle = x + reach * 0.55 * math.cos(angle), y + reach * 0.55 * math.sin(angle)
        shade = tuple(int(v * own.uniform(0.75, 1)) for v in colour)
        draw.polygon(_outline(own, middle, reach * 0.42, 0.12), fill=(shade[0], shade[1], shade[2]))
    draw.polygon(_outline(own, (x, y), reach * 0.25, 0.05), fill=(220, 180, 40))
    grain = own.normal(0, 6, (height, width, 1))
    return _picture(np.asarray(picture, np.float64) + grain)


def _product(family: Rng, own: Rng) -> Image.Image:
    """A thing before white, all about in the middle."""
    width, height = _size(family)
    base, rough = _colour(family), family.uniform(0.02, 0.2)
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    side = int(min(width, height) * own.uniform(0.9, 1.1))
    thing, mask = _object(own, side, rough, base)
    picture.paste(thing, ((width - side) // 2, (height - side) // 2), mask)
    return picture


def _museum(family: Rng, own: Rng) -> Image.Image:
    """One table and backdrop, a colour scale at its side, each time another thing on it."""
    width, height = _size(family)
    values = _shaded(fractal(family, height, width, 1.8), (90, 90, 95), (150, 150, 155))
    values *= np.linspace(1.3, 0.7, height)[:, None, None]
    picture = _picture(values + own.normal(0, 3, (height, width, 1)))
    draw = ImageDraw.Draw(picture)
    for n in range(8):
        left = width * (0.06 + 0.05 * n)
        draw.rectangle((left, height * 0.9, left + width * 0.05, height * 0.95),
                       fill=_colour(family))  # fmt: skip
    side = int(min(width, height) * own.uniform(0.6, 0.8))
    thing, mask = _object(own, side, own.uniform(0.02, 0.3), _colour(family))
    picture.paste(thing, ((width - side) // 2, (height - side) // 2), mask)
    return picture


def _coin(family: Rng, own: Rng) -> Image.Image:
    """A disc with a relief before black."""
    side = int(family.integers(400, 500))
    metal = np.asarray(_colour(family, 120))
    relief = fractal(own, side, side, 1.5)
    slope = np.gradient(relief, axis=1) * 14 + 0.7
    y, x = np.mgrid[:side, :side] / side - 0.5
    radius = np.hypot(x, y)
    disc = np.clip((0.44 - radius) * 80, 0, 1) * (1 + 0.5 * ((radius > 0.4) & (radius < 0.42)))
    return _picture((slope * disc)[..., None] * metal)


def _portrait(family: Rng, own: Rng) -> Image.Image:
    """Head and shoulders, drawn from few shapes, before a backdrop."""
    width, height = 400, int(family.integers(480, 560))
    backdrop = _shaded(fractal(own, height, width, 2.2), _colour(family, 60), _colour(family, 90))
    picture = _picture(backdrop)
    draw = ImageDraw.Draw(picture)
    skin, cloth, hair = _colour(own, 110, 230), _colour(own), _colour(own, 0, 120)
    draw.polygon(_outline(own, (200, height), 190 * own.uniform(0.8, 1.1), 0.05), fill=cloth)
    x, y, wide = 200 + own.normal() * 12, height * 0.42 + own.normal() * 10, own.uniform(85, 110)
    draw.polygon(_outline(own, (x, y - wide * 0.35), wide * 1.15, 0.12), fill=hair)
    draw.ellipse((x - wide * 0.85, y - wide, x + wide * 0.85, y + wide * 1.2), fill=skin)
    for side in (-1, 1):
        eye = x + side * wide * 0.35
        draw.ellipse((eye - 11, y - 8, eye + 11, y + 8), fill=(250, 250, 250))
        draw.ellipse((eye - 6, y - 6, eye + 6, y + 6), fill=_colour(own, 0, 110))
    mouth = wide * own.uniform(0.2, 0.5)
    draw.ellipse(
        (x - mouth, y + wide * 0.6, x + mouth, y + wide * 0.75), fill=_colour(own, 60, 190)
    )
    noise = own.normal(0, 5, (height, width, 1))
    return _picture(np.asarray(picture, np.float64) + noise)


def _countries(rng: Rng, width: int, height: int) -> npt.NDArray[np.int64]:
    """A map: 0 is sea, above are countries, (height, width)."""
    land = fractal(rng, height, width, 1.9) > -0.2
    count = int(rng.integers(12, 30))
    x, y = rng.uniform(0, width, count), rng.uniform(0, height, count)
    wobble = fractal(rng, height, width, 1.6) * 14
    down, across = np.mgrid[:height, :width]
    far = np.hypot(across[..., None] + wobble[..., None] - x, down[..., None] - y)
    return np.where(land, far.argmin(axis=-1) + 1, 0)


def _locator(family: Rng, own: Rng) -> Image.Image:
    """The same map each time, two other countries in red."""
    width, height = 480, 360
    countries = _countries(family, width, height)
    here = own.choice(np.unique(countries)[1:], 2, replace=False)
    colours = np.array([[200, 225, 245], [245, 240, 215], [205, 40, 40]])
    which = np.where(countries == 0, 0, np.where(np.isin(countries, here), 2, 1))
    edge = (np.diff(countries, axis=1, prepend=0) != 0) | (
        np.diff(countries, axis=0, prepend=0) != 0
    )
    return _picture(np.where(edge[..., None], 120, colours[which]).astype(np.float64))


def _map(family: Rng, own: Rng) -> Image.Image:
    """Other land in the same map style, with names."""
    width, height = 480, 360
    countries = _countries(own, width, height)
    palette = np.array([[190, 215, 240], *(_colour(family, 150) for _ in range(30))])
    edge = (np.diff(countries, axis=1, prepend=0) != 0) | (
        np.diff(countries, axis=0, prepend=0) != 0
    )
    picture = _picture(np.where(edge[..., None], 90, palette[countries]).astype(np.float64))
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        _text(draw, (own.uniform(0, 400), own.uniform(0, 340)), _word(own), 14)
    return picture


def _route(family: Rng, own: Rng) -> Image.Image:
    """The same map each time, another road on it in red: differs in a few lines."""
    width, height = 480, 360
    countries = _countries(family, width, height)
    colours = np.array([[200, 225, 245], [245, 240, 215]])
    picture = _picture(colours[(countries > 0).astype(int)].astype(np.float64))
    x = np.cumsum(own.normal(8, 10, 40)) + own.uniform(0, 150)
    y = np.cumsum(own.normal(0, 10, 40)) + own.uniform(80, 280)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    ImageDraw.Draw(picture).line(points, fill=(210, 30, 30), width=5)
    return picture


def _chart(family: Rng, own: Rng) -> Image.Image:
    """Bars or lines in the same axes and colours; the data differ."""
    picture = Image.new("RGB", (560, 400), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    title, bars = f"{_word(family)} {_word(family)}", family.random() < 0.5
    colours = [_colour(family, 30, 220) for _ in range(3)]
    _text(draw, (180, 10), title, 22)
    for tick in range(6):
        draw.line((60, 350 - tick * 56, 540, 350 - tick * 56), fill=(215, 215, 215))
        _text(draw, (20, 340 - tick * 56), str(tick * 20), 14)
    for n, colour in enumerate(colours):
        values = np.clip(np.cumsum(own.normal(0, 0.2, 12)) + own.uniform(0.2, 0.8), 0.03, 1) * 280
        for place, value in enumerate(values):
            left = 70 + place * 39 + n * 11
            if bars:
                draw.rectangle((left, 350 - value, left + 10, 350), fill=colour)
            elif place:
                draw.line((left - 39, 350 - values[place - 1], left, 350 - value), colour, 3)
    return picture


def _logo(family: Rng, own: Rng) -> Image.Image:
    """A word beside a mark: mark and face are the family's, word and colour its own."""
    picture = Image.new("RGB", (480, 300), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    sides, spot = int(family.integers(3, 9)), family.uniform(0.2, 0.6)
    colour = _colour(own, 0, 200)
    draw.regular_polygon((110, 150, 80), sides, fill=colour)
    draw.ellipse((110 - 80 * spot, 150 - 80 * spot, 110 + 80 * spot, 150 + 80 * spot),
                 fill=(255, 255, 255))  # fmt: skip
    _text(draw, (210, 115), _word(own), 54, colour)
    return picture


def _flag(family: Rng, own: Rng) -> Image.Image:
    """Three stripes, now and then with a mark."""
    upright, mark = family.random() < 0.5, family.random() < 0.5
    palette = [(206, 17, 38), (255, 255, 255), (0, 56, 147), (0, 122, 61), (252, 209, 22),
               (0, 0, 0), (240, 120, 0), (110, 180, 230)]  # fmt: skip
    picture = Image.new("RGB", (480, 320))
    draw = ImageDraw.Draw(picture)
    for n, which in enumerate(own.choice(len(palette), 3, replace=False)):
        box = (n * 160, 0, n * 160 + 159, 319) if upright else (0, n * 107, 479, n * 107 + 106)
        draw.rectangle(box, fill=palette[which])
    if mark:
        draw.regular_polygon((240, 160, 40), int(own.integers(3, 9)), fill=_colour(own))
    return picture


def _drawing(family: Rng, own: Rng) -> Image.Image:
    """Black lines on white: plants, machines."""
    width, height = _size(family)
    picture = Image.new("RGB", (width, height), (252, 250, 244))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(family.integers(6, 14))):
        at = own.uniform(0.2, 0.8) * width, own.uniform(0.2, 0.8) * height
        line = _outline(own, at, min(width, height) * own.uniform(0.05, 0.25), 0.3)
        draw.line([*line, line[0]], fill=(30, 30, 30), width=int(own.integers(1, 4)))
    for _ in range(int(family.integers(0, 40))):
        x, y = own.uniform(0.1, 0.9) * width, own.uniform(0.1, 0.9) * height
        draw.line((x, y, x + own.normal() * 60, y + own.normal() * 60), fill=(50, 50, 50))
    return picture


def _icon(family: Rng, own: Rng) -> Image.Image:
    """A glyph in a round button."""
    picture = Image.new("RGB", (300, 300), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((20, 20, 280, 280), 60, fill=_colour(family, 0, 200))
    kind = int(own.integers(3))
    if kind == 0:
        for place in ((100, 110), (200, 110), (100, 200), (200, 200)):
            draw.regular_polygon((*place, own.uniform(15, 50)), int(own.integers(3, 9)),
                                 fill=(255, 255, 255))  # fmt: skip
    elif kind == 1:
        _text(draw, (80, 40), _word(own)[:2], 150, (255, 255, 255))
    else:
        draw.polygon(_outline(own, (150, 150), 85, 0.35), fill=(255, 255, 255))
    return picture


def _page(family: Rng, own: Rng) -> Image.Image:
    """A scanned page: the same columns, other words."""
    picture = Image.new("RGB", (420, 580), (248, 246, 238))
    draw = ImageDraw.Draw(picture)
    columns, size = int(family.integers(1, 3)), float(family.uniform(11, 16))
    for column in range(columns):
        top = 40.0
        while top < 540:
            if own.random() > 0.08:
                line = " ".join(_word(own).lower() for _ in range(9 // columns))
                _text(draw, (36 + column * 190, top), line[: int(600 / size / columns)], size)
            top += size * 1.3
    return picture


def _screen(family: Rng, own: Rng) -> Image.Image:
    """A window with a bar and a list: the same program, other contents."""
    picture = Image.new("RGB", (640, 400), (240, 240, 242))
    draw = ImageDraw.Draw(picture)
    bar = _colour(family, 20, 160)
    draw.rectangle((0, 0, 640, 36), fill=bar)
    draw.rectangle((0, 36, 150, 400), fill=(225, 226, 230))
    _text(draw, (12, 6), _word(family), 20, (255, 255, 255))
    for n in range(8):
        _text(draw, (12, 50 + n * 30), _word(family), 14)
    for n in range(10):
        _text(draw, (170, 50 + n * 32), " ".join(_word(own) for _ in range(3)), 14)
        if own.random() < 0.4:
            draw.rectangle((560, 50 + n * 32, 620, 70 + n * 32), fill=_colour(own, 60, 220))
    return picture


def _sunset(family: Rng, own: Rng) -> Image.Image:
    """Hardly more than a gradient."""
    width, height = _size(family)
    top, bottom = np.asarray(_colour(family)), np.asarray(_colour(family))
    share = np.linspace(0, 1, height)[:, None, None] ** own.uniform(0.7, 1.4)
    values = top * (1 - share) + bottom * share + own.normal(0, 2, (height, width, 3))
    return _picture(values)


def _stars(family: Rng, own: Rng) -> Image.Image:
    """Points on black."""
    width, height = _size(family)
    values = np.zeros((height, width))
    count = int(family.integers(60, 500))
    at = own.integers(0, height, count), own.integers(0, width, count)
    values[at] = own.exponential(1200, count)
    picture = _picture(np.repeat(values[..., None], 3, axis=-1).clip(0, 255))
    glow = picture.filter(ImageFilter.GaussianBlur(2))
    haze = fractal(own, height, width, 1.8)[..., None] * 6 + 12
    values = np.asarray(picture, np.float64) + 4.0 * np.asarray(glow, np.float64) + haze
    return _picture(values)


def _building(family: Rng, own: Rng) -> Image.Image:
    """A front of windows before a sky."""
    width, height = _size(family)
    sky = _shaded(fractal(own, height, width, 1.7), _colour(family, 120), (240, 240, 245))
    picture = _picture(sky)
    draw = ImageDraw.Draw(picture)
    left, top = width * own.uniform(0.05, 0.3), height * own.uniform(0.1, 0.35)
    right = width * own.uniform(0.7, 0.95)
    wall = _colour(own, 60, 210)
    draw.rectangle((left, top, right, height), fill=wall)
    rows, columns = int(own.integers(3, 8)), int(own.integers(3, 10))
    for row in range(rows):
        for column in range(columns):
            x = left + (right - left) * (column + 0.25) / columns
            y = top + (height - top) * (row + 0.2) / rows
            pane = _colour(own, 0, 110)
            draw.rectangle((x, y, x + (right - left) * 0.5 / columns,
                            y + (height - top) * 0.55 / rows), fill=pane)  # fmt: skip
    grain = fractal(own, height, width, 0.8)[..., None] * 10
    return _picture(np.asarray(picture, np.float64) + grain)


def _moments(family: Rng, own: Rng) -> Image.Image:
    """One camera on a stand: the same street, each time something else passes."""
    picture = _building(np.random.default_rng(family.integers(1 << 32)), family)
    width, height = picture.size
    for _ in range(own.integers(1, 4)):
        side = int(height * own.uniform(0.25, 0.45))
        thing, mask = _object(own, side, 0.15, _colour(own))
        picture.paste(thing, (int(own.uniform(0, 0.8) * width), height - side), mask)
    return picture


#: What is drawn; those of ``SAME_GROUND`` share most of their pixels with their family.
KINDS: Final[dict[str, Kind]] = {
    "landscape": _landscape,
    "texture": _texture,
    "flower": _flower,
    "building": _building,
    "portrait": _portrait,
    "coin": _coin,
    "product on white": _product,
    "thing on one table": _museum,
    "street at other moments": _moments,
    "map": _map,
    "locator map": _locator,
    "road on a map": _route,
    "chart": _chart,
    "logo": _logo,
    "flag": _flag,
    "line drawing": _drawing,
    "icon": _icon,
    "page of text": _page,
    "screenshot": _screen,
    "gradient": _sunset,
    "stars": _stars,
}


def drawn(kind: str, family: int, member: int) -> Image.Image:
    """A member of a family, always the same one, RGB."""
    draw, place = KINDS[kind], list(KINDS).index(kind)
    return draw(
        np.random.default_rng([place, family]), np.random.default_rng([place, family, member + 1])
    ).convert("RGB")


# ------------------------------------------------------------------------------- changes


def _coded(picture: Image.Image, name: str, quality: int) -> Image.Image:
    data = io.BytesIO()
    picture.save(data, name, quality=quality)
    return Image.open(data).convert("RGB")


def _jpeg(quality: int) -> Change:
    return lambda picture, _: _coded(picture, "JPEG", quality)


def _resized(share: float) -> Change:
    def change(picture: Image.Image, rng: Rng) -> Image.Image:
        return picture.resize((round(picture.width * share), round(picture.height * share)))

    return change


def _cropped(lost: float) -> Change:
    """Loses that share of its width and of its height, on sides by chance."""

    def change(picture: Image.Image, rng: Rng) -> Image.Image:
        across, down = rng.random(2)
        left, top = picture.width * lost * across, picture.height * lost * down
        right, bottom = left + picture.width * (1 - lost), top + picture.height * (1 - lost)
        return picture.crop((round(left), round(top), round(right), round(bottom)))

    return change


def _one_side(lost: float) -> Change:
    """Loses that share on one side."""

    def change(picture: Image.Image, rng: Rng) -> Image.Image:
        box = [0, 0, *picture.size]
        side = int(rng.integers(4))
        size = picture.size[side % 2]
        box[side] += round(lost * size) * (1 if side < 2 else -1)
        return picture.crop((box[0], box[1], box[2], box[3]))

    return change


def _framed(share: float) -> Change:
    def change(picture: Image.Image, rng: Rng) -> Image.Image:
        fill = [(255, 255, 255), (0, 0, 0), _colour(rng)][int(rng.integers(3))]
        return ImageOps.expand(picture, round(min(picture.size) * share), fill)

    return change


def _letterboxed(picture: Image.Image, rng: Rng) -> Image.Image:
    side = max(picture.size)
    return ImageOps.pad(picture, (side, side), color=(0, 0, 0) if rng.random() < 0.5 else "white")


def _captioned(picture: Image.Image, rng: Rng) -> Image.Image:
    """A bar with a line of text below, a tenth of the height."""
    bar = picture.height // 10
    whole = Image.new("RGB", (picture.width, picture.height + bar), (255, 255, 255))
    whole.paste(picture, (0, 0))
    text = " ".join(_word(rng) for _ in range(5))
    _text(ImageDraw.Draw(whole), (10, picture.height + bar * 0.1), text, bar * 0.6)
    return whole


def _marked(opacity: int) -> Change:
    """A word over the middle, a third of the width."""

    def change(picture: Image.Image, rng: Rng) -> Image.Image:
        layer = Image.new("RGBA", picture.size)
        size = picture.width / 8
        fill = (255, 255, 255, opacity) if rng.random() < 0.6 else (0, 0, 0, opacity)
        _text(ImageDraw.Draw(layer), (picture.width * 0.3, picture.height * 0.4), _word(rng), size,
              fill)  # fmt: skip
        return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")

    return change


def _signed(picture: Image.Image, rng: Rng) -> Image.Image:
    """A small opaque line of text in a corner."""
    signed = picture.copy()
    at = picture.width * 0.6, picture.height * 0.93
    _text(ImageDraw.Draw(signed), at, f"© {_word(rng)} {_word(rng)}", picture.height / 24,
          (255, 255, 255))  # fmt: skip
    return signed


def _brightness(factor: float) -> Change:
    return lambda picture, _: ImageEnhance.Brightness(picture).enhance(factor)


def _combined(picture: Image.Image, rng: Rng) -> Image.Image:
    """What a site does: cut by a few hundredths, smaller, its mark, compressed."""
    for change in (_cropped(0.05), _resized(0.6), _signed, _jpeg(60)):
        picture = change(picture, rng)
    return picture


CHANGES: Final[dict[str, Change]] = {
    "JPEG 90": _jpeg(90),
    "JPEG 50": _jpeg(50),
    "JPEG 30": _jpeg(30),
    "WebP 60": lambda picture, _: _coded(picture, "WEBP", 60),
    "palette (GIF)": lambda picture, _: picture.quantize(256).convert("RGB"),
    "half size": _resized(0.5),
    "a quarter": _resized(0.25),
    "stretched 5 %": lambda p, _: p.resize((round(p.width * 1.05), p.height)),
    "15 % brighter": _brightness(1.15),
    "20 % darker": _brightness(0.8),
    "contrast + 20 %": lambda p, _: ImageEnhance.Contrast(p).enhance(1.2),
    "less colour": lambda p, _: ImageEnhance.Color(p).enhance(0.8),
    "gray": lambda p, _: p.convert("L").convert("RGB"),
    "sharpened": lambda p, _: p.filter(ImageFilter.SHARPEN),
    "blurred": lambda p, _: p.filter(ImageFilter.GaussianBlur(1.5)),
    "crop 5 %": _cropped(0.05),
    "crop 10 %": _cropped(0.10),
    "crop 20 %": _cropped(0.20),
    "one side 10 %": _one_side(0.10),
    "one side 20 %": _one_side(0.20),
    "border 3 %": _framed(0.03),
    "border 10 %": _framed(0.10),
    "letterbox": _letterboxed,
    "caption bar": _captioned,
    "corner text": _signed,
    "watermark, faint": _marked(70),
    "watermark, strong": _marked(160),
    "cut, smaller, signed": _combined,
    "mirrored": lambda picture, _: ImageOps.mirror(picture),
}
