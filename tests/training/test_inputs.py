"""What a run reads: texts of the data set, as many an image as are asked for, drawn by epoch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from etl.errors import UserError
from tests.training.data_sets import animals
from tests.training.packed import make_shards, members, rewritten
from training.config import Config, ModelOptions, load
from training.inputs import Shards
from training.model import Model, created


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    make_shards(made / "images", images=40, shard_count=3)
    animals(made / "graph")
    return made


@pytest.fixture(scope="module")
def model() -> Model:
    return created(ModelOptions(name="tiny"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def settings(*changes: str) -> Config:
    return load("tiny", ["data.workers=0", *changes])


def texts_of(folder: Path, model: Model, *changes: str, epoch: int = 0) -> list[list[str]]:
    """The texts of each image of an epoch, as a tokenizer is given them."""
    source = Shards(settings(*changes), str(folder / "images"), folder / "graph", quiet=True)
    given: list[str] = []

    def tokenize(texts: list[str]):  # type: ignore[no-untyped-def]
        given.extend(texts)
        return model.tokenize(texts)

    own = Model(**{**vars(model), "tokenize": tokenize})
    with source.loader(own, 8, 0, 1) as loader:
        for batch in loader.epoch(epoch):
            assert batch.images.shape == (8, 3, 32, 32)
            assert batch.tokens.shape == (8, source.texts, 32)
    return [given[n : n + source.texts] for n in range(0, len(given), source.texts)]


def are_alt(texts: Sequence[str]) -> list[bool]:
    return [text.startswith("picture ") for text in texts]


def test_texts_are_those_of_the_mix_and_differ_by_epoch(folder: Path, model: Model) -> None:
    alt, graph = (
        {text for (text,) in texts_of(folder, model, f"text.alt_text_chance={chance}")}
        for chance in (1, 0)
    )
    assert all(are_alt(sorted(alt)))
    assert not any(are_alt(sorted(graph)))
    assert {"dog", "hound"} & graph
    first = texts_of(folder, model)
    assert first == texts_of(folder, model)
    assert first != texts_of(folder, model, epoch=1)
    assert first != texts_of(folder, model, "train.seed=1")


def test_several_texts_and_pairs(folder: Path, model: Model) -> None:
    for several in texts_of(folder, model, "text.per_image=3"):
        assert len(set(several)) >= 2
    for pair in texts_of(folder, model, "text.pair=true", "text.per_image=2"):
        assert are_alt(pair) == [True, False]


def test_a_filter_leaves_images_out(folder: Path, model: Model) -> None:
    some = texts_of(folder, model, "text.filter.keep_roots=['Q756']", "text.alt_text_chance=0")
    assert 0 < len(some) < 32
    assert not {text for (text,) in some} & {"dog", "hound", "doggo"}


def test_a_json_that_is_no_record_is_counted(folder: Path, model: Model, tmp_path: Path) -> None:
    images = Path(shutil.copytree(folder / "images", tmp_path / "images"))
    source = Shards(settings(), str(images), folder / "graph", quiet=True)
    with source.loader(model, 8, 0, 1) as loader:
        tar = images / "shards" / "train-000001.tar"
        inside = members(tar)
        jsons = [name for name in inside if name.endswith(".json")]
        whole = {n: tar.read_bytes()[inside[n][0] :][: inside[n][1]] for n in jsons}
        one, other, deep = jsons
        changed = {
            one: whole[one].replace(b'"key"', b'"kez"'),
            other: whole[other].replace(b'"entities"', b'"entities":1,"was"'),
            deep: b'{"key":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        }
        rewritten(tar, changed)
        assert len(list(loader.epoch(0))) == loader.batches(0)
    assert loader.damage == {"broken_json": 3}


def test_pairs_are_two(folder: Path) -> None:
    config = settings("text.pair=true", "text.per_image=3")
    with pytest.raises(UserError, match=r"text\.per_image is 3; it must be 2 with text\.pair"):
        Shards(config, str(folder / "images"), folder / "graph")


def test_a_data_set_that_isnt_one_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="holds no finished graph"):
        Shards(settings(), str(folder / "images"), folder / "nothing")
