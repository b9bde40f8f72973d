"""A data set is built in stages: a change rebuilds what depends on it, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import graph.build
from etl.errors import UserError
from graph.build import STAGES, build
from graph.directory import OUTPUTS
from graph.recipe import load
from graph.settings import AttributeSettings, QuerySettings
from tests.console import ROOT
from tests.graph.small_dump import entity, recipe_of, store_of

RECIPE = """
labels = ["en"]
description = "things"
[attributes]
values = 5
[queries]
budget = 3
[[root]]
id = "Q1"
any = [{ path = "P279*" }]
"""
COLOURS = ["Q20", "Q21", "Q22"]
THINGS = [
    entity("Q1", label="thing", claims={"P527": ["Q23"]}),
    *(
        entity(
            f"Q{n}",
            label=f"sort {n}",
            labels={"mul": f"Sorte {n}"},
            links=n,
            claims={"P279": [f"Q{n - 1}"], "P462": COLOURS, "P18": ["A.jpg"]},
        )
        for n in range(2, 7)
    ),
    *(entity(id, label=f"colour {id}") for id in COLOURS),
    entity("Q23", label="part"),
]
ALL = {stage.name for stage in STAGES}
FILES = [name for stage in STAGES for name in stage.outputs]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("things"), THINGS)


def run(store: Path, folder: Path, text: str = RECIPE, **options: Any) -> set[str]:
    """Build a recipe in `folder / "out"`; return the names of the stages that were run."""
    manifest = build(store, load(recipe_of(folder, text)), folder / "out", quiet=True, **options)
    assert json.loads((folder / "out" / "manifest.json").read_text())["outputs"].keys() == {*FILES}
    return ALL - set(manifest["reused"])


def on_disk(out: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return of each file its inode, its time and its bytes."""
    return {
        name: (
            (out / name).stat().st_ino,
            (out / name).stat().st_mtime_ns,
            (out / name).read_bytes(),
        )
        for name in FILES
    }


def written(stages: set[str]) -> set[str]:
    return {name for stage in STAGES if stage.name in stages for name in stage.outputs}


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], set()),
        ([('"things"', '"other things"')], set()),
        ([("[queries]", "# how many\n[queries]  # here")], set()),
        ([("budget = 3", "budget = 4")], {"queries"}),
        ([("budget = 3", "budget = 3\nseed = 7")], {"queries"}),
        ([("budget = 3", 'budget = 3\ntypes = ["name"]')], {"queries"}),
        ([("values = 5", "values = 2")], {"attributes", "queries"}),
        # nobody has answered: whose answers would count more changes nothing
        ([("values = 5", 'values = 5\nmodels = ["a"]')], set()),
        # three colours are fewer than five and fewer than four: the same attributes once more
        ([("values = 5", "values = 4")], {"attributes"}),
        ([('["en"]', '["mul", "en"]')], {"entities", "attributes", "queries"}),
        ([('["en"]', '["en", "mul"]')], {"entities", "attributes"}),
        ([("[[root]]", "[[root]]\nlimit = 2")], {"entities", "attributes", "queries"}),
    ],
)  # fmt: skip
def test_a_change_rebuilds_what_depends_on_it(
    changes: list[tuple[str, str]], expected: set[str], store: Path, tmp_path: Path
) -> None:
    assert run(store, tmp_path) == ALL
    before = on_disk(tmp_path / "out")
    changed = replaced(RECIPE, *changes)
    # what is wrong is looked for again where names or members may be others
    expected = expected | ({"quality"} if "entities" in expected else set())
    assert run(store, tmp_path, changed) == expected
    after = on_disk(tmp_path / "out")
    for name in written(ALL - expected):
        assert after[name] == before[name]
    # and what stands there is what a build from nothing gives
    run(store, tmp_path / "anew", changed)
    anew = on_disk(tmp_path / "anew" / "out")
    assert {name: file[2] for name, file in after.items()} == {
        name: file[2] for name, file in anew.items()
    }
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["texts"][0]["text"] == changed
    same = json.loads((tmp_path / "anew" / "out" / "manifest.json").read_text())
    for key in ("counts", "outputs", "store"):
        assert manifest[key] == same[key]
    # a warning may name the directory
    warnings = [text.replace(str(tmp_path / "anew"), str(tmp_path)) for text in same["warnings"]]
    assert manifest["warnings"] == warnings


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_file_that_somebody_touched_is_made_again_with_its_stage_alone(
    name: str, how: str, store: Path, tmp_path: Path
) -> None:
    run(store, tmp_path)
    before = on_disk(tmp_path / "out")
    if how == "changed":
        content = bytearray(before[name][2])
        content[len(content) // 2] ^= 1  # of the same length
        (tmp_path / "out" / name).write_bytes(content)
    else:
        (tmp_path / "out" / name).unlink()
    stage = next(stage for stage in STAGES if name in stage.outputs)
    assert run(store, tmp_path) == {stage.name}
    after = on_disk(tmp_path / "out")
    assert {name: file[2] for name, file in after.items()} == {
        name: file[2] for name, file in before.items()
    }
    for other in set(FILES) - set(stage.outputs):
        assert after[other] == before[other]


def test_fresh_makes_everything_anew(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path)
    before = on_disk(tmp_path / "out")
    assert run(store, tmp_path, fresh=True) == ALL
    after = on_disk(tmp_path / "out")
    assert all(after[name][0] != before[name][0] for name in FILES)
    assert all(after[name][2] == before[name][2] for name in FILES)


def test_another_store_makes_everything_anew(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path)
    # something that no table shows: still, what a stage reads can't be told from its key
    other = store_of(tmp_path / "other", [*THINGS, entity("Q99", label="elsewhere")])
    assert run(other, tmp_path) == ALL
    assert run(store, tmp_path) == ALL


CHANGES = {
    "inherit": "[attributes]\ninherit = 0",
    "values": "[attributes]\nvalues = 1",
    "types": '[queries]\ntypes = ["name"]',
    "engines": '[queries]\nengines = ["bing"]',
    "budget": "[queries]\nbudget = 1",
    "seed": "[queries]\nbudget = 1\nseed = 7",
}


def test_reference_bug_11_no_setting_goes_unread(store: Path, tmp_path: Path) -> None:
    """Every setting changes a data set; `models`, of answers that are there, in test_enrich_*."""
    named = [field.name for field in (*fields(AttributeSettings), *fields(QuerySettings))]
    assert {*named} == {*CHANGES, "models"}
    root = RECIPE[RECIPE.index("[[root]]") :]
    seen = set()
    for text in ("", *CHANGES.values()):
        run(store, tmp_path, f"{text}\n{root}", fresh=True)
        seen.add(tuple((tmp_path / "out" / name).read_bytes() for name in FILES))
    assert len(seen) == len(CHANGES) + 1


@pytest.mark.parametrize("table", ["visuality.tsv", "attributes.tsv"])
def test_a_table_beside_the_recipes_is_part_of_what_uses_it(
    table: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, tmp_path)
    digest = graph.build._table
    monkeypatch.setattr(
        graph.build, "_table", lambda name: digest(name) + ("changed" if name == table else "")
    )
    first = {"visuality.tsv": "entities", "attributes.tsv": "attributes"}[table]
    assert run(store, tmp_path) == {first}  # which gives the same bytes, so that nothing follows


def test_stages_that_fail_strictly_leave_the_older_data_set(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    nothing = replaced(RECIPE, ("[[root]]", "[[root]]\nmin_sitelinks = 999"))
    with pytest.raises(UserError, match="--strict: root Q1"):
        run(store, tmp_path, nothing, strict=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("budget = 3", "budget = 4")], id="queries alone"),
        pytest.param([('["en"]', '["mul", "en"]')], id="all stages"),
    ],
)
def test_a_killed_build_leaves_no_manifest_that_lies(
    changes: list[tuple[str, str]], store: Path, tmp_path: Path
) -> None:
    before = recipe_of(tmp_path / "before", RECIPE)
    after = recipe_of(tmp_path / "after", replaced(RECIPE, *changes))
    done = subprocess.run(
        [sys.executable, "-m", "tests.graph.killed_builds", store, before, after, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    # at least every file's appearance in its place, and the old manifest's end
    assert told["killed"] > 2 * len(written({"queries"}))


def test_a_build_is_the_same_whatever_the_order_of_sets(store: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from graph.build import build; "
        "from graph.recipe import load; store, recipe, out = map(Path, sys.argv[1:]); "
        "build(store, load(recipe), out, quiet=True)"
    )
    recipe = recipe_of(tmp_path, RECIPE)
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, store, recipe, tmp_path / seed],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
    for name in FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_an_answer_about_a_type_rebuilds_what_reads_types(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path)
    (folder := tmp_path / "out" / "enrich" / "m").mkdir(parents=True)
    answer = {"natural_type": "Q23", "natural_type_name": "part", "explanation": "it seems so"}
    line = {"entity": "Q3", "prompt": "0" * 64, "answer": answer}
    (folder / "types.ndjson").write_text(json.dumps(line) + "\n")
    assert run(store, tmp_path) == {"entities", "queries"}
    (row,) = [
        row
        for row in pq.read_table(tmp_path / "out" / "entities.parquet").to_pylist()
        if row["id"] == "Q3"
    ]
    assert (row["natural_type"], row["natural_type_reason"]) == ("Q23", "llm:m: it seems so")
    (folder / "types.ndjson").unlink()
    assert run(store, tmp_path) == {"entities", "queries"}


def test_a_model_that_has_answered_nothing_is_a_warning(store: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("values = 5", 'values = 5\nmodels = ["misspelt"]')
    run(store, tmp_path, text)
    (warning,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"]
    assert "'misspelt'" in warning
    with pytest.raises(UserError, match=r"--strict: .*misspelt"):
        run(store, tmp_path, text, strict=True)


def test_what_may_stand_in_a_data_set_is_what_the_stages_write() -> None:
    assert [*OUTPUTS] == FILES
