"""Train a small VSRN on a feature file, several times, and score it: the same recipe for all features."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.metrics.seeds import student_interval
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.shipped import shipped_recipe
from selfalign_cli.scoring.evaluate import score_files
from selfalign_cli.training.train import train_recipe

RECIPE = "vsrn_scenes_baseline.yaml"
FIRST_SEED = 1024
LAST_QUARTER = 0.75
"""Of the epochs, after which the rate decays and the hardest negatives count, as in the recipe."""


class NoView:
    """Shows nothing of a run."""

    def start(self, **facts: Any) -> None:
        """The run starts."""

    def step(self, **facts: Any) -> None:
        """A step is done."""

    def validation(self, **facts: Any) -> None:
        """The dev split was scored."""

    def message(self, text: str) -> None:
        """A message to the user."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is complete."""


@dataclass(frozen=True)
class Scores:
    """What the runs of one arm reached, seed by seed.

    Attributes:
        test: rsum on test, of the weights that were best on dev.
        dev: theirs on dev.
        seconds: of the processor, for all runs.
    """

    test: list[float]
    dev: list[float]
    seconds: float

    def shown(self) -> str:
        """Mean and standard deviation on test."""
        return f"{fmean(self.test):.1f} ±{stdev(self.test):.1f}"

    def against(self, other: Scores) -> str:
        """Mean difference on test, seed by seed, with its 95 % interval."""
        differences = [one - two for one, two in zip(self.test, other.test, strict=True)]
        low, high = student_interval(differences)
        return f"{fmean(differences):+.1f} [{low:+.1f}, {high:+.1f}]"


def schedule(epochs: int) -> list[str]:
    """Overrides for another number of epochs."""
    turn = max(1, round(LAST_QUARTER * epochs))
    return [f"optim.epochs={epochs}", f"optim.decay_every={turn}", f"loss.ranking.warmup_epochs={turn}"]


def train_and_score(features: Path, folder: Path, *, seeds: int, overrides: Sequence[str]) -> Scores:
    """Train with each seed and score the best checkpoint.

    Args:
        features: the feature file, with captions and the splits train, dev and test.
        folder: for vocabulary and runs, which are removed.
        seeds: how many, from `FIRST_SEED`.
        overrides: of the recipe.
    """
    folder.mkdir()
    vocab = folder / "vocab.json"
    build_vocabulary(read_vocabulary_captions(features), min_count=1).save(vocab)
    began = time.process_time()
    test, dev = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        run = folder / str(seed)
        paths = {"data.features": features, "data.vocab": vocab, "run.dir": run}
        settings = [f"{key}={json.dumps(str(path))}" for key, path in paths.items()]
        recipe = load_recipe(shipped_recipe(RECIPE), [*settings, f"run.seed={seed}", *overrides])
        train_recipe(recipe, resume=False, device="cpu", ui=NoView())
        dev.append(load_checkpoint(run / "best.ckpt").scores["rsum"])
        test.append(score_files([run / "best.ckpt"], device="cpu").report.rsum)
    shutil.rmtree(folder)
    return Scores(test, dev, time.process_time() - began)
