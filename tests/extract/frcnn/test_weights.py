"""Folders that do not fit, and files that are no weights: refused by name, and nothing of them is run."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.frcnn import config as made_config
from support.frcnn import random_state, write_folder
from torch import Tensor

from selfalign_cli.errors import CheckpointError
from selfalign_cli.extract.frcnn.detector import CELL_ANCHORS, FrcnnDetector

STEM = "backbone.stem.conv1"
CLASSES = "roi_heads.box_predictor.cls_score.weight"


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        FrcnnDetector.load(folder)
    return caught.value


def changed_folder(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    state = random_state(made_config())
    change(state)
    return write_folder(folder, state)


def with_file(folder: Path, write: Callable[[Path], object]) -> Path:
    """A folder whose weights are what `write` makes of pytorch_model.bin."""
    (write_folder(folder) / "model.safetensors").unlink()
    write(folder / "pytorch_model.bin")
    return folder


def test_a_folder_that_is_not_there(tmp_path):
    message = refusal(tmp_path / "none").message
    assert message.endswith("none; expected one with config.yaml and model.safetensors or pytorch_model.bin")


def test_a_folder_that_lacks_files(tmp_path):
    message = refusal(tmp_path).message
    assert message == f"{tmp_path} lacks config.yaml and model.safetensors or pytorch_model.bin"
    (tmp_path / "faster_rcnn_from_caffe_attr.pkl").write_bytes(b"")
    (tmp_path / "config.yaml").write_text("")
    found = refusal(tmp_path)
    assert found.message == f"{tmp_path} lacks model.safetensors or pytorch_model.bin"
    assert found.hint == "faster_rcnn_from_caffe_attr.pkl is a pickle, which can run programs; none is opened"


def test_every_misfit_is_listed(tmp_path):
    def change(state: dict[str, Tensor]) -> None:
        del state[f"{STEM}.norm.bias"]
        state["backbone.res5.0.conv1.weight"] = torch.zeros(1)
        state["foo.norm.num_batches_tracked"] = torch.tensor(1)
        state[CLASSES] = torch.zeros(3, 64)
        state[f"{STEM}.weight"][0] = float("nan")
        state["backbone.res2.0.conv1.norm.running_var"][1] = -1.0

    folder = changed_folder(tmp_path, change)
    assert refusal(folder).message.splitlines() == [
        f"{folder / 'model.safetensors'} does not fit its config.yaml:",
        f"  missing weight {STEM}.norm.bias",
        "  unexpected weight backbone.res5.0.conv1.weight",
        "  unexpected weight foo.norm.num_batches_tracked",
        f"  {STEM}.weight holds NaN or infinity",
        f"  {CLASSES} has shape (3, 64); the model needs (8, 64)",
        "  backbone.res2.0.conv1.norm.running_var holds a variance below 0",
    ]


def test_settings_of_another_detector(tmp_path):
    """17 blocks more, each of 3 convolutions with 6 tensors; and 5 tensors sized by the number of classes."""
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "other", resnets__depth=101, roi_heads__num_classes=9)
    shutil.copy(tmp_path / "one" / "config.yaml", tmp_path / "other" / "config.yaml")
    lines = refusal(tmp_path / "other").message.splitlines()
    assert lines[1] == "  unexpected weight backbone.res4.10.conv1.norm.bias"
    assert len(lines) == 22
    assert lines[-1] == f"  … and {17 * 3 * 6 + 5 - 20} more"


@pytest.mark.parametrize("anchors", [torch.zeros(0, 4), torch.zeros(6), torch.zeros(6, 3), None])
def test_anchors_that_are_none(anchors, tmp_path):
    def change(state: dict[str, Tensor]) -> None:
        del state[CELL_ANCHORS]
        if anchors is not None:
            state[CELL_ANCHORS] = anchors

    assert CELL_ANCHORS in refusal(changed_folder(tmp_path, change)).message


def test_a_name_that_stands_twice(tmp_path):
    def change(state: dict[str, Tensor]) -> None:
        state[f"{STEM}.norm.gamma"] = torch.ones(6)

    assert f"unexpected weight {STEM}.norm.gamma" in refusal(changed_folder(tmp_path, change)).message


def numpy_state() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in random_state(made_config()).items()}


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_arrays_is_refused_by_name(protocol, tmp_path):
    folder = with_file(tmp_path, lambda path: path.write_bytes(pickle.dumps({"model": numpy_state()}, protocol)))
    found = refusal(folder)
    assert "pytorch_model.bin is a pickle of numpy arrays (it asks for numpy" in found.message
    assert found.message.endswith("which can run programs; it was not opened")


class Bomb:
    """Makes a folder when it is unpickled freely."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["pickle", "arrays", "torch", "old torch"])
def test_nothing_of_a_file_is_run(kind, tmp_path):
    mark = tmp_path / "ran"
    bomb = {"model": Bomb(mark), "array": np.zeros(2)} if kind == "arrays" else {"model": Bomb(mark)}

    def write(path: Path) -> None:
        if kind in ("pickle", "arrays"):
            path.write_bytes(pickle.dumps(bomb))
        else:
            torch.save(bomb, path, _use_new_zipfile_serialization=kind == "torch")

    folder = with_file(tmp_path / "folder", write)
    message = refusal(folder).message
    assert "pytorch_model.bin" in message
    assert not mark.exists()
    if kind != "torch":
        pickle.loads(pickle.dumps(bomb))  # the payload is live
        assert mark.is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": torch.zeros(1)}}, "is no file of weights:\n  model is a dict, no tensor"),
        ({1: torch.zeros(1)}, "is no file of weights:\n  a name is 1, no text"),
        ({"a": torch.zeros(1, dtype=torch.int32)}, "a holds torch.strided torch.int32; expected a plain tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a holds torch.sparse_coo torch.float32; expected a plain tensor"),
        ([torch.zeros(1)], "holds a list; expected a plain state dict"),
        ({}, "holds a dict of nothing; expected a plain state dict"),
    ],
)
def test_files_of_something_else(content, message, tmp_path):
    found = refusal(with_file(tmp_path, lambda path: torch.save(content, path)))
    assert message in found.message


def damage(path: Path, position: int) -> None:
    torch.save(random_state(made_config()), path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no weights"),
        lambda path: path.write_bytes(pickle.dumps({"a": 1})),
        lambda path: damage(path, 40_000),
        lambda path: zipfile.ZipFile(path, "w").close(),
    ],
    ids=["empty", "text", "plain pickle", "a flipped bit", "an empty archive"],
)
def test_damaged_files(write, tmp_path):
    assert "pytorch_model.bin" in refusal(with_file(tmp_path, write)).message


def test_damaged_safetensors(tmp_path):
    path = write_folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert refusal(tmp_path).message.startswith(f"{path} cannot be read: ")


def test_safetensors_come_first(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    loaded = FrcnnDetector.load(tmp_path)
    own = dict(loaded.network.named_parameters())
    expected = load_file(tmp_path / "model.safetensors")[CLASSES]
    assert torch.equal(own[CLASSES], expected)
    assert not any(value.requires_grad for value in own.values())
