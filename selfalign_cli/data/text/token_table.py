"""Captions as token ids, encoded once, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from selfalign_cli.data.features.array_in_file import ArrayInFile
from selfalign_cli.encodings import TextBatch
from selfalign_cli.errors import DataError

Rows = npt.NDArray[np.int64]
Text = TypeVar("Text")


@dataclass(frozen=True)
class TokenTable:
    """The token ids of many captions, one after the other.

    Attributes:
        ids: (sum of lengths,) int32 token ids.
        offsets: (M + 1,) int64; caption m has ids offsets[m] to offsets[m + 1].
        cut: number of captions that were longer than allowed and were cut.
        states: (sum of lengths, E) float32 token states of a frozen token encoder in a file, one row per id; None to
            leave them to the model.
        words: (sum of lengths,) int32, for each id the number of its word in its caption; None where nobody asks.
    """

    ids: npt.NDArray[np.int32]
    offsets: Rows
    cut: int = 0
    states: ArrayInFile | None = None
    words: npt.NDArray[np.int32] | None = None

    @classmethod
    def encode(
        cls,
        captions: Sequence[Text],
        encode: Callable[[Text], list[int]],
        max_words: int | None = None,
        words: Callable[[Text], list[int]] | None = None,
    ) -> TokenTable:
        """Encode captions once and for all.

        Args:
            captions: M texts, or whatever `encode` takes.
            encode: gives the ids of a text, marks for start and end included.
            max_words: longest caption, marks included; longer ones keep their first ids and their end mark.
            words: gives the number of its word for each of those ids; None leaves `words` out.
        """
        rows = [encode(caption) for caption in captions]
        cut = 0 if max_words is None else sum(len(row) > max_words for row in rows)
        rows = _shortened(rows, max_words)
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        numbers = None if words is None else _flat(_shortened([words(caption) for caption in captions], max_words))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(_flat(rows), offsets, cut, words=numbers)

    def __len__(self) -> int:
        """Number M of captions."""
        return len(self.offsets) - 1

    def row(self, number: int) -> npt.NDArray[np.int32]:
        """Ids of one caption."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]

    def words_of(self, number: int) -> npt.NDArray[np.int32]:
        """Word numbers of one caption, where the table has them."""
        assert self.words is not None
        return self.words[self.offsets[number] : self.offsets[number + 1]]

    def lengths(self, rows: npt.ArrayLike) -> Rows:
        """Number of ids of some captions."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths: Rows = self.offsets[rows + 1] - self.offsets[rows]
        return lengths

    def batch(self, rows: npt.ArrayLike, width: int | None = None) -> TextBatch:
        """Collate some captions, as `collate_texts`; with their token states where the table has them.

        Raises:
            RunError: the file of the states was replaced or cut short.
        """
        rows = np.asarray(rows, dtype=np.int64)
        texts = collate_texts([self.row(row) for row in rows], width)
        if self.states is None:
            return texts
        states = np.zeros((*texts.ids.shape, self.states.extent.shape[1]), dtype=np.float32)
        for position, (row, length) in enumerate(zip(rows, self.lengths(rows), strict=True)):
            self.states.read_into(int(self.offsets[row]), states[position, :length])
        return replace(texts, states=torch.from_numpy(states))


def _shortened(rows: list[list[int]], most: int | None) -> list[list[int]]:
    """Rows of at most so many entries, the last of each kept."""
    if most is None:
        return rows
    return [row if len(row) <= most else [*row[: most - 1], row[-1]] for row in rows]


def _flat(rows: list[list[int]]) -> npt.NDArray[np.int32]:
    return np.fromiter((number for row in rows for number in row), dtype=np.int32, count=sum(map(len, rows)))


def collate_texts(captions: Sequence[npt.ArrayLike], width: int | None = None) -> TextBatch:
    """Pad the ids of some captions with 0, to the longest of them or to a fixed width.

    Args:
        captions: B lists of ids.
        width: number of columns; None for the longest caption.

    Raises:
        DataError: a caption is longer than `width`.
    """
    rows = [np.asarray(caption, dtype=np.int64) for caption in captions]
    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    longest = int(lengths.max(initial=0))
    if width is not None and longest > width:
        raise DataError(f"a caption has {longest} tokens; expected at most {width}", "raise data.max_words")
    ids = np.zeros((len(rows), longest if width is None else width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return TextBatch(torch.from_numpy(ids), torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None]))
