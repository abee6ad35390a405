"""The whole loss: which terms take part, with which weight, and what they are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.tiny_models import CAMERA, VSRN, Tiny, build_tiny, pairs
from torch import Tensor, nn

from selfalign_cli.encodings import PairBatch
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.losses.diversity import diversity_loss
from selfalign_cli.losses.objective import Objective, Term
from selfalign_cli.losses.ranking import hinge_loss
from selfalign_cli.similarity import similarity

COUNTS, LENGTHS = [4, 6, 5, 6], [7, 5, 4, 3]


def tiny(text: str = VSRN, *overrides: str) -> Tiny:
    return build_tiny(text, *overrides, dtype=torch.float64).train()


def batch(index: list[int] | None = None) -> PairBatch:
    found = pairs(COUNTS, LENGTHS).to("cpu", torch.float64)
    return found if index is None else replace(found, images=replace(found.images, index=torch.tensor(index)))


def terms(
    text: str = VSRN, *overrides: str, index: list[int] | None = None, warmup: bool = False
) -> dict[str, Tensor]:
    return tiny(text, *overrides).losses(batch(index), warmup=warmup)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (VSRN, {"ranking": 1.0, "concept": 1.0, "context_image": 0.5, "context_text": 0.5, "captioning": 1.0}),
        (CAMERA, {"ranking": 1.0, "concept": 1.0, "context_image": 0.5, "context_text": 0.5, "diversity": 0.01}),
    ],
    ids=["vsrn", "camera"],
)
def test_total_is_the_published_sum(text: str, weights: dict[str, float]) -> None:
    found = terms(text)
    assert set(found) == {*weights, "total"}
    torch.testing.assert_close(found["total"], sum(weight * found[name] for name, weight in weights.items()))
    assert all(bool(term > 0) for term in found.values())


@pytest.mark.parametrize("name", ["concept", "context", "captioning"])
def test_weights_are_factors(name: str) -> None:
    light, heavy = terms(), terms(VSRN, f"loss.{name}.weight=3.0")
    own = (light["context_image"] + light["context_text"]) / 2 if name == "context" else light[name]
    torch.testing.assert_close(heavy["total"], light["total"] + 2 * own)
    for term in set(light) - {"total"}:
        torch.testing.assert_close(heavy[term], light[term])


@pytest.mark.parametrize(
    ("text", "name", "gone"),
    [
        (VSRN, "concept", {"concept"}),
        (VSRN, "context", {"context_image", "context_text"}),
        (VSRN, "captioning", {"captioning"}),
        (CAMERA, "diversity", {"diversity"}),
    ],
)
def test_weight_zero_leaves_a_term_out(text: str, name: str, gone: set[str]) -> None:
    assert set(terms(text)) - set(terms(text, f"loss.{name}.weight=0.0")) == gone


@pytest.mark.parametrize(
    ("override", "gone"),
    [
        ("loss.concept.enabled=false", {"concept"}),
        ("loss.context.enabled=false", {"context_image", "context_text"}),
        ("loss.captioning=null", {"captioning"}),
        ("selfalign.enabled=false", {"concept", "context_image", "context_text"}),
    ],
)
def test_a_term_that_is_switched_off_is_gone(override: str, gone: set[str]) -> None:
    assert set(terms()) - set(terms(VSRN, override)) == gone


def test_the_host_alone_has_ranking_and_captioning() -> None:
    found = terms(VSRN, "selfalign.enabled=false")
    torch.testing.assert_close(found["total"], found["ranking"] + found["captioning"])


@pytest.mark.parametrize("text", [VSRN, CAMERA], ids=["vsrn", "camera"])
def test_terms_are_what_their_functions_give(text: str) -> None:
    """Pictures are keys for the captions' guides at one temperature, words for the pictures' at the other."""
    made = tiny(text, "loss.context.image_temperature=0.3", "loss.context.text_temperature=0.9")
    pairs_, different = batch(), torch.eye(4, dtype=torch.bool)
    images, texts = made.model.encode_image(pairs_.images), made.model.encode_text(pairs_.texts)
    found = made.objective(images, texts, pairs_, warmup=False)
    assert images.context is not None
    assert texts.context is not None
    scores = similarity(images.vectors, texts.vectors)
    expected = {
        "ranking": hinge_loss(scores, margin=0.2, mode="hardest", same=different),
        "context_image": context_alignment_loss(
            texts.context.guide, images.context.locals, temperature=0.3, negatives=5, mask=pairs_.images.mask
        ),
        "context_text": context_alignment_loss(
            images.context.guide, texts.context.locals, temperature=0.9, negatives=5, mask=pairs_.texts.mask
        ),
        "concept": made.objective.concept(
            images.host.concepts, pairs_.images.mask, texts.host.concepts, pairs_.texts.mask
        ),
    }
    if text is CAMERA:
        expected["diversity"] = diversity_loss(images.host.extras["view_logits"], pairs_.images.mask)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    ("warmup", "override", "mode"),
    [
        (False, "loss.ranking.hardest_negative=true", "hardest"),
        (False, "loss.ranking.hardest_negative=false", "sum"),
        (True, "loss.ranking.hardest_negative=true", "mean"),
        (True, "loss.ranking.hardest_negative=false", "mean"),
    ],
)
def test_warmup_takes_the_mean_violation(warmup: bool, override: str, mode: str) -> None:
    made, pairs_ = tiny(VSRN, override), batch()
    images, texts = made.model.encode_image(pairs_.images), made.model.encode_text(pairs_.texts)
    expected = hinge_loss(similarity(images.vectors, texts.vectors), margin=0.2, mode=mode)  # type: ignore[arg-type]
    found = made.objective(images, texts, pairs_, warmup=warmup)["ranking"]
    torch.testing.assert_close(found, expected)


def test_mean_reduction_divides_the_hinge_by_the_batch() -> None:
    torch.testing.assert_close(terms(VSRN, "loss.ranking.reduction=mean")["ranking"], terms()["ranking"] / 4)


def test_captions_of_one_picture_are_negatives_only_as_published() -> None:
    """With every pair of one picture, no negative is left but the published ones."""
    one = [3, 3, 3, 3]
    corrected = terms(index=one)
    assert corrected["ranking"] == corrected["context_image"] == corrected["context_text"] == 0.0
    published = terms(VSRN, "loss.same_image_negatives=true", index=one)
    for name, value in terms().items():
        torch.testing.assert_close(published[name], value)


def test_same_picture_pairs_change_only_the_terms_with_negatives() -> None:
    different, shared = terms(), terms(index=[0, 1, 0, 2])
    assert shared["ranking"] < different["ranking"]
    assert shared["context_image"] < different["context_image"]
    for name in ("concept", "captioning"):
        torch.testing.assert_close(shared[name], different[name])


@pytest.mark.parametrize("text", [VSRN, CAMERA], ids=["vsrn", "camera"])
@pytest.mark.parametrize("preset", ["corrected", "published"])
def test_one_pair_alone_trains(text: str, preset: str) -> None:
    made = tiny(text, f"compat={preset}")
    found = made.losses(pairs([4], [5]).to("cpu", torch.float64))
    found["total"].backward()
    assert all(torch.isfinite(term) for term in found.values())
    for name, parameter in made.trainable().items():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def toy(name: str, **changes: object) -> Term:
    fields: dict[str, object] = {"weight": 1.0, "weight_key": None, "function": torch.sum, "reads": {}, **changes}
    return Term(name, **fields)  # type: ignore[arg-type]


def test_a_term_that_reads_what_no_encoder_gives_is_an_error() -> None:
    """An extra of another host, a misspelt field, a part that is switched off, something that is no tensor."""
    made, pairs_ = tiny(VSRN, "selfalign.enabled=false"), batch()
    for path in ("images.host.extras.view_logits", "texts.hots.mask", "images.context.guide", "batch.images"):
        objective = Objective([toy("toy", reads={"input": path})])
        images, texts = made.model.encode_image(pairs_.images), made.model.encode_text(pairs_.texts)
        with pytest.raises(LookupError, match=f"a loss term reads {path}, which this model does not give"):
            objective(images, texts, pairs_, warmup=False)


def test_clashing_names_and_shared_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="two terms have the same name"):
        Objective([toy("toy"), toy("toy")])
    with pytest.raises(ValueError, match="two modules would have the same name in a checkpoint: shared"):
        Objective([toy(name, settings={"shared": nn.Linear(1, 1)}) for name in ("first", "second")])
    shared = nn.Linear(1, 1)
    objective = Objective([toy(name, settings={"shared": shared}) for name in ("first", "second")])
    assert list(objective.state_dict()) == ["shared.weight", "shared.bias"]
    with pytest.raises(ValueError, match="a per-pair term shares parameters with a term of the whole batch"):
        Objective([toy("first", settings={"second": shared}), toy("second", function=shared, per_pair=True)])
