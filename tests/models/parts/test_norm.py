"""Normalisations by hand and against torch: over positions, over the embedding, over a batch, with padding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from selfalign_cli.models.parts.norm import MaskedBatchNorm, masked_mean, normalize_positions, unit

MASK = torch.tensor([[True, True, True], [True, False, False]])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def pair_of_norms(channels: int, dtype: torch.dtype = torch.float64) -> tuple[MaskedBatchNorm, nn.BatchNorm1d]:
    """Ours and torch's, with the same random state."""
    ours, theirs = MaskedBatchNorm(channels).to(dtype), nn.BatchNorm1d(channels).to(dtype)
    for seed, name in enumerate(("weight", "bias", "running_mean", "running_var")):
        value = draw(channels, seed=seed, dtype=dtype)
        getattr(theirs, name).data.copy_(value.abs() + 0.5 if name == "running_var" else value)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_unit_divides_by_the_length() -> None:
    torch.testing.assert_close(unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_mean_over_real_positions() -> None:
    """(1 + 2 + 6) / 3 and 5 / 1; without a mask the padded 7 and 9 count."""
    x = torch.tensor([[[1.0], [2.0], [6.0]], [[5.0], [7.0], [9.0]]])
    torch.testing.assert_close(masked_mean(x, MASK), torch.tensor([[3.0], [5.0]]))
    torch.testing.assert_close(masked_mean(x, None), torch.tensor([[3.0], [7.0]]))


def test_mean_of_no_place_is_zero() -> None:
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).eq(0).all()


def test_normalising_over_positions_by_hand() -> None:
    """Coordinate 0 of the first picture is (3, 4, 0) → (.6, .8, 0), coordinate 1 (0, 0, 2) → (0, 0, 1)."""
    x = torch.tensor([[[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]], [[-2.0, 5.0], [8.0, 8.0], [8.0, 8.0]]])
    expected = torch.tensor([[[0.6, 0.0], [0.8, 0.0], [0.0, 1.0]], [[-1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])
    for bounded in (True, False):
        torch.testing.assert_close(normalize_positions(x, MASK, bounded=bounded), expected)


def test_normalising_over_the_embedding_by_hand() -> None:
    x = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    expected = torch.tensor([[[0.6, 0.8], [0.0, 1.0]]])
    for bounded in (True, False):
        torch.testing.assert_close(normalize_positions(x, None, over="embedding", bounded=bounded), expected)


@pytest.mark.parametrize("over", ["places", "embedding"])
def test_a_zero_coordinate_is_nan_only_without_a_bound(over: str) -> None:
    x = torch.zeros(1, 2, 2, requires_grad=True)
    bounded = normalize_positions(x, None, over=over)  # type: ignore[arg-type]
    bounded.sum().backward()
    assert bounded.eq(0).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert normalize_positions(x, None, over=over, bounded=False).isnan().all()  # type: ignore[arg-type]


@pytest.mark.parametrize("over", ["places", "embedding"])
@pytest.mark.parametrize("bounded", [True, False])
def test_padded_positions_come_out_zero_and_get_no_gradient(over: str, bounded: bool) -> None:
    x = draw(2, 3, 4).requires_grad_()
    out = normalize_positions(x, MASK, over=over, bounded=bounded)  # type: ignore[arg-type]
    (out * draw(2, 3, 4, seed=1)).sum().backward()
    assert out[~MASK].eq(0).all()
    assert x.grad is not None
    assert x.grad[~MASK].eq(0).all()
    assert x.grad[0].ne(0).all()


def test_state_is_that_of_torch() -> None:
    ours, theirs = MaskedBatchNorm(4), nn.BatchNorm1d(4)
    assert {name: (value.shape, value.dtype) for name, value in ours.state_dict().items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.state_dict().items()
    }
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert (ours.EPS, ours.MOMENTUM) == (theirs.eps, theirs.momentum)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (4, 6, 3), (1000, 3)], ids=["rows", "places", "many rows"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_without_a_mask_it_is_torch(
    training: bool, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    ours, theirs = pair_of_norms(3, dtype)
    x, weight = draw(*shape, dtype=dtype), draw(*shape, seed=1, dtype=dtype)
    results = []
    for norm in (ours.train(training), theirs.train(training)):
        leaf = x.clone().requires_grad_()
        out = norm(leaf) if norm is ours else norm(leaf.reshape(-1, 3)).view(shape)
        (out * weight).sum().backward()
        results.append([out, leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*results, atol=tolerance, rtol=tolerance)
    assert ours.num_batches_tracked == theirs.num_batches_tracked == int(training)


@pytest.mark.parametrize("training", [True, False])
def test_with_a_mask_it_is_torch_on_the_real_rows(training: bool) -> None:
    ours, theirs = pair_of_norms(4)
    x, weight = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = ours.train(training)(mine, MASK)
    (out * weight).sum().backward()
    real = theirs.train(training)(other[MASK])
    (real * weight[MASK]).sum().backward()
    torch.testing.assert_close(out[MASK], real)
    assert out[~MASK].eq(0).all()
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(mine.grad, other.grad)
    torch.testing.assert_close([ours.weight.grad, ours.bias.grad], [theirs.weight.grad, theirs.bias.grad])


def test_what_stands_at_padded_positions_does_not_matter() -> None:
    ours, _ = pair_of_norms(4)
    x = draw(2, 3, 4)
    odd = torch.where(MASK.unsqueeze(-1), x, float("nan"))
    torch.testing.assert_close(ours(odd, MASK), ours(x, MASK))
    torch.testing.assert_close(ours.eval()(odd, MASK), ours(x, MASK))


def test_running_values_by_hand() -> None:
    """Rows 1, 2, 6: mean 3, biased variance 14/3, unbiased 7; 0.9 · 0 + 0.1 · 3 and 0.9 · 1 + 0.1 · 7."""
    norm = MaskedBatchNorm(1)
    out = norm(torch.tensor([[[1.0], [2.0], [6.0]], [[1e6], [1e6], [1e6]]]), torch.tensor([[True] * 3, [False] * 3]))
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.3]))
    torch.testing.assert_close(norm.running_var, torch.tensor([1.6]))
    torch.testing.assert_close(out[0, 2, 0], torch.tensor(3 / math.sqrt(14 / 3 + 1e-5)))


def test_one_row_keeps_everything_finite() -> None:
    """Its variance is 0, the row becomes the bias. It has no unbiased variance: the running one stays."""
    norm = MaskedBatchNorm(2)
    norm.bias.data.fill_(0.5)
    x = draw(1, 2, dtype=torch.float32).requires_grad_()
    out = norm(x)
    out.square().sum().backward()
    torch.testing.assert_close(out, torch.full((1, 2), 0.5))
    torch.testing.assert_close(x.grad, torch.zeros(1, 2))
    torch.testing.assert_close(norm.running_mean, 0.1 * x.detach()[0])
    assert norm.running_var.tolist() == [1, 1]


@pytest.mark.parametrize("mask", [None, MASK], ids=["rows", "real rows"])
def test_gradients(mask: Tensor | None) -> None:
    def normalised(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        norm = MaskedBatchNorm(2).double()
        out: Tensor = torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x, mask))
        return out

    leaves = tuple(draw(*shape, seed=seed).requires_grad_() for seed, shape in enumerate([(2, 3, 2), (2,), (2,)]))
    assert torch.autograd.gradcheck(normalised, leaves)


def test_statistics_of_many_rows_are_accurate() -> None:
    """Rows around 100 with spread 1: single precision must not lose the spread."""
    x = 100 + draw(20_000, 4, dtype=torch.float32)
    out = MaskedBatchNorm(4)(x)
    exact = nn.BatchNorm1d(4).double()(x.double())
    assert (out.double() - exact).abs().max() < 5e-5


@pytest.mark.parametrize("normalise", [unit, lambda x: normalize_positions(x, None)], ids=["unit", "places"])
def test_zero_has_no_gradient(normalise: Callable[[Tensor], Tensor]) -> None:
    """A length below the floor of 1e-12 would make it 1e12 times as long."""
    x = torch.zeros(1, 2, 3, requires_grad=True)
    out = normalise(x)
    out.sum().backward()
    assert not out.any()
    assert not x.grad.any()
