"""A dump becomes a store: what is checked before the work, and the plan; resumable anywhere.

    sparqless etl latest-all.json.gz --store data/store

The plan is on disk before the work. A slice is done when its directory is there, the store when
its manifest is; whatever is killed in between, the same command goes on and ends with what an
uninterrupted run gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import ujson

from etl.build import PAIRS, WORK, build, remove_slices, workers_for
from etl.cluster import import_ray
from etl.dump import STDIN, Input, find_inputs
from etl.engine import Pool
from etl.errors import UserError
from etl.estimate import Estimate, check_disk
from etl.keep import keep
from etl.losses import REJECTS
from etl.manifest import DISCARDED, MANIFEST, check_whole, discard, read_manifest, write_json
from etl.names import NAMES
from etl.plan import OF_THE_WORK, Options, Plan, as_json, check_same, make_plan
from etl.redirects import find_redirect_dumps
from etl.remote import is_dated, is_http, public
from etl.source import Access, is_elsewhere, reach
from etl.store import DATA, DICTIONARY, LOCK, REDIRECTS
from etl.update import check_old, held
from etl.writing import disk_errors, locked

_PLAN = "plan.json"


def ingest(
    names: tuple[str, ...],
    store: Path,
    options: Options,
    announce: Callable[[Estimate], None] = lambda estimate: None,
) -> dict[str, Any]:
    """Builds, or goes on building, the store of a dump; returns its manifest.

    ``announce`` is told what a new build is expected to take, before it begins.

    Raises UserError for everything a user can mend: no dump, another plan, a lock, damage, too
    many rejects, a full disk.
    """
    inputs, access = _found(names, store, options)
    plan = make_plan(inputs, options, find_redirect_dumps(options.redirects, options.pages))
    if is_finished(store) and not options.fresh and not any(store.glob(f"{WORK}*")):
        return _finished(store, plan)
    if options.update_from and (options.fresh or not is_finished(store)):
        updated = check_old(options.update_from, store, options.kept)
        plan = msgspec.structs.replace(plan, update_from=updated)
    if options.cluster is not None:
        _check_cluster(plan)
    _check_directory(store)
    store.mkdir(parents=True, exist_ok=True)
    with locked(store):
        if options.fresh:
            _remove_build(store)
            remove_slices(store, plan, options)
        if is_finished(store):
            manifest = _finished(store, plan)
            made_with = manifest["plan"]["update_from"]  # which tells where a cluster put slices
            plan = msgspec.structs.replace(plan, update_from=made_with)
            remove_slices(store, plan, options)  # of a run that was killed when all was done
            return manifest
        with Pool(workers_for(plan, options)) as pool:
            pool.start()
            if not (store / WORK / _PLAN).exists():
                check_disk(store, inputs, access, options, announce)
            _settle_plan(store, plan)
            kept_in = None if options.limit else options.keep_dump  # a look isn't worth keeping
            with disk_errors(store), held(options.update_from), keep(access, kept_in) as keeping:
                if options.update_from:
                    _check_older(options.update_from, plan)
                manifest = build(store, plan, options, keeping, pool)
                remove_slices(store, plan, options)
                return manifest


def _check_older(old: Path, plan: Plan) -> None:
    """Between the first look at an older store and holding it somebody may have built there."""
    if read_manifest(old, "store")["manifest_sha256"] != plan.update_from:
        raise UserError(f"--update-from {old} was built anew just now; run the command again.")


def _found(names: tuple[str, ...], store: Path, options: Options) -> tuple[list[Input], Access]:
    """The dump, and what reading it takes.

    What a finished store was made from is not asked for again where its addresses are of dated
    files: those don't change, and are removed after some weeks.
    """
    if is_finished(store) and not options.fresh and all(map(is_dated, names)):
        made_from = read_manifest(store, "store")["plan"]["inputs"]
        if [file.get("address") for file in made_from] == [public(name) for name in names]:
            with_paths = [
                {**file, "path": name} for file, name in zip(made_from, names, strict=True)
            ]
            return msgspec.convert(with_paths, list[Input]), Access()
    if options.cluster is not None:
        names = tuple(map(_for_nodes, names))
    begun = [] if options.fresh else _begun(store)
    names, access = reach(
        names, options.contact, options.keep_dump, begun=begun, quiet=options.quiet
    )
    return find_inputs(names, access), access


def is_finished(store: Path) -> bool:
    """Whether a store stands in a directory: its manifest is there."""
    return (store / MANIFEST).exists()


# --- before the work ----------------------------------------------------------------------------


def _check_directory(store: Path) -> None:
    """Refuses to build among files that aren't a build's."""
    if not store.exists():
        return
    if not store.is_dir():
        raise UserError(f"{store} is a file; choose an empty or new directory for --store.")
    foreign = {p.name for p in store.iterdir()} - _own_names()
    if foreign:
        raise UserError(
            f"{store} holds files that are not a store's ({', '.join(sorted(foreign)[:3])}); "
            "choose an empty or new directory for --store."
        )


def _own_names() -> set[str]:
    outputs = {DATA, "nodes.parquet", "edges", NAMES, DICTIONARY, REDIRECTS, REJECTS}
    directories = {WORK, f"{WORK}{DISCARDED}", f"edges{DISCARDED}"}
    return {LOCK, "lock.mdb", MANIFEST, *outputs, *directories}


def _remove_build(store: Path) -> None:
    """--fresh: the manifest goes first, so that a kill leaves no half of a finished store."""
    (store / MANIFEST).unlink(missing_ok=True)
    for name in sorted(_own_names() - {LOCK, MANIFEST}):
        path = store / name
        if path.is_file():
            path.unlink()
        else:
            discard(path)


def _for_nodes(name: str) -> str:
    """A path as it is understood on another machine."""
    return name if is_elsewhere(name) or name == STDIN else os.path.abspath(name)


def _check_cluster(plan: Plan) -> None:
    """Refuses what the nodes of a cluster can't do, or shouldn't."""
    import_ray()
    if plan.inputs[0].path == STDIN:
        raise UserError("standard input can be read here only; leave out --engine ray.")
    if plan.limit:
        raise UserError("--limit reads a few lines, and does it here; leave out --engine ray.")
    if any(is_http(file.path) for file in plan.inputs):
        raise UserError(
            "a web server isn't asked by all nodes of a cluster at once; put the dump where they "
            "find it (a shared directory, s3://…), or leave out --engine ray."
        )


def _begun(store: Path) -> list[str]:
    """Addresses that a build which was interrupted reads; they decide where a link has moved."""
    try:
        inputs = ujson.loads((store / WORK / _PLAN).read_bytes())["inputs"]
        return [file["address"] for file in inputs if "address" in file]
    except (OSError, ValueError, LookupError, TypeError):
        return []  # _settle_plan says what is wrong with a plan that can't be read


def _settle_plan(store: Path, plan: Plan) -> None:
    """Writes the plan, or checks it against the one that stands."""
    path = store / WORK / _PLAN
    encoded = as_json(plan)
    if plan.inputs[0].path == STDIN and path.parent.exists():
        discard(path.parent)  # what stood on it then can't be compared with what stands now
    try:
        standing = ujson.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} can't be read ({error}); start over with --fresh.") from error
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        write_json(path, encoded)
        return
    if standing.get("tables") != encoded["tables"]:
        # the slices have nothing of the tables: what was broken is fetched again and read
        standing = {**standing, "tables": encoded["tables"]}
        check_same(store, standing, encoded, "holds a half-built store")
        (store / WORK / PAIRS).unlink(missing_ok=True)
        write_json(path, encoded)
    check_same(store, standing, encoded, "holds a half-built store")


def _finished(store: Path, plan: Plan) -> dict[str, Any]:
    manifest = read_manifest(store, "store")
    if plan.inputs[0].path == STDIN:
        raise UserError(
            f"{store} holds a finished store, and standard input can't be compared with what it "
            "was made from; choose another --store, or start over with --fresh."
        )
    wanted = {k: v for k, v in as_json(plan).items() if k not in OF_THE_WORK}
    check_same(store, manifest["plan"], wanted, "holds a finished store")
    check_whole(store, manifest, "build it again with --fresh")
    return manifest
