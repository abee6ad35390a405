"""A checkpoint holds what is declared, and can be opened by anybody without running a byte of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from support.world import differences, opened

from selfalign_cli.engine.checkpoint import KINDS, Checkpoint, load_checkpoint, save_checkpoint


def test_every_field_has_a_kind() -> None:
    assert {field.name for field in fields(Checkpoint)} == set(KINDS)


def test_what_is_saved_is_read_again(unbroken: Path, tmp_path: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = load_checkpoint(unbroken / name)
        save_checkpoint(tmp_path / name, checkpoint)
        assert not differences(opened(tmp_path / name), opened(unbroken / name))
        assert load_checkpoint(tmp_path / name).recipe == checkpoint.recipe


def test_a_checkpoint_is_tensors_and_plain_values(unbroken: Path) -> None:
    def kinds(tree: object) -> set[type]:
        if isinstance(tree, dict):
            return {dict} | {kind for part in (*tree, *tree.values()) for kind in kinds(part)}
        if isinstance(tree, (list, tuple)):
            return {kind for part in tree for kind in kinds(part)}
        return {type(tree)}

    plain = {dict, str, int, float, bool, type(None), torch.Tensor}
    assert kinds(dict(opened(unbroken / "last.ckpt"))) - plain <= {type(opened(unbroken / "last.ckpt")["model"])}
