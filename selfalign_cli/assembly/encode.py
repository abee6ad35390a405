"""Batches to vectors: every picture and every caption once, in data-set order, each side on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfalign_cli import parallel
from selfalign_cli.assembly.split import Rows, SplitData
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.data.text.token_table import TokenTable, collate_texts
from selfalign_cli.encodings import Encoding, ImageBatch, RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.recipe.schema import Recipe

OnRows = Callable[[int], None]
"""Called with the number of rows done, after each batch. May raise to stop."""


@dataclass(frozen=True)
class Batching:
    """How rows are put into batches.

    Attributes:
        size: rows encoded at once.
        width: padded caption length; None for the longest of each batch.
        by_length: batch captions of similar length together, which saves padding. Only where a caption's vector does
            not depend on its neighbours; otherwise batches are consecutive rows, as published.
    """

    size: int
    width: int | None = None
    by_length: bool = True


def batching_of(recipe: Recipe, size: int | None = None) -> Batching:
    """Batches as a recipe wants them.

    Args:
        recipe: the recipe.
        size: rows encoded at once; None for the recipe's.
    """
    return Batching(size or recipe.validation.batch_size, caption_width(recipe), rows_are_independent(recipe))


def encode_pictures(
    model: RetrievalModel,
    file: FeatureFile,
    rows: Rows,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    progress: OnRows | None = None,
) -> RetrievalVectors:
    """Encode pictures of a file in evaluation mode; the model's mode is restored.

    Several processes share the batches, and each gets all vectors.

    Args:
        model: the model, on `device`.
        file: the feature file.
        rows: (N,) image rows, at least one.
        batch_size: rows encoded at once.
        device: where to compute.
        progress: see `OnRows`.

    Returns:
        Pooled (N, V, D) and shared (N, C) in float32 on the CPU.

    Raises:
        DataError: a picture holds NaN or infinity, or there is none.
        RunError: the file was replaced or cut short.
    """
    if len(rows) == 0:
        raise DataError(f"{file.path}: there are no pictures to encode; expected at least one row")
    batches = _batches(np.arange(len(rows)), batch_size)
    with _evaluation(model):
        encodings = (model.encode_image(collate_images(file, rows[batch]).to(device)) for batch in batches)
        return _gather(encodings, batches, len(rows), progress)


def encode_captions(
    model: RetrievalModel,
    tokens: TokenTable,
    batching: Batching,
    *,
    device: torch.device | str = "cpu",
    progress: OnRows | None = None,
) -> RetrievalVectors:
    """Encode captions in evaluation mode, as `encode_pictures` does pictures.

    Args:
        model: the model, on `device`.
        tokens: the M captions as ids.
        batching: how they are put into batches.
        device: where to compute.
        progress: see `OnRows`.

    Returns:
        Pooled (M, D) and shared (M, C) in float32 on the CPU; of the same widths where M is 0.
    """
    rows = np.arange(len(tokens))
    order = np.argsort(tokens.lengths(rows), kind="stable") if batching.by_length else rows
    batches = _batches(order, batching.size)
    with _evaluation(model):
        if len(tokens) == 0:  # the widths are those of any caption
            vectors = model.encode_text(collate_texts([[0]]).to(device)).vectors
            return RetrievalVectors(*(_zeros(0, part.shape[1:]) for part in (vectors.pooled, vectors.shared)))
        encodings = (model.encode_text(tokens.batch(batch, batching.width).to(device)) for batch in batches)
        return _gather(encodings, batches, len(tokens), progress)


def encode_batches(
    model: RetrievalModel,
    batches: Iterable[ImageBatch],
    *,
    device: torch.device | str = "cpu",
    progress: OnRows | None = None,
) -> RetrievalVectors:
    """Encode pictures that come in batches already; every process encodes all of them.

    Args:
        model: the model, on `device`.
        batches: at least one.
        device: where to compute.
        progress: see `OnRows`.

    Returns:
        Pooled (N, V, D) and shared (N, C) in float32 on the CPU, in the order in which they came.

    Raises:
        DataError: there is no batch.
    """
    parts = []
    with _evaluation(model):
        for batch in batches:
            vectors = model.encode_image(batch.to(device)).vectors
            parts.append([part.float().cpu() for part in (vectors.pooled, vectors.shared)])
            if progress is not None:
                progress(len(batch.index))
    if not parts:
        raise DataError("there are no pictures to encode; expected at least one batch")
    return RetrievalVectors(*(torch.cat(list(side)) for side in zip(*parts, strict=True)))


def embed_split(
    recipe: Recipe,
    model: RetrievalModel,
    data: SplitData,
    *,
    device: torch.device,
    progress: OnRows | None = None,
) -> tuple[RetrievalVectors, RetrievalVectors]:
    """Encode the pictures and the captions of a split in batches as its recipe has them."""
    batching = batching_of(recipe)
    images = encode_pictures(model, data.file, data.images, batch_size=batching.size, device=device, progress=progress)
    return images, encode_captions(model, data.tokens, batching, device=device, progress=progress)


def caption_width(recipe: Recipe) -> int | None:
    """Padded length of captions: fixed when the recipe says so, else None for the longest of each batch."""
    return recipe.data.max_words if recipe.data.pad_to_max_words else None


def rows_are_independent(recipe: Recipe) -> bool:
    """Whether a caption's vector depends on the caption alone, not on the batch it is encoded in."""
    masked = all(recipe.padding.model_dump().values())
    unaffected = not recipe.selfalign.enabled and not recipe.host.reads_padding
    return masked or unaffected or caption_width(recipe) is not None


@contextmanager
def _evaluation(model: RetrievalModel) -> Iterator[None]:
    """Evaluation mode without gradients; the mode the model was in comes back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _batches(order: Rows, batch_size: int) -> list[Rows]:
    """Rows cut into batches: those that this process encodes."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)][parallel.shard()]


def _gather(
    encodings: Iterator[Encoding], batches: list[Rows], total: int, progress: OnRows | None
) -> RetrievalVectors:
    """The vectors of all batches in the order of their rows, those of other processes too."""
    gathered: tuple[Tensor, Tensor] | None = None
    for rows, encoding in zip(batches, encodings, strict=True):
        parts = encoding.vectors.pooled, encoding.vectors.shared
        if gathered is None:
            gathered = _zeros(total, parts[0].shape[1:]), _zeros(total, parts[1].shape[1:])
        for target, part in zip(gathered, parts, strict=True):
            target[torch.from_numpy(rows)] = part.float().cpu()
        if progress is not None:
            progress(len(rows))
    if parallel.world_size() > 1:
        shapes = parallel.all_gather_objects(None if gathered is None else [value.shape[1:] for value in gathered])
        known = next(shape for shape in shapes if shape is not None)
        gathered = gathered or (_zeros(total, known[0]), _zeros(total, known[1]))
        # As bits: adding zeros would turn -0.0 into 0.0.
        parallel.all_reduce([value.view(torch.int32) for value in gathered])
    assert gathered is not None
    return RetrievalVectors(*gathered)


def _zeros(total: int, shape: torch.Size) -> Tensor:
    """An ordinary tensor, which may take part in training; rows of other processes are added to it."""
    with torch.inference_mode(False):
        return torch.zeros(total, *shape)
