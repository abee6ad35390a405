"""Intervals over seeds, against the printed table of Student's t and against the integral of its density."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfalign_cli.metrics.seeds import student_interval, student_quantile


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423)]
)
def test_quantiles_of_the_printed_table(freedom, t):
    assert student_quantile(freedom) == pytest.approx(t, abs=5e-5)


def test_other_levels():
    """Two degrees of freedom: P(|T| ≤ t) = t / √(2 + t²), so t = √2 p / √(1 - p²)."""
    assert student_quantile(2, level=0.5) == pytest.approx(math.sqrt(2) * 0.5 / math.sqrt(0.75))


@pytest.mark.parametrize("freedom", [1, 2, 3, 6, 7, 40])
def test_the_density_between_the_quantiles_integrates_to_the_level(freedom):
    t = student_quantile(freedom, level=0.9)
    x = np.linspace(-t, t, 20_001)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    assert float(np.trapezoid(density, x)) == pytest.approx(0.9, abs=1e-4)


def test_interval_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t(2) = 4.3027, half width 4.3027 / √3 = 2.4841."""
    assert student_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_equal_values_give_an_interval_of_width_zero():
    assert student_interval([4.0, 4.0]) == (4.0, 4.0)
