"""train, eval and export-embeddings through the command line, on a world of a dozen pictures."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import build_vocabulary

COLOURS = ["red", "green", "blue", "black", "white", "grey"]
SPLITS = {"train": 6, "dev": 3, "test": 4}
RECIPE = """
run: {dir: runs/tiny, log_every: 2, tensorboard: false}
data: {features: tiny.h5, vocab: vocab.json, batch_size: 5}
model: {name: vsrn, embed_dim: 8, word_dim: 6, graph_layers: 1}
loss:
  concept: {prototypes: 4}
  context: {negatives: 5}
  captioning: {hidden_dim: 6, word_dim: 4, max_len: 8}
optim: {learning_rate: 1.0e-2, epochs: 2}
"""


def pictures():
    """Random regions; 2 captions for every picture, and a third for every second one."""
    draw = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for row in range(count):
            captions = [f"a {COLOURS[row]} ball", f"one ball, {COLOURS[row]}", "a ball"][: 2 + row % 2]
            features = draw.normal(size=(3 + row % 2, 5)).astype(np.float32)
            yield ImageRecord(f"{split}{row}", features, split, captions)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A working directory with data, recipe and one finished run."""
    folder = tmp_path_factory.mktemp("world")
    records = list(pictures())
    regions = sum(len(record.features) for record in records)
    write_feature_file(folder / "tiny.h5", records, total_images=len(records), total_regions=regions, feature_dim=5)
    captions = [caption for record in records for caption in record.captions]
    build_vocabulary(captions, min_count=1).save(folder / "vocab.json")
    (folder / "tiny.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained = CliRunner().invoke(app, ["train", "tiny.yaml", "--device", "cpu"])
    assert trained.exit_code == 0, trained.output
    (folder / "trained.txt").write_text(f"{trained.stdout}\n====\n{trained.stderr}")
    return folder


def run(world, monkeypatch, *arguments):
    monkeypatch.chdir(world)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_training_shows_its_progress_and_its_result(world):
    stdout, stderr = (world / "trained.txt").read_text().split("\n====\n")
    assert "runs/tiny/best.ckpt" in stdout
    assert "training: 2 epochs of 3 steps, 6 in all" in stderr
    assert "epoch 2/2 step 6/6: validation" in stderr
    assert (world / "runs/tiny/best.ckpt").is_file()


def test_eval_prints_a_table_with_its_signature(world, monkeypatch):
    result = run(world, monkeypatch, "eval", "runs/tiny/best.ckpt")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "test: 4 images, 10 captions"
    assert [line.split("  ")[0] for line in lines[2:4]] == ["image → text", "text → image"]
    assert lines[-1].startswith("signature: split:test|images:4|captions:10|folds:1|similarity:dot|ties:worst|")


def test_eval_takes_the_newest_checkpoint_and_json_stays_alone_on_stdout(world, monkeypatch):
    result = run(world, monkeypatch, "eval", "--json", "--split", "dev", "--folds", "1")
    assert "taking runs/tiny/best.ckpt" in result.stderr
    document = json.loads(result.stdout)
    assert {"split", "images", "captions", "folds", "i2t", "t2i", "rsum", "signature", "checkpoints"} <= set(document)
    assert (document["split"], document["images"], document["captions"]) == ("dev", 3, 7)
    assert set(document["i2t"]) >= {"r1", "r5", "r10", "median_rank", "mean_rank"}
    assert document["rsum"] == pytest.approx(
        sum(document[direction][name] for direction in ("i2t", "t2i") for name in ("r1", "r5", "r10"))
    )


def test_ranks_add_the_rank_of_every_query(world, monkeypatch):
    document = json.loads(run(world, monkeypatch, "eval", "--json", "--ranks").stdout)
    assert (len(document["ranks"]["i2t"]), len(document["ranks"]["t2i"])) == (4, 10)


def test_exported_embeddings_score_the_same(world, monkeypatch):
    exported = run(world, monkeypatch, "export-embeddings", "runs/tiny/best.ckpt", "--out", "e.h5")
    assert exported.exit_code == 0, exported.stderr
    assert (exported.stdout, exported.stderr.splitlines()[-1]) == ("", "wrote e.h5")
    with h5py.File(world / "e.h5") as file:
        assert (file["image"].shape[:2], len(file["caption"])) == ((4, 1), 10)
    scored = [
        json.loads(run(world, monkeypatch, "eval", path, "--json").stdout) for path in ("e.h5", "runs/tiny/best.ckpt")
    ]
    assert scored[0]["i2t"] == scored[1]["i2t"]
    assert scored[0]["t2i"] == scored[1]["t2i"]


def test_export_does_not_replace_a_file_unasked(world, monkeypatch):
    (world / "kept.h5").write_text("mine")
    refused = run(world, monkeypatch, "export-embeddings", "--out", "kept.h5")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (world / "kept.h5").read_text() == "mine"
    assert run(world, monkeypatch, "export-embeddings", "--out", "kept.h5", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "nowhere.ckpt"],
        ["eval", "tiny.yaml"],
        ["eval", "runs/tiny/best.ckpt", "--split", "nope"],
        ["eval", "runs/tiny/best.ckpt", "--data", "nowhere.h5"],
        ["eval", "runs/tiny/best.ckpt", "--folds", "99"],
        ["export-embeddings", "runs/tiny/best.ckpt", "--out", "e.txt"],
        ["export-embeddings", "nowhere.ckpt", "--out", "n.h5"],
        ["train", "tiny.yaml"],
        ["train", "tiny.yaml", "--set", "run.dir=runs/new", "--set", "data.features=nowhere.h5"],
        ["train", "tiny.yaml", "--set", "run.dir=runs/new", "--set", "data.train_split=nope"],
    ],
)
def test_wrong_input_is_one_message_and_exit_2(world, monkeypatch, arguments):
    result = run(world, monkeypatch, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
