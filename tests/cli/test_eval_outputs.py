"""The options of `eval` that write files, through the command line."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two embedding files over three pictures with two captions each."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.npz", "b.npz")):
        draw = np.random.default_rng(seed)
        image, caption = draw.normal(size=(3, 4)), draw.normal(size=(6, 4))
        np.savez(name, image=image, caption=caption, image_of_caption=np.arange(6) // 2)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *arguments])


def test_all_of_them_together(files):
    result = run("a.npz", "b.npz", "--weights", "2,1", "--details", "d.jsonl", "--trec", "t", "--json", "--ranks")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert "|weights:2,1|" in document["signature"]
    lines = [json.loads(line) for line in (files / "d.jsonl").read_text().splitlines()]
    ranks = {
        direction: [line["rank"] for line in lines if line["direction"] == direction] for direction in ("i2t", "t2i")
    }
    assert ranks == {direction: document["ranks"][direction] for direction in ("i2t", "t2i")}
    assert sorted(path.name for path in (files / "t").iterdir()) == ["i2t.qrels", "i2t.run", "t2i.qrels", "t2i.run"]
    assert len((files / "t" / "i2t.run").read_text().splitlines()) == 18


def test_depth_of_run_files(files):
    assert run("a.npz", "--trec", "t", "--trec-depth", "2").exit_code == 0
    assert len((files / "t" / "t2i.run").read_text().splitlines()) == 12


@pytest.mark.parametrize("option", [("--details", "kept"), ("--trec", ".")])
def test_nothing_is_replaced_unasked(files, option):
    for name in ("kept", "t2i.qrels"):
        (files / name).write_text("mine")
    refused = run("a.npz", *option)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--overwrite" in refused.stderr
    assert (files / "kept").read_text() == "mine"
    assert run("a.npz", *option, "--overwrite").exit_code == 0


@pytest.mark.parametrize("weights", ["2", "2,x", "", "1,0", "1,nan", "1,2,3"])
def test_weights_that_do_not_fit(files, weights):
    result = run("a.npz", "b.npz", "--weights", weights)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "weights" in result.stderr


def test_eccv_without_its_package(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "eccv_caption", None)
    result = run("a.npz", "--eccv")
    assert result.exit_code == 2
    assert "selfalign[metrics]" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks"], "--ranks needs --json beside it"),
        (["--trec-depth", "3"], "--trec-depth needs --trec beside it"),
        (["--data", "f.h5", "--compat", "published"], "--data, --compat: embedding files are encoded already"),
        (["--batch-size", "3"], "--batch-size: embedding files are encoded already"),
    ],
)
def test_options_without_effect_are_refused(files, options, message):
    result = run("a.npz", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_file_of_another_split_is_refused(files):
    content = dict(np.load("a.npz"))
    np.savez("dev.npz", **content, attrs=np.array(json.dumps({"split": "dev"})))
    assert run("dev.npz", "--split", "dev").exit_code == 0
    result = run("dev.npz", "--split", "test")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "dev.npz holds the split dev, not test" in result.stderr
