"""Drawing: the same text from seed, epoch and key wherever it is drawn, and as likely as told."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from download.pack.record import Entity, File, Query, Record, Text
from etl.errors import UserError
from tests.console import ROOT
from training.text import Texts
from training.text_image import AltText, Image
from training.text_options import TextFilter, TextOptions

KEYS = [f"{number:032x}" for number in range(20_000)]
DOG = Image.of("k", ["Q144"])
BOTH = Image.of("k", ["Q144"], ["brown-dog"], ["my dog Rex", "hound"])


@pytest.fixture(scope="module")
def texts(folder: Path) -> Texts:
    return Texts.open(folder)


def table(texts: Texts, image: Image) -> dict[str, float]:
    return {row.text: row.probability for row in texts.table(image)}


def named(image: Image, key: str) -> Image:
    return msgspec.structs.replace(image, key=key)


def like(counts: Mapping[str, int], expected: Mapping[str, float]) -> bool:
    """Whether counts are likely ones: chi-square below its mean by six standard deviations."""
    total = sum(counts.values())
    assert set(counts) <= set(expected)
    assert math.fsum(expected.values()) == pytest.approx(1)
    square = sum((counts.get(t, 0) - p * total) ** 2 / (p * total) for t, p in expected.items())
    freedom = len(expected) - 1
    return square < freedom + 6 * math.sqrt(2 * freedom) + 1


# --- which queries an image has ------------------------------------------------------------------


def test_an_image_found_without_a_query_is_called_what_its_entity_is(texts: Texts) -> None:
    """By P18, or by what it depicts."""
    found = table(texts, DOG)
    assert found == table(texts, Image.of("k", queries=["name-dog"]))
    assert max(found, key=lambda text: found[text]) == "dog"
    assert {"hound", "Canis familiaris", "an animal that barks", "beast", "canid"} <= set(found)


def test_an_entity_that_its_query_found_has_that_query_alone(texts: Texts) -> None:
    asked = Image.of("k", ["Q144"], ["brown-dog"])
    assert table(texts, asked) == table(texts, Image.of("k", queries=["brown-dog"]))


def test_a_query_about_a_type_leaves_the_entity_its_name(texts: Texts) -> None:
    """Half "brown animal", half dog; but where the entity is the type itself, that is all."""
    both = table(texts, Image.of("k", ["Q144"], ["brown-animal"]))
    one, other = table(texts, Image.of("k", queries=["brown-animal"])), table(texts, DOG)
    assert both == pytest.approx({t: (one.get(t, 0) + other.get(t, 0)) / 2 for t in {*one, *other}})
    assert table(texts, Image.of("k", ["Q729"], ["brown-animal"])) == one


def test_each_query_and_each_entity_is_as_likely(texts: Texts) -> None:
    image = Image.of("k", ["Q144", "Q8314"], ["brown-dog", "alias-dog"])
    found = texts.table(image)
    orchid = math.fsum(row.probability for row in found if row.text in ("orchid", "plant", "herb"))
    assert orchid == pytest.approx(1 / 3)


def test_a_type_that_is_no_entity_has_its_name(texts: Texts) -> None:
    assert set(table(texts, Image.of("k", queries=["soft-pet"]))) == {
        "soft pet", "soft", "pet", "pet soft",
    }  # fmt: skip


def test_a_query_about_what_the_data_set_lacks_stands_for_itself(texts: Texts) -> None:
    assert table(texts, Image.of("k", queries=["lost"])) == {"unheard of": 1.0}


def test_an_ambiguous_name_is_the_query_as_it_was_told_apart(texts: Texts) -> None:
    found = table(texts, Image.of("k", ["Q146"]))
    assert {"cat pet", "cat", "pet"} <= set(found)


def test_equal_texts_of_all_sides_are_one_row_with_all_sources(texts: Texts) -> None:
    (row,) = (row for row in texts.table(BOTH) if row.text == "hound")
    assert row.sources == ("alias", "alt_text")
    alone = table(texts, Image.of("k", queries=["brown-dog"]))
    assert row.probability == pytest.approx(0.5 / 2 + 0.5 * alone["hound"])


@pytest.mark.parametrize(
    "image",
    [
        Image.of("k"),
        Image.of("k", ["Q1", "wordnet:dog.n.01", ""], ["", "é" * 99]),
    ],
)
def test_of_what_nothing_is_known_nothing_is_drawn(texts: Texts, image: Image) -> None:
    assert texts.draw(image, 0, 0) is None
    assert texts.draw_several(image, 3, 0, 0) is None
    assert texts.draw_pair(image, 0, 0) is None
    assert texts.table(image) == []
    assert texts.why(image) == "no_text"


def test_an_image_of_which_only_an_alt_text_is_known_has_that(texts: Texts, folder: Path) -> None:
    alone = Image.of("k", alts=["Rex"])
    assert texts.draw(alone, 0, 0) == "Rex"
    assert texts.draw_several(alone, 3, 0, 0) == ["Rex"] * 3
    assert table(texts, alone) == {"Rex": 1.0}
    graph_only = Texts.open(folder, TextOptions(alt_text_chance=0))
    assert graph_only.draw(alone, 0, 0) is None
    assert graph_only.why(alone) == "no_text"
    assert graph_only.table(alone) == []


# --- the mix -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0, 0.25, 0.5, 1])
def test_alt_texts_have_their_chance(folder: Path, chance: float) -> None:
    texts = Texts.open(folder, TextOptions(alt_text_chance=chance))
    image = Image.of("k", ["Q8314"], alts=["Rex", "Waldi"])
    assert math.fsum(
        row.probability for row in texts.table(image) if row.text in ("Rex", "Waldi")
    ) == pytest.approx(chance)
    drawn = Counter(texts.draw(named(image, key), 7, 0) in ("Rex", "Waldi") for key in KEYS)
    assert abs(drawn[True] / len(KEYS) - chance) < 5 * math.sqrt(0.25 / len(KEYS))
    assert (drawn[False] == 0) == (chance == 1)
    assert (drawn[True] == 0) == (chance == 0)
    assert texts.draw(DOG, 0, 0) in table(texts, DOG)  # without alt text: one of the graph's


def test_alt_texts_in_other_languages_do_not_count(folder: Path) -> None:
    image = Image("k", texts=[AltText("Hund", "de"), AltText("dog", "en-GB"), AltText("Rex")])
    assert set(table(Texts.open(folder), image)) == {"dog", "Rex"}
    german = Texts.open(folder, TextOptions(alt_text_languages=("de",)))
    assert german.draw(image, 0, 0) == "Hund"
    everything = Texts.open(folder, TextOptions(alt_text_languages=()))
    assert set(table(everything, image)) == {"Hund", "dog", "Rex"}


def test_prompts_are_put_around_names_as_often_as_is_said(folder: Path) -> None:
    prompts = ("a photo of a {}.", "{} in the wild")
    texts = Texts.open(folder, TextOptions(prompt_chance=0.3, prompts=prompts))
    plain, found = table(Texts.open(folder), BOTH), table(texts, BOTH)
    assert found["a photo of a dog."] == pytest.approx(plain["dog"] * 0.3 / 2)
    assert found["dog"] == pytest.approx(plain["dog"] * 0.7)
    assert found["an animal that barks"] == plain["an animal that barks"]
    assert found["my dog Rex"] == plain["my dog Rex"]
    assert "a photo of a my dog Rex." not in found
    drawn = Counter(str(texts.draw(named(BOTH, key), 0, 0)) for key in KEYS)
    assert like(drawn, found)


# --- as likely as told ---------------------------------------------------------------------------


@pytest.mark.parametrize("image", [DOG, BOTH, Image.of("k", ["Q146"], ["brown-animal"], ["Rex"])])
def test_texts_are_drawn_as_often_as_the_table_says(texts: Texts, image: Image) -> None:
    expected = table(texts, image)
    assert math.fsum(expected.values()) == pytest.approx(1, abs=1e-12)
    assert like(Counter(str(texts.draw(named(image, key), 1, 2)) for key in KEYS), expected)
    epochs = Counter(str(texts.draw(image, 1, epoch)) for epoch in range(len(KEYS)))
    assert like(epochs, expected)
    seeds = Counter(str(texts.draw(image, seed, 0)) for seed in range(len(KEYS)))
    assert like(seeds, expected)


@given(
    entities=st.lists(st.sampled_from(["Q144", "Q146", "Q8314", "Q9"]), max_size=3),
    queries=st.lists(
        st.sampled_from(["name-dog", "brown-dog", "brown-animal", "lost", "?"]), max_size=3
    ),
    alts=st.lists(st.text(min_size=1), max_size=3),
    chance=st.floats(0, 1),
)
def test_the_probabilities_of_every_image_sum_to_one(
    folder: Path, entities: list[str], queries: list[str], alts: list[str], chance: float
) -> None:
    texts = Texts.open(folder, TextOptions(alt_text_chance=chance))
    image = Image.of("k", entities, queries, alts)
    found = texts.table(image)
    drawn = texts.draw(image, 3, 4)
    assert (drawn is None) == (not found) == (texts.why(image) == "no_text")
    if found:
        assert math.fsum(row.probability for row in found) == pytest.approx(1, abs=1e-12)
        assert drawn in {row.text for row in found}
        assert all(row.sources for row in found)


# --- the same wherever it is drawn ---------------------------------------------------------------


def slow_draw(folder: Path, image: Image, seed: int, epoch: int) -> str | None:
    """A draw from the files as the docs describe it, by searching through lists."""
    columns = {
        name: pyarrow.ipc.open_file(folder / f"{name}.arrow").read_all().to_pydict()
        for name in ("rows", "queries", "entities")
    }
    written = pyarrow.ipc.open_file(folder / "texts.arrow").read_all().column("text").to_pylist()
    everything = "".join(written).encode()
    queries, entities = columns["queries"], columns["entities"]
    asked = [queries["id"].index(q.hash) for q in image.queries if q.hash in queries["id"]]
    tables = [queries["rows"][place] for place in asked]
    about = {queries["about"][place] for place in asked}
    for entity in image.entities:
        if entity.id in entities["id"] and entities["id"].index(entity.id) not in about:
            tables.append(entities["rows"][entities["id"].index(entity.id)])
    digest = blake2b(f"{seed} {epoch} {image.key}".encode(), digest_size=32).digest()
    a, b, c, _ = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8, 16, 24))
    alts = [text.text for text in image.texts]
    if alts and (a // 2**11 / 2**53 < 0.5 or not tables):
        return alts[b * len(alts) // 2**64]
    if not tables:
        return None
    chosen = tables[b * len(tables) // 2**64]
    first, count = divmod(chosen, 2**20)
    for row in range(first, first + count):
        if c // 2**11 / 2**53 < columns["rows"]["up_to"][row]:
            begin, size = divmod(columns["rows"]["text_at"][row], 2**16)
            return everything[begin : begin + size].decode()
    raise AssertionError("the last is 1")


def test_draws_are_those_that_the_docs_describe(texts: Texts, folder: Path) -> None:
    images = [
        Image.of(key, entities, queries, alts)
        for key in KEYS[:6]
        for entities in ([], ["Q144"], ["Q146", "Q9"])
        for queries in ([], ["brown-dog"], ["brown-animal", "lost"])
        for alts in ([], ["Rex"], ["Rex", "Waldi", "hound"])
    ]
    for image in images:
        assert texts.draw(image, 5, 6) == slow_draw(folder, image, 5, 6)


def test_draws_stay_what_they_are(texts: Texts) -> None:
    """On every machine and by every Python: a run that is gone on with elsewhere draws the same."""
    drawn = [texts.draw(named(BOTH, key), 0, epoch) for key in KEYS[:4] for epoch in range(4)]
    assert drawn == [
        "hound",
        "my dog Rex",
        "brown dog",
        "hound",
        "hound",
        "my dog Rex",
        "doggo",
        "hound",
        "my dog Rex",
        "my dog Rex",
        "hound",
        "hound",
        "hound",
        "hound",
        "hound",
        "brown dog",
    ]
    assert texts.draw_several(BOTH, 4, 0, 0) == ["hound", "brown dog", "my dog Rex", "brown hound"]


_ELSEWHERE = """
import json, sys
from pathlib import Path
from training.text import Texts
from training.text_image import Image
texts = Texts.open(Path(sys.argv[1]))
image = lambda key: Image.of(key, ["Q144"], ["brown-dog"], ["my dog Rex", "hound"])
print(json.dumps([texts.draw(image(key), 3, 4) for key in json.loads(sys.argv[2])]))
"""


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_pythons_hash_seed_and_the_order_are_no_matter(
    texts: Texts, folder: Path, hash_seed: str
) -> None:
    keys = KEYS[:200]
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(folder), json.dumps(keys[::-1])],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)[::-1] == [texts.draw(named(BOTH, key), 3, 4) for key in keys]


def _drawn(texts: Texts, keys: Sequence[str]) -> list[str | None]:
    return [texts.draw(named(BOTH, key), 3, 4) for key in keys]


@pytest.mark.parametrize("how", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_draw_what_one_process_draws(texts: Texts, how: str) -> None:
    keys = KEYS[:300]
    with multiprocessing.get_context(how).Pool(2) as pool:
        parts = pool.starmap(_drawn, [(texts, keys[n::3]) for n in range(3)])
    expected = _drawn(texts, keys)
    assert [parts[n % 3][n // 3] for n in range(len(keys))] == expected


def test_what_is_pickled_is_where_the_tables_are(texts: Texts, folder: Path) -> None:
    options = TextOptions(alt_text_chance=0.1)
    filter_ = TextFilter(skip_types=("alias",))
    again = pickle.loads(pickle.dumps(Texts.open(folder, options, filter_)))
    assert (again.options, again.filter) == (options, filter_)
    assert len(pickle.dumps(texts)) < 2000


def test_epochs_seeds_and_keys_draw_differently(texts: Texts) -> None:
    def drawn(seed: int, epoch: int, keys: Sequence[str]) -> list[str | None]:
        return [texts.draw(named(BOTH, key), seed, epoch) for key in keys]

    once = drawn(0, 0, KEYS[:100])
    others = (drawn(1, 0, KEYS[:100]), drawn(0, 1, KEYS[:100]), drawn(0, 0, KEYS[100:200]))
    assert all(once != other for other in others)
    assert drawn(-1, 2**70, KEYS[:100]) != once  # any number is a seed
    assert drawn(0, 0, KEYS[:100]) == once


# --- several texts -------------------------------------------------------------------------------


def test_several_texts_are_distinct_and_the_first_is_the_one(texts: Texts) -> None:
    distinct = len(table(texts, BOTH))
    for key in KEYS[:50]:
        image = named(BOTH, key)
        drawn = texts.draw_several(image, distinct, 0, 0)
        assert drawn is not None
        assert drawn[0] == texts.draw(image, 0, 0)
        assert set(drawn) == set(table(texts, BOTH))
        assert texts.draw_several(image, 3, 0, 0) == drawn[:3]
        more = texts.draw_several(image, 2 * distinct + 1, 0, 0)
        assert more == [*drawn, *drawn, drawn[0]]  # no others: they come again


def test_the_second_text_is_as_likely_as_what_is_left(texts: Texts) -> None:
    """P(i then j) = p_i p_j / (1 - p_i)."""
    p = table(texts, Image.of("k", ["Q8314"], alts=["Rex"]))
    expected = {
        second: sum(p[first] * p[second] / (1 - p[first]) for first in p if first != second)
        for second in p
    }
    images = (Image.of(key, ["Q8314"], alts=["Rex"]) for key in KEYS)
    drawn = Counter((texts.draw_several(image, 2, 0, 0) or ["", ""])[1] for image in images)
    assert like(drawn, expected)


def test_no_text_is_drawn_that_has_no_chance(folder: Path) -> None:
    texts = Texts.open(folder, TextOptions(alt_text_chance=1))
    assert set(texts.draw_several(BOTH, 5, 0, 0) or ()) == {"my dog Rex", "hound"}
    assert set(table(texts, BOTH)) == {"my dog Rex", "hound"}


def test_less_than_one_text_is_refused(texts: Texts) -> None:
    with pytest.raises(ValueError, match="0 texts"):
        texts.draw_several(BOTH, 0, 0, 0)


def test_a_pair_is_an_alt_text_and_one_of_the_graphs(texts: Texts, folder: Path) -> None:
    of_graph = table(Texts.open(folder, TextOptions(alt_text_chance=0)), BOTH)
    pairs = [texts.draw_pair(named(BOTH, key), 0, 0) for key in KEYS[:5000]]
    first, second = zip(*(pair for pair in pairs if pair), strict=True)
    assert {one.side for one in first} == {"alt"}
    assert {one.side for one in second} == {"graph"}
    assert like(Counter(one.text for one in first), {"my dog Rex": 0.5, "hound": 0.5})
    assert like(Counter(one.text for one in second), of_graph)


def test_a_pair_of_an_image_without_alt_text_is_two_of_the_graphs(texts: Texts) -> None:
    """The reference divided by the number of alt texts, which is 0."""
    for key in KEYS[:50]:
        one, other = texts.draw_pair(named(DOG, key), 0, 0) or (None, None)
        assert one is not None
        assert other is not None
        assert (one.side, other.side) == ("graph", "graph")
        assert one.text != other.text
    alone = texts.draw_pair(Image.of("k", queries=["lost"]), 0, 0)
    assert alone is not None
    assert [one.text for one in alone] == ["unheard of"] * 2
    alts = texts.draw_pair(Image.of("k", alts=["Rex", "Waldi"]), 0, 0)
    assert alts is not None
    assert {one.text for one in alts} == {"Rex", "Waldi"}
    assert {one.side for one in alts} == {"alt"}


@pytest.mark.parametrize("chance", [0, 0.5])
@pytest.mark.parametrize("image", [Image.of("k", alts=["Rex"]), Image.of("k"), DOG, BOTH])
def test_an_image_has_a_pair_where_it_has_a_text(folder: Path, chance: float, image: Image) -> None:
    texts = Texts.open(folder, TextOptions(alt_text_chance=chance))
    assert (texts.draw_pair(image, 0, 0) is None) == (texts.draw(image, 0, 0) is None)


# --- filters -------------------------------------------------------------------------------------

#: Found by three queries, one of them about no entity; of an orchid and (by its queries) a dog.
FOUND = Image.of("k", ["Q144", "Q8314"], ["brown-dog", "alias-dog", "brown-animal"], ["Rex"])
ASKED = ("brown-dog", "alias-dog", "brown-animal", "Q8314")


def left(folder: Path, image: Image = FOUND, **filter_: Any) -> set[str] | None:
    """Whose texts are left of an image; None where it is dropped."""
    texts = Texts.open(folder, filter_=TextFilter(**filter_))
    known = texts.known(image)
    assert (known is None) == (texts.draw(image, 0, 0) is None) == (texts.why(image) == "filter")
    assert (known is None) == (texts.table(image) == [])
    if known is None:
        return None
    plain = Texts.open(folder)
    alone = {name: plain.known(Image.of("k", [name], [name])) for name in ASKED}
    return {name for name, one in alone.items() if one and one[0][0] in known[0]}


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        ({}, ASKED),
        ({"skip_types": ("alias",)}, ("brown-dog", "brown-animal", "Q8314")),
        ({"skip_types": ("name",)}, ("brown-dog", "alias-dog", "brown-animal")),
        ({"skip_types": ("attribute_type", "attribute_name")}, ("alias-dog", "Q8314")),
        ({"skip_types": ("alias", "name", "attribute_type", "attribute_name")}, None),
        ({"skip_types": ("alias",), "op": "any"}, None),
        ({"skip_engines": ("google",), "op": "any"}, ASKED),
        ({"skip_query_sources": ("wikidata",)}, None),
        ({"skip_query_sources": ("llm:some",), "op": "any"}, ASKED),
        ({"keep_roots": ("Q729",)}, ("brown-dog", "alias-dog", "brown-animal")),
        ({"keep_roots": ("Q729",), "op": "any"}, None),
        ({"keep_roots": ("Q729", "Q756"), "op": "any"}, ASKED),
        ({"skip_roots": ("Q729",)}, ("Q8314",)),
        ({"skip_alt_text": "alt"}, None),
        ({"skip_alt_text": "noalt"}, ASKED),
    ],
)
def test_blocked_queries_give_no_texts(
    folder: Path, filter_: dict[str, Any], names: tuple[str, ...] | None
) -> None:
    assert left(folder, **filter_) == (None if names is None else set(names))


def test_what_only_blocked_queries_found_goes_and_does_not_become_a_name(folder: Path) -> None:
    found = Image.of("k", ["Q144"], ["brown-dog"], ["Rex"])
    assert left(folder, found, skip_types=("attribute_name",)) is None
    alone = Image.of("k", ["Q144"], alts=["Rex"])
    assert (
        left(folder, alone, skip_types=("attribute_name",)) == set()
    )  # its name's is none of ASKED
    assert Texts.open(folder, filter_=TextFilter(skip_types=("name",))).why(alone) == "filter"


def test_an_entity_counts_as_the_query_for_its_name(folder: Path, tmp_path: Path) -> None:
    orchid = Image.of("k", ["Q8314"])
    listed = tmp_path / "list.json"
    listed.write_text('["name-orchid"]')
    assert left(folder, orchid, keep_lists=(str(listed),)) == {"Q8314"}
    assert left(folder, orchid, skip_lists=(str(listed),)) is None
    assert left(folder, keep_lists=(str(listed),)) == {"Q8314"}
    assert left(folder, keep_lists=(str(listed),), op="any") is None
    nameless = Image.of("k", ["Q729"])  # no query asks for it
    assert left(folder, nameless, keep_lists=(str(listed),)) is None
    assert left(folder, nameless, skip_lists=(str(listed),)) is not None


def test_lists_may_have_a_line_for_each_hash(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alias-dog\n\nelsewhere\n")
    (tmp_path / "b.json").write_text('["brown-dog"]')
    lists = tuple(str(tmp_path / name) for name in ("a.txt", "b.json"))
    assert left(folder, skip_lists=lists) == {"brown-animal", "Q8314"}
    assert left(folder, keep_lists=lists) == {"alias-dog", "brown-dog"}


def test_an_image_of_which_the_graph_knows_nothing_is_none_that_a_filter_keeps(
    folder: Path,
) -> None:
    unknown = Image.of("k", ["Q1"], alts=["Rex"])
    assert left(folder, unknown, keep_roots=("Q729",)) is None
    assert left(folder, unknown, skip_alt_text="noalt") == set()


SAID = Image.of_json(
    msgspec.json.encode(
        {
            "key": "k",
            "entities": [
                {"id": "Q144", "sources": ["commons-depicts"]},
                {"id": "Q8314", "sources": ["commons-depicts", "commons-p18"]},
            ],
            "queries": [{"hash": "brown-dog", "found": True}],
            "texts": [
                {"text": "Rex", "lang": "en", "sources": ["url-list"]},
                {"text": "Waldi", "lang": "en", "sources": ["commons-depicts", "url-list"]},
            ],
        }
    )
)


def test_what_only_blocked_sources_say_is_not_so(folder: Path) -> None:
    assert left(folder, SAID, skip_sources=("commons-depicts",)) == {"Q8314"}
    assert left(folder, SAID, skip_sources=("commons-depicts",), op="any") is None
    assert left(folder, SAID, skip_sources=("commons-depicts", "commons-p18")) is None
    assert left(folder, SAID, skip_sources=("url-list",)) == {"brown-dog", "Q8314"}
    texts = Texts.open(folder, filter_=TextFilter(skip_sources=("url-list",)))
    assert {row.text for row in texts.table(SAID) if "alt_text" in row.sources} == {"Waldi"}
    no_alt = TextFilter(skip_sources=("url-list", "commons-depicts"), skip_alt_text="noalt")
    assert Texts.open(folder, filter_=no_alt).why(SAID) == "filter"


def test_a_row_that_does_not_say_who_said_what_is_refused(folder: Path) -> None:
    row = {"key": "k", "entities": ["Q144"], "query_hashes": [], "texts": [], "text_langs": []}
    one = Image.of_row({**row, "sources": ["commons-p18"]})
    two = Image.of_row({**row, "sources": ["commons-p18", "url-list"]})
    texts = Texts.open(folder, filter_=TextFilter(skip_sources=("commons-p18",)))
    assert texts.why(one) == "filter"
    with pytest.raises(UserError, match="commons-p18, url-list know it, but not which of them"):
        texts.why(two)


@pytest.mark.parametrize(
    ("filter_", "sentence"),
    [
        ({"keep_roots": ("Q34379",)}, "keep_roots: no query has 'Q34379'; there are Q729, Q756."),
        ({"skip_query_sources": ("llm:x",)}, "no query has 'llm:x'; there are llm:some, wikidata."),
        ({"skip_lists": ("nowhere.json",)}, "nowhere.json: no such file"),
    ],
)
def test_a_filter_that_names_what_is_not_there_is_told(
    folder: Path, filter_: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as told:
        Texts.open(folder, filter_=TextFilter(**filter_))
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'["elsewhere"]', "none of its 1 hashes is of a query of this data set"),
        (b"[1]", "its list holds something else than texts"),
        (b'["a"', "is not JSON"),
        (b"\xff\xfe", "can't be read as a list of query hashes"),
    ],
)
def test_a_list_that_is_none_is_told(
    folder: Path, tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UserError) as told:
        Texts.open(folder, filter_=TextFilter(skip_lists=(str(tmp_path / "list"),)))
    assert sentence in str(told.value)


# --- what shards hold ----------------------------------------------------------------------------


def record(**more: Any) -> Record:
    fields: dict[str, Any] = dict.fromkeys(
        ("caption", "url", "page_url", "file", "licence", "creator", "format", "sha256"), ""
    )
    sizes = dict.fromkeys(("width", "height", "original_width", "original_height"), 1)
    return Record(**{**fields, **sizes, "key": "k", "files": [File("", "", "", "", 1, 1)], **more})


def test_key_json_and_images_parquet_say_the_same(texts: Texts) -> None:
    """KEY.json has the query for an entity's name that no query found; its row has not."""
    made = record(
        entities=[
            Entity("Q144", "dog", ["Q729"], "", "", ["url-list"], []),
            Entity("Q146", "cat", ["Q729"], "", "", ["commons-p18"], ["P18"]),
        ],
        queries=[
            Query("brown-dog", "brown dog", "attribute_name", "Q144", True),
            Query("name-cat", "cat pet", "name", "Q146", False),
        ],
        texts=[Text("Rex", "en", ["url-list"]), Text("Hund", "de", ["url-list"])],
    )
    row = {
        "key": "k", "entities": ["Q144", "Q146"], "query_hashes": ["brown-dog"],
        "texts": ["Rex", "Hund"], "text_langs": ["en", "de"], "sources": ["url-list"],
    }  # fmt: skip
    read = Image.of_json(msgspec.json.encode(made))
    assert texts.known(read)[0] == texts.known(Image.of_row(row))[0]  # type: ignore[index]
    assert texts.table(read) == texts.table(Image.of_row(row))
    assert {"cat pet", "brown dog", "Rex"} <= set(table(texts, read))


def test_the_name_that_stands_in_for_a_caption_is_no_alt_text(texts: Texts) -> None:
    made = record(
        entities=[Entity("Q8314", "orchid", [], "", "", ["commons-p18"], ["P18"])],
        queries=[Query("", "Orchis", "name", "Q8314", False)],
        texts=[Text("Orchis", "", ["name"])],
    )
    found = table(texts, Image.of_json(msgspec.json.encode(made)))
    assert found == table(texts, Image.of("k", ["Q8314"]))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"key": 1}', b'{"qh": []}'])
def test_a_json_that_is_no_record_is_told(data: bytes) -> None:
    with pytest.raises(UserError, match="none that `sparqless images pack` wrote"):
        Image.of_json(data)
