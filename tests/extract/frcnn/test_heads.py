"""Heads and selection: what an embedding of background does, and which regions stay."""

from __future__ import annotations

import math

import pytest
import torch
from support.frcnn import config
from torch import Tensor

from selfalign_cli.extract.frcnn.heads import BoxPredictor, Regions
from selfalign_cli.extract.frcnn.selection import candidates, select

TWO_CLASSES = {"resnets__res2_out_channels": 1, "roi_heads__num_classes": 2, "roi_box_head__num_attrs": 2}


def predictor(class_bias: list[float]) -> BoxPredictor:
    """Features of 8 numbers; attribute logits are the class's embedding, plus the feature's first number."""
    made = BoxPredictor(config(**TWO_CLASSES)).requires_grad_(False)
    for value in made.parameters():
        value.zero_()
    made.cls_score.bias.copy_(torch.tensor(class_bias))
    made.cls_embedding["weight"].copy_(torch.tensor([[1.0], [2], [3]]))
    made.fc_attr.weight[0, 8] = 10.0  # the embedding stands behind the feature
    made.fc_attr.weight[0, 0] = 1.0
    made.attr_score.weight[:, 0] = torch.tensor([1.0, -1, 2])
    return made


@pytest.mark.parametrize(
    ("class_bias", "embedded"),
    [([5.0, 0, 0], 10), ([0.0, 5, 0], 20), ([0.0, 0, 5], 30)],
    ids=["first", "last", "background"],
)
def test_attributes_see_the_class_even_background(class_bias, embedded):
    """F8: the row of background is the last."""
    feature = torch.zeros(1, 8)
    feature[0, 0] = 4
    found = predictor(class_bias)(feature)
    assert found.attribute_logits.tolist() == [[embedded + 4, -embedded - 4, 2 * embedded + 8]]
    assert found.class_logits.tolist() == [class_bias]


def described(class_logits: list[list[float]], deltas: Tensor) -> Regions:
    logits = torch.tensor(class_logits)
    return Regions(torch.zeros(len(logits), 8), logits, torch.zeros(len(logits), 3), deltas)


def test_a_candidate_is_the_best_class_but_background_with_its_own_box():
    """Background has half of the probability; class 1 has e/(e + 1) of the rest, and moves by 10/10 widths."""
    deltas = torch.zeros(1, 8)
    deltas[0, 4] = 10  # dx of class 1, weight 10
    deltas[0, 0] = -10  # dx of class 0
    regions = described([[0.0, 1, math.log(1 + math.e)]], deltas)
    found = candidates(torch.tensor([[1.0, 2, 5, 6]]), regions, config(**TWO_CLASSES), 5, 100)
    assert found.classes.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.5 * math.e / (1 + math.e)])
    assert found.boxes.tolist() == [[5, 2, 9, 5]]


NESTED = torch.tensor([[0.0, 0, 10, 1], [0, 0, 8, 1], [0, 0, 5, 1], [50, 0, 60, 1]])
"""The first overlaps the second by 0.8 and the third by 0.5, the second the third by 5/8."""
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.01])


@pytest.mark.parametrize(
    ("thresholds", "least", "expected"),
    [
        ([0.4, 0.7, 0.9], 1, [0, 3]),
        ([0.4, 0.7, 0.9], 2, [0, 3]),
        ([0.4, 0.7, 0.9], 3, [0, 2, 3]),
        ([0.4, 0.7, 0.9], 4, [0, 1, 2, 3]),
        ([0.9, 0.4], 2, [0, 1, 2, 3]),  # in the order given
        (0.6, 1, [0, 2, 3]),
    ],
)
def test_the_first_threshold_that_leaves_enough_wins(thresholds, least, expected):
    """F12: the score of the last, 0.01, is below score_thresh_test and does not matter."""
    made = config(roi_heads__nms_thresh_test=thresholds, min_detections=least, max_detections=9)
    assert select(NESTED, SCORES, made).tolist() == expected


def test_where_no_threshold_leaves_enough_the_last_one_counts():
    """F11."""
    made = config(roi_heads__nms_thresh_test=[0.9, 0.4], min_detections=5, max_detections=9)
    assert select(NESTED, SCORES, made).tolist() == [0, 3]


def test_no_more_than_the_most_are_kept():
    made = config(roi_heads__nms_thresh_test=[0.4, 0.9], min_detections=3, max_detections=3)
    assert select(NESTED, SCORES, made).tolist() == [0, 1, 2]


def test_equal_candidates_come_in_the_order_of_objectness():
    """F14."""
    made = config(roi_heads__nms_thresh_test=1.0, min_detections=1, max_detections=2)
    assert select(NESTED[[0, 0, 0]], torch.tensor([0.5, 0.5, 0.5]), made).tolist() == [0, 1]
