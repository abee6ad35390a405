"""Search without a ground truth: by hand, against sorting, and the same whatever the other pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics import top_k as module
from selfalign_cli.metrics.top_k import Top, top_k
from selfalign_cli.similarity import similarity


def side(pooled: Any, shared: Any = None) -> RetrievalVectors:
    pooled = torch.as_tensor(pooled, dtype=torch.float32)
    shared = pooled.new_zeros(len(pooled), 0) if shared is None else torch.as_tensor(shared, dtype=torch.float32)
    return RetrievalVectors(pooled, shared)


def draw(seed: int, *, pictures: int = 40, captions: int = 7, views: int = 3, context: int = 4, whole: bool = False):
    """Pictures and captions, D = 5. Whole numbers make many ties; sums of the others are exact in float64 alone."""
    torch.manual_seed(seed)
    shapes = ((pictures, views, 5), (pictures, context), (captions, 5), (captions, context))
    numbers = [torch.randn(shape).mul(1 if whole else 4096).round().div(1 if whole else 4096) for shape in shapes]
    return RetrievalVectors(*numbers[:2]), RetrievalVectors(*numbers[2:])


def some(vectors: RetrievalVectors, rows: Any) -> RetrievalVectors:
    return RetrievalVectors(vectors.pooled[rows], vectors.shared[rows])


def plain(queries: RetrievalVectors, gallery: RetrievalVectors, k: int) -> list[list[tuple[float, int]]]:
    """Pair by pair with Python's numbers; every row sorted whole."""

    def score(picture: int, caption: int) -> float:
        images, captions = (queries, gallery) if queries.pooled.dim() == 3 else (gallery, queries)
        own, context = captions.pooled[caption].tolist(), captions.shared[caption].tolist()
        views = [sum(a * b for a, b in zip(view, own, strict=True)) for view in images.pooled[picture].tolist()]
        return max(views) + sum(a * b for a, b in zip(images.shared[picture].tolist(), context, strict=True))

    pictures_ask = queries.pooled.dim() == 3
    found = []
    for query in range(len(queries.pooled)):
        scores = [score(query, row) if pictures_ask else score(row, query) for row in range(len(gallery.pooled))]
        rounded = torch.tensor(scores, dtype=torch.float64).float().tolist()
        found.append(sorted(((value, row) for row, value in enumerate(rounded)), key=lambda pair: (-pair[0], pair[1])))
    return [ranked[:k] for ranked in found]


def pairs(found: Top) -> list[list[tuple[float, int]]]:
    both = zip(found.scores.tolist(), found.candidates.tolist(), strict=True)
    return [list(zip(scores, rows, strict=True)) for scores, rows in both]


def test_by_hand():
    """Two views and one number of context: picture 0 has max(1, 2) + 3·1 = 5, picture 1 max(3, 0) + 1·1 = 4."""
    pictures = side([[[1, 0], [0, 2]], [[3, 0], [0, 0]], [[0, 0], [0, 0]]], [[3], [1], [0]])
    caption = side([[1, 1]], [[1]])
    found = top_k(caption, pictures, 2)
    assert (found.queries.tolist(), found.candidates.tolist(), found.scores.tolist()) == ([0], [[0, 1]], [[5.0, 4.0]])
    assert top_k(pictures, caption, 2).scores.tolist() == [[5.0], [4.0], [0.0]]
    assert found.scores.dtype == torch.float32


@given(
    seed=st.integers(0, 10_000),
    views=st.sampled_from([1, 3]),
    context=st.sampled_from([0, 4]),
    k=st.integers(1, 12),
    whole=st.booleans(),
    forward=st.booleans(),
    steps=st.sampled_from([(256, 1 << 22, 1 << 21), (1, 1, 1), (3, 50, 40)]),
)
def test_it_is_what_sorting_finds(seed, views, context, k, whole, forward, steps):
    pictures, captions = draw(seed, pictures=11, views=views, context=context, whole=whole)
    queries, gallery = (captions, pictures) if forward else (pictures, captions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES", steps[0])
        patch.setattr(module, "PRODUCTS", steps[1])
        patch.setattr(module, "PAIR_NUMBERS", steps[2])
        assert pairs(top_k(queries, gallery, k)) == plain(queries, gallery, k)


@pytest.mark.parametrize("width", [3, 64, 700])
def test_a_score_is_that_of_the_pair_alone(monkeypatch: pytest.MonkeyPatch, width: int):
    """Bit for bit: whatever the blocks, the other queries and the other rows."""
    torch.manual_seed(width)
    pictures = RetrievalVectors(torch.randn(90, 2, width), torch.randn(90, width))
    captions = RetrievalVectors(torch.randn(20, width), torch.randn(20, width))
    whole = top_k(captions, pictures, 30)
    for query in range(20):
        assert pairs(top_k(some(captions, [query]), pictures, 30)) == [pairs(whole)[query]]
    fewer = top_k(captions, some(pictures, slice(45, None)), 45)
    for large, small in zip(pairs(top_k(captions, pictures, 90)), pairs(fewer), strict=True):
        assert [(score, row - 45) for score, row in large if row >= 45] == small
    for queries, products, numbers in ((1, 1, 1), (7, 100, 500), (20, 64, 1 << 21)):
        monkeypatch.setattr(module, "QUERIES", queries)
        monkeypatch.setattr(module, "PRODUCTS", products)
        monkeypatch.setattr(module, "PAIR_NUMBERS", numbers)
        assert pairs(top_k(captions, pictures, 30)) == pairs(whole)


def test_copies_tie_and_are_ranked_in_row_order():
    """Of five copies the first three, wherever they lie in a block."""
    torch.manual_seed(0)
    rows = torch.randn(50, 1, 37)
    rows[[3, 17, 18, 40, 49]] = 4 * rows[3]
    found = top_k(side(rows[3]), side(rows), 3)
    assert found.candidates.tolist() == [[3, 17, 18]]
    assert len(set(found.scores[0].tolist())) == 1


def test_everything_equal():
    found = top_k(side(torch.ones(3, 4)), side(torch.ones(700, 1, 4)), 5)
    assert found.candidates.tolist() == [list(range(5))] * 3


def test_rounding_of_products_decides_nothing():
    """Scores that float32 products of thousands of terms cannot tell apart: the exact ones decide."""
    torch.manual_seed(1)
    base = torch.randn(1, 1, 4096)
    near = base + 1e-6 * torch.randn(400, 1, 4096)
    query = side(base[:, 0])
    exact = (near[:, 0].double() @ base[0, 0].double()).float()
    expected = sorted(range(400), key=lambda row: (-float(exact[row]), row))[:10]
    assert top_k(query, side(near), 10).candidates.tolist() == [expected]


def test_the_order_measure():
    pictures, captions = draw(3, views=1)
    found = top_k(captions, pictures, 6, kind="order")
    scores = similarity(pictures, captions, "order").T
    torch.testing.assert_close(found.scores, scores.topk(6).values)
    assert found.candidates.tolist() == scores.topk(6).indices.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_vectors_are_read_as_float32(dtype: torch.dtype):
    pictures, captions = (
        RetrievalVectors(part.pooled.to(dtype), part.shared.to(dtype)) for part in draw(5, whole=True)
    )
    assert pairs(top_k(captions, pictures, 4)) == pairs(top_k(*reversed(draw(5, whole=True)), 4))


def test_k_beyond_the_gallery_gives_all_of_it():
    pictures, captions = draw(0)
    found = top_k(captions, pictures, 1000)
    assert found.candidates.shape == (7, 40)
    assert [sorted(row) for row in found.candidates.tolist()] == [list(range(40))] * 7


@pytest.mark.parametrize(("queries", "rows"), [(0, 40), (7, 0), (0, 0)])
def test_nothing_to_search(queries: int, rows: int):
    pictures, captions = draw(0)
    found = top_k(some(captions, slice(queries)), some(pictures, slice(rows)), 5)
    assert (found.candidates.shape, found.scores.shape) == ((queries, min(5, rows)), (queries, min(5, rows)))
    assert found.queries.tolist() == list(range(queries))


def spoilt(value: float) -> tuple[RetrievalVectors, RetrievalVectors]:
    pictures, captions = draw(0)
    pictures.pooled[20, 1, 2] = value
    return captions, pictures


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (lambda: draw(0)[:1] * 2, "expected captions .M, D. on one side and pictures"),
        (lambda: draw(0)[1:] * 2, "expected captions .M, D. on one side and pictures"),
        (lambda: (draw(0)[1], draw(0, context=0)[0]), r"queries are 5 \+ 4 wide, the gallery 5 \+ 0"),
        (lambda: spoilt(float("nan")), "gallery: row 20 holds NaN or infinity"),
        (lambda: spoilt(float("inf")), "gallery: row 20 holds NaN or infinity"),
        (lambda: spoilt(3e38), "do not fit float32"),
        (lambda: tuple(reversed(spoilt(float("nan")))), "queries: row 20 holds NaN or infinity"),
    ],
)
def test_sides_that_cannot_be_searched(sides: Any, message: str):
    with pytest.raises(DataError, match=message):
        top_k(*sides(), 3)


def test_order_and_k_are_checked():
    pictures, captions = draw(0)
    with pytest.raises(DataError, match="one view per picture; got 3"):
        top_k(captions, pictures, 3, kind="order")
    with pytest.raises(ValueError, match="k is 0"):
        top_k(captions, pictures, 0)


def test_memory_does_not_grow_with_the_number_of_scores(monkeypatch: pytest.MonkeyPatch):
    """No tensor of scores is larger than a block."""
    monkeypatch.setattr(module, "PRODUCTS", 600)
    largest = 0
    products = module._products

    def watched(*arguments: Any) -> Tensor:
        nonlocal largest
        scores = products(*arguments)
        largest = max(largest, scores.numel())
        return scores

    monkeypatch.setattr(module, "_products", watched)
    pictures, captions = draw(0, pictures=300)
    top_k(captions, pictures, 3)
    assert 0 < largest <= 600
