"""Ranks as in the published programs: one query at a time in double precision, by sorting all its scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def image_ranks(images: Vectors, captions: Vectors, image_of_caption: Integers, rows: Integers) -> Integers:
    """Best rank of an own caption in each picture's sorted list of captions, 0-based (MODELS.md section 6).

    Args:
        images: (N, D).
        captions: (M, D).
        image_of_caption: (M,).
        rows: pictures whose ranks are computed.
    """
    ranks = np.zeros(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        order = np.argsort(np.dot(images[row : row + 1], captions.T).flatten())[::-1]
        own = np.flatnonzero(image_of_caption == row)
        ranks[number] = min(np.where(order == caption)[0][0] for caption in own)
    return ranks


def caption_ranks(images: Vectors, captions: Vectors, image_of_caption: Integers, rows: Integers) -> Integers:
    """Rank of its picture in each caption's sorted list of pictures, 0-based; captions of one picture together.

    Args:
        images: (N, D).
        captions: (M, D).
        image_of_caption: (M,).
        rows: pictures whose captions' ranks are computed, in this order.
    """
    ranks = []
    for row in rows:
        own = np.flatnonzero(image_of_caption == row)
        for scores in np.dot(captions[own], images.T):
            ranks.append(np.where(np.argsort(scores)[::-1] == row)[0][0])
    return np.asarray(ranks, dtype=np.int64)


def view_scores(views: npt.NDArray[np.float32], caption: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scores (N,) of one caption (D,) with whole view vectors (N, V, D), the context repeated in each: V·D a pair."""
    scores: npt.NDArray[np.float32] = np.dot(views, caption).max(axis=1)
    return scores
