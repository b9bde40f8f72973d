"""`sparqless ablate`: the same network on alt texts, on the graph's and on both, in one table."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from tests.console import start
from tests.training.data_sets import animals
from tests.training.packed import make_shards
from training.ablation import MIXES, Row, folder_of, rows, table


def test_each_mix_is_trained_evaluated_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images, graph, out = (tmp_path / name for name in ("images", "graph", "out"))
    make_shards(images, images=50, shard_count=4)
    animals(graph)
    changes = ("data.workers=0", "train.batch=16", "train.steps=1", "train.tensorboard=false")
    command = ["ablate", "tiny", "--images", images, "--graph", graph, "--out", out,
               "--seeds", "1", "--templates", "none", "--json",
               *(f"--set={change}" for change in changes)]  # fmt: skip

    def ablated() -> dict[str, list[float]]:
        done = CliRunner().invoke(cli, [str(one) for one in command])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["state"] in ("finished", "stood")
        return {row["measure"]: row["values"] for row in json.loads(done.stdout)["rows"]}

    found = ablated()
    assert {measure.partition(": ")[2] for measure in found} == {
        "acc1", "acc5", "image to text R@1", "text to image R@1"
    }  # fmt: skip
    for mix, chance in MIXES.items():
        config = (folder_of(out, mix, 0) / "config.toml").read_text()
        assert f"alt_text_chance = {chance}" in config
        (name,) = (folder_of(out, mix, 0) / "evaluations").iterdir()
        (one,) = json.loads(name.read_bytes())["sets"]
        (measure,) = (m for m in found if m.endswith("val: acc1"))
        assert found[measure][mix] == [100 * one["classification"]["score"]["acc1"]]
    assert "| alt | mix | graph |" in (out / "results.md").read_text()
    assert (out / "results.svg").exists()

    # what one run lacks isn't compared; what all have is
    shutil.copy(name, name.with_name("more.json"))
    assert ablated() == found
    for mix in MIXES:
        shutil.copy(name, folder_of(out, mix, 0) / "evaluations" / "more.json")
    assert len(ablated()) == 2 * len(found)
    assert [row.measure for row in rows(out, 1)] == list(ablated())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--templates", "nosuch.txt"), "nosuch.txt: can't be read"),
        (("--set", "text.alt_text_chance=1"), "what the runs of an ablation differ in"),
        (("--set", "train.steps=1", "--set", "text.pair=true"), "what the runs of an ablation"),
    ],
)
def test_what_would_be_noticed_late_is_noticed_at_once(
    tmp_path: Path, changes: tuple[str, ...], message: str
) -> None:
    make_shards(tmp_path / "images", images=12, shard_count=12)
    animals(tmp_path / "graph")
    given = [
        "--images",
        tmp_path / "images",
        "--graph",
        tmp_path / "graph",
        "--out",
        tmp_path / "o",
    ]
    done = CliRunner().invoke(cli, ["ablate", "tiny", *map(str, given), *changes])
    assert done.exit_code == 1
    assert message in done.output
    assert not (tmp_path / "out").exists()


def test_it_can_be_started_by_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process waits for the first, which evaluates, before each next run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_shards(tmp_path / "images", images=30, shard_count=4)
    animals(tmp_path / "graph")
    torchrun = "-W ignore -m torch.distributed.run --standalone --nproc-per-node=2 --no-python"
    command = (
        f"{sys.executable} -m cli ablate tiny --images images --graph graph --out out --seeds 1 "
        "--templates none --json "
        "--set data.workers=0 --set train.batch=8 --set train.steps=1"
    )
    done = start([sys.executable, *shlex.split(torchrun), *shlex.split(command)], tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["rows"]


def test_a_mix_is_bold_where_all_its_seeds_are_above_all_others() -> None:
    clear = Row("a, val: acc1", {"alt": [1.0, 2.0], "mix": [5.0, 6.0], "graph": [3.0, 4.0]})
    mixed = Row("a, val: acc5", {"alt": [1.0, 2.0], "mix": [5.0, 3.5], "graph": [3.0, 4.0]})
    lines = list(table([clear, mixed], 2))
    assert lines[2] == "| a, val: acc1 | 1.5 ± 0.7 | **5.5 ± 0.7** | 3.5 ± 0.7 |"
    assert "**" not in lines[3]
    assert "2 seeds" in lines[-1]
