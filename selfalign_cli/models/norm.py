"""Normalisations that know about padding: over places, over the embedding, and over a batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LENGTH_FLOOR = 1e-12  # lower bound of a length before it divides, as in torch.nn.functional.normalize


def unit(x: Tensor) -> Tensor:
    """Divide by the Euclidean length along the last axis, bounded below by 1e-12 (MODELS.md `norm_e`)."""
    return functional.normalize(x, dim=-1, eps=LENGTH_FLOOR)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set the padded places of x (B, S, D) to zero; mask (B, S) is True on real places, None when all are real."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over places of x (B, S, D) -> (B, D); over real places only when a mask (B, S) is given."""
    if mask is None:
        return x.mean(dim=1)
    return zero_padding(x, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(x.dtype)


def normalize_places(
    x: Tensor, mask: Tensor | None, *, over: Literal["places", "embedding"] = "places", bounded: bool = True
) -> Tensor:
    """Normalise x (B, S, D) over its places, one embedding coordinate at a time; padded places come out zero.

    Reference: the released `l2norm` divides by the length along axis 1, which for 3-D arrays is the axis of regions
    or tokens, without a lower bound (M1). `over="embedding"` is the normalisation that was probably meant.

    Args:
        x: (B, S, D).
        mask: (B, S) bool, True on real places; None when all are real.
        over: which axis the length runs along.
        bounded: keep lengths at or above 1e-12; otherwise a coordinate that is zero everywhere gives NaN.
    """
    axis = 1 if over == "places" else 2
    x = zero_padding(x, mask)
    if bounded:
        return functional.normalize(x, dim=axis, eps=LENGTH_FLOOR)
    return zero_padding(x / torch.linalg.vector_norm(x, dim=axis, keepdim=True), mask)


class _NormalizeRows(torch.autograd.Function):
    """Batch normalisation of rows (n, C) by their own statistics.

    torch's CPU kernel for row-major rows sums thousands of them in plain float32 and loses an order of magnitude of
    accuracy (measured on 4,608 x 2,048: 3e-5 against 2e-6); these reductions sum in blocks.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = rows.mean(dim=0)
        normal = rows - mean
        variance = torch.linalg.vector_norm(normal, dim=0).square_().div_(len(rows))
        scale = torch.rsqrt(variance + eps)
        normal *= scale
        ctx.save_for_backward(normal, scale, weight)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, normal, weight), mean, variance

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *unused: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        normal, scale, weight = ctx.saved_tensors
        bias_grad = grad.sum(dim=0)
        weight_grad = (grad * normal).sum(dim=0)
        rows_grad = torch.addcmul(grad - bias_grad / len(grad), normal, weight_grad / len(grad), value=-1)
        return rows_grad.mul_(scale * weight), weight_grad, bias_grad, None


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over all real places, per channel; state names as `torch.nn.BatchNorm1d`.

    Statistics see the rows where the mask is True; padded rows come out zero. Without a mask every row counts,
    padded or not (published behaviour, M3). Running values move by 0.1 and keep the unbiased variance.

    Args:
        channels: C.
    """

    EPS = 1e-5
    MOMENTUM = 0.1

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, places: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (B, C) or (B, S, C); mask (B, S) or None."""
        if not self.training:
            normal = (places - self.running_mean) * torch.rsqrt(self.running_var + self.EPS)
            return zero_padding(torch.addcmul(self.bias, normal, self.weight), mask)
        if mask is None or bool(mask.all()):
            return self._train(places.reshape(-1, places.shape[-1])).view_as(places)
        return torch.zeros_like(places).masked_scatter(mask.unsqueeze(-1), self._train(places[mask]))

    def _train(self, rows: Tensor) -> Tensor:
        """Normalise (n, C) by their own statistics and move the running values."""
        out, mean, variance = _NormalizeRows.apply(rows, self.weight, self.bias, self.EPS)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.MOMENTUM)
            self.running_var.lerp_(variance * (len(rows) / max(1, len(rows) - 1)), self.MOMENTUM)
            self.num_batches_tracked += 1
        return out  # type: ignore[no-any-return]
