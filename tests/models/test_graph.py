"""The region graph layer: identity at the start, loops, padding, region order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.models.graph import RegionGraphLayer

DIM = 4
MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def regions() -> Tensor:
    return draw(2, 5, DIM) * MASK.unsqueeze(-1)


def layer() -> RegionGraphLayer:
    """A layer that is not the identity."""
    torch.manual_seed(0)
    made = RegionGraphLayer(DIM).double()
    made.norm.weight.data.copy_(draw(DIM, seed=1))
    made.norm.bias.data.copy_(draw(DIM, seed=2))
    return made


@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_layer_is_the_identity(training: bool) -> None:
    torch.testing.assert_close(RegionGraphLayer(DIM).double().train(training)(regions(), MASK), regions())


def test_worked_example() -> None:
    """Two regions 1 and 2 of width 1, all maps the identity, statistics 0 and 1 - 1e-5 (so BN is the identity).

    A = [[1, 2], [2, 4]] / 2; region 0 gathers (1 · 1 + 2 · 2) / 2 = 2.5, region 1 (2 · 1 + 4 · 2) / 2 = 5.
    """
    made = RegionGraphLayer(1).double().eval()
    for linear in (made.theta, made.phi, made.g, made.out):
        linear.weight.data.fill_(1.0)
        linear.bias.data.zero_()
    made.norm.weight.data.fill_(1.0)
    made.norm.running_var.fill_(1 - 1e-5)
    out = made(torch.tensor([[[1.0], [2.0]]], dtype=torch.float64), MASK[:1, :2])
    torch.testing.assert_close(out, torch.tensor([[[3.5], [7.0]]], dtype=torch.float64))


def test_layer_equals_loops() -> None:
    made, x = layer(), regions()
    gathered = []
    for picture, real in zip(x, MASK, strict=True):
        own = picture[real]
        for region in own:
            total = torch.zeros(DIM, dtype=torch.float64)
            for other in own:
                total = total + (made.theta(region) @ made.phi(other)) / len(own) * made.g(other)
            gathered.append(made.out(total))
    mean, variance = torch.stack(gathered).mean(dim=0), torch.stack(gathered).var(dim=0, unbiased=False)
    normal = (torch.stack(gathered) - mean) / (variance + 1e-5).sqrt() * made.norm.weight + made.norm.bias
    expected = x.clone()
    expected[MASK] += normal
    torch.testing.assert_close(made(x, MASK), expected)


@pytest.mark.parametrize("training", [True, False])
def test_more_padding_changes_nothing(training: bool) -> None:
    tight, wide = layer().train(training), layer().train(training)
    out = wide(functional.pad(regions(), (0, 0, 0, 3)), functional.pad(MASK, (0, 3)))
    torch.testing.assert_close(out[:, :5], tight(regions(), MASK))
    assert out[:, 5:].eq(0).all()
    torch.testing.assert_close(wide.norm.running_var, tight.norm.running_var)


def test_a_picture_alone_is_the_same_in_evaluation() -> None:
    made = layer().eval()
    torch.testing.assert_close(made(regions(), MASK)[1:, :2], made(regions()[1:, :2], MASK[1:, :2]))


def test_regions_come_out_in_the_order_they_went_in() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    full = torch.ones(1, 5, dtype=torch.bool)
    x = draw(1, 5, DIM)
    torch.testing.assert_close(layer()(x[:, order], full), layer()(x, full)[:, order])


def test_gradient() -> None:
    made = layer()
    inputs = (draw(2, 5, DIM).requires_grad_(),)
    assert torch.autograd.gradcheck(lambda x: made(x * MASK.unsqueeze(-1), MASK), inputs)


def test_every_parameter_gets_a_gradient() -> None:
    made = layer()
    (made(regions(), MASK) * draw(2, 5, DIM, seed=3)).sum().backward()
    for name, value in made.named_parameters():
        assert value.grad is not None, name
        if name != "out.bias":  # without effect: batch normalisation follows
            assert value.grad.abs().max() > 1e-9, name


def test_one_region_alone() -> None:
    one = torch.ones(1, 1, dtype=torch.bool)
    assert torch.isfinite(layer()(draw(1, 1, DIM), one)).all()
