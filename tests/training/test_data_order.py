"""The order of an epoch: every image once, for any number of ranks; numbers only."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import training.data_order
from training.data_order import Plan, Shape, planned


def images_of(plan: Plan, rank: int) -> list[list[tuple[int, int]]]:
    """The rank's batches, each image as (shard, which of it): by the plan's words, slowly."""
    lanes = plan.lanes(rank)
    read: list[list[tuple[int, int]]] = []
    for number in range(lanes):
        lane = plan.lane(rank, number)
        places: list[tuple[int, int]] = [(-1, -1)] * lane.images
        for stream in range(lane.streams):
            pieces = plan.pieces(lane.stream(stream))
            flat = [(shard, n) for shard, part in pieces for n in part]
            places[stream :: lane.streams] = flat
        read.append([places[n] for n in lane.order.tolist()])
    size, found = plan.shape.batch, []
    for batch in range(plan.steps(rank)):
        start = batch // lanes * size
        found.append(read[batch % lanes][start : start + size])
    return found


counts = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(sum)


@given(counts, st.integers(1, 7), st.integers(1, 5), st.integers(1, 60), st.integers(1, 30))
def test_no_image_comes_twice_and_as_few_as_can_be_are_left_out(
    shards: list[int], batch: int, world: int, shuffle: int, lane: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.data_order, "_LANE", lane)
        plan = planned(shards, Shape(batch, world, shuffle), seed=1, epoch=2)
        ranks = [images_of(plan, rank) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    found = [image for batches in ranks for one in batches for image in one]
    assert len(set(found)) == len(found) == sum(shards) // (batch * world) * batch * world
    assert all(0 <= n < shards[shard] for shard, n in found)
    assert {len(one) for batches in ranks for one in batches} <= {batch}


@given(counts, st.integers(1, 7), st.integers(1, 5))
def test_a_tail_may_be_filled_up_with_images_that_come_again(
    shards: list[int], batch: int, world: int
) -> None:
    plan = planned(shards, Shape(batch, world, 10, "repeat"), seed=1, epoch=0)
    ranks = [images_of(plan, rank) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    found = Counter(image for batches in ranks for one in batches for image in one)
    assert len(found) == sum(shards)
    assert max(found.values()) - min(found.values()) <= 1
    assert 0 <= found.total() - sum(shards) < batch * world


@given(counts, st.integers(1, 7), st.integers(1, 5))
def test_evaluation_gives_every_image_once_in_the_order_of_the_shards(
    shards: list[int], batch: int, world: int
) -> None:
    plan = planned(shards, Shape(batch, world, tail="keep"), seed=1, epoch=0)
    found = [i for rank in range(world) for one in images_of(plan, rank) for i in one]
    assert found == [(shard, n) for shard, number in enumerate(shards) for n in range(number)]


def test_an_order_is_of_a_seed_and_an_epoch() -> None:
    shape = Shape(8, 2, 50)
    one = images_of(planned([60, 60, 60], shape, 0, 0), 0)
    assert images_of(planned([60, 60, 60], shape, 0, 0), 0) == one
    assert images_of(planned([60, 60, 60], shape, 0, 1), 0) != one
    assert images_of(planned([60, 60, 60], shape, 1, 0), 0) != one


def test_what_is_left_out_is_another_part_each_epoch() -> None:
    plans = [planned([10] * 10, Shape(30, 1, 100), 0, epoch) for epoch in range(20)]
    left = Counter[tuple[int, int]]()
    for plan in plans:
        met = {image for one in images_of(plan, 0) for image in one}
        left.update({(shard, n) for shard in range(10) for n in range(10)} - met)
    assert left.total() == 20 * 10
    assert len(left) >= 60  # of 100


def test_a_shuffle_that_holds_all_is_even() -> None:
    """How often each of 20 images is the first of 4,000 epochs: chi-square below its 0.1 %."""
    first = Counter(images_of(planned([20], Shape(20, 1, 20), 7, e), 0)[0][0] for e in range(4000))
    assert sum((first[0, n] - 200) ** 2 / 200 for n in range(20)) < 43.8  # 19 degrees of freedom


def test_a_buffer_moves_images_no_further_ahead_than_it_holds() -> None:
    lane = planned([1000], Shape(10, 1, 64), 0, 0).lane(0, 0)
    ahead = lane.order - np.arange(1000)
    assert ahead.max() <= 64
    assert sorted(lane.order.tolist()) == list(range(1000))
    assert np.abs(ahead).mean() > 20


def test_neighbours_are_others_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """EntityNet's 33 million images on 8 ranks with batches of 1,024, at a tenth of all sizes."""
    monkeypatch.setattr(training.data_order, "_LANE", 5_000)
    batch, count = 102, 412_000
    batch_of = np.full((2, count), -1)
    shards_of: list[int] = []
    for epoch in (0, 1):
        plan = planned([1_000] * (count // 1_000), Shape(batch, 1, 3_277), 0, epoch)
        lanes = plan.lanes(0)
        for number in range(lanes):
            lane = plan.lane(0, number)
            image = np.full(lane.images, -1)
            for stream in range(lane.streams):
                parts = plan.pieces(lane.stream(stream))
                image[stream :: lane.streams] = np.concatenate(
                    [np.arange(part.start, part.stop) + 1_000 * shard for shard, part in parts]
                )
            given_out = image[lane.order]
            batch_of[epoch, given_out] = np.arange(lane.images) // batch * lanes + number
            shards_of += [len({*(given_out[n : n + batch] // 1_000)}) for n in (0, 50 * batch)]
    assert np.median(shards_of) >= 16
    both = (batch_of >= 0).all(axis=0)
    _, together = np.unique(batch_of[:, both], axis=1, return_counts=True)
    again = (together * (together - 1)).sum() / (both.sum() * (batch - 1))
    assert again < 0.015


def test_few_images_are_one_lane_and_many_are_lanes_that_workers_share_out() -> None:
    for images, lanes in ((99_999, 1), (100_000, 2), (700_000, 12), (10**7, 24)):
        assert planned([images], Shape(1, 1, 100), 0, 0).lanes(0) == lanes
