"""Explanations: the chain that a build writes, or the rule by which it left the entity out."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from graph.build import build
from graph.explain import explain, explain_built
from graph.explanation import Chain
from graph.recipe import load
from graph.report import described
from tests.console import start
from tests.graph import walks
from tests.graph.small_dump import entity, recipe_of, store_of

RECIPE = """
labels = ["en", "P225"]
min_sitelinks = 5
require = ["P18"]
limit = 2

[[root]]
id = "Q1"
any = [{ path = "P279*" }, { path = "^P1672/P279*", and = [{ path = "P31", of = ["Q8"] }] }]
minus = [{ path = "P31/P279*", of = ["Q5"] }, { has = "P625" }]
"""

IMAGE = {"P18": ["A.jpg"]}
ENTITIES = [
    entity("P279", label="subclass of", datatype="wikibase-item"),
    entity("P1672", label="this taxon is source of", datatype="wikibase-item"),
    entity("P18", label="image"),
    entity("Q1", label="animal", claims=IMAGE),
    entity("Q2", label="mammal", claims={"P279": ["Q1", "Q5"], **IMAGE}),
    entity("Q3", label=None, claims={"P279": ["Q2"], "P1672": ["Q20", "Q21"]}),
    entity("Q4", label="stone"),
    entity("Q5", label="person"),
    entity("Q6", label="hero", claims={"P279": ["Q5"]}),
    entity("Q8", label="fruit"),
    entity("Q10", label="a hero", claims={"P279": ["Q2"], "P31": ["Q6"], **IMAGE}),
    entity("Q11", label="a tree", claims={"P279": ["Q2"], "P625": [{"latitude": 1}], **IMAGE}),
    entity("Q12", label="no image", claims={"P279": ["Q2"]}),
    entity("Q13", label=None, labels={"de": "Ding"}, claims={"P279": ["Q2"], **IMAGE}),
    entity("Q14", label="obscure", links=3, claims={"P279": ["Q2"], **IMAGE}),
    entity("Q20", label="wool", claims={"P31": ["Q8"], **IMAGE}),
    entity("Q21", label="leather", claims=IMAGE),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    store_of(folder, ENTITIES)
    recipe_of(folder, RECIPE)
    return folder


def verdict(folder, id):
    explanation = explain(folder / "store", load(folder / "test.toml"), id)
    assert explanation.id == id
    (only,) = explanation.verdicts
    assert (only.root, only.root_name, only.recipe) == ("Q1", "animal", "test")
    return only


def test_a_member_has_its_chain_with_names(folder):
    found = verdict(folder, "Q2")
    assert (found.member, found.rule, found.via) == (None, "limit", "1: P279*")
    assert found.chain == Chain(("Q2", "Q1"), ("mammal", "animal"), ("P279",), ("subclass of",))
    assert found.reason == (
        "it belongs if it is among the 2 with the most sitelinks (it has 10): the built graph "
        "knows (--graph)"
    )


def test_an_inverse_step_is_found_in_the_edges_and_an_unnamed_item_has_no_name(folder):
    found = verdict(folder, "Q20")
    assert (found.member, found.via) == (None, "2: ^P1672/P279*")
    assert found.chain == Chain(
        ("Q20", "Q3", "Q2", "Q1"),
        ("wool", None, "mammal", "animal"),
        ("^P1672", "P279", "P279"),
        ("this taxon is source of", "subclass of", "subclass of"),
    )


@pytest.mark.parametrize(
    ("id", "rule", "reason"),
    [
        ("Q4", "any", "no chain of statements leads along P279* to Q1 or along ^P1672/P279* to Q1"),
        ("Q21", "and", "the chain is there, but `P31` does not lead to Q8 (fruit)"),
        ("Q10", "minus", "P31/P279* leads to Q5 (person) (minus 1)"),
        ("Q11", "minus", "it has P625 (minus 2)"),
        ("Q12", "require", "it has no P18 (image)"),
        ("Q13", "labels", "it has no label in en, P225"),
        ("Q14", "min_sitelinks", "it has 3 sitelinks, fewer than 5"),
    ],
)
def test_the_rule_that_keeps_an_entity_out(folder, id, rule, reason):
    found = verdict(folder, id)
    assert (found.member, found.rule, found.reason) == (False, rule, reason)


def test_a_minus_shows_its_own_chain(folder):
    found = verdict(folder, "Q10")
    assert found.chain is not None
    assert found.chain.ids == ("Q10", "Q6", "Q5")
    assert found.via == "1: P31/P279*"


@pytest.mark.parametrize(
    ("id", "error"),
    [
        ("Q404", "has no Q404."),
        ("P279", "P279 is a property: recipes keep items only."),
        ("dog", "'dog' is not an item or property id"),
    ],
)
def test_what_is_no_item_of_the_store(folder, id, error):
    with pytest.raises(UserError) as raised:
        explain(folder / "store", load(folder / "test.toml"), id)
    assert error in str(raised.value)


def test_a_built_graph_explains_without_the_store(folder, tmp_path):
    out = tmp_path / "graph"
    build(folder / "store", load(folder / "test.toml"), out, quiet=True)
    found = explain_built(out, "Q2")
    (only,) = found.verdicts
    assert (found.name, only.root, only.member, only.via) == ("mammal", "Q1", True, "1: P279*")
    assert only.chain == Chain(("Q2", "Q1"), ("mammal", "animal"), ("P279",), (None,))
    (over,) = explain_built(out, "Q20").verdicts
    assert (over.root_name, over.member, over.rule) == ("animal", False, "unknown")
    assert over.reason == "left out if it has 10 sitelinks or fewer (the last kept, Q2, has 10)"
    assert list(described(explain_built(out, "Q20"))) == [
        "Q20",
        "",
        "not in Q1 animal (test) if it has 10 sitelinks or fewer (the last kept, Q2, has 10)",
        "Q20 is not in this data set; ask with --store too for the rule that kept it out",
    ]
    with pytest.raises(UserError, match="is not an item id"):
        explain_built(out, "dog")
    with pytest.raises(UserError, match="holds no finished graph"):
        explain_built(tmp_path, "Q2")


def test_a_built_graph_and_its_store_say_whom_the_limit_took(folder, tmp_path):
    out = tmp_path / "graph"
    build(folder / "store", load(folder / "test.toml"), out, quiet=True)
    for id, member, rule, reason in (
        ("Q1", True, "", ""),
        ("Q2", True, "", ""),
        (
            "Q20",
            False,
            "limit",
            "it has 10 sitelinks, and the last of the 2 kept, Q2, has 10 and a lower id",
        ),
        ("Q14", False, "min_sitelinks", "it has 3 sitelinks, fewer than 5"),
    ):
        (found,) = explain_built(out, id, folder / "store").verdicts
        assert (found.member, found.rule, found.reason) == (member, rule, reason)
    other = store_of(tmp_path / "other", ENTITIES[:5])
    with pytest.raises(UserError, match="was not built from"):
        explain_built(out, "Q1", other)


def test_a_limit_that_took_nobody_leaves_candidates_members(folder, tmp_path):
    recipe_of(tmp_path / "in", RECIPE.replace("limit = 2", "limit = 3"), "wide")
    recipe = load(recipe_of(tmp_path / "in", 'include = ["wide.toml"]', "outer"))
    build(folder / "store", recipe, tmp_path / "graph", quiet=True)
    (tmp_path / "in" / "wide.toml").unlink()  # the manifest has its text
    (found,) = explain_built(tmp_path / "graph", "Q20", folder / "store").verdicts
    assert (found.member, found.recipe) == (True, "wide")
    assert explain_built(tmp_path / "graph", "Q14").verdicts == ()


def test_what_people_read_of_a_candidate_and_of_a_chain_that_and_bars(folder):
    recipe = load(folder / "test.toml")
    assert list(described(explain(folder / "store", recipe, "Q2")))[2:4] == [
        "candidate for Q1 animal (test) by 1: P279*; it belongs if it is among the 2 with the most "
        "sitelinks (it has 10): the built graph knows (--graph)",
        "  Q2 mammal",
    ]
    assert list(described(explain(folder / "store", recipe, "Q21")))[2:4] == [
        "not in Q1 animal (test): the chain is there, but `P31` does not lead to Q8 (fruit)",
        "  Q21 leather",
    ]


def test_the_condition_of_an_and_that_fails_is_named_however_deep_it_stands(folder, tmp_path):
    inner = '{ path = "P31", of = ["Q8", "Q5"], and = [{ has = "P18" }, { has = "P625" }] }'
    text = f'[[root]]\nid = "Q3"\nany = [{{ path = "^P1672", and = [{inner}] }}]'
    recipe = load(recipe_of(tmp_path, text))
    for id, reason in (("Q20", "it has no P625"), ("Q21", "`P31` leads to none of Q8 (fruit), Q5")):
        (found,) = explain(folder / "store", recipe, id).verdicts
        assert found.rule == "and"
        assert f"the chain is there, but {reason}" in found.reason
        assert found.via == "1: ^P1672"


@st.composite
def stores(draw):
    """Draw edges, property by property, and which of the items have an image and a label."""
    edges = draw(walks.EDGES)
    images = draw(st.sets(walks.NODES))
    named = draw(st.sets(walks.NODES, min_size=4))
    entities = []
    for number in range(1, 7):
        claims: dict[str, list[str]] = {"P18": ["A.jpg"]} if number in images else {}
        for s, p, o in sorted(edges):
            if s == number:
                claims.setdefault(p, []).append(f"Q{o}")
        label = f"{number}" if number in named else None
        entities.append(entity(f"Q{number}", label=label, claims=claims, links=number))
    return entities


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stores(), walks.TREES, walks.TREES, walks.TREES)
def test_explanations_and_the_build_agree(tmp_path_factory, entities, first, second, minus):
    folder = tmp_path_factory.mktemp("agree")
    text = (
        'labels = ["en"]\nmin_sitelinks = 2\n[[root]]\nid = "Q1"\n'
        f'any = [{{ path = "{walks.text_of(first)}" }}, '
        f'{{ path = "{walks.text_of(second)}", of = ["Q2", "Q3"], and = [{{ has = "P18" }}] }}]\n'
        f'minus = [{{ path = "{walks.text_of(minus)}", of = ["Q6"] }}]\n'
    )
    recipe = load(recipe_of(folder, text))
    store = store_of(folder, entities)
    out = folder / "graph"
    # A minus that empties the root is refused, which is what no row says too.
    try:
        build(store, recipe, out, quiet=True)
    except UserError as error:
        assert "takes away everything" in str(error)  # noqa: PT017
    file = out / "memberships.parquet"
    built = {row["entity"]: row for row in pq.read_table(file).to_pylist()} if out.exists() else {}
    for number in range(1, 7):
        (found,) = explain(store, recipe, f"Q{number}").verdicts
        row = built.get(f"Q{number}")
        assert found.member == (row is not None)
        if row is not None:
            assert found.chain is not None
            assert (list(found.chain.ids), found.via) == (row["path"][::2], row["via"])
            assert list(found.chain.properties) == row["path"][1::2]


@pytest.mark.parametrize("how", ["--store store --recipe test.toml", "--store store --graph graph"])
def test_an_explanation_waits_for_no_array_library(folder, how):
    """Each of these takes longer to import than everything else that the command does."""
    if not (folder / "graph").exists():
        build(folder / "store", load(folder / "test.toml"), folder / "graph", quiet=True)
    heavy = ("numpy", "pyarrow", "networkx", "tqdm", "requests", "multiprocessing")
    code = (
        f"import sys, cli; cli.cli({['explain', 'Q20', *how.split()]}, standalone_mode=False); "
        f"print('imported:', [name for name in {heavy} if name in sys.modules])"
    )
    done = start([sys.executable, "-c", code], folder)
    assert done.returncode == 0, done.stderr
    assert "^P1672 this taxon is source of" in done.stdout  # the inverse step, without its edges
    assert done.stdout.endswith("imported: []\n")
