"""How often natural types and visuality are right, on items that were judged one by one.

    SPARQLESS_REAL_DUMP=real-wikidata.json.bz2 python -m benchmarks judged

``judged.tsv`` says how its items were drawn and judged, and what it doesn't show. The items are in
a file of real entities, which isn't part of the project, and in the bundled sample; where a class
above an item is in neither, the rules stop there, so that scores are given beside the share that
any rule could reach.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks import report
from benchmarks.options import Options
from etl.entity import Record
from etl.ingest import ingest
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.plan import Options as IngestOptions
from etl.sample import write_dump
from etl.store import EntityStore
from graph.above import Nodes
from graph.natural_types import NaturalTypes
from graph.recipe import load
from graph.visuality import marks_of, visuality

TABLE = Path(__file__).with_name("judged.tsv")
PAGE = Path(__file__).parents[1] / "docs" / "types.md"

_REAL = "SPARQLESS_REAL_DUMP"
_SPLITS = ("tune", "held")


@dataclass(frozen=True)
class Judged:
    """An item and what somebody thinks of it."""

    id: str
    visual: str  # yes, no, unsure
    types: tuple[str, ...]  # best first
    split: str


@dataclass(frozen=True)
class Told:
    """What the rules say of it."""

    judged: Judged
    visual: bool
    visual_reason: str
    type: str | None
    type_name: str | None
    within_reach: bool  # an acceptable type stands above it, with a name


def judged(table: Path = TABLE) -> Iterator[Judged]:
    """Items of the table."""
    with table.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield Judged(row["id"], row["visual"], tuple(row["types"].split()), row["split"])


class _Both:
    """The real entities and, for ids that they lack, the sample's: as a store to walk up in."""

    def __init__(self, stores: Sequence[EntityStore]) -> None:
        self._stores = stores

    def get(self, entity_id: str) -> Record | None:
        return next((r for store in self._stores if (r := store.get(entity_id))), None)

    def resolve(self, entity_id: str) -> str:
        return entity_id


def measure(options: Options) -> dict[str, Any]:
    """Scores by split, and of what is wrong each item with the reason."""
    real = os.environ.get(_REAL)
    if not real:
        raise SystemExit(f"judged: set {_REAL} to the file of real entities.")
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder, "sample.json.gz")
        write_dump(sample)
        paths = [_store(dump, Path(folder, name)) for dump, name in ((real, "r"), (sample, "s"))]
        with EntityStore(paths[0]) as first, EntityStore(paths[1]) as second:
            told = list(_told(cast(EntityStore, _Both([first, second]))))
    return {
        "splits": {
            split: _scores([t for t in told if t.judged.split == split]) for split in _SPLITS
        },
        "wrong": [_wrong(t) for t in told if t.judged.split == "tune" and _is_wrong(t)],
    }


def _store(dump: str | Path, path: Path) -> Path:
    kept = Kept(DEFAULT_LANGUAGES, read_properties())
    ingest((str(dump),), path, IngestOptions(kept, workers=0, quiet=True))
    return path


def _told(store: EntityStore) -> Iterator[Told]:
    recipe = load("entitynet")
    nodes = Nodes(store, recipe.parts()[0].labels)
    types, known = NaturalTypes(nodes, recipe.root_ids()), marks_of(nodes)
    for item in judged():
        node = nodes.get(item.id)
        if node is None:
            continue
        seen, chosen = visuality(node, nodes, known), types.of(node, ())
        above = {
            id for layer in nodes.superclasses((*node.kinds, *node.parent_taxa)) for id in layer
        }
        above |= _taxa_above(nodes, item.id)
        named = {id for id in above if (other := nodes.get(id)) and other.name is not None}
        yield Told(
            item,
            seen.visual,
            seen.reason,
            chosen.id if chosen else None,
            chosen.name if chosen else None,
            not named.isdisjoint(item.types),
        )


def _taxa_above(nodes: Nodes, id: str) -> set[str]:
    met: set[str] = set()
    layer = {id}
    while layer:
        layer = {p for i in layer if (node := nodes.get(i)) for p in node.parent_taxa} - met
        met |= layer
    return met


def _scores(told: list[Told]) -> dict[str, float]:
    sure = [t for t in told if t.judged.visual != "unsure"]
    yes = [t for t in sure if t.judged.visual == "yes"]
    said = [t for t in sure if t.visual]
    right = [t for t in said if t.judged.visual == "yes"]
    typed = [t for t in told if t.judged.types]
    named = [t for t in typed if t.type is not None]
    good = [t for t in named if t.type in t.judged.types]
    reach = [t for t in typed if t.within_reach]
    return {
        "visuality_items": len(sure),
        "visuality_precision": len(right) / len(said),
        "visuality_recall": len(right) / len(yes),
        "visuality_right": sum(t.visual == (t.judged.visual == "yes") for t in sure) / len(sure),
        "visuality_if_always": len(yes) / len(sure),
        "type_items": len(typed),
        "type_precision": len(good) / len(named),
        "type_recall": len(good) / len(typed),
        "type_within_reach": len(reach),
        "type_recall_within_reach": sum(t.type in t.judged.types for t in reach) / len(reach),
        "type_best_within_reach": sum(t.type == t.judged.types[0] for t in reach) / len(reach),
    }


def _is_wrong(told: Told) -> bool:
    verdict = told.judged.visual
    visual_wrong = verdict != "unsure" and told.visual != (verdict == "yes")
    type_wrong = told.within_reach and told.type not in told.judged.types
    return visual_wrong or type_wrong


def _wrong(told: Told) -> dict[str, Any]:
    return {
        "id": told.judged.id,
        "visual": told.judged.visual,
        "told": told.visual,
        "reason": told.visual_reason,
        "types": list(told.judged.types),
        "type": told.type,
        "name": told.type_name,
        "within_reach": told.within_reach,
    }


_ROWS = (
    ("visuality: items judged yes or no", "visuality_items"),
    ("  precision: told visual and judged so", "visuality_precision"),
    ("  recall: judged visual and told so", "visuality_recall"),
    ("  right, of all", "visuality_right"),
    ("  right if everything were visual", "visuality_if_always"),
    ("natural type: items with one", "type_items"),
    ("  precision: acceptable, of those told", "type_precision"),
    ("  recall: acceptable, of all", "type_recall"),
    ("  items with an acceptable one above that has a name", "type_within_reach"),
    ("  acceptable, of these", "type_recall_within_reach"),
    ("  the best one, of these", "type_best_within_reach"),
)


def tables(figures: dict[str, Any]) -> str:
    """The scores as markdown."""
    splits = figures["splits"]
    return report.table(
        ["", *_SPLITS],
        [[what, *(_shown(splits[split][key]) for split in _SPLITS)] for what, key in _ROWS],
    )


def _shown(figure: float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.3f}"
