"""Gated self-attention and view summaries: by hand, against loops, under padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from selfalign_cli.models.parts.attention import CONVOLUTIONS, GatedAttention, GatedSelfAttention, ViewSummary


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prefix_mask(lengths: list[int], positions: int) -> Tensor:
    return torch.arange(positions) < torch.tensor(lengths).unsqueeze(1)


def attention(dim: int = 8, heads: int = 2, **options: float | bool) -> GatedAttention:
    torch.manual_seed(3)
    return GatedAttention(dim, heads=heads, **options).double()  # type: ignore[arg-type]


@torch.no_grad()
def read_by_loops(layer: GatedAttention, x: Tensor, real: int) -> Tensor:
    """Attention of one caption x (S, D), one head and position at a time; those from `real` on are not read."""
    width = x.shape[-1] // layer.heads
    out = torch.zeros_like(x)
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        queries, keys = layer.query(x)[:, part], layer.key(x)[:, part]
        values = layer.value(x)[:, part]
        gates = torch.sigmoid(layer.gate(layer.query_gate(queries) * layer.key_gate(keys)))
        for place in range(len(x)):
            query = queries[place] * gates[place, :width]
            logits = [float(query @ (keys[other] * gates[other, width:])) / math.sqrt(width) for other in range(real)]
            weights = torch.tensor(logits, dtype=x.dtype).softmax(dim=0)
            out[place, part] = sum(weights[other] * values[other] for other in range(real))
    return out


def test_attention_to_a_single_place_is_its_value() -> None:
    """softmax over one key is 1, whatever the gates: z = v."""
    layer, x = attention(), some(3, 1, 8)
    torch.testing.assert_close(layer(x), layer.value(x))


def test_attention_equals_loops() -> None:
    layer, x = attention(equal_start=False), some(1, 5, 8)
    torch.testing.assert_close(layer(x)[0], read_by_loops(layer, x[0], real=5))


def test_attention_equals_loops_over_real_keys() -> None:
    layer, x = attention(equal_start=False), some(1, 5, 8)
    torch.testing.assert_close(layer(x, prefix_mask([3], 5))[0], read_by_loops(layer, x[0], real=3))


def test_equal_start_copies_the_query_map() -> None:
    layer = attention(equal_start=True)
    assert torch.equal(layer.query.weight, layer.key.weight)
    assert torch.equal(layer.query.bias, layer.value.bias)
    assert layer.query.weight.data_ptr() != layer.key.weight.data_ptr()


def test_independent_start_draws_three_maps() -> None:
    layer = attention(equal_start=False)
    assert not torch.equal(layer.query.weight, layer.key.weight)
    assert not torch.equal(layer.query.weight, layer.value.weight)


def test_dropout_hides_keys_in_training_only() -> None:
    """With equal keys every weight is 1/S; dropout at 0.5 makes each 0 or 2/S, so outputs are multiples of v/S·2."""
    layer = attention(dropout=0.5)
    x = some(1, 1, 8).expand(1, 4, 8)
    torch.manual_seed(0)
    counts = (layer.train()(x) / (layer.value(x) / 2)).detach()  # number of keys kept, per head and place
    torch.testing.assert_close(counts, counts.round())
    assert counts.unique().numel() > 1
    torch.testing.assert_close(layer.eval()(x), layer.value(x))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        GatedAttention(8, heads=3)


def test_only_the_first_layer_knows_positions() -> None:
    stack = GatedSelfAttention(8, heads=2, layers=2).double().eval()
    x, gate = some(2, 4, 8), some(2, 4, 8, seed=1).sigmoid()
    first = x + stack.norms[0](stack.layers[0](x * gate))
    torch.testing.assert_close(stack(x, gate), first + stack.norms[1](stack.layers[1](first)))


@pytest.mark.parametrize("training", [True, False])
def test_padding_never_changes_real_positions(training: bool) -> None:
    stack = GatedSelfAttention(8, heads=2, layers=2).double().train(training)
    mask = prefix_mask([3, 4], 4)
    x = some(2, 4, 8)
    other = torch.where(mask.unsqueeze(-1), x, 100.0)
    found, changed = (stack(values, key_mask=mask, norm_mask=mask) for values in (x, other))
    torch.testing.assert_close(found[mask], changed[mask])


def test_every_attention_parameter_gets_a_gradient() -> None:
    stack = GatedSelfAttention(8, heads=2, layers=2, equal_start=False).double()
    stack(some(2, 4, 8), some(2, 4, 8, seed=1).sigmoid()).square().sum().backward()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("value.bias"), name


def logits_by_loops(summary: ViewSummary, x: Tensor) -> Tensor:
    """Raw matrix of one picture x (R, D): every convolution written as a sum over the regions it touches."""
    rows = []
    for region in range(len(x)):
        channels = []
        for conv, (_, kernel, dilation) in zip(summary.convs, CONVOLUTIONS, strict=True):
            total = conv.bias.clone()
            for tap in range(kernel):
                neighbour = region + (tap - kernel // 2) * dilation
                if 0 <= neighbour < len(x):
                    total = total + conv.weight[:, :, tap] @ x[neighbour]
            channels.append(total.relu())
        rows.append(summary.out(torch.cat(channels)))
    return torch.stack(rows)


def test_view_matrix_equals_loops() -> None:
    torch.manual_seed(0)
    summary, x = ViewSummary(4, views=3).double(), some(2, 7, 4)
    torch.testing.assert_close(summary.logits(x), torch.stack([logits_by_loops(summary, picture) for picture in x]))


def test_all_views_of_a_single_region_are_that_region() -> None:
    """softmax over one region is 1, so a view is the region, given unit length: (3, 4) -> (0.6, 0.8)."""
    views, _ = ViewSummary(2, views=3)(torch.tensor([[[3.0, 4.0]]]))
    torch.testing.assert_close(views, torch.tensor([[[0.6, 0.8]] * 3]))


def test_views_do_not_see_padded_regions() -> None:
    torch.manual_seed(0)
    summary, x = ViewSummary(4, views=3).double(), some(1, 9, 4)
    alone, alone_logits = summary(x[:, :5])
    padded, logits = summary(x, prefix_mask([5], 9))
    torch.testing.assert_close(padded, alone)
    torch.testing.assert_close(logits[:, :5], alone_logits)
    assert torch.equal(logits[:, 5:], torch.zeros(1, 4, 3, dtype=torch.float64))
