"""The penalty on similar views of a picture."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def diversity_loss(
    view_logits: Tensor, mask: Tensor | None = None, *, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """Penalise views that read the same regions.

    With Ŝ_b the summary matrix of picture b, its columns divided by their length over regions,

        L = Σ_b ‖Ŝ_bᵀ Ŝ_b - I‖²_F.

    Args:
        view_logits: (B, R, V) raw summary matrix.
        mask: (B, R), True on real regions; None when all are.
        reduction: over the batch. Reference: a sum in the released code (M12).

    Returns:
        Scalar without unit, not yet weighted.

    Source: MODELS.md 4.4; `DiversityRegularization` of the released CAMERA.
    """
    if mask is not None:
        view_logits = view_logits.masked_fill(~mask.unsqueeze(-1), 0.0)
    columns = functional.normalize(view_logits, dim=1)
    overlaps = columns.transpose(1, 2) @ columns  # (B, V, V)
    identity = torch.eye(overlaps.shape[-1], dtype=overlaps.dtype, device=overlaps.device)
    penalty = (overlaps - identity).square().sum()
    return penalty if reduction == "sum" else penalty / len(view_logits)
