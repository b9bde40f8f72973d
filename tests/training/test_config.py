"""Configs: what is shipped is the recipe, and what isn't known is refused by its name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import UserError
from training.config import Config, as_toml, differing, load, names, of


def test_the_shipped_ones_are_read_and_written_back_the_same(tmp_path: Path) -> None:
    assert names() == ["tiny", "vit-b-16", "vit-b-32"]
    for name in names():
        path = tmp_path / f"{name}.toml"
        path.write_text(as_toml(load(name)), "utf-8")
        assert load(path) == load(name)


@pytest.mark.parametrize(("name", "network"), [("vit-b-32", "ViT-B-32"), ("vit-b-16", "ViT-B-16")])
def test_the_reference_recipe(name: str, network: str) -> None:
    config = load(name)
    assert (config.model.name, config.model.context_length) == (network, 32)
    train = config.train
    assert (train.batch, train.epochs, train.warmup_epochs) == (8192, 18, 2)
    assert (train.lr, train.beta1, train.beta2, train.eps) == (5e-4, 0.9, 0.98, 1e-8)
    assert (train.weight_decay, train.precision, train.loss) == (0.2, "bf16", "clip")
    assert config.text["alt_text_chance"] == 0.5
    assert train.checkpoint_steps == 500  # an epoch takes hours


def test_changes_are_toml_or_else_strings() -> None:
    changes = ["train.lr=1e-3", "train.compile=true", "model.name=ViT-B-16", 'text.x="1"']
    changed = load("tiny", [*changes, "text.filter.keep_roots=['Q729']"])
    assert changed.train.lr == 1e-3
    assert changed.train.compile is True
    assert changed.model.name == "ViT-B-16"
    assert changed.text == {"per_image": 1, "x": "1", "filter": {"keep_roots": ["Q729"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.batchs=3", r"unknown key train.batchs; did you mean batch\?"),
        ("tran.batch=3", r"unknown key tran; did you mean train\?"),
        ("train.zzz=3", "unknown key train.zzz; known are batch, micro_batch, epochs"),
        ("train.lr=fast", "train.lr: Expected `float`, got `str`"),
        ("train.loss=coca", "train.loss: Invalid enum value 'coca'"),
        ("train.batch=0", "train.batch is 0; it must be 1 or more"),
        ("train.lr=-1", "train.lr is -1.0; it must be a number of 0 or more"),
        ("train.lr=nan", "train.lr is nan; it must be a number of 0 or more"),
        ("train.eps=0", "train.eps is 0.0; it must be a number above 0"),
        ("train.seed=9223372036854775808", r"train.seed is 9223372036854775808; it must be below"),
        ("train.max_logit_scale=0.5", "train.max_logit_scale is 0.5; it must be 1 or more, or 0"),
        ("train.beta2=1", "train.beta2 is 1.0; it must be from 0 to below 1"),
        ("model.context_length=2", "model.context_length is 2; it must be 3 tokens or more"),
        ("train", "--set 'train': it is to be TABLE.KEY=VALUE"),
        ("lr=3", "--set 'lr=3': it is to be TABLE.KEY=VALUE"),
        ("train.lr.x=3", "--set 'train.lr.x=3': lr is no table"),
    ],
)
def test_what_cant_be_is_refused_by_its_name(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("tiny", [change])


def test_files_that_cant_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'huge' is neither a shipped config"):
        load("huge")
    with pytest.raises(UserError, match=r"no\.toml: can't be read as a config"):
        load(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("[train\n")
    with pytest.raises(UserError, match=r"bad\.toml: can't be read as a config"):
        load(tmp_path / "bad.toml")


def test_what_says_how_a_run_is_done_may_change_on_the_way() -> None:
    one = load("tiny")
    other = load("tiny", ["train.log_steps=3", "data.workers=7", "train.keep_last=5"])
    assert differing(one, other) == []
    # what messages advise where memory or images give out
    advised = ["data.prefetch=1", "data.most_damaged=9", "data.cache='x'", "data.as_bytes=true"]
    assert differing(one, load("tiny", [*advised, "train.micro_batch=4"])) == []
    other = load("tiny", ["train.seed=3", "text.alt_text_chance=0.1", "model.name=x"])
    assert differing(one, other) == ["model.name", "text.alt_text_chance", "train.seed"]


texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts
)
values = st.one_of(plain, st.lists(plain), st.dictionaries(st.text("ab"), plain))


@given(st.dictionaries(texts, values))
def test_any_value_comes_back(text: dict[str, object]) -> None:
    config = Config(text=text)
    assert of(tomllib.loads(as_toml(config))) == config
