"""Opening feature files that are damaged, cut short, forged, or no feature files at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import permissions
from support.records import make_records, write_records

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError, SelfAlignError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_records(tmp_path / "f.h5", make_records())


def replaced(name, value, **options):
    """A change that replaces a data set by another array."""

    def change(file):
        del file[name]
        file.create_dataset(name, data=value, **options)

    return change


def without(name):
    def change(file):
        del file[name]

    return change


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


OFFSETS = [0, 3, 4, 8, 11, 12, 16, 19]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("features"), "lacks the data set features"),
        (without("offsets"), "lacks the data set offsets"),
        (without("image_id"), "lacks the data set image_id"),
        (without("captions"), "lacks the data set captions/image"),
        (without("captions/text"), "lacks the data set captions/text"),
        (without("splits"), "names no splits"),
        (without("splits/dev"), "pictures from row 4 on that belong to no split"),
        (without("splits/train"), "split 'dev' from row 4; expected it to start at row 0"),
        (replaced("splits/dev", np.array([3, 7])), "split 'dev' from row 3; expected it to start at row 4"),
        (replaced("splits/dev", np.array([4, 8])), "expected a part of 0 to 7"),
        (replaced("splits/dev", np.array([4, 4])), "expected a part of 0 to 7"),
        (replaced("splits/dev", np.array([4.0, 7.0])), "splits/dev of type float64"),
        (replaced("offsets", np.array([1, *OFFSETS[1:]])), "faulty offsets"),
        (replaced("offsets", np.array([*OFFSETS[:-1], 18])), "faulty offsets"),
        (replaced("offsets", np.array([0, 3, 3, *OFFSETS[3:]])), "faulty offsets"),
        (replaced("offsets", np.array(OFFSETS, np.int32)), "offsets of type int32"),
        (replaced("offsets", np.array(OFFSETS[:-2] + OFFSETS[-1:])), "expected 6 texts|captions of pictures"),
        (replaced("features", np.zeros((19, 5))), "features of type float64"),
        (replaced("features", np.zeros((19, 6), "f4")), "expected the width of the attribute feature_dim"),
        (replaced("features", np.zeros((18, 5), "f4")), "faulty offsets; expected a rise from 0 to 18"),
        (replaced("features", np.zeros(95, "f4")), "expected two axes"),
        (replaced("features", np.zeros((19, 5), ">f4")), "features of type >f4"),
        (replaced("features", np.zeros((19, 5), "f4"), chunks=(1, 5)), "in chunks"),
        (replaced("features", np.zeros((19, 5), "f4"), compression="gzip"), "in chunks"),
        (replaced("boxes", np.zeros((18, 4), "f4")), r"boxes are \(18, 4\); expected \(19, 4\)"),
        (replaced("image_size", np.zeros((7, 2), "f4")), "faulty image_size"),
        (replaced("image_size", np.ones((6, 2), "f4")), "faulty image_size"),
        (replaced("captions/image", np.arange(14)), "captions of pictures that do not exist"),
        (replaced("captions/image", np.full(14, -1)), "captions of pictures that do not exist"),
        (replaced("captions/image", np.zeros(14, int)), "6 pictures without a caption, the first in row 1"),
        (replaced("captions/image", np.arange(7)), "captions/text .* expected 7 texts"),
        (replaced("captions/id", np.arange(14)), "captions/id of type int64"),
        (replaced("image_id", ["a"] * 7), "image_id of type object"),
        (replaced("image_id", np.array([b"a"] * 6)), "expected 7 texts"),
        (replaced("image_id", h5py.Empty("S3")), "holds nothing in image_id"),
        (linked("features", h5py.SoftLink("/boxes")), "a link in place of features"),
        (linked("captions", h5py.ExternalLink("other.h5", "/captions")), "a link in place of captions"),
        (linked("image_id", h5py.SoftLink("/nowhere")), "a link in place of image_id"),
        (attribute("format", np.bytes_(b"selfalign-embeddings")), "no feature file: attribute format is"),
        (attribute("format", "selfalign-features"), "no feature file"),
        (attribute("version", 2), "of version 2; this program reads version 1"),
        (attribute("version", [1, 1]), "of version None"),
        (attribute("feature_dim", 7), "expected the width of the attribute feature_dim"),
        (attribute("content_hash", np.bytes_(b"xyz")), "expected 64 hexadecimal digits"),
    ],
)
def test_a_file_that_contradicts_itself(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=message) as caught:
        FeatureFile(path)
    assert str(path) in caught.value.message


def test_features_that_were_never_written(path):
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (19, 5), "f4")
    with pytest.raises(DataError, match="it was never finished"):
        FeatureFile(path)


def test_features_kept_in_another_file(path):
    (path.parent / "raw.bin").write_bytes(bytes(19 * 5 * 4))
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (19, 5), "f4", external=[("raw.bin", 0, 19 * 5 * 4)])
    with pytest.raises(DataError, match="outside the file"):
        FeatureFile(path)


def test_a_claim_of_more_entries_than_the_file_can_hold(path):
    with h5py.File(path, "r+") as file:
        del file["captions/image"]
        file.create_dataset("captions/image", (10**9,), "i8")
    with pytest.raises(DataError, match="more than fit in the file"):
        FeatureFile(path)


def test_a_user_block_in_front(path):
    path.write_bytes(bytes(512) + path.read_bytes())
    with pytest.raises(DataError, match="not an HDF5 file"):
        FeatureFile(path)


def test_a_caption_that_is_not_utf8(path):
    text = "É un chat".encode()
    path.write_bytes(path.read_bytes().replace(text, b"\xff" + text[1:]))
    with pytest.raises(DataError, match="captions/text row 1 is not UTF-8"):
        _ = FeatureFile(path).captions


def test_there_is_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no feature file") as caught:
        FeatureFile(tmp_path / "none.h5")
    assert "convert-features" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"PK\x03\x04" * 9, "not an HDF5 file"), (b"\x89HDF\r\n\x1a\n", "is (damaged|cut short)")],
)
def test_not_hdf5_at_all(tmp_path, content, message):
    path = tmp_path / "f.h5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        FeatureFile(path)


def test_a_folder(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        FeatureFile(tmp_path)


def test_no_permission(path):
    path.chmod(0)
    with permissions.obeyed(), pytest.raises(DataError, match="cannot read"):
        FeatureFile(path)


@pytest.mark.parametrize("kept", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_cut_short_is_reported_as_such(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="is damaged: .*truncated file"):
        FeatureFile(path)


def read_everything(path: Path) -> None:
    file = FeatureFile(path)
    _ = file.captions, file.image_ids, file.file_names, file.caption_ids
    for row in range(len(file)):
        file.regions(row), file.boxes(row)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_give_our_error_or_none(path, data):
    """Never a crash of the HDF5 library, never its own words: at worst a text or a number that is another one."""
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    damaged = path.with_name("damaged.h5")
    damaged.write_bytes(content)
    with suppress(SelfAlignError):
        read_everything(damaged)
