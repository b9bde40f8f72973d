"""What people see of the etl room: what a run will take, and the table at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etl.dump import Damage
from etl.estimate import Estimate
from etl.losses import REJECTS, told
from etl.show import counted, in_bytes

Row = tuple[str, str, str]


def expectation(expected: Estimate) -> str:
    """One sentence: entities, JSON, disk and time that a run is expected to take."""
    seconds = max(expected.seconds, 1)
    time = f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:,.0f} s"
    return (
        f"Expecting about {expected.entities:,} entities in {in_bytes(expected.json_bytes)} of "
        f"JSON: {in_bytes(expected.disk_bytes)} of disk while it works "
        f"({in_bytes(expected.free_bytes)} free), {time}."
    )


def warnings(store: Path, manifest: dict[str, Any]) -> list[str]:
    """What of the dump is not in the store, though it should be."""
    rejects = manifest["counts"]["rejects"]
    found = [f"{told(Damage(**lost))}." for lost in manifest["damage"]]
    if rejects:
        found.insert(
            0,
            f"{counted(rejects, 'line')} can't be read: {store / REJECTS} has "
            f"{'it' if rejects == 1 else 'them'} with offset and reason.",
        )
    return found


def rows(store: Path, manifest: dict[str, Any], *, stood: bool) -> list[Row]:
    """(name, figure, remark) of every line; ``stood`` says that there was nothing to do."""
    counts, seconds = manifest["counts"], manifest["seconds"]
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts["skipped"].items())
    json_bytes = in_bytes(counts["json_bytes"])
    if stood:
        time = ("seconds", "0", f"the store stood already; {json_bytes} of JSON")
    elif seconds["slices_read_earlier"]:
        time = ("seconds", f"{seconds['all']:,.1f}", f"went on with a build; {json_bytes} of JSON")
    else:
        rate = in_bytes(counts["json_bytes"] / max(seconds["all"], 1e-9))
        time = ("seconds", f"{seconds['all']:,.1f}", f"{json_bytes} of JSON, {rate}/s")
    return [
        (
            "entities",
            f"{counts['entities']:,}",
            f"{counts['items']:,} items, {counts['properties']:,} properties",
        ),
        ("skipped", f"{sum(counts['skipped'].values()):,}", kinds or "of other types"),
        ("repeated", f"{counts['repeated']:,}", "older versions of an entity, left out"),
        ("rejected", f"{counts['rejects']:,}", "lines that can't be read"),
        *_updated(manifest),
        time,
        ("store", "", str(store)),
    ]


def _updated(manifest: dict[str, Any]) -> list[Row]:
    """What an older store and the tables of redirects brought."""
    found: list[Row] = []
    update, redirects = manifest.get("update"), manifest.get("redirects")
    if update:
        remark = ", ".join(f"{update[kind]:,} {kind}" for kind in ("added", "changed", "gone"))
        found.append(("unchanged", f"{update['unchanged']:,}", f"taken over; {remark}"))
    if redirects:
        found.append(("redirects", f"{redirects['redirects']:,}", "ids merged into others"))
    return found
