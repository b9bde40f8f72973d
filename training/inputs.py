"""Where a run's images and texts come from: shards, and the graph's data set beside them.

    source = Shards(config, "data/images/living", Path("data/graph/living"))

``[data]`` of a config has ``split``, ``workers`` and the loader's options
(:class:`training.data.DataOptions`); ``[text]``: :class:`training.given.TextTable`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from etl.engine import default_workers
from etl.errors import UserError
from etl.location import opened
from etl.manifest import digest_of_data, digest_of_outputs, read_manifest
from training.config import Config
from training.data import DataOptions, Loader, Wanted
from training.data_index import IMAGES_FILE, cache_for, shards_in, shards_manifest
from training.given import check_keys, options_of, text_table, typed
from training.model import Model
from training.text import Texts
from training.text_build import build
from training.text_filter import as_plain
from training.text_image import COLUMNS, Image

_DATA: Final = ("split", "workers", *DataOptions.__struct_fields__)


@dataclass(frozen=True)
class Drawing:
    """Draws the texts of an image; goes to worker processes."""

    texts: Texts
    number: int
    pair: bool
    seed: int

    def __call__(self, key: str, row: Mapping[str, Any], epoch: int) -> Sequence[str]:
        """Texts of the image whose KEY.json is ``row``.

        None where images.parquet says that it has some and this doesn't: the loader counts it as
        damage. So it does where this isn't a record of an image (msgspec's errors).
        """
        image = msgspec.convert(row, Image)
        drawn: Sequence[str] | None
        if self.pair:
            both = self.texts.draw_pair(image, self.seed, epoch)
            drawn = both and [one.text for one in both]
        else:
            drawn = self.texts.draw_several(image, self.number, self.seed, epoch)
        return drawn or ()


@dataclass(frozen=True)
class HasText:
    """Whether there is a text for an image, by its row of images.parquet."""

    texts: Texts

    def __call__(self, row: Mapping[str, Any]) -> bool:
        return not self.texts.why(Image.of_row(row))


class Shards:
    """Images of shards with texts of a data set: a :class:`training.train.Source`."""

    def __init__(
        self,
        config: Config,
        images: str,
        graph: Path,
        *,
        quiet: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """``images``: a directory of images or of their shards, or s3://… of shards.

        Raises UserError where either isn't finished, or a key of ``[data]`` or ``[text]`` is
        unknown or has a value that it can't have.
        """
        data = dict(config.data)
        check_keys("data", data, _DATA)
        self._seed, self._quiet, self._warn = config.train.seed, quiet, warn
        #: Which of them is learned.
        self.split = typed("data.split", data.pop("split", "train"), str)
        #: Processes that load images.
        self.workers = typed("data.workers", data.pop("workers", _own_cores()), int)
        if self.workers < 0:
            raise UserError(f"data.workers is {self.workers}; it must be 0 or more.")
        self._cuda = torch.cuda.is_available()
        self._options = options_of(DataOptions, "data", {"as_bytes": self._cuda, **data})
        self._text = text_table(config.text)
        #: Texts an image.
        self.texts = self._text.per_image
        #: Where the shards are, and where indexes of them are kept.
        self.shards, self.cache = shards_in(images), cache_for("index", self._options.cache)
        self.graph = graph
        outputs = shards_manifest(self.shards)["outputs"]
        if self._text.filter.skip_sources:
            _check_sources(self.shards, self._text.filter.skip_sources)
        #: What texts and images are made of.
        self.inputs = {
            "graph": digest_of_outputs(read_manifest(graph, "graph")),
            "shards": outputs[IMAGES_FILE]["sha256"],
        }

    def loader(self, model: Model, images: int, rank: int, world: int) -> Loader:
        """Batches of ``images`` for one of ``world`` processes; the first time texts are built.

        Raises UserError where the shards aren't whole, or no image is left.
        """
        texts = self._built()
        options = dataclasses.asdict(texts.options)
        made_of = [texts.folder.name, options, as_plain(texts.filter)]
        return Loader(
            self.shards,
            self.split,
            batch=images,
            size=model.size,
            mean=model.mean,
            std=model.std,
            draw=Drawing(texts, self.texts, self._text.pair, self._seed),
            tokenize=model.tokenize,
            options=self._options,
            workers=self.workers,
            seed=self._seed,
            rank=rank,
            world=world,
            wanted=Wanted(HasText(texts), COLUMNS, digest_of_data(made_of)),
            pin=self._cuda,
            warn=self._warn and (partial(_warn_of, self._warn, rank) if rank else self._warn),
            quiet=self._quiet,
        )

    def _built(self) -> Texts:
        """The tables of texts, in a cache; of processes that want them one makes them."""
        folder = cache_for("texts", self._options.cache)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made = build(self.graph, folder, self._text.options, quiet=self._quiet)
        return Texts.open(made, self._text.options, self._text.filter)


def _warn_of(warn: Callable[[str], None], rank: int, sentence: str) -> None:
    warn(f"process {rank}: {sentence}")


def _own_cores() -> int:
    """The cores of this process, where torchrun has started some on this machine."""
    return max(1, default_workers() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _check_sources(location: str, skipped: Sequence[str]) -> None:
    """Refuses to skip sources of images that others have found, too.

    Which of them said what stands in KEY.json alone, and which images count must be known before.
    """
    with opened(location, IMAGES_FILE) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=["sources"]):
            together = pc.unique(pc.binary_join(batch.column(0), "\n")).to_pylist()
            for sources in (set(one.split("\n")) for one in together if one):
                if sources & {*skipped} and sources - {*skipped}:
                    raise UserError(
                        f"text.filter.skip_sources: {location} has images of "
                        f"{' and '.join(sorted(sources))} at once, and {IMAGES_FILE} doesn't say "
                        "which of them said what; leave skip_sources out, or pack the other "
                        "sources alone."
                    )
