"""Token states of a frozen BERT, computed once: nothing but time changes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Any

import numpy as np
import pytest
import torch
from campaigns.damage import damaged
from support.instants import in_step
from support.processes import Forks, at_call, until
from support.world import World, differences, lines_of, opened, outcome

from selfalign_cli.data.pairs import collate_pairs
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.errors import RunError
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.training.cached_words import _open, require_space, with_cached_words
from selfalign_cli.training.train import open_training_data
from selfalign_cli.training.train_state import begin_state
from selfalign_cli.training.trainer import TrainingData

CPU = torch.device("cpu")
CACHED = "--set", "data.cache_words=true"
RECIPE = """
run: {dir: run, seed: 7, log_every: 1, save_every: 2, tensorboard: false}
data: {features: FOLDER/scenes.h5, batch_size: 40, max_words: 12}
model: {name: camera, embed_dim: 16, heads: 2, views: 3, dropout: 0.1, bert: BERT}
loss: {concept: {prototypes: 8}, context: {negatives: 16}, diversity: {weight: 0.01}}
optim: {learning_rate: 1.0e-3, epochs: 2}
validation: {batch_size: 50}
"""


def while_computing(which: Signals) -> str:
    """A signal at the second batch of states."""
    return at_call("selfalign_cli.models.token_encoder.TokenEncoder.states", 2, which)


@pytest.fixture(scope="module")
def recipe(world: World, camera_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cached") / "camera.yaml"
    path.write_text(RECIPE.replace("FOLDER", str(world.folder)).replace("BERT", str(camera_bert)))
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with cached states; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    done = forks.run("train", recipe, *CACHED, cwd=folder)
    assert done.code == 0, done.err
    assert "computing BERT's states of 120 captions, once, into run/cache/" in done.err
    return folder / "run"


class Parts:
    """Training data and a token encoder in this process."""

    def __init__(self, recipe: Path) -> None:
        loaded = load_recipe(recipe)
        self.data = open_training_data(loaded)
        state = begin_state(loaded, self.data.language, self.data.pairs.file.feature_dim, CPU)
        assert state.model.token_encoder is not None
        self.tokens = state.model.token_encoder
        self.messages: list[str] = []

    def cached(self, folder: Path) -> TrainingData:
        return with_cached_words(self.data, self.tokens, folder, batch_size=7, device=CPU, notify=self.messages.append)


@pytest.fixture
def parts(recipe: Path) -> Parts:
    return Parts(recipe)


def numbers(structure: Any) -> Iterator[tuple[str, float]]:
    for line in structure:
        yield from ((f"{line['kind']} {line['step']} {key}", value) for key, value in line.items() if key != "kind")


def test_training_gives_the_same_losses_gradients_and_scores(
    recipe: Path, forks: Forks, finished: Path, tmp_path: Path
) -> None:
    """In each of 6 steps of Adam, losses and gradient lengths are equal to 1e-5; so are the dev scores and ranks."""
    assert forks.run("train", recipe, cwd=tmp_path).code == 0
    plain = tmp_path / "run"
    without, with_cache = (
        {name: value for name, value in numbers(lines_of(run)) if not name.endswith("seconds")}
        for run in (plain, finished)
    )
    assert without.keys() == with_cache.keys()
    for name, value in without.items():
        assert with_cache[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    scored = [
        json.loads(forks.run("eval", run / "last.ckpt", "--json", "--ranks", cwd=tmp_path).out)
        for run in (plain, finished)
    ]
    assert scored[0]["ranks"] == scored[1]["ranks"]
    assert scored[0]["signature"] == scored[1]["signature"]


def test_killed_and_resumed(recipe: Path, forks: Forks, finished: Path, tmp_path: Path) -> None:
    """The second start takes the states of the first, and every bit is that of the unbroken run."""
    before = in_step(4, SIGKILL)
    assert forks.run("train", recipe, *CACHED, cwd=tmp_path, before=before).code == -SIGKILL
    resumed = forks.run("train", recipe, *CACHED, "--resume", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert "computing" not in resumed.err
    assert not differences(outcome(finished), outcome(tmp_path / "run"))


def test_killed_while_computing(recipe: Path, forks: Forks, finished: Path, tmp_path: Path) -> None:
    """The half-written file goes, the next start computes it anew."""
    before = while_computing(SIGKILL)
    assert forks.run("train", recipe, *CACHED, cwd=tmp_path, before=before).code == -SIGKILL
    cache = tmp_path / "run/cache"
    assert [path.suffix for path in cache.iterdir()] == [".tmp"]
    assert forks.run("train", recipe, *CACHED, "--resume", cwd=tmp_path).code == 0
    assert [path.name for path in sorted(cache.iterdir())] == [
        path.name for path in sorted((finished / "cache").iterdir())
    ]


def test_a_second_run_leaves_the_files_of_the_first_alone(
    recipe: Path, forks: Forks, finished: Path, tmp_path: Path
) -> None:
    """While one computes states (here it is stopped), another one may not even remove temporary files."""
    before = while_computing(SIGSTOP)
    first = forks.start("train", recipe, *CACHED, cwd=tmp_path, before=before)
    until(lambda: "T (stopped)" in Path(f"/proc/{first.number}/status").read_text())
    second = forks.run("train", recipe, *CACHED, "--resume", cwd=tmp_path)
    assert (second.code, second.out) == (1, "")
    assert "error: another process is training in run" in second.err
    first.send(SIGCONT)
    assert first.wait().code == 0
    assert not differences(outcome(finished), outcome(tmp_path / "run"))


def test_loader_processes_read_the_same(recipe: Path, forks: Forks, finished: Path, tmp_path: Path) -> None:
    assert forks.run("train", recipe, *CACHED, "--set", "data.workers=1", cwd=tmp_path).code == 0
    assert not differences(opened(tmp_path / "run/last.ckpt")["model"], opened(finished / "last.ckpt")["model"])


def test_batches_bring_the_states_that_bert_gives(parts: Parts, tmp_path: Path) -> None:
    """Padded positions are zero."""
    batch = collate_pairs(parts.cached(tmp_path).pairs, [3, 50, 7, 119, 20]).texts
    assert batch.states is not None
    with torch.no_grad():
        parts.tokens.train(False)
        expected = parts.tokens.states(replace(batch, states=None))
    mask = batch.mask.unsqueeze(-1)
    torch.testing.assert_close(batch.states, expected.masked_fill(~mask, 0.0), rtol=1e-5, atol=1e-6)


def test_the_data_without_states_are_left_alone(parts: Parts, tmp_path: Path) -> None:
    parts.cached(tmp_path)
    assert (parts.data.pairs.tokens.states, parts.data.dev.tokens.states) == (None, None)


def test_another_start_computes_nothing(parts: Parts, tmp_path: Path) -> None:
    parts.cached(tmp_path)
    assert len(parts.messages) == 2
    parts.cached(tmp_path)
    assert len(parts.messages) == 2


def test_other_weights_have_other_states(parts: Parts, tmp_path: Path) -> None:
    parts.cached(tmp_path)
    next(parts.tokens.parameters()).data.add_(1.0)
    parts.cached(tmp_path)
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_computed_anew(parts: Parts, tmp_path: Path, damage: bytes | None) -> None:
    parts.cached(tmp_path)
    files = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    for path, content in files.items():
        path.write_bytes(content[:-8] if damage is None else damage)
    parts.cached(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == files


def test_a_damaged_file_is_complete_or_refused(tmp_path: Path) -> None:
    """numpy reads a header as a Python expression, which can be wrong in many ways."""
    table = TokenTable.encode(["a", "b c"], lambda text: [5] * len(text))
    np.save(tmp_path / "whole.npy", np.zeros((4, 3), np.float32))
    whole, found = (tmp_path / "whole.npy").read_bytes(), set()
    for seed in range(400):
        (tmp_path / "states.npy").write_bytes(damaged(whole, whole, random.Random(seed)))
        states = _open(tmp_path / "states.npy", table, 3)
        found.add(None if states is None else states.extent.shape)
    assert found == {None, (4, 3)}


def test_the_files_are_plain_arrays(parts: Parts, tmp_path: Path) -> None:
    """One row of BERT's width, 8, for each token; float32."""
    parts.cached(tmp_path)
    shapes = {np.load(path).shape for path in (tmp_path / "cache").glob("*.npy")}
    assert shapes == {(len(table.ids), 8) for table in (parts.data.pairs.tokens, parts.data.dev.tokens)}


def test_a_disk_without_enough_space_is_refused(tmp_path: Path) -> None:
    """10^12 tokens x 768 x 4 bytes = 3,072,000 GB."""
    with pytest.raises(RunError, match="needs 3,072,000.0 GB for 7 captions") as caught:
        require_space(tmp_path, captions=7, tokens=10**12, width=768)
    assert "data.cache_words: false" in str(caught.value.hint)
