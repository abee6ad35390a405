"""How much a result varies with the seed: Student-t intervals of the mean over a few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def student_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean, mean ± t · sd / √n.

    For paired results, `values` are the differences within each seed.

    Args:
        values: one value per seed, at least two.
        level: probability that the interval contains the mean, for normal values.
    """
    half = student_quantile(len(values) - 1, level=level) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def student_quantile(freedom: int, *, level: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = `level` for Student's distribution.

    Args:
        freedom: degrees of freedom, at least 1.
        level: between 0 and 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):  # bisection, to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _central_probability(angle: float, freedom: int) -> float:
    """P(|T| ≤ √freedom · tan(angle)), by the finite series for whole degrees of freedom.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
