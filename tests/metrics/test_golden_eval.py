"""Ranks, top candidates and numbers of the released programs (golden/eval, golden/legacy/expected)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.golden import skip_where_left_out
from support.scores import rank_scores
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.ranks import Ranks, rank_vectors
from selfalign_cli.metrics.recall import (
    Scores,
    direction_scores,
    mean_scores,
    published_selection,
    rank_folds,
    rsum,
)
from selfalign_cli.metrics.score_blocks import Model
from selfalign_cli.similarity import similarity

DTYPES = [torch.float32, torch.float64]
NUMBERS = {"r1": "r1", "r5": "r5", "r10": "r10", "medr": "median_rank", "meanr": "mean_rank"}

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def test_golden_matrix(golden_dir: Path, dtype: torch.dtype):
    for case, found, numbers in cases(golden_dir, "matrix"):
        ranks = rank_scores(found["sims"].to(dtype), truth_of(found))
        assert_ranks(ranks, found, "", case)
        assert_numbers(ranks, numbers, case)


def test_golden_order(golden_dir: Path, dtype: torch.dtype):
    for case, found, numbers in cases(golden_dir, "order"):
        ranks = rank_vectors([model(found, "")], truth_of(found), kind="order", dtype=dtype)
        assert_ranks(ranks, found, "", case)
        assert_numbers(ranks, numbers, case)


@pytest.mark.parametrize("kind", ["vectors", "multiview"])
@pytest.mark.parametrize("which", ["model_a", "model_b", "ensemble"])
def test_golden_vectors(golden_dir: Path, kind: str, which: str, dtype: torch.dtype):
    for case, found, numbers in cases(golden_dir, kind):
        models = [model(found, f"{name}.") for name in ("model_a", "model_b") if which in (name, "ensemble")]
        truth = truth_of(found, f"{which}.")
        ranks = rank_vectors(models, truth, dtype=dtype)
        assert_ranks(ranks, found, f"{which}.", case)
        assert_numbers(ranks, numbers[which]["full"], case)
        _, parts = rank_folds(models, truth, folds=len(numbers[which]["folds"]), dtype=dtype)
        for fold, part in enumerate(parts):
            assert_ranks(part, found, f"{which}.fold{fold}.", f"{case} fold {fold}")
            assert_numbers(part, numbers[which]["folds"][fold], f"{case} fold {fold}")
        assert_directions(
            mean_scores([direction_scores(part.i2t_rank) for part in parts]),
            mean_scores([direction_scores(part.t2i_rank) for part in parts]),
            numbers[which]["fold_mean"],
            case,
        )


def test_golden_multiview_scores(golden_dir: Path, dtype: torch.dtype):
    for case, found, _ in cases(golden_dir, "multiview"):
        corner = found["model_a.sims_corner"]
        images, captions = model(found, "model_a.")
        scores = similarity(
            RetrievalVectors(images.pooled[: corner.shape[0]].to(dtype), images.shared[: corner.shape[0]].to(dtype)),
            RetrievalVectors(
                captions.pooled[: corner.shape[1]].to(dtype), captions.shared[: corner.shape[1]].to(dtype)
            ),
        )
        assert (scores.float() - corner).abs().max() < 1e-5, case


def test_golden_checkpoint_vectors(golden_dir: Path, dtype: torch.dtype):
    """the vectors that the released programs made with their checkpoints, ranked again"""
    seen = 0
    for path in sorted((golden_dir / "legacy" / "expected").glob("*.json")):
        if not path.with_suffix(".safetensors").exists():
            continue
        found, numbers = load_file(path.with_suffix(".safetensors")), json.loads(path.read_text())
        for name in [name[: -len(".images")] for name in found if name.endswith(".images")]:
            ranks = rank_vectors([model(found, f"{name}.")], truth_of(found, f"{name}."), dtype=dtype)
            assert_ranks(ranks, found, f"{name}.", f"{path.stem} {name}")
            assert_numbers(ranks, numbers[name], f"{path.stem} {name}")
            seen += 1
    assert seen


def cases(golden_dir: Path, kind: str) -> list[tuple[str, dict[str, Tensor], Any]]:
    paths = sorted((golden_dir / "eval").glob(f"{kind}_*.safetensors"))
    if not paths:
        skip_where_left_out(f"eval/{kind}_*")
    assert paths, f"no {kind} case in {golden_dir / 'eval'}"
    return [(path.stem, load_file(path), json.loads(path.with_suffix(".json").read_text())) for path in paths]


def model(found: dict[str, Tensor], prefix: str) -> Model:
    images, captions = found[f"{prefix}images"], found[f"{prefix}captions"]
    images = images.unsqueeze(1) if images.dim() == 2 else images
    return (
        RetrievalVectors(images, images.new_zeros(len(images), 0)),
        RetrievalVectors(captions, captions.new_zeros(len(captions), 0)),
    )


def truth_of(found: dict[str, Tensor], prefix: str = "") -> Tensor:
    """the released programs give every picture the same number of consecutive captions"""
    images, captions = len(found[f"{prefix}i2t_ranks"]), len(found[f"{prefix}t2i_ranks"])
    return torch.arange(captions) // (captions // images)


def assert_ranks(ranks: Ranks, found: dict[str, Tensor], prefix: str, case: str) -> None:
    for name, value in (
        ("i2t_ranks", ranks.i2t_rank),
        ("t2i_ranks", ranks.t2i_rank),
        ("i2t_top1", ranks.i2t_top1),
        ("t2i_top1", ranks.t2i_top1),
    ):
        assert torch.equal(value, found[prefix + name].long()), f"{case}: {prefix}{name}"


def assert_numbers(ranks: Ranks, expected: Any, case: str) -> None:
    i2t, t2i = direction_scores(ranks.i2t_rank), direction_scores(ranks.t2i_rank)
    assert_directions(i2t, t2i, expected, case)
    assert published_selection(i2t, t2i) == pytest.approx(expected["validation_score"], abs=1e-9), case


def assert_directions(i2t: Scores, t2i: Scores, expected: Any, case: str) -> None:
    for direction, scores in (("i2t", i2t), ("t2i", t2i)):
        for theirs, ours in NUMBERS.items():
            assert scores[ours] == pytest.approx(expected[direction][theirs], abs=1e-9), f"{case} {theirs}"
    assert rsum(i2t, t2i) == pytest.approx(expected["rsum"], abs=1e-9), case
