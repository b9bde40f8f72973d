"""A fetch as a process of its own, to be killed: `test_fetch_kills.py` runs this.

    python -m tests.download.killed_fetches IMAGES PORT WORKERS [RETRIED]

Seals small batches, so that a kill meets every step of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import download.fetch.manners
from download.fetch.run import fetch
from download.fetch.worker import Batches
from tests.download.fetching import options
from tests.download.image_server import Server

# here, since the workers' processes load this module, too
download.fetch.manners._FIRST_PAUSE = 0.01  # type: ignore[misc]


def main(images: Path, port: int, workers: int, *retry: str) -> None:
    given = options(
        Server(port=port), images.parent, workers=workers, batches=Batches(rows=20), retry=retry
    )
    fetch(images, given)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
