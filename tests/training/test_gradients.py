"""Gradient caching: chunks give the gradient of the whole batch, with batch normalisation by chunk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import tiny_models
from support.new_terms import with_new_terms
from support.tiny_models import CAMERA, VSE_INFTY, VSRN, Tiny, build_tiny

from selfalign_cli.assembly.optimizer import build_optimizer
from selfalign_cli.encodings import PairBatch
from selfalign_cli.models.parts.norm import MaskedBatchNorm
from selfalign_cli.training import gradients
from selfalign_cli.training.gradients import backward
from selfalign_cli.training.step import train_step

VSE = VSE_INFTY.replace("loss: {", "loss: {ranking: {kind: sigmoid, reduction: mean}, ")
HOSTS = pytest.mark.parametrize("host", [VSRN, CAMERA, VSE], ids=["vsrn", "camera", "vse_infty"])
CHUNK = pytest.mark.parametrize("size", [2, 3, 5, 10, 11])


def batch() -> PairBatch:
    """Eleven pairs; the first two show the same picture."""
    pairs = tiny_models.pairs([3 + row % 3 for row in range(11)], [9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4])
    index = torch.arange(11).clamp(min=1)
    pairs = pairs.to("cpu", torch.float64)
    return replace(pairs, images=replace(pairs.images, index=index))


def build(host: str, *overrides: str, normalise: bool) -> Tiny:
    """A model in training mode; batch normalisation by running values unless `normalise`."""
    tiny = build_tiny(host, *overrides, dtype=torch.float64).train()
    for module in tiny.model.modules():
        if isinstance(module, MaskedBatchNorm):
            module.train(normalise)
    return tiny


def take(tiny: Tiny, size: int | None) -> dict[str, torch.Tensor]:
    pairs = batch()
    return backward(tiny.model, tiny.objective, pairs, pairs=len(pairs.captions), warmup=False, chunk_size=size)


def assert_same_gradients(mine: Tiny, theirs: Tiny) -> None:
    found = {name: value.grad for name, value in mine.trainable().items()}
    for name, value in theirs.trainable().items():
        if value.grad is not None:
            assert torch.allclose(found[name], value.grad, rtol=1e-9, atol=1e-10), name


@HOSTS
@CHUNK
def test_without_batch_statistics_chunks_change_nothing(host: str, size: int) -> None:
    overrides = ["model.dropout=0.0"] if host is CAMERA else []
    whole, chunked = (build(host, *overrides, normalise=False) for _ in range(2))
    terms, found = take(whole, None), take(chunked, size)
    assert terms.keys() == found.keys()
    for name, value in terms.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=0)
    assert_same_gradients(chunked, whole)


@HOSTS
@CHUNK
def test_the_gradient_is_that_of_the_loss_over_separately_normalised_chunks(host: str, size: int) -> None:
    """With dropout in CAMERA: the second pass draws what the first one drew. Running values move once a chunk."""
    plain, chunked = (build(host, normalise=True) for _ in range(2))
    pairs = batch()
    torch.manual_seed(5)
    take(chunked, size)
    torch.manual_seed(5)
    spans = gradients._spans(11, gradients._chunks(11, size))
    encoded = [gradients._encode(plain.model, pairs.rows(rows)) for rows in spans]
    whole, own = (
        {name: torch.cat([part.read([name])[name] for part in encoded]) for name in names}
        for names in (plain.objective.batch_reads, plain.objective.per_pair_reads)
    )
    terms = plain.objective.batch_terms(whole, warmup=False)
    terms |= plain.objective.per_pair_terms(own, pairs=11, warmup=False)
    plain.objective.with_total(terms)["total"].backward()
    assert_same_gradients(chunked, plain)
    for (name, mine), theirs in zip(chunked.model.named_buffers(), plain.model.buffers(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-14), name


def test_a_new_term_gets_the_tensors_it_reads_at_once_and_in_chunks() -> None:
    """No other list names it. One needs the whole batch, one is per pair."""
    whole, chunked = (with_new_terms(build(VSRN, normalise=False)) for _ in range(2))
    terms, found = take(whole, None), take(chunked, 3)
    encoded = gradients._encode(build(VSRN, normalise=False).model, batch())
    for name in ("contrast", "widths"):
        term = whole.objective.terms[name]
        expected = term.value(encoded.read(term.reads.values()), pairs=11).detach()
        assert expected.abs() > 0.1
        for value in (terms[name], found[name]):
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert whole.objective.get_parameter("contrast.scale").grad.abs() > 0.1
    assert_same_gradients(chunked, whole)


@HOSTS
def test_a_chunk_as_large_as_the_batch_is_the_batch(host: str) -> None:
    overrides = ["model.dropout=0.0"] if host is CAMERA else []
    whole, chunked = (build(host, *overrides, normalise=True) for _ in range(2))
    take(whole, None)
    take(chunked, 11)
    assert_same_gradients(chunked, whole)


@pytest.mark.parametrize("kind", ["hinge", "infonce"])
def test_a_step_of_adamw_in_chunks_is_that_of_the_batch(kind: str) -> None:
    overrides = ["optim.weight_decay=0.1", f"loss.ranking.kind={kind}"]
    whole, chunked = (build(VSE_INFTY, *overrides, normalise=False) for _ in range(2))
    pairs = batch()
    for tiny, size in ((whole, None), (chunked, 4)):
        optimizer = build_optimizer(tiny.recipe, tiny.groups)
        assert isinstance(optimizer, torch.optim.AdamW)
        for _ in range(2):
            parts = tiny.model, tiny.objective, optimizer, tiny.groups, pairs
            train_step(*parts, grad_clip_norm=2.0, chunk_size=size)
    moved = chunked.trainable()
    for name, value in whole.trainable().items():
        torch.testing.assert_close(moved[name], value, rtol=1e-7, atol=1e-8, msg=name)


def test_random_numbers_go_on_as_after_one_pass() -> None:
    """What the second pass draws again is not missing afterwards."""
    tiny = build(CAMERA, normalise=True)
    torch.manual_seed(5)
    take(tiny, 3)
    after = torch.rand(3)
    torch.manual_seed(5)
    for rows in gradients._spans(11, 4):
        gradients._encode(tiny.model, batch().rows(rows))
    assert torch.rand(3).equal(after)


@pytest.mark.parametrize(
    ("pairs", "size", "number"), [(12, 4, 3), (13, 4, 4), (3, 2, 1), (5, 2, 2), (2, 2, 1), (1, 2, 1), (9, 100, 1)]
)
def test_no_chunk_has_a_single_pair(pairs: int, size: int, number: int) -> None:
    """There is nothing to normalise one by."""
    assert gradients._chunks(pairs, size) == number
