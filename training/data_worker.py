"""What a worker of the loader does: reads its lanes, makes batches of what it finds.

Where an image can't be used, the one behind it in its batch that can is there a second time, as
nothing else would leave everything else as it is: a batch has the size that all ranks agree on,
whoever resumes in the middle needn't know what was met before, and no other batch changes. Its key
is in ``keys`` twice then, for losses that ask.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import torch

from etl.errors import UserError
from training.data_images import Augment, Decode, Eye, crop_numbers
from training.data_index import Index
from training.data_order import Plan, Shape, planned
from training.data_place import allow_open_files
from training.data_shards import Shards
from training.data_tar import Damage, Sample

#: (key, KEY.json, epoch) → the texts of an image, always as many; none: it isn't used. msgspec's
#: errors are KEY.json's: the image isn't used either.
Draw = Callable[[str, Mapping[str, Any], int], Sequence[str]]

#: Texts → their tokens, (texts, L).
Tokenize = Callable[[list[str]], torch.Tensor]

#: Files that a process may have open: of all lanes of a rank (24 of 16 places), and others.
_FILES: Final = 24 * 16 + 256

_json: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Batch(NamedTuple):
    """What a step is given."""

    images: torch.Tensor  # (B, 3, S, S) float32 normalised; uint8 with ``as_bytes``
    tokens: torch.Tensor  # (B, n, L) int64: n texts an image
    keys: list[str]  # B


class Made(NamedTuple):
    """A batch, and the images of it that couldn't be used, each with its shard."""

    batch: Batch
    damage: list[tuple[str, Damage]]


class Failed(NamedTuple):
    """What a worker says instead of a batch: a sentence for the user."""

    message: str


@dataclass(frozen=True)
class Job:
    """All that workers need to know, whatever the epoch. Can be pickled."""

    index: Index
    shape: Shape
    seed: int
    rank: int
    size: int
    mean: Sequence[float]
    std: Sequence[float]
    augment: Augment | None
    decode: Decode
    as_bytes: bool
    draw: Draw
    tokenize: Tokenize

    def plan(self, epoch: int) -> Plan:
        return planned(self.index.counts, self.shape, self.seed, epoch)


class Work(torch.utils.data.IterableDataset[Made | Failed]):
    """The batches of an epoch from one on, shared out over the processes that iterate over it.

    ``at``: (2,) int64 in shared memory: epoch and first batch, which workers that stay are told by.
    """

    def __init__(self, job: Job, at: torch.Tensor) -> None:
        super().__init__()
        self._job, self._at = job, at

    def __iter__(self) -> Iterator[Made | Failed]:
        cv2.setNumThreads(1)  # processes share out the cores
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        epoch, start = self._at.tolist()
        try:
            yield from batches(self._job, epoch, start, worker, workers, shared=info is not None)
        except UserError as error:  # of which torch would make a traceback
            yield Failed(str(error))


def begin(_: int) -> None:
    """What a worker process does first: it leaves when the process that it works for is gone.

    torch has it watch its parent, which is the server it was forked from, and that one waits for
    its children.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    # Ctrl-C is the parent's to handle, and so is what torchrun or Slurm sends to all processes
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(parent: int) -> None:
    multiprocessing.connection.wait([parent])
    os._exit(1)


def batches(
    job: Job, epoch: int, start: int, worker: int, workers: int, *, shared: bool = False
) -> Iterator[Made]:
    """Batches start + worker, start + worker + workers, … of the rank; ``shared``: in memory that
    other processes can map.

    Raises UserError where a place can't be reached, no more files can be opened, or nothing of a
    batch can be used.
    """
    allow_open_files(_FILES)
    plan = job.plan(epoch)
    lanes = plan.lanes(job.rank)
    mine = range(start + worker, plan.steps(job.rank), workers)
    readers: dict[int, _Reader] = {}
    shards = Shards(job.index)
    maker = _Maker(job, epoch, shared=shared)
    for number in mine:
        lane = number % lanes
        if lane not in readers:
            own = [n // lanes for n in mine if n % lanes == lane]
            readers[lane] = _Reader(plan, job, lane, own, shards)
        yield maker.make(readers[lane].take(number // lanes))
        if number // lanes == readers[lane].last:
            del readers[lane]


class _Reader:
    """Reads a lane as far as it must to give some of its batches, in their order."""

    def __init__(
        self, plan: Plan, job: Job, number: int, own: Sequence[int], shards: Shards
    ) -> None:
        lane = plan.lane(job.rank, number)
        self._order, self._batch, self.last = lane.order, job.shape.batch, own[-1]
        wanted = np.zeros(lane.images, bool)
        for batch in own:
            wanted[self._places(batch)] = True
        self._streams = [
            _stream(plan, shards, lane.stream(n), wanted[n :: lane.streams])
            for n in range(lane.streams)
        ]
        self._held: dict[int, tuple[str, Sample | Damage]] = {}

    def _places(self, batch: int) -> npt.NDArray[np.int64]:
        return self._order[batch * self._batch : (batch + 1) * self._batch]

    def take(self, batch: int) -> list[tuple[str, Sample | Damage]]:
        """The images of a batch, each with its shard."""
        found = []
        for place in self._places(batch).tolist():
            number, streams = place % len(self._streams), self._streams
            while place not in self._held:
                at, shard, image = next(streams[number])
                self._held[number + len(streams) * at] = shard, image
            found.append(self._held.pop(place))
        return found


def _stream(
    plan: Plan, shards: Shards, places: range, wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, str, Sample | Damage]]:
    """(which of ``places``, shard, image) for each that is wanted, in their order."""
    at = 0
    for number, part in plan.pieces(places):
        some = wanted[at : at + len(part)]
        if some.any():
            name = shards.name(number)
            for place, image in shards.read(number, part, some):
                yield at + place, name, image
        at += len(part)


class _Maker:
    """Makes batches of images as they are in shards."""

    def __init__(self, job: Job, epoch: int, *, shared: bool) -> None:
        self._job, self._epoch, self._shared = job, epoch, shared
        self._eye = Eye(
            job.size, job.mean, job.std,
            augment=job.augment, decode=job.decode, as_bytes=job.as_bytes,
        )  # fmt: skip

    def make(self, found: Sequence[tuple[str, Sample | Damage]]) -> Made:
        """The batch of these; raises UserError where none of them can be used."""
        job = self._job
        kind = torch.uint8 if job.as_bytes else torch.float32
        images = torch.empty((len(found), 3, job.size, job.size), dtype=kind)
        if self._shared:
            # now, so that it is filled where others read it
            images.share_memory_()  # type: ignore[no-untyped-call]
        out = images.numpy()
        texts: list[Sequence[str]] = [()] * len(found)
        keys: list[str] = [""] * len(found)
        damage: list[tuple[str, Damage]] = []
        for place, (shard, image) in enumerate(found):
            made = image if isinstance(image, Damage) else self._image(image, out[place])
            if isinstance(made, Damage):
                damage.append((shard, made))
            else:
                keys[place], texts[place] = made
        if damage:
            _fill(out, keys, texts, damage)
        return Made(Batch(images, self._tokens(texts, keys), keys), damage)

    def _image(self, image: Sample, out: npt.NDArray[Any]) -> tuple[str, Sequence[str]] | Damage:
        key, job = image.key, self._job
        try:
            texts = job.draw(key, _json(image.json), self._epoch)
        # of JSON as of what it says: `draw` may find that it is no record of an image
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Damage(key, "broken_json", str(error))
        if not texts or not all(texts):
            return Damage(key, "no_text")
        try:
            self._eye.look(image.jpg, out, partial(crop_numbers, job.seed, self._epoch, key))
        except ValueError as error:
            return Damage(key, "broken_jpg", str(error))
        return key, texts

    def _tokens(self, texts: list[Sequence[str]], keys: Sequence[str]) -> torch.Tensor:
        """(B, n, L)"""
        number = len(texts[0])
        for one, key in zip(texts, keys, strict=True):
            if len(one) != number:
                raise ValueError(f"{len(one)} texts for {key} and {number} for {keys[0]}")
        tokens = self._job.tokenize([text for one in texts for text in one])
        return tokens.view(len(texts), number, -1)


def _fill(
    out: npt.NDArray[Any],
    keys: list[str],
    texts: list[Sequence[str]],
    damage: Sequence[tuple[str, Damage]],
) -> None:
    """Puts the next image that can be used into each place that has none."""
    whole = [place for place, key in enumerate(keys) if key]
    if not whole:
        shard, first = damage[0]
        raise UserError(
            f"none of the {len(keys):,} images of a batch can be used; of {first.key} in {shard}: "
            f"{first.reason}{f' ({first.detail})' if first.detail else ''}. See whether the shards "
            "are whole (`sparqless verify`), or pack them again."
        )
    for place, key in enumerate(keys):
        if not key:
            other = next((at for at in whole if at > place), whole[0])
            out[place], texts[place], keys[place] = out[other], texts[other], keys[other]
