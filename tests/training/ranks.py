"""Runs in processes of their own, several that belong together too: as torchrun starts them, quick.

They are forked from a process that has imported torch and training, so each costs no second of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.training.train_in_memory import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.train_in_memory"])

#: Seconds after which a process is said to wait for ever.
_PATIENCE = 60


class Done(NamedTuple):
    """How they ended."""

    #: The exit code of each.
    codes: list[int | None]
    #: What each wrote to standard error.
    stderr: list[str]


def in_ranks(outs: Sequence[Path], **settings: Any) -> Done:
    """A run of as many processes as there are folders, which are the same but where nodes share
    none; ``settings`` as :mod:`tests.training.train_in_memory` has them.

    One that doesn't end is killed.
    """
    with TemporaryDirectory() as logs, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        known = {
            "WORLD_SIZE": str(len(outs)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        free.close()
        started = [
            _CONTEXT.Process(
                target=_one,
                args=(f"{logs}/{rank}", {**known, "RANK": str(rank)}, str(out), settings),
            )
            for rank, out in enumerate(outs)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(_PATIENCE)
        for process in started:
            process.kill()
            process.join()
        said = [Path(logs, str(rank)).read_text("utf-8") for rank in range(len(outs))]
        return Done([process.exitcode for process in started], said)


def _one(log: str, known: dict[str, str], out: str, settings: dict[str, Any]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    os.environ.update(known)
    sys.exit(main([out, json.dumps(settings)]))
