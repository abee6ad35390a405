"""A run whose recipe leaves widths to the features and schedules to the epochs is the run with their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes import Forks
from support.world import World, changed_recipe, opened, outcome, write_other_features

from selfalign_cli.recipe.load import load_recipe

NUMBERS = {"embed_dim": 64, "hidden_dim": 64, "decay_every": 1}


def recipe(world: World, path: Path, *, embed_dim: object, hidden_dim: object, decay_every: object) -> Path:
    loss = {"captioning": {"hidden_dim": hidden_dim, "word_dim": 8, "max_len": 12}}
    return changed_recipe(
        world, path, model={"embed_dim": embed_dim}, loss=loss, optim={"decay_every": decay_every, "epochs": 2}
    )


@pytest.fixture(scope="module")
def trained(world: World, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both recipes, and the run of the one that leaves things open."""
    folder = tmp_path_factory.mktemp("relative")
    loose = recipe(world, folder / "loose.yaml", embed_dim=None, hidden_dim=None, decay_every=0.5)
    recipe(world, folder / "numbers.yaml", **NUMBERS)
    done = forks.run("train", loose, cwd=folder)
    assert done.code == 0, done.err
    assert "model.embed_dim: 64, for features of width 64" in done.err
    return folder


def test_the_resolved_recipe_and_the_checkpoint_hold_numbers(trained: Path) -> None:
    kept = load_recipe(trained / "run/recipe.yaml")
    assert kept == load_recipe(trained / "numbers.yaml")
    assert opened(trained / "run/best.ckpt")["recipe"] == kept.model_dump()


def test_it_is_the_run_with_these_numbers(trained: Path, forks: Forks) -> None:
    done = forks.run("train", "numbers.yaml", "--set", "run.dir=other", cwd=trained)
    assert done.code == 0, done.err
    ours, theirs = outcome(trained / "run"), outcome(trained / "other")
    assert ours["metrics"] == theirs["metrics"]
    for name in ("last", "best"):
        assert all((value == theirs[name]["model"][key]).all() for key, value in ours[name]["model"].items())


@pytest.mark.parametrize("name", ["loose.yaml", "numbers.yaml"])
def test_it_is_resumed_by_either(trained: Path, forks: Forks, name: str) -> None:
    done = forks.run("train", name, "--resume", cwd=trained)
    assert done.code == 0, done.err
    assert "is complete" in done.err


def test_longer_training_moves_the_schedule_and_is_refused(trained: Path, forks: Forks) -> None:
    done = forks.run("train", "loose.yaml", "--resume", "--set", "optim.epochs=6", cwd=trained)
    done.must_refuse("optim.decay_every: was 1, now 3", "recipe.yaml of the run has them")


def test_features_of_another_width_are_refused(trained: Path, forks: Forks) -> None:
    write_other_features(trained / "wide.h5", width=130)
    done = forks.run("train", "loose.yaml", "--resume", "--set", "data.features=wide.h5", cwd=trained)
    done.must_refuse("--resume with other features")
    done = forks.run("eval", "run/best.ckpt", "--data", "wide.h5", cwd=trained)
    done.must_refuse("has features of width 130; the checkpoint was trained on width 64")
