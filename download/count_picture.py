"""A picture of how many images there are: over entities, and for each root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from download.count import ALL_ROOTS, ALL_SOURCES, Count, Counts, bin_ends
from download.count_report import bin_name
from download.figures import COLOURS, DARK, GREY, save, shown
from etl.show import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROOTS = 60  # rows that can still be read; the largest are drawn
_MOST_SOURCES = 6  # columns and colours
_MOST_BINS = 13  # so that their names don't meet
_LEGEND = 4  # columns of a legend


def draw(counts: Counts, path: Path) -> None:
    """Writes the picture, 1,200 pixels wide where it is a PNG of up to three sources.

    Raises UserError as :func:`download.figures.format_of`.
    """
    save(lambda: _figure(counts), path)


#: Left, bottom, width and height, as parts of the picture's.
_Box = tuple[float, float, float, float]


def _figure(counts: Counts) -> Figure:
    """Above, how images spread over entities; below, a row a root and a column a source."""
    from matplotlib.figure import Figure

    sources = _largest(counts)
    roots = _roots_drawn(counts)
    width = 12.0 + 2.0 * max(len(sources) - 3, 0)  # inches, as all that follows
    top = 0.6 + 0.2 * math.ceil((len(_lines(counts, sources)) + 1) / _LEGEND)
    spread, between, rows = 3.2, 0.95, 0.25 * len(roots) + 0.1
    bottom = 0.6 + 0.2 * math.ceil(len(counts.at_least) / _LEGEND)
    height = top + spread + between + rows + bottom

    def place(
        left: float, low: float, wide: float, high: float
    ) -> tuple[float, float, float, float]:
        return left / width, low / height, wide / width, high / height

    figure = Figure(figsize=(width, height))
    every = counts.of(ALL_SOURCES)[-1]
    figure.text(
        0.25 / width,
        1 - 0.3 / height,
        f"{counted(every.images, 'image')}, {counted(every.files, 'file')}, for "
        f"{_having(every):,} of {every.entities:,} entities",
        size=13,
        va="center",
    )
    low = bottom + rows + between
    _draw_spread(figure.add_axes(place(1.05, low, width - 1.3, spread)), counts, sources)
    left, gap = 2.9, 0.15
    column = (width - left - 0.25 - gap * len(sources)) / (len(sources) + 1)
    for number, source in enumerate((ALL_SOURCES, *sources)):
        at = place(left + number * (column + gap), bottom, column, rows)
        found = {row.root: row for row in counts.of(source)}
        title = f"by root: {shown(_together(counts))}" if number == 0 else shown(source)
        axes = figure.add_axes(at, title=title)
        _draw_roots(axes, [found[root] for root in roots], counts.at_least, named=number == 0)
    _draw_legend(figure, counts.at_least, (left / width, 0.1 / height))
    return figure


def _together(counts: Counts) -> str:
    """What all that was found is called."""
    return counts.sources[0] if len(counts.sources) == 1 else ALL_SOURCES


def _having(row: Count) -> int:
    """Entities with an image."""
    return row.entities - sum(row.entities_by_images[:1])


def _largest(counts: Counts) -> list[str]:
    """The sources to draw besides all of them, in their own order: none where there is just one."""
    if len(counts.sources) < 2:
        return []
    by_images = sorted(counts.sources, key=lambda source: -counts.of(source)[-1].images)
    return [source for source in counts.sources if source in by_images[:_MOST_SOURCES]]


def _roots_drawn(counts: Counts) -> list[str]:
    """All roots, or those with the most entities, in the recipe's order; and the row for all."""
    rows = counts.of(ALL_SOURCES)
    largest = sorted(rows[:-1], key=lambda row: -row.entities)[:_MOST_ROOTS]
    drawn = {row.root for row in largest}
    return [row.root for row in rows if row.root in drawn or row.root == ALL_ROOTS]


def _draw_spread(axes: Axes, counts: Counts, sources: Sequence[str]) -> None:
    """How many entities have so many images: bars for all sources, a line for each."""
    every = counts.of(ALL_SOURCES)[-1]
    lines = _lines(counts, sources)
    rows = [every, *(row for row, _ in lines)]
    bins = min(max(len(row.entities_by_images) for row in rows), _MOST_BINS) or 1
    heights = _heights(every, bins)
    axes.set_ylim(0.7, 2 * max(1, *(max(_heights(row, bins)) for row in rows)))
    axes.set_yscale("log")
    axes.bar(range(bins), heights, color=GREY, width=0.8, label=shown(_together(counts)))
    for place, height in enumerate(heights):
        if height:  # at the foot of the bar, where no line runs through it
            foot = axes.get_xaxis_transform()
            axes.text(place, 0.015, f"{height:,}", size=8, color=DARK, ha="center", transform=foot)
    for row, colour in lines:
        label = shown(row.source) + (", before the cap" if row.before_cap else "")
        axes.plot(
            range(bins),
            [n or math.nan for n in _heights(row, bins)],
            color=colour,
            label=label,
            linestyle="--" if row.before_cap else "-",
            marker="x" if row.before_cap else "o",
            markersize=4,
        )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    axes.minorticks_off()
    axes.set_xlim(-0.6, bins - 0.4)
    axes.set_xticks(range(bins), [_bin_label(n, bins) for n in range(bins)])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("images of an entity")
    axes.set_ylabel("entities")
    if lines:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=_LEGEND, frameon=False, borderaxespad=0.2
        )


def _lines(counts: Counts, sources: Sequence[str]) -> list[tuple[Count, str]]:
    """What is drawn over the bars, in which colour; one source alone is the bars themselves."""
    return [
        (row, colour)
        for source, colour in zip(sources or counts.sources[:1], COLOURS, strict=False)
        for before in (False, True)
        for row in counts.of(source, before_cap=before)[-1:]
        if sources or before
    ]


def _heights(row: Count, bins: int) -> list[int]:
    """Entities in each bin; the last has all with more, too."""
    found = [*row.entities_by_images, *[0] * bins]
    return [*found[: bins - 1], sum(found[bins - 1 :])]


def _bin_label(number: int, bins: int) -> str:
    if number == _MOST_BINS - 1 and number == bins - 1:
        return f"> {bin_ends(number - 1)[1]:,}"
    return bin_name(number)


def _draw_roots(axes: Axes, rows: Sequence[Count], at_least: Sequence[int], *, named: bool) -> None:
    """Of each root's entities, the share with at least so many images, a step upon the other."""
    places = range(len(rows))
    for number, colour in enumerate(_step_colours(len(at_least))):
        shares = [row.at_least[number] / row.entities if row.entities else 0.0 for row in rows]
        axes.barh(places, shares, color=colour, height=0.72)
        if number == 0:
            for place, share in enumerate(shares):
                axes.text(share + 0.015, place, f"{share:.0%}", va="center", size=8, color=DARK)
    axes.set_xlim(0, 1.16)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    labels = [f"{shown(_name_of(row))}  {row.entities:,}" for row in rows] if named else []
    axes.set_yticks(places if named else [], labels)
    axes.tick_params(axis="y", length=0)
    if len(rows) > 1:
        axes.axhline(len(rows) - 1.5, color=DARK, linewidth=0.5)


def _name_of(row: Count) -> str:
    return "all roots" if row.root == ALL_ROOTS else row.name or row.root


def _step_colours(steps: int) -> list[str]:
    """From light to dark blue."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    shades = colormaps["Blues"]
    return [to_hex(shades(0.35 + 0.6 * n / max(steps - 1, 1))) for n in range(steps)]


def _draw_legend(figure: Figure, at_least: Sequence[int], corner: tuple[float, float]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(color=colour, label=f"at least {counted(step, 'image')}")
        for step, colour in zip(at_least, _step_colours(len(at_least)), strict=True)
    ]
    figure.legend(
        handles=patches,
        title="share of a root's entities with",
        loc="lower left",
        bbox_to_anchor=corner,
        ncols=_LEGEND,
        frameon=False,
        alignment="left",
        borderaxespad=0,
    )
