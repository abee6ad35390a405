"""A split of a feature file: which pictures, which captions, and the captions as token ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.token_table import TokenTable

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitData:
    """The pictures and captions of a split, ready to encode.

    Attributes:
        file: the feature file.
        split: its name.
        images: (N,) image rows in the file.
        captions: (M,) caption rows in the file; M is 0 where pictures have none.
        image_of_caption: (M,) int64, position of each caption's picture among `images`.
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
    captions_required: bool = True,
) -> SplitData:
    """Look up a split and turn its captions into ids.

    Args:
        file: the feature file.
        split: name of the split.
        encode: caption text to ids.
        max_words: longest caption, marks included; longer ones are cut and counted in `tokens.cut`.
        limit: use the first so many captions, and the pictures they belong to; None for all (D1).
        captions_required: refuse a file without captions.

    Raises:
        DataError: no such split, or no captions where they are required.
    """
    images = file.split_images(split)
    if captions_required or len(file.facts.caption_image):
        captions = file.split_captions(split)
    else:
        captions = np.empty(0, dtype=np.int64)
    if limit is not None and limit < len(captions):
        captions = captions[:limit]
        images = images[np.isin(images, file.facts.caption_image[captions])]
    positions = np.searchsorted(images, file.facts.caption_image[captions])
    texts = file.captions
    tokens = TokenTable.encode([texts[row] for row in captions], encode, max_words)
    return SplitData(file, split, images, captions, positions.astype(np.int64), tokens)


def message_about_cut(tokens: TokenTable, *, split: str, max_words: int | None) -> str | None:
    """A message about how many captions of a split were cut; None when none was."""
    if not tokens.cut:
        return None
    return (
        f"{tokens.cut:,} of {len(tokens):,} captions of split {split} are longer than {max_words} tokens and were cut"
    )
