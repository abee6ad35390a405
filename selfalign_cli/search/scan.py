"""Exact search over segments: a scan in float16, then the scores of the best in full precision.

The scan reads half the bytes. Its scores are off by no more than a bound that is known, so that only rows whose scan
score is within twice that bound of the k-th can be among the k best: those are scored again. Scores are those of
`metrics.top_k`, and equal ones are ranked by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.score_blocks import require_finite
from selfalign_cli.metrics.top_k import Top, best_columns, pair_scores
from selfalign_cli.search.segment import Stored, power_of_two
from selfalign_cli.similarity import Similarity, similarity

TOGETHER = 8
"""From so many queries on, products of float32 blocks are faster than a scan for each query."""
SCORES_AT_ONCE = 1 << 25
"""Scores that are held at once: 128 MiB."""
BLOCK_BYTES = 64 << 20
"""Differences of the order measure that are held at once."""


@dataclass(frozen=True)
class Part:
    """The rows `start` … of a collection.

    Attributes:
        stored: their vectors.
        start: row of the first in the collection.
        dead: rows, counted from `start`, that are left out.
    """

    stored: Stored
    start: int
    dead: npt.NDArray[np.int64]

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + len(self.stored.fine.pooled)


def exact_top(parts: Sequence[Part], queries: RetrievalVectors, k: int, kind: Similarity) -> Top:
    """Find the k best rows for each query, exactly.

    Args:
        parts: the collection, in row order.
        queries: pooled (Q, D), shared (Q, C), float32.
        k: how many; all living rows where there are fewer.
        kind: the similarity.

    Raises:
        DataError: queries that are not finite, or of other widths than the collection.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    _check(parts, queries, kind)
    rows = parts[-1].stop if parts else 0
    living = rows - sum(len(part.dead) for part in parts)
    depth, count = min(k, living), len(queries.pooled)
    candidates = torch.zeros((count, depth), dtype=torch.int64)
    scores = torch.zeros((count, depth))
    step = max(1, min(TOGETHER * 4, SCORES_AT_ONCE // max(1, rows)))
    for start in range(0, count if depth else 0, step):
        block = slice(start, start + step)
        some = RetrievalVectors(queries.pooled[block], queries.shared[block])
        candidates[block], scores[block] = _best(parts, some, depth, kind)
    return Top(torch.arange(count), candidates, scores)


def merged_views(top: Top, views: int, k: int) -> Top:
    """The k best rows for queries of several views, from what each view finds; a row's score is its best view's.

    Exact: each of the k best rows is among the k best of the view that gives it its score.

    Args:
        top: (Q·V, k) what the views find.
        views: V.
        k: how many.
    """
    depth, count = top.candidates.shape[1], len(top.candidates) // views
    rows, scores = top.candidates.view(count, views * depth), top.scores.view(count, views * depth)
    order = rows.argsort(dim=1, stable=True)
    rows, scores = rows.gather(1, order), scores.gather(1, order)
    found = []
    for one, values in zip(rows, scores, strict=True):
        different, where = one.unique_consecutive(return_inverse=True)
        best = torch.full((len(different),), -torch.inf).scatter_reduce(0, where, values, "amax")
        kept = best_columns(best.unsqueeze(0), min(k, depth))[0]
        found.append((different[kept], best[kept]))
    return Top(torch.arange(len(rows)), torch.stack([one for one, _ in found]), torch.stack([one for _, one in found]))


def rescored(parts: Sequence[Part], queries: RetrievalVectors, rows: Tensor, depth: int, kind: Similarity) -> Top:
    """The best of some candidate rows, by their exact scores.

    Args:
        parts: the collection.
        queries: Q queries.
        rows: (Q, m) candidates, each once; -1 for none.
        depth: how many to keep; fewer than m.
    """
    kept = rows.sort(dim=1).values
    scores = fine_scores(parts, queries, kept.clamp(min=0), kind).masked_fill_(kept < 0, -torch.inf)
    best = best_columns(scores, min(depth, scores.shape[1]))
    return Top(torch.arange(len(rows)), kept.gather(1, best), scores.gather(1, best))


def _check(parts: Sequence[Part], queries: RetrievalVectors, kind: Similarity) -> None:
    require_finite(queries, "queries")
    widths = queries.pooled.shape[1], queries.shared.shape[1]
    for part in parts:
        fine = part.stored.fine
        known = fine.pooled.shape[2], fine.shared.shape[1]
        if widths != known:
            raise DataError(
                f"queries are {widths[0]} + {widths[1]} wide, the index {known[0]} + {known[1]}; expected one model"
            )
        if kind == "order" and fine.pooled.shape[1] != 1:
            raise DataError(f"the order measure is for one view per picture; got {fine.pooled.shape[1]}")


def _best(parts: Sequence[Part], queries: RetrievalVectors, depth: int, kind: Similarity) -> tuple[Tensor, Tensor]:
    """(q, depth) rows and exact scores."""
    scores, slack = _approximate(parts, queries, kind)
    for part in parts:
        scores[:, part.start + torch.from_numpy(part.dead)] = -torch.inf
    # No score is off by more than the slack, so the k-th exact one is at least `least + slack`.
    least = scores.topk(depth, dim=1).values[:, -1] - 2 * slack
    wanted = int((scores >= least.unsqueeze(1)).sum(dim=1).max())
    top = rescored(parts, queries, scores.topk(wanted, dim=1).indices, depth, kind)
    return top.candidates, top.scores


def _approximate(parts: Sequence[Part], queries: RetrievalVectors, kind: Similarity) -> tuple[Tensor, Tensor]:
    """(q, N) scores in float32, and (q,) how far they may lie from the exact ones."""
    lengths = torch.hypot(
        torch.linalg.vector_norm(queries.pooled, dim=1), torch.linalg.vector_norm(queries.shared, dim=1)
    )
    longest = max((part.stored.length for part in parts), default=0.0)
    terms = queries.pooled.shape[1] + queries.shared.shape[1] + 8
    summing = 1.01 * terms * 2.0**-24
    scores = torch.empty(len(lengths), parts[-1].stop)
    if kind == "order":
        for part in parts:
            similarity_rows(part.stored.fine, queries, scores[:, part.start : part.stop])
        return scores, summing * (lengths + longest) + terms * 2.0**-126
    if len(lengths) >= TOGETHER or not sums_in_float32():
        for part in parts:
            _products(part.stored.fine, queries, scores[:, part.start : part.stop])
        return scores, summing * lengths * longest + terms * 2.0**-126
    for query, length in enumerate(lengths.tolist()):
        factor = power_of_two(length)
        pooled = (queries.pooled[query] * factor).half()
        shared = (queries.shared[query] * factor).half()
        for part in parts:
            found = _scan(part.stored.coarse, pooled, shared)
            torch.mul(found, 1 / (factor * part.stored.scale), out=scores[query, part.start : part.stop])
    # Both sides rounded to 11 bits, or to 2⁻²⁵ where they are that small, and two results of 11 bits added in float32.
    relative = 2 * 2.0**-11 + 2.0**-22 + 2 * 2.0**-11 + summing
    small = 4 * terms**0.5 * 2.0**-25
    return scores, (1.01 * relative + 4 * small) * lengths * max(longest, 2.0**-126)


def _scan(coarse: RetrievalVectors, pooled: Tensor, shared: Tensor) -> Tensor:
    """(n,) scores of one query, in float32."""
    rows, views, width = coarse.pooled.shape
    found = torch.mv(coarse.pooled.view(rows * views, width), pooled).view(rows, views).amax(dim=1).float()
    return found.add_(torch.mv(coarse.shared, shared)) if len(shared) else found


def _products(fine: RetrievalVectors, queries: RetrievalVectors, out: Tensor) -> None:
    """(q, n) scores by products in float32."""
    rows, views, width = fine.pooled.shape
    found = (
        (queries.pooled @ fine.pooled.view(rows * views, width).T).view(len(queries.pooled), rows, views).amax(dim=2)
    )
    torch.addmm(found, queries.shared, fine.shared.T, out=out)


def similarity_rows(fine: RetrievalVectors, queries: RetrievalVectors, out: Tensor) -> None:
    """(q, n) scores of the order measure, some rows at a time."""
    width = queries.pooled.shape[1] + queries.shared.shape[1]
    step = max(1, BLOCK_BYTES // (4 * width * max(1, len(queries.pooled))))
    for start in range(0, len(fine.pooled), step):
        block = slice(start, start + step)
        some = RetrievalVectors(fine.pooled[block], fine.shared[block])
        out[:, block] = similarity(some, queries, "order").T


def fine_scores(parts: Sequence[Part], queries: RetrievalVectors, rows: Tensor, kind: Similarity) -> Tensor:
    """(q, m) exact scores of the rows (q, m), some columns at a time."""
    bytes_of_row = 4 * (parts[0].stored.fine.pooled.shape[1:].numel() + queries.shared.shape[1])
    step = max(1, BLOCK_BYTES // max(1, bytes_of_row * len(rows)))
    if rows.shape[1] > step:
        return torch.cat([fine_scores(parts, queries, some, kind) for some in torch.split(rows, step, dim=1)], dim=1)
    different, where = torch.unique(rows, return_inverse=True)
    bounds = torch.tensor([part.start for part in parts] + [parts[-1].stop])
    cuts = torch.searchsorted(different, bounds).tolist()
    pooled, shared = [], []
    for part, first, last in zip(parts, cuts, cuts[1:], strict=False):
        inside = different[first:last] - part.start
        pooled.append(part.stored.fine.pooled[inside])
        shared.append(part.stored.fine.shared[inside])
    return pair_scores(queries, RetrievalVectors(torch.cat(pooled), torch.cat(shared)), where, kind)


@cache
def sums_in_float32() -> bool:
    """Whether this machine adds up float16 products in float32: 512 ones, then 65,024 terms too small for float16."""
    row = torch.full((1, 1 << 16), 2.0**-12, dtype=torch.float16)
    row[0, :512] = 1
    return bool(torch.mv(row, torch.ones(1 << 16, dtype=torch.float16))[0] > 520)
