"""Where shards end up: a directory of this machine, or a place that fsspec knows.

In a directory all is moved into place when all is complete: the old manifest goes first and the new
one comes last, so that what a manifest lists is there. What is to be moved is written down before,
so a run that is killed meanwhile is finished by the next, whatever that was asked for.

An object store can't rename. There the old manifest goes before the first shard is put, and the new
one comes last; what was there before, or was put by a run that was given up, and isn't overwritten
is removed in between. What that may be is kept in the work, whatever the next run is asked for.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import ujson

from download.candidates import FOLDER as CANDIDATES_FOLDER
from download.fetch.log import FOLDER as FETCHES_FOLDER
from download.pack.shards import FOLDER as SHARDS_FOLDER
from download.pack.shards import put
from etl import location as place
from etl.errors import UserError
from etl.manifest import (
    DISCARDED,
    MANIFEST,
    discard,
    flush,
    misshapen,
    read_manifest,
    write_json,
    write_manifest,
)
from etl.source import is_elsewhere
from etl.store import LOCK

STEP: Final = "shards"
WORK: Final = ".packing"

#: What stands elsewhere, or may have been put there, by name.
PLACED_FILE: Final = "placed.json"

_FINISHED = "finished.json"  # what to move into place, and the manifest of it


class Target:
    """A place for shards; ``out`` is a path or LOCATION, ``images`` the directory they are of."""

    def __init__(self, out: str, images: Path) -> None:
        self._images = images
        self.elsewhere = is_elsewhere(out)
        self.out = place.settled(out, "--out") if self.elsewhere else out
        if self.elsewhere:
            digest = hashlib.sha256(self.out.encode()).hexdigest()
            self.work = images / f"{WORK}-{digest[:12]}"
        else:
            self.work = Path(out) / WORK

    @property
    def locked(self) -> Path:
        """The directory that one run at a time may use."""
        return self.work if self.elsewhere else Path(self.out)

    def check(self) -> None:
        """Refuses a directory with what isn't ours.

        Raises UserError that names it.
        """
        if self.elsewhere:
            self._refuse(self._there(), {MANIFEST, *self._placed(), *self._outputs()})
            return
        out = Path(self.out)
        for path in (out, *out.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file; choose another --out.")
        for step in (CANDIDATES_FOLDER, FETCHES_FOLDER):
            if out.resolve().is_relative_to((self._images / step).resolve()):
                raise UserError(
                    f"{out} would stand among what it is made from; choose another --out."
                )
        if not out.exists():
            return
        known = {LOCK, MANIFEST, WORK, f"{WORK}{DISCARDED}", *self._pending().get("names", [])}
        if (out / MANIFEST).exists():
            known |= {*read_manifest(out, STEP)["outputs"]}
        known |= {path.name for path in _unfinished(out)}
        self._refuse({path.name for path in out.iterdir()}, known)

    def _refuse(self, there: set[str], known: set[str]) -> None:
        foreign = sorted(there - known)
        if foreign:
            raise UserError(
                f"{self.out} holds {foreign[0]!r}, which `sparqless images pack` did not write "
                "there: move it away, or choose another --out."
            )

    def standing(self) -> dict[str, Any] | None:
        """The manifest of the shards that stand there, if there is one and no file is missing."""
        if not self.elsewhere:
            out = Path(self.out)
            if not (out / MANIFEST).exists():
                return None
            manifest = read_manifest(out, STEP)
            return None if misshapen(out, manifest) else manifest
        with place.reaching(self.out):
            files, root = _opened(self.out)
            try:
                found = ujson.loads(files.cat_file(f"{root}/{MANIFEST}"))
            except FileNotFoundError:
                return None
        if not isinstance(found, dict) or found.get("step") != STEP:
            raise UserError(f"{self.out}/{MANIFEST} is not of shards; choose another --out.")
        return found

    def begin(self, standing: Mapping[str, Any] | None, names: Iterable[str]) -> None:
        """Before the first of ``names`` is put: what stands elsewhere is no longer whole."""
        if not self.elsewhere:
            return
        stood = () if standing is None else standing["outputs"]
        write_json(self.work / PLACED_FILE, sorted({*self._placed(), *stood, *names}))
        with place.reaching(self.out):
            files, root = _opened(self.out)
            if standing is not None:
                files.rm_file(f"{root}/{MANIFEST}")
            if "file" in files.protocol:  # other storages need no folders
                files.makedirs(root, exist_ok=True)

    def publish(self, manifest: Mapping[str, Any], standing: Mapping[str, Any] | None) -> None:
        """Puts everything in its place; then the work is gone."""
        names = [*manifest["outputs"]]
        if self.elsewhere:
            self._put(names, manifest)
            discard(self.work)
            return
        before = [] if standing is None else [*standing["outputs"]]
        gone = sorted({*before} - {*names})
        flush(self.work, [name for name in names if (self.work / name).exists()])
        pending = {"names": [*names, *gone], "gone": gone, "manifest": manifest}
        write_json(self.work / _FINISHED, pending)
        self.finish()

    def finish(self) -> None:
        """Moves into place what a run has finished, perhaps an earlier one that was killed."""
        for path in _unfinished(Path(self.out)):
            path.unlink()
        shutil.rmtree(f"{self.work}{DISCARDED}", ignore_errors=True)  # a kill left it half removed
        pending = self._pending()
        if not pending:
            return
        out = Path(self.out)
        (out / MANIFEST).unlink(missing_ok=True)
        for name in pending["gone"]:
            (out / name).unlink(missing_ok=True)
        for name in pending["manifest"]["outputs"]:
            for made in (self.work / name, self.work / SHARDS_FOLDER / name):
                if made.exists():
                    made.rename(out / name)
        flush(out, [])
        write_manifest(out, pending["manifest"])
        discard(self.work)

    def _pending(self) -> dict[str, Any]:
        if self.elsewhere:
            return {}
        try:
            found: dict[str, Any] = ujson.loads((self.work / _FINISHED).read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def _put(self, names: Iterable[str], manifest: Mapping[str, Any]) -> None:
        for name in names:
            if (self.work / name).exists():  # shards are there already
                put(self.work / name, f"{self.out}/{name}")
        write_manifest(self.work, dict(manifest))
        with place.reaching(self.out):
            files, root = _opened(self.out)
            for name in sorted({*self._placed()} - {*names}):
                if files.exists(f"{root}/{name}"):
                    files.rm_file(f"{root}/{name}")
        put(self.work / MANIFEST, f"{self.out}/{MANIFEST}")

    def _placed(self) -> list[str]:
        try:
            found: list[str] = ujson.loads((self.work / PLACED_FILE).read_bytes())
        except FileNotFoundError:
            return []
        return found

    def _outputs(self) -> list[str]:
        standing = self.standing()
        return [] if standing is None else [*standing["outputs"]]

    def _there(self) -> set[str]:
        """Names of what is in the place elsewhere."""
        with place.reaching(self.out):
            files, root = _opened(self.out)
            try:
                paths = [path.rstrip("/") for path in files.ls(root, detail=False)]
            except FileNotFoundError:
                return set()
        # a store may list a folder's own mark among what is in it
        return {path.rpartition("/")[2] for path in paths if path != root.rstrip("/")}


def _unfinished(out: Path) -> list[Path]:
    """What a kill leaves of a manifest that was being written."""
    return list(out.glob(f"{MANIFEST}.*.tmp"))


def _opened(location: str) -> tuple[Any, str]:
    import fsspec

    files, root = fsspec.url_to_fs(location)
    files.invalidate_cache()
    return files, root
