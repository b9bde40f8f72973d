"""`--update-from` beside a full build of the same later dump; the two stores have to be the same.

The later dump is the earlier one with a share of its entities changed, gone or added. Gone are
those that the later dump doesn't have; a record of theirs must not survive.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.build import build, differences
from benchmarks.files import dump_of
from benchmarks.options import Options
from benchmarks.report import megabytes, table

_REPORTED = ("unchanged", "changed", "added", "gone")
_COLUMNS = ["id", "revision"]


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    earlier, later = dump_of(options), dump_of(options, changed=options.changed)
    old, full, updated = (options.work / f"store-{name}" for name in ("old", "full", "updated"))
    build(earlier, old, options.workers)
    fulls, updates = [], []
    for _ in range(options.repeat):
        fulls.append(build(later, full, options.workers, name="full build"))
        updates.append(
            build(later, updated, options.workers, ["--update-from", str(old)], "--update-from")
        )
    best, ours = (min(runs, key=lambda built: built.rate.seconds) for runs in (fulls, updates))
    reported = {name: ours.manifest["update"][name] for name in _REPORTED}
    differing = differences(updated, full)
    if reported != _compared(old, full):
        differing.append("counts.update")
    for store in (old, full, updated):
        shutil.rmtree(store)
    return {
        "json_bytes": best.rate.json_bytes,
        "entities": best.rate.entities,
        "changed": options.changed,
        "rows": [
            {
                "name": built.rate.name,
                "seconds": built.rate.seconds,
                "cpu_seconds": built.rate.cpu_seconds,
                "reading_seconds": built.stages["read"],
                "rest_seconds": built.stages["all"] - built.stages["read"],
                "megabytes_per_second": best.rate.json_bytes / 1e6 / built.rate.seconds,
                "worker_private": built.watched.worker_private,
                "main_private": built.watched.main_private,
            }
            for built in (best, ours)
        ],
        "reported": reported,
        "times": best.rate.seconds / ours.rate.seconds,
        "differences": differing,
    }


def _compared(old: Path, new: Path) -> dict[str, int]:
    """What became of the entities, by the ids and revisions of two full builds."""
    before, after = (pq.read_table(at / "nodes.parquet", columns=_COLUMNS) for at in (old, new))
    both = after.join(before, "id", join_type="inner", right_suffix="_before")
    unchanged = pc.sum(pc.equal(both["revision"], both["revision_before"])).as_py()
    return {
        "unchanged": unchanged,
        "changed": len(both) - unchanged,
        "added": len(after) - len(both),
        "gone": len(before) - len(both),
    }


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows = [
        [
            found["name"],
            f"{found['seconds']:.2f}",
            f"{found['cpu_seconds']:.2f}",
            f"{found['reading_seconds']:.2f}",
            f"{found['rest_seconds']:.2f}",
            f"{found['megabytes_per_second']:,.0f}",
            megabytes(found["worker_private"]),
            megabytes(found["main_private"]),
        ]
        for found in figures["rows"]
    ]
    header = ["", "s", "CPU s", "reading", "the rest", "MB/s of JSON", "MB a worker", "MB main"]
    differing = ", ".join(figures["differences"]) or "nothing"
    return "\n".join(
        [
            f"{figures['entities']:,} entities, {megabytes(figures['json_bytes'])} MB of JSON, "
            f"{figures['changed']:.0%} of them edited, gone or new; the update says: "
            + ", ".join(f"{count:,} {name}" for name, count in figures["reported"].items())
            + ".",
            "",
            table(header, rows),
            "",
            f"The update is **{figures['times']:.2f} times** as fast as the full build. What "
            f"differs between the two stores: **{differing}**.",
        ]
    )
