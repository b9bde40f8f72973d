"""What a run reads: texts of the data set, as many an image as are asked for, drawn by epoch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from etl.errors import UserError
from tests.training.data_sets import animals, write_shards
from tests.training.packed import make_shards, members, overwrite, rewritten
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


def test_a_process_says_which_one_it_is_where_an_image_is_damaged(
    folder: Path, model: Model, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(folder / "images", images)
    for shard in (images / "shards").glob("*train*.tar"):
        for name, (begin, _) in members(shard).items():
            if name.endswith(".jpg"):
                overwrite(shard, begin, b"no picture")
                break
    told: list[str] = []
    source = Shards(settings(), str(images), folder / "graph", quiet=True, warn=told.append)
    for rank, begins in enumerate(("", "process 1: ")):
        with source.loader(model, 8, rank, 2) as loader:
            found = [key for batch in loader.epoch(0) for key in batch.keys]
            assert found
        assert [sentence.startswith(begins) for sentence in told] == [True] * len(told)
        assert told
        told.clear()


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


def test_which_images_count_is_of_what_a_list_holds(
    folder: Path, model: Model, tmp_path: Path
) -> None:
    """Not of its name alone: edited, it is another run's."""
    listed = tmp_path / "list.txt"

    def counted(text: str) -> tuple[int, dict[str, Any]]:
        listed.write_text(text, "utf-8")
        config = settings(f"text.filter.skip_lists=['{listed}']", "text.filter.op='any'")
        source = Shards(config, str(folder / "images"), folder / "graph", quiet=True)
        with source.loader(model, 4, 0, 1) as loader:
            return loader.images, loader.identity

    all_, identity = counted("name-orchid\n")
    fewer, other = counted("name-dog\nname-dog-bing\n")
    assert fewer < all_
    differing = [key for key in identity if identity[key] != other[key]]
    assert differing == ["images (by shards, split, filter and options of texts)"]
    assert counted("\ufeff\nname-orchid\nname-orchid\n") == (all_, identity)


def test_sources_are_skipped_where_it_is_known_which_said_what(
    folder: Path, tmp_path: Path
) -> None:
    config = settings("text.filter.skip_sources=['url-list']")
    Shards(config, str(folder / "images"), folder / "graph")
    rows = [{"key": "k", "sources": ["commons-p18", "url-list"]}]
    two = write_shards(tmp_path / "shards", rows)
    with pytest.raises(UserError, match=r"of commons-p18 and url-list at once, and images\.parq"):
        Shards(config, str(two), folder / "graph")
    for others in ("['commons-p18','url-list']", "['entitynet']"):
        Shards(settings(f"text.filter.skip_sources={others}"), str(two), folder / "graph")


def test_all_that_is_kept_is_in_the_cache_that_is_named(
    folder: Path, model: Model, tmp_path: Path
) -> None:
    texts_of(folder, model, f"data.cache='{tmp_path / 'named'}'")
    assert sorted(path.name for path in (tmp_path / "named").iterdir()) == ["index", "texts"]
    assert not (tmp_path / "sparqless").exists()


def test_processes_of_a_machine_share_its_cores(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.inputs.default_workers", lambda: 16)
    for processes, workers in (("1", 16), ("8", 2), ("20", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        source = Shards(Config(), str(folder / "images"), folder / "graph")
        assert source.workers == workers


def test_what_is_trained_on_is_not_cut_for_evaluation(folder: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key data\.mode"):
        Shards(settings("data.mode='eval'"), str(folder / "images"), folder / "graph")


def test_pairs_are_two(folder: Path) -> None:
    config = settings("text.pair=true", "text.per_image=3")
    with pytest.raises(UserError, match=r"text\.per_image is 3; it must be 2 with text\.pair"):
        Shards(config, str(folder / "images"), folder / "graph")


def test_a_data_set_that_isnt_one_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="holds no finished graph"):
        Shards(settings(), str(folder / "images"), folder / "nothing")
