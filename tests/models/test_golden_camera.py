"""CAMERA with SelfAlign against the released code: outputs, losses, gradients, one and five optimizer steps."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.golden import (
    PRECISIONS,
    golden_root,
    model_cases,
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
    camera_batch,
)
from torch import Tensor

from selfalign_cli.assembly.optimizer import training_quirks
from selfalign_cli.similarity import similarity

CASES = model_cases("position_enc")

pytestmark = [
    pytest.mark.parametrize("case", CASES),
    pytest.mark.parametrize("precision", PRECISIONS),
]


@cache
def model(case: str, precision: str) -> GoldenModel:
    return GoldenModel(golden_root() / case, PRECISIONS[precision])


def outputs(golden: GoldenModel, index: int, *, halved: bool) -> dict[str, Tensor]:
    """What the published encoders return, under their names."""
    batch = camera_batch(golden.folder, index, golden.dtype)
    assert golden.model.token_encoder is not None
    with torch.no_grad():
        images, texts = golden.model.encode_image(batch.images), golden.model.encode_text(batch.texts)
        hidden = golden.model.token_encoder.states(batch.texts)
    assert images.context is not None
    assert texts.context is not None
    half = 0.5 if halved else 1.0
    scores = similarity(images.vectors, texts.vectors)
    return {
        "bert_last_hidden": hidden,
        "img_views": images.host.pooled,
        "smry_mat": images.host.extras["view_logits"],
        "img_fc_emb": images.host.concepts,
        "cap_emb": texts.host.pooled,
        "cap_local_emb": texts.host.concepts,
        "img_atd_glo": images.context.guide,
        "cap_atd_glo": texts.context.guide,
        "img_locals": images.context.locals * half,
        "cap_locals": texts.context.locals,
        "img_ctx_fea": images.context.context * half,
        "cap_ctx_fea": texts.context.context,
        "retrieval_img": images.vectors.concatenated(),
        "retrieval_cap": texts.vectors.concatenated(),
        "sim": scores,
        "sim_equal": scores,
        "sim_unequal": scores[:-1],
    }


def test_golden_evaluation_outputs(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=False)
    file = golden.folder / "eval.safetensors"
    batches = sorted({name.split(".")[0] for name in under(tensors(file), precision)})
    assert batches
    for batch in batches:
        found = outputs(golden, int(batch.removeprefix("batch")), halved=True)
        assert_outputs(found, file, precision, f".{batch}")


def test_golden_training_outputs(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=True)
    assert_outputs(outputs(golden, 0, halved=False), golden.folder / "train.safetensors", precision)


def test_golden_gradients(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=True)
    golden.backward(camera_batch(golden.folder, 0, golden.dtype))
    path = golden.folder / f"grads_{precision}.safetensors"
    golden.assert_gradients(path, GRADIENT[precision], noise=ZERO_GRADIENT[precision])


@pytest.mark.parametrize("epoch", [0, 1])
def test_golden_optimizer_steps(case: str, precision: str, epoch: int) -> None:
    golden = model(case, precision).start(training=True)
    suffix = f"epoch{epoch}_{precision}"
    losses, exact = (golden.meta["losses_per_step"][f"{name}_epoch{epoch}"] for name in (precision, "f64"))
    assert losses
    for index, expected in enumerate(losses):
        batch = camera_batch(golden.folder, index, golden.dtype)
        terms = golden.step(batch, training_quirks(golden.recipe, epoch=epoch))
        # Losses of later steps carry the parameter differences of the steps before.
        golden.assert_losses(terms, expected, exact[index], LOSS[precision] * (1 if index == 0 else 100))
        path = golden.folder / f"step{index + 1}_{suffix}.safetensors"
        if path.exists():
            golden.assert_state(
                path,
                tolerance=STEP[precision][index > 0],
                zero_gradient_tolerance=ZERO_GRADIENT_STEP.get(precision, 2 * golden.learning_rate * (index + 1)),
            )


def test_golden_bert_stays_as_it_was(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=True)
    golden.step(camera_batch(golden.folder, 0, golden.dtype))
    frozen = {name: value for name, value in golden.initial.items() if name.startswith("model.text.bert.")}
    assert frozen
    now = golden.state()
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_golden_optimizer_is_ours(case: str, precision: str) -> None:
    model(case, precision).start(training=True).assert_optimizer()
