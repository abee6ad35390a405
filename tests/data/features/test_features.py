"""Writing a feature file and reading it back."""

from __future__ import annotations

import gc
import os
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.records import WIDTH, make_record, make_records, write_records

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError, RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_records(tmp_path / "f.h5", make_records())


def test_regions_and_boxes_come_back_bit_for_bit(path):
    file = FeatureFile(path)
    for row, record in enumerate(make_records()):
        assert file.regions(row).tobytes() == record.features.tobytes()
        assert file.boxes(row).tobytes() == record.boxes.tobytes()


def test_texts_come_back(path):
    file, records = FeatureFile(path), make_records()
    assert file.image_ids == [record.image_id for record in records]
    assert file.file_names == [record.file_name for record in records]
    assert file.captions == [caption for record in records for caption in record.captions]
    assert file.caption_ids == [name for record in records for name in record.caption_ids]


def test_facts(path):
    file = FeatureFile(path)
    assert (len(file), file.feature_dim, file.facts.features.dtype) == (7, WIDTH, "float32")
    assert file.facts.offsets.tolist() == [0, 3, 4, 8, 11, 12, 16, 19]
    assert file.facts.image_size.tolist() == [[40, 30]] * 7


def test_optional_parts_may_be_missing(tmp_path):
    bare = [replace(r, boxes=None, size=None, file_name=None, caption_ids=None) for r in make_records()]
    file = FeatureFile(write_records(tmp_path / "f.h5", bare))
    assert (file.facts.boxes is not None, file.facts.image_size is not None) == (False, False)
    assert (file.boxes(0), file.facts.image_size, file.file_names, file.caption_ids) == (None, None, None, None)


def test_a_split_has_its_pictures_and_their_captions(path):
    file = FeatureFile(path)
    assert file.facts.splits == {"train": range(0, 4), "dev": range(4, 7)}
    assert file.split_images("dev").tolist() == [4, 5, 6]
    assert file.split_captions("dev").tolist() == [8, 9, 10, 11, 12, 13]


def test_pictures_may_have_different_numbers_of_captions(tmp_path):
    records = [make_record(row, captions=["word"] * (row + 1), caption_ids=None) for row in range(3)]
    file = FeatureFile(write_records(tmp_path / "f.h5", records))
    assert file.facts.caption_image.tolist() == [0, 1, 1, 2, 2, 2]


def test_pictures_without_captions(tmp_path):
    """A file of regions only can be read; where captions are needed, the error shows how to add them."""
    records = [make_record(row, captions=[], caption_ids=None) for row in range(2)]
    file = FeatureFile(write_records(tmp_path / "f.h5", records))
    assert (file.captions, file.image_ids) == ([], ["im0", "im1"])
    assert file.regions(1).tobytes() == records[1].features.tobytes()
    assert file.split_images("train").tolist() == [0, 1]
    with pytest.raises(DataError, match="f.h5 holds pictures without captions") as caught:
        file.split_captions("train")
    assert "--captions" in caught.value.hint


def test_a_picture_with_captions_among_those_without(tmp_path):
    records = [make_record(0, captions=[], caption_ids=None), make_record(1, caption_ids=None)]
    with pytest.raises(
        DataError, match="picture im1 of split train: it has captions, and the pictures before it lack"
    ):
        write_records(tmp_path / "f.h5", records)


def test_an_unknown_split_is_answered_with_the_known_ones(path):
    with pytest.raises(DataError, match="no split 'test'; it has train, dev"):
        FeatureFile(path).split_images("test")


def test_the_same_id_may_occur_in_two_splits(tmp_path):
    records = [make_record(0), make_record(0, split="testall")]
    assert FeatureFile(write_records(tmp_path / "f.h5", records)).image_ids == ["im0", "im0"]


def test_float16_halves_the_features_and_rounds_them(tmp_path):
    records = make_records()
    file = FeatureFile(write_records(tmp_path / "f.h5", records, dtype="float16"))
    assert file.regions(2).dtype == np.float16
    assert (file.regions(2) == records[2].features.astype(np.float16)).all()


def test_wider_numbers_are_narrowed(tmp_path):
    record = make_record(features=np.full((2, WIDTH), 1 / 3), boxes=None)
    assert FeatureFile(write_records(tmp_path / "f.h5", [record])).regions(0)[0, 0] == np.float32(1 / 3)


def test_captions_of_any_alphabet_and_length(tmp_path):
    captions = ["一只狗", "🐕 runs", "a\u2028b", "tab\tinside", "x" * 3000]
    file = FeatureFile(write_records(tmp_path / "f.h5", [make_record(captions=captions, caption_ids=None)]))
    assert file.captions == captions


def test_pieces_sent_to_the_disk_early_change_nothing(tmp_path, path, monkeypatch):
    from selfalign_cli.data.features import output as hdf5_output

    monkeypatch.setattr(hdf5_output, "PIECE", 64)
    monkeypatch.setattr(hdf5_output, "CACHED", 128)
    assert write_records(tmp_path / "g.h5", make_records()).read_bytes() == path.read_bytes()


def test_anybody_can_read_the_file(path):
    with h5py.File(path) as file:
        assert file["features"].chunks is None
        assert file["features"].shape == (19, WIDTH)
        assert file["captions/text"].asstr()[1] == "É un chat"
        assert dict(file.attrs)["version"] == 1
        assert bytes(file.attrs["format"]) == b"selfalign-features"


def test_the_same_pictures_give_the_same_file(tmp_path):
    first, second = (write_records(tmp_path / name, make_records()) for name in ("a.h5", "b.h5"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"features": make_record(99).features},
        {"captions": ["a dog number 0.", "E un chat"]},
        {"caption_ids": ["0a", "0c"]},
        {"image_id": "im00"},
        {"file_name": "0.png"},
        {"size": (41.0, 30.0)},
        {"boxes": make_record(99).boxes},
        {"split": "val"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_content_hash_changes_with(path, tmp_path, change):
    records = make_records()
    changed = write_records(tmp_path / "changed.h5", [replace(records[0], **change), *records[1:]])
    assert FeatureFile(path).content_hash != FeatureFile(changed).content_hash


def test_the_content_hash_changes_with_precision(path, tmp_path):
    half = write_records(tmp_path / "half.h5", make_records(), dtype="float16")
    assert FeatureFile(path).content_hash != FeatureFile(half).content_hash


def test_a_pickled_reader_carries_no_captions_and_works(path):
    file = FeatureFile(path)
    assert file.captions
    assert file.regions(0).size
    sent = pickle.dumps(file)
    assert b"a dog number" not in sent
    assert (pickle.loads(sent).regions(3) == file.regions(3)).all()


def test_a_reader_closes_its_file(path):
    file = FeatureFile(path)
    gc.collect()  # what earlier tests left open
    before = len(os.listdir("/proc/self/fd"))
    assert file.regions(0).size
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_replaced_while_in_use_is_noticed(path):
    file = FeatureFile(path)
    write_records(path, make_records(), dtype="float16", overwrite=True)
    with pytest.raises(RunError, match="was replaced while in use"):
        file.regions(0)


def test_a_file_cut_short_while_in_use_is_noticed(path):
    file = FeatureFile(path)
    assert file.regions(0).size
    os.truncate(path, 500)
    with pytest.raises(RunError, match="was cut short while in use"):
        file.regions(6)


def test_a_file_removed_before_its_captions_are_read(path):
    file = FeatureFile(path)
    path.unlink()
    with pytest.raises(RunError, match="can no longer be read"):
        _ = file.captions


def with_value(value: float) -> np.ndarray:
    features = make_record().features.copy()
    features[1, 2] = value
    return features


def with_box(*corners: float) -> np.ndarray:
    boxes = make_record().boxes.copy()
    boxes[2] = corners
    return boxes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": with_value(np.nan)}, "region 1 holds nan in column 2"),
        ({"features": with_value(-np.inf)}, "region 1 holds -inf"),
        ({"features": np.zeros((0, WIDTH), np.float32), "boxes": None}, "one or more regions of 5"),
        ({"features": np.zeros((3, 4), np.float32)}, r"features are \(3, 4\); expected one or more regions of 5"),
        ({"features": np.zeros((3, WIDTH), np.int32)}, "of type int32; expected floating point"),
        ({"features": np.full((3, WIDTH), 1e39)}, "1e.39 does not fit in float32"),
        ({"boxes": make_record().boxes[:2]}, r"boxes are \(2, 4\); expected \(3, 4\)"),
        ({"boxes": with_box(1, 2, 1, 4)}, "box 2 is 1 2 1 4; expected x1 < x2 and y1 < y2 inside 40 x 30"),
        ({"boxes": with_box(1, 9, 3, 4)}, "box 2 is 1 9 3 4"),
        ({"boxes": with_box(1, 2, 99, 4)}, "box 2 is 1 2 99 4"),
        ({"boxes": with_box(-3, 2, 9, 4)}, "box 2 is -3 2 9 4"),
        ({"boxes": with_box(np.nan, 2, 9, 4)}, "box 2 is nan 2 9 4"),
        ({"size": (0.0, 30.0)}, "expected a positive width and height"),
        ({"size": (np.inf, 30.0)}, "expected a positive width and height"),
        ({"captions": [], "caption_ids": []}, "it lacks captions, and the pictures before it have them"),
        ({"captions": ["a dog", " \t"]}, "caption 1 is empty"),
        ({"caption_ids": ["1"]}, "1 caption ids for 2 captions"),
        ({"captions": ["a\0b", "c"]}, "holds a NUL character"),
        ({"captions": ["\ud800", "c"]}, "cannot be written as UTF-8"),
        ({"image_id": ""}, "its id is empty"),
        ({"image_id": "im0"}, "its id occurs twice in the split"),
        ({"split": "a/b"}, "cannot be the name of a split"),
        ({"split": ""}, "cannot be the name of a split"),
        ({"boxes": None}, "it lacks boxes, and the pictures before it have them"),
        ({"size": None}, "it lacks a size"),
        ({"file_name": None}, "it lacks a file name"),
        ({"caption_ids": None}, "it lacks caption ids"),
    ],
)
def test_a_faulty_picture_is_named_and_nothing_is_written(tmp_path, change, message):
    records = [make_record(0), replace(make_record(), image_id="im1")]
    faulty = [records[0], replace(records[1], **change)]
    with pytest.raises(DataError, match=message) as caught:
        write_records(tmp_path / "f.h5", faulty, total_regions=6)
    assert caught.value.message.startswith(f"picture {faulty[1].image_id} of split {faulty[1].split}: ")
    assert list(tmp_path.iterdir()) == []


def test_a_feature_too_large_for_float16(tmp_path):
    record = make_record(features=with_value(70000))
    with pytest.raises(DataError, match="70000 does not fit in float16") as caught:
        write_records(tmp_path / "f.h5", [record], dtype="float16")
    assert "--dtype float32" in caught.value.hint


def test_a_box_may_reach_a_pixel_over_the_edge(tmp_path):
    record = make_record(boxes=with_box(-0.5, 2, 40.99, 31))
    assert FeatureFile(write_records(tmp_path / "f.h5", [record])).boxes(0)[2].tolist() == pytest.approx(
        [-0.5, 2, 40.99, 31]
    )


def test_a_split_must_come_in_one_piece(tmp_path):
    records = [make_record(0), make_record(1, split="dev"), make_record(2)]
    with pytest.raises(DataError, match="picture im2 of split train: other splits come between"):
        write_records(tmp_path / "f.h5", records)


@pytest.mark.parametrize(
    ("announced", "message"),
    [
        ({"total_images": 1}, "one more than the 1 pictures announced"),
        ({"total_images": 3}, "gave 2 pictures with 6 regions; expected 3 with 6"),
        ({"total_regions": 5}, "more regions than the 5 announced"),
        ({"total_regions": 7}, "gave 2 pictures with 6 regions; expected 2 with 7"),
    ],
)
def test_a_stream_that_is_not_as_announced(tmp_path, announced, message):
    with pytest.raises(DataError, match=message):
        write_records(tmp_path / "f.h5", [make_record(0), make_record(1)], **announced)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_stream(tmp_path):
    from selfalign_cli.data.features.writer import write_feature_file

    with pytest.raises(DataError, match="no pictures to write"):
        write_feature_file(tmp_path / "f.h5", [], total_images=0, total_regions=0, feature_dim=5, source="a folder")


def test_an_existing_file_is_replaced_only_on_demand(path):
    before = path.read_bytes()
    with pytest.raises(DataError, match="exists already"):
        write_records(path, make_records(), dtype="float16")
    assert path.read_bytes() == before
    write_records(path, make_records(), dtype="float16", overwrite=True)
    assert FeatureFile(path).facts.features.dtype == "float16"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DataError("the source is damaged"), MemoryError])
def test_whatever_stops_the_stream_the_old_file_stays(path, stop):
    def stream():
        yield from make_records()[:3]
        raise stop

    before = path.read_bytes()
    kind = stop if isinstance(stop, type) else type(stop)
    from selfalign_cli.data.features.writer import write_feature_file

    with pytest.raises(kind):
        write_feature_file(path, stream(), total_images=7, total_regions=19, feature_dim=WIDTH, overwrite=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def disk():
    """A function that lets no file grow beyond a size, as a full disk does."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


@pytest.mark.parametrize("written", [0.0, 0.2, 0.5, 0.8, 0.95, 0.999])
def test_a_full_disk_at_any_moment_leaves_the_old_file(path, disk, written):
    before = path.read_bytes()
    disk(int(written * len(before)))
    with pytest.raises(RunError, match=r"could not finish writing .*f\.h5"):
        write_records(path, make_records(), overwrite=True)
    disk(resource.RLIM_INFINITY)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_records(tmp_path / "file" / "f.h5", make_records())


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        write_records(tmp_path, make_records(), overwrite=True)


def test_parent_folders_are_made(tmp_path):
    assert FeatureFile(write_records(tmp_path / "new" / "deep" / "f.h5", make_records()))
