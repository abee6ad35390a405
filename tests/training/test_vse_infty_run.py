"""VSE∞ trained on scenes with altered regions and words, AdamW and InfoNCE: killed, resumed, read ahead, scored."""

from __future__ import annotations

import json
from pathlib import Path
from signal import SIGKILL

import pytest
from support.instants import in_step
from support.processes import Forks
from support.world import World, differences, lines_of, opened, outcome

RECIPE = """
run: {dir: run, seed: 7, log_every: 1, save_every: 2, tensorboard: false}
data:
  {features: FOLDER/scenes.h5, vocab: FOLDER/vocab.json, batch_size: 25, drop_last: true, drop_regions: 0.2,
   alter_words: 0.2}
model: {name: vse_infty, embed_dim: 16, word_dim: 8}
loss: {ranking: {kind: infonce}, concept: {prototypes: 8}, context: {negatives: 16}}
optim: {learning_rate: 1.0e-3, epochs: 2, weight_decay: 0.01}
"""


@pytest.fixture(scope="module")
def recipe(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vse_infty") / "vse_infty.yaml"
    path.write_text(RECIPE.replace("FOLDER", str(world.folder)))
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = forks.run("train", recipe, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def test_killed_and_resumed(recipe: Path, forks: Forks, finished: Path, tmp_path: Path) -> None:
    """The second time with threads that read ahead: the same alterations, the same weights."""
    assert forks.run("train", recipe, cwd=tmp_path, before=in_step(4, SIGKILL)).code == -SIGKILL
    resumed = forks.run("train", recipe, "--resume", "--set", "data.workers=2", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    found, expected = outcome(tmp_path / "run"), outcome(finished)
    for checkpoint in (found["last"], found["best"], expected["last"], expected["best"]):
        del checkpoint["recipe"]["data"]["workers"]
    assert not differences(expected, found)


def test_smaller_batches_are_left_out(finished: Path) -> None:
    """120 captions are four batches of 25."""
    assert max(line["step"] for line in lines_of(finished)) == 2 * 4


def test_its_vocabulary_has_a_mask_and_its_prototypes_do_not_decay(finished: Path) -> None:
    last = opened(finished / "last.ckpt")
    assert last["text"]["words"][-1] == "<mask>"
    assert len(last["model"]["text.embed.weight"]) == len(last["text"]["words"])
    groups = last["training"]["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert len(groups[1]["params"]) == 2  # prototypes and the temperature


def test_a_checkpoint_scores_alone_and_captions_know_no_neighbours(
    forks: Forks, finished: Path, tmp_path: Path
) -> None:
    reports = [
        json.loads(
            forks.run("eval", finished / "best.ckpt", "--json", "--ranks", "--batch-size", size, cwd=tmp_path).out
        )
        for size in (3, 100)
    ]
    assert reports[0]["ranks"] == reports[1]["ranks"]
    assert reports[0]["images"] == 20


def test_a_batch_larger_than_the_data_is_refused(recipe: Path, forks: Forks, tmp_path: Path) -> None:
    done = forks.run("train", recipe, "--set", "data.batch_size=121", cwd=tmp_path)
    assert done.code == 2
    assert "120 pairs make no whole batch of 121, and data.drop_last leaves out smaller ones" in done.err
