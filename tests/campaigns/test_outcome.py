"""Two runs are equal when no bit differs that is not a time."""

from __future__ import annotations

import torch
from campaigns.outcome import differences


def test_equal_structures() -> None:
    def made() -> dict[str, object]:
        return {"a": [1, 2.5, None, "x"], "b": {"c": torch.tensor([1.0, float("nan"), -0.0])}}

    assert differences(made(), made()) == []


def test_a_single_bit() -> None:
    first, second = torch.zeros(3), torch.zeros(3)
    second[1] = -0.0
    assert differences({"w": [first]}, {"w": [second]}) == ["/w/0"]


def test_types_shapes_and_layouts() -> None:
    assert differences({"w": torch.zeros(2)}, {"w": torch.zeros(2, dtype=torch.float64)}) == ["/w"]
    assert differences({"w": torch.zeros(2)}, {"w": torch.zeros(2, 1)}) == ["/w"]
    assert differences(torch.arange(6).view(2, 3).T, torch.tensor([[0, 3], [1, 4], [2, 5]])) == []
    assert differences({"n": 1}, {"n": 1.0}) == ["/n: 1 1.0"]


def test_missing_and_more() -> None:
    assert len(differences({"a": 1}, {"a": 1, "b": 2})) == 1
    assert differences([1, 2], [1]) == [": [1, 2] [1]"]
    assert differences({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}) == ["/a/1/x: 2 3"]
