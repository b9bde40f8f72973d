"""The loader of training apart from a model, beside open_clip_train's, on the same shards.

Made photographs (benchmarks/photos.py) go through `images pack`, to 256 pixels and to 512 (the
reference's). Both loaders give batches of 64 of 224 × 224, cut by the same rule, normalised, with
the tokens of a caption; in as many processes as cores, in turn. Whether pixels are the same is
looked at image by image: the same cut by open_clip's transform.

open_clip_train's needs webdataset ≤ 0.2.86; all else is this environment's, Pillow and torch too.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import peers, sampling, watch
from benchmarks.options import ROOT, Options
from benchmarks.photos import photos_of
from benchmarks.report import table

#: Where the figures go.
PAGE: Final = ROOT / "docs" / "training-data.md"

_WEBDATASET: Final = "webdataset==0.2.86"
_PEER: Final = "open_clip_train"
_SIZES: Final = (256, 512)  # of pictures' shorter sides
_PHOTOS: Final = 2000  # more don't fit into memory at once, as they are packed here
_SHARDS: Final = 8  # at least; open_clip_train wants one for each worker
_COMPARED: Final = 200  # images whose pixels are
_LIMIT: Final = 900.0  # seconds of a run
_DECODES: Final = ("exact", "fast", "draft")

_NAMES: Final = {"exact": "**ours, exact**", "fast": "ours, `fast`", "draft": "ours, `draft`"}

#: Where a worker's time goes, by the modules that are at it; see benchmarks/sampling.py.
_STAGES: Final[tuple[sampling.Rule, ...]] = (
    ("start of Python, imports", "importlib", ""),
    ("read the shard", "training/data_tar.py", ""),
    ("decode", "PIL/ImageFile.py", "load"),
    ("cut and resize", "PIL/Image.py", "resize"),
    ("cut and resize", "PIL/Image.py", "crop"),
    ("cut and resize", "training/data_images.py", "_bicubic"),
    ("decode", "training/data_images.py", "_quickly"),
    ("crop's numbers", "training/data_images.py", "random_box"),
    ("out of Pillow, normalise", "training/data_images.py", ""),
    ("tokens", "open_clip/tokenizer.py", ""),
    ("KEY.json, text, batch", "training/data_worker.py", ""),
    ("order", "training/data_order.py", ""),
)
_START: Final = "start of Python, imports"


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    peer, notes = options.work / _WEBDATASET.replace("==", "-"), []
    if options.install_peers and (failed := peers.put_below(peer, _WEBDATASET)):
        notes.append(failed)
    if not peer.exists():
        notes.append(f"{_PEER} was not measured: `--install-peers` installs {_WEBDATASET}.")
    count = min(options.photos, _PHOTOS)
    photos = photos_of(options.work, count, options.seed, options.workers)
    work = options.work / "loading"
    shutil.rmtree(work, ignore_errors=True)
    try:
        sizes = [_of_size(options, work, photos, size, peer) for size in _SIZES]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "photos": count, "cores": os.cpu_count(), "workers": options.workers, "sizes": sizes,
        "notes": notes,
    }  # fmt: skip


def _of_size(
    options: Options, work: Path, photos: Sequence[Path], size: int, peer: Path
) -> dict[str, Any]:
    folder = work / str(size)
    shards = _shards(folder, photos, size)
    rounds: list[dict[str, Any]] = []
    for _ in range(options.repeat + 1):
        found = {name: _run("ours", shards, options.workers, name) for name in _DECODES}
        if peer.exists():
            found[_PEER] = _run(_PEER, shards, options.workers, "exact", str(peer))
        rounds.append(found)
    tars = [path.stat().st_size for path in shards.glob("*.tar")]
    return {
        "size": size,
        "bytes": sum(tars) / len(photos),
        "rounds": rounds,
        "pixels": _pixels(shards),
        "stages": {name: _profile(folder / name, shards, name) for name in _DECODES[:2]},
    }


def _shards(folder: Path, photos: Sequence[Path], size: int) -> Path:
    """The photographs as `images pack` writes them."""
    from download.pack.image import ImageOptions
    from download.pack.run import Options as PackOptions
    from download.pack.run import pack
    from tests.download.fetched import Got, write

    folder.mkdir(parents=True)
    write(folder, [Got("Q144", path.read_bytes(), texts=[(f"A picture, number {n}", "en")])
                   for n, path in enumerate(photos)])  # fmt: skip
    image = ImageOptions(size=size)
    count = max(1, len(photos) // _SHARDS)
    options = PackOptions(image=image, val=0, test=0, shard_count=count, quiet=True)
    pack(folder, str(folder / "shards"), options)
    return folder / "shards"


def _command(name: str, shards: Path, workers: int, decode: str) -> list[str]:
    given = [name, str(shards), str(shards.parent / "cache"), str(workers), decode]
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.loading_run", *given]


def _run(name: str, shards: Path, workers: int, decode: str, *more: str) -> dict[str, float]:
    """Images, seconds and processor seconds of an epoch of one loader, in a process of its own.

    Raises RuntimeError where it fails.
    """
    paths = os.pathsep.join([*more, str(ROOT)])
    ended = subprocess.run(
        _command(name, shards, workers, decode), cwd=ROOT, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False, timeout=_LIMIT,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"{name} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _profile(folder: Path, shards: Path, decode: str) -> dict[str, float]:
    """Processor seconds an image by stage, in one process that does all of it."""
    variables = sampling.environment(folder, _STAGES)
    set_ = [f"{name}={value}" for name, value in variables.items()]
    watch.run(["env", *set_, *_command("ours", shards, 0, decode)], ROOT, _LIMIT)
    found = sampling.read(folder)
    images = 2 * json.loads((shards / "manifest.json").read_text())["counts"]["images"]
    return {
        stage: seconds / images
        for stage, seconds in found.items()
        if stage not in (_START, sampling.OTHER)
    }


# --- pixels -------------------------------------------------------------------------------------


def _pixels(shards: Path) -> dict[str, dict[str, float]]:
    """How far each way of decoding is from open_clip's transform of the same cut."""
    from benchmarks import loading_run as run
    from training.data_images import Eye, crop_numbers, random_box

    eyes = {
        name: Eye(run.SIZE, run.MEAN, run.STD, augment=run.AUGMENT, decode=name, as_bytes=True)
        for name in _DECODES
    }
    errors: dict[str, list[tuple[float, float, float]]] = {name: [] for name in _DECODES}
    for key, jpeg in _jpegs(shards):
        numbers = partial(crop_numbers, 0, 0, key)
        expected = _theirs(jpeg, partial(random_box, augment=run.AUGMENT, numbers=numbers()))
        for name, eye in eyes.items():
            off = np.abs(eye.pixels(jpeg, numbers).astype(np.int16) - expected)
            errors[name].append((off.max(), (off > 0).mean(), (off.astype(float) ** 2).mean()))
    return {name: _summed(found) for name, found in errors.items()}


def _theirs(jpeg: bytes, box_of: Any) -> Any:
    """(224, 224, 3) int16: what open_clip's transform to train makes of a cut, before floats."""
    from unittest import mock

    from open_clip.transform import image_transform
    from PIL import Image
    from torchvision.transforms import RandomResizedCrop

    from benchmarks.loading_run import SIZE

    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    left, top, wide, tall = box_of(*image.size)
    transform = image_transform(SIZE, is_train=True)
    box = top, left, tall, wide
    with mock.patch.object(RandomResizedCrop, "get_params", return_value=box):
        for step in transform.transforms[:2]:  # the cut, RGB; then tensors
            image = step(image)
    return np.asarray(image, np.int16)


def _jpegs(shards: Path) -> Iterator[tuple[str, bytes]]:
    left = _COMPARED
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                if ending == "jpg" and (file := tar.extractfile(member)) is not None:
                    yield key, file.read()
                    left -= 1
                if not left:
                    return


def _summed(errors: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    worst, share, square = (np.array(column, float) for column in zip(*errors, strict=True))
    mean = float(square.mean())
    return {
        "max": float(worst.max()),
        "share": float(share.mean()),
        "psnr": float(10 * np.log10(255**2 / mean)) if mean else 0.0,
    }


# --- tables -------------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    lines = [
        f"{figures['photos']:,} photographs; {figures['workers']} workers on {figures['cores']} "
        "cores; medians of each round's ratio.",
        "",
    ]
    for found in figures["sizes"]:
        lines += [*_of_loaders(found, figures["workers"]), ""]
    lines += [_stages(figures), "", *(f"- {note}" for note in figures["notes"])]
    return "\n".join(lines).rstrip()


def _of_loaders(found: dict[str, Any], workers: int) -> Iterator[str]:
    rounds = found["rounds"]

    def median(name: str, of: Callable[[dict[str, float], dict[str, Any]], float]) -> float:
        return statistics.median(of(one[name], one) for one in rounds)

    rows = []
    for name in rounds[0]:
        rate = median(name, lambda own, _: own["images"] / own["seconds"])
        cpu = median(name, lambda own, _: own["cpu"] / own["images"])
        row = [_NAMES.get(name, name), f"{rate:,.0f}", f"{1000 * cpu:.2f}", f"{1 / cpu:,.0f}"]
        if _PEER in rounds[0]:
            times = median(name, lambda own, one: _rate(own) / _rate(one[_PEER]))
            costs = median(name, lambda own, one: _cost(one[_PEER]) / _cost(own))
            row += [f"{times:.2f}×", f"{costs:.2f}×"]
        rows.append([*row, _off(found["pixels"].get(name))])
    header = [
        f"{found['size']} pixels, {found['bytes'] / 1000:.0f} kB an image", "images/s",
        "processor ms", "images/s a core",
    ]  # fmt: skip
    if _PEER in rounds[0]:
        header += [f"× {_PEER}", "by processor"]
    yield table([*header, "pixels"], rows)


def _rate(own: dict[str, float]) -> float:
    return own["images"] / own["seconds"]


def _cost(own: dict[str, float]) -> float:
    return own["cpu"] / own["images"]


def _off(pixels: dict[str, float] | None) -> str:
    if pixels is None:
        return ""
    if not pixels["max"]:
        return "equal"
    return f"{pixels['psnr']:.0f} dB, {pixels['share']:.1%} off by ≤ {pixels['max']:.0f}"


def _stages(figures: dict[str, Any]) -> str:
    columns = [
        (f"{found['size']}, {name}", found["stages"][name])
        for found in figures["sizes"]
        for name in found["stages"]
    ]
    order = sorted(columns[0][1], key=lambda stage: -columns[0][1][stage])
    rows = [
        [stage, *(f"{1000 * stages.get(stage, 0):.3f}" for _, stages in columns)]
        for stage in dict.fromkeys([*order, *(s for _, stages in columns for s in stages)])
    ]
    return table(["processor ms an image, sampled", *(name for name, _ in columns)], rows)
