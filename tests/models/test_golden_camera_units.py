"""CAMERA's modules against the released code: outputs, gradients, batch-norm buffers."""

from __future__ import annotations

from typing import Any

import pytest
from support.golden import PRECISIONS, difference, under, unit_cases, widen
from support.golden_units import GRADIENT, OUTPUT, assert_agrees, assert_slopes_agree, gradients
from torch import Tensor

from selfalign_cli.losses.diversity import diversity_loss
from selfalign_cli.models.parts.attention import GatedSelfAttention, ViewSummary
from selfalign_cli.models.parts.positions import BoxGate, box_features
from selfalign_cli.published.names import CAMERA_IMAGE, rename_state

pytestmark = pytest.mark.parametrize("precision", PRECISIONS)


def cases(name: str) -> Any:
    found = list(unit_cases(name))
    return pytest.mark.parametrize(("settings", "case"), [case[1:] for case in found], ids=[case[0] for case in found])


def parameters_of(case: dict[str, Tensor], published_prefix: str, ours: str, precision: str) -> dict[str, Tensor]:
    """State of a published module, renamed by the rules of the encoder that holds it."""
    state = {f"{published_prefix}.{name}": value for name, value in case.items()}
    renamed, unknown = rename_state(widen(state, PRECISIONS[precision]), CAMERA_IMAGE)
    assert not unknown
    return under(renamed, ours)


def renamed_gradients(case: dict[str, Tensor], prefix: str, ours: str, precision: str) -> dict[str, Tensor]:
    return parameters_of(under(case, "grad_param"), prefix, ours, precision)


@cases("agsa")
def test_golden_gated_attention(settings: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    dtype = PRECISIONS[precision]
    module = GatedSelfAttention(settings["embed"], heads=settings["heads"], layers=settings["layers"]).to(dtype)
    start = parameters_of(under(case, "param"), "agsa", "attention", precision)
    for mode in settings["modes"]:
        module.load_state_dict(start)
        module.train(mode == "train").zero_grad()
        inputs = {name: value.to(dtype, copy=True).requires_grad_() for name, value in under(case, "in").items()}
        mask = case["in_mask"].bool()[:, 0, 0] if "in_mask" in case else None
        out = module(inputs["x"], inputs.get("pos"), key_mask=mask)
        (out * case[f"{mode}.weight"].to(dtype)).sum().backward()
        results, exact = under(case, f"{mode}.{precision}"), under(case, f"{mode}.f64")
        assert_agrees({"out": out}, {"out": results["out"]}, exact, OUTPUT[precision])
        found = {f"grad_in.{name}": value.grad for name, value in inputs.items()}
        assert_agrees(found, {name: results[name] for name in found}, exact, GRADIENT[precision])
        expected, double = (
            renamed_gradients(part, "agsa", "attention", name) for part, name in ((results, precision), (exact, "f64"))
        )
        assert_slopes_agree(gradients(module), expected, double, precision)
        if mode == "train":
            buffers = parameters_of(under(results, "buffer_after"), "agsa", "attention", precision)
            exact_buffers = parameters_of(under(exact, "buffer_after"), "agsa", "attention", "f64")
            assert_agrees(module.state_dict(), buffers, exact_buffers, OUTPUT[precision])


@cases("summarization")
def test_golden_view_matrix(settings: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    dtype = PRECISIONS[precision]
    module = ViewSummary(settings["embed"], views=settings["smry_k"]).to(dtype)
    module.load_state_dict(parameters_of(under(case, "param"), "mvs", "summary", precision))
    x = case["in.x"].to(dtype, copy=True).requires_grad_()
    out = module.logits(x)
    (out * case["eval.weight"].to(dtype)).sum().backward()
    results, exact = under(case, f"eval.{precision}"), under(case, "eval.f64")
    assert_agrees({"out": out}, {"out": results["out"]}, exact, OUTPUT[precision])
    assert x.grad is not None
    assert_agrees({"grad_in.x": x.grad}, {"grad_in.x": results["grad_in.x"]}, exact, GRADIENT[precision])
    expected = renamed_gradients(results, "mvs", "summary", precision)
    assert_agrees(gradients(module), expected, renamed_gradients(exact, "mvs", "summary", "f64"), GRADIENT[precision])


@cases("position")
def test_golden_box_gate(settings: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    dtype = PRECISIONS[precision]
    module = BoxGate(settings["embed"], guard=False).to(dtype)
    module.load_state_dict(parameters_of(under(case, "param"), "position_enc", "box_gate", precision))
    inputs = {name: value.to(dtype, copy=True).requires_grad_() for name, value in under(case, "in").items()}
    boxes, size = inputs["boxes"], inputs["imgs_wh"]
    features = box_features(boxes, size, guard=False)
    out = module(boxes, size)
    (out * case["eval.weight"].to(dtype)).sum().backward()
    found = {"out": out, "grad_in.boxes": boxes.grad, "grad_in.imgs_wh": size.grad}
    results, exact = under(case, f"eval.{precision}"), under(case, "eval.f64")
    assert_agrees(found, {name: results[name] for name in found}, exact, OUTPUT[precision])
    expected, double = (
        renamed_gradients(part, "position_enc", "box_gate", name)
        for part, name in ((results, precision), (exact, "f64"))
    )
    assert_slopes_agree(gradients(module), expected, double, precision)
    wanted = {name: value for name, value in case.items() if name.endswith(f"{precision}.features")}
    assert wanted
    for value in wanted.values():
        assert difference(features, value) <= OUTPUT[precision] * float(value.abs().max())


@cases("diversity")
def test_golden_diversity(settings: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    logits = case["in.smry_mat"].to(PRECISIONS[precision], copy=True).requires_grad_()
    loss = diversity_loss(logits)
    loss.backward()
    assert logits.grad is not None
    results, exact = under(case, precision), under(case, "f64")
    found = {"loss": loss, "grad_in.smry_mat": logits.grad}
    assert_agrees(found, {name: results[name] for name in found}, exact, GRADIENT[precision])
