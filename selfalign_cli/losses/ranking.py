"""The hinge that pulls a pair above its negatives, in both directions (MODELS.md 4.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.losses.negatives import same_picture
from selfalign_cli.similarity import Similarity
from selfalign_cli.similarity import similarity as scores_of

HingeMode = Literal["hardest", "sum", "mean"]


def ranking_loss(
    image_pooled: Tensor,
    image_shared: Tensor,
    text_pooled: Tensor,
    text_shared: Tensor,
    index: Tensor | None = None,
    *,
    margin: float,
    mode: HingeMode,
    similarity: Similarity,
    reduction: Literal["sum", "mean"],
) -> Tensor:
    """The hinge on the scores of a batch; see `hinge_loss` and `similarity`.

    Args:
        image_pooled, image_shared: retrieval vectors of the pictures, (B, V, D) and (B, C).
        text_pooled, text_shared: those of the captions, (B, D) and (B, C).
        index: (B,) which picture a pair shows; captions of the same one are no negatives. None: they are (M7).
        margin, mode: of the hinge.
        similarity: how a picture and a caption are scored.
        reduction: sum over the batch as published, or mean (M12).
    """
    images, texts = RetrievalVectors(image_pooled, image_shared), RetrievalVectors(text_pooled, text_shared)
    scores = scores_of(images, texts, similarity)
    loss = hinge_loss(scores, margin=margin, mode=mode, same=same_picture(index))
    return loss if reduction == "sum" else loss / len(scores)


def hinge_loss(similarity: Tensor, *, margin: float, mode: HingeMode, same: Tensor | None = None) -> Tensor:
    """Penalise negatives that come within a margin of their pair, summed over the batch.

    With S_ij the similarity of image i and caption j,

        c_ij = max(0, m + S_ij - S_ii),   d_ij = max(0, m + S_ij - S_jj),   0 where (i, j) is not a negative,

    "sum" is Σ c + Σ d, "hardest" is Σ_i max_j c_ij + Σ_j max_i d_ij (VSE++, arXiv 1707.05612, equation 6), and "mean"
    replaces the maxima by means over the negatives: hardest negatives have a plateau at the margin that some data
    never leave, mean violations do not.

    Args:
        similarity: (B, B), images in rows.
        margin: m, in units of the similarity.
        mode: see above.
        same: (B, B) bool, True where the caption describes the image of that row; None when only the diagonal does.

    Returns:
        Scalar, a sum over the batch. Source: `ContrastiveLoss` of the released code.
    """
    positive = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if same is not None:
        positive = positive | same
    own = similarity.diagonal()
    of_images = (margin + similarity - own.unsqueeze(1)).clamp(min=0).masked_fill(positive, 0.0)
    of_captions = (margin + similarity - own.unsqueeze(0)).clamp(min=0).masked_fill(positive, 0.0)
    if mode == "sum":
        return of_images.sum() + of_captions.sum()
    if mode == "hardest":
        return of_images.amax(dim=1).sum() + of_captions.amax(dim=0).sum()
    negatives = (~positive).to(similarity.dtype)
    per_image = of_images.sum(dim=1) / negatives.sum(dim=1).clamp(min=1)
    per_caption = of_captions.sum(dim=0) / negatives.sum(dim=0).clamp(min=1)
    return per_image.sum() + per_caption.sum()
