"""Captions in every kind of file: what is written is read, and damage never gives a picture another one's regions."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.caption_dialects import CAPTION_DIALECTS, CaptionDialect, Captioned
from support.damage import attempted, cut_short, damaged_copies, flipped
from support.memory import memory_folder

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.captions import read_vocabulary_captions

ROUNDS = 60

every_dialect = pytest.mark.parametrize("dialect", CAPTION_DIALECTS.values(), ids=list(CAPTION_DIALECTS))
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
data_sets = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.sampled_from(["train", "dev", "test"]), st.lists(texts, min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda picture: picture[0],
)


def write_features(folder: Path, pictures: list[Captioned]) -> Path:
    """A file for each picture; its one number is the picture's id."""
    (folder / "features").mkdir()
    for p in pictures:
        np.savez(folder / "features" / f"{p.number}.npz", feat=np.full((1, 1), p.number, np.float32))
    return folder / "features"


def expect_own_regions(file: FeatureFile) -> None:
    """Every picture has the number that is its id."""
    for row, name in enumerate(file.image_ids):
        assert file.regions(row).tolist() == [[int(name)]]


@every_dialect
@settings(max_examples=25)
@given(data_sets)
def test_what_is_written_is_read(dialect: CaptionDialect, drawn):
    pictures = [Captioned(number, split if dialect.splits else "test", tuple(texts)) for number, split, texts in drawn]
    with memory_folder() as folder:
        source = write_features(folder, pictures)
        captions = dialect.write(folder / "captions.json", pictures)
        convert_to_feature_file([source], folder / "f.h5", captions=captions)
        file = FeatureFile(folder / "f.h5")
        found = {file.image_ids[row]: split for split, rows in file.facts.splits.items() for row in rows}
        by_image = {name: np.flatnonzero(file.facts.caption_image == row) for row, name in enumerate(file.image_ids)}
        assert found == {str(p.number): p.split for p in pictures}
        expect_own_regions(file)
        for p in pictures:
            rows = by_image[str(p.number)]
            assert [file.captions[row] for row in rows] == list(p.captions)
            if dialect.ids:
                assert [file.caption_ids[row] for row in rows] == p.caption_ids
        if dialect.names and dialect.ids:
            assert sorted(file.file_names) == sorted(p.file_name for p in pictures)
        read = sorted(read_vocabulary_captions(captions, None if not dialect.splits else list(file.facts.splits)))
        assert read == sorted(text for p in pictures for text in p.captions)


@every_dialect
@pytest.mark.parametrize("change", [cut_short, flipped])
def test_damaged_captions(dialect, change, tmp_path):
    """An error with the name of the file; or texts and names of splits that are others, never another picture's."""
    pictures = [
        Captioned(10 + 7 * row, split, ("a dog", "É")) for row, split in enumerate(["train", "dev", "test"] * 2)
    ]
    source, good = write_features(tmp_path, pictures), tmp_path / "good"
    good.mkdir()
    captions = dialect.write(good / "captions.json", pictures)
    chance = random.Random(str(change.__name__))
    for _ in range(ROUNDS):
        with damaged_copies(good, tmp_path / "bad", chance, change) as bad:
            convert = partial(convert_to_feature_file, [source], tmp_path / "f.h5", captions=bad / captions.name)
            found = attempted(partial(convert, overwrite=True, skip_uncaptioned=True), tmp_path)
            if found:
                expect_own_regions(FeatureFile(tmp_path / "f.h5"))
            attempted(partial(read_vocabulary_captions, bad / captions.name, ["train", "dev"]), tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))
