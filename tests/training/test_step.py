"""A batch in pieces gives the gradients of the batch at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.in_memory import InMemory
from training import loss
from training.config import ModelOptions
from training.model import created
from training.step import Piece, gradients

torch.set_num_threads(1)


def gradients_of(
    pieces: int, texts: int, make: Any, precision: str = "fp32", dropout: float = 0.0
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss, and each parameter's gradient, of 24 images in so many pieces."""
    model = created(ModelOptions(name="tiny"), seed=1, siglip=make is loss.siglip)
    net: Any = model.net
    if dropout:
        from open_clip.transformer import PatchDropout

        net.visual.patch_dropout = PatchDropout(dropout)
    batch = next(InMemory(24, texts).loader(model, 24, 0, 1).epoch(0))
    images, tokens = batch.images.chunk(pieces), batch.tokens.chunk(pieces)
    given = [Piece(i, t.flatten(0, 1)) for i, t in zip(images, tokens, strict=True)]
    told = gradients(net, given, make(texts), precision=precision, seeds=lambda n: n)
    return float(told.loss), {name: p.grad for name, p in net.named_parameters()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Length of the difference of all gradients over their length."""
    one, other = (torch.cat([g.flatten() for g in x.values()]) for x in (a, b))
    return float((one - other).norm() / one.norm())


@pytest.mark.parametrize("make", [loss.clip, loss.siglip])
@pytest.mark.parametrize("texts", [1, 2])
def test_gradients_of_pieces_are_those_of_the_batch(make: Any, texts: int) -> None:
    value, whole = gradients_of(1, texts, make)
    for pieces in (2, 4):
        found, parts = gradients_of(pieces, texts, make)
        assert found == pytest.approx(value, rel=1e-6)
        for name, gradient in whole.items():
            scale = max(float(gradient.abs().max()), 1e-6)
            torch.testing.assert_close(parts[name] / scale, gradient / scale, atol=2e-5, rtol=0)


def test_images_are_looked_at_when_their_piece_is_due() -> None:
    model = created(ModelOptions(name="tiny"), seed=1)
    batch = next(InMemory(24).loader(model, 24, 0, 1).epoch(0))
    looked: list[int] = []

    def found(images: torch.Tensor, **more: Any) -> list[torch.Tensor | None]:
        model.net.zero_grad()
        parts = zip(images.chunk(2), batch.tokens.chunk(2), strict=True)
        given = [Piece(some, tokens.flatten(0, 1)) for some, tokens in parts]
        gradients(model.net, given, loss.clip(1), precision="fp32", seeds=lambda n: n, **more)
        return [parameter.grad for parameter in model.net.parameters()]

    def look(images: torch.Tensor) -> torch.Tensor:
        looked.append(len(images))
        return images * 2

    torch.testing.assert_close(found(batch.images / 2, look=look), found(batch.images))
    assert looked == [12, 12, 12, 12]  # once a pass


def test_they_are_with_bfloat16_too() -> None:
    # rounding differs with the size of a product; weights cut off from their gradients would
    # differ by all of their length
    value, whole = gradients_of(1, 1, loss.clip, "bf16")
    found, parts = gradients_of(3, 1, loss.clip, "bf16")
    assert found == pytest.approx(value, rel=1e-3)
    assert distance(whole, parts) < 0.02
    assert distance(whole, gradients_of(1, 1, loss.clip)[1]) < 0.1


def test_chances_fall_alike_in_both_passes() -> None:
    once = gradients_of(2, 1, loss.clip, dropout=0.5)
    again = gradients_of(2, 1, loss.clip, dropout=0.5)
    assert distance(once[1], again[1]) == 0
    # what was dropped in the first pass gives no gradient in the second: the loss falls along it
    value, slope = once
    model = created(ModelOptions(name="tiny"), seed=1)
    net: Any = model.net
    from open_clip.transformer import PatchDropout

    net.visual.patch_dropout = PatchDropout(0.5)
    length = sum(float((g**2).sum()) for g in slope.values())
    step = 1e-3 / length**0.5
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter -= step * slope[name]
    batch = next(InMemory(24).loader(model, 24, 0, 1).epoch(0))
    given = [
        Piece(i, t.flatten(0, 1))
        for i, t in zip(batch.images.chunk(2), batch.tokens.chunk(2), strict=True)
    ]
    told = gradients(net, given, loss.clip(1), precision="fp32", seeds=lambda n: n)
    assert value - float(told.loss) == pytest.approx(step * length, rel=0.05)
