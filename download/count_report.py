"""What `sparqless images count` prints: tables and a histogram, lines for other tools, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from shutil import get_terminal_size
from typing import Any, Final, TextIO

from download.count import ALL_ROOTS, ALL_SOURCES, Count, Counts, Shares, bin_ends
from etl.show import cells, counted, fitted, printable

_WIDEST: Final = 100  # columns; a figure far from the name that it belongs to is hard to follow
_NAME = (16, 34)  # columns for a root's name
_BAR = 40  # columns of the longest bar
_SHOWN = 8  # licences on a terminal; JSON has more

#: Block characters, each an eighth wider than the one before.
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def terminal(stream: TextIO) -> tuple[int, bool]:
    """Columns to print in, 0 in a pipe, and whether the encoding has ≥ and block characters."""
    try:
        f"≥–{_EIGHTHS}".encode(stream.encoding or "ascii")
        blocks = True
    except UnicodeEncodeError:
        blocks = False
    return get_terminal_size().columns if stream.isatty() else 0, blocks


def lines(counts: Counts, width: int, *, blocks: bool = True) -> Iterator[str]:
    """For a terminal ``width`` columns wide; without ``blocks`` in ASCII.

    The sources side by side, a table by root for all of them and for each, how images spread,
    licences and types. What a source has before its cap is left out where the cap takes nothing.
    """
    found = _lines(counts, min(width, _WIDEST), blocks)
    yield from found if blocks else (line.encode("ascii", "replace").decode() for line in found)


def _lines(counts: Counts, width: int, blocks: bool) -> Iterator[str]:
    shown = counts.sources if len(counts.sources) == 1 else (*counts.sources, ALL_SOURCES)
    capped = [source for source in shown if _is_capped(counts, source)]
    totals = [
        row
        for row in counts.rows
        if row.root == ALL_ROOTS
        and row.source in shown
        and (not row.before_cap or row.source in capped)
    ]
    totals.sort(key=lambda row: (shown.index(row.source), not row.before_cap))
    titles = [_title(row.source, row.before_cap) for row in totals]
    yield from _table("all roots", titles, totals, counts, width, blocks)
    yield ""
    for source in reversed(shown):
        for before in (False, True) if source in capped else (False,):
            rows = counts.of(source, before_cap=before)
            title = _title(source, before)
            yield from _table(title, [*map(_root, rows)], rows, counts, width, blocks)
            yield ""
    every = counts.of(shown[-1])[-1]
    yield from _histogram(every, width, blocks)
    yield ""
    yield from _by_share("licences", every, every.licences, width)
    yield ""
    if every.types is not None:
        yield from _by_share("types", every, every.types, width)


def _is_capped(counts: Counts, source: str) -> bool:
    """Whether the cap took images away."""
    before, after = (counts.of(source, before_cap=of) for of in (True, False))
    return bool(before) and before[-1].images != after[-1].images


def as_lines(counts: Counts) -> Iterator[str]:
    """For other tools: a line for each source and root, with tabs in it.

    Source, "before" or "after" the cap, root, name, entities, those with at least so many images
    for each of the steps, images, files, median.
    """
    for row in counts.rows:
        median = _median(row).replace(",", "")
        figures = (row.entities, *row.at_least, row.images, row.files, median)
        cap = "before" if row.before_cap else "after"
        texts = (row.source, cap, printable(row.root), printable(row.name or ""))
        yield "\t".join((*texts, *map(str, figures)))


def as_plain(counts: Counts) -> dict[str, Any]:
    """All of it as plain data, for JSON."""
    bins = max(len(row.entities_by_images) for row in counts.rows)
    return {
        "at_least": counts.at_least,
        "bins": [bin_ends(number) for number in range(bins)],
        "counts": [asdict(row) for row in counts.rows],
    }


def bin_name(number: int, dash: str = "–") -> str:
    """``0``, ``1``, ``2``, ``3–4``: a bin as people write it."""
    low, high = bin_ends(number)
    return f"{low:,}" if low == high else f"{low:,}{dash}{high:,}"


def _root(row: Count) -> str:
    if row.root == ALL_ROOTS:
        return "all roots"
    return printable(f"{row.name} {row.root}" if row.name else row.root)


def _median(row: Count) -> str:
    return "" if row.median is None else f"{row.median:,.1f}".removesuffix(".0")


def _title(source: str, before_cap: bool) -> str:
    return f"before the cap: {source}" if before_cap else source


def _table(
    title: str,
    names: Sequence[str],
    rows: Sequence[Count],
    counts: Counts,
    width: int,
    blocks: bool,
) -> Iterator[str]:
    sign = "≥ " if blocks else ">= "
    heads = ["entities", *(f"{sign}{n:,}" for n in counts.at_least), "images", "files", "median"]
    body = [
        [
            *(f"{n:,}" for n in (row.entities, *row.at_least, row.images, row.files)),
            _median(row),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    room = width - sum(widths) - 2 * len(widths)
    name = min(max(map(cells, (title, *names))), max(room, _NAME[0]))
    for label, figures in ((title, heads), *zip(names, body, strict=True)):
        yield (
            fitted(label, name)
            + "".join(
                f"  {figure:>{n}}" for figure, n in zip(figures, widths, strict=True)
            ).rstrip()
        )


def _histogram(row: Count, width: int, blocks: bool) -> Iterator[str]:
    """A bar for each bin, and how many entities that is."""
    yield f"images of an entity, {row.source}: entities"
    named = [bin_name(n, "–" if blocks else "-") for n in range(len(row.entities_by_images))]
    figures = [f"{n:,}" for n in row.entities_by_images]
    name, figure = (max(map(len, column), default=0) for column in (named, figures))
    most = max(row.entities_by_images, default=0)
    longest = max(min(_BAR, width - name - figure - 4), 8)
    for label, text, entities in zip(named, figures, row.entities_by_images, strict=True):
        yield f"{label:>{name}}  {text:>{figure}}  {_bar(entities, most, longest, blocks)}".rstrip()


def _bar(value: int, most: int, longest: int, blocks: bool) -> str:
    """As long as the value is large; whatever isn't 0 can be seen."""
    if not value:
        return ""
    if not blocks:
        return "#" * max(value * longest // most, 1)
    whole, eighths = divmod(max(value * longest * 8 // most, 1), 8)
    return _EIGHTHS[-1] * whole + (_EIGHTHS[eighths] if eighths else "")


def _by_share(what: str, row: Count, shares: Shares, width: int) -> Iterator[str]:
    """A line for each of the largest licences or types, and one for the rest."""
    listed = [
        (printable(name) if name is not None else "unknown", files)
        for name, files in shares.listed[:_SHOWN]
    ]
    rest = shares.listed[_SHOWN:]
    if others := len(rest) + shares.more:
        listed.append((counted(others, "other"), sum(n for _, n in rest) + shares.files_of_more))
    title = f"{what}, {row.source}"
    figures = [f"{files:,}" for _, files in listed]
    longest = max(map(len, ("files", *figures)))
    name = min(max(map(cells, (title, *(name for name, _ in listed)))), width - longest - 8)
    yield f"{fitted(title, name)}  {'files':>{longest}}"
    for (label, files), figure in zip(listed, figures, strict=True):
        yield f"{fitted(label, name)}  {figure:>{longest}}  {files / row.files:4.0%}"
