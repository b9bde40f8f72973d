"""Batches on their way from the loader to the device, and how long they are waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from etl.errors import UserError
from training.data_images import normalised
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

    def __init__(
        self,
        batches: Iterator[list[Any]],
        device: torch.device,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Images that come as bytes are normalised by ``mean`` and ``std`` on the device."""
        self.waited = 0.0
        self._mean, self._std = mean, std
        self._trouble: UserError | None = None
        self._batches = batches
        self._device = device
        self._ahead: Fed | None = None
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Fed]:
        while True:
            if self._trouble is not None:
                raise self._trouble
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
        """Called when the device has its work: takes the next batches meanwhile.

        What goes wrong is raised when they are asked for: the step at hand is to be ended.
        """
        if self._stream is None or self._ahead is not None:
            return
        try:
            self._ahead = self._fetched()
        except UserError as error:
            self._trouble = error

    def _fetched(self) -> Fed | None:
        began = time.monotonic()
        batches = next(self._batches, None)
        self.waited += time.monotonic() - began
        if batches is None:
            return None
        keys = [key for batch in batches for key in batch.keys]
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            return Fed([self._piece(batch) for batch in batches], keys)

    def _piece(self, batch: Any) -> Piece:
        images = batch.images.to(self._device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = normalised(images, self._mean, self._std)
        tokens = batch.tokens.flatten(0, 1).to(self._device, non_blocking=True)
        return Piece(images, tokens)
