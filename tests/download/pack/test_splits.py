"""Splits: shares as asked for, alike pictures together, and no image that ever moves."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from download.pack.splits import (
    NONE,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    by_content,
    check_shares,
    settled,
)
from etl.errors import UserError


def digests(numbers: list[int]) -> np.ndarray:
    found = b"".join(hashlib.sha256(b"%d" % number).digest() for number in numbers)
    return np.frombuffer(found, np.uint8).reshape(-1, 32)


def test_shares_are_about_what_was_asked_for() -> None:
    found = by_content(digests(list(range(20_000))), 0.1, 0.05)
    shares = [np.count_nonzero(found == code) / 20_000 for code in (TRAIN, VAL, TEST)]
    assert shares == pytest.approx([0.85, 0.1, 0.05], abs=0.01)


def test_a_share_of_nothing_gets_nothing_and_one_of_all_gets_all() -> None:
    ends = np.array([[0] * 32, [255] * 32], np.uint8)
    assert by_content(ends, 0, 0).tolist() == [TRAIN, TRAIN]
    assert by_content(ends, 0, 1).tolist() == [TEST, TEST]
    assert by_content(ends, 0.5, 0.5).tolist() == [VAL, TEST]


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_larger_shares_take_from_train_alone(
    val: float, more: float, test: float, most: float
) -> None:
    some = digests(list(range(300)))
    before = by_content(some, min(val, more), min(test, most))
    after = by_content(some, max(val, more), max(test, most))
    moved = before != after
    assert (before[moved] == TRAIN).all()


def test_the_split_says_nothing_about_the_key() -> None:
    """Else val would be the images whose keys come first, and clusters, of which the lowest
    SHA-256 decides, more often in val than others."""
    rng = np.random.default_rng(0)
    many = rng.integers(0, 256, (30_000, 32), np.uint8)
    lowest = np.array([min(map(bytes, some)) for some in many.reshape(-1, 10, 32)], "S32")
    whole = np.frombuffer(b"".join(x.ljust(32, b"\0") for x in lowest.tolist()), np.uint8)
    found = by_content(whole.reshape(-1, 32), 0.2, 0.2)
    assert np.count_nonzero(found == VAL) == pytest.approx(600, abs=80)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (0, 1), (0.6, 0.5), (float("nan"), 0)])
def test_shares_that_cannot_be_are_refused(val: float, test: float) -> None:
    with pytest.raises(UserError, match="shares of all images"):
        check_shares(val, test)


def test_what_bridges_two_splits_belongs_to_the_one_that_is_held_out() -> None:
    image = np.array([0, 0, 1, 1, 2, 3])
    earlier = np.array([TRAIN, VAL, TEST, VAL, NONE, TRAIN], np.int8)
    split, left_out = settled(image, earlier, np.array([TRAIN, TRAIN, VAL, TEST], np.int8))
    assert split.tolist() == [VAL, TEST, VAL, TRAIN]
    assert left_out.tolist() == [True, False, False, True, False, False]


Build = tuple[list[int], list[int]]  # files, and the cluster of each


def builds() -> st.SearchStrategy[list[Build]]:
    """Sets that grow, shrink and are clustered otherwise each time."""
    files = st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=30)
    one = files.flatmap(
        lambda some: st.tuples(
            st.just(sorted(some)),
            st.lists(st.integers(0, 8), min_size=len(some), max_size=len(some)),
        )
    )
    return st.lists(one, min_size=2, max_size=5)


@given(builds())
def test_an_image_never_moves_while_each_build_is_given_the_one_before(some: list[Build]) -> None:
    """As `pack --splits-from` does it: what is left out, or gone, is remembered with its split."""
    before: dict[int, int] = {}  # file → the split in which it stood
    for files, clusters in some:
        names, image = np.unique(clusters, return_inverse=True)
        earlier = np.array([before.get(file, NONE) for file in files], np.int8)
        lowest = digests([files[clusters.index(name)] for name in names.tolist()])
        split, left_out = settled(image, earlier, by_content(lowest, 0.3, 0.3))
        now = np.where(left_out, earlier, split[image]).tolist()
        assert all(before.get(file, at) == at for file, at in zip(files, now, strict=True))
        assert {*image[~left_out].tolist()} == {*image.tolist()}  # no image is left without a file
        before |= dict(zip(files, now, strict=True))


def test_the_names_of_splits_are_those_that_readers_know() -> None:
    assert SPLITS == ("train", "val", "test")
