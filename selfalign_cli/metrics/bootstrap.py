"""How much a result would vary with other pictures: bootstrap intervals of one result, and of a paired difference.

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
from selfalign_cli.metrics.cutoffs import CUTOFFS, DIRECTIONS, RECALLS, RSUM_CUTOFFS, recall_name
from selfalign_cli.metrics.ranks import Ranks

Array = npt.NDArray[np.float64]

PER_DIRECTION = (*RECALLS, "mean_rank", "mrr")
METRICS = (*(f"{direction}.{name}" for direction in DIRECTIONS for name in PER_DIRECTION), "rsum")
"""The metrics with intervals; recalls in percent, ranks 1-based."""

DRAWN_AT_ONCE = 1 << 22
"""Random picture numbers per block (32 MiB)."""


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
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def intervals(
    ranks: Ranks, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap interval of every metric.

    Args:
        ranks: of all queries; with folds, those of `merge_folds`, which pools them.
        resamples: number of resamples.
        seed: of the resampling; the same seed gives the same intervals.
        level: coverage, e.g. 0.95.

    Returns:
        For each name of `METRICS`, lower and upper end.
    """
    draws = _sums_of(ranks).drawn(resamples, seed)
    return {name: _ends(draws[name], level) for name in METRICS}


def paired_difference(
    first: Ranks, second: Ranks, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> list[Difference]:
    """Second minus first over the same queries, with the same resamples of pictures for both.

    What both results have in common - hard pictures, easy pictures - cancels within a resample, so the interval is
    narrower than two separate ones.

    Args:
        first: ranks of one result.
        second: ranks of the other; `image_of_caption` must be the same.
        resamples: number of resamples.
        seed: of the resampling.
        level: coverage, e.g. 0.95.

    Raises:
        DataError: the results are about different queries.
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
    sums = _sums_of(first), _sums_of(second)
    value, other = (part.whole() for part in sums)
    draws, others = (part.drawn(resamples, seed) for part in sums)
    return [
        Difference(
            name,
            float(value[name]),
            float(other[name]),
            float(other[name] - value[name]),
            *_ends(others[name] - draws[name], level),
        )
        for name in METRICS
    ]


@dataclass(frozen=True)
class _Sums:
    """What each picture adds to the sums behind `METRICS`, by its own query and by those of its captions.

    Attributes:
        names: of the columns: `i2t.r1`, …, `i2t.queries` (how many queries there are), and likewise `t2i`.
        table: (N, C), a row per picture; one table, so that one matrix product gives all sums of many resamples.
    """

    names: tuple[str, ...]
    table: Array

    def whole(self) -> dict[str, Array]:
        """Every metric over all pictures."""
        return self._metrics(self.table.sum(axis=0))

    def drawn(self, resamples: int, seed: int) -> dict[str, Array]:
        """(resamples,) values of every metric over pictures drawn with replacement."""
        counts = _counts(len(self.table), resamples, seed)
        return self._metrics(np.concatenate([part @ self.table for part in counts]))

    def _metrics(self, sums: Array) -> dict[str, Array]:
        """(…, C) sums → (…) values by metric."""
        column = dict(zip(self.names, np.moveaxis(sums, -1, 0), strict=True))
        found = {
            f"{direction}.{name}": column[f"{direction}.{name}"] / column[f"{direction}.queries"]
            for direction in DIRECTIONS
            for name in PER_DIRECTION
        }
        recalls = [[found[f"{direction}.{recall_name(k)}"] for k in RSUM_CUTOFFS] for direction in DIRECTIONS]
        return {**found, "rsum": np.sum(recalls, axis=1).sum(axis=0)}


def _sums_of(ranks: Ranks) -> _Sums:
    columns = {f"i2t.{name}": values for name, values in _terms(ranks.i2t_rank).items()}
    rows = ranks.image_of_caption.numpy()
    for name, values in _terms(ranks.t2i_rank).items():
        columns[f"t2i.{name}"] = np.bincount(rows, weights=values, minlength=len(ranks.i2t_rank)).astype(np.float64)
    return _Sums(tuple(columns), np.stack(list(columns.values()), axis=1))


def _terms(ranks: Tensor) -> dict[str, Array]:
    """(n,) each: what every query adds to the sums behind `PER_DIRECTION`, and to the number of queries."""
    positions = ranks.numpy().astype(np.float64) + 1.0
    return {
        **{recall_name(k): np.where(positions <= k, 100.0, 0.0) for k in CUTOFFS},
        "mean_rank": positions,
        "mrr": 1.0 / positions,
        "queries": np.ones_like(positions),
    }


def _counts(images: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each picture is drawn: blocks of (resamples, N) that depend on the arguments alone."""
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWN_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = generator.integers(0, images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _ends(draws: Array, level: float) -> tuple[float, float]:
    """Percentiles that leave half of 1 - level on each side."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return float(low), float(high)
