"""The loss terms written out: loops over pairs, and a list of negatives for every single local feature."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

OWN_LOGIT = -10.0


def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assignments (N, K) of scores (N, K): the whole matrix is normalised repeatedly (MODELS.md 4.1 step 2)."""
    count, prototypes = scores.shape
    matrix = torch.exp(scores / epsilon).T
    matrix = matrix / matrix.sum()
    for _ in range(iterations):
        matrix = matrix / matrix.sum(dim=1, keepdim=True)
        matrix = matrix / prototypes
        matrix = matrix / matrix.sum(dim=0, keepdim=True)
        matrix = matrix / count
    return (matrix * count).T


def concept_loss(
    regions: Tensor,
    words: Tensor,
    lengths: list[int],
    prototypes: Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 2,
) -> Tensor:
    """Concept loss of MODELS.md 4.1, one pair at a time.

    Args:
        regions: (B, R, D) of unit length.
        words: (B, W, D) of unit length.
        lengths: B numbers of real words.
        prototypes: (K, D) of unit length.
        temperature: of the students.
        epsilon: of the assignment.
        iterations: of the assignment.
    """
    with torch.no_grad():
        targets = sinkhorn(regions.flatten(0, 1) @ prototypes.T, epsilon, iterations)
        targets = targets.view(*regions.shape[:2], -1)
    losses = []
    for pair, length in enumerate(lengths):
        own = words[pair, :length]
        with torch.no_grad():
            partners = (own @ regions[pair].T).argmax(dim=1)
        log_probabilities = torch.log_softmax(own @ prototypes.T / temperature, dim=1)
        losses.append(-(targets[pair, partners] * log_probabilities).sum(dim=1).mean())
    return torch.stack(losses).mean()


def context_loss(guide: Tensor, locals_: Tensor, *, temperature: float, negatives: int | None) -> Tensor:
    """Context loss of MODELS.md 4.2 as one softmax over [positive, negatives], the negatives listed for every local.

    Args:
        guide: (B, D).
        locals_: (B, S, D).
        temperature: of the logits.
        negatives: number of largest negatives that count; None for all.
    """
    batch, positions, dim = locals_.shape
    positives = torch.bmm(locals_, guide.unsqueeze(2)) / temperature  # (B, S, 1)
    logits = (guide @ locals_.reshape(-1, dim).T / temperature).view(batch, batch, positions)
    own = torch.eye(batch, dtype=logits.dtype, device=logits.device).unsqueeze(2)
    logits = logits * (1 - own) + OWN_LOGIT * own
    listed = logits.view(batch, 1, batch * positions).expand(-1, positions, -1)  # (B, S, B·S)
    if negatives is not None:
        listed = listed.topk(negatives, dim=2).values
    return -torch.log_softmax(torch.cat([positives, listed], dim=2), dim=2)[:, :, 0].mean()


def hinge_loss(scores: Tensor, margin: float) -> Tensor:
    """Hinge on the hardest negatives, both directions (MODELS.md 4.3)."""
    own = scores.diag().view(-1, 1)
    of_images = (margin + scores - own.expand_as(scores)).clamp(min=0)
    of_captions = (margin + scores - own.t().expand_as(scores)).clamp(min=0)
    diagonal = torch.eye(len(scores), device=scores.device) > 0.5
    of_images = of_images.masked_fill(diagonal, 0)
    of_captions = of_captions.masked_fill(diagonal, 0)
    return of_images.max(1)[0].sum() + of_captions.max(0)[0].sum()


def captioning_loss(log_probabilities: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Masked negative log-likelihood over a (B, T, V) array; sum over words, mean over captions (MODELS.md 2.3)."""
    steps = log_probabilities.shape[1]
    targets, mask = targets[:, :steps].reshape(-1, 1), mask[:, :steps].reshape(-1, 1)
    picked = log_probabilities.reshape(-1, log_probabilities.shape[2]).gather(1, targets)
    return -(picked * mask).sum() / len(log_probabilities)


def unit(x: Tensor) -> Tensor:
    """`norm_e` of MODELS.md."""
    return functional.normalize(x, dim=-1)
