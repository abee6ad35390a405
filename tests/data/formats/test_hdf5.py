"""Faults of HDF5 files of others."""

from __future__ import annotations

import dataclasses
import os
import pickle

import h5py
import numpy as np
import pytest
from support.dialects import (
    DIALECTS,
    HEIGHT,
    WIDTH,
    make_pictures,
    write_ban,
    write_butd,
    write_captions,
    write_m2,
    write_nocaps,
    write_padded_nocaps,
    write_vlp,
)

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError

PICTURES = make_pictures([3, 3, 3])


@pytest.fixture
def convert(tmp_path):
    captions = write_captions(tmp_path / "captions.json", PICTURES)

    def run(*sources, **options) -> FeatureFile:
        convert_to_feature_file(sources, tmp_path / "out.h5", captions=captions, overwrite=True, **options)
        return FeatureFile(tmp_path / "out.h5")

    return run


@pytest.fixture
def refused(tmp_path, convert):
    def expect(message, *sources, **options) -> None:
        with pytest.raises(DataError, match=message):
            convert(*sources, **options)
        assert not [path for path in tmp_path.iterdir() if path.name in ("out.h5",) or path.name.endswith(".tmp")]

    return expect


def replace(path, name, value, **options):
    """Replace a data set by other data; None removes it."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if value is not None:
            file.create_dataset(name, data=value, **options)


@pytest.mark.parametrize("kind", [int, str, np.int64])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_map_of_any_age(tmp_path, convert, kind, protocol):
    (source,) = write_butd(tmp_path, PICTURES)
    rows = {kind(picture.image_id): row for row, picture in enumerate(PICTURES)}
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps(rows, protocol))
    assert convert(source).image_ids == ["11", "12", "13"]


def test_the_only_map_beside_it_may_have_another_name(tmp_path, convert):
    (source,) = write_butd(tmp_path, PICTURES)
    (tmp_path / "train36_imgid2idx.pkl").rename(tmp_path / "trainval_imgid2idx.pkl")
    assert len(convert(source)) == 3


def test_rows_without_a_picture_are_left_out(tmp_path):
    (source,) = write_butd(tmp_path, [*PICTURES, make_pictures([3] * 4)[3]])
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps({11: 0, 12: 1, 13: 2}))
    captions = write_captions(tmp_path / "c.json", PICTURES)
    notes = convert_to_feature_file([source], tmp_path / "out.h5", captions=captions).notes
    assert any(note.startswith("1 rows of ") for note in notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1]), "imgid2idx.pkl holds a list; expected a dict"),
        (pickle.dumps({}), "imgid2idx.pkl holds a dict; expected a dict of picture ids"),
        (pickle.dumps({11: 3}), "gives picture 11 the row 3; expected 0 to 2"),
        (pickle.dumps({11: -1}), "gives picture 11 the row -1"),
        (pickle.dumps({11: "0"}), "gives picture 11 the row '0'"),
        (pickle.dumps({(1,): 0}), r"gives picture \(1,\) the row 0"),
        (pickle.dumps({10**5000: 0}), "gives picture something of type int that is too large to show the row 0"),
        (pickle.dumps({11: 10**5000}), "gives picture 11 the row something of type int that is too large"),
        (pickle.dumps({11: 0, 12: 0}), "gives one row to several pictures"),
        (b"", "imgid2idx.pkl is not a whole pickle"),
        (pickle.dumps({11: 0})[:-4], "imgid2idx.pkl is not a whole pickle"),
    ],
)
def test_a_faulty_map(tmp_path, refused, content, message):
    (source,) = write_butd(tmp_path, PICTURES)
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(content)
    refused(message, source)


class Harm:
    """Unpickled, it makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_map_that_runs_code_is_refused_unrun(tmp_path, refused):
    (source,) = write_butd(tmp_path, PICTURES)
    path = tmp_path / "train36_imgid2idx.pkl"
    path.write_bytes(pickle.dumps({11: Harm(tmp_path / "harm")}))
    refused("imgid2idx.pkl asks for the Python object .*mkdir, .*nothing of it was run", source)
    assert not (tmp_path / "harm").exists()
    pickle.loads(path.read_bytes())  # the mark does appear when it is run
    assert (tmp_path / "harm").exists()


def test_no_map(tmp_path, refused):
    (source,) = write_butd(tmp_path, PICTURES)
    (tmp_path / "train36_imgid2idx.pkl").unlink()
    refused("there is no .*train36_imgid2idx.pkl, which says which row", source)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "image_features",
            np.ones((3, 12), "f4"),
            "train36.hdf5 holds float32 .3, 12. in image_features; expected 3 axes",
        ),
        ("image_features", np.ones((3, 3, 4), "i4"), "train36.hdf5 holds int32"),
        ("image_bb", np.ones((3, 3, 5), "f4"), r"train36.hdf5 holds \(3, 3, 5\) in image_bb; expected \(3, 3, 4\)"),
        ("image_bb", np.ones((2, 3, 4), "f4"), r"train36.hdf5 holds \(2, 3, 4\) in image_bb"),
        ("spatial_features", np.ones((3, 3, 6), "f4"), r"train36.hdf5, 0: spatial_features are not the corners"),
        ("image_bb", np.full((3, 3, 4), 0x7FA00000, "u4").view("f4"), r"train36.hdf5, 0: spatial_features are not"),
        ("spatial_features", np.full((3, 3, 6), np.inf, "f4"), r"train36.hdf5, 0: spatial_features are not"),
        ("spatial_features", np.zeros((3, 3, 6), "f4"), r"train36.hdf5, 0: spatial_features are not the corners"),
    ],
)
def test_butd_that_contradicts_itself(tmp_path, refused, name, value, message):
    (source,) = write_butd(tmp_path, PICTURES)
    replace(source, name, value)
    refused(message, source)


@pytest.mark.parametrize("left", [["image_bb"], ["spatial_features"], []])
def test_butd_without_boxes_or_sizes(tmp_path, convert, left):
    (source,) = write_butd(tmp_path, PICTURES)
    for name in {"image_bb", "spatial_features"} - set(left):
        replace(source, name, None)
    file = convert(source)
    assert (file.facts.boxes is not None, file.facts.image_size is not None) == ("image_bb" in left, False)


@pytest.mark.parametrize(
    "bounds",
    [
        [[0, 3], [3, 6], [6, 10]],
        [[0, 3], [2, 6], [6, 9]],
        [[-1, 3], [3, 6], [6, 9]],
        [[0, 3, 1], [3, 6, 1], [6, 9, 1]],
    ],
)
def test_ban_with_faulty_parts(tmp_path, refused, bounds):
    (source,) = write_ban(tmp_path, PICTURES)
    replace(source, "pos_boxes", np.array(bounds, np.int32))
    refused("val.hdf5 has faulty pos_boxes; expected parts of 0 to 9 that do not overlap", source)


def test_ban_with_a_picture_without_regions(tmp_path, refused):
    (source,) = write_ban(tmp_path, PICTURES)
    replace(source, "pos_boxes", np.array([[0, 3], [3, 3], [3, 9]], np.int32))
    refused("val.hdf5, row 1: picture 12 has no regions", source)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_boxes", None, "has no num_boxes, without which its features cannot be cut"),
        ("num_boxes", [3, 3], "holds 3 ids, 3 rows of features and 2 numbers of regions"),
        ("num_boxes", [3, 5, 3], "row 1: features are 12 numbers; expected 5 x 4"),
        ("num_boxes", [5, 3, 3], "row 0: picture 11 has regions of width 0"),
        ("num_boxes", [3, 0, 3], "row 1: picture 12 has no regions"),
        ("num_boxes", [3.0, 3, 3], "holds float64 .3,. in num_boxes"),
        ("image_id", [11, 12], "holds 2 ids, 3 rows"),
        ("image_id", [11, 11, 12], "row 1 holds the picture 11, as does .*row 0"),
        ("image_id", [11.5, 12, 13], "has image_id that are no whole numbers"),
        ("image_id", np.array([b"\xff", b"a", b"b"]), "has image_id that are not UTF-8"),
        ("width", [640, 640], "has 3 rows of features, and another number of boxes or sizes"),
        ("width", [640, 640, 1e300], r"picture 13 of split test: its size is \(1e.300, 480.0\)"),
        ("width", [640, 640, 1e-60], r"picture 13 of split test: its size is \(1e-60, 480.0\)"),
        ("width", [640, 640, -1], r"picture 13 of split test: its size is \(-1.0, 480.0\)"),
    ],
)
def test_nocaps_that_contradicts_itself(tmp_path, refused, name, value, message):
    (source,) = write_nocaps(tmp_path, PICTURES)
    replace(source, name, value)
    refused(message, source)


def test_nocaps_without_numbers_of_regions(tmp_path, convert):
    (source,) = write_padded_nocaps(tmp_path, PICTURES)
    with h5py.File(source, "a") as file:
        for name in ("features", "boxes"):
            value = file[name][:, :3]
            del file[name]
            file[name] = value
        del file["num_boxes"]
    assert convert(source).regions(1).tobytes() == PICTURES[1].features.tobytes()


def test_numbers_where_padding_belongs(tmp_path, refused):
    (source,) = write_padded_nocaps(tmp_path, PICTURES)
    replace(source, "num_boxes", [3, 2, 3])
    refused("nocaps.h5, row 1: features are 16 numbers; expected 2 x 4, and zeros behind them", source)


@pytest.mark.parametrize("options", [{}, {"chunks": (1,)}, {"chunks": (2,), "compression": "gzip"}])
def test_lists_however_they_are_stored(tmp_path, convert, options):
    (source,) = write_nocaps(tmp_path, PICTURES)
    with h5py.File(source, "a") as file:
        del file["features"]
        rows = file.create_dataset("features", (3,), h5py.vlen_dtype(np.float32), **options)
        for row, picture in enumerate(PICTURES):
            rows[row] = picture.features.reshape(-1)
    file = convert(source)
    assert [file.regions(row).tobytes() for row in range(3)] == [p.features.tobytes() for p in PICTURES]


def test_lists_of_lists_are_refused(tmp_path, refused):
    (source,) = write_nocaps(tmp_path, PICTURES)
    with h5py.File(source, "a") as file:
        del file["features"]
        rows = file.create_dataset("features", (3,), h5py.vlen_dtype(h5py.vlen_dtype(np.float32)))
        rows[0] = np.array([np.ones(4, np.float32), np.ones(8, np.float32)], dtype=object)
    refused(r"nocaps.h5 holds object \(3,\) in features; expected 2 axes of numbers", source)


@pytest.mark.parametrize("size", [0, 1, 2**40, 2**63])
def test_a_list_whose_size_was_changed(tmp_path, refused, size):
    """Some releases of the library run in circles for ever."""
    (source,) = write_nocaps(tmp_path, PICTURES)
    content = bytearray(source.read_bytes())
    start = content.index(b"GCOL") + 16 + 8  # size of the first object
    content[start : start + 8] = size.to_bytes(8, "little")
    source.write_bytes(content)
    refused("nocaps.h5 is (so )?damaged", source)


@pytest.mark.parametrize("count", [0, 13, 2**31, 2**32 - 1])
def test_a_list_that_claims_other_numbers_than_it_has(tmp_path, refused, count):
    """The library allocates as much memory as claimed before it checks."""
    (source,) = write_nocaps(tmp_path, PICTURES)
    with h5py.File(source) as file:
        start = file["features"].id.get_offset()
    content = bytearray(source.read_bytes())
    content[start : start + 4] = count.to_bytes(4, "little")
    source.write_bytes(content)
    refused("nocaps.h5 is (so )?damaged", source)


def test_m2_boxes_may_be_missing_for_all_and_not_for_one(tmp_path, convert, refused):
    (source,) = write_m2(tmp_path, PICTURES)
    replace(source, "12_boxes", None)
    refused("picture 12 of split dev: it lacks boxes", source)
    for name in ("11_boxes", "13_boxes"):
        replace(source, name, None)
    assert convert(source).facts.boxes is None


def test_vlp_boxes_of_one_picture_are_missing(tmp_path, refused):
    sources = write_vlp(tmp_path, PICTURES)
    replace(tmp_path / "dets_bbox.h5", "12", None)
    refused("no file with boxes has picture 12: .*dets_bbox.h5", *sources)


def test_vlp_boxes_may_be_one_of_the_sources(tmp_path, convert):
    sources = write_vlp(tmp_path, PICTURES)
    assert convert(*sources, tmp_path / "dets_bbox.h5").boxes(0).tobytes() == PICTURES[0].boxes.tobytes()


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 3, 4)}])
def test_features_that_were_never_written(tmp_path, refused, options):
    """HDF5 would read zeros."""
    (source,) = write_butd(tmp_path, PICTURES)
    with h5py.File(source, "a") as file:
        del file["image_features"]
        rows = file.create_dataset("image_features", (3, 3, 4), "f4", **options)
        if options:
            rows[:2] = 1
    refused("image_features: it was never finished", source)


def test_features_of_another_file(tmp_path, refused):
    """A file may point at any other, which was not named as a source."""
    (source,) = write_butd(tmp_path, PICTURES)
    source.rename(tmp_path / "other.hdf5")
    with h5py.File(source, "w") as file:
        file["image_features"] = h5py.ExternalLink("other.hdf5", "image_features")
    refused("has no data of its own in image_features", source)


def test_a_claim_of_a_picture_that_no_memory_holds(tmp_path, refused):
    (source,) = write_butd(tmp_path, PICTURES)
    with h5py.File(source, "a") as file:
        del file["image_features"]
        file.create_dataset("image_features", (3, 10**5, 10**5), "f4", chunks=(1, 100, 100))
    refused("numbers in image_features, more than a picture can have", source)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("name", ["BUTD", "BAN", "nocaps", "nocaps, flat", "M2", "own"])
def test_a_file_cut_short(tmp_path, refused, name, kept):
    (source,) = DIALECTS[name].write(tmp_path, PICTURES)
    source.write_bytes(source.read_bytes()[: int(kept * source.stat().st_size)])
    refused(f"{source.name} (is damaged|is cut short)", source, format=DIALECTS[name].format)


def test_sizes_are_given_back_to_the_pixel(tmp_path, convert):
    (source,) = write_butd(tmp_path, PICTURES)
    assert convert(source).facts.image_size.tolist() == [[WIDTH, HEIGHT]] * 3


def test_vlp_files_may_be_more_than_a_process_may_open(tmp_path, forks):
    """VLP spreads pictures over a thousand files."""
    pictures = [dataclasses.replace(PICTURES[0], image_id=str(number)) for number in range(90)]
    sources = write_vlp(tmp_path, pictures)
    (tmp_path / "dets_bbox.h5").unlink()
    few = """
import os, resource
most = len(os.listdir('/proc/self/fd')) + 80
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
"""
    done = forks.run("convert-features", *sources, "--out", "f.h5", cwd=tmp_path, before=few)
    assert done.code == 0, done.err


def test_a_vlp_file_of_boxes_that_has_none(tmp_path, refused):
    sources = write_vlp(tmp_path, PICTURES)
    for picture in PICTURES:
        replace(tmp_path / "dets_bbox.h5", picture.image_id, None)
    refused("no file with boxes has picture 1[123]: .*dets_bbox.h5", *sources)
