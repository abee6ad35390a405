"""The expensive loss terms, forward and backward, beside the released formulation and their bare products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from selfalign_cli.bench.floors import captioning_work
from selfalign_cli.bench.inputs import SIZES, TINY, ModelSize, caption_lengths, directions, text_batch
from selfalign_cli.bench.machine import Rates
from selfalign_cli.bench.measure import Sample, Setting, Work, alternate, peak_extra
from selfalign_cli.bench.plain import captioner as plain_captioner
from selfalign_cli.bench.plain import losses as plain
from selfalign_cli.bench.report import Line
from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.models.parts.captioner import CaptionGenerator, caption_targets

TEMPERATURE = 0.7
LARGE = 8
"""Factor of the larger batch for the context loss; the plain version would need tens of gigabytes there."""
DROPOUT = 0.2
"""Dropout of the caption generator."""


def run(
    name: str, setting: Setting, rates: Rates, notify: Callable[[str], None]
) -> tuple[dict[str, object], list[Line]]:
    """Measure the losses at a size of `inputs.SIZES`.

    Returns:
        The dimensions, and a line for each loss.
    """
    size, large = SIZES[name], replace(SIZES[name], batch=LARGE * SIZES[name].batch)
    lines = []
    for title, prepare, floor, note in TERMS:
        notify(f"{title}: forward and backward")
        variants = {variant: prepare(variant, size, setting) for variant in ("ours", "plain")}
        if floor is not None:
            variants["floor"] = floor(size, setting)
        seconds = alternate(variants, setting)
        least = seconds["floor"] if floor else rates.floor(captioning_work(size) * 3)
        lines.append(Line(title, seconds["ours"], least, seconds["plain"], note=note))
    notify(f"context loss, batch {large.batch:,}")
    seconds = alternate({"ours": context("ours", large, setting), "floor": context_floor(large, setting)}, setting)
    notify("memory")
    samples = [_sample(prepare, variant, size, setting) for _, prepare, _, _ in TERMS for variant in ("ours", "plain")]
    *found, of_large = peak_extra([*samples, _sample(context, "ours", large, setting)], setting)
    lines = [
        replace(line, memory=ours, plain_memory=theirs)
        for line, ours, theirs in zip(lines, found[::2], found[1::2], strict=True)
    ]
    title, note = f"context loss, batch {large.batch:,}", "the plain version is not run here"
    lines.append(Line(title, seconds["ours"], seconds["floor"], memory=of_large, note=note))
    return asdict(size), lines


def context(variant: str, size: ModelSize, setting: Setting) -> Work:
    """Context loss with region keys; every run computes its gradients."""
    guide = directions(size.batch, size.dim, device=setting.device).requires_grad_()
    locals_ = directions(size.batch, size.regions, size.dim, device=setting.device, seed=1).requires_grad_()
    leaves = [guide, locals_]
    if variant == "plain":
        loss = partial(plain.context_loss, guide, locals_, temperature=TEMPERATURE, negatives=size.negatives)
        return partial(_gradients, loss, leaves)
    mask = torch.ones(locals_.shape[:2], dtype=torch.bool, device=setting.device)
    same = torch.eye(size.batch, dtype=torch.bool, device=setting.device)
    options = {"temperature": TEMPERATURE, "negatives": size.negatives, "mask": mask, "same": same}
    return partial(_gradients, partial(context_alignment_loss, guide, locals_, **options), leaves)  # type: ignore[arg-type]


def context_floor(size: ModelSize, setting: Setting) -> Work:
    """Guides times locals, and the products of both gradients."""
    guide = directions(size.batch, size.dim, device=setting.device)
    locals_ = directions(size.batch * size.regions, size.dim, device=setting.device, seed=1)
    gradient = torch.randn(size.batch, size.batch * size.regions, device=setting.device)
    return lambda: (guide @ locals_.T, gradient @ locals_, gradient.T @ guide)


def concept(variant: str, size: ModelSize, setting: Setting) -> Work:
    """Concept loss of a batch whose regions are all real."""
    regions = directions(size.batch, size.regions, size.dim, device=setting.device)
    words = directions(size.batch, size.longest, size.dim, device=setting.device, seed=1).requires_grad_()
    lengths = caption_lengths(size)
    module = ConceptAlignment(size.dim, prototypes=size.prototypes).to(setting.device)
    leaves = [words, module.prototypes]
    if variant == "plain":
        with torch.no_grad():
            module.prototypes.copy_(plain.unit(module.prototypes))
        return partial(_gradients, partial(plain.concept_loss, regions, words, lengths, module.prototypes), leaves)
    word_mask = (torch.arange(size.longest) < torch.tensor(lengths).unsqueeze(1)).to(setting.device)
    region_mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=setting.device)
    return partial(_gradients, partial(module, regions, region_mask, words, word_mask), leaves)


def concept_floor(size: ModelSize, setting: Setting) -> Work:
    """Regions and words times prototypes, and the products of the gradients of words and prototypes."""
    regions = directions(size.batch * size.regions, size.dim, device=setting.device)
    words = directions(sum(caption_lengths(size)), size.dim, device=setting.device)
    prototypes = directions(size.prototypes, size.dim, device=setting.device)
    gradient = torch.randn(len(words), size.prototypes, device=setting.device)
    return lambda: (regions @ prototypes.T, words @ prototypes.T, gradient @ prototypes, gradient.T @ words)


def captioning(variant: str, size: ModelSize, setting: Setting) -> Work:
    """The caption generator with its loss; gradients of its weights and of the regions."""
    torch.manual_seed(0)
    options = {"hidden_dim": size.hidden, "word_dim": size.word_dim, "max_len": size.max_len, "dropout": DROPOUT}
    generator = CaptionGenerator(size.dim, size.words, **options).to(setting.device)  # type: ignore[arg-type]
    regions = directions(size.batch, size.regions, size.dim, device=setting.device).requires_grad_()
    texts = text_batch(size).to(setting.device)
    labels, mask = caption_targets(texts.ids, texts.lengths, size.max_len)
    leaves = [regions, *generator.parameters()]
    if variant == "plain":

        def plain_loss() -> Tensor:
            predictions = plain_captioner.log_probabilities(generator, regions, labels)
            return plain.captioning_loss(predictions, labels[:, 1:], mask[:, 1:])

        return partial(_gradients, plain_loss, leaves)
    region_mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=setting.device)

    def loss() -> Tensor:
        return captioning_loss(*generator(regions, region_mask, labels, mask), captions=size.batch)

    return partial(_gradients, loss, leaves)


def _gradients(loss: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Forward and backward; the gradients are not accumulated."""
    return torch.autograd.grad(loss(), leaves)


def _sample(prepare: Callable[..., Work], variant: str, size: ModelSize, setting: Setting) -> Sample:
    return Sample(prepare, (variant, TINY, setting), (variant, size, setting))


TERMS: tuple[tuple[str, Callable[..., Work], Callable[..., Work] | None, str], ...] = (
    ("context loss", context, context_floor, "floor: its product and the two of its gradient"),
    ("concept loss", concept, concept_floor, "floor: its products with the prototypes, and those of the gradient"),
    ("caption generator", captioning, None, "floor: multiply-adds of all real steps, forward and backward"),
)
