"""The best candidates of every query in both directions, from one blocked pass; scores are never held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfalign_cli.metrics.ranks import sweep_of_vectors
from selfalign_cli.metrics.recall import Fold
from selfalign_cli.metrics.score_blocks import Model
from selfalign_cli.metrics.sweep import Sweep, spread
from selfalign_cli.similarity import Similarity


@dataclass(frozen=True)
class Top:
    """What some queries find first. All tensors on the CPU; rows are those of the data set.

    Attributes:
        queries: (n,) int64 rows of the queries.
        candidates: (n, k) int64 rows of what they find, best first; a wrong one before a right one of equal score.
        scores: (n, k) their scores.
    """

    queries: Tensor
    candidates: Tensor
    scores: Tensor


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

    Scores are read from the same products as the ranks of `rank_vectors`. Where more candidates share the last score
    than there is room for, those that stand first are kept, whatever the block sizes.

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
        The pictures' captions, the captions' pictures; memory grows with `depth`, not with the number of scores.

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
    of_images = _Best(len(images), min(depth, len(captions)), sweep)
    of_captions = _Best(len(captions), min(depth, len(images)), sweep)
    for rows, columns, scores in _all_pieces(sweep):
        of_images.add(rows, columns.start, scores)
        of_captions.add(columns, rows.start, scores.T)
    found_captions, found_images = captions[of_images.places.cpu()], images[of_captions.places.cpu()]
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


class _Best:
    """The best candidates that some queries have met so far; both are numbered as arranged.

    Args:
        queries: how many.
        depth: how many candidates are kept.
        sweep: where scores come from; candidates are met in rising order.
    """

    def __init__(self, queries: int, depth: int, sweep: Sweep) -> None:
        self.depth = depth
        self.scores = torch.full((queries, depth), -torch.inf, dtype=sweep.dtype, device=sweep.device)
        self.places = torch.zeros((queries, depth), dtype=torch.int64, device=sweep.device)

    def add(self, queries: slice, first: int, scores: Tensor) -> None:
        """Let the candidates `first`, `first` + 1, … compete with those that are kept."""
        pool = torch.cat([self.scores[queries], scores], dim=1)
        kept = _best_columns(pool, self.depth)
        carried = self.places[queries].gather(1, kept.clamp(max=self.depth - 1))
        self.places[queries] = torch.where(kept < self.depth, carried, kept - self.depth + first)
        self.scores[queries] = pool.gather(1, kept)


def _best_columns(pool: Tensor, depth: int) -> Tensor:
    """(n, depth) columns of the largest numbers of each row, largest first, equal ones from left to right."""
    values, kept = pool.topk(depth, dim=1)
    kept = kept.sort(dim=1).values
    kept = kept.gather(1, pool.gather(1, kept).argsort(dim=1, descending=True, stable=True))
    crowded = ((pool >= values[:, -1:]).sum(dim=1) > depth).nonzero().squeeze(1)  # topk chose among equals
    if len(crowded):
        kept[crowded] = pool[crowded].argsort(dim=1, descending=True, stable=True)[:, :depth]
    return kept


def _all_pieces(sweep: Sweep) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the scores of all pairs, piece by piece, with their places."""
    images, captions = sweep.images, sweep.captions
    for start in range(0, len(captions.distinct), sweep.caption_block):
        sweep.blocks.load_captions(captions.distinct[start : start + sweep.caption_block])
        for first in range(0, len(images.distinct), sweep.image_block):
            block = sweep.blocks.score(images.distinct[first : first + sweep.image_block])
            yield from spread(sweep, block, first, start)


def _ordered(queries: Tensor, candidates: Tensor, scores: Tensor, right: Tensor) -> Top:
    """Put wrong candidates before right ones of the same score, and queries in data-set order."""
    wrong_first = right.long().argsort(dim=1, stable=True)
    order = wrong_first.gather(1, scores.gather(1, wrong_first).argsort(dim=1, descending=True, stable=True))
    back = queries.argsort()
    return Top(queries[back], candidates.gather(1, order)[back], scores.gather(1, order)[back])
