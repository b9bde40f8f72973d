"""Manifests: what a step wrote, from what, how. Written last; its presence means done."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import ujson

from etl.errors import UserError
from etl.progress import Progress, Tick

MANIFEST: Final = "manifest.json"

_PIECE: Final = 1 << 20

#: Ends the name of a directory that is being removed.
DISCARDED: Final = ".discarded"

#: Libraries whose version decides about bytes: recorded, and pinned in constraints.txt.
_RECORDED = (
    "pyarrow",
    "duckdb",
    "lmdb",
    "msgspec",
    "numpy",
    "networkx",
    "isal",
    "zstandard",
    "ujson",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
    "webdataset",
)


def tool_versions() -> dict[str, str]:
    """Versions of this tool, Python and the libraries whose versions decide about bytes."""
    # who only reads manifests needn't wait for it
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in ("sparqless", *_RECORDED):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def digest_of_data(data: Any) -> str:
    """Hex digest of plain data, whatever the order of its maps."""
    text = ujson.dumps(data, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_code(*folders: Path, suffixes: Sequence[str] = (".py",)) -> str:
    """Hex digest of the files in folders whose names end so: code, and tables beside it.

    A clone changes without its version changing.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix in suffixes:
                digest.update(file.read_bytes())
    return digest.hexdigest()


def digest_of_file(path: Path, tick: Tick, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in pieces; ``tick`` is called with the bytes of each."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            tick(len(piece))
    return digest.hexdigest()


def digests(
    directory: Path, names: Iterable[str], *, quiet: bool = False
) -> dict[str, dict[str, Any]]:
    """name → {bytes, sha256} for files of ``directory``."""
    sizes = {name: (directory / name).stat().st_size for name in sorted(names)}
    with Progress("digesting", sum(sizes.values()), quiet=quiet) as progress:
        return {
            name: {"bytes": size, "sha256": digest_of_file(directory / name, progress.add)}
            for name, size in sizes.items()
        }


def _as_text(data: Any) -> bytes:
    text = ujson.dumps(data, indent=1, ensure_ascii=False, escape_forward_slashes=False)
    return f"{text}\n".encode()


def write_json(path: Path, data: Any) -> None:
    """Writes by a temporary file and rename, flushed to the disk before the rename."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_as_text(data))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Removes a directory so that a kill in between leaves it whole or not there at all."""
    doomed = path.with_name(f"{path.name}{DISCARDED}")
    if doomed.exists():
        shutil.rmtree(doomed)
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed)


def flush(directory: Path, names: Iterable[str]) -> None:
    """Puts files and their directory on the disk itself.

    Otherwise a manifest may outlive a power cut that what it lists does not.
    """
    for path in sorted({directory, *(directory / name for name in names)}):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_manifest(directory: Path, data: dict[str, Any]) -> None:
    """Writes the manifest of a step, with a digest of itself, as the last thing of the step."""
    digest = hashlib.sha256(_as_text(data)).hexdigest()
    write_json(directory / MANIFEST, {**data, "manifest_sha256": digest})


def settle(made: Path, final: Path, data: dict[str, Any]) -> None:
    """Puts a finished directory in the place of what stands there; ``data`` is its manifest."""
    flush(made, data["outputs"])
    write_manifest(made, data)
    discard(final)
    made.rename(final)


def misshapen(directory: Path, manifest: dict[str, Any]) -> list[str]:
    """Outputs that are missing or of another size: a look that costs nothing, unlike `verify`."""
    wrong = []
    for name, expected in manifest["outputs"].items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            wrong.append(name)
    return wrong


def is_untouched(directory: Path) -> bool:
    """Whether a manifest is byte for byte what :func:`write_manifest` wrote."""
    written = (directory / MANIFEST).read_bytes()
    data = ujson.loads(written)
    digest = data.pop("manifest_sha256", None)
    whole = _as_text({**data, "manifest_sha256": digest}) == written
    return whole and hashlib.sha256(_as_text(data)).hexdigest() == digest


#: What writes a step, for who lacks it.
_WRITTEN_BY: Final = {
    "store": "`sparqless etl`",
    "graph": "`sparqless graph`",
    "candidates": "`sparqless images find`",
    "fetches": "`sparqless images fetch`",
    "shards": "`sparqless images pack`",
    "run": "`sparqless train`",
}


def read_manifest(directory: Path, step: str) -> dict[str, Any]:
    """The manifest of a finished step; ``step`` (store, graph, …) is what it must be of.

    Raises UserError where there is none, it can't be read, lists no outputs or is of another step.
    """
    path = directory / MANIFEST
    try:
        data = ujson.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{directory} holds no finished {step}: it has no {MANIFEST}; "
            f"run {_WRITTEN_BY.get(step, 'the command that writes it')} to its end first."
        ) from None
    except NotADirectoryError:
        raise UserError(f"{directory} can't hold a {step}: there is a file in its way.") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: can't be read ({error}); remove it, and make the {step} again by "
            f"{_WRITTEN_BY.get(step, 'the command that writes it')}."
        ) from error
    if not isinstance(data, dict) or data.get("step") != step:
        found = data.get("step", "no step") if isinstance(data, dict) else "not a map"
        article = "" if step.endswith("s") else "an " if step[0] in "aeiou" else "a "
        raise UserError(f"{path} is the manifest of {found!r}, not of {article}{step}.")
    if not isinstance(data.get("outputs"), dict):
        raise UserError(
            f"{path} lists no outputs: it was changed or cut off; make the {step} again."
        )
    return data


def digest_of_outputs(manifest: dict[str, Any]) -> str:
    """Of what a step wrote, whenever and how long it took: built again, it is the same."""
    return digest_of_data({name: one["sha256"] for name, one in manifest["outputs"].items()})


def check_whole(directory: Path, manifest: dict[str, Any], remedy: str) -> None:
    """Refuses a finished step that has lost a file since.

    Raises UserError naming the files; ``remedy`` says how to make them again.
    """
    wrong = misshapen(directory, manifest)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{directory} is damaged: {', '.join(wrong[:3])}{more} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or cut off; {remedy}."
        )
