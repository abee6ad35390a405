"""Score a split with a model in memory: what training does after every so many steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.engine.encode import SplitData, encode_split
from selfalign_cli.metrics.ranks import rank_vectors
from selfalign_cli.metrics.recall import direction_scores, published_selection, rsum
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import CameraSection, Recipe


def caption_width(recipe: Recipe) -> int | None:
    """Padded length of captions: fixed when the recipe says so, else None for the longest of each batch."""
    return recipe.data.max_words if recipe.data.pad_to_max_words else None


def rows_are_independent(recipe: Recipe) -> bool:
    """Tell whether a caption's vector depends on the caption alone, not on the batch it is encoded in."""
    masked = all(recipe.padding.model_dump().values())
    host_alone = not recipe.selfalign.enabled and not isinstance(recipe.model, CameraSection)
    return masked or host_alone or caption_width(recipe) is not None


def embed_split(
    recipe: Recipe,
    model: RetrievalModel,
    data: SplitData,
    *,
    device: torch.device,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[RetrievalVectors, RetrievalVectors]:
    """Encode a split the way its recipe wants it: see `encode_split`."""
    return encode_split(
        model,
        data,
        batch_size=batch_size or recipe.validation.batch_size,
        width=caption_width(recipe),
        by_length=rows_are_independent(recipe),
        device=device,
        progress=progress,
    )


def score_vectors(
    recipe: Recipe, vectors: tuple[RetrievalVectors, RetrievalVectors], data: SplitData, *, device: torch.device
) -> dict[str, float]:
    """Score a split: recalls, median and mean ranks of both directions, `rsum`, and the published `r1+r5`.

    Args:
        recipe: which similarity.
        vectors: of pictures and captions, from `embed_split`.
        data: the split.
        device: where to compute.
    """
    ranks = rank_vectors(
        [vectors], torch.from_numpy(data.image_of_caption), kind=recipe.loss.ranking.similarity, device=device
    )
    i2t, t2i = direction_scores(ranks.i2t_rank), direction_scores(ranks.t2i_rank)
    named = {
        f"{direction}_{name}": getattr(scores, name)
        for direction, scores in (("i2t", i2t), ("t2i", t2i))
        for name in ("r1", "r5", "r10", "median_rank", "mean_rank")
    }
    return {**named, "rsum": rsum(i2t, t2i), "r1+r5": published_selection(i2t, t2i)}
