"""Normalisations that know about padding: over places, over the embedding, and over a batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK_NUMBERS = 1 << 17
"""Numbers that batch normalisation takes through all its steps together: half a MiB in single precision."""
LENGTH_FLOOR = 1e-12  # lower bound of a length before it divides, as in torch.nn.functional.normalize


def unit(x: Tensor) -> Tensor:
    """Divide by the Euclidean length along the last axis, bounded below by 1e-12 (MODELS.md `norm_e`)."""
    return functional.normalize(x, dim=-1, eps=LENGTH_FLOOR)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set the padded places of x (B, S, D) to zero; mask (B, S) is True on real places, None when all are real."""
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):  # there a look is cheaper than a copy of x
        return x
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


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
    """Batch normalisation of rows (n, C) by their own statistics, some rows at a time.

    A few rows stay in the processor's cache through all steps, which saves most passes over memory. Sums of blocks are
    also more accurate than torch's CPU kernel, which adds thousands of rows one after the other.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        size = _block_rows(rows)
        parts, scratch = torch.split(rows, size), rows.new_empty(size, rows.shape[1])
        means, deviations = rows.new_empty(2, len(parts), rows.shape[1])
        for part, part_mean, deviation in zip(parts, means, deviations, strict=True):
            centred = torch.sub(part, torch.mean(part, 0, out=part_mean), out=scratch[: len(part)])
            torch.sum(centred.square_(), 0, out=deviation)
        counts = rows.new_tensor([[len(part)] for part in parts])
        mean = (counts * means).sum(0) / len(rows)
        variance = (deviations + counts * (means - mean).square_()).sum(0) / len(rows)  # Chan's rule, no cancellation
        scale = torch.rsqrt(variance + eps)
        factor = scale * weight
        out = torch.empty_like(rows)
        for part, target in zip(parts, torch.split(out, size), strict=True):
            torch.addcmul(bias, torch.sub(part, mean, out=scratch[: len(part)]), factor, out=target)
        ctx.save_for_backward(rows, mean, scale, factor)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, mean, scale, factor = ctx.saved_tensors
        size = _block_rows(rows)
        parts, grads, scratch = torch.split(rows, size), torch.split(grad, size), rows.new_empty(size, rows.shape[1])
        bias_grads, weight_grads = rows.new_empty(2, len(parts), rows.shape[1])
        for part, part_grad, bias_grad, weight_grad in zip(parts, grads, bias_grads, weight_grads, strict=True):
            torch.sum(part_grad, 0, out=bias_grad)
            centred = torch.sub(part, mean, out=scratch[: len(part)])
            torch.sum(centred.mul_(part_grad), 0, out=weight_grad)
        bias_grad, weight_grad = bias_grads.sum(0), weight_grads.sum(0).mul_(scale)
        shift, slope = bias_grad / -len(rows), weight_grad * scale / -len(rows)
        rows_grad = torch.empty_like(rows)
        for part, part_grad, target in zip(parts, grads, torch.split(rows_grad, size), strict=True):
            centred = torch.sub(part, mean, out=scratch[: len(part)])
            torch.addcmul(shift, centred, slope, out=target).add_(part_grad).mul_(factor)
        return rows_grad, weight_grad, bias_grad, None


def _block_rows(rows: Tensor) -> int:
    """Rows taken together: few enough for the cache of a processor, all on other devices."""
    return max(1, min(len(rows), BLOCK_NUMBERS // rows.shape[1] if rows.device.type == "cpu" else len(rows)))


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
            scale = self.weight * torch.rsqrt(self.running_var + self.EPS)
            return zero_padding(torch.addcmul(self.bias - self.running_mean * scale, places, scale), mask)
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
