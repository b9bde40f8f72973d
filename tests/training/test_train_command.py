"""`sparqless train`, from shards to a model: killed at bad moments, it gives the same."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.console import start
from tests.training.data_sets import animals
from tests.training.packed import make_shards
from training import metrics

#: Runs the command, and sends a signal to itself when a file or folder of some name is put in place
#: for the so-manieth time: just before it is. To all processes of its own, as torchrun sends it.
KILLED = """
import os, sys
os.setsid()
name, number, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def watch(event, arguments):
    global left
    if event == "os.rename" and name in str(arguments[1]):
        left -= 1
        if left == 0:
            os.killpg(0, number)
sys.addaudithook(watch)
sys.argv = ["sparqless", *sys.argv[4:]]
from cli import main
main()
"""

#: Hides torch as if it weren't installed.
LACKING = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
sys.argv = ["sparqless", *sys.argv[1:]]
from cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 80 images, and a data set."""
    made = tmp_path_factory.mktemp("made")
    make_shards(made / "images", images=90, shard_count=4)
    animals(made / "graph")
    return made


def arguments(out: str, *more: str) -> list[str]:
    given = f"train tiny --images images --graph graph --out {out} --json"
    settings = {
        "train.batch": 16, "train.epochs": 2, "train.log_steps": 1, "train.checkpoint_steps": 2,
        "train.keep_last": 9, "train.tensorboard": "false", "text.per_image": 2,
    }  # fmt: skip
    changes = [f"--set={key}={value}" for key, value in settings.items()]
    return [*shlex.split(given), *changes, *more]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return start([sys.executable, *command], folder)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run that was never interrupted."""
    done = run(folder, "-m", "cli", *arguments("whole"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    return folder / "whole"


def test_killed_and_gone_on_is_never_killed(folder: Path, whole: Path) -> None:
    out, name = folder / "killed", "step-00000004"
    done = run(folder, "-c", KILLED, name, str(int(signal.SIGKILL)), "1", *arguments("killed"))
    assert done.returncode == -signal.SIGKILL
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        "step-00000002",
        "step-00000004.writing",
    ]
    # as an epoch ends: it is evaluated, and no other step is made
    name = "step-00000005"
    done = run(folder, "-c", KILLED, name, str(int(signal.SIGTERM)), "1", *arguments("killed"))
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("Warning") == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "stopped"
    assert json.loads(done.stdout)["checkpoint"] == "killed/checkpoints/step-00000005"
    assert not (out / "manifest.json").exists()
    done = run(folder, "-m", "cli", *arguments("killed"))
    assert json.loads(done.stdout)["state"] == "finished", done.stderr
    last = sorted((whole / "checkpoints").iterdir())[-1].name
    for file in (
        "model/open_clip_model.safetensors",
        f"checkpoints/{last}/model.safetensors",
        f"checkpoints/{last}/optimizer.safetensors",
    ):
        assert (out / file).read_bytes() == (whole / file).read_bytes()
    assert figures(out) == figures(whole)


def figures(out: Path) -> list[dict[str, Any]]:
    """The lines of a run, but for what time decides."""
    return [
        {name: line[name] for name in line if "second" not in name and name != "data_wait"}
        for line in metrics.read(out / "metrics.jsonl")
    ]


def test_it_is_asked_meanwhile_about_images_that_it_does_not_learn(
    folder: Path, whole: Path
) -> None:
    asked = [line for line in figures(whole) if "loss" not in line]
    assert [line["step"] for line in asked] == [5, 10]  # the ends of its epochs
    last = asked[-1]
    found = run(folder, *shlex.split(
        "-m cli evaluate --run whole --images images --graph graph --split val --templates none "
        "--texts 1 --json"
    ))  # fmt: skip
    (result,) = json.loads(found.stdout)["sets"]
    assert last["val_images"] == result["images"] > 3
    assert last["val_acc1"] == result["classification"]["score"]["acc1"]
    assert last["val_t2i_R@1"] == result["retrieval"]["t2i"]["R@1"]
    manifest = json.loads((whole / "manifest.json").read_bytes())
    assert manifest["metrics"]["val_acc1"] == last["val_acc1"]


def test_nothing_that_is_learned_depends_on_being_asked(folder: Path, whole: Path) -> None:
    done = run(folder, "-m", "cli", *arguments("unasked", "--set=evaluate.epochs=0"))
    assert done.returncode == 0, done.stderr
    name = "model/open_clip_model.safetensors"
    assert (folder / "unasked" / name).read_bytes() == (whole / name).read_bytes()
    assert figures(folder / "unasked") == [line for line in figures(whole) if "loss" in line]


def test_an_evaluation_that_was_interrupted_is_made_up_for(folder: Path, whole: Path) -> None:
    out = folder / "unanswered"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:-1]))
    done = run(folder, "-m", "cli", *arguments("unanswered"))
    assert json.loads(done.stdout)["state"] == "finished", done.stderr
    assert figures(out) == figures(whole)


def test_an_evaluation_that_goes_wrong_ends_nothing(folder: Path) -> None:
    names = folder / "names.txt"
    names.write_text("cup\nspoon\n")
    more = (f"--set=evaluate.classes={names}", "--set=evaluate.texts=0", "--set=train.epochs=1")
    done = run(folder, "-m", "cli", *arguments("cups", *more))
    assert done.returncode == 0, done.stderr
    assert "step 5 couldn't be evaluated: " in done.stderr
    assert json.loads(done.stdout)["state"] == "finished"


def test_shards_with_nothing_held_out_are_only_learned(folder: Path) -> None:
    more = ("--set=evaluate.split=test", "--set=train.steps=1")
    done = run(folder, "-m", "cli", *arguments("all", *more))
    assert done.returncode == 0, done.stderr
    assert "has no image in test, so nothing is evaluated meanwhile" in done.stderr


def test_what_was_finished_stands_and_other_settings_are_refused(folder: Path, whole: Path) -> None:
    done = run(folder, "-m", "cli", *arguments("whole"))
    assert json.loads(done.stdout)["state"] == "stood"
    done = run(folder, "-m", "cli", *arguments("whole", "--set=text.alt_text_chance=0"))
    assert done.returncode == 1
    assert "another config or other data (text.alt_text_chance)" in done.stderr


def test_what_was_finished_does_not_stand_for_other_images(
    folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from cli import cli

    monkeypatch.chdir(folder)
    make_shards(folder / "others", images=20, shard_count=2)
    done = CliRunner().invoke(cli, [*arguments("whole"), "--images=others"])
    assert done.exit_code == 1
    assert "whole is a finished run of another config or other data (shards)" in done.output


def test_it_says_what_to_do_without_torch(folder: Path) -> None:
    done = run(folder, "-c", LACKING, *arguments("lacking"))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: training needs torch, which isn't installed: install")
    assert done.stderr.count("\n") == 1
    for others in ("--help", "images --help", "train --help"):
        assert run(folder, "-c", LACKING, *others.split()).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.lrr=1", "unknown key train.lrr; did you mean lr?"),
        ("text.alt_text_chanc=1", "unknown key text.alt_text_chanc; did you mean alt_text_chance?"),
        ("text.alt_text_chance=2", "text: alt_text_chance: 2.0 is not a share from 0 to 1."),
        ("text.filter.op=some", "text.filter: Invalid enum value 'some' - at `op`."),
        ("text.per_image=0", "text.per_image is 0; it must be 1 or more."),
        ("data.workers=-1", "data.workers is -1; it must be 0 or more."),
        ("data.workers=many", "data.workers is 'many'; it must be of the type int."),
        ("data.scale=[2,3]", "data: scale: (2.0, 3.0) is not two shares of the area"),
        ("model.name=ViT-Z-99", "model.name: open_clip has no network 'ViT-Z-99'"),
        ("data.split=none", "has no images in the split 'none'"),
        ("evaluate.epoch=1", "unknown key evaluate.epoch; did you mean epochs?"),
        ("evaluate.split=none", "evaluate.split is 'none'; shards have train, val, test."),
        ("evaluate.templates=none.txt", "--templates none.txt: can't be read"),
        ("evaluate.classes=none.txt", "none.txt"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    from click.testing import CliRunner

    from cli import cli

    monkeypatch.chdir(folder)
    done = CliRunner().invoke(cli, arguments("wrong", f"--set={change}"))
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_it_can_be_started_by_torchrun(folder: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    done = run(folder, *torchrun, sys.executable, "-m", "cli", *arguments("two"))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["state"] == "finished"
    lines = metrics.read(folder / "two/metrics.jsonl")
    assert sum("loss" in line for line in lines) == json.loads(line)["steps"]
    assert sum("val_acc1" in line for line in lines) == 2
