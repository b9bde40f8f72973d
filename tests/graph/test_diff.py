"""Two builds compared: what came, went and changed, and the statement that decided."""

from __future__ import annotations

from random import Random

import pyarrow.parquet as pq
import pytest

import graph.diff
from etl.errors import UserError
from graph.build import build
from graph.diff import changes, described, diff, plain, summary
from graph.recipe import load
from tests.graph.data_sets import with_columns
from tests.graph.small_dump import entity, recipe_of, store_of

ONE = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'

OLD = [
    entity("P279", datatype="wikibase-item"),
    entity("Q1", label="animal"),
    entity("Q2", label="mammal", claims={"P279": ["Q1"]}),
    entity("Q3", label="pet", claims={"P279": ["Q1"]}),
    entity("Q10", label="dog", claims={"P279": ["Q2"]}),
    entity("Q11", label="poodle", claims={"P279": ["Q10"]}),
    entity("Q12", label="cat", claims={"P279": ["Q3"]}),
]


def built(tmp_path, name, entities, recipe=ONE):
    """Make a store and a data set of it; return both."""
    store = store_of(tmp_path / name, entities)
    out = tmp_path / name / "graph"
    build(store, load(recipe_of(tmp_path / name, recipe)), out, quiet=True)
    return out, store


def changed(entities, *new):
    """Put entities in place of those of their ids, or at the end."""
    by_id = {e["id"]: e for e in entities} | {e["id"]: e for e in new}
    return list(by_id.values())


def short(found):
    return [(c.what, c.change, c.id, c.root, c.rule, c.edge) for c in found]


def test_two_builds_of_one_store_do_not_differ(tmp_path):
    a, _ = built(tmp_path, "a", OLD)
    b, _ = built(tmp_path, "b", OLD)
    found = diff(a, b)
    assert (found.counts, found.by_root, found.changes) == ({}, {}, ())
    assert list(changes(a, b)) == []
    assert "no row differs" in list(described(found))


def test_a_statement_that_went_is_named_for_all_below_it(tmp_path):
    a, _ = built(tmp_path, "a", OLD)
    # dog is a mammal no more, and is kept for being a pet
    b, _ = built(tmp_path, "b", changed(OLD, entity("Q10", label="dog", claims={"P279": ["Q3"]})))
    found = diff(a, b)
    types = ("natural_type", "natural_type_name", "natural_type_reason")
    assert [c for c in short(found.changes) if c[0] not in types] == [
        ("parents", "changed", "Q10", None, None, None),
        ("edge", "went", "Q10", None, None, ("Q10", "P279", "Q2")),
        ("edge", "came", "Q10", None, None, ("Q10", "P279", "Q3")),
        ("membership", "changed", "Q10", "Q1", "edge", ("Q10", "P279", "Q2")),
        ("membership", "changed", "Q11", "Q1", "edge", ("Q10", "P279", "Q2")),
    ]


def test_what_left_altogether_is_a_guess_without_the_store_and_sure_with_it(tmp_path):
    a, store_a = built(tmp_path, "a", OLD)
    lost = entity("Q10", label="dog")  # no superclass any more
    few = entity("Q12", label="cat", links=0, claims={"P279": ["Q3"]})
    recipe = "min_sitelinks = 1\n" + ONE
    b, store_b = built(tmp_path, "b", changed(OLD, lost, few), recipe)
    edge = ("Q10", "P279", "Q2")
    went = [c for c in diff(a, b).changes if c.what == "membership"]
    assert [(c.id, c.change, c.rule, c.edge) for c in went] == [
        ("Q10", "went", "edge?", edge),
        ("Q11", "went", "edge?", edge),
        ("Q12", "went", "edge?", ("Q12", "P279", "Q3")),
    ]
    went = [c for c in diff(a, b, stores=(None, store_b)).changes if c.what == "membership"]
    assert [(c.id, c.rule, c.edge) for c in went] == [
        ("Q10", "edge", edge),
        ("Q11", "edge", edge),
        ("Q12", "min_sitelinks", None),
    ]
    came = [c for c in diff(b, a, stores=(store_b, None)).changes if c.what == "membership"]
    assert [(c.change, c.rule, c.edge) for c in came] == [
        ("came", "edge", edge),
        ("came", "edge", edge),
        ("came", "min_sitelinks", None),
    ]
    with pytest.raises(UserError, match="was not built from"):
        diff(a, b, stores=(None, store_a))


@pytest.mark.parametrize(
    ("new", "recipe", "rule"),
    [
        (entity("Q12", label=None, claims={"P279": ["Q3"]}), ONE, "labels"),
        (entity("Q12", claims={"P279": ["Q3"]}), 'require = ["P18"]\n' + ONE, "require"),
        (entity("Q12", claims={"P279": ["Q3"]}), "limit = 2\n" + ONE, "minus or limit"),
        (
            entity("Q12", claims={"P279": ["Q3"]}),
            ONE.replace("P279*", "P279?"),
            "any",
        ),
    ],
)
def test_a_store_tells_the_rule_that_took_an_entity(tmp_path, new, recipe, rule):
    a, _ = built(tmp_path, "a", OLD)
    others = [entity(e["id"], claims={"P279": ["Q1"], "P18": ["A.jpg"]}) for e in OLD[1:4]]
    b, store = built(tmp_path, "b", changed(OLD, *others, new), recipe)
    (cat,) = [
        c for c in changes(a, b, stores=(None, store)) if (c.what, c.id) == ("membership", "Q12")
    ]
    assert (cat.change, cat.rule, cat.edge) == ("went", rule, None)


def test_a_root_that_the_other_recipe_lacks_is_the_reason(tmp_path):
    two = ONE + '[[root]]\nid = "Q3"\nany = [{ path = "P279*" }]\n'
    a, _ = built(tmp_path, "a", OLD)
    b, _ = built(tmp_path, "b", OLD, two)
    found = diff(a, b)
    assert found.by_root == {("Q3", "came"): 2}
    assert {c.rule for c in found.changes if c.what == "membership"} == {"root"}
    assert [row[0] for row in found.manifests] == ["recipe test"]


def of_one_store(tmp_path, *recipes, entities=OLD):
    """Build several recipes over one store; return the data sets and the store."""
    store = store_of(tmp_path / "one", entities)
    folders = []
    for number, recipe in enumerate(recipes):
        folders.append(tmp_path / f"graph{number}")
        build(store, load(recipe_of(tmp_path / "one", recipe)), folders[-1], quiet=True)
    return *folders, store


SOME = [
    *OLD[:4],
    entity("Q10", label="dog", links=30, claims={"P279": ["Q2"]}),
    entity("Q11", label="poodle", links=20, claims={"P279": ["Q10"], "P18": ["A.jpg"]}),
    entity("Q12", label="cat", links=20, claims={"P279": ["Q3"]}),
    entity("Q13", label="hedgehog", links=20, claims={"P279": ["Q2"]}),
]
MINUS = ONE + 'minus = [{ path = "P279*", of = ["Q3"] }]\n'


@pytest.mark.parametrize(
    ("recipe", "went"),  # ids, rule, what shows it
    [
        (
            "limit = 2\n" + ONE,  # of equals, the lower id is kept
            [("Q1 Q2 Q3 Q12 Q13", "limit", "the last kept of root Q1 in B, Q11, has 20 sitelinks")],
        ),
        (
            "min_sitelinks = 11\n" + ONE,
            [("Q1 Q2 Q3", "min_sitelinks", "it has 10, and 11 are asked for")],
        ),
        (MINUS, [("Q3 Q12", "minus", None)]),
        ('require = ["P18"]\n' + ONE, [("Q1 Q2 Q3 Q10 Q12 Q13", "require", None)]),
        (ONE.replace("P279*", "P279?"), [("Q10 Q11 Q12 Q13", "any", None)]),
        (
            "limit = 3\n" + MINUS,  # two settings, and which of them can be told
            [
                ("Q1 Q2 Q3", "limit", "the last kept of root Q1 in B, Q13, has 20 sitelinks"),
                ("Q12", "minus", None),
            ],
        ),
        ('require = ["P18"]\n' + MINUS, [("Q1 Q2 Q3 Q10 Q12 Q13", "recipe", None)]),  # or can't
    ],
)
def test_of_one_store_no_statement_is_blamed(tmp_path, recipe, went):
    a, b, _ = of_one_store(tmp_path, ONE, recipe, entities=SOME)
    found = diff(a, b)
    assert found.same_store
    lost = [c for c in found.changes if c.what == "membership"]
    expected = {id: (rule, detail) for ids, rule, detail in went for id in ids.split()}
    assert {c.id: (c.rule, c.detail) for c in lost} == expected
    assert all((c.change, c.edge) == ("went", None) for c in lost)
    back = [c for c in diff(b, a).changes if c.what == "membership"]
    assert {c.id: c.rule for c in back} == {id: rule for id, (rule, _) in expected.items()}
    text = "\n".join(described(found))
    assert "store: one for both, so no statement differs" in text
    assert "is not there" not in text
    if found.counts.get(("edge", "went")):
        assert "edge went, as a statement of what is kept in one of the two only (" in text


def test_of_one_store_that_is_named_a_rule_that_settings_cannot_tell_is_asked_for(tmp_path):
    recipe = 'require = ["P18"]\n' + MINUS
    a, b, store = of_one_store(tmp_path, ONE, recipe, entities=SOME)
    lost = [c for c in diff(a, b, stores=(None, store)).changes if c.what == "membership"]
    assert {c.rule for c in lost} == {"require"}


def test_another_chain_in_one_store_is_the_recipes(tmp_path):
    longer = ONE.replace('path = "P279*"', 'path = "P279/P279"')
    both = [*OLD, entity("Q13", claims={"P279": ["Q1", "Q2"]})]
    a, b, _ = of_one_store(tmp_path, ONE, longer, entities=both)
    (change,) = [c for c in changes(a, b) if (c.what, c.change, c.id) == (
        "membership", "changed", "Q13",
    )]  # fmt: skip
    assert (change.rule, change.edge) == ("recipe", None)


def test_json_is_made_in_one_pass_and_ends_with_the_counts(tmp_path):
    a, b, _ = of_one_store(tmp_path, ONE, "limit = 2\n" + ONE, entities=SOME)
    *listed, last = plain(a, b)
    assert len(listed) == sum(n for by in last["counts"].values() for n in by.values())
    assert last == summary(diff(a, b))
    assert last["same_store"] is True
    assert listed[-1]["detail"].startswith("the last kept of root Q1 in B")


def test_names_and_types_are_listed_and_other_columns_counted(tmp_path):
    a, _ = built(tmp_path, "a", OLD)
    hound = entity("Q10", label="hound", aliases={"en": ["dog"]}, claims={"P279": ["Q2"]})
    b, _ = built(tmp_path, "b", changed(OLD, hound))
    nothing = {"natural_type_name": {}, "natural_type_reason": {}}
    with_columns(a, natural_type={"Q10": "Q2"}, visual={"Q11": True}, **nothing)
    with_columns(b, natural_type={"Q10": "Q1"}, visual={"Q11": True}, **nothing)
    found = diff(a, b)
    assert found.counts == {
        ("name", "changed"): 1,
        ("aliases", "changed"): 1,
        ("natural_type", "changed"): 1,
    }
    listed = {c.what: (c.before, c.after) for c in found.changes}
    assert listed["name"] == ("dog", "hound")
    assert listed["natural_type"] == ("Q2", "Q1")
    assert listed["aliases"] == (None, None)
    text = "\n".join(described(found))
    assert "Q10 dog: dog -> hound" in text
    assert "  aliases: 1 changed (counted, not listed)" in text
    assert "  natural_type: 1 changed\n" in text


def test_the_limit_bounds_what_is_listed_and_not_the_counts(tmp_path):
    a, _ = built(tmp_path, "a", OLD)
    more = [entity(f"Q{n}", claims={"P279": ["Q1"]}) for n in range(100, 130)]
    b, _ = built(tmp_path, "b", [*OLD, *more])
    found = diff(a, b, limit=3)
    assert summary(found)["counts"]["entity"] == {"came": 30}
    assert summary(found)["memberships"] == {"Q1": {"came": 30}}
    assert len([c for c in found.changes if c.what == "entity"]) == 3
    assert len([c for c in changes(a, b) if c.what == "entity"]) == 30


def test_a_data_set_that_lost_a_file_is_refused(tmp_path):
    a, _ = built(tmp_path, "a", OLD)
    (a / "hierarchy.parquet").unlink()
    with pytest.raises(UserError, match=r"hierarchy\.parquet is missing"):
        diff(a, a)


# --------------------------------------------------------------------------------------------------
# Against sets
# --------------------------------------------------------------------------------------------------


def rows_of(folder, table, keys):
    return {tuple(row[k] for k in keys): row for row in pq.read_table(folder / table).to_pylist()}


@pytest.mark.parametrize("seed", range(5))
def test_random_builds_agree_with_plain_sets(tmp_path, monkeypatch, seed):
    rng = Random(seed)
    ids = [f"Q{n}" for n in (1, 2, 3, 9, 10, 11, 50, 99, 100, 101, 200, 1000, 1001, 5000)]
    recipe = "".join(ONE.replace("Q1", q) for q in ("Q10", "Q2"))
    folders, stores = [], []
    for name in "ab":
        world = [
            entity(
                id, links=rng.choice([1, 2]), claims={"P279": rng.sample(ids, rng.choice([1, 2]))}
            )
            for id in ids
            if rng.random() < 0.9 or id in ("Q10", "Q2")
        ]
        folder, store = built(tmp_path, name, world, recipe)
        folders.append(folder)
        stores.append(store)
    found = list(changes(*folders))
    for batch in (1, 3):  # rows at a time make no difference
        monkeypatch.setattr(graph.diff, "_BATCH", batch)
        assert sorted(map(repr, changes(*folders))) == sorted(map(repr, found))
    for what, table, keys in (
        ("entity", "entities.parquet", ("id",)),
        ("edge", "hierarchy.parquet", ("child", "property", "parent")),
        ("membership", "memberships.parquet", ("entity", "root")),
    ):
        a, b = (rows_of(folder, table, keys) for folder in folders)
        got = {"came": set(), "went": set(), "changed": set()}
        for c in found:
            key = {"entity": (c.id,), "edge": c.edge, "membership": (c.id, c.root)}[what] if (
                c.what == what
            ) else None  # fmt: skip
            if key:
                got[c.change].add(key)
        assert got["went"] == a.keys() - b.keys()
        assert got["came"] == b.keys() - a.keys()
        if what == "membership":
            assert got["changed"] == {
                k for k in a.keys() & b.keys() if a[k]["path"] != b[k]["path"]
            }
    a, b = (rows_of(folder, "entities.parquet", ("id",)) for folder in folders)
    links = {c.id for c in found if c.what == "sitelinks"}
    assert links == {k for (k,) in a.keys() & b.keys() if a[k,]["sitelinks"] != b[k,]["sitelinks"]}
    other = rows_of(folders[1], "hierarchy.parquet", ("child", "property", "parent"))
    for c in found:  # what is blamed is on the chain, and gone
        if c.what == "membership" and c.change == "went" and c.edge:
            path = c.before
            assert c.edge in {tuple(path[n : n + 3]) for n in range(0, len(path) - 2, 2)}
            assert c.edge not in other
    for c in changes(*folders, stores=tuple(stores)):
        if c.what == "membership" and c.change != "changed":
            assert c.rule in ("edge", "absent"), c  # nothing else can differ here


def test_ids_that_differ_by_32_bits_are_two(tmp_path):
    big = f"Q{2 + 2**32}"
    mammal = entity(big, label="mammal of another number", claims={"P279": ["Q1"]})
    dog = entity("Q10", label="dog", claims={"P279": [big]})
    a, _ = built(tmp_path, "a", changed(OLD, mammal, dog))
    b, _ = built(tmp_path, "b", changed(OLD, mammal))
    broken = [c.edge for c in diff(a, b).changes if c.what == "membership" and c.id == "Q10"]
    assert broken == [("Q10", "P279", big)]
