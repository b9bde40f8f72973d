"""Pictures that there is nothing to be seen in: one colour all over, pages of text.

Both look at the small picture that is kept and are shy: a wrong drop loses a picture of something,
a wrong keep adds one that shows nothing. A thing on a white ground, a drawing, a map, a
plate with its caption stay.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from download.pack.reduce import Samples, gray_of

Flags = npt.NDArray[np.bool_]

#: Levels around the commonest that are still that colour: what JPEG does to plain areas.
_SAME_LEVELS: Final = 8

#: One pixel in so many may differ: a spot of 8 × 8 in 256 × 256 is something to be seen.
_SPOT: Final = 1_000

# What a page of text is: see :func:`is_text`. Found with rendered pages of 14 to 62 lines, on one
# side, and what is as regular on the other; tests/download/pack/test_filters.py has both.
_PAPER_LEVELS: Final = 20  # around the commonest level
_PAPER_LEAST: Final = 0.38  # of the pixels: gaps and margins
_INK_LEVELS: Final = 32  # from paper to ink; small print is gray at this size
_TINT_SPREAD: Final = 10.0  # standard deviation of differences of channels, in levels
_LINES_LEAST: Final = 8
_LINES_SPAN: Final = 0.5  # of the picture's height, from the first line to the last
_LINE_TALLEST: Final = 1 / 14  # of the picture's height
_REGULAR: Final = 0.7  # of the lines lie one or two usual distances below the one before
_DISTANCE_SLACK: Final = 0.2  # of the usual distance
_PIECES_LEAST: Final = 4  # of ink in a line
_PIECE_LONGEST: Final = 0.2  # of the width
_ALIKE: Final = 0.22  # correlation of a line with the next: things in rows and columns
_TALL: Final = 0.001  # of the ink is in what is higher than two lines


def is_blank(rgb: Samples) -> bool:
    """Whether all but one pixel in a thousand have the same colour, each channel within 8 levels
    of its commonest. ``rgb`` is (height, width, 3) uint8."""
    allowed = rgb.shape[0] * rgb.shape[1] // _SPOT
    return all(_differ(rgb, channel) <= allowed for channel in (1, 0, 2))  # green says most


def _differ(rgb: Samples, channel: int) -> int:
    counts = _levels(rgb, channel)
    level = int(counts.argmax())
    same = counts[max(level - _SAME_LEVELS, 0) : level + _SAME_LEVELS + 1]
    return int(rgb.shape[0] * rgb.shape[1] - same.sum())


def _levels(samples: Samples, channel: int = 0) -> npt.NDArray[np.int64]:
    """How many samples of a channel have each level, (256,)."""
    counts = cv2.calcHist([samples], [channel], None, [256], [0, 256])
    return counts.ravel().astype(np.int64)  # float32 holds whole numbers to 16 million


def is_text(rgb: Samples) -> bool:
    """Whether this is a page of lines of text and nothing else: a scan, a screenshot.

    Of 400 invented pages it finds 381 (97 of 100 yellowed scans, 84 of 100 screens of code), and
    of 1,500 drawings, plates, maps, music, rows of specimens and the like, none.

    On paper of one colour (or a dark screen) there are lines, thin, at regular distances, in
    pieces of words, over most of the height; and no ink that is longer or higher than words are.
    """
    gray = gray_of(rgb)
    counts = _levels(gray)
    paper = int(np.convolve(counts, np.ones(9), "same").argmax())
    near = counts[max(paper - _PAPER_LEVELS, 0) : paper + _PAPER_LEVELS + 1].sum()
    if int(near) < _PAPER_LEAST * gray.size:
        return False
    ink = np.abs(gray.astype(np.int16) - paper) > _INK_LEVELS
    return _is_lines(ink) and not _is_coloured(rgb)


def _is_coloured(rgb: Samples) -> bool:
    samples = rgb.astype(np.int16)
    differences = samples[..., :2] - samples[..., 1:]  # R − G, G − B
    return bool(differences.reshape(-1, 2).std(axis=0).max() > _TINT_SPREAD)


def _is_lines(ink: Flags) -> bool:
    """Whether the ink (height, width) is lines of words."""
    height, width = ink.shape
    rows = np.count_nonzero(ink, axis=1)
    starts, ends = _runs(rows > 0.4 * np.percentile(rows, 90))
    if len(starts) < _LINES_LEAST or ends[-1] - starts[0] < _LINES_SPAN * height:
        return False
    tall = float(np.median(ends - starts))
    if tall > _LINE_TALLEST * height or not _is_regular(starts + ends):
        return False
    middles = ink[(starts + ends) // 2]
    pieces = np.diff(middles.astype(np.int8), axis=1, prepend=0).clip(0).sum(axis=1)
    if np.median(pieces) < _PIECES_LEAST or _longest(middles) > _PIECE_LONGEST * width:
        return False
    return _is_ragged(middles) and not _has_tall(ink, round(2 * tall) + 2)


def _runs(flags: Flags) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where runs of true start, and where they have ended."""
    edges = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)


def _is_regular(places: npt.NDArray[np.int64]) -> bool:
    distances = np.diff(places)
    usual = np.median(distances)
    times = distances / usual
    slack = np.abs(times - np.round(times))
    return bool(np.mean((slack < _DISTANCE_SLACK) & (times < 2.5) & (times > 0.5)) >= _REGULAR)


def _longest(lines: Flags) -> float:
    """The longest piece of ink in nine of ten of these."""
    return float(np.percentile([_longest_run(line) for line in lines], 90))


def _longest_run(line: Flags) -> int:
    starts, ends = _runs(line)
    return int((ends - starts).max(initial=0))


def _is_ragged(lines: Flags) -> bool:
    """Whether pieces of ink don't stand below each other, as things in rows and columns do."""
    block = _without_margins(lines)
    centred = block - block.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred * centred).sum(axis=1, keepdims=True))
    centred /= np.where(lengths > 0, lengths, 1)
    alike = (centred[1:] * centred[:-1]).sum(axis=1)  # correlations of a line and the next
    return bool(np.median(alike) < _ALIKE)


def _without_margins(lines: Flags) -> Flags:
    """What is between the margins, and without the widest gap of two columns of text."""
    inked = lines.mean(axis=0)
    within = np.flatnonzero(inked > 0.25 * np.percentile(inked[inked > 0], 75))
    gap = int(np.diff(within, prepend=within[0]).argmax())
    kept = np.ones(lines.shape[1], dtype=np.bool_)
    kept[: within[0]] = kept[within[-1] + 1 :] = False
    kept[within[gap - 1] + 1 : within[gap]] = False  # nothing, where there is no gap
    return lines[:, kept]


def _has_tall(ink: Flags, rows: int) -> bool:
    """Whether some of the ink is in strokes of so many rows."""
    if rows >= len(ink):
        return False
    stroke = ink
    for _ in range(rows - 1):
        stroke = stroke[1:] & stroke[:-1]
    return bool(stroke.sum() > _TALL * ink.sum())
