"""Ranks and recalls beside slow twins; ties and texts in common."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import retrieval
from training.ranking import Right, ranks
from training.retrieval import paired

torch.set_num_threads(1)

Vectors = list[list[int]]
vectors = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=7)


def slow_rank(question: Sequence[int], answers: Vectors, right: Sequence[int]) -> int:
    scores = [sum(a * b for a, b in zip(question, answer, strict=True)) for answer in answers]
    best = max(scores[n] for n in right)
    return 1 + sum(score >= best for n, score in enumerate(scores) if n not in right)


def floats(rows: Vectors) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@given(vectors, vectors, st.data())
def test_ranks_are_those_of_a_loop_whatever_the_size_of_a_block(
    questions: Vectors, answers: Vectors, data: st.DataObject
) -> None:
    some = st.sets(st.integers(0, len(answers) - 1), min_size=1)
    right = [sorted(data.draw(some)) for _ in questions]
    block = data.draw(st.integers(1, 100))
    found = ranks(floats(questions), floats(answers), Right.of(right), block=block)
    expected = [slow_rank(q, answers, own) for q, own in zip(questions, right, strict=True)]
    assert found.rank.tolist() == expected
    for rank, answer, own in zip(expected, found.answer().tolist(), right, strict=True):
        assert (answer in own) == (rank == 1)


@given(vectors, vectors, st.data())
def test_the_order_of_answers_plays_no_part(
    questions: Vectors, answers: Vectors, data: st.DataObject
) -> None:
    right = [[data.draw(st.integers(0, len(answers) - 1))] for _ in questions]
    order = data.draw(st.permutations(range(len(answers))))
    moved = [[order.index(n) for n in own] for own in right]
    one = ranks(floats(questions), floats(answers), Right.of(right))
    other = ranks(floats(questions), floats([answers[n] for n in order]), Right.of(moved))
    assert one.rank.tolist() == other.rank.tolist()


def test_a_model_that_takes_everything_for_the_same_is_never_right() -> None:
    same = torch.nn.functional.normalize(torch.ones(5, 8), dim=1)
    found = ranks(same, same, Right.of([[n] for n in range(5)]))
    assert found.rank.tolist() == [5] * 5


def test_what_float32_cant_tell_apart_is_a_tie() -> None:
    answers = torch.tensor([[1.0, 0.0], [1.0 + 2e-7, 0.0], [0.9, 0.0]])
    found = ranks(torch.tensor([[1.0, 0.0]] * 2), answers, Right.of([[0], [1]]))
    assert found.rank.tolist() == [2, 2]


def test_where_every_answer_is_right_none_is_wrong() -> None:
    found = ranks(floats([[1, 0, 0]]), floats([[1, 0, 0], [0, 1, 0]]), Right.of([[0, 1]]))
    assert found.rank.tolist() == [1]
    assert found.best_wrong.tolist() == [-1]


texts = st.lists(
    st.lists(st.sampled_from(["a dog", "A  Dog", "a cat", "two", "three"]), min_size=1, max_size=4),
    min_size=2,
    max_size=6,
)


@given(texts, st.data())
def test_recalls_are_those_of_a_loop_over_different_texts(
    texts: list[list[str]], data: st.DataObject
) -> None:
    pairs = paired(texts)
    meant = ["dog" if "dog" in t.lower() else t for own in texts for t in own]
    assert len(pairs.texts) == len({*meant})
    three = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    images = [data.draw(three) for _ in texts]
    vectors = [data.draw(three) for _ in pairs.texts]
    found = retrieval.measured(floats(images), floats(vectors), pairs)
    i2t = [slow_rank(q, vectors, own) for q, own in zip(images, pairs.of_image, strict=True)]
    t2i = [slow_rank(q, images, own) for q, own in zip(vectors, pairs.of_text, strict=True)]
    for way, expected in ((found.i2t, i2t), (found.t2i, t2i)):
        assert way.questions == len(expected)
        shares = [sum(rank <= top for rank in expected) / len(expected) for top in (1, 5, 10)]
        assert [way.r1, way.r5, way.r10] == pytest.approx(shares)
        ordered = sorted(expected)
        middle = ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]
        assert way.median_rank == middle / 2
        assert way.mean_rank == pytest.approx(sum(expected) / len(expected))
        assert found.i2t.answers == len(vectors)


def test_images_with_the_same_text_share_it() -> None:
    pairs = paired([["A dog", "a  DOG"], ["a dog", "a cat"]])
    assert pairs.texts == ["A dog", "a cat"]
    assert pairs.of_image == [[0], [0, 1]]
    assert pairs.of_text == [[0, 1], [1]]
