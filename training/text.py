"""What an image is told to be: drawn from its alt texts and from what the graph knows of it.

    from training.text import Texts
    from training.text_build import build
    from training.text_image import AltText, Entity, Image

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
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from math import fsum
from pathlib import Path
from struct import Struct
from typing import Any, Final, Literal, NamedTuple

from etl.arrow import map_batch
from etl.errors import UserError
from etl.manifest import check_whole, digest_of_data, read_manifest
from training.text_files import (
    ENTITIES,
    QUERIES,
    ROWS,
    ROWS_BITS,
    STEP,
    TEXT_BITS,
    TEXTS,
    Index,
    characters,
    numbers,
)
from training.text_filter import Blocked, blocked
from training.text_image import AltText, Entity, Image
from training.text_options import TextFilter, TextOptions
from training.text_rules import DESCRIPTIONS, SOURCES

#: The source of a text that stood beside the image, and of one that a prompt was put around.
ALT_TEXT: Final = "alt_text"
PROMPT: Final = "prompt"

_FRACTION: Final = 2.0**-53
_ROWS_MASK: Final = (1 << ROWS_BITS) - 1
_TEXT_MASK: Final = (1 << TEXT_BITS) - 1
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


#: What an image's texts are drawn from: the tables of its queries (``rows`` in their index), and
#: its alt texts.
Known = tuple[Sequence[int], Sequence[AltText]]


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
        self._prompts = options.prompts if options.prompt_chance else ()
        self._seeded = 0, 0, _begun(0, 0)
        self._speaks = {"": "" in options.alt_text_languages or not options.alt_text_languages}

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
        self._text_at = numbers(rows, "text_at", "Q")
        self._sources_of = numbers(rows, "sources", "H")
        self._up_to = numbers(rows, "up_to", "d")
        self._characters = characters(map_batch(self.folder / TEXTS), "text")
        self.queries, self.entities = (Index(self.folder, name) for name in (QUERIES, ENTITIES))
        self._read = _reader(self._up_to, self._text_at, self._characters)
        self._query, self._entity = self.queries.find, self.entities.find

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
            return alts[(b * len(alts)) >> 64].text if self._chance else None
        if not tables:
            return None
        table = tables[(b * len(tables)) >> 64]
        return self._prompted(self._place(table, c), d) if self._prompts else self._read(table, c)

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
        different where it has two: an image without alt text has two of the graph's. One that has
        nothing but alt texts has none where their chance is 0: it isn't trained on.
        """
        known = self.known(image)
        tables, alts = known or ((), ())
        if known is None or not (tables or (alts and self._chance)):
            return None
        if alts and tables:
            a, b, c, d = self._draws(f"{image.key} pair", seed, epoch)
            place = self._place(tables[(b * len(tables)) >> 64], c)
            return Drawn(alts[(a * len(alts)) >> 64].text, "alt"), Drawn(
                self._prompted(place, d), "graph"
            )
        side: Literal["alt", "graph"] = "alt" if alts else "graph"
        shares = {text: share for text, (share, _) in self._shares(known, 0.5).items()}
        one, other = self._distinct(shares, [], 2, f"{image.key} pair", seed, epoch)
        return Drawn(one, side), Drawn(other, side)

    def _draws(self, key: str, seed: int, epoch: int) -> tuple[int, ...]:
        """Four numbers of 64 bits."""
        seeded = self._seeded
        if seeded[0] != seed or seeded[1] != epoch:
            # all at once, since threads may draw in several epochs
            seeded = self._seeded = seed, epoch, _begun(seed, epoch)
        hasher = seeded[2].copy()
        hasher.update(key.encode())
        return _numbers(hasher.digest())

    def _place(self, table: int, number: int) -> int:
        """The row of a table that a number of 64 bits draws."""
        first = table >> ROWS_BITS
        end = first + (table & _ROWS_MASK)
        return bisect_right(self._up_to, (number >> 11) * _FRACTION, first, end)

    def _text(self, place: int) -> str:
        """The text of a row."""
        begin, size = divmod(self._text_at[place], 1 << TEXT_BITS)
        return str(self._characters[begin : begin + size], "utf-8")

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

    def _prompted(self, place: int, number: int) -> str:
        """The text of a row, in one of the prompts where a number of 64 bits says so."""
        text, chance, prompts = self._text(place), self.options.prompt_chance, self._prompts
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
                yield text.text, of_alts / len(alts), _ALT_BIT
        if of_alts == 1 or (alts and not tables):
            return
        for table in tables:
            before = 0.0
            first = table >> ROWS_BITS
            for place in range(first, first + (table & _ROWS_MASK)):
                share = (self._up_to[place] - before) * (1 - of_alts) / len(tables)
                before = self._up_to[place]
                yield from self._with_prompts(place, share)

    def _with_prompts(self, place: int, share: float) -> Iterator[tuple[str, float, int]]:
        text, bits = self._text(place), self._sources_of[place]
        chance, prompts = self.options.prompt_chance, self._prompts
        if not prompts or not bits & ~DESCRIPTIONS:
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
        tables, about = [], []
        for query in image.queries:
            found = self._query(query.hash) if query.found else None
            if found is not None:
                tables.append(found[0])
                about.append(found[1])
        for entity in image.entities:
            found = self._entity(entity.id)
            if found is not None and found[2] not in about:
                tables.append(found[0])
        if 0 in tables:
            tables = [table for table in tables if table]
        return tables, self._spoken(image.alts()) if image.texts else ()

    def _spoken(self, alts: Sequence[AltText]) -> Sequence[AltText]:
        """The alt texts that are in a language that is wanted."""
        speaks = self._speaks
        for alt in alts:
            if not speaks.get(alt.lang, False):
                return [alt for alt in alts if self._does_speak(alt.lang)]
        return alts

    def _does_speak(self, lang: str) -> bool:
        found = self._speaks.get(lang)
        if found is None:
            wanted = self.options.alt_text_languages
            code = lang.lower()
            found = not wanted or code in wanted or code.partition("-")[0] in wanted
            self._speaks[lang] = found
        return found

    def why(self, image: Image) -> Why:
        """Why :meth:`draw` gives None, "" where it gives a text."""
        known = self.known(image)
        if known is None:
            return "filter"
        tables, alts = known
        return "" if tables or (alts and self._chance) else "no_text"

    def _let_through(self, image: Image) -> Known | None:
        """The same with a filter: without what is blocked."""
        found_by = _Sources(image, self.filter.skip_sources)
        alts = self._spoken(found_by.alts())
        if self.filter.skip_alt_text and bool(alts) == (self.filter.skip_alt_text == "alt"):
            return None
        of_queries, of_entities = self._blocked or (None, None)
        gone = {found[2] for e in found_by.gone() if (found := self._entity(e.id))}
        all_gone = found_by.all_gone()
        tables, about, out = [], [], 0
        for query in image.queries:
            found = self._query(query.hash) if query.found else None
            if found is None:
                continue
            table, entity, place = found
            about.append(entity)
            if all_gone or entity in gone or (of_queries and of_queries[place]):
                out += 1
            else:
                tables.append(table)
        for shown in image.entities:
            found = self._entity(shown.id)
            if found is None or found[2] in about:
                continue
            table, _, place = found
            if place in gone or (of_entities and of_entities[place]):
                out += 1
            else:
                tables.append(table)
        blocks = self.filter.is_about_queries() or bool(self.filter.skip_sources)
        if blocks and (not tables or (out and self.filter.op == "any")):
            return None
        return [table for table in tables if table], alts


def _begun(seed: int, epoch: int) -> blake2b:
    return blake2b(f"{seed} {epoch} ".encode(), digest_size=32)


def _reader(
    up_to: memoryview[float], text_at: memoryview[int], data: memoryview[int]
) -> Callable[[int, int], str]:
    """`_place` and `_text` in one, for what is drawn most: 0.3 µs less."""

    def read(table: int, number: int) -> str:
        first = table >> ROWS_BITS
        end = first + (table & _ROWS_MASK)
        at = text_at[bisect_right(up_to, (number >> 11) * _FRACTION, first, end)]
        begin = at >> TEXT_BITS
        return str(data[begin : begin + (at & _TEXT_MASK)], "utf-8")

    return read


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

    def alts(self) -> Sequence[AltText]:
        """The alt texts that are left."""
        alts = self._image.alts()
        if not self._skipped:
            return alts
        self._check()
        return [alt for alt in alts if not self._is_blocked(alt)]

    def gone(self) -> list[Entity]:
        """The entities that are blocked."""
        if not self._skipped:
            return []
        self._check()
        return [entity for entity in self._image.entities if self._is_blocked(entity)]

    def all_gone(self) -> bool:
        """Whether none is left of those that there were."""
        return bool(self._image.entities) and len(self.gone()) == len(self._image.entities)

    def _is_blocked(self, told: Entity | AltText) -> bool:
        return bool(told.sources) and self._skipped.issuperset(told.sources)

    def _check(self) -> None:
        """Refuses an image of several sources, of which it isn't known which said what."""
        everything: list[Entity | AltText] = [*self._image.entities, *self._image.texts]
        for told in everything if self._image.united else ():
            if not self._skipped.isdisjoint(told.sources) and not self._is_blocked(told):
                raise UserError(
                    f"skip_sources: images.parquet says of {self._image.key} that "
                    f"{', '.join(told.sources)} know it, but not which of them said what; its "
                    "KEY.json does."
                )
