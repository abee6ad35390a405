"""Means of a patch map under boxes: a value by hand, a slow plain version, invariances, a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfalign_cli.extract.pooling import axis_cover, pool_boxes


def test_cover_of_cells_by_hand() -> None:
    """[0.5, 2.25] covers half of the first cell, all of the second, a quarter of the third, nothing of the fourth."""
    found = axis_cover(torch.tensor([0.5]), torch.tensor([2.25]), 4)
    assert found.tolist() == [[0.5, 1.0, 0.25, 0.0]]


def test_a_mean_by_hand() -> None:
    """A map of 2 x 2 patches with 1, 2 / 3, 4 on a picture of 20 x 10; the box 5..20 x 0..7.5.

    Across: half of the first column, all of the second: 1/3, 2/3. Down: all of the first row, half of the second: 2/3,
    1/3. Mean: 2/3 (1/3 + 4/3) + 1/3 (3/3 + 8/3) = 10/9 + 11/9 = 7/3.
    """
    features = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    found = pool_boxes(features, torch.tensor([[5.0, 0.0, 20.0, 7.5]]), (20.0, 10.0))
    assert found.item() == pytest.approx(7 / 3)


def plain_mean(features: torch.Tensor, box: list[float], size: tuple[float, float]) -> torch.Tensor:
    """Patch after patch, by the area that the box covers."""
    rows, columns, width = features.shape
    total, area = torch.zeros(width, dtype=features.dtype), 0.0
    for row in range(rows):
        for column in range(columns):
            left, right = column * size[0] / columns, (column + 1) * size[0] / columns
            top, bottom = row * size[1] / rows, (row + 1) * size[1] / rows
            across = max(0.0, min(right, box[2]) - max(left, box[0]))
            down = max(0.0, min(bottom, box[3]) - max(top, box[1]))
            total += across * down * features[row, column]
            area += across * down
    return total / area


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    corners=st.tuples(*[st.floats(0, 0.9)] * 2),
    sides=st.tuples(*[st.floats(0.01, 1)] * 2),
)
def test_the_plain_version_says_the_same(
    rows: int, columns: int, corners: tuple[float, float], sides: tuple[float, float]
) -> None:
    size = (37.0, 53.0)
    features = torch.randn(rows, columns, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    low = [corner * side for corner, side in zip(corners, size, strict=True)]
    high = [min(side, left + part * side) for left, part, side in zip(low, sides, size, strict=True)]
    box = [*low, *high]
    found = pool_boxes(features, torch.tensor([box], dtype=torch.float64), size)
    torch.testing.assert_close(found[0], plain_mean(features, box, size), rtol=1e-9, atol=1e-9)


def test_the_whole_picture_is_the_mean_of_all_patches() -> None:
    features = torch.randn(4, 6, 5)
    found = pool_boxes(features, torch.tensor([[0.0, 0.0, 30.0, 10.0]]), (30.0, 10.0))
    torch.testing.assert_close(found[0], features.mean(dim=(0, 1)))


def test_a_box_inside_one_patch_is_that_patch() -> None:
    features = torch.arange(6.0).reshape(2, 3, 1)
    assert pool_boxes(features, torch.tensor([[21.0, 11.0, 22.0, 12.0]]), (30.0, 20.0)).item() == 5.0


def test_boxes_do_not_know_of_each_other() -> None:
    features = torch.randn(4, 6, 5, dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0.0, 9.0, 5.0], [3.0, 2.0, 30.0, 10.0]])
    one_by_one = torch.cat([pool_boxes(features, box.unsqueeze(0), (30.0, 10.0)) for box in boxes])
    torch.testing.assert_close(pool_boxes(features, boxes, (30.0, 10.0)), one_by_one)


def test_the_gradient_of_a_mean_adds_up_to_one() -> None:
    features = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    pool_boxes(features, torch.tensor([[1.0, 1.0, 7.0, 5.0]]), (8.0, 6.0))[0, 0].backward()
    assert features.grad is not None
    assert math.isclose(features.grad[..., 0].sum().item(), 1.0)
    assert not features.grad[..., 1].any()
