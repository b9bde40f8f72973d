"""Blank pictures and pages of text go; what has something to be seen stays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from download.pack import filters
from download.pack.image import Dropped, ImageOptions, Picture, encode, fitted
from tests.download.pages import PAGES, PICTURES, page, picture

SEEDS = range(3)


def is_blank(image: Image.Image) -> bool:
    return filters.is_blank(np.asarray(image))


def is_text(image: Image.Image) -> bool:
    return filters.is_text(np.asarray(image))


def small(image: Image.Image, size: int = 256) -> Image.Image:
    return image.resize(fitted(*image.size, size), Image.Resampling.LANCZOS)


def scanned(image: Image.Image, quality: int = 60) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("kind", PAGES)
def test_pages_of_text_are_told(kind: str) -> None:
    found = [is_text(small(scanned(page(seed, kind)))) for seed in SEEDS]
    assert sum(found) >= len(found) - (kind in ("dark", "old"))
    assert not any(is_blank(small(page(seed, kind))) for seed in SEEDS)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("size", [128, 256, 512])
def test_pictures_stay(kind: str, size: int) -> None:
    for seed in SEEDS:
        image = small(picture(seed, kind), size)
        assert not is_text(image), seed
        assert not is_blank(image), seed
        inverted = Image.eval(image, lambda level: 255 - level)
        assert not is_text(inverted), seed


def test_a_page_with_a_picture_in_it_stays() -> None:
    for seed in SEEDS:
        whole = page(seed, "plain").resize((800, 1100))
        whole.paste(picture(seed, "engraving").resize((600, 450)), (100, 300))
        assert not is_text(small(whole)), seed


@pytest.mark.parametrize("colour", ["white", "black", "#7f7f7f", "#d0e0f0"])
def test_one_colour_is_blank(colour: str) -> None:
    plain = Image.new("RGB", (300, 256), colour)
    assert is_blank(plain)
    assert is_blank(scanned(plain))
    samples = np.asarray(plain) + np.random.default_rng(0).normal(0, 2, (256, 300, 3))
    assert is_blank(Image.fromarray(samples.clip(0, 255).astype(np.uint8)))
    assert not is_text(plain)


def test_a_spot_is_something() -> None:
    """Of 8 × 8 pixels in 300 × 256; half of that is dust."""
    for side, blank in ((9, False), (5, True)):
        image = Image.new("RGB", (300, 256), "white")
        image.paste("#402010", (100, 100, 100 + side, 100 + side))
        assert is_blank(image) == blank


def test_colour_alone_is_something() -> None:
    """Two colours of the same brightness, and a gradient."""
    image = Image.new("RGB", (256, 256), (255, 0, 0))
    image.paste((0, 130, 0), (64, 64, 192, 192))
    assert not is_blank(image)
    assert not is_blank(Image.linear_gradient("L").convert("RGB"))


@pytest.mark.parametrize("side", [1, 2, 7, 30])
def test_the_smallest_pictures_are_looked_at_too(side: int) -> None:
    random = np.random.default_rng(side)
    for shape in ((side, side), (side, 60), (60, side)):
        noise = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert not is_text(noise)
        assert is_blank(noise) == (noise.size == (1, 1))


@pytest.mark.parametrize(
    ("image", "off", "reason"),
    [
        (Image.new("RGB", (100, 100), "#eeeeee"), {"drop_blank": False}, "blank"),
        (page(0, "plain"), {"drop_text": False}, "text_only"),
    ],
)
def test_filters_can_be_left_out(image: Image.Image, off: dict[str, Any], reason: str) -> None:
    file = io.BytesIO()
    image.save(file, "PNG")
    assert encode(file.getvalue(), ImageOptions()) == Dropped(reason)
    assert isinstance(encode(file.getvalue(), ImageOptions(**off)), Picture)
