"""Region graph reasoning of VSRN: every region gathers from all others of its picture."""

from __future__ import annotations

from torch import Tensor, nn

from selfalign_cli.models.norm import MaskedBatchNorm, zero_padding


class RegionGraphLayer(nn.Module):
    """One graph layer with a residual connection.

    With v the (R, D) regions of a picture,

        A = theta(v) phi(v)ᵀ / R,    out = v + BN(W(A g(v))),

    without a softmax. R counts the picture's real regions, so that padding never changes a result. BN starts with
    weight and bias 0: a fresh layer is the identity.

    Source: MODELS.md 2.1; `Rs_GCN` of the released VSRN (Li et al., ICCV 2019, equations 2-4).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta = nn.Linear(dim, dim)
        self.phi = nn.Linear(dim, dim)
        self.g = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = MaskedBatchNorm(dim)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """(B, R, D) regions, zero at padded places, and (B, R) mask -> (B, R, D), zero at padded places."""
        counts = mask.sum(dim=1).clamp(min=1).to(regions.dtype).view(-1, 1, 1)
        values = zero_padding(self.g(regions), mask) / counts
        affinity = self.theta(regions) @ self.phi(regions).transpose(1, 2)  # (B, R, R), row i gathers from columns
        gathered: Tensor = self.norm(self.out(affinity @ values), mask)
        return regions + gathered
