"""What tests of single golden modules share: cases as parameters, inputs as leaves, comparison within rounding."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.golden import PRECISIONS, ZERO_IN_THEORY, allowances, difference, under, unit_cases, widen
from torch import Tensor, nn

from selfalign_cli.published.names import Rules, rename_state

# MODELS.md section 11: what two releases of one library agree to.
OUTPUT = {"f64": 1e-10, "f32": 3e-6}
LOSS = {"f64": 1e-10, "f32": 2e-5}
GRADIENT = {"f64": 1e-10, "f32": 5e-5}
ZERO_GRADIENT = {"f64": 1e-10, "f32": 1e-3}


def each_case(name: str) -> pytest.MarkDecorator:
    """Run a test for every case of `units/<name>`, as `options` (settings) and `case` (tensors)."""
    found = list(unit_cases(name))
    return pytest.mark.parametrize(("options", "case"), [case[1:] for case in found], ids=[case[0] for case in found])


def leaves(case: Mapping[str, Tensor], *names: str, precision: str) -> list[Tensor]:
    """The inputs `in.<name>`, widened, ready to receive a gradient."""
    return [case[f"in.{name}"].to(PRECISIONS[precision], copy=True).requires_grad_() for name in names]


def renamed(state: Mapping[str, Tensor], published: str, ours: str, rules: Rules, precision: str) -> dict[str, Tensor]:
    """A published module state under our names: `published` and `ours` are the places the rules know it by."""
    placed = {f"{published}{name}": value for name, value in state.items()}
    found, unknown = rename_state(widen(placed, PRECISIONS[precision]), rules)
    assert not unknown
    return under(found, ours) if ours else found


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def assert_agrees(
    found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor], exact: Mapping[str, Tensor], limit: float
) -> None:
    """Compare everything that is expected; `exact` holds the same in double precision."""
    assert expected
    allowed = allowances(expected, {name: exact[name] for name in expected}, limit)
    gaps = {}
    for name, value in expected.items():
        ours = found[name]
        assert ours is not None, f"{name} is missing"
        gaps[name] = (difference(ours, value), allowed[name])
    assert all(gap <= most for gap, most in gaps.values()), gaps


def assert_slopes_agree(
    found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor], exact: Mapping[str, Tensor], precision: str
) -> None:
    """Compare gradients. Those that are zero in theory, as in front of a batch normalisation, are rounding only."""
    largest = max(float(value.abs().max()) for value in exact.values())
    noise = {name for name in expected if float(exact[name].abs().max()) <= ZERO_IN_THEORY * largest}
    for name in noise:
        ours = found[name]
        assert ours is not None, f"{name} is missing"
        assert difference(ours, expected[name]) <= ZERO_GRADIENT[precision] * max(1.0, largest), name
    known = {name: value for name, value in expected.items() if name not in noise}
    assert_agrees(found, known, exact, GRADIENT[precision])
