"""The scan finds what float64 finds, whatever float16 makes of the vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.top_k import top_k
from selfalign_cli.search import scan
from selfalign_cli.search.scan import Part, exact_top, merged_views
from selfalign_cli.search.segment import Stored, longest, power_of_two

NOBODY = np.empty(0, np.int64)


def parts_of(vectors: RetrievalVectors, *cuts: int, dead: tuple[int, ...] = ()) -> list[Part]:
    parts = []
    for start, stop in zip((0, *cuts), (*cuts, len(vectors.pooled)), strict=True):
        fine = RetrievalVectors(vectors.pooled[start:stop], vectors.shared[start:stop])
        length = longest(fine)
        scale = power_of_two(length)
        coarse = RetrievalVectors((fine.pooled * scale).half(), (fine.shared * scale).half())
        gone = np.array([row - start for row in dead if start <= row < stop], dtype=np.int64)
        parts.append(Part(Stored(coarse, fine, scale, length), start, gone))
    return parts


def drawn(rows: int, views: int, width: int, context: int, *, seed: int = 0) -> RetrievalVectors:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((rows, views, width) if views else (rows, width), (rows, context))
    return RetrievalVectors(*(torch.randn(shape, generator=draw) / 4 for shape in shapes))


def in_double(gallery: RetrievalVectors, queries: RetrievalVectors) -> Tensor:
    """(Q, N) scores, summed in float64 and rounded to float32, as the exact search promises."""
    products = torch.einsum("nvd,qd->qnv", gallery.pooled.double(), queries.pooled.double()).amax(dim=2)
    return (products + queries.shared.double() @ gallery.shared.double().T).float()


def ranked(scores: Tensor, k: int) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda at: (-row[at], at))[:k] for row in scores.tolist()]


@settings(max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([0, 3]),
    st.integers(1, 12),
    st.sampled_from([1, 3, 9]),
    st.sampled_from([1e-30, 1e-4, 1.0, 1e6]),
    st.integers(0, 9),
)
def test_it_is_the_exact_top_k(rows: int, views: int, context: int, k: int, count: int, size: float, seed: int):
    gallery, queries = drawn(rows, views, 7, context, seed=seed), drawn(count, 0, 7, context, seed=seed + 99)
    gallery = RetrievalVectors(gallery.pooled * size, gallery.shared * size)
    gallery.pooled[rows // 2] = gallery.pooled[0]  # equals are ranked by row
    gallery.shared[rows // 2] = gallery.shared[0]
    found = exact_top(parts_of(gallery, rows // 3, rows // 2), queries, k, "dot")
    expected = in_double(gallery, queries)
    assert found.candidates.tolist() == ranked(expected, k)
    assert torch.equal(found.scores, expected.gather(1, found.candidates))


def test_rows_that_float16_cannot_tell_apart_are_told_apart():
    """2,000 pictures within float16's rounding, the best anywhere: more rows are scored until it is certain."""
    gallery = RetrievalVectors(torch.ones(2000, 1, 4), torch.empty(2000, 0))
    gallery.pooled[:, 0, 0] += torch.arange(2000).flip(0) * 2.0**-23
    queries = RetrievalVectors(torch.tensor([[1.0, 0, 0, 0]]), torch.empty(1, 0))
    found = exact_top(parts_of(gallery, 1000), queries, 3, "dot")
    assert found.candidates.tolist() == [[0, 1, 2]]
    queries = RetrievalVectors(-queries.pooled, queries.shared)
    assert exact_top(parts_of(gallery, 1000), queries, 3, "dot").candidates.tolist() == [[1999, 1998, 1997]]


def test_dead_rows_are_not_found():
    gallery, queries = drawn(30, 2, 6, 2), drawn(2, 0, 6, 2, seed=5)
    best = ranked(in_double(gallery, queries), 30)
    dead = tuple({best[0][0], best[0][2], best[1][1]})
    found = exact_top(parts_of(gallery, 11, dead=dead), queries, 40, "dot")
    assert found.candidates.tolist() == [[row for row in rows if row not in dead] for rows in best]
    everything = tuple(range(30))
    assert exact_top(parts_of(gallery, 11, dead=everything), queries, 4, "dot").candidates.shape == (2, 0)


@pytest.mark.parametrize("count", [2, 9])
def test_the_order_measure_is_that_of_top_k(count: int):
    gallery, queries = drawn(50, 1, 6, 2), drawn(count, 0, 6, 2, seed=5)
    found, expected = exact_top(parts_of(gallery, 20), queries, 5, "order"), top_k(queries, gallery, 5, kind="order")
    assert torch.equal(found.candidates, expected.candidates)
    assert torch.equal(found.scores, expected.scores)


def test_a_picture_as_query_is_scored_by_its_best_view():
    gallery, queries = drawn(40, 3, 6, 2), drawn(2, 3, 6, 2, seed=5)
    single = RetrievalVectors(queries.pooled.reshape(6, 6), queries.shared.repeat_interleave(3, dim=0))
    found = merged_views(exact_top(parts_of(gallery, 20), single, 4, "dot"), 3, 4)
    expected = in_double(gallery, single).view(2, 3, 40).amax(dim=1)
    assert found.candidates.tolist() == ranked(expected, 4)


def test_a_machine_that_sums_in_float16_is_not_asked_to(monkeypatch: pytest.MonkeyPatch):
    gallery, queries = drawn(30, 2, 6, 2), drawn(1, 0, 6, 2, seed=5)
    monkeypatch.setattr(scan, "sums_in_float32", lambda: False)
    monkeypatch.setattr(scan, "_scan", None)
    found = exact_top(parts_of(gallery, 11), queries, 4, "dot")
    assert found.candidates.tolist() == ranked(in_double(gallery, queries), 4)


def test_faulty_queries_are_refused():
    parts = parts_of(drawn(5, 1, 4, 2))
    with pytest.raises(DataError, match="4 \\+ 0 wide, the index 4 \\+ 2"):
        exact_top(parts, drawn(1, 0, 4, 0), 1, "dot")
    faulty = drawn(2, 0, 4, 2)
    faulty.pooled[1, 2] = torch.nan
    with pytest.raises(DataError, match="queries: row 1"):
        exact_top(parts, faulty, 1, "dot")
