"""What a site's owner says to robots: in robots.txt, and in the headers of an answer.

    robots = parse(text)
    robots.refusal("https://example.org/private/a.jpg")    # "robots"
    refusal(headers)                                       # "x_robots"

robots.txt is read as RFC 9309 says: the group of our agent's name, else ``*``; the longest rule
counts. Of ways to say that images may be shown but no model may be trained with them, these are
read: ``noai`` and ``noimageai`` (DeviantArt, 2022), ``noindex`` and its kin as img2dataset reads
them, TDM-Reservation (W3C TDMRep, 2024), Content-Usage (IETF draft aipref-attach) and
Content-Signal (Cloudflare, 2025). Not read: TDMRep's file below ``/.well-known`` and marks inside
images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from protego import Protego

#: Our name in robots.txt and in headers.
AGENT: Final = "sparqless"

#: Bytes of a robots.txt that are read; RFC 9309, 2.5 asks for 500 KiB at least.
LONGEST: Final = 500 << 10
#: Redirects that are followed to it (RFC 9309, 2.3.1.2).
REDIRECTS: Final = 5
#: Seconds that a robots.txt is used (RFC 9309, 2.4).
KEPT: Final = 24 * 3600.0
#: Seconds that are kept between two requests at most, whatever Crawl-delay says: it isn't part of
#: the standard, and pages of advice give values that were meant for crawlers of the nineties.
LONGEST_DELAY: Final = 30.0

#: Words of X-Robots-Tag that forbid to collect an image: img2dataset's four, and "none", which is
#: noindex and nofollow (Google, "Robots meta tag specifications").
_FORBIDDING: Final = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
#: Words that have a value after a colon, and so look like an agent's name.
_VALUED: Final = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_SCOPE = re.compile(r"\s*([A-Za-z0-9_.*-]+)\s*:")
#: A line that names an agent, in the ways that Protego takes for one.
_AGENT_LINE = re.compile(r"(?i)\s*user[- ]?agent(?:\s*:|\s)\s*([^#]*)")
_TOKEN = re.compile(r"\*|[a-z0-9_-]+")
_NO = ("n", "no")
_TRAINING: Final = frozenset(("train-ai", "ai-train", "train-genai", "genai", "ai"))
_SIGNALS: Final = ("content-signal", "content-usage")


class Headers(Protocol):
    """An answer's headers: names in any case, a name may come several times."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """All values of a header."""


# --- robots.txt ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Robots:
    """What one robots.txt says to us."""

    allows: Callable[[str], bool]  # an address
    usages: tuple[tuple[str, bool], ...] = ()  # beginning of a path, may models be trained with it
    delay: float = 0.0  # seconds between two requests
    size: int = 0  # bytes that were read

    def refusal(self, url: str) -> str:
        """The reason not to ask for an address: ``robots``, ``robots_usage``, or ``""``."""
        if not self.allows(url):
            return "robots"
        return "robots_usage" if self.usages and not self._trains(url) else ""

    def _trains(self, url: str) -> bool:
        """By the longest beginning that fits; of two alike, by the one that forbids."""
        path = "/" + url.partition("://")[2].partition("/")[2]
        fitting = [(len(start), not may) for start, may in self.usages if path.startswith(start)]
        return not max(fitting, default=(0, False))[1]


#: Where there is no robots.txt.
ALL: Final = Robots(lambda url: True)


def parse(content: bytes) -> Robots:
    """What a robots.txt says to us; of one that is too long, its first lines do."""
    if len(content) > LONGEST:
        content = content[:LONGEST].rpartition(b"\n")[0]
    text = content.decode("utf-8", "replace").lstrip("\ufeff").replace("\0", "")
    if ":" not in text:
        return ALL
    text = _for_us(text)
    rules = Protego.parse(text)
    delay = min(rules.crawl_delay(AGENT) or 0.0, LONGEST_DELAY)
    usages = tuple(_usages(text))
    return Robots(lambda url: rules.can_fetch(url, AGENT), usages, delay, len(content))


def _for_us(text: str) -> str:
    """The same with three names of agents at most: ours, ``*``, and one for all others.

    A parser keeps every rule for every agent of its group, so half a megabyte of names and rules
    would be 300 million. An agent is named by the letters that its name begins with (RFC 9309,
    2.2.1): ``sparqless/1.0`` is ours, ``spar`` isn't.
    """
    lines = text.splitlines()
    for at, line in enumerate(lines):
        agent = _AGENT_LINE.match(line)
        if agent:
            token = _TOKEN.match(agent[1].lower())
            name = token[0] if token else ""
            lines[at] = f"User-agent: {name if name in ('*', AGENT) else 'other'}"
    return "\n".join(lines)


def _usages(text: str) -> list[tuple[str, bool]]:
    """What the Content-Usage and Content-Signal lines of our group, else of ``*``, say of training.

    A line before any User-agent is for everybody.
    """
    ours: list[tuple[str, bool]] = []
    theirs: list[tuple[str, bool]] = []
    agents, all_agents, names = {"*"}, {"*"}, False
    for line in text.splitlines():
        field, colon, value = line.partition("#")[0].partition(":")
        field = field.strip().lower()
        if colon and field == "user-agent":
            agents = agents if names else set()
            agents.add(value.strip().lower())
            all_agents |= agents
        elif field in _SIGNALS:
            start, said = _path_and_said(value.strip())
            for may in _said(said):
                for group, name in ((ours, AGENT), (theirs, "*")):
                    if name in agents:
                        group.append((start, may))
        if colon:
            names = field == "user-agent"
    return ours if AGENT in all_agents else theirs


def _path_and_said(value: str) -> tuple[str, str]:
    """Content-Usage may begin with the part of the site that it is about."""
    if not value.startswith("/"):
        return "", value
    start, _, said = value.partition(" ")
    return start, said


# --- headers ------------------------------------------------------------------------------------


def refusal(headers: Headers) -> str:
    """The reason not to keep an answer: ``x_robots``, ``tdm``, ``usage``, or ``""``."""
    if any(map(_is_forbidden, headers.getall("X-Robots-Tag", []))):
        return "x_robots"
    if any(value.strip() == "1" for value in headers.getall("TDM-Reservation", [])):
        return "tdm"
    if any(map(_forbids, headers.getall("Content-Usage", []))):
        return "usage"
    return ""


def _is_forbidden(value: str) -> bool:
    """Whether one X-Robots-Tag forbids us the answer.

    ``googlebot: noindex`` isn't ours; ``sparqless: noai`` is; what follows a name belongs to it up
    to the next one. A date after unavailable_after has commas and colons and names nobody.
    """
    ours = True
    for part in value.split(","):
        scope = _SCOPE.match(part)
        if scope and scope[1].lower() not in _VALUED and not scope[1].isdecimal():
            ours = scope[1].lower() in (AGENT, "*")
            part = part[scope.end() :]
        if ours and _FORBIDDING.intersection(part.lower().split()):
            return True
    return False


def _forbids(value: str) -> bool:
    """Whether one Content-Usage header forbids training (``train-ai=n``)."""
    return False in _said(value)


def _said(value: str) -> Iterator[bool]:
    """What a list such as ``search=yes, train-ai=n`` says of training."""
    for part in re.split(r"[,;\s]+", value.lower()):
        name, _, said = part.partition("=")
        if name in _TRAINING:
            yield said.strip('"') not in _NO
