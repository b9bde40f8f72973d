"""Batches on their way from the loader to the device, and how long they are waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from training.step import Piece


class Fed(NamedTuple):
    """What a step is made of."""

    pieces: list[Piece]
    #: The images' keys, in the same order.
    keys: list[str]


class Feed:
    """Steps' worth of batches on ``device``, each of several from the loader.

    On a GPU :meth:`fetch` takes the next and sends it by a stream of its own, while the device is
    at the step before. ``waited`` are the seconds spent in asking the loader.
    """

    def __init__(self, batches: Iterator[list[Any]], device: torch.device) -> None:
        self.waited = 0.0
        self._batches = batches
        self._device = device
        self._ahead: Fed | None = None
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Fed]:
        while True:
            found = self._ahead or self._fetched()
            self._ahead = None
            if found is None:
                return
            if self._stream is not None:
                now = torch.cuda.current_stream(self._device)
                now.wait_stream(self._stream)
                for piece in found.pieces:
                    piece.images.record_stream(now)
                    piece.tokens.record_stream(now)
            yield found

    def fetch(self) -> None:
        """Called when the device has its work: takes the next batches meanwhile."""
        if self._stream is not None and self._ahead is None:
            self._ahead = self._fetched()

    def _fetched(self) -> Fed | None:
        began = time.monotonic()
        batches = next(self._batches, None)
        self.waited += time.monotonic() - began
        if batches is None:
            return None
        keys = [key for batch in batches for key in batch.keys]
        if self._stream is None:
            return Fed([_piece(batch, self._device) for batch in batches], keys)
        with torch.cuda.stream(self._stream):
            return Fed([_piece(batch, self._device) for batch in batches], keys)


def _piece(batch: Any, device: torch.device) -> Piece:
    images = batch.images.to(device, non_blocking=True)
    return Piece(images, batch.tokens.flatten(0, 1).to(device, non_blocking=True))
