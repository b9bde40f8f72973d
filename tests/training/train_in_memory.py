"""A run of its own process: ``python -m tests.training.train_in_memory OUT '{"batch": 16, …}'``.

The second argument holds settings of ``[train]``; ``texts`` is the source's, and ``limit`` the
bytes that a file may have; ``fails`` is [process, step] at which images can't be read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from etl.errors import UserError
from tests.training.in_memory import InMemory, small
from training.train import train


def main() -> int:
    torch.set_num_threads(1)
    settings = json.loads(sys.argv[2])
    texts, limit = settings.pop("texts", 1), settings.pop("limit", 0)
    fails = settings.pop("fails", None)
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        ended = train(
            small(**settings),
            InMemory(texts=texts, fails=fails and tuple(fails)),
            Path(sys.argv[1]),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(ended._asdict(), default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
