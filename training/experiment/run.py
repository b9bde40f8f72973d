"""All of it, from the sample's graph to a table and a picture.

    OUT/plan.toml, graph.json, pictures/, graph/, images/LEVEL/, runs/, results.json, results.md,
    results.svg, manifest.json

Each part is kept as it is done, so that a killed experiment goes on where it was.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import ujson

from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    digests,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.progress import Progress
from etl.writing import locked
from graph.read import manifest_of
from training.experiment.images import draw, held_out, make_shards, write_list
from training.experiment.knowledge import write_knowledge
from training.experiment.plan import Plan, load
from training.experiment.report import draw as draw_results
from training.experiment.report import rows, table
from training.experiment.runs import run_all
from training.experiment.scores import chances
from training.experiment.world import Thing, read_things, shots

_PLAN: Final = "plan.toml"
_GRAPH: Final = "graph.json"
_RESULTS: Final = ("results.json", "results.md", "results.svg")


def experiment(graph: Path, out: Path, plan_file: Path, *, workers: int, quiet: bool) -> list[str]:
    """Does what isn't done of the experiment; the tables, in Markdown.

    Raises UserError where ``graph`` isn't the sample's, ``out`` has another plan or was made of
    another graph, and as fetching, packing and training do.
    """
    plan = load(plan_file)
    things = read_things(graph)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "--out"):
        if (out / MANIFEST).exists():
            _check(out, plan_file, graph)
            return (out / "results.md").read_text("utf-8").splitlines()
        _begin(out, plan_file, graph)
        started = time.perf_counter()
        write_knowledge(graph, out / "graph", things)
        counts = _make_images(out, plan, things, workers, quiet=quiet)
        made = time.perf_counter()
        scored = run_all(
            plan, things, out / "images", out / "graph", out / "runs", workers, quiet=quiet
        )
        lines = list(table(scored, plan))
        found = {
            "plan": plan_file.read_text("utf-8"),
            "levels": counts,
            "chance": chances(things),
            "rows": list(rows(scored, plan)),
            "runs": {one.run.name: one.scores for one in scored},
        }
        write_json(out / "results.json", found)
        (out / "results.md").write_text("\n".join(lines) + "\n", "utf-8")
        draw_results(scored, plan, chances(things), out / "results.svg")
        write_manifest(
            out,
            {
                "step": "experiment",
                "versions": tool_versions(),
                "outputs": digests(out, _RESULTS, quiet=True),
                # of this run alone: of one that was killed before, less
                "seconds": {
                    "images": round(made - started, 1),
                    "runs": round(time.perf_counter() - made, 1),
                },
            },
        )
    return lines


def _begin(out: Path, plan_file: Path, graph: Path) -> None:
    if (out / _PLAN).exists():
        _check(out, plan_file, graph)
    else:
        write_json(out / _GRAPH, _digests_of(graph))
        (out / _PLAN).write_bytes(plan_file.read_bytes())


def _check(out: Path, plan_file: Path, graph: Path) -> None:
    """Refuses to go on with another plan or graph than it was begun with."""
    for what, differs in (
        (f"plan than {plan_file}", load(out / _PLAN) != load(plan_file)),
        (f"graph than {graph}", ujson.loads((out / _GRAPH).read_bytes()) != _digests_of(graph)),
    ):
        if differs:
            raise UserError(
                f"{out} was begun with another {what}: choose another --out, or remove it and "
                "begin anew."
            )


def _digests_of(graph: Path) -> dict[str, str]:
    """Of the tables of a data set: a graph that was built again is the same."""
    return {name: one["sha256"] for name, one in manifest_of(graph)["outputs"].items()}


def _make_images(
    out: Path, plan: Plan, things: list[Thing], workers: int, *, quiet: bool
) -> dict[str, dict[str, int]]:
    """Shards for each level; how many pictures there are, and with what noise."""
    all_shots = list(shots(things, plan.world))
    pictures = draw(out / "pictures", all_shots, workers, quiet=quiet)
    test = held_out(pictures, plan.world.test)
    counts = {}
    with Progress("packing", len(plan.sweep.levels), unit=" levels", quiet=quiet) as progress:
        for level in plan.sweep.levels:
            images = out / "images" / level.name
            images.mkdir(parents=True, exist_ok=True)
            list_ = images.with_name(f"{level.name}.jsonl")
            said = write_list(list_, all_shots, things, test, out / "graph", plan, level)
            shards = make_shards(out / "pictures", out / "graph", images, list_, plan, workers)
            counts[level.name] = said | _packed(shards)
            progress.add(1)
    return counts


def _packed(manifest: dict[str, Any]) -> dict[str, int]:
    counts = manifest["counts"]
    return {
        "train": counts["splits"]["train"]["images"],
        "test": counts["splits"]["test"]["images"],
        "merged": counts["merged"]["pixels"] + counts["merged"]["alike"],
    }
