"""A run learns, can be interrupted anywhere, and says what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from etl.errors import UserError
from etl.manifest import is_untouched
from etl.verify import verify
from tests.console import ROOT
from tests.training.in_memory import COLOURS, InMemory, small
from training import metrics
from training.config import load, of
from training.train import Ended, train

torch.set_num_threads(1)
WEIGHTS = "model/open_clip_model.safetensors"


def run(out: Path, source: InMemory | None = None, **settings: Any) -> Ended:
    return train(small(**settings), source or InMemory(), out, quiet=True)


def command(*arguments: str, processes: int = 1, **settings: Any) -> list[str]:
    begin = [sys.executable, "-W", "error"]
    if processes > 1:
        begin += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        begin += ["--master-addr=127.0.0.1", "--master-port=0", "--rdzv-backend=c10d"]
        begin += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    return [*begin, "-m", "tests.training.train_in_memory", *arguments, json.dumps(settings)]


def in_processes(
    out: Path, processes: int = 1, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """A run in processes of its own."""
    return subprocess.run(
        command(str(out), processes=processes, **settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def weights(out: Path) -> bytes:
    return (out / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted: 3 epochs of 4 steps."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(out).how == "finished"
    return out


# --- what comes out -----------------------------------------------------------------------------


def test_the_loss_falls_and_names_are_learned(tmp_path: Path) -> None:
    import open_clip  # not before torchvision can be imported: training/vision.py

    ended = run(tmp_path / "run", InMemory(256), batch=32, epochs=8, warmup_epochs=1, lr=2e-3)
    lines = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert ended.steps == len(lines) == 64
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    # 32 images of 8 colours: who knows the colour has one in four of that to guess from
    net, prepare = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'run/model'}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'run/model'}")
    assert tokenize(["a"]).shape == (1, 32)
    plain = torch.stack([torch.tensor(c).view(3, 1, 1).expand(3, 32, 32) for c in COLOURS.values()])
    with torch.no_grad():
        seen = net.encode_image(prepare.transforms[-1](plain), normalize=True)
        read = net.encode_text(tokenize([f"{name} paper" for name in COLOURS]), normalize=True)
    right = (seen @ read.T).argmax(dim=1) == torch.arange(len(COLOURS))
    assert right.float().mean() >= 0.75


def test_a_finished_run_has_a_manifest_and_stands(whole: Path) -> None:
    assert is_untouched(whole)
    assert {check.problem for check in verify(whole)} == {""}
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["counts"] == {"steps": 12, "images": 192, "parameters": 3386113}
    assert load(whole / "config.toml") == small()
    before = weights(whole)
    assert run(whole).how == "stood"
    assert weights(whole) == before


def test_metrics_have_a_line_a_step_with_rates_and_cost(whole: Path) -> None:
    lines = metrics.read(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["epoch"] == 3
    assert lines[-1]["images"] == 192
    assert lines[-1]["seconds_left"] == 0
    assert lines[-1]["macs_77"] > lines[-1]["macs"] == 12 * lines[0]["macs"]
    assert max(line["lr"] for line in lines) == 1e-3
    assert lines[1]["lr"] == 1e-3  # half an epoch of four steps is the warm-up
    for line in lines:
        assert line["images_per_second"] > 0
        assert 0 <= line["data_wait"] <= 1
        assert line["grad_norm"] > 0


def test_tensorboard_can_read_them(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "run", epochs=1, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]


def test_a_step_in_pieces_learns_the_same(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", micro_batch=4)
    one, other = (load_file(path / WEIGHTS) for path in (whole, tmp_path / "run"))
    losses = [
        [line["loss"] for line in metrics.read(path / "metrics.jsonl")]
        for path in (whole, tmp_path / "run")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert one.keys() == other.keys()


def test_activation_checkpointing_changes_no_bit(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", activation_checkpointing=True)
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.parametrize(("name", "texts"), [("siglip", 1), ("clip", 3), ("siglip", 2)])
def test_other_losses_learn(tmp_path: Path, name: str, texts: int) -> None:
    run(tmp_path / "run", InMemory(128, texts), loss=name, batch=32, epochs=6, lr=2e-3)
    lines = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_the_logit_scale_stays_below_its_limit(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1, max_logit_scale=10)
    scales = [line["logit_scale"] for line in metrics.read(tmp_path / "run" / "metrics.jsonl")]
    assert scales[0] == pytest.approx(1 / 0.07)
    assert scales[1] == pytest.approx(10)
    assert max(scales[1:]) < 10.001


def test_gradients_are_cut_to_a_norm(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1, clip_grad_norm=1e-12, weight_decay=0)
    first, last = (
        next(iter(metrics.read(tmp_path / "run" / "metrics.jsonl")[n:])) for n in (0, -1)
    )
    assert first["grad_norm"] > 0.1  # as it was before
    assert last["loss"] == pytest.approx(first["loss"], rel=0.2)


def test_a_network_can_be_trained_further(whole: Path, tmp_path: Path) -> None:
    config = small(epochs=1, lr=0.0)
    for begin in (whole / "model", whole / "checkpoints/step-00000012", whole / WEIGHTS):
        model = msgspec.structs.replace(config.model, weights=str(begin))
        out = tmp_path / begin.name
        train(msgspec.structs.replace(config, model=model), InMemory(), out, quiet=True)
        assert weights(out) == weights(whole)


# --- interruptions ------------------------------------------------------------------------------


def test_a_run_that_ended_before_its_manifest_is_finished(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    shutil.rmtree(out / "model")
    assert run(out).how == "finished"
    assert weights(out) == weights(whole)


def test_the_newest_checkpoints_are_kept_and_those_of_some_epochs(tmp_path: Path) -> None:
    run(tmp_path / "run", InMemory(32), epochs=6, keep_last=2, keep_epochs=2)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == [f"step-{step:08}" for step in (4, 8, 10, 12)]


def test_not_every_epoch_needs_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "run", InMemory(16), epochs=5, keep_last=9, checkpoint_epochs=2)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == [f"step-{step:08}" for step in (2, 4, 5)]


def test_what_was_left_half_written_is_removed(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    (out / "checkpoints/step-00000099.writing").mkdir()
    assert run(out).how == "finished"
    assert not (out / "checkpoints/step-00000099.writing").exists()


# --- what is refused ----------------------------------------------------------------------------


def test_a_checkpoint_of_another_config_is_refused_by_what_differs(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with pytest.raises(UserError, match=r"finished run of another config \(train.lr\).*--fresh"):
        run(out, lr=2e-3)
    (out / "manifest.json").unlink()
    with pytest.raises(
        UserError, match=r"step-00000012 is of another run: train.batch, train.lr d"
    ):
        run(out, lr=2e-3, batch=8)
    with pytest.raises(UserError, match="another run: shards differs"):
        run(out, InMemory(inputs={"shards": "other"}))
    assert run(out, log_steps=5, keep_last=7).how == "finished"  # that is free


def test_fresh_begins_again_and_removes_nothing_else(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    config = small(epochs=1)
    assert train(config, InMemory(), out, fresh=True, quiet=True).steps == 4
    other = tmp_path / "home"
    other.mkdir()
    (other / "diary.txt").touch()
    with pytest.raises(UserError, match="is no run: --fresh doesn't remove it"):
        train(config, InMemory(), other, fresh=True, quiet=True)
    assert (other / "diary.txt").exists()


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(tmp_path: Path) -> None:
    out = tmp_path / "run"
    bad = InMemory(bad=frozenset({"image-0005"}), bad_from=1)
    with pytest.raises(UserError, match=r"the loss is no number at step \d+ .*: image-0005 give"):
        run(out, bad)
    told = json.loads((out / "not-finite.json").read_text())
    assert told["guilty"] == ["image-0005"]
    assert len(told["keys"]) == 16
    kept = sorted((out / "checkpoints").iterdir())[-1]
    assert kept.name == f"step-{told['step'] - 1:08}"
    assert all(tensor.isfinite().all() for tensor in load_file(kept / "model.safetensors").values())
    # without the image it goes on from there, to where a run ends that never had it
    assert run(out).how == "finished"


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(out, epochs=1, steps=0)  # 4 steps, a checkpoint of 40 MB
    (out / "manifest.json").unlink()
    shutil.rmtree(out / "model")
    done = in_processes(tmp_path / "full", limit=1_000_000)
    assert done.returncode == 1
    assert "step-00000004 can't be written: the disk" in done.stderr
    assert "there is none before it" in done.stderr
    assert list((tmp_path / "full/checkpoints").iterdir()) == []
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 128}, "fewer images than the 128 of a batch"),
        ({"micro_batch": 5}, "train.micro_batch = 5 doesn't divide the 16 images"),
    ],
)
def test_batches_that_cant_be_made_are_refused(
    tmp_path: Path, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **settings)


# --- several processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings"),
    [{}, {"texts": 2, "micro_batch": 4}, {"loss": "siglip", "texts": 2}],
    ids=["clip", "two texts in pieces", "siglip"],
)
def test_two_processes_learn_what_one_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    texts = settings.get("texts", 1)
    done = in_processes(tmp_path / "two", 2, epochs=1, **settings)
    assert done.returncode == 0, done.stderr
    settings = {k: v for k, v in settings.items() if k not in ("texts", "micro_batch")}
    run(tmp_path / "one", InMemory(texts=texts), epochs=1, **settings)
    two, one = (metrics.read(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    assert len(two) == len(one) == 4
    for figure in ("loss", "grad_norm", "logit_scale"):
        assert [x[figure] for x in two] == pytest.approx([x[figure] for x in one], rel=2e-3)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-5)


def test_a_checkpoint_of_another_number_of_processes_is_refused(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    done = in_processes(out, 2)
    assert "is of another run: processes differs" in done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_images_that_one_process_cant_read_cost_no_step(tmp_path: Path, processes: int) -> None:
    out = tmp_path / "run"
    done = in_processes(out, processes, fails=[processes - 1, 2])
    assert done.returncode == 1
    assert done.stderr.count("a shard is broken") >= processes  # torchrun repeats what they say
    assert "Traceback" not in done.stderr.partition("ChildFailedError")[0]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    assert in_processes(out, processes).returncode == 0


def test_configs_of_python_are_those_of_files() -> None:
    assert of({}).train.batch == 8192
