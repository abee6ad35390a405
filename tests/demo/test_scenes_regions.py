"""Pixels, boxes and features of the embedded scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.regions import (
    FEATURE_WIDTH,
    REGIONS,
    box_grids,
    contrast,
    detect,
    grid_features,
    propose_boxes,
)
from selfalign_cli.demo.scenes.render import INK, TINT, render, stamp
from selfalign_cli.demo.scenes.world import CANVAS, SHAPES, Scene, sample_world


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_world(11, {"test": 40})["test"]


def picture_and_boxes(scene: Scene, row: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = render(scene, Draws(11, 1, row)).pixels
    return pixels[None], np.array([propose_boxes(scene, Draws(11, 2, row))])


def features_of(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Features of boxes in the order in which they are given."""
    return grid_features(box_grids(pixels, boxes))


def test_palette_has_at_most_16_colours(scenes):
    assert all(render(s, Draws(0, i)).palette.shape[0] <= 16 for i, s in enumerate(scenes))


def test_front_object_has_its_colour(scenes):
    """The last object is in front: mean over its stamp is the ink within tint, grain averaged out."""
    for row, scene in enumerate(scenes):
        t = scene.things[-1]
        pixels = render(scene, Draws(11, 1, row)).pixels
        area = pixels[t.y - t.radius : t.y + t.radius + 1, t.x - t.radius : t.x + t.radius + 1]
        mean = area[stamp(t.kind.shape, t.radius)].mean(0)
        assert abs(mean - np.array(INK[t.kind.colour])).max() <= TINT + 9


@pytest.mark.parametrize("radius", [5, 6, 9, 10])
def test_shapes_differ_and_are_upright(radius):
    stamps = {shape: stamp(shape, radius) for shape in SHAPES}
    assert all((s == s[:, ::-1]).all() for s in stamps.values())  # left and right alike: a turn keeps them
    names = sorted(stamps)
    different = [(stamps[a] != stamps[b]).mean() for i, a in enumerate(names) for b in names[:i]]
    assert min(different) > 0.1


def test_boxes_lie_inside_the_picture(scenes):
    for row, scene in enumerate(scenes):
        x1, y1, x2, y2 = picture_and_boxes(scene, row)[1][0].T
        assert len(x1) == REGIONS
        assert min(x1.min(), y1.min()) >= 0
        assert max(x2.max(), y2.max()) <= CANVAS
        assert min((x2 - x1).min(), (y2 - y1).min()) >= 8


def test_every_object_has_a_box_of_its_own(scenes):
    """Intersection over union of 0.3 or more: the margins are loose, and small objects are small."""
    for row, scene in enumerate(scenes):
        boxes = picture_and_boxes(scene, row)[1][0]
        for t in scene.things:
            low, high = np.array([t.x, t.y]) - t.radius, np.array([t.x, t.y]) + t.radius + 1
            shared = (np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low)).clip(0).prod(1)
            union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (high - low).prod() - shared
            assert (shared / union).max() > 0.3


def test_grids_are_cell_means():
    """Oracle: every pixel drawn 8 x 8 times larger, then plain sums over whole cells."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, CANVAS, CANVAS, 3)).astype(np.uint8)
    boxes = np.array(
        [[[0, 0, 64, 64], [3, 5, 20, 38], [60, 1, 64, 4]], [[1, 1, 2, 2], [40, 50, 64, 64], [0, 9, 8, 17]]]
    )
    grids = box_grids(pixels, boxes)
    for n, r in np.ndindex(2, 3):
        x1, y1, x2, y2 = boxes[n, r]
        large = pixels[n, y1:y2, x1:x2].astype(np.int64).repeat(8, 0).repeat(8, 1)
        cells = large.reshape(8, y2 - y1, 8, x2 - x1, 3).sum((1, 3))
        assert (grids[n, r] == cells // ((y2 - y1) * (x2 - x1))).all()


def test_features_see_only_the_pixels_inside_the_box(scenes):
    pixels, boxes = picture_and_boxes(scenes[0], 0)
    inside = np.zeros((CANVAS, CANVAS), dtype=bool)
    x1, y1, x2, y2 = boxes[0, 0]
    inside[y1:y2, x1:x2] = True
    noise = np.random.default_rng(1).integers(0, 256, pixels.shape).astype(np.uint8)
    outside_changed = np.where(inside[None, ..., None], pixels, noise)
    inside_changed = np.where(inside[None, ..., None], noise, pixels)
    before = features_of(pixels, boxes[:, :1])
    assert (features_of(outside_changed, boxes[:, :1]) == before).all()
    assert (features_of(inside_changed, boxes[:, :1]) != before).any()


def test_recolouring_an_object_changes_the_features_of_its_boxes(scenes):
    """The front object, repainted: regions without a pixel of it stay the same to the last bit."""
    checked = 0
    for row, scene in enumerate(scenes):
        *rest, front = scene.things
        other = "blue" if front.kind.colour != "blue" else "yellow"
        repainted = replace(scene, things=(*rest, replace(front, kind=replace(front.kind, colour=other))))
        before, boxes = picture_and_boxes(scene, row)
        after, _ = picture_and_boxes(repainted, row)
        changed = [(before[0, y1:y2, x1:x2] != after[0, y1:y2, x1:x2]).any() for x1, y1, x2, y2 in boxes[0]]
        whole = [
            x1 <= front.x - front.radius and x2 > front.x + front.radius
            and y1 <= front.y - front.radius and y2 > front.y + front.radius
            for x1, y1, x2, y2 in boxes[0]
        ]  # fmt: skip
        moved = (features_of(before, boxes) != features_of(after, boxes)).any(-1)[0]
        assert not (moved & ~np.array(changed)).any()
        assert moved[np.array(whole)].all()
        checked += sum(whole)
    assert checked > 40


def test_features_do_not_depend_on_the_other_pictures(scenes):
    pairs = [picture_and_boxes(s, row) for row, s in enumerate(scenes[:6])]
    pixels, boxes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    together = detect(pixels, boxes)
    for row, (one, own) in enumerate(pairs):
        alone = detect(one, own)
        assert (together[0][row] == alone[0][0]).all()
        assert (together[1][row] == alone[1][0]).all()


def test_regions_come_in_order_of_falling_contrast(scenes):
    pixels, boxes = picture_and_boxes(scenes[3], 3)
    ordered, features = detect(pixels, boxes)
    strength = contrast(box_grids(pixels, ordered)).sum((2, 3))[0]
    assert (np.diff(strength) <= 0).all()
    assert sorted(map(tuple, ordered[0])) == sorted(map(tuple, boxes[0]))
    assert (features == features_of(pixels, ordered)).all()


def test_features_are_exact_in_float32(scenes):
    """All are whole multiples of 2**-17 below 2**24 of them, so float32 holds what was computed."""
    features = np.concatenate([detect(*picture_and_boxes(s, row))[1] for row, s in enumerate(scenes)])
    assert features.shape == (len(scenes), REGIONS, FEATURE_WIDTH)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert (features >= 0).all()
    steps = features.astype(np.float64) * 2**17
    assert (steps == np.round(steps)).all()
    assert (features.reshape(-1, FEATURE_WIDTH).std(0) > 0).all()
