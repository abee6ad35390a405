"""VSRN's region graph layer and caption generator against the released code, and the generator's targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.golden import PRECISIONS, golden_root, model_cases, tensors, under
from support.golden_units import (
    GRADIENT,
    LOSS,
    OUTPUT,
    assert_agrees,
    assert_slopes_agree,
    each_case,
    gradients,
    leaves,
    renamed,
)
from torch import Tensor

from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.models.parts.captioner import CaptionGenerator, caption_targets
from selfalign_cli.models.parts.graph import RegionGraphLayer
from selfalign_cli.published.names import CAPTIONER, VSRN_IMAGE


def graph_state(state: dict[str, Tensor], precision: str) -> dict[str, Tensor]:
    return renamed(state, "Rs_GCN_1.", "graph.0", VSRN_IMAGE, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@each_case("rs_gcn")
def test_golden_region_graph(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    layer = RegionGraphLayer(case["in.v"].shape[1]).to(PRECISIONS[precision])
    for mode in options["modes"]:
        layer.load_state_dict(graph_state(under(case, "param"), precision))
        layer.train(mode == "train").zero_grad()
        (regions,) = leaves(case, "v", precision=precision)  # channels first
        mask = torch.ones(len(regions), regions.shape[2], dtype=torch.bool)
        out = layer(regions.transpose(1, 2), mask).transpose(1, 2)
        (out * case[f"{mode}.weight"]).sum().backward()
        expected, exact = under(case, f"{mode}.{precision}"), under(case, f"{mode}.f64")
        assert_agrees({"out": out}, {"out": expected["out"]}, exact, OUTPUT[precision])
        slope = {"grad_in.v": regions.grad}
        assert_agrees(slope, {"grad_in.v": expected["grad_in.v"]}, exact, GRADIENT[precision])
        wanted, exact_slopes = (
            graph_state(under(results, "grad_param"), name)
            for results, name in ((expected, precision), (exact, "f64"))
        )
        if mode == "train":
            assert_buffers(layer, expected, exact, precision)
        assert_slopes_agree(gradients(layer), wanted, exact_slopes, precision)


def assert_buffers(
    layer: RegionGraphLayer, expected: dict[str, Tensor], exact: dict[str, Tensor], precision: str
) -> None:
    buffers = graph_state(under(expected, "buffer_after"), precision)
    assert {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"} <= set(buffers)
    assert_agrees(layer.state_dict(), buffers, graph_state(under(exact, "buffer_after"), "f64"), OUTPUT[precision])


def generator(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> CaptionGenerator:
    module = CaptionGenerator(
        options["feat"],
        options["vocab"],
        hidden_dim=options["hidden"],
        word_dim=options["word"],
        max_len=options["max_len"],
        dropout=0.0,
    ).to(PRECISIONS[precision])
    module.load_state_dict(renamed(under(case, "param"), "", "", CAPTIONER, precision))
    return module


@pytest.mark.parametrize("precision", PRECISIONS)
@each_case("captioner")
def test_golden_generator_outputs(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    module = generator(options, case, precision)
    (regions,) = leaves(case, "feats", precision=precision)
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    memory, state = module.encode(regions, mask)
    states = module.teacher_forced(memory, state, mask, case["in.labels"][:, : module.max_len - 1])
    tokens, scores = module.greedy(regions, mask)
    found = {
        "encoder_outputs": memory,
        "encoder_hidden": state.unsqueeze(0),
        "logprobs": module.out(states).log_softmax(dim=-1),
        "greedy_logprobs": scores,
    }
    expected, exact = under(case, precision), under(case, "f64")
    assert_agrees(found, {name: expected[name] for name in found}, exact, OUTPUT[precision])
    assert torch.equal(tokens, expected["greedy_tokens"])


@pytest.mark.parametrize("precision", PRECISIONS)
@each_case("captioner")
def test_golden_generator_loss_and_gradients(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    module = generator(options, case, precision)
    (regions,) = leaves(case, "feats", precision=precision)
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    loss = captioning_loss(*module(regions, mask, case["in.labels"], case["in.masks"] > 0), captions=len(regions))
    loss.backward()
    expected, exact = under(case, precision), under(case, "f64")
    assert_agrees({"loss": loss}, {"loss": expected["loss"]}, exact, LOSS[precision])
    slope = {"grad_in.feats": regions.grad}
    assert_agrees(slope, {"grad_in.feats": expected["grad_in.feats"]}, exact, GRADIENT[precision])
    wanted, exact_slopes = (
        renamed(under(results, "grad_param"), "", "", CAPTIONER, name)
        for results, name in ((expected, precision), (exact, "f64"))
    )
    assert set(wanted) == {name for name, _ in module.named_parameters()}
    assert_agrees(gradients(module), wanted, exact_slopes, GRADIENT[precision])


@pytest.mark.parametrize("case", model_cases("Rs_GCN_1"))
def test_golden_generator_targets(case: str) -> None:
    inputs = tensors(golden_root() / case / "inputs.safetensors")
    batches = sorted({name.split(".")[0] for name in inputs})
    assert batches
    for batch in batches:
        found = under(inputs, batch)
        labels, mask = caption_targets(found["captions"], found["lengths"], found["caption_labels"].shape[1] - 1)
        assert torch.equal(labels, found["caption_labels"])
        assert torch.equal(mask, found["caption_masks"].bool())
