"""A training step of a model with SelfAlign part by part: time, memory, floors, and the step written out plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from selfalign_cli.bench import loader
from selfalign_cli.bench.hosts import CAMERA, VSRN, AnyHost
from selfalign_cli.bench.inputs import Size, Trained, feature_file, text_batch
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Setting, give_freed_memory_back, in_child
from selfalign_cli.bench.parts import Step, memory_of_parts, seconds_of_parts
from selfalign_cli.bench.plain import step as plain
from selfalign_cli.bench.report import MIB, Line
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.encodings import EncodedBatch, ImageBatch, PairBatch, TextBatch
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.training.step import clip_gradients

CLIP = 2.0
PARTS = {
    "ranking": "ranking loss",
    "concept": "concept loss",
    "context_text": "context losses",
    "diversity": "diversity loss",
    "captioning": "caption generator",
}
"""Names of the terms among the parts of a step."""
FILES = ("features", "boxes", "size")
"""float32 files of pictures for the plain step; those that the model needs."""
Measured = tuple[dict[str, object], list[Line]]


def run(name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]) -> Measured:
    """Measure VSRN at a size of `inputs.SIZES`.

    Returns:
        The dimensions, and a line for each part of the step, for the step, and for the data loader.
    """
    sizes, lines = _measure(VSRN, name, setting, rates, notify)
    return sizes, [*lines, *loader.run(VSRN.sizes[name], setting, notify)]


def run_camera(name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]) -> Measured:
    """Measure CAMERA at a size of `inputs.CAMERA_SIZES`.

    Returns:
        The dimensions, and a line for each part of the step, for the step, and for the step without BERT.
    """
    return _measure(CAMERA, name, setting, rates, notify)


def _measure(host: AnyHost, name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]) -> Measured:
    size = host.sizes[name]
    with files(size) as folder:
        notify("training steps: ours and plain in turn")
        seconds = seconds_of_parts(make_steps(host, size, setting, folder), setting)
        notify("memory of a step")
        memory = in_child(step_memories, host, name, setting, folder)
    parameters = sum(parameter.numel() for parameter in host.build(size, torch.device("meta")).groups.all())
    least = {part: rates.floor(work) for part, work in host.works(size, parameters).items()}
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
    ours, floor, theirs = (sum(getattr(line, value) for line in lines) for value in ("seconds", "floor", "plain"))
    whole = (memory["ours"]["step"][0], memory["plain"]["step"][0])
    lines.append(Line("step", ours, floor, theirs, *whole, note=f"batch {size.batch}; {host.note}"))
    if "cached words" in seconds:
        note = "states of BERT given, as with data.cache_words; plain: our step with BERT"
        cached = sum(seconds["cached words"].values())
        lines.append(Line("step, cached words", cached, floor - least["BERT"], ours, note=note))
    return asdict(size), lines


def make_steps(host: AnyHost, size: Size, setting: Setting, folder: Path) -> dict[str, Step]:
    """Our step, the plain one, and where captions pass a frozen BERT, ours with its states given."""
    trained, texts = ready(host, size, setting), text_batch(size)
    steps = {"ours": our_step(trained, texts, setting, folder), "plain": plain_step(host, size, setting, folder)}
    if trained.model.token_encoder is not None:
        states = trained.model.token_encoder.states(texts.to(setting.device)).cpu()
        cached = replace(texts, states=states.masked_fill(~texts.mask.unsqueeze(2), 0.0))
        steps["cached words"] = our_step(trained, cached, setting, folder)
    return steps


def ready(host: AnyHost, size: Size, setting: Setting) -> Trained:
    """Model, loss and optimizer, with Adam's moments made by a step on zeros, which moves nothing."""
    trained = host.build(size, setting.device)
    for parameter in trained.groups.all():
        parameter.grad = torch.zeros_like(parameter)
    trained.optimizer.step()
    trained.optimizer.zero_grad()
    return trained


def our_step(trained: Trained, texts: TextBatch, setting: Setting, folder: Path) -> Step:
    """A step on the pictures of a folder that names each part when it is done."""
    file = FeatureFile(folder / "train.h5")

    def step(mark: plain.Mark) -> object:
        images = collate_images(file, np.arange(len(texts.ids)))
        batch = PairBatch(images, texts, images.index).to(setting.device)
        mark("data")
        return train_step(trained, batch, mark)

    return step


def plain_step(host: AnyHost, size: Size, setting: Setting, folder: Path) -> Step:
    """The same, written out."""
    trained, texts = ready(host, size, setting), host.plain_texts(size)

    def step(mark: plain.Mark) -> object:
        images = plain_images(folder)
        batch = PairBatch(images, texts, images.index).to(setting.device)
        mark("data")
        parts = (trained.model, trained.objective, trained.optimizer)
        return plain.train_step(*parts, batch, loss=host.plain_loss, grad_clip_norm=CLIP, mark=mark)

    return step


def train_step(trained: Trained, batch: PairBatch, mark: plain.Mark) -> dict[str, Tensor]:
    """The step of `training.step` and the terms of `losses.objective`, with a mark after each part."""
    terms = _terms(trained, batch, mark)
    trained.optimizer.zero_grad(set_to_none=True)
    terms["total"].backward()  # type: ignore[no-untyped-call]
    mark("backward")
    clip_gradients(trained.groups, CLIP)
    trained.optimizer.step()
    mark("optimizer")
    return terms


def _terms(trained: Trained, batch: PairBatch, mark: plain.Mark) -> dict[str, Tensor]:
    """Every term of the loss."""
    images = trained.model.encode_image(batch.images)
    mark("picture encoder")
    texts = trained.model.encode_text(_with_states(trained.model, batch.texts, mark))
    mark("text encoder")
    encoded, terms = EncodedBatch(images, texts, batch), {}
    for name, term in trained.objective.terms.items():
        terms[name] = term.value(encoded.read(term.reads.values()), pairs=len(batch.captions))
        if name != "context_image":  # timed with the term after it
            mark(PARTS[name])
    return trained.objective.with_total(terms)


def _with_states(model: RetrievalModel, texts: TextBatch, mark: plain.Mark) -> TextBatch:
    """Captions with the states of BERT, where the model has one."""
    if model.token_encoder is None:
        return texts
    states = model.token_encoder.states(texts)
    mark("BERT")
    return replace(texts, states=states)


@contextmanager
def files(size: Size) -> Iterator[Path]:
    """A folder with one batch of pictures as a feature file, and as float32 .npy files."""
    with TemporaryDirectory(prefix="selfalign-bench-") as name:
        folder = Path(name)
        feature_file(folder / "train.h5", size.batch, size)
        images = collate_images(FeatureFile(folder / "train.h5"), np.arange(size.batch))
        for field in FILES:
            values = getattr(images, field)
            if values is not None:
                np.save(folder / f"{field}.npy", values.float().numpy())
        yield folder


def plain_images(folder: Path) -> ImageBatch:
    """Pictures copied one by one and stacked."""
    found = {}
    for path in (folder / f"{field}.npy" for field in FILES):
        if path.exists():
            mapped = np.load(path, mmap_mode="r")
            found[path.stem] = torch.stack([torch.from_numpy(np.array(picture)) for picture in mapped])
    count, regions, _ = found["features"].shape
    return ImageBatch(mask=torch.ones(count, regions, dtype=torch.bool), index=torch.arange(count), **found)


def step_memories(host: AnyHost, name: str, setting: Setting, folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Our step and the plain one, in a process of their own; a warm-up at toy size comes before each."""
    setting.enter()
    give_freed_memory_back()
    found = {}
    for variant in ("ours", "plain"):
        with files(host.sizes["tiny"]) as toy:
            _step(variant, host, host.sizes["tiny"], setting, toy)(plain.no_mark)
        found[variant] = memory_of_parts(_step(variant, host, host.sizes[name], setting, folder), setting)
    return found


def _step(variant: str, host: AnyHost, size: Size, setting: Setting, folder: Path) -> Step:
    if variant == "plain":
        return plain_step(host, size, setting, folder)
    return our_step(ready(host, size, setting), text_batch(size), setting, folder)
