"""The best candidates: sorting as oracle, any block size, ties, folds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.metrics.ranks import rank_vectors
from selfalign_cli.metrics.recall import cut_folds
from selfalign_cli.metrics.score_blocks import Model
from selfalign_cli.metrics.top import top_folds, top_vectors
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.similarity import similarity

TRUTH = torch.tensor([3, 0, 5, 1, 4, 2, 0, 3, 5, 5, 1])


def model(images: Tensor, captions: Tensor) -> Model:
    return RetrievalVectors(images, images[:, 0, :0]), RetrievalVectors(captions, captions[:, :0])


def draw(seed: int = 0, *, whole: bool = False) -> Model:
    """Six pictures of two views, eleven captions; whole numbers make sums exact and ties many."""
    torch.manual_seed(seed)
    images, captions = torch.randn(6, 2, 4), torch.randn(11, 4)
    return model(images.round(), captions.round()) if whole else model(images, captions)


def by_sorting(scores: Tensor, right: Tensor, depth: int) -> list[list[int]]:
    """Every row sorted whole."""
    return [
        sorted(range(len(row)), key=lambda j: (-row[j], own[j], j))[:depth]
        for row, own in zip(scores.tolist(), right.tolist(), strict=True)
    ]


def test_top_is_what_sorting_finds():
    pair = draw()
    i2t, t2i = top_vectors([pair], TRUTH, depth=4, image_block=2, caption_block=3)
    scores = similarity(*pair)
    right = TRUTH.unsqueeze(0) == torch.arange(6).unsqueeze(1)
    assert i2t.candidates.tolist() == by_sorting(scores, right, 4)
    assert t2i.candidates.tolist() == by_sorting(scores.T, right.T, 4)
    torch.testing.assert_close(i2t.scores, scores.gather(1, i2t.candidates))
    assert (i2t.queries.tolist(), t2i.queries.tolist()) == (list(range(6)), list(range(11)))


@pytest.mark.parametrize("seed", range(8))
def test_ties_do_not_depend_on_the_blocks_and_never_favour_the_model(seed: int):
    pair = draw(seed, whole=True)
    found = [
        top_vectors([pair], TRUTH, depth=5, image_block=rows, caption_block=columns)
        for rows, columns in ((6, 11), (1, 1), (2, 4))
    ]
    for other in found[1:]:
        assert all(torch.equal(a.candidates, b.candidates) for a, b in zip(found[0], other, strict=True))
    whole, _ = top_vectors([pair], TRUTH, depth=99)
    right = TRUTH[whole.candidates] == whole.queries.unsqueeze(1)
    assert torch.equal(right.long().argmax(dim=1), rank_vectors([pair], TRUTH).i2t_rank)


def test_depth_beyond_the_candidates_gives_all_of_them():
    i2t, t2i = top_vectors([draw()], TRUTH, depth=100)
    assert (i2t.candidates.shape, t2i.candidates.shape) == ((6, 11), (11, 6))
    assert [sorted(row) for row in i2t.candidates.tolist()] == [list(range(11))] * 6


def test_folds_find_their_own():
    pair = draw()
    folds = cut_folds(TRUTH, 6, 3)
    for fold, found in zip(folds, top_folds([pair], folds, depth=9), strict=True):
        i2t, t2i = found
        assert isinstance(i2t, Top)
        assert set(i2t.candidates.flatten().tolist()) == set(t2i.queries.tolist()) == set(fold.captions.tolist())
        assert set(t2i.candidates.flatten().tolist()) == set(fold.images.tolist())
