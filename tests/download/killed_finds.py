"""Kill `images find` at its steps on disk, and see what it leaves: `test_find.py` runs this.

    python -m tests.download.killed_finds GRAPH MEDIAINFO FOLDER

Finds the images that Wikidata has, then those that the dump knows besides, with larger thumbnails.
Prints as JSON what `killed_everywhere` found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from download.find import Options, find
from tests.killing import killed_everywhere


def main(graph: Path, mediainfo: Path, folder: Path) -> None:
    names = ("commons-p18", "commons-depicts", "commons-credits")
    given = {"mediainfo": (str(mediainfo),)}
    options = Options(names, given, shorter_side=500, workers=0, quiet=True)
    found = killed_everywhere(
        lambda out: find(graph, out, Options(("commons-p18",), quiet=True)),
        lambda out: find(graph, out, options),
        folder,
        every=2,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
