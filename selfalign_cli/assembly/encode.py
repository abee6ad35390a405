"""A split to embeddings: every picture and every caption once, in data-set order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli import parallel
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.data.text.token_table import TokenTable
from selfalign_cli.encodings import Encoding, RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import CameraSection, Recipe

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitData:
    """The pictures and captions of a split, ready to encode.

    Attributes:
        file: the feature file.
        split: its name.
        images: (N,) image rows in the file.
        captions: (M,) caption rows in the file.
        image_of_caption: (M,) int64, place of each caption's picture among `images`.
        tokens: the M captions as ids.
    """

    file: FeatureFile
    split: str
    images: Rows
    captions: Rows
    image_of_caption: Rows
    tokens: TokenTable


def open_split(
    file: FeatureFile,
    split: str,
    encode: Callable[[str], list[int]],
    *,
    max_words: int | None = None,
    limit: int | None = None,
) -> SplitData:
    """Look up a split and turn its captions into ids.

    Args:
        file: the feature file.
        split: name of the split.
        encode: caption text to ids.
        max_words: longest caption, marks included; longer ones are cut and counted in `tokens.cut`.
        limit: use the first so many captions, and the pictures they belong to; None for all (D1).

    Raises:
        DataError: no such split, or a picture of it has no caption.
    """
    images, captions = file.split_images(split), file.split_captions(split)
    if limit is not None and limit < len(captions):
        captions = captions[:limit]
        images = images[np.isin(images, file.facts.caption_image[captions])]
    places = np.searchsorted(images, file.facts.caption_image[captions])
    without = np.setdiff1d(np.arange(len(images)), places)
    if len(without):
        name = file.image_ids[images[without[0]]]
        raise DataError(
            f"{file.path}: picture {name} of split {split} has no caption ({len(without)} such pictures)",
            "convert the features again with captions for every picture",
        )
    texts = file.captions
    tokens = TokenTable.encode([texts[row] for row in captions], encode, max_words)
    return SplitData(file, split, images, captions, places.astype(np.int64), tokens)


def told_of_cut(tokens: TokenTable, *, split: str, max_words: int | None) -> str | None:
    """Say how many captions of a split were cut; None when none was."""
    if not tokens.cut:
        return None
    return (
        f"{tokens.cut:,} of {len(tokens):,} captions of split {split} are longer than {max_words} tokens and were cut"
    )


@torch.inference_mode()
def encode_split(
    model: RetrievalModel,
    data: SplitData,
    *,
    batch_size: int,
    width: int | None = None,
    by_length: bool = True,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> tuple[RetrievalVectors, RetrievalVectors]:
    """Encode a split in evaluation mode; the model's mode is restored. Several processes take the batches in turn.

    Args:
        model: the model, on `device`.
        data: the split.
        batch_size: rows encoded at once.
        width: padded caption length; None for the longest of each batch.
        by_length: batch captions of similar length together, which saves padding. Only where a caption's vector does
            not depend on its neighbours; otherwise batches are consecutive rows, as published.
        device: where to compute.
        progress: called with the number of rows done, after each batch. May raise to stop.

    Returns:
        Picture vectors (N rows) and caption vectors (M rows) in float32 on the CPU.
    """
    was_training = model.training
    model.eval()
    try:
        rows = np.arange(len(data.captions))
        order = np.argsort(data.tokens.lengths(rows), kind="stable") if by_length else rows
        pictures, captions = _batches(np.arange(len(data.images)), batch_size), _batches(order, batch_size)
        images = (model.encode_image(collate_images(data.file, data.images[b]).to(device)) for b in pictures)
        texts = (model.encode_text(data.tokens.batch(b, width).to(device)) for b in captions)
        image_vectors = _collect(images, pictures, len(data.images), progress)
        return image_vectors, _collect(texts, captions, len(data.captions), progress)
    finally:
        model.train(was_training)


def caption_width(recipe: Recipe) -> int | None:
    """Padded length of captions: fixed when the recipe says so, else None for the longest of each batch."""
    return recipe.data.max_words if recipe.data.pad_to_max_words else None


def rows_are_independent(recipe: Recipe) -> bool:
    """Tell whether a caption's vector depends on the caption alone, not on the batch it is encoded in."""
    masked = all(recipe.padding.model_dump().values())
    host_alone = not recipe.selfalign.enabled and not isinstance(recipe.model, CameraSection)
    return masked or host_alone or caption_width(recipe) is not None


def embed_split(
    recipe: Recipe,
    model: RetrievalModel,
    data: SplitData,
    *,
    device: torch.device,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[RetrievalVectors, RetrievalVectors]:
    """Encode a split the way its recipe wants it: see `encode_split`."""
    return encode_split(
        model,
        data,
        batch_size=batch_size or recipe.validation.batch_size,
        width=caption_width(recipe),
        by_length=rows_are_independent(recipe),
        device=device,
        progress=progress,
    )


def _batches(order: Rows, batch_size: int) -> list[Rows]:
    """Rows cut into batches: those that this process encodes."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)][parallel.shard()]


def _collect(
    encodings: Iterator[Encoding], batches: list[Rows], total: int, progress: Callable[[int], None] | None
) -> RetrievalVectors:
    """Put the vectors of each batch into its rows of the whole, those of the other processes too."""
    if total == 0:
        raise DataError("the split is empty: there is nothing to encode")
    whole: tuple[Tensor, Tensor] | None = None
    for rows, encoding in zip(batches, encodings, strict=True):
        parts = encoding.vectors.pooled, encoding.vectors.shared
        if whole is None:
            whole = _zeros(total, parts[0].shape[1:]), _zeros(total, parts[1].shape[1:])
        for rows_of_all, part in zip(whole, parts, strict=True):
            rows_of_all[torch.from_numpy(rows)] = part.float().cpu()
        if progress is not None:
            progress(len(rows))
    if parallel.world_size() > 1:
        shapes = parallel.all_gather_objects(None if whole is None else [value.shape[1:] for value in whole])
        known = next(shape for shape in shapes if shape is not None)
        whole = whole or (_zeros(total, known[0]), _zeros(total, known[1]))
        parallel.all_reduce(
            [room.view(torch.int32) for room in whole]
        )  # as bits: adding zeros would turn -0.0 into 0.0
    assert whole is not None
    return RetrievalVectors(*whole)


def _zeros(total: int, shape: torch.Size) -> Tensor:
    """Zeros: rows of other processes are added to them."""
    return torch.zeros(total, *shape)
