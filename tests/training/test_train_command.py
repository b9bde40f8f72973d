"""`sparqless train`, from shards to a model: killed at bad moments, it gives the same."""

from __future__ import annotations

import json
import shlex
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
#: for the so-manieth time: just before it is.
KILLED = """
import os, sys
name, number, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def watch(event, arguments):
    global left
    if event == "os.rename" and name in str(arguments[1]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)
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
    done = run(folder, "-c", KILLED, name, str(int(signal.SIGTERM)), "1", *arguments("killed"))
    assert done.returncode == 75, done.stderr
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


def figures(out: Path) -> list[list[Any]]:
    kept = ("step", "loss", "grad_norm", "lr", "logit_scale")
    return [[line[name] for name in kept] for line in metrics.read(out / "metrics.jsonl")]


def test_what_was_finished_stands_and_other_settings_are_refused(folder: Path, whole: Path) -> None:
    done = run(folder, "-m", "cli", *arguments("whole"))
    assert json.loads(done.stdout)["state"] == "stood"
    done = run(folder, "-m", "cli", *arguments("whole", "--set=text.alt_text_chance=0"))
    assert done.returncode == 1
    assert "finished run of another config (text.alt_text_chance)" in done.stderr


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
        ("data.workers=many", "data.workers is 'many'; it must be of the type int."),
        ("data.scale=[2,3]", "data: scale: (2.0, 3.0) is not two shares of the area"),
        ("model.name=ViT-Z-99", "model.name: open_clip has no network 'ViT-Z-99'"),
        ("data.split=none", "has no images in the split 'none'"),
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
    assert len(metrics.read(folder / "two/metrics.jsonl")) == json.loads(line)["steps"]
