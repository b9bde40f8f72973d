"""`sparqless etl` as a user starts it, watched; and whether two stores are the same."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import Any

from benchmarks import watch
from benchmarks.options import ROOT
from etl.digest import digest_of
from etl.store import DATA

_COUNTED = ("entities", "items", "properties", "skipped", "edges")


@dataclass(frozen=True)
class Rate:
    """``entities`` lines of ``json_bytes`` in all, read by ``processes`` in ``seconds``.

    ``cpu_seconds`` are those of all processes together: less disturbed by other work.
    """

    name: str
    processes: int
    json_bytes: int
    entities: int
    seconds: float
    cpu_seconds: float

    @property
    def megabytes(self) -> float:
        """MB of JSON a second."""
        return self.json_bytes / 1e6 / self.seconds

    @property
    def lines(self) -> float:
        """Entities a second."""
        return self.entities / self.seconds


@dataclass(frozen=True)
class Built:
    """A store as a command made it; sizes in bytes, ``stages`` in seconds."""

    rate: Rate
    watched: watch.Watched
    store_bytes: int
    lmdb_bytes: int
    stages: dict[str, float]
    manifest: dict[str, Any]

    @property
    def disk_per_record_byte(self) -> float:
        """Peak of disk while it was built, over the bytes of encoded records."""
        return self.watched.disk_peak / int(self.manifest["counts"]["record_bytes"])

    @property
    def bytes_per_record(self) -> float:
        """Size of the whole store for an entity."""
        return self.store_bytes / self.rate.entities


def command(path: Path, store: Path, workers: int, more: Sequence[str] = ()) -> list[str]:
    """The command line of a build."""
    call = [sys.executable, "-m", "cli", "etl", str(path), "--store", str(store)]
    return [*call, "--workers", str(workers), "--quiet", *more]


def build(
    path: Path,
    store: Path,
    workers: int,
    more: Sequence[str] = (),
    name: str = "sparqless etl",
) -> Built:
    """Run `sparqless etl` into an empty ``store``; ``more`` are further options of it.

    Raises RuntimeError where it fails or leaves no manifest.
    """
    shutil.rmtree(store, ignore_errors=True)
    call = command(path, store, workers, more)
    watched = watch.run(call, ROOT, disk=store)
    if not (store / "manifest.json").exists():
        raise RuntimeError(f"{' '.join(call)} left no manifest")
    written = json.loads((store / "manifest.json").read_text())
    counts, seconds = written["counts"], written["seconds"]
    files = [file for file in store.rglob("*") if file.is_file()]
    return Built(
        Rate(
            name,
            workers,
            counts["json_bytes"],
            counts["entities"],
            watched.seconds,
            watched.cpu_seconds,
        ),
        watched,
        sum(file.stat().st_size for file in files),
        (store / DATA).stat().st_size,
        {phase: seconds[phase] for phase in ("read", "all")},
        written,
    )


def differences(store: Path, reference: Path) -> list[str]:
    """Names of what differs between two stores; none where they are the same.

    Files are compared byte by byte, of LMDB its records, because the bytes of its file depend on
    the history of its pages; of the manifest what it counted.
    """
    ours, theirs = _files(store), _files(reference)
    found = sorted(ours ^ theirs)
    found += [n for n in sorted(ours & theirs) if not cmp(store / n, reference / n, shallow=False)]
    if digest_of(store) != digest_of(reference):
        found.append(DATA)
    counts, expected = (
        json.loads((at / "manifest.json").read_text())["counts"] for at in (store, reference)
    )
    return found + [f"counts.{n}" for n in _COUNTED if counts[n] != expected[n]]


def _files(store: Path) -> set[str]:
    files = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    return files - {DATA, "lock.mdb", "manifest.json", ".lock"}
