"""One optimizer step: gradients of the named terms, clip, step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfalign_cli.assembly.optimizer import NO_QUIRKS, ParameterGroups, TrainingQuirks
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
    quirks: TrainingQuirks = NO_QUIRKS,
) -> dict[str, Tensor]:
    """Take one step and return the loss terms, scalars, unweighted, with `total` and `grad_norm` (before clipping).

    Args:
        model, objective, optimizer, groups: what is trained; model and objective are in training mode.
        batch: the pairs, on the device of the model; of several processes, those of this one.
        grad_clip_norm: largest total gradient length; 0 for none.
        pairs: number of pairs of all processes; None for those of `batch`.
        chunk_size: pairs that are encoded at once, to save memory; None for all. See `gradients.backward`.
        warmup: in the warm-up epochs.
        quirks: what the published programs do otherwise.
    """
    optimizer.zero_grad(set_to_none=True)
    terms = backward(model, objective, batch, pairs=pairs or len(batch.captions), warmup=warmup, chunk_size=chunk_size)
    norm = clip_gradients(groups, grad_clip_norm, quirks)
    _drop_gradients(groups.of(quirks.frozen))
    optimizer.step()
    if quirks.stepped_twice:  # once more with the same gradients; Adam passes over what has none
        _drop_gradients(groups.of(set(groups.by_name) - set(quirks.stepped_twice)))
        optimizer.step()
    return {**terms, "grad_norm": norm}


def clip_gradients(groups: ParameterGroups, limit: float, quirks: TrainingQuirks = NO_QUIRKS) -> Tensor:
    """Scale all gradients by limit / (length + 1e-6) if that is below 1.

    Args:
        groups: whose gradients count.
        limit: largest total length; 0 for none.
        quirks: which groups are counted twice, and scaled twice (O1).

    Returns:
        The Euclidean length of all gradients before scaling, a scalar.
    """
    gradients, twice = _gradients(groups.all()), _gradients(groups.of(quirks.stepped_twice))
    norm = nn.utils.get_total_norm([*gradients, *twice])
    if limit > 0:
        factor = (limit / (norm + NORM_FLOOR)).clamp(max=1.0)
        torch._foreach_mul_(gradients, factor)
        if twice:
            torch._foreach_mul_(twice, factor)
    return norm


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _drop_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
