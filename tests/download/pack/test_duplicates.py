"""Copies are found however they were changed, look-alikes aren't, and clusters are what they say.

The oracle for which codes meet is a loop over all pairs; for clusters it is the definition.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.look_alikes import CHANGES, drawn
from download.pack import duplicates, likeness
from download.pack.duplicates import Clusters, clusters, matches

FAMILIES = ("landscape", "flower", "portrait", "line drawing")
#: What a copy may have been through and be found in any of these families.
FOUND = (
    "JPEG 30", "WebP 60", "palette (GIF)", "a quarter", "20 % darker", "contrast + 20 %",
    "less colour", "sharpened", "crop 5 %", "one side 10 %",
)  # fmt: skip


def small(kind: str, family: int, member: int) -> Image.Image:
    picture = drawn(kind, family, member)
    picture.thumbnail((340, 340))
    return picture


def likenesses(pictures: list[Image.Image]) -> likeness.Bytes:
    return likeness.likenesses(likeness.of(np.asarray(picture)) for picture in pictures)


@pytest.fixture(scope="module")
def originals() -> likeness.Bytes:
    """Three look-alikes of each family."""
    return likenesses([small(kind, 5, member) for kind in FAMILIES for member in range(3)])


@pytest.fixture(scope="module")
def copies() -> likeness.Bytes:
    """Every change of the first of each family."""
    return likenesses(
        [
            CHANGES[change](small(kind, 5, 0), np.random.default_rng(1))
            for kind in FAMILIES
            for change in FOUND
        ]
    )


def test_copies_are_found(originals: likeness.Bytes, copies: likeness.Bytes) -> None:
    pairs, similarity = matches(copies, originals)
    expected = [(row, row // len(FOUND) * 3) for row in range(len(copies))]
    missed = [FOUND[row % len(FOUND)] for row, of in expected if [row, of] not in pairs.tolist()]
    assert missed == []
    assert pairs.tolist() == [list(pair) for pair in expected]  # and nothing else
    assert (similarity <= 1).all()


def test_look_alikes_are_not_merged(originals: likeness.Bytes) -> None:
    found = clusters(originals)
    assert found.labels.tolist() == list(range(len(originals)))
    assert found.pairs.tolist() == []


def test_a_cluster_is_named_by_its_lowest_row(
    originals: likeness.Bytes, copies: likeness.Bytes
) -> None:
    found = clusters(np.concatenate([copies, originals]))
    count = len(copies)
    expected = [row - row % len(FOUND) for row in range(count)]
    for family in range(len(FAMILIES)):
        expected += [family * len(FOUND), count + family * 3 + 1, count + family * 3 + 2]
    assert found.labels.tolist() == expected
    assert found.linked.tolist() == expected
    assert found.counts["compared"] >= len(found.pairs)


def test_plain_pictures_have_no_copies() -> None:
    """Gradients and white pages are all alike: the trap of perceptual hashes."""
    plain = [drawn("gradient", 0, member) for member in range(3)]
    plain += [Image.new("RGB", (300, 200), colour) for colour in ("white", "white", "gray")]
    found = clusters(likenesses(plain))
    assert found.labels.tolist() == list(range(6))
    assert found.counts["plain"] == 6


def test_no_pictures_and_one() -> None:
    none = np.zeros((0, likeness.LENGTH), np.uint8)
    assert clusters(none).labels.tolist() == []
    one = likenesses([drawn("map", 0, 0)])
    assert clusters(one).labels.tolist() == [0]
    assert matches(none, one)[0].tolist() == []


def test_files_in_between_change_nothing(
    originals: likeness.Bytes, copies: likeness.Bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What doesn't fit the memory goes to the disk, a part of the keys at a time."""
    many = np.concatenate([originals, copies])
    expected = clusters(many)
    for name, value in (("_ENTRIES", 500), ("_PAIRS", 100), ("_CHUNK", 7)):
        monkeypatch.setattr(duplicates, name, value)
    path = tmp_path / "likenesses"
    path.write_bytes(many.tobytes())
    mapped = np.memmap(path, np.uint8, "r", shape=many.shape)
    found = clusters(mapped, scratch=tmp_path)
    assert_same(found, expected)
    assert list(tmp_path.iterdir()) == [path]


def assert_same(one: Clusters, other: Clusters) -> None:
    assert one.labels.tolist() == other.labels.tolist()
    assert one.linked.tolist() == other.linked.tolist()
    assert one.pairs.tolist() == other.pairs.tolist()
    np.testing.assert_allclose(one.similarity, other.similarity, atol=1e-3)


def test_a_thousand_copies_of_one_photograph_cost_a_thousand_comparisons() -> None:
    random = np.random.default_rng(7)
    photograph = small("landscape", 5, 0)
    copies = []
    for _ in range(1_000):
        noise = random.integers(-1, 2, (photograph.height, photograph.width, 1))
        pixels = np.asarray(photograph).astype(int) + noise
        copies.append(likeness.of(pixels.clip(0, 255).astype(np.uint8)))
    found = clusters(likeness.likenesses(copies))
    assert (found.labels == 0).all()
    assert (found.linked == 0).all()
    assert len(found.pairs) + found.counts["candidates"] < 5_000


@pytest.mark.parametrize("cap", ["_CROWD", "_NEAREST"])
def test_a_crowd_is_thinned_and_counted(
    cap: str, copies: likeness.Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand pictures with one code must not be compared a million times."""
    monkeypatch.setattr(duplicates, cap, 8)
    monkeypatch.setattr(duplicates, "_TWIN", 2.0)  # none
    crowd = np.repeat(copies[:1], 100, axis=0)
    found = clusters(crowd)
    assert found.counts["crowded"] > 0
    assert found.counts["compared"] < 100 * 99 / 2


# ------------------------------------------------------------------------------- clusters


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 12))
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs = draw(st.sets(pair.filter(lambda ends: ends[0] < ends[1])))
    return count, sorted(pairs)


def as_rows(pairs: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.array(pairs, np.int64).reshape(-1, 2)


@given(graphs())
def test_linked_is_reachability(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = graph
    reach = np.eye(count, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(count):
        reach = reach @ reach
    assert duplicates._components(count, as_rows(pairs)).tolist() == reach.argmax(axis=1).tolist()


@given(graphs(), st.randoms(use_true_random=False))
def test_all_of_a_cluster_are_the_same_as_its_middle(
    graph: tuple[int, list[tuple[int, int]]], random: st.DataObject
) -> None:
    count, pairs = graph
    similarity = np.array([random.random() for _ in pairs], np.float32)  # type: ignore[attr-defined]
    labels = duplicates._stars(count, as_rows(pairs), similarity)
    for label in set(labels.tolist()):
        members = np.flatnonzero(labels == label).tolist()
        assert label == min(members)
        assert any(
            all(tuple(sorted((middle, row))) in pairs for row in members if row != middle)
            for middle in members
        )
    for one, other in pairs:  # nobody is left alone beside a free neighbour
        alone = (labels == labels[one]).sum() == 1 and (labels == labels[other]).sum() == 1
        assert not alone


# ------------------------------------------------------------------------------- codes


def test_keys_find_what_is_all_pairs_find(originals: likeness.Bytes) -> None:
    """Every part whose code starts with a key that is asked for, and is near, is a candidate."""
    work = duplicates._Work(None, lambda _: None)
    search = duplicates._Search(originals, originals, work)
    found = {
        (int(first), int(whole), int(part))
        for candidates in duplicates._candidates(originals, originals, search)
        for first, whole, part in zip(*candidates, strict=True)
    }
    parts = duplicates._codes(originals).tolist()
    wholes = duplicates._own(originals)
    asked = duplicates._asked(wholes, 24).tolist()
    expected = {
        (first, whole, part)
        for first in range(len(originals))
        for whole in range(len(originals))
        for part in range(len(duplicates.PARTS))
        if first != whole
        and parts[first][part] >> 40 in asked[whole]
        and (parts[first][part] ^ parts[whole][0]).bit_count() <= duplicates._CODE_DISTANCE
    }
    assert found == expected


def test_the_code_of_a_part_is_about_that_of_the_crop() -> None:
    picture = small("landscape", 0, 1)
    codes = duplicates._codes(likenesses([picture]))[0]
    width, height = picture.size
    for part, code in zip(duplicates.PARTS, codes.tolist(), strict=True):
        left, right, top, bottom = part.tolist()
        box = (
            round(left * width),
            round(top * height),
            round(right * width),
            round(bottom * height),
        )
        own = duplicates._codes(likenesses([picture.crop(box)]))[0, 0]
        assert (code ^ int(own)).bit_count() <= 8


def test_more_pictures_have_longer_keys() -> None:
    bits = [duplicates.key_bits(count) for count in (0, 10, 2_000_000, 2_000_001, 10**7, 10**9)]
    assert bits == [24, 24, 24, 26, 30, 30]
