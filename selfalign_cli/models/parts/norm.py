"""Normalisations that know about padding: over positions, over the embedding, and over a batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from selfalign_cli import parallel

BLOCK_NUMBERS = 1 << 17
"""Numbers that batch normalisation takes through all its steps together: half a MiB in single precision."""
LENGTH_FLOOR = 1e-12  # lower bound of a length before it divides, as in torch.nn.functional.normalize


def unit(x: Tensor) -> Tensor:
    """Divide x (…, D) by the Euclidean length along the last axis, bounded below by 1e-12 (MODELS.md `norm_e`).

    What is zero stays so and has no gradient; 1/1e-12 times what comes back would drown every other one.
    """
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp(min=LENGTH_FLOOR).masked_fill(length == 0, torch.inf)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x weightᵀ + bias, as `torch.nn.functional.linear`, which fills the result with the bias first: slow on CPUs.

    Args:
        x: (…, C).
        weight: (D, C).
        bias: (D,).
    """
    return (x @ weight.T).add_(bias)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set the padded positions of x (B, S, D) to zero; mask (B, S) is True on real positions, None if all are real."""
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):  # there a look is cheaper than a copy of x
        return x
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


def real_rows(x: Tensor, mask: Tensor) -> Tensor:
    """The real positions of x (B, S, D) as rows (n, D); without a copy when all are and a look at the mask is free.

    `x[mask]` is the same; its gradient is summed up, which takes eight times as long on CPUs.
    """
    rows = x.flatten(0, 1)
    if mask.device.type == "cpu" and bool(mask.all()):
        return rows
    return rows.index_select(0, mask.flatten().nonzero().squeeze(1))


def spread_rows(rows: Tensor, mask: Tensor) -> Tensor:
    """Put rows (n, D) back to the real positions of (B, S, D), zero elsewhere."""
    positions = mask.flatten().nonzero().squeeze(1)
    spread = rows.new_zeros(mask.numel(), rows.shape[1]).index_copy(0, positions, rows)
    return spread.view(*mask.shape, rows.shape[1])


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over positions of x (B, S, D) -> (B, D); over real positions only when a mask (B, S) is given."""
    if mask is None:
        return x.mean(dim=1)
    return zero_padding(x, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(x.dtype)


def normalize_positions(
    x: Tensor, mask: Tensor | None, *, over: Literal["places", "embedding"] = "places", bounded: bool = True
) -> Tensor:
    """Normalise x (B, S, D) over its positions, one embedding coordinate at a time; padded positions come out zero.

    Reference: the released `l2norm` divides by the length along axis 1, which for 3-D arrays is the axis of regions
    or tokens, without a lower bound (M1). `over="embedding"` is the normalisation that was probably meant.

    Args:
        x: (B, S, D).
        mask: (B, S) bool, True on real positions; None when all are real.
        over: which axis the length runs along.
        bounded: keep lengths at or above 1e-12; otherwise a coordinate that is zero everywhere gives NaN.
    """
    axis = 1 if over == "places" else 2
    x = zero_padding(x, mask)
    squared = x.square().sum(dim=axis, keepdim=True)  # torch's vector_norm takes four times as long along axis 1
    if bounded:
        return x / squared.clamp(min=LENGTH_FLOOR**2).sqrt().masked_fill(squared == 0, torch.inf)  # as in `unit`
    return zero_padding(x / squared.sqrt(), mask)


class _NormalizeRows(torch.autograd.Function):
    """Batch normalisation of rows (n, C) by their own statistics, some rows at a time.

    A few rows stay in the processor's cache through all steps, which saves most passes over memory. Sums of blocks are
    also more accurate than torch's CPU kernel, which adds thousands of rows one after the other.

    With several processes the statistics are those of all their rows; the gradients of weight and bias are those
    of the rows of this process.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        size = _block_rows(rows)
        parts, scratch = torch.split(rows, size), rows.new_empty(size, rows.shape[1])
        means, deviations = rows.new_empty(2, len(parts), rows.shape[1])
        for part, part_mean, deviation in zip(parts, means, deviations, strict=True):
            centred = torch.sub(part, torch.mean(part, 0, out=part_mean), out=scratch[: len(part)])
            torch.sum(centred.square_(), 0, out=deviation)
        counts = rows.new_full((len(parts), 1), size)  # no copy from the host, which a GPU would wait for
        counts[-1] = len(parts[-1])
        count, mean, deviation = _pooled(counts, means, deviations)
        if parallel.world_size() > 1:
            gathered = parallel.gather_all(torch.cat([count, mean, deviation]))
            count, mean, deviation = _pooled(*torch.split(gathered, [1, len(mean), len(mean)], dim=1))
        variance = deviation / count
        scale = torch.rsqrt(variance + eps)
        factor = scale * weight
        out = torch.empty_like(rows)
        for part, target in zip(parts, torch.split(out, size), strict=True):
            torch.addcmul(bias, torch.sub(part, mean, out=scratch[: len(part)]), factor, out=target)
        ctx.save_for_backward(rows, mean, scale, factor, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, mean, scale, factor, count = ctx.saved_tensors
        size = _block_rows(rows)
        parts, grads, scratch = torch.split(rows, size), torch.split(grad, size), rows.new_empty(size, rows.shape[1])
        bias_grads, weight_grads = rows.new_empty(2, len(parts), rows.shape[1])
        for part, part_grad, bias_grad, weight_grad in zip(parts, grads, bias_grads, weight_grads, strict=True):
            torch.sum(part_grad, 0, out=bias_grad)
            centred = torch.sub(part, mean, out=scratch[: len(part)])
            torch.sum(centred.mul_(part_grad), 0, out=weight_grad)
        bias_grad, weight_grad = bias_grads.sum(0), weight_grads.sum(0).mul_(scale)
        shift, slope = bias_grad / -count, weight_grad * scale / -count
        parallel.all_reduce([shift, slope])
        rows_grad = torch.empty_like(rows)
        for part, part_grad, target in zip(parts, grads, torch.split(rows_grad, size), strict=True):
            centred = torch.sub(part, mean, out=scratch[: len(part)])
            torch.addcmul(shift, centred, slope, out=target).add_(part_grad).mul_(factor)
        return rows_grad, weight_grad, bias_grad, None


def _pooled(counts: Tensor, means: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (1,), mean (C,) and sum of squared deviations (C,) of all rows, from those of P parts of them.

    Chan's rule, which loses nothing to cancellation; counts (P, 1), means and deviations (P, C).
    """
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    return count, mean, (deviations + counts * (means - mean).square()).sum(0)


def _block_rows(rows: Tensor) -> int:
    """Rows taken together: few enough for the cache of a processor, all on other devices."""
    return max(1, min(len(rows), BLOCK_NUMBERS // rows.shape[1] if rows.device.type == "cpu" else len(rows)))


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over all real positions, per channel; state names as `torch.nn.BatchNorm1d`.

    Statistics see the rows where the mask is True; padded rows come out zero. Without a mask every row counts,
    padded or not (published behaviour, M3). Running values move by 0.1 and keep the unbiased variance, which a single
    row has none of. Rows are those of all processes.

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

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (B, C) or (B, S, C); mask (B, S) or None."""
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.EPS)
            return zero_padding(torch.addcmul(self.bias - self.running_mean * scale, x, scale), mask)
        if mask is None or bool(mask.all()):
            return self._train(x.reshape(-1, x.shape[-1])).view_as(x)
        return spread_rows(self._train(real_rows(x, mask)), mask)

    def _train(self, rows: Tensor) -> Tensor:
        """Normalise (n, C) by their own statistics and move the running values."""
        out, mean, variance, count = _NormalizeRows.apply(rows, self.weight, self.bias, self.EPS)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.MOMENTUM)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased, self.MOMENTUM * (count > 1).to(count.dtype))
            self.num_batches_tracked += 1
        return out  # type: ignore[no-any-return]
