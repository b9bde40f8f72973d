"""quality.parquet: what is found of every kind, against plain Python over the same statements."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graph.check_ontology
import graph.cycles
import graph.findings
import graph.quality
from etl.errors import UserError
from etl.ingest import ingest
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.plan import Options
from etl.sample import write_dump
from etl.store import EntityStore
from graph.build import build
from graph.check_data_set import swallowed_roots
from graph.facts import Facts
from graph.findings import KINDS
from graph.quality import QUALITY_FILE, write_quality
from graph.read_quality import as_plain, lines, read_quality
from graph.recipe import load
from graph.shared_names import shared_names
from tests.console import ROOT
from tests.graph.data_sets import rewrite, without
from tests.graph.small_dump import entity, ranked, recipe_of, redirect, store_of

ONE = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'
TWO = ONE + '[[root]]\nid = "Q2"\nany = [{ path = "P279*" }]\n'


def built(folder, entities, recipe=ONE, **options):
    """Make a store and a graph of it; return the graph's directory."""
    store = store_of(folder / "data", entities, **options)
    build(store, load(recipe_of(folder, recipe)), folder / "out", quiet=True)
    return folder / "out"


def rows(out, kind=None):
    found = pq.read_table(out / QUALITY_FILE).to_pylist()
    return [row for row in found if kind in (None, row["kind"])]


def short(out, kind):
    return [
        (row["id"], row["related"], row["count"], row["in_data_set"]) for row in rows(out, kind)
    ]


def classes(**superclasses):
    """Make items with P279: Q1=["Q2"]."""
    return [entity(id, claims={"P279": above}) for id, above in superclasses.items()]


def test_the_columns_are_those_of_the_docs(tmp_path):
    out = built(tmp_path, classes(Q1=[]))
    assert pq.read_schema(out / QUALITY_FILE).remove_metadata() == pa.schema(
        [
            ("kind", pa.string()),
            ("id", pa.string()),
            ("name", pa.string()),
            ("property", pa.string()),
            ("related", pa.list_(pa.field("element", pa.string()))),
            ("count", pa.int64()),
            ("in_data_set", pa.bool_()),
            ("detail", pa.string()),
        ]
    )
    text = (ROOT / "docs" / "quality.md").read_text("utf-8")
    for name in (*KINDS, *pq.read_schema(out / QUALITY_FILE).names):
        assert f"`{name}`" in text


# --- cycles ---------------------------------------------------------------------------------------


def test_a_cycle_is_told_in_its_order_and_says_whether_it_touches_the_data_set(tmp_path):
    out = built(
        tmp_path,
        classes(
            Q1=[], Q5=["Q1", "Q7"], Q7=["Q6"], Q6=["Q5"], Q20=["Q21"], Q21=["Q20"], Q30=["Q20"]
        ),
    )
    first, second = rows(out, "cycle_subclass")
    assert first == {
        "kind": "cycle_subclass",
        "id": "Q5",
        "name": "the Q5",
        "property": "P279",
        "related": ["Q5", "Q7", "Q6"],
        "count": 3,
        "in_data_set": True,
        "detail": "Each is a subclass of the next (P279): "
        "the Q5 (Q5) → the Q7 (Q7) → the Q6 (Q6) → the Q5 (Q5).",
    }
    assert (second["related"], second["in_data_set"]) == (["Q20", "Q21"], False)


def test_cycles_that_share_items_are_one_finding_and_an_item_above_itself_its_own(tmp_path):
    out = built(
        tmp_path,
        classes(Q1=[], Q2=["Q2", "Q3"], Q3=["Q4", "Q2"], Q4=["Q5"], Q5=["Q3"]),
    )
    assert short(out, "cycle_subclass") == [
        ("Q2", ["Q2"], 1, False),
        ("Q2", ["Q2", "Q3"], 4, False),
    ]
    alone, together = (row["detail"] for row in rows(out, "cycle_subclass"))
    assert alone == "the Q2 (Q2) is a subclass of itself (P279)."
    assert together.endswith("the Q2 (Q2); 4 items lie on such cycles together.")


def test_taxa_above_themselves_are_a_kind_of_their_own(tmp_path):
    taxa = [entity("Q2", claims={"P171": ["Q3"]}), entity("Q3", claims={"P171": ["Q2"]})]
    out = built(tmp_path, [*classes(Q1=[]), *taxa])
    assert short(out, "cycle_parent_taxon") == [("Q2", ["Q2", "Q3"], 2, False)]
    assert not rows(out, "cycle_subclass")


def test_items_above_themselves_by_instance_and_subclass_together(tmp_path):
    out = built(
        tmp_path,
        [
            *classes(Q1=[], Q3=["Q2", "Q4"], Q4=["Q3"], Q5=["Q3"], Q8=["Q9"], Q9=["Q8"]),
            entity("Q2", claims={"P31": ["Q5", "Q1"]}),
            entity("Q6", claims={"P31": ["Q7"]}),  # no class by P279, and one all the same
            entity("Q7", claims={"P31": ["Q6", "Q7"]}),
        ],
    )
    assert short(out, "cycle_mixed") == [
        ("Q2", ["Q2", "Q5", "Q3"], 4, False),
        ("Q6", ["Q6", "Q7"], 2, False),
    ]
    assert rows(out, "cycle_mixed")[0]["detail"] == (
        "The first is an instance (P31) of the next, the others are instances or subclasses "
        "(P279): the Q2 (Q2) → the Q5 (Q5) → the Q3 (Q3) → the Q2 (Q2); 4 items lie on such "
        "cycles together."
    )


def test_a_long_cycle_is_told_by_its_first_items(tmp_path, monkeypatch):
    monkeypatch.setattr(graph.findings, "MOST_RELATED", 7)
    ring = {f"Q{n}": [f"Q{n + 1}"] for n in range(1, 9)} | {"Q9": ["Q1"]}
    (row,) = rows(built(tmp_path, classes(**ring)), "cycle_subclass")
    assert row["related"] == [f"Q{n}" for n in range(1, 8)]
    assert row["count"] == 9
    assert "the Q5 (Q5) → … (4 more) → the Q1 (Q1)." in row["detail"]


def test_more_cycles_than_can_be_taken_apart_are_one_finding_about_no_item(tmp_path, monkeypatch):
    monkeypatch.setattr(graph.cycles, "MOST_EDGES", 3)
    out = built(tmp_path, classes(Q1=["Q2"], Q2=["Q3", "Q1"], Q3=["Q1"]))
    (row,) = rows(out, "cycle_subclass")
    assert (row["id"], row["name"], row["related"], row["count"]) == (None, None, [], 3)
    assert "too many" in row["detail"]


# --- other kinds of the ontology ------------------------------------------------------------------


def test_instance_and_subclass_of_the_same_class(tmp_path):
    out = built(
        tmp_path,
        [
            *classes(Q1=[], Q2=["Q1"]),
            entity("Q3", claims={"P31": ["Q1", "Q2"], "P279": ["Q2", "Q1"]}),
            entity("Q4", claims={"P31": ["Q1"], "P279": ["Q2"]}),  # not of the same by statements
            entity("Q5", claims={"P31": ["Q9"], "P279": ["Q9"]}),
        ],
    )
    assert short(out, "instance_and_subclass") == [
        ("Q3", ["Q1", "Q2"], 2, True),
        ("Q5", ["Q9"], 1, False),
    ]
    assert rows(out, "instance_and_subclass")[0]["detail"] == (
        "the Q3 (Q3) is both an instance (P31) and a subclass (P279) of the Q1 (Q1), the Q2 (Q2), "
        "by direct statements."
    )


def test_instances_of_themselves(tmp_path):
    out = built(tmp_path, [*classes(Q1=[]), entity("Q2", claims={"P31": ["Q2", "Q1"]})])
    assert short(out, "instance_of_itself") == [("Q2", ["Q2"], 1, False)]


def test_taxa_with_several_parents(tmp_path):
    taxa = [
        entity("Q3", claims={"P171": ["Q5", "Q1", "Q5"]}),
        entity("Q4", claims={"P171": ["Q5", "Q5"]}),  # said twice, and one all the same
    ]
    out = built(tmp_path, [*classes(Q1=[], Q5=[]), *taxa])
    assert short(out, "several_parent_taxa") == [("Q3", ["Q1", "Q5"], 2, False)]


def test_parents_without_a_record_are_listed_with_those_that_name_them(tmp_path):
    out = built(
        tmp_path,
        [*classes(Q1=["Q70"], Q2=["Q70", "Q1"], Q3=["Q80"]), entity("Q4", claims={"P171": ["Q7"]})],
    )
    assert short(out, "missing_superclass") == [
        ("Q70", ["Q1", "Q2"], 2, True),
        ("Q80", ["Q3"], 1, False),
    ]
    assert short(out, "missing_parent_taxon") == [("Q7", ["Q4"], 1, False)]
    assert rows(out, "missing_parent_taxon")[0]["detail"] == (
        "The store has no record of Q7 (deleted, merged or newer than the dump), and 1 item is a "
        "child taxon of it (P171): the Q4 (Q4)."
    )


def test_only_truthy_statements_count(tmp_path):
    out = built(
        tmp_path,
        [
            *classes(Q1=[]),
            entity("Q2", claims={"P279": [ranked("Q2", "deprecated"), "Q1"], "P31": ["Q1"]}),
            entity("Q3", claims={"P171": ["Q1", ranked("Q2", "preferred")]}),
            entity("Q4", claims={"P279": ["Q1"], "P31": [ranked("Q1", "deprecated"), None]}),
        ],
    )
    assert [row["id"] for row in rows(out)] == ["Q2"]
    assert rows(out)[0]["kind"] == "instance_and_subclass"


def test_an_id_that_was_merged_stands_for_what_it_was_merged_into(tmp_path):
    entities = [
        *classes(Q1=[], Q2=["Q90", "Q1"], Q3=["Q91", "Q92"]),
        entity("Q4", claims={"P31": ["Q93", "Q94"], "P279": ["Q1"]}),
    ]
    merged = {"Q90": "Q2", "Q91": "Q1", "Q93": "Q1", "Q94": "Q4"}
    store = redirect(store_of(tmp_path / "data", entities), merged)
    build(store, load(recipe_of(tmp_path, ONE)), tmp_path / "out", quiet=True)
    found = [(row["kind"], row["id"], row["related"]) for row in rows(tmp_path / "out")]
    assert found == [
        ("cycle_subclass", "Q2", ["Q2"]),
        ("instance_and_subclass", "Q4", ["Q1"]),
        ("instance_of_itself", "Q4", ["Q4"]),
        ("missing_superclass", "Q92", ["Q3"]),
    ]


# --- kinds of the data set ------------------------------------------------------------------------


def test_a_root_inside_another_one(tmp_path):
    out = built(tmp_path, classes(Q1=[], Q2=["Q1"], Q3=["Q2"], Q4=["Q1"]), TWO)
    assert short(out, "root_swallows_root") == [("Q2", ["Q1"], 2, True)]
    assert rows(out, "root_swallows_root")[0]["detail"] == (
        "2 of the 2 entities of the Q2 (Q2) are in the Q1 (Q1) too (100.0 %); the root itself is "
        "one of them."
    )


@pytest.mark.parametrize(("shared", "swallowed"), [(8, []), (9, ["Q2"])])
def test_a_root_with_nine_tenths_of_its_entities_in_another_one(tmp_path, shared, swallowed):
    both = {f"Q{n}": ["Q1", "Q2"] for n in range(10, 10 + shared)}
    rest = {f"Q{n}": ["Q1"] for n in range(40, 60)}  # so that the other root isn't swallowed
    only = {f"Q{n}": ["Q2"] for n in range(30, 39 - shared)}  # and the root itself: ten in all
    out = built(tmp_path, classes(Q1=[], Q2=[], **both, **rest, **only), TWO)
    assert [row["id"] for row in rows(out, "root_swallows_root")] == swallowed
    for row in rows(out, "root_swallows_root"):
        assert "9 of the 10 entities" in row["detail"]
        assert "(90.0 %); the root itself is not one of them" in row["detail"]


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [(0, 1, ("Q1", "Q2")), (1, 0, ("Q2", "Q1")), (0, 0, ("Q1", "Q2")), (1, 1, ("Q1", "Q2"))],
)
def test_of_two_roots_that_swallow_each_other_the_smaller_one_is_told(tmp_path, one, other, told):
    pairs = [(root, f"Q{n}") for n in range(10, 30) for root in ("Q1", "Q2")]
    pairs += [("Q1", f"Q{n}") for n in range(40, 40 + one)]
    pairs += [("Q2", f"Q{n}") for n in range(50, 50 + other)]
    table = pa.table({"root": [r for r, _ in pairs], "entity": [e for _, e in pairs]})
    pq.write_table(table, tmp_path / "memberships.parquet")
    found = swallowed_roots(tmp_path / "memberships.parquet", ["Q1", "Q2"])
    ids, related = found.ids.tolist(), found.related.values.tolist()
    assert [(f"Q{a}", f"Q{b}") for a, b in zip(ids, related, strict=True)] == [told]


def test_of_two_roots_of_one_size_the_one_inside_the_other_is_told(tmp_path):
    pairs = [("Q1", "Q2"), ("Q2", "Q5")]
    pairs += [(root, f"Q{n}") for n in range(10, 30) for root in ("Q1", "Q2")]
    table = pa.table({"root": [r for r, _ in pairs], "entity": [e for _, e in pairs]})
    pq.write_table(table, tmp_path / "memberships.parquet")
    found = swallowed_roots(tmp_path / "memberships.parquet", ["Q1", "Q2"])
    assert (found.ids.tolist(), found.related.values.tolist()) == ([2], [1])


def test_an_entity_of_many_memberships_may_be_cut_by_row_groups(tmp_path):
    """Rows of one entity stand in two row groups and more."""
    roots = [f"Q{n}" for n in range(1, 6)]
    pairs = [(root, f"Q{n}") for n in range(10, 40) for root in roots if n % int(root[1:]) == 0]
    answers = []
    for size in (1, 2, 3, 7, 1000):
        file = tmp_path / f"{size}.parquet"
        table = pa.table({"root": [r for r, _ in pairs], "entity": [e for _, e in pairs]})
        pq.write_table(table, file, row_group_size=size)
        found = swallowed_roots(file, roots)
        answers.append((found.ids.tolist(), found.related.values.tolist(), found.count.tolist()))
    members = {root: {e for r, e in pairs if r == root} for root in roots}
    plain = [
        (int(a[1:]), int(b[1:]), len(members[a] & members[b]))
        for a in roots
        for b in roots
        if a != b and len(members[a] & members[b]) >= 0.9 * len(members[a])
    ]
    assert [tuple(zip(*answer, strict=True)) for answer in answers] == [tuple(plain)] * 5


def test_names_that_several_entities_have(tmp_path):
    def below(id, label, links, *aliases):
        claims = {"P279": ["Q1"]}
        return entity(id, label=label, links=links, aliases={"en": [*aliases]}, claims=claims)

    out = built(
        tmp_path,
        [
            *classes(Q1=[]),
            below("Q2", "Bank", 5),
            below("Q3", "river bank", 9, "BANK", "shore"),
            below("Q4", "ｂａｎｋ\u00a0", 9, "coast"),
            below("Q5", "shore", 1, "Shore", "the  shore"),  # twice its own is no sharing
            entity("Q6", label="bank", claims={"P279": ["Q9"]}),  # not in the data set
        ],
    )
    assert [(r["id"], r["name"], r["related"]) for r in rows(out, "shared_name")] == [
        (None, "BANK", ["Q3", "Q4", "Q2"]),
        (None, "shore", ["Q3", "Q5"]),
    ]
    assert rows(out, "shared_name")[1]["detail"] == (
        "2 entities are called “shore”: river bank (Q3), shore (Q5)."
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "A", " a ", "b", "Ｂ", "c;d", "c", "ß", "SS", "\u200b"]),
            st.lists(st.sampled_from(["a", "b", "B", "c;d", "c", "d", "ss", "e"]), max_size=3),
            st.integers(0, 3),
        ),
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_shared_names_are_those_of_plain_python(entities, group):
    owners = defaultdict(set)
    written = {}
    best_first = sorted(enumerate(entities), key=lambda one: (-one[1][2], one[0]))
    for n, (name, aliases, _) in best_first:
        for text in (name, *aliases):
            plain = " ".join(text.replace("\u200b", "").replace("Ｂ", "b").casefold().split())
            if plain:
                owners[plain].add(n)
                written.setdefault(plain, text)
    expected = sorted(
        (-len(who), plain, written[plain], [n for n, _ in best_first if n in who])
        for plain, who in owners.items()
        if len(who) > 1
    )
    table = pa.table(
        {
            "id": pa.array([f"Q{n}" for n in range(len(entities))], pa.string()),
            "name": pa.array([name for name, _, _ in entities], pa.string()),
            "aliases": pa.array([aliases for _, aliases, _ in entities], pa.list_(pa.string())),
            "sitelinks": pa.array([links for _, _, links in entities], pa.int32()),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/entities.parquet", row_group_size=group)
        found = shared_names(Path(folder) / "entities.parquet")
    assert found.names.to_pylist() == [text for _, _, text, _ in expected]
    assert found.count.tolist() == [-count for count, _, _, _ in expected]
    assert found.entities.values.tolist() == [n for _, _, _, who in expected for n in who]


def test_a_class_without_a_name_that_stands_above_entities(tmp_path):
    out = built(
        tmp_path,
        [
            *classes(Q1=[], Q4=["Q2", "Q3"], Q5=["Q2"], Q6=["Q7"]),
            entity("Q2", label=None, claims={"P279": ["Q1"]}),
            entity("Q3", label=None, labels={"de": "Klasse"}, claims={"P279": ["Q1"]}),
            entity("Q7", label=None, claims={"P279": ["Q1"], "P225": ["Taxon"]}),
            entity("Q8", label=None, claims={"P279": ["Q1"]}),  # above nothing
        ],
    )
    assert short(out, "unlabelled_class") == [
        ("Q2", ["Q4", "Q5"], 2, True),
        ("Q3", ["Q4"], 1, True),
    ]
    assert rows(out, "unlabelled_class")[0]["detail"] == (
        "Q2 has no name in en, en-gb, en-ca, en-us, mul, P225, P1705 and is left out; "
        "2 entities stand right below it: the Q4 (Q4), the Q5 (Q5)."
    )


@pytest.mark.parametrize("mark", [";", ";;;", " ; ", "|", "\t", '"', "\\", ","])
def test_a_name_with_a_separator_in_it_is_one_name(tmp_path, mark):
    """EntityNet's files put `;` and `;;;` between aliases, which labels may contain too."""
    dog = entity(
        "Q2",
        label=f"a{mark}b",
        aliases={"en": [f"c{mark}d", "c", f"{mark}e{mark}"]},
        claims={"P279": ["Q1"], "P1843": [(f"f{mark}g", "en")], "P225": [f"h{mark}i"]},
    )
    cat = entity("Q3", label=f"C{mark}D", aliases={"en": ["a", "b"]}, claims={"P279": ["Q1"]})
    out = built(tmp_path, [*classes(Q1=[]), dog, cat])
    row = pq.read_table(out / "entities.parquet").to_pylist()[1]
    assert row["name"] == f"a{mark}b"
    assert row["aliases"] == [f"c{mark}d", "c", f"{mark}e{mark}"]
    assert row["common_names"] == [f"f{mark}g"]
    assert row["taxon_names"] == [f"h{mark}i"]
    (shared,) = rows(out, "shared_name")
    assert (shared["name"], shared["related"]) == (f"c{mark}d", ["Q2", "Q3"])


# --- random worlds --------------------------------------------------------------------------------

ITEMS = [f"Q{n}" for n in range(1, 8)]
statements = st.sets(
    st.tuples(
        st.sampled_from(ITEMS),
        st.sampled_from(["P31", "P279", "P171"]),
        st.sampled_from([*ITEMS, "Q50"]),
    ),
    max_size=20,
)


@settings(max_examples=30)
@given(statements)
def test_what_is_found_in_a_random_world_is_what_plain_python_finds(triples):
    of = {p: {(s, o) for s, q, o in triples if q == p} for p in ("P31", "P279", "P171")}
    claims = defaultdict(lambda: defaultdict(list))
    for subject, property_id, object in sorted(triples):
        claims[subject][property_id].append(object)
    with tempfile.TemporaryDirectory() as folder:
        out = built(Path(folder), [entity(id, claims=claims[id]) for id in ITEMS])
        found = rows(out)
        members = set(pq.read_table(out / "entities.parquet").column("id").to_pylist())
    # by P279* from the root, all that is above an entity on a chain is an entity
    assert members == {"Q1"} | nx.ancestors(nx.DiGraph([*of["P279"], ("Q1", "Q1")]), "Q1")

    got = defaultdict(set)
    for row in found:
        related = (row["count"],) if row["kind"].startswith("cycle") else tuple(row["related"])
        got[row["kind"]].add((row["id"], related, row["in_data_set"]))

    expected = defaultdict(set)
    for property_id, cycle, missing in (
        ("P279", "cycle_subclass", "missing_superclass"),
        ("P171", "cycle_parent_taxon", "missing_parent_taxon"),
    ):
        plain = nx.DiGraph([(s, o) for s, o in of[property_id] if s != o])
        for item, other in of[property_id]:
            if item == other:
                expected[cycle].add((item, (1,), item in members))
            if other == "Q50":
                below = tuple(sorted(s for s, o in of[property_id] if o == "Q50"))
                expected[missing].add(("Q50", below, bool(members & set(below))))
        for component in nx.strongly_connected_components(plain):
            if len(component) > 1:
                every = list(nx.simple_cycles(plain.subgraph(component)))
                shortest = min(map(len, every))
                lowest = min(min(one) for one in every if len(one) == shortest)
                size = (len(component),)
                expected[cycle].add((lowest, size, bool(members & component)))
    mixed = nx.DiGraph([(s, o) for s, o in of["P31"] | of["P279"] if s != o])
    for component in nx.strongly_connected_components(mixed):
        inside = [(s, o) for s, o in of["P31"] if s != o and {s, o} <= component]
        if inside:
            lengths = {(s, o): nx.shortest_path_length(mixed, o, s) for s, o in inside}
            first = min(s for s, o in inside if lengths[s, o] == min(lengths.values()))
            size = (len(component),)
            expected["cycle_mixed"].add((first, size, bool(members & component)))
    for item in ITEMS:
        both = tuple(sorted(o for s, o in of["P31"] & of["P279"] if s == item))
        if both:
            expected["instance_and_subclass"].add((item, both, item in members))
        if (item, item) in of["P31"]:
            expected["instance_of_itself"].add((item, (item,), item in members))
        parents = tuple(sorted((o for s, o in of["P171"] if s == item), key=lambda q: int(q[1:])))
        if len(parents) > 1:
            expected["several_parent_taxa"].add((item, parents, item in members))
    assert got == expected

    order = [(list(KINDS).index(row["kind"]), int(row["id"][1:])) for row in found]
    assert order == sorted(order)


# --- the table ------------------------------------------------------------------------------------

WORLD = [
    *classes(Q1=[], Q2=["Q1"], Q3=["Q2"], Q10=["Q11", "Q60"], Q11=["Q10"], Q12=["Q13"]),
    entity("Q13", label="\x1b[2Jevil", claims={"P279": ["Q12", "Q61"], "P31": ["Q12"]}),
    entity("Q14", claims={"P279": ["Q14", "Q1", "Q61"]}),
    entity("Q15", claims={"P171": ["Q1", "Q2"]}),
]


def test_the_bytes_do_not_depend_on_the_batches_they_are_made_in(tmp_path, monkeypatch):
    out = built(tmp_path, WORLD)
    with EntityStore(tmp_path / "data" / "store") as store:
        recipe = load(recipe_of(tmp_path, ONE))
        for batch in (1, 2, 100):
            monkeypatch.setattr(graph.quality, "_BATCH", batch)
            monkeypatch.setattr(graph.check_ontology, "_MOST_WAITING", batch)
            file = tmp_path / f"{batch}.parquet"
            counts = write_quality(file, out, store, Facts(store), recipe)
            assert file.read_bytes() == (out / QUALITY_FILE).read_bytes()
            assert list(counts) == list(KINDS)


def test_of_more_rows_than_there_is_room_for_the_best_are_listed_and_all_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(graph.findings, "MOST_ROWS", 2)
    monkeypatch.setattr(graph.quality, "MOST_ROWS", 2)
    out = built(tmp_path, WORLD)
    # Q14 touches the data set, the others are of the same size, and the lowest id decides
    assert [row["related"][0] for row in rows(out, "cycle_subclass")] == ["Q10", "Q14"]
    read = read_quality(out, "cycle_subclass")
    assert as_plain(read)["counts"] == {
        "cycle_subclass": {"found": 3, "listed": 2, "in_data_set": 1}
    }
    assert "3  classes that are above themselves by P279; 2 are listed; 1 in the data set" in next(
        lines(read)
    )


def test_kinds_whose_property_the_store_did_not_keep_are_not_looked_for(tmp_path):
    kept = ("P31", "P279", "P225", "P1705")
    out = built(tmp_path, WORLD, properties=kept)
    found = as_plain(read_quality(out))["counts"]
    taxa = {"cycle_parent_taxon", "missing_parent_taxon", "several_parent_taxa"}
    assert set(found) == set(KINDS) - taxa
    with pytest.raises(UserError, match="did not keep"):
        read_quality(out, "several_parent_taxa")


def test_nothing_wrong_is_an_empty_table(tmp_path):
    out = built(tmp_path, classes(Q1=[], Q2=["Q1"]))
    assert rows(out) == []
    read = read_quality(out)
    assert read.rows == []
    assert [count.found for count in read.counts] == [0] * len(KINDS)


def test_what_changes_outside_the_data_set_is_found_by_the_next_build(tmp_path):
    """The data set's own tables stay as they are."""
    out, recipe = tmp_path / "out", load(recipe_of(tmp_path, ONE))
    outside = classes(Q1=[], Q2=["Q1"], Q5=["Q90"])
    store = store_of(tmp_path / "data", outside)
    build(store, recipe, out, quiet=True)
    assert rows(out, "missing_superclass")[0]["detail"].endswith("the Q5 (Q5).")
    renamed = entity("Q5", label="new", claims={"P279": ["Q90"]})
    store = store_of(tmp_path / "data", [*outside[:2], renamed])
    build(store, recipe, out, quiet=True)
    assert rows(out, "missing_superclass")[0]["detail"].endswith("new (Q5).")
    build(redirect(store, {"Q90": "Q1"}), recipe, out, quiet=True)
    assert not rows(out, "missing_superclass")


# --- reading --------------------------------------------------------------------------------------


def test_every_kind_gets_its_turn_and_what_touches_the_data_set_comes_first(tmp_path):
    out = built(tmp_path, WORLD)
    assert [(row["kind"], row["related"]) for row in read_quality(out, limit=5).rows] == [
        ("cycle_mixed", ["Q13", "Q12"]),
        ("cycle_subclass", ["Q14"]),
        ("instance_and_subclass", ["Q12"]),
        ("missing_superclass", ["Q13", "Q14"]),
        ("several_parent_taxa", ["Q1", "Q2"]),
    ]
    of_one = read_quality(out, "cycle_subclass", 2)
    assert [row["related"] for row in of_one.rows] == [["Q14"], ["Q10", "Q11"]]
    assert [count.kind for count in of_one.counts] == ["cycle_subclass"]
    assert read_quality(out, limit=0).rows == []


def test_rows_are_read_from_the_row_groups_that_have_them(tmp_path):
    out = built(tmp_path, WORLD)
    whole = read_quality(out)
    file = out / QUALITY_FILE
    footer = {"found": pq.read_metadata(file).metadata[b"found"]}
    table = pq.read_table(file).replace_schema_metadata(footer)
    rewrite(out, "quality", table, rows_a_group=1)
    assert read_quality(out) == whole


def test_what_people_see_cannot_steer_their_terminal(tmp_path):
    shown = list(lines(read_quality(built(tmp_path, WORLD))))
    assert shown[2].startswith("cycle_subclass         3  classes that are above themselves")
    assert "" in shown
    assert "cycle_subclass" in shown
    assert any("�[2Jevil (Q13)" in line for line in shown)
    assert not any("\x1b" in line for line in shown)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no finished graph"):
        read_quality(tmp_path)
    out = built(tmp_path, WORLD)
    with pytest.raises(UserError, match="there is no kind 'cycles'; kinds are cycle_mixed, cycle_"):
        read_quality(out, "cycles")
    whole = (out / QUALITY_FILE).read_bytes()
    (out / QUALITY_FILE).write_bytes(b"PAR1".ljust(len(whole)))
    with pytest.raises(UserError, match="can't be read"):
        read_quality(out)
    (out / QUALITY_FILE).write_bytes(whole)
    (out / "entities.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"damaged: entities\.parquet is missing or cut off; build"):
        read_quality(out)


def test_a_data_set_of_an_older_version_has_none(tmp_path):
    out = built(tmp_path, WORLD)
    without(out, "quality")
    (out / QUALITY_FILE).unlink()
    with pytest.raises(UserError, match=r"has no quality\.parquet: make the data set again"):
        read_quality(out)


# --- the sample, and real data -------------------------------------------------------------------

REAL = os.environ.get("SPARQLESS_REAL_DUMP", "")


@pytest.fixture(params=["sample", "real"])
def dump(request, tmp_path):
    if request.param == "sample":
        write_dump(tmp_path / "dump.json.gz")
        return str(tmp_path / "dump.json.gz")
    if not Path(REAL).is_file():
        pytest.skip("SPARQLESS_REAL_DUMP names no file")
    return REAL


def test_statements_are_what_the_findings_say(tmp_path, dump):
    """Every finding is held against the records themselves, which no array has been made of."""
    kept = Kept(DEFAULT_LANGUAGES, read_properties(None))
    options = Options(kept, workers=0, quiet=True, allow_damage=True)
    ingest((dump,), tmp_path / "store", options)
    build(tmp_path / "store", load("entitynet"), tmp_path / "out", quiet=True)
    found = rows(tmp_path / "out")
    assert {"instance_and_subclass", "missing_superclass", "several_parent_taxa"} <= {
        row["kind"] for row in found
    }
    with EntityStore(tmp_path / "store") as store:
        for row in found:
            assert_true(row, store)


def assert_true(row, store):
    def values(id, *properties):
        record = store.get(id)
        return {s.snak.value for p in properties for s in record.truthy(p)} if record else set()

    kind, id, related = row["kind"], row["id"], row["related"]
    around = list(zip(related, related[1:] + related[:1], strict=True))
    if kind == "cycle_mixed":
        assert all(b in values(a, "P31", "P279") for a, b in around)
        assert related[1] in values(related[0], "P31")
    elif kind.startswith("cycle"):
        assert all(b in values(a, row["property"]) for a, b in around)
    elif kind == "instance_and_subclass":
        assert values(id, "P31") & values(id, "P279") == set(related)
    elif kind == "instance_of_itself":
        assert id in values(id, "P31")
    elif kind.startswith("missing"):
        assert store.get(id) is None
        assert all(id in values(below, row["property"]) for below in related)
    elif kind == "several_parent_taxa":
        assert values(id, "P171") == set(related)
