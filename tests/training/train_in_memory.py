"""A run of its own process: ``python -m tests.training.train_in_memory OUT '{"batch": 16, …}'``.

The second argument holds settings of ``[train]``; ``texts`` and ``images`` are the source's, and at
step ``kill_at`` the process gets the signal ``kill_with``, in the midst of the step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from etl.errors import UserError
from tests.training.in_memory import Colours, InMemory, InMemoryLoader, small
from training.model import Model
from training.train import train


class Killing(InMemory):
    """Sends a signal to this process when a batch is fetched."""

    def __init__(self, images: int, texts: int, at: int, number: int) -> None:
        super().__init__(images, texts)
        self.left, self.number = at, number

    def loader(self, model: Model, images: int, rank: int, world: int) -> InMemoryLoader:
        return KillingLoader(self, model, images, rank, world)


class KillingLoader(InMemoryLoader):
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Colours]:
        for batch in super().epoch(epoch, start):
            source: Any = self.source
            source.left -= 1
            if source.left == 0:
                os.kill(os.getpid(), source.number)
            yield batch


def main() -> int:
    torch.set_num_threads(1)
    settings = json.loads(sys.argv[2])
    images, texts = settings.pop("images", 64), settings.pop("texts", 1)
    at, number = settings.pop("kill_at", 0), settings.pop("kill_with", 0)
    limit = settings.pop("limit", 0)
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        ended = train(small(**settings), Killing(images, texts, at, number), Path(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(ended._asdict(), default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
