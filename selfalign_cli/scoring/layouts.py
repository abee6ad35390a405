"""Vectors as other programs want them: clip-retrieval's folder, a Parquet table a side, text for the projector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.atomic import refuse_existing, replacing
from selfalign_cli.errors import DataError
from selfalign_cli.scoring.embedding_writer import pyarrow
from selfalign_cli.scoring.embeddings import EmbeddingFile

Vectors = npt.NDArray[np.float32]
TAB = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def files_of(layout: str, out: Path) -> list[Path]:
    """The files that a layout writes.

    Args:
        layout: a key of `LAYOUTS`.
        out: a folder for clip-retrieval, else a file.

    Raises:
        DataError: a suffix that the layout does not have.
    """
    suffix = LAYOUTS[layout][1]
    if suffix and out.suffix.lower() != suffix:
        raise DataError(f"{out}: --layout {layout} writes {suffix} files", f"--out {out.with_suffix(suffix)}")
    if layout == "clip-retrieval":
        return [out / "img_emb/img_emb_0.npy", out / "text_emb/text_emb_0.npy", out / "metadata/metadata_0.parquet"]
    if layout == "two-tables":
        return [out.with_suffix(".images.parquet"), out.with_suffix(".captions.parquet")]
    return [out, out.with_suffix(".metadata.tsv")]


def check_layout(layout: str, out: Path, overwrite: bool) -> None:
    """Refuse before anything is encoded.

    Raises:
        DataError: a wrong suffix, files that exist, pyarrow that is missing.
    """
    for path in files_of(layout, out):
        refuse_existing(path, overwrite)
    if layout != "projector":
        pyarrow(out)


def write_layout(layout: str, out: Path, encoded: EmbeddingFile) -> list[Path]:
    """Write vectors in a layout.

    Raises:
        DataError: several views, where the other program knows one vector a picture.
    """
    files = files_of(layout, out)
    LAYOUTS[layout][0](files, encoded)
    return [path for path in files if path.exists()]


def _clip_retrieval(files: list[Path], encoded: EmbeddingFile) -> None:
    """A row a picture: its vector, that of its first caption, and its path and caption in the metadata."""
    images = _one_view(encoded, files[0])
    first = _first_captions(encoded)
    texts = ["" if row < 0 else _texts(encoded)[row] for row in first]
    if all(row >= 0 for row in first):
        captions = encoded.captions.concatenated().numpy()[np.array(first)]
        _write_npy(files[1], captions.astype(np.float16))
    _write_npy(files[0], images.astype(np.float16))
    ids = _ids(encoded)
    _write_table(files[2], encoded, {"image_path": encoded.file_names or ids, "id": ids, "caption": texts}, None)


def _two_tables(files: list[Path], encoded: EmbeddingFile) -> None:
    """Pictures (a row a view) and captions, each with ids and vectors, in a file of its own."""
    ids = _ids(encoded)
    views = encoded.images.pooled.shape[1]
    each = np.repeat(np.arange(len(ids)), views)
    names = encoded.file_names
    pictures = {
        "id": [ids[row] for row in each],
        "view": np.tile(np.arange(views), len(ids)).tolist(),
        "file_name": [None if names is None else names[row] for row in each],
    }
    _write_table(files[0], encoded, pictures, encoded.images.concatenated().flatten(0, 1).numpy())
    truth = encoded.image_of_caption.tolist()
    captions = {"text": _texts(encoded), "picture": [ids[row] for row in truth]}
    _write_table(files[1], encoded, captions, encoded.captions.concatenated().numpy())


def _projector(files: list[Path], encoded: EmbeddingFile) -> None:
    """Tab-separated numbers, and what each row is, as the Embedding Projector loads them."""
    images = _one_view(encoded, files[0])
    ids, texts = _ids(encoded), _texts(encoded)
    with replacing(files[0]) as temporary, open(temporary, "w", encoding="ascii") as stream:
        for vectors in (images, encoded.captions.concatenated().numpy()):
            np.savetxt(stream, vectors, fmt="%.9g", delimiter="\t")
    with replacing(files[1]) as temporary, open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write("kind\tid\ttext\n")
        for name in ids:
            stream.write(f"picture\t{name.translate(TAB)}\t\n")
        for row, text in zip(encoded.image_of_caption.tolist(), texts, strict=True):
            stream.write(f"caption\t{ids[row].translate(TAB)}\t{text.translate(TAB)}\n")


def _one_view(encoded: EmbeddingFile, path: Path) -> Vectors:
    views = encoded.images.pooled.shape[1]
    if views != 1:
        raise DataError(
            f"{path}: pictures have {views} views; this layout holds one vector a picture",
            "--layout two-tables has a row a view; the score of a picture is that of its best view",
        )
    vectors: Vectors = encoded.images.concatenated()[:, 0].numpy()
    return vectors


def _ids(encoded: EmbeddingFile) -> list[str]:
    return encoded.image_ids or [str(row) for row in range(len(encoded.images.pooled))]


def _texts(encoded: EmbeddingFile) -> list[str]:
    return encoded.caption_texts or []


def _first_captions(encoded: EmbeddingFile) -> list[int]:
    """Row of each picture's first caption, -1 without one."""
    first = [-1] * len(encoded.images.pooled)
    for row, image in enumerate(encoded.image_of_caption.tolist()):
        if first[image] < 0:
            first[image] = row
    return first


def _write_npy(path: Path, vectors: npt.NDArray[np.float16]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.lib.format.write_array(stream, np.ascontiguousarray(vectors), allow_pickle=False)


def _write_table(path: Path, encoded: EmbeddingFile, columns: dict[str, Any], vectors: Vectors | None) -> None:
    arrow, parquet = pyarrow(path)
    if vectors is not None:
        flat = arrow.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = {**columns, "vector": arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    about = {"similarity": "dot", "selfalign": json.dumps(dict(encoded.attributes))}
    with replacing(path) as temporary:
        parquet.write_table(arrow.table(columns).replace_schema_metadata(about), temporary)


LAYOUTS: dict[str, tuple[Callable[[list[Path], EmbeddingFile], None], str]] = {
    "clip-retrieval": (_clip_retrieval, ""),
    "two-tables": (_two_tables, ".parquet"),
    "projector": (_projector, ".tsv"),
}
"""Name → what writes it, and the suffix of `--out`."""
