"""A likeness against sums written out, and that it leaves out frames and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.look_alikes import drawn
from download.pack import likeness


def of(picture: Image.Image) -> likeness.Bytes:
    return likeness.likenesses([likeness.of(np.asarray(picture))])


def waves(down: int, across: int, amplitude: float, side: int = 288) -> Image.Image:
    """One pair of frequencies, in gray."""
    at = (np.arange(side) + 0.5) / side
    plane = np.cos(math.pi * down * at)[:, None] * np.cos(math.pi * across * at)[None, :]
    return Image.fromarray(np.rint(128 + amplitude * plane).astype(np.uint8)).convert("RGB")


def test_is_as_long_as_it_says_for_any_picture() -> None:
    for size in ((1, 1), (1, 900), (900, 1), (7, 5), (2000, 300)):
        assert (
            len(likeness.of(np.asarray(Image.new("RGB", size, (200, 10, 10))))) == likeness.LENGTH
        )


@pytest.mark.parametrize(("down", "across"), [(0, 2), (3, 0), (5, 4), (17, 20)])
def test_a_frequency_is_found_at_its_place(down: int, across: int) -> None:
    made = of(waves(down, across, 120))
    bright = likeness.brightness(made)[0]
    place = np.unravel_index(np.abs(bright).argmax(), bright.shape)
    assert place == (down, across)
    rest = np.abs(bright.astype(int))
    rest[place] = 0
    assert rest.max() <= 16  # of 127: levels are whole numbers


def test_amplitudes_are_those_of_the_picture() -> None:
    made = of(waves(2, 3, 40))
    weighted = 40 * math.hypot(2, 3)  # one frequency: the root of its square over the others
    assert likeness.spread(made)[0] == pytest.approx(weighted / math.sqrt(575), rel=0.02)


def test_brighter_and_more_contrast_is_the_same_brightness() -> None:
    picture = drawn("landscape", 1, 0)
    values = np.asarray(picture, np.float64)
    changed = Image.fromarray(np.clip(values * 0.7 + 20, 0, 255).astype(np.uint8))
    apart = likeness.brightness(of(picture)).astype(int) - likeness.brightness(of(changed))
    assert np.abs(apart).max() <= 2


def test_colours_are_those_of_jpeg() -> None:
    made = likeness.colour(of(Image.new("RGB", (300, 200), (255, 0, 0))))[0]
    cb, cr = -0.168736 * 255, 0.5 * 255  # ITU-T T.871, 7
    assert made[0, 0, 0] == pytest.approx(cb, abs=1)
    assert made[1, 0, 0] == pytest.approx(cr, abs=1)
    assert np.count_nonzero(made) == 2


def test_mirrored_is_the_likeness_of_the_mirrored_picture() -> None:
    picture = drawn("map", 2, 0)
    expected = of(ImageOps.mirror(picture)).view(np.int8).astype(int)
    assert np.abs(likeness.mirrored(of(picture)).view(np.int8) - expected)[0, 4:].max() <= 1


@pytest.mark.parametrize("colour", ["white", "black", (120, 125, 122)])
def test_frames_and_bars_are_left_out(colour: str | tuple[int, int, int]) -> None:
    picture = drawn("landscape", 3, 0)
    framed = ImageOps.expand(picture, 37, colour)
    twice = ImageOps.expand(ImageOps.expand(picture, 20, "white"), 9, "black")
    bars = ImageOps.expand(picture, (0, 60), colour)
    for changed in (framed, twice, bars):
        apart = likeness.brightness(of(changed)).astype(int) - likeness.brightness(of(picture))
        assert np.abs(apart).mean() < 2
        assert likeness.aspect(of(changed))[0] == pytest.approx(
            likeness.aspect(of(picture))[0], abs=0.02
        )


def test_the_ground_of_a_thing_is_no_frame() -> None:
    """Else a crop of it would lose another share of what is left."""
    for kind in ("product on white", "coin", "logo", "gradient"):
        picture = drawn(kind, 0, 0)
        assert likeness.aspect(of(picture))[0] == pytest.approx(
            math.log2(picture.width / picture.height), abs=1e-3
        )


def test_stripes_are_no_frame() -> None:
    """Else flags of one middle stripe would be one flag."""
    for colours in (("red", "white", "red"), ("black", "red", "gold"), ("red", "white") * 4):
        flag = Image.new("RGB", (300, 24 * len(colours)))
        for stripe, colour in enumerate(colours):
            flag.paste(colour, (0, 24 * stripe, 300, 24 * stripe + 24))
        assert likeness.aspect(of(flag))[0] == pytest.approx(math.log2(300 / flag.height), abs=1e-3)


def test_aspects_are_logarithms() -> None:
    picture = Image.effect_noise((600, 150), 60).convert("RGB")
    assert likeness.aspect(of(picture))[0] == 2
    assert likeness.aspect(of(picture.rotate(90, expand=True)))[0] == -2
