"""The concept-level loss: a word learns the prototype assignment of its region (MODELS.md 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfalign_cli.models.parts.norm import real_rows, unit


def sinkhorn_assignments(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Spread regions over prototypes so that all prototypes get the same total (SwAV, arXiv 2006.09882).

    Q = exp(Z/ε) is scaled to total 1, then in turn to equal column and equal row sums, and finally by N, so that
    each row sums to 1. No maximum is subtracted: with unit vectors Z/ε stays within ±1/ε.

    Args:
        scores: Z (N, K), inner products of unit regions and unit prototypes.
        epsilon: ε > 0.
        iterations: number of column-and-row scalings.

    Returns:
        (N, K) assignments.
    """
    kernel = torch.exp(scores / epsilon)
    rows, columns = sinkhorn_scaling(kernel, iterations)
    return kernel * rows.unsqueeze(1) * columns


def sinkhorn_scaling(kernel: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Factors of the rows (N,) and columns (K,) of exp(Z/ε) that make the assignments of it.

    Sums of a scaled matrix are products of the matrix with the scaling, so the matrix itself is never divided.
    """
    count, prototypes = kernel.shape
    if iterations == 0:
        return count / kernel.sum().expand(count), kernel.new_ones(prototypes)
    rows = kernel.new_ones(count)
    for _ in range(iterations):
        columns = 1 / (prototypes * (rows @ kernel))
        rows = 1 / (count * (kernel @ columns))
    return count * rows, columns


class ConceptAlignment(nn.Module):
    """Concept prototypes C and the loss that trains words and prototypes.

    For word i of pair b, with r(i) the region of its picture that is most similar to it,

        L = mean_b mean_i -Σ_k Q_{r(i),k} log softmax_k( t_bi·c_k / τ ),

    Q the Sinkhorn assignments of all regions of the batch. The stored prototypes are overwritten by their unit-length
    rows first; the gradient is taken with respect to those (Reference: MODELS.md 4.1 step 1).

    Args:
        dim: D.
        prototypes: K.
        temperature: τ, student temperature in cosine units.
        sinkhorn_epsilon: entropy of the assignment.
        sinkhorn_iterations: scalings.
        image_gradient: let gradient reach the regions through Q; the released code does not (M8).
    """

    def __init__(
        self,
        dim: int,
        *,
        prototypes: int = 1024,
        temperature: float = 0.1,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_iterations: int = 2,
        image_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.image_gradient = image_gradient
        self.prototypes = nn.Parameter(torch.empty(prototypes, dim).uniform_(-(dim**-0.5), dim**-0.5))

    def forward(self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            regions: (B, R, D) unit rows at real positions.
            region_mask: (B, R) bool.
            words: (B, W, D) unit rows at real positions.
            word_mask: (B, W) bool; marks count as words.

        Returns:
            Scalar in nats.
        """
        with torch.no_grad():
            self.prototypes.copy_(unit(self.prototypes))
        with torch.set_grad_enabled(self.image_gradient and torch.is_grad_enabled()):
            scores = real_rows(regions, region_mask) @ self.prototypes.detach().T  # (N, K)
            kernel = torch.exp(scores / self.sinkhorn_epsilon)
            row_factors, column_factors = sinkhorn_scaling(kernel, self.sinkhorn_iterations)
        with torch.no_grad():
            likeness = (words @ regions.transpose(1, 2)).masked_fill(~region_mask.unsqueeze(1), float("-inf"))
            first_rows = region_mask.sum(dim=1).cumsum(dim=0) - region_mask.sum(dim=1)
            # Padded regions come last in their picture, so a region's position is its index among the real ones.
            partners = (first_rows.unsqueeze(1) + likeness.argmax(dim=2))[word_mask]
        targets = kernel[partners] * row_factors[partners].unsqueeze(1) * column_factors
        log_probabilities = (real_rows(words, word_mask) @ self.prototypes.T / self.temperature).log_softmax(dim=-1)
        per_word = -(targets * log_probabilities).sum(dim=-1)
        lengths = word_mask.sum(dim=1)
        weights = (1.0 / lengths.clamp(min=1).to(per_word.dtype)).unsqueeze(1).expand_as(word_mask)[word_mask]
        return (per_word * weights).sum() / len(words)

    def assignments(self, regions: Tensor) -> Tensor:
        """Sinkhorn assignments (B, R, K) of (B, R, D) regions of equal count, by unit-length prototypes."""
        scores = regions.flatten(0, 1) @ unit(self.prototypes).T
        targets = sinkhorn_assignments(scores, epsilon=self.sinkhorn_epsilon, iterations=self.sinkhorn_iterations)
        return targets.view(*regions.shape[:2], -1)
