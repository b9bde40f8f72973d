"""Kill `images pack` at its steps on disk, and see what it leaves: `test_pack_kills.py` runs this.

    python -m tests.download.killed_packs IMAGES FOLDER EVERY

Packs over shards that have other options, and keeps their splits; killed at every so many-th step.
Prints as JSON what `killed_everywhere` found. Pictures are decoded in the process itself: to begin
the one that does it otherwise takes longer than all the rest, and it changes nothing on disk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import download.pack.decode
from download.pack.image import Dropped, ImageOptions, Picture, encode
from download.pack.run import Options, pack
from tests.killing import killed_everywhere

FIRST = Options(val=0.4, test=0.2, workers=0, per_task=8, shard_count=2, quiet=True)
THEN = replace(FIRST, val=0.1, shard_count=9)


class Here:
    """What is asked of a Decoder, in this process."""

    def __init__(self, options: ImageOptions) -> None:
        self._options = options

    def encode_all(self, bodies: Iterable[bytes]) -> Iterator[Picture | Dropped]:
        return (encode(body, self._options) for body in bodies)


def main(images: Path, folder: Path, every: int) -> None:
    def then(out: Path) -> None:
        pack(images, str(out), replace(THEN, splits_from=out))

    found = killed_everywhere(lambda out: pack(images, str(out), FIRST), then, folder, every)
    print(json.dumps(found))


if __name__ == "__main__":
    download.pack.decode._decoder = Here  # type: ignore[assignment]
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
