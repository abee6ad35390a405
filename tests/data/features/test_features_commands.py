"""convert-features, build-vocab and inspect as commands."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.records import make_record, make_records, write_records
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.vocab import Vocabulary


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """The message of a command that fails for wrong input."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    folder = tmp_path / "scan"
    folder.mkdir()
    for name, images in (("train", 3), ("dev", 2)):
        np.save(folder / f"{name}_ims.npy", np.random.default_rng(0).random((images, 2, 4), dtype=np.float32))
        captions = [f"a dog {i} of {name}\n" for i in range(images * 2)]
        (folder / f"{name}_caps.txt").write_text("".join(captions))
    return folder


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_records(tmp_path / "f.h5", make_records())


def test_convert_features(scan, tmp_path):
    out = tmp_path / "out.h5"
    result = run("convert-features", scan, "--out", out, "--dtype", "float16")
    assert result.exit_code == 0, result.output
    file = FeatureFile(out)
    assert file.facts.features.dtype == "float16"
    assert file.content_hash in result.stdout
    assert "split train   3 pictures" in result.stdout
    assert "split dev: 2 pictures, 2 captions each" in result.stderr


def test_convert_features_as_json(scan, tmp_path):
    result = run("convert-features", scan, "--out", tmp_path / "out.h5", "--json")
    made = json.loads(result.stdout)
    assert (made["format"], made["splits"], made["regions"]) == ("scan", {"train": 3, "dev": 2}, 10)


def test_convert_features_refuses(scan, tmp_path):
    features = tmp_path / "out.h5"
    run("convert-features", scan, "--out", features)
    assert "exists already\nhint: add --overwrite" in refused("convert-features", scan, "--out", features)
    assert run("convert-features", scan, "--out", features, "--overwrite").exit_code == 0
    assert "of no known feature format" in refused("convert-features", tmp_path, "--out", tmp_path / "b.h5")


def test_build_vocab(scan, tmp_path):
    """a, dog, of: 10 times; train: 6; dev, 0, 1, 2, 3: 4, 2, 2, 2, 2"""
    out = tmp_path / "v.json"
    result = run("build-vocab", scan, "--out", out)
    assert result.exit_code == 0, result.output
    assert Vocabulary.load(out).words[4:] == ("a", "dog", "of", "train", "dev")
    assert Vocabulary.load(out).content_hash in result.stdout


def test_build_vocab_of_chosen_splits_and_settings(scan, tmp_path):
    out = tmp_path / "v.json"
    options = ["--splits", "dev", "--min-count", 1, "--lowercase", "ascii", "--tokenizer", "treebank-line"]
    assert run("build-vocab", scan, "--out", out, *options).exit_code == 0
    vocabulary = Vocabulary.load(out)
    assert set(vocabulary.words[4:]) == {"a", "dog", "of", "dev", "0", "1", "2", "3"}
    assert (vocabulary.lowercase, vocabulary.tokenizer, vocabulary.min_count) == ("ascii", "treebank-line", 1)


def test_build_vocab_of_wordpieces(scan, tmp_path):
    from tokenizers import Tokenizer

    out = tmp_path / "pieces"
    result = run("build-vocab", scan, "--out", out, "--kind", "wordpiece", "--size", 60)
    assert result.exit_code == 0, result.output
    tokens = Tokenizer.from_file(str(out / "tokenizer.json")).encode("a dog").tokens
    assert tokens == ["[CLS]", "a", "dog", "[SEP]"]


def test_build_vocab_refuses(scan, tmp_path):
    out = tmp_path / "v.json"
    unused = ["--kind", "wordpiece", "--tokenizer", "treebank", "--lowercase", "ascii"]
    assert "--tokenizer, --lowercase: only for --kind words" in refused("build-vocab", scan, "--out", out, *unused)
    assert "--size: only for --kind wordpiece" in refused("build-vocab", scan, "--out", out, "--size", "9")
    assert "lacks the split test; it has dev, train" in refused("build-vocab", scan, "--out", out, "--splits", "test")
    assert "there is no file" in refused("build-vocab", tmp_path / "none.txt", "--out", out)
    out.write_text("mine")
    assert "exists already" in refused("build-vocab", scan, "--out", out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("boxes", (3, 1, 3, 4), "box 1 is 3 1 3 4; expected x1 < x2 and y1 < y2 inside 40 x 30"),
        ("boxes", (1, 4, 3, 4), "box 1 is 1 4 3 4; expected x1 < x2 and y1 < y2 inside 40 x 30"),
        ("boxes", (1, 2, 42, 4), "box 1 is 1 2 42 4; expected x1 < x2 and y1 < y2 inside 40 x 30"),
        ("boxes", (1, -2, 3, 4), "box 1 is 1 -2 3 4; expected x1 < x2 and y1 < y2 inside 40 x 30"),
        ("img_sizes", (0, 30), "its size is (0.0, 30.0); expected a positive width and height in pixels"),
        ("img_sizes", (40, 0), "its size is (40.0, 0.0); expected a positive width and height in pixels"),
    ],
)
def test_conversion_refuses_boxes_and_sizes_that_cannot_be(scan, tmp_path, name, value, message):
    """The picture is named, and nothing is left behind."""
    for split, images in (("train", 3), ("dev", 2)):
        arrays = {"boxes": np.tile([1.0, 2, 3, 4], (images, 2, 1)), "img_sizes": np.tile([40, 30], (images, 1))}
        if split == "dev":
            arrays[name][(1, 1) if name == "boxes" else 1] = value
        for part, array in arrays.items():
            np.save(scan / f"{split}_{part}.npy", array)
    printed = refused("convert-features", scan, "--out", tmp_path / "f.h5")
    assert f"picture dev_1 of split dev: {message}" in printed
    assert not (tmp_path / "f.h5").exists()


def test_inspect_a_feature_file(features):
    result = run("inspect", features, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    two = {"min": 2, "mean": 2, "max": 2}
    assert (found["kind"], found["images"], found["captions"], found["regions"]) == ("features", 7, 14, 19)
    first = {"first_image_ids": ["im4", "im5", "im6"], "first_caption_ids": ["4a", "4b", "5a"]}
    assert found["splits"]["dev"] == {"images": 3, "captions": 6, "captions_per_image": two, **first}
    assert found["shapes"] == {"features": [19, 5], "boxes": [19, 4], "image_size": [7, 2]}
    assert found["regions_per_image"] == {"min": 1, "mean": pytest.approx(19 / 7), "max": 4}
    assert found["faults"] == []


def test_inspect_shows_a_table(features):
    result = run("inspect", features)
    assert result.exit_code == 0, result.output
    assert "regions per image  1 to 4, mean 2.71" in result.stdout
    assert "train         4         8                     2  im0, im1, im2" in result.stdout


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("features", 3, np.nan, "picture im1 of split train: region 0 holds nan in column 0"),
        ("boxes", 4, -99, "picture im2 of split train: box 0 is -99 -99 -99 -99"),
        ("features", 0, 0.5, "the content does not match the content_hash"),
        ("captions/text", 5, b"", "picture im2 of split train: caption 1 is empty"),
        ("image_id", 5, b"im4", "picture im4 of split dev: its id occurs twice"),
    ],
)
def test_inspect_finds_faults_inside(features, name, row, value, message):
    with h5py.File(features, "r+") as file:
        file[name][row] = value
    result = run("inspect", features, "--json")
    assert result.exit_code == 2
    assert any(message in fault for fault in json.loads(result.stdout)["faults"])
    assert message in result.stderr


def test_a_quick_look_reads_no_regions(features):
    with h5py.File(features, "r+") as file:
        file["features"][3] = np.nan
    assert run("inspect", features, "--quick").exit_code == 0


def test_inspect_pictures_without_captions(tmp_path):
    path = write_records(tmp_path / "f.h5", [make_record(captions=[], caption_ids=None)])
    found = json.loads(run("inspect", path, "--json").stdout)
    assert (found["captions"], found["splits"]["train"]["captions"], found["faults"]) == (0, 0, [])
    assert "without captions" in refused("build-vocab", path, "--out", tmp_path / "v.json", "--splits", "train")


def test_inspect_a_vocabulary(tmp_path):
    Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "a"), min_count=3).save(tmp_path / "v.json")
    found = json.loads(run("inspect", tmp_path / "v.json", "--json").stdout)
    assert (found["kind"], found["words"], found["min_count"], found["foreign"]) == ("vocabulary", 5, 3, False)


def test_inspect_refuses(tmp_path, features):
    assert "there is no" in refused("inspect", tmp_path / "none")
    features.write_bytes(features.read_bytes()[:300])
    assert "truncated file" in refused("inspect", features)
