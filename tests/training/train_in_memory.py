"""A run of its own process: ``python -m tests.training.train_in_memory OUT '{"batch": 16, …}'``.

The second argument holds settings of ``[train]``; ``texts``, ``fails`` and ``damaged`` are the
source's, ``limit`` the bytes that a file may have, ``fresh`` as of the command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from etl.errors import UserError
from tests.training.in_memory import InMemory, small
from training.train import train


def main(arguments: Sequence[str]) -> int:
    torch.set_num_threads(1)
    settings = json.loads(arguments[1])
    texts, limit = settings.pop("texts", 1), settings.pop("limit", 0)
    fails, damaged = settings.pop("fails", None), settings.pop("damaged", ())
    fresh = settings.pop("fresh", False)
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    source = InMemory(texts=texts, fails=fails and tuple(fails), damaged=tuple(damaged))
    try:
        train(small(**settings), source, Path(arguments[0]), fresh=fresh, quiet=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
