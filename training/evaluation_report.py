"""What `sparqless evaluate` prints and keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from download.figures import format_of
from etl.errors import UserError
from etl.manifest import MANIFEST, read_manifest, write_json
from etl.show import counted, printable
from etl.source import is_elsewhere
from training.confusion import draw
from training.data_index import IMAGES_FILE, shards_in, shards_manifest
from training.evaluate import (
    ALL,
    FORMAT,
    HELD_OUT,
    SHOWN,
    STEP,
    Classification,
    Evaluated,
    Options,
    evaluate,
)
from training.opened import CONFIG_FILE, opened
from training.retrieval import Retrieval

Row = tuple[str, str, str]

#: The folder of a run that results are kept in.
FOLDER: Final = "evaluations"

#: The folder of a run with its model in open_clip's layout.
MODEL: Final = "model"

#: A share of guesses from which a level says nothing more.
_SURE: Final = 0.9995

_UNFIT = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Saving:
    """Where results go: into ``run`` by a ``name`` ("": the images and templates), and to files."""

    run: Path | None = None
    name: str | None = None
    out: Path | None = None
    picture: Path | None = None


def evaluate_and_keep(
    model: str | None,
    weights: Path | None,
    options: Options,
    saving: Saving,
    *,
    tag: str = "",
    device: str = "auto",
    precision: str = "fp32",
    batch: int = 256,
) -> Evaluated:
    """Evaluates a run's model, or another, and writes what was found.

    Raises UserError as :func:`training.opened.opened` and :func:`training.evaluate.evaluate`.
    """
    if (saving.run is None) == (model is None):
        raise UserError("give either --run or --model.")
    if saving.name is not None and saving.run is None:
        raise UserError("--name is what a run keeps results as: give --run, or --out FILE.")
    name = saving.name or default_name(options)
    _check_name(name)
    if saving.picture is not None:
        format_of(saving.picture)  # before the work
    if saving.out is not None and not saving.out.parent.is_dir():
        raise UserError(f"{saving.out}: there is no directory {saving.out.parent}; make it first.")
    which = model if saving.run is None else str(model_of(saving.run))
    assert which is not None
    asked = opened(which, weights, tag=tag, device=device, precision=precision, batch=batch)
    found = evaluate(asked, options)
    if saving.run is not None:
        found.warnings.extend(_seen_before(saving.run, options))
    if saving.run is not None:
        keep(found, saving.run, name)
    if saving.out is not None:
        write_json(saving.out, found.as_json())
    if saving.picture is not None:
        _draw(found, saving.picture)
    return found


def _seen_before(run: Path, options: Options) -> Iterator[str]:
    """Whether a run may have been trained on what is held out of other shards."""
    if options.shards is None or not set(HELD_OUT) & set(options.splits):
        return
    if not (run / MANIFEST).is_file():
        return
    shards = shards_in(options.shards)
    made = shards_manifest(shards)
    own = read_manifest(run, "run").get("inputs", {}).get("shards")  # as training.inputs has it
    if own is None or own == made["outputs"][IMAGES_FILE]["sha256"]:
        return
    earlier = made.get("options", {}).get("splits_from")
    unless = (
        f"unless {earlier}, which they were packed with as --splits-from, is that"
        if earlier
        else "since they were packed without --splits-from that"
    )
    yield (
        f"{shards} isn't what {run} was trained on, so it may have been trained on images that are "
        f"held out there, {unless}."
    )


def model_of(run: Path) -> Path:
    """The directory with the model of a run.

    Raises UserError where there is none.
    """
    folder = run / MODEL
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{run} has no model yet ({MODEL}/{CONFIG_FILE}): run `sparqless train` to its end."
        )
    return folder


def _draw(found: Evaluated, picture: Path) -> None:
    """The last set of which there is something to draw: test rather than val."""
    drawn = [name for name, answers in found.answers.items() if answers.answers]
    if not drawn:
        raise UserError(f"{picture}: nothing was classified, so there is nothing to draw.")
    draw(found.classes, found.answers[drawn[-1]], drawn[-1], picture)


def rows(found: Evaluated) -> Iterator[Row]:
    """Name, figure and remark of every line of the table."""
    yield from _pixels(found.about["model"])
    for result in found.results:
        yield printable(result.name), f"{result.images:,}", "images"
        if result.classification is not None:
            yield from _classification(result.classification)
        if result.retrieval is not None:
            yield from _retrieval(result.retrieval)


def _pixels(model: dict[str, Any]) -> Iterator[Row]:
    pixels = dict(model["pixels"])
    if not pixels:
        return
    size = pixels.get("size", "")
    side = " × ".join(map(str, dict.fromkeys(size))) if isinstance(size, list) else str(size)
    mean, std = (" ".join(f"{v:.3g}" for v in pixels.get(name, ())) for name in ("mean", "std"))
    activation = "QuickGELU" if model["quick_gelu"] else "no QuickGELU"
    how = (str(pixels[name]) for name in ("interpolation", "resize_mode") if name in pixels)
    yield "pixels", side, f"{', '.join(how)}, mean {mean}, std {std}; {activation}"


def _classification(found: Classification) -> Iterator[Row]:
    score = found.score
    choices = counted(found.choices, "class", "classes")
    left = f"; {counted(found.left_out, 'image')} of none of them left out" * bool(found.left_out)
    remark = f"of {counted(score.images, 'image')}, {choices} to choose from{left}"
    yield "  acc1", _percent(score.acc1), f"{remark}; a guess: {_percent(score.chance)}"
    yield "  acc5", _percent(score.acc5), ""
    yield "  by class", _percent(score.macro_acc1), f"acc1, mean over {score.classes:,} classes"
    yield "", _percent(score.macro_acc5), "acc5"
    if found.levels is not None:
        of_levels = zip(found.levels.accuracy, found.levels.chance, strict=True)
        for level, (share, guess) in enumerate(of_levels):
            if level and guess < _SURE:
                remark = (
                    f"right, or at most {counted(level, 'level')} off; a guess: {_percent(guess)}"
                )
                yield f"  level {level}", _percent(share), remark
        for rank in found.levels.ranks:
            remark = f"of {counted(rank.images, 'image')}; a guess: {_percent(rank.chance)}"
            yield f"  {rank.rank}", _percent(rank.accuracy), remark
    for root in found.roots:
        yield (
            f"  {printable(root.name)}",
            _percent(root.acc1),
            f"of {counted(root.images, 'image')}",
        )


def _retrieval(found: Retrieval) -> Iterator[Row]:
    for name, way, what in (
        ("image to text", found.i2t, "different text"),
        ("text to image", found.t2i, "image"),
    ):
        more = f"R@5 {_percent(way.r5)}, R@10 {_percent(way.r10)}"
        among = f"among {counted(way.answers, what)}; a guess: {_percent(way.chance)}"
        yield f"  {name}", _percent(way.r1), f"R@1; {more}; {among}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def default_name(options: Options) -> str:
    """What results are called: ``living-shards-openai``, ``imagenet-val-none-synonyms``.

    By all that isn't as it is by default, so that one result doesn't replace another's. Of shards
    it is to have a data set of classes, of folders it isn't.
    """
    where = shards_in(options.shards) if options.shards else str(options.folders or "")
    place = PurePosixPath(where) if is_elsewhere(where) else Path(where).resolve()
    plain = Options()
    of_file = options.classes not in (SHOWN, ALL)
    has_graph = options.graph is not None
    classes = {SHOWN: "", ALL: "all-classes"}.get(options.classes, Path(options.classes).stem)
    parts = [
        place.parent.name,
        place.name,
        Path(options.templates).stem,
        {"name": "", "all": "all-names"}.get(options.names, options.names),
        "types" * options.types,
        classes,
        "retrieval" * bool(options.shards and not has_graph and not of_file),
        "graph" * bool(has_graph and (of_file or not options.shards)),
        "ranks" * (options.store is not None),
        "-".join(options.splits) if options.shards and options.splits != plain.splits else "",
        f"{options.texts}-texts" if options.texts != plain.texts else "",
        f"first-{options.limit}" * bool(options.limit),
    ]
    return _UNFIT.sub("-", "-".join(part for part in parts if part)).strip("-.")


def keep(found: Evaluated, run: Path, name: str) -> Path:
    """Writes results into the folder of a run, in the place of earlier ones of that name.

    Raises UserError where the name is no file's.
    """
    _check_name(name)
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    write_json(path, found.as_json())
    return path


def _check_name(name: str) -> None:
    if not name or _UNFIT.search(name) or name.startswith("."):
        raise UserError(f"--name {name!r}: letters, figures, dots, - and _ make a file's name.")


def kept(run: Path) -> dict[str, dict[str, Any]]:
    """Results of a run by name.

    Raises UserError where one can't be read or is no result of an evaluation.
    """
    import ujson

    found = {}
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            data = ujson.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: can't be read ({error}): evaluate again.") from error
        if not isinstance(data, dict) or (data.get("step"), data.get("format")) != (STEP, FORMAT):
            raise UserError(
                f"{path} is no result of `sparqless evaluate` in the form of this version: move it "
                "elsewhere, or evaluate again."
            )
        found[path.stem] = data
    return found
