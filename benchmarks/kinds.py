"""Kinds of items, how many there are, and which statements with which values each has.

Property ids and large classes are Wikidata's; the shares of the kinds are those counted over it
(``benchmarks/invented.py`` names the source); chances and counts are tuned until the mean line
and the compression meet the real dump's.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

from benchmarks.words import COMMON, Vocabulary, name_in

#: Ids of invented items start here: as many digits as most real ones, far from the few real ids.
FIRST_ITEM = 100_000_000
#: Ids of invented properties start here.
FIRST_PROPERTY = 20_000

# An item's number alone decides whether it is a class or a taxon, so that a statement anywhere in
# the dump can point at one that is there. 1/23 = 4.35 % have P279; 1/29 of the rest = 3.3 % P171.
_CLASS_MODULUS, _CLASS_RESIDUE = 23, 7
_TAXON_MODULUS, _TAXON_RESIDUE = 29, 11
_PROPERTY_MODULUS, _PROPERTY_PLACE = 4999, 17

#: Roots of the EntityNet recipes, which the first invented classes are subclasses of.
ROOTS = (
    *(729, 756, 764, 34379, 41176, 42889, 2095, 14745, 11460, 747883, 10683158, 712378, 15324),
    *(39546, 618123, 214609, 25257, 13226383, 811979, 4936952, 2424752, 11663, 35120),
)
_TAXON_ROOTS = (729, 756, 764)

# --- values -------------------------------------------------------------------------------------


class Item:
    """What the values of one item may refer to: its number, names and source of randomness."""

    __slots__ = ("batch", "name", "number", "random", "rng", "title", "words")

    def __init__(self, number: int, rng: Random, words: Vocabulary) -> None:
        self.number = number
        self.rng = rng
        self.random = rng.random
        self.words = words
        self.batch = _batch(words.seed, (number - FIRST_ITEM) // _BATCH)
        self.name: str = ""
        self.title: str = ""

    def pick(self, choices: Sequence[str], skew: float = 2.0) -> str:
        """One of ``choices``, early ones more often: word frequencies have a long tail."""
        return choices[int(len(choices) * self.random() ** skew)]

    def phrase(self, least: int, most: int) -> str:
        """Words of a text, most frequent ones first in mind."""
        count = least + int((most - least + 1) * self.random())
        return " ".join([self.pick(self.words.words, 2.5) for _ in range(count)])


class Batch(NamedTuple):
    """What items that one bot made in one go have in common. Shares are in 0 … 1."""

    kind: float  # which kind, if below 1
    description: float
    window: float
    source: float
    day: float


#: A dump is in the order of page ids, and bots make pages by the thousand: neighbours are alike.
_BATCH = 64


@lru_cache(maxsize=1024)
def _batch(seed: int, index: int) -> Batch:
    rng = Random(f"batch {seed} {index}")
    kind = rng.random() if rng.random() < 0.7 else 1.0
    return Batch(kind, *(rng.random() for _ in range(4)))


Value = Callable[[Item], str]


def item_value(number: int) -> str:
    return f'{{"entity-type":"item","numeric-id":{number},"id":"Q{number}"}}'


def _one(number: int) -> Value:
    written = item_value(number)
    return lambda item: written


def _of(first: int, count: int, skew: float = 3.0) -> Value:
    """One of ``count`` items from ``first`` on: countries, occupations, journals, …"""
    return lambda item: item_value(first + int(count * item.random() ** skew))


def _residue(number: int, modulus: int, residue: int, share: float) -> int:
    """The class or taxon at ``share`` (0 … 1) of the way to the item ``number``."""
    return FIRST_ITEM + int((number - FIRST_ITEM) / modulus * share) * modulus + residue


def _class(item: Item) -> str:
    """An earlier class; a few are the class of most things, as in Wikidata."""
    return item_value(_residue(item.number, _CLASS_MODULUS, _CLASS_RESIDUE, item.random() ** 5))


def _superclass(item: Item) -> str:
    target = _residue(item.number, _CLASS_MODULUS, _CLASS_RESIDUE, item.random() ** 2)
    if target >= item.number or item.number < FIRST_ITEM + 40 * _CLASS_MODULUS:
        target = ROOTS[item.number // _CLASS_MODULUS % len(ROOTS)]
    return item_value(target)


def _parent_taxon(item: Item) -> str:
    target = _residue(item.number, _TAXON_MODULUS, _TAXON_RESIDUE, item.random() ** 2)
    if target >= item.number or item.number < FIRST_ITEM + 20 * _TAXON_MODULUS:
        target = _TAXON_ROOTS[item.number // _TAXON_MODULUS % len(_TAXON_ROOTS)]
    return item_value(target)


def _any_item(item: Item) -> str:
    return item_value(FIRST_ITEM + int((item.number - FIRST_ITEM + 1) * item.random()))


def _near_item(item: Item) -> str:
    """An item not far away: articles cite what a bot wrote in the same weeks."""
    return item_value(max(FIRST_ITEM, item.number - int(60_000 * item.random())))


def _quoted(make: Callable[[Item], str]) -> Value:
    return lambda item: f'"{make(item)}"'


def digits(count: int) -> Value:
    span = 10**count
    return lambda item: f'"{int(span * item.random()):0{count}d}"'


def _counted(most: int) -> Value:
    return lambda item: f'"{1 + int(most * item.random() ** 2)}"'


def _code(prefix: str, hex_digits: int) -> Value:
    return lambda item: f'"{prefix}{item.rng.getrandbits(4 * hex_digits):0{hex_digits}x}"'


def _doi(item: Item) -> str:
    return (
        f'"10.{1000 + int(300 * item.random() ** 2)}\\/'
        f'{item.pick(item.words.names)[:4].upper()}.{int(1e7 * item.random())}"'
    )


def url(item: Item) -> str:
    word = item.pick(item.words.words)
    return f'"https:\\/\\/{word}.example.org\\/{word[:3]}\\/{item.rng.getrandbits(40)}"'


def _pages(item: Item) -> str:
    first = 1 + int(2000 * item.random())
    return f'"{first}-{first + int(20 * item.random())}"'


_author = _quoted(lambda item: f"{item.pick(item.words.names)} {item.pick(item.words.names, 1.2)}")
_name = _quoted(lambda item: item.name)
_file = _quoted(lambda item: f"{item.name} {item.phrase(1, 3)} {int(1e4 * item.random())}.jpg")


def _text(item: Item) -> str:
    return f'{{"text":"{item.title or item.name}","language":"en"}}'


def _common_name(item: Item) -> str:
    code = COMMON[int(len(COMMON) * item.random())]
    return f'{{"text":"{name_in(code, item.phrase(1, 2))}","language":"{code}"}}'


def _day(first: int, years: int) -> Value:
    return lambda item: date(first, years, item.random())


def date(first: int, years: int, share: float) -> str:
    """The day at ``share`` (0 … 1) of the years from ``first`` on; a month has 28 days."""
    day = int(share * years * 336)
    return (
        f'{{"time":"+{first + day // 336:04d}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}'
        'T00:00:00Z","timezone":0,"before":0,"after":0,"precision":11,'
        '"calendarmodel":"http:\\/\\/www.wikidata.org\\/entity\\/Q1985727"}'
    )


def _amount(unit: int | None, places: int) -> Value:
    written = f"http:\\/\\/www.wikidata.org\\/entity\\/Q{unit}" if unit else "1"

    def value(item: Item) -> str:
        number = 10 ** (1 + 4 * item.random())
        return (
            f'{{"amount":"+{number:.{places}f}","unit":"{written}",'
            f'"upperBound":"+{number * 1.01:.{places}f}",'
            f'"lowerBound":"+{number * 0.99:.{places}f}"}}'
        )

    return value


def _place(item: Item) -> str:
    latitude, longitude = 140 * item.random() - 60, 360 * item.random() - 180
    return (
        f'{{"latitude":{latitude:.6f},"longitude":{longitude:.6f},"altitude":null,'
        '"precision":0.0001,"globe":"http:\\/\\/www.wikidata.org\\/entity\\/Q2"}'
    )


DATAVALUE_TYPE = {
    "wikibase-item": "wikibase-entityid",
    "external-id": "string",
    "string": "string",
    "url": "string",
    "commonsMedia": "string",
    "time": "time",
    "quantity": "quantity",
    "monolingualtext": "monolingualtext",
    "globe-coordinate": "globecoordinate",
}

# --- statements ---------------------------------------------------------------------------------


class Claim(NamedTuple):
    """How a kind uses a property."""

    property: str
    datatype: str
    value: Value
    chance: float = 1.0  # that an ordinary item has it; rises with the item's richness
    many: float = 0.0  # mean number of statements beyond the first, at richness 1
    sourced: float = 0.6  # share of statements with references
    qualifiers: tuple[str, ...] = ()


class Kind(NamedTuple):
    """A kind of items and how its lines are made."""

    name: str
    share: float
    claims: tuple[Claim, ...]
    labels: float  # mean number of languages with a label
    descriptions: float
    linked: float  # share of items with a sitelink
    links: float  # mean number of sitelinks of those
    variants: int  # different descriptions
    spread: float  # sigma of the log-normal richness
    words: tuple[int, int] = (1, 3)  # length of a label


def _ids(*properties: str, chance: float, long: int = 9) -> tuple[Claim, ...]:
    return tuple(Claim(p, "external-id", digits(long), chance, 0.03, 0.85) for p in properties)


_ITEM, _STRING, _ID, _TIME = "wikibase-item", "string", "external-id", "time"

# The items that `_of` names stand for countries, occupations, journals and so on: ids as long as
# real ones, and what a statement says is invented.
# Chances and counts are tuned until means and ratio meet the real dump's; the shape of each list
# is that of the kind's items on wikidata.org.
_ARTICLE = (
    Claim("P31", _ITEM, _one(13442814), 1.0, 0.03, 0.9),
    Claim("P1476", "monolingualtext", _text, 1.0, 0, 0.9),
    Claim("P577", _TIME, _day(1960, 65), 0.98, 0.02, 0.9),
    Claim("P1433", _ITEM, _of(15_700_000, 4000), 0.95, 0, 0.9),
    Claim("P2093", _STRING, _author, 0.88, 3.4, 0.85, ("P1545",)),
    Claim("P50", _ITEM, _of(40_000_000, 600_000, 1.2), 0.35, 0.9, 0.5, ("P1545", "P1932")),
    Claim("P478", _STRING, _counted(300), 0.9, 0, 0.9),
    Claim("P433", _STRING, _counted(12), 0.85, 0, 0.9),
    Claim("P304", _STRING, _pages, 0.9, 0, 0.9),
    Claim("P356", _ID, _doi, 0.85, 0, 0.8),
    Claim("P698", _ID, digits(8), 0.7, 0, 0.9),
    Claim("P932", _ID, digits(7), 0.25, 0, 0.9),
    Claim("P5875", _ID, digits(9), 0.1, 0, 0.1),
    Claim("P8608", _ID, _code("release_", 24), 0.1, 0, 0.1),
    Claim("P921", _ITEM, _class, 0.35, 1.0, 0.4),
    Claim("P407", _ITEM, _one(1860), 0.4, 0, 0.1),
    Claim("P2860", _ITEM, _near_item, 0.25, 14.0, 0.97),
)
_PERSON_IDS = (
    *_ids("P214", "P227", "P244", "P268", "P269", "P213", chance=0.5, long=10),
    *_ids("P646", "P691", "P7859", "P1006", "P1015", "P2163", "P950", "P396", chance=0.28),
    *_ids("P345", "P434", "P549", "P496", "P1053", "P1153", "P2456", "P1960", chance=0.2),
    *_ids("P1417", "P2004", "P4342", "P535", "P6366", "P7902", "P8189", chance=0.2),
)
_HUMAN = (
    Claim("P31", _ITEM, _one(5), 1.0, 0, 0.65),
    Claim("P21", _ITEM, _of(6581072, 26, 0.2), 0.78, 0, 0.7),
    Claim("P106", _ITEM, _of(1_650_000, 500), 0.75, 0.7, 0.65),
    Claim("P27", _ITEM, _of(30, 250), 0.45, 0.1, 0.6),
    Claim("P569", _TIME, _day(1700, 305), 0.6, 0.15, 0.9),
    Claim("P570", _TIME, _day(1760, 260), 0.3, 0.1, 0.9),
    Claim("P19", _ITEM, _of(60_000, 40_000), 0.4, 0.05, 0.75),
    Claim("P20", _ITEM, _of(60_000, 40_000), 0.2, 0.05, 0.75),
    Claim("P735", _ITEM, _of(1_158_000, 8_000), 0.6, 0.2, 0.05, ("P1545",)),
    Claim("P734", _ITEM, _of(4_926_000, 60_000), 0.3, 0, 0.05),
    Claim("P69", _ITEM, _of(35_000, 9_000), 0.2, 0.4, 0.65, ("P580", "P582")),
    Claim("P108", _ITEM, _of(35_000, 9_000), 0.2, 0.4, 0.75, ("P580",)),
    Claim("P54", _ITEM, _of(18_000, 9_000), 0.08, 3.0, 0.45, ("P580", "P582")),
    Claim("P166", _ITEM, _of(38_000, 9_000), 0.1, 1.5, 0.45, ("P585",)),
    Claim("P18", "commonsMedia", _file, 0.15, 0.05, 0.1),
    Claim("P373", _STRING, _name, 0.12, 0, 0.1),
    Claim("P856", "url", url, 0.07, 0, 0.1),
    Claim("P1412", _ITEM, _of(1860, 300), 0.2, 0.3, 0.45),
    Claim("P1343", _ITEM, _of(600_000, 300), 0.1, 1.0, 0.2, ("P248",)),
    *_PERSON_IDS,
)
_CLASS = (
    Claim("P31", _ITEM, _class, 0.62, 0.15, 0.45),
    Claim("P279", _ITEM, _superclass, 1.0, 0.25, 0.55),
    Claim("P361", _ITEM, _class, 0.1, 0.2, 0.45),
    Claim("P527", _ITEM, _class, 0.06, 0.8, 0.45),
    Claim("P18", "commonsMedia", _file, 0.14, 0.03, 0.05),
    Claim("P373", _STRING, _name, 0.14, 0, 0.05),
    Claim("P366", _ITEM, _class, 0.05, 0.5, 0.2, ("P805",)),
    Claim("P186", _ITEM, _class, 0.05, 0.5, 0.2),
    Claim("P1889", _ITEM, _any_item, 0.06, 0.3, 0.1),
    Claim("P2283", _ITEM, _class, 0.03, 0.5, 0.1, ("P5102",)),
    Claim("P233", _STRING, _code("C1=CC", 20), 0.3, 0, 0.75),
    Claim("P235", _ID, _code("INCHI-", 22), 0.3, 0, 0.85),
    Claim("P662", _ID, digits(8), 0.3, 0, 0.85),
    Claim("P703", _ITEM, _of(15_978_000, 400), 0.45, 6.0, 0.95),
    *_ids("P646", "P227", "P244", "P8814", "P1014", "P10565", "P6366", chance=0.12),
)
_TAXON = (
    Claim("P31", _ITEM, _one(16521), 1.0, 0.02, 0.45),
    Claim("P225", _STRING, _name, 1.0, 0, 0.85, ("P405", "P574")),
    Claim("P105", _ITEM, _of(7432, 30, 5.0), 1.0, 0, 0.65),
    Claim("P171", _ITEM, _parent_taxon, 0.995, 0.06, 0.75),
    Claim("P18", "commonsMedia", _file, 0.2, 0.04, 0.45),
    Claim("P1843", "monolingualtext", _common_name, 0.1, 3.0, 0.85),
    Claim("P141", _ITEM, _of(211_000, 8), 0.05, 0, 1.0),
    Claim("P1420", _ITEM, _any_item, 0.08, 0.6, 0.75),
    Claim("P181", "commonsMedia", _file, 0.04, 0, 0.1),
    Claim("P373", _STRING, _name, 0.2, 0, 0.2),
    Claim("P566", _ITEM, _any_item, 0.07, 0, 0.65),
    *_ids("P846", "P815", "P685", "P830", "P3151", "P961", "P5055", "P9157", chance=0.55),
    *_ids("P3105", "P5037", "P1070", "P960", "P1939", "P4024", "P10585", chance=0.35),
)
_CATEGORY = (
    Claim("P31", _ITEM, _one(4167836), 1.0, 0, 0.5),
    Claim("P301", _ITEM, _any_item, 0.2, 0, 0.1),
    Claim("P4224", _ITEM, _one(5), 0.12, 0, 0.1, ("P19",)),
    Claim("P971", _ITEM, _class, 0.12, 1.0, 0.1),
)
_DISAMBIGUATION = (
    Claim("P31", _ITEM, _one(4167410), 1.0, 0, 0.55),
    Claim("P1889", _ITEM, _any_item, 0.15, 0.1, 0.05),
    *_ids("P1417", "P1296", "P646", chance=0.1),
)
_STAR = (
    Claim("P31", _ITEM, _of(523, 3, 4.0), 1.0, 0.05, 0.95),
    Claim("P59", _ITEM, _of(8_800, 88, 1.0), 0.95, 0, 0.75),
    Claim("P528", _STRING, _code("SIM ", 12), 0.95, 2.4, 0.95, ("P972",)),
    Claim("P1215", "quantity", _amount(None, 5), 0.9, 3.0, 0.95, ("P1227",)),
    Claim("P2214", "quantity", _amount(21500224, 4), 0.9, 0, 0.95),
    Claim("P2215", "quantity", _amount(22137107, 3), 0.9, 1.0, 0.95),
    Claim("P2216", "quantity", _amount(3674704, 2), 0.6, 0, 0.95),
    Claim("P6257", "quantity", _amount(28390, 9), 0.9, 0, 0.95),
    Claim("P6258", "quantity", _amount(28390, 9), 0.9, 0, 0.95),
    Claim("P3083", _ID, _code("Obj ", 8), 0.95, 0, 0.2),
)
_GENE = (
    Claim("P31", _ITEM, _of(7187, 2, 6.0), 1.0, 0.1, 0.95),
    Claim("P703", _ITEM, _of(15_978_000, 400), 1.0, 0, 0.95),
    Claim("P684", _ITEM, _near_item, 0.2, 4.0, 0.95, ("P703",)),
    Claim("P688", _ITEM, _near_item, 0.6, 0.1, 0.95),
    Claim("P644", _STRING, digits(9), 0.9, 0.4, 0.95, ("P659", "P1057")),
    Claim("P645", _STRING, digits(9), 0.9, 0.4, 0.95, ("P659", "P1057")),
    Claim("P680", _ITEM, _of(14_860_000, 4_000), 0.3, 2.0, 0.95, ("P459",)),
    Claim("P351", _ID, digits(8), 0.9, 0, 0.95),
    Claim("P594", _ID, _code("ENSG", 10), 0.5, 0.3, 0.95),
    Claim("P637", _ID, _code("NP_", 7), 0.5, 1.0, 0.95),
)
_WORK = (
    Claim("P31", _ITEM, _of(3_305_213, 6, 3.0), 1.0, 0.05, 0.75),
    Claim("P170", _ITEM, _of(150_000, 9_000), 0.8, 0.05, 0.75),
    Claim("P195", _ITEM, _of(190_000, 900), 0.8, 0.2, 0.85, ("P580",)),
    Claim("P217", _ID, digits(7), 0.8, 0.1, 0.75, ("P195",)),
    Claim("P186", _ITEM, _of(296_000, 60, 4.0), 0.7, 0.6, 0.65, ("P518",)),
    Claim("P571", _TIME, _day(1400, 600), 0.7, 0.1, 0.75),
    Claim("P1476", "monolingualtext", _text, 0.6, 0.3, 0.55),
    Claim("P18", "commonsMedia", _file, 0.3, 0, 0.2),
    Claim("P161", _ITEM, _of(30_000_000, 90_000), 0.15, 5.0, 0.2, ("P453",)),
    Claim("P2048", "quantity", _amount(174728, 1), 0.6, 0, 0.75),
    Claim("P2049", "quantity", _amount(174728, 1), 0.6, 0, 0.75),
    *_ids("P345", "P347", "P350", "P4905", "P6004", "P9394", chance=0.12),
)
_PLACE = (
    Claim("P31", _ITEM, _class, 0.985, 0.12, 0.85),
    Claim("P17", _ITEM, _of(30, 250), 0.95, 0.02, 0.85),
    Claim("P131", _ITEM, _of(180_000, 60_000), 0.85, 0.15, 0.75, ("P580",)),
    Claim("P625", "globe-coordinate", _place, 1.0, 0.1, 0.75),
    Claim("P1566", _ID, digits(8), 0.45, 0.05, 0.65),
    Claim("P18", "commonsMedia", _file, 0.25, 0.05, 0.2),
    Claim("P373", _STRING, _name, 0.25, 0, 0.2),
    Claim("P1082", "quantity", _amount(None, 0), 0.35, 3.0, 0.95, ("P585", "P459")),
    Claim("P2044", "quantity", _amount(11573, 0), 0.25, 0, 0.65),
    Claim("P421", _ITEM, _of(6_655, 24), 0.1, 0.3, 0.1, ("P1264",)),
    Claim("P856", "url", url, 0.1, 0, 0.1),
    Claim("P1435", _ITEM, _of(916_000, 60), 0.2, 0, 0.75, ("P580",)),
    *_ids("P646", "P214", "P227", "P402", "P2186", "P3896", "P590", "P1459", chance=0.35),
)
_THING = (
    Claim("P31", _ITEM, _class, 0.98, 0.12, 0.95),
    Claim("P17", _ITEM, _of(30, 250), 0.56, 0.02, 0.63),
    Claim("P1476", "monolingualtext", _text, 0.48, 0.1, 0.95),
    Claim("P577", _TIME, _day(1850, 170), 0.56, 0.1, 0.95),
    Claim("P361", _ITEM, _any_item, 0.24, 0.1, 0.63),
    Claim("P527", _ITEM, _any_item, 0.08, 3.0, 0.63, ("P1545",)),
    Claim("P50", _ITEM, _of(40_000_000, 600_000), 0.24, 0.3, 0.79),
    Claim("P276", _ITEM, _of(180_000, 60_000), 0.19, 0, 0.79),
    Claim("P136", _ITEM, _of(130_000, 900), 0.24, 0.5, 0.63),
    Claim("P571", _TIME, _day(1800, 220), 0.32, 0, 0.79),
    Claim("P495", _ITEM, _of(30, 250), 0.19, 0.1, 0.79),
    Claim("P18", "commonsMedia", _file, 0.06, 0.02, 0.1),
    Claim("P462", _ITEM, _of(1_088, 90), 0.03, 0.8, 0.47),
    Claim("P1056", _ITEM, _class, 0.03, 0.5, 0.47),
    Claim("P856", "url", url, 0.24, 0.05, 0.47),
    Claim("P407", _ITEM, _of(1_860, 300), 0.32, 0, 0.47),
    Claim("P973", "url", url, 0.24, 0.3, 0.47),
    *_ids("P214", "P646", "P227", "P1036", "P1651", "P10283", "P6782", chance=0.3),
    *_ids("P244", "P268", "P1417", "P2671", "P691", chance=0.3),
)

KINDS = (
    Kind("article", 0.385, _ARTICLE, 2.4, 11.0, 0.002, 1.2, 60, 0.9, (7, 16)),
    Kind("human", 0.107, _HUMAN, 6.0, 10.0, 0.47, 3.0, 150, 1.1),
    Kind("category", 0.0487, _CATEGORY, 4.0, 95.0, 1.0, 2.3, 4, 0.4, (2, 6)),
    Kind("disambiguation", 0.013, _DISAMBIGUATION, 7.0, 95.0, 0.99, 2.3, 2, 0.5, (1, 2)),
    Kind("star", 0.046, _STAR, 4.5, 20.0, 0.03, 1.8, 4, 0.35),
    Kind("gene", 0.0191, _GENE, 6.0, 15.0, 0.02, 1.4, 30, 0.7, (1, 1)),
    Kind("work", 0.0121, _WORK, 5.0, 9.0, 0.3, 3.0, 100, 0.7, (2, 5)),
    Kind("place", 0.095, _PLACE, 7.5, 12.0, 0.65, 3.6, 150, 1.05),
    Kind("thing", 0.0, _THING, 5.0, 10.0, 0.32, 3.0, 250, 1.1, (2, 6)),  # whatever is left
    Kind("taxon", 0.0, _TAXON, 16.0, 22.0, 0.8, 4.5, 20, 0.7, (2, 2)),  # by its number
    Kind("class", 0.0, _CLASS, 6.0, 9.0, 0.42, 6.0, 250, 1.1, (1, 3)),  # by its number
)

_TAXA, CLASSES = KINDS[-2:]

#: Every property that an invented item uses, with its datatype: these are in a dump as entities.
USED_PROPERTIES = {c.property: c.datatype for kind in KINDS for c in kind.claims}

QUALIFIERS: dict[str, tuple[str, Value]] = {
    "P1545": (_STRING, _counted(12)),
    "P1932": (_STRING, _author),
    "P580": (_TIME, _day(1950, 75)),
    "P582": (_TIME, _day(1950, 75)),
    "P585": (_TIME, _day(1990, 35)),
    "P248": (_ITEM, _of(600_000, 300)),
    "P805": (_ITEM, _class),
    "P5102": (_ITEM, _class),
    "P405": (_ITEM, _of(1_043, 4_000)),
    "P574": (_TIME, _day(1753, 270)),
    "P19": (_ITEM, _of(60_000, 40_000)),
    "P972": (_ITEM, _of(222_000, 40)),
    "P1227": (_ITEM, _of(72_000, 9)),
    "P703": (_ITEM, _of(15_978_000, 400)),
    "P659": (_ITEM, _of(20_966_000, 3)),
    "P1057": (_ITEM, _of(430_000, 60)),
    "P459": (_ITEM, _of(23_000_000, 12)),
    "P195": (_ITEM, _of(190_000, 900)),
    "P518": (_ITEM, _of(861_000, 6)),
    "P453": (_ITEM, _any_item),
    "P1264": (_ITEM, _of(1_777, 2)),
}

_SHARES = [sum(kind.share for kind in KINDS[: n + 1]) for n in range(len(KINDS) - 3)]


def kind_of(item: Item) -> Kind:
    """Kind of an item: by its number, by the bot that made it, or by chance."""
    place = item.number - FIRST_ITEM
    if place % _CLASS_MODULUS == _CLASS_RESIDUE:
        return CLASSES
    if place % _TAXON_MODULUS == _TAXON_RESIDUE:
        return _TAXA
    # the shares are of all items, 7.6 % of which are classes and taxa
    share = 0.924 * (item.batch.kind if item.batch.kind < 1 else item.random())
    return KINDS[bisect(_SHARES, share)]


def number_of_property(index: int) -> int | None:
    """Number of the property that stands at a place of the dump, None where an item does.

    One in 5,000, to have some in a small dump; in Wikidata one in 9,000.
    """
    count, place = divmod(index, _PROPERTY_MODULUS)
    return FIRST_PROPERTY + count if place == _PROPERTY_PLACE else None
