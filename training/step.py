"""Gradients of one step: the loss of the whole batch, however few images fit at a time.

A contrastive loss compares all images of the batch with all texts, so gradients of smaller losses
can't be added up. With several pieces all features are found first, without a graph; the loss and
its gradient at the features come from them; then each piece goes through the network again and
takes its part of that gradient on ("GradCache", Gao et al. 2021). That costs one more forward pass
and gives the gradients of the large batch, but for the order of sums.

Three things make it so, each of which is easily missed. Chances (dropout of patches) must fall
alike both times: the generator is seeded for each piece. Autocast keeps low-precision copies of
weights, which mustn't go from a pass without a graph to one with: each pass has its own. And the
logit scale's gradient is the loss's, once, not once a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from training.loss import Loss

Seeds = Callable[[int], int]
Look = Callable[[Tensor], Tensor]


class Piece(NamedTuple):
    """Images and their texts that go through the network together."""

    images: Tensor  # (b, 3, S, S) float, or what ``look`` makes floats of
    tokens: Tensor  # (b × n, L) int64: an image's texts one after the other


class Told(NamedTuple):
    """What a step says of itself."""

    loss: Tensor  # ()
    scale: Tensor  # (): the factor of the logits


class _Features(NamedTuple):
    """What the network makes of a piece; or the gradients at that."""

    images: Tensor  # (B, D)
    texts: Tensor  # (B × n, D)
    scale: Tensor  # ()
    bias: Tensor | None  # ()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 where it does no harm, or nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def gradients(
    net: torch.nn.Module,
    pieces: Sequence[Piece],
    loss: Loss,
    *,
    precision: str,
    seeds: Seeds,
    look: Look = lambda images: images,
) -> Told:
    """Adds the gradients of the loss of all pieces together to the parameters'.

    ``net`` may be wrapped for several processes; gradients are their mean then. ``seeds`` gives
    what the generator is seeded with for each piece. ``look`` makes of a piece's images what the
    network takes, when their turn comes: as bytes they are a quarter.
    """
    if len(pieces) == 1:
        found = _features(net, pieces[0], precision, seeds(0), look)
        value = loss(found.images, found.texts, found.scale, found.bias)
        value.backward()  # type: ignore[no-untyped-call]
        return Told(value.detach(), found.scale.detach())
    told, wanted = _at_features(net, pieces, loss, precision, seeds, look)
    images = torch.split(wanted.images, [len(piece.images) for piece in pieces])
    texts = torch.split(wanted.texts, [len(piece.tokens) for piece in pieces])
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        with nullcontext() if is_last else _kept_here(net):
            found = _features(net, piece, precision, seeds(number), look)
            passed = (found.images * images[number]).sum() + (found.texts * texts[number]).sum()
            if is_last:
                passed = passed + found.scale * wanted.scale
                if found.bias is not None and wanted.bias is not None:
                    passed = passed + found.bias * wanted.bias
            passed.backward()  # type: ignore[no-untyped-call]
    return told


def _features(
    net: torch.nn.Module, piece: Piece, precision: str, seed: int, look: Look
) -> _Features:
    torch.manual_seed(seed)
    seen = look(piece.images)
    with autocast(seen.device, precision):
        out = net(seen, piece.tokens)
    # the loss is summed in float32, whatever the network computes in
    images, texts = out["image_features"].float(), out["text_features"].float()
    return _Features(images, texts, out["logit_scale"], out.get("logit_bias"))


def _at_features(
    net: torch.nn.Module,
    pieces: Sequence[Piece],
    loss: Loss,
    precision: str,
    seeds: Seeds,
    look: Look,
) -> tuple[Told, _Features]:
    """The loss of all pieces together, and its gradients at what the network makes of them."""
    inner = net.module if isinstance(net, DistributedDataParallel) else net
    with torch.no_grad():
        each = [_features(inner, p, precision, seeds(n), look) for n, p in enumerate(pieces)]
    whole = _Features(
        torch.cat([found.images for found in each]).requires_grad_(),
        torch.cat([found.texts for found in each]).requires_grad_(),
        each[0].scale.clone().requires_grad_(),
        None if each[0].bias is None else each[0].bias.clone().requires_grad_(),
    )
    value = loss(*whole)
    asked = [tensor for tensor in whole if tensor is not None]
    found = torch.autograd.grad(value, asked)
    return Told(value.detach(), whole.scale.detach()), _Features(*found, *[None] * (4 - len(found)))


def _kept_here(net: torch.nn.Module) -> AbstractContextManager[object]:
    """Gradients are added up in this process and not exchanged yet."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext()
