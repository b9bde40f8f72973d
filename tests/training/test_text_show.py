"""`sparqless texts`: what a person sees of an image's texts."""

from __future__ import annotations

import json
import re
import sys
from contextlib import chdir
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import cli
from tests.console import ROOT, start
from tests.training.data_sets import animals, write_shards
from training.config import as_toml, of
from training.text import Texts
from training.text_build import build
from training.text_image import Image
from training.text_options import TextFilter, TextOptions
from training.text_show import show

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set in graph/, and shards in images/shards/."""
    folder = tmp_path_factory.mktemp("show")
    animals(folder / "graph")
    image = {
        "key": KEY, "entities": ["Q144"], "query_hashes": ["brown-dog"],
        "texts": ["Rex\x1b[2J", "Hund"], "text_langs": ["en", "de"], "sources": ["url-list"],
    }  # fmt: skip
    write_shards(folder / "images" / "shards", [image, {"key": "f" * 32}])
    return folder


def run(arguments: str, work: Path) -> Result:
    """The command in this process: another would take longer to start than to answer."""
    with chdir(work):
        return CliRunner().invoke(cli, ["texts", *arguments.split()])


def lines(work: Path, arguments: str) -> list[str]:
    done = run(f"{arguments} --graph graph", work)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_an_images_texts_are_shown_with_shares_and_sources(work: Path) -> None:
    for images in ("images", "images/shards"):
        first, second, *_, rest = lines(work, f"{KEY} --images {images} --limit 5")
        assert first == " 50.00%  Rex\N{REPLACEMENT CHARACTER}[2J  (alt text)"
        assert second.endswith("brown dog  (query, attribute and name, query with name)")
        assert "more texts; --limit shows them" in rest


def test_an_entity_and_a_query_are_shown_too(work: Path) -> None:
    assert "dog  (query, name)" in lines(work, "Q144")[0]
    assert lines(work, "lost") == ["100.00%  unheard of  (query)"]


def test_json_has_what_is_shown(work: Path) -> None:
    (text,) = lines(work, f"{KEY} --images images --limit 3 --json")
    found = json.loads(text)
    assert (found["key"], found["kind"], len(found["table"])) == (KEY, "image", 3)
    assert found["texts"] > 10
    assert found["table"][0] == {
        "text": "Rex\x1b[2J", "probability": 0.5, "sources": ["alt_text"],
    }  # fmt: skip


def test_what_is_drawn_is_what_training_draws(work: Path) -> None:
    texts = Texts.open(build(work / "graph", work / "tables"))
    image = Image.of(KEY, ["Q144"], ["brown-dog"], ["Rex\x1b[2J"])
    expected = [texts.draw(image, 9, epoch) for epoch in range(3, 8)]
    shown = show(KEY, work / "graph", work / "images", draw=5, epoch=3, seed=9)
    assert shown.drawn == expected
    printed = lines(work, f"{KEY} --images images --draw 5 --epoch 3 --seed 9")
    assert [line.split("\t")[0] for line in printed] == ["3", "4", "5", "6", "7"]
    (text,) = lines(work, f"{KEY} --images images --draw 5 --epoch 3 --seed 9 --json")
    assert [one["text"] for one in json.loads(text)["drawn"]] == expected


def test_a_runs_options_can_be_shown(work: Path) -> None:
    """What `--set` changes, and what stands in the config of a run."""
    run_config = as_toml(of({"text": {"alt_text_chance": 0, "filter": {"keep_roots": ["Q756"]}}}))
    (work / "run.toml").write_text(run_config)
    graph_only = lines(work, f"{KEY} --images images --config run.toml")
    assert not any("alt text" in line for line in graph_only)
    assert graph_only == lines(work, f"{KEY} --images images --set text.alt_text_chance=0")
    first, *_ = lines(work, "Q144 --set text.noun_names=0")
    assert first == " 90.91%  dog  (query)"
    done = run("Q144 --graph graph --set text.nouns=1", work)
    assert "unknown key text.nouns" in done.stderr


def test_an_image_of_which_nothing_is_known_is_told(work: Path) -> None:
    key = "f" * 32
    (line,) = lines(work, f"{key} --images images")
    assert line == f"Nothing is known of the image {key} that it may be told to be."
    assert lines(work, f"{key} --images images --draw 1") == ["0\t(none: nothing is known of it)"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("nope --images images --graph graph", "'nope' is no image of images, no entity and no"),
        (f"{KEY} --graph graph", "For an image, give --images."),
        ("Q1 --graph graph", "Q1 is no entity of graph; `sparqless explain Q1"),
        (f"{KEY} --images graph --graph graph", "graph holds no finished shards: give"),
        (f"{KEY} --images nowhere --graph graph", "nowhere holds no finished shards"),
        ("Q144 --graph images", "images holds no finished graph"),
        ("Q144 --graph images/shards", "is the manifest of 'shards', not of a graph"),
    ],
)
def test_what_is_wrong_is_one_sentence(work: Path, command: str, sentence: str) -> None:
    done = run(command, work)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_python_of_the_docs_runs(tmp_path: Path) -> None:
    animals(tmp_path / "data/sample/graph/entitynet")
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs/texts.md").read_text(), re.DOTALL)
    done = start([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Rex in the garden" in done.stdout


def test_the_docs_name_every_option() -> None:
    text = (ROOT / "docs/texts.md").read_text()
    for options in (TextOptions, TextFilter):
        assert [f.name for f in fields(options) if f"`{f.name}`" not in text] == []
