"""A loss that is not finite stops the run: the term, the step, and the last good checkpoint are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.instants import code_in_step
from support.processes import Forks
from support.world import World, opened


def tensors_of(tree: object) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tensor for part in inside for tensor in tensors_of(part)]


def test_a_learning_rate_beyond_float32_is_refused(world: World, forks: Forks, tmp_path: Path) -> None:
    done = forks.run("train", world.recipe, "--set", "optim.learning_rate=1.0e+38", cwd=tmp_path)
    done.must_refuse("--set optim.learning_rate=1.0e+38: expected at most 1e+30")


@pytest.mark.parametrize("every", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run(world: World, forks: Forks, tmp_path: Path, every: int) -> None:
    """A step of 1e30 leaves finite weights that no step can be computed with. Looked at in every step, or late."""
    options = ["optim.learning_rate=1.0e+30", f"run.log_every={every}", f"run.save_every={every}"]
    done = forks.run("train", world.recipe, *(part for text in options for part in ("--set", text)), cwd=tmp_path)
    done.must_refuse("error: step 2: not finite: ranking, ", "total, grad_norm", "optim.learning_rate", code=1)
    if every == 1:
        assert "the last good checkpoint is run/last.ckpt" in done.err
        assert all(tensor.isfinite().all() for tensor in tensors_of(opened(tmp_path / "run/last.ckpt")))
    else:
        assert "nothing was saved yet" in done.err
        assert not (tmp_path / "run/last.ckpt").exists()


def overwriting(step: int, value: str) -> str:
    """Python for `before`: after some step, the first weight of the picture encoder has another value."""
    return code_in_step(step, f"next(positional[0].image.parameters()).data.fill_({value})", after=True)


@pytest.mark.parametrize("option", ["run.save_every=1", "validation.every=1"])
def test_weights_that_are_not_finite_are_not_saved(world: World, forks: Forks, tmp_path: Path, option: str) -> None:
    """A step may end in such weights while its own loss was fine."""
    done = forks.run("train", world.recipe, "--set", option, cwd=tmp_path, before=overwriting(1, "float('inf')"))
    what = "image." if "save" in option else "vectors of the split dev"
    done.must_refuse(f"error: step 1: not finite: {what}", "nothing was saved yet", code=1)
    assert not list((tmp_path / "run").glob("*.ckpt"))


def test_the_checkpoint_before_it_can_be_used(world: World, forks: Forks, tmp_path: Path) -> None:
    done = forks.run("train", world.recipe, cwd=tmp_path, before=overwriting(8, "3e38"))
    done.must_refuse("error: step 8: not finite: vectors", "the last good checkpoint is run/last.ckpt", code=1)
    assert opened(tmp_path / "run/last.ckpt")["step"] == 6
    assert forks.run("eval", "run/last.ckpt", cwd=tmp_path).code == 0
    assert forks.run("train", world.recipe, "--resume", cwd=tmp_path).code == 0
