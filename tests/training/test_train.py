"""A run learns, can be interrupted anywhere, and says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from etl.errors import UserError
from etl.manifest import is_untouched
from etl.verify import verify
from etl.writing import locked
from tests.training.data_sets import animals
from tests.training.in_memory import COLOURS, InMemory, small
from tests.training.ranks import in_ranks
from training import checkpoint, metrics
from training.config import FOLDER, load, of
from training.opened import Opened
from training.train import Ended, train

torch.set_num_threads(1)
WEIGHTS = "model/open_clip_model.safetensors"


def run(out: Path, source: InMemory | None = None, **settings: Any) -> Ended:
    return train(small(**settings), source or InMemory(), out, quiet=True)


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
    assert manifest["counts"] == {
        "steps": 12, "images": 192, "parameters": 3386113, "damaged": 0,
    }  # fmt: skip
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


@pytest.mark.parametrize("most", [4, 5])
def test_a_step_in_pieces_learns_the_same_from_the_same_batches(
    whole: Path, tmp_path: Path, most: int
) -> None:
    run(tmp_path / "run", micro_batch=most)
    one, other = (metrics.read(path / "metrics.jsonl") for path in (whole, tmp_path / "run"))
    assert one[0]["loss"] == pytest.approx(other[0]["loss"], rel=1e-6)
    assert one[0]["grad_norm"] == pytest.approx(other[0]["grad_norm"], rel=1e-5)
    for line, piecewise in zip(one, other, strict=True):
        assert line["loss"] == pytest.approx(piecewise["loss"], rel=1e-3)


def test_images_that_cant_be_used_are_counted_also_where_it_was_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="a shard is broken"):
        run(out, InMemory(damaged=(1, 2), fails=(0, 3)), log_steps=2)
    assert run(out, InMemory(damaged=(1, 2)), log_steps=2).how == "finished"
    counts = [line["damaged"] for line in metrics.read(out / "metrics.jsonl")]
    assert counts == [1, 2, 3, 4, 5, 6]  # two in each epoch of four steps
    assert json.loads((out / "manifest.json").read_text())["counts"]["damaged"] == 6


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
    for name in ("step-00000099.writing", "step-00000002.discarded"):
        (out / "checkpoints" / name).mkdir()
    assert run(out).how == "finished"
    kept = {path.name for path in (out / "checkpoints").iterdir()}
    assert kept == {path.name for path in (whole / "checkpoints").iterdir()}


def test_what_nobody_can_read_is_in_nobodys_way(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(out, epochs=1, checkpoint_steps=2)
    old = out / "checkpoints/step-00000002"
    (old / "state.json").unlink()
    for keep in (9, 0):
        (out / "manifest.json").unlink()
        assert run(out, epochs=1, keep_last=1, keep_epochs=keep).how == "finished"
        assert old.exists() == (keep > 0)  # it may be one that is to be kept


def test_other_versions_are_told_where_a_run_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    file = out / "checkpoints/step-00000012/state.json"
    state = json.loads(file.read_text())
    now = state["versions"]["torch"]
    file.write_text(json.dumps({**state, "versions": {**state["versions"], "torch": "1.0"}}))
    told: list[str] = []
    train(small(), InMemory(), out, quiet=True, warn=told.append)
    (sentence,) = told
    assert f"step-00000012 was made with other versions (torch 1.0 → {now})" in sentence


# --- what is refused ----------------------------------------------------------------------------


def test_a_checkpoint_of_another_config_is_refused_by_what_differs(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with pytest.raises(UserError, match=r"finished run of another config .* \(train.lr\).*--fresh"):
        run(out, lr=2e-3)
    with pytest.raises(UserError, match=r"finished run of .* other data \(shards\)"):
        run(out, InMemory(inputs={"shards": "other"}))
    (out / "manifest.json").unlink()
    with pytest.raises(
        UserError, match=r"step-00000012 is of another run: train.batch, train.lr d"
    ):
        run(out, lr=2e-3, batch=8)
    with pytest.raises(UserError, match="another run: shards differs"):
        run(out, InMemory(inputs={"shards": "other"}))
    with pytest.raises(UserError, match=r"another run: train\.lr differs"):
        run(out, lr=2e-3, keep_last=1)
    assert len(list((out / "checkpoints").iterdir())) == 2  # and nothing of it is removed
    assert run(out, log_steps=5, keep_last=7, micro_batch=4).how == "finished"  # that is free


def test_a_network_whose_file_was_changed_is_another(tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "own-of-a-test.json"
    network = json.loads((FOLDER / "sparqless-tiny.json").read_text())

    def go_on(**vision: int) -> Ended:
        changed = {**network, "vision_cfg": {**network["vision_cfg"], **vision}}
        file.write_text(json.dumps(changed))
        plain = small(epochs=1)
        model = msgspec.structs.replace(plain.model, name=str(file))
        return train(msgspec.structs.replace(plain, model=model), InMemory(), out, quiet=True)

    assert go_on().how == "finished"
    assert go_on().how == "stood"
    with pytest.raises(UserError, match=r"finished run of another config .* \(network\)"):
        go_on(head_width=16)
    (out / "manifest.json").unlink()
    for change in ({"head_width": 16}, {"layers": 3}):
        with pytest.raises(UserError, match="is of another run: network differs"):
            go_on(**change)
    assert go_on().how == "finished"


def test_weights_of_another_network_arent_told_to_be_unreadable(
    whole: Path, tmp_path: Path
) -> None:
    folder = whole / "checkpoints/step-00000012"
    net = torch.nn.Linear(2, 2)
    with pytest.raises(
        UserError, match=r"step-00000012 is whole, but of another network \(.*Missing"
    ):
        checkpoint.load(folder, net, torch.optim.AdamW(net.parameters()))


def test_fresh_begins_again_and_removes_nothing_else(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    config = small(epochs=1)
    assert train(config, InMemory(), out, fresh=True, quiet=True).steps == 4
    other = tmp_path / "home"
    other.mkdir()
    (other / "diary.txt").touch()
    for fresh in (True, False):
        with pytest.raises(UserError, match=r"holds 'diary\.txt', which no run writes"):
            train(config, InMemory(), other, fresh=fresh, quiet=True)
    assert [path.name for path in other.iterdir()] == ["diary.txt"]
    (out / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds 'thesis\.txt', which no run writes: --fresh"):
        train(config, InMemory(), out, fresh=True, quiet=True)
    assert train(config, InMemory(), out, quiet=True).how == "stood"  # beside a run it may be


def test_fresh_removes_nothing_of_another_step(tmp_path: Path) -> None:
    graph = animals(tmp_path / "graph")
    before = sorted(path.name for path in graph.iterdir())
    for fresh in (True, False):
        with pytest.raises(UserError, match="is the manifest of 'graph', not of a run"):
            train(small(), InMemory(), graph, fresh=fresh, quiet=True)
    assert sorted(path.name for path in graph.iterdir()) == before
    with pytest.raises(UserError, match="is a file: name a directory"):
        train(small(), InMemory(), graph / "entities.parquet", quiet=True)


def test_fresh_removes_nothing_where_the_new_run_cant_begin(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with pytest.raises(UserError, match="fewer images than the 128"):
        train(small(batch=128), InMemory(), out, fresh=True, quiet=True)
    assert run(out).how == "stood"


def test_a_checkpoint_that_the_disk_has_changed_is_refused(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    weights = out / "checkpoints" / "step-00000012" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors isn't what was written.*remove"):
        run(out)


def test_fresh_removes_no_run_that_is_going_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = sorted(out.rglob("*"))
    with locked(out), pytest.raises(UserError, match="is being written by another run"):
        train(small(), InMemory(), out, fresh=True, quiet=True)
    assert sorted(out.rglob("*")) == before


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
    done = in_ranks([tmp_path / "full"], limit=1_000_000)
    assert done.codes == [1]
    assert "step-00000004 can't be written: the disk" in done.stderr[0]
    assert "there is none before it" in done.stderr[0]
    assert list((tmp_path / "full/checkpoints").iterdir()) == []
    assert done.stderr[0].count("\n") == 1
    # nor is it otherwise with the model, after the last step
    done = in_ranks([out], epochs=1, limit=1_000_000)
    assert done.codes == [1]
    assert "run/model can't be written: the disk (or a limit on files) is full" in done.stderr[0]
    assert done.stderr[0].count("\n") == 1
    assert run(out, epochs=1).how == "finished"


def test_a_disk_that_is_full_of_metrics_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = in_ranks([tmp_path / "run"], limit=1_500, checkpoint_epochs=9)
    assert done.codes == [1]
    assert "metrics.jsonl can't be written: the disk (or a limit on files) is" in done.stderr[0]
    assert done.stderr[0].count("\n") == 1


@pytest.mark.parametrize("settings", [{}, {"checkpoint_steps": 1}])
def test_weights_that_are_no_numbers_are_never_saved(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"the weights are no numbers after step 1 .* is none before"
    ):
        run(out, lr=1e38, warmup_epochs=0, **settings)
    assert not (out / "checkpoints").exists()


def test_a_batch_of_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer images than the 128 of a batch"):
        run(tmp_path / "run", batch=128)


# --- several processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings"),
    [{}, {"texts": 2, "micro_batch": 4}, {"loss": "siglip", "texts": 2}],
    ids=["clip", "two texts in pieces", "siglip"],
)
def test_two_processes_learn_what_one_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    texts = settings.get("texts", 1)
    done = in_ranks([tmp_path / "two"] * 2, epochs=1, **settings)
    assert done.codes == [0, 0], done.stderr
    settings = {k: v for k, v in settings.items() if k not in ("texts", "micro_batch")}
    run(tmp_path / "one", InMemory(texts=texts), epochs=1, **settings)
    two, one = (metrics.read(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    assert len(two) == len(one) == 4
    for figure in ("loss", "grad_norm", "logit_scale"):
        assert [x[figure] for x in two] == pytest.approx([x[figure] for x in one], rel=2e-3)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-5)


def test_what_another_number_of_processes_made_is_another_run(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    done = in_ranks([out] * 2)
    assert done.codes == [0, 0]  # what is done stands, whoever asks
    (out / "manifest.json").unlink()
    assert "is of another run: processes differs" in in_ranks([out] * 2).stderr[0]


def test_an_evaluation_that_runs_out_of_memory_ends_nothing(tmp_path: Path) -> None:
    warnings: list[str] = []

    def judge(_: Opened) -> dict[str, float]:
        raise torch.OutOfMemoryError("no room for it")

    ended = train(small(epochs=1), InMemory(), tmp_path / "run", judge=judge, quiet=True,
                  warn=warnings.append)  # fmt: skip
    assert ended.how == "finished"
    assert warnings == ["step 4 couldn't be evaluated: OutOfMemoryError: no room for it"]


def test_a_signal_in_the_last_evaluation_is_told_and_what_is_done_is_done(tmp_path: Path) -> None:
    asked = iter([{"val_acc1": 0.5, "val_acc5": 0.9}, {"val_acc1": 0.7}])

    def judge(_: Opened) -> dict[str, float]:
        figures = next(asked)
        if len(figures) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return figures

    ended = train(small(epochs=2), InMemory(), tmp_path / "run", judge=judge, quiet=True)
    assert (ended.how, ended.signal) == ("finished", signal.SIGTERM)
    assert ended.metrics["val_acc1"] == 0.7
    assert "val_acc5" not in ended.metrics  # an earlier one's


def test_a_signal_in_an_evaluation_ends_the_run_before_another_step(tmp_path: Path) -> None:
    def judge(_: Opened) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {"val_acc1": 0.5}

    ended = train(small(epochs=2), InMemory(), tmp_path / "run", judge=judge, quiet=True)
    assert (ended.how, ended.step) == ("stopped", 4)


def test_metrics_that_cant_be_opened_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match=r"metrics\.jsonl can't be written"):
        run(tmp_path / "run")


def test_nodes_must_share_the_folder(whole: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(whole, here)
    (here / "manifest.json").unlink()
    there.mkdir()
    done = in_ranks([here, there])
    assert done.codes == [1, 1]
    for sentence in done.stderr:
        assert "--out must be one directory that all nodes share" in sentence
        assert sentence.startswith("process 1 doesn't find in")


def test_no_process_waits_for_a_first_that_cant_write(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "checkpoints").touch()  # a file where the folder is to be
    done = in_ranks([out] * 2, epochs=1)
    assert done.codes == [1, 1]
    for sentence in done.stderr:
        assert "step-00000004 can't be written: Not a directory" in sentence
        assert sentence.count("\n") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_images_that_one_process_cant_read_cost_no_step(tmp_path: Path, processes: int) -> None:
    out = tmp_path / "run"
    done = in_ranks([out] * processes, fails=[processes - 1, 2], damaged=[1])
    assert done.codes == [1] * processes
    assert done.stderr == ["a shard is broken\n"] * processes
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    done = in_ranks([out] * processes, damaged=[1])
    assert done.codes == [0] * processes
    assert metrics.read(out / "metrics.jsonl")[-1]["damaged"] == 3 * processes


def test_configs_of_python_are_those_of_files() -> None:
    assert of({}).train.batch == 8192
