"""A checkpoint holds what is declared, and can be opened without running a byte of it."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from support.world import differences, opened

from selfalign_cli.assembly.checkpoint import KINDS, Checkpoint, load_checkpoint, save_checkpoint
from selfalign_cli.errors import CheckpointError
from selfalign_cli.published.checkpoint import read_published_checkpoint


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


def test_what_is_compressed_is_refused(unbroken: Path, tmp_path: Path) -> None:
    """Torch compresses nothing; a small file could fill the memory."""
    with zipfile.ZipFile(unbroken / "best.ckpt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "c.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="data.pkl is compressed"):
        load_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match="data.pkl is compressed"):
        read_published_checkpoint(tmp_path / "c.ckpt")
