"""`selfalign export-embeddings`: a split, encoded, to a file that can be searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selfalign_cli import parallel
from selfalign_cli.assembly.device import choose_device
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.launch import is_first
from selfalign_cli.scoring.embed import EncodingOptions, embed_checkpoint, ignore
from selfalign_cli.scoring.embedding_writer import check_writable_kind, write_embeddings
from selfalign_cli.scoring.layouts import check_layout, write_layout


def export_embeddings(
    checkpoint: Path,
    out: Path,
    options: EncodingOptions,
    *,
    layout: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    notify: Callable[[str], None] = ignore,
) -> None:
    """Encode a split and write its vectors with everything that names their rows.

    Pictures without captions are exported too; the file then holds no caption.

    Args:
        checkpoint: the checkpoint.
        out: file to write; the suffix chooses HDF5, npz or Parquet.
        options: what to encode, and how.
        layout: a key of `layouts.LAYOUTS`, for other programs; None for an embedding file.
        device: auto, cpu or cuda.
        overwrite: replace a file that is there.
        notify: shows messages, about captions that were cut for one.

    Raises:
        SelfAlignError: see `embed_checkpoint` and `write_embeddings`.
    """
    if layout is not None:
        check_layout(layout, out, overwrite)
    else:
        check_writable_kind(out)
        refuse_existing(out, overwrite, [checkpoint])
    with parallel.process_group():
        encoded = embed_checkpoint(
            checkpoint,
            options,
            device=choose_device(device),
            captions_required=False,
            written=[] if layout is not None else [out],
            notify=notify,
        )
    if not is_first():
        return
    if layout is not None:
        write_layout(layout, out, encoded)
        return
    assert encoded.image_ids is not None
    assert encoded.caption_texts is not None
    write_embeddings(
        out,
        encoded.images,
        encoded.captions,
        image_of_caption=encoded.image_of_caption,
        image_ids=encoded.image_ids,
        caption_texts=encoded.caption_texts,
        caption_ids=encoded.caption_ids,
        file_names=encoded.file_names,
        attributes=encoded.attributes,
    )
