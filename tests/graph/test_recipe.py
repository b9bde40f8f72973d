"""Recipes: what the language holds, and errors that say what, where and what to do."""

from __future__ import annotations

import pytest

from etl.errors import UserError
from etl.kept import DEFAULT_LANGUAGES, read_properties
from graph.paths import parse
from graph.recipe import DEFAULT_LABELS, Has, Match, check_store, load, shipped
from tests.graph.small_dump import recipe_of

WHOLE = """
name = "whole"
description = "Every key there is"
labels = ["de", "mul", "P225"]
min_sitelinks = 3
require = ["P18", "P373"]
limit = 100

[[root]]
id = "Q1"
any = [
  { path = "P279*" },
  { path = "P31|P279", of = ["Q2", "Q3"], and = [
    { path = "P361", of = ["Q4"], and = [{ has = "P18" }] },
  ] },
]
minus = [{ path = "^P1672", of = ["Q5"] }, { has = "P625" }]

[[root]]
id = "Q6"
any = [{ path = "P171+" }]
min_sitelinks = 0
require = []
limit = 7
"""


def test_every_key_is_read(tmp_path):
    recipe = load(recipe_of(tmp_path, WHOLE))
    first, second = recipe.roots
    assert (recipe.name, recipe.description) == ("whole", "Every key there is")
    assert recipe.text == WHOLE
    assert first.any[0] == Match("P279*", parse("P279*"), ("Q1",))
    assert first.any[1].of == ("Q2", "Q3")
    inner = Match("P361", parse("P361"), ("Q4",), (Has("P18"),))
    assert first.any[1].conditions == (inner,)
    assert first.minus == (Match("^P1672", parse("^P1672"), ("Q5",)), Has("P625"))
    assert (first.labels, first.min_sitelinks) == (("de", "mul", "P225"), 3)
    assert (first.require, first.limit) == (("P18", "P373"), 100)
    assert (second.min_sitelinks, second.require, second.limit) == (0, (), 7)
    assert recipe.walked() == ["P31", "P171", "P279", "P361", "P1672"]
    assert recipe.properties() == [
        "P18", "P31", "P171", "P225", "P279", "P361", "P373", "P625", "P1672",
    ]  # fmt: skip
    assert recipe.languages() == ["de", "mul"]


def test_what_is_left_out_has_a_default(tmp_path):
    recipe = load(recipe_of(tmp_path, '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]', "birds"))
    (root,) = recipe.roots
    assert recipe.name == "birds"
    assert root.labels == DEFAULT_LABELS
    assert (root.minus, root.min_sitelinks, root.require, root.limit) == ((), 0, (), None)


ROOT = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "a recipe needs a [[root]] or an `include`."),
        ("limits = 3\n" + ROOT,
         "unknown key 'limits' (did you mean 'limit'?): use name, description, labels, "
         "min_sitelinks, require, limit, include, rules, attributes, queries, images, root."),
        ("zzz = 3\n" + ROOT,
         "unknown key 'zzz': use name, description, labels, min_sitelinks, require, limit, "
         "include, rules, attributes, queries, images, root."),
        (ROOT + '[[root]]\nid = "Q756"\nany = [{ path = "P279*" }]\nminuss = []',
         "[[root]] 2 (Q756): unknown key 'minuss' (did you mean 'minus'?): use id, any, minus, "
         "min_sitelinks, require, limit."),
        ('[[root]]\nid = "Q1"\nany = [{ paths = "P279*" }]',
         "[[root]] 1 (Q1), any 1: unknown key 'paths' (did you mean 'path'?): use path, of, and, "
         "has."),
        (ROOT + 'minus = [{ has = "P625" }, { path = "P3", of = ["Q5"], and = [{ hass = "P1" }] }]',
         "[[root]] 1 (Q1), minus 2, and 1: unknown key 'hass' (did you mean 'has'?): use path, of, "
         "and, has."),
        ('name = "a/b"\n' + ROOT, "`name` is 'a/b': use letters, digits, '.', '_' and '-'."),
        ("name = 3\n" + ROOT, "`name` is 3: it must be text in quotes."),
        ("labels = []\n" + ROOT,
         "`labels` is empty: give one language code or more, as ['en']."),
        ('labels = "en"\n' + ROOT, "`labels` is 'en': it must be a list, in [ ]."),
        ('labels = ["EN"]\n' + ROOT,
         "`labels` has 'EN': it must be a language code such as 'en' or a property id such as "
         "'P18'."),
        ("min_sitelinks = -1\n" + ROOT,
         "`min_sitelinks` is -1: it must be a whole number from 0 to 2147483647."),
        ("min_sitelinks = true\n" + ROOT,
         "`min_sitelinks` is true: it must be a whole number from 0 to 2147483647."),
        ("limit = 0\n" + ROOT, "`limit` is 0: it must be a whole number from 1 to 2147483647."),
        ("limit = 99999999999\n" + ROOT,
         "`limit` is 99999999999: it must be a whole number from 1 to 2147483647."),
        ('require = ["Q5"]\n' + ROOT,
         "`require` has 'Q5': it must be a property id such as 'P18'."),
        (ROOT + 'minus = [{ path = "P31", of = [] }]',
         "[[root]] 1 (Q1), minus 1: `of` is empty: name the items that the path leads to, as "
         '["Q5"].'),
        ('[[root]]\nid = "Q1"\nany = [{ path = "P31", of = [] }]',
         "[[root]] 1 (Q1), any 1: `of` is empty: name the items that the path leads to, as "
         '["Q5"].'),
        ('include = ["wrold"]',
         "`include`: there is no recipe 'wrold' (did you mean 'world'?): give a file ending in "
         f".toml or one of {', '.join(shipped())}."),
        ('[root]\nid = "Q1"', "[root] is one table: write [[root]], one for every root."),
        ('root = ["Q5"]', "[[root]] 1: a root is a table: write [[root]], then its keys."),
        ("[[root]]\nany = []", "[[root]] 1: `id` is missing: the root's item, such as Q729."),
        ('[[root]]\nid = "Q0"\nany = []',
         "[[root]] 1 (Q0): `id` has 'Q0': it must be an id such as 'Q729'."),
        ('[[root]]\nid = "P31"\nany = []',
         "[[root]] 1 (P31): `id` is 'P31': a root is an item, such as Q729."),
        ('[[root]]\nid = "Q1"',
         '[[root]] 1 (Q1): `any` is missing: what belongs, such as [{ path = "P279*" }].'),
        ('[[root]]\nid = "Q1"\nany = ["P279*"]',
         '[[root]] 1 (Q1), any 1: a condition is a table such as { path = "P279*" }.'),
        ('[[root]]\nid = "Q1"\nany = [{ has = "P18" }]',
         "[[root]] 1 (Q1), any 1: `has` only filters: put it into `and`, `minus` or `require`."),
        ('[[root]]\nid = "Q1"\nany = [{ of = ["Q2"] }]',
         '[[root]] 1 (Q1), any 1: `path` is missing: a property path, such as "P31/P279*".'),
        (ROOT + 'minus = [{ path = "P31" }]',
         "[[root]] 1 (Q1), minus 1: `of` is missing: the items that the path leads to, as "
         '["Q5"].'),
        (ROOT + 'minus = [{ path = "P31", of = ["dog"] }]',
         "[[root]] 1 (Q1), minus 1: `of` has 'dog': it must be an id such as 'Q729'."),
        (ROOT + 'minus = [{ has = "P18", of = ["Q5"] }]',
         "[[root]] 1 (Q1), minus 1: `has` stands alone: `of` can't be beside it."),
        (ROOT + ROOT,
         "[[root]] 2 (Q1): the same id as [[root]] 1: put both into one `any`."),
        ('include = ["world"]\nmin_sitelinks = 9',
         "`min_sitelinks` changes nothing here: it holds for a file's own [[root]]s, and this one "
         "has none; set it in the included recipes."),
    ],
)  # fmt: skip
def test_an_error_says_what_and_where(tmp_path, text, error):
    file = recipe_of(tmp_path, text)
    with pytest.raises(UserError) as raised:
        load(file)
    assert str(raised.value) == f"{file}: {error}"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "r.toml"
    file.write_bytes(b"\xef\xbb\xbf" + ROOT.encode())
    assert load(file).text == ROOT


def test_an_included_file_that_is_missing_is_named_with_the_one_that_includes_it(tmp_path):
    file = recipe_of(tmp_path, 'include = ["gone.toml"]')
    with pytest.raises(UserError) as raised:
        load(file)
    assert str(raised.value).startswith(
        f"{file}: `include`: {tmp_path / 'gone.toml'}: the recipe can't be read: "
    )


def test_a_wrong_path_is_shown_with_a_caret_and_its_place(tmp_path):
    file = recipe_of(
        tmp_path, ROOT + 'minus = [{ has = "P1" }, { path = "P31/(P279*", of = ["Q5"] }]'
    )
    with pytest.raises(UserError) as raised:
        load(file)
    assert str(raised.value).split("\n") == [
        f"{file}: [[root]] 1 (Q1), minus 2: this '(' is never closed: add ')'",
        "    P31/(P279*",
        "        ^",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'name = "a', "not a TOML file: "),
        (b"\xff\xfe", "the recipe can't be read: "),
        (b"x = " + b"[" * 100_000, "not a recipe: its brackets are nested too deeply."),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, content, says):
    file = tmp_path / "r.toml"
    file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}: {says}")


def test_a_recipe_that_does_not_exist(tmp_path):
    with pytest.raises(UserError) as raised:
        load("livin")
    assert str(raised.value) == (
        "there is no recipe 'livin' (did you mean 'living'?): give a file ending in .toml or one "
        "of entitynet, living, reference, reference-living, reference-world, world."
    )
    with pytest.raises(UserError, match="the recipe can't be read"):
        load(tmp_path / "none.toml")


def test_included_recipes_come_first_and_keep_their_settings(tmp_path):
    recipe_of(tmp_path / "parts", 'limit = 5\n[[root]]\nid = "Q2"\nany = [{ path = "P31" }]', "two")
    file = recipe_of(tmp_path, 'include = ["parts/two.toml", "world"]\nlabels = ["en"]\n' + ROOT)
    recipe = load(file)
    assert [part.name for part in recipe.parts()] == ["two", "world", "test"]
    assert recipe.root_ids()[:3] == ["Q2", "Q729", "Q756"]
    assert recipe.root_ids()[-1] == "Q1"
    assert [root.limit for root in recipe.all_roots()[:2]] == [5, None]
    assert recipe.roots[0].labels == ("en",)
    assert [text["name"] for text in recipe.texts()] == ["test", "two", "world"]


def test_a_recipe_included_twice_is_there_once(tmp_path):
    recipe_of(tmp_path, 'include = ["world"]', "a")
    recipe_of(tmp_path, 'include = ["world", "a.toml"]', "b")
    assert [part.name for part in load(tmp_path / "b.toml").parts()] == ["world"]


def test_recipes_that_include_each_other_are_refused(tmp_path):
    recipe_of(tmp_path, 'include = ["b.toml"]', "a")
    recipe_of(tmp_path, 'include = ["a.toml"]', "b")
    with pytest.raises(UserError) as raised:
        load(tmp_path / "a.toml")
    assert str(raised.value) == (
        f"{tmp_path / 'a.toml'}: recipes include each other in a circle: "
        "a.toml includes b.toml includes a.toml."
    )


def manifest(properties, languages):
    return {"kept": {"properties": {p: [] for p in properties}, "languages": list(languages)}}


def test_a_store_that_kept_too_little_is_refused_with_the_option_to_use():
    living = load("living")
    with pytest.raises(UserError) as raised:
        check_store(living, manifest(set(living.properties()) - {"P1672", "P18"}, ["en"]))
    assert str(raised.value) == (
        "recipe 'living' needs P18, P1672, which this store did not keep; `require` of root "
        "Q729 names P18. Run `sparqless etl` "
        "again with `--properties FILE`, a list that has them too."
    )
    with pytest.raises(UserError) as raised:
        check_store(living, manifest(living.properties(), ["de", "en", "mul"]))
    assert str(raised.value) == (
        "recipe 'living' takes labels in en-gb, en-ca, en-us, which this store did not keep: run "
        "`sparqless etl` again with `--languages de,en,mul,en-gb,en-ca,en-us`."
    )


@pytest.mark.parametrize("name", shipped())
def test_recipes_that_ship_need_only_what_etl_keeps_by_default(name):
    check_store(load(name), manifest(read_properties(), DEFAULT_LANGUAGES))


# EntityNet's manual_entities.csv, the rows with include=1 in its order
WORLD = [
    "Q729", "Q756", "Q34379", "Q41176", "Q42889", "Q2095", "Q14745",
    "Q11460", "Q747883", "Q10683158", "Q712378", "Q15324", "Q39546", "Q618123",
    "Q214609", "Q25257", "Q13226383", "Q811979", "Q4936952", "Q2424752", "Q11663",
]  # fmt: skip
ENGLISH = ("en", "en-gb", "en-ca", "en-us", "mul", "P225", "P1705")


@pytest.mark.parametrize(("name", "labels"), [("world", ENGLISH), ("reference-world", ("en",))])
def test_the_world_recipes_are_the_reference_rules(name, labels):
    recipe = load(name)
    assert [root.id for root in recipe.roots] == WORLD
    for root in recipe.roots:
        assert root.any == (Match("P279*", parse("P279*"), (root.id,)),)
        assert (root.minus, root.require, root.limit) == ((), (), None)
        assert (root.min_sitelinks, root.labels) == (5, labels)


@pytest.mark.parametrize(("name", "labels"), [("living", ENGLISH), ("reference-living", ("en",))])
def test_the_living_recipes_are_the_reference_rules(name, labels):
    animal, plant = load(name).roots[:2]
    ways = "(P31/P279*)|P279+|P171+"
    below = parse("(P31/P279*)|P279+")
    assert animal.id == "Q729"
    assert animal.any == (Match(ways, parse(ways), ("Q729",)),)
    (minus,) = animal.minus
    assert (minus.path, minus.of) == (below, ("Q5", "Q24334299", "Q795052"))
    assert plant.id == "Q756"
    assert plant.any[0] == Match(ways, parse(ways), ("Q756",))
    assert plant.any[1].path == parse(f"(P1582|^P1672)/({ways})")
    assert plant.any[1].of == ("Q756",)
    (fruit,) = plant.any[1].conditions
    assert (fruit.path, fruit.of) == (parse("P31|P279"), ("Q3314483", "Q1364"))
    assert (plant.minus[0].path, plant.minus[0].of) == (below, ("Q4886", "Q795052"))
    assert plant.minus[1:] == (Has("P625"),)
    for root in (animal, plant):
        assert (root.min_sitelinks, root.require, root.limit) == (0, ("P18",), 28000)
        assert root.labels == labels


def test_ours_has_fungi_and_the_reference_has_not():
    assert [root.id for root in load("living").roots] == ["Q729", "Q756", "Q764"]
    assert [root.id for root in load("reference-living").roots] == ["Q729", "Q756"]


def test_the_recipes_that_unite():
    assert [part.name for part in load("entitynet").parts()] == ["world", "living"]
    assert [p.name for p in load("reference").parts()] == ["reference-world", "reference-living"]
