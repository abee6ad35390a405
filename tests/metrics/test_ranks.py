"""Ranks of both directions: worked values, sorting as oracle, ties, copies, block sizes, ensembles, bad input."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.margins import smallest_margin
from support.scores import rank_scores
from torch import Tensor

import selfalign_cli.metrics.sweep as sweep
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.ranks import Ranks, rank_vectors
from selfalign_cli.metrics.score_blocks import Model
from selfalign_cli.similarity import similarity


def model(images: Tensor, captions: Tensor, context: int = 0) -> Model:
    """(N, D) or (N, V, D) pictures; the last `context` numbers of every vector are the context block."""
    images = images.unsqueeze(1) if images.dim() == 2 else images
    cut = captions.shape[1] - context
    return (
        RetrievalVectors(images[..., :cut], images[:, 0, cut:]),
        RetrievalVectors(captions[:, :cut], captions[:, cut:]),
    )


def world(images: int = 23, views: int = 1, width: int = 8, seed: int = 3) -> tuple[Model, Tensor]:
    """Small whole numbers, so that sums are exact and ties are many; 1 to 4 captions per picture, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 5, (images,), generator=generator)
    truth = torch.arange(images).repeat_interleave(counts)
    truth = truth[torch.randperm(len(truth), generator=generator)]
    pictures = torch.randint(-2, 3, (images, views, width), generator=generator).float()
    captions = torch.randint(-2, 3, (len(truth), width), generator=generator).float()
    return model(pictures, captions), truth


def sorted_ranks(scores: Tensor, truth: Tensor) -> tuple[list[int], list[int]]:
    """Sort every row and every column, wrong candidates first among equals, and look where the right one is."""
    i2t = []
    for row, picture in zip(scores.tolist(), range(len(scores)), strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], int(truth[j]) == picture))
        i2t.append(next(rank for rank, j in enumerate(order) if int(truth[j]) == picture))
    t2i = []
    for column, picture in zip(scores.T.tolist(), truth.tolist(), strict=True):
        order = sorted(range(len(column)), key=lambda i: (-column[i], i == picture))
        t2i.append(order.index(picture))
    return i2t, t2i


def same(first: Ranks, second: Ranks) -> bool:
    return all(torch.equal(getattr(first, part.name), getattr(second, part.name)) for part in fields(Ranks))


def test_ranks_by_hand():
    """S = [[.9,.1,.8],[.2,.3,.7]], captions of pictures 0, 0, 1: picture 0 finds .9 first; picture 1 finds .7 first;
    caption 0: .9 beats .2; caption 1: .1 loses to .3; caption 2: .7 loses to .8"""
    ranks = rank_scores(torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.3, 0.7]]), torch.tensor([0, 0, 1]))
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == ([0, 0], [0, 1, 1])
    assert (ranks.i2t_top1.tolist(), ranks.t2i_top1.tolist()) == ([0, 2], [0, 1, 0])
    torch.testing.assert_close(ranks.t2i_score, torch.tensor([0.9, 0.3, 0.8]))


def test_captions_of_one_picture_do_not_compete():
    """picture 0 owns columns 0 and 2, best .5; competitors .9 and .4: rank 1, column 1 at the top"""
    ranks = rank_scores(torch.tensor([[0.5, 0.9, 0.4, 0.4], [0.0, 1.0, 0.0, 1.0]]), torch.tensor([0, 1, 0, 1]))
    assert (int(ranks.i2t_rank[0]), int(ranks.i2t_top1[0])) == (1, 1)


def test_ties_count_against_the_model():
    """all scores equal: every wrong candidate comes first"""
    ranks = rank_scores(torch.ones(3, 5), torch.tensor([0, 1, 1, 2, 2]))
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == ([4, 3, 3], [2, 2, 2, 2, 2])
    assert not (ranks.image_of_caption[ranks.i2t_top1] == torch.arange(3)).any()


@pytest.mark.parametrize("views", [1, 3])
def test_ranks_equal_sorting(views: int):
    pair, truth = world(views=views)
    scores = similarity(*pair)
    ranks = rank_vectors([pair], truth)
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == sorted_ranks(scores, truth)
    assert torch.equal(ranks.i2t_score, scores.amax(dim=1))
    assert torch.equal(ranks.t2i_score, scores.amax(dim=0))


@given(st.integers(1, 9), st.integers(0, 10**6))
def test_ranks_of_drawn_scores_equal_sorting(images: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    extra = torch.randint(images, (int(torch.randint(8, (), generator=generator)),), generator=generator)
    truth = torch.cat([torch.arange(images), extra])
    truth = truth[torch.randperm(len(truth), generator=generator)]
    scores = torch.randint(4, (images, len(truth)), generator=generator).double()
    ranks = rank_scores(scores, truth)
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == sorted_ranks(scores, truth)


def test_the_smallest_margin_by_hand():
    """own scores .9, .1, .7: caption 0 beats .2 by .7, caption 1 loses to .3 by .2, caption 2 to .8 by .1; picture 0
    beats .8 by .1, picture 1 beats .3 by .4"""
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.3, 0.7]], dtype=torch.float64)
    assert smallest_margin(scores, torch.tensor([0, 0, 1])) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_equal_while_scores_move_by_less_than_half_of_the_margin(seed: int):
    torch.manual_seed(seed)
    truth = torch.arange(40) % 10
    scores = torch.randn(10, 40, dtype=torch.float64)
    moved = scores + 0.49 * smallest_margin(scores, truth) * torch.randn_like(scores).sign()
    first, second = rank_scores(scores, truth), rank_scores(moved, truth)
    assert torch.equal(first.i2t_rank, second.i2t_rank)
    assert torch.equal(first.t2i_rank, second.t2i_rank)


@pytest.mark.parametrize("views", [1, 3])
def test_the_top_candidate_is_right_exactly_for_rank_zero(views: int):
    pair, truth = world(views=views)
    ranks = rank_vectors([pair], truth)
    assert torch.equal(truth[ranks.i2t_top1] == torch.arange(23), ranks.i2t_rank == 0)
    assert torch.equal(ranks.t2i_top1 == truth, ranks.t2i_rank == 0)


@pytest.mark.parametrize("blocks", [(1, 1), (2, 7), (5, 3), (23, 1), (4, 1000)])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_block_sizes_change_nothing(blocks: tuple[int, int], kept: int, monkeypatch: pytest.MonkeyPatch):
    pair, truth = world(width=3)  # so narrow that copies are many
    whole = rank_vectors([pair], truth)
    monkeypatch.setattr(sweep, "KEPT_BYTES", kept)
    assert same(whole, rank_vectors([pair], truth, image_block=blocks[0], caption_block=blocks[1]))


@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize("width", [24, 100])
def test_exact_copies_tie_against(context: int, width: int):
    """Every caption occurs twice in the data, once for a picture it does not belong to; every picture twice too.

    Real numbers, odd block sizes: equal vectors must give equal scores at any position.
    """
    torch.manual_seed(1)
    images, captions = torch.randn(40, width), torch.randn(40, width)
    order = torch.randperm(80)
    pair = model(torch.cat([images, images]), torch.cat([captions, captions])[order], context)
    truth = torch.arange(80)[order]
    ranks = rank_vectors([pair], truth, image_block=7, caption_block=13)
    single = rank_vectors([model(images, captions, context)], torch.arange(40))
    assert torch.equal(ranks.i2t_rank, (2 * single.i2t_rank + 1).repeat(2))
    assert torch.equal(ranks.t2i_rank, (2 * single.t2i_rank + 1).repeat(2)[order])


def test_copies_tie_where_products_depend_on_the_position():
    """A thin product on two threads gives equal columns unequal scores near its seams; ties must not notice.

    All 700 captions are the same but for the first, which belongs to picture 0.
    """
    torch.manual_seed(0)
    captions = torch.randn(1, 512).repeat(700, 1)
    captions[0] = 100.0
    images = torch.randn(20, 512)
    images[0] = 1.0
    truth = torch.arange(700) % 20
    torch.set_num_threads(2)
    ranks = rank_vectors([model(images, captions)], truth, image_block=1)
    torch.set_num_threads(1)
    expected = 699 - torch.bincount(truth, minlength=20) + (images @ captions[0] >= images @ captions[1]).long()
    assert torch.equal(ranks.i2t_rank[1:], expected[1:])


def test_a_constant_model_has_the_worst_ranks():
    pair = model(torch.ones(30, 6), torch.ones(60, 6))
    ranks = rank_vectors([pair], torch.arange(60) // 2, image_block=8, caption_block=16)
    assert ranks.i2t_rank.unique().tolist() == [58]
    assert ranks.t2i_rank.unique().tolist() == [29]


def test_zero_and_minus_zero_are_copies():
    captions = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert rank_vectors([model(torch.eye(2), captions)], torch.arange(2)).i2t_rank.tolist() == [1, 1]


def test_order_measure_ranks_by_violation():
    """picture (2, 2) covers caption (1, 1) and not (3, 0); picture (3, 0) covers both less well than its own"""
    pair = model(torch.tensor([[2.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, 0.0]]))
    ranks = rank_vectors([pair], torch.arange(2), kind="order")
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == ([0, 0], [0, 0])


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_ensemble_is_the_weighted_mean_of_scores(weights: list[float] | None):
    """the second model has other widths and views; quarters of whole numbers stay exact"""
    first, truth = world()
    second, _ = world(views=2, width=5)
    normalised = [weight / 4 for weight in weights or [2.0, 2.0]]
    mean = normalised[0] * similarity(*first) + normalised[1] * similarity(*second)
    ranks = rank_vectors([first, second], truth, weights=weights, image_block=5, caption_block=11)
    assert (ranks.i2t_rank.tolist(), ranks.t2i_rank.tolist()) == sorted_ranks(mean, truth)
    assert torch.equal(ranks.i2t_score, mean.amax(dim=1))


def test_copies_in_one_model_of_two_are_no_copies():
    """model A gives all captions the same score, model B does not: no ties in the mean"""
    blind, seeing = model(torch.eye(4), torch.ones(4, 4)), model(torch.eye(4), torch.eye(4))
    assert rank_vectors([blind, seeing], torch.arange(4)).i2t_rank.tolist() == [0, 0, 0, 0]


def test_order_of_the_data_does_not_matter():
    pair, truth = world()
    ranks = rank_vectors([pair], truth)
    generator = torch.Generator().manual_seed(5)
    rows, columns = torch.randperm(23, generator=generator), torch.randperm(len(truth), generator=generator)
    moved = (
        RetrievalVectors(pair[0].pooled[rows], pair[0].shared[rows]),
        RetrievalVectors(pair[1].pooled[columns], pair[1].shared[columns]),
    )
    found = rank_vectors([moved], rows.argsort()[truth[columns]])
    assert torch.equal(found.i2t_rank, ranks.i2t_rank[rows])
    assert torch.equal(found.t2i_rank, ranks.t2i_rank[columns])


def test_one_picture_has_no_competitor():
    ranks = rank_vectors([model(torch.ones(1, 2), torch.ones(3, 2))], torch.zeros(3, dtype=torch.int64))
    assert (ranks.i2t_rank.tolist(), ranks.i2t_top1.tolist(), ranks.t2i_top1.tolist()) == ([0], [0], [0, 0, 0])


def test_double_precision_separates_what_single_precision_cannot():
    captions = torch.tensor([[1.0, 0.0], [1.0 + 1e-12, 0.0]], dtype=torch.float64)
    pair = model(torch.ones(2, 2, dtype=torch.float64), captions)
    assert rank_vectors([pair], torch.arange(2)).i2t_rank.tolist() == [1, 1]
    assert rank_vectors([pair], torch.arange(2), dtype=torch.float64).i2t_rank.tolist() == [1, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("side", "word"), [(0, "picture"), (1, "caption")])
def test_values_that_are_not_finite_are_named(value: float, side: int, word: str):
    pair, truth = world()
    pair[side].pooled[4].fill_(value)
    with pytest.raises(DataError, match=f"{word} vectors of model 1: row 4 holds NaN or infinity"):
        rank_vectors([pair], truth)


def test_scores_that_overflow_are_refused():
    pair = model(torch.full((2, 2), 1e30), torch.full((2, 2), 1e30))
    with pytest.raises(DataError, match="score of caption row 0 with its picture is inf"):
        rank_vectors([pair], torch.arange(2))


def test_a_score_that_is_not_a_number_is_refused():
    """own pairs score 1e30; picture 0 with caption 1 is ∞ - ∞"""
    pair = model(torch.tensor([[1e30, -1e30], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1e30, 1e30]]))
    with pytest.raises(DataError, match="a score of picture row 0 is not a number"):
        rank_vectors([pair], torch.arange(2))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([0, 0, 2], "1 of 3 pictures have no caption, the first is picture row 1"),
        ([0, 1, 3], "caption row 2 belongs to picture row 3; expected 0 to 2"),
        ([0, 1], r"shape \(2,\); expected \(3,\)"),
    ],
)
def test_a_wrong_map_of_captions_is_refused(truth: list[int], message: str):
    with pytest.raises(DataError, match=message):
        rank_vectors([model(torch.eye(3), torch.eye(3))], torch.tensor(truth))


def test_models_of_other_data_are_refused():
    with pytest.raises(DataError, match="model 2 has 3 pictures and 4 captions; the first has 3 and 3"):
        rank_vectors([model(torch.eye(3), torch.eye(3)), model(torch.eye(3), torch.ones(4, 3))], torch.arange(3))


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]])
def test_impossible_weights_are_refused(weights: list[float]):
    pair = model(torch.eye(3), torch.eye(3))
    with pytest.raises(DataError, match="expected 2 numbers >= 0"):
        rank_vectors([pair, pair], torch.arange(3), weights=weights)


def test_order_measure_refuses_views_and_ensembles():
    pair, truth = world(views=2)
    with pytest.raises(DataError, match="got 1 models, 2 views"):
        rank_vectors([pair], truth, kind="order")
