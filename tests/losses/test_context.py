"""The context loss by hand, against loops, under padding, and where few or no negatives are left."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.losses.context import OWN_LOGIT, context_alignment_loss


def draw(batch: int, positions: int, dim: int = 6, queries: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit guides (B, D) or (B, Q, D) and unit locals (B, S, D) in double precision."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, queries, dim) if queries else (batch, dim)
    guide, locals_ = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in (shape, (batch, positions, dim))
    )
    return functional.normalize(guide, dim=-1), functional.normalize(locals_, dim=-1)


def mask_of(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths).unsqueeze(1)


def same_picture(numbers: list[int]) -> Tensor:
    index = torch.tensor(numbers)
    return index.unsqueeze(0) == index.unsqueeze(1)


def loops(
    guide: Tensor,
    locals_: Tensor,
    *,
    temperature: float,
    negatives: int | None,
    mask: Tensor | None = None,
    exclude_own: bool = True,
    same: Tensor | None = None,
) -> Tensor:
    """The definition, one positive at a time."""
    batch, positions, _ = locals_.shape
    real = mask if mask is not None else torch.ones(batch, positions, dtype=torch.bool)
    queries = guide if guide.dim() == 3 else guide.unsqueeze(1)
    losses = []
    for b in range(batch):
        for query in queries[b]:
            found = []
            for c in range(batch):
                if c != b and same is not None and same[b, c]:
                    continue
                for position in range(positions):
                    if real[c, position] and c != b:
                        found.append(float(query @ locals_[c, position]) / temperature)
                    elif real[c, position] and not exclude_own:
                        found.append(OWN_LOGIT)
            hardest = sorted(found, reverse=True)[:negatives]
            for position in range(positions):
                if real[b, position]:
                    own = float(query @ locals_[b, position]) / temperature
                    losses.append(-math.log(math.exp(own) / (math.exp(own) + sum(map(math.exp, hardest)))))
    return torch.tensor(sum(losses) / len(losses), dtype=torch.float64)


def test_worked_example() -> None:
    """Two orthogonal guides, every local equal to its guide, two locals each, τ = 1.

    A positive is e, each of the two negatives 1: -log(e / (e + 2)) = log(1 + 2 / e) = 0.5514.
    """
    guide = torch.eye(2)
    loss = context_alignment_loss(guide, guide.unsqueeze(1).expand(2, 2, 2), temperature=1.0, negatives=None)
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + 2 / math.e)))


def test_worked_example_with_one_negative_and_a_temperature() -> None:
    """The same, τ = 0.5 and only the hardest negative: -log(e² / (e² + 1)) = log(1 + 1 / e²) = 0.1269."""
    guide = torch.eye(2)
    loss = context_alignment_loss(guide, guide.unsqueeze(1).expand(2, 2, 2), temperature=0.5, negatives=1)
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + math.exp(-2))))


def test_worked_example_of_the_published_own_logits() -> None:
    """As the first, but two entries e⁻¹⁰ join the negatives: log(1 + (2 + 2 e⁻¹⁰) / e)."""
    guide = torch.eye(2)
    loss = context_alignment_loss(
        guide, guide.unsqueeze(1).expand(2, 2, 2), temperature=1.0, negatives=None, exclude_own=False
    )
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + (2 + 2 * math.exp(-10)) / math.e)))


OPTIONS: dict[str, dict[str, Any]] = {
    "all": {"negatives": None},
    "hardest": {"negatives": 4},
    "more than there are": {"negatives": 500},
    "own": {"negatives": None, "exclude_own": False},
    "into own": {"negatives": 17, "exclude_own": False},
    "masked": {"negatives": 5, "mask": mask_of([5, 2, 4, 1], 5)},
    "masked own": {"negatives": None, "mask": mask_of([5, 2, 4, 1], 5), "exclude_own": False},
    "same picture": {"negatives": 6, "same": same_picture([1, 2, 1, 3])},
    "same picture own": {"negatives": None, "same": same_picture([1, 2, 1, 3]), "exclude_own": False},
    "everything": {
        "negatives": 7,
        "mask": mask_of([5, 2, 4, 1], 5),
        "same": same_picture([1, 2, 1, 3]),
        "exclude_own": False,
    },
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))


@each_option
@pytest.mark.parametrize("queries", [0, 3])
def test_loss_equals_loops(options: dict[str, Any], queries: int) -> None:
    guide, locals_ = draw(4, 5, queries=queries)
    found = context_alignment_loss(guide, locals_, temperature=0.3, **options)
    torch.testing.assert_close(found, loops(guide, locals_, temperature=0.3, **options))


@each_option
def test_gradient(options: dict[str, Any]) -> None:
    inputs = tuple(value.requires_grad_() for value in draw(4, 5, dim=3))
    assert torch.autograd.gradcheck(
        lambda guide, locals_: context_alignment_loss(guide, locals_, temperature=0.5, **options), inputs
    )


@each_option
def test_order_of_the_batch_does_not_matter(options: dict[str, Any]) -> None:
    guide, locals_ = draw(4, 5)
    order = torch.tensor([2, 0, 3, 1])
    moved = dict(options)
    if "mask" in options:
        moved["mask"] = options["mask"][order]
    if "same" in options:
        moved["same"] = options["same"][order][:, order]
    torch.testing.assert_close(
        context_alignment_loss(guide[order], locals_[order], temperature=0.3, **moved),
        context_alignment_loss(guide, locals_, temperature=0.3, **options),
    )


@pytest.mark.parametrize("exclude_own", [True, False])
@pytest.mark.parametrize("negatives", [3, 500, None])
def test_more_padding_changes_nothing(exclude_own: bool, negatives: int | None) -> None:
    guide, locals_ = draw(3, 4)
    mask = mask_of([4, 1, 3], 4)
    options: dict[str, Any] = {"temperature": 0.3, "negatives": negatives, "exclude_own": exclude_own}
    wider = torch.cat([locals_, torch.full((3, 6, locals_.shape[2]), 9.0, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(
        context_alignment_loss(guide, wider, mask=functional.pad(mask, (0, 6)), **options),
        context_alignment_loss(guide, locals_, mask=mask, **options),
    )


def test_padded_positions_get_no_gradient() -> None:
    guide, locals_ = draw(3, 4)
    mask = mask_of([4, 1, 3], 4)
    context_alignment_loss(guide, locals_.requires_grad_(), temperature=0.3, negatives=None, mask=mask).backward()
    assert locals_.grad is not None
    assert (locals_.grad[~mask] == 0).all()
    assert (locals_.grad[mask] != 0).any(dim=-1).all()


def test_a_full_mask_is_no_mask() -> None:
    guide, locals_ = draw(3, 4)
    torch.testing.assert_close(
        context_alignment_loss(guide, locals_, temperature=0.3, negatives=5, mask=mask_of([4, 4, 4], 4)),
        context_alignment_loss(guide, locals_, temperature=0.3, negatives=5),
    )


def test_more_negatives_than_the_batch_holds_are_all_negatives() -> None:
    guide, locals_ = draw(3, 4)
    losses = [context_alignment_loss(guide, locals_, temperature=0.3, negatives=n) for n in (None, 8, 12, 10**6)]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("negatives", [None, 1, 512])
@pytest.mark.parametrize("numbers", [[0], [5, 5, 5]], ids=["one pair", "one picture"])
def test_without_negatives_loss_and_gradient_are_zero(
    numbers: list[int], negatives: int | None, dtype: torch.dtype
) -> None:
    guide, locals_ = (value.to(dtype).requires_grad_() for value in draw(len(numbers), 4))
    loss = context_alignment_loss(guide, locals_, temperature=0.05, negatives=negatives, same=same_picture(numbers))
    loss.backward()
    assert loss == 0.0
    for value in (guide, locals_):
        torch.testing.assert_close(value.grad, torch.zeros_like(value))


def test_one_pair_alone_meets_its_own_constants_as_published() -> None:
    """Four entries of e⁻¹⁰ against each of the four positives."""
    guide, locals_ = draw(1, 4)
    found = context_alignment_loss(guide, locals_, temperature=0.7, negatives=None, exclude_own=False)
    own = (locals_[0] @ guide[0]) / 0.7
    torch.testing.assert_close(found, (1 + 4 * math.exp(OWN_LOGIT) / own.exp()).log().mean())


def test_a_small_temperature_stays_finite_in_single_precision() -> None:
    """Logits reach ±1000, whose exponentials overflow."""
    guide, locals_ = (value.float().requires_grad_() for value in draw(4, 5))
    loss = context_alignment_loss(guide, locals_, temperature=0.001, negatives=3)
    loss.backward()
    assert torch.isfinite(loss)
    assert guide.grad is not None
    assert torch.isfinite(guide.grad).all()


@pytest.mark.parametrize("guides", [3, 4], ids=["odd", "a multiple"])
def test_guides_and_locals_of_unequal_batches_are_refused(guides: int) -> None:
    with pytest.raises(RuntimeError):
        context_alignment_loss(torch.ones(guides, 6), torch.ones(2, 5, 6), temperature=0.3, negatives=None)
