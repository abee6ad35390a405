"""What goes wrong with sources, as a user meets it: one line with file and row or id, exit code 2, nothing left."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import permissions
from support.dialects import DIALECTS, b64, make_pictures, tsv, write_captions
from support.processes import Forks
from support.scan_dialects import SCAN_DIALECTS

from selfalign_cli.data.formats.arrays import NpyRows
from selfalign_cli.errors import RunError

PICTURES = make_pictures([2] * 6)
Fault = tuple[list[object], tuple[str, ...]]
"""Arguments of convert-features, and what its message must contain."""


class Harm:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def bare(folder: Path, name: str, pictures=PICTURES, captioned=PICTURES) -> list[object]:
    """Arguments for pictures in a dialect and a file of captions."""
    captions = write_captions(folder / "captions.json", captioned)
    return [*DIALECTS[name].write(folder, pictures), "--captions", captions]


def scan(folder: Path, name: str = "SCAN") -> list[object]:
    return [*SCAN_DIALECTS[name].write(folder, PICTURES)]


def detected(folder: Path, **second: object) -> list[object]:
    """A TSV of detector output whose second line is changed."""
    captions = write_captions(folder / "captions.json", PICTURES)
    rows = []
    for row, p in enumerate(PICTURES):
        fields = {"id": p.image_id, "w": 640, "h": 480, "n": 2, "boxes": b64(p.boxes), "features": b64(p.features)}
        rows.append(list({**fields, **(second if row == 1 else {})}.values()))
    return [tsv(folder / "d.tsv", rows), "--captions", captions]


def cut(path: Path, left: int) -> None:
    """Take the end of a file away: all but some bytes, or some bytes if the number is negative."""
    path.write_bytes(path.read_bytes()[:left])


def truncated_array_of_scan(folder: Path) -> Fault:
    arguments = scan(folder)
    cut(folder / "f30k_precomp" / "dev_ims.npy", -9)
    return arguments, ("dev_ims.npy has 55 bytes of numbers; its header says (2, 2, 4) float32, 64 bytes",)


def truncated_array_of_a_picture(folder: Path) -> Fault:
    arguments = bare(folder, "npy")
    cut(folder / "features" / "12.npy", -4)
    return arguments, ("features/12.npy has 28 bytes of numbers; its header says (2, 4) float32, 32 bytes",)


def truncated_line(folder: Path) -> Fault:
    arguments = detected(folder)
    cut(folder / "d.tsv", -20)
    return arguments, ("d.tsv, line 6 has",)


def truncated_hdf5(folder: Path) -> Fault:
    arguments = bare(folder, "BUTD")
    cut(folder / "train36.hdf5", -9)
    return [*arguments, "--format", "butd-hdf5"], ("train36.hdf5 is damaged",)


def bad_base64(folder: Path) -> Fault:
    faulty = b64(PICTURES[1].features)[:-8] + b"!!!!!!!="
    return detected(folder, features=faulty), ("d.tsv, line 2 has features that are not base64",)


def wrong_float_count(folder: Path) -> Fault:
    arguments = detected(folder, features=b64(PICTURES[1].features.reshape(-1)[:7]))
    return arguments, ("d.tsv, line 2 has 40 characters of features, which are not 2 rows of numbers",)


def duplicate_ids_in_lines(folder: Path) -> Fault:
    return detected(folder, id="11"), ("d.tsv, line 2 holds the picture 11, as does", "d.tsv, line 1")


def duplicate_ids_of_scan(folder: Path) -> Fault:
    arguments = scan(folder)
    (folder / "f30k_precomp" / "dev_ids.txt").write_text("7\n7\n")
    return arguments, ("picture 7 of split dev: its id occurs twice",)


def duplicate_ids_in_hdf5(folder: Path) -> Fault:
    arguments = bare(folder, "nocaps, flat")
    with h5py.File(folder / "nocaps.h5", "a") as file:
        file["image_id"][1] = "11"
    return arguments, ("nocaps.h5, row 1 holds the picture 11, as does", "nocaps.h5, row 0")


def duplicate_ids_in_captions(folder: Path) -> Fault:
    return bare(folder, "npy", captioned=[*PICTURES, PICTURES[0]]), (
        "captions.json names the picture 11 (image) twice",
    )


def ids_that_the_captions_lack(folder: Path) -> Fault:
    arguments = bare(folder, "BUTD", captioned=PICTURES[:4])
    return arguments, ("captions.json does not know 2 of the 6 pictures of", "train36.hdf5; the first is 15")


def captions_of_unknown_pictures(folder: Path) -> Fault:
    arguments = bare(folder, "VinVL", PICTURES[1:])
    return arguments, ("captions.json has captions for pictures that", "the first is image 11.jpg of split train")


def nan_in_lines(folder: Path) -> Fault:
    arguments = detected(folder, features=b64(np.full((2, 4), np.nan, np.float32)))
    return arguments, ("picture 12 of split dev: region 0 holds nan in column 0; expected finite numbers",)


def infinity_in_scan(folder: Path) -> Fault:
    arguments = scan(folder)
    rows = np.load(folder / "f30k_precomp" / "dev_ims.npy")
    rows[1, 1, 3] = -np.inf
    np.save(folder / "f30k_precomp" / "dev_ims.npy", rows)
    return arguments, ("picture 15 of split dev: region 1 holds -inf in column 3",)


def nan_in_hdf5(folder: Path) -> Fault:
    arguments = bare(folder, "M2")
    with h5py.File(folder / "coco_detections.hdf5", "a") as file:
        file["13_features"][1, 2] = np.nan
    return arguments, ("picture 13 of split test: region 1 holds nan in column 2",)


def mixed_widths(folder: Path) -> Fault:
    arguments = bare(folder, "X-modaler")
    np.savez(folder / "features" / "13.npz", feat=np.ones((2, 5), np.float32))
    return arguments, ("13.npz: picture 13 has regions of width 5; expected 4, as in", "11.npz")


def mixed_widths_of_scan(folder: Path) -> Fault:
    arguments = scan(folder)
    np.save(folder / "f30k_precomp" / "dev_ims.npy", np.ones((2, 2, 5), np.float32))
    return arguments, ("regions of different widths:", "test_ims.npy has 4", "dev_ims.npy has 5")


def no_regions_in_lines(folder: Path) -> Fault:
    return detected(folder, n=0, boxes="", features=""), ("d.tsv, line 2: picture 12 has no regions",)


def no_regions_in_hdf5(folder: Path) -> Fault:
    arguments = bare(folder, "BAN")
    with h5py.File(folder / "val.hdf5", "a") as file:
        file["pos_boxes"][1] = [2, 2]
    return arguments, ("val.hdf5, row 1: picture 12 has no regions",)


def unequal_rows(folder: Path) -> Fault:
    arguments = scan(folder, "SCAN, every row five times")
    rows = np.load(folder / "f30k_precomp" / "dev_ims.npy")
    rows[8, 0, 0] += 1
    np.save(folder / "f30k_precomp" / "dev_ims.npy", rows)
    return arguments, ("dev_ims.npy: row 8 differs from row 5 in its features",)


def code_in_a_map(folder: Path) -> Fault:
    arguments = bare(folder, "BUTD")
    (folder / "train36_imgid2idx.pkl").write_bytes(pickle.dumps({11: Harm(folder / "harm")}))
    return arguments, ("train36_imgid2idx.pkl asks for the Python object posix.mkdir", "nothing of it was run")


def code_in_an_info(folder: Path) -> Fault:
    arguments = bare(folder, "MMF")
    np.save(folder / "features" / "12_info.npy", np.array({"bbox": Harm(folder / "harm")}, dtype=object))
    return arguments, ("12_info.npy asks for the Python object posix.mkdir", "nothing of it was run")


def code_in_sizes(folder: Path) -> Fault:
    arguments = scan(folder, "SCAN, GSMN's boxes")
    np.save(folder / "f30k_precomp" / "dev_ims_size.npy", np.array([Harm(folder / "harm")] * 2, dtype=object))
    return arguments, ("dev_ims_size.npy asks for the Python object posix.mkdir", "nothing of it was run")


FAULTS: list[Callable[[Path], Fault]] = [
    truncated_array_of_scan,
    truncated_array_of_a_picture,
    truncated_line,
    truncated_hdf5,
    bad_base64,
    wrong_float_count,
    duplicate_ids_in_lines,
    duplicate_ids_of_scan,
    duplicate_ids_in_hdf5,
    duplicate_ids_in_captions,
    ids_that_the_captions_lack,
    captions_of_unknown_pictures,
    nan_in_lines,
    infinity_in_scan,
    nan_in_hdf5,
    mixed_widths,
    mixed_widths_of_scan,
    no_regions_in_lines,
    no_regions_in_hdf5,
    unequal_rows,
    code_in_a_map,
    code_in_an_info,
    code_in_sizes,
]


def refuse(forks: Forks, folder: Path, arguments: list[object], *words: str) -> None:
    """The command fails as it should, and the folder is as before."""
    before = sorted(folder.rglob("*"))
    forks.run("convert-features", *arguments, "--out", folder / "out.h5", cwd=folder).must_refuse(*words)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_a_fault(forks, tmp_path, make):
    arguments, words = make(tmp_path)
    refuse(forks, tmp_path, arguments, *words)


FILES = {
    "bottom-up-attention": ["detected.tsv"],
    "VinVL": ["features.tsv", "predictions.tsv", "features.lineidx", "imageid2idx.json"],
    "self-critical": ["cocobu_att/12.npz", "cocobu_box/12.npy"],
    "npy": ["features/12.npy", "captions.json"],
    "MMF": ["features/12_info.npy"],
    "BUTD": ["train36.hdf5", "train36_imgid2idx.pkl"],
    "nocaps": ["nocaps.h5"],
    "own": ["own.h5"],
    "M2": ["coco_detections.hdf5"],
    "VLP": ["dets_feat012.h5", "dets_bbox.h5"],
    "SCAN": ["f30k_precomp/dev_ims.npy", "f30k_precomp/dev_caps.txt", "f30k_precomp/dev_ids.txt"],
    "SCAN, CAMERA's boxes in a second folder": ["boxes/dev_boxes.npy", "boxes/dev_img_sizes.npy"],
    "SCAN, GSMN's boxes": ["f30k_precomp/id_mapping.json", "f30k_precomp/dev_ims_size.npy"],
}
EMPTY = [(dialect, name) for dialect, names in FILES.items() for name in names]


@pytest.mark.parametrize(("dialect", "name"), EMPTY)
def test_a_file_of_no_bytes(forks, tmp_path, dialect, name):
    arguments = scan(tmp_path, dialect) if dialect in SCAN_DIALECTS else bare(tmp_path, dialect)
    format = SCAN_DIALECTS.get(dialect, DIALECTS.get(dialect)).format
    (tmp_path / name).write_bytes(b"")
    refuse(forks, tmp_path, [*arguments, "--format", format], name)


@pytest.mark.parametrize("format", ["auto", "scan"])
def test_a_folder_that_may_not_be_read(forks, tmp_path, format):
    arguments = scan(tmp_path)
    source = tmp_path / "f30k_precomp"
    source.chmod(0)
    command = ["convert-features", *arguments, "--format", format, "--out", tmp_path / "out.h5"]
    done = forks.run(*command, cwd=tmp_path, before=permissions.OBEY)
    source.chmod(0o755)
    done.must_refuse("f30k_precomp' is not readable")
    assert list(tmp_path.iterdir()) == [source]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk can be made by root only, where mounting is allowed")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_too_small(forks, tmp_path, small_disk):
    """Noticed before anything is written."""
    arguments = bare(tmp_path, "bottom-up-attention", make_pictures([50] * 6, width=64))
    done = forks.run("convert-features", *arguments, "--out", small_disk / "out.h5", cwd=tmp_path)
    done.must_refuse("there is no room for", "300 regions of 64 numbers in float32 take 0.1 MB", "0.1 MB left")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_becomes_full(forks, tmp_path, small_disk):
    """There is room for the features, and not for the captions."""
    pictures = make_pictures([40] * 6, width=64)
    arguments = bare(tmp_path, "bottom-up-attention", pictures)
    captions = Path(str(arguments[-1]))
    captions.write_text(captions.read_text().replace("a dog", "a dog " * 600))
    done = forks.run("convert-features", *arguments, "--out", small_disk / "out.h5", cwd=tmp_path)
    assert done.code == 1
    assert done.err.splitlines()[-2].startswith("error: could not finish writing")
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    assert list(small_disk.iterdir()) == []


def test_an_array_in_fortran_order_that_is_cut_short_while_it_is_read(tmp_path):
    """Its rows are scattered over the file, which is mapped; a map of what is gone would end the process."""
    array = np.arange(60000, dtype=np.float32).reshape(300, 50, 4)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    rows = NpyRows(tmp_path / "a.npy", axes=3)
    assert rows.row(7).tobytes() == array[7].tobytes()
    cut(tmp_path / "a.npy", 5000)
    with pytest.raises(RunError, match="a.npy was replaced while in use"):
        rows.row(8)
