"""The plain versions and ours agree to 1e-10: values, gradients and a whole step."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.tiny_models import Tiny
from torch import Tensor
from torch.nn import functional

from selfalign_cli.bench.plain import bert, captioner, cross_attention, losses, ranking
from selfalign_cli.bench.plain import camera as plain_camera
from selfalign_cli.bench.plain import step as plain_step
from selfalign_cli.bench.plain import vsrn as plain_vsrn
from selfalign_cli.encodings import PairBatch, RetrievalVectors
from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.losses.ranking import hinge_loss
from selfalign_cli.metrics.ranks import rank_vectors
from selfalign_cli.models.bert import seeded_bert
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder
from selfalign_cli.models.parts.captioner import caption_targets
from selfalign_cli.training.step import train_step

TOLERANCE = {"atol": 1e-10, "rtol": 1e-10}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directions(*shape: int, seed: int = 0) -> Tensor:
    return functional.normalize(draw(*shape, seed=seed), dim=-1).requires_grad_()


def assert_same(ours: Tensor, plain: Tensor, leaves: list[Tensor]) -> None:
    """Values and gradients."""
    torch.testing.assert_close(ours, plain, **TOLERANCE)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves), torch.autograd.grad(plain, leaves), **TOLERANCE)


@pytest.mark.parametrize("negatives", [None, 1, 9, 23])
def test_context_loss(negatives: int | None) -> None:
    """Of 6 · 4 logits, 23 are more than the 20 that other pairs have: the constants take part."""
    guide, locals_ = directions(6, 8), directions(6, 4, 8, seed=1)
    options = {"temperature": 0.7, "negatives": negatives}
    ours = context_alignment_loss(guide, locals_, **options, exclude_own=False)  # type: ignore[arg-type]
    assert_same(ours, losses.context_loss(guide, locals_, **options), [guide, locals_])  # type: ignore[arg-type]


@pytest.mark.parametrize("iterations", [0, 2])
def test_concept_loss(iterations: int) -> None:
    regions, words = directions(5, 4, 8), directions(5, 6, 8, seed=1)
    lengths = [6, 5, 3, 2, 1]
    module = ConceptAlignment(8, prototypes=7, sinkhorn_iterations=iterations).double()
    mask = torch.arange(6) < torch.tensor(lengths).unsqueeze(1)
    ours = module(regions, torch.ones(5, 4, dtype=torch.bool), words, mask)
    plain = losses.concept_loss(regions, words, lengths, module.prototypes, iterations=iterations)
    assert_same(ours, plain, [words, module.prototypes])


def test_hinge() -> None:
    scores = draw(6, 6).requires_grad_()
    assert_same(hinge_loss(scores, margin=0.2, mode="hardest"), losses.hinge_loss(scores, 0.2), [scores])


def test_captioner(tiny: Tiny, pairs: PairBatch) -> None:
    """The longest caption (9 of at most 8 words) is cut; the others end before the last step."""
    generator = tiny.objective.captioner
    assert generator is not None
    regions = draw(4, 5, 8).requires_grad_()
    labels, mask = caption_targets(pairs.texts.ids, pairs.texts.lengths, generator.max_len)
    ours = captioning_loss(*generator(regions, pairs.images.mask, labels, mask), captions=4)
    predictions = captioner.log_probabilities(generator, regions, labels)
    plain = losses.captioning_loss(predictions, labels[:, 1:], mask[:, 1:])
    assert_same(ours, plain, [regions, *generator.parameters()])


@pytest.mark.parametrize("training", [True, False])
def test_encoders(tiny: Tiny, pairs: PairBatch, training: bool) -> None:
    model = tiny.train(training).model
    assert isinstance(model.image, VsrnImageEncoder)
    images = plain_vsrn.encode_images(model.image, model.selfalign.image_head, pairs.images.features)  # type: ignore
    texts = plain_vsrn.encode_texts(
        model.text,  # type: ignore[arg-type]
        model.selfalign.text_head,  # type: ignore[union-attr]
        pairs.texts.ids,
        pairs.texts.lengths.tolist(),
    )
    with torch.no_grad():
        ours = model.encode_image(pairs.images), model.encode_text(pairs.texts)
    torch.testing.assert_close(ours[0].vectors.concatenated()[:, 0], images.image_vectors(), **TOLERANCE)
    torch.testing.assert_close(ours[1].vectors.concatenated(), texts.caption_vectors(), **TOLERANCE)
    torch.testing.assert_close(ours[0].host.concepts, images.concepts, **TOLERANCE)
    torch.testing.assert_close(ours[1].host.concepts, texts.concepts, **TOLERANCE)


def test_training_step(tiny: Tiny, pairs: PairBatch) -> None:
    other = copy.deepcopy(tiny)
    optimizers = [torch.optim.Adam(each.groups.all(), lr=1e-3) for each in (tiny, other)]
    ours = train_step(tiny.model, tiny.objective, optimizers[0], tiny.groups, pairs, grad_clip_norm=2.0)
    plain = plain_step.train_step(other.model, other.objective, optimizers[1], pairs)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value.detach(), **TOLERANCE)
    theirs = other.trainable()
    for name, parameter in tiny.trainable().items():
        if "fc.bias" in name or "out.bias" in name:  # no effect; Adam makes whole steps of the rounding
            continue
        torch.testing.assert_close(parameter, theirs[name], **TOLERANCE, msg=name)


def test_bert() -> None:
    """Three layers in evaluation mode; padded positions attend to the real ones too."""
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = seeded_bert({**sizes, "intermediate_size": 16}, seed=0).double().eval()
    mask = torch.arange(7) < torch.tensor([7, 4, 1]).unsqueeze(1)
    ids = torch.randint(1, 30, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(~mask, 0)
    with torch.no_grad():
        ours = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(ours, bert.token_states(model, ids, mask, training=False), **TOLERANCE)


def test_camera_loss(tiny_camera: Tiny, padded_pairs: PairBatch) -> None:
    """Every term, and the gradient of their sum."""
    other = copy.deepcopy(tiny_camera)
    ours = tiny_camera.losses(padded_pairs)
    plain = plain_camera.total_loss(other.model, other.objective, padded_pairs)
    torch.testing.assert_close(ours, plain, **TOLERANCE)
    gradients = [
        torch.autograd.grad(terms["total"], list(each.trainable().values()))
        for terms, each in ((ours, tiny_camera), (plain, other))
    ]
    torch.testing.assert_close(*gradients, **TOLERANCE)


def test_camera_in_evaluation(tiny_camera: Tiny, padded_pairs: PairBatch) -> None:
    """Running statistics in place of the batch's."""
    tiny_camera.train(False)
    ours = tiny_camera.losses(padded_pairs)
    plain = plain_camera.total_loss(tiny_camera.model, tiny_camera.objective, padded_pairs)
    torch.testing.assert_close(ours, plain, **TOLERANCE)


def test_ranks() -> None:
    images, captions = draw(7, 5), draw(20, 5, seed=1)
    truth = torch.arange(20) % 7
    ours = rank_vectors(
        [(RetrievalVectors(images.unsqueeze(1), images[:, :0]), RetrievalVectors(captions, captions[:, :0]))],
        truth,
        dtype=torch.float64,
    )
    rows = np.arange(7)
    arrays = images.numpy(), captions.numpy(), truth.numpy()
    np.testing.assert_array_equal(ours.i2t_rank, ranking.image_ranks(*arrays, rows))
    order = np.concatenate([np.flatnonzero(truth.numpy() == row) for row in rows])
    np.testing.assert_array_equal(ours.t2i_rank[order], ranking.caption_ranks(*arrays, rows))


def test_cross_attention_by_hand() -> None:
    """One word (1, 0) and regions (1, 0), (0, 1): attention 1 and 0, weights e⁹ : 1, nearly the first region."""
    score = cross_attention.score_caption(torch.eye(2).unsqueeze(0), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(score, torch.tensor([1.0]), atol=1e-6, rtol=0)
