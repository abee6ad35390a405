"""Exact copies: found whatever the sampled coordinates are, and made adjacent."""

from __future__ import annotations

import torch

from selfalign_cli.metrics.copies import arrange, first_equal_rows


def test_first_equal_rows_by_hand():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 5.0], [1.0, 2.0]])
    assert first_equal_rows([rows], torch.float32).tolist() == [0, 1, 0, 3, 0]


def test_rows_that_differ_in_one_unsampled_coordinate_differ():
    rows = torch.zeros(100, 1000)
    rows[torch.arange(100), torch.arange(100) * 10 + 1] = 1.0
    assert first_equal_rows([rows], torch.float32).tolist() == list(range(100))


def test_rows_must_agree_in_all_tensors():
    first, second = torch.zeros(3, 2, 2), torch.tensor([[0.0], [1.0], [0.0]])
    assert first_equal_rows([first, second, torch.zeros(3, 0)], torch.float32).tolist() == [0, 1, 0]


def test_arrange_by_hand():
    """rows in the order 3, 1, 0, 2, of which 3 and 0 are copies: 3, 0, 1, 2"""
    found = arrange(torch.tensor([0, 1, 2, 0]), torch.tensor([3, 1, 0, 2]))
    assert found.rows.tolist() == [3, 0, 1, 2]
    assert found.index.tolist() == [0, 0, 1, 2]
    assert found.distinct.tolist() == [3, 1, 2]
    assert found.members(0, 2) == slice(0, 3)
    assert found.positions().tolist() == [1, 2, 3, 0]
