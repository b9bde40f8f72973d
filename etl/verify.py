"""Recompute what a manifest promises: is this directory what the step wrote?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import ujson

from etl import engine
from etl.digest import digest_of
from etl.errors import UserError
from etl.manifest import MANIFEST, digest_of_file, is_untouched
from etl.progress import Progress, Tick
from etl.store import DATA


class Check(msgspec.Struct, frozen=True):
    """One file and what is wrong with it; ``problem`` is empty where nothing is."""

    name: str
    problem: str = ""


def verify(directory: Path) -> list[Check]:
    """Checks every output that the manifest of a finished step lists, and the manifest itself.

    So for the directory and for all steps that stand below it. For a store the records are read
    too, through LMDB in a process of their own, because a damaged page can take the reader down.

    Raises UserError where there is no manifest to check against.
    """
    steps = [step for step in _steps(directory) if step != directory]
    own = (directory / MANIFEST).exists() or not steps
    checks = _verified(directory) if own else []
    for step in steps:
        inside = step.relative_to(directory)
        checks += [Check(str(inside / c.name), c.problem) for c in _verified(step)]
    return checks


def _steps(directory: Path) -> Iterator[Path]:
    """Directories with a manifest; not those of work under way, which have a plan."""
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "plan.json" in files:
            folders.clear()
        elif MANIFEST in files:
            yield Path(folder)


def _verified(directory: Path) -> list[Check]:
    manifest = _any_manifest(directory)
    checks = [
        Check(MANIFEST, "" if is_untouched(directory) else "was changed after it was written")
    ]
    outputs = manifest["outputs"]
    with Progress("verifying", sum(expected["bytes"] for expected in outputs.values())) as progress:
        for name, expected in sorted(outputs.items()):
            checks.append(Check(name, _file_problem(directory / name, expected, progress.add)))
    if "contents" in manifest:
        intact = all(not c.problem for c in checks if c.name == DATA)
        problem = _contents_problem(directory, manifest["contents"]) if intact else "not read"
        checks.append(Check(f"{DATA} records", problem))
    return checks


def _any_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        data = ujson.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no {MANIFEST}: it is not a finished step, so there is nothing to "
            "verify it against."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): it was changed or cut off.") from error
    if not isinstance(data, dict) or not isinstance(data.get("outputs"), dict):
        raise UserError(f"{path} lists no outputs: it is not a manifest of sparqless.")
    for name in data["outputs"]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path} lists {name!r}, which is not in {directory}: don't trust it.")
    return data


def _file_problem(path: Path, expected: dict[str, Any], tick: Tick) -> str:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    if size != expected["bytes"]:
        return f"has {size:,} bytes, was written with {expected['bytes']:,}"
    found = digest_of_file(path, tick)
    return "" if found == expected["sha256"] else "was changed after it was written"


def _contents_problem(directory: Path, expected: dict[str, Any]) -> str:
    try:
        with Progress("reading", expected["records"], unit=" records") as progress:
            ((_, found),) = engine.run(digest_of, [directory], 1, progress.add)
    except UserError as error:
        return f"can't be read ({error})"
    return "" if found == expected else "are not the ones that were written"
