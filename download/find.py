"""A graph data set → candidates: runs sources, each on its own, and unites what they find.

    sparqless images find --graph data/graph/living --source commons-p18 --out data/images/living

Below ``candidates/`` of the directory every source has its own with a manifest, and the merged
table stands beside them. A source whose inputs are those of what stands there isn't run again, and
one that fails doesn't keep the others from finishing. What is merged are the sources that the
command names, so that equal commands give equal tables.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from download.candidates import (
    CANDIDATES_FILE,
    ENTITIES,
    ENTITIES_FILE,
    FACTS_FILE,
    FOLDER,
)
from download.commons import SHORTER_SIDE, Commons
from download.commons import load as load_commons
from download.merge import Part, merge
from download.sources import Request, Source, sources
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    digest_of_code,
    digest_of_data,
    digests,
    misshapen,
    read_manifest,
    settle,
    tool_versions,
)
from etl.plan import DEFAULT_MAX_REJECTS
from etl.tables import TableWriter
from graph.directory import building, check_store_of, publish
from graph.read import batches, manifest_of
from graph.recipe import Recipe, recorded

#: Version of what stands there.
CANDIDATES_FORMAT: Final = 1


@dataclass(frozen=True)
class Options:
    """What a user may set. ``given``: option of a source → what was given for it."""

    sources: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    store: Path | None = None
    commons: Path | None = None  # a file of hosts and widths
    shorter_side: int = SHORTER_SIDE
    workers: int = 1
    max_rejects: int = DEFAULT_MAX_REJECTS
    allow_damage: bool = False
    fresh: bool = False
    quiet: bool = False


def find(graph: Path, images: Path, options: Options) -> dict[str, Any]:
    """Runs the sources that aren't done, merges all that are named and returns the manifest.

    The manifest's ``failed`` says of every source that could not finish why; there is a merged
    table of the others.

    Raises UserError where none could finish, for a source that isn't there, an unfinished data set
    and another run in the same directory.
    """
    started = time.perf_counter()
    chosen = _chosen(options.sources)
    made_by = manifest_of(graph)
    if options.store is not None:
        check_store_of(graph, made_by, options.store)
    recipe = recorded(made_by["recipe"]["texts"])
    commons = load_commons(options.commons, options.shorter_side)
    folder = images / FOLDER
    _check_directory(images)
    with building(folder, "sparqless images find", clear=_emptied) as work:
        entities = work / ENTITIES_FILE
        wanted = _write_entities(graph, entities, only_visual=recipe.images.visual)
        run = _Run(graph, made_by, recipe, commons, entities, images, work, options)
        done, failed = _run_all(run, chosen)
        finished = [source for source in chosen if source.name in done]
        if not any(source.kind == "candidates" for source in finished):
            raise UserError(_nothing_found(failed))
        made_from = {name: made["manifest_sha256"] for name, made in done.items()}
        key = digest_of_data(
            [CANDIDATES_FORMAT, tool_versions(), _code(), made_from, asdict(commons), failed,
             _of_graph(made_by), recipe.images.visual]
        )  # fmt: skip
        if (standing := _standing(folder, key)) is not None and not options.fresh:
            return {**standing, "left_out": _left_out(folder, [*done, *failed])}
        parts = [_part(folder, source) for source in finished]
        counts = merge(entities, parts, commons, work / CANDIDATES_FILE, work, quiet=options.quiet)
        manifest = {
            "step": FOLDER,
            "key": key,
            "format": CANDIDATES_FORMAT,
            "versions": tool_versions(),
            "graph": _of_graph(made_by),
            "roots": _roots(made_by),
            "commons": asdict(commons),
            "settings": asdict(recipe.images),
            "sources": [source.name for source in finished if source.kind == "candidates"],
            "facts": [source.name for source in finished if source.kind == "facts"],
            "made_from": made_from,
            "failed": failed,
            "left_out": _left_out(folder, [*done, *failed]),
            "counts": {
                "entities": wanted,
                **counts,
                "by_source": {name: made["counts"] for name, made in done.items()},
            },
            "warnings": _warnings(done),
            "outputs": digests(work, [CANDIDATES_FILE, ENTITIES_FILE], quiet=options.quiet),
            "seconds": {
                **{name: made["seconds"] for name, made in done.items()},
                "all": round(time.perf_counter() - started, 2),
            },
        }
        publish(work, folder, [CANDIDATES_FILE, ENTITIES_FILE], manifest)
    return manifest


def _nothing_found(failed: Mapping[str, str]) -> str:
    if failed:
        return "\n".join(f"{name}: {why}" for name, why in failed.items())
    return "the sources that are named find nothing by themselves: name one that does, too."


def _standing(folder: Path, key: str) -> dict[str, Any] | None:
    """The manifest of what stands there, if it is what would be made."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder, FOLDER)
    return manifest if manifest.get("key") == key and not misshapen(folder, manifest) else None


def _chosen(names: Sequence[str]) -> list[Source]:
    """Sources by their names, in that order."""
    known = sources()
    for name in names:
        if name not in known:
            raise UserError(f"there is no source {name!r}: name one of {', '.join(known)}.")
    if not names:
        raise UserError(f"name a source: one of {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]


def _check_directory(images: Path) -> None:
    """Refuses a directory that isn't one of images, and makes it where there is none."""
    for path in (images / FOLDER, images, *images.absolute().parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; choose another --out.")
    if (images / MANIFEST).exists():
        raise UserError(
            f"{images} is the directory of another step, which has a {MANIFEST} there; choose a "
            "directory of its own for --out."
        )
    if (images / FOLDER / MANIFEST).exists():
        read_manifest(images / FOLDER, FOLDER)
    images.mkdir(parents=True, exist_ok=True)


def _emptied(directory: Path) -> None:
    """Removes all that stands in a directory that is this command's alone."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_entities(graph: Path, out: Path, *, only_visual: bool) -> int:
    """Writes the entities that images are wanted of; what isn't known to be unseen is. How many."""
    with TableWriter(out, ENTITIES) as writer:
        for rows in batches(graph, "entities", ["id", "name", "roots", "visual"]):
            if only_visual:
                rows = rows.filter(pc.fill_null(rows["visual"], True))
            writer.write(rows.select(ENTITIES.names).cast(ENTITIES))
    return writer.rows


def _of_graph(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a data set: its recipe's name and what its tables hold."""
    tables = {n: o["sha256"] for n, o in made_by["outputs"].items() if n.endswith(".parquet")}
    return {"recipe": made_by["recipe"]["name"], "outputs": tables}


def _warnings(done: Mapping[str, Any]) -> list[str]:
    """What sources warn of; what several say is said once."""
    said: dict[str, list[str]] = {}
    for name, made in done.items():
        for warning in made["warnings"]:
            said.setdefault(warning, []).append(name)
    return [f"{', '.join(names)}: {warning}" for warning, names in said.items()]


def _roots(made_by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Id and name of each root, in the recipe's order."""
    names = {found["root"]: found["name"] for found in made_by["counts"]["roots"]}
    return [{"root": root, "name": name} for root, name in names.items()]


# --- sources ------------------------------------------------------------------------------------


@dataclass
class _Run:
    """One run, and what its sources are given."""

    graph: Path
    made_by: Mapping[str, Any]
    recipe: Recipe
    commons: Commons
    entities: Path
    images: Path
    work: Path
    options: Options
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.images / FOLDER

    def request(self, source: Source, found: Mapping[str, Path]) -> Request:
        return Request(
            self.graph,
            self.recipe,
            self.entities,
            self.recipe.images,
            self.commons,
            {option.name: self.options.given.get(option.name, ()) for option in source.options},
            self.options.store,
            self.images,
            self.work / source.name / "out",
            self.work / source.name / "scratch",
            found,
            self.options.workers,
            self.options.max_rejects,
            self.options.allow_damage,
            self.options.fresh,
            self.options.quiet,
            self.shared,
        )

    def key(self, source: Source, inputs: Mapping[str, Any], found: Mapping[str, Path]) -> str:
        """A digest of all that decides about a source's rows."""
        standing = {
            name: read_manifest(path.parent, "source")["outputs"] for name, path in found.items()
        }
        settings = asdict(self.recipe.images)
        return digest_of_data(
            [tool_versions(), _code(), source.name, _of_graph(self.made_by), settings, inputs,
             standing, self.recipe.languages()]
        )  # fmt: skip


@cache
def _code() -> str:
    """A digest of the code and of the tables beside it; ``graph`` has what walks statements."""
    rooms = (Path(__file__).parents[1] / name for name in ("download", "etl", "graph"))
    return digest_of_code(*rooms, suffixes=(".py", ".tsv", ".toml"))


def _run_all(run: _Run, chosen: Sequence[Source]) -> tuple[dict[str, Any], dict[str, str]]:
    """Manifests of the sources that are done, and why others aren't; those of facts run last."""
    done: dict[str, Any] = {}
    failed: dict[str, str] = {}
    found: dict[str, Path] = {}
    for source in sorted(chosen, key=lambda source: source.kind == "facts"):
        try:
            done[source.name] = _done(run, source, found if source.kind == "facts" else {})
        except UserError as error:
            failed[source.name] = str(error)
            continue
        if source.kind == "candidates":
            found[source.name] = run.folder / source.name / CANDIDATES_FILE
    in_order = [source.name for source in chosen]
    return {name: done[name] for name in in_order if name in done}, failed


def _done(run: _Run, source: Source, found: Mapping[str, Path]) -> dict[str, Any]:
    """Runs one source, or finds that what stands is what it would find; returns its manifest."""
    started = time.perf_counter()
    request = run.request(source, found)
    inputs = source.inputs(request)
    key = run.key(source, inputs, found)
    final = run.folder / source.name
    if not run.options.fresh and (final / MANIFEST).exists():
        standing = read_manifest(final, "source")
        if standing.get("key") == key and not misshapen(final, standing):
            return standing
    _check_own(final)
    with _directories(request):
        said = dict(source.find(request))
        names = [p.name for p in sorted(request.out.iterdir())]
        manifest = {
            "step": "source",
            "source": source.name,
            "key": key,
            "versions": tool_versions(),
            "inputs": inputs,
            **said,
            "counts": said.get("counts", {}),
            "warnings": said.get("warnings", []),
            "outputs": digests(request.out, names, quiet=run.options.quiet),
            "seconds": round(time.perf_counter() - started, 2),
        }
        settle(request.out, final, manifest)
    return read_manifest(final, "source")


def _check_own(directory: Path) -> None:
    """Refuses to replace what this command hasn't written."""
    if not directory.exists():
        return
    known = {MANIFEST}
    if (directory / MANIFEST).is_file():
        known |= {*read_manifest(directory, "source")["outputs"]}
    foreign = sorted({path.name for path in directory.iterdir()} - known)
    if foreign:
        raise UserError(
            f"{directory} holds {foreign[0]!r}, which no source wrote: move it away, or choose "
            "another --out."
        )


@contextmanager
def _directories(request: Request) -> Iterator[None]:
    """Makes the directories of a source, and removes what is left of them."""
    above = request.out.parent
    for directory in (request.out, request.scratch):
        directory.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(above)


def _part(folder: Path, source: Source) -> Part:
    name = FACTS_FILE if source.kind == "facts" else CANDIDATES_FILE
    return Part(source.name, folder / source.name / name, facts=source.kind == "facts")


def _left_out(folder: Path, named: Sequence[str]) -> list[str]:
    """Sources that stand there and are not in the merged table, since nobody named them."""
    standing = (path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    return sorted(name for name in standing if name not in named)
