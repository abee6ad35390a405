"""Numbers from ranks: recall, median and mean rank, reciprocal rank, their sums, and the cut into folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.cutoffs import CUTOFFS, RSUM_CUTOFFS, SELECTION_CUTOFFS, recall_name
from selfalign_cli.metrics.ranks import Ranks, check_truth, rank_vectors
from selfalign_cli.metrics.score_blocks import Model, check_models
from selfalign_cli.similarity import Similarity

Scores = dict[str, float]
"""One direction of a retrieval result, by name: `r1`, `r5`, … (percent of queries whose target is among the first K,
K from `CUTOFFS`), `median_rank` (rounded down) and `mean_rank`, both 1-based, and `mrr`, the mean of
1 / (1-based rank), between 0 and 1."""


def recall_at(ranks: Tensor, k: int) -> float:
    """R@k = 100 · #(rank < k) / #queries, ranks 0-based (MODELS.md section 6)."""
    return 100.0 * int((ranks < k).sum()) / len(ranks)


def median_rank(ranks: Tensor) -> float:
    """⌊median⌋ + 1 of 0-based ranks; the median of an even number of ranks is the mean of the middle two."""
    return float(math.floor(np.median(ranks.numpy())) + 1)


def mean_rank(ranks: Tensor) -> float:
    """Mean + 1 of 0-based ranks."""
    return float(ranks.double().mean()) + 1.0


def mean_reciprocal_rank(ranks: Tensor) -> float:
    """Mean of 1 / (rank + 1), ranks 0-based."""
    return float((1.0 / (ranks.double() + 1.0)).mean())


def direction_scores(ranks: Tensor) -> Scores:
    """All numbers of one direction.

    Args:
        ranks: (n,) int64, 0-based, on the CPU; n >= 1.
    """
    return {
        **{recall_name(k): recall_at(ranks, k) for k in CUTOFFS},
        "median_rank": median_rank(ranks),
        "mean_rank": mean_rank(ranks),
        "mrr": mean_reciprocal_rank(ranks),
    }


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean over folds, number by number."""
    return {name: math.fsum(part[name] for part in scores) / len(scores) for name in scores[0]}


def rsum(i2t: Scores, t2i: Scores) -> float:
    """R@1 + R@5 + R@10 of both directions, at most 600, whatever other recalls there are."""
    return _sum_of_recalls(i2t, t2i, RSUM_CUTOFFS)


def published_selection(i2t: Scores, t2i: Scores) -> float:
    """R@1 + R@5 of both directions: what the published programs select by, under the name `best_rsum` (D6)."""
    return _sum_of_recalls(i2t, t2i, SELECTION_CUTOFFS)


def _sum_of_recalls(i2t: Scores, t2i: Scores, cutoffs: Sequence[int]) -> float:
    total = 0.0
    for scores in (i2t, t2i):
        for k in cutoffs:
            total += scores[recall_name(k)]  # term by term: from Python 3.12 on, `sum` rounds differently
    return total


@dataclass(frozen=True)
class Fold:
    """Consecutive pictures with their captions.

    Attributes:
        images: (n,) int64 picture rows.
        captions: (m,) int64 caption rows, in data-set order.
        image_of_caption: (m,) int64, numbers of pictures within the fold.
    """

    images: Tensor
    captions: Tensor
    image_of_caption: Tensor

    def cut(self, model: Model) -> Model:
        """The vectors of this fold's pictures and captions."""
        first = int(self.images[0])
        images, captions = model
        part = slice(first, first + len(self.images))
        return (
            RetrievalVectors(images.pooled[part], images.shared[part]),
            RetrievalVectors(captions.pooled[self.captions], captions.shared[self.captions]),
        )


def cut_folds(image_of_caption: Tensor, images: int, folds: int) -> list[Fold]:
    """Cut pictures into equal consecutive blocks, each with all captions of its pictures.

    Args:
        image_of_caption: (M,) int64.
        images: number of pictures N.
        folds: how many blocks.

    Raises:
        DataError: N is not a multiple of `folds`.
    """
    if folds < 1 or images % folds:
        raise DataError(
            f"{images:,} pictures cannot be cut into {folds} equal folds ({images:,} / {folds} is not whole)",
            "choose another number of folds, or leave out --folds",
        )
    size = images // folds
    cut = []
    for first in range(0, images, size):
        captions = ((image_of_caption >= first) & (image_of_caption < first + size)).nonzero().squeeze(1)
        cut.append(Fold(torch.arange(first, first + size), captions, image_of_caption[captions] - first))
    return cut


def merge_folds(folds: Sequence[Fold], ranks: Sequence[Ranks]) -> Ranks:
    """Concatenate the ranks of all folds, in data-set order; ranks stay those within the fold, rows become global.

    Args:
        folds: from `cut_folds`.
        ranks: of each fold.
    """
    images = torch.cat([fold.images for fold in folds])
    captions = torch.cat([fold.captions for fold in folds])
    back = (images.argsort(), captions.argsort())
    top_captions = [fold.captions[part.i2t_top1] for fold, part in zip(folds, ranks, strict=True)]
    top_images = [fold.images[part.t2i_top1] for fold, part in zip(folds, ranks, strict=True)]
    truth = [fold.images[fold.image_of_caption] for fold in folds]
    return Ranks(
        i2t_rank=torch.cat([part.i2t_rank for part in ranks])[back[0]],
        t2i_rank=torch.cat([part.t2i_rank for part in ranks])[back[1]],
        i2t_top1=torch.cat(top_captions)[back[0]],
        t2i_top1=torch.cat(top_images)[back[1]],
        i2t_score=torch.cat([part.i2t_score for part in ranks])[back[0]],
        t2i_score=torch.cat([part.t2i_score for part in ranks])[back[1]],
        image_of_caption=torch.cat(truth)[back[1]],
    )


def rank_folds(
    models: Sequence[Model],
    image_of_caption: Tensor,
    *,
    folds: int = 1,
    weights: Sequence[float] | None = None,
    kind: Similarity = "dot",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Fold], list[Ranks]]:
    """Rank within each fold; one fold is the whole.

    Args:
        models: see `rank_vectors`, as the arguments below.
        image_of_caption: (M,) int64.
        folds: see `cut_folds`.
        weights: of the models.
        kind: the similarity.
        device: where blocks are scored.
        dtype: precision of the scores.

    Returns:
        The folds, and the ranks within each.
    """
    images, captions = check_models(models, kind)
    parts = cut_folds(check_truth(image_of_caption, images, captions), images, folds)
    cuts = [models] if folds == 1 else ([part.cut(model) for model in models] for part in parts)
    ranks = [
        rank_vectors(cut, part.image_of_caption, weights=weights, kind=kind, device=device, dtype=dtype)
        for cut, part in zip(cuts, parts, strict=True)
    ]
    return parts, ranks
