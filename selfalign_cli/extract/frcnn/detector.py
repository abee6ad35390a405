"""The bottom-up-attention detector: a folder of config.yaml and weights, then pictures one by one.

detector = FrcnnDetector.load(Path("frcnn-vg-finetuned"))
found = detector(picture)  # uint8 (height, width, 3), R, G, B
found.boxes, found.roi_features
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from selfalign_cli.errors import CheckpointError
from selfalign_cli.extract.frcnn.backbone import Backbone, NormedConv
from selfalign_cli.extract.frcnn.config import FrcnnConfig, read_config
from selfalign_cli.extract.frcnn.heads import Regions, RoiHeads
from selfalign_cli.extract.frcnn.preprocessing import Array, Prepared, prepare, rgb_array
from selfalign_cli.extract.frcnn.proposals import ProposalGenerator, Proposals, cell_anchors
from selfalign_cli.extract.frcnn.selection import candidates, select
from selfalign_cli.extract.frcnn.weights import FILES, check_weights, read_weights, weights_file

CONFIG = "config.yaml"
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


@dataclass(frozen=True, eq=False)
class Detections:
    """The regions of one picture, by descending probability of their class; tensors on the CPU.

    Attributes:
        boxes: (n, 4) in pixels of the raw picture; not clipped after scaling.
        normalized_boxes: (n, 4), `boxes` as parts of the raw width and height.
        obj_ids, obj_probs: (n,) class and its probability. F16: classes count from 0, without background.
        attr_ids, attr_probs: (n,) attribute and its probability among attributes ("none" left out).
        roi_features: (n, F) mean of res5 over the proposal, F = 2,048 for the published weights. F14: boxes are what
            regression made of the proposals.
        sizes: (2,) int64, height and width of the resized picture.
    """

    boxes: Tensor
    normalized_boxes: Tensor
    obj_ids: Tensor
    obj_probs: Tensor
    attr_ids: Tensor
    attr_probs: Tensor
    roi_features: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.boxes)


class Network(nn.Module):
    """All that has weights, under the names of published files.

    Args:
        config: the detector's.
        anchors: of a cell, how many; None for as many as `config` says. F5: other boxes come with the weights.
    """

    def __init__(self, config: FrcnnConfig, anchors: int | None = None) -> None:
        super().__init__()
        cell = cell_anchors(config.anchor_sizes, config.aspect_ratios)
        self.backbone = Backbone(config)
        self.proposal_generator = ProposalGenerator(config, cell if anchors is None else cell.new_zeros(anchors, 4))
        self.roi_heads = RoiHeads(config)

    def forward(self, pixels: Tensor) -> tuple[Proposals, Regions]:
        """Find boxes in a picture (1, 3, H, W) and describe what they hold."""
        features = self.backbone(pixels)
        proposals: Proposals = self.proposal_generator(features, *pixels.shape[2:])
        return proposals, self.roi_heads(features, proposals.boxes)


class FrcnnDetector:
    """Finds and describes the regions of pictures, one picture at a time (F3: so nothing is padded).

    Args:
        config: settings.
        network: with weights, which are not changed.
    """

    def __init__(self, config: FrcnnConfig, network: Network) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(
        cls, folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> FrcnnDetector:
        """Read config.yaml and model.safetensors or pytorch_model.bin.

        Args:
            folder: holds them.
            device: where to compute.
            dtype: in what precision.

        Raises:
            CheckpointError: a file is missing or damaged, the settings cannot be, or the weights do not fit them; all
                faults of a file are listed.
        """
        config, weights = folder / CONFIG, weights_file(folder)
        if weights is None or not config.is_file():
            raise _incomplete(folder)
        settings, state = read_config(config), read_weights(weights)
        cell = state.get(CELL_ANCHORS)
        with torch.device("meta"):  # names and shapes; the values are those of the file
            network = Network(settings, None if cell is None or cell.dim() != 2 else len(cell) or None)
        check_weights(network.state_dict(), state, str(weights))
        network.load_state_dict({name: _as(value, dtype).to(device) for name, value in state.items()}, assign=True)
        for module in network.modules():
            if isinstance(module, NormedConv):
                module.fold()
        return cls(settings, network)

    def __call__(self, picture: Array | Image.Image) -> Detections:
        """Find the regions of a picture.

        Args:
            picture: uint8 (height, width, 3) in R, G, B order; for others see `rgb_array`.

        Raises:
            DataError: it is no picture, or too thin for the detector.
            RunError: the weights make numbers that are not finite.
        """
        return self.detect(prepare(rgb_array(picture), self.config))

    @torch.inference_mode()
    def detect(self, prepared: Prepared) -> Detections:
        """Find the regions of a prepared picture."""
        config = self.config
        height, width = prepared.pixels.shape[2:]
        weight = self.network.roi_heads.box_predictor.cls_score.weight
        proposals, regions = self.network(prepared.pixels.to(weight))
        found = candidates(proposals.boxes, regions, config, height, width)
        kept = select(found.boxes, found.scores, config)
        # F8: "none" is left out before the softmax.
        attr_probs, attr_ids = regions.attribute_logits[kept, : config.attributes].softmax(dim=1).max(dim=1)
        scale_y, scale_x = prepared.scales_yx.to(weight)
        boxes = found.boxes[kept] * torch.stack((scale_x, scale_y, scale_x, scale_y))
        # F13: right for one picture, as here. Width and height are the raw ones up to rounding.
        raw_height, raw_width = (prepared.sizes * prepared.scales_yx).to(weight)
        return Detections(
            boxes=boxes.cpu(),
            normalized_boxes=(boxes / torch.stack((raw_width, raw_height, raw_width, raw_height))).cpu(),
            obj_ids=found.classes[kept].cpu(),
            obj_probs=found.scores[kept].cpu(),
            attr_ids=attr_ids.cpu(),
            attr_probs=attr_probs.cpu(),
            roi_features=regions.features[kept].cpu(),
            sizes=prepared.sizes,
        )


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _incomplete(folder: Path) -> CheckpointError:
    """The error for a folder without settings or weights."""
    if not folder.is_dir():
        return CheckpointError(f"there is no folder {folder}; expected one with {CONFIG} and {' or '.join(FILES)}")
    lacking = [CONFIG] * (not (folder / CONFIG).is_file()) + [" or ".join(FILES)] * (weights_file(folder) is None)
    pickles = sorted(path.name for path in folder.glob("*.pkl"))
    hint = f"{pickles[0]} is a pickle, which can run programs; none is opened" if pickles else None
    return CheckpointError(f"{folder} lacks {' and '.join(lacking)}", hint)
