"""A model and held-out images → how good it is: classification, hierarchy, retrieval.

    made = evaluate(model, Options(shards="data/images/living", graph=Path("…")))
    msgspec.to_builtins(made.results)

Held out means by content: val and test of our shards, which a file's digest decided
(:mod:`download.pack.splits`); folders of others are taken as they are
(``sparqless images pack --against`` keeps what they have out of the shards).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from download.pack.splits import SPLITS
from etl.errors import UserError
from etl.location import opened as at_location
from etl.manifest import digest_of_data, read_manifest, tool_versions
from etl.progress import Progress
from graph.directory import check_store_of
from training import levels, pictures, retrieval, zeroshot
from training.classes import (
    Class,
    Matched,
    from_file,
    from_graph,
    match_alone,
    match_file,
    match_graph,
)
from training.data_index import IMAGES_FILE, shards_in, shards_manifest
from training.levels import Above, Levels
from training.opened import Load, Opened
from training.pictures import Picture
from training.retrieval import Retrieval
from training.templates import templates
from training.zeroshot import Confused, Labels, Names, Prompts, Score

STEP: Final = "evaluation"

#: Version of what a result's JSON holds.
FORMAT: Final = 1

#: Splits that are held out, in the order in which they are evaluated.
HELD_OUT: Final = ("val", "test")

#: What ``classes`` may be instead of a file.
SHOWN, ALL = "shown", "all"


@dataclass(frozen=True)
class Options:
    """What a user may set; either ``shards`` or ``folders`` is given.

    ``shards``: their directory, or that of the images around it, or s3://… and the like of the
    shards. ``limit``: the first so many images by digest, of each split; 0: all. ``classes``:
    :data:`SHOWN` (that some image shows, of any split), :data:`ALL` (of the data set) or a file of
    names. ``graph``: the data set of names, natural types and hierarchy; ``store``: the one that it
    was built from, for taxon ranks. ``texts``: of an image, for retrieval; 0: none. ``workers``:
    threads that decode. ``levels``: whether it is measured how far off answers are. ``cache``:
    where indexes of shards are kept, the user's if None.
    """

    shards: str | None = None
    folders: Path | None = None
    splits: tuple[str, ...] = HELD_OUT
    graph: Path | None = None
    store: Path | None = None
    classes: str = SHOWN
    templates: str = "openai"
    names: Names = "name"
    types: bool = False
    texts: int = 5
    limit: int = 0
    levels: bool = True
    cache: Path | None = None
    workers: int = 1
    quiet: bool = False


class Root(msgspec.Struct, frozen=True):
    """The accuracy of images of one root; an image of several counts for each."""

    root: str
    name: str
    images: int
    acc1: float
    acc5: float


class Classification(msgspec.Struct, frozen=True):
    score: Score
    choices: int  # classes to choose from
    left_out: int  # images that show none of them
    levels: Levels | None  # with a data set
    roots: list[Root]
    confused: list[Confused]


class Result(msgspec.Struct, frozen=True):
    """Of one set of images."""

    name: str  # val, test; of a folder its name
    images: int
    classification: Classification | None
    retrieval: Retrieval | None


@dataclass(frozen=True)
class Answers:
    """What was answered, image by image, by keys of classes.

    ``right`` are those that the image shows; an answer that reads the same as one of them is it.
    """

    right: list[list[str]]
    answers: list[str]


@dataclass(frozen=True)
class Evaluated:
    """All of it; ``results`` is what is written and printed, the rest what is drawn."""

    results: list[Result]
    about: dict[str, Any]  # what the figures depend on
    warnings: list[str]
    classes: list[Class] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)  # by the name of the set

    def as_json(self) -> dict[str, Any]:
        """Plain data, the same for the same model, images and options on the same machine."""
        return {
            "step": STEP,
            "format": FORMAT,
            **self.about,
            "warnings": self.warnings,
            "sets": msgspec.to_builtins(self.results),
        }


@contextmanager
def _in_full_precision() -> Iterator[None]:
    """Products of float32 are that, whatever a run before has set: ties are told at 10⁻⁶."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@_in_full_precision()
def evaluate(model: Opened, options: Options) -> Evaluated:
    """Evaluates a model on every set of images.

    Raises UserError where images, classes or a data set can't be read, or there is nothing to do.
    """
    task = _task(options)
    prompts = Prompts(templates(options.templates), options.names, options.types)
    classes = zeroshot.asked(task.classes, options.names)
    if task.classes and not classes:
        raise UserError("no class has a name beside its first: --names synonyms needs some.")
    above = _above(options, classes)
    embedded = _embedded(model, classes, prompts, options) if classes else None
    results, answers = list[Result](), dict[str, Answers]()
    warnings = [*model.warnings, *task.warnings]
    for name, images in task.sets.items():
        seen, features = _seen(model, name, images, options)
        classification = None
        if embedded is not None:
            labels = zeroshot.right_answers([task.keys(p) for p in seen], classes, prompts)
            asked = _Asked(classes, embedded, above, task.roots)
            classification, answers[name] = _classified(features, labels, asked)
            if classification is None:
                warnings.append(_unshown(name, classes, options))
        found = _retrieved(model, seen, features, options) if options.texts else None
        results.append(Result(name, len(seen), classification, found))
    if not any(result.classification or result.retrieval for result in results):
        raise UserError(
            "nothing can be evaluated: no image shows a class that is asked for, and fewer than "
            "two have texts; give --graph or --classes FILE, or other images."
        )
    return Evaluated(results, _about(model, task, options), warnings, classes, answers)


def _unshown(name: str, classes: Sequence[Class], options: Options) -> str:
    keys = ", ".join(repr(one.key) for one in classes[:2])
    where = options.graph if options.classes in (SHOWN, ALL) else options.classes
    return (
        f"no image of {name} shows one of the {len(classes):,} classes of {where} ({keys}, …), so "
        "none was classified: images of shards have ids of entities (Q144), which a .csv may give "
        "as key."
    )


# --- what is evaluated on -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    sets: Mapping[str, Iterable[Picture]]
    classes: list[Class]  # none: only retrieval
    label: Mapping[str, str] | None  # folder → class; None where labels are keys themselves
    roots: Mapping[str, str]  # id → name
    of: dict[str, Any]  # what says which images these are
    warnings: list[str]

    def keys(self, picture: Picture) -> list[str]:
        if self.label is None:
            return picture.labels
        return [self.label[name] for name in picture.labels]


def _task(options: Options) -> _Task:
    if (options.shards is None) == (options.folders is None):
        raise UserError("give either --images or --folders.")
    if options.classes == ALL and options.graph is None:
        raise UserError("--classes all are those of a data set: give --graph.")
    if options.store is not None and options.graph is None:
        raise UserError("--store is for the ranks of what is in a data set: give --graph.")
    if options.shards is not None:
        return _of_shards(shards_in(options.shards), options)
    assert options.folders is not None
    return _of_folder(options.folders, options)


def _of_shards(shards: str, options: Options) -> _Task:
    manifest = shards_manifest(shards)
    for split in options.splits:
        if split not in SPLITS:
            raise UserError(f"--split {split!r}: shards have {', '.join(SPLITS)}.")
    counts = manifest["counts"]["splits"]
    splits = [split for split in options.splits if counts[split]["images"]]
    warnings = [f"{shards} has no image in {s}." for s in options.splits if s not in splits]
    if not splits:
        raise UserError(
            f"{shards} has no image in {' or '.join(options.splits)}: pack with larger --val and "
            "--test."
        )
    classes: list[Class] = []
    digest = manifest["outputs"][IMAGES_FILE]["sha256"]
    if options.classes not in (SHOWN, ALL):
        classes = from_file(Path(options.classes))
    elif options.graph is not None:
        classes = from_graph(
            options.graph, None if options.classes == ALL else _shown(shards, digest)
        )
    else:
        warnings.append("No names of classes (--graph, or --classes FILE): only retrieval.")
    return _Task(
        {
            s: pictures.of_shards(
                shards, s, options.texts, limit=options.limit, cache=options.cache
            )
            for s in splits
        },
        classes,
        None,
        _root_names(options.graph),
        {"shards": shards, "manifest_sha256": manifest["manifest_sha256"], "limit": options.limit},
        warnings,
    )


@lru_cache(maxsize=2)
def _shown(shards: str, digest: str) -> frozenset[str]:
    """Entities that an image shows, of whatever split: the same classes for val and test.

    A run that is evaluated each epoch reads them once: ``digest`` is the table's.
    """
    found = set[str]()
    with at_location(shards, IMAGES_FILE) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=["entities"]):
            found.update(pc.unique(pc.list_flatten(batch.column("entities"))).to_pylist())
    return frozenset(found)


def _of_folder(folder: Path, options: Options) -> _Task:
    folders = pictures.folders_in(folder)
    if options.classes not in (SHOWN, ALL):
        path = Path(options.classes)
        matched = match_file(folders, from_file(path), path)
    elif options.graph is not None:
        matched = match_graph(folders, options.graph)
    else:
        matched = match_alone(folders)
    classes = matched.classes
    if options.classes == ALL and options.graph is not None:
        there = {one.key for one in classes}
        classes = [*classes, *(c for c in from_graph(options.graph) if c.key not in there)]
    warnings = list(_warnings_of(matched, folders, options))
    with Progress("reading files", None, unit="file", quiet=options.quiet) as progress:
        found = pictures.of_folder(folder, options.texts, options.workers, progress.add)
    if options.limit:
        found = sorted(found, key=attrgetter("sha256"))[: options.limit]
    contents = hashlib.sha256()
    for digest in sorted(picture.sha256 for picture in found):
        contents.update(digest)
    return _Task(
        {folder.resolve().name: found},
        classes,
        matched.label,
        _root_names(options.graph),
        {"folders": str(folder), "contents_sha256": contents.hexdigest(), "limit": options.limit},
        warnings,
    )


def _warnings_of(matched: Matched, folders: Sequence[str], options: Options) -> Iterator[str]:
    """What about folders and their classes one should look at."""
    if matched.by_order:
        first, key = next((f, k) for f, k in matched.label.items() if k == matched.classes[0].key)
        yield (
            f"no folder is named in {options.classes}, so its lines were taken in the order of the "
            f"folders ({first!r} is {key!r}, and so on): give keys if that is wrong."
        )
    if matched.alone:
        names = ", ".join(map(repr, matched.alone[:3]))
        yield (
            f"{len(matched.alone):,} of {len(folders):,} folders are named as no entity of "
            f"{options.graph} ({names}{', …' if len(matched.alone) > 3 else ''}): they are asked "
            "for by that name, and nothing is above them."
        )
    for some in matched.united[:3]:
        where = options.graph if options.classes in (SHOWN, ALL) else options.classes
        yield (
            f"the folders {' and '.join(map(repr, some))} are one class of {where}, "
            f"{matched.label[some[0]]!r}: rename them as keys or ids if they are not."
        )
    if len(matched.united) > 3:
        yield f"the folders of {len(matched.united) - 3:,} more classes are one, too."


def _root_names(graph: Path | None) -> dict[str, str]:
    if graph is None:
        return {}
    roots = read_manifest(graph, "graph")["counts"]["roots"]
    return {root["root"]: root["name"] or root["root"] for root in roots}


def _above(options: Options, classes: Sequence[Class]) -> Above | None:
    if options.graph is None or not classes or not options.levels:
        return None
    if options.store is not None:
        check_store_of(options.graph, read_manifest(options.graph, "graph"), options.store)
    return Above.of(options.graph, [one.key for one in classes], options.store)


# --- the work -----------------------------------------------------------------------------------


def _embedded(
    model: Opened, classes: Sequence[Class], prompts: Prompts, options: Options
) -> Tensor:
    total = sum(len(one.names) for one in classes) * len(prompts.templates)
    with Progress("reading names", total, unit="text", quiet=options.quiet) as progress:
        return zeroshot.embeddings(model, classes, prompts, progress.add)


def _seen(
    model: Opened, name: str, images: Iterable[Picture], options: Options
) -> tuple[list[Picture], Tensor]:
    """The images of a set, without what they are made of, and their embeddings."""
    seen: list[Picture] = []

    def loads() -> Iterator[Load]:
        for picture in images:
            seen.append(Picture(picture.key, b"", picture.labels, picture.texts))
            yield picture.load

    with Progress(f"looking at {name}", None, unit="image", quiet=options.quiet) as progress:
        features = model.images(loads(), options.workers, progress.add)
    return seen, features


@dataclass(frozen=True)
class _Asked:
    classes: Sequence[Class]
    embedded: Tensor
    above: Above | None
    roots: Mapping[str, str]


def _classified(
    features: Tensor, labels: Labels, asked: _Asked
) -> tuple[Classification | None, Answers]:
    """Images that show one of the classes; the others are counted."""
    rows = [n for n, own in enumerate(labels.own) if own]
    kept = Labels([labels.own[n] for n in rows], [labels.right[n] for n in rows], labels.twins)
    if not rows:
        return None, Answers([], [])
    found = zeroshot.classify(_those(features, rows), asked.embedded, kept.right)
    scored = zeroshot.score(found, kept, len(asked.classes))
    keys = [one.key for one in asked.classes]
    answered = [kept.as_own(image, n) for image, n in enumerate(found.answer().tolist())]
    answers = Answers([[keys[n] for n in own] for own in kept.own], [keys[n] for n in answered])
    made = Classification(
        score=scored,
        choices=len(keys),
        left_out=len(labels.own) - len(rows),
        levels=_levels(asked, answers, kept),
        roots=list(_by_root(found.rank.tolist(), kept.own, asked)),
        confused=zeroshot.confused(answers.answers, answers.right),
    )
    return made, answers


def _levels(asked: _Asked, answers: Answers, labels: Labels) -> Levels | None:
    if asked.above is None:
        return None
    right = ([asked.classes[n].key for n in numbers] for numbers in labels.right)
    return levels.measured(asked.above, answers.right, answers.answers, right)


def _by_root(
    ranked: Sequence[int], labels: Sequence[Sequence[int]], asked: _Asked
) -> Iterator[Root]:
    of_root = defaultdict[str, list[int]](list)
    for rank, own in zip(ranked, labels, strict=True):
        for root in {root for number in own for root in asked.classes[number].roots}:
            of_root[root].append(rank)
    for root in (*asked.roots, *sorted(of_root.keys() - asked.roots.keys())):
        own = of_root.get(root, [])
        if own:
            name = asked.roots.get(root, root)
            shares = [sum(rank <= top for rank in own) / len(own) for top in zeroshot.TOP]
            yield Root(root, name, len(own), *shares)


def _retrieved(
    model: Opened, seen: Sequence[Picture], features: Tensor, options: Options
) -> Retrieval | None:
    """None where fewer than two images have a text."""
    rows = [n for n, picture in enumerate(seen) if picture.texts]
    if len(rows) < 2:
        return None
    pairs = retrieval.paired([seen[n].texts for n in rows])
    total = 2 * len(pairs.texts) + len(rows)
    with Progress("retrieving", total, unit="text", quiet=options.quiet) as progress:
        texts = model.texts(pairs.texts, progress.add)
        return retrieval.measured(_those(features, rows), texts, pairs, progress.add)


def _those(features: Tensor, rows: Sequence[int]) -> Tensor:
    """Some rows; all of them without a copy, which would be 2 GB for a million images."""
    return features if len(rows) == len(features) else features[rows]


def _about(model: Opened, task: _Task, options: Options) -> dict[str, Any]:
    graph = None
    if options.graph is not None:
        digest = read_manifest(options.graph, "graph")["manifest_sha256"]
        graph = {"path": str(options.graph), "manifest_sha256": digest}
    import torch

    return {
        "versions": {**tool_versions(), "torch": torch.__version__},
        "model": {
            "name": model.name,
            "weights_sha256": model.weights_sha256,
            "precision": model.precision,
            "device": model.device.type,
            "pixels": dict(model.pixels),
            "quick_gelu": model.quick_gelu,
        },
        "images": task.of,
        "graph": graph,
        "options": {
            "classes": Path(options.classes).name,
            "classes_sha256": digest_of_data(msgspec.to_builtins(task.classes)),
            "templates": Path(options.templates).name,
            "templates_sha256": digest_of_data(list(templates(options.templates))),
            "names": options.names,
            "types": options.types,
            "texts": options.texts,
        },
    }
