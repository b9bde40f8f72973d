"""Which image comes when: an epoch's order, known before a shard is opened. Numbers alone.

    plan = planned(counts, Shape(batch=1024, world=8), seed=0, epoch=3)
    plan.steps                        # batches of each rank, the same for all
    lane = plan.lane(rank, batch % plan.lanes)
    lane.order[...]                   # places in the lane, in the order in which they are given out

**How an epoch is shuffled.** Shards are permuted; put one after the other they are the *sequence*
of the epoch. Each rank has a part of it that is a whole number of batches, all alike; what is left
at the end is dropped, and is another part each epoch. A rank's part is cut into *lanes*, of which
batches are taken in turn: batch k is one of lane k modulo lanes. In a lane, sixteen places are read
side by side and go through a buffer from which the next image is drawn at random.

Shards hold images in the order of their keys, which are digests: already mixed, as far as content
goes. That an image meets others each epoch is due to the many places, since shards are put side by
side anew each time, and to the buffer. Of 33 million images on 8 ranks, in shards of 10,000, with
batches of 1,024: 1.1 % of those that an image meets were with it the epoch before, too. (With 4
places and 48 lanes 7.8 %; with 12 lanes half as many as now, but 8 workers would share them badly.)
A rank that has no more images than the buffer shuffles them completely.

**Nothing of this depends on the number of workers.** Worker w of W makes the batches w, w + W, …;
where W divides the lanes, each lane is read by one of them; else by several, each of which skips
what is the others'. Streams are NumPy's PCG64 raw output, whose values are fixed (NEP 19), and
integers are made of them here: so an order doesn't depend on a version of NumPy either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

#: Another number wherever the same shards, shape, seed and epoch come in another order.
ORDER: Final = 2

#: Lanes of a rank: many divisors, so that many numbers of workers share them out evenly; not more,
#: since each has but its part of the buffer, and its open files. ...
_LANES: Final = (24, 12, 8, 6, 4, 3, 2, 1)
#: ... and each has so many images at least, which is several shards: few images are better mixed
#: in one lane.
_LANE: Final = 50_000

#: Places of a lane that are read side by side: a batch is of so many shards.
_STREAMS: Final = 16

_SHARDS, _BUFFER = 0, 1  # of what a stream of random numbers is


@dataclass(frozen=True)
class Shape:
    """What an epoch is cut into. ``batch``: images of a rank at a time."""

    batch: int
    world: int = 1
    #: Images that a rank holds, to draw from.
    shuffle: int = 0
    #: What becomes of images that fill no batch of every rank: they are dropped, or the epoch's
    #: first ones come again, or (``keep``, for evaluation) the last batch is short and ranks may
    #: have different numbers of batches.
    tail: Literal["drop", "repeat", "keep"] = "drop"


@dataclass(frozen=True)
class Lane:
    """A part of the sequence: ``images`` from place ``first`` on."""

    first: int
    images: int
    streams: int
    #: (images,) which one comes when, as places in the order in which they are read.
    order: Numbers

    def stream(self, number: int) -> range:
        """Places of the sequence that a stream reads; the i-th is read as ``number + streams i``"""
        sizes = [-(-(self.images - n) // self.streams) for n in range(number + 1)]
        start = self.first + sum(sizes[:number])
        return range(start, start + max(sizes[number], 0))


@dataclass(frozen=True)
class Plan:
    """An epoch. ``counts``: (shards,) images of each."""

    counts: Numbers
    shape: Shape
    seed: int
    epoch: int

    @property
    def images(self) -> int:
        """All of the split."""
        return int(self.counts.sum())

    @cached_property
    def shards(self) -> Numbers:
        """(shards,) their numbers in the order of the epoch."""
        if self.shape.tail == "keep":
            return np.arange(len(self.counts))
        drawn = _drawn(len(self.counts), self.seed, self.epoch, _SHARDS)
        return np.argsort(drawn, kind="stable")

    @cached_property
    def ends(self) -> Numbers:
        """(shards,) where each, in the order of the epoch, ends in the sequence."""
        return np.cumsum(self.counts[self.shards])

    @property
    def given(self) -> int:
        """Images that all ranks are given, with those that come again."""
        shape = self.shape
        if shape.tail == "keep":
            return self.images
        whole = shape.batch * shape.world
        times = -(-self.images // whole) if shape.tail == "repeat" else self.images // whole
        return times * whole

    def steps(self, rank: int) -> int:
        """Batches of a rank."""
        total = -(-self.given // self.shape.batch)
        return len(range(total)[rank :: self.shape.world])

    def lanes(self, rank: int) -> int:
        """Lanes of a rank, which batches are taken from in turn."""
        images = self.steps(rank) * self.shape.batch
        fitting = (n for n in _LANES if images >= n * _LANE)
        return next(fitting, 1)

    def lane(self, rank: int, number: int) -> Lane:
        """One lane of a rank."""
        batch, lanes = self.shape.batch, self.lanes(rank)
        before = sum(self.steps(other) for other in range(rank))
        steps = [len(range(self.steps(rank))[n::lanes]) for n in range(number + 1)]
        first = (before + sum(steps[:number])) * batch
        images = min(steps[number] * batch, self.given - first)
        if self.shape.tail == "keep":
            return Lane(first, images, 1, np.arange(images))
        held = max(self.shape.shuffle // lanes, 1)
        order = _shuffled(images, held, self.seed, self.epoch, _BUFFER, rank, number)
        return Lane(first, images, _STREAMS, order)

    def pieces(self, places: range) -> list[tuple[int, range]]:
        """Shards that a stretch of the sequence lies in, and which of their images it has.

        Beyond the end the sequence begins again.
        """
        found: list[tuple[int, range]] = []
        at, stop = places.start, places.stop
        while at < stop:
            place = at % self.images
            number = int(np.searchsorted(self.ends, place, "right"))
            shard = int(self.shards[number])
            start = place - int(self.ends[number] - self.counts[shard])
            images = min(int(self.counts[shard]) - start, stop - at)
            found.append((shard, range(start, start + images)))
            at += images
        return found


def planned(counts: Sequence[int] | Numbers, shape: Shape, seed: int, epoch: int) -> Plan:
    """The plan of an epoch of shards that have so many images each."""
    return Plan(np.asarray(counts, np.int64), shape, seed, epoch)


def _drawn(number: int, *seeds: int) -> npt.NDArray[np.uint64]:
    """(number,) random numbers of 64 bits."""
    raw: Any = np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(number)
    return np.asarray(raw, np.uint64)


def _shuffled(number: int, held: int, *seeds: int) -> Numbers:
    """(number,) 0, 1, … as they come out of a buffer that holds so many."""
    drawn = _drawn(number, *seeds)
    if held >= number:
        return np.argsort(drawn, kind="stable")
    buffer = list(range(held))
    chosen = ((drawn[held:] >> np.uint64(32)) * np.uint64(held) >> np.uint64(32)).tolist()
    found = []
    for place, at in enumerate(chosen, held):
        found.append(buffer[at])
        buffer[at] = place
    rest = np.argsort(drawn[:held], kind="stable")
    return np.concatenate([np.array(found, np.int64), np.array(buffer, np.int64)[rest]])
