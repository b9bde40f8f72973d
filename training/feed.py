"""Batches on their way from the loader to the device, and how long they are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from etl.errors import UserError
from training.data_images import normalised
from training.step import Piece


class Fed(NamedTuple):
    """What a step is made of."""

    #: Images as the loader gives them: each piece is made floats when its turn comes (``look``).
    pieces: list[Piece]
    #: The images' keys, in the same order.
    keys: list[str]
    #: Images so far that couldn't be used, those of this step's batch included.
    damaged: int


class Feed:
    """The loader's batches on ``device``, each in pieces of ``most`` images.

    On a GPU :meth:`fetch` takes the next and sends it by a stream of its own, while the device is
    at the step before. ``waited`` are the seconds in which the device had nothing to do for want of
    a batch: on a CPU all that the loader is waited for, on a GPU what is beyond the device's step.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        device: torch.device,
        *,
        most: int,
        mean: Sequence[float],
        std: Sequence[float],
        damaged: Callable[[], int] = lambda: 0,
    ) -> None:
        """Images that come as bytes are normalised by ``mean`` and ``std``; ``damaged`` counts
        those that couldn't be used."""
        self.waited = 0.0
        # on the device once: to send them there makes the host wait for the kernels before
        self._mean, self._std = torch.tensor(mean).to(device), torch.tensor(std).to(device)
        self._most, self._damaged = most, damaged
        self._trouble: UserError | None = None
        self._batches = batches
        self._device = device
        self._ahead: Fed | None = None
        self._stream: Any = None
        self._clock: _Clock | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._clock = _Clock()

    def __iter__(self) -> Iterator[Fed]:
        while True:
            if self._clock is not None:
                self.waited += self._clock.idle()
            if self._trouble is not None:
                raise self._trouble
            began = time.monotonic()
            found = self._ahead or self._fetched()
            self.waited += time.monotonic() - began
            self._ahead = None
            if found is None:
                return
            if self._stream is not None:
                now = torch.cuda.current_stream(self._device)
                now.wait_stream(self._stream)
                for piece in found.pieces:
                    piece.images.record_stream(now)
                    piece.tokens.record_stream(now)
            if self._clock is not None:
                self._clock.begin()
            yield found

    def fetch(self) -> None:
        """Called when the device has its work: takes the next batch meanwhile.

        What goes wrong is raised when it is asked for: the step at hand is to be ended.
        """
        if self._clock is None or self._ahead is not None:
            return
        self._clock.launched()
        try:
            self._ahead = self._fetched()
        except UserError as error:
            self._trouble = error
        self._clock.fetched()

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """(b, 3, S, S) float32, normalised, of a piece's images."""
        if images.dtype == torch.uint8:
            return normalised(images, self._mean, self._std)
        return images

    def _fetched(self) -> Fed | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            images = batch.images.to(self._device, non_blocking=True)
            tokens = batch.tokens.to(self._device, non_blocking=True)
        parts = zip(images.split(self._most), tokens.split(self._most), strict=True)
        pieces = [Piece(some, texts.flatten(0, 1)) for some, texts in parts]
        return Fed(pieces, batch.keys, self._damaged())


class _Clock:
    """How long a GPU had nothing to do while its next batch was fetched.

    The device begins when it is given its work, as the host waits for it at the end of each step;
    how long it takes it says by events.
    """

    def __init__(self) -> None:
        event: Any = torch.cuda.Event
        self._first, self._last = event(enable_timing=True), event(enable_timing=True)
        self._began = self._asked = self._given = 0.0

    def begin(self) -> None:
        self._first.record()
        self._began = time.monotonic()

    def launched(self) -> None:
        self._last.record()
        self._asked = time.monotonic()

    def fetched(self) -> None:
        self._given = time.monotonic()

    def idle(self) -> float:
        """Seconds of the newest fetch in which the device was done; asked once a step is over."""
        asked, given = self._asked, self._given
        if not given or not self._last.query():
            return 0.0
        self._given = 0.0
        done: float = self._began + self._first.elapsed_time(self._last) / 1000
        return max(0.0, given - max(asked, done))
