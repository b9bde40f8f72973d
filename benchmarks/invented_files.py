"""Files that look like Commons' and don't exist: lines for a mediainfo dump to measure with.

The form is that of real lines (commons-20231207): the order of the keys, ASCII with ``\\u`` and
``\\/`` escapes, snaks with a hash and without a datatype, ``[]`` for empty maps, creators without
an item who are named by qualifiers. The facts that bots have added since (P1163, P2049, P2048,
P3575, P4092) are on more than half of the files, and 30 % depict something. Names, texts, numbers
and hashes are invented from a seed; ids of properties and of frequent items are Wikidata's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from benchmarks.words import LANGUAGES, Vocabulary, name_in, term, vocabulary
from download.mediainfo import BYTE, PIXEL, SHA1

#: Goes into the name of a dump that a benchmark keeps: raise it when the lines change.
VERSION = 1

#: Mean line in bytes, measured over 60,000 lines.
MEAN_LINE = 4_200

_LICENCES = (18199165, 14946043, 50829104, 20007257, 19113751, 6938433)
_STATUSES = (50423863, 50423863, 50423863, 19652, 88088423)
_FIRST_PAGE = 40_000_000
_PIXELS = (1024, 1600, 2048, 3000, 3264, 4000, 4032, 4608, 6000)
_LARGEST_BATCH = 16 << 20  # bytes of JSON, about


@dataclass(frozen=True)
class FilePlan:
    """What a dump of files holds: ``files`` lines in batches of ``batch`` lines."""

    seed: int
    files: int
    batch: int

    @classmethod
    def of_size(cls, json_bytes: int, seed: int = 0) -> FilePlan:
        """For about ``json_bytes`` of JSON."""
        largest = min(_LARGEST_BATCH, max(json_bytes // 24, 1 << 20)) // MEAN_LINE
        return cls(seed, max(1, json_bytes // MEAN_LINE), max(1, largest))

    @property
    def batches(self) -> int:
        """Number of batches; the last one may be shorter."""
        return -(-self.files // self.batch)

    def lines(self, number: int) -> Iterator[bytes]:
        """The lines of a batch."""
        words = vocabulary(self.seed)
        rng = Random(f"{self.seed} files {number}")
        first = number * self.batch
        for place in range(first, min(first + self.batch, self.files)):
            yield line(_FIRST_PAGE + place, rng, words).encode()


@lru_cache(maxsize=100_000)
def _hash(written: str) -> str:
    """40 hex digits that depend on the value alone, as Wikibase's hashes do."""
    return hashlib.sha1(written.encode(), usedforsecurity=False).hexdigest()


def _snak(property_id: str, value: str, type_: str) -> str:
    return (
        f'{{"snaktype":"value","property":"{property_id}","hash":"{_hash(property_id + value)}",'
        f'"datavalue":{{"value":{value},"type":"{type_}"}}}}'
    )


def _item(property_id: str, number: int) -> str:
    value = f'{{"entity-type":"item","numeric-id":{number},"id":"Q{number}"}}'
    return _snak(property_id, value, "wikibase-entityid")


def _text(property_id: str, text: str) -> str:
    return _snak(property_id, json.dumps(text).replace("/", "\\/"), "string")


def _quantity(property_id: str, amount: int, unit: str) -> str:
    address = f"http:\\/\\/www.wikidata.org\\/entity\\/{unit.removeprefix('/')}" if unit else "1"
    return _snak(property_id, f'{{"amount":"+{amount}","unit":"{address}"}}', "quantity")


def _day(rng: Random) -> str:
    day = f"+{rng.randrange(2004, 2026)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    return (
        f'{{"time":"{day}T00:00:00Z","timezone":0,"before":0,"after":0,"precision":11,'
        '"calendarmodel":"http:\\/\\/www.wikidata.org\\/entity\\/Q1985727"}'
    )


class _Page:
    """One file while its line is made."""

    def __init__(self, number: int, rng: Random, words: Vocabulary) -> None:
        self.number, self.rng, self.words = number, rng, words
        self.statements: dict[str, list[str]] = {}

    def add(
        self, property_id: str, snak: str, qualifiers: dict[str, str] | None = None, rank: str = ""
    ) -> None:
        """A statement of a property."""
        guid = f"{self.rng.getrandbits(128):032X}"
        more = ""
        if qualifiers:
            body = ",".join(f'"{p}":[{written}]' for p, written in qualifiers.items())
            order = '","'.join(qualifiers)
            more = f'"qualifiers":{{{body}}},"qualifiers-order":["{order}"],'
        self.statements.setdefault(property_id, []).append(
            f'{{"mainsnak":{snak},"type":"statement",{more}"id":"M{self.number}${guid[:8]}-'
            f'{guid[8:12]}-{guid[12:16]}-{guid[16:20]}-{guid[20:]}","rank":"{rank or "normal"}"}}'
        )

    def name(self) -> str:
        """Some words, in ASCII."""
        return " ".join(self.rng.choice(self.words.names) for _ in range(self.rng.randrange(2, 6)))


def line(number: int, rng: Random, words: Vocabulary) -> str:
    """The line of one file."""
    page = _Page(number, rng, words)
    if rng.random() < 0.05:  # nothing but what somebody depicted
        page.add("P180", _item("P180", rng.randrange(1, 10**8)))
        return _framed(page)
    if rng.random() < 0.27:
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            rank = "preferred" if rng.random() < 0.15 else "normal"
            page.add("P180", _item("P180", int(10 ** rng.uniform(2, 8))), rank=rank)
    if rng.random() < 0.8:
        page.add("P571", _snak("P571", _day(rng), "time"))
    page.add("P6216", _item("P6216", rng.choice(_STATUSES)))
    for _ in range(rng.choice((1,) * 9 + (2,))):
        page.add("P275", _item("P275", rng.choice(_LICENCES)))
    _add_source(page)
    _add_creator(page)
    if rng.random() < 0.6:
        _add_facts(page)
        if rng.random() < 0.5:
            _add_exposure(page)
    if rng.random() < 0.25:
        _add_place(page)
    return _framed(page)


def _add_source(page: _Page) -> None:
    rng = page.rng
    if rng.random() < 0.7:
        page.add("P7482", _item("P7482", 66458942))
        return
    address = f"https://www.example.org/photos/{rng.randrange(10**9)}"
    publisher = _item("P137", rng.randrange(1, 10**6))
    page.add("P7482", _item("P7482", 74228490), {"P973": _text("P973", address), "P137": publisher})


def _add_creator(page: _Page) -> None:
    rng = page.rng
    if rng.random() < 0.2:
        page.add("P170", _item("P170", rng.randrange(1, 10**8)))
        return
    name = page.name() if rng.random() < 0.3 else page.words.names[int(rng.random() ** 3 * 500)]
    address = f"http://commons.wikimedia.org/wiki/User:{name.replace(' ', '_')}"
    named = {"P3831": _item("P3831", 33231)}
    named |= {"P2093": _text("P2093", name), "P4174": _text("P4174", name)}
    named["P2699"] = _text("P2699", address)
    nobody = f'{{"snaktype":"somevalue","property":"P170","hash":"{_hash("P170")}"}}'
    page.add("P170", nobody, named)


def _add_facts(page: _Page) -> None:
    rng = page.rng
    page.add("P1163", _text("P1163", rng.choice(("image/jpeg",) * 8 + ("image/png",))))
    method = {"P459": _item("P459", SHA1)}
    page.add("P4092", _text("P4092", f"{rng.getrandbits(160):040x}"), method)
    page.add("P3575", _quantity("P3575", rng.randrange(20_000, 20_000_000), BYTE))
    for property_id in ("P2048", "P2049"):
        page.add(property_id, _quantity(property_id, rng.choice(_PIXELS), PIXEL))


def _add_exposure(page: _Page) -> None:
    """What a camera wrote into the file, as the same bots copy it from there."""
    rng = page.rng
    page.add("P6757", _quantity("P6757", rng.randrange(1, 9), "Q11574"))
    page.add("P6790", _quantity("P6790", rng.randrange(2, 16), ""))
    page.add("P2151", _quantity("P2151", rng.randrange(18, 300), "Q174789"))
    page.add("P6789", _quantity("P6789", 100 << rng.randrange(6), ""))
    page.add("P4082", _item("P4082", rng.randrange(1, 10**6)))


def _add_place(page: _Page) -> None:
    rng = page.rng
    value = (
        f'{{"latitude":{rng.uniform(-60, 70):.6f},"longitude":{rng.uniform(-180, 180):.6f},'
        '"altitude":null,"precision":1.0e-6,"globe":"http:\\/\\/www.wikidata.org\\/entity\\/Q2"}'
    )
    heading = {"P7787": _quantity("P7787", rng.randrange(360), "Q28390")}
    page.add("P1259", _snak("P1259", value, "globecoordinate"), heading)
    page.add("P1071", _item("P1071", rng.randrange(1, 10**6)))


def _framed(page: _Page) -> str:
    rng = page.rng
    captions = "[]"
    if rng.random() < 0.25:
        codes = ["en", *rng.sample(LANGUAGES, rng.choice((0, 0, 1, 3)))]
        made = [term(code, name_in(code, page.name())) for code in dict.fromkeys(codes)]
        captions = f"{{{','.join(made)}}}"
    body = ",".join(f'"{p}":[{",".join(made)}]' for p, made in page.statements.items())
    return (
        f'{{"type":"mediainfo","id":"M{page.number}","labels":{captions},"descriptions":[],'
        f'"statements":{{{body}}},"pageid":{page.number},"ns":6,'
        f'"title":"File:{page.name()} {page.number % 10_000}.jpg",'
        f'"lastrevid":{400_000_000 + rng.randrange(600_000_000)},'
        f'"modified":"{rng.randrange(2018, 2027)}-06-08T13:47:37Z"}}'
    )
