"""Bad input of a command: one short message, exit code 2, no file made, no code run."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.processes import TIMEOUT, Done, Forks, cold
from support.world import World, lines_of, opened, write_other_features

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.text.vocab import build_vocabulary


def edited(source: Path, target: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A checkpoint with something changed in it."""
    content = opened(source)
    edit(content)
    torch.save(content, target)
    return target


def train(world: World, forks: Forks, folder: Path, *changes: str) -> Done:
    return forks.run("train", world.recipe, *(part for text in changes for part in ("--set", text)), cwd=folder)


# Features and vocabulary


def test_missing_files(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    train(world, forks, tmp_path, "data.features=no.h5").must_refuse("there is no feature file no.h5")
    train(world, forks, tmp_path, "data.vocab=no.json").must_refuse("there is no vocabulary no.json")
    done = forks.run("eval", unbroken / "best.ckpt", "--data", "no.h5", cwd=tmp_path)
    done.must_refuse("there is no feature file no.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.9, 0.999])
def test_truncated_features(world: World, forks: Forks, unbroken: Path, tmp_path: Path, keep: float) -> None:
    content = world.features.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: int(keep * len(content))])
    train(world, forks, tmp_path, "data.features=cut.h5").must_refuse("cut.h5 is ")
    forks.run("eval", unbroken / "best.ckpt", "--data", "cut.h5", cwd=tmp_path).must_refuse("cut.h5 is ")
    assert not (tmp_path / "run").exists()


def test_features_of_another_width(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    write_other_features(tmp_path / "other.h5", width=5)
    for command in (["eval"], ["export-embeddings", "--out", "e.h5"]):
        done = forks.run(*command, unbroken / "best.ckpt", "--data", "other.h5", cwd=tmp_path)
        width = FeatureFile(world.features).feature_dim
        done.must_refuse(f"other.h5 has features of width 5; the checkpoint was trained on width {width}")


def test_features_that_are_gone(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    checkpoint = edited(
        unbroken / "best.ckpt", tmp_path / "c.ckpt", lambda content: content["data"].update(features="/gone/f.h5")
    )
    done = forks.run("eval", checkpoint, cwd=tmp_path)
    done.must_refuse(
        "/gone/f.h5, which the checkpoint was trained on, does not exist any more", "hint: name a feature"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_nan_in_features(world: World, forks: Forks, tmp_path: Path, workers: int) -> None:
    """The file was changed behind the converter's back; picture 3 is a training picture."""
    shutil.copy(world.features, tmp_path / "nan.h5")
    with h5py.File(tmp_path / "nan.h5", "r+") as file:
        row = int(file["offsets"][3])
        file["features"][row, 0] = np.nan
    done = train(world, forks, tmp_path, "data.features=nan.h5", f"data.workers={workers}")
    done.must_refuse("nan.h5: picture ", "(row 3) holds NaN or infinite features", code=1)


def test_nan_in_features_to_score(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    shutil.copy(world.features, tmp_path / "nan.h5")
    with h5py.File(tmp_path / "nan.h5", "r+") as file:
        file["features"][-1, 0] = np.inf
    done = forks.run("eval", unbroken / "best.ckpt", "--data", "nan.h5", cwd=tmp_path)
    done.must_refuse("holds NaN or infinite features")


def test_splits(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    done = forks.run("eval", unbroken / "best.ckpt", "--split", "nope", cwd=tmp_path)
    done.must_refuse("scenes.h5 has no split 'nope'; it has train, dev, test")
    for key in ("train_split", "dev_split"):
        train(world, forks, tmp_path, f"data.{key}=nope").must_refuse("has no split 'nope'")
    assert not (tmp_path / "run").exists()


def test_an_empty_dev_split(world: World, forks: Forks, tmp_path: Path) -> None:
    shutil.copy(world.features, tmp_path / "empty.h5")
    with h5py.File(tmp_path / "empty.h5", "r+") as file:
        train_end = file["splits/train"][1]
        file["splits/test"][0] = train_end
        file["splits/dev"][...] = [train_end, train_end]
    train(world, forks, tmp_path, "data.features=empty.h5").must_refuse("empty.h5 has split 'dev' at rows")
    assert not (tmp_path / "run").exists()


def test_more_folds_than_pictures(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    forks.run("eval", unbroken / "best.ckpt", "--folds", "1000", cwd=tmp_path).must_refuse("1000")


# Checkpoints


def foreign_files(unbroken: Path, mark: Path) -> dict[str, Callable[[Path], object]]:
    """Makers of files that are no checkpoints; some would write `mark` if they were unpickled."""
    bomb = Bomb(mark)
    return {
        "nothing": lambda path: path.write_bytes(b""),
        "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
        "text": lambda path: path.write_text("a checkpoint"),
        "zip": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
        "pickle": lambda path: path.write_bytes(pickle.dumps({"model": bomb})),
        "published": lambda path: torch.save({"model": [], "opt": bomb}, path, _use_new_zipfile_serialization=False),
        "torch": lambda path: torch.save({"format": "selfalign-checkpoint", "version": 1, "model": bomb}, path),
        "other weights": lambda path: torch.save({"weight": torch.zeros(3)}, path),
        "a list": lambda path: torch.save([1, 2], path),
        "changed": lambda path: path.write_bytes(flipped((unbroken / "best.ckpt").read_bytes())),
    }


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return (open, (str(self.mark), "w"))


def flipped(content: bytes) -> bytes:
    """One bit of the weights is another."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize("kind", foreign_files(Path(), Path()))
def test_files_that_are_no_checkpoints(forks: Forks, unbroken: Path, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "mark"
    foreign_files(unbroken, mark)[kind](tmp_path / "c.ckpt")
    forks.run("eval", "c.ckpt", cwd=tmp_path).must_refuse("error: c.ckpt ", "hint: ")
    forks.run("export-embeddings", "c.ckpt", "--out", "e.h5", cwd=tmp_path).must_refuse("error: c.ckpt ")
    assert os.listdir(tmp_path) == ["c.ckpt"]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_checkpoints(world: World, forks: Forks, unbroken: Path, tmp_path: Path, keep: float) -> None:
    """Neither scored nor resumed, nor overwritten."""
    shutil.copytree(unbroken, tmp_path / "run")
    content = (unbroken / "last.ckpt").read_bytes()
    cut = tmp_path / "run/last.ckpt"
    cut.write_bytes(content[: int(keep * len(content))])
    forks.run("eval", "run/last.ckpt", cwd=tmp_path).must_refuse("run/last.ckpt is damaged")
    forks.run("train", world.recipe, "--resume", cwd=tmp_path).must_refuse("run/last.ckpt is damaged")
    assert cut.stat().st_size == int(keep * len(content))


def shorten(content: dict[str, Any]) -> None:
    content["model"]["text.word_map.weight"] = torch.zeros(3, 3)


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a weight less": (lambda content: content["model"].pop("image.fc.bias"), "missing weight image.fc.bias"),
    "a weight more": (lambda content: content["model"].update(x=torch.zeros(1)), "unexpected weight x"),
    "a shape": (shorten, "text.word_map.weight has shape (3, 3); the model needs (16, 8)"),
    "no tensor": (lambda content: content["model"].update({"image.fc.bias": 3}), "image.fc.bias is not a tensor"),
    "nan": (lambda content: content["model"]["image.fc.bias"].fill_(torch.nan), "image.fc.bias holds NaN"),
    "a word more": (lambda content: content["text"]["words"].append("zebra"), "text.embed.weight has shape"),
    "no vocabulary": (lambda content: content["text"].clear(), "the checkpoint's vocabulary is faulty"),
    "no weights": (lambda content: content.update(model=None), "lacks model, or has something else"),
    "no data": (lambda content: content.update(data={}), "lacks the place of its data"),
    "no step": (lambda content: content.pop("step"), "lacks step"),
    "a recipe": (lambda content: content["recipe"].update(model={"name": "vse"}), "(its recipe) has"),
    "no recipe": (lambda content: content.update(recipe=3), "lacks recipe"),
    "a later version": (lambda content: content.update(version=2), "has checkpoint version 2"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_checkpoints_that_were_changed(forks: Forks, unbroken: Path, tmp_path: Path, edit: str) -> None:
    change, words = EDITS[edit]
    checkpoint = edited(unbroken / "best.ckpt", tmp_path / "c.ckpt", change)
    forks.run("eval", checkpoint, cwd=tmp_path).must_refuse("c.ckpt" if "vocab" not in edit else "", words)


@pytest.mark.parametrize(
    "change",
    [
        lambda training: training.pop("optimizer"),
        lambda training: training.update(rng=3),
        lambda training: training["objective"].clear(),
        lambda training: training["optimizer"]["param_groups"].clear(),
    ],
)
def test_a_training_state_that_was_changed(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    shutil.copytree(unbroken, tmp_path / "run")
    edited(unbroken / "last.ckpt", tmp_path / "run/last.ckpt", lambda content: change(content["training"]))
    done = forks.run("train", world.recipe, "--resume", "--set", "optim.epochs=3", cwd=tmp_path)
    done.must_refuse("run/last.ckpt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.ckpt", "nowhere.ckpt does not exist"),
        ("run", "run is a folder; expected a checkpoint file"),
        ("x" * 300, "File name too long"),
        ("tiny.yaml/x.ckpt", "Not a directory"),
    ],
)
def test_paths(world: World, forks: Forks, unbroken: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(world.recipe, tmp_path)
    forks.run("eval", name, cwd=tmp_path).must_refuse(words)


# Places and devices


def test_a_run_folder_below_a_file(world: World, forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/run"):
        done = train(world, forks, tmp_path, f"run.dir={place}")
        done.must_refuse(f"run.dir {place} cannot be made", "hint: choose another run.dir")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_does_not_replace_a_file_unasked(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    (tmp_path / "e.h5").write_text("mine")
    command = "export-embeddings", unbroken / "best.ckpt", "--out", "e.h5"
    forks.run(*command, cwd=tmp_path).must_refuse("e.h5 exists already", "--overwrite")
    assert (tmp_path / "e.h5").read_text() == "mine"
    assert forks.run(*command, "--overwrite", cwd=tmp_path).code == 0


def test_exports_that_cannot_be_written(forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, words in (("e.txt", "cannot write this kind of file"), ("file/e.h5", "cannot write file/e.h5")):
        forks.run("export-embeddings", unbroken / "best.ckpt", "--out", out, cwd=tmp_path).must_refuse(words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_cuda(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    for command in (["train", world.recipe], ["eval", unbroken / "best.ckpt"]):
        done = forks.run(*command, "--device", "cuda", cwd=tmp_path)
        done.must_refuse("--device cuda: this torch sees no CUDA device", "hint: leave --device out")
    assert not (tmp_path / "run").exists()


def test_the_command_as_a_user_starts_it(unbroken: Path, tmp_path: Path) -> None:
    """No warning of a library, no traceback: nothing but the message."""
    torch.save(
        {"model": [], "opt": Bomb(tmp_path / "mark")}, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=False
    )
    process = cold("eval", "c.pth.tar", cwd=tmp_path)
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (2, "")
    assert [line.split(" ")[0] for line in err.splitlines()] == ["error:", "hint:"]
    assert "selfalign import-checkpoint" in err
    assert not (tmp_path / "mark").exists()


def test_a_model_that_no_memory_holds(world: World, forks: Forks, tmp_path: Path) -> None:
    """Torch says it by an ordinary RuntimeError."""
    little = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))
"""
    done = forks.run("train", world.recipe, "--set", "model.embed_dim=12000", cwd=tmp_path, before=little)
    done.must_refuse("error: out of memory", "hint: a smaller batch needs less", code=1)


def test_a_picture_without_any_feature(world: World, forks: Forks, tmp_path: Path) -> None:
    """All zero, met in the first step, when the bias behind it is zero too: it has no say in the gradient."""
    shutil.copy(world.features, tmp_path / "zero.h5")
    with h5py.File(tmp_path / "zero.h5", "r+") as file:
        file["features"][: int(file["offsets"][20])] = 0
    options = ["data.features=zero.h5", "model.normalize_regions=true", "run.log_every=1"]
    done = train(world, forks, tmp_path, *options)
    assert done.code == 0, done.err
    assert all(line["grad_norm"] < 1e4 for line in lines_of(tmp_path / "run") if line["kind"] == "train")


def test_both_files_are_missing(world: World, forks: Forks, tmp_path: Path) -> None:
    done = train(world, forks, tmp_path, "data.features=no.h5", "data.vocab=no.json")
    done.must_refuse("error: there is no file\n  data.features: no.h5\n  data.vocab: no.json\n")


def test_a_vocabulary_of_other_captions(world: World, forks: Forks, tmp_path: Path) -> None:
    """It may be meant, so it is said and used."""
    build_vocabulary(["a dog runs"], min_count=1).save(tmp_path / "other.json")
    done = train(world, forks, tmp_path, "data.vocab=other.json", "optim.epochs=1")
    assert done.code == 0, done.err
    assert "% of the words of split train are unknown to the vocabulary" in done.err
    assert "unknown to the vocabulary" not in train(world, forks, tmp_path, "run.dir=own", "optim.epochs=1").err


def test_what_is_read_is_not_replaced(world: World, forks: Forks, unbroken: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.ckpt"
    shutil.copy(unbroken / "best.ckpt", checkpoint)
    (tmp_path / "captions.txt").write_text("a dog\n")
    os.link(world.features, tmp_path / "f.h5")
    for command in (
        ["eval", checkpoint, "--details", "c.ckpt", "--overwrite"],
        ["eval", checkpoint, "--details", "f.h5", "--overwrite"],
        ["export-embeddings", checkpoint, "--out", "c.ckpt.h5", "--data", "f.h5", "--overwrite"],
        ["export-embeddings", checkpoint, "--out", "f.h5", "--overwrite"],
        ["build-vocab", "captions.txt", "--out", "captions.txt", "--overwrite"],
    ):
        if "c.ckpt.h5" in command:
            os.link(tmp_path / "f.h5", tmp_path / "c.ckpt.h5")
        forks.run(*command, cwd=tmp_path).must_refuse("would be read and replaced")
    assert checkpoint.read_bytes() == (unbroken / "best.ckpt").read_bytes()
    assert (tmp_path / "captions.txt").read_text() == "a dog\n"


def test_other_data_in_the_place_of_those_trained_on(
    world: World, forks: Forks, unbroken: Path, tmp_path: Path
) -> None:
    checkpoint = edited(
        unbroken / "best.ckpt", tmp_path / "c.ckpt", lambda content: content["data"].update(content_hash="0" * 64)
    )
    done = forks.run("eval", checkpoint, cwd=tmp_path)
    assert (done.code, "scenes.h5 holds other data than the checkpoint was trained on" in done.err) == (0, True)
    named = forks.run("eval", checkpoint, "--data", world.features, cwd=tmp_path)
    assert (named.code, named.err) == (0, "")


def test_inspecting_nothing(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    forks.run("inspect", "empty.h5", cwd=tmp_path).must_refuse("empty.h5 is empty")
    forks.run("inspect", "no.ckpt", cwd=tmp_path).must_refuse("there is no file no.ckpt")


@pytest.mark.parametrize("content", [b"{}", b"hello", b"\x89HDF\r\n\x1a\n"])
def test_importing_what_is_no_checkpoint(forks: Forks, world: World, tmp_path: Path, content: bytes) -> None:
    """Torch would advise to run what is in it."""
    (tmp_path / "c.pth.tar").write_bytes(content)
    done = forks.run("import-checkpoint", "c.pth.tar", "--vocab", world.vocab, "--out", "c.ckpt", cwd=tmp_path)
    done.must_refuse("c.pth.tar is damaged or not a checkpoint\nhint: expected a model_best.pth.tar")
