"""Score a split with a model in memory: what training does after every so many steps."""

from __future__ import annotations

import torch

from selfalign_cli.assembly.split import SplitData
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.cutoffs import RECALLS
from selfalign_cli.metrics.ranks import rank_vectors
from selfalign_cli.metrics.recall import direction_scores, published_selection, rsum
from selfalign_cli.recipe.schema import Recipe

LOGGED = (*RECALLS, "median_rank", "mean_rank")


def score_vectors(
    recipe: Recipe, vectors: tuple[RetrievalVectors, RetrievalVectors], data: SplitData, *, device: torch.device
) -> dict[str, float]:
    """Score a split: recalls, median and mean ranks of both directions, `rsum`, and the published `r1+r5`.

    Args:
        recipe: which similarity.
        vectors: of pictures and captions, from `encode.embed_split`.
        data: the split.
        device: where to compute.
    """
    ranks = rank_vectors(
        [vectors], torch.from_numpy(data.image_of_caption), kind=recipe.loss.ranking.similarity, device=device
    )
    i2t, t2i = direction_scores(ranks.i2t_rank), direction_scores(ranks.t2i_rank)
    named = {
        f"{direction}_{name}": scores[name] for direction, scores in (("i2t", i2t), ("t2i", t2i)) for name in LOGGED
    }
    return {**named, "rsum": rsum(i2t, t2i), "r1+r5": published_selection(i2t, t2i)}
