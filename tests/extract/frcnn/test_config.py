"""config.yaml: spelling of keys, and every refusal in words."""

from __future__ import annotations

import pytest
import yaml
from support.frcnn import config, settings

from selfalign_cli.errors import CheckpointError
from selfalign_cli.extract.frcnn.config import config_from_dict, read_config


def refusal(**changed) -> str:
    with pytest.raises(CheckpointError) as caught:
        config(**changed)
    return caught.value.message


def upper(values):
    return {key.upper(): upper(value) for key, value in values.items()} if isinstance(values, dict) else values


def test_what_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings()))
    found = read_config(path)
    assert (found.min_size, found.max_size) == (72, 120)
    assert found.pixel_mean == (102.9801, 115.9465, 122.7717)
    assert found.anchor_sizes == (16, 40)
    assert found.nms_thresholds == (0.2, 0.6)
    assert (found.min_detections, found.max_detections) == (4, 6)


def test_keys_are_read_without_regard_to_case():
    assert config_from_dict(upper(settings()), "config.yaml") == config()


def test_one_threshold_is_a_list_of_one():
    assert config(roi_heads__nms_thresh_test=0.5).nms_thresholds == (0.5,)


def test_what_inference_does_not_read_may_be_anything_or_missing():
    """F1, F12: the order of colours and the threshold of scores are among them."""
    assert config(input__format=..., roi_heads__score_thresh_test="?", rpn__in_features=...) == config()
    assert config(resnets__res5_dilation=2, roi_box_head__pooler_type="ROIAlign") == config()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input__min_size_test": 0}, "input.min_size_test: found 0; expected a whole number from 1 to 65,536"),  # F15
        ({"input__max_size_test": 1e3}, "input.max_size_test: found 1000.0; expected a whole number"),
        ({"model__pixel_mean": [1, 2]}, "model.pixel_mean: found [1, 2]; expected 3 numbers"),
        ({"model__pixel_std": [1, 1, 0]}, "model.pixel_std: found [1, 1, 0]; expected 3 numbers above 0"),
        ({"model__max_pool": 1}, "model.max_pool: found 1; expected true or false"),
        ({"resnets__depth": 34}, "resnets.depth: found 34; expected one of 50, 101, 152"),
        ({"resnets__norm": "GN"}, "resnets.norm: found 'GN'; expected 'BN' (only batch norm is implemented)"),
        ({"resnets__out_features": ["res5"]}, "resnets.out_features: found ['res5']; expected ['res4']"),
        ({"roi_heads__in_features": ["p2"]}, "roi_heads.in_features: found ['p2']; expected ['res4']"),
        ({"size_divisibility": 32}, "size_divisibility: found 32; expected 0 (padding to a multiple is not"),
        ({"anchor_generator__sizes": [[32], [64]]}, "anchor_generator.sizes: found [[32], [64]]; expected one list"),
        ({"anchor_generator__offset": -1}, "anchor_generator.offset: found -1; expected a number, 0 or above"),
        ({"proposal_generator__hidden_channels": 0}, "proposal_generator.hidden_channels: found 0; expected -1"),
        ({"roi_heads__nms_thresh_test": []}, "roi_heads.nms_thresh_test: found []; expected a number, or a list"),
        ({"rpn__nms_thresh": float("nan")}, "rpn.nms_thresh: found nan; expected a number, 0 or above"),
        ({"rpn__bbox_reg_weights": 10**400}, "rpn.bbox_reg_weights: found 1000"),
        ({"rpn__nms_thresh": 10**400}, "00; expected a number, 0 or above"),
        (
            {"roi_box_head__attr": False},
            "roi_box_head.attr: found false; expected true (the published code fails",
        ),  # F8
        ({"roi_box_head__cls_agnostic_bbox_reg": True}, "cls_agnostic_bbox_reg: found true; expected false"),  # F9
        ({"resnets__stride_in_1x1": False}, "roi_box_head.res5halve: found false, with resnets.stride_in_1x1"),  # F7
        ({"min_detections": 7}, "min_detections: found 7; expected at most max_detections, 6"),
        ({"max_detections": None}, "max_detections: found null; expected a value (null is none)"),
        ({"rpn__loss_weight": None}, "rpn.loss_weight: found null; expected a value (null is none)"),
        ({"model__max_pool": ...}, "model.max_pool: missing; expected true or false"),
        ({"roi_box_head": 3}, "roi_box_head.num_attrs: missing; expected a whole number"),
        ({"model__PIXEL_STD": [1, 1, 1]}, "model.pixel_std: stands twice, in upper and in lower case (keep one)"),
    ],
)
def test_what_is_refused(changed, message):
    assert message in refusal(**changed)


def test_all_faults_come_at_once():
    found = refusal(resnets__depth=18, min_detections=..., roi_box_head__attr=False, rpn__nms_thresh="0.7")
    assert found.startswith("config.yaml has 4 faults:\n")
    for key in (
        "resnets.depth: found 18",
        "min_detections: missing",
        "roi_box_head.attr",
        "rpn.nms_thresh: found '0.7'",
    ):
        assert f"\n  {key}" in found


def test_an_empty_file_lacks_every_key():
    with pytest.raises(CheckpointError) as caught:
        config_from_dict({}, "config.yaml")
    assert caught.value.message.count("missing; expected") == 33


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("[1, 2]", "holds a list; expected sections"),
        ("", "holds a NoneType"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
        ("[" * 2000, "is not YAML"),
        ("\udcff", "is not YAML"),
    ],
)
def test_files_that_hold_no_settings(text, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message):
        read_config(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_config(tmp_path)
