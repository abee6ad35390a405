"""Regions and words that training leaves out or alters, drawn anew each time (VSE∞, arXiv 2011.04305; MODELS.md 13.1).

Whether a word or region changes is one uniform draw. Draws come from the run's seed, the epoch and the step, so they
are the same on resuming and in any number of processes (G6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MASKED, REPLACED = 0.5, 0.6
"""Parts of the altered words: below the first masked, below the second replaced, the others left out."""
EXEMPT = -1
"""Word number of ids that are never altered."""
STREAM = 1  # tells these draws from those of the shuffling


@dataclass(frozen=True)
class Alterations:
    """How training alters what it reads.

    Attributes:
        regions: chance that a region is left out.
        words: chance that a word is altered.
        mask: id that stands for a masked word, or for each of its pieces.
        vocabulary: number of ids, from which replacements are drawn.
    """

    regions: float
    words: float
    mask: int
    vocabulary: int

    def altered_ids(
        self, ids: Sequence[int], words: Sequence[int], draws: Sequence[float], pick: Callable[[], int]
    ) -> list[int]:
        """Alter the words of a caption.

        Args:
            ids: its ids.
            words: for each id, the number of its word; EXEMPT for marks that always stay.
            draws: one number in [0, 1) for each word.
            pick: draws an id of the vocabulary.

        Returns:
            The ids that are left; those of one word if all would be left out (G8).
        """
        altered: list[int] = []
        for number, word in zip(ids, words, strict=True):
            if word == EXEMPT or draws[word] >= self.words:
                altered.append(number)
            elif draws[word] / self.words < MASKED:
                altered.append(self.mask)
            elif draws[word] / self.words < REPLACED:
                altered.append(pick())
        if altered:
            return altered
        stays = max(range(len(draws)), key=draws.__getitem__)
        return [number for number, word in zip(ids, words, strict=True) if word == stays]


def kept_regions(draws: npt.NDArray[np.float64], chance: float) -> npt.NDArray[np.bool_]:
    """Which regions of a picture stay, from one number in [0, 1) for each; one stays in any case (G8)."""
    kept: npt.NDArray[np.bool_] = draws > chance
    if not kept.any():
        kept[draws.argmax()] = True
    return kept


def step_generator(seed: int, epoch: int, step: int) -> np.random.Generator:
    """The random numbers of a training step."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, step, STREAM]))
