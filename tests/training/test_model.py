"""Networks: reproducible, counted as the reference does, begun from checkpoints as they were."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from etl.errors import UserError
from training.config import FOLDER, ModelOptions, TrainOptions
from training.model import created, flops_per_image, macs_per_image
from training.opened import opened
from training.optimizer import lr_at, optimizer_of

torch.set_num_threads(1)
TEXTS = ["a dog", "two brown dogs on a lawn", "x"]


def network(name: str) -> dict[str, Any]:
    import training.vision  # noqa: F401

    import open_clip  # isort: skip

    found = open_clip.get_model_config(name)
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "giga"), [("ViT-B-32", 22.32), ("ViT-B-16", 61.07)])
def test_cost_is_counted_as_the_reference_counts_it(name: str, giga: float) -> None:
    config = network(name)
    macs = macs_per_image(config, batch=8192, context_length=77)
    assert round(macs / 1e9, 2) == giga
    if name == "ViT-B-32":  # the published figures: 13.1e18, and 10.0e18 with the real context
        assert round(macs * 18 * 32.7e6 / 1e18, 1) == 13.1
        real = macs_per_image(config, batch=8192, context_length=32)
        assert round(real * 18 * 32.7e6 / 1e18, 1) == 10.0
        large = macs_per_image(config, batch=90_112, context_length=77) * 12.8e9
        assert round(large / (macs * 18 * 32.7e6), 1) == pytest.approx(22.5, abs=0.1)


def test_floating_point_operations_are_those_of_the_matrix_products() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from training import loss

    model = created(ModelOptions(name="tiny"))
    batch = 8
    images, tokens = torch.zeros(batch, 3, 32, 32), model.tokenize(["a"] * batch)
    # attention as products: the counter doesn't know it as CPUs have it in one piece
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model.net(images, tokens)
        scale = out["logit_scale"]
        loss.clip(1)(out["image_features"], out["text_features"], scale, None)
    forward = counter.get_total_flops() / batch
    assert flops_per_image(model.config["model_cfg"], batch=batch) == pytest.approx(
        3 * forward, rel=0.02
    )


def test_a_network_from_scratch_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one = created(ModelOptions(name="tiny"), seed=3).net.state_dict()
    torch.manual_seed(6)
    before = torch.get_rng_state()
    other = created(ModelOptions(name="tiny"), seed=3).net.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = created(ModelOptions(name="tiny"), seed=4).net.state_dict()
    assert not torch.equal(one["visual.proj"], third["visual.proj"])


def test_texts_have_the_context_that_is_asked_for() -> None:
    model = created(ModelOptions(name="tiny", context_length=9))
    tokens = model.tokenize(["a dog " * 20])
    assert tokens.shape == (1, 9)
    assert tokens.dtype == torch.int64
    assert model.config["model_cfg"]["text_cfg"]["context_length"] == 9
    assert torch.equal(pickle.loads(pickle.dumps(model.tokenize))(TEXTS), model.tokenize(TEXTS))


def test_a_longer_context_is_cut_and_short_texts_mean_what_they_meant(tmp_path: Path) -> None:
    long = created(ModelOptions(name="tiny", context_length=77), seed=3)
    save_file(long.net.state_dict(), tmp_path / "long.safetensors")
    torch.save(long.net.state_dict(), tmp_path / "long.pt")
    for name in ("long.safetensors", "long.pt"):
        short = created(ModelOptions(name="tiny", weights=str(tmp_path / name)))
        with torch.no_grad():
            one = long.net(text=long.tokenize(TEXTS))["text_features"]
            other = short.net(text=short.tokenize(TEXTS))["text_features"]
        torch.testing.assert_close(one, other)
    options = ModelOptions(name="tiny", context_length=99, weights=str(tmp_path / "long.pt"))
    with pytest.raises(
        UserError, match=r"has 77 places for tokens; set model\.context_length = 77"
    ):
        created(options)


def test_a_clip_can_be_trained_further_as_a_siglip(tmp_path: Path) -> None:
    clip = created(ModelOptions(name="tiny"), seed=3)
    save_file(clip.net.state_dict(), tmp_path / "clip.safetensors")
    options = ModelOptions(name="tiny", weights=str(tmp_path / "clip.safetensors"))
    state = created(options, siglip=True).net.state_dict()
    assert state["logit_bias"] == -10
    assert torch.equal(state["visual.proj"], clip.net.state_dict()["visual.proj"])


def test_a_folder_in_open_clips_layout_is_a_network_with_its_weights(tmp_path: Path) -> None:
    made = created(ModelOptions(name="tiny"), seed=3)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(made.config))
    save_file(made.net.state_dict(), tmp_path / "open_clip_model.safetensors")
    again = created(ModelOptions(name=f"local-dir:{tmp_path}"))
    kept = load_file(tmp_path / "open_clip_model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in again.net.state_dict().items())
    assert again.config == made.config


def test_ones_own_network_is_a_json_file(tmp_path: Path) -> None:
    config = json.loads((FOLDER / "sparqless-tiny.json").read_text())
    config["vision_cfg"]["patch_size"] = 16
    (tmp_path / "coarse-of-a-test.json").write_text(json.dumps(config))
    options = ModelOptions(name=str(tmp_path / "coarse-of-a-test.json"), image_size=64)
    model = created(options)
    assert model.size == 64
    assert model.net(image=torch.zeros(1, 3, 64, 64))["image_features"].shape == (1, 64)


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    config = json.loads((FOLDER / "sparqless-tiny.json").read_text())
    file = tmp_path / "changed-of-a-test.json"
    for width in (16, 32):
        config["embed_dim"] = width
        file.write_text(json.dumps(config))
        assert created(ModelOptions(name=str(file))).config["model_cfg"]["embed_dim"] == width


def test_a_file_that_has_the_name_of_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ViT-B-32.json"
    file.write_text((FOLDER / "sparqless-tiny.json").read_text())
    with pytest.raises(UserError, match=r"has the name of one of open_clip's networks, ViT-B-32"):
        created(ModelOptions(name=str(file)))
    with pytest.raises(UserError, match=r"has the name of one of open_clip's networks, ViT-B-32"):
        opened(str(file), file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ViT-Q-1"}, "open_clip has no network 'ViT-Q-1'"),
        ({"name": "hf-hub:a/b"}, "is read from the network; download it"),
        ({"name": "local-dir:/no"}, "the folder has no open_clip_config.json"),
        ({"name": "/no.json"}, "there is no file /no.json"),
        ({"name": "broken.json"}, "broken.json can't be read as a network's config"),
        ({"name": "list.json"}, "list.json is no network's config: it needs embed_dim"),
        ({"name": "tiny", "weights": "/no.pt"}, "there is no file or folder /no.pt"),
        (
            {"name": "tiny", "weights": "other.safetensors"},
            "can't be used: .*size mismatch|Missing",
        ),
        ({"name": "tiny", "weights": "broken.safetensors"}, "broken.safetensors can't be used"),
        ({"name": "tiny", "weights": "pickled.pt"}, "pickled.pt can't be used"),
        ({"name": "tiny", "weights": "empty"}, "empty has no weights"),
    ],
)
def test_what_cant_be_begun_with_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"visual.proj": torch.zeros(3)}, "other.safetensors")
    Path("broken.safetensors").write_bytes(b"no weights at all")
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("empty").mkdir()
    Path("pickled.pt").write_bytes(pickle.dumps({"state_dict": Path("evil")}))
    with pytest.raises(UserError, match=message):
        created(ModelOptions(**options))


def test_weights_that_add_or_scale_dont_decay() -> None:
    net = created(ModelOptions(name="tiny"), siglip=True).net
    groups = optimizer_of(net, TrainOptions(weight_decay=0.2)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        still = name.endswith(("bias", "class_embedding")) or "ln_" in name or "logit" in name
        assert decay[id(parameter)] == (0 if still else 0.2), name


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    rates = [lr_at(step, 100, 10, 2.0) for step in range(100)]
    assert rates[0] == 0.2
    assert rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates == [*sorted(rates[:10]), *sorted(rates[10:], reverse=True)]
    assert 0 < rates[-1] < 0.001
    assert lr_at(5, 5, 10, 2.0) == 1.2  # a run that ends within its warm-up
