"""What is said of one entity: every root's verdict, with the chain that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.derived import Derived


@dataclass(frozen=True)
class Chain:
    """A chain of statements from an entity to the item that it leads to.

    One more id than properties; `^P1672` is a statement of the item that follows about the one
    before it.  Names are None where the store has none.
    """

    ids: tuple[str, ...]
    names: tuple[str | None, ...]
    properties: tuple[str, ...]
    property_names: tuple[str | None, ...]


@dataclass(frozen=True)
class Verdict:
    """What one root of one recipe says of an entity."""

    root: str
    root_name: str | None
    recipe: str  # the part of the recipe that names the root
    # None where only a build can say: it meets every rule, but `limit` keeps the most linked ones
    member: bool | None
    # the rule that decided: any, and (of a condition of `any`), minus, require, labels,
    # min_sitelinks, limit; "" for a member, "unknown" where only the built graph was asked
    rule: str
    reason: str  # the same as a sentence
    chain: Chain | None  # the evidence, of a membership or of what a `minus` takes away
    via: str | None  # the branch of `any`, or the condition of `minus`, that the chain matches


@dataclass(frozen=True)
class Explanation:
    """Every root's verdict on one entity, in the recipe's order."""

    id: str
    name: str | None
    verdicts: tuple[Verdict, ...]
    sitelinks: int | None = None  # None where a built graph that lacks the entity was asked
    # ids that were asked for or stand in the recipe, and what they were merged into
    merged: Mapping[str, str] = field(default_factory=dict)
    # what follows from its being in a data set; None where no root may have it
    derived: Derived | None = None
