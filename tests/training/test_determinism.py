"""The same seed gives the same numbers, with and without reader threads."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes import Forks
from support.world import STEPS, World, changed_recipe, differences, metrics_of, outcome


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_run(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path, workers: int
) -> None:
    """The log, the weights, the optimizer and the random numbers, bit for bit."""
    done = forks.run("train", world.recipe, "--set", f"data.workers={workers}", cwd=tmp_path)
    assert done.code == 0, done.err
    first, second = outcome(unbroken), outcome(tmp_path / "run")
    for checkpoint in (second["last"], second["best"]):
        checkpoint["recipe"]["data"]["workers"] = 0
    assert not differences(first, second)


def test_another_seed_gives_another_run(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    recipe = changed_recipe(world, tmp_path / "tiny.yaml", run={"seed": 8})
    assert forks.run("train", recipe, "--set", "optim.epochs=1", cwd=tmp_path).code == 0
    (first, *_), (other, *_) = (
        [line for line in metrics_of(run) if line["kind"] == "train"] for run in (tmp_path / "run", unbroken)
    )
    assert first["total"] != other["total"]


def test_every_line_of_the_log_says_where_it_belongs(unbroken: Path) -> None:
    """log_every 2, validation.every 4, 6 steps an epoch, 12 in all."""
    lines = metrics_of(unbroken)
    found = [(line["kind"], line["step"], line["epoch"]) for line in lines]
    assert [line for line in found if line[0] == "train"] == [
        ("train", 2, 1),
        ("train", 4, 1),
        ("train", 6, 1),
        ("train", 8, 2),
        ("train", 10, 2),
        ("train", STEPS, 2),
    ]
    assert [line for line in found if line[0] == "validation"] == [
        ("validation", 4, 1),
        ("validation", 6, 1),
        ("validation", 8, 2),
        ("validation", STEPS, 2),
    ]
    terms = {
        "ranking",
        "concept",
        "context_image",
        "context_text",
        "captioning",
        "total",
        "grad_norm",
        "learning_rate",
    }
    assert set(lines[1]) == terms | {"kind", "step", "epoch"}
    assert [line for line in found if line[0] == "gradients"] == [("gradients", 0, 1), ("gradients", 6, 2)]
    assert set(lines[0]) == terms - {"total", "grad_norm", "learning_rate"} | {"kind", "step", "epoch"}


def test_saving_more_often_changes_nothing(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    """A save between two log lines leaves no line of its own."""
    done = forks.run("train", world.recipe, "--set", "run.save_every=1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert metrics_of(tmp_path / "run") == metrics_of(unbroken)
