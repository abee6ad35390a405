"""When what happens: learning rate, warm-up, frozen prototypes, validations, and which model is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.processes import Forks
from support.world import STEPS_PER_EPOCH, World, changed_recipe, lines_of, metrics_of, opened
from torch.nn import functional

from selfalign_cli.assembly.checkpoint import load_checkpoint
from selfalign_cli.data.pairs import pair_batches
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.training.train import open_training_data
from selfalign_cli.training.train_state import begin_state, restore_state


def trained(
    world: World, forks: Forks, folder: Path, *, name: str = "tiny.yaml", **sections: dict[str, object]
) -> Path:
    """Train a changed recipe; its path."""
    recipe = changed_recipe(world, folder / name, **sections)
    done = forks.run("train", recipe, cwd=folder)
    assert done.code == 0, done.err
    return recipe


def test_the_learning_rate_decays(unbroken: Path) -> None:
    """Halved every epoch, from 3e-3."""
    rates = {line["epoch"]: line["learning_rate"] for line in lines_of(unbroken) if line["kind"] == "train"}
    assert rates == {1: 3e-3, 2: 1.5e-3}


def test_the_learning_rate_decays_every_so_many_epochs(world: World, forks: Forks, tmp_path: Path) -> None:
    """10 steps a batch of 60: two steps an epoch; a tenth after two epochs and again after four."""
    optim = {"epochs": 5, "decay_every": 2, "decay_factor": 0.1}
    trained(world, forks, tmp_path, optim=optim, data={"batch_size": 60}, run={"log_every": 1})
    rates = [line["learning_rate"] for line in lines_of(tmp_path / "run") if line["kind"] == "train"]
    assert rates == pytest.approx([3e-3] * 4 + [3e-4] * 4 + [3e-5] * 2)


@torch.no_grad()
def hinges(recipe_path: Path, run: Path | None, epoch: int) -> tuple[float, float]:
    """Mean and hardest violation of an epoch's first batch, by the model that meets it."""
    recipe = load_recipe(recipe_path)
    data = open_training_data(recipe)
    state = begin_state(recipe, data.language, data.pairs.file.feature_dim, torch.device("cpu"))
    if run is not None:
        restore_state(state, load_checkpoint(run / "last.ckpt"), what="last.ckpt")
    batch = next(pair_batches(data.pairs, batch_size=recipe.data.batch_size, seed=recipe.run.seed, epoch=epoch))
    state.model.train()
    images, texts = state.model.encode_image(batch.images), state.model.encode_text(batch.texts)
    scores = images.vectors.concatenated()[:, 0] @ texts.vectors.concatenated().T
    right = scores.diag()
    others = batch.images.index.unsqueeze(0) != batch.images.index.unsqueeze(1)
    by_caption = (0.2 + scores - right.unsqueeze(0)).clamp(min=0) * others
    by_image = (0.2 + scores - right.unsqueeze(1)).clamp(min=0) * others
    mean = sum(part.sum() for part in ((by_image / others.sum(1, keepdim=True)), by_caption / others.sum(0)))
    return float(mean), float(by_image.amax(1).sum() + by_caption.amax(0).sum())


def test_the_first_epochs_take_the_mean_violation(world: World, forks: Forks, tmp_path: Path) -> None:
    """warmup_epochs 1: step 1 logs the mean violation, step 7 the hardest; both computed here from the scores."""
    ranking, run = {"warmup_epochs": 1}, {"log_every": 1}
    recipe = trained(world, forks, tmp_path, loss={"ranking": ranking}, run=run, optim={"epochs": 1})
    expected = hinges(recipe, None, 0)[0], hinges(recipe, tmp_path / "run", 1)[1]
    done = forks.run("train", recipe, "--resume", "--set", "optim.epochs=2", cwd=tmp_path)
    assert done.code == 0, done.err
    logged = {line["step"]: line["ranking"] for line in metrics_of(tmp_path / "run") if line["kind"] == "train"}
    assert (logged[1], logged[STEPS_PER_EPOCH + 1]) == pytest.approx(expected, rel=1e-5)


def test_prototypes_stay_frozen_at_first(world: World, forks: Forks, tmp_path: Path) -> None:
    """frozen_epochs 1: after the first epoch they are their start values, of unit length; then they move."""
    loss = {"concept": {"prototypes": 8, "frozen_epochs": 1}}
    recipe = trained(world, forks, tmp_path, loss=loss, optim={"epochs": 1})
    data = open_training_data(load_recipe(recipe))
    fresh = begin_state(load_recipe(recipe), data.language, data.pairs.file.feature_dim, torch.device("cpu"))
    start = functional.normalize(fresh.objective.concept.prototypes.detach(), dim=1)
    frozen = opened(tmp_path / "run/last.ckpt")["training"]["objective"]["concept.prototypes"]
    torch.testing.assert_close(frozen, start)
    assert forks.run("train", recipe, "--resume", "--set", "optim.epochs=2", cwd=tmp_path).code == 0
    moved = opened(tmp_path / "run/last.ckpt")["training"]["objective"]["concept.prototypes"]
    assert (moved - start).abs().max() > 1e-3


@pytest.mark.parametrize("select_by", ["rsum", "r1+r5"])
def test_the_best_model_is_kept(world: World, forks: Forks, tmp_path: Path, select_by: str) -> None:
    """Of validations after every step of a wild run, the first with the largest score."""
    optim, validation = {"learning_rate": 0.2, "epochs": 1}, {"every": 1, "select_by": select_by}
    trained(world, forks, tmp_path, optim=optim, validation=validation)
    scores = {line["step"]: line[select_by] for line in lines_of(tmp_path / "run") if line["kind"] == "validation"}
    assert list(scores) == list(range(1, STEPS_PER_EPOCH + 1))
    best = opened(tmp_path / "run/best.ckpt")
    assert best["step"] == max(scores, key=lambda step: scores[step])
    assert best["scores"][select_by] == max(scores.values())
    assert best["training"] is None
    last = opened(tmp_path / "run/last.ckpt")["training"]
    assert (last["best_step"], last["best_score"]) == (best["step"], max(scores.values()))


def test_a_last_batch_of_one_pair(world: World, forks: Forks, tmp_path: Path) -> None:
    """120 captions in batches of 119: the second one has no negatives at all."""
    trained(world, forks, tmp_path, data={"batch_size": 119}, run={"log_every": 1}, optim={"epochs": 1})
    second = [line for line in lines_of(tmp_path / "run") if line["kind"] == "train"][1]
    assert second["ranking"] == 0.0


@pytest.mark.parametrize("enabled", [True, False])
def test_a_model_without_selfalign(world: World, forks: Forks, tmp_path: Path, enabled: bool) -> None:
    trained(world, forks, tmp_path, selfalign={"enabled": enabled}, optim={"epochs": 1})
    terms = set(lines_of(tmp_path / "run")[0])
    assert ({"concept", "context_image", "context_text"} <= terms) == enabled
    assert forks.run("eval", "run/best.ckpt", cwd=tmp_path).code == 0
