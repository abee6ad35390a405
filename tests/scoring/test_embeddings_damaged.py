"""Embedding files that are damaged where it hurts: each is refused by one message, and soon."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from selfalign_cli.data import sandbox
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.scoring.embeddings import read_embeddings

ARRAYS = {
    "image": np.ones((2, 4), np.float32),
    "caption": np.ones((3, 4), np.float32),
    "image_of_caption": np.array([0, 1, 1]),
}


@pytest.mark.parametrize("size", [0, 2**64 - 8, 2**64 - 1])
def test_a_heap_that_sends_the_library_in_circles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int) -> None:
    """24 bytes behind the mark of a heap lies the size of its first object; texts lie in heaps."""
    monkeypatch.setattr(sandbox, "READING_SECONDS", 0)
    path = tmp_path / "e.h5"
    with h5py.File(path, "w") as file:
        file.update(ARRAYS)
        file["image_id"] = ["a", "b"]
    assert read_embeddings(path).image_ids == ["a", "b"]
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(b"GCOL") + 24, size)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="e.h5 is so damaged that the library which reads it fails"):
        read_embeddings(path)


def archive(path: Path, **members: bytes) -> Path:
    """An archive with right checksums, some members replaced."""
    np.savez(path, **ARRAYS)
    with zipfile.ZipFile(path) as whole:
        kept = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in {**kept, **{f"{name}.npy": content for name, content in members.items()}}.items():
            changed.writestr(name, content)
    return path


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array at all",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}"),
        header("{'descr': 'O', 'fortran_order': False, 'shape': (3, 4)}"),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}") + bytes(48),
        header("[" * 5000),
        header("__import__('os').abort()"),
    ],
)
def test_arrays_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = archive(tmp_path / "e.npz", caption=content)
    with pytest.raises((CheckpointError, DataError)) as caught:
        read_embeddings(path)
    assert str(path) in caught.value.message


def test_an_array_of_python_2_is_read_without_a_warning(tmp_path: Path) -> None:
    """numpy warns of it; warnings are errors here."""
    content = header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L)}") + bytes(48)
    assert read_embeddings(archive(tmp_path / "e.npz", caption=content)).captions.pooled.shape == (3, 4)


@pytest.mark.parametrize("attributes", ["[1]", "{", "[" * 100_000, '{"version": 2}', '{"context_width": 9}'])
def test_attributes_that_are_none(tmp_path: Path, attributes: str) -> None:
    np.savez(tmp_path / "e.npz", attrs=np.array(attributes), **ARRAYS)
    with pytest.raises(CheckpointError, match="e.npz: "):
        read_embeddings(tmp_path / "e.npz")
