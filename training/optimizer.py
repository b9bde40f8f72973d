"""AdamW as CLIP is trained with it, and the learning rate of each step.

Weights that are added or that scale (biases, norms, the logit scale and bias) don't decay. Nor does
the image network's class embedding, one vector: open_clip leaves everything of one dimension out,
EntityNet lets this one decay. Of 151 million numbers these are 768, and models of others who train
with open_clip are what ours are compared with, so we keep to open_clip's rule.
"""

from __future__ import annotations

import math

import torch

from training.config import TrainOptions


def optimizer_of(net: torch.nn.Module, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained, in the network's order within each group."""
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": options.weight_decay},
    ]
    return torch.optim.AdamW(
        groups,
        lr=options.lr,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        fused=True,
    )


def names_of(net: torch.nn.Module) -> list[str]:
    """The parameters' names in the order of the optimizer's."""
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    return [n for n, p in named if p.ndim < 2] + [n for n, p in named if p.ndim >= 2]


def lr_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate of a step: up in a line to ``peak``, down to 0 in a cosine.

    As open_clip has it: step 0 has ``peak / warmup``, step ``steps``, which isn't made, 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if steps <= warmup:
        return peak
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
