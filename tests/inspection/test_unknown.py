"""`inspect VOCABULARY --captions FILE`: shares by split, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.text.vocab import build_vocabulary
from selfalign_cli.data.text.wordpiece import save_tokenizer
from selfalign_cli.data.text.wordpiece_training import build_wordpieces

KNOWN = ["a dog runs"]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Of train all words are known; of dev cats and sleep, 2 of 4; of test 1 of 2 words, 3 of 4 occurrences."""
    texts = {"train": ["a dog"], "dev": ["a dog", "cats sleep"], "test": ["zebra zebra zebra a"]}
    path = tmp_path / "captions.json"
    path.write_text(json.dumps([{"image": name, "split": name, "captions": found} for name, found in texts.items()]))
    return path


def inspect(*arguments: object):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_shares_of_a_vocabulary(captions: Path, tmp_path: Path):
    build_vocabulary(KNOWN, min_count=1).save(tmp_path / "v.json")
    found = json.loads(inspect(tmp_path / "v.json", "--captions", captions, "--json").stdout)["unknown"]
    assert found == {
        "train": {"occurrences": 0.0, "words": 0.0},
        "dev": {"occurrences": 0.5, "words": 0.5},
        "test": {"occurrences": 0.75, "words": 0.5},
    }
    lines = inspect(tmp_path / "v.json", "--captions", captions).stdout.splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["train", "0.0%", "0.0%"],
        ["dev", "50.0%", "50.0%"],
        ["test", "75.0%", "50.0%"],
    ]


def test_shares_of_word_pieces(captions: Path, tmp_path: Path):
    """No piece has c, t, e, l, p, z or b: cats, sleep and zebra cannot be made."""
    save_tokenizer(build_wordpieces(KNOWN), tmp_path / "pieces")
    found = json.loads(inspect(tmp_path / "pieces", "--captions", captions, "--json").stdout)["unknown"]
    assert [shares["occurrences"] for shares in found.values()] == [0.0, 0.5, 0.75]


def test_captions_without_splits_are_all(tmp_path: Path):
    build_vocabulary(KNOWN, min_count=1).save(tmp_path / "v.json")
    (tmp_path / "lines.txt").write_text("a cat\n")
    found = json.loads(inspect(tmp_path / "v.json", "--captions", tmp_path / "lines.txt", "--json").stdout)
    assert found["unknown"] == {"all": {"occurrences": 0.5, "words": 0.5}}


def test_other_files_know_no_words(captions: Path, world):
    done = inspect(world.features, "--captions", captions)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--captions is for vocabularies; " in done.stderr
    assert "holds features" in done.stderr
