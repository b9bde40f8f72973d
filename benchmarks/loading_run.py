"""One loader reads shards for some epochs; what it took is printed as JSON.

    python -m benchmarks.loading_run ours SHARDS CACHE WORKERS DECODE
    python -m benchmarks.loading_run open_clip_train SHARDS CACHE WORKERS exact

The last line is ``{"images": …, "seconds": …, "cpu": …}`` of one epoch after a first one, so that
processes have begun: seconds from asking for its first batch to having its last, processor seconds
of this process and its workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

import training.vision  # noqa: F401 - first, see there

# isort: split
import open_clip

from training.data import DataOptions, Loader
from training.data_images import Augment

SIZE: Final = 224
BATCH: Final = 64
MEAN: Final = open_clip.OPENAI_DATASET_MEAN
STD: Final = open_clip.OPENAI_DATASET_STD

#: What open_clip's transform has: it knows no other ratio than torchvision's.
AUGMENT: Final = Augment(scale=(0.4, 1.0), ratio=(3 / 4, 4 / 3))

_CONTEXT: Final = 32  # tokens of a text

#: Begins an epoch: its batches' numbers of images.
Epoch = Callable[[int], Iterator[int]]


def caption(key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    """The text of an image as KEY.txt has it, which open_clip_train reads."""
    return [row["caption"]]


def ours(shards: Path, cache: Path, workers: int, decode: str) -> Epoch:
    """The loader of this project, as training uses it."""
    options: dict[str, Any] = {"decode": decode, "cache": str(cache)}
    loader = Loader(
        shards, "train", batch=BATCH, size=SIZE, mean=MEAN, std=STD, draw=caption,
        tokenize=open_clip.SimpleTokenizer(context_length=_CONTEXT), workers=workers,
        options=DataOptions(scale=AUGMENT.scale, ratio=AUGMENT.ratio, **options),
    )  # fmt: skip
    return lambda epoch: (len(batch.images) for batch in loader.epoch(epoch))


def theirs(shards: Path, cache: Path, workers: int, decode: str) -> Epoch:
    """open_clip_train's, as its command makes it."""
    from open_clip_train.data import get_wds_dataset

    images = json.loads((shards / "manifest.json").read_text())["counts"]["splits"]["train"]
    args = Namespace(
        train_data=f"{shards}/train-{{000000..{images['shards'] - 1:06d}}}.tar",
        train_num_samples=images["images"],
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=BATCH,
        workers=workers,
        world_size=1,
    )
    transform = open_clip.transform.image_transform(
        SIZE, is_train=True, mean=MEAN, std=STD,
        aug_cfg=open_clip.transform.AugmentationCfg(scale=AUGMENT.scale),
    )  # fmt: skip
    tokenizer = open_clip.SimpleTokenizer(context_length=_CONTEXT)
    data = get_wds_dataset(args, transform, is_train=True, tokenizer=tokenizer)

    def epoch(number: int) -> Iterator[int]:
        data.shared_epoch.set_value(number)
        return (len(batch[0]) for batch in data.dataloader)

    return epoch


_LOADERS: Final = {"ours": ours, "open_clip_train": theirs}


def _cpu() -> float:
    """Processor seconds so far of this process and of those that it started."""
    tick, total = os.sysconf("SC_CLK_TCK"), time.process_time()
    for process in multiprocessing.active_children():
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        total += sum(map(int, stat.rpartition(")")[2].split()[11:13])) / tick
    return total


def main() -> None:
    """The command."""
    name, shards, cache, workers, decode = sys.argv[1:]
    torch.set_num_threads(1)
    epoch = _LOADERS[name](Path(shards), Path(cache), int(workers), decode)
    images = sum(epoch(0))
    began, cpu = time.monotonic(), _cpu()
    images = sum(epoch(1))
    seconds, cpu = time.monotonic() - began, _cpu() - cpu
    print(json.dumps({"images": images, "seconds": seconds, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
