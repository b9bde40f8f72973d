"""Markdown made of data that nobody vouches for: names of licences, roots and files are only text.

Tables, lists and YAML as GitHub and the Hugging Face hub read them (CommonMark with tables).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from etl.show import printable

# Everything that CommonMark lets be escaped (its section 2.4): ASCII punctuation, save what begins
# an entity or a tag and is written as an entity itself, and what is harmless and common in names.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$^=\"'/:@-])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_HARMLESS = re.compile(r"[\w .,;%–—-]*")
_ADDRESS = re.compile(r"www\.", re.IGNORECASE)  # GitHub makes a link of it wherever it stands


def text(value: object) -> str:
    """A value on one line that says just what it says: no markup, link, tag or cell's end.

    >>> text("CC BY-SA 4.0"), text("a|b"), text("<b>[x](http://y)")
    ('CC BY-SA 4.0', 'a\\\\|b', '&lt;b&gt;\\\\[x\\\\]\\\\(http\\\\:\\\\/\\\\/y\\\\)')
    """
    line = " ".join(printable(" ".join(str(value).split())).split())
    harmless = _HARMLESS.fullmatch(line) and not _ADDRESS.search(line)
    if harmless and "_" not in line and not line.startswith("-"):
        return line
    escaped = _ADDRESS.sub(lambda www: f"{www[0][:-1]}\\.", _SPECIAL.sub(r"\\\1", line))
    return "".join(_ENTITIES.get(c, c) for c in escaped)


def code(value: object) -> str:
    """A value in a code span, on one line; nothing where it is empty, as no span is.

    >>> code("ViT-B-32"), code("a`b")
    ('`ViT-B-32`', '`` a`b ``')
    """
    line = " ".join(printable(" ".join(str(value).split())).split())
    if not line:
        return ""
    run = max((len(ticks) for ticks in re.findall("`+", line)), default=0)
    # a code span ends a table's cell at a bar all the same
    line = line.replace("|", "\\|")
    ticks = "`" * (run + 1)
    return f"{ticks} {line} {ticks}" if run else f"{ticks}{line}{ticks}"


def block(content: str, language: str = "") -> Iterator[str]:
    """A block of code that its content can't end."""
    lines = [_visible(line) for line in content.strip("\n").splitlines()]
    longest = max((len(ticks) for ticks in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (f"{fence}{language}", *lines, fence, "")


def _visible(line: str) -> str:
    return printable(line.expandtabs(4))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of cells that are Markdown already; headers that begin with > are of figures."""
    yield f"| {' | '.join(header.removeprefix('>') for header in headers)} |"
    yield f"|{'|'.join('---:' if header.startswith('>') else '---' for header in headers)}|"
    yield from (f"| {' | '.join(cells)} |" for cells in rows)
    yield ""


def yaml(value: str) -> str:
    """A string of YAML, in double quotes: JSON's, which YAML 1.2 reads alike.

    >>> yaml('a: "b"')
    '"a: \\\\"b\\\\""'
    """
    return json.dumps(printable(" ".join(value.split())), ensure_ascii=False)
