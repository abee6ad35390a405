"""The explanation of one score, and how it is made for a picture of a feature file and any caption."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.pairs import collate_images
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.explain.leave_out import (
    encode_leave_outs,
    encode_token_rows,
    interaction,
    region_changes,
    score_table,
    without_words,
)

METHOD = "leave-out"
MOST_WORDS = 200
"""Words of the longest caption that is explained; each costs an encoding."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Explanation:
    """Why a picture and a caption have their score: W words, R regions.

    Attributes:
        image: id of the picture.
        caption: the caption as written.
        score: of the pair, as `search` gives it; without the words in `off`.
        words: W words as the model reads them.
        off: places of words that are left out everywhere.
        boxes: of the R regions in pixels; None where the file has none.
        region_changes: R numbers, what each region adds to the score: S(T, P) − S(T, P∖r).
        word_changes: W numbers, what each word adds to the score; 0 for words in `off`.
        interaction: W rows of R numbers, what each word and region add together; 0 for words in `off`.
        unknown_words: words that the model does not know.
    """

    image: str
    caption: str
    score: float
    words: tuple[str, ...]
    off: frozenset[int]
    boxes: tuple[Box, ...] | None
    region_changes: tuple[float, ...]
    word_changes: tuple[float, ...]
    interaction: tuple[tuple[float, ...], ...]
    unknown_words: tuple[str, ...]

    @property
    def order(self) -> list[int]:
        """Regions, those first that add most."""
        return sorted(range(len(self.region_changes)), key=lambda region: -self.region_changes[region])

    def to_json(self) -> dict[str, Any]:
        """The document of `selfalign explain --json`."""
        boxes = self.boxes or [None] * len(self.region_changes)
        return {
            "image": self.image,
            "caption": self.caption,
            "score": self.score,
            "words": list(self.words),
            "off": sorted(self.off),
            "word_changes": list(self.word_changes),
            "regions": [
                {"box": None if box is None else list(box), "score_change": change}
                for box, change in zip(boxes, self.region_changes, strict=True)
            ],
            "interaction": [list(row) for row in self.interaction],
            "unknown_words": list(self.unknown_words),
            "method": METHOD,
        }


@dataclass(frozen=True)
class LeaveOuts:
    """A picture that is ready to be explained with any number of captions.

    Attributes:
        image: its id.
        boxes: of its R regions, or None.
        vectors: of the picture and of the R without a region.
    """

    image: str
    boxes: tuple[Box, ...] | None
    vectors: RetrievalVectors


def row_of(file: FeatureFile, image_id: str) -> int:
    """The row of a picture.

    Raises:
        DataError: there is none of this id; similar ids are named.
    """
    try:
        return file.image_ids.index(image_id)
    except ValueError:
        similar = get_close_matches(image_id, file.image_ids, n=3, cutoff=0.5) or file.image_ids[:3]
        raise DataError(
            f"{file.path} has no picture {image_id!r}; it has {', '.join(map(repr, similar))}"
            f"{' …' if len(file) > len(similar) else ''}",
            f"selfalign inspect {file.path}",
        ) from None


def leave_outs(retriever: Retriever, file: FeatureFile, row: int) -> LeaveOuts:
    """Encode a picture with all its regions, and without each of them.

    Raises:
        DataError: it has one region, or none.
    """
    picture = collate_images(file, [row])
    name = file.image_ids[row]
    if picture.features.shape[1] < 2:
        raise DataError(
            f"{file.path}: picture {name} has one region; without it there is nothing left to score",
            "features of more regions can be explained",
        )
    boxes = file.boxes(row)
    as_tuples = None if boxes is None else tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.tolist())
    return LeaveOuts(name, as_tuples, encode_leave_outs(retriever, picture))


def explain(retriever: Retriever, picture: LeaveOuts, caption: str, *, off: Collection[int] = ()) -> Explanation:
    """Explain the score of a picture with a caption.

    Args:
        retriever: the model.
        picture: from `leave_outs`.
        caption: any text.
        off: places of words to leave out of the caption, as if they had not been written.

    Raises:
        DataError: the caption has no words or too many, or there is no word at a place.
    """
    spans = retriever.captions.word_spans(caption)
    _expect_words(caption, len(spans), off)
    on = [place for place in range(len(spans)) if place not in off]
    written = retriever.captions.encode(caption)
    gone = {position for place in off for position in spans[place][1]}
    rows = without_words(written, [{*gone, *spans[place][1]} for place in on])
    rows[0] = without_words(written, [gone])[1]
    scores = score_table(picture.vectors, encode_token_rows(retriever, rows), retriever.identity.similarity)
    together = dict(zip(on, interaction(scores).tolist(), strict=True))
    regions = region_changes(scores)[:, 0].tolist()
    changes = dict(zip(on, (scores[0, 0] - scores[0, 1:]).tolist(), strict=True))
    return Explanation(
        image=picture.image,
        caption=caption,
        score=float(scores[0, 0]),
        words=tuple(word for word, _ in spans),
        off=frozenset(off),
        boxes=picture.boxes,
        region_changes=tuple(regions),
        word_changes=tuple(changes.get(place, 0.0) for place in range(len(spans))),
        interaction=tuple(tuple(together.get(place, [0.0] * len(regions))) for place in range(len(spans))),
        unknown_words=tuple(retriever.unknown_words(caption)),
    )


def phrase_interaction(
    retriever: Retriever, picture: LeaveOuts, caption: str, phrases: Sequence[Collection[int]]
) -> list[list[float]]:
    """What each phrase, left out as a whole, and each region add together.

    Args:
        retriever: the model.
        picture: from `leave_outs`.
        caption: any text.
        phrases: K groups of places of words.

    Returns:
        K rows of R numbers.
    """
    spans = retriever.captions.word_spans(caption)
    groups = [{position for place in phrase for position in spans[place][1]} for phrase in phrases]
    rows = without_words(retriever.captions.encode(caption), groups)
    found = interaction(
        score_table(picture.vectors, encode_token_rows(retriever, rows), retriever.identity.similarity)
    )
    return [[float(value) for value in row] for row in found.tolist()]


def _expect_words(caption: str, count: int, off: Collection[int]) -> None:
    if not count:
        raise DataError(f"the caption {caption!r:.80} has no words; expected at least one")
    if count > MOST_WORDS:
        raise DataError(f"the caption has {count:,} words; at most {MOST_WORDS} are explained", "shorten it")
    wrong = [place for place in off if not 0 <= place < count]
    if wrong:
        raise DataError(f"there is no word {wrong[0]}; the caption has words 0 to {count - 1}")
