"""The context head against plain torch, the crossed halves of the score, masks, options."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.encodings import HostEncoding, RetrievalVectors
from selfalign_cli.models.selfalign import ContextHead, SelfAlign
from selfalign_cli.similarity import similarity

DIM = 6
MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, True, True, False]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(4)
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point():
            value.data.add_(0.3 * torch.rand(value.shape, generator=generator, dtype=value.dtype))
    return module


def head(*, relu: bool = True) -> ContextHead:
    torch.manual_seed(0)
    return shaken(ContextHead(DIM, relu=relu).double())  # type: ignore[return-value]


def host(*, views: int = 0, seed: int = 0, padded: bool = True) -> HostEncoding:
    """A host's encoding of three pictures (with views) or captions (without)."""
    states = draw(3, 4, DIM, seed=seed) * MASK.unsqueeze(-1)
    pooled = draw(3, views, DIM, seed=seed + 1) if views else draw(3, DIM, seed=seed + 1)
    mask = MASK if padded else torch.ones_like(MASK)
    return HostEncoding(functional.normalize(pooled, dim=-1), functional.normalize(states, dim=-1), states, mask)


def module(**options: object) -> SelfAlign:
    torch.manual_seed(0)
    return shaken(SelfAlign(DIM, **options).double())  # type: ignore[arg-type, return-value]


def batch_norm(rows: Tensor, norm: nn.Module) -> Tensor:
    return functional.batch_norm(rows, None, None, norm.weight, norm.bias, training=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_head_equals_its_formulas(relu: bool, masked: bool) -> None:
    made, states = head(relu=relu), host().states
    mask = MASK if masked else torch.ones_like(MASK)
    found = made(states, mean_mask=mask, norm_mask=mask, key_mask=mask)
    mean = torch.stack([rows[real].mean(dim=0) for rows, real in zip(states, mask, strict=True)])
    guide = batch_norm(mean @ made.fc.weight.T + made.fc.bias, made.guide_norm)
    positions = torch.zeros_like(states)
    positions[mask] = batch_norm(states[mask], made.local_norm)
    if relu:
        guide, positions = guide.clamp(min=0), positions.clamp(min=0)
    hidden = made.gate[0](torch.cat([mean, guide], dim=1)).clamp(min=0)
    gate = torch.sigmoid(made.gate[2](hidden))
    locals_ = functional.normalize(positions, dim=-1)
    torch.testing.assert_close(found.guide, functional.normalize(guide, dim=-1))
    torch.testing.assert_close(found.locals, locals_)
    torch.testing.assert_close(found.context, functional.normalize(gate * mean + (1 - gate) * guide, dim=-1))
    expected = torch.stack([rows[real].mean(dim=0) for rows, real in zip(locals_, mask, strict=True)])
    torch.testing.assert_close(found.mean_local, expected)
    assert torch.equal(found.mask, mask)


def test_each_mask_rules_its_own_part() -> None:
    """Reference: without masks, padded positions join the means (M2), the statistics (M3) and the keys (M4)."""
    full = torch.ones_like(MASK)
    masked = head()(host().states, mean_mask=MASK, norm_mask=MASK, key_mask=MASK)
    means = head()(host().states, mean_mask=None, norm_mask=MASK, key_mask=MASK)
    norms = head()(host().states, mean_mask=MASK, norm_mask=None, key_mask=MASK)
    keys = head()(host().states, mean_mask=MASK, norm_mask=MASK, key_mask=None)
    assert not torch.allclose(means.guide, masked.guide)
    torch.testing.assert_close(means.locals, masked.locals)
    assert not torch.allclose(norms.locals, masked.locals)
    torch.testing.assert_close(norms.guide, masked.guide)
    assert torch.equal(keys.mask, full)
    torch.testing.assert_close(keys.locals, masked.locals)


def test_a_relu_that_silences_a_guide_stays_finite() -> None:
    made = head()
    made.guide_norm.bias.data.fill_(-100.0)
    states = host().states.requires_grad_()
    found = made(states, mean_mask=MASK, norm_mask=MASK, key_mask=MASK)
    (found.guide.sum() + found.context.sum()).backward()
    assert found.guide.eq(0).all()
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()


@pytest.mark.parametrize("context_first", [True, False], ids=["vsrn", "camera"])
@pytest.mark.parametrize("views", [1, 3])
def test_context_of_one_side_meets_the_locals_of_the_other(context_first: bool, views: int) -> None:
    """S = max_v pooled_v · pooled + w (context_I · local_T + local_I · context_T), w once."""
    made, images, texts = (
        module(context_first=context_first, image_context_weight=0.3),
        host(views=views),
        host(seed=7),
    )
    image, image_vectors = made.encode_image(images)
    text, text_vectors = made.encode_text(texts)
    crossed = image.context @ text.mean_local.T + image.mean_local @ text.context.T
    expected = torch.einsum("nvd,md->nmv", images.pooled, texts.pooled).amax(dim=-1) + 0.3 * crossed
    torch.testing.assert_close(similarity(image_vectors, text_vectors), expected)


def test_order_of_the_blocks_is_the_published_one() -> None:
    """VSRN: pictures (context, local), captions (local, context); CAMERA the other way round."""
    for context_first in (True, False):
        made = module(context_first=context_first, image_context_weight=0.5)
        image, image_vectors = made.encode_image(host(views=1))
        text, text_vectors = made.encode_text(host(seed=7))
        first, last = image_vectors.shared.split(DIM, dim=1)
        wanted = (image.context, image.mean_local) if context_first else (image.mean_local, image.context)
        torch.testing.assert_close((first * 2, last * 2), wanted)
        first, last = text_vectors.shared.split(DIM, dim=1)
        wanted = (text.mean_local, text.context) if context_first else (text.context, text.mean_local)
        torch.testing.assert_close((first, last), wanted)


def test_without_context_embedding_the_vectors_are_the_hosts() -> None:
    made, images = module(context_embedding=False), host(views=2)
    context, vectors = made.encode_image(images)
    assert (vectors.shared.shape, context.guide.shape) == ((3, 0), (3, DIM))
    torch.testing.assert_close(vectors.concatenated(), RetrievalVectors(images.pooled, vectors.shared).pooled)


@pytest.mark.parametrize(
    ("switch", "part"), [("masked_means", "mean_local"), ("masked_batchnorm", "locals"), ("masked_keys", "mask")]
)
def test_switches_concern_captions_only(switch: str, part: str) -> None:
    corrected, published = module(), module(**{switch: False})
    for made in (corrected, published):
        made.train()
    torch.testing.assert_close(
        getattr(published.encode_image(host(views=1))[0], part),
        getattr(corrected.encode_image(host(views=1))[0], part),
    )
    text, other = corrected.encode_text(host())[0], published.encode_text(host())[0]
    assert not torch.equal(getattr(text, part), getattr(other, part))


def test_switches_make_no_difference_without_padding() -> None:
    corrected = module()
    published = module(masked_means=False, masked_batchnorm=False, masked_keys=False)
    for found, expected in zip(
        vars(published.encode_text(host(padded=False))[0]).values(),
        vars(corrected.encode_text(host(padded=False))[0]).values(),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_the_two_sides_share_nothing() -> None:
    made = module()
    made.encode_image(host(views=1))[1].shared.sum().backward()
    assert all(value.grad is not None for value in made.image_head.parameters())
    assert all(value.grad is None for value in made.text_head.parameters())


def test_gradient() -> None:
    made = head()
    weights = [draw(3, DIM, seed=seed) for seed in (1, 2, 3)]

    def total(states: Tensor) -> Tensor:
        out = made(states * MASK.unsqueeze(-1), mean_mask=MASK, norm_mask=MASK, key_mask=MASK)
        parts = (out.guide, out.context, out.mean_local)
        return torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()

    assert torch.autograd.gradcheck(total, (draw(3, 4, DIM).requires_grad_(),))
