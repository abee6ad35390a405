"""The arrays and attributes of an embedding file as they are stored, HDF5 or `.npz`, from any source, perhaps damaged.

The HDF5 library trusts two things that no checksum protects: the records of files in its oldest form, and its heaps,
where texts of variable length lie. Our own files have neither, so they are read at once; every other HDF5 file is
first read by an isolated process, which may crash or run in circles.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.stored import HDF5_SIGNATURE
from selfalign_cli.data.sandbox import completes_in_child
from selfalign_cli.errors import CheckpointError

FORMAT = "selfalign-embeddings"
VERSION = 1
EXTRACTOR = "extractor"
"""Attribute with the identity of what made the regions that were encoded, as JSON."""
TEXTS = ("image_id", "file_name", "caption_text", "caption_id")
ARRAYS = ("image", "image_views", "image_context", "caption", "image_of_caption", *TEXTS)
CHECKSUMMED = 2
"""Version of HDF5's superblock (byte 8 of the file) that our files have; from here on its records carry checksums."""

Attributes = Mapping[str, str | int | float]
Arrays = Mapping[str, "npt.NDArray[Any]"]


def read_arrays(path: Path) -> tuple[Arrays, Attributes]:
    """Read those of `ARRAYS` that a file has, and its attributes; `image` only where there is no `image_views`.

    Args:
        path: HDF5, or `.npz` by its suffix.

    Raises:
        CheckpointError: the file would make the library that reads it fail, or keeps arrays in other files.
        Exception: whatever h5py, numpy and zipfile raise for damaged files.
    """
    return _read_npz(path) if path.suffix.lower() == ".npz" else _read_hdf5(path)


def _read_hdf5(path: Path) -> tuple[Arrays, Attributes]:
    if not has_own_form(path) and not completes_in_child(partial(_read_through, path), size=path.stat().st_size):
        raise CheckpointError(
            f"{path} is so damaged that the library which reads it fails", "copy it again, or export it again"
        )
    with h5py.File(path, "r", locking=False) as file:
        arrays = {name: _array(file, name, path) for name in _names_in(file)}
        return (
            {name: array for name, array in arrays.items() if array is not None},
            {name: _plain(value) for name, value in file.attrs.items()},
        )


def has_own_form(path: Path) -> bool:
    """Whether an HDF5 file is laid out like those of `write_embeddings`, so that the library can be trusted with it.

    Arrays lie in one piece that ends within the file, texts and attributes have a fixed length, and nothing refers to
    other files. `image` beside `image_views` is not opened, nor is it ever read: virtual data sets have a heap.
    """
    with open(path, "rb") as raw:
        start = raw.read(len(HDF5_SIGNATURE) + 1)
    if start != HDF5_SIGNATURE + bytes([CHECKSUMMED]):
        return False
    with h5py.File(path, "r", locking=False) as file:
        if any(file.attrs.get_id(name).dtype.kind not in "iufS" for name in file.attrs):
            return False
        if file.attrs.get("format") != FORMAT.encode():
            return False
        return all(_lies_in_one_piece(file, name, path) for name in _names_in(file))


def _names_in(file: h5py.File) -> list[str]:
    """Those of `ARRAYS` that a file has."""
    return [name for name in ARRAYS if name in file and (name != "image" or "image_views" not in file)]


def _lies_in_one_piece(file: h5py.File, name: str, path: Path) -> bool:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    dataset = file[name]
    return (
        isinstance(dataset, h5py.Dataset)
        and dataset.shape is not None
        and dataset.dtype.kind in "iufS"
        and dataset.chunks is None
        and not dataset.is_virtual
        and not dataset.external
        and dataset.size * dataset.dtype.itemsize <= path.stat().st_size
    )


def _read_through(path: Path) -> None:
    """Read what the library has to search for: all but numbers that lie in one piece."""
    with h5py.File(path, "r", locking=False) as file:
        dict(file.attrs)
        for name in ARRAYS:
            dataset = file.get(name)
            if isinstance(dataset, h5py.Dataset):
                in_one_piece = dataset.id.get_offset() is not None and dataset.dtype.kind in "fiu"
                dataset[slice(1) if dataset.ndim and in_one_piece else ()]


def _array(file: h5py.File, name: str, path: Path) -> npt.NDArray[Any] | None:
    """A data set as an array, texts as objects; None for a group."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        return None
    elsewhere = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    if dataset.external or any(source != "." for source in elsewhere):
        raise CheckpointError(f"{path}: {name} is stored in other files; expected everything in one file")
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr("utf-8")[()], dtype=object)
    return np.asarray(dataset[()])


def _plain(value: Any) -> str | int | float:
    """An HDF5 attribute as a Python value."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bytes):
        plain = plain.decode("utf-8", "backslashreplace")
    return plain if isinstance(plain, (str, int, float)) else str(plain)


def _read_npz(path: Path) -> tuple[Arrays, Attributes]:
    with path.open("rb") as stream, warnings.catch_warnings():  # opened here: numpy leaves a damaged archive open
        warnings.simplefilter("ignore")  # numpy's, about headers that only damage can bring about
        if not zipfile.is_zipfile(stream):
            raise zipfile.BadZipFile("not a whole .npz archive, as numpy.savez writes it")
        stream.seek(0)
        loaded = np.load(stream, allow_pickle=False)
        arrays = {name: loaded[name] for name in (*ARRAYS, "attrs") if name in loaded}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is no array")
    text = arrays.pop("attrs", None)
    attributes = {} if text is None else json.loads(str(text))
    if not isinstance(attributes, dict):
        raise ValueError("attrs are no JSON object")
    return arrays, attributes
