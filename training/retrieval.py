"""Retrieval: which texts belong to an image, and which images to a text.

**R@k** from image to text (i2t) is the share of images for which one of their texts is among the k
nearest of all texts; from text to image (t2i), of texts for which one of their images is among the
k nearest.

**Texts that are the same are one text**, whatever their case and white space, and right for every
image that has it: twenty images captioned "A dog" have one text between them, which is asked for
once. Ties go against the model (:mod:`training.ranking`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from torch import Tensor

from etl.fold import fold_whole
from training.ranking import Right, ranks

TOP: Final = (1, 5, 10)


class Pairs(msgspec.Struct, frozen=True):
    """Different texts, and which belong together, by number."""

    texts: list[str]
    of_image: list[list[int]]  # texts of each image, one at least
    of_text: list[list[int]]  # images of each text


def paired(texts: Sequence[Sequence[str]]) -> Pairs:
    """From the texts of each image, one at least."""
    number: dict[str, int] = {}
    kept: list[str] = []
    of_image: list[list[int]] = []
    for own in texts:
        mine = dict[int, None]()
        for text in own:
            key = fold_whole(text)
            if key not in number:
                number[key] = len(kept)
                kept.append(text)
            mine[number[key]] = None
        of_image.append(list(mine))
    of_text: list[list[int]] = [[] for _ in kept]
    for image, mine_ in enumerate(of_image):
        for text_ in mine_:
            of_text[text_].append(image)
    return Pairs(kept, of_image, of_text)


class Recall(msgspec.Struct, frozen=True, rename={"r1": "R@1", "r5": "R@5", "r10": "R@10"}):
    """One way. ``chance`` is what R@1 would be for a guess."""

    questions: int
    answers: int
    r1: float
    r5: float
    r10: float
    median_rank: float
    mean_rank: float
    chance: float


class Retrieval(msgspec.Struct, frozen=True):
    """Both ways. ``mean`` is that of the six recalls."""

    i2t: Recall
    t2i: Recall
    mean: float


def measured(
    images: Tensor,  # (n, d) of length 1
    texts: Tensor,  # (m, d) of length 1, of `pairs.texts`
    pairs: Pairs,
    tick: Callable[[int], None] = lambda _: None,
) -> Retrieval:
    """Recalls both ways; scores are never held all at once. ``tick`` is told of questions."""
    i2t = _recall(images, texts, pairs.of_image, tick)
    t2i = _recall(texts, images, pairs.of_text, tick)
    six = [value for way in (i2t, t2i) for value in (way.r1, way.r5, way.r10)]
    return Retrieval(i2t, t2i, sum(six) / len(six))


def _recall(
    questions: Tensor,
    answers: Tensor,
    right: Sequence[Sequence[int]],
    tick: Callable[[int], None],
) -> Recall:
    found = ranks(questions, answers, Right.of(right), tick=tick).rank.double()
    r1, r5, r10 = (float((found <= top).double().mean()) for top in TOP)
    return Recall(
        questions=len(questions),
        answers=len(answers),
        r1=r1,
        r5=r5,
        r10=r10,
        median_rank=_median(found),
        mean_rank=float(found.mean()),
        chance=sum(map(len, right)) / len(right) / len(answers),
    )


def _median(found: Tensor) -> float:
    """The mean of the two in the middle, where torch's own takes the lower."""
    ordered = found.sort().values
    return float(ordered[(len(found) - 1) // 2] + ordered[len(found) // 2]) / 2
