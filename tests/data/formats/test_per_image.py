"""Faults of folders with a file for each picture."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
from support.dialects import (
    DIALECTS,
    make_pictures,
    write_captions,
    write_milvlg,
    write_mmf,
    write_npy,
    write_self_critical,
)

from selfalign_cli.data.convert import convert_to_feature_file
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.formats.arrays import opened_npz, read_npy, read_npy_header, read_npy_object
from selfalign_cli.errors import DataError

PICTURES = make_pictures([3, 2, 4])


@pytest.fixture
def convert(tmp_path):
    captions = write_captions(tmp_path / "captions.json", PICTURES)

    def run(*sources, **options) -> FeatureFile:
        convert_to_feature_file(sources, tmp_path / "out.h5", captions=captions, overwrite=True, **options)
        return FeatureFile(tmp_path / "out.h5")

    return run


@pytest.fixture
def refused(tmp_path, convert):
    def expect(message, *sources) -> None:
        with pytest.raises(DataError, match=message):
            convert(*sources)
        assert not [path for path in tmp_path.iterdir() if path.name.endswith((".h5", ".tmp"))]

    return expect


def archive(path, **arrays):
    np.savez(path, **arrays)


class Harm:
    """Unpickled, it makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_name_may_end_in_the_suffix_of_a_picture(tmp_path, convert):
    write_milvlg(tmp_path, PICTURES)
    for picture in PICTURES:
        path = tmp_path / "features" / f"{picture.image_id}.npz"
        path.rename(path.with_name(f"{picture.image_id}.jpg.npz"))
    assert convert(tmp_path / "features").image_ids == ["11.jpg", "12.jpg", "13.jpg"]


def test_several_folders(tmp_path, convert):
    folders = []
    for name, pictures in (("one", PICTURES[:1]), ("two", PICTURES[1:])):
        (tmp_path / name).mkdir()
        folders += write_self_critical(tmp_path / name, pictures)
    assert convert(*folders).facts.boxes is not None


def test_boxes_of_one_picture_are_missing(tmp_path, refused):
    (source,) = write_self_critical(tmp_path, PICTURES)
    (tmp_path / "cocobu_box" / "12.npy").unlink()
    refused(r"there is no file .*cocobu_box/12.npy", source)


def test_means_in_place_of_regions(tmp_path, refused):
    write_self_critical(tmp_path, PICTURES)
    refused(r"cocobu_fc/11.npy has features of shape \(4,\); expected \(regions, width\)", tmp_path / "cocobu_fc")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.ones((2, 4))}, r"12.npz holds other; expected features named feat or x or z"),
        ({}, r"12.npz holds nothing; expected features"),
        ({"feat": np.ones((2, 5), "f4")}, r"12.npz: picture 12 has regions of width 5; expected 4, as in .*11.npz"),
        ({"feat": np.ones((0, 4), "f4")}, r"12.npz: picture 12 has no regions"),
        ({"feat": np.ones((2, 2, 4), "f4")}, r"12.npz has features of shape \(2, 2, 4\)"),
        ({"feat": np.ones((2, 4), "i4")}, r"picture 12 of split dev: features are of type int32"),
        ({"feat": np.full((2, 4), np.inf, "f4")}, r"picture 12 of split dev: region 0 holds inf"),
        (
            {"feat": np.ones((2, 4), "f4"), "bbox": [[1, 1, 2, 2]] * 2},
            r"picture 12 of split dev: it has boxes, and the",
        ),
        ({"feat": np.ones((2, 4), "f4"), "num_bbox": 3}, r"12.npz says 3 regions; the features have 2"),
        ({"feat": np.ones((2, 4), "f4"), "image_w": [1, 2]}, r"12.npz has image_w \[1, 2\]; expected one number"),
        ({"feat": np.ones((2, 4), "f4"), "image_w": np.nan}, r"12.npz has image_w nan; expected one number"),
        ({"feat": np.ones((2, 4), "U3")}, r"12.npz, array feat holds <U3; expected numbers"),
    ],
)
def test_a_faulty_archive_is_named(tmp_path, refused, arrays, message):
    (source,) = DIALECTS["X-modaler"].write(tmp_path, PICTURES)
    archive(source / "12.npz", **arrays)
    refused(message, source)


def test_features_that_are_pickled_objects_are_not_loaded(tmp_path, refused):
    (source,) = DIALECTS["X-modaler"].write(tmp_path, PICTURES)
    hidden = np.empty((2, 4), object)
    hidden[:] = Harm(tmp_path / "harm")
    archive(source / "12.npz", feat=hidden)
    refused(r"12.npz, array feat holds object; expected numbers", source)
    assert not (tmp_path / "harm").exists()


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path, refused):
    (source,) = write_mmf(tmp_path, PICTURES)
    np.save(source / "12_info.npy", np.array({"bbox": Harm(tmp_path / "harm")}, dtype=object))
    refused(r"12_info.npy asks for the Python object (posix|nt).mkdir, .*nothing of it was run", source)
    assert not (tmp_path / "harm").exists()
    np.load(source / "12_info.npy", allow_pickle=True)  # the mark does appear when it is run
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ([1], r"12_info.npy holds a list; expected a dict"),
        ({"num_boxes": 9}, r"12_info.npy says 9 regions; the features have 2"),
        ({"num_boxes": "x"}, r"12_info.npy has num_boxes 'x'; expected one number"),
        ({"num_boxes": [[1], [2, 3]]}, r"12_info.npy has num_boxes \[\[1\], \[2, 3\]\]; expected one number"),
        ({"num_boxes": 10**5000}, r"12_info.npy has num_boxes something of type int that is too large to show"),
        ({"image_width": np.array(["x"])}, r"12_info.npy has image_width \['x'\]"),
        ({"bbox": np.full((2, 4), 1e300)}, r"picture 12 of split dev: box 0 is inf inf inf inf"),
        ({"bbox": "x"}, r"12_info.npy has a bbox of type str; expected an array"),
        (
            {"bbox": PICTURES[1].boxes[:1], "image_width": 640, "image_height": 480},
            r"12 of split dev: boxes are \(1, 4\)",
        ),
        ({}, r"picture 12 of split dev: it lacks boxes"),
    ],
)
def test_a_faulty_info_is_named(tmp_path, refused, info, message):
    (source,) = write_mmf(tmp_path, PICTURES)
    holder = np.empty((), dtype=object)
    holder[()] = info
    np.save(source / "12_info.npy", holder)
    refused(message, source)


def test_an_info_is_missing(tmp_path, refused):
    (source,) = write_mmf(tmp_path, PICTURES)
    (source / "12_info.npy").unlink()
    refused(r"there is no file .*12_info.npy", source)


def test_archives_and_arrays_in_one_folder(tmp_path, refused):
    (source,) = write_npy(tmp_path, PICTURES)
    archive(source / "14.npz", feat=np.ones((2, 4)))
    refused(r"holds both .npz and .npy files", source)


@pytest.mark.parametrize("keep", [0, 5, 40, 100, 127, 128, 140, -1])
def test_an_array_cut_short(tmp_path, refused, keep):
    (source,) = write_npy(tmp_path, PICTURES)
    path = source / "12.npy"
    path.write_bytes(path.read_bytes()[:keep])
    refused(
        r"12.npy (is not a numpy array|has a header|has \d+ bytes of numbers; its header says \(2, 4\) float32, 32)",
        source,
    )


def test_an_array_with_more_behind_it(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with open(tmp_path / "a.npy", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="has 25 bytes of numbers"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_an_archive_cut_short(tmp_path, refused, keep):
    (source,) = DIALECTS["self-critical"].write(tmp_path, PICTURES)
    path = source / "12.npz"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    refused(r"12.npz is not a whole .npz archive", source)


def test_a_checksum_that_does_not_fit(tmp_path):
    np.savez(tmp_path / "a.npz", feat=np.ones((2, 4), np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(b"\x00\x00\x80?")] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with (
        pytest.raises(DataError, match="a.npz is not a whole .npz archive: Bad CRC-32"),
        opened_npz(tmp_path / "a.npz") as found,
    ):
        found.array("feat")


def test_a_claim_of_more_numbers_than_the_archive_can_hold(tmp_path):
    """10^15 numbers in 300 bytes: refused from the header, before memory is taken."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("feat.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with (
        opened_npz(tmp_path / "a.npz") as found,
        pytest.raises(DataError, match="array feat says .* more than the file holds"),
    ):
        found.header("feat")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_every_version(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as stream:
        np.lib.format.write_array(stream, np.arange(6.0).reshape(2, 3), version)
    assert read_npy(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_header_written_by_python_2(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    assert read_npy(path).shape == (2, 3)


@pytest.mark.parametrize("dtype", ["f2", ">f4", "<f8", "i1", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, dtype, order, shape):
    expected = np.arange(6)[: int(np.prod(shape))].reshape(shape).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", expected)
    found = read_npy(tmp_path / "a.npy")
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()
    assert read_npy_header(tmp_path / "a.npy").shape == shape


@pytest.mark.parametrize(
    "header",
    [
        b"{'shape': (2,)}",
        b"__import__('os')",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + 5000 * b"1" + b"), }",
        b"{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}",
    ],
)
def test_headers_that_nobody_writes(tmp_path, header):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    with pytest.raises(DataError, match=r"a.npy has (a header that|numbers of the unknown type)"):
        read_npy(path)


def test_objects_of_python_2(tmp_path):
    """Protocol 2 with byte strings as keys."""
    np.save(tmp_path / "a.npy", np.array([{"image_h": 3}], dtype=object))
    content = (tmp_path / "a.npy").read_bytes()
    start = content.index(b"\n") + 1
    old = pickle.dumps(np.array([{"image_h": 3}], dtype=object), protocol=2)
    (tmp_path / "a.npy").write_bytes(content[:start] + old)
    assert read_npy_object(tmp_path / "a.npy").tolist() == [{"image_h": 3}]


def test_objects_where_numbers_belong(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(DataError, match="a.npy holds float64; expected objects"):
        read_npy_object(tmp_path / "a.npy")
