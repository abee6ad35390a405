"""Grouping patches: known rectangles are found, counts and scores by hand, a slow plain version, symmetries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from selfalign_cli.extract.grouping import group_patches, widened
from selfalign_cli.extract.select import best_boxes, overlap_with, quarters

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]


def picture_of(
    rectangles: list[tuple[int, int, int, int]], rows: int = 12, columns: int = 16
) -> npt.NDArray[np.float32]:
    """A map with one direction for the ground and one for each rectangle (x1, y1, x2, y2), slightly noisy."""
    random = np.random.default_rng(3)
    features = np.zeros((rows, columns, len(rectangles) + 1), dtype=np.float32)
    features[..., 0] = 1
    for number, (left, top, right, bottom) in enumerate(rectangles, start=1):
        features[top:bottom, left:right] = 0
        features[top:bottom, left:right, number] = 1
    return features + 0.01 * random.standard_normal(features.shape).astype(np.float32)


def test_known_rectangles_stand_out() -> None:
    rectangles = [(1, 1, 5, 4), (8, 2, 14, 7), (3, 8, 7, 11)]
    found = group_patches(picture_of(rectangles))
    best = found.boxes[best_boxes(found.boxes, found.scores, 4)].tolist()
    assert all(list(map(float, rectangle)) in best for rectangle in rectangles)


def test_three_patches_by_hand() -> None:
    """(1, 0) twice are joined at cost 0; then 2 · √(2·1/3) swallows both: times log 2 and log 1."""
    found = group_patches(np.array([[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]], dtype=np.float32))
    assert found.boxes.tolist() == [[0, 0, 1, 1], [1, 0, 2, 1], [2, 0, 3, 1], [0, 0, 2, 1]]
    assert found.scores == pytest.approx([0, 0, 0, 2 * math.sqrt(2 / 3) * math.log(2)])


def test_boxes_get_a_quarter_of_a_patch_on_every_side_within_the_map() -> None:
    boxes = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 4.0]])
    assert widened(boxes, rows=4, columns=5).tolist() == [[0.75, 1.75, 3.25, 4.0], [0.0, 0.0, 5.0, 4.0]]


def test_one_patch_proposes_nothing() -> None:
    assert len(group_patches(np.ones((1, 1, 3), dtype=np.float32)).boxes) == 0


def test_patches_of_zeros_are_joined_without_a_fault() -> None:
    found = group_patches(np.zeros((3, 3, 2), dtype=np.float32))
    assert len(found.boxes) == 16
    assert np.isfinite(found.scores).all()


def plain_grouping(features: npt.NDArray[np.float32]) -> tuple[list[tuple[float, ...]], list[float]]:
    """Look at all pairs of regions before every step."""
    rows, columns, _ = features.shape
    regions = [[(row, column)] for row in range(rows) for column in range(columns)]
    boxes, scores = [], []

    def mean(cells: list[tuple[int, int]]) -> Floats:
        vectors = [features[cell].astype(np.float64) for cell in cells]
        return np.mean([vector / np.linalg.norm(vector) for vector in vectors], axis=0)

    def beside(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
        return any(max(abs(a - c), abs(b - d)) == 1 for (a, b), (c, d) in itertools.product(one, other))

    while len(regions) > 1:
        cost, first, second = min(
            (
                float(((mean(one) - mean(other)) ** 2).sum())
                * math.sqrt(len(one) * len(other) / (len(one) + len(other))),
                first,
                second,
            )
            for (first, one), (second, other) in itertools.combinations(enumerate(regions), 2)
            if beside(one, other)
        )
        for number in (first, second):
            downs, rights = zip(*regions[number], strict=True)
            boxes.append((min(rights), min(downs), max(rights) + 1, max(downs) + 1))
            scores.append(cost * math.log(len(regions[number])))
        joined = regions[first] + regions[second]
        regions = [region for number, region in enumerate(regions) if number not in (first, second)] + [joined]
    return boxes, scores


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (3, 4), (4, 4)])
def test_the_plain_version_says_the_same(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(7).standard_normal((*shape, 6)).astype(np.float32)
    found = group_patches(features)
    boxes, scores = plain_grouping(features)
    ours = sorted(zip(map(tuple, found.boxes.tolist()), found.scores.round(9).tolist(), strict=True))
    assert ours == sorted(zip(boxes, np.round(scores, 9).tolist(), strict=True))


def test_a_mirrored_picture_gives_mirrored_boxes() -> None:
    features = np.random.default_rng(5).standard_normal((4, 6, 8)).astype(np.float32)
    straight, mirrored = group_patches(features), group_patches(np.ascontiguousarray(features[:, ::-1]))
    turned = straight.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [6, 0, 6, 0]
    assert sorted(zip(*turned.T.tolist(), straight.scores.round(9).tolist(), strict=True)) == sorted(
        zip(*mirrored.boxes.T.tolist(), mirrored.scores.round(9).tolist(), strict=True)
    )


def test_longer_vectors_change_nothing() -> None:
    features = picture_of([(2, 2, 6, 6)])
    np.testing.assert_allclose(group_patches(features).boxes, group_patches(4 * features).boxes)


def test_single_patches_do_not_crowd_objects_out() -> None:
    """Objects are seldom even: each patch of these is a third ground, a third object, and a third its own."""
    rectangles = [(1, 1, 5, 4), (8, 2, 14, 7), (3, 8, 7, 11)]
    features = picture_of(rectangles)
    own = np.random.default_rng(11).standard_normal((*features.shape[:2], 64)).astype(np.float32) / 8
    own[features[..., 0] > 0.5] *= 0.3
    features[..., 0] = 1
    found = group_patches(np.concatenate([features, own], axis=2))
    best = found.boxes[best_boxes(found.boxes, found.scores, 4)].tolist()
    assert all(list(map(float, rectangle)) in best for rectangle in rectangles)


# Selection


def test_overlap_by_hand() -> None:
    """[0, 0, 2, 2] and [1, 1, 3, 3]: 1 of 7; a box with itself 1; apart 0; two without area 0."""
    boxes = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]], dtype=float)
    assert overlap_with(np.array([0.0, 0, 2, 2]), boxes) == pytest.approx([1 / 7, 1, 0])
    assert overlap_with(np.zeros(4), np.zeros((1, 4))).tolist() == [0]


def test_the_better_of_two_like_boxes_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 6]], dtype=float)
    scores = np.array([0.5, 0.9, 0.9, 0.1])
    assert best_boxes(boxes, scores, 10).tolist() == [1, 2, 3]
    assert best_boxes(boxes, scores, 1).tolist() == [1]
    assert best_boxes(boxes[:0], scores[:0], 3).tolist() == []


def test_quarters_tile_the_picture() -> None:
    assert quarters(10, 6).tolist() == [[0, 0, 5, 3], [5, 0, 10, 3], [0, 3, 5, 6], [5, 3, 10, 6]]
