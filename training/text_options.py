"""What may be chosen about texts: how likely each kind is, and which queries count at all.

All shares and chances are plain numbers; the ones that are EntityNet's have its names beside them
(``EntityNetTextAugCfg``, values of its training configuration, in docs/texts.md as a table).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from etl.entity import is_entity_id
from etl.errors import UserError
from graph.settings import ENGINES, QUERY_TYPES

#: animal and plant: EntityNet's NATURALENTITY_LIVING, less WordNet's two, which no data set has.
#: "The natural type is worse there", so that parents get half of their share.
GENERAL_TYPES: Final = ("Q729", "Q756")

#: `WikidataLoader` of EntityNet prunes parents with fewer sitelinks.
KNOWN_PARENT: Final = 40

#: Steps up at most: beyond them nothing is near, and each step multiplies what has to be read.
MOST_STEPS: Final = 10

#: Options that are looked at when a text is drawn; the others decide about the tables.
_WHEN_DRAWN: Final = ("alt_text_chance", "alt_text_languages", "prompt_chance", "prompts")


@dataclass(frozen=True, kw_only=True)
class AttributeChances:
    """Weights of the texts of an attribute query; what they sum to is no matter.

    Each is shared out equally over the texts of its kind, and all but ``query`` and ``attribute``
    between the entity and its parents (``TextOptions.parents``).
    """

    query: float = 1.0  # keep_query: "running dog"
    names: float = 0.2  # replace_query_with_synonym: "hound"
    pairs: float = 0.2  # build_pseudo_query: "running hound", "hound running"
    replaced: float = 0.2  # strgf_replace_entity: the query with another name in the name's place
    attribute: float = 0.2  # attribute_only: "running"
    descriptions: float = 0.05  # replace_with_definition


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How likely each kind of text is; the defaults are EntityNet's, and ours for what it lacks.

    Raises UserError where a value is none that it may have.
    """

    #: Of an image that has both: an alt text, and not one of the graph's. 0: graph only; 1: alt
    #: only, and of an image without alt text one of the graph's.
    alt_text_chance: float = 0.5
    #: Alt texts in other languages don't count ("" is one that isn't known; none: all count).
    #: EntityNet knows no languages: its alt texts are the web's. Commons has captions in hundreds.
    alt_text_languages: tuple[str, ...] = ("en", "")

    #: Noun queries: a name (replace_noun_synonym_chance); the query itself has 1 less this.
    noun_names: float = 0.6
    #: Noun queries: a description, besides (replace_noun_definition_chance).
    noun_descriptions: float = 0.1

    #: Of names and descriptions, the share of what stands above (replace_noun_hierarchy_chance) ...
    parents: float = 0.2
    #: ... and where the natural type is a general one (replace_noun_hierarchy_chance_living).
    parents_of_general: float = 0.1
    general_types: tuple[str, ...] = GENERAL_TYPES

    #: Of the parents' share, the natural type's; the rest is the ancestors'. 1 is EntityNet's rule.
    natural_type_share: float = 0.5
    #: Ancestors up to so many steps up the hierarchy ...
    ancestor_steps: int = 3
    #: ... each step further having so much of what the step before has; 0: only the nearest.
    ancestor_decay: float = 0.5
    #: ... that so many wikis write about.
    ancestor_min_sitelinks: int = KNOWN_PARENT

    attribute_type: AttributeChances = field(default_factory=AttributeChances)  # attronly_*
    attribute_name: AttributeChances = field(default_factory=AttributeChances)  # attrnoun_*

    #: How often a text of the graph that is no description is put into one of ``prompts``
    #: (clip_prompts), such as "a photo of a {}.".
    prompt_chance: float = 0.0
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "alt_text_chance", "noun_names", "parents", "parents_of_general", "natural_type_share",
            "ancestor_decay", "prompt_chance",
        ):  # fmt: skip
            _check_share(name, getattr(self, name))
        _check_weight("noun_descriptions", self.noun_descriptions)
        for name in ("attribute_type", "attribute_name"):
            for weight in fields(AttributeChances):
                _check_weight(f"{name}.{weight.name}", getattr(getattr(self, name), weight.name))
        if not 0 <= self.ancestor_steps <= MOST_STEPS:
            raise _wrong("ancestor_steps", self.ancestor_steps, f"steps from 0 to {MOST_STEPS}")
        if self.ancestor_min_sitelinks < 0:
            raise _wrong("ancestor_min_sitelinks", self.ancestor_min_sitelinks, "0 or more")
        for id_ in self.general_types:
            if not is_entity_id(id_):
                raise _wrong("general_types", id_, "items such as Q729")
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise _wrong("prompts", prompt, 'texts with one {}, such as "a photo of a {}."')
        if self.prompt_chance and not self.prompts:
            raise UserError("prompt_chance: there are no prompts to put texts into; give prompts.")

    def of_tables(self) -> dict[str, Any]:
        """The options that the tables depend on, as plain data."""
        return {k: v for k, v in asdict(self).items() if k not in _WHEN_DRAWN}

    @classmethod
    def reference(cls, **more: Any) -> TextOptions:
        """EntityNet's own: of what stands above an entity, its natural type alone."""
        return cls(natural_type_share=1.0, **more)


AltText = Literal["", "alt", "noalt"]


@dataclass(frozen=True, kw_only=True)
class TextFilter:
    """Which queries count; one that is blocked gives no texts.

    An image goes if ``any`` of its queries is blocked, or if ``all`` are. EntityNet's LivingThings
    is ``all`` with ``keep_roots`` or with its own list of hashes (docs/texts.md).

    Raises UserError where a value is none that there is.
    """

    op: Literal["any", "all"] = "all"
    skip_types: tuple[str, ...] = ()  # name, alias, attribute_type, attribute_name
    skip_engines: tuple[str, ...] = ()  # google, bing: EntityNet's skip_apis
    skip_query_sources: tuple[str, ...] = ()  # who wrote it: wikidata, llm:<model>
    keep_roots: tuple[str, ...] = ()  # queries whose entity has none of these are blocked
    skip_roots: tuple[str, ...] = ()  # ... that has one of these
    keep_lists: tuple[str, ...] = ()  # files of query hashes: what stands in none is blocked
    skip_lists: tuple[str, ...] = ()  # ... what stands in one (EntityNet's query_list-*.json)
    #: Who found the image (commons-p18, url-list, …): what only these say is no alt text, and what
    #: only these found shows nothing.
    skip_sources: tuple[str, ...] = ()
    skip_alt_text: AltText = ""  # alt: images that have an alt text go; noalt: that have none

    def __post_init__(self) -> None:
        _check_among("op", [self.op], ("any", "all"))
        _check_among("skip_types", self.skip_types, QUERY_TYPES)
        _check_among("skip_engines", self.skip_engines, ENGINES)
        _check_among("skip_alt_text", [self.skip_alt_text], get_args(AltText))
        for name in ("keep_roots", "skip_roots"):
            for id_ in getattr(self, name):
                if not is_entity_id(id_):
                    raise _wrong(name, id_, "items such as Q729")

    def is_about_queries(self) -> bool:
        """Whether it blocks queries, whatever the image."""
        return any(
            (
                self.skip_types, self.skip_engines, self.skip_query_sources, self.keep_roots,
                self.skip_roots, self.keep_lists, self.skip_lists,
            )
        )  # fmt: skip


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise _wrong(name, value, "a share from 0 to 1")


def _check_weight(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise _wrong(name, value, "a weight of 0 or more")


def _check_among(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise _wrong(name, value, f"one of {', '.join(filter(None, known))}")


def _wrong(name: str, value: object, wanted: str) -> UserError:
    return UserError(f"{name}: {value!r} is not {wanted}.")
