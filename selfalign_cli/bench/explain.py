"""What an explanation costs beside its encodings; and the pointing game: does it find the objects that words name?

Scenes are drawn anew, so the true place of every object that a caption names is known. A phrase ("red star") is left
out of the caption and every region out of the picture; a hit is a phrase whose region of largest interaction has its
centre inside the object. Only phrases that fit one object count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting, alternate, seconds_of
from selfalign_cli.bench.report import Line
from selfalign_cli.bench.startup import untrained
from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.grammar import SHAPE_WORDS, Caption, Mention, describe
from selfalign_cli.demo.scenes.make import BOXES, PIXELS, WORDS
from selfalign_cli.demo.scenes.regions import FEATURE_WIDTH, detect, propose_boxes
from selfalign_cli.demo.scenes.render import render
from selfalign_cli.demo.scenes.world import CANVAS, COLOURS, SHAPES, Scene, Thing, neighbours, sample_world
from selfalign_cli.encodings import ImageBatch
from selfalign_cli.errors import CheckpointError
from selfalign_cli.explain.explanation import Box, LeaveOuts, explain, phrase_interaction
from selfalign_cli.explain.leave_out import encode_leave_outs, encode_token_rows, without_each_region, without_words

PICTURES = {"tiny": 4, "small": 60, "published": 300}
CAPTIONS = 5
SEED = 20230825
"""Of the scenes: none that a recipe trains on."""
SHAPE_NAMES = {word: shape for shape in SHAPES for word in SHAPE_WORDS.get(shape, (shape,))}


@dataclass(frozen=True)
class Drawn:
    """A scene with its regions and captions."""

    scene: Scene
    batch: ImageBatch
    boxes: tuple[Box, ...]
    captions: list[Caption]


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None], checkpoint: Path | None = None
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `PICTURES`, with an untrained model unless a checkpoint is given.

    Raises:
        CheckpointError: the checkpoint reads other features than those of scenes.
    """
    with TemporaryDirectory(prefix="selfalign-bench-") as folder:
        path = untrained(Path(folder), 24) if checkpoint is None else checkpoint
        retriever = Retriever.load(path, device=setting.device)
    if retriever.feature_dim != FEATURE_WIDTH:
        raise CheckpointError(
            f"{path} reads features of width {retriever.feature_dim}; the scenes have {FEATURE_WIDTH}",
            "train one on scenes: selfalign demo",
        )
    drawn = list(draw(PICTURES[name]))
    notify("explanations")
    lines = [_cost(retriever, drawn[0], setting)]
    notify("the pointing game")
    result = Pointing()

    def play() -> None:
        for one in drawn:
            result.play(retriever, one)

    seconds = seconds_of(play, setting)
    note = "an untrained model; name a trained one with --checkpoint" if checkpoint is None else str(checkpoint)
    numbers = {"hits": result.hits / result.phrases, "chance": result.chance / result.phrases}
    lines.append(Line("pointing game", seconds, numbers={**numbers, "phrases": result.phrases}, note=note))
    return {"pictures": len(drawn), "captions": len(drawn) * CAPTIONS}, lines


@dataclass
class Pointing:
    """Phrases so far, how many were found, and how many a random region would have found."""

    phrases: int = 0
    hits: int = 0
    chance: float = 0.0

    def play(self, retriever: Retriever, drawn: Drawn) -> None:
        """Look for every phrase of a picture's captions."""
        picture = LeaveOuts("", drawn.boxes, encode_leave_outs(retriever, drawn.batch))
        for caption in drawn.captions:
            words = [word for word, _ in retriever.captions.word_spans(caption.text)]
            targets = [
                (places, things[0])
                for places, mention in phrases_of(words)
                if len(things := [thing for thing in drawn.scene.things if mention.fits(thing)]) == 1
            ]
            found = phrase_interaction(retriever, picture, caption.text, [places for places, _ in targets])
            for (_, thing), row in zip(targets, found, strict=True):
                inside = [centre_inside(box, thing) for box in drawn.boxes]
                self.phrases += 1
                self.hits += inside[int(np.argmax(row))]
                self.chance += sum(inside) / len(inside)


def draw(pictures: int) -> Iterator[Drawn]:
    """Scenes with their regions and captions."""
    scenes = sample_world(SEED, {"test": pictures})["test"]
    for number, (scene, look_alikes) in enumerate(neighbours(scenes)):
        picture = render(scene, Draws(SEED, PIXELS, number))
        proposed = np.array([propose_boxes(scene, Draws(SEED, BOXES, number))], dtype=np.int64)
        boxes, features = detect(picture.pixels[None], proposed)
        batch = ImageBatch(
            torch.from_numpy(features),
            torch.ones(features.shape[:2], dtype=torch.bool),
            torch.tensor([number]),
            torch.from_numpy(boxes.astype(np.float32)),
            torch.full((1, 2), float(CANVAS)),
        )
        captions = describe(scene, look_alikes, CAPTIONS, Draws(SEED, WORDS, number))
        yield Drawn(
            scene, batch, tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes[0].astype(float).tolist()), captions
        )


def phrases_of(words: list[str]) -> Iterator[tuple[list[int], Mention]]:
    """Places of "red star" and of "star that is red", and what they name."""
    for place, word in enumerate(words):
        shape = SHAPE_NAMES.get(word)
        if shape is None:
            continue
        other = place - 1 if words[place - 1] in COLOURS else place + 3
        yield [place, other], Mention(None, words[other], shape)


def centre_inside(box: Box, thing: Thing) -> bool:
    """Whether the centre of a box lies within the box around an object."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return abs(x - thing.x - 0.5) <= thing.radius + 0.5 and abs(y - thing.y - 0.5) <= thing.radius + 0.5


def _cost(retriever: Retriever, drawn: Drawn, setting: Setting) -> Line:
    """An explanation, against encoding what it needs as one batch each."""
    text = drawn.captions[0].text
    spans = retriever.captions.word_spans(text)
    rows = without_words(retriever.captions.encode(text), [set(span) for _, span in spans])
    pictures = without_each_region(drawn.batch)

    def whole() -> None:
        explain(retriever, LeaveOuts("", drawn.boxes, encode_leave_outs(retriever, drawn.batch)), text)

    def encodings() -> None:
        retriever.encode_pictures([pictures])
        encode_token_rows(retriever, rows)

    seconds = alternate({"whole": whole, "encodings": encodings}, setting)
    counts = {"regions": float(len(drawn.boxes)), "words": float(len(spans))}
    return Line("explain", seconds["whole"], seconds["encodings"], numbers=counts, note="floor: its encodings")
