"""A map of patch vectors from a picture: one pass of a vision model, the aspect kept, nothing cropped away."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from selfalign_cli.errors import CheckpointError
from selfalign_cli.extract.model_folder import ModelFolder, load_model, one_picture
from selfalign_cli.extract.pictures import Pixels

STRIDE = 32
"""Pixels of one place in the last map of most convolutional networks."""
PROBED_PATCHES = 16


@dataclass(frozen=True)
class PatchMap:
    """What a vision model makes of a picture.

    Attributes:
        patches: (h, w, C) float32, patch vectors that tile the picture evenly.
        whole: (C,) vector of the whole picture: the model's class vector, or the mean of the patches.
    """

    patches: Tensor
    whole: Tensor


class Backbone(Protocol):
    """What gives a patch map of a picture."""

    def encode(self, pixels: Pixels) -> PatchMap:
        """Look at a picture, (H, W, 3) RGB, once."""

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, in JSON types."""


def target_size(width: int, height: int, *, side: int, patch: int) -> tuple[int, int]:
    """Width and height that a picture is resized to.

    The area is that of a square of `side`, as near as whole patches allow, and the aspect that of the picture.

    Args:
        width, height: of the picture.
        side: side of a square of the same area, in pixels.
        patch: pixels of a patch's side.
    """
    scale = side / math.sqrt(width * height)
    columns, rows = (max(1, round(length * scale / patch)) for length in (width, height))
    return columns * patch, rows * patch


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize with bicubic interpolation and antialiasing: (H, W, 3) -> (height, width, 3)."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


class TransformersBackbone:
    """A vision model of `transformers` with a spatial map: DINOv2 and v3, ViT, CLIP, SigLIP, ResNet, ConvNeXt.

    Args:
        place: its folder.
        side: side of a square with the area that pictures are resized to, in pixels.
        device: where to compute.
    """

    def __init__(self, place: ModelFolder, *, side: int, device: torch.device) -> None:
        model = load_model(place, "AutoModel")
        self.model: nn.Module = getattr(model, "vision_model", model).to(device)
        self.place, self.side, self.device = place, side, device
        takes = inspect.signature(self.model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        self.mean, self.deviation, self.scale = _colours(place)
        self.patch = self._patch()

    def identity(self) -> dict[str, Any]:
        """Hashes of the folder's files, the area, and the resizing."""
        return {**self.place.identity(), "area": self.side, "resize": "bicubic, aspect kept"}

    @torch.inference_mode()
    def encode(self, pixels: Pixels) -> PatchMap:
        """Look at a picture, (H, W, 3) RGB, once.

        Raises:
            UnreadableError: the model cannot take a picture of that shape.
            CheckpointError: the model's output does not tile the picture.
        """
        width, height = target_size(pixels.shape[1], pixels.shape[0], side=self.side, patch=self.patch)
        values = torch.from_numpy(self._normalised(resized(pixels, width, height)))
        with one_picture():
            output = self.model(pixel_values=values.unsqueeze(0).to(self.device), **self.options)
        return self._laid_out(output.last_hidden_state[0].float(), height // self.patch, width // self.patch)

    @torch.inference_mode()
    def _patch(self) -> int:
        """Pixels of a patch's side: what a model of tokens says, or how much smaller a map is than its picture."""
        config: Any = self.model.config
        said = getattr(config, "patch_size", None)
        patch = said if isinstance(said, int) and said > 0 else STRIDE
        side = PROBED_PATCHES * patch
        states = self.model(pixel_values=torch.zeros(1, 3, side, side, device=self.device), **self.options)
        found: Tensor = states.last_hidden_state
        return side // int(found.shape[-1]) if found.dim() == 4 else patch

    def _normalised(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """(H, W, 3) bytes to (3, H, W) numbers as the model was trained on."""
        values = (pixels.astype(np.float32) * self.scale - self.mean) / self.deviation
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)

    def _laid_out(self, states: Tensor, rows: int, columns: int) -> PatchMap:
        """Tokens (T, C), class and register tokens first, or a map (C, h, w)."""
        if states.dim() == 3:
            patches = states.permute(1, 2, 0)
            return PatchMap(patches, patches.mean(dim=(0, 1)))
        extra = len(states) - rows * columns
        if extra < 0:
            raise CheckpointError(
                f"{self.place.source} gives {len(states)} vectors for {rows} x {columns} patches; "
                "expected one for each patch, behind those of the whole picture"
            )
        patches = states[extra:].reshape(rows, columns, -1)
        return PatchMap(patches, states[0] if extra else patches.mean(dim=(0, 1)))


def _colours(place: ModelFolder) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], np.float32]:
    """Mean, deviation and factor of the colours that a model expects."""
    settings = place.preprocessing()
    scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    found = {name: settings.get(name) for name in ("image_mean", "image_std")}
    if not settings.get("do_normalize", True):
        found = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    for name, values in found.items():
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise CheckpointError(f"{place.source}: {name} of its preprocessing is {values!r}; expected three numbers")
    mean, deviation = (np.asarray(values, dtype=np.float32) for values in found.values())
    return mean, deviation, np.float32(scale)
