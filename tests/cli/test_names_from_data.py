"""Names that come from data may hold anything; what reaches the terminal is printable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.data.text.vocab import SPECIAL_WORDS, Vocabulary

EVIL = "\x1b]0;pwned\x07\x1b[31mred\u202e\r\x9b2J"
"""Sets the title of a window, colours what follows, turns its direction around, and clears the screen."""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.stdout + result.stderr


def must_be_printable(printed: str) -> None:
    """Escapes are printed as text; line ends are the only other characters."""
    assert all(character.isprintable() or character == "\n" for character in printed), repr(printed)
    assert "\\x1b" in printed, repr(printed)


def records() -> Iterator[ImageRecord]:
    for row, split in enumerate(("train", "dev")):
        features = np.ones((2, 3), np.float32)
        yield ImageRecord(f"{EVIL}{row}", features, split, [f"a {EVIL} ball"], file_name=f"{EVIL}.jpg")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    write_feature_file(path, records(), total_images=2, total_regions=4, feature_dim=3, source=EVIL)
    return path


def test_the_source_of_features(features: Path) -> None:
    must_be_printable(run("inspect", features))


def test_a_picture_with_a_fault(features: Path) -> None:
    with h5py.File(features, "r+") as file:
        file["features"][0, 0] = np.nan
    must_be_printable(run("inspect", features))


def test_a_split(features: Path, tmp_path: Path) -> None:
    with h5py.File(features, "r+") as file:
        file.move("splits/dev", f"splits/{EVIL}")
    must_be_printable(run("inspect", features))
    must_be_printable(run("build-vocab", features, "--out", tmp_path / "v.json", "--splits", "dev"))


def test_captions(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "split": EVIL, "captions": ["a"]},
        {"image": "b.jpg", "split": "train", "captions": [1]},
    ]
    (tmp_path / "c.json").write_text(json.dumps(rows[:1]))
    must_be_printable(run("build-vocab", tmp_path / "c.json", "--out", tmp_path / "v.json"))
    (tmp_path / "c.json").write_text(json.dumps([{**rows[1], "captions": [[EVIL]]}]))
    must_be_printable(run("build-vocab", tmp_path / "c.json", "--out", tmp_path / "v.json"))


def test_words(tmp_path: Path) -> None:
    words = [*SPECIAL_WORDS, EVIL, EVIL]
    content = {**Vocabulary(SPECIAL_WORDS).to_dict(), "words": words}
    (tmp_path / "v.json").write_text(json.dumps(content))
    must_be_printable(run("inspect", tmp_path / "v.json"))


def test_keys_and_values_of_a_recipe(tmp_path: Path) -> None:
    escaped = json.dumps(EVIL)
    (tmp_path / "r.yaml").write_text(f"run: {{dir: r, {escaped}: 1}}\nmodel: {{name: {escaped}}}\n")
    must_be_printable(run("train", tmp_path / "r.yaml"))
    must_be_printable(run("train", tmp_path / "r.yaml", "--set", f"{EVIL}=1"))


def test_names_of_files(tmp_path: Path) -> None:
    must_be_printable(run("inspect", tmp_path / f"{EVIL}.h5"))
    must_be_printable(run("train", tmp_path / f"{EVIL}.yaml"))


def test_what_json_says_is_escaped_by_json(features: Path) -> None:
    printed = run("inspect", features, "--json")
    assert json.JSONDecoder().raw_decode(printed)[0]["source"] == EVIL
    assert "\x1b" not in printed
