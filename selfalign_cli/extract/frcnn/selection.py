"""Which regions of a picture are kept: one candidate a proposal, thinned out until there are few, but enough."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfalign_cli.extract.frcnn.config import FrcnnConfig
from selfalign_cli.extract.frcnn.heads import Regions
from selfalign_cli.extract.frcnn.ops import clip, decode, nms


class Candidates(NamedTuple):
    """The best class of each proposal, with its probability and its box (clipped, resized pixels)."""

    classes: Tensor
    scores: Tensor
    boxes: Tensor


def candidates(proposals: Tensor, regions: Regions, config: FrcnnConfig, height: int, width: int) -> Candidates:
    """Take the best class of each proposal, background left out, and the box that belongs to it.

    Args:
        proposals: (n, 4).
        regions: what the heads say about them.
        config: the detector's.
        height, width: of the resized picture.
    """
    foreground = regions.class_logits.softmax(dim=1)[:, : config.classes]
    scores, classes = foreground.max(dim=1)
    deltas = regions.deltas.view(-1, config.classes, 4)
    chosen = deltas[torch.arange(len(deltas), device=deltas.device), classes]
    return Candidates(classes, scores, clip(decode(chosen, proposals, config.box_weights), height, width))


def select(boxes: Tensor, scores: Tensor, config: FrcnnConfig) -> Tensor:
    """Numbers of the candidates that stay, by descending score; F12: none is dropped for a low one.

    Suppression does not look at classes (F10). Thresholds are tried in turn, until one leaves enough. Where none does,
    e.g. on tiny pictures, the result is what the last one left: the published code fails there, or gives boxes of
    another picture (F11).
    """
    for threshold in config.nms_thresholds:
        kept = nms(boxes, scores, threshold, at_most=config.max_detections)
        if len(kept) >= config.min_detections:
            break
    return kept
