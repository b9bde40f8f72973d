"""What a step is made of comes while the one before is made; how long it is waited for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training import feed
from training.data import Batch, normalised
from training.feed import Feed

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def test_bytes_stay_bytes_until_their_piece_is_looked_at() -> None:
    images = torch.arange(5 * 12, dtype=torch.uint8).view(5, 3, 2, 2)
    batch = Batch(images, torch.arange(5 * 2 * 4).view(5, 2, 4), list("abcde"))
    source = Feed(iter([batch]), torch.device("cpu"), most=2, mean=MEAN, std=STD)
    (fed,) = source
    assert fed.keys == list("abcde")
    assert [len(piece.images) for piece in fed.pieces] == [2, 2, 1]
    assert all(piece.images.dtype == torch.uint8 for piece in fed.pieces)
    assert [piece.tokens.shape for piece in fed.pieces] == [(4, 4), (4, 4), (2, 4)]
    seen = torch.cat([source.look(piece.images) for piece in fed.pieces])
    assert torch.equal(seen, normalised(images, MEAN, STD))


@pytest.mark.parametrize(
    ("step", "given", "idle"),
    [
        (5.0, 3.0, 0.0),  # the batch is there before the device is done
        (2.0, 3.0, 1.0),  # the device was done a second before
        (0.5, 3.0, 2.0),  # it was done before the batch was asked for: from then on
    ],
)
def test_a_gpu_waits_for_what_is_beyond_its_step(
    monkeypatch: pytest.MonkeyPatch, step: float, given: float, idle: float
) -> None:
    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            pass

        def query(self) -> bool:
            return True

        def elapsed_time(self, _: Any) -> float:
            return 1000 * step

    monkeypatch.setattr(torch.cuda, "Event", Event)
    times = iter([0.0, 1.0, given])  # begun, asked for the next, given it
    monkeypatch.setattr(feed.time, "monotonic", lambda: next(times))
    clock = feed._Clock()
    assert clock.idle() == 0  # before the first step
    clock.begin()
    clock.launched()
    clock.fetched()
    assert clock.idle() == pytest.approx(idle)
    assert clock.idle() == 0  # once
