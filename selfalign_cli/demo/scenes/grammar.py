"""Captions: a claim about two or three objects of a scene, put into words.

A claim names objects by colour and shape, often by size, and may say how they are related and what the background
is. It is true of a scene when different objects can be found for all its mentions. Captions of a scene with
look-alikes are false of these: they say which attribute belongs to which object, or where the objects are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.world import Group, Scene, Thing, squared_distance

Relation = Literal["left", "right", "above", "below", "near", "bigger", "smaller"]
Form = Literal["pair", "triple", "backdrop", "relation", "chain", "comparison"]

CLEAR_STEP = 6  # pixels by which an object must be further left (above, ...) to be called so
NEAR_GAP = 6  # pixels between the circles around two objects that are near each other
FREE_CAPTIONS = 2  # captions of a picture with a turned look-alike that need not mention positions

FORM_WEIGHTS: tuple[tuple[Form, int], ...] = (
    ("pair", 20),
    ("triple", 30),
    ("backdrop", 20),
    ("relation", 15),
    ("chain", 10),
    ("comparison", 5),
)
PLACED_FORMS: tuple[tuple[Form, int], ...] = (("relation", 60), ("chain", 40))
DIRECTIONS: tuple[Relation, ...] = ("left", "right", "above", "below")
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
SHAPE_WORDS = {"disc": ("disc", "circle")}
RELATION_WORDS: dict[Relation, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "near": ("near", "next to"),
    "bigger": ("bigger than", "larger than"),
    "smaller": ("smaller than",),
}


@dataclass(frozen=True)
class Mention:
    """An object as a caption names it; `size` is None when it is not mentioned."""

    size: str | None
    colour: str
    shape: str

    def fits(self, thing: Thing) -> bool:
        """Whether the object is of this kind."""
        kind = thing.kind
        return self.colour == kind.colour and self.shape == kind.shape and self.size in (None, kind.size)


@dataclass(frozen=True)
class Claim:
    """The content of a caption.

    Attributes:
        mentions: two or three different objects.
        relations: (relation, a, b) for "mention a is <relation> mention b".
        background: word for the background, or None.
    """

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[Relation, int, int], ...] = ()
    background: str | None = None

    def holds(self, scene: Scene) -> bool:
        """Whether the claim is true of a scene."""
        if self.background not in (None, scene.background):
            return False
        if not all(any(mention.fits(thing) for thing in scene.things) for mention in self.mentions):
            return False  # the common case, without trying all orders
        return any(
            all(mention.fits(thing) for mention, thing in zip(self.mentions, things, strict=True))
            and all(related(relation, things[a], things[b]) for relation, a, b in self.relations)
            for things in permutations(scene.things, len(self.mentions))
        )


@dataclass(frozen=True)
class Caption:
    """A claim and its words."""

    text: str
    claim: Claim


def related(relation: Relation, a: Thing, b: Thing) -> bool:
    """Whether a stands in a relation to b; directions ask for a clear step along the longer axis."""
    dx, dy = b.x - a.x, b.y - a.y
    if relation == "near":
        return squared_distance(a.x, a.y, b) <= (a.radius + b.radius + NEAR_GAP) ** 2
    if relation in ("bigger", "smaller"):
        return (a.kind.size, b.kind.size) == (("large", "small") if relation == "bigger" else ("small", "large"))
    step, across = (dx, dy) if relation in ("left", "right") else (dy, dx)
    if relation in ("right", "below"):
        step = -step
    return step >= CLEAR_STEP and step >= abs(across)


def describe(scene: Scene, look_alikes: Sequence[Scene], count: int, draws: Draws) -> list[Caption]:
    """Write different captions that are true of a scene.

    Args:
        scene: what is described.
        look_alikes: the other scenes of its group. No caption is true of one of them; only where the scenes differ
            by a turn, two captions may be.
        count: number of captions.
        draws: stream of this picture.
    """
    captions: list[Caption] = []
    while len(captions) < count:
        free = scene.difference == "turn" and len(captions) >= count - FREE_CAPTIONS
        caption = draft(scene, None if free else scene.difference, draws)
        if caption is None or any(caption.text == other.text for other in captions):
            continue
        if free or not any(caption.claim.holds(other) for other in look_alikes):
            captions.append(caption)
    return draws.shuffled(captions)


def draft(scene: Scene, difference: Group | None, draws: Draws) -> Caption | None:
    """One caption of a drawn form, true of the scene; None when the drawn objects do not allow the form."""
    form = draws.weighted(PLACED_FORMS if difference == "turn" else FORM_WEIGHTS)
    things = draws.shuffled(scene.things)[: 3 if form in ("triple", "chain") else 2]
    pairs = {"relation": [(0, 1)], "chain": [(0, 1), (0, 2)], "comparison": [(0, 1)]}.get(form, [])
    relations: list[tuple[Relation, int, int]] = []
    for a, b in pairs:
        known = true_relations(form, things[a], things[b], nearness=difference != "turn" and draws.chance(25))
        if not known:
            return None
        relations.append((draws.one_of(known), a, b))
    mentions = tuple(mention(thing, form, draws) for thing in things)
    claim = Claim(mentions, tuple(relations), scene.background if form == "backdrop" else None)
    return Caption(phrase(claim, form, draws), claim)


def true_relations(form: Form, a: Thing, b: Thing, *, nearness: bool) -> list[Relation]:
    """The relations of one sort (sizes, nearness or directions) in which a stands to b."""
    asked: tuple[Relation, ...] = DIRECTIONS
    if form == "comparison":
        asked = ("bigger", "smaller")
    elif nearness and related("near", a, b):
        asked = ("near",)
    return [relation for relation in asked if related(relation, a, b)]


def mention(thing: Thing, form: Form, draws: Draws) -> Mention:
    """Name an object, in six of ten cases with its size; never where sizes are compared."""
    size = thing.kind.size if form != "comparison" and draws.chance(60) else None
    return Mention(size, thing.kind.colour, thing.kind.shape)


def phrase(claim: Claim, form: Form, draws: Draws) -> str:
    """Put a claim into words."""
    names = [noun_phrase(m, draws) for m in claim.mentions]
    ties = [draws.one_of(RELATION_WORDS[relation]) for relation, _, _ in claim.relations]
    if form == "triple":
        text = f"{names[0]}, {names[1]} and {names[2]}"
    elif form == "chain":
        text = f"{names[0]} {ties[0]} {names[1]} and {ties[1]} {names[2]}"
    elif ties:
        text = f"{names[0]} {ties[0]} {names[1]}"
    else:
        text = f"{names[0]} {draws.one_of(('and', 'with'))} {names[1]}"
    if claim.background is not None:
        ground = with_article(claim.background)
        return draws.one_of((f"{text} on {ground} background", f"{ground} picture of {text}"))
    return f"there is {text}" if form != "chain" and draws.chance(20) else text


def noun_phrase(named: Mention, draws: Draws) -> str:
    """Words for an object: "a small red star", or now and then "a small star that is red"."""
    shape = draws.one_of(SHAPE_WORDS.get(named.shape, (named.shape,)))
    size = [draws.one_of(SIZE_WORDS[named.size])] if named.size else []
    if draws.chance(15):
        return f"{with_article(' '.join([*size, shape]))} that is {named.colour}"
    return with_article(" ".join([*size, named.colour, shape]))


def with_article(words: str) -> str:
    """Put "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
