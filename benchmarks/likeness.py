"""How often copies of pictures are found, how often look-alikes are taken for copies, and how fast.

Pictures of 21 kinds are drawn in families of look-alikes (benchmarks/look_alikes.py). The first of
each family is changed in all ways that copies are, and looked for among the unchanged ones; pairs
of unchanged ones that count as copies are false. Then as many likenesses as there are to be are
made of those of the drawn pictures and of noise, a fiftieth of them copies, and clustered, in a
process of its own.

That the pictures are drawn is a limit: photographs have more detail, the drawn ones more in common.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.look_alikes import CHANGES, KINDS, drawn
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.watch import run
from download.pack import against, alike, duplicates, likeness
from download.pack.image import fitted

Bytes = npt.NDArray[np.uint8]

_FAMILIES, _MEMBERS = 12, 5
_SIZE = 256  # pixels of the shorter side, as images are packed by default
THRESHOLDS: Final = (0.9, 0.94, 0.96, 0.97, 0.98)
_COPIES = 50  # one of so many made likenesses is a copy
#: What a made likeness has of a drawn picture's and of noise: two of one picture correlate by 0.25,
#: so keys crowd as those of real pictures do.
_OF_PICTURE, _OF_NOISE = 0.5, 0.85
_TIMED = 200  # pictures

_CLUSTERS = """
import sys
from pathlib import Path
import numpy as np
from download.pack import duplicates, likeness
path, scratch = map(Path, sys.argv[1:])
many = np.memmap(path, np.uint8, "r").reshape(-1, likeness.LENGTH)
found = duplicates.clusters(many, scratch=scratch)
print(found.counts)
np.save(scratch / "labels.npy", found.labels)
"""


class _Drawn(NamedTuple):
    """Likenesses of unchanged pictures, and of the first of each family, changed."""

    originals: Bytes  # (kinds, families, members, LENGTH)
    changed: Bytes  # (kinds, families, changes, LENGTH)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    families = min(_FAMILIES, max(1, options.likenesses // 100))
    made = _drawn(families, options.workers)
    counts = sorted({max(options.likenesses // 5, 1), options.likenesses})
    work = options.work / "likeness"
    work.mkdir(parents=True, exist_ok=True)
    return {
        "kinds": len(KINDS),
        "families": families,
        "members": _MEMBERS,
        "same": alike.SAME,
        "against": against.SAME,
        "seconds": _seconds(),
        "found": _found(made),
        "false": _false(made),
        "scale": [_scale(made, count, work, options.seed) for count in counts],
    }


# ------------------------------------------------------------------------------- drawn ones


def _drawn(families: int, workers: int) -> _Drawn:
    places = [(kind, family) for kind in KINDS for family in range(families)]
    with ProcessPoolExecutor(workers) as pool:
        made = list(pool.map(_family, places, chunksize=4))
    shape = len(KINDS), families, -1, likeness.LENGTH
    originals, changed = zip(*made, strict=True)
    return _Drawn(np.stack(originals).reshape(shape), np.stack(changed).reshape(shape))


def _family(place: tuple[str, int]) -> tuple[Bytes, Bytes]:
    kind, family = place
    members = [drawn(kind, family, member) for member in range(_MEMBERS)]
    rng = np.random.default_rng([list(KINDS).index(kind), family])
    changed = [change(members[0], rng) for change in CHANGES.values()]
    return _likenesses(members), _likenesses(changed)


def _likenesses(pictures: list[Image.Image]) -> Bytes:
    return likeness.likenesses(likeness.of(np.asarray(_small(picture))) for picture in pictures)


def _small(picture: Image.Image) -> Image.Image:
    size = fitted(*picture.size, _SIZE)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _found(made: _Drawn) -> list[dict[str, Any]]:
    """For each change the share of pictures whose changed copy is found, by threshold."""
    firsts = made.originals[:, :, 0].reshape(-1, likeness.LENGTH)
    shown = ~alike.plain(firsts)
    firsts = firsts[shown]
    rows = []
    for place, change in enumerate(CHANGES):
        changed = made.changed[:, :, place].reshape(-1, likeness.LENGTH)[shown]
        pairs, similarity = duplicates.matches(changed, firsts, same=0.0)
        own = similarity[pairs[:, 0] == pairs[:, 1]]
        shares = [float((own >= same).sum() / len(firsts)) for same in THRESHOLDS]
        rows.append({"change": change, "candidates": len(own) / len(firsts), "shares": shares})
    return rows


def _false(made: _Drawn) -> list[dict[str, Any]]:
    """For each kind the pairs of its pictures that aren't copies and count as such."""
    kinds, families, members, _ = made.originals.shape
    many = made.originals.reshape(-1, likeness.LENGTH)
    pairs, similarity = duplicates.matches(many, many.copy(), same=min(THRESHOLDS))
    ones, others = pairs.T
    different = (ones < others) & (many[ones] != many[others]).any(axis=1)
    ones, others, similarity = ones[different], others[different], similarity[different]
    each = families * members
    rows = []
    for place, kind in enumerate(KINDS):
        here = (ones // each == place) & (others // each == place)
        rows.append(_row(kind, similarity[here], each * (each - 1) // 2))
        rows[-1]["plain"] = float(alike.plain(many[place * each : (place + 1) * each]).mean())
    across = ones // each != others // each
    rows.append(_row("of two kinds", similarity[across], kinds * (kinds - 1) // 2 * each**2))
    return rows


def _row(kind: str, similarity: npt.NDArray[np.float32], pairs: int) -> dict[str, Any]:
    counts = [int((similarity >= same).sum()) for same in THRESHOLDS]
    return {"kind": kind, "pairs": pairs, "counts": counts, "plain": 0.0}


# ------------------------------------------------------------------------------- speed


def _seconds() -> float:
    """Of one likeness."""
    pictures = [_small(drawn(kind, 0, 0)) for kind in list(KINDS)[:5]]
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for turn in range(_TIMED):
            likeness.of(np.asarray(pictures[turn % len(pictures)]))
        best = min(best, (time.process_time() - started) / _TIMED)
    return best


def _scale(made: _Drawn, count: int, work: Path, seed: int) -> dict[str, Any]:
    path, scratch = work / f"likenesses-{count}", work / "scratch"
    scratch.mkdir(exist_ok=True)
    copies = _write(path, made.originals.reshape(-1, likeness.LENGTH), count, seed)
    command = [sys.executable, "-c", _CLUSTERS, str(path), str(scratch)]
    watched = run(command, ROOT, disk=scratch)
    labels = np.load(scratch / "labels.npy")
    rows = np.arange(_COPIES - 1, count, _COPIES)
    merged = int((labels != np.arange(count)).sum())
    found = int((labels[rows] == labels[rows - 1]).sum())
    for file in (path, scratch / "labels.npy"):
        file.unlink()
    return {
        "likenesses": count,
        "seconds": watched.seconds,
        "cpu_seconds": watched.cpu_seconds,
        "memory": watched.main_private,
        "disk": watched.disk_peak,
        "copies": copies,
        "found": found,
        "merged": merged,
    }


def _write(path: Path, drawn_ones: Bytes, count: int, seed: int) -> int:
    """Likenesses that are unlike one another, but for copies of the one before; how many copies."""
    rng = np.random.default_rng(seed)
    shown = drawn_ones[~alike.plain(drawn_ones)]
    copies = 0
    with path.open("wb") as file:
        for start in range(0, count, 50_000):
            rows = np.arange(start, min(start + 50_000, count))
            made = shown[rng.integers(0, len(shown), len(rows))].copy()
            bright = made[:, 4:580].view(np.int8)
            noise = rng.normal(0, likeness.STEPS, bright.shape).astype(np.float32)
            mixed = _OF_PICTURE * bright + _OF_NOISE * noise
            copied = np.flatnonzero(rows % _COPIES == _COPIES - 1)
            made[copied], mixed[copied] = made[copied - 1], mixed[copied - 1]
            mixed[copied] += rng.normal(0, 1, (len(copied), mixed.shape[1]))
            bright[:] = np.clip(np.rint(mixed), -127, 127)
            copies += len(copied)
            file.write(made.tobytes())
    return copies


# ------------------------------------------------------------------------------- tables


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    return "\n\n".join(
        [
            f"A likeness takes {figures['seconds'] * 1000:.2f} ms. {figures['kinds']} kinds of "
            f"pictures, {figures['families']} families of {figures['members']} of each. Copies "
            f"found, in %, by the least similarity: {figures['same']} for duplicates, "
            f"{figures['against']} for evaluation sets. Plain pictures are left out.",
            _found_table(figures["found"]),
            "Pairs of different pictures that count as copies:",
            _false_table(figures["false"]),
            "Clusters of made likenesses, one in 50 a copy:",
            _scale_table(figures["scale"]),
        ]
    )


def _found_table(rows: list[dict[str, Any]]) -> str:
    header = ["changed by", "candidates", *(f"≥ {same}" for same in THRESHOLDS)]
    lines = [
        [row["change"], *(f"{100 * share:.0f}" for share in (row["candidates"], *row["shares"]))]
        for row in rows
    ]
    return table(header, lines)


def _false_table(rows: list[dict[str, Any]]) -> str:
    header = ["kind", "pairs", "plain %", *(f"≥ {same}" for same in THRESHOLDS)]
    lines = [
        [row["kind"], f"{row['pairs']:,}", f"{100 * row['plain']:.0f}", *map(str, row["counts"])]
        for row in rows
    ]
    return table(header, lines)


def _scale_table(rows: list[dict[str, Any]]) -> str:
    header = [
        "likenesses", "s", "processor s", "peak MB", "on disk MB", "copies", "found",
        "rows merged",
    ]  # fmt: skip
    lines = [
        [
            f"{row['likenesses']:,}",
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            megabytes(row["memory"]),
            megabytes(row["disk"]),
            f"{row['copies']:,}",
            f"{row['found']:,}",
            f"{row['merged']:,}",
        ]
        for row in rows
    ]
    return table(header, lines)
