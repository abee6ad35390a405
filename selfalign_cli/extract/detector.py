"""Boxes from an object detector of `transformers`: DETR and its kin, RT-DETR, D-FINE, YOLOS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.bert_folder import quiet_transformers
from selfalign_cli.errors import CheckpointError
from selfalign_cli.extract.model_folder import ModelFolder, load_model, one_picture
from selfalign_cli.extract.pictures import DECODED_PIXELS, Pixels

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Detections:
    """What a detector finds in a picture, one row a query.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2, from 0 to 1.
        scores: (n,) probability of the likeliest class.
        labels: (n,) int64 the class.
        states: (n, C) float32 states of the queries.
    """

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]
    states: Tensor


class Detector(Protocol):
    """What finds boxes in pictures.

    Attributes:
        label_names: name of each class.
        pixels_wanted: how many pixels of a picture it uses; None for all that there are.
    """

    label_names: list[str]
    pixels_wanted: int | None

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, in JSON types."""

    def detect(self, pixels: Pixels) -> Detections:
        """Look at a picture, (H, W, 3) RGB, once."""


class TransformersDetector:
    """An object detector of `transformers`.

    Args:
        place: its folder.
        device: where to compute.

    Attributes:
        label_names: name of each class.
    """

    pixels_wanted: int | None = DECODED_PIXELS

    def __init__(self, place: ModelFolder, *, device: torch.device) -> None:
        place.preprocessing()
        self.model = load_model(place, "AutoModelForObjectDetection").to(device)
        self.place, self.device = place, device
        config: Any = self.model.config
        names: dict[int, str] = {int(number): str(name) for number, name in config.id2label.items()}
        self.label_names = [names.get(number, str(number)) for number in range(int(config.num_labels))]
        with quiet_transformers():
            from transformers import AutoImageProcessor

            try:
                self.processor: Any = AutoImageProcessor.from_pretrained(
                    str(place.folder), local_files_only=True, trust_remote_code=False
                )
            except Exception as fault:  # whatever its configuration makes it do
                reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
                raise CheckpointError(f"cannot load the preprocessing of {place.source}: {reason}") from fault

    def identity(self) -> dict[str, Any]:
        """Hashes of the folder's files."""
        return dict(self.place.identity())

    @torch.inference_mode()
    def detect(self, pixels: Pixels) -> Detections:
        """Look at a picture, (H, W, 3) RGB, once.

        Raises:
            UnreadableError: the model cannot take a picture of that shape.
        """
        with one_picture():
            values = self.processor(images=pixels, return_tensors="pt", input_data_format="channels_last")
            output = self.model(pixel_values=values["pixel_values"].to(self.device))
        boxes = output.pred_boxes[0].double().cpu().numpy()
        chances = self._chances(output.logits[0].float())
        scores, labels = (part.cpu().numpy() for part in chances.max(dim=-1))
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1).clip(0, 1)
        states = output.last_hidden_state[0, -len(boxes) :].float()  # YOLOS: patches stand before the queries
        return Detections(corners, scores.astype(np.float64), labels, states)

    def _chances(self, logits: Tensor) -> Tensor:
        """(n, classes): with a column for "no object" they add up to one, else each class stands alone."""
        if logits.shape[-1] == len(self.label_names) + 1:
            return logits.softmax(dim=-1)[:, :-1]
        return logits.sigmoid()
