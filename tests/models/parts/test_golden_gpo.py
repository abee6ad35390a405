"""The pooling alone against the released code."""

from __future__ import annotations

import pytest
import torch
from support.golden import PRECISIONS, allowances, difference, golden_root, tensors, under, unit_cases, widen
from torch import Tensor

from selfalign_cli.models.parts.gpo import GeneralizedPooling, position_table

TABLES = "position_table"
TOLERANCE = {"f64": 1e-10, "f32": 5e-5}


def test_golden_position_tables() -> None:
    """Single precision, bit for bit on this machine's sine up to a unit in the last place."""
    found = under(tensors(golden_root() / "units" / "gpo.safetensors"), TABLES)
    assert found
    for name, table in found.items():
        ours = position_table(len(table), int(name.removeprefix("d")))
        assert ours.dtype == torch.float32
        assert difference(ours, table) <= 1.2e-7, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_pooling(precision: str) -> None:
    dtype, seen = PRECISIONS[precision], 0
    for case, options, found in unit_cases("gpo"):
        module = GeneralizedPooling(options["d_pe"], options["d_hidden"]).to(dtype)
        module.load_state_dict(widen(under(found, "param"), dtype))
        features = found["in.features"].to(dtype).requires_grad_()
        lengths = found["in.lengths"]
        pooled = module(features, torch.arange(features.shape[1]) < lengths.unsqueeze(1))
        (pooled * found["weight" if "weight" in found else "in.weight"].to(dtype)).sum().backward()
        longest = int(lengths.max())
        results: dict[str, Tensor] = {
            "pooled": pooled,
            "position_weights": module.weights(lengths, features.shape[1])[:, :longest],
            "grad_in.features": gradient(features),
            **{f"grad_param.{name}": gradient(value) for name, value in module.named_parameters()},
        }
        expected, exact = under(found, precision), under(found, "f64")
        allowed = allowances(expected, exact, TOLERANCE[precision])
        assert results.keys() == expected.keys()
        gaps = {name: (difference(results[name], value), allowed[name]) for name, value in expected.items()}
        assert all(gap <= most for gap, most in gaps.values()), (case, gaps)
        seen += 1
    assert seen


def gradient(value: Tensor) -> Tensor:
    assert value.grad is not None
    return value.grad
