"""A second reading of property paths for tests: naive, over sets and regular expressions.

It shares no code with `graph/`: a path is a nested tuple made here, its text, its meaning as a set
of pairs and the words that it matches are worked out from the definitions in SPARQL 1.1 §18.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hypothesis import strategies as st

NAMES = ("P31", "P279", "P171")

# ("p", name) | ("^", tree) | ("*" or "+" or "?", tree) | ("/" or "|", tree, tree)
TREES = st.recursive(
    st.tuples(st.just("p"), st.sampled_from(NAMES)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("^*+?"), inner),
        st.tuples(st.sampled_from("/|"), inner, inner),
    ),
    max_leaves=5,
)

NODES = st.integers(1, 6)
EDGES = st.sets(st.tuples(NODES, st.sampled_from(NAMES), NODES), max_size=10)

Edges = set[tuple[int, str, int]]


def text_of(tree) -> str:
    """Write a path with more brackets than it needs."""
    match tree:
        case ("p", name):
            return name
        case ("^", inner):
            return f"^({text_of(inner)})"
        case (("*" | "+" | "?") as sign, inner):
            return f"({text_of(inner)}){sign}"
        case (sign, left, right):
            return f"({text_of(left)}){sign}({text_of(right)})"


def pairs(tree, edges: Edges, nodes: set[int]) -> set[tuple[int, int]]:
    """Evaluate a path to the pairs that it links; paths of length zero link `nodes`."""
    match tree:
        case ("p", name):
            return {(s, o) for s, p, o in edges if p == name}
        case ("^", inner):
            return {(o, s) for s, o in pairs(inner, edges, nodes)}
        case ("?", inner):
            return pairs(inner, edges, nodes) | {(n, n) for n in nodes}
        case (("*" | "+") as sign, inner):
            step = pairs(inner, edges, nodes)
            found, size = set(step), -1
            while len(found) != size:
                size = len(found)
                found |= {(a, d) for a, b in found for c, d in step if b == c}
            return found | {(n, n) for n in nodes} if sign == "*" else found
        case ("|", left, right):
            return pairs(left, edges, nodes) | pairs(right, edges, nodes)
        case ("/", left, right):
            after = pairs(right, edges, nodes)
            return {(a, d) for a, b in pairs(left, edges, nodes) for c, d in after if b == c}


def pattern(tree, inverse: bool = False) -> str:
    """Write a path as a regular expression over words such as `P31 ^P279 `."""
    match tree:
        case ("p", name):
            return rf"(?:\^{name} )" if inverse else f"(?:{name} )"
        case ("^", inner):
            return pattern(inner, not inverse)
        case (("*" | "+" | "?") as sign, inner):
            return f"(?:{pattern(inner, inverse)}){sign}"
        case ("|", left, right):
            return f"(?:{pattern(left, inverse)}|{pattern(right, inverse)})"
        case ("/", left, right):
            first, second = (right, left) if inverse else (left, right)
            return pattern(first, inverse) + pattern(second, inverse)


def walks(edges: Edges, start: int, longest: int) -> Iterator[tuple[tuple, tuple]]:
    """Yield (ids, steps) of every walk from a node along edges either way, shorter ones first."""
    out: dict[int, list[tuple[str, int]]] = {}
    for s, p, o in edges:
        out.setdefault(s, []).append((p, o))
        out.setdefault(o, []).append((f"^{p}", s))
    layer = [((start,), ())]
    for length in range(longest + 1):
        yield from layer
        if length < longest:
            layer = [
                ((*ids, o), (*steps, p)) for ids, steps in layer for p, o in out.get(ids[-1], [])
            ]


def step_order(step: str) -> tuple[int, bool]:
    """Order properties by number, direct before inverse."""
    return int(step.lstrip("^")[1:]), step.startswith("^")


def best_walk(tree, edges: Edges, start: int, ends: set[int], longest: int):
    """Find the matching walk that is shortest, then lowest in ids, then in properties."""
    expression = re.compile(pattern(tree))
    found = [
        (len(steps), ids, tuple(map(step_order, steps)), steps)
        for ids, steps in walks(edges, start, longest)
        if ids[-1] in ends and expression.fullmatch("".join(f"{step} " for step in steps))
    ]
    if not found:
        return None
    _, ids, _, steps = min(found)
    return ids, steps
