"""What a model is asked: bounded, the same every time, and about what the graph really says."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.store import EntityStore
from graph.enrich.prompts import (
    ATTRIBUTES,
    CATEGORIES,
    TYPES,
    VISUALITY,
    Candidate,
    Hint,
    Subject,
    attributes_question,
    prompt_hash,
    request_body,
    shortened,
    type_question,
    visuality_question,
)
from graph.enrich.sources import Subjects, candidates_from, hints_from
from graph.recipe import recorded
from graph.tables import ENTITIES
from tests.console import ROOT
from tests.graph import worlds
from tests.graph.oracle import WD, QueryService
from tests.graph.worlds import MADE_UP, World

FOX = Subject("Q8332", "red fox", "species of mammal", ("fox", "Vulpes vulpes"))
CLASSES = [
    Candidate("Q20", "b", sitelinks=5),
    Candidate("Q3", "c", "what c is", "see", sitelinks=5),
    Candidate("Q1000", "a", sitelinks=9),
]


def test_candidates_stand_by_sitelinks_then_id_whatever_order_they_come_in() -> None:
    question = type_question(FOX, CLASSES)
    assert question == type_question(FOX, CLASSES[::-1])
    assert list(question.choices) == ["Q1000 a", "Q3 c", "Q20 b"]
    assert question.text == (
        "Q8332: red fox\ndescription: species of mammal\nalso called: fox\ncandidates:\n"
        "- Q1000 a\n- Q3 c (description: what c is; also called: see)\n- Q20 b"
    )


def test_texts_are_cut_to_64_characters_and_keep_what_they_are_made_of() -> None:
    assert shortened("x" * 64) == "x" * 64
    assert shortened("x" * 65) == "x" * 64 + "..."
    assert shortened("é-2 犬" * 30) == ("é-2 犬" * 30)[:64] + "..."
    assert shortened("می‌خواهم 🐕‍🦺") == "می‌خواهم 🐕‍🦺"
    assert shortened(" a\n\n- Q1 fake\t\x1b[2J\x00") == "a - Q1 fake [2J"


@given(st.text(max_size=200))
def test_a_text_of_wikidatas_is_one_line_and_short(text: str) -> None:
    short = shortened(text)
    assert len(short) <= 67
    assert len(short.splitlines()) <= 1
    short.encode()


def test_the_attributes_prompt_has_all_names_and_bounded_hints() -> None:
    hints = [Hint("color", ("red", "white")), *(Hint(f"p{n}", ("v",) * 99) for n in range(50))]
    text = attributes_question(FOX, hints).text
    assert "also called: fox, Vulpes vulpes\nhints:\n- color: red, white\n" in text
    assert len(text) < 2000
    assert attributes_question(FOX, []).text.endswith("hints:\n- none")


def test_a_schema_demands_every_category_and_no_other_member() -> None:
    body = request_body(ATTRIBUTES, [attributes_question(FOX, [])], "m", {})
    schema = body["response_format"]["json_schema"]["schema"]

    def check(part: dict[str, Any]) -> None:
        if part["type"] == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
            for inner in part["properties"].values():
                check(inner)
        elif part["type"] == "array":
            check(part["items"])

    check(schema)
    assert list(schema["properties"]["Q8332"]["properties"]) == list(CATEGORIES)


def test_the_hash_changes_with_all_that_is_asked_and_with_nothing_else() -> None:
    question = type_question(FOX, CLASSES)
    hashes = {
        prompt_hash(TYPES, question, "m", {}),
        prompt_hash(TYPES, question, "n", {}),
        prompt_hash(TYPES, question, "m", {"temperature": 0.7}),
        prompt_hash(TYPES, question, "m", {"max_tokens": None}),
        prompt_hash(TYPES, type_question(FOX, CLASSES[:2]), "m", {}),
        prompt_hash(TYPES, type_question(Subject("Q2", "red fox"), CLASSES), "m", {}),
        prompt_hash(VISUALITY, visuality_question(FOX, CLASSES), "m", {}),
        prompt_hash(VISUALITY, visuality_question(FOX, []), "m", {}),
    }
    assert len(hashes) == 8
    assert prompt_hash(TYPES, type_question(FOX, CLASSES[::-1]), "m", {}) in hashes


def test_the_hash_is_the_same_in_another_process() -> None:
    """Nothing of it hangs on Python's own hashes, which differ from process to process."""
    code = (
        "from graph.enrich.prompts import *\n"
        "question = visuality_question(Subject('Q1', 'x'), [Candidate('Q2', 'y')])\n"
        "print(prompt_hash(VISUALITY, question, 'm', {'a': 1, 'b': 2}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    question = visuality_question(Subject("Q1", "x"), [Candidate("Q2", "y")])
    assert found == {prompt_hash(VISUALITY, question, "m", {"b": 2, "a": 1})}


# --------------------------------------------------------------------------------------------------
# What prompts are made from
# --------------------------------------------------------------------------------------------------

ENGLISH = recorded(
    [
        {
            "name": "english",
            "text": 'name = "english"\nlabels = ["en"]\n[[root]]\nid = "Q729"\n'
            'any = [{ path = "P279*" }]\n',
        }
    ]
)


def kept(id: str) -> tuple[str, list[str]]:
    """Say which part of the recipe keeps an entity, and its roots, as entities.parquet does."""
    return "english", ["Q729"]


THREE_HOPS = """
SELECT DISTINCT ?class ?links WHERE {
  { wd:%ID% %FIRST% ?class } UNION { wd:%ID% %FIRST%/wdt:P279 ?class }
  UNION { wd:%ID% %FIRST%/wdt:P279/wdt:P279 ?class }
  ?class rdfs:label ?label; wikibase:sitelinks ?links. FILTER(lang(?label) = "en")
  FILTER(?class NOT IN (wd:Q223557, wd:Q488383, wd:Q35120, wd:Q4406616, wd:%ID%))
  FILTER NOT EXISTS { ?class wdt:P279* wd:%ID% }
}"""


@st.composite
def labelled_worlds(draw: st.DrawFn) -> World:
    """Draw a world in which most things have a label and few sitelinks, one of them too general."""
    lines = []
    for line in draw(worlds.worlds()):
        text = json.dumps(line).replace('"Q729"', '"Q35120"').replace(": 729,", ": 35120,")
        made = json.loads(text)
        if draw(st.integers(0, 5)):
            made["labels"] = {"en": {"language": "en", "value": f"the {made['id']}"}}
        if made["type"] == "item":
            wikis = [f"{letter}wiki" for letter in "abc"[: draw(st.integers(0, 3))]]
            made["sitelinks"] = {wiki: {"site": wiki, "title": "x"} for wiki in wikis}
        lines.append(made)
    return World(lines)


@settings(max_examples=25)
@given(labelled_worlds())
def test_candidates_are_those_of_the_query_service(world: World) -> None:
    service = QueryService(world)
    with (
        tempfile.TemporaryDirectory() as folder,
        EntityStore(worlds.store(world, Path(folder))) as store,
    ):
        candidates = candidates_from(store, ENGLISH, kept)
        for id in MADE_UP[:7]:
            assert [c.id for c in candidates(id)] == expected_candidates(service, id)


def expected_candidates(service: QueryService, id: str) -> list[str]:
    def classes(first: str) -> list[tuple[int, int]]:
        query = THREE_HOPS.replace("%ID%", id).replace("%FIRST%", first)
        found = [(x["class"].value, int(x["links"].value)) for x in service.select(query)]
        return [
            (-links, int(iri.removeprefix(f"{WD}Q"))) for iri, links in found if f"{WD}Q" in iri
        ]

    above = service.select(f"SELECT ?c WHERE {{ wd:{id} wdt:P279 ?c }}")
    has_class = any(x["c"].value.startswith(f"{WD}Q") for x in above)
    found = classes("wdt:P279" if has_class else "wdt:P31")
    return [f"Q{number}" for _, number in sorted(found)][:10]


def test_a_hub_of_ten_thousand_classes_gives_ten_candidates() -> None:
    many = [f"Q{9000001000 + n}" for n in range(10_000)]
    claims = [worlds.statement("P279", id) for id in many]
    lines = [worlds.entity("Q9000000001", claims, labels={"en": "hub"})]
    lines += [worlds.entity(id, labels={"en": id}) for id in many]
    with (
        tempfile.TemporaryDirectory() as folder,
        EntityStore(worlds.store(World(lines), Path(folder))) as store,
    ):
        found = candidates_from(store, ENGLISH, kept)("Q9000000001")
    assert [candidate.id for candidate in found] == many[:10]


def entities_file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    nothing: dict[str, Any] = dict.fromkeys(ENTITIES.names)
    table = pa.Table.from_pylist([{**nothing, **row} for row in rows], schema=ENTITIES)
    pq.write_table(table, folder / "entities.parquet", row_group_size=3)
    return folder


def test_subjects_come_best_known_first_ties_by_id(tmp_path: Path) -> None:
    links = [3, 9, 3, 0, 9, 7, 1]
    rows = [
        {
            "id": f"Q{n}",
            "name": f"n{n}",
            "sitelinks": count,
            "aliases": ["x", "y"] if n == 2 else [],
        }
        for n, count in enumerate(links, 1)
    ]
    rows[5]["visual"] = False
    rows[6]["name"] = None
    graph = entities_file(tmp_path, rows)
    assert [s.id for s in Subjects(graph)] == ["Q2", "Q5", "Q6", "Q1", "Q3", "Q4"]
    assert next(iter(Subjects(graph))) == Subject("Q2", "n2", "", ("x", "y"))
    for limit in (1, 2, 3, 100):  # says how many will be wanted, and all are there
        assert [s.id for s in Subjects(graph, limit=limit)] == ["Q2", "Q5", "Q6", "Q1", "Q3", "Q4"]
    assert [s.id for s in Subjects(graph).spread(2, 3)] == ["Q2", "Q6"]
    visible = Subjects(graph, visible=True)
    assert [s.id for s in visible] == ["Q2", "Q5", "Q1", "Q3", "Q4"]
    assert visible.not_visual == 1
    assert [s.id for s in Subjects(graph).spread(3)] == ["Q2", "Q6", "Q4"]
    assert list(Subjects(entities_file(tmp_path, []))) == []
    assert list(Subjects(entities_file(tmp_path, [])).spread(3)) == []


def test_hints_are_what_wikidata_says_by_property(tmp_path: Path) -> None:
    rows = [
        ("Q2", "color", "red", "wikidata"),
        ("Q2", "part", "ear", "wikidata"),
        ("Q2", "color", "white", "wikidata"),
        ("Q2", "color", "red", "wikidata"),
        ("Q10", None, "blue", "llm:x"),
        ("Q10", "color", None, "wikidata"),
        ("Q11", "habitat", "woods", "wikidata"),
    ]
    names = ["entity", "property_name", "value", "source"]
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=names), tmp_path / "attributes.parquet")
    hints = hints_from(tmp_path)
    assert hints("Q2") == [Hint("color", ("red", "white")), Hint("part", ("ear",))]
    assert hints("Q11") == [Hint("habitat", ("woods",))]
    assert hints("Q10") == hints("Q1") == hints("Q999") == []


def test_without_a_file_of_attributes_there_are_no_hints(tmp_path: Path) -> None:
    assert hints_from(tmp_path)("Q2") == []


@pytest.mark.parametrize("task", [TYPES, VISUALITY, ATTRIBUTES])
def test_the_example_of_a_prompt_is_an_answer_that_would_count(task: Any) -> None:
    from graph.enrich.prompts import Question
    from graph.enrich.replies import answers_in

    candidates = {
        line.removeprefix("- ").partition(" (")[0]: Candidate("Q3314483", "fruit")
        for line in task.example.splitlines()
        if line.startswith("- Q")
    }
    questions = [Question(id, "", {}, candidates) for id in task.example_answer]
    found = answers_in(task, questions, json.dumps(task.example_answer))
    assert all(isinstance(answer, dict) for answer in found.values())
    for id in task.example_answer:
        assert f"{id}: " in task.example
