"""What a region is: pooled features through res5, then classes, attributes and a better box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.extract.frcnn.backbone import STRIDE, stage
from selfalign_cli.extract.frcnn.config import FrcnnConfig
from selfalign_cli.extract.frcnn.ops import require_finite, roi_max_pool

REGIONS_AT_ONCE = 32
"""How many regions go through res5 together, which takes 7 MiB a region at the published size."""


class Regions(NamedTuple):
    """What the heads compute for n regions.

    Attributes:
        features: (n, 8 · res2_channels), mean of res5 over the region.
        class_logits: (n, classes + 1), background last.
        attribute_logits: (n, attributes + 1), "none" last.
        deltas: (n, 4 · classes), four for each class.
    """

    features: Tensor
    class_logits: Tensor
    attribute_logits: Tensor
    deltas: Tensor


class BoxPredictor(nn.Module):
    """Linear heads on a region's feature; attributes also see which class it is thought to be."""

    def __init__(self, config: FrcnnConfig) -> None:
        super().__init__()
        width = 8 * config.res2_channels
        self.cls_score = nn.Linear(width, config.classes + 1)
        self.bbox_pred = nn.Linear(width, 4 * config.classes)
        # No nn.Embedding: drawing its numbers on the meta device makes torch import its compiler, which takes seconds.
        self.cls_embedding = nn.ParameterDict({"weight": torch.zeros(config.classes + 1, width // 8)})
        self.fc_attr = nn.Linear(width + width // 8, width // 4)
        self.attr_score = nn.Linear(width // 4, config.attributes + 1)

    def forward(self, features: Tensor) -> Regions:
        class_logits = self.cls_score(features)
        believed = self.cls_embedding["weight"][class_logits.argmax(dim=1)]  # F8: background is a class here
        inner = functional.relu(self.fc_attr(torch.cat((features, believed), dim=1)))
        return Regions(features, class_logits, self.attr_score(inner), self.bbox_pred(features))


class RoiHeads(nn.Module):
    """res4 and boxes to what the boxes hold."""

    def __init__(self, config: FrcnnConfig) -> None:
        super().__init__()
        # F7: where the published res5 does not halve the region, it is dilated instead.
        stride, dilation = (2, 1) if config.res5_halves else (1, 2)
        self.res5 = stage(config, 5, stride=stride, dilation=dilation)
        self.box_predictor = BoxPredictor(config)
        self.pooled_size = config.pooled_size

    def forward(self, features: Tensor, boxes: Tensor) -> Regions:
        """Describe regions.

        Args:
            features: (1, C, h, w), res4.
            boxes: (n, 4) in resized pixels.
        """
        # F14: the feature is that of the proposal, not of the box that comes out.
        means = [self.res5(self.pool(features, part)).mean(dim=(2, 3)) for part in torch.split(boxes, REGIONS_AT_ONCE)]
        described: Regions = self.box_predictor(torch.cat(means))
        require_finite(*described)
        return described

    def pool(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Cut regions out of res4: (n, C, pooled_size, pooled_size)."""
        return roi_max_pool(features[0], boxes, self.pooled_size, 1 / STRIDE)
