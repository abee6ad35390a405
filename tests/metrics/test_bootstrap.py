"""Bootstrap over pictures: worked limits, explicit resampling as oracle, pairing, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import selfalign_cli.metrics.bootstrap as bootstrap
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.bootstrap import intervals, paired_difference
from selfalign_cli.metrics.ranks import Ranks
from selfalign_cli.metrics.recall import direction_scores, rsum


def some_ranks(images: int = 40, seed: int = 0, best: int = 0) -> Ranks:
    """1 to 3 captions per picture."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(images).repeat_interleave(torch.arange(images) % 3 + 1)
    i2t = torch.randint(best, 20, (images,), generator=generator)
    t2i = torch.randint(best, 20, (len(truth),), generator=generator)
    nothing = torch.zeros(0)
    return Ranks(i2t, t2i, nothing, nothing, nothing, nothing, truth)


def test_an_interval_contains_the_value():
    ranks = some_ranks()
    scores = direction_scores(ranks.i2t_rank)
    low, high = intervals(ranks)["i2t.r5"]
    assert low < scores["r5"] < high


def test_no_spread_no_interval():
    ranks = some_ranks()
    perfect = Ranks(ranks.i2t_rank * 0, ranks.t2i_rank * 0, *(torch.zeros(0),) * 4, ranks.image_of_caption)
    assert intervals(perfect)["rsum"] == (600.0, 600.0)


def test_metrics_equal_those_of_explicitly_resampled_ranks():
    """draw pictures, take their captions along, compute everything again"""
    ranks = some_ranks()
    counts = next(bootstrap._counts(40, 1, seed=4))
    found = {name: float(values[0]) for name, values in bootstrap._sums_of(ranks).drawn(1, seed=4).items()}
    drawn = np.repeat(np.arange(40), counts[0].astype(int))
    captions = torch.cat([(ranks.image_of_caption == int(image)).nonzero().squeeze(1) for image in drawn])
    i2t, t2i = direction_scores(ranks.i2t_rank[torch.from_numpy(drawn)]), direction_scores(ranks.t2i_rank[captions])
    for name in bootstrap.PER_DIRECTION:
        assert found[f"i2t.{name}"] == pytest.approx(i2t[name])
        assert found[f"t2i.{name}"] == pytest.approx(t2i[name])
    assert found["rsum"] == pytest.approx(rsum(i2t, t2i))


def test_intervals_depend_on_the_seed_alone():
    ranks = some_ranks()
    assert intervals(ranks, seed=1) == intervals(ranks, seed=1)
    assert intervals(ranks, seed=1) != intervals(ranks, seed=2)


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = intervals(some_ranks(), level=0.5)["rsum"], intervals(some_ranks(), level=0.99)["rsum"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_result_does_not_differ_from_itself():
    for part in paired_difference(some_ranks(), some_ranks()):
        assert (part.difference, part.low, part.high, part.clear) == (0.0, 0.0, 0.0, False)


def test_difference_is_second_minus_first():
    first, second = some_ranks(), some_ranks(best=10)
    found = {part.metric: part for part in paired_difference(first, second)}
    assert found["i2t.r5"].second == 0.0
    assert found["i2t.r5"].difference == -found["i2t.r5"].first < 0
    assert found["i2t.mean_rank"].clear


def test_pairing_cancels_what_both_have_in_common():
    """the second result is the first with every rank one worse: the mean rank differs by exactly 1 in every draw"""
    first = some_ranks()
    second = Ranks(first.i2t_rank + 1, first.t2i_rank + 1, *(torch.zeros(0),) * 4, first.image_of_caption)
    part = {part.metric: part for part in paired_difference(first, second)}["t2i.mean_rank"]
    assert (part.low, part.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_different_queries_are_refused():
    with pytest.raises(DataError, match="different queries: 40 pictures and 79 captions against 39 and 78"):
        paired_difference(some_ranks(40), some_ranks(39))


def test_smaller_blocks_give_as_many_resamples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 120)
    assert sum(len(part) for part in bootstrap._counts(40, 100, 0)) == 100
