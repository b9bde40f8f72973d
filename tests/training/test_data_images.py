"""Pixels: those of torchvision and open_clip, to the bit; how far off the faster ways are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import training.vision  # noqa: F401 - first, see there
from tests.download.fetched import picture
from training.data_images import Augment, Decode, Eye, crop_numbers, normalised, random_box

# isort: split
from open_clip.transform import AugmentationCfg, image_transform
from torchvision.transforms import RandomResizedCrop

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = ((341, 256), (256, 256), (200, 300), (64, 64), (50, 400), (224, 224), (225, 224))
JPEGS = [picture(n, size=size) for n, size in enumerate(SIZES)]


def looked(jpeg: bytes, key: str = "k", size: int = 224, **given: Any) -> np.ndarray:
    as_bytes = given.get("as_bytes", False)
    out = np.zeros((3, size, size), np.uint8 if as_bytes else np.float32)
    Eye(size, MEAN, STD, **given).look(jpeg, out, partial(crop_numbers, 0, 1, key))
    return out


@pytest.mark.parametrize("size", [224, 96])
def test_to_evaluate_pixels_are_those_of_open_clip(size: int) -> None:
    theirs = image_transform(size, is_train=False, mean=MEAN, std=STD)
    for jpeg in JPEGS:
        expected = theirs(Image.open(io.BytesIO(jpeg))).numpy()
        assert np.array_equal(looked(jpeg, size=size), expected)


def test_to_train_pixels_are_those_of_open_clip_for_the_same_crop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    augment = Augment()
    config = AugmentationCfg(scale=augment.scale)
    theirs = image_transform(224, is_train=True, mean=MEAN, std=STD, aug_cfg=config)
    for number, jpeg in enumerate(JPEGS):
        image = Image.open(io.BytesIO(jpeg))
        left, top, wide, tall = random_box(
            *image.size, augment, crop_numbers(0, 1, f"key {number}")
        )
        monkeypatch.setattr(
            RandomResizedCrop, "get_params", lambda *_, box=(top, left, tall, wide): box
        )
        expected = theirs(image.convert("RGB")).numpy()
        assert np.array_equal(looked(jpeg, f"key {number}", augment=augment), expected)


@pytest.mark.parametrize(("width", "height"), [(341, 256), (256, 256), (64, 500), (500, 64)])
def test_crops_are_distributed_as_torchvisions_are(width: int, height: int) -> None:
    """Means and deviations of 2,000 boxes of each, within 6 standard errors of the mean's."""
    augment, image = Augment(), torch.empty(3, height, width)
    torch.manual_seed(0)
    theirs = np.array([
        RandomResizedCrop.get_params(image, list(augment.scale), list(augment.ratio))
        for _ in range(2000)
    ])[:, [1, 0, 3, 2]]  # fmt: skip
    ours = np.array(
        [random_box(width, height, augment, crop_numbers(0, 0, str(n))) for n in range(2000)]
    )
    error = 6 * np.sqrt((theirs.var(0) + ours.var(0)) / 2000) + 1e-9
    assert (np.abs(theirs.mean(0) - ours.mean(0)) <= error).all()
    assert (np.abs(theirs.std(0) - ours.std(0)) <= error + 0.05 * theirs.std(0)).all()
    left, top, wide, tall = ours.T
    assert min(left.min(), top.min()) >= 0
    assert (left + wide <= width).all()
    assert (top + tall <= height).all()


def test_a_crop_is_of_seed_epoch_and_key_alone() -> None:
    def box(*given: Any) -> tuple[int, ...]:
        return random_box(341, 256, Augment(), crop_numbers(*given))

    assert box(0, 3, "a") == box(0, 3, "a") == (105, 45, 206, 206)
    assert len({box(0, 3, "a"), box(1, 3, "a"), box(0, 4, "a"), box(0, 3, "b")}) == 4


@pytest.mark.parametrize(("decode", "size", "least"), [("fast", 224, 55), ("draft", 64, 30)])
@pytest.mark.parametrize("augment", [None, Augment()])
def test_faster_ways_of_decoding_come_near(
    decode: Decode, size: int, least: float, augment: Augment | None
) -> None:
    """PSNR in dB, of the same crop."""
    for jpeg in JPEGS[:3]:
        exact = looked(jpeg, size=size, augment=augment, as_bytes=True).astype(float)
        quick = looked(jpeg, size=size, augment=augment, as_bytes=True, decode=decode).astype(float)
        error = max(float(((exact - quick) ** 2).mean()), 1e-9)
        assert 10 * np.log10(255**2 / error) >= least


@pytest.mark.parametrize("decode", ["exact", "fast", "draft"])
def test_grey_ink_and_slight_flaws_are_read_and_what_is_broken_is_told(decode: Decode) -> None:
    out = io.BytesIO()
    Image.open(io.BytesIO(JPEGS[0])).convert("L").save(out, "JPEG")
    grey = looked(out.getvalue(), as_bytes=True, decode=decode)
    assert np.array_equal(grey[0], grey[1])
    out = io.BytesIO()
    Image.open(io.BytesIO(JPEGS[0])).convert("CMYK").save(out, "JPEG")
    assert looked(out.getvalue(), as_bytes=True, decode=decode).any()
    for data in (JPEGS[0][:3000], b"", b"<html>", JPEGS[0][:2] + bytes(3000)):
        with pytest.raises(ValueError, match=r"."):
            looked(data, decode=decode)


@pytest.mark.parametrize("decode", ["exact", "fast", "draft"])
def test_a_header_that_asks_for_all_the_memory_is_refused(decode: Decode) -> None:
    jpeg = JPEGS[0]
    at = jpeg.index(b"\xff\xc0") + 5  # of a baseline frame: height and width
    huge = jpeg[:at] + (65_500).to_bytes(2, "big") * 2 + jpeg[at + 4 :]
    with pytest.raises(ValueError, match="exceeds limit"):
        looked(huge, decode=decode)


def test_bytes_are_normalised_later_to_the_same_floats() -> None:
    jpegs = JPEGS[:3]
    bytes_ = torch.from_numpy(np.stack([looked(jpeg, as_bytes=True) for jpeg in jpegs]))
    floats = torch.from_numpy(np.stack([looked(jpeg) for jpeg in jpegs]))
    assert torch.equal(normalised(bytes_, MEAN, STD), floats)


def test_numbers_are_even() -> None:
    def first(n: int) -> Iterator[float]:
        numbers = crop_numbers(0, 0, str(n))
        return (next(numbers) for _ in range(20))

    drawn = np.array([list(first(n)) for n in range(500)])
    assert 0 <= drawn.min() < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.015  # 5 standard errors
