"""The whole detector: a folder of random weights, a drawn picture, and a second implementation in loops."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import frcnn_plain
from support.frcnn import config, drawn_picture, random_state, settings, write_folder

from selfalign_cli.errors import DataError, RunError
from selfalign_cli.extract.frcnn.detector import CELL_ANCHORS, Detections, FrcnnDetector
from selfalign_cli.extract.frcnn.preprocessing import prepare

VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "all else": {
        "model__max_pool": False,
        "resnets__stride_in_1x1": False,
        "resnets__num_groups": 2,
        "anchor_generator__offset": 0.5,
        "proposal_generator__hidden_channels": -1,
        "proposal_generator__min_size": 2,
        "rpn__bbox_reg_weights": [2.0, 2.0, 1.0, 1.0],
        "roi_heads__nms_thresh_test": 0.5,
        "roi_box_head__res5halve": True,
        "roi_box_head__pooler_resolution": 7,
    },
    "deeper, wider": {"resnets__depth": 101, "resnets__stem_out_channels": 8, "input__max_size_test": 90},
}


def equal(one: Detections, other: Detections) -> bool:
    return all(
        torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Detections)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("frcnn") / "folder")


@pytest.fixture(scope="module")
def detector(folder: Path) -> FrcnnDetector:
    return FrcnnDetector.load(folder)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_equals_loops(variant, seed, tmp_path):
    changed = VARIANTS[variant]
    made = config(**changed)
    state = random_state(made, seed=seed)
    write_folder(tmp_path, state, **changed)
    prepared = prepare(drawn_picture(), made)
    found = FrcnnDetector.load(tmp_path, dtype=torch.float64).detect(prepared)
    scales_yx = prepared.scales_yx.tolist()
    expected = frcnn_plain.detect(prepared.pixels, scales_yx, state, settings(**changed))
    for name, value in expected.items():
        result = getattr(found, name)
        assert result.shape == value.shape, name
        assert torch.allclose(result, value, rtol=0, atol=0 if value.dtype == torch.int64 else 1e-10), name


def test_regions_of_a_drawn_picture(detector):
    picture = drawn_picture()
    found = detector(picture)
    assert 4 <= len(found) <= 6
    assert found.roi_features.shape == (len(found), 64)
    assert found.roi_features.dtype == torch.float32
    assert found.sizes.tolist() == [72, 96]
    assert (found.obj_probs.diff() <= 0).all()
    assert ((found.obj_ids >= 0) & (found.obj_ids < 7)).all()
    assert ((found.attr_ids >= 0) & (found.attr_ids < 5)).all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([120, 90, 120, 90]) * 1.000001).all()
    assert torch.allclose(found.normalized_boxes * torch.tensor([120.0, 90, 120, 90]), found.boxes, atol=1e-4)


def test_the_same_picture_gives_the_same_numbers(detector, folder):
    picture = drawn_picture()
    once = detector(picture)
    detector(drawn_picture(60, 50))
    assert equal(detector(picture), once)
    assert equal(FrcnnDetector.load(folder)(picture), once)
    assert not picture.flags.writeable or np.array_equal(picture, drawn_picture())


def test_grey_and_transparent_pictures(detector):
    """F1."""
    picture = drawn_picture()
    grey = picture[:, :, 1]
    assert equal(detector(grey), detector(np.stack((grey, grey, grey), 2)))
    assert equal(detector(np.dstack((picture, grey))), detector(picture))


def test_a_one_coloured_picture_works(detector):
    found = detector(np.full((50, 60, 3), 200, dtype=np.uint8))
    assert found.boxes.isfinite().all()


def test_a_picture_too_thin_is_refused(detector):
    with pytest.raises(DataError, match="a picture of 1×200 pixels becomes 1×120"):
        detector(np.zeros((200, 1, 3), dtype=np.uint8))


def test_the_smallest_pictures_may_have_few_regions(tmp_path):
    """F11: three pixels, six anchors."""
    write_folder(tmp_path, input__min_size_test=3, input__max_size_test=3)
    found = FrcnnDetector.load(tmp_path)(np.zeros((5, 5, 3), dtype=np.uint8))
    assert found.sizes.tolist() == [3, 3]
    assert len(found) <= 6


def test_no_proposals_no_regions(tmp_path):
    write_folder(tmp_path, proposal_generator__min_size=500)
    found = FrcnnDetector.load(tmp_path)(drawn_picture())
    assert len(found) == 0
    assert found.boxes.shape == found.normalized_boxes.shape == (0, 4)
    assert found.roi_features.shape == (0, 64)
    assert found.attr_ids.shape == found.obj_probs.shape == (0,)


def test_regions_do_not_depend_on_how_many_are_computed_at_once(detector, monkeypatch):
    once = detector(drawn_picture())
    monkeypatch.setattr("selfalign_cli.extract.frcnn.heads.REGIONS_AT_ONCE", 5)
    assert torch.allclose(detector(drawn_picture()).roi_features, once.roi_features, atol=1e-5)


def test_the_anchors_of_the_file_count(folder, tmp_path):
    """F5: the settings say six a cell; the file has two, and heads for them."""
    state = load_file(folder / "model.safetensors")
    state[CELL_ANCHORS] = torch.tensor([[-9.0, -9, 9, 9], [-20.0, -9, 20, 9]])
    for name in ("objectness_logits", "anchor_deltas"):
        for part in ("weight", "bias"):
            key = f"proposal_generator.rpn_head.{name}.{part}"
            state[key] = state[key][: len(state[key]) // 3].clone()
    write_folder(tmp_path, state)
    loaded = FrcnnDetector.load(tmp_path, dtype=torch.float64)
    prepared = prepare(drawn_picture(), loaded.config)
    expected = frcnn_plain.detect(prepared.pixels, prepared.scales_yx.tolist(), state, settings())
    assert torch.allclose(loaded.detect(prepared).boxes, expected["boxes"], atol=1e-10)


def test_weights_that_overflow_stop_the_picture(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    state["backbone.res3.0.conv1.weight"] *= 1e37
    state["backbone.res3.1.conv1.weight"] *= 1e37
    write_folder(tmp_path, state)
    with pytest.raises(RunError, match="NaN or infinity"):
        FrcnnDetector.load(tmp_path)(drawn_picture())


def test_files_of_today_and_of_before_load_alike(folder, tmp_path):
    """`gamma` and `beta`, no counters, half precision of what is exact in it, and torch's old and new file formats."""
    state = load_file(folder / "model.safetensors")
    older = {
        name.replace("norm.weight", "norm.gamma").replace("norm.bias", "norm.beta"): value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(older) < len(state)
    once = FrcnnDetector.load(folder)(drawn_picture())
    for number, (weights, zipped) in enumerate(((state, True), (state, False), (older, True), (older, False))):
        other = write_folder(tmp_path / str(number))
        (other / "model.safetensors").unlink()
        torch.save(weights, other / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert equal(FrcnnDetector.load(other)(drawn_picture()), once)
    save_file({name: value.double() for name, value in older.items()}, other / "model.safetensors")
    assert equal(FrcnnDetector.load(other)(drawn_picture()), once)
