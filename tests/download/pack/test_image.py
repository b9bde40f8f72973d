"""What becomes of an image's pixels: orientation, colours, depth, opacity, size. What is no image.

Files are made by tests/download/picture_files.py where a codec of ours would be asked to confirm
itself, and colours are reckoned in numpy. A JPEG is read back, so that flat areas are compared,
to 3 levels.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from download.pack import image as codecs
from download.pack import likeness
from download.pack.image import FORMATS, REASONS, Dropped, ImageOptions, Picture, encode, fitted
from tests.download import picture_files as files

Pixels = npt.NDArray[np.uint8]

JPEG_LEVELS = 3  # that a flat area may change by


def options(**given: Any) -> ImageOptions:
    """Without filters, unless a test wants them: test pictures are plain."""
    kept = {"drop_blank": False, "drop_text": False, "min_side": 1}
    return ImageOptions(**(kept | given))


def made(data: bytes, **given: Any) -> Picture:
    picture = encode(data, options(**given))
    assert isinstance(picture, Picture), picture
    return picture


def pixels(data: bytes, **given: Any) -> Pixels:
    """What came out, (height, width, 3)."""
    picture = made(data, **given)
    shown = Image.open(io.BytesIO(picture.data))
    assert shown.mode == "RGB"
    assert shown.size == (picture.width, picture.height)
    return np.asarray(shown)


def dropped(data: bytes, **given: Any) -> str:
    gone = encode(data, options(**given))
    assert isinstance(gone, Dropped), "it should have been dropped"
    assert gone.reason in REASONS
    return gone.reason


def saved(image: Image.Image, kind: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **given)
    return file.getvalue()


def patches(*colours: Any, side: int = 48) -> npt.NDArray[Any]:
    """Squares side by side, (side, side × n[, channels]), of the samples that are given."""
    row = np.repeat(np.asarray(colours), side, axis=0)
    return np.repeat(row[None], side, axis=0)


def middles(shown: Pixels, count: int) -> npt.NDArray[np.float64]:
    """The colours of squares side by side, (count, 3)."""
    side = shown.shape[1] // count
    parts = [shown[side // 4 : -side // 4, side * k + 8 : side * (k + 1) - 8] for k in range(count)]
    return np.array([part.reshape(-1, 3).mean(axis=0) for part in parts])


def near(found: Any, wanted: Any, levels: float = JPEG_LEVELS) -> None:
    wanted = np.asarray(wanted, dtype=np.float64)
    if wanted.ndim == 1:
        wanted = np.repeat(wanted[:, None], 3, axis=1)
    assert np.abs(found - wanted).max() <= levels, f"{np.round(found)} is not {np.round(wanted)}"


def photograph(width: int, height: int, seed: int = 0, fall: float = 1) -> Image.Image:
    """Noise with the amplitudes of natural pictures, 1/frequency (Field 1987), or a power of it."""
    random = np.random.default_rng(seed)
    across, down = np.fft.fftfreq(width)[None, :], np.fft.fftfreq(height)[:, None]
    amplitudes = np.maximum(np.hypot(across, down), 1 / max(width, height)) ** -fall
    planes = []
    for _ in range(3):
        noise = np.fft.fft2(random.normal(size=(height, width)))
        plane = np.fft.ifft2(noise * amplitudes).real
        planes.append((plane - plane.mean()) / plane.std() * 45 + 128)
    return Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))


# --- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ((800, 600), 256, (341, 256)),
        ((600, 800), 256, (256, 341)),
        ((512, 512), 256, (256, 256)),
        ((257, 1000), 256, (256, 996)),
        ((2000, 300), 512, (2000, 300)),  # the reference made it 3413 × 512
        ((100, 90), 256, (100, 90)),
        ((256, 256), 256, (256, 256)),
    ],
)
def test_the_shorter_side_becomes_the_size_and_nothing_is_enlarged(
    before: tuple[int, int], size: int, after: tuple[int, int]
) -> None:
    picture = made(saved(photograph(*before), "PNG"), size=size)
    assert (picture.width, picture.height) == after
    assert (picture.original_width, picture.original_height) == before


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(1, 2048))
def test_proportions_are_kept_to_half_a_pixel(width: int, height: int, size: int) -> None:
    wide, high = fitted(width, height, size)
    assert min(wide, high) == min(width, height, size)
    scale = min(size / min(width, height), 1)
    assert abs(wide - width * scale) <= 0.5 + 1e-9
    assert abs(high - height * scale) <= 0.5 + 1e-9
    assert fitted(height, width, size) == (high, wide)


@pytest.mark.parametrize("side", [(512, 512), (565, 571), (800, 600), (853, 640), (1133, 1150)])
@pytest.mark.parametrize(("fall", "decibels"), [(1, 28.5), (1.5, 36)])
def test_a_quicker_decode_of_jpegs_is_not_seen(
    side: tuple[int, int], fall: float, decibels: float
) -> None:
    """Photographs lie between these: noise is all detail; what falls off faster shows any shift."""
    data = saved(photograph(*side, fall=fall), "JPEG", quality=90)
    shown = pixels(data).astype(float)
    full = Image.open(io.BytesIO(data)).resize(fitted(*side, 256), Image.Resampling.LANCZOS)
    jpeg = saved(full, "JPEG", quality=95)
    difference = shown - np.asarray(Image.open(io.BytesIO(jpeg)), dtype=float)
    assert (difference**2).mean() < 255**2 / 10 ** (decibels / 10)


@pytest.mark.parametrize("side", [(800, 600), (700, 525), (853, 641), (301, 299), (4001, 70)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [40, 64, 128, 256])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_codecs_of_jpegs_show_the_same(
    side: tuple[int, int], mode: str, size: int, progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photograph(*side, fall=1.5).convert(mode)
    data = saved(picture, "JPEG", quality=90, progressive=progressive)
    taken: list[bool] = []
    quickly = codecs._quickly
    monkeypatch.setattr(
        "download.pack.image._quickly",
        lambda *given: taken.append((made := quickly(*given)) is not None) or made,
    )
    quick = pixels(data, size=size, max_aspect=60)
    assert taken == [True]
    monkeypatch.setattr("download.pack.image._quickly", lambda *_: None)
    by_pillow = pixels(data, size=size, max_aspect=60)
    assert quick.shape == by_pillow.shape
    assert np.abs(quick.astype(int) - by_pillow).max() <= 2


# --- orientation ----------------------------------------------------------------------------------

CORNERS = np.array([[[220, 30, 30], [30, 200, 40]], [[40, 60, 220], [230, 220, 40]]], np.uint8)

#: What makes stored rows upright, by EXIF's words for where row 0 and column 0 are to be seen.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("size", [64, 256])
def test_exif_says_where_up_is(kind: str, orientation: int, size: int) -> None:
    stored = np.repeat(np.repeat(CORNERS, 90, axis=0), 120, axis=1)  # 180 high, 240 wide
    given: dict[str, Any] = {"exif": files.exif(orientation)}
    if kind == "TIFF":
        given = {"tiffinfo": {274: orientation}}
    data = saved(Image.fromarray(stored), kind, **({} if kind == "JPEG" else given))
    if kind == "JPEG":
        data = files.with_app1(data, files.exif(orientation))
    upright = UPRIGHT[orientation](stored)
    picture = made(data, size=size)
    assert (picture.original_width, picture.original_height) == upright.shape[1::-1]
    shown = np.asarray(Image.open(io.BytesIO(picture.data))).astype(int)
    height, width = shown.shape[:2]
    assert (height > width) == (orientation >= 5)
    for down in (0, 1):
        for across in (0, 1):
            found = shown[(2 * down + 1) * height // 4, (2 * across + 1) * width // 4]
            wanted = upright[down * -1, across * -1].astype(int)
            assert np.abs(found - wanted).max() < 12, (down, across)  # AVIF's colours are rough


@settings(max_examples=150)
@given(st.binary(max_size=400))
@example(b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 40)
@example(files.exif(0))
@example(files.exif(9))
@example(files.exif(6)[:-7])
def test_garbage_for_exif_costs_no_image(data: bytes) -> None:
    shown = pixels(files.with_app1(saved(photograph(96, 64), "JPEG"), data))
    assert sorted(shown.shape[:2]) == [64, 96]


# --- depth ----------------------------------------------------------------------------------------

DEEP = (0, 257, 4_000, 21_845, 32_768, 50_000, 65_000, 65_535)


def test_gray_of_16_bits_is_scaled_and_not_white() -> None:
    shown = pixels(files.png(patches(*DEEP), files.GRAY, 16))
    near(middles(shown, len(DEEP)), np.array(DEEP) / 257)


@pytest.mark.parametrize(
    ("order", "photometric"),
    [("<", files.BLACK_IS_ZERO), (">", files.BLACK_IS_ZERO), ("<", files.WHITE_IS_ZERO)],
)
def test_a_tiff_of_16_bits_in_either_order_and_sense(order: str, photometric: int) -> None:
    shown = pixels(files.tiff(patches(*DEEP).astype(np.uint16), photometric, order=order))
    wanted = np.array(DEEP) / 257
    near(middles(shown, len(DEEP)), wanted if photometric else 255 - wanted)


COLOURS_16 = ((65_535, 0, 0), (0, 30_000, 65_535), (12_000, 24_000, 48_000))


def test_colours_of_16_bits() -> None:
    samples = patches(*COLOURS_16).astype(np.uint16)
    wanted = np.array(COLOURS_16) / 257
    near(middles(pixels(files.png(samples, files.RGB, 16)), 3), wanted, 5)
    for order in "<>":
        data = files.tiff(samples, files.TIFF_RGB, order=order)
        near(middles(pixels(data), 3), wanted, 5)


def test_16_bits_with_opacity() -> None:
    gray = patches((0, 65_535), (0, 32_768), (40_000, 0))
    near(middles(pixels(files.png(gray, files.GRAY_ALPHA, 16)), 3), [0, 127, 255])
    colour = patches((65_535, 0, 0, 65_535), (0, 0, 65_535, 32_768))
    shown = middles(pixels(files.png(colour, files.RGB_ALPHA, 16)), 2)
    near(shown, [(255, 0, 0), (127, 127, 255)], 5)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_of_few_bits(depth: int) -> None:
    white = (1 << depth) - 1
    levels = [0, white // 2, white] if white > 1 else [0, 1, 0]
    shown = pixels(files.png(patches(*levels), files.GRAY, depth))
    near(middles(shown, 3), np.array(levels) * 255 / white)


def test_floats_are_black_and_white_at_0_and_1_and_else_stretched() -> None:
    values = np.array([0.0, 0.25, 0.75, 1.0])
    data = files.tiff(patches(*values).astype(np.float32), 1, kind=files.FLOAT)
    near(middles(pixels(data), 4), values * 255)
    heights = np.array([-120.0, 0.0, 1_080.0, 2_280.0])
    data = files.tiff(patches(*heights).astype(np.float32), 1, kind=files.FLOAT, order=">")
    near(middles(pixels(data), 4), (heights + 120) / 2_400 * 255)
    holes = patches(0.0, np.nan, np.inf, 1.0).astype(np.float32)
    near(middles(pixels(files.tiff(holes, 1, kind=files.FLOAT)), 4), [0, 0, 0, 255])


def test_signed_samples_are_stretched() -> None:
    values = np.array([-30_000, 0, 30_000])
    data = files.tiff(patches(*values).astype(np.int16), 1, kind=files.SIGNED)
    near(middles(pixels(data), 3), [0, 127.5, 255])


def test_large_floats_are_made_small_like_any_other() -> None:
    ramp = np.repeat(np.linspace(0, 1, 600, dtype=np.float32)[None], 400, axis=0)
    shown = pixels(files.tiff(ramp, 1, kind=files.FLOAT), size=100)
    assert shown.shape == (100, 150, 3)
    assert np.abs(shown.mean(axis=(0, 2)) - np.linspace(0, 255, 150)).max() < 4


# --- opacity --------------------------------------------------------------------------------------

CLEAR = ((200, 0, 0, 255), (200, 0, 0, 128), (0, 0, 0, 0), (10, 20, 200, 64))


def on_white(colours: Any) -> npt.NDArray[np.float64]:
    samples = np.asarray(colours, dtype=np.float64)
    opacity = samples[:, -1:] / 255
    return samples[:, :-1] * opacity + 255 * (1 - opacity)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_what_is_clear_is_white(kind: str) -> None:
    image = Image.fromarray(patches(*CLEAR).astype(np.uint8))
    given: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, **given)
    near(middles(pixels(data), 4), on_white(CLEAR), 6 if kind == "AVIF" else 4)


def test_clear_gray_is_white() -> None:
    colours = ((0, 255), (0, 128), (100, 0), (100, 200))
    near(
        middles(pixels(files.png(patches(*colours), files.GRAY_ALPHA, 8)), 4),
        np.repeat(on_white(colours), 3, axis=1),
    )


def test_colours_that_nobody_sees_leave_no_fringe() -> None:
    """Clear black beside white: resized without regard to opacity, there would be gray."""
    checks = np.indices((400, 400)).sum(axis=0) // 5 % 2
    samples = np.zeros((400, 400, 4), np.uint8)
    samples[checks == 1] = 255
    shown = pixels(saved(Image.fromarray(samples), "PNG"), size=130)
    assert shown.min() >= 253


@pytest.mark.parametrize("opacities", [bytes((255, 0)), bytes((255, 128, 0))])
def test_a_palette_with_opacities(opacities: bytes) -> None:
    palette = bytes((220, 20, 20, 0, 0, 0, 0, 90, 0, 10, 10, 200))
    samples = patches(0, 1, 2, 3)
    chunks = [(b"PLTE", palette), (b"tRNS", opacities)]
    colours = np.array(
        [(*palette[3 * k : 3 * k + 3], (opacities + b"\xff" * 4)[k]) for k in range(4)]
    )
    near(middles(pixels(files.png(samples, files.PALETTE, 8, chunks)), 4), on_white(colours), 5)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_gray_that_stands_for_clear(depth: int) -> None:
    white = (1 << depth) - 1
    clear = [(b"tRNS", struct.pack(">H", 0))]
    shown = pixels(files.png(patches(0, white, 0), files.GRAY, depth, clear))
    near(middles(shown, 3), [255, 255, 255])
    clear = [(b"tRNS", struct.pack(">H", white))]
    near(middles(pixels(files.png(patches(0, white), files.GRAY, depth, clear)), 2), [0, 255])


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_a_gray_between_that_stands_for_clear(depth: int) -> None:
    white = (1 << depth) - 1
    chunks = [(b"tRNS", struct.pack(">H", white // 3))]
    shown = pixels(files.png(patches(0, white // 3, white), files.GRAY, depth, chunks))
    near(middles(shown, 3), [0, 255, 255])


@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_that_stands_for_clear(depth: int) -> None:
    white = (1 << depth) - 1
    chunks = [(b"tRNS", struct.pack(">3H", 0, white // 3, white))]
    samples = patches((0, white // 3, white), (white, 0, 0))
    shown = pixels(files.png(samples, files.RGB, depth, chunks))
    near(middles(shown, 2), [(255, 255, 255), (255, 0, 0)], 5)


def test_a_gif_with_a_clear_colour() -> None:
    image = Image.fromarray(patches(0, 1, 2).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 30, 30, 20, 20, 160])
    shown = pixels(saved(image, "GIF", transparency=0))
    near(middles(shown, 3), [(255, 255, 255), (200, 30, 30), (20, 20, 160)], 5)


# --- colours --------------------------------------------------------------------------------------

SAMPLES = ((255, 0, 0), (0, 255, 0), (30, 60, 200), (128, 128, 128), (90, 200, 160))
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


def with_profile(colours: Any, profile: bytes, kind: str = "PNG", mode: str | None = None) -> bytes:
    image = Image.fromarray(patches(*colours).astype(np.uint8), mode)
    return saved(image, kind, icc_profile=profile, **LOSSLESS.get(kind, {}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_colours_of_a_wider_space_become_srgb(kind: str) -> None:
    profile = files.rgb_profile(files.ADOBE_RGB, 563 / 256)
    wanted = [files.to_srgb(colour, files.ADOBE_RGB, 563 / 256) for colour in SAMPLES]
    assert np.abs(np.array(wanted) - SAMPLES).max() > 30, "else nothing is shown"
    found = middles(pixels(with_profile(SAMPLES, profile, kind)), len(SAMPLES))
    near(found, wanted, 12 if kind == "AVIF" else 6)


def test_channels_mean_what_the_profile_says() -> None:
    swapped = files.rgb_profile(files.SRGB[::-1], 2.2)  # its red is blue
    found = middles(pixels(with_profile([(255, 0, 0), (0, 0, 255)], swapped)), 2)
    near(found, [(0, 0, 255), (255, 0, 0)], 6)


def test_gray_has_profiles_too() -> None:
    levels = np.array([0, 30, 90, 160, 255])
    found = middles(pixels(with_profile(levels, files.gray_profile(1.0))), 5)
    near(found, files.encoded(levels / 255))
    assert found[1].mean() > 85


def test_colours_with_opacity_have_profiles() -> None:
    swapped = files.rgb_profile(files.SRGB[::-1], 2.2)
    found = middles(pixels(with_profile([(255, 0, 0, 255), (255, 0, 0, 0)], swapped)), 2)
    near(found, [(0, 0, 255), (255, 255, 255)], 6)


def test_srgb_by_another_name_changes_no_pixel() -> None:
    image = photograph(300, 280)
    plain = made(saved(image, "PNG"))
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert made(saved(image, "PNG", icc_profile=profile)).data == plain.data


@pytest.mark.parametrize(
    "profile",
    [
        b"garbage" * 40,
        files.rgb_profile(files.SRGB[::-1], 2.2)[:200],
        files.gray_profile(1.0),  # of gray, on colours
        files.ink_profile(128),
        b"\0" * (5 << 20),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_profile_that_makes_no_sense_is_none(profile: bytes, kind: str) -> None:
    found = middles(pixels(with_profile(SAMPLES, profile, kind)), len(SAMPLES))
    near(found, SAMPLES, 6)


INKS = ((0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (60, 30, 120, 80))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_without_a_profile_take_away_light(kind: str) -> None:
    """Photoshop's JPEGs hold 255 − ink, with Adobe's marker; TIFFs hold the ink."""
    image = Image.fromarray(patches(*INKS).astype(np.uint8), "CMYK")
    data = saved(image, kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert (b"Adobe" in data) == (kind == "JPEG")
    inks = np.array(INKS) / 255
    wanted = 255 * (1 - inks[:, :3]) * (1 - inks[:, 3:])
    near(middles(pixels(data), 5), wanted, 6)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_what_their_profile_says(kind: str) -> None:
    """Gray of L* 50 for cyan, of all inks."""
    data = with_profile([*INKS[:2], INKS[3]], files.ink_profile(128), kind, "CMYK")
    light = ((128 / 255 * 100 + 16) / 116) ** 3
    near(middles(pixels(data), 3), [255, files.encoded(np.array(light)), 0], 5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG"])
def test_modes_of_plain_files(kind: str, mode: str) -> None:
    shown = [(255, 255, 255), (0, 0, 0), (255, 255, 255)]
    image = Image.fromarray(patches(*shown).astype(np.uint8)).convert(mode)
    near(middles(pixels(saved(image, kind)), 3), shown)


def test_all_ways_of_one_picture_are_one_picture() -> None:
    image = photograph(200, 150)
    ways = [
        made(saved(image, "PNG")),
        made(saved(image, "WEBP", lossless=True)),
        made(saved(image, "TIFF", compression="tiff_lzw")),
        made(saved(image, "BMP")),
        made(saved(image, "PNG", exif=files.exif(1), pnginfo=None, dpi=(72, 72))),
    ]
    assert len({picture.pixels for picture in ways}) == 1
    assert len({picture.data for picture in ways}) == 1
    assert len({picture.likeness for picture in ways}) == 1
    assert [picture.format for picture in ways] == ["png", "webp", "tiff", "bmp", "png"]
    assert len(ways[0].pixels) == 32
    assert len(ways[0].likeness) == likeness.LENGTH
    assert made(saved(photograph(200, 150, seed=1), "PNG")).pixels != ways[0].pixels


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_the_picture(kind: str) -> None:
    frames = [Image.new("RGB", (96, 96), colour) for colour in ("#c81e1e", "#1e1ec8", "#1ec81e")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    near(middles(pixels(data), 1), [(200, 30, 30)], 8)
    assert made(data).format == ("jpeg" if kind == "MPO" else kind.lower())


# --- what comes out -------------------------------------------------------------------------------


def segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Markers before the scan, with what they hold (ITU T.81, B.1.1)."""
    found, at = [], 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((jpeg[at + 1], jpeg[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def test_nothing_comes_along_but_pixels() -> None:
    image = photograph(300, 300)
    profile = files.rgb_profile(files.ADOBE_RGB, 2.2)
    given = {"comment": b"private", "dpi": (300, 300), "exif": files.exif(1)}
    data = saved(image, "JPEG", icc_profile=profile, xmp=b"<x:xmpmeta/>", **given)
    assert {0xE1, 0xE2, 0xFE} <= {marker for marker, _ in segments(data)}
    left = segments(made(data).data)
    assert {marker for marker, _ in left} == {0xE0, 0xDB, 0xC0, 0xC4}
    assert b"private" not in made(data).data
    assert dict(left)[0xE0] == b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    assert dict(left)[0xC0][5:] == bytes((3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1))  # 4:2:0
    assert made(data).data == made(data).data


def test_the_quality_is_asked_for() -> None:
    data = saved(photograph(300, 300), "PNG")
    assert len(made(data, quality=95).data) > 2 * len(made(data, quality=60).data)


def test_nothing_of_pillow_is_left_changed() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(saved(photograph(80, 80), "PNG"), max_pixels=10_000)
        dropped(saved(Image.new("L", (200, 200)), "PNG"), max_pixels=10_000)
    assert before == Image.MAX_IMAGE_PIXELS


# --- what is no image, or not wanted --------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_an_image"),
        (b"<!DOCTYPE html><html><body>429 Too many requests", "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><!-- x -->\n<SVG/>", "unsupported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported"),
        (b"8BPS\0\x01", "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported"),
        (b"\xff\xd8\xff", "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
        (b"GIF89a", "broken"),
        (b"BM", "not_an_image"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "broken"),
        (b"II*\0", "broken"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "broken"),
    ],
)
def test_what_is_no_image_is_told_by_its_bytes(data: bytes, reason: str) -> None:
    assert dropped(data) == reason


KINDS = {
    "jpeg": saved(photograph(120, 100), "JPEG"),
    "progressive": saved(photograph(120, 100), "JPEG", progressive=True),
    "png": saved(photograph(120, 100), "PNG"),
    "gif": saved(photograph(120, 100), "GIF"),
    "webp": saved(photograph(120, 100), "WEBP"),
    "lossless": saved(photograph(120, 100), "WEBP", lossless=True),
    "tiff": saved(photograph(120, 100), "TIFF"),
    "lzw": saved(photograph(120, 100), "TIFF", compression="tiff_lzw"),
    "bmp": saved(photograph(120, 100), "BMP"),
    "avif": saved(photograph(120, 100), "AVIF"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_half_an_image_is_broken(kind: str, part: float) -> None:
    data = KINDS[kind]
    made(data)
    assert dropped(data[: int(len(data) * part)]) == "broken"


@settings(max_examples=300)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_changed_bytes_never_raise(kind: str, data: st.DataObject) -> None:
    changed = bytearray(KINDS[kind])
    near_the_front = st.integers(0, min(len(changed) - 1, 700))
    anywhere = st.integers(0, len(changed) - 1)
    for place in data.draw(st.lists(near_the_front | anywhere, min_size=1, max_size=8)):
        changed[place] = data.draw(st.integers(0, 255))
    answer = encode(bytes(changed), options(max_pixels=1_000_000))
    assert isinstance(answer, Picture) or answer.reason in REASONS


@given(st.sampled_from([data[:12] for data in KINDS.values()]), st.binary(max_size=300))
def test_garbage_after_the_right_beginning_never_raises(beginning: bytes, rest: bytes) -> None:
    answer = encode(beginning + rest, options(max_pixels=1_000_000))
    assert isinstance(answer, Picture) or answer.reason in REASONS


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(KINDS["jpeg"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


HUGE = {
    "png": files.PNG_SIGNATURE + files.header(40_000, 40_000) + files.chunk(b"IDAT", b"") * 2,
    "jpeg": jpeg_of_size(65_500, 65_500),
    "gif": b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + KINDS["gif"][10:],
    "bmp": KINDS["bmp"][:18] + struct.pack("<ii", 30_000, 30_000) + KINDS["bmp"][26:],
    "webp": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
    "lossless": b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0/\xff\xff\xff\x0f",
    "tiff": files.tiff(np.zeros((9, 9), np.uint8), 1).replace(b"\x09\0\0\0", b"\0\0\x09\0"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_pixels_are_counted_before_they_are_decoded(kind: str) -> None:
    assert dropped(HUGE[kind]) == "too_many_pixels"


def test_a_bomb_of_pixels_is_not_set_off() -> None:
    """20,000 × 20,000 of one colour: 389 kB of PNG that would take a gigabyte."""
    line = b"\0" + bytes(20_000 * 3)
    squeezer = zlib.compressobj(9)
    body = b"".join(squeezer.compress(line) for _ in range(2_000))
    data = files.PNG_SIGNATURE + files.header(20_000, 20_000) + files.chunk(b"IDAT", body)
    assert dropped(data) == "too_many_pixels"
    assert dropped(data, max_pixels=400_000_000, min_side=30_000) == "too_small"


def test_limits_are_the_ones_asked_for() -> None:
    data = saved(photograph(300, 100), "PNG")
    assert dropped(data, min_side=101) == "too_small"
    assert made(data, min_side=100)
    assert dropped(data, max_aspect=2.9) == "too_elongated"
    assert made(data, max_aspect=3.0)
    assert dropped(data, max_pixels=29_999) == "too_many_pixels"
    assert made(data, max_pixels=30_000)
    assert encode(saved(photograph(40, 40), "PNG"), ImageOptions()) == Dropped(
        "too_small", "40 × 40 pixels"
    )


def inflating(name: bytes, before: bytes, size: int) -> tuple[bytes, bytes]:
    return name, before + zlib.compress(bytes(size), 9)


@pytest.mark.parametrize(
    "chunks",
    [
        [inflating(b"iCCP", b"x\0\0", 200 << 20)],
        [inflating(b"zTXt", b"x\0\0", 200 << 20)],
        [inflating(b"iTXt", b"x\0\x01\0\0\0", 200 << 20)],
        [inflating(b"zTXt", b"x\0\0", 1 << 20)] * 100,
    ],
)
def test_a_bomb_beside_the_pixels_costs_little(chunks: list[tuple[bytes, bytes]]) -> None:
    data = files.png(np.zeros((100, 100), np.uint8), files.GRAY, 8, chunks)
    assert len(data) < 500_000
    answer = encode(data, options())
    assert isinstance(answer, Picture) or answer.reason == "broken"


def test_thousands_of_chunks_are_passed_over() -> None:
    chunks = [(b"tEXt", b"k%d\0v" % k) for k in range(20_000)]
    near(middles(pixels(files.png(patches(0, 255), files.GRAY, 8, chunks)), 2), [0, 255])


def test_formats_and_reasons_are_told() -> None:
    assert set(FORMATS) == {"jpeg", "png", "gif", "webp", "tiff", "bmp", "avif"}
    assert {"broken", "memory", "timeout", "crashed"} <= set(REASONS)
