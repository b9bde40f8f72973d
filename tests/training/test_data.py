"""Shards into batches: every image once, the same each time, whatever breaks on the way."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import etl.progress
import training.data_index
import training.data_place
import training.data_shards
import training.data_worker
from etl.errors import UserError
from tests.etl.server import Server, running
from tests.training.drawn import LENGTH, draw, draw_two, tokenize
from tests.training.packed import (
    MEAN,
    SIZE,
    STD,
    keys_by_batch,
    keys_of,
    loader,
    make_shards,
    members,
    overwrite,
)
from training.data import Batch, DataOptions, Loader, Wanted, normalised
from training.data_index import shards_manifest
from training.pictures import of_shards

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 shards of 80 images to train on, 10 others; not to be written into."""
    return make_shards(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own(shards: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "shards"))


def equal(one: Batch, other: Batch) -> bool:
    tensors = zip(one[:2], other[:2], strict=True)
    return one.keys == other.keys and all(torch.equal(a, b) for a, b in tensors)


def flat(batches: list[list[str]]) -> list[str]:
    return list(itertools.chain(*batches))


# --- what an epoch has --------------------------------------------------------------------------


def test_a_batch_is_images_tokens_and_keys(shards: Path, cache: Path) -> None:
    batch = next(loader(shards, cache, draw=draw_two).epoch(0))
    assert batch.images.shape == (8, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.float32
    assert batch.tokens.shape == (8, 2, LENGTH)
    assert batch.tokens.dtype == torch.int64
    rows = {key: n for n, key in enumerate(keys_of(shards))}
    assert all(key in rows for key in batch.keys)


@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_every_image_comes_once_over_all_ranks(shards: Path, cache: Path, world: int) -> None:
    """20 ranks: more than there are shards."""
    size = 4 if world < 20 else 2
    ranks = [loader(shards, cache, batch=size, rank=r, world=world) for r in range(world)]
    assert {one.batches(epoch) for one in ranks for epoch in range(3)} == {80 // (size * world)}
    for epoch in (0, 1):
        found = [key for one in ranks for key in flat(keys_by_batch(one, epoch))]
        assert len(set(found)) == len(found) == 80 - ranks[0].dropped
        assert set(found) <= set(keys_of(shards))
    assert ranks[0].dropped == 80 % (size * world)


def test_the_keys_of_an_epoch_are_the_splits(shards: Path, cache: Path) -> None:
    one = loader(shards, cache)
    assert one.images == one.all_images == 80
    found = keys_by_batch(one)
    assert sorted(flat(found)) == sorted(keys_of(shards))
    assert len(found) == one.batches(0) == 10
    assert keys_by_batch(one, 1) != found
    assert keys_by_batch(loader(shards, cache)) == found
    assert keys_by_batch(loader(shards, cache, seed=1)) != found


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_do_not_depend_on_workers(shards: Path, cache: Path, workers: int) -> None:
    """Of two epochs with the same processes, one begun and given up in between, one resumed."""
    with loader(shards, cache) as alone, loader(shards, cache, workers=workers) as one:
        assert all(map(equal, one.epoch(0), alone.epoch(0)))
        next(one.epoch(1))
        expected = list(alone.epoch(1))
        assert all(map(equal, one.epoch(1), expected))
        resumed = list(one.epoch(1, start=7))
        assert len(resumed) == 3
        assert all(map(equal, resumed, expected[7:]))


def test_more_workers_and_ranks_than_shards(shards: Path, cache: Path, tmp_path: Path) -> None:
    few = make_shards(tmp_path / "few", images=40, shard_count=1000)
    assert len([*few.glob("train-*.tar")]) == 1
    found = []
    for rank in (0, 1):
        with loader(few, tmp_path, batch=3, rank=rank, world=2, workers=3) as one:
            batches = list(one.epoch(0))
        alone = loader(few, tmp_path, batch=3, rank=rank, world=2)
        assert len(batches) == alone.batches(0)
        assert all(map(equal, batches, alone.epoch(0)))
        found += [key for batch in batches for key in batch.keys]
    assert len(set(found)) == len(found) == alone.images - alone.dropped
    assert set(found) <= set(keys_of(few))


@pytest.mark.parametrize("start", [0, 1, 6, 9, 10])
def test_an_epoch_goes_on_where_it_was_left(shards: Path, cache: Path, start: int) -> None:
    one = loader(shards, cache, options={"shuffle": 12})
    expected = list(one.epoch(2))
    assert all(map(equal, one.epoch(2, start), expected[start:]))
    assert len(list(one.epoch(2, start))) == 10 - start


def test_what_is_skipped_is_neither_decoded_nor_read(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, read = Counter[str](), 0
    look = training.data_worker.Eye.look
    sample = training.data_shards.read

    def counting(*given: Any) -> None:
        looked["images"] += 1
        look(*given)

    def reading(*given: Any) -> Iterator[Any]:
        nonlocal read
        for one in sample(*given):
            read += 1
            yield one

    monkeypatch.setattr(training.data_worker.Eye, "look", counting)
    monkeypatch.setattr(training.data_shards, "read", reading)
    list(loader(shards, cache).epoch(0, start=8))
    assert looked["images"] == read == 16


def test_a_filter_is_exact_and_counted_once(shards: Path, tmp_path: Path) -> None:
    asked = Counter[str]()

    def dogs(row: Mapping[str, Any]) -> bool:
        asked[row["key"]] += 1
        return "Q144" in row["entities"]

    wanted = Wanted(dogs, ["entities"], "dogs")
    one = loader(shards, tmp_path, wanted=wanted, batch=5)
    dog_keys = {k for k, n in zip(keys_of(shards), _entities(shards), strict=True) if "Q144" in n}
    found = flat(keys_by_batch(one))
    assert 0 < one.images == len(dog_keys) < one.all_images == 80
    assert set(found) <= dog_keys
    assert len(found) == len(set(found)) == len(dog_keys) // 5 * 5 == one.batches(0) * 5
    assert asked.total() == 80
    assert loader(shards, tmp_path, wanted=wanted).images == len(dog_keys)
    assert asked.total() == 80, "counts are kept by digest"
    assert loader(shards, tmp_path).images == 80


def _entities(shards: Path) -> list[list[str]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(shards / "images.parquet").to_pylist()
    return [row["entities"] for row in rows if row["split"] == "train"]


def test_evaluation_has_every_image_once_cut_as_open_clip_does(shards: Path, cache: Path) -> None:
    import training.vision  # noqa: F401 - first, see there

    # isort: split
    from open_clip.transform import image_transform

    ranks = [loader(shards, cache, "val", batch=4, rank=r, world=2, mode="eval") for r in (0, 1)]
    batches = [batch for one in ranks for batch in one.epoch(0)]
    assert [key for batch in batches for key in batch.keys] == keys_of(shards, "val")
    assert [one.batches(0) for one in ranks] == [2, 1]
    assert ranks[0].dropped == 0
    theirs = image_transform(SIZE, is_train=False, mean=MEAN, std=STD)
    (tar,) = shards.glob("val-*.tar")
    for batch in batches:
        for key, image in zip(batch.keys, batch.images, strict=True):
            offset, size = members(tar)[f"{key}.jpg"]
            jpeg = tar.read_bytes()[offset : offset + size]
            assert torch.equal(image, theirs(Image.open(io.BytesIO(jpeg))))


def test_a_tail_can_be_filled_up(shards: Path, cache: Path) -> None:
    one = loader(shards, cache, batch=33, options={"tail": "repeat"})
    found = Counter(flat(keys_by_batch(one)))
    assert set(found) == set(keys_of(shards))
    assert found.total() == one.batches(0) * 33 == 99
    assert one.dropped == -19


def test_images_can_stay_bytes(shards: Path, cache: Path) -> None:
    floats = next(loader(shards, cache).epoch(0))
    bytes_ = next(loader(shards, cache, options={"as_bytes": True}).epoch(0))
    assert bytes_.images.dtype == torch.uint8
    assert torch.equal(normalised(bytes_.images, MEAN, STD), floats.images)


def test_a_crop_does_not_depend_on_shards_and_batches(
    shards: Path, cache: Path, tmp_path: Path
) -> None:
    other = make_shards(tmp_path, shard_count=17)

    def by_key(one: Loader) -> dict[str, torch.Tensor]:
        return {
            key: image
            for batch in one.epoch(4)
            for key, image in zip(batch.keys, batch.images, strict=True)
        }

    ours, others = by_key(loader(shards, cache)), by_key(loader(other, tmp_path, batch=5))
    assert ours.keys() == others.keys()
    assert all(torch.equal(ours[key], others[key]) for key in ours)


def test_what_batches_depend_on_is_told(shards: Path, cache: Path) -> None:
    same = [loader(shards, cache, workers=w).identity for w in (0, 2)]
    assert same[0] == same[1] == json.loads(json.dumps(same[0]))
    for other in ({"batch": 4}, {"seed": 1}, {"world": 2}, {"options": {"scale": (0.5, 1.0)}}):
        assert loader(shards, cache, **other).identity != same[0]


# --- elsewhere ----------------------------------------------------------------------------------


def test_shards_elsewhere_give_the_same(shards: Path, cache: Path, tmp_path: Path) -> None:
    with loader(f"file://{shards}/", tmp_path, workers=2) as there:
        assert there.images == 80
        assert all(map(equal, there.epoch(0), loader(shards, cache).epoch(0)))


def test_a_place_that_fails_now_and_then_is_asked_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileOpener

    reads, read = itertools.count(1), LocalFileOpener.read

    def failing(self: Any, size: int = -1) -> bytes:
        if str(self.path).endswith(".tar") and next(reads) % 3 == 0:
            raise TimeoutError("the storage is slow")
        found: bytes = read(self, size)
        return found

    monkeypatch.setattr(LocalFileOpener, "read", failing)
    monkeypatch.setattr(training.data_place, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(training.data_shards, "_PIECE", 4096)
    there = loader(f"file://{shards}", tmp_path)
    assert sorted(flat(keys_by_batch(there))) == sorted(keys_of(shards))
    assert not there.damage
    monkeypatch.setattr(training.data_place, "WAITS", ())
    with pytest.raises(UserError, match=r"can't be used from .*the storage is slow"):
        list(there.epoch(0))


def test_shards_of_a_web_server_give_the_same(
    shards: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists nothing, as most don't, and answers ranges."""
    monkeypatch.setattr(training.data_shards, "_PIECE", 20_000)
    with running() as server:
        there = loader(f"{serve(server, shards)}/", tmp_path)
        assert all(map(equal, there.epoch(0), loader(shards, cache).epoch(0)))
        assert there.batches(0) == 10
        assert not there.damage


def serve(server: Server, shards: Path, at: str = "/shards") -> str:
    """``at``: another for each test, as a port may come again."""
    for path in shards.iterdir():
        server.put(f"{at}/{path.name}", path.read_bytes())
    return server.url(at)


def test_shards_of_a_web_server_are_looked_at_once(shards: Path) -> None:
    """By a process: several parts of a run ask, and EntityNet has 3,300."""
    with running() as server:
        at = serve(server, shards, "/once")
        files = len(shards_manifest(at)["outputs"])
        looked = {path for _, path, _ in server.asked}
        assert len(looked) == files + 1
        del server.asked[:]
        assert shards_manifest(at) == shards_manifest(at) == shards_manifest(str(shards))
        assert {path for _, path, _ in server.asked} == {"/once/manifest.json"}
        manifest = json.loads(server.files["/once/manifest.json"])
        server.put("/once/manifest.json", json.dumps({**manifest, "created": "anew"}).encode())
        shards_manifest(at)
        assert {path for _, path, _ in server.asked} == looked


def test_shards_of_a_web_server_that_are_damaged_are_refused_until_they_are_whole(
    shards: Path,
) -> None:
    with running() as server:
        at = serve(server, shards, "/damaged")
        server.put("/damaged/train-000003.tar", bytes(100))
        del server.files["/damaged/train-000005.tar"]
        for _ in range(2):
            with pytest.raises(UserError, match=r"train-000003.tar, train-000005.tar are missing"):
                shards_manifest(at)
        serve(server, shards, "/damaged")
        shards_manifest(at)


def test_a_web_server_that_fails_now_and_then_is_asked_again(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.data_place, "WAITS", (0.0, 0.0, 0.0, 0.0))
    with running() as server:
        at = serve(server, shards, "/fails")
        server.statuses = [(503, {})] * 2  # of the manifest
        assert shards_manifest(at) == shards_manifest(str(shards))
    with running() as server:
        at = serve(server, shards, "/fails-too")
        seen = itertools.count()  # the first is for the manifest, those behind it for sizes
        server.before = lambda _: (
            server.statuses.append((503, {})) if next(seen) in (1, 2, 3) else None
        )
        assert shards_manifest(at) == shards_manifest(str(shards))
        server.before = lambda _: server.statuses.append((503, {}))
        with pytest.raises(UserError, match=r"/fails-too can't be used from .*503"):
            shards_manifest(at)


def test_a_web_server_that_fails_as_a_shard_is_opened_damages_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.data_place, "WAITS", (0.0,))
    with running() as server:
        there = loader(serve(server, shards, "/opened"), tmp_path)
        server.statuses = [(503, {})]
        assert sorted(flat(keys_by_batch(there))) == sorted(keys_of(shards))
        assert not there.damage


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a password") as told:
        loader("http://user:secret@127.0.0.1:1/shards", tmp_path)
    assert "secret" not in str(told.value)


def test_a_shard_that_is_removed_while_a_run_goes_on_is_damage_anywhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it won't come back"))
    here, there = loader(own, tmp_path), loader(f"file://{own}", tmp_path)
    (own / "train-000001.tar").unlink()
    assert all(map(equal, here.epoch(0), there.epoch(0)))
    assert here.damage == there.damage == {"unreadable": 10}


def test_no_shards_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished shards"):
        loader(f"file://{tmp_path}/none", tmp_path)


# --- damage -------------------------------------------------------------------------------------


def test_shards_that_are_cut_off_or_gone_are_refused_at_the_start(
    own: Path, tmp_path: Path
) -> None:
    os.truncate(own / "train-000003.tar", 4000)
    (own / "train-000005.tar").unlink()
    for location in (own, f"file://{own}"):
        with pytest.raises(UserError, match=r"train-000003.tar, train-000005.tar are missing or"):
            loader(location, tmp_path)


def corrupt(shards: Path, number: int, name: str, at: int = 0, data: bytes = bytes(200)) -> str:
    """Overwrites a part of the n-th member that ends in ``name`` of the third shard; its key."""
    tar = shards / "train-000002.tar"
    found = [(n, at_) for n, at_ in members(tar).items() if n.endswith(name)]
    member, (offset, _) = found[number]
    overwrite(tar, offset + at, data)
    return member.partition(".")[0]


def test_damaged_images_are_counted_and_told_once_a_shard(own: Path, tmp_path: Path) -> None:
    told: list[str] = []
    one = loader(own, tmp_path, warn=told.append)
    expected = {key: batch for batch in one.epoch(0) for key in batch.keys}
    lost = {
        corrupt(own, 1, ".jpg"): "broken_jpg",
        corrupt(own, 3, ".json"): "broken_json",
        corrupt(own, 5, ".jpg", at=-512): "no_jpg",
    }
    batches = list(one.epoch(0))
    assert len(batches) == 10
    assert all(len(batch.keys) == 8 for batch in batches)
    found = Counter(key for batch in batches for key in batch.keys)
    assert set(found) == set(keys_of(own)) - {*lost}
    assert found.total() == 80
    assert one.damage == Counter(lost.values())
    (sentence,) = told
    assert sentence.startswith("train-000002: ")
    assert "another image of its batch stands in its place" in sentence
    for batch in batches:  # what can be used is what it was, in its place
        for place, key in enumerate(batch.keys):
            if key == expected[key].keys[place]:
                assert torch.equal(batch.images[place], expected[key].images[place])
    resumed = list(one.epoch(0, start=4))
    assert all(map(equal, resumed, batches[4:]))


def test_a_shard_that_is_cut_off_while_a_run_goes_on(own: Path, tmp_path: Path) -> None:
    one = loader(own, tmp_path)
    tar = own / "train-000006.tar"
    ends = sorted(offset + size for name, (offset, size) in members(tar).items() if "json" in name)
    os.truncate(tar, ends[6])
    (own / "train-000001.tar").unlink()
    found = flat(keys_by_batch(one))
    assert one.damage == {"cut_off": 3, "unreadable": 10}
    assert len(set(found)) == 80 - 13


@pytest.mark.parametrize("workers", [0, 2])
def test_too_much_damage_ends_the_epoch(own: Path, tmp_path: Path, workers: int) -> None:
    with loader(own, tmp_path, workers=workers, options={"most_damaged": 2}) as one:
        corrupt(own, 1, ".jpg")
        corrupt(own, 2, ".jpg")
        assert len(list(one.epoch(0))) == 10
        corrupt(own, 3, ".jpg")
        with pytest.raises(UserError, match=r"more than 2 images .*broken_jpg 3; 5 of them in tra"):
            list(one.epoch(1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_which_nothing_can_be_used_ends_it_too(
    own: Path, tmp_path: Path, workers: int
) -> None:
    with loader(own, tmp_path, workers=workers, options={"shuffle": 1}, batch=2) as one:
        for tar in own.glob("train-*.tar"):
            os.truncate(tar, 100)
        with pytest.raises(UserError, match=r"none of the 2 images of a batch .*cut_off"):
            list(one.epoch(0))


def no_text(key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    return [] if row["caption"] == "picture 8" else ["" if row["caption"] == "picture 9" else "t"]


def test_images_without_text_stand_aside(shards: Path, cache: Path) -> None:
    one = loader(shards, cache, draw=no_text)
    found = Counter(flat(keys_by_batch(one)))
    assert one.damage["no_text"] == 80 - len(found) <= 2
    assert found.total() == 80


def test_texts_of_unequal_number_are_a_mistake(shards: Path, cache: Path) -> None:
    def unequal(key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
        return ["t"] * (1 + int(key[0], 16) % 2)

    with pytest.raises(ValueError, match=r"[12] texts for"):
        list(loader(shards, cache, draw=unequal).epoch(0))


_FEW_FILES = """
import os, resource, sys
from pathlib import Path
from etl.errors import UserError
from tests.training.packed import loader
both = [
    loader(location, Path(sys.argv[2]), options={"most_damaged": 0})
    for location in (Path(sys.argv[1]), f"file://{sys.argv[1]}")
]
few, hard = len(os.listdir("/proc/self/fd")) + 3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
print(*[len(list(one.epoch(0))) for one in both])
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
for one in both:
    try:
        list(one.epoch(0))
    except UserError as error:
        print(error)
"""


def test_too_many_open_files_are_no_damage(shards: Path, cache: Path, tmp_path: Path) -> None:
    """A low limit is raised, where the system lets it; where it doesn't, that is said."""
    ended = subprocess.run(
        [sys.executable, "-c", _FEW_FILES, shards, cache],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    batches, *sentences = ended.stdout.decode().splitlines()
    assert batches == "10 10"
    assert len(sentences) == 2
    for told in sentences:
        assert re.search(r"train-\d+\.tar can't be opened, .* files open here .*ulimit -n", told)


# --- workers ------------------------------------------------------------------------------------


def deadly(flag: Path, times: int, key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    """Kills its process at the picture 5, so many times."""
    if row["caption"] == "picture 5":
        met = len([*flag.parent.glob(f"{flag.name}*")])
        if met < times:
            flag.with_name(f"{flag.name}{met}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return draw(key, row, epoch)


def test_a_worker_that_is_killed_is_started_again_where_it_was(
    shards: Path, cache: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    dying = partial(deadly, tmp_path / "met", 1)
    with loader(shards, cache, draw=dying, workers=2, warn=told.append) as one:
        batches = list(one.epoch(0))
    assert len(batches) == 10
    assert all(map(equal, batches, loader(shards, cache).epoch(0)))
    (sentence,) = told
    assert "was killed (SIGKILL)" in sentence
    assert "all of them are started again" in sentence


def test_a_worker_that_is_killed_between_epochs_is_started_again(shards: Path, cache: Path) -> None:
    told: list[str] = []
    before = set(multiprocessing.active_children())
    with loader(shards, cache, workers=2, warn=told.append) as one:
        list(one.epoch(0))
        worker = next(p for p in multiprocessing.active_children() if p not in before)
        worker.kill()
        worker.join()
        assert all(map(equal, one.epoch(1), loader(shards, cache).epoch(1)))
    (sentence,) = told
    assert "was killed (SIGKILL)" in sentence


def deadly_once(flag: Path, where: str, key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    """Kills its process at one image, the first time."""
    if key == where and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(key, row, epoch)


def test_a_worker_that_is_being_killed_is_started_again_too(
    shards: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before torch sees that it is gone, a batch that it made can't be had any more."""
    torchs = torch.utils.data.dataloader._MultiProcessingDataLoaderIter
    get = torchs._try_get_data
    told: list[str] = []

    def dying(self: Any, *given: Any) -> Any:
        if (tmp_path / "met").exists() and not told:
            raise EOFError
        return get(self, *given)

    monkeypatch.setattr(torchs, "_try_get_data", dying)
    alone = list(loader(shards, cache).epoch(0))
    deadly = partial(deadly_once, tmp_path / "met", alone[1].keys[0])
    with loader(shards, cache, draw=deadly, workers=1, warn=told.append) as one:
        batches = list(one.epoch(0))
    assert all(map(equal, batches, alone))
    assert len(batches) == 10
    assert "was killed (SIGKILL); all of them are started again" in told[0]


def test_a_worker_that_is_killed_again_and_again_is_an_error(
    shards: Path, cache: Path, tmp_path: Path
) -> None:
    dying = partial(deadly, tmp_path / "met", 99)
    with (
        loader(shards, cache, draw=dying, workers=1) as one,
        pytest.raises(UserError, match=r"killed \(SIGKILL\) at batch \d of epoch 0 twice.*memory"),
    ):
        list(one.epoch(0))


def wrong(key: str, row: Mapping[str, Any], epoch: int) -> list[str]:
    raise UserError("the texts are gone; look for them.")


def test_a_sentence_for_the_user_comes_from_a_worker_as_it_is(shards: Path, cache: Path) -> None:
    with (
        loader(shards, cache, draw=wrong, workers=1) as one,
        pytest.raises(UserError, match=r"^the texts are gone; look for them\.$"),
    ):
        list(one.epoch(0))


_KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from tests.training.packed import loader
if __name__ == "__main__":
    one = loader(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
    next(one.epoch(0))
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_leave_when_their_parent_is_killed(
    shards: Path, cache: Path, tmp_path: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    ended = subprocess.run(
        [sys.executable, script, shards, cache],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor) as process:
            assert select.select([process], [], [], 30)[0], "it is still there after 30 s"


def test_a_sigterm_that_comes_as_workers_begin_is_told(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun sends it to all: the process that trains saves then, what it has started goes on."""
    from multiprocessing import forkserver

    begin, told = forkserver.ensure_running, list[int]()

    def meanwhile() -> None:
        begin()
        for process in (os.getpid(), forkserver._forkserver._forkserver_pid):
            os.kill(process, signal.SIGTERM)

    monkeypatch.setattr(forkserver, "ensure_running", meanwhile)
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        with loader(shards, cache, workers=1) as one:
            assert len(list(one.epoch(0))) == 10
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]


# --- what is asked for --------------------------------------------------------------------------


def test_what_cannot_be_loaded_is_told_at_once(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no images in the split 'test'"):
        loader(shards, tmp_path, "test")
    with pytest.raises(
        UserError, match=r"80 images of 'train' fill no batch of 27 images on 3 pro"
    ):
        loader(shards, tmp_path, batch=27, world=3)
    with pytest.raises(UserError, match=r"the filter leaves none of the 80 images"):
        loader(shards, tmp_path, wanted=Wanted(lambda _: False, [], "none"))
    with pytest.raises(UserError, match=r"holds no finished shards: it has no manifest.json"):
        loader(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", (0.5, 0.2)), ("scale", (0, 1)), ("ratio", (2, 1)), ("shuffle", 0),
     ("most_damaged", -1), ("prefetch", 0)],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{name}: .* is not "):
        DataOptions(**{name: value})


def test_counting_says_nothing_to_whom_wants_it_quiet(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(etl.progress, "_QUIET_SECONDS", -100.0)  # shown however short it takes
    loader(shards, tmp_path / "shown")
    assert "counting images" in capsys.readouterr().err
    loader(shards, tmp_path / "quiet", quiet=True)
    next(of_shards(str(shards), "val", 1, cache=tmp_path / "pictures"))
    assert not capsys.readouterr().err


def test_one_table_of_counts_is_made_however_many_ask(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote, write = Counter[str](), training.data_index._write
    monkeypatch.setattr(
        training.data_index, "_write", lambda *given: (wrote.update(["x"]), write(*given))
    )
    for rank in (0, 1):
        loader(shards, tmp_path, rank=rank, world=2, tokenize=tokenize)
    assert wrote.total() == 1
