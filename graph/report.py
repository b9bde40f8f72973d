"""What people see of the graph room: the table at the end of a build, and an explanation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etl.manifest import read_manifest
from etl.show import counted, printable
from graph.attributes import Attribute
from graph.derived import Derived, Query, statement
from graph.explanation import Chain, Explanation, Verdict

Row = tuple[str, str, str]


def rows(store: Path, out: Path, manifest: dict[str, Any]) -> list[Row]:
    """(name, figure, remark) of every line, for a terminal."""
    read = read_manifest(store, "store")
    counts = read["counts"]
    return [
        (
            "entities read",
            f"{counts['entities']:,}",
            counted(counts["rejects"], "line") + " rejected",
        ),
        *map(_root, manifest["counts"]["roots"]),
        ("entities kept", f"{manifest['counts']['entities']:,}", "in one root or more"),
        ("attributes", f"{sum(manifest['counts']['attributes'].values()):,}", ""),
        _queries(manifest["counts"]["queries"]),
        ("seconds", f"{manifest['seconds']['all']:,.1f}", ""),
        ("files", "", f"{out}{_reused(manifest)}"),
    ]


def _queries(counts: dict[str, int]) -> Row:
    left_out = counts["over_budget"]
    by_type = {name: n for name, n in counts.items() if name not in ("ambiguous", "over_budget")}
    remark = ", ".join(f"{n:,} {name}" for name, n in by_type.items())
    remark += f"; {counts['ambiguous']:,} ambiguous" if counts["ambiguous"] else ""
    remark += f"; {left_out:,} over the budget" if left_out else ""
    return "queries", f"{sum(by_type.values()):,}", remark


def _root(root: dict[str, Any]) -> Row:
    removed = ", ".join(f"-{n:,} {rule}" for rule, n in root["removed"].items() if n)
    of = f"of {root['candidates']:,}{f' ({removed})' if removed else ''}"
    return f"  {_named(root['root'], root['name'])}", f"{root['kept']:,}", f"{root['recipe']}, {of}"


def as_plain(explanation: Explanation) -> dict[str, Any]:
    """An explanation as plain data, for JSON."""
    return asdict(explanation)


def described(explanation: Explanation) -> Iterator[str]:
    """Lines for a terminal: chains, then the rules that kept it out, then roots it never meets."""
    return map(printable, _described(explanation))


def _described(explanation: Explanation) -> Iterator[str]:
    for old, new in explanation.merged.items():
        yield f"{old} was merged into {new}."
    yield _named(explanation.id, explanation.name)
    silent = [
        v for v in explanation.verdicts if not v.member and v.chain is None and v.rule == "any"
    ]
    order = (True, None, False)
    for verdict in sorted(explanation.verdicts, key=lambda v: order.index(v.member)):
        if verdict not in silent:
            yield ""
            yield from _verdict_lines(verdict)
    if silent:
        yield ""
        met = {v.root for v in explanation.verdicts if v not in silent}
        # a root that another part of the recipe has a chain to: which part has none
        roots = dict.fromkeys(
            _named(v.root, v.root_name) + (f" ({v.recipe})" if v.root in met else "")
            for v in silent
        )
        yield f"no chain to {', '.join(roots)}"
    if explanation.derived is not None:
        yield ""
        yield from _derived_lines(explanation.id, explanation.derived)
    if all(verdict.rule == "unknown" for verdict in explanation.verdicts):
        yield (
            f"{explanation.id} is not in this data set; ask with --store too for the rule that "
            "kept it out"
        )


def _reused(manifest: dict[str, Any]) -> str:
    kept = manifest["reused"]
    if len(kept) == len(manifest["stages"]):
        return ": nothing has changed"
    return f": {', '.join(kept)} as they were" if kept else ""


_SHOWN = 12  # attributes and queries on a terminal; --json has all


def _derived_lines(id_: str, derived: Derived) -> Iterator[str]:
    """What follows from its being in the data set: type, visuality, attributes, queries."""
    chosen = derived.natural_type
    if chosen is None:
        yield "natural type: none; nothing with a name stands above it"
    else:
        yield f"natural type: {chosen.id} {chosen.name}; {chosen.reason}"
        for other in chosen.candidates[1:]:
            figures = f"{counted(other.steps, 'step')}, {counted(other.sitelinks, 'sitelink')}"
            yield f"  over {other.id} {other.name}; {figures}, score {other.score:.2f}"
    seen = derived.visuality
    yield f"{'visual' if seen.visual else 'not visual'}: {seen.reason}"
    yield from _listed("attributes", [_attribute(id_, a) for a in derived.attributes])
    if derived.parts_left_out:
        yield f"  {derived.parts_left_out:,} entities say that they are part of it: see --graph"
    yield from _listed("queries", [_query(q) for q in derived.queries])


def _listed(what: str, lines: list[str]) -> Iterator[str]:
    yield f"{what}: {len(lines)}"
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  … and {len(lines) - _SHOWN} more (--json has all)"


def _attribute(id_: str, attribute: Attribute) -> str:
    qualifier = f" ({attribute.qualifier})" if attribute.qualifier else ""
    above = (
        f", from {attribute.inherited_from} {counted(attribute.distance or 0, 'step')} up"
        if attribute.inherited_from
        else ""
    )
    name = f"{attribute.property_name} " if attribute.property_name else ""
    return (
        f"{attribute.category}: {name}{attribute.value}{qualifier}; "
        f"{statement(id_, attribute)}{above}"
    )


def _query(query: Query) -> str:
    return f"{query.query!r} ({query.query_type}): {query.reason}"


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    root = f"{_named(verdict.root, verdict.root_name)} ({verdict.recipe})"
    if verdict.member:
        yield f"in {root} by {verdict.via}"
    elif verdict.member is None:
        yield f"candidate for {root} by {verdict.via}; {verdict.reason}"
    elif verdict.rule == "unknown":
        yield f"not in {root}{verdict.reason.removeprefix('left out')}"
    else:
        yield f"not in {root}: {verdict.reason}"
    if verdict.chain is not None:
        yield from _chain_lines(verdict.chain)


def _chain_lines(chain: Chain) -> Iterator[str]:
    yield f"  {_named(chain.ids[0], chain.names[0])}"
    steps = zip(chain.properties, chain.property_names, chain.ids[1:], chain.names[1:], strict=True)
    for property_id, property_name, id_, name in steps:
        yield f"    {_named(property_id, property_name)}: {_named(id_, name)}"


def _named(id_: str, name: str | None) -> str:
    return f"{id_} {name}" if name else id_
