"""Finding out what a source is, and sources that are nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import permissions
from support.dialects import DIALECTS, make_pictures, write_captions, write_own
from support.records import make_records, write_records

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.formats import READERS, plan_conversion
from selfalign_cli.errors import DataError

PICTURES = make_pictures([2, 2])


def refused(message, *sources, **options):
    with pytest.raises(DataError, match=message):
        plan_conversion(sources, **options)


def test_every_dialect_is_recognised(tmp_path):
    for number, dialect in enumerate(DIALECTS.values()):
        (tmp_path / str(number)).mkdir()
        for source in dialect.write(tmp_path / str(number), PICTURES):
            assert next(name for name, reader in READERS.items() if reader.recognises(source)) == dialect.format


@pytest.mark.parametrize("name", ["a.tsv", "a.npz", "a.h5", "a"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    refused(f"{name} is empty", tmp_path / name)
    refused(f"{name} is empty", tmp_path / name, format="bua-tsv")


def test_an_empty_folder(tmp_path):
    refused("is of no known feature format; expected one of\n  scan:", tmp_path)


@pytest.mark.parametrize("name", ["a.JPG", "below/deep/a.webp"])
def test_pictures_are_for_extract(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match="holds pictures, not features of pictures") as found:
            plan_conversion([source])
        assert f"selfalign extract {source} --out FILE.h5" in found.value.hint


def test_nothing_there(tmp_path):
    refused("there is no file or folder .*nowhere", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"x", b"a\tb\n", b"\x00" * 5000, b"\t" * 5000, b"\x89HDF\r\n\x1a\nxyz", b"PK\x03\x04"]
)
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    refused("is of no known feature format", tmp_path / "file")


def test_hdf5_of_another_kind(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["something"] = np.ones(3)
        file.attrs["format"] = "text of variable length"
    refused("is of no known feature format", tmp_path / "file.h5")


def test_sources_of_two_formats(tmp_path):
    first, second = DIALECTS["M2"].write(tmp_path, PICTURES), DIALECTS["bottom-up-attention"].write(tmp_path, PICTURES)
    refused("the sources are of different formats: bua-tsv, picture-hdf5", *first, *second)


def test_a_database_is_declined_with_a_way_out(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x")
    for source in (tmp_path, tmp_path / "data.mdb"):
        with pytest.raises(DataError, match="is an LMDB database") as caught:
            plan_conversion([source])
        assert "ID.npz" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", ["folder", "file", "beyond"])
def test_no_permission_to_read(tmp_path: Path, kind):
    (tmp_path / "folder").mkdir(mode=0)
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0)
    source = tmp_path / {"folder": "folder", "file": "file", "beyond": "folder/11.npz"}[kind]
    with permissions.obeyed():
        for format in ("auto", "per-image"):
            refused(
                f"cannot read .*{kind if kind != 'beyond' else '11.npz'}: Permission denied", source, format=format
            )


# our own layout


@pytest.fixture
def own(tmp_path):
    return write_records(tmp_path / "own.h5", make_records(train=3, dev=2))


def content(file: FeatureFile):
    regions = [file.regions(row).tobytes() for row in range(len(file))]
    boxes = [file.boxes(row).tobytes() for row in range(len(file))]
    texts = [file.captions, file.caption_ids, file.facts.caption_image.tolist(), file.image_ids, file.file_names]
    return regions, boxes, texts, file.facts.image_size.tolist(), file.facts.splits


def test_a_copy_is_equal_in_everything(tmp_path, own):
    convert_to_feature_file([own], tmp_path / "copy.h5")
    assert content(FeatureFile(tmp_path / "copy.h5")) == content(FeatureFile(own))
    assert FeatureFile(tmp_path / "copy.h5").content_hash == FeatureFile(own).content_hash


def test_a_file_can_replace_itself(own):
    before = content(FeatureFile(own))
    convert_to_feature_file([own], own, overwrite=True)
    assert content(FeatureFile(own)) == before


def test_half_precision_and_back(tmp_path, own):
    convert_to_feature_file([own], tmp_path / "half.h5", dtype="float16")
    convert_to_feature_file([tmp_path / "half.h5"], tmp_path / "back.h5")
    expected = FeatureFile(own).regions(4).astype(np.float16).astype(np.float32)
    assert FeatureFile(tmp_path / "back.h5").regions(4).tobytes() == expected.tobytes()


def test_one_split_of_it(tmp_path, own):
    convert_to_feature_file([own], tmp_path / "dev.h5", splits=["dev"])
    file, whole = FeatureFile(tmp_path / "dev.h5"), FeatureFile(own)
    assert file.facts.splits == {"dev": range(2)}
    assert file.image_ids == whole.image_ids[3:]
    assert file.captions == whole.captions[6:]


def test_two_files_become_one(tmp_path, own):
    for split in ("train", "dev"):
        convert_to_feature_file([own], tmp_path / f"{split}.h5", splits=[split])
    convert_to_feature_file([tmp_path / "train.h5", tmp_path / "dev.h5"], tmp_path / "both.h5")
    assert content(FeatureFile(tmp_path / "both.h5")) == content(FeatureFile(own))


def test_other_captions_replace_its_own(tmp_path):
    (source,) = write_own(tmp_path, PICTURES)
    captions = write_captions(tmp_path / "c.json", PICTURES)
    convert_to_feature_file([source], tmp_path / "out.h5", captions=captions)
    assert FeatureFile(tmp_path / "out.h5").captions[0] == "a dog 11 0"


def test_splits_that_are_missing_or_there_twice(tmp_path, own):
    refused("own.h5 has no split 'x'; it has train, dev", own, splits=["x"])
    refused("several sources hold the split train", own, own)


def test_files_of_different_widths(tmp_path, own):
    wide = ImageRecord("w", np.ones((1, 9), np.float32), "test", ["a"])
    path = write_records(tmp_path / "wide.h5", [wide])
    refused("the sources have regions of different widths", own, path)


def test_a_picture_in_two_files_with_captions_of_its_own(tmp_path, own):
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"image": "im0", "split": "a", "captions": ["a"]}]))
    refused("own.h5, row 0 holds the picture im0, as does", own, own, captions=path)


# SCAN, with what others put beside it


@pytest.fixture
def scan(tmp_path):
    folder = tmp_path / "precomp"
    folder.mkdir()
    np.save(folder / "test_ims.npy", np.random.default_rng(0).random((2, 3, 4), dtype=np.float32))
    np.save(folder / "train_ims.npy", np.random.default_rng(1).random((1, 3, 4), dtype=np.float32))
    (folder / "test_caps.txt").write_text("a\nb\n")
    (folder / "train_caps.txt").write_text("c\n")
    (folder / "test_ids.txt").write_text("7\n9\n")
    (folder / "train_ids.txt").write_text("3\n")
    return folder


def converted(folder, **options):
    convert_to_feature_file([folder], folder.parent / "out.h5", overwrite=True, **options)
    return FeatureFile(folder.parent / "out.h5")


def test_scan_some_splits(scan):
    assert list(converted(scan, splits=["test"]).facts.splits) == ["test"]
    refused("there is no split 'dev' in the sources; they have train, test", scan, splits=["dev"])


@pytest.mark.parametrize("parent", [".", ".."])
def test_file_names_of_an_id_mapping(scan, parent):
    (scan / parent / "id_mapping.json").write_text(
        json.dumps({"7": "val/7.jpg", "9": "val/9.jpg", "3": "train/3.jpg"})
    )
    assert converted(scan).file_names == ["train/3.jpg", "val/7.jpg", "val/9.jpg"]


def test_an_id_mapping_that_lacks_one_is_left_out(scan):
    (scan / "id_mapping.json").write_text(json.dumps({"7": "7.jpg", "3": "3.jpg"}))
    assert converted(scan).file_names is None


def test_an_id_mapping_that_is_none(scan):
    (scan / "id_mapping.json").write_text("[1]")
    refused("id_mapping.json is not an object of picture ids and file names", scan)


def pickled_sizes(scan, *entries):
    rows = np.empty(len(entries), dtype=object)
    rows[:] = entries
    np.save(scan / "test_ims_size.npy", rows)


def test_boxes_and_sizes_as_gsmn_writes_them(scan):
    boxes = np.tile(np.array([1, 2, 30, 40], np.float32), (2, 3, 1))
    np.save(scan / "test_ims_bbx.npy", boxes)
    pickled_sizes(scan, {"image_h": 48, "image_w": 64}, {"image_h": np.int64(50), "image_w": np.array([70])})
    file = converted(scan, splits=["test"])
    assert file.facts.image_size.tolist() == [[64, 48], [70, 50]]
    assert file.boxes(1).tobytes() == boxes[1].tobytes()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"image_h": 1, "image_w": 1}], r"test_ims_size.npy holds 1 sizes; expected 2"),
        (
            [{"image_h": 1, "image_w": 1}, {"image_h": 1}],
            r"test_ims_size.npy, row 1 is {'image_h': 1}; expected a dict",
        ),
        ([{"image_h": 1, "image_w": 1}, 7], r"test_ims_size.npy, row 1 is 7; expected a dict with image_w"),
        ([{"image_h": "a", "image_w": 1}] * 2, r"test_ims_size.npy, row 0 is .*; expected a dict"),
        ([os.mkdir, os.mkdir], r"test_ims_size.npy asks for the Python object .*mkdir"),
    ],
)
def test_sizes_that_are_none(scan, entries, message):
    pickled_sizes(scan, *entries)
    refused(message, scan)
