"""Visuality: which rule decides, what it says, and what may stand in its table of classes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from etl.store import EntityStore
from graph.above import Nodes
from graph.build import build
from graph.recipe import load
from graph.visuality import Visuality, marks, read_marks, visuality
from tests.graph.small_dump import entity, ranked, recipe_of, redirect, store_of

TOOL, FOOD, EVENT, CONCEPT = "Q39546", "Q2095", "Q1656682", "Q151885"
PICTURE = {"P18": ["A.jpg"]}
PLACE = {"P625": [{"latitude": 1, "longitude": 2}]}
NO_CLASS = "no class above it is known, and it has"

Line = dict[str, Any]


def seen(store: Path, ids: Sequence[str]) -> dict[str, Visuality]:
    with EntityStore(store) as entities:
        nodes = Nodes(entities, ["en"])
        return {id: visuality(node, nodes) for id in ids if (node := nodes.get(id))}


def thing(**claims: list[Any]) -> Line:
    return entity("Q1", claims=claims)


def up(id: str, *classes: str) -> Line:
    return entity(id, claims={"P279": [*classes]})


@pytest.mark.parametrize(
    ("entities", "visual", "reason"),
    [
        # taxa come first, whatever stands above them
        (
            [thing(P171=["Q2"], P279=[CONCEPT])],
            True,
            "taxon: it has a parent taxon or a taxon name",
        ),
        (
            [thing(P225=["Canis lupus"], P31=[CONCEPT])],
            True,
            "taxon: it has a parent taxon or a taxon name",
        ),
        # then the nearest class of the table, be there an image or not
        ([thing(P279=[TOOL])], True, "class: Q39546 tool (concrete), 1 step up"),
        ([thing(P279=[EVENT], **PICTURE)], False, "class: Q1656682 event (abstract), 1 step up"),
        (
            [thing(P279=["Q2", "Q3"]), up("Q2", TOOL), up("Q3", "Q4"), up("Q4", EVENT)],
            True,
            "class: Q39546 tool (concrete), 2 steps up",
        ),
        ([thing(P31=["Q2"]), up("Q2", TOOL)], True, "class: Q39546 tool (concrete), 2 steps up"),
        # what a class is an instance of says how it is modelled
        (
            [thing(P31=[CONCEPT], P279=["Q2"]), up("Q2", FOOD)],
            True,
            "class: Q2095 food (concrete), 2 steps up",
        ),
        ([entity(TOOL, claims={"P279": [EVENT]})], True, "class: Q39546 tool (concrete), itself"),
        # of two kinds equally near, an image
        (
            [thing(P279=[EVENT, TOOL], **PICTURE)],
            True,
            "class: Q39546 tool (concrete) and Q1656682 event (abstract), both 1 step up; "
            "it has an image",
        ),
        (
            [thing(P279=[EVENT, TOOL])],
            False,
            "class: Q39546 tool (concrete) and Q1656682 event (abstract), both 1 step up; "
            "it has no image",
        ),
        # nothing above is known
        ([thing(P279=["Q2"], **PICTURE, **PLACE), up("Q2", "Q1")], True, f"image: {NO_CLASS} one"),
        ([thing(**PLACE)], True, f"place: {NO_CLASS} coordinates"),
        ([thing()], False, f"image: {NO_CLASS} none"),
        ([thing(P18=["novalue"], P225=["novalue"])], False, f"image: {NO_CLASS} none"),
        ([thing(P279=[ranked(TOOL, "deprecated")])], False, f"image: {NO_CLASS} none"),
    ],
)
def test_the_first_rule_that_applies_decides_and_says_so(
    entities: list[Line], visual: bool, reason: str, tmp_path: Path
) -> None:
    id = entities[0]["id"]
    assert seen(store_of(tmp_path, entities), [id]) == {id: Visuality(visual, reason)}


def test_a_class_that_was_merged_into_another_is_that_one(tmp_path: Path) -> None:
    store = redirect(store_of(tmp_path, [thing(P279=["Q8"]), up("Q2", EVENT)]), {"Q8": "Q2"})
    assert seen(store, ["Q1"])["Q1"].reason == "class: Q1656682 event (abstract), 2 steps up"


_IDS = [*(f"Q{n}" for n in range(9_000_000_001, 9_000_000_008)), TOOL, FOOD, EVENT, CONCEPT]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(_IDS), st.sampled_from(["P31", "P279"]), st.sampled_from(_IDS)),
        min_size=6,
        max_size=20,
    ),
    st.sets(st.sampled_from(_IDS)),
)
def test_the_nearest_marked_class_decides(
    edges: list[tuple[str, str, str]], pictured: set[str]
) -> None:
    world = []
    for id in _IDS:
        claims = {p: [o for s, way, o in edges if (s, way) == (id, p)] for p in ("P31", "P279")}
        claims |= PICTURE if id in pictured else {}
        world.append(entity(id, claims={p: found for p, found in claims.items() if found}))
    with tempfile.TemporaryDirectory() as folder:
        found = seen(store_of(Path(folder), world), _IDS)
    for id in _IDS:
        told = found[id]
        assert told.visual == expected(id, edges, id in pictured), (id, told)
        event(told.reason.partition(":")[0])


def expected(id: str, edges: list[tuple[str, str, str]], pictured: bool) -> bool:
    """Go up from an entity, all at one distance at a time, until something is marked."""
    here = {id}
    way = "P279" if any((s, p) == (id, "P279") for s, p, _ in edges) else "P31"
    for _ in range(len(_IDS) + 1):
        kinds = {True for x in here & {TOOL, FOOD}} | {False for x in here & {EVENT, CONCEPT}}
        if kinds:
            return pictured if len(kinds) == 2 else kinds.pop()
        here, way = {o for s, p, o in edges if s in here and p == way}, "P279"
    return pictured


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Q5\tconcrete\thuman", "too few columns"),
        ("Q5\tconcrete\thuman\twhy\tmore", "too many"),
        ("Q5 concrete human why", "no tabs"),
        ("P5\tvisible\thuman\twhy", "no verdict"),
        ("five\tconcrete\thuman\twhy", "no id"),
        ("Q1\tabstract\tuniverse\twhy", "twice"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(line: str, why: str) -> None:
    text = f"# classes\nQ1\tconcrete\tuniverse\tall of it\n\n{line}\n"
    with pytest.raises(UserError, match=r"visuality\.tsv, line 4: not a new class"):
        read_marks(text)
    assert list(read_marks(text.replace(line, "Q2\tabstract\tlife\tan idea"))) == ["Q1", "Q2"]


def test_the_table_has_the_roots_of_the_reference_and_those_it_rejected() -> None:
    text = (files("graph.recipes") / "visuality.tsv").read_text("utf-8")
    reasons = {
        line.split("\t")[0]: line.split("\t")[3] for line in text.splitlines() if line[0] == "Q"
    }
    roots = [root.id for root in load("reference-world").roots]
    assert [id for id, reason in reasons.items() if reason == "root"] == roots
    assert all(marks()[id].concrete for id in roots)
    assert sum(reason.startswith("rejected") for reason in reasons.values()) == 25


# --- in a data set --------------------------------------------------------------------------------


def test_a_data_set_has_both_columns_and_asks_for_nothing_that_is_not_visual(
    tmp_path: Path,
) -> None:
    entities = [
        entity("Q1", label="root"),
        entity("Q2", label="hammer", claims={"P279": ["Q1", TOOL]}, aliases={"en": ["mallet"]}),
        entity("Q3", label="wedding", claims={"P279": ["Q1", EVENT], "P527": ["Q2"]}),
    ]
    recipe = load(recipe_of(tmp_path, '[[root]]\nid = "Q1"\nany = [{ path = "P279+" }]'))
    build(store_of(tmp_path, entities), recipe, tmp_path / "out", quiet=True)
    rows = pq.read_table(tmp_path / "out" / "entities.parquet").to_pylist()
    assert [(row["name"], row["visual"], row["visual_reason"]) for row in rows] == [
        ("hammer", True, "class: Q39546 tool (concrete), 1 step up"),
        ("wedding", False, "class: Q1656682 event (abstract), 1 step up"),
    ]
    queries = pq.read_table(tmp_path / "out" / "queries.parquet").to_pylist()
    assert {query["entity"] for query in queries} == {"Q2"}


def test_a_marked_class_that_was_merged_is_what_it_was_merged_into(tmp_path: Path) -> None:
    entities = [
        entity("Q1", label="root"),
        entity("Q777", label="event"),
        entity("Q2", label="wedding", claims={"P279": ["Q1", EVENT], "P18": ["A.jpg"]}),
    ]
    store = redirect(store_of(tmp_path, entities), {EVENT: "Q777"})
    recipe = load(recipe_of(tmp_path, '[[root]]\nid = "Q1"\nany = [{ path = "P279+" }]'))
    build(store, recipe, tmp_path / "out", quiet=True)
    (row,) = pq.read_table(tmp_path / "out" / "entities.parquet").to_pylist()
    assert row["visual"] is False
