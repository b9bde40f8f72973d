"""How an attempt to fetch an image can end, and what follows from it: one table.

A **reason** is a short word (``ok``, ``http_404``, ``robots``); :func:`rule` says which outcome it
is, and whether the same address may be asked again or another one is asked in its place.

The outcomes:

- ``ok``: the image is there.
- ``permanent``: the server's answer, which asking again won't change.
- ``transient``: it may work later: ``--retry transient``.
- ``refused``: this tool's rules, or the owner's word to robots, forbid it; nobody is asked to
  change an answer, so it stays.
- ``moved``: a redirect to a host that another worker looks after, which goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Outcome = Literal["ok", "permanent", "transient", "refused", "moved"]


@dataclass(frozen=True)
class Rule:
    """What a reason means for the address and for the candidate that has it.

    ``again``: the address may be asked again in this run, a few times. ``falls_back``: where this
    was the last word, the candidate's next address is tried. It isn't where the owner refused this
    image, whatever its address, nor where a host is only busy: a thumbnail that is refused for a
    while must not become an original of 4 MB from the same host.
    """

    outcome: Outcome
    meaning: str
    again: bool = False
    falls_back: bool = False


def _permanent(meaning: str, *, falls_back: bool = True) -> Rule:
    return Rule("permanent", meaning, falls_back=falls_back)


def _refused(meaning: str, *, falls_back: bool) -> Rule:
    return Rule("refused", meaning, falls_back=falls_back)


def _transient(meaning: str, *, again: bool = True, falls_back: bool = False) -> Rule:
    return Rule("transient", meaning, again=again, falls_back=falls_back)


#: All reasons but statuses that have no row of their own: :func:`rule` knows these, too.
RULES: Final[Mapping[str, Rule]] = {
    "ok": Rule("ok", "fetched"),
    "moved": Rule("moved", "a redirect to a host that another worker looks after"),
    # what the address is
    "bad_url": _permanent("not an address of the web"),
    "scheme": _refused("neither http nor https", falls_back=True),
    "port": _refused("a port of another service", falls_back=True),
    "address": _refused("an address that isn't of the public internet", falls_back=True),
    # what the owner says to robots
    "robots": _refused("robots.txt", falls_back=True),
    "robots_usage": _refused("robots.txt allows no training of models", falls_back=False),
    "x_robots": _refused("X-Robots-Tag", falls_back=False),
    "tdm": _refused("TDM-Reservation", falls_back=False),
    "usage": _refused("Content-Usage", falls_back=False),
    # what the server answers
    "http_402": _permanent("HTTP 402, payment required", falls_back=False),
    "http_408": _transient("HTTP 408, the server waited too long"),
    "http_425": _transient("HTTP 425, too early"),
    "http_429": _transient("HTTP 429, too many requests"),
    "http_451": _permanent("HTTP 451, for legal reasons", falls_back=False),
    "bad_redirect": _permanent("a redirect to what isn't an address"),
    "too_many_redirects": _permanent("too many redirects"),
    "bad_answer": _permanent("an answer that isn't HTTP, or with too many headers"),
    "encoded": _permanent("a body in an encoding that wasn't asked for"),
    "empty": _permanent("an empty body"),
    "not_an_image": _permanent("not an image of a known format"),
    "svg": _permanent("a drawing in SVG, which isn't rendered"),
    "too_large": _permanent("more bytes than an image may have"),
    "certificate": _permanent("a certificate that isn't valid"),
    # what the network does
    "no_such_host": _transient("a host without an address", again=False, falls_back=True),
    "dns": _transient("the host's address can't be looked up", falls_back=True),
    "connect": _transient("no connection", falls_back=True),
    "tls": _transient("no encrypted connection", falls_back=True),
    "reset": _transient("the connection broke before an answer"),
    "short": _transient("a body that broke off", falls_back=True),
    "too_slow": _transient("too slow"),
    "deadline": _transient("not there in time"),
    # who isn't asked
    "robots_unread": _transient("robots.txt can't be read now", again=False),
    "host_down": _transient("not asked: its host is down", again=False, falls_back=True),
    "host_waits": _transient("not asked: its host wants longer pauses", again=False),
}


def of_status(status: int) -> str:
    """The reason of an answer with an HTTP status that isn't a success: ``http_404``."""
    return f"http_{status}"


def rule(reason: str) -> Rule:
    """The rule of a reason.

    5xx are transient (RFC 9110, 15.6: the server is aware that it failed); every other status that
    isn't in the table is final, such as 999, with which some sites turn away robots.

    Raises KeyError for a word that is no reason.
    """
    found = RULES.get(reason)
    if found is not None:
        return found
    word, _, status = reason.partition("http_")
    if word or not (status.isdecimal() and len(status) == 3):
        raise KeyError(reason)
    if status.startswith("5"):
        return _transient(f"HTTP {status}")
    return _permanent(f"HTTP {status}")
