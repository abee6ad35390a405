"""Region graph reasoning of VSRN: every region gathers from all others of its picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from selfalign_cli.models.parts.norm import MaskedBatchNorm, affine

Fingerprint = tuple[tuple[int, int], ...]


class FoldedMaps(NamedTuple):
    """The four maps of a layer as two: nothing but a product stands between theta and phi, or between g and out.

        theta(x)ᵀ phi(y) = linear(x; pair, pair_bias)ᵀ y + row_weight·x + row_bias
        W g(x)           = linear(x; value, value_bias)

    Attributes:
        pair, pair_bias: (D, D) and (D,).
        row_weight, row_bias: (D,) and a scalar.
        value, value_bias: (D, D) and (D,).
    """

    pair: Tensor
    pair_bias: Tensor
    row_weight: Tensor
    row_bias: Tensor
    value: Tensor
    value_bias: Tensor


class RegionGraphLayer(nn.Module):
    """One graph layer with a residual connection.

    With v the (R, D) regions of a picture,

        A = theta(v) phi(v)ᵀ / R,    out = v + BN(W(A g(v))),

    without a softmax. R counts the picture's real regions, so that padding never changes a result. BN starts with
    weight and bias 0: a fresh layer is the identity.

    Where it saves work, pairs of maps are folded into one first: for a batch of more than D regions, and in inference,
    where the folded maps are kept until a weight or the mode changes. The result is the same up to rounding.

    Source: MODELS.md 2.1; `Rs_GCN` of the released VSRN (Li et al., ICCV 2019, equations 2-4).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta = nn.Linear(dim, dim)
        self.phi = nn.Linear(dim, dim)
        self.g = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = MaskedBatchNorm(dim)
        self._kept: tuple[Fingerprint, FoldedMaps] | None = None
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """(B, R, D) regions, zero at padded positions, and (B, R) mask -> (B, R, D), zero at padded positions."""
        maps = self._maps(regions)
        if maps is None:
            affinity = self.theta(regions) @ self.phi(regions).transpose(1, 2)  # (B, R, R), row i gathers from columns
            gathered = self.out(_share(affinity, mask) @ self.g(regions))
        else:
            rows = (regions @ maps.row_weight + maps.row_bias).unsqueeze(2)
            affinity = affine(regions, maps.pair, maps.pair_bias) @ regions.transpose(1, 2) + rows
            values = affine(regions, maps.value, maps.value_bias)
            gathered = torch.baddbmm(self.out.bias, _share(affinity, mask), values)
        normal: Tensor = self.norm(gathered, mask)
        return regions + normal

    def fold(self) -> FoldedMaps:
        """Multiply theta with phi and g with out, differentiably."""
        theta, phi, g, out = self.theta, self.phi, self.g, self.out
        return FoldedMaps(
            pair=phi.weight.T @ theta.weight,
            pair_bias=theta.bias @ phi.weight,
            row_weight=phi.bias @ theta.weight,
            row_bias=theta.bias @ phi.bias,
            value=out.weight @ g.weight,
            value_bias=out.weight @ g.bias,
        )

    def train(self, mode: bool = True) -> RegionGraphLayer:
        """Switch between training and evaluation."""
        self._kept = None
        return super().train(mode)

    def _maps(self, regions: Tensor) -> FoldedMaps | None:
        """The folded maps, or None where folding costs more than it saves: its products take D rows each."""
        weights = [tensor for linear in (self.theta, self.phi, self.g, self.out) for tensor in linear.parameters()]
        if torch.is_grad_enabled() or self.training or any(weight.is_inference() for weight in weights):
            return self.fold() if regions.shape[0] * regions.shape[1] > regions.shape[2] else None
        state = tuple((weight.data_ptr(), weight._version) for weight in weights)
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = state, self.fold()
        return self._kept[1]


def _share(affinity: Tensor, mask: Tensor) -> Tensor:
    """Divide (B, R, R) affinities by the picture's number of regions, and take padded columns out."""
    counts = mask.sum(dim=1).clamp(min=1).to(affinity.dtype).view(-1, 1, 1)
    return (affinity / counts).masked_fill(~mask.unsqueeze(1), 0.0)
