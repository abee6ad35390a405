"""The best candidates of every query in both directions, from one blocked pass; scores are never held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from selfalign_cli.metrics.ranks import sweep_of_vectors
from selfalign_cli.metrics.recall import Fold
from selfalign_cli.metrics.score_blocks import Model
from selfalign_cli.metrics.sweep import Sweep, spread
from selfalign_cli.metrics.top_k import RunningTop, Top
from selfalign_cli.similarity import Similarity


@torch.no_grad()
def top_vectors(
    models: Sequence[Model],
    image_of_caption: Tensor,
    *,
    depth: int,
    weights: Sequence[float] | None = None,
    kind: Similarity = "dot",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    image_block: int | None = None,
    caption_block: int | None = None,
) -> tuple[Top, Top]:
    """Find the `depth` best captions of each picture, and the `depth` best pictures of each caption.

    Scores are read from the same products as the ranks of `rank_vectors`. Where more candidates have the last score
    than are kept, those with the lowest positions are kept, whatever the block sizes.

    Args:
        models: see `rank_vectors`, as the arguments below.
        image_of_caption: (M,) int64.
        depth: how many candidates; all of them where there are fewer.
        weights: of the models.
        kind: the similarity.
        device: where blocks are scored.
        dtype: precision of the scores.
        image_block: distinct pictures scored at once; None chooses.
        caption_block: distinct captions scored at once; None chooses.

    Returns:
        The pictures' captions, the captions' pictures; of equal scores, wrong candidates are ranked first.
        Memory grows with `depth`, not with the number of scores.

    Raises:
        DataError: as `rank_vectors`.
    """
    sweep = sweep_of_vectors(
        models,
        image_of_caption,
        weights=weights,
        kind=kind,
        device=device,
        dtype=dtype,
        image_block=image_block,
        caption_block=caption_block,
    )
    images, captions, truth = sweep.images.rows, sweep.captions.rows, sweep.image_of_caption
    of_images = RunningTop(len(images), min(depth, len(captions)), dtype=dtype, device=device)
    of_captions = RunningTop(len(captions), min(depth, len(images)), dtype=dtype, device=device)
    for rows, columns, scores in _all_pieces(sweep):
        of_images.add(rows, _positions(columns, scores.device), scores)
        of_captions.add(columns, _positions(rows, scores.device), scores.T)
    found_captions, found_images = captions[of_images.candidates.cpu()], images[of_captions.candidates.cpu()]
    return (
        _ordered(images, found_captions, of_images.scores.cpu(), truth[found_captions] == images.unsqueeze(1)),
        _ordered(captions, found_images, of_captions.scores.cpu(), truth[captions].unsqueeze(1) == found_images),
    )


def top_folds(
    models: Sequence[Model],
    folds: Sequence[Fold],
    *,
    depth: int,
    weights: Sequence[float] | None = None,
    kind: Similarity = "dot",
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Top, Top]]:
    """Find the best candidates of each query within its fold, fold by fold.

    Args:
        models: see `rank_vectors`, as the arguments below.
        folds: from `cut_folds`.
        depth: see `top_vectors`.
        weights: of the models.
        kind: the similarity.
        device: where blocks are scored.

    Yields:
        What `top_vectors` finds in a fold, with the rows of the whole data set.
    """
    for fold in folds:
        cut = models if len(folds) == 1 else [fold.cut(model) for model in models]
        i2t, t2i = top_vectors(cut, fold.image_of_caption, depth=depth, weights=weights, kind=kind, device=device)
        yield (
            Top(fold.images[i2t.queries], fold.captions[i2t.candidates], i2t.scores),
            Top(fold.captions[t2i.queries], fold.images[t2i.candidates], t2i.scores),
        )


def _all_pieces(sweep: Sweep) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the scores of all pairs, piece by piece, with their positions in the arrangement."""
    images, captions = sweep.images, sweep.captions
    for start in range(0, len(captions.distinct), sweep.caption_block):
        sweep.blocks.load_captions(captions.distinct[start : start + sweep.caption_block])
        for first in range(0, len(images.distinct), sweep.image_block):
            block = sweep.blocks.score(images.distinct[first : first + sweep.image_block])
            yield from spread(sweep, block, first, start)


def _positions(span: slice, device: torch.device) -> Tensor:
    return torch.arange(span.start, span.stop, device=device)


def _ordered(queries: Tensor, candidates: Tensor, scores: Tensor, right: Tensor) -> Top:
    """Put wrong candidates before right ones of the same score, and queries in data-set order."""
    wrong_first = right.long().argsort(dim=1, stable=True)
    order = wrong_first.gather(1, scores.gather(1, wrong_first).argsort(dim=1, descending=True, stable=True))
    back = queries.argsort()
    return Top(queries[back], candidates.gather(1, order)[back], scores.gather(1, order)[back])
