"""Two processes, each with half of a batch, do what one process does with the whole batch."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from support.parallel_steps import STEPS
from support.processes import Forks
from support.torchrun import cold, run
from support.world import World, changed_recipe, lines_of

ONE_THREAD = "import torch; torch.set_num_threads(1)"


def steps_of(forks: Forks, out: Path, host: str, *, processes: int, pairs: int, chunk_size: int) -> dict[str, object]:
    """Five steps in double precision."""
    start = forks.run if processes == 1 else partial(run, forks)
    done = start(host, pairs, chunk_size, out, cwd=out.parent, module="support.parallel_steps")
    assert done.code == 0, done.err
    found: dict[str, object] = torch.load(out, weights_only=True)
    return found


@pytest.mark.parametrize(
    ("host", "pairs", "chunks"),
    [
        ("vsrn", 32, (0, 0)),
        ("camera", 32, (0, 0)),
        ("published vsrn", 32, (0, 0)),
        ("new terms", 32, (0, 0)),
        ("vsrn", 32, (8, 4)),
        ("vse_infty", 32, (8, 4)),
        ("vsrn", 9, (5, 4)),
    ],
)
def test_five_steps_are_the_same(forks: Forks, host: str, pairs: int, chunks: tuple[int, int], tmp_path: Path) -> None:
    """Every parameter and buffer, and every term of every step.

    Chunks of 8 are 4 of each process. Of 9 pairs, one process has 5 and the other 4: both take two chunks.

    No thread of the process group is left when Python ends: that could abort a finished run.
    """
    one, two = (
        steps_of(forks, tmp_path / f"{n}.pt", host, processes=n, pairs=pairs, chunk_size=chunk)
        for n, chunk in zip((1, 2), chunks, strict=True)
    )
    assert one["state"].keys() == two["state"].keys()
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    assert len(one["terms"]) == STEPS
    for mine, theirs in zip(one["terms"], two["terms"], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-9, atol=0)
    assert two["threads"] == one["threads"] == 1


def test_the_command_trains_the_same_model(world: World, forks: Forks, tmp_path: Path) -> None:
    """`data.batch_size` counts the pairs of all processes. One process prints and writes."""
    recipe = changed_recipe(world, tmp_path / "r.yaml", optim={"epochs": 1}, loss={"captioning": None})
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = forks.run("train", recipe, "--device", "cpu", cwd=tmp_path / "one")
    two = cold("train", recipe, "--device", "cpu", cwd=tmp_path / "two")
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert one.out.count("best_score") == two.out.count("best_score") == 1
    assert two.err.count("step 2/6:") == 1
    mine, theirs = (
        [line for line in lines_of(tmp_path / name / "run") if line["kind"] == "train"] for name in ("one", "two")
    )
    for first, second in zip(mine, theirs, strict=True):
        del first["seconds"], second["seconds"], first["kind"], second["kind"]
        assert second == pytest.approx(first, rel=1e-3)
    assert sorted(os.listdir(tmp_path / "one/run")) == sorted(os.listdir(tmp_path / "two/run"))


def test_export_and_eval_are_the_same_to_the_byte(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    for name, arguments in {
        "export": ("export-embeddings", unbroken / "best.ckpt", "--batch-size", "7", "--device", "cpu", "--out"),
        "eval": ("eval", unbroken / "best.ckpt", "--device", "cpu", "--json", "--details"),
    }.items():
        one = forks.run(*arguments, tmp_path / f"one.{name}.h5", cwd=tmp_path, before=ONE_THREAD)
        two = run(forks, *arguments, tmp_path / f"two.{name}.h5", cwd=tmp_path)
        assert (one.code, two.code) == (0, 0), one.err + two.err
        assert one.out == two.out
        assert (tmp_path / f"one.{name}.h5").read_bytes() == (tmp_path / f"two.{name}.h5").read_bytes()
