"""config.yaml of the detector: the keys that inference reads, without regard to case, and what is refused."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfalign_cli.errors import CheckpointError

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Bottlenecks of res2, res3, res4 and res5 by depth."""
LARGEST = 1 << 16
"""No size, count or width of a detector is larger."""


@dataclass(frozen=True)
class FrcnnConfig:
    """What inference reads of config.yaml; each field is one key of it.

    Attributes:
        min_size, max_size: a picture's shorter side is resized to the one, its longer side to the other at most.
        pixel_mean, pixel_std: in B, G, R order.
        max_pool: whether the stem pools as Caffe does, without padding and with the last window cut off by the edge.
        depth, groups, group_width, stem_channels, res2_channels, stride_in_1x1: of the ResNet.
        anchor_sizes, aspect_ratios: pixels; height / width.
        anchor_offset: of anchor centres from a cell's corner, in cells.
        proposal_channels: of the proposal head; -1 for as many as res4 has.
        min_proposal: sides of a proposal must be longer (pixels).
        proposals_before_nms, proposals: how many boxes enter suppression, and leave it at most.
        proposal_nms, proposal_weights: IoU, and divisors of deltas.
        classes, attributes: without background and "none".
        nms_thresholds: of the final suppression, in the order in which they are tried.
        res5_halves: whether res5 halves the pooled region, or is dilated.
        pooled_size: cells a side of a pooled region.
        box_weights: divisors of the final deltas.
        min_detections, max_detections: regions of a picture.
    """

    min_size: int
    max_size: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    max_pool: bool
    depth: int
    groups: int
    group_width: int
    stem_channels: int
    res2_channels: int
    stride_in_1x1: bool
    anchor_sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]
    anchor_offset: float
    proposal_channels: int
    min_proposal: float
    proposals_before_nms: int
    proposals: int
    proposal_nms: float
    proposal_weights: tuple[float, ...]
    classes: int
    attributes: int
    nms_thresholds: tuple[float, ...]
    res5_halves: bool
    pooled_size: int
    box_weights: tuple[float, ...]
    min_detections: int
    max_detections: int


def read_config(path: Path) -> FrcnnConfig:
    """Read config.yaml.

    Raises:
        CheckpointError: the file cannot be read, lacks keys, or asks for what the published code cannot do either;
            all faults are listed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError, yaml.YAMLError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise CheckpointError(f"{path} is not YAML: {reason}") from fault
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected sections of the detector's settings")
    return config_from_dict(content, str(path))


def config_from_dict(content: dict[Any, Any], what: str) -> FrcnnConfig:
    """Check the content of a config.yaml; `what` names it in messages."""
    keys = _Keys(content)
    config = FrcnnConfig(
        min_size=keys.whole("input.min_size_test"),  # F15: 0 would leave a picture as it is
        max_size=keys.whole("input.max_size_test"),
        pixel_mean=keys.numbers("model.pixel_mean", 3),
        pixel_std=keys.numbers("model.pixel_std", 3, above=0),
        max_pool=keys.flag("model.max_pool"),
        depth=keys.one_of("resnets.depth", tuple(BLOCKS)),
        groups=keys.whole("resnets.num_groups"),
        group_width=keys.whole("resnets.width_per_group"),
        stem_channels=keys.whole("resnets.stem_out_channels"),
        res2_channels=keys.whole("resnets.res2_out_channels"),
        stride_in_1x1=keys.flag("resnets.stride_in_1x1"),
        anchor_sizes=keys.only_level("anchor_generator.sizes"),  # F5: boxes of the weights replace them
        aspect_ratios=keys.only_level("anchor_generator.aspect_ratios"),
        anchor_offset=keys.number("anchor_generator.offset"),
        proposal_channels=keys.whole("proposal_generator.hidden_channels", least=-1),
        min_proposal=keys.number("proposal_generator.min_size"),
        proposals_before_nms=keys.whole("rpn.pre_nms_topk_test"),
        proposals=keys.whole("rpn.post_nms_topk_test"),
        proposal_nms=keys.number("rpn.nms_thresh"),
        proposal_weights=keys.numbers("rpn.bbox_reg_weights", 4, above=0),
        classes=keys.whole("roi_heads.num_classes"),
        attributes=keys.whole("roi_box_head.num_attrs"),
        nms_thresholds=keys.number_or_numbers("roi_heads.nms_thresh_test"),
        res5_halves=keys.flag("roi_box_head.res5halve"),
        pooled_size=keys.whole("roi_box_head.pooler_resolution"),
        box_weights=keys.numbers("roi_box_head.bbox_reg_weights", 4, above=0),
        min_detections=keys.whole("min_detections", least=0),
        max_detections=keys.whole("max_detections"),
    )
    _check_supported(keys, config)
    if keys.faults:
        faults = "".join(f"\n  {key}: {fault}" for key, fault in keys.faults)
        raise CheckpointError(f"{what} has {len(keys.faults)} fault{'s' * (len(keys.faults) > 1)}:{faults}")
    return config


def _check_supported(keys: _Keys, config: FrcnnConfig) -> None:
    """Refuse what the published code refuses, or fails at, or silently computes wrongly."""
    keys.expect("size_divisibility", 0, "padding to a multiple is not implemented")  # F3: nothing is padded
    keys.expect("resnets.norm", "BN", "only batch norm is implemented")
    keys.expect("resnets.out_features", ["res4"], "proposals and regions read res4")
    for section in ("rpn", "roi_heads"):
        keys.expect(f"{section}.in_features", ["res4"], "proposals and regions read res4", optional=True)
    keys.expect("roi_box_head.attr", True, "the published code fails without attributes")  # F8
    keys.expect("roi_box_head.cls_agnostic_bbox_reg", False, "the published code then takes wrong boxes")  # F9
    halves, stride, channels = "roi_box_head.res5halve", "resnets.stride_in_1x1", "proposal_generator.hidden_channels"
    if keys.sound(halves, stride) and not config.res5_halves and not config.stride_in_1x1:  # F7
        keys.fault(halves, f"found false, with {stride} false too; expected one of them true (sizes clash in res5)")
    if config.proposal_channels == 0:
        keys.fault(channels, "found 0; expected -1 (as many as res4 has) or a number above 0")
    if keys.sound("min_detections", "max_detections") and config.min_detections > config.max_detections:
        at_most = f"at most max_detections, {config.max_detections}"
        keys.fault("min_detections", f"found {config.min_detections}; expected {at_most}")


class _Keys:
    """Looks keys up without regard to case, checks values, and collects what is wrong instead of stopping there.

    After a fault the value is one that serves no purpose but to go on.
    """

    def __init__(self, content: dict[Any, Any]) -> None:
        self.faults: list[tuple[str, str]] = []
        self._sections = {"": self._fold(content, "")}
        for name, value in self._sections[""].items():
            if isinstance(value, dict) and name:
                self._sections[name] = self._fold(value, f"{name}.")
        for section, values in self._sections.items():
            for name, value in values.items():
                if value is None:
                    self._misfit(f"{section}.{name}" if section else name, None, "a value (null is none)")

    def _fold(self, values: dict[Any, Any], prefix: str) -> dict[str, Any]:
        folded: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key).lower()
            if name in folded:
                self.fault(f"{prefix}{name}", "stands twice, in upper and in lower case (keep one)")
            folded[name] = value
        return folded

    def fault(self, key: str, message: str) -> None:
        self.faults.append((key, message))

    def sound(self, *keys: str) -> bool:
        """Whether no fault of these keys was found so far."""
        return not any(key in keys for key, _ in self.faults)

    def _misfit(self, key: str, found: object, expected: str) -> None:
        self.fault(key, f"found {_spelled(found)}; expected {expected}")

    def _get(self, key: str, expected: str, *, optional: bool = False) -> Any:
        """The value of a key; None where it is missing or null, which is a fault already."""
        section, _, name = key.rpartition(".")
        values = self._sections.get(section, {})
        if name not in values and not optional:
            self.fault(key, f"missing; expected {expected}")
        return values.get(name)

    def whole(self, key: str, *, least: int = 1) -> int:
        expected = f"a whole number from {least} to {LARGEST:,}"
        value = self._get(key, expected)
        if type(value) is int and least <= value <= LARGEST:
            return value
        if value is not None:
            self._misfit(key, value, expected)
        return max(least, 1)

    def one_of(self, key: str, choices: tuple[int, ...]) -> int:
        expected = f"one of {', '.join(map(str, choices))}"
        value = self._get(key, expected)
        if type(value) is int and value in choices:
            return value
        if value is not None:
            self._misfit(key, value, expected)
        return choices[0]

    def flag(self, key: str) -> bool:
        value = self._get(key, "true or false")
        if value is not None and type(value) is not bool:
            self._misfit(key, value, "true or false")
        return value is True

    def number(self, key: str) -> float:
        value = self._get(key, "a number, 0 or above")
        if _is_number(value) and value >= 0:
            return float(value)
        if value is not None:
            self._misfit(key, value, "a number, 0 or above")
        return 0.0

    def numbers(self, key: str, count: int, *, above: float = -math.inf) -> tuple[float, ...]:
        expected = f"{count} numbers{'' if above == -math.inf else f' above {above}'}"
        value = self._get(key, expected)
        if isinstance(value, list) and len(value) == count and all(_is_number(one) and one > above for one in value):
            return tuple(float(one) for one in value)
        if value is not None:
            self._misfit(key, value, expected)
        return (1.0,) * count

    def number_or_numbers(self, key: str) -> tuple[float, ...]:
        expected = "a number, or a list of numbers, 0 or above"
        value = self._get(key, expected)
        several = value if isinstance(value, list) else [value]
        if several and all(_is_number(one) and one >= 0 for one in several):
            return tuple(float(one) for one in several)
        if value is not None:
            self._misfit(key, value, expected)
        return (0.0,)

    def only_level(self, key: str) -> tuple[float, ...]:
        """The one inner list of a list with an entry for each feature map."""
        expected = "one list of numbers above 0, inside a list"
        value = self._get(key, expected)
        inner = value[0] if isinstance(value, list) and len(value) == 1 else None
        if isinstance(inner, list) and inner and all(_is_number(one) and one > 0 for one in inner):
            return tuple(float(one) for one in inner)
        if value is not None:
            self._misfit(key, value, expected)
        return (1.0,)

    def expect(self, key: str, expected: object, reason: str, *, optional: bool = False) -> None:
        """Refuse every value but one."""
        wanted = f"{_spelled(expected)} ({reason})"
        value = self._get(key, wanted, optional=optional)
        if value is not None and (type(value) is not type(expected) or value != expected):
            self._misfit(key, value, wanted)


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is int and abs(value) < 1 << 63


def _spelled(value: object) -> str:
    """A value as YAML spells it, cut short where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return reprlib.repr(value)
