"""Anchors by hand; and what becomes of scores and deltas that a head would give."""

from __future__ import annotations

import pytest
import torch
from support.frcnn import config
from torch import Tensor, nn

from selfalign_cli.errors import RunError
from selfalign_cli.extract.frcnn.proposals import ProposalGenerator, anchor_grid, cell_anchors


def test_anchors_of_a_cell_by_hand():
    """Area 64²; r = h/w = 1/4 is 128 × 32, r = 1 is 64 × 64; then those of 8²."""
    assert cell_anchors([64, 8], [0.25, 1]).tolist() == [
        [-64, -16, 64, 16],
        [-32, -32, 32, 32],
        [-8, -2, 8, 2],
        [-4, -4, 4, 4],
    ]


def test_anchors_stand_on_the_corners_of_cells_row_by_row():
    cell = torch.tensor([[-1.0, -2, 1, 2], [-3, -4, 3, 4]])
    grid = anchor_grid(cell, 2, 3, 0)
    assert grid.shape == (12, 4)
    assert grid[0].tolist() == [-1, -2, 1, 2]
    assert grid[1].tolist() == [-3, -4, 3, 4]
    assert grid[2].tolist() == [15, -2, 17, 2]  # one cell to the right
    assert grid[6].tolist() == [-1, 14, 1, 18]  # one cell down
    assert anchor_grid(cell, 1, 1, 0.5)[0].tolist() == [7, 6, 9, 10]


class Given(nn.Module):
    """A head with given outputs."""

    def __init__(self, objectness: Tensor, deltas: Tensor) -> None:
        super().__init__()
        self.maps = objectness, deltas

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.maps


def propose(objectness: list, deltas: Tensor | None = None, **changed) -> tuple[list, list]:
    """Boxes and logits in a picture of 32 × 48 (a map of 2 × 3), whose cells have a narrow and a wide anchor."""
    logits = torch.tensor(objectness).view(1, 2, 2, 3)
    deltas = torch.zeros(1, 8, 2, 3) if deltas is None else deltas
    cell = torch.tensor([[-2.0, -6, 2, 6], [-6, -2, 6, 2]])
    generator = ProposalGenerator(config(**changed), cell)
    generator.rpn_head = Given(logits, deltas)
    found = generator(torch.zeros(1, 1, 2, 3), 32, 48)
    return found.boxes.tolist(), found.logits.tolist()


def test_boxes_come_by_descending_logit_and_are_clipped():
    """Channel 0 is the narrow anchor, at (row 1, column 2) = (32, 16); channel 1 the wide one, at (0, 0)."""
    objectness = [-9.0] * 5 + [3.0] + [4.0] + [-9.0] * 5
    boxes, logits = propose(objectness, rpn__post_nms_topk_test=2)
    assert boxes == [[0, 0, 6, 2], [30, 10, 34, 22]]
    assert logits == [4, 3]


def test_four_delta_channels_in_a_row_belong_to_one_anchor():
    """The wide anchor (channels 4 to 7) at row 1, column 1 moves by dx = 1, 12 pixels to the right."""
    deltas = torch.zeros(1, 8, 2, 3)
    deltas[0, 4, 1, 1] = 1
    objectness = [-9.0] * 10 + [5.0, -9.0]
    boxes, _ = propose(objectness, deltas, rpn__post_nms_topk_test=1)
    assert boxes == [[22, 14, 34, 18]]


def test_few_enter_suppression():
    boxes, logits = propose([float(value) for value in range(12)], rpn__pre_nms_topk_test=3)
    assert logits == [11, 10, 9]
    assert len(boxes) == 3


def test_boxes_not_larger_than_the_least_are_dropped():
    """At (0, 0) clipping leaves 2 × 6 and 6 × 2, of the others at least one side is longer; 4 is not above 4."""
    assert len(propose([0.0] * 12, rpn__nms_thresh=1.0, proposal_generator__min_size=0)[0]) == 12
    assert propose([0.0] * 12, rpn__nms_thresh=1.0, proposal_generator__min_size=4)[0] == []
    sides = {box[2] - box[0] for box in propose([0.0] * 12, proposal_generator__min_size=3)[0]}
    assert sides == {4, 12, 6}


def test_boxes_clipped_away_are_dropped_before_suppression():
    deltas = torch.zeros(1, 8, 2, 3)
    deltas[0, 0] = -30  # all narrow anchors lie left of the picture
    assert len(propose([1.0] * 12, deltas, rpn__nms_thresh=1.0)[0]) == 6


def test_numbers_that_are_not_finite_are_not_proposed():
    with pytest.raises(RunError, match="NaN or infinity"):
        propose([float("nan")] * 12)
