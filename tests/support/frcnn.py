"""Small detectors with random weights: their settings, their networks, their folders."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from selfalign_cli.extract.frcnn.config import FrcnnConfig, config_from_dict
from selfalign_cli.extract.frcnn.detector import Network

SETTINGS: dict[str, Any] = {
    "input": {"min_size_test": 72, "max_size_test": 120, "format": "BGR"},
    "size_divisibility": 0,
    "min_detections": 4,
    "max_detections": 6,
    "model": {"pixel_mean": [102.9801, 115.9465, 122.7717], "pixel_std": [1.0, 1.0, 1.0], "max_pool": True},
    "resnets": {
        "depth": 50,
        "norm": "BN",
        "num_groups": 1,
        "width_per_group": 3,
        "stem_out_channels": 6,
        "res2_out_channels": 8,
        "stride_in_1x1": True,
        "out_features": ["res4"],
    },
    "anchor_generator": {"sizes": [[16, 40]], "aspect_ratios": [[0.5, 1.0, 2.0]], "offset": 0.0},
    "proposal_generator": {"hidden_channels": 10, "min_size": 0},
    "rpn": {
        "in_features": ["res4"],
        "pre_nms_topk_test": 60,
        "post_nms_topk_test": 12,
        "nms_thresh": 0.7,
        "bbox_reg_weights": [1.0, 1.0, 1.0, 1.0],
    },
    "roi_heads": {"in_features": ["res4"], "num_classes": 7, "nms_thresh_test": [0.2, 0.6], "score_thresh_test": 0.2},
    "roi_box_head": {
        "attr": True,
        "num_attrs": 5,
        "res5halve": False,
        "cls_agnostic_bbox_reg": False,
        "pooler_resolution": 14,
        "bbox_reg_weights": [10.0, 10.0, 5.0, 5.0],
    },
}
"""In the published form, with small sizes."""


FACTORS = (("stem", 0.02), ("conv3", 0.5), ("anchor_deltas", 0.3), ("cls_embedding", 4.0), ("bbox_pred", 2.0))
"""Of random weights, by a part of their name: pixels are large, sums grow, boxes should stay in the picture."""


def settings(**changed: Any) -> dict[str, Any]:
    """Settings with some values changed, e.g. `resnets__depth=101`; `...` takes a key out."""
    content = copy.deepcopy(SETTINGS)
    for path, value in changed.items():
        section, _, key = path.rpartition("__")
        values = content[section] if section else content
        if value is ...:
            del values[key]
        else:
            values[key] = value
    return content


def config(**changed: Any) -> FrcnnConfig:
    return config_from_dict(settings(**changed), "config.yaml")


def random_state(made_for: FrcnnConfig, *, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep numbers of all layers near 1, and make boxes and classes differ between places."""
    generator = torch.Generator().manual_seed(seed)
    network = Network(made_for)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        part = name.rpartition(".")[2]
        if name.endswith("cell_anchors.0") or not value.is_floating_point():
            state[name] = value.clone()
        elif part == "running_var" or name.endswith("norm.weight"):
            state[name] = 0.6 + 0.3 * torch.rand(value.shape, generator=generator)
        elif value.dim() == 1:
            state[name] = 0.2 * noise
        else:
            factor = next((factor for mark, factor in FACTORS if mark in name), 1.6)
            state[name] = noise * factor / value[0].numel() ** 0.5
    return state


def write_folder(folder: Path, state: dict[str, Tensor] | None = None, **changed: Any) -> Path:
    """Write a detector's folder with model.safetensors; random weights unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    content = settings(**changed)
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    state = random_state(config_from_dict(content, "config.yaml")) if state is None else state
    save_file(state, folder / "model.safetensors")
    return folder


def drawn_picture(height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """A red disk and a blue bar on a noisy ground; uint8 (height, width, 3), R, G, B."""
    picture = np.random.default_rng(0).integers(90, 140, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    picture[(y - 0.4 * height) ** 2 + (x - 0.3 * width) ** 2 < (0.2 * height) ** 2] = (220, 30, 20)
    picture[int(0.6 * height) : int(0.8 * height), int(0.5 * width) : int(0.9 * width)] = (20, 40, 210)
    return picture
