"""CAMERA's encoders: padding, hosts with and without SelfAlign, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from selfalign_cli.encodings import ImageBatch, TextBatch
from selfalign_cli.errors import DataError
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder

TOKEN_DIM = 8


def shaken(module: nn.Module) -> nn.Module:
    """Give parameters and running values that start constant some random values."""
    generator = torch.Generator().manual_seed(5)
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point():
            value.data.add_(0.3 * torch.rand(value.shape, generator=generator, dtype=value.dtype))
    return module


def image_encoder(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return shaken(CameraImageEncoder(6, embed_dim=8, heads=2, views=3, **options))  # type: ignore[arg-type]


def text_encoder(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return shaken(CameraTextEncoder(TOKEN_DIM, embed_dim=8, heads=2, **options))  # type: ignore[arg-type]


def pictures(counts: list[int], regions: int | None = None) -> ImageBatch:
    generator = torch.Generator().manual_seed(7)
    width = regions or max(counts)
    mask = torch.arange(width) < torch.tensor(counts).unsqueeze(1)
    features, boxes = torch.zeros(len(counts), width, 6), torch.zeros(len(counts), width, 4)
    for row, count in enumerate(counts):
        features[row, :count] = torch.randn(count, 6, generator=generator)
        corner = 50 * torch.rand(count, 2, generator=generator)
        sides = 5 + 40 * torch.rand(count, 2, generator=generator)
        boxes[row, :count] = torch.cat([corner, corner + sides], dim=-1)
    size = torch.full((len(counts), 2), 100.0)
    return ImageBatch(features, mask, torch.arange(len(counts)), boxes, size)


def captions(lengths: list[int], width: int | None = None) -> TextBatch:
    """Captions with token states, not zero at padded positions."""
    generator = torch.Generator().manual_seed(9)
    table = torch.randn(30, TOKEN_DIM, generator=generator)
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 30, (length,), generator=generator)
    return TextBatch(ids, mask, table[ids])


def test_a_picture_alone_and_in_a_padded_batch_is_the_same() -> None:
    encoder = image_encoder().eval()
    together, alone = encoder(pictures([4, 7], regions=9)), encoder(pictures([4]))
    torch.testing.assert_close(together.pooled[:1], alone.pooled, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.concepts[:1, :4], alone.concepts, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        together.extras["view_logits"][:1, :4], alone.extras["view_logits"], atol=1e-6, rtol=1e-6
    )


def test_what_stands_at_padded_regions_does_not_matter_in_training() -> None:
    batch = pictures([4, 7])
    blank = batch.mask.unsqueeze(-1)
    odd = replace(
        batch,
        features=torch.where(blank, batch.features, 1e3),
        boxes=torch.where(blank, batch.boxes, float("nan")),
    )
    torch.testing.assert_close(image_encoder().train()(odd).pooled, image_encoder().train()(batch).pooled)


def test_views_have_unit_length() -> None:
    views = image_encoder()(pictures([4, 7])).pooled
    assert views.shape == (2, 3, 8)
    torch.testing.assert_close(views.norm(dim=-1), torch.ones(2, 3))


@pytest.mark.parametrize("lacking", ["boxes", "size"])
def test_pictures_without_boxes_or_sizes_are_refused(lacking: str) -> None:
    with pytest.raises(DataError, match="boxes and picture sizes"):
        image_encoder()(replace(pictures([4]), **{lacking: None}))


def test_normalising_over_the_embedding_is_another_model() -> None:
    batch = pictures([4, 7])
    over_embedding = image_encoder(normalize_over="embedding").eval()(batch)
    assert not torch.allclose(over_embedding.pooled, image_encoder().eval()(batch).pooled, atol=1e-3)


def test_a_caption_alone_and_in_a_longer_batch_is_the_same() -> None:
    encoder = text_encoder().eval()
    together, alone = encoder(captions([4, 9], width=12)), encoder(captions([4]))
    torch.testing.assert_close(together.pooled[:1], alone.pooled, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.concepts[:1, :4], alone.concepts, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.states[:1, :4], alone.states, atol=1e-6, rtol=0)


def test_masked_statistics_do_not_see_padding() -> None:
    tight, wide = text_encoder().train(), text_encoder().train()
    tight(captions([4, 6])), wide(captions([4, 6], width=12))
    torch.testing.assert_close(tight.norm.running_mean, wide.norm.running_mean)
    torch.testing.assert_close(tight.attention.norms[0].running_var, wide.attention.norms[0].running_var)


@pytest.mark.parametrize("published", ["masked_means", "masked_attention"])
def test_published_captions_depend_on_their_padding(published: str) -> None:
    encoder = text_encoder(**{published: False}).eval()
    tight, wide = encoder(captions([4])), encoder(captions([4], width=12))
    assert not torch.allclose(tight.pooled, wide.pooled, atol=1e-4)


def test_published_statistics_see_padding() -> None:
    tight, wide = (text_encoder(masked_batchnorm=False).train() for _ in range(2))
    tight(captions([4, 6])), wide(captions([4, 6], width=12))
    assert not torch.allclose(tight.norm.running_mean, wide.norm.running_mean, atol=1e-4)


def test_the_mask_of_an_encoding_is_that_of_the_batch() -> None:
    batch = captions([4, 6])
    encoder = text_encoder(masked_means=False, masked_batchnorm=False, masked_attention=False)
    assert torch.equal(encoder(batch).mask, batch.mask)


def test_without_selfalign_mapped_tokens_are_not_normalised() -> None:
    encoder, batch = text_encoder(for_selfalign=False).eval(), captions([4])
    mapped = encoder.word_map(batch.states)
    torch.testing.assert_close(encoder(batch).states, encoder.attention(mapped))


@pytest.mark.parametrize("side", ["image", "text"])
def test_every_trained_parameter_gets_a_finite_gradient(side: str) -> None:
    encoder = (image_encoder if side == "image" else text_encoder)(attention_layers=2, equal_start=False).train()
    encoding = encoder(pictures([4, 7, 5]) if side == "image" else captions([4, 7, 5]))
    weights = torch.randn(encoding.pooled.shape, generator=torch.Generator().manual_seed(2))
    (encoding.pooled * weights).sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
