"""What the rows of a built graph say of one entity: without the store, and without the rules.

Tables are ordered by the number of the entity, so that the statistics of their row groups, which
pyarrow's filters ask first, leave one or two of them to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from etl.entity import numeric_id
from graph.explanation import Chain, Explanation, Verdict


def explain_rows(graph: Path, manifest: dict[str, Any], id: str) -> Explanation:
    """Say by which chains an entity belongs to its roots, by the rows of a built graph.

    What `explain_built` says without a store; `manifest` is the graph's.
    """
    roots = manifest["counts"]["roots"]
    rows = pq.read_table(
        graph / "memberships.parquet",
        columns=["root", "via", "path"],
        filters=[("entity", "==", id)],
    ).to_pylist()
    wanted = {id, *(q for row in rows for q in row["path"][::2])}
    known = pq.read_table(
        graph / "entities.parquet",
        columns=["id", "name", "sitelinks"],
        filters=[("id", "in", wanted)],
    ).to_pylist()
    names = {root["root"]: root["name"] for root in roots if root["name"]}
    names |= {row["id"]: row["name"] for row in known}
    verdicts = [_built_verdict(row, names, manifest["recipe"]["name"]) for row in rows]
    if not rows:
        verdicts = [_perhaps_limited(id, root) for root in roots if root["last_kept"]]
    sitelinks = next((row["sitelinks"] for row in known if row["id"] == id), None)
    return Explanation(id, names.get(id), tuple(verdicts), sitelinks)


def _built_verdict(
    row: dict[str, Sequence[str] | str], names: dict[str, str], recipe: str
) -> Verdict:
    ids, properties = tuple(row["path"][::2]), tuple(row["path"][1::2])
    chain = Chain(ids, tuple(map(names.get, ids)), properties, (None,) * len(properties))
    root, via = str(row["root"]), str(row["via"])
    return Verdict(root, names.get(root), recipe, True, "", "", chain, via)


def _perhaps_limited(id: str, root: dict[str, Any]) -> Verdict:
    """Say when an entity that a graph lacks is one that a root's limit took."""
    last = root["last_kept"]
    count, ties_win = last["sitelinks"], numeric_id(id) < numeric_id(last["entity"])
    few = f"fewer than {count} sitelinks" if ties_win else f"{count} sitelinks or fewer"
    reason = f"left out if it has {few} (the last kept, {last['entity']}, has {count})"
    return Verdict(root["root"], root["name"], root["recipe"], False, "unknown", reason, None, None)
