"""A picture of what was packed: how hosts answered, how large images are, and some of each root.

    draw(read(shards, names, hosts, size), path)    # read: download/pack/samples.py

The images are those of the shards, so made by us: nothing that came from a server is decoded here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from download.figures import COLOURS, DARK, DPI, GREY, save, shown
from etl.show import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

_MOST_HOSTS = 12  # those with the most addresses; the rest are summed
_MOST_ROOTS = 60  # rows; those with the most images are drawn
_CELL = 96  # pixels of an image's longer side at DPI
_GAP = 4  # pixels

#: Images of a root that are shown.
SAMPLES: Final = 10
_NAME = 24  # characters of a host

#: Outcome → colour, as they are stacked (download/fetch/outcomes.py).
_OUTCOMES: Final = {
    "ok": COLOURS[0],
    "permanent": GREY,
    "transient": COLOURS[4],
    "refused": COLOURS[3],
}


@dataclass(frozen=True)
class Host:
    """What came of the addresses on a host."""

    name: str
    outcomes: Mapping[str, int]  # ok, permanent, transient, refused

    @property
    def addresses(self) -> int:
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Root:
    """A root's images, and some of them."""

    id: str
    name: str | None
    images: int
    samples: Sequence[bytes]  # JPEGs, as they are in the shards


@dataclass(frozen=True)
class Packed:
    """What is drawn. ``sides`` are the pixels of originals' shorter sides, by powers of two."""

    images: int
    entities: int
    shards: int
    hosts: Sequence[Host]
    sides: Mapping[int, int]  # 256: 256 to 511 pixels → images
    size: int  # pixels of the shorter side that images were made for
    roots: Sequence[Root]  # in the recipe's order


def draw(packed: Packed, path: Path) -> None:
    """Writes the picture, 1,250 pixels wide.

    Raises UserError as :func:`download.figures.format_of`.
    """
    save(lambda: _figure(packed), path)


def _figure(packed: Packed) -> Figure:
    """Above, hosts and sizes; below, a row of images for each root."""
    from matplotlib.figure import Figure

    hosts, roots = _hosts_drawn(packed.hosts), _roots_drawn(packed.roots)
    step = (_CELL + _GAP) / DPI  # inches, as all that follows
    left, right, top, between = 2.6, 0.25, 1.15, 0.95
    charts, sheet = max(0.25 * len(hosts), 2.2), step * len(roots)
    width = left + step * SAMPLES + right
    height = top + charts + between + sheet + 0.25
    figure = Figure(figsize=(width, height))

    def place(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
        return x / width, y / height, wide / width, high / height

    title = (
        f"{counted(packed.images, 'image')} of {counted(packed.entities, 'entity', 'entities')}, "
        f"in {counted(packed.shards, 'shard')}"
    )
    figure.text(0.25 / width, 1 - 0.3 / height, title, size=13, va="center")
    low = height - top - charts
    halves = (width - left - right - 0.9) / 2
    _draw_hosts(figure.add_axes(place(left, low, halves, charts)), hosts)
    _draw_sides(
        figure.add_axes(place(left + halves + 0.9, low, halves, charts)), packed.sides, packed.size
    )
    if roots:
        axes = figure.add_axes(place(left, 0.25, step * SAMPLES, sheet))
        _draw_sheet(axes, roots)
    return figure


def _hosts_drawn(hosts: Iterable[Host]) -> list[Host]:
    """The largest first, and what the others are together."""
    ordered = sorted(hosts, key=lambda host: (-host.addresses, host.name))
    drawn, rest = ordered[:_MOST_HOSTS], ordered[_MOST_HOSTS:]
    if rest:
        summed = {name: sum(host.outcomes.get(name, 0) for host in rest) for name in _OUTCOMES}
        drawn.append(Host(counted(len(rest), "other host"), summed))
    return drawn


def _roots_drawn(roots: Sequence[Root]) -> list[Root]:
    """Those that have images, in their own order; the largest where they are too many."""
    having = [root for root in roots if root.images]
    largest = sorted(having, key=lambda root: -root.images)[:_MOST_ROOTS]
    drawn = {root.id for root in largest}
    return [root for root in having if root.id in drawn]


def _draw_hosts(axes: Axes, hosts: Sequence[Host]) -> None:
    """Of each host's addresses, the share of every outcome."""
    places = range(len(hosts))
    totals = [max(host.addresses, 1) for host in hosts]
    starts = [0.0] * len(hosts)
    for name, colour in _OUTCOMES.items():
        shares = [h.outcomes.get(name, 0) / n for h, n in zip(hosts, totals, strict=True)]
        axes.barh(places, shares, left=starts, color=colour, height=0.72)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    for at, (host, total) in enumerate(zip(hosts, totals, strict=True)):
        share = f"{host.outcomes.get('ok', 0) / total:.0%}"
        axes.text(1.02, at, share, va="center", size=8, color=DARK)
    axes.set_xlim(0, 1.16)
    axes.set_ylim(max(len(hosts), 1) - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.set_yticks(places, [f"{shown(host.name, _NAME)}  {host.addresses:,}" for host in hosts])
    axes.tick_params(axis="y", length=0)
    axes.set_title("what became of addresses, by host", pad=20)
    from matplotlib.patches import Patch

    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in _OUTCOMES.items()],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(_OUTCOMES),
        frameon=False,
        borderaxespad=0,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _draw_sides(axes: Axes, sides: Mapping[int, int], size: int) -> None:
    """How many originals have so many pixels; none in between is left out."""
    steps = _powers(sides)
    heights = [sides.get(step, 0) for step in steps]
    places = range(len(steps))
    # what is smaller than what was asked for stays as it is, and is marked by its colour
    colours = [COLOURS[0] if step * 2 > size else COLOURS[5] for step in steps]
    axes.bar(places, heights, color=colours, width=0.8)
    for at, height in zip(places, heights, strict=True):
        axes.text(at, height, f"{height:,}", size=8, color=DARK, ha="center", va="bottom")
    axes.set_xticks(places, [f"{step:,}" for step in steps])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1.12 * max([1, *heights]))
    axes.set_xlabel("pixels, or more")
    axes.set_title(f"shorter side of the originals, of which {size:,} pixels are kept", pad=20)


def _powers(sides: Mapping[int, int]) -> list[int]:
    """From the smallest power of two to the largest that there are images of."""
    having = [step for step, images in sides.items() if images]
    if not having:
        return []
    steps = [min(having)]
    while steps[-1] < max(having):
        steps.append(steps[-1] * 2)
    return steps


def _draw_sheet(axes: Axes, roots: Sequence[Root]) -> None:
    """A row of images for each root, all of them in one raster."""
    from PIL import Image

    step = _CELL + _GAP
    sheet = Image.new("RGB", (SAMPLES * step, len(roots) * step), "white")
    for row, root in enumerate(roots):
        for column, sample in enumerate(root.samples[:SAMPLES]):
            small = _small(sample)
            x = column * step + (_CELL - small.width) // 2
            y = row * step + (step - small.height) // 2
            sheet.paste(small, (x, y))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    labels = [f"{shown(root.name or root.id)}  {root.images:,}" for root in roots]
    axes.set_yticks([(row + 0.5) * step for row in range(len(roots))], labels)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title("some images of each root")


def _small(sample: bytes) -> Image.Image:
    from PIL import Image

    with Image.open(io.BytesIO(sample), formats=["JPEG"]) as opened:
        opened.thumbnail((_CELL, _CELL))
        return opened.convert("RGB")
