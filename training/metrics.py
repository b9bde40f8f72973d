"""What a run says while it goes: lines of JSON, TensorBoard, and the console's line.

``metrics.jsonl`` has a line for every so-manieth step, with the figures of that step alone, but for
the rates, which are of the steps since the line before:

``step``, ``epoch``, ``images``     done so far, this step included (``epoch`` as a fraction)
``loss``, ``logit_scale``, ``lr``, ``grad_norm``    of this step; the norm before it is cut
``damaged``    images so far that couldn't be used, of all processes; others took their places
``images_per_second``, ``data_wait``, ``seconds``    ``data_wait``: share of the time in which the
    first process's device had nothing to do for want of a batch (:class:`training.feed.Feed`)
``seconds_left``    until the end of the schedule, at this pace
``macs``, ``macs_77``    multiply–adds so far as EntityNet counts them, and with its context of 77
``mfu``    FLOPs utilisation of the device (:func:`training.model.flops_per_image`); on a known GPU

The end of an epoch that is evaluated has a line of its own, with ``val_acc1`` and the like
(:mod:`training.meanwhile`) and ``evaluate_seconds``.

A run that goes on from a checkpoint first removes the lines of steps after it: each step stands
there once.
"""

from __future__ import annotations

import os
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

import torch
import ujson

FILE: Final = "metrics.jsonl"
BOARD: Final = "tensorboard"

#: What a line of an evaluation has, and no other.
EVALUATE_SECONDS: Final = "evaluate_seconds"

#: Dense bfloat16 FLOP/s by the vendor's data sheets, by what torch calls the device.
PEAKS: Final = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
}


def peak_of(device: torch.device) -> float | None:
    """FLOP/s that a device can do at most in bfloat16; None where that isn't known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Metrics:
    """Lines of a run from ``step`` on, in its folder; in none, for a process that is silent."""

    def __init__(self, folder: Path | None, step: int, *, board: bool = True) -> None:
        #: The newest of each figure.
        self.last: dict[str, Any] = {}
        #: The last step that was evaluated.
        self.evaluated = 0
        self._found: Set[str] = frozenset()  # of the last evaluation
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is not None:
            for line in _cut(folder / FILE, step):
                self._note(line)
            self._file = (folder / FILE).open("a", encoding="utf-8")
            self._board = _board(folder / BOARD, step) if board else None

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        for open_ in (self._file, self._board):
            if open_ is not None:
                with suppress(OSError):  # each line was flushed: what couldn't be written was told
                    open_.close()

    def add(self, line: dict[str, Any]) -> None:
        """Writes the line of a step."""
        self._note(line)
        if self._file is not None:
            self._file.write(ujson.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in line.items():
                self._board.add_scalar(name, value, line["step"])

    def _note(self, line: dict[str, Any]) -> None:
        if EVALUATE_SECONDS in line:
            self.evaluated = line["step"]
            # what an earlier evaluation found isn't true of these weights
            self.last = {name: v for name, v in self.last.items() if name not in self._found}
            self._found = line.keys() - {"step", "epoch", "images"}
        self.last = {**self.last, **line}


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; one that was cut off is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text("utf-8").splitlines():
        try:
            found.append(ujson.loads(line))
        except ValueError:
            break
    return found


def _cut(path: Path, step: int) -> list[dict[str, Any]]:
    """Removes the lines after ``step``; gives those that are left."""
    kept = [line for line in read(path) if line["step"] <= step]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{ujson.dumps(line)}\n" for line in kept), "utf-8")
    temporary.replace(path)
    return kept


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None where it isn't installed: it is for who looks, no more."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
