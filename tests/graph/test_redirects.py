"""Ids that were merged: paths over a store with redirects are those over statements rewritten."""

from __future__ import annotations

import copy
import json
import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from etl.manifest import read_manifest
from etl.show import as_plain, described
from etl.store import EntityStore
from graph.build import build
from graph.closure import closure
from graph.directory import OUTPUTS
from graph.explain import explain, explain_built
from graph.recipe import load
from graph.report import described as described_verdicts
from tests.console import run
from tests.graph import worlds
from tests.graph.oracle import PathTree, QueryService, as_text, may_be_empty
from tests.graph.small_dump import entity, recipe_of, redirect, store_of
from tests.graph.worlds import ABSENT, MADE_UP, Merged, World


def end_of(id: str, merged: Merged, world: World) -> str:
    """Where an id leads, by plain steps: a record ends the way, and so does going round."""
    there = {line["id"] for line in world}
    met = [id]
    while met[-1] not in there and met[-1] in merged:
        met.append(merged[met[-1]])
        if met[-1] in met[:-1]:
            return id
    return met[-1]


def rewritten(world: World, merged: Merged) -> World:
    """The world whose statements name what merged ids were merged into."""
    new = World(copy.deepcopy(list(world)))
    for line in new:
        for statements in dict(line["claims"]).values():
            for one in statements:
                value = one["mainsnak"].get("datavalue", {}).get("value")
                if isinstance(value, dict) and "id" in value:
                    value["id"] = end_of(value["id"], merged, world)
                    value["numeric-id"] = int(value["id"][1:])
    return new


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds.merged_worlds(), st.lists(worlds.path_trees(), min_size=4, max_size=4))
def test_every_path_gives_what_sparql_gives_of_rewritten_statements(
    drawn: tuple[World, Merged], trees: list[PathTree]
) -> None:
    world, merged = drawn
    if not world:
        return
    service = QueryService(rewritten(world, merged), somevalues=False)
    with tempfile.TemporaryDirectory() as directory:
        store = redirect(worlds.store(world, Path(directory)), merged)
        for tree, asked in product(trees, [*MADE_UP[:7], worlds.ANIMAL, "P31", *ABSENT]):
            target = end_of(asked, merged, world)
            if service.mentions(target):
                expected = service.closure(as_text(tree, prefix="wdt:"), target)
            else:
                expected = {target} if may_be_empty(tree) else set()
            found = closure(store, asked, as_text(tree))
            assert set(found) == expected, (as_text(tree), asked)
            assert len(found) == len(expected)
            assert found.target == target


def refusal(store: Path, recipe: Path, out: Path) -> str:
    """Build a graph; say why it was refused."""
    try:
        build(store, load(recipe), out, quiet=True)
    except UserError as error:
        return str(error)
    return ""


ROOTS = """
min_sitelinks = 0
[[root]]
id = "{root}"
any = [
  {{ path = "(P31/P279*)|P279*" }},
  {{ path = "(P1582|^P1672)/P279*", and = [{{ path = "P31|P279", of = ["{fruit}", "{other}"] }}] }},
]
minus = [{{ path = "P171+", of = ["{minus}"] }}]
"""


@settings(max_examples=40, deadline=None, derandomize=True)
@given(worlds.merged_worlds(), st.permutations(MADE_UP[:5]))
def test_a_graph_is_that_of_rewritten_statements(
    drawn: tuple[World, Merged], named: list[str]
) -> None:
    """And what `explain` says of every item is what it says there."""
    world, merged = drawn
    merged = {a: b for a, b in merged.items() if a.startswith("Q")}
    keys = ("root", "fruit", "other", "minus")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        now = [end_of(id, merged, world) for id in named]
        old = recipe_of(folder, ROOTS.format(**dict(zip(keys, named, strict=False))), "r")
        new = recipe_of(folder / "new", ROOTS.format(**dict(zip(keys, now, strict=False))), "r")
        if now[0] not in {line["id"] for line in world}:
            return
        plain = worlds.store(rewritten(world, merged), folder / "new")
        store = redirect(worlds.store(world, folder), merged)
        refused = [
            refusal(plain, new, folder / "new" / "out"),
            refusal(store, old, folder / "out"),
        ]
        assert refused[0] == refused[1]
        if refused[0]:
            return
        for name in OUTPUTS:
            written = (folder / "out" / name).read_bytes()
            assert written == (folder / "new" / "out" / name).read_bytes(), name
        for line in world:
            if line["id"].startswith("Q"):
                found = explain(store, load(old), line["id"])
                expected = explain(plain, load(new), line["id"])
                assert found.verdicts == expected.verdicts, line["id"]


# --- what is said ---------------------------------------------------------------------------------

KENNEL = [
    entity("P279", label="subclass of", datatype="wikibase-item"),
    entity("P18", label="image"),
    entity("Q1", label="animal"),
    entity("Q2", label="mammal", claims={"P279": ["Q901"]}),
    entity("Q10", label="dog", claims={"P279": ["Q902", "Q903"]}),
    entity("Q11", label="cat", claims={"P279": ["Q2"]}),
]
# Q901 -> Q1; Q902 -> Q912 -> Q2; Q11 has a record; Q904 leads to nothing that is there
MERGED = {"Q901": "Q1", "Q902": "Q912", "Q912": "Q2", "Q11": "Q2", "Q904": "Q999", "P99": "P279"}
RECIPE = '[[root]]\nid = "Q901"\nany = [{ path = "P279*" }]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kennel")
    redirect(store_of(folder, KENNEL), MERGED)
    recipe_of(folder, RECIPE)
    build(folder / "store", load(folder / "test.toml"), folder / "out", quiet=True)
    return folder


def test_an_id_resolves_to_where_its_redirects_end(folder: Path) -> None:
    with EntityStore(folder / "store") as store:
        asked = ("Q901", "Q902", "Q912", "Q11", "Q903", "Q904", "Q1", "P99", "P279")
        assert [store.resolve(id) for id in asked] == [
            "Q1", "Q2", "Q2", "Q11", "Q903", "Q999", "Q1", "P279", "P279",
        ]  # fmt: skip
        assert store.get("Q901") is None  # records are what the dump says
        with pytest.raises(UserError, match="'dog' is not an item or property id"):
            store.resolve("dog")


def test_a_store_without_the_table_resolves_nothing(tmp_path: Path) -> None:
    with EntityStore(store_of(tmp_path, KENNEL)) as store:
        assert store.resolve("Q901") == "Q901"
    assert list(closure(tmp_path / "store", "Q1", "P279*")) == ["Q1"]


def test_a_record_names_what_its_values_have_become(folder: Path) -> None:
    with EntityStore(folder / "store") as store:
        dog = store.get("Q10")
        assert dog is not None
        shown = list(described(dog, store, "Q10"))
        assert shown[0] == "Q10  dog"
        assert "    Q902 mammal" in shown
        assert "    Q903" in shown  # of which nothing is known
        assert "redirected_from" not in as_plain(dog, "Q10")
        merged = store.get(store.resolve("Q901"))
        assert merged is not None
        assert list(described(merged, store, "Q901"))[:2] == [
            "Q901 was merged into Q1.",
            "Q1  animal",
        ]
        assert as_plain(merged, "Q901")["redirected_from"] == "Q901"


def test_a_graph_says_what_its_recipe_means_by_now(folder: Path) -> None:
    manifest = read_manifest(folder / "out", "graph")
    assert manifest["recipe"]["merged"] == {"Q901": "Q1"}
    assert "redirects.parquet" in manifest["store"]["outputs"]
    (root,) = manifest["counts"]["roots"]
    assert (root["root"], root["name"], root["kept"]) == ("Q1", "animal", 4)
    assert manifest["warnings"] == [
        "Q901 was merged into Q1: where the recipe names it, Q1 is meant."
    ]


def test_what_a_recipe_means_by_now_is_no_error(folder: Path) -> None:
    build(folder / "store", load(folder / "test.toml"), folder / "strict", strict=True, quiet=True)


def test_roots_that_have_become_one_are_refused(folder: Path) -> None:
    both = RECIPE + RECIPE.replace("Q901", "Q1")
    recipe = load(recipe_of(folder / "both", both))
    with pytest.raises(UserError, match="roots Q901 and Q1 were merged into one, Q1"):
        build(folder / "store", recipe, folder / "never", quiet=True)
    assert not (folder / "never").exists()


def test_explain_follows_the_id_that_it_is_asked_and_those_of_the_recipe(folder: Path) -> None:
    for found in (
        explain(folder / "store", load(folder / "test.toml"), "Q902"),
        explain_built(folder / "out", "Q902", folder / "store"),
    ):
        assert (found.id, found.name) == ("Q2", "mammal")
        assert found.merged == {"Q902": "Q2", "Q901": "Q1"}
        (verdict,) = found.verdicts
        assert (verdict.root, verdict.member) == ("Q1", True)
        assert verdict.chain is not None
        assert verdict.chain.ids == ("Q2", "Q1")
        assert list(described_verdicts(found))[:3] == [
            "Q902 was merged into Q2.",
            "Q901 was merged into Q1.",
            "Q2 mammal",
        ]


def test_a_graph_of_other_redirects_is_of_another_store(folder: Path, tmp_path: Path) -> None:
    store = redirect(store_of(tmp_path, KENNEL), {**MERGED, "Q903": "Q1"})
    with pytest.raises(UserError, match="was not built from"):
        explain_built(folder / "out", "Q2", store)
    with pytest.raises(UserError, match="was not built from"):
        explain_built(folder / "out", "Q2", store_of(tmp_path, KENNEL))


# --- the commands ---------------------------------------------------------------------------------


def test_entity_shows_what_an_id_was_merged_into(folder: Path) -> None:
    done = run("entity Q901 --store store", folder)
    assert done.stdout.startswith("Q901 was merged into Q1.\nQ1  animal\n"), done.stderr
    shown = json.loads(run("entity Q901 --store store --json", folder).stdout)
    assert (shown["id"], shown["redirected_from"]) == ("Q1", "Q901")
    assert "redirected_from" not in json.loads(run("entity Q1 --store store --json", folder).stdout)
    done = run("entity Q904 --store store", folder)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Q904 was merged into Q999, and Q999 is not in store: ")
    done = run("entity Q903 --store store", folder)
    assert done.stderr.startswith("Error: Q903 is not in store: ")


def test_closure_and_explain_say_what_an_id_was_merged_into(folder: Path) -> None:
    done = run("closure Q902 --path P279 --store store", folder)
    assert (done.stdout, done.stderr) == ("Q10\nQ11\n", "Q902 was merged into Q2.\n")
    done = run("closure Q904 --path P279 --store store", folder)
    assert done.stderr == ("Q904 was merged into Q999.\nWarning: Q999 itself is not in store.\n")
    done = run("explain Q902 --store store --recipe test.toml", folder)
    assert done.stdout.startswith("Q902 was merged into Q2.\nQ901 was merged into Q1.\nQ2 mammal\n")
    done = run("explain Q902 --store store --recipe test.toml --json", folder)
    assert json.loads(done.stdout)["merged"] == {"Q902": "Q2", "Q901": "Q1"}
    done = run("graph --store store --recipe test.toml --out again", folder)
    assert "Warning: Q901 was merged into Q1" in done.stderr
