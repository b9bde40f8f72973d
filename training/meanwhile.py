"""What a network in training is asked at the ends of epochs: about images that it doesn't learn.

    judge = judge_of(source, config.evaluate, warn)
    judge(of_network(net, …))        # {"val_acc1": 0.41, "val_acc5": …, "val_i2t_R@1": …, …}

The figures are those of ``sparqless evaluate`` with the same options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from etl.engine import default_workers
from etl.errors import UserError
from training.classes import from_file
from training.config import EvaluateOptions
from training.data_index import shards_manifest
from training.evaluate import ALL, SHOWN, Options, evaluate
from training.inputs import Shards
from training.opened import Opened
from training.templates import templates

#: Figures of a network, by name.
Judge = Callable[[Opened], dict[str, float]]


def judge_of(source: Shards, options: EvaluateOptions, warn: Callable[[str], None]) -> Judge | None:
    """What to ask; None where it is never to be asked, or the split has no image.

    Raises UserError where what it is asked by can't be read: now, not after an epoch.
    """
    if not options.epochs:
        return None
    if int(os.environ.get("RANK", "0")):
        warn = _silent  # the first process says it
    shards = source.shards
    splits = shards_manifest(shards)["counts"]["splits"]
    if options.split not in splits:
        raise UserError(f"evaluate.split is {options.split!r}; shards have {', '.join(splits)}.")
    if not splits[options.split]["images"]:
        warn(
            f"{shards} has no image in {options.split}, so nothing is evaluated meanwhile: pack "
            "with a larger --val, or set evaluate.epochs=0."
        )
        return None
    if options.split == source.split:
        warn(
            f"evaluate.split is {options.split}, which is learned: figures show what is remembered."
        )
    templates(options.templates)
    if options.classes not in (SHOWN, ALL):
        from_file(Path(options.classes))
    asked = Options(
        shards=shards,
        splits=(options.split,),
        graph=source.graph,
        classes=options.classes,
        templates=options.templates,
        texts=options.texts,
        limit=options.limit,
        levels=False,  # of which no figure is told
        cache=source.cache,
        workers=default_workers(),  # the loader's wait, as all do
        quiet=True,
    )
    return partial(_judged, asked)


def _judged(options: Options, model: Opened) -> dict[str, float]:
    (result,) = evaluate(model, options).results
    found: dict[str, float] = {"images": result.images}
    if result.classification is not None:
        score = result.classification.score
        found |= {"acc1": score.acc1, "acc5": score.acc5, "by_class_acc1": score.macro_acc1}
    if result.retrieval is not None:
        for name, way in (("i2t", result.retrieval.i2t), ("t2i", result.retrieval.t2i)):
            found |= {f"{name}_R@1": way.r1, f"{name}_R@5": way.r5}
    return {f"{result.name}_{name}": value for name, value in found.items()}


def _silent(_: str) -> None:
    return


def said(figures: Mapping[str, float]) -> str:
    """The figures that a line has room for: ``val_acc1 41.2%, val_t2i_R@1 12.0%``."""
    shown = (
        name for name in figures if name.endswith(("_acc1", "_R@1")) and "by_class" not in name
    )
    return ", ".join(f"{name} {100 * figures[name]:.1f}%" for name in shown)
