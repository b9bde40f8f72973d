"""What models answered is merged by the reference's rules, and within the budget, fairly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import UserError
from graph.enrich.answers import (
    Attribute,
    digest_of_answers,
    is_valid,
    read_attributes,
    read_types,
    read_visuality,
)
from graph.enrich.journal import Line, model_directory, read_lines
from tests.console import ROOT

Items = Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]  # entity, category, pairs


def write(graph: Path, model: str, task: str, answers: Sequence[tuple[str, Any]]) -> Path:
    """Write a file of answers as a run does."""
    file = model_directory(graph, model) / f"{task}.ndjson"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"entity": entity, "prompt": f"{number:064x}", "answer": answer})
        for number, (entity, answer) in enumerate(answers)
    ]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return file


def write_attributes(graph: Path, model: str, items: Items) -> Path:
    answers = [
        (
            entity,
            {
                category: [{"attribute": a, "query": q} for a, q in pairs]
                for category, pairs in by_category.items()
            },
        )
        for entity, by_category in items.items()
    ]
    return write(graph, model, "attributes", answers)


def chosen(type_: str) -> dict[str, str]:
    return {"natural_type": type_, "natural_type_name": f"the {type_}", "explanation": "so"}


def test_the_best_model_that_answered_wins(tmp_path: Path) -> None:
    write(tmp_path, "a", "types", [("Q1", chosen("Q10")), ("Q2", chosen("Q10"))])
    write(tmp_path, "org/b:7b", "types", [("Q2", chosen("Q20")), ("Q3", chosen("Q20"))])
    write(tmp_path, "c", "types", [(f"Q{n}", chosen("Q30")) for n in range(1, 5)])
    found = {e: a.natural_type for e, a in read_types(tmp_path, ["org/b:7b"]).items()}
    assert found == {"Q2": "Q20", "Q3": "Q20", "Q1": "Q10", "Q4": "Q30"}
    assert read_types(tmp_path, ["org/b:7b"])["Q3"].model == "org/b:7b"
    assert read_types(tmp_path)["Q2"].natural_type == "Q10"  # by name, where none is preferred
    assert read_types(tmp_path, ["nobody", "c"])["Q2"].natural_type == "Q30"


def test_of_two_answers_of_a_model_the_later_counts(tmp_path: Path) -> None:
    answers = [
        ("Q1", {"visual": True, "explanation": ""}),
        ("Q1", {"visual": False, "explanation": "no"}),
    ]
    write(tmp_path, "a", "visuality", answers)
    assert read_visuality(tmp_path)["Q1"].visual is False


def test_without_answers_there_are_none(tmp_path: Path) -> None:
    assert read_types(tmp_path) == read_visuality(tmp_path) == {}
    assert read_attributes(tmp_path, ["Q1"]) == []


def test_a_line_that_a_run_is_still_writing_is_not_there_yet(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "types", [("Q1", chosen("Q10")), ("Q2", chosen("Q10"))])
    file.write_bytes(file.read_bytes()[:-5])
    assert list(read_types(tmp_path)) == ["Q1"]


@pytest.mark.parametrize("answer", [{}, {"natural_type": 7}, {"visual": "yes", "explanation": ""}])
def test_an_answer_of_another_form_is_named(tmp_path: Path, answer: dict[str, Any]) -> None:
    write(tmp_path, "a", "types", [("Q1", answer)])
    write(tmp_path, "a", "visuality", [("Q1", answer)])
    write(tmp_path, "b", "attributes", [("Q1", {"Color": 7})])
    with pytest.raises(UserError, match=r"types\.ndjson"):
        read_types(tmp_path)
    with pytest.raises(UserError, match=r"visuality\.ndjson"):
        read_visuality(tmp_path)
    with pytest.raises(UserError, match=r"attributes\.ndjson"):
        read_attributes(tmp_path, ["Q1"])


def test_the_digest_changes_with_the_answers_and_not_with_their_cost(tmp_path: Path) -> None:
    empty = digest_of_answers(tmp_path, "types")
    file = write(tmp_path, "a", "types", [("Q1", chosen("Q10"))])
    first = digest_of_answers(tmp_path, "types")
    file.write_text(file.read_text().replace("}\n", ', "tokens_in": 7}\n'))
    assert digest_of_answers(tmp_path, "types") == first
    write(tmp_path, "b", "types", [("Q1", chosen("Q10"))])
    second = digest_of_answers(tmp_path, "types")
    write(tmp_path, "b", "types", [("Q1", chosen("Q20"))])
    assert len({empty, first, second, digest_of_answers(tmp_path, "types")}) == 4


# --------------------------------------------------------------------------------------------------
# Attributes
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "query", "valid"),
    [
        ("red", "red fox", True),
        ("Note", "red fox", False),
        ("NOTE", "red fox", False),
        ("notebook", "Note", False),
        ("None", "red fox", False),
        ("red", "not Applicable", False),
        ("none of the above", "x", False),  # 17 characters
        ("none is visible.", "x", True),  # 16
        ("nonecolour of the fox", "x", True),
        ("x" * 100, "x", True),
        ("x" * 101, "x", False),
        ("red", "x" * 101, False),
        ("", "x", False),
        ("grün-weiß 3½", "犬", True),
    ],
)
def test_what_is_no_attribute_is_known_by_the_references_rules(
    attribute: str, query: str, valid: bool
) -> None:
    assert is_valid(attribute, query) is valid


def test_an_attribute_or_query_that_came_before_is_dropped_case_aside(tmp_path: Path) -> None:
    write_attributes(tmp_path, "good", {"Q1": {"Color": [("Red", "red fox"), ("white", "tail")]}})
    worse = [("RED", "another query"), ("rust", "Red FOX"), ("black", "black paws")]
    write_attributes(tmp_path, "worse", {"Q1": {"Color": worse, "Parts": [("red", "red fox")]}})
    found = read_attributes(tmp_path, ["Q1"], ["good"])
    assert [(a.category, a.attribute, a.model) for a in found] == [
        ("Color", "Red", "good"),
        ("Color", "white", "good"),
        ("Color", "black", "worse"),
        ("Parts", "red", "worse"),
    ]


def test_fewer_attributes_than_the_budget_are_all_kept(tmp_path: Path) -> None:
    """The reference writes empty files then."""
    items = {f"Q{n}": {"Color": [("a", "b"), ("c", "d")]} for n in range(1, 4)}
    write_attributes(tmp_path, "m", items)
    entities = ["Q3", "Q1", "Q2"]
    for budget in (6, 7, 92_000):
        found = read_attributes(tmp_path, entities, budget=budget)
        assert [a.entity for a in found] == ["Q3", "Q3", "Q1", "Q1", "Q2", "Q2"]


CATEGORIES = ("Color", "Parts", "Other")


@st.composite
def drawn_items(draw: st.DrawFn) -> dict[str, dict[str, list[tuple[str, str]]]]:
    counts = st.dictionaries(st.sampled_from(CATEGORIES), st.integers(1, 8))
    entities = draw(st.lists(counts, min_size=1, max_size=8))
    return {
        f"Q{n}": {c: [(f"a{k}", f"q{k}") for k in range(count)] for c, count in by.items()}
        for n, by in enumerate(entities, 1)
    }


@settings(max_examples=60)
@given(items=drawn_items(), budget=st.integers(0, 60), seed=st.integers(0, 3))
def test_the_budget_is_met_exactly_and_taken_from_the_least_known(
    tmp_path_factory: pytest.TempPathFactory,
    items: dict[str, dict[str, list[tuple[str, str]]]],
    budget: int,
    seed: int,
) -> None:
    graph = tmp_path_factory.mktemp("budget")
    write_attributes(graph, "m", items)
    entities = list(items)[::-1]  # best known first
    found = read_attributes(graph, entities, budget=budget, seed=seed)
    sizes = {(e, c): len(pairs) for e in entities for c, pairs in items[e].items()}
    total = sum(sizes.values())
    assert len(found) == min(budget, total)
    assert len(set(found)) == len(found)
    assert all((a.attribute, a.query) in items[a.entity][a.category] for a in found)
    if total <= budget:
        return
    share = next(n for n in range(9) if sum(min(n, size) for size in sizes.values()) >= budget)
    assert share >= ceil(budget / len(sizes))
    kept = Counter((a.entity, a.category) for a in found)
    lost = {pair: min(size, share) - kept[pair] for pair, size in sizes.items()}
    assert set(lost.values()) <= {0, 1}
    # what stands after a pair that lost one has lost one, too
    losses = [lost[e, c] for e in entities for c in CATEGORIES if (e, c) in lost]
    assert losses == sorted(losses)


@settings(max_examples=20)
@given(order=st.permutations(range(6)))
def test_which_attributes_are_kept_does_not_depend_on_the_order_of_files(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    items = {f"Q{n}": {"Color": [(f"a{k}", f"q{k}") for k in range(9)]} for n in range(1, 7)}
    entities = list(items)
    found: list[list[Attribute]] = []
    for ids in (list(items), [entities[n] for n in order]):
        graph = tmp_path_factory.mktemp("order")
        write_attributes(graph, "m", {id: items[id] for id in ids})
        found.append(read_attributes(graph, entities, budget=20))
    assert found[0] == found[1]


def test_the_seed_decides_what_is_kept(tmp_path: Path) -> None:
    write_attributes(tmp_path, "m", {"Q1": {"Color": [(f"a{k}", f"q{k}") for k in range(100)]}})
    kept = [
        {a.attribute for a in read_attributes(tmp_path, ["Q1"], budget=30, seed=seed)}
        for seed in (42, 42, 43)
    ]
    assert kept[0] == kept[1] != kept[2]
    # drawn over all, not the first ones: 30 of the last 70 would be none
    assert any(int(attribute[1:]) >= 30 for attribute in kept[0])


def test_the_choice_is_the_same_in_another_process(tmp_path: Path) -> None:
    write_attributes(tmp_path, "m", {"Q1": {"Color": [(f"a{k}", f"q{k}") for k in range(50)]}})
    code = (
        "import sys; from pathlib import Path; from graph.enrich.answers import read_attributes\n"
        "print(*(a.attribute for a in read_attributes(Path(sys.argv[1]), ['Q1'], budget=9)))\n"
        "print({'requests', 'urllib3'} & set(sys.modules) or 'no network')"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().endswith("no network\n")


@pytest.mark.parametrize("piece", [1, 30, 64, 1 << 22])
def test_lines_about_one_entity_are_those_of_all_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Whatever stands in answers, and wherever a piece of the file ends."""
    monkeypatch.setattr("graph.enrich.journal._PIECE", piece)
    told = {"explanation": 'not {"entity":"Q1","prompt"', "natural_type": "Q1"}
    ids = ["Q1", "Q12", "Q2", "Q1", "Q21", "Q3", "Q1"]
    rows = [Line(id, f"{n:064x}", told) for n, id in enumerate(ids)]
    whole = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    cut = msgspec.json.encode(Line("Q2", "0" * 64, told))
    file = tmp_path / "types.ndjson"
    for text in (whole, whole + cut, whole + cut[:30], b""):
        file.write_bytes(text)
        every = list(read_lines(file))
        assert len(every) == (len(rows) if text else 0)
        for id in {*ids, "Q4"}:
            expected = [(offset, line) for offset, line in every if line.entity == id]
            assert list(read_lines(file, id)) == expected


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", "  :  ")])
def test_one_entity_s_answers_are_found_however_a_tool_has_spaced_the_file(
    tmp_path: Path, separators: tuple[str, str]
) -> None:
    file = write(tmp_path, "a", "types", [("Q1", chosen("Q2")), ("Q2", chosen("Q1"))])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    spaced = [json.dumps(dict(reversed(x.items())), separators=separators) for x in lines]
    file.write_text("".join(f"{line}\n" for line in spaced))
    assert read_types(tmp_path, (), "Q2") == {"Q2": read_types(tmp_path)["Q2"]}
