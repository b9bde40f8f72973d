"""Texts and tokens that tests of the loader give images, in a module that workers load quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

LENGTH = 6  # of tokens


def draw(key: str, row: Mapping[str, Any], epoch: int, *, texts: int = 1) -> list[str]:
    """The caption, and what tells one text of an image from the next."""
    return [f"{row['caption']} {n}"[: 20 * (key == row["key"])] for n in range(texts)]


def draw_two(key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    return draw(key, row, epoch, texts=2)


def tokenize(texts: Sequence[str]) -> torch.Tensor:
    """(texts, LENGTH): the first characters."""
    return torch.tensor([[ord(c) for c in text.ljust(LENGTH)[:LENGTH]] for text in texts])
