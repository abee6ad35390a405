"""The content of scenes: coloured shapes of two sizes on a background; and look-alikes with other bindings of words.

Half of the pictures of every split are in groups of two or three. The scenes of a group have the same colours, the
same shapes, the same sizes and the same background, so a bag of words cannot distinguish them: either one attribute is
assigned differently (a red star and a blue ring, a blue star and a red ring), or the positions of the same objects are
turned by 180 degrees. No bag of attributes is used by two groups, so no scene, nor a look-alike, is in two splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from selfalign_cli.demo.scenes.draws import Draws

CANVAS = 64
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("disc", "square", "triangle", "ring", "cross", "star")
SIZES = ("small", "large")
BACKGROUNDS = ("dark", "pale", "striped")
RADII = {"small": (5, 6), "large": (9, 10)}  # pixels, both ends included

Attribute = Literal["colour", "shape", "size"]
Group = Literal["colour", "shape", "size", "turn"]
# How the scenes of a group differ. Turned scenes are few: a model without boxes can hardly distinguish them.
GROUP_WEIGHTS: tuple[tuple[Group, int], ...] = (("colour", 45), ("shape", 30), ("size", 15), ("turn", 10))


@dataclass(frozen=True)
class Kind:
    """The attributes of an object, without its position."""

    size: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Thing:
    """An object in a picture: its kind, its centre pixel and its radius in pixels."""

    kind: Kind
    x: int
    y: int
    radius: int


@dataclass(frozen=True)
class Scene:
    """The objects of one picture, drawn in this order (later ones in front), and their background.

    Attributes:
        things: three to five objects.
        background: one of BACKGROUNDS.
        group: number of its group within the data set; -1 for a scene without look-alikes.
        difference: how the scenes of its group differ; None without look-alikes.
    """

    things: tuple[Thing, ...]
    background: str
    group: int = -1
    difference: Group | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the objects, in drawing order."""
        return tuple(thing.kind for thing in self.things)

    @property
    def bag(self) -> tuple[tuple[str, ...], ...]:
        """Colours, shapes and sizes, each sorted separately: the information in a bag of words."""
        return attribute_bag(self.kinds)


def attribute_bag(kinds: Sequence[Kind]) -> tuple[tuple[str, ...], ...]:
    """Colours, shapes and sizes of some objects, each sorted separately."""
    return tuple(tuple(sorted(getattr(kind, name) for kind in kinds)) for name in ("colour", "shape", "size"))


@dataclass
class WorldSampler:
    """Draws scenes, and keeps track of the bags in use.

    Args:
        draws: the stream of the data set.
    """

    draws: Draws
    _taken: set[tuple[tuple[str, ...], ...]] = field(default_factory=set)
    _groups: int = 0

    def split(self, count: int) -> list[Scene]:
        """Draw the scenes of one split, half of them in groups of look-alikes, in random order."""
        scenes: list[Scene] = []
        while len(scenes) + 1 < count // 2:
            scenes += self._look_alikes(3 if self.draws.chance(30) else 2)
        while len(scenes) < count:
            scenes += self._placed([self._fresh_kinds()])
        return self.draws.shuffled(scenes)

    def _fresh_kinds(self) -> tuple[Kind, ...]:
        """Three to five kinds whose bag is not in use."""
        draws = self.draws
        while True:
            kinds = tuple(
                Kind(draws.one_of(SIZES), draws.one_of(COLOURS), draws.one_of(SHAPES))
                for _ in range(draws.between(3, 5))
            )
            bag = attribute_bag(kinds)
            if bag not in self._taken:
                self._taken.add(bag)
                return kinds

    def _look_alikes(self, count: int) -> list[Scene]:
        """A group of `count` scenes (two when they differ by a turn) with the same bag and background."""
        difference = self.draws.weighted(GROUP_WEIGHTS)
        while True:
            kinds = self._fresh_kinds()
            if difference != "turn":
                rebound = self._rebound(kinds, difference, count)
            else:  # "a red star left of a blue ring" must not be true of both
                rebound = [kinds] if len({(k.colour, k.shape) for k in kinds}) == len(kinds) else []
            if rebound:
                break
            self._taken.discard(attribute_bag(kinds))
        scenes = self._placed(rebound)
        if difference == "turn":
            scenes.append(turned(scenes[0]))
        self._groups += 1
        return [replace(scene, group=self._groups - 1, difference=difference) for scene in scenes]

    def _rebound(self, kinds: tuple[Kind, ...], attribute: Attribute, count: int) -> list[tuple[Kind, ...]]:
        """Permute one attribute until there are `count` sets of kinds, each with a kind that the others lack."""
        found = [kinds]
        for _ in range(24):
            values = self.draws.shuffled([getattr(kind, attribute) for kind in kinds])
            candidate = tuple(replace(k, **{attribute: value}) for k, value in zip(kinds, values, strict=True))
            if all(set(candidate) - set(other) and set(other) - set(candidate) for other in found):
                found.append(candidate)
                if len(found) == count:
                    return found
        return []

    def _placed(self, kind_sets: Sequence[tuple[Kind, ...]]) -> list[Scene]:
        """Place every set of kinds, all on the same kind of background."""
        background = self.draws.one_of(BACKGROUNDS)
        return [Scene(self._scattered(kinds), background) for kinds in kind_sets]

    def _scattered(self, kinds: tuple[Kind, ...]) -> tuple[Thing, ...]:
        """Scatter the objects so that each stays mostly visible."""
        while True:
            things: list[Thing] = []
            for kind in self.draws.shuffled(kinds):
                thing = self._free_position(kind, things)
                if thing is None:
                    break
                things.append(thing)
            else:
                return tuple(things)

    def _free_position(self, kind: Kind, others: Sequence[Thing]) -> Thing | None:
        """A random position whose distance to each other object is at least 9/10 of the two radii."""
        radius = self.draws.between(*RADII[kind.size])
        for _ in range(12):
            x, y = (self.draws.between(radius + 1, CANVAS - radius - 2) for _ in range(2))
            if all(100 * squared_distance(x, y, o) >= 81 * (radius + o.radius) ** 2 for o in others):
                return Thing(kind, x, y, radius)
        return None


def squared_distance(x: int, y: int, thing: Thing) -> int:
    """Squared pixels between a point and the centre of an object."""
    return (x - thing.x) ** 2 + (y - thing.y) ** 2


def turned(scene: Scene) -> Scene:
    """The same objects, upright as before, with left and right, above and below exchanged."""
    return replace(scene, things=tuple(replace(t, x=CANVAS - 1 - t.x, y=CANVAS - 1 - t.y) for t in scene.things))


def sample_world(seed: int, sizes: dict[str, int]) -> dict[str, list[Scene]]:
    """Draw all scenes of a data set.

    Args:
        seed: any non-negative integer.
        sizes: pictures per split, in the order in which they are numbered.

    Returns:
        The scenes of each split. Scenes of one group are in one split; bags differ between groups.
    """
    sampler = WorldSampler(Draws(seed, 0))
    return {split: sampler.split(count) for split, count in sizes.items()}


def neighbours(scenes: Sequence[Scene]) -> Iterator[tuple[Scene, list[Scene]]]:
    """Each scene of a split with the other scenes of its group."""
    groups: dict[int, list[int]] = {}
    for row, scene in enumerate(scenes):
        groups.setdefault(scene.group, []).append(row)
    for row, scene in enumerate(scenes):
        rows = groups[scene.group] if scene.group >= 0 else []
        yield scene, [scenes[other] for other in rows if other != row]
