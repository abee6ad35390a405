"""Write an embedding file as HDF5, `.npz` or Parquet; the layout is that of `scoring.embeddings`."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from torch import Tensor

from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.features.output import GuardedStream, write_text_attribute, write_texts
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embedding_arrays import FORMAT, VERSION, Attributes

LIBVER = ("v108", "v110")
"""HDF5 1.8 (2008) on, as feature files, whose records carry checksums; virtual data sets came with 1.10 (2016)."""
CHUNK_ROWS = 256
"""Pictures or captions put together at once."""


@dataclass(frozen=True)
class _Content:
    images: RetrievalVectors
    captions: RetrievalVectors
    image_of_caption: Tensor
    image_ids: Sequence[str]
    caption_texts: Sequence[str]
    caption_ids: Sequence[str] | None
    file_names: Sequence[str] | None
    attributes: Attributes

    @property
    def texts(self) -> dict[str, Sequence[str]]:
        """The arrays of text, by name."""
        optional = {"file_name": self.file_names, "caption_id": self.caption_ids}
        known = {name: texts for name, texts in optional.items() if texts is not None}
        return {"image_id": self.image_ids, "caption_text": self.caption_texts, **known}


def check_writable_kind(path: Path) -> None:
    """Refuse a kind of file that cannot be written before anything is encoded.

    Raises:
        DataError: unknown suffix, or Parquet without pyarrow.
    """
    if path.suffix.lower() not in _WRITERS:
        raise DataError(f"{path}: cannot write this kind of file; expected one of {', '.join(_WRITERS)}")
    if path.suffix.lower() == ".parquet":
        pyarrow(path)


def write_embeddings(
    path: Path,
    images: RetrievalVectors,
    captions: RetrievalVectors,
    *,
    image_of_caption: Tensor,
    image_ids: Sequence[str],
    caption_texts: Sequence[str],
    attributes: Attributes,
    caption_ids: Sequence[str] | None = None,
    file_names: Sequence[str] | None = None,
) -> None:
    """Write an embedding file; an existing file is replaced only by a complete one.

    Args:
        path: its suffix chooses HDF5 (`.h5`, `.hdf5`), `.npz` or `.parquet`.
        images: pooled (N, V, D), shared (N, C); stored as float32.
        captions: pooled (M, D), shared (M, C).
        image_of_caption: (M,) int64.
        image_ids: N names.
        caption_texts: M captions.
        attributes: facts about the file, e.g. the signature.
        caption_ids: M names, or None.
        file_names: N names of picture files, or None.

    Raises:
        DataError: unknown suffix, Parquet without pyarrow, a path that cannot be written to, counts that differ.
        RunError: the disk is full.
    """
    check_writable_kind(path)
    counts = (len(images.pooled), len(captions.pooled))
    found = (len(image_ids), len(caption_texts))
    per_caption = {len(image_of_caption), len(caption_texts if caption_ids is None else caption_ids)}
    per_image = len(image_ids if file_names is None else file_names)
    if found != counts or per_caption != {counts[1]} or per_image != counts[0]:
        raise DataError(
            f"{path}: {found[0]:,} picture ids, {found[1]:,} captions and {len(image_of_caption):,} rows of "
            f"image_of_caption for {counts[0]:,} picture and {counts[1]:,} caption vectors"
        )
    own: Attributes = {"format": FORMAT, "version": VERSION, "context_width": images.shared.shape[1]}
    described = {**attributes, **own}
    content = _Content(
        images, captions, image_of_caption, image_ids, caption_texts, caption_ids, file_names, described
    )
    for texts in content.texts.values():
        faulty = next((row for row, text in enumerate(texts) if "\0" in text), None)
        if faulty is not None:
            raise DataError(
                f"{path}: text {faulty} holds a NUL character: {texts[faulty]!r}", "remove it from the data"
            )
    with replacing(path) as temporary:
        _WRITERS[path.suffix.lower()](temporary, content)


def _write_hdf5(path: Path, content: _Content) -> None:
    """The context block once: with several views `image` is virtual, which readers take for an ordinary dataset."""
    with open(path, "w+b", buffering=0) as raw:
        stream = GuardedStream(raw)
        with h5py.File(stream, "w", libver=LIBVER) as file:
            for name, value in content.attributes.items():
                if isinstance(value, str):
                    write_text_attribute(file, name, value)
                else:
                    file.attrs[name] = value
            pooled, shared = content.images.pooled, content.images.shared
            if pooled.shape[1] > 1 and shared.shape[1] > 0:
                _fill(file, "image_views", RetrievalVectors(pooled, shared[:, :0]))
                _fill(file, "image_context", RetrievalVectors(shared, shared[:, :0]))
                file.create_virtual_dataset("image", _views_with_context(file["image_views"], file["image_context"]))
            else:
                _fill(file, "image", content.images)
            stream.raise_fault()
            _fill(file, "caption", content.captions)
            file["image_of_caption"] = content.image_of_caption.cpu().numpy().astype(np.int64)
            for name, texts in content.texts.items():
                write_texts(file, name, texts)
        stream.raise_fault()


def _fill(file: h5py.File, name: str, vectors: RetrievalVectors) -> None:
    """Write vectors with their context block, some rows at a time."""
    dataset = file.create_dataset(name, shape=_shape(vectors), dtype=np.float32)
    start = 0
    for rows in _chunks(vectors):
        dataset[start : start + len(rows)] = rows
        start += len(rows)


def _views_with_context(views: h5py.Dataset, context: h5py.Dataset) -> h5py.VirtualLayout:
    """(N, V, D + C) over both; "." is the file itself, under whatever name it is found later."""
    images, count, width = views.shape
    layout = h5py.VirtualLayout(shape=(images, count, width + context.shape[1]), dtype=np.float32)
    layout[:, :, :width] = h5py.VirtualSource(".", views.name, shape=views.shape)
    for view in range(count):
        layout[:, view, width:] = h5py.VirtualSource(".", context.name, shape=context.shape)
    return layout


def _write_npz(path: Path, content: _Content) -> None:
    """An ordinary `.npz`, its large arrays written some rows at a time."""
    small: dict[str, npt.NDArray[Any]] = {
        "image_of_caption": content.image_of_caption.cpu().numpy().astype(np.int64),
        **{name: np.array(list(texts), dtype=np.str_) for name, texts in content.texts.items()},
        "attrs": np.array(json.dumps(dict(content.attributes))),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, vectors in (("image", content.images), ("caption", content.captions)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                header = {"descr": "<f4", "fortran_order": False, "shape": _shape(vectors)}
                np.lib.format.write_array_header_1_0(entry, header)
                for rows in _chunks(vectors):
                    entry.write(rows.astype("<f4").tobytes())
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)


def _write_parquet(path: Path, content: _Content) -> None:
    """One row per vector: kind (image or caption), row, view, image_row, text (id or caption), two names, vector."""
    arrow, parquet = pyarrow(path)
    width = _shape(content.captions)[1]
    names = {"kind": arrow.string(), "row": arrow.int64(), "view": arrow.int32(), "image_row": arrow.int64()}
    texts = {"text": arrow.string(), "caption_id": arrow.string(), "file_name": arrow.string()}
    fields = {**names, **texts, "vector": arrow.list_(arrow.float32(), width)}
    schema = arrow.schema(list(fields.items()), metadata={"selfalign": json.dumps(dict(content.attributes))})
    sides = (
        ("image", content.images, list(range(len(content.image_ids))), content.image_ids),
        ("caption", content.captions, content.image_of_caption.tolist(), content.caption_texts),
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for kind, vectors, image_rows, texts_of in sides:
            start = 0
            ids = content.caption_ids if kind == "caption" else None
            files = content.file_names if kind == "image" else None
            for chunk in _chunks(vectors):
                views = chunk.shape[1] if chunk.ndim == 3 else 1
                rows = np.repeat(np.arange(start, start + len(chunk)), views).tolist()
                columns = {
                    "kind": [kind] * len(rows),
                    "row": rows,
                    "view": np.tile(np.arange(views, dtype=np.int32), len(chunk)),
                    "image_row": [image_rows[row] for row in rows],
                    "text": [texts_of[row] for row in rows],
                    "caption_id": [None if ids is None else ids[row] for row in rows],
                    "file_name": [None if files is None else files[row] for row in rows],
                    "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(chunk.reshape(-1)), width),
                }
                writer.write_table(arrow.table(columns, schema=schema))
                start += len(chunk)


def pyarrow(path: Path) -> tuple[Any, Any]:
    """pyarrow and its Parquet module, which nothing else needs."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as fault:
        message = f"{path}: writing Parquet needs pyarrow, which is not installed"
        raise DataError(message, "pip install 'selfalign[parquet]', or write .h5 or .npz") from fault


def _shape(vectors: RetrievalVectors) -> tuple[int, ...]:
    """Shape of the vectors with their context block."""
    return (*vectors.pooled.shape[:-1], vectors.pooled.shape[-1] + vectors.shared.shape[1])


def _chunks(vectors: RetrievalVectors) -> Iterator[npt.NDArray[np.float32]]:
    """The vectors with their context block, some rows at a time, on the CPU."""
    for start in range(0, len(vectors.pooled), CHUNK_ROWS):
        stop = start + CHUNK_ROWS
        part = RetrievalVectors(vectors.pooled[start:stop], vectors.shared[start:stop])
        whole = part.concatenated() if part.pooled.dim() == 3 or part.shared.shape[1] else part.pooled
        yield np.ascontiguousarray(whole.detach().float().cpu().numpy())


_WRITERS = {".h5": _write_hdf5, ".hdf5": _write_hdf5, ".npz": _write_npz, ".parquet": _write_parquet}
