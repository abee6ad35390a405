"""The loss of the caption generator (MODELS.md 2.3)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from selfalign_cli.models.parts.captioner import CaptionGenerator, caption_targets


def generator_loss(
    regions: Tensor, region_mask: Tensor, ids: Tensor, mask: Tensor, *, captioner: CaptionGenerator, pairs: int
) -> Tensor:
    """Run the caption generator on some pairs, teacher forced, and compute `captioning_loss`.

    Args:
        regions: (B, R, D), zero at padded positions.
        region_mask: (B, R) bool.
        ids: (B, W) int64, zero-padded.
        mask: (B, W) bool.
        captioner: the caption generator.
        pairs: number of pairs in the whole batch, of which these B may be a part.
    """
    labels = caption_targets(ids, mask.sum(dim=1), captioner.max_len)
    return captioning_loss(*captioner(regions, region_mask, *labels), captions=pairs)


def captioning_loss(log_probabilities: Tensor, targets: Tensor, *, captions: int) -> Tensor:
    """Negative log-likelihood of the words: summed over all real positions, averaged over captions.

    Args:
        log_probabilities: (n, V), one row per real target.
        targets: (n,) int64 words.
        captions: B, what the sum is divided by.

    Returns:
        Scalar in nats per caption. Source: `LanguageModelCriterion` of the released code.
    """
    return functional.nll_loss(log_probabilities, targets, reduction="sum") / captions
