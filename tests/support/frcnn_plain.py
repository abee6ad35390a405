"""The detector a second time, after docs/FRCNN.md: norms as they are, loops over cells, boxes and regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Settings = dict[str, Any]
State = dict[str, Tensor]
CLAMP = math.log(1000 / 16)


def preprocess(picture: NDArray[np.uint8], settings: Settings) -> tuple[Tensor, tuple[float, float]]:
    """Section 1: pixels (1, 3, H, W) in double precision, and raw / resized sizes in single precision."""
    small, large = settings["input"]["min_size_test"], settings["input"]["max_size_test"]
    height, width = picture.shape[:2]
    sides = [small, small * width / height] if height <= width else [small * height / width, small]
    if max(sides) > large:
        sides = [side * large / max(sides) for side in sides]
    new_height, new_width = (int(side + 0.5) for side in sides)
    bgr = picture[:, :, ::-1].astype(np.float64)
    resized = resize(resize(bgr, new_height, 0), new_width, 1)
    model = settings["model"]
    pixels = (resized - np.array(model["pixel_mean"])) / np.array(model["pixel_std"])
    scales = (float(np.float32(height) / np.float32(new_height)), float(np.float32(width) / np.float32(new_width)))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None], scales


def resize(values: NDArray[np.float64], length: int, axis: int) -> NDArray[np.float64]:
    """Bilinear along one axis: pixel centres at half integers, clamped at the edges, no antialiasing."""
    before = values.shape[axis]
    lines = []
    for i in range(length):
        source = min(max((i + 0.5) * before / length - 0.5, 0), before - 1)
        low = int(source)
        high = min(low + 1, before - 1)
        part = source - low
        lines.append((1 - part) * values.take(low, axis) + part * values.take(high, axis))
    return np.stack(lines, axis)


def normed(x: Tensor, state: State, name: str, **options: int) -> Tensor:
    x = functional.conv2d(x, state[f"{name}.weight"], **options)
    mean, variance, weight, bias = (
        state[f"{name}.norm.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def stage(x: Tensor, state: State, name: str, settings: Settings, *, stride: int, dilation: int = 1) -> Tensor:
    """All blocks of a stage, as many as the weights have."""
    resnets = settings["resnets"]
    block = 0
    while f"{name}.{block}.conv1.weight" in state:
        prefix, step = f"{name}.{block}", stride if block == 0 else 1
        first, second = (step, 1) if resnets["stride_in_1x1"] else (1, step)
        inner = normed(x, state, f"{prefix}.conv1", stride=first).relu()
        options = {"stride": second, "padding": dilation, "dilation": dilation, "groups": resnets["num_groups"]}
        inner = normed(inner, state, f"{prefix}.conv2", **options).relu()
        if f"{prefix}.shortcut.weight" in state:
            x = normed(x, state, f"{prefix}.shortcut", stride=step)
        x = (normed(inner, state, f"{prefix}.conv3") + x).relu()
        block += 1
    return x


def backbone(pixels: Tensor, state: State, settings: Settings) -> Tensor:
    """Section 2."""
    x = normed(pixels, state, "backbone.stem.conv1", stride=2, padding=3).relu()
    if settings["model"]["max_pool"]:
        x = functional.pad(x, (0, 2, 0, 2), value=-math.inf)  # every window that starts inside counts
        x = functional.max_pool2d(x, 3, 2)[:, :, : caffe(pixels.shape[2]), : caffe(pixels.shape[3])]
    else:
        x = functional.max_pool2d(functional.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 2)
    for name, stride in (("res2", 1), ("res3", 2), ("res4", 2)):
        x = stage(x, state, f"backbone.{name}", settings, stride=stride)
    return x


def caffe(length: int) -> int:
    return math.ceil(((length - 1) // 2 + 1 - 3) / 2) + 1


def decode(delta: list[float], box: list[float], weights: list[float]) -> list[float]:
    dx, dy, dw, dh = (value / weight for value, weight in zip(delta, weights, strict=True))
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + width / 2 + dx * width, box[1] + height / 2 + dy * height
    width, height = width * math.exp(min(dw, CLAMP)), height * math.exp(min(dh, CLAMP))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def clip(box: list[float], height: int, width: int) -> list[float]:
    return [min(max(value, 0), limit) for value, limit in zip(box, (width, height, width, height), strict=True)]


def iou(one: list[float], other: list[float], kind: Callable[[float], np.floating[Any]] = np.float64) -> float:
    """NaN for two boxes without area; the quotient is one of type `kind`."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = areas[0] + areas[1] - width * height
    return float(kind(width * height) / kind(union)) if union else math.nan


def nms(
    boxes: list[list[float]],
    scores: list[float],
    threshold: float,
    kind: Callable[[float], np.floating[Any]] = np.float64,
) -> list[int]:
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda number: -scores[number]):  # a stable sort
        if not any(iou(boxes[earlier], boxes[number], kind) > threshold for earlier in kept):
            kept.append(number)
    return kept


def proposals(features: Tensor, state: State, settings: Settings, height: int, width: int) -> list[list[float]]:
    """Section 3."""
    rpn, head = settings["rpn"], "proposal_generator.rpn_head"
    x = functional.conv2d(features, state[f"{head}.conv.weight"], state[f"{head}.conv.bias"], padding=1).relu()
    maps = [
        functional.conv2d(x, state[f"{head}.{name}.weight"], state[f"{head}.{name}.bias"])[0]
        for name in ("objectness_logits", "anchor_deltas")
    ]
    anchors = state["proposal_generator.anchor_generator.cell_anchors.0"].tolist()
    offset = settings["anchor_generator"]["offset"]
    found = []
    for y in range(features.shape[2]):
        for x_ in range(features.shape[3]):
            centre = [(x_ + offset) * 16, (y + offset) * 16] * 2
            for a, anchor in enumerate(anchors):
                box = [middle + value for middle, value in zip(centre, anchor, strict=True)]
                delta = maps[1][4 * a : 4 * a + 4, y, x_].tolist()
                found.append((maps[0][a, y, x_].item(), decode(delta, box, rpn["bbox_reg_weights"])))
    found.sort(key=lambda entry: -entry[0])
    boxes, logits = [], []
    for logit, box in found[: rpn["pre_nms_topk_test"]]:
        x1, y1, x2, y2 = clip(box, height, width)
        if min(x2 - x1, y2 - y1) > settings["proposal_generator"]["min_size"]:
            boxes.append([x1, y1, x2, y2])
            logits.append(logit)
    return [boxes[number] for number in nms(boxes, logits, rpn["nms_thresh"])[: rpn["post_nms_topk_test"]]]


def rounded(value: float) -> int:
    """Halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def roi_pool(features: Tensor, box: list[float], size: int) -> Tensor:
    """Section 4: one region of (C, h, w) to (C, size, size), in the precision of the features (F6)."""
    kind = np.float32 if features.dtype == torch.float32 else np.float64
    pooled = torch.zeros(len(features), size, size, dtype=features.dtype)
    spans = []
    for low, high, length in ((box[1], box[3], features.shape[1]), (box[0], box[2], features.shape[2])):
        start, end = rounded(low / 16), rounded(high / 16)
        step = kind(max(end - start + 1, 1)) / kind(size)
        edges = [(math.floor(kind(i) * step) + start, math.ceil(kind(i + 1) * step) + start) for i in range(size)]
        spans.append([tuple(min(max(edge, 0), length) for edge in pair) for pair in edges])
    for i, (top, bottom) in enumerate(spans[0]):
        for j, (left, right) in enumerate(spans[1]):
            if top < bottom and left < right:
                pooled[:, i, j] = features[:, top:bottom, left:right].amax((1, 2))
    return pooled


def detect(pixels: Tensor, scales_yx: Sequence[float], state: State, settings: Settings) -> dict[str, Any]:
    """Sections 2 to 6 in double precision: results by the names of section 6."""
    state = {name: value.double() for name, value in state.items()}
    pixels, (scale_y, scale_x) = pixels.double(), scales_yx
    height, width = pixels.shape[2:]
    features = backbone(pixels, state, settings)
    candidates = []
    box_head, classes = settings["roi_box_head"], settings["roi_heads"]["num_classes"]
    halves = box_head["res5halve"]
    for box in proposals(features, state, settings, height, width):
        region = roi_pool(features[0], box, box_head["pooler_resolution"])[None]
        shape = {"stride": 2} if halves else {"stride": 1, "dilation": 2}
        vector = stage(region, state, "roi_heads.res5", settings, **shape).mean((2, 3))[0]
        logits, deltas = (linear(vector, state, name) for name in ("cls_score", "bbox_pred"))
        embedded = state["roi_heads.box_predictor.cls_embedding.weight"][logits.argmax()]
        attributes = linear(linear(torch.cat((vector, embedded)), state, "fc_attr").relu(), state, "attr_score")
        attribute = attributes[:-1].softmax(0)
        score, best = logits.softmax(0)[:classes].max(0)
        moved = decode(deltas[4 * best : 4 * best + 4].tolist(), box, box_head["bbox_reg_weights"])
        candidates.append((clip(moved, height, width), score.item(), int(best), attribute, vector))
    thresholds = settings["roi_heads"]["nms_thresh_test"]
    for threshold in thresholds if isinstance(thresholds, list) else [thresholds]:
        kept = nms([one[0] for one in candidates], [one[1] for one in candidates], threshold)
        kept = kept[: settings["max_detections"]]
        if len(kept) >= settings["min_detections"]:
            break
    chosen = [candidates[number] for number in kept]
    scale = torch.tensor([scale_x, scale_y, scale_x, scale_y]).double()
    return {
        "boxes": torch.tensor([one[0] for one in chosen], dtype=torch.float64) * scale,
        "obj_ids": torch.tensor([one[2] for one in chosen]),
        "obj_probs": torch.tensor([one[1] for one in chosen], dtype=torch.float64),
        "attr_ids": torch.stack([one[3].argmax() for one in chosen]),
        "attr_probs": torch.stack([one[3].max() for one in chosen]),
        "roi_features": torch.stack([one[4] for one in chosen]),
        "sizes": torch.tensor([height, width]),
    }


def linear(x: Tensor, state: State, name: str) -> Tensor:
    prefix = f"roi_heads.box_predictor.{name}"
    return functional.linear(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"])
