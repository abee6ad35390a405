"""Recalls over Crisscrossed Captions (CxC, Parekh et al., EACL 2021), as VSE∞ counts them (MODELS.md 6).

People judged pairs of pictures and captions, two captions, and two pictures of COCO's 5,000 test pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

RECALLS = (1, 5, 10)
ROWS_AT_ONCE = 256
Recalls = dict[str, float]
Positives = Sequence[Sequence[int]]
"""For each query the rows that are right answers."""


def recalls_between(score: Callable[[slice], Tensor], positives: Positives) -> Recalls:
    """Recalls in percent of queries against candidates of the other kind.

    A query is found by the best position of a right answer; one without a right answer counts as missed.

    Args:
        score: scores of some queries with all candidates, (q, N).
        positives: for each query, its right answers.
    """
    return _recalls(_ranks(score, positives))


def recalls_within(score: Callable[[slice], Tensor], positives: Positives) -> Recalls:
    """Recalls of queries against their own kind.

    The score of an item with itself is set to 0: it keeps a place in its own list. Queries without a right answer are
    left out (G12).

    Args:
        score: scores of some items with all of them, (q, N).
        positives: for each item, its right answers.
    """

    def without_itself(rows: slice) -> Tensor:
        found = score(rows).clone()
        found[torch.arange(len(found)), torch.arange(rows.start, rows.start + len(found))] = 0.0
        return found

    ranks = _ranks(without_itself, positives)
    return _recalls(ranks[torch.tensor([len(right) > 0 for right in positives])])


def _ranks(score: Callable[[slice], Tensor], positives: Positives) -> Tensor:
    """0-based position of the best right answer of each query; a position that no recall reaches without one."""
    ranks = torch.full((len(positives),), 1 << 40)
    for first in range(0, len(positives), ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, len(positives)))
        scores = score(rows)
        for query, right in enumerate(positives[rows]):
            if right:
                best = scores[query, list(right)].max()
                ranks[first + query] = int((scores[query] > best).sum())
    return ranks


def _recalls(ranks: Tensor) -> Recalls:
    return {f"r{k}": 100.0 * float((ranks < k).double().mean()) for k in RECALLS}
