"""Converting SCAN folders."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats import plan_conversion
from selfalign_cli.errors import DataError, RunError

R, F = 3, 4


class Folder:
    """A SCAN folder to be filled, and converted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def split(self, name="train", images=4, per_image=5, repeated=False, features=None, captions=None):
        """Write features and captions of a split; caption k of picture i reads `name i k`."""
        if features is None:
            features = np.random.default_rng(len(name)).random((images, R, F), dtype=np.float32)
        if repeated:
            features = np.repeat(features, 5, axis=0)
        if captions is None:
            captions = [f"{name} {i} {k}" for i in range(images) for k in range(per_image)]
        np.save(self.path / f"{name}_ims.npy", features)
        (self.path / f"{name}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
        return features

    def array(self, name, value):
        np.save(self.path / name, value)

    def text(self, name, lines):
        (self.path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def convert(self, **options) -> FeatureFile:
        out = self.path.parent / "f.h5"
        convert_to_feature_file([self.path], out, **options)
        return FeatureFile(out)

    def refused(self, message: str) -> None:
        """The conversion fails with a message that names this folder, and leaves nothing."""
        with pytest.raises(DataError, match=message) as caught:
            self.convert()
        assert str(self.path) in caught.value.message
        assert not list(self.path.parent.glob("*.h5")) + list(self.path.parent.glob(".*"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "scan")


@pytest.mark.parametrize("per_image", [1, 2, 5, 7])
def test_rows_are_pictures_with_several_captions_each(folder, per_image):
    features = folder.split(images=6, per_image=per_image)
    file = folder.convert()
    assert len(file) == 6
    assert file.facts.caption_image.tolist() == np.repeat(np.arange(6), per_image).tolist()
    assert file.captions[per_image] == "train 1 0"
    assert all((file.regions(row) == features[row]).all() for row in range(6))


def test_pictures_stored_five_times_are_kept_once(folder):
    features = folder.split(images=3, repeated=True)
    file = folder.convert()
    assert len(file) == 3
    assert file.facts.caption_image.tolist() == np.repeat(np.arange(3), 5).tolist()
    assert all((file.regions(row) == features[5 * row]).all() for row in range(3))


def test_the_two_layouts_of_the_same_data_give_the_same_content(tmp_path):
    hashes = set()
    for number, repeated in enumerate([False, True]):
        folder = Folder(tmp_path / str(number))
        folder.split(repeated=repeated)
        folder.text("train_ids.txt", [7, 8, 9, 10])
        hashes.add(convert_to_feature_file([folder.path], tmp_path / f"{number}.h5").content_hash)
    assert len(hashes) == 1


def test_each_split_has_its_own_layout(folder):
    folder.split("train", images=4)
    folder.split("dev", images=2, repeated=True)
    folder.split("test", images=10, per_image=1)
    file = folder.convert()
    assert {name: len(rows) for name, rows in file.facts.splits.items()} == {"train": 4, "dev": 2, "test": 10}
    assert [len(file.split_captions(name)) for name in file.facts.splits] == [20, 10, 10]


def test_splits_come_in_the_usual_order_and_others_by_name(folder):
    for name in ("zoo", "testall", "test", "apes", "dev", "train"):
        folder.split(name, images=1)
    assert list(folder.convert().facts.splits) == ["train", "dev", "test", "testall", "apes", "zoo"]


def test_five_pictures_of_one_caption_are_not_taken_for_one(folder):
    folder.split(images=5, per_image=1)
    assert len(folder.convert()) == 5


def test_a_block_that_differs_in_one_bit_is_named(folder):
    features = np.repeat(np.ones((4, R, F), np.float32), 5, axis=0)
    features[13, 2, 1] = np.nextafter(np.float32(1), np.float32(2))
    folder.split(features=features, images=4)
    folder.refused(r"train_ims.npy: row 13 differs from row 10 in its features")


def test_zero_and_minus_zero_are_different_bits(folder):
    features = np.zeros((10, R, F), np.float32)
    features[7, 0, 0] = -0.0
    folder.split(features=features, images=2)
    folder.refused("row 7 differs from row 5")


def test_equal_blocks_behind_an_unequal_first_one(folder):
    features = np.repeat(np.arange(1, 4, dtype=np.float32), 5)[:, None, None] * np.ones((R, F), np.float32)
    features[3] += 1
    folder.split(features=features, images=3)
    folder.refused("rows 5 to 9 are equal, as if every picture were stored 5 times, but row 3 differs from row 0")


def test_repeated_rows_that_are_no_multiple_of_five(folder):
    features = np.repeat(np.arange(3, dtype=np.float32), 5)[:13, None, None] * np.ones((R, F), np.float32)
    folder.split(features=features, captions=[f"c {i}" for i in range(13)])
    folder.refused("stores its first picture 5 times but has 13 rows")


@pytest.mark.parametrize("count", [19, 21, 3])
def test_captions_that_do_not_fit_the_rows(folder, count):
    folder.split(captions=[f"c {i}" for i in range(count)])
    folder.refused(rf"train_caps.txt has {count} captions for the 4 rows of train_ims.npy; expected a multiple")


def test_ids_name_the_pictures(folder):
    folder.split()
    folder.text("train_ids.txt", [30, 10, 40, 20])
    assert folder.convert().image_ids == ["30", "10", "40", "20"]


def test_ids_may_be_repeated_for_each_caption(folder):
    folder.split(repeated=True)
    folder.text("train_ids.txt", np.repeat([30, 10, 40, 20], 5))
    assert folder.convert().image_ids == ["30", "10", "40", "20"]


def test_without_ids_pictures_are_numbered(folder):
    folder.split(repeated=True)
    assert folder.convert().image_ids == ["train_0", "train_1", "train_2", "train_3"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (range(5), "train_ids.txt has 5 ids; expected 4, or 20 with repeats"),
        ([1] * 5 + [2] * 4 + [3] * 6 + [4] * 5, "train_ids.txt, line 10 is '3'; expected 5 equal ids"),
        (["1", "", "3", "4"], "train_ids.txt, line 2 is empty; expected an id"),
    ],
)
def test_ids_that_do_not_fit(folder, ids, message):
    folder.split()
    folder.text("train_ids.txt", ids)
    folder.refused(message)


def test_an_id_that_occurs_twice(folder):
    folder.split()
    folder.text("train_ids.txt", [1, 2, 1, 4])
    with pytest.raises(DataError, match="picture 1 of split train: its id occurs twice"):
        folder.convert()


@pytest.mark.parametrize("repeated", [False, True])
def test_boxes_and_sizes_follow_the_features(folder, repeated):
    folder.split(images=3, repeated=repeated)
    boxes = np.tile([1.0, 2.0, 3.0, 4.0], (3, R, 1)) + np.arange(3)[:, None, None]
    sizes = np.array([[20, 30], [21, 31], [22, 32]])
    times = 5 if repeated else 1
    folder.array("train_boxes.npy", np.repeat(boxes, times, axis=0))
    folder.array("train_img_sizes.npy", np.repeat(sizes, times, axis=0))
    file = folder.convert()
    assert file.boxes(2).tolist() == [[3, 4, 5, 6]] * R
    assert file.facts.image_size.tolist() == sizes.tolist()


def test_boxes_that_differ_within_a_repeated_picture(folder):
    folder.split(images=2, repeated=True)
    boxes = np.tile(np.array([1, 2, 3, 4], np.float32), (10, R, 1))
    boxes[6, 0, 3] = 5
    folder.array("train_boxes.npy", boxes)
    folder.refused("row 6 differs from row 5 in its boxes")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_boxes.npy", np.ones((4, R + 1, 4)), r"holds \(4, 4, 4\); expected \(4, 3, 4\)"),
        ("train_boxes.npy", np.ones((5, R, 4)), r"holds \(5, 3, 4\); expected \(4, 3, 4\)"),
        ("train_img_sizes.npy", np.ones((4, 3)), r"holds \(4, 3\); expected \(4, 2\)"),
        ("train_img_sizes.npy", np.array([{"image_w": 3}] * 4), r"holds object \(4,\); expected 2 axes of numbers"),
        ("train_ims.npy", np.ones((4, F)), r"holds float64 \(4, 4\); expected 3 axes of floating-point numbers"),
        ("train_ims.npy", np.ones((4, R, F), int), "holds int64"),
        ("train_ims.npy", np.ones((0, R, F)), r"holds float64 \(0, 3, 4\)"),
        ("train_ims.npy", np.array(["a"]), "holds <U1"),
    ],
)
def test_arrays_of_another_shape_or_type(folder, name, value, message):
    folder.split()
    folder.array(name, value)
    folder.refused(message)


def test_boxes_of_one_split_only_are_left_out_and_said(folder):
    folder.split("train")
    folder.split("dev")
    folder.array("dev_boxes.npy", np.tile([1.0, 2.0, 3.0, 4.0], (4, R, 1)))
    plan = plan_conversion([folder.path])
    assert "boxes are left out of the whole file, since these splits have none: train" in plan.notes
    assert folder.convert().facts.boxes is None


def test_captions_without_features_are_said(folder):
    folder.split()
    folder.text("testall_caps.txt", ["a dog"])
    assert any("split testall is left out" in note for note in plan_conversion([folder.path]).notes)


def test_features_without_captions(folder):
    folder.split()
    (folder.path / "train_caps.txt").unlink()
    folder.refused("there is no .*train_caps.txt; train_ims.npy needs its captions")


def test_splits_of_different_widths(folder):
    folder.split("train")
    folder.split("dev", features=np.ones((4, R, F + 1), np.float32))
    folder.refused("regions of different widths: .*train_ims.npy has 4, .*dev_ims.npy has 5")


def test_splits_may_have_different_numbers_of_regions(folder):
    folder.split("train")
    folder.split("dev", features=np.random.default_rng(0).random((4, R + 2, F)))
    assert np.diff(folder.convert().facts.offsets).tolist() == [3] * 4 + [5] * 4


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_features_cut_short(folder, kept):
    folder.split()
    path = folder.path / "train_ims.npy"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    folder.refused("train_ims.npy (is not a numpy array|has a header|has [\\d,]+ bytes of numbers; its header says)")


def test_features_that_are_cut_short_during_the_conversion(folder):
    folder.split(images=9)
    plan = plan_conversion([folder.path])
    records = plan.records()
    next(records)
    os.truncate(folder.path / "train_ims.npy", 400)
    with pytest.raises(RunError, match="was cut short while in use"):
        list(records)


def test_features_that_are_no_array(folder):
    folder.split()
    (folder.path / "train_ims.npy").write_bytes(b"PK\x03\x04 this is an archive")
    folder.refused("train_ims.npy is not a numpy array")


def test_nan_is_refused_with_the_picture(folder):
    features = np.ones((4, R, F), np.float32) * np.arange(4)[:, None, None].astype(np.float32)
    features[2, 1, 3] = np.nan
    folder.split(features=features)
    with pytest.raises(DataError, match="picture train_2 of split train: region 1 holds nan in column 3"):
        folder.convert()
    assert not (folder.path.parent / "f.h5").exists()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_floating_type_and_memory_order(folder, dtype, order):
    features = np.arange(4 * R * F).reshape(4, R, F).astype(dtype)
    folder.split(features=np.asarray(features, order=order))
    assert (folder.convert().regions(3) == features[3]).all()


def test_several_folders_with_different_splits(tmp_path):
    folders = [Folder(tmp_path / "a"), Folder(tmp_path / "b")]
    folders[0].split("train")
    folders[1].split("dev")
    convert_to_feature_file([folder.path for folder in folders], tmp_path / "f.h5")
    assert list(FeatureFile(tmp_path / "f.h5").facts.splits) == ["train", "dev"]


def test_several_folders_with_the_same_split(tmp_path):
    folders = [Folder(tmp_path / "a"), Folder(tmp_path / "b")]
    for folder in folders:
        folder.split("train")
    with pytest.raises(DataError, match="both hold the split train"):
        convert_to_feature_file([folder.path for folder in folders], tmp_path / "f.h5")


def test_a_captions_file_does_not_go_with_a_scan_folder(folder, tmp_path):
    folder.split()
    with pytest.raises(DataError, match="holds its own captions"):
        folder.convert(captions=tmp_path / "c.json")


def test_an_unknown_source_is_answered_with_the_known_formats(tmp_path):
    with pytest.raises(
        DataError, match="of no known feature format; expected one of\n  scan: a folder with SPLIT_ims"
    ):
        plan_conversion([tmp_path])
    with pytest.raises(DataError, match="there is no file or folder"):
        plan_conversion([tmp_path / "none"])
    with pytest.raises(DataError, match="no feature format 'tvs'; expected auto, "):
        plan_conversion([tmp_path], format="tvs")
    with pytest.raises(DataError, match="holds no file named SPLIT_ims.npy"):
        plan_conversion([tmp_path], format="scan")


def test_an_existing_file_is_noticed_before_any_work(folder):
    folder.split()
    folder.convert()
    (folder.path / "train_ims.npy").unlink()
    with pytest.raises(DataError, match="exists already"):
        folder.convert()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_give_our_error_or_none(folder, data):
    if not (folder.path / "train_ims.npy").exists():
        folder.split()
        folder.text("train_ids.txt", range(4))
    path = folder.path / data.draw(st.sampled_from(["train_ims.npy", "train_caps.txt", "train_ids.txt"]))
    good = path.read_bytes()
    content = bytearray(good)
    content[data.draw(st.integers(0, min(len(good), 140) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(DataError):
        folder.convert(overwrite=True)
    path.write_bytes(good)
