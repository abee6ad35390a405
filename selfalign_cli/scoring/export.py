"""`selfalign export-embeddings`: a split, encoded, to a file that anybody can search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selfalign_cli import parallel
from selfalign_cli.assembly.loading import choose_device
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.launch import is_first
from selfalign_cli.recipe.compat import Preset
from selfalign_cli.scoring.embed import embed_checkpoint
from selfalign_cli.scoring.embedding_writer import check_writable_kind, write_embeddings


def export_embeddings(
    checkpoint: Path,
    out: Path,
    *,
    split: str = "test",
    data: Path | None = None,
    batch_size: int | None = None,
    compat: Preset | None = None,
    device: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Encode a split and write its vectors with everything that names their rows.

    Args:
        checkpoint: the checkpoint.
        out: file to write; the suffix chooses HDF5, npz or Parquet.
        split: name of the split.
        data: feature file; None for the one the checkpoint was trained on.
        batch_size: rows encoded at once; None for the recipe's.
        compat: preset to encode under; None for the checkpoint's own.
        device: auto, cpu or cuda.
        overwrite: replace a file that is there.
        say: shows what a person should know: captions that were cut.
    """
    check_writable_kind(out)
    refuse_existing(out, overwrite, [checkpoint])
    with parallel.process_group():
        encoded = embed_checkpoint(
            checkpoint,
            data=data,
            split=split,
            batch_size=batch_size,
            compat=compat,
            device=choose_device(device),
            written=[out],
            say=say,
        )
    if not is_first():
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
