"""What a vocabulary leaves unknown of dev: worked by hand, and as `build-vocab` shows it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.text.coverage import Choice, Unknown, choices, pieces_of, unknown_in
from selfalign_cli.data.text.wordpiece import bert_tokenizer
from selfalign_cli.data.text.wordpiece_training import train_wordpieces

ENTRIES = [
    {"image": "1", "split": "train", "captions": ["a dog runs", "a dog runs", "a cat sleeps"]},
    {"image": "2", "split": "dev", "captions": ["a dog sleeps", "a horse jumps"]},
    {"image": "3", "split": "test", "captions": ["nothing"]},
]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(ENTRIES))
    return path


def build(captions: Path, *options: str):
    done = CliRunner().invoke(app, ["build-vocab", str(captions), "--out", f"{captions.parent}/v", *options])
    assert done.exit_code == 0, done.stderr
    return done


def rows(text: str) -> list[list[str]]:
    """The cells of what follows the heading about dev."""
    lines = text[text.index("dev, left unknown") :].splitlines()[1:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_shares_of_occurrences_and_of_words():
    """Dev: a 2, dog 1, sleeps 1, horse 1, jumps 1. Of 6 occurrences 2 are unknown, of 5 words 2."""
    dev = Counter("a dog sleeps a horse jumps".split())
    assert unknown_in(dev, {"a", "dog", "sleeps", "cat"}) == Unknown(2 / 6, 2 / 5)
    assert unknown_in(Counter(), {"a"}) == Unknown(0, 0)


def test_choices_end_where_no_word_is_left():
    """a 3, dog 2: from 4 occurrences on nothing is left, and nothing is said about 5 and 10."""
    found = choices({"a": 3, "dog": 2}, {"a": 1, "dog": 1}, 2)
    assert found == [
        Choice(1, 6, Unknown(0, 0)),
        Choice(2, 6, Unknown(0, 0)),
        Choice(3, 5, Unknown(0.5, 0.5)),
    ]


def test_build_vocab_shows_what_dev_would_lack(captions: Path):
    """Counted in train: a 3, dog 2, runs 2, cat 1, sleeps 1; dev as above."""
    assert rows(build(captions, "--splits", "train", "--min-count", "2").stdout) == [
        ["--min-count 1", "9", "33.3%", "40.0%"],
        ["--min-count 2 (written)", "7", "50.0%", "60.0%"],
        ["--min-count 3", "5", "66.7%", "80.0%"],
    ]


def test_words_that_only_dev_has_are_told(captions: Path):
    """Counted in train and dev: a 5, dog 3, sleeps 2, runs 2, the others once. Horse and jumps: 2 of 6."""
    done = build(captions, "--min-count", "1")
    assert rows(done.stdout)[:3] == [
        ["--min-count 1 (written)", "11", "0.0%", "0.0%"],
        ["--min-count 2", "8", "33.3%", "40.0%"],
        ["--min-count 3", "6", "50.0%", "60.0%"],
    ]
    assert "dev was counted too; 33.3% of its word occurrences are words that train never shows" in done.stderr


def test_a_source_without_splits_has_no_dev(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("a dog\na cat\n")
    assert "dev" not in build(tmp_path / "lines.txt", "--min-count", "1").output


def test_pieces_by_hand():
    """Pieces of single letters of `ab`: `ab` is two, `abz` has no z and is unknown, one piece. (2·3 + 1) / 4."""
    tokenizer = bert_tokenizer(train_wordpieces({"ab": 1, "ba": 1}, size=9, min_count=5))
    assert pieces_of(tokenizer, Counter({"ab": 3, "abz": 1})) == (Unknown(0.25, 0.5), 1.75)


def test_build_vocab_shows_pieces(captions: Path):
    """Train has no h, j and m, so horse and jumps are no pieces."""
    shown = build(captions, "--kind", "wordpiece", "--splits", "train").stdout
    assert "33.3% of word occurrences, 40.0% of different words" in shown
