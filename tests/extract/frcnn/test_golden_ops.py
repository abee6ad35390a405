"""Single steps against the golden numbers, which come from torchvision's own RoI pooling and suppression."""

from __future__ import annotations

import pytest
import torch
from support.golden import PRECISIONS, difference, golden_root, tensors

from selfalign_cli.extract.frcnn.ops import decode, nms, roi_max_pool

OPS = tensors(golden_root() / "frcnn" / "ops.safetensors")
THRESHOLDS = [name.removeprefix("nms.keep_") for name in OPS if name.startswith("nms.keep_")]
DECODED = {"rpn": (1.0, 1.0, 1.0, 1.0), "roi": (10.0, 10.0, 5.0, 5.0)}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pooling(precision):
    dtype, expected = PRECISIONS[precision], OPS[f"roi_pool.{precision}.pooled"]
    features, boxes = (OPS[f"roi_pool.in.{name}"].to(dtype) for name in ("features", "boxes"))
    assert torch.equal(roi_max_pool(features[0], boxes, expected.shape[-1], 1 / 16), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("head", DECODED)
def test_decoding(head, precision):
    dtype, expected = PRECISIONS[precision], OPS[f"decode.{precision}.{head}"]
    deltas, boxes = (OPS[f"decode.in.{name}"].to(dtype) for name in ("deltas", "boxes"))
    # Exponentials differ in the last digit between machines.
    allowed = 4 * torch.finfo(dtype).eps * float(expected.abs().max())
    assert difference(decode(deltas, boxes, DECODED[head]), expected) <= allowed


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_suppression(threshold):
    kept = nms(OPS["nms.in.boxes"], OPS["nms.in.scores"], float(threshold))
    assert kept.tolist() == OPS[f"nms.keep_{threshold}"].tolist()
