"""Images of a few colours with texts that name them, and no shards: for what is about the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from etl.errors import UserError
from training.config import Config, load, of
from training.model import Model

COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "purple": (1.0, 0.0, 1.0),
    "turquoise": (0.0, 1.0, 1.0),
}
WORDS = ("{}", "a {} square", "something {}", "{} paper", "this is {}", "{}, a colour")


class Colours(NamedTuple):
    """A batch as the loader gives it."""

    images: torch.Tensor
    tokens: torch.Tensor
    keys: list[str]


@dataclass
class InMemory:
    """A source of `images` images, each with `texts` texts; all are drawn by epoch and key."""

    images: int = 64
    texts: int = 1
    inputs: dict[str, Any] = field(default_factory=lambda: {"shards": "colours"})
    #: Keys of images that hold what is no number, from an epoch on.
    bad: frozenset[str] = frozenset()
    bad_from: int = 1
    #: The process and the step of an epoch at which images can't be read.
    fails: tuple[int, int] | None = None
    #: Steps of an epoch at which each process finds an image that can't be used.
    damaged: tuple[int, ...] = ()

    def loader(self, model: Model, images: int, rank: int, world: int) -> InMemoryLoader:
        return InMemoryLoader(self, model, images, rank, world)


@dataclass
class InMemoryLoader:
    source: InMemory
    model: Model
    size: int
    rank: int
    world: int
    damage: Counter[str] = field(default_factory=Counter)

    def batches(self, epoch: int) -> int:
        return self.source.images // (self.size * self.world)

    @property
    def identity(self) -> dict[str, Any]:
        return {"order": "by epoch"}

    def close(self) -> None:
        pass

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Colours]:
        """Joint batches are the same whatever the number of processes."""
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(self.source.images, generator=generator).tolist()
        for number in range(start, self.batches(epoch)):
            if self.source.fails == (self.rank, number):
                raise UserError("a shard is broken")
            self.damage.update(["broken_jpg"] * (number in self.source.damaged))
            begin = (number * self.world + self.rank) * self.size
            yield self._batch(order[begin : begin + self.size], epoch)

    def _batch(self, numbers: list[int], epoch: int) -> Colours:
        names = list(COLOURS)
        images, texts = [], []
        for number in numbers:
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            name = names[number % len(names)]
            plain = torch.tensor(COLOURS[name]).view(3, 1, 1) * 2 - 1
            size = self.model.size
            image = plain + 0.3 * torch.randn(3, size, size, generator=generator)
            if epoch >= self.source.bad_from and key_of(number) in self.source.bad:
                image = image * torch.nan
            images.append(image)
            chosen = torch.randperm(len(WORDS), generator=generator)[: self.source.texts]
            texts += [WORDS[n].format(name) for n in chosen.tolist()]
        tokens = self.model.tokenize(texts).view(len(numbers), self.source.texts, -1)
        return Colours(torch.stack(images), tokens, [key_of(number) for number in numbers])


def key_of(number: int) -> str:
    return f"image-{number:04}"


def small(**train: Any) -> Config:
    """The config `tiny`, for a few steps."""
    plain = {"batch": 16, "epochs": 3, "warmup_epochs": 0.5, "log_steps": 1, "tensorboard": False}
    config = load("tiny")
    return of({"model": {"name": "tiny"}, "data": config.data, "train": {
        "precision": "fp32", "matmul": "highest", "lr": 1e-3, **plain, **train,
    }})  # fmt: skip
