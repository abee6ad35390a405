"""The folder of a run: its files, how it is made, and when a run may be resumed."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from selfalign_cli import __version__
from selfalign_cli.assembly.checkpoint import Checkpoint
from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.origin import require_same_extractor
from selfalign_cli.errors import CheckpointError, RecipeError
from selfalign_cli.launch import launch_name, restarts
from selfalign_cli.recipe.load import dump_recipe
from selfalign_cli.recipe.schema import Recipe

RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"

FREE_KEYS = {
    "run.dir",
    "run.log_every",
    "run.save_every",
    "run.tensorboard",
    "run.gradient_shares",
    "data.workers",
    "data.features",
    "data.vocab",
    "data.cache_words",
    "model.bert",
    "optim.epochs",
}
"""Keys that may change when a run is resumed: they change no number of the steps that follow (`data.cache_words`: by
no more than rounding)."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        path: `run.dir` of the recipe.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The newest state, with all that `--resume` needs."""
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        """The model with the largest selection score on the dev split."""
        return self.path / "best.ckpt"

    def begin(self, *, resume: bool) -> None:
        """Make the folder for a run that starts at its first step.

        Args:
            resume: whether the run was to be resumed, but has no last.ckpt.

        Raises:
            RecipeError: the folder holds a run already, or cannot be made.
        """
        elsewhere = f"choose another folder: --set run.dir={self.path}-2"
        if self.last.exists():
            raise RecipeError(
                f"{self.path} holds a run already ({self.last.name})", f"continue it with --resume, or {elsewhere}"
            )
        if self.best.exists():
            found = "cannot be resumed: it has no last.ckpt, only" if resume else "holds"
            raise RecipeError(
                f"{self.path} {found} the {self.best.name} of an earlier run", f"move that away, or {elsewhere}"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RecipeError(
                f"run.dir {self.path} cannot be made or written to: {fault.strerror}", "choose another run.dir"
            ) from fault

    def restarted(self) -> bool:
        """Return whether `torchrun` has restarted the processes of this run after losing one."""
        try:
            described = json.loads((self.path / ENVIRONMENT).read_bytes())
            return restarts() > 0 and described["launch"] is not None and described["launch"] == launch_name()
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def describe(self, recipe: Recipe, data_hash: str, text_hash: str) -> None:
        """Write the resolved recipe, versions and hashes, and remove temporary files of a killed run."""
        for name in (self.last.name, self.best.name, RECIPE, ENVIRONMENT):
            for left_over in self.path.glob(f".{name}.*.tmp"):
                left_over.unlink(missing_ok=True)
        with replacing(self.path / RECIPE) as temporary:
            temporary.write_text(dump_recipe(recipe), encoding="utf-8")
        facts = {**versions(), "data_hash": data_hash, "text_hash": text_hash, "launch": launch_name()}
        with replacing(self.path / ENVIRONMENT) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def versions() -> dict[str, Any]:
    """Versions and machine facts that a result depends on."""
    return {
        "selfalign": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def check_resumable(recipe: Recipe, last: Checkpoint, features: FeatureFile, text_hash: str) -> list[str]:
    """Refuse to continue a run with another recipe, other features (of another extractor) or another vocabulary.

    Returns:
        A note for each key that differs and may, with both values.

    Raises:
        CheckpointError: the checkpoint holds no training state.
        DataError: the features were made by another extractor.
        RecipeError: keys differ that change the mathematics, or the data are others.
    """
    if last.training is None:
        raise CheckpointError(
            "last.ckpt holds a model only, no training state to resume", "start a new run in another run.dir"
        )
    require_same_extractor(
        features.extractor, last.data.get("extractor"), what=str(features.path), others=f"{recipe.run.dir}/last.ckpt"
    )
    for what, before, now in (
        ("features", last.data.get("content_hash"), features.content_hash),
        ("vocabulary", last.data.get("text_hash"), text_hash),
    ):
        if before != now:
            raise RecipeError(
                f"--resume with other {what}: the run was trained on {str(before)[:12]}, the recipe names {now[:12]}",
                "name the files of the run, or start a new one in another run.dir",
            )
    notes = {
        key: f"{key}: was {before!r}, now {now!r}"
        for key, before, now in differences(last.recipe.model_dump(), recipe.model_dump())
    }
    changed = [f"  {text}" for key, text in notes.items() if key not in FREE_KEYS]
    if changed:
        raise RecipeError(
            "--resume with a changed recipe: these keys change the mathematics\n" + "\n".join(changed),
            f"set them back ({RECIPE} of the run has them), or start a new run in another run.dir",
        )
    return list(notes.values())


def differences(before: dict[str, Any], now: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the key paths at which two nested dicts differ, with both values."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{path}{key}.")
        elif old != new:
            yield path + key, old, new
