"""Vision models of `transformers` with random weights: each architecture is one line, and owes the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.frcnn import write_folder

from selfalign_cli.data.features.origin import require_same_extractor
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.extract.backbone import TransformersBackbone, target_size
from selfalign_cli.extract.bottom_up import BottomUpDetector, BottomUpExtractor, RegionCount
from selfalign_cli.extract.detector import TransformersDetector
from selfalign_cli.extract.model_folder import one_picture, open_model_folder
from selfalign_cli.extract.pictures import Picture, Pixels, UnreadableError
from selfalign_cli.extract.regions import DetectorExtractor, Extractor, GroupingExtractor
from selfalign_cli.extract.weightless import WeightlessBackbone

CPU = torch.device("cpu")
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**VIT, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PATCHES = {**VIT, "image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SIDE = {"layers": 2, "ffn_dim": 16, "attention_heads": 2}
DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 16,
    "num_queries": 9,
    **{f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in SIDE.items()},
}
RT_DETR = {
    "encoder_hidden_dim": 16,
    "d_model": 16,
    "num_queries": 9,
    "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [16, 16, 16],
    "num_denoising": 0,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def resnet(*out: str) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(embedding_size=8, **STAGES, out_features=list(out))


def rt_resnet() -> Any:
    from transformers import RTDetrResNetConfig

    return RTDetrResNetConfig(
        embedding_size=8, **STAGES, layer_type="basic", out_features=["stage2", "stage3", "stage4"]
    )


def hgnet() -> Any:
    from transformers import HGNetV2Config

    return HGNetV2Config(
        stem_channels=[3, 8, 8],
        hidden_sizes=[8, 16, 16, 16],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )


D_FINE = {**RT_DETR, "encoder_in_channels": [16, 16, 16]}
BACKBONES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "dinov2": ("Dinov2Config", lambda: {**PATCHES, "image_size": 56, "patch_size": 14}),
    "dinov2 with registers": ("Dinov2WithRegistersConfig", lambda: {**PATCHES, "image_size": 56, "patch_size": 14}),
    "dinov3": ("DINOv3ViTConfig", lambda: {**PATCHES, "num_register_tokens": 4}),
    "vit": ("ViTConfig", lambda: PATCHES),
    "clip": ("CLIPConfig", lambda: {"text_config": TEXT, "vision_config": PATCHES, "projection_dim": 8}),
    "clip vision": ("CLIPVisionConfig", lambda: PATCHES),
    "siglip": ("SiglipConfig", lambda: {"text_config": TEXT, "vision_config": PATCHES}),
    "resnet": ("ResNetConfig", lambda: {"embedding_size": 8, **STAGES}),
    "convnext": ("ConvNextConfig", lambda: STAGES),
    "dinov3 convnext": ("DINOv3ConvNextConfig", lambda: STAGES),
}
EDGES = {"shortest_edge": 64, "longest_edge": 96}
SQUARE = {"height": 64, "width": 64}
# Configuration, its settings, the processor that belongs to it, and what that resizes to.
DETECTORS: dict[str, tuple[str, Callable[[], dict[str, Any]], str, dict[str, int]]] = {
    "detr": ("DetrConfig", lambda: {"backbone_config": resnet("stage4"), **DETR}, "DetrImageProcessor", EDGES),
    "conditional detr": (
        "ConditionalDetrConfig",
        lambda: {"backbone_config": resnet("stage4"), **DETR},
        "ConditionalDetrImageProcessor",
        EDGES,
    ),
    "deformable detr": (
        "DeformableDetrConfig",
        lambda: {"backbone_config": resnet("stage2", "stage3", "stage4"), **DETR, "d_model": 32},
        "DeformableDetrImageProcessor",
        EDGES,
    ),
    "yolos": (
        "YolosConfig",
        lambda: {**VIT, "image_size": [64, 64], "num_detection_tokens": 9},
        "YolosImageProcessor",
        EDGES,
    ),
    "rt-detr": (
        "RTDetrConfig",
        lambda: {"backbone_config": rt_resnet(), **RT_DETR},
        "RTDetrImageProcessor",
        SQUARE,
    ),
    "rt-detr v2": (
        "RTDetrV2Config",
        lambda: {"backbone_config": rt_resnet(), **RT_DETR},
        "RTDetrImageProcessor",
        SQUARE,
    ),
    "d-fine": ("DFineConfig", lambda: {"backbone_config": hgnet(), **D_FINE}, "RTDetrImageProcessor", SQUARE),
}
COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "rescale_factor": 1 / 255}


def save(folder: Path, kind: str, settings: dict[str, Any], auto: str, processor: dict[str, Any]) -> Path:
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, kind)(**settings)
    if auto != "AutoModel":
        config.id2label, config.label2id = {0: "cat", 1: "dog", 2: "hat"}, {"cat": 0, "dog": 1, "hat": 2}
    getattr(transformers, auto).from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Model folders by the name of their architecture, each made once."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        place = root / name.replace(" ", "_")
        if not place.exists() and name == BOTTOM_UP:
            write_folder(place)
        elif not place.exists() and name in BACKBONES:
            kind, settings = BACKBONES[name]
            save(place, kind, settings(), "AutoModel", COLOURS)
        elif not place.exists():
            kind, settings, processor, size = DETECTORS[name]
            described = {**COLOURS, "image_processor_type": processor, "size": size}
            save(place, kind, settings(), "AutoModelForObjectDetection", described)
        return place

    return folder


def pixels(height: int = 40, width: int = 60, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def backbone(folder: Path, side: int = 64) -> TransformersBackbone:
    return TransformersBackbone(open_model_folder(str(folder)), side=side, device=CPU)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_map_tiles_the_picture(folders: Callable[[str], Path], name: str) -> None:
    model = backbone(folders(name), side=128)
    found = model.encode(pixels())
    width, height = target_size(60, 40, side=128, patch=model.patch)
    assert found.patches.shape[:2] == (height // model.patch, width // model.patch)
    assert found.whole.shape == (found.patches.shape[2],)
    assert found.patches.isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_place_of_the_map_sees_its_place_of_the_picture(folders: Callable[[str], Path], name: str) -> None:
    """Change the lower right corner of the picture: its patch moves most."""
    model = backbone(folders(name), side=256 if model_is_coarse(name) else 64)
    plain = np.full((96, 96, 3), 128, dtype=np.uint8)
    changed = plain.copy()
    changed[72:, 72:] = 255
    difference = (model.encode(changed).patches - model.encode(plain).patches).norm(dim=2)
    row, column = divmod(int(difference.argmax()), difference.shape[1])
    assert row >= difference.shape[0] // 2
    assert column >= difference.shape[1] // 2


def model_is_coarse(name: str) -> bool:
    return name in ("resnet", "convnext", "dinov3 convnext")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 100), (224, 224)), ((400, 100), (448, 112)), ((1, 1), (224, 224)), ((2000, 10), (3164, 14))],
)
def test_target_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Area 224², patches of 14. 2,000 x 10: 224 · √200 = 3,167.8 -> 226 patches, 15.8 -> one patch."""
    assert target_size(*size, side=224, patch=14) == expected


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_gives_boxes_inside_the_picture(folders: Callable[[str], Path], name: str) -> None:
    model = TransformersDetector(open_model_folder(str(folders(name))), device=CPU)
    found = model.detect(pixels())
    assert found.boxes.shape == (9, 4)
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert set(found.labels.tolist()) <= {0, 1, 2}
    assert found.states.shape == (9, model.model.config.hidden_size)
    assert model.label_names == ["cat", "dog", "hat"]


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_and_scores_are_those_of_transformers(folders: Callable[[str], Path], name: str) -> None:
    """Its own post-processing, which knows each architecture, is the oracle: best class and box of every query."""
    place = open_model_folder(str(folders(name)))
    model = TransformersDetector(place, device=CPU)
    found = model.detect(pixels())
    values = model.processor(images=pixels(), return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        output = model.model(pixel_values=values["pixel_values"])
        theirs = model.processor.post_process_object_detection(
            output, threshold=-1.0, target_sizes=torch.tensor([[1, 1]])
        )[0]
    best = int(found.scores.argmax())
    top = int(theirs["scores"].argmax())
    assert found.scores[best] == pytest.approx(theirs["scores"][top].item(), abs=1e-6)
    assert found.labels[best] == theirs["labels"][top]
    np.testing.assert_allclose(found.boxes[best], theirs["boxes"][top].clip(0, 1), atol=1e-5)


def extractors(folders: Callable[[str], Path], name: str) -> Extractor:
    if name == "weightless":
        return GroupingExtractor(WeightlessBackbone(side=64), count=5)
    if name.startswith(BOTTOM_UP):
        under = backbone(folders("dinov2")) if "+" in name else None
        folder = folders(BOTTOM_UP)
        detector = BottomUpDetector(str(folder), folder, count=RegionCount(5, 5), device=CPU)
        return BottomUpExtractor(detector) if under is None else DetectorExtractor(detector, under, count=5)
    if name in BACKBONES:
        return GroupingExtractor(backbone(folders(name)), count=5)
    detector = TransformersDetector(open_model_folder(str(folders(name.removesuffix(" + dinov2")))), device=CPU)
    return DetectorExtractor(detector, backbone(folders("dinov2")) if "+" in name else None, count=5)


BOTTOM_UP = "bottom-up"
"""Alone it keeps the published layout: see `test_bottom_up.py`."""
PAIRS = [f"{name} + dinov2" for name in (*DETECTORS, BOTTOM_UP)]
EXTRACTORS = ["weightless", *BACKBONES, *DETECTORS, *PAIRS]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_regions_of_a_picture(folders: Callable[[str], Path], name: str) -> None:
    found = extractors(folders, name).regions(Picture(pixels(), (600, 400)))
    count = len(found.features)
    assert 2 <= count <= 6
    assert found.boxes[-1].tolist() == [0, 0, 600, 400]
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= [600, 400]).all()
    assert (np.diff(found.scores[:-1]) >= 0).all()
    assert found.labels[-1] == -1
    assert np.isfinite(found.features).all()
    assert (found.features.dtype, found.boxes.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_same_picture_gives_the_same_bytes(folders: Callable[[str], Path], name: str) -> None:
    extractor = extractors(folders, name)
    picture = Picture(pixels(), (60, 40))
    first = extractor.regions(picture)
    extractor.regions(Picture(pixels(30, 70, 1), (70, 30)))
    again = extractor.regions(picture)
    assert first.features.tobytes() == again.features.tobytes()
    assert first.boxes.tobytes() == again.boxes.tobytes()


@pytest.mark.parametrize("name", ["weightless", "dinov2", "detr", "detr + dinov2"])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_tiny_pictures_have_two_regions_at_least(
    folders: Callable[[str], Path], name: str, size: tuple[int, int]
) -> None:
    found = extractors(folders, name).regions(Picture(pixels(*size), (size[1], size[0])))
    assert len(found.features) >= 2
    assert ((found.boxes[:, 2:] - found.boxes[:, :2]) > 0).all()


def test_a_picture_that_a_model_cannot_take_is_named(folders: Callable[[str], Path]) -> None:
    """A square of 30 pixels leaves one place in the last map of Deformable DETR, too few to normalise."""
    with pytest.raises(UnreadableError, match="the model cannot look at it: Expected more than 1 value per channel"):
        extractors(folders, "deformable detr").regions(Picture(pixels(30, 30), (30, 30)))


@pytest.mark.parametrize("fault", ["CUDA error: illegal memory access", "DefaultCPUAllocator: can't allocate memory"])
def test_faults_of_the_machine_end_the_run(fault: str) -> None:
    with pytest.raises(RuntimeError, match=fault[:10]), one_picture():
        raise RuntimeError(fault)


# Identity and faults


def test_identities_differ_by_what_decides_the_numbers(folders: Callable[[str], Path]) -> None:
    found = [
        GroupingExtractor(backbone(folders("dinov2")), count=5).identity(),
        GroupingExtractor(backbone(folders("dinov2")), count=6).identity(),
        GroupingExtractor(backbone(folders("dinov2"), side=96), count=5).identity(),
        GroupingExtractor(backbone(folders("vit")), count=5).identity(),
        extractors(folders, "detr").identity(),
        extractors(folders, "detr + dinov2").identity(),
    ]
    assert len({json.dumps(identity) for identity in found}) == len(found)


def changes(identity: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every identity that differs in one setting: another value, and none at all."""
    for key, value in identity.items():
        if isinstance(value, dict):
            yield from ((at, {**identity, key: inner}) for at, inner in changes(value, (*path, key)))
        else:
            yield (*path, key), {**identity, key: f"{value}?"}
            yield (*path, key), {name: other for name, other in identity.items() if name != key}


@pytest.mark.parametrize("name", ["weightless", "vit", "detr", "detr + dinov2", BOTTOM_UP, "bottom-up + dinov2"])
def test_any_other_setting_is_another_extractor(folders: Callable[[str], Path], name: str) -> None:
    """All settings of the identity, whatever they are; names of models alone do not count."""
    known = extractors(folders, name).identity()
    require_same_extractor(json.loads(json.dumps(known)), known, what="new.h5", others="best.ckpt")
    seen = set()
    for path, other in changes(known):
        seen.add(path[-1])
        if path[1:] == ("name",):
            require_same_extractor(other, known, what="new.h5", others="best.ckpt")
            continue
        with pytest.raises(DataError) as refused:
            require_same_extractor(other, known, what="new.h5", others="best.ckpt")
        message = refused.value.message
        assert all(part in message for part in ("new.h5", "best.ckpt", f"\n  {' '.join(path)}: ")), message
    assert {"kind", "regions", "order", "pooling", "version"} <= seen


@pytest.mark.parametrize("changed", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_any_changed_file_is_another_identity(folders: Callable[[str], Path], tmp_path: Path, changed: str) -> None:
    import shutil

    folder = shutil.copytree(folders("vit"), tmp_path / "vit")
    before = open_model_folder(str(folder)).identity()
    with (folder / changed).open("ab") as file:
        file.write(b" ")
    assert open_model_folder(str(folder)).identity() != before


def test_folders_at_fault(folders: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    with pytest.raises(DataError, match="does not exist; expected the folder of a vision model"):
        open_model_folder(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_model_folder(str(tmp_path))
    folder = shutil.copytree(folders("vit"), tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        backbone(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot load a vision model"):
        backbone(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_model_folder(str(folder))


def test_missing_weights_are_named(folders: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders("vit"), tmp_path / "vit")
    state = load_file(folder / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing weight layernorm\.weight"):
        backbone(folder)
