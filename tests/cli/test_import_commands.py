"""import-checkpoint and build-vocab on files of other programs, through the command line."""

from __future__ import annotations

import json
import os

import pytest
from support.published_files import (
    CAMERA_OPTIONS,
    WORDS,
    published_content,
    write_bert_folder,
    write_checkpoint,
    write_vocabulary,
)
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.text.vocab import Vocabulary


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def old(tmp_path):
    return write_checkpoint(tmp_path / "model_best.pth.tar", published_content())


def test_a_vsrn_checkpoint(tmp_path, old):
    vocab, out = write_vocabulary(tmp_path / "v.pkl"), tmp_path / "new.ckpt"
    result = run("import-checkpoint", old, "--vocab", vocab, "--out", out, "--tokenizer", "treebank-line")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "VSRN with SelfAlign" in result.stdout
    assert "9 words, treebank-line, ascii lower-casing" in result.stdout
    assert "Training cannot be resumed from it" in result.stdout
    assert "no caption generator" in result.stdout
    assert out.exists()


def test_a_camera_checkpoint(tmp_path):
    old = write_checkpoint(tmp_path / "c.pth.tar", published_content(CAMERA_OPTIONS, selfalign=False), zipped=False)
    result = run("import-checkpoint", old, "--bert", write_bert_folder(tmp_path / "bert"), "--out", tmp_path / "new")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "CAMERA\n" in result.stdout
    assert "Training cannot be resumed from it" in result.stdout
    assert "caption generator" not in result.stdout


@pytest.mark.parametrize("option", [["--tokenizer", "spaces"], ["--lowercase", "all"]])
def test_wrong_values_of_options(tmp_path, old, option):
    result = run("import-checkpoint", old, "--out", tmp_path / "new.ckpt", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_a_payload_ends_in_one_message(tmp_path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    old = write_checkpoint(tmp_path / "old", {**published_content(), "more": Command()})
    vocab = write_vocabulary(tmp_path / "v.pkl")
    result = run("import-checkpoint", old, "--vocab", vocab, "--out", tmp_path / "n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {old} asks for {os.mkdir.__module__}.mkdir;")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "n").exists()


def test_a_vocabulary_is_imported_with_its_ids(tmp_path):
    for suffix in (".pkl", ".json"):
        out = tmp_path / f"out{suffix}"
        result = run("build-vocab", write_vocabulary(tmp_path / f"old{suffix}"), "--out", out)
        assert result.exit_code == 0, result.output
        found = Vocabulary.load(out)
        assert found.words == WORDS
        assert (found.tokenizer, found.lowercase) == ("treebank", "ascii")
    chosen = ["--tokenizer", "treebank-line", "--lowercase", "unicode"]
    assert run("build-vocab", tmp_path / "old.pkl", "--out", tmp_path / "c.json", *chosen).exit_code == 0
    found = Vocabulary.load(tmp_path / "c.json")
    assert (found.tokenizer, found.lowercase) == ("treebank-line", "unicode")


@pytest.mark.parametrize(
    "more", [["--min-count", "2"], ["--splits", "train"], ["--kind", "wordpiece"], ["captions.txt"]]
)
def test_a_finished_vocabulary_is_not_counted(tmp_path, more, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.txt").write_text("a dog\n")
    result = run("build-vocab", write_vocabulary(tmp_path / "old.json"), *more, "--out", tmp_path / "out.json")
    assert result.exit_code == 2
    assert "old.json is a finished vocabulary" in result.stderr
    assert not (tmp_path / "out.json").exists()


def test_a_faulty_vocabulary(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"word2idx": {"<pad>": 0}, "idx2word": {"1": "<pad>"}, "idx": 1}))
    result = run("build-vocab", path, "--out", tmp_path / "out.json")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: idx2word gives the id 1 to '<pad>', word2idx to None")
