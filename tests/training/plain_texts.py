"""The texts of a query as docs/texts.md has the rules, in exact fractions: the slow twin.

Written from the rules alone: groups are listed with their chances and texts, those without a text
go, each chance is shared out, equal texts are added up, and all is divided by the sum.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Thing:
    """What has names and descriptions."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...] = ()


Shares = Sequence[tuple[Fraction, Thing]]  # of what stands above; they sum to 1
Group = tuple[Fraction, list[str]]


def noun_texts(
    query: str, thing: Thing, above: Shares, h: Fraction, names: Fraction = Fraction(6, 10)
) -> dict[str, Fraction]:
    """Text → probability of a noun query."""
    kept = 1 - names
    if thing.names and kept and names / len(thing.names) > kept:
        kept = names = Fraction(1, 2)
    return _summed(
        [
            (kept, [query]),
            *_both(names, h, thing, above, lambda t: list(t.names)),
            *_both(Fraction(1, 10), h, thing, above, lambda t: list(t.descriptions)),
        ]
    )


def attribute_texts(
    query: str, attribute: str, thing: Thing, above: Shares, h: Fraction
) -> dict[str, Fraction]:
    """Text → probability of an attribute query."""

    def pairs(t: Thing) -> list[str]:
        return [f"{attribute} {n}" for n in t.names] + [f"{n} {attribute}" for n in t.names]

    def replaced(t: Thing) -> list[str]:
        found = [n for n in thing.names if _stands_in(n, query)]
        if not found:
            return []
        longest = max(found, key=len)
        return [_pattern(longest).sub(n.replace("\\", r"\\"), query) for n in t.names]

    fifth = Fraction(1, 5)
    return _summed(
        [
            (Fraction(1), [query]),
            (fifth, [attribute]),
            *_both(fifth, h, thing, above, lambda t: list(t.names)),
            *_both(fifth, h, thing, above, pairs),
            *_both(fifth, h, thing, above, replaced),
            *_both(Fraction(1, 20), h, thing, above, lambda t: list(t.descriptions)),
        ]
    )


def _both(chance, h, thing, above, texts) -> list[Group]:
    groups = [(chance * (1 - h), texts(thing))]
    have = [(share, texts(one)) for share, one in above if texts(one)]
    total = sum(share for share, _ in have)
    return groups + [(chance * h * share / total, found) for share, found in have]


def _summed(groups: list[Group]) -> dict[str, Fraction]:
    mass: dict[str, Fraction] = defaultdict(Fraction)
    for chance, texts in groups:
        for text in texts:
            mass[text] += chance / len(texts)
    total = sum(mass.values())
    return {text: share / total for text, share in mass.items() if share}


def _stands_in(name: str, query: str) -> bool:
    return _pattern(name).search(query) is not None


def _pattern(name: str) -> re.Pattern[str]:
    """A name as a whole word, in ASCII: between spaces, quotes, brackets and marks."""
    after = r"""(?=$|[ ,;:!?)\]}"]|\.$|'(?:s(?![0-9a-z])|(?![0-9a-z])))"""
    return re.compile(rf"""(?<![^ (\["'{{]){re.escape(name)}{after}""", re.IGNORECASE)
