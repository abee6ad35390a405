"""The region graph layer: identity at the start, loops, padding, region order, with its maps folded and apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.models.parts.graph import RegionGraphLayer

MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])
# Two pictures of five regions: more positions than channels at width 4, where maps are folded in training;
# fewer at 12.
each_width = pytest.mark.parametrize("dim", [4, 12], ids=["narrow", "wide"])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def regions(dim: int) -> Tensor:
    return draw(2, 5, dim) * MASK.unsqueeze(-1)


def layer(dim: int) -> RegionGraphLayer:
    """A layer that is not the identity."""
    torch.manual_seed(0)
    made = RegionGraphLayer(dim).double()
    for seed, value in enumerate((made.norm.weight, made.norm.bias, made.norm.running_mean), start=1):
        value.data.copy_(draw(dim, seed=seed))
    return made


def gathered(made: RegionGraphLayer, x: Tensor) -> Tensor:
    """What each real region gathers, before normalisation, one pair of regions at a time."""
    rows = []
    for picture, real in zip(x, MASK, strict=True):
        own = picture[real]
        for region in own:
            total = torch.zeros(x.shape[2], dtype=torch.float64)
            for other in own:
                total = total + (made.theta(region) @ made.phi(other)) / len(own) * made.g(other)
            rows.append(made.out(total))
    return torch.stack(rows)


def loops(made: RegionGraphLayer, x: Tensor) -> Tensor:
    """The layer in training, differentiable."""
    rows = gathered(made, x)
    mean, variance = rows.mean(dim=0), rows.var(dim=0, unbiased=False)
    normal = (rows - mean) / (variance + 1e-5).sqrt() * made.norm.weight + made.norm.bias
    return x + torch.zeros_like(x).masked_scatter(MASK.unsqueeze(-1), normal)


def evaluated_loops(made: RegionGraphLayer, x: Tensor) -> Tensor:
    """The layer in evaluation."""
    normal = (gathered(made, x) - made.norm.running_mean) / (made.norm.running_var + 1e-5).sqrt()
    normal = normal * made.norm.weight + made.norm.bias
    return x + torch.zeros_like(x).masked_scatter(MASK.unsqueeze(-1), normal)


@each_width
@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_layer_is_the_identity(dim: int, training: bool) -> None:
    torch.testing.assert_close(RegionGraphLayer(dim).double().train(training)(regions(dim), MASK), regions(dim))


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


@each_width
def test_layer_equals_loops(dim: int) -> None:
    torch.testing.assert_close(layer(dim)(regions(dim), MASK), loops(layer(dim), regions(dim)))


@each_width
def test_gradients_equal_those_of_the_loops(dim: int) -> None:
    found = slopes(layer(dim), dim, lambda made, x: made(x, MASK))
    torch.testing.assert_close(found, slopes(layer(dim), dim, loops))


def slopes(made: RegionGraphLayer, dim: int, forward: object) -> dict[str, Tensor]:
    x = regions(dim).requires_grad_()
    (forward(made, x) * draw(2, 5, dim, seed=9) * MASK.unsqueeze(-1)).sum().backward()  # type: ignore[operator]
    found = {name: value.grad for name, value in made.named_parameters()} | {"regions": x.grad}
    return {name: value for name, value in found.items() if value is not None}


@each_width
@pytest.mark.parametrize("gradients", [True, False])
def test_evaluation_equals_loops(dim: int, gradients: bool) -> None:
    made = layer(dim).eval()
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(made(regions(dim), MASK), evaluated_loops(made, regions(dim)))


@each_width
def test_a_changed_weight_is_seen_in_evaluation(dim: int) -> None:
    """Whatever a layer keeps between calls must not outlive an optimizer step or a loaded state."""
    made = layer(dim).eval()
    with torch.no_grad():
        made(regions(dim), MASK)
    (made(regions(dim), MASK) * draw(2, 5, dim, seed=9)).sum().backward()
    torch.optim.SGD(made.parameters(), lr=0.1).step()
    with torch.no_grad():
        torch.testing.assert_close(made(regions(dim), MASK), evaluated_loops(made, regions(dim)))
        made.load_state_dict(layer(dim).state_dict())
        torch.testing.assert_close(made(regions(dim), MASK), evaluated_loops(layer(dim).eval(), regions(dim)))
    assert made.float()(regions(dim).float(), MASK).dtype == torch.float32


@each_width
def test_copies_and_inference_mode(dim: int) -> None:
    made = layer(dim).eval()
    with torch.inference_mode():
        first = made(regions(dim), MASK)
    copied = copy.deepcopy(made)
    with torch.no_grad():
        torch.testing.assert_close(copied(regions(dim), MASK), first.clone())
    torch.testing.assert_close(made(regions(dim), MASK), first.clone())
    assert set(made.state_dict()) == set(RegionGraphLayer(dim).state_dict())


@each_width
@pytest.mark.parametrize("training", [True, False])
def test_more_padding_changes_nothing(dim: int, training: bool) -> None:
    tight, wide = layer(dim).train(training), layer(dim).train(training)
    out = wide(functional.pad(regions(dim), (0, 0, 0, 3)), functional.pad(MASK, (0, 3)))
    torch.testing.assert_close(out[:, :5], tight(regions(dim), MASK))
    assert out[:, 5:].eq(0).all()
    torch.testing.assert_close(wide.norm.running_var, tight.norm.running_var)


@each_width
def test_a_picture_alone_is_the_same_in_evaluation(dim: int) -> None:
    made, x = layer(dim).eval(), regions(dim)
    torch.testing.assert_close(made(x, MASK)[1:, :2], made(x[1:, :2], MASK[1:, :2]))


@each_width
def test_regions_come_out_in_the_order_they_went_in(dim: int) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    full = torch.ones(1, 5, dtype=torch.bool)
    x = draw(1, 5, dim)
    torch.testing.assert_close(layer(dim)(x[:, order], full), layer(dim)(x, full)[:, order])


@each_width
def test_every_parameter_gets_a_gradient(dim: int) -> None:
    for name, value in slopes(layer(dim), dim, lambda made, x: made(x, MASK)).items():
        if name != "out.bias":  # without effect: batch normalisation follows
            assert value.abs().max() > 1e-9, name


def test_one_region_alone() -> None:
    one = torch.ones(1, 1, dtype=torch.bool)
    assert torch.isfinite(layer(4)(draw(1, 1, 4), one)).all()
