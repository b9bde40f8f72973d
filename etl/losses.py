"""What of a dump could not be read: rejected lines, lost bytes, and when they are too many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import ujson

from etl.dump import Damage, Slice
from etl.errors import UserError
from etl.plan import Options, Plan
from etl.runs import SliceReport

REJECTS: Final = "rejects.ndjson"


def check_ends(plan: Plan, reports: list[SliceReport], damage: list[Damage]) -> None:
    """A dump that opens with ``[`` and doesn't end with ``]`` has lost its end."""
    if plan.limit or damage:
        return
    if sum(r.opens for r in reports) > sum(r.closes for r in reports):
        last = plan.inputs[-1]
        reason = "the dump opens with `[` and ends without `]`: its end is missing"
        damage.append(Damage(last.path, last.size, last.size, reason))


def placed_rejects(slices: list[Slice], reports: list[SliceReport]) -> list[dict[str, Any]]:
    """Rejects with their place in the whole inflated file: bytes from 0, lines from 1."""
    placed: list[dict[str, Any]] = []
    text, lines, path = 0, 0, ""
    for slice_, report in zip(slices, reports, strict=False):
        if slice_.path != path:
            text, lines, path = 0, 0, slice_.path
        placed.extend(
            {
                "file": os.path.basename(path),
                "line": lines + reject.line + 1,
                "offset": text + reject.offset,
                "bytes": reject.bytes,
                "reason": reject.reason,
                "text": reject.text,
            }
            for reject in report.rejects
        )
        text += report.extent.text
        lines += report.extent.lines
    return placed


def write_rejects(work: Path, path: Path, rejects: list[dict[str, Any]]) -> None:
    """Writes rejects.ndjson by way of ``work``."""
    temporary = work / path.name
    with temporary.open("w", encoding="utf-8") as file:
        for reject in rejects:
            file.write(ujson.dumps(reject, ensure_ascii=False, escape_forward_slashes=False) + "\n")
    temporary.replace(path)


def check_rejects(store: Path, count: int, rejects: list[dict[str, Any]], options: Options) -> None:
    """Raises UserError where more lines are rejected than the options put up with."""
    if count <= options.max_rejects:
        return
    first = rejects[0]
    raise UserError(
        f"{count:,} lines can't be read, more than --max-rejects {options.max_rejects}: see "
        f"{store / REJECTS}. The first is line {first['line']:,} of {first['file']} (inflated byte "
        f"{first['offset']:,}): {first['reason']}. Is this a Wikidata JSON dump? If it is, mend "
        "it, or run again with a higher --max-rejects: what was read is kept."
    )


def check_damage(damage: list[Damage], options: Options) -> None:
    """Raises UserError where bytes are lost and --allow-damage isn't given."""
    if damage and not options.allow_damage:
        more = f" (and {len(damage) - 1} more places)" if len(damage) > 1 else ""
        raise UserError(
            f"{told(damage[0])}{more}. "
            "Fetch the file again and start over with --fresh, or run again with --allow-damage to "
            "build a store of what could be read."
        )


def told(damage: Damage) -> str:
    """What is lost, in words."""
    if damage.start == damage.end:
        return f"{damage.path}: {damage.reason}"
    return (
        f"{damage.path}: what could not be read of bytes {damage.start:,}-{damage.end:,} is lost: "
        f"{damage.reason}"
    )
