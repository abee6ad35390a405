"""The caption generator's loss by hand and against loops."""

from __future__ import annotations

import math

import pytest
import torch

from selfalign_cli.losses.captioning import captioning_loss


def test_worked_example() -> None:
    """Word 0 predicted with 1/2, word 2 with 1/8, over two captions: (ln 2 + ln 8) / 2 = 2 ln 2."""
    chances = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.375, 0.125]])
    loss = captioning_loss(chances.log(), torch.tensor([0, 2]), captions=2)
    torch.testing.assert_close(loss, torch.tensor(2 * math.log(2)))


def test_loss_equals_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(9, 5, dtype=torch.float64, generator=generator).log_softmax(dim=-1)
    targets = torch.randint(5, (9,), generator=generator)
    expected = sum(-float(predicted[row, targets[row]]) for row in range(9)) / 4
    found = captioning_loss(predicted, targets, captions=4)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_gradient() -> None:
    predicted = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 2, 2, 1])
    assert torch.autograd.gradcheck(lambda p: captioning_loss(p, targets, captions=2), (predicted,))


def test_order_of_the_positions_does_not_matter() -> None:
    predicted = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    targets, order = torch.tensor([0, 2, 2, 1]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        captioning_loss(predicted[order], targets[order], captions=2), captioning_loss(predicted, targets, captions=2)
    )


def test_nothing_to_predict_costs_nothing() -> None:
    assert captioning_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), captions=1) == 0.0


def test_a_word_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(IndexError):
        captioning_loss(torch.zeros(1, 3), torch.tensor([3]), captions=1)
