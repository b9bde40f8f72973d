"""Images a second of `sparqless train`, beside open_clip_train on the same shards and device.

Made photographs (benchmarks/photos.py) go through `images pack`, to 256 pixels. Both commands train
the same network from scratch, at the same batch and precision, with as many loader processes, the
same cut of images and a caption each. A run of few epochs and one of more are timed, in turn; what
counts is the difference, so that neither's start does. Neither saves on the way.

open_clip_train needs webdataset ≤ 0.2.86; all else is this environment's. Where there is a GPU, the
step alone is measured too, on tensors that stand there: ViT-B-32 in bfloat16.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import loading, peers, watch
from benchmarks.options import ROOT, Options
from benchmarks.photos import photos_of
from benchmarks.report import table

#: Where the figures go.
PAGE: Final = ROOT / "docs" / "training.md"

_PEER: Final = "open_clip_train"
_BATCH: Final = 64
_LIMIT: Final = 1800.0  # seconds of a run

#: Networks: their context, how many of the photographs at most, and epochs of a short and of a long
#: run: as many as there is time for.
_NETWORKS: Final = {"sparqless-tiny": (32, 1000, (1, 12)), "ViT-S-32-alt": (77, 128, (1, 3))}

_THEIRS: Final = """
import sys
import training.vision
import open_clip
from training.config import FOLDER
open_clip.add_model_config(FOLDER / "sparqless-tiny.json")
from open_clip_train.main import main
main(sys.argv[1:])
"""

#: Of both: one thread computes, one process loads.
_ALIKE: Final = ("OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")

_STEP_SECONDS: Final = 20.0  # of steps on a GPU


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    peer, notes = options.work / loading._WEBDATASET.replace("==", "-"), []
    if options.install_peers and (failed := peers.put_below(peer, loading._WEBDATASET)):
        notes.append(failed)
    if not peer.exists():
        notes.append(f"{_PEER} was not measured: `--install-peers` installs webdataset for it.")
    work = options.work / "training"
    shutil.rmtree(work, ignore_errors=True)
    try:
        networks = {
            name: _of_network(options, work / name, name, min(options.photos, most), peer)
            for name, (_, most, _) in _NETWORKS.items()
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {"networks": networks, "workers": 1, "step": _steps_on_gpu(), "notes": notes}


def _of_network(options: Options, work: Path, name: str, photos: int, peer: Path) -> dict[str, Any]:
    shards = loading._shards(work, photos_of(options.work, photos, options.seed, 1), 256)
    _write_graph(work / "graph")
    rounds: list[dict[str, dict[str, float]]] = []
    images = photos // _BATCH * _BATCH
    for _ in range(options.repeat + 1):
        found = {"ours": _cost(name, images, lambda n: _ours(work, shards, name, n))}
        if peer.exists():
            found[_PEER] = _cost(
                name, images, lambda n: _theirs(work, shards, name, n, photos, peer)
            )
        rounds.append(found)
    return {"images": images, "batch": _BATCH, "rounds": rounds}


def _cost(name: str, images: int, run: Callable[[int], list[str]]) -> dict[str, float]:
    """Seconds, and processor seconds, an image of what a long run has more than a short one."""
    _, _, epochs = _NETWORKS[name]
    short, long = (watch.run(run(n), ROOT, _LIMIT) for n in epochs)
    more = images * (epochs[1] - epochs[0])
    return {
        "seconds": (long.seconds - short.seconds) / more,
        "cpu": (long.cpu_seconds - short.cpu_seconds) / more,
    }


def _environment(*paths: object) -> list[str]:
    joined = os.pathsep.join(map(str, (*paths, ROOT)))
    return ["env", f"PYTHONPATH={joined}", *_ALIKE, sys.executable, "-W", "ignore"]


def _ours(work: Path, shards: Path, name: str, epochs: int) -> list[str]:
    settings = {
        "model.name": name if name != "sparqless-tiny" else "tiny",
        "model.context_length": _NETWORKS[name][0],
        "train.batch": _BATCH,
        "train.epochs": epochs,
        "train.checkpoint_epochs": 1000,
        "train.log_steps": 100,
        "train.tensorboard": "false",
        "data.workers": 1,
        "data.scale": "[0.4, 1.0]",
        "data.ratio": f"[{3 / 4}, {4 / 3}]",
        "text.alt_text_chance": 1,
        "evaluate.epochs": 0,
    }
    given = ["--images", shards, "--graph", work / "graph", "--out", work / "run", "--fresh"]
    changes = [f"--set={key}={value}" for key, value in settings.items()]
    return [*_environment(), "-m", "cli", "train", "tiny", *map(str, given), *changes, "--quiet"]


def _theirs(work: Path, shards: Path, name: str, epochs: int, photos: int, peer: Path) -> list[str]:
    tars = len(list(shards.glob("*.tar")))
    settings = {
        "model": name,
        "train-data": f"{shards}/train-{{000000..{tars - 1:06d}}}.tar",
        "train-num-samples": photos // _BATCH * _BATCH,
        "dataset-type": "webdataset",
        "batch-size": _BATCH,
        "epochs": epochs,
        "save-frequency": 0,
        "log-every-n-steps": 100,
        "workers": 1,
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-8,
        "warmup": 10,
        "precision": "fp32",
        "device": "cpu",
        "logs": work / "logs",
        "name": f"{epochs}-{time.monotonic_ns()}",
    }
    given = [f"--{key}={value}" for key, value in settings.items()]
    return [*_environment(peer), "-c", _THEIRS, *given, "--aug-cfg", "scale=(0.4,1.0)"]


def _write_graph(folder: Path) -> None:
    """A data set in which there is nothing but a dog; texts are the captions."""
    from tests.training.data_sets import entity, query, write_graph

    shutil.rmtree(folder, ignore_errors=True)
    write_graph(folder, [entity("Q144", "dog")], [query("dog", "dog", about="Q144")])


# --- the step alone, on a GPU -------------------------------------------------------------------


def _steps_on_gpu() -> list[dict[str, Any]]:
    """Images a second and FLOPs utilisation of ViT-B-32's step, eager and compiled."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [_step_on_gpu(batch, compiled) for batch in (512, 1024) for compiled in (False, True)]


def _step_on_gpu(batch: int, compiled: bool) -> dict[str, Any]:
    import torch

    from training import loss, metrics
    from training.config import ModelOptions, TrainOptions
    from training.model import created, flops_per_image
    from training.optimizer import optimizer_of
    from training.step import Piece, gradients

    device = torch.device("cuda")
    torch.set_float32_matmul_precision("medium")
    model = created(ModelOptions(name="ViT-B-32"))
    net = model.net.to(device)
    if compiled:
        net.compile()
    optimizer = optimizer_of(net, TrainOptions())
    tokens = torch.randint(1, 49405, (batch, 32), device=device)
    piece = Piece(torch.randn(batch, 3, 224, 224, device=device), tokens)

    def step() -> None:
        told = gradients(net, [piece], loss.clip(1), precision="bf16", seeds=lambda _: 0)
        assert math.isfinite(float(told.loss))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):
        step()
    steps, began = 0, time.monotonic()
    while time.monotonic() - began < _STEP_SECONDS:
        step()
        steps += 1
    torch.cuda.synchronize()
    rate = batch * steps / (time.monotonic() - began)
    peak = metrics.peak_of(device)
    flops = flops_per_image(model.config["model_cfg"], batch=batch)
    return {
        "device": torch.cuda.get_device_name(device),
        "batch": batch,
        "compiled": compiled,
        "images_per_second": rate,
        "mfu": rate * flops / peak if peak else None,
        "memory": torch.cuda.max_memory_allocated(device),
    }


# --- tables -------------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = []
    for name, found in figures["networks"].items():
        rounds = found["rounds"]
        row = [name, f"{found['images']:,}"]
        for who in rounds[0]:
            row.append(f"{1 / statistics.median(one[who]['seconds'] for one in rounds):,.1f}")
            row.append(f"{1000 * statistics.median(one[who]['cpu'] for one in rounds):,.2f}")
        if _PEER in rounds[0]:
            row += [_ratio(rounds, "seconds"), _ratio(rounds, "cpu")]
        rows.append(row)
    header = [f"batch {_BATCH}, float32", "images an epoch", "ours, images/s", "processor ms"]
    if len(rows[0]) > len(header):
        header += [f"{_PEER}, images/s", "processor ms", "ratio", "by processor"]
    parts = [table(header, rows)]
    if figures["step"]:
        parts.append(_table_of_steps(figures["step"]))
    parts += [f"- {note}" for note in figures["notes"]]
    return "\n\n".join(parts)


def _ratio(rounds: Sequence[dict[str, dict[str, float]]], of: str) -> str:
    """How many times as much of theirs as of ours an image takes: the median, and the spread."""
    ratios = [one[_PEER][of] / one["ours"][of] for one in rounds]
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def _table_of_steps(found: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            f"{one['device']}, {'compiled' if one['compiled'] else 'eager'}",
            f"{one['batch']:,}",
            f"{one['images_per_second']:,.0f}",
            "" if one["mfu"] is None else f"{one['mfu']:.1%}",
            f"{one['memory'] / 1e9:.1f} GB",
        ]
        for one in found
    ]
    return table(["ViT-B-32, bfloat16", "batch", "images/s", "MFU", "memory"], rows)
