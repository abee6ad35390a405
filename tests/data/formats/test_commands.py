"""From every dialect to a trained model, with the commands that a user types."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions
from support.processes import Forks

RECIPE = """
run: {dir: run, tensorboard: false}
data: {features: f.h5, vocab: v.json, batch_size: 8}
model: {name: vsrn, embed_dim: 8, word_dim: 4, graph_layers: 1}
loss: {concept: {prototypes: 4}, context: {negatives: 8}, captioning: {hidden_dim: 4, word_dim: 4, max_len: 8}}
optim: {epochs: 1}
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()


@pytest.mark.parametrize("name", list(DIALECTS))
def test_convert_build_vocab_and_train(name, forks, tmp_path):
    dialect = DIALECTS[name]
    pictures = make_pictures([3, 2, 4] * 4 if dialect.adaptive else [3] * 12)
    captions = write_captions(tmp_path / "c.json", pictures)
    sources = dialect.write(tmp_path, pictures)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = forks.run("convert-features", *sources, "--captions", captions, "--out", "f.h5", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out)["splits"] == {"train": 4, "dev": 4, "test": 4}
    done = forks.run("build-vocab", "f.h5", "--out", "v.json", "--min-count", "1", cwd=tmp_path)
    assert done.code == 0, done.err
    done = forks.run("train", "recipe.yaml", "--device", "cpu", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "best.ckpt").exists()


def test_a_vocabulary_of_a_plain_list(forks, tmp_path):
    captions = write_captions(tmp_path / "c.json", make_pictures([1] * 6))
    done = forks.run("build-vocab", captions, "--out", "v.json", "--min-count", "1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "dog" in json.loads((tmp_path / "v.json").read_text())["words"]


def test_notes_are_told_and_faults_are_short(forks, tmp_path):
    pictures = make_pictures([2] * 4)
    captions = write_captions(tmp_path / "c.json", pictures[:3])
    (source,) = DIALECTS["bottom-up-attention"].write(tmp_path, pictures)
    done = forks.run("convert-features", source, "--captions", captions, "--out", "f.h5", cwd=tmp_path)
    assert done.code == 0
    assert "1 of 4 pictures are left out: " in done.err
    again = ("convert-features", source, "--captions", captions)
    forks.run(*again, "--out", "f.h5", cwd=tmp_path).must_refuse("f.h5 exists already", "--overwrite")
    forks.run(*again, "--out", "g.h5", "--format", "x", cwd=tmp_path).must_refuse("there is no feature format 'x'")
    forks.run(*again, "--out", "g.h5", "--splits", "x", cwd=tmp_path).must_refuse("has no split 'x'")
    forks.run("convert-features", source, "--out", "g.h5", cwd=tmp_path).must_refuse("holds features but no captions")
    forks.run("convert-features", "nothing", "--out", "g.h5", cwd=tmp_path).must_refuse("there is no file or folder")
    assert not (tmp_path / "g.h5").exists()
