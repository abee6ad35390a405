"""What every encoder owes: vectors and losses that know nothing of padding or neighbours, trained parameters, recipes.

A new backbone joins by one line in ENCODERS.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.tiny_models import (
    CAMERA,
    DIM,
    VSE_INFTY,
    VSE_INFTY_BERT,
    VSRN,
    Tiny,
    build_tiny,
    captions,
    pairs,
    pictures,
)
from support.toy_host import TOY, TOY_HOST, toy_host_known
from torch import Tensor

from selfalign_cli.encodings import ImageBatch, RetrievalVectors, TextBatch
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.schema import PaddingSection

ENCODERS: dict[str, str] = {
    "vsrn": VSRN,
    "camera": CAMERA,
    "vse_infty": VSE_INFTY,
    "vse_infty_bert": VSE_INFTY_BERT,
    "toy": TOY,
}
TABLE = {**HOSTS, TOY_HOST.name: TOY_HOST}
ORDER = "order"
ABLATIONS: dict[str, tuple[str, ...]] = {
    "whole": (),
    "published": ("compat=published",),
    "host alone": ("selfalign.enabled=false",),
    "no concept loss": ("loss.concept.enabled=false",),
    "no context loss": ("loss.context.enabled=false",),
    "no context in the vectors": ("selfalign.context_embedding=false",),
    "concept loss only": ("loss.context.enabled=false", "selfalign.context_embedding=false"),
    "no relu": ("selfalign.relu=false",),
    "over the embedding": ("model.normalize_over=embedding",),
    "absolute": ("model.absolute=true",),
    "no batch normalisation": ("model.final_batchnorm=false",),
    "normalised regions": ("model.normalize_regions=true",),
    "no caption generator": ("loss.captioning=null",),
    "regions learn concepts": ("loss.concept.image_gradient=true",),
    "mean violations": ("loss.ranking.hardest_negative=false",),
    ORDER: ("loss.ranking.similarity=order",),
    "no diversity": ("loss.diversity=null",),
    "two layers, unlike maps": ("model.attention_layers=2", "model.equal_start=false"),
    "bert trained": ("model.finetune=true",),
    "bert frozen": ("model.finetune=false",),
    "concepts of states": ("model.concepts=states",),
    "longer vectors": ("model.normalize_text=false", "model.normalize_image=false"),
    "infonce": ("loss.ranking.kind=infonce",),
    "sigmoid, all fixed": ("loss.ranking.kind=sigmoid", "loss.ranking.learn_temperature=false"),
}
BEFORE_BATCHNORM = ("out.bias", "_head.fc.bias", "value.bias", "feed_forward.3.bias", "image.hidden.bias")
WITHOUT_EFFECT = (*BEFORE_BATCHNORM, "self.key.bias")  # the last moves all scores of a softmax alike
EXACT = 1e-10
COUNTS, LENGTHS = [4, 7, 5, 6], [9, 7, 5, 4]


def applies(host: str, ablation: str) -> bool:
    """Whether a host has the keys of an ablation; `order` compares single vectors, not views."""
    keys = {override.partition("=")[0] for override in ABLATIONS[ablation]}
    model_keys = {key.removeprefix("model.") for key in keys if key.startswith("model.")}
    extra_terms = {"captioning", "diversity"} & {key.removeprefix("loss.") for key in keys}
    fields = TABLE[host].section.model_fields.keys()
    single_vector = ablation != ORDER or "views" not in fields
    return single_vector and model_keys <= fields and extra_terms <= set(TABLE[host].feeds)


each_encoder = pytest.mark.parametrize("encoder", ENCODERS)
HOST_AND_ABLATION = [(host, name) for host in ENCODERS for name in ABLATIONS if applies(host, name)]
each_ablation = pytest.mark.parametrize(("encoder", "ablation"), HOST_AND_ABLATION)
each_corrected = pytest.mark.parametrize(
    ("encoder", "ablation"), [pair for pair in HOST_AND_ABLATION if pair[1] != "published"]
)


@pytest.fixture(scope="module", autouse=True)
def _toy_host() -> Iterator[None]:
    with toy_host_known():
        yield


def evaluated(encoder: str, *overrides: str) -> Tiny:
    return build_tiny(ENCODERS[encoder], *overrides).train(mode=False)


def trained(encoder: str, *overrides: str) -> Tiny:
    return build_tiny(ENCODERS[encoder], *overrides, dtype=torch.float64).train()


@torch.no_grad()
def image_vectors(tiny: Tiny, batch: ImageBatch) -> Tensor:
    return tiny.model.encode_image(batch).vectors.concatenated()


@torch.no_grad()
def caption_vectors(tiny: Tiny, batch: TextBatch) -> Tensor:
    return tiny.model.encode_text(batch).vectors.concatenated()


def assert_equal_vectors(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@each_encoder
def test_a_caption_alone_among_long_ones_in_any_order(encoder: str) -> None:
    tiny = evaluated(encoder)
    alone = torch.cat([caption_vectors(tiny, captions([n], first=row)) for row, n in enumerate(LENGTHS)])
    assert_equal_vectors(caption_vectors(tiny, captions(LENGTHS)), alone)
    assert_equal_vectors(caption_vectors(tiny, captions(LENGTHS, width=16)), alone)
    halves = [caption_vectors(tiny, captions(LENGTHS[row : row + 2], first=row)) for row in (0, 2)]
    assert_equal_vectors(torch.cat(halves), alone)
    order, batch = torch.tensor([2, 0, 3, 1]), captions(LENGTHS)
    assert_equal_vectors(caption_vectors(tiny, TextBatch(batch.ids[order], batch.mask[order])), alone[order])


@each_encoder
def test_a_picture_alone_among_larger_ones_in_any_order(encoder: str) -> None:
    tiny = evaluated(encoder)
    alone = torch.cat([image_vectors(tiny, pictures([n], first=row)) for row, n in enumerate(COUNTS)])
    assert_equal_vectors(image_vectors(tiny, pictures(COUNTS)), alone)
    assert_equal_vectors(image_vectors(tiny, pictures(COUNTS, width=12, filler=3.0)), alone)
    halves = [image_vectors(tiny, pictures(COUNTS[row : row + 2], first=row)) for row in (0, 2)]
    assert_equal_vectors(torch.cat(halves), alone)
    order, batch = torch.tensor([2, 0, 3, 1]), pictures(COUNTS)
    moved = ImageBatch(*(None if value is None else value[order] for value in vars(batch).values()))  # type: ignore[arg-type]
    assert_equal_vectors(image_vectors(tiny, moved), alone[order])


@each_encoder
def test_published_captions_depend_on_their_padding(encoder: str) -> None:
    """The switches do something (M2, M4), which no host but the first two has published so; pictures have no padding
    in the published data."""
    guarded = ["model.guard_boxes=true"] if "guard_boxes" in TABLE[encoder].section.model_fields else []
    unmasked = [f"padding.{name}=false" for name in PaddingSection.model_fields]
    tiny = evaluated(encoder, "compat=published", *unmasked, *guarded)
    tight, wide = (caption_vectors(tiny, captions([5], width=width)) for width in (5, 16))
    assert (tight - wide).abs().max() > 1e-3
    assert_equal_vectors(image_vectors(tiny, pictures([5], width=9, filler=3.0)), image_vectors(tiny, pictures([5])))


def losses_and_gradients(tiny: Tiny, **widths: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    losses = tiny.losses(pairs(COUNTS, LENGTHS, **widths).to("cpu", torch.float64))
    losses["total"].backward()
    gradients = {name: value.grad for name, value in tiny.trainable().items() if value.grad is not None}
    return losses, gradients


@each_corrected
def test_more_padding_changes_no_loss_and_no_gradient(encoder: str, ablation: str) -> None:
    tight, wide = (trained(encoder, *ABLATIONS[ablation]) for _ in range(2))
    losses, gradients = losses_and_gradients(tight)
    wider_losses, wider_gradients = losses_and_gradients(wide, regions=12, words=16)
    torch.testing.assert_close(wider_losses, losses, atol=EXACT, rtol=0)
    torch.testing.assert_close(wider_gradients, gradients, atol=EXACT, rtol=0)
    torch.testing.assert_close(wide.model.state_dict(), tight.model.state_dict(), atol=EXACT, rtol=0)


@each_encoder
@pytest.mark.parametrize("row", ["masked_means", "masked_batchnorm", "masked_attention"])
def test_each_padding_switch_changes_the_loss(encoder: str, row: str) -> None:
    corrected = trained(encoder).losses(pairs(COUNTS, LENGTHS).to("cpu", torch.float64))["total"]
    published = trained(encoder, f"padding.{row}=false").losses(pairs(COUNTS, LENGTHS).to("cpu", torch.float64))
    assert (published["total"] - corrected).abs() > 1e-6


@each_encoder
def test_order_of_the_pairs_does_not_matter(encoder: str) -> None:
    batch, order = pairs(COUNTS, LENGTHS).to("cpu", torch.float64), torch.tensor([2, 0, 3, 1])

    def moved(part: object) -> object:
        values = (None if value is None else value[order] for value in vars(part).values())
        return type(part)(*values)

    shuffled = type(batch)(moved(batch.images), moved(batch.texts), batch.captions[order])  # type: ignore[arg-type]
    found, expected = trained(encoder).losses(shuffled), trained(encoder).losses(batch)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)


@each_ablation
def test_every_parameter_learns(encoder: str, ablation: str) -> None:
    tiny = trained(encoder, *ABLATIONS[ablation])
    _, gradients = losses_and_gradients(tiny)
    unreached = {name for name in tiny.trainable() if name not in gradients}
    gates = {name for name in tiny.trainable() if "_head.gate." in name}  # only the retrieval vectors read them
    assert unreached == (gates if ablation == "no context in the vectors" else set())
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name
        if not name.endswith(WITHOUT_EFFECT):
            assert gradient.abs().max() > 1e-9, name


@each_ablation
def test_the_groups_of_the_optimizer_hold_every_parameter_once(encoder: str, ablation: str) -> None:
    tiny = trained(encoder, *ABLATIONS[ablation])
    grouped = [id(parameter) for parameter in tiny.groups.all()]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in tiny.trainable().values()}


@each_encoder
def test_shapes(encoder: str) -> None:
    tiny = evaluated(encoder)
    image, text = tiny.model.encode_image(pictures(COUNTS)), tiny.model.encode_text(captions(LENGTHS))
    assert image.host.pooled.dim() == 3
    assert (image.host.pooled.shape[0], image.host.pooled.shape[2]) == (4, DIM)
    assert text.host.pooled.shape == (4, DIM)
    assert (image.host.states.shape, text.host.states.shape) == ((4, 7, DIM), (4, 9, DIM))
    assert (image.host.concepts.shape, text.host.concepts.shape) == ((4, 7, DIM), (4, 9, DIM))
    assert torch.equal(image.host.mask, pictures(COUNTS).mask)
    assert torch.equal(text.host.mask, captions(LENGTHS).mask)
    assert image.vectors.shared.shape == text.vectors.shared.shape == (4, 2 * DIM)


@each_encoder
def test_the_host_alone_has_no_context(encoder: str) -> None:
    tiny = evaluated(encoder, "selfalign.enabled=false")
    image, text = tiny.model.encode_image(pictures(COUNTS)), tiny.model.encode_text(captions(LENGTHS))
    assert image.context is None
    assert text.context is None
    assert image.vectors.shared.shape == text.vectors.shared.shape == (4, 0)


@each_encoder
def test_vectors_and_concepts_have_unit_length(encoder: str) -> None:
    tiny = evaluated(encoder)
    for encoding in (tiny.model.encode_image(pictures(COUNTS)), tiny.model.encode_text(captions(LENGTHS))):
        for unit in (encoding.host.pooled, encoding.host.concepts[encoding.host.mask]):
            torch.testing.assert_close(unit.norm(dim=-1), torch.ones(unit.shape[:-1]))


@each_encoder
@pytest.mark.parametrize("counts", [[1], [1, 9], [36, 10, 100]], ids=str)
def test_any_number_of_regions(encoder: str, counts: list[int]) -> None:
    found = image_vectors(evaluated(encoder), pictures(counts))
    assert found.shape[0] == len(counts)
    assert torch.isfinite(found).all()


@each_encoder
@pytest.mark.parametrize("lengths", [[2], [16, 2]], ids=str)
def test_captions_of_marks_only(encoder: str, lengths: list[int]) -> None:
    assert torch.isfinite(caption_vectors(evaluated(encoder), captions(lengths))).all()


@each_encoder
def test_the_same_seed_gives_the_same_model_and_the_same_numbers(encoder: str) -> None:
    first, second = trained(encoder), trained(encoder)
    other = build_tiny(ENCODERS[encoder], dtype=torch.float64, seed=1)
    for name, value in first.trainable().items():
        assert torch.equal(value, second.trainable()[name]), name
    assert not all(
        torch.equal(a, b) for a, b in zip(first.trainable().values(), other.trainable().values(), strict=True)
    )
    for found, expected in zip(losses_and_gradients(first), losses_and_gradients(second), strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@each_encoder
def test_evaluation_changes_no_state(encoder: str) -> None:
    tiny = evaluated(encoder)
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    image_vectors(tiny, pictures(COUNTS)), caption_vectors(tiny, captions(LENGTHS))
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())


@each_encoder
def test_saving_and_loading_a_state_changes_no_vector(encoder: str) -> None:
    first, second = evaluated(encoder), build_tiny(ENCODERS[encoder], seed=1).train(mode=False)
    second.model.load_state_dict(first.model.state_dict())
    assert torch.equal(image_vectors(second, pictures(COUNTS)), image_vectors(first, pictures(COUNTS)))
    assert torch.equal(caption_vectors(second, captions(LENGTHS)), caption_vectors(first, captions(LENGTHS)))


@each_encoder
def test_vectors_concatenate_to_what_is_scored(encoder: str) -> None:
    vectors = evaluated(encoder).model.encode_text(captions(LENGTHS)).vectors
    assert isinstance(vectors, RetrievalVectors)
    assert vectors.concatenated().shape == (4, vectors.pooled.shape[-1] + vectors.shared.shape[-1])
