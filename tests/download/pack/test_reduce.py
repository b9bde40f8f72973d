"""Reduced pictures against averages reckoned in plain numpy, and that nothing aliases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download.pack.reduce import gray_of, reduced

sides = st.integers(1, 60)


@settings(deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 4), st.integers(0, 255))
def test_plain_stays_plain_at_any_size(
    height: int, width: int, high: int, wide: int, channels: int, level: int
) -> None:
    small = reduced(np.full((height, width, channels), level, np.uint8), (wide, high))
    assert small.shape[:2] == (high, wide)
    assert (small == level).all()


@pytest.mark.parametrize("times", [(2, 2), (3, 5), (7, 2), (16, 16)])
def test_whole_factors_are_averages_of_blocks(times: tuple[int, int]) -> None:
    down, across = times
    samples = np.random.default_rng(1).integers(0, 256, (20 * down, 30 * across, 3), np.uint8)
    blocks = samples.reshape(20, down, 30, across, 3).mean(axis=(1, 3))
    assert np.abs(reduced(samples, (30, 20)).astype(float) - blocks).max() <= 0.5


@pytest.mark.parametrize("factor", [1.1, 1.3, 1.49, 1.5, 1.7, 1.99, 2.2, 2.9, 3.4, 7.7])
def test_a_slope_stays_at_its_place(factor: float) -> None:
    wide = round(700 / factor)
    slope = np.linspace(10, 245, 700)
    samples = np.repeat(np.rint(slope).astype(np.uint8)[None], 40, axis=0)
    middles = (np.arange(wide) + 0.5) * 700 / wide - 0.5  # pixels are areas, not points
    expected = np.interp(middles, np.arange(700), slope)
    inside = slice(2, -2)
    assert np.abs(reduced(samples, (wide, 20))[3, inside] - expected[inside]).max() <= 1.1


@pytest.mark.parametrize("factor", [1.5, 1.6, 1.8, 2.0, 2.3, 2.7, 3.3, 5.5])
def test_stripes_finer_than_a_pixel_become_gray(factor: float) -> None:
    """Taken at points they would come out as wide stripes that aren't there."""
    samples = np.zeros((60, 660), np.uint8)
    samples[:, ::2] = 255
    small = reduced(samples, (round(660 / factor), 30)).astype(float)[5, 4:-4]
    smooth = np.convolve(small, np.ones(8) / 8, "valid")  # waves of eight pixels and more
    assert np.abs(smooth - 127.5).max() < 24


def test_gray_is_brightness_as_television_has_it() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (50, 40, 3), np.uint8)
    expected = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(gray_of(rgb) - expected).max() <= 0.51
