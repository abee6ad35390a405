"""`inspect` of checkpoints and embedding files: what it shows, the faults it finds, and how it recognises files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.processes import Forks
from support.published_files import published_content, write_checkpoint
from support.world import World, opened

from selfalign_cli.errors import CheckpointError
from selfalign_cli.inspection.files import inspect_any


def changed(source: Path, target: Path, **weights: Any) -> Path:
    """A checkpoint with some weights replaced; None takes one away."""
    content = opened(source)
    content["model"] = {name: value for name, value in {**content["model"], **weights}.items() if value is not None}
    torch.save(content, target)
    return target


def first_weight(path: Path) -> tuple[str, torch.Tensor]:
    return next((name, value) for name, value in opened(path)["model"].items() if value.is_floating_point())


def test_a_checkpoint(world: World, unbroken: Path):
    found, content = inspect_any(unbroken / "best.ckpt"), opened(unbroken / "best.ckpt")
    assert (found["kind"], found["origin"], found["model"], found["compat"]) == (
        *("checkpoint", "trained", "vsrn"),
        "corrected",
    )
    assert (found["epoch"], found["step"], found["scores"]) == (content["epoch"], content["step"], content["scores"])
    assert found["vocabulary"] == len(json.loads(world.vocab.read_text())["words"])
    assert 0 < found["parameters"] <= sum(value.numel() for value in content["model"].values())
    assert (found["finite"], found["resumable"], found["faults"]) == (True, False, [])
    assert inspect_any(unbroken / "last.ckpt")["resumable"] is True


def test_faults_of_a_checkpoint(unbroken: Path, tmp_path: Path):
    name, value = first_weight(unbroken / "best.ckpt")
    broken = inspect_any(
        changed(unbroken / "best.ckpt", tmp_path / "nan", **{name: torch.full_like(value, torch.nan)})
    )
    assert (broken["finite"], broken["faults"]) == (False, [f"{name} holds NaN or infinity"])
    lacking = inspect_any(changed(unbroken / "best.ckpt", tmp_path / "less", **{name: None, "more": value}))
    assert lacking["faults"] == [f"missing weight {name}", "unexpected weight more"]


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_an_exported_file(forks: Forks, unbroken: Path, tmp_path: Path, suffix: str):
    out = tmp_path / f"e{suffix}"
    assert forks.run("export-embeddings", unbroken / "best.ckpt", "--out", out, cwd=tmp_path).code == 0
    found = inspect_any(out)
    assert (found["kind"], found["images"], found["captions"], found["views"]) == ("embeddings", 20, 100, 1)
    assert found["captions_per_image"] == {"min": 5, "mean": 5.0, "max": 5}
    assert (found["width"], found["split"], found["finite"], found["faults"]) == (48, "test", True, [])
    assert found["signature"].startswith("split:test|images:20|")
    shown = forks.run("inspect", out, cwd=tmp_path)
    assert (shown.code, shown.out.splitlines()[0]) == (0, str(out))
    assert "captions per image  5\n" in shown.out


def test_faults_of_an_embedding_file(forks: Forks, tmp_path: Path):
    """NaN in caption 1, and no caption for picture 1."""
    caption = np.eye(3, 2, dtype=np.float32)
    caption[1, 0] = np.nan
    path = tmp_path / "f.npz"
    np.savez(path, image=np.eye(2, dtype=np.float32), caption=caption, image_of_caption=np.array([0, 0, 0]))
    found = inspect_any(path)
    assert (found["finite"], found["split"], found["image_ids"]) == (False, None, False)
    assert found["faults"] == [
        "caption: row 1 holds NaN or infinity",
        "1 pictures have no caption, the first is picture row 1",
    ]
    shown = forks.run("inspect", path, "--json", cwd=tmp_path)
    assert (shown.code, json.loads(shown.out)["faults"]) == (2, found["faults"])
    assert "has 2 faults" in shown.err


def test_files_are_recognised_by_their_content(world: World, unbroken: Path, tmp_path: Path):
    (tmp_path / "x.txt").write_bytes((unbroken / "best.ckpt").read_bytes())
    assert inspect_any(tmp_path / "x.txt")["kind"] == "checkpoint"
    assert inspect_any(world.features, quick=True)["kind"] == "features"
    assert inspect_any(world.vocab)["kind"] == "vocabulary"


def test_a_checkpoint_that_was_cut_short(unbroken: Path, tmp_path: Path):
    (tmp_path / "cut.ckpt").write_bytes((unbroken / "best.ckpt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged"):
        inspect_any(tmp_path / "cut.ckpt")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
def test_a_published_checkpoint(forks: Forks, tmp_path: Path, zipped: bool):
    content = published_content()
    path = write_checkpoint(tmp_path / "model_best.pth.tar", content, zipped=zipped)
    shown = forks.run("inspect", path, "--json", cwd=tmp_path)
    assert shown.code == 0, shown.err
    found = json.loads(shown.out)
    assert (found["kind"], found["model"], found["selfalign"]) == ("published checkpoint", "vsrn", True)
    assert (found["epoch"], found["step"], found["scores"]) == (3, 30, {"r1+r5": 132.5})
    assert found["shapes"]["image.fc.weight"] == list(content["model"][0]["fc.weight"].shape)
    assert found["options"]["data_name"] == "f30k_precomp"
    content["model"][0]["fc.bias"][0] = torch.nan
    write_checkpoint(path, content, zipped=zipped)
    assert forks.run("inspect", path, cwd=tmp_path).code == 2
    assert inspect_any(path)["faults"] == ["image.fc.bias holds NaN or infinity"]


def test_golden_files_of_the_published_programs(golden_dir: Path):
    for path in sorted((golden_dir / "legacy").glob("*/*.pth.tar")):
        found = inspect_any(path)
        assert (found["kind"], found["faults"]) == ("published checkpoint", [])
        assert found["model"] == path.parent.name.split("_")[0]
    vocabularies = [inspect_any(path) for path in sorted((golden_dir / "legacy" / "vocab").iterdir())]
    assert {found["content_hash"] for found in vocabularies} == {vocabularies[0]["content_hash"]}


def test_word_pieces(camera_bert: Path, tmp_path: Path):
    found = inspect_any(camera_bert)
    assert (found["kind"], found["faults"]) == ("word pieces", [])
    assert found["pieces"] == len((camera_bert / "vocab.txt").read_text().splitlines())


def test_files_of_other_kinds_are_refused(forks: Forks, tmp_path: Path):
    (tmp_path / "a.tsv").write_text("1\t2\n")
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    for name, words in (("a.tsv", "is no feature file"), ("a.npy", "is no feature file"), ("folder", "is a folder")):
        forks.run("inspect", name, "--json", cwd=tmp_path).must_refuse(f"{name} {words}", "convert-features")
    forks.run("inspect", "empty", cwd=tmp_path).must_refuse("empty")
    forks.run("inspect", "none", cwd=tmp_path).must_refuse("none")


def test_a_published_checkpoint_is_known_as_one(tmp_path: Path):
    torch.save({"epoch": 1}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError) as fault:
        inspect_any(tmp_path / "old.pth.tar")
    assert "import-checkpoint" in str(fault.value.hint)
