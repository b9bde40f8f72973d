"""The benchmark of the loader runs, and finds exact pixels equal to open_clip's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks import loading
from benchmarks.options import ROOT
from tests.training.packed import make_shards


def test_the_benchmark_of_loading_measures_what_it_names(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, side=256)
    pixels = loading._pixels(shards)
    assert pixels["exact"]["max"] == 0
    assert pixels["fast"]["psnr"] > 55
    command = loading._command("ours", shards, 0, "fast")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["images"] == 64
    assert min(found["seconds"], found["cpu"]) > 0
    rounds = [{"exact": found, "fast": found, "open_clip_train": found}]
    size = {"size": 256, "bytes": 3e4, "rounds": rounds, "pixels": pixels}
    figures = {"photos": 64, "cores": 2, "workers": 1, "notes": ["a note"]}
    text = loading.tables({**figures, "sizes": [{**size, "stages": {"exact": {"decode": 0.001}}}]})
    assert "1.00×" in text
    assert "equal" in text
