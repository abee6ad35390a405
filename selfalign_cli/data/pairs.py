"""Pairs of pictures and captions as batches of tensors, in an order that can be resumed at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.token_table import TokenTable
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
    ) -> None:
        self.file = file
        self.split = split
        self.captions = file.split_captions(split)
        self.images = file.facts.caption_image[self.captions]
        texts = file.captions
        self.tokens = TokenTable.encode([texts[row] for row in self.captions], encode, max_words)

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
    dataset: PairDataset, indices: npt.ArrayLike, width: int | None = None, shard: slice = EVERYTHING
) -> PairBatch:
    """Collate pairs of a split, sorted by caption length, longest first, equals in the given order.

    Args:
        dataset: the pairs.
        indices: (B,) numbers of pairs in the data set.
        width: columns of the captions; None for the longest.
        shard: rows of the sorted batch to read; they are padded as in the whole batch.
    """
    indices = np.asarray(indices, dtype=np.int64)
    lengths, rows = dataset.tokens.lengths(indices), dataset.images[indices]
    offsets = dataset.file.facts.offsets
    regions = int((offsets[rows + 1] - offsets[rows]).max(initial=0))
    indices = indices[np.argsort(-lengths, kind="stable")][shard]
    texts = dataset.tokens.batch(indices, int(lengths.max(initial=0)) if width is None else width)
    images = collate_images(dataset.file, dataset.images[indices], regions)
    return PairBatch(images, texts, torch.from_numpy(dataset.captions[indices]))


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
) -> Generator[PairBatch, None, None]:
    """One epoch of shuffled training batches; the last one may be smaller.

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

    Raises:
        RunError: the file was replaced or cut short.
        DataError: a picture is faulty.
    """
    order = epoch_order(len(dataset), seed, epoch).numpy()
    steps = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][start_step:]
    collate = partial(collate_pairs, dataset, width=width, shard=shard)
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
