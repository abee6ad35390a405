"""What the training bench needs of each model: sizes, constructor, plain loss and lower bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from selfalign_cli.bench import floors, floors_camera
from selfalign_cli.bench.inputs import (
    CAMERA_SIZES,
    SIZES,
    CameraSize,
    ModelSize,
    Trained,
    build,
    build_camera,
    text_batch,
)
from selfalign_cli.bench.machine import Work
from selfalign_cli.bench.plain import camera as plain_camera
from selfalign_cli.bench.plain import step as plain_step
from selfalign_cli.encodings import TextBatch

S = TypeVar("S", ModelSize, CameraSize)


@dataclass(frozen=True)
class Host(Generic[S]):
    """A model with SelfAlign.

    Attributes:
        sizes: its dimensions, by the name of the size.
        build: model, loss and optimizer.
        plain_loss: the same loss, written out.
        plain_texts: captions padded as in the published program.
        works: the least work of each part of a step, given the number of parameters.
        note: how the plain step differs from ours in what it computes.
    """

    sizes: Mapping[str, S]
    build: Callable[[S, torch.device], Trained]
    plain_loss: plain_step.Loss
    plain_texts: Callable[[S], TextBatch]
    works: Callable[[S, int], dict[str, Work]]
    note: str


def _padded_texts(size: CameraSize) -> TextBatch:
    return text_batch(size, size.max_words)


AnyHost = Host[Any]
VSRN = Host(
    SIZES, build, plain_step.total_loss, text_batch, floors.works, "plain: every parameter stepped once, as ours"
)
CAMERA = Host(
    CAMERA_SIZES,
    build_camera,
    plain_camera.total_loss,
    _padded_texts,
    floors_camera.works,
    "plain: captions padded to max_words, BERT with dropout",
)
