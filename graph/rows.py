"""What the rows of a built graph say of one entity: without the store, and without the rules.

Tables are ordered by the number of the entity, so that the statistics of their row groups, which
pyarrow's filters ask first, leave one or two of them to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from etl.entity import numeric_id
from etl.manifest import check_whole
from graph.attributes import Attribute
from graph.derived import Derived, Query, name_reason, statement
from graph.explanation import Chain, Explanation, Verdict
from graph.natural_types import NaturalType
from graph.queries import Named
from graph.visuality import Visuality


def explain_rows(graph: Path, manifest: dict[str, Any], id: str) -> Explanation:
    """Say by which chains an entity belongs to its roots, by the rows of a built graph.

    What `explain_built` says without a store; `manifest` is the graph's.
    """
    check_whole(graph, manifest, "build it again with `sparqless graph`")
    roots = manifest["counts"]["roots"]
    rows = pq.read_table(
        graph / "memberships.parquet",
        columns=["root", "via", "path"],
        filters=[("entity", "==", id)],
    ).to_pylist()
    wanted = {id, *(q for row in rows for q in row["path"][::2])}
    known = pq.read_table(
        graph / "entities.parquet",
        columns=["id", "name", "sitelinks", *_KIND],
        filters=[("id", "in", wanted)],
    ).to_pylist()
    names = {root["root"]: root["name"] for root in roots if root["name"]}
    names |= {row["id"]: row["name"] for row in known}
    own = next((row for row in known if row["id"] == id), None)
    part = own["recipe"] if own else manifest["recipe"]["name"]
    verdicts = [_built_verdict(row, names, part) for row in rows]
    if not rows:
        verdicts = [_perhaps_limited(id, root) for root in roots if root["last_kept"]]
    if own is None:
        return Explanation(id, names.get(id), tuple(verdicts))
    return Explanation(
        id, names.get(id), tuple(verdicts), own["sitelinks"], derived=_derived(graph, own)
    )


_KIND = (
    "natural_type", "natural_type_name", "natural_type_reason", "visual", "visual_reason",
    "recipe", "aliases", "common_names", "taxon_names",
)  # fmt: skip


def _derived(graph: Path, row: dict[str, Any]) -> Derived:
    """Return what the tables have of an entity besides its roots."""
    chosen = None
    if row["natural_type"] is not None:
        chosen = NaturalType(
            row["natural_type"], row["natural_type_name"], row["natural_type_reason"]
        )
    columns = [f.name for f in fields(Attribute) if f.name != "phrase"]
    attributes = [Attribute(**found) for found in _of(graph, "attributes", columns, row["id"])]
    columns = ["query", "query_type", "attribute", "attribute_category", "ambiguous_with"]
    found = _of(graph, "queries", columns, row["id"])
    queries = [Query(q["query"], q["query_type"], _reason(q, row, attributes)) for q in found]
    seen = Visuality(row["visual"], row["visual_reason"])
    # one of several rows that are alike but for their engine
    return Derived(chosen, seen, tuple(attributes), tuple(dict.fromkeys(queries)))


def _reason(query: dict[str, Any], row: dict[str, Any], attributes: Sequence[Attribute]) -> str:
    if query["attribute"] is not None:
        cause = (query["attribute"], query["attribute_category"])
        made = [a for a in attributes if a.query and (a.value, a.category) == cause]
        # several values may have one name: that whose query it is, the type behind it or not
        text = query["query"]
        exact = [a for a in made if text == a.query or text.startswith(f"{a.query} ")]
        reason = statement(row["id"], (exact or made)[0])
    else:
        reason = name_reason(query["query"], query["query_type"], Named.of_row(row))
    if others := query["ambiguous_with"]:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{reason}; {', '.join(others[:3])}{more} may be asked by the same words"
    return reason


def _of(graph: Path, table: str, columns: list[str], id: str) -> list[dict[str, Any]]:
    file = graph / f"{table}.parquet"
    found: list[dict[str, Any]] = pq.read_table(
        file, columns=columns, filters=[("entity", "==", id)]
    ).to_pylist()
    return found


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
