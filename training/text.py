"""What an image is told to be: drawn from its alt texts and from what the graph knows of it.

    from training.text import Texts
    from training.text_build import build
    from training.text_image import Image

    texts = Texts.open(build(Path("data/graph/entitynet"), Path("data/texts")))
    image = Image.of_json(sample["json"])              # KEY.json, as `images pack` wrote it
    texts.draw(image, seed=0, epoch=3)                 # "dog"; None for an image that is left out
    texts.draw_several(image, 4, seed=0, epoch=3)      # for losses with several positives
    texts.draw_pair(image, seed=0, epoch=3)            # an alt text and one of the graph's
    texts.table(image)                                 # all, with probabilities and sources

**Which queries an image has**: those that found it (``query_hashes``), and for each of its entities
that none of these is about, the one for the entity's name. So an image found by P18 or by what it
depicts, which no query found, is told to be what its entity is called; and one that "brown mammal"
found for a dog has that query and the dog's.

**How a text is drawn.** BLAKE2b with 32 bytes, over "seed epoch key" in UTF-8, gives four numbers
of 64 bits, little-endian: a, b, c, d. The upper 53 bits of a number are a fraction. Is that of a
below ``alt_text_chance``, the text is an alt text, number b n / 2^64 of n; else the query is number
b n / 2^64, and the text the first of its table whose ``up_to`` is above the fraction of c. d is
for prompts. So a text depends on seed, epoch and key alone: not on the order, the worker, the
shard, Python's hash seed, a library's generator or the machine.

:class:`Texts` maps files and is pickled as their folder: workers, forked or spawned, share them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import fsum
from pathlib import Path
from struct import Struct
from typing import Any, Final, Literal, NamedTuple

from etl.arrow import map_batch
from etl.errors import UserError
from etl.manifest import check_whole, digest_of_data, read_manifest
from training.text_build import STEP
from training.text_files import (
    ENTITIES,
    NONE,
    QUERIES,
    ROWS,
    TABLES,
    TEXTS,
    Index,
    numbers,
    strings,
)
from training.text_filter import Blocked, blocked
from training.text_image import Image
from training.text_options import TextFilter, TextOptions
from training.text_rules import DESCRIPTIONS, SOURCES

#: The source of a text that stood beside the image, and of one that a prompt was put around.
ALT_TEXT: Final = "alt_text"
PROMPT: Final = "prompt"

_FRACTION: Final = 2.0**-53
_numbers = Struct("<4Q").unpack

#: Bits above those of the graph's sources.
_ALT_BIT: Final = 1 << len(SOURCES)
_PROMPT_BIT: Final = _ALT_BIT << 1
_SOURCES: Final = (*SOURCES, ALT_TEXT, PROMPT)

#: Why an image has no text: the filter drops it, or nothing is known that it may be told to be.
Why = Literal["", "filter", "no_text"]


class Row(NamedTuple):
    """A text that an image may be told to be."""

    text: str
    probability: float
    sources: tuple[str, ...]


class Drawn(NamedTuple):
    """A text and whose it is: EntityNet's levels 0 and 1."""

    text: str
    side: Literal["alt", "graph"]


class Known(NamedTuple):
    """What an image's texts are drawn from: the tables of its queries, and its alt texts."""

    tables: Sequence[int]
    alts: Sequence[str]


class Texts:
    """Draws texts of images from tables that were built."""

    def __init__(self, folder: Path, options: TextOptions, filter_: TextFilter) -> None:
        """See :meth:`open`."""
        self.folder, self.options, self.filter = folder, options, filter_
        manifest = read_manifest(folder, STEP)
        check_whole(folder, manifest, "remove it, and it is built again")
        if digest_of_data(manifest["options"]) != digest_of_data(options.of_tables()):
            raise UserError(
                f"{folder} was built with other options than are asked for now: build tables with "
                "these, or ask for those."
            )
        self._chance = options.alt_text_chance
        self._map()
        self._blocked: Blocked | None = None
        if filter_.is_about_queries():
            groups = manifest["groups"]
            self._blocked = blocked(filter_, groups, self.queries, self.entities)
        self._is_filtered = filter_ != TextFilter(op=filter_.op)
        self._seeded: tuple[int, int] | None = None
        self._hasher = blake2b(digest_size=32)

    @classmethod
    def open(
        cls, folder: Path, options: TextOptions | None = None, filter_: TextFilter | None = None
    ) -> Texts:
        """Maps the tables of a folder that :func:`training.text_build.build` gave.

        Raises UserError where it isn't one, was built with other options, or the filter names what
        no query has.
        """
        return cls(folder, options or TextOptions(), filter_ or TextFilter())

    def __reduce__(self) -> tuple[Any, ...]:
        return Texts, (self.folder, self.options, self.filter)

    def _map(self) -> None:
        rows = map_batch(self.folder / ROWS)
        self._text_of = numbers(rows, "text", "I")
        self._sources_of = numbers(rows, "sources", "H")
        self._up_to = numbers(rows, "up_to", "d")
        self._begins, self._characters = strings(map_batch(self.folder / TEXTS), "text")
        self._start = numbers(map_batch(self.folder / TABLES), "start", "Q")
        self.queries, self.entities = (Index(self.folder, name) for name in (QUERIES, ENTITIES))
        self._of_query = numbers(self.queries.batch, "table", "I")
        self._about = numbers(self.queries.batch, "about", "I")
        self._of_entity = numbers(self.entities.batch, "table", "I")

    # --- drawing ---------------------------------------------------------------------------------

    def draw(self, image: Image, seed: int, epoch: int) -> str | None:
        """The text of an image in an epoch.

        None where the filter drops the image, or nothing is known that it may be told to be
        (:meth:`why`).
        """
        known = self.known(image)
        if known is None:
            return None
        tables, alts = known
        a, b, c, d = self._draws(image.key, seed, epoch)
        if alts and ((a >> 11) * _FRACTION < self._chance or not tables):
            return alts[(b * len(alts)) >> 64] if self._chance else None
        if not tables:
            return None
        place = self._place(tables[(b * len(tables)) >> 64], c)
        return self._prompted(place, d) if self.options.prompts else self._text(place)

    def draw_several(self, image: Image, number: int, seed: int, epoch: int) -> list[str] | None:
        """So many texts of an image in an epoch, the first of them that of :meth:`draw`.

        The others are drawn one by one from what is left, by their probabilities. Where there are
        fewer, they come again in their order. None as for :meth:`draw`.

        Raises ValueError where ``number`` is less than 1.
        """
        if number < 1:
            raise ValueError(f"{number} texts of an image: draw 1 or more")
        first = self.draw(image, seed, epoch)
        if first is None:
            return None
        if number == 1:
            return [first]
        known = self.known(image)
        assert known is not None, "it had a first"
        shares = {text: share for text, (share, _) in self._shares(known, self._chance).items()}
        return self._distinct(shares, [first], number, image.key, seed, epoch)

    def draw_pair(self, image: Image, seed: int, epoch: int) -> tuple[Drawn, Drawn] | None:
        """An alt text and one of the graph's, whatever ``alt_text_chance``; None as for `draw`.

        EntityNet's ``sample_rince``. Of an image that has but one side both are from that, and
        different where it has two: an image without alt text has two of the graph's.
        """
        known = self.known(image)
        if known is None or not (known.alts or known.tables):
            return None
        tables, alts = known
        if alts and tables:
            a, b, c, d = self._draws(f"{image.key} pair", seed, epoch)
            place = self._place(tables[(b * len(tables)) >> 64], c)
            return Drawn(alts[(a * len(alts)) >> 64], "alt"), Drawn(
                self._prompted(place, d), "graph"
            )
        side: Literal["alt", "graph"] = "alt" if alts else "graph"
        shares = {text: share for text, (share, _) in self._shares(known, 0.5).items()}
        one, other = self._distinct(shares, [], 2, f"{image.key} pair", seed, epoch)
        return Drawn(one, side), Drawn(other, side)

    def _draws(self, key: str, seed: int, epoch: int) -> tuple[int, int, int, int]:
        """Four numbers of 64 bits."""
        if self._seeded != (seed, epoch):
            self._hasher = blake2b(f"{seed} {epoch} ".encode(), digest_size=32)
            self._seeded = seed, epoch
        hasher = self._hasher.copy()
        hasher.update(key.encode())
        a, b, c, d = _numbers(hasher.digest())
        return a, b, c, d

    def _distinct(
        self,
        shares: dict[str, float],
        found: list[str],
        number: int,
        key: str,
        seed: int,
        epoch: int,
    ) -> list[str]:
        """Draws texts to ``found``, each once, until there are so many; then they come again."""
        left = {text: share for text, share in shares.items() if text not in found}
        while left and len(found) < number:
            a, *_ = self._draws(f"{key} {len(found)}", seed, epoch)
            found.append(_drawn(left, (a >> 11) * _FRACTION))
            del left[found[-1]]
        distinct = len(found)
        return found + [found[i % distinct] for i in range(number - distinct)]

    def _place(self, table: int, number: int) -> int:
        """The row of a table that a number of 64 bits draws."""
        start, fraction = self._start, (number >> 11) * _FRACTION
        return bisect_right(self._up_to, fraction, start[table], start[table + 1])

    def _text(self, place: int) -> str:
        number, begins = self._text_of[place], self._begins
        return str(self._characters[begins[number] : begins[number + 1]], "utf-8")

    def _prompted(self, place: int, number: int) -> str:
        """The text of a row, in one of the prompts where a number of 64 bits says so."""
        text, chance, prompts = self._text(place), self.options.prompt_chance, self.options.prompts
        fraction = (number >> 11) * _FRACTION
        if fraction >= chance or not self._sources_of[place] & ~DESCRIPTIONS:
            return text
        which = min(int(fraction / chance * len(prompts)), len(prompts) - 1)
        return prompts[which].replace("{}", text)

    # --- all that may be drawn -------------------------------------------------------------------

    def table(self, image: Image) -> list[Row]:
        """All texts of an image with their probabilities, which sum to 1; the likeliest first.

        Equal texts are one row, of all their sources. Empty where :meth:`draw` gives None.
        """
        known = self.known(image)
        if known is None:
            return []
        found = sorted(
            self._shares(known, self._chance).items(), key=lambda item: (-item[1][0], item[0])
        )
        return [
            Row(text, share, tuple(s for bit, s in enumerate(_SOURCES) if bits >> bit & 1))
            for text, (share, bits) in found
        ]

    def _shares(self, known: Known, chance: float) -> dict[str, tuple[float, int]]:
        """Text → its probability and the bits of its sources."""
        found: dict[str, tuple[float, int]] = {}
        for text, share, bits in self._parts(known, chance):
            was, sources = found.get(text, (0.0, 0))
            found[text] = was + share, sources | bits
        return found

    def _parts(self, known: Known, chance: float) -> Iterator[tuple[str, float, int]]:
        tables, alts = known
        of_alts = (chance if tables else float(chance > 0)) if alts else 0.0
        if of_alts:
            for text in alts:
                yield text, of_alts / len(alts), _ALT_BIT
        if of_alts == 1 or (alts and not tables):
            return
        for table in tables:
            before = 0.0
            for place in range(self._start[table], self._start[table + 1]):
                share = (self._up_to[place] - before) * (1 - of_alts) / len(tables)
                before = self._up_to[place]
                yield from self._with_prompts(place, share)

    def _with_prompts(self, place: int, share: float) -> Iterator[tuple[str, float, int]]:
        text, bits = self._text(place), self._sources_of[place]
        chance, prompts = self.options.prompt_chance, self.options.prompts
        if not chance or not bits & ~DESCRIPTIONS:
            yield text, share, bits
            return
        if chance < 1:
            yield text, share * (1 - chance), bits
        for prompt in prompts:
            yield prompt.replace("{}", text), share * chance / len(prompts), bits | _PROMPT_BIT

    # --- what an image has -----------------------------------------------------------------------

    def known(self, image: Image) -> Known | None:
        """What the texts of an image are drawn from; None where the filter drops it."""
        if self._is_filtered:
            return self._let_through(image)
        tables = []
        about = []
        for hash_ in image.queries:
            place = self.queries.find(hash_)
            if place >= 0:
                about.append(self._about[place])
                tables.append(self._of_query[place])
        for id_ in image.entities:
            place = self.entities.find(id_)
            if place >= 0 and place not in about:
                tables.append(self._of_entity[place])
        if NONE in tables:
            tables = [table for table in tables if table != NONE]
        return Known(tables, image.alts)

    def why(self, image: Image) -> Why:
        """Why :meth:`draw` gives None, "" where it gives a text."""
        known = self.known(image)
        if known is None:
            return "filter"
        return "" if known.tables or (known.alts and self._chance) else "no_text"

    def _let_through(self, image: Image) -> Known | None:
        """The same with a filter: without what is blocked."""
        found_by = _Sources(image, self.filter.skip_sources)
        alts = found_by.alts()
        if self.filter.skip_alt_text and bool(alts) == (self.filter.skip_alt_text == "alt"):
            return None
        of_queries, of_entities = self._blocked or (None, None)
        gone = {self.entities.find(id_) for id_ in found_by.gone()}
        tables, about, out = [], [], 0
        for hash_ in image.queries:
            place = self.queries.find(hash_)
            if place < 0:
                continue
            about.append(self._about[place])
            if found_by.all_gone() or about[-1] in gone or (of_queries and of_queries[place]):
                out += 1
            else:
                tables.append(self._of_query[place])
        for id_ in image.entities:
            place = self.entities.find(id_)
            if place < 0 or place in about:
                continue
            if place in gone or (of_entities and of_entities[place]):
                out += 1
            else:
                tables.append(self._of_entity[place])
        blocks = self.filter.is_about_queries() or bool(self.filter.skip_sources)
        if blocks and (not tables or (out and self.filter.op == "any")):
            return None
        return Known([table for table in tables if table != NONE], alts)


def _drawn(shares: dict[str, float], fraction: float) -> str:
    """The text at which the shares add up to more than a fraction of them all."""
    # fsum rounds once, everywhere alike; sum() does so from Python 3.12 on
    above = fraction * fsum(shares.values())
    text = ""
    for text, share in shares.items():
        above -= share
        if above < 0:
            return text
    return text  # rounding may leave a last bit


class _Sources:
    """Which entities and alt texts of an image only blocked sources have said."""

    def __init__(self, image: Image, skipped: Sequence[str]) -> None:
        self._image, self._skipped = image, frozenset(skipped)

    def alts(self) -> Sequence[str]:
        """The alt texts that are left."""
        if not self._skipped:
            return self._image.alts
        blocked_ = self._are_blocked(self._image.alts, self._image.alt_sources)
        return [t for t, b in zip(self._image.alts, blocked_, strict=True) if not b]

    def gone(self) -> list[str]:
        """The entities that are blocked."""
        if not self._skipped:
            return []
        entities = self._image.entities
        blocked_ = self._are_blocked(entities, self._image.entity_sources)
        return [id_ for id_, b in zip(entities, blocked_, strict=True) if b]

    def all_gone(self) -> bool:
        """Whether none is left of those that there were."""
        return bool(self._image.entities) and len(self.gone()) == len(self._image.entities)

    def _are_blocked(
        self, values: Sequence[str], sources: Sequence[Sequence[str]]
    ) -> Sequence[bool]:
        if len(sources) == len(values):
            return [self._skipped.issuperset(own) for own in sources]
        own = self._image.sources
        if self._skipped.isdisjoint(own) or self._skipped.issuperset(own):
            return [bool(own) and self._skipped.issuperset(own)] * len(values)
        raise UserError(
            f"skip_sources: images.parquet says of {self._image.key} that "
            f"{', '.join(own)} found it, but not which of them found what; take its KEY.json."
        )
