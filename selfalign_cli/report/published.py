"""Published recalls, to set own ones beside: only those of the same data set and the same way to count.

All are their authors' numbers, copied; none was measured here. SelfAlign's own paper is not among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfalign_cli.report.inputs import METRICS, Result

Benchmark = Literal["f30k", "coco-1k", "coco-5k"]
TITLES: dict[Benchmark, str] = {
    "f30k": "Flickr30K, 1,000 test pictures",
    "coco-1k": "MSCOCO, five folds of 1,000 test pictures",
    "coco-5k": "MSCOCO, 5,000 test pictures",
}
VSRN = "Li et al., Visual Semantic Reasoning for Image-Text Matching, ICCV 2019, arXiv 1909.02701"
CAMERA = "Qu et al., Context-Aware Multi-View Summarization Network, ACM MM 2020, doi 10.1145/3394171.3413961"
GPO = "Chen et al., Learning the Best Pooling Strategy for Visual Semantic Embedding, CVPR 2021, arXiv 2011.04305"


@dataclass(frozen=True)
class Row:
    """A published row: six recalls in the order of `METRICS`, and how many models were averaged."""

    name: str
    members: int
    recalls: tuple[float, float, float, float, float, float]
    source: str

    @property
    def scores(self) -> dict[str, float]:
        """By the names of `METRICS`; rsum is the sum of the six."""
        return dict(zip(METRICS, (*self.recalls, round(sum(self.recalls), 1)), strict=True))


ROWS: dict[Benchmark, tuple[Row, ...]] = {
    "f30k": (
        Row("VSRN", 2, (71.3, 90.6, 96.0, 54.7, 81.8, 88.2), VSRN),
        Row("CAMERA", 2, (78.0, 95.1, 97.9, 60.3, 85.9, 91.7), CAMERA),
        Row("VSE∞, regions, BiGRU", 1, (76.5, 94.2, 97.7, 56.4, 83.4, 89.9), GPO),
        Row("VSE∞, regions, BERT", 1, (81.7, 95.4, 97.6, 61.4, 85.9, 91.5), GPO),
    ),
    "coco-1k": (
        Row("VSRN", 2, (76.2, 94.8, 98.2, 62.8, 89.7, 95.1), VSRN),
        Row("CAMERA", 2, (77.5, 96.3, 98.8, 63.4, 90.9, 95.8), CAMERA),
        Row("VSE∞, regions, BiGRU", 1, (78.5, 96.0, 98.7, 61.7, 90.3, 95.6), GPO),
        Row("VSE∞, regions, BERT", 1, (79.7, 96.4, 98.9, 64.8, 91.4, 96.3), GPO),
    ),
    "coco-5k": (
        Row("VSRN", 2, (53.0, 81.1, 89.4, 40.5, 70.6, 81.1), VSRN),
        Row("CAMERA", 2, (55.1, 82.9, 91.2, 40.5, 71.7, 82.5), CAMERA),
        Row("VSE∞, regions, BiGRU", 1, (56.6, 83.6, 91.4, 39.3, 69.9, 81.1), GPO),
        Row("VSE∞, regions, BERT", 1, (58.3, 85.3, 92.3, 42.4, 72.7, 83.2), GPO),
    ),
}


def benchmark_of(result: Result, names: str) -> Benchmark | None:
    """Which published numbers a result can be set beside; None for none.

    Args:
        result: its counts must be those of the data set; 1,000 pictures alone may be either of two.
        names: paths of features and recipes, in which the data set is looked for.
    """
    lower = names.lower()
    if "coco" in lower and (result.images, result.folds) == (5000, 5):
        return "coco-1k"
    if "coco" in lower and (result.images, result.folds) == (5000, 1):
        return "coco-5k"
    if ("f30k" in lower or "flickr" in lower) and (result.images, result.folds) == (1000, 1):
        return "f30k"
    return None
