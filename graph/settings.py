"""What a recipe says of a data set besides its roots: attributes, queries, images.

    rules = "reference-world"     # sparqless (if left out), reference-world, reference-living

    [attributes]
    inherit = 2                   # steps up to an ancestor that attributes are taken from; 0: none
    values = 10                   # of one property of one entity, the most linked
    models = ["gpt-4o"]           # whose answers under enrich/ count more, best first

    [queries]
    types = ["name", "alias", "attribute_type", "attribute_name"]
    engines = ["google", "bing"]  # a query for each; left out: one that fits any source
    budget = 92000                # attribute queries in all
    seed = 42                     # which of them

    [images]
    below = ["P279", "P171"]      # a picture of what stands below an entity by these statements ...
    distance = 0                  # ... up to so many steps shows the entity, too; 0: only its own
    per_entity = 100              # images of one entity from one source, the best; 0: all
    visual = true                 # only of entities that a camera can show
    seed = 42                     # which of equally good ones

Plain data, imported by what must start fast: no arrays here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

#: The recipes that ship, and the tables beside them.  A path, because importlib.resources takes
#: 6 ms to import.
RECIPES: Final = Path(__file__).with_name("recipes")

#: Whose rules find natural types and attributes: ours, or one of the reference's two halves.
Rules = Literal["sparqless", "reference-world", "reference-living"]
RULES: Final[tuple[Rules, ...]] = get_args(Rules)

#: What a query is made of; EntityNet's kinds are noun, attr (attribute and type) and attrnoun.
QueryType = Literal["name", "alias", "attribute_type", "attribute_name"]
QUERY_TYPES: Final[tuple[QueryType, ...]] = get_args(QueryType)

#: Search engines that the reference wrote queries for, with fields of their own.
Engine = Literal["google", "bing"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)

#: `--max_queries` of EntityNet's world_merge_attributes.py, and the seed of its shuffle.
BUDGET: Final = 92_000
SEED: Final = 42


@dataclass(frozen=True)
class AttributeSettings:
    """The recipe's table `[attributes]`."""

    inherit: int = 2
    values: int = 10
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuerySettings:
    """The recipe's table `[queries]`; no engine stands for one query that fits any source."""

    types: tuple[QueryType, ...] = QUERY_TYPES
    engines: tuple[Engine, ...] = ()
    budget: int = BUDGET
    seed: int = SEED


@dataclass(frozen=True)
class ImageSettings:
    """The recipe's table `[images]`, which `sparqless images find` reads.

    EntityNet's 32.7 M images for 428,175 queries are 77 a query (reference, section 5): the cap is
    the round number above.
    """

    below: tuple[str, ...] = ("P279", "P171")
    distance: int = 0
    per_entity: int = 100
    visual: bool = True
    seed: int = SEED
