"""A store and a recipe -> a graph data set, stage by stage.

    sparqless graph --store data/store --recipe living --out data/graph/living

The rows depend on the store's contents, the recipe and the answers of language models alone: two
builds are equal byte for byte.  Every stage has a key, a digest of all that its bytes depend on.
One whose key and files are those of the data set that stands there isn't run again: a change of
the budget makes queries anew, a comment in the recipe nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import etl
from etl.entity import numeric_id
from etl.manifest import (
    MANIFEST,
    digest_of_code,
    digest_of_data,
    digests,
    read_manifest,
    tool_versions,
)
from etl.progress import Progress
from etl.store import REDIRECTS, EntityStore, contents_of
from graph.above import Nodes
from graph.attributes import Attribute, of_model
from graph.checks import emptied, refuse_if_strict, warnings_of
from graph.directory import ENRICH, building, check_out, publish
from graph.enrich.answers import digest_of_answers, models_that_answered, read_attributes
from graph.enrich.prompts import ATTRIBUTES, TYPES, VISUALITY
from graph.entities import write_entities
from graph.facts import Facts
from graph.gathered import Gathered, gather, hierarchy_of, rows_of, write_hierarchy
from graph.kinds import Kinds, read_answers
from graph.memberships import United
from graph.naming import check_naming, name_of
from graph.ontology import Ontology
from graph.quality import QUALITY_FILE, write_quality
from graph.quality import READ_OF_ENTITIES as QUALITY_READS
from graph.recipe import Recipe, check_store, followed, matches, merged_ids
from graph.records import check_walkable
from graph.settings import RECIPES
from graph.write_attributes import READ_OF_ENTITIES as ATTRIBUTES_READ
from graph.write_attributes import write_attributes
from graph.write_queries import write_queries

#: Version of what stands in a graph data set.
GRAPH_FORMAT: Final = 2


def build(
    store: Path,
    recipe: Recipe,
    out: Path,
    *,
    strict: bool = False,
    fresh: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate a recipe over a store and write the data set into the directory `out`.

    A finished data set that stands there is replaced when the new one is complete, and only then;
    what a change doesn't concern stays, unless `fresh`, and so does `enrich/`.  With `strict`,
    warnings are errors, but for ids that were merged.

    Returns
    -------
    The manifest: per root its name, the candidates, what every rule took away, what is kept and,
    where `limit` took some, the last one kept; counts of every table, warnings, seconds, digests of
    the outputs and of what of the store they come from, and by stage its key.

    Raises
    ------
    UserError : the recipe needs what the store did not keep; no root is in the store; a `minus`
        empties a root; `out` holds something else or another build is writing it.  Nothing has
        been written then.
    """
    started = time.perf_counter()
    check_out(out)
    with EntityStore(store) as entities:
        check_store(recipe, entities.manifest, entities.get)
        check_walkable(recipe.walked(), entities)
        check_naming(recipe.naming(), entities)
        merged = merged_ids(recipe, entities.resolve)
        written, recipe = recipe, followed(recipe, entities.resolve)
        facts = Facts(entities)
        warnings = [*warnings_of(recipe, facts, entities), *_silent_models(recipe, out)]
        refuse_if_strict(warnings, strict)
        # said, and no error: what a recipe means is known
        warnings += [
            f"{old} was merged into {new}: where the recipe names it, {new} is meant."
            for old, new in merged.items()
        ]
        with building(out) as directory:
            work = Work(entities, recipe, facts, out, directory, quiet)
            before = {} if fresh else _finished(out)
            stages = {}
            for stage in STAGES:
                stages[stage.name] = done = work.done(stage, before)
                refuse_if_strict(done["warnings"], strict)
                warnings += done["warnings"]
            manifest = {
                "step": "graph",
                "format": GRAPH_FORMAT,
                "versions": tool_versions(),
                "recipe": {"name": recipe.name, "texts": written.texts(), "merged": merged},
                "store": _origin(entities.manifest, recipe),
                "options": {"strict": strict},
                "counts": {k: v for s in stages.values() for k, v in s["counts"].items()},
                "warnings": warnings,
                "stages": stages,
                "outputs": work.outputs,
                "seconds": {
                    **{name: stage["seconds"] for name, stage in stages.items()},
                    "all": round(time.perf_counter() - started, 2),
                },
                "reused": work.reused,
            }
            publish(directory, out, work.made, manifest)
    return manifest


def _silent_models(recipe: Recipe, out: Path) -> list[str]:
    """Say which models a recipe names that have answered nothing: a name may be misspelt."""
    found = models_that_answered(out)
    return [
        f"the recipe's `models` has {model!r}, of which there are no answers in {out / ENRICH}."
        for model in recipe.attributes.models
        if model not in found
    ]


def _finished(out: Path) -> dict[str, Any]:
    """Return the manifest of the data set that stands in `out`, {} where none does."""
    if not (out / MANIFEST).exists():
        return {}
    manifest = read_manifest(out, "graph")
    return manifest if manifest.get("format") == GRAPH_FORMAT else {}


# --------------------------------------------------------------------------------------------------
# Stages
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One step of a build: what it writes, from what, and how."""

    name: str
    outputs: tuple[str, ...]
    depends: Callable[[Work], Any]  # plain data; what else the outputs depend on is in every key
    run: Callable[[Work], Made]


@dataclass(frozen=True)
class Made:
    """What a stage says of what it has written."""

    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass
class Work:
    """A build at work: what its stages read and write."""

    store: EntityStore
    recipe: Recipe
    facts: Facts
    out: Path
    directory: Path  # where new files are written
    quiet: bool
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the stages that are done
    made: list[str] = field(default_factory=list)  # new files, in the order they were written
    reused: list[str] = field(default_factory=list)  # names of stages that weren't run

    def file(self, name: str) -> Path:
        """Return where an output of a stage that is done stands now."""
        return (self.directory if name in self.made else self.out) / name

    def sha256(self, name: str) -> str:
        """Return the digest of an output of a stage that is done."""
        return str(self.outputs[name]["sha256"])

    def done(self, stage: Stage, before: Mapping[str, Any]) -> dict[str, Any]:
        """Run a stage, or find that `before`, a manifest, has it already; return its record."""
        key = digest_of_data(
            [tool_versions(), _code(), stage.name, self.contents, stage.depends(self)]
        )
        earlier = before.get("stages", {}).get(stage.name, {})
        if earlier.get("key") == key and self._stands(stage, before["outputs"]):
            self.reused.append(stage.name)
            return dict(earlier)
        started = time.perf_counter()
        made = stage.run(self)
        self.made += stage.outputs
        self.outputs |= digests(self.directory, stage.outputs, quiet=self.quiet)
        return {
            "key": key,
            "counts": made.counts,
            "warnings": made.warnings,
            "seconds": round(time.perf_counter() - started, 2),
        }

    def columns(self, name: str, columns: Sequence[str]) -> str:
        """Digest some columns of an output: what reads these alone depends on no others."""
        digest, file = hashlib.sha256(), pq.ParquetFile(self.file(name))
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(columns)).combine_chunks()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
                writer.write_table(table.replace_schema_metadata())
            digest.update(sink.getvalue())
        return digest.hexdigest()

    def _stands(self, stage: Stage, outputs: Mapping[str, Any]) -> bool:
        """Say whether a stage's files are those of the manifest, and take them over if so."""
        if not all((self.out / name).is_file() for name in stage.outputs):
            return False
        found = digests(self.out, stage.outputs, quiet=self.quiet)
        if any(found[name] != outputs.get(name) for name in stage.outputs):
            return False
        self.outputs |= found
        return True

    @cached_property
    def contents(self) -> dict[str, Any]:
        """What identifies the store's contents, redirects included."""
        return contents_of(self.store.manifest)

    def progress(self, what: str, total: int, unit: str) -> Progress:
        return Progress(what, total, unit=unit, quiet=self.quiet)


@cache
def _code() -> str:
    """Digest the code that builds, all of it.

    Whether a stage runs it or not: a build too many costs minutes, one too few is wrong.
    """
    return digest_of_code(Path(__file__).parent, Path(etl.__file__).parent)


def _table(name: str) -> str:
    """Digest a table that ships beside the recipes."""
    return hashlib.sha256((RECIPES / name).read_bytes()).hexdigest()


# --- entities


def _entities_depend(work: Work) -> Any:
    return {
        "recipe": [
            [part.name, part.labels, part.rules, [asdict(root) for root in part.roots]]
            for part in work.recipe.parts()
        ],
        "edges": _origin(work.store.manifest, work.recipe)["outputs"],
        "visuality": _table("visuality.tsv"),
        "answers": _answers(work, TYPES.name, VISUALITY.name),
    }


def _answers(work: Work, *tasks: str) -> Any:
    """What a stage depends on that takes in answers of language models: them and their order.

    None where there are none: then it doesn't matter whose would count more.
    """
    found = [digest_of_answers(work.out, task) for task in tasks]
    return [found, work.recipe.attributes.models] if any(found) else None


def _entities(work: Work) -> Made:
    recipe = work.recipe
    ontology = Ontology.load(
        Path(work.store.path), recipe.walked(), including=_named_items(recipe), quiet=work.quiet
    )
    graph = gather(recipe, ontology, work.facts, work.quiet)
    _name_roots(graph, work.store)
    del ontology
    rows = United.of(graph.memberships)
    hierarchy = hierarchy_of(graph)
    with work.progress("writing", len(rows.order) + len(hierarchy[0]), " rows") as progress:
        rows.write(work.directory / "memberships.parquet", list(graph.via), progress.add)
        file = work.directory / "hierarchy.parquet"
        write_hierarchy(file, graph.ids, hierarchy, progress.add)
    entities = rows_of(graph, rows)
    answers = read_answers(work.out, recipe.attributes.models)
    kinds = [
        Kinds(Nodes(work.store, part.labels), part, recipe.root_ids(), answers)
        for part in recipe.parts()
    ]
    with work.progress("writing", len(entities.ids), " entities") as progress:
        file = work.directory / "entities.parquet"
        write_entities(file, work.store, work.facts, entities, kinds, progress.add)
    counts = {"entities": len(entities.ids), "roots": graph.counts}
    return Made(counts, emptied(graph.counts))


# --- attributes


def _attributes_depend(work: Work) -> Any:
    settings, queries = work.recipe.attributes, work.recipe.queries
    answers = _answers(work, ATTRIBUTES.name)
    return {
        "entities": work.columns("entities.parquet", ATTRIBUTES_READ),
        "settings": [settings.inherit, settings.values],
        "parts": [[part.name, part.labels, part.rules] for part in work.recipe.parts()],
        "rules": _table("attributes.tsv"),
        # a budget for what models say is kept to where they are taken in
        "answers": answers
        and [
            answers,
            queries.budget,
            queries.seed,
            settings.models,
            work.columns("entities.parquet", ["sitelinks"]),
        ],
    }


def _attributes(work: Work) -> Made:
    entities = work.file("entities.parquet")
    with work.progress("attributes", _rows(entities), " entities") as progress:
        counts = write_attributes(
            work.directory / "attributes.parquet",
            entities,
            work.store,
            work.facts,
            work.recipe,
            _answered(work, entities),
            progress.add,
        )
    return Made({"attributes": counts})


def _answered(work: Work, entities: Path) -> dict[str, list[Attribute]]:
    """Return the attributes that language models gave, by entity, as many as the budget allows."""
    settings = work.recipe.queries
    found: dict[str, list[Attribute]] = {}
    if not _answers(work, ATTRIBUTES.name):
        return found
    for given in read_attributes(
        work.out,
        _most_linked_first(entities),
        work.recipe.attributes.models,
        budget=settings.budget,
        seed=settings.seed,
    ):
        attribute = of_model(given.category, given.attribute, given.query, given.model)
        found.setdefault(given.entity, []).append(attribute)
    return found


def _most_linked_first(entities: Path) -> list[str]:
    table = pq.read_table(entities, columns=["id", "sitelinks"])
    # rows stand in the order of their ids, so a stable sort breaks ties by id
    order = np.argsort(-table.column("sitelinks").to_numpy().astype(np.int64), kind="stable")
    ids: list[str] = table.column("id").take(pa.array(order)).to_pylist()
    return ids


# --- queries


def _queries_depend(work: Work) -> Any:
    return {
        "entities": work.sha256("entities.parquet"),
        "attributes": work.sha256("attributes.parquet"),
        "settings": asdict(work.recipe.queries),
        "rules": [[part.name, part.rules] for part in work.recipe.parts()],
    }


def _queries(work: Work) -> Made:
    entities = work.file("entities.parquet")
    with work.progress("queries", 2 * _rows(entities), " entities") as progress:
        counts = write_queries(
            work.directory,
            entities,
            work.file("attributes.parquet"),
            work.recipe.queries,
            {part.name: part.rules for part in work.recipe.parts()},
            progress.add,
        )
    return Made({"queries": counts})


# --- quality


def _quality_depends(work: Work) -> Any:
    outputs = work.store.manifest["outputs"]
    return {
        "entities": work.columns("entities.parquet", QUALITY_READS),
        "tables": [work.sha256(f"{name}.parquet") for name in ("memberships", "hierarchy")],
        "edges": [outputs.get(f"edges/{p}.parquet") for p in ("P31", "P279", "P171")],
        "nodes": outputs["nodes.parquet"],
        "labels": [part.labels for part in work.recipe.parts()],
        "roots": work.recipe.root_ids(),
    }


def _quality(work: Work) -> Made:
    counts = write_quality(
        work.directory / QUALITY_FILE,
        work.file("entities.parquet").parent,  # where its memberships and hierarchy are, too
        work.store,
        work.facts,
        work.recipe,
        quiet=work.quiet,
    )
    return Made({"quality": counts})


def _rows(file: Path) -> int:
    return int(pq.ParquetFile(file).metadata.num_rows)


#: In order: each may depend on the outputs of those before it.
STAGES: Final = (
    Stage(
        "entities",
        ("entities.parquet", "memberships.parquet", "hierarchy.parquet"),
        _entities_depend,
        _entities,
    ),
    Stage("attributes", ("attributes.parquet",), _attributes_depend, _attributes),
    Stage("queries", ("queries.parquet", "queries.jsonl"), _queries_depend, _queries),
    Stage("quality", (QUALITY_FILE,), _quality_depends, _quality),
)


def _named_items(recipe: Recipe) -> list[int]:
    """Return the items that roots and conditions name: nodes even where no edge touches them."""
    ids = {root.id for root in recipe.all_roots()}
    ids |= {id for root in recipe.all_roots() for match, _ in matches(root) for id in match.of}
    return sorted(numeric_id(id) for id in ids)


def _origin(store: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what a graph's manifest says of its store: enough to tell whether it is the same."""
    read = [
        "nodes.parquet",
        REDIRECTS,
        *(f"edges/{property_id}.parquet" for property_id in recipe.walked()),
    ]
    outputs = store["outputs"]
    return {
        "contents": store["contents"],
        "outputs": {name: outputs[name] for name in read if name in outputs},
        "damage": store["damage"],
        "limit": store["plan"]["limit"],
        "inputs": store["plan"]["inputs"],
    }


def _name_roots(graph: Gathered, store: EntityStore) -> None:
    """Put the roots' names beside their counts: a root need not be an entity of the graph."""
    labels = {part.name: part.labels for part in graph.recipe.parts()}
    for counts in graph.counts:
        record = store.get(counts["root"])
        named = name_of(record, labels[counts["recipe"]]) if record else None
        counts["name"] = named[0] if named else None
