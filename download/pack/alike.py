"""Whether two pictures are the same one, cut, framed or marked perhaps: from their likenesses.

    found = compare(first, second, starts)    # (n,) similarity, 1 is the same, 0 another

The second is laid over the first: from a rough place (``starts``) Gauss–Newton steps move and
stretch it until both agree best (Lucas and Kanade 1981, here between two sums of cosines instead of
between two grids of pixels), coarse frequencies first. What is compared then is what both show, so
a copy without its left fifth compares like a copy with it.

The similarity is the correlation of the brightness over that part, frequencies weighted so that all
of them count alike. It is 0 where something else says that these are two pictures:

* too little of either is in that part;
* it was stretched in one direction more than copies are;
* each shows something that the other doesn't, in another place. A mark or a line of text is added
  to a copy; of two clocks, each has hands where the other has none;
* the colours differ, on the whole or in one place (maps that show one country in red each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from download.pack import likeness

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
Float32 = npt.NDArray[np.float32]

#: At this similarity two pictures are the same. Figures: docs/performance.md, likeness.
SAME: Final = 0.97

#: Of either picture's area that both have to show. A crop to 0.8 of both sides leaves 0.64.
LEAST_SHARED: Final = 0.6

#: log2 of how much more a copy may be stretched in one direction: 7 %.
MOST_STRETCHED: Final = 0.1

#: Colours of copies differ by compression (levels), and by what changes all of them (share).
COLOUR_LEVELS: Final = 4.0
COLOUR_SHARE: Final = 0.25
#: … and in one place, of 12 × 12, by a mark at most.
COLOUR_PLACE: Final = 20.0

#: What only one shows is where both agree by less than that, a place of 12 × 12; and of all that is
#: to be seen no more than that share may be what only the first shows, or only the second.
LEAST_ALIKE: Final = 0.7
MOST_APART: Final = 0.005
_FAINT = 0.05  # of the mean place: what is fainter than that may be noise

#: Pictures whose brightness is made of fewer frequencies than that, about (the participation ratio
#: of their energies), are too plain to be told apart: gradients, stripes.
LEAST_FREQUENCIES: Final = 6.0

_PLACES = 12  # a side: where colours and what only one shows are looked for

_AT_A_TIME = 256  # pairs: what is worked on then is some 10 MB


@dataclass(frozen=True)
class _Scale:
    """How finely is compared: frequencies, samples a side, width of the frequencies' weight."""

    frequencies: int
    samples: int
    width: float
    steps: int


_COARSE: Final = _Scale(16, 24, 6.0, 2)
_FINE: Final = _Scale(likeness.FREQUENCIES, 48, 10.0, 3)

#: What a pair has to correlate by after the first coarse steps, and after as many again.
_PROMISING: Final = (0.8, 0.85)

_EDGE = 0.01  # of a side: closer, both end together
_BESIDE = 1.0  # of a wave of the frequencies that count: what an edge spoils

_LARGEST_STEP = 0.04  # of a side, in one Gauss–Newton step
_DAMPING = 1e-3


def plain(many: Bytes) -> npt.NDArray[np.bool_]:
    """Which of the pictures show too little to be told from others of their kind, (n,)."""
    energies = np.square(_brightness(many) * _weights(_FINE)).reshape(len(many), -1)
    whole = energies.sum(axis=1)
    ratio = whole**2 / np.maximum(np.square(energies).sum(axis=1), 1e-9)
    return np.asarray((ratio < LEAST_FREQUENCIES) | (likeness.spread(many) < 0.5))


def compare(first: Bytes, second: Bytes, starts: Floats) -> Float32:
    """Similarities of n pairs, (n,) float32, 0–1.

    ``first`` and ``second`` are likenesses, (n, LENGTH). ``starts`` (n, 4) says where about the
    second lies on the first: left, right, top, bottom, in shares of the first's sides; beyond 0
    and 1 where it reaches over it.
    """
    similarity = np.zeros(len(first), np.float32)
    for at in range(0, len(first), _AT_A_TIME):
        part = slice(at, at + _AT_A_TIME)
        similarity[part] = _compared(first[part], second[part], starts[part])
    return similarity


def correlate(first: Bytes, second: Bytes, windows: Floats) -> Float32:
    """Correlations of pairs where they lie, coarsely, (n,): a quick look before ``compare``."""
    bright = _brightness(first), _brightness(second)
    return _agreement(*bright, windows.astype(np.float32), _COARSE).correlation


def _compared(first: Bytes, second: Bytes, starts: Floats) -> Float32:
    similarity = np.zeros(len(first), np.float32)
    rows, places = np.arange(len(first)), starts.astype(np.float32)
    for least in _PROMISING:
        bright = _brightness(first[rows]), _brightness(second[rows])
        places = _aligned(*bright, places, _COARSE)
        kept = _agreement(*bright, places, _COARSE).correlation >= least
        rows, places = rows[kept], places[kept]
        if not len(rows):
            return similarity
    first, second = first[rows], second[rows]
    bright = _brightness(first), _brightness(second)
    places = _aligned(*bright, places, _FINE)
    agreement = _agreement(*bright, places, _FINE)
    fits = _shared(places) & _unstretched(first, second, places)
    fits &= _same_colours(first, second, places) & ~_both_apart(agreement)
    similarity[rows] = np.where(fits, np.clip(agreement.correlation, 0, 1), 0)
    return similarity


def _shared(places: Float32) -> npt.NDArray[np.bool_]:
    """Whether each shows enough of what the other shows."""
    left, right, top, bottom = places.T
    width = np.minimum(right, 1) - np.maximum(left, 0)
    height = np.minimum(bottom, 1) - np.maximum(top, 0)
    of_first = np.maximum(width, 0) * np.maximum(height, 0)
    of_second = of_first / np.maximum((right - left) * (bottom - top), 1e-3)
    return np.asarray(np.minimum(of_first, of_second) >= LEAST_SHARED)


def _unstretched(first: Bytes, second: Bytes, places: Float32) -> npt.NDArray[np.bool_]:
    """Whether one scale fits both directions."""
    width, height = places[:, 1] - places[:, 0], places[:, 3] - places[:, 2]
    ratio = np.log2(np.maximum(width, 0.1) / np.maximum(height, 0.1))
    meant = likeness.aspect(second) - likeness.aspect(first)
    return np.asarray(np.abs(ratio - meant) <= MOST_STRETCHED)


def _both_apart(agreement: _Agreement) -> npt.NDArray[np.bool_]:
    """Whether each shows what the other doesn't."""
    gain = agreement.gain[:, None, None]
    ones, others = agreement.first * gain * agreement.shown, agreement.second * agreement.shown
    first, second, apart = map(_by_place, (ones * ones, others * others, (ones - others) ** 2))
    every = np.maximum((first + second).sum(axis=(1, 2)) / 2, 1e-9)[:, None, None]
    told = (apart > (1 - LEAST_ALIKE) * (first + second)) & (apart > _FAINT * every / _PLACES**2)
    share = np.where(told, apart / every, 0)
    of_first = np.where(first > second, share, 0).sum(axis=(1, 2))
    of_second = np.where(first > second, 0, share).sum(axis=(1, 2))
    return np.asarray(np.minimum(of_first, of_second) > MOST_APART)


def _by_place(values: Float32) -> Float32:
    """Sums of samples by place, (n, samples, samples) → (n, places, places)."""
    side = values.shape[1] // _PLACES
    places: Float32 = values.reshape(len(values), _PLACES, side, _PLACES, side)
    return np.asarray(places.sum(axis=(2, 4)), np.float32)


# ------------------------------------------------------------------------------- brightness


class _Field(NamedTuple):
    """A sum of cosines at the samples of a window, (n, samples, samples), and its slopes."""

    values: Float32
    across: Float32
    down: Float32
    shown: Float32  # 1 where the window is on the picture, 0 beside it


class _Agreement(NamedTuple):
    correlation: Float32  # (n,)
    gain: Float32  # (n,) by which the first is multiplied to be the second
    first: Float32  # (n, samples, samples), without their means
    second: Float32
    shown: Float32


def _brightness(many: Bytes) -> Float32:
    return likeness.brightness(many).astype(np.float32) / np.float32(likeness.STEPS)


def _samples(scale: _Scale) -> Float32:
    """Places of the samples over a side, (samples,)."""
    return (np.arange(scale.samples, dtype=np.float32) + np.float32(0.5)) / np.float32(
        scale.samples
    )


def _weights(scale: _Scale) -> Float32:
    """What the frequencies count where nothing is cut off, (frequencies, frequencies)."""
    one = _weight(np.ones(1, np.float32), scale)[0]
    padded = np.zeros(likeness.FREQUENCIES, np.float32)
    padded[: scale.frequencies] = one
    return np.asarray(np.outer(padded, padded), np.float32)


def _weight(sizes: Float32, scale: _Scale) -> Float32:
    """What the first's frequencies count, (n, frequencies): by where they are in the second."""
    place = np.arange(scale.frequencies, dtype=np.float32)[None, :] * sizes[:, None]
    return np.asarray(np.exp(-np.square(place) / (2 * scale.width**2)), np.float32)


def _waves(start: Float32, end: Float32, scale: _Scale) -> tuple[Float32, Float32]:
    """Cosines over a window and their slopes, (n, frequencies, samples)."""
    places = start[:, None] + (end - start)[:, None] * _samples(scale)[None, :]
    turns = np.pi * np.arange(scale.frequencies, dtype=np.float32)
    phases = turns[None, :, None] * places[:, None, :]
    weight = _weight(end - start, scale)[:, :, None]
    return np.cos(phases) * weight, -np.sin(phases) * weight * turns[None, :, None]


def _within(start: Float32, end: Float32, scale: _Scale) -> Float32:
    """1 for samples that both pictures show, (n, samples).

    Where one ends and the other goes on, low frequencies run over that edge: a strip beside it
    isn't compared.
    """
    size = np.maximum(end - start, 1e-3)
    first, last = -start / size, (1 - start) / size  # the first picture on the second's side
    margin = np.float32(_BESIDE / scale.width)
    before = np.maximum(first, 0) + np.where(np.abs(start) > _EDGE, margin, 0)
    after = np.minimum(last, 1) - np.where(np.abs(end - 1) > _EDGE, margin, 0)
    share = _samples(scale)[None, :]
    inside = np.minimum(share - before[:, None], after[:, None] - share) * scale.samples
    return np.asarray(np.clip(inside + 0.5, 0, 1), np.float32)


def _field(bright: Float32, windows: Float32, scale: _Scale) -> _Field:
    left, right, top, bottom = windows.T
    across, across_slope = _waves(left, right, scale)
    down, down_slope = _waves(top, bottom, scale)
    kept = bright[:, : scale.frequencies, : scale.frequencies]
    rows = kept @ across
    upright, upright_slope = down.transpose(0, 2, 1), down_slope.transpose(0, 2, 1)
    shown = _within(top, bottom, scale)[:, :, None] * _within(left, right, scale)[:, None, :]
    return _Field(upright @ rows, upright @ (kept @ across_slope), upright_slope @ rows, shown)


def _whole(bright: Float32, scale: _Scale) -> Float32:
    """The second at its own samples, (n, samples, samples)."""
    one = np.ones(1, np.float32)
    waves = _waves(0 * one, one, scale)[0][0]
    kept = bright[:, : scale.frequencies, : scale.frequencies]
    return np.asarray(waves.T @ kept @ waves)


def _agreement(first: Float32, second: Float32, windows: Float32, scale: _Scale) -> _Agreement:
    return _agree(_field(first, windows, scale), _whole(second, scale))


def _agree(field: _Field, whole: Float32) -> _Agreement:
    shown = field.shown
    area = np.maximum(shown.sum(axis=(1, 2)), 1e-6)

    def centred(values: Float32) -> Float32:
        mean = (shown * values).sum(axis=(1, 2)) / area
        return np.asarray(values - mean[:, None, None])

    first, second = centred(field.values), centred(whole)
    both = (shown * first * second).sum(axis=(1, 2))
    ones = (shown * first * first).sum(axis=(1, 2))
    others = (shown * second * second).sum(axis=(1, 2))
    correlation = both / np.sqrt(np.maximum(ones * others, 1e-9))
    return _Agreement(correlation, both / np.maximum(ones, 1e-9), first, second, shown)


def _aligned(first: Float32, second: Float32, windows: Float32, scale: _Scale) -> Float32:
    """Windows moved to where both agree best, (n, 4)."""
    whole, share = _whole(second, scale), _samples(scale)
    for _ in range(scale.steps):
        field = _field(first, windows, scale)
        agreement = _agree(field, whole)
        gain = np.maximum(agreement.gain, 0.2)[:, None, None]
        slopes = [
            field.across * (1 - share) * gain,
            field.across * share * gain,
            field.down * (1 - share)[:, None] * gain,
            field.down * share[:, None] * gain,
            field.values,  # the gain itself
            np.ones_like(field.values),  # and the mean
        ]
        jacobian = np.stack(slopes, axis=1).reshape(len(first), len(slopes), -1)
        missing = (agreement.second - gain * agreement.first).reshape(len(first), -1)
        weighted = jacobian * agreement.shown.reshape(len(first), 1, -1)
        normal = weighted @ jacobian.transpose(0, 2, 1)
        damping = _DAMPING * np.trace(normal, axis1=1, axis2=2) / len(slopes) + 1e-6
        normal += damping[:, None, None] * np.eye(len(slopes), dtype=np.float32)
        moves = np.linalg.solve(normal, weighted @ missing[:, :, None])[:, :4, 0]
        windows = windows + np.clip(moves, -_LARGEST_STEP, _LARGEST_STEP)
    return windows


# ------------------------------------------------------------------------------- colour


def _same_colours(first: Bytes, second: Bytes, windows: Float32) -> npt.NDArray[np.bool_]:
    """Whether the colours agree, on the whole and in every place."""
    own = np.broadcast_to(np.array([0, 1, 0, 1], np.float32), windows.shape)
    ones, shown = _colours(first, windows)
    others, _ = _colours(second, own)
    area = np.maximum(shown.sum(axis=(1, 2)), 1e-6)

    def mean(values: Float32) -> Float32:
        return np.asarray((np.hypot(values[:, 0], values[:, 1]) * shown).sum(axis=(1, 2)) / area)

    apart = np.hypot(*(ones - others).transpose(1, 0, 2, 3)) * shown
    bound = COLOUR_LEVELS + COLOUR_SHARE * np.maximum(mean(ones), mean(others))
    strongest = np.maximum(np.abs(ones).max(axis=(1, 2, 3)), np.abs(others).max(axis=(1, 2, 3)))
    place = np.maximum(COLOUR_PLACE, COLOUR_SHARE * strongest)
    return np.asarray((mean(ones - others) <= bound) & (apart.max(axis=(1, 2)) <= place))


def _colours(many: Bytes, windows: Float32) -> tuple[Float32, Float32]:
    """Cb and Cr over a window in levels, (n, 2, 12, 12), and where it is on the picture."""
    scale = _Scale(likeness.COLOURS, _PLACES, 4.0, 0)
    left, right, top, bottom = windows.T
    across, _ = _waves(left, right, scale)
    down, _ = _waves(top, bottom, scale)
    planes = likeness.colour(many).astype(np.float32)
    rows: Float32 = planes @ across[:, None]
    values: Float32 = down.transpose(0, 2, 1)[:, None] @ rows
    inside = _within(top, bottom, scale)[:, :, None] * _within(left, right, scale)[:, None, :]
    return values, np.asarray(inside, np.float32)
