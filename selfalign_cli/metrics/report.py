"""A retrieval result: its numbers, the signature by which they can be reproduced, its document and its table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from selfalign_cli import __version__
from selfalign_cli.metrics.bootstrap import intervals
from selfalign_cli.metrics.cutoffs import RECALL_TITLES, RECALLS
from selfalign_cli.metrics.ranks import Ranks
from selfalign_cli.metrics.recall import Fold, Scores, direction_scores, mean_scores, merge_folds, rsum

HEADER = ("", *RECALL_TITLES, "median", "mean", "MRR")


@dataclass(frozen=True)
class FoldScores:
    """The numbers of one fold."""

    i2t: Scores
    t2i: Scores
    rsum: float


@dataclass(frozen=True)
class RetrievalReport:
    """The result of `selfalign eval`.

    Attributes:
        split: name of the split.
        images: number of pictures, over all folds.
        captions: number of captions, over all folds.
        folds: number of folds; with several, the numbers are means over them.
        i2t: for a picture, find one of its captions.
        t2i: for a caption, find its picture.
        rsum: sum of six recalls, see `recall.rsum`.
        signature: from `signature_of`.
        checkpoints: paths of the scored files, several for an ensemble.
        per_fold: the numbers of each fold.
        intervals: 95 % bootstrap interval over pictures per metric name (`metrics.bootstrap.METRICS`).
        ranks: of every query, in data-set order.
        queries: hash of the queries, or None; equal for results that may be compared.
        eccv: per metric of ECCV Caption and CxC, percent per direction; None unless requested.
        cxc: recalls in percent of Crisscrossed Captions under i2t, t2i, i2i and t2t; None unless requested.
    """

    split: str
    images: int
    captions: int
    folds: int
    i2t: Scores
    t2i: Scores
    rsum: float
    signature: str
    checkpoints: tuple[str, ...]
    per_fold: tuple[FoldScores, ...]
    intervals: dict[str, tuple[float, float]]
    ranks: Ranks
    queries: str | None = None
    eccv: dict[str, dict[str, float]] | None = None
    cxc: dict[str, dict[str, float]] | None = None

    def to_json(self, ranks: bool = False) -> dict[str, object]:
        """The document of `selfalign eval --json`.

        Args:
            ranks: add `ranks`: per picture `i2t` and `i2t_top1`, per caption `t2i`, `t2i_top1` and
                `image_of_caption`; ranks 1-based, rows 0-based.
        """
        document: dict[str, object] = {
            "split": self.split,
            "images": self.images,
            "captions": self.captions,
            "folds": self.folds,
            "i2t": self.i2t,
            "t2i": self.t2i,
            "rsum": self.rsum,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "signature": self.signature,
            "checkpoints": list(self.checkpoints),
            "per_fold": [asdict(fold) for fold in self.per_fold],
            "queries": self.queries,
        }
        if self.eccv is not None:
            document["eccv"] = self.eccv
        if self.cxc is not None:
            document["cxc"] = self.cxc
        if ranks:
            document["ranks"] = {
                "i2t": (self.ranks.i2t_rank + 1).tolist(),
                "t2i": (self.ranks.t2i_rank + 1).tolist(),
                "i2t_top1": self.ranks.i2t_top1.tolist(),
                "t2i_top1": self.ranks.t2i_top1.tolist(),
                "image_of_caption": self.ranks.image_of_caption.tolist(),
            }
        return document

    def rows(self) -> list[tuple[str, ...]]:
        """Two table rows under `HEADER`; recalls with half the width of their interval."""
        return [self._row("image → text", "i2t", self.i2t), self._row("text → image", "t2i", self.t2i)]

    def _row(self, title: str, direction: str, scores: Scores) -> tuple[str, ...]:
        recalls = []
        for name in RECALLS:
            low, high = self.intervals[f"{direction}.{name}"]
            recalls.append(f"{scores[name]:.1f} ±{(high - low) / 2:.1f}")
        return (title, *recalls, f"{scores['median_rank']:g}", f"{scores['mean_rank']:.1f}", f"{scores['mrr']:.3f}")


def make_report(
    folds: Sequence[Fold],
    ranks: Sequence[Ranks],
    *,
    split: str,
    signature: str,
    checkpoints: Sequence[str] = (),
    queries: str | None = None,
    resamples: int = 1000,
) -> RetrievalReport:
    """Turn ranks into a report.

    Args:
        folds: from `rank_folds`.
        ranks: from `rank_folds`.
        split: name of the split.
        signature: from `signature_of`.
        checkpoints: paths of the scored files.
        queries: from `query_hash`.
        resamples: draws behind the intervals.
    """
    scores = []
    for part in ranks:
        i2t, t2i = direction_scores(part.i2t_rank), direction_scores(part.t2i_rank)
        scores.append(FoldScores(i2t, t2i, rsum(i2t, t2i)))
    i2t, t2i = mean_scores([fold.i2t for fold in scores]), mean_scores([fold.t2i for fold in scores])
    whole = merge_folds(folds, ranks)
    return RetrievalReport(
        split=split,
        images=len(whole.i2t_rank),
        captions=len(whole.t2i_rank),
        folds=len(folds),
        i2t=i2t,
        t2i=t2i,
        rsum=rsum(i2t, t2i),
        signature=signature,
        checkpoints=tuple(checkpoints),
        per_fold=tuple(scores),
        intervals=intervals(whole, resamples=resamples),
        ranks=whole,
        queries=queries,
    )


def signature_of(
    *,
    split: str,
    images: int,
    captions: int,
    folds: int,
    similarity: str,
    weights: str | None = None,
    compat: str | None = None,
    recipe: str | None = None,
    model: str | None = None,
    data: str | None = None,
    batch: int | str | None = None,
) -> str:
    """All that is needed to reproduce a number, in the manner of sacreBLEU.

    Args:
        split: name of the split.
        images: number of pictures.
        captions: number of captions.
        folds: number of folds.
        similarity: "dot" or "order".
        weights: of an ensemble, if unequal, e.g. "2,1".
        compat: "corrected" or "published"; None for embeddings of unknown origin, as the next two.
        recipe: short hash of the recipe; of an ensemble, those of its members with "+" in between.
        model: short hash of the weights, or of vectors of unknown origin; of an ensemble likewise.
        data: short hash of the data.
        batch: batch size of the encoder, where results depend on it ("published").

    Returns:
        `split:test|images:1000|captions:5000|folds:1|similarity:dot|ties:worst|compat:corrected|recipe:…|model:…|data:…|v:…`.
    """
    parts = {
        "split": split,
        "images": images,
        "captions": captions,
        "folds": folds,
        "similarity": similarity,
        "ties": "worst",
        "weights": weights,
        "compat": compat,
        "batch": batch,
        "recipe": recipe,
        "model": model,
        "data": data,
        "v": __version__,
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items() if value is not None)


def query_hash(image_ids: Sequence[str], caption_texts: Sequence[str], image_of_caption: Sequence[int]) -> str:
    """Twelve hex digits, equal for results about the same queries in the same order."""
    digest = hashlib.sha256()
    for part in (image_ids, caption_texts, [str(row) for row in image_of_caption]):
        digest.update(f"{len(part)}\n".encode())
        for text in part:
            digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]
