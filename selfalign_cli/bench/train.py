"""A training step of VSRN with SelfAlign part by part: time, memory, floors, and the step written out plainly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.bench import floors, loader
from selfalign_cli.bench.inputs import SIZES, ModelSize, Trained, build, feature_file, text_batch, vocabulary
from selfalign_cli.bench.machine import Rates, Work
from selfalign_cli.bench.measure import (
    BUDGET_SECONDS,
    LONG_SECONDS,
    MOST_ROUNDS,
    Memory,
    Setting,
    give_freed_memory_back,
    in_child,
)
from selfalign_cli.bench.plain import step as plain
from selfalign_cli.bench.report import MIB, Line
from selfalign_cli.data.features import FeatureFile
from selfalign_cli.data.pairs import PairDataset, collate_images
from selfalign_cli.encodings import ImageBatch, PairBatch
from selfalign_cli.engine.step import clip_gradients
from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.losses.ranking import hinge_loss
from selfalign_cli.models.captioner import caption_targets
from selfalign_cli.similarity import similarity

CLIP = 2.0
Step = Callable[[plain.Mark], object]


def run(
    name: str, setting: Setting, rates: Rates, tell: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure at a size of `inputs.SIZES`.

    Returns:
        The dimensions, and a line for each part of the step, for the step, and for the data loader.
    """
    size = SIZES[name]
    with files(size) as folder:
        tell("training steps: ours and plain in turn")
        seconds = _timed({way: make_step(way, size, setting, folder) for way in ("ours", "plain")}, setting)
        tell("memory of a step")
        memory = in_child(step_memories, name, setting, folder)
    least = {part: rates.floor(work) for part, work in _works(size).items()}
    lines = [
        Line(
            part,
            seconds["ours"][part],
            least[part],
            seconds["plain"][part],
            memory["ours"][part][0],
            memory["plain"][part][0],
            numbers={"kept_mib": memory["ours"][part][1] / MIB},
        )
        for part in seconds["ours"]
    ]
    return asdict(size), [*lines, _whole(lines, memory, size), *loader.run(size, setting, tell)]


def make_step(way: str, size: ModelSize, setting: Setting, folder: Path) -> Step:
    """Build model and optimizer, and return a step that names each part when it is done."""
    trained = build(size, setting.device)
    for parameter in trained.groups.all():  # a step on zeros moves nothing, but makes Adam's moments
        parameter.grad = torch.zeros_like(parameter)
    trained.optimizer.step()
    trained.optimizer.zero_grad()
    texts = text_batch(size)
    if way == "plain":
        mapped = np.load(folder / "train.npy", mmap_mode="r")

        def plain_step(mark: plain.Mark) -> object:
            batch = PairBatch(plain_images(mapped), texts, torch.arange(size.batch)).to(setting.device)
            mark("data")
            parts = (trained.model, trained.objective, trained.optimizer)
            return plain.train_step(*parts, batch, grad_clip_norm=CLIP, mark=mark)

        return plain_step
    dataset = PairDataset(FeatureFile(folder / "train.h5"), "train", vocabulary(size.words).encode)

    def our_step(mark: plain.Mark) -> object:
        images = collate_images(dataset.file, dataset.images)
        batch = PairBatch(images, texts, torch.arange(size.batch)).to(setting.device)
        mark("data")
        return train_step(trained, batch, mark)

    return our_step


def train_step(trained: Trained, batch: PairBatch, mark: plain.Mark) -> dict[str, Tensor]:
    """The step of `engine.step` and the terms of `losses.objective`, with a mark after each part."""
    model, objective = trained.model, trained.objective
    assert objective.concept is not None
    assert objective.captioner is not None
    images = model.encode_image(batch.images)
    mark("picture encoder")
    texts = model.encode_text(batch.texts)
    mark("text encoder")
    same = torch.eq(batch.images.index.unsqueeze(0), batch.images.index.unsqueeze(1))
    scores = similarity(images.vectors, texts.vectors)
    terms = {"ranking": hinge_loss(scores, margin=objective.ranking.margin, mode="hardest", same=same)}
    mark("ranking loss")
    terms["concept"] = objective.concept(images.host.concepts, images.host.mask, texts.host.concepts, texts.host.mask)
    mark("concept loss")
    assert images.context is not None
    assert texts.context is not None
    for name, guide, keys, temperature in (
        ("context_image", texts.context.guide, images.context, objective.context.image_temperature),
        ("context_text", images.context.guide, texts.context, objective.context.text_temperature),
    ):
        terms[name] = context_alignment_loss(
            guide,
            keys.locals,
            temperature=temperature,
            negatives=objective.context.negatives,
            mask=keys.mask,
            same=same,
        )
    mark("context losses")
    assert images.host.regions is not None
    labels = caption_targets(batch.texts.ids, batch.texts.lengths, objective.captioner.max_len)
    predictions = objective.captioner(images.host.regions, images.host.mask, *labels)
    terms["captioning"] = captioning_loss(*predictions, captions=len(batch.captions))
    mark("caption generator")
    aligned = terms["concept"] + (terms["context_image"] + terms["context_text"]) / 2
    terms["total"] = terms["ranking"] + terms["captioning"] + aligned
    trained.optimizer.zero_grad(set_to_none=True)
    terms["total"].backward()  # type: ignore[no-untyped-call]
    mark("backward")
    clip_gradients(trained.groups, CLIP, captioner_twice=False)
    trained.optimizer.step()
    mark("optimizer")
    return terms


@contextmanager
def files(size: ModelSize) -> Iterator[Path]:
    """A folder with one batch of pictures as a feature file and as a float32 .npy."""
    with TemporaryDirectory(prefix="selfalign-bench-") as name:
        folder = Path(name)
        feature_file(folder / "train.h5", size.batch, size)
        images = collate_images(FeatureFile(folder / "train.h5"), np.arange(size.batch))
        np.save(folder / "train.npy", images.features.float().numpy())
        yield folder


def plain_images(mapped: npt.NDArray[np.float32]) -> ImageBatch:
    """Pictures copied one by one and stacked."""
    features = torch.stack([torch.from_numpy(np.array(picture)) for picture in mapped])
    return ImageBatch(features, torch.ones(features.shape[:2], dtype=torch.bool), torch.arange(len(features)))


def step_memories(name: str, setting: Setting, folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Our step and the plain one, in a process of their own."""
    setting.enter()
    give_freed_memory_back()
    return {way: _step_memory(way, name, setting, folder) for way in ("ours", "plain")}


def _step_memory(way: str, name: str, setting: Setting, folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes of each part of a step: the most it needed beyond what was there, and what it left behind.

    The entry `step` is the whole. A warm-up at toy size comes first.
    """
    with files(SIZES["tiny"]) as toy:
        make_step(way, SIZES["tiny"], setting, toy)(plain.no_mark)
    step = make_step(way, SIZES[name], setting, folder)
    memory, found = Memory(setting.device), {}
    start = before = memory.reset()
    highest = 0

    def mark(part: str) -> None:
        nonlocal before, highest
        setting.wait()
        peak = memory.peak()
        highest = max(highest, peak - start)
        after = memory.reset()
        found[part] = (max(0, peak - before), after - before)
        before = after

    step(mark)
    return {**found, "step": (highest, before - start)}


def _timed(ways: dict[str, Step], setting: Setting) -> dict[str, dict[str, float]]:
    """Median seconds of every part; ways in turn, short first runs not counted."""
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    spent = 0.0
    for number in range(MOST_ROUNDS + 1):
        for way, step in ways.items():
            parts = _marked(step, setting)
            if number > 0 or sum(parts.values()) >= LONG_SECONDS:
                samples[way].append(parts)
            spent += sum(parts.values())
        if spent > BUDGET_SECONDS and all(samples.values()):
            break
    return {
        way: {part: statistics.median(each[part] for each in taken) for part in taken[0]}
        for way, taken in samples.items()
    }


def _marked(step: Step, setting: Setting) -> dict[str, float]:
    """Seconds of every part of one step."""
    parts: dict[str, float] = {}
    setting.wait()
    last = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal last
        setting.wait()
        now = time.perf_counter()
        parts[name], last = now - last, now

    step(mark)
    return parts


def _works(size: ModelSize) -> dict[str, Work]:
    """What each part cannot do without."""
    places, words = size.batch * size.regions, int(text_batch(size).mask.sum())
    parameters = sum(parameter.numel() for parameter in build(size, torch.device("meta")).groups.all())
    return {
        "data": floors.data_work(size),
        "picture encoder": floors.image_training_work(size),
        "text encoder": floors.text_work(size),
        "ranking loss": floors.ranking_work(size),
        "concept loss": floors.concept_work(size),
        "context losses": floors.context_work(size, places) + floors.context_work(size, words),
        "caption generator": floors.captioning_work(size),
        "backward": floors.backward_work(size),
        "optimizer": floors.optimizer_work(parameters),
    }


def _whole(lines: list[Line], memory: dict[str, dict[str, tuple[int, int]]], size: ModelSize) -> Line:
    """The sum of all parts."""
    ours, least, theirs = (sum(getattr(line, name) for line in lines) for name in ("seconds", "floor", "plain"))
    note = f"batch {size.batch}; plain: every parameter stepped once, as ours"
    return Line("step", ours, least, theirs, memory["ours"]["step"][0], memory["plain"]["step"][0], note=note)
