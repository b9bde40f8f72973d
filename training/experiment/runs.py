"""The runs: each mix, at each level of noise, with each seed; a folder each, as `train` leaves it.

    RUNS/alt-wrong-20-missing-20-seed-1/       a run (training/train.py): metrics, model …
    RUNS/alt-wrong-20-missing-20-seed-1.json   its scores, written last: it is done

A killed experiment goes on with the runs that have no scores; of these one that was under way goes
on from its last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.engine import Pool
from etl.errors import UserError
from etl.manifest import discard, write_json
from etl.progress import Progress, Tick
from training.experiment.plan import Level, Plan
from training.experiment.world import Thing

_HERE: Final = Path(__file__).parent


class Run(NamedTuple):
    """One of them. ``level`` is None where no alt text is drawn, so that all levels are one."""

    mix: str
    level: Level | None
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        level = f"-{self.level.name}" if self.level else ""
        return f"{self.mix}{level}-seed-{self.seed}"


class Scored(NamedTuple):
    """A run and its scores: measure → share."""

    run: Run
    scores: dict[str, float]


class _Job(NamedTuple):
    """What a worker process is told."""

    run: Run
    plan: Plan
    things: Sequence[Thing]
    images: Path  # of the run's level, or the base's
    graph: Path
    folder: Path  # of the run


def runs_of(plan: Plan) -> list[Run]:
    """All runs; those of the main table first, so that a look at half of them shows something."""
    levels = plan.sweep.levels
    base = levels[plan.sweep.base]
    found = []
    for level in (base, *(level for level in levels if level != base)):
        for mix, chance in plan.train.mixes.items():
            if chance or level == base:
                own = level if chance else None
                found += [Run(mix, own, seed) for seed in plan.train.seeds]
    return found


def run_all(
    plan: Plan,
    things: Sequence[Thing],
    images: Path,
    graph: Path,
    out: Path,
    workers: int,
    *,
    quiet: bool,
) -> list[Scored]:
    """Does the runs that aren't done, so many at a time with a thread each; scores of all.

    ``images`` has a directory of images for each level, by its name.

    Raises UserError where one can't be done; what is done stands.
    """
    out.mkdir(parents=True, exist_ok=True)
    base = plan.sweep.levels[plan.sweep.base]
    jobs = [
        _Job(run, plan, things, images / (run.level or base).name, graph, out / run.name)
        for run in runs_of(plan)
    ]
    left = [job for job in jobs if not _scores_of(job).exists()]
    os.environ["OMP_NUM_THREADS"] = "1"  # each worker is one of the cores
    done = (len(jobs) - len(left)) * plan.train.steps
    total = len(jobs) * plan.train.steps
    with (
        Pool(workers) as pool,
        Progress("training", total, done=done, unit=" steps", quiet=quiet) as progress,
    ):
        for _ in pool.run(_done, left, progress.add):
            pass
    return [
        Scored(job.run, dict(msgspec.json.decode(_scores_of(job).read_bytes()))) for job in jobs
    ]


def _scores_of(job: _Job) -> Path:
    return job.folder.with_name(f"{job.folder.name}.json")


def _done(job: _Job, tick: Tick) -> None:
    """Trains and scores: in a worker process, which does others after it."""
    import torch

    from training.config import of
    from training.experiment.scores import scores
    from training.inputs import Shards
    from training.train import CHECKPOINTS, MODEL, train

    torch.set_num_threads(1)
    config = of(settings(job.run, job.plan, job.images / "shards"), str(job.folder))
    ended = train(config, Shards(config, str(job.images), job.graph), job.folder, quiet=True)
    if ended.how == "stopped":
        raise UserError(f"{job.folder.name} was stopped; run the same command again to go on.")
    found = scores(job.folder / MODEL, job.images / "shards", job.things)
    write_json(_scores_of(job), msgspec.to_builtins(found))
    discard(job.folder / CHECKPOINTS)  # with the optimizer's state: three times the model
    tick(job.plan.train.steps)


def settings(run: Run, plan: Plan, shards: Path) -> dict[str, Any]:
    """What a run is told, as a config of `sparqless train`."""
    chance, train = plan.train.mixes[run.mix], plan.train
    per_epoch = _pictures(shards, with_alt=chance == 1) // train.batch
    return {
        "model": {"name": str(_HERE / train.model)},
        "data": {"workers": 0},
        "text": {
            "alt_text_chance": chance,
            # a picture without one would be told by the graph's texts
            "filter": {"skip_alt_text": "noalt" if chance == 1 else ""},
            **plan.texts,
        },
        "train": {
            "batch": train.batch,
            "steps": train.steps,
            "epochs": -(-train.steps // per_epoch),
            "warmup_epochs": train.warmup_steps / per_epoch,
            "lr": train.lr,
            "seed": run.seed,
            "precision": "fp32",
            "matmul": "highest",
            "keep_last": 1,
            "log_steps": 50,
            "tensorboard": False,
        },
    }


def _pictures(shards: Path, *, with_alt: bool) -> int:
    """Images in train, or those of them that have an alt text."""
    table = pq.read_table(shards / "images.parquet", columns=["split", "texts"])
    table = table.filter(pc.equal(table.column("split"), "train"))
    if with_alt:
        lengths = pc.fill_null(pc.list_value_length(table.column("texts")), 0)
        table = table.filter(pc.greater(lengths, 0))
    return int(table.num_rows)
