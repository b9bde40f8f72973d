"""Pages of text, and pictures that are as plain or as regular as these; all invented."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_OFTEN = [12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 1, 1.5, 2, 0.8, 0.2, 0.1, 0.2, 0.1]
_LENGTHS = [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 11]
_BLACK: Colour = (20, 20, 20)


def _font(name: str, size: float) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def _words(chance: random.Random, count: int) -> list[str]:
    lengths = chance.choices(_LENGTHS, k=count)
    return ["".join(chance.choices(_LETTERS, _OFTEN, k=length)) for length in lengths]


def _lines(chance: random.Random, width: float, font: Any, count: int) -> list[str]:
    """Paragraphs, broken at the width."""
    lines: list[str] = []
    while len(lines) < count:
        line = "    "
        for word in _words(chance, chance.randint(20, 120)):
            if font.getlength(f"{line} {word}") > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}"
        lines.append(line)
    return lines[:count]


def page(seed: int, kind: str) -> Image.Image:
    """A page of one column (``plain``), of two (``columns``), yellow and stained (``old``), or a
    screen of code (``dark``)."""
    chance = random.Random(seed)
    width = chance.choice([800, 1000, 1240, 1654])
    height = int(width * chance.choice([1.3, 1.414, 1.5, 0.75, 1, 0.66]))
    ground, ink = {"old": ((232, 220, 190), (60, 45, 35)), "dark": ((30, 30, 34), (220,) * 3)}.get(
        kind, ((250,) * 3, _BLACK)
    )
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    count = chance.randint(28, 62) if height >= width else chance.randint(16, 34)
    margin = width * chance.uniform(0.03, 0.12)
    pitch = (height - 2 * margin) / count
    names = ["DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSerif-Italic"]
    name = "DejaVuSansMono" if kind == "dark" else chance.choice(names)
    font = _font(name, max(pitch * chance.uniform(0.62, 0.75), 8))
    columns = 2 if kind == "columns" else 1
    across = (width - (columns + 1) * margin) / columns
    for column in range(columns):
        for row, line in enumerate(_lines(chance, across, font, count)):
            if kind == "dark":
                words = line.split()[: chance.randint(2, 9)]
                line = " " * chance.choice([0, 4, 4, 8, 8, 12]) + " ".join(words)
            place = (margin + column * (across + margin), margin + row * pitch)
            draw.text(place, line, font=font, fill=ink)
    return _aged(image, seed) if kind == "old" else image


def _aged(image: Image.Image, seed: int) -> Image.Image:
    samples = np.asarray(image).astype(np.float64)
    down, across = np.mgrid[-0.5 : 0.5 : samples.shape[0] * 1j, -0.5 : 0.5 : samples.shape[1] * 1j]
    samples += np.random.default_rng(seed).normal(0, 6, samples.shape)
    samples -= ((down**2 + across**2) * 60)[..., None]
    aged = Image.fromarray(samples.clip(0, 255).astype(np.uint8))
    return aged.rotate(0.4, Image.Resampling.BICUBIC, fillcolor=(215, 205, 180))


PAGES = ("plain", "columns", "old", "dark")

# --- pictures -----------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 800, 600


def _polygon(chance: random.Random, x: float, y: float, size: float) -> list[tuple[float, float]]:
    turns = sorted(chance.uniform(0, math.tau) for _ in range(chance.randint(3, 9)))
    reach = [size * chance.uniform(0.5, 1.2) for _ in turns]
    return [
        (x + far * math.cos(turn), y + far * math.sin(turn))
        for turn, far in zip(turns, reach, strict=True)
    ]


def _places(step: int, margin: int = 20) -> list[tuple[int, int]]:
    across = range(margin, _WIDTH - step, step)
    return [(x, y) for y in range(margin, _HEIGHT - step, step) for x in across]


def _object(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for _ in range(chance.randint(1, 5)):
        shade = chance.randrange(200)
        draw.polygon(_polygon(chance, 400, 300, 200), fill=(shade, shade, shade), outline=_BLACK)


def _small_object(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    x, y = chance.randint(50, 700), chance.randint(50, 500)
    draw.ellipse((x, y, x + 25, y + 25), fill=(90, 40, 30))


def _drawing(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for _ in range(chance.randint(2, 10)):
        draw.line(_polygon(chance, 400, 300, 220), fill=_BLACK, width=chance.randint(1, 5))


def _engraving(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([4, 5, 6, 8])
    for _ in range(chance.randint(2, 5)):
        x, y, size = chance.uniform(250, 550), chance.uniform(200, 320), chance.uniform(90, 180)
        for line in np.arange(-size, size, step):
            half = math.sqrt(max(size**2 - line**2, 0))
            points = [
                (x + at, y + line + 3 * math.sin(at / 15) + chance.uniform(-1, 1))
                for at in np.arange(-half, half, 7)
            ]
            draw.line(points, fill=_BLACK, width=chance.randint(1, 3))


def _plate(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    _engraving(chance, draw)
    for row in range(5):
        line = " ".join(_words(chance, 9))
        draw.text((60, 455 + row * 26), line[:60], font=_font("DejaVuSerif", 18), fill=_BLACK)


def _diagram(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for _ in range(chance.randint(4, 10)):
        x, y = chance.uniform(0, 640), chance.uniform(0, 540)
        draw.rectangle((x, y, x + 150, y + 60), outline=_BLACK, width=2)
        draw.text((x + 8, y + 18), " ".join(_words(chance, 2)), font=_font("DejaVuSans", 18))
        draw.line((x, y, chance.uniform(0, 800), chance.uniform(0, 600)), fill=_BLACK, width=2)


def _music(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for y in range(60, 520, 90):
        for line in range(5):
            draw.line((40, y + line * 9, 760, y + line * 9), fill=_BLACK)
        for x in range(70, 740, chance.choice([24, 32])):
            at = y + chance.randint(-1, 8) * 4.5
            draw.ellipse((x, at, x + 11, at + 8), fill=_BLACK)
            draw.line((x + 10, at + 4, x + 10, at - 28), fill=_BLACK, width=2)


def _stripes(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([16, 20, 30])
    for y in range(0, _HEIGHT, step):
        draw.rectangle((0, y, _WIDTH, y + step // 2), fill=_BLACK)


def _dots(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([10, 14, 20])
    for x, y in _places(step):
        if chance.random() < 0.8:
            draw.ellipse((x, y, x + step * 0.6, y + step * 0.6), fill=_BLACK)


def _squares(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([16, 20])
    for x, y in _places(step, 40):
        if chance.random() < 0.5:
            draw.rectangle((x, y, x + step, y + step), fill=_BLACK)


def _specimens(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([30, 40, 50])
    for x, y in _places(step):
        draw.ellipse((x, y, x + step * 0.6, y + step * 0.35), fill=(50, 50, 50))
        for _ in range(6):
            foot = (x + step * chance.random() * 0.7, y + step * chance.random() * 0.6)
            draw.line((x + step * 0.3, y + step * 0.17, *foot), fill=_BLACK)


def _leaves(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    step = chance.choice([60, 80, 110])
    for x, y in _places(step):
        shade = chance.randrange(120)
        draw.polygon(_polygon(chance, x + step / 2, y + step / 2, step * 0.35), fill=(shade,) * 3)


def _map(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for _ in range(60):
        x, y, turn = chance.uniform(0, 800), chance.uniform(0, 600), chance.uniform(0, 6)
        points = []
        for _ in range(20):
            turn += chance.gauss(0, 0.3)
            x, y = x + 30 * math.cos(turn), y + 30 * math.sin(turn)
            points.append((x, y))
        draw.line(points, fill=(90, 90, 90), width=chance.choice([1, 2, 4]))
    for word in _words(chance, 30):
        place = (chance.uniform(0, 800), chance.uniform(0, 600))
        draw.text(place, word, font=_font("DejaVuSans", 16), fill=_BLACK)


def _chart(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for bar in range(chance.randint(3, 8)):
        top = chance.uniform(100, 500)
        draw.rectangle((60 + bar * 80, top, 110 + bar * 80, 560), fill=(chance.randrange(220),) * 3)
    for line in range(8):
        draw.line((50, 40 + line * 65, 780, 40 + line * 65), fill=(200, 200, 200))


def _poster(chance: random.Random, draw: ImageDraw.ImageDraw) -> None:
    for row, word in enumerate(_words(chance, 4)):
        size = chance.choice([60, 90])
        draw.text((40, 40 + row * 130), word, font=_font("DejaVuSans", size), fill=_BLACK)


PICTURES: dict[str, Callable[[random.Random, ImageDraw.ImageDraw], None]] = {
    "object": _object,
    "small object": _small_object,
    "drawing": _drawing,
    "engraving": _engraving,
    "plate": _plate,
    "diagram": _diagram,
    "music": _music,
    "stripes": _stripes,
    "dots": _dots,
    "squares": _squares,
    "specimens": _specimens,
    "leaves": _leaves,
    "map": _map,
    "chart": _chart,
    "poster": _poster,
}


def picture(seed: int, kind: str) -> Image.Image:
    """Something on white: see :data:`PICTURES`."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    PICTURES[kind](random.Random(seed), ImageDraw.Draw(image))
    return image
