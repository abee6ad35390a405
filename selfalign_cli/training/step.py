"""One optimizer step: gradients of the named terms, clip, step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfalign_cli.assembly.build import ParameterGroups
from selfalign_cli.encodings import PairBatch
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.training.gradients import backward

NORM_FLOOR = 1e-6  # Reference: torch's clip_grad_norm_ divides by norm + 1e-6


def train_step(
    model: RetrievalModel,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    groups: ParameterGroups,
    batch: PairBatch,
    *,
    grad_clip_norm: float,
    pairs: int | None = None,
    chunk_size: int | None = None,
    warmup: bool = False,
    freeze_prototypes: bool = False,
    captioner_twice: bool = False,
) -> dict[str, Tensor]:
    """Take one step and return the loss terms, scalars, unweighted, with `total` and `grad_norm` (before clipping).

    Args:
        model, objective, optimizer, groups: what is trained; model and objective are in training mode.
        batch: the pairs, on the device of the model; of several processes, those of this one.
        grad_clip_norm: largest total gradient length; 0 for none.
        pairs: number of pairs of all processes; None for those of `batch`.
        chunk_size: pairs that are encoded at once, to save memory; None for all. See `gradients.backward`.
        warmup: hinge on the mean violation.
        freeze_prototypes: drop the prototypes' gradient after clipping, where it still counts (M9).
        captioner_twice: count, clip and step the caption generator twice, as the released parameter list does (O1).
    """
    optimizer.zero_grad(set_to_none=True)
    terms = backward(model, objective, batch, pairs=pairs or len(batch.captions), warmup=warmup, chunk_size=chunk_size)
    norm = clip_gradients(groups, grad_clip_norm, captioner_twice=captioner_twice)
    if freeze_prototypes and objective.concept is not None:
        objective.concept.prototypes.grad = None
    optimizer.step()
    if captioner_twice:
        _step_again(optimizer, groups)
    return {**terms, "grad_norm": norm}


def clip_gradients(groups: ParameterGroups, limit: float, *, captioner_twice: bool) -> Tensor:
    """Scale all gradients by limit / (length + 1e-6) if that is below 1.

    Args:
        groups: whose gradients count.
        limit: largest total length; 0 for none.
        captioner_twice: count the caption generator's gradients twice, and scale them twice (O1).

    Returns:
        The Euclidean length of all gradients before scaling, a scalar.
    """
    once = _gradients([*groups.main, *groups.bert])
    captioner = _gradients(groups.captioner)
    norm = nn.utils.get_total_norm([*once, *captioner, *(captioner if captioner_twice else [])])
    if limit > 0:
        factor = (limit / (norm + NORM_FLOOR)).clamp(max=1.0)
        torch._foreach_mul_([*once, *captioner], factor)
        if captioner_twice and captioner:
            torch._foreach_mul_(captioner, factor)
    return norm


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _step_again(optimizer: torch.optim.Optimizer, groups: ParameterGroups) -> None:
    """Step the caption generator once more with the same gradients; Adam passes over what has none."""
    for parameter in [*groups.main, *groups.bert]:
        parameter.grad = None
    optimizer.step()
