"""CAMERA with SelfAlign written out (MODELS.md 3 and 4.4): every map on its own, captions padded to one width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.bench.plain import bert, losses
from selfalign_cli.bench.plain.bert import merge_heads, split_heads
from selfalign_cli.bench.plain.context import batch_norm, context_branch, length_one
from selfalign_cli.bench.plain.losses import unit
from selfalign_cli.bench.plain.step import Mark, context_settings, no_mark
from selfalign_cli.encodings import ImageBatch, PairBatch
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder
from selfalign_cli.models.parts.attention import GatedAttention, GatedSelfAttention, ViewSummary
from selfalign_cli.models.parts.norm import MaskedBatchNorm
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.selfalign import ContextHead, SelfAlign

DIVERSITY = 0.01
"""Weight of the diversity loss."""


@dataclass(frozen=True)
class PlainPictures:
    """Encodings of B pictures by CAMERA with SelfAlign.

    Attributes:
        views: (B, V, D) of unit length.
        logits: (B, R, V), not normalised.
        concepts: (B, R, D) of unit length.
        guide: (B, D) of unit length.
        locals: (B, R, D) of unit length.
        context: (B, D) of unit length.
    """

    views: Tensor
    logits: Tensor
    concepts: Tensor
    guide: Tensor
    locals: Tensor
    context: Tensor

    def vectors(self) -> Tensor:
        """(B, V, 3D) retrieval vectors: [view ; ½ mean of locals ; ½ context], the last two repeated in every view."""
        shared = torch.cat([0.5 * self.locals.mean(dim=1), 0.5 * self.context], dim=1)
        return torch.cat([self.views, shared.unsqueeze(1).repeat(1, self.views.shape[1], 1)], dim=2)


@dataclass(frozen=True)
class PlainCaptions:
    """Encodings of B captions by CAMERA with SelfAlign.

    Attributes:
        pooled: (B, D) of unit length.
        concepts: (B, W, D) of unit length.
        guide: (B, D) of unit length.
        locals: (B, W, D) of unit length.
        context: (B, D) of unit length.
    """

    pooled: Tensor
    concepts: Tensor
    guide: Tensor
    locals: Tensor
    context: Tensor

    def vectors(self) -> Tensor:
        """(B, 3D) retrieval vectors: [f ; context ; mean of locals]."""
        return torch.cat([self.pooled, self.context, self.locals.mean(dim=1)], dim=1)


def row_norm(norm: MaskedBatchNorm, x: Tensor) -> Tensor:
    """Batch normalisation of all B·S rows of (B, S, D)."""
    return batch_norm(norm, x.reshape(-1, x.shape[2])).view(x.shape)


def gated_attention(layer: GatedAttention, x: Tensor, training: bool) -> Tensor:
    """Gated attention of (B, S, D), every position over all positions (MODELS.md 3.1)."""
    query, key, value = (split_heads(linear(x), layer.heads) for linear in (layer.query, layer.key, layer.value))
    width = query.shape[-1]
    gates = torch.sigmoid(layer.gate(layer.query_gate(query) * layer.key_gate(key)))  # (B, H, S, 2d)
    query, key = query * gates[..., :width], key * gates[..., width:]
    scores = torch.matmul(query, key.transpose(-2, -1)) / width**0.5
    weights = functional.dropout(functional.softmax(scores, dim=-1), layer.dropout, training)
    return merge_heads(torch.matmul(weights, value))


def attention_layers(module: GatedSelfAttention, x: Tensor, position: Tensor | None = None) -> Tensor:
    """All gated attention layers on (B, S, D); the position gate goes into the first."""
    for number, (layer, norm) in enumerate(zip(module.layers, module.norms, strict=True)):
        assert isinstance(layer, GatedAttention)
        assert isinstance(norm, MaskedBatchNorm)
        gated = x * position if position is not None and number == 0 else x
        x = x + module.dropout(row_norm(norm, gated_attention(layer, gated, module.training)))
    return x


def box_numbers(boxes: Tensor, size: Tensor) -> Tensor:
    """Six numbers of every box: (B, R, 4) and (B, 2) -> (B, R, 6)."""
    width, height = size[:, None, 0], size[:, None, 1]
    w, h = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    numbers = [boxes[..., 0] / width, boxes[..., 1] / height, w / width, h / height, w / h, w * h / (width * height)]
    return torch.stack(numbers, dim=-1)


def views(module: ViewSummary, x: Tensor) -> tuple[Tensor, Tensor]:
    """Views (B, V, D) and their logits (B, R, V) of regions (B, R, D)."""
    channels_first = x.transpose(1, 2)
    read = torch.cat([functional.relu(convolution(channels_first)) for convolution in module.convs], dim=1)
    logits = module.out(read.transpose(1, 2))
    weights = functional.softmax(logits, dim=1)
    return unit(torch.matmul(weights.transpose(1, 2), x)), logits


def encode_images(encoder: CameraImageEncoder, head: ContextHead, images: ImageBatch) -> PlainPictures:
    """Encode pictures whose regions are all real (MODELS.md 3.2)."""
    assert images.boxes is not None
    assert images.size is not None
    embedded = length_one(encoder.fc(images.features))
    position = torch.sigmoid(encoder.box_gate.proj(box_numbers(images.boxes, images.size)))
    states = attention_layers(encoder.attention, embedded, position)
    summary, logits = views(encoder.summary, length_one(states))
    return PlainPictures(summary, logits, unit(embedded), *context_branch(head, states))


def encode_words(encoder: CameraTextEncoder, head: ContextHead, tokens: Tensor) -> PlainCaptions:
    """Encode captions from the states of BERT (B, W, E), padded positions like real ones (MODELS.md 3.3)."""
    words = length_one(encoder.word_map(tokens))
    states = attention_layers(encoder.attention, words)
    read = states + encoder.dropout(row_norm(encoder.norm, encoder.feed_forward(states)))
    return PlainCaptions(unit(read.mean(dim=1)), unit(words), *context_branch(head, states))


def score_pairs(images: PlainPictures, captions: PlainCaptions) -> Tensor:
    """Scores (B, B) of all pictures with all captions, by the whole vectors of every view (MODELS.md 3.4)."""
    vectors, own = images.vectors(), captions.vectors()
    products = torch.matmul(vectors.view(-1, vectors.shape[2]), own.t())
    return products.view(*vectors.shape[:2], len(own)).max(dim=1)[0]


def diversity_loss(logits: Tensor) -> Tensor:
    """How much the views (B, R, V) of each picture overlap, summed over the batch (MODELS.md 4.4)."""
    columns = functional.normalize(logits, dim=1)
    overlaps = torch.bmm(columns.transpose(1, 2), columns)
    identity = torch.eye(logits.shape[2], dtype=logits.dtype, device=logits.device).expand_as(overlaps)
    return (overlaps - identity).pow(2).sum()


def total_loss(
    model: RetrievalModel, objective: Objective, batch: PairBatch, mark: Mark = no_mark
) -> dict[str, Tensor]:
    """Compute every term of the training loss, and `total` (MODELS.md 3.4).

    Args:
        model: CAMERA with SelfAlign, for its weights; its BERT is frozen.
        objective: with prototypes, for them and for the settings.
        batch: pictures without padding, captions longest first and padded to the largest width there is.
        mark: called with the name of each part when it is done.
    """
    assert isinstance(model.image, CameraImageEncoder)
    assert isinstance(model.text, CameraTextEncoder)
    assert isinstance(model.selfalign, SelfAlign)
    assert model.token_encoder is not None
    concept = objective.concept
    assert isinstance(concept, ConceptAlignment)
    images = encode_images(model.image, model.selfalign.image_head, batch.images)
    mark("picture encoder")
    tokens = bert.token_states(
        model.token_encoder.bert, batch.texts.ids, batch.texts.mask, training=model.text.training
    )
    mark("BERT")
    texts = encode_words(model.text, model.selfalign.text_head, tokens)
    mark("text encoder")
    margin = objective.terms["ranking"].settings["margin"]
    terms = {"ranking": losses.hinge_loss(score_pairs(images, texts), margin)}
    mark("ranking loss")
    with torch.no_grad():
        concept.prototypes.copy_(losses.unit(concept.prototypes))
    lengths = batch.texts.lengths.tolist()
    terms["concept"] = losses.concept_loss(images.concepts, texts.concepts, lengths, concept.prototypes)
    mark("concept loss")
    for name, guide, locals_ in (
        ("context_image", texts.guide, images.locals),
        ("context_text", images.guide, texts.locals),
    ):
        terms[name] = losses.context_loss(guide, locals_, **context_settings(objective, name))
    mark("context losses")
    terms["diversity"] = diversity_loss(images.logits)
    mark("diversity loss")
    aligned = terms["concept"] + (terms["context_image"] + terms["context_text"]) / 2
    return {**terms, "total": terms["ranking"] + DIVERSITY * terms["diversity"] + aligned}
