"""How far a result would move with other pictures: bootstrap intervals of one result, and of a paired difference.

Pictures are drawn with replacement, each with all its captions: the captions of one picture are not independent
queries, so drawing them one by one would make the caption → picture intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.ranks import Ranks

Array = npt.NDArray[np.float64]

PER_DIRECTION = ("r1", "r5", "r10", "mean_rank", "mrr")
METRICS = (*(f"i2t.{name}" for name in PER_DIRECTION), *(f"t2i.{name}" for name in PER_DIRECTION), "rsum")
"""What intervals are made for, in the order of the columns below; recalls in percent, ranks 1-based."""

DRAWN_AT_ONCE = 1 << 22
"""Picture numbers drawn at once (32 MiB)."""


@dataclass(frozen=True)
class Difference:
    """One metric of two results over the same queries.

    Attributes:
        metric: a name of `METRICS`.
        first: value of the first result.
        second: value of the second.
        difference: second - first.
        low: lower end of the interval of the difference.
        high: upper end.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def intervals(
    ranks: Ranks, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap interval of every metric.

    Args:
        ranks: of all queries; of folds, those joined (an interval of the pooled queries, not of the mean of folds).
        resamples: how many draws of pictures.
        seed: of the draws; the same seed gives the same intervals.
        level: share of the draws inside.

    Returns:
        For each name of `METRICS`, lower and upper end.
    """
    draws = _draws(_sums(ranks), resamples, seed)
    low, high = _ends(draws, level)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(METRICS)}


def paired_difference(
    first: Ranks, second: Ranks, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> list[Difference]:
    """Second minus first over the same queries, every draw of pictures used for both.

    What is common to both results - hard pictures, easy pictures - cancels within a draw, so the interval is narrower
    than two separate ones.

    Args:
        first: ranks of one result.
        second: ranks of the other; `image_of_caption` must be the same.
        resamples: how many draws of pictures.
        seed: of the draws.
        level: share of the draws inside.

    Raises:
        DataError: the two are about different queries.
    """
    same = len(first.i2t_rank) == len(second.i2t_rank) and np.array_equal(
        first.image_of_caption.numpy(), second.image_of_caption.numpy()
    )
    if not same:
        raise DataError(
            f"the results are about different queries: {len(first.i2t_rank):,} pictures and "
            f"{len(first.t2i_rank):,} captions against {len(second.i2t_rank):,} and {len(second.t2i_rank):,}"
            ", or captions that belong to other pictures",
            "compare results of the same split of the same data",
        )
    sums = [_sums(ranks) for ranks in (first, second)]
    low, high = _ends(_draws(sums[1], resamples, seed) - _draws(sums[0], resamples, seed), level)
    values = [_metrics(part.sum(axis=0, keepdims=True))[0] for part in sums]
    return [
        Difference(name, float(a), float(b), float(b - a), float(low[i]), float(high[i]))
        for i, (name, a, b) in enumerate(zip(METRICS, *values, strict=True))
    ]


def _sums(ranks: Ranks) -> Array:
    """(N, 12) per picture: five sums over its one picture query, a 1, five sums over its captions, their number."""
    images = len(ranks.i2t_rank)
    of_captions = np.zeros((images, len(PER_DIRECTION) + 1))
    np.add.at(of_captions, ranks.image_of_caption.numpy(), _terms(ranks.t2i_rank))
    return np.concatenate([_terms(ranks.i2t_rank), of_captions], axis=1)


def _terms(ranks: Tensor) -> Array:
    """(n, 6) what each query adds to the sums behind `PER_DIRECTION`, and 1."""
    places = ranks.numpy().astype(np.float64) + 1.0
    hits = [100.0 * (places <= k) for k in (1, 5, 10)]
    return np.stack([*hits, places, 1.0 / places, np.ones_like(places)], axis=1)


def _metrics(sums: Array) -> Array:
    """(…, 12) sums → (…, 11) values of `METRICS`."""
    width = len(PER_DIRECTION)
    i2t = sums[..., :width] / sums[..., width : width + 1]
    t2i = sums[..., width + 1 : -1] / sums[..., -1:]
    total = i2t[..., :3].sum(axis=-1, keepdims=True) + t2i[..., :3].sum(axis=-1, keepdims=True)
    return np.concatenate([i2t, t2i, total], axis=-1)


def _draws(sums: Array, resamples: int, seed: int) -> Array:
    """(resamples, 11) metrics of pictures drawn with replacement."""
    return np.concatenate([_metrics(counts @ sums) for counts in _counts(len(sums), resamples, seed)])


def _counts(images: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each picture is drawn: (some resamples, N) at a time, the same for the same arguments."""
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWN_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = generator.integers(0, images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _ends(draws: Array, level: float) -> tuple[Array, Array]:
    """Percentiles that leave half of 1 - level on each side."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return low, high
