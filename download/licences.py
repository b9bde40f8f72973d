"""What Commons' statements say of a file's licence, as people write it: "CC BY-SA 4.0"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_TABLE: Final = Path(__file__).with_name("licences.tsv")

#: Values of P6216, copyright status, that say by themselves what may be done with a file.
#: https://www.wikidata.org/wiki/Property:P6216
STATUSES: Final[Mapping[str, str]] = {
    "Q19652": "Public domain",
    # "copyrighted, dedicated to the public domain by copyright holder"
    "Q88088423": "Dedicated to the public domain",
}


class Licence(NamedTuple):
    """A line of ``licences.tsv``."""

    name: str
    url: str


@cache
def licences() -> Mapping[str, Licence]:
    """Return the licences by their item in Wikidata."""
    lines = _TABLE.read_text("utf-8").splitlines()
    cells = (line.split("\t") for line in lines if not line.startswith("#"))
    return {item: Licence(name, url) for item, name, url in cells}


def licence_of(licences_: Sequence[str], statuses: Sequence[str]) -> str | None:
    """Return what a file's licence is called; None where its statements don't say.

    `licences_` and `statuses` are the items of P275 and P6216.  Of several licences one may be
    chosen (https://commons.wikimedia.org/wiki/Commons:Multi-licensing), hence " or ", in the order
    of the statements.  One that the table lacks keeps its id.
    """
    known = licences()
    names = [known[item].name if item in known else item for item in dict.fromkeys(licences_)]
    if names:
        return " or ".join(names)
    return next((STATUSES[item] for item in statuses if item in STATUSES), None)
