"""Kill `export shards` at its steps on disk, and see what it leaves: `test_pack_kills.py` runs it.

    python -m tests.download.killed_exports SHARDS OTHERS FOLDER EVERY

Exports OTHERS over an export of SHARDS. Prints as JSON what `killed_everywhere` found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from download.pack.export import export_shards
from tests.killing import killed_everywhere


def main(shards: Path, others: Path, folder: Path, every: int) -> None:
    found = killed_everywhere(
        lambda out: export_shards(shards, out, workers=0, quiet=True),
        lambda out: export_shards(others, out, workers=0, quiet=True),
        folder,
        every,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
