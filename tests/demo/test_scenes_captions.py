"""Captions of the embedded scenes, parsed independently and checked against the scenes."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations

import pytest

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.grammar import Caption, Claim, Mention, describe, related
from selfalign_cli.demo.scenes.world import Kind, Scene, Thing, neighbours, sample_world, turned

NAME = r"an? (?:(small|little|large|big) )?(?:(\w+) )?(disc|circle|square|triangle|ring|cross|star)(?: that is (\w+))?"
TIES = r"(?:to the )?(left|right) of|(above|over)|(below|under)|(near|next to)|(bigger|larger) than|(smaller) than"


def parse(text: str) -> tuple[list[tuple[str | None, str, str]], list[str], str | None]:
    """Objects, relations of the first object to the others, and background in a caption."""
    ground = re.search(r"on an? (\w+) background|an? (\w+) picture of ", text)
    body = text.replace(ground.group(0), "") if ground else text
    size_of = {"small": "small", "little": "small", "large": "large", "big": "large", None: None}
    objects = [(size_of[m[1]], m[4] or m[2], "disc" if m[3] == "circle" else m[3]) for m in re.finditer(NAME, body)]
    names = ("", "above", "below", "near", "bigger", "smaller")
    ties = [m[1] or names[m.lastindex - 1] for m in re.finditer(TIES, body)]
    return objects, ties, (ground[1] or ground[2]) if ground else None


def holds(tie: str, a: Thing, b: Thing) -> bool:
    """The meaning of a relation, spelled out."""
    dx, dy = b.x - a.x, b.y - a.y
    return {
        "left": dx >= 6 and dx >= abs(dy),
        "right": -dx >= 6 and -dx >= abs(dy),
        "above": dy >= 6 and dy >= abs(dx),
        "below": -dy >= 6 and -dy >= abs(dx),
        "near": dx * dx + dy * dy <= (a.radius + b.radius + 6) ** 2,
        "bigger": a.kind.size == "large" and b.kind.size == "small",
        "smaller": a.kind.size == "small" and b.kind.size == "large",
    }[tie]


def is_true(text: str, scene: Scene) -> bool:
    """Whether a caption is true, by trying all assignments of its objects."""
    objects, ties, ground = parse(text)
    return ground in (None, scene.background) and any(
        all(
            size in (None, t.kind.size) and (colour, shape) == (t.kind.colour, t.kind.shape)
            for (size, colour, shape), t in zip(objects, things, strict=True)
        )
        and all(holds(tie, things[0], things[i]) for i, tie in enumerate(ties, start=1))
        for things in permutations(scene.things, len(objects))
    )


@pytest.fixture(scope="module")
def described() -> list[tuple[Scene, list[Scene], list[Caption]]]:
    """300 scenes, their look-alikes and their captions."""
    scenes = sample_world(7, {"test": 300})["test"]
    return [(s, others, describe(s, others, 5, Draws(7, row))) for row, (s, others) in enumerate(neighbours(scenes))]


def test_every_caption_is_true_of_its_picture(described):
    assert [c.text for s, _, captions in described for c in captions if not is_true(c.text, s)] == []


def test_words_and_claim_of_a_caption_agree_on_other_pictures_too(described):
    scenes = [s for s, _, _ in described]
    for row, (_, _, captions) in enumerate(described):
        near = scenes[max(0, row - 5) : row + 5]
        assert [[is_true(c.text, s) for s in near] for c in captions] == [
            [c.claim.holds(s) for s in near] for c in captions
        ]


def test_captions_of_rebound_look_alikes_are_false_of_each_other(described):
    """A group that differs by colour, shape or size: no caption is true of another picture of the group."""
    groups = [(others, cs) for s, others, cs in described if others and s.difference != "turn"]
    assert len(groups) > 60
    assert not any(is_true(c.text, other) for others, captions in groups for c in captions for other in others)


def test_three_captions_of_a_turned_look_alike_are_false_of_the_other(described):
    groups = [(others, cs) for s, others, cs in described if s.difference == "turn"]
    assert len(groups) > 5
    assert min(sum(not is_true(c.text, others[0]) for c in captions) for others, captions in groups) >= 3


def test_captions_of_a_picture_differ(described):
    assert all(len({c.text for c in captions}) == 5 for _, _, captions in described)


def test_captions_mention_two_or_three_objects_in_all_forms(described):
    parsed = [parse(c.text) for _, _, captions in described for c in captions]
    seen = {(len(objects), len(ties), ground is not None) for objects, ties, ground in parsed}
    assert seen == {(2, 0, False), (3, 0, False), (2, 0, True), (2, 1, False), (3, 2, False)}
    assert {tie for _, ties, _ in parsed for tie in ties} == {
        "left", "right", "above", "below", "near", "bigger", "smaller",
    }  # fmt: skip


def test_binding_matters_in_a_claim():
    """A red star and a blue ring are not a blue star and a red ring."""
    red_star = Thing(Kind("small", "red", "star"), 10, 10, 5)
    blue_ring = Thing(Kind("large", "blue", "ring"), 40, 12, 9)
    scene = Scene((red_star, blue_ring), "dark")
    assert Claim((Mention(None, "red", "star"), Mention("large", "blue", "ring"))).holds(scene)
    assert not Claim((Mention(None, "blue", "star"), Mention(None, "red", "ring"))).holds(scene)


def test_one_object_cannot_be_two_mentions():
    star = Thing(Kind("small", "red", "star"), 10, 10, 5)
    twice = Claim((Mention(None, "red", "star"), Mention("small", "red", "star")))
    assert not twice.holds(Scene((star,), "dark"))
    assert twice.holds(Scene((star, replace(star, x=30)), "dark"))


@pytest.mark.parametrize(
    ("relation", "x", "y", "expected"),
    [
        ("left", 16, 10, True),  # 6 pixels
        ("left", 15, 10, False),  # 5 pixels: no clear step
        ("left", 20, 21, False),  # further down than right
        ("left", 20, 20, True),
        ("above", 20, 21, True),
        ("right", 4, 10, True),
        ("below", 10, 4, True),
        ("near", 27, 10, True),  # 17 = 5 + 6 + 6
        ("near", 28, 10, False),
    ],
)
def test_relations_by_hand(relation, x, y, expected):
    """The first object has its centre at (10, 10) and radius 5, the second radius 6."""
    first, second = Thing(Kind("small", "red", "star"), 10, 10, 5), Thing(Kind("small", "red", "star"), x, y, 6)
    assert related(relation, first, second) is expected


def test_a_turn_exchanges_every_direction():
    scene = Scene(
        (Thing(Kind("small", "red", "star"), 10, 20, 5), Thing(Kind("small", "blue", "ring"), 40, 20, 5)), "pale"
    )
    a, b = turned(scene).things
    assert related("left", *scene.things)
    assert related("right", a, b)
    assert turned(turned(scene)) == scene
