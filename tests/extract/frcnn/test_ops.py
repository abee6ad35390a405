"""Box arithmetic, suppression and RoI pooling: values worked by hand, and loops over every case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import frcnn_plain

from selfalign_cli.errors import RunError
from selfalign_cli.extract.frcnn.ops import clip, decode, nms, require_finite, roi_max_pool

ONES = (1.0, 1.0, 1.0, 1.0)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_decoding_moves_the_centre_and_scales_the_sides():
    """Centre (5, 10) + (0.1·10, -0.2·20) = (6, 6); 10·2 wide, 20 high."""
    deltas = torch.tensor([[0.1, -0.2, math.log(2), 0.0]])
    assert decode(deltas, torch.tensor([[0.0, 0, 10, 20]]), ONES)[0].tolist() == pytest.approx([-4, -4, 16, 16])


def test_decoding_divides_by_the_weights():
    """0.5/10·10 = 0.5 to the right, -1/10·20 = 2 up; e^(1/5) wide."""
    found = decode(torch.tensor([[0.5, -1.0, 1.0, 0.0]]), torch.tensor([[0.0, 0, 10, 20]]), (10, 10, 5, 5))
    half = 5 * math.exp(0.2)
    assert found[0].tolist() == pytest.approx([5.5 - half, -2, 5.5 + half, 18])


def test_a_box_grows_by_a_factor_of_62_5_at_most_and_shrinks_without_limit():
    found = decode(torch.tensor([[0, 0, 9, -9]]).double(), torch.tensor([[-1, -1, 1, 1]]).double(), ONES)
    assert found[0].tolist() == pytest.approx([-62.5, -math.exp(-9), 62.5, math.exp(-9)])


def test_clipping_goes_to_the_whole_width_and_height():
    boxes = torch.tensor([[-3.0, -4, 50, 60], [1, 2, 3, 4]])
    assert clip(boxes, 20, 30).tolist() == [[0, 0, 30, 20], [1, 2, 3, 4]]


def test_suppression_by_hand():
    """The second box shares 3/5 with the best and 1/3 with the last: at 0.5 it goes, at 0.7 it stays."""
    boxes = torch.tensor([[0.0, 0, 4, 1], [1, 0, 5, 1], [3, 0, 7, 1]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [0, 2]
    assert nms(boxes, scores, 0.7).tolist() == [0, 1, 2]
    assert nms(boxes, scores.flip(0), 0.5).tolist() == [2, 1]
    assert nms(boxes, scores, 0.7, at_most=2).tolist() == [0, 1]


def test_what_a_dropped_box_overlaps_stays():
    boxes = torch.tensor([[0.0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1]])  # neighbours share 3/5, the outer two 1/3
    assert nms(boxes, torch.tensor([3.0, 2, 1]), 0.5).tolist() == [0, 2]


def test_of_equal_scores_the_lower_index_comes_first():
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1]])
    assert nms(boxes, torch.tensor([1.0, 2, 1]), 0.5).tolist() == [1, 0]


def test_an_overlap_equal_to_the_threshold_is_not_above_it():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]])
    scores = torch.tensor([2.0, 1])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.49).tolist() == [0]


def test_the_threshold_is_not_rounded_to_the_precision_of_the_boxes():
    """1/5 in single precision is above 0.2; in double precision it is 0.2."""
    boxes, scores = torch.tensor([[0.0, 0, 5, 1], [0, 0, 1, 1]]), torch.tensor([2.0, 1])
    assert nms(boxes, scores, 0.2).tolist() == [0]
    assert nms(boxes.double(), scores, 0.2).tolist() == [0, 1]


def test_boxes_without_area_do_not_drop_one_another():
    """F17: their overlap is 0/0."""
    boxes = torch.tensor([[3.0, 0, 3, 9], [3, 0, 3, 9], [0, 0, 9, 9]])
    assert nms(boxes, torch.tensor([3.0, 2, 1]), 0.0).tolist() == [0, 1, 2]


def test_suppression_of_nothing():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)


@BOTH
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_suppression_equals_loops(dtype, threshold):
    """On a coarse grid, so that scores tie, overlaps meet thresholds, and boxes have no area."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(0, 6, (80, 4), generator=generator).to(dtype)
    boxes = torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:]), 1)
    scores = torch.randint(0, 9, (80,), generator=generator).to(dtype)
    kind = np.float32 if dtype == torch.float32 else np.float64
    expected = frcnn_plain.nms(boxes.tolist(), scores.tolist(), threshold, kind)
    assert nms(boxes, scores, threshold).tolist() == expected


SQUARE = torch.tensor([[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]])


def pooled(features: torch.Tensor, box: list[float], size: int) -> list:
    """Cells of one region in a map of one channel."""
    return roi_max_pool(features, features.new_tensor([box]), size, 1 / 16)[0, 0].tolist()


def test_pooling_by_hand():
    """Cells 0 to 2 in two bins of 1.5: one covers 0 and 1, the other 1 and 2."""
    assert pooled(SQUARE, [0, 0, 32, 32], 2) == [[5, 6], [8, 9]]


def test_a_region_smaller_than_the_grid_repeats_its_cells():
    assert pooled(SQUARE, [16, 32, 16, 32], 2) == [[8, 8], [8, 8]]


@pytest.mark.parametrize(("pixel", "cell"), [(7.9, 0), (8, 1), (24, 2), (8 - 5e-7, 0)])
def test_halves_are_rounded_away_from_zero(pixel, cell):
    """24/16 = 1.5 becomes 2, and 8/16 = 0.5 becomes 1, where rounding to even gives 0; just below, nothing is up."""
    assert pooled(SQUARE, [pixel] * 4, 1) == [[SQUARE[0, cell, cell].item()]]


def test_negative_halves_are_rounded_away_from_zero():
    """From -1 to 0, so that two bins of 1 leave the map out and take its first row."""
    assert pooled(SQUARE, [-8, -8, 0, 0], 2) == [[0, 0], [0, 1]]


def test_cells_outside_the_map_are_0_and_others_may_be_negative():
    """Cells 1 to 4 of three in two bins of 2."""
    assert pooled(-SQUARE, [16, 16, 64, 64], 2) == [[-5, 0], [0, 0]]
    assert pooled(-SQUARE, [160, 0, 320, 32], 2) == [[0, 0], [0, 0]]
    assert pooled(-SQUARE, [0, -320, 32, -160], 2) == [[0, 0], [0, 0]]


def test_a_rounded_product_adds_a_column_in_single_precision_only():
    """F6: 57/14·14 lands just above 57 in single precision, and 29/14·14 above 29 in double precision."""
    for columns, dtype, expected in (
        (57, torch.float32, 1),
        (57, torch.float64, 0),
        (29, torch.float32, 0),
        (29, torch.float64, 1),
    ):
        features = torch.zeros(1, 1, 65, dtype=dtype)
        features[0, 0, columns] = 1  # the first column behind the region
        assert pooled(features, [0, 0, 16.0 * (columns - 1), 0], 14)[0][13] == expected


@BOTH
@pytest.mark.parametrize("size", [1, 7, 14])
def test_pooling_equals_loops(dtype, size):
    generator = torch.Generator().manual_seed(size)
    features = torch.randn(3, 11, 64, generator=generator).to(dtype)
    corners = torch.randint(-12, 150, (60, 4), generator=generator).to(dtype) * 8  # many are halves of 16
    boxes = torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:].clamp(min=0)), 1)
    found = roi_max_pool(features, boxes, size, 1 / 16)
    assert found.shape == (60, 3, size, size)
    for region, box in zip(found, boxes.tolist(), strict=True):
        assert torch.equal(region, frcnn_plain.roi_pool(features, box, size))


def test_pooling_of_nothing():
    assert roi_max_pool(torch.ones(2, 3, 3), torch.zeros(0, 4), 7, 1 / 16).shape == (0, 2, 7, 7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_stop_the_picture(value):
    require_finite(torch.zeros(2), torch.zeros(0))
    with pytest.raises(RunError, match="NaN or infinity"):
        require_finite(torch.zeros(2), torch.tensor([0, value]))
