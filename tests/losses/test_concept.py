"""The concept loss by hand, against loops, under padding; Sinkhorn's sums; what receives gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.losses.concept import ConceptAlignment, sinkhorn_assignments

REGIONS, WORDS = [4, 2, 3], [2, 5, 1]


def mask_of(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths).unsqueeze(1)


def rows(lengths: list[int], dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit rows (B, S, D) in double precision, zero at padded positions, and their mask."""
    values = torch.randn(
        len(lengths), max(lengths), dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    mask = mask_of(lengths, max(lengths))
    return functional.normalize(values, dim=-1) * mask.unsqueeze(-1), mask


def alignment(dim: int = 5, prototypes: int = 6, **options: Any) -> ConceptAlignment:
    torch.manual_seed(3)
    return ConceptAlignment(dim, prototypes=prototypes, **options).double()


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *rows(REGIONS, 5, seed=1), *rows(WORDS, 5, seed=2)


def scaled(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Sinkhorn's scalings, one entry at a time."""
    count, prototypes = scores.shape
    assignments = [[math.exp(float(score) / epsilon) for score in row] for row in scores]
    total = sum(map(sum, assignments))
    assignments = [[value / total for value in row] for row in assignments]
    for _ in range(iterations):
        columns = [sum(row[k] for row in assignments) for k in range(prototypes)]
        assignments = [[row[k] / (prototypes * columns[k]) for k in range(prototypes)] for row in assignments]
        assignments = [[value / (count * sum(row)) for value in row] for row in assignments]
    return count * torch.tensor(assignments, dtype=torch.float64)


def loops(
    regions: Tensor,
    region_mask: Tensor,
    words: Tensor,
    word_mask: Tensor,
    prototypes: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """The definition, one word at a time; differentiable in words and unit prototypes."""
    real = [(b, r) for b in range(len(regions)) for r in range(regions.shape[1]) if region_mask[b, r]]
    targets = scaled(torch.stack([regions[position] for position in real]) @ prototypes.detach().T, 0.05, 2)
    losses = []
    for b in range(len(words)):
        own = [r for r in range(regions.shape[1]) if region_mask[b, r]]
        per_word = []
        for word in words[b][word_mask[b]]:
            partner = max(own, key=(regions[b] @ word.detach()).tolist().__getitem__)
            log_probabilities = (word @ prototypes.T / temperature).log_softmax(dim=0)
            per_word.append(-(targets[real.index((b, partner))] * log_probabilities).sum())
        losses.append(torch.stack(per_word).mean())
    return torch.stack(losses).mean()


def test_worked_example() -> None:
    """One word equal to the first of two orthogonal regions, which are the prototypes; ε = 1, one scaling, τ = 1.

    Q = exp(Z) = [[e, 1], [1, e]]: columns and rows are equal already, so row 0 is (e, 1) / (e + 1) = (.7311, .2689).
    log softmax(1, 0) = (-.3133, -1.3133), and .7311 · .3133 + .2689 · 1.3133 = .5822.
    """
    loss = ConceptAlignment(2, prototypes=2, temperature=1.0, sinkhorn_epsilon=1.0, sinkhorn_iterations=1)
    loss.prototypes.data.copy_(torch.eye(2))
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = loss(torch.eye(2).unsqueeze(0), mask, torch.tensor([[[1.0, 0.0]]]), mask[:, :1])
    torch.testing.assert_close(found, torch.tensor(0.5822), atol=5e-5, rtol=0)


@pytest.mark.parametrize("iterations", [0, 1, 2, 7])
def test_assignments_equal_loops(iterations: int) -> None:
    scores = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tanh()
    found = sinkhorn_assignments(scores, epsilon=0.05, iterations=iterations)
    torch.testing.assert_close(found, scaled(scores, 0.05, iterations))


def test_assignments_sum_to_one_and_fill_the_prototypes_evenly() -> None:
    scores = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tanh()
    assignments = sinkhorn_assignments(scores, epsilon=0.5, iterations=50)
    torch.testing.assert_close(assignments.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(assignments.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))


def test_loss_and_gradients_equal_loops() -> None:
    regions, region_mask, words, word_mask = batch()
    loss, leaf = alignment(), words.clone().requires_grad_()
    unit = functional.normalize(loss.prototypes.detach(), dim=-1).requires_grad_()
    expected = loops(regions, region_mask, leaf, word_mask, unit)
    slopes = torch.autograd.grad(expected, [leaf, unit])
    words.requires_grad_()
    found = loss(regions, region_mask, words, word_mask)
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(words.grad, slopes[0])
    torch.testing.assert_close(loss.prototypes.grad, slopes[1])


def test_prototypes_become_unit_rows() -> None:
    loss = alignment()
    expected = functional.normalize(loss.prototypes.detach(), dim=-1)
    loss(*batch())
    torch.testing.assert_close(loss.prototypes.detach(), expected)


def test_a_prototype_of_length_zero_stays_finite() -> None:
    loss = alignment()
    loss.prototypes.data[0] = 0.0
    value = loss(*batch())
    value.backward()
    assert torch.isfinite(value)
    assert loss.prototypes.grad is not None
    assert torch.isfinite(loss.prototypes.grad).all()


def test_gradient_of_the_words() -> None:
    regions, region_mask, words, word_mask = batch()
    assert torch.autograd.gradcheck(
        lambda w: alignment()(regions, region_mask, w, word_mask), (words.requires_grad_(),), atol=1e-6, fast_mode=True
    )


def test_regions_get_no_gradient() -> None:
    regions, region_mask, words, word_mask = batch()
    alignment()(regions.requires_grad_(), region_mask, words.requires_grad_(), word_mask).backward()
    assert regions.grad is None


def test_regions_get_a_gradient_when_asked_for() -> None:
    regions, region_mask, words, word_mask = batch()
    options: dict[str, Any] = {"image_gradient": True, "sinkhorn_epsilon": 0.5}
    assert torch.autograd.gradcheck(
        lambda r: alignment(**options)(r, region_mask, words, word_mask),
        (regions.requires_grad_(),),
        atol=1e-6,
        fast_mode=True,
    )


def test_the_value_does_not_depend_on_where_gradients_go() -> None:
    torch.testing.assert_close(alignment(image_gradient=True)(*batch()), alignment()(*batch()))


def test_more_padding_changes_nothing() -> None:
    regions, region_mask, words, word_mask = batch()
    wide = [functional.pad(value, (0, 0, 0, 3), value=0.5) for value in (regions, words)]
    masks = [functional.pad(mask, (0, 3)) for mask in (region_mask, word_mask)]
    padded, tight = alignment(), alignment()
    found, expected = padded(wide[0], masks[0], wide[1], masks[1]), tight(*batch())
    torch.testing.assert_close(found, expected)
    found.backward(), expected.backward()
    torch.testing.assert_close(padded.prototypes.grad, tight.prototypes.grad)


def test_order_of_the_batch_does_not_matter() -> None:
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(alignment()(*(value[order] for value in batch())), alignment()(*batch()))


def test_every_caption_weighs_the_same() -> None:
    """Repeating all words of a caption leaves its mean, and the loss, as they are."""
    regions, region_mask, words, word_mask = batch()
    twice = torch.zeros(3, 5, 5, dtype=torch.float64)
    twice[0, :4] = words[0, :2].repeat(2, 1)
    twice[1:] = words[1:]
    mask = mask_of([4, 5, 1], 5)
    torch.testing.assert_close(alignment()(regions, region_mask, twice, mask), alignment()(*batch()))


def test_padded_regions_are_never_partners() -> None:
    """All similarities to real regions are negative, so a padded zero row would win."""
    mask = torch.tensor([[True, False]])
    words, regions = torch.tensor([[[-1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    loss = ConceptAlignment(2, prototypes=3)
    alone = loss(regions[:, :1], mask[:, :1], words, mask[:, :1])
    torch.testing.assert_close(loss(regions, mask, words, mask[:, :1]), alone)


def test_one_pair_of_one_word_and_one_region() -> None:
    """With one region, Q after column scaling is 1/K for each prototype: the cross-entropy against a uniform one."""
    regions, words = rows([1], 5, seed=1)[0], rows([1], 5, seed=2)[0]
    loss, mask = alignment(), torch.ones(1, 1, dtype=torch.bool)
    found = loss(regions, mask, words, mask)
    log_probabilities = (words[0] @ loss.prototypes.detach().T / 0.1).log_softmax(dim=-1)
    torch.testing.assert_close(found, -log_probabilities.mean())


def test_unit_vectors_stay_finite_in_single_precision() -> None:
    """Z/ε = ±20 at most: e²⁰ = 4.9e8, times thousands of entries, is far from overflow."""
    regions = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]).repeat(8, 16, 1)
    mask = torch.ones(8, 32, dtype=torch.bool)
    loss = ConceptAlignment(2, prototypes=2)
    loss.prototypes.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    value = loss(regions, mask, regions, mask)
    value.backward()
    assert torch.isfinite(value)


@pytest.mark.parametrize("dim", [4, 6])
def test_widths_must_agree(dim: int) -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(RuntimeError):
        ConceptAlignment(5, prototypes=3)(torch.ones(2, 3, dim), mask, torch.ones(2, 3, dim), mask)
