"""From every dialect to a trained model, with the commands that a user types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.dialects import DIALECTS, make_pictures, write_captions
from support.golden import golden_root
from support.scan_dialects import EVERY_DIALECT

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.scoring.embeddings import read_embeddings

RECIPE = """
run: {dir: run, tensorboard: false}
data: {features: f.h5, vocab: v.json, batch_size: 8}
model: {name: vsrn, embed_dim: 8, word_dim: 4, graph_layers: 1}
loss: {concept: {prototypes: 4}, context: {negatives: 8}, captioning: {hidden_dim: 4, word_dim: 4, max_len: 8}}
optim: {epochs: 1}
"""


@pytest.fixture
def succeed(forks, tmp_path):
    """A function that runs a command, which must end well, and gives its JSON where it was asked for."""

    def run(*arguments):
        done = forks.run(*arguments, cwd=tmp_path)
        assert done.code == 0, done.err
        return json.loads(done.out) if "--json" in arguments else None

    return run


def train_on(succeed, folder, *sources) -> dict[str, int]:
    """Convert, count words, train one epoch; the pictures of each split."""
    (folder / "recipe.yaml").write_text(RECIPE)
    made = succeed("convert-features", *sources, "--out", "f.h5", "--json")
    succeed("build-vocab", "f.h5", "--out", "v.json", "--min-count", "1")
    succeed("train", "recipe.yaml", "--device", "cpu")
    assert (folder / "run" / "best.ckpt").exists()
    return made["splits"]


@pytest.mark.parametrize("name", list(EVERY_DIALECT))
def test_convert_build_vocab_and_train(name, succeed, tmp_path):
    dialect = EVERY_DIALECT[name]
    sources, captions = dialect.save(tmp_path, make_pictures([3, 2, 4] * 4 if dialect.adaptive else [3] * 12))
    named = [] if captions is None else ["--captions", captions]
    assert train_on(succeed, tmp_path, *sources, *named) == {"train": 4, "dev": 4, "test": 4}


def golden_sources() -> dict[str, list[Path]]:
    """Arguments of convert-features for each golden source that has pictures to train and to validate on."""
    legacy = golden_root() / "legacy"
    folders = {path.name: [path] for path in sorted((legacy / "data").iterdir()) if path.is_dir()}
    coco = ["--captions", legacy / "karpathy" / "dataset_coco.json"]
    return {**folders, **{path.stem: [path, *coco] for path in sorted((legacy / "tsv").glob("*.tsv"))}}


@pytest.mark.parametrize("name", golden_sources())
def test_golden_sources_train_and_keep_all_names(name, succeed, tmp_path):
    """Ids of pictures and captions and the names of files are the same in the feature file and in the vectors."""
    train_on(succeed, tmp_path, *golden_sources()[name])
    file = FeatureFile(tmp_path / "f.h5")
    succeed("export-embeddings", "run/best.ckpt", "--split", "test", "--out", "e.h5")
    found, rows, captions = read_embeddings(tmp_path / "e.h5"), file.facts.splits["test"], file.split_captions("test")
    assert found.image_ids == [file.image_ids[row] for row in rows]
    assert found.caption_texts == [file.captions[row] for row in captions]
    assert (found.image_of_caption + rows.start).tolist() == file.facts.caption_image[captions].tolist()
    assert (found.file_names is None, found.caption_ids is None) == (
        not file.facts.has_file_names,
        not file.facts.has_caption_ids,
    )
    if file.caption_ids and file.file_names:
        assert found.caption_ids == [file.caption_ids[row] for row in captions]
        assert found.file_names == [file.file_names[row] for row in rows]
        succeed("eval", "run/best.ckpt", "--details", "d.jsonl")
        first = json.loads((tmp_path / "d.jsonl").read_text().splitlines()[0])
        assert (first["id"], first["file_name"]) == (found.image_ids[0], found.file_names[0])
        assert {right["id"] for right in first["true"]} <= set(found.caption_ids)


def test_pictures_without_captions_are_not_trained_on(forks, succeed, tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    captions = write_captions(tmp_path / "c.json", make_pictures([1] * 6))
    succeed("convert-features", *DIALECTS["npy"].write(tmp_path, make_pictures([2] * 6)), "--out", "f.h5")
    succeed("build-vocab", captions, "--out", "v.json", "--min-count", "1")
    done = forks.run("train", "recipe.yaml", "--set", "data.train_split=test", cwd=tmp_path)
    done.must_refuse("f.h5 holds pictures without captions", "--captions")
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_of_a_plain_list(forks, tmp_path):
    captions = write_captions(tmp_path / "c.json", make_pictures([1] * 6))
    done = forks.run("build-vocab", captions, "--out", "v.json", "--min-count", "1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "dog" in json.loads((tmp_path / "v.json").read_text())["words"]


def test_notes_are_printed_and_errors_are_short(forks, tmp_path):
    pictures = make_pictures([2] * 4)
    captions = write_captions(tmp_path / "c.json", pictures[:3])
    (source,) = DIALECTS["bottom-up-attention"].write(tmp_path, pictures)
    command = ("convert-features", source, "--captions", captions, "--out", "f.h5")
    forks.run(*command, cwd=tmp_path).must_refuse("does not know 1 of the 4 pictures", "the first is 14", "--skip-unc")
    done = forks.run(*command, "--skip-uncaptioned", cwd=tmp_path)
    assert done.code == 0
    assert "1 of 4 pictures are left out: " in done.err
    again = ("convert-features", source, "--captions", captions)
    forks.run(*again, "--out", "f.h5", cwd=tmp_path).must_refuse("f.h5 exists already", "--overwrite")
    forks.run(*again, "--out", "g.h5", "--format", "x", cwd=tmp_path).must_refuse("there is no feature format 'x'")
    forks.run(*again, "--out", "g.h5", "--splits", "x", cwd=tmp_path).must_refuse("has no split 'x'")
    forks.run("convert-features", "nothing", "--out", "g.h5", cwd=tmp_path).must_refuse("there is no file or folder")
    assert not (tmp_path / "g.h5").exists()
