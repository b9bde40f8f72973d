"""Entities that look like Wikidata's and say nothing: lines for a dump to measure with.

Every name, text, link and statement is invented from a seed; only the ids of properties, of large
classes and of the recipes' roots are Wikidata's, so that a recipe finds something. What is kept
real is what costs a reader time: the order of an entity's keys, ASCII with ``\\u`` and ``\\/``
escapes, the shares of the kinds, the number of terms, statements, qualifiers and references, the
random ids of statements and the hashes of references and qualifiers (which are why a dump
compresses 10 : 1 and not 30 : 1), and lines whose length has a long tail.

Shares: scholarly articles 38.5 %, humans 10.7 % and the other P31 values as counted over
Wikidata on 3 September 2025 (WikiAr/WikiData-Dumps, P31.txt); P279 on 4.4 % and P171 on 3.3 % of
items, no sitelink on 71.4 % (same source). The form: Wikibase's docs/topics/json.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from benchmarks.kinds import (
    CLASSES,
    DATAVALUE_TYPE,
    FIRST_ITEM,
    KINDS,
    QUALIFIERS,
    ROOTS,
    USED_PROPERTIES,
    Claim,
    Item,
    Kind,
    date,
    digits,
    item_value,
    kind_of,
    number_of_property,
    url,
)
from benchmarks.words import (
    COMMON,
    LANGUAGES,
    Vocabulary,
    name_in,
    shared_description,
    split,
    term,
    vocabulary,
)

#: Mean line in bytes, measured over 90,000 lines; a real dump has 1.6 TB / 118 M = 13.6 kB.
MEAN_LINE = 13_700

_IMPORTED = (328, 8447, 48183, 10000, 11920, 30239, 169514, 191168)  # Wikipedias, P143
_STATED = (180686, 5188229, 5412157, 654724, 36578, 20666306, 13550863, 15222191)  # P248


@lru_cache(maxsize=200_000)
def _hash(written: str) -> str:
    """40 hex digits that depend on the value alone, as Wikibase's hashes do."""
    return hashlib.sha1(written.encode(), usedforsecurity=False).hexdigest()


def _snak(property_id: str, datatype: str, value: str, hashed: bool = False) -> str:
    mark = f'"hash":"{_hash(property_id + value)}",' if hashed else ""
    return (
        f'{{"snaktype":"value","property":"{property_id}",{mark}"datavalue":{{"value":{value},'
        f'"type":"{DATAVALUE_TYPE[datatype]}"}},"datatype":"{datatype}"}}'
    )


def _reference(item: Item) -> str:
    """Stated in + retrieved + identifier or URL; or imported from a Wikipedia."""
    alike = item.batch.kind < 1 and item.random() < 0.7
    r = item.random()
    if r < 0.15:
        snaks = [
            ("P143", _snak("P143", "wikibase-item", item_value(_IMPORTED[int(8 * item.random())])))
        ]
    else:
        source = item_value(_STATED[int(8 * (item.batch.source if alike else item.random()) ** 2)])
        snaks = [("P248", _snak("P248", "wikibase-item", source))]
        if r < 0.5:
            snaks.append(("P854", _snak("P854", "url", url(item))))
        elif r < 0.85:
            snaks.append(("P698", _snak("P698", "external-id", digits(8)(item))))
        day = item.batch.day if alike else item.random()
        snaks.append(("P813", _snak("P813", "time", date(2013, 13, day))))
    body = ",".join([f'"{p}":[{written}]' for p, written in snaks])
    order = ",".join([f'"{p}"' for p, _ in snaks])
    return f'{{"hash":"{_hash(body)}","snaks":{{{body}}},"snaks-order":[{order}]}}'


def _statement(item: Item, claim: Claim, rank: str, references: Sequence[str]) -> str:
    snak = (
        _snak(claim.property, claim.datatype, claim.value(item))
        if item.random() > 0.001
        else _no_value(item, claim)
    )
    qualifiers = ""
    if claim.qualifiers:
        body = ",".join(
            [
                f'"{p}":[{_snak(p, QUALIFIERS[p][0], QUALIFIERS[p][1](item), hashed=True)}]'
                for p in claim.qualifiers
            ]
        )
        order = '","'.join(claim.qualifiers)
        qualifiers = f'"qualifiers":{{{body}}},"qualifiers-order":["{order}"],'
    guid = f"{item.rng.getrandbits(128):032X}"
    sources = ""
    if references and item.random() < claim.sourced:
        sources = f',"references":[{references[int(len(references) * item.random() ** 3)]}]'
    return (
        f'{{"mainsnak":{snak},"type":"statement",{qualifiers}"id":"Q{item.number}$'
        f"{guid[:8]}-{guid[8:12]}-{guid[12:16]}-{guid[16:20]}-{guid[20:]}"
        f'","rank":"{rank}"{sources}}}'
    )


def _no_value(item: Item, claim: Claim) -> str:
    """Somevalue and novalue: 40 of 31,192 snaks in a sample of real entities."""
    snaktype = "novalue" if item.random() < 0.7 else "somevalue"
    return (
        f'{{"snaktype":"{snaktype}","property":"{claim.property}","datatype":"{claim.datatype}"}}'
    )


def _count(item: Item, mean: float) -> int:
    """A number around ``mean``, exponentially distributed."""
    return int(-mean * math.log(1.0 - item.random()) + item.random()) if mean else 0


def _claims(item: Item, kind: Kind, richness: float) -> str:
    sources = [_reference(item) for _ in range(1 + _count(item, 0.5 * min(richness, 20)))]
    groups = []
    for claim in kind.claims:
        chance = claim.chance
        if chance < 0.9:
            chance *= 0.6 + 0.4 * min(richness, 2.5)
        if item.random() > chance:
            continue
        number = 1 + _count(item, claim.many * richness)
        preferred = int(number * item.random()) if number > 1 and item.random() < 0.04 else -1
        ranks = ["preferred" if n == preferred else _rank(item) for n in range(number)]
        statements = [_statement(item, claim, rank, sources) for rank in ranks]
        groups.append(f'"{claim.property}":[{",".join(statements)}]')
    if item.random() < 0.5:
        item.rng.shuffle(groups)
    return ",".join(groups)


def _rank(item: Item) -> str:
    return "deprecated" if item.random() < 0.003 else "normal"


# --- terms and links ----------------------------------------------------------------------------

_WIKIS = split("""
    enwiki cebwiki svwiki dewiki frwiki nlwiki ruwiki arzwiki eswiki itwiki plwiki viwiki jawiki
    zhwiki arwiki ukwiki warwiki ptwiki fawiki commonswiki cawiki specieswiki nowiki idwiki
    kowiki fiwiki huwiki cswiki trwiki rowiki euwiki eowiki hewiki bgwiki dawiki enwikiquote
    elwiki hrwiki skwiki slwiki ltwiki etwiki lvwiki glwiki simplewiki thwiki hiwiki bnwiki
    tawiki mkwiki srwiki shwiki kawiki hywiki azwiki kkwiki uzwiki bewiki afwiki astwiki cywiki
    gawiki iswiki lawiki nnwiki ocwiki urwiki tewiki mlwiki knwiki mrwiki newiki swwiki jvwiki
    frwikiquote dewikivoyage enwikivoyage itwikiquote ruwikiquote eswikiquote plwikiquote
""")


def _names(item: Item, kind: Kind) -> tuple[str, str]:
    """The label and, for kinds whose label is a title, the title."""
    least, most = kind.words
    if kind.name in ("article", "work", "thing"):
        title = item.phrase(least, most).capitalize()
        return title, title
    if kind.name in ("star", "gene"):
        return f"{item.pick(item.words.names)[:5].upper()} {int(1e6 * item.random())}", ""
    if kind.name == "taxon":
        return f"{item.pick(item.words.names, 1.3)} {item.pick(item.words.words, 1.3)}", ""
    if kind.name == "class":
        return item.phrase(least, most), ""
    if kind.name == "category":
        return f"Category:{item.phrase(least, most).capitalize()}", ""
    return " ".join(
        [item.pick(item.words.names, 1.5) for _ in range(least + int(most * item.random()))]
    ), ""


def _languages(item: Item, mean: float, richness: float) -> Sequence[str]:
    """Codes of an item's labels, common ones first in mind, in no order."""
    number = 1 + _count(item, (mean - 1) * (0.5 + 0.5 * richness))
    if number >= len(LANGUAGES):
        return LANGUAGES
    chosen = {} if item.random() > 0.8 else {"en": None}
    for _ in range(number * 2):
        if len(chosen) >= number:
            break
        if item.random() < 0.6:
            chosen[COMMON[int(len(COMMON) * item.random() ** 1.7)]] = None
        else:
            chosen[LANGUAGES[int(len(LANGUAGES) * item.random())]] = None
    return tuple(chosen) or ("en",)


def _labels(item: Item, codes: Sequence[str]) -> str:
    return ",".join([term(code, name_in(code, item.name)) for code in codes])


@lru_cache(maxsize=2)
def _shared_descriptions(seed: int) -> dict[str, list[list[str]]]:
    """Kind → variants → members ``"en":{…}``."""
    rng, words = Random(f"descriptions {seed}"), vocabulary(seed)
    return {
        kind.name: [shared_description(rng, words) for _ in range(kind.variants)] for kind in KINDS
    }


def _descriptions(item: Item, kind: Kind, richness: float) -> str:
    if item.random() < 0.05:  # 5.8 % of items have none
        return ""
    variants = _shared_descriptions(item.words.seed)[kind.name]
    alike = item.batch.kind < 1 and item.random() < 0.8
    share = item.batch.description if alike else item.random()
    terms = variants[int(len(variants) * share**2)]
    number = min(len(terms), 1 + _count(item, kind.descriptions * (0.7 + 0.3 * richness)))
    first = int((len(terms) - number + 1) * (item.batch.window if alike else item.random()))
    return ",".join(terms[first : first + number])


def _aliases(item: Item, codes: Sequence[str], richness: float) -> str:
    groups = []
    for code in codes[: _count(item, 0.4 * richness)]:
        values = [
            f'{{"language":"{code}","value":"{name_in(code, item.phrase(1, 3))}"}}'
            for _ in range(1 + _count(item, 0.8))
        ]
        groups.append(f'"{code}":[{",".join(values)}]')
    return ",".join(groups)


def _sitelinks(item: Item, kind: Kind, richness: float) -> str:
    if item.random() > kind.linked:
        return ""
    number = min(len(_WIKIS), 1 + _count(item, (kind.links - 1) * richness))
    sites = dict.fromkeys(
        _WIKIS[int(len(_WIKIS) * item.random() ** 1.8)] for _ in range(2 * number)
    )
    links = []
    for site in list(sites)[:number]:
        code = site.partition("wiki")[0]
        badge = '"Q17437796"' if item.random() < 0.01 else ""
        links.append(
            f'"{site}":{{"site":"{site}","title":"{name_in(code, item.name)}","badges":[{badge}]}}'
        )
    return ",".join(links)


# --- entities -----------------------------------------------------------------------------------

# a few real items have thousands of statements: one line in 3,000 is 20 to 400 times as rich
_OUTLIERS = 1 / 3000


def _richness(item: Item, kind: Kind) -> float:
    """Log-normal with mean 1, and rare outliers: lines of several MB."""
    if item.random() < _OUTLIERS:
        rich: float = 20.0 * 20.0 ** (item.random() ** 2)
        return rich
    return item.rng.lognormvariate(-(kind.spread**2) / 2, kind.spread)


def _map(members: str) -> str:
    return f"{{{members}}}"


def _entity(item: Item, head: str, parts: Sequence[str]) -> bytes:
    labels, descriptions, aliases, claims, sitelinks = parts
    revision = 400_000_000 + int(2_000_000_000 * item.random())
    minute = int(item.random() * 12 * 336 * 1440)
    day, minute = divmod(minute, 1440)
    title = head.split('"id":"', 1)[1].split('"', 1)[0]
    links = f'"sitelinks":{_map(sitelinks)},' if title[0] == "Q" else ""
    return (
        f'{{{head},"labels":{_map(labels)},"descriptions":{_map(descriptions)},'
        f'"aliases":{_map(aliases)},"claims":{_map(claims)},{links}'
        f'"pageid":{item.number - 3_000_000},"ns":{0 if links else 120},"title":"{title}",'
        f'"lastrevid":{revision},"modified":"{2014 + day // 336}-{day // 28 % 12 + 1:02d}-'
        f'{day % 28 + 1:02d}T{minute // 60:02d}:{minute % 60:02d}:{minute % 60:02d}Z"}}'
    ).encode("ascii")


def entity(index: int, rng: Random, words: Vocabulary) -> bytes:
    """Line of the ``index``-th entity of a dump, without its comma: an item, rarely a property."""
    property_number = number_of_property(index)
    if property_number is not None:
        return _property(property_number, "external-id", rng, words)
    item = Item(FIRST_ITEM + index, rng, words)
    kind = kind_of(item)
    richness = _richness(item, kind)
    item.name, item.title = _names(item, kind)
    codes = _languages(item, kind.labels, richness)
    parts = (
        _labels(item, codes),
        _descriptions(item, kind, richness),
        _aliases(item, codes, richness),
        _claims(item, kind, richness),
        _sitelinks(item, kind, richness),
    )
    return _entity(item, f'"type":"item","id":"Q{item.number}"', parts)


def edited(line: bytes, index: int, rng: Random, words: Vocabulary) -> bytes:
    """The ``index``-th entity, written anew, with a higher revision than ``line`` has."""
    mark = b'"lastrevid":'
    before, _, rest = line.rpartition(mark)
    revision = int(rest[: rest.index(b",")]) + 1 + int(10_000_000 * rng.random())
    before, _, rest = entity(index, rng, words).rpartition(mark)
    return b"%b%b%d%b" % (before, mark, revision, rest[rest.index(b",") :])


def known_entities(rng: Random, words: Vocabulary) -> list[bytes]:
    """Lines of the recipes' roots and of every property that an invented item uses."""
    roots = [_plain(f'"type":"item","id":"Q{number}"', rng, words) for number in ROOTS]
    properties = [
        _property(int(name[1:]), datatype, rng, words) for name, datatype in USED_PROPERTIES.items()
    ]
    return roots + properties


def _property(number: int, datatype: str, rng: Random, words: Vocabulary) -> bytes:
    return _plain(f'"type":"property","datatype":"{datatype}","id":"P{number}"', rng, words)


def _plain(head: str, rng: Random, words: Vocabulary) -> bytes:
    """Names and no statements."""
    item = Item(FIRST_ITEM, rng, words)
    item.name = item.phrase(1, 3)
    codes = ("en", *(c for c in _languages(item, 20.0, 1.0) if c != "en"))
    parts = (
        _labels(item, codes),
        _descriptions(item, CLASSES, 3.0),
        _aliases(item, codes, 1.0),
        "",
        _sitelinks(item, CLASSES, 10.0),
    )
    return _entity(item, head, parts)
