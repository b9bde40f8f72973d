"""What came out: a table, a picture, and all figures as JSON.

table(scored, plan)          # lines of text
draw(scored, plan, path)     # beside EntityNet's own ablation
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from download.figures import COLOURS, GREY, save
from training.experiment.plan import Level, Plan
from training.experiment.runs import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Measures (training/experiment/scores.py) and what they are called in tables.
MEASURES: Final[Mapping[str, str]] = {
    "names": "names",
    "up": "one level up",
    "in_group": "right group",
    "withheld": "unseen synonyms",
    "scientific": "scientific",
    "retrieval": "retrieval",
}

#: EntityNet's ablation (ViT-B-32, 32.7M images; its project page): mix → test → per cent.
REFERENCE: Final[Mapping[str, Mapping[str, float]]] = {
    "alt": {"ImageNet": 59.1, "Retrieval": 38.3, "Shift": 38.1, "iNat21": 22.9, "CUB": 78.8,
            "RareSpecies": 39.7},
    "mix": {"ImageNet": 61.5, "Retrieval": 37.2, "Shift": 41.0, "iNat21": 26.1, "CUB": 79.5,
            "RareSpecies": 42.7},
    "graph": {"ImageNet": 55.7, "Retrieval": 13.5, "Shift": 35.5, "iNat21": 24.2, "CUB": 78.1,
              "RareSpecies": 29.7},
}  # fmt: skip


def of(scored: Sequence[Scored], mix: str, level: Level, measure: str) -> list[float]:
    """A measure of the runs of a mix at a level, by seed, in per cent."""
    return [
        100 * one.scores[measure]
        for one in sorted(scored, key=lambda one: one.run.seed)
        if one.run.mix == mix and one.run.level in (level, None)
    ]


def ahead(values: Mapping[str, Sequence[float]]) -> str:
    """The mix of which every seed is above every seed of every other; "" where none is.

    With one seed none is: it shows nothing.
    """
    for mix, own in values.items():
        others = [value for other, theirs in values.items() if other != mix for value in theirs]
        if others and len(own) > 1 and min(own) > max(others):
            return mix
    return ""


def rows(scored: Sequence[Scored], plan: Plan) -> Iterator[dict[str, Any]]:
    """A row for each level and measure: of each mix its seeds, their mean and spread."""
    for level in plan.sweep.levels:
        for measure in MEASURES:
            values = {mix: of(scored, mix, level, measure) for mix in plan.train.mixes}
            yield {
                "wrong": level.wrong,
                "missing": level.missing,
                "measure": measure,
                "values": values,
                "mean": {mix: statistics.fmean(own) for mix, own in values.items()},
                "spread": {mix: spread(own) for mix, own in values.items()},
                "ahead": ahead(values),
            }


def table(scored: Sequence[Scored], plan: Plan) -> Iterator[str]:
    """Markdown: the base level, then the sweep, then how to read them."""
    found = list(rows(scored, plan))
    base = plan.sweep.levels[plan.sweep.base]
    for title, levels in (
        (f"{round(100 * base.wrong)} % wrong, {round(100 * base.missing)} % missing", [base]),
        ("other levels", [level for level in plan.sweep.levels if level != base]),
    ):
        if not levels:
            continue
        yield f"| {title} | {' | '.join(MEASURES.values())} |"
        yield f"|---{'|---' * len(MEASURES)}|"
        for level in levels:
            own = [row for row in found if (row["wrong"], row["missing"]) == _pair(level)]
            for mix in plan.train.mixes:
                cells = [
                    cell(row["mean"][mix], row["spread"][mix], is_ahead=row["ahead"] == mix)
                    for row in own
                ]
                yield f"| {_label(mix, level, levels)} | {' | '.join(cells)} |"
        yield ""
    yield _caption(plan)


def _caption(plan: Plan) -> str:
    train = plan.train
    seeds = len(train.seeds)
    graph = [mix for mix, chance in train.mixes.items() if not chance]
    same = f" The rows of {' and '.join(graph)} are the same runs at each level." * (
        bool(graph) and len(plan.sweep.levels) > 1
    )
    return (
        f"Per cent of the pictures that were held out; {train.steps:,} steps of {train.batch}; "
        f"mean ± standard deviation of {seeds} {'seed' if seeds == 1 else 'seeds'}. **Bold**: all "
        f"seeds of the mix are above all of the others, as with equals it would be in "
        f"{_by_luck(seeds, len(train.mixes)):.1f} % of rows' measures by luck.{same}"
    )


def _by_luck(seeds: int, mixes: int) -> float:
    """Per cent of the orders of all runs in which one mix has the first places."""
    return 100 * mixes / math.comb(seeds * mixes, seeds)


def draw(scored: Sequence[Scored], plan: Plan, chance: Mapping[str, float], path: Path) -> None:
    """Left EntityNet's figures, right ours at the base level; below, how they change with noise."""
    from matplotlib.figure import Figure

    def made() -> Figure:
        figure = Figure((11.0, 6.5), layout="constrained")
        parts: Any = figure.subfigures(2, 1)
        upper, lower = parts
        left, right = upper.subplots(1, 2)
        tests = list(REFERENCE["mix"])
        bars(left, tests, {mix: [[own[test]] for test in tests] for mix, own in REFERENCE.items()})
        left.set_title("EntityNet, ViT-B-32, 32.7M images")
        left.set_ylabel("%")
        base = plan.sweep.levels[plan.sweep.base]
        ours = {
            mix: [of(scored, mix, base, measure) for measure in MEASURES]
            for mix in plan.train.mixes
        }
        bars(right, list(MEASURES.values()), ours)
        for place, measure in enumerate(MEASURES):
            if measure in chance:
                right.plot([place - 0.45, place + 0.45], [100 * chance[measure]] * 2, color=GREY)
        right.set_title("here, invented pictures (gray: by chance)")
        left.legend(frameon=False)
        right.margins(y=0.2)
        right.legend(frameon=False, loc="upper left", ncols=len(ours))
        below = lower.subplots(1, len(MEASURES), sharex=True).flat
        for axes, measure in zip(below, MEASURES, strict=True):
            _lines(axes, scored, plan, measure)

        return figure

    save(made, path)


def bars(axes: Axes, names: Sequence[str], values: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Means as bars, seeds as points."""
    width = 0.8 / len(values)
    for number, (mix, own) in enumerate(values.items()):
        colour = _colour(mix, number)
        places = [n + width * (number - (len(values) - 1) / 2) for n in range(len(names))]
        means = [statistics.fmean(some) for some in own]
        axes.bar(places, means, width * 0.9, color=colour, label=mix)
        for place, some in zip(places, own, strict=True):
            if len(some) > 1:
                axes.plot([place] * len(some), some, "k.", markersize=3)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")


def _colour(mix: str, number: int) -> str:
    """Of EntityNet's mixes, that which they have beside; of others the next."""
    known = list(REFERENCE)
    return COLOURS[known.index(mix) if mix in known else len(known) + number]


def _lines(axes: Axes, scored: Sequence[Scored], plan: Plan, measure: str) -> None:
    """Means over what share of the alt texts is wrong or missing; seeds as points."""
    at = [100 * (level.wrong + level.missing) for level in plan.sweep.levels]
    for number, mix in enumerate(plan.train.mixes):
        colour = _colour(mix, number)
        own = [of(scored, mix, level, measure) for level in plan.sweep.levels]
        axes.plot(at, [statistics.fmean(some) for some in own], color=colour)
        for place, some in zip(at, own, strict=True):
            axes.plot([place] * len(some), some, ".", color=colour, markersize=3)
    axes.set_title(MEASURES[measure])
    axes.set_xlabel("% wrong or missing")
    axes.set_ylim(bottom=0)


def _pair(level: Level) -> tuple[float, float]:
    return level.wrong, level.missing


def _label(mix: str, level: Level, levels: Sequence[Level]) -> str:
    if len(levels) == 1:
        return mix
    return f"{round(100 * level.wrong)} + {round(100 * level.missing)} %: {mix}"


def cell(mean: float, deviation: float, *, is_ahead: bool) -> str:
    """A cell of a table."""
    text = f"{mean:.1f} ± {deviation:.1f}"
    return f"**{text}**" if is_ahead else text


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
