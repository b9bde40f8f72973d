"""A build on a cluster whose workers can be caught at work.

    python -m tests.etl.cluster_run ADDRESS DUMP STORE RUNS FOLDER SLICE [LAST]

Every reading of a slice adds a line with its number to FOLDER/read. Where slice SLICE is read for
the first time, the worker leaves its process id in FOLDER/pid and waits to be killed. Slices after
LAST are never done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from etl import location as place
from etl.cluster import Cluster
from etl.ingest import ingest
from etl.kept import Kept
from etl.plan import Options
from etl.progress import Tick
from etl.runs import SliceJob

KEPT = Kept(("en", "en-gb", "mul"), {"P31": (), "P279": (), "P171": (), "P18": ()})
SLICE_BYTES = 6_000


def main() -> None:
    address, dump, store, runs, folder, caught, *last = sys.argv[1:]

    # nested, so that it travels by its code: a node has no tests
    def read(job: SliceJob, tick: Tick, location: str) -> None:
        import os
        import signal

        from etl.location import read_slice_to

        number = job.slice.index
        with open(f"{folder}/read", "a") as file:
            file.write(f"{number}\n")
        if number == int(caught) and not os.path.exists(f"{folder}/pid"):
            with open(f"{folder}/pid.tmp", "w") as file:
                file.write(str(os.getpid()))
            os.rename(f"{folder}/pid.tmp", f"{folder}/pid")
            signal.pause()
        if last and number > int(last[0]):
            signal.pause()
        read_slice_to(job, tick, location)

    place.read_slice_to = read
    options = Options(
        kept=KEPT, quiet=True, slice_bytes=SLICE_BYTES, cluster=Cluster(address, runs)
    )
    ingest((dump,), Path(store), options)


if __name__ == "__main__":
    main()
