"""Recalls and ranks against an independent program, the package `fico-itr` (extra `oracles`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scores import rank_scores

from selfalign_cli.metrics.recall import direction_scores

NAMES = {"R@1": "r1", "R@5": "r5", "R@10": "r10", "MedianR": "median_rank", "MeanR": "mean_rank"}


@pytest.mark.parametrize("seed", range(5))
def test_recalls_agree_with_fico_itr(seed: int):
    """40 pictures with 1 to 4 captions each, scores without ties."""
    tasks = pytest.importorskip("fico_itr.tasks", reason="fico-itr is not installed: pip install 'selfalign[oracles]'")
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(40), draw.integers(1, 5, size=40))
    scores = draw.normal(size=(40, len(truth)))
    scores[truth, np.arange(len(truth))] += 1.5
    theirs = tasks.instance_retrieval(scores, captions_per_image=truth.tolist())
    ranks = rank_scores(torch.from_numpy(scores), torch.from_numpy(truth))
    for found, ours in zip(theirs, (ranks.i2t_rank, ranks.t2i_rank), strict=True):
        expected = direction_scores(ours)
        assert {ours: float(found[name]) for name, ours in NAMES.items()} == pytest.approx(
            {name: expected[name] for name in NAMES.values()}
        )
