"""Without a file, commands take the newest best.ckpt under runs/ and name it on stderr."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.cli.options import newest_checkpoint
from selfalign_cli.errors import CheckpointError


def touch(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))


def test_the_newest_is_taken_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "runs/old/best.ckpt", 100)
    touch(tmp_path / "runs/deep/er/best.ckpt", 300)
    touch(tmp_path / "runs/mid/best.ckpt", 200)
    touch(tmp_path / "runs/later/last.ckpt", 400)
    assert str(newest_checkpoint()) == "runs/deep/er/best.ckpt"
    assert capsys.readouterr() == ("", "taking runs/deep/er/best.ckpt, the newest best.ckpt under runs/\n")


def test_a_folder_of_that_name_does_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/a/best.ckpt").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no checkpoint given"):
        newest_checkpoint()


@pytest.mark.parametrize("arguments", [["eval"], ["export-embeddings", "--out", "e.h5"]])
def test_without_any_run_the_message_has_the_next_step(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: no checkpoint given, and no best.ckpt under runs/",
        "hint: name one, or train one: selfalign train recipes/vsrn_scenes.yaml",
    ]
