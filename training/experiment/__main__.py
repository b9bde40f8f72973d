"""``python -m training.experiment --graph data/sample/graph/entitynet --out data/experiment``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etl.engine import default_workers
from etl.errors import UserError
from training.experiment.plan import PLAN
from training.experiment.run import experiment


def main(arguments: list[str] | None = None) -> int:
    """Runs it, prints the tables; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.experiment", description=__doc__)
    parser.add_argument("--graph", type=Path, required=True, help="the sample's data set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    try:
        lines = experiment(
            given.graph, given.out, given.plan, workers=given.workers, quiet=given.quiet
        )
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Run the same command again to go on.\n")
        return 130
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
