"""EntityNet's question on one's own shards: alt texts alone, the graph's alone, or half and half.

    ablate(Ablation("vit-b-32", images, graph, Path("data/runs/living-mixes")))

    OUT/mix-seed-0/          a run for each mix and seed (training/train.py), with its evaluations
    OUT/results.json, .md, .svg

Each run is evaluated on what the shards hold out; evaluations that were added since by
``sparqless evaluate --run OUT/mix-seed-0 --folders …`` are in the tables, too, once every run has
them. What is done stands: the same command goes on where it was, and makes the tables anew.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from download.figures import save
from etl.engine import default_workers
from etl.errors import UserError
from etl.manifest import write_json
from training.config import load
from training.data_index import shards_in, shards_manifest
from training.evaluate import HELD_OUT, Options
from training.evaluation_report import Saving, default_name, evaluate_and_keep, kept
from training.experiment.report import ahead, bars, cell, spread
from training.inputs import Shards
from training.meanwhile import judge_of
from training.processes import processes
from training.templates import templates
from training.train import Ended, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Chances of an alt text where an image has one (EntityNet, table 2).
MIXES: Final[Mapping[str, float]] = MappingProxyType({"alt": 1.0, "mix": 0.5, "graph": 0.0})

#: Of a set's results: what it is called, and where it stands.
_MEASURES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "acc1": ("classification", "score", "acc1"),
    "acc5": ("classification", "score", "acc5"),
    "image to text R@1": ("retrieval", "i2t", "R@1"),
    "text to image R@1": ("retrieval", "t2i", "R@1"),
})  # fmt: skip


@dataclass(frozen=True)
class Ablation:
    """What to do. ``config`` and ``changes`` as of `sparqless train`; ``seeds``: 0, 1, … of each
    mix."""

    config: str
    images: str
    graph: Path
    out: Path
    changes: tuple[str, ...] = ()
    seeds: int = 3
    templates: str = "openai"
    fresh: bool = False
    quiet: bool = False


class Row(NamedTuple):
    """A measure of one set of images: per cent for each mix, by seed."""

    measure: str
    values: dict[str, list[float]]


def ablate(
    asked: Ablation, warn: Callable[[str], None], say: Callable[[str], None] = lambda _: None
) -> tuple[Ended, list[Row]]:
    """Does the runs that aren't done; how the last of them ended, and the rows of the tables.

    ``say`` is told which run it is at.

    Where a run was stopped by a signal no other is begun, and there are no rows. Of several
    processes (torchrun) the first evaluates, writes and has the rows.

    Raises UserError as training and evaluating do.
    """
    _check(asked)
    with processes():
        for seed in range(asked.seeds):
            for number, mix in enumerate(MIXES, 1 + seed * len(MIXES)):
                say(f"run {number} of {asked.seeds * len(MIXES)}: {mix}, seed {seed}")
                ended = _run(asked, mix, seed, warn)
                if ended.how == "stopped" or ended.signal:
                    return ended, []
    if not ended.is_first:
        return ended, []
    found = list(rows(asked.out, asked.seeds))
    _write(asked, found)
    return ended, found


def _check(asked: Ablation) -> None:
    """Refuses what would be noticed when the first run has been trained only.

    Raises UserError.
    """
    for change in asked.changes:
        key = change.partition("=")[0].strip()
        if key in ("text.alt_text_chance", "train.seed", "text.pair"):
            raise UserError(f"--set {key}: that is what the runs of an ablation differ in.")
    if load(asked.config, asked.changes).text.get("pair"):
        raise UserError(f"{asked.config}: text.pair gives both texts to all mixes; leave it out.")
    templates(asked.templates)
    shards = shards_in(asked.images)
    splits = shards_manifest(shards)["counts"]["splits"]
    if not any(splits[split]["images"] for split in HELD_OUT):
        raise UserError(
            f"{shards} has no image in {' or '.join(HELD_OUT)} to evaluate on: pack with a larger "
            "--val or --test."
        )


def folder_of(out: Path, mix: str, seed: int) -> Path:
    """Of a run."""
    return out / f"{mix}-seed-{seed}"


def _run(asked: Ablation, mix: str, seed: int, warn: Callable[[str], None]) -> Ended:
    run = folder_of(asked.out, mix, seed)
    own = (f"text.alt_text_chance={MIXES[mix]}", f"train.seed={seed}")
    config = load(asked.config, [*asked.changes, *own])
    source = Shards(config, asked.images, asked.graph, quiet=asked.quiet, warn=warn)
    judge = judge_of(source, config.evaluate, warn)
    ended = train(config, source, run, judge=judge, fresh=asked.fresh, quiet=asked.quiet, warn=warn)
    options = Options(
        shards=source.shards,
        splits=HELD_OUT,
        graph=asked.graph,
        templates=asked.templates,
        cache=source.cache,
        workers=default_workers(),
        quiet=asked.quiet,
    )
    if ended.how != "stopped" and ended.is_first and default_name(options) not in kept(run):
        for warning in evaluate_and_keep(None, None, options, Saving(run=run)).warnings:
            warn(warning)
    return ended


def rows(out: Path, seeds: int) -> Iterator[Row]:
    """What all runs were evaluated on alike, measure by measure."""
    found = {
        (mix, seed): dict(_figures(folder_of(out, mix, seed)))
        for mix in MIXES
        for seed in range(seeds)
    }
    common = set.intersection(*(set(one) for one in found.values()))
    for measure in (name for name in found[next(iter(MIXES)), 0] if name in common):
        yield Row(
            measure,
            {mix: [100 * found[mix, seed][measure] for seed in range(seeds)] for mix in MIXES},
        )


def _figures(run: Path) -> Iterator[tuple[str, float]]:
    for name, evaluation in kept(run).items():
        for one in evaluation["sets"]:
            for measure, (part, *way) in _MEASURES.items():
                at: Any = one[part]
                if at is not None:
                    for key in way:
                        at = at[key]
                    yield f"{name}, {one['name']}: {measure}", at


def table(found: Sequence[Row], seeds: int) -> Iterator[str]:
    """Markdown: mean ± standard deviation over seeds; bold where all seeds are above all others."""
    yield f"| | {' | '.join(MIXES)} |"
    yield f"|---{'|---' * len(MIXES)}|"
    for row in found:
        best = ahead(row.values)
        cells = (
            cell(statistics.fmean(own), spread(own), is_ahead=mix == best)
            if seeds > 1
            else f"{own[0]:.1f}"
            for mix, own in row.values.items()
        )
        yield f"| {row.measure} | {' | '.join(cells)} |"
    yield ""
    if seeds == 1:
        yield "Per cent of one seed each, which says nothing of chance."
        return
    yield (
        f"Per cent, mean ± standard deviation of {seeds} seeds. **Bold**: all seeds of the mix are "
        "above all of the others."
    )


def _write(asked: Ablation, found: Sequence[Row]) -> None:
    out = asked.out
    told = {"config": asked.config, "changes": list(asked.changes), "seeds": asked.seeds}
    write_json(out / "results.json", {**told, "rows": [row._asdict() for row in found]})
    lines = "".join(f"{line}\n" for line in table(found, asked.seeds))
    (out / "results.md").write_text(lines, "utf-8")
    if found:
        save(lambda: _drawn(found), out / "results.svg")


def _drawn(found: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure((max(5.0, 1.2 * len(found)), 4.5), layout="constrained")
    axes = figure.subplots()
    bars(
        axes,
        [row.measure.replace(", ", "\n") for row in found],
        {mix: [row.values[mix] for row in found] for mix in MIXES},
    )
    axes.set_ylabel("%")
    axes.margins(y=0.2)
    axes.legend(frameon=False, loc="upper left", ncols=len(MIXES))
    return figure
