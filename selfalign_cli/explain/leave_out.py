"""Leave out one region, or some words, and score again: all pairs of these from one encoding each and one product.

The encoders never meet, so R pictures without a region, K captions without some words and the two whole ones are
encoded once each, and every pair of them is an entry of one table of scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.encodings import ImageBatch, RetrievalVectors
from selfalign_cli.similarity import Similarity, similarity

Tokens = list[int]


def without_each_region(picture: ImageBatch) -> ImageBatch:
    """A picture, and the same picture without its region 0, 1, …; their order is kept.

    Args:
        picture: one row, of R ≥ 2 regions, without padding.

    Returns:
        R + 1 rows: the whole picture first.
    """
    regions = picture.features.shape[1]
    kept = torch.arange(regions).repeat(regions + 1, 1)  # (R + 1, R): the whole picture, then each without one
    for left_out in range(regions):
        kept[left_out + 1, left_out:-1] = torch.arange(left_out + 1, regions)
    mask = torch.ones_like(kept, dtype=torch.bool)
    mask[1:, -1] = False

    def taken(values: Tensor) -> Tensor:
        return values[0][kept].masked_fill(~mask.unsqueeze(-1), 0)

    return ImageBatch(
        taken(picture.features),
        mask,
        picture.index.expand(regions + 1),
        None if picture.boxes is None else taken(picture.boxes),
        None if picture.size is None else picture.size.expand(regions + 1, -1),
    )


def without_words(ids: Tokens, groups: Sequence[Collection[int]]) -> list[Tokens]:
    """The ids of a caption, and of the same caption without each group of positions."""
    return [ids, *([number for place, number in enumerate(ids) if place not in group] for group in groups)]


def encode_leave_outs(retriever: Retriever, picture: ImageBatch) -> RetrievalVectors:
    """Encode a picture and its leave-outs: pooled (R + 1, V, D), shared (R + 1, C)."""
    return retriever.encode_pictures(_batches(without_each_region(picture), retriever.batch_size()))


def encode_token_rows(retriever: Retriever, rows: Sequence[Tokens]) -> RetrievalVectors:
    """Encode captions that are given as ids; longer ones are cut as the model cuts all.

    Where a caption's vector depends on those beside it (`compat: published`), each is encoded alone.
    """
    table = TokenTable.encode(rows, list, retriever.recipe.data.max_words)
    return retriever.encode_texts(table, batch_size=None if retriever.rows_are_independent else 1)


def score_table(pictures: RetrievalVectors, captions: RetrievalVectors, kind: Similarity) -> Tensor:
    """(R + 1, K + 1) scores in float64, for their differences are small: row and column 0 leave nothing out."""
    doubled = [RetrievalVectors(side.pooled.double(), side.shared.double()) for side in (pictures, captions)]
    return similarity(doubled[0], doubled[1], kind)


def interaction(scores: Tensor) -> Tensor:
    """What regions and words add together: how much of what a region adds is gone once the words are.

        I(w, r) = [S(T, P) − S(T, P∖r)] − [S(T∖w, P) − S(T∖w, P∖r)]

    Args:
        scores: (R + 1, K + 1) from `score_table`.

    Returns:
        (K, R).
    """
    added = region_changes(scores)  # (R, K + 1)
    return (added[:, :1] - added[:, 1:]).T


def region_changes(scores: Tensor) -> Tensor:
    """(R, K + 1) what each region adds to the score of each caption: S(T, P) − S(T, P∖r)."""
    return scores[0] - scores[1:]


def _batches(images: ImageBatch, size: int) -> Iterator[ImageBatch]:
    for start in range(0, len(images.index), size):
        rows = slice(start, start + size)
        yield ImageBatch(
            images.features[rows],
            images.mask[rows],
            images.index[rows],
            None if images.boxes is None else images.boxes[rows],
            None if images.size is None else images.size[rows],
        )
