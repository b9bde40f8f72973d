"""Gaps of a recipe: what is one, and that the classes offered are the ones to look at next."""

from __future__ import annotations

from random import Random

import networkx as nx
import pytest

from etl.errors import UserError
from graph.gaps import HOUSEKEEPING, REJECTED, SHARE, described, gaps
from graph.natural_types import TOO_GENERAL
from graph.recipe import load
from tests.graph.small_dump import entity, recipe_of, redirect, store_of

ANIMALS = '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'


def found_in(tmp_path, entities, recipe=ANIMALS, **options):
    store = store_of(tmp_path / "data", entities)
    return gaps(store, load(recipe_of(tmp_path, recipe)), **options)


def catches(found):
    return {gap.id: gap.catches for gap in found.found}


WORLD = [
    entity("Q1", label="animal", claims={"P279": ["Q9"]}),
    entity("Q2", label="dog", claims={"P279": ["Q1"]}),
    entity("Q3", label="Rex", claims={"P31": ["Q2"]}),
    entity("Q9", label="thing"),
    entity("Q20", label="bridge", links=12, claims={"P279": ["Q9"]}),
    entity("Q21", label="arch bridge", links=11, claims={"P279": ["Q20"]}),
    entity("Q22", label="Old Bridge", links=30, claims={"P31": ["Q21"]}),
    entity("Q23", label="footbridge", links=9, claims={"P279": ["Q20"]}),
    entity("Q24", label="New Bridge", links=20, claims={"P31": ["Q23"]}),
    entity("Q30", label="no class at all"),
]


def test_a_gap_is_a_popular_item_that_no_root_reaches(tmp_path):
    found = found_in(tmp_path, WORLD)
    assert found.popular == 9  # all but the footbridge
    assert found.reached == 2  # animal, dog
    assert found.below_roots == 1  # Rex: P31/P279*, which the recipe doesn't take
    assert found.classless == 1
    assert found.left == 1  # thing: above a root, and caught by nothing else
    (bridge,) = found.found
    assert (bridge.id, bridge.name, bridge.catches, bridge.classes) == ("Q20", "bridge", 4, 2)
    assert [(e.id, e.name, e.sitelinks) for e in bridge.examples] == [
        ("Q22", "Old Bridge", 30),
        ("Q24", "New Bridge", 20),
        ("Q20", "bridge", 12),
        ("Q21", "arch bridge", 11),
    ]
    assert bridge.covered == 0


def test_what_the_rules_of_a_root_take_away_is_no_gap(tmp_path):
    recipe = (
        'labels = ["en-gb"]\nmin_sitelinks = 1000\nrequire = ["P18"]\nlimit = 1\n'
        '[[root]]\nid = "Q1"\nany = [{ path = "P279*" }]\n'
        'minus = [{ path = "P279*", of = ["Q20"] }]\n'
    )
    more = [entity("Q4", claims={"P279": ["Q1", "Q20"]})]
    found = found_in(tmp_path, [*WORLD, *more], recipe)
    assert (found.reached, catches(found)) == (3, {"Q20": 4})


def test_a_condition_beside_the_path_counts(tmp_path):
    recipe = '[[root]]\nid = "Q1"\nany = [{ path = "P279*", and = [{ has = "P18" }] }]\n'
    pictured = entity("Q5", claims={"P279": ["Q1"], "P18": ["A.jpg"]})
    found = found_in(tmp_path, [*WORLD, pictured], recipe)
    assert found.reached == 1
    assert found.below_roots == 3  # animal, dog, Rex


def test_a_class_beside_a_root_says_what_they_share(tmp_path):
    pets = [
        entity("Q40", label="pet"),
        entity("Q41", claims={"P279": ["Q40", "Q1"]}),
        entity("Q42", claims={"P279": ["Q40"]}),
    ]
    found = found_in(tmp_path, [*WORLD, *pets], limit=1)
    assert catches(found) == {"Q20": 4}
    found = found_in(tmp_path, [*WORLD, *pets])
    pet = next(gap for gap in found.found if gap.id == "Q40")
    assert (pet.catches, pet.covered) == (2, 1)
    assert [(o.root, o.name, o.items) for o in pet.overlaps] == [("Q1", "animal", 1)]


def test_rejected_classes_are_set_aside_unless_all_is_asked_for(tmp_path):
    cities = [
        entity("Q515", label="city"),
        entity("Q50", claims={"P31": ["Q515"]}),
        entity("Q51", claims={"P31": ["Q515"]}),
    ]
    found = found_in(tmp_path, [*WORLD, *cities])
    assert found.below_rejected == 3
    assert "Q515" not in catches(found)
    found = found_in(tmp_path, [*WORLD, *cities], everything=True)
    assert (found.below_rejected, found.below_roots) == (0, 0)
    # thing is too general no more: bridges are more than half of it, Rex is left of the rest
    assert catches(found) == {"Q20": 4, "Q515": 3, "Q9": 2}


@pytest.mark.parametrize("class_", HOUSEKEEPING)
def test_pages_of_wikimedias_own_are_set_aside_unless_all_is_asked_for(tmp_path, class_):
    pages = [entity(f"Q{n}", claims={"P31": [class_]}) for n in (60, 61, 62)]
    found = found_in(tmp_path, [*WORLD, *pages])
    assert (found.housekeeping, found.below_rejected, catches(found)) == (3, 0, {"Q20": 4})
    assert "           3  pages of Wikimedia's own" in "\n".join(described(found))
    found = found_in(tmp_path, [*WORLD, *pages], everything=True)
    assert (found.housekeeping, catches(found)[class_]) == (0, 3)


def test_a_class_that_the_store_has_no_record_of_says_so(tmp_path):
    things = [entity(f"Q{n}", claims={"P31": ["Q77"]}) for n in range(60, 66)]
    found = found_in(tmp_path, [*WORLD, *things])
    assert [(g.id, g.recorded) for g in found.found] == [("Q77", False), ("Q20", True)]
    assert "  6  Q77 (no record in the store): 0 by P279*" in "\n".join(described(found))


@pytest.mark.parametrize("general", TOO_GENERAL)
def test_what_is_too_general_is_never_offered(tmp_path, general):
    entities = [
        entity("Q1"),
        entity(general),
        *(entity(f"Q{n}", claims={"P279": [general]}) for n in range(100, 110)),
    ]
    found = found_in(tmp_path, entities)
    assert found.found == ()
    assert found.left == 11


def test_the_most_specific_class_is_taken_that_catches_more_than_half(tmp_path):
    """Of six buildings three are towers, which is not enough; with a fourth it is."""
    entities = [
        entity("Q1"),
        entity("Q60", label="building", links=0),
        entity("Q61", label="tower", links=0, claims={"P279": ["Q60"]}),
        entity("Q62", label="church", links=0, claims={"P279": ["Q60"]}),
        *(entity(f"Q{n}", claims={"P31": ["Q61"]}) for n in (70, 71, 72)),
        entity("Q73", claims={"P31": ["Q62"]}),
        entity("Q74", claims={"P31": ["Q60"]}),
        entity("Q75", claims={"P31": ["Q60"]}),
    ]
    assert catches(found_in(tmp_path, entities)) == {"Q60": 6}
    another = entity("Q76", claims={"P31": ["Q61"]})
    assert catches(found_in(tmp_path, [*entities, another])) == {"Q61": 4, "Q60": 3}


def test_a_merged_class_stands_for_what_it_was_merged_into(tmp_path):
    store = store_of(
        tmp_path / "data",
        [
            entity("Q1"),
            entity("Q20", links=0),
            entity("Q50", claims={"P31": ["Q19"]}),
            entity("Q51", claims={"P31": ["Q20"]}),
        ],
    )
    redirect(store, {"Q19": "Q20"})
    assert catches(gaps(store, load(recipe_of(tmp_path, ANIMALS)))) == {"Q20": 2}


def test_a_store_without_classes_is_refused(tmp_path):
    store = store_of(tmp_path / "data", WORLD, properties=("P279", "P225", "P1705"))
    with pytest.raises(UserError, match=r"did not keep P31: .*--properties"):
        gaps(store, load(recipe_of(tmp_path, ANIMALS)))


def test_lines_are_safe_and_have_every_figure(tmp_path):
    evil = [entity("Q20", label="bri\x1bdge", claims={"P279": ["Q9"]})]
    text = "\n".join(described(found_in(tmp_path, [e for e in WORLD if e["id"] != "Q20"] + evil)))
    assert "\x1b" not in text
    assert "9 items with 10 sitelinks or more" in text
    assert "Q20 bri�dge: 2 by P279*, 2 more by P31/P279*" in text


# --------------------------------------------------------------------------------------------------
# Against sets and networkx
# --------------------------------------------------------------------------------------------------


def expected_gaps(claims, links, root):
    """Choose classes over plain sets; yields {class: caught} in the order of the choice."""
    up = nx.DiGraph()
    up.add_nodes_from([*claims, root])
    up.add_edges_from((s, o) for s, c in claims.items() for o in c["P279"])
    up.add_nodes_from(o for c in claims.values() for o in c["P31"])

    def above(item):
        starts = [*claims[item]["P31"], item]
        return {a for s in starts for a in (s, *nx.descendants(up, s))}

    number = {node: int(node[1:]) for node in up}
    gap = {item: above(item) for item in claims if links[item] >= 10}
    gap = {item: classes for item, classes in gap.items() if root not in classes}
    gap = {item: classes for item, classes in gap.items() if not classes & set(REJECTED)}
    banned = {root, *nx.descendants(up, root), *TOO_GENERAL}
    found = {}
    while True:
        caught = {c: {i for i in gap if c in gap[i]} for c in set(up) - banned}
        caught = {c: items for c, items in caught.items() if len(items) > 1}
        if not caught:
            return found
        best = min(caught, key=lambda c: (-len(caught[c]), number[c]))
        least, met = len(caught[best]) * SHARE, {best}
        while True:
            below = [c for c in up.predecessors(best) if c in caught and c not in met]
            below = [c for c in below if len(caught[c]) > least]
            if not below:
                break
            best = min(below, key=lambda c: (-len(caught[c]), number[c]))
            met.add(best)
        found[best] = caught[best]
        gap = {item: classes for item, classes in gap.items() if item not in caught[best]}


@pytest.mark.parametrize("seed", range(6))
def test_random_worlds_agree_with_plain_sets(tmp_path, seed):
    rng = Random(seed)
    ids = [f"Q{n}" for n in range(1, 60)]
    claims = {
        id: {
            "P279": rng.sample(ids[:25], rng.choice([0, 1, 1, 2])),  # cycles included
            "P31": rng.sample(ids[:25], rng.choice([0, 0, 1, 2])) if n > 20 else [],
        }
        for n, id in enumerate(ids)
    }
    links = {id: rng.choice([5, 10, 11, 12]) for id in ids}
    found = found_in(
        tmp_path,
        [entity(id, links=links[id], claims=claims[id]) for id in ids],
        limit=100,
    )
    expected = expected_gaps(claims, links, "Q1")
    assert catches(found) == {c: len(items) for c, items in expected.items()}
    for gap in found.found:
        caught = expected[gap.id]
        most = sorted(caught, key=lambda i: (-links[i], int(i[1:])))[:5]
        assert [e.id for e in gap.examples] == most
