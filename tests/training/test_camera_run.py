"""The same for CAMERA, where BERT has dropout too: trained, killed, resumed, scored, exported."""

from __future__ import annotations

import json
from pathlib import Path
from signal import SIGKILL

import h5py
import numpy as np
import pytest
from support.instants import in_step
from support.processes import Forks
from support.records import make_record, write_records
from support.world import World, differences, outcome

RECIPE = """
run: {dir: run, seed: 7, log_every: 1, save_every: 2, tensorboard: false}
data: {features: FOLDER/scenes.h5, batch_size: 40, max_words: 12}
model: {name: camera, embed_dim: 16, heads: 2, views: 3, dropout: 0.1, bert: BERT, bert_eval_mode: false}
loss: {concept: {prototypes: 8}, context: {negatives: 16}, diversity: {weight: 0.01}}
optim: {learning_rate: 1.0e-3, epochs: 2}
"""


@pytest.fixture(scope="module")
def camera(world: World, camera_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a BERT of one small layer."""
    folder = tmp_path_factory.mktemp("camera")
    recipe = folder / "camera.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(world.folder)).replace("BERT", str(camera_bert)))
    return recipe


@pytest.fixture(scope="module")
def finished(camera: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = forks.run("train", camera, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def test_killed_and_resumed(camera: Path, forks: Forks, finished: Path, tmp_path: Path) -> None:
    before = in_step(4, SIGKILL)
    assert forks.run("train", camera, cwd=tmp_path, before=before).code == -SIGKILL
    resumed = forks.run("train", camera, "--resume", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert not differences(outcome(finished), outcome(tmp_path / "run"))


def test_scored_and_exported_alike(forks: Forks, finished: Path, tmp_path: Path) -> None:
    """20 pictures with 3 views; D is 16 and 2 x 16. A checkpoint needs no BERT folder."""
    exported = forks.run("export-embeddings", finished / "best.ckpt", "--out", "e.h5", cwd=tmp_path)
    assert exported.code == 0, exported.err
    with h5py.File(tmp_path / "e.h5") as file:
        assert (file["image"].shape, file["caption"].shape) == ((20, 3, 48), (100, 48))
    scored = [
        json.loads(forks.run("eval", path, "--json", "--ranks", cwd=tmp_path).out)
        for path in (finished / "best.ckpt", "e.h5")
    ]
    assert scored[0]["ranks"] == scored[1]["ranks"]


def test_rows_do_not_depend_on_the_batch_size(forks: Forks, finished: Path, tmp_path: Path) -> None:
    for size in (3, 100):
        command = "export-embeddings", finished / "best.ckpt", "--out", f"{size}.h5", "--batch-size", size
        assert forks.run(*command, cwd=tmp_path).code == 0
    with h5py.File(tmp_path / "3.h5") as first, h5py.File(tmp_path / "100.h5") as second:
        for name in ("image", "caption"):
            np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-6)


def test_captions_that_are_cut_are_counted(camera: Path, forks: Forks, tmp_path: Path) -> None:
    """5 tokens are 3 pieces between two marks; no scene is described in so few."""
    done = forks.run("train", camera, "--set", "data.max_words=5", "--set", "optim.epochs=1", cwd=tmp_path)
    assert done.code == 0, done.err
    for split, captions in (("train", 120), ("dev", 100)):
        assert f"{captions} of {captions} captions of split {split} are longer than 5 tokens and were cut" in done.err
    scored = forks.run("eval", "run/last.ckpt", "--json", cwd=tmp_path)
    assert json.loads(scored.out)
    exported = forks.run("export-embeddings", "run/last.ckpt", "--out", "e.h5", cwd=tmp_path)
    for messages in (scored.err, exported.err):
        assert "run/last.ckpt: 100 of 100 captions of split test are longer than 5 tokens and were cut" in messages


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ({"boxes": None, "size": None}, "has no boxes and picture sizes, which model camera needs"),
        ({"boxes": None}, "has no boxes, which model camera needs"),
        ({"size": None}, "has no picture sizes, which model camera needs"),
    ],
)
def test_features_without_boxes(
    camera: Path, forks: Forks, tmp_path: Path, lacking: dict[str, None], words: str
) -> None:
    records = [make_record(row, split=split, **lacking) for row, split in enumerate(("train", "dev"))]
    path = write_records(tmp_path / "bare.h5", records)
    done = forks.run("train", camera, "--set", f"data.features={path}", cwd=tmp_path)
    done.must_refuse(f"{path} {words}", "hint: selfalign convert-features SOURCE --out FILE.h5")
    assert not (tmp_path / "run").exists()
