"""VSRN with SelfAlign against the released code: outputs, losses, gradients, one and five optimizer steps."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.golden import (
    PRECISIONS,
    golden_root,
    model_cases,
    settings,
    tensors,
    under,
)
from support.golden_models import (
    GRADIENT,
    LOSS,
    STEP,
    ZERO_GRADIENT,
    ZERO_GRADIENT_STEP,
    GoldenModel,
    assert_outputs,
    vsrn_batch,
)

from selfalign_cli.assembly.optimizer import NO_QUIRKS, training_quirks

CASES = model_cases("Rs_GCN_1")

pytestmark = [
    pytest.mark.parametrize("case", CASES),
    pytest.mark.parametrize("precision", PRECISIONS),
]


@cache
def model(case: str, precision: str, relu: bool = True) -> GoldenModel:
    built = GoldenModel(golden_root() / case, PRECISIONS[precision], relu=relu)
    return built


def outputs(golden: GoldenModel, index: int, *, halved: bool) -> dict[str, torch.Tensor]:
    """What the published encoders return, under their names."""
    batch = vsrn_batch(golden.folder, index, golden.dtype)
    with torch.no_grad():
        images, texts = golden.model.encode_image(batch.images), golden.model.encode_text(batch.texts)
    assert images.context is not None
    assert texts.context is not None
    half = 0.5 if halved else 1.0
    return {
        "img_emb": images.host.pooled[:, 0],
        "cap_emb": texts.host.pooled,
        "gcn_img_emd": images.host.extras["regions"],
        "img_loc_feas": images.host.concepts,
        "cap_loc_feas": texts.host.concepts,
        "img_atd_glo": images.context.guide,
        "cap_atd_glo": texts.context.guide,
        "img_locals": images.context.locals * half,
        "cap_locals": texts.context.locals,
        "img_ctx_fea": images.context.context * half,
        "cap_ctx_fea": texts.context.context,
        "retrieval_img": images.vectors.concatenated()[:, 0],
        "retrieval_cap": texts.vectors.concatenated(),
    }


def test_golden_evaluation_outputs(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=False)
    expected = under(tensors(golden.folder / "eval.safetensors"), precision)
    batches = sorted({name.split(".")[0] for name in expected})
    assert batches
    for batch in batches:
        found = outputs(golden, int(batch.removeprefix("batch")), halved=True)
        assert_outputs(found, golden.folder / "eval.safetensors", precision, f".{batch}")


def test_golden_training_outputs(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=True)
    assert_outputs(outputs(golden, 0, halved=False), golden.folder / "train.safetensors", precision)


def test_golden_outputs_without_context_relu(case: str, precision: str) -> None:
    golden = model(case, precision, relu=False).start(training=False)
    assert_outputs(outputs(golden, 0, halved=True), golden.folder / "ctx_relu_0.safetensors", precision, ".eval")


def test_golden_losses_without_context_relu(case: str, precision: str) -> None:
    golden = model(case, precision, relu=False).start(training=True)
    losses = settings(golden.folder / "meta.json")["ctx_relu_0_losses"]
    terms = golden.step(vsrn_batch(golden.folder, 0, golden.dtype), training_quirks(golden.recipe, epoch=0))
    golden.assert_losses(terms, losses[precision], losses["f64"], LOSS[precision])


def test_golden_gradients(case: str, precision: str) -> None:
    path = golden_root() / case / f"grads_{precision}.safetensors"
    golden = model(case, precision).start(training=True)
    golden.backward(vsrn_batch(golden.folder, 0, golden.dtype))
    golden.assert_gradients(path, GRADIENT[precision], noise=ZERO_GRADIENT[precision])


@pytest.mark.parametrize("twice", [True, False], ids=["published", "dedup"])
def test_golden_optimizer_steps(case: str, precision: str, twice: bool) -> None:
    golden = model(case, precision).start(training=True)
    suffix = precision if twice else f"dedup_{precision}"
    form = "{}" if twice else "{}_dedup"
    losses, exact = (golden.meta["losses_per_step"][form.format(name)] for name in (precision, "f64"))
    assert losses
    quirks = training_quirks(golden.recipe, epoch=0) if twice else NO_QUIRKS
    for index, expected in enumerate(losses):
        terms = golden.step(vsrn_batch(golden.folder, index, golden.dtype), quirks)
        # Losses of later steps carry the parameter differences of the steps before.
        golden.assert_losses(terms, expected, exact[index], LOSS[precision] * (1 if index == 0 else 100))
        path = golden.folder / f"step{index + 1}_{suffix}.safetensors"
        if path.exists():
            golden.assert_state(
                path,
                tolerance=STEP[precision][index > 0],
                zero_gradient_tolerance=ZERO_GRADIENT_STEP.get(precision, 2 * golden.learning_rate * (index + 1)),
            )


def test_golden_optimizer_is_ours(case: str, precision: str) -> None:
    model(case, precision).start(training=True).assert_optimizer()
