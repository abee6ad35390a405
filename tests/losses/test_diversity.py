"""The view penalty by hand, against loops, under padding."""

from __future__ import annotations

import pytest
import torch

from selfalign_cli.losses.diversity import diversity_loss


def test_views_of_different_regions_cost_nothing() -> None:
    assert diversity_loss(torch.tensor([[[3.0, 0.0], [0.0, -2.0]]])) == 0.0


def test_equal_views_cost_two_per_pair() -> None:
    """Both columns become (0.6, 0.8); their overlap 1 stands twice off the diagonal: 1 + 1."""
    torch.testing.assert_close(diversity_loss(torch.tensor([[[3.0, 6.0], [4.0, 8.0]]])), torch.tensor(2.0))


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 4.0), ("mean", 2.0)])
def test_reduction_is_over_the_batch(reduction: str, expected: float) -> None:
    logits = torch.tensor([[[3.0, 6.0], [4.0, 8.0]]]).expand(2, 2, 2)
    found = diversity_loss(logits, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_loss_equals_loops() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 0.0
    for picture in logits:
        for first in range(4):
            for second in range(4):
                lengths = float(picture[:, first].norm() * picture[:, second].norm())
                overlap = float(picture[:, first] @ picture[:, second]) / lengths
                expected += (overlap - (first == second)) ** 2
    torch.testing.assert_close(diversity_loss(logits), torch.tensor(expected, dtype=torch.float64))


def test_padded_regions_do_not_count() -> None:
    logits = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(diversity_loss(logits, mask), diversity_loss(logits[:, :3]))


def test_a_view_without_weights_stays_finite() -> None:
    """A zero column keeps length 0: its own overlap is 0 instead of 1, which costs 1."""
    logits = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    loss = diversity_loss(logits)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(1.0))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
