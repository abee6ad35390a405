"""Numbers from ranks, and folds."""

from __future__ import annotations

import pytest
import torch
from support.scores import rank_scores

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.recall import (
    cut_folds,
    direction_scores,
    mean_rank,
    mean_reciprocal_rank,
    mean_scores,
    median_rank,
    merge_folds,
    published_selection,
    rank_folds,
    recall_at,
    rsum,
)


def test_recall_counts_by_hand():
    """S = [[.9,.1,.8],[.2,.3,.7]], captions of pictures 0, 0, 1: i2t R@1 100, t2i R@1 33.3"""
    ranks = rank_scores(torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.3, 0.7]]), torch.tensor([0, 0, 1]))
    assert recall_at(ranks.i2t_rank, 1) == 100.0
    assert recall_at(ranks.t2i_rank, 1) == pytest.approx(100 / 3)


def test_numbers_of_ranks_by_hand():
    """ranks 0, 1, 4, 9: median (1 + 4) / 2 = 2.5, rounded down, 1-based 3; mean 3.5 + 1; (1 + 1/2 + 1/5 + 1/10) / 4"""
    ranks = torch.tensor([0, 1, 4, 9])
    assert [recall_at(ranks, k) for k in (1, 5, 10)] == [25.0, 75.0, 100.0]
    assert (median_rank(ranks), mean_rank(ranks)) == (3.0, 4.5)
    assert mean_reciprocal_rank(ranks) == pytest.approx(0.45)


def test_sums_by_hand():
    """i2t 25 + 75 + 100, t2i 100 + 100 + 100; without R@10: 25 + 75 + 100 + 100"""
    i2t, t2i = direction_scores(torch.tensor([0, 1, 4, 9])), direction_scores(torch.tensor([0]))
    assert rsum(i2t, t2i) == 500.0
    assert published_selection(i2t, t2i) == 300.0


def test_mean_of_folds():
    mean = mean_scores([direction_scores(torch.tensor([0])), direction_scores(torch.tensor([2]))])
    assert (mean["r1"], mean["r5"], mean["median_rank"]) == (50.0, 100.0, 2.0)


def test_folds_take_their_captions_along():
    """pictures 0, 1 | 2, 3; captions in any order"""
    folds = cut_folds(torch.tensor([3, 0, 2, 1, 1]), 4, 2)
    assert [fold.captions.tolist() for fold in folds] == [[1, 3, 4], [0, 2]]
    assert [fold.image_of_caption.tolist() for fold in folds] == [[0, 1, 1], [1, 0]]


def test_folds_must_be_equal():
    with pytest.raises(DataError, match="10 pictures cannot be cut into 3 equal folds"):
        cut_folds(torch.arange(10), 10, 3)


def test_folds_are_ranked_separately_and_merged_in_data_set_order():
    torch.manual_seed(0)
    truth = torch.randperm(24) % 12
    images, captions = torch.randn(12, 1, 4), torch.randn(24, 4)
    model = (RetrievalVectors(images, torch.randn(12, 2)), RetrievalVectors(captions, torch.randn(24, 2)))
    folds, ranks = rank_folds([model], truth, folds=3)
    whole = merge_folds(folds, ranks)
    scores = model[0].concatenated()[:, 0] @ model[1].concatenated().T
    for fold, part in zip(folds, ranks, strict=True):
        alone = rank_scores(scores[fold.images][:, fold.captions], fold.image_of_caption)
        assert torch.equal(part.i2t_rank, alone.i2t_rank)
        assert torch.equal(whole.t2i_rank[fold.captions], alone.t2i_rank)
        assert torch.equal(whole.i2t_top1[fold.images], fold.captions[alone.i2t_top1])
        assert torch.equal(whole.t2i_top1[fold.captions], fold.images[alone.t2i_top1])
    assert torch.equal(whole.image_of_caption, truth)


def test_one_fold_is_the_whole():
    nothing = torch.zeros(3, 0)
    pair = (RetrievalVectors(torch.eye(3).unsqueeze(1), nothing), RetrievalVectors(torch.eye(3), nothing))
    folds, ranks = rank_folds([pair], torch.arange(3))
    assert merge_folds(folds, ranks).t2i_top1.tolist() == [0, 1, 2]
