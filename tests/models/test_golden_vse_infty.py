"""VSE∞ against the released code: outputs, losses, gradients, one and five AdamW steps, warm-up, BERT's dropout."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from support.golden import PRECISIONS, difference, golden_root, model_cases, tensors, under
from support.golden_models import (
    EVAL,
    GRADIENT,
    LOSS,
    STEP,
    ZERO_GRADIENT,
    ZERO_GRADIENT_STEP,
    GoldenModel,
    assert_outputs,
    expected_state,
    vse_infty_batch,
)
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.encodings import HostEncoding
from selfalign_cli.models.bert import bert_from_config
from selfalign_cli.models.parts.gpo import GeneralizedPooling
from selfalign_cli.similarity import similarity

CASES = model_cases("gpool")
each_case = pytest.mark.parametrize("case", CASES)
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


@cache
def model(case: str, precision: str) -> GoldenModel:
    return GoldenModel(golden_root() / case, PRECISIONS[precision])


@torch.no_grad()
def outputs(golden: GoldenModel, index: int) -> dict[str, Tensor]:
    """What the published encoders return, under their names, and what is inside of them."""
    batch = vse_infty_batch(golden.folder, index, golden.dtype)
    images, texts = golden.model.encode_image(batch.images), golden.model.encode_text(batch.texts)
    found = {"img_emb": images.host.pooled[:, 0], "cap_emb": texts.host.pooled}
    for side, encoding, encoder in (("img", images.host, golden.model.image), ("cap", texts.host, golden.model.text)):
        found[f"{side}_features"] = encoding.states
        found[f"{side}_weights"] = pooling(encoder).weights(encoding.mask.sum(1), encoding.mask.shape[1])
        found[f"{side}_pooled"] = pooling(encoder)(encoding.states, encoding.mask)
    if golden.model.token_encoder is not None:
        found["bert_last_hidden"] = golden.model.token_encoder.states(batch.texts)
    return {**found, "sim": similarity(images.vectors, texts.vectors)}


def pooling(encoder: nn.Module) -> GeneralizedPooling:
    found = encoder.get_submodule("pool")
    assert isinstance(found, GeneralizedPooling)
    return found


@each_case
@each_precision
@pytest.mark.parametrize("batch", [0, 1])
def test_golden_evaluation_outputs(case: str, precision: str, batch: int) -> None:
    golden = model(case, precision).start(training=False)
    assert_outputs(outputs(golden, batch), golden.folder / "eval.safetensors", precision, f".batch{batch}")


@each_case
@each_precision
def test_golden_training_outputs(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=True)
    assert_outputs(outputs(golden, 0), golden.folder / "train.safetensors", precision)


@each_case
@pytest.mark.parametrize(("warmup", "precision"), [(False, "f64"), (False, "f32"), (True, "f64")])
def test_golden_gradients(case: str, warmup: bool, precision: str) -> None:
    path = golden_root() / case / f"grads_{'warmup_' * warmup}{precision}.safetensors"
    golden = model(case, precision).start(training=True)
    golden.backward(vse_infty_batch(golden.folder, 0, golden.dtype), warmup=warmup)
    golden.assert_gradients(path, GRADIENT[precision], noise=ZERO_GRADIENT[precision])


@each_case
@pytest.mark.parametrize("run", ["f64", "f32", "warmup_f64", "warmup_f32", "schedule_f64"])
def test_golden_optimizer_steps(case: str, run: str) -> None:
    precision = run[-3:]
    golden = model(case, precision).start(training=True)
    kind = run.removesuffix(f"_{precision}") if "_" in run else ""
    name, double = (f"{p}_{kind}" if kind else p for p in (precision, "f64"))
    expected, exact = golden.meta["losses_per_step"][name], golden.meta["losses_per_step"][double]
    assert expected
    for index, (epoch, losses) in enumerate(zip(epochs_of(golden, kind), expected, strict=True)):
        warmup = epoch < golden.recipe.loss.ranking.warmup_epochs
        assert warmup is not losses["max_violation"]
        for group in golden.optimizer.param_groups:
            optim = golden.recipe.optim
            group["lr"] = group["initial_lr"] * optim.decay_factor ** (epoch // optim.decay_every)
        rates = sorted({group["lr"] for group in golden.optimizer.param_groups})
        assert rates == pytest.approx(sorted(set(losses["lr"])))
        terms = golden.step(vse_infty_batch(golden.folder, index, golden.dtype), warmup=warmup)
        golden.assert_losses(terms, losses, exact[index], LOSS[precision] * (1 if index == 0 else 100))
        path = golden.folder / f"step{index + 1}_{run}.safetensors"
        if path.exists():
            golden.assert_state(
                path,
                tolerance=STEP[precision][index > 0],
                zero_gradient_tolerance=ZERO_GRADIENT_STEP.get(precision, 2 * golden.learning_rate * (index + 1)),
            )


def epochs_of(golden: GoldenModel, kind: str) -> list[int]:
    """Epochs of the recorded steps: beyond the warm-up, in it, or as the schedule says."""
    steps = len(golden.meta["losses_per_step"]["f64"])
    if kind == "schedule":
        return [step["epoch"] for step in golden.meta["schedule"]]
    return [0 if kind == "warmup" else golden.recipe.loss.ranking.warmup_epochs] * steps


@each_case
def test_golden_optimizer_is_ours(case: str) -> None:
    """Kind, step sizes, decay and eps of every parameter."""
    golden = model(case, "f64").start(training=True)
    told = golden.meta["optimizer"]
    assert type(golden.optimizer).__name__ == told["name"]
    names = {id(value): name for name, value in golden.parameters().items()}
    found = {
        names[id(value)]: (group["lr"], group["weight_decay"], list(group["betas"]), group["eps"], group["amsgrad"])
        for group in golden.optimizer.param_groups
        for value in group["params"]
    }
    without = {*golden.meta["no_gradient_params"]}
    expected = {}
    for group in told["groups"]:
        for theirs in tensors(golden.folder / "init.safetensors"):
            if theirs.startswith(tuple(f"{part}." for part in group["parts"])) and theirs not in without:
                ours = golden._rename(theirs)
                values = (group["lr_at_start"], group["weight_decay"], group["betas"], group["eps"], group["amsgrad"])
                expected.update({ours: values} if ours in golden.parameters() else {})
    assert found == expected


@pytest.mark.parametrize("case", [case for case in CASES if (golden_root() / case / "dropout.safetensors").exists()])
def test_golden_trained_bert_with_dropout(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded masks stand for random ones, in the order in which BERT draws them."""
    golden = model(case, "f64").start(training=True)
    path = golden.folder / "dropout.safetensors"
    kept = under(tensors(path), "keep")
    layers = golden.meta["bert_config"]["num_hidden_layers"]
    order = ["embeddings"]
    for layer in range(layers):
        order += [f"layer{layer}.attention_probs", f"layer{layer}.attention_output", f"layer{layer}.output"]
    masks: Iterator[Tensor] = iter([kept[name].double() for name in order])

    def recorded(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        assert p == pytest.approx(0.1)
        return x * next(masks) / 0.9 if training else x

    config: dict[str, Any] = {**golden.meta["bert_config"]}
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    encoder = golden.model.token_encoder
    assert encoder is not None
    bert = bert_from_config(config).double()
    bert.load_state_dict(encoder.bert.state_dict())
    bert.set_attn_implementation("eager")  # type: ignore[operator]
    bert.pooler.requires_grad_(False)  # type: ignore[union-attr, operator]
    monkeypatch.setattr(encoder, "bert", bert)
    monkeypatch.setattr(functional, "dropout", recorded)
    batch = vse_infty_batch(golden.folder, 0, golden.dtype)
    images, texts = golden.model.encode_image(batch.images), golden.model.encode_text(batch.texts)
    loss = golden.objective(images, texts, batch, warmup=False)["total"]
    loss.backward()
    assert next(masks, None) is None
    found = {"img_emb": images.host.pooled[:, 0], "cap_emb": texts.host.pooled, "loss": loss.reshape(1)}
    named = {f"model.text.bert.{name}": value for name, value in bert.named_parameters()}
    gradients = {**golden.parameters(), **named}
    for name, value in under(tensors(path), "f64").items():
        if name.startswith("grad_param."):
            gradient = gradients[golden._rename(name.removeprefix("grad_param."))].grad
            assert gradient is not None
            assert difference(gradient, value) < GRADIENT["f64"], name
        elif name != "bert_last_hidden":
            assert difference(found[name], value) < EVAL["f64"], name


@each_case
@each_precision
def test_golden_evaluation_knows_no_neighbours(case: str, precision: str) -> None:
    golden = model(case, precision).start(training=False)
    batch = vse_infty_batch(golden.folder, 0, golden.dtype)
    with torch.no_grad():
        whole = golden.model.encode_text(batch.texts).host.pooled
        alone = [golden.model.encode_text(batch.rows(slice(row, row + 1)).texts) for row in range(len(whole))]
    parts: list[HostEncoding] = [encoding.host for encoding in alone]
    assert difference(torch.cat([part.pooled for part in parts]), whole) < (1e-6 if precision == "f32" else 1e-12)


@each_case
def test_golden_start_state_is_ours(case: str) -> None:
    """Every weight of the published state has a place, but for those that its program never uses."""
    golden = model(case, "f64").start(training=False)
    assert expected_state(golden.folder / "init.safetensors", torch.float64).keys() == golden.state().keys()
