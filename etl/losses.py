"""What of a dump could not be read: rejected lines, lost bytes, and when they are too many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ujson

from etl.dump import WIKIDATA, Damage, Input, Slice
from etl.errors import UserError
from etl.slices import Report

REJECTS: Final = "rejects.ndjson"


def check_ends(inputs: list[Input], reports: Sequence[Report], damage: list[Damage]) -> None:
    """A dump that opens with ``[`` and doesn't end with ``]`` has lost its end."""
    if damage:
        return
    if sum(r.opens for r in reports) > sum(r.closes for r in reports):
        last = inputs[-1]
        reason = "the dump opens with `[` and ends without `]`: its end is missing"
        damage.append(Damage(last.path, last.size, last.size, reason))


def placed_rejects(slices: Sequence[Slice], reports: Sequence[Report]) -> list[dict[str, Any]]:
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


def check_rejects(
    path: Path, count: int, rejects: list[dict[str, Any]], most: int, what: str = WIKIDATA.name
) -> None:
    """Raises UserError where more than ``most`` lines are rejected; ``path`` is where they are."""
    if count <= most:
        return
    first = rejects[0]
    raise UserError(
        f"{count:,} lines can't be read, more than --max-rejects {most}: see "
        f"{path}. The first is line {first['line']:,} of {first['file']} (inflated byte "
        f"{first['offset']:,}): {first['reason']}. Is this {what}? If it is, mend "
        "it, or run again with a higher --max-rejects: what was read is kept."
    )


def check_damage(damage: list[Damage], allowed: bool, made: str = "a store") -> None:
    """Raises UserError where bytes are lost and --allow-damage isn't given.

    ``made`` is what becomes of the dump.
    """
    if damage and not allowed:
        more = f" (and {len(damage) - 1} more places)" if len(damage) > 1 else ""
        raise UserError(
            f"{told(damage[0])}{more}. "
            "Fetch the file again and start over with --fresh, or run again with --allow-damage to "
            f"build {made} of what could be read."
        )


def told(damage: Damage) -> str:
    """What is lost, in words."""
    if damage.start == damage.end:
        return f"{damage.path}: {damage.reason}"
    return (
        f"{damage.path}: what could not be read of bytes {damage.start:,}-{damage.end:,} is lost: "
        f"{damage.reason}"
    )
