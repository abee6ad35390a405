"""Embedding files: written and read back, readable by h5py alone, complete or absent, faults named."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import CheckpointError, DataError, SelfAlignError
from selfalign_cli.scoring.embedding_writer import check_writable_kind, write_embeddings
from selfalign_cli.scoring.embeddings import read_embeddings

TEXTS = ["Ein Müller", "日本語の文", "", "a \t cat"]


def write(path: Path, views: int = 3, context: int = 4, **changes: Any) -> tuple[RetrievalVectors, RetrievalVectors]:
    """Three pictures, four captions, width 5."""
    torch.manual_seed(0)
    images = RetrievalVectors(torch.randn(3, views, 5), torch.randn(3, context))
    captions = RetrievalVectors(torch.randn(4, 5), torch.randn(4, context))
    given: dict[str, Any] = {
        "image_of_caption": torch.tensor([2, 0, 1, 1]),
        "image_ids": ["7", "ä", "x.jpg"],
        "caption_texts": TEXTS,
        "attributes": {"signature": "split:test", "seed": 3},
    }
    write_embeddings(path, images, captions, **{**given, **changes})
    return images, captions


def foreign(path: Path, **changes: Any) -> Path:
    """A file as another program might write it; None leaves an array out."""
    arrays = {
        "image": np.eye(3, 4, dtype=np.float16),
        "caption": np.eye(4, dtype=np.float64),
        "image_of_caption": np.array([0, 1, 2, 2], dtype=np.int32),
    }
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    return path


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize(("views", "context"), [(1, 0), (1, 4), (3, 0), (3, 4)])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, views: int, context: int):
    path = tmp_path / f"e{suffix}"
    images, captions = write(path, views, context)
    found = read_embeddings(path)
    for written, read in ((images, found.images), (captions, found.captions)):
        assert torch.equal(written.pooled, read.pooled)
        assert torch.equal(written.shared, read.shared)
    assert found.image_of_caption.tolist() == [2, 0, 1, 1]
    assert (found.image_ids, found.caption_texts) == (["7", "ä", "x.jpg"], TEXTS)
    assert (found.attributes["signature"], found.attributes["seed"]) == ("split:test", 3)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("views", "context"), [(1, 4), (3, 0), (3, 4)])
def test_h5py_reads_complete_vectors_even_after_the_file_moved(tmp_path: Path, views: int, context: int):
    images, captions = write(tmp_path / "e.h5", views, context)
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "e.h5").rename(tmp_path / "elsewhere" / "f.h5")
    with h5py.File(moved) as file:
        assert file["image"].dtype == file["caption"].dtype == np.float32
        np.testing.assert_array_equal(file["image"][()], images.concatenated().numpy())
        np.testing.assert_array_equal(file["caption"][()], captions.concatenated().numpy())
        assert file["image_of_caption"].dtype == np.int64
        assert file["caption_text"].asstr()[1] == TEXTS[1]


def test_the_context_of_many_views_is_stored_once(tmp_path: Path):
    images = RetrievalVectors(torch.zeros(50, 12, 20), torch.zeros(50, 400))
    captions = RetrievalVectors(torch.zeros(50, 20), torch.zeros(50, 400))
    texts = {"image_ids": ["1"] * 50, "caption_texts": ["a"] * 50, "attributes": {}}
    write_embeddings(tmp_path / "e.h5", images, captions, image_of_caption=torch.arange(50), **texts)
    numbers = 4 * (50 * 12 * 20 + 50 * 400 + 50 * 420)
    assert (tmp_path / "e.h5").stat().st_size < numbers + 40_000 < 4 * 50 * 12 * 420


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_files_of_other_programs_are_read(tmp_path: Path, suffix: str):
    """two-dimensional pictures are one view; any floating-point type; names are not needed"""
    found = read_embeddings(foreign(tmp_path / f"f{suffix}"))
    assert found.images.pooled.shape == (3, 1, 4)
    assert found.images.pooled.dtype == found.captions.pooled.dtype == torch.float32
    assert found.images.shared.shape == (3, 0)
    assert (found.image_ids, found.caption_texts) == (None, None)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_texts_stored_as_bytes_become_text(tmp_path: Path, suffix: str):
    ids = np.array([text.encode() for text in ("ä", "b", "c")], dtype="S4")
    assert read_embeddings(foreign(tmp_path / f"f{suffix}", image_id=ids)).image_ids == ["ä", "b", "c"]


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption": None}, "no dataset 'caption'"),
        ({"image": None}, "no dataset 'image'"),
        ({"image_of_caption": None}, "no image_of_caption"),
        ({"image": np.eye(3, 5)}, r"image has shape \(3, 1, 5\); expected \(N, V, 4\)"),
        ({"image": np.eye(3, 4, dtype=np.int64)}, "image is int64"),
        ({"caption": np.zeros((4, 0))}, r"caption is \(4, 0\); expected at least one number"),
        ({"image": np.zeros((0, 4))}, r"image is \(0, 4\); expected at least one number"),
        ({"caption": np.zeros((0, 4))}, r"image_of_caption is int32 \(4,\); expected int64 \(0,\)"),
        ({"image_of_caption": np.array([0, 1, 2])}, r"image_of_caption is int64 \(3,\); expected int64 \(4,\)"),
        (
            {"image_of_caption": np.array([0, 1, 3, 1])},
            r"image_of_caption\[2\] is 3; expected a picture row from 0 to 2",
        ),
        ({"image_of_caption": np.array([0.0, 1, 2, 2])}, "image_of_caption is float64"),
        ({"caption": np.full((4, 4), np.nan)}, "caption: row 0 holds NaN or infinity"),
        ({"image": np.eye(3, 4) * 1e60}, "image: row 0 holds NaN or infinity"),
        ({"image_id": np.array([1, 2])}, r"image_id has shape \(2,\); expected \(3,\)"),
    ],
)
def test_faults_are_named(tmp_path: Path, suffix: str, changes: dict[str, Any], message: str):
    with pytest.raises(SelfAlignError, match=message) as caught:
        read_embeddings(foreign(tmp_path / f"f{suffix}", **changes))
    assert str(tmp_path / "f") in caught.value.message


@pytest.mark.parametrize("width", [-1, 4, 2.5, "x"])
def test_an_impossible_context_width_is_refused(tmp_path: Path, width: Any):
    with h5py.File(foreign(tmp_path / "f.h5"), "a") as file:
        file.attrs["context_width"] = width
    with pytest.raises(CheckpointError, match="expected a whole number from 0 to 3"):
        read_embeddings(tmp_path / "f.h5")


def test_views_that_do_not_share_their_context_are_refused(tmp_path: Path):
    with h5py.File(foreign(tmp_path / "f.h5", image=np.arange(24.0).reshape(3, 2, 4)), "a") as file:
        file.attrs["context_width"] = 2
    with pytest.raises(CheckpointError, match="differ between its views"):
        read_embeddings(tmp_path / "f.h5")


def test_a_file_of_a_later_version_is_refused(tmp_path: Path):
    with h5py.File(foreign(tmp_path / "f.h5"), "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(CheckpointError, match="version 2; expected selfalign-embeddings version 1"):
        read_embeddings(tmp_path / "f.h5")


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float):
    path = tmp_path / f"e{suffix}"
    write(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="cannot be read as an embedding file"):
        read_embeddings(path)


@pytest.mark.parametrize("name", ["f.h5", "f.npz"])
def test_other_files_are_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read as an embedding file"):
        read_embeddings(tmp_path / name)


def test_missing_files_and_other_kinds_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_embeddings(tmp_path / "e.h5")
    (tmp_path / "e.txt").touch()
    with pytest.raises(CheckpointError, match=r"expected an embedding file \(.h5"):
        read_embeddings(tmp_path / "e.txt")


class Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return (open, (str(self.mark), "w"))


def test_pickled_objects_are_never_loaded(tmp_path: Path):
    bomb = np.array([Bomb(tmp_path / "mark")] * 4, dtype=object)
    foreign(tmp_path / "f.npz", caption=bomb)
    (tmp_path / "g.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    for name, reason in (("f.npz", "Object arrays cannot be loaded"), ("g.npz", "not a whole .npz archive")):
        with pytest.raises(CheckpointError, match=reason):
            read_embeddings(tmp_path / name)
    assert not (tmp_path / "mark").exists()


def test_arrays_kept_in_other_files_are_refused(tmp_path: Path):
    foreign(tmp_path / "other.h5")
    foreign(tmp_path / "f.h5", image=None)
    layout = h5py.VirtualLayout(shape=(3, 4), dtype=np.float16)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "image", shape=(3, 4))
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file.create_virtual_dataset("image", layout)
    with pytest.raises(CheckpointError, match="image is stored in other files"):
        read_embeddings(tmp_path / "f.h5")


def test_unknown_suffixes_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(DataError, match=r"expected one of \.h5, \.hdf5, \.npz, \.parquet"):
        check_writable_kind(tmp_path / "e.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": ["1"]}, "1 picture ids, 4 captions and 4 rows"),
        ({"caption_texts": ["a", "b\0", "c", "d"]}, "text 1 holds a NUL character"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, changes: dict[str, Any], message: str):
    (tmp_path / "e.h5").write_text("old")
    with pytest.raises(DataError, match=message):
        write(tmp_path / "e.h5", **changes)
    assert (tmp_path / "e.h5").read_text() == "old"


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, suffix: str):
    path = tmp_path / f"e{suffix}"
    path.write_text("old")
    program = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from selfalign_cli.encodings import RetrievalVectors\n"
        "from selfalign_cli.scoring.embedding_writer import write_embeddings\n"
        "from selfalign_cli.errors import RunError\n"
        "side = lambda *shape: RetrievalVectors(torch.zeros(*shape), torch.zeros(shape[0], 8))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    names = {'image_ids': ['1'] * 500, 'caption_texts': ['a'] * 500, 'attributes': {}}\n"
        "    sides = (side(500, 2, 64), side(500, 64))\n"
        "    write_embeddings(Path(sys.argv[1]), *sides, image_of_caption=torch.arange(500), **names)\n"
        "except RunError as error:\n"
        "    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "could not finish writing" in done.stdout
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_parquet(tmp_path: Path):
    path = tmp_path / "e.parquet"
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        with pytest.raises(DataError, match="writing Parquet needs pyarrow"):
            write(path)
        return
    images, captions = write(path)
    table = parquet.read_table(path)
    rows = table.to_pylist()
    assert [row["kind"] for row in rows] == ["image"] * 9 + ["caption"] * 4
    assert [row["vector"] for row in rows[:9]] == images.concatenated().flatten(0, 1).tolist()
    assert [row["vector"] for row in rows[9:]] == captions.concatenated().tolist()
    assert [(row["row"], row["image_row"], row["text"]) for row in rows[9:]] == list(
        zip(range(4), [2, 0, 1, 1], TEXTS, strict=True)
    )
    assert b"split:test" in table.schema.metadata[b"selfalign"]
