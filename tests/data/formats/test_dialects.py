"""Every dialect, written and converted: what comes out is what went in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dialects import DIALECTS, HEIGHT, WIDTH, Dialect, make_pictures, write_captions
from support.memory import memory_folder
from support.scan_dialects import EVERY_DIALECT

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats import READERS

every_dialect = pytest.mark.parametrize("dialect", EVERY_DIALECT.values(), ids=list(EVERY_DIALECT))
every_bare_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))


def written(folder, dialect: Dialect, pictures, **options):
    """The feature file of pictures that were written in a dialect."""
    sources, captions = dialect.save(folder, pictures)
    made = convert_to_feature_file(sources, folder / "out.h5", captions=captions, **options)
    assert made.format == dialect.format
    return FeatureFile(folder / "out.h5")


def expect_equal(file: FeatureFile, dialect: Dialect, pictures) -> None:
    """Every bit of every feature and box, and the captions, under the right id."""
    names = {p.image_id: p for p in pictures}
    assert sorted(file.image_ids) == sorted(names)
    assert (file.facts.boxes is not None, file.facts.image_size is not None) == (dialect.boxes, dialect.sizes)
    for row, name in enumerate(file.image_ids):
        assert file.regions(row).tobytes() == names[name].features.tobytes()
        if dialect.boxes:
            assert file.boxes(row).tobytes() == names[name].boxes.tobytes()
        if dialect.sizes:
            assert file.facts.image_size[row].tolist() == [WIDTH, HEIGHT]
    assert sorted(file.captions) == sorted(dialect.captions(pictures))
    assert all(file.image_ids[file.facts.caption_image[m]] == text.split()[2] for m, text in enumerate(file.captions))


def test_every_reader_has_a_dialect():
    """What `extract` leaves is no dialect: `tests/extract/test_extract.py` converts it."""
    assert {dialect.format for dialect in EVERY_DIALECT.values()} == set(READERS) - {"extraction"}


@every_bare_dialect
def test_the_captions_decide_about_the_order(dialect, tmp_path):
    pictures = make_pictures([3, 1, 5, 2] if dialect.adaptive else [3, 3, 3, 3])
    captions = write_captions(tmp_path / "captions.json", pictures)
    sources = dialect.write(tmp_path, pictures[::-1])
    convert_to_feature_file(sources, tmp_path / "out.h5", captions=captions)
    file = FeatureFile(tmp_path / "out.h5")
    expect_equal(file, dialect, pictures)
    assert list(file.facts.splits) == ["train", "dev", "test"]
    assert file.image_ids == ["11", "14", "12", "13"]  # the captions' order within each split


@every_dialect
def test_features_are_kept_bit_by_bit(dialect, tmp_path):
    pictures = make_pictures([3, 1, 5, 2] if dialect.adaptive else [3, 3, 3, 3])
    file = written(tmp_path, dialect, pictures)
    expect_equal(file, dialect, pictures)
    assert {split: [file.image_ids[row] for row in rows] for split, rows in file.facts.splits.items()} == {
        "train": ["11", "14"],
        "dev": ["12"],
        "test": ["13"],
    }


@every_dialect
@settings(max_examples=8)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 2**20))
def test_any_finite_numbers_are_kept(dialect, counts, width, seed):
    counts = counts if dialect.adaptive else [counts[0]] * len(counts)
    pictures = make_pictures(counts, width, seed, any_bits=True)
    with memory_folder() as folder:
        expect_equal(written(folder, dialect, pictures), dialect, pictures)


@every_dialect
def test_half_precision_rounds_to_nearest(dialect, tmp_path):
    pictures = make_pictures([2, 2])
    file = written(tmp_path, dialect, pictures, dtype="float16")
    assert file.regions(0).tobytes() == pictures[0].features.astype(np.float16).tobytes()


@every_dialect
def test_the_same_content_gives_the_same_hash_whatever_the_dialect(dialect, tmp_path):
    pictures = make_pictures([2, 2])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    made = written(tmp_path / "one", dialect, pictures)
    again = Dialect(DIALECTS["own"].write, "selfalign")
    first = convert_to_feature_file([tmp_path / "one" / "out.h5"], tmp_path / "copy.h5")
    assert first.content_hash == made.content_hash
    if dialect.boxes and dialect.sizes and not dialect.own_captions:
        assert written(tmp_path / "two", again, pictures).content_hash == made.content_hash


@every_dialect
def test_a_format_can_be_named(dialect, tmp_path):
    pictures = make_pictures([2])
    assert len(written(tmp_path, dialect, pictures, format=dialect.format)) == 1


@every_dialect
def test_some_splits_only(dialect, tmp_path):
    pictures = make_pictures([2, 2, 2, 2])
    file = written(tmp_path, dialect, pictures, splits=["train"])
    assert (list(file.facts.splits), file.image_ids) == (["train"], ["11", "14"])
