"""`closure` answers property paths as a SPARQL engine does over the query service's triples."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from graph.closure import closure
from tests.graph import worlds
from tests.graph.oracle import PathTree, QueryService, as_text, best_chains, may_be_empty, number

QUESTIONS = st.lists(st.tuples(worlds.path_trees(), st.integers(0, 20)), min_size=12, max_size=12)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(worlds.worlds(), QUESTIONS)
def test_every_path_gives_what_sparql_gives(
    world: worlds.World, questions: list[tuple[PathTree, int]]
) -> None:
    service = QueryService(world)
    targets = [*(line["id"] for line in world), worlds.ABSENT[0]]
    with tempfile.TemporaryDirectory() as directory:
        store = worlds.store(world, Path(directory))
        for tree, choice in questions:
            target = targets[choice % len(targets)]
            expected = service.closure(as_text(tree, prefix="wdt:"), target)
            if not service.mentions(target):
                expected = {target} if may_be_empty(tree) else set()
            found = list(closure(store, target, as_text(tree)))
            assert set(found) == expected, (as_text(tree), target)
            assert len(found) == len(expected)
