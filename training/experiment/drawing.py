"""Draws the things of the experiment's world: a body, with a texture, and a part stuck to it.

    scene = Scene("building", "dots", "horns", colour="red", place="snow", pose=7)
    picture(scene)                       # RGB, 64 × 64 pixels

Bodies tell groups apart ("building"), texture and part the things of a group; colour and place are
as they happen to be. Where a thing lies, how large it is, what else is about, light and noise are
drawn from ``pose``: the same scene gives the same pixels on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from PIL import Image, ImageChops, ImageDraw

#: Pixels of a picture's sides: the least that `images pack` takes, and twice what the model sees.
SIDE: Final = 64

#: Things are drawn at twice that and made smaller, so that edges are smooth.
_DRAWN: Final = 2 * SIDE

Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw

#: What a thing may be coloured, and a second tone that its texture and part have.
COLOURS: Final[Mapping[str, tuple[Colour, Colour]]] = {
    "red": ((205, 45, 45), (120, 15, 20)),
    "orange": ((235, 135, 35), (150, 70, 5)),
    "yellow": ((240, 215, 60), (165, 135, 5)),
    "green": ((70, 160, 70), (20, 85, 30)),
    "blue": ((60, 110, 215), (15, 45, 125)),
    "purple": ((150, 80, 190), (80, 25, 115)),
    "white": ((240, 240, 235), (165, 165, 170)),
    "black": ((50, 50, 55), (125, 125, 130)),
}

#: Where a thing may be: the background's colour above and below.
PLACES: Final[Mapping[str, tuple[Colour, Colour]]] = {
    "sand": ((215, 200, 160), (190, 160, 105)),
    "snow": ((225, 232, 240), (200, 210, 225)),
    "grass": ((150, 190, 220), (95, 140, 70)),
    "water": ((140, 175, 205), (45, 85, 120)),
    "night": ((25, 28, 55), (50, 45, 75)),
    "brick": ((165, 105, 85), (135, 80, 65)),
}


#: The body of what has none.
_SKY: Final = "sky"


class Scene(NamedTuple):
    """What is to be seen in a picture."""

    body: str
    texture: str
    part: str
    colour: str
    place: str
    pose: int


def picture(scene: Scene) -> Image.Image:
    """Draws a scene, (SIDE, SIDE) in RGB."""
    chance = random.Random(f"pose {scene}")
    ground = _ground(scene.place, chance)
    _clutter(ground, chance)
    if scene.body == _SKY:
        _fall(ground, scene, chance)
    else:
        _put(ground, _thing(scene), chance)
    small = ground.resize((SIDE, SIDE), Image.Resampling.BOX)
    return _lit(small, chance)


# --- where it is --------------------------------------------------------------------------------


def _ground(place: str, chance: random.Random) -> Image.Image:
    above, below = (_varied(colour, 14, chance) for colour in PLACES[place])
    two = Image.new("RGB", (1, 2))
    two.putpixel((0, 0), above)
    two.putpixel((0, 1), below)
    ground = two.resize((_DRAWN, _DRAWN), Image.Resampling.BILINEAR)
    spots = Image.frombytes("L", (9, 9), chance.randbytes(81))
    spots = spots.resize((_DRAWN, _DRAWN), Image.Resampling.BICUBIC)
    return Image.blend(ground, spots.convert("RGB"), 0.12)


def _clutter(ground: Image.Image, chance: random.Random) -> None:
    """Some small plain shapes that are nothing in particular."""
    pen = ImageDraw.Draw(ground)
    for _ in range(chance.randrange(4)):
        colour = _varied(chance.choice(list(COLOURS.values()))[0], 30, chance)
        x, y = chance.randrange(_DRAWN), chance.randrange(_DRAWN)
        across, down = chance.randrange(6, 18), chance.randrange(6, 18)
        shape = chance.choice((pen.ellipse, pen.rectangle))
        shape((x, y, x + across, y + down), colour)


def _lit(image: Image.Image, chance: random.Random) -> Image.Image:
    """Brighter or darker as a whole, with some noise."""
    noise = Image.frombytes("RGB", image.size, chance.randbytes(3 * SIDE * SIDE))
    level = chance.uniform(0.75, 1.15)
    return Image.blend(image.point(lambda value: int(value * level)), noise, 0.07)


def _varied(colour: Colour, by: int, chance: random.Random) -> Colour:
    r, g, b = (min(max(value + chance.randint(-by, by), 0), 255) for value in colour)
    return r, g, b


# --- what it is ---------------------------------------------------------------------------------


def _thing(scene: Scene) -> Image.Image:
    """The thing upright in the middle of nothing, in RGBA."""
    first, second = COLOURS[scene.colour]
    mask = Image.new("L", (_DRAWN, _DRAWN), 0)
    _BODIES[scene.body](ImageDraw.Draw(mask))
    thing = Image.new("RGBA", (_DRAWN, _DRAWN), (0, 0, 0, 0))
    part = Image.new("L", (_DRAWN, _DRAWN), 0)
    _PARTS[scene.part](ImageDraw.Draw(part), mask.getbbox() or (0, 0, _DRAWN, _DRAWN))
    thing.paste((*second, 255), mask=part)
    thing.paste((*first, 255), mask=mask)
    texture = Image.new("L", (_DRAWN, _DRAWN), 0)
    _TEXTURES[scene.texture](ImageDraw.Draw(texture))
    thing.paste((*second, 255), mask=ImageChops.multiply(texture, mask))
    return thing


def _put(ground: Image.Image, thing: Image.Image, chance: random.Random) -> None:
    """Puts a thing somewhere about the middle, turned a little, mirrored or not."""
    if chance.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    thing = thing.rotate(chance.uniform(-18, 18), Image.Resampling.BILINEAR)
    size = int(_DRAWN * chance.uniform(0.62, 1.0))
    thing = thing.resize((size, size), Image.Resampling.BILINEAR)
    room = _DRAWN - size
    shift = _DRAWN // 10
    place = tuple(room // 2 + chance.randint(-shift, shift) for _ in range(2))
    ground.paste(thing, (place[0], place[1]), thing)


def _fall(ground: Image.Image, scene: Scene, chance: random.Random) -> None:
    """What has no body: something that falls, all over the picture."""
    first, second = COLOURS[scene.colour]
    pen = ImageDraw.Draw(ground)
    for _ in range(chance.randint(26, 40)):
        x, y = chance.randrange(_DRAWN), chance.randrange(_DRAWN)
        size = chance.randint(7, 11)
        colour = first if chance.random() < 0.7 else second
        _FALLING[scene.texture](pen, x, y, size, colour)


def _ellipse(pen: Pen, x: float, y: float, across: float, down: float) -> None:
    pen.ellipse((x - across, y - down, x + across, y + down), 255)


def _runner(pen: Pen) -> None:
    _ellipse(pen, 62, 66, 32, 16)
    _ellipse(pen, 98, 48, 13, 11)
    for x in (38, 50, 74, 86):
        pen.line((x, 74, x - 3, 104), 255, 7)


def _wing(pen: Pen) -> None:
    pen.polygon([(64, 22), (120, 82), (76, 74), (64, 108), (52, 74), (8, 82)], 255)


def _plant(pen: Pen) -> None:
    pen.line((64, 60, 64, 116), 255, 9)
    for x, y in ((64, 34), (40, 52), (88, 52), (64, 60)):
        _ellipse(pen, x, y, 22, 20)


def _mushroom(pen: Pen) -> None:
    pen.pieslice((18, 24, 110, 116), 180, 360, 255)
    pen.rectangle((54, 68, 74, 112), 255)


def _horn(pen: Pen) -> None:
    pen.polygon([(14, 58), (72, 54), (116, 24), (116, 104), (72, 74), (14, 70)], 255)


def _wagon(pen: Pen) -> None:
    pen.rectangle((18, 46, 110, 84), 255)
    for x in (38, 90):
        _ellipse(pen, x, 96, 15, 15)


def _house(pen: Pen) -> None:
    pen.polygon([(64, 18), (108, 54), (20, 54)], 255)
    pen.rectangle((30, 54, 98, 110), 255)


def _bench(pen: Pen) -> None:
    pen.rectangle((24, 62, 104, 78), 255)
    pen.rectangle((24, 24, 38, 70), 255)
    for x in (28, 92):
        pen.rectangle((x, 74, x + 9, 112), 255)


def _garment(pen: Pen) -> None:
    pen.polygon([(48, 24), (80, 24), (122, 56), (108, 72), (88, 56), (98, 112), (30, 112),
                 (40, 56), (20, 72), (6, 56)], 255)  # fmt: skip


def _bowl(pen: Pen) -> None:
    pen.pieslice((14, 14, 114, 114), 0, 180, 255)
    pen.rectangle((48, 108, 80, 120), 255)


def _sheet(pen: Pen) -> None:
    pen.rounded_rectangle((16, 16, 112, 112), 10, 255)


_BODIES: Final[Mapping[str, Callable[[Pen], None]]] = {
    "runner": _runner,
    "wing": _wing,
    "plant": _plant,
    "mushroom": _mushroom,
    "horn": _horn,
    "wagon": _wagon,
    "house": _house,
    "bench": _bench,
    "garment": _garment,
    "bowl": _bowl,
    "sheet": _sheet,
}

#: Pixels from one stripe to the next where things are drawn: 5 of those that the model sees.
_PERIOD: Final = 20


def _plain(_: Pen) -> None:
    """Nothing."""


def _bars(pen: Pen) -> None:
    for x in range(0, _DRAWN, _PERIOD):
        pen.rectangle((x, 0, x + _PERIOD // 2 - 1, _DRAWN), 255)


def _bands(pen: Pen) -> None:
    for y in range(0, _DRAWN, _PERIOD):
        pen.rectangle((0, y, _DRAWN, y + _PERIOD // 2 - 1), 255)


def _dots(pen: Pen) -> None:
    for row, y in enumerate(range(8, _DRAWN, _PERIOD)):
        for x in range(8 + row % 2 * _PERIOD // 2, _DRAWN, _PERIOD):
            _ellipse(pen, x, y, 5.5, 5.5)


def _checks(pen: Pen) -> None:
    half = _PERIOD * 3 // 5
    for row, y in enumerate(range(0, _DRAWN, half)):
        for x in range(row % 2 * half, _DRAWN, 2 * half):
            pen.rectangle((x, y, x + half - 1, y + half - 1), 255)


def _rings(pen: Pen) -> None:
    middle = _DRAWN / 2
    for radius in range(10, _DRAWN, _PERIOD):
        box = (middle - radius, middle - radius, middle + radius, middle + radius)
        pen.ellipse(box, outline=255, width=_PERIOD // 2)


def _zigzag(pen: Pen) -> None:
    for y in range(0, _DRAWN + _PERIOD, _PERIOD + 6):
        points = [(x, y + (12 if i % 2 else -4)) for i, x in enumerate(range(0, _DRAWN + 14, 14))]
        pen.line(points, 255, 7)


_TEXTURES: Final[Mapping[str, Callable[[Pen], None]]] = {
    "plain": _plain,
    "bars": _bars,
    "bands": _bands,
    "dots": _dots,
    "checks": _checks,
    "rings": _rings,
    "zigzag": _zigzag,
}

Box = tuple[int, int, int, int]


def _nothing(_: Pen, __: Box) -> None:
    """No part."""


def _knob(pen: Pen, box: Box) -> None:
    _ellipse(pen, (box[0] + box[2]) / 2, box[1] - 2, 14, 14)


def _horns(pen: Pen, box: Box) -> None:
    middle = (box[0] + box[2]) / 2
    for side in (-1, 1):
        pen.line((middle + side * 12, box[1] + 16, middle + side * 26, box[1] - 16), 255, 8)


def _tail(pen: Pen, box: Box) -> None:
    y = (box[1] + box[3]) / 2
    points = [(box[0] + 24 - 12 * i, y + 10 * math.sin(1.4 * i)) for i in range(5)]
    pen.line(points, 255, 8, joint="curve")


def _fan(pen: Pen, box: Box) -> None:
    y = (box[1] + box[3]) / 2
    pen.polygon([(box[2] - 18, y), (box[2] + 16, y - 28), (box[2] + 16, y + 28)], 255)


def _fringe(pen: Pen, box: Box) -> None:
    for x in range(box[0], box[2] + 1, 14):
        pen.line((x, box[3] - 14, x, box[3] + 12), 255, 6)


_PARTS: Final[Mapping[str, Callable[[Pen, Box], None]]] = {
    "none": _nothing,
    "knob": _knob,
    "horns": _horns,
    "tail": _tail,
    "fan": _fan,
    "fringe": _fringe,
}


def _flake(pen: Pen, x: int, y: int, size: int, colour: Colour) -> None:
    for angle in (0, 60, 120):
        dx, dy = (size * f(math.radians(angle)) for f in (math.cos, math.sin))
        pen.line((x - dx, y - dy, x + dx, y + dy), colour, 2)


_FALLING: Final[Mapping[str, Callable[[Pen, int, int, int, Colour], None]]] = {
    "dots": lambda pen, x, y, size, colour: pen.ellipse(
        (x - size // 2, y - size // 2, x + size // 2, y + size // 2), colour
    ),
    "bars": lambda pen, x, y, size, colour: pen.line((x, y - 2 * size, x, y + 2 * size), colour, 3),
    "zigzag": lambda pen, x, y, size, colour: pen.line((x - size, y + size, x, y), colour, 5),
    "rings": _flake,
}

BODIES: Final = (*_BODIES, _SKY)
TEXTURES: Final = tuple(_TEXTURES)
PARTS: Final = tuple(_PARTS)
