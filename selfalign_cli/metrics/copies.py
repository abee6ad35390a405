"""Exact copies among embeddings, so that a tie between them is one score and never a matter of rounding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SAMPLED_COORDINATES = 16
"""Coordinates per tensor that are compared in every row; only rows that agree in them are compared in full."""


@dataclass(frozen=True)
class Arrangement:
    """The rows of one side in scoring order: copies are adjacent, and each set of copies is multiplied once.

    Attributes:
        distinct: (U,) int64, one row of each set of copies.
        rows: (N,) int64, all rows; a set of copies is a run.
        index: (N,) int64, not decreasing: row `rows[k]` has the vector of row `distinct[index[k]]`.
    """

    distinct: Tensor
    rows: Tensor
    index: Tensor

    def members(self, start: int, stop: int) -> slice:
        """The positions in `rows` whose vector is one of `distinct[start:stop]`."""
        first, last = torch.searchsorted(self.index, torch.tensor([start, stop]))
        return slice(int(first), int(last))

    def positions(self) -> Tensor:
        """(N,) int64, the inverse of `rows`: the position of row n in it."""
        inverse = torch.empty_like(self.rows)
        inverse[self.rows] = torch.arange(len(self.rows))
        return inverse


def arrange(first_equal: Tensor, order: Tensor) -> Arrangement:
    """Put rows in the given order, with every copy right behind the first of its set.

    Args:
        first_equal: (N,) int64 from `first_equal_rows`.
        order: (N,) int64 permutation of the rows.
    """
    wanted = torch.empty_like(order)
    wanted[order] = torch.arange(len(order))
    earliest = torch.full_like(order, len(order)).scatter_reduce(0, first_equal, wanted, "amin")
    rows = order[torch.argsort(earliest[first_equal[order]], stable=True)]
    _, index, sizes = torch.unique_consecutive(first_equal[rows], return_inverse=True, return_counts=True)
    return Arrangement(distinct=rows[sizes.cumsum(0) - sizes], rows=rows, index=index)


def first_equal_rows(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """For each row, the first row that is equal to it in every tensor.

    Args:
        tensors: (N, …) each, all with the same N.
        dtype: precision in which rows are compared; +0 and -0 are the same.

    Returns:
        (N,) int64; n itself for a row without an earlier copy.
    """
    flat = [tensor.flatten(1) for tensor in tensors]
    samples = [rows[:, :: max(1, rows.shape[1] // SAMPLED_COORDINATES)] for rows in flat]
    sample = np.ascontiguousarray(torch.cat([_plain(part, dtype) for part in samples], dim=1).numpy())
    first = np.arange(len(sample))
    if sample.size:
        keys = sample.view(np.dtype((np.void, sample.itemsize * sample.shape[1])))[:, 0]
        _, group, size = np.unique(keys, return_inverse=True, return_counts=True)
        seen: dict[bytes, int] = {}
        for row in np.flatnonzero(size[group] > 1).tolist():
            first[row] = seen.setdefault(_digest(flat, row, dtype), row)
    return torch.from_numpy(first)


def _plain(values: Tensor, dtype: torch.dtype) -> Tensor:
    """On the CPU, in the precision asked for, without negative zeros."""
    return values.detach().to(device="cpu", dtype=dtype) + 0.0


def _digest(tensors: Sequence[Tensor], row: int, dtype: torch.dtype) -> bytes:
    """128 bits of one row of every tensor; unequal rows do not collide by chance."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(_plain(tensor[row], dtype).numpy().tobytes())
    return digest.digest()
