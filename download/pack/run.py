"""What was fetched → shards: decoded once, what is alike united, split, written, accounted for.

    sparqless images pack --images data/images/living --out data/images/living/shards

Steps, each of which is kept in ``.packing`` inside the directory of the shards until all is done:

1. which files, of which candidates (:mod:`download.pack.plan`);
2. decoding, in worker processes or on the nodes of a cluster (:mod:`download.pack.decode`);
3. what shows the same becomes one image, and each image gets a split (:mod:`download.pack.merge`);
4. what the tables and the shards hold of each: candidates are dealt out
   (:mod:`download.pack.buckets`), put together (:mod:`download.pack.rows`) and told which shard
   they go into (:mod:`download.pack.tables`);
5. the shards, each a task (:mod:`download.pack.shards`), and then all into place.

A run that is killed goes on with the step, and with the task, that it was at. Other options leave
what they don't bear on: a pack with other splits doesn't decode again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.parquet as pq
import ujson

from download.candidates import CANDIDATES_FILE, ENTITIES_FILE
from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.log import FOLDER as FETCHES_FOLDER
from download.fetch.log import RESULTS_FILE
from download.fetch.run import write_results
from download.joining import SPILL
from download.pack import against, shards
from download.pack.buckets import DROPPED_FILE, Deal, bucket_size, deal
from download.pack.buckets import FOLDER as BUCKETS_FOLDER
from download.pack.decode import FOLDER as DECODED_FOLDER
from download.pack.decode import Piece, decode, pending, release
from download.pack.duplicates import SCRATCH as CODES
from download.pack.duplicates import clusters
from download.pack.image import ImageOptions
from download.pack.merge import (
    FATES_FILE,
    Fates,
    Match,
    Pictures,
    Rows,
    load,
    merge,
    no_split,
    save,
)
from download.pack.merge import Bytes as Likenesses
from download.pack.plan import BODIES_FILE, MEMBERS_FILE, digests, write_plan
from download.pack.record import MOST_LISTED
from download.pack.rows import FOLDER as ROWS_FOLDER
from download.pack.rows import GRAPH_TABLES, Bucket, rows_file, write_known, write_rows
from download.pack.splits import (
    NONE,
    SHARE,
    SPLITS,
    SPLITS_FILE,
    Codes,
    Ids,
    check_shares,
    stood,
    write_splits,
)
from download.pack.tables import ATTRIBUTION_FILE, IMAGES_FILE, Cutting, write_tables
from download.pack.target import PLACED_FILE, STEP, Target
from etl.cluster import Cluster, Nodes
from etl.engine import Pool
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    check_whole,
    digest_of_code,
    digest_of_data,
    digest_of_file,
    discard,
    read_manifest,
    tool_versions,
    write_json,
)
from etl.manifest import digests as digests_of
from etl.progress import Progress
from etl.store import LOCK
from etl.writing import disk_errors, locked
from graph.read import manifest_of

#: Version of what stands there.
SHARDS_FORMAT: Final = 1

#: Files of a task of decoding: some ten seconds of work, which a kill costs each worker at most.
PER_TASK: Final = 2000

#: Images of a task that puts rows together, times PER_TASK.
BUCKET: Final = 10

TABLES: Final = (ATTRIBUTION_FILE, DROPPED_FILE, IMAGES_FILE, SPLITS_FILE)

#: The modules that make a JPEG of a file.
_DECODING: Final = (
    "pack/image",
    "pack/colours",
    "pack/decoder",
    "pack/filters",
    "pack/likeness",
    "pack/reduce",
    "beginnings",
)

_PLAN = "plan.json"
_PLANNED, _DEALT, _TABLES = "planned.json", "dealt.json", "tables.json"
_EARLIER, _AGAINST = "earlier.parquet", "against.json"

#: What follows from other options than those of decoding.
_LATER: Final = (BUCKETS_FOLDER, ROWS_FOLDER, shards.FOLDER)


@dataclass(frozen=True)
class Options:
    """What a user may set.

    ``val`` and ``test`` are shares of the images, from 0 to 1. ``splits_from``: shards of before,
    whose images stay in their splits. ``against``: evaluation sets (:mod:`download.pack.against`).
    ``graph``: the data set, for queries' texts and natural types. ``shard_count`` images and
    ``shard_size`` bytes of a shard at most. ``unfinished``: pack what a fetch that isn't done has
    got so far. ``workers`` 0 works in this process; ``cluster``: on its nodes instead.
    """

    image: ImageOptions = field(default_factory=ImageOptions)
    val: float = SHARE
    test: float = SHARE
    splits_from: Path | None = None
    against: tuple[Path, ...] = ()
    graph: Path | None = None
    shard_count: int = shards.COUNT
    shard_size: int = shards.SIZE
    unfinished: bool = False
    workers: int = 1
    cluster: Cluster | None = None
    fresh: bool = False
    per_task: int = PER_TASK
    quiet: bool = False


def pack(images: Path, out: str, options: Options) -> dict[str, Any]:
    """Writes, or goes on writing, the shards of a directory of images; returns their manifest.

    ``out`` is a directory or a LOCATION that fsspec knows (s3://bucket/shards). Nothing is done
    where it holds just these shards already; then ``stood`` in what is returned is true.

    Raises UserError for everything a user can mend: nothing fetched, an unfinished fetch, a
    directory that isn't ours, another run, a full disk, a place that can't be reached.
    """
    started = time.perf_counter()
    _check(images, options)
    target = Target(out, images)
    target.check()
    target.locked.mkdir(parents=True, exist_ok=True)
    with disk_errors(target.locked), locked(target.locked, "--out"):
        target.finish()
        standing = target.standing()
        inputs = _inputs(images, target.work, options)
        keys = _keys(inputs, target, options)
        if standing is not None and standing.get("key") == keys["all"] and not options.fresh:
            discard(target.work)  # of a run with other options that was given up
            return {**standing, "stood": True}
        _settle(target.work, keys, fresh=options.fresh)
        run = _Run(images, target, options, inputs, standing)
        with _engine(options, target.work) as engine:
            manifest = _made(run, engine)
        manifest |= {"key": keys["all"], "seconds": round(time.perf_counter() - started, 2)}
        target.publish(manifest, standing)
    return manifest


# --- before the work ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """What is packed; digests of what the tables hold, not of when they were made."""

    candidates: dict[str, Any]  # the manifest
    results: Path
    digests: dict[str, str]  # of candidates, entities, results


def _check(images: Path, options: Options) -> None:
    """Refuses what can't be packed, before there is a directory for it."""
    check_shares(options.val, options.test)
    candidates = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)
    check_whole(images / CANDIDATES_FOLDER, candidates, "run `sparqless images find` again")
    if not options.unfinished:
        if (images / FETCHES_FOLDER).is_dir() and not (images / FETCHES_FOLDER / MANIFEST).exists():
            raise UserError(
                f"{images}: its fetch has not come to its end: run `sparqless images fetch` again, "
                "or pack what there is with --unfinished."
            )
        fetches = read_manifest(images / FETCHES_FOLDER, FETCHES_FOLDER)
        check_whole(images / FETCHES_FOLDER, fetches, "run `sparqless images fetch` again")
        if fetches["plan"]["candidates"] != candidates["outputs"][CANDIDATES_FILE]["sha256"]:
            raise UserError(
                f"{images}: the candidates were looked for again since they were fetched: run "
                "`sparqless images fetch` again."
            )
    against.check(options.against)  # before hours of decoding


def _inputs(images: Path, work: Path, options: Options) -> _Inputs:
    """What is to be packed. Of an unfinished fetch, what came of the candidates is looked up."""
    candidates = read_manifest(images / CANDIDATES_FOLDER, CANDIDATES_FOLDER)
    outputs = candidates["outputs"]
    found = {name: outputs[name]["sha256"] for name in (CANDIDATES_FILE, ENTITIES_FILE)}
    if options.unfinished:
        work.mkdir(exist_ok=True)
        results = work / RESULTS_FILE
        write_results(images, results)
        found[RESULTS_FILE] = digest_of_file(results, lambda _: None)
    else:
        results = images / FETCHES_FOLDER / RESULTS_FILE
        fetches = read_manifest(images / FETCHES_FOLDER, FETCHES_FOLDER)
        found[RESULTS_FILE] = fetches["outputs"][RESULTS_FILE]["sha256"]
    return _Inputs(candidates, results, found)


def _keys(inputs: _Inputs, target: Target, options: Options) -> dict[str, str]:
    """Digests of all that decides: about decoding, and about everything."""
    room, etl = Path(__file__).parents[1], Path(__file__).parents[2] / "etl"
    decoding = [
        SHARDS_FORMAT,
        tool_versions(),
        [digest_of_file(room / f"{name}.py", lambda _: None) for name in _DECODING],
        inputs.digests,
        msgspec.to_builtins(options.image),
        options.per_task,
    ]
    everything = [
        decoding,
        digest_of_code(room, etl, suffixes=(".py", ".tsv")),
        [options.val, options.test, options.shard_count, options.shard_size],
        _identity_of_earlier(target, options),
        _of_graph(options.graph),
        [_identity_of_files(place) for place in options.against],
    ]
    return {"decoding": digest_of_data(decoding), "all": digest_of_data(everything)}


def _of_graph(graph: Path | None) -> dict[str, str] | None:
    """What identifies what is taken from a data set."""
    if graph is None:
        return None
    outputs = manifest_of(graph)["outputs"]
    for name in GRAPH_TABLES:
        if name not in outputs:
            raise UserError(f"{graph} has no {name}: build it again with `sparqless graph`.")
    return {name: outputs[name]["sha256"] for name in GRAPH_TABLES}


def _identity_of_earlier(target: Target, options: Options) -> str | None:
    """Shards that keep their own splits stand for themselves: the second time nothing is new."""
    if options.splits_from is None:
        return None
    manifest = read_manifest(options.splits_from, STEP)
    check_whole(options.splits_from, manifest, "name shards that are whole as --splits-from")
    if not target.elsewhere and options.splits_from.resolve() == Path(target.out).resolve():
        return "itself"
    return digest_of_data(manifest["outputs"])


def _identity_of_files(place: Path) -> list[Any]:
    """Name, size and time of a file, or of all in a directory and below it."""
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    states = [(str(path.relative_to(place)), path.stat()) for path in files]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _settle(work: Path, keys: dict[str, str], *, fresh: bool) -> None:
    """Keeps of a run before this what this one would make, too."""
    try:
        there = ujson.loads((work / _PLAN).read_bytes())
    except (FileNotFoundError, ValueError):
        there = {}
    if fresh or there.get("decoding") != keys["decoding"]:
        _empty(work)
    elif there["all"] != keys["all"]:
        for name in (_TABLES, _DEALT, FATES_FILE, _EARLIER):  # the last step's first
            (work / name).unlink(missing_ok=True)
        for folder in _LATER:
            discard(work / folder)
    write_json(work / _PLAN, keys)
    for folder in (DECODED_FOLDER, *_LATER):
        (work / folder).mkdir(exist_ok=True)
    _sweep(work)


def _sweep(work: Path) -> None:
    """Removes what killed runs were writing: of each of them that may be gigabytes."""
    for folder in (work, *(work / name for name in (DECODED_FOLDER, *_LATER))):
        for path in folder.glob("*.tmp"):
            path.unlink()
    for path in (*work.glob(f"{SPILL}*"), *work.glob(f"{CODES}*")):
        shutil.rmtree(path)


def _empty(work: Path) -> None:
    """Removes what an earlier run has done, its plan first; not what was just looked up, nor what
    is known of another place."""
    work.mkdir(exist_ok=True)
    (work / _PLAN).unlink(missing_ok=True)
    for path in work.iterdir():
        if path.is_dir():
            discard(path)
        elif path.name not in (RESULTS_FILE, PLACED_FILE, LOCK):
            path.unlink()


# --- the work -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """One run: what it packs, of what and to where."""

    images: Path
    target: Target
    options: Options
    inputs: _Inputs
    standing: dict[str, Any] | None

    @property
    def work(self) -> Path:
        return self.target.work


@contextmanager
def _engine(options: Options, work: Path) -> Iterator[Pool | Nodes]:
    if options.cluster is None:
        with Pool(options.workers) as pool:
            yield pool
    else:  # nodes read the store and write the work, so they have to see both
        house = Path(__file__).parents[2]
        rooms = [house / "download", house / "graph"]
        place = str(work.absolute())
        with Nodes(options.cluster.address, location=place, rooms=rooms) as nodes:
            yield nodes


def _made(run: _Run, engine: Pool | Nodes) -> dict[str, Any]:
    """Does what is left to do; the manifest of what is in the work then."""
    planned = _planned(run)
    tasks = -(-planned["files"] // run.options.per_task)
    _decode(run, engine, tasks, planned["files"])
    fates = _fates(run, tasks)
    images = len(fates.file)
    size = bucket_size(images, BUCKET * run.options.per_task)
    dealt = _dealt(run, fates, tasks, size)
    _put_together(run, engine, images, size)
    tables = _tables(run, fates, -(-images // size))
    cut = msgspec.convert(tables["shards"], list[shards.Shard])
    run.target.begin(run.standing, [*TABLES, *(f"{shard.name}.tar" for shard in cut)])
    written = _write_shards(run, engine, cut)
    counts = {**dealt, **tables["counts"], "merged": fates.merged}
    return _manifest(run, planned, counts, tables["moved"], written)


def _planned(run: _Run) -> dict[str, int]:
    """What there is to pack: written once, the counts last."""
    path = run.work / _PLANNED
    if not path.exists():
        with _told("planning", run.options):
            found = write_plan(run.images, run.inputs.results, run.work, run.options.per_task)
        write_json(path, found)
    counts: dict[str, int] = ujson.loads(path.read_bytes())
    if not counts["files"]:
        raise UserError(f"{run.images} has no image that was fetched: nothing can be packed.")
    return counts


def _decode(run: _Run, engine: Pool | Nodes, tasks: int, files: int) -> None:
    left = pending(run.work, tasks)
    done = files - sum(_size(index, files, run.options.per_task) for index in left)
    fetches = str((run.images / FETCHES_FOLDER).absolute())
    work = str(run.work.absolute())
    pieces = [Piece(index, work, fetches, run.options.image) for index in left]
    with Progress("decoding", files, done=done, unit="image", quiet=run.options.quiet) as progress:
        try:
            for _ in engine.run(decode, pieces, progress.add):
                pass
        finally:
            release()


def _size(index: int, files: int, per_task: int) -> int:
    return min(per_task, files - index * per_task)


def _fates(run: _Run, tasks: int) -> Fates:
    """What becomes of every file: kept, since it takes comparing all with all."""
    if (kept := load(run.work)) is not None:
        return kept
    options, sha256 = run.options, digests(run.work)

    def cluster(likenesses: Likenesses) -> tuple[Ids, Ids]:
        with Progress("comparing", len(likenesses), unit="image", quiet=options.quiet) as progress:
            found = clusters(likenesses, scratch=run.work, report=progress.add)
        return found.labels, found.linked

    shares = (options.val, options.test)
    find = partial(_matches, run) if options.against else None
    made = merge(run.work, tasks, sha256, _stood(run, len(sha256)), shares, cluster, find)
    save(made, run.work)
    return made


def _dealt(run: _Run, fates: Fates, tasks: int, size: int) -> dict[str, Any]:
    """Candidates by image, and counts of what became of all, which come last."""
    path = run.work / _DEALT
    if not path.exists():
        options, sha256 = run.options, digests(run.work)
        entities = run.images / CANDIDATES_FOLDER / ENTITIES_FILE
        write_known(entities, options.graph, run.work)
        job = Deal(run.images, run.work, tasks, options.per_task, sha256, fates, size)
        total = pq.read_metadata(run.work / MEMBERS_FILE).num_rows
        with Progress("dealing out", total, unit="candidate", quiet=options.quiet) as progress:
            write_json(path, deal(job, progress.add))
    found: dict[str, Any] = ujson.loads(path.read_bytes())
    return found


def _put_together(run: _Run, engine: Pool | Nodes, images: int, size: int) -> None:
    """Rows of every image, a task for each bucket."""
    options, work = run.options, str(run.work.absolute())
    graph = "" if options.graph is None else str(options.graph.absolute())
    left = [
        Bucket(number, first, min(size, images - first), work, options.per_task, graph)
        for number, first in enumerate(range(0, images, size))
        if not rows_file(run.work, number).exists()
    ]
    done = images - sum(bucket.images for bucket in left)
    with Progress("joining", images, done=done, unit="image", quiet=options.quiet) as progress:
        for _ in engine.run(write_rows, left, progress.add):
            pass


def _tables(run: _Run, fates: Fates, buckets: int) -> dict[str, Any]:
    """Tables and what each shard holds: the counts last."""
    path = run.work / _TABLES
    if not path.exists():
        options = run.options
        cutting = Cutting(run.work, buckets, fates.split, options.shard_count, options.shard_size)
        with Progress("cutting", len(fates.file), unit="image", quiet=options.quiet) as progress:
            counts, cut = write_tables(cutting, progress.add)
        now = _stands(fates)
        write_splits(digests(run.work), now, _earlier(run), run.work)
        made = {"counts": counts, "shards": msgspec.to_builtins(cut), "moved": _moved(run, now)}
        write_json(path, made)
    found: dict[str, Any] = ujson.loads(path.read_bytes())
    return found


def _matches(run: _Run, pictures: Pictures) -> list[Match]:
    """The files that also stand in evaluation sets; how large these are is kept beside it."""
    options = run.options
    references = against.read(options.against, options.image, quiet=options.quiet)
    counts = {"references": references.table.num_rows, "unread": len(references.unread)}
    write_json(run.work / _AGAINST, counts)
    sha256 = digests(run.work)
    with _told("looking for evaluation sets", options):
        found = against.matches(
            references,
            Rows(sha256, pictures.file),
            Rows(pictures.pixels),
            pictures.likeness,
            scratch=run.work,
        )
    return [Match(int(pictures.file[match.row]), match.reference, _how(match)) for match in found]


def _how(match: against.Match) -> str:
    """sha256, pixels, "likeness 0.93", "mirrored 0.95"."""
    return match.kind if match.similarity == 1 else f"{match.kind} {match.similarity:.2f}"


def _write_shards(
    run: _Run, engine: Pool | Nodes, wanted: Sequence[shards.Shard]
) -> dict[str, shards.Written]:
    """Writes the shards that aren't there; name → what it is, of all."""
    put = run.target.out if run.target.elsewhere else ""
    work = str(run.work.absolute())
    left = [
        msgspec.structs.replace(shard, work=work, put=put)
        for shard in wanted
        if shards.written(run.work, shard.name) is None
    ]
    images = sum(shard.images for shard in wanted)
    done = images - sum(shard.images for shard in left)
    with Progress(
        "writing shards", images, done=done, unit="image", quiet=run.options.quiet
    ) as progress:
        for _ in engine.run(shards.write_shard, left, progress.add):
            pass
    found = {shard.name: shards.written(run.work, shard.name) for shard in wanted}
    return {name: made for name, made in found.items() if made is not None}


# --- splits of before ---------------------------------------------------------------------------


def _earlier(run: _Run) -> Path | None:
    """The splits in which files stood. A copy, since the shards it is of may be replaced."""
    if run.options.splits_from is None:
        return None
    path = run.work / _EARLIER
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        shutil.copyfile(run.options.splits_from / SPLITS_FILE, temporary)
        temporary.replace(path)
    return path


def _stood(run: _Run, files: int) -> Codes:
    """The split in which each file stood."""
    earlier = _earlier(run)
    if earlier is None:
        return no_split(files)
    return stood(earlier, run.work / BODIES_FILE, run.work)


def _stands(fates: Fates) -> Codes:
    """The split of each file that is in an image."""
    split = no_split(len(fates.image))
    kept = fates.image >= 0
    split[kept] = fates.split[fates.image[kept]]
    return split


def _moved(run: _Run, now: Codes) -> int:
    """Files that stand in ``out`` in another split: what nobody wants who has trained on it."""
    if run.standing is None or run.target.elsewhere or run.options.splits_from is not None:
        return 0
    then = stood(Path(run.target.out) / SPLITS_FILE, run.work / BODIES_FILE, run.work)
    return int(np.count_nonzero((then != NONE) & (now != NONE) & (then != now)))


# --- the manifest -------------------------------------------------------------------------------


def _manifest(
    run: _Run,
    planned: dict[str, int],
    counts: dict[str, Any],
    moved: int,
    written: dict[str, shards.Written],
) -> dict[str, Any]:
    options = run.options
    outputs = digests_of(run.work, TABLES, quiet=options.quiet)
    for name, made in written.items():
        outputs[f"{name}.tar"] = msgspec.to_builtins(made)
    return {
        "step": STEP,
        "format": SHARDS_FORMAT,
        "versions": tool_versions(),
        "made_from": run.inputs.digests,
        "graph": _of_graph(options.graph),
        "options": _as_data(options),
        "counts": _counts(run, planned, counts, written),
        "warnings": _warnings(moved, counts["cut"]),
        "outputs": outputs,
    }


def _as_data(options: Options) -> dict[str, Any]:
    return {
        "image": msgspec.to_builtins(options.image),
        "val": options.val,
        "test": options.test,
        "splits_from": options.splits_from and str(options.splits_from),
        "against": [str(path) for path in options.against],
        "shard_count": options.shard_count,
        "shard_size": options.shard_size,
        "unfinished": options.unfinished,
    }


def _counts(
    run: _Run,
    planned: dict[str, int],
    counts: dict[str, Any],
    written: dict[str, shards.Written],
) -> dict[str, Any]:
    """Candidates and files by what became of them, images by split and root."""
    dropped, kept = counts["dropped"], counts["kept"]
    return {
        "candidates": {
            "all": run.inputs.candidates["counts"]["candidates"],
            "with_file": planned["got"],
            "in_images": kept["candidates"],
            "dropped": sum(why["candidates"] for why in dropped.values()),
        },
        "files": {
            "all": planned["files"],
            "in_images": kept["files"],
            "dropped": sum(why["files"] for why in dropped.values()),
        },
        "dropped": dropped,
        "merged": counts["merged"],
        "against": _against(run),
        "images": sum(counts["images"].values()),
        "splits": {split: _of_split(split, counts["images"], written) for split in SPLITS},
        "roots": _roots(run.inputs.candidates["roots"], counts["roots"]),
        "captions": counts["captions"],
        "licensed": counts["licensed"],
        "cut": counts["cut"],
    }


def _against(run: _Run) -> dict[str, int] | None:
    """How many references there were, and how many of them no picture could be made of."""
    if not run.options.against:
        return None
    found: dict[str, int] = ujson.loads((run.work / _AGAINST).read_bytes())
    return found


def _of_split(
    split: str, images: Mapping[str, int], written: Mapping[str, shards.Written]
) -> dict[str, int]:
    own = [made for name, made in written.items() if name.startswith(f"{split}-")]
    return {
        "images": images.get(split, 0),
        "shards": len(own),
        "bytes": sum(made.bytes for made in own),
    }


def _roots(
    roots: Sequence[Mapping[str, str]], images: Mapping[str, Mapping[str, int]]
) -> list[dict[str, Any]]:
    """Images of each root in each split; one with several roots counts for each of them."""
    found = []
    for root in roots:
        counts = images.get(root["root"], {})
        found.append({
            **root,
            "images": sum(counts.values()),
            **{split: counts.get(split, 0) for split in SPLITS},
        })  # fmt: skip
    return found


def _warnings(moved: int, cut: int) -> list[str]:
    found = []
    if moved:
        found.append(
            f"{moved:,} files are in another split than in the shards that stood there: "
            "--splits-from keeps images where they were."
        )
    if cut:
        found.append(
            f"{cut:,} images have more entities, texts or addresses than the {MOST_LISTED:,} that "
            "are listed: pictures that stand for a missing one, perhaps."
        )
    return found


@contextmanager
def _told(what: str, options: Options) -> Iterator[None]:
    with Progress(what, None, unit="", quiet=options.quiet):
        yield
