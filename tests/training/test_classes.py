"""Names of classes, from files and from a data set; sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

import training.vision  # noqa: F401
from etl.errors import UserError
from tests.training.shapes import IDS, write_graph
from training.classes import Class, from_file, from_graph, match_file, match_graph
from training.templates import NONE, OPENAI, filled, templates
from training.zeroshot import Prompts, asked, right_answers, sentences

import open_clip  # isort: skip


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "lion\n\n  cat \n", [Class("lion", ("lion",)), Class("cat", ("cat",))]),
        (
            "a.csv",
            'key,name,synonyms,type\nn01,lion,"king|Lion|Panthera leo",cat\n,tiger,,\n',
            [Class("n01", ("lion", "king", "Panthera leo"), "cat"), Class("tiger", ("tiger",))],
        ),
        (
            "a.json",
            '{"n01": "lion", "n02": ["tiger", "Panthera tigris"]}',
            [Class("n01", ("lion",)), Class("n02", ("tiger", "Panthera tigris"))],
        ),
        ("a.json", '["lion", "tiger"]', [Class("lion", ("lion",)), Class("tiger", ("tiger",))]),
        (  # Keras's and torchvision's imagenet_class_index.json
            "a.json",
            '{"0": ["n01440764", "tench"], "1": ["n01484850", "great_white_shark"]}',
            [Class("n01440764", ("tench",)), Class("n01484850", ("great white shark",))],
        ),
        (  # CUB's classes.txt
            "a.txt",
            "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
            [
                Class("001.Black_footed_Albatross", ("Black footed Albatross",)),
                Class("002.Laysan_Albatross", ("Laysan Albatross",)),
            ],
        ),
        ("a.txt", "1 Ceres\n", [Class("1 Ceres", ("1 Ceres",))]),
    ],
)  # fmt: skip
def test_names_come_from_lines_tables_and_json(
    tmp_path: Path, name: str, text: str, expected: list[Class]
) -> None:
    (tmp_path / name).write_text(text)
    assert from_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "\n", "no class"),
        ("a.txt", "crane\ncrane\n", "twice.* a .csv that has a key for each"),
        ("a.json", '{"n01": "lion", "n01": "tiger"}', "'n01' twice"),
        ("a.csv", "lion\ntiger\n", "no column 'name'"),
        ("a.csv", "key;name\nn01;lion\n", "by commas, not semicolons"),
        ("a.csv", "key,name\nn01,\n", "no key|no name|has no"),
        ("a.json", '["lion", "lion"]', "twice"),
        ("a.json", '{"n01": 5}', "can't be read"),
        ("a.json", "{", "can't be read"),
        ("a.xml", "<a/>", "ends in"),
    ],
)
def test_a_file_that_names_nothing_is_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        from_file(tmp_path / name)


def test_a_data_set_has_names_synonyms_and_natural_types(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph")
    (one,) = from_graph(graph, {IDS["red bar"]})
    assert one == Class(IDS["red bar"], ("red bar", "red bar thing"), "bar", ("Q1",))
    assert len(from_graph(graph)) == 11


def test_folders_are_found_by_id_by_name_or_stand_alone(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph")
    red = IDS["red disc"]
    found = match_graph([red, "Green_Disc", "blue bar thing", "unheard_of"], graph)
    assert found.label == {
        red: red,
        "Green_Disc": IDS["green disc"],
        "blue bar thing": IDS["blue bar"],
        "unheard_of": "unheard_of",
    }
    assert found.alone == ["unheard_of"]
    assert found.classes[-1].names == ("unheard of",)


def test_folders_without_a_line_are_named(tmp_path: Path) -> None:
    classes = [Class("n01", ("lion",)), Class("n02", ("tiger",))]
    found = match_file(["n01", "Tiger"], classes, tmp_path)
    assert found.label == {"n01": "n01", "Tiger": "n02"}
    for suffix, said in ((".csv", "give it as key"), (".txt", "add it, a name a line")):
        with pytest.raises(UserError, match=f"'dog': {said}"):
            match_file(["n01", "dog"], classes, tmp_path / f"names{suffix}")


def test_as_many_lines_as_folders_are_in_their_order(tmp_path: Path) -> None:
    classes = [Class("lion", ("lion",)), Class("tiger", ("tiger",))]
    found = match_file(["n02", "n01"], classes, tmp_path)
    assert found.label == {"n01": "lion", "n02": "tiger"}


def test_folders_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    """As strings 10 and 11 would come before 2."""
    classes = [Class(f"class {n}", (f"class {n}",)) for n in range(12)]
    found = match_file([str(n) for n in range(12)], classes, tmp_path)
    assert found.by_order
    assert found.label == {str(n): f"class {n}" for n in range(12)}


def test_a_name_comes_before_the_synonym_of_another_class(tmp_path: Path) -> None:
    classes = [Class("n01", ("mountain lion", "puma")), Class("n02", ("puma", "n01"))]
    found = match_file(["puma", "n01"], classes, tmp_path)
    assert found.label == {"puma": "n02", "n01": "n01"}
    assert not found.by_order


def test_the_number_before_a_folder_s_name_is_no_part_of_it(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph")
    found = match_graph(["001.red_disc", "red disc thing", "7.5_inch"], graph)
    assert found.label["001.red_disc"] == IDS["red disc"]
    assert found.united == [["001.red_disc", "red disc thing"]]
    assert found.alone == ["7.5_inch"]


def test_the_templates_are_those_that_open_clip_has() -> None:
    assert [t.replace("{}", "x") for t in OPENAI] == [
        template("x") for template in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    assert templates("openai") == OPENAI
    assert templates("none") == NONE == ("{}",)


def test_templates_come_from_a_file_and_have_one_place(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text("a photo of {}.\n\n{}, seen from above\n", "utf-8-sig")  # as of Windows
    assert templates(str(path)) == ("a photo of {}.", "{}, seen from above")
    path.write_text("a photo\n")
    with pytest.raises(UserError, match="'a photo' has 0 places"):
        templates(str(path))
    with pytest.raises(UserError, match="can't be read"):
        templates(str(tmp_path / "none.txt"))


def test_a_name_with_braces_is_only_a_name() -> None:
    assert filled("a photo of a {}.", "{0.__class__} {}") == "a photo of a {0.__class__} {}."


def test_the_natural_type_goes_before_the_full_stop() -> None:
    assert filled("a photo of a {}.", "lion", "mammal") == "a photo of a lion, a type of mammal."
    assert filled("{}", "lion", "mammal") == "lion, a type of mammal"


def test_nothing_is_called_a_type_of_itself() -> None:
    one = Class("Q1", ("Dog",), "dog")
    assert sentences(one, "Dog", Prompts(("{}",), types=True)) == ["Dog"]


def test_synonyms_alone_leave_out_who_has_none() -> None:
    classes = [Class("a", ("dog", "hound")), Class("b", ("cat",))]
    assert asked(classes, "name") == [Class("a", ("dog",)), Class("b", ("cat",))]
    assert asked(classes, "synonyms") == [Class("a", ("hound",))]
    assert asked(classes, "all") == classes


def test_classes_of_one_name_are_right_for_each_other_unless_types_tell_them_apart() -> None:
    classes = [
        Class("metal", ("mercury",), "substance"),
        Class("planet", ("Mercury",), "celestial body"),
        Class("lead", ("lead",), "substance"),
    ]
    plain, typed = Prompts(OPENAI), Prompts(OPENAI, types=True)
    found = right_answers([["planet"], ["lead", "?"], []], classes, plain)
    assert found.right == [[0, 1], [2], []]
    assert found.own == [[1], [2], []]
    assert [found.as_own(0, n) for n in range(3)] == [1, 1, 2]
    assert right_answers([["planet"]], classes, typed).right == [[1]]
