"""CAMERA's encoders: padding, BERT's modes, hosts with and without SelfAlign, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from selfalign_cli.encodings import ImageBatch, TextBatch
from selfalign_cli.errors import DataError
from selfalign_cli.models.bert import seeded_bert
from selfalign_cli.models.hosts import camera
from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}


def shaken(module: nn.Module) -> nn.Module:
    """Give parameters and running values that start constant some random values."""
    generator = torch.Generator().manual_seed(5)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and not name.startswith("bert."):
            value.data.add_(0.3 * torch.rand(value.shape, generator=generator, dtype=value.dtype))
    return module


def image_encoder(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return shaken(CameraImageEncoder(6, embed_dim=8, heads=2, views=3, **options))  # type: ignore[arg-type]


def text_encoder(**options: object) -> nn.Module:
    torch.manual_seed(0)
    bert = seeded_bert(BERT, seed=1)
    return shaken(CameraTextEncoder(bert, embed_dim=8, heads=2, **options))  # type: ignore[arg-type]


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
    generator = torch.Generator().manual_seed(9)
    mask = torch.arange(width or max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 30, (length,), generator=generator)
    return TextBatch(ids, mask)


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
    mapped = encoder.word_map(encoder.token_states(batch))
    torch.testing.assert_close(encoder(batch).states, encoder.attention(mapped))


@pytest.mark.parametrize("together", [1, 2, 3, 7, 32])
def test_captions_of_like_lengths_are_read_together(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """A frozen BERT gives each caption the states that it gives it in the whole batch."""
    monkeypatch.setattr(camera, "CAPTIONS_TOGETHER", together)
    encoder, batch = text_encoder().train(), captions([4, 9, 2, 4, 7, 1, 9], width=12)
    states = encoder.token_states(batch)
    whole = encoder.bert(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state
    torch.testing.assert_close(states[batch.mask], whole[batch.mask], atol=1e-6, rtol=0)


@pytest.mark.parametrize("read", ["masked_means", "masked_batchnorm", "masked_attention"])
def test_where_padding_is_read_bert_gives_it_states(read: str) -> None:
    states = text_encoder(**{read: False}).eval().token_states(captions([4, 9]))
    assert states[0, 4:].abs().amax(dim=1).min() > 0.01


@pytest.mark.parametrize(
    ("options", "training"),
    [({}, False), ({"bert_eval_mode": False}, True), ({"finetune": True}, True)],
)
def test_bert_mode_while_training(options: dict[str, bool], training: bool) -> None:
    encoder = text_encoder(**options).train()
    assert encoder.training
    assert encoder.bert.training is training
    assert not encoder.eval().bert.training


def test_a_frozen_bert_gets_no_gradient() -> None:
    encoder = text_encoder()
    encoder(captions([4, 6])).pooled.sum().backward()
    assert all(not value.requires_grad and value.grad is None for value in encoder.bert.parameters())


def test_a_finetuned_bert_gets_gradients_wherever_it_can() -> None:
    encoder = text_encoder(finetune=True)
    encoder(captions([4, 6])).pooled.square().mean(dim=1).sum().backward()
    without = [name for name, value in encoder.bert.named_parameters() if value.requires_grad and value.grad is None]
    assert not without
    assert not any(value.requires_grad for value in encoder.bert.pooler.parameters())


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


def test_padding_id_of_the_token_encoder_is_used() -> None:
    """An encoder that pads with id 1 counts positions over all other ids, so padding must carry that id."""
    encoder, batch = text_encoder(), captions([4], width=6)
    seen = []
    encoder.bert.register_forward_pre_hook(lambda _, __, inputs: seen.append(inputs["input_ids"]), with_kwargs=True)
    encoder.pad_id = 1
    encoder(batch)
    assert seen[0][0, 4:].tolist() == [1, 1]
