"""Pairs of pictures and captions as batches of tensors, in an order that can be resumed at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.data.alterations import Alterations, kept_regions, step_generator
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.token_table import TokenTable, collate_texts
from selfalign_cli.encodings import ImageBatch, PairBatch
from selfalign_cli.errors import DataError

Rows = npt.NDArray[np.int64]

EVERYTHING = slice(None)
BATCHES_AHEAD = 2
"""Batches that each worker prepares ahead."""


class PairDataset:
    """The (picture, caption) pairs of a split: item i is the split's caption i with its picture.

    Args:
        file: the feature file.
        split: name of the split.
        encode: gives the ids of a caption, marks included; called once per caption.
        max_words: longest caption in tokens, marks included; longer ones are cut and counted in `tokens.cut`.
        alterations: how training alters regions and words; None for not at all.
        words: gives the number of its word for each id of a caption, where words are altered.

    Attributes:
        captions: (P,) caption rows in the file.
        images: (P,) image rows in the file.
        tokens: the ids of the P captions.

    Raises:
        DataError: the file has no such split.
    """

    def __init__(
        self,
        file: FeatureFile,
        split: str,
        encode: Callable[[str], list[int]],
        max_words: int | None = None,
        alterations: Alterations | None = None,
        words: Callable[[str], list[int]] | None = None,
    ) -> None:
        self.file = file
        self.alterations = alterations
        self.split = split
        self.captions = file.split_captions(split)
        self.images = file.facts.caption_image[self.captions]
        texts = file.captions
        self.tokens = TokenTable.encode([texts[row] for row in self.captions], encode, max_words, words)

    def __len__(self) -> int:
        """Number P of pairs."""
        return len(self.captions)


def collate_images(file: FeatureFile, rows: npt.ArrayLike, regions: int | None = None) -> ImageBatch:
    """Copy the regions of some pictures from the file, zero-padded.

    Args:
        file: the feature file.
        rows: (B,) image rows.
        regions: positions for each picture; None for the largest number of regions.

    Returns:
        Features in the type that the file stores (the model widens them); boxes and sizes when the file has them.

    Raises:
        DataError: a picture holds NaN or infinity; its id is named.
    """
    rows = np.asarray(rows, dtype=np.int64)
    facts = file.facts
    counts = facts.offsets[rows + 1] - facts.offsets[rows]
    length = int(counts.max(initial=0)) if regions is None else regions
    features = _padded(counts, length, file.feature_dim, getattr(torch, facts.features.dtype))
    file.fill_regions(rows, features.numpy())
    _expect_finite(file, rows, features.numpy())
    boxes = _padded(counts, length, 4, torch.float32) if facts.boxes is not None else None
    if boxes is not None:
        file.fill_boxes(rows, boxes.numpy())
    mask = torch.arange(length) < torch.from_numpy(counts)[:, None]
    size = None if facts.image_size is None else torch.from_numpy(facts.image_size[rows])
    return ImageBatch(features, mask, torch.from_numpy(rows.copy()), boxes, size)


def collate_pairs(
    dataset: PairDataset,
    indices: npt.ArrayLike,
    width: int | None = None,
    shard: slice = EVERYTHING,
    draws: np.random.Generator | None = None,
) -> PairBatch:
    """Collate pairs of a split, sorted by caption length, longest first, equals in the given order.

    Args:
        dataset: the pairs.
        indices: (B,) numbers of pairs in the data set.
        width: columns of the captions; None for the longest.
        shard: rows of the sorted batch to read; they are padded as in the whole batch.
        draws: random numbers for the alterations of the data set; None for no alterations.
    """
    indices = np.asarray(indices, dtype=np.int64)
    if draws is not None and dataset.alterations is not None:
        return _collate_altered(dataset, dataset.alterations, indices, width, shard, draws)
    lengths, rows = dataset.tokens.lengths(indices), dataset.images[indices]
    offsets = dataset.file.facts.offsets
    regions = int((offsets[rows + 1] - offsets[rows]).max(initial=0))
    indices = indices[np.argsort(-lengths, kind="stable")][shard]
    texts = dataset.tokens.batch(indices, int(lengths.max(initial=0)) if width is None else width)
    images = collate_images(dataset.file, dataset.images[indices], regions)
    return PairBatch(images, texts, torch.from_numpy(dataset.captions[indices]))


def _collate_altered(
    dataset: PairDataset,
    alterations: Alterations,
    indices: Rows,
    width: int | None,
    shard: slice,
    draws: np.random.Generator,
) -> PairBatch:
    """Draw for the whole batch, whichever rows are read: every process draws the same."""
    offsets, rows = dataset.file.facts.offsets, dataset.images[indices]
    kept = [kept_regions(draws.random(offsets[row + 1] - offsets[row]), alterations.regions) for row in rows]
    captions = [_altered_caption(dataset.tokens, alterations, number, draws) for number in indices]
    lengths = np.asarray([len(ids) for ids in captions])
    order = np.argsort(-lengths, kind="stable")[shard]
    texts = collate_texts([captions[position] for position in order], width or int(lengths.max(initial=0)))
    images = collate_images(dataset.file, rows[order])
    regions = max((int(mask.sum()) for mask in kept), default=0)
    images = _with_regions(images, [kept[position] for position in order], regions)
    return PairBatch(images, texts, torch.from_numpy(dataset.captions[indices[order]]))


def _altered_caption(
    tokens: TokenTable, alterations: Alterations, number: int, draws: np.random.Generator
) -> list[int]:
    ids: list[int] = tokens.row(number).tolist()
    words = list(range(len(ids))) if tokens.words is None else tokens.words_of(number).tolist()
    if not alterations.words:
        return ids
    numbers = draws.random(1 + max(words)).tolist()
    return alterations.altered_ids(ids, words, numbers, lambda: int(draws.integers(alterations.vocabulary)))


def _with_regions(images: ImageBatch, kept: Sequence[npt.NDArray[np.bool_]], regions: int) -> ImageBatch:
    """The regions that are kept, moved together, zero-padded to a number of regions."""
    mask = np.zeros((len(kept), regions), dtype=bool)
    features = images.features.new_zeros(len(kept), regions, images.features.shape[2])
    boxes = None if images.boxes is None else images.boxes.new_zeros(len(kept), regions, 4)
    for row, stays in enumerate(kept):
        places, count = np.flatnonzero(stays), int(stays.sum())
        mask[row, :count] = True
        np.take(images.features[row].numpy(), places, axis=0, out=features[row, :count].numpy())
        if boxes is not None and images.boxes is not None:
            boxes[row, :count] = images.boxes[row, places]
    return replace(images, features=features, mask=torch.from_numpy(mask), boxes=boxes)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of 0 to count - 1 that depends on nothing but its arguments.

    Returns:
        (count,) int64.
    """
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.randperm(count, generator=torch.Generator().manual_seed(int(mixed >> np.uint64(1))))


def pair_batches(
    dataset: PairDataset,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    workers: int = 0,
    width: int | None = None,
    shard: slice = EVERYTHING,
    drop_last: bool = False,
) -> Generator[PairBatch, None, None]:
    """One epoch of shuffled training batches, altered as the data set says; the last one may be smaller.

    Args:
        dataset: the pairs.
        batch_size: pairs in a batch.
        seed: seed of the shuffling.
        epoch: number of the epoch, from 0.
        start_step: batches to leave out, unread; the rest are those of an unbroken epoch.
        workers: threads that read ahead; 0 for none. The batches are the same. Reading leaves Python's lock to others,
            so threads do what processes would, without copies between them.
        width: columns of the captions; None for the longest of each batch.
        shard: rows of each sorted batch to read: those of one of several processes.
        drop_last: leave out a last batch that is smaller.

    Raises:
        RunError: the file was replaced or cut short.
        DataError: a picture is faulty.
    """
    order = epoch_order(len(dataset), seed, epoch).numpy()
    count = steps_in_epoch(len(order), batch_size, drop_last=drop_last)
    steps = range(start_step, count)

    def collate(step: int) -> PairBatch:
        draws = step_generator(seed, epoch, step) if dataset.alterations is not None else None
        rows = order[step * batch_size : (step + 1) * batch_size]
        return collate_pairs(dataset, rows, width, shard, draws)

    if workers == 0:
        yield from map(collate, steps)
        return
    ahead: deque[Future[PairBatch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as threads:
        try:
            for step in steps:
                ahead.append(threads.submit(collate, step))
                if len(ahead) > BATCHES_AHEAD * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for batch in ahead:
                batch.cancel()


def steps_in_epoch(pairs: int, batch_size: int, *, drop_last: bool) -> int:
    """Number of batches of an epoch."""
    return pairs // batch_size if drop_last else -(-pairs // batch_size)


def _padded(counts: Rows, length: int, width: int, dtype: torch.dtype) -> Tensor:
    """(B, length, width) for a batch to be read into; zeros only where something stays unfilled."""
    make = torch.empty if bool((counts == length).all()) else torch.zeros
    return make(len(counts), length, width, dtype=dtype)


def _expect_finite(file: FeatureFile, rows: Rows, features: npt.NDArray[Any]) -> None:
    """Look at the bits, in numpy: that is faster than arithmetic on half precision, and starts no threads of torch."""
    bits = features.view(f"u{features.itemsize}")
    infinity = np.asarray(np.inf, features.dtype).view(bits.dtype)
    for row, picture in zip(rows, bits, strict=True):
        if (picture << 1).max(initial=0) >= infinity << 1:  # without their sign, infinity and NaN are the largest
            raise DataError(f"{file.path}: picture {file.image_ids[row]} (row {row}) holds NaN or infinite features")
