"""Figures as markdown: for a terminal, and for the page of the documentation that shows them."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

#: Where the figures of a run for the record go, between ``<!-- bench:NAME -->`` and
#: ``<!-- /bench -->``; never by hand.
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table that can be read as it is: names to the left, figures to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(3, *(len(row[n]) for row in cells)) for n in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join(_aligned(row, widths))} |" for row in [cells[0], rule, *cells[1:]]
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *figures = row
    aligned = [text.rjust(width) for text, width in zip(figures, widths[1:], strict=True)]
    return [name.ljust(widths[0]), *aligned]


def megabytes(size: float) -> str:
    """``1.5e9`` → ``"1,500"``: 10^6 bytes."""
    return f"{size / 1e6:,.0f}"


def machine() -> str:
    """Processor, cores, Python, day and load, as one phrase: rates are worth nothing without."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{time.strftime('%-d %B %Y')}, load at the start {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Put a benchmark's ``text`` into its place on the page.

    Raises ValueError where the page has no such place.
    """
    place = re.compile(rf"(<!-- bench:{re.escape(name)} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    written = page.read_text(encoding="utf-8")
    if not place.search(written):
        raise ValueError(f"{page} has no place <!-- bench:{name} --> … <!-- /bench -->")
    replaced = place.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", written)
    partial = page.with_name(page.name + ".partial")
    partial.write_text(replaced, encoding="utf-8")
    partial.replace(page)
