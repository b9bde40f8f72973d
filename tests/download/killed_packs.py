"""Kill `images pack` at its steps on disk, and see what it leaves: `test_pack_kills.py` runs this.

    python -m tests.download.killed_packs IMAGES FOLDER EVERY

Packs over shards that have other options, and keeps their splits; killed at every so many-th step.
Prints as JSON what `killed_everywhere` found.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from download.pack.run import Options, pack
from tests.killing import killed_everywhere

FIRST = Options(val=0.4, test=0.2, workers=0, per_task=8, shard_count=2, quiet=True)
THEN = replace(FIRST, val=0.1, shard_count=9)


def main(images: Path, folder: Path, every: int) -> None:
    def then(out: Path) -> None:
        pack(images, str(out), replace(THEN, splits_from=out))

    found = killed_everywhere(lambda out: pack(images, str(out), FIRST), then, folder, every)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
