"""The hinge by hand, against loops, and where there are no negatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from selfalign_cli.losses.ranking import HingeMode, hinge_loss

MODES: tuple[HingeMode, ...] = ("hardest", "sum", "mean")
WORKED = torch.tensor([[0.9, 0.8, 0.75], [0.6, 0.7, 0.65], [0.1, 0.2, 0.5]])


def scores(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same_picture(numbers: list[int]) -> Tensor:
    index = torch.tensor(numbers)
    return index.unsqueeze(0) == index.unsqueeze(1)


def loops(similarity: Tensor, margin: float, mode: HingeMode, same: Tensor | None = None) -> float:
    """The definition, one violation at a time."""
    count = len(similarity)
    negative = [[i != j and not (same is not None and bool(same[i, j])) for j in range(count)] for i in range(count)]
    total = 0.0
    for own in range(count):
        pair = float(similarity[own, own])
        rows = [max(0.0, margin + float(similarity[own, j]) - pair) for j in range(count) if negative[own][j]]
        columns = [max(0.0, margin + float(similarity[i, own]) - pair) for i in range(count) if negative[i][own]]
        for violations in (rows, columns):
            if not violations:
                continue
            if mode == "hardest":
                total += max(violations)
            else:
                total += sum(violations) / (len(violations) if mode == "mean" else 1)
    return total


@pytest.mark.parametrize(("mode", "expected"), [("sum", 1.50), ("hardest", 1.00), ("mean", 0.75)])
def test_worked_example(mode: HingeMode, expected: float) -> None:
    """Margin 0.2. Rows: .10 + .05, .10 + .15, 0; columns: 0, .30, .45 + .35.

    All: .15 + .25 + .30 + .80 = 1.50. Hardest: .10 + .15 + .30 + .45 = 1.00. Means over two negatives: 1.50 / 2.
    """
    torch.testing.assert_close(hinge_loss(WORKED, margin=0.2, mode=mode), torch.tensor(expected))


def test_pairs_beyond_the_margin_cost_nothing() -> None:
    """Each pair scores 1 and every negative 0.5: 0.2 + 0.5 - 1 < 0."""
    assert hinge_loss(0.5 * torch.eye(4) + 0.5, margin=0.2, mode="sum") == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_loss_equals_loops(mode: HingeMode) -> None:
    expected = torch.tensor(loops(scores(6), 0.2, mode), dtype=torch.float64)
    torch.testing.assert_close(hinge_loss(scores(6), margin=0.2, mode=mode), expected)


@pytest.mark.parametrize("mode", MODES)
def test_captions_of_one_picture_are_no_negatives(mode: HingeMode) -> None:
    same = same_picture([4, 7, 4, 9, 7, 4])
    expected = torch.tensor(loops(scores(6), 0.2, mode, same), dtype=torch.float64)
    torch.testing.assert_close(hinge_loss(scores(6), margin=0.2, mode=mode, same=same), expected)


def test_same_picture_takes_the_hardest_negative_away() -> None:
    """Pairs 0 and 1 share a picture: rows keep .05, .15, 0 and columns 0, 0, .45 + .35 → hardest .05 + .15 + .45."""
    found = hinge_loss(WORKED, margin=0.2, mode="hardest", same=same_picture([3, 3, 5]))
    torch.testing.assert_close(found, torch.tensor(0.65))


@pytest.mark.parametrize("mode", MODES)
def test_order_of_the_batch_does_not_matter(mode: HingeMode) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = scores(5)[order][:, order]
    torch.testing.assert_close(
        hinge_loss(shuffled, margin=0.2, mode=mode), hinge_loss(scores(5), margin=0.2, mode=mode)
    )


@pytest.mark.parametrize("mode", MODES)
def test_both_directions_count_alike(mode: HingeMode) -> None:
    torch.testing.assert_close(
        hinge_loss(scores(5).T, margin=0.2, mode=mode), hinge_loss(scores(5), margin=0.2, mode=mode)
    )


@pytest.mark.parametrize("mode", MODES)
def test_gradient(mode: HingeMode) -> None:
    same = same_picture([0, 1, 0, 2])
    assert torch.autograd.gradcheck(
        lambda s: hinge_loss(s, margin=0.2, mode=mode, same=same), (scores(4).requires_grad_(),)
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("numbers", [[0], [0, 0, 0]], ids=["one pair", "one picture"])
def test_without_negatives_loss_and_gradient_are_zero(mode: HingeMode, numbers: list[int]) -> None:
    similarity = scores(len(numbers)).requires_grad_()
    loss = hinge_loss(similarity, margin=0.2, mode=mode, same=same_picture(numbers))
    loss.backward()
    assert loss == 0.0
    torch.testing.assert_close(similarity.grad, torch.zeros_like(similarity))


def test_unequal_sides_are_refused() -> None:
    with pytest.raises(RuntimeError):
        hinge_loss(torch.zeros(2, 3), margin=0.2, mode="sum")
