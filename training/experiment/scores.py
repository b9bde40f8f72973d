"""What a model knows of the pictures that were held out: five measures, the same for every run.

``names``       which of all things it is, by its name
``up``          one level up: which of the groups, by the group's name
``in_group``    whether what it takes for the thing is of the right group at least
``withheld``    of the things with a synonym that no text in training has: which, by that synonym
``scientific``  of the things with a scientific name: which, by that; no alt text has one
``retrieval``   mean of R@1, 5, 10 both ways, by a text that tells thing, colour and place

No templates, since half of the mixes never meet one: names alone ("{}").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from torch import Tensor

from training import retrieval
from training.classes import Class
from training.experiment.world import Thing
from training.opened import Opened, opened
from training.pictures import Picture, of_shards
from training.templates import NONE
from training.zeroshot import Prompts, classify, embeddings, right_answers

_PROMPTS: Final = Prompts(NONE)


class Scores(msgspec.Struct, frozen=True):
    """Shares from 0 to 1."""

    names: float
    up: float
    in_group: float
    withheld: float
    scientific: float
    retrieval: float


def chances(things: Sequence[Thing]) -> dict[str, float]:
    """What guessing would give."""
    groups = len({thing.group for thing in things})
    return {
        "names": 1 / len(things),
        "up": 1 / groups,
        "in_group": 1 / groups,
        "withheld": 1 / sum(bool(thing.withheld) for thing in things),
        "scientific": 1 / sum(bool(thing.scientific) for thing in things),
    }


def scores(model: Path, shards: Path, things: Sequence[Thing]) -> Scores:
    """Asks a model in open_clip's layout about the test split of shards.

    Raises UserError where either can't be read.
    """
    asked = opened(str(model), device="cpu")
    pictures = list(of_shards(str(shards), "test", 1))
    images = asked.images([picture.load for picture in pictures])
    group = {thing.id: thing.group for thing in things}
    classes = [Class(thing.id, (thing.name,)) for thing in things]
    groups = [Class(t.group, (t.group_name,)) for t in {t.group: t for t in things}.values()]
    labels = [picture.labels for picture in pictures]
    above = [[group[id_] for id_ in own] for own in labels]
    names, answers = _accuracy(asked, images, labels, classes)
    in_group = [group[a] in own for a, own in zip(answers, above, strict=True)]
    return Scores(
        names=names,
        up=_accuracy(asked, images, above, groups)[0],
        in_group=sum(in_group) / len(in_group),
        withheld=_by(lambda thing: thing.withheld, asked, images, labels, things),
        scientific=_by(lambda thing: thing.scientific, asked, images, labels, things),
        retrieval=_retrieval(asked, images, pictures),
    )


def _accuracy(
    asked: Opened, images: Tensor, labels: Sequence[Sequence[str]], classes: Sequence[Class]
) -> tuple[float, list[str]]:
    """The share of the images that are taken for what they are, and what each is taken for."""
    texts = embeddings(asked, classes, _PROMPTS)
    ranks = classify(images, texts, right_answers(labels, classes, _PROMPTS).right)
    answers = [classes[n].key for n in ranks.answer().tolist()]
    return float((ranks.rank == 1).double().mean()), answers


def _by(
    name: Callable[[Thing], str],
    asked: Opened,
    images: Tensor,
    labels: Sequence[Sequence[str]],
    things: Sequence[Thing],
) -> float:
    """Accuracy among the things that have such a name, on their pictures, asked by it."""
    classes = [Class(thing.id, (name(thing),)) for thing in things if name(thing)]
    keys = {one.key for one in classes}
    rows = [n for n, own in enumerate(labels) if keys.intersection(own)]
    return _accuracy(asked, images[rows], [labels[n] for n in rows], classes)[0]


def _retrieval(asked: Opened, images: Tensor, pictures: Sequence[Picture]) -> float:
    rows = [n for n, picture in enumerate(pictures) if picture.texts]
    pairs = retrieval.paired([pictures[n].texts for n in rows])
    return retrieval.measured(images[rows], asked.texts(pairs.texts), pairs).mean
