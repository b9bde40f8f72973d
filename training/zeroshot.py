"""Zero-shot classification: the class whose name, put into sentences, is nearest to the image.

A class's embedding is the normalised mean over its names of the normalised means of what its
sentences give (CLIP's paper, 3.1.4, and its notebook for ImageNet: the mean of normalised
embeddings, normalised again).

**Several right classes.** An image is right where the answer is one of them. Micro accuracy is the
share of images; macro accuracy the mean over classes of the share of the images that show the
class: with one class an image these are the usual ones.

**Twins**: classes with the very same sentences can't be told apart by anybody. Each is right for
the other, in ranks and in what a guess would have; which of them was answered is chance, so where
one is the image's own, that is taken for the answer. An image shows its own classes alone, though:
what is counted by class or root, or by how far off a mistake is, is counted by those.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from etl.fold import fold_whole
from training.classes import Class
from training.opened import Opened
from training.ranking import Ranks, Right, ranks
from training.templates import filled

Names = Literal["name", "all", "synonyms"]

TOP: Final = (1, 5)

#: Sentences that are embedded at once, and so the most that is held of them: classes with many
#: names are spread over several.
_AT_ONCE: Final = 1 << 14

_CONFUSED: Final = 20  # pairs that are listed


class Prompts(msgspec.Struct, frozen=True):
    """How classes are asked for.

    ``names``: each class by its name, by all its names (the mean of them), or by all but the first
    (:func:`asked` leaves out those that have no other). ``types``: with ", a type of …".
    """

    templates: Sequence[str]
    names: Names = "name"
    types: bool = False


def asked(classes: Sequence[Class], names: Names) -> list[Class]:
    """The classes that can be asked for so, with those names."""
    if names == "name":
        return [msgspec.structs.replace(one, names=one.names[:1]) for one in classes]
    if names == "all":
        return list(classes)
    more = (one for one in classes if len(one.names) > 1)
    return [msgspec.structs.replace(one, names=one.names[1:]) for one in more]


def sentences(one: Class, name: str, prompts: Prompts) -> list[str]:
    """What a class is asked for by under one of its names."""
    kind = one.natural_type if prompts.types else ""
    if fold_whole(kind) == fold_whole(name):
        kind = ""  # "a dog, a type of dog" says nothing
    return [filled(template, name, kind) for template in prompts.templates]


def embeddings(
    model: Opened,
    classes: Sequence[Class],  # as `asked` gives them
    prompts: Prompts,
    tick: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Of each class, (classes, d) float32 of length 1, on the model's device.

    ``tick`` is told of sentences.
    """
    per_name = len(prompts.templates)
    names = [(number, name) for number, one in enumerate(classes) for name in one.names]
    found: Tensor | None = None
    step = max(1, _AT_ONCE // per_name)
    for first in range(0, len(names), step):
        some = names[first : first + step]
        texts = [text for n, name in some for text in sentences(classes[n], name, prompts)]
        made = model.texts(texts, tick)
        means = _normal(made.view(len(some), per_name, -1).mean(1))
        if found is None:
            device, found = means.device, torch.zeros(len(classes), means.shape[1])
        # on the CPU, which adds in their order: a GPU adds as it comes, and other last bits
        found.index_add_(0, torch.tensor([n for n, _ in some]), means.cpu())
    assert found is not None, "there is a class"
    return _normal(found.to(device))  # of a sum as of a mean


def _normal(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


class Labels(NamedTuple):
    """Classes by number: of each image its own, and all that are right for it."""

    own: list[list[int]]
    right: list[list[int]]  # with their twins
    twins: list[int]  # of each class the first that reads the same: itself, mostly

    def as_own(self, image: int, answer: int) -> int:
        """An answer; where it reads the same as a class of the image, that class."""
        own = self.own[image]
        if answer in own:
            return answer
        return next((n for n in own if self.twins[n] == self.twins[answer]), answer)


def right_answers(
    labels: Iterable[Sequence[str]], classes: Sequence[Class], prompts: Prompts
) -> Labels:
    """Which classes images show, and which answers are right, in order."""
    number = {one.key: n for n, one in enumerate(classes)}
    groups = defaultdict[frozenset[str], list[int]](list)
    # one template is enough to tell two classes apart
    one = msgspec.structs.replace(prompts, templates=prompts.templates[:1])
    texts = [
        frozenset(fold_whole(text) for name in c.names for text in sentences(c, name, one))
        for c in classes
    ]
    for n, key in enumerate(texts):
        groups[key].append(n)
    found = Labels([], [], [groups[key][0] for key in texts])
    for keys in labels:
        own = {number[key] for key in keys if key in number}
        found.own.append(sorted(own))
        found.right.append(sorted({twin for n in own for twin in groups[texts[n]]}))
    return found


class Score(msgspec.Struct, frozen=True):
    """Accuracies from 0 to 1; ``chance`` is what a guess would have for acc1."""

    images: int
    classes: int  # that images show, of those that can be answered
    acc1: float
    acc5: float
    macro_acc1: float
    macro_acc5: float
    chance: float


def score(found: Ranks, labels: Labels, classes: int) -> Score:
    """Of images, one at least, that show a class each; of so many classes to choose from."""
    ranked = found.rank.tolist()
    of_class = defaultdict[int, list[int]](list)
    for rank, own in zip(ranked, labels.own, strict=True):
        for number in own:
            of_class[number].append(rank)
    micro = [_share(ranked, top) for top in TOP]
    macro = [sum(_share(own, top) for own in of_class.values()) / len(of_class) for top in TOP]
    guess = sum(map(len, labels.right)) / len(labels.right) / classes
    return Score(len(ranked), len(of_class), micro[0], micro[1], macro[0], macro[1], guess)


def _share(found: Sequence[int], top: int) -> float:
    return sum(rank <= top for rank in found) / len(found)


class Confused(msgspec.Struct, frozen=True):
    """How many images of one class were taken for another."""

    right: str  # key
    answer: str
    images: int


def confused(
    answers: Sequence[str], right: Sequence[Sequence[str]], most: int = _CONFUSED
) -> list[Confused]:
    """The most frequent mistakes; an image with several right classes counts for its first."""
    pairs = Counter((own[0], a) for a, own in zip(answers, right, strict=True) if a not in own)
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [Confused(own, answer, images) for (own, answer), images in ordered[:most]]


def classify(images: Tensor, classes: Tensor, right: Sequence[Sequence[int]]) -> Ranks:
    """Ranks of the right classes: (n, d) images, (m, d) classes of :func:`embeddings`."""
    return ranks(images, classes, Right.of(right))
