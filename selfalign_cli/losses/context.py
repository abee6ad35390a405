"""The context-level loss: a side's guide finds its own pair's local features among all others (MODELS.md 4.2)."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from selfalign_cli.losses.negatives import same_picture

OWN_LOGIT = -10.0  # Reference: own logits become this constant in the released negative list (M6)


def context_loss(
    guide: Tensor,
    locals_: Tensor,
    mask: Tensor,
    index: Tensor | None = None,
    *,
    temperature: float,
    negatives: int | None,
    exclude_own: bool,
) -> Tensor:
    """`context_alignment_loss` with (B,) `index`, which picture a pair shows; None: all pairs are negatives (M7)."""
    return context_alignment_loss(
        guide,
        locals_,
        temperature=temperature,
        negatives=negatives,
        mask=mask,
        exclude_own=exclude_own,
        same=same_picture(index),
    )


def context_alignment_loss(
    guide: Tensor,
    locals_: Tensor,
    *,
    temperature: float,
    negatives: int | None,
    mask: Tensor | None = None,
    exclude_own: bool = True,
    same: Tensor | None = None,
) -> Tensor:
    """Draw each local feature to the other modality's global guide, away from other pairs' locals.

    With g_b the guide of pair b, x_bn its locals and a = g·x/τ,

        L = -mean_{b,n} [ a_bn - log( e^{a_bn} + Σ_{(c,m) ∈ H_b} e^{a_bcm} ) ],

    where H_b holds the `negatives` largest logits of the other pairs' locals. H_b does not depend on n, so a query
    needs one selection and one log-sum; the whole loss is one (B, B·S) product and its backward.

    Args:
        guide: (B, D) or (B, Q, D), Q queries per pair; the mean over them is taken.
        locals_: (B, S, D), the other modality's regions or words.
        temperature: τ > 0 in cosine units.
        negatives: size of H_b, bounded by what the batch holds; None for all.
        mask: (B, S) bool, True on real positions; None when all count. Padded positions are neither positives nor
            negatives.
        exclude_own: leave the positions of the same pair out of H_b. False (published, M6) replaces their logits by
            the constant -10, which takes part when few real negatives are left.
        same: (B, B) bool, True where two pairs share their picture and must not be negatives; None for none but b = c.

    Returns:
        Scalar in nats. Source: `CRA_loss` of the released code.
    """
    batch, positions, dim = locals_.shape
    queries = guide if guide.dim() == 3 else guide.unsqueeze(1)  # (B, Q, D)
    logits = queries.reshape(-1, dim) @ locals_.reshape(-1, dim).T / temperature
    logits = logits.view(batch, queries.shape[1], batch, positions)
    pairs = torch.arange(batch, device=guide.device)
    own = logits[pairs, :, pairs]  # (B, Q, S)

    # The lowest finite number rather than -inf: its exponential is zero and so is its gradient, never NaN.
    itself = torch.eye(batch, dtype=torch.bool, device=guide.device)
    candidates = logits
    if not exclude_own:
        candidates = candidates.masked_fill(itself.view(batch, 1, batch, 1), OWN_LOGIT)
    excluded = _excluded(itself if exclude_own else None, same & ~itself if same is not None else None, mask)
    if excluded is not None:
        candidates = candidates.masked_fill(excluded.unsqueeze(1), torch.finfo(logits.dtype).min)
    candidates = candidates.flatten(2)  # (B, Q, B·S)
    if negatives is not None and negatives < candidates.shape[-1]:
        candidates = candidates.topk(negatives, dim=-1, sorted=False).values

    losses = torch.logaddexp(own, candidates.logsumexp(dim=-1, keepdim=True)) - own
    if mask is None:
        return losses.mean()
    return losses.mean(dim=1)[mask].mean()


def _excluded(own: Tensor | None, same: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """(B, B, S) or (B, B, 1) bool, True where a position is no candidate negative of a query; None when all are."""
    parts = [part.unsqueeze(2) for part in (own, same) if part is not None]
    if mask is not None:
        parts.append(~mask.unsqueeze(0))
    return reduce(torch.logical_or, parts) if parts else None
