"""Kills a reading at changes that it makes on disk, goes on with it, and compares.

    python -m tests.download.killed_readings DUMP FOLDER new|fresh

Reads into a new directory, or with ``fresh`` over a finished reading of a part of the dump.
Prints as JSON what `killed_everywhere` found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from download.reading import Options, read
from tests.killing import killed_everywhere


def main(dump: str, folder: Path, way: str) -> None:
    """Go through the changes, one of a few at a time."""

    def reading(out: Path, name: str, *, fresh: bool) -> None:
        read([name], out, Options(0, quiet=True, slice_bytes=4000, max_rejects=10**6, fresh=fresh))

    part = folder / "part.json"
    part.write_bytes(b"\n".join(Path(dump).read_bytes().splitlines()[1:9]))
    fresh = way == "fresh"
    found = killed_everywhere(
        lambda out: reading(out, str(part), fresh=False) if fresh else out.mkdir(),
        lambda out: reading(out, dump, fresh=fresh),
        folder,
        every=9 if fresh else 4,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
