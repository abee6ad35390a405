"""Splits: which pictures and captions belong to them, with and without captions and limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.records import make_record, make_records, write_records

from selfalign_cli.assembly.split import message_about_cut, open_split
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError


def encode(text: str) -> list[int]:
    """One id a word, between two marks."""
    return [1, *map(len, text.split()), 2]


@pytest.fixture
def file(tmp_path: Path) -> FeatureFile:
    """Four pictures of train, three of dev, two captions each."""
    return FeatureFile(write_records(tmp_path / "f.h5", make_records()))


def test_a_split(file: FeatureFile):
    split = open_split(file, "dev", encode)
    assert (split.images.tolist(), split.captions.tolist()) == ([4, 5, 6], [8, 9, 10, 11, 12, 13])
    assert split.image_of_caption.tolist() == [0, 0, 1, 1, 2, 2]
    assert [split.tokens.row(row).tolist() for row in (0, 1)] == [[1, 1, 3, 6, 2, 2], [1, 1, 2, 4, 2]]
    assert message_about_cut(split.tokens, split="dev", max_words=None) is None


def test_a_limit_counts_captions_and_leaves_out_pictures_behind_them(file: FeatureFile):
    split = open_split(file, "dev", encode, limit=3)
    assert (split.images.tolist(), split.captions.tolist()) == ([4, 5], [8, 9, 10])
    assert split.image_of_caption.tolist() == [0, 0, 1]
    assert len(open_split(file, "dev", encode, limit=100).captions) == 6


def test_long_captions_are_cut_and_counted(file: FeatureFile):
    split = open_split(file, "train", encode, max_words=5)
    assert (split.tokens.cut, split.tokens.row(0).tolist()) == (4, [1, 1, 3, 6, 2])
    message = message_about_cut(split.tokens, split="train", max_words=5)
    assert message == "4 of 8 captions of split train are longer than 5 tokens and were cut"


def test_pictures_without_captions(tmp_path: Path):
    records = [make_record(row, captions=[], caption_ids=None) for row in range(3)]
    bare = FeatureFile(write_records(tmp_path / "bare.h5", records))
    split = open_split(bare, "train", encode, limit=2, captions_required=False)
    assert (split.images.tolist(), len(split.captions), len(split.image_of_caption)) == ([0, 1, 2], 0, 0)
    assert len(split.tokens) == 0
    with pytest.raises(DataError, match="bare.h5 holds pictures without captions"):
        open_split(bare, "train", encode)
    with pytest.raises(DataError, match="has no split 'dev'"):
        open_split(bare, "dev", encode, captions_required=False)
