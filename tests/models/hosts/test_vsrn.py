"""The VSRN encoders: GRUs unrolled by hand, options, padding, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.tiny_models import FEATURES, VOCABULARY, captions, pictures, shake
from torch import Tensor, nn

from selfalign_cli.encodings import HostEncoding
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.parts.basics import last_state, xavier_linear
from selfalign_cli.models.parts.norm import normalize_positions, unit

DIM, WORD = 8, 5
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flickr": {"final_batchnorm": True},
    "coco": {"normalize_regions": True},
    "over the embedding": {"normalize_regions": True, "normalize_over": "embedding"},
    "absolute": {"absolute": True},
    "not normalised": {"normalize_image": False},
    "no graph": {"graph_layers": 0},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))


def image_encoder(**options: Any) -> VsrnImageEncoder:
    torch.manual_seed(0)
    made = VsrnImageEncoder(FEATURES, embed_dim=DIM, **{"graph_layers": 2, **options})
    shake(made)
    return made


def text_encoder(**options: Any) -> VsrnTextEncoder:
    torch.manual_seed(0)
    return VsrnTextEncoder(VOCABULARY, word_dim=WORD, embed_dim=DIM, **options)


def unrolled(gru: nn.GRU, x: Tensor) -> Tensor:
    """States (S, D) of one sequence (S, input), gate by gate (MODELS.md section 0)."""
    weights = dict(gru.named_parameters())
    state = torch.zeros(gru.hidden_size)
    states = []
    for row in x:
        r_x, z_x, n_x = (weights["weight_ih_l0"] @ row + weights["bias_ih_l0"]).chunk(3)
        r_h, z_h, n_h = (weights["weight_hh_l0"] @ state + weights["bias_hh_l0"]).chunk(3)
        update = torch.sigmoid(z_x + z_h)
        new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        state = (1 - update) * new + update * state
        states.append(state)
    return torch.stack(states)


def test_last_state_is_that_of_the_last_real_place() -> None:
    states = torch.arange(6.0).view(2, 3, 1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert last_state(states, mask).flatten().tolist() == [2.0, 3.0]


def test_linear_maps_start_xavier_uniform() -> None:
    """Bound √(6 / (30 + 70)) = 0.2449; 2100 draws reach close to it."""
    layer = xavier_linear(30, 70)
    assert 0.24 < float(layer.weight.detach().abs().max()) <= 0.245
    assert layer.bias.eq(0).all()


def test_words_start_in_their_range() -> None:
    table = VsrnTextEncoder(200, word_dim=50, embed_dim=2).embed.weight.detach()
    assert 0.099 < float(table.abs().max()) <= 0.1


@each_option
def test_pictures_one_by_one(options: dict[str, Any]) -> None:
    """One picture without padding, its GRU unrolled."""
    encoder, batch = image_encoder(**options).eval(), pictures([4])
    with torch.no_grad():
        found = encoder(batch)
        embedded = encoder.fc(batch.features)
        if options.get("normalize_regions"):
            embedded = normalize_positions(embedded, None, over=options.get("normalize_over", "places"))
        states = embedded
        for layer in encoder.graph:
            states = layer(states, batch.mask)
        regions = normalize_positions(states, None, over=options.get("normalize_over", "places"))
        pooled = unrolled(encoder.gru, regions[0])[-1]
        if encoder.norm is not None:
            pooled = encoder.norm(pooled)
        if options.get("normalize_image", True):
            pooled = pooled / pooled.norm()
        if options.get("absolute"):
            pooled = pooled.abs()
    assert_encoding(
        found, HostEncoding(pooled.view(1, 1, -1), unit(embedded), states, batch.mask, {"regions": regions})
    )


def assert_encoding(found: HostEncoding, expected: HostEncoding) -> None:
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("for_selfalign", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_captions_one_by_one(for_selfalign: bool, absolute: bool) -> None:
    encoder, batch = text_encoder(for_selfalign=for_selfalign, absolute=absolute), captions([6])
    with torch.no_grad():
        found = encoder(batch)
        words = encoder.embed.weight[batch.ids[0]]
        if encoder.word_map is not None:
            words = words @ encoder.word_map.weight.T + encoder.word_map.bias
        states = unrolled(encoder.gru, words)
        pooled = states[-1] / states[-1].norm()
        pooled = pooled.abs() if absolute else pooled
    assert_encoding(found, HostEncoding(pooled[None], unit(words)[None], states[None], batch.mask))
    assert (encoder.word_map is None) is not for_selfalign


def test_shapes() -> None:
    found = image_encoder()(pictures([4, 7, 5]))
    assert (found.pooled.shape, found.concepts.shape) == ((3, 1, DIM), (3, 7, DIM))
    assert (found.states.shape, found.extras["regions"].shape, found.mask.shape) == ((3, 7, DIM), (3, 7, DIM), (3, 7))
    text = text_encoder()(captions([6, 3]))
    assert (text.pooled.shape, text.concepts.shape, text.states.shape) == ((2, DIM), (2, 6, DIM), (2, 6, DIM))


@each_option
@pytest.mark.parametrize("training", [True, False])
def test_what_stands_at_padded_regions_does_not_matter(options: dict[str, Any], training: bool) -> None:
    tight, odd = pictures([4, 7]), pictures([4, 7], width=9, filler=1e3)
    plain = image_encoder(**options).train(training)(tight)
    found = image_encoder(**options).train(training)(odd)
    torch.testing.assert_close(found.pooled, plain.pooled)
    torch.testing.assert_close(found.states[:, :7], plain.states)
    torch.testing.assert_close(found.extras["regions"][:, :7], plain.extras["regions"])
    assert found.states[~odd.mask].eq(0).all()
    assert found.extras["regions"][~odd.mask].eq(0).all()


def test_words_after_the_caption_do_not_matter() -> None:
    tight = captions([6, 3])
    odd = replace(tight, ids=tight.ids.masked_fill(~tight.mask, 7))
    found, plain = text_encoder()(odd), text_encoder()(tight)
    torch.testing.assert_close(found.pooled, plain.pooled)
    torch.testing.assert_close(found.states, plain.states)
    assert found.states[~tight.mask].eq(0).all()


def test_the_order_of_regions_matters() -> None:
    """The GRU reads regions in the order of the file."""
    batch = pictures([6])
    turned = replace(batch, features=batch.features.flip(1))
    encoder = image_encoder().eval()
    assert not torch.allclose(encoder(batch).pooled, encoder(turned).pooled, atol=1e-3)


def test_the_published_bound_gives_nan_on_a_dead_coordinate() -> None:
    """Reference: a coordinate that is zero in every region divides zero by zero (M1)."""
    batch = pictures([3])
    for bounded in (True, False):
        encoder = image_encoder(normalize_regions=True, graph_layers=0, bounded_norm=bounded)
        encoder.fc.weight.data[0] = 0.0
        encoder.fc.bias.data[0] = 0.0
        assert bool(torch.isfinite(encoder(batch).pooled).all()) is bounded


@each_option
def test_every_image_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    encoder = image_encoder(**options).train()
    found = encoder(pictures([4, 7, 5]))
    weight = torch.randn(found.pooled.shape, generator=torch.Generator().manual_seed(1))
    (found.pooled * weight).sum().backward()
    for name, value in encoder.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name
        assert value.grad.abs().max() > 0, name


@pytest.mark.parametrize("for_selfalign", [True, False])
def test_every_text_parameter_gets_a_gradient(for_selfalign: bool) -> None:
    encoder = text_encoder(for_selfalign=for_selfalign)
    encoder(captions([6, 4])).pooled.sum(dim=1).square().sum().backward()
    for name, value in encoder.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name
