"""The loss of the caption generator (MODELS.md 2.3)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def captioning_loss(log_probabilities: Tensor, targets: Tensor, *, captions: int) -> Tensor:
    """Negative log-likelihood of the words: summed over all real places, averaged over captions.

    Args:
        log_probabilities: (n, V), one row per real target.
        targets: (n,) int64 words.
        captions: B, what the sum is divided by.

    Returns:
        Scalar in nats per caption. Source: `LanguageModelCriterion` of the released code.
    """
    return functional.nll_loss(log_probabilities, targets, reduction="sum") / captions
