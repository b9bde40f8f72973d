"""The command line keeps its promises: every command explains itself, and its examples run."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from cli import cli
from docs.commands import TARGET, commands, reference
from etl.sample.pictures import serving
from graph.export import TABLES
from tests.console import ROOT, run, start

BY_NAME = {name: command for name, command, _ in commands()}  # "enrich types" and the like, too
COMMANDS = sorted(BY_NAME)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make images` has been run, as the examples take it to be."""
    folder = tmp_path_factory.mktemp("built")
    for command in (
        "sample --out data/sample/dump.json.gz",
        "etl data/sample/dump.json.gz --store data/sample/store",
        "graph --store data/sample/store --out data/sample/graph/entitynet",
        "images find --graph data/sample/graph/entitynet --source commons-p18 "
        f"--commons {ROOT}/etl/sample/commons.toml --out data/sample/images/entitynet",
    ):
        done = run(command, folder)
        assert done.returncode == 0, done.stderr
    images = "data/sample/images/entitynet"
    with serving() as options:
        fetching = "images fetch --contact https://example.org/sample --quiet"
        done = run(shlex.join([*fetching.split(), "--images", images, *options]), folder)
    assert done.returncode == 0, done.stderr
    for command in (
        f"images pack --images {images} --out {images}/shards --quiet",
        f"train tiny --images {images} --graph data/sample/graph/entitynet --out data/runs/tiny "
        "--set train.batch=16 --set train.epochs=2 --quiet",
        f"export model --run data/runs/tiny --images {images} --out data/models/tiny",
    ):
        done = run(command, folder)
        assert done.returncode == 0, done.stderr
    return folder


def help_of(name: str) -> str:
    return BY_NAME[name].get_help(
        click.Context(BY_NAME[name], info_name=name, **cli.context_settings)
    )


def examples(text: str) -> list[str]:
    return re.findall(r"^\s+sparqless (.+)$", text.split("Example:")[1], re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_in_one_line_and_shows_an_example(name: str) -> None:
    short = BY_NAME[name].get_short_help_str(200)
    assert short.endswith(".")
    assert len(short) < 90
    assert any(example.startswith(f"{name} ") for example in examples(help_of(name)))


@pytest.mark.parametrize("name", ["cli", "enrich", "export", "images"])
def test_the_list_of_commands_fits_a_terminal(name: str) -> None:
    group = cli if name == "cli" else BY_NAME[name]
    assert isinstance(group, click.Group)
    text = group.get_help(
        click.Context(group, info_name=name, terminal_width=80, **cli.context_settings)
    )
    listed = text.split("Commands:")[1].split("\n\n")[0]
    assert len(listed.split("\n  ")) == len(group.commands) + 1
    assert "..." not in listed


def test_the_tables_to_export_are_those_of_a_data_set() -> None:
    (option,) = (p for p in BY_NAME["export table"].params if p.name == "table")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == TABLES


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for parameter in BY_NAME[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


def test_an_option_of_one_name_means_the_same_everywhere() -> None:
    seen: dict[str, tuple[str, object]] = {}
    for name in COMMANDS:
        for parameter in BY_NAME[name].params:
            if isinstance(parameter, click.Option) and parameter.opts[0] in ("--json", "--quiet"):
                found = (parameter.help or "", parameter.is_flag)
                assert seen.setdefault(parameter.opts[0], found) == found


@pytest.mark.parametrize("name", ["cli", *COMMANDS])
def test_examples_run(built: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"  # what one example writes is not what another begins with
    shutil.copytree(built, folder)
    text = (
        help_of(name) if name != "cli" else cli.get_help(click.Context(cli, **cli.context_settings))
    )
    for example in examples(text):
        # the contact of an example is only for what this machine serves
        with serving() if "--contact" in example else nullcontext(()) as options:
            done = run(shlex.join([*shlex.split(example), *options]), folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_reference_in_the_docs_is_the_commands_own_help() -> None:
    assert TARGET.read_text("utf-8") == reference()


def test_every_command_is_in_the_readme_or_its_reference() -> None:
    documented = (ROOT / "README.md").read_text("utf-8") + TARGET.read_text("utf-8")
    for name in COMMANDS:
        assert f"sparqless {name}" in documented


def test_the_commands_of_the_readme_run(built: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^\$ \.venv/bin/sparqless (.+)$", text, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        done = run(command, built)
        assert done.returncode == 0, done.stderr


def test_the_python_of_the_readme_runs(built: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    done = start([sys.executable, "-W", "ignore", "-c", code], built)
    assert done.returncode == 0, done.stderr
    assert "dog" in done.stdout


def test_the_python_of_the_docs_runs(built: Path) -> None:
    """Block after block, as one session; `# needs pandas` begins a block that may be left out."""
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    needs = [re.findall(r"^# needs (\w+)$", block, re.MULTILINE) for block in blocks]
    runnable = [b for b, n in zip(blocks, needs, strict=True) if all(map(find_spec, n))]
    assert len(runnable) >= 10
    done = start([sys.executable, "-W", "error", "-c", "\n".join(runnable)], built)
    assert done.returncode == 0, done.stderr
    assert "dog ['Q729']" in done.stdout


def test_the_questions_of_the_docs_about_fetches_are_answered(built: Path) -> None:
    """Why an address failed, in SQL; the files as they came, in Python."""
    text = (ROOT / "docs" / "images.md").read_text("utf-8")
    images = built / "data/sample/images/entitynet"
    questions = re.findall(r"```sql\n(.+?)```", text, re.DOTALL)
    assert len(questions) >= 3
    for question in questions:
        code = f"import duckdb; print(duckdb.sql({question!r}).fetchall())"
        done = start([sys.executable, "-c", code], images)
        assert done.returncode == 0, done.stderr
        # the sample's list of addresses isn't among the candidates here, so busy.test isn't
        assert done.stdout != "[]\n" or "busy.test" in question
    (code,) = (c for c in re.findall(r"```python\n(.+?)```", text, re.DOTALL) if "Bodies" in c)
    done = start([sys.executable, "-c", code], built)
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("*.jpg")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem
    file.unlink()


def test_the_recipe_of_the_docs_builds(built: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    own = next(
        code for code in re.findall(r"```toml\n(.+?)```", text, re.DOTALL) if "Q34379" in code
    )
    (built / "instruments.toml").write_text(own)
    out = "data/sample/graph/instruments"
    done = run(f"graph --store data/sample/store --recipe instruments.toml --out {out}", built)
    assert done.returncode == 1
    assert "--languages" in done.stderr  # as step 2 of the walk-through says
    built_store = "etl data/sample/dump.json.gz --languages de,en,mul --store data/german"
    assert run(built_store, built).returncode == 0
    done = run(f"graph --store data/german --recipe instruments.toml --out {out} --json", built)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entities"] > 5


@pytest.mark.parametrize(
    "command",
    [
        "entity Q144 --store data/sample/store --json",
        "closure Q729 --path P279+ --store data/sample/store --json",
        "explain Q144 --store data/sample/store --json",
        "explain Q144 --graph data/sample/graph/entitynet --json",
        "quality --graph data/sample/graph/entitynet --json",
        "verify data/sample/store --json",
        "verify data/sample/graph/entitynet --json",
        "etl data/sample/dump.json.gz --store data/sample/store --json",
        "etl data/sample/dump.json.gz --store data/new --dry-run --json",
        "graph --store data/sample/store --recipe world --out data/world --json",
        "enrich types --graph data/sample/graph/entitynet --store data/sample/store --model m "
        "--dry-run --json",
        "gaps --store data/sample/store --recipe living --json",
        "diff data/sample/graph/entitynet data/sample/graph/entitynet --json",
        "export entitynet --graph data/sample/graph/entitynet --out data/entitynet --json",
        "images fetch --images data/sample/images/entitynet --dry-run --json",
        "images fetch --images data/sample/images/entitynet --contact a@example.org "
        "--allow-host 127.0.0.1 --json",
        "images pack --images data/sample/images/entitynet "
        "--out data/sample/images/entitynet/shards --json",
    ],
)
def test_json_is_for_machines(built: Path, command: str) -> None:
    done = run(command, built)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_closure_prints_ids_and_entity_prints_names(built: Path) -> None:
    ids = run("closure Q729 --path 'P279*' --store data/sample/store", built).stdout.split()
    assert {"Q729", "Q144"} <= set(ids)
    assert all(re.fullmatch(r"Q\d+", id_) for id_ in ids)
    shown = run("entity Q144 --store data/sample/store", built).stdout
    assert shown.startswith("Q144  dog\n")
    assert "P279 subclass of" in shown


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("entity Q99999999 --store data/sample/store", "Q99999999 is not in data/sample/store"),
        ("etl http://127.0.0.1:9/x.json.gz --store data/x --dry-run", "need a contact"),
        ("entity dog --store data/sample/store", "'dog' is not an item or property id"),
        ("entity q144 --store data/sample/store", "Q144 or P31; did you mean Q144?"),
        ("entity Q1 --store data/nowhere", "data/nowhere holds no finished store"),
        ("images fetch --images data/sample/dump.json.gz --dry-run", "there is a file in its way"),
        ("verify data/nowhere", "data/nowhere has no manifest.json"),
        ("etl nothing.json --store data/x", "nothing.json: no such file"),
        ("explain Q144", "give --store, --graph or both"),
        ("explain Q144 --graph data/g --recipe world", "a recipe of its own"),
        ("quality --graph data/sample/store", "is the manifest of 'store', not of a graph"),
        ("quality --graph data/sample/graph/entitynet --kind cycles", "there is no kind 'cycles'"),
        ("graph --store data/sample/store --recipe lving --out data/y", "lving"),
        ("graph --store data/sample/store --recipe bad.toml --out data/y", "labelz"),
        ("closure Q729 --path 'P279**)' --store data/sample/store", "^\n"),
        ("etl data/sample/dump.json.gz --store data/sample/store --limit 3", "another --limit"),
        ("diff data/sample/graph/entitynet data/sample/store", "manifest of 'store'"),
        ("export table --graph data/sample/store --table entities --out -", "of 'store'"),
        ("images fetch --images data/sample/images/entitynet", "need a contact"),
        ("images fetch --images data/sample/graph --dry-run", "run `sparqless images find`"),
        ("images pack --images data/sample/graph --out data/x", "run `sparqless images find`"),
        ("export shards --shards data/sample/images --out data/x", "run `sparqless images pack`"),
        (
            "images pack --images data/sample/images/entitynet --out data/x --against bad.toml",
            "bad.toml, line 1: 'name' is no SHA-256",
        ),
        ("images pack --images data/begun --out data/x", "pack what there is with --unfinished"),
        ("images pack --images data/begun --out data/x --unfinished", "holds no images"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_1(built: Path, command: str, sentence: str) -> None:
    (built / "bad.toml").write_text('name = "bad"\nlabelz = ["en"]\n[[root]]\nid = "Q1"\n')
    if "data/begun" in command:  # a fetch of which nothing has come yet
        candidates = built / "data/begun/candidates"
        if not candidates.exists():
            shutil.copytree(built / "data/sample/images/entitynet/candidates", candidates)
        assert run("images fetch --images data/begun --dry-run", built).returncode == 0
    done = run(command, built)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_is_checked_before_the_dump_is_read(built: Path) -> None:
    """With 156 GB to read, a typing mistake must not show at the end."""
    for recipe, sentence in (("lving", "no recipe"), ("living --languages de", "--languages")):
        done = run(f"etl data/sample/dump.json.gz --store data/never --recipe {recipe}", built)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert not (built / "data/never").exists()


def test_a_second_run_says_that_there_was_nothing_to_do(built: Path) -> None:
    done = run("etl data/sample/dump.json.gz --store data/sample/store", built)
    assert "stood already" in done.stdout


def test_a_full_disk_is_one_sentence_for_every_command(built: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)); "
    for command in (
        ["sample", "--out", "full.json"],
        ["graph", "--store", "data/sample/store", "--out", "data/full"],
    ):
        done = start([sys.executable, "-c", f"{limit}import cli; cli.main()", *command], built)
        assert done.returncode == 1
        assert "is full" in done.stderr
        assert "Traceback" not in done.stderr


def test_closed_standard_input_is_said(built: Path) -> None:
    command = f"{sys.executable} -m cli etl - --store data/closed <&-"
    done = start(["bash", "-c", command], built)
    assert done.returncode == 1
    assert "no standard input" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(built: Path) -> None:
    command = f"{sys.executable} -m cli closure Q2424752 --path 'P279*' --store data/sample/store"
    done = start(["bash", "-c", f"set -o pipefail; {command} --names | head -1"], built)
    assert done.stderr == ""


def test_ctrl_c_says_how_to_go_on(built: Path) -> None:
    code = (
        "import os, signal, cli, etl.sample\n"
        # a job in the background is started with the signal ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "etl.sample.write_dump = lambda path: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.main()\n"
    )
    done = start([sys.executable, "-c", code, "sample", "--out", "x.json"], built)
    assert done.returncode == 130
    assert "Run the same command again" in done.stderr


def test_labels_cannot_steer_the_terminal(tmp_path: Path) -> None:
    label = {"language": "en", "value": "\x1b[2J\x07evil"}
    line = json.dumps({"type": "item", "id": "Q1", "labels": {"en": label}})
    (tmp_path / "dump.json").write_text(f"[\n{line}\n]\n")
    assert run("etl dump.json --store store --quiet", tmp_path).returncode == 0
    for command in ("entity Q1 --store store", "closure Q1 --path 'P279*' --names --store store"):
        assert "\x1b" not in run(command, tmp_path).stdout


HEAVY = {"numpy", "pyarrow", "lmdb", "networkx", "requests", "isal", "ray", "fsspec", "torch"}


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--help", set()),
        ("entity Q144", {"lmdb"}),
        ("find dog", {"numpy", "lmdb", "pyarrow"}),
        ("closure Q729 --path P279*", {"numpy", "lmdb", "pyarrow", "networkx"}),
        ("explain Q144 --recipe entitynet", {"lmdb"}),
    ],
)
def test_a_question_loads_no_library_that_it_does_not_need(
    built: Path, command: str, needed: set[str]
) -> None:
    """Help in the blink of an eye, and answers without what reads dumps."""
    words = command.split() + (["--store", "data/sample/store"] if needed else [])
    code = f"import sys, cli; cli.cli({words}, standalone_mode=False); print(*sys.modules)"
    done = start([sys.executable, "-c", code], built)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == needed
