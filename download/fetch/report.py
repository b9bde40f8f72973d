"""What a fetch came to: counts for its manifest, and lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from download.fetch.forecast import lasting
from download.fetch.log import FOLDER, STORE_FOLDER, log_file
from download.fetch.outcomes import rule
from download.fetch.plan import Plan
from download.fetch.state import State
from etl.errors import UserError
from etl.manifest import read_manifest
from etl.show import counted, in_bytes

_OUTCOMES: Final = ("ok", "permanent", "transient", "refused")
_HOSTS: Final = 50  # in a manifest
_HOSTS_SHOWN: Final = 8
_REASONS_SHOWN: Final = 12


def by_outcome(reasons: Mapping[str, int]) -> dict[str, Any]:
    """Counts by reason ("": not asked for) → counts by outcome and by reason."""
    outcomes: Counter[str] = Counter(dict.fromkeys(_OUTCOMES, 0))
    for reason, count in reasons.items():
        outcomes[rule(reason).outcome if reason else "not_asked"] += count
    named = {reason or "not_asked": count for reason, count in reasons.items()}
    by_count = dict(sorted(named.items(), key=lambda found: (-found[1], found[0])))
    return {"outcomes": dict(outcomes), "reasons": by_count}


def by_host(plan: Plan, state: State) -> list[dict[str, Any]]:
    """The groups of hosts with the most URLs: how many, and how many had each outcome."""
    groups = plan.groups()
    if not groups.num_rows:
        return []
    starts = groups["start"].to_numpy()
    of_reasons = np.array(state.outcomes())
    counts = {
        outcome: np.add.reduceat((of_reasons == outcome)[state.of], starts, dtype=np.int64)
        for outcome in _OUTCOMES
    }
    rows = groups["rows"].to_numpy()
    largest = np.lexsort((np.arange(len(rows)), -rows))[:_HOSTS]
    return [
        {
            "host": groups["group"][int(at)].as_py(),
            "urls": int(rows[at]),
            **{outcome: int(counts[outcome][at]) for outcome in _OUTCOMES},
        }
        for at in largest
    ]


def log_counts(fetches: Path, parts: Sequence[str]) -> dict[str, int]:
    """Attempts that were made in all runs, and bytes of the bodies that are stored."""
    return {
        "attempts": sum(pq.read_metadata(log_file(fetches, part)).num_rows for part in parts),
        "bytes": sum(file.stat().st_size for file in (fetches / STORE_FOLDER).glob("*.bodies")),
    }


def finished_run(images: Path) -> int | None:
    """The number of the run that the manifest of a directory of images is of, if there is one."""
    with suppress(UserError):
        run: int = read_manifest(images / FOLDER, FOLDER)["run"]
        return run
    return None


def lines(images: Path, manifest: Mapping[str, Any], before: int | None = None) -> Iterator[str]:
    """A manifest for a terminal. ``before``: what :func:`finished_run` said before the run."""
    counts = manifest["counts"]
    candidates, urls = counts["candidates"], counts["urls"]
    asked = urls["total"] - urls["outcomes"].get("not_asked", 0)
    total, ok = candidates["total"], candidates["outcomes"]["ok"]
    yield (
        f"{counted(total, 'candidate')}: {ok:,} ok{_share(ok, total)}, "
        f"{counted(counts['images'], 'image')} with {in_bytes(counts['bytes'])}"
    )
    if manifest["run"] == before:
        yield "nothing was left to ask for; this is what came before:"
    took = "" if manifest["run"] == before else f", {lasting(manifest['seconds'])}"
    yield f"{counted(asked, 'URL')} asked for, {counted(counts['attempts'], 'attempt')}{took}"
    no_reasons = ("ok", "not_asked")
    reasons = [(r, n) for r, n in candidates["reasons"].items() if r not in no_reasons]
    for reason, count in reasons[:_REASONS_SHOWN]:
        yield f"  {count:>11,}  {reason}: {rule(reason).meaning} ({rule(reason).outcome})"
    if len(reasons) > _REASONS_SHOWN:
        left = reasons[_REASONS_SHOWN:]
        yield f"  {sum(n for _, n in left):>11,}  {len(left)} other reasons (manifest.json)"
    yield from _host_lines(manifest["hosts"])
    later = candidates["outcomes"]["transient"]
    if later:
        yield f"{counted(later, 'candidate')} may still work: run it again with --retry transient"
    left = candidates["outcomes"].get("not_asked", 0)
    if left:
        yield (
            f"{counted(left, 'candidate')} not asked for yet: run it again without --limit; "
            "`images pack --unfinished` packs what is there"
        )
    yield f"log, images, what came of each candidate: {images / FOLDER}"


def _host_lines(hosts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if hosts:
        yield "hosts with the most URLs, and how many of those that were asked for were ok:"
    for host in hosts[:_HOSTS_SHOWN]:
        asked = sum(host[outcome] for outcome in _OUTCOMES)
        share = _share(host["ok"], asked)
        if 0 < asked < host["urls"]:
            share = f" ({host['ok'] / asked:.0%} of {asked:,})"
        yield f"  {host['urls']:>11,}  {host['host'] or '(none)'}{share}"


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if whole else ""
