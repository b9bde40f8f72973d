"""A picture of what was taken for what: a row for each right class, a column for each answer.

    draw(classes, answers, "val", path)

Classes are those with the most mistakes, next to their own kind: by root, then by natural type.
What else was answered has the last column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from download.figures import COLOURS, DARK, DPI, save, shown
from etl.show import counted
from training.classes import Class
from training.evaluate import Answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Classes that are drawn.
MOST: Final = 40

_CELL: Final = 20  # pixels
_LETTER: Final = 6  # pixels of a letter of a name, and more than most take


def draw(classes: Sequence[Class], answers: Answers, name: str, path: Path) -> None:
    """Writes the picture.

    Raises UserError as :func:`download.figures.format_of`.
    """
    save(lambda: _figure(classes, answers, name), path)


def matrix(classes: Sequence[Class], answers: Answers) -> tuple[list[Class], npt.NDArray[np.int64]]:
    """Classes, and the images of each by what was answered, (k, k + 1), other answers last.

    An image with several right classes is in the row of the one that was answered, else of its
    first.
    """
    pairs = Counter(
        (answer if answer in own else own[0], answer)
        for own, answer in zip(answers.right, answers.answers, strict=True)
    )
    shown_, wrong = Counter[str](), Counter[str]()
    for (right, answer), images in pairs.items():
        shown_[right] += images
        wrong[right] += images * (right != answer)
        wrong[answer] += images * (right != answer)
    ordered = sorted(shown_, key=lambda key: (-wrong[key], -shown_[key], key))
    kept = {*ordered[:MOST]}
    drawn = sorted(
        (one for one in classes if one.key in kept),
        key=lambda one: (one.roots, one.natural_type, one.name, one.key),
    )
    place = {one.key: n for n, one in enumerate(drawn)}
    found = np.zeros((len(drawn), len(drawn) + 1), np.int64)
    for (right, answer), images in pairs.items():
        if right in place:
            found[place[right], place.get(answer, len(drawn))] += images
    return drawn, found


def _figure(classes: Sequence[Class], answers: Answers, name: str) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    drawn, found = matrix(classes, answers)
    names = [shown(one.name) for one in drawn]
    side = max(len(drawn), 4) * _CELL / DPI  # inches, as all that follows
    across = side + _CELL / DPI
    margin = (40 + _LETTER * max(map(len, [*names, "another"]))) / DPI
    width, height = max(margin + across + 0.2, 4), margin + side + 0.4
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((margin / width, margin / height, across / width, side / height))
    shares = found / np.maximum(found.sum(1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("share", ["#FFFFFF", COLOURS[0]])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(found):
        colour = "white" if shares[row, column] > 0.5 else DARK
        axes.text(column, row, _short(found[row, column]), size=6, color=colour, ha="center",
                  va="center")  # fmt: skip
    axes.set_yticks(range(len(names)), names, size=8)
    axes.set_xticks(range(len(names) + 1), [*names, "another"], size=8, rotation=90)
    axes.tick_params(length=0)
    axes.axvline(len(names) - 0.5, color=DARK, linewidth=0.8)
    axes.set_ylabel("shown")
    axes.set_xlabel("answered")
    right = sum(a in own for a, own in zip(answers.answers, answers.right, strict=True))
    total = len(answers.answers)
    axes.set_title(f"{shown(name)}: {right:,} of {counted(total, 'image')} right")
    return figure


def _short(images: int) -> str:
    return f"{images:,}" if images < 1000 else f"{images / 1000:.0f}k"
