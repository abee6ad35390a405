"""Scenes: look-alikes, splits without leaks, positions, draws."""

from __future__ import annotations

import numpy as np
import pytest

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.make import split_sizes
from selfalign_cli.demo.scenes.world import CANVAS, COLOURS, SHAPES, attribute_bag, neighbours, sample_world


@pytest.fixture(scope="module")
def world():
    return sample_world(3, {"train": 400, "dev": 60, "test": 100})


def test_splits_have_their_sizes(world):
    assert {name: len(scenes) for name, scenes in world.items()} == {"train": 400, "dev": 60, "test": 100}


def test_no_scene_is_in_two_splits(world):
    """Stronger: not even the bag of attributes of a scene is, wherever the objects are."""
    bags = {name: {scene.bag for scene in scenes} for name, scenes in world.items()}
    assert not bags["train"] & bags["dev"]
    assert not bags["train"] & bags["test"]
    assert not bags["dev"] & bags["test"]


def test_a_bag_belongs_to_one_group(world):
    owners: dict[object, set[object]] = {}
    for name, scenes in world.items():
        for row, scene in enumerate(scenes):
            owners.setdefault(scene.bag, set()).add(scene.group if scene.group >= 0 else (name, row))
    assert all(len(groups) == 1 for groups in owners.values())


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_half_of_a_split_has_look_alikes(world, split):
    fraction = np.mean([scene.group >= 0 for scene in world[split]])
    assert fraction == pytest.approx(0.5, abs=0.03)


def test_look_alikes_have_equal_words_but_not_equal_objects(world):
    """Same colours, shapes, sizes and background; another binding, or the same objects at other positions."""
    for scene, others in neighbours(world["train"]):
        assert (len(others) > 0) == (scene.group >= 0)
        for other in others:
            assert (other.bag, other.background) == (scene.bag, scene.background)
            if scene.difference == "turn":
                assert set(other.kinds) == set(scene.kinds)
                assert other.things != scene.things
            else:
                assert set(scene.kinds) - set(other.kinds)


def test_objects_are_inside_and_mostly_visible(world):
    for scene in world["train"]:
        assert 3 <= len(scene.things) <= 5
        for i, t in enumerate(scene.things):
            assert t.radius <= min(t.x, t.y, CANVAS - 1 - t.x, CANVAS - 1 - t.y)
            for other in scene.things[:i]:
                assert np.hypot(t.x - other.x, t.y - other.y) >= 0.9 * (t.radius + other.radius) - 1e-9


def test_all_colours_and_shapes_are_equally_frequent(world):
    kinds = [kind for scene in world["train"] for kind in scene.kinds]
    for name, values in (("colour", COLOURS), ("shape", SHAPES)):
        counts = np.array([sum(getattr(kind, name) == value for kind in kinds) for value in values])
        assert counts.min() > 0.75 * len(kinds) / len(values)


def test_a_bag_does_not_depend_on_the_order_of_objects(world):
    scene = world["dev"][0]
    assert attribute_bag(tuple(reversed(scene.kinds))) == scene.bag


@pytest.mark.parametrize(
    ("train", "expected"), [(2000, (2000, 300, 500)), (100, (100, 20, 25)), (1, (1, 20, 20)), (1000, (1000, 150, 250))]
)
def test_split_sizes(train, expected):
    assert tuple(split_sizes(train).values()) == expected


def test_draws_are_the_raw_stream_scaled():
    """below(n) = floor(n * upper 32 bits / 2**32) of PCG64 as numpy promises to keep it."""
    raw = np.random.PCG64(np.random.SeedSequence((5, 1))).random_raw(50)
    draws = Draws(5, 1)
    assert [draws.below(10) for _ in range(50)] == [int(int(r) / 2**64 * 10) for r in raw]


def test_draws_reach_both_ends_and_every_weight():
    draws = Draws(0)
    assert {draws.between(-2, 2) for _ in range(200)} == {-2, -1, 0, 1, 2}
    assert {draws.weighted((("a", 1), ("b", 3), ("c", 0))) for _ in range(200)} == {"a", "b"}
    assert sorted(draws.shuffled(range(9))) == list(range(9))
