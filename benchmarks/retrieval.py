"""Recalls of many images and texts: time and memory, beside the matrix products alone.

Embeddings are random, 512 wide as ViT-B's, five texts an image, as COCO and Flickr30k have them.
Each run is a process of its own (Linux: peaks are the kernel's). Torch has as many threads as
OMP_NUM_THREADS says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from benchmarks.watch import run

#: The page with the figures.
PAGE = ROOT / "docs" / "evaluation.md"

_TEXTS = 5
_DIMENSIONS = 512

_RUN = """
import json, sys, time
import torch
from training.ranking import BLOCK
from training.retrieval import Pairs, measured
images, texts, wide, alone = map(int, sys.argv[1:5])
made = torch.Generator().manual_seed(0)
a, b = (torch.nn.functional.normalize(torch.randn(n, wide, generator=made), dim=1)
        for n in (images, images * texts))
pairs = Pairs(["x"] * len(b), [list(range(texts * i, texts * (i + 1))) for i in range(images)],
              [[j // texts] for j in range(len(b))])
def resident(which):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if which in line)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is what is resident now (man proc)
before, started = resident("VmRSS"), time.perf_counter()
if alone:
    for one, other in ((a, b), (b, a)):
        step = BLOCK // 4 // len(other)
        for first in range(0, len(one), step):
            one[first:first + step] @ other.T
else:
    measured(a, b, pairs)
seconds = time.perf_counter() - started
figures = {"seconds": seconds, "memory": (resident("VmHWM") - before) * 1024,
           "threads": torch.get_num_threads()}
open(sys.argv[5], "w").write(json.dumps(figures))
"""


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    options.work.mkdir(parents=True, exist_ok=True)
    runs = []
    for images in (max(1, options.pairs // 4), options.pairs):
        runs.append({"images": images, **_measured(images, options.work, alone=False)})
        if images != options.pairs:
            runs[-1]["alone"] = _measured(images, options.work, alone=True)["seconds"]
    return {"runs": runs}


def _measured(images: int, work: Path, *, alone: bool) -> dict[str, Any]:
    out = work / "retrieval.json"
    numbers = [str(n) for n in (images, _TEXTS, _DIMENSIONS, int(alone))]
    run([sys.executable, "-c", _RUN, *numbers, str(out)], ROOT)
    found: dict[str, Any] = json.loads(out.read_bytes())
    out.unlink()
    return found


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    lines = []
    for one in figures["runs"]:
        scores = 2 * _TEXTS * one["images"] ** 2
        lines.append(
            [
                f"{one['images']:,} images, {_TEXTS * one['images']:,} texts",
                f"{one['seconds']:.0f}",
                f"{one['alone']:.0f}" if "alone" in one else "",
                f"{scores / one['seconds'] / 1e6:.0f}",
                megabytes(one["memory"]),
                megabytes(4 * _TEXTS * one["images"] ** 2),
                str(one["threads"]),
            ]
        )
    header = ["both ways", "s", "products alone, s", "million scores/s", "MB beside the embeddings",
              "MB of all scores", "threads"]  # fmt: skip
    return table(header, lines)
