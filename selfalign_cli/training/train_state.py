"""The state of a training run: how it is made, saved in a checkpoint, and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfalign_cli import parallel
from selfalign_cli.assembly.build import build_model
from selfalign_cli.assembly.checkpoint import Checkpoint, load_state
from selfalign_cli.assembly.language import Language
from selfalign_cli.assembly.objective import build_objective
from selfalign_cli.assembly.optimizer import ParameterGroups, build_optimizer, parameter_groups
from selfalign_cli.errors import CheckpointError
from selfalign_cli.losses.objective import Objective
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import Recipe

SEED_STRIDE = 1_000_003
"""Difference of the seeds of two processes."""
PLAIN = ("validated", "best_score", "best_step", "log_bytes")


@dataclass
class TrainState:
    """All that training changes and a checkpoint must restore.

    Attributes:
        model, objective, optimizer: what is trained, and the optimizer.
        groups: the parameters.
        step: optimizer steps done.
        validated: step of the last validation, -1 before the first.
        scores: dev scores of that validation.
        best_score: largest selection score so far, None before the first.
        best_step: its step.
        log_bytes: length of metrics.jsonl.
    """

    model: RetrievalModel
    objective: Objective
    optimizer: torch.optim.Adam
    groups: ParameterGroups
    step: int = 0
    validated: int = -1
    scores: dict[str, float] = field(default_factory=dict)
    best_score: float | None = None
    best_step: int = -1
    log_bytes: int = 0

    @property
    def device(self) -> torch.device:
        return self.groups.all()[0].device

    def training(self) -> dict[str, Any]:
        """Return what `--resume` needs besides the model: among it the random state of all processes."""
        random = parallel.all_gather_objects(_random_state(self.device))
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in PLAIN},
            **random[0],
            "others": random[1:],
        }

    def not_finite(self) -> str | None:
        """Name the first tensor of model, objective or optimizer with a NaN or an infinity; None if there is none."""
        named = {**self.model.state_dict(), **self.objective.state_dict(), **dict(self._moments())}
        floating = {name: value for name, value in named.items() if value.is_floating_point()}
        sound = torch.stack([value.isfinite().all().to(self.device) for value in floating.values()])
        return next((name for name, good in zip(floating, sound.tolist(), strict=True) if not good), None)

    def _moments(self) -> Iterator[tuple[str, Tensor]]:
        for number, state in enumerate(self.optimizer.state.values()):
            yield from ((f"{name} of parameter {number}", value) for name, value in state.items())


def begin_state(recipe: Recipe, language: Language, feature_dim: int, device: torch.device) -> TrainState:
    """Build model, objective and optimizer with seeded weights."""
    torch.manual_seed(recipe.run.seed)
    words = len(language.captions)
    model = build_model(recipe, feature_dim=feature_dim, vocab_size=words, bert=language.bert).to(device)
    objective = build_objective(recipe, vocab_size=words).to(device)
    groups = parameter_groups(model, objective)
    if parallel.rank() > 0:  # equal weights, different dropout
        torch.manual_seed(recipe.run.seed + SEED_STRIDE * parallel.rank())
    return TrainState(model, objective, build_optimizer(recipe, groups), groups)


def restore_state(state: TrainState, checkpoint: Checkpoint, *, what: str) -> None:
    """Restore the state of a checkpoint, that of the random number generators included.

    Args:
        state: from `begin_state`, with the recipe of the checkpoint.
        checkpoint: one with training state.
        what: name of its file, for messages.

    Raises:
        CheckpointError: weights are missing or misshapen, or the training state is damaged.
    """
    training = checkpoint.training
    assert training is not None  # checked by check_resumable
    load_state(state.model, checkpoint.model, what=what)
    load_state(state.objective, training.get("objective"), what=f"{what} (its objective)")
    try:
        state.optimizer.load_state_dict(training["optimizer"])
        for name in PLAIN:
            setattr(state, name, training[name])
        state.step, state.scores = checkpoint.step, checkpoint.scores
        _set_random_state(training, state.device)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as fault:
        raise CheckpointError(f"{what} holds a damaged training state", "train again in another run.dir") from fault
    faulty = state.not_finite()
    if faulty is not None:
        raise CheckpointError(
            f"{what} holds a damaged training state: {faulty} is not finite", "train again in another run.dir"
        )


def _random_state(device: torch.device) -> dict[str, Any]:
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return {"rng": torch.get_rng_state(), "cuda_rng": cuda}


def _set_random_state(training: dict[str, Any], device: torch.device) -> None:
    """Restore the random state of this process; a rank that the checkpoint does not have keeps its own."""
    states = [training, *training.get("others", [])]
    if parallel.rank() >= len(states):
        return
    state = states[parallel.rank()]
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"][0], device)
