"""Hinge, context, concept and captioning losses against the released code: values and gradients."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from support.golden import PRECISIONS, difference, under
from support.golden_units import GRADIENT, LOSS, OUTPUT, assert_agrees, each_case, leaves
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.losses.captioning import captioning_loss
from selfalign_cli.losses.concept import ConceptAlignment
from selfalign_cli.losses.context import context_alignment_loss
from selfalign_cli.losses.ranking import hinge_loss
from selfalign_cli.similarity import similarity

pytestmark = pytest.mark.parametrize("precision", PRECISIONS)


@each_case("hinge")
def test_golden_hinge(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    images, captions = leaves(case, "im", "s", precision=precision)
    without = images.new_zeros(len(images), 0)
    scores = similarity(
        RetrievalVectors(images.unsqueeze(1), without),
        RetrievalVectors(captions, without),
        "order" if options["measure"] == "order" else "dot",
    )
    scores.retain_grad()
    mode = "hardest" if options["max_violation"] else "sum"
    loss = hinge_loss(scores, margin=options["margin"], mode=mode)  # type: ignore[arg-type]
    loss.backward()
    expected, exact = under(case, precision), under(case, "f64")
    values = {"sim": scores, "loss": loss}
    assert_agrees(values, {name: expected[name] for name in values}, exact, LOSS[precision])
    slopes = {"grad_sim": scores.grad, "grad_in.im": images.grad, "grad_in.s": captions.grad}
    assert_agrees(slopes, {name: expected[name] for name in slopes}, exact, GRADIENT[precision])


@each_case("cra")
def test_golden_context_alignment(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    keys, queries = leaves(case, "l", "m", precision=precision)  # channels first
    loss = context_alignment_loss(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        temperature=options["T"],
        negatives=options["neg_num"],
        exclude_own=False,
    )
    loss.backward()
    expected, exact = under(case, precision), under(case, "f64")
    assert_agrees({"loss": loss}, {"loss": expected["loss"]}, exact, LOSS[precision])
    slopes = {"grad_in.l": keys.grad, "grad_in.m": queries.grad}
    assert_agrees(slopes, {name: expected[name] for name in slopes}, exact, GRADIENT[precision])


@each_case("lca")
def test_golden_concept_alignment(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    rounds = sorted({int(found[1]) for name in case if (found := re.match(r"it(\d+)\.", name))})
    assert rounds
    for iterations in rounds:
        loss = ConceptAlignment(
            case["in.prototypes"].shape[1],
            prototypes=len(case["in.prototypes"]),
            temperature=options["student_temp"],
            sinkhorn_epsilon=options["epsilon"],
            sinkhorn_iterations=iterations,
        ).to(PRECISIONS[precision])
        loss.prototypes.data.copy_(case["in.prototypes"])
        expected, exact = (under(case, f"it{iterations}.{name}") for name in (precision, "f64"))
        assert_concept_loss(loss, options["lengths"], case, expected, exact, precision)
        after, exact_after = case[f"{precision}.prototypes_after"], case["f64.prototypes_after"]
        assert_agrees({"after": loss.prototypes}, {"after": after}, {"after": exact_after}, OUTPUT[precision])


def assert_concept_loss(
    loss: ConceptAlignment,
    lengths: list[int],
    case: dict[str, Tensor],
    expected: dict[str, Tensor],
    exact: dict[str, Tensor],
    precision: str,
) -> None:
    regions, words = leaves(case, "v_feats", "t_feats", precision=precision)
    region_mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    word_mask = torch.arange(words.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    value = loss(regions, region_mask, words, word_mask)
    value.backward()
    assert_agrees({"loss": value}, {"loss": expected["loss"]}, exact, LOSS[precision])
    found = {
        "grad_in.t_feats": words.grad,
        "grad_in.v_feats": torch.zeros_like(regions) if regions.grad is None else regions.grad,
        "grad_param.prototypes": loss.prototypes.grad,
    }
    assert_agrees(found, {name: expected[name] for name in found}, exact, GRADIENT[precision])
    assert difference(found["grad_in.v_feats"], torch.zeros_like(regions)) == 0.0  # type: ignore[arg-type]
    assigned = {"assignments": loss.assignments(regions.detach())}
    assert_agrees(assigned, {"assignments": expected["assignments"]}, exact, OUTPUT[precision])


@each_case("lm_criterion")
def test_golden_captioning(options: dict[str, Any], case: dict[str, Tensor], precision: str) -> None:
    (log_probabilities,) = leaves(case, "logprobs", precision=precision)
    steps = log_probabilities.shape[1]
    counts, targets = case["in.mask"][:, :steps] > 0, case["in.target"][:, :steps]
    assert set(case["in.mask"].unique().tolist()) <= {0.0, 1.0}
    loss = captioning_loss(log_probabilities[counts], targets[counts], captions=len(targets))
    loss.backward()
    expected, exact = under(case, precision), under(case, "f64")
    assert_agrees({"loss": loss}, {"loss": expected["loss"]}, exact, LOSS[precision])
    slope = {"grad_in.logprobs": log_probabilities.grad}
    assert_agrees(slope, {"grad_in.logprobs": expected["grad_in.logprobs"]}, exact, GRADIENT[precision])
