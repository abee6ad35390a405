"""The embedding file: vectors of a split, with everything that is needed to score and to search them.

Layout (HDF5; `.npz` holds the same arrays, the attributes as JSON in `attrs`):

    image             (N, V, D) float32, V views per picture
    caption           (M, D) float32; M is 0 where pictures have no captions
    image_of_caption  (M,) int64, row of the caption's picture
    image_id          (N,) UTF-8                caption_text      (M,) UTF-8
    file_name         (N,) UTF-8, and caption_id (M,) UTF-8, when the feature file has them
    attributes        `format`, `version`, `context_width` C, and what the writer adds (`signature`,
                      `extractor`, …)

Score of a pair: the largest inner product over the views. The last C numbers of a vector are the context block, the
same for all views; HDF5 files with several views store it once (`image_views` (N, V, D - C), `image_context` (N, C)),
and `image` is a virtual dataset over both, in the same file. In HDF5 texts, attributes too, have a fixed length: see
`embedding_arrays`. Files of other programs need only the first three arrays, may leave out V, and may hold any
floating-point type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import CheckpointError, DataError, blaming
from selfalign_cli.metrics.score_blocks import Model, require_finite
from selfalign_cli.scoring.embedding_arrays import FORMAT, VERSION, Arrays, Attributes, read_arrays

READABLE = (".h5", ".hdf5", ".npz")


@dataclass(frozen=True)
class EmbeddingFile:
    """A split, encoded.

    Attributes:
        images: pooled (N, V, D - C), shared (N, C); float32.
        captions: pooled (M, D - C), shared (M, C); float32.
        image_of_caption: (M,) int64.
        image_ids: N names, or None when the file has none.
        caption_texts: M captions, or None.
        attributes: what the file says about itself.
        caption_ids: M names, or None.
        file_names: N names of picture files, or None.
    """

    images: RetrievalVectors
    captions: RetrievalVectors
    image_of_caption: Tensor
    image_ids: list[str] | None
    caption_texts: list[str] | None
    attributes: Attributes
    caption_ids: list[str] | None = None
    file_names: list[str] | None = None

    @property
    def vectors(self) -> Model:
        """The pair that `rank_vectors` takes."""
        return self.images, self.captions


def is_embedding_file(path: Path) -> bool:
    """Whether the suffix is that of an embedding file."""
    return path.suffix.lower() in READABLE


def expect_captions(path: Path, file: EmbeddingFile) -> None:
    """Make sure that there is something to score.

    Raises:
        DataError: the file holds pictures only.
    """
    if len(file.captions.pooled) == 0:
        raise DataError(
            f"{path} holds pictures without captions",
            "export features with captions: selfalign convert-features FILE.h5 --captions FILE --out OTHER.h5",
        )


def read_embeddings(path: Path, *, finite: bool = True) -> EmbeddingFile:
    """Read an embedding file and check it.

    Args:
        path: `.h5`, `.hdf5` or `.npz`.
        finite: refuse NaN and infinity.

    Raises:
        CheckpointError: missing, damaged or of another kind; an array missing or misshapen; rows out of range.
        DataError: values that are not finite.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if not is_embedding_file(path):
        raise CheckpointError(f"{path}: expected an embedding file ({', '.join(READABLE)})")
    hint = "copy it again if it looks cut short; arrays of Python objects are never loaded"
    with blaming(f"{path}: cannot be read as an embedding file", hint, error=CheckpointError):
        file = _checked(path, *read_arrays(path))
    if finite:
        require_finite(file.images, f"{path}: image")
        require_finite(file.captions, f"{path}: caption")
    return file


def _checked(path: Path, arrays: Arrays, attributes: Attributes) -> EmbeddingFile:
    """Put the arrays together; see `read_embeddings`."""
    version = attributes.get("version", VERSION)
    if attributes.get("format", FORMAT) != FORMAT or version != VERSION:
        raise CheckpointError(
            f"{path}: holds {attributes.get('format')} version {version}; expected {FORMAT} version {VERSION}"
        )
    captions = _floats(path, "caption", arrays.get("caption"), (2,), rows_required=False)
    width = captions.shape[1]
    context = attributes.get("context_width", 0)
    if not isinstance(context, int) or not 0 <= context < width:
        raise CheckpointError(f"{path}: context_width is {context!r}; expected a whole number from 0 to {width - 1}")
    images = _image_vectors(path, arrays, width, context)
    truth = arrays.get("image_of_caption")
    if truth is None:
        raise CheckpointError(f"{path}: no image_of_caption; expected the row of each caption's picture, int64 (M,)")
    count = len(images.pooled)
    if truth.shape != (len(captions),) or truth.dtype.kind not in "iu":
        raise CheckpointError(
            f"{path}: image_of_caption is {truth.dtype} {truth.shape}; expected int64 ({len(captions)},)"
        )
    wrong = np.flatnonzero((truth < 0) | (truth >= count))
    if len(wrong):
        raise CheckpointError(
            f"{path}: image_of_caption[{wrong[0]}] is {truth[wrong[0]]}; expected a picture row from 0 to {count - 1}"
        )
    texts = RetrievalVectors(captions[:, : width - context], captions[:, width - context :])
    return EmbeddingFile(
        images,
        texts,
        torch.from_numpy(truth.astype(np.int64)),
        _strings(path, arrays, "image_id", count),
        _strings(path, arrays, "caption_text", len(captions)),
        attributes,
        _strings(path, arrays, "caption_id", len(captions)),
        _strings(path, arrays, "file_name", count),
    )


def _image_vectors(path: Path, arrays: Arrays, width: int, context: int) -> RetrievalVectors:
    """Pooled and shared part of the pictures, from one array or from the two it is stored in."""
    stored = arrays.get("image_views")
    if stored is not None:
        views = _floats(path, "image_views", stored, (3,))
        shared = _floats(path, "image_context", arrays.get("image_context"), (2,))
        if views.shape[2] + shared.shape[1] != width or shared.shape[1] != context or len(views) != len(shared):
            raise CheckpointError(
                f"{path}: image_views {tuple(views.shape)} and image_context {tuple(shared.shape)} "
                f"do not make pictures of width {width} with {context} of context"
            )
        return RetrievalVectors(views, shared)
    images = _floats(path, "image", arrays.get("image"), (2, 3))
    images = images.unsqueeze(1) if images.dim() == 2 else images
    if images.shape[2] != width or images.shape[1] == 0:
        raise CheckpointError(
            f"{path}: image has shape {tuple(images.shape)}; expected (N, V, {width}), caption being {width} wide"
        )
    pooled, shared = images[..., : width - context], images[..., width - context :]
    if not torch.allclose(shared, shared[:, :1].expand_as(shared), rtol=0, atol=0, equal_nan=True):
        raise CheckpointError(
            f"{path}: the last {context} numbers of a picture (context_width) differ between its views; expected equal"
        )
    return RetrievalVectors(pooled, shared[:, 0])


def _floats(
    path: Path,
    name: str,
    values: npt.NDArray[Any] | None,
    dimensions: tuple[int, ...],
    *,
    rows_required: bool = True,
) -> Tensor:
    """A floating-point array as float32, with at least one number in it; or none of some width."""
    if values is None:
        raise CheckpointError(
            f"{path}: no dataset {name!r}; expected image, caption and image_of_caption",
            "write one with selfalign export-embeddings",
        )
    if values.ndim in dimensions and values.size == 0 and (rows_required or values.shape[-1] == 0):
        raise CheckpointError(f"{path}: {name} is {values.shape}; expected at least one number")
    if values.ndim not in dimensions or values.dtype.kind != "f":
        wanted = " or ".join(str(count) for count in dimensions)
        raise CheckpointError(
            f"{path}: {name} is {values.dtype} {values.shape}; expected a floating-point array of {wanted} dimensions"
        )
    with np.errstate(over="ignore"):  # infinity is reported with its row later
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _strings(path: Path, arrays: Arrays, name: str, count: int) -> list[str] | None:
    """An array of text as a list, None when it is not there."""
    values = arrays.get(name)
    if values is None:
        return None
    if values.shape != (count,):
        raise CheckpointError(f"{path}: {name} has shape {values.shape}; expected ({count},)")
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values.tolist()]
