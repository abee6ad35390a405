"""One training step written out (MODELS.md 7), every parameter listed once; the loss of VSRN (2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from selfalign_cli.bench.plain import captioner, losses, vsrn
from selfalign_cli.encodings import PairBatch
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.parts.captioner import CaptionGenerator, caption_targets
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.selfalign import SelfAlign

Mark = Callable[[str], None]
Loss = Callable[[RetrievalModel, Objective, PairBatch, Mark], dict[str, Tensor]]
"""Like `total_loss`."""


def no_mark(name: str) -> None:
    """Do nothing."""


def total_loss(
    model: RetrievalModel, objective: Objective, batch: PairBatch, mark: Mark = no_mark
) -> dict[str, Tensor]:
    """Compute every term of the training loss, and `total`.

    Args:
        model: VSRN with SelfAlign, for its weights.
        objective: with prototypes and caption generator, for their weights and for the settings.
        batch: pictures without padding, captions longest first.
        mark: called with the name of each part when it is done.
    """
    assert isinstance(model.image, VsrnImageEncoder)
    assert isinstance(model.text, VsrnTextEncoder)
    assert isinstance(model.selfalign, SelfAlign)
    concept, generator = objective.concept, objective.captioner
    assert isinstance(concept, ConceptAlignment)
    assert isinstance(generator, CaptionGenerator)
    margin = objective.terms["ranking"].settings["margin"]
    lengths = batch.texts.lengths.tolist()
    images = vsrn.encode_images(model.image, model.selfalign.image_head, batch.images.features)
    mark("picture encoder")
    texts = vsrn.encode_texts(model.text, model.selfalign.text_head, batch.texts.ids, lengths)
    mark("text encoder")
    terms = {"ranking": losses.hinge_loss(images.image_vectors() @ texts.caption_vectors().T, margin)}
    mark("ranking loss")
    with torch.no_grad():
        concept.prototypes.copy_(losses.unit(concept.prototypes))
    terms["concept"] = losses.concept_loss(images.concepts, texts.concepts, lengths, concept.prototypes)
    mark("concept loss")
    for name, guide, keys in (
        ("context_image", texts.guide, images.locals),
        ("context_text", images.guide, texts.locals),
    ):
        terms[name] = losses.context_loss(guide, keys, **context_settings(objective, name))
    mark("context losses")
    labels, mask = caption_targets(batch.texts.ids, batch.texts.lengths, generator.max_len)
    predictions = captioner.log_probabilities(generator, images.regions, labels)
    terms["captioning"] = losses.captioning_loss(predictions, labels[:, 1:], mask[:, 1:])
    mark("caption generator")
    aligned = terms["concept"] + (terms["context_image"] + terms["context_text"]) / 2
    return {**terms, "total": terms["ranking"] + terms["captioning"] + aligned}


def context_settings(objective: Objective, name: str) -> dict[str, Any]:
    """What `losses.context_loss` takes of the settings of a context term."""
    settings = objective.terms[name].settings
    return {key: settings[key] for key in ("temperature", "negatives")}


def train_step(
    model: RetrievalModel,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: PairBatch,
    *,
    loss: Loss = total_loss,
    grad_clip_norm: float = 2.0,
    mark: Mark = no_mark,
) -> dict[str, Tensor]:
    """Take one step; the optimizer holds all parameters, each once. The other arguments are those of the loss."""
    terms = loss(model, objective, batch, mark)
    optimizer.zero_grad()
    terms["total"].backward()  # type: ignore[no-untyped-call]
    mark("backward")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, grad_clip_norm)
    optimizer.step()
    mark("optimizer")
    return terms
