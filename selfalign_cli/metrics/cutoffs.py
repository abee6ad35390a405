"""Where recall is cut off, and what the numbers of a retrieval result are called wherever they are shown."""

from __future__ import annotations

CUTOFFS = (1, 5, 10)
"""The K of every recall R@K that is computed. One that is added here appears in the tables and documents of `eval`, in
metrics.jsonl and the view of a training run, among the bootstrap intervals, in `compare` and in the demo."""

RSUM_CUTOFFS = (1, 5, 10)
"""What `rsum` sums up over both directions: a published definition, which further `CUTOFFS` do not change."""
SELECTION_CUTOFFS = (1, 5)
"""What the published programs choose their best checkpoint by (D6), likewise fixed."""

DIRECTIONS = ("i2t", "t2i")


def recall_name(k: int) -> str:
    """Name of R@k in documents and logs: `r5`."""
    return f"r{k}"


RECALLS = tuple(recall_name(k) for k in CUTOFFS)
RECALL_TITLES = tuple(f"R@{k}" for k in CUTOFFS)
"""Column titles, in the order of `RECALLS`."""
