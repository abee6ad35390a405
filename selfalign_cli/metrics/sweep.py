"""One pass over all scores, block by block: each query's score with its own candidate, and its best wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from selfalign_cli.errors import DataError
from selfalign_cli.metrics.copies import Arrangement
from selfalign_cli.metrics.score_blocks import ScoreBlocks

KEPT_BYTES = 128 << 20
"""Memory for blocks that contain own pairs: a small matrix is multiplied once, and a large one has few such blocks."""


@dataclass(frozen=True)
class Sweep:
    """A pass over the scores of all pictures with all captions, and the blocks it is done in.

    Attributes:
        blocks: the scores.
        images: the pictures, copies adjacent.
        captions: the captions, best in the order of their pictures, so that few blocks contain own pairs.
        image_of_caption: (M,) int64.
        image_block: distinct pictures scored at once.
        caption_block: distinct captions scored at once.
        device: where the scores are.
        dtype: of the scores.
    """

    blocks: ScoreBlocks
    images: Arrangement
    captions: Arrangement
    image_of_caption: Tensor
    image_block: int
    caption_block: int
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Tally:
    """Running counts of one direction, per query; queries and candidates are numbered by their positions in `rows`.

    Attributes:
        own: (n,) score to reach.
        count: (n,) int64, wrong candidates that reach it.
        best: (n,) highest score of a wrong candidate, -inf without one.
        candidate: (n,) int64, the first wrong candidate with that score, if it reaches `own`.
    """

    own: Tensor
    count: Tensor
    best: Tensor
    candidate: Tensor

    @classmethod
    def start(cls, own: Tensor) -> Tally:
        count = torch.zeros(len(own), dtype=torch.int64, device=own.device)
        return cls(own, count, torch.full_like(own, -torch.inf), torch.full_like(count, -1))

    def add(self, queries: slice, first: int, scores: Tensor, reached: Tensor) -> None:
        """Count a block.

        Args:
            queries: which queries.
            first: number of the first candidate of the block.
            scores: (queries, candidates), -inf where the candidate is right.
            reached: scratch memory of the same shape and dtype; numbers, unlike bools, are summed by one product.
        """
        own, record = self.own[queries], self.best[queries]
        torch.ge(scores, own.unsqueeze(1), out=reached)
        self.count[queries] += (reached @ reached.new_ones(reached.shape[1])).long()
        best = scores.amax(dim=1)
        better = ((best > record) & (best >= own)).nonzero().squeeze(1)
        if len(better):
            self.candidate[queries][better] = scores[better].argmax(dim=1) + first
        torch.maximum(record, best, out=record)  # in place, and keeps NaN


def own_scores(sweep: Sweep) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Score every caption with its own picture, from the blocks that contain these pairs.

    Returns:
        (M,) scores, captions in data-set order, and the blocks kept for `compare`, by (picture, caption) block number.

    Raises:
        DataError: such a score is not finite.
    """
    captions = sweep.captions
    own = torch.empty(len(captions.rows), dtype=sweep.dtype, device=sweep.device)
    image_position = sweep.images.index[sweep.images.positions()[sweep.image_of_caption[captions.rows]]]
    kept: dict[tuple[int, int], Tensor] = {}
    budget = KEPT_BYTES
    for number, start in enumerate(range(0, len(captions.distinct), sweep.caption_block)):
        sweep.blocks.load_captions(captions.distinct[start : start + sweep.caption_block])
        span = captions.members(start, start + sweep.caption_block)
        rows, columns = image_position[span], captions.index[span] - start
        block_of_pair = rows // sweep.image_block
        for image_number in sorted(set(block_of_pair.tolist())):
            first = image_number * sweep.image_block
            scores = sweep.blocks.score(sweep.images.distinct[first : first + sweep.image_block])
            pairs = (block_of_pair == image_number).nonzero().squeeze(1)
            own[captions.rows[span][pairs]] = scores[rows[pairs] - first, columns[pairs]]
            budget -= scores.numel() * scores.element_size()
            if budget >= 0:
                kept[image_number, number] = scores
    if not torch.isfinite(own).all():
        faulty = int((~torch.isfinite(own)).nonzero()[0])
        raise DataError(f"the score of caption row {faulty} with its picture is {own[faulty]:g}; expected a number")
    return own, kept


def compare(sweep: Sweep, own: Tensor, best_own: Tensor, kept: dict[tuple[int, int], Tensor]) -> tuple[Tally, Tally]:
    """Compare the scores of all wrong pairs with those of the right ones.

    Args:
        sweep: the pass.
        own: (M,) score of each caption with its picture.
        best_own: (N,) the largest of these per picture.
        kept: blocks that `own_scores` has computed already; emptied.

    Returns:
        The pictures' tally and the captions' tally, numbered by position.

    Raises:
        DataError: a score is not a number.
    """
    images, captions = sweep.images, sweep.captions
    of_images, of_captions = Tally.start(best_own[images.rows]), Tally.start(own[captions.rows])
    right = images.positions()[sweep.image_of_caption[captions.rows]]  # (M,) position of each caption's picture
    scratch = torch.empty(sweep.image_block * sweep.caption_block, dtype=sweep.dtype, device=sweep.device)
    for number, start in enumerate(range(0, len(captions.distinct), sweep.caption_block)):
        sweep.blocks.load_captions(captions.distinct[start : start + sweep.caption_block])
        for image_number, first in enumerate(range(0, len(images.distinct), sweep.image_block)):
            block = kept.pop((image_number, number), None)
            if block is None:
                block = sweep.blocks.score(images.distinct[first : first + sweep.image_block])
            for rows, columns, scores in spread(sweep, block, first, start):
                picture = right[columns] - rows.start
                here = ((picture >= 0) & (picture < len(scores))).nonzero().squeeze(1)
                scores[picture[here], here] = -torch.inf
                reached = scratch[: scores.numel()].view(scores.shape)
                of_images.add(rows, columns.start, scores, reached)
                of_captions.add(columns, rows.start, scores.T, reached.T)
    if of_images.best.isnan().any():
        faulty = int(images.rows[int(of_images.best.isnan().nonzero()[0])])
        raise DataError(f"a score of picture row {faulty} is not a number; expected finite scores")
    return of_images, of_captions


def spread(sweep: Sweep, block: Tensor, first: int, start: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Copy the scores of distinct rows to all their copies, in pieces no larger than a block.

    Args:
        sweep: the pass.
        block: (p, q) scores of the pictures `images.distinct[first : first + p]` with the captions
            `captions.distinct[start : start + q]`.
        first: number of the first picture.
        start: number of the first caption.

    Yields:
        Positions of pictures, positions of captions, their scores, which may be overwritten.
    """
    rows = sweep.images.members(first, first + len(block))
    columns = sweep.captions.members(start, start + block.shape[1])
    if (rows.stop - rows.start, columns.stop - columns.start) == block.shape:
        yield rows, columns, block
        return
    for some_rows in _pieces(rows, sweep.image_block):
        some = block.index_select(0, (sweep.images.index[some_rows] - first).to(block.device))
        for some_columns in _pieces(columns, sweep.caption_block):
            piece = some.index_select(1, (sweep.captions.index[some_columns] - start).to(block.device))
            yield some_rows, some_columns, piece


def _pieces(span: slice, size: int) -> Iterator[slice]:
    """Cut a range of positions."""
    for start in range(span.start, span.stop, size):
        yield slice(start, min(start + size, span.stop))
