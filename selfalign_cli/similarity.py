"""The score of every picture with every caption: one function for the training hinge and for evaluation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from selfalign_cli.encodings import RetrievalVectors

Similarity = Literal["dot", "order"]

ORDER_CHUNK = 1 << 22
"""Largest number of coordinate differences the order measure holds at once (16 MiB of float32)."""


def similarity(images: RetrievalVectors, captions: RetrievalVectors, kind: Similarity = "dot") -> Tensor:
    """Score every picture against every caption, differentiably.

    With view vectors x_iv, caption vector c_j and context blocks s_i, t_j:

        dot:    S_ij = max_v (x_iv · c_j) + s_i · t_j
        order:  S_ij = -‖ max(0, [c_j ; t_j] - [x_i ; s_i]) ‖₂

    Args:
        images: pooled (N, V, D), shared (N, C).
        captions: pooled (M, D), shared (M, C), of the same dtype and device.
        kind: "dot", or "order", which needs V = 1.

    Returns:
        (N, M) scores in the dtype of the vectors; larger is a better match.

    Raises:
        ValueError: the widths of the two sides differ, or "order" meets several views.

    Source: MODELS.md 3.4 (dot) and 4.3 (order). The gradient of "order" is zero, not NaN, where the norm is zero.
    """
    if images.pooled.shape[2:] != captions.pooled.shape[1:] or images.shared.shape[1:] != captions.shared.shape[1:]:
        raise ValueError(
            f"picture vectors are {tuple(images.pooled.shape[2:])} + {tuple(images.shared.shape[1:])} wide, "
            f"caption vectors {tuple(captions.pooled.shape[1:])} + {tuple(captions.shared.shape[1:])}"
        )
    if kind == "order":
        return _order(images, captions)
    return _dot(images, captions)


def _dot(images: RetrievalVectors, captions: RetrievalVectors) -> Tensor:
    """Largest inner product over the views, plus the inner product of the context blocks, which is taken once."""
    count, views, _ = images.pooled.shape
    with_context = images.shared.shape[1] > 0
    if views == 1:
        if not with_context:
            return images.pooled[:, 0] @ captions.pooled.T
        return images.concatenated()[:, 0] @ captions.concatenated().T
    products = images.pooled.flatten(0, 1) @ captions.pooled.T  # (N·V, M)
    scores = products.view(count, views, -1).amax(dim=1)
    return torch.addmm(scores, images.shared, captions.shared.T) if with_context else scores


def _order(images: RetrievalVectors, captions: RetrievalVectors) -> Tensor:
    """Minus the order violation, some captions at a time; the backward pass computes each part again."""
    if images.pooled.shape[1] != 1:
        raise ValueError(f"the order measure needs one view per picture, got {images.pooled.shape[1]}")
    image_rows, caption_rows = images.concatenated()[:, 0], captions.concatenated()
    step = max(1, ORDER_CHUNK // max(1, image_rows.numel()))
    parts = [caption_rows[start : start + step] for start in range(0, len(caption_rows), step)]
    if len(parts) <= 1:
        return _order_part(image_rows, caption_rows)
    if torch.is_grad_enabled() and (image_rows.requires_grad or caption_rows.requires_grad):
        scores = [
            checkpoint(_order_part, image_rows, part, use_reentrant=False, preserve_rng_state=False) for part in parts
        ]
    else:
        scores = [_order_part(image_rows, part) for part in parts]
    return torch.cat(scores, dim=1)


def _order_part(image_rows: Tensor, caption_rows: Tensor) -> Tensor:
    """(N, D), (m, D) → (N, m) minus the length of the violation; `vector_norm` has gradient 0 at length 0."""
    length: Tensor = torch.linalg.vector_norm((caption_rows.unsqueeze(0) - image_rows.unsqueeze(1)).relu(), dim=-1)
    return -length
