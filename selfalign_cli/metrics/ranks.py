"""The rank of every query in both directions, from one blocked pass over scores that are never held or sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.copies import Arrangement, arrange, first_equal_rows
from selfalign_cli.metrics.score_blocks import Model, ScoreBlocks, check_models
from selfalign_cli.metrics.sweep import Sweep, Tally, compare, own_scores
from selfalign_cli.similarity import Similarity

CAPTION_BYTES = 96 << 20
"""Memory for one block of caption vectors, over all models."""
PRODUCT_ROWS = 256
"""Rows of one matrix product, views counted: enough for a fast product, few enough for the cache."""
LEAST_IMAGES = 64
"""Pictures of one block at least, so that the product of the context blocks of many views is fast too."""


@dataclass(frozen=True)
class Ranks:
    """The rank of what each query looks for, 0-based. All tensors on the CPU.

    Attributes:
        i2t_rank: (N,) int64, captions of other pictures that score at least the picture's best own caption.
        t2i_rank: (M,) int64, other pictures that score at least the caption's own.
        i2t_top1: (N,) int64, the caption of rank 0: a wrong one when it ties with the best own.
        t2i_top1: (M,) int64, the picture of rank 0, likewise.
        i2t_score: (N,) score of that caption.
        t2i_score: (M,) score of that picture.
        image_of_caption: (M,) int64, the ground truth.
    """

    i2t_rank: Tensor
    t2i_rank: Tensor
    i2t_top1: Tensor
    t2i_top1: Tensor
    i2t_score: Tensor
    t2i_score: Tensor
    image_of_caption: Tensor


@torch.no_grad()
def rank_vectors(
    models: Sequence[Model],
    image_of_caption: Tensor,
    *,
    weights: Sequence[float] | None = None,
    kind: Similarity = "dot",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    image_block: int | None = None,
    caption_block: int | None = None,
) -> Ranks:
    """Rank all captions for each picture and all pictures for each caption; ties count against the model.

    Exact copies (equal rows in every model) are multiplied once and share their score, so a tie
    between copies holds by construction, whatever the order of additions inside a matrix product. A query's own
    score is read from the very product that its competitors are read from, or from a repetition of it.

    Args:
        models: picture and caption vectors of each model; several make an ensemble, the weighted mean of scores.
        image_of_caption: (M,) int64 row of each caption's picture: any order, any number of captions per picture.
        weights: one per model, normalised to sum 1; None for equal weights.
        kind: the similarity.
        device: where blocks are scored.
        dtype: precision of the scores, float32 or float64.
        image_block: distinct pictures scored at once; None chooses.
        caption_block: distinct captions scored at once; None chooses.

    Returns:
        Ranks, the same whatever the block sizes, but for rounding of scores that are nearly equal.

    Raises:
        DataError: a picture without captions, counts or widths that differ, values or scores that are not finite.
    """
    return _ranks_of(
        sweep_of_vectors(
            models,
            image_of_caption,
            weights=weights,
            kind=kind,
            device=device,
            dtype=dtype,
            image_block=image_block,
            caption_block=caption_block,
        )
    )


def sweep_of_vectors(
    models: Sequence[Model],
    image_of_caption: Tensor,
    *,
    weights: Sequence[float] | None,
    kind: Similarity,
    device: torch.device | str,
    dtype: torch.dtype,
    image_block: int | None,
    caption_block: int | None,
) -> Sweep:
    """Check the input and set up the pass over all scores; arguments and errors are those of `rank_vectors`."""
    counts = check_models(models, kind)
    truth = check_truth(image_of_caption, *counts)
    normalised = _normalised(weights, len(models))
    width = sum(captions.pooled.shape[1] + captions.shared.shape[1] for _, captions in models)
    views = max(images.pooled.shape[1] for images, _ in models)
    sides = ([images for images, _ in models], [captions for _, captions in models])
    copies = [first_equal_rows([part for v in side for part in (v.pooled, v.shared)], dtype) for side in sides]
    return Sweep(
        blocks=ScoreBlocks(models, normalised, kind=kind, device=torch.device(device), dtype=dtype),
        images=arrange(copies[0], torch.arange(counts[0])),
        captions=arrange(copies[1], torch.argsort(truth, stable=True)),
        image_of_caption=truth,
        image_block=image_block or max(LEAST_IMAGES, PRODUCT_ROWS // views),
        caption_block=caption_block or _caption_block(width * dtype.itemsize),
        device=torch.device(device),
        dtype=dtype,
    )


def check_truth(image_of_caption: Tensor, images: int, captions: int) -> Tensor:
    """Make sure that every caption has a picture and every picture a caption.

    Args:
        image_of_caption: picture row of each caption.
        images: number of pictures.
        captions: number of captions.

    Returns:
        The same, int64 and on the CPU.

    Raises:
        DataError: naming the first row at fault.
    """
    truth = image_of_caption.detach().to(device="cpu", dtype=torch.int64)
    if truth.shape != (captions,):
        raise DataError(f"image_of_caption has shape {tuple(truth.shape)}; expected ({captions},), one per caption")
    if images == 0 or captions == 0:
        raise DataError(f"nothing to rank: {images} pictures, {captions} captions")
    outside = ((truth < 0) | (truth >= images)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise DataError(f"caption row {row} belongs to picture row {int(truth[row])}; expected 0 to {images - 1}")
    without = (torch.bincount(truth, minlength=images) == 0).nonzero()
    if len(without):
        raise DataError(
            f"{len(without):,} of {images:,} pictures have no caption, the first is picture row {int(without[0])}",
            "leave out these pictures, or add their captions",
        )
    return truth


def _ranks_of(sweep: Sweep) -> Ranks:
    """Run the sweep, and map positions back to data-set rows."""
    own, kept = own_scores(sweep)
    truth = sweep.image_of_caption
    count = len(sweep.images.rows)
    best_own = own.new_full((count,), -torch.inf).scatter_reduce(0, truth.to(own.device), own, "amax")
    of_images, of_captions = compare(sweep, own, best_own, kept)
    is_best = (own == best_own[truth.to(own.device)]).cpu()
    first_best = torch.full((count,), len(truth)).scatter_reduce(
        0, truth[is_best], is_best.nonzero().squeeze(1), "amin"
    )
    i2t_rank, i2t_top1, i2t_score = _in_data_order(of_images, sweep.images, sweep.captions, first_best)
    t2i_rank, t2i_top1, t2i_score = _in_data_order(of_captions, sweep.captions, sweep.images, truth)
    return Ranks(i2t_rank, t2i_rank, i2t_top1, t2i_top1, i2t_score, t2i_score, truth)


def _in_data_order(
    tally: Tally, queries: Arrangement, candidates: Arrangement, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank, top candidate and its score in data-set order; `right` is each query's best right candidate."""
    rank, best, candidate, own = (
        torch.empty_like(part, device="cpu").index_copy_(0, queries.rows, part.cpu())
        for part in (tally.count, tally.best, tally.candidate, tally.own)
    )
    found = rank == 0
    wrong = candidates.rows[candidate.clamp(min=0)]
    return rank, torch.where(found, right, wrong), torch.where(found, own, best)


def _normalised(weights: Sequence[float] | None, models: int) -> list[float]:
    """Weights of sum 1."""
    if weights is None:
        return [1.0 / models] * models
    if len(weights) != models or any(not 0 <= weight < float("inf") for weight in weights) or sum(weights) <= 0:
        raise DataError(f"ensemble weights are {list(weights)}; expected {models} numbers >= 0, not all 0")
    return [weight / sum(weights) for weight in weights]


def _caption_block(row_bytes: int) -> int:
    """Captions whose vectors fit in `CAPTION_BYTES`: a multiple of 64, between 256 and 8,192."""
    return min(8192, max(256, CAPTION_BYTES // max(1, row_bytes) // 64 * 64))
