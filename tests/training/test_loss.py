"""Losses say what they promise: against slow twins, and whatever the number of texts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training import loss

torch.set_num_threads(1)


def features(images: int, texts: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(images, 5, generator=generator, dtype=torch.float64)
    b = torch.randn(images * texts, 5, generator=generator, dtype=torch.float64)
    a, b = (torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in (a, b))
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    return a, b, scale, bias


def slow_clip(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The mean of two directions, one image and one text after the other."""
    images, texts = len(a), len(b) // len(a)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(images):
        logits = [scale * (a[i] @ t) + bias for t in b]
        below = torch.log(sum(torch.exp(x) for x in logits))  # type: ignore[arg-type]
        for j in range(i * texts, (i + 1) * texts):
            total = total + (below - logits[j]) / texts / images / 2
    for j in range(len(b)):
        logits = [scale * (b[j] @ i) + bias for i in a]
        below = torch.log(sum(torch.exp(x) for x in logits))  # type: ignore[arg-type]
        total = total + (below - logits[j // texts]) / len(b) / 2
    return total


def slow_siglip(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Each pair is a question: does this text belong to this image?"""
    texts = len(b) // len(a)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            sign = 1 if j // texts == i else -1
            logit = scale * (a[i] @ b[j]) + bias
            total = total + torch.log1p(torch.exp(-sign * logit)) / len(a) / texts
    return total


@pytest.mark.parametrize("texts", [1, 2, 3])
@pytest.mark.parametrize(("make", "slow"), [(loss.clip, slow_clip), (loss.siglip, slow_siglip)])
def test_losses_and_their_gradients_are_those_of_a_slow_twin(make, slow, texts) -> None:  # type: ignore[no-untyped-def]
    given = features(6, texts)
    twin = [x.detach().clone().requires_grad_() for x in given]
    found, wanted = make(texts)(*given), slow(*twin)
    torch.testing.assert_close(found, wanted)
    found.backward()
    wanted.backward()
    for x, y in zip(given, twin, strict=True):
        gradient = torch.zeros_like(x) if x.grad is None else x.grad
        torch.testing.assert_close(gradient, y.grad)


@pytest.mark.parametrize("make", [loss.clip, loss.siglip])
def test_the_same_text_twice_is_the_loss_of_one(make) -> None:  # type: ignore[no-untyped-def]
    a, b, scale, bias = features(6, 1)
    if make is loss.siglip:
        torch.testing.assert_close(
            make(2)(a, b.repeat_interleave(2, 0), scale, bias), make(1)(a, b, scale, bias)
        )
    else:  # each of the two can have half at most
        twice = make(2)(a, b.repeat_interleave(2, 0), scale, bias)
        torch.testing.assert_close(twice, make(1)(a, b, scale, bias) + math.log(2) / 2)


def test_several_texts_are_never_taken_for_those_of_another_image() -> None:
    a = torch.eye(4, dtype=torch.float64)
    scale = torch.tensor(100.0, dtype=torch.float64)
    right, wrong = a.repeat_interleave(3, 0), a.roll(1, 0).repeat_interleave(3, 0)
    assert loss.clip(3)(a, right, scale, None) == pytest.approx(math.log(3) / 2)
    assert loss.clip(3)(a, wrong, scale, None) > 90


@pytest.mark.parametrize("make", [loss.clip, loss.siglip])
def test_texts_that_arent_as_many_as_they_should_be_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    a, b, scale, bias = features(6, 2)
    with pytest.raises(ValueError, match="6 images with 3 texts each, but 12 texts"):
        make(3)(a, b, scale, bias)
