"""Shares of the gradient: against gradients taken one by one, without a trace in training, switched by a key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.processes import Forks
from support.tiny_models import CAMERA, VSRN, build_tiny, pairs
from support.world import World, changed_recipe, lines_of

from selfalign_cli.training.gradient_shares import gradient_shares

COUNTS, LENGTHS = [4, 6, 5, 6], [7, 5, 4, 3]
DROPOUT = ("model.dropout=0.3",)


def test_shares_are_lengths_of_weighted_gradients() -> None:
    tiny = build_tiny(VSRN, "loss.concept.weight=3.0", dtype=torch.float64).train()
    batch = pairs(COUNTS, LENGTHS).to("cpu", torch.float64)
    found = gradient_shares(tiny.model, tiny.objective, batch, pairs=4, chunk_size=None, warmup=False)
    lengths = {}
    for name, term in tiny.objective.terms.items():
        other = build_tiny(VSRN, "loss.concept.weight=3.0", dtype=torch.float64).train()
        (term.weight * other.losses(batch)[name]).backward()
        shared = [*other.model.image.parameters(), *other.model.text.parameters()]
        lengths[name] = float(torch.cat([p.grad.flatten() for p in shared if p.grad is not None]).norm())
    expected = {name: length / sum(lengths.values()) for name, length in lengths.items()}
    assert found == pytest.approx(expected, rel=1e-6)
    assert set(found) == {"ranking", "concept", "context_image", "context_text", "captioning"}


@pytest.mark.parametrize("host", [VSRN, CAMERA], ids=["vsrn", "camera"])
def test_training_does_not_notice(host: str) -> None:
    """Weights, running values, prototypes, gradients and random numbers are what they were."""
    tiny = build_tiny(host, *(DROPOUT if host is CAMERA else ())).train()
    before = {name: value.clone() for name, value in [*tiny.model.state_dict().items()]}
    prototypes = {name: value.clone() for name, value in tiny.objective.state_dict().items()}
    random = torch.get_rng_state()
    shares = gradient_shares(tiny.model, tiny.objective, pairs(COUNTS, LENGTHS), pairs=4, chunk_size=3, warmup=True)
    assert sum(shares.values()) == pytest.approx(1)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert all(torch.equal(value, prototypes[name]) for name, value in tiny.objective.state_dict().items())
    assert all(value.grad is None for value in tiny.trainable().values())


def test_a_single_term_has_no_shares() -> None:
    tiny = build_tiny(VSRN, "selfalign.enabled=false", "loss.captioning=null").train()
    batch = pairs(COUNTS, LENGTHS)
    assert gradient_shares(tiny.model, tiny.objective, batch, pairs=4, chunk_size=None, warmup=False) == {}


def test_a_run_logs_them_once_an_epoch_and_is_the_same_without(world: World, forks: Forks, tmp_path: Path) -> None:
    recipe = changed_recipe(world, tmp_path / "r.yaml", optim={"epochs": 2})
    logs = {}
    for word in ("true", "false"):
        folder = f"run.dir={tmp_path / word}"
        options = ["--set", folder, "--set", f"run.gradient_shares={word}"]
        done = forks.run("train", recipe, "--device", "cpu", *options, cwd=tmp_path)
        assert done.code == 0, done.err
        logs[word] = lines_of(tmp_path / word)
    shares = [line for line in logs["true"] if line["kind"] == "gradients"]
    steps = max(line["step"] for line in logs["true"]) // 2
    assert [(line["step"], line["epoch"]) for line in shares] == [(0, 1), (steps, 2)]
    for line in shares:
        parts = {name: value for name, value in line.items() if name not in ("kind", "step", "epoch", "seconds")}
        assert {"ranking", "concept", "context_image", "context_text"} <= set(parts)
        assert sum(parts.values()) == pytest.approx(1)
    for line in (*logs["true"], *logs["false"]):
        del line["seconds"]
    assert [line for line in logs["true"] if line["kind"] != "gradients"] == logs["false"]
