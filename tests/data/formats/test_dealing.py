"""Captions without splits: how splits are made, what is said about it, and captions in texts beside pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats.caption_tables import knows_splits, read_whole_table
from selfalign_cli.data.formats.dealing import DEALT, deal
from selfalign_cli.data.text.captions import read_vocabulary_captions
from selfalign_cli.errors import DataError


@pytest.mark.parametrize(("count", "each"), [(3, 1), (9, 1), (19, 1), (20, 2), (105, 10)])
def test_a_tenth_for_dev_and_for_test_but_at_least_one(count, each):
    dealt = deal([f"{number}.jpg" for number in range(count)])
    assert [dealt.count(split) for split in DEALT] == [count - 2 * each, each, each]


def test_the_order_of_the_file_does_not_matter():
    names = [f"{number}.jpg" for number in range(30)]
    one, other = dict(zip(names, deal(names), strict=True)), dict(zip(names[::-1], deal(names[::-1]), strict=True))
    assert one == other
    assert list(one.values()) != sorted(one.values())


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Captions of twelve pictures, without splits."""
    entries = [{"image": f"{n}.png", "captions": [f"picture {n}", f"number {n}"]} for n in range(12)]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(entries))
    return path


def test_splits_are_made_when_all_three_are_named(listed: Path):
    table = read_whole_table(listed, DEALT)
    assert sorted(picture.split for picture in table.wanted) == ["dev", "test", *["train"] * 10]
    assert table.notes == [
        f"{listed} knows no splits, so pictures were dealt out by a fixed seed: train 10, dev 1, test 1"
    ]
    assert not knows_splits(listed)


@pytest.mark.parametrize(("splits", "name"), [((), "test"), (("mine",), "mine")])
def test_otherwise_there_is_one_and_it_is_said(listed: Path, splits, name):
    table = read_whole_table(listed, splits)
    assert {picture.split for picture in table.wanted} == {name}
    assert table.notes == [
        f"{listed} knows no splits: all its pictures are of split {name}; --splits train,dev,test makes splits"
    ]


def test_two_names_are_refused_and_the_three_named(listed: Path):
    with pytest.raises(DataError, match="knows no splits; expected one name") as caught:
        read_whole_table(listed, ["train", "dev"])
    assert caught.value.hint == "--splits train,dev,test makes splits"


def test_too_few_pictures_for_splits(tmp_path: Path):
    (tmp_path / "c.json").write_text(json.dumps([{"image": "a", "captions": ["a"]}]))
    with pytest.raises(DataError, match="has captions for 1 pictures; expected at least one for each split"):
        read_whole_table(tmp_path / "c.json", DEALT)


def test_some_splits_are_refused(tmp_path: Path):
    path = tmp_path / "c.json"
    path.write_text(
        json.dumps([{"image": "a", "split": "train", "captions": ["a"]}, {"image": "b", "captions": ["b"]}])
    )
    with pytest.raises(DataError, match="no split for some pictures, and one for others; the first without is b"):
        read_whole_table(path)
    with pytest.raises(DataError, match="no split for some entries"):
        read_vocabulary_captions(path)


def test_a_vocabulary_reads_captions_without_splits(listed: Path):
    assert len(read_vocabulary_captions(listed)) == 24


def test_a_feature_file_of_made_splits(listed: Path, tmp_path: Path):
    """Both captions of a picture stay with it, and the note reaches the user."""
    (tmp_path / "features").mkdir()
    for number in range(12):
        np.save(tmp_path / f"features/{number}.npy", np.full((2, 4), number, dtype=np.float32))
    made = convert_to_feature_file([tmp_path / "features"], tmp_path / "f.h5", captions=listed, splits=DEALT)
    assert made.splits == {"train": 10, "dev": 1, "test": 1}
    assert any("dealt out by a fixed seed" in note for note in made.notes)
    file = FeatureFile(tmp_path / "f.h5")
    numbers = [file.captions[row].split()[1] for row in file.split_captions("dev")]
    assert len(numbers) == 2
    assert len(set(numbers)) == 1


def test_texts_beside_pictures(tmp_path: Path):
    """A text without a picture is passed over, and so is a picture without a text."""
    (tmp_path / "more").mkdir()
    for name in ("dog.jpg", "more/cat.PNG", "bird.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "dog.txt").write_text("a dog\na brown dog\n")
    (tmp_path / "README.txt").write_text("mine")
    table = read_whole_table(tmp_path)
    assert [(picture.names, picture.captions) for picture in table.wanted] == [
        ({"path": "dog.jpg"}, ["a dog", "a brown dog"])
    ]
    (tmp_path / "more/cat.txt").write_text("a cat\n")
    assert [picture.names["path"] for picture in read_whole_table(tmp_path).wanted] == ["dog.jpg", "more/cat.PNG"]


def test_a_folder_with_neither_kind_of_captions(tmp_path: Path):
    (tmp_path / "dog.jpg").touch()
    with pytest.raises(DataError, match="no file named SPLIT_caps.txt, and no text beside a picture"):
        read_whole_table(tmp_path)
