"""At which place the best right answer stands: what accuracies and recalls are counted from.

    found = ranks(images, texts, right)       # both (n, d) and (m, d), rows of length 1
    (found.rank <= 5).float().mean()          # acc5, or R@5

**Ties go against the model.** The rank is one more than the wrong answers that score as high as the
best right one or higher: a model that gives everything the same embedding is wrong everywhere, and
the order of the answers plays no part. What is within :data:`TIE` of each other is a tie, since
float32 can't tell it apart and sums in another order in another block.

Scores are made block by block and never kept: 33,000 images by 165,000 texts are 22 GB of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

#: Cosines nearer than this are the same: some units in the last place of float32 at 1 (6e-8), times
#: what sums over some hundred dimensions add to it.
TIE: Final = 1e-6

#: Bytes of scores at once.
BLOCK: Final = 1 << 26


_EXACT: Final = 1 << 24


class Right(NamedTuple):
    """Which answers are right: those of question i are ``answer[start[i]:start[i + 1]]``."""

    start: Tensor  # (n + 1,) int64
    answer: Tensor  # (all,) int64

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Right:
        """From a list of answers for each question."""
        start, answer = [0], list[int]()
        for some in lists:
            answer.extend(some)
            start.append(len(answer))
        return cls(torch.tensor(start), torch.tensor(answer, dtype=torch.int64))

    def counts(self) -> Tensor:
        """How many are right, (n,)."""
        return self.start.diff()


class Ranks(NamedTuple):
    """Of each question, on the CPU. ``best_wrong`` is -1 where no answer is wrong."""

    rank: Tensor  # (n,) int64, from 1 on
    best_right: Tensor  # (n,) int64: index of an answer
    best_wrong: Tensor  # (n,) int64

    def answer(self) -> Tensor:
        """What the model answers, (n,): the best right one at rank 1, else the best wrong one."""
        return torch.where(self.rank == 1, self.best_right, self.best_wrong)


def ranks(
    questions: Tensor,  # (n, d), any device
    answers: Tensor,  # (m, d), the same device
    right: Right,  # of n questions, each with one right answer at least
    *,
    block: int = BLOCK,
    tick: Callable[[int], None] = lambda _: None,
) -> Ranks:
    """Ranks by the inner product; ``tick`` is told of questions done.

    Time is that of the product, n · m · d; memory one ``block`` of scores beside the arguments.
    """
    assert bool((right.counts() > 0).all()), "a question without a right answer has no rank"
    assert len(answers) <= _EXACT, "more can't be counted in float32"
    step = max(1, block // (4 * max(1, len(answers))))
    parts = []
    for first in range(0, len(questions), step):
        scores = (questions[first : first + step] @ answers.T).float()
        parts.append(_ranked(scores, right, first))
        tick(len(scores))
    if not parts:
        none = torch.empty(0, dtype=torch.int64)
        return Ranks(none, none, none)
    return Ranks(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _ranked(scores: Tensor, right: Right, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one block of scores, (c, m), which it overwrites."""
    start = right.start[first : first + len(scores) + 1]
    counts = start.diff()
    own = torch.arange(len(scores)).repeat_interleave(counts).to(scores.device)
    at = right.answer[int(start[0]) : int(start[-1])].to(scores.device)
    of_right = scores[own, at]
    best = scores.new_full((len(scores),), -torch.inf)
    best = best.scatter_reduce(0, own, of_right, "amax")
    # of right answers with one score the first: (c,), an index into `at`
    place = torch.full((len(scores),), len(at), device=scores.device)
    here = torch.arange(len(at), device=scores.device)
    here = torch.where(of_right == best[own], here, len(at))
    place = place.scatter_reduce(0, own, here, "amin")
    scores[own, at] = -torch.inf
    top = scores.max(1)
    wrong = torch.where(top.values == -torch.inf, -1, top.indices)
    # ones and zeros in their place: summing a mask of bool takes nine times as long on a CPU
    higher = scores.ge_((best - TIE)[:, None]).sum(1).long()
    return (higher + 1).cpu(), at[place].cpu(), wrong.cpu()
