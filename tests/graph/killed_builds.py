"""Kill a build at each of its steps on disk, and see what it leaves: `test_stages.py` runs this.

    python -m tests.graph.killed_builds STORE BEFORE AFTER FOLDER

Builds the recipe file BEFORE, then AFTER over it.  Prints as JSON what `killed_everywhere` found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from graph.build import build
from graph.recipe import load
from tests.killing import killed_everywhere


def main(store: Path, before: Path, after: Path, folder: Path) -> None:
    found = killed_everywhere(
        lambda out: build(store, load(before), out, quiet=True),
        lambda out: build(store, load(after), out, quiet=True),
        folder,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
