"""What an image may be told to be, by one of its queries: texts, how likely each, and where from.

The groups of texts and their chances are EntityNet's (``entitynet_textloader.py``), with h the
share of what stands above an entity (``TextOptions.parents``):

noun query (name, alias)
    the query 0.4 · names 0.6 (1 - h) · parents' names 0.6 h · descriptions 0.1 (1 - h) · parents'
    descriptions 0.1 h
attribute query (attribute_type, attribute_name)
    the query 1.0 · the attribute alone 0.2 · and, each divided (1 - h) to h: names 0.2 · attribute
    and name, either way round 0.2 · the query with another name in the place of the name 0.2 ·
    descriptions 0.05

A group's chance is shared out equally over its texts. A group that has no text (no description, no
parent) leaves its chance to the others, in proportion: chances are divided by their sum. What is
done otherwise than there:

- **The same text from several groups has the sum of their chances.** There all but the largest were
  lost, most of all of the query that is the entity's name.
- **Names are replaced as words**, whatever their case, the longest first: no "t*hound*e" for a cat.
- **The guard against a name that is likelier than the query** looks at this entity's names: with
  one name (0.6) both have 0.5. There it counted the names of all entities and never acted.
- **Parents** are the natural type and, besides, ancestors by their distance (:func:`parents`).

Sums are :func:`math.fsum`'s and powers products, so that the last bit, by which a text may be drawn
or not, is the same on every machine and for every Python.

Plain Python over plain values: `training/text_build.py` runs it over a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final, NamedTuple

from graph.queries import LONGEST_NAME, MOST_NAMES
from training.text_options import AttributeChances, TextOptions

#: Where a text is from; a text may be from several, and a row has the sum of their bits.
SOURCES: Final = (
    "query",
    "name",
    "alias",
    "common_name",
    "taxon_name",
    "description",
    "natural_type",
    "natural_type_description",
    "ancestor",
    "ancestor_description",
    "attribute",
    "attribute_and_name",
    "attribute_and_parent",
    "query_with_name",
    "query_with_parent",
)
(
    QUERY, NAME, ALIAS, COMMON_NAME, TAXON_NAME, DESCRIPTION, TYPE, TYPE_DESCRIPTION, ANCESTOR,
    ANCESTOR_DESCRIPTION, ATTRIBUTE, ATTRIBUTE_AND_NAME, ATTRIBUTE_AND_PARENT, QUERY_WITH_NAME,
    QUERY_WITH_PARENT,
) = (1 << bit for bit in range(len(SOURCES)))  # fmt: skip

#: What is no name of anything, and so isn't put into a prompt.
DESCRIPTIONS: Final = DESCRIPTION | TYPE_DESCRIPTION | ANCESTOR_DESCRIPTION

#: C0 and C1 steer a terminal and say nothing in a text.
_CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")

#: What may stand before and after a word that is replaced as a whole. Stricter than between
#: letters and others: "C" is no word of "C++", nor "T" of "T-shirt". What isn't replaced
#: costs a few texts of many, what is replaced wrongly is a wrong text.
_BEFORE: Final = frozenset(" ([{\"'“‘«„")
_AFTER: Final = frozenset(' ,;:!?)]}"”»')
_APOSTROPHES: Final = "'’"


class Text(NamedTuple):
    """A text, its probability among those of its table, and the bits of its sources."""

    text: str
    probability: float
    sources: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What a query is about: an entity, or a type that may be no entity of the data set."""

    id: str
    names: tuple[str, ...] = ()  # the name first; each once
    kinds: tuple[int, ...] = ()  # NAME, ALIAS, …, parallel
    descriptions: tuple[str, ...] = ()
    type_id: str | None = None
    type_name: str | None = None
    roots: tuple[str, ...] = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Subject:
        """Reads a row of `entities.parquet`.

        As many names and as long ones as make queries (`graph/queries.py`): a dump may hold any.
        """
        names: dict[str, int] = {}
        for column, kind in _NAMES:
            found = row[column]
            for written in (found,) if isinstance(found, str) else found or ():
                name = cleaned(written)
                if name and len(name) <= LONGEST_NAME and len(names) < MOST_NAMES:
                    names.setdefault(name, kind)
        description = cleaned(row["description"] or "")
        return cls(
            row["id"],
            tuple(names),
            tuple(names.values()),
            (description,) if description else (),
            row["natural_type"],
            row["natural_type_name"],
            tuple(row["roots"] or ()),
        )

    @classmethod
    def of_type(cls, id_: str, name: str | None, roots: Iterable[str] = ()) -> Subject:
        """A type of which nothing but the name is known."""
        known = cleaned(name or "")
        return cls(id_, (known,) if known else (), (NAME,) if known else (), roots=tuple(roots))


_NAMES: Final = (
    ("name", NAME), ("aliases", ALIAS), ("common_names", COMMON_NAME), ("taxon_names", TAXON_NAME),
)  # fmt: skip


def cleaned(text: str) -> str:
    """A text without control characters, with white space collapsed: as alt texts are packed."""
    return " ".join(text.translate(_CONTROLS).split())


class Parent(NamedTuple):
    """What stands above an entity, with its part of the parents' share."""

    share: float
    subject: Subject
    name: int  # bits of the sources of its names, and of its descriptions
    description: int


def parents(
    natural_type: Subject | None, ancestors: Sequence[tuple[int, Subject]], options: TextOptions
) -> list[Parent]:
    """What stands above an entity, by the options; ``ancestors`` are (distance, subject).

    The natural type has ``natural_type_share``. Of the rest each distance at which there is an
    ancestor has ``ancestor_decay`` of what the distance below it would have, shared out equally.
    Where there are no ancestors, or no natural type, the other has all. Shares sum to 1.

    The natural type of an animal is often just "animal"; a step up there is "canine".
    """
    share = options.natural_type_share
    if share == 1 or not ancestors:
        return [Parent(1.0, natural_type, TYPE, TYPE_DESCRIPTION)] if natural_type else []
    if natural_type is None:
        share = 0.0
    found: dict[str, Parent] = {}
    if natural_type is not None:
        found[natural_type.id] = Parent(share, natural_type, TYPE, TYPE_DESCRIPTION)
    for weight, subject in _by_distance(ancestors, options.ancestor_decay):
        was = found.get(subject.id, _NOTHING)
        found[subject.id] = Parent(
            was.share + (1 - share) * weight,
            subject,
            was.name | ANCESTOR,
            was.description | ANCESTOR_DESCRIPTION,
        )
    return [parent for parent in found.values() if parent.share > 0]


_NOTHING: Final = Parent(0.0, Subject(""), 0, 0)


def _by_distance(
    ancestors: Sequence[tuple[int, Subject]], decay: float
) -> Iterable[tuple[float, Subject]]:
    at: dict[int, list[Subject]] = {}
    for distance, subject in ancestors:
        at.setdefault(distance, []).append(subject)
    weights, weight = {}, 1.0
    for distance in range(min(at), max(at) + 1):
        if distance in at:
            weights[distance] = weight
        weight *= decay
    total = fsum(weights.values())
    for distance, weight in weights.items():
        for subject in at[distance]:
            yield weight / total / len(at[distance]), subject


def texts_of(
    query: str,
    query_type: str,
    attribute: str | None,
    subject: Subject,
    above: Sequence[Parent],
    options: TextOptions,
) -> list[Text]:
    """The texts of one query, each once; their probabilities sum to 1.

    Empty only where nothing that the options want has a text.
    """
    general = subject.type_id in options.general_types
    made = _Texts(above, options.parents_of_general if general else options.parents)
    query = cleaned(query)
    if query_type == "attribute_type":
        _attribute_query(made, query, attribute, subject, options.attribute_type)
    elif query_type == "attribute_name":
        _attribute_query(made, query, attribute, subject, options.attribute_name)
    else:
        _noun_query(made, query, subject, options)
    return made.normalised()


def _noun_query(made: _Texts, query: str, subject: Subject, options: TextOptions) -> None:
    kept, names = 1 - options.noun_names, options.noun_names
    # a name that would be likelier than the query; who keeps no query wants names alone
    if subject.names and 0 < kept < names / len(subject.names):
        kept = names = 0.5
    made.add(kept, [query], [QUERY])
    made.divide(names, subject.names, subject.kinds, lambda p: p.names, lambda p: p.name)
    _descriptions(made, options.noun_descriptions, subject)


def _attribute_query(
    made: _Texts,
    query: str,
    attribute: str | None,
    subject: Subject,
    chances: AttributeChances,
) -> None:
    names, value = subject.names, cleaned(attribute or "")
    made.add(chances.query, [query], [QUERY])
    made.divide(chances.names, names, subject.kinds, lambda p: p.names, lambda p: p.name)
    if value:
        made.divide(
            chances.pairs,
            _pairs(value, names),
            [ATTRIBUTE_AND_NAME] * (2 * len(names)),
            lambda p: _pairs(value, p.names),
            lambda p: ATTRIBUTE_AND_PARENT,
        )
        made.add(chances.attribute, [value], [ATTRIBUTE])
    if pieces := split_at_name(query, names) if chances.replaced else None:
        made.divide(
            chances.replaced,
            [name.join(pieces) for name in names],
            [QUERY_WITH_NAME] * len(names),
            lambda p: [name.join(pieces) for name in p.names],
            lambda p: QUERY_WITH_PARENT,
        )
    _descriptions(made, chances.descriptions, subject)


def _descriptions(made: _Texts, chance: float, subject: Subject) -> None:
    own = subject.descriptions
    made.divide(
        chance,
        own,
        [DESCRIPTION] * len(own),
        lambda p: p.descriptions,
        lambda p: p.description,
    )


def _pairs(attribute: str, names: Sequence[str]) -> list[str]:
    return [text for name in names for text in (f"{attribute} {name}", f"{name} {attribute}")]


class _Texts:
    """Texts as they are gathered, and those of parents with their part of each group."""

    def __init__(self, above: Sequence[Parent], share: float) -> None:
        self._above, self._share = above, share
        self._mass: dict[str, float] = {}
        self._sources: dict[str, int] = {}

    def add(self, chance: float, texts: Sequence[str], sources: Sequence[int]) -> None:
        """Shares a chance out equally over some texts."""
        if not chance or not texts:
            return
        each = chance / len(texts)
        mass, known = self._mass, self._sources
        for text, source in zip(texts, sources, strict=True):
            if text:
                mass[text] = mass.get(text, 0.0) + each
                known[text] = known.get(text, 0) | source

    def divide(
        self,
        chance: float,
        own: Sequence[str],
        kinds: Sequence[int],
        texts: Callable[[Subject], Sequence[str]],
        kind: Callable[[Parent], int],
    ) -> None:
        """Divides a chance between an entity's own texts and those that its parents have."""
        self.add(chance * (1 - self._share), own, kinds)
        if not chance or not self._share:
            return
        found = [(parent, texts(parent.subject)) for parent in self._above]
        total = fsum(parent.share for parent, theirs in found if theirs)
        for parent, theirs in found:
            if theirs:
                part = chance * self._share * parent.share / total
                self.add(part, theirs, [kind(parent)] * len(theirs))

    def normalised(self) -> list[Text]:
        """The texts in the order in which they were first met."""
        total = fsum(self._mass.values())
        if not total:
            return []
        return [Text(t, mass / total, self._sources[t]) for t, mass in self._mass.items()]


def split_at_name(query: str, names: Sequence[str]) -> list[str] | None:
    """The pieces of a query around the longest name that stands in it as a word; None if none does.

    >>> split_at_name("a Labrador retriever's nose", ["labrador", "Labrador Retriever"])
    ['a ', "'s nose"]
    >>> split_at_name("scattered catkins", ["cat"]) is None
    True
    """
    lowered = query.lower()
    any_case = len(lowered) == len(query)  # İ has two letters when it is lowered
    for name in sorted(names, key=len, reverse=True):
        wanted = name.lower() if any_case else name
        places = list(_places(lowered if any_case else query, wanted))
        if places:
            ends = [0, *(place + len(wanted) for place in places)]
            starts = [*places, len(query)]
            return [query[a:b] for a, b in zip(ends, starts, strict=True)]
    return None


def _places(text: str, word: str) -> Iterable[int]:
    """Where a word begins in a text, as a whole, one after the other."""
    place = text.find(word) if word else -1
    while place >= 0:
        end = place + len(word)
        whole = (not place or text[place - 1] in _BEFORE) and _ends_word(text, end)
        if whole:
            yield place
        place = text.find(word, end if whole else place + 1)


def _ends_word(text: str, end: int) -> bool:
    rest = text[end : end + 3]
    if not rest or rest[0] in _AFTER:
        return True
    if rest[0] in _APOSTROPHES:  # of a genitive, or closing; not that of O'Neill
        return not rest[1:2].isalnum() or (rest[1] in "sS" and not rest[2:].isalnum())
    return rest == "."
