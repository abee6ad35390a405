"""Search: the k best rows of a gallery for every query, without a ground truth and without a score matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.score_blocks import require_finite
from selfalign_cli.similarity import Similarity, similarity

QUERIES = 256
"""Queries that are scored together."""
PRODUCTS = 1 << 22
"""Float32 products of one block of the gallery, views counted: 16 MiB."""
GALLERY_BYTES = 256 << 20
"""Memory of one block of the gallery, where it has to be converted or copied to a device."""
PAIR_NUMBERS = 1 << 18
"""Numbers of the pairs whose scores are computed again together, in float64: 2 MiB, which stay in the cache."""
ROUNDING = 2.0**-24
"""Unit roundoff of float32."""
LARGEST_SCORE = 1e37
"""Scores up to here, and their partial sums, fit float32."""


@dataclass(frozen=True)
class Top:
    """What some queries find first. All tensors on the CPU.

    Attributes:
        queries: (n,) int64 rows of the queries.
        candidates: (n, k) int64 rows of what they find, best first.
        scores: (n, k) their scores.
    """

    queries: Tensor
    candidates: Tensor
    scores: Tensor


class RunningTop:
    """The best candidates of some queries so far.

    Args:
        queries: how many.
        depth: how many candidates are kept; at least so many must be added.
        dtype: of the scores.
        device: where they are.

    Attributes:
        candidates: (queries, depth) int64, best first, equal scores in the order in which they were added.
        scores: (queries, depth); -inf where nothing was added yet.
    """

    def __init__(self, queries: int, depth: int, *, dtype: torch.dtype, device: torch.device | str) -> None:
        self.depth = depth
        self.scores = torch.full((queries, depth), -torch.inf, dtype=dtype, device=device)
        self.candidates = torch.zeros((queries, depth), dtype=torch.int64, device=device)

    def add(self, queries: slice, candidates: Tensor, scores: Tensor) -> None:
        """Keep the best of more candidates and of those that are kept already.

        Args:
            queries: n queries.
            candidates: (m,), or (n, m) where they differ between queries.
            scores: (n, m).
        """
        pool = torch.cat([self.scores[queries], scores], dim=1)
        rows = torch.cat([self.candidates[queries], candidates.expand_as(scores)], dim=1)
        kept = best_columns(pool, self.depth)
        self.scores[queries], self.candidates[queries] = pool.gather(1, kept), rows.gather(1, kept)


def best_columns(pool: Tensor, depth: int) -> Tensor:
    """(n, depth) columns of the largest numbers of each row, largest first, equal ones from left to right."""
    values, kept = pool.topk(depth, dim=1)
    kept = kept.sort(dim=1).values
    kept = kept.gather(1, pool.gather(1, kept).argsort(dim=1, descending=True, stable=True))
    crowded = ((pool >= values[:, -1:]).sum(dim=1) > depth).nonzero().squeeze(1)  # topk chose among equals
    if len(crowded):
        kept[crowded] = pool[crowded].argsort(dim=1, descending=True, stable=True)[:, :depth]
    return kept


@torch.no_grad()
def top_k(
    queries: RetrievalVectors,
    gallery: RetrievalVectors,
    k: int,
    *,
    kind: Similarity = "dot",
    device: torch.device | str = "cpu",
) -> Top:
    """Find the k best rows of a gallery for each query: pictures for captions, or captions for pictures.

    The search is exact. The score of a pair is summed in float64 from its two vectors alone and rounded to float32, so
    it does not depend on the other queries, the rest of the gallery, the size of blocks or the device. Equal scores
    are ranked in the order of the gallery. To find the pairs worth that sum, the gallery is scored block by block in
    float32; what cannot be among the best, given the largest possible rounding error, is left out.

    Args:
        queries: pooled (Q, D), shared (Q, C) captions; or pooled (Q, V, D), shared (Q, C) pictures. Read as float32.
        gallery: the other side, N rows of the same widths.
        k: how many; all N where there are fewer.
        kind: the similarity.
        device: where blocks are scored; the vectors stay where they are.

    Returns:
        Q queries with min(k, N) candidates each. Memory grows with Q·k, not with Q·N.

    Raises:
        DataError: both sides are of the same kind, widths differ, several views under "order", values that are not
            finite or too large for float32.
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    _check_sides(queries, gallery, kind)
    count, rows = len(queries.pooled), len(gallery.pooled)
    found = RunningTop(count, min(k, rows), dtype=torch.float32, device="cpu")
    for start in range(0, count if rows else 0, QUERIES):
        block = slice(start, min(start + QUERIES, count))
        _search(_some(queries, block), gallery, found, block, kind, torch.device(device))
    return Top(torch.arange(count), found.candidates, found.scores)


def _search(
    queries: RetrievalVectors,
    gallery: RetrievalVectors,
    found: RunningTop,
    block: slice,
    kind: Similarity,
    device: torch.device,
) -> None:
    """Search with some queries: the rows `block` of what is found."""
    lengths, moved = _lengths(queries), _moved(queries, device)
    views = max(side.pooled.shape[1] if side.pooled.dim() == 3 else 1 for side in (queries, gallery))
    width = gallery.pooled[0].numel() + gallery.shared.shape[1]
    step = max(1, min(PRODUCTS // (views * len(lengths)), GALLERY_BYTES // (4 * max(1, width))))
    for first in range(0, len(gallery.pooled), step):
        part = _some(gallery, slice(first, first + step))
        slack = _slack(lengths, _lengths(part), queries, part, kind)
        scores = _products(moved, _moved(part, device), kind).cpu()
        least = found.scores[block, -1] - slack
        if scores.shape[1] >= found.depth:
            least = torch.maximum(least, scores.topk(found.depth, dim=1).values[:, -1] - 2 * slack)
        most = int((scores >= least.unsqueeze(1)).sum(dim=1).max())
        if most:
            columns = scores.topk(most, dim=1).indices.sort(dim=1).values
            found.add(block, first + columns, pair_scores(queries, part, columns, kind))


def _check_sides(queries: RetrievalVectors, gallery: RetrievalVectors, kind: Similarity) -> None:
    sides = {queries.pooled.dim(): queries, gallery.pooled.dim(): gallery}
    if set(sides) != {2, 3}:
        raise DataError(
            f"queries are {tuple(queries.pooled.shape)}, the gallery is {tuple(gallery.pooled.shape)}; expected "
            "captions (M, D) on one side and pictures (N, V, D) on the other"
        )
    widths = [(side.pooled.shape[-1], side.shared.shape[-1]) for side in (queries, gallery)]
    if widths[0] != widths[1]:
        raise DataError(
            f"queries are {widths[0][0]} + {widths[0][1]} wide, the gallery {widths[1][0]} + {widths[1][1]}; "
            "expected vectors of one model"
        )
    if kind == "order" and sides[3].pooled.shape[1] != 1:
        raise DataError(f"the order measure is for one view per picture; got {sides[3].pooled.shape[1]}")


def _some(vectors: RetrievalVectors, rows: slice) -> RetrievalVectors:
    """Some rows in float32; no copy where they are that already."""
    return RetrievalVectors(vectors.pooled[rows].float(), vectors.shared[rows].float())


def _moved(vectors: RetrievalVectors, device: torch.device) -> RetrievalVectors:
    return RetrievalVectors(vectors.pooled.to(device), vectors.shared.to(device))


def _lengths(vectors: RetrievalVectors) -> Tensor:
    """(n,) length of each row's longest view together with its context block."""
    pooled, shared = (torch.linalg.vector_norm(part, dim=-1) for part in (vectors.pooled, vectors.shared))
    return torch.hypot(pooled.amax(dim=1) if pooled.dim() == 2 else pooled, shared).cpu()


def _slack(
    lengths: Tensor, of_part: Tensor, queries: RetrievalVectors, part: RetrievalVectors, kind: Similarity
) -> Tensor:
    """(q,) how far a float32 score may lie from that of `pair_scores`, whatever the order of its sum.

    With n = D + C terms and unit roundoff u, a sum of products is off by at most n·u/(1 - n·u) · ‖q‖·‖g‖ (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1), the order measure by as much of ‖q‖ + ‖g‖; a few terms more
    cover the roundings in between.
    """
    longest = of_part.max()
    if not lengths.max() * longest < LARGEST_SCORE:  # NaN too
        require_finite(queries, "queries")
        require_finite(part, "gallery")
        raise DataError("some vectors are so long that their scores do not fit float32", "scale them down")
    terms = queries.pooled.shape[-1] + queries.shared.shape[-1] + 8
    reach = lengths + longest if kind == "order" else lengths * longest
    underflow = terms * torch.finfo(torch.float32).tiny
    return 1.01 * terms * ROUNDING / (1 - terms * ROUNDING) * reach + underflow


def _products(queries: RetrievalVectors, part: RetrievalVectors, kind: Similarity) -> Tensor:
    """(q, n) scores in float32. Unlike `similarity` it makes no copy of the gallery to append the context block."""
    images, captions = (queries, part) if queries.pooled.dim() == 3 else (part, queries)
    if kind == "order":
        scores = similarity(images, captions, kind)
    else:
        count, views, _ = images.pooled.shape
        scores = (images.pooled.flatten(0, 1) @ captions.pooled.T).view(count, views, -1).amax(dim=1)
        scores.addmm_(images.shared, captions.shared.T)
    return scores if images is queries else scores.T.contiguous()


def pair_scores(queries: RetrievalVectors, part: RetrievalVectors, columns: Tensor, kind: Similarity) -> Tensor:
    """(q, m) scores of each query with the rows `columns` (q, m) of a part of the gallery; see `top_k`."""
    width = max(queries.pooled[0].numel(), part.pooled[0].numel()) + part.shared.shape[1]
    step = max(1, PAIR_NUMBERS // max(1, width))
    query, row = torch.arange(len(columns)).repeat_interleave(columns.shape[1]), columns.flatten()
    scores = [
        _scores_of(_in_double(queries, query[start : start + step]), _in_double(part, row[start : start + step]), kind)
        for start in range(0, len(row), step)
    ]
    return torch.cat(scores).view(columns.shape)


def _scores_of(queries: RetrievalVectors, found: RetrievalVectors, kind: Similarity) -> Tensor:
    """(p,) score of each query with the gallery row beside it."""
    images, captions = (queries, found) if queries.pooled.dim() == 3 else (found, queries)
    if kind == "order":
        above = (captions.concatenated() - images.concatenated()[:, 0]).relu()
        return -above.square().sum(dim=-1).sqrt().float()
    views = (images.pooled * captions.pooled.unsqueeze(1)).sum(dim=-1)
    return (views.amax(dim=1) + (images.shared * captions.shared).sum(dim=-1)).float()


def _in_double(side: RetrievalVectors, rows: Tensor) -> RetrievalVectors:
    pooled, shared = (part[rows.to(part.device)].cpu().double() for part in (side.pooled, side.shared))
    return RetrievalVectors(pooled, shared)
