"""Ranking losses with a temperature: a softmax over the batch (InfoNCE) and a sigmoid for each pair (SigLIP).

Scores are made for some pictures at a time and made again in the backward pass, so the (B, B) matrix never exists as a
whole once it is large. They are in single precision at least, whatever the vectors are in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.similarity import Similarity
from selfalign_cli.similarity import similarity as scores_of

Part = Callable[..., tuple[Tensor, ...]]

SCORES_AT_ONCE = 1 << 22
"""Inner products held at once (16 MiB of float32, and a few times that for what is made of them)."""
LARGEST_SCALE = 100.0  # Reference: CLIP (arXiv 2103.00020) does not let 1 / temperature grow beyond


class InfoNce(nn.Module):
    """A pair against the other captions of its picture's row, and against the other pictures of its caption's column.

    With scores S, temperature τ and N_i the pairs that are not of picture i,

        ½ Σ_i [ log(e^{S_ii/τ} + Σ_{j in N_i} e^{S_ij/τ}) + log(e^{S_ii/τ} + Σ_{j in N_i} e^{S_ji/τ}) - 2 S_ii/τ ].

    Args:
        temperature: start value of τ; None for 0.07.
        learn_temperature: train log(1/τ), which never passes log 100; otherwise τ stays.
        similarity: how a picture and a caption are scored.
        reduction: sum over the batch, or mean.

    Source: CLIP, arXiv 2103.00020, figure 3, but for captions of one picture, which are no negatives here.
    """

    def __init__(
        self,
        *,
        temperature: float | None = None,
        learn_temperature: bool = True,
        similarity: Similarity = "dot",
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        self.log_scale = _start(-math.log(temperature or 0.07), learn_temperature)
        self.similarity, self.reduction = similarity, reduction

    def forward(
        self,
        image_pooled: Tensor,
        image_shared: Tensor,
        text_pooled: Tensor,
        text_shared: Tensor,
        index: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of a batch, a scalar; the arguments are those of `ranking.ranking_loss`."""
        images, texts = RetrievalVectors(image_pooled, image_shared), RetrievalVectors(text_pooled, text_shared)
        rows, columns, own = [], [], []
        for of_rows, of_columns, diagonal in _by_blocks(self._block, images, texts, index, self.similarity):
            rows.append(of_rows)
            columns.append(of_columns)
            own.append(diagonal)
        whole = torch.cat(rows).sum() + torch.stack(columns).logsumexp(0).sum() - 2 * torch.cat(own).sum()
        return _reduced(whole / 2, len(text_pooled), self.reduction)

    def _block(self, scores: Tensor, first: int, left_out: Tensor) -> tuple[Tensor, ...]:
        """For some pictures: log-sums of their rows (b,), of their part of every column (B,), and own scores (b,)."""
        scaled = (scores * self.log_scale.exp().clamp(max=LARGEST_SCALE).to(scores.dtype)).masked_fill(
            left_out, -torch.inf
        )
        return scaled.logsumexp(1), _column_sums(scaled), scaled.diagonal(first)


class PairwiseSigmoid(nn.Module):
    """Every pair of the batch by itself: a picture with its caption, or with a caption that is none of its own.

    With scores S, scale t = 1/τ and bias b, and N_i the pairs that are not of picture i,

        Σ_i [ -log σ(t S_ii + b) - Σ_{j in N_i} log σ(-t S_ij - b) ].

    Args:
        temperature: start value of τ; None for 0.1.
        learn_temperature: train log(1/τ) and b; otherwise both stay.
        bias: start value of b; None for -10.
        similarity: how a picture and a caption are scored.
        reduction: sum over the pictures, or mean over them.

    Source: SigLIP, arXiv 2303.15343, algorithm 1, but for captions of one picture, which are left out here.
    """

    def __init__(
        self,
        *,
        temperature: float | None = None,
        learn_temperature: bool = True,
        bias: float | None = None,
        similarity: Similarity = "dot",
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        self.log_scale = _start(-math.log(temperature or 0.1), learn_temperature)
        self.bias = _start(-10.0 if bias is None else bias, learn_temperature)
        self.similarity, self.reduction = similarity, reduction

    def forward(
        self,
        image_pooled: Tensor,
        image_shared: Tensor,
        text_pooled: Tensor,
        text_shared: Tensor,
        index: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of a batch, a scalar; the arguments are those of `ranking.ranking_loss`."""
        images, texts = RetrievalVectors(image_pooled, image_shared), RetrievalVectors(text_pooled, text_shared)
        blocks = _by_blocks(self._block, images, texts, index, self.similarity)
        return _reduced(torch.stack([part for (part,) in blocks]).sum(), len(text_pooled), self.reduction)

    def _block(self, scores: Tensor, first: int, left_out: Tensor) -> tuple[Tensor, ...]:
        """The sum over some pictures and all captions."""
        logits = scores * self.log_scale.exp().to(scores.dtype) + self.bias.to(scores.dtype)
        own = logits.diagonal(first)
        others = functional.softplus(logits).masked_fill(left_out, 0.0)  # -log σ(-z), also of the diagonal
        return (others.sum() - own.sum(),)  # softplus(z) - z = softplus(-z)


def _by_blocks(
    part: Part, images: RetrievalVectors, texts: RetrievalVectors, index: Tensor | None, kind: Similarity
) -> Iterator[tuple[Tensor, ...]]:
    """Apply a function to the scores of some pictures at a time.

    Args:
        part: from scores (b, B), the number of the first picture, and a mask (b, B) of those that do not count.
        images, texts: the vectors of the whole batch.
        index: (B,) which picture a pair shows; None when no two show the same.
        kind: how they are scored.
    """
    count, views = images.pooled.shape[:2]
    step = max(1, SCORES_AT_ONCE // (count * views))

    def block(pooled: Tensor, shared: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        device = pooled.device.type
        with torch.autocast(device, enabled=False):
            pictures = RetrievalVectors(_widened(pooled), _widened(shared))
            scores = scores_of(pictures, RetrievalVectors(_widened(texts.pooled), _widened(texts.shared)), kind)
            return part(scores, first, _same_picture(index, first, last, scores))

    for first in range(0, count, step):
        last = min(count, first + step)
        arguments = images.pooled[first:last], images.shared[first:last], first, last
        if step >= count or not torch.is_grad_enabled():
            yield block(*arguments)
        else:
            yield checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)


def _same_picture(index: Tensor | None, first: int, last: int, scores: Tensor) -> Tensor:
    """Mask (b, B): captions of the same picture that belong to another pair."""
    own = torch.arange(first, last, device=scores.device).unsqueeze(1)
    columns = torch.arange(scores.shape[1], device=scores.device)
    if index is None:
        return torch.zeros_like(scores, dtype=torch.bool)
    return (index[first:last].unsqueeze(1) == index) & (own != columns)


def _column_sums(scaled: Tensor) -> Tensor:
    """Log-sum of every column of a block, -inf where nothing counts; there without gradient, not with NaN."""
    largest = scaled.detach().amax(0)
    shift = largest.masked_fill(largest == -torch.inf, 0.0)
    total = (scaled - shift).exp().sum(0)
    return torch.where(total > 0, total, 1.0).log().masked_fill(total == 0, -torch.inf) + shift


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _start(value: float, learned: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value), requires_grad=learned)


def _reduced(total: Tensor, pairs: int, reduction: Literal["sum", "mean"]) -> Tensor:
    return total if reduction == "sum" else total / pairs
